/** One end of an edge of the graph. A hook exists only connected: removing one end removes both. */
import { NG_HOOKSIZ } from './abi.js';
import type { NgBurst } from './burst.js';
import { type NgNode, NODE } from './node.js';

export class NgHook {
  /** the other end; undefined before it is made and after it has gone */
  peer: NgHook | undefined;
  /** both ends are connected and agree: data may pass */
  valid = false;
  /** what the node's type keeps about it (NG_HOOK_PRIVATE) */
  data: unknown;

  constructor(
    readonly node: NgNode,
    readonly name: string,
  ) {}

  /**
   * Data path: hands frames to the peer, which has them when this returns, or later in this turn. The burst is
   * the caller's again, its frames are not changed. Frames for nobody are counted as drop_not_connected.
   */
  send(burst: NgBurst): void {
    const { peer } = this;
    if (peer === undefined || !this.valid) {
      this.node.values[NODE.drop_not_connected]! += burst.count;
      return;
    }
    this.node.engine.turns.deliver(peer, burst);
  }
}

export function isHookName(name: string): boolean {
  return name.length > 0 && name.length < NG_HOOKSIZ;
}
