/*
 * The load of bench/tap's receive cases: sends one frame out of an interface for as long as it lives,
 * straight to its driver.
 *
 *   tap-load INTERFACE LENGTH [GSO]
 */
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/virtio_net.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	static uint8_t frame[1 << 17];
	struct sockaddr_ll to = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL) };
	struct virtio_net_hdr header = { 0 };
	struct iovec parts[2] = { { &header, sizeof(header) }, { frame, 0 } };
	int gso = argc > 3 ? atoi(argv[3]) : 0, one = 1, fd;

	if (argc < 3)
		return 2;
	parts[1].iov_len = atoi(argv[2]);
	to.sll_ifindex = if_nametoindex(argv[1]);
	fd = socket(AF_PACKET, SOCK_RAW, 0);
	if (fd < 0 || setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof(one)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_VNET_HDR, &one, sizeof(one)) ||
	    bind(fd, (struct sockaddr *)&to, sizeof(to))) {
		perror(argv[1]);
		return 1;
	}
	memcpy(frame, (uint8_t[]){ 2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5 }, 14);
	if (gso) {
		size_t ip = parts[1].iov_len - 14;

		frame[12] = 8;
		frame[13] = 0;
		frame[14] = 0x45;
		frame[16] = ip >> 8;
		frame[17] = ip;
		frame[23] = 6;
		frame[46] = 0x50;
		header = (struct virtio_net_hdr){ 1, VIRTIO_NET_HDR_GSO_TCPV4, 54, gso, 34, 16 };
	}
	printf("{\"ready\":true}\n");
	fflush(stdout);
	/* a full queue drops the frame: nothing to wait for */
	while (getppid() != 1)
		if (writev(fd, parts, 2) < 0)
			continue;
	return 0;
}
