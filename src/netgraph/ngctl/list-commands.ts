/** Commands of ngctl that tell what there is: list, show, types, status, config. Their columns are the original's. */
import {
  NGM_GENERIC_COOKIE,
  NGM_LISTHOOKS,
  NGM_LISTNAMES,
  NGM_LISTNODES,
  NGM_LISTTYPES,
  NGM_TEXT_CONFIG,
  NGM_TEXT_STATUS,
} from '../abi.js';
import { idAddress } from '../address.js';
import { hooklistType, namelistType, type nodeinfoType, typelistType } from '../generic.js';
import { isResponse } from '../message.js';
import type { Packed } from '../parse/parse-type.js';
import { type CommandResult, type NgctlCommand, type NgctlContext, options } from './command.js';
import { ask, warnErrno } from './query.js';

type NodeInfo = Packed<typeof nodeinfoType>;

const hex8 = (id: number) => id.toString(16).padStart(8, '0');
const nameOf = ({ name }: NodeInfo) => (name === '' ? '<unnamed>' : name);

function printNode(context: NgctlContext, node: NodeInfo): void {
  const name = nameOf(node).padEnd(15);
  context.print(`  Name: ${name} Type: ${node.type.padEnd(15)} ID: ${hex8(node.id)}   Num hooks: ${node.hooks}`);
}

function printHookRow(context: NgctlContext, ...columns: [string, string, string, string, string]): void {
  const [local, name, type, id, hook] = columns.map((column, i) => column.padEnd(i === 2 ? 12 : 15));
  context.print(`  ${local} ${name} ${type} ${id} ${hook}`);
}

function show(context: NgctlContext, path: string, noHooks: boolean): CommandResult {
  const list = ask(context, path, NGM_LISTHOOKS, hooklistType);
  if (list === undefined) return 'error';
  printNode(context, list.nodeinfo);
  if (noHooks || list.linkinfo.length === 0) return 'ok';
  printHookRow(context, 'Local hook', 'Peer name', 'Peer type', 'Peer ID', 'Peer hook');
  printHookRow(context, '----------', '---------', '---------', '-------', '---------');
  for (const { ourhook, peerhook, nodeinfo } of list.linkinfo)
    printHookRow(context, ourhook, nameOf(nodeinfo), nodeinfo.type, hex8(nodeinfo.id), peerhook);
  return 'ok';
}

export const showCommand: NgctlCommand = {
  usage: 'show [-n] <path>',
  summary: 'Tell about the node at <path>',
  help: 'With -n its hooks are left out.',
  aliases: ['inquire', 'info'],
  run(context, argv) {
    const given = options(context, argv, 'n');
    if (given === undefined || given.rest.length !== 1) return 'usage';
    return show(context, given.rest[0] as string, given.letters.has('n'));
  },
};

export const listCommand: NgctlCommand = {
  usage: 'list [-ln]',
  summary: 'Tell about all nodes',
  help: 'With -n only about those that have a name, with -l also about their hooks.',
  aliases: ['ls'],
  run(context, argv) {
    const given = options(context, argv, 'ln');
    if (given === undefined || given.rest.length > 0) return 'usage';
    const named = given.letters.has('n');
    const list = ask(context, '.', named ? NGM_LISTNAMES : NGM_LISTNODES, namelistType);
    if (list === undefined) return 'error';
    context.print(`There are ${list.numnames} total ${named ? 'named ' : ''}nodes:`);
    for (const node of list.nodeinfo) {
      if (!given.letters.has('l')) printNode(context, node);
      else if (show(context, idAddress(node.id), false) !== 'ok') return 'error';
    }
    return 'ok';
  },
};

export const typesCommand: NgctlCommand = {
  usage: 'types',
  summary: 'Tell about all types of nodes',
  run(context, argv) {
    if (argv.length !== 1) return 'usage';
    const list = ask(context, '.', NGM_LISTTYPES, typelistType);
    if (list === undefined) return 'error';
    context.print(`There are ${list.numtypes} total types:`);
    if (list.numtypes > 0) {
      context.print(`${'Type name'.padStart(15)}   Number of living nodes`);
      context.print(`${'---------'.padStart(15)}   ----------------------`);
    }
    for (const { typename, numnodes } of list.typeinfo)
      context.print(`${typename.padStart(15)}   ${String(numnodes).padStart(5)}`);
    return 'ok';
  },
};

/** Asks a node for text of its own; a node that has none says EINVAL. */
function text(context: NgctlContext, path: string, cmd: number, what: string, args?: string): CommandResult {
  const data = args === undefined ? undefined : Buffer.from(`${args}\0`, 'latin1');
  const error = context.socket.send(path, NGM_GENERIC_COOKIE, cmd, data);
  if (error !== undefined && error !== 'EINVAL') return warnErrno(context, 'send msg', error);
  const reply = error === undefined ? context.socket.takeReply(cmd) : undefined;
  if (reply === undefined || !isResponse(reply.message)) context.print(`No ${what} available for "${path}"`);
  else {
    const answer = Buffer.from(reply.message.data).toString('latin1').split('\0', 1)[0] as string;
    context.print(`${what[0]?.toUpperCase()}${what.slice(1)} for "${path}":\n${answer}`);
  }
  return 'ok';
}

export const statusCommand: NgctlCommand = {
  usage: 'status <path>',
  summary: 'Ask the node at <path> how it is, in words of its own',
  run: (context, argv) => (argv.length === 2 ? text(context, argv[1] as string, NGM_TEXT_STATUS, 'status') : 'usage'),
};

export const configCommand: NgctlCommand = {
  usage: 'config <path> [arguments]',
  summary: 'Get or set the configuration of the node at <path>, in words of its own',
  run(context, argv) {
    if (argv.length < 2) return 'usage';
    const args = argv.slice(2).join(' ');
    return text(context, argv[1] as string, NGM_TEXT_CONFIG, 'config', args === '' ? undefined : args);
  },
};
