/** Ports of a fabric that lives in this thread, as netmap's programs use them. */
import type { FabricCore } from '../../control/fabric-core.js';
import type { Window } from '../../memory/window.js';
import type { NetmapPort } from '../../netmap/port.js';
import { checkEntries, POLLIN, POLLOUT, type PollEntry } from '../../netmap/port-socket/poll.js';
import type { NetmapRing } from '../../netmap/ring.js';
import type { ToolPoll, ToolPort } from './tool-port.js';

export class LocalToolPort implements ToolPort {
  readonly name: string;
  readonly memId: number;
  readonly window: Window;
  readonly txRings: readonly NetmapRing[];
  readonly rxRings: readonly NetmapRing[];
  readonly hostTxRings: number;
  readonly hostRxRings: number;
  readonly extraBufs: number;
  readonly waitFds: readonly number[] = [];
  readonly #port: NetmapPort;

  constructor(
    port: NetmapPort,
    readonly fabric: string,
  ) {
    this.#port = port;
    this.name = port.name;
    this.memId = port.memory.id;
    this.window = port.memory.window;
    this.txRings = port.txRings;
    this.rxRings = port.rxRings;
    this.hostTxRings = port.txKrings.filter((kring) => port.adapter.hostTxKrings.includes(kring)).length;
    this.hostRxRings = port.rxKrings.filter((kring) => port.adapter.hostRxKrings.includes(kring)).length;
    this.extraBufs = port.extraBufs;
    // so that an event of this port ends a wait of the event queue
    port.onReady = () => {};
  }

  get bufsHead(): number {
    return this.#port.bufsHead;
  }

  set bufsHead(idx: number) {
    this.#port.bufsHead = idx;
  }

  get vnetHdrLen(): number {
    return this.#port.vnetHdrLen;
  }

  set vnetHdrLen(len: number) {
    this.#port.vnetHdrLen = len;
  }

  txsync(ring?: number): void {
    this.#port.txsync(ring);
  }

  rxsync(ring?: number): void {
    this.#port.rxsync(ring);
  }

  check(events: number): number {
    this.#port.txsync();
    let ready = 0;
    if ((events & POLLIN) !== 0) {
      this.#port.rxsync();
      for (const ring of this.rxRings) if (ring.cur !== ring.tail) ready |= POLLIN;
    }
    if ((events & POLLOUT) !== 0) for (const ring of this.txRings) if (ring.cur !== ring.tail) ready |= POLLOUT;
    return ready;
  }

  arm(events: number): number {
    return this.check(events);
  }

  disarm(): void {}

  woken(): void {}

  close(): void {
    this.#port.close();
  }
}

/** while there are frames to take the fabric has its turn this often, in milliseconds */
const STEP_MS = 0.2;

/** poll(2) that runs the fabric while it waits. */
export class LocalPoll implements ToolPoll {
  readonly entries: readonly PollEntry[];
  readonly #core: FabricCore;
  #woken = false;
  #steppedAt = 0;

  constructor(core: FabricCore, ports: readonly ToolPort[]) {
    this.#core = core;
    this.entries = ports.map((port) => ({ port, events: 0, revents: 0 }));
    core.runtime.mevent.onWake = () => {
      this.#woken = true;
    };
  }

  get wakeFd(): number {
    return this.#core.runtime.mevent.wakeFd;
  }

  poll(timeoutMs: number): number {
    const { loop } = this.#core.runtime;
    const start = performance.now();
    let ready = checkEntries(this.entries);
    // a receiver takes what it has before more is forwarded to it, but others have their turn however busy it is
    const receives = this.entries.every(({ events }) => events === POLLIN);
    if (ready > 0 && receives && start - this.#steppedAt < STEP_MS) return ready;
    this.#step(0);
    for (;;) {
      ready = checkEntries(this.entries);
      const left = timeoutMs < 0 ? -1 : Math.max(0, start + timeoutMs - performance.now());
      if (ready > 0 || left === 0 || this.#woken) break;
      this.#step(loop.activeCount > 0 ? 0 : Math.ceil(left));
    }
    this.#woken = false;
    return ready;
  }

  #step(ms: number): void {
    this.#core.step(ms);
    this.#steppedAt = performance.now();
  }

  close(): void {}
}
