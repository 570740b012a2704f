import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { generatedDocs, markdownFiles } from '../../scripts/write-docs.js';
import { counterNames as e1000CounterNames } from '../../src/frontends/e1000/counters.js';
import { counterNames } from '../../src/frontends/virtio-net/counters.js';
import { counterNames as virtioPciCounterNames } from '../../src/frontends/virtio-pci/counters.js';
import { netgraphCounterNames } from '../../src/net-backends/netgraph.js';
import { nodeCounterNames } from '../../src/netgraph/node.js';
import { nodeTypes } from '../../src/netgraph/types.js';
import { ringCounterNames } from '../../src/netmap/counters.js';
import { ownHostCounterNames } from '../../src/netmap/host/counters.js';
import { ringsCounterNames } from '../../src/netmap/ring-link.js';
import { portCounterNames, switchCounterNames } from '../../src/netmap/vale/counters.js';
import { counterNames as vfioUserCounterNames } from '../../src/transports/vfio-user/counters.js';

const root = fileURLToPath(new URL('../../../', import.meta.url));
const read = (path: string) => readFileSync(join(root, path), 'utf8');

for (const [path, text] of Object.entries(await generatedDocs()))
  test(`${path} says what the code says (npm run build:docs)`, () => {
    if (path.endsWith('.json')) assert.deepEqual(JSON.parse(read(path)), JSON.parse(text));
    else assert.equal(read(path), text);
  });

test('every counter is explained', () => {
  const missing = (path: string, names: readonly string[]) => {
    const text = read(path);
    return names.filter((name) => !text.includes(`\`${name}\``));
  };
  assert.deepEqual(missing('docs/virtio-net.md', counterNames), []);
  assert.deepEqual(missing('docs/virtio-pci.md', virtioPciCounterNames), []);
  assert.deepEqual(missing('docs/vfio-user.md', vfioUserCounterNames), []);
  assert.deepEqual(missing('docs/e1000.md', e1000CounterNames), []);
  const ngCounters = nodeTypes.flatMap(({ counters = [] }) => counters);
  assert.deepEqual(missing('docs/netgraph-nodes.md', [...nodeCounterNames, ...ngCounters]), []);
  assert.deepEqual(missing('docs/netmap.md', [...ownHostCounterNames, ...ringsCounterNames]), []);
  assert.deepEqual(missing('docs/netmap-rings.md', ringCounterNames), []);
  assert.deepEqual(missing('docs/netgraph.md', netgraphCounterNames), []);
  assert.deepEqual(missing('docs/vale.md', [...portCounterNames, ...switchCounterNames]), []);
});

test('links within the documentation lead somewhere', () => {
  for (const path of markdownFiles())
    for (const [, target] of read(path).matchAll(/\]\((?!https?:)([^)#]+)(?:#[^)]*)?\)/g))
      assert(existsSync(join(root, dirname(path), target as string)), `${path} links to ${target}`);
});
