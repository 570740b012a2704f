/**
 * The shared memory of netmap, to the byte: struct netmap_if, netmap_ring, netmap_slot, nm_csb_atok and
 * nm_csb_ktoa of net/netmap.h (NETMAP_API 14) on a 64-bit, little-endian machine. Offsets in bytes.
 *
 * Who may write what (netmap(4)): the user owns slots [head, tail) of each ring and moves head and cur;
 * the fabric owns the rest and moves tail. In a transmit ring [head, tail) is free for new frames, in a
 * receive ring it holds frames. One slot is always the fabric's: head === tail means full (tx), empty (rx).
 */

export const NETMAP_API = 14;
export const IFNAMSIZ = 16;

// struct netmap_if
export const NI_NAME = 0;
export const NI_VERSION = 16;
export const NI_FLAGS = 20;
export const NI_TX_RINGS = 24;
export const NI_RX_RINGS = 28;
export const NI_BUFS_HEAD = 32;
export const NI_HOST_TX_RINGS = 36;
export const NI_HOST_RX_RINGS = 40;
/** ssize_t each, from the netmap_if: tx rings, host tx rings, rx rings, host rx rings; 0: not of this user */
export const NI_RING_OFS = 56;
/** ni_flags: the memory region is not the global one */
export const NI_PRIV_MEM = 1;

// struct netmap_ring
/** int64_t, from the ring to buffer 0 */
export const NR_BUF_OFS = 0;
export const NR_NUM_SLOTS = 8;
export const NR_BUF_SIZE = 12;
/** uint16_t */
export const NR_RINGID = 16;
/** uint16_t; 0: tx, 1: rx */
export const NR_DIR = 18;
export const NR_HEAD = 20;
export const NR_CUR = 24;
export const NR_TAIL = 28;
export const NR_FLAGS = 32;
/** struct timeval: seconds and microseconds, 64 bits each */
export const NR_TS = 40;
/** room for a lock of the users' own */
export const NR_SEM = 128;
export const NR_SLOTS = 256;

export const NR_TX = 0;
export const NR_RX = 1;

// flags of a ring
/** set ts at each sync */
export const NR_TIMESTAMP = 0x2;
/** NS_FORWARD is heeded */
export const NR_FORWARD = 0x4;

// struct netmap_slot
export const SLOT_BYTES = 16;
export const SLOT_BUF_IDX = 0;
/** uint16_t */
export const SLOT_LEN = 4;
/** uint16_t */
export const SLOT_FLAGS = 6;
/** uint64_t */
export const SLOT_PTR = 8;

// flags of a slot
/** buf_idx has been changed */
export const NS_BUF_CHANGED = 0x01;
/** say when the slot has been sent */
export const NS_REPORT = 0x02;
/** hand the frame on to the host's rings, or from there to the interface */
export const NS_FORWARD = 0x04;
/** do not learn the source address */
export const NS_NO_LEARN = 0x08;
/** the data is where `ptr` says */
export const NS_INDIRECT = 0x10;
/** the frame goes on in the next slot */
export const NS_MOREFRAG = 0x20;
/** in a monitor's ring: the frame was transmitted by the monitored port */
export const NS_TXMON = 0x40;
/** transmit: port of the switch to send to, 0 by the table; receive: number of slots of the frame */
export const NS_PORT_SHIFT = 8;
export const NS_PORT_MASK = 0xff00;

/** slots of one frame at most */
export const NETMAP_MAX_FRAGS = 64;

/** rings each way at most, and slots of a ring (NM_BDG_MAXRINGS, NM_BRIDGE_RINGSIZE's limit) */
export const MAX_RINGS = 16;
export const MIN_SLOTS = 2;
export const MAX_SLOTS = 4096;
export const DEFAULT_SLOTS = 1024;
export const DEFAULT_BUF_SIZE = 2048;

/** buffers 0 and 1 belong to nobody: an index below this is not valid in a slot */
export const FIRST_BUF_IDX = 2;

// struct nm_csb_atok: written by the application
export const ATOK_BYTES = 64;
export const ATOK_HEAD = 0;
export const ATOK_CUR = 4;
export const ATOK_APPL_NEED_KICK = 8;
export const ATOK_SYNC_FLAGS = 12;

// struct nm_csb_ktoa: written by the fabric
export const KTOA_BYTES = 64;
export const KTOA_HWCUR = 0;
export const KTOA_HWTAIL = 4;
export const KTOA_KERN_NEED_KICK = 8;
