/*
 * The reference of bench/tap: frames to and from a tap through io_uring, as plain and as fast as it
 * goes: batches of 64 writes out of buffers that lie ready; one read that stays posted and takes a
 * buffer for each frame. No library: the rings are mapped and driven here.
 *
 *   tap-io INTERFACE send|receive LENGTH [GSO]
 *       LENGTH bytes a frame, its virtio-net header of 12 not counted; GSO: segment size of one TCP frame
 *   each line "MS" on standard input is answered by {"mpps":N}
 *   receive: whoever makes the load is not here
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

#define BATCH 64
#define HDR 12
#define BUFFER_BYTES (64 * 1057)
#ifndef IORING_OP_READ_MULTISHOT
#define IORING_OP_READ_MULTISHOT 49
#endif

static uint8_t *sq, *cq, *buffers;
static struct io_uring_sqe *sqes;
static struct io_uring_params params;
static struct io_uring_buf_ring *buffer_ring;
static uint16_t buffer_tail;
static int ring, tap, length;

static void open_tap(const char *name)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int hdr = HDR;

	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
	check(tap >= 0, "/dev/net/tun");
	check(ioctl(tap, TUNSETIFF, &ifr) == 0, "TUNSETIFF");
	check(ioctl(tap, TUNSETVNETHDRSZ, &hdr) == 0, "TUNSETVNETHDRSZ");
	check(ioctl(tap, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) == 0, "TUNSETOFFLOAD");
}

static void open_ring(unsigned flags)
{
	size_t bytes;
	uint32_t i;

	params.flags = flags;
	ring = syscall(__NR_io_uring_setup, BATCH, &params);
	check(ring >= 0, "io_uring_setup");
	bytes = params.cq_off.cqes + params.cq_entries * sizeof(struct io_uring_cqe);
	if (bytes < params.sq_off.array + params.sq_entries * 4)
		bytes = params.sq_off.array + params.sq_entries * 4;
	sq = cq = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring, IORING_OFF_SQ_RING);
	sqes = mmap(0, params.sq_entries * sizeof(*sqes), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, ring,
		    IORING_OFF_SQES);
	check(sq != MAP_FAILED && sqes != MAP_FAILED, "mmap");
	for (i = 0; i < params.sq_entries; i++)
		((uint32_t *)(sq + params.sq_off.array))[i] = i;
	check(syscall(__NR_io_uring_register, ring, IORING_REGISTER_FILES, &tap, 1) == 0, "IORING_REGISTER_FILES");
}

static void enter(unsigned submit, unsigned wait)
{
	while (syscall(__NR_io_uring_enter, ring, submit, wait, IORING_ENTER_GETEVENTS, 0, 0) < 0)
		check(errno == EINTR, "io_uring_enter");
}

static struct io_uring_cqe *next(void)
{
	uint32_t head = *(uint32_t *)(cq + params.cq_off.head);

	if (head == __atomic_load_n((uint32_t *)(cq + params.cq_off.tail), __ATOMIC_ACQUIRE))
		return NULL;
	return (struct io_uring_cqe *)(cq + params.cq_off.cqes) + (head & (params.cq_entries - 1));
}

static void seen(void)
{
	uint32_t *head = (uint32_t *)(cq + params.cq_off.head);

	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
}

static struct io_uring_sqe *sqe(void)
{
	uint32_t *tail = (uint32_t *)(sq + params.sq_off.tail);
	struct io_uring_sqe *e = &sqes[*tail & (params.sq_entries - 1)];

	memset(e, 0, sizeof(*e));
	e->flags = IOSQE_FIXED_FILE;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	return e;
}

static uint64_t send_batch(void)
{
	struct io_uring_cqe *e;
	uint64_t sent = 0;
	int i;

	for (i = 0; i < BATCH; i++) {
		struct io_uring_sqe *s = sqe();

		s->opcode = IORING_OP_WRITE;
		s->addr = (uint64_t)(buffers + (size_t)i * BUFFER_BYTES);
		s->len = HDR + length;
	}
	enter(BATCH, BATCH);
	for (; (e = next()); seen())
		sent += e->res > 0;
	return sent;
}

static void give(int bid)
{
	struct io_uring_buf *b = &buffer_ring->bufs[buffer_tail & (BATCH - 1)];

	b->addr = (uint64_t)(buffers + (size_t)bid * BUFFER_BYTES);
	b->len = BUFFER_BYTES;
	b->bid = bid;
	__atomic_store_n(&buffer_ring->tail, ++buffer_tail, __ATOMIC_RELEASE);
}

static void post(void)
{
	struct io_uring_sqe *s = sqe();

	s->opcode = IORING_OP_READ_MULTISHOT;
	s->flags |= IOSQE_BUFFER_SELECT;
}

static uint64_t receive_batch(void)
{
	struct io_uring_cqe *e;
	uint64_t received = 0;
	static int pending = 1;

	enter(pending, 0);
	pending = 0;
	for (; (e = next()); seen()) {
		if (e->flags & IORING_CQE_F_BUFFER) {
			received += e->res > 0;
			give(e->flags >> IORING_CQE_BUFFER_SHIFT);
		}
		if (!(e->flags & IORING_CQE_F_MORE)) {
			post();
			pending++;
		}
	}
	return received;
}

static void fill(int gso)
{
	uint8_t *frame = buffers + HDR;
	int i;

	/* an experimental EtherType, to nobody: the host drops it at once; or TCP over IPv4 to nobody */
	memcpy(frame, (uint8_t[]){ 2, 0, 0, 0, 9, 9, 2, 0, 0, 0, 0, 1, 0x88, 0xb5 }, 14);
	if (gso) {
		frame[12] = 8;
		frame[13] = 0;
		frame[14] = 0x45;
		frame[16] = (length - 14) >> 8;
		frame[17] = length - 14;
		frame[23] = 6;
		frame[46] = 0x50;
		memcpy(buffers, (uint8_t[]){ 1, 1, 54, 0, gso, gso >> 8, 34, 0, 16, 0, 0, 0 }, HDR);
	}
	for (i = 1; i < BATCH; i++)
		memcpy(buffers + (size_t)i * BUFFER_BYTES, buffers, HDR + length);
}

int main(int argc, char **argv)
{
	struct io_uring_buf_reg reg = { .ring_entries = BATCH };
	int i, sending;
	char line[64];

	if (argc < 4)
		return 2;
	sending = strcmp(argv[2], "send") == 0;
	length = atoi(argv[3]);
	open_tap(argv[1]);
	buffers = mmap(0, (size_t)BATCH * BUFFER_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	open_ring(sending ? IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN
			  : IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN);
	if (sending)
		fill(argc > 4 ? atoi(argv[4]) : 0);
	else {
		buffer_ring = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		reg.ring_addr = (uint64_t)buffer_ring;
		check(syscall(__NR_io_uring_register, ring, IORING_REGISTER_PBUF_RING, &reg, 1) == 0,
		      "IORING_REGISTER_PBUF_RING");
		for (i = 0; i < BATCH; i++)
			give(i);
		post();
	}
	printf("{\"ready\":true}\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		double ms = atof(line), start = now(), end = start;
		uint64_t frames = 0;

		while ((end - start) * 1000 < ms) {
			for (i = 0; i < 16; i++)
				frames += sending ? send_batch() : receive_batch();
			end = now();
		}
		printf("{\"mpps\":%g}\n", frames / (end - start) / 1e6);
		fflush(stdout);
	}
	return 0;
}
