import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { GraphLab, type Probe } from '../../../support/netgraph.js';

function patch(lab: GraphLab): Probe {
  const probe = lab.probe('p');
  lab.ngctl('mkpeer p: patch in in');
  lab.ngctl('name p:in n');
  lab.ngctl('connect p: n: out out');
  return probe;
}
const configure = (lab: GraphLab, ops: string[], more = '') =>
  lab.ngctl(`msg n: setconfig { count=${ops.length} ${more} ops=[ ${ops.map((op) => `{ ${op} }`).join(' ')} ] }`);

/** What an operation makes of a value, by the rules of unsigned arithmetic. */
function naive(mode: number, bits: bigint, value: bigint, operand: bigint): bigint {
  const shift = operand >= bits;
  const results = [
    operand,
    value + operand,
    value - operand,
    value * operand,
    operand === 0n ? 0n : value / operand,
    -value,
    value & operand,
    value | operand,
    value ^ operand,
    shift ? 0n : value << operand,
    shift ? 0n : value >> operand,
  ];
  return BigInt.asUintN(Number(bits), results[mode - 1] as bigint);
}

describe('patch', () => {
  test('changes integers in network byte order as arithmetic does', () => {
    using lab = new GraphLab();
    const probe = patch(lab);
    const op = fc.record({
      length: fc.constantFrom(1, 2, 4, 8),
      mode: fc.integer({ min: 1, max: 11 }),
      value: fc.oneof(fc.bigInt(0n, 2n ** 64n - 1n), fc.bigInt(0n, 70n)),
      frame: fc.uint8Array({ minLength: 12, maxLength: 12 }),
    });
    fc.assert(
      fc.property(op, ({ length, mode, value, frame }) => {
        const bits = BigInt(8 * length);
        const operand = BigInt.asUintN(Number(bits), value);
        fc.pre(mode !== 5 || operand !== 0n);
        configure(lab, [`offset=2 length=${length} mode=${mode} value=${value}`]);
        probe.send('in', frame);
        const bytes = Buffer.from(frame);
        const before = BigInt(`0x${bytes.subarray(2, 2 + length).toString('hex')}`);
        const after = naive(mode, bits, before, operand)
          .toString(16)
          .padStart(2 * length, '0');
        bytes.set(Buffer.from(after, 'hex'), 2);
        assert.deepEqual(probe.take(), [`out ${bytes.toString('hex')}`]);
      }),
      { numRuns: 300 },
    );
  });

  test('several operations in order; those beyond the end are left out', () => {
    using lab = new GraphLab();
    const probe = patch(lab);
    configure(lab, [
      'offset=0 length=1 mode=2 value=1',
      'offset=0 length=1 mode=4 value=3',
      'offset=3 length=2 mode=1 value=0xffff',
    ]);
    probe.send('in', Buffer.from([1, 0, 0, 0]), Buffer.from([1, 0, 0, 0, 0]));
    assert.deepEqual(probe.take(), ['out 06000000', 'out 060000ffff']);
    assert.equal(lab.ask('n:', 'getstats'), '{ Received=2 Patched=2 }');
  });

  test('from out to in nothing changes; without out frames come back', () => {
    using lab = new GraphLab();
    const probe = patch(lab);
    configure(lab, ['offset=0 length=1 mode=1 value=9']);
    probe.send('out', Buffer.from([1]));
    assert.deepEqual(probe.take(), ['in 01']);
    lab.ngctl('rmhook n: out');
    probe.send('in', Buffer.from([1]));
    assert.deepEqual(probe.take(), ['in 09']);
  });

  test('without configuration, or without in, frames pass or are dropped', () => {
    using lab = new GraphLab();
    const probe = patch(lab);
    probe.send('in', Buffer.from([1]));
    assert.deepEqual(probe.take(), ['out 01']);
    lab.ngctl('rmhook n: in');
    probe.send('out', Buffer.from([1]));
    assert.deepEqual(probe.take(), []);
    assert.equal(lab.ask('n:', 'getclrstats'), '{ Received=2 Dropped=1 }');
    assert.equal(lab.ask('n:', 'getstats'), '{}');
  });

  test('relative_offset counts from behind the link header, tags included', () => {
    using lab = new GraphLab();
    const probe = patch(lab);
    lab.ngctl('msg n: setdlt 1');
    assert.equal(lab.ask('n:', 'getdlt'), '1');
    configure(lab, ['offset=1 length=1 mode=1 value=0xee'], 'relative_offset=5');
    const addrs = '020000000002020000000001';
    probe.send(
      'in',
      Buffer.from(`${addrs}08004500`, 'hex'),
      Buffer.from(`${addrs}81000005080045000000`, 'hex'),
      Buffer.from('0102', 'hex'),
    );
    assert.deepEqual(probe.take(), [`out ${addrs}080045ee`, `out ${addrs}81000005080045ee0000`, 'out 0102']);
    assert.match(lab.ask('n:', 'getconfig'), /relative_offset=1/);
  });

  test('csum_flags: the checksums of IPv4, TCP and UDP are right afterwards', () => {
    using lab = new GraphLab();
    const probe = patch(lab);
    lab.ngctl('msg n: setdlt 1');
    // TTL to 1, and the source port's low byte
    configure(
      lab,
      ['offset=8 length=1 mode=1 value=1', 'offset=21 length=1 mode=9 value=0x55'],
      'relative_offset=1 csum_flags=7',
    );
    const ip = '4500001d000040004011f96bc0a80101c0a80102';
    const udp = '0035003500090000aa';
    probe.send('in', Buffer.from(`0200000000020200000000010800${ip}${udp}`, 'hex'));
    const [out = ''] = probe.take();
    const packet = Buffer.from(out.split(' ')[1] ?? '', 'hex').subarray(14);
    assert.equal(packet[8], 1);
    assert.equal(packet[21], 0x35 ^ 0x55);
    assert.equal(onesSum(packet.subarray(0, 20)), 0xffff);
    const pseudo = Buffer.concat([
      packet.subarray(12, 20),
      Buffer.from([0, 17, 0, 9]),
      packet.subarray(20),
      Buffer.alloc(1),
    ]);
    assert.equal(onesSum(pseudo), 0xffff);
  });

  test('csum_flags: TCP over IPv6, behind a VLAN tag; not unless asked for', () => {
    using lab = new GraphLab();
    const probe = patch(lab);
    const ip = `6000000000150640${'20010db8'.padEnd(32, '0')}${'20010db8'.padEnd(31, '0')}1`;
    const tcp = '00501f90000000010000000250180200dead0000';
    const packet = Buffer.from(`02000000000202000000000181000005 86dd${ip}${tcp}61`.replace(' ', ''), 'hex');
    const l4 = (out: string) => Buffer.from(out.split(' ')[1] ?? '', 'hex').subarray(18 + 40);
    configure(lab, ['offset=60 length=1 mode=3 value=1'], 'csum_flags=0x200');
    probe.send('in', packet);
    const [plain = ''] = probe.take();
    assert.equal(l4(plain).readUInt16BE(16), 0xdead);
    configure(lab, ['offset=60 length=1 mode=3 value=1'], 'csum_flags=0x400');
    probe.send('in', packet);
    const [summed = ''] = probe.take();
    assert.equal(l4(summed)[2], 0x1e);
    const addresses = Buffer.from(ip, 'hex').subarray(8);
    const pseudo = Buffer.concat([addresses, Buffer.from([0, 0, 0, 21, 0, 0, 0, 6]), l4(summed), Buffer.alloc(1)]);
    assert.equal(onesSum(pseudo), 0xffff);
  });

  test('getconfig gives back what was set; before that, nothing', () => {
    using lab = new GraphLab();
    patch(lab);
    assert.equal(lab.ngctl('msg n: getconfig'), '');
    configure(lab, ['offset=4 length=2 mode=1 value=0x12345'], 'csum_flags=0xffff');
    assert.equal(
      lab.ask('n:', 'getconfig'),
      '{ count=1 csum_flags=1543 ops=[ { offset=4 length=2 mode=1 value=9029 } ] }',
    );
  });

  test('refuses lengths, modes, divisors, link types and hooks that cannot be', () => {
    using lab = new GraphLab();
    const { socket } = patch(lab);
    for (const op of [
      'length=3 mode=1',
      'length=0 mode=1',
      'length=1 mode=12',
      'length=1 mode=0',
      'length=1 mode=5 value=0',
      'length=1 mode=5 value=256',
    ])
      assert.equal(lab.fails(`msg n: setconfig { count=1 ops=[ { ${op} } ] }`), 'Invalid argument', op);
    assert.equal(
      lab.fails('msg n: setconfig { count=1 ops=[ { length=1 mode=1 } { length=1 mode=1 } ] }'),
      'Argument list too long',
    );
    assert.equal(lab.fails('msg n: setdlt 3'), 'Invalid argument');
    assert.equal(lab.fails('connect p: n: h x'), 'Invalid argument');
    assert.equal(socket.send('n:', 1262445509, 1, Buffer.from([255, 255, 255, 255, 0, 0, 0, 0])), 'EINVAL');
    assert.equal(socket.send('n:', 1262445509, 99), 'EINVAL');
    assert.equal(socket.send('n:', 5, 1), 'EINVAL');
    lab.ngctl('msg n: clrstats');
    lab.ngctl('rmhook n: in');
    lab.ngctl('rmhook n: out');
    assert.equal(lab.fails('show n:'), 'No such file or directory');
  });
});

function onesSum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += ((bytes[i] as number) << 8) | (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return sum;
}
