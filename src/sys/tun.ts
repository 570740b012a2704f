/** /dev/net/tun: taps as descriptors (linux/if_tun.h, Documentation/networking/tuntap.rst). */
import { NetbeError } from '../errors.js';
import { Fd } from './fd.js';
import { ioctl } from './ioctl.js';
import { E, errno, libc, sysError } from './libc.js';

const openC = libc.func('int open(const char *path, int flags)') as (path: string, flags: number) => number;

// linux/fcntl.h
const O_RDWR = 2;
const O_NONBLOCK = 0o4000;
const O_CLOEXEC = 0o2000000;

// linux/if_tun.h
const TUNSETIFF = 0x400454ca;
const TUNSETPERSIST = 0x400454cb;
const TUNSETOWNER = 0x400454cc;
const TUNGETFEATURES = 0x800454cf;
const TUNSETOFFLOAD = 0x400454d0;
const TUNGETIFF = 0x800454d2;
const TUNSETVNETHDRSZ = 0x400454d8;
export const IFF_TUN = 0x0001;
export const IFF_TAP = 0x0002;
export const IFF_MULTI_QUEUE = 0x0100;
export const IFF_NO_PI = 0x1000;
export const IFF_VNET_HDR = 0x4000;
export const TUN_F_CSUM = 0x01;
export const TUN_F_TSO4 = 0x02;
export const TUN_F_TSO6 = 0x04;
export const TUN_F_TSO_ECN = 0x08;
export const TUN_F_UFO = 0x10;
export const TUN_F_USO4 = 0x20;
export const TUN_F_USO6 = 0x40;

/** linux/if.h: bytes of a name, with the zero at its end */
export const IFNAMSIZ = 16;
// struct ifreq: name, then a union; 40 bytes on 64-bit Linux
const IFREQ_BYTES = 40;

export const TUN_PATH = '/dev/net/tun';

/** A descriptor that is no interface yet. Non-blocking. */
export function openTun(path = TUN_PATH): Fd {
  const n = openC(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
  if (n >= 0) return new Fd(n);
  const no = errno();
  if (no === E.ENOENT || no === E.ENODEV || no === E.ENXIO)
    throw new NetbeError(`${path} is missing: this kernel or container has no taps`, {
      code: 'ENOENT',
      kind: 'environment',
      errno: no,
      syscall: 'open',
      subject: path,
      remedy: 'Load the module (modprobe tun); in a container pass the device in (--device /dev/net/tun).',
    });
  throw sysError('open', path, `Allow this user to read and write ${path}, or run as root.`, no);
}

/** IFF_* flags that the kernel knows. */
export function tunFeatures(fd: number): number {
  const out = int();
  ioctl(fd, TUNGETFEATURES, out, 'TUNGETFEATURES', TUN_PATH);
  return word(out);
}

/** Attaches the descriptor to interface `name`, made if there is none. Returns the interface's name. */
export function tunAttach(fd: number, name: string, flags: number): string {
  const ifreq = new Uint8Array(new ArrayBuffer(IFREQ_BYTES));
  ifreq.set(Buffer.from(name).subarray(0, IFNAMSIZ - 1));
  new DataView(ifreq.buffer).setUint16(IFNAMSIZ, flags, true);
  ioctl(fd, TUNSETIFF, ifreq, 'TUNSETIFF', name);
  return nameIn(ifreq);
}

/** What the descriptor is attached to, and its IFF_* flags; undefined when the interface is gone. */
export function tunInterface(fd: number): { name: string; flags: number } | undefined {
  const ifreq = new Uint8Array(new ArrayBuffer(IFREQ_BYTES));
  try {
    ioctl(fd, TUNGETIFF, ifreq, 'TUNGETIFF');
  } catch (error) {
    if (error instanceof NetbeError && (error.code === 'EBADFD' || error.code === 'EBADF')) return undefined;
    throw error;
  }
  return { name: nameIn(ifreq), flags: new DataView(ifreq.buffer).getUint16(IFNAMSIZ, true) };
}

/** Which TUN_F_* the reader of the descriptor takes unfinished. False where the kernel does not know them all. */
export function tunSetOffload(fd: number, offloads: number): boolean {
  try {
    ioctl(fd, TUNSETOFFLOAD, offloads, 'TUNSETOFFLOAD');
    return true;
  } catch (error) {
    if (error instanceof NetbeError && error.code === 'EINVAL') return false;
    throw error;
  }
}

/** Bytes of virtio-net header before each frame, with IFF_VNET_HDR. */
export function tunSetVnetHdrSize(fd: number, size: number): void {
  const arg = int();
  new DataView(arg.buffer).setInt32(0, size, true);
  ioctl(fd, TUNSETVNETHDRSZ, arg, 'TUNSETVNETHDRSZ', String(size));
}

/** Whether the interface stays when its last descriptor is closed. */
export function tunSetPersist(fd: number, on: boolean): void {
  ioctl(fd, TUNSETPERSIST, on ? 1 : 0, 'TUNSETPERSIST');
}

/** The user that may attach without CAP_NET_ADMIN. */
export function tunSetOwner(fd: number, uid: number): void {
  ioctl(fd, TUNSETOWNER, uid, 'TUNSETOWNER', String(uid));
}

function int(): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(8));
}

function word(bytes: Uint8Array<ArrayBuffer>): number {
  return new DataView(bytes.buffer).getUint32(0, true);
}

function nameIn(ifreq: Uint8Array): string {
  return Buffer.from(ifreq.subarray(0, Math.max(0, ifreq.indexOf(0)))).toString();
}
