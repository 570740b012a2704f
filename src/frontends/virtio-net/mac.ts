/** Checks of the MAC address and MTU of a NIC, and the frame that announces an address. */
import { usageError } from '../../errors.js';
import { Iovec } from '../../memory/iovec.js';
import type { Mapping, WindowPool } from '../../memory/window.js';
import { formatMac } from '../../wire/ethernet.js';

const RARP_FRAME_LEN = 60;

/** Throws a usage error unless `mac` is 6 bytes, unicast and not zero (bhyve's rule). */
export function checkMac(mac: Uint8Array): void {
  const text = formatMac(mac);
  if (mac.length !== 6) throw usageError(`MAC address ${text} has ${mac.length} bytes: it must have 6`, text);
  if ((mac[0]! & 1) !== 0)
    throw usageError(`MAC address ${text} is a multicast address: a NIC's must be unicast`, text);
  if (mac.every((b) => b === 0)) throw usageError(`MAC address ${text} is all zero`, text);
}

/** VirtIO 1.2 §5.1.4.1: a device offers no less than 68. */
export function checkMtu(mtu: number): void {
  if (!Number.isInteger(mtu) || mtu < 68 || mtu > 65535)
    throw usageError(`MTU ${mtu} is out of range: allowed are 68 to 65535`, `mtu=${mtu}`);
}

/**
 * A reverse ARP request for one's own address (RFC 903), broadcast behind `hdrLen` zero bytes: what a
 * hypervisor asks for after a migration, so that switches learn the new place. The caller closes the mapping.
 */
export function announcement(pool: WindowPool, mac: Uint8Array, hdrLen: number): { iov: Iovec; mapping: Mapping } {
  const mapping = pool.mapAnonymous(hdrLen + RARP_FRAME_LEN);
  const { u8 } = mapping.window;
  const at = mapping.off + hdrLen;
  u8.fill(0xff, at, at + 6);
  u8.set(mac, at + 6);
  // EtherType RARP; hardware Ethernet, protocol IPv4, their lengths, operation "request reverse"
  u8.set([0x80, 0x35, 0, 1, 8, 0, 6, 4, 0, 3], at + 12);
  u8.set(mac, at + 22);
  u8.set(mac, at + 32);
  const iov = new Iovec(1);
  iov.push(mapping.window.index, mapping.off, hdrLen + RARP_FRAME_LEN);
  return { iov, mapping };
}
