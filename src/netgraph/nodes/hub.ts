/** hub (ng_hub(4)): what comes in on a hook goes out on all others. Goes with its last hook, unless persistent. */
import type { NgBurst } from '../burst.js';
import type { NgHook } from '../hook.js';
import type { NgMessage } from '../message.js';
import type { NgCommand, NgMethods, NgNode, NgResult, NgType } from '../node.js';

const NGM_HUB_COOKIE = 1082189597;
const NGM_HUB_SET_PERSISTENT = 1;

const cmdlist: readonly NgCommand[] = [{ cookie: NGM_HUB_COOKIE, cmd: NGM_HUB_SET_PERSISTENT, name: 'setpersistent' }];

class Hub implements NgMethods {
  readonly #node: NgNode;
  #persistent = false;

  constructor(node: NgNode) {
    this.#node = node;
  }

  rcvmsg(msg: NgMessage): NgResult {
    if (msg.typecookie !== NGM_HUB_COOKIE || msg.cmd !== NGM_HUB_SET_PERSISTENT) return 'EINVAL';
    this.#persistent = true;
    return undefined;
  }

  rcvdata(from: NgHook, burst: NgBurst): void {
    const { hooks } = this.#node;
    for (let k = 0; k < hooks.length; k++) {
      const hook = hooks[k]!;
      if (hook !== from) hook.send(burst);
    }
  }

  disconnect(): void {
    if (this.#node.hooks.length === 0 && !this.#persistent) this.#node.engine.removeNode(this.#node);
  }
}

export const hubType: NgType = {
  name: 'hub',
  cmdlist,
  create: (node) => new Hub(node),
};
