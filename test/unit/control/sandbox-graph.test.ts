import assert from 'node:assert/strict';
import { test } from 'node:test';
import { graphNeeds } from '../../../src/control/sandbox-graph.js';

test('a graph of nodes that stay within it needs nothing', () => {
  assert.deepEqual(graphNeeds([]), []);
  assert.deepEqual(graphNeeds(['mkpeer bridge a link1', 'name .:a br0', 'mkpeer br0: pipe link2 lower']), []);
});

test('sockets and interfaces that commands name are left to it', () => {
  assert.equal(graphNeeds(['mkpeer br0: ksocket link9 inet/dgram/udp'])[0]?.tcp, true);
  assert.deepEqual(graphNeeds(['mkpeer br0: eiface link2 ether'])[0]?.devices, ['/dev/net/tun']);
  const kinds = graphNeeds(['mkpeer br0:link1 eiface a ether', 'mkpeer br0: ksocket b inet/dgram/udp']);
  assert.equal(kinds.length, 2);
});
