/**
 * A process that joins the NIC at the path given and sends broadcasts as fast as it can until it is
 * killed: node blasting-guest.js SOCKET. Prints "up" when the first frame has been sent.
 */
import { etherFrame } from './test-guest.js';
import { sleepStep } from './vhost-user-client.js';
import { VhostUserGuest } from './vhost-user-guest.js';

const guest = VhostUserGuest.connect(process.argv[2] as string, sleepStep, { queueSize: 256 });
const frames = Array.from({ length: 32 }, (_, i) => etherFrame(0xff, 9, 60 + i, i));

function blast(): void {
  for (let i = 0; i < 1000; i++) {
    while (guest.tx.reclaim());
    if (guest.tx.freeDescriptors >= frames.length) guest.transmit(...frames);
    guest.receive();
  }
  setImmediate(blast);
}

guest.transmit(...frames);
process.stdout.write('up\n');
blast();
