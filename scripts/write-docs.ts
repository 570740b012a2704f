/**
 * Writes what is made from the code into docs/: npm run build:docs. A test checks that they agree.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { buildApi } from '../src/control/api.js';
import type { FabricControl } from '../src/control/fabric-types.js';
import { fabricSchema } from '../src/control/schema.js';
import { netbeVersion } from '../src/control/version.js';

const docs = new URL('../../docs/', import.meta.url);

/** File name in docs/, then its whole text. */
export async function generatedDocs(): Promise<Record<string, string>> {
  return { 'fabric.schema.json': json(fabricSchema), 'openapi.json': json(await openApi()) };
}

function json(value: object): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** The description does not depend on the fabric that is behind it. */
async function openApi(): Promise<object> {
  const app = await buildApi({} as FabricControl, { name: '', version: netbeVersion, startedAt: '' });
  const document = app.swagger();
  await app.close();
  return document;
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  for (const [name, text] of Object.entries(await generatedDocs())) writeFileSync(new URL(name, docs), text);
