/**
 * The registers of one controller: their values, and the way from an address to a value and its hooks.
 *
 * The map of registers.ts is spread once over tables with an entry a register word, so that an access is a few
 * loads. `words[offset >> 2]` is the value of the register at `offset`; the data path reads and writes it there.
 */
import { REGISTER_BYTES, type ReadHook, registerMap, type WriteHook } from './registers.js';

const WORDS = REGISTER_BYTES / 4;

/** Gives the value read. `word` is the register's place divided by 4. */
export type Reader = (word: number) => number;
/** Called after the writable bits were stored; `value` is the whole of what was written. */
export type Writer = (value: number, word: number) => void;

/** Hooks that need nothing but the values. */
type OwnHook = 'clear' | 'clearPair' | 'writeOneClears';

/** Where an address leads: aliases to the register itself, 0xffff: nowhere. */
const NOWHERE = 0xffff;
const places = new Uint16Array(WORDS).fill(NOWHERE);
const masks = new Uint32Array(WORDS);
const resets = new Uint32Array(WORDS);
const readHookOf = new Uint8Array(WORDS);
const writeHookOf = new Uint8Array(WORDS);
const readHooks: (ReadHook | undefined)[] = [undefined];
const writeHooks: (WriteHook | undefined)[] = [undefined];

function indexOf<T>(list: (T | undefined)[], hook: T | undefined): number {
  const at = list.indexOf(hook);
  return at >= 0 ? at : list.push(hook) - 1;
}

for (const { offset, reset, writable, count = 1, stride = 4, alias, onRead, onWrite } of registerMap)
  for (let i = 0; i < count; i++) {
    const word = (offset + i * stride) >> 2;
    places[word] = word;
    if (alias !== undefined) places[(alias + i * stride) >> 2] = word;
    masks[word] = writable;
    resets[word] = reset;
    readHookOf[word] = indexOf(readHooks, onRead);
    writeHookOf[word] = indexOf(writeHooks, onWrite);
  }

export class RegisterFile {
  readonly words = new Uint32Array(WORDS);
  readonly #readers: (Reader | undefined)[];
  readonly #writers: (Writer | undefined)[];

  readonly #onUnknown: () => void;

  /** `onUnknown`: an address without a register was accessed. */
  constructor(
    readers: Record<Exclude<ReadHook, OwnHook>, Reader>,
    writers: Record<Exclude<WriteHook, OwnHook>, Writer>,
    onUnknown: () => void,
  ) {
    this.#onUnknown = onUnknown;
    const { words } = this;
    const allReaders: Record<ReadHook, Reader> = {
      ...readers,
      clear: (word) => {
        const value = words[word]!;
        words[word] = 0;
        return value;
      },
      clearPair: (word) => {
        const value = words[word]!;
        words[word] = 0;
        words[word - 1] = 0;
        return value;
      },
    };
    const allWriters: Record<WriteHook, Writer> = {
      ...writers,
      writeOneClears: (value, word) => {
        words[word]! &= ~value;
      },
    };
    this.#readers = readHooks.map((hook) => (hook === undefined ? undefined : allReaders[hook]));
    this.#writers = writeHooks.map((hook) => (hook === undefined ? undefined : allWriters[hook]));
    this.reset();
  }

  reset(): void {
    this.words.set(resets);
  }

  /** The register at `off`, a multiple of 4 within the BAR. Where there is none: 0. */
  read(off: number): number {
    const word = places[off >>> 2]!;
    if (word === NOWHERE) {
      this.#onUnknown();
      return 0;
    }
    const reader = this.#readers[readHookOf[word]!];
    return reader === undefined ? this.words[word]! : reader(word);
  }

  write(off: number, value: number): void {
    const word = places[off >>> 2]!;
    if (word === NOWHERE) {
      this.#onUnknown();
      return;
    }
    const mask = masks[word]!;
    this.words[word] = (this.words[word]! & ~mask) | (value & mask);
    this.#writers[writeHookOf[word]!]?.(value >>> 0, word);
  }
}
