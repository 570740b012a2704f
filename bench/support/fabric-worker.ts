/**
 * The measured side of the benches that go through vhost-user: a fabric with NICs on one VALE switch,
 * as `netbe run` has it in its fabric thread.
 *
 *   fabric-worker IDLE SOCKET…      a NIC for each socket, and IDLE further ones in the folder of the
 *       first, whose guests are connected and ready and never send; says {"ready":true} and ends
 *       with its standard input
 */
import { dirname, join } from 'node:path';
import { VhostUserGuest } from '../../test/support/vhost-user-guest.js';
import { quietFabric, serveFabric } from './fabric-process.js';

const [idle = '0', ...sockets] = process.argv.slice(2);
const core = quietFabric();

function addNic(name: string, socket: string): void {
  core.addNic({ name, emulation: 'virtio-net', backend: `vale0:${name}`, socket });
}

sockets.forEach((socket, i) => {
  addNic(`vm${i}`, socket);
});
const guests = Array.from({ length: Number(idle) }, (_, i) => {
  const socket = join(dirname(sockets[0]!), `idle${i}-${process.pid}.sock`);
  addNic(`idle${i}`, socket);
  return VhostUserGuest.connect(socket, () => core.step(0), { style: 'dpdk' });
});

serveFabric(core, () => {
  for (const guest of guests) guest.close();
});
