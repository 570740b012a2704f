/** What a bench is, what it reports, and the arithmetic of comparing two things in turn. */
import { cpus } from 'node:os';

/** One line of `npm run bench -- --json`. */
export interface BenchResult {
  name: string;
  params: Record<string, number | string | boolean>;
  /** of median, min and max: "Mpps", "Gbit/s", "us" */
  unit: string;
  median: number;
  min: number;
  max: number;
  runs: number;
  /** what the figure is compared with, measured in the same run, in turn; null: nothing */
  reference: { name: string; median: number } | null;
  /** median of ours over the reference's, run by run */
  ratio: number | null;
  cpu: string;
  node: string;
}

export interface BenchOptions {
  /** measurements of each of the two */
  runs: number;
  /** length of a measurement, in milliseconds */
  ms: number;
  /** tells the person what is going on */
  progress(message: string): void;
}

export interface Bench {
  readonly name: string;
  readonly summary: string;
  /** One result a parameter set, as soon as it is known. Throws BenchSkipped. */
  run(options: BenchOptions): AsyncIterable<BenchResult>;
}

/** A bench cannot be run here; the message says what is missing and how to get it. */
export class BenchSkipped extends Error {}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const upper = sorted[middle] as number;
  return sorted.length % 2 === 1 ? upper : (upper + (sorted[middle - 1] as number)) / 2;
}

export interface Comparison {
  name: string;
  params: BenchResult['params'];
  unit: string;
  ours: readonly number[];
  reference?: { name: string; values: readonly number[] } | undefined;
}

export function resultOf({ name, params, unit, ours, reference }: Comparison): BenchResult {
  const ratios = reference?.values.map((value, i) => (ours[i] as number) / value);
  return {
    name,
    params,
    unit,
    median: round(median(ours)),
    min: round(Math.min(...ours)),
    max: round(Math.max(...ours)),
    runs: ours.length,
    reference: reference ? { name: reference.name, median: round(median(reference.values)) } : null,
    ratio: ratios ? round(median(ratios)) : null,
    cpu: cpus()[0]?.model.trim() || 'unknown',
    node: process.version,
  };
}

/**
 * Measures two things A B A B: a machine that has slow and fast moments has them for both. A pair
 * before the first that counts warms up both.
 */
export async function inTurn(
  runs: number,
  ours: () => Promise<number>,
  reference: () => Promise<number>,
): Promise<{ ours: number[]; reference: number[] }> {
  const values = { ours: [] as number[], reference: [] as number[] };
  for (let i = -1; i < runs; i++) {
    const a = await ours();
    const b = await reference();
    if (i < 0) continue;
    values.ours.push(a);
    values.reference.push(b);
  }
  return values;
}

/** Three or four significant digits: more would only look exact. */
function round(value: number): number {
  return Number(value.toPrecision(4));
}
