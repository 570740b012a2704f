/** A NIC of this process behind a vhost-user socket, with everything that it needs to be stepped by a test. */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { VirtioDevice } from '../../src/frontends/virtio-device.js';
import { VirtioNet } from '../../src/frontends/virtio-net/device.js';
import { openBackend } from '../../src/net-backends/registry.js';
import { openFdCount } from '../../src/sys/fd.js';
import { type VhostUserOptions, VhostUserTransport } from '../../src/transports/vhost-user/server.js';
import { type TestRuntime, testRuntime } from './runtime.js';
import { tempDir } from './temp-dir.js';
import { type Step, VhostUserClient } from './vhost-user-client.js';
import { type GuestOptions, VhostUserGuest } from './vhost-user-guest.js';

export interface TestPort<D extends VirtioDevice> {
  device: D;
  transport: VhostUserTransport;
  path: string;
}

/** Ports in one fabric, stepped by hand; all of it is closed, and checked for leaks, when the test ends. */
export class TestFabric {
  readonly runtime: TestRuntime;
  readonly dir: string;
  readonly step: Step;
  readonly #closers: (() => void)[] = [];
  readonly #fdsBefore: number;
  #closed = false;

  constructor(t: TestContext) {
    this.#fdsBefore = openFdCount();
    this.runtime = testRuntime();
    this.dir = tempDir(t);
    this.step = () => this.runtime.loop.step(0);
    t.after(() => this.close());
  }

  steps(count: number): void {
    for (let i = 0; i < count; i++) this.step();
  }

  /** Serves `device` at a socket of its own. */
  serve<D extends VirtioDevice>(device: D, name: string, options: Partial<VhostUserOptions> = {}): TestPort<D> {
    const path = options.path ?? join(this.dir, `${name}.sock`);
    const transport = new VhostUserTransport({
      runtime: this.runtime,
      device,
      name,
      path,
      mode: 'server',
      reconnectMs: 5,
      ...options,
    });
    transport.start();
    this.onClose(() => transport.close());
    return { device, transport, path };
  }

  /** A network card plugged into `backend`, by default a switch named by its port. */
  nic(name: string, options: Partial<VhostUserOptions> & { backend?: string } = {}): TestPort<VirtioNet> {
    const { backend = `vale0:${name}`, ...rest } = options;
    const { runtime } = this;
    const mac = Uint8Array.of(2, 0, 0, 0, 0, Number(name.replace(/\D/g, '')) || 1);
    const device = new VirtioNet({
      runtime,
      name,
      mac,
      openBackend: (onReceive) => openBackend(runtime, backend, onReceive, name),
    });
    this.onClose(() => device.close());
    return this.serve(device, name, rest);
  }

  guest(port: { path: string }, options?: GuestOptions): VhostUserGuest {
    const guest = VhostUserGuest.connect(port.path, this.step, options);
    this.onClose(() => guest.close());
    return guest;
  }

  client(port: { path: string }): VhostUserClient {
    const client = VhostUserClient.connect(port.path, this.step);
    this.onClose(() => client.close());
    return client;
  }

  onClose(closer: () => void): void {
    this.#closers.unshift(closer);
  }

  /** Also before the test ends; then it may go on with another one. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const closer of this.#closers.splice(0)) closer();
    this.runtime.close();
    assert.equal(openFdCount(), this.#fdsBefore, 'every descriptor is closed');
  }

  /** What was logged as a fault. */
  warnings(): string[] {
    return this.runtime.records.filter((r) => r.level === 'warn').map((r) => r.message);
  }
}
