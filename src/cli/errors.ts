/** Errors for people: what, with the value; what is allowed; what can be done. A stack only with --debug. */
import { exitStatus, NetbeError } from '../errors.js';

export function printError(error: unknown, debug: boolean): void {
  const lines = error instanceof NetbeError ? describe(error) : describeDefect(error, debug);
  if (debug) lines.push('', stackOf(error));
  process.stderr.write(`${lines.join('\n')}\n`);
}

/** 0 is success; 2 the request is wrong; 3 the machine lacks something; 1 anything else. */
export function statusOf(error: unknown): number {
  return error instanceof NetbeError ? exitStatus(error.kind) : 1;
}

function describe(error: NetbeError): string[] {
  const lines = [`netbe: ${error.message}`];
  if (error.remedy !== undefined) lines.push(`  ${error.remedy}`);
  return lines;
}

function describeDefect(error: unknown, debug: boolean): string[] {
  const what = error instanceof Error ? `${error.name}: ${error.message}` : String(error);
  const hint = debug ? [] : ['  This is a defect of netbe. --debug shows where it happened.'];
  return [`netbe: internal error: ${what}`, ...hint];
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return '';
  const cause = error.cause === undefined ? '' : `\ncaused by: ${stackOf(error.cause)}`;
  return `${error.stack ?? error.message}${cause}`;
}
