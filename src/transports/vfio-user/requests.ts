/**
 * What each request does, and what must be true of its message before (spec: "Commands").
 * Register accesses are not here: session.ts serves them on the spot.
 */
import { NetbeError } from '../../errors.js';
import type { Fd } from '../../sys/fd.js';
import type { Device } from './device.js';
import * as M from './messages.js';

/** A request without its header. Its descriptors are closed with it, those that somebody takes excepted. */
export interface Request {
  readonly payload: Uint8Array;
  readonly view: DataView;
  readonly fds: readonly Fd[];
  take(fd: Fd): void;
}

/** Serves a request; returns the payload of the reply, if it has one. Throws NetbeError with the errno to reply. */
type Serve = (device: Device, request: Request) => Uint8Array | undefined;

interface RequestRule {
  /** bytes of payload, at least */
  least: number;
  /** descriptors, at most */
  fds: number;
  serve: Serve;
}

function fail(code: string, why: string): never {
  throw new NetbeError(why, { code });
}

function u64(view: DataView, off: number, what: string): number {
  const value = view.getUint32(off, true) + view.getUint32(off + 4, true) * 2 ** 32;
  if (Number.isSafeInteger(value)) return value;
  return fail('EINVAL', `${what} 0x${view.getBigUint64(off, true).toString(16)} is beyond 2^53`);
}

/** "argsz … defines the maximum expected reply payload size", at least the fixed part of it. */
function checkArgsz(view: DataView, least: number): void {
  const argsz = view.getUint32(0, true);
  if (argsz < least) fail('EINVAL', `argsz ${argsz}: it is at least ${least}`);
}

function u32s(...values: number[]): Uint8Array {
  return new Uint8Array(Uint32Array.from(values).buffer);
}

function dmaMap(device: Device, { view, fds }: Request): undefined {
  checkArgsz(view, M.DMA_MAP_BYTES);
  const flags = view.getUint32(4, true);
  const known = M.VFIO_USER_F_DMA_REGION_READ | M.VFIO_USER_F_DMA_REGION_WRITE | M.VFIO_USER_F_DMA_REGION_MMAP;
  if ((flags & ~known) !== 0) fail('EINVAL', `flags 0x${flags.toString(16)}: only readable and writeable exist`);
  const offset = u64(view, 8, 'offset');
  device.dma.map({ offset, gpa: u64(view, 16, 'address'), size: u64(view, 24, 'size'), flags }, fds[0]);
}

function dmaUnmap(device: Device, { view, payload }: Request): Uint8Array {
  checkArgsz(view, M.DMA_UNMAP_BYTES);
  const flags = view.getUint32(4, true);
  const gpa = u64(view, 8, 'address');
  const size = u64(view, 16, 'size');
  if (flags === M.VFIO_DMA_UNMAP_FLAG_ALL) {
    if (gpa !== 0 || size !== 0) fail('EINVAL', 'everything is to be unmapped, and address or size is not 0');
    device.dma.unmapAll();
  } else if (flags === M.VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP)
    fail('EINVAL', 'a dirty bitmap is asked for: dirty pages are not tracked');
  else if (flags !== 0) fail('EINVAL', `flags 0x${flags.toString(16)} do not exist together`);
  else device.dma.unmap(gpa, size);
  device.settle();
  return payload.slice(0, M.DMA_UNMAP_BYTES);
}

function getInfo(_device: Device, { view }: Request): Uint8Array {
  checkArgsz(view, M.DEVICE_INFO_BYTES);
  const flags = M.VFIO_DEVICE_FLAGS_RESET | M.VFIO_DEVICE_FLAGS_PCI;
  return u32s(M.DEVICE_INFO_BYTES, flags, M.VFIO_PCI_NUM_REGIONS, M.VFIO_PCI_NUM_IRQS);
}

function getRegionInfo(device: Device, { view }: Request): Uint8Array {
  checkArgsz(view, M.REGION_INFO_BYTES);
  const index = view.getUint32(8, true);
  if (index >= M.VFIO_PCI_NUM_REGIONS) fail('EINVAL', `region ${index}: there are ${M.VFIO_PCI_NUM_REGIONS}`);
  const size = device.regions.size(index);
  const flags = size > 0 ? M.VFIO_REGION_INFO_FLAG_READ | M.VFIO_REGION_INFO_FLAG_WRITE : 0;
  // argsz, flags, index, cap_offset, size, offset: nothing can be mapped
  return u32s(M.REGION_INFO_BYTES, flags, index, 0, size, 0, 0, 0);
}

/** No region has any: every access is a message. */
function getRegionIoFds(device: Device, { view }: Request): Uint8Array {
  checkArgsz(view, M.REGION_IO_FDS_BYTES);
  const flags = view.getUint32(4, true);
  const index = view.getUint32(8, true);
  const count = view.getUint32(12, true);
  if (flags !== 0 || count !== 0) fail('EINVAL', `flags ${flags}, count ${count}: both are 0 in a request`);
  if (index >= M.VFIO_PCI_NUM_REGIONS || device.regions.size(index) === 0)
    fail('EINVAL', `there is no region ${index}`);
  return u32s(M.REGION_IO_FDS_BYTES, 0, index, 0);
}

function getIrqInfo(device: Device, { view }: Request): Uint8Array {
  checkArgsz(view, M.IRQ_INFO_BYTES);
  const index = view.getUint32(8, true);
  if (index >= M.VFIO_PCI_NUM_IRQS) fail('EINVAL', `interrupt ${index}: there are ${M.VFIO_PCI_NUM_IRQS}`);
  const flags =
    index === M.VFIO_PCI_INTX_IRQ_INDEX
      ? M.VFIO_IRQ_INFO_EVENTFD | M.VFIO_IRQ_INFO_MASKABLE | M.VFIO_IRQ_INFO_AUTOMASKED
      : M.VFIO_IRQ_INFO_EVENTFD | M.VFIO_IRQ_INFO_NORESIZE;
  return u32s(M.IRQ_INFO_BYTES, flags, index, device.irqs.count(index));
}

function setIrqs(device: Device, { view, payload, fds, take }: Request): undefined {
  checkArgsz(view, M.IRQ_SET_BYTES);
  const flags = view.getUint32(4, true);
  const index = view.getUint32(8, true);
  const start = view.getUint32(12, true);
  const count = view.getUint32(16, true);
  const data = flags & M.VFIO_IRQ_SET_DATA_TYPE_MASK;
  const action = flags & M.VFIO_IRQ_SET_ACTION_TYPE_MASK;
  const oneOf = (bits: number): boolean => bits !== 0 && (bits & (bits - 1)) === 0;
  if (!oneOf(data) || !oneOf(action) || flags !== (data | action))
    fail('EINVAL', `flags 0x${flags.toString(16)}: one kind of data and one action are wanted`);
  const exist = device.irqs.count(index);
  if (index >= M.VFIO_PCI_NUM_IRQS) fail('EINVAL', `interrupt ${index}: there are ${M.VFIO_PCI_NUM_IRQS}`);
  if (fds.length > 0 && data !== M.VFIO_IRQ_SET_DATA_EVENTFD)
    fail('EINVAL', 'descriptors came, and its flags say none');
  if (count === 0) {
    const disables = start === 0 && data === M.VFIO_IRQ_SET_DATA_NONE && action === M.VFIO_IRQ_SET_ACTION_TRIGGER;
    if (!disables) fail('EINVAL', 'count 0 is for disabling: start 0, DATA_NONE, ACTION_TRIGGER');
    device.irqs.disable(index);
    return;
  }
  if (start + count > exist)
    fail('EINVAL', `${M.irqNames[index]} ${start} to ${start + count - 1}: there are ${exist}`);
  const set = { action, index, start, count };
  if (data === M.VFIO_IRQ_SET_DATA_EVENTFD) {
    if (fds.length !== 0 && fds.length !== count) fail('EINVAL', `${fds.length} descriptors for ${count} interrupts`);
    fds.forEach(take);
    device.irqs.setFds(set, fds);
  } else if (data === M.VFIO_IRQ_SET_DATA_BOOL) {
    const bools = payload.subarray(M.IRQ_SET_BYTES);
    if (bools.length !== count) fail('EINVAL', `${bools.length} bytes of data for ${count} interrupts`);
    device.irqs.act(set, (i) => bools[i] !== 0);
  } else device.irqs.act(set, () => true);
}

/** Migration and dirty page logging are the features that exist; neither is here. */
function deviceFeature(_device: Device, { view }: Request): never {
  checkArgsz(view, M.DEVICE_FEATURE_BYTES);
  return fail('ENOTSUP', `feature ${view.getUint32(4, true) & 0xffff}: migration is not supported`);
}

const noMigration: Serve = () => fail('ENOTSUP', 'migration is not supported');

function reset(device: Device): undefined {
  device.reset();
}

export const requestRules: ReadonlyMap<number, RequestRule> = new Map<number, RequestRule>([
  [M.VFIO_USER_DMA_MAP, { least: M.DMA_MAP_BYTES, fds: 1, serve: dmaMap }],
  [M.VFIO_USER_DMA_UNMAP, { least: M.DMA_UNMAP_BYTES, fds: 0, serve: dmaUnmap }],
  [M.VFIO_USER_DEVICE_GET_INFO, { least: M.DEVICE_INFO_BYTES, fds: 0, serve: getInfo }],
  [M.VFIO_USER_DEVICE_GET_REGION_INFO, { least: M.REGION_INFO_BYTES, fds: 0, serve: getRegionInfo }],
  [M.VFIO_USER_DEVICE_GET_REGION_IO_FDS, { least: M.REGION_IO_FDS_BYTES, fds: 0, serve: getRegionIoFds }],
  [M.VFIO_USER_DEVICE_GET_IRQ_INFO, { least: M.IRQ_INFO_BYTES, fds: 0, serve: getIrqInfo }],
  [M.VFIO_USER_DEVICE_SET_IRQS, { least: M.IRQ_SET_BYTES, fds: M.MAX_MSG_FDS, serve: setIrqs }],
  [M.VFIO_USER_DEVICE_RESET, { least: 0, fds: 0, serve: reset }],
  [M.VFIO_USER_DIRTY_PAGES, { least: 0, fds: 0, serve: noMigration }],
  [M.VFIO_USER_DEVICE_FEATURE, { least: M.DEVICE_FEATURE_BYTES, fds: 0, serve: deviceFeature }],
  [M.VFIO_USER_MIG_DATA_READ, { least: 0, fds: 0, serve: noMigration }],
  [M.VFIO_USER_MIG_DATA_WRITE, { least: 0, fds: 0, serve: noMigration }],
]);
