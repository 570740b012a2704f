/**
 * System calls by number, for what the C library has no function for, and the table of those numbers.
 *
 * Numbers are those of asm/unistd_64.h (x86-64) and asm-generic/unistd.h (arm64) of Linux 6.1.
 */
import { arch } from 'node:process';
import { libc } from './libc.js';

type Args = [a?: number, b?: number, c?: number, d?: number, e?: number, f?: number];

// variadic in C; integers travel the same way either way on both ABIs
const syscallC = libc.func(
  'int64_t syscall(int64_t n, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f)',
) as (n: number, ...args: number[]) => number;

type Numbers = readonly [x64: number, arm64: number];

/** What Node, V8, libuv, the C library and netbe call once they run. -1: the architecture has no such call. */
const ordinary = {
  read: [0, 63],
  write: [1, 64],
  readv: [19, 65],
  writev: [20, 66],
  pread64: [17, 67],
  pwrite64: [18, 68],
  preadv: [295, 69],
  pwritev: [296, 70],
  close: [3, 57],
  close_range: [436, 436],
  lseek: [8, 62],
  open: [2, -1],
  openat: [257, 56],
  stat: [4, -1],
  lstat: [6, -1],
  fstat: [5, 80],
  newfstatat: [262, 79],
  statx: [332, 291],
  access: [21, -1],
  faccessat: [269, 48],
  faccessat2: [439, 439],
  readlink: [89, -1],
  readlinkat: [267, 78],
  getdents64: [217, 61],
  getcwd: [79, 17],
  statfs: [137, 43],
  fstatfs: [138, 44],
  unlink: [87, -1],
  unlinkat: [263, 35],
  mkdir: [83, -1],
  mkdirat: [258, 34],
  rmdir: [84, -1],
  rename: [82, -1],
  renameat: [264, 38],
  renameat2: [316, 276],
  chmod: [90, -1],
  fchmod: [91, 52],
  fchmodat: [268, 53],
  ftruncate: [77, 46],
  fsync: [74, 82],
  fdatasync: [75, 83],
  fallocate: [285, 47],
  flock: [73, 32],
  umask: [95, 166],
  fcntl: [72, 25],
  dup: [32, 23],
  dup2: [33, -1],
  dup3: [292, 24],
  pipe: [22, -1],
  pipe2: [293, 59],
  poll: [7, -1],
  ppoll: [271, 73],
  select: [23, -1],
  pselect6: [270, 72],
  epoll_create: [213, -1],
  epoll_create1: [291, 20],
  epoll_ctl: [233, 21],
  epoll_wait: [232, -1],
  epoll_pwait: [281, 22],
  epoll_pwait2: [441, 441],
  eventfd: [284, -1],
  eventfd2: [290, 19],
  timerfd_create: [283, 85],
  timerfd_settime: [286, 86],
  timerfd_gettime: [287, 87],
  bind: [49, 200],
  listen: [50, 201],
  accept: [43, 202],
  accept4: [288, 242],
  socket: [41, 198],
  socketpair: [53, 199],
  getsockname: [51, 204],
  getpeername: [52, 205],
  getsockopt: [55, 209],
  setsockopt: [54, 208],
  sendto: [44, 206],
  recvfrom: [45, 207],
  sendmsg: [46, 211],
  recvmsg: [47, 212],
  sendmmsg: [307, 269],
  recvmmsg: [299, 243],
  shutdown: [48, 210],
  ioctl: [16, 29],
  io_setup: [206, 0],
  io_submit: [209, 2],
  io_getevents: [208, 4],
  io_destroy: [207, 1],
  brk: [12, 214],
  mmap: [9, 222],
  munmap: [11, 215],
  mremap: [25, 216],
  mprotect: [10, 226],
  madvise: [28, 233],
  msync: [26, 227],
  mincore: [27, 232],
  membarrier: [324, 283],
  memfd_create: [319, 279],
  pkey_alloc: [330, 289],
  pkey_free: [331, 290],
  pkey_mprotect: [329, 288],
  clone: [56, 220],
  futex: [202, 98],
  set_robust_list: [273, 99],
  get_robust_list: [274, 100],
  set_tid_address: [218, 96],
  rseq: [334, 293],
  exit: [60, 93],
  exit_group: [231, 94],
  arch_prctl: [158, -1],
  restart_syscall: [219, 128],
  prctl: [157, 167],
  prlimit64: [302, 261],
  getrlimit: [97, 163],
  sched_yield: [24, 124],
  sched_getaffinity: [204, 123],
  sched_setaffinity: [203, 122],
  sched_getparam: [143, 121],
  sched_getscheduler: [145, 120],
  sched_get_priority_max: [146, 125],
  sched_get_priority_min: [147, 126],
  getpriority: [140, 141],
  getcpu: [309, 168],
  kill: [62, 129],
  tgkill: [234, 131],
  rt_sigaction: [13, 134],
  rt_sigprocmask: [14, 135],
  rt_sigreturn: [15, 139],
  rt_sigpending: [127, 136],
  rt_sigtimedwait: [128, 137],
  rt_sigsuspend: [130, 133],
  sigaltstack: [131, 132],
  clock_gettime: [228, 113],
  clock_getres: [229, 114],
  clock_nanosleep: [230, 115],
  nanosleep: [35, 101],
  gettimeofday: [96, 169],
  time: [201, -1],
  times: [100, 153],
  getpid: [39, 172],
  gettid: [186, 178],
  getppid: [110, 173],
  getuid: [102, 174],
  geteuid: [107, 175],
  getgid: [104, 176],
  getegid: [108, 177],
  getresuid: [118, 148],
  getresgid: [120, 150],
  getgroups: [115, 158],
  getpgrp: [111, -1],
  getpgid: [121, 155],
  getsid: [124, 156],
  capget: [125, 90],
  getrandom: [318, 278],
  uname: [63, 160],
  sysinfo: [99, 179],
  getrusage: [98, 165],
  pause: [34, -1],
} as const satisfies Record<string, Numbers>;

/** What only some backend needs, what the sandbox is made with, and what its tests try. */
const special = {
  connect: [42, 203],
  clone3: [435, 435],
  tkill: [200, 130],
  capset: [126, 91],
  io_uring_setup: [425, 425],
  io_uring_enter: [426, 426],
  io_uring_register: [427, 427],
  bpf: [321, 280],
  seccomp: [317, 277],
  landlock_create_ruleset: [444, 444],
  landlock_add_rule: [445, 445],
  landlock_restrict_self: [446, 446],
  process_vm_readv: [310, 270],
  pidfd_open: [434, 434],
  perf_event_open: [298, 241],
  userfaultfd: [323, 282],
  keyctl: [250, 219],
  add_key: [248, 217],
  setns: [308, 268],
  unshare: [272, 97],
  ptrace: [101, 117],
  mount: [165, 40],
  umount2: [166, 39],
  move_mount: [429, 429],
  open_tree: [428, 428],
  fsopen: [430, 430],
  pivot_root: [155, 41],
  chroot: [161, 51],
  kexec_load: [246, 104],
  kexec_file_load: [320, 294],
  init_module: [175, 105],
  finit_module: [313, 273],
  delete_module: [176, 106],
  setuid: [105, 146],
  setgid: [106, 144],
  setgroups: [116, 159],
  setresuid: [117, 147],
  execve: [59, 221],
  execveat: [322, 281],
  reboot: [169, 142],
  open_by_handle_at: [304, 265],
  process_vm_writev: [311, 271],
} as const satisfies Record<string, Numbers>;

const numbers: Record<string, Numbers> = { ...ordinary, ...special };

export type SyscallName = keyof typeof ordinary | keyof typeof special;

export const ordinarySyscalls = Object.keys(ordinary) as SyscallName[];

export function syscallExists(name: string): name is SyscallName {
  return Object.hasOwn(numbers, name);
}

/** Numbers above it are of calls newer than this table. */
export const MAX_KNOWN_SYSCALL = 450;

/** -1 where this architecture has no such call. */
export function syscallNumber(name: SyscallName): number {
  return (numbers[name] as Numbers)[arch === 'arm64' ? 1 : 0];
}

/** Any call by number; -1 is a failure, and errno() the reason. */
export function syscallByNumber(n: number, ...args: Args): number {
  return syscallC(n, ...Array.from({ length: 6 }, (_, i) => args[i] ?? 0));
}

export function syscall(name: SyscallName, ...args: Args): number {
  return syscallByNumber(syscallNumber(name), ...args);
}
