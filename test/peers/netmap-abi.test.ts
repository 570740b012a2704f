/** The layout of netmap's shared memory, against what a C compiler makes of the same structures. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import * as abi from '../../src/netmap/abi.js';
import { tempDir } from '../support/temp-dir.js';

// struct members as net/netmap.h declares them: type and name
const structs = {
  netmap_slot: ['uint32_t buf_idx', 'uint16_t len', 'uint16_t flags', 'uint64_t ptr'],
  netmap_ring: [
    'int64_t buf_ofs',
    'uint32_t num_slots',
    'uint32_t nr_buf_size',
    'uint16_t ringid',
    'uint16_t dir',
    'uint32_t head',
    'uint32_t cur',
    'uint32_t tail',
    'uint32_t flags',
    'struct timeval ts',
    '__attribute__((__aligned__(128))) uint8_t sem[128]',
    'struct netmap_slot slot[0]',
  ],
  netmap_if: [
    'char ni_name[16]',
    'uint32_t ni_version',
    'uint32_t ni_flags',
    'uint32_t ni_tx_rings',
    'uint32_t ni_rx_rings',
    'uint32_t ni_bufs_head',
    'uint32_t ni_host_tx_rings',
    'uint32_t ni_host_rx_rings',
    'uint32_t ni_spare1[3]',
    'ssize_t ring_ofs[0]',
  ],
  nm_csb_atok: ['uint32_t head', 'uint32_t cur', 'uint32_t appl_need_kick', 'uint32_t sync_flags', 'uint32_t pad[12]'],
  nm_csb_ktoa: ['uint32_t hwcur', 'uint32_t hwtail', 'uint32_t kern_need_kick', 'uint32_t pad[13]'],
};

const expected: Record<string, number> = {
  'netmap_slot.buf_idx': abi.SLOT_BUF_IDX,
  'netmap_slot.len': abi.SLOT_LEN,
  'netmap_slot.flags': abi.SLOT_FLAGS,
  'netmap_slot.ptr': abi.SLOT_PTR,
  netmap_slot: abi.SLOT_BYTES,
  'netmap_ring.buf_ofs': abi.NR_BUF_OFS,
  'netmap_ring.num_slots': abi.NR_NUM_SLOTS,
  'netmap_ring.nr_buf_size': abi.NR_BUF_SIZE,
  'netmap_ring.ringid': abi.NR_RINGID,
  'netmap_ring.dir': abi.NR_DIR,
  'netmap_ring.head': abi.NR_HEAD,
  'netmap_ring.cur': abi.NR_CUR,
  'netmap_ring.tail': abi.NR_TAIL,
  'netmap_ring.flags': abi.NR_FLAGS,
  'netmap_ring.ts': abi.NR_TS,
  'netmap_ring.sem': abi.NR_SEM,
  'netmap_ring.slot': abi.NR_SLOTS,
  netmap_ring: abi.NR_SLOTS,
  'netmap_if.ni_name': abi.NI_NAME,
  'netmap_if.ni_version': abi.NI_VERSION,
  'netmap_if.ni_flags': abi.NI_FLAGS,
  'netmap_if.ni_tx_rings': abi.NI_TX_RINGS,
  'netmap_if.ni_rx_rings': abi.NI_RX_RINGS,
  'netmap_if.ni_bufs_head': abi.NI_BUFS_HEAD,
  'netmap_if.ni_host_tx_rings': abi.NI_HOST_TX_RINGS,
  'netmap_if.ni_host_rx_rings': abi.NI_HOST_RX_RINGS,
  'netmap_if.ring_ofs': abi.NI_RING_OFS,
  'nm_csb_atok.head': abi.ATOK_HEAD,
  'nm_csb_atok.cur': abi.ATOK_CUR,
  'nm_csb_atok.appl_need_kick': abi.ATOK_APPL_NEED_KICK,
  'nm_csb_atok.sync_flags': abi.ATOK_SYNC_FLAGS,
  nm_csb_atok: abi.ATOK_BYTES,
  'nm_csb_ktoa.hwcur': abi.KTOA_HWCUR,
  'nm_csb_ktoa.hwtail': abi.KTOA_HWTAIL,
  'nm_csb_ktoa.kern_need_kick': abi.KTOA_KERN_NEED_KICK,
  nm_csb_ktoa: abi.KTOA_BYTES,
};

test('offsets and sizes are those of the C structures', (t) => {
  const dir = tempDir(t);
  const lines = ['#include <stddef.h>', '#include <stdint.h>', '#include <stdio.h>', '#include <sys/time.h>'];
  for (const [name, members] of Object.entries(structs)) lines.push(`struct ${name} { ${members.join('; ')}; };`);
  lines.push('int main(void) {');
  for (const key of Object.keys(expected)) {
    const [name = '', member] = key.split('.');
    const value = member === undefined ? `sizeof(struct ${name})` : `offsetof(struct ${name}, ${member})`;
    lines.push(`printf("${key} %zu\\n", ${value});`);
  }
  lines.push('return 0; }');
  writeFileSync(join(dir, 'layout.c'), lines.join('\n'));
  execFileSync('cc', ['-o', join(dir, 'layout'), join(dir, 'layout.c')]);
  const measured = execFileSync(join(dir, 'layout'), { encoding: 'utf8' })
    .trim()
    .split('\n')
    .map((line) => [line.split(' ')[0], Number(line.split(' ')[1])]);
  assert.deepEqual(Object.fromEntries(measured), expected);
});
