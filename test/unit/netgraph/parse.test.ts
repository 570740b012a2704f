import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { array, byteArray, fixedArray, lengthBefore, ngMesg, struct } from '../../../src/netgraph/parse/composites.js';
import {
  ParseError,
  type ParseType,
  pack,
  parseAscii,
  unpack,
  unparseAscii,
} from '../../../src/netgraph/parse/parse-type.js';
import * as S from '../../../src/netgraph/parse/scalars.js';

const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex');
const parse = (type: ParseType, text: string) => hex(parseAscii(type, text));
const unparse = (type: ParseType, bytes: string) => unparseAscii(type, Buffer.from(bytes, 'hex'));
const errno = (type: ParseType, text: string) => {
  try {
    parseAscii(type, text);
  } catch (error) {
    assert(error instanceof ParseError);
    return error.errno;
  }
  return undefined;
};

describe('integers', () => {
  test('decimal, hexadecimal, octal, with sign, little-endian', () => {
    assert.equal(parse(S.uint32, ' 258'), '02010000');
    assert.equal(parse(S.uint16, '0x1ff'), 'ff01');
    assert.equal(parse(S.uint8, '017'), '0f');
    assert.equal(parse(S.int32, '-2'), 'feffffff');
    assert.equal(parse(S.uint32, '-1'), 'ffffffff');
    assert.equal(parse(S.uint64, '18446744073709551615'), 'ffffffffffffffff');
  });

  test('written unsigned, signed or hexadecimal', () => {
    assert.equal(unparse(S.int8, 'ff'), '-1');
    assert.equal(unparse(S.uint8, 'ff'), '255');
    assert.equal(unparse(S.hint16, 'ff01'), '0x1ff');
    assert.equal(unparse(S.int32, 'feffffff'), '-2');
    assert.equal(unparse(S.hint64, 'ffffffffffffffff'), '0xffffffffffffffff');
    assert.equal(unparse(S.int64, 'ffffffffffffffff'), '-1');
  });

  test('out of range, no number, or more than a number: EINVAL', () => {
    for (const text of ['256', '-129', 'x', '', '1x', '0x', '08', '1 2', '"1"', '{}'])
      assert.equal(errno(S.uint8, text), 'EINVAL', text);
    assert.equal(errno(S.uint64, '18446744073709551616'), 'EINVAL');
  });
});

describe('strings', () => {
  test('C escapes, both ways', () => {
    assert.equal(parse(S.string, '"a\\tb\\x41\\101\\"\\\\\\q"'), `${hex(Buffer.from('a\tbAA"\\q'))}00`);
    assert.equal(
      unparse(S.string, `${hex(Buffer.from('a\tb"\\\n\x01\xff', 'latin1'))}00`),
      '"a\\tb\\"\\\\\\n\\x01\\xff"',
    );
  });

  test('any bytes come back', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), (bytes) => {
        const data = Buffer.concat([Buffer.from([bytes.length, 0]), bytes]);
        assert.deepEqual(Buffer.from(parseAscii(S.sizedString, unparseAscii(S.sizedString, data))), data);
      }),
    );
  });

  test('fixed ones are filled with NULs, and too long is E2BIG', () => {
    const type = S.fixedString(4);
    assert.equal(parse(type, '"ab"'), '61620000');
    assert.equal(errno(type, '"abcd"'), 'E2BIG');
    assert.equal(unparse(type, '61626364'), '"abc"');
    assert.equal(errno(type, 'ab'), 'EINVAL');
    assert.equal(errno(type, '"ab'), 'EINVAL');
  });
});

describe('addresses', () => {
  test('IPv4 and Ethernet, both ways', () => {
    assert.equal(parse(S.ipaddr, '192.0.2.1'), 'c0000201');
    assert.equal(unparse(S.ipaddr, 'c0000201'), '192.0.2.1');
    assert.equal(parse(S.enaddr, '2:0:0:0:0:aB'), '0200000000ab');
    assert.equal(unparse(S.enaddr, '0200000000ab'), '02:00:00:00:00:ab');
    for (const text of ['1.2.3', '1.2.3.256', '1.2.3.4.5', 'a.b.c.d'])
      assert.equal(errno(S.ipaddr, text), 'EINVAL', text);
    for (const text of ['02:00:00:00:00', '02:00:00:00:00:100', 'x:0:0:0:0:0'])
      assert.equal(errno(S.enaddr, text), 'EINVAL', text);
  });
});

describe('structures', () => {
  const type = struct({ a: S.uint8, b: S.uint32, c: S.uint16 });

  test('fields in any order, aligned and padded as in C; what is left out is zero', () => {
    assert.equal(parse(type, '{ c=3 a=1 b=2 }'), '010000000200000003000000');
    assert.equal(parse(type, '{}'), '00'.repeat(12));
    assert.equal(unparse(type, '010000000200000003000000'), '{ a=1 b=2 c=3 }');
    assert.equal(unparse(type, '000000000200000000000000'), '{ b=2 }');
    assert.equal(unparse(type, '00'.repeat(12)), '{}');
  });

  test('white space anywhere, and nowhere', () => {
    assert.equal(parse(type, '{a=1 b = 2\n\tc= 3}'), parse(type, '{ a=1 b=2 c=3 }'));
    const nested = struct({ x: type, y: S.uint8 });
    assert.equal(unparse(nested, parse(nested, '{x={a=1}y=2}')), '{ x={ a=1 } y=2 }');
  });

  test('unknown fields ENOENT, a field twice EALREADY, no default EOPNOTSUPP, all else EINVAL', () => {
    assert.equal(errno(type, '{ d=1 }'), 'ENOENT');
    assert.equal(errno(type, '{ a=1 a=2 }'), 'EALREADY');
    assert.equal(errno(struct({ m: S.enaddr }), '{}'), 'EOPNOTSUPP');
    for (const text of ['', '{', '{ a }', '{ a= }', '{ a=1', '[ a=1 ]', '{ =1 }', '{ a={ }', '{ a=[ } ]', '{ a=1 } }'])
      assert.equal(errno(type, text), 'EINVAL', text);
  });
});

describe('arrays', () => {
  test('of fixed length: by order, by index, and on from there', () => {
    const type = fixedArray(S.uint8, 5);
    assert.equal(parse(type, '[ 1 2 4=9 ]'), '0102000009');
    assert.equal(parse(type, '[ 2=7 8 ]'), '0000070800');
    assert.equal(unparse(type, '0102000009'), '[ 1 2 4=9 ]');
    assert.equal(unparse(type, '0000000000'), '[]');
    assert.equal(errno(type, '[ 1 2 3 4 5 6 ]'), 'E2BIG');
    assert.equal(errno(type, '[ 5=1 ]'), 'E2BIG');
    assert.equal(errno(type, '[ 1 0=2 ]'), 'EALREADY');
    assert.equal(errno(type, '[ x=1 ]'), 'EINVAL');
  });

  test('of a length that stands before it', () => {
    const type = struct({ n: S.uint32, list: array(struct({ v: S.uint16, name: S.fixedString(3) }), lengthBefore) });
    const text = '{ n=3 list=[ { v=1 name="a" } 2={ v=3 } ] }';
    assert.equal(unparse(type, parse(type, text)), text);
    assert.equal(errno(type, '{ n=1 list=[ {} {} ] }'), 'E2BIG');
    assert.equal(errno(type, '{ n=4000000000 list=[] }'), 'ERANGE');
  });

  test('of bytes: hexadecimal, or a string', () => {
    const type = struct({ n: S.uint32, data: byteArray(lengthBefore) });
    assert.equal(parse(type, '{ n=4 data=[ 0x01 2=255 ] }'), '040000000100ff00');
    assert.equal(parse(type, '{ n=4 data="ab" }'), '0400000061620000');
    assert.equal(unparse(type, '040000000100ff00'), '{ n=4 data=[ 0x1 2=0xff ] }');
    assert.equal(errno(type, '{ n=1 data="ab" }'), 'E2BIG');
  });

  test('a length that lies is believed no further than to the first element without default', () => {
    const type = struct({ n: S.uint32, list: array(struct({ mac: S.enaddr, hook: S.hookbuf }), lengthBefore) });
    const start = performance.now();
    assert.throws(() => unparse(type, 'ffffffff020000000001'), ParseError);
    assert.equal(errno(type, '{ n=4294967295 }'), 'EOPNOTSUPP');
    assert(performance.now() - start < 1000);
  });

  test('lengths that lie are no way out of the data', () => {
    const type = struct({ n: S.uint32, list: array(S.uint32, lengthBefore) });
    assert.throws(() => unparse(type, 'ffffffff01000000'), ParseError);
    assert.equal(unpack(type, Buffer.from('ffffffff01000000', 'hex')), undefined);
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), (bytes) => {
        for (const any of [type, ngMesg, S.string, S.sizedString] as ParseType[]) {
          try {
            unparseAscii(any, bytes);
          } catch (error) {
            assert(error instanceof ParseError);
          }
        }
      }),
    );
  });
});

describe('properties', () => {
  const type = struct({
    flag: S.uint8,
    big: S.uint64,
    inner: struct({ x: S.int16, name: S.fixedString(8) }),
    count: S.uint32,
    list: array(struct({ id: S.hint32, level: S.int8 }), lengthBefore),
  });
  const plain = { noNullPrototype: true };
  const value = fc
    .record(
      {
        flag: fc.integer({ min: 0, max: 255 }),
        big: fc.bigInt(0n, 2n ** 64n - 1n),
        inner: fc.record(
          {
            x: fc.integer({ min: -32768, max: 32767 }),
            name: fc.stringMatching(/^[ -~]{0,7}$/),
          },
          plain,
        ),
        list: fc.array(
          fc.record(
            { id: fc.integer({ min: 0, max: 2 ** 32 - 1 }), level: fc.integer({ min: -128, max: 127 }) },
            plain,
          ),
          { maxLength: 5 },
        ),
      },
      plain,
    )
    .map((v) => ({ ...v, count: v.list.length }));

  test('ASCII and back is the same binary, and unpack gives what was packed', () => {
    fc.assert(
      fc.property(value, (v) => {
        const binary = pack(type, v);
        assert.deepEqual(hex(parseAscii(type, unparseAscii(type, binary))), hex(binary));
        assert.deepEqual(unpack(type, binary), v);
      }),
    );
  });

  test('no text crashes the parser', () => {
    const token = fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      '=',
      ' ',
      '"',
      'flag',
      'inner',
      'list',
      '1',
      '-1',
      '0x',
      'name',
      '\\',
    );
    fc.assert(
      fc.property(fc.array(token, { maxLength: 20 }), (tokens) => {
        try {
          parseAscii(type, tokens.join(''));
        } catch (error) {
          assert(error instanceof ParseError);
        }
      }),
      { numRuns: 500 },
    );
  });
});
