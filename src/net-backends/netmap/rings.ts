/** A netmap port by its rings, as a backend: pipe ends, persistent ports, single rings, monitors. */
import { netmapOf } from '../../netmap/netmap.js';
import type { NetmapPortName } from '../../netmap/port-name.js';
import { RingLink } from '../../netmap/ring-link.js';
import { receiveOffloads, sendOffloads } from '../../wire/vnet-header.js';
import { type BackendOpen, checkVnetHdrLen, type NetBackend } from '../net-backend.js';
import { SOFTWARE_OFFLOADS } from '../offload-features.js';

class NetmapRings extends RingLink implements NetBackend {
  /** As the seed: all or nothing. */
  getCap(): bigint {
    return this.takesHeader() ? SOFTWARE_OFFLOADS : 0n;
  }

  setCap(features: bigint, vnetHdrLen: number): boolean {
    return this.setHeader(checkVnetHdrLen(vnetHdrLen, this.name), sendOffloads(features), receiveOffloads(features));
  }
}

export interface PortSizes {
  /** of each ring; undefined: as many as the port that a pipe belongs to has */
  slots?: number | undefined;
  rings: number;
}

export function openPortRings(
  { runtime, device, onReceive }: BackendOpen,
  name: NetmapPortName,
  { slots, rings }: PortSizes,
): NetBackend {
  const sizes = { txRings: rings, rxRings: rings, ...(slots === undefined ? {} : { txSlots: slots, rxSlots: slots }) };
  const openPort = (onReady: () => void) => netmapOf(runtime).open(name, { ...sizes, onReady });
  return new NetmapRings({ runtime, name: device, openPort, onReceive });
}
