/** What is counted of the registers, under the NIC's name and "/virtio-pci": see docs/virtio-pci.md. */
export const counterNames = ['notifications', 'features_refused', 'bad_reads', 'bad_writes'] as const;

type Name = (typeof counterNames)[number];

/** Index of each counter in the values of the set. */
export const C = Object.fromEntries(counterNames.map((name, i) => [name, i])) as Record<Name, number>;
