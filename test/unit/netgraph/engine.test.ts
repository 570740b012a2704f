import assert from 'node:assert/strict';
import { test } from 'node:test';
import { GraphLab } from '../../support/netgraph.js';

test('a hub sends what comes in out of all other hooks', () => {
  using lab = new GraphLab();
  const probe = lab.probe('p');
  assert.equal(probe.mkpeer('.:', 'hub', 'a', 'x'), undefined);
  assert.equal(probe.connect('.:', '.:a', 'b', 'y'), undefined);
  assert.equal(probe.connect('.:', '.:a', 'c', 'z'), undefined);
  probe.send('a', Buffer.from([1, 2, 3]));
  assert.deepEqual(probe.take().sort(), ['b 010203', 'c 010203']);
});

test('two hubs crossed drop what goes round, count it, and go on', () => {
  using lab = new GraphLab();
  const probe = lab.probe('p');
  probe.mkpeer('.:', 'hub', 'a', 'in');
  probe.mkpeer('.:a', 'hub', 'x1', 'x1');
  probe.connect('.:a', 'x1', 'x2', 'x2');
  probe.connect('.:a', 'x1', 'x3', 'x3');
  probe.connect('.:', '.:a.x1', 'b', 'out');
  probe.send('a', Buffer.from([1]));
  const first = probe.take();
  assert(first.length > 0 && first.length < 10_000);
  assert(lab.counter('p:a', 'drop_loop') + lab.counter('p:a.x1', 'drop_loop') > 0);
  probe.send('a', Buffer.from([2]));
  assert(probe.take().includes('b 02'));
});
