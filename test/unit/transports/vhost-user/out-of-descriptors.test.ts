import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import * as M from '../../../../src/transports/vhost-user/messages.js';
import { tempDir } from '../../../support/temp-dir.js';
import { sleepStep, VhostUserClient } from '../../../support/vhost-user-client.js';

const server = fileURLToPath(new URL('../../../support/descriptor-starved-server.js', import.meta.url));

test('a process that has no descriptor left lets a front-end wait, and serves it when it has one again', async (t) => {
  const path = join(tempDir(t), 'nic.sock');
  const child = spawn('sh', ['-c', 'ulimit -n 64 && exec "$0" "$@"', process.execPath, server, path], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.after(() => child.kill('SIGKILL'));
  const lines = createInterface(child.stdout!)[Symbol.asyncIterator]();
  const line = async () => (await lines.next()).value as string;
  assert.equal(await line(), 'starved');
  const client = VhostUserClient.connect(path, sleepStep);
  t.after(() => client.close());
  client.send(M.VHOST_USER_GET_FEATURES);
  assert.match(await line(), /accept: accept4: .*EMFILE/);
  child.stdin!.write('free\n');
  const reply = client.receive();
  assert.equal(reply?.request, M.VHOST_USER_GET_FEATURES);
  client.close();
  child.stdin!.end();
  const [status] = (await once(child, 'exit')) as [number | null];
  assert.equal(status, 0);
});
