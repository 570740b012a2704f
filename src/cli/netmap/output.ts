/**
 * Numbers and lines as netmap's own programs print them: scripts read them by column.
 *
 * What those programs say with their D() macro goes to standard error as
 * `SSS.UUUUUU function [N] text`: seconds modulo 1000 with microseconds, and N, a line of their source there, is
 * the process here.
 */

const units = ['', 'K', 'M', 'G', 'T'];

/** "14.881 M", ready for "pps" or "bps" behind it; "14881000 " unless `normalize` */
export function norm(value: number, normalize: boolean): string {
  if (!normalize) return `${value.toFixed(0)} `;
  let scaled = value;
  let i = 0;
  for (; scaled >= 1000 && i < units.length - 1; i++) scaled /= 1000;
  return `${scaled.toFixed(3)} ${units[i]}`;
}

export function debugLine(
  fn: string,
  text: string,
  nowMs: number = performance.timeOrigin + performance.now(),
): string {
  const usec = Math.floor(nowMs * 1000) % 1_000_000_000;
  const seconds = String(Math.floor(usec / 1_000_000)).padStart(3, '0');
  const rest = String(usec % 1_000_000).padStart(6, '0');
  return `${seconds}.${rest} ${fn} [${process.pid}] ${text}`;
}

/** Sixteen bytes a line, in hexadecimal and as characters. `at(i)` is byte `i`. */
export function hexDump(length: number, at: (i: number) => number): string {
  const lines: string[] = [];
  for (let row = 0; row < length; row += 16) {
    let hex = '';
    let text = '';
    for (let i = row; i < Math.min(row + 16, length); i++) {
      const byte = at(i);
      hex += `${byte.toString(16).padStart(2, '0')} `;
      text += byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : '.';
    }
    lines.push(`${String(row).padStart(5)}: ${hex.padEnd(48)}${text}`);
  }
  return lines.join('\n');
}
