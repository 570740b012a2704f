/** What the fabric does for a client of its port socket: the requests of NIOCCTRL, on this fabric's netmap. */
import type { Runtime } from '../../engine/runtime.js';
import { NetbeError, usageError } from '../../errors.js';
import type { NetmapAdapter } from '../adapter.js';
import { type Netmap, netmapOf } from '../netmap.js';
import type { NetmapPort } from '../port.js';
import { valeSwitches } from '../vale/switches.js';
import { bodyFlag, bodyNumber, type PortRequest, type RequestType } from './messages.js';
import { RemotePort } from './remote-port.js';
import type { Answer, PortService } from './session.js';

const MAX_EXTRA_BUFS = 1 << 20;

type Body = PortRequest['body'];

export class NetmapService implements PortService {
  readonly #runtime: Runtime;
  readonly #netmap: Netmap;
  #remote: RemotePort | undefined;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
    this.#netmap = netmapOf(runtime);
  }

  get bound(): boolean {
    return this.#remote !== undefined;
  }

  close(): void {
    this.#remote?.close();
    this.#remote = undefined;
  }

  serve({ type, name, body }: PortRequest): Answer {
    try {
      return this.#handlers[type](name, body);
    } catch (error) {
      throw explained(error);
    }
  }

  readonly #handlers: Record<RequestType, (name: string, body: Body) => Answer> = {
    register: (name, body) => this.#register(name, body),
    'port-info-get': (name) => this.#withAdapter(name, portInfo),
    'port-hdr-get': (name) => this.#withAdapter(name, ({ vnetHdrLen }) => ({ body: { hdrLen: vnetHdrLen } })),
    'port-hdr-set': (name, body) =>
      this.#withAdapter(name, (adapter) => {
        adapter.vnetHdrLen = bodyNumber(body, 'hdrLen', { max: 12 });
        return { body: {} };
      }),
    'pools-info-get': (name) => this.#withAdapter(name, ({ memory }) => ({ body: { ...memory.status() } })),
    'vale-attach': (name, body) => {
      const portIndex = this.#netmap.attach(...splitValeName(name), { host: bodyFlag(body, 'host') });
      return { body: { portIndex } };
    },
    'vale-detach': (name) => ({ body: { portIndex: this.#netmap.detach(...splitValeName(name)) } }),
    'vale-list': (name) => this.#list(name),
    'vale-newif': (name, body) => {
      this.#netmap.newif(name, { ...sizesOf(body), memId: bodyNumber(body, 'memId', { max: 0xffff }) });
      return this.#withAdapter(`netmap:${name}`, portInfo);
    },
    'vale-delif': (name) => {
      this.#netmap.delif(name);
      return { body: {} };
    },
    'vale-polling-enable': (name) => this.#polling(name),
    'vale-polling-disable': (name) => this.#polling(name),
  };

  #register(name: string, body: Body): Answer {
    if (this.#remote !== undefined)
      throw new NetbeError(`this connection has port ${this.#remote.port.name} already`, {
        code: 'EBUSY',
        kind: 'usage',
        subject: name,
        remedy: 'Open a connection for each port.',
      });
    const extraBufs = bodyNumber(body, 'extraBufs', { max: MAX_EXTRA_BUFS });
    const port = bodyFlag(body, 'null')
      ? this.#netmap.openNull(bodyNumber(body, 'memId', { max: 0xffff }), { ...sizesOf(body), extraBufs })
      : this.#netmap.open(name, { ...sizesOf(body), extraBufs });
    try {
      checkUse(port, bodyFlag(body, 'acceptVnetHdr'));
    } catch (error) {
      port.close();
      throw error;
    }
    const remote = new RemotePort(this.#runtime, port);
    this.#remote = remote;
    return {
      body: registerAnswer(remote),
      fds: [port.memory.fd, remote.kick.number, remote.notify.number],
    };
  }

  /** The port of that name, or that of the connection; one that is made for the question is gone after it. */
  #withAdapter(name: string, use: (adapter: NetmapAdapter) => Answer): Answer {
    if (name === '' && this.#remote !== undefined) return use(this.#remote.port.adapter);
    const found = this.#netmap.find(this.#netmap.parse(name).name);
    if (found !== undefined) return use(found);
    const port = this.#netmap.open(name);
    try {
      return use(port.adapter);
    } finally {
      port.close();
    }
  }

  #list(name: string): Answer {
    const ports = valeSwitches(this.#runtime)
      .list()
      .flatMap((vale, bridgeIdx) =>
        vale.ports.map((port) => ({ name: `${vale.name}:${port.name}`, bridgeIdx, portIdx: port.index })),
      );
    if (name === '') return { body: { ports } };
    const found = ports.find((port) => port.name === name);
    if (found !== undefined) return { body: { ports: [found] } };
    throw new NetbeError(`there is no port ${name} on a switch`, { code: 'ENOENT', kind: 'usage', subject: name });
  }

  #polling(name: string): Answer {
    throw new NetbeError(`${name}: the fabric polls its ports by itself, for as long as they have work`, {
      code: 'EOPNOTSUPP',
      kind: 'usage',
      subject: name,
      remedy: 'netbe run --spin-us N says how long it goes on when they have none.',
    });
  }
}

/** What the kernel alone refuses may well be the sandbox's doing: an interface cannot be had in one that did not begin with it. */
function explained(error: unknown): unknown {
  if (!(error instanceof NetbeError) || error.remedy !== undefined || !['EPERM', 'EACCES'].includes(error.code))
    return error;
  const { message, code, syscall, subject } = error;
  const remedy = 'In a sandbox no interface can be opened later: start the fabric as root with --no-sandbox.';
  return new NetbeError(message, { code, kind: 'environment', syscall, subject, remedy, cause: error });
}

function sizesOf(body: Body): { txRings?: number; rxRings?: number; txSlots?: number; rxSlots?: number } {
  const keys = ['txRings', 'rxRings', 'txSlots', 'rxSlots'] as const;
  const given = keys.map((key) => [key, bodyNumber(body, key, { max: 0xffff })] as const);
  return Object.fromEntries(given.filter(([, value]) => value > 0));
}

function checkUse(port: NetmapPort, acceptVnetHdr: boolean): void {
  const { name, vnetHdrLen } = port;
  if (vnetHdrLen !== 0 && !acceptVnetHdr)
    throw new NetbeError(`frames of port ${name} begin with a virtio-net header of ${vnetHdrLen} bytes`, {
      code: 'EIO',
      kind: 'usage',
      subject: name,
      remedy: 'Open it as one who copes with that: acceptVnetHdr (NR_ACCEPT_VNET_HDR).',
    });
  // head and cur of a ring come from one place
  const shared = [...port.txKrings, ...port.rxKrings].find((kring) => kring.users > 1);
  if (shared !== undefined)
    throw new NetbeError(`ring ${shared.ringId} of port ${name} has a user already`, {
      code: 'EBUSY',
      kind: 'usage',
      subject: name,
      remedy: 'Another process can only have rings that nobody else has: open one ring each, or another port.',
    });
}

function registerAnswer({ port, csbOff }: RemotePort): Record<string, unknown> {
  const { adapter, memory } = port;
  return {
    name: port.name,
    memId: memory.id,
    memSize: memory.byteLength,
    nifpOff: port.nifpOff,
    csbOff,
    txRingOffs: port.txKrings.map((kring) => kring.regionOff),
    rxRingOffs: port.rxKrings.map((kring) => kring.regionOff),
    extraBufs: port.extraBufs,
    vnetHdrLen: port.vnetHdrLen,
    hostTxRings: port.txKrings.filter((kring) => adapter.hostTxKrings.includes(kring)).length,
    hostRxRings: port.rxKrings.filter((kring) => adapter.hostRxKrings.includes(kring)).length,
  };
}

function portInfo({ memory, sizes }: NetmapAdapter): Answer {
  return { body: { memSize: memory.byteLength, memId: memory.id, ...sizes } };
}

function splitValeName(name: string): [switchName: string, port: string] {
  const [, switchName, port] = /^(vale\w*):(.+)$/.exec(name) ?? [];
  if (switchName === undefined || port === undefined)
    throw usageError(`"${name}" is no port of a switch`, name, 'Write valeN:PORT, for instance vale0:v0.');
  return [switchName, port];
}
