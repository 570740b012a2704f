/* The messages of vfio-user that its client and server here speak (specification, "Header", "Commands"). */
#ifndef VFIO_USER_H
#define VFIO_USER_H

#include <stdint.h>

struct header {
	uint16_t id, command;
	uint32_t size, flags, error;
};

#define REPLY 0x1
#define NO_REPLY 0x10

enum { VERSION = 1, DMA_UNMAP = 3, GET_INFO = 4, GET_REGION_INFO = 5, GET_IRQ_INFO = 7, REGION_READ = 9, REGION_WRITE = 10 };

/* of REGION_READ and REGION_WRITE, before the data */
struct access {
	uint64_t offset;
	uint32_t region, count;
};

#endif
