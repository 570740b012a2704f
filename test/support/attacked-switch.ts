/**
 * A switch with two well-behaved guests, for fuzz targets that attack a third port: whatever that one's
 * client does, frames must still pass between the two, no descriptor and no mapping may be left when it has
 * gone, and no callback may have thrown.
 */
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { VirtioNet, type VirtioNetOptions } from '../../src/frontends/virtio-net/device.js';
import { openBackend } from '../../src/net-backends/registry.js';
import { openFdCount } from '../../src/sys/fd.js';
import type { Transport } from '../../src/transports/socket-port.js';
import { VhostUserTransport } from '../../src/transports/vhost-user/server.js';
import { type TestRuntime, testRuntime } from './runtime.js';
import { etherFrame } from './test-guest.js';
import { stepUntil } from './vhost-user-client.js';
import { VhostUserGuest } from './vhost-user-guest.js';

export class AttackedSwitch {
  readonly runtime: TestRuntime = testRuntime();
  readonly #dir = mkdtempSync(join(tmpdir(), 'netbe-fuzz-'));
  readonly #closers: (() => void)[] = [];
  readonly #errors: unknown[] = [];
  #good: readonly [VhostUserGuest, VhostUserGuest] | undefined;
  #idleFds = 0;
  #mappings = 0;

  constructor() {
    this.runtime.mevent.onError = (error) => this.#errors.push(error);
    this.runtime.loop.onError = (error) => this.#errors.push(error);
  }

  readonly step = (): void => void this.runtime.loop.step(0);

  path(name: string): string {
    return join(this.#dir, `${name}.sock`);
  }

  /** What the device model of port `name` ("vm1") is made of. */
  nicOptions(name: string): VirtioNetOptions {
    const { runtime } = this;
    return {
      runtime,
      name,
      mac: Uint8Array.of(2, 0, 0, 0, 0, Number(name.slice(2))),
      openBackend: (onReceive) => openBackend(runtime, `vale0:${name}`, onReceive, name),
    };
  }

  /** Starts a port; both are closed with the switch. */
  serve<T extends Transport>(device: { close(): void }, transport: T): T {
    transport.start();
    this.#closers.push(
      () => device.close(),
      () => transport.close(),
    );
    return transport;
  }

  vhostUserPort(
    name: string,
    options: { inbandNotifications?: boolean } = {},
  ): { device: VirtioNet; transport: VhostUserTransport } {
    const { runtime } = this;
    const device = new VirtioNet(this.nicOptions(name));
    const path = this.path(name);
    const transport = new VhostUserTransport({
      ...{ runtime, device, name, path },
      ...{ mode: 'server', strictMemory: true },
      ...options,
    });
    return { device, transport: this.serve(device, transport) };
  }

  /** Two guests on ports of their own; what is open now is what must be open after each attack. */
  settle(): void {
    const guest = (name: string): VhostUserGuest => {
      this.vhostUserPort(name);
      const client = VhostUserGuest.connect(this.path(name), this.step);
      this.#closers.push(() => client.close());
      return client;
    };
    this.#good = [guest('vm8'), guest('vm9')];
    this.#checkTraffic();
    this.#idleFds = openFdCount();
    this.#mappings = this.#countMappings();
  }

  /** A frame from one of the two for everybody. */
  broadcast(): void {
    this.#good?.[0].transmit(etherFrame(0xff, 0x33, 60));
  }

  /** To be called after the attacker has closed its connection. */
  check(victim: Transport): void {
    stepUntil(this.step, () => victim.status().state === 'listening', 'the connection ends');
    this.#checkTraffic();
    this.runtime.records.length = 0;
    if (this.#errors.length > 0) throw this.#errors[0];
    assert.equal(openFdCount(), this.#idleFds, 'descriptors are left');
    assert.equal(this.#countMappings(), this.#mappings, 'mappings are left');
  }

  close(): void {
    for (const closer of this.#closers.reverse()) closer();
    this.runtime.close();
    rmSync(this.#dir, { recursive: true });
  }

  /** A frame each way between the two, with whatever else the switch has for them taken away. */
  #checkTraffic(): void {
    const [one, two] = this.#good!;
    for (const [from, to] of [
      [one, two],
      [two, one],
    ] as const) {
      const frame = etherFrame(0xff, 0x77, 60, 0x5a);
      from.transmit(frame);
      const arrives = () => to.receive().some((got) => Buffer.compare(got, frame) === 0);
      stepUntil(this.step, arrives, 'a frame between two other guests arrives');
    }
  }

  #countMappings(): number {
    return this.runtime.windows.windows.reduce((sum, window) => sum + window.rangeCount, 0);
  }
}
