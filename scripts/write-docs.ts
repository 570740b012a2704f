/**
 * Writes what is made from the code into the documentation: schemas, and the tables between
 * `<!-- table: NAME -->` and `<!-- end of table -->`. npm run build:docs; a test checks that they agree.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describeApi } from '../src/cli/schema.js';
import { fabricSchema } from '../src/control/schema.js';
import { withTables } from './docs/tables.js';

const root = new URL('../../', import.meta.url);

/** Path from the root of the project, then the whole text. */
export async function generatedDocs(): Promise<Record<string, string>> {
  const texts: Record<string, string> = {
    'docs/fabric.schema.json': json(fabricSchema),
    'docs/openapi.json': json(await describeApi()),
  };
  for (const path of markdownFiles()) texts[path] = await withTables(readFileSync(new URL(path, root), 'utf8'));
  return texts;
}

export function markdownFiles(): string[] {
  const inDocs = readdirSync(new URL('docs/', root)).map((name) => `docs/${name}`);
  return [...readdirSync(root), ...inDocs].filter((path) => path.endsWith('.md')).sort();
}

function json(value: object): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  for (const [path, text] of Object.entries(await generatedDocs())) writeFileSync(new URL(path, root), text);
