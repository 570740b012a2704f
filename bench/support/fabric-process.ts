/** A bench's process that is a fabric, as `netbe run` has it in its fabric thread. */
import { FabricCore } from '../../src/control/fabric-core.js';

/** A fabric that says nothing but what went wrong. */
export function quietFabric(): FabricCore {
  const quiet = { debug() {}, info() {}, warn() {} };
  return new FabricCore({
    log: { ...quiet, error: (fields, message) => void process.stderr.write(`${message} ${JSON.stringify(fields)}\n`) },
  });
}

/** Says {"ready":true}, runs the fabric as its thread does, and closes it when the standard input ends. */
export function serveFabric(core: FabricCore, onEnd = () => {}): void {
  let ended = false;
  process.stdin.on('end', () => {
    ended = true;
  });
  process.stdin.resume();
  process.stdout.write('{"ready":true}\n');
  const serve = (): void => {
    const until = performance.now() + 20;
    while (performance.now() < until) core.step(20);
    if (!ended) {
      setImmediate(serve);
      return;
    }
    onEnd();
    core.close();
  };
  serve();
}
