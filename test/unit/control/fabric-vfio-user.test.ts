/** NICs of a fabric that are PCI devices: made, shown, captured, unplugged and taken away like any other. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { FabricCore } from '../../../src/control/fabric-core.js';
import type { NicSpec } from '../../../src/control/fabric-types.js';
import { createFrameRing } from '../../../src/engine/frame-ring.js';
import { openFdCount } from '../../../src/sys/fd.js';
import { recordingLog } from '../../support/log-recorder.js';
import { tempDir } from '../../support/temp-dir.js';
import { CMD, VfioUserClient } from '../../support/vfio-user-client.js';

function makeCore(t: TestContext): { core: FabricCore; dir: string; clients: VfioUserClient[] } {
  const fdsBefore = openFdCount();
  const clients: VfioUserClient[] = [];
  const core = new FabricCore({ log: recordingLog(), poll: { spinUs: 0 } });
  t.after(() => {
    for (const client of clients) client.close();
    core.close();
    assert.equal(openFdCount(), fdsBefore, 'every descriptor is closed');
  });
  return { core, dir: tempDir(t), clients };
}

const kinds: Record<string, Partial<NicSpec>> = {
  e1000: { emulation: 'e1000' },
  'virtio-net over vfio-user': { transport: 'vfio-user' },
};

for (const [name, kind] of Object.entries(kinds))
  test(`${name}: a client finds a network card, and show finds the client`, (t) => {
    const { core, dir, clients } = makeCore(t);
    const socket = join(dir, 'vm1.sock');
    core.addNic({ backend: 'vale0:vm1', socket, mtu: 1500, ...kind });
    const vm = VfioUserClient.connect(socket, () => void core.step(0));
    clients.push(vm);
    vm.version();
    const classCode = vm.readRegion(7, 8, 4).readUInt32LE(0) >>> 8;
    assert.equal(classCode, 0x020000);
    const [nic] = core.show().nics;
    assert.equal(nic?.transport.kind, 'vfio-user');
    assert.equal(nic?.transport.state, 'connected');
    assert.equal(nic?.transport.peerPid, process.pid);
    assert.equal(nic?.device.link, 'up');
    assert.equal(nic?.device.mtu, 1500);
    assert.equal(nic?.device.queues.length, 2);
    core.setLink('vm1', false);
    assert.equal(core.show().nics[0]?.device.link, 'down');
    core.startCapture('vm1', 1, createFrameRing(4096), 64);
    core.stopCapture('vm1', 1);
    vm.get(CMD.DEVICE_RESET);
    core.removeNic('vm1');
    assert.ok(vm.endsHere());
    assert.ok(!existsSync(socket));
    // everything that it had by name is free again
    core.addNic({ backend: 'vale0:vm1', socket, ...kind });
  });

for (const [name, kind] of Object.entries(kinds))
  test(`${name}: a socket that cannot be made leaves nothing behind`, (t) => {
    const { core, dir } = makeCore(t);
    const add = (socket: string) => core.addNic({ name: 'vm1', backend: 'vale0:vm1', socket, ...kind });
    assert.throws(() => add(join(dir, 'missing', 'vm1.sock')), { code: 'ENOENT' });
    add(join(dir, 'vm1.sock'));
  });

test('a backend that cannot be opened leaves nothing behind', (t) => {
  const { core, dir } = makeCore(t);
  for (const kind of Object.values(kinds)) {
    const add = (backend: string) => core.addNic({ name: 'vm1', backend, socket: join(dir, 'vm1.sock'), ...kind });
    assert.throws(() => add('nothing0'), { code: 'EINVAL' });
    add('vale0:vm1');
    core.removeNic('vm1');
  }
});
