/**
 * The vhost-user protocol as numbers: requests, header, flags, features, payload layouts.
 *
 * Source: "Vhost-user Protocol", docs/interop/vhost-user.rst of QEMU; section names are quoted from it.
 * Constants keep the specification's names. All numbers are in the byte order of the machine, which
 * on every machine netbe runs on is little-endian.
 */

// ---- "Header" ----

/** bytes of request, flags and size, 32 bits each */
export const HEADER_BYTES = 12;
/** lower two bits of flags: the version */
export const VHOST_USER_VERSION_MASK = 0x3;
export const VHOST_USER_VERSION = 0x1;
/** set on each reply from the back-end */
export const VHOST_USER_REPLY_MASK = 0x4;
/** REPLY_ACK: the sender wants to know how it went */
export const VHOST_USER_NEED_REPLY_MASK = 0x8;

// ---- "Protocol features": bit numbers ----

export const VHOST_USER_PROTOCOL_F_MQ = 0;
export const VHOST_USER_PROTOCOL_F_LOG_SHMFD = 1;
export const VHOST_USER_PROTOCOL_F_RARP = 2;
export const VHOST_USER_PROTOCOL_F_REPLY_ACK = 3;
export const VHOST_USER_PROTOCOL_F_NET_MTU = 4;
export const VHOST_USER_PROTOCOL_F_BACKEND_REQ = 5;
export const VHOST_USER_PROTOCOL_F_CROSS_ENDIAN = 6;
export const VHOST_USER_PROTOCOL_F_CRYPTO_SESSION = 7;
export const VHOST_USER_PROTOCOL_F_PAGEFAULT = 8;
export const VHOST_USER_PROTOCOL_F_CONFIG = 9;
export const VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD = 10;
export const VHOST_USER_PROTOCOL_F_HOST_NOTIFIER = 11;
export const VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD = 12;
export const VHOST_USER_PROTOCOL_F_RESET_DEVICE = 13;
export const VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS = 14;
export const VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS = 15;
export const VHOST_USER_PROTOCOL_F_STATUS = 16;

/**
 * What netbe offers. MQ would mean several pairs of queues; LOG_SHMFD live migration;
 * INBAND_NOTIFICATIONS is served, but offered only on request: user-mode-linux takes it whenever it can,
 * and then waits for the answer to each kick (TCP between two guests: 1.0 instead of 2.4 Gbit/s).
 */
export const offeredProtocolFeatures =
  (1 << VHOST_USER_PROTOCOL_F_RARP) |
  (1 << VHOST_USER_PROTOCOL_F_REPLY_ACK) |
  (1 << VHOST_USER_PROTOCOL_F_NET_MTU) |
  (1 << VHOST_USER_PROTOCOL_F_BACKEND_REQ) |
  (1 << VHOST_USER_PROTOCOL_F_CONFIG) |
  (1 << VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD) |
  (1 << VHOST_USER_PROTOCOL_F_RESET_DEVICE) |
  (1 << VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) |
  (1 << VHOST_USER_PROTOCOL_F_STATUS);

const protocolFeatureBits = {
  MQ: VHOST_USER_PROTOCOL_F_MQ,
  LOG_SHMFD: VHOST_USER_PROTOCOL_F_LOG_SHMFD,
  RARP: VHOST_USER_PROTOCOL_F_RARP,
  REPLY_ACK: VHOST_USER_PROTOCOL_F_REPLY_ACK,
  NET_MTU: VHOST_USER_PROTOCOL_F_NET_MTU,
  BACKEND_REQ: VHOST_USER_PROTOCOL_F_BACKEND_REQ,
  CROSS_ENDIAN: VHOST_USER_PROTOCOL_F_CROSS_ENDIAN,
  CRYPTO_SESSION: VHOST_USER_PROTOCOL_F_CRYPTO_SESSION,
  PAGEFAULT: VHOST_USER_PROTOCOL_F_PAGEFAULT,
  CONFIG: VHOST_USER_PROTOCOL_F_CONFIG,
  BACKEND_SEND_FD: VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD,
  HOST_NOTIFIER: VHOST_USER_PROTOCOL_F_HOST_NOTIFIER,
  INFLIGHT_SHMFD: VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD,
  RESET_DEVICE: VHOST_USER_PROTOCOL_F_RESET_DEVICE,
  INBAND_NOTIFICATIONS: VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS,
  CONFIGURE_MEM_SLOTS: VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS,
  STATUS: VHOST_USER_PROTOCOL_F_STATUS,
} as const;

/** Names of the protocol features set in `features`, without the common prefix. */
export function protocolFeatureNames(features: number): string[] {
  return Object.entries(protocolFeatureBits)
    .filter(([, bit]) => (features & (1 << bit)) !== 0)
    .map(([name]) => name);
}

/** "Communication": the virtio feature bit that says that protocol features exist */
export const VHOST_USER_F_PROTOCOL_FEATURES = 1n << 30n;

// ---- "Front-end message types" ----

export const VHOST_USER_GET_FEATURES = 1;
export const VHOST_USER_SET_FEATURES = 2;
export const VHOST_USER_SET_OWNER = 3;
export const VHOST_USER_RESET_OWNER = 4;
export const VHOST_USER_SET_MEM_TABLE = 5;
export const VHOST_USER_SET_LOG_BASE = 6;
export const VHOST_USER_SET_LOG_FD = 7;
export const VHOST_USER_SET_VRING_NUM = 8;
export const VHOST_USER_SET_VRING_ADDR = 9;
export const VHOST_USER_SET_VRING_BASE = 10;
export const VHOST_USER_GET_VRING_BASE = 11;
export const VHOST_USER_SET_VRING_KICK = 12;
export const VHOST_USER_SET_VRING_CALL = 13;
export const VHOST_USER_SET_VRING_ERR = 14;
export const VHOST_USER_GET_PROTOCOL_FEATURES = 15;
export const VHOST_USER_SET_PROTOCOL_FEATURES = 16;
export const VHOST_USER_GET_QUEUE_NUM = 17;
export const VHOST_USER_SET_VRING_ENABLE = 18;
export const VHOST_USER_SEND_RARP = 19;
export const VHOST_USER_NET_SET_MTU = 20;
export const VHOST_USER_SET_BACKEND_REQ_FD = 21;
export const VHOST_USER_IOTLB_MSG = 22;
export const VHOST_USER_SET_VRING_ENDIAN = 23;
export const VHOST_USER_GET_CONFIG = 24;
export const VHOST_USER_SET_CONFIG = 25;
export const VHOST_USER_CREATE_CRYPTO_SESSION = 26;
export const VHOST_USER_CLOSE_CRYPTO_SESSION = 27;
export const VHOST_USER_POSTCOPY_ADVISE = 28;
export const VHOST_USER_POSTCOPY_LISTEN = 29;
export const VHOST_USER_POSTCOPY_END = 30;
export const VHOST_USER_GET_INFLIGHT_FD = 31;
export const VHOST_USER_SET_INFLIGHT_FD = 32;
export const VHOST_USER_GPU_SET_SOCKET = 33;
export const VHOST_USER_RESET_DEVICE = 34;
export const VHOST_USER_VRING_KICK = 35;
export const VHOST_USER_GET_MAX_MEM_SLOTS = 36;
export const VHOST_USER_ADD_MEM_REG = 37;
export const VHOST_USER_REM_MEM_REG = 38;
export const VHOST_USER_SET_STATUS = 39;
export const VHOST_USER_GET_STATUS = 40;
export const VHOST_USER_GET_SHARED_OBJECT = 41;
export const VHOST_USER_SET_DEVICE_STATE_FD = 42;
export const VHOST_USER_CHECK_DEVICE_STATE = 43;

// ---- "Back-end message types" ----

export const VHOST_USER_BACKEND_CONFIG_CHANGE_MSG = 2;
export const VHOST_USER_BACKEND_VRING_CALL = 4;
export const VHOST_USER_BACKEND_VRING_ERR = 5;

// ---- "Payload": bytes and offsets ----

export const U64_BYTES = 8;
/** "A vring state description": index 0, num 4 */
export const VRING_STATE_BYTES = 8;
/** "A vring address description": index 0, flags 4, descriptor 8, used 16, available 24, log 32 */
export const VRING_ADDR_BYTES = 40;
/** flags of a vring address description: log writes to the used ring (live migration) */
export const VHOST_VRING_F_LOG = 1;
/** SET_VRING_KICK, CALL and ERR: the ring's index */
export const VHOST_USER_VRING_IDX_MASK = 0xff;
/** SET_VRING_KICK, CALL and ERR: no descriptor comes with the message */
export const VHOST_USER_VRING_NOFD_MASK = 0x100;
/** A region of "Memory regions description": guest address 0, size 8, user address 16, mmap offset 24 */
export const MEMORY_REGION_BYTES = 32;
/** "Memory regions description": number of regions 0, padding 4, then the regions */
export const MEMORY_TABLE_HEADER_BYTES = 8;
export const VHOST_MEMORY_BASELINE_NREGIONS = 8;
/** "Single memory region description": 64 bits of padding, then the region */
export const SINGLE_REGION_BYTES = 8 + MEMORY_REGION_BYTES;
/** "Virtio device config space": offset 0, size 4, flags 8, then the bytes */
export const CONFIG_HEADER_BYTES = 12;
export const VHOST_USER_MAX_CONFIG_SIZE = 256;
/** flags of SET_CONFIG: 0 a write of the driver, 1 live migration */
export const VHOST_SET_CONFIG_TYPE_MIGRATION = 1;
/** "Inflight description": mmap size 0, mmap offset 8, number of queues 16, queue size 18; C pads it to 24 */
export const INFLIGHT_BYTES = 20;
export const INFLIGHT_PADDED_BYTES = 24;

/** Longest payload that is read at all: longer than any of the specification's messages for a network card. */
export const MAX_PAYLOAD_BYTES = 4096;
/** Most descriptors in one message: a memory table's */
export const MAX_FDS = VHOST_MEMORY_BASELINE_NREGIONS;

/** What a request must look like, and what it is answered with. */
export interface RequestRule {
  /** the specification's name without VHOST_USER_ */
  readonly name: string;
  /** least and most bytes of payload */
  readonly payload: readonly [number, number];
  /** least and most descriptors */
  readonly fds: readonly [number, number];
  /** has an answer of its own, whether or not need_reply is set */
  readonly replies: boolean;
  /** protocol feature (bit number) without which it is not allowed */
  readonly needs: number | undefined;
}

const none = [0, 0] as const;
const one = [1, 1] as const;
const upToOne = [0, 1] as const;
const u64 = [U64_BYTES, U64_BYTES] as const;
const state = [VRING_STATE_BYTES, VRING_STATE_BYTES] as const;
const region = [SINGLE_REGION_BYTES, SINGLE_REGION_BYTES] as const;
const inflight = [INFLIGHT_BYTES, INFLIGHT_PADDED_BYTES] as const;
const config = [CONFIG_HEADER_BYTES, CONFIG_HEADER_BYTES + VHOST_USER_MAX_CONFIG_SIZE] as const;
// user-mode-linux sends room for regions that it does not have
const memoryTable = [
  MEMORY_TABLE_HEADER_BYTES,
  MEMORY_TABLE_HEADER_BYTES + VHOST_MEMORY_BASELINE_NREGIONS * MEMORY_REGION_BYTES,
] as const;

function tell(name: string, payload: RequestRule['payload'], fds: RequestRule['fds'] = none, needs?: number) {
  return { name, payload, fds, needs, replies: false };
}

function ask(name: string, payload: RequestRule['payload'], needs?: number, fds: RequestRule['fds'] = none) {
  return { name, payload, fds, needs, replies: true };
}

/** Every request that netbe serves. What is missing belongs to a feature that it does not offer. */
export const requestRules: ReadonlyMap<number, RequestRule> = new Map<number, RequestRule>([
  [VHOST_USER_GET_FEATURES, ask('GET_FEATURES', none)],
  [VHOST_USER_SET_FEATURES, tell('SET_FEATURES', u64)],
  [VHOST_USER_SET_OWNER, tell('SET_OWNER', none)],
  [VHOST_USER_RESET_OWNER, tell('RESET_OWNER', none)],
  [VHOST_USER_SET_MEM_TABLE, tell('SET_MEM_TABLE', memoryTable, [0, MAX_FDS])],
  [VHOST_USER_SET_VRING_NUM, tell('SET_VRING_NUM', state)],
  [VHOST_USER_SET_VRING_ADDR, tell('SET_VRING_ADDR', [VRING_ADDR_BYTES, VRING_ADDR_BYTES])],
  [VHOST_USER_SET_VRING_BASE, tell('SET_VRING_BASE', state)],
  [VHOST_USER_GET_VRING_BASE, ask('GET_VRING_BASE', state)],
  [VHOST_USER_SET_VRING_KICK, tell('SET_VRING_KICK', u64, upToOne)],
  [VHOST_USER_SET_VRING_CALL, tell('SET_VRING_CALL', u64, upToOne)],
  [VHOST_USER_SET_VRING_ERR, tell('SET_VRING_ERR', u64, upToOne)],
  [VHOST_USER_GET_PROTOCOL_FEATURES, ask('GET_PROTOCOL_FEATURES', none)],
  [VHOST_USER_SET_PROTOCOL_FEATURES, tell('SET_PROTOCOL_FEATURES', u64)],
  [VHOST_USER_GET_QUEUE_NUM, ask('GET_QUEUE_NUM', none, VHOST_USER_PROTOCOL_F_MQ)],
  [VHOST_USER_SET_VRING_ENABLE, tell('SET_VRING_ENABLE', state)],
  [VHOST_USER_SEND_RARP, tell('SEND_RARP', u64, none, VHOST_USER_PROTOCOL_F_RARP)],
  [VHOST_USER_NET_SET_MTU, tell('NET_SET_MTU', u64, none, VHOST_USER_PROTOCOL_F_NET_MTU)],
  [VHOST_USER_SET_BACKEND_REQ_FD, tell('SET_BACKEND_REQ_FD', [0, 8], one, VHOST_USER_PROTOCOL_F_BACKEND_REQ)],
  [VHOST_USER_GET_CONFIG, ask('GET_CONFIG', config, VHOST_USER_PROTOCOL_F_CONFIG)],
  [VHOST_USER_SET_CONFIG, tell('SET_CONFIG', config, none, VHOST_USER_PROTOCOL_F_CONFIG)],
  [VHOST_USER_GET_INFLIGHT_FD, ask('GET_INFLIGHT_FD', inflight, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD)],
  [VHOST_USER_SET_INFLIGHT_FD, tell('SET_INFLIGHT_FD', inflight, one, VHOST_USER_PROTOCOL_F_INFLIGHT_SHMFD)],
  [VHOST_USER_RESET_DEVICE, tell('RESET_DEVICE', none, none, VHOST_USER_PROTOCOL_F_RESET_DEVICE)],
  [VHOST_USER_VRING_KICK, tell('VRING_KICK', state, none, VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS)],
  [VHOST_USER_GET_MAX_MEM_SLOTS, ask('GET_MAX_MEM_SLOTS', none, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)],
  [VHOST_USER_ADD_MEM_REG, tell('ADD_MEM_REG', region, one, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)],
  // "the back-end MAY accept messages with one file descriptor": some front-ends send it back
  [VHOST_USER_REM_MEM_REG, tell('REM_MEM_REG', region, upToOne, VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS)],
  [VHOST_USER_SET_STATUS, tell('SET_STATUS', u64, none, VHOST_USER_PROTOCOL_F_STATUS)],
  [VHOST_USER_GET_STATUS, ask('GET_STATUS', none, VHOST_USER_PROTOCOL_F_STATUS)],
]);

/** Requests of features that are not offered: named in messages, refused. */
const unsupportedNames: ReadonlyMap<number, string> = new Map([
  [VHOST_USER_SET_LOG_BASE, 'SET_LOG_BASE'],
  [VHOST_USER_SET_LOG_FD, 'SET_LOG_FD'],
  [VHOST_USER_IOTLB_MSG, 'IOTLB_MSG'],
  [VHOST_USER_SET_VRING_ENDIAN, 'SET_VRING_ENDIAN'],
  [VHOST_USER_CREATE_CRYPTO_SESSION, 'CREATE_CRYPTO_SESSION'],
  [VHOST_USER_CLOSE_CRYPTO_SESSION, 'CLOSE_CRYPTO_SESSION'],
  [VHOST_USER_POSTCOPY_ADVISE, 'POSTCOPY_ADVISE'],
  [VHOST_USER_POSTCOPY_LISTEN, 'POSTCOPY_LISTEN'],
  [VHOST_USER_POSTCOPY_END, 'POSTCOPY_END'],
  [VHOST_USER_GPU_SET_SOCKET, 'GPU_SET_SOCKET'],
  [VHOST_USER_GET_SHARED_OBJECT, 'GET_SHARED_OBJECT'],
  [VHOST_USER_SET_DEVICE_STATE_FD, 'SET_DEVICE_STATE_FD'],
  [VHOST_USER_CHECK_DEVICE_STATE, 'CHECK_DEVICE_STATE'],
]);

/** Name of a request for people, without VHOST_USER_. */
export function requestName(request: number): string {
  return requestRules.get(request)?.name ?? unsupportedNames.get(request) ?? `request ${request}`;
}
