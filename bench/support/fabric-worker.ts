/**
 * The measured side of vhost-user-forward: a fabric with NICs on one VALE switch, as `netbe run` has it
 * in its fabric thread.
 *
 *   fabric-worker SOCKET…      says {"ready":true}; ends with its standard input
 */
import { FabricCore } from '../../src/control/fabric-core.js';

const quiet = { debug() {}, info() {}, warn() {} };
const core = new FabricCore({
  log: { ...quiet, error: (fields, message) => void process.stderr.write(`${message} ${JSON.stringify(fields)}\n`) },
});
process.argv.slice(2).forEach((socket, i) => {
  core.addNic({ name: `vm${i}`, emulation: 'virtio-net', backend: `vale0:vm${i}`, socket });
});

let ended = false;
process.stdin.on('end', () => {
  ended = true;
});
process.stdin.resume();
process.stdout.write('{"ready":true}\n');

function serve(): void {
  const until = performance.now() + 20;
  while (performance.now() < until) core.step(20);
  if (ended) core.close();
  else setImmediate(serve);
}
serve();
