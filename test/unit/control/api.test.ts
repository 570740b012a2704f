import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { after, test } from 'node:test';
import { buildApi } from '../../../src/control/api.js';
import { ControlClient } from '../../../src/control/control-client.js';
import { ControlServer } from '../../../src/control/control-server.js';
import { eventually } from '../../support/eventually.js';
import { FakeFabric } from '../../support/fake-fabric.js';

const dir = mkdtempSync(join(tmpdir(), 'netbe-api-'));
after(() => rmSync(dir, { recursive: true, force: true }));

const identity = { name: 'test', version: '1.2.3', startedAt: '2026-01-01T00:00:00.000Z' };
let number = 0;

async function serve(fabric: FakeFabric, run: (client: ControlClient, path: string) => Promise<void>): Promise<void> {
  const path = join(dir, `${number++}.sock`);
  const server = await ControlServer.listen({ fabric, identity, path });
  try {
    await run(new ControlClient(path), path);
  } finally {
    await server.close();
    assert(!existsSync(path), 'the socket is removed');
  }
}

/** One raw request: status, content type, body. */
function raw(socketPath: string, method: string, path: string, body?: string, type = 'application/json') {
  return new Promise<{ status: number; type: string; body: string }>((resolve, reject) => {
    const headers = body === undefined ? {} : { 'content-type': type };
    const r = request({ socketPath, method, path, headers, agent: false }, (answer) => {
      text(answer).then(
        (t) => resolve({ status: answer.statusCode ?? 0, type: answer.headers['content-type'] ?? '', body: t }),
        reject,
      );
    });
    r.on('error', reject);
    r.end(body);
  });
}

const vm1 = { backend: 'vale0:vm1', socket: '/tmp/vm1.sock' };

test("a NIC is added, shown, changed and removed; the answers are the fabric's own data, whole", async () => {
  const fabric = new FakeFabric();
  await serve(fabric, async (client) => {
    const spec = { ...vm1, slot: '2:0', mac: '02:00:00:00:00:01', mtu: 1500, backendOptions: { a: 'b' } };
    const added = await client.addNic(spec);
    assert.equal(added.name, 'vm1');
    const shown = await fabric.show();
    assert.deepEqual(added, shown.nics[0]);
    assert.deepEqual(await client.nics(), shown.nics);
    assert.deepEqual(await client.nic('vm1'), shown.nics[0]);
    assert.deepEqual(await client.switches(), shown.switches);
    assert.deepEqual(await client.counters(), fabric.counters());
    assert.equal((await client.setLink('vm1', 'down')).device.link, 'down');
    await client.removeNic('vm1');
    assert.deepEqual(await client.nics(), []);
  });
});

test('two backends are joined and parted', async () => {
  const fabric = new FakeFabric();
  await serve(fabric, async (client, path) => {
    const patch = await client.addPatch({ a: 'vale0:up', b: 'stream0,addr=unix:/tmp/up.sock' });
    assert.deepEqual(patch, {
      name: 'vale0:up+stream0',
      a: 'vale0:up',
      b: 'stream0,addr=unix:/tmp/up.sock',
      offloads: ['VIRTIO_NET_F_CSUM'],
      statusA: {},
      statusB: { state: 'listening' },
    });
    assert.deepEqual(await client.patches(), [patch]);
    for (const [body, detail] of [
      [{ a: 'vale0:x' }, /the body has no "b"/],
      [{ a: 'vale0:x', b: 'vale0:x' }, /both ends of the patch are vale0:x/],
      [{ a: 'vale0:x', b: ',addr=1' }, /an end of the patch has no device/],
    ] as const)
      assert.match(JSON.parse((await raw(path, 'POST', '/v1/patches', JSON.stringify(body))).body).detail, detail);
    await client.removePatch('vale0:up+stream0');
    assert.deepEqual(await client.patches(), []);
  });
});

test('says who it is', async () => {
  await serve(new FakeFabric(), async (client) => {
    assert.deepEqual(await client.fabric(), {
      ...identity,
      pid: process.pid,
      node: process.version,
      nics: 0,
      patches: 0,
      switches: 0,
      portSocket: null,
      graphNodes: 0,
      sandbox: null,
    });
  });
});

test('only the owner may open the socket', async () => {
  await serve(new FakeFabric(), async (_client, path) => {
    assert.equal(statSync(path).mode & 0o777, 0o600);
  });
});

test('a refusal is a problem with code, value, rule and remedy', async () => {
  await serve(new FakeFabric(), async (client, path) => {
    await client.addNic(vm1);
    assert.deepEqual(JSON.parse((await raw(path, 'GET', '/v1/nics/vm9')).body), {
      title: 'Not Found',
      status: 404,
      detail: 'there is no NIC "vm9"',
      code: 'ENOENT',
      subject: 'vm9',
      remedy: 'NICs: vm1.',
    });
    const refusals: [number, string, RegExp, string?][] = [
      [400, JSON.stringify({ ...vm1, emulation: 'e2000' }), /emulation "e2000" is not virtio-net or e1000/],
      [400, JSON.stringify({ ...vm1, scoket: 'a' }), /unknown key "scoket"; did you mean socket\?/],
      [400, JSON.stringify({ ...vm1, mtu: '1500' }), /mtu "1500" is not a whole number/],
      [400, JSON.stringify({ ...vm1, mac: '01:00:5e:00:00:01' }), /multicast/],
      [400, JSON.stringify({ ...vm1, socket: 'vm1.sock' }), /relative path/],
      [400, '{"backend":', /JSON/],
      [409, JSON.stringify(vm1), /NIC vm1 exists/],
      [413, JSON.stringify({ ...vm1, name: 'x'.repeat(70_000) }), /longer than 65536 bytes/],
    ];
    for (const [status, body, detail] of refusals) {
      const answer = await raw(path, 'POST', '/v1/nics', body);
      assert.equal(answer.status, status, answer.body);
      assert.match(answer.type, /^application\/problem\+json/);
      assert.match(JSON.parse(answer.body).detail, detail);
    }
    assert.match((await raw(path, 'POST', '/v1/nics', 'a=b', 'text/csv')).body, /the body is not JSON/);
    assert.equal((await raw(path, 'HEAD', '/v1/nics/vm1/capture')).status, 404);
    assert.equal((await raw(path, 'GET', '/v2/nics')).status, 404);
    assert.equal((await raw(path, 'DELETE', '/v1/nics/vm9')).status, 404);
  });
});

test('what goes wrong in the fabric is a problem too, and the API goes on', async () => {
  const fabric = new FakeFabric();
  await serve(fabric, async (client) => {
    fabric.show = async () => {
      throw new Error('broken');
    };
    await assert.rejects(client.nics(), { name: 'NetbeError', kind: 'runtime', message: 'broken' });
    assert.deepEqual(await client.counters(), {});
  });
});

test('the metrics name each drop', async () => {
  const fabric = new FakeFabric();
  await serve(fabric, async (client, path) => {
    await client.addNic(vm1);
    const { body, type } = await raw(path, 'GET', '/metrics');
    assert.match(type, /^text\/plain; version=0\.0\.4/);
    for (const line of [
      'netbe_frames_total{port="vm1",direction="tx"} 3',
      'netbe_bytes_total{port="vm1",direction="rx"} 120',
      'netbe_drops_total{port="vm1",direction="rx",reason="no_buffers"} 1',
      'netbe_events_total{port="vm1",event="tx_kicks"} 5',
      'netbe_link_up{port="vm1"} 1',
      'netbe_connected{port="vm1"} 0',
      'netbe_info{version="1.2.3"} 1',
    ])
      assert(body.includes(`\n${line}\n`), line);
  });
});

test('a capture gives what comes, and ends in the fabric when its reader goes', async () => {
  const fabric = new FakeFabric();
  fabric.blocks = [Buffer.from('first'), Buffer.from('second')];
  await serve(fabric, async (client) => {
    await client.addNic(vm1);
    const stream = await client.capture('vm1');
    assert.equal(stream.headers['content-type'], 'application/x-pcapng');
    let got = '';
    for await (const chunk of stream) {
      got += chunk;
      if (got === 'firstsecond') break;
    }
    await eventually('the capture ends in the fabric', () => fabric.captures === 0);
  });
});

test('closing the server ends a capture that is under way', async () => {
  const fabric = new FakeFabric();
  fabric.blocks = [Buffer.from('first')];
  let ended: Promise<string> | undefined;
  await serve(fabric, async (client) => {
    await client.addNic(vm1);
    ended = text(await client.capture('vm1')).catch((error: NodeJS.ErrnoException) => error.code ?? '');
  });
  assert.equal(await ended, 'ECONNRESET');
});

test('the socket of a dead fabric is replaced, that of a live one refused with its process', async () => {
  const path = join(dir, 'taken.sock');
  // a socket whose process was killed: bound, nobody listens
  const script = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
  spawnSync(process.execPath, ['-e', script]);
  assert(existsSync(path));
  const server = await ControlServer.listen({ fabric: new FakeFabric(), identity, path });
  try {
    await assert.rejects(ControlServer.listen({ fabric: new FakeFabric(), identity, path }), {
      code: 'EADDRINUSE',
      kind: 'usage',
      message: `a fabric "test" is running already, by process ${process.pid}, with its control socket at ${path}`,
    });
    assert.equal((await new ControlClient(path).fabric()).name, 'test', 'the live one is left alone');
  } finally {
    await server.close();
  }
});

test('a socket of something else, and a file, are left alone', async () => {
  const path = join(dir, 'else.sock');
  const other = createServer((socket) => socket.end('hello\n')).listen(path);
  await assert.rejects(ControlServer.listen({ fabric: new FakeFabric(), identity, path }), { code: 'EADDRINUSE' });
  assert(existsSync(path));
  other.close();
  const file = join(dir, 'file');
  writeFileSync(file, 'mine');
  await assert.rejects(ControlServer.listen({ fabric: new FakeFabric(), identity, path: file }), { code: 'EEXIST' });
});

test('a client without a fabric is told so', async () => {
  await assert.rejects(new ControlClient(join(dir, 'none.sock')).nics(), {
    code: 'ENOENT',
    kind: 'environment',
    message: `no fabric is running at ${join(dir, 'none.sock')}`,
  });
});

test('every route is in the OpenAPI description, with an operationId and problems', async () => {
  const app = await buildApi(new FakeFabric(), identity);
  type Operation = { operationId: string; responses: object };
  const { paths } = app.swagger() as unknown as { paths: Record<string, Record<string, Operation>> };
  const operations = Object.values(paths).flatMap((p) => Object.values(p));
  assert.deepEqual(
    operations.map((o) => o.operationId).sort(),
    'addNic addPatch captureNic changeNic getCounters getFabric getMetrics getNetgraph getNic listNics listPatches listSwitches openNgctl removeNic removePatch runInNgctl runNgctl'.split(
      ' ',
    ),
  );
  for (const o of operations) assert('4XX' in o.responses || '4xx' in o.responses, o.operationId);
  await app.close();
});

const netgraph = { name: 'mine', commands: ['list', ['show', '-n', 'br0:'], 'fail', 'never'] };

test('commands of ngctl run in a session of their own, up to the first that fails', async () => {
  const fabric = new FakeFabric();
  await serve(fabric, async (client, path) => {
    assert.deepEqual(await client.netgraph(), { nodes: [] });
    const answer = await raw(path, 'POST', '/v1/netgraph/commands', JSON.stringify(netgraph));
    assert.equal(answer.status, 200);
    assert.deepEqual(
      (JSON.parse(answer.body) as { output: string; status: number }[]).map(({ output, status }) => [output, status]),
      [
        ['list\n', 0],
        ['show,-n,br0:\n', 0],
        ['fail\n', 71],
      ],
    );
    assert.equal(fabric.sessions, 0);
    for (const body of ['{}', '{"commands":"list"}', '{"commands":[1]}', '{"commands":[],"name":""}'])
      assert.equal((await raw(path, 'POST', '/v1/netgraph/commands', body)).status, 400, body);
  });
});

test('a session of ngctl says what comes to it, and ends with its connection', async () => {
  const fabric = new FakeFabric();
  await serve(fabric, async (client, path) => {
    const session = await client.openNgctl('mine');
    const texts: string[] = [];
    session.onText = (text) => void texts.push(text);
    assert.equal((await session.run(['list', '-l'])).output, 'list,-l\n');
    await eventually('the text', () => texts.length === 1);
    assert.deepEqual(texts, ['hello mine\n']);
    assert.equal(fabric.sessions, 1);
    session.close();
    await eventually('the end of the session', () => fabric.sessions === 0);
    const late = await raw(path, 'POST', '/v1/netgraph/session/7', '{"command":"list"}');
    assert.equal(late.status, 404);
    assert.match(late.body, /there is no session 7 of ngctl/);
  });
});
