/**
 * Shell scripts that wire guests on FreeBSD, jng's and vm-bhyve's way, with netbe ngctl in place of ngctl. Only names of
 * interfaces and what sets those up (ip, for ifconfig) are Linux's.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { chmodSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { CliFolder } from '../support/cli.js';
import { enterOwnNetwork, ip, tapsUnavailable } from '../support/tap.js';
import { tempDir } from '../support/temp-dir.js';

const netbe = fileURLToPath(new URL('../../src/cli/main.js', import.meta.url));

/** Makes an interface, bridges it with the host, and gives jail $1 an interface on that bridge. */
const JNG_BRIDGE = `
name=$1 iface=$2 bridge=bridge i=0
eiface=ng\${i}_$name
ngctl msg "$eiface:" getifname > /dev/null 2>&1 && exit 7
ngctl msg $iface: setpromisc 1 || exit
ngctl msg $iface: setautosrc 0 || exit
if ! ngctl info \${iface}bridge: > /dev/null 2>&1; then
	ngctl mkpeer $iface: bridge lower link0 || exit
	ngctl connect $iface: $iface:lower upper link1 || exit
	ngctl name $iface:lower \${iface}bridge || exit
fi
num=2
while ngctl msg "$iface$bridge:" getstats $num > /dev/null 2>&1; do
	num=$(( $num + 1 ))
done
ngctl mkpeer "$iface$bridge:" eiface link$num ether || exit
new=$( set -- \`ngctl show -n "$iface$bridge:link$num"\` && echo $2 ) || exit
ngctl name "$iface$bridge:link$num" $eiface || exit
ip link set $new name $eiface || exit
ip link set $eiface up
`;

const JNG_LIST = `
ngctl ls | awk '$4=="bridge",$0=$2' | xargs -rn1 -I% ngctl show %: |
	awk 'sub(/^ng[0-9]+_/, "", $2), $0 = $2' | sort -u
`;

const JNG_STATS = `
ngctl show ng0_$1: | awk '$3 == "bridge" && $5 ~ /^link/ { bridge = $2; link = substr($5, 5)
	system(sprintf("ngctl msg %s: getstats %u", bridge, link)) }'
`;

const JNG_SHUTDOWN = `
ngctl ls | awk -v name="$1" 'match($2, /^ng[0-9]+_/) && substr($2, RSTART + RLENGTH) == name && $4 == "eiface", $0 = $2' |
	xargs -rn1 -I% ngctl shutdown %:
`;

/** The first free link of a switch, as the device string of a guest. */
const VM_BHYVE_ID = `
num=2
while ngctl msg "$1:" getstats $num > /dev/null 2>&1; do
	num=$(( $num + 1 ))
done
echo "netgraph,path=$1:,peerhook=link$num"
`;

interface Lab {
  cli: CliFolder;
  /** Runs a script with ngctl on its path. */
  sh(script: string, ...args: string[]): Promise<string>;
}

async function lab(t: TestContext, graph: string): Promise<Lab> {
  const cli = new CliFolder(t, tempDir(t));
  writeFileSync(join(cli.dir, 'graph'), graph);
  await cli.fabric('run', '--no-sandbox', '--netgraph', 'graph');
  const shim = join(cli.dir, 'ngctl');
  writeFileSync(shim, `#!/bin/sh\nexec "${process.execPath}" "${netbe}" ngctl "$@"\n`);
  chmodSync(shim, 0o755);
  const env = { ...process.env, XDG_RUNTIME_DIR: `${cli.dir}/run`, PATH: `${cli.dir}:${process.env.PATH}` };
  return {
    cli,
    sh: async (script, ...args) =>
      (await promisify(execFile)('/bin/sh', ['-c', script, 'script', ...args], { env, cwd: cli.dir })).stdout,
  };
}

const bridge = (name: string) => `mkpeer bridge x link1\nname .:x ${name}\nmsg ${name}: setpersistent\n`;

test('jng: bridge, show, stats, shutdown', { skip: tapsUnavailable, timeout: 240_000 }, async (t) => {
  enterOwnNetwork();
  ip('link add em0 type veth peer name em1');
  for (const name of ['em0', 'em1']) ip(`link set ${name} up`);
  const { sh } = await lab(t, '');
  await sh(JNG_BRIDGE, 'www', 'em0');
  await assert.rejects(sh(JNG_BRIDGE, 'www', 'em0'), { code: 7 });
  await sh(JNG_BRIDGE, 'db', 'em0');
  assert.match(await sh('ngctl show em0bridge:'), /link3 +ng0_db +eiface [^\n]* ether/);
  assert.match(await sh(JNG_LIST), /^db\n(?:.*\n)*www\n$/);
  assert.match(await sh(JNG_STATS, 'db'), /^Rec'd response "getstats" \(4\) from "\[\w+\]:":\nArgs:\t\{/);
  await sh('ip link show ng0_db');
  await sh(JNG_SHUTDOWN, 'db');
  await assert.rejects(sh('ip link show ng0_db 2>/dev/null'));
  await sh('ip link show ng0_www');
});

test('vm-bhyve: a guest takes the first free link of a switch', { timeout: 240_000 }, async (t) => {
  const { cli, sh } = await lab(t, bridge('public'));
  for (const n of [2, 3]) {
    const device = (await sh(VM_BHYVE_ID, 'public')).trim();
    assert.equal(device, `netgraph,path=public:,peerhook=link${n}`);
    const added = await cli.run('nic', 'add', `${n}:0,virtio-net,${device},socket=vm${n}.sock`);
    assert.equal(added.status, 0, added.stderr);
  }
  assert.equal((await cli.run('nic', 'remove', 'vm2')).status, 0);
  assert.equal((await sh(VM_BHYVE_ID, 'public')).trim(), 'netgraph,path=public:,peerhook=link2');
});
