/**
 * An interface of the host as a port of a VALE switch (vale-ctl -a): its wire, and with -h its host's stack as a
 * second port, named IF^. Frames cross with what was left undone of them: whoever is last does it.
 *
 *     wire ── receive ─▶ scratch ─▶ send ── switch
 *          ◀── send ── scratch ◀─ receive ──
 */
import type { Runtime } from '../../engine/runtime.js';
import { Iovec } from '../../memory/iovec.js';
import type { Mapping } from '../../memory/window.js';
import { netdevInfo } from '../../sys/netdev.js';
import { OFFLOAD_ALL } from '../../wire/vnet-header.js';
import type { ValePort } from '../vale/port.js';
import { valeSwitches } from '../vale/switches.js';
import { Closer } from './attach.js';
import { openHostRings } from './host-rings.js';
import { HostInterface } from './interface.js';
import { openHostPort } from './open.js';

const HDR_LEN = 12;
/** bytes of frames that cross in one burst, each way */
const SCRATCH_BYTES = 2 ** 20;
const PORT_SLOTS = 1024;
const PORT_RING_BYTES = 2 * 2 ** 20;

/** One side of an interface, joined to one port of a switch. */
class Joint {
  readonly port: ValePort;
  readonly #link: HostInterface;
  readonly #in: Mapping;
  readonly #out: Mapping;
  readonly #iov = new Iovec(1);
  readonly #closer = new Closer();

  constructor(runtime: Runtime, switchName: string, ifname: string, host: boolean) {
    const closer = this.#closer;
    const portName = host ? `${ifname}^` : ifname;
    const how = { mode: 'auto', queues: 0, slots: 1024, zeroCopy: 'auto' } as const;
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
      this.#link = closer.add(
        new HostInterface({
          runtime,
          name: `netmap:${portName}`,
          info: netdevInfo(ifname),
          openPort: host ? openHostRings : (windows, info) => openHostPort(windows, info, how),
          promisc: !host,
          onReceive: () => this.#toSwitch(),
        }),
      );
    } catch (error) {
      closer.close();
      throw error;
    }
    this.port.vnetHdrLen = HDR_LEN;
    this.port.txOffloads = OFFLOAD_ALL;
    this.port.rxOffloads = OFFLOAD_ALL;
    this.#link.setHeader(HDR_LEN, OFFLOAD_ALL, OFFLOAD_ALL);
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
      // what the interface has no room for it counts; the frame is lost, as in a full ring of the switch
      if (port.recv(iov) > 0) this.#link.send(iov);
    }
    this.#link.flush();
  }

  close(): void {
    this.#closer.close();
  }
}

export class SwitchedInterface {
  readonly #joints: Joint[] = [];

  /** Throws what taking the interface throws, with nothing left taken. */
  constructor(
    runtime: Runtime,
    readonly switchName: string,
    readonly ifname: string,
    host: boolean,
  ) {
    try {
      this.#joints.push(new Joint(runtime, switchName, ifname, false));
      if (host) this.#joints.push(new Joint(runtime, switchName, ifname, true));
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /** Number of its port in the switch. */
  get portIndex(): number {
    return this.#joints[0]?.port.index ?? -1;
  }

  close(): void {
    for (const joint of this.#joints.splice(0)) joint.close();
  }
}
