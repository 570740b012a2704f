/** What pkt-gen tells of its threads' counters: a line an interval, and the sum at the end. */
import { norm } from './output.js';
import { C_BYTES, C_COMPLETED, C_EVENTS, C_MIN_SPACE, C_PKTS, C_TIC, C_TOC, NO_MIN_SPACE } from './pkt-gen-counters.js';

export interface Totals {
  pkts: number;
  bytes: number;
  events: number;
  /** milliseconds */
  at: number;
}

export interface ReportOptions {
  normalize: boolean;
  framingBits: number;
  /** average and deviation over a sliding window, and a histogram at the end */
  average: boolean;
}

/** reports of the sliding window */
const STATS_WIN = 15;
const HISTOGRAM_BINS = 10;
const HISTOGRAM_WIDTH = 40;

export class PktGenReport {
  readonly #options: ReportOptions;
  readonly #threads: readonly Float64Array[];
  #before: Totals;
  readonly #rates: number[] = [];

  constructor(options: ReportOptions, threads: readonly Float64Array[], at: number) {
    this.#options = options;
    this.#threads = threads;
    this.#before = { pkts: 0, bytes: 0, events: 0, at };
  }

  /** The line of the interval that ends `at`; undefined for one too short to mean anything. */
  interval(at: number): string | undefined {
    const before = this.#before;
    const usec = Math.round((at - before.at) * 1000);
    if (usec < 10_000) return undefined;
    const now = this.#totals(at);
    const pkts = now.pkts - before.pkts;
    const events = now.events - before.events;
    const bits = (now.bytes - before.bytes) * 8 + pkts * this.#options.framingBits;
    const pps = Math.round((pkts * 1e6) / usec);
    this.#rates.push(pps);
    this.#before = now;
    const { normalize } = this.#options;
    const batch = events > 0 ? pkts / events : 0;
    return (
      `${norm(pps, normalize)}pps ${this.#sliding()}` +
      `(${norm(pkts, normalize)}pkts ${norm((bits * 1e6) / usec, normalize)}bps in ${usec} usec) ` +
      `${batch.toFixed(2)} avg_batch ${this.#takeMinSpace()} min_space`
    );
  }

  #totals(at: number): Totals {
    const sum = (i: number) => this.#threads.reduce((total, counters) => total + counters[i]!, 0);
    return { pkts: sum(C_PKTS), bytes: sum(C_BYTES), events: sum(C_EVENTS), at };
  }

  #takeMinSpace(): number {
    let sum = 0;
    for (const counters of this.#threads) {
      sum += counters[C_MIN_SPACE]!;
      counters[C_MIN_SPACE] = NO_MIN_SPACE;
    }
    return sum;
  }

  #sliding(): string {
    if (!this.#options.average) return '';
    const { average, deviation } = spread(this.#rates.slice(-STATS_WIN).filter((rate) => rate > 0));
    const { normalize } = this.#options;
    return `[avg/std ${norm(average, normalize)}/${norm(deviation, normalize)}pps]`;
  }

  /** Number of threads that did not come to their end. */
  get failed(): number {
    return this.#threads.filter((counters) => counters[C_COMPLETED] === 0).length;
  }

  /** "Sent" or "Received", and how much in which time. */
  final(verb: string): string {
    const { pkts, bytes, events } = this.#totals(0);
    if (pkts === 0) return `${verb} nothing.`;
    // as pkt-gen has it: from the last start to the last end
    const latest = (i: number) => Math.max(...this.#threads.map((counters) => counters[i]!));
    const seconds = Math.max(0, latest(C_TOC) - latest(C_TIC)) / 1000;
    const time = seconds === 0 ? 1e-6 : seconds;
    const { normalize, framingBits } = this.#options;
    const bits = bytes * 8;
    return [
      `${verb} ${pkts} packets ${bytes} bytes ${events} events ${Math.floor(bytes / pkts)} bytes each in ${seconds.toFixed(2)} seconds.`,
      `Speed: ${norm(pkts / time, normalize)}pps Bandwidth: ${norm(bits / time, normalize)}bps ` +
        `(raw ${norm((bits + pkts * framingBits) / time, normalize)}bps). Average batch: ${(pkts / events).toFixed(2)} pkts`,
      ...(this.#options.average ? this.#histogram() : []),
    ].join('\n');
  }

  /** How often which rate was reported, intervals without traffic aside. */
  #histogram(): string[] {
    const rates = this.#rates.filter((rate) => rate > 0);
    if (rates.length === 0) return [];
    const { normalize } = this.#options;
    const low = Math.min(...rates);
    const high = Math.max(...rates);
    const { average, deviation } = spread(rates);
    const width = (high - low) / HISTOGRAM_BINS || 1;
    const bins = new Array<number>(HISTOGRAM_BINS).fill(0);
    for (const rate of rates) bins[Math.min(HISTOGRAM_BINS - 1, Math.floor((rate - low) / width))]!++;
    const most = Math.max(...bins);
    const number = (value: number) => `${norm(value, normalize)}pps`;
    return [
      `Rates of ${rates.length} reports: min ${number(low)} avg ${number(average)} max ${number(high)} std ${number(deviation)}`,
      ...bins.map((n, i) => {
        const bar = '#'.repeat(Math.round((n * HISTOGRAM_WIDTH) / most));
        return `${number(low + i * width).padStart(14)} ${String(n).padStart(5)} ${bar}`.trimEnd();
      }),
    ];
  }
}

function spread(values: readonly number[]): { average: number; deviation: number } {
  if (values.length === 0) return { average: 0, deviation: 0 };
  const average = values.reduce((sum, value) => sum + value, 0) / values.length;
  const square = values.reduce((sum, value) => sum + (value - average) ** 2, 0) / values.length;
  return { average, deviation: Math.sqrt(square) };
}
