/**
 * The objectives of netmap's own functional tests (its utils/tests) about monitors, by their names: what a
 * monitor of each kind sees of each kind of port, and when.
 */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { NS_TXMON } from '../../../src/netmap/abi.js';
import { Functional, type Packets } from '../../support/functional.js';

let functional: Functional;
const send = (name: string, what: Packets): boolean => functional.send(name, what);
const receive = (name: string, what: Packets): boolean => functional.receive(name, what);

beforeEach(() => {
  functional = new Functional();
});
afterEach(() => functional.close());

interface Ports {
  /** the port that is watched */
  port: string;
  /** its name to which flags of a monitor are added */
  watched: string;
  /** who sends to it, and receives from it */
  peer: string;
  persistent?: boolean;
}

const kinds: Record<string, Ports> = {
  ephemeral_vale_port: { port: 'vale0:v0', watched: 'vale0:v0', peer: 'vale0:v1' },
  persistent_vale_port: { port: 'vale0:v0', watched: 'netmap:v0', peer: 'vale0:v1', persistent: true },
  pipe: { port: 'netmap:pipe{1', watched: 'netmap:pipe{1', peer: 'netmap:pipe}1' },
};

/** The test has the port, its peer and the monitor open. */
function open({ port, watched, peer, persistent }: Ports, flag: string): string {
  if (persistent) {
    functional.netmap.newif('v0');
    functional.netmap.attach('vale0', 'v0');
  }
  const monitor = `${watched}/${flag}`;
  functional.port(port);
  functional.port(monitor);
  functional.port(peer);
  return monitor;
}

/** Are the frames that a monitor has seen those that its port sent? */
function seenAsSent(monitor: string): boolean {
  const rx = functional.port(monitor).rxRings[0]!;
  const last = rx.head === 0 ? rx.numSlots - 1 : rx.head - 1;
  return (rx.slotFlags(last) & NS_TXMON) !== 0;
}

for (const [variant, what] of [
  ['one packet', { len: 150, fill: 'd' }],
  ['twenty', { len: 150, fill: 'd', num: 20, seq: true }],
] as [string, Packets][])
  describe(variant, () => {
    for (const [i, kind] of ['ephemeral_vale_port', 'persistent_vale_port', 'pipe'].entries()) {
      const ports = kinds[kind]!;
      const { port, peer } = ports;
      const number = (first: number): string => String(first + i).padStart(3, '0');

      test(`${number(12)}_rec_cp_mon_${kind}: a copy of what comes, before the port's user has looked`, () => {
        const monitor = open(ports, 'r');
        assert.ok(send(peer, what));
        assert.ok(receive(monitor, what));
        assert.equal(seenAsSent(monitor), false);
        assert.ok(receive(port, what));
        assert.ok(functional.receivesNothing(monitor), 'once, not again when it is taken');
      });

      test(`${number(15)}_rec_zcp_mon_${kind}: what came, when the port's user is done with it`, () => {
        const monitor = open(ports, 'z');
        assert.ok(send(peer, what));
        assert.ok(functional.receivesNothing(monitor));
        assert.ok(receive(port, what));
        assert.ok(receive(monitor, what));
        assert.equal(seenAsSent(monitor), false);
      });

      test(`${number(18)}_send_cp_mon_${kind}: a copy of what is sent, when it is sent`, () => {
        const monitor = open(ports, 't');
        assert.ok(send(port, what));
        assert.ok(receive(monitor, what));
        assert.equal(seenAsSent(monitor), true);
        assert.ok(receive(peer, what));
      });
    }

    for (const [number, kind] of [
      ['025', 'ephemeral_vale_port'],
      ['026', 'persistent_vale_port'],
    ] as const)
      test(`${number}_send_zcp_mon_${kind}: what is sent, which a switch is done with at once`, () => {
        const ports = kinds[kind]!;
        const monitor = open(ports, 'z');
        assert.ok(send(ports.port, what));
        assert.ok(receive(monitor, what));
        assert.equal(seenAsSent(monitor), true);
        assert.ok(receive(ports.peer, what));
      });

    test('027_send_zcp_mon_pipe: what is sent, when the other end has given it back', () => {
      const ports = kinds.pipe!;
      const monitor = open(ports, 'z');
      assert.ok(send(ports.port, what));
      assert.ok(functional.receivesNothing(monitor));
      assert.ok(receive(ports.peer, what));
      // the next packet's txsync finds it given back
      assert.ok(send(ports.port, what));
      assert.ok(receive(monitor, what));
      assert.equal(seenAsSent(monitor), true);
    });
  });
