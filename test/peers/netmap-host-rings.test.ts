/** netmap:IF^ on a veth: this namespace's own stack at one end, another's behind the wire. */
import assert from 'node:assert/strict';
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { SOFTWARE_OFFLOADS } from '../../src/net-backends/offload-features.js';
import { openBackend } from '../../src/net-backends/registry.js';
import { openHostRings } from '../../src/netmap/host/host-rings.js';
import { openFdCount } from '../../src/sys/fd.js';
import { interfaceNames, netdevInfo } from '../../src/sys/netdev.js';
import { FrameBuffer } from '../conformance/backend-peers.js';
import { buildFrame } from '../support/frames.js';
import { patch, whileRunning } from '../support/patch.js';
import type { TestRuntime } from '../support/runtime.js';
import { ip, tapsUnavailable } from '../support/tap.js';
import { VethRig } from '../support/veth-rig.js';

const HOST_MAC = [2, 0, 0, 0, 0, 2];
const PEER_MAC = [2, 0, 0, 0, 0, 1];

describe('host rings of an interface', { skip: tapsUnavailable, timeout: 120_000 }, () => {
  const rig = new VethRig(2_000_000);
  let runtime: TestRuntime;

  beforeEach(() => {
    ({ runtime } = rig);
  });

  for (const mode of ['xdp-native', 'packet'])
    for (const [order, devices] of [
      ['wire first', [`netmap:l0,mode=${mode}`, 'netmap:l0^']],
      ['host first', ['netmap:l0^', `netmap:l0,mode=${mode}`]],
    ] as [string, [string, string]][])
      for (const features of [undefined, SOFTWARE_OFFLOADS])
        test(`bridged to the wire (${mode}, ${order}, ${features ? 'offloads passed on' : 'no offloads'}) the host has its network`, async () => {
          const joined = patch(runtime, devices, features);
          try {
            assert.equal(joined.ends[devices.indexOf('netmap:l0^')]!.status?.().mode, 'host');
            await rig.hostTalksToPeer(mode);
            for (const device of ['netmap:l0', 'netmap:l0^']) {
              assert.ok(runtime.count(device, 'rx_frames') > 20);
              assert.ok(runtime.count(device, 'tx_frames') > 20);
            }
          } finally {
            joined.close();
          }
        });

  test('XDP behind the driver, which would see what the host is given, does not go with them', () => {
    const [wire, host] = ['netmap:l0,mode=xdp-generic', 'netmap:l0^'];
    for (const [first, second] of [
      [wire, host],
      [host, wire],
    ] as [string, string][]) {
      const open = openBackend(runtime, first, () => {}, 'test');
      assert.throws(() => openBackend(runtime, second, () => {}, 'test'), { kind: 'usage', remedy: /mode=packet/ });
      open.close();
    }
  });

  test('closed, the host has its interface as before, and nothing is left', async () => {
    const interfaces = interfaceNames();
    const fds = openFdCount();
    const backend = openBackend(runtime, 'netmap:l0^', () => {}, 'test');
    assert.equal(interfaceNames().length, interfaces.length + 1);
    backend.close();
    backend.close();
    assert.deepEqual(interfaceNames(), interfaces);
    assert.equal(openFdCount(), fds);
    await rig.hostTalksToPeer('afterwards');
  });

  describe('alone', () => {
    let got: Uint8Array[];
    let send: (frame: number[]) => void;
    let close: () => void;

    beforeEach(() => {
      got = [];
      const frames = new FrameBuffer(runtime);
      const backend = openBackend(
        runtime,
        'netmap:l0^',
        () => {
          for (let len = backend.peekRecvLen(); len > 0; len = backend.peekRecvLen()) {
            const iov = frames.iovec(len);
            backend.recv(iov);
            got.push(frames.read(iov, len));
          }
        },
        'test',
      );
      backend.recvEnable();
      send = (frame) => {
        const iov = frames.iovec(frame.length);
        frames.write(iov, Uint8Array.from(frame));
        assert.equal(backend.send(iov), frame.length);
        backend.flush();
      };
      close = () => {
        backend.close();
        frames.close();
      };
    });
    afterEach(() => close());

    async function listening(port = 0): Promise<Socket> {
      const socket = createSocket('udp4').bind(port, '10.0.0.2');
      await once(socket, 'listening');
      return socket;
    }

    function fromPeer(port: number, text: string): number[] {
      return buildFrame({
        ip: 4,
        protocol: 'udp',
        source: PEER_MAC,
        destination: HOST_MAC,
        destinationPort: port,
        sourceIp: [10, 0, 0, 1],
        destinationIp: [10, 0, 0, 2],
        payload: [...Buffer.from(text)],
      });
    }

    test('a frame that is sent arrives at the stack as received by the interface', async () => {
      const socket = await listening();
      try {
        const heard = once(socket, 'message') as Promise<[Buffer, { address: string }]>;
        send(fromPeer(socket.address().port, 'to the host'));
        const [message, from] = await whileRunning(runtime, heard);
        assert.equal(String(message), 'to the host');
        assert.equal(from.address, '10.0.0.1');
      } finally {
        socket.close();
      }
    });

    test('what the host sends is received, complete, and does not reach the wire', async () => {
      ip('neigh replace 10.0.0.1 lladdr 02:00:00:00:00:01 dev l0');
      const socket = await listening();
      try {
        socket.send('from the host', 5000, '10.0.0.1');
        const isOurs = (f: Uint8Array): boolean => Buffer.from(f).includes('from the host');
        await whileRunning(
          runtime,
          until(() => got.some(isOurs)),
        );
        const frame = got.find(isOurs)!;
        const expected = buildFrame({
          ip: 4,
          protocol: 'udp',
          source: HOST_MAC,
          destination: PEER_MAC,
          sourcePort: socket.address().port,
          destinationPort: 5000,
          sourceIp: [10, 0, 0, 2],
          destinationIp: [10, 0, 0, 1],
          payload: [...Buffer.from('from the host')],
        });
        // all but the identification and flags of IP, and what is summed over them
        assert.deepEqual([...frame.subarray(26)], expected.slice(26));
      } finally {
        socket.close();
      }
    });

    test('what the tap in between says of its own accord is not taken for the host', async () => {
      ip('link set l0 down');
      ip('link set l0 up');
      await whileRunning(
        runtime,
        until(() => got.length > 0),
      );
      // a tap has a random address; everything the host sends through l0 has that of l0
      for (const frame of got) assert.deepEqual([...frame.subarray(6, 12)], HOST_MAC);
    });

    test('a second user, here or in another process, and what an end cannot be, are refused', () => {
      assert.throws(() => openHostRings(runtime.windows, netdevInfo('l0')), {
        code: 'EBUSY',
        message: /another process/,
      });
      assert.throws(() => openBackend(runtime, 'netmap:l0^', () => {}, 'x'), { code: 'EBUSY' });
      assert.throws(() => openBackend(runtime, 'netmap:l0*', () => {}, 'x'), {
        code: 'EINVAL',
        message: /character 10/,
      });
      assert.throws(() => openBackend(runtime, 'netmap:l0^1', () => {}, 'x'), {
        code: 'EINVAL',
        message: /character 10/,
      });
      assert.throws(() => openBackend(runtime, 'netmap:l0^,mode=packet', () => {}, 'x'), { message: /mode/ });
      assert.throws(() => openBackend(runtime, 'netmap:lo^', () => {}, 'x'), { code: 'EINVAL', message: /Ethernet/ });
    });
  });
});

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; i < 1000 && !condition(); i++) await new Promise((resolve) => setTimeout(resolve, 5));
  assert.ok(condition());
}
