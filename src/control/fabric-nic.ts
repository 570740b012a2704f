/** One NIC of a fabric: device model, transport, and its captures. */
import type { Runtime } from '../engine/runtime.js';
import { E1000 } from '../frontends/e1000/device.js';
import type { NicFrontend } from '../frontends/nic-frontend.js';
import type { PciFunction } from '../frontends/pci/pci-function.js';
import { VirtioNet, type VirtioNetOptions } from '../frontends/virtio-net/device.js';
import { VirtioPciFunction } from '../frontends/virtio-pci/function.js';
import { CaptureBackend } from '../net-backends/capture.js';
import { openBackend } from '../net-backends/registry.js';
import type { Transport } from '../transports/socket-port.js';
import { VfioUserTransport } from '../transports/vfio-user/server.js';
import { VhostUserTransport } from '../transports/vhost-user/server.js';
import type { DeviceInfo, Emulation, NicInfo, TransportInfo } from './fabric-types.js';
import { parseMac, type ResolvedNic } from './nic-spec.js';

/** Makes device model and transport; what it made is closed when a part of it fails. */
function build(runtime: Runtime, spec: ResolvedNic): { device: NicFrontend; transport: Transport } {
  const { name, backend, backendOptions, socket, mode, mac, mtu, strictMemory } = spec;
  const options = {
    runtime,
    name,
    mac: parseMac(mac),
    ...(mtu === null ? {} : { mtu }),
    openBackend: (onReceive: () => void) =>
      openBackend(runtime, { device: backend, options: backendOptions }, onReceive, name),
  };
  const connection = { runtime, name, path: socket, mode, strictMemory };
  let device: NicFrontend | undefined;
  try {
    if (spec.transport === 'vhost-user') {
      const virtio = new VirtioNet(options);
      device = virtio;
      return { device, transport: new VhostUserTransport({ ...connection, device: virtio }) };
    }
    const fn = pciFunction(spec.emulation, options);
    device = fn;
    return { device, transport: new VfioUserTransport({ ...connection, fn }) };
  } catch (error) {
    device?.close();
    throw error;
  }
}

function pciFunction(emulation: Emulation, options: VirtioNetOptions): PciFunction {
  if (emulation === 'e1000') return new E1000(options);
  const device = new VirtioNet(options);
  try {
    return new VirtioPciFunction(options.runtime, options.name, device);
  } catch (error) {
    device.close();
    throw error;
  }
}

export class FabricNic {
  readonly name: string;
  readonly #runtime: Runtime;
  readonly #device: NicFrontend;
  readonly #transport: Transport;
  #capture: CaptureBackend | undefined;

  /** Opens the backend and the socket. Throws NetbeError, with nothing left open. */
  constructor(
    runtime: Runtime,
    readonly spec: ResolvedNic,
  ) {
    this.name = spec.name;
    this.#runtime = runtime;
    const { device, transport } = build(runtime, spec);
    this.#device = device;
    this.#transport = transport;
    try {
      this.#transport.start();
    } catch (error) {
      this.close();
      throw error;
    }
  }

  info(): NicInfo {
    const { mac: _mac, mtu: _mtu, transport: _transport, ...rest } = this.spec;
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
    const { transport: kind } = this.spec;
    return { kind, state, peerPid: peerPid ?? null, protocolFeatures, memory, lastError: lastError ?? null };
  }
}
