import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  beginPacket,
  DIRECTION_INBOUND,
  DIRECTION_OUTBOUND,
  endPacket,
  PACKET_DATA_OFFSET,
  PACKET_OVERHEAD,
  writeInterfaceDescription,
  writeInterfaceStatistics,
  writeSectionHeader,
} from '../../../src/wire/pcapng.js';
import { readPcapng } from '../../support/pcapng-reader.js';

/** Every function writes at the end of what is there. */
class Recorder {
  readonly u8 = new Uint8Array(1 << 20).fill(0xee);
  end = 0;

  constructor(...names: string[]) {
    this.end += writeSectionHeader(this.u8, 0, 'netbe test');
    for (const name of names) this.end += writeInterfaceDescription(this.u8, this.end, { name, snapLen: 0 });
  }

  packet(interfaceId: number, seconds: number, nanoseconds: number, data: Uint8Array, originalLen: number): number {
    const { u8, end } = this;
    beginPacket(u8, end, interfaceId, seconds, nanoseconds, data.length, originalLen);
    u8.set(data, end + PACKET_DATA_OFFSET);
    const len = endPacket(u8, end, data.length, DIRECTION_INBOUND);
    this.end += len;
    return len;
  }

  read() {
    return readPcapng(this.u8.subarray(0, this.end));
  }
}

test('packets read back as they were captured', () => {
  const packets = fc.array(
    fc.record({
      data: fc.uint8Array({ maxLength: 70 }),
      cut: fc.nat(2000),
      seconds: fc.nat(2 ** 33),
      nanoseconds: fc.nat(999_999_999),
      interfaceId: fc.nat(1),
    }),
  );
  fc.assert(
    fc.property(packets, (list) => {
      const recorder = new Recorder('vm1', 'vm2');
      for (const p of list) {
        const len = recorder.packet(p.interfaceId, p.seconds, p.nanoseconds, p.data, p.data.length + p.cut);
        assert.equal(len, Math.ceil(p.data.length / 4) * 4 + PACKET_OVERHEAD);
      }
      assert.deepEqual(
        recorder.read().packets,
        list.map((p) => ({
          interfaceId: p.interfaceId,
          time: BigInt(p.seconds) * 1_000_000_000n + BigInt(p.nanoseconds),
          originalLen: p.data.length + p.cut,
          direction: 1,
          data: p.data,
        })),
      );
    }),
  );
});

test('the direction of a packet is told', () => {
  const recorder = new Recorder('vm1');
  beginPacket(recorder.u8, recorder.end, 0, 0, 0, 0, 0);
  recorder.end += endPacket(recorder.u8, recorder.end, 0, DIRECTION_OUTBOUND);
  assert.equal(recorder.read().packets[0]?.direction, 2);
});

test('the section names its writer, each interface its port, whatever the length of the name', () => {
  const names = ['vale0:vm1', 'a', 'ab', 'abc', 'abcd', 'Gerät'];
  const recorder = new Recorder(...names);
  const description = { name: 'tap0', description: 'the host', snapLen: 96 };
  recorder.end += writeInterfaceDescription(recorder.u8, recorder.end, description);
  const capture = recorder.read();
  assert.equal(capture.application, 'netbe test');
  assert.deepEqual(capture.interfaces.at(-1), { ...description, linkType: 1 });
  assert.deepEqual(
    capture.interfaces.slice(0, -1).map((i) => i.name),
    names,
  );
});

test('statistics tell what was received and what was lost, beyond 32 bits', () => {
  const recorder = new Recorder('vm1');
  recorder.end += writeInterfaceStatistics(recorder.u8, recorder.end, 0, 1_790_000_000, 5, 2 ** 33 + 1, 7);
  assert.deepEqual(recorder.read().statistics, [
    { interfaceId: 0, time: 1_790_000_000_000_000_005n, received: 2n ** 33n + 1n, dropped: 7n },
  ]);
});
