/**
 * Sessions of ngctl in a fabric: each a socket node in its graph, with a number. What comes to a session unasked
 * is announced by `onEvent`, once until it is taken.
 */
import { NetbeError } from '../errors.js';
import type { Netgraph } from '../netgraph/engine.js';
import { type NgctlResult, NgctlSession, runNgctl, takeEvents } from '../netgraph/ngctl/session.js';
import type { NgNode } from '../netgraph/node.js';
import type { GraphInfo, GraphNodeInfo } from './fabric-types.js';

/** sessions at a time */
const MAX_SESSIONS = 64;

interface Entry {
  session: NgctlSession;
  /** a command runs: what comes now is mostly its own answer */
  running: boolean;
  announced: boolean;
}

export class NetgraphSessions {
  readonly #graph: () => Netgraph;
  readonly #onEvent: (session: number) => void;
  readonly #sessions = new Map<number, Entry>();
  #nextId = 1;

  constructor(graph: () => Netgraph, onEvent: (session: number) => void) {
    this.#graph = graph;
    this.#onEvent = onEvent;
  }

  /** Opens a session whose node has that name. Returns its number. */
  open(name: string): number {
    if (this.#sessions.size === MAX_SESSIONS)
      throw new NetbeError(`${MAX_SESSIONS} sessions of ngctl are open, which is the most`, {
        code: 'ENOSPC',
        kind: 'usage',
        subject: name,
        remedy: 'End one of them.',
      });
    const id = this.#nextId;
    const graph = this.#graph();
    const session = NgctlSession.open(graph, name, () => this.#announce(id));
    if (typeof session === 'string')
      throw new NetbeError(`can't create node ${name}: ${graph.lastErrorText || session}`, {
        code: session,
        kind: 'usage',
        subject: name,
        remedy: 'Give another name (-n NAME).',
      });
    this.#nextId++;
    this.#sessions.set(id, { session, running: false, announced: false });
    return id;
  }

  run(id: number, command: string | readonly string[]): NgctlResult {
    const entry = this.#entry(id);
    entry.running = true;
    try {
      return runNgctl(entry.session, command);
    } finally {
      entry.running = false;
      if (entry.session.hasEvents) this.#announce(id);
    }
  }

  /** What has come since it was asked last, as text. */
  events(id: number): string {
    const entry = this.#sessions.get(id);
    if (entry === undefined) return '';
    // asking nodes what their messages mean brings replies
    entry.running = true;
    entry.announced = false;
    try {
      return takeEvents(entry.session);
    } finally {
      entry.running = false;
    }
  }

  /** Idempotent. */
  close(id: number): void {
    const entry = this.#sessions.get(id);
    this.#sessions.delete(id);
    entry?.session.close();
  }

  closeAll(): void {
    for (const id of [...this.#sessions.keys()]) this.close(id);
  }

  #announce(id: number): void {
    const entry = this.#sessions.get(id);
    if (entry === undefined || entry.running || entry.announced) return;
    entry.announced = true;
    this.#onEvent(id);
  }

  #entry(id: number): Entry {
    const entry = this.#sessions.get(id);
    if (entry !== undefined) return entry;
    throw new NetbeError(`there is no session ${id} of ngctl`, {
      code: 'ENOENT',
      kind: 'usage',
      subject: String(id),
      remedy: 'Open one with GET /v1/netgraph/session; it ends with its connection.',
    });
  }
}

/** Nodes and hooks of a graph. */
export function graphInfo(graph: Netgraph): GraphInfo {
  return { nodes: graph.listNodes().map(nodeInfo) };
}

function nodeInfo(node: NgNode): GraphNodeInfo {
  const hooks = node.hooks.flatMap(({ name, peer }) =>
    peer === undefined
      ? []
      : [
          {
            name,
            peerHook: peer.name,
            peerId: peer.node.id.toString(16),
            peerName: peer.node.name,
            peerType: peer.node.type.name,
          },
        ],
  );
  return { id: node.id.toString(16), name: node.name, type: node.type.name, hooks };
}
