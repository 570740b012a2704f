/**
 * The seccomp filter of the sandbox (seccomp(2)): a list of the system calls that Node, V8, libuv and
 * netbe's data path make once they are set up. Anything else is refused with EPERM.
 *
 * An allow-list, so that what Linux will have tomorrow is refused, too; calls newer than the table give
 * ENOSYS, on which the C library and libuv fall back to older ones. Calls with no condition on their
 * arguments cost nothing: the kernel keeps their verdict in a bitmap.
 */
import { arch, pid } from 'node:process';
import {
  and,
  encode,
  type Instruction,
  jumpAtLeast,
  jumpEqual,
  jumpGreater,
  load,
  ret,
  whenEqual,
} from './bpf-assembler.js';
import { E, errno, sysError } from './libc.js';
import { addressOf } from './mman.js';
import { NativeBuffer } from './native-buffer.js';
import { MAX_KNOWN_SYSCALL, ordinarySyscalls, type SyscallName, syscall, syscallNumber } from './syscall.js';

// linux/seccomp.h
const SECCOMP_SET_MODE_FILTER = 1;
const SECCOMP_GET_ACTION_AVAIL = 2;
const SECCOMP_FILTER_FLAG_TSYNC = 1;
export const SECCOMP_RET_KILL_PROCESS = 0x80000000;
export const SECCOMP_RET_ERRNO = 0x00050000;
export const SECCOMP_RET_ALLOW = 0x7fff0000;

// struct seccomp_data { int nr; u32 arch; u64 instruction_pointer; u64 args[6]; }, little-endian
const NR = 0;
const ARCH = 4;
/** the low word of an argument: all that the kernel looks at where one is a C int or clone's flags */
const arg = (i: number): number => 16 + 8 * i;

// linux/audit.h
const AUDIT_ARCH_X86_64 = 0xc000003e;
const AUDIT_ARCH_AARCH64 = 0xc00000b7;
/** x86-64: numbers from here on are of the x32 ABI (asm/unistd.h) */
const X32_SYSCALL_BIT = 0x40000000;

// linux/sched.h
const CLONE_THREAD = 0x00010000;
/** NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET */
const CLONE_NEW_ANYTHING =
  0x00000080 | 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000;

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_TYPE_MASK = 0xf;

// asm-generic/ioctls.h: what types into a terminal, as though a person did
const TIOCSTI = 0x5412;
const TIOCLINUX = 0x541c;

// linux/prctl.h: names of threads and mappings, and what only reads
const prctlOptions = {
  PR_GET_DUMPABLE: 3,
  PR_SET_NAME: 15,
  PR_GET_NAME: 16,
  PR_GET_SECCOMP: 21,
  PR_CAPBSET_READ: 23,
  PR_GET_NO_NEW_PRIVS: 39,
  PR_SET_VMA: 0x53564d41,
};

/** A condition on the low word of an argument; all conditions of a call must hold. */
interface Condition {
  arg: number;
  /** bits that are looked at; default: all */
  mask?: number;
  oneOf?: readonly number[];
  noneOf?: readonly number[];
}

export interface FilterOptions {
  /** calls besides those of the list */
  syscalls?: readonly SyscallName[];
  /** address families of sockets besides AF_UNIX streams */
  socketFamilies?: readonly number[];
}

/** What is to hold for the arguments of some calls, as instructions before the verdict. */
function conditions({ socketFamilies = [] }: FilterOptions): Partial<Record<SyscallName, Instruction[]>> {
  const unixOnly: Condition = { arg: 0, oneOf: [AF_UNIX] };
  // a datagram socket could send to any path without connect(2)
  const stream: Condition = { arg: 1, mask: SOCK_TYPE_MASK, oneOf: [SOCK_STREAM] };
  return {
    // threads, but neither processes nor namespaces
    clone: [
      ...test({ arg: 0, mask: CLONE_THREAD, oneOf: [CLONE_THREAD] }),
      ...test({ arg: 0, mask: CLONE_NEW_ANYTHING, oneOf: [0] }),
    ],
    socket: [
      load(arg(0)),
      ...socketFamilies.flatMap((family) => whenEqual(family, [ALLOW])),
      ...test(unixOnly),
      ...test(stream),
    ],
    socketpair: test(unixOnly),
    ioctl: test({ arg: 1, noneOf: [TIOCSTI, TIOCLINUX] }),
    prctl: test({ arg: 0, oneOf: Object.values(prctlOptions) }),
    prlimit64: test({ arg: 0, oneOf: [0] }),
    kill: test({ arg: 0, oneOf: [pid] }),
    tgkill: test({ arg: 0, oneOf: [pid] }),
  };
}

export function allowedSyscalls({ syscalls = [] }: FilterOptions = {}): SyscallName[] {
  return [...new Set([...ordinarySyscalls, ...syscalls])].filter((name) => syscallNumber(name) >= 0);
}

const ALLOW = ret(SECCOMP_RET_ALLOW);
const EPERM = ret(SECCOMP_RET_ERRNO | E.EPERM);
const ENOSYS = ret(SECCOMP_RET_ERRNO | E.ENOSYS);

function test({ arg: i, mask, oneOf, noneOf = [] }: Condition): Instruction[] {
  const word = mask === undefined ? [load(arg(i))] : [load(arg(i)), and(mask)];
  if (oneOf === undefined) return [...word, ...noneOf.flatMap((value) => whenEqual(value, [EPERM]))];
  // a match skips the values that are left, and the refusal
  return [...word, ...oneOf.map((value, at) => jumpEqual(value, oneOf.length - at, 0)), EPERM];
}

export function seccompProgram(options: FilterOptions = {}): Instruction[] {
  const rules = conditions(options);
  const x32 = arch === 'x64' ? [jumpAtLeast(X32_SYSCALL_BIT, 0, 1), EPERM] : [];
  return [
    load(ARCH),
    jumpEqual(arch === 'arm64' ? AUDIT_ARCH_AARCH64 : AUDIT_ARCH_X86_64, 1, 0),
    ret(SECCOMP_RET_KILL_PROCESS),
    load(NR),
    ...x32,
    jumpGreater(MAX_KNOWN_SYSCALL, 0, 1),
    ENOSYS,
    // its flags are in memory, where a filter cannot look: the C library falls back to clone
    ...whenEqual(syscallNumber('clone3'), [ENOSYS]),
    ...allowedSyscalls(options).flatMap((name) => whenEqual(syscallNumber(name), [...(rules[name] ?? []), ALLOW])),
    EPERM,
  ];
}

/**
 * Hides io_uring from a Node that is yet to start. libuv of Node 22 and later makes a ring for its event
 * loop before JavaScript runs, and aborts when the filter above then refuses it; and a ring that exists
 * would carry out what the filter refuses.
 */
export function withoutIoUring(): Instruction[] {
  return [load(NR), ...whenEqual(syscallNumber('io_uring_setup'), [ENOSYS]), ALLOW];
}

/** Why this kernel, or what it runs under, has no seccomp filters; undefined where it has. */
export function seccompMissing(): string | undefined {
  const action = new NativeBuffer(8);
  action.u32[0] = SECCOMP_RET_KILL_PROCESS;
  if (syscall('seccomp', SECCOMP_GET_ACTION_AVAIL, 0, action.addr) === 0) return undefined;
  return sysError('seccomp').message;
}

/** Puts the filter on every thread of the process, for good. no_new_privs must be in force. */
export function installFilter(program: readonly Instruction[]): void {
  const code = encode(program);
  // struct sock_fprog { u16 len; struct sock_filter *filter; }
  const fprog = new NativeBuffer(16);
  fprog.u32[0] = program.length;
  fprog.setU64(8, addressOf(code));
  const failed = syscall('seccomp', SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, fprog.addr);
  if (failed < 0) throw sysError('seccomp', undefined, undefined, errno());
  if (failed > 0) throw sysError('seccomp', `thread ${failed} has another filter`, undefined, E.ESRCH);
}
