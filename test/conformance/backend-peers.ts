/**
 * For each backend of the registry, how the conformance suite gets at its other end: an entry under its
 * prefix, or several, "PREFIX, VARIANT". A backend without an entry here fails the suite.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Iovec } from '../../src/memory/iovec.js';
import type { NetBackend } from '../../src/net-backends/net-backend.js';
import { openBackend, registerBackend } from '../../src/net-backends/registry.js';
import { netgraphOf } from '../../src/netgraph/netgraph.js';
import { netmapOf } from '../../src/netmap/netmap.js';
import { pause } from '../../src/sys/process.js';
import { type OwnBackend, ownBackend } from '../support/own-backend.js';
import { PacketSocket } from '../support/packet-socket.js';
import type { TestRuntime } from '../support/runtime.js';
import { enterOwnNetwork, ip, tapsUnavailable } from '../support/tap.js';

export interface BackendUnderTest {
  backend: NetBackend;
  /** makes a frame arrive at the backend, without a header */
  inject(frame: Uint8Array): void;
  /** longest frame that can be made to arrive, where that is less than the contract's */
  maxFrameLen?: number;
  /** what the backend has sent since the last call, headers stripped */
  sent(): Uint8Array[];
  close(): void;
}

export type OpenUnderTest = (runtime: TestRuntime, onReceive: () => void) => BackendUnderTest;

/** Memory for frames of a test: one buffer, given out as an Iovec. */
export class FrameBuffer {
  readonly #runtime: TestRuntime;
  readonly #mapping;

  constructor(
    runtime: TestRuntime,
    readonly capacity = 1 << 18,
  ) {
    this.#runtime = runtime;
    this.#mapping = runtime.windows.mapAnonymous(capacity);
  }

  /** The bytes in pieces of the given lengths (the last takes the rest), each at an odd place of its own. */
  iovec(length: number, pieces: number[] = []): Iovec {
    const iov = new Iovec(pieces.length + 1);
    let at = this.#mapping.off + 1;
    let left = length;
    for (const piece of [...pieces, length]) {
      const n = Math.min(piece, left);
      if (n > 0 || left === 0) iov.push(this.#mapping.window.index, at, n);
      at += n + 3;
      left -= n;
      if (left === 0) break;
    }
    return iov;
  }

  write(iov: Iovec, bytes: Uint8Array): void {
    let at = 0;
    for (let i = 0; i < iov.count; i++) {
      const part = bytes.subarray(at, at + iov.len[i]!);
      this.#runtime.windows.windows[iov.win[i]!]!.u8.set(part, iov.off[i]!);
      at += iov.len[i]!;
    }
  }

  read(iov: Iovec, length: number): Uint8Array {
    const out = new Uint8Array(length);
    let at = 0;
    for (let i = 0; i < iov.count && at < length; i++) {
      const n = Math.min(iov.len[i]!, length - at);
      const { u8 } = this.#runtime.windows.windows[iov.win[i]!]!;
      out.set(u8.subarray(iov.off[i]!, iov.off[i]! + n), at);
      at += n;
    }
    return out;
  }

  close(): void {
    this.#mapping.close();
  }
}

/** A second backend at the other end, without header. `settle` lets what is under way arrive. */
function withPeer(
  device: string,
  peerDevice: string,
  settle: (runtime: TestRuntime) => void = () => {},
  maxFrameLen?: number,
): OpenUnderTest {
  return (runtime, onReceive) => {
    const frames = new FrameBuffer(runtime);
    const received: Uint8Array[] = [];
    const peer: NetBackend = openBackend(
      runtime,
      peerDevice,
      () => {
        for (let len = peer.peekRecvLen(); len > 0; len = peer.peekRecvLen()) {
          const iov = frames.iovec(len);
          peer.recv(iov);
          received.push(frames.read(iov, len));
        }
      },
      'peer',
    );
    peer.recvEnable();
    const backend = openBackend(runtime, device, onReceive, 'test');
    settle(runtime);
    return {
      backend,
      ...(maxFrameLen === undefined ? {} : { maxFrameLen }),
      inject(frame) {
        const iov = frames.iovec(frame.length);
        frames.write(iov, frame);
        peer.send(iov);
        peer.flush();
        settle(runtime);
      },
      sent() {
        settle(runtime);
        return received.splice(0);
      },
      close() {
        backend.close();
        peer.close();
        frames.close();
      },
    };
  };
}

/** What is sent is what is received. */
function loopback(device: string): OpenUnderTest {
  return (runtime, onReceive) => {
    const frames = new FrameBuffer(runtime);
    let quiet = false;
    const backend = openBackend(runtime, device, () => quiet || onReceive(), 'test');
    const hdrLen = (): number => backend.vnetHdrLen;
    return {
      backend,
      inject(frame) {
        const iov = frames.iovec(frame.length + hdrLen());
        frames.write(iov, Buffer.concat([new Uint8Array(hdrLen()), frame]));
        backend.send(iov);
        backend.flush();
      },
      sent() {
        const out: Uint8Array[] = [];
        quiet = true;
        for (let len = backend.peekRecvLen(); len > 0; len = backend.peekRecvLen()) {
          const iov = frames.iovec(len);
          backend.recv(iov);
          out.push(frames.read(iov, len).subarray(hdrLen()));
        }
        quiet = false;
        return out;
      },
      close() {
        backend.close();
        frames.close();
      },
    };
  };
}

/** Two hooks of a hub. */
const netgraph: OpenUnderTest = (runtime, onReceive) => {
  const graph = netgraphOf(runtime);
  const hub = graph.makeNode('hub');
  if (typeof hub === 'string') throw new Error(hub);
  const device = (hook: string): string => `netgraph,path=${hub.address},peerhook=${hook}`;
  return withPeer(device('under'), device('peer'))(runtime, onReceive);
};

/** Lets the ports' users hear of their frames. */
function serveRings(runtime: TestRuntime): void {
  for (let i = 0; i < 3; i++) runtime.loop.step(0);
}

/** A persistent port, attached to a switch with another port. */
const persistentPort: OpenUnderTest = (runtime, onReceive) => {
  const netmap = netmapOf(runtime);
  netmap.newif('cfv');
  netmap.attach('vale0', 'cfv');
  const under = withPeer('netmap:cfv', 'vale0:peer', serveRings)(runtime, onReceive);
  return {
    ...under,
    close() {
      under.close();
      if (netmap.find('cfv') === undefined) return;
      netmap.detach('vale0', 'cfv');
      netmap.delif('cfv');
    },
  };
};

/** FrameBackend, through a subclass that keeps frames. */
const own: OpenUnderTest = (runtime, onReceive) => {
  const backend = openBackend(runtime, 'own0', onReceive, 'test') as OwnBackend;
  return {
    backend,
    inject: (frame) => void backend.give(frame),
    sent: () => backend.frames.splice(0),
    close: () => backend.close(),
  };
};

/** Serves the sockets between the two ends. */
function serveEvents(runtime: TestRuntime): void {
  for (let i = 0; i < 3; i++) runtime.mevent.dispatch(0);
}

const dir = mkdtempSync(join(tmpdir(), 'netbe-conformance-'));
process.on('exit', () => rmSync(dir, { recursive: true, force: true }));
const PORTS = [42611, 42612];
/** the largest datagram of UDP over IPv4 */
const MAX_UDP_PAYLOAD = 65507;

let quietNetwork = false;

/** A network namespace in which the kernel sends nothing of its own accord. */
function enterQuietNetwork(): void {
  if (quietNetwork) return;
  quietNetwork = true;
  enterOwnNetwork();
  writeFileSync('/proc/sys/net/ipv6/conf/default/disable_ipv6', '1');
}

const VETH_MTU = 65535;
let vethMade = false;

/** One end of a veth, with the other seen through a packet socket. */
function netmap(mode: string): OpenUnderTest {
  return (runtime, onReceive) => {
    enterQuietNetwork();
    if (!vethMade) {
      vethMade = true;
      ip(`link add nm0 mtu ${VETH_MTU} type veth peer name nm1 mtu ${VETH_MTU}`);
      ip('link set nm0 up');
      ip('link set nm1 up');
    }
    const backend = openBackend(runtime, `netmap:nm0,mode=${mode}`, onReceive, 'test');
    const wire = new PacketSocket('nm1');
    /** Turns of the fabric, with a pause before each: enough of them for the kernel to hand frames over. */
    const turns = (count: number, done: () => boolean = () => false): void => {
      for (let i = 0; i < count && !done(); i++) {
        pause(1);
        runtime.loop.step(0);
      }
    };
    return {
      backend,
      maxFrameLen: VETH_MTU + 14,
      inject(frame) {
        wire.send(frame);
        // the kernel keeps a block of the packet ring to itself for some milliseconds
        turns(mode === 'packet' ? 16 : 3);
      },
      sent() {
        const out: Uint8Array[] = [];
        const take = (): boolean => {
          for (let frame = wire.receive(); frame !== undefined; frame = wire.receive()) out.push(frame);
          return out.length > 0;
        };
        if (!take()) turns(100, take);
        return out;
      },
      close() {
        wire.close();
        backend.close();
      },
    };
  };
}

/** The host at the other end of a tap, seen through a packet socket on its interface. */
function tap(device: string, io: string): OpenUnderTest {
  return (runtime, onReceive) => {
    enterQuietNetwork();
    const backend = openBackend(runtime, `${device},io=${io},mtu=65521`, onReceive, 'test');
    const host = new PacketSocket(device);
    return {
      backend,
      // MTU and Ethernet header
      maxFrameLen: 65521 + 14,
      inject(frame) {
        host.send(frame);
        // the fabric's turns: hear of it, then poll
        for (let i = 0; i < 3; i++) runtime.loop.step(0);
      },
      sent() {
        const out: Uint8Array[] = [];
        for (let frame = host.receive(); frame !== undefined; frame = host.receive()) out.push(frame);
        return out;
      },
      close() {
        host.close();
        backend.close();
      },
    };
  };
}

export const backendPeers: Readonly<Record<string, OpenUnderTest>> = {
  vale: withPeer('vale0:test', 'vale0:peer'),
  stream: withPeer(`stream0,addr=unix:${dir}/s,mode=client,reconnect-ms=10`, `stream1,addr=unix:${dir}/s`, serveEvents),
  dgram: withPeer(
    `dgram0,local=udp:127.0.0.1:${PORTS[0]},remote=udp:127.0.0.1:${PORTS[1]}`,
    `dgram1,local=udp:127.0.0.1:${PORTS[1]},remote=udp:127.0.0.1:${PORTS[0]}`,
    serveEvents,
    MAX_UDP_PAYLOAD,
  ),
  netgraph,
  loopback: loopback('loopback0'),
  own,
  'netmap, xdp-native': netmap('xdp-native'),
  'netmap, xdp-generic': netmap('xdp-generic'),
  'netmap, packet': netmap('packet'),
  'netmap, pipe': withPeer('netmap:cf{1', 'netmap:cf}1', serveRings),
  'netmap, pipe of several rings': withPeer('netmap:cf}1,rings=4,ring=64', 'netmap:cf{1', serveRings),
  'netmap, persistent port': persistentPort,
  'vale, pipe': withPeer('vale0:cf{a', 'vale0:cf}a', serveRings),
  'tap, io_uring': tap('tap0', 'io_uring'),
  'tap, readv': tap('tap0', 'readv'),
  'vmnet, io_uring': tap('vmnet0', 'io_uring'),
  'vmnet, readv': tap('vmnet0', 'readv'),
};

/** Openings in the test of leaks, where a hundred take too long: the kernel waits for its readers at each. */
export const openingsOf: Readonly<Record<string, number>> = { netmap: 10 };

/** Backends that cannot be tested here, and why. */
export const backendsUnavailable: Readonly<Record<string, string | false>> = {
  netmap: tapsUnavailable,
  tap: tapsUnavailable,
  vmnet: tapsUnavailable,
};

registerBackend(ownBackend);
