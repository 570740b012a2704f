/** What is counted of a vfio-user connection, under the NIC's name and "/vfio-user": see docs/vfio-user.md. */
export const counterNames = [
  'register_reads',
  'register_writes',
  'config_accesses',
  'requests',
  'refused',
  'interrupts',
  'dma_reads',
  'dma_writes',
  'dma_read_bytes',
  'dma_write_bytes',
  'dma_refused',
] as const;

type Name = (typeof counterNames)[number];

/** Index of each counter in the values of the set. */
export const C = Object.fromEntries(counterNames.map((name, i) => [name, i])) as Record<Name, number>;
