/** Linux's e1000 driver on netbe's 82545EM, through QEMU's vfio-user client, beside a virtio-net guest on one VALE switch. */
import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import type { Guest } from '../support/guest/guest.js';
import { Lab } from '../support/guest/lab.js';
import {
  addVlan,
  badSegments,
  configure,
  driverStatistics,
  iperf,
  macOf,
  ping,
  setOffloads,
  statistic,
  until,
  waitForCarrier,
  waitForPing,
} from '../support/guest/net.js';

/** the largest that the driver takes: MAX_JUMBO_FRAME_SIZE without header and frame check sequence */
const MAX_MTU = 16110;

describe("a Linux guest's e1000 driver", { timeout: 420_000 }, () => {
  let lab: Lab;
  let e1000: Guest;
  let uml: Guest;

  before(async () => {
    lab = await Lab.start([
      { name: 'e1000', emulation: 'e1000' },
      { name: 'uml', mtu: MAX_MTU },
    ]);
    e1000 = await lab.qemu('e1000', ['e1000'], { reboots: true });
    uml = await lab.uml('uml');
    await configure(e1000, 'eth0', { address: '10.0.0.1/24', address6: 'fd00::1/64' });
    await configure(uml, 'eth0', { address: '10.0.0.2/24', address6: 'fd00::2/64', mtu: 1500 });
    await waitForPing(e1000, '10.0.0.2');
  });

  after(() => lab?.close());

  const pairs = () =>
    [
      [e1000, uml, '10.0.0.2'],
      [uml, e1000, '10.0.0.1'],
    ] as const;

  async function pingBothWays(sizes: readonly number[]): Promise<void> {
    for (const [from, , address] of pairs())
      for (const size of sizes) {
        const { sent, received } = await ping(from, address, { count: 3, intervalS: 0.05, size });
        assert.deepEqual({ from: from.name, size, sent, received }, { from: from.name, size, sent: 3, received: 3 });
      }
  }

  it('finds an 82545EM with the MAC of the NIC and a gigabit link', async () => {
    const id = await e1000.sh('cd /sys/class/net/eth0/device && cat vendor device');
    assert.deepEqual(id.split('\n'), ['0x8086', '0x100f']);
    assert.equal(await macOf(e1000, 'eth0'), '02:00:00:00:00:01');
    assert.match(await e1000.sh('ethtool -i eth0'), /^driver: e1000$/m);
    const settings = await e1000.sh('ethtool eth0');
    for (const line of ['Speed: 1000Mb/s', 'Duplex: Full', 'Auto-negotiation: on', 'Link detected: yes'])
      assert.ok(settings.includes(line), `${line}:\n${settings}`);
    assert.doesNotMatch(await e1000.sh('dmesg'), /e1000.*(fail|error|invalid|hang|timeout)/i);
  });

  it('reads an EEPROM with the MAC address and a right checksum (ethtool -e)', async () => {
    const dump = await e1000.sh("ethtool -e eth0 raw on | od -A n -v -t x1 | tr -d ' \\n'");
    const bytes = Buffer.from(dump, 'hex');
    assert.equal(bytes.toString('hex', 0, 6), '020000000001');
    let sum = 0;
    for (let word = 0; word < 64; word++) sum += bytes.readUInt16LE(2 * word);
    assert.equal(sum & 0xffff, 0xbaba);
  });

  it('sees its registers as they are (ethtool -d)', async () => {
    const registers = await e1000.sh('ethtool -d eth0');
    for (const line of [
      /Set link up: +1/,
      /Duplex: +full/,
      /Link up: +link config/,
      /Link speed: +1000Mb\/s/,
      /Receiver: +enabled/,
      /Unicast promiscuous: +disabled/,
      /Transmitter: +enabled/,
      /PHY type: +M88/,
      /Speed & Duplex Resolved: +Yes/,
    ])
      assert.match(registers, line);
  });

  it('answers pings both ways, of every size up to many fragments, over IPv4 and IPv6', async () => {
    await pingBothWays([0, 1, 18, 56, 1400, 1472, 1473, 9000, 40_000]);
    for (const [from, address] of [
      [e1000, 'fd00::2'],
      [uml, 'fd00::1'],
    ] as const)
      assert.equal((await ping(from, address, { count: 3, intervalS: 0.05, size: 1400 })).received, 3);
  });

  for (const tso of [true, false])
    it(`carries TCP both ways with TSO ${tso ? 'on: segments leave it whole' : 'off'}`, async () => {
      await setOffloads(e1000, 'eth0', { tso, gso: tso });
      for (const [from, to, address] of pairs()) {
        const seen = async (name: string): Promise<number> => statistic(to, 'eth0', name);
        const [frames, bytes] = [await seen('rx_packets'), await seen('rx_bytes')];
        const result = await iperf(from, to, address, { seconds: 1 });
        assert.ok(result.bytes > 1_000_000, `${from.name}: ${result.bytes} bytes`);
        const average = ((await seen('rx_bytes')) - bytes) / ((await seen('rx_packets')) - frames);
        // the driver has no offload for what it receives: there every frame fits the wire
        if (to === e1000 || !tso) assert.ok(average <= 1518, `${from.name}: frames of ${average} bytes`);
        else assert.ok(average > 1518, `${from.name}: frames of ${average} bytes`);
      }
    });

  it('carries TCP with checksums by the guests, and by the device, and finds none of them wrong', async () => {
    await setOffloads(e1000, 'eth0', { tx: false, rx: false });
    for (const [from, to, address] of pairs())
      assert.ok((await iperf(from, to, address, { seconds: 1 })).bytes > 1_000_000);
    await setOffloads(e1000, 'eth0', { tx: true, rx: true, tso: true, gso: true });
    for (const [from, to, address] of pairs())
      assert.ok((await iperf(from, to, address, { seconds: 1 })).bytes > 1_000_000);
    assert.deepEqual([await badSegments(e1000), await badSegments(uml)], [0, 0]);
    const { rx_csum_offload_good, rx_csum_offload_errors } = await driverStatistics(e1000, 'eth0');
    assert.equal(rx_csum_offload_errors, 0);
    assert.ok(rx_csum_offload_good! > 0, 'the device checked nothing');
  });

  it('counts what crosses in the statistics registers (ethtool -S)', async () => {
    const then = await driverStatistics(e1000, 'eth0');
    await ping(uml, '10.0.0.1', { count: 20, intervalS: 0.01, size: 1000 });
    // the driver reads the registers every two seconds
    await until(async () => {
      const now = await driverStatistics(e1000, 'eth0');
      const more = (name: string): number => now[name]! - then[name]!;
      return more('rx_packets') >= 20 && more('tx_packets') >= 20 && more('rx_bytes') >= 20 * 1042;
    }, 'statistics');
    const wrong = Object.entries(await driverStatistics(e1000, 'eth0')).filter(
      ([name, n]) => n > 0 && /error|dropped|abort|fail|timeout/.test(name),
    );
    assert.deepEqual(wrong, []);
  });

  it('sends and receives tagged frames (802.1Q), tagged by the device and by the guest', async () => {
    await addVlan(e1000, 'eth0', 5, '10.5.0.1/24');
    await addVlan(uml, 'eth0', 5, '10.5.0.2/24');
    await waitForPing(e1000, '10.5.0.2');
    for (const rxvlan of [true, false]) {
      await setOffloads(e1000, 'eth0', { rxvlan, txvlan: rxvlan });
      await waitForCarrier(e1000, 'eth0', true);
      await waitForPing(e1000, '10.5.0.2');
      for (const size of [56, 1472, 4000])
        assert.equal((await ping(uml, '10.5.0.1', { count: 3, intervalS: 0.05, size })).received, 3, `${size}`);
      assert.ok((await iperf(e1000, uml, '10.5.0.2', { seconds: 1 })).bytes > 1_000_000);
      assert.ok((await iperf(uml, e1000, '10.5.0.1', { seconds: 1 })).bytes > 1_000_000);
    }
    await setOffloads(e1000, 'eth0', { rxvlan: true, txvlan: true });
    await waitForPing(uml, '10.5.0.1');
    assert.deepEqual([await badSegments(e1000), await badSegments(uml)], [0, 0]);
  });

  /** Frames that the guest is given, beyond a few strays, when `command` runs in the other one. */
  async function given(command: string): Promise<number> {
    await waitForPing(uml, '10.0.0.1');
    const then = await statistic(e1000, 'eth0', 'rx_packets');
    const frames = lab.counter('uml', 'tx_frames');
    await uml.run(command);
    assert.ok(lab.counter('uml', 'tx_frames') - frames >= 20, 'the frames were never sent');
    return (await statistic(e1000, 'eth0', 'rx_packets')) - then;
  }

  it('filters by address and VLAN: unknown unicast, multicast and tags never reach the guest unless it asks', async () => {
    await uml.sh('arp -s 10.0.0.77 02:00:00:00:00:77 && ip route add 239.0.0.0/8 dev eth0');
    await addVlan(uml, 'eth0', 7, '10.7.0.2/24');
    await uml.sh('arp -s 10.7.0.1 02:00:00:00:00:01');
    const flood = (address: string): string => `ping -c 30 -i 0.01 -W 1 ${address}`;
    const [unicast, multicast, tagged] = ['10.0.0.77', '239.1.2.3', '10.7.0.1'].map(flood) as [string, string, string];

    for (const command of [unicast, multicast, tagged]) {
      const frames = await given(command);
      assert.ok(frames < 15, `${command}: ${frames} frames`);
    }
    await e1000.sh('ifconfig eth0 allmulti');
    assert.ok((await given(multicast)) >= 30);
    assert.ok((await given(unicast)) < 15);
    await e1000.sh('ifconfig eth0 -allmulti');
    await e1000.sh('ip link set eth0 promisc on');
    assert.match(await e1000.sh('ethtool -d eth0'), /Unicast promiscuous: +enabled/);
    for (const command of [unicast, multicast, tagged]) assert.ok((await given(command)) >= 30, command);
    await e1000.sh('ip link set eth0 promisc off');
    for (const command of [unicast, multicast, tagged]) assert.ok((await given(command)) < 15, command);
    await uml.sh('ip link del eth0.7');
  });

  it('hears the multicast groups that it has joined', async () => {
    await uml.sh('ip -6 neigh flush dev eth0');
    const then = (await driverStatistics(e1000, 'eth0')).rx_multicast!;
    await waitForPing(uml, 'fd00::1');
    await until(
      async () => (await driverStatistics(e1000, 'eth0')).rx_multicast! > then,
      'a neighbour solicitation, to a multicast address',
    );
  });

  for (const mtu of [4000, 9000, MAX_MTU])
    it(`receives and sends frames of ${mtu} bytes`, async () => {
      for (const guest of [e1000, uml]) await configure(guest, 'eth0', { mtu });
      await waitForPing(e1000, '10.0.0.2');
      const frames = lab.counter('uml', 'tx_frames');
      await pingBothWays([mtu - 28]);
      assert.ok(lab.counter('uml', 'tx_frames') - frames < 12, 'fragments');
      for (const [from, to, address] of pairs())
        assert.ok((await iperf(from, to, address, { seconds: 1 })).bytes > 1_000_000);
      for (const guest of [e1000, uml]) await configure(guest, 'eth0', { mtu: 1500 });
    });

  it('drops for a guest with a small MTU what does not fit it, and goes on', async () => {
    await configure(uml, 'eth0', { mtu: 9000 });
    const { received } = await ping(uml, '10.0.0.1', { count: 5, intervalS: 0.05, size: 8000 });
    assert.equal(received, 0);
    await configure(uml, 'eth0', { mtu: 1500 });
    await pingBothWays([1472]);
  });

  it('works with rings of any size', async () => {
    for (const size of [80, 4096, 256]) {
      await e1000.sh(`ethtool -G eth0 rx ${size} tx ${size}`);
      await waitForPing(e1000, '10.0.0.2');
      for (const [from, to, address] of pairs())
        assert.ok((await iperf(from, to, address, { seconds: 1 })).bytes > 1_000_000, `${size}`);
    }
  });

  it('is interrupted as moderately as it asks', async () => {
    const interrupts = async (): Promise<number> =>
      Number(/(\d+).*eth0$/m.exec((await e1000.sh('grep eth0 /proc/interrupts')).replace(/^ *\d+:/, ''))?.[1]);
    for (const usecs of [0, 1, 500]) {
      await e1000.sh(`ethtool -C eth0 rx-usecs ${usecs}`);
      const then = await interrupts();
      await pingBothWays([56]);
      assert.ok((await iperf(uml, e1000, '10.0.0.1', { seconds: 1 })).bytes > 1_000_000);
      assert.ok((await interrupts()) > then, `rx-usecs ${usecs}`);
    }
    await e1000.sh('ethtool -C eth0 rx-usecs 3');
  });

  it('sees the link go down and up', async () => {
    for (let times = 0; times < 2; times++) {
      await lab.fabric.setLink('e1000', false);
      await waitForCarrier(e1000, 'eth0', false);
      assert.equal((await ping(uml, '10.0.0.1', { count: 1 })).received, 0);
      await lab.fabric.setLink('e1000', true);
      await waitForCarrier(e1000, 'eth0', true);
      await waitForPing(uml, '10.0.0.1');
    }
    assert.match(await e1000.sh('dmesg'), /eth0 NIC Link is Down[\s\S]*eth0 NIC Link is Up 1000 Mbps Full Duplex/);
  });

  it('negotiates again when it is told to (ethtool -r)', async () => {
    await e1000.sh('ethtool -r eth0');
    await waitForCarrier(e1000, 'eth0', true);
    await waitForPing(e1000, '10.0.0.2');
  });

  it("passes the driver's self-test (ethtool -t): registers, EEPROM, interrupts, loopback, link", async () => {
    const { output } = await e1000.run('ethtool -t eth0 offline', 60_000);
    assert.match(output, /The test result is PASS/);
    for (const part of ['Register', 'Eeprom', 'Interrupt', 'Loopback', 'Link'])
      assert.match(output, new RegExp(`^${part} test .*\\s0$`, 'm'), `${output}\n${await e1000.sh('dmesg | tail -5')}`);
    await waitForCarrier(e1000, 'eth0', true);
    await waitForPing(e1000, '10.0.0.2');
  });

  it('unloads and loads again', async () => {
    for (let times = 0; times < 2; times++) {
      await e1000.sh('rmmod e1000 && load e1000');
      await configure(e1000, 'eth0', { address: '10.0.0.1/24' });
      await waitForPing(uml, '10.0.0.1');
    }
    assert.ok((await iperf(e1000, uml, '10.0.0.2', { seconds: 1 })).bytes > 1_000_000);
  });

  it('is there again after a reboot of the guest', async () => {
    await e1000.reboot();
    await configure(e1000, 'eth0', { address: '10.0.0.1/24' });
    await waitForPing(e1000, '10.0.0.2');
    assert.ok((await iperf(uml, e1000, '10.0.0.1', { seconds: 1 })).bytes > 1_000_000);
  });
});
