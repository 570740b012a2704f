/** A guest behind virtio-net and netmap:IF pings the kernel's stack in a namespace. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { hostModes } from '../../src/netmap/host/host-port.js';
import { VIRTIO_F_VERSION_1, VIRTIO_NET_F_MRG_RXBUF } from '../../src/wire/virtio-features.js';
import { defaultAddress, etherHeader, type FrameSpec, naiveSum, pattern, u16, u32 } from '../support/frames.js';
import { Namespace } from '../support/namespace.js';
import { whileRunning } from '../support/patch.js';
import { type TestRuntime, testRuntime } from '../support/runtime.js';
import { enterOwnNetwork, ip, tapsUnavailable } from '../support/tap.js';
import { TestGuest } from '../support/test-guest.js';

const GUEST = 1;
const PEER = 2;
const GUEST_MAC = [2, 0, 0, 0, 0, GUEST];
const PEER_MAC = [2, 0, 0, 0, 0, PEER];

/** The sum's complement in place of the two zero bytes at `at`. */
function withChecksum(bytes: number[], at: number, pseudo: number[] = []): number[] {
  const sum = 0xffff - naiveSum([...pseudo, ...bytes]);
  return [...bytes.slice(0, at), ...u16(sum), ...bytes.slice(at + 2)];
}

/** An echo request (RFC 792, RFC 4443) with `payload`. */
function echoRequest(family: 4 | 6, payload: number[]): Uint8Array {
  const ends = [...defaultAddress(family, GUEST), ...defaultAddress(family, PEER)];
  const spec = { ip: family, source: GUEST_MAC, destination: PEER_MAC } as FrameSpec;
  const echo = [family === 4 ? 8 : 128, 0, 0, 0, ...u16(7), ...u16(1), ...payload];
  const packet =
    family === 4
      ? [
          ...withChecksum([0x45, 0, ...u16(20 + echo.length), 0, 1, 0, 0, 64, 1, 0, 0, ...ends], 10),
          ...withChecksum(echo, 2),
        ]
      : [
          0x60,
          0,
          0,
          0,
          ...u16(echo.length),
          58,
          64,
          ...ends,
          ...withChecksum(echo, 2, [...ends, ...u32(echo.length), 0, 0, 0, 58]),
        ];
  return Uint8Array.from([...etherHeader(spec), ...packet]);
}

describe('a guest on netmap:IF', { skip: tapsUnavailable }, () => {
  before(enterOwnNetwork);

  for (const mode of hostModes)
    describe(`mode ${mode}`, () => {
      let runtime: TestRuntime;
      let peer: Namespace;
      let guest: TestGuest;

      before(async () => {
        runtime = testRuntime();
        peer = await Namespace.create();
        ip('link add g0 type veth peer name g1 address 02:00:00:00:00:02');
        ip('link set g0 up');
        peer.adopt('g1', ['10.0.0.2/24', 'fd00::2/64']);
        for (const address of ['10.0.0.1', 'fd00::1'])
          peer.ip(`neigh add ${address} lladdr 02:00:00:00:00:01 dev g1 nud permanent`);
        const features = VIRTIO_F_VERSION_1 | VIRTIO_NET_F_MRG_RXBUF;
        guest = new TestGuest(runtime, { backend: `netmap:g0,mode=${mode}`, features });
      });

      after(async () => {
        guest?.close();
        ip('link del g0');
        await peer.close();
        runtime.close();
      });

      for (const family of [4, 6] as const)
        test(`is answered over IPv${family}, from the shortest ping to the MTU`, async () => {
          const replyType = family === 4 ? 0 : 129;
          const typeAt = 14 + (family === 4 ? 20 : 40);
          for (const length of [0, 1, 56, 1500 - (typeAt - 14) - 8]) {
            const payload = pattern(length);
            const answered = async (): Promise<boolean> => {
              for (let tries = 0; tries < 50; tries++) {
                guest.send(echoRequest(family, payload));
                for (let turns = 0; turns < 20; turns++) {
                  await new Promise((resolve) => setTimeout(resolve, 1));
                  const replies = guest.receive().filter(({ frame }) => frame[typeAt] === replyType);
                  const expected = (frame: Uint8Array): boolean =>
                    Buffer.from(frame.subarray(typeAt + 8, typeAt + 8 + length)).equals(Buffer.from(payload));
                  if (replies.some(({ frame }) => expected(frame))) return true;
                }
              }
              return false;
            };
            assert.equal(await whileRunning(runtime, answered()), true, `${length} bytes`);
          }
        });
    });
});
