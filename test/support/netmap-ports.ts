/** Users of netmap ports, for tests: frames into slots and out of them. */
import assert from 'node:assert/strict';
import { NS_MOREFRAG } from '../../src/netmap/abi.js';
import { type Netmap, type NetmapOpenOptions, netmapOf } from '../../src/netmap/netmap.js';
import type { NetmapPort } from '../../src/netmap/port.js';
import type { NetmapRing } from '../../src/netmap/ring.js';
import { valeSwitches } from '../../src/netmap/vale/switches.js';
import { type TestRuntime, testRuntime } from './runtime.js';

/** A netmap of its own, whose ports are closed, and looked after, at the end. */
export class NetmapRig {
  readonly runtime: TestRuntime;
  readonly netmap: Netmap;
  readonly #opened: NetmapPort[] = [];

  constructor(options: { windowBytes?: number } = {}) {
    this.runtime = testRuntime(options);
    this.netmap = netmapOf(this.runtime);
  }

  open(name: string, options: NetmapOpenOptions = {}): NetmapPort {
    const port = this.netmap.open(name, options);
    this.#opened.push(port);
    return port;
  }

  /** Closes all ports. Nothing may be left of them. */
  closePorts(): void {
    const { netmap, runtime } = this;
    for (const port of this.#opened.splice(0)) port.close();
    for (const { name, kind, switchName } of netmap.list()) {
      if (kind !== 'persistent') continue;
      if (switchName !== '') netmap.detach(switchName, name);
      netmap.delif(name);
    }
    assert.deepEqual(netmap.list(), [], 'a port goes with its last user');
    assert.deepEqual(valeSwitches(runtime).list(), [], 'a switch goes with its last port');
    assert.deepEqual(runtime.counters.directory(), []);
    const mapped = runtime.windows.windows.reduce((sum, { rangeCount }) => sum + rangeCount, 0);
    assert.equal(mapped, 0, 'no memory is left mapped');
  }

  close(): void {
    this.closePorts();
    this.runtime.close();
  }
}

/** A frame from address `from` to address `to` (last bytes; 0xff: broadcast), with `len` bytes in all. */
export function frame(to: number, from: number, len = 60, fill = to): Uint8Array {
  const bytes = new Uint8Array(len).fill(fill);
  bytes.set(to === 0xff ? [255, 255, 255, 255, 255, 255] : [2, 0, 0, 0, 0, to]);
  bytes.set([2, 0, 0, 0, 0, from, 8, 0], 6);
  return bytes;
}

/** Puts a frame into the next slots of a transmit ring, in pieces of `piece` bytes. */
export function put(ring: NetmapRing, bytes: Uint8Array, { piece = ring.bufSize, flags = 0 } = {}): void {
  let at = ring.head;
  for (let off = 0; off < bytes.length; off += piece) {
    const part = bytes.subarray(off, off + piece);
    ring.window.u8.set(part, ring.slotOff(at));
    const more = off + piece < bytes.length ? NS_MOREFRAG : 0;
    ring.setLenAndFlags(at, part.length, more | flags);
    at = ring.next(at);
  }
  ring.head = at;
  ring.cur = at;
}

/** Puts a frame into a ring and sends it. */
export function send(
  port: NetmapPort,
  bytes: Uint8Array,
  options: { ring?: number; piece?: number; flags?: number } = {},
) {
  put(port.txRings[options.ring ?? 0]!, bytes, options);
  port.txsync();
}

/** The frames that wait in a receive ring; they are given back. */
export function take(port: NetmapPort, ring = 0): Uint8Array[] {
  port.rxsync();
  const rx = port.rxRings[ring]!;
  const frames: Uint8Array[] = [];
  let parts: number[] = [];
  while (rx.space() > 0) {
    const at = rx.head;
    const off = rx.slotOff(at);
    parts.push(...rx.window.u8.subarray(off, off + rx.len(at)));
    if ((rx.slotFlags(at) & NS_MOREFRAG) === 0) {
      frames.push(Uint8Array.from(parts));
      parts = [];
    }
    rx.advance(1);
  }
  port.rxsync();
  return frames;
}
