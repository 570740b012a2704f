/**
 * The measured side of vfio-user-registers: a fabric with an e1000 for each socket.
 *
 *   e1000-worker SOCKET…      says {"ready":true} and ends with its standard input
 */
import { quietFabric, serveFabric } from './fabric-process.js';

const core = quietFabric();
process.argv.slice(2).forEach((socket, i) => {
  core.addNic({ name: `vm${i}`, emulation: 'e1000', backend: `vale0:vm${i}`, socket });
});
serveFabric(core);
