/** netmap:IF through its life: taken from the host and given back, whatever ends it; interfaces that come and go. */
import assert from 'node:assert/strict';
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { after, afterEach, before, beforeEach, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { NetbeErrorJson } from '../../src/errors.js';
import { openBackend } from '../../src/net-backends/registry.js';
import { hostModes } from '../../src/netmap/host/host-port.js';
import { openFdCount } from '../../src/sys/fd.js';
import { FrameBuffer } from '../conformance/backend-peers.js';
import { Namespace } from '../support/namespace.js';
import { PacketSocket } from '../support/packet-socket.js';
import { type TestRuntime, testRuntime } from '../support/runtime.js';
import { enterOwnNetwork, ip, tapsUnavailable } from '../support/tap.js';
import { etherFrame } from '../support/test-guest.js';

const holder = fileURLToPath(new URL('../support/hold-backend.js', import.meta.url));

describe('netmap:IF, its life', { skip: tapsUnavailable }, () => {
  let runtime: TestRuntime;
  let peer: Namespace;

  before(async () => {
    enterOwnNetwork();
    peer = await Namespace.create();
    await peer.listen();
  });
  after(() => peer?.close());

  beforeEach(() => {
    runtime = testRuntime();
    ip('link add l0 numrxqueues 2 numtxqueues 2 type veth peer name l1 numrxqueues 2 numtxqueues 2');
    ip('addr add 10.0.0.254/24 dev l0');
    ip('link set l0 up');
    peer.adopt('l1', ['10.0.0.1/24']);
  });
  afterEach(() => {
    runtime.close();
    try {
      ip('link del l0');
    } catch {
      // a test has done it
    }
  });

  /** Whether the host's own stack reaches the peer through the interface, in some time. */
  async function hostReachesPeer(ms: number): Promise<boolean> {
    const socket = createSocket('udp4');
    let heard = false;
    socket.on('message', () => {
      heard = true;
    });
    for (const end = performance.now() + ms; !heard && performance.now() < end; ) {
      socket.send('ping', 5000, '10.0.0.1', () => {});
      await sleep(20);
    }
    socket.close();
    return heard;
  }

  /** A process that opens the device and keeps it; its answer, and the process if it goes on. */
  async function hold(device: string, uid?: number): Promise<{ child: ChildProcess; answer: Partial<NetbeErrorJson> }> {
    const as = uid === undefined ? {} : { uid, gid: uid };
    const child = spawn(process.execPath, [holder, device], { stdio: ['ignore', 'pipe', 'inherit'], ...as });
    const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
    return { child, answer: JSON.parse(line) as Partial<NetbeErrorJson> };
  }

  async function kill(child: ChildProcess): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exit = once(child, 'exit');
    child.kill('SIGKILL');
    await exit;
  }

  function turns(count: number): void {
    for (let i = 0; i < count; i++) runtime.loop.step(1);
  }

  for (const mode of hostModes) {
    test(`${mode}: the host is cut off while it is open, and has the interface back after SIGKILL`, async () => {
      assert.equal(await hostReachesPeer(2000), true);
      const { child, answer } = await hold(`netmap:l0,mode=${mode}`);
      try {
        assert.deepEqual(answer, {});
        assert.equal(await hostReachesPeer(200), false);
      } finally {
        await kill(child);
      }
      assert.equal(await hostReachesPeer(5000), true);
    });

    test(`${mode}: the host has the interface back after close`, async () => {
      const backend = openBackend(runtime, `netmap:l0,mode=${mode}`, () => {}, 'test');
      assert.equal(await hostReachesPeer(200), false);
      backend.close();
      assert.equal(await hostReachesPeer(5000), true);
    });

    test(`${mode}: an interface that is removed is counted, logged, said in status, and keeps nobody busy`, () => {
      const take = (): void => {
        while (backend.rxDiscard() > 0);
      };
      const backend = openBackend(runtime, `netmap:l0,mode=${mode}`, take, 'test');
      backend.recvEnable();
      ip('link del l0');
      turns(10);
      assert.equal(backend.status?.().link, 'gone');
      assert.equal(runtime.count('netmap:l0', 'link_changes'), 1);
      assert.ok(runtime.records.some(({ level, message }) => level === 'error' && /l0 was removed/.test(message)));
      assert.equal(send(backend), -100); // -ENETDOWN
      assert.equal(runtime.count('netmap:l0', 'tx_drop_link_down'), 1);
      assert.equal(runtime.loop.activeCount, 0);
      assert.equal(runtime.mevent.dispatch(0), 0);
      assert.equal(backend.peekRecvLen(), 0);
      backend.recvDisable();
      backend.recvEnable();
      turns(200);
      assert.equal(runtime.loop.activeCount, 0);
      backend.close();
    });

    test(`${mode}: frames are dropped while the interface is down, and pass again when it is up`, async () => {
      let received = 0;
      const take = (): void => {
        while (backend.rxDiscard() > 0) received++;
      };
      const backend = openBackend(runtime, `netmap:l0,mode=${mode}`, take, 'test');
      backend.recvEnable();
      ip('link set l0 down');
      turns(10);
      assert.equal(backend.status?.().link, 'down');
      assert.equal(send(backend), -100);
      assert.equal(runtime.loop.activeCount, 0);
      ip('link set l0 up');
      for (let i = 0; i < 200 && backend.status?.().link !== 'up'; i++) turns(10);
      assert.equal(backend.status?.().link, 'up');
      assert.ok(send(backend) > 0);
      // the peer's stack answers what it is asked
      received = 0;
      for (let i = 0; i < 500 && received === 0; i++) {
        send(backend);
        turns(5);
      }
      assert.ok(received > 0);
      backend.close();
    });

    test(`${mode}: many openings and closings, all torn down`, () => {
      const before = openFdCount();
      const { windows } = runtime;
      for (let i = 0; i < 20; i++) openBackend(runtime, `netmap:l0,mode=${mode}`, () => {}, 'test').close();
      assert.equal(openFdCount(), before);
      assert.ok(windows.windows.every((w) => !w.inUse));
      assert.deepEqual(runtime.counters.directory(), []);
    });
  }

  /** An ARP request to the peer. */
  function send(backend: ReturnType<typeof openBackend>): number {
    const frames = new FrameBuffer(runtime);
    const arp = etherFrame(0xff, 1, 42);
    arp.set([8, 6, 0, 1, 8, 0, 6, 4, 0, 1, ...arp.subarray(6, 12), 10, 0, 0, 254, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1], 12);
    const iov = frames.iovec(42);
    frames.write(iov, arp);
    const sent = backend.send(iov);
    backend.flush();
    frames.close();
    return sent;
  }

  test('takes every queue of an interface with several', () => {
    const backend = openBackend(runtime, 'netmap:l0,mode=xdp-native', () => {}, 'test');
    assert.equal(backend.status?.().queues, 2);
    backend.close();
    assert.throws(() => openBackend(runtime, 'netmap:l0,queues=3', () => {}, 'test'), {
      code: 'EINVAL',
      message: /queues=3: l0 has 2/,
    });
  });

  test('auto takes the best mode, and says why where it is not the first', () => {
    const backend = openBackend(runtime, 'netmap:l0', () => {}, 'test');
    assert.equal(backend.status?.().mode, 'xdp-native');
    backend.close();
    // a bridge has no XDP of its own
    ip('link add m0 type bridge');
    ip('link set m0 up');
    const other = openBackend(runtime, 'netmap:m0', () => {}, 'test');
    ip('link del m0');
    assert.equal(other.status?.().mode, 'xdp-generic');
    assert.match(String(other.status?.()['not xdp-native']), /driver/);
    other.close();
  });

  test('a peer with a larger MTU does not keep it from the best mode', () => {
    ip('link add m0 type veth peer name m1 mtu 9000');
    const backend = openBackend(runtime, 'netmap:m0', () => {}, 'test');
    ip('link del m0');
    assert.equal(backend.status?.().mode, 'xdp-native');
    assert.equal(backend.status?.().scatter, true);
    backend.close();
  });

  test('is promiscuous unless told otherwise', () => {
    const promiscuous = (): boolean => /PROMISC|promiscuity [1-9]/.test(ipDetails('l0'));
    const backend = openBackend(runtime, 'netmap:l0,mode=packet', () => {}, 'test');
    assert.equal(promiscuous(), true);
    backend.close();
    assert.equal(promiscuous(), false);
    const plain = openBackend(runtime, 'netmap:l0,mode=packet,promisc=off', () => {}, 'test');
    assert.equal(promiscuous(), false);
    plain.close();
  });

  test('counts what the kernel drops because the ring is full', () => {
    ip('link add m0 type veth peer name m1');
    for (const name of ['m0', 'm1']) {
      // the kernel's own frames (multicast listeners, router solicitations) are not to be counted
      execFileSync('sysctl', ['-qw', `net.ipv6.conf.${name}.disable_ipv6=1`]);
      ip(`link set ${name} up`);
    }
    const backend = openBackend(runtime, 'netmap:m0,mode=xdp-native,ring=64', () => {}, 'test');
    const wire = new PacketSocket('m1');
    for (let i = 0; i < 200; i++) wire.send(etherFrame(0xff, 1, 60));
    let got = 0;
    while (backend.rxDiscard() > 0) got++;
    backend.recvEnable();
    turns(20);
    assert.equal(runtime.count('netmap:m0', 'rx_drop_ring_full') + got, 200);
    wire.close();
    backend.close();
    ip('link del m0');
  });

  test('refuses an interface that is not there, and lists those that are', () => {
    assert.throws(() => openBackend(runtime, 'netmap:nope', () => {}, 'test'), {
      code: 'ENODEV',
      message: /no interface "nope"/,
      remedy: /lo.*l0/,
    });
  });

  test('refuses an interface that is not Ethernet', () => {
    assert.throws(() => openBackend(runtime, 'netmap:lo', () => {}, 'test'), {
      message: /lo is no Ethernet interface/,
    });
  });

  test('refuses an interface that is taken, by this process or another', async () => {
    const { child } = await hold('netmap:l0');
    try {
      assert.throws(() => openBackend(runtime, 'netmap:l0', () => {}, 'test'), {
        code: 'EBUSY',
        message: /taken by another AF_XDP socket/,
      });
    } finally {
      await kill(child);
    }
    const backend = openBackend(runtime, 'netmap:l0', () => {}, 'test');
    assert.throws(() => openBackend(runtime, 'netmap:l0', () => {}, 'test'), { message: /open already/ });
    backend.close();
  });

  test('says which capabilities are missing', async () => {
    const { child, answer } = await hold('netmap:l0', 65534);
    await kill(child);
    assert.equal(answer.code, 'EPERM');
    assert.match(answer.remedy ?? '', /CAP_NET_RAW/);
  });
});

function ipDetails(name: string): string {
  return execFileSync('ip', ['-d', 'link', 'show', 'dev', name], { encoding: 'utf8' });
}
