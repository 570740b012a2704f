/**
 * A process that has a netmap port of somebody else's fabric open.
 *
 *   port-client SOCKET NAME hold             opens NAME, prints {"opened":…}, and stays
 *   port-client SOCKET NAME echo             sends back what it receives
 *   port-client SOCKET NAME send COUNT SIZE  sends COUNT broadcast frames numbered from 0, prints {"sent":COUNT}, stays
 */
import { nmOpen, POLLERR, POLLIN, POLLOUT } from '../../src/index.js';

const [socket = '', name = '', what = 'hold', count = '0', size = '60'] = process.argv.slice(2);
const port = nmOpen(name, { socket });
const say = (message: object) => process.stdout.write(`${JSON.stringify(message)}\n`);
say({ opened: port.name, tx: port.txRings.length, rx: port.rxRings.length, memId: port.memId });

function send(frames: number): void {
  const ring = port.txRings[0]!;
  const { u8 } = ring.window;
  for (let i = 0; i < frames; ) {
    port.wait(POLLOUT, 1000);
    for (; ring.space() > 0 && i < frames; i++) {
      const off = ring.slotOff(ring.head);
      u8.fill(0xff, off, off + 6);
      u8.set([2, 0, 0, 0, 0, 7, 0x88, 0xb5, i >> 8, i & 0xff], off + 6);
      ring.setLenAndFlags(ring.head, Number(size), 0);
      ring.advance(1);
    }
    port.txsync();
  }
  say({ sent: frames });
}

function echo(): void {
  const [rx, tx] = [port.rxRings[0]!, port.txRings[0]!];
  while ((port.wait(POLLIN, -1) & POLLERR) === 0) {
    for (; rx.space() > 0 && tx.space() > 0; rx.advance(1), tx.advance(1)) {
      const [from, to] = [rx.slotOff(rx.head), tx.slotOff(tx.head)];
      tx.window.kernel.copy(to, from, rx.len(rx.head));
      tx.window.u8.copyWithin(to, from + 6, from + 12);
      tx.window.u8.copyWithin(to + 6, from, from + 6);
      tx.setLenAndFlags(tx.head, rx.len(rx.head), 0);
    }
    port.txsync();
  }
}

if (what === 'send') send(Number(count));
if (what === 'echo') echo();
// until it is killed
setInterval(() => {}, 60_000);
