/**
 * The contract between a frontend and what it is plugged into (struct net_backend of bhyve).
 *
 * A frame crosses it as an Iovec: `vnetHdrLen` bytes of virtio-net header, then the Ethernet frame
 * without its frame check sequence. All calls are made on the fabric's thread.
 *
 * Set-up (open, setCap) throws NetbeError. The data path (send, flush, peekRecvLen, recv, rxDiscard)
 * never throws and never allocates: it returns lengths, 0, or a negative errno. The three calls with
 * Burst or recvReady in their names are optional, for backends that can do better than a frame a call.
 */
import type { Runtime } from '../engine/runtime.js';
import { usageError } from '../errors.js';
import type { Burst } from '../memory/burst.js';
import type { Iovec } from '../memory/iovec.js';
import type { VnetHdrLen } from '../wire/vnet-header.js';

/** The longest frame any backend may hand over (rxDiscard takes this much). */
export { MAX_FRAME_LEN } from '../wire/ethernet.js';
export type { VnetHdrLen };

/**
 * Called when frames wait and receive is enabled, at least once for each burst, and again on
 * recvEnable if frames wait. The frontend drains with peekRecvLen and recv until 0, or disables.
 */
export type ReceiveCallback = () => void;

export interface NetBackend {
  /** the device string it was opened with, for instance "vale0:vm1" */
  readonly name: string;
  /** header length the backend expects; 0 means that the frontend strips and prepends its own */
  readonly vnetHdrLen: VnetHdrLen;

  /**
   * Sends one frame, gathered from `iov`. Returns the bytes taken, 0 when the backend is full, or
   * -errno. The memory must stay as it is until flush(): the frame may be read only then.
   */
  send(iov: Iovec): number;

  /**
   * Sends frames of a burst, entries `from` to `count`, as send() would one by one. Returns how many
   * it took, from the first on: it stops at one that needs send(), for instance because of an offload.
   */
  sendBurst?(burst: Burst, from: number, count: number): number;

  /** End of a burst: everything sent so far is read, delivered or queued when this returns. */
  flush(): void;

  /** Bytes of the next frame, header included; 0 when there is none. Never blocks. */
  peekRecvLen(): number;

  /**
   * Takes one frame, scattered over `iov`. Returns its length; 0 when there is none; -ENOSPC when
   * `iov` is too short: then the frame is consumed and counted as rx_no_space.
   */
  recv(iov: Iovec): number;

  /** How many frames recvBurst might hand over now; 0 when the next one needs recv(). */
  recvReady?(): number;

  /**
   * Takes frames, one into each of the first `count` buffers of the burst, whose `done` becomes the
   * frame's length. Returns how many: it stops at a frame that needs recv().
   */
  recvBurst?(burst: Burst, count: number): number;

  /** Drops the next frame, counted as rx_discarded. Returns its length, 0 when there is none. */
  rxDiscard(): number;

  /** Allows the receive callback; calls it at once if frames wait. Receive starts disabled. */
  recvEnable(): void;

  /** On return, and until recvEnable, the receive callback is not called. */
  recvDisable(): void;

  /** The virtio-net feature bits (VirtIO 1.2 §5.1.3) that this backend can honour, probed. */
  getCap(): bigint;

  /**
   * Agrees on features and header length with the frontend. Returns false when the backend cannot
   * (then vnetHdrLen stays 0 and the frontend converts). Throws EINVAL for a length other than
   * 0, 10 and 12. Afterwards vnetHdrLen is 0 or `vnetHdrLen`.
   */
  setCap(features: bigint, vnetHdrLen: number): boolean;

  /** What people ask about this end, for show and the control API: plain values by name. */
  status?(): BackendStatus;

  /** Releases everything, also after a failed or half-done open. Idempotent. */
  close(): void;
}

export type BackendStatus = Readonly<Record<string, string | number | boolean>>;

/** One option of a backend, for parsing, help and documentation. */
export interface BackendOption {
  name: string;
  /** what a value looks like, for help: "N", "on|off", "PATH" */
  value: string;
  summary: string;
  default?: string;
  required?: boolean;
  /** what is said when a required one is missing (default: "NAME must be provided") */
  missing?: string;
}

/**
 * What a backend needs of the system while it runs, besides memory, time and descriptors. The sandbox of
 * `netbe run` (docs/sandbox.md) leaves it that and no more; `{}` is a backend that needs nothing.
 */
export interface BackendNeeds {
  /** names of capabilities: "CAP_NET_ADMIN" */
  capabilities?: readonly string[];
  /** devices and files that it opens to read and write, or folders of them */
  devices?: readonly string[];
  /** folders in which it makes unix sockets */
  socketFolders?: readonly string[];
  /** files and folders that it reads */
  reads?: readonly string[];
  /** address families of its sockets, by number: 2 for AF_INET */
  socketFamilies?: readonly number[];
  /** it listens on TCP ports, or connects to them */
  tcp?: boolean;
  /** system calls that the sandbox refuses otherwise: "connect", "io_uring_setup", "bpf" */
  syscalls?: readonly string[];
}

/** What a backend's file exports: one of these, listed in registry.ts. */
export interface NetBackendType {
  /** device names start with it, followed by a digit, a colon or the end */
  readonly prefix: string;
  /** letters and underscores, too, may stand between the prefix and the colon ("valeLab:vm1") */
  readonly hasIdentifier?: boolean;
  readonly summary: string;
  /** an example device name, for help and for the conformance suite's title */
  readonly example: string;
  readonly options: readonly BackendOption[];
  /** false: may be opened without a receive callback (send only) */
  readonly needsReceive: boolean;
  /** What it needs for a device with these options. Left out: unknown, and `netbe run` has no sandbox with it. */
  needs?(device: string, options: ReadonlyMap<string, string>): BackendNeeds;
  open(request: BackendOpen): NetBackend;
}

export interface BackendOpen {
  readonly runtime: Runtime;
  /** the device string up to the first comma */
  readonly device: string;
  /** parsed and checked against `options` */
  readonly options: ReadonlyMap<string, string>;
  readonly onReceive: ReceiveCallback | undefined;
  /** name under which counters are kept: that of the NIC, or of the patch's end */
  readonly subject: string;
}

/** `length` as a VnetHdrLen. Throws EINVAL for anything but 0, 10 and 12. */
export function checkVnetHdrLen(length: number, subject: string): VnetHdrLen {
  if (length !== 0 && length !== 10 && length !== 12)
    throw usageError(
      `${subject}: a virtio-net header of ${length} bytes was asked for: allowed are 0, 10 and 12`,
      subject,
    );
  return length;
}
