/** Ports of a fabric in other processes: real ones, killed without warning. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { Fabric, nmOpen, POLLIN, POLLOUT } from '../../../../src/index.js';
import { eventually } from '../../../support/eventually.js';
import { tempDir } from '../../../support/temp-dir.js';

const client = fileURLToPath(new URL('../../../support/port-client.js', import.meta.url));

async function lab(t: TestContext): Promise<{ fabric: Fabric; socket: string }> {
  const socket = join(tempDir(t), 'ports.netmap');
  const fabric = await Fabric.start();
  t.after(() => fabric.close());
  await fabric.listenPorts(socket);
  return { fabric, socket };
}

class Client {
  readonly child: ChildProcess;
  readonly #lines: AsyncIterator<string>;
  #errors = '';

  constructor(t: TestContext, ...args: string[]) {
    this.child = spawn(process.execPath, [client, ...args], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.child.stderr!.on('data', (chunk) => {
      this.#errors += chunk;
    });
    this.#lines = createInterface({ input: this.child.stdout! })[Symbol.asyncIterator]();
    t.after(() => this.child.kill('SIGKILL'));
  }

  async says(): Promise<Record<string, unknown>> {
    const { value, done } = await this.#lines.next();
    if (done) throw new Error(`the client ended: ${this.#errors}`);
    return JSON.parse(value) as Record<string, unknown>;
  }

  async killed(): Promise<void> {
    const exit = once(this.child, 'exit');
    this.child.kill('SIGKILL');
    await exit;
  }
}

const portNames = async (fabric: Fabric) =>
  (await fabric.show()).switches.flatMap((vale) => vale.ports.map((port) => port.name)).sort();
const descriptors = () => readdirSync('/proc/self/fd').length;

test('frames of a process reach another port in order, without loss while there is room', async (t) => {
  const { socket } = await lab(t);
  const port = nmOpen('vale0:here', { socket });
  t.after(() => port.close());
  const sender = new Client(t, socket, 'vale0:there', 'send', '1000');
  assert.equal((await sender.says()).opened, 'vale0:there');
  const [ring] = port.rxRings;
  assert(ring);
  const seen: number[] = [];
  await eventually('all frames', () => {
    if ((port.wait(POLLIN, 0) & POLLIN) !== 0)
      for (; ring.space() > 0; ring.advance(1)) {
        const off = ring.slotOff(ring.head);
        assert.equal(ring.len(ring.head), 60);
        seen.push(ring.window.u8[off + 14]! * 256 + ring.window.u8[off + 15]!);
      }
    return seen.length === 1000;
  });
  assert.deepEqual(
    seen,
    Array.from({ length: 1000 }, (_, i) => i),
  );
});

test('a process that is killed frees its port; the other ones, and their frames, go on', async (t) => {
  const { fabric, socket } = await lab(t);
  const port = nmOpen('vale0:here', { socket });
  t.after(() => port.close());
  const echo = new Client(t, socket, 'vale0:echo', 'echo');
  await echo.says();
  const before = descriptors();
  const victims = Array.from({ length: 3 }, (_, i) => new Client(t, socket, `vale0:victim${i}`, 'send', '100000'));
  await Promise.all(victims.map((victim) => victim.says()));
  assert.deepEqual(await portNames(fabric), ['echo', 'here', 'victim0', 'victim1', 'victim2']);
  for (const victim of victims) await victim.killed();
  let names: string[] = [];
  await eventually('their ports are gone', () => {
    void portNames(fabric).then((now) => {
      names = now;
    });
    return names.length === 2;
  });
  assert.deepEqual(names, ['echo', 'here']);
  await eventually('their descriptors are closed', () => descriptors() <= before + 6);
  // what the victims sent is of no interest
  const [rx] = port.rxRings;
  const [tx] = port.txRings;
  assert(rx && tx);
  const flush = () => {
    rx.advance(rx.space());
    port.rxsync();
  };
  flush();
  let answered = false;
  await eventually('an answer', () => {
    const off = tx.slotOff(tx.head);
    tx.window.u8.set([...new Array(6).fill(0xff), 2, 0, 0, 0, 0, 9, 0x88, 0xb5, 0xca, 0xfe], off);
    tx.setLenAndFlags(tx.head, 60, 0);
    tx.advance(1);
    port.txsync();
    if ((port.wait(POLLIN, 20) & POLLIN) !== 0)
      for (; rx.space() > 0; rx.advance(1)) {
        const at = rx.slotOff(rx.head);
        answered ||= rx.window.u8[at] === 2 && rx.window.u8[at + 14] === 0xca;
      }
    return answered;
  });
  assert.equal(port.gone, false);
});

test('a name can be used again when its process has gone', async (t) => {
  const { socket } = await lab(t);
  const first = new Client(t, socket, 'vale0:p', 'hold');
  await first.says();
  assert.throws(() => nmOpen('vale0:p', { socket }), { code: 'EBUSY' });
  await first.killed();
  await eventually('the port is free', () => {
    try {
      nmOpen('vale0:p', { socket }).close();
      return true;
    } catch {
      return false;
    }
  });
});

test('two ends of a pipe in two processes share their buffers', async (t) => {
  const { socket } = await lab(t);
  const port = nmOpen('netmap:pp{1', { socket });
  t.after(() => port.close());
  const echo = new Client(t, socket, 'netmap:pp}1', 'echo');
  assert.equal((await echo.says()).memId, port.memId);
  const [rx] = port.rxRings;
  const [tx] = port.txRings;
  assert(rx && tx);
  const buf = tx.bufIdx(tx.head);
  tx.window.u8.fill(0x5a, tx.slotOff(tx.head), tx.slotOff(tx.head) + 64);
  tx.setLenAndFlags(tx.head, 64, 0);
  tx.advance(1);
  await eventually('the echo', () => (port.wait(POLLIN | POLLOUT, 20) & POLLIN) !== 0);
  assert.equal(rx.len(rx.head), 64);
  assert.equal(rx.window.u8[rx.slotOff(rx.head) + 20], 0x5a);
  assert.notEqual(rx.bufIdx(rx.head), buf);
});

test('a worker thread opens a port as a process does', async (t) => {
  const { fabric, socket } = await lab(t);
  const worker = new Worker(client, { argv: [socket, 'vale0:worker', 'hold'], stdout: true });
  t.after(() => worker.terminate());
  await once(worker.stdout, 'data');
  assert.deepEqual(await portNames(fabric), ['worker']);
});

test('a client whose fabric goes is told so', async (t) => {
  const { fabric, socket } = await lab(t);
  const port = nmOpen('vale0:p', { socket });
  t.after(() => port.close());
  await fabric.close();
  await eventually('POLLERR', () => {
    port.wait(POLLIN, 10);
    return port.gone;
  });
  assert.throws(() => nmOpen('vale0:p', { socket }), /no fabric serves ports at .*\.netmap/);
});
