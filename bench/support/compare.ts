/** Two workers that answer "MS" with {"mpps":N}, measured by turns. */
import { type BenchOptions, type BenchResult, inTurn, resultOf } from './bench.js';
import type { Worker } from './worker.js';

export interface MppsComparison {
  name: string;
  params: BenchResult['params'];
  ours: Worker;
  reference: { name: string; worker: Worker };
}

/** Measures both, and closes them whatever comes. */
export async function compareMpps(
  { name, params, ours, reference }: MppsComparison,
  { runs, ms }: Pick<BenchOptions, 'runs' | 'ms'>,
): Promise<BenchResult> {
  const measure = async (worker: Worker) => (await worker.ask<{ mpps: number }>(String(ms))).mpps;
  try {
    const values = await inTurn(
      runs,
      () => measure(ours),
      () => measure(reference.worker),
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
