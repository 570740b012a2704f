/** netbe qemu-args, netbe uml-args: what to give a hypervisor so that its guest joins a NIC. */
import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { type Command, InvalidArgumentError } from 'commander';
import type { SocketMode, TransportKind } from '../control/fabric-types.js';
import { defaultMac, nameOfSocket } from '../control/nic-spec.js';
import { NetbeError, usageError } from '../errors.js';
import { formatMac } from '../wire/ethernet.js';
import { clientCommand, connect, type FabricChoice, print } from './command.js';

/** A NIC as its guest sees it. */
export interface GuestNic {
  name: string;
  socket: string;
  mode: SocketMode;
  transport: TransportKind;
  mac: string;
  mtu: number | null;
}

export interface QemuVersion {
  major: number;
  minor: number;
}

export interface QemuOptions {
  nics: GuestNic[];
  /** size of the guest's memory, as QEMU writes it: "256M" */
  mem: string;
  version: QemuVersion | undefined;
  /** MSI-X vectors; undefined: what suits the version */
  vectors?: number | undefined;
}

/** A comma separates QEMU's options; two of them are a comma in a value. */
function qemuValue(text: string): string {
  return text.replaceAll(',', ',,');
}

export function qemuArgs({ nics, mem, version, vectors }: QemuOptions): string[] {
  const args = [
    '-m',
    mem,
    '-object',
    `memory-backend-memfd,id=netbe-mem,size=${mem},share=on`,
    '-machine',
    'memory-backend=netbe-mem',
  ];
  // MSI-X with vhost-user under TCG ends QEMU 7.2 with a segmentation fault when the driver starts
  const msix = vectors ?? (version !== undefined && version.major < 8 ? 0 : undefined);
  for (const nic of nics) {
    const { name, socket, mode, mac, mtu } = nic;
    if (nic.transport === 'vfio-user') {
      args.push('-device', vfioUserDevice(nic, version));
      continue;
    }
    const role = mode === 'client' ? ',server=on,wait=off' : reconnect(version);
    args.push('-chardev', `socket,id=netbe-chr-${name},path=${qemuValue(socket)}${role}`);
    args.push('-netdev', `vhost-user,id=netbe-net-${name},chardev=netbe-chr-${name}`);
    const hostMtu = mtu === null ? '' : `,host_mtu=${mtu}`;
    const vectorOption = msix === undefined ? '' : `,vectors=${msix}`;
    args.push('-device', `virtio-net-pci,netdev=netbe-net-${name},mac=${mac}${hostMtu}${vectorOption}`);
  }
  return args;
}

/** The device brings its MAC address and MTU itself; its socket is a structure, which only JSON can say. */
function vfioUserDevice({ name, socket, mode }: GuestNic, version: QemuVersion | undefined): string {
  if (version !== undefined && (version.major < 10 || (version.major === 10 && version.minor < 1)))
    throw usageError(
      `${name} has the transport vfio-user, and QEMU ${version.major}.${version.minor} has no vfio-user-pci device`,
      name,
      'Use QEMU 10.1 or newer (--qemu names another one), or the transport vhost-user, which virtio-net has.',
    );
  if (mode === 'client')
    throw usageError(
      `${name} is in client mode, and so is QEMU's vfio-user-pci: neither would listen`,
      name,
      'Use mode=server, the default.',
    );
  return JSON.stringify({ driver: 'vfio-user-pci', socket: { type: 'unix', path: socket } });
}

/** So that a restarted fabric finds its guests again. The option's name changed with QEMU 9.2. */
function reconnect(version: QemuVersion | undefined): string {
  if (version === undefined) return '';
  const { major, minor } = version;
  return major > 9 || (major === 9 && minor >= 2) ? ',reconnect-ms=1000' : ',reconnect=1';
}

/** VirtIO 1.2 §5: 1 is a network card */
export function umlArgs(nics: GuestNic[]): string[] {
  return nics.map(({ name, socket, mode, transport }, i) => {
    if (transport === 'vfio-user')
      throw usageError(
        `${name} is a PCI device (transport vfio-user), and user-mode-linux has no PCI bus that takes it`,
        name,
        'Give this guest a virtio-net NIC with the transport vhost-user, or use QEMU (netbe qemu-args).',
      );
    if (mode === 'client')
      throw usageError(
        `${name} is in client mode, and so is user-mode-linux: neither would listen`,
        name,
        'Use mode=server, the default.',
      );
    if (/[:\s]/.test(socket))
      throw usageError(
        `user-mode-linux cannot take the socket path "${socket}": it has a colon or a space`,
        socket,
        'Choose a path without.',
      );
    return `virtio_uml.device=${socket}:1${nics.length > 1 ? `:${i}` : ''}`;
  });
}

export function parseQemuVersion(text: string): QemuVersion | undefined {
  const match = /(\d+)\.(\d+)/.exec(text);
  return match ? { major: Number(match[1]), minor: Number(match[2]) } : undefined;
}

/** One shell word that means `text`. */
export function shellQuote(text: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

interface PrintOptions {
  quote?: boolean;
  json?: boolean;
}

function printArgs(args: string[], command: string, { quote, json }: PrintOptions): void {
  print(json ? JSON.stringify(args) : quote ? args.map(shellQuote).join(' ') : plainArgs(args, command));
}

function plainArgs(args: string[], command: string): string {
  // what a command substitution puts out is split at blanks and matched against file names, and no more
  const bad = args.find((arg) => !/^[^\s*?[\\]+$/.test(arg));
  if (bad !== undefined)
    throw usageError(
      `"${bad}" would not survive $(...) in a shell: it has characters that need quotes`,
      bad,
      `Use --quote: eval "HYPERVISOR $(netbe ${command} --quote ...)", or --json from a program.`,
    );
  return args.join(' ');
}

/** What a running fabric says of each; a socket that it does not know, or no fabric: the defaults. */
async function findNics(
  names: string[],
  choice: FabricChoice,
  mode: SocketMode | undefined,
  transport: TransportKind | undefined,
): Promise<GuestNic[]> {
  const known = await connect(choice)
    .nics()
    .catch((error) => {
      const asked = choice.fabric !== undefined || choice.control !== undefined;
      if (asked || !(error instanceof NetbeError)) throw error;
      return [];
    });
  return names.map((text) => {
    const socket = resolve(text);
    const nic = known.find((n) => n.socket === socket) ?? known.find((n) => n.name === text);
    if (nic) {
      const { mac, mtu } = nic.device;
      const { kind } = nic.transport;
      return { name: nic.name, socket: nic.socket, mode: mode ?? nic.mode, transport: transport ?? kind, mac, mtu };
    }
    if (!/[/.]/.test(text))
      throw new NetbeError(`there is no NIC "${text}" in a running fabric`, {
        code: 'ENOENT',
        kind: 'usage',
        subject: text,
        remedy: `Start the fabric first, or give the path of the socket, for instance ${text}.sock.`,
      });
    note(`no running fabric knows ${text}: default MAC address and MTU; start the fabric first to get its own`);
    const name = nameOfSocket(socket).replace(/[^A-Za-z0-9._-]/g, '-');
    const mac = formatMac(defaultMac({ bus: 0, slot: 0, func: 0 }, name));
    return { name, socket, mode: mode ?? 'server', transport: transport ?? 'vhost-user', mac, mtu: null };
  });
}

function note(text: string): void {
  process.stderr.write(`netbe: ${text}\n`);
}

interface QemuCommandOptions extends FabricChoice, PrintOptions {
  mem: string;
  qemu: string;
  qemuVersion?: QemuVersion;
  vectors?: number;
  listen?: boolean;
  vfioUser?: boolean;
}

function guestCommand(name: string, summary: string): Command {
  return clientCommand(name, summary)
    .argument('<nic...>', 'sockets or names of NICs; MAC address and MTU come from the running fabric')
    .option('--quote', 'quote for a shell that evaluates the line')
    .option('--json', 'as a JSON array of arguments');
}

export function qemuArgsCommand(): Command {
  return guestCommand('qemu-args', 'print the arguments with which a QEMU guest joins')
    .option('--mem <size>', "the guest's memory", parseMem, '256M')
    .option('--qemu <binary>', 'the QEMU to ask for its version', 'qemu-system-x86_64')
    .option('--qemu-version <x.y>', 'do not ask', parseVersion)
    .option(
      '--vectors <n>',
      'MSI-X vectors (default: 0 before QEMU 8, which crashes with them under TCG)',
      parseVectors,
    )
    .option('--listen', 'QEMU listens on the socket: for a NIC with mode=client')
    .option('--vfio-user', 'the sockets are those of PCI devices: for paths that no running fabric knows')
    .addHelpText(
      'after',
      '\nGuest memory is shared with netbe: the arguments set a memory backend, so do not give -m yourself.\n\nExamples:\n  qemu-system-x86_64 -accel kvm -nographic disk.img $(netbe qemu-args vm1.sock --mem 1G)\n  qemu-system-x86_64 -kernel vmlinuz $(netbe qemu-args vm1 vm1b)\n',
    )
    .action((names: string[], options: QemuCommandOptions) => printQemuArgs(names, options));
}

async function printQemuArgs(names: string[], options: QemuCommandOptions): Promise<void> {
  const nics = await findNics(
    names,
    options,
    options.listen ? 'client' : undefined,
    options.vfioUser ? 'vfio-user' : undefined,
  );
  const version = options.qemuVersion ?? askVersion(options.qemu);
  if (version === undefined)
    note(`${options.qemu} is not there to be asked for its version: no reconnect option; --qemu-version x.y sets it`);
  else if (version.major < 8 && options.vectors === undefined && nics.some((nic) => nic.transport === 'vhost-user'))
    note(
      `QEMU ${version.major}.${version.minor}: vectors=0, as it crashes with MSI-X under TCG; with KVM use --vectors 3`,
    );
  printArgs(qemuArgs({ nics, mem: options.mem, version, vectors: options.vectors }), 'qemu-args', options);
}

function askVersion(binary: string): QemuVersion | undefined {
  const { stdout, status } = spawnSync(binary, ['--version'], { encoding: 'utf8', timeout: 5000 });
  return status === 0 ? parseQemuVersion(stdout) : undefined;
}

export function umlArgsCommand(): Command {
  return guestCommand('uml-args', 'print the arguments with which a user-mode-linux guest joins')
    .addHelpText('after', '\nExample:\n  linux.uml mem=128M initrd=initrd.cpio $(netbe uml-args vm1.sock)\n')
    .action(async (names: string[], options: FabricChoice & PrintOptions) => {
      printArgs(umlArgs(await findNics(names, options, undefined, undefined)), 'uml-args', options);
    });
}

function parseMem(text: string): string {
  if (!/^[1-9]\d{0,8}[MG]$/.test(text)) throw new InvalidArgumentError('Give a size such as 256M or 2G.');
  return text;
}

function parseVersion(text: string): QemuVersion {
  const version = /^\d+\.\d+/.test(text) ? parseQemuVersion(text) : undefined;
  if (!version) throw new InvalidArgumentError('Give a version such as 7.2.');
  return version;
}

function parseVectors(text: string): number {
  if (!/^\d{1,3}$/.test(text)) throw new InvalidArgumentError('Give a number, for instance 0 or 3.');
  return Number(text);
}
