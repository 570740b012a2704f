/**
 * pipe (ng_pipe(4)): bandwidth, delay, loss and duplication between its hooks upper and lower. Downstream is
 * from upper to lower. What waits is copied into netgraph's own buffers, until the node is woken when the next
 * frame is due (pipe/wakeup.ts).
 *
 * Frames of a direction pass untouched while it has nothing configured and nothing waits. When the node is
 * shut down with both hooks connected, the two peers are joined to each other.
 */
import { NG_BURST_FRAMES, type NgBurst } from '../burst.js';
import type { Netgraph } from '../engine.js';
import type { Errno } from '../errno.js';
import type { NgHook } from '../hook.js';
import { type NgMessage, newMessage } from '../message.js';
import { type NgMethods, type NgNode, type NgResult, type NgType, NODE } from '../node.js';
import { pack, unpack } from '../parse/parse-type.js';
import { changeDirection, isBandwidth, isMinusOne, newDirectionConfig } from '../pipe/config.js';
import {
  fromConfig,
  NGM_PIPE_CLR_STATS,
  NGM_PIPE_COOKIE,
  NGM_PIPE_GET_CFG,
  NGM_PIPE_GET_RUN,
  NGM_PIPE_GET_STATS,
  NGM_PIPE_GETCLR_STATS,
  NGM_PIPE_SET_CFG,
  pipeCfg,
  pipeCommands,
  pipeRun,
  pipeStats,
  runOf,
  toRequest,
} from '../pipe/messages.js';
import { Shaper } from '../pipe/shaper.js';
import { Wakeup } from '../pipe/wakeup.js';

// netgraph/ng_message.h: what neighbours are told when a link is cut (BER 1) or whole again
const NGM_FLOW_COOKIE = 851672669;
const NGM_LINK_IS_UP = 32;
const NGM_LINK_IS_DOWN = 33;

const MAX_DELAY_US = 10_000_000;
const MAX_OVERHEAD = 256;
const MAX_HEADER_OFFSET = 64;
/** from this bandwidth on a link is taken for Ethernet: preamble, frame check sequence, gap; below for HDLC */
const ETHERNET_BANDWIDTH = 10_000_000;
const ETHERNET_OVERHEAD = 8 + 4 + 12;
const HDLC_OVERHEAD = 10;
const IPV4_HDR_LEN = 20;

/** One direction: what comes in on a hook, on its way to the other. */
class Direction {
  hook: NgHook | undefined;
  shaper: Shaper;
  forwardedFrames = 0;
  forwardedOctets = 0;
  undeliveredFrames = 0;
  undeliveredOctets = 0;
  readonly #graph: Netgraph;
  readonly #out: NgBurst;
  readonly #one: NgBurst;
  to: Direction | undefined;

  constructor(graph: Netgraph) {
    this.#graph = graph;
    this.#out = graph.buffers.takeBurst();
    this.#one = graph.buffers.takeBurst();
    this.shaper = this.#newShaper();
  }

  /** A new hook begins with the configuration that a new node has. */
  begin(hook: NgHook): void {
    const { delayUs, overhead } = this.shaper;
    this.shaper = this.#newShaper();
    this.shaper.delayUs = delayUs;
    this.shaper.overhead = overhead;
    this.hook = hook;
    this.clearStats();
  }

  end(): void {
    this.hook = undefined;
    this.shaper.clear();
  }

  #newShaper(): Shaper {
    const { buffers } = this.#graph;
    return new Shaper({
      config: newDirectionConfig(),
      output: {
        forward: (off, len) => {
          if (this.#out.count === NG_BURST_FRAMES) this.flush();
          this.#out.push(buffers.window.index, off, len);
          buffers.freeAfterTurn(off);
        },
        drop: (off) => buffers.free(off),
        copy: (off, len) => {
          this.#one.count = 0;
          this.#one.push(buffers.window.index, off, len);
          const copy = buffers.keep(this.#one, 0);
          return copy === 0 ? -1 : copy;
        },
      },
    });
  }

  /** Sends what is due. */
  advance(nowUs: number): void {
    this.shaper.advance(nowUs);
    this.flush();
  }

  flush(): void {
    if (this.#out.count > 0) this.send(this.#out);
    this.#out.count = 0;
  }

  send(burst: NgBurst): void {
    const hook = this.to?.hook;
    const octets = burst.bytes();
    if (hook?.valid !== true) {
      this.undeliveredFrames += burst.count;
      this.undeliveredOctets += octets;
      return;
    }
    this.forwardedFrames += burst.count;
    this.forwardedOctets += octets;
    hook.send(burst);
  }

  clearStats(): void {
    this.shaper.clearStats();
    this.forwardedFrames = 0;
    this.forwardedOctets = 0;
    this.undeliveredFrames = 0;
    this.undeliveredOctets = 0;
  }

  stats() {
    const { queueDropOctets, queueDropFrames, delayDropOctets, delayDropFrames } = this.shaper.stats;
    return {
      FwdOctets: this.forwardedOctets,
      FwdFrames: this.forwardedFrames,
      queueDropOctets,
      queueDropFrames,
      delayDropOctets: delayDropOctets + this.undeliveredOctets,
      delayDropFrames: delayDropFrames + this.undeliveredFrames,
    };
  }

  close(): void {
    this.end();
    this.#graph.buffers.giveBurst(this.#out);
    this.#graph.buffers.giveBurst(this.#one);
  }
}

class Pipe implements NgMethods {
  readonly #node: NgNode;
  readonly #graph: Netgraph;
  /** from upper to lower */
  readonly #down: Direction;
  readonly #up: Direction;
  #headerOffset = 0;
  readonly #wakeup: Wakeup;

  constructor(node: NgNode) {
    this.#node = node;
    this.#graph = node.engine;
    this.#down = new Direction(this.#graph);
    this.#up = new Direction(this.#graph);
    this.#down.to = this.#up;
    this.#up.to = this.#down;
    const advance = (): void => {
      const nowUs = performance.now() * 1000;
      this.#down.advance(nowUs);
      this.#up.advance(nowUs);
    };
    this.#wakeup = new Wakeup({
      runtime: this.#graph.runtime,
      nextUs: () => Math.min(this.#down.shaper.nextUs, this.#up.shaper.nextUs),
      advance: () => this.#graph.turn(advance),
    });
  }

  newhook(hook: NgHook, name: string): Errno | undefined {
    if (name !== 'upper' && name !== 'lower')
      return this.#graph.fail('EINVAL', `a pipe has the hooks upper and lower, not "${name}"`);
    const direction = name === 'upper' ? this.#down : this.#up;
    direction.begin(hook);
    hook.data = direction;
    return undefined;
  }

  disconnect(hook: NgHook): void {
    (hook.data as Direction).end();
    if (this.#node.hooks.length === 0) this.#graph.removeNode(this.#node);
  }

  /** What waits is lost; the neighbours are joined. */
  closing(): void {
    const upper = this.#down.hook;
    const lower = this.#up.hook;
    if (upper !== undefined && lower !== undefined) this.#graph.bypass(lower, upper);
  }

  close(): void {
    this.#wakeup.close();
    this.#down.close();
    this.#up.close();
  }

  // ---- data ----

  rcvdata(hook: NgHook, burst: NgBurst): void {
    const direction = hook.data as Direction;
    const { shaper } = direction;
    if (shaper.idle) {
      direction.send(burst);
      return;
    }
    const { buffers } = this.#graph;
    const nowUs = performance.now() * 1000;
    for (let i = 0; i < burst.count; i++) {
      const len = burst.len[i]!;
      const off = buffers.keep(burst, i);
      if (off === 0) {
        this.#node.values[NODE.drop_no_memory]!++;
        shaper.countQueueDrop(len);
      } else shaper.enqueue(nowUs, off, len, shaper.config.fifo ? 0 : this.#flowOf(off, len));
    }
    direction.advance(nowUs);
    this.#wakeup.schedule();
  }

  /** A hash of the IPv4 addresses behind header_offset; 0 for everything else. */
  #flowOf(off: number, len: number): number {
    const at = this.#headerOffset;
    if (len < at + IPV4_HDR_LEN) return 0;
    const { u8 } = this.#graph.buffers.window;
    const ip = off + at;
    if (u8[ip] !== 0x45) return 0;
    let hash = 0;
    for (let k = 12; k < 20; k++) hash = Math.imul(hash ^ u8[ip + k]!, 0x01000193);
    return hash ^ (hash >>> 15);
  }

  // ---- messages ----

  rcvmsg(msg: NgMessage): NgResult {
    if (msg.typecookie !== NGM_PIPE_COOKIE) return 'EINVAL';
    switch (msg.cmd) {
      case NGM_PIPE_GET_STATS:
      case NGM_PIPE_CLR_STATS:
      case NGM_PIPE_GETCLR_STATS:
        return this.#stats(msg.cmd !== NGM_PIPE_CLR_STATS, msg.cmd !== NGM_PIPE_GET_STATS);
      case NGM_PIPE_GET_RUN:
        return pack(pipeRun, { downstream: runOf(this.#down.shaper), upstream: runOf(this.#up.shaper) });
      case NGM_PIPE_GET_CFG:
        return this.#getConfig();
      case NGM_PIPE_SET_CFG:
        return this.#setConfig(msg.data);
      default:
        return 'EINVAL';
    }
  }

  #stats(get: boolean, clear: boolean): NgResult {
    const data = get ? pack(pipeStats, { downstream: this.#down.stats(), upstream: this.#up.stats() }) : undefined;
    if (clear) for (const direction of [this.#down, this.#up]) direction.clearStats();
    return data;
  }

  #getConfig(): NgResult {
    const down = this.#down.shaper;
    const up = this.#up.shaper;
    const same = down.config.bandwidth === up.config.bandwidth;
    return pack(pipeCfg, {
      bandwidth: same ? up.config.bandwidth : 0,
      delay: down.delayUs,
      header_offset: this.#headerOffset,
      overhead: down.overhead,
      downstream: fromConfig(down.config, same ? 0 : down.config.bandwidth),
      upstream: fromConfig(up.config, same ? 0 : up.config.bandwidth),
    });
  }

  #setConfig(data: Uint8Array): NgResult {
    const cfg = unpack(pipeCfg, data);
    if (cfg === undefined) return 'EINVAL';
    const both = [this.#down, this.#up];
    const delay = Number(cfg.delay);
    const bandwidth = Number(cfg.bandwidth);
    let { delayUs, overhead } = this.#down.shaper;
    if (isMinusOne(delay)) delayUs = 0;
    else if (delay > 0 && delay < MAX_DELAY_US) delayUs = delay;
    if (isMinusOne(bandwidth) || isBandwidth(bandwidth)) {
      const bits = isMinusOne(bandwidth) ? 0 : bandwidth;
      for (const { shaper } of both) shaper.config.bandwidth = bits;
      overhead = bits === 0 ? 0 : bits >= ETHERNET_BANDWIDTH ? ETHERNET_OVERHEAD : HDLC_OVERHEAD;
    }
    if (isMinusOne(cfg.overhead)) overhead = 0;
    else if (cfg.overhead > 0 && cfg.overhead < MAX_OVERHEAD) overhead = cfg.overhead;
    if (isMinusOne(cfg.header_offset)) this.#headerOffset = 0;
    else if (cfg.header_offset > 0 && cfg.header_offset < MAX_HEADER_OFFSET) this.#headerOffset = cfg.header_offset;
    const wasDown = this.#isCut();
    changeDirection(this.#down.shaper.config, toRequest(cfg.downstream));
    changeDirection(this.#up.shaper.config, toRequest(cfg.upstream));
    for (const { shaper } of both) {
      shaper.delayUs = delayUs;
      shaper.overhead = overhead;
    }
    if (this.#isCut() !== wasDown) this.#tellLink(wasDown ? NGM_LINK_IS_UP : NGM_LINK_IS_DOWN);
    return undefined;
  }

  #isCut(): boolean {
    return this.#down.shaper.config.ber === 1 || this.#up.shaper.config.ber === 1;
  }

  #tellLink(cmd: number): void {
    for (const { hook } of [this.#up, this.#down])
      if (hook !== undefined) this.#graph.sendOver(hook, newMessage(NGM_FLOW_COOKIE, cmd));
  }
}

export const pipeType: NgType = { name: 'pipe', cmdlist: pipeCommands, create: (node) => new Pipe(node) };
