/**
 * A strict reader of little-endian pcapng, for tests: whatever the format's text does not allow, or
 * netbe never writes, is an error. Shares no code with src/wire.
 */
import assert from 'node:assert/strict';

export interface CapturedPacket {
  interfaceId: number;
  /** nanoseconds since 1970 */
  time: bigint;
  originalLen: number;
  /** 0 unknown, 1 inbound, 2 outbound */
  direction: number;
  data: Uint8Array;
}

export interface Capture {
  application: string;
  interfaces: { name: string; description: string | undefined; snapLen: number; linkType: number }[];
  packets: CapturedPacket[];
  statistics: { interfaceId: number; time: bigint; received: bigint; dropped: bigint }[];
}

type Options = Map<number, Buffer>;

function readOptions(bytes: Buffer): Options {
  const options: Options = new Map();
  let at = 0;
  for (;;) {
    assert.ok(at + 4 <= bytes.length, 'options end with opt_endofopt');
    const code = bytes.readUInt16LE(at);
    const len = bytes.readUInt16LE(at + 2);
    const padded = Math.ceil(len / 4) * 4;
    assert.ok(at + 4 + padded <= bytes.length, `option ${code} lies within its block`);
    if (code === 0) {
      assert.equal(at + 4, bytes.length, 'nothing follows opt_endofopt');
      assert.equal(len, 0);
      return options;
    }
    assert.ok(!options.has(code), `option ${code} occurs once`);
    assert.ok(bytes.subarray(at + 4 + len, at + 4 + padded).every((byte) => byte === 0));
    options.set(code, bytes.subarray(at + 4, at + 4 + len));
    at += 4 + padded;
  }
}

function need(options: Options, code: number, len?: number): Buffer {
  const value = options.get(code);
  assert.ok(value, `option ${code} is there`);
  if (len !== undefined) assert.equal(value.length, len, `option ${code} has ${len} bytes`);
  return value;
}

function readTime(body: Buffer, at: number): bigint {
  return (BigInt(body.readUInt32LE(at)) << 32n) | BigInt(body.readUInt32LE(at + 4));
}

function readSection(body: Buffer): string {
  assert.equal(body.readUInt32LE(0), 0x1a2b3c4d, 'byte-order magic');
  assert.deepEqual([body.readUInt16LE(4), body.readUInt16LE(6)], [1, 0], 'version 1.0');
  assert.equal(body.readBigInt64LE(8), -1n, 'length of the section is not given');
  return need(readOptions(body.subarray(16)), 4).toString();
}

function readInterface(body: Buffer): Capture['interfaces'][number] {
  assert.equal(body.readUInt16LE(2), 0, 'reserved');
  const options = readOptions(body.subarray(8));
  assert.equal(need(options, 9, 1)[0], 9, 'times in nanoseconds');
  return {
    name: need(options, 2).toString(),
    description: options.get(3)?.toString(),
    snapLen: body.readUInt32LE(4),
    linkType: body.readUInt16LE(0),
  };
}

function readPacket(body: Buffer): CapturedPacket {
  const capturedLen = body.readUInt32LE(12);
  const padded = Math.ceil(capturedLen / 4) * 4;
  assert.ok(20 + padded <= body.length, 'the packet lies within its block');
  assert.ok(body.subarray(20 + capturedLen, 20 + padded).every((byte) => byte === 0));
  const flags = need(readOptions(body.subarray(20 + padded)), 2, 4).readUInt32LE(0);
  assert.ok(flags <= 2, 'only the direction is told');
  return {
    interfaceId: body.readUInt32LE(0),
    time: readTime(body, 4),
    originalLen: body.readUInt32LE(16),
    direction: flags,
    data: Uint8Array.from(body.subarray(20, 20 + capturedLen)),
  };
}

function readStatistics(body: Buffer): Capture['statistics'][number] {
  const options = readOptions(body.subarray(12));
  return {
    interfaceId: body.readUInt32LE(0),
    time: readTime(body, 4),
    received: need(options, 4, 8).readBigUInt64LE(0),
    dropped: need(options, 5, 8).readBigUInt64LE(0),
  };
}

/** Reads one section. Throws an AssertionError that says which rule is broken. */
export function readPcapng(file: Uint8Array): Capture {
  const bytes = Buffer.from(file.buffer, file.byteOffset, file.length);
  const capture: Capture = { application: '', interfaces: [], packets: [], statistics: [] };
  for (let at = 0; at < bytes.length; ) {
    const type = bytes.readUInt32LE(at);
    const len = bytes.readUInt32LE(at + 4);
    assert.ok(len >= 12 && len % 4 === 0 && at + len <= bytes.length, `block at ${at} has a sound length`);
    assert.equal(bytes.readUInt32LE(at + len - 4), len, `block at ${at} repeats its length`);
    assert.equal(at === 0, type === 0x0a0d0d0a, 'the section header comes first, once');
    const body = bytes.subarray(at + 8, at + len - 4);
    if (at === 0) capture.application = readSection(body);
    else if (type === 1) capture.interfaces.push(readInterface(body));
    else if (type === 6) capture.packets.push(readPacket(body));
    else if (type === 5) capture.statistics.push(readStatistics(body));
    else assert.fail(`block type ${type} is known`);
    at += len;
  }
  for (const { interfaceId } of [...capture.packets, ...capture.statistics])
    assert.ok(interfaceId < capture.interfaces.length, 'the interface is described');
  return capture;
}
