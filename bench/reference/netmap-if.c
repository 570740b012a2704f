/*
 * The reference of netmap-if: the plain loops over AF_XDP and TPACKET_V3 in C, with rings of the same
 * sizes, and the load.
 *
 *   netmap-if rx|tx xdp-native|xdp-generic|packet IF
 *       each line "MS" on standard input opens the interface, measures, closes it, and is answered by
 *       {"mpps":N}. Every frame received is copied out of the ring, every frame sent into it.
 *   netmap-if load packet IF
 *       sends 64-byte frames until it is killed
 */
#include <errno.h>
#include <arpa/inet.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/if_xdp.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "common.h"

#define RING 1024
#define CHUNK 2048
#define LEN 64
#define BURST 64
#define BLOCK (128 * 1024)
#define BLOCKS 64
#define SLOT 2048
#ifndef SOL_XDP
#define SOL_XDP 283
#endif

struct ring {
	uint32_t *producer, *consumer, *flags;
	void *desc;
	uint32_t own;
};

static int ifindex;
static uint8_t frame[LEN] = {2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5}, out[4096];

/* what a system call returned, unless it failed */
static int need(int result, const char *what)
{
	check(result >= 0, what);
	return result;
}

static uint32_t load_acquire(const uint32_t *p)
{
	return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void store_release(uint32_t *p, uint32_t v)
{
	__atomic_store_n(p, v, __ATOMIC_RELEASE);
}

/* ---- AF_XDP ---- */

static struct {
	int fd, link, prog, map;
	uint8_t *umem;
	struct ring rx, tx, fill, comp;
	void *maps[4];
	size_t lens[4];
	uint32_t free[RING], nfree;
} x;

static int bpf(int cmd, union bpf_attr *attr)
{
	return (int)syscall(SYS_bpf, cmd, attr, sizeof(*attr));
}

static void attach(int native)
{
	union bpf_attr a;
	uint32_t key = 0;
	struct bpf_insn insns[6] = {{0x61, 2, 1, 16, 0}, {0x18, 1, 1, 0, 0}, {0, 0, 0, 0, 0},
				    {0xb7, 3, 0, 0, XDP_PASS}, {0x85, 0, 0, 0, 51}, {0x95, 0, 0, 0, 0}};

	memset(&a, 0, sizeof(a));
	a.map_type = BPF_MAP_TYPE_XSKMAP;
	a.key_size = a.value_size = 4;
	a.max_entries = 1;
	x.map = need(bpf(BPF_MAP_CREATE, &a), "map");
	memset(&a, 0, sizeof(a));
	a.map_fd = (uint32_t)x.map;
	a.key = (uint64_t)(uintptr_t)&key;
	a.value = (uint64_t)(uintptr_t)&x.fd;
	need(bpf(BPF_MAP_UPDATE_ELEM, &a), "map update");
	insns[1].imm = x.map;
	memset(&a, 0, sizeof(a));
	a.prog_type = BPF_PROG_TYPE_XDP;
	a.insn_cnt = 6;
	a.insns = (uint64_t)(uintptr_t)insns;
	a.license = (uint64_t)(uintptr_t)"Dual BSD/GPL";
	x.prog = need(bpf(BPF_PROG_LOAD, &a), "program");
	memset(&a, 0, sizeof(a));
	a.link_create.prog_fd = (uint32_t)x.prog;
	a.link_create.target_ifindex = (uint32_t)ifindex;
	a.link_create.attach_type = BPF_XDP;
	a.link_create.flags = native ? 4 : 2;
	x.link = need(bpf(BPF_LINK_CREATE, &a), "link");
}

static struct ring map_ring(int i, uint32_t size, uint64_t pgoff, const struct xdp_ring_offset *o, size_t entry)
{
	struct ring r;
	uint8_t *p;

	x.lens[i] = o->desc + size * entry;
	p = mmap(NULL, x.lens[i], PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, x.fd, (off_t)pgoff);
	check(p != MAP_FAILED, "mmap ring");
	x.maps[i] = p;
	r.producer = (uint32_t *)(p + o->producer);
	r.consumer = (uint32_t *)(p + o->consumer);
	r.flags = (uint32_t *)(p + o->flags);
	r.desc = p + o->desc;
	r.own = 0;
	return r;
}

static void xdp_open(int native)
{
	struct xdp_umem_reg reg = {.len = 3 * RING * CHUNK, .chunk_size = CHUNK};
	struct sockaddr_xdp addr = {.sxdp_family = AF_XDP, .sxdp_flags = XDP_COPY | XDP_USE_NEED_WAKEUP,
				    .sxdp_ifindex = (uint32_t)ifindex};
	struct xdp_mmap_offsets o;
	socklen_t len = sizeof(o);
	int one = RING, two = 2 * RING, sndbuf = 16 << 20;

	x.umem = mmap(NULL, reg.len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	reg.addr = (uint64_t)(uintptr_t)x.umem;
	x.fd = need(socket(AF_XDP, SOCK_RAW, 0), "AF_XDP");
	need(setsockopt(x.fd, SOL_XDP, XDP_UMEM_REG, &reg, 24), "XDP_UMEM_REG");
	need(setsockopt(x.fd, SOL_XDP, XDP_UMEM_FILL_RING, &two, 4), "fill ring");
	need(setsockopt(x.fd, SOL_XDP, XDP_UMEM_COMPLETION_RING, &one, 4), "completion ring");
	need(setsockopt(x.fd, SOL_XDP, XDP_RX_RING, &one, 4), "rx ring");
	need(setsockopt(x.fd, SOL_XDP, XDP_TX_RING, &one, 4), "tx ring");
	setsockopt(x.fd, SOL_XDP, 9, &one, 4); /* XDP_MAX_TX_SKB_BUDGET */
	setsockopt(x.fd, SOL_SOCKET, SO_SNDBUFFORCE, &sndbuf, 4);
	need(getsockopt(x.fd, SOL_XDP, XDP_MMAP_OFFSETS, &o, &len), "offsets");
	x.fill = map_ring(0, 2 * RING, XDP_UMEM_PGOFF_FILL_RING, &o.fr, 8);
	x.comp = map_ring(1, RING, XDP_UMEM_PGOFF_COMPLETION_RING, &o.cr, 8);
	x.rx = map_ring(2, RING, XDP_PGOFF_RX_RING, &o.rx, 16);
	x.tx = map_ring(3, RING, XDP_PGOFF_TX_RING, &o.tx, 16);
	/* a queue that was just left is free only a little later */
	for (int tries = 0; bind(x.fd, (struct sockaddr *)&addr, sizeof(addr)) != 0; tries++) {
		check(errno == EBUSY && tries < 200, "bind");
		usleep(2000);
	}
	for (uint32_t i = 0; i < 2 * RING; i++)
		((uint64_t *)x.fill.desc)[x.fill.own++] = (uint64_t)i * CHUNK;
	store_release(x.fill.producer, x.fill.own);
	for (x.nfree = 0; x.nfree < RING; x.nfree++)
		x.free[x.nfree] = (2 * RING + x.nfree) * CHUNK;
	attach(native);
}

static void xdp_close(void)
{
	close(x.link);
	close(x.prog);
	close(x.fd);
	close(x.map);
	for (int i = 0; i < 4; i++)
		munmap(x.maps[i], x.lens[i]);
	munmap(x.umem, 3 * RING * CHUNK);
}

static uint32_t xdp_rx(void)
{
	uint32_t end = load_acquire(x.rx.producer), n = 0;

	for (; x.rx.own != end && n < BURST; n++) {
		const struct xdp_desc *d = (struct xdp_desc *)x.rx.desc + (x.rx.own++ & (RING - 1));

		memcpy(out, x.umem + d->addr, d->len);
		((uint64_t *)x.fill.desc)[x.fill.own++ & (2 * RING - 1)] = d->addr & ~(uint64_t)(CHUNK - 1);
	}
	if (n > 0) {
		store_release(x.rx.consumer, x.rx.own);
		store_release(x.fill.producer, x.fill.own);
	}
	return n;
}

static uint32_t xdp_tx(void)
{
	uint32_t end = load_acquire(x.comp.producer), n = 0;

	for (; x.comp.own != end; x.comp.own++)
		x.free[x.nfree++] = (uint32_t)((uint64_t *)x.comp.desc)[x.comp.own & (RING - 1)] & ~(uint32_t)(CHUNK - 1);
	store_release(x.comp.consumer, x.comp.own);
	for (; n < BURST && x.nfree > 0; n++) {
		struct xdp_desc *d = (struct xdp_desc *)x.tx.desc + (x.tx.own++ & (RING - 1));

		d->addr = x.free[--x.nfree];
		d->len = LEN;
		d->options = 0;
		memcpy(x.umem + d->addr, frame, LEN);
	}
	store_release(x.tx.producer, x.tx.own);
	do
		sendto(x.fd, NULL, 0, MSG_DONTWAIT, NULL, 0);
	while (load_acquire(x.tx.consumer) != x.tx.own);
	return n;
}

/* ---- TPACKET_V3 ---- */

static struct {
	int fd;
	uint8_t *map;
	uint32_t block, slot, left;
	uint8_t *next;
} p;

#define RX_BYTES ((size_t)BLOCKS * BLOCK)
#define MAP_BYTES (RX_BYTES + (size_t)RING * SLOT)

static void packet_open(void)
{
	struct tpacket_req3 rx = {.tp_block_size = BLOCK, .tp_block_nr = BLOCKS, .tp_frame_size = SLOT,
				  .tp_frame_nr = BLOCKS * (BLOCK / SLOT), .tp_retire_blk_tov = 1};
	struct tpacket_req3 tx = {.tp_block_size = BLOCK, .tp_block_nr = RING * SLOT / BLOCK, .tp_frame_size = SLOT,
				  .tp_frame_nr = RING};
	struct sockaddr_ll addr = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = ifindex};
	int version = TPACKET_V3, one = 1, sndbuf = 16 << 20;

	memset(&p, 0, sizeof(p));
	p.fd = need(socket(AF_PACKET, SOCK_RAW, 0), "AF_PACKET");
	need(setsockopt(p.fd, SOL_PACKET, PACKET_VERSION, &version, 4), "PACKET_VERSION");
	setsockopt(p.fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, 4);
	setsockopt(p.fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, 4);
	setsockopt(p.fd, SOL_SOCKET, SO_SNDBUFFORCE, &sndbuf, 4);
	need(setsockopt(p.fd, SOL_PACKET, PACKET_RX_RING, &rx, sizeof(rx)), "PACKET_RX_RING");
	need(setsockopt(p.fd, SOL_PACKET, PACKET_TX_RING, &tx, sizeof(tx)), "PACKET_TX_RING");
	p.map = mmap(NULL, MAP_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, p.fd, 0);
	check(p.map != MAP_FAILED, "mmap packet rings");
	need(bind(p.fd, (struct sockaddr *)&addr, sizeof(addr)), "bind");
}

static void packet_close(void)
{
	close(p.fd);
	munmap(p.map, MAP_BYTES);
}

static uint32_t packet_rx(void)
{
	uint32_t n = 0;

	for (; n < BURST; n++) {
		struct tpacket_block_desc *b = (void *)(p.map + (size_t)p.block * BLOCK);
		struct tpacket3_hdr *h;

		if (p.left == 0) {
			if (!(load_acquire(&b->hdr.bh1.block_status) & TP_STATUS_USER))
				break;
			p.left = b->hdr.bh1.num_pkts;
			p.next = (uint8_t *)b + b->hdr.bh1.offset_to_first_pkt;
		}
		h = (void *)p.next;
		memcpy(out, p.next + h->tp_mac, h->tp_snaplen);
		p.next += h->tp_next_offset;
		if (--p.left == 0) {
			store_release(&b->hdr.bh1.block_status, TP_STATUS_KERNEL);
			p.block = (p.block + 1) % BLOCKS;
		}
	}
	return n;
}

static uint32_t packet_tx(void)
{
	uint32_t n = 0;

	for (; n < BURST; n++) {
		struct tpacket3_hdr *h = (void *)(p.map + RX_BYTES + (size_t)p.slot * SLOT);

		if (load_acquire(&h->tp_status) != TP_STATUS_AVAILABLE)
			break;
		h->tp_next_offset = 0;
		h->tp_len = LEN;
		memcpy((uint8_t *)h + TPACKET3_HDRLEN - sizeof(struct sockaddr_ll), frame, LEN);
		store_release(&h->tp_status, TP_STATUS_SEND_REQUEST);
		p.slot = (p.slot + 1) % RING;
	}
	sendto(p.fd, NULL, 0, MSG_DONTWAIT, NULL, 0);
	return n;
}

static double measure(const char *direction, const char *mode, double seconds)
{
	int is_packet = strcmp(mode, "packet") == 0, is_rx = strcmp(direction, "rx") == 0;
	uint32_t (*step)(void) = is_packet ? (is_rx ? packet_rx : packet_tx) : (is_rx ? xdp_rx : xdp_tx);
	uint64_t frames = 0;
	double start, end;

	if (is_packet)
		packet_open();
	else
		xdp_open(strcmp(mode, "xdp-native") == 0);
	for (start = end = now(); end - start < 0.05; end = now())
		step();
	for (start = end = now(); end - start < seconds; end = now())
		for (int i = 0; i < 64; i++)
			frames += step();
	if (is_packet)
		packet_close();
	else
		xdp_close();
	return (double)frames / (end - start) / 1e6;
}

int main(int argc, char **argv)
{
	char line[64];

	if (argc != 4) {
		fprintf(stderr, "usage: netmap-if rx|tx|load xdp-native|xdp-generic|packet IF\n");
		return 2;
	}
	ifindex = (int)if_nametoindex(argv[3]);
	check(ifindex != 0, argv[3]);
	if (strcmp(argv[1], "load") == 0) {
		packet_open();
		printf("{}\n");
		fflush(stdout);
		for (;;)
			packet_tx();
	}
	while (fgets(line, sizeof(line), stdin)) {
		printf("{\"mpps\":%.6f}\n", measure(argv[1], argv[2], atof(line) / 1000));
		fflush(stdout);
	}
	return 0;
}
