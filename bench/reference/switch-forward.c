/*
 * The reference of switch-forward: a learning switch in C, as plain and as fast as the shape allows.
 *
 * Every port has a transmit ring and a receive ring of slots. In turn each port's next burst is taken
 * from its transmit ring; of each frame the addresses are read, the source is learned, the destination
 * looked up in a hash table, and the frame is copied into the destination's receive ring, whose user
 * takes all there is after each burst. The transmit rings are filled once and go round.
 *
 *   switch-forward PORTS MACS LENGTH      MACS addresses a port
 *   each line "MS" on standard input is answered by {"mpps":N}
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"
#include "mac-table.h"

#define SLOTS 1024
#define SLOT_BYTES 2048
#define BURST 64

struct slot {
	uint32_t len;
	uint8_t *data;
};

struct ring {
	struct slot slots[SLOTS];
	uint32_t head, tail;
};

struct port {
	struct ring tx, rx;
	uint64_t received, dropped;
};

static struct port *ports;
static uint32_t port_count, now_s;

static inline void enqueue(struct port *to, const struct slot *from)
{
	struct ring *rx = &to->rx;
	struct slot *slot;

	if (rx->tail - rx->head == SLOTS) {
		to->dropped++;
		return;
	}
	slot = &rx->slots[rx->tail++ % SLOTS];
	slot->len = from->len;
	memcpy(slot->data, from->data, from->len);
}

static void forward_burst(uint32_t from)
{
	struct ring *tx = &ports[from].tx;

	for (int i = 0; i < BURST; i++) {
		const struct slot *slot = &tx->slots[tx->head++ % SLOTS];
		uint64_t dst = mac_at(slot->data), src = mac_at(slot->data + 6);
		struct entry *learn = &table[hash(src)], *to = &table[hash(dst)];

		if (slot->len < 14)
			continue;
		if (!(src & 1)) {
			learn->mac = src;
			learn->port = from;
			learn->seen = now_s;
		}
		if ((dst & 1) || to->mac != dst || now_s - to->seen > 300) {
			for (uint32_t p = 0; p < port_count; p++)
				if (p != from)
					enqueue(&ports[p], slot);
		} else if (to->port != from)
			enqueue(&ports[to->port], slot);
	}
	for (uint32_t p = 0; p < port_count; p++) {
		struct ring *rx = &ports[p].rx;

		ports[p].received += rx->tail - rx->head;
		rx->head = rx->tail;
	}
}

static void fill(uint32_t macs, uint32_t len)
{
	for (uint32_t p = 0; p < port_count; p++) {
		uint8_t *memory = aligned_alloc(4096, 2 * SLOTS * SLOT_BYTES);

		memset(memory, 0, 2 * SLOTS * SLOT_BYTES);
		for (uint32_t i = 0; i < SLOTS; i++) {
			struct slot *tx = &ports[p].tx.slots[i];
			uint32_t to = (p + 1 + i % (port_count - 1)) % port_count, m = (i / port_count) % macs;

			ports[p].rx.slots[i].data = memory + (size_t)(SLOTS + i) * SLOT_BYTES;
			tx->data = memory + (size_t)i * SLOT_BYTES;
			tx->len = len;
			memcpy(tx->data, (uint8_t[]){2, 0, 0, 0, to, m, 2, 0, 0, 0, p, m, 8, 0}, 14);
		}
	}
}

static double measure(double seconds)
{
	uint64_t before = 0, after = 0;
	double start = now(), end = start;

	for (uint32_t p = 0; p < port_count; p++)
		before += ports[p].received;
	while (end - start < seconds) {
		now_s = (uint32_t)end;
		for (int round = 0; round < 64; round++)
			for (uint32_t p = 0; p < port_count; p++)
				forward_burst(p);
		end = now();
	}
	for (uint32_t p = 0; p < port_count; p++)
		after += ports[p].received;
	return (double)(after - before) / (end - start) / 1e6;
}

int main(int argc, char **argv)
{
	char line[64];

	if (argc != 4) {
		fprintf(stderr, "usage: switch-forward PORTS MACS LENGTH\n");
		return 2;
	}
	port_count = (uint32_t)atoi(argv[1]);
	ports = calloc(port_count, sizeof(*ports));
	fill((uint32_t)atoi(argv[2]), (uint32_t)atoi(argv[3]));
	while (fgets(line, sizeof(line), stdin)) {
		printf("{\"mpps\":%.6f}\n", measure(atof(line) / 1000));
		fflush(stdout);
	}
	return 0;
}
