/**
 * bhyve's -s argument (bhyve(8)): `slot[:func],emulation,backend[,key=value…]`.
 *
 *   2:0,virtio-net,vale0:vm1,socket=vm1.sock,mac=02:00:00:00:00:01,mtu=1500
 *
 * The keys below are the NIC's; every other key=value belongs to the backend, which checks it. A key
 * without a value counts as "true", as in bhyve. `bus:slot:func` is understood as bhyve understands it.
 */
import { NetbeError } from '../errors.js';
import type { NicSpec } from './fabric-types.js';
import {
  checkEmulation,
  checkMode,
  checkMtu,
  checkName,
  checkSocketPath,
  formatSlot,
  parseMac,
  parseSlot,
} from './nic-spec.js';

/** For help texts and documentation. */
export interface SlotKey {
  name: string;
  value: string;
  summary: string;
  default?: string;
}

export const slotKeys: readonly SlotKey[] = [
  { name: 'socket', value: 'PATH', summary: 'vhost-user socket that the hypervisor joins (required)' },
  {
    name: 'mode',
    value: 'server|client',
    summary: 'who listens on the socket: netbe or the hypervisor',
    default: 'server',
  },
  { name: 'name', value: 'NAME', summary: 'name of the NIC', default: "the socket's file name without .sock" },
  { name: 'mac', value: 'MAC', summary: 'MAC address of the guest', default: '00:a0:98 and MD5("slot-func-name")' },
  { name: 'mtu', value: '68-65535', summary: 'MTU told to the guest', default: 'not told' },
  {
    name: 'strict-memory',
    value: 'on|off',
    summary: 'refuse guest memory that could be shrunk under us',
    default: 'off',
  },
];

export const slotExample = '2:0,virtio-net,vale0:vm1,socket=vm1.sock';

interface Field {
  text: string;
  /** offset in the whole argument */
  off: number;
}

function splitFields(text: string): Field[] {
  let off = 0;
  return text.split(',').map((part) => {
    const field = { text: part, off };
    off += part.length + 1;
    return field;
  });
}

/** Puts the argument below the message, with the part that is meant underlined. */
function pointAt(text: string, off: number, len: number, message: string, remedy?: string): NetbeError {
  const mark = `${' '.repeat(off)}^${'~'.repeat(Math.max(0, len - 1))}`;
  return new NetbeError(`${message}\n  -s ${text}\n     ${mark}`, {
    code: 'EINVAL',
    kind: 'usage',
    subject: text,
    remedy: remedy ?? `An argument looks like this: -s ${slotExample}`,
  });
}

const strictValues: Record<string, boolean> = { on: true, true: true, off: false, false: false };

/** Throws EINVAL with the place in the argument. Paths are left as they are given. */
export function parseSlotSpec(text: string): NicSpec {
  const [slot, emulation, backend, ...rest] = splitFields(text);
  const end = text.length;
  const at = <T>(field: Field, read: (value: string) => T): T => {
    try {
      return read(field.text);
    } catch (error) {
      if (error instanceof NetbeError) throw pointAt(text, field.off, field.text.length, error.message, error.remedy);
      throw error;
    }
  };

  if (!slot?.text)
    throw pointAt(text, 0, slot?.text.length ?? 0, 'the slot is missing', 'Slots are 0 to 31, for instance 2:0.');
  const numbers = parseSlot(slot.text, (message, off, len) => {
    throw pointAt(text, slot.off + off, len < 0 ? slot.text.length : len, message);
  });
  if (!emulation?.text) throw pointAt(text, emulation?.off ?? end, 0, 'the emulation is missing after the slot');
  const spec: NicSpec = {
    slot: formatSlot(numbers),
    emulation: at(emulation, checkEmulation),
    backend: '',
    socket: '',
  };
  if (!backend?.text || /^[^:]*=/.test(backend.text))
    throw pointAt(text, backend?.off ?? end, backend?.text.length ?? 0, 'the backend is missing after the emulation');
  spec.backend = backend.text;
  readKeys(spec, rest, text, at);
  if (spec.socket === '')
    throw pointAt(
      text,
      end,
      0,
      'socket=PATH is missing: a guest joins the NIC there',
      `For instance: -s ${text},socket=vm1.sock`,
    );
  return spec;
}

function readKeys(
  spec: NicSpec,
  fields: Field[],
  text: string,
  at: <T>(field: Field, read: (value: string) => T) => T,
): void {
  const seen = new Set<string>();
  for (const field of fields) {
    const eq = field.text.indexOf('=');
    const key = eq < 0 ? field.text : field.text.slice(0, eq);
    const value: Field =
      eq < 0 ? { text: 'true', off: field.off } : { text: field.text.slice(eq + 1), off: field.off + eq + 1 };
    if (key === '') throw pointAt(text, field.off, field.text.length, 'a key is missing between two commas');
    if (seen.has(key))
      throw pointAt(text, field.off, field.text.length, `${key} is given twice`, 'Keep one of the two.');
    seen.add(key);
    if (eq < 0 && slotKeys.some((k) => k.name === key) && key !== 'strict-memory')
      throw pointAt(text, field.off, field.text.length, `${key} has no value`, `Write ${key}=${keyValue(key)}.`);
    readKey(spec, key, value, at);
  }
}

function keyValue(key: string): string {
  return slotKeys.find((k) => k.name === key)?.value ?? 'VALUE';
}

function readKey(
  spec: NicSpec,
  key: string,
  value: Field,
  at: <T>(field: Field, read: (value: string) => T) => T,
): void {
  switch (key) {
    case 'socket':
      spec.socket = at(value, checkSocketPath);
      break;
    case 'mode':
      spec.mode = at(value, checkMode);
      break;
    case 'name':
      spec.name = at(value, checkName);
      break;
    case 'mac':
      at(value, parseMac);
      spec.mac = value.text;
      break;
    case 'mtu':
      spec.mtu = at(value, checkMtu);
      break;
    case 'strict-memory':
      spec.strictMemory = at(value, (v) => {
        const strict = strictValues[v];
        if (strict !== undefined) return strict;
        throw new NetbeError(`strict-memory "${v}" is neither on nor off`, { code: 'EINVAL', kind: 'usage' });
      });
      break;
    default:
      spec.backendOptions = { ...spec.backendOptions, [key]: value.text };
  }
}
