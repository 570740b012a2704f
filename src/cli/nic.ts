/** netbe nic add, netbe nic remove, netbe link: changes to a running fabric. */
import { resolve } from 'node:path';
import { Command } from 'commander';
import { parseSlotSpec, slotExample } from '../control/slot-spec.js';
import { usageError } from '../errors.js';
import { clientCommand, connect, type FabricChoice, print } from './command.js';
import { backendsHelp, slotHelp } from './help.js';

export function nicCommand(): Command {
  const nic = new Command('nic')
    .summary('add or remove NICs of a running fabric')
    .description('Changes a running fabric.');
  nic.addCommand(
    clientCommand('add', 'add a NIC')
      .argument('<spec>', 'slot[:func],emulation,backend[,key=value...], as after -s of netbe run')
      .addHelpText('after', `\n${slotHelp()}\n\n${backendsHelp()}\n\nExample:\n  netbe nic add ${slotExample}\n`)
      .action(async (text: string, options: FabricChoice) => {
        // a fabric may have backends of its own, and checks them itself
        const spec = parseSlotSpec(text, { ownBackends: true });
        const added = await connect(options).addNic({ ...spec, socket: resolve(spec.socket) });
        print(`${added.name}: ${added.emulation} on ${added.backend}, ${added.device.mac}, ${added.socket}`);
      }),
  );
  nic.addCommand(
    clientCommand('remove', 'remove a NIC; its guest is disconnected')
      .argument('<name>', 'name of the NIC')
      .action(async (name: string, options: FabricChoice) => {
        await connect(options).removeNic(name);
        print(`${name} removed`);
      }),
  );
  return nic;
}

export function linkCommand(): Command {
  return clientCommand('link', 'take the link of a NIC up or down')
    .argument('<nic>', 'name of the NIC')
    .argument('<state>', 'up or down')
    .addHelpText('after', '\nExample:\n  netbe link vm1 down\n')
    .action(async (name: string, state: string, options: FabricChoice) => {
      if (state !== 'up' && state !== 'down')
        throw usageError(
          `link state "${state}" is neither up nor down`,
          state,
          `Write netbe link ${name} up, or down.`,
        );
      const nic = await connect(options).setLink(name, state);
      print(`${nic.name}: link ${nic.device.link}`);
    });
}
