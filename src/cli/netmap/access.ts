/**
 * How netmap's programs reach ports: those of a running fabric through its port socket, or, where none runs, those of
 * a fabric of their own, which lives in the program's thread and serves the same socket, so that a second
 * program finds it.
 */
import { FabricCore } from '../../control/fabric-core.js';
import type { Log } from '../../engine/runtime.js';
import { NetbeError } from '../../errors.js';
import { WindowPool } from '../../memory/window.js';
import { netmapOf } from '../../netmap/netmap.js';
import { openClientPort, type PortOpenOptions } from '../../netmap/port-socket/open.js';
import { PortPoll } from '../../netmap/port-socket/poll.js';
import { LocalPoll, LocalToolPort } from './local-port.js';
import type { ToolPoll, ToolPort } from './tool-port.js';

export class NetmapAccess {
  readonly #socket: string;
  readonly #log: Log;
  readonly #windows = new WindowPool();
  #core: FabricCore | undefined;

  constructor(socket: string, log: Log) {
    this.#socket = socket;
    this.#log = log;
  }

  /** Whether the fabric is this program's own. */
  get ownFabric(): boolean {
    return this.#core !== undefined;
  }

  get windows(): WindowPool {
    return this.#core?.runtime.windows ?? this.#windows;
  }

  /** Opens a port of the running fabric. Where there is none, and `mayMake` it, makes one. Throws NetbeError. */
  open(name: string, options: PortOpenOptions, mayMake: boolean): ToolPort {
    if (this.#core !== undefined) return this.#openOwn(this.#core, name, options);
    try {
      return openClientPort(this.#windows, this.#socket, name, options);
    } catch (error) {
      if (!mayMake || !isAbsent(error)) throw error;
    }
    this.#core = this.#makeFabric();
    if (this.#core === undefined) return openClientPort(this.#windows, this.#socket, name, options);
    return this.#openOwn(this.#core, name, options);
  }

  /** Undefined: somebody else has made one meanwhile. */
  #makeFabric(): FabricCore | undefined {
    const core = new FabricCore({ log: this.#log });
    try {
      core.listenPorts(this.#socket);
      return core;
    } catch (error) {
      core.close();
      if (error instanceof NetbeError && error.code === 'EADDRINUSE') return undefined;
      throw error;
    }
  }

  #openOwn(core: FabricCore, name: string, options: PortOpenOptions): ToolPort {
    return new LocalToolPort(netmapOf(core.runtime).open(name, options), this.#socket);
  }

  makePoll(ports: readonly ToolPort[]): ToolPoll {
    return this.#core === undefined ? new PortPoll(ports) : new LocalPoll(this.#core, ports);
  }

  close(): void {
    this.#core?.close();
  }
}

function isAbsent(error: unknown): boolean {
  return (
    error instanceof NetbeError &&
    (error.code === 'ENOENT' || error.code === 'ECONNREFUSED') &&
    error.syscall === 'connect'
  );
}
