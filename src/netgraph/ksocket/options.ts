/** Socket options of ksocket nodes: FreeBSD's numbers, as scripts have them, and what they are on Linux. */
import type { SocketOption } from '../../sys/sockopt.js';
import { byteArray, struct } from '../parse/composites.js';
import type { ParseType } from '../parse/parse-type.js';
import { int32 } from '../parse/scalars.js';

const SOL_SOCKET = 0xffff;
const IPPROTO_IP = 0;
const IPPROTO_TCP = 6;

/** level and name of FreeBSD (sys/socket.h, netinet/in.h, netinet/tcp.h), then those of Linux */
const table: readonly [level: number, name: number, linuxLevel: number, linuxName: number, text: string][] = [
  [SOL_SOCKET, 0x0004, 1, 2, 'SO_REUSEADDR'],
  [SOL_SOCKET, 0x0008, 1, 9, 'SO_KEEPALIVE'],
  [SOL_SOCKET, 0x0010, 1, 5, 'SO_DONTROUTE'],
  [SOL_SOCKET, 0x0020, 1, 6, 'SO_BROADCAST'],
  [SOL_SOCKET, 0x0200, 1, 15, 'SO_REUSEPORT'],
  [SOL_SOCKET, 0x1001, 1, 7, 'SO_SNDBUF'],
  [SOL_SOCKET, 0x1002, 1, 8, 'SO_RCVBUF'],
  [SOL_SOCKET, 0x1007, 1, 4, 'SO_ERROR'],
  [SOL_SOCKET, 0x1008, 1, 3, 'SO_TYPE'],
  [IPPROTO_IP, 3, 0, 1, 'IP_TOS'],
  [IPPROTO_IP, 4, 0, 2, 'IP_TTL'],
  [IPPROTO_IP, 10, 0, 33, 'IP_MULTICAST_TTL'],
  [IPPROTO_TCP, 1, 6, 1, 'TCP_NODELAY'],
];

/** The option of Linux; undefined for one that is not known. */
export function linuxOption(level: number, name: number): SocketOption | undefined {
  const row = table.find(([l, n]) => l === level && n === name);
  return row && { level: row[2], option: row[3], name: row[4] };
}

export const knownOptions = table.map(([level, name, , , text]) => `${text} (level ${level}, name ${name})`).join(', ');

/** Bytes of an option that is an int. */
const INT_BYTES = 4;

/** The option's value: in a message that has come, what is left of it; in ASCII as many as are given. */
const optionValue: ParseType<Uint8Array> = {
  ...byteArray(({ bytes }, at) => bytes.length - at),
  parse: (text, out) => {
    const rest = /^\s*\[([^\]]*)\]/.exec(text.text.slice(text.off))?.[1] ?? '';
    const count = rest.split(/\s+/).filter((word) => word !== '').length;
    byteArray(() => Math.max(count, INT_BYTES)).parse(text, out);
  },
  writeDefault: () => true,
};

export const sockoptType = struct({ level: int32, name: int32, value: optionValue });
