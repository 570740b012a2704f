/**
 * A client that sends anything to an e1000 or a virtio-net PCI function: valid messages, nearly valid ones,
 * wrong descriptors, halves of messages, registers at random, in any order, and goes away at any time. Memory that it does not
 * share it reads and writes for the device when it likes, or refuses to, or lies about it.
 * What must hold afterwards is said in attacked-switch.ts.
 */
import { pathToFileURL } from 'node:url';
import { E1000 } from '../../src/frontends/e1000/device.js';
import type { PciFunction } from '../../src/frontends/pci/pci-function.js';
import { VirtioNet } from '../../src/frontends/virtio-net/device.js';
import { VirtioPciFunction } from '../../src/frontends/virtio-pci/function.js';
import type { Fd } from '../../src/sys/fd.js';
import { VfioUserTransport } from '../../src/transports/vfio-user/server.js';
import { AttackedSwitch } from '../support/attacked-switch.js';
import {
  bytes,
  CMD,
  dmaMap,
  dmaUnmap,
  F_NO_REPLY,
  irqSet,
  VfioUserClient,
  versionPayload,
} from '../support/vfio-user-client.js';
import { ClientMemory, type DmaRequest } from '../support/vfio-user-memory.js';
import { Decisions, type FuzzTarget, fuzzMain } from './harness.js';
import { HostileFds } from './hostile-fds.js';

const MEMORY = 1 << 18;
const COMMANDS = Object.values(CMD);
const TWIN_SOCKET = { capabilities: { max_msg_fds: 16, write_multiple: true, twin_socket: { supported: true } } };

interface Victim {
  fn: PciFunction;
  transport: VfioUserTransport;
  path: string;
}

class VfioUserMessages implements FuzzTarget {
  readonly name = 'vfio-user-messages';
  readonly maxBytes = 600;
  readonly #world = new AttackedSwitch();
  readonly #victims: readonly Victim[];

  constructor() {
    const { runtime } = this.#world;
    const options = (name: string) => this.#world.nicOptions(name);
    this.#victims = [
      this.#serve('vm1', new E1000(options('vm1'))),
      this.#serve('vm2', new VirtioPciFunction(runtime, 'vm2', new VirtioNet(options('vm2')))),
    ];
    // what a device has made once is no leak
    for (const victim of this.#victims) {
      const guest = new Hostile(new Decisions(new Uint8Array(0)), victim, this.#world);
      guest.start();
      guest.close();
    }
    this.#world.settle();
  }

  #serve(name: string, fn: PciFunction): Victim {
    const { runtime } = this.#world;
    const path = this.#world.path(name);
    const transport = new VfioUserTransport({ runtime, fn, name, path, mode: 'server', strictMemory: true });
    return { fn, path, transport: this.#world.serve(fn, transport) };
  }

  run(input: Decisions): void {
    const victim = input.pick(this.#victims);
    const hostile = new Hostile(input, victim, this.#world);
    try {
      hostile.run();
    } finally {
      hostile.close();
    }
    this.#world.check(victim.transport);
  }

  close(): void {
    this.#world.close();
  }
}

/** Reads an input as a client's actions. */
class Hostile {
  readonly #in: Decisions;
  readonly #victim: Victim;
  readonly #world: AttackedSwitch;
  readonly #fds: HostileFds;
  /** of regions without a descriptor */
  readonly #memory = new ClientMemory(MEMORY);
  /** that no reply was sent to yet */
  #unanswered: DmaRequest[] = [];
  #client: VfioUserClient;

  constructor(input: Decisions, victim: Victim, world: AttackedSwitch) {
    this.#in = input;
    this.#fds = new HostileFds(input, MEMORY, 16);
    this.#victim = victim;
    this.#world = world;
    this.#client = this.#connect();
  }

  run(): void {
    const d = this.#in;
    this.#memory.shortCount = d.oneIn(4);
    // most programs get past the negotiation, so that what follows means something
    if (!d.oneIn(8)) this.#send(CMD.VERSION, versionPayload(d.oneIn(3) ? TWIN_SOCKET : undefined));
    if (!d.oneIn(3)) this.#setUp(d.oneIn(2));
    for (let actions = 0; !d.done && actions < 60; actions++) d.pick(this.#actions)(d);
  }

  /** Has the device make all that it keeps: for rings in memory that is not shared, and, an e1000, for its loopback (RCTL.LBM). */
  start(): void {
    this.#send(CMD.VERSION, versionPayload());
    this.#setUp(false);
    this.#send(CMD.REGION_WRITE, bytes(0x100n, 0, 4, 0x8042));
    this.#steps(20);
  }

  close(): void {
    this.#client.close();
    this.#fds.close();
  }

  readonly #actions: readonly ((d: Decisions) => void)[] = [
    // any request with any payload, flags and descriptors
    (d) => this.#send(d.u8(), d.take(d.below(64)), this.#fds.any(), d.u8()),
    // any bytes
    (d) => void this.#client.sendBytes(d.take(1 + d.below(40)), this.#fds.any()),
    // a known command, any payload of a likely length
    (d) => this.#send(d.pick(COMMANDS), d.take(d.pick([0, 4, 8, 16, 20, 24, 32, 56])), this.#fds.any()),
    // the beginning of a message
    (d) => void this.#client.sendBytes(bytes(d.pick(COMMANDS) << 16, 32, 0, 0).subarray(0, d.below(17))),
    () => this.#fds.shorten(),
    (d) => d.oneIn(4) && this.#reconnect(),
    (d) => this.#steps(d.below(4)),
    () => this.#fds.signalOne(),
    () => this.#poke(),
    () => this.#poke(),
    () => this.#client.serve(),
    (d) => this.#answerLate(d),
    (d) => d.oneIn(4) && this.#dma.sendBytes(d.take(1 + d.below(40)), this.#fds.any()),
    () => {
      this.#victim.fn.setLink(false);
      this.#victim.fn.setLink(true);
    },
    () => this.#world.broadcast(),
    ...Array.from({ length: 12 }, () => (d: Decisions) => d.pick(this.#likely)(d)),
  ];

  /** Requests that are right but for a detail, or altogether. */
  readonly #likely: readonly ((d: Decisions) => void)[] = [
    ...Array.from({ length: 4 }, () => (d: Decisions) => this.#writeRegister(d)),
    ...Array.from({ length: 2 }, () => (d: Decisions) => this.#readRegister(d)),
    (d) => {
      const writes = Array.from({ length: 1 + d.below(6) }, () =>
        bytes(BigInt(d.u16()), d.below(9), 4, BigInt(d.u32())),
      );
      this.#send(CMD.REGION_WRITE_MULTI, bytes(BigInt(writes.length), ...writes));
    },
    (d) => this.#send(CMD.DMA_MAP, this.#region(d), [this.#fds.file()]),
    (d) => this.#send(CMD.DMA_MAP, this.#region(d), this.#fds.any()),
    (d) =>
      this.#send(CMD.DMA_UNMAP, dmaUnmap(d.below(4) * MEMORY, d.oneIn(4) ? d.u32() : MEMORY, d.oneIn(4) ? d.u8() : 0)),
    (d) => this.#send(CMD.DMA_UNMAP, dmaUnmap(0, 0, 2), d.oneIn(8) ? this.#fds.any() : []),
    (d) => this.#setIrqs(d),
    (d) => this.#setIrqs(d),
    (d) =>
      this.#send(d.pick([CMD.DEVICE_GET_REGION_INFO, CMD.DEVICE_GET_IRQ_INFO]), bytes(32, 0, d.below(12), 0, 0n, 0n)),
    () => this.#send(CMD.DEVICE_RESET),
    // PCI command register: bus master and the rest come and go
    (d) => this.#send(CMD.REGION_WRITE, bytes(4n, 7, 4, d.oneIn(2) ? 7 : d.u16())),
  ];

  /** What a driver does before frames pass, roughly; the registers that matter of both functions. */
  #setUp(shared: boolean): void {
    this.#send(CMD.DMA_MAP, dmaMap(0, MEMORY), shared ? [this.#fds.file(true)] : []);
    this.#send(CMD.DEVICE_SET_IRQS, irqSet(0x24, 0, 0, 1), [this.#fds.event()]);
    this.#send(CMD.DEVICE_SET_IRQS, irqSet(0x24, this.#in.pick([1, 2]), 0, 1), [this.#fds.event()]);
    this.#send(CMD.REGION_WRITE, bytes(4n, 7, 4, 7));
    const write = (bar: number, off: number, value: number, size = 4) =>
      this.#send(CMD.REGION_WRITE, bytes(BigInt(off), bar, size, bytes(value).subarray(0, size)));
    if (this.#victim.fn instanceof E1000) {
      for (const [base, control] of [
        [0x2800, 0x100],
        [0x3800, 0x400],
      ] as const) {
        write(0, base, 0x10000 * (base === 0x2800 ? 1 : 2));
        write(0, base + 8, 0x400);
        write(0, base + 0x18, base === 0x2800 ? 0x3f : 0);
        write(0, control, 0x8002);
      }
      return;
    }
    write(4, 8, 1);
    write(4, 12, 1);
    write(4, 20, 11, 1);
    for (const queue of [0, 1]) {
      write(4, 22, queue, 2);
      write(4, 24, 64, 2);
      for (const [i, at] of [0, 0x4000, 0x8000].entries()) write(4, 32 + 8 * i, 0x10000 * (queue + 1) + at);
      write(4, 28, 1, 2);
    }
    write(4, 20, 15, 1);
    this.#world.step();
  }

  #writeRegister(d: Decisions): void {
    const bar = d.oneIn(8) ? d.below(9) : d.pick([0, 0, 1, 2, 4]);
    const off = d.pick(likelyRegisters) + (d.oneIn(4) ? d.below(64) : 0);
    const size = d.pick([1, 2, 4, 4, 4, 8, 3]);
    const value = d.oneIn(3) ? d.u32() : d.pick([0, 1, 2, 7, 15, 64, 0x10000, 0x3f, 0xffffffff]);
    const data = Buffer.concat([bytes(value), bytes(0)]).subarray(0, size);
    const head = bytes(BigInt(d.oneIn(8) ? d.u32() : off), bar, size);
    this.#send(CMD.REGION_WRITE, Buffer.concat([head, data]), [], d.oneIn(2) ? F_NO_REPLY : 0);
  }

  #readRegister(d: Decisions): void {
    const off = d.oneIn(8) ? d.u32() : d.pick(likelyRegisters);
    this.#send(CMD.REGION_READ, bytes(BigInt(off), d.below(9), d.pick([1, 2, 4, 8, 64, 256])));
  }

  #setIrqs(d: Decisions): void {
    const data = d.pick([1, 2, 4, 4, 4, 6]);
    const count = d.below(5);
    const fds = data === 4 && !d.oneIn(4) ? Array.from({ length: count }, () => this.#fds.event()) : this.#fds.any();
    const bools = data === 2 ? d.take(count) : new Uint8Array(0);
    this.#send(
      CMD.DEVICE_SET_IRQS,
      irqSet(data | d.pick([8, 16, 32, 32]), d.below(6), d.oneIn(4) ? d.u8() : 0, count, bools),
      fds,
    );
  }

  #region(d: Decisions): Uint8Array {
    const odd = () => d.pick([0, 1, 4095, 4096, MEMORY, 2 ** 32, 2 ** 52, d.u32()]);
    const gpa = d.oneIn(4) ? odd() : d.below(4) * MEMORY;
    return dmaMap(gpa, d.oneIn(4) ? odd() : MEMORY, d.oneIn(6) ? odd() : 0, d.oneIn(4) ? d.u8() : 3);
  }

  #steps(count: number): void {
    for (let n = 0; n <= count; n++) {
      this.#world.step();
      this.#client.serve();
    }
  }

  #reconnect(): void {
    this.#client.close();
    for (let n = 0; n <= 5; n++) this.#world.step();
    this.#client = this.#connect();
  }

  /** On whose socket DMA requests come. */
  get #dma(): VfioUserClient {
    return this.#client.twin ?? this.#client;
  }

  #connect(): VfioUserClient {
    const client = VfioUserClient.connect(this.#victim.path, this.#world.step);
    client.memory = this.#memory;
    this.#memory.onRequest = (request) => this.#answer(request);
    return client;
  }

  /** What is sent when the device asks for memory: most often what it wants. */
  #answer(request: DmaRequest): readonly Uint8Array[] {
    const d = this.#in;
    const memory = this.#memory;
    if (d.oneIn(6)) {
      this.#unanswered.push(request);
      return [];
    }
    if (d.oneIn(24)) return [memory.refusal(request, d.u8())];
    const { gpa, count } = request;
    // the device may ask for whatever was mapped
    const reply = gpa + count <= MEMORY ? memory.right(request) : memory.refusal(request, 14);
    if (!d.oneIn(16)) return [reply];
    if (d.oneIn(4)) return [reply, reply];
    if (d.oneIn(4)) return [reply.subarray(0, d.below(reply.length))];
    reply[d.below(reply.length)]! ^= 1 << d.below(8);
    return [reply];
  }

  #answerLate(d: Decisions): void {
    const [request] = this.#unanswered.splice(d.below(this.#unanswered.length + 1), 1);
    if (request !== undefined) for (const message of this.#answer(request)) this.#dma.sendBytes(message);
  }

  /** Writes into a ring, in a file or in memory that is not shared. */
  #poke(): void {
    const d = this.#in;
    this.#fds.poke();
    const ring = 0x10000 * (1 + d.below(2));
    if (d.oneIn(2)) this.#memory.u8.set(d.take(16), ring + 16 * d.below(64));
    else this.#memory.u8.set(d.take(2), ring + 0x4002);
  }

  #send(command: number, payload: Uint8Array = new Uint8Array(0), fds: readonly Fd[] = [], flags = 0): void {
    // the other side may have gone, or be full: all the same here
    this.#client.sendBytes(Buffer.concat([bytes(command << 16, 16 + payload.length, flags, 0), payload]), fds);
    if (this.#in.below(4) === 0) this.#steps(0);
  }
}

/** CTRL, interrupts, RCTL, TCTL, the rings of an e1000; fields and notifications of virtio. */
const likelyRegisters = [
  0, 0x08, 0x10, 0x14, 0x18, 0x20, 0xc0, 0xc4, 0xc8, 0xd0, 0xd8, 0x100, 0x400, 0x2800, 0x2804, 0x2808, 0x2810, 0x2818,
  0x2820, 0x3800, 0x3804, 0x3808, 0x3810, 0x3818, 0x5400, 20, 22, 24, 28, 32, 40, 48, 0x1000, 0x2000, 0x3000, 0x3004,
];

export function makeTarget(): FuzzTarget {
  return new VfioUserMessages();
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) fuzzMain(makeTarget);
