/** A user-mode-linux guest on a tap: its traffic with the host's own network stack, in a namespace of the test. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type Server, type Socket } from 'node:net';
import { after, before, describe, it } from 'node:test';
import type { Guest } from '../support/guest/guest.js';
import { Lab } from '../support/guest/lab.js';
import { configure, ping, waitForPing } from '../support/guest/net.js';
import { enterOwnNetwork, ip, tapsUnavailable } from '../support/tap.js';

const BYTES = 8 * 2 ** 20;
/** at MTU 9000 at least; with offloads a segment of up to 64 KiB is one frame */
const FRAMES_WITHOUT_OFFLOADS = BYTES / 9000;

for (const { io, offloads, mtu } of [
  { io: 'io_uring', offloads: true, mtu: 9000 },
  { io: 'readv', offloads: false, mtu: 1500 },
])
  describe(`a guest on a tap by ${io}, MTU ${mtu}, ${offloads ? 'with' : 'without'} offloads`, {
    timeout: 240_000,
    skip: tapsUnavailable,
  }, () => {
    let lab: Lab;
    let guest: Guest;

    before(async () => {
      enterOwnNetwork();
      const backendOptions = { io, mtu: String(mtu), offload: offloads ? 'on' : 'off' };
      lab = await Lab.start([{ name: 'a', backend: 'tap0', backendOptions, mtu }]);
      ip('addr add 10.0.0.2/24 dev tap0');
      ip('addr add fd00::2/64 dev tap0 nodad');
      guest = await lab.uml('a');
      await configure(guest, 'eth0', { address: '10.0.0.1/24', address6: 'fd00::1/64', mtu, offloads });
      await waitForPing(guest, '10.0.0.2');
      await waitForPing(guest, 'fd00::2');
    });

    after(() => lab?.close());

    it('pings the host, over IPv4 and IPv6, in frames up to the MTU and in fragments', async () => {
      for (const address of ['10.0.0.2', 'fd00::2'])
        for (const size of [0, 1400, mtu - 48, 20_000]) {
          const { sent, received } = await ping(guest, address, { count: 3, intervalS: 0.05, size });
          assert.deepEqual({ address, size, sent, received }, { address, size, sent: 3, received: 3 });
        }
    });

    /** A server on the host for one connection. */
    async function listen(address: string, serve: (socket: Socket) => void): Promise<{ server: Server; port: number }> {
      const server = createServer(serve);
      server.listen(0, address);
      await once(server, 'listening');
      return { server, port: (server.address() as { port: number }).port };
    }

    for (const address of ['10.0.0.2', 'fd00::2']) {
      it(`sends the host a stream of TCP, every byte (${address})`, async () => {
        const hash = createHash('md5');
        let length = 0;
        let ended: () => void;
        const end = new Promise<void>((resolve) => {
          ended = resolve;
        });
        const { server, port } = await listen(address, (socket) => {
          socket.on('data', (bytes) => {
            hash.update(bytes);
            length += bytes.length;
          });
          socket.on('end', () => {
            socket.end();
            ended();
          });
        });
        try {
          await guest.sh(`yes netbe | head -c ${BYTES} | nc ${address} ${port}`, 120_000);
          await end;
          assert.equal(length, BYTES);
          assert.equal(hash.digest('hex'), createHash('md5').update(yes()).digest('hex'));
        } finally {
          server.close();
        }
      });

      it(`receives a stream of TCP from the host, every byte (${address})`, async () => {
        const { server, port } = await listen(address, (socket) => {
          socket.on('error', () => {});
          socket.end(yes());
        });
        const frames = lab.counter('a', 'rx_frames');
        try {
          const sum = await guest.sh(`nc ${address} ${port} </dev/null | md5sum`, 120_000);
          if (offloads)
            assert.ok(lab.counter('a', 'rx_frames') - frames < FRAMES_WITHOUT_OFFLOADS, 'whole segments cross');
          assert.equal(sum.trim().split(' ')[0], createHash('md5').update(yes()).digest('hex'));
        } finally {
          server.close();
        }
      });
    }

    it('says what interface it is on, and how', async () => {
      const [nic] = (await lab.fabric.show()).nics;
      const { mac: _mac, ...status } = nic!.backendStatus;
      assert.deepEqual(status, { interface: 'tap0', state: 'up', carrier: true, mtu, io, queues: 1 });
    });

    it('was served without a fault', () => {
      const counters = lab.fabric.counters().tap0 ?? {};
      const drops = Object.entries(counters).filter(([name, n]) => /drop|error|no_space/.test(name) && n > 0);
      assert.deepEqual(drops, []);
    });
  });

function yes(): Buffer {
  return Buffer.alloc(BYTES, 'netbe\n');
}
