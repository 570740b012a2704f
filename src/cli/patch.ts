/** netbe patch, netbe unpatch: two backends of a running fabric joined, and parted. */
import type { Command } from 'commander';
import { clientCommand, connect, type FabricChoice, print } from './command.js';
import { backendsHelp } from './help.js';

export function patchCommand(): Command {
  return clientCommand('patch', 'join two backends: what one receives the other sends')
    .argument('<a>', 'device string with its options: device[,key=value...]')
    .argument('<b>', 'the other one')
    .option('--name <name>', 'name of the patch (default: both devices joined by +)')
    .addHelpText(
      'after',
      `\n${backendsHelp()}\n\nPaths in options start from the folder that the fabric was started in.\n\nExample:\n  netbe patch vale0:vm4 stream0,addr=unix:/tmp/vm4.sock\n`,
    )
    .action(async (a: string, b: string, options: FabricChoice & { name?: string }) => {
      const { name } = options;
      const patch = await connect(options).addPatch(name === undefined ? { a, b } : { name, a, b });
      print(`${patch.name}: ${patch.a} and ${patch.b}`);
    });
}

export function unpatchCommand(): Command {
  return clientCommand('unpatch', 'part two backends that were joined')
    .argument('<name>', 'name of the patch, as netbe show prints it')
    .action(async (name: string, options: FabricChoice) => {
      await connect(options).removePatch(name);
      print(`${name} removed`);
    });
}
