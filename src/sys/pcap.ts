/**
 * libpcap's compiler of filter expressions (pcap_compile(3PCAP), pcap-filter(7)): "tcp port 80" to a classic
 * BPF program for Ethernet frames. The library is loaded when it is first asked for, where there is one.
 */
import koffi, { type LibraryHandle } from 'koffi';
import { NetbeError, usageError } from '../errors.js';
import { NativeBuffer } from './native-buffer.js';

/** names of the library: Debian's, everybody else's */
const NAMES = ['libpcap.so.0.8', 'libpcap.so.1', 'libpcap.so'];
/** a library of one's own, and before it those that it needs, joined by ":" */
const OVERRIDE = 'NETBE_LIBPCAP';

const DLT_EN10MB = 1;
const SNAPLEN = 65535 + 18;
const PCAP_NETMASK_UNKNOWN = 0xffffffff;

export interface CompiledInsn {
  code: number;
  jt: number;
  jf: number;
  k: number;
}

interface Pcap {
  openDead(linkType: number, snapLen: number): number;
  compile(handle: number, program: number, text: string, optimize: number, netmask: number): number;
  geterr(handle: number): string;
  freecode(program: number): void;
  close(handle: number): void;
}

let pcap: Pcap | undefined;

/** Loads the library if it is there. Called before a sandbox closes the way to files. */
export function loadPcap(): boolean {
  try {
    load();
    return true;
  } catch {
    return false;
  }
}

function load(): Pcap {
  if (pcap !== undefined) return pcap;
  const own = process.env[OVERRIDE];
  const library = own === undefined ? loadFirst() : loadChain(own.split(':'));
  pcap = {
    openDead: library.func('uint64_t pcap_open_dead(int linktype, int snaplen)'),
    compile: library.func(
      'int pcap_compile(uint64_t handle, uint64_t program, const char *text, int optimize, uint32_t netmask)',
    ),
    geterr: library.func('const char *pcap_geterr(uint64_t handle)'),
    freecode: library.func('void pcap_freecode(uint64_t program)'),
    close: library.func('void pcap_close(uint64_t handle)'),
  };
  return pcap;
}

function loadFirst(): LibraryHandle {
  const faults: string[] = [];
  for (const name of NAMES) {
    try {
      return koffi.load(name);
    } catch (error) {
      faults.push((error as Error).message);
    }
  }
  throw missing(faults[0] ?? '');
}

/** A library outside the system's folders finds those that it needs only if they are loaded already. */
function loadChain(paths: readonly string[]): LibraryHandle {
  let last: LibraryHandle | undefined;
  try {
    for (const path of paths) last = koffi.load(path, { global: true });
  } catch (error) {
    throw missing((error as Error).message);
  }
  if (last === undefined) throw missing(`${OVERRIDE} is empty`);
  return last;
}

function missing(why: string): NetbeError {
  return new NetbeError('filter expressions are compiled by libpcap, which is not there', {
    code: 'ENOSYS',
    kind: 'environment',
    subject: 'libpcap',
    remedy: `Install it (Debian: libpcap0.8), name one in ${OVERRIDE}, or give a compiled program. ${why}`,
  });
}

// struct bpf_program { u_int bf_len; struct bpf_insn *bf_insns; }
const program = new NativeBuffer(16);

/** Compiles an expression. Throws EINVAL with libpcap's reason, ENOSYS when there is no libpcap. */
export function compileFilter(text: string): CompiledInsn[] {
  if (text.includes('\0')) throw usageError('a filter expression has no NUL byte', text);
  const { openDead, compile, geterr, freecode, close } = load();
  const handle = openDead(DLT_EN10MB, SNAPLEN);
  if (handle === 0) throw new NetbeError('pcap_open_dead: out of memory', { code: 'ENOMEM' });
  try {
    if (compile(handle, program.addr, text, 1, PCAP_NETMASK_UNKNOWN) !== 0)
      throw usageError(`filter "${text}": ${geterr(handle)}`, text, 'The syntax is that of pcap-filter(7).');
    const insns = readInsns(program.getU64(8), program.u32[0]!);
    freecode(program.addr);
    return insns;
  } finally {
    close(handle);
  }
}

// struct bpf_insn { u_short code; u_char jt, jf; uint32_t k; }
function readInsns(addr: number, count: number): CompiledInsn[] {
  const bytes = new DataView(koffi.view(BigInt(addr), count * 8));
  return Array.from({ length: count }, (_, i) => ({
    code: bytes.getUint16(i * 8, true),
    jt: bytes.getUint8(i * 8 + 2),
    jf: bytes.getUint8(i * 8 + 3),
    k: bytes.getUint32(i * 8 + 4, true),
  }));
}
