/*
 * The reference of netmap-pkt-gen: a sender and a receiver, two threads or two processes, with netmap's rings
 * in shared memory between them.
 *
 * The sender fills slots of its transmit ring and publishes head once a burst. The receiver's side does what a
 * fabric would: over "vale" it reads the addresses of each frame, learns the source, looks the destination up and
 * copies the frame into its own receive ring; over a "pipe" it describes the frame in the receive slot and leaves it
 * where it is. Then it takes what is in the receive ring, and gives the slots back.
 *
 *   netmap-pkt-gen vale|pipe threads|processes BYTES FRAGS
 *   each line "MS" on standard input is answered by {"mpps":N}
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "common.h"
#include "mac-table.h"

#define SLOTS 1024
#define BUF 2048
#define MOREFRAG 0x20
#define BUF_CHANGED 0x01

struct slot {
	uint32_t idx;
	uint16_t len, flags;
	uint64_t ptr;
};

struct ring {
	_Atomic uint32_t head __attribute__((aligned(64)));
	_Atomic uint32_t tail __attribute__((aligned(64)));
	struct slot slots[SLOTS] __attribute__((aligned(64)));
};

struct shared {
	struct ring tx, rx;
	uint8_t bufs[2 * SLOTS][BUF] __attribute__((aligned(4096)));
	_Atomic int stop;
};

static struct shared *m;
static int is_pipe, bytes, frags;

static inline uint32_t next(uint32_t i)
{
	return i + 1 == SLOTS ? 0 : i + 1;
}

static inline uint32_t space(uint32_t head, uint32_t tail)
{
	return tail >= head ? tail - head : tail + SLOTS - head;
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void *sender(void *arg)
{
	struct ring *tx = &m->tx;
	uint8_t frame[65536] = { 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 1, 8, 0 };
	int frag = (bytes + frags - 1) / frags;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	(void)arg;
	pin(cpus > 1 ? cpus - 2 : 0);
	for (int i = 0; i < SLOTS; i++)
		tx->slots[i].flags = BUF_CHANGED;
	while (!atomic_load_explicit(&m->stop, memory_order_relaxed)) {
		uint32_t head = atomic_load_explicit(&tx->head, memory_order_relaxed);
		uint32_t n = space(head, atomic_load_explicit(&tx->tail, memory_order_acquire)) / frags;

		for (; n > 0; n--)
			for (int at = 0; at < bytes; at += frag) {
				struct slot *s = &tx->slots[head];
				int len = bytes - at < frag ? bytes - at : frag;

				if (frags > 1 || (s->flags & BUF_CHANGED))
					memcpy(m->bufs[s->idx], frame + at, len);
				s->len = len;
				s->flags = at + len < bytes ? MOREFRAG : 0;
				head = next(head);
			}
		atomic_store_explicit(&tx->head, head, memory_order_release);
	}
	return NULL;
}

/* Slots [from, to) of the transmit ring, through the switch or the pipe; returns the receive ring's new tail. */
static uint32_t forward(uint32_t from, uint32_t to, uint32_t tail, uint32_t head)
{
	int start = 1, keep = 1;

	for (; from != to; from = next(from)) {
		struct slot *t = &m->tx.slots[from], *r;

		if (is_pipe) {
			m->rx.slots[from] = *t;
			tail = next(from);
			continue;
		}
		if (start) {
			uint64_t dst = mac_at(m->bufs[t->idx]), src = mac_at(m->bufs[t->idx] + 6);

			if (!(src & 1)) {
				table[hash(src)].mac = src;
				table[hash(src)].port = 1;
			}
			keep = (dst & 1) || table[hash(dst)].mac != dst || table[hash(dst)].port != 1;
		}
		start = !(t->flags & MOREFRAG);
		if (!keep || next(tail) == head)
			continue;
		r = &m->rx.slots[tail];
		memcpy(m->bufs[r->idx], m->bufs[t->idx], t->len);
		r->len = t->len;
		r->flags = t->flags & MOREFRAG;
		tail = next(tail);
	}
	return tail;
}

static uint64_t receive(double seconds)
{
	static uint32_t done, head, tail;
	static uint64_t bytes_seen;
	uint64_t frames = 0;
	double end = now() + seconds;

	while (now() < end)
		for (int round = 0; round < 64; round++) {
			uint32_t to = atomic_load_explicit(&m->tx.head, memory_order_acquire);

			if (to == done)
				continue;
			tail = forward(done, to, tail, head);
			done = to;
			if (!is_pipe)
				atomic_store_explicit(&m->tx.tail, (to + SLOTS - 1) % SLOTS, memory_order_release);
			for (; head != tail; head = next(head)) {
				struct slot *s = &m->rx.slots[head];

				bytes_seen += s->len;
				frames += !(s->flags & MOREFRAG);
			}
			if (is_pipe)
				atomic_store_explicit(&m->tx.tail, (head + SLOTS - 1) % SLOTS, memory_order_release);
		}
	return frames;
}

int main(int argc, char **argv)
{
	char line[64];
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	pthread_t thread;
	pid_t child = 0;

	if (argc != 5)
		return 2;
	is_pipe = !strcmp(argv[1], "pipe");
	bytes = atoi(argv[3]);
	frags = atoi(argv[4]);
	m = mmap(NULL, sizeof(*m), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (m == MAP_FAILED)
		return 1;
	for (int i = 0; i < SLOTS; i++) {
		m->tx.slots[i].idx = i;
		m->rx.slots[i].idx = SLOTS + i;
	}
	atomic_store(&m->tx.tail, SLOTS - 1);
	if (!strcmp(argv[2], "processes")) {
		child = fork();
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			sender(NULL);
			_exit(0);
		}
	} else
		pthread_create(&thread, NULL, sender, NULL);
	pin(cpus - 1);
	while (fgets(line, sizeof(line), stdin)) {
		double seconds = atof(line) / 1000;
		uint64_t frames = receive(seconds);

		printf("{\"mpps\":%.4f}\n", frames / seconds / 1e6);
		fflush(stdout);
	}
	atomic_store(&m->stop, 1);
	return 0;
}
