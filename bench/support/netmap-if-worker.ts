/**
 * The measured side of netmap-if: netmap:IF opened for each measurement, its user taking every frame, or
 * sending bursts.
 *
 *   netmap-if-worker rx|tx MODE IF
 *   each line "MS" on standard input is answered by {"mpps":N}
 */
import { Iovec } from '../../src/memory/iovec.js';
import { openBackend } from '../../src/net-backends/registry.js';
import { testRuntime } from '../../test/support/runtime.js';
import { answerMpps } from './measured.js';

const BURST = 64;
const LEN = 64;
const ROOM = 70_000;
const WARM_UP_MS = 50;

const [direction, mode, name] = process.argv.slice(2);
const runtime = testRuntime();
const memory = runtime.windows.mapAnonymous(ROOM);
const iov = new Iovec(1);
// the frame that is sent: no protocol that any stack would answer
memory.window.u8.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5], memory.off);

function measure(ms: number): number {
  let frames = 0;
  const backend = openBackend(
    runtime,
    `netmap:${name},mode=${mode}`,
    () => {
      iov.clear();
      iov.push(memory.window.index, memory.off, ROOM);
      for (let i = 0; i < BURST && backend.recv(iov) > 0; i++) frames++;
    },
    'bench',
  );
  const sendBurst = (): void => {
    iov.clear();
    iov.push(memory.window.index, memory.off, LEN);
    for (let i = 0; i < BURST && backend.send(iov) > 0; i++) frames++;
    backend.flush();
  };
  const step = direction === 'rx' ? () => void runtime.loop.step(0) : sendBurst;
  if (direction === 'rx') backend.recvEnable();
  const run = (until: number): number => {
    const start = performance.now();
    let end = start;
    for (; end - start < until; end = performance.now()) for (let i = 0; i < 16; i++) step();
    return end - start;
  };
  run(WARM_UP_MS);
  frames = 0;
  const took = run(ms);
  const mpps = frames / took / 1000;
  backend.close();
  return mpps;
}

await answerMpps(measure);
