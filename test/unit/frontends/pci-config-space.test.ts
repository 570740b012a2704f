/** PCI configuration space: header, BAR sizing, capabilities, and what a driver may change. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  msiCapability,
  msixCapability,
  PCI_BASE_ADDRESS_0,
  PCI_CAP_ID_MSI,
  PCI_CAP_ID_MSIX,
  PCI_CAP_ID_PM,
  PCI_COMMAND,
  PCI_STATUS,
  PciConfigSpace,
  powerManagementCapability,
} from '../../../src/frontends/pci/config-space.js';
import type { PciBar } from '../../../src/frontends/pci/pci-function.js';

const identity = {
  vendorId: 0x1234,
  deviceId: 0x5678,
  revision: 9,
  classCode: 0x020000,
  subsystemVendorId: 0xabcd,
  subsystemId: 0xef01,
};

const bars: readonly (PciBar | undefined)[] = [
  { kind: 'mem32', size: 0x20000 },
  { kind: 'io', size: 64 },
  { kind: 'mem64', size: 0x4000, prefetchable: true },
  undefined,
  undefined,
  undefined,
];

const capabilities = [
  powerManagementCapability(0xc802),
  msiCapability(3),
  msixCapability({ vectors: 5, bar: 2, tableOff: 0, pbaOff: 0x1000 }),
];

function make(): PciConfigSpace {
  return new PciConfigSpace({ identity, bars, interruptPin: 1, capabilities });
}

function write32(config: PciConfigSpace, off: number, value: number): void {
  config.write(off, new Uint8Array(Uint32Array.of(value).buffer));
}

test('a BAR tells its size: of all ones, the bits below it read 0', () => {
  const config = make();
  const expected = [0xfffe0000, 0xffffffc1, 0xffffc00c, 0xffffffff, 0, 0];
  for (const [i, value] of expected.entries()) {
    write32(config, PCI_BASE_ADDRESS_0 + 4 * i, 0xffffffff);
    assert.equal(config.u32(PCI_BASE_ADDRESS_0 + 4 * i), value, `BAR ${i}`);
    write32(config, PCI_BASE_ADDRESS_0 + 4 * i, 0);
  }
  assert.equal(config.u32(PCI_BASE_ADDRESS_0 + 4), 1, 'I/O');
  assert.equal(config.u32(PCI_BASE_ADDRESS_0 + 8), 0xc, '64 bits, prefetchable');
});

for (const [what, bar] of [
  ['no power of two', { kind: 'mem32', size: 0x3000 }],
  ['too small for memory', { kind: 'mem32', size: 8 }],
  ['too small for I/O', { kind: 'io', size: 2 }],
] as const)
  test(`refuses a BAR that is ${what}`, () => {
    assert.throws(() => new PciConfigSpace({ identity, bars: [bar], interruptPin: 0, capabilities: [] }), RangeError);
  });

test('refuses a 64-bit BAR in the last register', () => {
  const last = [undefined, undefined, undefined, undefined, undefined, { kind: 'mem64', size: 4096 }] as const;
  assert.throws(() => new PciConfigSpace({ identity, bars: last, interruptPin: 0, capabilities: [] }), RangeError);
});

test('the chain leads through every capability, and none overlaps another', () => {
  const config = make();
  const seen: number[] = [];
  for (let at = config.u8(0x34); at !== 0; at = config.u8(at + 1)) seen.push(config.u8(at));
  assert.deepEqual(seen, [PCI_CAP_ID_PM, PCI_CAP_ID_MSI, PCI_CAP_ID_MSIX]);
  assert.deepEqual([config.msiCapable, config.msixCapable], [8, 5]);
  assert.ok((config.u16(PCI_STATUS) & 0x10) !== 0);
});

test('capabilities may have places of their own; one without room is refused', () => {
  const at = new PciConfigSpace({
    identity,
    bars,
    interruptPin: 1,
    capabilities: [powerManagementCapability(2, 0xdc), msiCapability(0, 0xf0)],
  });
  assert.equal(at.u8(0x34), 0xdc);
  assert.equal(at.u8(0xdd), 0xf0);
  assert.throws(
    () => new PciConfigSpace({ identity, bars, interruptPin: 1, capabilities: [msiCapability(0, 0xf8)] }),
    RangeError,
  );
});

test('what the driver enables can be asked for', () => {
  const config = make();
  const word = (off: number, value: number) => config.write(off, Uint8Array.of(value & 0xff, value >> 8));
  assert.ok(!config.busMaster && !config.msiEnabled && !config.msixEnabled && !config.intxDisabled);
  word(PCI_COMMAND, 0x404);
  assert.ok(config.busMaster && config.intxDisabled);
  word(config.capability(PCI_CAP_ID_MSI) + 2, 1 | (2 << 4));
  assert.ok(config.msiEnabled);
  assert.equal(config.msiVectors, 4);
  word(config.capability(PCI_CAP_ID_MSIX) + 2, 0xc000);
  assert.ok(config.msixEnabled && config.msixMasked);
  word(config.capability(PCI_CAP_ID_PM) + 4, 3);
  assert.equal(config.powerState, 3);
  config.reset();
  assert.equal(config.powerState, 0);
  assert.ok(!config.busMaster && !config.msiEnabled && !config.msixEnabled);
});

test('PME status is cleared by writing 1, and kept by writing 0', () => {
  const config = make();
  const at = config.capability(PCI_CAP_ID_PM) + 4;
  config.set(at, 2, 0x8100);
  config.write(at, Uint8Array.of(0, 1));
  assert.equal(config.u16(at), 0x8100);
  config.write(at, Uint8Array.of(0, 0x81));
  assert.equal(config.u16(at), 0x0100);
});

test('the interrupt bit of the status register follows the pin, and no driver changes it', () => {
  const config = make();
  config.setInterruptStatus(true);
  config.write(PCI_STATUS, Uint8Array.of(0xff, 0xff));
  assert.ok((config.u16(PCI_STATUS) & 8) !== 0);
  config.setInterruptStatus(false);
  assert.ok((config.u16(PCI_STATUS) & 8) === 0);
});

test('whatever is written, in whatever pieces: identity, sizes and the chain stay, and nothing outside is touched', () => {
  // a bit that a driver cannot set from 0 nor clear from 1 in one go is not its own
  const fixed = (() => {
    const config = make();
    const before = new Uint8Array(256);
    config.read(0, before);
    config.write(0, new Uint8Array(256).fill(0xff));
    const ones = new Uint8Array(256);
    config.read(0, ones);
    config.write(0, new Uint8Array(256));
    const zeros = new Uint8Array(256);
    config.read(0, zeros);
    return { before, mask: before.map((_, i) => ~(ones[i]! ^ zeros[i]!) & 0xff) };
  })();
  const writes = fc.array(fc.tuple(fc.integer({ min: 0, max: 300 }), fc.uint8Array({ minLength: 1, maxLength: 16 })));
  fc.assert(
    fc.property(writes, (list) => {
      const config = make();
      for (const [off, data] of list) config.write(off, data);
      const after = new Uint8Array(256);
      config.read(0, after);
      for (let i = 0; i < 256; i++)
        assert.equal(after[i]! & fixed.mask[i]!, fixed.before[i]! & fixed.mask[i]!, `byte ${i}`);
      config.reset();
      config.read(0, after);
      assert.deepEqual(after, fixed.before);
    }),
  );
});

test('reads beyond the end are zeros', () => {
  const config = make();
  const out = new Uint8Array(8).fill(0xee);
  config.read(252, out);
  assert.deepEqual(out.subarray(4), new Uint8Array(4));
  config.read(4096, out);
  assert.deepEqual(out, new Uint8Array(8));
});
