import assert from 'node:assert/strict';
import { arch, pid } from 'node:process';
import { test } from 'node:test';
import {
  encode,
  type Instruction,
  interpret,
  MAX_INSTRUCTIONS,
  ret,
  whenEqual,
} from '../../../src/sys/bpf-assembler.js';
import { E } from '../../../src/sys/libc.js';
import {
  allowedSyscalls,
  type FilterOptions,
  SECCOMP_RET_ALLOW,
  SECCOMP_RET_ERRNO,
  SECCOMP_RET_KILL_PROCESS,
  seccompProgram,
} from '../../../src/sys/seccomp.js';
import { type SyscallName, syscallNumber } from '../../../src/sys/syscall.js';

const AUDIT_ARCH = arch === 'arm64' ? 0xc00000b7 : 0xc000003e;
const AUDIT_ARCH_I386 = 0x40000003;
const CLONE_THREAD = 0x10000;
const PTHREAD = 0x3d0f00; // what pthread_create(3) asks for
const EPERM = SECCOMP_RET_ERRNO | E.EPERM;
const ENOSYS = SECCOMP_RET_ERRNO | E.ENOSYS;

interface Call {
  nr: number;
  args?: number[];
  arch?: number;
}

/** struct seccomp_data; the upper halves of the arguments are rubbish, which the kernel does not look at either */
function data({ nr, args = [], arch: abi = AUDIT_ARCH }: Call): Uint8Array {
  const view = new DataView(new ArrayBuffer(64));
  view.setUint32(0, nr, true);
  view.setUint32(4, abi, true);
  for (let i = 0; i < 6; i++) {
    view.setUint32(16 + 8 * i, args[i] ?? 0, true);
    view.setUint32(20 + 8 * i, 0xdeadbeef, true);
  }
  return new Uint8Array(view.buffer);
}

function verdict(name: SyscallName, args: number[] = [], options: FilterOptions = {}): number {
  return interpret(seccompProgram(options), data({ nr: syscallNumber(name), args }));
}

test('the program is one that the kernel takes: short enough, jumps forward, ends with a verdict', () => {
  const program = seccompProgram({ syscalls: ['connect', 'bpf'], socketFamilies: [2, 16, 17, 44] });
  assert(program.length <= MAX_INSTRUCTIONS);
  assert.equal(encode(program).length, program.length * 8);
  for (const [at, [, jt, jf]] of program.slice(0, -1).entries())
    assert(at + 1 + Math.max(jt, jf) < program.length, `instruction ${at}`);
  assert.deepEqual(program.at(-1), ret(EPERM) as Instruction);
});

test('whenEqual refuses a body that is too long to be jumped over', () => {
  assert.throws(() => encode(whenEqual(1, new Array<Instruction>(256).fill(ret(0)))), RangeError);
});

test('every call of the list is allowed, unless it has conditions; all others that the machine knows are not', () => {
  const conditional = new Set<SyscallName>([
    'clone',
    'socket',
    'socketpair',
    'ioctl',
    'prctl',
    'prlimit64',
    'kill',
    'tgkill',
  ]);
  const allowed = new Map(allowedSyscalls().map((name) => [syscallNumber(name), name]));
  const program = seccompProgram();
  for (let nr = 0; nr <= 450; nr++) {
    const name = allowed.get(nr);
    const got = interpret(program, data({ nr }));
    if (nr === syscallNumber('clone3')) assert.equal(got, ENOSYS);
    else if (name === undefined) assert.equal(got, EPERM, `call ${nr}`);
    else if (!conditional.has(name)) assert.equal(got, SECCOMP_RET_ALLOW, name);
  }
});

test('another architecture ends the process; x32 and newer calls are refused', () => {
  const program = seccompProgram();
  assert.equal(interpret(program, data({ nr: 0, arch: AUDIT_ARCH_I386 })), SECCOMP_RET_KILL_PROCESS);
  assert.equal(interpret(program, data({ nr: 451 })), ENOSYS);
  if (arch === 'x64') assert.equal(interpret(program, data({ nr: 0x40000000 })), EPERM);
});

test('clone makes threads, but neither processes nor namespaces', () => {
  assert.equal(verdict('clone', [PTHREAD]), SECCOMP_RET_ALLOW);
  assert.equal(verdict('clone', [17]), EPERM); // fork: SIGCHLD
  for (const bit of [7, 17, 25, 26, 27, 28, 29, 30]) assert.equal(verdict('clone', [CLONE_THREAD | (1 << bit)]), EPERM);
});

test('sockets are unix streams, unless a backend needs a family', () => {
  const [STREAM, DGRAM, FLAGS] = [1, 2, 0o2004000];
  assert.equal(verdict('socket', [1, STREAM | FLAGS]), SECCOMP_RET_ALLOW);
  assert.equal(verdict('socket', [1, DGRAM | FLAGS]), EPERM);
  assert.equal(verdict('socket', [2, STREAM]), EPERM);
  assert.equal(verdict('socket', [2, DGRAM], { socketFamilies: [16, 2] }), SECCOMP_RET_ALLOW);
  assert.equal(verdict('socket', [1, DGRAM], { socketFamilies: [16, 2] }), EPERM);
  assert.equal(verdict('socket', [1, DGRAM], { socketFamilies: [1] }), SECCOMP_RET_ALLOW);
  assert.equal(verdict('socketpair', [2, STREAM]), EPERM);
});

test('signals go to the process itself, limits are its own, a terminal is not typed into', () => {
  assert.equal(verdict('kill', [pid]), SECCOMP_RET_ALLOW);
  assert.equal(verdict('tgkill', [pid]), SECCOMP_RET_ALLOW);
  for (const other of [1, 0, pid + 1, 0xffffffff]) assert.equal(verdict('kill', [other]), EPERM);
  assert.equal(verdict('prlimit64', [0]), SECCOMP_RET_ALLOW);
  assert.equal(verdict('prlimit64', [1]), EPERM);
  assert.equal(verdict('ioctl', [0, 0x5421]), SECCOMP_RET_ALLOW);
  assert.equal(verdict('ioctl', [0, 0x5412]), EPERM);
});

test('what a backend needs is allowed with it only', () => {
  assert.equal(verdict('connect'), EPERM);
  assert.equal(verdict('connect', [], { syscalls: ['connect'] }), SECCOMP_RET_ALLOW);
});
