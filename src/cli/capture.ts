/** netbe capture: a NIC's frames as pcapng, to a file or a pipe. */
import { createWriteStream } from 'node:fs';
import type { Readable, Writable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { type Command, InvalidArgumentError } from 'commander';
import type { ControlClient } from '../control/control-client.js';
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
      `Pipe it: netbe capture ${port} -w - | wireshark -k -i -`,
    );
  const client = connect(options);
  const source = await client.capture(port);
  const out = toStdout ? process.stdout : await openFile(options.write, source);
  const say = (text: string) => process.stderr.write(`${text}\n`);
  say(`capturing ${port} to ${toStdout ? 'standard output' : options.write}; Ctrl-C stops`);

  const recording = new Recording(client, port, source, out);
  const stop = () => recording.stop();
  for (const signal of signals) process.once(signal, stop);
  try {
    await recording.run(options.count ?? Number.POSITIVE_INFINITY);
  } finally {
    if (!toStdout) await closeFile(out);
    for (const signal of signals) process.off(signal, stop);
  }
  const { failure, packets, bytes, dropped } = recording;
  // the reader of a pipe that goes away has seen enough
  if (failure && failure.code !== 'EPIPE') throw writeError(options.write, failure);
  const lost = dropped === 0 ? '' : `; ${plural(dropped, 'more frame')} came faster than they were written`;
  say(`${plural(packets, 'frame')}, ${formatBytes(bytes)}${lost}`);
}

const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Whole blocks from the fabric to a file or a pipe, until somebody has had enough. */
class Recording {
  packets = 0;
  bytes = 0;
  /** frames that the fabric had to drop, of all captures of the NIC that ran beside this one */
  dropped = 0;
  /** why `out` takes no more */
  failure: NodeJS.ErrnoException | undefined;
  #stopped = false;

  constructor(
    readonly client: ControlClient,
    readonly port: string,
    readonly source: Readable,
    readonly out: Writable,
  ) {
    out.on('error', (error: NodeJS.ErrnoException) => {
      this.failure = error;
      this.stop();
    });
  }

  async stop(): Promise<void> {
    if (this.#stopped) return;
    this.#stopped = true;
    // the fabric forgets the number with the capture: it is asked for first
    const counters = await this.client.counters().catch(() => undefined);
    this.dropped = counters?.[`${this.port}/capture`]?.capture_dropped ?? 0;
    this.source.destroy();
  }

  async run(maxPackets: number): Promise<void> {
    const blocks = new PcapngBlocks();
    try {
      for await (const chunk of this.source) {
        const { bytes, packets } = blocks.push(chunk as Buffer, maxPackets - this.packets);
        if (bytes.length > 0 && !this.out.write(bytes)) await drained(this.out, () => this.#stopped);
        this.packets += packets;
        this.bytes += bytes.length;
        if (this.packets >= maxPackets) await this.stop();
      }
    } catch (error) {
      // a stream that stop() destroyed fails, too
      if (!this.#stopped) throw gone(this.port, error);
    } finally {
      this.source.destroy();
    }
  }
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
