/** Users and groups of the machine, and becoming one of them (for good). */
import { libc, sysError } from './libc.js';
import { NativeBuffer } from './native-buffer.js';

export interface User {
  name: string;
  uid: number;
  gid: number;
  home: string;
}

const getpwnamC = libc.func('uint64_t getpwnam(const char *name)') as (name: string) => number;
const strlenC = libc.func('size_t strlen(uint64_t text)') as (text: number) => number;
const memcpyC = libc.func('uint64_t memcpy(uint64_t dst, uint64_t src, size_t length)') as (
  dst: number,
  src: number,
  length: number,
) => number;
const initgroupsC = libc.func('int initgroups(const char *user, uint32_t group)') as (
  user: string,
  group: number,
) => number;
type SetIds = (real: number, effective: number, saved: number) => number;
const setresgidC = libc.func('int setresgid(uint32_t real, uint32_t effective, uint32_t saved)') as SetIds;
const setresuidC = libc.func('int setresuid(uint32_t real, uint32_t effective, uint32_t saved)') as SetIds;

// struct passwd: name 0, passwd 8, uid 16, gid 20, gecos 24, dir 32, shell 40
const PASSWD_LENGTH = 48;

/** Undefined: there is no such user. */
export function findUser(name: string): User | undefined {
  const at = getpwnamC(name);
  if (at === 0) return undefined;
  const passwd = new NativeBuffer(PASSWD_LENGTH);
  memcpyC(passwd.addr, at, PASSWD_LENGTH);
  const home = passwd.getU64(32);
  const text = new NativeBuffer(strlenC(home) + 1);
  memcpyC(text.addr, home, strlenC(home));
  const length = text.u8.indexOf(0);
  return {
    name,
    uid: passwd.u32[4] as number,
    gid: passwd.u32[5] as number,
    home: Buffer.from(text.u8.subarray(0, length)).toString(),
  };
}

/** All threads of the process become the user's, with the user's groups. Needs root. */
export function becomeUser({ name, uid, gid }: User): void {
  if (initgroupsC(name, gid) !== 0) throw sysError('initgroups', name);
  if (setresgidC(gid, gid, gid) !== 0) throw sysError('setresgid', name);
  if (setresuidC(uid, uid, uid) !== 0) throw sysError('setresuid', name);
}
