/** What can be set up: the one list. Command line, messages and stamps come from it. */

import { type DebianPackage, debianArch, type Suites } from './apt.js';

export interface Component {
  readonly name: string;
  readonly purpose: string;
  /** Debian packages asked for */
  readonly roots: readonly string[];
  /** Debian suites that they come from, if not from the default one */
  readonly suites?: Suites;
  /** Of what they depend on, the libraries come along: what the programs need to run, not what installing them needs. */
  readonly libraries: boolean;
  /** Further dependencies that come along; a star at the end stands for anything. */
  readonly also: readonly string[];
  /** Files that stay, of the unpacked tree; without it all of them. */
  readonly keep?: RegExp;
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
    purpose: 'what runs inside the guests: busybox, iperf3, ethtool; and xz, to unpack their kernel',
    roots: ['busybox-static', 'iperf3', 'ethtool', 'xz-utils'],
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
    name: 'qemu11',
    purpose: 'QEMU 11, a vfio-user client, with boot ROMs (iPXE)',
    roots: ['qemu-system-x86', 'ipxe-qemu'],
    suites: ['trixie-backports', 'trixie'],
    libraries: true,
    also: ['qemu-system-common', 'qemu-system-data', 'seabios'],
    override: { variable: 'NETBE_QEMU11', meaning: 'a qemu-system-x86_64 of the machine, 10.1 or newer' },
    archs: ['amd64'],
    byDefault: true,
  },
  {
    name: 'kernel',
    purpose: 'the Linux kernel that the QEMU guests boot, with drivers for every NIC',
    // not the cloud kernel: that one has no e1000
    roots: ['linux-image-amd64'],
    libraries: false,
    also: ['linux-image-*'],
    keep: /^boot\/vmlinuz-|\/kernel\/(drivers\/(net\/([^/]+$|ethernet\/intel\/e1000)|virtio|ptp|pps|vfio|iommu)|net|lib|virt)\b/,
    archs: ['amd64'],
    byDefault: true,
  },
  {
    name: 'netgraph',
    purpose: "libpcap, which compiles filters of netgraph's bpf nodes; Graphviz, which draws graphs",
    roots: ['libpcap0.8', 'graphviz'],
    libraries: true,
    also: [],
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
