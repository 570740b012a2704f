/** Parts of help texts that are made from the code: keys of -s, backends with their options. */
import { emulations } from '../control/nic-spec.js';
import { slotKeys } from '../control/slot-spec.js';
import { netBackends } from '../net-backends/registry.js';

interface Described {
  name: string;
  value: string;
  summary: string;
  default?: string;
  required?: boolean;
}

function lines(items: readonly Described[], indent: string): string[] {
  const terms = items.map((o) => `${o.name}=${o.value}`);
  const width = Math.max(0, ...terms.map((t) => t.length));
  return items.map((o, i) => {
    const fallback = o.default === undefined ? '' : ` (default: ${o.default})`;
    return `${indent}${(terms[i] as string).padEnd(width)}  ${o.summary}${o.required ? ' (required)' : ''}${fallback}`;
  });
}

/** What stands after -s. */
export function slotHelp(): string {
  return [
    'A NIC is slot[:func],emulation,backend[,key=value...], as in bhyve:',
    '  slot       0 to 31, function 0 to 7; bus:slot:func is understood too',
    `  emulation  ${emulations.join(', ')}`,
    '  backend    a device string, see below',
    ...lines(slotKeys, '  '),
    "Every other key is the backend's; backend.KEY=value reaches one that has the name of a key above.",
  ].join('\n');
}

export function backendsHelp(): string {
  const parts = netBackends.map((type) => [
    `  ${type.example.padEnd(12)} ${type.summary}`,
    ...lines(type.options, '    '),
  ]);
  return ['Backends, and their keys:', ...parts.flat()].join('\n');
}
