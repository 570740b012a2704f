/** A stub device behind a vhost-user socket, and a front-end that has just connected: for tests of single messages. */
import assert from 'node:assert/strict';
import type { TestContext } from 'node:test';
import { createEventfd } from '../../src/sys/eventfd.js';
import type { Fd } from '../../src/sys/fd.js';
import { ftruncate, MFD_ALLOW_SEALING, memfdCreate } from '../../src/sys/memfd.js';
import * as M from '../../src/transports/vhost-user/messages.js';
import type { VhostUserOptions } from '../../src/transports/vhost-user/server.js';
import { StubDevice } from './stub-device.js';
import { memoryTable, type Region, u64, type VhostUserClient, vringAddr, vringState } from './vhost-user-client.js';
import { TestFabric } from './vhost-user-port.js';

export const MEMORY = 1 << 20;
export const USER = 0x7f0000000000;
export const region: Region = { gpa: 0, size: MEMORY, userAddr: USER, mmapOffset: 0 };
export const ALL = M.offeredProtocolFeatures;
export const INBAND = 1 << M.VHOST_USER_PROTOCOL_F_INBAND_NOTIFICATIONS;

export class Rig extends TestFabric {
  readonly device = new StubDevice();
  readonly port;
  readonly fe: VhostUserClient;

  constructor(t: TestContext, protocol: number | undefined = ALL, options: Partial<VhostUserOptions> = {}) {
    super(t);
    this.port = this.serve(this.device, 'nic', options);
    this.fe = this.client(this.port);
    if (protocol !== 0) this.fe.send(M.VHOST_USER_SET_PROTOCOL_FEATURES, u64(protocol));
  }

  /** A descriptor that is closed with the test. */
  own(fd: Fd): Fd {
    this.onClose(() => fd.close());
    return fd;
  }

  memory(size = MEMORY, flags = MFD_ALLOW_SEALING): Fd {
    const fd = this.own(memfdCreate('test', flags));
    ftruncate(fd.number, size);
    return fd;
  }

  eventfd(): Fd {
    return this.own(createEventfd());
  }

  shareMemory(): Fd {
    const fd = this.memory();
    assert.ok(this.fe.acked(M.VHOST_USER_SET_MEM_TABLE, memoryTable([region]), [fd]));
    return fd;
  }

  configureRing(queue = 0): void {
    assert.ok(this.fe.acked(M.VHOST_USER_SET_VRING_NUM, vringState(queue, 64)));
    assert.ok(this.fe.acked(M.VHOST_USER_SET_VRING_BASE, vringState(queue, 7)));
    assert.ok(this.fe.acked(M.VHOST_USER_SET_VRING_ADDR, ringAt(queue)));
  }

  startRing(queue = 0): Fd {
    this.configureRing(queue);
    const kick = this.eventfd();
    assert.ok(this.fe.acked(M.VHOST_USER_SET_VRING_KICK, u64(queue), [kick]));
    assert.ok(this.device.queue(queue).started);
    return kick;
  }
}

export function ringAt(queue: number, user = USER): Uint8Array {
  const at = user + 0x10000 * (queue + 1);
  return vringAddr(queue, { desc: at, avail: at + 0x4000, used: at + 0x8000 });
}
