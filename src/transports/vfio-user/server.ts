/**
 * A PCI function reachable over vfio-user: the socket (see ../socket-port.ts), and one client after the
 * other.
 */
import type { Runtime } from '../../engine/runtime.js';
import type { PciFunction } from '../../frontends/pci/pci-function.js';
import { SocketPort, type Transport, type TransportStatus } from '../socket-port.js';
import { counterNames } from './counters.js';
import { Session } from './session.js';

export interface VfioUserOptions {
  runtime: Runtime;
  fn: PciFunction;
  /** of the NIC, for the log and the counters */
  name: string;
  /** of the socket */
  path: string;
  mode: 'server' | 'client';
  /** trust no client: refuse guest memory that it could take away, and descriptors that could make us wait */
  strictMemory?: boolean;
  /** between two attempts to connect, or to accept after an error, in milliseconds */
  reconnectMs?: number;
}

export class VfioUserTransport implements Transport {
  readonly #port: SocketPort<Session>;
  readonly #runtime: Runtime;
  readonly #subject: string;

  constructor(options: VfioUserOptions) {
    const { fn, strictMemory = false, ...rest } = options;
    const { runtime, name } = options;
    this.#runtime = runtime;
    this.#subject = `${name}/vfio-user`;
    const counters = runtime.counters.create(this.#subject, counterNames);
    this.#port = new SocketPort({
      ...rest,
      protocol: 'vfio-user',
      peer: 'client',
      begin: (socket, events) => new Session({ runtime, fn, counters, strictMemory, socket, ...events }),
    });
  }

  start(): void {
    this.#port.start();
  }

  status(): TransportStatus {
    const session = this.#port.connection;
    return {
      ...this.#port.status(),
      protocolFeatures: [...(session?.features ?? [])],
      memory: {
        regions: session?.device.dma.count ?? 0,
        bytes: session?.device.dma.memory.byteLength ?? 0,
        unshared: session?.device.dma.unshared ?? 0,
        sealed: session?.device.dma.sealed ?? true,
      },
    };
  }

  close(): void {
    this.#port.close();
    this.#runtime.counters.release(this.#subject);
  }
}
