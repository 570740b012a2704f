/**
 * A port of a fabric in another process or thread, as its client has it: the region mapped in a window of this
 * process, rings on it, and syncs through the CSB.
 *
 * txsync and rxsync tell the fabric where head is, kick it if it sleeps, and take over where tail is; they do not
 * wait for the fabric to have looked. wait() does. Offsets come from the fabric's answer, never from the region,
 * which other clients can write.
 */
import type { Mapping, Window, WindowPool } from '../../memory/window.js';
import { eventfdRead, eventfdWrite } from '../../sys/eventfd.js';
import type { Fd } from '../../sys/fd.js';
import { NI_BUFS_HEAD } from '../abi.js';
import { NetmapRing } from '../ring.js';
import type { PortConnection, Reply } from './connection.js';
import { atokWord, ktoaWord, W_APPL_NEED_KICK, W_CUR, W_HEAD, W_HWTAIL, W_KERN_NEED_KICK } from './csb.js';
import { isObject, protocolError, REGISTER_FDS } from './messages.js';
import { POLLERR, POLLIN, POLLOUT, type PollablePort, type PollEntry, PortPoll } from './poll.js';

const PAGE = 4096;

/** What the fabric says of a port that it has opened. */
export interface RegisterAnswer {
  /** nr_name */
  name: string;
  memId: number;
  /** bytes of the region */
  memSize: number;
  /** offset of the netmap_if in the region, as those that follow */
  nifpOff: number;
  csbOff: number;
  txRingOffs: number[];
  rxRingOffs: number[];
  extraBufs: number;
  vnetHdrLen: number;
  hostTxRings: number;
  hostRxRings: number;
}

export class NetmapClientPort implements PollablePort {
  readonly name: string;
  /** identity of the memory region within its fabric */
  readonly memId: number;
  /** which fabric: ports of the same one with the same memId share their buffers */
  readonly fabric: string;
  readonly window: Window;
  readonly txRings: readonly NetmapRing[];
  readonly rxRings: readonly NetmapRing[];
  /** of the rings, how many are the host's: the last ones */
  readonly hostTxRings: number;
  readonly hostRxRings: number;
  /** extra buffers that were given, in a list that begins at bufsHead */
  readonly extraBufs: number;
  readonly #connection: PortConnection;
  readonly #mapping: Mapping;
  readonly #kick: Fd;
  readonly #notify: Fd;
  readonly #u32: Uint32Array;
  readonly #nifpWord: number;
  readonly #txAtok: Int32Array;
  readonly #txKtoa: Int32Array;
  readonly #rxAtok: Int32Array;
  readonly #rxKtoa: Int32Array;
  #poll: PortPoll | undefined;
  #vnetHdrLen: number;
  #gone = false;
  #closed = false;

  /** Takes over the connection and the descriptors, unless it throws. */
  constructor(pool: WindowPool, connection: PortConnection, reply: Reply) {
    const answer = checkAnswer(reply);
    const [memory, kick, notify] = reply.fds as [Fd, Fd, Fd];
    this.#mapping = pool.mapFile({
      fd: memory.number,
      fileOffset: 0,
      length: answer.memSize,
      pageSize: PAGE,
      subject: answer.name,
    });
    memory.close();
    this.#kick = kick;
    this.#notify = notify;
    this.#connection = connection;
    this.name = answer.name;
    this.memId = answer.memId;
    this.fabric = connection.path;
    this.extraBufs = answer.extraBufs;
    this.hostTxRings = answer.hostTxRings;
    this.hostRxRings = answer.hostRxRings;
    this.#vnetHdrLen = answer.vnetHdrLen;
    const { window, off } = this.#mapping;
    this.window = window;
    this.#u32 = window.u32;
    this.#nifpWord = (off + answer.nifpOff) >>> 2;
    this.txRings = answer.txRingOffs.map((at) => new NetmapRing(window, off + at));
    this.rxRings = answer.rxRingOffs.map((at) => new NetmapRing(window, off + at));
    const csb = off + answer.csbOff;
    const txCount = this.txRings.length;
    this.#txAtok = Int32Array.from(this.txRings, (_, i) => atokWord(csb, i));
    this.#txKtoa = Int32Array.from(this.txRings, (_, i) => ktoaWord(csb, i));
    this.#rxAtok = Int32Array.from(this.rxRings, (_, i) => atokWord(csb, txCount + i));
    this.#rxKtoa = Int32Array.from(this.rxRings, (_, i) => ktoaWord(csb, txCount + i));
    this.txsync();
    this.rxsync();
  }

  /** First extra buffer; what is in the list when the port is closed is freed. */
  get bufsHead(): number {
    return this.#u32[this.#nifpWord + NI_BUFS_HEAD / 4]!;
  }

  set bufsHead(idx: number) {
    this.#u32[this.#nifpWord + NI_BUFS_HEAD / 4] = idx;
  }

  /** Bytes of virtio-net header before each frame: 0, 10 or 12. */
  get vnetHdrLen(): number {
    return this.#vnetHdrLen;
  }

  /** Of the whole port (NETMAP_REQ_PORT_HDR_SET). */
  set vnetHdrLen(len: number) {
    this.#connection.request('port-hdr-set', '', { hdrLen: len });
    this.#vnetHdrLen = len;
  }

  /** The fabric has closed the port, or has gone. */
  get gone(): boolean {
    return this.#gone;
  }

  // ---- syncs ----

  txsync(ring?: number): void {
    if (ring !== undefined) this.#sync(this.txRings[ring]!, this.#txAtok[ring]!, this.#txKtoa[ring]!);
    else for (let i = 0; i < this.txRings.length; i++) this.#sync(this.txRings[i]!, this.#txAtok[i]!, this.#txKtoa[i]!);
  }

  rxsync(ring?: number): void {
    if (ring !== undefined) this.#sync(this.rxRings[ring]!, this.#rxAtok[ring]!, this.#rxKtoa[ring]!);
    else for (let i = 0; i < this.rxRings.length; i++) this.#sync(this.rxRings[i]!, this.#rxAtok[i]!, this.#rxKtoa[i]!);
  }

  #sync(ring: NetmapRing, atok: number, ktoa: number): void {
    const u32 = this.#u32;
    const { head, cur } = ring;
    if (this.#closed) return;
    if (u32[atok + W_HEAD] !== head || u32[atok + W_CUR] !== cur) {
      Atomics.store(u32, atok + W_CUR, cur);
      Atomics.store(u32, atok + W_HEAD, head);
      if (Atomics.load(u32, ktoa + W_KERN_NEED_KICK) !== 0) eventfdWrite(this.#kick.number);
    }
    ring.tail = Atomics.load(u32, ktoa + W_HWTAIL);
  }

  // ---- waiting ----

  get waitFds(): readonly number[] {
    return [this.#notify.number, this.#connection.fd];
  }

  check(events: number): number {
    this.txsync();
    let ready = this.#gone ? POLLERR : 0;
    if ((events & POLLIN) !== 0) {
      this.rxsync();
      for (const ring of this.rxRings) if (ring.cur !== ring.tail) ready |= POLLIN;
    }
    if ((events & POLLOUT) !== 0) for (const ring of this.txRings) if (ring.cur !== ring.tail) ready |= POLLOUT;
    return ready;
  }

  arm(events: number): number {
    if ((events & POLLIN) !== 0) this.#wantKicks(this.#rxAtok, 1);
    if ((events & POLLOUT) !== 0) this.#wantKicks(this.#txAtok, 1);
    return this.check(events);
  }

  disarm(): void {
    this.#wantKicks(this.#rxAtok, 0);
    this.#wantKicks(this.#txAtok, 0);
  }

  woken(fd: number): void {
    if (fd === this.#notify.number) eventfdRead(fd);
    // an answer is only there while one is awaited: this is the end
    else this.#gone = true;
  }

  /**
   * Waits until there are frames (POLLIN), or slots to send with (POLLOUT): looks for a while, then sleeps. -1: for
   * ever. Syncs first. Returns what is there, 0 after the timeout; with POLLERR when the fabric has gone.
   */
  wait(events: number, timeoutMs: number): number {
    this.#poll ??= new PortPoll([this]);
    const entry = this.#poll.entries[0] as PollEntry;
    entry.events = events;
    this.#poll.poll(timeoutMs);
    return entry.revents;
  }

  #wantKicks(atok: Int32Array, value: number): void {
    if (this.#closed) return;
    for (let i = 0; i < atok.length; i++) Atomics.store(this.#u32, atok[i]! + W_APPL_NEED_KICK, value);
  }

  /** Gives the port back: its rings, and what is in the list of extra buffers. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#poll?.close();
    this.#connection.close();
    this.#kick.close();
    this.#notify.close();
    this.#mapping.close();
  }
}

/** The answer to `register`: numbers that are used as offsets are within the region. */
function checkAnswer({ body, fds }: Reply): RegisterAnswer {
  const isCount = (value: unknown): value is number => Number.isInteger(value) && (value as number) >= 0;
  const { name, memSize, txRingOffs, rxRingOffs } = body;
  const numbers = ['memId', 'memSize', 'nifpOff', 'csbOff', 'extraBufs', 'vnetHdrLen', 'hostTxRings', 'hostRxRings'];
  const lists = [txRingOffs, rxRingOffs];
  if (
    !isObject(body) ||
    typeof name !== 'string' ||
    fds.length !== REGISTER_FDS ||
    !numbers.every((key) => isCount(body[key])) ||
    !lists.every((list) => Array.isArray(list) && list.every((off) => isCount(off) && off < (memSize as number)))
  )
    throw protocolError('the answer to register is not what it should be');
  return body as unknown as RegisterAnswer;
}
