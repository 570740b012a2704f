/** Nodes that are interfaces of the host: ether on a veth, eiface as a tap; wired as scripts for FreeBSD do it. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { after, before, describe, test } from 'node:test';
import { NgctlSession, runNgctl } from '../../src/netgraph/ngctl/session.js';
import { GraphLab, type Probe } from '../support/netgraph.js';
import { PacketSocket } from '../support/packet-socket.js';
import { enterOwnNetwork, ip, tapsUnavailable } from '../support/tap.js';
import { etherFrame } from '../support/test-guest.js';

describe('interfaces of the host in a graph', { skip: tapsUnavailable }, () => {
  let lab: GraphLab;
  let session: NgctlSession;
  let wire: PacketSocket;

  before(() => {
    enterOwnNetwork();
    ip('link add em0 address 02:00:00:00:00:e0 type veth peer name em1');
    for (const name of ['em0', 'em1']) {
      ip(`link set ${name} addrgenmode none`);
      ip(`link set ${name} up`);
    }
    lab = new GraphLab();
    session = NgctlSession.open(lab.graph, 'script') as NgctlSession;
    wire = new PacketSocket('em1');
  });

  after(() => {
    wire?.close();
    lab?.close();
  });

  /** What a command of ngctl prints; it succeeds. */
  function ngctl(command: string): string {
    const { output, error, status } = runNgctl(session, command);
    assert.equal(status, 0, `${command}: ${error}`);
    return output;
  }

  const fails = (command: string): string => {
    const { error, status } = runNgctl(session, command);
    assert.notEqual(status, 0, command);
    return error;
  };

  const answer = (command: string): string =>
    ngctl(command)
      .replace(/^Rec'd.*\nArgs:\t/, '')
      .trimEnd();

  /** Turns of the fabric until something has come. */
  function turnUntil<T>(take: () => T | undefined, what: string): T {
    for (let i = 0; i < 3000; i++) {
      lab.runtime.loop.step(1);
      const got = take();
      if (got !== undefined) return got;
    }
    throw new Error(`never came: ${what}`);
  }

  test('the node of an interface is there when it is addressed, and answers for it', () => {
    assert.doesNotMatch(ngctl('list'), /em0/);
    assert.equal(answer('msg em0: getifname'), '"em0"');
    assert.equal(answer('msg em0: getenaddr'), '02:00:00:00:00:e0');
    assert.match(answer('msg em0: getifindex'), /^\d+$/);
    assert.match(ngctl('list'), /Name: em0 {13}Type: ether/);
    ngctl('msg em0: setenaddr 02:00:00:00:00:e1');
    assert.equal(answer('msg em0: getenaddr'), '02:00:00:00:00:e1');
    for (const what of ['promisc', 'autosrc'])
      for (const value of ['1', '0']) {
        ngctl(`msg em0: set${what} ${value}`);
        assert.equal(answer(`msg em0: get${what}`), value);
      }
    assert.match(fails('mkpeer em0: hub sideways x'), /Invalid argument/);
    assert.match(fails('mkpeer lo: hub lower x'), /no node "lo:"/);
    assert.match(fails('mkpeer ether a lower'), /Invalid argument/);
    ngctl('shutdown em0:');
    assert.equal(answer('msg em0: getautosrc'), '1');
  });

  test('joins and leaves group addresses of the interface, each once, and leaves all when it is shut down', () => {
    const joined = (): boolean =>
      /01:00:5e:01:02:03/.test(execFileSync('ip', ['maddr', 'show', 'em0'], { encoding: 'utf8' }));
    const group = '01:00:5e:01:02:03';
    ngctl(`msg em0: addmulti ${group}`);
    assert.equal(joined(), true);
    assert.match(fails(`msg em0: addmulti ${group}`), /Address already in use[\s\S]*joined already/);
    ngctl(`msg em0: delmulti ${group}`);
    assert.equal(joined(), false);
    assert.match(fails(`msg em0: delmulti ${group}`), /No such file or directory[\s\S]*not been joined/);
    assert.match(fails('msg em0: addmulti 02:00:00:00:00:01'), /Can't assign requested address[\s\S]*no group address/);
    ip('maddr add 01:00:5e:01:02:03 dev em0');
    assert.match(fails(`msg em0: addmulti ${group}`), /Address already in use/);
    assert.match(fails(`msg em0: delmulti ${group}`), /No such file or directory/);
    ip('maddr del 01:00:5e:01:02:03 dev em0');
    ngctl(`msg em0: addmulti ${group}`);
    ngctl('shutdown em0:');
    assert.equal(joined(), false);
  });

  describe('orphans', () => {
    /** What comes out of em0: or is given to it by a socket node. */
    let probe: Probe;
    const frame = (type: number, source: number, destination = 0xff): Uint8Array => {
      const bytes = Uint8Array.from(etherFrame(0, source, 80));
      if (destination === 0xff) bytes.fill(0xff, 0, 6);
      else bytes.set([2, 0, 0, 0, 0, destination]);
      bytes[12] = type >>> 8;
      bytes[13] = type & 0xff;
      return bytes;
    };
    const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
    const marker = frame(0x88b5, 0x77);
    /** What came out of a hook before a frame that surely comes out of it. */
    const seenBefore = (hook: string, end: Uint8Array): string[] => {
      const seen: string[] = [];
      turnUntil(() => {
        seen.push(...probe.take());
        return seen.includes(`${hook} ${hex(end)}`) || undefined;
      }, 'the last frame');
      return seen;
    };

    before(() => {
      probe = lab.probe('probe');
    });

    test('what no protocol of the host takes comes out; IP, ARP, tagged frames, and those to other stations, do not', () => {
      assert.equal(probe.connect('.', 'em0:', 'orphans', 'orphans'), undefined);
      assert.match(fails('mkpeer em0: hub orphans x'), /File exists|already connected/);
      const unicast = frame(0x88b6, 0x51, 0xe1);
      for (const sent of [
        frame(0x0800, 1),
        frame(0x0806, 2),
        frame(0x86dd, 3),
        frame(0x8100, 4),
        frame(0x88b5, 5, 0x44),
      ])
        wire.send(sent);
      wire.send(unicast);
      wire.send(marker);
      assert.deepEqual(seenBefore('orphans', marker), [`orphans ${hex(unicast)}`, `orphans ${hex(marker)}`]);
    });

    test('the host goes on receiving meanwhile', () => {
      const host = new PacketSocket('em0');
      try {
        const arp = frame(0x0806, 0x33);
        wire.send(arp);
        assert.equal(hex(turnUntil(() => host.receive(), 'the frame at the host')), hex(arp));
      } finally {
        host.close();
      }
    });

    test('what is written to it goes to the wire, from the address of the interface if autosrc says so', () => {
      const sent = frame(0x88b5, 0x61);
      for (const autosrc of [0, 1]) {
        ngctl(`msg em0: setautosrc ${autosrc}`);
        probe.send('orphans', sent);
        const expected = Uint8Array.from(sent);
        if (autosrc === 1) expected.set([2, 0, 0, 0, 0, 0xe1], 6);
        const got = turnUntil(() => {
          const bytes = wire.receive();
          return bytes !== undefined && bytes[12] === 0x88 ? bytes : undefined;
        }, 'a frame on the wire');
        assert.equal(hex(got), hex(expected));
      }
    });

    test('with lower connected the wire goes there, and to orphans what is written to upper and nobody knows', () => {
      assert.equal(probe.connect('.', 'em0:', 'lower', 'lower'), undefined);
      assert.equal(probe.connect('.', 'em0:', 'upper', 'upper'), undefined);
      wire.send(marker);
      assert.deepEqual(seenBefore('lower', marker), [`lower ${hex(marker)}`]);
      const fromUpper = frame(0x88b5, 0x62);
      probe.send('upper', frame(0x0806, 0x63), fromUpper);
      assert.deepEqual(
        seenBefore('orphans', fromUpper).filter((line) => line.startsWith('orphans')),
        [`orphans ${hex(fromUpper)}`],
      );
      ngctl('shutdown probe:');
      assert.match(ngctl('show em0:'), /Num hooks: 0/);
      // the next tests begin with the node's defaults
      ngctl('shutdown em0:');
    });
  });

  test("jng's way: the interface's wire and the host's stack on one bridge, and new interfaces beside them", () => {
    // 2. promiscuous, and source addresses as they come
    ngctl('msg em0: setpromisc 1');
    ngctl('msg em0: setautosrc 0');
    // 3. the bridge, made once
    assert.match(fails('info em0bridge:'), /No such file or directory/);
    ngctl('mkpeer em0: bridge lower link0');
    ngctl('connect em0: em0:lower upper link1');
    ngctl('name em0:lower em0bridge');
    ngctl('info em0bridge:');
    // 4. the first free link
    let num = 2;
    while (runNgctl(session, `msg em0bridge: getstats ${num}`).status === 0) num++;
    assert.equal(num, 2);
    ngctl(`mkpeer em0bridge: eiface link${num} ether`);
    // 5. its interface, renamed; the node is called like the interface
    const created = ngctl(`show -n em0bridge:link${num}`).trim().split(/\s+/)[1] as string;
    assert.match(created, /^ngeth\d+$/);
    ngctl(`name em0bridge:link${num} ng0_xxx`);
    ip(`link set ${created} name ng0_xxx`);
    ip('link set ng0_xxx addrgenmode none');
    ip('link set ng0_xxx up');
    assert.equal(answer('msg ng0_xxx: getifname'), '"ng0_xxx"');
    // 6. its address
    ip('link set ng0_xxx address 02:00:00:00:00:99');
    assert.equal(fails('msg ng0_xxx: set nonsense').includes('Ethernet address'), true);
    ngctl('msg ng0_xxx: set 02:00:00:00:00:98');
    assert.match(execFileSync('ip', ['link', 'show', 'ng0_xxx'], { encoding: 'utf8' }), /02:00:00:00:00:98/);
  });

  test('frames cross: from the wire to the new interface and to the host, and from the new interface to the wire', () => {
    const inner = new PacketSocket('ng0_xxx');
    const broadcast = Uint8Array.from(etherFrame(0xff, 0x51, 77));
    broadcast.fill(0xff, 0, 6);
    broadcast[12] = 0x88;
    broadcast[13] = 0xb5;
    try {
      wire.send(broadcast);
      assert.deepEqual(
        Buffer.from(turnUntil(() => inner.receive(), 'a frame at the new interface')),
        Buffer.from(broadcast),
      );
      const back = Uint8Array.from(broadcast);
      back[11] = 0x52;
      inner.send(back);
      assert.deepEqual(Buffer.from(turnUntil(() => wire.receive(), 'a frame on the wire')), Buffer.from(back));
    } finally {
      inner.close();
    }
    const stats = answer('msg em0bridge: getstats 2');
    assert.match(stats, /xmitPackets=1/);
    assert.match(stats, /recvPackets=1/);
  });

  test('the host goes on using the interface through the bridge', () => {
    ip('addr add 10.9.0.1/24 dev em0');
    // a neighbour that does not answer: the host asks for it, by ARP, on the wire
    execFileSync('bash', ['-c', 'echo hello > /dev/udp/10.9.0.2/9']);
    const arp = turnUntil(() => {
      const frame = wire.receive();
      return frame !== undefined && frame[12] === 8 && frame[13] === 6 ? frame : undefined;
    }, 'an ARP request on the wire');
    assert.equal(Buffer.from(arp.subarray(38, 42)).join('.'), '10.9.0.2');
  });

  test('an interface of the graph goes with its node, and the bridge lets the wire go', () => {
    ngctl('shutdown ng0_xxx:');
    assert.throws(() => execFileSync('ip', ['link', 'show', 'ng0_xxx'], { stdio: 'ignore' }));
    ngctl('shutdown em0bridge:');
    assert.match(ngctl('show em0:'), /Num hooks: 0/);
    assert.match(fails('mkpeer . eiface a b'), /hook ether/);
  });
});
