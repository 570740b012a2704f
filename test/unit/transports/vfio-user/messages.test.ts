/** Each message of the protocol, as the specification has it. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readAt, writeAt } from '../../../../src/sys/fd.js';
import { NativeBuffer } from '../../../../src/sys/native-buffer.js';
import {
  bytes,
  CMD,
  dmaMap,
  dmaUnmap,
  F_NO_REPLY,
  IRQ,
  irqSet,
  QEMU_CAPABILITIES,
  versionPayload,
} from '../../../support/vfio-user-client.js';
import { VfioRig } from '../../../support/vfio-user-rig.js';

const CONFIG = 7;
const MEMORY = 1 << 20;

test('VERSION: the reply is a subset of what was proposed, ends in a zero byte and is not longer than the request', (t) => {
  const { vm } = new VfioRig(t, { negotiated: false });
  const request = versionPayload();
  const reply = vm.get(CMD.VERSION, request);
  assert.ok(reply.length <= request.length, `${reply.length} bytes to ${request.length}`);
  assert.equal(reply.readUInt16LE(0), 0);
  assert.equal(reply.readUInt16LE(2), 0);
  assert.equal(reply.at(-1), 0);
  const { capabilities } = JSON.parse(reply.subarray(4, -1).toString());
  assert.deepEqual(capabilities, {
    max_msg_fds: 16,
    max_data_xfer_size: 131072,
    max_dma_maps: 1024,
    pgsizes: 4096,
    write_multiple: true,
  });
  for (const key of Object.keys(capabilities)) assert.ok(key in QEMU_CAPABILITIES.capabilities, key);
});

test('VERSION without capabilities is answered without any', (t) => {
  const { vm } = new VfioRig(t, { negotiated: false });
  assert.deepEqual(vm.get(CMD.VERSION, bytes(0)), bytes(0));
});

test('VERSION: capabilities are left out until the reply fits the request', (t) => {
  const { vm } = new VfioRig(t, { negotiated: false });
  const request = versionPayload('{"capabilities":{"max_msg_fds":8,"pgsizes":4096}}');
  const reply = vm.get(CMD.VERSION, request);
  assert.ok(reply.length <= request.length);
  assert.deepEqual(JSON.parse(reply.subarray(4, -1).toString()), { capabilities: { max_msg_fds: 16 } });
});

test('VERSION: a higher minor version is answered with the one that exists', (t) => {
  const { vm } = new VfioRig(t, { negotiated: false });
  assert.equal(vm.get(CMD.VERSION, versionPayload(undefined, 0, 7)).readUInt16LE(2), 0);
});

test('DEVICE_GET_INFO: a PCI device that can be reset, with 9 regions and 5 kinds of interrupt', (t) => {
  const { vm } = new VfioRig(t);
  assert.deepEqual(vm.get(CMD.DEVICE_GET_INFO, bytes(16, 0, 0, 0)), bytes(16, 3, 9, 5));
});

test('DEVICE_GET_REGION_INFO tells the size of each BAR and of configuration space', (t) => {
  const { vm } = new VfioRig(t);
  const sizes = [0x20000, 64, 0x4000, 0, 0, 0, 0, 256, 0];
  for (const [index, size] of sizes.entries()) {
    const reply = vm.get(CMD.DEVICE_GET_REGION_INFO, bytes(32, 0, index, 0, 0n, 0n));
    assert.deepEqual(reply, bytes(32, size > 0 ? 3 : 0, index, 0, BigInt(size), 0n));
  }
});

test('DEVICE_GET_REGION_IO_FDS: no region has any', (t) => {
  const { vm } = new VfioRig(t);
  assert.deepEqual(vm.get(CMD.DEVICE_GET_REGION_IO_FDS, bytes(16, 0, 0, 0)), bytes(16, 0, 0, 0));
});

test('DEVICE_GET_IRQ_INFO: INTx masks itself, MSI and MSI-X are set up at once', (t) => {
  const { vm } = new VfioRig(t);
  const expected = [
    [7, 1],
    [9, 4],
    [9, 3],
    [9, 0],
    [9, 0],
  ] as const;
  for (const [index, [flags, count]] of expected.entries())
    assert.deepEqual(vm.get(CMD.DEVICE_GET_IRQ_INFO, bytes(16, 0, index, 0)), bytes(16, flags, index, count));
});

test('REGION_READ and REGION_WRITE reach registers with the size of the access', (t) => {
  const { vm, fn } = new VfioRig(t);
  vm.write32(0, 0x3818, 0xdeadbeef);
  assert.equal(vm.read32(0, 0x3818), 0xdeadbeef);
  vm.writeRegion(1, 2, bytes(0x1234).subarray(0, 2));
  assert.equal(vm.readRegion(1, 2, 1)[0], 0x34);
  assert.deepEqual(fn.accesses, ['W0+14360:4=deadbeef', 'R0+14360:4', 'W1+2:2=1234', 'R1+2:1']);
});

test('an access of 8 bytes is two of 4, the low one first; one that is not aligned is split at the alignment', (t) => {
  const { vm, fn } = new VfioRig(t);
  vm.writeRegion(0, 8, bytes(0x1122334455667788n));
  assert.deepEqual(vm.readRegion(0, 8, 8), bytes(0x1122334455667788n));
  assert.deepEqual(vm.readRegion(0, 9, 7), bytes(0x1122334455667788n).subarray(1));
  assert.deepEqual(fn.accesses, [
    'W0+8:4=55667788',
    'W0+12:4=11223344',
    'R0+8:4',
    'R0+12:4',
    'R0+9:1',
    'R0+10:2',
    'R0+12:4',
  ]);
});

test('configuration space is read whole and written by its masks', (t) => {
  const { vm, fn } = new VfioRig(t);
  const whole = vm.readRegion(CONFIG, 0, 256);
  assert.equal(whole.readUInt32LE(0), 0x100f8086);
  vm.writeRegion(CONFIG, 0, bytes(0xffffffff));
  vm.write32(CONFIG, 0x10, 0xffffffff);
  assert.equal(vm.read32(CONFIG, 0), 0x100f8086);
  assert.equal(vm.read32(CONFIG, 0x10), 0xfffe0000);
  assert.deepEqual(fn.events, ['attach', 'config', 'config']);
});

test('a posted write has no reply, and is done before what follows it', (t) => {
  const { vm } = new VfioRig(t);
  vm.postRegion(0, 0x100, bytes(7));
  vm.postRegion(0, 0x100, bytes(8));
  assert.equal(vm.read32(0, 0x100), 8);
});

test('REGION_WRITE_MULTI does its writes in order and says how many', (t) => {
  const { vm, fn } = new VfioRig(t);
  const writes = bytes(2n, 0x10n, 0, 4, 0xaan, 0x20n, 1, 2, 0xbbbbn);
  assert.deepEqual(vm.get(CMD.REGION_WRITE_MULTI, writes), bytes(2n));
  assert.deepEqual(fn.accesses, ['W0+16:4=aa', 'W1+32:2=bbbb']);
});

test('DMA_MAP with a descriptor makes the memory reachable at its address, DMA_UNMAP takes it away', (t) => {
  const rig = new VfioRig(t);
  const { vm, fn } = rig;
  const fd = rig.memory(MEMORY);
  vm.get(CMD.DMA_MAP, dmaMap(0x100000, MEMORY), { fds: [fd] });
  const place = { win: 0, off: 0 };
  assert.ok(fn.memory?.locate(0x100000, MEMORY, place));
  assert.ok(!fn.memory?.locate(0xfffff, 2, place));
  assert.deepEqual(vm.get(CMD.DMA_UNMAP, dmaUnmap(0x100000, MEMORY)), dmaUnmap(0x100000, MEMORY));
  assert.ok(!fn.memory?.locate(0x100000, 1, place));
  assert.deepEqual(fn.events, ['attach', 'memory', 'memory']);
});

test('DMA_MAP: what is written at an address is what the file has at its offset', (t) => {
  const rig = new VfioRig(t);
  const fd = rig.memory(MEMORY);
  const text = new NativeBuffer(8);
  text.u8.set(Buffer.from('deadbeef'));
  pwrite(fd.number, text, 0x3000);
  rig.vm.get(CMD.DMA_MAP, dmaMap(0x8000, 0x2000, 0x2000), { fds: [fd] });
  const place = { win: 0, off: 0 };
  assert.ok(rig.fn.memory?.locate(0x9000, 8, place));
  const window = rig.runtime.windows.windows[place.win]!;
  assert.equal(Buffer.from(window.u8.subarray(place.off, place.off + 8)).toString(), 'deadbeef');
});

test('a region that is only readable keeps what a device writes from the guest', (t) => {
  const rig = new VfioRig(t);
  const fd = rig.memory(MEMORY);
  rig.vm.get(CMD.DMA_MAP, dmaMap(0, MEMORY, 0, 1), { fds: [fd] });
  const place = { win: 0, off: 0 };
  assert.ok(rig.fn.memory?.locate(0x1000, 4, place));
  rig.runtime.windows.windows[place.win]!.u8[place.off] = 0x55;
  assert.equal(pread(fd.number, 0x1000), 0);
});

test('a region without a descriptor is reached by messages, cannot be mapped over, and is unmapped like any other', (t) => {
  const { vm, fn } = new VfioRig(t);
  vm.get(CMD.DMA_MAP, dmaMap(0xfffc0000, 0x40000, 0, 1));
  vm.read32(0, 0);
  const place = { win: 0, off: 0 };
  assert.ok(!fn.memory?.locate(0xfffc0000, 0x40000, place));
  assert.ok(fn.memory?.remote?.map.locate(0xfffc0000, 0x40000, place));
  assert.equal(vm.errno(CMD.DMA_MAP, dmaMap(0xfffff000, 0x1000)), 17);
  vm.get(CMD.DMA_UNMAP, dmaUnmap(0xfffc0000, 0x40000));
  assert.ok(!fn.memory?.remote?.map.locate(0xfffc0000, 1, place));
  assert.equal(vm.errno(CMD.DMA_UNMAP, dmaUnmap(0xfffc0000, 0x40000)), 2);
});

test('DMA_UNMAP of a range takes all regions in it, as QEMU does when its guest’s IOMMU is reset, or none', (t) => {
  const rig = new VfioRig(t);
  const fd = rig.memory(MEMORY);
  for (let i = 0; i < 4; i++) rig.vm.get(CMD.DMA_MAP, dmaMap(i * MEMORY, MEMORY), { fds: [fd] });
  assert.equal(rig.vm.errno(CMD.DMA_UNMAP, dmaUnmap(MEMORY, 2 * MEMORY + 4096)), 22);
  assert.equal(rig.fn.memory?.regionCount, 4);
  rig.vm.get(CMD.DMA_UNMAP, dmaUnmap(MEMORY, 2 * MEMORY));
  assert.equal(rig.fn.memory?.regionCount, 2);
  assert.equal(rig.vm.errno(CMD.DMA_UNMAP, dmaUnmap(MEMORY, 2 * MEMORY)), 2);
  rig.vm.get(CMD.DMA_UNMAP, dmaUnmap(0, 2 ** 47));
  assert.equal(rig.fn.memory?.regionCount, 0);
});

test('DMA_UNMAP of everything needs neither address nor size', (t) => {
  const rig = new VfioRig(t);
  const fd = rig.memory(MEMORY);
  for (let i = 0; i < 4; i++) rig.vm.get(CMD.DMA_MAP, dmaMap(i * MEMORY, MEMORY), { fds: [fd] });
  rig.vm.get(CMD.DMA_UNMAP, dmaUnmap(0, 0, 2));
  assert.equal(rig.fn.memory?.regionCount, 0);
});

test('a thousand regions that are mapped without waiting for replies are all there, and the function is told once a burst', (t) => {
  const rig = new VfioRig(t);
  const { vm, fn } = rig;
  const fd = rig.memory(MEMORY);
  const count = 1000;
  for (let i = 0; i < count; i++) {
    vm.send(CMD.DMA_MAP, dmaMap(i * 0x2000, 0x1000), { fds: [fd] });
    if (i % 100 === 99) for (let k = 0; k < 100; k++) assert.equal(vm.receive()?.flags, 1);
  }
  const place = { win: 0, off: 0 };
  for (let i = 0; i < count; i++) assert.ok(fn.memory?.locate(i * 0x2000, 0x1000, place), `region ${i}`);
  assert.ok(!fn.memory?.locate(0x1000, 1, place), 'what lies between them is not there');
  assert.ok(fn.events.filter((e) => e === 'memory').length < count / 4);
  vm.get(CMD.DMA_UNMAP, dmaUnmap(0, 0, 2));
});

test('what a client maps and unmaps without waiting is up to date at the next register access', (t) => {
  const rig = new VfioRig(t);
  const { vm, fn } = rig;
  const fd = rig.memory(MEMORY);
  const seen: boolean[] = [];
  const place = { win: 0, off: 0 };
  fn.writeBar = () => void seen.push(fn.memory?.locate(0x5000, 0x1000, place) ?? false);
  vm.send(CMD.DMA_MAP, dmaMap(0x5000, 0x1000), { fds: [fd] });
  vm.postRegion(0, 0, bytes(1));
  vm.send(CMD.DMA_UNMAP, dmaUnmap(0x5000, 0x1000));
  vm.postRegion(0, 0, bytes(1));
  for (let i = 0; i < 2; i++) assert.equal(vm.receive()?.flags, 1);
  vm.sync();
  assert.deepEqual(seen, [true, false]);
});

test('DEVICE_RESET resets the function; the client keeps its memory and its interrupts', (t) => {
  const rig = new VfioRig(t);
  const { vm, fn } = rig;
  const fd = rig.memory(MEMORY);
  const intx = rig.eventfd();
  vm.get(CMD.DMA_MAP, dmaMap(0, MEMORY), { fds: [fd] });
  vm.get(CMD.DEVICE_SET_IRQS, irqSet(IRQ.EVENTFD | IRQ.TRIGGER, 0, 0, 1), { fds: [intx] });
  fn.interrupts?.intx(true);
  assert.equal(rig.signals(intx), 1);
  assert.equal(vm.get(CMD.DEVICE_RESET).length, 0);
  assert.deepEqual(fn.events, ['attach', 'memory', 'reset']);
  assert.equal(fn.memory?.regionCount, 1);
  fn.interrupts?.intx(true);
  assert.equal(rig.signals(intx), 1, 'the level and the mask are gone, the descriptor is not');
});

test('a command with NO_REPLY is done and not replied to', (t) => {
  const { vm, fn } = new VfioRig(t);
  vm.send(CMD.DEVICE_RESET, undefined, { flags: F_NO_REPLY });
  vm.sync();
  assert.deepEqual(fn.events, ['attach', 'reset']);
});

test("message IDs are the client's: the same one may be used again and again", (t) => {
  const { vm } = new VfioRig(t);
  for (let i = 0; i < 3; i++) vm.ask(CMD.DEVICE_GET_INFO, bytes(16, 0, 0, 0), { id: 0xffff });
});

test('what is done is counted', (t) => {
  const rig = new VfioRig(t);
  rig.vm.read32(0, 0);
  rig.vm.write32(0, 0, 1);
  rig.vm.read32(CONFIG, 0);
  const count = (name: string) => rig.runtime.count('nic/vfio-user', name);
  assert.equal(count('register_reads'), 1);
  assert.equal(count('register_writes'), 1);
  assert.equal(count('config_accesses'), 1);
  assert.equal(count('requests'), 1);
});

function pwrite(fd: number, data: NativeBuffer, offset: number): void {
  // the descriptor's position is nobody else's
  const skip = new NativeBuffer(offset);
  assert.equal(writeAt(fd, skip.addr, offset), offset);
  assert.equal(writeAt(fd, data.addr, data.u8.length), data.u8.length);
}

function pread(fd: number, offset: number): number {
  const data = new NativeBuffer(offset + 8);
  assert.equal(readAt(fd, data.addr, offset + 8), offset + 8);
  return data.u8[offset]!;
}
