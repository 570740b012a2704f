/** What other programs make of netgraph: Graphviz draws what `ngctl dot` prints, libpcap compiles filters for bpf nodes. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { before, describe, test } from 'node:test';
import { componentDir } from '../../scripts/setup/cache.js';
import { chooseComponents, setUp } from '../../scripts/setup/install.js';
import { BpfProgram } from '../../src/netgraph/bpf/program.js';
import { NgctlSession, runNgctl } from '../../src/netgraph/ngctl/session.js';
import { compileFilter } from '../../src/sys/pcap.js';
import { GraphLab } from '../support/netgraph.js';
import { tempDir } from '../support/temp-dir.js';

/** Those that libpcap needs, before those that need them. */
const LIBPCAP_CHAIN = [
  'libcap.so.2',
  'libgpg-error.so.0',
  'libgcrypt.so.20',
  'liblz4.so.1',
  'libzstd.so.1',
  'liblzma.so.5',
  'libsystemd.so.0',
  'libdbus-1.so.3',
  'libpcap.so.0.8',
];

describe('netgraph and other programs', () => {
  const tree = componentDir('netgraph');
  const folders = ['usr/lib/x86_64-linux-gnu', 'lib/x86_64-linux-gnu'].map((folder) => join(tree, folder));
  const libraries = folders[0] as string;

  before(() => setUp(chooseComponents(['netgraph'])));

  test('Graphviz draws the graph, with each node and each hook', (t) => {
    using lab = new GraphLab();
    const session = NgctlSession.open(lab.graph, 'me') as NgctlSession;
    for (const command of [
      'mkpeer bridge a link1',
      'name .:a br0',
      'mkpeer br0: tee link2 left',
      'name br0:link2 odd|{name}<>"',
      'mkpeer br0:link2 hole right hook-1',
    ])
      assert.equal(runNgctl(session, command).status, 0, command);
    const plugins = join(tempDir(t), 'plugins');
    mkdirSync(plugins);
    for (const file of readdirSync(join(libraries, 'graphviz')))
      if (/^libgvplugin_(core|dot_layout)/.test(file))
        cpSync(join(libraries, 'graphviz', file), join(plugins, file), { verbatimSymlinks: true });
    const env = { ...process.env, GVBINDIR: plugins, LD_LIBRARY_PATH: folders.join(':') };
    const dot = join(tree, 'usr/bin/dot');
    execFileSync(dot, ['-c'], { env, stdio: 'ignore' });
    const svg = execFileSync(dot, ['-Tsvg'], { env, input: runNgctl(session, 'dot').output, encoding: 'utf8' });
    assert.match(svg, /<svg /);
    const text = svg.replaceAll(/&#(\d+);/g, (_, code) => String.fromCharCode(Number(code)));
    for (const word of ['br0:', 'bridge', 'tee', 'hole', 'link1', 'link2', 'left', 'right', 'hook-1'])
      assert.ok(text.includes(`>${word}<`), word);
  });

  test('libpcap compiles expressions; a program lets through what the expression says', () => {
    const paths = LIBPCAP_CHAIN.map((name) => folders.map((folder) => join(folder, name)).find(existsSync));
    process.env.NETBE_LIBPCAP = paths.filter((path) => path !== undefined).join(':');
    const matches = (filter: string, frame: Uint8Array): boolean =>
      new BpfProgram(compileFilter(filter)).run(frame, 0, frame.length) > 0;
    const tcp = Buffer.from(
      `${'02'.repeat(12)}0800${'4500002800004000400600000a0000010a000002'}${'d431005000000000000000005002ffff00000000'}`,
      'hex',
    );
    const arp = Buffer.from(`${'ff'.repeat(6)}${'02'.repeat(6)}0806${'00'.repeat(28)}`, 'hex');
    for (const [filter, ofTcp, ofArp] of [
      ['tcp port 80', true, false],
      ['tcp dst port 80 and src host 10.0.0.1', true, false],
      ['tcp src port 80', false, false],
      ['arp', false, true],
      ['ether broadcast', false, true],
      ['not ip', false, true],
      ['greater 50', true, false],
      ['tcp[tcpflags] & tcp-syn != 0', true, false],
      ['net 10.0.0.0/8 or arp', true, true],
      ['', true, true],
    ] as const)
      assert.deepEqual([matches(filter, tcp), matches(filter, arp)], [ofTcp, ofArp], filter);
    assert.throws(() => compileFilter('tcp prt 80'), { code: 'EINVAL', message: /tcp prt 80.*syntax error/ });
    assert.throws(() => compileFilter('tcp\0'), { code: 'EINVAL' });
  });
});
