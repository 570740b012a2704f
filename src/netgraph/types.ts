/** The types of nodes that every graph knows; a user adds further ones with Netgraph.registerType. */
import type { NgType } from './node.js';
import { hubType } from './nodes/hub.js';
import { ksocketType } from './nodes/ksocket.js';
import { pipeType } from './nodes/pipe.js';
import { socketType } from './nodes/socket.js';

export const nodeTypes: readonly NgType[] = [socketType, hubType, pipeType, ksocketType];
