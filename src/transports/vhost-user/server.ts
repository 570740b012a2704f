/**
 * A virtio device reachable over vhost-user: the socket (see ../socket-port.ts), and one front-end
 * after the other.
 */
import type { Runtime } from '../../engine/runtime.js';
import type { VirtioDevice } from '../../frontends/virtio-device.js';
import { SocketPort, type Transport, type TransportStatus } from '../socket-port.js';
import { protocolFeatureNames } from './messages.js';
import { Session } from './session.js';

export interface VhostUserOptions {
  runtime: Runtime;
  device: VirtioDevice;
  /** of the NIC, for the log */
  name: string;
  /** of the socket */
  path: string;
  mode: 'server' | 'client';
  /** trust no front-end: refuse guest memory that it could take away, and descriptors that could make us wait */
  strictMemory?: boolean;
  /** offer notifications through the socket instead of descriptors; slower, for front-ends that need them */
  inbandNotifications?: boolean;
  /** between two attempts to connect, or to accept after an error, in milliseconds */
  reconnectMs?: number;
}

export class VhostUserTransport implements Transport {
  readonly #port: SocketPort<Session>;

  constructor(options: VhostUserOptions) {
    const { device, strictMemory = false, inbandNotifications = false, ...rest } = options;
    const { runtime } = options;
    this.#port = new SocketPort({
      ...rest,
      protocol: 'vhost-user',
      peer: 'front-end',
      begin: (socket, events) => new Session({ runtime, device, strictMemory, inbandNotifications, socket, ...events }),
    });
  }

  start(): void {
    this.#port.start();
  }

  status(): TransportStatus {
    const backend = this.#port.connection?.backend;
    return {
      ...this.#port.status(),
      protocolFeatures: protocolFeatureNames(backend?.protocolFeatures ?? 0),
      memory: {
        regions: backend?.memory.regionCount ?? 0,
        bytes: backend?.memory.byteLength ?? 0,
        unshared: 0,
        sealed: backend?.table.sealed ?? true,
      },
    };
  }

  close(): void {
    this.#port.close();
  }
}
