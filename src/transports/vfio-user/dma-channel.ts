/**
 * Guest memory that the client does not share, reached by DMA_READ and DMA_WRITE (spec: "Read and Write Operations").
 *
 * Transfers wait here, first come, first served, and become messages as the bounds below and the socket allow: while the
 * socket is full nothing is added, so that what a guest waits for, the value of a register, goes before all of them.
 * Replies may come in any order. Nothing is sent before the client's VERSION, and nothing for memory that it has unmapped.
 */
import type { CounterSet } from '../../engine/counters.js';
import type { GuestMemory } from '../../memory/guest-memory.js';
import type { DmaChannel, DmaTransfer } from '../../memory/remote-memory.js';
import { errnoText } from '../../sys/libc.js';
import { NativeBuffer } from '../../sys/native-buffer.js';
import { protocolError } from '../frame-reader.js';
import { C } from './counters.js';
import * as M from './messages.js';

/**
 * Bytes that one message carries, if the client does not allow less. A unix socket takes a message of this size whole or
 * not at all, being one buffer to it (32 KiB of pages and 16 KiB more). QEMU relies on that: it never sends the rest of a
 * reply of which its socket has taken a part.
 */
export const MAX_DMA_BYTES = 32768;
/**
 * What may be under way at a time. A socket holds 208 KiB, and its kernel counts up to twice what a message has, and 600
 * bytes for each: so neither our requests nor the client's replies fill a socket on their own, and registers get through.
 */
export const MAX_DMA_MESSAGES_UNDER_WAY = 32;
export const MAX_DMA_BYTES_UNDER_WAY = 65536;

const DMA_DATA = M.HEADER_BYTES + M.DMA_ACCESS_BYTES;
/** The reply to a DMA_WRITE as the specification has it: its count has 4 bytes, where the request's has 8. */
const SHORT_WRITE_REPLY = DMA_DATA - 4;

interface Batch {
  readonly transfers: readonly DmaTransfer[];
  readonly done: (ok: boolean) => void;
  /** the transfer that is sent next, and how much of it has been */
  next: number;
  sent: number;
  /** messages under way */
  unanswered: number;
  ok: boolean;
}

interface Request {
  readonly batch: Batch;
  readonly transfer: DmaTransfer;
  /** the part of the transfer that it is */
  readonly at: number;
  readonly count: number;
}

/** What requests are sent with. */
export interface DmaWriter {
  /** something goes first: pump() is called when it has */
  isBusy(): boolean;
  send(message: Uint8Array): void;
}

export interface DmaMessagesOptions {
  writer: DmaWriter;
  memory: GuestMemory;
  counters: CounterSet;
  /** told of the first transfer that the client refuses */
  warn: (message: string) => void;
}

export class DmaMessages implements DmaChannel {
  readonly #options: DmaMessagesOptions;
  readonly #out = new NativeBuffer(DMA_DATA + MAX_DMA_BYTES).u8;
  readonly #outView = new DataView(this.#out.buffer);
  /** that are not sent to their end */
  #waiting: Batch[] = [];
  /** by message ID */
  readonly #underWay = new Map<number, Request>();
  #bytesUnderWay = 0;
  #lastId = 0;
  /** bytes that one message carries; 0: none is sent */
  #maxBytes = 0;
  #warned = false;
  #closed = false;

  constructor(options: DmaMessagesOptions) {
    this.#options = options;
  }

  /** The versions have been agreed on; `maxDataXferSize` is what the client takes. */
  open(maxDataXferSize: number): void {
    this.#maxBytes = Math.min(maxDataXferSize, MAX_DMA_BYTES);
  }

  submit(transfers: readonly DmaTransfer[], done: (ok: boolean) => void): void {
    if (this.#closed) return;
    this.#waiting.push({ transfers, done, next: 0, sent: 0, unanswered: 0, ok: true });
    this.pump();
  }

  /** Sends what waits, as far as that goes now. Data path. */
  pump(): void {
    while (this.#waiting.length > 0 && this.#maySend()) {
      const batch = this.#waiting[0]!;
      const transfer = batch.transfers[batch.next]!;
      const count = Math.min(lengthOf(transfer) - batch.sent, this.#maxBytes);
      if (this.#bytesUnderWay + count > MAX_DMA_BYTES_UNDER_WAY) return;
      const request = { batch, transfer, at: batch.sent, count };
      batch.sent += count;
      if (batch.sent === lengthOf(transfer)) {
        batch.next++;
        batch.sent = 0;
      }
      if (batch.next === batch.transfers.length) this.#waiting.shift();
      this.#send(request);
    }
  }

  /** A reply has come, with its header. Throws EPROTO if it is not one to a request that is under way. */
  reply(message: Uint8Array): void {
    const view = new DataView(message.buffer, message.byteOffset, message.length);
    const id = view.getUint16(0, true);
    const command = view.getUint16(M.HEADER_COMMAND, true);
    const request = this.#underWay.get(id);
    if (request === undefined || command !== commandOf(request.transfer))
      throw protocolError(`${M.commandName(command)}: a reply to a request that was not made`);
    const refused = (view.getUint32(M.HEADER_FLAGS, true) & M.VFIO_USER_F_ERROR) !== 0;
    if (!refused) checkReply(view, request);
    this.#underWay.delete(id);
    this.#bytesUnderWay -= request.count;
    if (refused) this.#refused(request, view.getUint32(M.HEADER_ERRNO, true));
    else if (request.transfer.kind === 'read') this.#arrived(request, message.subarray(DMA_DATA));
    const { batch } = request;
    batch.unanswered--;
    if (batch.unanswered === 0 && !this.#waiting.includes(batch)) batch.done(batch.ok);
    this.pump();
  }

  /** Regions have come or gone: what waits for memory that is gone is given up. */
  memoryChanged(): void {
    this.#giveUp((batch) => batch.transfers.some((transfer, i) => i >= batch.next && !this.#reaches(transfer)));
  }

  /** The device was reset: what waits is not sent any more. */
  reset(): void {
    this.#giveUp(() => true);
  }

  /** The connection ends: no batch is ever over. */
  close(): void {
    this.#closed = true;
    this.#waiting = [];
    this.#underWay.clear();
  }

  #maySend(): boolean {
    return this.#maxBytes > 0 && this.#underWay.size < MAX_DMA_MESSAGES_UNDER_WAY && !this.#options.writer.isBusy();
  }

  #send(request: Request): void {
    const { transfer, at, count } = request;
    let id = this.#lastId;
    do id = (id + 1) & 0xffff;
    while (this.#underWay.has(id));
    this.#lastId = id;
    this.#underWay.set(id, request);
    this.#bytesUnderWay += count;
    request.batch.unanswered++;
    const isWrite = transfer.kind === 'write';
    const length = DMA_DATA + (isWrite ? count : 0);
    const view = this.#outView;
    view.setUint16(0, id, true);
    view.setUint16(M.HEADER_COMMAND, commandOf(transfer), true);
    view.setUint32(M.HEADER_SIZE, length, true);
    view.setUint32(M.HEADER_FLAGS, M.VFIO_USER_F_TYPE_COMMAND, true);
    view.setUint32(M.HEADER_ERRNO, 0, true);
    view.setBigUint64(M.HEADER_BYTES, BigInt(transfer.gpa + at), true);
    view.setBigUint64(M.HEADER_BYTES + 8, BigInt(count), true);
    if (isWrite) this.#out.set(transfer.bytes.subarray(at, at + count), DMA_DATA);
    const { values } = this.#options.counters;
    values[isWrite ? C.dma_writes : C.dma_reads]!++;
    values[isWrite ? C.dma_write_bytes : C.dma_read_bytes]! += count;
    this.#options.writer.send(this.#out.subarray(0, length));
  }

  #arrived({ transfer, at }: Request, bytes: Uint8Array): void {
    if (transfer.kind === 'write') return;
    if (transfer.bytes === undefined) this.#options.memory.remote?.arrived(transfer.gpa + at, bytes);
    else transfer.bytes.set(bytes, at);
  }

  /** The rest of a batch of which something was refused is not sent. */
  #refused({ batch, transfer, at, count }: Request, errno: number): void {
    this.#options.counters.values[C.dma_refused]!++;
    batch.ok = false;
    this.#waiting = this.#waiting.filter((other) => other !== batch);
    if (this.#warned) return;
    this.#warned = true;
    const what = `${M.commandName(commandOf(transfer))} of ${count} bytes at 0x${(transfer.gpa + at).toString(16)}`;
    this.#options.warn(`${what}: the client refused it: ${errno === 0 ? 'it does not say why' : errnoText(errno)}`);
  }

  #giveUp(which: (batch: Batch) => boolean): void {
    const given = this.#waiting.filter(which);
    if (given.length === 0) return;
    this.#waiting = this.#waiting.filter((batch) => !given.includes(batch));
    for (const batch of given) {
      // any of them may end the connection
      batch.ok = false;
      if (batch.unanswered === 0 && !this.#closed) batch.done(false);
    }
    this.pump();
  }

  /** Whether all of a transfer lies in memory that the client has mapped and does not share. */
  #reaches(transfer: DmaTransfer): boolean {
    const map = this.#options.memory.remote?.map;
    const end = transfer.gpa + lengthOf(transfer);
    const place = { win: 0, off: 0 };
    for (let at = transfer.gpa; at < end; ) {
      const n = map?.run(at, end - at, place) ?? 0;
      if (n === 0 || !map?.isRemote(at)) return false;
      at += n;
    }
    return true;
  }
}

function lengthOf(transfer: DmaTransfer): number {
  return transfer.kind === 'read' ? transfer.length : transfer.bytes.length;
}

function commandOf({ kind }: DmaTransfer): number {
  return kind === 'read' ? M.VFIO_USER_DMA_READ : M.VFIO_USER_DMA_WRITE;
}

/** Replies to DMA_WRITE have a count of 4 bytes, one of 8, or, from older QEMU, nothing but the header. */
function checkReply(view: DataView, { transfer, at, count }: Request): void {
  const length = view.byteLength;
  const isRead = transfer.kind === 'read';
  const name = M.commandName(commandOf(transfer));
  if (isRead ? length !== DMA_DATA + count : ![M.HEADER_BYTES, SHORT_WRITE_REPLY, DMA_DATA].includes(length))
    throw protocolError(`${name}: a reply of ${length} bytes to a request for ${count}`);
  if (length === M.HEADER_BYTES) return;
  const address = view.getBigUint64(M.HEADER_BYTES, true);
  const wanted = BigInt(transfer.gpa + at);
  if (address !== wanted)
    throw protocolError(`${name}: a reply for 0x${address.toString(16)} to a request for 0x${wanted.toString(16)}`);
  const low = view.getUint32(M.HEADER_BYTES + 8, true);
  const high = length === SHORT_WRITE_REPLY ? 0 : view.getUint32(M.HEADER_BYTES + 12, true);
  const counted = high * 2 ** 32 + low;
  if (counted !== count) throw protocolError(`${name}: a reply of ${counted} bytes to a request for ${count}`);
}
