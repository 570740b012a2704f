/** One NIC of a fabric: device model, transport, and its captures. */
import type { Runtime } from '../engine/runtime.js';
import { VirtioNet } from '../frontends/virtio-net/device.js';
import { CaptureBackend } from '../net-backends/capture.js';
import { openBackend } from '../net-backends/registry.js';
import { VhostUserTransport } from '../transports/vhost-user/server.js';
import type { DeviceInfo, NicInfo, TransportInfo } from './fabric-types.js';
import { parseMac, type ResolvedNic } from './nic-spec.js';

export class FabricNic {
  readonly name: string;
  readonly #runtime: Runtime;
  readonly #device: VirtioNet;
  readonly #transport: VhostUserTransport;
  #capture: CaptureBackend | undefined;

  /** Opens the backend and the socket. Throws NetbeError, with nothing left open. */
  constructor(
    runtime: Runtime,
    readonly spec: ResolvedNic,
  ) {
    const { name, backend, backendOptions, socket, mode, mac, mtu, strictMemory } = spec;
    this.name = name;
    this.#runtime = runtime;
    this.#device = new VirtioNet({
      runtime,
      name,
      mac: parseMac(mac),
      ...(mtu === null ? {} : { mtu }),
      openBackend: (onReceive) => openBackend(runtime, { device: backend, options: backendOptions }, onReceive, name),
    });
    this.#transport = new VhostUserTransport({ runtime, device: this.#device, name, path: socket, mode, strictMemory });
    try {
      this.#transport.start();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  info(): NicInfo {
    const { mac: _mac, mtu: _mtu, ...rest } = this.spec;
    return {
      ...rest,
      backendStatus: this.#device.backendStatus(),
      device: this.#deviceInfo(),
      transport: this.#transportInfo(),
    };
  }

  setLink(up: boolean): void {
    this.#device.setLink(up);
  }

  startCapture(id: number, ring: SharedArrayBuffer, snapLen: number): void {
    if (this.#capture === undefined)
      this.#device.wrapBackend((inner) => {
        this.#capture = new CaptureBackend(inner, this.#runtime, this.name);
        return this.#capture;
      });
    this.#capture?.addSink(id, ring, snapLen);
  }

  stopCapture(id: number): void {
    if (this.#capture?.removeSink(id) === 0) this.#endCapture();
  }

  /** Idempotent. */
  close(): void {
    try {
      this.#transport.close();
    } finally {
      this.#endCapture();
      this.#device.close();
    }
  }

  #endCapture(): void {
    if (this.#capture === undefined) return;
    this.#device.wrapBackend((inner) => inner);
    this.#capture.detach();
    this.#capture = undefined;
  }

  #deviceInfo(): DeviceInfo {
    const { mtu, ...status } = this.#device.status();
    return { ...status, mtu: mtu ?? null };
  }

  #transportInfo(): TransportInfo {
    const { state, peerPid, protocolFeatures, memory, lastError } = this.#transport.status();
    return { state, peerPid: peerPid ?? null, protocolFeatures, memory, lastError: lastError ?? null };
  }
}
