/**
 * The header that a virtio network driver puts before each frame, and what may be in it.
 *
 * Layout, flags and types: VirtIO 1.2 §5.1.6; UDP segmentation (USO) as in VirtIO 1.3. All fields
 * are little-endian (legacy drivers on little-endian guests included). What a driver must observe
 * is §5.1.6.2; `checkVnetHeader` holds it to that before anybody else looks at the frame.
 */
import { le16 } from './bytes.js';
import { ETH_HDR_LEN } from './ethernet.js';
import * as F from './virtio-features.js';

/** bytes of the header with num_buffers; before VIRTIO_F_VERSION_1, and without VIRTIO_NET_F_MRG_RXBUF, it is 10 */
export const VNET_HDR_LEN = 12;

/** Bytes of the header before a frame: none, legacy, or with num_buffers. */
export type VnetHdrLen = 0 | 10 | 12;

// offsets of the fields; num_buffers, the last one, is the device's
const FLAGS = 0;
const GSO_TYPE = 1;
const HDR_LEN = 2;
const GSO_SIZE = 4;
const CSUM_START = 6;
const CSUM_OFFSET = 8;

export const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1;
export const VIRTIO_NET_HDR_F_DATA_VALID = 2;

export const VIRTIO_NET_HDR_GSO_NONE = 0;
export const VIRTIO_NET_HDR_GSO_TCPV4 = 1;
export const VIRTIO_NET_HDR_GSO_UDP = 3;
export const VIRTIO_NET_HDR_GSO_TCPV6 = 4;
export const VIRTIO_NET_HDR_GSO_UDP_L4 = 5;
export const VIRTIO_NET_HDR_GSO_ECN = 0x80;

// What a frame asks of whoever takes it, and what a port can do: one bit each.
export const OFFLOAD_CSUM = 1;
export const OFFLOAD_TSO4 = 2;
export const OFFLOAD_TSO6 = 4;
export const OFFLOAD_ECN = 8;
export const OFFLOAD_UFO = 16;
export const OFFLOAD_USO = 32;
export const OFFLOAD_ALL = 63;

const offloadOfGsoType = [0, OFFLOAD_TSO4, -1, OFFLOAD_UFO, OFFLOAD_TSO6, OFFLOAD_USO] as const;

/** The feature bits behind each offload: of a driver that sends such frames, and of one that receives them. */
const featureBits: readonly (readonly [offload: number, host: bigint, guest: bigint])[] = [
  [OFFLOAD_CSUM, F.VIRTIO_NET_F_CSUM, F.VIRTIO_NET_F_GUEST_CSUM],
  [OFFLOAD_TSO4, F.VIRTIO_NET_F_HOST_TSO4, F.VIRTIO_NET_F_GUEST_TSO4],
  [OFFLOAD_TSO6, F.VIRTIO_NET_F_HOST_TSO6, F.VIRTIO_NET_F_GUEST_TSO6],
  [OFFLOAD_ECN, F.VIRTIO_NET_F_HOST_ECN, F.VIRTIO_NET_F_GUEST_ECN],
  [OFFLOAD_UFO, F.VIRTIO_NET_F_HOST_UFO, F.VIRTIO_NET_F_GUEST_UFO],
  // the receiving side has a bit for IPv4 and one for IPv6, offered together
  [OFFLOAD_USO, F.VIRTIO_NET_F_HOST_USO, F.VIRTIO_NET_F_GUEST_USO4 | F.VIRTIO_NET_F_GUEST_USO6],
];

/** What a driver that accepted `features` may ask for in frames that it sends (CSUM, HOST_*). */
export function sendOffloads(features: bigint): number {
  return featureBits.reduce((mask, [offload, host]) => ((features & host) === host ? mask | offload : mask), 0);
}

/** What a driver that accepted `features` takes unfinished (GUEST_*). */
export function receiveOffloads(features: bigint): number {
  return featureBits.reduce((mask, [offload, , guest]) => ((features & guest) === guest ? mask | offload : mask), 0);
}

/**
 * For two ends joined back to back, given what each can do: the features to agree on with each. What
 * one hands over unfinished (GUEST_*) the other must take (CSUM, HOST_*).
 */
export function translateOffloads(capA: bigint, capB: bigint): { featuresA: bigint; featuresB: bigint } {
  const aToB = receiveOffloads(capA) & sendOffloads(capB);
  const bToA = receiveOffloads(capB) & sendOffloads(capA);
  return { featuresA: featuresOf(bToA, aToB), featuresB: featuresOf(aToB, bToA) };
}

/** Feature bits that say: `sent` may be asked for in frames sent, `received` is taken unfinished. */
function featuresOf(sent: number, received: number): bigint {
  let features = 0n;
  for (const [offload, host, guest] of featureBits) {
    if ((sent & offload) !== 0) features |= host;
    if ((received & offload) !== 0) features |= guest;
  }
  // segmentation is of no use without the checksum that it implies
  if ((sent & OFFLOAD_CSUM) === 0) for (const [, host] of featureBits) features &= ~host;
  if ((received & OFFLOAD_CSUM) === 0) for (const [, , guest] of featureBits) features &= ~guest;
  return features;
}

/** Offloads that a checked header asks for; 0: the frame is complete as it is. */
export function neededOffloads(flags: number, gsoType: number): number {
  const gso = offloadOfGsoType[gsoType & ~VIRTIO_NET_HDR_GSO_ECN] as number;
  const ecn = gsoType & VIRTIO_NET_HDR_GSO_ECN ? OFFLOAD_ECN : 0;
  return (flags & VIRTIO_NET_HDR_F_NEEDS_CSUM ? OFFLOAD_CSUM : 0) | gso | ecn;
}

// Verdicts of checkVnetHeader: 0, or the rule that the header breaks; indexes of vnetFaultNames.
export const VNET_OK = 0;
export const VNET_BAD_GSO_TYPE = 1;
export const VNET_BAD_ECN = 2;
export const VNET_NOT_NEGOTIATED = 3;
export const VNET_BAD_CSUM_START = 4;
export const VNET_BAD_CSUM_OFFSET = 5;
export const VNET_GSO_WITHOUT_CSUM = 6;
export const VNET_BAD_GSO_SIZE = 7;
export const VNET_BAD_HDR_LEN = 8;

/** Ends of counter names ("tx_drop_" + name), by verdict. */
export const vnetFaultNames = [
  'ok',
  'vnet_gso_type',
  'vnet_ecn',
  'vnet_not_negotiated',
  'vnet_csum_start',
  'vnet_csum_offset',
  'vnet_gso_without_csum',
  'vnet_gso_size',
  'vnet_hdr_len',
] as const;

/**
 * Checks the header at `off` of a frame of `frameLen` bytes (header not counted) from a driver that
 * may ask for `offloads`. Returns VNET_OK or the first rule broken.
 *
 * Bits of `flags` that only a device sets are ignored, and so is hdr_len unless the frame is to be
 * segmented; even then it is but a hint (§5.1.6.2.2), checked for lying within the frame.
 */
export function checkVnetHeader(u8: Uint8Array, off: number, frameLen: number, offloads: number): number {
  const flags = u8[off + FLAGS] as number;
  const gsoType = u8[off + GSO_TYPE] as number;
  // the two bytes of nearly every frame of a driver without offloads
  if ((flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) === 0 && gsoType === VIRTIO_NET_HDR_GSO_NONE) return VNET_OK;

  const type = gsoType & ~VIRTIO_NET_HDR_GSO_ECN;
  if (type > VIRTIO_NET_HDR_GSO_UDP_L4 || type === 2) return VNET_BAD_GSO_TYPE;
  if (gsoType !== type && type !== VIRTIO_NET_HDR_GSO_TCPV4 && type !== VIRTIO_NET_HDR_GSO_TCPV6) return VNET_BAD_ECN;
  if ((neededOffloads(flags, gsoType) & ~offloads) !== 0) return VNET_NOT_NEGOTIATED;
  if ((flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) === 0) return VNET_GSO_WITHOUT_CSUM;

  const csumStart = le16(u8, off + CSUM_START);
  if (csumStart < ETH_HDR_LEN || csumStart >= frameLen) return VNET_BAD_CSUM_START;
  if (csumStart + le16(u8, off + CSUM_OFFSET) + 2 > frameLen) return VNET_BAD_CSUM_OFFSET;
  if (type === VIRTIO_NET_HDR_GSO_NONE) return VNET_OK;

  if (le16(u8, off + GSO_SIZE) === 0) return VNET_BAD_GSO_SIZE;
  if (le16(u8, off + HDR_LEN) > frameLen) return VNET_BAD_HDR_LEN;
  return VNET_OK;
}

/**
 * The first word of a checked header (flags, GSO type, hdr_len, as they lie in memory) as it may be passed on.
 * Of the flags only NEEDS_CSUM is a driver's to set, and hdr_len means nothing unless the frame is to
 * be segmented: whoever believes it then must not be told the guest's number.
 */
export function forwardedHeaderWord(word: number): number {
  return word & ((word & 0xff00) === 0 ? 0xff01 : ~0xfe);
}
