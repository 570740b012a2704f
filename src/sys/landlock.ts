/**
 * Landlock (landlock(7)): a process that restricts itself to given files. It holds for the calling thread
 * and the threads and programs that it starts from then on, and cannot be lifted.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { sysError } from './libc.js';
import { NativeBuffer } from './native-buffer.js';
import { syscall } from './syscall.js';

// linux/landlock.h
const LANDLOCK_CREATE_RULESET_VERSION = 1;
const LANDLOCK_RULE_PATH_BENEATH = 1;
const LANDLOCK_ACCESS_FS_EXECUTE = 1 << 0;
const LANDLOCK_ACCESS_FS_WRITE_FILE = 1 << 1;
const LANDLOCK_ACCESS_FS_READ_FILE = 1 << 2;
const LANDLOCK_ACCESS_FS_READ_DIR = 1 << 3;
const LANDLOCK_ACCESS_FS_REMOVE_DIR = 1 << 4;
const LANDLOCK_ACCESS_FS_REMOVE_FILE = 1 << 5;
const LANDLOCK_ACCESS_FS_MAKE_DIR = 1 << 7;
const LANDLOCK_ACCESS_FS_MAKE_REG = 1 << 8;
const LANDLOCK_ACCESS_FS_MAKE_SOCK = 1 << 9;
/** links across directories: ABI 2 */
const LANDLOCK_ACCESS_FS_REFER = 1 << 13;
/** ABI 3 */
const LANDLOCK_ACCESS_FS_TRUNCATE = 1 << 14;
/** ABI 5 */
const LANDLOCK_ACCESS_FS_IOCTL_DEV = 1 << 15;
/** ABI 4: bind and connect of TCP */
const LANDLOCK_ACCESS_NET_TCP = 0b11;
/** ABI 6: abstract unix sockets, and signals, of processes outside */
const LANDLOCK_SCOPE_ALL = 0b11;

/** What may be done below a path, by name. */
export const landlockAccess = {
  /** run it, and read it */
  execute: LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE,
  /** read files and list directories */
  read: LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
  /** make unix sockets, and remove files */
  sockets: LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_REMOVE_FILE,
  /** use a device, or a file that is there */
  device: LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_IOCTL_DEV,
  /** read, write, make and remove files, directories and unix sockets */
  write:
    LANDLOCK_ACCESS_FS_READ_FILE |
    LANDLOCK_ACCESS_FS_READ_DIR |
    LANDLOCK_ACCESS_FS_WRITE_FILE |
    LANDLOCK_ACCESS_FS_TRUNCATE |
    LANDLOCK_ACCESS_FS_REMOVE_FILE |
    LANDLOCK_ACCESS_FS_REMOVE_DIR |
    LANDLOCK_ACCESS_FS_MAKE_REG |
    LANDLOCK_ACCESS_FS_MAKE_DIR |
    LANDLOCK_ACCESS_FS_MAKE_SOCK,
} as const;

export type LandlockAccess = keyof typeof landlockAccess;

export interface LandlockRule {
  path: string;
  access: LandlockAccess;
}

/** The rights that have a meaning for something that is no directory */
const FILE_RIGHTS =
  LANDLOCK_ACCESS_FS_EXECUTE |
  LANDLOCK_ACCESS_FS_WRITE_FILE |
  LANDLOCK_ACCESS_FS_READ_FILE |
  LANDLOCK_ACCESS_FS_TRUNCATE |
  LANDLOCK_ACCESS_FS_IOCTL_DEV;

/** Bits of rights that each version of the ABI knows, from version 1 on. */
function handledRights(abi: number): number {
  let rights = LANDLOCK_ACCESS_FS_REFER - 1;
  if (abi >= 2) rights |= LANDLOCK_ACCESS_FS_REFER;
  if (abi >= 3) rights |= LANDLOCK_ACCESS_FS_TRUNCATE;
  if (abi >= 5) rights |= LANDLOCK_ACCESS_FS_IOCTL_DEV;
  return rights;
}

/** Version of Landlock's ABI; where there is none, why. */
export function landlockAbi(): number | string {
  const abi = syscall('landlock_create_ruleset', 0, 0, LANDLOCK_CREATE_RULESET_VERSION);
  return abi > 0 ? abi : sysError('landlock_create_ruleset').message;
}

export interface LandlockOptions {
  abi: number;
  rules: readonly LandlockRule[];
  /** bind and connect of TCP stay allowed */
  tcp: boolean;
}

/**
 * Restricts the calling thread to `rules`, for good. no_new_privs must be in force. Paths that do not
 * exist are left out.
 */
export function restrictSelf({ abi, rules, tcp }: LandlockOptions): void {
  const handled = handledRights(abi);
  // struct landlock_ruleset_attr { u64 handled_access_fs, handled_access_net, scoped; }: longer with each ABI
  const attr = new NativeBuffer(24);
  attr.setU64(0, handled);
  attr.setU64(8, abi >= 4 && !tcp ? LANDLOCK_ACCESS_NET_TCP : 0);
  attr.setU64(16, abi >= 6 ? LANDLOCK_SCOPE_ALL : 0);
  const size = abi >= 6 ? 24 : abi >= 4 ? 16 : 8;
  const ruleset = syscall('landlock_create_ruleset', attr.addr, size, 0);
  if (ruleset < 0) throw sysError('landlock_create_ruleset');
  try {
    for (const rule of rules) addRule(ruleset, handled, rule);
    if (syscall('landlock_restrict_self', ruleset, 0) !== 0) throw sysError('landlock_restrict_self');
  } finally {
    closeSync(ruleset);
  }
}

/** open(2): only a place in the file system, neither read nor written */
const O_PATH = 0o10000000;

function addRule(ruleset: number, handled: number, { path, access }: LandlockRule): void {
  let fd: number;
  try {
    fd = openSync(path, O_PATH);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR' || code === 'EACCES') return;
    throw error;
  }
  try {
    const rights = landlockAccess[access] & handled;
    // struct landlock_path_beneath_attr { u64 allowed_access; s32 parent_fd; }, packed
    const beneath = new NativeBuffer(16);
    beneath.setU64(0, isDirectory(path) ? rights : rights & FILE_RIGHTS);
    beneath.i32[2] = fd;
    if (syscall('landlock_add_rule', ruleset, LANDLOCK_RULE_PATH_BENEATH, beneath.addr, 0) !== 0)
      throw sysError('landlock_add_rule', path);
  } finally {
    closeSync(fd);
  }
}

function isDirectory(path: string): boolean {
  try {
    closeSync(openSync(path, O_PATH | constants.O_DIRECTORY));
    return true;
  } catch {
    return false;
  }
}
