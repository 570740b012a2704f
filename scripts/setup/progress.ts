/** What set-up tells the person: plain lines, and on a terminal one line that is redrawn while a download runs. */

export const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(1)} MB`;

export class Progress {
  readonly #out: NodeJS.WriteStream;
  #drawn = false;
  #lastPrinted = -100;
  #start = 0;
  #startBytes = 0;

  constructor(out: NodeJS.WriteStream = process.stderr) {
    this.#out = out;
  }

  line(text: string): void {
    this.clear();
    this.#out.write(`${text}\n`);
  }

  /** `done` of `total` bytes. Where nobody watches, a line every fifth of the way. */
  bytes(done: number, total: number): void {
    if (this.#start === 0) {
      this.#start = Date.now();
      this.#startBytes = done;
    }
    const percent = Math.floor((100 * done) / total);
    const seconds = (Date.now() - this.#start) / 1000;
    const rate = seconds > 0.5 ? `, ${megabytes((done - this.#startBytes) / seconds)}/s` : '';
    const text = `${megabytes(done)} of ${megabytes(total)} (${percent} %${rate})`;
    if (this.#out.isTTY) {
      const filled = Math.round(percent / 4);
      this.#out.write(`\r\x1b[2K  [${'█'.repeat(filled)}${'·'.repeat(25 - filled)}] ${text}`);
      this.#drawn = true;
    } else if (percent - this.#lastPrinted >= 20) {
      this.#out.write(`  ${text}\n`);
      this.#lastPrinted = percent;
    }
  }

  clear(): void {
    if (this.#drawn) this.#out.write('\r\x1b[2K');
    this.#drawn = false;
  }
}
