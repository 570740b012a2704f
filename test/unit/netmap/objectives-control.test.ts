/**
 * The objectives of netmap's own tests of its control interface (utils/ctrl-api-test.c) and of its scripts about
 * persistent ports (utils/tests 009 to 011), by their names. A connection of the port socket is what a
 * descriptor of /dev/netmap is there, and its requests are those of NIOCCTRL.
 *
 * Those about interfaces of the host are in test/peers/netmap-objectives.test.ts.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, type TestContext, test } from 'node:test';
import * as abi from '../../../src/netmap/abi.js';
import * as R from '../../../src/netmap/abi-register.js';
import { type Netmap, netmapOf } from '../../../src/netmap/netmap.js';
import { parsePortName } from '../../../src/netmap/port-name.js';
import { eventfdRead, eventfdWrite } from '../../../src/sys/eventfd.js';
import { openFdCount } from '../../../src/sys/fd.js';
import { PortServerRig, type RawPortClient, type RawReply } from '../../support/raw-port-client.js';
import { tempDir } from '../../support/temp-dir.js';

let rig: PortServerRig;
let netmap: Netmap;
let clients: RawPortClient[];
let descriptors: number;

beforeEach((t) => {
  rig = new PortServerRig(join(tempDir(t as TestContext), 'p.netmap'));
  netmap = netmapOf(rig.runtime);
  clients = [];
  descriptors = openFdCount();
});
afterEach(() => {
  for (const client of clients) client.close();
  for (const { name, kind, switchName } of netmap.list()) {
    if (kind !== 'persistent') continue;
    if (switchName !== '') netmap.detach(switchName, name);
    netmap.delif(name);
  }
  assert.deepEqual(netmap.list(), [], 'a connection that ends takes its port with it');
  assert.equal(openFdCount(), descriptors);
  rig.close();
});

/** A connection of its own, as each test of netmap's has a descriptor. */
function connect(): RawPortClient {
  const client = rig.connect();
  clients.push(client);
  return client;
}

function ask(client: RawPortClient, type: string, name = '', body: object = {}): Record<string, unknown> {
  const reply = client.ask(type, name, body);
  for (const fd of reply.fds) fd.close();
  assert.ok(reply.ok, `${type} ${name}: ${reply.error?.message}`);
  return reply.body;
}

function refused(client: RawPortClient, type: string, name: string, body: object, code: string): RawReply['error'] {
  const reply = client.ask(type, name, body);
  assert.equal(reply.ok, false, `${type} ${name} was not refused`);
  assert.equal(reply.error.code, code, reply.error.message);
  return reply.error;
}

function persistent(name = 'per4', sizes = {}): RawPortClient {
  const client = connect();
  ask(client, 'vale-newif', name, sizes);
  return client;
}

const rings = (body: Record<string, unknown>): [number, number] => [
  (body.txRingOffs as number[]).length,
  (body.rxRingOffs as number[]).length,
];

describe('information', () => {
  test('port_info_get', () => {
    const client = persistent('per4', { txRings: 2, rxRings: 3, txSlots: 256, rxSlots: 512 });
    const info = ask(client, 'port-info-get', 'netmap:per4');
    assert.deepEqual([info.txRings, info.rxRings, info.txSlots, info.rxSlots], [2, 3, 256, 512]);
    assert.ok((info.memSize as number) > 0 && (info.memId as number) > 1);
  });

  test('pools_info_get_and_register', () => {
    const client = persistent();
    const complete = (): void => {
      const {
        byteLength,
        ifs,
        rings: ringPool,
        bufs,
      } = ask(client, 'pools-info-get', 'netmap:per4') as Record<string, Record<string, number>> & {
        byteLength: number;
      };
      for (const pool of [ifs, ringPool, bufs]) assert.ok(pool!.objTotal! > 0 && pool!.objSize! > 0);
      assert.ok(byteLength >= bufs!.off! + bufs!.objTotal! * bufs!.objSize!);
    };
    complete();
    ask(client, 'register', 'netmap:per4-0');
    complete();
  });

  test('pools_info_get_empty_ifname', () => void refused(connect(), 'pools-info-get', '', {}, 'EINVAL'));

  test('pipe_port_info_get', () => {
    const info = ask(connect(), 'port-info-get', 'netmap:tap0}pipeid3');
    for (const key of ['memSize', 'txSlots', 'rxSlots', 'txRings', 'rxRings', 'memId'])
      assert.ok((info[key] as number) > 0, key);
  });

  test('pipe_pools_info_get', () => {
    assert.ok((ask(connect(), 'pools-info-get', 'netmap:tap0{xid').byteLength as number) > 0);
  });
});

describe('registering a port', () => {
  test('port_register_hwall', () => {
    const client = persistent('per4', { txRings: 4, rxRings: 2 });
    assert.deepEqual(rings(ask(client, 'register', 'netmap:per4')), [4, 2]);
  });

  test('port_register_single_hw_pair', () => {
    const client = persistent('per4', { txRings: 4, rxRings: 2 });
    const all = ask(connect(), 'register', 'netmap:per4-1/R');
    assert.deepEqual(rings(all), [0, 1]);
    assert.deepEqual(rings(ask(client, 'register', 'netmap:per4-0')), [1, 1]);
    refused(connect(), 'register', 'netmap:per4-4', {}, 'EINVAL');
  });

  test('port_register_hwall_tx and port_register_hwall_rx (as the tests of kloops register)', () => {
    const client = persistent('per4', { txRings: 2, rxRings: 2 });
    assert.deepEqual(rings(ask(client, 'register', 'netmap:per4/T')), [2, 0]);
    assert.deepEqual(rings(ask(connect(), 'register', 'netmap:per4/R')), [0, 2]);
  });

  test('port_register_hwall_host, port_register_hostall: a port without host rings has none to give', () => {
    const client = persistent();
    for (const [name, place] of [
      ['netmap:per4^', 12],
      ['netmap:per4^1', 12],
    ] as const)
      assert.match(refused(client, 'register', name, {}, 'EINVAL').message, new RegExp(`character ${place}`));
  });

  test('legacy_regif_default, legacy_regif_all_nic, legacy_regif_12: rings and slots that are not asked for are chosen', () => {
    const body = ask(connect(), 'register', 'vale0:p');
    assert.deepEqual(rings(body), [1, 1]);
    const info = ask(connect(), 'port-info-get', 'vale0:p');
    assert.deepEqual([info.txSlots, info.rxSlots], [1024, 1024]);
  });

  test('legacy_regif_extra_bufs, legacy_regif_extra_bufs_pipe, legacy_regif_extra_bufs_pipe_vale', () => {
    const client = persistent();
    assert.equal(ask(client, 'register', 'netmap:per4', { extraBufs: 20 }).extraBufs, 20);
    assert.equal(ask(connect(), 'register', 'netmap:tap0{pipeexbuf', { extraBufs: 58 }).extraBufs, 58);
    assert.equal(ask(connect(), 'register', 'valeX1:Y4{pipeexbuf', { extraBufs: 58 }).extraBufs, 58);
  });

  test('pipe_master', () => {
    const client = connect();
    assert.match(refused(client, 'register', 'netmap:tap0{pipeid1*', {}, 'EINVAL').message, /rings of a host/);
    assert.deepEqual(rings(ask(client, 'register', 'netmap:tap0{pipeid1')), [1, 1]);
  });

  test('pipe_slave', () => assert.deepEqual(rings(ask(connect(), 'register', 'netmap:tap0}pipeid2')), [1, 1]));

  test('null_port, null_port_all_zero', () => {
    const sizes = { null: true, memId: 1, txRings: 10, rxRings: 5, txSlots: 256, rxSlots: 100 };
    const some = ask(connect(), 'register', 'tap0', sizes);
    assert.deepEqual([...rings(some), some.memId], [10, 5, 1]);
    assert.deepEqual(rings(ask(connect(), 'register', 'tap0', { null: true, memId: 1 })), [0, 0]);
    // region 1 is the same for both, and nobody but they keep it
    assert.equal(
      netmap.list().every(({ kind, memId }) => kind === 'null' && memId === 1),
      true,
    );
    refused(connect(), 'register', 'tap0', { null: true }, 'EINVAL');
    refused(connect(), 'register', 'tap0', { null: true, memId: 77 }, 'ENOENT');
  });

  test('null_port_sync', () => {
    const port = netmap.openNull(1, { txRings: 10, rxRings: 5, txSlots: 256, rxSlots: 100, extraBufs: 8 });
    const before = port.txRings.map(({ head, tail }) => [head, tail]);
    port.txsync();
    port.rxsync();
    assert.deepEqual(
      port.txRings.map(({ head, tail }) => [head, tail]),
      before,
    );
    assert.equal(port.extraBufs, 8);
    port.close();
  });
});

describe('switches and persistent ports', () => {
  test('vale_attach_detach, vale_persistent_port', () => {
    const client = persistent();
    const { portIndex } = ask(client, 'vale-attach', 'vale1:per4');
    assert.deepEqual(ask(client, 'vale-list', 'vale1:per4').ports, [
      { name: 'vale1:per4', bridgeIdx: 0, portIdx: portIndex },
    ]);
    assert.equal(ask(client, 'vale-detach', 'vale1:per4').portIndex, portIndex);
    assert.deepEqual(ask(client, 'vale-list').ports, []);
    ask(client, 'vale-delif', 'per4');
    refused(client, 'vale-delif', 'per4', {}, 'ENXIO');
  });

  test('vale_ephemeral_port_hdr_manipulation', () => {
    const client = connect();
    ask(client, 'register', 'vale:eph0');
    const other = connect();
    for (const hdrLen of [12, 0, 10]) {
      ask(client, 'port-hdr-set', 'vale:eph0', { hdrLen });
      assert.equal(ask(other, 'port-hdr-get', 'vale:eph0').hdrLen, hdrLen);
    }
    refused(client, 'port-hdr-set', 'vale:eph0', { hdrLen: 11 }, 'EINVAL');
  });

  test('vale_polling_enable_disable: refused with what there is instead', () => {
    const client = persistent();
    ask(client, 'vale-attach', 'vale1:per4');
    for (const type of ['vale-polling-enable', 'vale-polling-disable'])
      assert.match(refused(client, type, 'vale1:per4', {}, 'EOPNOTSUPP').message, /polls its ports by itself/);
  });

  test('009_persistent_vale_port_destroy', () => {
    const client = persistent('v0');
    ask(client, 'vale-delif', 'v0');
    ask(client, 'vale-newif', 'v0');
    ask(client, 'vale-attach', 'vale0A:v0');
    refused(client, 'vale-delif', 'v0', {}, 'EBUSY');
    ask(client, 'vale-attach', 'vale0B:v0');
    refused(client, 'vale-delif', 'v0', {}, 'EBUSY');
    ask(client, 'vale-detach', 'vale0B:v0');
    refused(client, 'vale-delif', 'v0', {}, 'EBUSY');
    ask(client, 'vale-detach', 'vale0A:v0');
    ask(client, 'vale-delif', 'v0');
  });

  test('010_persistent_vale_port_double_attach', () => {
    const client = persistent('v0');
    ask(client, 'vale-attach', 'vale0A:v0');
    refused(client, 'vale-attach', 'vale0A:v0', {}, 'EBUSY');
    ask(client, 'vale-attach', 'vale0B:v0');
    ask(client, 'vale-detach', 'vale0B:v0');
  });

  test('011_persistent_vale_port_double_create', () => {
    const client = persistent('v0');
    refused(client, 'vale-newif', 'v0', {}, 'EEXIST');
    ask(client, 'vale-attach', 'vale0A:v0');
    refused(client, 'vale-newif', 'v0', {}, 'EEXIST');
    ask(client, 'vale-attach', 'vale0B:v0');
    refused(client, 'vale-newif', 'v0', {}, 'EEXIST');
    ask(client, 'vale-detach', 'vale0B:v0');
  });
});

describe('options', () => {
  test('unsupported_option', () => {
    assert.match(
      refused(connect(), 'register', 'vale0:0@opt1234=1', {}, 'EINVAL').message,
      /character 9: the options are/,
    );
  });

  test('infinite_options, infinite_options2, invalid_valid_options3: a list that does not end', () => {
    for (const option of ['@conf=1', '@opt=1', '@']) {
      refused(connect(), 'register', `vale0:0${option.repeat(500)}`, {}, 'EINVAL');
      refused(connect(), 'register', `vale0:0${option.repeat(9000)}`, {}, 'EINVAL');
    }
  });

  test('extmem_option, bad_extmem_option: memory from elsewhere is refused, with the place', () => {
    const error = refused(connect(), 'register', 'vale0:0@extmem=/dev/zero', {}, 'EOPNOTSUPP');
    assert.match(error.message, /character 8.*not supported/);
    refused(connect(), 'register', 'vale0:0@offset=64', {}, 'EOPNOTSUPP');
  });

  test('duplicate_extmem_options', () => {
    const error = refused(connect(), 'register', 'vale0:0@extmem=/a@extmem=/b', {}, 'EINVAL');
    assert.match(error.message, /character 19: the option extmem is there twice/);
  });

  test('share and conf (the options of nmport_prepare)', () => {
    const first = ask(connect(), 'register', 'vale0:a@conf:tx-rings=2,rx-slots=64');
    assert.deepEqual(rings(first), [2, 1]);
    assert.equal(ask(connect(), 'port-info-get', 'vale0:a').rxSlots, 64);
    assert.equal(ask(connect(), 'register', 'vale1:b@share=vale0:a').memId, first.memId);
    refused(connect(), 'register', 'vale1:c@share=vale0:nobody', {}, 'ENXIO');
    refused(connect(), 'register', `vale1:d@${(first.memId as number) + 1}@share=vale0:a`, {}, 'EINVAL');
  });
});

/** A port that another process has: its region, CSB and eventfds, driven by hand. */
class Remote {
  readonly u32: Uint32Array;
  readonly kick: number;
  readonly notify: number;
  readonly ringCount: number;
  readonly #csb: number;
  readonly #slots: number;
  readonly #bufs: number;
  readonly #u8: Uint8Array;
  readonly #close: () => void;

  constructor({ body, fds }: RawReply) {
    const [memory, kick, notify] = fds;
    const mapping = rig.runtime.windows.mapFile({
      fd: memory!.number,
      fileOffset: 0,
      length: body.memSize as number,
      pageSize: 4096,
    });
    this.u32 = mapping.window.u32;
    this.#u8 = mapping.window.u8;
    this.kick = kick!.number;
    this.notify = notify!.number;
    const [tx, rx] = rings(body);
    this.ringCount = tx + rx;
    this.#csb = mapping.off + (body.csbOff as number);
    const ring = mapping.off + ((body.txRingOffs as number[])[0] ?? (body.rxRingOffs as number[])[0] ?? 0);
    this.#slots = ring + abi.NR_SLOTS;
    this.#bufs = ring + this.u32[(ring + abi.NR_BUF_OFS) >>> 2]!;
    this.#close = () => {
      mapping.close();
      for (const fd of fds) fd.close();
    };
  }

  #word(ring: number, off: number): number {
    return (this.#csb + ring * (abi.ATOK_BYTES + abi.KTOA_BYTES) + off) >>> 2;
  }

  atok(ring: number, off: number, value: number): void {
    this.u32[this.#word(ring, off)] = value;
  }

  ktoa(ring: number, off: number): number {
    return this.u32[this.#word(ring, abi.ATOK_BYTES + off)]!;
  }

  /** Fills a slot of ring 0, and moves head behind it: no call, and no kick. */
  put(slot: number, len: number): void {
    const w = (this.#slots + slot * abi.SLOT_BYTES) >>> 2;
    this.#u8.fill(0xff, this.#bufs + this.u32[w]! * 2048, this.#bufs + this.u32[w]! * 2048 + len);
    this.u32[w + 1] = len;
    this.atok(0, abi.ATOK_CUR, slot + 1);
    this.atok(0, abi.ATOK_HEAD, slot + 1);
  }

  close(): void {
    this.#close();
  }
}

describe('rings in CSB mode, synced by the fabric (sync_kloop)', () => {
  let remotes: Remote[];
  beforeEach(() => {
    remotes = [];
  });
  afterEach(() => {
    for (const remote of remotes) remote.close();
  });

  function register(name: string, body = {}): Remote {
    const reply = connect().ask('register', name, body);
    assert.ok(reply.ok, reply.error?.message);
    const remote = new Remote(reply);
    remotes.push(remote);
    return remote;
  }

  test('csb_mode: head, cur, hwcur and hwtail are where each ring begins', () => {
    const remote = register('vale0:p/x', { txSlots: 64, rxSlots: 32 });
    assert.equal(remote.ringCount, 2);
    assert.deepEqual([remote.ktoa(0, abi.KTOA_HWCUR), remote.ktoa(0, abi.KTOA_HWTAIL)], [0, 63]);
    assert.deepEqual([remote.ktoa(1, abi.KTOA_HWCUR), remote.ktoa(1, abi.KTOA_HWTAIL)], [0, 0]);
  });

  test('csb_mode_invalid_memory: a CSB cannot lead the fabric anywhere else', () => {
    const remote = register('vale0:p', { txSlots: 64 });
    for (const nonsense of [64, 0xffffffff, 1 << 31]) {
      remote.atok(0, abi.ATOK_HEAD, nonsense);
      remote.atok(0, abi.ATOK_CUR, nonsense);
      eventfdWrite(remote.kick);
      rig.step();
    }
    assert.equal(remote.ktoa(0, abi.KTOA_HWTAIL), 63);
    assert.ok(rig.runtime.count('rings vale0:p', 'ring_reinits') > 0);
  });

  test('sync_kloop, sync_kloop_csb_enable: frames go out without a call, while the fabric polls', () => {
    const sender = register('vale0:a', { txSlots: 64 });
    const receiver = register('vale0:b', { rxSlots: 64 });
    eventfdWrite(sender.kick);
    rig.step();
    for (let i = 0; i < 5; i++) {
      sender.put(i, 60);
      rig.step();
      if (sender.ktoa(0, abi.KTOA_HWCUR) <= i) eventfdWrite(sender.kick);
      rig.step();
    }
    assert.equal(sender.ktoa(0, abi.KTOA_HWCUR), 5);
    assert.equal(receiver.ktoa(1, abi.KTOA_HWTAIL), 5);
  });

  test('sync_kloop_eventfds_all, _direct: a fabric that sleeps is woken by one eventfd, and wakes by the other', async () => {
    const sender = register('vale0:a');
    const receiver = register('vale0:b');
    // idle for longer than it polls
    for (let i = 0; i < 50 && sender.ktoa(0, abi.KTOA_KERN_NEED_KICK) === 0; i++) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      rig.step();
    }
    assert.equal(sender.ktoa(0, abi.KTOA_KERN_NEED_KICK), 1);
    receiver.atok(1, abi.ATOK_APPL_NEED_KICK, 1);
    sender.put(0, 60);
    rig.step();
    assert.equal(receiver.ktoa(1, abi.KTOA_HWTAIL), 0, 'nobody has told it');
    eventfdWrite(sender.kick);
    rig.step();
    assert.equal(receiver.ktoa(1, abi.KTOA_HWTAIL), 1);
    await new Promise((resolve) => setTimeout(resolve, 5));
    rig.step();
    assert.ok(eventfdRead(receiver.notify), 'it asked to be told');
  });

  test('sync_kloop_eventfds_all_tx, _direct_tx, _direct_rx: rings of one direction', () => {
    const sender = register('vale0:a/T');
    const receiver = register('vale0:b/R');
    assert.deepEqual([sender.ringCount, receiver.ringCount], [1, 1]);
    sender.put(0, 60);
    eventfdWrite(sender.kick);
    rig.step();
    assert.equal(receiver.ktoa(0, abi.KTOA_HWTAIL), 1);
  });

  test('sync_kloop_nocsb: rings that somebody syncs for himself are not synced for another', () => {
    const local = netmap.open('vale0:p');
    refused(connect(), 'register', 'vale0:p', {}, 'EBUSY');
    local.close();
    register('vale0:p');
  });

  test('sync_kloop_conflict: of two who want the same rings one gets them, and one connection has one port', () => {
    register('vale0:p');
    refused(connect(), 'register', 'vale0:p', {}, 'EBUSY');
    const client = connect();
    ask(client, 'register', 'vale0:q');
    refused(client, 'register', 'vale0:r', {}, 'EBUSY');
  });

  test('sync_kloop_eventfds_mismatch: descriptors come from the fabric; those that a client sends are closed', () => {
    const client = connect();
    client.send(new Uint8Array(0), []);
    const reply = client.ask('register', 'vale0:p/R');
    assert.deepEqual([reply.fds.length, ...rings(reply.body)], [3, 0, 1]);
    for (const fd of reply.fds) fd.close();
  });

  test('stopped: a connection that ends gives its rings back', () => {
    const client = connect();
    ask(client, 'register', 'vale0:p');
    client.close();
    register('vale0:p');
  });
});

describe('names and layout', () => {
  // as netmap's table: what becomes nr_name, nr_mode, nr_ringid and nr_flags; no name: it is refused
  const { NR_REG_ALL_NIC: ALL, NR_REG_ONE_NIC: ONE } = R;
  const table: [text: string, name?: string, mode?: number, ringId?: number, flags?: number][] = [
    ['netmap:eth0', 'eth0', ALL],
    ['netmap:eth0-1', 'eth0', ONE, 1],
    ['netmap:eth0/x', 'eth0', ALL, 0, R.NR_EXCLUSIVE],
    ['netmap:eth0/z', 'eth0', ALL, 0, R.NR_ZCOPY_MON | R.NR_MONITOR_TX | R.NR_MONITOR_RX],
    ['netmap:eth0/r', 'eth0', ALL, 0, R.NR_MONITOR_RX],
    ['netmap:eth0/t', 'eth0', ALL, 0, R.NR_MONITOR_TX],
    ['netmap:eth0-2/Tx', 'eth0', ONE, 2, R.NR_TX_RINGS_ONLY | R.NR_EXCLUSIVE],
    ['netmap:eth0*', 'eth0', R.NR_REG_NIC_SW],
    ['netmap:eth0^', 'eth0', R.NR_REG_SW],
    ['netmap:eth0@2', 'eth0', ALL],
    ['netmap:eth0@2/R', 'eth0', ALL, 0, R.NR_RX_RINGS_ONLY],
    ['netmap:eth0@2/R@2', 'eth0', ALL, 0, R.NR_RX_RINGS_ONLY],
    ['netmap:eth0/R@share=netmap:lo', 'eth0', ALL, 0, R.NR_RX_RINGS_ONLY],
    ['netmap:eth0@2/R@3'],
    ['netmap:eth0@'],
    ['netmap:'],
    ['netmap:^'],
    ['netmap:{'],
    ['netmap:vale0:0'],
    ['eth0'],
    ['vale0:0', 'vale0:0', ALL],
    ['vale:0', 'vale:0', ALL],
    ['valeXXX:YYY', 'valeXXX:YYY', ALL],
    ['valeXXX:YYY-4', 'valeXXX:YYY', ONE, 4],
    ['netmapXXX:eth0'],
    ['netmap:14', '14', ALL],
    ['netmap:eth0&'],
    ['netmap:pipe{0', 'pipe{0', ALL],
    ['netmap:pipe{in', 'pipe{in', ALL],
    ['netmap:pipe{in-7', 'pipe{in', ONE, 7],
    ['vale0:0{0', 'vale0:0{0', ALL],
    ['netmap:pipe{1}2'],
    ['vale0:0/Tx@conf=2', 'vale0:0', ALL, 0, R.NR_TX_RINGS_ONLY | R.NR_EXCLUSIVE],
    ['vale0:0-3@conf=2', 'vale0:0', ONE, 3],
    ['vale0:0@'],
    [''],
  ];
  test('nmreq_parsing', () => {
    for (const [text, name, mode, ringId = 0, flags = 0] of table) {
      if (name === undefined) assert.throws(() => parsePortName(text), { code: 'EINVAL' }, text);
      else {
        const read = parsePortName(text);
        assert.deepEqual([read.name, read.mode, read.ringId, read.flags], [name, mode, ringId, flags], text);
      }
    }
    // one name that netmap refuses is one here: Linux has interfaces that end in a hyphen
    assert.equal(parsePortName('netmap:eth0-').name, 'eth0-');
  });

  test('binarycomp: the layout of a ring', () => {
    const { NR_BUF_OFS, NR_NUM_SLOTS, NR_BUF_SIZE, NR_RINGID, NR_DIR, NR_HEAD, NR_CUR, NR_TAIL, NR_FLAGS, NR_TS } = abi;
    assert.deepEqual(
      [NR_BUF_OFS, NR_NUM_SLOTS, NR_BUF_SIZE, NR_RINGID, NR_DIR, NR_HEAD, NR_CUR, NR_TAIL, NR_FLAGS, NR_TS],
      [0, 8, 12, 16, 18, 20, 24, 28, 32, 40],
    );
    assert.deepEqual([abi.NR_SEM, abi.NR_SLOTS, abi.SLOT_BYTES], [128, 256, 16]);
    assert.deepEqual([abi.SLOT_BUF_IDX, abi.SLOT_LEN, abi.SLOT_FLAGS, abi.SLOT_PTR], [0, 4, 6, 8]);
    assert.deepEqual([abi.ATOK_BYTES, abi.KTOA_BYTES], [64, 64]);
  });
});
