/*
 * Makes load for vhost-user-forward: DPDK's virtio-user driver, which is a guest without a guest. Ports
 * come in pairs, each pair behind one server: the first port of a pair keeps its transmit ring full of
 * frames for the second, which counts what arrives.
 *
 *   vhost-generator EAL-ARGUMENTS (one --vdev net_virtio_userN a port)
 *   says {"ports":N} when all ports are up; then each line "PAIR MS BYTES" on standard input is answered
 *   by {"mpps":N,"sent":N,"received":N}
 */
#include <rte_config.h>
/* DPDK's own strlcpy will do: one package less */
#undef RTE_USE_LIBBSD
#include <rte_eal.h>
#include <rte_ethdev.h>
#include <rte_mbuf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common.h"

#define RING 1024
#define BURST 32
#define POOL 8191

static struct rte_mempool *pool;

static void fail(const char *what, uint16_t port, int error)
{
	fprintf(stderr, "port %u: %s: %s\n", port, what, rte_strerror(-error));
	exit(1);
}

static void start_port(uint16_t port)
{
	struct rte_eth_conf conf = {0};
	int error;

	if ((error = rte_eth_dev_configure(port, 1, 1, &conf)) < 0)
		fail("configure", port, error);
	if ((error = rte_eth_rx_queue_setup(port, 0, RING, SOCKET_ID_ANY, NULL, pool)) < 0)
		fail("receive queue", port, error);
	if ((error = rte_eth_tx_queue_setup(port, 0, RING, SOCKET_ID_ANY, NULL)) < 0)
		fail("transmit queue", port, error);
	if ((error = rte_eth_dev_start(port)) < 0)
		fail("start", port, error);
}

/* Addresses are 02:00:00:00:00:PORT. */
static void make_frames(struct rte_mbuf **frames, uint16_t count, uint16_t from, uint16_t to, uint16_t bytes)
{
	const uint8_t header[14] = {2, 0, 0, 0, 0, (uint8_t)to, 2, 0, 0, 0, 0, (uint8_t)from, 8, 0};

	for (uint16_t i = 0; i < count; i++) {
		memcpy(rte_pktmbuf_mtod(frames[i], void *), header, sizeof(header));
		frames[i]->data_len = bytes;
		frames[i]->pkt_len = bytes;
	}
}

static uint16_t receive(uint16_t port)
{
	struct rte_mbuf *frames[2 * BURST];
	uint16_t count = rte_eth_rx_burst(port, 0, frames, 2 * BURST);

	rte_pktmbuf_free_bulk(frames, count);
	return count;
}

struct sender {
	struct rte_mbuf *frames[BURST];
	uint16_t at, count;
};

static uint16_t transmit(struct sender *s, uint16_t from, uint16_t to, uint16_t bytes)
{
	uint16_t sent;

	if (s->at == s->count) {
		if (rte_pktmbuf_alloc_bulk(pool, s->frames, BURST) != 0)
			return 0;
		make_frames(s->frames, BURST, from, to, bytes);
		s->at = 0;
		s->count = BURST;
	}
	sent = rte_eth_tx_burst(from, 0, s->frames + s->at, s->count - s->at);
	s->at += sent;
	return sent;
}

static void measure(uint16_t from, uint16_t to, double seconds, uint16_t bytes)
{
	struct sender learn = {0}, sender = {0};
	uint64_t sent = 0, received = 0;
	double start, end;

	/* the receiver is heard first, so that a switch knows where it is */
	transmit(&learn, to, from, 64);
	rte_pktmbuf_free_bulk(learn.frames + learn.at, learn.count - learn.at);
	for (end = now() + 0.05; now() < end;) {
		transmit(&sender, from, to, bytes);
		receive(to);
		receive(from);
	}
	for (start = end = now(); end - start < seconds; end = now())
		for (int i = 0; i < 256; i++) {
			sent += transmit(&sender, from, to, bytes);
			received += receive(to);
		}
	rte_pktmbuf_free_bulk(sender.frames + sender.at, sender.count - sender.at);
	printf("{\"mpps\":%.6f,\"sent\":%lu,\"received\":%lu}\n", (double)received / (end - start) / 1e6, sent, received);
	/* what is on its way must not be counted the next time */
	for (end = now() + 0.02; now() < end;) {
		receive(to);
		receive(from);
	}
}

int main(int argc, char **argv)
{
	unsigned pair, ms, bytes;
	uint16_t ports;
	char line[64];

	if (rte_eal_init(argc, argv) < 0) {
		fprintf(stderr, "EAL: %s\n", rte_strerror(rte_errno));
		return 1;
	}
	ports = rte_eth_dev_count_avail();
	pool = rte_pktmbuf_pool_create("frames", (POOL + 1) * ports - 1, 256, 0, RTE_MBUF_DEFAULT_BUF_SIZE, SOCKET_ID_ANY);
	if (!pool) {
		fprintf(stderr, "no memory for frames: %s\n", rte_strerror(rte_errno));
		return 1;
	}
	for (uint16_t port = 0; port < ports; port++)
		start_port(port);
	printf("{\"ports\":%u}\n", ports);
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%u %u %u", &pair, &ms, &bytes) != 3 || 2 * pair + 1 >= ports || bytes < 60 || bytes > 2048 - 128) {
			fprintf(stderr, "bad command: %s", line);
			return 1;
		}
		measure((uint16_t)(2 * pair), (uint16_t)(2 * pair + 1), ms / 1000.0, (uint16_t)bytes);
		fflush(stdout);
	}
	return 0;
}
