/** What the kernel leaves to the reader of a tap (TUNSETOFFLOAD), in terms of the virtio-net features. */
import {
  TUN_F_CSUM,
  TUN_F_TSO_ECN,
  TUN_F_TSO4,
  TUN_F_TSO6,
  TUN_F_UFO,
  TUN_F_USO4,
  TUN_F_USO6,
  tunSetOffload,
} from '../../sys/tun.js';
import * as F from '../../wire/virtio-features.js';

/** TUN_F_* by what a driver receives; without its checksums nothing else is allowed. */
const tunFlags: readonly (readonly [guest: bigint, flag: number])[] = [
  [F.VIRTIO_NET_F_GUEST_CSUM, TUN_F_CSUM],
  [F.VIRTIO_NET_F_GUEST_TSO4, TUN_F_TSO4],
  [F.VIRTIO_NET_F_GUEST_TSO6, TUN_F_TSO6],
  [F.VIRTIO_NET_F_GUEST_ECN, TUN_F_TSO_ECN],
  [F.VIRTIO_NET_F_GUEST_UFO, TUN_F_UFO],
  // the kernel takes both or none
  [F.VIRTIO_NET_F_GUEST_USO4 | F.VIRTIO_NET_F_GUEST_USO6, TUN_F_USO4 | TUN_F_USO6],
];

/** Features that belong together: if the kernel knows the flag, both directions work. */
const probes: readonly (readonly [flags: number, features: bigint])[] = [
  [
    TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6,
    F.VIRTIO_NET_F_CSUM |
      F.VIRTIO_NET_F_GUEST_CSUM |
      F.VIRTIO_NET_F_HOST_TSO4 |
      F.VIRTIO_NET_F_GUEST_TSO4 |
      F.VIRTIO_NET_F_HOST_TSO6 |
      F.VIRTIO_NET_F_GUEST_TSO6,
  ],
  [TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO_ECN, F.VIRTIO_NET_F_HOST_ECN | F.VIRTIO_NET_F_GUEST_ECN],
  [TUN_F_CSUM | TUN_F_UFO, F.VIRTIO_NET_F_HOST_UFO | F.VIRTIO_NET_F_GUEST_UFO],
  [
    TUN_F_CSUM | TUN_F_USO4 | TUN_F_USO6,
    F.VIRTIO_NET_F_HOST_USO | F.VIRTIO_NET_F_GUEST_USO4 | F.VIRTIO_NET_F_GUEST_USO6,
  ],
];

/** The features that the kernel honours on this tap. Leaves it with no offload. */
export function probeFeatures(fd: number): bigint {
  let features = 0n;
  for (const [flags, wanted] of probes) if (tunSetOffload(fd, flags)) features |= wanted;
  tunSetOffload(fd, 0);
  return features;
}

/** Lets the kernel leave to the reader what a driver with these features takes unfinished. */
export function setOffloads(fd: number, features: bigint): void {
  const flags = tunFlags.reduce((mask, [guest, flag]) => ((features & guest) === guest ? mask | flag : mask), 0);
  tunSetOffload(fd, flags & TUN_F_CSUM ? flags : 0);
}
