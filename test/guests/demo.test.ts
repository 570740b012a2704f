/** npm run demo, as a person runs it. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';
import { cacheDir } from '../../scripts/setup/cache.js';
import { readPcapng } from '../support/pcapng-reader.js';

const script = fileURLToPath(new URL('../../scripts/demo.js', import.meta.url));

describe('the demo', { timeout: 180_000 }, () => {
  let dir: string;

  before(() => {
    dir = mkdtempSync(join(tmpdir(), 'netbe-demo-'));
    mkdirSync(join(dir, 'tmp'));
  });
  after(() => rmSync(dir, { recursive: true, force: true }));

  // temporary files of the demo and its guests in a folder of their own, to see what is left
  const demo = (...args: string[]): ChildProcess =>
    spawn(process.execPath, [script, ...args], {
      cwd: dir,
      stdio: ['ignore', 'pipe', 'pipe'],
      env: { ...process.env, TMPDIR: join(dir, 'tmp'), NETBE_CACHE: cacheDir() },
    });

  const collect = (stream: NodeJS.ReadableStream): (() => string) => {
    let text = '';
    stream.on('data', (chunk: Buffer) => {
      text += chunk;
    });
    return () => text;
  };

  it('--host: a guest reaches namespaces through a tap and through a veth pair, which go with it', async (t) => {
    if (process.getuid?.() !== 0) {
      t.skip('needs root: it makes network namespaces');
      return;
    }
    const child = demo('--host', '--json');
    const [stdout, stderr] = [collect(child.stdout!), collect(child.stderr!)];
    const [status] = await once(child, 'close');
    assert.equal(status, 0, stderr());
    const { paths } = JSON.parse(stdout().trimEnd().split('\n').at(-1)!);
    assert.deepEqual(Object.keys(paths), ['tap', 'netmap']);
    for (const path of Object.values(paths) as { pings: { sent: number; received: number }; gbps: number }[]) {
      assert.equal(path.pings.received, path.pings.sent);
      assert.ok(path.gbps > 0);
    }
    assert.deepEqual(readdirSync(join(dir, 'tmp')), []);
  });

  it('ends with one JSON line that says what happened, a capture, and nothing left behind', async () => {
    const child = demo('--json');
    const [stdout, stderr] = [collect(child.stdout!), collect(child.stderr!)];
    const [status] = await once(child, 'close');
    assert.equal(status, 0, stderr());
    const result = JSON.parse(stdout().trimEnd().split('\n').at(-1)!);
    assert.deepEqual(
      result.guests.map((g: { name: string; mac: string }) => [g.name, g.mac]),
      [
        ['vm1', '02:00:00:00:00:01'],
        ['vm2', '02:00:00:00:00:02'],
      ],
    );
    assert.equal(result.pings.received, result.pings.sent);
    assert.ok(result.pings.rttUs.min <= result.pings.rttUs.p50 && result.pings.rttUs.p50 <= result.pings.rttUs.max);
    assert.ok(result.tcpGbps.aToB > 0 && result.tcpGbps.bToA > 0);
    assert.ok(result.frames > 1000);
    assert.equal(typeof result.drops, 'object');
    assert.ok(result.seconds > 0);

    const { packets } = readPcapng(readFileSync(join(dir, 'netbe-demo.pcapng')));
    const types = packets.map((p) => Buffer.from(p.data).readUInt16BE(12));
    assert.ok(types.includes(0x0806) && types.includes(0x0800), 'ARP and IPv4');
    assert.equal(packets.length, result.pcapng.frames);
    assert.deepEqual(readdirSync(join(dir, 'tmp')), []);
  });

  it('stopped by Ctrl-C while the guests boot, ends them and removes its files', async () => {
    const child = demo();
    const stdout = collect(child.stdout!);
    while (!stdout().includes('booting')) await once(child.stdout!, 'data');
    child.kill('SIGINT');
    const [status] = await once(child, 'close');
    assert.equal(status, 130);
    assert.deepEqual(readdirSync(join(dir, 'tmp')), []);
    assert.ok(!stdout().includes('Done'));
  });

  it('without guests to boot says what is missing and how to get it', async () => {
    const child = spawn(process.execPath, [script], {
      cwd: dir,
      env: { ...process.env, NETBE_CACHE: join(dir, 'empty'), PATH: dir },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const stderr = collect(child.stderr!);
    const [status] = await once(child, 'close');
    assert.equal(status, 3);
    assert.match(stderr(), /user-mode-linux/);
    assert.equal(existsSync(join(dir, 'empty', 'debian', 'uml')), false);
  });
});
