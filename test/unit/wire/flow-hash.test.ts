import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { FlowHasher } from '../../../src/wire/flow-hash.js';

const hasher = new FlowHasher();
const hash = (...parts: readonly (readonly number[])[]) => {
  const bytes = new Uint8Array(parts.flat());
  return hasher.hash(bytes, 0, bytes.length);
};

const macs = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
const ipv4 = (src: number[], dst: number[], protocol: number, frag = 0) => [
  ...[0x45, 0, 0, 100, 0, 0, frag >> 8, frag & 0xff, 64, protocol, 0, 0],
  ...src,
  ...dst,
];
const ports = (src: number, dst: number) => [src >> 8, src & 0xff, dst >> 8, dst & 0xff];
const a = [10, 0, 0, 1];
const b = [10, 1, 0, 1];

/** The Toeplitz hash bit by bit, over source, destination, source port, destination port. */
function naive(input: readonly number[]): number {
  const keyBit = (i: number) => ([0x50, 0x6d][(i >> 3) & 1]! >> (7 - (i & 7))) & 1;
  let out = 0;
  input.forEach((byte, at) => {
    for (let bit = 0; bit < 8; bit++) {
      if ((byte & (0x80 >> bit)) === 0) continue;
      let window = 0;
      for (let k = 0; k < 32; k++) window = window * 2 + keyBit(8 * at + bit + k);
      out ^= window;
    }
  });
  return out >>> 0;
}

test('is the Toeplitz hash of addresses and ports, the seed added to each port', () => {
  const address = fc.array(fc.integer({ min: 0, max: 255 }), { minLength: 4, maxLength: 4 });
  const port = fc.integer({ min: 0, max: 65535 });
  fc.assert(
    fc.property(address, address, port, port, fc.constantFrom(6, 17), (src, dst, sport, dport, protocol) => {
      const seeded = (p: number) => [((p + 66) >> 8) & 0xff, (p + 66) & 0xff];
      const expected = naive([...src, ...dst, ...seeded(sport), ...seeded(dport)]);
      assert.equal(hash(macs, [8, 0], ipv4(src, dst, protocol), ports(sport, dport)), expected);
    }),
  );
});

test('both directions of a flow have one hash', () => {
  const there = hash(macs, [8, 0], ipv4(a, b, 17), ports(1234, 80));
  assert.equal(hash(macs, [8, 0], ipv4(b, a, 17), ports(80, 1234)), there);
  assert.notEqual(hash(macs, [8, 0], ipv4(b, a, 17), ports(80, 1235)), there);
});

test('VLAN tags, IP in IP and GRE do not change the hash of what is in them', () => {
  const inner = [...ipv4(a, b, 6), ...ports(1, 2)];
  const plain = hash(macs, [8, 0], inner);
  assert.equal(hash(macs, [0x81, 0, 0, 5, 8, 0], inner), plain);
  assert.equal(hash(macs, [0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 8, 0], inner), plain);
  const outer = (protocol: number) => ipv4([1, 1, 1, 1], [2, 2, 2, 2], protocol);
  assert.equal(hash(macs, [8, 0], outer(4), inner), plain);
  assert.equal(hash(macs, [8, 0], outer(47), [0, 0, 8, 0], inner), plain);
  assert.equal(hash(macs, [8, 0], outer(47), [0xb0, 0, 8, 0, ...new Array(12).fill(9)], inner), plain);
  assert.equal(hash(macs, [8, 0], outer(47), [0, 0, 0x65, 0x58], macs, [8, 0], inner), plain);
});

test('every fragment of a datagram has one hash, with ports or without', () => {
  const first = hash(macs, [8, 0], ipv4(a, b, 17, 0x2000), ports(1234, 80));
  assert.equal(hash(macs, [8, 0], ipv4(a, b, 17, 0x0005), ports(7, 7)), first);
});

test('IPv6 is hashed by the first 32 bits of its addresses, and its ports behind extension headers', () => {
  const ip6 = (next: number) => [0x60, 0, 0, 0, 0, 12, next, 64, ...new Array(16).fill(1), ...new Array(16).fill(2)];
  const plain = hash(macs, [0x86, 0xdd], ip6(17), ports(5, 6));
  assert.equal(plain, hash(macs, [8, 0], ipv4([1, 1, 1, 1], [2, 2, 2, 2], 17), ports(5, 6)));
  assert.equal(hash(macs, [0x86, 0xdd], ip6(60), [17, 0, 0, 0, 0, 0, 0, 0], ports(5, 6)), plain);
});

test('what is not IP is hashed by its MAC addresses', () => {
  const arp = hash(macs, [8, 6], new Array(28).fill(0));
  assert.equal(hasher.isIp, false);
  assert.notEqual(arp, 0);
  assert.equal(hash(macs, [8, 6], new Array(28).fill(9)), arp);
  assert.notEqual(hash([...macs.slice(0, 11), 3], [8, 6], new Array(28).fill(0)), arp);
});

test('reads nothing beyond the frame, and gives 0 for less than an Ethernet header', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
      const alone = hasher.hash(bytes, 0, bytes.length);
      const among = new Uint8Array(bytes.length + 300).fill(0x45);
      among.set(bytes, 100);
      assert.equal(hasher.hash(among, 100, bytes.length), alone);
      if (bytes.length < 14) assert.equal(alone, 0);
    }),
  );
});
