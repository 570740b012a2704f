/** netmap's programs on interfaces: between the kernel's own stacks in two namespaces, and with the host's stack. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { CliFolder } from '../support/cli.js';
import { Namespace } from '../support/namespace.js';
import { enterOwnNetwork, ip, tapsUnavailable } from '../support/tap.js';
import { tempDir } from '../support/temp-dir.js';

const lengths = [1, 100, 1001, 1472];

describe("netmap's programs on interfaces", { skip: tapsUnavailable }, () => {
  let left: Namespace;
  let right: Namespace;
  let here: Namespace;

  before(async () => {
    enterOwnNetwork();
    left = await Namespace.create();
    right = await Namespace.create();
    here = await Namespace.here();
    for (const side of ['l', 'r']) {
      ip(`link add ${side}0 type veth peer name ${side}1`);
      ip(`link set ${side}0 up`);
    }
    left.adopt('l1', ['10.0.0.1/24']);
    right.adopt('r1', ['10.0.0.2/24']);
    ip('addr add 10.0.0.3/24 dev l0');
    await right.listen();
    await here.listen();
  });

  after(async () => {
    for (const side of ['l', 'r']) ip(`link del ${side}0`);
    for (const namespace of [left, right, here]) await namespace.close();
  });

  test('bridge joins two interfaces: datagrams and TCP get through both ways, and stop with it', async (t) => {
    const cli = new CliFolder(t, tempDir(t));
    const bridge = cli.start('bridge', '-w', '0', '-i', 'netmap:l0', '-i', 'r0');
    await bridge.complains(/Ready to go, l0 0x0\/\d+ <-> r0 0x0\/\d+/);
    assert.deepEqual((await left.echo('10.0.0.2', lengths)).echoed, lengths);
    assert.deepEqual(await left.transfer('10.0.0.2', 500_000), { bytes: 500_000, intact: true });
    assert.equal((await bridge.end('SIGINT')).status, 0);
  });

  test("bridge of one interface hands its frames to the host's stack, and the host's to it", async (t) => {
    const cli = new CliFolder(t, tempDir(t));
    const bridge = cli.start('bridge', '-w', '0', 'netmap:l0');
    await bridge.complains(/same interface, endpoint 0 goes to host/);
    await bridge.complains(/Ready to go/);
    assert.deepEqual((await left.echo('10.0.0.3', lengths)).echoed, lengths);
    assert.equal((await bridge.end('SIGINT')).status, 0);
    // and the host has its interface back
    assert.deepEqual((await left.echo('10.0.0.3', lengths)).echoed, lengths);
  });

  test('vale-ctl -a puts interfaces on a switch, -h the host with one, -d gives them back', async (t) => {
    const cli = new CliFolder(t, tempDir(t));
    await cli.fabric('run', '--no-sandbox', '-s', '2,virtio-net,vale0:vm1,socket=vm1.sock');
    const ctl = async (...args: string[]) => {
      const { status, stdout, stderr } = await cli.run('vale-ctl', ...args);
      assert.equal(status, 0, stderr);
      return stdout;
    };
    await ctl('-h', 'vale0:l0');
    await ctl('-a', 'vale0:r0');
    assert.match(await ctl(), /^vale0:l0 bridge_idx 0 port_idx \d+$/m);
    assert.deepEqual((await left.echo('10.0.0.2', lengths)).echoed, lengths);
    assert.deepEqual((await left.echo('10.0.0.3', lengths)).echoed, lengths);
    await ctl('-d', 'vale0:l0');
    await ctl('-d', 'vale0:r0');
    assert.equal(await ctl(), 'vale0:vm1 bridge_idx 0 port_idx 0\n');
    assert.deepEqual((await left.echo('10.0.0.3', lengths)).echoed, lengths);
  });

  test("pkt-gen sends with an interface's address, no more than its MTU, and takes what the stack beyond it sends", async (t) => {
    const cli = new CliFolder(t, tempDir(t));
    const tooLong = await cli.run('pkt-gen', '-i', 'l0', '-f', 'tx', '-l', '1501', '-w', '0');
    assert.equal(tooLong.status, 2);
    assert.match(tooLong.stderr, /pkt_size \(1501\) must be <= mtu \(1500\)/);
    const tx = await cli.run(...'pkt-gen -i l0 -f tx -n 50 -R 1000 -w 0'.split(' '));
    assert.equal(tx.status, 0, tx.stderr);
    assert.match(tx.stdout, /\(([0-9a-f]{2}:){5}[0-9a-f]{2} -> ff:ff:ff:ff:ff:ff\)\nSent 50 packets 3000 bytes/);
    assert.doesNotMatch(tx.stdout, /\(00:00:00:00:00:00/);
    const rx = cli.start('pkt-gen', '-i', 'l0', '-f', 'rx', '-n', '1', '-w', '0');
    await rx.complains(/Ready\.\.\./);
    // nobody answers: the first question for the address is enough
    await left.echo('10.0.0.9', [1]).catch(() => undefined);
    assert.match((await rx.end()).stdout, /Received 1 packets/);
  });
});
