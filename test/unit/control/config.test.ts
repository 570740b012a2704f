import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { loadConfig, parseConfig } from '../../../src/control/config.js';
import { NetbeError } from '../../../src/errors.js';

const PATH = '/srv/lab/fabric.yaml';

function refusal(text: string): string {
  try {
    parseConfig(text, PATH);
  } catch (error) {
    assert(error instanceof NetbeError, String(error));
    assert.equal(error.kind, 'usage');
    return error.message;
  }
  return 'accepted';
}

const lines = (...text: string[]) => text.join('\n');

test('reads a full file; relative paths start from its folder', () => {
  const config = parseConfig(
    lines(
      'name: lab',
      'control: run/lab.sock',
      'log: { level: debug, format: json }',
      'poll: { spinUs: 20 }',
      'strictMemory: true',
      'backends: [echo.js]',
      'netgraph: [mkpeer bridge link0 link0, "name .:link0 br0"]',
      'nics:',
      '  - { name: vm1, slot: 2:0, emulation: virtio-net, backend: vale0:vm1, socket: vm1.sock,',
      '      mac: 02:00:00:00:00:01, mtu: 9000, mode: client, strictMemory: false, backendOptions: { a: b } }',
      '  - { backend: vale0:vm2, socket: /run/vm2.sock }',
      'patches:',
      '  - { a: vale0:up, b: "stream0,addr=unix:up.sock" }',
    ),
    PATH,
  );
  assert.deepEqual(config, {
    name: 'lab',
    control: '/srv/lab/run/lab.sock',
    log: { level: 'debug', format: 'json' },
    poll: { spinUs: 20 },
    strictMemory: true,
    backends: [new URL('file:///srv/lab/echo.js')],
    netgraph: ['mkpeer bridge link0 link0', 'name .:link0 br0'],
    nics: [
      {
        name: 'vm1',
        slot: '2:0',
        emulation: 'virtio-net',
        backend: 'vale0:vm1',
        socket: '/srv/lab/vm1.sock',
        mac: '02:00:00:00:00:01',
        mtu: 9000,
        mode: 'client',
        strictMemory: false,
        backendOptions: { a: 'b' },
      },
      { backend: 'vale0:vm2', socket: '/run/vm2.sock' },
    ],
    patches: [{ a: 'vale0:up', b: 'stream0,addr=unix:up.sock' }],
  });
});

test('fills in the defaults, and takes JSON', () => {
  assert.deepEqual(parseConfig('{"nics": []}', PATH), {
    name: 'default',
    control: undefined,
    log: { level: 'info', format: 'auto' },
    poll: {},
    strictMemory: false,
    backends: [],
    nics: [],
    netgraph: [],
    patches: [],
  });
});

const nic = ['nics:', '  - backend: vale0:vm1', '    socket: vm1.sock'];

const refusals: Record<string, { text: string[]; says: string[] }> = {
  'an unknown key: did you mean': {
    text: [...nic, '    mut: 1500'],
    says: ['fabric.yaml:4:5: unknown key "mut" in nics[0]; did you mean mtu?', '  4 |     mut: 1500', '    |     ^~~'],
  },
  'an unknown key that is like none: the known ones': {
    text: ['colour: red', 'nics: []'],
    says: [
      'fabric.yaml:1:1: unknown key "colour"; known keys: name, control, log, poll, strictMemory, backends, netgraph, nics, patches',
      '  1 | colour: red',
      '    | ^~~~~~',
    ],
  },
  'a value that is not in the list': {
    text: [...nic, '    mode: sever'],
    says: [
      'fabric.yaml:4:11: nics[0].mode "sever" is not server or client; did you mean server?',
      '  4 |     mode: sever',
      '    |           ^~~~~',
    ],
  },
  'a pattern, explained': {
    text: [...nic, '    mac: 02-00-00-00-00-01'],
    says: [
      'fabric.yaml:4:10: nics[0].mac "02-00-00-00-00-01" is not six hexadecimal octets joined by ":", for instance 02:00:00:00:00:01',
      '  4 |     mac: 02-00-00-00-00-01',
      '    |          ^~~~~~~~~~~~~~~~~',
    ],
  },
  'a number out of range': {
    text: [...nic, '    mtu: 12'],
    says: [
      'fabric.yaml:4:10: nics[0].mtu 12 is not a number from 68 to 65535',
      '  4 |     mtu: 12',
      '    |          ^~',
    ],
  },
  'a wrong type': {
    text: [...nic, '    name: 12', 'strictMemory: "yes"'],
    says: [
      'fabric.yaml:4:11: nics[0].name 12 is not text; put it in quotes',
      '  4 |     name: 12',
      '    |           ^~',
      'fabric.yaml:5:15: strictMemory "yes" is not true or false',
      '  5 | strictMemory: "yes"',
      '    |               ^~~~~',
    ],
  },
  'what a schema cannot say': {
    text: [...nic, '    mac: 01:00:5e:00:00:01'],
    says: [
      'fabric.yaml:4:10: MAC address "01:00:5e:00:00:01" is a multicast address: the lowest bit of its first octet is set',
      '  4 |     mac: 01:00:5e:00:00:01',
      '    |          ^~~~~~~~~~~~~~~~~',
    ],
  },
  'a key that is missing': {
    text: ['nics:', '  - backend: vale0:vm1'],
    says: [
      'fabric.yaml:2:5: nics[0] has no "socket", which is required',
      '  2 |   - backend: vale0:vm1',
      '    |     ^',
    ],
  },
  'a switch port used twice: both lines': {
    text: [...nic, '  - backend: vale0:vm1', '    socket: vm2.sock'],
    says: [
      'fabric.yaml:4:14: backend vale0:vm1 is given twice: by line 2 and by line 4',
      '  4 |   - backend: vale0:vm1',
      '    |              ^~~~~~~~~',
    ],
  },
  'a MAC address used twice in two spellings: both lines': {
    text: [...nic, '    mac: 2:0:0:0:0:1', '  - backend: vale0:vm2', '    socket: b', '    mac: 02:00:00:00:00:01'],
    says: [
      'fabric.yaml:7:10: mac 02:00:00:00:00:01 is given twice: by line 4 and by line 7',
      '  7 |     mac: 02:00:00:00:00:01',
      '    |          ^~~~~~~~~~~~~~~~~',
    ],
  },
  'a backend that there is not': {
    text: ['nics:', '  - socket: vm1.sock', '    backend: lan0'],
    says: ['fabric.yaml:3:14: no backend for device "lan0"', '  3 |     backend: lan0', '    |              ^~~~'],
  },
  'an option that the backend does not have': {
    text: [...nic, '    backendOptions: { slot: "1" }'],
    says: [
      'fabric.yaml:2:5: vale0:vm1 has no option "slot" (given: slot=1)',
      '  2 |   - backend: vale0:vm1',
      '    |     ^',
    ],
  },
  'an end of a patch that there is not': {
    text: ['nics: []', 'patches:', '  - a: vale0:up', '    b: lan9'],
    says: ['fabric.yaml:4:8: no backend for device "lan9"', '  4 |     b: lan9', '    |        ^~~~'],
  },
  'a patch given twice': {
    text: ['nics: []', 'patches:', '  - { a: vale0:x, b: vale1:x }', '  - { a: vale0:x, b: vale1:x }'],
    says: [
      'fabric.yaml:4:5: patch vale0:x+vale1:x is given twice: patches[0] and patches[1]',
      '  4 |   - { a: vale0:x, b: vale1:x }',
      '    |     ^',
    ],
  },
  'a file that is not YAML': {
    text: ['nics: [', '  backend'],
    says: [
      'fabric.yaml:2:10: not YAML: Flow sequence in block collection must be sufficiently indented and end with a ]',
      '  2 |   backend',
      '    |          ^',
    ],
  },
  'a file that is not a map': {
    text: ['- 1'],
    says: ['fabric.yaml:1:1: the file [1] is not a map of keys and values', '  1 | - 1', '    | ^'],
  },
};

for (const [title, { text, says }] of Object.entries(refusals))
  test(`refuses ${title}`, () => {
    assert.equal(refusal(lines(...text)), says.join('\n'));
  });

test('shows at most ten errors, and counts the rest', () => {
  const keys = Array.from({ length: 14 }, (_, i) => `zz${i}: 1`);
  const answer = refusal(lines(...keys, 'nics: []'));
  assert.equal(answer.match(/unknown key/g)?.length, 10);
  assert.match(answer, /and 4 more$/);
});

test('never throws anything but a usage error with file, line and column', () => {
  const word = fc.constantFrom(
    'nics',
    '- ',
    ': ',
    '\n',
    '  ',
    'mac',
    '[',
    ']',
    '{',
    '&a ',
    '*a ',
    '"',
    '|',
    '!!x ',
    '1',
    '\t',
    '#',
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(word).map((w) => w.join('')),
      ),
      (text) => {
        const answer = refusal(text);
        assert(answer === 'accepted' || /^fabric\.yaml:\d+:\d+: /.test(answer), answer);
      },
    ),
  );
});

test('a bomb of aliases is refused', () => {
  const levels = Array.from({ length: 12 }, (_, i) => `a${i}: &a${i} [${i === 0 ? '1' : `*a${i - 1},`.repeat(9)}]`);
  assert.match(refusal(lines(...levels)), /not YAML: Excessive alias count/);
});

test('a file that is not there, and one that is too long, are refused by name', () => {
  const dir = mkdtempSync(join(tmpdir(), 'netbe-config-'));
  try {
    const path = join(dir, 'fabric.yaml');
    assert.throws(() => loadConfig(path), { code: 'ENOENT', kind: 'usage', subject: path });
    writeFileSync(path, '#'.repeat(1024 * 1024 + 1));
    assert.throws(() => loadConfig(path), { code: 'EFBIG', kind: 'usage', subject: path });
  } finally {
    rmSync(dir, { recursive: true });
  }
});
