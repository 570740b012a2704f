/**
 * Guest memory that the client does not share, reached by DMA_READ and DMA_WRITE (spec: "Read and Write Operations").
 *
 * Transfers wait here, first come, first served, and become messages as the bounds below and the socket allow: while the
 * socket is full nothing is added, so that what a guest waits for, the value of a register, goes before all of them.
 * Replies may come in any order. Nothing is sent before the client's VERSION, and nothing for memory that it has unmapped.
 *
 * QEMU has had two layouts. In the older one, which is not the specification's, a count has 4 bytes, and the data begin after it,
 * where the upper half of the count should be; the message is as long all the same. A reply shows which it is, unless its
 * data are zeros: so no more than 4 bytes are read by a message until that is known. Nothing is written before, as a device reads
 * an address or an index first, and one that is not zero.
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

const DMA_ADDRESS = M.HEADER_BYTES;
const DMA_COUNT = DMA_ADDRESS + 8;
const DMA_DATA = M.HEADER_BYTES + M.DMA_ACCESS_BYTES;
/** where the older layout has its data, and the specification the end of a reply to DMA_WRITE: behind a count of 4 bytes */
const DMA_SHORT_COUNT_END = DMA_COUNT + 4;

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
  /** told once, when something is transferred: a guest that shares its memory may still have a display whose memory is not */
  onFirst: () => void;
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
  /** offset of the data in a message: DMA_DATA or DMA_SHORT_COUNT_END; 0: not known yet */
  #dataAt = 0;
  #begun = false;
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
    if (!this.#begun) {
      this.#begun = true;
      this.#options.onFirst();
    }
    this.#waiting.push({ transfers, done, next: 0, sent: 0, unanswered: 0, ok: true });
    this.pump();
  }

  /** Sends what waits, as far as that goes now. Data path. */
  pump(): void {
    while (this.#waiting.length > 0 && this.#maySend()) {
      const batch = this.#waiting[0]!;
      const transfer = batch.transfers[batch.next]!;
      const most = this.#dataAt === 0 && transfer.kind === 'read' ? Math.min(this.#maxBytes, 4) : this.#maxBytes;
      const count = Math.min(lengthOf(transfer) - batch.sent, most);
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
    if (!refused) this.#check(view, request);
    this.#underWay.delete(id);
    this.#bytesUnderWay -= request.count;
    if (refused) this.#refused(request, view.getUint32(M.HEADER_ERRNO, true));
    else this.#arrived(request, message);
    const { batch } = request;
    batch.unanswered--;
    if (batch.unanswered === 0 && batch.next === batch.transfers.length) batch.done(batch.ok);
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

  /** Throws EPROTO. The reply to a DMA_WRITE has a count of 4 bytes, or one of 8, or, from older QEMU, nothing but the header. */
  #check(view: DataView, { transfer, at, count }: Request): void {
    const length = view.byteLength;
    const isRead = transfer.kind === 'read';
    const name = M.commandName(commandOf(transfer));
    if (isRead ? length !== DMA_DATA + count : ![M.HEADER_BYTES, DMA_SHORT_COUNT_END, DMA_DATA].includes(length))
      throw protocolError(`${name}: a reply of ${length} bytes to a request for ${count}`);
    if (length === M.HEADER_BYTES) return;
    const address = view.getBigUint64(DMA_ADDRESS, true);
    const wanted = BigInt(transfer.gpa + at);
    if (address !== wanted)
      throw protocolError(`${name}: a reply for 0x${address.toString(16)} to a request for 0x${wanted.toString(16)}`);
    if (isRead && this.#dataAt === 0) this.#dataAt = layoutOf(view, count);
    const short = length === DMA_SHORT_COUNT_END || this.#dataAt === DMA_SHORT_COUNT_END;
    const counted = short ? view.getUint32(DMA_COUNT, true) : Number(view.getBigUint64(DMA_COUNT, true));
    if (counted !== count) throw protocolError(`${name}: a reply with ${counted} bytes to a request for ${count}`);
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
    view.setBigUint64(DMA_ADDRESS, BigInt(transfer.gpa + at), true);
    view.setBigUint64(DMA_COUNT, BigInt(count), true);
    if (isWrite) {
      view.setUint32(length - 4, 0, true);
      this.#out.set(transfer.bytes.subarray(at, at + count), this.#dataAt || DMA_DATA);
    }
    const { values } = this.#options.counters;
    values[isWrite ? C.dma_writes : C.dma_reads]!++;
    values[isWrite ? C.dma_write_bytes : C.dma_read_bytes]! += count;
    this.#options.writer.send(this.#out.subarray(0, length));
  }

  #arrived({ transfer, at, count }: Request, message: Uint8Array): void {
    if (transfer.kind === 'write') return;
    const dataAt = this.#dataAt || DMA_DATA;
    const bytes = message.subarray(dataAt, dataAt + count);
    if (transfer.bytes === undefined) this.#options.memory.remote?.arrived(transfer.gpa + at, bytes);
    else transfer.bytes.set(bytes, at);
  }

  /** The rest of a batch of which something was refused is not sent. */
  #refused({ batch, transfer, at, count }: Request, errno: number): void {
    this.#options.counters.values[C.dma_refused]!++;
    batch.ok = false;
    batch.next = batch.transfers.length;
    // it is sent in part, so no other can be
    if (this.#waiting[0] === batch) this.#waiting.shift();
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
      batch.ok = false;
      batch.next = batch.transfers.length;
      // any of them may end the connection
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

/** Where the data of a reply are, of which there are at most 4 bytes: not where zeros are. 0: they may be in both places. */
function layoutOf(view: DataView, count: number): number {
  if (view.getUint32(DMA_SHORT_COUNT_END, true) !== 0) return DMA_SHORT_COUNT_END;
  for (let i = 0; i < count; i++) if (view.getUint8(DMA_DATA + i) !== 0) return DMA_DATA;
  return 0;
}
