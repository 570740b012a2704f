/**
 * Adding 1 to an eventfd that somebody hostile shares, without ever waiting (io_submit(2)).
 *
 * write(2) waits when the counter is full and O_NONBLOCK is off, and whoever shares the descriptor can
 * bring about both. The kernel itself never waits to signal one: the completion of an asynchronous
 * request does (IOCB_FLAG_RESFD). So this submits a poll of the eventfd for reading or writing, one of
 * which it always allows; it completes at once and signals the eventfd. About 1.2 µs where write takes 0.6.
 */
import { eventfdWrite } from './eventfd.js';
import { errno, libc } from './libc.js';
import { NativeBuffer } from './native-buffer.js';

const syscallC = libc.func(
  'int64_t syscall(int64_t number, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e)',
) as (number: number, a: number, b: number, c: number, d: number, e: number) => number;

// asm/unistd.h: x86-64 has numbers of its own, arm64 the generic ones
const x64 = process.arch === 'x64';
const IO_SETUP = x64 ? 206 : 0;
const IO_DESTROY = x64 ? 207 : 1;
const IO_SUBMIT = x64 ? 209 : 2;
const IO_GETEVENTS = x64 ? 208 : 4;

// linux/aio_abi.h: struct iocb { u64 data; u32 key; u32 rw_flags; u16 opcode; s16 reqprio; u32 fildes;
// u64 buf; u64 nbytes; s64 offset; u64 reserved; u32 flags; u32 resfd; }, struct io_event of 32 bytes
const IOCB_BYTES = 64;
const OPCODE_AND_PRIO = 16 / 4;
const FILDES = 20 / 4;
const BUF = 24;
const FLAGS = 56 / 4;
const RESFD = 60 / 4;
const IOCB_CMD_POLL = 5;
const IOCB_FLAG_RESFD = 1;
const IO_EVENT_BYTES = 32;
const POLLIN_OR_OUT = 0x1 | 0x4;

const CAPACITY = 256;
const REAP_AT = CAPACITY / 2;

/** The context of this thread's requests; 0: not made yet, -1: the machine has none (containers may forbid it). */
let context = 0;
let unreaped = 0;
const events = new NativeBuffer(CAPACITY * IO_EVENT_BYTES);

function setUp(): void {
  const out = new NativeBuffer(8);
  context = syscallC(IO_SETUP, CAPACITY, out.addr, 0, 0, 0) === 0 ? out.getU64(0) : -1;
}

/** Gives the context of this thread back: for a thread that ends, since the kernel keeps it for the process. */
export function closeAio(): void {
  if (context > 0) syscallC(IO_DESTROY, context, 0, 0, 0, 0);
  context = 0;
  unreaped = 0;
}

/** A request, made once, that signals one eventfd. The descriptor stays the caller's. */
export class EventfdSignal {
  readonly #fd: number;
  readonly #iocb = new NativeBuffer(IOCB_BYTES);
  readonly #list = new NativeBuffer(8);

  constructor(fd: number) {
    if (context === 0) setUp();
    this.#fd = fd;
    const { u32 } = this.#iocb;
    u32[OPCODE_AND_PRIO] = IOCB_CMD_POLL;
    u32[FILDES] = fd;
    this.#iocb.setU64(BUF, POLLIN_OR_OUT);
    u32[FLAGS] = IOCB_FLAG_RESFD;
    u32[RESFD] = fd;
    this.#list.setU64(0, this.#iocb.addr);
  }

  /** Adds 1, unless the counter is full. Returns 0 or -errno. Falls back to write(2) where there is no io_submit. */
  signal(): number {
    if (context < 0) return eventfdWrite(this.#fd);
    if (syscallC(IO_SUBMIT, context, 1, this.#list.addr, 0, 0) !== 1) return -errno();
    if (++unreaped >= REAP_AT) {
      syscallC(IO_GETEVENTS, context, 0, CAPACITY, events.addr, 0);
      unreaped = 0;
    }
    return 0;
  }
}
