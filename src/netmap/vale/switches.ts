/** The VALE switches of a fabric: made by the first port that names one, gone with the last. */
import type { Runtime } from '../../engine/runtime.js';
import { NetbeError } from '../../errors.js';
import type { ValePort, ValePortOptions } from './port.js';
import { ValeSwitch, type ValeSwitchOptions, type ValeSwitchStatus } from './switch.js';

/** as NM_BRIDGES of netmap, which has 8; nothing here depends on it being small */
const MAX_SWITCHES = 64;

export class ValeSwitches {
  readonly #runtime: Runtime;
  readonly #switches = new Map<string, ValeSwitch>();

  constructor(runtime: Runtime) {
    this.#runtime = runtime;
  }

  /** Attaches a port to the switch of that name, making it if need be. `options` are those of a new switch. */
  attach(switchName: string, port: Omit<ValePortOptions, 'counters'>, options: ValeSwitchOptions = {}): ValePort {
    let found = this.#switches.get(switchName);
    if (found === undefined) {
      if (this.#switches.size === MAX_SWITCHES)
        throw new NetbeError(`${switchName}: a fabric has ${MAX_SWITCHES} switches at most`, {
          code: 'ENOSPC',
          kind: 'usage',
          subject: switchName,
        });
      found = new ValeSwitch(this.#runtime, switchName, options);
      this.#switches.set(switchName, found);
    }
    try {
      return found.attach(port);
    } catch (error) {
      this.#collect(found);
      throw error;
    }
  }

  /** Closes a port, and its switch if it was the last. */
  detach(switchName: string, port: ValePort): void {
    port.close();
    const found = this.#switches.get(switchName);
    if (found !== undefined) this.#collect(found);
  }

  list(): ValeSwitchStatus[] {
    return [...this.#switches.values()].map((s) => s.status());
  }

  #collect(found: ValeSwitch): void {
    if (found.portCount > 0) return;
    this.#switches.delete(found.name);
    found.close();
  }
}

const switchesOf = new WeakMap<Runtime, ValeSwitches>();

export function valeSwitches(runtime: Runtime): ValeSwitches {
  let found = switchesOf.get(runtime);
  if (found === undefined) {
    found = new ValeSwitches(runtime);
    switchesOf.set(runtime, found);
  }
  return found;
}
