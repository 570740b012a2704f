/** The lines of JSON that lb writes every so many seconds: one a pipe, and one for all. */
import type { Balancer } from './lb-balancer.js';
import type { LbStart } from './lb-loop.js';
import type { ToolContext } from './tool-port.js';

interface Counts {
  pkts: number;
  bytes: number;
  drops: number;
  dropBytes: number;
}

const none: Counts = { pkts: 0, bytes: 0, drops: 0, dropBytes: 0 };

export class LbStats {
  readonly #start: LbStart;
  readonly #balancer: Balancer;
  readonly #before: Counts[];
  #totalBefore = none;
  #at = performance.now();
  #seconds = 0;

  constructor(start: LbStart, balancer: Balancer) {
    this.#start = start;
    this.#balancer = balancer;
    this.#before = balancer.pipes.map(() => none);
  }

  /** Once a second: what is due by the intervals asked for. */
  report(tool: Pick<ToolContext, 'print' | 'say'>, now = performance.now()): void {
    const ms = now - this.#at;
    if (ms < 1000) return;
    this.#at = now;
    this.#seconds++;
    const { stdoutInterval, logInterval } = this.#start;
    const toStdout = stdoutInterval > 0 && this.#seconds % stdoutInterval === 0;
    const toLog = logInterval > 0 && this.#seconds % logInterval === 0;
    const lines = this.#lines(ms / 1000);
    if (toStdout) tool.print(`${lines.join('\n')}\n`);
    if (toLog) for (const line of lines) tool.say('lb', line);
  }

  #lines(seconds: number): string[] {
    const ts = Number((Date.now() / 1000).toFixed(6));
    const balancer = this.#balancer;
    const pipes = balancer.pipes.map((pipe, i) => {
      const { name, pkts, bytes, drops, dropBytes } = pipe;
      const before = this.#before[i] ?? none;
      const now = { pkts, bytes, drops, dropBytes };
      this.#before[i] = now;
      return JSON.stringify({
        ts,
        interface: name,
        output_ring: i,
        packets_forwarded: pkts,
        packets_dropped: drops,
        ...rates(before, now, seconds),
        overflow_queue_size: pipe.queue?.count ?? 0,
      });
    });
    const sum = (of: (pipe: Counts) => number) => balancer.pipes.reduce((total, pipe) => total + of(pipe), 0);
    const total = {
      pkts: sum((p) => p.pkts),
      bytes: sum((p) => p.bytes),
      drops: sum((p) => p.drops),
      dropBytes: sum((p) => p.dropBytes),
    };
    const all = JSON.stringify({
      ts,
      interface: this.#start.interface,
      output_ring: null,
      packets_received: balancer.received,
      packets_forwarded: total.pkts,
      packets_dropped: total.drops,
      non_ip_packets: balancer.nonIp,
      ...rates(this.#totalBefore, total, seconds),
      free_buffer_slots: balancer.freeCount,
    });
    this.#totalBefore = total;
    return [...pipes, all];
  }
}

/** As lb reckons: a megabit has 1024 times 1024 bits. */
function rates(before: Counts, now: Counts, seconds: number): Record<string, number> {
  const rate = (difference: number, unit: number) => Number((difference / seconds / unit).toFixed(4));
  return {
    data_forward_rate_Mbps: rate(8 * (now.bytes - before.bytes), 1024 * 1024),
    data_drop_rate_Mbps: rate(8 * (now.dropBytes - before.dropBytes), 1024 * 1024),
    packet_forward_rate_kpps: rate(now.pkts - before.pkts, 1000),
    packet_drop_rate_kpps: rate(now.drops - before.drops, 1000),
  };
}
