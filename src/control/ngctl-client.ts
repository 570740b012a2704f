/** A session of ngctl in a running fabric, from another process: the client's side of api-netgraph.ts. */
import type { IncomingMessage } from 'node:http';
import { createInterface, type Interface } from 'node:readline';
import { NetbeError } from '../errors.js';
import type { SessionOpened } from './api-netgraph.js';
import type { NgctlOutcome } from './fabric-types.js';

type Run = (session: number, command: readonly string[]) => Promise<NgctlOutcome>;

export class NgctlClient {
  readonly #stream: IncomingMessage;
  readonly #lines: Interface;
  readonly #run: Run;
  #opened: SessionOpened | undefined;
  #onText: ((text: string) => void) | undefined;
  /** what came while nobody was there to hear it */
  readonly #unheard: string[] = [];
  /** the fabric has gone */
  onEnd: (() => void) | undefined;

  /** Resolves when the session stands. */
  static async begin(stream: IncomingMessage, run: Run): Promise<NgctlClient> {
    const client = new NgctlClient(stream, run);
    await client.#begun();
    return client;
  }

  private constructor(stream: IncomingMessage, run: Run) {
    this.#stream = stream;
    this.#run = run;
    stream.on('error', () => this.onEnd?.());
    this.#lines = createInterface({ input: stream });
    // the stream's own errors, once more
    this.#lines.on('error', () => {});
  }

  /** Who is told what comes to the session's node, as ngctl shows it. */
  set onText(listener: (text: string) => void) {
    this.#onText = listener;
    for (const text of this.#unheard.splice(0)) listener(text);
  }

  #hear(text: string): void {
    if (this.#onText === undefined) this.#unheard.push(text);
    else this.#onText(text);
  }

  #begun(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#lines.on('line', (line) => {
        const message = JSON.parse(line) as SessionOpened | { text: string };
        if ('text' in message) this.#hear(message.text);
        else {
          this.#opened = message;
          resolve();
        }
      });
      this.#lines.once('close', () => {
        this.onEnd?.();
        reject(new NetbeError('the fabric ended the session of ngctl', { code: 'ECONNRESET' }));
      });
    });
  }

  run(command: readonly string[]): Promise<NgctlOutcome> {
    return this.#run((this.#opened as SessionOpened).session, command);
  }

  close(): void {
    this.onEnd = undefined;
    this.#lines.close();
    this.#stream.destroy();
  }
}
