/**
 * What netmap's tool for functional tests does with a port: sends packets of a length and a filling, and
 * checks that what comes is just that. Ports stay open between two operations, as with its descriptor server.
 */
import assert from 'node:assert/strict';
import { NS_BUF_CHANGED, NS_MOREFRAG } from '../../src/netmap/abi.js';
import { type Netmap, type NetmapOpenOptions, netmapOf } from '../../src/netmap/netmap.js';
import type { NetmapPort } from '../../src/netmap/port.js';
import type { NetmapRing } from '../../src/netmap/ring.js';
import { type TestRuntime, testRuntime } from './runtime.js';

/** `LEN:FILL:NUM`, -s, -d and the sequential filling of the tool. */
export interface Packets {
  len: number;
  fill: string;
  num?: number;
  /** each packet is filled with the letter after that of the one before */
  seq?: boolean;
  src?: string;
  dst?: string;
}

const BROADCAST = 'ff:ff:ff:ff:ff:ff';
const ETHERTYPE_IPV4 = [8, 0];

function mac(text: string): number[] {
  return text.split(':').map((byte) => Number.parseInt(byte, 16));
}

/** The packets that are sent, or expected. */
export function packets({
  len,
  fill,
  num = 1,
  seq = false,
  src = '02:00:00:00:00:01',
  dst = BROADCAST,
}: Packets): Uint8Array[] {
  return Array.from({ length: num }, (_, i) => {
    const bytes = new Uint8Array(len).fill(fill.charCodeAt(0) + (seq ? i : 0));
    bytes.set([...mac(dst), ...mac(src), ...ETHERTYPE_IPV4]);
    return bytes;
  });
}

export class Functional {
  readonly runtime: TestRuntime = testRuntime();
  readonly netmap: Netmap = netmapOf(this.runtime);
  readonly #open = new Map<string, NetmapPort>();

  /** The port of that name, opened if it is not yet (-i). */
  port(name: string, options: NetmapOpenOptions = {}): NetmapPort {
    const found = this.#open.get(name);
    if (found !== undefined) return found;
    const port = this.netmap.open(name, options);
    this.#open.set(name, port);
    return port;
  }

  /** Opens it once more, and closes it (-I); throws where that is refused. */
  openAnew(name: string, options: NetmapOpenOptions = {}): void {
    this.netmap.open(name, options).close();
  }

  /** Sends (-t). False when there is no room for all of them: those that fit are sent. */
  send(name: string, what: Packets, { extraBufs = 0, fragment = 2048 } = {}): boolean {
    const port = this.port(name, { extraBufs });
    const extra = new ExtraBuffers(port);
    const tx = port.txRings[0]!;
    for (const bytes of packets(what)) {
      port.txsync();
      if (tx.space() < Math.ceil(bytes.length / fragment)) return false;
      put(tx, bytes, fragment, extra);
      port.txsync();
    }
    extra.giveBack();
    return true;
  }

  /** Takes as many packets as are expected, and no more (-r). False when fewer come; others than these throw. */
  receive(name: string, what: Packets): boolean {
    const port = this.port(name);
    for (const expected of packets(what)) {
      const got = takeOne(port);
      if (got === undefined) return false;
      assert.deepEqual(got, expected);
    }
    port.rxsync();
    return true;
  }

  /** Nothing at all comes (-n). */
  receivesNothing(name: string): boolean {
    return takeOne(this.port(name)) === undefined;
  }

  closePort(name: string): void {
    this.#open.get(name)?.close();
    this.#open.delete(name);
  }

  /** Closes all that is open, and checks that nothing is left of it. */
  close(): void {
    for (const port of this.#open.values()) port.close();
    for (const { name, kind, switchName } of this.netmap.list()) {
      if (kind !== 'persistent') continue;
      if (switchName !== '') this.netmap.detach(switchName, name);
      this.netmap.delif(name);
    }
    assert.deepEqual(this.netmap.list(), []);
    assert.deepEqual(this.runtime.counters.directory(), []);
    this.runtime.close();
  }
}

/** The list that begins at ni_bufs_head: a packet is put into the first of them, which changes places with the slot's. */
class ExtraBuffers {
  readonly #port: NetmapPort;
  readonly #list: number[] = [];
  #swapped = 0;

  constructor(port: NetmapPort) {
    this.#port = port;
    const { memory } = port;
    for (let idx = port.bufsHead; idx !== 0; idx = memory.window.u32[memory.bufOff(idx) >>> 2]!) this.#list.push(idx);
    assert.equal(new Set(this.#list).size, this.#list.length);
  }

  /** Puts one into slot `at`. */
  swap(ring: NetmapRing, at: number): number {
    if (this.#list.length === 0) return 0;
    const k = this.#swapped++ % this.#list.length;
    const own = ring.bufIdx(at);
    ring.setBufIdx(at, this.#list[k]!);
    this.#list[k] = own;
    return NS_BUF_CHANGED;
  }

  /** Links the list anew: its buffers are not what they were. */
  giveBack(): void {
    const { memory } = this.#port;
    const { u32 } = memory.window;
    this.#list.forEach((idx, i) => {
      u32[memory.bufOff(idx) >>> 2] = this.#list[i + 1] ?? 0;
    });
    this.#port.bufsHead = this.#list[0] ?? 0;
  }
}

function put(ring: NetmapRing, bytes: Uint8Array, fragment: number, extra: ExtraBuffers): void {
  let at = ring.head;
  for (let off = 0; off < bytes.length; off += fragment) {
    const part = bytes.subarray(off, off + fragment);
    const changed = extra.swap(ring, at);
    ring.window.u8.set(part, ring.slotOff(at));
    ring.setLenAndFlags(at, part.length, changed | (off + fragment < bytes.length ? NS_MOREFRAG : 0));
    at = ring.next(at);
  }
  ring.cur = at;
  ring.head = at;
}

/** The next packet of any receive ring, put together; undefined when there is none. */
function takeOne(port: NetmapPort): Uint8Array | undefined {
  port.rxsync();
  for (const rx of port.rxRings) {
    const parts: number[] = [];
    for (let at = rx.head; at !== rx.tail; ) {
      parts.push(...rx.window.u8.subarray(rx.slotOff(at), rx.slotOff(at) + rx.len(at)));
      const more = (rx.slotFlags(at) & NS_MOREFRAG) !== 0;
      at = rx.next(at);
      if (more) continue;
      rx.cur = at;
      rx.head = at;
      return Uint8Array.from(parts);
    }
  }
  return undefined;
}
