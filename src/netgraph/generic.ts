/** The messages that every node understands (NGM_GENERIC_COOKIE; netgraph(4), ng_base.c). */
import {
  NG_MESG_HDR_LEN,
  NGM_ASCII2BINARY,
  NGM_BINARY2ASCII,
  NGM_CONNECT,
  NGM_GENERIC_COOKIE,
  NGM_LISTHOOKS,
  NGM_LISTNAMES,
  NGM_LISTNODES,
  NGM_LISTTYPES,
  NGM_MKPEER,
  NGM_NAME,
  NGM_NODEINFO,
  NGM_RMHOOK,
  NGM_SHUTDOWN,
  NGM_TEXT_CONFIG,
  NGM_TEXT_STATUS,
} from './abi.js';
import type { NgHook } from './hook.js';
import { decodeMessage, encodeMessage, isResponse, type NgMessage } from './message.js';
import type { NgCommand, NgNode, NgResult } from './node.js';
import { array, lengthBefore, ngMesg, struct } from './parse/composites.js';
import { ParseError, pack, parseAscii, unpack, unparseAscii } from './parse/parse-type.js';
import { hint32, hookbuf, nodebuf, pathbuf, string, typebuf, uint32 } from './parse/scalars.js';

export const mkpeerType = struct({ type: typebuf, ourhook: hookbuf, peerhook: hookbuf });
export const connectType = struct({ path: pathbuf, ourhook: hookbuf, peerhook: hookbuf });
export const nameType = struct({ name: nodebuf });
export const rmhookType = struct({ hook: hookbuf });
export const nodeinfoType = struct({ name: nodebuf, type: typebuf, id: hint32, hooks: uint32 });
const linkinfoType = struct({ ourhook: hookbuf, peerhook: hookbuf, nodeinfo: nodeinfoType });
/** The number of links is nodeinfo.hooks, which stands before them. */
export const hooklistType = struct({ nodeinfo: nodeinfoType, linkinfo: array(linkinfoType, lengthBefore) });
export const namelistType = struct({ numnames: uint32, nodeinfo: array(nodeinfoType, lengthBefore) });
const typeinfoType = struct({ typename: typebuf, numnodes: uint32 });
export const typelistType = struct({ numtypes: uint32, typeinfo: array(typeinfoType, lengthBefore) });

const command = (
  cmd: number,
  name: string,
  mesgType?: NgCommand['mesgType'],
  respType?: NgCommand['respType'],
): NgCommand => ({
  cookie: NGM_GENERIC_COOKIE,
  cmd,
  name,
  mesgType,
  respType,
});

export const genericCommands: readonly NgCommand[] = [
  command(NGM_SHUTDOWN, 'shutdown'),
  command(NGM_MKPEER, 'mkpeer', mkpeerType),
  command(NGM_CONNECT, 'connect', connectType),
  command(NGM_NAME, 'name', nameType),
  command(NGM_RMHOOK, 'rmhook', rmhookType),
  command(NGM_NODEINFO, 'nodeinfo', undefined, nodeinfoType),
  command(NGM_LISTHOOKS, 'listhooks', undefined, hooklistType),
  command(NGM_LISTNAMES, 'listnames', undefined, namelistType),
  command(NGM_LISTNODES, 'listnodes', undefined, namelistType),
  command(NGM_LISTTYPES, 'listtypes', undefined, typelistType),
  command(NGM_TEXT_CONFIG, 'textconfig', undefined, string),
  command(NGM_TEXT_STATUS, 'textstatus', undefined, string),
  command(NGM_ASCII2BINARY, 'ascii2binary', ngMesg, ngMesg),
  command(NGM_BINARY2ASCII, 'binary2ascii', ngMesg, ngMesg),
];

/** Carries out a generic message. */
export function genericMessage(node: NgNode, msg: NgMessage, lasthook: NgHook | undefined): NgResult {
  const { engine } = node;
  switch (msg.cmd) {
    case NGM_SHUTDOWN:
      engine.removeNode(node);
      return undefined;
    case NGM_MKPEER: {
      const args = unpack(mkpeerType, msg.data);
      return args === undefined ? 'EINVAL' : engine.makePeer(node, args.type, args.ourhook, args.peerhook);
    }
    case NGM_CONNECT:
      return connect(node, msg);
    case NGM_NAME: {
      const args = unpack(nameType, msg.data);
      return args === undefined ? 'EINVAL' : engine.nameNode(node, args.name);
    }
    case NGM_RMHOOK:
      return rmhook(node, msg);
    case NGM_NODEINFO:
      return pack(nodeinfoType, nodeinfo(node));
    case NGM_LISTHOOKS:
      return listHooks(node);
    case NGM_LISTNAMES:
    case NGM_LISTNODES:
      return listNodes(node, msg.cmd === NGM_LISTNODES);
    case NGM_LISTTYPES:
      return listTypes(node);
    case NGM_BINARY2ASCII:
      return binaryToAscii(node, msg);
    case NGM_ASCII2BINARY:
      return asciiToBinary(node, msg);
    case NGM_TEXT_CONFIG:
    case NGM_TEXT_STATUS:
      return node.methods.rcvmsg === undefined ? 'EINVAL' : engine.callRcvmsg(node, msg, lasthook);
    default:
      return 'EINVAL';
  }
}

function connect(node: NgNode, msg: NgMessage): NgResult {
  const args = unpack(connectType, msg.data);
  if (args === undefined) return 'EINVAL';
  const found = node.engine.resolve(node, args.path);
  if (typeof found === 'string') return found;
  return node.engine.connect(node, args.ourhook, found.node, args.peerhook);
}

function rmhook(node: NgNode, msg: NgMessage): NgResult {
  const args = unpack(rmhookType, msg.data);
  if (args === undefined) return 'EINVAL';
  // a hook that is not there is no error: the wish is fulfilled
  const hook = node.findHook(args.hook);
  if (hook !== undefined) node.engine.destroyHook(hook);
  return undefined;
}

function nodeinfo(node: NgNode) {
  return { name: node.name, type: node.type.name, id: node.id, hooks: node.hooks.length };
}

function listHooks(node: NgNode): Uint8Array {
  const linkinfo = node.hooks
    .filter((hook) => hook.valid && hook.peer !== undefined)
    .map((hook) => {
      const peer = hook.peer as NgHook;
      return { ourhook: hook.name, peerhook: peer.name, nodeinfo: nodeinfo(peer.node) };
    });
  return pack(hooklistType, { nodeinfo: { ...nodeinfo(node), hooks: linkinfo.length }, linkinfo });
}

function listNodes(node: NgNode, unnamed: boolean): Uint8Array {
  const nodes = node.engine.listNodes().filter(({ name }) => unnamed || name !== '');
  return pack(namelistType, { numnames: nodes.length, nodeinfo: nodes.map(nodeinfo) });
}

function listTypes(node: NgNode): Uint8Array {
  const types = node.engine.listTypes();
  const typeinfo = types.map(({ name, nodes }) => ({ typename: name, numnodes: nodes }));
  return pack(typelistType, { numtypes: typeinfo.length, typeinfo });
}

/** Replaces the data of a message by its ASCII form, and cmdstr by the command's name. */
function binaryToAscii(node: NgNode, msg: NgMessage): NgResult {
  const binary = decodeMessage(msg.data);
  if (binary === undefined) return 'EINVAL';
  const matches = (c: NgCommand) => c.cookie === binary.typecookie && c.cmd === binary.cmd;
  const found = node.type.cmdlist?.find(matches) ?? genericCommands.find(matches);
  if (found === undefined) return node.engine.fail('ENOSYS', `${node.type.name} nodes have no command ${binary.cmd}`);
  const type = isResponse(binary) ? found.respType : found.mesgType;
  return converted(node, () => {
    const ascii = type === undefined ? '' : unparseAscii(type, binary.data);
    return { ...binary, cmdstr: found.name, data: Buffer.from(`${ascii}\0`, 'latin1') };
  });
}

/** Replaces cmdstr and ASCII data of a message by command, cookie and binary data. */
function asciiToBinary(node: NgNode, msg: NgMessage): NgResult {
  const ascii = msg.data.length > NG_MESG_HDR_LEN ? decodeMessage(msg.data) : undefined;
  if (ascii === undefined || ascii.data.length < 1) return 'EINVAL';
  const matches = (c: NgCommand) => c.name === ascii.cmdstr;
  const found = node.type.cmdlist?.find(matches) ?? genericCommands.find(matches);
  if (found === undefined) {
    const known = [...(node.type.cmdlist ?? []), ...genericCommands].map((c) => c.name);
    return node.engine.fail(
      'ENOSYS',
      `${node.type.name} nodes have no command "${ascii.cmdstr}", but ${known.join(', ')}`,
    );
  }
  const type = isResponse(ascii) ? found.respType : found.mesgType;
  const text = Buffer.from(ascii.data.subarray(0, -1)).toString('latin1').split('\0', 1)[0] as string;
  return converted(node, () => {
    const data = type === undefined ? new Uint8Array(0) : parseAscii(type, text);
    return { ...ascii, cmd: found.cmd, typecookie: found.cookie, data };
  });
}

function converted(node: NgNode, convert: () => NgMessage): NgResult {
  try {
    return encodeMessage(convert());
  } catch (error) {
    if (error instanceof ParseError) return node.engine.fail(error.errno, error.message);
    throw error;
  }
}
