/**
 * The part of the control API that is the graph's: its nodes, commands of ngctl, and sessions, which live as long
 * as the connection that opened them.
 */
import { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { NetbeError } from '../errors.js';
import { EX_OK } from '../netgraph/ngctl/command.js';
import { answers } from './api-schemas.js';
import type { FabricControl, NgctlControl, NgctlOutcome } from './fabric-types.js';

export const ndjsonType = 'application/x-ndjson';

/** First line of a session's stream; each later one is `{ "text": … }`. */
export interface SessionOpened {
  session: number;
  /** name of its node */
  node: string;
}

const commandSchema = {
  description: 'A command of ngctl: a line, or its words',
  anyOf: [
    { type: 'string', maxLength: 16384 },
    { type: 'array', maxItems: 16384, items: { type: 'string', maxLength: 16384 } },
  ],
};

const nodeNameSchema = { type: 'string', minLength: 1, maxLength: 31, description: 'Name of the node of the session' };

export const ngctlCommandSchema = {
  $id: 'NgctlCommand',
  title: 'NgctlCommand',
  type: 'object',
  additionalProperties: false,
  required: ['command'],
  properties: { command: commandSchema },
};

export const ngctlCommandsSchema = {
  $id: 'NgctlCommands',
  title: 'NgctlCommands',
  type: 'object',
  additionalProperties: false,
  required: ['commands'],
  properties: {
    name: nodeNameSchema,
    commands: {
      type: 'array',
      maxItems: 4096,
      items: commandSchema,
      description: 'Run one after the other; the first that fails is the last',
    },
  },
};

const resultProperties = {
  output: { type: 'string', description: 'For standard output' },
  error: { type: 'string', description: 'For standard error' },
  status: { type: 'integer', description: 'Exit status: 0, 64 for wrong usage, 71 for any other failure' },
  quit: { type: 'boolean', description: 'The command was quit' },
};

export const ngctlResultSchema = {
  $id: 'NgctlResult',
  title: 'NgctlResult',
  type: 'object',
  description: 'What a command of ngctl has to say',
  additionalProperties: false,
  required: Object.keys(resultProperties),
  properties: resultProperties,
};

export function netgraphRoutes(app: FastifyInstance, fabric: FabricControl): void {
  const sessions = new Map<number, NgctlControl>();
  graphRoute(app, fabric);
  commandsRoute(app, fabric);
  sessionRoutes(app, fabric, sessions);
}

function graphRoute(app: FastifyInstance, fabric: FabricControl): void {
  app.route({
    method: 'GET',
    url: '/v1/netgraph',
    schema: {
      operationId: 'getNetgraph',
      summary: 'The graph: its nodes and their hooks',
      response: answers({ 200: { $ref: 'Graph#' } }),
    },
    handler: async () => (await fabric.show()).netgraph,
  });
}

function commandsRoute(app: FastifyInstance, fabric: FabricControl): void {
  app.route<{ Body: { name?: string; commands: (string | string[])[] } }>({
    method: 'POST',
    url: '/v1/netgraph/commands',
    schema: {
      operationId: 'runNgctl',
      summary: 'Run commands of ngctl in a session of their own',
      body: { $ref: 'NgctlCommands#' },
      response: answers({ 200: { type: 'array', items: { $ref: 'NgctlResult#' } } }),
    },
    handler: async (request) => {
      const { name, commands } = request.body;
      const session = await fabric.openNgctl(name);
      const results: NgctlOutcome[] = [];
      try {
        for (const command of commands) {
          const result = await session.run(command);
          results.push(result);
          if (result.status !== EX_OK || result.quit) break;
        }
      } finally {
        await session.close();
      }
      return results;
    },
  });
}

function sessionRoutes(app: FastifyInstance, fabric: FabricControl, sessions: Map<number, NgctlControl>): void {
  app.route<{ Querystring: { name?: string } }>({
    method: 'GET',
    url: '/v1/netgraph/session',
    schema: {
      operationId: 'openNgctl',
      summary: 'A session of ngctl, until the connection is closed: its number, then what comes to its node',
      querystring: { type: 'object', additionalProperties: false, properties: { name: nodeNameSchema } },
      response: answers({
        200: {
          description: 'Lines of JSON: { session, node }, then { text } each',
          content: { [ndjsonType]: { schema: { type: 'string' } } },
        },
      }),
    },
    handler: async (request, reply) => {
      const session = await fabric.openNgctl(request.query.name);
      sessions.set(session.id, session);
      const end = (): void => {
        sessions.delete(session.id);
        void session.close();
      };
      reply.raw.once('close', end);
      if (reply.raw.destroyed) end();
      return reply.type(ndjsonType).send(Readable.from(lines(session), { objectMode: false }));
    },
  });
  app.route<{ Params: { id: number }; Body: { command: string | string[] } }>({
    method: 'POST',
    url: '/v1/netgraph/session/:id',
    schema: {
      operationId: 'runInNgctl',
      summary: 'Run a command of ngctl in a session',
      params: {
        type: 'object',
        required: ['id'],
        properties: { id: { type: 'string', pattern: '^\\d{1,10}$', description: 'Number of the session' } },
      },
      body: { $ref: 'NgctlCommand#' },
      response: answers({ 200: { $ref: 'NgctlResult#' } }),
    },
    handler: async (request) => findSession(sessions, Number(request.params.id)).run(request.body.command),
  });
}

async function* lines(session: NgctlControl): AsyncGenerator<string, void> {
  const opened: SessionOpened = { session: session.id, node: session.name };
  yield `${JSON.stringify(opened)}\n`;
  for await (const text of session.events()) yield `${JSON.stringify({ text })}\n`;
}

function findSession(sessions: Map<number, NgctlControl>, id: number): NgctlControl {
  const found = sessions.get(id);
  if (found !== undefined) return found;
  throw new NetbeError(`there is no session ${id} of ngctl`, {
    code: 'ENOENT',
    kind: 'usage',
    subject: String(id),
    remedy: 'Open one with GET /v1/netgraph/session; it ends with its connection.',
  });
}
