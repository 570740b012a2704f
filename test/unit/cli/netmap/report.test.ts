import assert from 'node:assert/strict';
import { test } from 'node:test';
import { debugLine, hexDump, norm } from '../../../../src/cli/netmap/output.js';
import { firstPacketOf } from '../../../../src/cli/netmap/pcap-file.js';
import {
  C_BYTES,
  C_COMPLETED,
  C_EVENTS,
  C_MIN_SPACE,
  C_PKTS,
  C_TIC,
  C_TOC,
  makeCounterBuffer,
  NO_MIN_SPACE,
  threadCounters,
} from '../../../../src/cli/netmap/pkt-gen-counters.js';
import { OPT_COPY, OPT_DUMP, OPT_RANDOM_SRC, parsePktGen } from '../../../../src/cli/netmap/pkt-gen-options.js';
import { PktGenReport } from '../../../../src/cli/netmap/pkt-gen-report.js';
import { parseRingConfig } from '../../../../src/cli/netmap/ring-config.js';
import { fileHeader, packetRecord } from '../../../support/pcap.js';

test('numbers are scaled by thousands with three decimals, or whole', () => {
  assert.equal(norm(14_880_952, true), '14.881 M');
  assert.equal(norm(999, true), '999.000 ');
  assert.equal(norm(1e16, true), '10000.000 T');
  assert.equal(norm(14_880_952.4, false), '14880952 ');
});

test('lines of the D macro: seconds modulo 1000, microseconds, function, a number, text', () => {
  assert.equal(debugLine('main', 'hello', 1_700_000_012_345.678), `012.345678 main [${process.pid}] hello`);
});

test('a hex dump has sixteen bytes a line, and dots for what cannot be printed', () => {
  assert.equal(
    hexDump(17, (i) => 0x40 + i * 4),
    `    0: 40 44 48 4c 50 54 58 5c 60 64 68 6c 70 74 78 7c @DHLPTX\\\`dhlptx|\n   16: 80 ${' '.repeat(45)}.`,
  );
});

function threads(...values: Partial<Record<number, number>>[]): Float64Array[] {
  const buffer = makeCounterBuffer(values.length);
  return values.map((given, i) => {
    const counters = threadCounters(buffer, i);
    counters[C_MIN_SPACE] = NO_MIN_SPACE;
    for (const [at, value] of Object.entries(given)) counters[Number(at)] = value as number;
    return counters;
  });
}

const plain = { normalize: false, framingBits: 0, average: false };

test('an interval says rate, frames, bits, time, batch and least space, of all threads together', () => {
  const [a, b] = threads({}, {}) as [Float64Array, Float64Array];
  const report = new PktGenReport({ ...plain, normalize: true }, [a, b], 1000);
  assert.equal(report.interval(1009), undefined, 'too short to mean anything');
  a[C_PKTS] = 1_000_000;
  a[C_BYTES] = 60_000_000;
  a[C_EVENTS] = 2000;
  a[C_MIN_SPACE] = 7;
  b[C_PKTS] = 500_000;
  b[C_BYTES] = 30_000_000;
  b[C_EVENTS] = 1000;
  b[C_MIN_SPACE] = 5;
  assert.equal(
    report.interval(2000),
    '1.500 Mpps (1.500 Mpkts 720.000 Mbps in 1000000 usec) 500.00 avg_batch 12 min_space',
  );
  assert.match(
    report.interval(3000) ?? '',
    /^0\.000 pps \(0\.000 pkts 0\.000 bps in 1000000 usec\) 0\.00 avg_batch 199998/,
  );
});

test('the end says the sum, over the time from the last start to the last end, with framing where asked for', () => {
  const run = { [C_PKTS]: 1000, [C_BYTES]: 60_000, [C_EVENTS]: 10, [C_TIC]: 1000, [C_TOC]: 3000, [C_COMPLETED]: 1 };
  const report = new PktGenReport({ ...plain, framingBits: 192 }, threads(run, { ...run, [C_TIC]: 1500 }), 0);
  assert.equal(
    report.final('Sent'),
    'Sent 2000 packets 120000 bytes 20 events 60 bytes each in 1.50 seconds.\n' +
      'Speed: 1333 pps Bandwidth: 640000 bps (raw 896000 bps). Average batch: 100.00 pkts',
  );
  assert.equal(report.failed, 0);
  assert.equal(new PktGenReport(plain, threads({}), 0).final('Received'), 'Received nothing.');
});

test('-A adds average and deviation of the last reports, and a histogram at the end', () => {
  const [counters] = threads({ [C_TOC]: 1, [C_EVENTS]: 1 }) as [Float64Array];
  const report = new PktGenReport({ ...plain, average: true }, [counters], 0);
  let line: string | undefined;
  [1000, 1000, 3000].forEach((pkts, i) => {
    counters[C_PKTS]! += pkts;
    line = report.interval((i + 1) * 1000);
  });
  assert.match(line ?? '', /^3000 pps \[avg\/std 1667 \/943 pps\]\(/);
  const lines = report.final('Sent').split('\n');
  assert.equal(lines[2], 'Rates of 3 reports: min 1000 pps avg 1667 pps max 3000 pps std 943 pps');
  assert.equal(lines[3], `      1000 pps     2 ${'#'.repeat(40)}`);
  assert.equal(lines[12], `      2800 pps     1 ${'#'.repeat(20)}`);
});

test("pkt-gen's defaults are those of the original", () => {
  const o = parsePktGen({ interface: 'vale0:a' });
  assert.deepEqual(
    [o.function, o.size, o.minSize, o.burst, o.packets, o.threads, o.cpus, o.reportMs, o.waitLinkSec, o.options],
    ['rx', 60, 0, 512, 0, 1, 1, 1000, 0, 0],
  );
  assert.deepEqual([o.src.text, o.dst.text, o.src.portLow], ['10.0.0.1', '10.1.0.1', 1234]);
  assert.equal(parsePktGen({ interface: 'netmap:eth0' }).waitLinkSec, 2);
  assert.equal(parsePktGen({ interface: 'vale0:a', function: 'ping' }).burst, 1);
});

test('a rate makes bursts of a three hundredth of a second, at least of one frame', () => {
  const at = (rate: string) => parsePktGen({ interface: 'vale0:a', function: 'tx', rate });
  assert.deepEqual([at('30000').burst, at('30000').periodNs], [100, 3_333_333]);
  assert.deepEqual([at('10').burst, at('10').periodNs], [1, 100_000_000]);
  assert.equal(at('1000000000').burst, 512);
});

test('-l twice, ranges, -z and -X set what they say', () => {
  const o = parsePktGen({
    interface: 'vale0:a',
    length: ['1500', '64'],
    randomSrc: true,
    dump: true,
    dst: '10.1.0.1-10.1.0.3',
  });
  assert.deepEqual([o.size, o.minSize], [1500, 64]);
  assert.equal(o.options, OPT_RANDOM_SRC | OPT_DUMP | OPT_COPY);
  assert.throws(
    () => parsePktGen({ interface: 'vale0:a', length: ['64', '1500'] }),
    /-l 1500: not a number from 16 to 64/,
  );
});

test('-C: one number is for both directions, nothing and 0 are the default', () => {
  assert.deepEqual(parseRingConfig('512', '-C'), { txSlots: 512, rxSlots: 512 });
  assert.deepEqual(parseRingConfig('512,256,2', '-C'), { txSlots: 512, rxSlots: 256, txRings: 2, rxRings: 2 });
  assert.deepEqual(parseRingConfig(',0,,4', '-C'), { rxRings: 4 });
  assert.deepEqual(parseRingConfig('', '-C'), {});
  assert.throws(() => parseRingConfig('1,2,3,4,5', '-C'), /-C 1,2,3,4,5: not one to four numbers/);
});

test('-P reads the first packet of pcap in either byte order, and of pcapng', () => {
  const packet = Uint8Array.from({ length: 70 }, (_, i) => i);
  for (const little of [true, false]) {
    const file = Buffer.concat([fileHeader(little), packetRecord(packet, little)]);
    assert.deepEqual([...firstPacketOf(file, 'f')], [...packet]);
  }
  const u32 = (...values: number[]) => Buffer.from(Uint32Array.from(values).buffer);
  const section = u32(0x0a0d0d0a, 28, 0x1a2b3c4d, 1, 0xffffffff, 0xffffffff, 28);
  const iface = u32(1, 20, 1, 0, 20);
  const enhanced = Buffer.concat([u32(6, 104, 0, 0, 0, 70, 70), packet, Buffer.alloc(2), u32(104)]);
  assert.deepEqual([...firstPacketOf(Buffer.concat([section, iface, enhanced]), 'f')], [...packet]);
  assert.throws(() => firstPacketOf(fileHeader(true), 'f'), /f: there is no packet in it/);
  assert.throws(() => firstPacketOf(Buffer.alloc(100), 'f'), /f: not a capture file/);
});
