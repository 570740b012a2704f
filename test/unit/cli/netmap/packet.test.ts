import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type AddressFamily, parseIpRange } from '../../../../src/cli/netmap/address-range.js';
import { Packet, type PacketSpec, VNET_HDR_MAX } from '../../../../src/cli/netmap/packet.js';

/** One's complement sum over everything, pseudo header included, word by word: 0xffff where the checksum is right. */
function naiveSum(bytes: readonly number[]): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i += 2) sum += bytes[i]! * 256 + (bytes[i + 1] ?? 0);
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  return sum;
}

function checkFrame(frame: Uint8Array, family: AddressFamily): void {
  const ip = [...frame.subarray(14)];
  const hdrLen = family === 4 ? 20 : 40;
  const udp = ip.slice(hdrLen);
  assert.equal(frame[12]! * 256 + frame[13]!, family === 4 ? 0x0800 : 0x86dd);
  if (family === 4) {
    assert.equal(naiveSum(ip.slice(0, 20)), 0xffff);
    assert.equal(ip[2]! * 256 + ip[3]!, ip.length);
  } else assert.equal(ip[4]! * 256 + ip[5]!, udp.length);
  assert.equal(udp[4]! * 256 + udp[5]!, udp.length);
  assert.notEqual(udp[6]! * 256 + udp[7]!, 0, 'UDP checksum 0 says that there is none');
  const addresses = family === 4 ? ip.slice(12, 20) : ip.slice(8, 40);
  assert.equal(naiveSum([...addresses, 0, 17, udp.length >> 8, udp.length & 0xff, ...udp]), 0xffff);
}

const spec = (family: AddressFamily, src: string, dst: string, more: Partial<PacketSpec> = {}): PacketSpec => ({
  family,
  srcMac: [2, 0, 0, 0, 0, 1],
  dstMac: [2, 0, 0, 0, 0, 2],
  src: parseIpRange(src, family, 's'),
  dst: parseIpRange(dst, family, 'd'),
  size: 80,
  randomSrc: false,
  randomDst: false,
  ...more,
});

const make = (wanted: PacketSpec) => {
  const u8 = new Uint8Array(VNET_HDR_MAX + wanted.size + 8).fill(0xee);
  const packet = new Packet(u8, 4, wanted);
  return { packet, frame: () => u8.subarray(packet.etherOff, packet.etherOff + packet.size), u8 };
};

test('checksums and lengths are right for any size, and after each change', () => {
  fc.assert(
    fc.property(
      fc.constantFrom(4 as const, 6 as const),
      fc.integer({ min: 70, max: 2000 }),
      fc.array(fc.nat(2), { maxLength: 30 }),
      fc.boolean(),
      fc.boolean(),
      (family, size, steps, randomSrc, randomDst) => {
        const [src, dst] =
          family === 4
            ? ['10.0.0.254:65534-10.0.1.1:65535', '10.1.0.1:1-10.1.0.2:3']
            : ['5@[fd00::1]:65534-5@[fd00::2:0:0]:65535', '[fd00::9]:1-[fd00::a]:3'];
        const { packet, frame } = make(spec(family, src, dst, { size, randomSrc, randomDst }));
        checkFrame(frame(), family);
        for (const step of steps) {
          if (step === 0) packet.nextAddresses();
          else if (step === 1) packet.setSequence(Math.imul(size, 2654435761) >>> 0);
          else packet.setSize(66 + ((size * 7) % (size - 65)));
          checkFrame(frame(), family);
        }
      },
    ),
  );
});

test('addresses run like digits: source port, source, destination port, destination', () => {
  const { packet, frame } = make(spec(4, '10.0.0.1:7-10.0.0.2:8', '10.1.0.1:1-10.1.0.2:2'));
  const flow = () => {
    const f = frame();
    return `${f.subarray(26, 30).join('.')}:${f[34]! * 256 + f[35]!} ${f.subarray(30, 34).join('.')}:${f[36]! * 256 + f[37]!}`;
  };
  const seen = Array.from({ length: 17 }, () => {
    const now = flow();
    packet.nextAddresses();
    return now;
  });
  assert.deepEqual(seen.slice(0, 6), [
    '10.0.0.1:7 10.1.0.1:1',
    '10.0.0.1:8 10.1.0.1:1',
    '10.0.0.2:7 10.1.0.1:1',
    '10.0.0.2:8 10.1.0.1:1',
    '10.0.0.1:7 10.1.0.1:2',
    '10.0.0.1:8 10.1.0.1:2',
  ]);
  assert.equal(new Set(seen).size, 16);
  assert.equal(seen[16], seen[0]);
});

test('a frame too short for its headers stays within its bytes', () => {
  const { u8 } = make(spec(4, '10.0.0.1', '10.1.0.1', { size: 60 }));
  assert.deepEqual([...u8.subarray(u8.length - 4)], [0xee, 0xee, 0xee, 0xee]);
});

test('ranges: the lower end comes first, and what is wrong is said', () => {
  const range = parseIpRange('10.0.0.9:90-10.0.0.1:80', 4, 's');
  assert.deepEqual([range.low, range.high, range.portLow, range.portHigh], [0x0a000001, 0x0a000009, 80, 90]);
  assert.deepEqual(range.address, [10, 0, 0, 1]);
  assert.equal(parseIpRange('10.0.0.1', 4, 's').portLow, 1234);
  const six = parseIpRange('3@[2001:db8::1.2.3.4]:5-3@2001:db8:0:9::', 6, 'd');
  assert.deepEqual([six.runOff, six.low, six.high], [6, 0, 9]);
  assert.throws(() => parseIpRange('10.0.0', 4, 's'), /-s 10\.0\.0: "10\.0\.0" is not an IPv4 address/);
  assert.throws(() => parseIpRange('10.0.0.1:99999', 4, 's'), /port 99999 is above 65535/);
  assert.throws(() => parseIpRange('8@fd00::1', 6, 'd'), /groups 0 to 7, not 8/);
  assert.throws(() => parseIpRange('10.0.0.1', 6, 'd'), /not an IPv6 address/);
});
