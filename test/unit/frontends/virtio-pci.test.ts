/** virtio-net as a PCI function, as modern and legacy drivers see it through a vfio-user connection. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import { VirtioNet } from '../../../src/frontends/virtio-net/device.js';
import { VirtioPciFunction } from '../../../src/frontends/virtio-pci/function.js';
import { openBackend } from '../../../src/net-backends/registry.js';
import { etherFrame } from '../../support/test-guest.js';
import { bytes, CMD, dmaMap, dmaUnmap } from '../../support/vfio-user-client.js';
import { VfioFabric } from '../../support/vfio-user-rig.js';
import {
  COMMON,
  CONFIG,
  DRIVER_MEMORY,
  LEGACY,
  MODERN_FEATURES,
  RX,
  ringAt,
  STATUS,
  TX,
  VirtioPciDriver,
} from '../../support/virtio-pci-driver.js';

type DriverOptions = ConstructorParameters<typeof VirtioPciDriver>[2];

class PciRig extends VfioFabric {
  readonly functions: VirtioPciFunction[] = [];

  /** A NIC on switch vale0, and its driver. */
  nicWithDriver(n: number, options: DriverOptions = {}): VirtioPciDriver {
    const { runtime } = this;
    const name = `vm${n}`;
    const device = new VirtioNet({
      ...{ runtime, name, mac: Uint8Array.of(2, 0, 0, 0, 0, n), mtu: 9000 },
      openBackend: (onReceive) => openBackend(runtime, `vale0:${name}`, onReceive, name),
    });
    const fn = new VirtioPciFunction(runtime, name, device);
    this.onClose(() => fn.close());
    this.functions.push(fn);
    const { path } = this.serveFunction(fn, name);
    return new VirtioPciDriver(this, path, options);
  }

  /** Two of them, started. */
  pair(a: DriverOptions = {}, b: DriverOptions = {}): [VirtioPciDriver, VirtioPciDriver] {
    const drivers: [VirtioPciDriver, VirtioPciDriver] = [this.nicWithDriver(1, a), this.nicWithDriver(2, b)];
    for (const driver of drivers) driver.start();
    return drivers;
  }
}

const oneNic = (t: TestContext, options?: DriverOptions): [VirtioPciDriver, PciRig] => {
  const rig = new PciRig(t);
  return [rig.nicWithDriver(1, options), rig];
};

test('is a transitional network card of virtio by its identifiers', (t) => {
  const [driver] = oneNic(t);
  const config = driver.vm.readRegion(CONFIG, 0, 64);
  assert.equal(config.readUInt32LE(0), 0x10001af4);
  assert.equal(config.readUInt32LE(8) >>> 8, 0x020000);
  assert.equal(config[8], 0, 'revision 0');
  assert.equal(config.readUInt32LE(0x2c), 0x00011af4);
  assert.equal(config[0x3d], 1, 'INTA#');
});

test('has MSI-X and each structure of the modern interface in its chain of capabilities', (t) => {
  const [driver] = oneNic(t);
  const found = driver.capabilities();
  assert.equal(found.filter((c) => c.id === 0x11).length, 1);
  const structures = found.filter((c) => c.id === 9).map(({ type, bar, offset }) => ({ type, bar, offset }));
  assert.deepEqual(
    structures.sort((a, b) => a.type - b.type),
    [
      { type: 1, bar: 4, offset: 0 },
      { type: 2, bar: 4, offset: 0x3000 },
      { type: 3, bar: 4, offset: 0x1000 },
      { type: 4, bar: 4, offset: 0x2000 },
      { type: 5, bar: 0, offset: 0 },
    ],
  );
});

const kinds: Record<string, DriverOptions> = {
  'modern, MSI-X': {},
  'modern, INTx': { msix: false },
  'legacy, INTx': { legacy: true },
  'legacy, MSI-X': { legacy: true, msix: true },
};

for (const [name, options] of Object.entries(kinds))
  test(`frames pass both ways (${name})`, (t) => {
    const rig = new PciRig(t);
    const [one, two] = rig.pair(options, options);
    for (const [from, to] of [
      [one, two],
      [two, one],
    ] as const)
      for (const length of [60, 1514]) {
        const frame = etherFrame(0xff, 0x11, length, length & 0xff);
        from.transmit(frame);
        assert.deepEqual(to.received(), [Buffer.from(frame)]);
        assert.ok(from.rings[TX]!.reclaim(), 'the chain came back');
      }
  });

test('each queue interrupts by its own MSI-X vector', (t) => {
  const rig = new PciRig(t);
  const [one, two] = rig.pair();
  one.interrupts();
  two.interrupts();
  one.transmit(etherFrame(0xff, 0x11, 60));
  assert.deepEqual(one.interrupts(), [0, 1, 0]);
  assert.deepEqual(two.interrupts(), [1, 0, 0]);
});

test('a queue without a vector does not interrupt; a vector that is not there reads back as none', (t) => {
  const rig = new PciRig(t);
  const [one] = rig.pair();
  one.writeCommon(COMMON.QUEUE_SELECT, 2, TX);
  one.writeCommon(COMMON.QUEUE_MSIX_VECTOR, 2, 3);
  assert.equal(one.readCommon(COMMON.QUEUE_MSIX_VECTOR, 2), 0xffff);
  one.interrupts();
  one.transmit(etherFrame(0xff, 0x11, 60));
  assert.deepEqual(one.interrupts(), [0, 0, 0]);
});

for (const legacy of [false, true])
  test(`INTx goes up with a used buffer and down when the ISR is read (${legacy ? 'legacy' : 'modern'})`, (t) => {
    const rig = new PciRig(t);
    const [one, two] = rig.pair({ legacy, msix: false }, { legacy, msix: false });
    one.acknowledge();
    two.acknowledge();
    two.interrupts();
    for (let i = 0; i < 3; i++) {
      one.transmit(etherFrame(0xff, 0x11, 60));
      assert.deepEqual(two.interrupts(), [1], `frame ${i}`);
      assert.equal(two.acknowledge(), 1);
      assert.equal(two.acknowledge(), 0);
      assert.deepEqual(two.interrupts(), [0]);
    }
  });

test('features that were not offered are not taken: FEATURES_OK does not stay', (t) => {
  const [driver] = oneNic(t);
  driver.status = 3;
  driver.accept(MODERN_FEATURES | (1n << 40n));
  driver.status = 3 | STATUS.FEATURES_OK;
  assert.equal(driver.status, 3);
  driver.accept(MODERN_FEATURES);
  driver.status = 3 | STATUS.FEATURES_OK;
  assert.equal(driver.status, 3 | STATUS.FEATURES_OK);
});

test('features are settled after FEATURES_OK', (t) => {
  const [driver, rig] = oneNic(t);
  driver.status = 3;
  driver.accept(MODERN_FEATURES);
  driver.status = 3 | STATUS.FEATURES_OK;
  driver.accept(0n);
  assert.equal(rig.functions[0]!.driverFeatures, MODERN_FEATURES);
});

test('a legacy driver is offered the lower 32 features, and what it does not know is not taken', (t) => {
  const [driver, rig] = oneNic(t, { legacy: true });
  const offered = driver.offered();
  assert.equal(offered >> 32n, 0n);
  assert.ok((offered & (1n << 5n)) !== 0n);
  driver.vm.write32(0, LEGACY.DRIVER_FEATURES, 0xffffffff);
  assert.equal(rig.functions[0]!.driverFeatures, offered);
});

test('there are two queues of 256; a size is a power of two that is not larger', (t) => {
  const [driver] = oneNic(t);
  assert.equal(driver.readCommon(COMMON.NUM_QUEUES, 2), 2);
  for (const size of [0, 3, 255, 512]) {
    driver.writeCommon(COMMON.QUEUE_SIZE, 2, size);
    assert.equal(driver.readCommon(COMMON.QUEUE_SIZE, 2), 256, `after ${size}`);
  }
  driver.writeCommon(COMMON.QUEUE_SIZE, 2, 32);
  assert.equal(driver.readCommon(COMMON.QUEUE_SIZE, 2), 32);
  driver.writeCommon(COMMON.QUEUE_SELECT, 2, 2);
  assert.equal(driver.readCommon(COMMON.QUEUE_SIZE, 2), 0, 'a queue that is not there');
});

test('each queue has a notification address of its own', (t) => {
  const [driver] = oneNic(t);
  for (const queue of [RX, TX]) {
    driver.writeCommon(COMMON.QUEUE_SELECT, 2, queue);
    assert.equal(driver.readCommon(COMMON.QUEUE_NOTIFY_OFF, 2), queue);
  }
});

test('rings do not run before DRIVER_OK, and run from it on', (t) => {
  const rig = new PciRig(t);
  const [one, two] = [rig.nicWithDriver(1), rig.nicWithDriver(2)];
  two.start();
  one.status = 3;
  one.accept(MODERN_FEATURES);
  one.status = 3 | STATUS.FEATURES_OK;
  one.placeRing(RX);
  one.placeRing(TX);
  one.transmit(etherFrame(0xff, 0x11, 60));
  assert.deepEqual(two.received(), []);
  one.status = 3 | STATUS.FEATURES_OK | STATUS.DRIVER_OK;
  one.vm.sync();
  rig.steps(5);
  assert.equal(two.received().length, 1);
});

test('status 0 resets: rings stop, and the driver may begin anew', (t) => {
  const rig = new PciRig(t);
  const [one, two] = rig.pair();
  one.status = 0;
  assert.equal(one.status, 0);
  assert.equal(one.readCommon(COMMON.QUEUE_ENABLE, 2), 0);
  two.transmit(etherFrame(0xff, 0x22, 60));
  assert.deepEqual(one.received(), []);
  one.start();
  two.transmit(etherFrame(0xff, 0x22, 60));
  assert.equal(one.received().length, 1);
});

test('DEVICE_RESET of the hypervisor resets registers and configuration space', (t) => {
  const [driver] = oneNic(t);
  driver.start();
  driver.vm.get(CMD.DEVICE_RESET);
  assert.equal(driver.status, 0);
  assert.equal(driver.vm.readRegion(CONFIG, 4, 2).readUInt16LE(0), 0);
});

test('without bus master nothing is read or written; with it again the rings go on where they were', (t) => {
  const rig = new PciRig(t);
  const [one, two] = rig.pair();
  one.transmit(etherFrame(0xff, 0x11, 60, 1));
  two.vm.writeRegion(CONFIG, 4, bytes(3).subarray(0, 2));
  one.transmit(etherFrame(0xff, 0x11, 60, 2));
  two.vm.writeRegion(CONFIG, 4, bytes(7).subarray(0, 2));
  one.transmit(etherFrame(0xff, 0x11, 60, 3));
  assert.deepEqual(
    two.received().map((f) => f.at(-1)),
    [1, 3],
  );
});

test('rings go on while other memory comes and goes', (t) => {
  const rig = new PciRig(t);
  const [one, two] = rig.pair();
  for (let i = 0; i < 5; i++) {
    two.vm.get(CMD.DMA_MAP, dmaMap(0x1000000, 0x1000), { fds: [two.memory] });
    one.transmit(etherFrame(0xff, 0x11, 60, i));
    two.vm.get(CMD.DMA_UNMAP, dmaUnmap(0x1000000, 0x1000));
  }
  assert.equal(two.received().length, 5);
});

test('memory that goes away under a running ring asks for a reset, and the driver is told', (t) => {
  const [driver] = oneNic(t);
  driver.start();
  driver.interrupts();
  driver.vm.get(CMD.DMA_UNMAP, dmaUnmap(0, DRIVER_MEMORY));
  assert.ok(driver.status & STATUS.NEEDS_RESET);
  assert.deepEqual(driver.interrupts(), [0, 0, 1]);
});

test('a ring outside guest memory asks for a reset', (t) => {
  const [driver, rig] = oneNic(t);
  driver.start();
  driver.status = 0;
  driver.status = 3;
  driver.accept(MODERN_FEATURES);
  driver.status = 3 | STATUS.FEATURES_OK;
  driver.writeCommon(COMMON.QUEUE_DESC + 4, 4, 0xffffffff);
  driver.writeCommon(COMMON.QUEUE_ENABLE, 2, 1);
  driver.status = 3 | STATUS.FEATURES_OK | STATUS.DRIVER_OK;
  assert.ok(driver.status & STATUS.NEEDS_RESET);
  assert.match(rig.warnings().join('\n'), /vm1: queue 0 cannot start: .*the driver has to reset the device/);
});

test('a ring that its driver breaks asks for a reset', (t) => {
  const [driver] = oneNic(t);
  driver.start();
  driver.rings[TX]!.offerRaw(0xfff);
  driver.rings[TX]!.publish();
  driver.notify(TX);
  driver.vm.sync();
  assert.ok(driver.status & STATUS.NEEDS_RESET);
  driver.start();
  assert.ok(!(driver.status & STATUS.NEEDS_RESET));
});

test('the link is in device configuration; a change is told by a configuration interrupt and a new generation', (t) => {
  const [driver, rig] = oneNic(t);
  driver.start();
  driver.interrupts();
  const link = () => driver.vm.readRegion(4, 0x2006, 2).readUInt16LE(0);
  const generation = driver.readCommon(COMMON.CONFIG_GENERATION, 1);
  assert.equal(link(), 1);
  rig.functions[0]!.setLink(false);
  assert.equal(link(), 0);
  assert.deepEqual(driver.interrupts(), [0, 0, 1]);
  assert.notEqual(driver.readCommon(COMMON.CONFIG_GENERATION, 1), generation);
});

test('with INTx a change of configuration is bit 1 of the ISR', (t) => {
  const [driver, rig] = oneNic(t, { legacy: true });
  driver.start();
  driver.acknowledge();
  rig.functions[0]!.setLink(false);
  assert.equal(driver.acknowledge(), 2);
});

test('MAC address and MTU are read byte by byte and in words, at both interfaces', (t) => {
  const [driver] = oneNic(t, { legacy: true });
  const mac = Buffer.of(2, 0, 0, 0, 0, 1);
  for (const [region, at] of [
    [4, 0x2000],
    [0, LEGACY.CONFIG],
  ] as const) {
    assert.deepEqual(Buffer.concat([...mac.keys()].map((i) => driver.vm.readRegion(region, at + i, 1))), mac);
    assert.deepEqual(driver.vm.readRegion(region, at, 6), mac);
    assert.equal(driver.vm.readRegion(region, at + 10, 2).readUInt16LE(0), 9000);
  }
});

test('with MSI-X the legacy header has its vectors, and configuration comes after them', (t) => {
  const [driver] = oneNic(t, { legacy: true, msix: true });
  driver.vm.writeRegion(0, 20, bytes(2).subarray(0, 2));
  driver.vm.writeRegion(0, 22, bytes(1).subarray(0, 2));
  assert.equal(driver.vm.readRegion(0, 20, 2).readUInt16LE(0), 2);
  assert.equal(driver.vm.readRegion(0, 22, 2).readUInt16LE(0), 1);
  assert.deepEqual(driver.vm.readRegion(0, 24, 6), Buffer.of(2, 0, 0, 0, 0, 1));
});

test('a BAR is reached through configuration space (the PCI access capability)', (t) => {
  const [driver] = oneNic(t);
  const { at } = driver.capabilities().find((c) => c.id === 9 && c.type === 5)!;
  const aim = (bar: number, offset: number, length: number) => {
    driver.vm.writeRegion(CONFIG, at + 4, Uint8Array.of(bar));
    driver.vm.write32(CONFIG, at + 8, offset);
    driver.vm.write32(CONFIG, at + 12, length);
  };
  aim(4, COMMON.QUEUE_SELECT, 2);
  driver.vm.writeRegion(CONFIG, at + 16, bytes(1).subarray(0, 2));
  assert.equal(driver.readCommon(COMMON.QUEUE_SELECT, 2), 1);
  aim(4, 0x2000, 4);
  assert.deepEqual(driver.vm.readRegion(CONFIG, at + 16, 4), Buffer.of(2, 0, 0, 0));
  // beyond the BAR, in a BAR that is not there, of a length that is none: nothing happens
  for (const [bar, offset, length] of [
    [4, 0x4000, 4],
    [4, 0xffffffff, 4],
    [3, 0, 4],
    [255, 0, 4],
    [4, 0, 3],
  ] as const) {
    aim(bar, offset, length);
    assert.deepEqual(driver.vm.readRegion(CONFIG, at + 16, 4), Buffer.alloc(4));
    driver.vm.write32(CONFIG, at + 16, 0xffffffff);
  }
});

test('registers that do not exist read all ones, are not written, and are counted', (t) => {
  const [driver, rig] = oneNic(t);
  assert.equal(driver.readCommon(60, 4), 0xffffffff);
  assert.equal(driver.vm.readRegion(4, 0x1004, 2).readUInt16LE(0), 0xffff);
  assert.equal(driver.vm.read32(1, 0x100), 0xffffffff);
  driver.writeCommon(COMMON.NUM_QUEUES, 2, 7);
  driver.writeCommon(COMMON.QUEUE_SIZE, 1, 7);
  driver.vm.postRegion(4, 0x3000 + 4 * 2, bytes(2));
  driver.vm.sync();
  assert.equal(rig.runtime.count('vm1/virtio-pci', 'bad_reads'), 3);
  assert.equal(rig.runtime.count('vm1/virtio-pci', 'bad_writes'), 3);
});

test('the MSI-X table keeps what is written, masked after reset; no bit is pending', (t) => {
  const [driver] = oneNic(t);
  assert.equal(driver.vm.read32(1, 12), 1);
  driver.vm.writeRegion(1, 0, bytes(0xfee00000, 0, 0x4041, 0));
  assert.deepEqual(driver.vm.readRegion(1, 0, 16), bytes(0xfee00000, 0, 0x4041, 0));
  assert.equal(driver.vm.read32(1, 0x800), 0);
  driver.vm.get(CMD.DEVICE_RESET);
  assert.equal(driver.vm.read32(1, 12), 1);
});

test('what describes a ring cannot be changed while it is enabled', (t) => {
  const [driver] = oneNic(t);
  driver.start();
  driver.writeCommon(COMMON.QUEUE_SELECT, 2, TX);
  driver.writeCommon(COMMON.QUEUE_DESC, 4, 0x5000);
  driver.writeCommon(COMMON.QUEUE_SIZE, 2, 16);
  assert.equal(driver.readCommon(COMMON.QUEUE_DESC, 4), ringAt(TX));
  assert.equal(driver.readCommon(COMMON.QUEUE_SIZE, 2), 64);
});

test('a legacy driver takes its ring away with page 0', (t) => {
  const rig = new PciRig(t);
  const [one, two] = rig.pair({ legacy: true }, { legacy: true });
  one.vm.writeRegion(0, LEGACY.QUEUE_SELECT, bytes(RX).subarray(0, 2));
  one.vm.write32(0, LEGACY.QUEUE_ADDRESS, 0);
  assert.equal(one.vm.read32(0, LEGACY.QUEUE_ADDRESS), 0);
  two.transmit(etherFrame(0xff, 0x22, 60));
  assert.deepEqual(one.received(), []);
});

test('the next hypervisor finds the function reset', (t) => {
  const rig = new PciRig(t);
  const driver = rig.nicWithDriver(1);
  driver.start();
  driver.vm.close();
  rig.steps(10);
  const next = new VirtioPciDriver(rig, `${rig.dir}/vm1.sock`);
  assert.equal(next.status, 0);
  next.start();
});
