/**
 * A process that enters the sandbox as `netbe run` does, and then tries everything: on the main thread and
 * on one that was started before the filter. Prints one line of JSON. Its argument is a Request.
 */
import { fileURLToPath } from 'node:url';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { enterSandbox, resumeSandbox } from '../../src/control/sandbox.js';
import { type Outcome, type Places, tryForbidden, tryNeeded } from './forbidden.js';

interface Request extends Places {
  control: string;
}

async function main(request: Request): Promise<void> {
  const sandbox = resumeSandbox();
  if (sandbox === undefined) {
    const missing = await enterSandbox({
      name: 'test',
      control: request.control,
      nics: [],
      patches: [],
      backends: [],
      allowPaths: [],
      reads: [],
      user: undefined,
    });
    throw new Error(`no sandbox: ${missing}`);
  }
  const worker = new Worker(fileURLToPath(import.meta.url), { workerData: request });
  await new Promise((resolve) => worker.once('message', resolve));
  sandbox.seal();
  const inMain = { forbidden: tryForbidden(request), needed: await tryNeeded(request) };
  worker.postMessage('try');
  const inWorker = await new Promise<typeof inMain>((resolve) => worker.once('message', resolve));
  process.stdout.write(`${JSON.stringify({ inMain, inWorker, info: sandbox.info() })}\n`);
  await worker.terminate();
}

export interface ChildReport {
  inMain: { forbidden: Outcome; needed: Outcome };
  inWorker: { forbidden: Outcome; needed: Outcome };
  info: import('../../src/control/fabric-types.js').SandboxInfo;
}

if (isMainThread) await main(JSON.parse(process.argv[2] ?? '{}') as Request);
else {
  parentPort?.once('message', async () => {
    const places = workerData as Places;
    parentPort?.postMessage({ forbidden: tryForbidden(places), needed: await tryNeeded(places) });
  });
  parentPort?.postMessage('ready');
}
