/**
 * Serves the control API on a unix socket with mode 0600. The socket of a fabric that has died is
 * replaced; that of a live one is refused, with its process.
 */
import { chmodSync, lstatSync, rmSync } from 'node:fs';
import { isMainThread } from 'node:worker_threads';
import type { FastifyInstance } from 'fastify';
import { NetbeError } from '../errors.js';
import { buildApi, type FabricIdentity } from './api.js';
import { ControlClient } from './control-client.js';
import type { FabricControl } from './fabric-types.js';
import { checkSocketPath } from './nic-spec.js';
import { controlSocketPath, ensureRuntimeDir } from './runtime-dir.js';

export interface ControlServerOptions {
  fabric: FabricControl;
  identity: FabricIdentity;
  /** default: NAME.sock in the runtime directory, which is made */
  path?: string | undefined;
}

/** milliseconds that a live fabric has to say who it is */
const PROBE_MS = 2000;

export class ControlServer {
  #closed = false;

  private constructor(
    readonly path: string,
    readonly app: FastifyInstance,
  ) {}

  static async listen({ fabric, identity, path }: ControlServerOptions): Promise<ControlServer> {
    const at = checkSocketPath(path ?? controlSocketPath(identity.name));
    if (path === undefined) ensureRuntimeDir();
    await replaceDead(at, identity.name);
    const app = await buildApi(fabric, identity);
    // the socket is ours alone from the moment it exists; only a main thread may change the mask
    const mask = isMainThread ? process.umask(0o177) : undefined;
    try {
      await app.listen({ path: at });
      chmodSync(at, 0o600);
    } catch (cause) {
      await app.close();
      throw cannotListen(at, cause as NodeJS.ErrnoException);
    } finally {
      if (mask !== undefined) process.umask(mask);
    }
    return new ControlServer(at, app);
  }

  /** Ends all connections and removes the socket. Idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.app.close();
    rmSync(this.path, { force: true });
  }
}

function cannotListen(path: string, cause: NodeJS.ErrnoException): NetbeError {
  const { code = 'EIO' } = cause;
  return new NetbeError(`cannot listen on the control socket ${path}: ${code}`, {
    code,
    kind: 'environment',
    subject: path,
    remedy: 'Choose another with --control PATH.',
    cause,
  });
}

/** Removes the socket that a dead fabric left. Throws EADDRINUSE when somebody answers there. */
async function replaceDead(path: string, name: string): Promise<void> {
  const stat = lstatSync(path, { throwIfNoEntry: false });
  if (!stat) return;
  if (!stat.isSocket())
    throw new NetbeError(`${path} is there already, and is not a socket`, {
      code: 'EEXIST',
      kind: 'usage',
      subject: path,
      remedy: 'Choose another path with --control PATH, or remove the file.',
    });
  try {
    const { pid } = await new ControlClient(path, PROBE_MS).fabric();
    throw inUse(path, name, `by process ${pid}`);
  } catch (error) {
    const code = error instanceof NetbeError ? error.code : 'EIO';
    if (code === 'ECONNREFUSED' || code === 'ENOENT') rmSync(path, { force: true });
    else if (code === 'EADDRINUSE') throw error;
    else throw inUse(path, name, 'by a process that does not answer as a fabric');
  }
}

function inUse(path: string, name: string, by: string): NetbeError {
  return new NetbeError(`a fabric "${name}" is running already, ${by}, with its control socket at ${path}`, {
    code: 'EADDRINUSE',
    kind: 'usage',
    subject: path,
    remedy: 'Stop it, or start this one under another name with --fabric NAME.',
  });
}
