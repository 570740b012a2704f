import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { GraphLab } from '../../support/netgraph.js';

const NODES = ['p:', 'n0:', 'n1:', 'n2:', 'n3:', '[3]:', '[5]:', 'n0:link0', 'n1:a.b', 'p:left.right', '.'];
const HOOKS = [
  'a',
  'upper',
  'lower',
  'b',
  'link0',
  'link1',
  'uplink1',
  'left',
  'right',
  'left2right',
  'right2left',
  'one',
  'many0',
  'many1',
  'in',
  'out',
  'downstream',
  'nomatch',
  'v5',
];
const TYPES = [
  'hub',
  'bridge',
  'tee',
  'one2many',
  'patch',
  'vlan',
  'hole',
  'echo',
  'socket',
  'pipe',
  'bpf',
  'nonsense',
];
const MESSAGES = [
  'setpersistent',
  'getconfig',
  'gettable',
  'getstats 0',
  'getclrstats -1',
  'clrstats',
  'reset',
  'linger',
  'nolinger',
  'setconfig { debugLevel=2 minStableAge=1 maxStaleness=5 }',
  'setconfig { xmitAlg=2 failAlg=2 enabledLinks=[ 1 1 ] }',
  'setconfig { count=1 ops=[ { length=2 mode=2 value=1 } ] }',
  'addfilter { hook="v5" vid=5 }',
  'delfilter "v5"',
  'movehost { addr=02:00:00:00:00:01 hook="link0" }',
  'listhooks',
  'textstatus',
  'shutdown',
  'connect { path="n0:" }',
  'setcfg { bandwidth=1000000 delay=1000 upstream={ BER=1000 duplicate=50 } }',
  'setprogram { thisHook="a" ifMatch="b" ifNotMatch="left" bpf_prog_len=1 bpf_prog=[ { code=6 k=8192 } ] }',
];

const node = fc.constantFrom(...NODES);
const hook = fc.constantFrom(...HOOKS);
const line = fc.oneof(
  {
    weight: 4,
    arbitrary: fc
      .tuple(node, fc.constantFrom(...TYPES), hook, hook)
      .map(([n, t, h, k]) => `mkpeer ${n} ${t} ${h} ${k}`),
  },
  { weight: 4, arbitrary: fc.tuple(node, node, hook, hook).map(([n, m, h, k]) => `connect ${n} ${m} ${h} ${k}`) },
  { weight: 2, arbitrary: fc.tuple(node, hook, fc.nat(3)).map(([n, h, i]) => `name ${n}${h} n${i}`) },
  { weight: 1, arbitrary: fc.tuple(node, hook).map(([n, h]) => `rmhook ${n} ${h}`) },
  { weight: 1, arbitrary: node.map((n) => `shutdown ${n === '.' || n === 'p:' ? 'n0:' : n}`) },
  { weight: 3, arbitrary: fc.tuple(node, fc.constantFrom(...MESSAGES)).map(([n, m]) => `msg ${n} ${m}`) },
  { weight: 1, arbitrary: fc.constantFrom('list -l', 'dot', 'types', 'status n0:', 'config n1: x') },
);
const step = fc.oneof(
  { weight: 3, arbitrary: line },
  { weight: 1, arbitrary: fc.array(fc.uint8Array({ minLength: 1, maxLength: 40 }), { minLength: 1, maxLength: 5 }) },
);

/** What holds of every graph between turns. */
function check(lab: GraphLab): void {
  const nodes = lab.graph.listNodes();
  for (const one of nodes) {
    assert.equal(one.busy, false);
    assert.equal(one.queued, 0);
    assert.equal(lab.graph.nodeById(one.id), one);
    if (one.name !== '') assert.equal(lab.graph.nodeByName(undefined, one.name), one);
    assert.equal(new Set(one.hooks.map(({ name }) => name)).size, one.hooks.length);
    for (const end of one.hooks) {
      assert.equal(end.node, one);
      assert.equal(end.valid, true);
      assert.equal(end.peer?.peer, end);
      assert(end.peer?.node.hooks.includes(end.peer));
    }
  }
}

test('whatever is asked of a graph and sent through it, it stays whole, and nothing is left of it', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), (steps) => {
      const lab = new GraphLab();
      try {
        const probe = lab.probe('p');
        for (const one of steps) {
          if (typeof one === 'string') {
            const { status } = lab.run(one);
            assert([0, 64, 71].includes(status));
          } else for (const end of probe.socket.node.hooks) probe.send(end.name, ...one);
          probe.take();
          check(lab);
        }
        for (const { level, message } of lab.runtime.records) assert.notEqual(level, 'error', message);
        lab.graph.close();
        assert.deepEqual(lab.runtime.counters.directory(), []);
      } finally {
        lab.close();
      }
    }),
    { numRuns: 150 },
  );
});
