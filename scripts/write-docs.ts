/**
 * Writes what is made from the code into docs/: npm run build:docs. A test checks that they agree.
 */
import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describeApi } from '../src/cli/schema.js';
import { fabricSchema } from '../src/control/schema.js';

const docs = new URL('../../docs/', import.meta.url);

/** File name in docs/, then its whole text. */
export async function generatedDocs(): Promise<Record<string, string>> {
  return { 'fabric.schema.json': json(fabricSchema), 'openapi.json': json(await describeApi()) };
}

function json(value: object): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  for (const [name, text] of Object.entries(await generatedDocs())) writeFileSync(new URL(name, docs), text);
