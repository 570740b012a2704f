/**
 * A front-end that sends anything: valid messages, nearly valid ones, wrong descriptors, halves of
 * messages, in any order, and goes away at any time.
 * What must hold afterwards is said in attacked-switch.ts.
 */
import { pathToFileURL } from 'node:url';
import type { Fd } from '../../src/sys/fd.js';
import { socketPair } from '../../src/sys/socket.js';
import * as M from '../../src/transports/vhost-user/messages.js';
import { AttackedSwitch } from '../support/attacked-switch.js';
import {
  configMessage,
  inflightMessage,
  memoryTable,
  type Region,
  singleRegion,
  u64,
  VhostUserClient,
  vringAddr,
  vringState,
} from '../support/vhost-user-client.js';
import { type Decisions, type FuzzTarget, fuzzMain } from './harness.js';
import { HostileFds } from './hostile-fds.js';

const USER = 0x7f0000000000;
const MEMORY = 1 << 18;
const REQUESTS = [...M.requestRules.keys()];

class VhostUserMessages implements FuzzTarget {
  readonly name = 'vhost-user-messages';
  readonly maxBytes = 600;
  readonly #world = new AttackedSwitch();
  readonly #victim = this.#world.vhostUserPort('vm1', { inbandNotifications: true });

  constructor() {
    this.#world.settle();
  }

  run(input: Decisions): void {
    const { device, transport } = this.#victim;
    const hostile = new Hostile(input, this.#world.path('vm1'), {
      step: this.#world.step,
      flapLink: () => {
        device.setLink(false);
        device.setLink(true);
      },
      sendFrame: () => this.#world.broadcast(),
    });
    try {
      hostile.run();
    } finally {
      hostile.close();
    }
    this.#world.check(transport);
  }

  close(): void {
    this.#world.close();
  }
}

/** What happens around a front-end. */
interface World {
  step(): void;
  flapLink(): void;
  /** a frame for everybody */
  sendFrame(): void;
}

/** Reads an input as a front-end's actions. */
class Hostile {
  readonly #in: Decisions;
  readonly #path: string;
  readonly #world: World;
  readonly #fds: HostileFds;
  #client: VhostUserClient;

  constructor(input: Decisions, path: string, world: World) {
    this.#in = input;
    this.#fds = new HostileFds(input, MEMORY, M.MAX_FDS);
    this.#path = path;
    this.#world = world;
    this.#client = VhostUserClient.connect(path, world.step);
  }

  run(): void {
    const d = this.#in;
    // most programs get past the negotiation, so that what follows means something
    if (!d.oneIn(8)) this.#negotiate();
    if (!d.oneIn(3)) this.#setUp();
    for (let actions = 0; !d.done && actions < 60; actions++) this.#act();
  }

  close(): void {
    this.#client.close();
    this.#fds.close();
  }

  #act(): void {
    const d = this.#in;
    d.pick(this.#actions)(d);
  }

  readonly #actions: readonly ((d: Decisions) => void)[] = [
    // any request with any payload, flags and descriptors
    (d) => this.#send(d.u8(), d.take(d.below(64)), this.#fds.any(), d.u8()),
    // any bytes
    (d) => void this.#client.sendBytes(d.take(1 + d.below(40)), this.#fds.any()),
    // a known request, any payload of a likely length
    (d) => this.#send(d.pick(REQUESTS), d.take(d.pick([0, 4, 8, 12, 20, 24, 40, 72, 264])), this.#fds.any()),
    // the beginning of a message
    (d) =>
      void this.#client.sendBytes(
        Uint8Array.of(d.pick(REQUESTS), 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0).slice(0, d.below(13)),
      ),
    () => this.#fds.shorten(),
    (d) => d.oneIn(4) && this.#reconnect(),
    (d) => this.#steps(d.below(4)),
    () => this.#fds.signalOne(),
    () => this.#fds.poke(),
    () => this.#fds.poke(),
    () => this.#world.flapLink(),
    () => this.#world.sendFrame(),
    ...Array.from({ length: 10 }, () => (d: Decisions) => d.pick(this.#likely)(d.oneIn(8) ? d.u8() : d.below(2), d)),
  ];

  /** Requests that are right but for a detail, or altogether. */
  readonly #likely: readonly ((queue: number, d: Decisions) => void)[] = [
    (q, d) => this.#send(M.VHOST_USER_SET_VRING_NUM, vringState(q, d.oneIn(4) ? d.u32() : 1 << d.below(12))),
    (q, d) => this.#send(M.VHOST_USER_SET_VRING_BASE, vringState(q, d.oneIn(4) ? d.u32() : d.u16())),
    (q) => this.#send(M.VHOST_USER_SET_VRING_ADDR, this.#addresses(q)),
    (q) => this.#send(M.VHOST_USER_SET_VRING_ADDR, this.#addresses(q)),
    (q) => this.#send(M.VHOST_USER_SET_VRING_KICK, u64(q), [this.#fds.event()]),
    (q) => this.#send(M.VHOST_USER_SET_VRING_KICK, u64(q), [this.#fds.event()]),
    (q) => this.#send(M.VHOST_USER_SET_VRING_KICK, u64(q | 0x100)),
    (q) => this.#send(M.VHOST_USER_SET_VRING_CALL, u64(q), [this.#fds.event()]),
    (q) => this.#send(M.VHOST_USER_SET_VRING_ERR, u64(q), [this.#fds.event()]),
    (q, d) => {
      const request = d.pick([M.VHOST_USER_SET_VRING_KICK, M.VHOST_USER_SET_VRING_CALL, M.VHOST_USER_SET_VRING_ERR]);
      this.#send(request, u64(q | (d.below(3) << 8)), this.#fds.any());
    },
    (q, d) => this.#send(M.VHOST_USER_SET_VRING_ENABLE, vringState(q, d.below(3))),
    (q) => this.#send(M.VHOST_USER_GET_VRING_BASE, vringState(q, 0)),
    (q) => this.#send(M.VHOST_USER_VRING_KICK, vringState(q, 0)),
    () => this.#sendTable(),
    () => this.#sendTable(),
    (_, d) => this.#send(M.VHOST_USER_ADD_MEM_REG, singleRegion(this.#region(d.below(4))), [this.#fds.file()]),
    (_, d) => this.#send(M.VHOST_USER_REM_MEM_REG, singleRegion(this.#region(d.below(4))), this.#fds.any()),
    (_, d) => {
      const request = d.pick([M.VHOST_USER_GET_CONFIG, M.VHOST_USER_SET_CONFIG]);
      this.#send(request, configMessage(d.below(300), d.below(300), d.below(3)));
    },
    (_, d) => {
      const size = d.oneIn(4) ? d.u16() : 1 << d.below(12);
      this.#send(M.VHOST_USER_GET_INFLIGHT_FD, inflightMessage(0, 0, d.below(4), size));
    },
    (_, d) => {
      const mmapSize = d.oneIn(4) ? d.u32() : MEMORY / 2;
      const message = inflightMessage(mmapSize, d.pick([0, 8, 4096, 4095]), 1 + d.below(2), 1 << d.below(12));
      this.#send(M.VHOST_USER_SET_INFLIGHT_FD, message, [this.#fds.file()]);
    },
    (_, d) => {
      const [ours, theirs] = socketPair();
      this.#fds.own(ours);
      this.#fds.own(theirs);
      this.#send(M.VHOST_USER_SET_BACKEND_REQ_FD, new Uint8Array(0), [d.oneIn(4) ? this.#fds.event() : theirs]);
    },
    () => this.#send(M.VHOST_USER_SET_STATUS, u64(0)),
    (_, d) => this.#send(d.pick([M.VHOST_USER_RESET_DEVICE, M.VHOST_USER_RESET_OWNER, M.VHOST_USER_GET_FEATURES])),
    (_, d) => {
      const request = d.pick([M.VHOST_USER_SET_STATUS, M.VHOST_USER_NET_SET_MTU, M.VHOST_USER_SEND_RARP]);
      this.#send(request, u64(d.oneIn(2) ? d.u32() : d.below(2048)));
    },
  ];

  #steps(count: number): void {
    for (let n = 0; n <= count; n++) this.#world.step();
  }

  #negotiate(): void {
    const d = this.#in;
    const protocol = d.oneIn(4) ? d.u32() : M.offeredProtocolFeatures | (d.below(2) << 14);
    this.#send(M.VHOST_USER_SET_PROTOCOL_FEATURES, u64(protocol), [], 1);
    this.#send(M.VHOST_USER_SET_FEATURES, u64(d.oneIn(4) ? d.u32() : (1n << 32n) | (1n << 30n) | (1n << 29n)));
  }

  #setUp(): void {
    this.#send(M.VHOST_USER_SET_MEM_TABLE, memoryTable([this.#plainRegion(0)]), [this.#fds.file(true)]);
    for (const queue of [0, 1]) {
      this.#send(M.VHOST_USER_SET_VRING_NUM, vringState(queue, 64));
      this.#send(M.VHOST_USER_SET_VRING_ADDR, ringAddresses(queue));
      this.#send(M.VHOST_USER_SET_VRING_ENABLE, vringState(queue, 1));
      this.#send(M.VHOST_USER_SET_VRING_KICK, u64(queue), [this.#fds.event()]);
    }
    this.#world.step();
  }

  #addresses(queue: number): Uint8Array {
    const d = this.#in;
    if (!d.oneIn(3)) return ringAddresses(queue);
    const at = () => USER + (d.oneIn(3) ? d.u32() * 2 ** d.below(24) : d.below(MEMORY));
    return vringAddr(queue, { desc: at(), used: at(), avail: at() }, d.oneIn(8) ? d.u8() : 0);
  }

  #sendTable(): void {
    const d = this.#in;
    const count = d.below(5);
    const regions = Array.from({ length: count }, (_, i) => this.#region(i));
    const fds = Array.from({ length: d.oneIn(6) ? d.below(9) : count }, () => this.#fds.file());
    this.#send(M.VHOST_USER_SET_MEM_TABLE, memoryTable(regions), fds);
  }

  #plainRegion(slot: number): Region {
    return { gpa: slot * MEMORY, size: MEMORY, userAddr: USER + slot * MEMORY, mmapOffset: 0 };
  }

  #region(slot: number): Region {
    const d = this.#in;
    const region = this.#plainRegion(slot);
    if (!d.oneIn(3)) return region;
    const odd = () => d.pick([0, 1, 4095, 4096, MEMORY, 2 ** 32, 2 ** 52, d.u32(), 0xffff_ffff_ffff_ffffn]);
    return { ...region, [d.pick(['gpa', 'size', 'userAddr', 'mmapOffset'] as const)]: odd() };
  }

  #reconnect(): void {
    this.#client.close();
    this.#steps(5);
    this.#client = VhostUserClient.connect(this.#path, this.#world.step);
  }

  #send(request: number, payload: Uint8Array = new Uint8Array(0), fds: readonly Fd[] = [], flags?: number): void {
    const header = new Uint8Array(12);
    const view = new DataView(header.buffer);
    view.setUint32(0, request, true);
    view.setUint32(4, flags ?? (this.#in.oneIn(2) ? 9 : 1), true);
    view.setUint32(8, payload.length, true);
    // the other side may have gone, or be full: all the same here
    this.#client.sendBytes(Buffer.concat([header, payload]), fds);
    if (this.#in.below(4) === 0) this.#world.step();
  }
}

function ringAddresses(queue: number): Uint8Array {
  const at = USER + 0x10000 * (queue + 1);
  return vringAddr(queue, { desc: at, avail: at + 0x4000, used: at + 0x8000 });
}

export function makeTarget(): FuzzTarget {
  return new VhostUserMessages();
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) fuzzMain(makeTarget);
