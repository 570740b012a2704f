/**
 * VERSION: what both sides agree on before anything else. u16 major, u16 minor, then, optionally, JSON
 * that ends in a zero byte.
 *
 * The reply's capabilities are a subset of those that were proposed, and, since clients read it into the
 * buffer of their request, it is not longer than that one: capabilities are left out from the least
 * useful on until it fits. What is left out has the default of the specification, or is smaller here.
 */
import { NetbeError } from '../../errors.js';
import { DMA_PAGE_BYTES, MAX_DATA_XFER_BYTES, MAX_DMA_MAPS, MAX_MSG_FDS } from './messages.js';

/** The version that exists. */
const MAJOR = 0;
const MINOR = 0;
export const VERSION_BYTES = 4;

/** "Optional. If not specified then the receiver must assume a value of 1" and 1048576. */
const DEFAULT_MSG_FDS = 1;
const DEFAULT_DATA_XFER_BYTES = 1048576;
/** what a reply may have beyond its request if there is a second socket: a client that wants one expects its index, too */
const FD_INDEX_ROOM = 16;
/** libvfio-user's limit, too */
const LARGEST_MSG_FDS = 16;

/** What the client said of itself. */
export interface ClientCapabilities {
  maxMsgFds: number;
  /** bytes that one DMA_READ or DMA_WRITE may carry */
  maxDataXferSize: number;
  writeMultiple: boolean;
  /** it can take commands of the server on a socket of their own */
  twinSocket: boolean;
}

export interface Agreement {
  client: ClientCapabilities;
  /** payload of the reply */
  reply: Uint8Array;
  /** names of the capabilities in force, for people */
  features: string[];
  /** the reply promises a descriptor: the client's end of the second socket */
  twinSocket: boolean;
}

function fail(why: string): never {
  throw new NetbeError(why, { code: 'EINVAL' });
}

/** Reads a proposal. Throws EINVAL: the connection cannot go on. */
export function negotiate(payload: Uint8Array): Agreement {
  if (payload.length < VERSION_BYTES) fail(`payload of ${payload.length} bytes: major and minor version are 4`);
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const major = view.getUint16(0, true);
  const minor = view.getUint16(2, true);
  if (major !== MAJOR) fail(`version ${major}.${minor} is proposed, and only ${MAJOR}.${MINOR} exists here`);
  const proposed = parseCapabilities(payload.subarray(VERSION_BYTES));
  const client = {
    maxMsgFds: wholeNumber(proposed, 'max_msg_fds', DEFAULT_MSG_FDS, 0, LARGEST_MSG_FDS),
    maxDataXferSize: wholeNumber(proposed, 'max_data_xfer_size', DEFAULT_DATA_XFER_BYTES, 1, 2 ** 32 - 1),
    writeMultiple: truth(proposed, 'write_multiple'),
    twinSocket: truth(objectIn(proposed, 'twin_socket'), 'supported'),
  };
  return { client, ...reply(payload.length, client, proposed) };
}

function parseCapabilities(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  if (bytes.length === 0) return {};
  if (bytes.at(-1) !== 0) fail('its JSON does not end in a zero byte');
  // QEMU pads; whatever comes after the first zero byte is not text
  const text = Buffer.from(bytes.subarray(0, bytes.indexOf(0))).toString('utf8');
  if (text === '') return {};
  const json = parseJson(text);
  if (!isObject(json)) fail('its JSON is not an object');
  const { capabilities = {} } = json;
  if (!isObject(capabilities)) fail('"capabilities" is not an object');
  return capabilities;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    return fail(`its JSON cannot be read: ${(error as Error).message}`);
  }
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

type Proposed = Readonly<Record<string, unknown>>;

function wholeNumber(from: Proposed, key: string, otherwise: number, least: number, most: number): number {
  const value = Object.hasOwn(from, key) ? from[key] : otherwise;
  if (typeof value !== 'number' || !Number.isInteger(value)) fail(`"${key}" is not a whole number`);
  if (value < least || value > most) fail(`"${key}" is ${value}: it is ${least} to ${most}`);
  return value;
}

function objectIn(from: Proposed, key: string): Proposed {
  const value = Object.hasOwn(from, key) ? from[key] : {};
  if (!isObject(value)) fail(`"${key}" is not an object`);
  return value;
}

function truth(from: Proposed, key: string): boolean {
  const value = Object.hasOwn(from, key) ? from[key] : false;
  if (typeof value !== 'boolean') fail(`"${key}" is neither true nor false`);
  return value;
}

function reply(room: number, client: ClientCapabilities, proposed: Proposed): Omit<Agreement, 'client'> {
  // by how much a client goes wrong without it: the first three bound what it may send
  const own: [string, unknown][] = [
    ['max_msg_fds', MAX_MSG_FDS],
    ['max_data_xfer_size', MAX_DATA_XFER_BYTES],
    ['max_dma_maps', MAX_DMA_MAPS],
    ['pgsizes', DMA_PAGE_BYTES],
  ];
  if (client.writeMultiple) own.push(['write_multiple', true]);
  const twin = client.twinSocket && client.maxMsgFds > 0;
  if (twin) own.push(['twin_socket', { supported: true, fd_index: 0 }]);
  const most = room + (twin ? FD_INDEX_ROOM : 0);
  const offered = own.filter(([key]) => Object.hasOwn(proposed, key));
  for (let count = offered.length; ; count--) {
    const chosen = offered.slice(0, count);
    const capabilities = Object.fromEntries(chosen);
    const text = count > 0 ? Buffer.from(`${JSON.stringify({ capabilities })}\0`) : Buffer.alloc(0);
    if (count > 0 && VERSION_BYTES + text.length > most) continue;
    const bytes = new Uint8Array(VERSION_BYTES + text.length);
    new DataView(bytes.buffer).setUint16(0, MAJOR, true);
    new DataView(bytes.buffer).setUint16(2, MINOR, true);
    bytes.set(text, VERSION_BYTES);
    const features = chosen.map(([key]) => key);
    return { reply: bytes, features, twinSocket: features.includes('twin_socket') };
  }
}
