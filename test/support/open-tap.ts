/**
 * Opens a backend in a process of its own and says what came of it, as a line of JSON. For tests of what
 * a process without privileges may do: open-tap.js DEVICE.
 */
import { NetbeError } from '../../src/errors.js';
import { openBackend } from '../../src/net-backends/registry.js';
import { testRuntime } from './runtime.js';

const runtime = testRuntime();
let answer: object;
try {
  const backend = openBackend(runtime, process.argv[2] ?? '', () => {}, 'test');
  answer = {
    status: backend.status?.(),
    warnings: runtime.records.filter((r) => r.level === 'warn').map((r) => r.message),
  };
  backend.close();
} catch (error) {
  if (!(error instanceof NetbeError)) throw error;
  answer = { error };
}
process.stdout.write(`${JSON.stringify(answer)}\n`);
