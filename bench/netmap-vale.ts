/**
 * netmap-vale: frames a second from pkt-gen's transmitter to its receiver over two netmap ports of a VALE switch, on
 * one core, beside the same in C.
 */
import { netmapRingsBench } from './support/netmap-bench.js';

export const netmapVale = netmapRingsBench({
  name: 'netmap-vale',
  summary: 'frames a second over netmap ports of a VALE switch, in one thread, beside the same in C',
  kind: 'vale',
  txPort: 'vale0:a',
  rxPort: 'vale0:b',
});
