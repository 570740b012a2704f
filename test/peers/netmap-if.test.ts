/** netmap:IF between two kernels' stacks: TCP and UDP, IPv4 and IPv6, with and without offloads, jumbo frames. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { SOFTWARE_OFFLOADS } from '../../src/net-backends/offload-features.js';
import { Namespace } from '../support/namespace.js';
import { type Patch, patch, whileRunning } from '../support/patch.js';
import { type TestRuntime, testRuntime } from '../support/runtime.js';
import { enterOwnNetwork, ip, tapsUnavailable } from '../support/tap.js';

const BYTES = 4_000_000;

const cases = ['xdp-native', 'xdp-generic', 'packet'].flatMap((mode) =>
  [1500, 9000].flatMap((mtu) => [false, true].map((offloads) => ({ mode, mtu, offloads }))),
);

describe('netmap:IF between two namespaces', { skip: tapsUnavailable }, () => {
  before(enterOwnNetwork);

  for (const { mode, mtu, offloads } of cases)
    describe(`mode ${mode}, MTU ${mtu}, ${offloads ? 'offloads passed on' : 'no offloads'}`, () => {
      let runtime: TestRuntime;
      let joined: Patch;
      let left: Namespace;
      let right: Namespace;

      before(async () => {
        runtime = testRuntime();
        left = await Namespace.create();
        right = await Namespace.create();
        for (const side of ['l', 'r']) {
          ip(`link add ${side}0 mtu ${mtu} type veth peer name ${side}1 mtu ${mtu}`);
          ip(`link set ${side}0 up`);
        }
        left.adopt('l1', ['10.0.0.1/24', 'fd00::1/64']);
        right.adopt('r1', ['10.0.0.2/24', 'fd00::2/64']);
        const devices = [`netmap:l0,mode=${mode}`, `netmap:r0,mode=${mode}`] as const;
        joined = patch(runtime, devices, offloads ? SOFTWARE_OFFLOADS : undefined);
        await right.listen();
      });

      after(async () => {
        joined?.close();
        for (const side of ['l', 'r']) ip(`link del ${side}0`);
        await left.close();
        await right.close();
        runtime.close();
      });

      for (const host of ['10.0.0.2', 'fd00::2']) {
        test(`carries datagrams up to the MTU to ${host}, and back`, async () => {
          const most = mtu - (host.includes(':') ? 48 : 28);
          const lengths = [1, 2, 17, 18, 19, 100, 1001, most - 1, most];
          const { echoed } = await whileRunning(runtime, left.echo(host, lengths));
          assert.deepEqual(echoed, lengths);
        });

        test(`carries a TCP stream to ${host} unharmed`, async () => {
          const result = await whileRunning(runtime, left.transfer(host, BYTES));
          assert.deepEqual(result, { bytes: BYTES, intact: true });
        });
      }

      test('runs in the mode that was asked for, and says so', () => {
        for (const end of joined.ends) {
          assert.equal(end.status?.().mode, mode);
          assert.equal(end.status?.().link, 'up');
        }
      });
    });
});
