/** How frames cross the border to the kernel: what the two ways have in common. */
import type { NativeBuffer } from '../../sys/native-buffer.js';

/** Frames in one batch, and buffers to read into, either way. */
export const BATCH = 64;

export type IoWay = 'io_uring' | 'readv';

/** Frames to write: frame i is the iovecs [first[i], first[i] + pieces[i]) of the list. */
export interface WriteBatch {
  readonly iovecs: NativeBuffer;
  readonly first: Uint16Array;
  readonly pieces: Uint16Array;
  count: number;
}

export interface TapWriter {
  readonly way: IoWay;
  /** of the last call: bytes or -errno, by place in the batch */
  readonly result: Int32Array;
  /** Writes every frame of the batch to the first queue. On return nothing refers to their memory. */
  write(batch: WriteBatch): void;
  close(): void;
}

/** The buffers that are read into, BATCH of them: buffer i begins at native address addr + i * stride. */
export interface ReadBuffers {
  readonly addr: number;
  readonly stride: number;
  /** bytes of each that may be used */
  readonly length: number;
}

export interface TapReader {
  readonly way: IoWay;
  /** what the last read brought: buffer `buffer[i]` holds `got[i]` bytes */
  readonly buffer: Uint8Array;
  readonly got: Int32Array;
  /** the interface is gone */
  readonly gone: boolean;
  /** reads that failed for another reason */
  readonly errors: number;
  /** readable when there may be something to read */
  readonly wakeFds: readonly number[];
  /** Takes what the kernel has, as far as there are buffers. Returns how many frames came. */
  read(): number;
  /** The buffer is free again. */
  recycle(buffer: number): void;
  close(): void;
}

export interface TapIo {
  readonly writer: TapWriter;
  readonly reader: TapReader;
  /** why `auto` did not take io_uring */
  readonly fallback: string | undefined;
}
