/** A stub function behind a vfio-user socket, and a client that has just connected: for tests of single messages. */
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { PciFunction } from '../../src/frontends/pci/pci-function.js';
import { createEventfd, eventfdRead } from '../../src/sys/eventfd.js';
import type { Fd } from '../../src/sys/fd.js';
import { ftruncate, MFD_ALLOW_SEALING, memfdCreate } from '../../src/sys/memfd.js';
import { type VfioUserOptions, VfioUserTransport } from '../../src/transports/vfio-user/server.js';
import { StubPciFunction } from './stub-pci-function.js';
import { VfioUserClient } from './vfio-user-client.js';
import { TestFabric } from './vhost-user-port.js';

/** Functions behind sockets in one fabric, stepped by hand. */
export class VfioFabric extends TestFabric {
  /** Serves `fn` at a socket of its own. */
  serveFunction(
    fn: PciFunction,
    name: string,
    options: Partial<VfioUserOptions> = {},
  ): { path: string; transport: VfioUserTransport } {
    const path = options.path ?? join(this.dir, `${name}.sock`);
    const { runtime } = this;
    const transport = new VfioUserTransport({ runtime, fn, name, path, mode: 'server', reconnectMs: 5, ...options });
    transport.start();
    this.onClose(() => transport.close());
    return { path, transport };
  }

  vfioClient(path: string): VfioUserClient {
    const client = VfioUserClient.connect(path, this.step);
    this.onClose(() => client.close());
    return client;
  }

  /** A descriptor that is closed with the test. */
  own(fd: Fd): Fd {
    this.onClose(() => fd.close());
    return fd;
  }

  memory(size: number, flags = MFD_ALLOW_SEALING): Fd {
    const fd = this.own(memfdCreate('test', flags));
    ftruncate(fd.number, size);
    return fd;
  }

  eventfd(): Fd {
    return this.own(createEventfd());
  }

  /** How often an eventfd was signalled since it was asked last. */
  signals(fd: Fd): number {
    return eventfdRead(fd.number);
  }
}

export class VfioRig extends VfioFabric {
  readonly fn = new StubPciFunction();
  readonly port;
  readonly vm: VfioUserClient;

  constructor(t: TestContext, options: Partial<VfioUserOptions> & { negotiated?: boolean } = {}) {
    super(t);
    const { negotiated = true, ...rest } = options;
    this.port = this.serveFunction(this.fn, 'nic', rest);
    this.vm = this.vfioClient(this.port.path);
    if (negotiated) this.vm.version();
  }
}
