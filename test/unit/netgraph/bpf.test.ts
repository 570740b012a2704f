import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { hookprogType, hookstatType } from '../../../src/netgraph/nodes/bpf.js';
import { unparseAscii } from '../../../src/netgraph/parse/parse-type.js';
import { loadPcap } from '../../../src/sys/pcap.js';
import { GraphLab, type Probe } from '../../support/netgraph.js';
import { etherFrame } from '../../support/test-guest.js';

/** A bpf node with the hooks in, yes and no. */
function filtered(lab: GraphLab): Probe {
  const probe = lab.probe('me');
  assert.equal(probe.mkpeer('.', 'bpf', 'in', 'in'), undefined);
  for (const hook of ['yes', 'no']) assert.equal(probe.connect('.', '.:in', hook, hook), undefined);
  return probe;
}

const tell = (probe: Probe, command: string, args: string) => probe.socket.sendAscii('.:in', command, args);

function ask(probe: Probe, command: string, args: string): string {
  assert.equal(tell(probe, command, args), undefined, probe.socket.lastErrorText);
  const type = command === 'getprogram' ? hookprogType : hookstatType;
  return unparseAscii(type, probe.socket.recv()!.message.data);
}

const ipv4 = (len: number): Uint8Array => {
  const frame = etherFrame(1, 2, len);
  frame[12] = 0x08;
  frame[13] = 0x00;
  return frame;
};
const other = etherFrame(1, 2, 90);

// tcpdump -ddd ip, by hand: the type at 12 is 0x800
const isIp =
  '{ thisHook="in" ifMatch="yes" ifNotMatch="no" bpf_prog_len=4 bpf_prog=[ ' +
  '{ code=0x28 k=12 } { code=0x15 jf=1 k=2048 } { code=6 k=64 } { code=6 } ] }';

describe('bpf node', () => {
  test('drops everything until it is told what to do, and counts that', () => {
    using lab = new GraphLab();
    const probe = filtered(lab);
    probe.send('in', ipv4(60), other);
    assert.deepEqual(probe.take(), []);
    assert.equal(lab.counter('me:in', 'drop_unwanted'), 2);
    assert.equal(ask(probe, 'getprogram', '"in"'), '{ thisHook="in" bpf_prog_len=1 bpf_prog=[ { code=0x6 } ] }');
  });

  test('sends what matches one way, cut as the program says, and the rest the other; the statistics are by hook', () => {
    using lab = new GraphLab();
    const probe = filtered(lab);
    assert.equal(tell(probe, 'setprogram', isIp), undefined, probe.socket.lastErrorText);
    probe.send('in', ipv4(60), other, ipv4(100));
    assert.deepEqual(probe.seen.map(({ hook, bytes }) => `${hook} ${bytes.length}`).sort(), [
      'no 90',
      'yes 60',
      'yes 64',
    ]);
    assert.equal(
      ask(probe, 'getstats', '"in"'),
      '{ recvFrames=3 recvOctets=250 recvMatchFrames=2 recvMatchOctets=160 }',
    );
    assert.equal(ask(probe, 'getclrstats', '"yes"'), '{ xmitFrames=2 xmitOctets=124 }');
    assert.equal(ask(probe, 'getstats', '"yes"'), '{}');
    assert.equal(tell(probe, 'clrstats', '"in"'), undefined);
    assert.equal(ask(probe, 'getstats', '"in"'), '{}');
    assert.match(ask(probe, 'getprogram', '"in"'), /ifMatch="yes" ifNotMatch="no" bpf_prog_len=4/);
  });

  test('a hook that is named and not there yet gets its frames once it is', () => {
    using lab = new GraphLab();
    const probe = filtered(lab);
    assert.equal(tell(probe, 'setprogram', isIp.replace('"yes"', '"later"')), undefined);
    probe.send('in', ipv4(60));
    assert.deepEqual(probe.take(), []);
    assert.equal(probe.connect('.', '.:in', 'later', 'later'), undefined);
    probe.send('in', ipv4(60));
    assert.deepEqual(probe.counts(), { later: 1 });
  });

  test('refuses programs that are none, hooks that are not there, and other commands', () => {
    using lab = new GraphLab();
    const probe = filtered(lab);
    assert.equal(tell(probe, 'setprogram', isIp.replace('"in"', '"out"')), 'ENOENT');
    assert.equal(tell(probe, 'setprogram', isIp.replace('{ code=6 } ]', '{ code=5 } ]')), 'EINVAL');
    assert.match(probe.socket.lastErrorText, /instruction|return/);
    for (const command of ['getprogram', 'getstats', 'clrstats', 'getclrstats'])
      assert.equal(tell(probe, command, '"out"'), 'ENOENT');
    assert.equal(probe.socket.send('.:in', 944100792, 77), 'EINVAL');
    assert.equal(probe.socket.send('.:in', 944100792, 1, new Uint8Array(50)), 'EINVAL');
    assert.equal(tell(probe, 'setfilter', '{ thisHook="out" filter="ip" }'), 'ENOENT');
  });

  test('takes expressions as tcpdump does where there is libpcap, and says so where there is none', () => {
    using lab = new GraphLab();
    const probe = filtered(lab);
    const filter = '{ thisHook="in" ifMatch="yes" ifNotMatch="no" filter="ip" }';
    const error = tell(probe, 'setfilter', filter);
    if (!loadPcap()) {
      assert.equal(error, 'ENOSYS');
      assert.match(probe.socket.lastErrorText, /libpcap, which is not there.*Debian: libpcap0\.8/);
      return;
    }
    assert.equal(error, undefined, probe.socket.lastErrorText);
    probe.send('in', ipv4(60), other);
    assert.deepEqual(probe.counts(), { yes: 1, no: 1 });
    assert.equal(tell(probe, 'setfilter', filter.replace('"ip"', '"tcp prt 80"')), 'EINVAL');
    assert.match(probe.socket.lastErrorText, /tcp prt 80/);
  });
});
