/** Interrupts as clients set them up, and as drivers allow them in configuration space. */
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import {
  PCI_CAP_ID_MSI,
  PCI_CAP_ID_MSIX,
  PCI_COMMAND,
  PCI_COMMAND_INTX_DISABLE,
  PCI_STATUS,
  PCI_STATUS_INTERRUPT,
} from '../../../../src/frontends/pci/config-space.js';
import type { PciInterrupts } from '../../../../src/frontends/pci/pci-function.js';
import { eventfdWrite } from '../../../../src/sys/eventfd.js';
import type { Fd } from '../../../../src/sys/fd.js';
import { bytes, CMD, IRQ, irqSet } from '../../../support/vfio-user-client.js';
import { VfioRig } from '../../../support/vfio-user-rig.js';

const { EVENTFD, NONE, BOOL, TRIGGER, MASK, UNMASK } = IRQ;
const INTX = 0;
const MSI = 1;
const MSIX = 2;
const CONFIG = 7;

class IrqRig extends VfioRig {
  constructor(t: TestContext) {
    super(t);
    assert.ok(this.fn.interrupts);
  }

  get irq(): PciInterrupts {
    return this.fn.interrupts!;
  }

  set(flags: number, index: number, start: number, count: number, fds: readonly Fd[] = [], data?: Uint8Array): void {
    assert.equal(this.vm.get(CMD.DEVICE_SET_IRQS, irqSet(flags, index, start, count, data), { fds }).length, 0);
  }

  /** Descriptors for `count` interrupts of an index. */
  assign(index: number, count: number, start = 0): Fd[] {
    const fds = Array.from({ length: count }, () => this.eventfd());
    this.set(EVENTFD | TRIGGER, index, start, count, fds);
    return fds;
  }

  intx(): Fd {
    return this.assign(INTX, 1)[0]!;
  }

  setConfig16(off: number, value: number): void {
    this.vm.writeRegion(CONFIG, off, bytes(value).subarray(0, 2));
  }

  enableMsi(log2Vectors: number): void {
    const at = this.fn.config.capability(PCI_CAP_ID_MSI);
    this.setConfig16(at + 2, 1 | (log2Vectors << 4));
  }
}

test('INTx is signalled once when its level rises, and masks itself', (t) => {
  const rig = new IrqRig(t);
  const fd = rig.intx();
  rig.irq.intx(true);
  rig.irq.intx(true);
  assert.equal(rig.signals(fd), 1);
  rig.irq.intx(false);
  rig.irq.intx(true);
  assert.equal(rig.signals(fd), 0, 'the client has not unmasked it');
});

test('INTx is signalled again at the unmasking if its level is still there, and not if it is gone', (t) => {
  const rig = new IrqRig(t);
  const fd = rig.intx();
  rig.irq.intx(true);
  assert.equal(rig.signals(fd), 1);
  rig.set(NONE | UNMASK, INTX, 0, 1);
  assert.equal(rig.signals(fd), 1);
  rig.irq.intx(false);
  rig.set(NONE | UNMASK, INTX, 0, 1);
  assert.equal(rig.signals(fd), 0);
  rig.irq.intx(true);
  assert.equal(rig.signals(fd), 1);
});

test('INTx that the client masks is held back until it unmasks it', (t) => {
  const rig = new IrqRig(t);
  const fd = rig.intx();
  rig.set(NONE | MASK, INTX, 0, 1);
  rig.irq.intx(true);
  assert.equal(rig.signals(fd), 0);
  rig.set(BOOL | UNMASK, INTX, 0, 1, [], Uint8Array.of(0));
  assert.equal(rig.signals(fd), 0, 'its bool said no');
  rig.set(BOOL | UNMASK, INTX, 0, 1, [], Uint8Array.of(1));
  assert.equal(rig.signals(fd), 1);
});

test('INTx is unmasked and masked through eventfds, as KVM does it', (t) => {
  const rig = new IrqRig(t);
  const fd = rig.intx();
  const unmask = rig.eventfd();
  const mask = rig.eventfd();
  rig.set(EVENTFD | UNMASK, INTX, 0, 1, [unmask]);
  rig.set(EVENTFD | MASK, INTX, 0, 1, [mask]);
  for (let i = 0; i < 3; i++) {
    rig.irq.intx(true);
    assert.equal(rig.signals(fd), 1, `round ${i}`);
    rig.irq.intx(false);
    eventfdWrite(unmask.number);
    rig.steps(3);
  }
  eventfdWrite(mask.number);
  rig.steps(3);
  rig.irq.intx(true);
  assert.equal(rig.signals(fd), 0);
  eventfdWrite(unmask.number);
  rig.steps(3);
  assert.equal(rig.signals(fd), 1);
  // taken away again
  rig.set(EVENTFD | UNMASK, INTX, 0, 1);
  rig.irq.intx(false);
  eventfdWrite(unmask.number);
  rig.steps(3);
  rig.irq.intx(true);
  assert.equal(rig.signals(fd), 0);
});

test('a level that rose before there was a descriptor is signalled when there is one', (t) => {
  const rig = new IrqRig(t);
  rig.irq.intx(true);
  assert.equal(rig.signals(rig.intx()), 1);
});

test('INTx disable in the command register holds it back; the status register tells it all the same', (t) => {
  const rig = new IrqRig(t);
  const fd = rig.intx();
  rig.setConfig16(PCI_COMMAND, PCI_COMMAND_INTX_DISABLE);
  rig.irq.intx(true);
  assert.equal(rig.signals(fd), 0);
  const status = () => rig.vm.readRegion(CONFIG, PCI_STATUS, 2).readUInt16LE(0) & PCI_STATUS_INTERRUPT;
  assert.ok(status());
  rig.setConfig16(PCI_COMMAND, 0);
  assert.equal(rig.signals(fd), 1);
  rig.irq.intx(false);
  assert.ok(!status());
});

test('with MSI enabled INTx is not signalled', (t) => {
  const rig = new IrqRig(t);
  const fd = rig.intx();
  rig.enableMsi(0);
  rig.irq.intx(true);
  assert.equal(rig.signals(fd), 0);
});

test('MSI messages go to the descriptor of their vector; with fewer allowed they share the last', (t) => {
  const rig = new IrqRig(t);
  const fds = rig.assign(MSI, 4);
  rig.enableMsi(2);
  for (const vector of [0, 1, 1, 3]) rig.irq.msi(vector);
  assert.deepEqual(
    fds.map((fd) => rig.signals(fd)),
    [1, 2, 0, 1],
  );
  rig.enableMsi(1);
  rig.irq.msi(3);
  assert.deepEqual(
    fds.map((fd) => rig.signals(fd)),
    [0, 1, 0, 0],
  );
});

test('MSI-X messages go to the descriptor of their vector; one that is not there is nothing', (t) => {
  const rig = new IrqRig(t);
  const fds = rig.assign(MSIX, 3);
  const at = rig.fn.config.capability(PCI_CAP_ID_MSIX);
  rig.setConfig16(at + 2, 0x8000);
  assert.ok(rig.fn.config.msixEnabled);
  for (const vector of [0, 2, 2, 3, 1000]) rig.irq.msix(vector);
  assert.deepEqual(
    fds.map((fd) => rig.signals(fd)),
    [1, 0, 2],
  );
});

test('a message that comes while its vector has no descriptor is delivered when it gets one, once', (t) => {
  const rig = new IrqRig(t);
  const [first] = rig.assign(MSIX, 1);
  rig.set(EVENTFD | TRIGGER, MSIX, 0, 1);
  rig.irq.msix(0);
  rig.irq.msix(0);
  assert.equal(rig.signals(first!), 0);
  const [second] = rig.assign(MSIX, 1);
  assert.equal(rig.signals(second!), 1);
});

test('descriptors are assigned to a part of the vectors, and replaced', (t) => {
  const rig = new IrqRig(t);
  const [a, b, c] = rig.assign(MSIX, 3);
  const [replaced] = rig.assign(MSIX, 1, 1);
  for (const vector of [0, 1, 2]) rig.irq.msix(vector);
  assert.deepEqual(
    [a, b, replaced, c].map((fd) => rig.signals(fd!)),
    [1, 0, 1, 1],
  );
});

test('everything of an index is disabled by count 0', (t) => {
  const rig = new IrqRig(t);
  const fds = rig.assign(MSIX, 3);
  rig.set(NONE | TRIGGER, MSIX, 0, 0);
  for (const vector of [0, 1, 2]) rig.irq.msix(vector);
  assert.deepEqual(
    fds.map((fd) => rig.signals(fd)),
    [0, 0, 0],
  );
});

test('a client triggers interrupts itself, all of a range or those that its bools choose', (t) => {
  const rig = new IrqRig(t);
  const fds = rig.assign(MSIX, 3);
  rig.set(NONE | TRIGGER, MSIX, 0, 2);
  rig.set(BOOL | TRIGGER, MSIX, 0, 3, [], Uint8Array.of(1, 0, 7));
  assert.deepEqual(
    fds.map((fd) => rig.signals(fd)),
    [2, 1, 1],
  );
  const intx = rig.intx();
  rig.set(NONE | TRIGGER, INTX, 0, 1);
  assert.equal(rig.signals(intx), 1);
});

test('interrupts are counted', (t) => {
  const rig = new IrqRig(t);
  rig.assign(MSIX, 1);
  rig.irq.msix(0);
  rig.irq.msix(0);
  assert.equal(rig.runtime.count('nic/vfio-user', 'interrupts'), 2);
});
