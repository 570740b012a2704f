/** netbe show: the fabric as a whole, or one NIC and why it carries frames or does not. */
import type { Command } from 'commander';
import { diagnose, type Finding } from '../control/diagnose.js';
import type { GraphInfo, NicInfo, PatchInfo, SwitchInfo } from '../control/fabric-types.js';
import type { BackendStatus } from '../net-backends/net-backend.js';
import { clientCommand, connect, type FabricChoice, print, printJson } from './command.js';
import { formatCount, formatTable, plural } from './format.js';
import { sandboxLines } from './sandbox.js';

export function showCommand(): Command {
  return clientCommand(
    'show',
    'the fabric, its switches and learned addresses; or one NIC, and why it carries no frames',
  )
    .argument('[nic]', 'name of a NIC')
    .option('--json', 'as JSON')
    .addHelpText('after', '\nExamples:\n  netbe show\n  netbe show vm1\n')
    .action(async (name: string | undefined, options: FabricChoice & { json?: boolean }) => {
      const client = connect(options);
      if (name !== undefined) {
        const [nic, counters, switches] = await Promise.all([client.nic(name), client.counters(), client.switches()]);
        const findings = diagnose(nic, counters, switches);
        if (options.json) printJson({ ...nic, findings });
        else print([nicLines(nic), ...findings.map(findingLines)].join('\n'));
        return;
      }
      const [fabric, nics, patches, switches, netgraph, counters] = await Promise.all([
        client.fabric(),
        client.nics(),
        client.patches(),
        client.switches(),
        client.netgraph(),
        client.counters(),
      ]);
      if (options.json) return printJson({ ...fabric, nics, patches, switches, netgraph });
      const { name: fabricName, pid, version, startedAt } = fabric;
      print(`fabric "${fabricName}": process ${pid}, netbe ${version}, since ${startedAt}`);
      if (fabric.sandbox) print(sandboxLines(fabric.sandbox));
      for (const nic of nics) print(`\n${nicLines(nic)}`);
      for (const patch of patches) print(`\n${patchLines(patch, counters[patch.name])}`);
      for (const one of switches) print(`\n${switchLines(one)}`);
      if (netgraph.nodes.length > 0) print(`\n${graphLines(netgraph)}`);
    });
}

function nicLines({
  name,
  slot,
  emulation,
  backend,
  backendOptions,
  backendStatus,
  socket,
  mode,
  device,
  transport,
}: NicInfo): string {
  const options = Object.entries(backendOptions).map(([key, value]) => `,${key}=${value}`);
  const mtu = device.mtu === null ? '' : `, MTU ${device.mtu}`;
  return [
    `${name}: ${emulation}${slot === null ? '' : ` in slot ${slot}`} on ${backend}${options.join('')}`,
    ...statusLines('', backendStatus),
    `  ${device.mac}${mtu}, link ${device.link}`,
    `  ${socket} (${transport.kind}, ${mode}), ${transport.state}${transport.peerPid === null ? '' : ` to process ${transport.peerPid}`}`,
  ].join('\n');
}

/** What a backend says of itself, in one line; none if it says nothing. */
function statusLines(whose: string, status: BackendStatus): string[] {
  const words = Object.entries(status).map(([key, value]) => `${key} ${value}`);
  return words.length > 0 ? [`  ${whose}${words.join(', ')}`] : [];
}

const marks: Record<Finding['level'], string> = { ok: 'ok     ', note: 'note   ', problem: 'PROBLEM' };

function findingLines({ level, text, remedy }: Finding): string {
  const line = `  ${marks[level]}  ${text}`;
  return remedy === undefined ? line : `${line}\n           ${remedy}`;
}

function patchLines({ name, a, b, statusA, statusB }: PatchInfo, counters: Record<string, number> = {}): string {
  const way = (from: string, to: string, key: string) => {
    const drops = (counters[`${key}_drop_full`] ?? 0) + (counters[`${key}_drop_refused`] ?? 0);
    return `  ${from} to ${to}: ${plural(counters[`${key}_frames`] ?? 0, 'frame')}, ${formatCount(drops)} dropped`;
  };
  return [
    `patch ${name}: ${a} and ${b}`,
    way('first', 'second', 'a_to_b'),
    way('second', 'first', 'b_to_a'),
    ...statusLines('first: ', statusA),
    ...statusLines('second: ', statusB),
  ].join('\n');
}

function graphLines({ nodes }: GraphInfo): string {
  const nameOf = (name: string, id: string): string => `${name === '' ? `[${id}]` : name}:`;
  const rows = nodes.map(({ id, name, type, hooks }) => [
    `  ${nameOf(name, id)}`,
    type,
    hooks.map((hook) => `${hook.name} to ${nameOf(hook.peerName, hook.peerId)}${hook.peerHook}`).join(', '),
  ]);
  const head = [{ head: '  NODE' }, { head: 'TYPE' }, { head: 'HOOKS' }];
  return `netgraph: ${plural(nodes.length, 'node')}\n${formatTable(head, rows)}`;
}

function switchLines({ name, ports, table }: SwitchInfo): string {
  const lines = [
    `${name}: ${plural(ports.length, 'port')}: ${ports.map((p) => p.name).join(', ')}`,
    `  learned addresses: ${table.length}`,
  ];
  if (table.length === 0) return lines.join('\n');
  const rows = table.map(({ mac, port, ageSec }) => [`  ${mac}`, port, `${Math.round(ageSec)} s`]);
  const head = [{ head: '  ADDRESS' }, { head: 'PORT' }, { head: 'AGE', align: 'right' as const }];
  return [...lines, formatTable(head, rows)].join('\n');
}
