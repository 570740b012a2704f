import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { loadConfig } from '../../src/control/config.js';
import { Fabric } from '../../src/index.js';
import { eventually } from '../support/eventually.js';
import { tempDir } from '../support/temp-dir.js';
import { etherFrame } from '../support/test-guest.js';
import { sleepStep, stepUntil } from '../support/vhost-user-client.js';
import { VhostUserGuest } from '../support/vhost-user-guest.js';

const examples = new URL('../../examples/', import.meta.url);

/** Sends a frame, and gives what comes back. */
function ask(guest: VhostUserGuest, frame: Uint8Array): Buffer {
  guest.transmit(frame);
  const got: Uint8Array[] = [];
  stepUntil(sleepStep, () => got.push(...guest.receive()) > 0, 'an answer comes');
  return Buffer.from(got[0] as Uint8Array);
}

const hex = (text: string) => Buffer.from(text.replace(/\s/g, ''), 'hex');

/** RFC 1071 */
function sum(bytes: Uint8Array): number {
  let total = 0;
  for (let i = 0; i < bytes.length; i += 2) total += ((bytes[i] as number) << 8) | (bytes[i + 1] ?? 0);
  while (total > 0xffff) total = (total & 0xffff) + (total >>> 16);
  return total;
}

test('own-backend: a guest asks for 10.0.0.1 by ARP, and pings it', async (t) => {
  const socket = join(tempDir(t), 'vm1.sock');
  const backends = [new URL('own-backend.js', examples)];
  const fabric = await Fabric.start({ backends, nics: [{ backend: 'echo0', socket }] });
  t.after(() => fabric.close());
  const guest = VhostUserGuest.connect(socket, sleepStep);
  t.after(() => guest.close());

  const arp = hex('ffffffffffff 020000000001 0806 0001 0800 06 04 0001 020000000001 0a000002 000000000000 0a000001');
  const answer = ask(guest, Buffer.concat([arp, Buffer.alloc(18)]));
  assert.equal(
    answer.subarray(0, 42).toString('hex'),
    hex('020000000001 0200000000ee 0806 0001 0800 06 04 0002 0200000000ee 0a000001 020000000001 0a000002').toString(
      'hex',
    ),
  );

  for (let sequence = 0; sequence < 300; sequence += 37) {
    const ip = hex('4500 0054 1234 4000 4001 0000 0a000002 0a000001');
    ip.writeUInt16BE(~sum(ip) & 0xffff, 10);
    const icmp = Buffer.concat([hex('0800 0000 0001 0000'), Buffer.alloc(56, sequence)]);
    icmp.writeUInt16BE(sequence, 6);
    icmp.writeUInt16BE(~sum(icmp) & 0xffff, 2);
    const reply = ask(guest, Buffer.concat([hex('0200000000ee 020000000001 0800'), ip, icmp]));
    assert.equal(reply.subarray(26, 34).toString('hex'), '0a0000010a000002');
    assert.equal(reply[34], 0, 'echo reply');
    assert.equal(sum(reply.subarray(14, 34)), 0xffff, 'checksum of IP');
    assert.equal(sum(reply.subarray(34)), 0xffff, 'checksum of ICMP');
    assert.deepEqual(reply.subarray(38), icmp.subarray(4));
  }
  assert.equal(fabric.counters().echo0?.tx_drop_failed, 0);
});

test('two-nics: two guests talk, the counters are printed, Ctrl-C ends it', async (t) => {
  const dir = tempDir(t);
  const child = spawn(process.execPath, [fileURLToPath(new URL('two-nics.js', examples)), dir]);
  t.after(() => child.kill('SIGKILL'));
  let out = '';
  child.stdout.on('data', (chunk) => {
    out += chunk;
  });
  await eventually('it says what it waits for', () => out.includes('vm1 sent 0'));
  const [vm1, vm2] = ['vm1', 'vm2'].map((name) => VhostUserGuest.connect(join(dir, `${name}.sock`), sleepStep)) as [
    VhostUserGuest,
    VhostUserGuest,
  ];
  t.after(() => {
    vm1.close();
    vm2.close();
  });
  vm1.transmit(etherFrame(0x22, 0x11));
  stepUntil(sleepStep, () => vm2.receive().length > 0, 'the frame arrives');
  await eventually('the frame is counted', () => out.includes('vm1 sent 1 received 0; vm2 sent 0 received 1'));
  child.kill('SIGINT');
  const [status] = await once(child, 'exit');
  assert.equal(status, 0);
  assert(!existsSync(join(dir, 'vm1.sock')));
});

test('fabric.yaml is a right fabric file', () => {
  const file = fileURLToPath(new URL('../../examples/fabric.yaml', examples));
  assert.deepEqual(
    loadConfig(file).nics.map((nic) => nic.backend),
    ['vale0:vm1', 'vale0:vm2', 'vale0:vm3'],
  );
});

test('own-node-type: a node of a type of ones own lets so many frames through, and says how many it dropped', async (t) => {
  const dir = tempDir(t);
  const fabric = await Fabric.start({
    backends: [new URL('own-node-type.js', examples)],
    netgraph: [
      'mkpeer hub temporary x',
      'name .:temporary outside',
      'msg outside: setpersistent',
      'mkpeer outside: police y out',
      'name outside:y police',
      'msg police: set { rate=50 }',
    ],
    nics: [
      { backend: 'netgraph', backendOptions: { path: 'police:', peerhook: 'in' }, socket: join(dir, 'in.sock') },
      { backend: 'netgraph', backendOptions: { path: 'outside:', peerhook: 'z' }, socket: join(dir, 'out.sock') },
    ],
  });
  t.after(() => fabric.close());
  const [inner, outer] = ['in', 'out'].map((name) => {
    const guest = VhostUserGuest.connect(join(dir, `${name}.sock`), sleepStep);
    t.after(() => guest.close());
    return guest;
  }) as [VhostUserGuest, VhostUserGuest];
  for (let i = 0; i < 60; i++) inner.transmit(etherFrame(1, 2, 60));
  const got: Uint8Array[] = [];
  stepUntil(sleepStep, () => got.push(...outer.receive()) >= 5, 'as many as may pass at once');
  const report = await fabric.runNgctl(['msg police: get']);
  assert.match(report, /rate=50 dropped=\d+/);
  await assert.rejects(fabric.runNgctl(['msg police: set { rate=0 }']), /Invalid argument/);
});
