import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { sockaddr } from '../../../src/netgraph/ksocket/sockaddr.js';
import { unparseAscii } from '../../../src/netgraph/parse/parse-type.js';
import { openFdCount } from '../../../src/sys/fd.js';
import { GraphLab, type Probe } from '../../support/netgraph.js';
import { etherFrame } from '../../support/test-guest.js';

/** A ksocket behind a hook of the probe. */
function ksocket(probe: Probe, hook: string, kind = 'inet/dgram/udp'): void {
  assert.equal(probe.mkpeer('.', 'ksocket', hook, kind), undefined, probe.socket.lastErrorText);
}

function tell(probe: Probe, hook: string, command: string, args = ''): string | undefined {
  return probe.socket.sendAscii(`.:${hook}`, command, args);
}

/** The address that a command answers with, in ASCII. */
function ask(probe: Probe, hook: string, command: string): string {
  assert.equal(tell(probe, hook, command), undefined, probe.socket.lastErrorText);
  return unparseAscii(sockaddr, probe.socket.recv()!.message.data);
}

function waitFor(lab: GraphLab, done: () => boolean): void {
  while (!done()) lab.runtime.mevent.dispatch(-1);
}

/** Two UDP sockets that are connected to each other. */
function tunnel(probe: Probe): void {
  for (const hook of ['a', 'b']) {
    ksocket(probe, hook);
    assert.equal(tell(probe, hook, 'bind', 'inet/127.0.0.1:0'), undefined);
  }
  assert.equal(tell(probe, 'a', 'connect', ask(probe, 'b', 'getname')), undefined);
  assert.equal(tell(probe, 'b', 'connect', ask(probe, 'a', 'getname')), undefined);
}

describe('ksocket node', () => {
  test('carries frames in UDP datagrams, bursts of them too, both ways', () => {
    using lab = new GraphLab();
    const probe = lab.probe('me');
    tunnel(probe);
    const frames = Array.from({ length: 40 }, (_, i) => etherFrame(1, i, 60 + i));
    probe.send('a', ...frames);
    waitFor(lab, () => probe.seen.length === 40);
    assert.deepEqual(
      probe.take(),
      frames.map((f) => `b ${Buffer.from(f).toString('hex')}`),
    );
    probe.send('b', etherFrame(2, 1, 9000));
    waitFor(lab, () => probe.seen.length === 1);
    assert.equal(probe.seen[0]?.bytes.length, 9000);
    assert.equal(lab.counter('me:a', 'tx_frames'), 40);
  });

  test('says its name and its peer, as it was told them', () => {
    using lab = new GraphLab();
    const probe = lab.probe('me');
    tunnel(probe);
    assert.match(ask(probe, 'a', 'getname'), /^inet\/127\.0\.0\.1:\d+$/);
    assert.equal(ask(probe, 'a', 'getpeername'), ask(probe, 'b', 'getname'));
    ksocket(probe, 'c');
    assert.equal(tell(probe, 'c', 'getpeername'), 'ENOTCONN');
  });

  test('a frame for nowhere is dropped and counted', () => {
    using lab = new GraphLab();
    const probe = lab.probe('me');
    ksocket(probe, 'a');
    probe.send('a', etherFrame(1, 2, 60));
    assert.equal(lab.counter('me:a', 'tx_drop_not_connected'), 1);
  });

  test('goes with its hook, and leaves no descriptor', () => {
    using lab = new GraphLab();
    const probe = lab.probe('me');
    const before = openFdCount();
    for (let i = 0; i < 20; i++) {
      ksocket(probe, 'a');
      lab.graph.destroyHook(probe.socket.node.findHook('a')!);
    }
    assert.equal(openFdCount(), before);
    assert.equal(lab.graph.listNodes().length, 1);
  });

  test('has one hook, which names the socket by words or numbers', () => {
    using lab = new GraphLab();
    const probe = lab.probe('me');
    for (const name of [
      'upper',
      'inet',
      'inet/dgram',
      'inet/dgram/udp/x',
      'inet/dgram/constructor',
      '//',
      'ipx/dgram/0',
    ])
      assert.equal(probe.mkpeer('.', 'ksocket', 'x', name), 'EINVAL', name);
    assert.equal(probe.mkpeer('.', 'ksocket', 'x', '28/dgram/udp'), 'EAFNOSUPPORT');
    ksocket(probe, 'a', '2/2/17');
    assert.equal(probe.connect('.', '.:a', 'y', 'inet/dgram/udp'), 'EISCONN');
  });

  test('errors of the system are its errors', () => {
    using lab = new GraphLab();
    const probe = lab.probe('me');
    ksocket(probe, 'a');
    ksocket(probe, 'b');
    assert.equal(tell(probe, 'a', 'bind', 'inet/127.0.0.1:0'), undefined);
    assert.equal(tell(probe, 'b', 'bind', ask(probe, 'a', 'getname')), 'EADDRINUSE');
    assert.equal(tell(probe, 'b', 'bind', 'inet/192.0.2.1:1'), 'EADDRNOTAVAIL');
    for (const bad of ['inet/1.2.3', 'inet/1.2.3.256:1', 'inet/1.2.3.4:65536', 'ipx/1', '{ len=16 family=28 }'])
      assert.equal(tell(probe, 'b', 'connect', bad), 'EINVAL', bad);
    assert.equal(probe.socket.send('.:a', 942710669, 99), 'EINVAL');
    assert.equal(probe.socket.send('.:a', 942710669, 1, Uint8Array.of(200, 2)), 'EINVAL');
    assert.equal(tell(probe, 'a', 'listen', '5'), 'EOPNOTSUPP');
  });

  test('addresses of other families have the general form, both ways', () => {
    using lab = new GraphLab();
    const probe = lab.probe('me');
    ksocket(probe, 'a');
    assert.equal(tell(probe, 'a', 'bind', '{ len=16 family=2 data=[ 0 0 127 0 0 1 ] }'), undefined);
    assert.match(ask(probe, 'a', 'getname'), /^inet\/127\.0\.0\.1:\d+$/);
    assert.equal(unparseAscii(sockaddr, Uint8Array.of(4, 28, 1, 2)), '{ len=4 family=28 data=[ 0x1 0x2 ] }');
  });

  test('options have the numbers of FreeBSD', () => {
    using lab = new GraphLab();
    const probe = lab.probe('me');
    ksocket(probe, 'a');
    assert.equal(tell(probe, 'a', 'setopt', '{ level=0xffff name=4 value=[ 1 ] }'), undefined);
    assert.equal(tell(probe, 'a', 'getopt', '{ level=0xffff name=4 }'), undefined);
    assert.deepEqual([...probe.socket.recv()!.message.data.subarray(8)], [1, 0, 0, 0]);
    assert.equal(tell(probe, 'a', 'setopt', '{ level=9 name=9 value=[ 1 ] }'), 'EINVAL');
    assert.match(probe.socket.lastErrorText, /SO_REUSEADDR \(level 65535, name 4\)/);
  });

  test('a TCP connection is accepted as a node of its own, at once or when it comes', () => {
    using lab = new GraphLab();
    const probe = lab.probe('me');
    ksocket(probe, 'server', 'inet/stream/tcp');
    assert.equal(tell(probe, 'server', 'bind', 'inet/127.0.0.1:0'), undefined);
    assert.equal(tell(probe, 'server', 'listen', '5'), undefined);
    assert.equal(tell(probe, 'server', 'accept'), 'EINPROGRESS');
    assert.equal(tell(probe, 'server', 'accept'), 'EALREADY');
    ksocket(probe, 'client', 'inet/stream/tcp');
    const connecting = tell(probe, 'client', 'connect', ask(probe, 'server', 'getname'));
    assert.ok(connecting === undefined || connecting === 'EINPROGRESS');
    let accepted = 0;
    waitFor(lab, () => {
      for (let got = probe.socket.recv(); got !== undefined; got = probe.socket.recv())
        if (got.message.cmd === 3) accepted = new DataView(got.message.data.buffer).getUint32(0, true);
      return accepted > 0;
    });
    assert.equal(probe.connect('.', `[${accepted.toString(16)}]:`, 'taken', 'x'), undefined);
    probe.send('client', Buffer.from('hello'));
    waitFor(lab, () => probe.seen.length > 0);
    assert.deepEqual(probe.take(), [`taken ${Buffer.from('hello').toString('hex')}`]);
  });

  test('datagrams between two unix sockets', () => {
    using lab = new GraphLab();
    const dir = mkdtempSync(join(tmpdir(), 'netbe-ksocket-'));
    try {
      const probe = lab.probe('me');
      for (const hook of ['a', 'b']) {
        ksocket(probe, hook, 'local/dgram/0');
        assert.equal(tell(probe, hook, 'bind', `local/"${dir}/${hook}"`), undefined);
      }
      assert.equal(tell(probe, 'a', 'connect', `local/"${dir}/b"`), undefined);
      assert.equal(ask(probe, 'a', 'getpeername'), `local/"${dir}/b"`);
      probe.send('a', etherFrame(1, 2, 77));
      waitFor(lab, () => probe.seen.length > 0);
      assert.equal(probe.seen[0]?.bytes.length, 77);
    } finally {
      rmSync(dir, { recursive: true });
    }
  });
});
