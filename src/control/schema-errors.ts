/** The errors of a schema validator in words: which value, what is allowed, and the word that was perhaps meant. */
import type { ErrorObject } from 'ajv/dist/2020.js';
import { didYouMean } from './did-you-mean.js';
import { RULE } from './schema.js';

/** keys and indices from the root to a value: ["nics", 0, "mac"] */
export type ValuePath = (string | number)[];

export interface SchemaFault {
  path: ValuePath;
  /** the key itself is meant, not a value */
  unknownKey?: string;
  message: string;
}

/** "/nics/0/mac" of ajv as a path: ["nics", 0, "mac"] */
function pathOf(pointer: string): ValuePath {
  return pointer
    .split('/')
    .slice(1)
    .map((part) => part.replaceAll('~1', '/').replaceAll('~0', '~'))
    .map((part) => (/^\d+$/.test(part) ? Number(part) : part));
}

/** ["nics", 0, "mac"] as people write it: "nics[0].mac" */
function printPath(path: ValuePath): string {
  return path.reduce<string>((text, part) => {
    if (typeof part === 'number') return `${text}[${part}]`;
    return text === '' ? part : `${text}.${part}`;
  }, '');
}

/** "a, b or c" */
function orList(words: readonly string[]): string {
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
}

function printValue(value: unknown): string {
  const text = JSON.stringify(value) ?? 'nothing';
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}

const typeNames: Record<string, string> = {
  string: 'text',
  integer: 'a whole number',
  boolean: 'true or false',
  object: 'a map of keys and values',
  array: 'a list',
};

/** One of ajv's errors in words; ajv must run with `verbose`. `root` is how the whole document is called. */
export function explainSchemaError(error: ErrorObject, root: string): SchemaFault {
  const path = pathOf(error.instancePath);
  const what = path.length === 0 ? root : printPath(path);
  const schema = (error.parentSchema ?? {}) as Record<string, unknown>;
  const { params } = error;
  switch (error.keyword) {
    case 'additionalProperties': {
      const key = String(params.additionalProperty);
      const known = Object.keys((schema.properties ?? {}) as object);
      const near = didYouMean(key, known);
      const hint = near === undefined ? `known keys: ${known.join(', ')}` : `did you mean ${near}?`;
      const inside = path.length === 0 ? '' : ` in ${what}`;
      return { path, unknownKey: key, message: `unknown key "${key}"${inside}; ${hint}` };
    }
    case 'required':
      return { path, message: `${what} has no "${params.missingProperty}", which is required` };
    case 'enum': {
      const allowed = (params.allowedValues as string[]).map(String);
      const near = didYouMean(String(error.data), allowed);
      const hint = near === undefined || allowed.length === 1 ? '' : `; did you mean ${near}?`;
      return { path, message: `${what} ${printValue(error.data)} is not ${orList(allowed)}${hint}` };
    }
    case 'type':
      return { path, message: typeMessage(what, error, schema) };
    case 'minimum':
    case 'maximum': {
      const range = `from ${schema.minimum} to ${schema.maximum}`;
      return { path, message: `${what} ${printValue(error.data)} is not a number ${range}` };
    }
    default: {
      const rule = schema[RULE];
      const why = rule === undefined ? error.message : `is not ${rule}`;
      return { path, message: `${what} ${printValue(error.data)} ${why}` };
    }
  }
}

function typeMessage(what: string, error: ErrorObject, schema: Record<string, unknown>): string {
  const type = String(schema.type);
  const allowed = Array.isArray(schema.enum) ? orList(schema.enum.map(String)) : (typeNames[type] ?? type);
  const quote = type === 'string' && typeof error.data !== 'object' ? '; put it in quotes' : '';
  return `${what} ${printValue(error.data)} is not ${allowed}${quote}`;
}
