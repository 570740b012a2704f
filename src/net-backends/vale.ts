/**
 * vale: a port of a VALE switch of this fabric, `valeSSS:PPP` (vale(4)).
 *
 * The switch is made by its first port. What the port's guest negotiated decides how frames reach
 * it: with their offloads untouched, or completed in software.
 */
import { usageError } from '../errors.js';
import type { Burst } from '../memory/burst.js';
import type { Iovec } from '../memory/iovec.js';
import { refuseSecondUser } from '../netmap/host/interface.js';
import { netmapOf } from '../netmap/netmap.js';
import { parsePortName } from '../netmap/port-name.js';
import type { ValePort } from '../netmap/vale/port.js';
import { valeSwitches } from '../netmap/vale/switches.js';
import { receiveOffloads, sendOffloads } from '../wire/vnet-header.js';
import {
  type BackendOpen,
  type BackendOption,
  checkVnetHdrLen,
  type NetBackend,
  type NetBackendType,
  type VnetHdrLen,
} from './net-backend.js';
import { openPortRings } from './netmap/rings.js';
import { SOFTWARE_OFFLOADS } from './offload-features.js';
import { integerOption } from './options.js';

const SLOTS: BackendOption = {
  name: 'slots',
  value: '64-4096',
  summary: 'frames that wait when the receiver cannot take them at once; more are dropped',
  default: '1024',
};
const RING_KIB: BackendOption = {
  name: 'ring-kib',
  value: '128-65536',
  summary: 'memory for those frames, in KiB; taken only when it is written',
  default: '2048',
};
const TABLE: BackendOption = {
  name: 'table',
  value: '64-65536',
  summary: "addresses that the switch's table holds, a power of two; read when the switch is made",
  default: '4096',
};
const AGE: BackendOption = {
  name: 'age',
  value: '1-86400',
  summary: 'seconds without a frame after which an address is forgotten; read when the switch is made',
  default: '300',
};

class Vale implements NetBackend {
  readonly name: string;
  readonly #port: ValePort;
  readonly #detach: () => void;
  vnetHdrLen: VnetHdrLen = 0;

  constructor(name: string, port: ValePort, detach: () => void) {
    this.name = name;
    this.#port = port;
    this.#detach = detach;
  }

  send(iov: Iovec): number {
    return this.#port.send(iov);
  }

  sendBurst(burst: Burst, from: number, count: number): number {
    return this.#port.sendBurst(burst, from, count);
  }

  recvReady(): number {
    return this.#port.recvReady();
  }

  recvBurst(burst: Burst, count: number): number {
    return this.#port.recvBurst(burst, count);
  }

  flush(): void {
    this.#port.flush();
  }

  peekRecvLen(): number {
    return this.#port.peekRecvLen();
  }

  recv(iov: Iovec): number {
    return this.#port.recv(iov);
  }

  rxDiscard(): number {
    return this.#port.rxDiscard();
  }

  recvEnable(): void {
    this.#port.recvEnable();
  }

  recvDisable(): void {
    this.#port.recvDisable();
  }

  getCap(): bigint {
    return SOFTWARE_OFFLOADS;
  }

  setCap(features: bigint, vnetHdrLen: number): boolean {
    this.vnetHdrLen = checkVnetHdrLen(vnetHdrLen, this.name);
    this.#port.vnetHdrLen = vnetHdrLen;
    // without a header there is no way to say that something was left undone
    this.#port.txOffloads = vnetHdrLen === 0 ? 0 : sendOffloads(features);
    this.#port.rxOffloads = vnetHdrLen === 0 ? 0 : receiveOffloads(features);
    return true;
  }

  close(): void {
    this.#detach();
  }
}

function open(request: BackendOpen): NetBackend {
  const { runtime, device, options, onReceive } = request;
  if (/[{}^*/@]/.test(device)) return openRings(request);
  const match = /^(vale\w*):([A-Za-z0-9._-]{1,63})$/.exec(device);
  if (match === null)
    throw usageError(
      `"${device}" names no port of a VALE switch`,
      device,
      'Write valeS:PORT, for example vale0:vm1; the switch S is letters, digits and underscores, a port name 1 to 63 of these, dots or hyphens.',
    );
  const [, switchName = '', portName = ''] = match;
  const slots = integerOption(SLOTS, options, 64, 4096);
  const ringBytes = integerOption(RING_KIB, options, 128, 65536) * 1024;
  const tableEntries = integerOption(TABLE, options, 64, 65536);
  if ((tableEntries & (tableEntries - 1)) !== 0)
    throw usageError(`table=${tableEntries} is no power of two`, `table=${tableEntries}`);
  const maxAge = integerOption(AGE, options, 1, 86400);
  const switches = valeSwitches(runtime);
  const port = switches.attach(switchName, { name: portName, slots, ringBytes, onReceive }, { tableEntries, maxAge });
  return new Vale(device, port, () => switches.detach(switchName, port));
}

/** Pipes, monitors, and whatever else nm_open(3) can say of a port: by its rings. */
function openRings(request: BackendOpen): NetBackend {
  const { runtime, device, options } = request;
  const netmap = netmapOf(runtime);
  const name = parsePortName(device, (nrName) => netmap.find(nrName) !== undefined);
  refuseSecondUser(request.runtime, request.device);
  for (const { name: option } of [RING_KIB, TABLE, AGE])
    if (options.has(option))
      throw usageError(`${device}: ${option} is for a whole port of a switch`, device, `Leave ${option} out.`);
  const slots = options.has(SLOTS.name) ? integerOption(SLOTS, options, 64, 4096) : undefined;
  return openPortRings(request, name, { slots, rings: 1 });
}

export const valeBackend: NetBackendType = {
  prefix: 'vale',
  hasIdentifier: true,
  summary: 'a port of a learning switch in this process, made by its first port',
  example: 'vale0:vm1',
  options: [SLOTS, RING_KIB, TABLE, AGE],
  needsReceive: false,
  needs: () => ({}),
  open,
};
