import assert from 'node:assert/strict';
import { test } from 'node:test';
import { knownProtocols, orphansFilter } from '../../../src/netmap/host/orphans.js';
import { encode } from '../../../src/sys/bpf-assembler.js';

const ptype = `Type Device      Function
ALL           tpacket_rcv
ALL  em0      packet_rcv
0800          ip_rcv
0004          llc_rcv
88cc em0      packet_rcv
88f7 em1      packet_rcv
86dd          ipv6_rcv
`;

test('protocols are known that anybody takes from every interface, or from this one; who takes all knows none', () => {
  assert.deepEqual(knownProtocols(ptype, 'em0'), [0x0800, 4, 0x88cc, 0x86dd]);
  assert.deepEqual(knownProtocols(ptype, 'em1'), [0x0800, 4, 0x88f7, 0x86dd]);
  assert.deepEqual(knownProtocols('', 'em0'), []);
});

test('the filter stays within what the kernel takes, however many protocols there are', () => {
  const all = Array.from({ length: 1000 }, (_, i) => 0x600 + i);
  for (const fromHostRings of [false, true]) assert.ok(encode(orphansFilter(all, fromHostRings)).length <= 4096 * 8);
});
