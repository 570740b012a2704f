/**
 * A fabric: NICs that guests join by vhost-user, and the networks behind them, in one process.
 *
 *     const fabric = await Fabric.start();
 *     await fabric.addNic({ backend: 'vale0:vm1', socket: 'vm1.sock' });
 *
 * By default it runs in a thread of its own, and this object is its remote control. Every method
 * rejects with a NetbeError that says what is wrong and what to do.
 */
import { EventEmitter } from 'node:events';
import { resolve } from 'node:path';
import { readCounters } from '../engine/counters.js';
import type { Log } from '../engine/runtime.js';
import { NetbeError, usageError } from '../errors.js';
import { EX_USAGE } from '../netgraph/ngctl/command.js';
import { addBackendType, backendModuleUrl, loadBackendModule } from './backend-modules.js';
import { type CaptureOptions, CaptureStream } from './capture-stream.js';
import type { FabricHost, NgctlListener } from './fabric-host.js';
import type {
  Counters,
  FabricControl,
  FabricInfo,
  FabricOptions,
  NgctlOutcome,
  NicInfo,
  NicSpec,
  PatchInfo,
  PatchSpec,
} from './fabric-types.js';
import { LocalHost } from './local-host.js';
import { FabricNgctl } from './ngctl-session.js';
import { ThreadHost } from './thread-host.js';

export interface FabricStartOptions extends FabricOptions {
  /** where the fabric's log goes (any pino logger will do); default: nowhere */
  log?: Log;
}

/** exit: the fabric has ended; with an error unless close() was called. */
export interface FabricEvents {
  exit: [error: NetbeError | undefined];
}

const silent: Log = { debug() {}, info() {}, warn() {}, error() {} };

export class Fabric extends EventEmitter<FabricEvents> implements FabricControl {
  #host!: FabricHost;
  readonly #sessions = new Map<number, FabricNgctl>();

  private constructor() {
    super();
  }

  /** Resolves when the fabric runs with all of `nics` and `patches`; if one of them is refused, none is left. */
  static async start(options: FabricStartOptions = {}): Promise<Fabric> {
    const fabric = new Fabric();
    const onExit = (failure: NetbeError | undefined): void => {
      if (failure) options.log?.error({ error: failure.toJSON() }, failure.message);
      fabric.emit('exit', failure);
    };
    fabric.#host = await startHost(options, onExit, (id) => fabric.#sessions.get(id)?.notify());
    try {
      if (options.netgraph !== undefined) await fabric.runNgctl(options.netgraph);
      for (const nic of options.nics ?? []) await fabric.addNic(nic);
      for (const patch of options.patches ?? []) await fabric.addPatch(patch);
      return fabric;
    } catch (error) {
      await fabric.close();
      throw error;
    }
  }

  async addNic(spec: NicSpec): Promise<NicInfo> {
    return this.#host.call('addNic', spec);
  }

  /** Its guest is disconnected, its socket removed. */
  async removeNic(name: string): Promise<void> {
    return this.#host.call('removeNic', name);
  }

  /** The guest sees its link go down or up; while it is down its frames, and those for it, are dropped. */
  async setLink(name: string, up: boolean): Promise<void> {
    return this.#host.call('setLink', name, up);
  }

  /** Joins two backends: what one receives the other sends. */
  async addPatch(spec: PatchSpec): Promise<PatchInfo> {
    return this.#host.call('addPatch', spec);
  }

  async removePatch(name: string): Promise<void> {
    return this.#host.call('removePatch', name);
  }

  /**
   * Lets other processes, and other threads, open netmap ports of this fabric: `nmOpen(name, { socket: path })`.
   * The socket's mode is 0600.
   */
  async listenPorts(path: string): Promise<void> {
    return this.#host.call('listenPorts', resolve(path));
  }

  async show(): Promise<FabricInfo> {
    return this.#host.call('show');
  }

  async openNgctl(name = defaultNgctlName()): Promise<FabricNgctl> {
    const id = await this.#host.call('ngctlOpen', name);
    const session = new FabricNgctl(this.#host, id, name, () => this.#sessions.delete(id));
    this.#sessions.set(id, session);
    return session;
  }

  /** Runs commands of ngctl in a session of their own; the first that fails rejects, and says why. */
  async runNgctl(commands: readonly string[]): Promise<string> {
    const session = await this.openNgctl();
    let output = '';
    try {
      for (const command of commands) {
        const result = await session.run(command);
        output += result.output;
        if (result.status !== 0) throw ngctlError(command, result);
        if (result.quit) break;
      }
    } finally {
      await session.close();
    }
    return output;
  }

  /** Read from shared memory: the fabric is not disturbed, however often. */
  counters(): Counters {
    return readCounters(this.#host.counterBuffer, this.#host.directory);
  }

  /**
   * pcapng bytes of what crosses the NIC, from the first next() on, until the consumer stops or the NIC
   * goes. Inbound is what the guest receives.
   */
  capture(name: string, options?: CaptureOptions): AsyncIterableIterator<Uint8Array> {
    return new CaptureStream(this.#host, name, options);
  }

  /** Disconnects all guests, removes the sockets, gives back memory and thread. Idempotent. */
  async close(): Promise<void> {
    await this.#host.close();
  }
}

async function startHost(
  options: FabricStartOptions,
  onExit: (failure: NetbeError | undefined) => void,
  onNgctl: NgctlListener,
): Promise<FabricHost> {
  const { thread = true, log = silent, poll, strictMemory, backends = [] } = options;
  const modules: string[] = [];
  for (const backend of backends) {
    if (typeof backend === 'string' || backend instanceof URL) modules.push(backendModuleUrl(backend));
    else if (!thread) addBackendType(backend, 'the object given in backends');
    else
      throw usageError(
        `backend "${backend.prefix}" is an object, which cannot be sent to the fabric thread`,
        backend.prefix,
        'Give the URL of a module that exports it as `backend`, or start with thread: false.',
      );
  }
  if (thread) return ThreadHost.start({ log, poll, strictMemory, backends: modules, onExit, onNgctl });
  for (const url of modules) await loadBackendModule(url);
  return new LocalHost({ log, poll, strictMemory, onExit, onNgctl });
}

let ngctlCount = 0;

function defaultNgctlName(): string {
  return `ngctl${process.pid}-${++ngctlCount}`;
}

function ngctlError(command: string, { error, status }: NgctlOutcome): NetbeError {
  const text = error
    .replace(/^ngctl: /gm, '')
    .trimEnd()
    .split('\n');
  return new NetbeError(`netgraph: "${command}": ${text.join(' ')}`, {
    code: status === EX_USAGE ? 'EINVAL' : 'EIO',
    kind: 'usage',
    subject: command,
  });
}
