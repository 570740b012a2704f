/** How the demo looks: a step a line, aligned, with what it found; quiet colours on a terminal only. */
import { styleText } from 'node:util';

const LABEL_WIDTH = 11;

export class Screen {
  readonly #out: NodeJS.WriteStream;
  #open = false;

  constructor(out: NodeJS.WriteStream) {
    this.#out = out;
  }

  title(text: string): void {
    this.#write(`\n${this.#style('bold', text)}\n\n`);
  }

  /** Says what is being done. On a terminal the result takes its place. */
  begin(label: string, doing: string): void {
    const text = this.#line(label, this.#style('dim', `${doing} …`));
    this.#write(this.#out.isTTY ? text : `${text}\n`);
    this.#open = this.#out.isTTY;
  }

  result(label: string, text: string): void {
    this.#clear();
    this.#write(`${this.#line(label, text)}\n`);
  }

  /** A table or other lines, indented, with an empty line around. */
  block(text: string): void {
    this.#clear();
    const lines = text.split('\n').map((line, i) => `    ${i === 0 ? this.#style('dim', line) : line}\n`);
    this.#write(`\n${lines.join('')}\n`);
  }

  error(text: string): void {
    this.#clear();
    this.#write(`\n${this.#style('red', text)}\n`);
  }

  #line(label: string, text: string): string {
    return `  ${this.#style('cyan', label.padEnd(LABEL_WIDTH))} ${text}`;
  }

  #clear(): void {
    if (this.#open) this.#write('\r\x1b[2K');
    this.#open = false;
  }

  #style(style: 'bold' | 'dim' | 'cyan' | 'red', text: string): string {
    return this.#out.isTTY && !process.env.NO_COLOR ? styleText(style, text) : text;
  }

  #write(text: string): void {
    this.#out.write(text);
  }
}
