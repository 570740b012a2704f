/** Talks to a running fabric: the client's side of api.ts. */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { text } from 'node:stream/consumers';
import { NetbeError } from '../errors.js';
import type {
  Counters,
  GraphInfo,
  NicInfo,
  NicSpec,
  PatchInfo,
  PatchSpec,
  SandboxInfo,
  SwitchInfo,
} from './fabric-types.js';
import { NgctlClient } from './ngctl-client.js';
import { knownFabrics } from './runtime-dir.js';

/** GET /v1/fabric */
export interface FabricSummary {
  name: string;
  version: string;
  pid: number;
  node: string;
  startedAt: string;
  portSocket: string | null;
  nics: number;
  patches: number;
  switches: number;
  graphNodes: number;
  sandbox: SandboxInfo | null;
}

interface Problem {
  detail: string;
  status: number;
  code: string;
  subject?: string;
  remedy?: string;
}

export class ControlClient {
  constructor(
    /** path of the control socket */
    readonly path: string,
    /** milliseconds to wait for an answer to begin */
    readonly timeoutMs = 10_000,
  ) {}

  fabric(): Promise<FabricSummary> {
    return this.#json('GET', '/v1/fabric');
  }

  nics(): Promise<NicInfo[]> {
    return this.#json('GET', '/v1/nics');
  }

  nic(name: string): Promise<NicInfo> {
    return this.#json('GET', nicUrl(name));
  }

  addNic(spec: NicSpec): Promise<NicInfo> {
    return this.#json('POST', '/v1/nics', spec);
  }

  setLink(name: string, link: 'up' | 'down'): Promise<NicInfo> {
    return this.#json('PATCH', nicUrl(name), { link });
  }

  async removeNic(name: string): Promise<void> {
    (await this.#request('DELETE', nicUrl(name))).resume();
  }

  patches(): Promise<PatchInfo[]> {
    return this.#json('GET', '/v1/patches');
  }

  addPatch(spec: PatchSpec): Promise<PatchInfo> {
    return this.#json('POST', '/v1/patches', spec);
  }

  async removePatch(name: string): Promise<void> {
    (await this.#request('DELETE', `/v1/patches/${encodeURIComponent(name)}`)).resume();
  }

  switches(): Promise<SwitchInfo[]> {
    return this.#json('GET', '/v1/switches');
  }

  netgraph(): Promise<GraphInfo> {
    return this.#json('GET', '/v1/netgraph');
  }

  /** Opens a session of ngctl whose node has that name. It ends with close(), and with this process. */
  async openNgctl(name: string): Promise<NgctlClient> {
    const stream = await this.#request('GET', `/v1/netgraph/session?name=${encodeURIComponent(name)}`);
    return NgctlClient.begin(stream, (session, command) =>
      this.#json('POST', `/v1/netgraph/session/${session}`, { command }),
    );
  }

  counters(): Promise<Counters> {
    return this.#json('GET', '/v1/counters');
  }

  /** pcapng bytes until the stream is destroyed or the NIC goes. */
  capture(name: string): Promise<IncomingMessage> {
    return this.#request('GET', `${nicUrl(name)}/capture`);
  }

  openapi(): Promise<object> {
    return this.#json('GET', '/openapi.json');
  }

  async #json<T>(method: string, url: string, body?: object): Promise<T> {
    const answer = await text(await this.#request(method, url, body));
    return JSON.parse(answer) as T;
  }

  /** The answer once it has begun. Throws what a problem says, and what keeps the fabric from being reached. */
  async #request(method: string, path: string, body?: object): Promise<IncomingMessage> {
    const response = await this.#send(method, path, body);
    if ((response.statusCode ?? 500) < 400) return response;
    const answer = await text(response);
    let problem: Problem;
    try {
      problem = JSON.parse(answer) as Problem;
    } catch {
      throw new NetbeError(`${this.path} answered ${response.statusCode}, and not as a fabric does`, {
        code: 'EPROTO',
      });
    }
    const { detail, status, code, subject, remedy } = problem;
    const kind = status < 500 ? 'usage' : status === 503 ? 'environment' : 'runtime';
    throw new NetbeError(detail, { code, kind, subject, remedy });
  }

  #send(method: string, path: string, body: object | undefined): Promise<IncomingMessage> {
    return new Promise((resolve, reject) => {
      const headers = body === undefined ? {} : { 'content-type': 'application/json' };
      const request = httpRequest({ socketPath: this.path, method, path, headers, agent: false });
      request.setTimeout(this.timeoutMs, () => {
        const seconds = this.timeoutMs / 1000;
        request.destroy(
          new NetbeError(`the fabric at ${this.path} did not answer within ${seconds} s`, {
            code: 'ETIMEDOUT',
            subject: this.path,
          }),
        );
      });
      request.on('response', (response) => {
        // a capture may be silent for as long as nothing crosses the NIC
        request.setTimeout(0);
        resolve(response);
      });
      request.on('error', (error) => reject(this.#unreachable(error)));
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  #unreachable(error: NodeJS.ErrnoException): NetbeError {
    if (error instanceof NetbeError) return error;
    const { code = 'EIO' } = error;
    if (code === 'ENOENT' || code === 'ECONNREFUSED')
      return new NetbeError(`no fabric is running at ${this.path}`, {
        code,
        kind: 'environment',
        subject: this.path,
        remedy: startRemedy(),
        cause: error,
      });
    const denied = code === 'EACCES' || code === 'EPERM';
    return new NetbeError(`cannot reach the fabric at ${this.path}: ${code}`, {
      code,
      kind: denied ? 'environment' : 'runtime',
      subject: this.path,
      remedy: denied ? 'Only the user who started the fabric may control it.' : undefined,
      cause: error,
    });
  }
}

function startRemedy(): string {
  const known = knownFabrics();
  const others = known.length === 0 ? '' : ` Control sockets there are: ${known.join(', ')} (--fabric NAME).`;
  return `Start one with netbe run or netbe up, or name another with --fabric or --control.${others}`;
}

function nicUrl(name: string): string {
  return `/v1/nics/${encodeURIComponent(name)}`;
}
