/** What the subcommands share: the options that say which fabric, and how to reach it. */
import { resolve } from 'node:path';
import { Command } from 'commander';
import { ControlClient } from '../control/control-client.js';
import { controlSocketPath, ensureRuntimeDir, portSocketPath } from '../control/runtime-dir.js';
import { DEFAULT_FABRIC_NAME } from '../control/schema.js';

export interface FabricChoice {
  fabric?: string;
  control?: string;
}

/** A subcommand that talks to a running fabric. */
export function clientCommand(name: string, summary: string): Command {
  return withFabricChoice(new Command(name).summary(summary).description(`${summary}.`));
}

export function withFabricChoice(command: Command): Command {
  return command
    .option('--fabric <name>', `name of the fabric (default: "${DEFAULT_FABRIC_NAME}")`)
    .option('--control <path>', 'control socket (default: NAME.sock in the runtime directory)');
}

export function controlPath({ fabric, control }: FabricChoice): string {
  return control === undefined ? controlSocketPath(fabric ?? DEFAULT_FABRIC_NAME) : resolve(control);
}

/** The port socket of that fabric; its folder is there, should a program make one of its own. */
export function portSocket(choice: FabricChoice): string {
  if (choice.control === undefined) ensureRuntimeDir();
  return portSocketPath(controlPath(choice));
}

export function connect(choice: FabricChoice): ControlClient {
  return new ControlClient(controlPath(choice));
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function printJson(value: unknown): void {
  print(JSON.stringify(value, null, process.stdout.isTTY ? 2 : 0));
}
