/**
 * Frames on their way from hook to hook: references to where each lies, in one piece.
 *
 * Frame i is `len[i]` bytes at `off[i]` of window `win[i]`, an Ethernet frame without virtio-net
 * header and frame check sequence. References are valid until the engine's turn ends (engine.ts);
 * whoever needs a frame longer copies it (buffers.ts). The bytes belong to their sender, possibly a
 * guest that changes them meanwhile, and have other receivers: nobody writes to them, and what
 * matters is read once.
 *
 * A burst itself belongs to whoever fills it, and is read by its receiver only during the call.
 * The arrays lie in a window, where functions of the kernel reach them too.
 */
import type { Window } from '../memory/window.js';

/** frames of a burst at most, as the descriptors of memory/burst.ts */
export const NG_BURST_FRAMES = 64;
/** bytes of a burst's arrays */
export const NG_BURST_BYTES = 576;

export class NgBurst {
  readonly off: Uint32Array;
  readonly len: Uint32Array;
  readonly win: Uint8Array;
  /** [0, count) is in use */
  count = 0;

  constructor(
    readonly window: Window,
    /** where the arrays lie in the window: off, len, win */
    readonly at: number,
  ) {
    const { buffer } = window.u8;
    this.off = new Uint32Array(buffer, at, NG_BURST_FRAMES);
    this.len = new Uint32Array(buffer, at + 4 * NG_BURST_FRAMES, NG_BURST_FRAMES);
    this.win = new Uint8Array(buffer, at + 8 * NG_BURST_FRAMES, NG_BURST_FRAMES);
  }

  /** Adds a frame. There must be room: `count` below NG_BURST_FRAMES. */
  push(win: number, off: number, len: number): void {
    const i = this.count;
    this.win[i] = win;
    this.off[i] = off;
    this.len[i] = len;
    this.count = i + 1;
  }

  /** Adds frame `i` of another burst. There must be room. */
  pushFrom(burst: NgBurst, i: number): void {
    const k = this.count;
    this.win[k] = burst.win[i]!;
    this.off[k] = burst.off[i]!;
    this.len[k] = burst.len[i]!;
    this.count = k + 1;
  }

  /** Makes this burst the same frames as another. */
  copyFrom(burst: NgBurst): void {
    this.count = 0;
    for (let i = 0; i < burst.count; i++) this.pushFrom(burst, i);
  }

  /** Bytes of all frames. */
  bytes(): number {
    let sum = 0;
    for (let i = 0; i < this.count; i++) sum += this.len[i]!;
    return sum;
  }
}
