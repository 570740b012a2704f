/**
 * Runs a program as though the kernel lacked some system calls: lesser-kernel.js CALL[,CALL] PROGRAM [ARGUMENT]...
 * What stands for that is a seccomp filter that answers ENOSYS.
 */
import { load, ret, whenEqual } from '../../src/sys/bpf-assembler.js';
import { setNoNewPrivs } from '../../src/sys/capabilities.js';
import { exec } from '../../src/sys/exec.js';
import { E } from '../../src/sys/libc.js';
import { installFilter, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO } from '../../src/sys/seccomp.js';
import { type SyscallName, syscallNumber } from '../../src/sys/syscall.js';

const [calls = '', ...program] = process.argv.slice(2);
const names = calls.split(',') as SyscallName[];
setNoNewPrivs();
installFilter([
  load(0),
  ...names.flatMap((name) => whenEqual(syscallNumber(name), [ret(SECCOMP_RET_ERRNO | E.ENOSYS)])),
  ret(SECCOMP_RET_ALLOW),
]);
exec(process.execPath, [process.execPath, ...program], process.env);
