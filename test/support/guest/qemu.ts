/**
 * Starts QEMU guests (TCG, no KVM needed) with vhost-user and vfio-user NICs. The QEMU of the set-up runs in
 * place: with the loader, libraries, modules and firmware it came with, whatever the machine has.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { componentDir } from '../../../scripts/setup/cache.js';
import { CpioArchive } from '../../../scripts/setup/cpio.js';
import { bootImage, findProgram, libraryDirs, loaderOf, requireComponent } from '../../../scripts/setup/images.js';
import { Guest, type GuestNic, guestDir } from './guest.js';
import { dyingWithParent } from './parent-death.js';
import { ready } from './uml.js';

/** Properties of a virtio-net device whose driver gets and sends complete frames only. */
export const noOffloads =
  'csum=off,guest_csum=off,gso=off,host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off,' +
  'guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off';

export interface QemuNic extends GuestNic {
  /** further properties of the virtio-net-pci device, for instance "guest_tso4=off" */
  properties?: string | undefined;
  /** QEMU listens on the socket, for a NIC in client mode */
  listen?: boolean;
  /** what QEMU is told to connect with; vfio-user needs the newer one */
  transport?: 'vhost-user' | 'vfio-user';
  /** boot ROM, a file of iPXE; none by default */
  romfile?: string | undefined;
}

/** QEMU 7.2, Debian 12's own, or 11, which knows vfio-user */
export type QemuProgram = 'qemu' | 'qemu11';

export interface QemuOptions {
  name?: string;
  program?: QemuProgram;
  nics?: readonly QemuNic[];
  memoryMb?: number;
  /** false: the guest's memory is QEMU's own, as with plain -m, and no NIC may map it (default true) */
  sharedMemory?: boolean;
  /** room for memory that is plugged in later */
  maxMemoryMb?: number;
  /** where QEMU takes commands: see Qmp */
  qmpPath?: string;
  bootTimeoutMs?: number;
  /** whether QEMU tries again each second when the fabric goes away (default true) */
  reconnect?: boolean;
  /** arguments for memory and NICs, as `netbe qemu-args` prints them, instead of `nics`, `memoryMb` and `reconnect` */
  netbeArgs?: readonly string[];
  /** whether the guest's reboot boots it again instead of ending QEMU (default false) */
  reboots?: boolean;
  /** "network": the boot ROM of the first NIC finds what to boot, whose parameters must be `bootParameters` */
  boot?: 'kernel' | 'network';
  /** the machine, and devices that must be there before its NICs */
  machine?: readonly string[];
  /** statically linked programs that the guest finds in /bin: name to file */
  programs?: Readonly<Record<string, string>>;
  /** further words of the guest kernel's command line */
  parameters?: string;
  /** further arguments */
  extraArgs?: readonly string[];
}

/** Boots; resolves when the guest takes commands. Its NICs are eth0, eth1, … in the order given. */
export async function startQemu(options: QemuOptions = {}): Promise<Guest> {
  return ready(spawnQemu(options), options.bootTimeoutMs ?? 120_000);
}

/** Starts QEMU without waiting for its guest. */
export function spawnQemu(options: QemuOptions): Guest {
  const { name = 'qemu', program = 'qemu', netbeArgs, qmpPath, boot = 'kernel', extraArgs = [] } = options;
  const { machine = ['-M', 'pc'] } = options;
  const { command, args, env } = qemuCommand(program);
  // QEMU does not heed a port that hangs up
  const [first, ...leading] = dyingWithParent(command, ...args);
  const dir = guestDir();
  return new Guest({
    name,
    dir,
    command: first,
    env,
    args: [
      ...leading,
      ...['-name', name, ...machine, '-accel', 'tcg', '-cpu', 'max,-la57', '-nodefaults', '-nographic'],
      ...(options.reboots ? [] : ['-no-reboot']),
      ...['-chardev', 'stdio,id=console,signal=off', '-serial', 'chardev:console'],
      ...['-chardev', 'socket,id=port,fd=3', '-serial', 'chardev:port'],
      ...(boot === 'kernel' ? kernelArguments(dir, options) : ['-boot', 'order=n']),
      ...(qmpPath === undefined ? [] : ['-qmp', `unix:${qmpPath},server=on,wait=off`]),
      ...(netbeArgs?.map(withoutBootRom) ?? ownArguments(options)),
      ...extraArgs,
    ],
  });
}

// Whatever takes time at boot under emulation and serves no test is off.
export const bootParameters = [
  'console=ttyS0 quiet panic=-1 cryptomgr.notests mitigations=off nokaslr rodata=off',
  'initcall_blacklist=load_system_certificate_list,init_kprobe_trace netbe.port=ttyS1',
].join(' ');

function kernelArguments(dir: string, { programs = {}, parameters = '' }: QemuOptions): string[] {
  const { kernel, initrd } = bootImage('kernel');
  return [
    ...['-kernel', kernel, '-append', `${bootParameters} ${parameters}`],
    ...['-initrd', Object.keys(programs).length === 0 ? initrd : extended(initrd, dir, programs)],
  ];
}

/** An initramfs may be several archives, one after the other (Linux: early-userspace/buffer-format). */
function extended(initrd: string, dir: string, programs: Readonly<Record<string, string>>): string {
  const archive = new CpioArchive();
  for (const [name, file] of Object.entries(programs)) archive.file(`bin/${name}`, readFileSync(file));
  const file = join(dir, 'initrd');
  writeFileSync(file, Buffer.concat([readFileSync(initrd), archive.finish()]));
  return file;
}

function ownArguments(options: QemuOptions): string[] {
  const { nics = [], memoryMb = 192, maxMemoryMb, sharedMemory = true } = options;
  const slots = maxMemoryMb === undefined ? '' : `,slots=4,maxmem=${maxMemoryMb}M`;
  const shared = [
    '-machine',
    'memory-backend=mem',
    '-object',
    `memory-backend-memfd,id=mem,size=${memoryMb}M,share=on`,
  ];
  return [
    ...['-m', `${memoryMb}M${slots}`],
    ...(sharedMemory ? shared : []),
    ...nics.flatMap((nic, i) =>
      nic.transport === 'vfio-user' ? vfioUserArguments(nic, i) : vhostUserArguments(nic, i, options),
    ),
  ];
}

/** The set-up brings no boot ROMs for QEMU 7.2, and loading them takes seconds. */
function withoutBootRom(argument: string): string {
  return argument.startsWith('virtio-net-pci,') ? `${argument},romfile=` : argument;
}

function vfioUserArguments(nic: QemuNic, index: number): string[] {
  return ['-device', JSON.stringify(vfioUserDevice(nic, `vfio${index}`))];
}

/** The device as -device and QMP's device_add take it */
export function vfioUserDevice(nic: QemuNic, id: string): object {
  return {
    driver: 'vfio-user-pci',
    id,
    socket: { type: 'unix', path: nic.socket },
    romfile: nic.romfile ?? '',
    ...(nic.romfile ? { bootindex: 1 } : {}),
  };
}

function vhostUserArguments(nic: QemuNic, index: number, options: QemuOptions): string[] {
  const { program = 'qemu', reconnect = true } = options;
  const mac = nic.mac ? `,mac=${nic.mac}` : '';
  const properties = nic.properties ? `,${nic.properties}` : '';
  const again = program === 'qemu' ? ',reconnect=1' : ',reconnect-ms=1000';
  const role = nic.listen ? ',server=on,wait=off' : reconnect ? again : '';
  // vectors=0: QEMU 7.2 crashes under TCG when a driver starts vhost-user with MSI-X
  const vectors = program === 'qemu' ? ',vectors=0' : '';
  const rom = `,romfile=${nic.romfile ?? ''}${nic.romfile ? ',bootindex=1' : ''}`;
  return [
    ...['-chardev', `socket,id=c${index},path=${nic.socket}${role}`],
    ...['-netdev', `vhost-user,id=n${index},chardev=c${index}`],
    ...['-device', `virtio-net-pci,netdev=n${index}${vectors}${mac}${properties}${rom}`],
  ];
}

const overrides: Record<QemuProgram, string> = { qemu: 'NETBE_QEMU', qemu11: 'NETBE_QEMU11' };

/** How to start QEMU: the person's own, or the one of the set-up. */
export function qemuCommand(program: QemuProgram = 'qemu'): {
  command: string;
  args: string[];
  env: NodeJS.ProcessEnv;
} {
  const own = process.env[overrides[program]];
  if (own) return { command: own, args: [], env: {} };
  requireComponent(program);
  const tree = componentDir(program);
  const firmware = ['usr/share/qemu', 'usr/share/seabios'].map((dir) => join(tree, dir));
  return {
    command: loaderOf(tree),
    args: [
      ...['--library-path', libraryDirs(tree).join(':'), findProgram(tree, 'qemu-system-x86_64')],
      ...firmware.filter((dir) => existsSync(dir)).flatMap((dir) => ['-L', dir]),
    ],
    env: { QEMU_MODULE_DIR: join(tree, 'usr/lib/x86_64-linux-gnu/qemu') },
  };
}
