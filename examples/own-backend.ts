/**
 * A backend of one's own: a host at 10.0.0.1 that answers ARP and ping. Run it with
 *
 *     netbe run --backend ./own-backend.js -s 2:0,virtio-net,echo0,socket=vm1.sock
 *
 * and from a guest on vm1.sock: ip address add 10.0.0.2/24 dev eth0; ip link set eth0 up; ping 10.0.0.1
 */
import { FrameBackend, type NetBackendType } from 'netbe';

const MAC = Uint8Array.of(0x02, 0, 0, 0, 0, 0xee);
const IP = Uint8Array.of(10, 0, 0, 1);

const isIp = (at: Uint8Array) => at.every((byte, i) => byte === IP[i]);

class Echo extends FrameBackend {
  protected override onFrame(frame: Uint8Array): void {
    const view = new DataView(frame.buffer, frame.byteOffset, frame.byteLength);
    const type = frame.length >= 42 ? view.getUint16(12) : 0;
    const isArpRequest = type === 0x0806 && view.getUint16(20) === 1 && isIp(frame.subarray(38, 42));
    const isPing = type === 0x0800 && frame[14] === 0x45 && frame[23] === 1 && frame[34] === 8;
    if (isArpRequest) {
      view.setUint16(20, 2); // reply
      frame.copyWithin(32, 22, 32); // to the one who asked,
      frame.set(MAC, 22); // from us
      frame.set(IP, 28);
    } else if (isPing && isIp(frame.subarray(30, 34))) {
      frame.copyWithin(30, 26, 30); // the addresses change places, which leaves the checksum of IP as it is
      frame.set(IP, 26);
      frame[34] = 0; // echo reply: type 8 becomes 0, and the checksum (RFC 1624) grows by 0x0800
      const sum = view.getUint16(36) + 0x0800;
      view.setUint16(36, (sum & 0xffff) + (sum >>> 16));
    } else return;
    frame.copyWithin(0, 6, 12);
    frame.set(MAC, 6);
    this.deliver(frame);
  }
}

export const backend: NetBackendType = {
  prefix: 'echo',
  summary: 'a host at 10.0.0.1 that answers ARP and ping',
  example: 'echo0',
  options: [],
  needsReceive: true,
  // memory and time only: it runs in the sandbox of `netbe run`
  needs: () => ({}),
  open: (request) => new Echo(request),
};
