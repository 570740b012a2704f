import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  etherPayloadOffset,
  formatMac,
  isBroadcast,
  isMulticast,
  isZeroMac,
  parseMac,
} from '../../../src/wire/ethernet.js';

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

test('the group bit is the lowest of the first byte', () => {
  assert.equal(isMulticast(parseMac('01:00:5e:00:00:01'), 0), true);
  assert.equal(isMulticast(parseMac('ff:ff:ff:ff:ff:ff'), 0), true);
  assert.equal(isMulticast(parseMac('02:ff:ff:ff:ff:ff'), 0), false);
});

test('broadcast is all ones, and the zero address all zeros', () => {
  assert.equal(isBroadcast(parseMac('ff:ff:ff:ff:ff:ff'), 0), true);
  assert.equal(isBroadcast(parseMac('ff:ff:ff:ff:ff:fe'), 0), false);
  assert.equal(isZeroMac(parseMac('00:00:00:00:00:00'), 0), true);
  assert.equal(isZeroMac(parseMac('00:00:00:00:00:01'), 0), false);
});

test('a MAC address reads back as it was written', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 6, maxLength: 6 }), (mac) => {
      assert.deepEqual(parseMac(formatMac(mac)), mac);
      assert.deepEqual(parseMac(formatMac(mac).replaceAll(':', '-').toUpperCase()), mac);
    }),
  );
});

test('anything else is refused with the value and how to write it', () => {
  for (const text of [
    '',
    '02:00:00:00:00',
    '02:00:00:00:00:0g',
    '020000000001',
    '02:00:00:00:00:01:02',
    ' 02:00:00:00:00:01',
  ])
    assert.throws(() => parseMac(text, 'nic0'), {
      code: 'EINVAL',
      kind: 'usage',
      subject: 'nic0',
      message: `"${text}" is not a MAC address`,
    });
});
