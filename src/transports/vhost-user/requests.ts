/**
 * What each request asks for, by its number: decodes the payload, calls the back-end, encodes the
 * answer. The session has checked payload size, number of descriptors and negotiated features.
 */
import { NetbeError } from '../../errors.js';
import type { Fd } from '../../sys/fd.js';
import type { Backend } from './backend.js';
import type { Message } from './codec.js';
import { decodeInflight, encodeInflight } from './inflight.js';
import { decodeMemoryTable, decodeRegion, MAX_MEM_SLOTS } from './memory-table.js';
import * as M from './messages.js';
import type { Vring } from './vring.js';

/** An answer of a request's own. */
export interface Reply {
  payload: Uint8Array;
  /** sent along, and closed by the session */
  fd?: Fd;
}

/** Serves one request. Throws NetbeError; what it does not take of the message's descriptors is closed. */
export type Handler = (backend: Backend, message: Message) => Reply | undefined;

export function u64Payload(value: bigint): Uint8Array {
  const view = new DataView(new ArrayBuffer(M.U64_BYTES));
  view.setBigUint64(0, value, true);
  return new Uint8Array(view.buffer);
}

function vringState(index: number, num: number): Uint8Array {
  const view = new DataView(new ArrayBuffer(M.VRING_STATE_BYTES));
  view.setUint32(0, index, true);
  view.setUint32(4, num, true);
  return new Uint8Array(view.buffer);
}

/** For requests that answer with a number. */
function answerU64(value: (backend: Backend) => bigint): Handler {
  return (backend) => ({ payload: u64Payload(value(backend)) });
}

/** For requests without an answer. */
function act(serve: (backend: Backend, message: Message) => void): Handler {
  return (backend, message) => {
    serve(backend, message);
    return undefined;
  };
}

/** For requests with a vring state: index and number. */
function onRing(serve: (ring: Vring, num: number) => void): Handler {
  return act((backend, message) => serve(backend.ring(message.u32(0)), message.u32(4)));
}

/** For SET_VRING_KICK, CALL and ERR: index, flags and perhaps a descriptor. */
function ringDescriptor(serve: (ring: Vring, fd: Fd | null) => void): Handler {
  return act((backend, message) => {
    const value = message.u64(0);
    const known = BigInt(M.VHOST_USER_VRING_IDX_MASK | M.VHOST_USER_VRING_NOFD_MASK);
    if ((value & ~known) !== 0n) fail(`0x${value.toString(16)}: bits above 8 do not exist`);
    const noFd = (value & BigInt(M.VHOST_USER_VRING_NOFD_MASK)) !== 0n;
    if (noFd && message.fdCount > 0) fail('a descriptor came along, and its flag says that there is none');
    if (!noFd && message.fdCount === 0) fail('no descriptor came along, and its flag does not say so');
    const ring = backend.ring(Number(value & BigInt(M.VHOST_USER_VRING_IDX_MASK)));
    serve(ring, noFd ? null : message.takeFd(0));
  });
}

function fail(why: string): never {
  throw new NetbeError(why, { code: 'EINVAL' });
}

function setAddresses(backend: Backend, message: Message): void {
  const ring = backend.ring(message.u32(0));
  const flags = message.u32(4);
  if (flags !== 0) fail(`flags 0x${flags.toString(16)}: logging was not offered`);
  ring.setAddresses({
    descUser: message.address(8, 'descriptor table address'),
    usedUser: message.address(16, 'used ring address'),
    availUser: message.address(24, 'available ring address'),
  });
}

function setEnabled(ring: Vring, num: number): void {
  if (num > 1) fail(`${num}: 1 enables, 0 disables`);
  ring.setEnabled(num === 1);
}

function inbandKick(ring: Vring, num: number): void {
  if (num !== 0) fail(`num ${num}: it is reserved and must be 0`);
  ring.kick();
}

function setMemoryTable(backend: Backend, message: Message): void {
  const fds = Array.from({ length: message.fdCount }, (_, i) => message.fd(i));
  backend.setMemoryTable(decodeMemoryTable(message), fds);
}

/** Offset and bytes of a config space message, whose size must be that of the message. */
function configRange(message: Message): { offset: number; size: number } {
  const offset = message.u32(0);
  const size = message.u32(4);
  const present = message.payload.length - M.CONFIG_HEADER_BYTES;
  if (size !== present) fail(`size ${size}, but ${present} bytes came`);
  if (offset + size > M.VHOST_USER_MAX_CONFIG_SIZE)
    fail(`offset ${offset}, size ${size}: config space has at most ${M.VHOST_USER_MAX_CONFIG_SIZE} bytes`);
  return { offset, size };
}

function getConfig(backend: Backend, message: Message): Reply {
  let range: { offset: number; size: number };
  try {
    range = configRange(message);
  } catch (error) {
    // "back-end uses zero length of payload to indicate an error"
    backend.warn(`GET_CONFIG: ${(error as Error).message}; refused`);
    return { payload: new Uint8Array(0) };
  }
  const { offset, size } = range;
  // "payload size MUST match the front-end's request"
  const payload = message.payload.slice();
  backend.device.readConfig(offset, payload.subarray(M.CONFIG_HEADER_BYTES, M.CONFIG_HEADER_BYTES + size));
  return { payload };
}

function setConfig(backend: Backend, message: Message): void {
  const { offset } = configRange(message);
  const flags = message.u32(8);
  if (flags > M.VHOST_SET_CONFIG_TYPE_MIGRATION) fail(`flags 0x${flags.toString(16)}: only 0 and 1 exist`);
  backend.writeConfig(offset, message.payload.slice(M.CONFIG_HEADER_BYTES));
}

function setMtu(backend: Backend, message: Message): void {
  const mtu = message.u64(0);
  if (mtu > 0xffffn) fail(`MTU ${mtu}: it has 16 bits`);
  backend.device.setMtu(Number(mtu));
}

function getInflight(backend: Backend, message: Message): Reply {
  const { fd, description } = backend.createInflight(decodeInflight(message.view));
  return { payload: encodeInflight(description, message.payload.length), fd };
}

export const handlers: ReadonlyMap<number, Handler> = new Map<number, Handler>([
  [M.VHOST_USER_GET_FEATURES, answerU64((backend) => backend.getFeatures())],
  [M.VHOST_USER_SET_FEATURES, act((backend, message) => backend.setFeatures(message.u64(0)))],
  [M.VHOST_USER_SET_OWNER, act(() => {})],
  // "It is recommended that back-ends either ignore this message, or use it to disable all rings"
  [M.VHOST_USER_RESET_OWNER, act(() => {})],
  [M.VHOST_USER_SET_MEM_TABLE, act(setMemoryTable)],
  [M.VHOST_USER_SET_VRING_NUM, onRing((ring, num) => ring.setSize(num))],
  [M.VHOST_USER_SET_VRING_ADDR, act(setAddresses)],
  [M.VHOST_USER_SET_VRING_BASE, onRing((ring, num) => ring.setBase(num))],
  [
    M.VHOST_USER_GET_VRING_BASE,
    (backend, message) => {
      const ring = backend.ring(message.u32(0));
      return { payload: vringState(ring.index, ring.halt()) };
    },
  ],
  [M.VHOST_USER_SET_VRING_KICK, ringDescriptor((ring, fd) => ring.setKick(fd))],
  [M.VHOST_USER_SET_VRING_CALL, ringDescriptor((ring, fd) => ring.setCall(fd))],
  [M.VHOST_USER_SET_VRING_ERR, ringDescriptor((ring, fd) => ring.setErr(fd))],
  [M.VHOST_USER_GET_PROTOCOL_FEATURES, answerU64((backend) => BigInt(backend.offered))],
  [M.VHOST_USER_SET_PROTOCOL_FEATURES, act((backend, message) => backend.setProtocolFeatures(message.u64(0)))],
  [M.VHOST_USER_SET_VRING_ENABLE, onRing(setEnabled)],
  [M.VHOST_USER_SEND_RARP, act((backend, message) => backend.device.announce(message.payload.slice(0, 6)))],
  [M.VHOST_USER_NET_SET_MTU, act(setMtu)],
  [M.VHOST_USER_SET_BACKEND_REQ_FD, act((backend, message) => backend.setChannel(message.takeFd(0)))],
  [M.VHOST_USER_GET_CONFIG, getConfig],
  [M.VHOST_USER_SET_CONFIG, act(setConfig)],
  [M.VHOST_USER_GET_INFLIGHT_FD, getInflight],
  [
    M.VHOST_USER_SET_INFLIGHT_FD,
    act((backend, message) => backend.setInflight(decodeInflight(message.view), message.fd(0))),
  ],
  [M.VHOST_USER_RESET_DEVICE, act((backend) => backend.resetDevice())],
  [M.VHOST_USER_VRING_KICK, onRing(inbandKick)],
  [M.VHOST_USER_GET_MAX_MEM_SLOTS, answerU64(() => BigInt(MAX_MEM_SLOTS))],
  [M.VHOST_USER_ADD_MEM_REG, act((backend, message) => backend.addRegion(decodeRegion(message, 8), message.fd(0)))],
  [M.VHOST_USER_REM_MEM_REG, act((backend, message) => backend.removeRegion(decodeRegion(message, 8)))],
  [M.VHOST_USER_SET_STATUS, act((backend, message) => backend.setStatus(message.u64(0)))],
  [M.VHOST_USER_GET_STATUS, answerU64((backend) => BigInt(backend.status))],
]);
