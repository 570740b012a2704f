/**
 * The measured side of netgraph-vhost-user: a fabric with pairs of NICs, the first on a VALE switch, the others at the ends of
 * chains of ng_bridge nodes, as `netbe run` has it in its fabric thread.
 *
 *   netgraph-worker LENGTH,… SOCKET…   two sockets a pair; LENGTH nodes in the chain of a pair, 0: VALE; says
 *       {"ready":true} and ends with its standard input
 */
import { quietFabric, serveFabric } from './fabric-process.js';

const [lengths = '', ...sockets] = process.argv.slice(2);
const core = quietFabric();
const session = core.ngctlOpen('bench');

function ngctl(command: string): void {
  const { status, error } = core.ngctlRun(session, command);
  if (status !== 0) throw new Error(`${command}: ${error}`);
}

/** Bridges cN_0 to cN_LENGTH-1, joined by link2 and link1. */
function makeChain(pair: number, length: number): void {
  for (let i = 0; i < length; i++) {
    const name = `c${pair}_${i}`;
    ngctl('mkpeer bridge new link9');
    ngctl(`name .:new ${name}`);
    ngctl(`msg ${name}: setpersistent`);
    ngctl('rmhook new');
    if (i > 0) ngctl(`connect c${pair}_${i - 1}: ${name}: link2 link1`);
  }
}

lengths.split(',').forEach((text, pair) => {
  const length = Number(text);
  makeChain(pair, length);
  for (const end of [0, 1]) {
    const name = `vm${pair}_${end}`;
    const socket = sockets[2 * pair + end]!;
    if (length === 0) core.addNic({ name, backend: `vale0:${name}`, socket });
    else {
      const path = `c${pair}_${end === 0 ? 0 : length - 1}:`;
      core.addNic({
        name,
        backend: 'netgraph',
        backendOptions: { path, peerhook: end === 0 ? 'link3' : 'link4' },
        socket,
      });
    }
  }
});

serveFabric(core);
