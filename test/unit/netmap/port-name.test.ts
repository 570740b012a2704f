import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { NetbeError } from '../../../src/errors.js';
import {
  NR_EXCLUSIVE,
  NR_MONITOR_RX,
  NR_MONITOR_TX,
  NR_REG_ALL_NIC,
  NR_REG_NIC_SW,
  NR_REG_ONE_NIC,
  NR_REG_ONE_SW,
  NR_REG_SW,
  NR_RX_RINGS_ONLY,
  NR_TX_RINGS_ONLY,
  NR_ZCOPY_MON,
} from '../../../src/netmap/abi-register.js';
import { parsePortName, portNameError } from '../../../src/netmap/port-name.js';

/** The 1-based place that the error names. */
function placeOf(error: unknown, text: string): number {
  assert(error instanceof NetbeError, String(error));
  const { message, remedy = '' } = error;
  const place = Number(/character (\d+)/.exec(message)?.[1]);
  // the remedy shows the same place under the name
  const [, shown = '', caret = ''] = remedy.split('\n');
  assert.equal(shown, `  ${text}`);
  assert.equal(caret, `  ${' '.repeat(place - 1)}^`);
  return place;
}

/** 0 if the name can be read. */
function placeOfError(text: string, ports: readonly string[] = []): number {
  try {
    parsePortName(text, (name) => ports.includes(name));
  } catch (error) {
    return placeOf(error, text);
  }
  return 0;
}

const PLAIN = { pipe: undefined, mode: NR_REG_ALL_NIC, ringId: 0, flags: 0, memId: 0, options: {} };

/** What is read besides the names. */
function suffixOf(text: string): Partial<typeof PLAIN> {
  const { pipe, mode, ringId, flags, memId, options } = parsePortName(text);
  return Object.fromEntries(
    Object.entries({ pipe, mode, ringId, flags, memId, options }).filter(
      ([key, value]) => JSON.stringify(value) !== JSON.stringify(PLAIN[key as keyof typeof PLAIN]),
    ),
  );
}

describe('port names (nm_open)', () => {
  test('netmap:IF names an interface, hyphens and dots included', () => {
    for (const name of ['eth1', 'br-lan', 'enp0s31f6', 'eth0.100', 'veth-a-b', 'wg_0', 'a+b']) {
      const text = `netmap:${name}`;
      const read = { text, kind: 'netmap', switchName: '', portName: name, baseName: name, name, at: { name: 7 } };
      assert.deepEqual(parsePortName(text), { ...PLAIN, ...read });
    }
  });

  test('valeS:P names a port of a switch; nr_name keeps both', () => {
    for (const [switchName, portName] of [
      ['vale0', 'vm1'],
      ['vale', 'p'],
      ['valeLab_2', 'vm-a.eth0'],
    ] as const) {
      const text = `${switchName}:${portName}`;
      const at = { name: switchName.length + 1 };
      const read = { text, kind: 'vale', switchName, portName, baseName: text, name: text, at };
      assert.deepEqual(parsePortName(text), { ...PLAIN, ...read });
    }
  });

  test('pipe ends have the name of their parent, a role and an identifier', () => {
    const master = parsePortName('netmap:x{1');
    assert.deepEqual([master.baseName, master.name, master.pipe], ['x', 'x{1', { role: 'master', id: '1' }]);
    const slave = parsePortName('vale0:p}left_2/x@7');
    assert.deepEqual([slave.baseName, slave.name], ['vale0:p', 'vale0:p}left_2']);
    assert.deepEqual([slave.pipe, slave.flags, slave.memId], [{ role: 'slave', id: 'left_2' }, NR_EXCLUSIVE, 7]);
    assert.deepEqual(suffixOf('netmap:x{a-2'), { pipe: { role: 'master', id: 'a' }, mode: NR_REG_ONE_NIC, ringId: 2 });
  });

  test('the end of a pipe is one also while there is a pipe of that name', () => {
    assert.deepEqual(parsePortName('vale0:p{1', () => true).pipe, { role: 'master', id: '1' });
  });

  test('the mode says which rings', () => {
    assert.deepEqual(suffixOf('netmap:eth0^'), { mode: NR_REG_SW });
    assert.deepEqual(suffixOf('netmap:eth0^2'), { mode: NR_REG_ONE_SW, ringId: 2 });
    assert.deepEqual(suffixOf('netmap:eth0*'), { mode: NR_REG_NIC_SW });
    assert.deepEqual(suffixOf('netmap:eth0-0'), { mode: NR_REG_ONE_NIC });
    assert.deepEqual(suffixOf('vale1:p-4094/x'), { mode: NR_REG_ONE_NIC, ringId: 4094, flags: NR_EXCLUSIVE });
  });

  test('flags come in any order, also more than once', () => {
    assert.deepEqual(suffixOf('netmap:eth0/xt'), { flags: NR_EXCLUSIVE | NR_MONITOR_TX });
    assert.deepEqual(suffixOf('netmap:eth0/rtr'), { flags: NR_MONITOR_RX | NR_MONITOR_TX });
    assert.deepEqual(suffixOf('netmap:eth0/R'), { flags: NR_RX_RINGS_ONLY });
    assert.deepEqual(suffixOf('netmap:eth0^/T'), { mode: NR_REG_SW, flags: NR_TX_RINGS_ONLY });
    assert.deepEqual(suffixOf('netmap:eth0/'), {});
  });

  test('a monitor without copies watches both directions', () => {
    for (const flags of ['z', 'zt', 'rz'])
      assert.deepEqual(suffixOf(`netmap:eth0/${flags}`), { flags: NR_ZCOPY_MON | NR_MONITOR_TX | NR_MONITOR_RX });
  });

  test('@N is a memory region, before or after the flags', () => {
    assert.deepEqual(suffixOf('netmap:eth0@1'), { memId: 1 });
    assert.deepEqual(suffixOf('netmap:eth0*/x@65535'), { mode: NR_REG_NIC_SW, flags: NR_EXCLUSIVE, memId: 65535 });
    assert.deepEqual(suffixOf('netmap:eth0@2/x'), { flags: NR_EXCLUSIVE, memId: 2 });
  });

  test('options follow (nmport_prepare): share, conf, extmem, offset', () => {
    const none = { txRings: 0, rxRings: 0, hostTxRings: 0, hostRxRings: 0, txSlots: 0, rxSlots: 0 };
    const options = (text: string) => parsePortName(text).options;
    assert.deepEqual(options('vale0:p@share=vale0:q{1'), { share: 'vale0:q{1' });
    assert.deepEqual(options('vale0:p@conf=4'), { conf: { ...none, txRings: 4, rxRings: 4 } });
    assert.deepEqual(options('vale0:p@3@conf:slots=512,rx_slots=64,tx-rings=2@share:port=netmap:eth0'), {
      conf: { ...none, txSlots: 512, rxSlots: 64, txRings: 2 },
      share: 'netmap:eth0',
    });
    const sizes = { ifNum: 0, ifSize: 0, ringNum: 0, ringSize: 0, bufNum: 0, bufSize: 0 };
    assert.deepEqual(options('vale0:p/x@extmem:file=/dev/hugepages/a-b,buf-num=4096'), {
      extmem: { ...sizes, file: '/dev/hugepages/a-b', bufNum: 4096 },
    });
    assert.deepEqual(options('netmap:eth0@offset=64'), { offset: { initial: 64, bits: 0 } });
  });

  test('a name that ends in a hyphen and digits is a port if there is one of that name', () => {
    assert.deepEqual(suffixOf('netmap:tun-1'), { mode: NR_REG_ONE_NIC, ringId: 1 });
    const tun = parsePortName('netmap:tun-1/x', (name) => name === 'tun-1');
    assert.deepEqual([tun.portName, tun.mode, tun.flags], ['tun-1', NR_REG_ALL_NIC, NR_EXCLUSIVE]);
    const ring = parsePortName('netmap:tun-1-1', (name) => name === 'tun-1');
    assert.deepEqual([ring.portName, ring.mode, ring.ringId], ['tun-1', NR_REG_ONE_NIC, 1]);
    const vm = parsePortName('vale0:vm-2', (name) => name === 'vale0:vm-2');
    assert.deepEqual([vm.portName, vm.mode], ['vm-2', NR_REG_ALL_NIC]);
  });

  test('an interface may have the name of a suffix', () => {
    assert.equal(parsePortName('netmap:a@b', (name) => name === 'a@b').portName, 'a@b');
  });
});

describe('port names that cannot be read', () => {
  for (const [text, place, why] of [
    ['eth0', 1, 'no prefix'],
    ['tap0:x', 1, 'another prefix'],
    ['netmap', 7, 'no colon'],
    ['netmap0:eth0', 7, 'an identifier after netmap'],
    ['vale-1:p', 5, 'a switch with a hyphen'],
    ['netmap:', 8, 'no name'],
    ['vale0:', 7, 'no name'],
    ['netmap:^', 8, 'a mode without a name'],
    ['netmap:{1', 8, 'a pipe without a name'],
    ['vale0:-1', 7, 'a ring without a name'],
    ['netmap:a b', 9, 'a space'],
    ['netmap:a:b', 9, 'a colon'],
    ['vale0:a+b', 8, 'a sign in the name of a port'],
    ['netmap:abcdefghijklmnop', 23, 'a name too long for an interface'],
    [`vale0:${'p'.repeat(58)}`, 64, 'a name too long for netmap'],
    ['netmap:x{', 10, 'no pipe identifier'],
    ['netmap:x{-1', 10, 'no pipe identifier'],
    ['netmap:x{1{2', 11, 'a pipe of a pipe'],
    ['netmap:x{1*', 11, "a pipe with a host's rings"],
    ['netmap:x{1^', 11, "a pipe with a host's rings"],
    ['netmap:x{1-', 12, 'no ring number'],
    ['netmap:eth0*1', 13, 'a number after all rings'],
    ['netmap:eth0^-1', 13, 'two modes'],
    ['netmap:eth0-4095', 13, 'a ring beyond those that there can be'],
    ['netmap:eth0^99999999999999999999', 13, 'a huge ring'],
    ['netmap:eth0/xq', 14, 'an unknown flag'],
    ['netmap:eth0/x/r', 14, 'flags twice'],
    ['netmap:eth0/RT', 12, 'no direction left'],
    ['netmap:eth0@', 13, 'no region'],
    ['netmap:eth0@0', 13, 'region 0'],
    ['netmap:eth0@65536', 13, 'a region beyond 16 bits'],
    ['netmap:eth0@1@2', 14, 'two regions'],
    ['netmap:eth0&', 12, 'a sign in the name of an interface that is not there'],
    ['netmap:eth0@1x', 14, 'letters after a region'],
    ['netmap:eth0@share', 18, 'an option without a value'],
    ['netmap:eth0@share=', 19, 'an option with an empty value'],
    ['netmap:eth0@share=eth1', 19, 'sharing with what is no port'],
    ['netmap:eth0@shares=vale0:p', 13, 'an unknown option'],
    ['netmap:eth0@conf:', 18, 'no key'],
    ['netmap:eth0@conf:slot=1', 18, 'an unknown key'],
    ['netmap:eth0@conf:slots', 23, 'a key without a value'],
    ['netmap:eth0@conf:slots=4,slots=4', 26, 'a key twice'],
    ['netmap:eth0@conf:slots=0x40', 24, 'a value that is no number'],
    ['netmap:eth0@conf=4294967296', 18, 'a number too large'],
    ['netmap:eth0@conf=1@conf=2', 20, 'an option twice'],
    ['netmap:eth0@extmem:if-num=1', 13, 'an option without its main key'],
    ['netmap:eth0@@conf=1', 13, 'an option without a name'],
  ] as const)
    test(`${text}: ${why}, character ${place}`, () => assert.equal(placeOfError(text), place));

  test('who cannot open what a name asks for points at that part', () => {
    const text = 'vale0:p{1-2/x@3@conf=1';
    const name = parsePortName(text);
    for (const [part, place] of [
      ['name', 7],
      ['pipe', 8],
      ['mode', 10],
      ['flags', 12],
      ['memId', 14],
      ['options', 16],
    ] as const)
      assert.equal(placeOf(portNameError(name, part, 'no'), text), place, part);
    // a part that is not there is the name's affair
    assert.equal(placeOf(portNameError(parsePortName('netmap:a'), 'mode', 'no'), 'netmap:a'), 8);
  });
});

describe('any text', () => {
  const parts = fc.constantFrom(
    ...'netmap:|vale0:|vale:|eth0|a-b|{|}|^|*|-|/|@|x|z|R|0|17|conf|share|=|,|:| '.split('|'),
  );
  const texts = fc.oneof(
    fc.string(),
    fc.array(parts, { maxLength: 12 }).map((list) => list.join('')),
  );

  test('is a name, or refused at one of its characters', () => {
    fc.assert(
      fc.property(texts, fc.boolean(), (text, exists) => {
        try {
          const { name, baseName, at } = parsePortName(text, () => exists);
          assert(name.startsWith(baseName) && name.length < 64);
          assert(Object.values(at).every((off) => off < text.length));
        } catch (error) {
          const place = placeOf(error, text);
          assert(place >= 1 && place <= text.length + 1);
        }
      }),
    );
  });

  test('the parts written down are read back', () => {
    const ends = fc.record({ end: fc.constantFrom('{', '}'), id: fc.stringMatching(/^\w{1,8}$/) });
    const ring = fc.integer({ min: 0, max: 4094 });
    const flags = fc.subarray([...'xtr']).map((list) => list.join(''));
    fc.assert(
      fc.property(
        fc.constantFrom('netmap:', 'vale:', 'vale7:'),
        fc.stringMatching(/^[a-z][a-z0-9_]{0,14}$/),
        fc.option(ends, { nil: undefined }),
        fc.option(ring, { nil: undefined }),
        flags,
        fc.integer({ min: 0, max: 65535 }),
        (prefix, port, pipe, ringId, letters, memId) => {
          const end = pipe === undefined ? '' : pipe.end + pipe.id;
          const text = `${prefix}${port}${end}${ringId === undefined ? '' : `-${ringId}`}${letters && `/${letters}`}${memId ? `@${memId}` : ''}`;
          const read = parsePortName(text);
          assert.equal(read.name, (prefix === 'netmap:' ? '' : prefix) + port + end);
          assert.equal(read.portName, port);
          assert.deepEqual([read.pipe?.id, read.memId, read.ringId], [pipe?.id, memId, ringId ?? 0]);
          assert.equal(read.mode, ringId === undefined ? NR_REG_ALL_NIC : NR_REG_ONE_NIC);
          assert.equal((read.flags & NR_MONITOR_TX) !== 0, letters.includes('t'));
        },
      ),
    );
  });
});
