/**
 * What waits because its node is busy or the recursion is deep enough: frames in a ring of reusable bursts,
 * and control (messages, hooks that go) in a list. Each keeps its order; control goes first, so that
 * no frame reaches a hook that is gone.
 */
import type { NgBufferPool } from './buffers.js';
import type { NgBurst } from './burst.js';
import type { NgHook } from './hook.js';

/** bursts that wait at most */
export const QUEUED_BURSTS = 256;

export class DataQueue {
  readonly #pool: NgBufferPool;
  readonly #hooks: (NgHook | undefined)[] = new Array(QUEUED_BURSTS).fill(undefined);
  readonly #bursts: NgBurst[] = [];
  #head = 0;
  count = 0;

  constructor(pool: NgBufferPool) {
    this.#pool = pool;
  }

  /** Takes the references of a burst for `hook`. False when the queue is full. */
  push(hook: NgHook, burst: NgBurst): boolean {
    if (this.count === QUEUED_BURSTS) return false;
    const i = (this.#head + this.count) % QUEUED_BURSTS;
    let slot = this.#bursts[i];
    if (slot === undefined) {
      // rings of bursts grow to what is used, once
      slot = this.#pool.takeBurst();
      this.#bursts[i] = slot;
    }
    slot.copyFrom(burst);
    this.#hooks[i] = hook;
    this.count++;
    return true;
  }

  /** The oldest burst's hook; its frames are in `headBurst` until the next push. */
  headHook(): NgHook {
    return this.#hooks[this.#head]!;
  }

  headBurst(): NgBurst {
    return this.#bursts[this.#head]!;
  }

  /** The slot may be filled again only by a push: the caller delivers a burst before it shifts it. */
  shift(): void {
    this.#hooks[this.#head] = undefined;
    this.#head = (this.#head + 1) % QUEUED_BURSTS;
    this.count--;
  }
}
