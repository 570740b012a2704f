/**
 * Hostile clients of the port socket: messages whole and broken, and scribbling over the shared region. Whatever
 * they do, the fabric goes on, a decent client is served, and when they have gone nothing of theirs is left.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Mapping } from '../../src/memory/window.js';
import { netmapOf } from '../../src/netmap/netmap.js';
import { encodeMessage, requestTypes } from '../../src/netmap/port-socket/messages.js';
import { eventfdWrite } from '../../src/sys/eventfd.js';
import { type Fd, openFdCount } from '../../src/sys/fd.js';
import { PortServerRig, type RawPortClient, type RawReply } from '../support/raw-port-client.js';
import { type Decisions, type FuzzTarget, fuzzMain } from './harness.js';

const names = [
  'vale0:a',
  'vale0:b-0',
  'vale0:a{1',
  'vale0:a}1',
  'netmap:v0',
  'v0',
  'vale0:v0',
  'netmap:x{2/T',
  '',
  '{',
  'vale0:',
];
const keys = ['txRings', 'rxRings', 'txSlots', 'rxSlots', 'extraBufs', 'hdrLen', 'memId', 'host', 'acceptVnetHdr'];
const values = [0, 1, 2, 16, 17, 1024, 4096, 65536, -1, 1.5, 1e300, '1', null, true, {}, []];

interface Held {
  client: RawPortClient;
  fds: Fd[];
  mapping: Mapping | undefined;
}

class PortSocketTarget implements FuzzTarget {
  readonly name = 'port-socket';
  readonly maxBytes = 120;
  readonly #dir = mkdtempSync(join(tmpdir(), 'netbe-fuzz-'));
  readonly #rig = new PortServerRig(join(this.#dir, 'p.netmap'));
  readonly #decent = this.#rig.connect();
  #before = 0;

  run(input: Decisions): void {
    // what is made once and kept: the context for signals, for instance
    if (this.#before === 0) {
      const warm = this.#rig.connect();
      for (const fd of warm.ask('register', 'vale9:warm').fds) fd.close();
      warm.close();
    }
    this.#before = openFdCount();
    const held: Held[] = [{ client: this.#rig.connect(), fds: [], mapping: undefined }];
    while (!input.done) this.#act(input, held);
    for (const one of held) release(one);
    this.#check();
  }

  #act(input: Decisions, held: Held[]): void {
    const one = input.pick(held);
    switch (input.below(6)) {
      case 0:
        if (held.length < 4) held.push({ client: this.#rig.connect(), fds: [], mapping: undefined });
        break;
      case 1:
        one.client.send(input.take(1 + input.below(12)));
        break;
      case 2:
        this.#scribble(input, one);
        break;
      default:
        this.#request(input, one);
    }
    for (let reply = one.client.receive(); reply !== undefined; reply = one.client.receive()) this.#keep(one, reply);
  }

  #request(input: Decisions, one: Held): void {
    const body: Record<string, unknown> = {};
    for (let n = input.below(3); n > 0; n--) body[input.pick(keys)] = input.pick(values);
    const message = encodeMessage({ version: 1, type: input.pick(requestTypes), name: input.pick(names), body });
    const damaged = input.oneIn(12);
    if (damaged) message[input.below(message.length)] = input.u8();
    const cut = input.oneIn(12) ? input.below(message.length) : message.length;
    one.client.send(message.subarray(0, cut), input.oneIn(10) ? [0] : []);
  }

  #keep(one: Held, { ok, body, fds }: RawReply): void {
    if (!ok || fds.length !== 3) {
      for (const fd of fds) fd.close();
      return;
    }
    one.fds = fds;
    one.mapping = this.#rig.runtime.windows.mapFile({
      fd: fds[0]!.number,
      fileOffset: 0,
      length: body.memSize as number,
      pageSize: 4096,
    });
  }

  /** Words anywhere before the buffers: interfaces, rings, slots, CSBs. */
  #scribble(input: Decisions, { mapping, fds }: Held): void {
    if (mapping === undefined) return;
    const { window, off, length } = mapping;
    for (let n = 1 + input.below(8); n > 0; n--) {
      const at = (input.u32() >>> input.below(24)) % Math.min(length, 1 << 22);
      window.u32[(off + at) >>> 2] = input.oneIn(3) ? input.u32() : input.below(5000);
    }
    eventfdWrite(fds[1]!.number);
    this.#rig.step();
  }

  #check(): void {
    this.#rig.step();
    const { runtime, server } = this.#rig;
    assert.equal(this.#decent.ask('vale-list').ok, true);
    for (const { name, kind } of netmapOf(runtime).list()) {
      assert.equal(kind, 'persistent', `${name} is left`);
      const attached =
        netmapOf(runtime)
          .list()
          .find((port) => port.name === name)?.switchName ?? '';
      if (attached !== '') this.#decent.ask('vale-detach', `${attached}:${name}`);
      assert.equal(this.#decent.ask('vale-delif', name).ok, true);
    }
    assert.equal(server.connections, 1);
    assert.equal(openFdCount(), this.#before);
    assert.deepEqual(
      runtime.records.filter(({ level }) => level === 'error'),
      [],
    );
  }

  close(): void {
    this.#decent.close();
    this.#rig.close();
    rmSync(this.#dir, { recursive: true, force: true });
  }
}

function release({ client, fds, mapping }: Held): void {
  mapping?.close();
  for (const fd of fds) fd.close();
  client.close();
}

export function makeTarget(): FuzzTarget {
  return new PortSocketTarget();
}

if (process.argv[1] === fileURLToPath(import.meta.url)) fuzzMain(makeTarget);
