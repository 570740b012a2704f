/** A guest's memory changes under its running NIC: QEMU adds and removes it while TCP goes on. */
import assert from 'node:assert/strict';
import { it } from 'node:test';
import { Lab } from '../support/guest/lab.js';
import { configure, iperf, until, waitForPing } from '../support/guest/net.js';
import { Qmp } from '../support/guest/qmp.js';

const MIB = 2 ** 20;

it('memory that QEMU plugs and unplugs while TCP goes on is mapped and unmapped', { timeout: 240_000 }, async () => {
  await using lab = await Lab.start([{ name: 'qemu', strictMemory: true }, { name: 'uml' }]);
  const qmpPath = `${lab.dir}/qmp.sock`;
  const qemu = await lab.qemu('qemu', ['qemu'], { memoryMb: 192, maxMemoryMb: 1024, qmpPath });
  const uml = await lab.uml('uml');
  await configure(qemu, 'eth0', { address: '10.0.0.1/24' });
  await configure(uml, 'eth0', { address: '10.0.0.2/24' });
  await waitForPing(qemu, '10.0.0.2');
  const memory = async () => (await lab.fabric.show()).nics.find((nic) => nic.name === 'qemu')!.transport.memory;
  assert.equal((await memory()).bytes, 192 * MIB);

  const qmp = await Qmp.connect(qmpPath);
  try {
    const transfer = iperf(qemu, uml, '10.0.0.2', { seconds: 6 });
    for (const n of [1, 2]) {
      await qmp.run('object-add', { 'qom-type': 'memory-backend-memfd', id: `m${n}`, size: 128 * MIB, share: true });
      await qmp.run('device_add', { driver: 'pc-dimm', id: `d${n}`, memdev: `m${n}` });
    }
    await until(async () => (await memory()).bytes === 448 * MIB, 'both are mapped');
    await qmp.run('device_del', { id: 'd2' });
    await until(async () => (await memory()).bytes === 320 * MIB, 'one is unmapped');
    assert.ok((await transfer).bytes > 0);
    assert.equal((await memory()).sealed, true);
  } finally {
    qmp.close();
  }
  await waitForPing(qemu, '10.0.0.2');
  await waitForPing(uml, '10.0.0.1');
});
