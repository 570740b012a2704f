/**
 * A port of a VALE switch joined to something else that has frames: a side of an interface of the host, or the
 * rings of a port that is on another switch (what netmap calls a wrapped port). Frames cross with what was
 * left undone of them: whoever is last does it.
 *
 *     link ── receive ─▶ scratch ─▶ send ── switch
 *          ◀── send ── scratch ◀─ receive ──
 */
import type { Runtime } from '../engine/runtime.js';
import { Iovec } from '../memory/iovec.js';
import type { Mapping } from '../memory/window.js';
import { OFFLOAD_ALL, type VnetHdrLen } from '../wire/vnet-header.js';
import { Closer } from './host/attach.js';
import type { ValePort } from './vale/port.js';
import { valeSwitches } from './vale/switches.js';

const HDR_LEN = 12;
/** bytes of frames that cross in one burst, each way */
const SCRATCH_BYTES = 2 ** 20;
const PORT_SLOTS = 1024;
const PORT_RING_BYTES = 2 * 2 ** 20;

/** What is joined: of NetBackend, what it takes. */
export interface Link {
  send(iov: Iovec): number;
  flush(): void;
  peekRecvLen(): number;
  recv(iov: Iovec): number;
  recvEnable(): void;
  /** false: its frames have no header, and nothing is left undone in them */
  setHeader(length: VnetHdrLen, tx: number, rx: number): boolean;
  close(): void;
}

export class Joint {
  readonly port: ValePort;
  readonly #link: Link;
  readonly #in: Mapping;
  readonly #out: Mapping;
  readonly #iov = new Iovec(1);
  readonly #closer = new Closer();

  /** Attaches port `portName`, and opens the link: what that throws, with nothing left attached. */
  constructor(runtime: Runtime, switchName: string, portName: string, openLink: (onReceive: () => void) => Link) {
    const closer = this.#closer;
    try {
      this.#in = closer.add(runtime.windows.mapAnonymous(SCRATCH_BYTES));
      this.#out = closer.add(runtime.windows.mapAnonymous(SCRATCH_BYTES));
      const switches = valeSwitches(runtime);
      const port = switches.attach(switchName, {
        name: portName,
        slots: PORT_SLOTS,
        ringBytes: PORT_RING_BYTES,
        onReceive: () => this.#toLink(),
      });
      closer.add({ close: () => switches.detach(switchName, port) });
      this.port = port;
      this.#link = closer.add(openLink(() => this.#toSwitch()));
      const hasHeader = this.#link.setHeader(HDR_LEN, OFFLOAD_ALL, OFFLOAD_ALL);
      port.vnetHdrLen = hasHeader ? HDR_LEN : 0;
      port.txOffloads = hasHeader ? OFFLOAD_ALL : 0;
      port.rxOffloads = hasHeader ? OFFLOAD_ALL : 0;
    } catch (error) {
      closer.close();
      throw error;
    }
    this.port.recvEnable();
    this.#link.recvEnable();
  }

  #toSwitch(): void {
    const link = this.#link;
    const { window, off } = this.#in;
    const iov = this.#iov;
    for (;;) {
      let used = 0;
      for (let len = link.peekRecvLen(); len > 0 && used + len <= SCRATCH_BYTES; len = link.peekRecvLen()) {
        iov.clear();
        iov.push(window.index, off + used, len);
        if (link.recv(iov) > 0) this.port.send(iov);
        used += (len + 15) & ~15;
      }
      this.port.flush();
      if (used === 0) return;
    }
  }

  #toLink(): void {
    const { port } = this;
    const { window, off } = this.#out;
    const iov = this.#iov;
    for (let len = port.peekRecvLen(); len > 0; len = port.peekRecvLen()) {
      iov.clear();
      iov.push(window.index, off, len);
      // what the link has no room for it counts; the frame is lost, as in a full ring of the switch
      if (port.recv(iov) > 0) this.#link.send(iov);
    }
    this.#link.flush();
  }

  close(): void {
    this.#closer.close();
  }
}
