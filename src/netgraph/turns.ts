/**
 * Turns: how frames and messages get through a graph without deep recursion, and without end.
 *
 * Data goes from hook to hook by direct calls. What would enter a node whose method runs, or make the
 * recursion too deep, waits in a queue, which is served when the outermost call has returned: that is
 * the end of a *turn*, and only until then are frame references valid (burst.ts).
 * A loop in the graph never ends: so a turn has a budget, and what exceeds it is dropped, counted as
 * drop_loop, and told to the log.
 */
import type { Runtime } from '../engine/runtime.js';
import type { NgBufferPool } from './buffers.js';
import type { NgBurst } from './burst.js';
import type { NgHook } from './hook.js';
import { type NgNode, NODE } from './node.js';
import { DataQueue } from './queue.js';

/** hooks that a frame passes by direct calls; further ones by the queue */
const MAX_DEPTH = 64;
/** bursts that one turn serves from the queue */
const MAX_ROUNDS = 256;
/** what one turn costs at most: a delivery costs DELIVERY_COST and 1 a frame */
const TURN_BUDGET = 131072;
const DELIVERY_COST = 8;
/** messages that wait in one turn at most: two nodes that answer each other for ever */
const MAX_MESSAGES = 4096;
/** seconds between two messages of one kind in the log */
const TELL_AGAIN_SEC = 10;

/** Control that waits for its node. */
interface Deferred {
  readonly node: NgNode;
  readonly run: () => void;
}

export class Turns {
  readonly #runtime: Runtime;
  readonly #buffers: NgBufferPool;
  readonly #clock: () => number;
  readonly #data: DataQueue;
  #control: Deferred[] = [];
  #depth = 0;
  #rounds = 0;
  #spent = 0;
  #messages = 0;
  #toldLoopAt = Number.NEGATIVE_INFINITY;

  constructor(runtime: Runtime, buffers: NgBufferPool, clock: () => number) {
    this.#runtime = runtime;
    this.#buffers = buffers;
    this.#clock = clock;
    this.#data = new DataQueue(buffers);
  }

  /** Hands a burst to the node of `hook`. Called by hook.send(). */
  deliver(hook: NgHook, burst: NgBurst): void {
    if (burst.count === 0) return;
    const { node } = hook;
    if (node.busy || node.queued > 0 || this.#depth === MAX_DEPTH) {
      this.#enqueue(hook, burst);
      if (this.#depth === 0) this.#endTurn();
      return;
    }
    if (this.#spent > TURN_BUDGET) {
      this.#dropLoop(hook, burst);
      return;
    }
    this.#spent += DELIVERY_COST + burst.count;
    node.values[NODE.rx_frames]! += burst.count;
    this.#depth++;
    node.busy = true;
    try {
      node.methods.rcvdata?.(hook, burst);
    } catch (error) {
      this.#rcvdataThrew(node, burst, error);
    }
    node.busy = false;
    this.#leave();
  }

  /** A turn is under way: what is delivered now may wait until it ends. */
  get inTurn(): boolean {
    return this.#depth > 0;
  }

  /** Runs `work` as one turn, or as part of the one under way. */
  turn<T>(work: () => T): T {
    this.#depth++;
    try {
      return work();
    } finally {
      this.#leave();
    }
  }

  #leave(): void {
    this.#depth--;
    if (this.#depth === 0) this.#endTurn();
  }

  #enqueue(hook: NgHook, burst: NgBurst): void {
    if (this.#data.push(hook, burst)) hook.node.queued++;
    else hook.node.values[NODE.drop_queue_full]! += burst.count;
  }

  #endTurn(): void {
    this.#depth++;
    while (this.#control.length > 0 || this.#data.count > 0) {
      if (this.#control.length > 0) this.#serveControl();
      else this.#serveData();
    }
    this.#depth--;
    this.#rounds = 0;
    this.#spent = 0;
    this.#messages = 0;
    this.#buffers.endTurn();
  }

  #serveData(): void {
    const data = this.#data;
    const hook = data.headHook();
    const burst = data.headBurst();
    const { node } = hook;
    node.queued--;
    if (!hook.valid) node.values[NODE.drop_not_connected]! += burst.count;
    else if (this.#rounds === MAX_ROUNDS) this.#dropLoop(hook, burst);
    else {
      this.#rounds++;
      // those that wait behind it are later: it must not queue behind them
      const { queued } = node;
      node.queued = 0;
      this.deliver(hook, burst);
      node.queued += queued;
    }
    data.shift();
  }

  #serveControl(): void {
    const items = this.#control;
    this.#control = [];
    for (const { node, run } of items) {
      node.queued--;
      run();
    }
  }

  /** Whether calls are nested so deep that what can wait should. */
  get tooDeep(): boolean {
    return this.#depth >= MAX_DEPTH;
  }

  /** Runs a method of the control path while the node counts as busy. */
  run<T>(node: NgNode, method: () => T): T {
    const { busy } = node;
    node.busy = true;
    this.#depth++;
    try {
      return method();
    } finally {
      // first, for what waits for it is served at the turn's end
      node.busy = busy;
      this.#leave();
    }
  }

  /** Control that waits until the node's method has returned. */
  later(node: NgNode, run: () => void): void {
    node.queued++;
    this.#control.push({ node, run });
  }

  /** A message that waits likewise. Two nodes that answer each other for ever are cut short. */
  messageLater(node: NgNode, run: () => void): void {
    this.#messages++;
    if (this.#messages <= MAX_MESSAGES) this.later(node, run);
    else if (this.#messages === MAX_MESSAGES + 1)
      this.#runtime.log.warn({ node: node.label }, 'netgraph: messages answer each other without end; dropped');
  }

  #dropLoop(hook: NgHook, burst: NgBurst): void {
    const { node } = hook;
    node.values[NODE.drop_loop]! += burst.count;
    const now = this.#clock();
    if (now - this.#toldLoopAt < TELL_AGAIN_SEC) return;
    this.#toldLoopAt = now;
    this.#runtime.log.warn(
      { node: node.label, type: node.type.name, hook: hook.name },
      'netgraph: frames go round in a loop of the graph; dropped, counted as drop_loop',
    );
  }

  #rcvdataThrew(node: NgNode, burst: NgBurst, error: unknown): void {
    if (node.values[NODE.drop_failed] === 0) {
      const stack = error instanceof Error ? error.stack : String(error);
      this.#runtime.log.error(
        { node: node.label, type: node.type.name, error: stack },
        'rcvdata of a netgraph node threw',
      );
    }
    node.values[NODE.drop_failed]! += burst.count;
  }
}
