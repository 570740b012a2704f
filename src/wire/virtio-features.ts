/** Feature bits of a virtio network device (VirtIO 1.2 §5.1.3, §6), and their names. */

export const VIRTIO_NET_F_CSUM = 1n << 0n;
export const VIRTIO_NET_F_GUEST_CSUM = 1n << 1n;
export const VIRTIO_NET_F_MTU = 1n << 3n;
export const VIRTIO_NET_F_MAC = 1n << 5n;
export const VIRTIO_NET_F_GUEST_TSO4 = 1n << 7n;
export const VIRTIO_NET_F_GUEST_TSO6 = 1n << 8n;
export const VIRTIO_NET_F_GUEST_ECN = 1n << 9n;
export const VIRTIO_NET_F_GUEST_UFO = 1n << 10n;
export const VIRTIO_NET_F_HOST_TSO4 = 1n << 11n;
export const VIRTIO_NET_F_HOST_TSO6 = 1n << 12n;
export const VIRTIO_NET_F_HOST_ECN = 1n << 13n;
export const VIRTIO_NET_F_HOST_UFO = 1n << 14n;
export const VIRTIO_NET_F_MRG_RXBUF = 1n << 15n;
export const VIRTIO_NET_F_STATUS = 1n << 16n;
export const VIRTIO_F_NOTIFY_ON_EMPTY = 1n << 24n;
export const VIRTIO_F_ANY_LAYOUT = 1n << 27n;
export const VIRTIO_F_INDIRECT_DESC = 1n << 28n;
export const VIRTIO_F_EVENT_IDX = 1n << 29n;
export const VIRTIO_F_VERSION_1 = 1n << 32n;
export const VIRTIO_F_ACCESS_PLATFORM = 1n << 33n;
export const VIRTIO_NET_F_GUEST_USO4 = 1n << 54n;
export const VIRTIO_NET_F_GUEST_USO6 = 1n << 55n;
export const VIRTIO_NET_F_HOST_USO = 1n << 56n;

const names: readonly (readonly [bigint, string])[] = [
  [VIRTIO_NET_F_CSUM, 'VIRTIO_NET_F_CSUM'],
  [VIRTIO_NET_F_GUEST_CSUM, 'VIRTIO_NET_F_GUEST_CSUM'],
  [VIRTIO_NET_F_MTU, 'VIRTIO_NET_F_MTU'],
  [VIRTIO_NET_F_MAC, 'VIRTIO_NET_F_MAC'],
  [VIRTIO_NET_F_GUEST_TSO4, 'VIRTIO_NET_F_GUEST_TSO4'],
  [VIRTIO_NET_F_GUEST_TSO6, 'VIRTIO_NET_F_GUEST_TSO6'],
  [VIRTIO_NET_F_GUEST_ECN, 'VIRTIO_NET_F_GUEST_ECN'],
  [VIRTIO_NET_F_GUEST_UFO, 'VIRTIO_NET_F_GUEST_UFO'],
  [VIRTIO_NET_F_HOST_TSO4, 'VIRTIO_NET_F_HOST_TSO4'],
  [VIRTIO_NET_F_HOST_TSO6, 'VIRTIO_NET_F_HOST_TSO6'],
  [VIRTIO_NET_F_HOST_ECN, 'VIRTIO_NET_F_HOST_ECN'],
  [VIRTIO_NET_F_HOST_UFO, 'VIRTIO_NET_F_HOST_UFO'],
  [VIRTIO_NET_F_MRG_RXBUF, 'VIRTIO_NET_F_MRG_RXBUF'],
  [VIRTIO_NET_F_STATUS, 'VIRTIO_NET_F_STATUS'],
  [VIRTIO_F_NOTIFY_ON_EMPTY, 'VIRTIO_F_NOTIFY_ON_EMPTY'],
  [VIRTIO_F_ANY_LAYOUT, 'VIRTIO_F_ANY_LAYOUT'],
  [VIRTIO_F_INDIRECT_DESC, 'VIRTIO_F_INDIRECT_DESC'],
  [VIRTIO_F_EVENT_IDX, 'VIRTIO_F_EVENT_IDX'],
  [VIRTIO_F_VERSION_1, 'VIRTIO_F_VERSION_1'],
  [VIRTIO_F_ACCESS_PLATFORM, 'VIRTIO_F_ACCESS_PLATFORM'],
  [VIRTIO_NET_F_GUEST_USO4, 'VIRTIO_NET_F_GUEST_USO4'],
  [VIRTIO_NET_F_GUEST_USO6, 'VIRTIO_NET_F_GUEST_USO6'],
  [VIRTIO_NET_F_HOST_USO, 'VIRTIO_NET_F_HOST_USO'],
];

/** Names of the bits set, in the order of their numbers; "bit N" for one without a name here. */
export function featureNames(features: bigint): string[] {
  const known = names.filter(([bit]) => (features & bit) !== 0n).map(([, name]) => name);
  let rest = names.reduce((left, [bit]) => left & ~bit, features);
  for (let n = 0; rest !== 0n; n++, rest >>= 1n) if ((rest & 1n) !== 0n) known.push(`bit ${n}`);
  return known;
}
