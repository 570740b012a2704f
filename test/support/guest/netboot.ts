/**
 * A boot server inside a guest, for boot ROMs (iPXE): DHCP says what to load and from where (RFC 2131, option 67 a URL),
 * HTTP hands it out. All of it is the guests' own busybox; the files come in through the host's file system.
 */
import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { componentDir } from '../../../scripts/setup/cache.js';
import { bootImage, requireComponent, vmlinuz } from '../../../scripts/setup/images.js';
import type { Guest } from './guest.js';
import { until } from './net.js';
import { bootParameters } from './qemu.js';

export interface BootServerOptions {
  /** folder on the host that becomes the server's; made here */
  dir: string;
  /** the server's address, in a network of 24 bits: 10.0.0.2 */
  address: string;
  /** what the boot ROM is told to do first */
  script: string;
}

/** Starts DHCP and HTTP on eth0 of a user-mode-linux guest. Clients get .100 to .110 of its network. */
export async function startBootServer(guest: Guest, { dir, address, script }: BootServerOptions): Promise<void> {
  mkdirSync(dir, { recursive: true });
  copyFileSync(vmlinuz(), join(dir, 'vmlinuz'));
  writeFileSync(join(dir, 'boot.ipxe'), script);
  const network = address.slice(0, address.lastIndexOf('.'));
  writeFileSync(
    join(dir, 'udhcpd.conf'),
    [
      ...[`start ${network}.100`, `end ${network}.110`, 'interface eth0', 'lease_file /tmp/leases'],
      ...['option subnet 255.255.255.0', `siaddr ${address}`, `boot_file http://${address}/boot.ipxe`, ''],
    ].join('\n'),
  );
  copyFileSync(bootImage('kernel').initrd, join(dir, 'initrd'));
  await guest.sh(`mkdir -p /srv && mount -t hostfs none /srv -o ${dir}`);
  await guest.sh('touch /tmp/leases && httpd -p 80 -h /srv && udhcpd -S /srv/udhcpd.conf');
  await until(async () => (await guest.run('netstat -lun | grep -q ":67 "')).status === 0, 'the DHCP server');
}

/** An iPXE script that boots the guests' own kernel: every byte of it has to arrive. */
export function linuxScript(address: string): string {
  // biome-ignore-start lint/suspicious/noTemplateCurlyInString: iPXE's own settings
  return [
    '#!ipxe',
    'echo netbe: ${net0/chip} ${net0/mac} has ${net0/ip}, boots from ${net0/next-server}',
    `kernel http://${address}/vmlinuz initrd=initrd ${bootParameters}`,
    `initrd http://${address}/initrd`,
    'boot',
    '',
  ].join('\n');
  // biome-ignore-end lint/suspicious/noTemplateCurlyInString: iPXE's own settings
}

const PCIR_POINTER = 0x18;

/**
 * A copy in `dir` of one of QEMU's iPXE ROMs, made out for PCI device `deviceId` of the same vendor: the BIOS runs a ROM only
 * if its header (PCI Firmware 3.0 §5.1.2) names the device it is on, though the driver inside knows a whole family.
 */
export function bootRom(dir: string, name: string, deviceId: number): string {
  requireComponent('qemu11');
  const rom = readFileSync(join(componentDir('qemu11'), 'usr/share/qemu', name));
  const pcir = rom.readUInt16LE(PCIR_POINTER);
  if (rom.readUInt16LE(0) !== 0xaa55 || rom.toString('latin1', pcir, pcir + 4) !== 'PCIR') {
    throw new Error(`${name} is no PCI option ROM`);
  }
  const before = rom[pcir + 6]! + rom[pcir + 7]!;
  rom.writeUInt16LE(deviceId, pcir + 6);
  // all bytes add up to 0; the byte at 6 is the one that QEMU's own patch changes as well
  rom[6] = (rom[6]! + before - rom[pcir + 6]! - rom[pcir + 7]!) & 0xff;
  const file = join(dir, `${deviceId.toString(16)}-${name}`);
  writeFileSync(file, rom);
  return file;
}
