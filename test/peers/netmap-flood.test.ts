/** netmap:IF under a peer that sends faster than frames are taken. */
import assert from 'node:assert/strict';
import { before, describe, test } from 'node:test';
import type { NetBackend } from '../../src/net-backends/net-backend.js';
import { openBackend } from '../../src/net-backends/registry.js';
import { pause } from '../../src/sys/process.js';
import { PacketSocket } from '../support/packet-socket.js';
import { testRuntime } from '../support/runtime.js';
import { enterOwnNetwork, ip, tapsUnavailable } from '../support/tap.js';
import { etherFrame } from '../support/test-guest.js';

/** more than a turn may take, and fewer than would be noticed as a hang */
const TOO_MANY = 20_000;

describe('netmap:IF', { skip: tapsUnavailable }, () => {
  before(() => {
    enterOwnNetwork();
    ip('link add f0 type veth peer name f1');
    ip('link set f0 up');
    ip('link set f1 up');
  });

  for (const mode of ['xdp-native', 'xdp-generic'])
    test(`mode ${mode}: a flood does not keep the thread, and is served turn by turn`, () => {
      const runtime = testRuntime();
      const wire = new PacketSocket('f1');
      const frame = etherFrame(2, 1);
      let taken = 0;
      let inTurn = 0;
      const backend: NetBackend = openBackend(
        runtime,
        `netmap:f0,mode=${mode}`,
        () => {
          while (backend.peekRecvLen() > 0 && inTurn < TOO_MANY) {
            backend.rxDiscard();
            taken++;
            inTurn++;
            // another one is there at once
            wire.send(frame);
          }
        },
        'test',
      );
      try {
        backend.recvEnable();
        for (let i = 0; i < 50; i++) wire.send(frame);
        for (let i = 0; i < 200 && taken < 2000; i++) {
          inTurn = 0;
          runtime.loop.step(0);
          assert.ok(inTurn < 1000, `${inTurn} frames in one turn`);
          pause(1);
        }
        assert.ok(taken >= 2000, `${taken} frames were taken`);
      } finally {
        backend.close();
        wire.close();
        runtime.close();
      }
    });
});
