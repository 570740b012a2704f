/**
 * The vfio-user protocol, version 0.0: numbers and names, as its specification
 * (docs/interop/vfio-user.rst of QEMU) and linux/vfio.h have them. Little endian throughout.
 */

// Commands
export const VFIO_USER_VERSION = 1;
export const VFIO_USER_DMA_MAP = 2;
export const VFIO_USER_DMA_UNMAP = 3;
export const VFIO_USER_DEVICE_GET_INFO = 4;
export const VFIO_USER_DEVICE_GET_REGION_INFO = 5;
export const VFIO_USER_DEVICE_GET_REGION_IO_FDS = 6;
export const VFIO_USER_DEVICE_GET_IRQ_INFO = 7;
export const VFIO_USER_DEVICE_SET_IRQS = 8;
export const VFIO_USER_REGION_READ = 9;
export const VFIO_USER_REGION_WRITE = 10;
export const VFIO_USER_DMA_READ = 11;
export const VFIO_USER_DMA_WRITE = 12;
export const VFIO_USER_DEVICE_RESET = 13;
/** until 2022; later clients ask for DEVICE_FEATURE */
export const VFIO_USER_DIRTY_PAGES = 14;
export const VFIO_USER_REGION_WRITE_MULTI = 15;
export const VFIO_USER_DEVICE_FEATURE = 16;
export const VFIO_USER_MIG_DATA_READ = 17;
export const VFIO_USER_MIG_DATA_WRITE = 18;

const commandNames: Readonly<Record<number, string>> = {
  [VFIO_USER_VERSION]: 'VERSION',
  [VFIO_USER_DMA_MAP]: 'DMA_MAP',
  [VFIO_USER_DMA_UNMAP]: 'DMA_UNMAP',
  [VFIO_USER_DEVICE_GET_INFO]: 'DEVICE_GET_INFO',
  [VFIO_USER_DEVICE_GET_REGION_INFO]: 'DEVICE_GET_REGION_INFO',
  [VFIO_USER_DEVICE_GET_REGION_IO_FDS]: 'DEVICE_GET_REGION_IO_FDS',
  [VFIO_USER_DEVICE_GET_IRQ_INFO]: 'DEVICE_GET_IRQ_INFO',
  [VFIO_USER_DEVICE_SET_IRQS]: 'DEVICE_SET_IRQS',
  [VFIO_USER_REGION_READ]: 'REGION_READ',
  [VFIO_USER_REGION_WRITE]: 'REGION_WRITE',
  [VFIO_USER_DMA_READ]: 'DMA_READ',
  [VFIO_USER_DMA_WRITE]: 'DMA_WRITE',
  [VFIO_USER_DEVICE_RESET]: 'DEVICE_RESET',
  [VFIO_USER_DIRTY_PAGES]: 'DIRTY_PAGES',
  [VFIO_USER_REGION_WRITE_MULTI]: 'REGION_WRITE_MULTI',
  [VFIO_USER_DEVICE_FEATURE]: 'DEVICE_FEATURE',
  [VFIO_USER_MIG_DATA_READ]: 'MIG_DATA_READ',
  [VFIO_USER_MIG_DATA_WRITE]: 'MIG_DATA_WRITE',
};

export function commandName(command: number): string {
  return commandNames[command] ?? `command ${command}`;
}

// Header: u16 message ID, u16 command, u32 size of the whole message, u32 flags, u32 errno
export const HEADER_BYTES = 16;
export const HEADER_COMMAND = 2;
export const HEADER_SIZE = 4;
export const HEADER_FLAGS = 8;
export const HEADER_ERRNO = 12;

export const VFIO_USER_F_TYPE_MASK = 0xf;
export const VFIO_USER_F_TYPE_COMMAND = 0x0;
export const VFIO_USER_F_TYPE_REPLY = 0x1;
export const VFIO_USER_F_NO_REPLY = 0x10;
export const VFIO_USER_F_ERROR = 0x20;

// Limits, which VERSION tells the client
/** most that one REGION_READ or REGION_WRITE may carry (max_data_xfer_size) */
export const MAX_DATA_XFER_BYTES = 131072;
/** most descriptors with one message (max_msg_fds) */
export const MAX_MSG_FDS = 16;
/** most regions of guest memory at a time (max_dma_maps) */
export const MAX_DMA_MAPS = 1024;
export const DMA_PAGE_BYTES = 4096;

/** struct vfio_user_region_access before its data: u64 offset, u32 region, u32 count */
export const REGION_ACCESS_BYTES = 16;
/** struct vfio_user_dma_region_access before its data: u64 address, u64 count */
export const DMA_ACCESS_BYTES = 16;
/** one write of REGION_WRITE_MULTI: u64 offset, u32 region, u32 count, 8 bytes of data */
export const WRITE_MULTI_BYTES = 24;
export const MAX_MESSAGE_BYTES = HEADER_BYTES + REGION_ACCESS_BYTES + MAX_DATA_XFER_BYTES;

// DMA_MAP: u32 argsz, u32 flags, u64 offset, u64 address, u64 size
export const DMA_MAP_BYTES = 32;
export const VFIO_USER_F_DMA_REGION_READ = 0x1;
export const VFIO_USER_F_DMA_REGION_WRITE = 0x2;
export const VFIO_USER_F_DMA_REGION_MMAP = 0x4;

// DMA_UNMAP: u32 argsz, u32 flags, u64 address, u64 size
export const DMA_UNMAP_BYTES = 24;
export const VFIO_DMA_UNMAP_FLAG_GET_DIRTY_BITMAP = 0x1;
export const VFIO_DMA_UNMAP_FLAG_ALL = 0x2;

// DEVICE_GET_INFO: u32 argsz, flags, num_regions, num_irqs
export const DEVICE_INFO_BYTES = 16;
export const VFIO_DEVICE_FLAGS_RESET = 0x1;
export const VFIO_DEVICE_FLAGS_PCI = 0x2;

// DEVICE_GET_REGION_INFO: u32 argsz, flags, index, cap_offset, u64 size, offset
export const REGION_INFO_BYTES = 32;
export const VFIO_REGION_INFO_FLAG_READ = 0x1;
export const VFIO_REGION_INFO_FLAG_WRITE = 0x2;

// regions of a PCI device
export const VFIO_PCI_BAR5_REGION_INDEX = 5;
export const VFIO_PCI_ROM_REGION_INDEX = 6;
export const VFIO_PCI_CONFIG_REGION_INDEX = 7;
export const VFIO_PCI_VGA_REGION_INDEX = 8;
export const VFIO_PCI_NUM_REGIONS = 9;

// DEVICE_GET_REGION_IO_FDS: u32 argsz, flags, index, count
export const REGION_IO_FDS_BYTES = 16;

// DEVICE_GET_IRQ_INFO: u32 argsz, flags, index, count
export const IRQ_INFO_BYTES = 16;
export const VFIO_IRQ_INFO_EVENTFD = 0x1;
export const VFIO_IRQ_INFO_MASKABLE = 0x2;
export const VFIO_IRQ_INFO_AUTOMASKED = 0x4;
export const VFIO_IRQ_INFO_NORESIZE = 0x8;

// interrupts of a PCI device
export const VFIO_PCI_INTX_IRQ_INDEX = 0;
export const VFIO_PCI_MSI_IRQ_INDEX = 1;
export const VFIO_PCI_MSIX_IRQ_INDEX = 2;
export const VFIO_PCI_ERR_IRQ_INDEX = 3;
export const VFIO_PCI_REQ_IRQ_INDEX = 4;
export const VFIO_PCI_NUM_IRQS = 5;

export const irqNames = ['INTx', 'MSI', 'MSI-X', 'ERR', 'REQ'] as const;

// DEVICE_SET_IRQS: u32 argsz, flags, index, start, count, then data
export const IRQ_SET_BYTES = 20;
export const VFIO_IRQ_SET_DATA_NONE = 0x1;
export const VFIO_IRQ_SET_DATA_BOOL = 0x2;
export const VFIO_IRQ_SET_DATA_EVENTFD = 0x4;
export const VFIO_IRQ_SET_ACTION_MASK = 0x8;
export const VFIO_IRQ_SET_ACTION_UNMASK = 0x10;
export const VFIO_IRQ_SET_ACTION_TRIGGER = 0x20;
export const VFIO_IRQ_SET_DATA_TYPE_MASK = 0x7;
export const VFIO_IRQ_SET_ACTION_TYPE_MASK = 0x38;

// DEVICE_FEATURE: u32 argsz, u32 flags, data
export const DEVICE_FEATURE_BYTES = 8;
