/** A packet socket (packet(7)) on an interface: whole frames, as the host's stack would send and see them. */
import { type Fd, readAt } from '../../src/sys/fd.js';
import { E, sysError } from '../../src/sys/libc.js';
import { NativeBuffer } from '../../src/sys/native-buffer.js';
import { netdevInfo } from '../../src/sys/netdev.js';
import { bindPacket, bypassHost, openPacketSocket, sendPacket } from '../../src/sys/packet-socket.js';

const BUFFER_BYTES = 1 << 17;

export class PacketSocket {
  readonly #fd: Fd = openPacketSocket();
  readonly #buffer = new NativeBuffer(BUFFER_BYTES);

  constructor(interfaceName: string) {
    bypassHost(this.#fd.number);
    bindPacket(this.#fd.number, netdevInfo(interfaceName).index, true);
  }

  /** Sends a frame out of the interface. */
  send(frame: Uint8Array): void {
    this.#buffer.u8.set(frame);
    const sent = sendPacket(this.#fd.number, this.#buffer.addr, frame.length);
    if (sent < 0) throw sysError('send', `${frame.length} bytes`, undefined, -sent);
  }

  /** The next frame that came in from the interface's wire, or undefined. */
  receive(): Uint8Array | undefined {
    const n = readAt(this.#fd.number, this.#buffer.addr, BUFFER_BYTES);
    if (n >= 0) return this.#buffer.u8.slice(0, n);
    if (n === -E.EAGAIN) return undefined;
    throw sysError('read', 'packet socket', undefined, -n);
  }

  close(): void {
    this.#fd.close();
  }
}
