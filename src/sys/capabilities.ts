/**
 * Capabilities (capabilities(7)). On Linux they belong to a thread: what is changed here holds for the
 * calling thread and for what it starts from then on.
 */
import { errno, libc, sysError } from './libc.js';
import { NativeBuffer } from './native-buffer.js';
import { syscall } from './syscall.js';

const prctlC = libc.func('int prctl(int option, uint64_t a, uint64_t b, uint64_t c, uint64_t d)') as (
  option: number,
  a: number,
  b: number,
  c: number,
  d: number,
) => number;

// linux/capability.h, by number
export const capabilityNames = [
  'CAP_CHOWN',
  'CAP_DAC_OVERRIDE',
  'CAP_DAC_READ_SEARCH',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_SETPCAP',
  'CAP_LINUX_IMMUTABLE',
  'CAP_NET_BIND_SERVICE',
  'CAP_NET_BROADCAST',
  'CAP_NET_ADMIN',
  'CAP_NET_RAW',
  'CAP_IPC_LOCK',
  'CAP_IPC_OWNER',
  'CAP_SYS_MODULE',
  'CAP_SYS_RAWIO',
  'CAP_SYS_CHROOT',
  'CAP_SYS_PTRACE',
  'CAP_SYS_PACCT',
  'CAP_SYS_ADMIN',
  'CAP_SYS_BOOT',
  'CAP_SYS_NICE',
  'CAP_SYS_RESOURCE',
  'CAP_SYS_TIME',
  'CAP_SYS_TTY_CONFIG',
  'CAP_MKNOD',
  'CAP_LEASE',
  'CAP_AUDIT_WRITE',
  'CAP_AUDIT_CONTROL',
  'CAP_SETFCAP',
  'CAP_MAC_OVERRIDE',
  'CAP_MAC_ADMIN',
  'CAP_SYSLOG',
  'CAP_WAKE_ALARM',
  'CAP_BLOCK_SUSPEND',
  'CAP_AUDIT_READ',
  'CAP_PERFMON',
  'CAP_BPF',
  'CAP_CHECKPOINT_RESTORE',
] as const;

export type Capability = (typeof capabilityNames)[number];

const LINUX_CAPABILITY_VERSION_3 = 0x20080522;

// linux/prctl.h
const PR_SET_KEEPCAPS = 8;
const PR_CAPBSET_READ = 23;
const PR_CAPBSET_DROP = 24;
const PR_SET_NO_NEW_PRIVS = 38;
const PR_CAP_AMBIENT = 47;
const PR_CAP_AMBIENT_RAISE = 2;
const PR_CAP_AMBIENT_CLEAR_ALL = 4;

function prctl(name: string, option: number, a: number, b = 0): number {
  const result = prctlC(option, a, b, 0, 0);
  if (result < 0) throw sysError(`prctl ${name}`);
  return result;
}

/** From now on no program that this thread starts gets more rights than it has. Cannot be undone. */
export function setNoNewPrivs(): void {
  prctl('PR_SET_NO_NEW_PRIVS', PR_SET_NO_NEW_PRIVS, 1);
}

/** Keeps the permitted capabilities when the user changes from root to another. */
export function keepCapabilities(): void {
  prctl('PR_SET_KEEPCAPS', PR_SET_KEEPCAPS, 1);
}

// struct __user_cap_header_struct { u32 version; int pid; }; then two of
// struct __user_cap_data_struct { u32 effective, permitted, inheritable; }: capabilities 0 to 31, 32 to 63
const DATA = 8;

/** The names of the set bits of a hexadecimal word, as /proc/PID/status has it. */
export function capabilitiesOf(hex: string): string[] {
  const bits = BigInt(`0x${hex}`);
  const names: string[] = [];
  for (let i = 0; i < 64; i++) if ((bits >> BigInt(i)) & 1n) names.push(capabilityNames[i] ?? `capability ${i}`);
  return names;
}

function permitted(): Set<number> {
  const buffer = new NativeBuffer(DATA + 24);
  buffer.u32[0] = LINUX_CAPABILITY_VERSION_3;
  if (syscall('capget', buffer.addr, buffer.addr + DATA) !== 0) throw sysError('capget');
  const set = new Set<number>();
  for (let i = 0; i < 64; i++) if (((buffer.u32[i < 32 ? 3 : 6] as number) >>> (i & 31)) & 1) set.add(i);
  return set;
}

/** True where this thread has it. */
export function hasCapability(name: Capability): boolean {
  return permitted().has(capabilityNames.indexOf(name));
}

/**
 * Takes from the bounding set all but `keep`: no program that this thread starts, not even root's, gets any
 * other. Does nothing without CAP_SETPCAP, which it takes.
 */
export function limitBoundingSet(keep: ReadonlySet<Capability>): void {
  if (!hasCapability('CAP_SETPCAP')) return;
  const kept = new Set([...keep].map((name) => capabilityNames.indexOf(name)));
  // newer kernels may have more capabilities than there are names; EINVAL ends the list
  for (let i = 0; i < 64 && prctlC(PR_CAPBSET_READ, i, 0, 0, 0) >= 0; i++)
    if (!kept.has(i)) prctl('PR_CAPBSET_DROP', PR_CAPBSET_DROP, i);
}

/**
 * Gives up all capabilities but those of `keep` that it has, which go on to the program it becomes
 * (ambient(7) where it is not root's).
 */
export function limitCapabilities(keep: ReadonlySet<Capability>): void {
  const had = permitted();
  const kept = [...keep].map((name) => capabilityNames.indexOf(name)).filter((i) => had.has(i));
  const buffer = new NativeBuffer(DATA + 24);
  buffer.u32[0] = LINUX_CAPABILITY_VERSION_3;
  for (const i of kept)
    for (const set of [0, 1, 2]) {
      const word = DATA / 4 + (i < 32 ? 0 : 3) + set;
      buffer.u32[word] = (buffer.u32[word] as number) | (1 << (i & 31));
    }
  if (syscall('capset', buffer.addr, buffer.addr + DATA) !== 0) throw sysError('capset', undefined, undefined, errno());
  prctl('PR_CAP_AMBIENT_CLEAR_ALL', PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL);
  for (const i of kept) prctl('PR_CAP_AMBIENT_RAISE', PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i);
}
