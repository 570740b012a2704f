/** hold-backend DEVICE: opens a backend and keeps it; says {} when it is open, or the error as JSON. */
import { openBackend } from '../../src/net-backends/registry.js';
import { testRuntime } from './runtime.js';

try {
  openBackend(testRuntime(), process.argv[2] ?? '', () => {}, 'held');
  process.stdout.write('{}\n');
  setInterval(() => {}, 1000);
} catch (error) {
  process.stdout.write(`${JSON.stringify(error)}\n`);
}
