/**
 * What every fuzz target shares. An input is a string of bytes; a target reads decisions from it, so
 * that any bytes are a legal program and near misses of the real thing are likely. Inputs are drawn
 * from a seed; one that breaks an invariant is shortened and printed for --repro.
 *
 *   node dist/test/fuzz/NAME.js [--seed N] [--iterations N] [--repro FILE|HEX]
 */
import { existsSync, readFileSync } from 'node:fs';
import { parseArgs } from 'node:util';

export interface FuzzTarget {
  readonly name: string;
  /** longest input drawn, in bytes */
  readonly maxBytes: number;
  /** Runs one input. Throws when an invariant does not hold; then it is not used again. */
  run(input: Decisions): void;
  close(): void;
}

/** xorshift32: small, seeded, good enough to draw inputs. */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) >>> 0 || 1;
  }

  next(): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state;
  }

  below(n: number): number {
    return this.next() % n;
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.next() >>> 24);
  }
}

/** Decisions read from an input; zeros once it is used up. */
export class Decisions {
  #at = 0;

  constructor(readonly bytes: Uint8Array) {}

  get done(): boolean {
    return this.#at >= this.bytes.length;
  }

  u8(): number {
    return this.bytes[this.#at++] ?? 0;
  }

  u16(): number {
    return this.u8() | (this.u8() << 8);
  }

  u32(): number {
    return (this.u16() | (this.u16() << 16)) >>> 0;
  }

  below(n: number): number {
    return (n > 256 ? this.u16() : this.u8()) % n;
  }

  /** true once in `n` */
  oneIn(n: number): boolean {
    return this.below(n) === n - 1;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }

  take(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.u8());
  }
}

export interface FuzzFailure {
  input: Uint8Array;
  error: Error;
}

/** Runs inputs drawn from `seed` until one fails, or `iterations` are through. */
export function fuzz(makeTarget: () => FuzzTarget, seed: number, iterations: number): FuzzFailure | undefined {
  const random = new Random(seed);
  const target = makeTarget();
  for (let i = 0; i < iterations; i++) {
    const input = random.bytes(1 + random.below(target.maxBytes));
    const error = attempt(target, input);
    if (error) return shorten(makeTarget, { input, error });
  }
  target.close();
  return undefined;
}

function attempt(target: FuzzTarget, input: Uint8Array): Error | undefined {
  try {
    target.run(new Decisions(input));
    return undefined;
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

/** Takes pieces out of a failing input for as long as it fails. */
function shorten(makeTarget: () => FuzzTarget, failure: FuzzFailure): FuzzFailure {
  let best = failure;
  let attempts = 200;
  for (let piece = best.input.length >> 1; piece >= 1 && attempts > 0; piece >>= 1)
    for (let at = 0; at < best.input.length && attempts > 0; ) {
      const input = new Uint8Array(Buffer.concat([best.input.subarray(0, at), best.input.subarray(at + piece)]));
      const target = makeTarget();
      const error = attempt(target, input);
      attempts--;
      if (error) best = { input, error };
      else {
        target.close();
        at += piece;
      }
    }
  return best;
}

export function failureText(target: string, failure: FuzzFailure): string {
  const hex = Buffer.from(failure.input).toString('hex');
  return `${failure.error.stack}\nnode dist/test/fuzz/${target}.js --repro ${hex}`;
}

/** The command line of a target. */
export function fuzzMain(makeTarget: () => FuzzTarget): void {
  const { values } = parseArgs({
    options: {
      seed: { type: 'string', default: `${Date.now() % 1e9}` },
      iterations: { type: 'string', default: '10000' },
      repro: { type: 'string' },
    },
  });
  const first = makeTarget();
  const { name } = first;
  if (values.repro !== undefined) {
    const bytes = existsSync(values.repro) ? readFileSync(values.repro) : Buffer.from(values.repro, 'hex');
    first.run(new Decisions(new Uint8Array(bytes)));
    first.close();
    process.stdout.write(`${name}: the input breaks nothing\n`);
    return;
  }
  first.close();
  const seed = Number(values.seed);
  const iterations = Number(values.iterations);
  process.stdout.write(`${name}: seed ${seed}, ${iterations} iterations\n`);
  const failure = fuzz(makeTarget, seed, iterations);
  if (failure) {
    process.stdout.write(`${failureText(name, failure)}\n`);
    process.exitCode = 1;
  } else process.stdout.write(`${name}: ${iterations} inputs broke nothing\n`);
}
