/** Device strings as bhyve has them: "device[,key=value]...", and the check of options against a backend's list. */
import { usageError } from '../errors.js';
import type { BackendOption, NetBackendType } from './net-backend.js';

/** Splits "vale0:vm1,ring=2048" in the device and its options. Throws for an option without value or given twice. */
export function parseDevice(text: string): { device: string; options: Map<string, string> } {
  const [device = '', ...rest] = text.split(',');
  if (device === '') throw usageError('the backend is missing: a device name was expected', text);
  const options = new Map<string, string>();
  for (const item of rest) {
    const at = item.indexOf('=');
    if (at <= 0 || at === item.length - 1)
      throw usageError(`option "${item}" of ${device} is not of the form key=value`, item);
    const key = item.slice(0, at);
    if (options.has(key)) throw usageError(`option ${key} of ${device} is given twice`, item);
    options.set(key, item.slice(at + 1));
  }
  return { device, options };
}

/** Throws for an option that the backend does not have, or for one that it must have and has not been given. */
export function checkOptions(type: NetBackendType, device: string, options: ReadonlyMap<string, string>): void {
  const known = type.options.map((o) => o.name);
  for (const [key, value] of options)
    if (!known.includes(key))
      throw usageError(
        `${device} has no option "${key}" (given: ${key}=${value})`,
        `${key}=${value}`,
        known.length > 0 ? `Options of ${type.prefix}: ${known.join(', ')}.` : `${type.prefix} takes no options.`,
      );
  for (const option of type.options)
    if (option.required && !options.has(option.name))
      throw usageError(
        option.missing ?? `${option.name} must be provided`,
        device,
        `Add ${option.name}=${option.value} to ${device}.`,
      );
}

/** An integer option within bounds, or its default. */
export function integerOption(
  option: BackendOption,
  options: ReadonlyMap<string, string>,
  min: number,
  max: number,
): number {
  const text = options.get(option.name) ?? option.default ?? '';
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < min || value > max)
    throw usageError(`${option.name}=${text} is out of range: allowed are ${min} to ${max}`, `${option.name}=${text}`);
  return value;
}

/** One of the words (T) that the option's `value` lists, separated by bars; or its default. */
export function choiceOption<T extends string = string>(
  option: BackendOption,
  options: ReadonlyMap<string, string>,
): T {
  const text = options.get(option.name) ?? option.default ?? '';
  const allowed = option.value.split('|');
  if (!allowed.includes(text))
    throw usageError(`${option.name}=${text}: allowed are ${allowed.join(' and ')}`, `${option.name}=${text}`);
  return text as T;
}
