/** The process of a Namespace: answers each line of JSON on its standard input with one on its standard output. */
import { createHash } from 'node:crypto';
import { createSocket } from 'node:dgram';
import { connect, createServer } from 'node:net';
import { createInterface } from 'node:readline';

const PORT = 5000;
const ECHO_TRIES = 20;
const ECHO_MS = 250;

interface Request {
  do: 'listen' | 'transfer' | 'echo';
  host: string;
  bytes: number;
  lengths: number[];
}

function contents(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let i = 0; i < length; i++) bytes[i] = (i * 7 + (i >> 8) * 13 + (i >> 16)) & 255;
  return bytes;
}

const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** Answers a TCP stream with its digest, and a datagram with itself. */
async function listen(): Promise<object> {
  const tcp = createServer({ allowHalfOpen: true }, (socket) => {
    const hash = createHash('sha256');
    socket.on('data', (bytes) => hash.update(bytes));
    socket.on('end', () => socket.end(hash.digest('hex')));
    socket.on('error', () => socket.destroy());
  });
  await new Promise<void>((resolve) => tcp.listen(PORT, '::', resolve));
  const udp = createSocket('udp6', (message, from) => udp.send(message, from.port, from.address));
  await new Promise<void>((resolve) => udp.bind(PORT, '::', resolve));
  return {};
}

async function transfer({ host, bytes }: Request): Promise<object> {
  const data = contents(bytes);
  const socket = connect(PORT, host);
  let answer = '';
  socket.setEncoding('latin1').on('data', (text) => {
    answer += text;
  });
  socket.end(data);
  await new Promise((resolve, reject) => socket.on('close', resolve).on('error', reject));
  return { bytes, intact: answer === digest(data) };
}

async function echo({ host, lengths }: Request): Promise<object> {
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4');
  const echoed: number[] = [];
  for (const length of lengths) {
    const data = contents(length);
    for (let tries = 0; tries < ECHO_TRIES; tries++) {
      const heard = new Promise<boolean>((resolve) => {
        const timer = setTimeout(() => resolve(false), ECHO_MS);
        socket.once('message', (message) => {
          clearTimeout(timer);
          resolve(message.equals(data));
        });
      });
      socket.send(data, PORT, host);
      if (!(await heard)) continue;
      echoed.push(length);
      break;
    }
  }
  socket.close();
  return { echoed };
}

const say = (answer: object): void => void process.stdout.write(`${JSON.stringify(answer)}\n`);

say({});
for await (const line of createInterface({ input: process.stdin })) {
  const request = JSON.parse(line) as Request;
  try {
    say(await { listen, transfer, echo }[request.do](request));
  } catch (error) {
    say({ error: String(error) });
  }
}
process.exit(0);
