/**
 * A fabric without a thread: the runtime, its NICs, and the calls that change or describe them. All of
 * it runs on one thread, that of whoever calls step(): the fabric thread, or a library user's own.
 *
 * Calls are synchronous, throw NetbeError, and leave the fabric as it was when they throw.
 */
import { CounterPage } from '../engine/counters.js';
import { Mevent } from '../engine/mevent.js';
import { PollLoop } from '../engine/poll-loop.js';
import type { Log, Runtime } from '../engine/runtime.js';
import { NetbeError, usageError } from '../errors.js';
import { WindowPool } from '../memory/window.js';
import { Patch } from '../net-backends/patch.js';
import { closeNetgraph, findNetgraph, netgraphOf } from '../netgraph/netgraph.js';
import type { NgctlResult } from '../netgraph/ngctl/session.js';
import { netmapOf } from '../netmap/netmap.js';
import { PortSocketServer } from '../netmap/port-socket/server.js';
import { NetmapService } from '../netmap/port-socket/service.js';
import { valeSwitches } from '../netmap/vale/switches.js';
import { featureNames } from '../wire/virtio-features.js';
import type { NgctlListener } from './fabric-host.js';
import { FabricNic } from './fabric-nic.js';
import type {
  FabricInfo,
  GraphInfo,
  NicInfo,
  NicSpec,
  PatchInfo,
  PatchSpec,
  PollOptions,
  SwitchInfo,
} from './fabric-types.js';
import { graphInfo, NetgraphSessions } from './netgraph-sessions.js';
import { duplicateError, findDuplicate, resolveNic, resolvePatch } from './nic-spec.js';

export interface FabricCoreOptions {
  log: Log;
  poll?: PollOptions | undefined;
  /** default for NICs that do not say */
  strictMemory?: boolean | undefined;
  /** something has come to a session of ngctl */
  onNgctl?: NgctlListener | undefined;
}

/** a minute: in effect, polling for ever */
const MAX_SPIN_US = 60_000_000;

export class FabricCore {
  readonly runtime: Runtime;
  readonly #nics = new Map<string, FabricNic>();
  readonly #patches = new Map<string, { patch: Patch; spec: Required<PatchSpec> }>();
  readonly #strictMemory: boolean;
  #portSocket: PortSocketServer | undefined;
  readonly #ngctl: NetgraphSessions;
  #closed = false;

  constructor(options: FabricCoreOptions) {
    const { log, poll = {} } = options;
    if (poll.spinUs !== undefined && !(poll.spinUs >= 0 && poll.spinUs <= MAX_SPIN_US))
      throw usageError(
        `spinUs ${poll.spinUs} is not a number from 0 to ${MAX_SPIN_US}`,
        String(poll.spinUs),
        '50 is the default; more answers sooner and uses more of the processor, 0 only notifications.',
      );
    this.#strictMemory = options.strictMemory ?? false;
    const mevent = new Mevent();
    const loop = new PollLoop(mevent, poll);
    this.runtime = { mevent, loop, windows: new WindowPool(), counters: new CounterPage(), log };
    this.#ngctl = new NetgraphSessions(
      () => netgraphOf(this.runtime),
      (session) => options.onNgctl?.(session),
    );
    mevent.onError = (error, fd) =>
      log.error({ fd, error: describe(error) }, 'an event callback failed and was removed');
    loop.onError = (error) =>
      log.error({ error: describe(error) }, 'a port failed while it was polled: it is no longer served');
  }

  addNic(spec: NicSpec): NicInfo {
    this.#checkOpen();
    // JavaScript may have left them out
    for (const key of ['backend', 'socket'] as const)
      if (typeof spec?.[key] !== 'string')
        throw usageError(`a NIC needs a ${key}`, key, 'For instance { backend: "vale0:vm1", socket: "vm1.sock" }.');
    const resolved = resolveNic(spec, { strictMemory: this.#strictMemory });
    const present = [...this.#nics.values()].map((nic) => nic.spec);
    const duplicate = findDuplicate([...present, resolved]);
    if (duplicate)
      throw duplicateError(duplicate, (i) =>
        i < present.length ? `NIC ${present[i]?.name}, which is there already,` : `NIC ${resolved.name}`,
      );
    const nic = new FabricNic(this.runtime, resolved);
    this.#nics.set(nic.name, nic);
    return nic.info();
  }

  removeNic(name: string): void {
    this.#nic(name).close();
    this.#nics.delete(name);
  }

  /** The guest is told; while the link is down its frames, and those for it, are dropped. */
  setLink(name: string, up: boolean): void {
    this.#nic(name).setLink(up);
  }

  addPatch(spec: PatchSpec): PatchInfo {
    this.#checkOpen();
    const { name, a, b } = resolvePatch(spec);
    if (this.#patches.has(name))
      throw new NetbeError(`patch ${name} is there already`, {
        code: 'EEXIST',
        kind: 'usage',
        subject: name,
        remedy: 'Remove it first, or give this one another name.',
      });
    const patch = new Patch({ runtime: this.runtime, name, a, b });
    const entry = { patch, spec: { name, a, b } };
    this.#patches.set(name, entry);
    return patchInfo(entry);
  }

  removePatch(name: string): void {
    this.#checkOpen();
    const found = this.#patches.get(name);
    if (!found) throw noSuch('patch', name, [...this.#patches.keys()]);
    this.#patches.delete(name);
    found.patch.close();
  }

  /** Lets other processes open netmap ports of this fabric, through a socket at `path`. */
  listenPorts(path: string): void {
    this.#checkOpen();
    if (this.#portSocket !== undefined)
      throw new NetbeError(`the fabric serves ports at ${this.#portSocket.path} already`, {
        code: 'EEXIST',
        kind: 'usage',
        subject: path,
      });
    const { runtime } = this;
    this.#portSocket = new PortSocketServer({ runtime, path, makeService: () => new NetmapService(runtime) });
  }

  show(): FabricInfo {
    this.#checkOpen();
    return {
      nics: [...this.#nics.values()].map((nic) => nic.info()),
      patches: [...this.#patches.values()].map(patchInfo),
      switches: this.#switches(),
      netgraph: this.#graph(),
    };
  }

  /** Opens a session of ngctl; returns its number. */
  ngctlOpen(name: string): number {
    this.#checkOpen();
    return this.#ngctl.open(name);
  }

  ngctlRun(session: number, command: string | readonly string[]): NgctlResult {
    this.#checkOpen();
    return this.#ngctl.run(session, command);
  }

  ngctlEvents(session: number): string {
    return this.#ngctl.events(session);
  }

  ngctlClose(session: number): void {
    this.#ngctl.close(session);
  }

  /** Copies the NIC's frames into a ring (createFrameRing), `snapLen` bytes of each at most. `id` ends it. */
  startCapture(name: string, id: number, ring: SharedArrayBuffer, snapLen: number): void {
    this.#nic(name).startCapture(id, ring, snapLen);
  }

  /** Nothing happens if the NIC or the capture has gone meanwhile. */
  stopCapture(name: string, id: number): void {
    this.#nics.get(name)?.stopCapture(id);
  }

  /** Serves what there is to do; blocks at most `maxBlockMs` when there is nothing. Returns frames served. */
  step(maxBlockMs: number): number {
    return this.runtime.loop.step(maxBlockMs);
  }

  /** Ends all connections, removes the sockets, gives the memory back. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#portSocket?.close();
    for (const nic of this.#nics.values()) {
      try {
        nic.close();
      } catch (error) {
        this.runtime.log.error({ nic: nic.name, error: describe(error) }, 'the NIC did not close cleanly');
      }
    }
    for (const { patch } of this.#patches.values()) {
      try {
        patch.close();
      } catch (error) {
        this.runtime.log.error({ patch: patch.name, error: describe(error) }, 'the patch did not close cleanly');
      }
    }
    this.#nics.clear();
    this.#patches.clear();
    this.#ngctl.closeAll();
    closeNetgraph(this.runtime);
    netmapOf(this.runtime).close();
    this.runtime.mevent.close();
  }

  #nic(name: string): FabricNic {
    this.#checkOpen();
    const nic = this.#nics.get(name);
    if (nic) return nic;
    throw noSuch('NIC', name, [...this.#nics.keys()]);
  }

  #checkOpen(): void {
    if (this.#closed) throw new NetbeError('the fabric is closed', { code: 'ESHUTDOWN', kind: 'usage' });
  }

  #graph(): GraphInfo {
    const graph = findNetgraph(this.runtime);
    return graph === undefined ? { nodes: [] } : graphInfo(graph);
  }

  #switches(): SwitchInfo[] {
    return valeSwitches(this.runtime).list();
  }
}

function noSuch(what: string, name: string, names: string[]): NetbeError {
  return new NetbeError(`there is no ${what} "${name}"`, {
    code: 'ENOENT',
    kind: 'usage',
    subject: name,
    remedy: names.length === 0 ? `The fabric has no ${what}.` : `The fabric has: ${names.join(', ')}.`,
  });
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

function patchInfo({ patch, spec }: { patch: Patch; spec: Required<PatchSpec> }): PatchInfo {
  const { featuresA, statusA, statusB } = patch.status();
  return { ...spec, offloads: featureNames(featuresA), statusA, statusB };
}
