/**
 * What a big frame should become, built from its description rather than cut from its bytes: the
 * oracle of the segmentation tests.
 */
import { buildFrame, etherHeader, type FrameSpec, ipv4Header, ipv6Header, l4Bytes, u16, u32 } from './frames.js';

function slices(bytes: number[], step: number): number[][] {
  const out: number[][] = [];
  for (let at = 0; at === 0 || at < bytes.length; at += step) out.push(bytes.slice(at, at + step));
  return out;
}

const FIN_PSH = 0x01 | 0x08;
const CWR = 0x80;

/** TCP segments (TSO) or UDP datagrams (USO). */
export function naiveSegments(spec: FrameSpec, gsoSize: number): number[][] {
  const parts = slices(spec.payload, gsoSize);
  return parts.map((payload, i) => {
    let tcpFlags = spec.tcpFlags ?? 0x10;
    if (i < parts.length - 1) tcpFlags &= ~FIN_PSH;
    if (i > 0) tcpFlags &= ~CWR;
    const id = ((spec.id ?? 0) + i) % 65536;
    const seq = ((spec.seq ?? 0) + i * gsoSize) % 2 ** 32;
    return buildFrame({ ...spec, partialChecksum: false, payload, id, seq, tcpFlags });
  });
}

/** IPv4 fragments of one datagram; `laterOptions` are those of fragments after the first. */
export function naiveFragments4(spec: FrameSpec, gsoSize: number, laterOptions = spec.options): number[][] {
  const parts = slices(l4Bytes({ ...spec, partialChecksum: false }), gsoSize - (gsoSize % 8));
  let offset = 0;
  return parts.map((part, i) => {
    const frag = parts.length === 1 ? spec.frag : offset / 8 + (i < parts.length - 1 ? 0x2000 : 0);
    offset += part.length;
    const header = ipv4Header({ ...spec, frag, options: i === 0 ? spec.options : laterOptions }, part.length);
    return [...etherHeader(spec), ...header, ...part];
  });
}

/**
 * IPv6 fragments of one datagram with identification `id`. The first `unfragmentable` of the
 * extension headers are repeated, the others are divided with the datagram.
 */
export function naiveFragments6(spec: FrameSpec, gsoSize: number, unfragmentable: number, id: number): number[][] {
  const extensions = spec.extensions ?? [];
  const repeated = extensions.slice(0, unfragmentable);
  const divided = extensions.slice(unfragmentable);
  const types = [...divided.map((e) => e.type), 17];
  const chain = divided.flatMap((e, i) => [types[i + 1] as number, ...e.rest]);
  const parts = slices([...chain, ...l4Bytes({ ...spec, partialChecksum: false })], gsoSize - (gsoSize % 8));
  let offset = 0;
  return parts.map((part, i) => {
    const fragmentHeader = [types[0] as number, 0, ...u16(offset + (i < parts.length - 1 ? 1 : 0)), ...u32(id)];
    offset += part.length;
    const header = ipv6Header({ ...spec, extensions: repeated }, part.length + 8, 44);
    return [...etherHeader(spec), ...header, ...fragmentHeader, ...part];
  });
}
