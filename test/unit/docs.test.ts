import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { generatedDocs } from '../../scripts/write-docs.js';

const docs = new URL('../../../docs/', import.meta.url);

for (const [name, text] of Object.entries(await generatedDocs()))
  test(`docs/${name} is what the code says (npm run build:docs)`, () => {
    const file = readFileSync(new URL(name, docs), 'utf8');
    if (name.endsWith('.json')) assert.deepEqual(JSON.parse(file), JSON.parse(text));
    else assert.equal(file, text);
  });
