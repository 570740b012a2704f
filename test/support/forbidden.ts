/**
 * Everything that a process in the sandbox must not be able to do, tried: what came of each, as the name of
 * the error, or "allowed". None of it does harm where it is allowed.
 */
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';
import { errno, errnoName } from '../../src/sys/libc.js';
import { connectUnix, listenUnix } from '../../src/sys/socket.js';
import { type SyscallName, syscall, syscallByNumber } from '../../src/sys/syscall.js';

export type Outcome = Record<string, string>;

export interface Places {
  /** a folder in which sockets may be made */
  allowed: string;
  /** a folder that is none of the fabric's business, with a file "secret" and a socket "other.sock" in it */
  outside: string;
}

function outcome(attempt: () => unknown): string {
  try {
    attempt();
    return 'allowed';
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

function called(result: number): string {
  return result < 0 ? errnoName(errno()) : 'allowed';
}

const CLONE_NEWUSER = 0x10000000;
const TIOCSTI = 0x5412;
const PR_SET_DUMPABLE = 4;
const AF_INET = 2;
const AF_NETLINK = 16;
const SOCK_DGRAM = 2;
const X32_GETPID = 0x40000000 + 39;

/** System calls with arguments that can do nothing. */
export const refusedCalls: [SyscallName, ...number[]][] = [
  ['execve'],
  ['execveat', -1],
  ['ptrace', 0xffff],
  ['process_vm_readv', 0],
  ['process_vm_writev', 0],
  ['mount'],
  ['umount2'],
  ['move_mount', -1, 0, -1],
  ['open_tree', -1],
  ['fsopen'],
  ['pivot_root'],
  ['chroot'],
  ['bpf', 0xffff],
  ['kexec_load', 0, 0xffff],
  ['kexec_file_load', -1, -1],
  ['init_module'],
  ['finit_module', -1],
  ['delete_module'],
  ['keyctl', 0xffff],
  ['add_key'],
  ['setns', -1],
  ['unshare', CLONE_NEWUSER],
  ['clone', CLONE_NEWUSER],
  ['perf_event_open', 0, 0, -1, -1],
  ['userfaultfd'],
  ['pidfd_open', process.pid],
  ['io_uring_setup'],
  ['open_by_handle_at', -1],
  ['setuid', 0],
  ['setgid', 0],
  ['setgroups', 0],
  ['setresuid', 0, 0, 0],
  ['capset'],
  ['reboot'],
  ['seccomp', 0xffff],
  ['landlock_restrict_self', -1],
];

/** Calls that are allowed, with arguments that are not. */
const refusedArguments: [string, SyscallName, ...number[]][] = [
  ['TCP socket', 'socket', AF_INET, 1],
  ['netlink socket', 'socket', AF_NETLINK, 3],
  ['unix datagram socket', 'socket', 1, SOCK_DGRAM],
  ['signal to the parent', 'kill', process.ppid, 0],
  ['typing into the terminal', 'ioctl', 0, TIOCSTI, 0],
  ['prctl PR_SET_DUMPABLE', 'prctl', PR_SET_DUMPABLE, 1],
  ['limits of another process', 'prlimit64', process.ppid, 0],
];

export function tryForbidden({ allowed, outside }: Places): Outcome {
  const out: Outcome = {};
  for (const [name, ...args] of refusedCalls) out[name] = called(syscall(name, ...(args as [number])));
  for (const [what, name, ...args] of refusedArguments) out[what] = called(syscall(name, ...(args as [number])));
  out['spawn a program'] = spawnSync('/bin/true').error === undefined ? 'allowed' : 'EPERM';
  out['a call of the x32 ABI'] = called(syscallByNumber(X32_GETPID));
  out['read a file outside'] = outcome(() => readFileSync(join(outside, 'secret')));
  out['read /etc/passwd'] = outcome(() => readFileSync('/etc/passwd'));
  out['list the root folder'] = outcome(() => readdirSync('/'));
  out['write a file outside'] = outcome(() => writeFileSync(join(outside, 'new'), ''));
  out['write to a file outside'] = outcome(() => writeFileSync(join(outside, 'secret'), '', { flag: 'r+' }));
  out['remove a file outside'] = outcome(() => rmSync(join(outside, 'secret')));
  out['write a file among the sockets'] = outcome(() => writeFileSync(join(allowed, 'new'), ''));
  out['listen outside'] = outcome(() => listenUnix(join(outside, 'new.sock')).close());
  out['connect to a socket'] = outcome(() => connectUnix(join(outside, 'other.sock')).close());
  return out;
}

/** What must go on working. */
export async function tryNeeded({ allowed }: Places): Promise<Outcome> {
  const out: Outcome = {};
  out['listen and clean up'] = outcome(() => listenUnix(join(allowed, `${process.pid}.sock`)).close());
  out['start a thread'] = await new Promise((resolve) => {
    const worker = new Worker('require("worker_threads").parentPort.postMessage("allowed")', { eval: true });
    worker.once('message', resolve).once('error', (error) => resolve(String(error)));
  });
  out['load a module'] = await import('../../src/wire/pcapng.js').then(() => 'allowed', String);
  out['read in the pool'] = await import('node:fs/promises')
    .then((fs) => fs.readFile('/proc/self/stat'))
    .then(() => 'allowed', String);
  // compiled code, and more garbage than one collection takes
  out['compile and collect'] = outcome(() => {
    let sum = 0;
    for (let i = 0; i < 2e6; i++) sum += [i, { i }].length;
    return sum;
  });
  out['a call that is newer'] = called(syscallByNumber(9999));
  out['clone3, which falls back'] = called(syscall('clone3'));
  return out;
}
