/**
 * What becomes of the interface while a tap is open: its name, MTU, state and carrier may change, it
 * may be moved to another network namespace, deleted, and made again.
 */
import type { Mevent, MeventHandle } from '../../engine/mevent.js';
import { EVF_READ } from '../../engine/mevent.js';
import type { Log } from '../../engine/runtime.js';
import { getLink, type LinkInfo, LinkMonitor } from '../../sys/netlink.js';
import { tunInterface } from '../../sys/tun.js';

/** present: ours, and its changes are followed. moved: ours, in another namespace. gone: deleted. */
export type InterfaceState = 'present' | 'moved' | 'gone';

export interface InterfaceOwner {
  readonly device: string;
  readonly log: Log;
  /** a descriptor of the interface */
  fd(): number;
  /** a change was seen */
  onChange(): void;
  /** the interface has been deleted */
  onGone(): void;
  /** an interface of that name exists, after ours had gone: true if it could be attached */
  onReappeared(name: string): boolean;
}

export class Interface {
  state: InterfaceState = 'present';
  link: LinkInfo;
  readonly #owner: InterfaceOwner;
  readonly #monitor: LinkMonitor;
  readonly #handle: MeventHandle;

  constructor(mevent: Mevent, owner: InterfaceOwner, link: LinkInfo) {
    this.#owner = owner;
    this.link = link;
    this.#monitor = new LinkMonitor();
    try {
      this.#handle = mevent.add(this.#monitor.fd, EVF_READ, () => this.#read());
    } catch (error) {
      this.#monitor.close();
      throw error;
    }
  }

  close(): void {
    this.#handle.delete();
    this.#monitor.close();
  }

  /** The interface is ours anew. */
  attached(link: LinkInfo): void {
    this.state = 'present';
    this.link = link;
  }

  /** A read or write found it deleted, or netlink said so. */
  lost(): void {
    if (this.state === 'gone') return;
    this.state = 'gone';
    this.link = { ...this.link, up: false, carrier: false };
    const { device, log } = this.#owner;
    const { name } = this.link;
    log.warn({ device, interface: name }, `interface ${name} has been deleted: ${device} waits for one of that name`);
    this.#owner.onGone();
  }

  #read(): void {
    if (this.#monitor.read((link, deleted) => this.#heard(link, deleted))) return;
    // changes were lost: look for ourselves
    const link = getLink(this.state === 'gone' ? this.link.name : this.link.index);
    if (link !== undefined) this.#heard(link, false);
    else this.#heard(this.link, true);
  }

  #heard(link: LinkInfo, deleted: boolean): void {
    if (this.state === 'gone') {
      // news may be older than the deletion: to attach to what is not there would make it
      if (!deleted && link.name === this.link.name && getLink(link.name) !== undefined)
        this.#owner.onReappeared(link.name);
      return;
    }
    if (link.index !== this.link.index) return;
    if (deleted) this.#left();
    else this.#changed(link);
  }

  /** It left this namespace: deleted, or moved to another, where it goes on working. */
  #left(): void {
    if (tunInterface(this.#owner.fd()) === undefined) {
      this.lost();
      return;
    }
    if (this.state === 'moved') return;
    this.state = 'moved';
    const { device, log } = this.#owner;
    const { name } = this.link;
    log.info(
      { device, interface: name },
      `interface ${name} was moved to another network namespace: frames still pass, its changes are not seen`,
    );
    this.#owner.onChange();
  }

  #changed(link: LinkInfo): void {
    const before = this.link;
    // the master's messages about its port (AF_BRIDGE) carry no driver and no carrier
    if (link.kind !== 'tun') return;
    this.state = 'present';
    this.link = link;
    const { device, log } = this.#owner;
    const fields = { device, interface: link.name };
    const changes: string[] = [];
    if (link.name !== before.name) changes.push(`is now called ${link.name} (was ${before.name})`);
    if (link.mtu !== before.mtu) changes.push(`has MTU ${link.mtu} (was ${before.mtu})`);
    if (link.up !== before.up)
      changes.push(link.up ? 'is up' : 'is down: frames to the host are dropped until it is up');
    else if (link.carrier !== before.carrier) changes.push(link.carrier ? 'has a carrier' : 'has no carrier');
    if (changes.length === 0) return;
    log.info(fields, `interface ${before.name} ${changes.join(', ')}`);
    this.#owner.onChange();
  }
}
