/**
 * The fabric file (`netbe up FILE`): YAML 1.2, so JSON too. Every error carries file, line and column,
 * shows the line, and says what is allowed.
 */
import { readFileSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { Ajv2020, type ErrorObject } from 'ajv/dist/2020.js';
import { NetbeError, usageError } from '../errors.js';
import { ConfigText, type Fault } from './config-text.js';
import type { NicSpec, PatchSpec, PollOptions } from './fabric-types.js';
import {
  checkBackend,
  checkDeviceString,
  checkName,
  duplicateError,
  findDuplicate,
  type ResolvedNic,
  resolveNic,
  resolvePatch,
} from './nic-spec.js';
import { DEFAULT_FABRIC_NAME, fabricSchema, type LogFormat, type LogLevel, RULE } from './schema.js';
import { explainSchemaError } from './schema-errors.js';

export interface FabricConfig {
  name: string;
  /** path of the control socket; undefined: the one that follows from the name */
  control: string | undefined;
  log: { level: LogLevel; format: LogFormat };
  poll: PollOptions;
  strictMemory: boolean;
  /** modules with backends of one's own */
  backends: URL[];
  /** commands of ngctl */
  netgraph: string[];
  nics: NicSpec[];
  patches: PatchSpec[];
}

/** The file as it is written, before defaults. */
interface FabricFile {
  name?: string;
  control?: string;
  log?: { level?: LogLevel; format?: LogFormat };
  poll?: PollOptions;
  strictMemory?: boolean;
  backends?: string[];
  netgraph?: string[];
  nics: NicSpec[];
  patches?: PatchSpec[];
}

const MAX_FILE_BYTES = 1024 * 1024;

const ajv = new Ajv2020({ allErrors: true, verbose: true, strict: true, keywords: [RULE] });
const validate = ajv.compile<FabricFile>(fabricSchema);

export function loadConfig(path: string): FabricConfig {
  return parseConfig(readConfigFile(path), path);
}

function readConfigFile(path: string): string {
  try {
    const { size } = statSync(path);
    if (size > MAX_FILE_BYTES)
      throw new NetbeError(`${path} has ${size} bytes; a fabric file has at most ${MAX_FILE_BYTES}`, {
        code: 'EFBIG',
        kind: 'usage',
        subject: path,
      });
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (error instanceof NetbeError) throw error;
    const { code = 'EIO' } = error as NodeJS.ErrnoException;
    throw new NetbeError(`cannot read ${path}: ${code}`, {
      code,
      kind: 'usage',
      subject: path,
      remedy: 'Name a fabric file; `netbe help up` shows what is in one.',
      cause: error,
    });
  }
}

/** `path` is for messages, and for the folder that relative paths start from. */
export function parseConfig(text: string, path: string): FabricConfig {
  const file = new ConfigText(text, path);
  const raw: unknown = file.toJS();
  if (!validate(raw)) throw file.refuse((validate.errors ?? []).map((e) => toFault(e, file)));
  const dir = dirname(resolve(path));
  const nics = raw.nics.map((nic) => ({ ...nic, socket: resolve(dir, nic.socket) }));
  checkNics(nics, raw, file);
  checkPatches(raw, file);
  return {
    name: checkName(raw.name ?? DEFAULT_FABRIC_NAME),
    control: raw.control === undefined ? undefined : resolve(dir, raw.control),
    log: { level: raw.log?.level ?? 'info', format: raw.log?.format ?? 'auto' },
    poll: raw.poll ?? {},
    strictMemory: raw.strictMemory ?? false,
    backends: (raw.backends ?? []).map((module) => pathToFileURL(resolve(dir, module))),
    netgraph: raw.netgraph ?? [],
    nics,
    patches: raw.patches ?? [],
  };
}

function toFault(error: ErrorObject, file: ConfigText): Fault {
  const { path, unknownKey, message } = explainSchemaError(error, 'the file');
  const key = unknownKey === undefined ? undefined : file.placeOfKey(path, unknownKey);
  return { ...(key ?? file.placeOf(path) ?? { off: 0, len: 1 }), message };
}

function checkPatches({ patches = [], backends = [] }: FabricFile, file: ConfigText): void {
  const faults: Fault[] = [];
  const names = new Map<string, number>();
  for (const [i, patch] of patches.entries()) {
    const check = (key: 'a' | 'b' | 'name', run: () => void) => {
      try {
        run();
      } catch (error) {
        if (!(error instanceof NetbeError)) throw error;
        const place = file.placeOf(['patches', i, key]) ?? file.placeOf(['patches', i]) ?? { off: 0, len: 1 };
        faults.push({ ...place, message: error.message, remedy: error.remedy });
      }
    };
    check('name', () => {
      const { name } = resolvePatch(patch);
      const first = names.get(name);
      if (first !== undefined)
        throw usageError(`patch ${name} is given twice: patches[${first}] and patches[${i}]`, name);
      names.set(name, i);
    });
    if (backends.length === 0) for (const key of ['a', 'b'] as const) check(key, () => checkDeviceString(patch[key]));
  }
  if (faults.length > 0) throw file.refuse(faults);
}

/** What no schema says: the rules of nic-spec.ts, and duplicates with both lines. */
function checkNics(nics: NicSpec[], { strictMemory = false, backends = [] }: FabricFile, file: ConfigText): void {
  const resolved: ResolvedNic[] = [];
  const faults: Fault[] = [];
  for (const [i, nic] of nics.entries()) {
    try {
      resolved.push(resolveNic(nic, { strictMemory }));
      // backends of one's own are known only where the fabric runs
      if (backends.length === 0) checkBackend(nic.backend, nic.backendOptions);
    } catch (error) {
      if (!(error instanceof NetbeError)) throw error;
      faults.push({ ...file.placeOfValue(['nics', i], error.subject), message: error.message, remedy: error.remedy });
    }
  }
  if (faults.length > 0) throw file.refuse(faults);
  const dup = findDuplicate(resolved);
  if (!dup) return;
  const place = (i: number) => file.placeOf(['nics', i, dup.key]) ?? file.placeOf(['nics', i]) ?? { off: 0, len: 0 };
  const error = duplicateError(dup, (i) => `line ${file.lineOf(place(i).off)}`);
  throw file.refuse([{ ...place(dup.second), message: error.message, remedy: error.remedy }], error.code);
}
