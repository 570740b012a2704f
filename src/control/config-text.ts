/**
 * The text of a configuration file, parsed as YAML 1.2, with what is needed to point into it: the place
 * of each key and value, and errors that show file, line, column and the line itself.
 */
import { basename } from 'node:path';
import { isMap, isScalar, LineCounter, type Node, parseDocument } from 'yaml';
import { NetbeError } from '../errors.js';
import type { ValuePath } from './schema-errors.js';

const MAX_ERRORS_SHOWN = 10;

export interface Place {
  /** offset in the text */
  off: number;
  len: number;
}

export interface Fault extends Place {
  message: string;
  remedy?: string | undefined;
}

/** The text with what is needed to point into it. */
export class ConfigText {
  readonly #lines = new LineCounter();
  readonly #doc: ReturnType<typeof parseDocument>;

  constructor(
    readonly text: string,
    readonly path: string,
  ) {
    this.#doc = parseDocument(text, { lineCounter: this.#lines, prettyErrors: false });
  }

  /** Throws for what is not YAML, with the place. */
  toJS(): unknown {
    const faults = this.#doc.errors.map((e) => ({
      off: e.pos[0],
      len: Math.max(1, e.pos[1] - e.pos[0]),
      message: `not YAML: ${firstSentence(e.message)}`,
    }));
    if (faults.length > 0) throw this.refuse(faults);
    try {
      return this.#doc.toJS();
    } catch (error) {
      throw this.refuse([{ off: 0, len: 1, message: `not YAML: ${(error as Error).message}` }]);
    }
  }

  lineOf(off: number): number {
    return this.#lines.linePos(off).line;
  }

  /** Where the value at `path` is; undefined where the file has none. */
  placeOf(path: ValuePath): Place | undefined {
    const node = path.length === 0 ? this.#doc.contents : (this.#doc.getIn(path, true) as Node | null | undefined);
    if (!node?.range) return undefined;
    const [off, end] = node.range;
    return { off, len: isScalar(node) ? Math.max(1, end - off) : 1 };
  }

  placeOfKey(path: ValuePath, key: string): Place | undefined {
    const map = path.length === 0 ? this.#doc.contents : this.#doc.getIn(path, true);
    if (!isMap(map)) return undefined;
    const pair = map.items.find((item) => isScalar(item.key) && String(item.key.value) === key);
    const range = (pair?.key as Node | undefined)?.range;
    return range ? { off: range[0], len: Math.max(1, range[1] - range[0]) } : undefined;
  }

  /** Where in the map at `path` a value stands that reads `value`; else the map itself. */
  placeOfValue(path: ValuePath, value: string | undefined): Place {
    const map = this.#doc.getIn(path, true);
    if (isMap(map))
      for (const { value: node } of map.items)
        if (isScalar(node) && node.range && (value === String(node.value) || value?.endsWith(`/${node.value}`)))
          return { off: node.range[0], len: Math.max(1, node.range[1] - node.range[0]) };
    return this.placeOf(path) ?? { off: 0, len: 1 };
  }

  /** One error for all faults, each with file, line, column and the line underlined. */
  refuse(faults: Fault[], code = 'EINVAL'): NetbeError {
    const sorted = [...faults].sort((a, b) => a.off - b.off);
    const shown = sorted.slice(0, MAX_ERRORS_SHOWN).map((fault) => this.#render(fault));
    const more = sorted.length - shown.length;
    if (more > 0) shown.push(`and ${more} more`);
    const remedies = [...new Set(sorted.map((f) => f.remedy).filter((r) => r !== undefined))];
    const { line, col } = this.#lines.linePos(sorted[0]?.off ?? 0);
    return new NetbeError(shown.join('\n'), {
      code,
      kind: 'usage',
      subject: `${this.path}:${line}:${col}`,
      remedy: remedies.length > 0 ? remedies.join(' ') : undefined,
    });
  }

  #render({ off, len, message }: Fault): string {
    const { line, col } = this.#lines.linePos(off);
    const source = (this.text.split('\n')[line - 1] ?? '').replace(/\r$/, '');
    const margin = String(line);
    const width = Math.max(1, Math.min(len, source.length - col + 1));
    const mark = `${' '.repeat(Math.max(0, col - 1))}^${'~'.repeat(width - 1)}`;
    return `${basename(this.path)}:${line}:${col}: ${message}\n  ${margin} | ${source}\n  ${' '.repeat(margin.length)} | ${mark}`;
  }
}

function firstSentence(message: string): string {
  return message.replace(/\s+/g, ' ').trim();
}
