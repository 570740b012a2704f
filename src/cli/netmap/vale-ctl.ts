/** netbe vale-ctl: netmap's control of VALE switches, their ports and persistent ports. */
import { Command } from 'commander';
import { portSocketPath } from '../../control/runtime-dir.js';
import { NetbeError, usageError } from '../../errors.js';
import { PortConnection } from '../../netmap/port-socket/connection.js';
import type { RequestType } from '../../netmap/port-socket/messages.js';
import { controlPath, type FabricChoice, print, withFabricChoice } from '../command.js';
import { parseRingConfig, type RingConfig } from './ring-config.js';

interface ValeCtlArgs extends FabricChoice {
  info?: string;
  detach?: string;
  attach?: string;
  attachHost?: string;
  newif?: string;
  remove?: string;
  list?: string | true;
  poll?: string;
  stopPolling?: string;
  config?: string;
  memid?: string;
  verbose?: number;
}

type Answer = Record<string, unknown>;

interface Action {
  key: keyof ValeCtlArgs;
  request: RequestType;
  /** what it was that failed */
  verb: string;
  /** lines to print; `verbose` as often as -v was given */
  show?: (answer: Answer, verbose: number) => string[];
}

const portIndex = (answer: Answer, verbose: number): string[] =>
  verbose > 0 ? [`port_index: ${answer.portIndex}`] : [];

const actions: readonly Action[] = [
  { key: 'detach', request: 'vale-detach', verb: 'detach', show: portIndex },
  { key: 'attach', request: 'vale-attach', verb: 'attach', show: portIndex },
  { key: 'attachHost', request: 'vale-attach', verb: 'attach', show: portIndex },
  { key: 'newif', request: 'vale-newif', verb: 'create', show: (a, v) => (v > 0 ? newifLines(a) : []) },
  { key: 'remove', request: 'vale-delif', verb: 'remove' },
  { key: 'info', request: 'port-info-get', verb: 'obtain info for', show: infoLines },
  { key: 'poll', request: 'vale-polling-enable', verb: 'enable polling on' },
  { key: 'stopPolling', request: 'vale-polling-disable', verb: 'disable polling on' },
];

export function valeCtlCommand(): Command {
  const command = new Command('vale-ctl')
    .summary('list, make, attach and detach ports of VALE switches')
    .description("netmap's vale-ctl: VALE switches of a running fabric, their ports, and persistent ports.")
    .helpOption('--help', 'show this')
    .option('-g, --info <port>', 'memory, rings and slots of a port')
    .option('-d, --detach <port>', 'detach valeN:PORT')
    .option('-a, --attach <port>', 'attach valeN:PORT, a persistent port or an interface')
    .option('-h, --attach-host <port>', "attach valeN:INTERFACE, and the host's stack with it")
    .option('-n, --newif <name>', 'make a persistent port')
    .option('-r, --remove <name>', 'remove a persistent port')
    .option('-l, --list [port]', 'the numbers of valeN:PORT and of its switch; alone: all ports')
    .option('-C, --config <sizes>', 'tx_slots[,rx_slots[,tx_rings[,rx_rings]]] of what -n makes')
    .option('-p, --poll <port>', 'start polling: refused, the fabric polls by itself')
    .option('-P, --stop-polling <port>', 'stop polling: likewise')
    .option('-m, --memid <id>', 'memory of what -n makes: a number, or a port (netmap:v0) whose memory it is to share')
    .option('-v, --verbose', 'say more', (_, before: number = 0) => before + 1);
  return withFabricChoice(command)
    .addHelpText(
      'after',
      '\nWithout an option: all ports of all switches.\n\nExamples:\n  netbe vale-ctl -n v0\n  netbe vale-ctl -a vale0:v0\n  netbe vale-ctl -d vale0:v0\n  netbe vale-ctl -r v0\n',
    )
    .action((args: ValeCtlArgs) => valeCtl(args));
}

function valeCtl(args: ValeCtlArgs): void {
  const chosen = actions.filter(({ key }) => args[key] !== undefined);
  if (chosen.length + (args.list === undefined ? 0 : 1) > 1)
    throw usageError('one thing at a time', undefined, 'Give one of -g, -d, -a, -h, -n, -r, -l, -p and -P.');
  const config = parseRingConfig(args.config ?? '', '-C');
  const connection = connectTo(args);
  try {
    const [action] = chosen;
    if (action === undefined) list(connection, args.list);
    else perform(connection, action, args, config);
  } finally {
    connection.close();
  }
}

function connectTo(choice: FabricChoice): PortConnection {
  const socket = portSocketPath(controlPath(choice));
  try {
    return new PortConnection(socket);
  } catch (error) {
    if (!(error instanceof NetbeError) || (error.code !== 'ENOENT' && error.code !== 'ECONNREFUSED')) throw error;
    throw new NetbeError(`no fabric serves ports at ${socket}`, {
      code: error.code,
      kind: 'environment',
      subject: socket,
      remedy: 'Start one with netbe run or netbe up, or name another with --fabric or --control.',
      cause: error,
    });
  }
}

function perform(connection: PortConnection, action: Action, args: ValeCtlArgs, config: RingConfig): void {
  const name = String(args[action.key]);
  try {
    const memId = action.key === 'newif' ? memIdOf(connection, args.memid) : 0;
    const body = { ...config, ...(memId > 0 ? { memId } : {}), ...(action.key === 'attachHost' ? { host: true } : {}) };
    const { body: answer } = connection.request(action.request, infoName(action, name), body);
    for (const line of action.show?.(answer, args.verbose ?? 0) ?? []) print(line);
  } catch (error) {
    throw failed(`failed to ${action.verb} ${name}`, error);
  }
}

/** -g takes names of interfaces and persistent ports without a prefix. */
function infoName({ key }: Action, name: string): string {
  return key === 'info' && !/^(?:netmap:|vale)/.test(name) ? `netmap:${name}` : name;
}

/** A number, or the port whose memory is meant. */
function memIdOf(connection: PortConnection, text: string | undefined): number {
  if (text === undefined) return 0;
  if (/^\d{1,5}$/.test(text)) return Number(text);
  if (!/^(?:netmap:|vale)/.test(text))
    throw usageError(`invalid format in '-m ${text}' (missing 'netmap:'?)`, text, 'Write a number, or netmap:PORT.');
  return Number(connection.request('port-info-get', text).body.memId);
}

function list(connection: PortConnection, which: string | true | undefined): void {
  const name = typeof which === 'string' ? which : '';
  if (name !== '' && !name.startsWith('vale'))
    throw usageError(`invalid vale port name: '${name}'`, name, 'Write valeN:PORT.');
  let ports: { name: string; bridgeIdx: number; portIdx: number }[];
  try {
    ports = connection.request('vale-list', name).body.ports as typeof ports;
  } catch (error) {
    throw failed(`failed to list ${name}`, error);
  }
  for (const port of ports)
    if (name === '') print(`${port.name} bridge_idx ${port.bridgeIdx} port_idx ${port.portIdx}`);
    else print(`bridge_idx: ${port.bridgeIdx}\nport_idx:   ${port.portIdx}`);
}

/** As strerror(3) says it: what scripts look for. */
const errorTexts: Readonly<Record<string, string>> = {
  EBUSY: 'Device or resource busy',
  EEXIST: 'File exists',
  EINVAL: 'Invalid argument',
  ENOENT: 'No such file or directory',
  ENOMEM: 'Cannot allocate memory',
  ENOSPC: 'No space left on device',
  ENXIO: 'No such device or address',
  EOPNOTSUPP: 'Operation not supported',
  EPERM: 'Operation not permitted',
};

function failed(what: string, error: unknown): unknown {
  if (!(error instanceof NetbeError)) return error;
  const { code, kind, subject, remedy, message } = error;
  const text = errorTexts[code];
  const line = text === undefined ? `${what}: ${message}` : `${what}: ${text}\n  ${message}`;
  return new NetbeError(line, { code, kind, subject, remedy, cause: error });
}

function infoLines(a: Answer): string[] {
  return [
    `memsize:    ${a.memSize}`,
    `tx_slots:   ${a.txSlots}`,
    `rx_slots:   ${a.rxSlots}`,
    `tx_rings:   ${a.txRings}`,
    `rx_rings    ${a.rxRings}`,
    `mem_id:     ${a.memId}`,
  ];
}

function newifLines(a: Answer): string[] {
  return [
    `tx_slots:   ${a.txSlots}`,
    `rx_slots:   ${a.rxSlots}`,
    `tx_rings:   ${a.txRings}`,
    `rx_ring:    ${a.rxRings}`,
    `mem_id:     ${a.memId}`,
  ];
}
