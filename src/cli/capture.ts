/** netbe capture: a NIC's frames as pcapng, to a file or a pipe. */
import { createWriteStream } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { type Command, InvalidArgumentError } from 'commander';
import { PcapngBlocks } from '../control/pcapng-blocks.js';
import { NetbeError, usageError } from '../errors.js';
import { clientCommand, connect, type FabricChoice } from './command.js';
import { formatBytes, plural } from './format.js';

interface CaptureOptions extends FabricChoice {
  write: string;
  count?: number;
}

export function captureCommand(): Command {
  return clientCommand('capture', 'write what crosses a NIC as pcapng, both ways')
    .argument('<port>', 'name of the NIC')
    .requiredOption('-w, --write <file>', 'where to; - is standard output')
    .option('-c, --count <n>', 'stop after so many frames', parseCount)
    .addHelpText(
      'after',
      '\nCtrl-C stops, and the file is whole.\n\nExamples:\n  netbe capture vm1 -w vm1.pcapng -c 100\n  netbe capture vm1 -w - | wireshark -k -i -\n  netbe capture vm1 -w - | tcpdump -n -r -\n',
    )
    .action(capture);
}

function parseCount(text: string): number {
  const n = Number(text);
  if (!/^\d+$/.test(text) || n < 1 || n > Number.MAX_SAFE_INTEGER)
    throw new InvalidArgumentError('Give a number of frames, 1 or more.');
  return n;
}

async function capture(port: string, options: CaptureOptions): Promise<void> {
  const toStdout = options.write === '-';
  if (toStdout && process.stdout.isTTY)
    throw usageError(
      '-w - would write pcapng to the terminal',
      '-',
      'Pipe it: netbe capture vm1 -w - | wireshark -k -i -',
    );
  const source = await connect(options).capture(port);
  const out = toStdout ? process.stdout : await openFile(options.write, source);
  const say = (text: string) => process.stderr.write(`${text}\n`);
  say(`capturing ${port} to ${toStdout ? 'standard output' : options.write}; Ctrl-C stops`);

  let stopped = false;
  const stop = () => {
    stopped = true;
    source.destroy();
  };
  process.once('SIGINT', stop).once('SIGTERM', stop).once('SIGHUP', stop);
  let failure: NodeJS.ErrnoException | undefined;
  out.on('error', (error: NodeJS.ErrnoException) => {
    failure = error;
    stop();
  });

  const written = { packets: 0, bytes: 0 };
  try {
    const blocks = new PcapngBlocks();
    const wanted = options.count ?? Number.POSITIVE_INFINITY;
    for await (const chunk of source) {
      const { bytes, packets } = blocks.push(chunk as Buffer, wanted - written.packets);
      if (bytes.length > 0 && !out.write(bytes)) await drained(out, () => stopped);
      written.packets += packets;
      written.bytes += bytes.length;
      if (stopped || written.packets >= wanted) break;
    }
  } catch (error) {
    if (!stopped) throw gone(port, error);
  } finally {
    source.destroy();
    if (!toStdout) await closeFile(out);
    process.off('SIGINT', stop).off('SIGTERM', stop).off('SIGHUP', stop);
  }
  // the reader of a pipe that goes away has seen enough
  if (failure && failure.code !== 'EPIPE') throw writeError(options.write, failure);
  say(`${plural(written.packets, 'frame')}, ${formatBytes(written.bytes)}`);
}

/** Ends the capture where the file cannot be written. */
function openFile(path: string, source: Readable): Promise<Writable> {
  return new Promise((resolve, reject) => {
    const file = createWriteStream(path);
    file.once('open', () => resolve(file));
    file.once('error', (error) => {
      source.destroy();
      reject(writeError(path, error));
    });
  });
}

async function closeFile(file: Writable): Promise<void> {
  file.end();
  await finished(file).catch(() => undefined);
}

function drained(out: Writable, stopped: () => boolean): Promise<void> {
  if (stopped() || out.destroyed) return Promise.resolve();
  return new Promise((resolve) => {
    const done = () => {
      out.off('drain', done).off('error', done).off('close', done);
      process.off('SIGINT', done).off('SIGTERM', done);
      resolve();
    };
    out.on('drain', done).on('error', done).on('close', done);
    process.on('SIGINT', done).on('SIGTERM', done);
  });
}

function writeError(path: string, cause: NodeJS.ErrnoException): NetbeError {
  const { code = 'EIO' } = cause;
  const kind = code === 'ENOSPC' ? 'environment' : 'usage';
  return new NetbeError(`cannot write ${path}: ${code}`, { code, kind, subject: path, cause });
}

function gone(port: string, cause: unknown): NetbeError {
  if (cause instanceof NetbeError) return cause;
  return new NetbeError(`the capture of ${port} ended: the fabric has gone`, {
    code: 'ECONNRESET',
    subject: port,
    cause,
  });
}
