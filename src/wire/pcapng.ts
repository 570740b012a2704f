/**
 * Writes pcapng (draft-ietf-opsawg-pcapng): section header, interfaces, packets, drop counts.
 *
 * Each function writes one block at an offset of a caller's buffer and returns its length. Blocks
 * are little-endian; times are nanoseconds since 1970 (if_tsresol 9). A packet is written in two
 * steps, so that its bytes can be gathered from anywhere: `beginPacket`, the bytes at
 * PACKET_DATA_OFFSET, `endPacket`. These two allocate nothing.
 */
import { setLe16, setLe32 } from './bytes.js';

const BLOCK_SECTION_HEADER = 0x0a0d0d0a;
const BLOCK_INTERFACE_DESCRIPTION = 1;
const BLOCK_INTERFACE_STATISTICS = 5;
const BLOCK_ENHANCED_PACKET = 6;
const BYTE_ORDER_MAGIC = 0x1a2b3c4d;
const LINKTYPE_ETHERNET = 1;

const OPT_ENDOFOPT = 0;
const SHB_USERAPPL = 4;
const IF_NAME = 2;
const IF_DESCRIPTION = 3;
const IF_TSRESOL = 9;
const EPB_FLAGS = 2;
const ISB_IFRECV = 4;
const ISB_IFDROP = 5;

// direction bits of epb_flags; 0: not known
export const DIRECTION_INBOUND = 1;
export const DIRECTION_OUTBOUND = 2;

/** bytes from the start of a packet block to the packet's bytes */
export const PACKET_DATA_OFFSET = 28;
/** bytes of a packet block beside the packet's bytes and their padding */
export const PACKET_OVERHEAD = PACKET_DATA_OFFSET + 12 + 4;

const utf8 = new TextEncoder();

export interface CaptureInterface {
  name: string;
  description?: string;
  /** bytes of each packet that are kept at most; 0: all */
  snapLen: number;
}

/** The block every file begins with. `application` names the writer, for instance "netbe 0.1.0". */
export function writeSectionHeader(out: Uint8Array, off: number, application: string): number {
  setLe32(out, off, BLOCK_SECTION_HEADER);
  setLe32(out, off + 8, BYTE_ORDER_MAGIC);
  setLe16(out, off + 12, 1);
  setLe16(out, off + 14, 0);
  out.fill(0xff, off + 16, off + 24); // section length unknown: streamed
  let at = writeTextOption(out, off + 24, SHB_USERAPPL, application);
  at = writeEndOfOptions(out, at);
  return endBlock(out, off, at);
}

/** The first interface described is number 0, and so on. */
export function writeInterfaceDescription(out: Uint8Array, off: number, description: CaptureInterface): number {
  setLe32(out, off, BLOCK_INTERFACE_DESCRIPTION);
  setLe16(out, off + 8, LINKTYPE_ETHERNET);
  setLe16(out, off + 10, 0);
  setLe32(out, off + 12, description.snapLen);
  let at = writeTextOption(out, off + 16, IF_NAME, description.name);
  if (description.description !== undefined) at = writeTextOption(out, at, IF_DESCRIPTION, description.description);
  at = writeOptionHeader(out, at, IF_TSRESOL, 1);
  setLe32(out, at, 9);
  at = writeEndOfOptions(out, at + 4);
  return endBlock(out, off, at);
}

/** The part of a packet block before the bytes, of which `capturedLen` of `originalLen` are kept. */
export function beginPacket(
  out: Uint8Array,
  off: number,
  interfaceId: number,
  seconds: number,
  nanoseconds: number,
  capturedLen: number,
  originalLen: number,
): void {
  setLe32(out, off, BLOCK_ENHANCED_PACKET);
  setLe32(out, off + 8, interfaceId);
  writeTime(out, off + 12, seconds, nanoseconds);
  setLe32(out, off + 20, capturedLen);
  setLe32(out, off + 24, originalLen);
}

/** Padding, direction and trailer, once the bytes are there. Returns the length of the block. */
export function endPacket(out: Uint8Array, off: number, capturedLen: number, direction: number): number {
  let at = padTo4(out, off + PACKET_DATA_OFFSET + capturedLen, capturedLen);
  at = writeOptionHeader(out, at, EPB_FLAGS, 4);
  setLe32(out, at, direction);
  at = writeEndOfOptions(out, at + 4);
  return endBlock(out, off, at);
}

/** What an interface received and what the capture has lost of it, up to a point in time. */
export function writeInterfaceStatistics(
  out: Uint8Array,
  off: number,
  interfaceId: number,
  seconds: number,
  nanoseconds: number,
  received: number,
  dropped: number,
): number {
  setLe32(out, off, BLOCK_INTERFACE_STATISTICS);
  setLe32(out, off + 8, interfaceId);
  writeTime(out, off + 12, seconds, nanoseconds);
  let at = writeCountOption(out, off + 20, ISB_IFRECV, received);
  at = writeCountOption(out, at, ISB_IFDROP, dropped);
  at = writeEndOfOptions(out, at);
  return endBlock(out, off, at);
}

/** Nanoseconds as the two halves of a 64-bit number, upper half first: more than a double holds exactly. */
function writeTime(out: Uint8Array, off: number, seconds: number, nanoseconds: number): void {
  // seconds * 1e9 in two products that are exact: upper * 2^16 + lower
  const upper = Math.floor(seconds / 0x10000) * 1e9;
  const lower = (seconds % 0x10000) * 1e9 + nanoseconds + (upper % 0x10000) * 0x10000;
  setLe32(out, off, Math.floor(upper / 0x10000) + Math.floor(lower / 2 ** 32));
  setLe32(out, off + 4, lower % 2 ** 32);
}

function writeOptionHeader(out: Uint8Array, off: number, code: number, len: number): number {
  setLe16(out, off, code);
  setLe16(out, off + 2, len);
  return off + 4;
}

function writeTextOption(out: Uint8Array, off: number, code: number, text: string): number {
  const bytes = utf8.encode(text);
  const at = writeOptionHeader(out, off, code, bytes.length);
  out.set(bytes, at);
  return padTo4(out, at + bytes.length, bytes.length);
}

function writeCountOption(out: Uint8Array, off: number, code: number, count: number): number {
  const at = writeOptionHeader(out, off, code, 8);
  setLe32(out, at, count % 2 ** 32);
  setLe32(out, at + 4, Math.floor(count / 2 ** 32));
  return at + 8;
}

function writeEndOfOptions(out: Uint8Array, off: number): number {
  return writeOptionHeader(out, off, OPT_ENDOFOPT, 0);
}

/** Zeros from `at`, which follows `len` bytes, to the next 32-bit boundary of the block. */
function padTo4(out: Uint8Array, at: number, len: number): number {
  const end = at + ((4 - (len & 3)) & 3);
  for (let i = at; i < end; i++) out[i] = 0;
  return end;
}

/** Writes the block's length at both of its ends. */
function endBlock(out: Uint8Array, off: number, at: number): number {
  const len = at + 4 - off;
  setLe32(out, off + 4, len);
  setLe32(out, at, len);
  return len;
}
