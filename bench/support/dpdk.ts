/**
 * DPDK out of the cache folder: the generator built on it, and its testpmd as a vhost-user switch of
 * two ports. Both run with the libraries and the loader of the same packages.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { componentDir } from '../../scripts/setup/cache.js';
import { components } from '../../scripts/setup/components.js';
import { findProgram, libraryDirs, loaderOf } from '../../scripts/setup/images.js';
import { setUp, stateOf } from '../../scripts/setup/install.js';
import { BenchSkipped } from './bench.js';
import { compileReference } from './cc.js';
import { measuringCpus, Worker } from './worker.js';

const HUGE_PAGES = '/sys/kernel/mm/hugepages/hugepages-2048kB';
/** MiB for the generator, and for testpmd */
const MEMORY = 512;

/** ABI version of the DPDK that is set up: the shared libraries' suffix */
const ABI = '23';

// drivers register when they are loaded; EAL's own way of loading them refuses folders below /tmp
const drivers = ['bus_vdev', 'mempool_ring', 'net_virtio', 'net_vhost'];
const generatorLibraries = ['eal', 'ethdev', 'mbuf', 'mempool', 'mempool_ring', 'bus_vdev', 'net_virtio', 'kvargs'];

const libraryFile = (name: string): string => `librte_${name}.so.${ABI}`;

export interface VhostPort {
  socket: string;
  mac: string;
}

export class Dpdk {
  readonly #tree: string;
  readonly #hugePages: boolean;

  private constructor(tree: string, hugePages: boolean) {
    this.#tree = tree;
    this.#hugePages = hugePages;
  }

  /** Fetches DPDK if it is not there. Throws BenchSkipped where it cannot be had. */
  static async open(): Promise<Dpdk> {
    const component = components.find((c) => c.name === 'dpdk')!;
    try {
      if (stateOf(component) === 'missing') await setUp([component]);
    } catch (error) {
      throw new BenchSkipped(`DPDK cannot be set up: ${(error as Error).message}`);
    }
    hugePagesReserved ??= reserveHugePages();
    return new Dpdk(componentDir('dpdk'), hugePagesReserved);
  }

  get hugePages(): boolean {
    return this.#hugePages;
  }

  /** A generator with these ports, pair after pair; resolves when all are connected. */
  async startGenerator(ports: readonly VhostPort[]): Promise<Worker> {
    const dirs = this.#libraryDirs();
    const program = compileReference('vhost-generator.c', [
      `-I${join(this.#tree, 'usr/include/dpdk')}`,
      `-I${join(this.#tree, 'usr/include/x86_64-linux-gnu/dpdk')}`,
      ...dirs.map((dir) => `-L${dir}`),
      '-Wl,--no-as-needed,--allow-shlib-undefined',
      ...generatorLibraries.map((name) => `-l:${libraryFile(name)}`),
    ]);
    const devices = ports.flatMap(({ socket, mac }, i) => [
      '--vdev',
      `net_virtio_user${i},path=${socket},queues=1,queue_size=1024,mac=${mac}`,
    ]);
    const { load } = measuringCpus();
    const args = [program, ...this.#environment(load), ...devices];
    const worker = new Worker({ command: loaderOf(this.#tree), args: ['--library-path', dirs.join(':'), ...args] });
    await worker.next<{ ports: number }>();
    return worker;
  }

  /** testpmd, which forwards between two vhost-user servers and does nothing else. It polls: pause it. */
  startForwarder(sockets: readonly [string, string]): Worker {
    const { load, measured } = measuringCpus();
    const dirs = this.#libraryDirs();
    const preload = drivers.map((name) => join(this.#tree, 'usr/lib/x86_64-linux-gnu', libraryFile(name))).join(' ');
    const devices = sockets.flatMap((socket, i) => ['--vdev', `net_vhost${i},iface=${socket},queues=1`]);
    const testpmd = ['--nb-cores=1', '--forward-mode=io', '--no-flush-rx', '--txd=1024', '--rxd=1024'];
    return new Worker({
      command: loaderOf(this.#tree),
      args: [
        ...['--library-path', dirs.join(':'), '--preload', preload, findProgram(this.#tree, 'dpdk-testpmd')],
        ...[...this.#environment(load, measured), ...devices, '--', ...testpmd, '--total-num-mbufs=16384'],
      ],
    });
  }

  #libraryDirs(): string[] {
    return libraryDirs(this.#tree);
  }

  /** Arguments of the environment abstraction layer: main thread on core `main`, forwarding on `worker`. */
  #environment(main: number, worker?: number): string[] {
    const cores = worker === undefined ? `0@${main}` : `0@${main},1@${worker}`;
    const memory = this.#hugePages ? ['--in-memory', '--single-file-segments'] : ['--no-huge'];
    return ['--lcores', cores, '--no-pci', '--no-telemetry', '-m', String(MEMORY), ...memory];
  }
}

/** Once a process: what was there before is known only the first time. */
let hugePagesReserved: boolean | undefined;

/** Sees to huge pages for generator and testpmd; given back at exit. False where they cannot be had. */
function reserveHugePages(): boolean {
  const wanted = (2 * MEMORY) / 2 + 64;
  const read = (name: string): number => Number(readFileSync(join(HUGE_PAGES, name), 'utf8'));
  try {
    const before = read('nr_hugepages');
    if (read('free_hugepages') >= wanted) return true;
    writeFileSync(join(HUGE_PAGES, 'nr_hugepages'), String(before + wanted));
    process.on('exit', () => writeFileSync(join(HUGE_PAGES, 'nr_hugepages'), String(before)));
    return read('free_hugepages') >= wanted;
  } catch {
    return false;
  }
}
