/** A fabric without a data path, for tests of what talks to one. */
import type {
  Counters,
  FabricControl,
  FabricInfo,
  NgctlControl,
  NicInfo,
  NicSpec,
  PatchInfo,
  PatchSpec,
} from '../../src/control/fabric-types.js';
import { resolveNic, resolvePatch } from '../../src/control/nic-spec.js';
import { NetbeError } from '../../src/errors.js';

export class FakeFabric implements FabricControl {
  readonly nics = new Map<string, NicInfo>();
  readonly patches = new Map<string, PatchInfo>();
  /** sessions of ngctl that are open */
  sessions = 0;
  /** captures under way */
  captures = 0;
  /** blocks that a capture gives before it waits for ever */
  blocks: Uint8Array[] = [];

  async addNic(spec: NicSpec): Promise<NicInfo> {
    const { mac, mtu, ...nic } = resolveNic(spec);
    if (this.nics.has(nic.name))
      throw new NetbeError(`NIC ${nic.name} exists`, { code: 'EEXIST', kind: 'usage', subject: nic.name });
    const info: NicInfo = {
      ...nic,
      device: {
        features: ['VIRTIO_NET_F_MAC'],
        vnetHdrLen: 12,
        starved: false,
        queues: [0, 1].map(() => ({ size: 256, started: true, enabled: true, broken: false, availIdx: 7 })),
        link: 'up',
        mac,
        mtu,
      },
      backendStatus: {},
      transport: {
        kind: 'vhost-user',
        state: 'listening',
        peerPid: null,
        protocolFeatures: [],
        memory: { regions: 0, bytes: 0, unshared: 0, sealed: false },
        lastError: null,
      },
    };
    this.nics.set(nic.name, info);
    return info;
  }

  async removeNic(name: string): Promise<void> {
    this.nics.delete(name);
  }

  async setLink(name: string, up: boolean): Promise<void> {
    const nic = this.nics.get(name);
    if (nic) nic.device.link = up ? 'up' : 'down';
  }

  async addPatch(spec: PatchSpec): Promise<PatchInfo> {
    const info = {
      ...resolvePatch(spec),
      offloads: ['VIRTIO_NET_F_CSUM'],
      statusA: {},
      statusB: { state: 'listening' },
    };
    this.patches.set(info.name, info);
    return info;
  }

  async removePatch(name: string): Promise<void> {
    this.patches.delete(name);
  }

  async show(): Promise<FabricInfo> {
    const nics = [...this.nics.values()];
    const ports = nics.map(({ name, backend }, index) => ({ name: backend.slice(6), index, subject: name }));
    const table = ports.map(({ name }) => ({ mac: '02:00:00:00:00:01', port: name, ageSec: 1.5 }));
    return {
      nics,
      patches: [...this.patches.values()],
      netgraph: { nodes: [] },
      switches: nics.length === 0 ? [] : [{ name: 'vale0', ports, table }],
    };
  }

  async openNgctl(name = 'ngctl'): Promise<NgctlControl> {
    this.sessions++;
    let end = (): void => {};
    const ended = new Promise<void>((resolve) => {
      end = resolve;
    });
    let open = true;
    return {
      id: 7,
      name,
      run: async (command) => ({ output: `${command}\n`, error: '', status: command === 'fail' ? 71 : 0, quit: false }),
      async *events() {
        yield `hello ${name}\n`;
        await ended;
      },
      close: async () => {
        if (open) this.sessions--;
        open = false;
        end();
      },
    };
  }

  counters(): Counters {
    const set = { tx_frames: 3, tx_bytes: 180, rx_frames: 2, rx_bytes: 120, rx_drop_no_buffers: 1, tx_kicks: 5 };
    return Object.fromEntries([...this.nics.keys()].map((name) => [name, set]));
  }

  capture(): AsyncIterable<Uint8Array> {
    const { blocks } = this;
    return {
      [Symbol.asyncIterator]: () => {
        this.captures++;
        let at = 0;
        let end: (() => void) | undefined;
        return {
          next: () =>
            at < blocks.length
              ? Promise.resolve({ done: false, value: blocks[at++] as Uint8Array })
              : new Promise((resolve) => {
                  end = () => resolve({ done: true, value: undefined });
                }),
          return: async () => {
            this.captures--;
            end?.();
            return { done: true, value: undefined };
          },
        };
      },
    };
  }
}
