/**
 * The netmap of a fabric: its ports by name, and the memory that they share. Opens a port as
 * NETMAP_REQ_REGISTER does, makes and deletes persistent ports, attaches ports to VALE switches.
 *
 *   vale0:p      a port of switch vale0, made when it is first opened and gone with its last user
 *   netmap:v0    the persistent port v0 (newif), attached to a switch or not
 *   netmap:eth1  an interface of the host, its wire and its stack
 *   …{ID  …}ID   the ends of a pipe in the memory of the port before the bracket
 *   …/t /r /z    a monitor of any of these
 */
import type { Runtime } from '../engine/runtime.js';
import { NetbeError, usageError } from '../errors.js';
import { interfaceNames } from '../sys/netdev.js';
import { NR_MONITOR_RX, NR_MONITOR_TX, NR_ZCOPY_MON } from './abi-register.js';
import type { NetmapAdapter, RingSizes } from './adapter.js';
import { SwitchedInterface } from './host/switch-port.js';
import { Joint } from './joint.js';
import { Memories } from './memories.js';
import { MonitorAdapter } from './monitor.js';
import { NicAdapter } from './nic-adapter.js';
import { NullAdapter } from './null-port.js';
import { PipeEnd } from './pipe.js';
import { NetmapPort } from './port.js';
import { type NetmapPortName, parsePortName, portNameError } from './port-name.js';
import { RingLink } from './ring-link.js';
import { ringsToWatch, selectRings } from './selection.js';
import { confOf, type NetmapOpenOptions, sizesOf } from './sizes.js';
import { ValeAdapter } from './vale-adapter.js';

export interface NetmapPortInfo {
  name: string;
  kind: 'vale' | 'pipe' | 'monitor' | 'persistent' | 'interface' | 'null';
  users: number;
  memId: number;
  /** switch that it is attached to, and its number there; '' and -1 */
  switchName: string;
  portIndex: number;
  sizes: RingSizes;
}

export type { NetmapOpenOptions } from './sizes.js';

/** What is on a switch, and is no port of its own. */
interface Attached {
  readonly switchName: string;
  readonly portIndex: number;
  close(): void;
}

export class Netmap {
  readonly #runtime: Runtime;
  readonly #memories: Memories;
  /** by nr_name: "vale0:p", "v0", "vale0:p{1" */
  readonly #adapters = new Map<string, NetmapAdapter>();
  /** interfaces of the host that are attached to a switch, by the name of their port there */
  readonly #switched = new Map<string, Attached>();
  #nextMonitor = 1;
  #nextNull = 1;

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
    this.#memories = new Memories(runtime.windows);
  }

  /** Opens a port. Throws a usage error that says why not. */
  open(name: NetmapPortName | string, options: NetmapOpenOptions = {}): NetmapPort {
    const parsed = this.#heedOptions(typeof name === 'string' ? this.parse(name) : name);
    const monitors = (parsed.flags & (NR_MONITOR_TX | NR_MONITOR_RX)) !== 0;
    const adapter = monitors ? this.#monitor(parsed, options) : this.#adapter(parsed, options);
    try {
      const selection = monitors ? { tx: [], rx: adapter.rxKrings } : selectRings(adapter, parsed);
      return new NetmapPort(adapter, parsed.name, selection, { ...options, flags: parsed.flags });
    } catch (error) {
      adapter.usersChanged();
      throw error;
    }
  }

  /**
   * Opens a null port (NR_REG_NULL) in region `memId`: rings that lead nowhere, or none. Throws EINVAL without a
   * region, ENOENT for one that there is not.
   */
  openNull(memId: number, options: NetmapOpenOptions = {}): NetmapPort {
    const name = `null#${this.#nextNull++}`;
    if (memId === 0) throw usageError(`${name}: a null port needs to be told its memory region`, name);
    const { txRings = 0, rxRings = 0 } = options;
    const sizes = { ...sizesOf(name, { ...options, txRings: txRings || 1, rxRings: rxRings || 1 }), txRings, rxRings };
    const memory = this.#memories.forPort(name, memId, sizes, 0);
    const adapter = new NullAdapter(this.#runtime, name, memory, sizes);
    this.#register(name, adapter);
    const rings = { tx: adapter.txKrings, rx: adapter.rxKrings };
    return new NetmapPort(adapter, name, rings, options);
  }

  /** What the options at the end of a name ask for, as far as the fabric has it. */
  #heedOptions(name: NetmapPortName): NetmapPortName {
    const { share, extmem, offset } = name.options;
    const unsupported = extmem
      ? "memory is the fabric's own: @extmem"
      : offset
        ? 'frames begin where buffers do: @offset'
        : '';
    if (unsupported !== '')
      throw portNameError(name, 'options', `${unsupported} is not supported`, 'Leave it out:', 'EOPNOTSUPP');
    if (share === undefined) return name;
    const found = this.#adapters.get(this.parse(share).name);
    if (found === undefined)
      throw portNameError(name, 'options', `there is no port ${share} to share memory with`, 'Open it first:', 'ENXIO');
    const { id } = found.memory;
    if (name.memId !== 0 && name.memId !== id)
      throw portNameError(name, 'options', `the memory of ${share} is region ${id}, not ${name.memId}`);
    return { ...name, memId: id };
  }

  #adapter(name: NetmapPortName, options: NetmapOpenOptions): NetmapAdapter {
    return name.pipe === undefined ? this.#baseAdapter(name, options) : this.#pipeEnd(name, options);
  }

  /** Reads a port's name, knowing which ports there are. */
  parse(text: string): NetmapPortName {
    return parsePortName(text, (nrName) => {
      const found = this.#adapters.get(nrName);
      return found === undefined ? interfaceNames().includes(nrName) : !(found instanceof PipeEnd);
    });
  }

  /** The adapter of that nr_name ("vale0:p", "v0"), if there is one. */
  find(nrName: string): NetmapAdapter | undefined {
    return this.#adapters.get(nrName);
  }

  /** Makes a persistent port (vale-ctl -n). Throws EEXIST. */
  newif(name: string, options: NetmapOpenOptions & { memId?: number } = {}): void {
    if (!/^[\w.-]{1,15}$/.test(name))
      throw usageError(
        `"${name}" cannot be the name of a port`,
        name,
        'A name has 1 to 15 letters, digits, dots, underscores or hyphens.',
      );
    if (this.#adapters.has(name) || interfaceNames().includes(name))
      throw new NetbeError(`there is ${this.#adapters.has(name) ? 'a port' : 'an interface'} ${name} already`, {
        code: 'EEXIST',
        kind: 'usage',
        subject: name,
      });
    this.#makeVale(name, sizesOf(name, options), options.memId ?? 0, options.extraBufs ?? 0, true);
  }

  /** Deletes a persistent port (vale-ctl -r). Throws ENXIO where there is none, EBUSY while it is used or attached. */
  delif(name: string): void {
    const adapter = this.#persistent(name);
    if (adapter.inUse || adapter.switchName !== '')
      throw new NetbeError(
        adapter.inUse ? `port ${name} has users` : `port ${name} is attached to ${adapter.switchName}`,
        { code: 'EBUSY', kind: 'usage', subject: name, remedy: 'Close or detach it first.' },
      );
    adapter.close();
  }

  /**
   * Attaches a persistent port to a switch, under its name (vale-ctl -a), or an interface of the host, with `host`
   * its stack as a second port (vale-ctl -h). Returns its number there.
   */
  attach(switchName: string, name: string, { host = false } = {}): number {
    const key = `${switchName}:${name}`;
    const isPort = this.#adapters.get(name)?.persistent === true;
    if (!isPort && interfaceNames().includes(name)) {
      const attached = new SwitchedInterface(this.#runtime, switchName, name, host);
      this.#switched.set(key, attached);
      return attached.portIndex;
    }
    const adapter = this.#persistent(name);
    if (host) throw usageError(`${name} has no host rings: it is no interface of the host`, name, 'Use -a.');
    if (adapter.switchName !== '' && adapter.switchName !== switchName) return this.#attachAgain(switchName, name);
    adapter.attach(switchName, name);
    this.#adapters.set(key, adapter);
    return adapter.portIndex;
  }

  /** A port on a second switch: its rings, which nobody may have then, join the two (a wrapped port, netmap_bwrap). */
  #attachAgain(switchName: string, name: string): number {
    const openPort = (onReady: () => void) => this.open(`netmap:${name}/x`, { onReady });
    const joint = new Joint(
      this.#runtime,
      switchName,
      name,
      (onReceive) => new RingLink({ runtime: this.#runtime, name: `netmap:${name}`, openPort, onReceive }),
    );
    const { index: portIndex } = joint.port;
    this.#switched.set(`${switchName}:${name}`, { switchName, portIndex, close: () => joint.close() });
    return portIndex;
  }

  /** Detaches it again (vale-ctl -d). Returns the number that it had. */
  detach(switchName: string, name: string): number {
    const key = `${switchName}:${name}`;
    const attached = this.#switched.get(key);
    const port = attached ?? this.#persistent(name);
    if (port.switchName !== switchName)
      throw new NetbeError(`port ${name} is not attached to ${switchName}`, {
        code: 'EINVAL',
        kind: 'usage',
        subject: name,
      });
    const { portIndex } = port;
    if (attached !== undefined) {
      this.#switched.delete(key);
      attached.close();
    } else {
      this.#adapters.delete(key);
      (port as ValeAdapter).detach();
    }
    return portIndex;
  }

  /** Closes all ports, whoever has them: the fabric ends. */
  close(): void {
    for (const attached of this.#switched.values()) attached.close();
    this.#switched.clear();
    for (const adapter of new Set(this.#adapters.values())) for (const user of [...adapter.users]) user.close();
    for (const adapter of new Set(this.#adapters.values())) adapter.close();
    this.#adapters.clear();
  }

  list(): NetmapPortInfo[] {
    const listed = new Set(this.#adapters.values());
    return [...listed].map((adapter) => {
      const vale = adapter instanceof ValeAdapter ? adapter : undefined;
      return {
        name: adapter.name,
        kind: kindOf(adapter),
        users: adapter.users.size,
        memId: adapter.memory.id,
        switchName: vale?.switchName ?? '',
        portIndex: vale?.portIndex ?? -1,
        sizes: adapter.sizes,
      };
    });
  }

  #persistent(name: string): ValeAdapter {
    const adapter = this.#adapters.get(name);
    if (adapter instanceof ValeAdapter && adapter.persistent) return adapter;
    throw new NetbeError(`there is no persistent port ${name}`, {
      code: 'ENXIO',
      kind: 'usage',
      subject: name,
      remedy: `Make it first: netbe vale-ctl -n ${name}`,
    });
  }

  /** The port itself, or that whose pipe is asked for: made where there is none. */
  #baseAdapter(name: NetmapPortName, options: NetmapOpenOptions): NetmapAdapter {
    const { baseName, memId } = name;
    const found = this.#adapters.get(baseName);
    if (found !== undefined) {
      this.#checkMemory(found, name);
      return found;
    }
    if (name.kind === 'netmap' && interfaceNames().includes(baseName)) return this.#makeNic(baseName, memId, options);
    if (name.kind === 'netmap' && name.pipe === undefined)
      throw new NetbeError(`there is no port ${name.text}`, {
        code: 'ENXIO',
        kind: 'usage',
        subject: name.text,
        remedy: `There is no interface of that name either. A port is made with: netbe vale-ctl -n ${baseName}`,
      });
    const sizes = sizesOf(baseName, { ...options, ...confOf(name) });
    const adapter = this.#makeVale(baseName, sizes, memId, options.extraBufs ?? 0, false);
    if (name.kind === 'vale') {
      try {
        adapter.attach(name.switchName, name.portName);
      } catch (error) {
        adapter.close();
        throw error;
      }
    }
    return adapter;
  }

  #makeVale(name: string, sizes: RingSizes, memId: number, extraBufs: number, persistent: boolean): ValeAdapter {
    const memory = this.#memories.forPort(name, memId, sizes, extraBufs);
    const adapter = new ValeAdapter(this.#runtime, name, memory, sizes, persistent);
    this.#register(name, adapter);
    return adapter;
  }

  /** An interface's rings are in the global region, as in netmap: it and its pipes can hand buffers to others there. */
  #makeNic(ifname: string, memId: number, { txSlots, rxSlots, extraBufs = 0 }: NetmapOpenOptions): NicAdapter {
    const sizes = { ...sizesOf(ifname, { txSlots, rxSlots }), hostTxRings: 1, hostRxRings: 1 };
    const memory = this.#memories.forPort(ifname, memId === 0 ? 1 : memId, sizes, extraBufs);
    const adapter = new NicAdapter(this.#runtime, ifname, memory, sizes);
    this.#register(ifname, adapter);
    return adapter;
  }

  #register(name: string, adapter: NetmapAdapter): void {
    this.#adapters.set(name, adapter);
    adapter.onClose = () => this.#adapters.delete(name);
  }

  #pipeEnd(name: NetmapPortName, options: NetmapOpenOptions): NetmapAdapter {
    const found = this.#adapters.get(name.name);
    if (found !== undefined) {
      this.#checkMemory(found, name);
      return found;
    }
    const parent = this.#baseAdapter(name, options);
    const { baseName, pipe } = name;
    const [masterName, slaveName] = [`${baseName}{${pipe?.id}`, `${baseName}}${pipe?.id}`];
    // a pipe has one ring each way where nothing else is said, and its port's slots
    const { txSlots, rxSlots } = parent.sizes;
    const sizes = sizesOf(name.name, { txSlots, rxSlots, ...options, ...confOf(name) });
    parent.dependants++;
    try {
      const { master, slave } = PipeEnd.pair(this.#runtime, masterName, slaveName, parent.memory, sizes);
      this.#register(masterName, master);
      this.#register(slaveName, slave);
      const unregister = master.onClose;
      master.onClose = () => {
        unregister?.();
        parent.dependants--;
        parent.usersChanged();
      };
      return pipe?.role === 'master' ? master : slave;
    } catch (error) {
      parent.dependants--;
      parent.usersChanged();
      throw error;
    }
  }

  /** A monitor of the port that the name is about, which is made where there is none; each is a port of its own. */
  #monitor(name: NetmapPortName, options: NetmapOpenOptions): NetmapAdapter {
    const zeroCopy = (name.flags & NR_ZCOPY_MON) !== 0;
    // @N of a copying monitor is about its own memory
    const parent = this.#adapter(zeroCopy ? name : { ...name, memId: 0 }, options);
    try {
      const selection = ringsToWatch(parent, name);
      const { txRings, rxRings, txSlots, rxSlots } = parent.sizes;
      const slots = options.rxSlots ?? name.options.conf?.rxSlots ?? 0;
      const sizes = {
        ...sizesOf(name.name, { rxSlots: slots || Math.max(txSlots, rxSlots) }),
        txRings: 0,
        rxRings: Math.max(txRings, rxRings),
      };
      const monitorName = `${parent.name}/${monitorLetters(name.flags)}#${this.#nextMonitor++}`;
      const memory = zeroCopy
        ? parent.memory
        : this.#memories.forPort(monitorName, name.memId, sizes, options.extraBufs ?? 0);
      const adapter = new MonitorAdapter(this.#runtime, monitorName, memory, sizes, parent, selection, name.flags);
      this.#register(monitorName, adapter);
      return adapter;
    } catch (error) {
      parent.usersChanged();
      throw error;
    }
  }

  /** A port that exists has its memory: asking for another is asking in vain. */
  #checkMemory(adapter: NetmapAdapter, { memId, text }: NetmapPortName): void {
    if (memId === 0 || memId === adapter.memory.id) return;
    throw new NetbeError(`${text}: the port's memory is region ${adapter.memory.id}, not ${memId}`, {
      code: 'EINVAL',
      kind: 'usage',
      subject: text,
      remedy: 'Leave @N away, or close all users of the port first.',
    });
  }
}

function kindOf(adapter: NetmapAdapter): NetmapPortInfo['kind'] {
  if (adapter instanceof PipeEnd) return 'pipe';
  if (adapter instanceof MonitorAdapter) return 'monitor';
  if (adapter instanceof NicAdapter) return 'interface';
  if (adapter instanceof NullAdapter) return 'null';
  return adapter.persistent ? 'persistent' : 'vale';
}

function monitorLetters(flags: number): string {
  const letter = (flag: number, char: string): string => ((flags & flag) !== 0 ? char : '');
  return letter(NR_ZCOPY_MON, 'z') + letter(NR_MONITOR_TX, 't') + letter(NR_MONITOR_RX, 'r');
}

const netmaps = new WeakMap<Runtime, Netmap>();

/** The one netmap of a fabric. */
export function netmapOf(runtime: Runtime): Netmap {
  let found = netmaps.get(runtime);
  if (found === undefined) {
    found = new Netmap(runtime);
    netmaps.set(runtime, found);
  }
  return found;
}
