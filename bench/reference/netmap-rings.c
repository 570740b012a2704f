/*
 * The reference of netmap-vale and netmap-pipe: pkt-gen's transmitter and receiver in one thread, over
 * netmap rings in shared memory, and between them, in C, what netmap does there: a learning switch of
 * two ports that copies, or a pipe that swaps buffers.
 *
 *   netmap-rings vale|pipe LENGTH
 *   each line "MS" on standard input is answered by {"mpps":N}
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common.h"
#include "mac-table.h"

#define SLOTS 1024
#define BUF_SIZE 2048
#define BURST 512
#define NS_MOREFRAG 0x20
#define NS_BUF_CHANGED 1
#define MIN(a, b) ((a) < (b) ? (a) : (b))

struct slot {
	uint32_t buf_idx;
	uint16_t len;
	uint16_t flags;
	uint64_t ptr;
};

/* the user's: head and tail; the kernel's: hwcur and hwtail */
struct ring {
	uint32_t head, tail, hwcur, hwtail, buf_total;
	uint8_t *bufs;
	struct slot slots[SLOTS];
};

static struct ring *tx[2], *rx[2];
static uint32_t now_s, length, frags;
static uint64_t bad, dropped, bytes;

static inline uint32_t next(uint32_t i)
{
	return i + 1 == SLOTS ? 0 : i + 1;
}

static inline int valid(const struct ring *r, const struct slot *s)
{
	return s->buf_idx >= 2 && s->buf_idx < r->buf_total && s->len <= BUF_SIZE;
}

/* netmap, too, copies short frames in whole blocks instead of calling memcpy */
static inline void copy_frame(uint8_t *d, const uint8_t *s, uint32_t len)
{
	if (len > 256) {
		memcpy(d, s, len);
		return;
	}
	for (uint32_t i = 0; i < len; i += 64)
		memcpy(d + i, s + i, 64);
}

/* Slots of the frame that begins at `at` and ends before `head`; 0 if it is not whole or not right. */
static inline uint32_t chain(struct ring *r, uint32_t at, uint32_t head)
{
	uint32_t n = 1;

	while (valid(r, &r->slots[at])) {
		if (!(r->slots[at].flags & NS_MOREFRAG))
			return n;
		at = next(at);
		if (at == head)
			return 0;
		n++;
	}
	bad++;
	return 0;
}

static inline void receive(struct ring *from, uint32_t at, uint32_t n, struct ring *to)
{
	uint32_t space = (to->hwcur + SLOTS - 1 - to->hwtail) % SLOTS, i = to->hwtail;

	if (space < n) {
		dropped++;
		return;
	}
	for (uint32_t k = n; k > 0; k--, i = next(i), at = next(at)) {
		struct slot *s = &from->slots[at], *d = &to->slots[i];

		if (!valid(to, d)) {
			bad++;
			return;
		}
		copy_frame(to->bufs + (size_t)d->buf_idx * BUF_SIZE, from->bufs + (size_t)s->buf_idx * BUF_SIZE, s->len);
		d->len = s->len;
		d->flags = (uint16_t)(n << 8 | (k > 1 ? NS_MOREFRAG : 0));
	}
	to->hwtail = i;
}

static void vale_txsync(uint32_t port)
{
	struct ring *r = tx[port];
	uint32_t head = r->head, at = r->hwcur;

	while (at != head) {
		const uint8_t *frame = r->bufs + (size_t)r->slots[at].buf_idx * BUF_SIZE;
		uint32_t n = chain(r, at, head);
		uint64_t dst, src;
		struct entry *learn, *to;

		if (n == 0)
			break;
		dst = mac_at(frame);
		src = mac_at(frame + 6);
		learn = &table[hash(src)];
		to = &table[hash(dst)];
		if (!(src & 1)) {
			learn->mac = src;
			learn->port = port;
			learn->seen = now_s;
		}
		if ((dst & 1) || to->mac != dst || now_s - to->seen > 300)
			receive(r, at, n, rx[!port]);
		else if (to->port != port)
			receive(r, at, n, rx[to->port]);
		at = (at + n) % SLOTS;
	}
	r->hwcur = at;
	r->tail = r->hwtail = (at + SLOTS - 1) % SLOTS;
}

static void pipe_txsync(void)
{
	struct ring *r = tx[0], *to = rx[1];
	uint32_t head = r->head, at = r->hwcur, i = to->hwtail;

	/* what has come is shown when its last slot has */
	while (at != head && next(i) != to->hwcur) {
		struct slot *s = &r->slots[at], *d = &to->slots[i];
		struct slot t = *s;

		if (!valid(r, s)) {
			bad++;
			break;
		}
		s->buf_idx = d->buf_idx;
		s->flags |= NS_BUF_CHANGED;
		d->buf_idx = t.buf_idx;
		d->len = t.len;
		d->flags = (uint16_t)(t.flags | NS_BUF_CHANGED);
		d->ptr = t.ptr;
		i = next(i);
		at = next(at);
		if (!(t.flags & NS_MOREFRAG)) {
			to->hwtail = i;
			r->hwcur = at;
		}
	}
	r->tail = r->hwtail = (r->hwcur + SLOTS - 1) % SLOTS;
}

static void rxsync(struct ring *r)
{
	r->hwcur = r->head;
	r->tail = r->hwtail;
}

static void generate(struct ring *r)
{
	uint32_t space = (r->tail + SLOTS - r->head) % SLOTS, frames = MIN(BURST, space / frags), at = r->head;

	for (; frames > 0; frames--) {
		uint32_t left = length;

		for (uint32_t k = frags; k > 0; k--) {
			r->slots[at].len = (uint16_t)MIN(left, BUF_SIZE);
			r->slots[at].flags = k > 1 ? NS_MOREFRAG : 0;
			left -= r->slots[at].len;
			at = next(at);
		}
	}
	r->head = at;
}

static uint64_t consume(struct ring *r)
{
	uint64_t frames = 0;
	uint32_t at = r->head;

	for (; at != r->tail; at = next(at)) {
		bytes += r->slots[at].len;
		frames += !(r->slots[at].flags & NS_MOREFRAG);
	}
	r->head = at;
	return frames;
}

static double measure(int pipe, double seconds)
{
	uint64_t frames = 0;
	double start = now(), end = start;

	bytes = 0;
	while (end - start < seconds) {
		now_s = (uint32_t)end;
		for (int round = 0; round < 64; round++) {
			generate(tx[0]);
			if (pipe)
				pipe_txsync();
			else
				vale_txsync(0);
			rxsync(rx[1]);
			frames += consume(rx[1]);
		}
		end = now();
	}
	if (bytes != frames * length || bad > 0) {
		fprintf(stderr, "%lu frames had %lu bytes, %lu bad slots\n", frames, bytes, bad);
		exit(1);
	}
	return (double)frames / (end - start) / 1e6;
}

static uint8_t *map_region(size_t size)
{
	int fd = memfd_create("netmap", 0);
	uint8_t *region;

	check(fd >= 0 && ftruncate(fd, (off_t)size) == 0, "memfd");
	region = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	check(region != MAP_FAILED, "mmap");
	return region;
}

static struct ring *make_ring(uint8_t **region, uint8_t *bufs, uint32_t first, int is_tx)
{
	struct ring *r = (struct ring *)*region;

	*region += (sizeof(*r) + 4095) & ~4095ul;
	r->bufs = bufs;
	r->buf_total = 2 * SLOTS * 2 + 2;
	for (uint32_t i = 0; i < SLOTS; i++)
		r->slots[i].buf_idx = first + i;
	r->tail = r->hwtail = is_tx ? SLOTS - 1 : 0;
	return r;
}

static void fill(struct ring *r, uint8_t to, uint8_t from)
{
	for (uint32_t i = 0; i < SLOTS; i++)
		memcpy(r->bufs + (size_t)r->slots[i].buf_idx * BUF_SIZE,
		       (uint8_t[]){2, 0, 0, 0, 0, to, 2, 0, 0, 0, 0, from, 8, 0}, 14);
}

int main(int argc, char **argv)
{
	const size_t size = 4 * 32768 + (4 * SLOTS + 2) * BUF_SIZE;
	uint8_t *region[2];
	char line[64];
	int pipe;

	if (argc != 3) {
		fprintf(stderr, "usage: netmap-rings vale|pipe LENGTH\n");
		return 2;
	}
	pipe = strcmp(argv[1], "pipe") == 0;
	length = (uint32_t)atoi(argv[2]);
	frags = (length + BUF_SIZE - 1) / BUF_SIZE;
	/* a switch has memory of its own for each port; the ends of a pipe share theirs */
	for (int p = 0; p < 2; p++) {
		uint8_t *base = p == 1 && pipe ? region[0] - 65536 : map_region(size), *bufs = base + 4 * 32768;
		uint32_t first = p == 1 && pipe ? 2 + 2 * SLOTS : 2;

		region[p] = p == 1 && pipe ? base + 65536 : base;
		tx[p] = make_ring(&region[p], bufs, first, 1);
		rx[p] = make_ring(&region[p], bufs, first + SLOTS, 0);
		region[p] = base + 65536;
		fill(tx[p], (uint8_t)(2 - p), (uint8_t)(1 + p));
	}
	table[hash(mac_at(tx[1]->bufs + (size_t)tx[1]->slots[0].buf_idx * BUF_SIZE + 6))] =
	    (struct entry){mac_at(tx[1]->bufs + (size_t)tx[1]->slots[0].buf_idx * BUF_SIZE + 6), 1, (uint32_t)now()};
	while (fgets(line, sizeof(line), stdin)) {
		printf("{\"mpps\":%.6f}\n", measure(pipe, atof(line) / 1000));
		fflush(stdout);
	}
	return 0;
}
