import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ipv4HeaderLen, isIpv4Fragment } from '../../../src/wire/ipv4.js';
import { Ipv6Headers } from '../../../src/wire/ipv6.js';
import { tcpHeaderLen } from '../../../src/wire/tcp.js';
import { type FrameSpec, ipv4Header, ipv6Header, l4Bytes } from '../../support/frames.js';

const udp: FrameSpec = { ip: 4, protocol: 'udp', payload: [] };

test('an IPv4 header counts only if its version, length field and bytes agree', () => {
  const header = Uint8Array.from(ipv4Header({ ...udp, options: [1, 1, 1, 0] }, 0));
  assert.equal(ipv4HeaderLen(header, 0, 24), 24);
  assert.equal(ipv4HeaderLen(header, 0, 23), 0);
  assert.equal(ipv4HeaderLen(header, 0, 19), 0);
  header[0] = 0x44;
  assert.equal(ipv4HeaderLen(header, 0, 24), 0, 'shorter than 20 bytes');
  header[0] = 0x66;
  assert.equal(ipv4HeaderLen(header, 0, 24), 0, 'version 6');
});

test('more fragments, or an offset, make a fragment; "do not fragment" does not', () => {
  const isFragment = (frag: number) => isIpv4Fragment(Uint8Array.from(ipv4Header({ ...udp, frag }, 0)), 0);
  assert.equal(isFragment(0x4000), false);
  assert.equal(isFragment(0x2000), true);
  assert.equal(isFragment(0x0001), true);
});

test('a TCP header counts only if its length field and bytes agree', () => {
  const header = Uint8Array.from(l4Bytes({ ip: 4, protocol: 'tcp', payload: [], tcpOptions: [1, 1, 1, 0] }));
  assert.equal(tcpHeaderLen(header, 0, 24), 24);
  assert.equal(tcpHeaderLen(header, 0, 23), 0);
  header[12] = 0x40;
  assert.equal(tcpHeaderLen(header, 0, 24), 0, 'shorter than 20 bytes');
});

/** An extension header of 8 bytes, or of 8 * units. */
function extension(type: number, units = 1): { type: number; rest: number[] } {
  return { type, rest: [units - 1, ...Array(units * 8 - 2).fill(0)] };
}

function parse(extensions: { type: number; rest: number[] }[], cut = 0): Ipv6Headers | undefined {
  const bytes = Uint8Array.from(ipv6Header({ ip: 6, protocol: 'udp', payload: [], extensions }, 0));
  const headers = new Ipv6Headers();
  return headers.parse(bytes, 0, bytes.length - cut) ? headers : undefined;
}

test('extension headers are walked to the first other protocol', () => {
  const headers = parse([extension(0), extension(60, 2), extension(43), { type: 51, rest: [4, ...Array(22).fill(0)] }]);
  assert.equal(headers?.protocol, 17);
  assert.equal(headers?.length, 40 + 8 + 16 + 8 + 24);
});

test('fragments repeat the headers up to the last Routing or the Hop-by-Hop header', () => {
  assert.equal(parse([])?.unfragmentableLen, 40);
  assert.equal(parse([])?.lastNextHeader, 6);
  assert.equal(parse([extension(0)])?.unfragmentableLen, 48);
  assert.equal(parse([extension(0)])?.lastNextHeader, 40);
  assert.equal(parse([extension(0), extension(60), extension(43), extension(60)])?.unfragmentableLen, 64);
  assert.equal(parse([extension(60)])?.unfragmentableLen, 40);
});

test('a Routing header with segments left has the final destination, where its kind is known', () => {
  const routing = (kind: number, addresses: number, left = 1) =>
    parse([extension(0), { type: 43, rest: [addresses * 2, kind, left, ...Array(4 + addresses * 16).fill(0)] }]);
  assert.equal(routing(0, 3)?.destination, 48 + 8 + 32, 'a source route: the last address');
  assert.equal(routing(2, 1)?.destination, 48 + 8, 'Mobile IPv6');
  assert.equal(routing(4, 3, 2)?.destination, 48 + 8, 'segments: the first in the list is the last of the way');
  assert.equal(routing(4, 3, 0)?.destination, 24, 'no segment left: the way has been gone');
  assert.equal(routing(3, 2)?.isRouted, true, 'RPL has compressed addresses');
  assert.equal(routing(4, 0)?.isRouted, true, 'no room for an address');
  assert.equal(routing(4, 3)?.isRouted, false);
});

test('a Fragment header is seen', () => {
  assert.equal(parse([extension(44)])?.isFragment, true);
  const plain = parse([extension(43)]);
  assert.equal(plain?.isRouted, false);
  assert.equal(plain?.isFragment, false);
});

test('a chain that is cut short or too long is refused', () => {
  assert.equal(parse([extension(0)], 1), undefined);
  assert.equal(parse([extension(60, 5)], 1), undefined);
  assert.equal(parse([], 1), undefined);
  assert.notEqual(parse(Array(8).fill(extension(60))), undefined);
  assert.equal(parse(Array(9).fill(extension(60))), undefined);
});
