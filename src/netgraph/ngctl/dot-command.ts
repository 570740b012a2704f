/** `ngctl dot`: the graph in the language of Graphviz. Nodes are records, hooks octagons; lonely nodes stand apart. */
import { NGM_LISTHOOKS, NGM_LISTNODES } from '../abi.js';
import { idAddress } from '../address.js';
import { hooklistType, namelistType } from '../generic.js';
import { type NgctlCommand, type NgctlContext, options } from './command.js';
import { ask } from './query.js';

/** Text within a quoted label of a record. */
const label = (text: string) => text.replace(/[\\"{}|<> ]/g, '\\$&');
/** Text within a quoted name. */
const quoted = (text: string) => text.replace(/[\\"]/g, '\\$&');

function printEdges(context: NgctlContext, id: string, list: ReturnType<typeof hooksOf>): void {
  const hooks = list?.linkinfo ?? [];
  if (hooks.length === 0) return;
  context.print('\tnode [ shape = octagon, fontsize = 10 ] {');
  for (const { ourhook } of hooks) context.print(`\t\t"${id}.${quoted(ourhook)}" [ label = "${quoted(ourhook)}" ];`);
  context.print('\t};');
  context.print('\t{\n\t\tedge [ weight = 2.0, style = bold ];');
  for (const { ourhook } of hooks) context.print(`\t\t"${id}" -- "${id}.${quoted(ourhook)}";`);
  context.print('\t};');
  for (const { ourhook, peerhook, nodeinfo } of hooks) {
    const peerId = nodeinfo.id.toString(16);
    // each edge once: at the end whose ID is higher
    if (nodeinfo.id > Number.parseInt(id, 16) || (peerId === id && ourhook > peerhook)) continue;
    context.print(`\t"${id}.${quoted(ourhook)}" -- "${peerId}.${quoted(peerhook)}";`);
  }
}

function hooksOf(context: NgctlContext, id: number) {
  return ask(context, idAddress(id), NGM_LISTHOOKS, hooklistType);
}

export const dotCommand: NgctlCommand = {
  usage: 'dot [outputfile]',
  summary: 'Draw the whole graph for Graphviz (.dot)',
  help: 'Without a file it goes to the standard output.',
  aliases: ['graphviz', 'confdot'],
  run(context, argv) {
    const given = options(context, argv, '');
    // the file is the caller's business: see files.ts
    if (given === undefined || given.rest.length > 0) return 'usage';
    const list = ask(context, '.', NGM_LISTNODES, namelistType);
    if (list === undefined) return 'error';
    context.print('graph netgraph {');
    context.print('\tedge [ weight = 1.0 ];');
    context.print('\tnode [ shape = record, fontsize = 12 ] {');
    for (const { id, name, type } of list.nodeinfo) {
      const hex = id.toString(16);
      context.print(
        `\t\t"${hex}" [ label = "{${label(name === '' ? '<unnamed>' : name)}:|{${label(type)}|[${hex}]:}}" ];`,
      );
    }
    context.print('\t};');
    context.print('\tsubgraph cluster_disconnected {');
    context.print('\t\tbgcolor = pink;');
    for (const { id, hooks } of list.nodeinfo) if (hooks === 0) context.print(`\t\t"${id.toString(16)}";`);
    context.print('\t};');
    for (const { id } of list.nodeinfo) {
      const hooks = hooksOf(context, id);
      if (hooks === undefined) return 'error';
      printEdges(context, id.toString(16), hooks);
    }
    context.print('}');
    return 'ok';
  },
};
