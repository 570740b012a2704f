/**
 * The memory regions of a fabric, by identity. Region 1 is the global one, made when it is first asked for;
 * each VALE port has a region of its own unless its name says otherwise (@N); pipes have their port's.
 */
import { NetbeError } from '../errors.js';
import type { WindowPool } from '../memory/window.js';
import type { RingSizes } from './adapter.js';
import { NetmapMemory, type NetmapMemorySpec } from './memory.js';

/** as netmap's if_num, ring_num and buf_num */
const GLOBAL: NetmapMemorySpec = { id: 1, ifTotal: 100, ringTotal: 200, bufTotal: 163840 };
/** beside a port's own: room for its pipes, monitors and further users; memory is taken only when it is written */
const SPARE_RINGS = 64;
const SPARE_IFS = 64;
const SPARE_RINGS_OF_BUFS = 16;
const MIN_SPARE_BUFS = 4096;
const MAX_ID = 0xffff;

export class Memories {
  readonly #pool: WindowPool;
  readonly #byId = new Map<number, NetmapMemory>();

  constructor(pool: WindowPool) {
    this.#pool = pool;
  }

  /** The region that a new port is to live in: number `memId`, or for 0 one of its own. Throws ENOENT. */
  forPort(name: string, memId: number, sizes: RingSizes, extraBufs: number): NetmapMemory {
    const found = this.#byId.get(memId);
    if (found !== undefined) return found;
    if (memId === 1) return this.#make(GLOBAL);
    if (memId !== 0)
      throw new NetbeError(`${name}: there is no memory region ${memId}`, {
        code: 'ENOENT',
        kind: 'usage',
        subject: name,
        remedy: `There are: ${[...this.#byId.keys()].join(', ') || 'none yet'}; @1 is the global one, and made when it is asked for.`,
      });
    const txRings = sizes.txRings + sizes.hostTxRings;
    const rxRings = sizes.rxRings + sizes.hostRxRings;
    const spare = Math.max(MIN_SPARE_BUFS, SPARE_RINGS_OF_BUFS * Math.max(sizes.txSlots, sizes.rxSlots));
    return this.#make({
      id: this.#freeId(),
      ifTotal: SPARE_IFS,
      ringTotal: txRings + rxRings + SPARE_RINGS,
      bufTotal: txRings * sizes.txSlots + rxRings * sizes.rxSlots + extraBufs + spare,
    });
  }

  #make(spec: NetmapMemorySpec): NetmapMemory {
    const memory = new NetmapMemory(this.#pool, spec);
    this.#byId.set(spec.id, memory);
    memory.onUnused = () => this.#byId.delete(spec.id);
    return memory;
  }

  #freeId(): number {
    let id = 2;
    while (this.#byId.has(id)) id++;
    if (id > MAX_ID) throw new NetbeError('all memory regions are in use', { code: 'ENOMEM', kind: 'runtime' });
    return id;
  }
}
