/** netmap:IF: an interface of the host, its whole traffic (netmap(4)); netmap:IF^: the side of the host's stack. */
import { HostInterface, type HostInterfaceOptions } from '../../netmap/host/interface.js';
import { receiveOffloads, sendOffloads } from '../../wire/vnet-header.js';
import { type BackendOpen, checkVnetHdrLen, type NetBackend } from '../net-backend.js';
import { SOFTWARE_OFFLOADS } from '../offload-features.js';

export class NetmapIf extends HostInterface implements NetBackend {
  constructor(
    { runtime, device, onReceive }: BackendOpen,
    info: HostInterfaceOptions['info'],
    openPort: HostInterfaceOptions['openPort'],
    promisc: boolean,
  ) {
    super({ runtime, name: device, info, openPort, promisc, onReceive });
  }

  getCap(): bigint {
    return SOFTWARE_OFFLOADS;
  }

  setCap(features: bigint, vnetHdrLen: number): boolean {
    return this.setHeader(checkVnetHdrLen(vnetHdrLen, this.name), sendOffloads(features), receiveOffloads(features));
  }
}
