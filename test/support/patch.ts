/** Two backends joined: what one receives the other sends. For tests that put netbe between two real stacks. */
import { Iovec } from '../../src/memory/iovec.js';
import { MAX_FRAME_LEN, type NetBackend } from '../../src/net-backends/net-backend.js';
import { openBackend } from '../../src/net-backends/registry.js';
import type { TestRuntime } from './runtime.js';

export interface Patch {
  readonly ends: readonly NetBackend[];
  close(): void;
}

/** `features`: what both ends agree on, with a 12-byte header; undefined: no header. */
export function patch(runtime: TestRuntime, devices: readonly [string, string], features?: bigint): Patch {
  const room = MAX_FRAME_LEN + 64;
  const memory = runtime.windows.mapAnonymous(room);
  const iov = new Iovec(1);
  const ends: NetBackend[] = [];
  const forward = (from: number): void => {
    const source = ends[from]!;
    const target = ends[1 - from]!;
    for (let len = source.peekRecvLen(); len > 0; len = source.peekRecvLen()) {
      iov.clear();
      iov.push(memory.window.index, memory.off, len);
      source.recv(iov);
      target.send(iov);
    }
    target.flush();
  };
  for (const [i, device] of devices.entries()) ends.push(openBackend(runtime, device, () => forward(i), `end ${i}`));
  for (const end of ends) {
    if (features !== undefined) end.setCap(features, 12);
    end.recvEnable();
  }
  return {
    ends,
    close() {
      for (const end of ends) end.close();
      memory.close();
    },
  };
}

/** Runs the fabric's loop in this thread until `work` is done. */
export async function whileRunning<T>(runtime: TestRuntime, work: Promise<T>): Promise<T> {
  let done = false;
  const finished = work.finally(() => {
    done = true;
  });
  finished.catch(() => {});
  while (!done) {
    for (let i = 0; i < 20; i++) runtime.loop.step(0);
    if (runtime.loop.activeCount === 0) runtime.loop.step(1);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return finished;
}
