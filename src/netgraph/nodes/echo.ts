/** echo (ng_echo(4)): sends back what it gets, frames on the hook they came from, messages as their own reply. */
import type { NgBurst } from '../burst.js';
import type { NgHook } from '../hook.js';
import type { NgMessage } from '../message.js';
import type { NgMethods, NgNode, NgResult, NgType } from '../node.js';

class Echo implements NgMethods {
  readonly #node: NgNode;

  constructor(node: NgNode) {
    this.#node = node;
  }

  rcvmsg(msg: NgMessage): NgResult {
    return msg.data;
  }

  rcvdata(hook: NgHook, burst: NgBurst): void {
    hook.send(burst);
  }

  disconnect(): void {
    if (this.#node.hooks.length === 0) this.#node.engine.removeNode(this.#node);
  }
}

export const echoType: NgType = {
  name: 'echo',
  create: (node) => new Echo(node),
};
