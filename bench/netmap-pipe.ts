/**
 * netmap-pipe: frames a second from pkt-gen's transmitter to its receiver through a netmap pipe, on one core, beside the
 * same in C.
 */
import { netmapRingsBench } from './support/netmap-bench.js';

export const netmapPipe = netmapRingsBench({
  name: 'netmap-pipe',
  summary: 'frames a second through a netmap pipe, in one thread, beside the same in C',
  kind: 'pipe',
  txPort: 'vale0:a{1',
  rxPort: 'vale0:a}1',
});
