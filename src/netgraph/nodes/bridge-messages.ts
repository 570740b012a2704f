/** What ng_bridge's messages look like (ng_bridge.h): cookie, commands, structures. */
import type { NgCommand } from '../node.js';
import { array, lengthBefore, struct } from '../parse/composites.js';
import { enaddr, hookbuf, uint8, uint16, uint32 } from '../parse/scalars.js';
import { StatsLayout } from './stats.js';

export const NGM_BRIDGE_COOKIE = 967239368;
export const NGM_BRIDGE_SET_CONFIG = 1;
export const NGM_BRIDGE_GET_CONFIG = 2;
export const NGM_BRIDGE_RESET = 3;
export const NGM_BRIDGE_GET_STATS = 4;
export const NGM_BRIDGE_CLR_STATS = 5;
export const NGM_BRIDGE_GETCLR_STATS = 6;
export const NGM_BRIDGE_GET_TABLE = 7;
export const NGM_BRIDGE_SET_PERSISTENT = 8;
export const NGM_BRIDGE_MOVE_HOST = 9;

export const configType = struct({
  debugLevel: uint8,
  loopTimeout: uint32,
  maxStaleness: uint32,
  minStableAge: uint32,
});

/** Statistics of a link, by the names of their ASCII form. */
export const statsLayout = new StatsLayout([
  'recvOctets',
  'recvPackets',
  'recvMulticast',
  'recvBroadcast',
  'recvUnknown',
  'recvRunts',
  'recvInvalid',
  'xmitOctets',
  'xmitPackets',
  'xmitMulticasts',
  'xmitBroadcasts',
  'loopDrops',
  'loopDetects',
  'memoryFailures',
]);

const hostType = struct({ addr: enaddr, age: uint16, staleness: uint16, hook: hookbuf });
export const hostAryType = struct({ numHosts: uint32, hosts: array(hostType, lengthBefore) });
export const moveHostType = struct({ addr: enaddr, hook: hookbuf });

const command = (
  cmd: number,
  name: string,
  mesgType?: NgCommand['mesgType'],
  respType?: NgCommand['respType'],
): NgCommand => ({ cookie: NGM_BRIDGE_COOKIE, cmd, name, mesgType, respType });

export const bridgeCommands: readonly NgCommand[] = [
  command(NGM_BRIDGE_SET_CONFIG, 'setconfig', configType),
  command(NGM_BRIDGE_GET_CONFIG, 'getconfig', undefined, configType),
  command(NGM_BRIDGE_RESET, 'reset'),
  command(NGM_BRIDGE_GET_STATS, 'getstats', uint32, statsLayout.type),
  command(NGM_BRIDGE_CLR_STATS, 'clrstats', uint32),
  command(NGM_BRIDGE_GETCLR_STATS, 'getclrstats', uint32, statsLayout.type),
  command(NGM_BRIDGE_GET_TABLE, 'gettable', undefined, hostAryType),
  command(NGM_BRIDGE_SET_PERSISTENT, 'setpersistent'),
  command(NGM_BRIDGE_MOVE_HOST, 'movehost', moveHostType),
];
