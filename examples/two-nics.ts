/**
 * Two NICs on one VALE switch, from a program: node dist/examples/two-nics.js [FOLDER for the sockets]
 *
 * Prints how guests join, then every change of the counters, until Ctrl-C.
 */
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Fabric } from 'netbe';

const folder = resolve(process.argv[2] ?? '.');
const fabric = await Fabric.start();
for (const name of ['vm1', 'vm2']) {
  const nic = await fabric.addNic({ backend: `vale0:${name}`, socket: join(folder, `${name}.sock`) });
  console.log(`${nic.name}: ${nic.device.mac}, waiting for a guest on ${nic.socket}`);
}

let running = true;
process.once('SIGINT', () => {
  running = false;
});
let last = '';
while (running) {
  const { vm1, vm2 } = fabric.counters();
  const line = `vm1 sent ${vm1?.tx_frames} received ${vm1?.rx_frames}; vm2 sent ${vm2?.tx_frames} received ${vm2?.rx_frames}`;
  if (line !== last) console.log(line);
  last = line;
  await sleep(100);
}
await fabric.close();
