/**
 * The control API: HTTP over a unix socket, described by OpenAPI 3.1 at /openapi.json. Refusals are
 * application/problem+json (RFC 9457) with `code`, `subject` and `remedy`.
 */
import { STATUS_CODES } from 'node:http';
import { isAbsolute } from 'node:path';
import { Readable } from 'node:stream';
import fastifySwagger from '@fastify/swagger';
import { Ajv2020, type ErrorObject } from 'ajv/dist/2020.js';
import fastify, { type FastifyError, type FastifyInstance, type FastifyReply } from 'fastify';
import { NetbeError, usageError } from '../errors.js';
import { netgraphRoutes, ngctlCommandSchema, ngctlCommandsSchema, ngctlResultSchema } from './api-netgraph.js';
import {
  answers,
  countersSchema,
  fabricInfoSchema,
  graphSchema,
  linkSchema,
  nicSchema,
  patchSchema,
  problemSchema,
  problemType,
  switchSchema,
} from './api-schemas.js';
import type { FabricControl, NicInfo, NicSpec, PatchSpec, SandboxInfo } from './fabric-types.js';
import { metricsText } from './metrics.js';
import { nicSpecSchema, patchSpecSchema, RULE } from './schema.js';
import { explainSchemaError } from './schema-errors.js';

/** What the API says of the fabric besides its NICs and switches. */
export interface FabricIdentity {
  name: string;
  version: string;
  /** ISO 8601 */
  startedAt: string;
  /** where netmap ports are opened; left out: nowhere */
  portSocket?: string;
  /** what the process has given up; left out: nothing */
  sandbox?: ApiSandbox;
}

export interface ApiSandbox {
  info(): SandboxInfo;
  /** Throws for a NIC or a patch that cannot work in it. */
  admit(spec: NicSpec | PatchSpec): void;
}

const BODY_LIMIT = 64 * 1024;
const MAX_CONNECTIONS = 128;

export const pcapngType = 'application/x-pcapng';

export async function buildApi(fabric: FabricControl, identity: FabricIdentity): Promise<FastifyInstance> {
  const app = fastify({
    bodyLimit: BODY_LIMIT,
    requestTimeout: 10_000,
    forceCloseConnections: true,
    // a HEAD of a capture would begin one that nobody ends
    exposeHeadRoutes: false,
    routerOptions: { maxParamLength: 128 },
  });
  const ajv = new Ajv2020({ allErrors: true, verbose: true, strict: true, keywords: [RULE] });
  const schemas = [
    nicSpecSchema,
    patchSpecSchema,
    nicSchema,
    patchSchema,
    switchSchema,
    fabricInfoSchema,
    countersSchema,
    linkSchema,
    graphSchema,
    ngctlCommandSchema,
    ngctlCommandsSchema,
    ngctlResultSchema,
    problemSchema,
  ];
  for (const schema of schemas) app.addSchema(schema);
  ajv.addSchema([nicSpecSchema, patchSpecSchema, linkSchema, ngctlCommandSchema, ngctlCommandsSchema]);
  app.setValidatorCompiler(({ schema }) => ajv.compile(schema as object));
  app.setSchemaErrorFormatter(bodyError);
  app.setErrorHandler((error: FastifyError, _request, reply) => sendProblem(reply, toNetbeError(error)));
  app.setNotFoundHandler((request, reply) =>
    sendProblem(
      reply,
      new NetbeError(`${request.method} ${request.url} is not part of the API`, {
        code: 'ENOENT',
        kind: 'usage',
        subject: request.url,
        remedy: 'GET /openapi.json lists what is.',
      }),
    ),
  );
  await app.register(fastifySwagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'netbe control API',
        description: 'Controls a running fabric. Served on a unix socket that only its owner can open.',
        version: identity.version,
      },
      servers: [{ url: 'http://localhost', description: 'Over the unix socket; the host name is not used' }],
    },
    refResolver: { buildLocalReference: (json) => String(json.$id) },
  });
  await app.register(async (routes) => {
    fabricRoutes(routes, fabric, identity);
    nicRoutes(routes, fabric, identity);
    oneNicRoutes(routes, fabric);
    patchRoutes(routes, fabric, identity);
    netgraphRoutes(routes, fabric);
  });
  app.server.maxConnections = MAX_CONNECTIONS;
  await app.ready();
  return app;
}

function fabricRoutes(app: FastifyInstance, fabric: FabricControl, identity: FabricIdentity): void {
  const get = (url: string, operationId: string, summary: string, ok: object) => ({
    method: 'GET' as const,
    url,
    schema: { operationId, summary, response: answers({ 200: ok }) },
  });

  app.route({
    ...get('/v1/fabric', 'getFabric', 'The fabric', { $ref: 'Fabric#' }),
    handler: async () => {
      const { nics, patches, switches, netgraph } = await fabric.show();
      const counts = {
        nics: nics.length,
        patches: patches.length,
        switches: switches.length,
        graphNodes: netgraph.nodes.length,
      };
      const sandbox = identity.sandbox?.info() ?? null;
      const { name, version, startedAt, portSocket = null } = identity;
      return { name, version, pid: process.pid, node: process.version, startedAt, portSocket, ...counts, sandbox };
    },
  });
  app.route({
    ...get('/v1/switches', 'listSwitches', 'The switches, their ports and learned addresses', {
      type: 'array',
      items: { $ref: 'Switch#' },
    }),
    handler: async () => (await fabric.show()).switches,
  });
  app.route({
    ...get('/v1/counters', 'getCounters', 'All counters', { $ref: 'Counters#' }),
    handler: async () => fabric.counters(),
  });
  app.route({
    ...get('/metrics', 'getMetrics', 'All counters, for Prometheus', {
      description: 'Prometheus text format',
      content: { 'text/plain': { schema: { type: 'string' } } },
    }),
    handler: async (_request, reply) => {
      const { contentType, body } = await metricsText({
        version: identity.version,
        counters: () => fabric.counters(),
        show: () => fabric.show(),
      });
      return reply.type(contentType).send(body);
    },
  });
  app.route({
    method: 'GET',
    url: '/openapi.json',
    schema: { hide: true },
    handler: async () => app.swagger(),
  });
}

const nicName = {
  type: 'object',
  required: ['name'],
  properties: { name: { type: 'string', description: 'Name of the NIC' } },
};

function nicRoutes(app: FastifyInstance, fabric: FabricControl, { sandbox }: FabricIdentity): void {
  app.route({
    method: 'GET',
    url: '/v1/nics',
    schema: {
      operationId: 'listNics',
      summary: 'All NICs',
      response: answers({ 200: { type: 'array', items: { $ref: 'Nic#' } } }),
    },
    handler: async () => (await fabric.show()).nics,
  });
  app.route<{ Body: NicSpec }>({
    method: 'POST',
    url: '/v1/nics',
    schema: {
      operationId: 'addNic',
      summary: 'Add a NIC',
      body: { $ref: 'NicSpec#' },
      response: answers({ 201: { $ref: 'Nic#' } }),
    },
    handler: async (request, reply) => {
      const { socket } = request.body;
      if (!isAbsolute(socket))
        throw usageError(`socket "${socket}" is a relative path`, socket, 'Give an absolute path here.');
      sandbox?.admit(request.body);
      const nic = await fabric.addNic(request.body);
      return reply.code(201).header('location', `/v1/nics/${nic.name}`).send(nic);
    },
  });
}

function oneNicRoutes(app: FastifyInstance, fabric: FabricControl): void {
  app.route<{ Params: { name: string } }>({
    method: 'GET',
    url: '/v1/nics/:name',
    schema: {
      operationId: 'getNic',
      summary: 'One NIC',
      params: nicName,
      response: answers({ 200: { $ref: 'Nic#' } }),
    },
    handler: async (request) => findNic(fabric, request.params.name),
  });
  app.route<{ Params: { name: string }; Body: { link: 'up' | 'down' } }>({
    method: 'PATCH',
    url: '/v1/nics/:name',
    schema: {
      operationId: 'changeNic',
      summary: 'Take the link up or down',
      params: nicName,
      body: { $ref: 'NicChange#' },
      response: answers({ 200: { $ref: 'Nic#' } }),
    },
    handler: async (request) => {
      const { name } = await findNic(fabric, request.params.name);
      await fabric.setLink(name, request.body.link === 'up');
      return findNic(fabric, name);
    },
  });
  app.route<{ Params: { name: string } }>({
    method: 'DELETE',
    url: '/v1/nics/:name',
    schema: {
      operationId: 'removeNic',
      summary: 'Remove a NIC; its guest is disconnected',
      params: nicName,
      response: answers({ 204: { type: 'null', description: 'Removed' } }),
    },
    handler: async (request, reply) => {
      const { name } = await findNic(fabric, request.params.name);
      await fabric.removeNic(name);
      return reply.code(204).send();
    },
  });
  app.route<{ Params: { name: string } }>({
    method: 'GET',
    url: '/v1/nics/:name/capture',
    schema: {
      operationId: 'captureNic',
      summary: 'What crosses the NIC from now on, as pcapng, until the connection is closed',
      params: nicName,
      response: answers({
        200: {
          description: 'A pcapng stream without end',
          content: { [pcapngType]: { schema: { type: 'string', format: 'binary' } } },
        },
      }),
    },
    handler: async (request, reply) => {
      const { name } = await findNic(fabric, request.params.name);
      return reply.type(pcapngType).send(Readable.from(fabric.capture(name), { objectMode: false }));
    },
  });
}

function patchRoutes(app: FastifyInstance, fabric: FabricControl, { sandbox }: FabricIdentity): void {
  app.route({
    method: 'GET',
    url: '/v1/patches',
    schema: {
      operationId: 'listPatches',
      summary: 'All patches',
      response: answers({ 200: { type: 'array', items: { $ref: 'Patch#' } } }),
    },
    handler: async () => (await fabric.show()).patches,
  });
  app.route<{ Body: PatchSpec }>({
    method: 'POST',
    url: '/v1/patches',
    schema: {
      operationId: 'addPatch',
      summary: 'Join two backends',
      body: { $ref: 'PatchSpec#' },
      response: answers({ 201: { $ref: 'Patch#' } }),
    },
    handler: async (request, reply) => {
      sandbox?.admit(request.body);
      return reply.code(201).send(await fabric.addPatch(request.body));
    },
  });
  app.route<{ Params: { name: string } }>({
    method: 'DELETE',
    url: '/v1/patches/:name',
    schema: {
      operationId: 'removePatch',
      summary: 'Part two backends',
      params: {
        type: 'object',
        required: ['name'],
        properties: { name: { type: 'string', description: 'Name of the patch' } },
      },
      response: answers({ 204: { type: 'null', description: 'Removed' } }),
    },
    handler: async (request, reply) => {
      await fabric.removePatch(request.params.name);
      return reply.code(204).send();
    },
  });
}

async function findNic(fabric: FabricControl, name: string): Promise<NicInfo> {
  const { nics } = await fabric.show();
  const nic = nics.find((n) => n.name === name);
  if (nic) return nic;
  const names = nics.map((n) => n.name).join(', ');
  throw new NetbeError(`there is no NIC "${name}"`, {
    code: 'ENOENT',
    kind: 'usage',
    subject: name,
    remedy: names === '' ? 'The fabric has no NIC.' : `NICs: ${names}.`,
  });
}

function bodyError(errors: unknown[], part: string): Error {
  const faults = (errors as ErrorObject[]).map((e) => explainSchemaError(e, `the ${part}`).message);
  return usageError(faults.join('; '), part);
}

const statusOf: Record<string, number> = {
  EACCES: 403,
  ENOENT: 404,
  EEXIST: 409,
  EADDRINUSE: 409,
  EBUSY: 409,
  E2BIG: 413,
  ENOSPC: 507,
};

function toNetbeError(error: FastifyError): NetbeError {
  if (error instanceof NetbeError) return error;
  const status = error.statusCode ?? 500;
  if (status === 413)
    return new NetbeError(`the request body is longer than ${BODY_LIMIT} bytes`, { code: 'E2BIG', kind: 'usage' });
  if (status === 415)
    return usageError('the body is not JSON', 'content-type', 'Send it with content-type: application/json.');
  // Fastify's own refusals: malformed JSON, an unknown content type
  if (status < 500) return usageError(error.message);
  return new NetbeError(error.message, { code: error.code ?? 'EIO', cause: error });
}

function sendProblem(reply: FastifyReply, error: NetbeError): FastifyReply {
  const status = statusOf[error.code] ?? (error.kind === 'usage' ? 400 : error.kind === 'environment' ? 503 : 500);
  const { message: detail, code, subject, remedy } = error;
  const title = STATUS_CODES[status] ?? 'Error';
  return reply.code(status).type(problemType).send({ title, status, detail, code, subject, remedy });
}
