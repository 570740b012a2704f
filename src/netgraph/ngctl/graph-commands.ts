/** Commands of ngctl that change the graph: connect, mkpeer, name, rmhook, shutdown. */
import {
  NG_HOOKSIZ,
  NG_NODESIZ,
  NG_PATHSIZ,
  NG_TYPESIZ,
  NGM_CONNECT,
  NGM_GENERIC_COOKIE,
  NGM_MKPEER,
  NGM_NAME,
  NGM_RMHOOK,
  NGM_SHUTDOWN,
} from '../abi.js';
import { connectType, mkpeerType, nameType, rmhookType } from '../generic.js';
import { pack } from '../parse/parse-type.js';
import type { NgctlCommand } from './command.js';
import { send, warnErrno } from './query.js';

/** A word as the original's fixed buffers keep it: what does not fit is cut off. */
const cut = (word: string, size: number) => word.slice(0, size - 1);

export const connectCommand: NgctlCommand = {
  usage: 'connect [path] <relpath> <hook> <peerhook>',
  summary: 'Join two nodes, by a hook of each',
  help:
    'Makes an edge from hook "hook" of the node at "path" to hook "peerhook" of the node at "relpath". ' +
    'A relative "relpath" begins at "path", which is this program\'s own node when it is left out.',
  aliases: ['join'],
  run(context, argv) {
    if (argv.length !== 4 && argv.length !== 5) return 'usage';
    const path = argv.length === 5 ? (argv[1] as string) : '.';
    const [relpath, ourhook, peerhook] = argv.slice(-3) as [string, string, string];
    const args = {
      path: cut(relpath, NG_PATHSIZ),
      ourhook: cut(ourhook, NG_HOOKSIZ),
      peerhook: cut(peerhook, NG_HOOKSIZ),
    };
    return send(context, path, NGM_CONNECT, pack(connectType, args));
  },
};

export const mkpeerCommand: NgctlCommand = {
  usage: 'mkpeer [path] <type> <hook> <peerhook>',
  summary: 'Make a node of a type, joined to one that exists',
  help:
    'Makes a node of type "type", and an edge to its hook "peerhook" from hook "hook" of the node at "path", ' +
    "which is this program's own node when it is left out. Either both come to be or neither.",
  run(context, argv) {
    if (argv.length !== 4 && argv.length !== 5) return 'usage';
    const path = argv.length === 5 ? (argv[1] as string) : '.';
    const [type, ourhook, peerhook] = argv.slice(-3) as [string, string, string];
    const args = {
      type: cut(type, NG_TYPESIZ),
      ourhook: cut(ourhook, NG_HOOKSIZ),
      peerhook: cut(peerhook, NG_HOOKSIZ),
    };
    return send(context, path, NGM_MKPEER, pack(mkpeerType, args));
  },
};

export const nameCommand: NgctlCommand = {
  usage: 'name <path> <name>',
  summary: 'Give the node at <path> a name',
  run(context, argv) {
    if (argv.length !== 3) return 'usage';
    const [, path, name] = argv as [string, string, string];
    return send(context, path, NGM_NAME, pack(nameType, { name: cut(name, NG_NODESIZ) }));
  },
};

export const rmhookCommand: NgctlCommand = {
  usage: 'rmhook [path] <hook>',
  summary: 'Remove a hook of the node at "path", and with it the edge',
  help: 'Without "path" it is a hook of this program\'s own node. A hook that is not there is no error.',
  aliases: ['disconnect'],
  run(context, argv) {
    if (argv.length !== 2 && argv.length !== 3) return 'usage';
    const path = argv.length === 3 ? (argv[1] as string) : '.';
    const hook = cut(argv.at(-1) as string, NG_HOOKSIZ);
    return send(context, path, NGM_RMHOOK, pack(rmhookType, { hook }));
  },
};

export const shutdownCommand: NgctlCommand = {
  usage: 'shutdown <path>',
  summary: 'Shut down the node at <path>',
  aliases: ['kill', 'rmnode'],
  run(context, argv) {
    if (argv.length !== 2) return 'usage';
    const error = context.socket.send(argv[1] as string, NGM_GENERIC_COOKIE, NGM_SHUTDOWN);
    return error === undefined ? 'ok' : warnErrno(context, 'shutdown', error);
  },
};
