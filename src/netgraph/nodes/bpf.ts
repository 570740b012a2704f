/**
 * bpf (ng_bpf(4)): each hook has a program of classic BPF, and the names of two hooks: where its frames go that
 * match, and where the others go. A hook begins with a program that nothing matches, and no hooks: what comes is
 * dropped. A frame that matches is cut to as many bytes as the program returns.
 *
 * Besides the original's setprogram there is setfilter, which takes an expression as tcpdump does and has libpcap
 * compile it.
 */
import { compileFilter, loadPcap } from '../../sys/pcap.js';
import { BPF_MAXINSNS, type BpfInsn, BpfProgram } from '../bpf/program.js';
import type { NgBurst } from '../burst.js';
import type { Errno } from '../errno.js';
import type { NgHook } from '../hook.js';
import type { NgMessage } from '../message.js';
import { type NgCommand, type NgMethods, type NgNode, type NgResult, type NgType, NODE_COUNTERS } from '../node.js';
import { array, lengthBefore, struct } from '../parse/composites.js';
import { pack, unpack } from '../parse/parse-type.js';
import { hint16, hookbuf, int32, string, uint8, uint32, uint64 } from '../parse/scalars.js';

const cookie = 944100792;
const SET_PROGRAM = 1;
const GET_PROGRAM = 2;
const GET_STATS = 3;
const CLR_STATS = 4;
const GETCLR_STATS = 5;
/** netbe's own, far from the original's */
const SET_FILTER = 1000;

const insnType = struct({ code: hint16, jt: uint8, jf: uint8, k: uint32 });
/** struct ng_bpf_hookprog */
export const hookprogType = struct({
  thisHook: hookbuf,
  ifMatch: hookbuf,
  ifNotMatch: hookbuf,
  bpf_prog_len: int32,
  bpf_prog: array(insnType, lengthBefore),
});
const filterType = struct({ thisHook: hookbuf, ifMatch: hookbuf, ifNotMatch: hookbuf, filter: string });
export const hookstatType = struct({
  recvFrames: uint64,
  recvOctets: uint64,
  recvMatchFrames: uint64,
  recvMatchOctets: uint64,
  xmitFrames: uint64,
  xmitOctets: uint64,
});

const cmdlist: readonly NgCommand[] = [
  { cookie, cmd: SET_PROGRAM, name: 'setprogram', mesgType: hookprogType },
  { cookie, cmd: GET_PROGRAM, name: 'getprogram', mesgType: hookbuf, respType: hookprogType },
  { cookie, cmd: GET_STATS, name: 'getstats', mesgType: hookbuf, respType: hookstatType },
  { cookie, cmd: CLR_STATS, name: 'clrstats', mesgType: hookbuf },
  { cookie, cmd: GETCLR_STATS, name: 'getclrstats', mesgType: hookbuf, respType: hookstatType },
  { cookie, cmd: SET_FILTER, name: 'setfilter', mesgType: filterType },
];

const DROP_UNWANTED = NODE_COUNTERS;

/** BPF_RET of 0 */
const MATCH_NOTHING: readonly BpfInsn[] = [{ code: 0x06, jt: 0, jf: 0, k: 0 }];

/** What a hook does with what comes to it. */
class HookProgram {
  program = new BpfProgram(MATCH_NOTHING);
  ifMatch = '';
  ifNotMatch = '';
  // found by name when hooks come and go
  match: NgHook | undefined;
  noMatch: NgHook | undefined;
  recvFrames = 0;
  recvOctets = 0;
  recvMatchFrames = 0;
  recvMatchOctets = 0;
  xmitFrames = 0;
  xmitOctets = 0;

  clear(): void {
    this.recvFrames = 0;
    this.recvOctets = 0;
    this.recvMatchFrames = 0;
    this.recvMatchOctets = 0;
    this.xmitFrames = 0;
    this.xmitOctets = 0;
  }
}

class Bpf implements NgMethods {
  readonly #node: NgNode;
  readonly #matching: NgBurst;
  readonly #others: NgBurst;

  constructor(node: NgNode) {
    this.#node = node;
    this.#matching = node.engine.buffers.takeBurst();
    this.#others = node.engine.buffers.takeBurst();
  }

  newhook(hook: NgHook): undefined {
    hook.data = new HookProgram();
  }

  connect(): undefined {
    this.#findHooks();
  }

  disconnect(): void {
    this.#findHooks();
    if (this.#node.hooks.length === 0) this.#node.engine.removeNode(this.#node);
  }

  close(): void {
    this.#node.engine.buffers.giveBurst(this.#matching);
    this.#node.engine.buffers.giveBurst(this.#others);
  }

  #findHooks(): void {
    for (const hook of this.#node.hooks) {
      const of = hook.data as HookProgram;
      of.match = this.#node.findHook(of.ifMatch);
      of.noMatch = this.#node.findHook(of.ifNotMatch);
    }
  }

  rcvdata(hook: NgHook, burst: NgBurst): void {
    const of = hook.data as HookProgram;
    const { windows } = this.#node.engine.runtime.windows;
    const matching = this.#matching;
    const others = this.#others;
    for (let i = 0; i < burst.count; i++) {
      const len = burst.len[i]!;
      const off = burst.off[i]!;
      of.recvFrames++;
      of.recvOctets += len;
      const keep = of.program.run(windows[burst.win[i]!]!.u8, off, len);
      if (keep === 0) {
        others.pushFrom(burst, i);
        continue;
      }
      of.recvMatchFrames++;
      of.recvMatchOctets += len;
      matching.push(burst.win[i]!, off, Math.min(keep, len));
    }
    this.#send(of.match, matching);
    this.#send(of.noMatch, others);
  }

  #send(to: NgHook | undefined, burst: NgBurst): void {
    if (burst.count === 0) return;
    if (to === undefined) this.#node.values[DROP_UNWANTED]! += burst.count;
    else {
      const of = to.data as HookProgram;
      of.xmitFrames += burst.count;
      of.xmitOctets += burst.bytes();
      to.send(burst);
    }
    burst.count = 0;
  }

  rcvmsg(msg: NgMessage): NgResult {
    if (msg.typecookie !== cookie) return 'EINVAL';
    switch (msg.cmd) {
      case SET_PROGRAM: {
        const args = unpack(hookprogType, msg.data);
        if (args === undefined) return 'EINVAL';
        return this.#set(args, args.bpf_prog);
      }
      case SET_FILTER: {
        const args = unpack(filterType, msg.data);
        if (args === undefined) return 'EINVAL';
        if (this.#node.findHook(args.thisHook) === undefined) return this.#noHook(args.thisHook);
        return this.#set(args, compileFilter(args.filter));
      }
      case GET_PROGRAM:
        return this.#withHook(msg.data, (of, thisHook) => {
          const { insns } = of.program;
          const { ifMatch, ifNotMatch } = of;
          return pack(hookprogType, {
            thisHook,
            ifMatch,
            ifNotMatch,
            bpf_prog_len: insns.length,
            bpf_prog: [...insns],
          });
        });
      case GET_STATS:
      case CLR_STATS:
      case GETCLR_STATS:
        return this.#withHook(msg.data, (of) => {
          const { recvFrames, recvOctets, recvMatchFrames, recvMatchOctets, xmitFrames, xmitOctets } = of;
          const stats = { recvFrames, recvOctets, recvMatchFrames, recvMatchOctets, xmitFrames, xmitOctets };
          if (msg.cmd !== GET_STATS) of.clear();
          return msg.cmd === CLR_STATS ? undefined : pack(hookstatType, stats);
        });
      default:
        return 'EINVAL';
    }
  }

  #withHook(data: Uint8Array, answer: (of: HookProgram, name: string) => NgResult): NgResult {
    const name = unpack(hookbuf, data);
    if (name === undefined) return 'EINVAL';
    const hook = this.#node.findHook(name);
    return hook === undefined ? this.#noHook(name) : answer(hook.data as HookProgram, name);
  }

  #noHook(name: string): Errno {
    return this.#node.engine.fail('ENOENT', `the node has no hook "${name}"`);
  }

  #set(where: { thisHook: string; ifMatch: string; ifNotMatch: string }, insns: readonly BpfInsn[]): NgResult {
    const hook = this.#node.findHook(where.thisHook);
    if (hook === undefined) return this.#noHook(where.thisHook);
    if (insns.length > BPF_MAXINSNS)
      return this.#node.engine.fail(
        'E2BIG',
        `the program has ${insns.length} instructions, of ${BPF_MAXINSNS} at most`,
      );
    const of = hook.data as HookProgram;
    of.program = new BpfProgram(insns);
    of.ifMatch = where.ifMatch;
    of.ifNotMatch = where.ifNotMatch;
    this.#findHooks();
    return undefined;
  }
}

export const bpfType: NgType = {
  name: 'bpf',
  cmdlist,
  counters: ['drop_unwanted'],
  create: (node) => {
    // now, for a sandbox may close the way to files later
    loadPcap();
    return new Bpf(node);
  },
};
