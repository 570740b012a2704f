/** Workers that answer "MS" with {"mpps":N}: one asked, or two measured by turns. */
import { type BenchOptions, type BenchResult, inTurn, resultOf } from './bench.js';
import type { Worker } from './worker.js';

export interface MppsComparison {
  name: string;
  params: BenchResult['params'];
  ours: Worker;
  reference: { name: string; worker: Worker };
}

/** What a worker measures in so many milliseconds. */
export async function mppsOf(worker: Worker, ms: number): Promise<number> {
  return (await worker.ask<{ mpps: number }>(String(ms))).mpps;
}

/** Measures both, and closes them whatever comes. */
export async function compareMpps(
  { name, params, ours, reference }: MppsComparison,
  { runs, ms }: Pick<BenchOptions, 'runs' | 'ms'>,
): Promise<BenchResult> {
  try {
    const values = await inTurn(
      runs,
      () => mppsOf(ours, ms),
      () => mppsOf(reference.worker, ms),
    );
    return resultOf({
      name,
      params,
      unit: 'Mpps',
      ours: values.ours,
      reference: { name: reference.name, values: values.reference },
    });
  } finally {
    await ours.close();
    await reference.worker.close();
  }
}
