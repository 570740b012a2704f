/**
 * The objectives of netmap's own tests (utils/ctrl-api-test.c, and utils/tests/024) that are about interfaces of
 * the host, by their names: on the two ends of a veth pair in a namespace of its own.
 */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, afterEach, before, beforeEach, describe, type TestContext, test } from 'node:test';
import { netmapOf } from '../../src/netmap/netmap.js';
import { valeSwitches } from '../../src/netmap/vale/switches.js';
import { openFdCount } from '../../src/sys/fd.js';
import { Functional, type Packets } from '../support/functional.js';
import { PortServerRig, type RawPortClient } from '../support/raw-port-client.js';
import { enterOwnNetwork, ip, tapsUnavailable } from '../support/tap.js';
import { tempDir } from '../support/temp-dir.js';

function makeVeth(): void {
  ip('link add veth1A type veth peer name veth1B');
  for (const name of ['veth1A', 'veth1B']) ip(`link set ${name} up`);
}

describe('objectives of netmap about interfaces', { skip: tapsUnavailable, timeout: 60_000 }, () => {
  before(() => {
    enterOwnNetwork();
    // a kernel that sends nothing of its own accord
    writeFileSync('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1');
    makeVeth();
  });
  after(() => ip('link del veth1A'));

  describe('control requests', () => {
    let rig: PortServerRig;
    let client: RawPortClient;
    let fds: number;

    beforeEach((t) => {
      rig = new PortServerRig(join(tempDir(t as TestContext), 'p.netmap'));
      fds = openFdCount();
      client = rig.connect();
    });
    afterEach(() => {
      client.close();
      netmapOf(rig.runtime).close();
      assert.deepEqual(netmapOf(rig.runtime).list(), []);
      assert.deepEqual(rig.runtime.counters.directory(), []);
      assert.equal(openFdCount(), fds);
      rig.close();
    });

    function ask(type: string, name: string, body = {}): Record<string, unknown> {
      const reply = client.ask(type, name, body);
      for (const fd of reply.fds) fd.close();
      assert.ok(reply.ok, reply.error?.message);
      return reply.body;
    }

    /** How many rings of each kind a registration has: transmit, receive, and of these the host's. */
    function ringsOf(name: string): unknown[] {
      const { txRingOffs, rxRingOffs, hostTxRings, hostRxRings } = ask('register', name);
      return [(txRingOffs as number[]).length, (rxRingOffs as number[]).length, hostTxRings, hostRxRings];
    }

    test('port_info_get', () => {
      const info = ask('port-info-get', 'netmap:veth1A');
      for (const key of ['memSize', 'txSlots', 'rxSlots', 'txRings', 'rxRings', 'memId', 'hostTxRings', 'hostRxRings'])
        assert.ok((info[key] as number) > 0, key);
    });

    for (const [objective, name, expected] of [
      ['port_register_hwall, legacy_regif_all_nic', 'netmap:veth1A', [1, 1, 0, 0]],
      ['port_register_hwall_host, legacy_regif_future', 'netmap:veth1A*', [2, 2, 1, 1]],
      ['port_register_hostall, legacy_regif_sw', 'netmap:veth1A^', [1, 1, 1, 1]],
      [
        'port_register_hostall_many: an interface has one pair, however many are asked for',
        'netmap:veth1A^@conf:host-rings=5',
        [1, 1, 1, 1],
      ],
      ['port_register_single_hw_pair', 'netmap:veth1A-0', [1, 1, 0, 0]],
      ['port_register_single_host_pair', 'netmap:veth1A^0', [1, 1, 1, 1]],
      ['port_register_hwall_tx', 'netmap:veth1A/T', [1, 0, 0, 0]],
      ['port_register_hwall_rx', 'netmap:veth1A/R', [0, 1, 0, 0]],
      ['pipe_master', 'netmap:veth1A{pipeid1', [1, 1, 0, 0]],
      ['pipe_slave', 'netmap:veth1A}pipeid2', [1, 1, 0, 0]],
    ] as const)
      test(objective, () => assert.deepEqual(ringsOf(name), expected));

    test('port_register_single_host_pair: a pair that there is not', () => {
      const { ok, error } = client.ask('register', 'netmap:veth1A^1');
      assert.equal(ok, false);
      assert.match(error.message, /character 14/);
    });

    test('legacy_regif_extra_bufs', () =>
      assert.equal(ask('register', 'netmap:veth1A', { extraBufs: 20 }).extraBufs, 20));

    for (const [objective, body, ports] of [
      ['vale_attach_detach', {}, ['veth1A']],
      ['vale_attach_detach_host_rings', { host: true }, ['veth1A', 'veth1A^']],
    ] as const)
      test(objective, () => {
        const { portIndex } = ask('vale-attach', 'vale1:veth1A', body);
        assert.deepEqual(
          valeSwitches(rig.runtime)
            .list()
            .flatMap((vale) => vale.ports.map((port) => port.name)),
          ports,
        );
        assert.equal(ask('vale-detach', 'vale1:veth1A').portIndex, portIndex);
        assert.deepEqual(valeSwitches(rig.runtime).list(), []);
      });
  });

  test('024_send_rec_veth', async () => {
    const functional = new Functional();
    const [a, b] = ['netmap:veth1A', 'netmap:veth1B'];
    const what: Packets = { len: 150, fill: 'd', num: 20, seq: true };
    try {
      functional.port(a);
      functional.port(b);
      for (const [from, to] of [
        [b, a],
        [a, b],
      ] as const) {
        assert.ok(functional.send(from, what));
        const rx = functional.port(to).rxRings[0]!;
        for (let turns = 0; turns < 500 && rx.space() < 20; turns++) {
          functional.runtime.loop.step(1);
          functional.port(to).rxsync();
        }
        assert.ok(functional.receive(to, what), `${from} to ${to}`);
      }
    } finally {
      functional.close();
    }
  });
});
