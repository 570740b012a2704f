/**
 * eiface (ng_eiface(4)): an Ethernet interface of the host that the graph owns: a tap. What the host sends through
 * it comes out of the hook `ether`, what comes to the hook the host receives. The interface is called ngethN, and
 * so is the node; it goes with the node, which stays when its hook goes.
 */
import { counterIndices } from '../../engine/counters.js';
import { EVF_READ, type MeventHandle } from '../../engine/mevent.js';
import { NetbeError } from '../../errors.js';
import type { Mapping } from '../../memory/window.js';
import { type Fd, readAt, writeAt } from '../../sys/fd.js';
import { E } from '../../sys/libc.js';
import { getLink, setLink } from '../../sys/netlink.js';
import { IFF_NO_PI, IFF_TAP, openTun, tunAttach, tunInterface } from '../../sys/tun.js';
import { MAX_FRAME_LEN } from '../../wire/ethernet.js';
import { NG_BURST_FRAMES, type NgBurst } from '../burst.js';
import type { Errno } from '../errno.js';
import type { NgHook } from '../hook.js';
import type { NgMessage } from '../message.js';
import { type NgCommand, type NgMethods, type NgNode, type NgResult, type NgType, NODE_COUNTERS } from '../node.js';
import { pack, unpack } from '../parse/parse-type.js';
import { enaddr, string } from '../parse/scalars.js';

const NGM_EIFACE_COOKIE = 948105892;
const GET_IFNAME = 1;
const GET_IFADDRS = 2;
const SET = 3;

const cookie = NGM_EIFACE_COOKIE;
const cmdlist: readonly NgCommand[] = [
  { cookie, cmd: GET_IFNAME, name: 'getifname', respType: string },
  { cookie, cmd: GET_IFADDRS, name: 'getifaddrs' },
  { cookie, cmd: SET, name: 'set', mesgType: enaddr },
];

const counters = ['tx_frames', 'tx_drop_down', 'tx_drop_full'] as const;
const C = counterIndices(counters, NODE_COUNTERS);

const SLOT_BYTES = Math.ceil(MAX_FRAME_LEN / 64) * 64;
/** frames read before other descriptors have their turn */
const READS_PER_WAKE = NG_BURST_FRAMES;

class Eiface implements NgMethods {
  readonly #node: NgNode;
  readonly #fd: Fd;
  readonly #memory: Mapping;
  readonly #burst: NgBurst;
  readonly #readable: MeventHandle;
  readonly ifname: string;
  #hook: NgHook | undefined;
  readonly #receive = (): void => this.#read();

  /** Throws NetbeError where taps are not to be had. */
  constructor(node: NgNode) {
    this.#node = node;
    const { runtime, buffers } = node.engine;
    this.#fd = openTun();
    try {
      this.ifname = attach(this.#fd);
      this.#memory = runtime.windows.mapAnonymous(NG_BURST_FRAMES * SLOT_BYTES, this.ifname);
    } catch (error) {
      this.#fd.close();
      throw error;
    }
    this.#burst = buffers.takeBurst();
    this.#readable = runtime.mevent.add(this.#fd.number, EVF_READ, () => node.engine.turn(this.#receive));
  }

  newhook(hook: NgHook, name: string): Errno | undefined {
    if (name !== 'ether') return this.#node.engine.fail('EINVAL', `an eiface has the hook ether, not "${name}"`);
    this.#hook = hook;
    return undefined;
  }

  disconnect(): void {
    this.#hook = undefined;
  }

  close(): void {
    this.#readable.delete();
    this.#node.engine.buffers.giveBurst(this.#burst);
    this.#memory.close();
    this.#fd.close();
  }

  // ---- data ----

  rcvdata(_hook: NgHook, burst: NgBurst): void {
    const { values, engine } = this.#node;
    const { windows } = engine.runtime.windows;
    for (let i = 0; i < burst.count; i++) {
      const n = writeAt(this.#fd.number, windows[burst.win[i]!]!.addr + burst.off[i]!, burst.len[i]!);
      if (n > 0) values[C.tx_frames]!++;
      else values[n === -E.EAGAIN || n === -E.ENOBUFS ? C.tx_drop_full : C.tx_drop_down]!++;
    }
  }

  #read(): void {
    const { addr, off, window } = this.#memory;
    const burst = this.#burst;
    for (let i = 0; i < READS_PER_WAKE; i++) {
      const n = readAt(this.#fd.number, addr + i * SLOT_BYTES, SLOT_BYTES);
      if (n > 0) burst.push(window.index, off + i * SLOT_BYTES, n);
      else {
        // somebody has deleted the interface: its descriptor is of no use any more
        if (n !== -E.EAGAIN && n !== -E.EINTR) this.#readable.disable();
        break;
      }
    }
    if (burst.count > 0 && this.#hook !== undefined) this.#hook.send(burst);
    burst.count = 0;
  }

  // ---- messages ----

  rcvmsg(msg: NgMessage): NgResult {
    if (msg.typecookie !== NGM_EIFACE_COOKIE) return 'EINVAL';
    switch (msg.cmd) {
      case GET_IFNAME: {
        const name = tunInterface(this.#fd.number)?.name;
        return name === undefined ? 'ENXIO' : pack(string, name);
      }
      case SET: {
        const mac = unpack(enaddr, msg.data);
        return mac === undefined ? 'EINVAL' : this.#setMac(mac);
      }
      case GET_IFADDRS:
        return this.#node.engine.fail('EOPNOTSUPP', 'addresses are not told here: ip addr show knows them');
      default:
        return 'EINVAL';
    }
  }

  #setMac(text: string): NgResult {
    const name = tunInterface(this.#fd.number)?.name;
    const link = name === undefined ? undefined : getLink(name);
    if (link === undefined) return this.#node.engine.fail('ENXIO', `interface ${this.ifname} is not here any more`);
    const mac = Uint8Array.from(text.split(':'), (octet) => Number.parseInt(octet, 16));
    setLink(link.index, { mac }, `${link.name}: ${text}`);
    return undefined;
  }
}

function attach(fd: Fd): string {
  try {
    return tunAttach(fd.number, 'ngeth%d', IFF_TAP | IFF_NO_PI);
  } catch (error) {
    if (!(error instanceof NetbeError) || error.code !== 'EPERM') throw error;
    throw new NetbeError('an eiface is a new interface of the host, and making one needs CAP_NET_ADMIN', {
      code: 'EPERM',
      kind: 'environment',
      remedy: 'Run the fabric as root, and declare the node in its graph, or use --no-sandbox',
      cause: error,
    });
  }
}

export const eifaceType: NgType = {
  name: 'eiface',
  cmdlist,
  counters,
  create: (node) => {
    const eiface = new Eiface(node);
    // a name that is taken is no reason not to be
    node.engine.nameNode(node, eiface.ifname);
    return eiface;
  },
};
