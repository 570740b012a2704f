/** netbe pkt-gen: netmap's traffic generator and sink. */
import { cpus } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import { NetbeError, usageError } from '../../errors.js';
import { NR_REG_NIC_SW, NR_REG_ONE_NIC, NR_REG_ONE_SW, NR_REG_SW } from '../../netmap/abi-register.js';
import { type NetmapPortName, parsePortName } from '../../netmap/port-name.js';
import { interfaceNames, type NetdevInfo, netdevInfo } from '../../sys/netdev.js';
import { formatMac } from '../../wire/ethernet.js';
import { type FabricChoice, portSocket, withFabricChoice } from '../command.js';
import { debugLine } from './output.js';
import { makeCounterBuffer, nowMs, threadCounters } from './pkt-gen-counters.js';
import {
  isReceiver,
  isSender,
  OPT_PPS_STATS,
  type PktGenArgs,
  type PktGenOptions,
  parsePktGen,
  specialOptions,
} from './pkt-gen-options.js';
import { PktGenReport } from './pkt-gen-report.js';
import type { PktGenPortInfo, PktGenStart } from './pkt-gen-run.js';
import { ToolHost } from './tool-host.js';

const collect = (value: string, before: string[] = []): string[] => [...before, value];
const increase = (_: string, before = 0): number => before + 1;

export function pktGenCommand(): Command {
  const command = new Command('pkt-gen')
    .summary('send, receive and measure frames on a netmap port')
    .description("netmap's pkt-gen: sends, receives, pings or answers on a port, and reports rates.")
    .helpOption('-h, --help', 'show this')
    .option('-i, --interface <port>', 'the port, as nm_open reads it: vale0:a, netmap:p{1, netmap:eth0')
    .option('-f, --function <name>', 'tx, rx, ping, pong, txseq or rxseq (default: rx)')
    .option('-n, --count <n>', 'frames to send or receive, 0 for no end (default: 0)')
    .option(
      '-l, --length <bytes>',
      'frame size without CRC (default: 60); given twice: random, the second the least',
      collect,
    )
    .option('-b, --burst <n>', 'frames at a time (default: 512, ping and pong 1)')
    .option('-4, --ipv4', 'IPv4 (default)')
    .option('-6, --ipv6', 'IPv6')
    .option('-d, --dst <range>', 'destination: ADDRESS[:PORT[-ADDRESS:PORT]] (default: 10.1.0.1, fd00:1::1)')
    .option('-s, --src <range>', 'source, likewise (default: 10.0.0.1, fd00::1)')
    .option('-D, --dst-mac <mac>', 'destination MAC address (default: ff:ff:ff:ff:ff:ff)')
    .option('-S, --src-mac <mac>', "source MAC address (default: the interface's, else zeros)")
    .option('-a, --affinity <cpu>', 'pin the first thread to this processor, others to the next')
    .option('-c, --cpus <n>', 'processors to use, 0 for all (default: 1)')
    .option('-p, --threads <n>', 'threads, one a ring (default: one for all rings)')
    .option('-T, --report-ms <ms>', 'milliseconds between reports (default: 1000)')
    .option('-w, --wait-link <s>', 'seconds to wait before the start (default: 2, for VALE ports 0)')
    .option('-R, --rate <pps>', 'frames a second to send, 0 for as many as possible (default: 0)')
    .option('-X, --dump', 'print each frame')
    .option('-H, --vnet-hdr <len>', 'virtio-net header before each frame: 0, 10 or 12 (default: as the port has it)')
    .option('-P, --packet-file <file>', 'send the first packet of a pcap or pcapng file')
    .option('-z, --random-src', 'random source addresses and ports')
    .option('-Z, --random-dst', 'random destination addresses and ports')
    .option('-N, --no-normalize', 'plain numbers, no K, M and G')
    .option('-F, --frags <n>', 'slots a frame, 1 to 63 (default: 1)')
    .option('-M, --frag-size <bytes>', 'most bytes in a slot (default: a buffer)')
    .option('-I, --indirect', 'send from memory outside the buffers (NS_INDIRECT)')
    .option('-W, --no-wait', 'receivers end after a second of silence')
    .option('-v, --verbose', 'say more', increase)
    .option('-r, --rubbish', 'send what the buffers contain')
    .option('-A, --average', 'average and deviation of the rate, and at the end a histogram')
    .option('-B, --framing', 'count preamble, gap and CRC in rates of bits')
    .option('-C, --config <sizes>', 'tx_slots[,rx_slots[,tx_rings[,rx_rings]]] of a port made by opening it')
    .option('-o, --options <bits>', "pkt-gen's option bits, as a number");
  return withFabricChoice(command)
    .addHelpText(
      'after',
      '\nExamples:\n  netbe pkt-gen -i vale0:r -f rx\n  netbe pkt-gen -i vale0:s -f tx -l 60 -n 100000000\n  netbe pkt-gen -i vale0:p -f ping -R 1000\n',
    )
    .action(async (raw: RawOptions) => {
      process.exitCode = await runPktGen(raw);
    });
}

type RawOptions = Omit<PktGenArgs, 'noWait'> & FabricChoice & { wait?: boolean };

function say(text: string, fn = 'main'): void {
  process.stderr.write(`${debugLine(fn, text)}\n`);
}

async function runPktGen({ wait, ...args }: RawOptions): Promise<number> {
  const options = parsePktGen({ ...args, noWait: wait === false });
  say(`interface is ${options.interface}`);
  if (args.burst === undefined) say(`using default burst size: ${options.burst}`);
  say(`running on ${options.cpus} cpus (have ${cpus().length})`);
  const text = withPrefix(options.interface);
  const name = parsePortName(text);
  checkMtu(options, name);
  const srcMac = options.srcMac ?? interfaceMac(name);
  const counters = makeCounterBuffer(options.threads);
  const starts = Array.from(
    { length: options.threads },
    (_, i): PktGenStart => ({
      options,
      port: options.threads === 1 ? text : ringName(name, i),
      srcMac,
    }),
  );
  const socket = portSocket(args);
  const host = new ToolHost({ tool: 'pkt-gen', socket, options: starts, counters });
  const infos = (await host.open()) as PktGenPortInfo[];
  announce(options, infos, srcMac, host.ownFabric, socket);
  await waitForLink(host, options.waitLinkSec);
  return report(host, options, counters);
}

async function waitForLink(host: ToolHost, seconds: number): Promise<void> {
  say(`Wait ${seconds} secs for phy reset`, 'start_threads');
  for (const until = nowMs() + seconds * 1000; nowMs() < until && !host.cancelled; )
    await sleep(Math.min(100, Math.max(0, until - nowMs())));
  say('Ready...', 'start_threads');
}

async function report(host: ToolHost, options: PktGenOptions, counters: SharedArrayBuffer): Promise<number> {
  const threads = Array.from({ length: options.threads }, (_, i) => threadCounters(counters, i));
  const reportOptions = {
    normalize: options.normalize,
    framingBits: options.framingBits,
    average: (options.options & OPT_PPS_STATS) !== 0,
  };
  const reports = new PktGenReport(reportOptions, threads, nowMs());
  host.go();
  const ended = host.end();
  const stop = new AbortController();
  ended.finally(() => stop.abort()).catch(() => {});
  while (!host.done) {
    await sleep(options.reportMs, undefined, { signal: stop.signal }).catch(() => {});
    const line = reports.interval(nowMs());
    if (line !== undefined) say(line, 'main_thread');
  }
  await ended;
  if (reports.failed > 0 && !host.cancelled) say(`ouch, ${reports.failed} threads exited with error`, 'main_thread');
  const verb = isSender(options.function) ? 'Sent' : isReceiver(options.function) ? 'Received' : undefined;
  if (verb !== undefined) process.stdout.write(`${reports.final(verb)}\n`);
  return reports.failed > 0 && !host.cancelled ? 1 : 0;
}

function announce(
  options: PktGenOptions,
  infos: readonly PktGenPortInfo[],
  srcMac: readonly number[],
  ownFabric: boolean,
  socket: string,
): void {
  if (ownFabric) say(`no fabric is running: made one of its own, which others join at ${socket}`);
  const sends = isSender(options.function);
  const queues = infos.reduce((sum, info) => sum + (sends ? info.txRings : info.rxRings), 0);
  const [first] = infos;
  if (first !== undefined && first.vnetHdrLen > 0)
    say(`Port requires virtio-net header, length = ${first.vnetHdrLen}`, 'get_vnet_hdr_len');
  if (options.verbose > 0 && first !== undefined) {
    say(`ntxqs ${first.txRings} nrxqs ${first.rxRings} memid ${first.memId}`);
    for (const [kind, slots] of Object.entries(first.ringSlots))
      slots.forEach((n, i) => {
        say(`   ${kind.toUpperCase()}${i} slots ${n}`);
      });
  }
  const doing = sends ? 'Sending on' : isReceiver(options.function) ? 'Receiving from' : 'Working on';
  process.stdout.write(
    `${doing} ${withPrefix(options.interface)}: ${queues} queues, ${options.threads} threads and ${options.cpus} cpus.\n`,
  );
  if (sends)
    process.stdout.write(
      `${options.src.text} -> ${options.dst.text} (${formatMac(Uint8Array.from(srcMac))} -> ${formatMac(Uint8Array.from(options.dstMac))})\n`,
    );
  if (options.options !== 0) say(`--- SPECIAL OPTIONS:${specialOptions(options.options)}`);
  if (sends) {
    const seconds = Math.floor(options.periodNs / 1e9);
    const rest = String(options.periodNs - seconds * 1e9).padStart(9, '0');
    say(`Sending ${options.burst} packets every  ${seconds}.${rest} s`);
  }
}

/** What is neither a netmap name nor a VALE port is an interface. */
function withPrefix(text: string): string {
  return /^(?:netmap:|vale)/.test(text) ? text : `netmap:${text}`;
}

/** The name with ring `i` in place of all rings. */
function ringName(name: NetmapPortName, i: number): string {
  const { text, at } = name;
  if (name.mode === NR_REG_ONE_NIC || name.mode === NR_REG_ONE_SW)
    throw usageError(`${text} is one ring, which one thread has`, text, 'Leave out the ring, or -p.');
  const rest = Math.min(at.flags ?? text.length, at.memId ?? text.length, at.options ?? text.length);
  const base = text.slice(0, at.mode ?? rest);
  if (name.mode === NR_REG_NIC_SW)
    throw usageError(`${text} has the host's rings beside the interface's`, text, 'With -p leave out the asterisk.');
  return `${base}${name.mode === NR_REG_SW ? '^' : '-'}${i}${text.slice(rest)}`;
}

/** Undefined for what is no interface of the host. */
function interfaceOf(name: NetmapPortName): NetdevInfo | undefined {
  const { kind, pipe, portName } = name;
  if (kind !== 'netmap' || pipe !== undefined || !interfaceNames().includes(portName)) return undefined;
  return netdevInfo(portName);
}

function interfaceMac(name: NetmapPortName): number[] {
  const mac = interfaceOf(name)?.mac;
  return mac === undefined ? [0, 0, 0, 0, 0, 0] : [...mac];
}

function checkMtu({ function: fn, size }: PktGenOptions, name: NetmapPortName): void {
  const mtu = isSender(fn) ? (interfaceOf(name)?.mtu ?? 0) : 0;
  if (mtu === 0 || size <= mtu) return;
  throw new NetbeError(`pkt_size (${size}) must be <= mtu (${mtu})`, {
    code: 'EMSGSIZE',
    kind: 'usage',
    subject: name.text,
  });
}
