/**
 * The measured side of bench/tap-forward: a fabric whose switch joins two taps, each by a patch.
 *
 *   tap-forward-worker INTERFACE INTERFACE      says {"ready":true}, and goes on until its input ends
 */
import { Fabric } from '../../src/index.js';

const [a = 'tap0', b = 'tap1'] = process.argv.slice(2);
const fabric = await Fabric.start({
  patches: [
    { name: 'a', a: 'vale0:a', b: `tap:${a}` },
    { name: 'b', a: 'vale0:b', b: `tap:${b}` },
  ],
});
process.stdout.write('{"ready":true}\n');
process.stdin.on('end', () => void fabric.close().then(() => process.exit(0))).resume();
