/** Two guests on a switch with a hostile third: whatever that one does, frames pass between them. */
import assert from 'node:assert/strict';
import { RX_QUEUE } from '../../src/frontends/virtio-net/device.js';
import type { TestRuntime } from './runtime.js';
import { etherFrame, TestGuest } from './test-guest.js';

export class Bystanders {
  readonly guests: readonly [TestGuest, TestGuest];
  readonly #runtime: TestRuntime;

  /** On vale0, with the addresses 02:00:00:00:00:02 and :03. */
  constructor(runtime: TestRuntime) {
    this.#runtime = runtime;
    const guest = (n: number) =>
      new TestGuest(runtime, { backend: `vale0:vm${n}`, name: `vm${n}`, mac: Uint8Array.of(2, 0, 0, 0, 0, n) });
    this.guests = [guest(2), guest(3)];
  }

  /** A frame each way between the two, behind whatever the hostile one has sent them. */
  checkTraffic(): void {
    for (const [from, to] of [this.guests, [...this.guests].reverse()] as [TestGuest, TestGuest][]) {
      // for everybody: the hostile one may have taken any address
      const frame = etherFrame(0xff, 0x77, 60, 0x77);
      let arrived = false;
      for (let i = 0; i < 200 && !arrived; i++) {
        if (i % 20 === 0) from.send(frame);
        this.#runtime.loop.step(0);
        arrived = to.receive().some((got) => Buffer.compare(got.frame, frame) === 0);
        // segments of one big frame may have used up all its buffers
        to.device.kick(RX_QUEUE);
      }
      assert.ok(arrived, 'a frame between two other guests arrives');
    }
  }

  close(): void {
    for (const guest of this.guests) guest.close();
  }
}
