/**
 * Ethernet frames without frame check sequence: destination, source, EtherType (IEEE 802.3 §3.2),
 * with any VLAN tags before the EtherType that counts (IEEE 802.1Q §9.6).
 */
import { be16 } from './bytes.js';

export const ETH_HDR_LEN = 14;
const MAC_LEN = 6;
/** bytes of both addresses: before the EtherType, or before a VLAN tag */
export const ETH_ADDRS_LEN = 2 * MAC_LEN;
/** bytes of a VLAN tag: TPID and TCI */
export const VLAN_TAG_LEN = 4;
/** Longest frame that anything here takes or hands over: a segment of 64 KiB and its headers. */
export const MAX_FRAME_LEN = 65536 + 64;

export const ETHERTYPE_IPV4 = 0x0800;
/** 802.1Q customer tag */
export const ETHERTYPE_VLAN = 0x8100;
/** 802.1ad service tag */
const ETHERTYPE_QINQ = 0x88a8;
/** service tag of equipment older than 802.1ad */
const ETHERTYPE_QINQ_OLD = 0x9100;
export const ETHERTYPE_IPV6 = 0x86dd;

/** More tags than any network stacks; a frame with more is opaque. */
const MAX_VLAN_TAGS = 4;

function isVlanTpid(etherType: number): boolean {
  return etherType === ETHERTYPE_VLAN || etherType === ETHERTYPE_QINQ || etherType === ETHERTYPE_QINQ_OLD;
}

/**
 * Bytes from the start of the frame to its payload, VLAN tags included, or 0 when the frame is too
 * short or has more than MAX_VLAN_TAGS. The EtherType is the two bytes before.
 */
export function etherPayloadOffset(u8: Uint8Array, off: number, len: number): number {
  let at = ETH_HDR_LEN;
  for (let tags = 0; tags <= MAX_VLAN_TAGS; tags++) {
    if (len < at) return 0;
    if (!isVlanTpid(be16(u8, off + at - 2))) return at;
    at += VLAN_TAG_LEN;
  }
  return 0;
}

/** "02:00:00:00:00:01" */
export function formatMac(u8: Uint8Array, off = 0): string {
  return Array.from(u8.subarray(off, off + MAC_LEN), (byte) => byte.toString(16).padStart(2, '0')).join(':');
}
