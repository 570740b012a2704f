/** netmap's programs as child processes: with a running fabric, and with one of their own. */
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { type TestContext, test } from 'node:test';
import { CliFolder, type CliProcess } from '../../../support/cli.js';
import { fileHeader, packetRecord } from '../../../support/pcap.js';
import { tempDir } from '../../../support/temp-dir.js';

const folder = (t: TestContext) => new CliFolder(t, tempDir(t));

async function withFabric(t: TestContext): Promise<CliFolder> {
  const cli = folder(t);
  await cli.fabric('run', '-s', '2,virtio-net,vale0:vm1,socket=vm1.sock', '--no-sandbox');
  return cli;
}

const ready = (cli: CliProcess) => cli.complains(/start_threads \[\d+\] Ready\.\.\./);

test('vale-ctl: a persistent port is made, attached, shown, detached and removed, as its original says it', async (t) => {
  const cli = await withFabric(t);
  const ctl = async (...args: string[]) => {
    const { status, stdout, stderr } = await cli.run('vale-ctl', ...args);
    return { status, stdout, stderr };
  };
  assert.deepEqual(await ctl(), { status: 0, stdout: 'vale0:vm1 bridge_idx 0 port_idx 0\n', stderr: '' });
  const made = await ctl('-n', 'v0', '-C', '512,256,2', '-v');
  assert.equal(made.status, 0, made.stderr);
  assert.match(made.stdout, /^tx_slots: {3}512\nrx_slots: {3}256\ntx_rings: {3}2\nrx_ring: {4}2\nmem_id: {5}\d+\n$/);
  const again = await ctl('-n', 'v0');
  assert.equal(again.status, 2);
  assert.match(again.stderr, /^netbe: failed to create v0: File exists\n/);
  assert.deepEqual(await ctl('-a', 'vale0:v0', '-v'), { status: 0, stdout: 'port_index: 1\n', stderr: '' });
  assert.match((await ctl('-a', 'vale0:v0')).stderr, /^netbe: failed to attach vale0:v0: Device or resource busy\n/);
  assert.match((await ctl('-r', 'v0')).stderr, /^netbe: failed to remove v0: Device or resource busy\n/);
  assert.equal((await ctl('-l', 'vale0:v0')).stdout, 'bridge_idx: 0\nport_idx:   1\n');
  assert.match((await ctl('-g', 'v0')).stdout, /^memsize: {4}\d+\ntx_slots: {3}512\n[\s\S]*\nrx_rings {4}2\nmem_id: /);
  assert.equal((await ctl('-l')).stdout, 'vale0:vm1 bridge_idx 0 port_idx 0\nvale0:v0 bridge_idx 0 port_idx 1\n');
  assert.equal((await ctl('-d', 'vale0:v0', '-v')).stdout, 'port_index: 1\n');
  assert.deepEqual(await ctl('-r', 'v0'), { status: 0, stdout: '', stderr: '' });
  assert.match((await ctl('-r', 'v0')).stderr, /^netbe: failed to remove v0: No such device or address\n/);
  assert.match((await ctl('-p', 'vale0:vm1')).stderr, /failed to enable polling on vale0:vm1: Operation not supported/);
});

test('vale-ctl -m: a port shares the memory of another', async (t) => {
  const cli = await withFabric(t);
  const memId = async (...args: string[]) =>
    /mem_id: +(\d+)/.exec((await cli.run('vale-ctl', '-v', ...args)).stdout)?.[1];
  const first = await memId('-n', 'v0');
  assert.notEqual(first, undefined);
  assert.equal(await memId('-n', 'v1', '-m', 'netmap:v0'), first);
  assert.equal(await memId('-n', 'v2', '-m', first as string), first);
});

test('what cannot be done is refused, with the reason', async (t) => {
  const cli = folder(t);
  const refusals: [args: string[], status: number, says: RegExp][] = [
    [['vale-ctl'], 3, /no fabric serves ports at .*default\.netmap/],
    [['vale-ctl', '-a', 'vale0:a', '-d', 'vale0:b'], 2, /one thing at a time/],
    [['pkt-gen'], 2, /no interface is given/],
    [['pkt-gen', '-i', 'vale0:a', '-f', 'fly'], 2, /unrecognised function fly/],
    [['pkt-gen', '-i', 'vale0:a', '-l', '15'], 2, /-l 15: not a number from 16 to 65536/],
    [['pkt-gen', '-i', 'vale0:a', '-H', '11'], 2, /bad virtio-net-header length/],
    [['pkt-gen', '-i', 'vale0:', '-f', 'tx'], 2, /character 7: the name of a port is missing/],
    [['pkt-gen', '-i', 'vale0:a', '-D', 'x'], 2, /-D x: not a MAC address/],
    [['lb', '-p', '2'], 2, /missing interface name/],
    [['lb', '-i', 'vale0:a', '-p', ':2'], 2, /-p :2: not \[prefix:\]n/],
    [['bridge'], 2, /missing interface/],
  ];
  for (const [args, status, says] of refusals) {
    const result = await cli.run(...args);
    assert.equal(result.status, status, `${args.join(' ')}: ${result.stderr}`);
    assert.match(result.stderr, says);
  }
});

test('pkt-gen tx to rx through a running fabric: every frame is counted, and said as the original says it', async (t) => {
  const cli = await withFabric(t);
  // a ring for all of them: a receiver that gets no processor for a while loses nothing
  const rx = cli.start('pkt-gen', '-i', 'vale1:r', '-f', 'rx', '-W', '-C', '4096');
  await ready(rx);
  const tx = await cli.run(...'pkt-gen -i vale1:s -f tx -n 3000 -R 20000 -l 100 -N -S 02:00:00:00:00:01'.split(' '));
  assert.equal(tx.status, 0, tx.stderr);
  assert.match(
    tx.stdout,
    /^Sending on vale1:s: 1 queues, 1 threads and 1 cpus\.\n10\.0\.0\.1 -> 10\.1\.0\.1 \(02:00:00:00:00:01 -> ff:ff:ff:ff:ff:ff\)\n/,
  );
  assert.match(
    tx.stdout,
    /\nSent 3000 packets 300000 bytes \d+ events 100 bytes each in \d+\.\d\d seconds\.\nSpeed: \d+ pps Bandwidth: \d+ bps \(raw \d+ bps\)\. Average batch: \d+\.\d\d pkts\n$/,
  );
  assert.match(
    tx.stderr,
    /^\d{3}\.\d{6} main_thread \[\d+\] \d+ pps \(\d+ pkts \d+ bps in \d+ usec\) \d+\.\d\d avg_batch \d+ min_space$/m,
  );
  const { status, stdout } = await rx.end();
  assert.equal(status, 0);
  assert.match(stdout, /\nReceived 3000 packets 300000 bytes /);
});

test('pkt-gen makes a fabric of its own where none runs, and a second one joins it', async (t) => {
  const cli = folder(t);
  const rx = cli.start('pkt-gen', '-i', 'vale0:r', '-f', 'rx', '-n', '500');
  await ready(rx);
  assert.match(rx.stderr, /no fabric is running: made one of its own, which others join at .*default\.netmap/);
  const tx = await cli.run('pkt-gen', '-i', 'vale0:s', '-f', 'tx', '-n', '500', '-R', '10000');
  assert.equal(tx.status, 0, tx.stderr);
  assert.doesNotMatch(tx.stderr, /made one of its own/);
  assert.match((await rx.end()).stdout, /\nReceived 500 packets 30000 bytes /);
});

test('pkt-gen ping and pong: each ping is answered, and times are told by powers of two', async (t) => {
  const cli = await withFabric(t);
  const pong = cli.start('pkt-gen', '-i', 'vale1:b', '-f', 'pong');
  await ready(pong);
  const ping = await cli.run('pkt-gen', '-i', 'vale1:a', '-f', 'ping', '-n', '50', '-S', '02:00:00:00:00:01');
  assert.equal(ping.status, 0, ping.stderr);
  assert.match(ping.stderr, /count 50 RTT: min \d+ av \d+ ns\n/);
  assert.match(ping.stderr, /RTT over 50 packets: min \d+ av \d+ ns/);
  assert.equal((await pong.end('SIGINT')).status, 0);
});

test('pkt-gen txseq over a pipe: rxseq finds no gap, fragments included', async (t) => {
  const cli = await withFabric(t);
  const rx = cli.start('pkt-gen', '-i', 'netmap:q}1', '-f', 'rxseq', '-w', '0', '-W');
  await ready(rx);
  const tx = cli.start('pkt-gen', '-i', 'netmap:q{1', '-f', 'txseq', '-w', '0', '-F', '3', '-T', '200');
  await tx.complains(/main_thread \[\d+\] [1-9]/);
  assert.equal((await tx.end('SIGINT')).status, 0);
  const { status, stdout, stderr } = await rx.end();
  assert.equal(status, 0);
  assert.match(stdout, /Received [1-9]\d* packets/);
  assert.doesNotMatch(stderr, /Sequence|expected/);
});

test('pkt-gen -p: a thread a ring, and their sum', async (t) => {
  const cli = await withFabric(t);
  const result = await cli.run(...'pkt-gen -i vale1:m -f tx -n 400 -p 4 -C 256,256,4 -A -T 20 -R 300 -X'.split(' '));
  assert.equal(result.status, 0, result.stderr);
  assert.match(result.stdout, /^Sending on vale1:m: 4 queues, 4 threads/);
  assert.match(result.stdout, /\nSent 400 packets 24000 bytes /);
  assert.match(result.stdout, /\nRates of \d+ reports: min .*pps avg .*pps max .*pps std .*pps\n/);
  assert.match(
    result.stdout,
    /ring 0x[0-9a-f]+ cur +\d+ \[buf +\d+ flags 0x\d{4} len +60\]\n {4}0: ff ff ff ff ff ff /,
  );
});

test('lb: a flow goes to one pipe, flows to all of them, and nothing is lost', async (t) => {
  const cli = await withFabric(t);
  const lb = cli.start('lb', '-i', 'vale1:in@conf:slots=4096', '-p', '2', '-B', '1000', '-w', '0', '-o', '1');
  await lb.complains(/successfully opened pipe #2 vale1:in\{1\/xT@\d+ \(tx slots: 4096\)/);
  const readers = ['0', '1'].map((id) => cli.start('pkt-gen', '-i', `vale1:in}${id}`, '-f', 'rx', '-W', '-w', '0'));
  for (const reader of readers) await ready(reader);
  const tx = await cli.run(...'pkt-gen -i vale1:s -f tx -n 2000 -R 10000 -s 10.0.0.1:1000-10.0.0.9:1100'.split(' '));
  assert.equal(tx.status, 0, tx.stderr);
  const counts: number[] = [];
  for (const reader of readers) {
    const { stdout } = await reader.end();
    counts.push(Number(/Received (\d+) packets/.exec(stdout)?.[1] ?? 0));
  }
  assert.equal((counts[0] as number) + (counts[1] as number), 2000, counts.join(' and '));
  assert.ok(Math.min(...counts) > 400, counts.join(' and '));
  const { stdout } = await lb.end('SIGINT');
  assert.match(stdout, /\n2000 packets forwarded\. {2}0 packets dropped\. Total 2000\n$/);
  const line = JSON.parse(stdout.split('\n').find((l) => l.includes('"output_ring":null')) as string);
  assert.equal(line.free_buffer_slots, 1000);
});

test('bridge: frames go both ways between two ports, and are swapped where memory is shared', async (t) => {
  const cli = await withFabric(t);
  const bridge = cli.start('bridge', '-i', 'vale1:x', '-i', 'vale2:y', '-w', '0');
  await bridge.complains(/Ready to go, vale1:x 0x0\/1 <-> vale2:y 0x0\/1\./);
  assert.match(bridge.stderr, /zerocopy NOT supported/);
  const pong = cli.start('pkt-gen', '-i', 'vale2:b', '-f', 'pong');
  await ready(pong);
  const ping = await cli.run('pkt-gen', '-i', 'vale1:a', '-f', 'ping', '-n', '30', '-S', '02:00:00:00:00:01');
  assert.equal(ping.status, 0, ping.stderr);
  assert.match(ping.stderr, /RTT over 30 packets/);
  assert.equal((await bridge.end('SIGINT')).status, 0);
  const zero = cli.start('bridge', '-i', 'netmap:z{1', '-i', 'netmap:z{2', '-w', '0');
  await zero.complains(/------- zerocopy supported/);
  await zero.complains(/Ready to go/);
  const rx = cli.start('pkt-gen', '-i', 'netmap:z}2', '-f', 'rx', '-n', '5000', '-w', '0');
  await ready(rx);
  const tx = await cli.run('pkt-gen', '-i', 'netmap:z}1', '-f', 'tx', '-n', '5000', '-w', '0');
  assert.equal(tx.status, 0, tx.stderr);
  assert.match((await rx.end()).stdout, /Received 5000 packets 300000 bytes/);
});

test('pkt-gen -F: frames of several slots are counted as frames, over a switch and over a pipe', async (t) => {
  const cli = await withFabric(t);
  for (const [rxPort, txPort] of [
    ['vale1:r', 'vale1:s'],
    ['netmap:f}1', 'netmap:f{1'],
  ] as const) {
    const rx = cli.start('pkt-gen', '-i', rxPort, '-f', 'rx', '-n', '200', '-w', '0', '-C', '2048');
    await ready(rx);
    const tx = await cli.run('pkt-gen', '-i', txPort, '-f', 'tx', '-n', '200', '-l', '9014', '-F', '5', '-w', '0');
    assert.match(tx.stdout, /Sent 200 packets 1802800 bytes \d+ events 9014 bytes each/);
    assert.match((await rx.end()).stdout, /Received 200 packets 1802800 bytes/);
  }
});

test('pkt-gen -H, -P and -I: a header before each frame, a frame from a file, and frames outside the buffers in a fabric of its own alone', async (t) => {
  const cli = await withFabric(t);
  const packet = Uint8Array.from({ length: 77 }, (_, i) => (i < 6 ? 0xff : i));
  writeFileSync(`${cli.dir}/one.pcap`, Buffer.concat([fileHeader(true), packetRecord(packet, true)]));
  const send = async (...args: string[]) => {
    const rx = cli.start('pkt-gen', '-i', 'vale1:r', '-f', 'rx', '-n', '10', '-X');
    await ready(rx);
    const tx = await cli.run('pkt-gen', '-i', 'vale1:s', '-f', 'tx', '-n', '10', ...args);
    assert.equal(tx.status, 0, tx.stderr);
    return (await rx.end()).stdout;
  };
  assert.match(await send('-H', '12'), /len {4}60\]\n {4}0: ff ff ff ff ff ff [\s\S]*Received 10 packets 600 bytes/);
  assert.match(
    await send('-P', 'one.pcap'),
    /len {4}77\]\n {4}0: ff ff ff ff ff ff 06 07 08 [\s\S]*Received 10 packets 770 bytes/,
  );
  const indirect = ['pkt-gen', '-i', 'vale1:s', '-f', 'tx', '-n', '10', '-I'];
  const refused = await cli.run(...indirect);
  assert.equal(refused.status, 2);
  assert.match(refused.stderr, /-I: the fabric of vale1:s is another process's/);
  const rx = cli.start('pkt-gen', '-i', 'vale1:r', '-f', 'rx', '-n', '10', '--fabric', 'own');
  await rx.complains(/made one of its own/);
  assert.equal((await cli.run(...indirect, '--fabric', 'own')).status, 2);
  await rx.end('SIGINT');
  const own = await cli.run(...indirect, '--fabric', 'own');
  assert.match(own.stdout, /Sent 10 packets 600 bytes/, own.stderr);
});
