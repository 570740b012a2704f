/** What a fabric needs of the device model of a NIC, whatever transport carries it to a guest. */
import type { BackendStatus, NetBackend, VnetHdrLen } from '../net-backends/net-backend.js';

export interface NicStatus {
  mac: string;
  mtu: number | undefined;
  link: 'up' | 'down';
  /** what the driver has turned on, by the names of the device's manual or standard */
  features: string[];
  vnetHdrLen: VnetHdrLen;
  /** true when the driver left no receive buffers and frames wait */
  starved: boolean;
  /** receive, then transmit */
  queues: { size: number; started: boolean; enabled: boolean; broken: boolean; availIdx: number }[];
}

export interface NicFrontend {
  /** Takes the link up or down; the driver is told. Frames are dropped while it is down. */
  setLink(up: boolean): void;
  /** Puts a wrapper around the backend (capture), or takes it away: `wrap` gets the backend itself. */
  wrapBackend(wrap: (inner: NetBackend) => NetBackend): void;
  /** What the backend says of its other end; empty where it says nothing. */
  backendStatus(): BackendStatus;
  status(): NicStatus;
  close(): void;
}
