/**
 * Builds Ethernet frames from a description, slowly and obviously: the oracle of the wire tests, and
 * the source of frames for others. Shares no code with src/wire.
 */

export interface FrameSpec {
  destination?: number[];
  source?: number[];
  /** [TPID, TCI] from the outermost on */
  vlans?: [number, number][];
  ip: 4 | 6;
  sourceIp?: number[];
  destinationIp?: number[];
  /** identification (IPv4) */
  id?: number;
  /** flags and fragment offset (IPv4) */
  frag?: number;
  /** IPv4 options, a multiple of 4 bytes */
  options?: number[];
  /** IPv6 extension headers from the first on, without their Next Header byte */
  extensions?: { type: number; rest: number[] }[];
  /** where those lead (IPv6), if not to the destination address: what checksums cover */
  finalIp?: number[];
  protocol: 'tcp' | 'udp';
  sourcePort?: number;
  destinationPort?: number;
  seq?: number;
  tcpFlags?: number;
  /** TCP options, a multiple of 4 bytes */
  tcpOptions?: number[];
  payload: number[];
  /** true: only the pseudo header's sum is in the checksum field, as a driver with offloads leaves it */
  partialChecksum?: boolean;
}

export function u16(value: number): number[] {
  return [(value >> 8) & 255, value & 255];
}

export function u32(value: number): number[] {
  return [...u16(Math.floor(value / 65536)), ...u16(value % 65536)];
}

/** RFC 1071 by the book: big-endian words, one at a time, not complemented. */
export function naiveSum(bytes: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    sum += (bytes[i] as number) * 256 + (bytes[i + 1] ?? 0);
    if (sum > 0xffff) sum -= 0xffff;
  }
  return sum;
}

function complement(sum: number): number {
  return 0xffff - sum;
}

export function defaultAddress(ip: 4 | 6, host: number): number[] {
  return ip === 4 ? [10, 0, 0, host] : [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host];
}

function addresses(spec: FrameSpec): number[] {
  return [...(spec.sourceIp ?? defaultAddress(spec.ip, 1)), ...(spec.destinationIp ?? defaultAddress(spec.ip, 2))];
}

export function pseudoHeader(described: FrameSpec, l4Len: number): number[] {
  const spec = { ...described, destinationIp: described.finalIp ?? described.destinationIp };
  const protocol = spec.protocol === 'tcp' ? 6 : 17;
  return spec.ip === 4
    ? [...addresses(spec), 0, protocol, ...u16(l4Len)]
    : [...addresses(spec), ...u32(l4Len), 0, 0, 0, protocol];
}

function tcpHeader(spec: FrameSpec, checksum: number): number[] {
  const options = spec.tcpOptions ?? [];
  return [
    ...u16(spec.sourcePort ?? 1000),
    ...u16(spec.destinationPort ?? 2000),
    ...u32(spec.seq ?? 0),
    ...u32(0x01020304),
    ((20 + options.length) / 4) << 4,
    spec.tcpFlags ?? 0x10,
    ...u16(0xffff),
    ...u16(checksum),
    ...u16(0),
    ...options,
  ];
}

function udpHeader(spec: FrameSpec, checksum: number): number[] {
  const len = 8 + spec.payload.length;
  return [...u16(spec.sourcePort ?? 1000), ...u16(spec.destinationPort ?? 2000), ...u16(len), ...u16(checksum)];
}

/** TCP or UDP header and payload, with its checksum. */
export function l4Bytes(spec: FrameSpec): number[] {
  const header = spec.protocol === 'tcp' ? tcpHeader : udpHeader;
  const open = [...header(spec, 0), ...spec.payload];
  const pseudo = naiveSum(pseudoHeader(spec, open.length));
  if (spec.partialChecksum) return [...header(spec, pseudo), ...spec.payload];
  const checksum = complement(naiveSum([...pseudoHeader(spec, open.length), ...open]));
  return [...header(spec, checksum === 0 ? 0xffff : checksum), ...spec.payload];
}

export function ipv4Header(spec: FrameSpec, bodyLen: number): number[] {
  const options = spec.options ?? [];
  const hdrLen = 20 + options.length;
  const withChecksum = (checksum: number): number[] => [
    0x40 + hdrLen / 4,
    0,
    ...u16(hdrLen + bodyLen),
    ...u16(spec.id ?? 0),
    ...u16(spec.frag ?? 0),
    64,
    spec.protocol === 'tcp' ? 6 : 17,
    ...u16(checksum),
    ...addresses(spec),
    ...options,
  ];
  return withChecksum(complement(naiveSum(withChecksum(0))));
}

export function ipv6Header(spec: FrameSpec, bodyLen: number, protocol = spec.protocol === 'tcp' ? 6 : 17): number[] {
  const extensions = spec.extensions ?? [];
  const types = [...extensions.map((e) => e.type), protocol];
  const chain = extensions.flatMap((e, i) => [types[i + 1] as number, ...e.rest]);
  return [0x60, 0, 0, 0, ...u16(chain.length + bodyLen), types[0] as number, 64, ...addresses(spec), ...chain];
}

export function etherHeader(spec: FrameSpec): number[] {
  return [
    ...(spec.destination ?? [2, 0, 0, 0, 0, 2]),
    ...(spec.source ?? [2, 0, 0, 0, 0, 1]),
    ...(spec.vlans ?? []).flatMap(([tpid, tci]) => [...u16(tpid), ...u16(tci)]),
    ...u16(spec.ip === 4 ? 0x0800 : 0x86dd),
  ];
}

export function buildFrame(spec: FrameSpec): number[] {
  const body = l4Bytes(spec);
  const ip = spec.ip === 4 ? ipv4Header(spec, body.length) : ipv6Header(spec, body.length);
  return [...etherHeader(spec), ...ip, ...body];
}

/** Bytes before the TCP or UDP header. */
export function l4Offset(spec: FrameSpec): number {
  const ip = spec.ip === 4 ? ipv4Header(spec, 0) : ipv6Header(spec, 0);
  return etherHeader(spec).length + ip.length;
}

export function pattern(length: number, seed = 1): number[] {
  return Array.from({ length }, (_, i) => (i * 7 + (i >> 8) * 13 + seed) & 255);
}
