/** netbe schema: the published descriptions of the fabric file and of the control API. */
import { Argument, Command } from 'commander';
import type { FabricControl } from '../control/fabric-types.js';
import { fabricSchema } from '../control/schema.js';
import { netbeVersion } from '../control/version.js';
import { print } from './command.js';

export function schemaCommand(): Command {
  return new Command('schema')
    .summary('print the JSON Schema of the fabric file, or the OpenAPI description of the control API')
    .description(
      'Prints the JSON Schema of the fabric file (fabric) or the OpenAPI 3.1 description of the API (openapi).',
    )
    .addArgument(new Argument('<which>', 'what to print').choices(['fabric', 'openapi']))
    .action(async (which: string) => {
      print(JSON.stringify(which === 'fabric' ? fabricSchema : await describeApi(), null, 2));
    });
}

/** The description does not depend on the fabric that is behind it. */
export async function describeApi(): Promise<object> {
  // loaded when it is wanted: an HTTP server takes a while
  const { buildApi } = await import('../control/api.js');
  const app = await buildApi({} as FabricControl, { name: '', version: netbeVersion, startedAt: '' });
  const document = app.swagger();
  await app.close();
  return document;
}
