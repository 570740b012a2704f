/** Taps against Linux: a guest of ours at one end, the host's own network stack at the other. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { afterEach, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { NetBackend } from '../../src/net-backends/net-backend.js';
import { openBackend } from '../../src/net-backends/registry.js';
import { openFdCount } from '../../src/sys/fd.js';
import { getLink } from '../../src/sys/netlink.js';
import * as F from '../../src/wire/virtio-features.js';
import { buildFrame, type FrameSpec, l4Offset, naiveSum, pattern, u16 } from '../support/frames.js';
import { type TestRuntime, testRuntime } from '../support/runtime.js';
import { enterOwnNetwork, ip, tapsUnavailable } from '../support/tap.js';
import { TestGuest } from '../support/test-guest.js';

const GUEST_MAC = [2, 0, 0, 0, 0, 1];
const HOST_MAC = [2, 0, 0, 0, 0, 2];
const OFFLOADS =
  F.VIRTIO_F_VERSION_1 |
  F.VIRTIO_NET_F_MRG_RXBUF |
  F.VIRTIO_NET_F_CSUM |
  F.VIRTIO_NET_F_GUEST_CSUM |
  F.VIRTIO_NET_F_HOST_TSO4 |
  F.VIRTIO_NET_F_HOST_TSO6 |
  F.VIRTIO_NET_F_HOST_USO |
  F.VIRTIO_NET_F_GUEST_TSO4 |
  F.VIRTIO_NET_F_GUEST_TSO6;
const GSO_TCPV4 = 1;
const GSO_UDP_L4 = 5;

before(() => {
  if (tapsUnavailable) return;
  enterOwnNetwork();
  execFileSync('sysctl', ['-qw', 'net.ipv6.conf.default.accept_dad=0', 'net.ipv6.conf.default.router_solicitations=0']);
});

/** Gives the host's end addresses, and the guest's as known neighbours. */
function configureHost(name: string): void {
  ip(`link set ${name} address 02:00:00:00:00:02`);
  ip(`addr replace 10.0.0.2/24 dev ${name}`);
  ip(`addr replace fd00::2/64 dev ${name} nodad`);
  ip(`neigh replace 10.0.0.1 lladdr 02:00:00:00:00:01 dev ${name}`);
  ip(`neigh replace fd00::1 lladdr 02:00:00:00:00:01 dev ${name}`);
}

function vnetHeader(
  flags: number,
  gsoType: number,
  hdrLen: number,
  gsoSize: number,
  start: number,
  offset: number,
): Uint8Array {
  return Uint8Array.from([flags, gsoType, ...[hdrLen, gsoSize, start, offset].flatMap((n) => [n & 255, n >> 8]), 0, 0]);
}

const fromGuest = (spec: FrameSpec): FrameSpec => ({ ...spec, source: GUEST_MAC, destination: HOST_MAC });

/** An echo request of the guest (RFC 792, RFC 4443). */
function echoRequest(family: 4 | 6, size: number): number[] {
  const open = (checksum: number): number[] => [
    family === 4 ? 8 : 128,
    0,
    ...u16(checksum),
    0,
    1,
    0,
    1,
    ...pattern(size),
  ];
  const addresses = buildFrame(fromGuest({ ip: family, protocol: 'udp', payload: new Array(size).fill(0) }));
  const headerLen = family === 4 ? 34 : 54;
  const pseudo = family === 4 ? [] : [...addresses.slice(22, 54), 0, 0, ...u16(size + 8), 0, 0, 0, 58];
  const frame = [...addresses.slice(0, headerLen), ...open(0xffff - naiveSum([...pseudo, ...open(0)]))];
  if (family === 6) frame[20] = 58;
  else {
    frame[23] = 1;
    frame.splice(24, 2, 0, 0);
    frame.splice(24, 2, ...u16(0xffff - naiveSum(frame.slice(14, 34))));
  }
  return frame;
}

for (const io of ['io_uring', 'readv'])
  describe(`a guest on a tap, by ${io}`, { skip: tapsUnavailable, timeout: 60_000 }, () => {
    let runtime: TestRuntime;
    let guest: TestGuest;

    function open(options = '', features = OFFLOADS): void {
      runtime = testRuntime();
      guest = new TestGuest(runtime, { backend: `tap0,io=${io}${options}`, features, rxBufLen: 4096, queueSize: 256 });
      configureHost('tap0');
    }

    afterEach(() => {
      guest.close();
      runtime.close();
      assert.equal(getLink('tap0'), undefined, 'the interface goes with the backend');
    });

    function turn(): void {
      for (let i = 0; i < 4; i++) runtime.loop.step(0);
    }

    /** What comes from the host's address, of what it says of its own accord nothing. */
    function received(etherType: number): { header: Uint8Array; frame: Uint8Array }[] {
      turn();
      return guest.receive().filter(({ frame }) => ((frame[12]! << 8) | frame[13]!) === etherType && frame[0] === 2);
    }

    test('pings the host over IPv4 and IPv6, at MTU 1500 and 9000', () => {
      open(',mtu=9000');
      for (const family of [4, 6] as const)
        for (const size of [0, 56, 1400, 8900]) {
          const request = Uint8Array.from(echoRequest(family, size));
          guest.send(request);
          const replies = received(family === 4 ? 0x0800 : 0x86dd).filter(
            ({ frame }) => frame[family === 4 ? 34 : 54] === (family === 4 ? 0 : 129),
          );
          assert.equal(replies.length, 1, `IPv${family}, ${size} bytes`);
          const body = family === 4 ? 42 : 62;
          assert.deepEqual(Buffer.from(replies[0]!.frame.subarray(body)), Buffer.from(request.subarray(body)));
        }
    });

    async function udpSocket(family: 4 | 6): Promise<{ socket: Socket; messages: Buffer[]; port: number }> {
      const socket = createSocket(family === 4 ? 'udp4' : 'udp6');
      socket.bind(0, family === 4 ? '10.0.0.2' : 'fd00::2');
      await once(socket, 'listening');
      const messages: Buffer[] = [];
      socket.on('message', (m) => messages.push(m));
      return { socket, messages, port: socket.address().port };
    }

    test('leaves checksums, and segmentation of 64 KiB, to the host: a UDP socket gets every byte', async () => {
      open();
      for (const family of [4, 6] as const) {
        const { socket, messages, port } = await udpSocket(family);
        try {
          const spec = fromGuest({
            ip: family,
            protocol: 'udp',
            destinationPort: port,
            payload: pattern(64000),
            partialChecksum: true,
          });
          const frame = Uint8Array.from(buildFrame({ ...spec, payload: pattern(900) }));
          const start = l4Offset(spec);
          guest.queueFrame(frame, vnetHeader(1, 0, 0xffff, 0, start, 6));
          const big = Uint8Array.from(buildFrame(spec));
          guest.queueFrame(big, vnetHeader(1, GSO_UDP_L4, start + 8, 1400, start, 6));
          guest.tx.publish();
          guest.device.poll();
          const count = 1 + Math.ceil(64000 / 1400);
          for (let tries = 0; messages.length < count && tries < 500; tries++) await sleep(5);
          assert.deepEqual(messages[0], Buffer.from(pattern(900)));
          assert.deepEqual(Buffer.concat(messages.slice(1)), Buffer.from(pattern(64000)));
        } finally {
          socket.close();
        }
      }
      assert.equal(runtime.count('nic', 'tx_drop_backend'), 0);
    });

    test('takes checksums unfinished from the host if it negotiated that, else complete', async () => {
      for (const [features, flags] of [
        [OFFLOADS, 1],
        [F.VIRTIO_F_VERSION_1 | F.VIRTIO_NET_F_MRG_RXBUF, 0],
      ] as const) {
        if (flags === 0) {
          guest.close();
          runtime.close();
        }
        open('', features);
        const { socket } = await udpSocket(4);
        await new Promise((resolve) => socket.send(Buffer.from(pattern(500)), 7, '10.0.0.1', resolve));
        socket.close();
        const [got, ...rest] = received(0x0800);
        assert.equal(rest.length, 0);
        assert.equal(got!.header[0], flags);
        assert.deepEqual(Buffer.from(got!.frame.subarray(42)), Buffer.from(pattern(500)));
        const segment = [...got!.frame.subarray(34)];
        const pseudo = [10, 0, 0, 2, 10, 0, 0, 1, 0, 17, ...u16(segment.length)];
        assert.equal(naiveSum([...pseudo, ...segment]) === 0xffff, flags === 0, 'checksum is complete');
      }
    });

    test('drops and counts a malformed virtio-net header: the kernel never sees it', () => {
      open();
      const spec = fromGuest({ ip: 4, protocol: 'tcp', payload: pattern(3000) });
      const frame = Uint8Array.from(buildFrame(spec));
      const before = getStatistic('tap0', 'rx_packets');
      const bad: [string, Uint8Array][] = [
        ['vnet_gso_type', vnetHeader(1, 2, 54, 1460, 34, 16)],
        ['vnet_gso_type', vnetHeader(1, 99, 54, 1460, 34, 16)],
        ['vnet_ecn', vnetHeader(1, GSO_UDP_L4 | 0x80, 54, 1460, 34, 16)],
        ['vnet_not_negotiated', vnetHeader(1, 3, 54, 1460, 34, 16)],
        ['vnet_csum_start', vnetHeader(1, 0, 54, 0, 0xffff, 16)],
        ['vnet_csum_offset', vnetHeader(1, 0, 54, 0, 34, 0xfff0)],
        ['vnet_gso_without_csum', vnetHeader(0, GSO_TCPV4, 54, 1460, 34, 16)],
        ['vnet_gso_size', vnetHeader(1, GSO_TCPV4, 54, 0, 34, 16)],
        ['vnet_hdr_len', vnetHeader(1, GSO_TCPV4, 0xffff, 1460, 34, 16)],
      ];
      for (const [name, header] of bad) {
        const counted = runtime.count('tap0', `tx_drop_${name}`);
        guest.queueFrame(frame, header);
        guest.tx.publish();
        guest.device.poll();
        guest.reclaimTx();
        assert.equal(runtime.count('tap0', `tx_drop_${name}`), counted + 1, name);
      }
      assert.equal(getStatistic('tap0', 'rx_packets'), before);
    });

    test('counts what is sent while the interface is down, and goes on when it is up', () => {
      open();
      ip('link set tap0 down');
      const frame = Uint8Array.from(echoRequest(4, 56));
      assert.equal(guest.send(frame, frame, frame), 3);
      assert.equal(runtime.count('tap0', 'tx_drop_down'), 3);
      turn();
      assert.match(logged(), /is down/);
      ip('link set tap0 up');
      ip('neigh replace 10.0.0.1 lladdr 02:00:00:00:00:01 dev tap0');
      turn();
      guest.send(frame);
      assert.equal(received(0x0800).length, 1);
      assert.equal(runtime.count('tap0', 'tx_drop_down'), 3);
    });

    test('survives that its interface is deleted in use, says so, and takes one that is made again', () => {
      open();
      const frame = Uint8Array.from(echoRequest(4, 56));
      ip('link del tap0');
      for (let i = 0; i < 10; i++) guest.send(frame);
      turn();
      assert.equal(runtime.count('tap0', 'tx_drop_gone'), 10);
      assert.equal(runtime.count('tap0', 'interface_lost'), 1);
      assert.match(logged(), /tap0 has been deleted/);
      assert.equal(activeAfter(runtime), 0, 'nothing is polled that cannot come back');
      ip('tuntap add tap0 mode tap');
      turn();
      assert.doesNotMatch(logged(), /in use/);
      configureHost('tap0');
      turn();
      guest.send(frame);
      assert.equal(received(0x0800).length, 1);
      // persistent, unlike ours: it would outlive the backend
      ip('link del tap0');
    });

    test('follows name and MTU', () => {
      open();
      ip('link set tap0 mtu 1400');
      ip('link set tap0 down');
      ip('link set tap0 name other0');
      ip('link set other0 up');
      turn();
      assert.match(logged(), /has MTU 1400 \(was 1500\)/);
      assert.match(logged(), /is now called other0 \(was tap0\)/);
      const frame = Uint8Array.from(echoRequest(4, 56));
      configureHost('other0');
      guest.send(frame);
      assert.equal(received(0x0800).length, 1);
    });

    test('carries on in another network namespace, and says that it no longer hears of changes', () => {
      open();
      const name = `netbe-test-${process.pid}`;
      ip(`netns add ${name}`);
      try {
        ip(`link set tap0 netns ${name}`);
        turn();
        assert.match(logged(), /moved to another network namespace/);
        guest.send(Uint8Array.from(echoRequest(4, 56)));
        assert.equal(runtime.count('tap0', 'tx_drop_gone'), 0);
      } finally {
        ip(`netns del ${name}`);
      }
      turn();
    });

    test('several queues: what the host sends on any of them arrives', () => {
      open(',queues=4');
      const frame = Uint8Array.from(echoRequest(4, 56));
      for (let i = 0; i < 20; i++) guest.send(frame);
      assert.equal(received(0x0800).length, 20);
    });

    function logged(): string {
      return runtime.records.map((r) => r.message).join('\n');
    }
  });

/** Steps the loop until it is idle, or has had ample time to become so. Returns what is still polled. */
function activeAfter(runtime: TestRuntime): number {
  const end = performance.now() + 2000;
  while (runtime.loop.activeCount > 0 && performance.now() < end) runtime.loop.step(0);
  return runtime.loop.activeCount;
}

function getStatistic(name: string, counter: string): number {
  const line = readFileSync('/proc/thread-self/net/dev', 'utf8')
    .split('\n')
    .find((l) => l.trim().startsWith(`${name}:`))!;
  const fields = line.split(':')[1]!.trim().split(/\s+/).map(Number);
  return fields[['rx_bytes', 'rx_packets'].indexOf(counter)]!;
}

describe('a tap is set up', { skip: tapsUnavailable, timeout: 240_000 }, () => {
  let runtime: TestRuntime;
  const opened: NetBackend[] = [];

  beforeEach(() => {
    runtime = testRuntime();
  });
  afterEach(() => {
    for (const backend of opened.splice(0)) backend.close();
    runtime.close();
  });

  function open(device: string): NetBackend {
    const backend = openBackend(runtime, device, () => {}, 'test');
    opened.push(backend);
    return backend;
  }

  const refused = (device: string, message: RegExp, remedy: RegExp): void =>
    assert.throws(
      () => open(device),
      (error: Error & { remedy?: string }) => {
        assert.match(error.message, message);
        assert.match(error.remedy ?? '', remedy);
        return true;
      },
    );

  test('with the MTU, address and bridge asked for', () => {
    ip('link add br0 type bridge');
    open('tap:uplink,mtu=8000,mac=02:00:00:00:00:42,bridge=br0');
    const link = getLink('uplink')!;
    const { mtu, mac, up, master } = link;
    assert.deepEqual(
      { mtu, mac, up, master },
      { mtu: 8000, mac: '02:00:00:00:00:42', up: true, master: getLink('br0')!.index },
    );
    ip('link del br0');
  });

  test('with the features of this kernel, and none with offload=off', () => {
    const features = F.featureNames(open('tap0').getCap());
    for (const name of ['CSUM', 'GUEST_CSUM', 'HOST_TSO4', 'HOST_TSO6', 'GUEST_TSO4', 'GUEST_TSO6'])
      assert.ok(features.includes(`VIRTIO_NET_F_${name}`), name);
    assert.equal(open('tap1,offload=off').getCap(), 0n);
  });

  test('vmnet stays, up and with its addresses, and is found again', () => {
    open('vmnet0').close();
    ip('addr add 10.9.0.1/24 dev vmnet0');
    const before = getLink('vmnet0')!;
    assert.equal(before.up, true);
    open('vmnet0').close();
    assert.equal(getLink('vmnet0')!.index, before.index);
    const addresses = execFileSync('ip', ['-o', 'addr', 'show', 'dev', 'vmnet0'], { encoding: 'utf8' });
    assert.match(addresses, /10\.9\.0\.1\/24/);
    ip('tuntap del vmnet0 mode tap');
  });

  test('names that are no interface are refused', () => {
    for (const device of ['tap', 'tap:', 'tap:a/b', 'tap:a b', 'tap:tap%d', 'tap:sixteen-bytes-xx', 'tap0x', 'tap:..'])
      assert.throws(() => open(device), { code: 'EINVAL' }, device);
  });

  test('options out of range are refused by name and value', () => {
    for (const option of [
      'mtu=67',
      'mtu=65522',
      'queues=0',
      'io=fast',
      'offload=maybe',
      'mac=01:00:00:00:00:01',
      'mac=x',
    ])
      assert.throws(() => open(`tap0,${option}`), { message: new RegExp(option) }, option);
  });

  test('what stands in the way is said, with the remedy', () => {
    open('tap0');
    assert.throws(() => openBackend(testRuntime(), 'tap0', () => {}, 'x'), {
      code: 'EBUSY',
      message: /tap0 is in use/,
    });
    refused('tap:lo', /lo is a network card, not a tap/, /another name/);
    ip('link add br1 type bridge');
    refused('tap:br1', /br1 is of kind bridge, not a tap/, /another name/);
    refused('tap1,bridge=none', /bridge=none: there is no such interface/, /ip link add none type bridge/);
    refused('tap1,bridge=lo', /lo|not a bridge/, /Name a bridge/);
    ip('tuntap add tun5 mode tun');
    refused('tap:tun5', /is a tun \(IP packets\), not a tap/, /ip tuntap add tun5 mode tap/);
    ip('tuntap add multi0 mode tap multi_queue');
    refused('tap:multi0', /is a multi-queue tap, but queues=1/, /queues=2/);
    ip('tuntap add single0 mode tap');
    refused('tap:single0,queues=2', /one queue, but queues=2/, /multi_queue/);
    assert.equal(getLink('tap1'), undefined, 'a failed open leaves no interface');
    for (const name of ['tun5 mode tun', 'multi0 mode tap multi_queue', 'single0 mode tap']) ip(`tuntap del ${name}`);
    ip('link del br1');
  });

  /** Opens a tap in a process without any capability, of user 0. */
  function openUnprivileged(device: string): {
    status?: Record<string, unknown>;
    warnings?: string[];
    error?: { message: string; code: string; remedy: string };
  } {
    const program = fileURLToPath(new URL('../support/open-tap.js', import.meta.url));
    const args = ['--bounding-set=-all', '--inh-caps=-all', '--no-new-privs', process.execPath, program, device];
    return JSON.parse(execFileSync('setpriv', args, { encoding: 'utf8' }));
  }

  test('without privileges: an interface of this user is attached, nothing else', () => {
    ip('tuntap add mine0 mode tap user 0');
    ip('link set mine0 up');
    ip('tuntap add theirs0 mode tap user 12345');
    assert.deepEqual(openUnprivileged('tap:mine0').status?.interface, 'mine0');
    ip('link set mine0 down');
    assert.match(openUnprivileged('tap:mine0').warnings?.join() ?? '', /mine0 is down.*ip link set mine0 up/);
    const mtu = openUnprivileged('tap:mine0,mtu=9000').error;
    assert.match(`${mtu?.message} ${mtu?.remedy}`, /mtu=9000 could not be set.*CAP_NET_ADMIN/);
    const missing = openUnprivileged('tap:new0').error;
    assert.match(
      `${missing?.message} ${missing?.remedy}`,
      /new0 does not exist.*CAP_NET_ADMIN.*ip tuntap add new0 mode tap user 0/,
    );
    const theirs = openUnprivileged('tap:theirs0').error;
    assert.match(`${theirs?.message} ${theirs?.remedy}`, /belongs to user 12345.*user 0.*CAP_NET_ADMIN/);
    for (const name of ['mine0', 'theirs0']) ip(`tuntap del ${name} mode tap`);
  });

  test('a thousand openings and closings leave neither descriptors nor interfaces', () => {
    const interfaces = (): string => readFileSync('/proc/thread-self/net/dev', 'utf8').replace(/:.*/g, '');
    const before = { fds: openFdCount(), interfaces: interfaces() };
    for (let i = 0; i < 1000; i++)
      openBackend(runtime, `tap0,io=${i % 2 === 0 ? 'io_uring' : 'readv'}`, () => {}, 'test').close();
    assert.deepEqual({ fds: openFdCount(), interfaces: interfaces() }, before);
    assert.deepEqual(runtime.counters.directory(), []);
  });
});
