/** The types of nodes that every graph knows; a user adds further ones with Netgraph.registerType. */
import { usageError } from '../errors.js';
import type { NgType } from './node.js';
import { bpfType } from './nodes/bpf.js';
import { bridgeType } from './nodes/bridge.js';
import { echoType } from './nodes/echo.js';
import { eifaceType } from './nodes/eiface.js';
import { etherType } from './nodes/ether.js';
import { holeType } from './nodes/hole.js';
import { hubType } from './nodes/hub.js';
import { ksocketType } from './nodes/ksocket.js';
import { one2manyType } from './nodes/one2many.js';
import { patchType } from './nodes/patch.js';
import { pipeType } from './nodes/pipe.js';
import { socketType } from './nodes/socket.js';
import { teeType } from './nodes/tee.js';
import { vlanType } from './nodes/vlan.js';

const types: NgType[] = [
  socketType,
  hubType,
  teeType,
  holeType,
  echoType,
  one2manyType,
  patchType,
  bridgeType,
  vlanType,
  pipeType,
  ksocketType,
  etherType,
  eifaceType,
  bpfType,
];

export const nodeTypes: readonly NgType[] = types;

/** Adds a type of the user's own, for graphs that are made from now on. Throws EINVAL if its name is taken. */
export function registerNodeType(type: NgType): void {
  if (types.includes(type)) return;
  if (types.some(({ name }) => name === type.name))
    throw usageError(`a node type ${type.name} exists already`, type.name);
  types.push(type);
}
