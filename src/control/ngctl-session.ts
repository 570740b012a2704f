/** A session of ngctl, seen from the main thread: commands go to the fabric, what comes unasked is iterated. */
import type { NgctlResult } from '../netgraph/ngctl/session.js';
import type { FabricHost } from './fabric-host.js';
import type { NgctlControl } from './fabric-types.js';

export class FabricNgctl implements NgctlControl {
  readonly #host: FabricHost;
  readonly #forget: () => void;
  #waiting: (() => void) | undefined;
  #news = false;
  #closed = false;

  constructor(
    host: FabricHost,
    readonly id: number,
    readonly name: string,
    forget: () => void,
  ) {
    this.#host = host;
    this.#forget = forget;
  }

  run(command: string | readonly string[]): Promise<NgctlResult> {
    return this.#host.call('ngctlRun', this.id, command);
  }

  /** Something has come. */
  notify(): void {
    this.#news = true;
    this.#waiting?.();
  }

  /** Text of what comes, until close(). */
  async *events(): AsyncGenerator<string, void> {
    while (!this.#closed) {
      if (!this.#news)
        await new Promise<void>((resolve) => {
          this.#waiting = resolve;
        });
      this.#news = false;
      if (this.#closed) return;
      const text = await this.#host.call('ngctlEvents', this.id);
      if (text !== '') yield text;
    }
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#waiting?.();
    this.#forget();
    // a fabric that has ended has closed it
    await this.#host.call('ngctlClose', this.id).catch(() => undefined);
  }
}
