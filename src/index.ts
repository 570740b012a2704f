/**
 * What netbe offers to programs. `Fabric` runs NICs and switches; `NetBackend` is the contract for
 * backends of one's own, and `FrameBackend` the short way to one.
 */
export type { CaptureOptions } from './control/capture-stream.js';
export { Fabric, type FabricEvents, type FabricStartOptions } from './control/fabric.js';
export type {
  Counters,
  DeviceInfo,
  Emulation,
  FabricControl,
  FabricInfo,
  FabricOptions,
  NicInfo,
  NicSpec,
  PatchInfo,
  PatchSpec,
  PollOptions,
  QueueInfo,
  SocketMode,
  SwitchInfo,
  SwitchPortInfo,
  SwitchTableEntry,
  TransportInfo,
} from './control/fabric-types.js';
export { type NmOpenOptions, nmOpen } from './control/nm-open.js';
export type { CounterPage, CounterSet } from './engine/counters.js';
export type { Mevent, MeventHandle } from './engine/mevent.js';
export type { Pollable, PollLoop } from './engine/poll-loop.js';
export type { Log, Runtime } from './engine/runtime.js';
export { NetbeError, type NetbeErrorFields, type NetbeErrorJson, type NetbeErrorKind } from './errors.js';
export { copyPiece, copyPieces } from './memory/copy.js';
export { Iovec } from './memory/iovec.js';
export type { Mapping, Window, WindowPool } from './memory/window.js';
export { FrameBackend, type FrameBackendOptions } from './net-backends/frame-backend.js';
export {
  type BackendNeeds,
  type BackendOpen,
  type BackendOption,
  checkVnetHdrLen,
  MAX_FRAME_LEN,
  type NetBackend,
  type NetBackendType,
  type ReceiveCallback,
  type VnetHdrLen,
} from './net-backends/net-backend.js';
export { NG_BURST_FRAMES, type NgBurst } from './netgraph/burst.js';
export type { Netgraph } from './netgraph/engine.js';
export type { NgHook } from './netgraph/hook.js';
export type { NgMessage } from './netgraph/message.js';
export type { NgCommand, NgMethods, NgNode, NgResult, NgType } from './netgraph/node.js';
export { array, fixedArray, struct } from './netgraph/parse/composites.js';
export { type ParseType, pack, unpack } from './netgraph/parse/parse-type.js';
export { enaddr, hookbuf, int32, string, uint8, uint16, uint32, uint64 } from './netgraph/parse/scalars.js';
export {
  NS_BUF_CHANGED,
  NS_INDIRECT,
  NS_MOREFRAG,
  NS_NO_LEARN,
  NS_REPORT,
} from './netmap/abi.js';
export type { NetmapClientPort } from './netmap/port-socket/client-port.js';
export { POLLERR, POLLIN, POLLOUT, PortPoll } from './netmap/port-socket/poll.js';
export { NetmapRing } from './netmap/ring.js';
