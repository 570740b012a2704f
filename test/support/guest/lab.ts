/**
 * A fabric and the guests on it, in a temporary folder; everything goes with close() or `await using`.
 *
 *   await using lab = await Lab.start([{ name: 'a' }, { name: 'b' }]);
 *   const [a, b] = await Promise.all([lab.uml('a'), lab.qemu('b')]);
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Fabric, type NicSpec } from '../../../src/index.js';

import type { Guest } from './guest.js';
import { type QemuNic, type QemuOptions, startQemu } from './qemu.js';
import { startUml, type UmlOptions } from './uml.js';

/** A NIC of the fabric; on switch vale0 unless it says otherwise. */
export type LabNic = Partial<NicSpec> & { name: string };

export class Lab {
  readonly dir: string;
  readonly fabric: Fabric;
  readonly nics: readonly NicSpec[];
  readonly #guests: Guest[] = [];

  private constructor(dir: string, fabric: Fabric, nics: readonly NicSpec[]) {
    this.dir = dir;
    this.fabric = fabric;
    this.nics = nics;
  }

  /** `netgraph`: commands of ngctl that make the graph of the NICs. */
  static async start(nics: readonly LabNic[], netgraph: string[] = []): Promise<Lab> {
    const dir = mkdtempSync(join(tmpdir(), 'netbe-lab-'));
    const specs = labNics(dir, nics);
    try {
      return new Lab(dir, await Fabric.start({ netgraph, nics: specs }), specs);
    } catch (error) {
      rmSync(dir, { recursive: true, force: true });
      throw error;
    }
  }

  /** Boots a user-mode-linux guest on the NICs named; on the one called like the guest if none is. */
  async uml(name: string, nics: readonly string[] = [name], options: UmlOptions = {}): Promise<Guest> {
    return this.#keep(await startUml({ ...options, name, nics: nics.map((nic) => guestNic(this.nics, nic)) }));
  }

  /** Boots a QEMU guest; `properties` are further properties of all its NICs, `rom` is the boot ROM of the first. */
  async qemu(
    name: string,
    nics: readonly string[] = [name],
    options: QemuOptions & { properties?: string; rom?: string } = {},
  ): Promise<Guest> {
    const { properties, rom, ...rest } = options;
    const guestNics = nics.map((nic, i): QemuNic => {
      const spec = this.nics.find((n) => n.name === nic);
      const listen = spec?.mode === 'client';
      const transport = spec?.transport ?? (spec?.emulation === 'e1000' ? 'vfio-user' : 'vhost-user');
      return { ...guestNic(this.nics, nic), properties, listen, transport, romfile: i === 0 ? rom : undefined };
    });
    const program = guestNics.some((nic) => nic.transport === 'vfio-user') ? 'qemu11' : 'qemu';
    return this.#keep(await startQemu({ program, ...rest, name, nics: guestNics }));
  }

  /** A counter of a NIC or of its switch port. */
  counter(subject: string, name: string): number {
    const value = this.fabric.counters()[subject]?.[name];
    if (value === undefined) throw new Error(`no counter ${name} of ${subject}`);
    return value;
  }

  async close(): Promise<void> {
    await Promise.all(this.#guests.map((guest) => guest.close()));
    await this.fabric.close();
    rmSync(this.dir, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #keep(guest: Guest): Guest {
    this.#guests.push(guest);
    return guest;
  }
}

/** Complete NICs: sockets in `dir`, ports of vale0, addresses 02:00:00:00:00:01 and so on. */
export function labNics(dir: string, nics: readonly LabNic[]): NicSpec[] {
  return nics.map((nic, i) => ({
    backend: `vale0:${nic.name}`,
    socket: join(dir, `${nic.name}.sock`),
    mac: `02:00:00:00:00:${(i + 1).toString(16).padStart(2, '0')}`,
    ...nic,
  }));
}

export function guestNic(nics: readonly NicSpec[], name: string): { socket: string; mac?: string } {
  const nic = nics.find((n) => n.name === name);
  if (nic === undefined) throw new Error(`the fabric has no NIC ${name}`);
  return { socket: nic.socket, mac: nic.mac };
}
