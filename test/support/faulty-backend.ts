/** A backend of a user's own, as a module: sends nowhere, and fails in the way its option `when` says. */
import { setImmediate } from 'node:timers';
import type { NetBackend, NetBackendType } from '../../src/net-backends/net-backend.js';

const sink: Omit<NetBackend, 'name'> = {
  vnetHdrLen: 0,
  send: (iov) => iov.total,
  flush() {},
  peekRecvLen: () => 0,
  recv: () => 0,
  rxDiscard: () => 0,
  recvEnable() {},
  recvDisable() {},
  getCap: () => 0n,
  setCap: () => false,
  close() {},
};

function fail(): never {
  throw new TypeError('the faulty backend failed');
}

export const backend: NetBackendType = {
  prefix: 'faulty',
  summary: 'a sink that fails on demand',
  example: 'faulty0',
  options: [{ name: 'when', value: 'never|open|later|timer|poll', summary: 'when it fails', default: 'never' }],
  needsReceive: false,
  open({ device, options, runtime }) {
    const when = options.get('when');
    if (when === 'open') fail();
    // outside of every call of netbe: nobody can catch it
    if (when === 'later') setImmediate(fail);
    if (when === 'timer') runtime.mevent.addTimer(1, fail);
    if (when === 'poll') {
      const pollable = { poll: fail, arm: () => false, disarm() {} };
      runtime.loop.add(pollable);
      runtime.loop.activate(pollable);
    }
    return { ...sink, name: device };
  },
};
