/** Backends that users bring: found, loaded, checked and put into the registry. */
import { createRequire } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { usageError } from '../errors.js';
import type { NetBackendType } from '../net-backends/net-backend.js';
import { netBackends, registerBackend } from '../net-backends/registry.js';
import type { NgType } from '../netgraph/node.js';
import { registerNodeType } from '../netgraph/types.js';

/**
 * The URL of a module: a URL as it is, a path relative to the working directory, or the name of a
 * package that is installed there.
 */
export function backendModuleUrl(module: URL | string): string {
  if (module instanceof URL) return module.href;
  if (/^(file|data):/.test(module)) return module;
  if (/^\.{0,2}\//.test(module)) return pathToFileURL(resolve(module)).href;
  try {
    return pathToFileURL(createRequire(join(process.cwd(), 'package.json')).resolve(module)).href;
  } catch {
    throw usageError(
      `there is no package "${module}" to load a backend from`,
      module,
      'Write the path of a file as ./file.js, or install the package.',
    );
  }
}

/** Loads a module that exports `backend`, or a `nodeType` of netgraph, or both, and registers them. */
export async function loadBackendModule(url: string): Promise<void> {
  let exports: { backend?: unknown; nodeType?: unknown };
  try {
    exports = await import(url);
  } catch (cause) {
    throw usageError(`backend module ${url} cannot be loaded: ${(cause as Error).message}`, url);
  }
  if (exports.nodeType !== undefined) addNodeType(exports.nodeType, url);
  if (exports.nodeType === undefined || exports.backend !== undefined) addBackendType(exports.backend, url);
}

function addNodeType(type: unknown, from: string): void {
  const candidate = type as Partial<NgType> | null;
  if (typeof candidate !== 'object' || typeof candidate?.name !== 'string')
    throw usageError(
      `${from} does not export a node type`,
      from,
      'nodeType must be an object with name and create (NgType).',
    );
  registerNodeType(candidate as NgType);
}

/** Registers a backend, unless it is there already. `from` names it in refusals. */
export function addBackendType(type: unknown, from: string): void {
  const candidate = type as Partial<NetBackendType> | null | undefined;
  if (typeof candidate !== 'object' || typeof candidate?.prefix !== 'string' || typeof candidate.open !== 'function')
    throw usageError(
      `${from} does not export a backend`,
      from,
      'It must export `backend`: an object with prefix, summary, example, options, needsReceive and open (NetBackendType).',
    );
  if (!netBackends.includes(candidate as NetBackendType)) registerBackend(candidate as NetBackendType);
}
