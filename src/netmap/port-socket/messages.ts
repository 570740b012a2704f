/**
 * The language of a fabric's port socket: how other processes, and other threads, open its netmap ports.
 *
 * A message is its length (32 bits, little-endian, of what follows) and a JSON object. The client asks, the fabric
 * answers each request in turn; the answer to `register` carries descriptors. The requests are those of
 * NIOCCTRL (net/netmap.h, NETMAP_REQ_*), and a connection is what a descriptor of /dev/netmap is there: it can
 * be bound to one port, and the port goes when it is closed, by whatever end the process comes to.
 */
import { NetbeError, type NetbeErrorJson } from '../../errors.js';

/** Both sides must speak the same. */
export const PORT_PROTOCOL_VERSION = 1;

export const MESSAGE_HDR_LEN = 4;
/** Bytes of JSON in a message. */
export const MAX_MESSAGE_LEN = 64 * 1024;

/** Descriptors of an answer to `register`, in this order. */
export const REGISTER_FDS = 3;

export const requestTypes = [
  'register',
  'port-info-get',
  'port-hdr-get',
  'port-hdr-set',
  'pools-info-get',
  'vale-attach',
  'vale-detach',
  'vale-list',
  'vale-newif',
  'vale-delif',
  'vale-polling-enable',
  'vale-polling-disable',
] as const;
export type RequestType = (typeof requestTypes)[number];

export interface PortRequest {
  version: number;
  type: RequestType;
  /** nr_name, in the syntax of nm_open; may be empty for vale-list */
  name: string;
  /** what else the request says */
  body: Readonly<Record<string, unknown>>;
}

export type PortReply = { ok: true; body: Record<string, unknown> } | { ok: false; error: NetbeErrorJson };

export function encodeMessage(message: object): Uint8Array {
  const json = Buffer.from(JSON.stringify(message));
  const out = new Uint8Array(MESSAGE_HDR_LEN + json.length);
  new DataView(out.buffer).setUint32(0, json.length, true);
  out.set(json, MESSAGE_HDR_LEN);
  return out;
}

/** A peer that does not keep to the protocol: its connection is closed, with this as the reason. */
export function protocolError(why: string): NetbeError {
  return new NetbeError(why, { code: 'EPROTO' });
}

/** Cuts a stream of bytes into messages. Holds one message at most, and no more than it can be long. */
export class MessageReader {
  readonly #buf = new Uint8Array(MESSAGE_HDR_LEN + MAX_MESSAGE_LEN);
  #filled = 0;

  /** Where the next bytes go: at least one. Call `received` then, and `next` until it returns undefined. */
  get space(): Uint8Array {
    return this.#buf.subarray(this.#filled);
  }

  received(count: number): void {
    this.#filled += count;
  }

  /** Part of a message has come. */
  get partial(): boolean {
    return this.#filled > 0;
  }

  /** The next whole message, as parsed. Throws EPROTO. */
  next(): unknown {
    if (this.#filled < MESSAGE_HDR_LEN) return undefined;
    const length = new DataView(this.#buf.buffer).getUint32(0, true);
    if (length === 0 || length > MAX_MESSAGE_LEN)
      throw protocolError(`a message of ${length} bytes: 1 to ${MAX_MESSAGE_LEN} are allowed`);
    const end = MESSAGE_HDR_LEN + length;
    if (this.#filled < end) return undefined;
    const text = Buffer.from(this.#buf.buffer, MESSAGE_HDR_LEN, length).toString();
    this.#buf.copyWithin(0, end, this.#filled);
    this.#filled -= end;
    try {
      return JSON.parse(text) as unknown;
    } catch {
      throw protocolError('a message that is not JSON');
    }
  }
}

/** The request in a message. Throws EPROTO for what is none at all, EPROTONOSUPPORT for another version. */
export function parseRequest(message: unknown): PortRequest {
  if (!isObject(message)) throw protocolError('a message that is not an object');
  const { version, type, name = '', body = {} } = message;
  if (version !== PORT_PROTOCOL_VERSION)
    throw new NetbeError(
      `version ${shown(version)} of the port protocol: this fabric speaks ${PORT_PROTOCOL_VERSION}`,
      {
        code: 'EPROTONOSUPPORT',
        kind: 'usage',
        remedy: 'Let the fabric and its clients be of the same netbe.',
      },
    );
  const known = requestTypes.find((t) => t === type);
  if (known === undefined) throw protocolError(`a request of type ${shown(type)}`);
  if (typeof name !== 'string') throw protocolError('a name that is not text');
  if (!isObject(body)) throw protocolError('a body that is not an object');
  return { version, type: known, name, body };
}

/** A value for the text of an error. Lists and objects are not spelled out: how deep they are is the client's choice. */
function shown(value: unknown): string {
  if (typeof value === 'object' && value !== null) return Array.isArray(value) ? '[…]' : '{…}';
  return `${JSON.stringify(value)}`.slice(0, 40);
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A whole number of a request's body; `fallback` where it is left out. Throws EINVAL. */
export function bodyNumber(
  body: PortRequest['body'],
  key: string,
  { min = 0, max = 0xffffffff, fallback = 0 }: { min?: number; max?: number; fallback?: number } = {},
): number {
  const value = body[key];
  if (value === undefined || value === null) return fallback;
  if (typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max) return value;
  throw new NetbeError(`${key} ${shown(value)} is not a number from ${min} to ${max}`, {
    code: 'EINVAL',
    kind: 'usage',
    subject: key,
  });
}

export function bodyFlag(body: PortRequest['body'], key: string): boolean {
  const value = body[key];
  if (value === undefined || typeof value === 'boolean') return value ?? false;
  throw new NetbeError(`${key} ${shown(value)} is neither true nor false`, {
    code: 'EINVAL',
    kind: 'usage',
    subject: key,
  });
}
