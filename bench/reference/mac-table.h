/* The table of addresses of the references that switch: one entry a hash value, a later address takes it over. */
#ifndef MAC_TABLE_H
#define MAC_TABLE_H

#include <stdint.h>
#include <string.h>

#define TABLE 1024

struct entry {
	uint64_t mac;
	uint32_t port, seen;
};

static struct entry table[TABLE];

static inline uint32_t hash(uint64_t mac)
{
	return (uint32_t)((mac * 0x9e3779b97f4a7c15ull) >> 54);
}

static inline uint64_t mac_at(const uint8_t *p)
{
	uint64_t mac;

	memcpy(&mac, p, 8);
	return mac & 0xffffffffffffull;
}

#endif
