/** An interface of the host as a port of a VALE switch (vale-ctl -a): its wire, and with -h its host's stack as a second port, named IF^. */
import type { Runtime } from '../../engine/runtime.js';
import { netdevInfo } from '../../sys/netdev.js';
import { Joint } from '../joint.js';
import { openHostRings } from './host-rings.js';
import { HostInterface } from './interface.js';
import { openHostPort } from './open.js';

/** One side of an interface, joined to a port of a switch. */
function join(runtime: Runtime, switchName: string, ifname: string, host: boolean): Joint {
  const portName = host ? `${ifname}^` : ifname;
  const how = { mode: 'auto', queues: 0, slots: 1024, zeroCopy: 'auto' } as const;
  return new Joint(
    runtime,
    switchName,
    portName,
    (onReceive) =>
      new HostInterface({
        runtime,
        name: `netmap:${portName}`,
        info: netdevInfo(ifname),
        openPort: host ? openHostRings : (windows, info) => openHostPort(windows, info, how),
        promisc: !host,
        onReceive,
      }),
  );
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
      this.#joints.push(join(runtime, switchName, ifname, false));
      if (host) this.#joints.push(join(runtime, switchName, ifname, true));
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
