/**
 * bhyve's -s argument (bhyve(8)): `slot[:func],emulation,backend[,key=value…]`.
 *
 *   2:0,virtio-net,vale0:vm1,socket=vm1.sock,mac=02:00:00:00:00:01,mtu=1500
 *
 * The keys below are the NIC's; every other key=value belongs to the backend, which checks it, and so does
 * `backend.key=value`, for an option that has the name of a NIC's key. A key without a value counts as
 * "true", as in bhyve. `bus:slot:func` is understood as bhyve understands it.
 */
import { NetbeError, usageError } from '../errors.js';
import type { NetBackendType } from '../net-backends/net-backend.js';
import { findBackend } from '../net-backends/registry.js';
import { didYouMean } from './did-you-mean.js';
import type { NicSpec } from './fabric-types.js';
import {
  checkBackend,
  checkEmulation,
  checkMode,
  checkMtu,
  checkName,
  checkSocketPath,
  formatSlot,
  parseMac,
  parseSlot,
  transportFor,
} from './nic-spec.js';

/** For help texts and documentation. */
export interface SlotKey {
  name: string;
  value: string;
  summary: string;
  default?: string;
  required?: boolean;
}

export const slotKeys: readonly SlotKey[] = [
  { name: 'socket', value: 'PATH', summary: 'socket that the hypervisor joins', required: true },
  {
    name: 'transport',
    value: 'vhost-user|vfio-user',
    summary: 'how the hypervisor reaches the device: as a virtio device, or as a whole PCI device (QEMU 10.1)',
    default: 'vhost-user for virtio-net, vfio-user for e1000',
  },
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

export interface SlotSpecOptions {
  /** backends of one's own are in use: what is not known here may be known where the fabric runs */
  ownBackends?: boolean;
}

/** Throws EINVAL with the place in the argument. Paths are left as they are given. */
export function parseSlotSpec(text: string, options: SlotSpecOptions = {}): NicSpec {
  return new SlotReader(text, options.ownBackends ?? false).read();
}

const BACKEND_KEY = /^backend\./;

const strictValues: Record<string, boolean> = { on: true, true: true, off: false, false: false };

class SlotReader {
  readonly #fields: Field[];
  /** undefined: a backend that may be known where the fabric runs */
  #type: NetBackendType | undefined;

  constructor(
    readonly text: string,
    readonly ownBackends: boolean,
  ) {
    this.#fields = splitFields(text);
  }

  read(): NicSpec {
    const [slot, emulation, backend, ...rest] = this.#fields;
    const end: Field = { text: '', off: this.text.length };
    if (!slot?.text) throw this.#refuse(slot ?? end, 'the slot is missing', 'Slots are 0 to 31, for instance 2:0.');
    const numbers = parseSlot(slot.text, (message, off, len) => {
      throw pointAt(this.text, slot.off + off, len < 0 ? slot.text.length : len, message);
    });
    if (!emulation?.text) throw this.#refuse(emulation ?? end, 'the emulation is missing after the slot');
    const model = this.#at(emulation, checkEmulation);
    if (!backend?.text || /^[^:]*=/.test(backend.text))
      throw this.#refuse(backend ?? end, 'the backend is missing after the emulation');
    if (!this.ownBackends) this.#type = this.#at(backend, findBackend);
    const spec: NicSpec = { slot: formatSlot(numbers), emulation: model, backend: backend.text, socket: '' };
    this.#readKeys(spec, rest);
    if (!this.ownBackends) this.#at(backend, (device) => checkBackend(device, spec.backendOptions));
    if (spec.socket === '')
      throw this.#refuse(
        end,
        'socket=PATH is missing: a guest joins the NIC there',
        `For instance: -s ${this.text},socket=vm1.sock`,
      );
    return spec;
  }

  #refuse(field: Field, message: string, remedy?: string): NetbeError {
    return pointAt(this.text, field.off, field.text.length, message, remedy);
  }

  /** Whatever `check` refuses is refused with the place of the field. */
  #at<T>(field: Field, check: (value: string) => T): T {
    try {
      return check(field.text);
    } catch (error) {
      if (error instanceof NetbeError) throw this.#refuse(field, error.message, error.remedy);
      throw error;
    }
  }

  #readKeys(spec: NicSpec, fields: Field[]): void {
    const seen = new Set<string>();
    for (const field of fields) {
      const eq = field.text.indexOf('=');
      const key = eq < 0 ? field.text : field.text.slice(0, eq);
      if (key === '') throw this.#refuse(field, 'a key is missing between two commas');
      if (seen.has(key)) throw this.#refuse(field, `${key} is given twice`, 'Keep one of the two.');
      seen.add(key);
      const own = slotKeys.find((k) => k.name === key);
      if (own && eq < 0 && key !== 'strict-memory')
        throw this.#refuse(field, `${key} has no value`, `Write ${key}=${own.value}.`);
      if (!own) this.#checkBackendKey(field, key.replace(BACKEND_KEY, ''));
      const value = eq < 0 ? { ...field, text: 'true' } : { text: field.text.slice(eq + 1), off: field.off + eq + 1 };
      this.#readKey(spec, key, value);
    }
  }

  #checkBackendKey(field: Field, key: string): void {
    if (!this.#type) return;
    const { prefix, options } = this.#type;
    if (options.some((o) => o.name === key)) return;
    const known = [...slotKeys, ...options].map((k) => k.name);
    const near = didYouMean(key, known);
    throw this.#refuse(
      { text: key, off: field.off },
      `unknown key "${key}"${near === undefined ? '' : `; did you mean ${near}?`}`,
      `Keys of every NIC: ${slotKeys.map((k) => k.name).join(', ')}; of ${prefix}: ${orNone(options)}.`,
    );
  }

  #readKey(spec: NicSpec, key: string, value: Field): void {
    switch (key) {
      case 'socket':
        spec.socket = this.#at(value, checkSocketPath);
        break;
      case 'transport':
        spec.transport = this.#at(value, (text) => transportFor(spec.emulation ?? 'virtio-net', text));
        break;
      case 'mode':
        spec.mode = this.#at(value, checkMode);
        break;
      case 'name':
        spec.name = this.#at(value, checkName);
        break;
      case 'mac':
        this.#at(value, parseMac);
        spec.mac = value.text;
        break;
      case 'mtu':
        spec.mtu = this.#at(value, checkMtu);
        break;
      case 'strict-memory':
        spec.strictMemory = this.#at(value, (v) => {
          const strict = strictValues[v];
          if (strict !== undefined) return strict;
          throw usageError(`strict-memory "${v}" is neither on nor off`, v);
        });
        break;
      default:
        spec.backendOptions = { ...spec.backendOptions, [key.replace(BACKEND_KEY, '')]: value.text };
    }
  }
}

function orNone(options: readonly { name: string }[]): string {
  return options.length === 0 ? 'none' : options.map((o) => o.name).join(', ');
}
