/** Every offload that netbe does in software where the other end has not negotiated it (VirtIO 1.2 §5.1.3). */
import * as F from '../wire/virtio-features.js';

export const SOFTWARE_OFFLOADS =
  F.VIRTIO_NET_F_CSUM |
  F.VIRTIO_NET_F_GUEST_CSUM |
  F.VIRTIO_NET_F_GUEST_TSO4 |
  F.VIRTIO_NET_F_GUEST_TSO6 |
  F.VIRTIO_NET_F_GUEST_ECN |
  F.VIRTIO_NET_F_GUEST_UFO |
  F.VIRTIO_NET_F_HOST_TSO4 |
  F.VIRTIO_NET_F_HOST_TSO6 |
  F.VIRTIO_NET_F_HOST_ECN |
  F.VIRTIO_NET_F_HOST_UFO |
  F.VIRTIO_NET_F_GUEST_USO4 |
  F.VIRTIO_NET_F_GUEST_USO6 |
  F.VIRTIO_NET_F_HOST_USO;
