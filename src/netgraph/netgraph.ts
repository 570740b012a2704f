/** The graph of a fabric: made when it is first asked for, closed with the fabric. */
import type { Runtime } from '../engine/runtime.js';
import { Netgraph } from './engine.js';

const graphOf = new WeakMap<Runtime, Netgraph>();

export function netgraphOf(runtime: Runtime): Netgraph {
  let graph = graphOf.get(runtime);
  if (graph === undefined) {
    graph = new Netgraph(runtime);
    graphOf.set(runtime, graph);
  }
  return graph;
}

/** The graph of a fabric, if it has been asked for. */
export function findNetgraph(runtime: Runtime): Netgraph | undefined {
  return graphOf.get(runtime);
}

/** Closes the graph of a fabric, if it has one. */
export function closeNetgraph(runtime: Runtime): void {
  graphOf.get(runtime)?.close();
  graphOf.delete(runtime);
}
