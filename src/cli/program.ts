/** All subcommands, as one program. */
import { Command } from 'commander';
import { netbeVersion } from '../control/version.js';
import { captureCommand } from './capture.js';
import { qemuArgsCommand, umlArgsCommand } from './guest-args.js';
import { bridgeCommand } from './netmap/bridge.js';
import { lbCommand } from './netmap/lb.js';
import { pktGenCommand } from './netmap/pkt-gen.js';
import { valeCtlCommand } from './netmap/vale-ctl.js';
import { ngctlCommand } from './ngctl.js';
import { linkCommand, nicCommand } from './nic.js';
import { patchCommand, unpatchCommand } from './patch.js';
import { portsCommand } from './ports.js';
import { runCommand, upCommand } from './run.js';
import { schemaCommand } from './schema.js';
import { showCommand } from './show.js';

export function buildProgram(): Command {
  const program = new Command('netbe')
    .description('Network backends for virtual machines: a virtio-net NIC over vhost-user, plugged into a VALE switch.')
    .version(netbeVersion, '-V, --version', 'print the version')
    .option('--debug', 'with an error, show where it happened')
    .configureHelp({ showGlobalOptions: true });
  const commands = [
    runCommand(),
    upCommand(),
    portsCommand(),
    showCommand(),
    captureCommand(),
    nicCommand(),
    linkCommand(),
    patchCommand(),
    unpatchCommand(),
    ngctlCommand(),
    qemuArgsCommand(),
    umlArgsCommand(),
    valeCtlCommand(),
    pktGenCommand(),
    lbCommand(),
    bridgeCommand(),
    schemaCommand(),
  ];
  for (const command of commands) program.addCommand(command);
  program.addHelpText(
    'after',
    '\nTry it:\n  netbe run -s 2:0,virtio-net,vale0:vm1,socket=vm1.sock -s 3:0,virtio-net,vale0:vm2,socket=vm2.sock\n',
  );
  speakAsOne(program);
  return program;
}

/** Subcommands that were made apart inherit nothing from their parent. */
function speakAsOne(command: Command, path = command.name()): void {
  command.exitOverride().configureOutput({
    outputError: (text, write) =>
      write(`${text.replace(/^error: /, 'netbe: ')}  ${path} --help shows what is allowed.\n`),
  });
  command.configureHelp({ showGlobalOptions: true });
  for (const sub of command.commands) speakAsOne(sub, `${path} ${sub.name()}`);
}
