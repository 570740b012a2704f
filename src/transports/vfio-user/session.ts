/**
 * One connection of one client: reads its messages, has each served in the order in which they came, and
 * replies. While messages come it is polled, since a guest waits for every register that it reads; when
 * none has come for a while it waits for the socket.
 *
 * A request that is wrong is refused with its errno, and the connection goes on. It ends when the framing
 * is broken, when the versions do not agree, when a request that nobody awaits a reply to is wrong (the
 * client would go on as if it had worked; but a driver's access beyond a region is only counted), and
 * when replies are not read. Either way the log says which message, which value and which rule.
 */
import type { CounterSet } from '../../engine/counters.js';
import { EVF_READ, type MeventHandle } from '../../engine/mevent.js';
import type { Pollable } from '../../engine/poll-loop.js';
import type { Runtime } from '../../engine/runtime.js';
import { NetbeError } from '../../errors.js';
import type { PciFunction } from '../../frontends/pci/pci-function.js';
import type { Fd } from '../../sys/fd.js';
import { E } from '../../sys/libc.js';
import { NativeBuffer } from '../../sys/native-buffer.js';
import { socketPair } from '../../sys/socket.js';
import { FrameReader, protocolError } from '../frame-reader.js';
import { type ConnectionEvents, faultText } from '../socket-port.js';
import { C } from './counters.js';
import { Device } from './device.js';
import { messageFormat } from './message-format.js';
import { MessageWriter, type MessageWriterOptions } from './message-writer.js';
import * as M from './messages.js';
import { requestRules } from './requests.js';
import { TwinSocket } from './twin-socket.js';
import { type Agreement, negotiate } from './version.js';

/** messages served before others get their turn */
const MESSAGES_PER_POLL = 32;
/** offset of an access's data in its message */
const ACCESS_DATA = M.HEADER_BYTES + M.REGION_ACCESS_BYTES;

export interface SessionOptions extends ConnectionEvents {
  runtime: Runtime;
  fn: PciFunction;
  counters: CounterSet;
  strictMemory: boolean;
  /** the connection's, unless the constructor throws */
  socket: Fd;
}

/** Why a request failed, and the errno to reply with. */
function errnoOf(error: unknown): number {
  if (!(error instanceof NetbeError)) return E.EIO;
  return error.errno ?? (E as Readonly<Record<string, number>>)[error.code] ?? E.EINVAL;
}

export class Session implements Pollable {
  readonly device: Device;
  readonly #options: SessionOptions;
  readonly #reader: FrameReader;
  readonly #writer: MessageWriter;
  readonly #handle: MeventHandle;
  /** replies are made here, by the longest one that there is */
  readonly #out = new NativeBuffer(M.MAX_MESSAGE_BYTES).u8;
  readonly #outView = new DataView(this.#out.buffer);
  /** the beginning of #out that a register access replies with, made once */
  readonly #short = Array.from({ length: ACCESS_DATA + 9 }, (_, n) => this.#out.subarray(0, n));
  #agreement: Agreement | undefined;
  /** takes DMA requests and their replies, if the client wants it so */
  #twin: TwinSocket | undefined;
  #serving = false;
  #closed = false;

  constructor(options: SessionOptions) {
    this.#options = options;
    const { runtime, socket } = options;
    this.#reader = new FrameReader(socket.number, messageFormat);
    this.#handle = runtime.mevent.addDisabled(socket.number, EVF_READ, () => runtime.loop.activate(this));
    this.#writer = new MessageWriter({ mevent: runtime.mevent, socket: socket.number, ...this.#writerEvents });
    try {
      this.device = new Device({
        ...options,
        dmaWriter: {
          // on one socket, the reply to the message in hand goes before what serving it asks of the guest's memory
          isBusy: () => this.#twin?.writer.busy ?? (this.#serving || this.#writer.busy),
          send: (message) => (this.#twin?.writer ?? this.#writer).send(message),
        },
      });
    } catch (error) {
      this.#handle.delete();
      this.#writer.close();
      throw error;
    }
    runtime.loop.add(this);
    runtime.loop.activate(this);
  }

  /** Capabilities in force, by name; none before VERSION. */
  get features(): readonly string[] {
    return this.#agreement?.features ?? [];
  }

  /** Detaches the function, lets go of the guest's memory and of every descriptor. Idempotent. */
  close(fault?: string): void {
    if (this.#closed) return;
    this.#closed = true;
    const { runtime, socket, onClose } = this.#options;
    runtime.loop.remove(this);
    this.#handle.delete();
    this.device.close();
    this.#twin?.close();
    this.#writer.close();
    this.#reader.close();
    socket.close();
    onClose(fault);
  }

  // ---- polling ----

  poll(): number {
    let served = 0;
    try {
      this.#writer.flush();
      while (served < MESSAGES_PER_POLL && !this.#closed) {
        const got = this.#reader.read();
        if (got === 'wait') break;
        if (got === 'closed') {
          const pending = this.#reader.pendingBytes;
          this.close(pending > 0 ? `closed in the middle of a message, after ${pending} bytes` : undefined);
          break;
        }
        served++;
        this.#serve();
      }
      if (this.#twin !== undefined) served += this.#pollTwin(this.#twin);
      if (!this.#closed) this.device.settle();
    } catch (error) {
      this.#breakOff(error);
    }
    return served;
  }

  arm(): boolean {
    // level-triggered: what has come meanwhile is reported as well
    this.#handle.enable();
    this.#twin?.enable();
    return false;
  }

  disarm(): void {
    this.#handle.disable();
    this.#twin?.disable();
  }

  #pollTwin(twin: TwinSocket): number {
    let served = 0;
    try {
      twin.writer.flush();
      for (; served < MESSAGES_PER_POLL && !this.#closed; served++) {
        const reply = twin.read();
        if (reply === 'wait') break;
        if (reply === 'closed') this.close();
        else this.device.dmaReply(reply);
      }
    } catch (error) {
      // there is no request that the client could be told of
      this.close(faultText(error));
    }
    return served;
  }

  /** The framing is broken: the client is told if it listens, and the connection ends. */
  #breakOff(error: unknown): void {
    const text = faultText(error);
    if (!this.#closed) this.#sendError(errnoOf(error) === E.EPROTO ? E.EINVAL : errnoOf(error));
    this.close(text);
  }

  // ---- messages ----

  #serve(): void {
    const { view } = this.#reader;
    const command = view.getUint16(M.HEADER_COMMAND, true);
    const type = view.getUint32(M.HEADER_FLAGS, true) & M.VFIO_USER_F_TYPE_MASK;
    this.#serving = true;
    if (type !== M.VFIO_USER_F_TYPE_COMMAND || this.#agreement === undefined) this.#begin(command, type);
    else if (command === M.VFIO_USER_REGION_READ) this.#access(command, false);
    else if (command === M.VFIO_USER_REGION_WRITE) this.#access(command, true);
    else if (command === M.VFIO_USER_REGION_WRITE_MULTI) this.#writeMulti();
    else this.#request(command);
    this.#serving = false;
    this.#reader.release();
    this.device.dmaMessages.pump();
  }

  /** What is not a command of a client that has agreed on a version: VERSION itself, a reply, or a fault. */
  #begin(command: number, type: number): void {
    const name = M.commandName(command);
    if (type === M.VFIO_USER_F_TYPE_REPLY) {
      this.#dmaReply(name);
      return;
    }
    if (type !== M.VFIO_USER_F_TYPE_COMMAND) throw protocolError(`${name}: message type ${type} does not exist`);
    if (command !== M.VFIO_USER_VERSION) throw protocolError(`${name}: the first message is VERSION`);
    this.#count(C.requests);
    const { bytes, length } = this.#reader;
    try {
      if (this.#reader.fdCount > 0) throw new NetbeError('descriptors came with it', { code: 'EINVAL' });
      this.#agreement = negotiate(bytes.subarray(M.HEADER_BYTES, length));
    } catch (error) {
      throw protocolError(`VERSION: ${faultText(error)}`);
    }
    const { reply, client, twinSocket } = this.#agreement;
    if (twinSocket) this.#openTwin(reply);
    else this.#reply(reply);
    this.device.dmaMessages.open(client.maxDataXferSize);
  }

  /** The reply to VERSION takes the client's end of the second socket along. */
  #openTwin(reply: Uint8Array): void {
    const { runtime } = this.#options;
    const [ours, theirs] = socketPair();
    try {
      const onReadable = (): void => runtime.loop.activate(this);
      this.#twin = new TwinSocket(ours, { mevent: runtime.mevent, onReadable, ...this.#writerEvents });
      this.#out.set(reply, M.HEADER_BYTES);
      this.#outView.setUint32(M.HEADER_FLAGS, M.VFIO_USER_F_TYPE_REPLY, true);
      this.#writer.sendWithFd(this.#message(M.HEADER_BYTES + reply.length), theirs);
    } finally {
      theirs.close();
    }
  }

  get #writerEvents(): Pick<MessageWriterOptions, 'onDrained' | 'onBroken'> {
    return { onDrained: () => this.device.dmaMessages.pump(), onBroken: (fault) => this.close(fault) };
  }

  /** DMA requests are all that the client has anything to reply to. */
  #dmaReply(name: string): void {
    if (this.#twin !== undefined) throw protocolError(`${name}: replies to the server come on the second socket`);
    if (this.#reader.fdCount > 0) throw protocolError(`${name}: descriptors came with a reply`);
    const { bytes, length } = this.#reader;
    this.device.dmaReply(bytes.subarray(0, length));
  }

  #request(command: number): void {
    const { bytes, length } = this.#reader;
    this.#count(C.requests);
    const fds = this.#reader.takeFds();
    const taken = new Set<Fd>();
    try {
      const rule = requestRules.get(command);
      if (!rule)
        throw new NetbeError(command === M.VFIO_USER_VERSION ? 'agreed on already' : 'there is no such request', {
          code: 'EINVAL',
        });
      const payload = bytes.subarray(M.HEADER_BYTES, length);
      if (payload.length < rule.least)
        throw new NetbeError(`payload of ${payload.length} bytes, it has at least ${rule.least}`, { code: 'EINVAL' });
      if (fds.length > rule.fds)
        throw new NetbeError(`${fds.length} descriptors came with it, at most ${rule.fds} do`, { code: 'EINVAL' });
      const view = new DataView(bytes.buffer, M.HEADER_BYTES, payload.length);
      this.#reply(rule.serve(this.device, { payload, view, fds, take: (fd) => taken.add(fd) }));
    } catch (error) {
      this.#refuse(command, error);
    } finally {
      for (const fd of fds) if (!taken.has(fd)) fd.close();
    }
  }

  /** REGION_READ and REGION_WRITE. */
  #access(command: number, isWrite: boolean): void {
    const { view, length } = this.#reader;
    const off = view.getUint32(16, true) + view.getUint32(20, true) * 2 ** 32;
    const region = view.getUint32(24, true);
    const count = view.getUint32(28, true);
    const present = isWrite ? count : 0;
    if (length < ACCESS_DATA || length - ACCESS_DATA !== present) {
      this.#refuseAccess(command, 'its length');
      return;
    }
    const { device } = this;
    if (count === 0 || count > M.MAX_DATA_XFER_BYTES || off + count > device.regions.size(region)) {
      this.#refuseAccess(command, `region ${region}, offset ${off}, ${count} bytes`);
      return;
    }
    device.settle();
    this.#countAccess(region, isWrite);
    if (isWrite) device.regions.write(region, off, view, ACCESS_DATA, count);
    else device.regions.read(region, off, this.#outView, ACCESS_DATA, count);
    // the reply begins as the request does: offset, region, count
    this.#outView.setUint32(16, view.getUint32(16, true), true);
    this.#outView.setUint32(20, view.getUint32(20, true), true);
    this.#outView.setUint32(24, region, true);
    this.#outView.setUint32(28, count, true);
    this.#sendReply(ACCESS_DATA + (isWrite ? 0 : count));
  }

  #writeMulti(): void {
    const { view, length } = this.#reader;
    const room = length - M.HEADER_BYTES - 8;
    const count = room < 0 ? 0 : view.getUint32(16, true) + view.getUint32(20, true) * 2 ** 32;
    if (room < 0 || count * M.WRITE_MULTI_BYTES !== room) {
      this.#refuseAccess(M.VFIO_USER_REGION_WRITE_MULTI, 'its length');
      return;
    }
    const { device } = this;
    device.settle();
    let done = 0;
    for (let at = M.HEADER_BYTES + 8; done < count; done++, at += M.WRITE_MULTI_BYTES) {
      const off = view.getUint32(at, true) + view.getUint32(at + 4, true) * 2 ** 32;
      const region = view.getUint32(at + 8, true);
      const bytes = view.getUint32(at + 12, true);
      if (bytes === 0 || bytes > 8 || off + bytes > device.regions.size(region)) break;
      this.#countAccess(region, true);
      device.regions.write(region, off, view, at + 16, bytes);
    }
    if (done < count) {
      this.#refuseAccess(M.VFIO_USER_REGION_WRITE_MULTI, `write ${done} of ${count}`);
      return;
    }
    this.#outView.setUint32(16, done, true);
    this.#outView.setUint32(20, 0, true);
    this.#sendReply(M.HEADER_BYTES + 8);
  }

  #countAccess(region: number, isWrite: boolean): void {
    if (region > M.VFIO_PCI_BAR5_REGION_INDEX) this.#count(C.config_accesses);
    else this.#count(isWrite ? C.register_writes : C.register_reads);
  }

  #count(which: number): void {
    this.#options.counters.values[which]!++;
  }

  // ---- replies ----

  get #noReply(): boolean {
    return (this.#reader.view.getUint32(M.HEADER_FLAGS, true) & M.VFIO_USER_F_NO_REPLY) !== 0;
  }

  #reply(payload: Uint8Array | undefined): void {
    if (payload !== undefined) this.#out.set(payload, M.HEADER_BYTES);
    this.#sendReply(M.HEADER_BYTES + (payload?.length ?? 0));
  }

  #refuse(command: number, error: unknown): void {
    const text = `${M.commandName(command)}: ${faultText(error)}`;
    this.#count(C.refused);
    if (this.#noReply) {
      this.close(text);
      return;
    }
    this.#options.warn(`${text}; refused`);
    this.#sendError(errnoOf(error));
  }

  /** A driver may cause these, and often: what nobody waits for is dropped, and all of them are counted. */
  #refuseAccess(command: number, what: string): void {
    this.#count(C.refused);
    this.#options.warn(`${M.commandName(command)}: ${what}: there is nothing; refused`);
    if (!this.#noReply) this.#sendError(E.EINVAL);
  }

  /** Sends the first `length` bytes of #out, with the header of a reply to the message in hand. */
  #sendReply(length: number): void {
    if (this.#noReply) return;
    this.#outView.setUint32(M.HEADER_FLAGS, M.VFIO_USER_F_TYPE_REPLY, true);
    this.#outView.setUint32(M.HEADER_ERRNO, 0, true);
    this.#send(length);
  }

  #sendError(errno: number): void {
    this.#outView.setUint32(M.HEADER_FLAGS, M.VFIO_USER_F_TYPE_REPLY | M.VFIO_USER_F_ERROR, true);
    this.#outView.setUint32(M.HEADER_ERRNO, errno, true);
    this.#send(M.HEADER_BYTES);
  }

  #send(length: number): void {
    if (!this.#closed) this.#writer.send(this.#message(length));
  }

  /** The first `length` bytes of #out, with message ID and command of the request in hand. */
  #message(length: number): Uint8Array {
    this.#outView.setUint32(0, this.#reader.view.getUint32(0, true), true);
    this.#outView.setUint32(M.HEADER_SIZE, length, true);
    return this.#short[length] ?? this.#out.subarray(0, length);
  }
}
