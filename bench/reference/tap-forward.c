/*
 * The reference of bench/tap-forward: what one tap reads the other writes, virtio-net headers and all,
 * with poll, read and write; no switch between.
 *
 *   tap-forward INTERFACE INTERFACE     says {"ready":true}, and goes on until its input ends
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "common.h"

#define BURST 64

static char frame[1 << 17];

static int open_tap(const char *name)
{
	struct ifreq ifr = { .ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR };
	int hdr = 12, tap = open("/dev/net/tun", O_RDWR | O_NONBLOCK);

	check(tap >= 0, "/dev/net/tun");
	strncpy(ifr.ifr_name, name, IFNAMSIZ - 1);
	check(ioctl(tap, TUNSETIFF, &ifr) == 0, "TUNSETIFF");
	check(ioctl(tap, TUNSETVNETHDRSZ, &hdr) == 0, "TUNSETVNETHDRSZ");
	check(ioctl(tap, TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) == 0, "TUNSETOFFLOAD");
	return tap;
}

int main(int argc, char **argv)
{
	struct pollfd fds[3] = { { .fd = 0, .events = POLLIN } };

	if (argc != 3) {
		fprintf(stderr, "usage: tap-forward INTERFACE INTERFACE\n");
		return 2;
	}
	for (int i = 1; i <= 2; i++)
		fds[i] = (struct pollfd){ .fd = open_tap(argv[i]), .events = POLLIN };
	printf("{\"ready\":true}\n");
	fflush(stdout);
	for (;;) {
		poll(fds, 3, -1);
		if (fds[0].revents && read(0, frame, sizeof(frame)) <= 0)
			return 0;
		for (int i = 1; i <= 2; i++)
			for (int n = 0; n < BURST && (fds[i].revents & POLLIN); n++) {
				ssize_t length = read(fds[i].fd, frame, sizeof(frame));

				if (length <= 0 || write(fds[3 - i].fd, frame, length) < 0)
					break;
			}
	}
}
