/**
 * An interface of the host by its rings: netmap:IF its wire, netmap:IF^ what the host's stack sends and takes,
 * netmap:IF* both. Each side is taken when its rings get their first user, and given back with the last.
 *
 * One ring each way a side: which of the kernel's queues frames come from and go to, netmap/host knows. A
 * receive ring without room leaves frames with the kernel, which drops and counts when it has none either.
 * In a ring with NR_FORWARD, slots given back with NS_FORWARD go to the other side.
 */
import type { MeventHandle } from '../engine/mevent.js';
import type { Runtime } from '../engine/runtime.js';
import { Iovec } from '../memory/iovec.js';
import { netdevInfo } from '../sys/netdev.js';
import { OFFLOAD_ALL, type VnetHdrLen } from '../wire/vnet-header.js';
import { NETMAP_MAX_FRAGS, NR_FORWARD, NS_FORWARD, NS_MOREFRAG } from './abi.js';
import { NetmapAdapter, type RingSizes } from './adapter.js';
import { ChainReader } from './chain-reader.js';
import { BAD_SLOT, ChainWriter, NO_ROOM } from './chain-writer.js';
import { R } from './counters.js';
import { openHostRings } from './host/host-rings.js';
import { HostInterface } from './host/interface.js';
import { openHostPort } from './host/open.js';
import type { KRing } from './kring.js';
import type { NetmapMemory } from './memory.js';

/** milliseconds until a sender is told to try again whose frames the interface had no room for */
const RETRY_MS = 1;

/** The wire, or the host's stack. */
interface Side {
  readonly tx: KRing;
  readonly rx: KRing;
  readonly open: () => HostInterface;
  link: HostInterface | undefined;
  /** frames wait for which the receive ring has no room */
  stalled: boolean;
}

export class NicAdapter extends NetmapAdapter {
  readonly #sides: readonly [wire: Side, host: Side];
  readonly #reader: ChainReader;
  readonly #writer = new ChainWriter();
  readonly #forwarded = new Iovec(NETMAP_MAX_FRAGS);
  readonly #retry: MeventHandle;

  constructor(runtime: Runtime, ifname: string, memory: NetmapMemory, sizes: RingSizes) {
    super(runtime, ifname, memory, sizes);
    this.#reader = new ChainReader(runtime.windows, this.counters.values);
    this.#sides = [
      this.#side(this.txKrings, this.rxKrings, () => this.#openWire()),
      this.#side(this.hostTxKrings, this.hostRxKrings, () => this.#openHost()),
    ];
    this.#retry = runtime.mevent.addTimer(RETRY_MS, () => {
      this.#retry.disable();
      this.wake();
    });
    this.#retry.disable();
  }

  #side(tx: readonly KRing[], rx: readonly KRing[], open: () => HostInterface): Side {
    return { tx: tx[0] as KRing, rx: rx[0] as KRing, open, link: undefined, stalled: false };
  }

  #openWire(): HostInterface {
    const how = { mode: 'auto', queues: 0, slots: 1024, zeroCopy: 'auto' } as const;
    return new HostInterface({
      runtime: this.runtime,
      name: `netmap:${this.name}`,
      info: netdevInfo(this.name),
      openPort: (windows, info) => openHostPort(windows, info, how),
      promisc: true,
      onReceive: () => this.#receive(this.#sides[0]),
    });
  }

  #openHost(): HostInterface {
    return new HostInterface({
      runtime: this.runtime,
      name: `netmap:${this.name}^`,
      info: netdevInfo(this.name),
      openPort: openHostRings,
      promisc: false,
      onReceive: () => this.#receive(this.#sides[1]),
    });
  }

  /** Takes the side that the ring is of. Throws what opening it throws. */
  override opened(kring: KRing): void {
    kring.reset();
    const side = this.#sideOf(kring);
    if (side.link !== undefined) return;
    side.link = side.open();
    this.#setHeader(side.link, this.vnetHdrLen);
    side.stalled = false;
    side.link.recvEnable();
  }

  override usersChanged(): void {
    for (const side of this.#sides) {
      if (side.tx.users + side.rx.users > 0) continue;
      side.link?.close();
      side.link = undefined;
    }
    super.usersChanged();
  }

  protected override detached(): void {
    for (const { link } of this.#sides) link?.close();
    this.#retry.delete();
  }

  protected override headerChanged(len: number): void {
    for (const { link } of this.#sides) if (link !== undefined) this.#setHeader(link, len);
  }

  #setHeader(link: HostInterface, len: number): void {
    link.setHeader(len as VnetHdrLen, OFFLOAD_ALL, OFFLOAD_ALL);
  }

  #sideOf(kring: KRing): Side {
    const [wire, host] = this.#sides;
    return kring === wire.tx || kring === wire.rx ? wire : host;
  }

  // ---- transmit ----

  protected transmit(kring: KRing, head: number): void {
    const { link } = this.#sideOf(kring);
    if (link === undefined) return;
    const reader = this.#reader;
    const { values } = this.counters;
    let at = kring.hwcur;
    while (at !== head) {
      const complete = reader.read(kring, at, head);
      if (reader.next === at) break;
      if (complete) {
        const sent = link.send(reader.iov);
        if (sent === 0) {
          // the kernel's ring is full: the frame stays, and its sender is told when to try again
          this.#retry.enable();
          break;
        }
        if (sent > 0) values[R.tx_frames]!++;
      }
      at = reader.next;
    }
    link.flush();
    kring.hwcur = at;
    kring.hwtail = kring.prev(at);
  }

  // ---- receive ----

  protected release(kring: KRing, head: number): void {
    const side = this.#sideOf(kring);
    if ((kring.ring.flags & NR_FORWARD) !== 0) this.#forward(kring, head, side);
    kring.hwcur = head;
    if (!side.stalled) return;
    side.stalled = false;
    side.link?.recvEnable();
  }

  #receive(side: Side): void {
    const { rx, link } = side;
    if (link === undefined) return;
    const writer = this.#writer;
    const { values } = this.counters;
    let received = 0;
    for (let len = link.peekRecvLen(); len > 0; len = link.peekRecvLen()) {
      const slots = rx.users === 0 ? BAD_SLOT : writer.list(rx, len);
      if (slots === NO_ROOM) {
        side.stalled = true;
        link.recvDisable();
        break;
      }
      if (slots === BAD_SLOT) {
        values[R.rx_drop_bad_slot]!++;
        link.rxDiscard();
      } else if (link.recv(writer.iov) > 0) {
        writer.fill(rx, slots, len);
        received++;
      }
    }
    values[R.rx_frames]! += received;
    if (received > 0) this.wake();
  }

  /** Sends the frames in slots [hwcur, head) that their user has flagged NS_FORWARD to the other side. */
  #forward(kring: KRing, head: number, side: Side): void {
    const [wire, host] = this.#sides;
    const { link } = side === wire ? host : wire;
    const iov = this.#forwarded;
    const { ring } = kring;
    const { values } = this.counters;
    iov.clear();
    let wanted = false;
    for (let at = kring.hwcur; at !== head; at = kring.next(at)) {
      const idx = ring.bufIdx(at);
      const word = ring.lenAndFlags(at);
      const flags = word >>> 16;
      if (iov.count === 0) wanted = true;
      wanted &&= (flags & NS_FORWARD) !== 0 && kring.isValid(idx, word & 0xffff);
      wanted &&= iov.push(ring.window.index, ring.bufsOff + idx * kring.bufSize, word & 0xffff);
      if ((flags & NS_FORWARD) !== 0) ring.setSlotFlags(at, flags & ~NS_FORWARD);
      if ((flags & NS_MOREFRAG) !== 0) continue;
      if (wanted && iov.total > 0) values[(link?.send(iov) ?? 0) > 0 ? R.forwarded : R.forward_drops]!++;
      iov.clear();
    }
    link?.flush();
  }
}
