import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  checkVnetHeader,
  neededOffloads,
  OFFLOAD_ALL,
  OFFLOAD_CSUM,
  OFFLOAD_ECN,
  OFFLOAD_TSO4,
  OFFLOAD_TSO6,
  OFFLOAD_UFO,
  OFFLOAD_USO,
  receiveOffloads,
  sendOffloads,
  vnetFaultNames,
} from '../../../src/wire/vnet-header.js';

interface Fields {
  flags?: number;
  gsoType?: number;
  hdrLen?: number;
  gsoSize?: number;
  csumStart?: number;
  csumOffset?: number;
}

function header(f: Fields): Uint8Array {
  const u8 = new Uint8Array(12);
  const view = new DataView(u8.buffer);
  u8[0] = f.flags ?? 0;
  u8[1] = f.gsoType ?? 0;
  view.setUint16(2, f.hdrLen ?? 0, true);
  view.setUint16(4, f.gsoSize ?? 0, true);
  view.setUint16(6, f.csumStart ?? 0, true);
  view.setUint16(8, f.csumOffset ?? 0, true);
  return u8;
}

const tso4: Fields = { flags: 1, gsoType: 1, hdrLen: 54, gsoSize: 1448, csumStart: 34, csumOffset: 16 };
const FRAME_LEN = 3000;

function verdict(fields: Fields, frameLen = FRAME_LEN, offloads = OFFLOAD_ALL): string | undefined {
  return vnetFaultNames[checkVnetHeader(header(fields), 0, frameLen, offloads)];
}

test('a header without requests passes, whatever else is in it', () => {
  assert.equal(verdict({}), 'ok');
  assert.equal(verdict({ flags: 2, hdrLen: 65535, gsoSize: 9, csumStart: 65535, csumOffset: 65535 }, 14, 0), 'ok');
});

test('the checksum field must end within the frame, to the byte', () => {
  const fields: Fields = { flags: 1, csumStart: 34, csumOffset: 6 };
  assert.equal(verdict(fields, 42), 'ok');
  assert.equal(verdict(fields, 41), 'vnet_csum_offset');
  assert.equal(verdict({ ...fields, csumOffset: 65535 }), 'vnet_csum_offset');
});

test('the checksum must start behind the Ethernet header and within the frame', () => {
  assert.equal(verdict({ flags: 1, csumStart: 14, csumOffset: 0 }), 'ok');
  assert.equal(verdict({ flags: 1, csumStart: 13, csumOffset: 6 }), 'vnet_csum_start');
  assert.equal(verdict({ flags: 1, csumStart: FRAME_LEN, csumOffset: 0 }), 'vnet_csum_start');
  assert.equal(verdict({ flags: 1, csumStart: 65535, csumOffset: 0 }), 'vnet_csum_start');
});

test('types of segmentation other than those of the specification are refused', () => {
  for (const type of [1, 3, 4, 5]) assert.equal(verdict({ ...tso4, gsoType: type }), 'ok', `type ${type}`);
  for (const type of [2, 6, 7, 0x7f])
    assert.equal(verdict({ ...tso4, gsoType: type }), 'vnet_gso_type', `type ${type}`);
});

test('the ECN bit goes with TCP only', () => {
  assert.equal(verdict({ ...tso4, gsoType: 0x81 }), 'ok');
  assert.equal(verdict({ ...tso4, gsoType: 0x84 }), 'ok');
  for (const type of [0x80, 0x83, 0x85]) assert.equal(verdict({ ...tso4, gsoType: type }), 'vnet_ecn');
});

test('segmentation needs a checksum, a size, and a header within the frame', () => {
  assert.equal(verdict({ ...tso4, flags: 0 }), 'vnet_gso_without_csum');
  assert.equal(verdict({ ...tso4, gsoSize: 0 }), 'vnet_gso_size');
  assert.equal(verdict({ ...tso4, hdrLen: FRAME_LEN }), 'ok');
  assert.equal(verdict({ ...tso4, hdrLen: FRAME_LEN + 1 }), 'vnet_hdr_len');
});

test('what was not negotiated is refused', () => {
  assert.equal(verdict(tso4, FRAME_LEN, OFFLOAD_CSUM | OFFLOAD_TSO6), 'vnet_not_negotiated');
  assert.equal(verdict({ flags: 1, csumStart: 34, csumOffset: 6 }, FRAME_LEN, 0), 'vnet_not_negotiated');
  assert.equal(verdict({ ...tso4, gsoType: 0x81 }, FRAME_LEN, OFFLOAD_CSUM | OFFLOAD_TSO4), 'vnet_not_negotiated');
});

test('a header that passes points nowhere outside the frame', () => {
  const u16 = fc.oneof(fc.nat(100), fc.nat(65535));
  const fields = fc.record({
    flags: fc.nat(7),
    gsoType: fc.nat(255),
    hdrLen: u16,
    gsoSize: u16,
    csumStart: u16,
    csumOffset: u16,
  });
  fc.assert(
    fc.property(fields, fc.nat(200), (f, frameLen) => {
      if (verdict(f, frameLen) !== 'ok') return;
      if (f.flags & 1) assert.ok(f.csumStart >= 14 && f.csumStart + f.csumOffset + 2 <= frameLen);
      if (f.gsoType !== 0) assert.ok(f.gsoSize > 0 && f.hdrLen <= frameLen && f.flags & 1);
    }),
    { numRuns: 2000 },
  );
});

test('each feature bit of a driver is one offload', () => {
  const bit = (n: number) => 1n << BigInt(n);
  assert.equal(sendOffloads(0n), 0);
  assert.equal(sendOffloads(bit(0) | bit(11)), OFFLOAD_CSUM | OFFLOAD_TSO4);
  assert.equal(
    sendOffloads(bit(12) | bit(13) | bit(14) | bit(56)),
    OFFLOAD_TSO6 | OFFLOAD_ECN | OFFLOAD_UFO | OFFLOAD_USO,
  );
  assert.equal(receiveOffloads(bit(1) | bit(7)), OFFLOAD_CSUM | OFFLOAD_TSO4);
  assert.equal(receiveOffloads(bit(8) | bit(9) | bit(10)), OFFLOAD_TSO6 | OFFLOAD_ECN | OFFLOAD_UFO);
  assert.equal(receiveOffloads(bit(54)), 0, 'USO for IPv4 alone is not enough');
  assert.equal(receiveOffloads(bit(54) | bit(55)), OFFLOAD_USO);
});

test('a frame needs what its header asks for', () => {
  assert.equal(neededOffloads(0, 0), 0);
  assert.equal(neededOffloads(2, 0), 0);
  assert.equal(neededOffloads(1, 0), OFFLOAD_CSUM);
  assert.equal(neededOffloads(1, 0x81), OFFLOAD_CSUM | OFFLOAD_TSO4 | OFFLOAD_ECN);
  assert.equal(neededOffloads(1, 3), OFFLOAD_CSUM | OFFLOAD_UFO);
  assert.equal(neededOffloads(1, 4), OFFLOAD_CSUM | OFFLOAD_TSO6);
  assert.equal(neededOffloads(1, 5), OFFLOAD_CSUM | OFFLOAD_USO);
});
