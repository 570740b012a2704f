/**
 * ngctl(8) as a library: a session is its socket node, a line or a list of words is a command.
 *
 *   const session = NgctlSession.open(graph, 'ngctl42');
 *   if (typeof session !== 'string') console.log(runNgctl(session, 'list -l').output);
 *
 * All runs on the fabric's thread. Files are the caller's: what a command says of files is taken out by
 * splitFiles (files.ts) first, so nobody can make the fabric open one.
 */
import type { Netgraph } from '../engine.js';
import type { Errno } from '../errno.js';
import { NgSocket } from '../nodes/socket.js';
import { EX_OK, EX_OSERR, EX_USAGE, type NgctlContext } from './command.js';
import { findCommand } from './commands.js';
import { dumpLines, printMessage } from './msg-commands.js';

/** frames that wait to be shown, and bytes of each that are kept, at most */
const KEPT_FRAMES = 64;
const KEPT_BYTES = 8192;

export interface NgctlResult {
  /** for standard output */
  output: string;
  /** for standard error */
  error: string;
  /** 0, or as sysexits.h: 64 for wrong arguments, 71 for all else */
  status: number;
  /** the command was `quit` */
  quit: boolean;
}

interface KeptFrame {
  readonly hook: string;
  readonly bytes: Uint8Array;
}

export class NgctlSession {
  debugLevel = 0;

  /** A session whose node has that name, or why there is none. `onEvent`: something has come that takeEvents shows. */
  static open(graph: Netgraph, name: string, onEvent?: () => void): NgctlSession | Errno {
    const frames: KeptFrame[] = [];
    const socket = NgSocket.open(graph, name, {
      onMessage: onEvent,
      onData: (hook, burst) => {
        for (let i = 0; i < burst.count && frames.length < KEPT_FRAMES; i++) {
          const { u8 } = graph.runtime.windows.windows[burst.win[i]!]!;
          const off = burst.off[i]!;
          frames.push({ hook: hook.name, bytes: u8.slice(off, off + Math.min(burst.len[i]!, KEPT_BYTES)) });
        }
        onEvent?.();
      },
    });
    return typeof socket === 'string' ? socket : new NgctlSession(socket, frames);
  }

  private constructor(
    readonly socket: NgSocket,
    /** frames that came in and have not been shown */
    readonly frames: KeptFrame[],
  ) {}

  /** Something has come that takeEvents shows. */
  get hasEvents(): boolean {
    return this.frames.length > 0 || this.socket.hasMessages;
  }

  close(): void {
    if (!this.socket.closed) this.socket.close();
  }
}

/** Runs a command: a line, whose words are separated by white space, or words. */
export function runNgctl(session: NgctlSession, command: string | readonly string[]): NgctlResult {
  const argv = typeof command === 'string' ? command.split(/\s+/).filter((word) => word !== '') : command;
  const output: string[] = [];
  const error: string[] = [];
  const context = contextOf(session, output, error);
  const result = (status: number, quit = false): NgctlResult => ({
    output: output.join(''),
    error: error.join(''),
    status,
    quit,
  });
  if (argv.length === 0 || argv[0] === '') return result(EX_OK);
  const found = findCommand(argv[0] as string);
  if (typeof found === 'string') {
    context.warn(found);
    return result(EX_OSERR);
  }
  const outcome = session.socket.closed ? closed(context) : found.run(context, argv);
  if (outcome === 'usage') context.warn(`usage: ${found.usage}`);
  return result(outcome === 'usage' ? EX_USAGE : outcome === 'error' ? EX_OSERR : EX_OK, outcome === 'quit');
}

function closed(context: NgctlContext): 'error' {
  context.warn("this program's own node has been shut down");
  return 'error';
}

/** Messages and frames that came in unasked, as text; '' when nothing has. */
export function takeEvents(session: NgctlSession): string {
  const output: string[] = [];
  const context = contextOf(session, output, output);
  for (let message = session.socket.recv(); message !== undefined; message = session.socket.recv())
    printMessage(context, message);
  for (const { hook, bytes } of session.frames.splice(0)) {
    context.print(`Rec'd data packet on hook "${hook}":`);
    for (const line of dumpLines(bytes)) context.print(line);
  }
  return output.join('');
}

function contextOf(session: NgctlSession, output: string[], error: string[]): NgctlContext {
  return {
    socket: session.socket,
    get debugLevel() {
      return session.debugLevel;
    },
    set debugLevel(level) {
      session.debugLevel = level;
    },
    print: (line) => void output.push(`${line}\n`),
    warn: (line) => void error.push(`ngctl: ${line}\n`),
  };
}
