import assert from 'node:assert/strict';
import { test } from 'node:test';
import { etherPayloadOffset, formatMac } from '../../../src/wire/ethernet.js';

/** Two addresses, then tags of four bytes, then the EtherType. */
function frame(tpids: number[], etherType: number): Uint8Array {
  const tags = tpids.flatMap((tpid) => [tpid >> 8, tpid & 255, 0, 1]);
  return Uint8Array.from([...Array(12).fill(2), ...tags, etherType >> 8, etherType & 255]);
}

test('the payload follows the EtherType behind up to four VLAN tags of any kind', () => {
  assert.equal(etherPayloadOffset(frame([], 0x0800), 0, 14), 14);
  assert.equal(etherPayloadOffset(frame([0x8100], 0x0800), 0, 18), 18);
  assert.equal(etherPayloadOffset(frame([0x88a8, 0x8100], 0x86dd), 0, 22), 22);
  assert.equal(etherPayloadOffset(frame([0x9100, 0x88a8, 0x8100, 0x8100], 0x86dd), 0, 30), 30);
  assert.equal(etherPayloadOffset(frame([0x8100, 0x8100, 0x8100, 0x8100, 0x8100], 0x0800), 0, 34), 0);
});

test('a frame that ends within its tags has no payload', () => {
  for (let len = 0; len < 22; len++)
    assert.equal(etherPayloadOffset(frame([0x88a8, 0x8100], 0x0800), 0, len), 0, `${len} bytes`);
});

test('an address is written as six pairs of hexadecimal digits, from wherever it is', () => {
  assert.equal(formatMac(Uint8Array.of(0, 2, 0xa0, 0xff, 0, 1, 0x0a, 9), 1), '02:a0:ff:00:01:0a');
});
