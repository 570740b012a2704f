/** What can be set up: the one list. Command line, messages and stamps come from it. */

import type { DebianPackage } from './apt.js';
import { debianArch } from './apt.js';

export interface Component {
  readonly name: string;
  readonly purpose: string;
  /** Debian packages asked for */
  readonly roots: readonly string[];
  /** Of what they depend on, the libraries come along: what the programs need to run, not what installing them needs. */
  readonly libraries: boolean;
  /** Further dependencies that come along; a star at the end stands for anything. */
  readonly also: readonly string[];
  /** What a person who has it already may set instead, and what it must be. */
  readonly override?: { readonly variable: string; readonly meaning: string };
  /** Debian architectures that have it */
  readonly archs: readonly string[];
  /** Part of what `npm test` needs. The rest is fetched when a bench asks for it. */
  readonly byDefault: boolean;
}

function takes(c: Component, p: DebianPackage): boolean {
  if (c.libraries && (p.section === 'libs' || p.section === 'oldlibs')) return true;
  return c.also.some((name) => (name.endsWith('*') ? p.name.startsWith(name.slice(0, -1)) : p.name === name));
}

export const components: readonly Component[] = [
  {
    name: 'uml',
    purpose: 'user-mode-linux: a real Linux kernel that runs as an ordinary process',
    roots: ['user-mode-linux'],
    libraries: false,
    also: [],
    override: { variable: 'NETBE_UML', meaning: 'the user-mode-linux kernel (file linux.uml), virtio_net built in' },
    archs: ['amd64'],
    byDefault: true,
  },
  {
    name: 'guest',
    purpose: 'what runs inside the guests: busybox, iperf3, ethtool',
    roots: ['busybox-static', 'iperf3', 'ethtool'],
    libraries: true,
    also: [],
    archs: ['amd64'],
    byDefault: true,
  },
  {
    name: 'qemu',
    purpose: 'QEMU 7.2, a second and independent vhost-user client',
    roots: ['qemu-system-x86'],
    libraries: true,
    also: ['qemu-system-common', 'qemu-system-data', 'seabios'],
    override: { variable: 'NETBE_QEMU', meaning: 'a qemu-system-x86_64 of the machine' },
    archs: ['amd64'],
    byDefault: true,
  },
  {
    name: 'kernel',
    purpose: 'the Linux kernel that the QEMU guests boot',
    roots: ['linux-image-cloud-amd64'],
    libraries: false,
    also: ['linux-image-*'],
    archs: ['amd64'],
    byDefault: true,
  },
  {
    name: 'dpdk',
    purpose: 'DPDK: traffic generator and reference switch of the benches',
    // testpmd; and the headers, for the benches' own generator
    roots: ['dpdk-dev', 'libdpdk-dev'],
    libraries: true,
    also: ['ibverbs-providers'],
    archs: ['amd64'],
    byDefault: false,
  },
];

/** The packages to download for `component` out of everything apt would install for it. */
export function selectPackages(component: Component, resolved: readonly DebianPackage[]): DebianPackage[] {
  const byName = new Map(resolved.map((p) => [p.name, p]));
  const taken = new Set<DebianPackage>();
  const visit = (p: DebianPackage | undefined): void => {
    if (p === undefined || taken.has(p)) return;
    taken.add(p);
    for (const name of p.depends) {
      const dependency = byName.get(name);
      if (dependency !== undefined && takes(component, dependency)) visit(dependency);
    }
  };
  for (const root of component.roots) visit(byName.get(root));
  return [...taken];
}

export const hostArch = (): string => debianArch[process.arch] ?? process.arch;
