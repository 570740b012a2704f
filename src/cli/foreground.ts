/**
 * A fabric in the foreground, for `netbe run` and `netbe up`: starts it, says how to join it, serves its
 * control socket, and on Ctrl-C closes everything and sums up. A second Ctrl-C does not wait.
 */
import { rmSync } from 'node:fs';
import { relative } from 'node:path';
import { ControlServer } from '../control/control-server.js';
import { nicTotals } from '../control/counter-names.js';
import { Fabric } from '../control/fabric.js';
import type { NicInfo, NicSpec, PatchSpec, PollOptions, SandboxInfo } from '../control/fabric-types.js';
import { controlSocketPath, portSocketPath } from '../control/runtime-dir.js';
import { ASKED_OFF, type FabricSandbox } from '../control/sandbox.js';
import { DEFAULT_FABRIC_NAME, type LogFormat, type LogLevel } from '../control/schema.js';
import { netbeVersion } from '../control/version.js';
import type { Log } from '../engine/runtime.js';
import { NetbeError } from '../errors.js';
import { print } from './command.js';
import { formatBytes, formatCount, formatTable, plural } from './format.js';
import { makeLog } from './log.js';

export interface ForegroundOptions {
  name: string;
  /** control socket; undefined: the one that follows from the name */
  control: string | undefined;
  log: { level: LogLevel; format: LogFormat };
  /** commands of ngctl, run before there are NICs */
  netgraph: string[];
  nics: NicSpec[];
  patches: PatchSpec[];
  poll: PollOptions;
  strictMemory: boolean;
  backends: URL[];
  sandbox: FabricSandbox;
}

/** Ends after a signal. Throws NetbeError when it cannot start; then nothing is left behind. */
export async function runInForeground(options: ForegroundOptions): Promise<void> {
  const { name, nics, poll, strictMemory, backends, sandbox } = options;
  const log = makeLog(options.log.level, options.log.format);
  const startedAt = new Date();
  const fabric = await Fabric.start({ log, poll, strictMemory, backends });
  let server: ControlServer | undefined;
  let ready = false;
  try {
    const portSocket = portSocketPath(options.control ?? controlSocketPath(name));
    const identity = { name, version: netbeVersion, startedAt: startedAt.toISOString(), portSocket, sandbox };
    server = await ControlServer.listen({ fabric, identity, path: options.control });
    await fabric.listenPorts(portSocket);
    if (options.netgraph.length > 0) await fabric.runNgctl(options.netgraph);
    const added: NicInfo[] = [];
    for (const nic of nics) added.push(await fabric.addNic(nic));
    for (const patch of options.patches) await fabric.addPatch(patch);
    const stop = Promise.race([signalled(server.path), ended(fabric)]);
    sandbox.seal();
    warnOfSandbox(sandbox.info(), log);
    announce(options, server.path, added, log);
    ready = true;
    log.info({ signal: await stop }, 'stopping');
  } finally {
    await server?.close();
    const summary = ready ? await summarize(fabric) : '';
    await fabric.close();
    if (ready && options.log.format !== 'json') print(`\n${summary}ran for ${formatDuration(startedAt)}`);
  }
}

/** Off because it was asked for is no news; whatever else is missing is. */
function warnOfSandbox({ state, missing }: SandboxInfo, log: Log): void {
  if (state === 'on') return;
  const asked = state === 'off' && missing.includes(ASKED_OFF);
  if (asked) log.debug({ missing }, 'no sandbox');
  else log.warn({ missing }, `the sandbox is ${state === 'off' ? 'off' : 'not whole'}: ${missing.join('; ')}`);
}

/** Rejects when the fabric ends of itself. */
function ended(fabric: Fabric): Promise<never> {
  return new Promise((_, reject) => {
    fabric.once('exit', (error) => reject(error ?? new NetbeError('the fabric ended', { code: 'ESHUTDOWN' })));
  });
}

/** Resolves with the first signal to stop; the second ends the process at once. */
function signalled(controlSocket: string): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    let first = true;
    const onSignal = (signal: NodeJS.Signals) => {
      if (first) {
        first = false;
        resolve(signal);
        return;
      }
      rmSync(controlSocket, { force: true });
      process.stderr.write('netbe: stopped at once\n');
      process.exit(1);
    };
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, onSignal);
  });
}

function announce(options: ForegroundOptions, controlSocket: string, nics: NicInfo[], log: Log): void {
  const sockets = Object.fromEntries(nics.map((nic) => [nic.name, nic.socket]));
  if (options.log.format === 'json') {
    log.info({ fabric: options.name, controlSocket, sockets, version: netbeVersion }, 'ready');
    return;
  }
  const byName = options.name === DEFAULT_FABRIC_NAME ? '' : ` --fabric ${options.name}`;
  const which = options.control === undefined ? byName : ` --control ${nearPath(controlSocket)}`;
  print(`netbe ${netbeVersion}, fabric "${options.name}", control socket ${controlSocket}\n`);
  for (const { name, slot, emulation, backend, device, socket, mode, transport } of nics) {
    const mtu = device.mtu === null ? '' : `, MTU ${device.mtu}`;
    print(`${name}: ${emulation}${slot === null ? '' : ` in slot ${slot}`} on ${backend}, ${device.mac}${mtu}`);
    print(`  ${transport.kind}, ${mode === 'server' ? 'listens on' : 'connects to'} ${nearPath(socket)}`);
    print(`  QEMU:             qemu-system-x86_64 ... $(netbe qemu-args${which} ${name})`);
    if (mode === 'server' && transport.kind === 'vhost-user')
      print(`  user-mode-linux:  linux.uml ... $(netbe uml-args${which} ${name})`);
  }
  for (const { a, b } of options.patches) print(`patch: ${a} and ${b}`);
  if (nics.length === 0) print(`No NIC yet; netbe nic add${which} adds one.`);
  print('\nReady. Ctrl-C stops it; netbe ports, netbe show and netbe capture look into it.');
}

/** The shorter of the absolute path and the one from here. */
function nearPath(path: string): string {
  const near = relative(process.cwd(), path);
  return near.length < path.length ? near : path;
}

/** Frames by port and drops by name; empty when there is nothing to say, or the fabric has failed. */
async function summarize(fabric: Fabric): Promise<string> {
  const { nics } = await fabric.show().catch(() => ({ nics: [] }));
  const counters = fabric.counters();
  if (nics.length === 0) return '';
  const totals = nics.map((nic) => ({ name: nic.name, ...nicTotals(counters, nic) }));
  const rows = totals.map((t) => [
    t.name,
    formatCount(t.txFrames),
    formatBytes(t.txBytes),
    formatCount(t.rxFrames),
    formatBytes(t.rxBytes),
    Object.entries(t.dropsByName)
      .map(([drop, n]) => `${drop} ${formatCount(n)}`)
      .join(', ') || 'none',
  ]);
  const right = (head: string) => ({ head, align: 'right' as const });
  const columns = [
    { head: 'PORT' },
    ...['TX FRAMES', 'TX BYTES', 'RX FRAMES', 'RX BYTES'].map(right),
    { head: 'DROPS' },
  ];
  return `${formatTable(columns, rows)}\n`;
}

function formatDuration(since: Date): string {
  const seconds = Math.round((Date.now() - since.getTime()) / 1000);
  if (seconds < 120) return plural(seconds, 'second');
  return seconds < 7200 ? plural(Math.round(seconds / 60), 'minute') : plural(Math.round(seconds / 3600), 'hour');
}
