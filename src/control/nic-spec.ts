/**
 * From what a person asks for (NicSpec) to what a fabric opens (ResolvedNic): every default filled in,
 * every value checked, each refusal with value, rule and remedy. The one place that knows these rules;
 * -s arguments, fabric.yaml and the control API all come through it.
 */
import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { NetbeError, usageError } from '../errors.js';
import { checkOptions, parseDevice } from '../net-backends/options.js';
import { findBackend } from '../net-backends/registry.js';
import { formatMac } from '../wire/ethernet.js';
import type { Emulation, NicSpec, PatchSpec, SocketMode, TransportKind } from './fabric-types.js';

export interface ResolvedNic {
  name: string;
  /** "slot:func" or "bus:slot:func"; null where none was given */
  slot: string | null;
  emulation: Emulation;
  transport: TransportKind;
  backend: string;
  backendOptions: Record<string, string>;
  socket: string;
  mode: SocketMode;
  /** six octets, lower case, two digits each */
  mac: string;
  mtu: number | null;
  strictMemory: boolean;
}

export const emulations = ['virtio-net', 'e1000'] as const satisfies readonly Emulation[];
export const transports = ['vhost-user', 'vfio-user'] as const satisfies readonly TransportKind[];
export const socketModes = ['server', 'client'] as const satisfies readonly SocketMode[];

/** Other names of the device models, by which people will look for them here. */
const otherNames: Readonly<Record<string, Emulation>> = {
  e82545: 'e1000',
  'e1000-82545em': 'e1000',
  'virtio-net-pci': 'virtio-net',
  virtio: 'virtio-net',
};

/** VirtIO 1.2 §5.1.4.1: the mtu of a device is at least 68 */
export const MIN_MTU = 68;
export const MAX_MTU = 65535;

/** bytes of sun_path, without the terminating zero (unix(7)) */
const MAX_SOCKET_PATH = 107;

export const namePattern = /^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/;
export const nameRule = 'letters, digits, ".", "_" and "-", beginning with a letter or digit, at most 63 characters';
export const macPattern = /^[0-9A-Fa-f]{1,2}(?::[0-9A-Fa-f]{1,2}){5}$/;

/** bhyve's ranges (pci_parse_slot): buses 0 to 255, slots 0 to 31, functions 0 to 7 */
export interface SlotNumbers {
  bus: number;
  slot: number;
  func: number;
}

const slotParts = [
  { key: 'bus', what: 'bus', max: 255 },
  { key: 'slot', what: 'slot', max: 31 },
  { key: 'func', what: 'function', max: 7 },
] as const;

/** "slot", "slot:func" or "bus:slot:func"; what is left out is 0. `fail` gets the offset of the bad part. */
export function parseSlot(
  text: string,
  fail = (message: string, _off: number, _len: number): never => {
    throw usageError(message, text, slotRemedy);
  },
): SlotNumbers {
  const out: SlotNumbers = { bus: 0, slot: 0, func: 0 };
  const parts = text.split(':');
  if (parts.length > 3)
    fail(`slot "${text}" has ${parts.length} numbers; it is slot, slot:func or bus:slot:func`, 0, -1);
  const rules = parts.length === 3 ? slotParts : slotParts.slice(1);
  let off = 0;
  parts.forEach((part, i) => {
    const rule = rules[i] as (typeof slotParts)[number];
    const n = Number(part);
    if (!/^\d{1,9}$/.test(part) || n > rule.max)
      fail(`${rule.what} "${part}" is not a number from 0 to ${rule.max}`, off, part.length);
    out[rule.key] = n;
    off += part.length + 1;
  });
  return out;
}

const slotRemedy = 'Write slot, slot:func or bus:slot:func, for instance 2:0.';

/** The shortest form that says it all: "2:0", or "1:2:0" where the bus is not 0. */
export function formatSlot({ bus, slot, func }: SlotNumbers): string {
  return bus === 0 ? `${slot}:${func}` : `${bus}:${slot}:${func}`;
}

/** The six octets of "2:0:0:0:0:1" or "02:00:00:00:00:01". Throws EINVAL for one that no NIC can have. */
export function parseMac(text: string): Uint8Array {
  const remedy = 'Use one of your own, for instance 02:00:00:00:00:01 (02: locally administered, unicast).';
  if (!macPattern.test(text))
    throw usageError(`MAC address "${text}" is not six hexadecimal octets joined by ":"`, text, remedy);
  const mac = Uint8Array.from(text.split(':'), (octet) => Number.parseInt(octet, 16));
  if (((mac[0] as number) & 1) !== 0)
    throw usageError(
      `MAC address "${text}" is a multicast address: the lowest bit of its first octet is set`,
      text,
      remedy,
    );
  if (mac.every((octet) => octet === 0)) throw usageError(`MAC address "${text}" is all zeros`, text, remedy);
  return mac;
}

/** bhyve's default (net_genmac): NetApp's prefix and the first three bytes of MD5("slot-func-name"). */
export function defaultMac(slot: SlotNumbers, name: string): Uint8Array {
  const digest = createHash('md5').update(`${slot.slot}-${slot.func}-${name}`).digest();
  return Uint8Array.of(0x00, 0xa0, 0x98, digest[0] as number, digest[1] as number, digest[2] as number);
}

/** The same for "device,key=value…". */
export function checkDeviceString(text: string): void {
  const { device, options } = parseDevice(text);
  checkOptions(findBackend(device), device, options);
}

/** Throws EINVAL for a device string that none of netbe's backends understands, or options it does not have. */
export function checkBackend(device: string, options: Readonly<Record<string, string>> = {}): void {
  checkOptions(findBackend(device), device, new Map(Object.entries(options)));
}

export function checkEmulation(text: string): Emulation {
  const known = emulations.find((e) => e === text);
  if (known) return known;
  const meant = Object.hasOwn(otherNames, text) ? otherNames[text] : undefined;
  const allowed = `Allowed: ${emulations.join(', ')}.`;
  throw usageError(
    `emulation "${text}" is not known${meant === undefined ? '' : `; here it is ${meant}`}`,
    text,
    allowed,
  );
}

export function checkTransport(text: string): TransportKind {
  const known = transports.find((t) => t === text);
  if (known) return known;
  throw usageError(
    `transport "${text}" is neither vhost-user nor vfio-user`,
    text,
    'vhost-user carries virtio-net to most hypervisors; vfio-user carries a whole PCI device, e1000 among them, to QEMU 10.1 and newer.',
  );
}

/** What carries a device model where nothing is said. Throws EINVAL for a pair that does not go together. */
export function transportFor(emulation: Emulation, transport: string | undefined): TransportKind {
  if (transport === undefined) return emulation === 'e1000' ? 'vfio-user' : 'vhost-user';
  const kind = checkTransport(transport);
  if (emulation === 'e1000' && kind === 'vhost-user')
    throw usageError(
      'transport "vhost-user" carries virtio devices, and e1000 is none',
      transport,
      'Leave transport out, or use transport=vfio-user; or use virtio-net.',
    );
  return kind;
}

export function checkMode(text: string): SocketMode {
  const known = socketModes.find((m) => m === text);
  if (known) return known;
  throw usageError(
    `mode "${text}" is neither server nor client`,
    text,
    'server: netbe listens and the hypervisor connects (the default); client: the other way round.',
  );
}

export function checkMtu(value: number | string): number {
  const mtu = typeof value === 'number' ? value : /^\d{1,9}$/.test(value) ? Number(value) : Number.NaN;
  if (Number.isInteger(mtu) && mtu >= MIN_MTU && mtu <= MAX_MTU) return mtu;
  throw usageError(
    `mtu "${value}" is not a number from ${MIN_MTU} to ${MAX_MTU}`,
    String(value),
    '1500 is the usual one, 9000 a jumbo frame; leave it out to tell the guest nothing.',
  );
}

export function checkName(name: string): string {
  if (namePattern.test(name)) return name;
  throw usageError(`name "${name}" is not allowed`, name, `A name is made of ${nameRule}.`);
}

export function checkSocketPath(path: string): string {
  if (path === '') throw usageError('the socket path is empty', path, 'Give a path, for instance socket=vm1.sock.');
  if (path.includes('\0')) throw usageError('the socket path has a zero byte in it', JSON.stringify(path));
  const length = Buffer.byteLength(path);
  if (length > MAX_SOCKET_PATH)
    throw usageError(
      `socket path of ${length} bytes is longer than the ${MAX_SOCKET_PATH} that Linux allows: ${path}`,
      path,
      'Put the socket in a shorter path, for instance under $XDG_RUNTIME_DIR.',
    );
  return path;
}

/** "vm1" of "run/vm1.sock" */
export function nameOfSocket(path: string): string {
  return basename(path).replace(/\.(sock|socket)$/, '');
}

/** Fills in the defaults. Throws EINVAL, naming the value; says nothing of other NICs (see findDuplicate). */
export function resolveNic(spec: NicSpec, defaults: { strictMemory?: boolean } = {}): ResolvedNic {
  const socket = checkSocketPath(spec.socket);
  const name = spec.name === undefined ? nameFromSocket(socket) : checkName(spec.name);
  const slot = spec.slot === undefined ? null : parseSlot(spec.slot);
  const mac = spec.mac === undefined ? defaultMac(slot ?? { bus: 0, slot: 0, func: 0 }, name) : parseMac(spec.mac);
  if (spec.backend === '')
    throw usageError(`NIC ${name} has no backend`, name, 'Give a device string, for instance vale0:vm1.');
  const emulation = checkEmulation(spec.emulation ?? 'virtio-net');
  return {
    name,
    slot: slot && formatSlot(slot),
    emulation,
    transport: transportFor(emulation, spec.transport),
    backend: spec.backend,
    backendOptions: { ...spec.backendOptions },
    socket,
    mode: checkMode(spec.mode ?? 'server'),
    mac: formatMac(mac),
    mtu: spec.mtu === undefined ? null : checkMtu(spec.mtu),
    strictMemory: spec.strictMemory ?? defaults.strictMemory ?? false,
  };
}

function nameFromSocket(socket: string): string {
  const name = nameOfSocket(socket);
  if (namePattern.test(name)) return name;
  throw usageError(
    `the name that follows from socket ${socket}, "${name}", is not allowed`,
    socket,
    `Give one with name=; it is made of ${nameRule}.`,
  );
}

export const patchNamePattern = /^[A-Za-z0-9][A-Za-z0-9._:+-]{0,126}$/;
export const patchNameRule =
  'letters, digits, ".", "_", ":", "+" and "-", beginning with a letter or digit, at most 127 characters';

/** The device of a patch's end as part of a name: signs of netmap's port names ("{", "^") are none of a name's. */
function nameOfEnd(end: string): string {
  const [device = ''] = end.split(',', 1);
  return device.replaceAll(/[^A-Za-z0-9._:+-]/g, '_');
}

/** Fills in the name; the ends are checked where they are opened, as backends of one's own may be among them. */
export function resolvePatch({ name, a, b }: PatchSpec): Required<PatchSpec> {
  for (const end of [a, b])
    if (end.split(',', 1)[0] === '') throw usageError('an end of the patch has no device', end, patchRemedy);
  if (a === b) throw usageError(`both ends of the patch are ${a}`, a, patchRemedy);
  const resolved = name ?? [a, b].map(nameOfEnd).join('+');
  if (patchNamePattern.test(resolved)) return { name: resolved, a, b };
  throw usageError(`patch name "${resolved}" is not allowed`, resolved, `A name is made of ${patchNameRule}.`);
}

const patchRemedy = 'A patch joins two device strings, for instance vale0:up and stream0,addr=unix:vm4.sock.';

/** What two NICs of one fabric may not share. `key` is the field of NicSpec that carries it. */
export interface Duplicate {
  key: 'name' | 'socket' | 'slot' | 'backend' | 'mac';
  value: string;
  /** index of the earlier NIC in the list */
  first: number;
  second: number;
}

/** The part of a device string that names the network: two NICs on one must differ in MAC address. */
function networkOf(backend: string): string {
  return backend.split(':', 1)[0] as string;
}

function identities(nic: ResolvedNic): [Duplicate['key'], string][] {
  const list: [Duplicate['key'], string][] = [
    ['name', nic.name],
    ['socket', nic.socket],
    ['mac', `${networkOf(nic.backend)} ${nic.mac}`],
  ];
  if (nic.slot !== null) list.push(['slot', nic.slot]);
  // a switch port has one user; other backends (loopback0) may be opened more than once
  if (/^vale/.test(nic.backend)) list.push(['backend', nic.backend]);
  // so has a hook
  const { path, peerhook } = nic.backendOptions;
  if (nic.backend === 'netgraph') list.push(['backend', `netgraph,path=${path},peerhook=${peerhook}`]);
  return list;
}

export function findDuplicate(nics: readonly ResolvedNic[]): Duplicate | undefined {
  const seen = new Map<string, number>();
  for (const [second, nic] of nics.entries()) {
    for (const [key, id] of identities(nic)) {
      const first = seen.get(`${key} ${id}`);
      if (first !== undefined) return { key, value: key === 'mac' ? nic.mac : id, first, second };
      seen.set(`${key} ${id}`, second);
    }
  }
  return undefined;
}

const remedies: Record<Duplicate['key'], string> = {
  name: 'Give each NIC a name of its own (name=).',
  socket: 'Give each NIC a socket of its own: one hypervisor connects to each.',
  slot: 'Give each NIC a slot or function of its own.',
  backend: 'Give each NIC a port of its own: the part after the colon names it.',
  mac: 'Give each NIC on a switch a MAC address of its own, or leave mac out.',
};

/** `where` names each NIC for the person: "-s number 2", "fabric.yaml line 9". */
export function duplicateError(dup: Duplicate, where: (index: number) => string): NetbeError {
  return new NetbeError(`${dup.key} ${dup.value} is given twice: by ${where(dup.first)} and by ${where(dup.second)}`, {
    code: 'EEXIST',
    kind: 'usage',
    subject: dup.value,
    remedy: remedies[dup.key],
  });
}
