import { spawnSync } from 'node:child_process';

let wrapper: string[] | undefined;

/** The command line that also ends when the process that starts it does, however it ends; where util-linux can do that. */
export function dyingWithParent(...command: [string, ...string[]]): [string, ...string[]] {
  const setpriv = ['setpriv', '--pdeathsig', 'KILL', '--'];
  wrapper ??= spawnSync(setpriv[0]!, [...setpriv.slice(1), 'true']).status === 0 ? setpriv : [];
  return [...wrapper, ...command] as [string, ...string[]];
}
