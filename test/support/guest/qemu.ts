/**
 * Starts QEMU guests (TCG, no KVM needed) with vhost-user NICs. The QEMU of the set-up runs in place:
 * with the loader, libraries, modules and firmware it came with, whatever the machine has.
 */
import { join } from 'node:path';
import { componentDir } from '../../../scripts/setup/cache.js';
import { bootImage, findProgram, libraryDirs, loaderOf, requireComponent } from '../../../scripts/setup/images.js';
import { Guest, type GuestNic, guestDir } from './guest.js';
import { dyingWithParent } from './parent-death.js';
import { ready } from './uml.js';

export interface QemuNic extends GuestNic {
  /** further properties of the virtio-net-pci device, for instance "guest_tso4=off" */
  properties?: string;
  /** QEMU listens on the socket, for a NIC in client mode */
  listen?: boolean;
}

export interface QemuOptions {
  name?: string;
  nics?: readonly QemuNic[];
  memoryMb?: number;
  /** room for memory that is plugged in later */
  maxMemoryMb?: number;
  /** where QEMU takes commands: see Qmp */
  qmpPath?: string;
  bootTimeoutMs?: number;
  /** whether QEMU tries again each second when the fabric goes away (default true) */
  reconnect?: boolean;
  /** arguments for memory and NICs, as `netbe qemu-args` prints them, instead of `nics`, `memoryMb` and `reconnect` */
  netbeArgs?: readonly string[];
}

/** Boots; resolves when the guest takes commands. Its NICs are eth0, eth1, … in the order given. */
export async function startQemu(options: QemuOptions = {}): Promise<Guest> {
  const { name = 'qemu', bootTimeoutMs = 120_000, netbeArgs, qmpPath } = options;
  const { kernel, initrd } = bootImage('kernel');
  const { command, args, env } = qemuCommand();
  // QEMU does not heed a port that hangs up
  const [program, ...leading] = dyingWithParent(command, ...args);
  const guest = new Guest({
    name,
    dir: guestDir(),
    command: program,
    env,
    args: [
      ...leading,
      ...['-name', name, '-M', 'pc', '-accel', 'tcg', '-cpu', 'max,-la57', '-nodefaults', '-no-reboot', '-nographic'],
      ...['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
      ...['-chardev', 'socket,id=port,fd=3', '-serial', 'chardev:port'],
      ...['-kernel', kernel, '-initrd', initrd, '-append', bootParameters],
      ...(qmpPath === undefined ? [] : ['-qmp', `unix:${qmpPath},server=on,wait=off`]),
      ...(netbeArgs?.map(withoutBootRom) ?? ownArguments(options)),
    ],
  });
  return ready(guest, bootTimeoutMs);
}

// Whatever takes time at boot under emulation and serves no test is off.
const bootParameters = [
  'console=ttyS0 quiet panic=-1 cryptomgr.notests mitigations=off nokaslr rodata=off',
  'initcall_blacklist=load_system_certificate_list,init_kprobe_trace netbe.port=ttyS1',
].join(' ');

function ownArguments(options: QemuOptions): string[] {
  const { nics = [], memoryMb = 192, maxMemoryMb, reconnect = true } = options;
  const slots = maxMemoryMb === undefined ? '' : `,slots=4,maxmem=${maxMemoryMb}M`;
  return [
    ...['-m', `${memoryMb}M${slots}`, '-machine', 'memory-backend=mem'],
    ...['-object', `memory-backend-memfd,id=mem,size=${memoryMb}M,share=on`],
    ...nics.flatMap((nic, i) => nicArguments(nic, i, reconnect)),
  ];
}

/** The set-up brings no boot ROMs, and loading them takes seconds. */
function withoutBootRom(argument: string): string {
  return argument.startsWith('virtio-net-pci,') ? `${argument},romfile=` : argument;
}

function nicArguments(nic: QemuNic, index: number, reconnect: boolean): string[] {
  const mac = nic.mac ? `,mac=${nic.mac}` : '';
  const properties = nic.properties ? `,${nic.properties}` : '';
  const role = nic.listen ? ',server=on,wait=off' : reconnect ? ',reconnect=1' : '';
  return [
    ...['-chardev', `socket,id=c${index},path=${nic.socket}${role}`],
    ...['-netdev', `vhost-user,id=n${index},chardev=c${index}`],
    // vectors=0: QEMU 7.2 crashes under TCG when a driver starts vhost-user with MSI-X
    ...['-device', withoutBootRom(`virtio-net-pci,netdev=n${index},vectors=0${mac}${properties}`)],
  ];
}

/** How to start QEMU: NETBE_QEMU, or the one of the set-up. */
export function qemuCommand(): { command: string; args: string[]; env: NodeJS.ProcessEnv } {
  if (process.env.NETBE_QEMU) return { command: process.env.NETBE_QEMU, args: [], env: {} };
  requireComponent('qemu');
  const tree = componentDir('qemu');
  const firmware = ['usr/share/qemu', 'usr/share/seabios'].flatMap((dir) => ['-L', join(tree, dir)]);
  return {
    command: loaderOf(tree),
    args: ['--library-path', libraryDirs(tree).join(':'), findProgram(tree, 'qemu-system-x86_64'), ...firmware],
    env: { QEMU_MODULE_DIR: join(tree, 'usr/lib/x86_64-linux-gnu/qemu') },
  };
}
