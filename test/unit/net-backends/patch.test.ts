import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { Patch } from '../../../src/net-backends/patch.js';
import { openFdCount } from '../../../src/sys/fd.js';
import { VIRTIO_F_VERSION_1, VIRTIO_NET_F_MRG_RXBUF } from '../../../src/wire/virtio-features.js';
import { type TestRuntime, testRuntime } from '../../support/runtime.js';
import { etherFrame, TestGuest } from '../../support/test-guest.js';

let runtime: TestRuntime;
const closing: { close(): void }[] = [];

beforeEach(() => {
  runtime = testRuntime();
});
afterEach(() => {
  for (const c of closing.splice(0).reverse()) c.close();
  assert.deepEqual(runtime.counters.directory(), []);
  runtime.close();
});

function guest(name: string, backend: string, features?: bigint): TestGuest {
  const g = new TestGuest(runtime, { name, backend, ...(features === undefined ? {} : { features }) });
  closing.push(g);
  return g;
}

function patch(a: string, b: string): Patch {
  const p = new Patch({ runtime, name: 'patch0', a, b });
  closing.push(p);
  return p;
}

describe('a patch between two switches', () => {
  test('carries frames both ways, and each switch learns what lies behind it', () => {
    const a = guest('a', 'vale0:a');
    const b = guest('b', 'vale1:b');
    patch('vale0:up', 'vale1:up');
    a.send(etherFrame(0xff, 1, 100, 5));
    assert.deepEqual(Buffer.from(b.receive()[0]!.frame), Buffer.from(etherFrame(0xff, 1, 100, 5)));
    b.send(etherFrame(1, 2, 60));
    assert.equal(a.receive().length, 1);
    const c = guest('c', 'vale0:c');
    a.send(etherFrame(2, 1, 60));
    assert.equal(b.receive().length, 1);
    assert.equal(c.receive().length, 0);
    assert.equal(runtime.count('patch0', 'a_to_b_frames'), 2);
    assert.equal(runtime.count('patch0', 'b_to_a_bytes'), 60);
  });

  test('lets offloads cross unfinished, to be completed only for a guest that did not take them', () => {
    const offloads = VIRTIO_F_VERSION_1 | VIRTIO_NET_F_MRG_RXBUF | 3n;
    const a = guest('a', 'vale0:a', offloads);
    const b = guest('b', 'vale1:b', offloads);
    const c = guest('c', 'vale1:c');
    const p = patch('vale0:up', 'vale1:up');
    assert.equal(p.status().vnetHdrLen, 12);
    assert.equal(p.status().featuresA & 3n, 3n);
    const header = Uint8Array.of(1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 0, 0);
    a.queueFrame(etherFrame(0xff, 1, 60), header);
    a.send();
    assert.equal(b.receive()[0]!.header[0], 1);
    assert.equal(c.receive()[0]!.header[0], 0);
    assert.equal(runtime.count('vale1:up', 'tx_checksums_completed'), 1);
  });

  test('carries bursts that are larger than its buffer', () => {
    const a = guest('a', 'vale0:a');
    const b = guest('b', 'vale1:b');
    patch('vale0:up', 'vale1:up');
    // 32 frames of 64 KiB: twice the buffer; the receiver has room for what its ring and buffers hold
    a.send(...Array.from({ length: 32 }, (_, i) => etherFrame(0xff, 1, 65000, i)));
    assert.equal(runtime.count('patch0', 'a_to_b_frames'), 32);
    const got = b.receive();
    got.forEach((r, i) => {
      assert.equal(r.frame.length, 65000);
      assert.equal(r.frame[64999], i);
    });
    assert.ok(got.length >= 2);
  });
});

test('a loop of patches does not stop the fabric', () => {
  const a = guest('a', 'vale0:a');
  patch('vale0:x', 'vale0:y');
  a.send(etherFrame(0xff, 1));
  assert.ok(runtime.count('vale0:x', 'tx_drop_loop') + runtime.count('vale0:y', 'tx_drop_loop') > 0);
});

test('an end that cannot be opened leaves nothing behind', () => {
  const before = openFdCount();
  assert.throws(() => new Patch({ runtime, name: 'patch0', a: 'vale0:up', b: 'nonsense0' }), { code: 'EINVAL' });
  assert.equal(openFdCount(), before);
  assert.deepEqual(runtime.counters.directory(), []);
});
