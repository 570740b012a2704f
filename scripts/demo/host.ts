/**
 * npm run demo -- --host: a guest reaches the host's network, through a tap and through a veth pair.
 *
 * All of it happens in network namespaces that the demo makes, so it needs root, and touches nothing
 * outside: the fabric's process runs in one, with the tap; the far end of the veth pair is in another.
 *
 *   vm1 ── vale0 ──┬── patch ── tap ─────────────── this namespace, 10.99.0.254
 *                  └── patch ── netmap:veth ─ veth ─ another namespace, 10.99.0.253
 */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { NetbeError } from '../../src/errors.js';
import type { Guest } from '../../test/support/guest/guest.js';
import { Lab } from '../../test/support/guest/lab.js';
import { configure, ping, waitForPing } from '../../test/support/guest/net.js';
import { DOWNLOAD_PORT, serveDownloads } from './download-server.js';
import type { Screen } from './screen.js';

const TAP = { name: 'nbtap0', address: '10.99.0.254' };
const VETH = { near: 'nbveth0', far: 'nbveth1', address: '10.99.0.253' };
const GUEST_ADDRESS = '10.99.0.1';
const PINGS = 20;
const DOWNLOAD_MIB = 64;

export interface HostResult {
  /** by the way that was taken */
  paths: Record<string, { pings: { sent: number; received: number; p50Us: number }; gbps: number }>;
}

/** True in the process that enterNamespace made. */
export function inOwnNamespace(): boolean {
  return process.env.NETBE_DEMO_NAMESPACE === '1';
}

/** Runs this program again in a network namespace of its own. Returns its exit status. */
export async function enterNamespace(): Promise<number> {
  if (process.getuid?.() !== 0)
    throw new NetbeError('--host needs root: it makes network namespaces, a tap and a veth pair in them', {
      code: 'EPERM',
      kind: 'environment',
      remedy: 'Run it with sudo, or leave --host out: the demo between two guests needs no root.',
    });
  const args = ['--net', '--', process.execPath, ...process.argv.slice(1)];
  const child = spawn('unshare', args, { stdio: 'inherit', env: { ...process.env, NETBE_DEMO_NAMESPACE: '1' } });
  // the terminal sends its signals to both: the child cleans up, and we wait for it
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => child.kill(signal));
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  return code ?? (signal === 'SIGINT' ? 130 : 1);
}

function ip(...args: string[]): void {
  execFileSync('ip', args, { stdio: ['ignore', 'ignore', 'pipe'] });
}

/** The second namespace: kept by a process that serves downloads in it, and gone with it. */
async function startFarEnd(): Promise<ChildProcess> {
  ip('link', 'add', VETH.near, 'type', 'veth', 'peer', 'name', VETH.far);
  const program = fileURLToPath(new URL('./namespace-server.js', import.meta.url));
  const child = spawn('unshare', ['--net', '--', process.execPath, program], { stdio: ['pipe', 'pipe', 'inherit'] });
  await once(child.stdout, 'data');
  const inside = (...args: string[]): void =>
    void execFileSync('nsenter', ['--net', '--target', String(child.pid), '--', 'ip', ...args]);
  ip('link', 'set', VETH.far, 'netns', String(child.pid));
  inside('addr', 'add', `${VETH.address}/24`, 'dev', VETH.far);
  inside('link', 'set', VETH.far, 'up');
  ip('link', 'set', VETH.near, 'up');
  return child;
}

export async function tellHost(screen: Screen, interrupted: Promise<never>): Promise<HostResult> {
  ip('link', 'set', 'lo', 'up');
  const lab = await Lab.start([{ name: 'vm1' }]);
  let farEnd: ChildProcess | undefined;
  try {
    const story = async (): Promise<HostResult> => {
      farEnd = await startFarEnd();
      await plug(lab, screen);
      const guest = await boot(lab, screen);
      const paths = {
        tap: await visit(screen, guest, 'tap', TAP.address),
        netmap: await visit(screen, guest, 'netmap', VETH.address),
      };
      return { paths };
    };
    return await Promise.race([story(), interrupted]);
  } finally {
    await lab.close();
    farEnd?.kill('SIGKILL');
  }
}

async function plug(lab: Lab, screen: Screen): Promise<void> {
  screen.begin('Host', 'a tap, a veth pair, and a namespace at its far end');
  await lab.fabric.addPatch({ name: 'to-tap', a: 'vale0:tap', b: `tap:${TAP.name}` });
  await lab.fabric.addPatch({ name: 'to-veth', a: 'vale0:veth', b: `netmap:${VETH.near}` });
  ip('addr', 'add', `${TAP.address}/24`, 'dev', TAP.name);
  ip('link', 'set', TAP.name, 'up');
  await serveDownloads();
  screen.result('Host', `vale0 joined to tap ${TAP.name} and, by netmap:${VETH.near}, to another namespace`);
}

async function boot(lab: Lab, screen: Screen): Promise<Guest> {
  screen.begin('Guest', 'booting a user-mode-linux kernel');
  const guest = await lab.uml('vm1');
  await configure(guest, 'eth0', { address: `${GUEST_ADDRESS}/24` });
  screen.result('Guest', `vm1 is up, ${GUEST_ADDRESS}/24`);
  return guest;
}

async function visit(screen: Screen, guest: Guest, way: string, address: string): Promise<HostResult['paths'][string]> {
  screen.begin(way, `vm1 asks ${address} ${PINGS} times, and downloads ${DOWNLOAD_MIB} MiB`);
  await waitForPing(guest, address);
  const { sent, received, rttUs } = await ping(guest, address, { count: PINGS, intervalS: 0.05 });
  if (received !== sent) throw new Error(`${sent - received} of ${sent} pings to ${address} were not answered`);
  const p50Us = [...rttUs].sort((a, b) => a - b)[Math.floor(rttUs.length / 2)] ?? 0;
  const started = performance.now();
  await guest.sh(`wget -q -O /dev/null http://${address}:${DOWNLOAD_PORT}/${DOWNLOAD_MIB}`, 60_000);
  const seconds = (performance.now() - started) / 1000;
  const gbps = Number(((DOWNLOAD_MIB * 2 ** 20 * 8) / seconds / 1e9).toFixed(3));
  screen.result(
    way,
    `${received} of ${sent} pings answered by ${address}, round trip ${(p50Us / 1000).toFixed(2)} ms; ` +
      `${DOWNLOAD_MIB} MiB at ${gbps.toFixed(2)} Gbit/s`,
  );
  return { pings: { sent, received, p50Us }, gbps };
}
