/**
 * The WebAssembly kernel of a window: the files of kernel/ say what each function does. Offsets and
 * lengths are taken modulo 2^32; an access outside the window would trap, so callers check bounds
 * first, as they must anyway.
 */
import { kernelWasm } from './kernel-wasm.js';

export interface MemoryKernel {
  copy(dst: number, src: number, len: number): void;
  fill(dst: number, byte: number, len: number): void;
  sum16(off: number, len: number): number;
  popChains(
    desc: number,
    avail: number,
    mask: number,
    idx: number,
    max: number,
    flags: number,
    start: number,
    end: number,
    base: number,
    maxLen: number,
    burst: number,
  ): number;
  pushChains(used: number, mask: number, idx: number, burst: number, n: number, numBuffers: number): void;
  admit(
    burst: number,
    from: number,
    count: number,
    hdrLen: number,
    minLen: number,
    maxLen: number,
    batch: number,
    record: number,
    source: number,
    win: number,
  ): number;
  forward(
    batch: number,
    from: number,
    count: number,
    win: number,
    table: number,
    bucketMask: number,
    now: number,
    maxAge: number,
    ports: number,
  ): number;
  deliver(
    pending: number,
    count: number,
    batch: number,
    win: number,
    hdrLen: number,
    burst: number,
    buffers: number,
  ): number;
  pipeSend(tx: number, rx: number, head: number): number;
  pipeRelease(rx: number, tx: number, head: number): void;
  valeSend(
    tx: number,
    at: number,
    head: number,
    ringId: number,
    hdrLen: number,
    source: number,
    table: number,
    bucketMask: number,
    now: number,
    maxAge: number,
    ports: number,
  ): number;
  patch(at: number, len: number, mode: number, hi: number, lo: number): void;
  bridge(
    offs: number,
    lens: number,
    wins: number,
    from: number,
    count: number,
    win: number,
    table: number,
    now: number,
    maxStaleness: number,
    incoming: number,
    to: number,
  ): number;
}

let compiled: WebAssembly.Module | undefined;

export function instantiateKernel(memory: WebAssembly.Memory): MemoryKernel {
  compiled ??= new WebAssembly.Module(Buffer.from(kernelWasm, 'base64'));
  const exports = new WebAssembly.Instance(compiled, { env: { memory } }).exports as unknown as MemoryKernel;
  // a plain object: property loads of hot code see one shape
  const {
    copy,
    fill,
    sum16,
    popChains,
    pushChains,
    admit,
    forward,
    deliver,
    pipeSend,
    pipeRelease,
    valeSend,
    patch,
    bridge,
  } = exports;
  return {
    copy,
    fill,
    sum16,
    popChains,
    pushChains,
    admit,
    forward,
    deliver,
    pipeSend,
    pipeRelease,
    valeSend,
    patch,
    bridge,
  };
}
