/**
 * io_uring(7): a batch of requests for one system call, and requests that stay posted.
 *
 * The rings are shared with the kernel and written here through typed arrays: an entry is staged with
 * plain stores, enter() publishes the tail and enters the kernel once, and takes the completions.
 * One thread makes, uses and closes a ring. The data path neither throws nor allocates.
 */
import koffi from 'koffi';
import { type Fd, ownFd } from './fd.js';
import { E, errno, libc, sysError } from './libc.js';
import { MAP_SHARED, mmap, munmap, PROT_READ, PROT_WRITE } from './mman.js';
import { NativeBuffer } from './native-buffer.js';

type Call = (n: number, a: number, b: number, c: number, d: number, e: number, f: number) => number;
// there are no wrappers in the C library
const syscallC = libc.func(
  'int64_t syscall(int64_t n, int64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, uint64_t f)',
) as Call;

// asm-generic/unistd.h; the same on x86-64 and arm64
const NR_SETUP = 425;
const NR_ENTER = 426;
const NR_REGISTER = 427;

// linux/io_uring.h
export const IORING_OP_WRITEV = 2;
export const IORING_OP_ASYNC_CANCEL = 14;
export const IORING_OP_READ_MULTISHOT = 49;
const IORING_SETUP_SUBMIT_ALL = 1 << 7;
const IORING_SETUP_COOP_TASKRUN = 1 << 8;
const IORING_SETUP_SINGLE_ISSUER = 1 << 12;
const IORING_SETUP_DEFER_TASKRUN = 1 << 13;
const IORING_FEAT_SINGLE_MMAP = 1;
const IORING_ENTER_GETEVENTS = 1;
const IORING_REGISTER_FILES = 2;
const IORING_UNREGISTER_FILES = 3;
const IORING_REGISTER_PROBE = 8;
const IORING_REGISTER_PBUF_RING = 22;
export const IORING_CQE_F_BUFFER = 1;
export const IORING_CQE_F_MORE = 2;
/** the buffer's number is in the flags from this bit on */
export const IORING_CQE_BUFFER_SHIFT = 16;
const IOSQE_BUFFER_SELECT = 1 << 5;
const IO_URING_OP_SUPPORTED = 1;
const IOSQE_FIXED_FILE = 1;
const IORING_OFF_SQ_RING = 0;
const IORING_OFF_SQES = 0x10000000;
const MAP_POPULATE = 0x8000;

/**
 * When the kernel does what is due for requests that wait (for instance reads when data comes):
 * deferred: only in enter(), and `fd` does not tell; cooperative: in any system call of the thread.
 */
export type TaskRun = 'deferred' | 'cooperative';

// The newest first: what a kernel does not know it refuses with EINVAL.
const SETUP_FLAGS: Readonly<Record<TaskRun, readonly number[]>> = {
  deferred: [
    IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
    IORING_SETUP_SUBMIT_ALL,
    0,
  ],
  cooperative: [IORING_SETUP_SUBMIT_ALL | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN, 0],
};

// struct io_uring_params, in 32-bit words
const PARAMS_BYTES = 120;
const SQ_ENTRIES = 0;
const CQ_ENTRIES = 1;
const FLAGS = 2;
const FEATURES = 5;
const SQ_OFF = 10;
const CQ_OFF = 20;

// struct io_uring_sqe and _cqe, in 32-bit words
const SQE_WORDS = 16;
const SQE_FD = 1;
const SQE_ADDR = 4;
const SQE_LEN = 6;
const SQE_USER_DATA = 8;
const SQE_BUF_GROUP = 10;
const CQE_WORDS = 4;
const CQE_RES = 2;
const CQE_FLAGS = 3;

/** Memory that the kernel shares with us, at an address of its own choice: it allows no other for rings. */
class SharedMapping {
  readonly #addr: number;
  readonly buffer: ArrayBuffer;

  constructor(
    fd: number,
    offset: number,
    readonly length: number,
  ) {
    this.#addr = mmap(0, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset, 'io_uring');
    this.buffer = koffi.view(this.#addr, length);
  }

  close(): void {
    munmap(this.#addr, this.length);
  }
}

function setup(entries: number, taskRun: TaskRun): { fd: Fd; params: NativeBuffer } {
  for (const flags of SETUP_FLAGS[taskRun]) {
    const params = new NativeBuffer(PARAMS_BYTES);
    params.u32[FLAGS] = flags;
    const fd = syscallC(NR_SETUP, entries, params.addr, 0, 0, 0, 0);
    if (fd >= 0) return { fd: ownFd(fd, 'io_uring_setup'), params };
    const no = errno();
    if (no !== E.EINVAL || flags === 0)
      throw sysError('io_uring_setup', `${entries} entries`, 'See sysctl kernel.io_uring_disabled.', no);
  }
  throw sysError('io_uring_setup', `${entries} entries`, undefined, E.EINVAL);
}

export class IoUring {
  /** requests that one batch holds */
  readonly entries: number;
  readonly #fd: Fd;
  readonly #rings: SharedMapping;
  readonly #sqes: SharedMapping;
  readonly #i32: Int32Array;
  readonly #sqe: Uint32Array;
  readonly #sqTail: number;
  readonly #sqHead: number;
  readonly #cqHead: number;
  readonly #cqTail: number;
  readonly #cqMask: number;
  readonly #cqes: number;
  readonly #sqMask: number;
  #tail = 0;
  #head = 0;
  #opFlags = 0;
  // the completion that next() moved to
  /** what the request was staged with */
  tag = 0;
  /** bytes or -errno */
  res = 0;
  /** IORING_CQE_F_* */
  flags = 0;
  #closed = false;

  /** Throws NetbeError where io_uring is missing or forbidden: ENOSYS, EPERM, ENOMEM. */
  constructor(entries: number, taskRun: TaskRun) {
    const { fd, params } = setup(entries, taskRun);
    this.#fd = fd;
    const p = params.u32;
    this.entries = p[SQ_ENTRIES] as number;
    let rings: SharedMapping | undefined;
    try {
      // 5.4 and later map both rings at once
      if (((p[FEATURES] as number) & IORING_FEAT_SINGLE_MMAP) === 0)
        throw sysError('io_uring_setup', 'rings in one mapping', undefined, E.ENOSYS);
      const sqBytes = (p[SQ_OFF + 6] as number) + this.entries * 4;
      const cqBytes = (p[CQ_OFF + 5] as number) + (p[CQ_ENTRIES] as number) * CQE_WORDS * 4;
      rings = new SharedMapping(fd.number, IORING_OFF_SQ_RING, Math.max(sqBytes, cqBytes));
      this.#rings = rings;
      this.#sqes = new SharedMapping(fd.number, IORING_OFF_SQES, this.entries * SQE_WORDS * 4);
    } catch (error) {
      rings?.close();
      fd.close();
      throw error;
    }
    this.#i32 = new Int32Array(this.#rings.buffer, 0, this.#rings.length >>> 2);
    this.#sqe = new Uint32Array(this.#sqes.buffer);
    const word = (at: number): number => (p[at] as number) >>> 2;
    this.#sqHead = word(SQ_OFF);
    this.#sqTail = word(SQ_OFF + 1);
    this.#cqHead = word(CQ_OFF);
    this.#cqTail = word(CQ_OFF + 1);
    this.#cqes = word(CQ_OFF + 5);
    this.#sqMask = this.entries - 1;
    this.#cqMask = (p[CQ_ENTRIES] as number) - 1;
    // entry i of the submission ring is always SQE i
    const array = word(SQ_OFF + 6);
    for (let i = 0; i < this.entries; i++) this.#i32[array + i] = i;
  }

  /** Whether the kernel knows all of these operations (5.6 and later can tell). */
  supports(ops: readonly number[]): boolean {
    // struct io_uring_probe { last_op, ops_len, …16 bytes }, then { op, resv, flags16, resv32 } by operation
    const count = Math.max(...ops) + 1;
    const probe = new NativeBuffer(16 + 8 * count);
    if (syscallC(NR_REGISTER, this.#fd.number, IORING_REGISTER_PROBE, probe.addr, count, 0, 0) < 0) return false;
    return ops.every(
      (op) => op <= (probe.u8[0] as number) && ((probe.u8[16 + 8 * op + 2] as number) & IO_URING_OP_SUPPORTED) !== 0,
    );
  }

  /** From now on `file` of stage() is an index in `fds`: spares the look-up of each. False where the kernel refuses. */
  registerFiles(fds: readonly number[]): boolean {
    const list = new NativeBuffer(4 * fds.length);
    list.i32.set(fds);
    if (syscallC(NR_REGISTER, this.#fd.number, IORING_REGISTER_FILES, list.addr, fds.length, 0, 0) < 0) return false;
    this.#opFlags = IOSQE_FIXED_FILE << 8;
    return true;
  }

  /** The ring lets go of the files before they are closed: a tap's interface must not outlive its descriptor. */
  unregisterFiles(): void {
    if (this.#opFlags !== 0) syscallC(NR_REGISTER, this.#fd.number, IORING_UNREGISTER_FILES, 0, 0, 0, 0);
    this.#opFlags = 0;
  }

  /** Lends the kernel a ring of buffers (group 0) at a native address: `entries` of struct io_uring_buf. False if refused. */
  registerBufferRing(addr: number, entries: number): boolean {
    // struct io_uring_buf_reg { u64 ring_addr; u32 ring_entries; u16 bgid, flags; u64 resv[3]; }
    const arg = new NativeBuffer(40);
    arg.setU64(0, addr);
    arg.u32[2] = entries;
    return syscallC(NR_REGISTER, this.#fd.number, IORING_REGISTER_PBUF_RING, arg.addr, 1, 0, 0) >= 0;
  }

  /** Readable when completions wait (of a cooperative ring). */
  get fd(): number {
    return this.#fd.number;
  }

  /** Adds a request to the batch; `tag` comes back with its completion. There must be room. */
  stage(op: number, file: number, addrLo: number, addrHi: number, len: number, tag: number): void {
    const sqe = this.#sqe;
    const at = (this.#tail & this.#sqMask) * SQE_WORDS;
    sqe[at] = op | this.#opFlags;
    sqe[at + SQE_FD] = file;
    sqe[at + SQE_ADDR] = addrLo;
    sqe[at + SQE_ADDR + 1] = addrHi;
    sqe[at + SQE_LEN] = len;
    sqe[at + SQE_USER_DATA] = tag;
    sqe[at + SQE_BUF_GROUP] = 0;
    this.#tail = (this.#tail + 1) | 0;
  }

  /** A read that stays posted: each time data comes it takes buffers of the ring, until there are none. */
  stageMultishotRead(file: number, tag: number): void {
    const at = (this.#tail & this.#sqMask) * SQE_WORDS;
    this.stage(IORING_OP_READ_MULTISHOT, file, 0, 0, 0, tag);
    this.#sqe[at]! |= IOSQE_BUFFER_SELECT << 8;
  }

  /** Takes back a request, by its tag. The completion of this one has tag `cancelTag`. */
  stageCancel(tag: number, cancelTag: number): void {
    const at = (this.#tail & this.#sqMask) * SQE_WORDS;
    this.stage(IORING_OP_ASYNC_CANCEL, 0, tag, 0, 0, cancelTag);
    this.#sqe[at] = IORING_OP_ASYNC_CANCEL;
  }

  /**
   * Submits what was staged, lets the kernel do what is due, and waits until `wait` completions are
   * there. Returns 0, or -errno when the kernel refused; what it did not consume is forgotten then.
   */
  enter(wait: number): number {
    const i32 = this.#i32;
    Atomics.store(i32, this.#sqTail, this.#tail);
    for (;;) {
      const pending = (this.#tail - Atomics.load(i32, this.#sqHead)) | 0;
      if (syscallC(NR_ENTER, this.#fd.number, pending, wait, IORING_ENTER_GETEVENTS, 0, 0) >= 0) return 0;
      const no = errno();
      if (no === E_INTR) continue;
      this.#tail = Atomics.load(i32, this.#sqHead);
      Atomics.store(i32, this.#sqTail, this.#tail);
      return -no;
    }
  }

  /** Moves to the next completion; false when there is none. */
  next(): boolean {
    const i32 = this.#i32;
    const head = this.#head;
    if (head === Atomics.load(i32, this.#cqTail)) return false;
    const at = this.#cqes + (head & this.#cqMask) * CQE_WORDS;
    this.tag = i32[at]!;
    this.res = i32[at + CQE_RES]!;
    this.flags = i32[at + CQE_FLAGS]! >>> 0;
    this.#head = (head + 1) | 0;
    Atomics.store(i32, this.#cqHead, this.#head);
    return true;
  }

  /** Idempotent. Its memory must not be looked at afterwards. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.unregisterFiles();
    this.#fd.close();
    this.#rings.close();
    this.#sqes.close();
  }
}

const E_INTR = E.EINTR;
