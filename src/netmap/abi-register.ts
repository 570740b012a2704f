/** Constants of a registration (NETMAP_REQ_REGISTER of net/netmap.h): which rings, and how. */

/** nr_name has room for this many bytes, NUL included */
export const NETMAP_REQ_IFNAMSIZ = 64;
export const NETMAP_RING_MASK = 0xfff;

// nr_mode
export const NR_REG_ALL_NIC = 1;
export const NR_REG_SW = 2;
export const NR_REG_NIC_SW = 3;
export const NR_REG_ONE_NIC = 4;
export const NR_REG_NULL = 7;
export const NR_REG_ONE_SW = 8;

// nr_flags
export const NR_MONITOR_TX = 0x100;
export const NR_MONITOR_RX = 0x200;
export const NR_ZCOPY_MON = 0x400;
export const NR_EXCLUSIVE = 0x800;
export const NR_RX_RINGS_ONLY = 0x2000;
export const NR_TX_RINGS_ONLY = 0x4000;
export const NR_ACCEPT_VNET_HDR = 0x8000;
