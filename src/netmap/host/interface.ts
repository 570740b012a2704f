/**
 * An interface of the host that is taken, its whole traffic; or the side of the host's stack. What the netmap
 * backend, a netmap port of the interface and one that is attached to a switch have in common.
 *
 * While an interface is open the host's own stack is cut off from it; when it is closed, or its process ends
 * in any way, the host has it back. Frames come and go through AF_XDP, in the driver or behind
 * it, or through AF_PACKET where that is not to be had; `status` and the log say which, and why.
 */
import { EVF_READ, type MeventHandle } from '../../engine/mevent.js';
import type { Pollable } from '../../engine/poll-loop.js';
import type { Runtime } from '../../engine/runtime.js';
import { NetbeError } from '../../errors.js';
import { copyPieces } from '../../memory/copy.js';
import { type Iovec, iovecWrite } from '../../memory/iovec.js';
import type { WindowPool } from '../../memory/window.js';
import { E } from '../../sys/libc.js';
import { type LinkState, LinkWatch, type NetdevInfo, netdevInfo } from '../../sys/netdev.js';
import { openPacketSocket, setPromiscuous } from '../../sys/packet-socket.js';
import { takeSocketError } from '../../sys/sockopt.js';
import type { VnetHdrLen } from '../../wire/vnet-header.js';
import { Closer } from './attach.js';
import { H, hostCounterNames } from './counters.js';
import type { HostPort } from './host-port.js';
import type { OpenedHostPort } from './open.js';
import { HostReceiver } from './receive.js';
import { HostTransmitter } from './transmit.js';

/** milliseconds until frames are offered again that the kernel would not take */
const RETRY_MS = 1;
/** frames handed over in one call of poll() */
const BURST = 256;

export interface HostInterfaceOptions {
  runtime: Runtime;
  /** subject of its counters, and what the log calls it */
  name: string;
  info: NetdevInfo;
  /** takes the interface, or its host rings */
  openPort: (windows: WindowPool, info: NetdevInfo) => OpenedHostPort;
  promisc: boolean;
  onReceive: (() => void) | undefined;
}

export class HostInterface implements Pollable {
  readonly name: string;
  vnetHdrLen: VnetHdrLen = 0;
  readonly #runtime: Runtime;
  readonly #info: NetdevInfo;
  readonly #opened: OpenedHostPort;
  readonly #port: HostPort;
  readonly #rx: HostReceiver;
  readonly #tx: HostTransmitter;
  readonly #values: Float64Array;
  readonly #onReceive: (() => void) | undefined;
  readonly #watch: LinkWatch;
  readonly #ready: readonly MeventHandle[];
  readonly #retry: MeventHandle;
  readonly #closer = new Closer();
  readonly #header = new Uint8Array(12);
  readonly #headerWords = new Int32Array(this.#header.buffer);
  #link: LinkState;
  #enabled = false;
  #closed = false;
  /** frames taken by the user since it was called back */
  #taken = 0;
  /** how many it may take before other ports get their turn */
  #burst = Number.POSITIVE_INFINITY;
  #countedSec = 0;

  /** Throws EBUSY where it has a user, and what opening throws. */
  constructor({ runtime, name, info, openPort, promisc, onReceive }: HostInterfaceOptions) {
    const { mevent, windows, counters } = runtime;
    refuseSecondUser(runtime, name);
    this.name = name;
    this.#runtime = runtime;
    this.#info = info;
    this.#onReceive = onReceive;
    const closer = this.#closer;
    try {
      const set = counters.create(name, hostCounterNames);
      closer.add({ close: () => counters.release(name) });
      this.#values = set.values;
      if (promisc) setPromiscuous(closer.add(openPacketSocket()).number, info.index);
      this.#watch = closer.add(new LinkWatch(info.index));
      this.#opened = openPort(windows, info);
      closer.add(this.#opened.closer);
      const { port } = this.#opened;
      this.#port = port;
      const looksInside = !port.hasHeader && (port.mode !== 'xdp-native' || info.driver === 'veth');
      this.#rx = closer.add(new HostReceiver(port, windows, this.#values, looksInside, info.mtu));
      this.#tx = closer.add(new HostTransmitter(port, windows, this.#values, info.mtu));
      const keep = (handle: MeventHandle): MeventHandle => {
        closer.add({ close: () => handle.delete() });
        return handle;
      };
      this.#ready = port.fds.map((fd) => keep(mevent.addDisabled(fd, EVF_READ, () => this.#onReady(fd))));
      this.#retry = keep(mevent.addTimer(RETRY_MS, () => this.#flushPort()));
      this.#retry.disable();
      keep(mevent.add(this.#watch.fd, EVF_READ, () => this.#setLink(this.#watch.read())));
    } catch (error) {
      closer.close();
      throw error;
    }
    this.#link = this.#watch.state();
    runtime.loop.add(this);
    this.#logOpened();
  }

  // ---- transmit ----

  send(iov: Iovec): number {
    if (this.#link !== 'up') {
      this.#values[H.tx_drop_link_down]!++;
      return -E.ENETDOWN;
    }
    const sent = this.#tx.send(iov);
    if (sent > 0) this.#values[H.tx_frames]!++;
    else if (sent === 0) this.#values[H.tx_full]!++;
    return sent;
  }

  flush(): void {
    if (this.#closed) return;
    this.#port.flush();
    if (this.#port.txStuck) this.#retry.enable();
  }

  #flushPort(): void {
    this.#port.flush();
    if (!this.#port.txStuck || this.#link !== 'up') this.#retry.disable();
  }

  // ---- receive ----

  peekRecvLen(): number {
    return !this.#closed && this.#taken < this.#burst && this.#rx.next() ? this.#rx.len + this.vnetHdrLen : 0;
  }

  recv(iov: Iovec): number {
    const rx = this.#rx;
    if (this.peekRecvLen() === 0) return 0;
    const hdrLen = this.vnetHdrLen;
    const { len, pieces } = rx;
    this.#taken++;
    if (iov.total < len + hdrLen) {
      this.#values[H.rx_no_space]!++;
      rx.drop();
      return -E.ENOSPC;
    }
    if (hdrLen > 0) {
      const words = this.#headerWords;
      words[0] = rx.hdr0;
      words[1] = rx.hdr1;
      words[2] = rx.hdr2;
      iovecWrite(this.#runtime.windows, iov, this.#header, hdrLen);
    }
    copyPieces(this.#runtime.windows, pieces.win, pieces.off, pieces.len, 0, len, iov, hdrLen);
    rx.drop();
    this.#values[H.rx_frames]!++;
    return len + hdrLen;
  }

  rxDiscard(): number {
    const len = this.peekRecvLen();
    if (len === 0) return 0;
    this.#taken++;
    this.#rx.drop();
    this.#values[H.rx_discarded]!++;
    return len;
  }

  recvEnable(): void {
    if (this.#closed) return;
    this.#enabled = true;
    this.#callBack();
    this.#runtime.loop.activate(this);
  }

  recvDisable(): void {
    this.#enabled = false;
    this.disarm();
  }

  // ---- polling ----

  poll(): number {
    if (!this.#enabled) return 0;
    if (this.#runtime.loop.nowSec !== this.#countedSec) this.#countKernelDrops();
    return this.#callBack();
  }

  /** One burst: an interface that fills its ring faster than frames are taken must not keep the fabric for itself. */
  #callBack(): number {
    const before = this.#burst;
    this.#taken = 0;
    this.#burst = BURST;
    if (this.#rx.next()) this.#onReceive?.();
    this.#burst = before;
    return this.#taken;
  }

  arm(): boolean {
    if (!this.#enabled) return false;
    this.#countKernelDrops();
    if (this.#link === 'gone') return false;
    for (const handle of this.#ready) handle.enable();
    return this.#rx.next();
  }

  disarm(): void {
    for (const handle of this.#ready) handle.disable();
  }

  #onReady(fd: number): void {
    // an error that waits (the interface went down) is reported until it is taken
    if (!this.#rx.next()) takeSocketError(fd);
    this.#runtime.loop.activate(this);
  }

  #countKernelDrops(): void {
    this.#countedSec = this.#runtime.loop.nowSec;
    this.#port.addKernelDrops(this.#values, H.rx_drop_ring_full, H.rx_drop_no_buffer, H.tx_drop_invalid);
  }

  #setLink(link: LinkState): void {
    if (link === 'gone') this.disarm();
    else this.#readMtu();
    if (link === this.#link) return;
    const { name } = this.#info;
    this.#values[H.link_changes]!++;
    const wasUp = this.#link === 'up';
    this.#link = link;
    const { log } = this.#runtime;
    const fields = { port: this.name, link };
    if (link === 'up') {
      log.info(fields, `${name} is up`);
      if (this.#enabled) this.#runtime.loop.activate(this);
    } else if (link === 'gone')
      log.error(fields, `${name} was removed: frames are dropped until the port is opened again`);
    else if (wasUp) log.warn(fields, `${name} is down: frames are dropped until it is up`);
  }

  #readMtu(): void {
    try {
      const { index, mtu } = netdevInfo(this.#info.name);
      if (index !== this.#info.index) return;
      this.#rx.mtu = mtu;
      this.#tx.mtu = mtu;
    } catch {
      // renamed, or on its way out: the MTU stays as it was
    }
  }

  // ---- control ----

  /** Each frame begins with a header of `len` bytes; OFFLOAD_* that the user may ask for, and takes undone. */
  setHeader(len: VnetHdrLen, txOffloads: number, rxOffloads: number): boolean {
    this.vnetHdrLen = len;
    this.#tx.vnetHdrLen = len;
    // without a header there is no way to say that something was left undone
    this.#tx.offloads = len === 0 ? 0 : txOffloads;
    this.#rx.offloads = len === 0 ? 0 : rxOffloads;
    return true;
  }

  status(): Record<string, string | number | boolean> {
    const { passedOver, warnings } = this.#opened;
    return {
      interface: this.#info.name,
      mode: this.#port.mode,
      link: this.#link,
      mtu: this.#tx.mtu,
      ...this.#port.status(),
      ...Object.fromEntries(passedOver.map(({ mode, why }) => [`not ${mode}`, why])),
      ...(warnings.length > 0 ? { warning: warnings.join('; ') } : {}),
    };
  }

  close(): void {
    if (this.#closed) return;
    this.flush();
    this.#closed = true;
    this.#enabled = false;
    this.#runtime.loop.remove(this);
    this.#closer.close();
  }

  #logOpened(): void {
    const { log } = this.#runtime;
    const { passedOver, warnings } = this.#opened;
    const { name } = this.#info;
    const { mode } = this.#port;
    const taken = mode === 'host' ? `what the host sends through ${name} is taken` : `${name} is taken, mode ${mode}`;
    log.info({ port: this.name, ...this.#port.status() }, taken);
    for (const { mode: other, why } of passedOver) log.info({ port: this.name }, `${name}: not ${other}: ${why}`);
    for (const warning of warnings) log.warn({ port: this.name }, `${name}: ${warning}`);
    if (this.#link === 'down')
      log.warn({ port: this.name }, `${name} is down: frames are dropped until "ip link set dev ${name} up"`);
  }
}

/** An interface, and its host rings, have one user each. */
export function refuseSecondUser(runtime: Runtime, name: string): void {
  if (!runtime.counters.directory().some(({ subject }) => subject === name)) return;
  throw new NetbeError(`${name} is open already: it has one user`, {
    code: 'EBUSY',
    kind: 'usage',
    subject: name,
    remedy: 'To share it, join it to a switch: patch it to a port such as vale0:up.',
  });
}
