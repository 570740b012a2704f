import assert from 'node:assert/strict';
import { describe } from 'node:test';
import { crc32 } from 'node:zlib';
import fc from 'fast-check';
import * as R from '../../../../src/frontends/e1000/registers.js';
import { VIRTIO_F_VERSION_1, VIRTIO_NET_F_CSUM, VIRTIO_NET_F_MRG_RXBUF } from '../../../../src/wire/virtio-features.js';
import * as E from '../../../support/e1000-driver.js';
import { e1000Rig, withoutHeader } from '../../../support/e1000-rig.js';
import { buildFrame, type FrameSpec, l4Offset, pattern } from '../../../support/frames.js';
import { etherFrame } from '../../../support/test-guest.js';

const rig = e1000Rig();
const { test } = rig;
const BROADCAST = [255, 255, 255, 255, 255, 255];

function tagged(frame: Uint8Array, tci: number): Uint8Array {
  return Uint8Array.of(...frame.subarray(0, 12), 0x81, 0, tci >> 8, tci & 255, ...frame.subarray(12));
}

describe('receive buffers', () => {
  for (const bufLen of [256, 512, 1024, 2048, 4096, 8192, 16384])
    test(`of ${bufLen} bytes: frames of any length arrive whole, each descriptor but the last full`, () => {
      const v = rig.virtio('v', { queueSize: 16 });
      const b = rig.e1000('b', { rxBufLen: bufLen, rctl: R.RCTL_LPE, ringSize: 128 });
      fc.assert(
        fc.property(fc.integer({ min: 14, max: 9018 }), fc.boolean(), fc.boolean(), (length, secrc, isTagged) => {
          b.write(R.RCTL, (b.read(R.RCTL) & ~R.RCTL_SECRC) | (secrc ? R.RCTL_SECRC : 0));
          b.write(R.CTRL, b.read(R.CTRL) | R.CTRL_VME);
          const plain = etherFrame(0xff, 1, length, length);
          const sent = isTagged && length >= 18 ? tagged(plain, 0x3123) : plain;
          v.send(sent);
          const [got, ...more] = b.receive();
          assert.equal(more.length, 0);
          const wire = Buffer.concat([sent, Buffer.alloc(Math.max(0, 60 - sent.length))]);
          const expected = sent === plain ? wire : Buffer.concat([wire.subarray(0, 12), wire.subarray(16)]);
          assert.deepEqual(Buffer.from(got!.frame), expected);
          assert.deepEqual([got!.status & E.RXD_VP, got!.special], sent === plain ? [0, 0] : [E.RXD_VP, 0x3123]);
          if (!secrc) assert.equal(Buffer.from(got!.bytes).readUInt32LE(expected.length), crc32(wire));
          const total = expected.length + (secrc ? 0 : 4);
          const full = Math.ceil(total / bufLen) - 1;
          assert.deepEqual(got!.lengths, [...Array(full).fill(bufLen), total - full * bufLen]);
        }),
        { numRuns: 60 },
      );
    });

  test('of a backend without headers as well', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b', { wrap: withoutHeader, rxBufLen: 256, rctl: R.RCTL_LPE });
    for (const length of [60, 192, 193, 256, 3000]) {
      const frame = etherFrame(0xff, 1, length, length);
      v.send(frame);
      assert.deepEqual(Buffer.from(b.receive()[0]!.frame), Buffer.from(frame));
    }
  });

  test('a frame that is tagged after one that is not, and the reverse, are both whole', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b', { rxBufLen: 256 });
    b.write(R.CTRL, b.read(R.CTRL) | R.CTRL_VME);
    const frame = etherFrame(0xff, 1, 1000, 8);
    frame.set(pattern(900), 100);
    for (const tag of [true, false, false, true, true, false]) {
      v.send(tag ? tagged(frame, 7) : frame);
      const [got] = b.receive();
      assert.deepEqual(Buffer.from(got!.frame), Buffer.from(frame));
      assert.equal(got!.special, tag ? 7 : 0);
    }
  });

  test('too few descriptors: frames wait, RXO tells, and RDT lets them come in order', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b', { rxBuffers: 2 });
    v.send(...[1, 2, 3, 4, 5].map((n) => etherFrame(0xff, 1, 60 + n)));
    assert.equal(b.read(R.ICR) & (R.ICR_RXO | R.ICR_RXT0), R.ICR_RXO | R.ICR_RXT0);
    assert.equal(b.read(R.RNBC), 1);
    assert.equal(b.device.status().starved, true);
    const lengths = () => b.receive().map((got) => got.frame.length);
    assert.deepEqual([lengths(), lengths(), lengths()], [[61, 62], [63, 64], [65]]);
    assert.equal(b.device.status().starved, false);
    assert.equal(rig.count('vale0:b', 'rx_drop_full'), 0);
  });

  test('RXDMT0 comes once when the free descriptors fall to the threshold of RCTL.RDMTS', () => {
    const v = rig.virtio('v');
    for (const [rdmts, free] of [
      [0, 32],
      [1, 16],
      [2, 8],
    ] as const) {
      const b = rig.e1000(`abc`[rdmts]!, { rctl: rdmts << R.RCTL_RDMTS_SHIFT });
      const causes: boolean[] = [];
      for (let i = 0; i < 60; i++) {
        v.send(etherFrame(0xff, 1));
        causes.push((b.read(R.ICR) & R.ICR_RXDMT0) !== 0);
      }
      // 63 are free at first
      assert.deepEqual([causes.indexOf(true), causes.filter(Boolean).length], [62 - free, 1]);
      b.close();
    }
  });

  test('a short frame is padded with zeros to 60 bytes', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b');
    b.bytes(b.rxBuffers, 2048).fill(0xee);
    v.send(etherFrame(0xff, 1, 42, 5));
    const { frame } = b.receive()[0]!;
    assert.equal(frame.length, 60);
    assert.ok(frame.subarray(42).every((byte) => byte === 0));
  });

  test('long frames are dropped without LPE, and counted: 1522 bytes with check sequence pass, 1523 do not', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b');
    v.send(etherFrame(0xff, 1, 1518), etherFrame(0xff, 1, 1519));
    assert.deepEqual(
      b.receive().map((got) => got.bytes.length),
      [1522],
    );
    assert.deepEqual([b.read(R.ROC), b.read(R.RLEC), b.read(R.ROC)], [1, 1, 0]);
    for (const bit of [R.RCTL_LPE, R.RCTL_SBP]) {
      b.write(R.RCTL, R.RCTL_EN | R.RCTL_BAM | bit);
      v.send(etherFrame(0xff, 1, 5000), etherFrame(0xff, 1, 16380), etherFrame(0xff, 1, 16381));
      assert.deepEqual(
        b.receive().map((got) => got.frame.length),
        [5000, 16380],
      );
    }
    assert.equal(rig.count('b', 'rx_drop_too_long'), 3);
  });

  test('a frame that the whole ring could not hold is missed, and the next one arrives', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b', { ringSize: 8, rxBufLen: 256, rctl: R.RCTL_LPE });
    v.send(etherFrame(0xff, 1, 7 * 256 - 3), etherFrame(0xff, 1, 7 * 256 - 4));
    assert.equal(b.read(R.MPC), 1);
    assert.deepEqual(
      b.receive().map((got) => got.bytes.length),
      [7 * 256],
    );
  });

  test('while receive is off frames are dropped, so that a driver never meets stale ones', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b');
    b.write(R.RCTL, 0);
    v.send(etherFrame(0xff, 1));
    assert.equal(rig.count('b', 'rx_drop_disabled'), 1);
    b.write(R.RCTL, R.RCTL_EN | R.RCTL_BAM);
    assert.equal(b.receive().length, 0);
    b.device.setLink(false);
    v.send(etherFrame(0xff, 1));
    assert.equal(rig.count('b', 'rx_drop_link_down'), 1);
    b.device.setLink(true);
    b.configWrite(4, 0);
    v.send(etherFrame(0xff, 1));
    assert.equal(rig.count('b', 'rx_drop_disabled'), 2, 'not a bus master');
  });
});

describe('receive checksums', () => {
  const specs = fc.record({
    ip: fc.constantFrom<4 | 6>(4, 6),
    protocol: fc.constantFrom<'tcp' | 'udp'>('tcp', 'udp'),
    payload: fc.integer({ min: 0, max: 1400 }).map((n) => pattern(n, n)),
    vlans: fc.constantFrom<[number, number][]>([], [[0x8100, 5]]),
    destination: fc.constant(BROADCAST),
  });

  test('status says what was verified, errors what was wrong', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b', { rxBufLen: 512 });
    fc.assert(
      fc.property(specs, fc.nat(), fc.constantFrom('right', 'payload', 'ip'), (spec, where, damage) => {
        const frame = Uint8Array.from(buildFrame(spec));
        const l4 = l4Offset(spec);
        if (damage === 'payload') frame[l4 + 8 + (where % (frame.length - l4 - 8 || 1))]! ^= 0x10;
        if (damage === 'ip' && spec.ip === 4) frame[14 + 4 * spec.vlans.length + 8]! ^= 0x10;
        // a datagram of nothing has nothing behind its header
        const touched = damage === 'payload' && l4 + 8 < frame.length;
        v.send(frame);
        const [got] = b.receive();
        const ipcs = spec.ip === 4 ? E.RXD_IPCS : 0;
        assert.equal(got!.status, E.RXD_DD | E.RXD_EOP | E.RXD_TCPCS | ipcs);
        const tcpe = touched ? E.RXD_TCPE : 0;
        const ipe = damage === 'ip' && spec.ip === 4 ? E.RXD_IPE : 0;
        assert.equal(got!.errors, tcpe | ipe);
      }),
      { numRuns: 200 },
    );
  });

  test('what is not IP, is a fragment, has no checksum, or is not asked for is not verified: IXSM', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b');
    const status = (frame: number[] | Uint8Array) => {
      v.send(Uint8Array.from(frame));
      return b.receive()[0]!.status & ~(E.RXD_DD | E.RXD_EOP);
    };
    const spec: FrameSpec = { ip: 4, protocol: 'udp', payload: pattern(100), destination: BROADCAST };
    assert.equal(status(etherFrame(0xff, 1)), E.RXD_IXSM);
    assert.equal(status(buildFrame({ ...spec, frag: 0x2000 })), E.RXD_IPCS);
    const silent = buildFrame(spec);
    silent.fill(0, 40, 42);
    assert.equal(status(silent), E.RXD_IPCS);
    const beyond = buildFrame(spec);
    beyond[16] = 0xff;
    assert.equal(status(beyond), E.RXD_IXSM, 'a length beyond the frame');
    b.write(R.RXCSUM, R.RXCSUM_TUOFLD);
    assert.equal(status(buildFrame(spec)), E.RXD_TCPCS);
    b.write(R.RXCSUM, 0);
    assert.equal(status(buildFrame(spec)), E.RXD_IXSM);
  });

  test('a checksum that the sender left undone is completed in the buffer, and verified', () => {
    const features = VIRTIO_F_VERSION_1 | VIRTIO_NET_F_MRG_RXBUF | VIRTIO_NET_F_CSUM;
    const v = rig.virtio('v', { features });
    const b = rig.e1000('b', { rxBufLen: 512 });
    fc.assert(
      fc.property(specs, (spec) => {
        const l4 = l4Offset(spec);
        const at = spec.protocol === 'tcp' ? 16 : 6;
        v.queueFrame(
          Uint8Array.from(buildFrame({ ...spec, partialChecksum: true })),
          Uint8Array.of(1, 0, 0, 0, 0, 0, l4, 0, at, 0, 0, 0),
        );
        v.send();
        const [got] = b.receive();
        assert.deepEqual([...got!.frame], [...buildFrame(spec), ...Array(60).fill(0)].slice(0, got!.frame.length));
        assert.equal(got!.status & (E.RXD_TCPCS | E.RXD_IXSM), E.RXD_TCPCS);
        assert.equal(got!.errors, 0);
      }),
      { numRuns: 100 },
    );
  });

  test('the packet checksum is the sum from byte PCSS on, after stripping', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b', { rxBufLen: 256 });
    b.write(R.CTRL, b.read(R.CTRL) | R.CTRL_VME);
    fc.assert(
      fc.property(
        fc.integer({ min: 60, max: 1400 }),
        fc.integer({ min: 0, max: 255 }),
        fc.boolean(),
        (length, pcss, tag) => {
          const frame = etherFrame(0xff, 1, length);
          frame.set(pattern(length - 14, pcss), 14);
          b.write(R.RXCSUM, R.RXCSUM_TUOFLD | pcss);
          v.send(tag ? tagged(frame, 0x123) : frame);
          const [got] = b.receive();
          let sum = 0;
          for (let i = pcss; i < length; i += 2) sum += (frame[i]! << 8) + (frame[i + 1] ?? 0);
          while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536);
          assert.equal(got!.csum, sum);
        },
      ),
      {
        numRuns: 200,
        examples: [
          [60, 60, false],
          [60, 60, true],
          [60, 255, true],
          [192, 192, false],
          [193, 191, true],
        ],
      },
    );
  });
});

describe('filters', () => {
  const to = (...mac: number[]) => {
    const frame = etherFrame(1, 9);
    frame.set(mac, 0);
    return frame;
  };

  test('unicast: only addresses that are valid in RAL and RAH, unless RCTL.UPE is set', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b');
    const passes = (frame: Uint8Array) => {
      v.send(frame);
      return b.receive().map((got) => got.status & E.RXD_PIF);
    };
    assert.deepEqual(passes(to(2, 0, 0, 0, 0, 2)), [0], 'its own, from the EEPROM');
    assert.deepEqual(passes(to(2, 0, 0, 0, 0, 3)), []);
    assert.equal(rig.count('b', 'rx_drop_address'), 1);
    for (const i of [1, 15]) {
      b.write(R.RA + 8 * i, 0x03000002);
      b.write(R.RA + 8 * i + 4, 0x0700);
      assert.deepEqual(passes(to(2, 0, 0, 3, 0, 7)), [], 'not valid yet');
      b.write(R.RA + 8 * i + 4, 0x80000700);
      assert.deepEqual(passes(to(2, 0, 0, 3, 0, 7)), [0]);
      b.write(R.RA + 8 * i + 4, 0x80010700);
      assert.deepEqual(passes(to(2, 0, 0, 3, 0, 7)), [], 'compared with the source');
    }
    b.write(R.RCTL, b.read(R.RCTL) | R.RCTL_UPE);
    assert.deepEqual(passes(to(2, 0, 0, 0, 0, 3)), [E.RXD_PIF]);
  });

  test('multicast: the table of 4096 bits by RCTL.MO, against the driver’s own hash', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b');
    // Linux's e1000_hash_mc_addr
    const hash = (mo: number, a4: number, a5: number) =>
      [(a4 >> 4) | (a5 << 4), (a4 >> 3) | (a5 << 5), (a4 >> 2) | (a5 << 6), a4 | (a5 << 8)][mo]! & 0xfff;
    fc.assert(
      fc.property(fc.nat(3), fc.nat(255), fc.nat(255), fc.nat(4095), (mo, a4, a5, other) => {
        b.write(R.RCTL, R.RCTL_EN | (mo << R.RCTL_MO_SHIFT));
        for (let i = 0; i < 128; i++) b.write(R.MTA + 4 * i, 0);
        const set = (bit: number) => b.write(R.MTA + 4 * (bit >> 5), 1 << (bit & 31));
        const bit = hash(mo, a4, a5);
        if (other !== bit) set(other);
        v.send(to(1, 0, 0x5e, 1, a4, a5));
        assert.equal(b.receive().length, 0);
        set(bit);
        v.send(to(1, 0, 0x5e, 1, a4, a5));
        assert.equal(b.receive()[0]!.status & E.RXD_PIF, E.RXD_PIF);
      }),
      { numRuns: 60 },
    );
    b.write(R.RCTL, R.RCTL_EN | R.RCTL_MPE);
    v.send(to(3, 0, 0, 0, 0, 1), to(2, 0, 0, 0, 0, 3));
    assert.equal(b.receive().length, 1);
  });

  test('broadcasts: with RCTL.BAM', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b');
    b.write(R.RCTL, R.RCTL_EN);
    v.send(etherFrame(0xff, 1));
    assert.equal(b.receive().length, 0);
    b.write(R.RCTL, R.RCTL_EN | R.RCTL_BAM);
    v.send(etherFrame(0xff, 1));
    assert.equal(b.receive()[0]!.status & E.RXD_PIF, 0);
  });

  test('VLANs: with RCTL.VFE only those in VFTA, with CFIEN only of one CFI; untagged frames pass', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b', { rctl: R.RCTL_VFE });
    const passes = (tci: number) => {
      v.send(tagged(etherFrame(0xff, 1), tci));
      return b.receive().length === 1;
    };
    b.write(R.VFTA + 4 * (291 >> 5), 1 << (291 & 31));
    assert.deepEqual([passes(291), passes(0xe000 | 291), passes(290), passes(0)], [true, true, false, false]);
    v.send(etherFrame(0xff, 1));
    assert.equal(b.receive().length, 1);
    b.write(R.RCTL, b.read(R.RCTL) | R.RCTL_CFIEN);
    assert.deepEqual([passes(291), passes(0x1000 | 291)], [true, false]);
    b.write(R.RCTL, b.read(R.RCTL) | R.RCTL_CFI);
    assert.deepEqual([passes(291), passes(0x1000 | 291)], [false, true]);
    b.write(R.VET, 0x88a8);
    assert.equal(passes(5), true, 'another EtherType is no tag');
    assert.equal(rig.count('b', 'rx_drop_vlan'), 4);
  });

  test('what is rejected uses no descriptor and no interrupt', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b');
    v.send(to(2, 0, 0, 0, 0, 3));
    assert.deepEqual([b.read(R.RDH), b.pin, b.read(R.GPRC)], [0, false, 0]);
  });

  test('pause frames are counted when the driver wants flow control, and go no further with RCTL.DPF', () => {
    const v = rig.virtio('v');
    const b = rig.e1000('b', { rctl: R.RCTL_MPE | R.RCTL_DPF });
    b.write(R.CTRL, b.read(R.CTRL) | R.CTRL_RFCE);
    const pause = to(1, 0x80, 0xc2, 0, 0, 1);
    pause.set([0x88, 8, 0, 1, 0, 9], 12);
    v.send(pause);
    pause.set([0, 0], 16);
    v.send(pause);
    pause.set([0, 2], 14);
    v.send(pause);
    assert.deepEqual([b.read(R.XOFFRXC), b.read(R.XONRXC), b.read(R.FCRUC)], [1, 1, 1]);
    assert.equal(b.receive().length, 0);
  });
});
