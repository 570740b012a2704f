/**
 * The measured side of bench/tap: a tap backend, its frames lying ready in memory, or taken into it.
 *
 *   tap-worker INTERFACE send|receive LENGTH [GSO]      as bench/reference/tap-io.c
 *   each line "MS" on standard input is answered by {"mpps":N}
 */
import { Iovec } from '../../src/memory/iovec.js';
import { openBackend } from '../../src/net-backends/registry.js';
import { testRuntime } from '../../test/support/runtime.js';
import { answerMpps } from './measured.js';

const BATCH = 64;
const HDR = 12;
const SLOT_BYTES = 64 * 1057;

const [name = 'tap0', direction = 'send', lengthText = '64', gsoText = '0'] = process.argv.slice(2);
const length = Number(lengthText);
const gso = Number(gsoText);
const runtime = testRuntime();
const backend = openBackend(runtime, `tap:${name}`, () => drain(), 'bench');
backend.setCap(backend.getCap(), HDR);
const mapping = runtime.windows.mapAnonymous(BATCH * SLOT_BYTES);
const iov = new Iovec(1);
let slot = 0;
let received = 0;

function nextSlot(bytes: number): Iovec {
  iov.clear();
  iov.push(mapping.window.index, mapping.off + slot * SLOT_BYTES, bytes);
  slot = (slot + 1) & (BATCH - 1);
  return iov;
}

/** The same frames as the reference's. */
function fill(): void {
  const { u8 } = mapping.window;
  const frame = new Uint8Array(HDR + length);
  frame.set([2, 0, 0, 0, 9, 9, 2, 0, 0, 0, 0, 1, 0x88, 0xb5], HDR);
  if (gso > 0) {
    frame.set([8, 0, 0x45, 0, (length - 14) >> 8, (length - 14) & 255], HDR + 12);
    frame[HDR + 23] = 6;
    frame[HDR + 46] = 0x50;
    frame.set([1, 1, 54, 0, gso & 255, gso >> 8, 34, 0, 16, 0], 0);
  }
  for (let i = 0; i < BATCH; i++) u8.set(frame, mapping.off + i * SLOT_BYTES);
}

function drain(): void {
  while (backend.recv(nextSlot(SLOT_BYTES)) > 0) received++;
}

function sendBatch(): void {
  for (let i = 0; i < BATCH; i++) backend.send(nextSlot(HDR + length));
  backend.flush();
  received += BATCH;
}

function measure(ms: number): number {
  received = 0;
  const start = performance.now();
  let end = start;
  while (end - start < ms) {
    for (let i = 0; i < 16; i++)
      if (direction === 'send') sendBatch();
      else runtime.loop.step(0);
    end = performance.now();
  }
  return received / (end - start) / 1000;
}

if (direction === 'send') fill();
else backend.recvEnable();
process.stdout.write(`${JSON.stringify({ ready: true })}\n`);
await answerMpps(measure);
