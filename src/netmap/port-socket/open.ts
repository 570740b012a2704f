/** Opens a port of a fabric through its port socket: nm_open for another process, or another thread. */
import type { WindowPool } from '../../memory/window.js';
import { NetmapClientPort } from './client-port.js';
import { PortConnection } from './connection.js';

export interface PortOpenOptions {
  /** rings and slots of a port that is made by opening it */
  txRings?: number;
  rxRings?: number;
  txSlots?: number;
  rxSlots?: number;
  /** extra buffers wanted; there may be fewer */
  extraBufs?: number;
  /** the caller copes with frames that begin with a virtio-net header (NR_ACCEPT_VNET_HDR) */
  acceptVnetHdr?: boolean;
  /** a null port (NR_REG_NULL): a hold on region `memId`, and extra buffers in it; the name does not matter */
  null?: boolean;
  memId?: number;
}

/** Throws what the fabric answers; ENOENT or ECONNREFUSED where there is none. */
export function openClientPort(
  pool: WindowPool,
  socket: string,
  name: string,
  options: PortOpenOptions = {},
): NetmapClientPort {
  const connection = new PortConnection(socket);
  try {
    const reply = connection.request('register', name, options);
    try {
      return new NetmapClientPort(pool, connection, reply);
    } catch (error) {
      for (const fd of reply.fds) fd.close();
      throw error;
    }
  } catch (error) {
    connection.close();
    throw error;
  }
}
