/** `netbe run` killed and started again under running guests. */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { FabricProcess } from '../support/guest/fabric-process.js';
import type { Guest } from '../support/guest/guest.js';
import { guestNic, labNics } from '../support/guest/lab.js';
import {
  configure,
  iperf,
  macOf,
  ping,
  startIperfServer,
  statistic,
  until,
  waitForPing,
} from '../support/guest/net.js';
import { startQemu } from '../support/guest/qemu.js';
import { startUml } from '../support/guest/uml.js';

describe('a fabric restarted under running guests', { timeout: 240_000 }, () => {
  const dir = mkdtempSync(join(tmpdir(), 'netbe-restart-'));
  const nics = labNics(dir, [{ name: 'a' }, { name: 'b' }, { name: 'uml' }]);
  const fabric = new FabricProcess(dir, nics);
  const guests: Guest[] = [];
  let a: Guest;
  let b: Guest;

  before(async () => {
    await fabric.start();
    // as the README has it: QEMU with the arguments that netbe prints
    for (const nic of ['a', 'b']) {
      const printed = await fabric.netbe('qemu-args', '--qemu-version', '7.2', '--mem', '192M', nic);
      guests.push(await startQemu({ name: nic, netbeArgs: printed.trim().split(' ') }));
    }
    [a, b] = guests as [Guest, Guest];
    await configure(a, 'eth0', { address: '10.0.0.1/24' });
    await configure(b, 'eth0', { address: '10.0.0.2/24' });
  });

  after(async () => {
    await Promise.all(guests.map((guest) => guest.close()));
    await fabric.stop('SIGKILL');
    rmSync(dir, { recursive: true, force: true });
  });

  it('runs QEMU guests with the arguments of netbe qemu-args', async () => {
    assert.equal(await macOf(a, 'eth0'), '02:00:00:00:00:01');
    assert.equal((await ping(a, '10.0.0.2')).received, 3);
  });

  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    it(`resumes a TCP transfer after ${signal}, without a word to the guests`, async () => {
      const port = await startIperfServer(b);
      await a.sh(`iperf3 -c 10.0.0.2 -p ${port} -t 60 >/dev/null 2>&1 </dev/null &`);
      const received = (): Promise<number> => statistic(b, 'eth0', 'rx_bytes');
      const atStart = await received();
      await until(async () => (await received()) > atStart + 1_000_000, 'a transfer under way');

      const status = await fabric.stop(signal);
      assert.equal(status, signal === 'SIGKILL' ? null : 0);
      await fabric.start();
      const atRestart = await received();
      await until(async () => (await received()) > atRestart + 1_000_000, 'the transfer to go on', 60_000);
      await a.run('killall iperf3');
      await waitForPing(a, '10.0.0.2');
      await waitForPing(b, '10.0.0.1');
    });
  }

  it('takes a user-mode-linux guest that comes after the restart', async () => {
    const printed = await fabric.netbe('uml-args', 'uml');
    const uml = await startUml({ name: 'uml', netbeArgs: printed.trim().split(' ') });
    guests.push(uml);
    await configure(uml, 'eth0', { address: '10.0.0.3/24' });
    await waitForPing(uml, '10.0.0.1');
    assert.ok((await iperf(b, uml, '10.0.0.3', { seconds: 1 })).bytes > 1_000_000);
    assert.match(await fabric.netbe('ports'), new RegExp(`^uml +vale0:uml +up +running \\(pid ${uml.pid}\\)`, 'm'));
    assert.match(await fabric.netbe('show', 'a'), /02:00:00:00:00:01/);
  });

  it('goes on serving when guests come and go', async () => {
    await b.kill();
    await waitForPing(a, '10.0.0.3');
    const again = await startQemu({ name: 'b', nics: [guestNic(nics, 'b')] });
    guests.push(again);
    await configure(again, 'eth0', { address: '10.0.0.2/24' });
    await waitForPing(a, '10.0.0.2');
  });
});
