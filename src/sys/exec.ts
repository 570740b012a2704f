/** execve(2): this process becomes another program, with the same number, terminal and open standard files. */
import { fcntl } from './fd.js';
import { libc, sysError } from './libc.js';
import { NativeBuffer } from './native-buffer.js';

const execveC = libc.func('int execve(const char *path, uint64_t argv, uint64_t envp)') as (
  path: string,
  argv: number,
  envp: number,
) => number;

/** C's char *[]: the strings, and their addresses with a zero after the last. */
function stringVector(texts: readonly string[]): { pointers: NativeBuffer; bytes: NativeBuffer } {
  const encoded = texts.map((text) => Buffer.from(`${text}\0`));
  const bytes = new NativeBuffer(encoded.reduce((sum, { length }) => sum + length, 0));
  const pointers = new NativeBuffer(8 * (texts.length + 1));
  let at = 0;
  encoded.forEach((text, i) => {
    bytes.u8.set(text, at);
    pointers.setU64(8 * i, bytes.addr + at);
    at += text.length;
  });
  return { pointers, bytes };
}

// linux/fcntl.h
const F_SETFD = 2;

/** Does not return but by throwing. Of the open descriptors, the three standard ones go along. */
export function exec(path: string, argv: readonly string[], env: Readonly<Record<string, string | undefined>>): never {
  const variables = Object.entries(env).flatMap(([name, value]) => (value === undefined ? [] : [`${name}=${value}`]));
  const args = stringVector(argv);
  const environment = stringVector(variables);
  // Node makes all descriptors that it finds close-on-exec
  for (const fd of [0, 1, 2]) fcntl(fd, F_SETFD, 0);
  execveC(path, args.pointers.addr, environment.pointers.addr);
  throw sysError('execve', path);
}
