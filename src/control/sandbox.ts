/**
 * The sandbox of `netbe run` and `netbe up`, in two steps (docs/sandbox.md).
 *
 * Capabilities, no_new_privs and Landlock belong to a thread, and a thread hands them on only to those that
 * it starts. Node has a dozen threads before the first line of a program runs. So the process first takes
 * all that upon its main thread and then becomes itself anew (execve): every thread of the second Node has
 * it. When the fabric is set up, the seccomp filter is put on all threads at once.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { NetbeError, usageError } from '../errors.js';
import {
  capabilitiesOf,
  keepCapabilities,
  limitBoundingSet,
  limitCapabilities,
  setNoNewPrivs,
} from '../sys/capabilities.js';
import { exec } from '../sys/exec.js';
import { type LandlockRule, landlockAbi, restrictSelf } from '../sys/landlock.js';
import { allowedSyscalls, installFilter, seccompMissing, seccompProgram, withoutIoUring } from '../sys/seccomp.js';
import { becomeUser } from '../sys/user.js';
import { loadBackendModule } from './backend-modules.js';
import type { NicSpec, PatchSpec, SandboxInfo, SandboxThread } from './fabric-types.js';
import { controlSocketPath, ensureRuntimeDir } from './runtime-dir.js';
import { checkAdmission, checkBackend } from './sandbox-admission.js';
import { checkReach, planSandbox, type SandboxRequest, type SandboxState, undeclared } from './sandbox-plan.js';

/** Carries what the first process did to the second, which takes it out of its environment at once. */
const MARKER = 'NETBE_SANDBOX';

export interface SandboxOptions extends Omit<SandboxRequest, 'control'> {
  /** name of the fabric */
  name: string;
  /** control socket; undefined: the one that follows from the name */
  control: string | undefined;
}

/**
 * Gives up what the fabric does not need, and starts the program again. Returns only where there can be no
 * sandbox: with what is missing.
 */
export async function enterSandbox(options: SandboxOptions): Promise<string[]> {
  const { user, backends } = options;
  for (const url of backends) await loadBackendModule(url.href);
  const identity = user ? { uid: user.uid, env: {} } : { uid: process.getuid?.() ?? 0, env: process.env };
  const control = options.control ?? controlSocketPath(options.name, identity);
  const makeFolder = (): void => {
    if (options.control === undefined) ensureRuntimeDir(identity);
  };
  const request = { ...options, control };
  const unknown = undeclared(request);
  const why = unknown.map((prefix) => `backend ${prefix} does not say what it needs (NetBackendType.needs)`);
  if (unknown.length > 0 && user === undefined) return why;
  if (unknown.length > 0) throw usageError(`--user ${user?.name} needs the sandbox: ${why.join('; ')}`, user?.name);
  try {
    setNoNewPrivs();
    if (user === undefined) makeFolder();
    confine(request, makeFolder);
  } catch (error) {
    if (error instanceof NetbeError && error.kind === 'usage') throw error;
    throw new NetbeError(`the sandbox cannot be made: ${(error as Error).message}`, {
      code: error instanceof NetbeError ? error.code : 'EIO',
      kind: 'environment',
      remedy: '--no-sandbox runs without it.',
      cause: error,
    });
  }
}

/** Never returns but by throwing. */
function confine(request: SandboxRequest, makeFolder: () => void): never {
  const { user } = request;
  const abi = landlockAbi();
  let env: Record<string, string | undefined> = process.env;
  const plan = planSandbox(request);
  const keep = new Set(plan.capabilities);
  limitBoundingSet(keep);
  if (user) {
    if (keep.size > 0) keepCapabilities();
    becomeUser(user);
    makeFolder();
    checkReach(plan.rules, user);
    env = { ...env, HOME: user.home, USER: user.name, LOGNAME: user.name, XDG_RUNTIME_DIR: undefined };
  }
  // netbe speaks no TLS, and Node would complain that it cannot read them
  env = { ...env, NODE_EXTRA_CA_CERTS: undefined };
  limitCapabilities(keep);
  const missing: string[] = [];
  if (typeof abi === 'number') restrictSelf({ abi, rules: plan.rules, tcp: plan.tcp });
  else missing.push(`Landlock (${abi})`);
  if (seccompMissing() === undefined && !plan.syscalls.includes('io_uring_setup')) installFilter(withoutIoUring());
  const state: SandboxState = { ...plan, abi: typeof abi === 'number' ? abi : null, missing };
  const argv = [process.argv0, ...process.execArgv, ...process.argv.slice(1)];
  return exec(process.execPath, argv, { ...env, [MARKER]: JSON.stringify(state) });
}

/** The sandbox that this process was started in; undefined: none. */
export function resumeSandbox(): FabricSandbox | undefined {
  const text = process.env[MARKER];
  delete process.env[MARKER];
  return text === undefined ? undefined : new Sandbox(JSON.parse(text) as SandboxState);
}

/** What a fabric in the foreground needs of its sandbox, or of there being none. */
export interface FabricSandbox {
  /** To be called when everything is set up. */
  seal(): void;
  /** Throws where a NIC or a patch needs what has been given up, with what to do. */
  admit(spec: NicSpec | PatchSpec): void;
  info(): SandboxInfo;
}

class Sandbox implements FabricSandbox {
  #sealed = false;

  constructor(readonly state: SandboxState) {
    if (state.abi !== null && !landlockHolds()) state.missing.push('Landlock (it was set up, but does not hold)');
  }

  /** Puts the filter on all threads: when everything is set up. Nothing more can be started then. */
  seal(): void {
    const why = seccompMissing();
    if (why !== undefined) {
      this.state.missing.push(`seccomp filters (${why})`);
      return;
    }
    installFilter(seccompProgram(this.state));
    this.#sealed = true;
  }

  admit(spec: NicSpec | PatchSpec): void {
    if ('backend' in spec) checkAdmission(this.state, spec);
    else for (const end of [spec.a, spec.b]) checkBackend(this.state, end);
  }

  info(): SandboxInfo {
    const { abi, rules, tcp, missing } = this.state;
    const threads = threadStates();
    const whole = this.#sealed && threads.every((t) => t.noNewPrivs && t.seccomp);
    return {
      state: whole && missing.length === 0 ? 'on' : 'partial',
      missing,
      user: process.getuid?.() ?? 0,
      landlock: abi === null ? null : { abi, tcp: tcp || abi < 4 ? 'allowed' : 'refused', paths: visible(rules) },
      seccomp: this.#sealed ? { syscalls: allowedSyscalls(this.state).length } : null,
      threads,
    };
  }
}

/** What is missing where nobody wanted a sandbox */
export const ASKED_OFF = '--no-sandbox was given';

/** A process without a sandbox, and why. */
export function noSandbox(missing: readonly string[]): FabricSandbox {
  return {
    seal() {},
    admit() {},
    info: () => ({
      state: 'off',
      missing: [...missing],
      user: process.getuid?.() ?? 0,
      landlock: null,
      seccomp: null,
      threads: threadStates(),
    }),
  };
}

/** Libraries are of no interest to people. */
function visible(rules: readonly LandlockRule[]): LandlockRule[] {
  return rules.filter(({ path, access }) => access !== 'execute' && existsSync(path));
}

/** Nothing that the plan allows lists the root folder: a look at it tells. */
function landlockHolds(): boolean {
  try {
    readdirSync('/');
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EACCES';
  }
}

/** What is in force on each thread of this process, as the kernel says. */
export function threadStates(): SandboxThread[] {
  const states: SandboxThread[] = [];
  for (const tid of readdirSync('/proc/self/task')) {
    let text: string;
    try {
      text = readFileSync(`/proc/self/task/${tid}/status`, 'utf8');
    } catch {
      continue; // it has ended
    }
    const field = (name: string): string => new RegExp(`^${name}:\\s*(.*)$`, 'm').exec(text)?.[1] ?? '';
    states.push({
      tid: Number(tid),
      name: field('Name'),
      noNewPrivs: field('NoNewPrivs') === '1',
      // 2: a filter (linux/seccomp.h)
      seccomp: field('Seccomp') === '2',
      capabilities: capabilitiesOf(field('CapPrm')),
      boundingSet: capabilitiesOf(field('CapBnd')).length,
    });
  }
  return states;
}
