/**
 * A network card in software: what netbe's wire functions make of a frame whose sender left checksums and
 * segmentation to it. And the shapes of frames that the tests against Linux have in common.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { completeChecksum } from '../../src/wire/checksum.js';
import { formatMac } from '../../src/wire/ethernet.js';
import { Segmenter, segmentFaultNames } from '../../src/wire/segmentation.js';
import { checkVnetHeader, OFFLOAD_ALL, vnetFaultNames } from '../../src/wire/vnet-header.js';
import { bytesKernel } from './bytes-kernel.js';
import { type FrameSpec, l4Offset } from './frames.js';
import type { Tap } from './tap.js';

export const GSO_NONE = 0;
export const GSO_TCPV4 = 1;
export const GSO_UDP = 3;
export const GSO_TCPV6 = 4;
export const GSO_UDP_L4 = 5;

/** a service tag and a customer's (802.1ad) */
export const stacked: [number, number][] = [
  [0x88a8, 100],
  [0x8100, 6],
];
export const FINAL_IP = [0x20, 1, 0xd, 0xb8, ...Array<number>(11).fill(0), 9];
/** one segment, still to go */
export const segmentRoute = { type: 43, rest: [2, 4, 1, 0, 0, 0, 0, ...FINAL_IP] };
export const hopByHop = { type: 0, rest: [0, 1, 4, 0, 0, 0, 0] };
export const destinationOptions = { type: 60, rest: [0, 1, 4, 0, 0, 0, 0] };

export const PEER_MAC = [2, 0, 0, 0, 0, 1];

export interface VnetFields {
  gsoType: number;
  gsoSize: number;
  csumStart: number;
  csumOffset: number;
}

export function vnetHeader(f: VnetFields): Buffer {
  const header = Buffer.alloc(10);
  header[0] = f.csumStart > 0 ? 1 : 0;
  header[1] = f.gsoType;
  header.writeUInt16LE(f.gsoType === GSO_NONE ? 0 : f.csumStart + 20, 2);
  header.writeUInt16LE(f.gsoSize, 4);
  header.writeUInt16LE(f.csumStart, 6);
  header.writeUInt16LE(f.csumOffset, 8);
  return header;
}

export const noOffload = Buffer.alloc(10);

export function fieldsOf(spec: FrameSpec, gsoType: number, gsoSize: number): VnetFields {
  return { gsoType, gsoSize, csumStart: l4Offset(spec), csumOffset: spec.protocol === 'tcp' ? 16 : 6 };
}

export function readFields(header: Buffer): VnetFields {
  const at = (off: number) => header.readUInt16LE(off);
  return { gsoType: header[1] as number, gsoSize: at(4), csumStart: at(6), csumOffset: at(8) };
}

/** What netbe makes of a frame for a port that takes only finished ones. */
export function finish(frame: Uint8Array, header: Buffer): Uint8Array[] {
  const u8 = new Uint8Array(200000);
  const outOff = 100000;
  const kernel = bytesKernel(u8);
  u8.set(frame);
  assert.equal(vnetFaultNames[checkVnetHeader(header, 0, frame.length, OFFLOAD_ALL)], 'ok');
  const { gsoType, gsoSize, csumStart, csumOffset } = readFields(header);
  if (gsoType === GSO_NONE) {
    if ((header[0] as number) & 1) completeChecksum(u8, kernel, 0, frame.length, csumStart, csumOffset);
    return [u8.slice(0, frame.length)];
  }
  const segmenter = new Segmenter(u8, kernel);
  const verdict = segmenter.begin(0, frame.length, gsoType, gsoSize, csumStart, csumOffset);
  assert.equal(segmentFaultNames[verdict], 'ok');
  const out: Uint8Array[] = [];
  for (let len = segmenter.next(outOff, 65600); len > 0; len = segmenter.next(outOff, 65600))
    out.push(u8.slice(outOff, outOff + len));
  return out;
}

/** Frames of `source` that arrive at `tap`, until there are `count`. Throws when they do not come. */
export async function collect(tap: Tap, source: number[], count: number): Promise<{ header: Buffer; frame: Buffer }[]> {
  const wanted = formatMac(Uint8Array.from(source));
  const out: { header: Buffer; frame: Buffer }[] = [];
  for (let tries = 0; out.length < count; ) {
    const got = tap.read();
    if (got && formatMac(got.frame, 6) === wanted) out.push(got);
    if (got) continue;
    assert.ok(++tries < 1000, `${out.length} of ${count} frames came`);
    await sleep(5);
  }
  return out;
}
