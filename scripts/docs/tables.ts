/** Tables of the documentation that are made from the code, as Markdown, by the name that stands in the text. */
import { buildProgram } from '../../src/cli/program.js';
import { describeApi } from '../../src/cli/schema.js';
import { fabricSchema, nicSpecSchema, patchSpecSchema } from '../../src/control/schema.js';
import { slotKeys } from '../../src/control/slot-spec.js';
import { registerMap } from '../../src/frontends/e1000/registers.js';
import type { BackendOption } from '../../src/net-backends/net-backend.js';
import { netBackends } from '../../src/net-backends/registry.js';

function table(head: string[], rows: string[][]): string {
  const line = (cells: string[]) => `| ${cells.map((c) => c.replaceAll('|', '\\|')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

const code = (text: string) => `\`${text}\``;

function optionRows(options: readonly (BackendOption & { default?: string })[]): string[][] {
  return options.map((o) => [code(o.name), code(o.value), o.default ?? (o.required ? 'required' : ''), o.summary]);
}

function backendsTable(): string {
  return table(
    ['device', 'what it is', 'options'],
    netBackends.map((b) => [code(b.example), b.summary, b.options.map((o) => code(o.name)).join(', ') || 'none']),
  );
}

function backendTable(prefix: string): string {
  const backend = netBackends.find((b) => b.prefix === prefix);
  if (!backend) throw new Error(`no backend ${prefix}`);
  return table(['option', 'value', 'default', 'meaning'], optionRows(backend.options));
}

function slotKeysTable(): string {
  return table(['key', 'value', 'default', 'meaning'], optionRows(slotKeys));
}

interface Property {
  type?: string;
  enum?: readonly string[];
  default?: unknown;
  description?: string;
  minimum?: number;
  maximum?: number;
  properties?: Record<string, Property>;
}

function printValue({ type, enum: allowed, minimum, maximum }: Property): string {
  if (allowed) return allowed.map(code).join(', ');
  if (minimum !== undefined) return `${minimum} to ${maximum}`;
  const names: Record<string, string> = { string: 'text', boolean: '`true`, `false`', array: 'list', object: 'map' };
  return names[type ?? ''] ?? type ?? '';
}

function propertyRows(properties: Record<string, Property>, required: readonly string[], prefix = ''): string[][] {
  return Object.entries(properties).flatMap(([name, p]) => {
    if (p.properties) return propertyRows(p.properties, [], `${prefix}${name}.`);
    // a default that is a rule stands at the end of the description
    const [, meaning, rule] = /^(.*?)(?: Default: (.*?)\.?)?$/.exec(p.description ?? '') ?? [];
    const fallback = p.default === undefined ? rule : code(String(p.default));
    return [
      [code(prefix + name), printValue(p), fallback ?? (required.includes(name) ? 'required' : ''), meaning ?? ''],
    ];
  });
}

const keyHead = ['key', 'value', 'default', 'meaning'];

function fabricTable(): string {
  return table(keyHead, propertyRows(fabricSchema.properties as Record<string, Property>, fabricSchema.required));
}

function nicTable(): string {
  return table(keyHead, propertyRows(nicSpecSchema.properties as Record<string, Property>, nicSpecSchema.required));
}

function patchTable(): string {
  return table(keyHead, propertyRows(patchSpecSchema.properties as Record<string, Property>, patchSpecSchema.required));
}

async function apiTable(): Promise<string> {
  const { paths } = (await describeApi()) as { paths: Record<string, Record<string, { summary: string }>> };
  const rows = Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(([method, { summary }]) => [`${method.toUpperCase()} ${path}`, summary]),
  );
  return table(
    ['request', 'what it does'],
    [...rows, ['GET /openapi.json', 'This API, described by OpenAPI 3.1']].map(([request, what]) => [
      code(request as string),
      what as string,
    ]),
  );
}

function commandsTable(): string {
  const rows = buildProgram().commands.flatMap((c) =>
    (c.commands.length > 0 ? c.commands : [c]).map((sub) => {
      const name = sub === c ? c.name() : `${c.name()} ${sub.name()}`;
      const args = sub.registeredArguments.map((a) =>
        a.required ? a.name().toUpperCase() : `[${a.name().toUpperCase()}]`,
      );
      return [code(['netbe', name, ...args].join(' ')), sub.summary()];
    }),
  );
  return table(['command', 'what it does'], rows);
}

/** The registers of the e1000: hexadecimal as its manual writes it, and what a hook does in words. */
function registersTable(): string {
  const hex = (value: number, digits: number) => `${(value >>> 0).toString(16).toUpperCase().padStart(digits, '0')}h`;
  const place = (at: number, count: number, stride: number) =>
    count === 1 ? hex(at, 5) : `${hex(at, 5)} to ${hex(at + (count - 1) * stride, 5)}, step ${stride}`;
  const rows = registerMap.map((r) => {
    const { count = 1, stride = 4 } = r;
    const access = r.onRead === 'clear' || r.onRead === 'clearPair' ? 'cleared when read' : hex(r.writable, 8);
    return [
      code(r.name),
      place(r.offset, count, stride),
      r.alias === undefined ? '' : place(r.alias, count, stride),
      hex(r.reset, 8),
      r.writable === 0 && r.onWrite !== undefined ? 'by its meaning' : r.writable === 0 && !r.onRead ? 'none' : access,
    ];
  });
  return table(['register', 'address', 'also at', 'after reset', 'bits written'], rows);
}

/** The options of a command. */
function toolTable(name: string): string {
  const command = buildProgram().commands.find((c) => c.name() === name);
  if (!command) throw new Error(`no command ${name}`);
  return table(
    ['option', 'what it does'],
    command.options.map(({ flags, description }) => [code(flags), description]),
  );
}

/** The table that `<!-- table: NAME -->` stands for. */
export async function makeTable(name: string): Promise<string> {
  const [kind, argument = ''] = name.split(' ');
  switch (kind) {
    case 'backends':
      return backendsTable();
    case 'backend':
      return backendTable(argument);
    case 'slot-keys':
      return slotKeysTable();
    case 'fabric':
      return fabricTable();
    case 'nic':
      return nicTable();
    case 'patch':
      return patchTable();
    case 'api':
      return apiTable();
    case 'registers':
      return registersTable();
    case 'tool':
      return toolTable(argument);
    case 'commands':
      return commandsTable();
    default:
      throw new Error(`no table ${name}`);
  }
}

const marked = /<!-- table: ([a-z -]+) -->\n[\s\S]*?<!-- end of table -->/g;

/** The text with every marked table made anew. */
export async function withTables(text: string): Promise<string> {
  let out = text;
  for (const [whole, name] of text.matchAll(marked))
    out = out.replace(whole, () => `<!-- table: ${name} -->\n@@${name}@@\n<!-- end of table -->`);
  for (const [whole, name] of out.matchAll(/@@([a-z -]+)@@/g)) {
    const made = await makeTable(name as string);
    out = out.replace(whole, () => `\n${made}\n`);
  }
  return out;
}
