/*
 * The reference of vfio-user-registers: a vfio-user server that does nothing but answer, as small and as fast as it can be.
 *
 * Its PCI function has the IDs of QEMU's pci-testdev, which no driver of Linux claims, and one memory BAR of 128 KiB that
 * reads 0 and takes every write. One thread asks the socket again and again; it sleeps when nothing has come for about a
 * millisecond, so that it takes no core from a guest that does something else.
 *
 *   vfio-user-server SOCKET     says {"listening":true}; ends with its client, or with its standard input while it has none
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common.h"
#include "vfio-user.h"

#define BAR_BYTES 0x20000
#define CONFIG_REGION 7
#define COMMAND 4
#define LONGEST 256

/* how often the socket is asked in vain before the thread sleeps */
#define ASKS 5000

/* vendor and device ID; class "other" */
static uint8_t config[LONGEST] = { 0x36, 0x1b, 0x05, 0x00, [0x0b] = 0xff };

static const char version[] = "\0\0\0\0{\"capabilities\":{\"max_msg_fds\":8,\"write_multiple\":true}}";

/* Makes the payload of a reply of the request's payload; returns its length. */
static uint32_t serve(uint16_t command, const uint8_t *payload, uint8_t *out)
{
	uint32_t words[8] = { 0 }, index;
	struct access access;

	switch (command) {
	case REGION_READ:
		memcpy(&access, payload, sizeof(access));
		errno = EINVAL;
		check(access.count <= LONGEST, "REGION_READ: count");
		memcpy(out, payload, sizeof(access));
		if (access.region == CONFIG_REGION && access.offset <= LONGEST - access.count)
			memcpy(out + sizeof(access), config + access.offset, access.count);
		else
			memset(out + sizeof(access), 0, access.count);
		return sizeof(access) + access.count;
	case REGION_WRITE:
		memcpy(&access, payload, sizeof(access));
		if (access.region == CONFIG_REGION && access.offset == COMMAND)
			memcpy(config + COMMAND, payload + sizeof(access), 2);
		memcpy(out, payload, sizeof(access));
		return sizeof(access);
	case VERSION:
		memcpy(out, version, sizeof(version));
		return sizeof(version);
	case DMA_UNMAP:
		memcpy(out, payload, 24);
		return 24;
	case GET_INFO:
		/* can be reset, PCI; 9 regions, 5 kinds of interrupts */
		memcpy(out, (uint32_t[]){ 16, 0x3, 9, 5 }, 16);
		return 16;
	case GET_REGION_INFO:
		memcpy(&index, payload + 8, 4);
		words[0] = 32;
		words[2] = index;
		words[4] = index == 0 ? BAR_BYTES : index == CONFIG_REGION ? LONGEST : 0;
		words[1] = words[4] ? 0x3 : 0; /* readable, writable */
		memcpy(out, words, 32);
		return 32;
	case GET_IRQ_INFO:
		memcpy(&index, payload + 8, 4);
		memcpy(out, (uint32_t[]){ 16, 0x1, index, 0 }, 16);
		return 16;
	default: /* DMA_MAP, SET_IRQS, RESET, REGION_WRITE_MULTI: taken */
		return 0;
	}
}

static int accept_client(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct pollfd wait[2] = { { .fd = socket(AF_UNIX, SOCK_STREAM, 0), .events = POLLIN }, { .fd = 0, .events = POLLIN } };
	int client;

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	check(wait[0].fd >= 0 && bind(wait[0].fd, (void *)&address, sizeof(address)) == 0 && listen(wait[0].fd, 1) == 0, path);
	printf("{\"listening\":true}\n");
	fflush(stdout);
	check(poll(wait, 2, -1) > 0, "poll");
	if (wait[1].revents)
		exit(0);
	client = accept(wait[0].fd, NULL, NULL);
	check(client >= 0, "accept");
	return client;
}

int main(int argc, char **argv)
{
	static uint8_t in[1 << 16], out[sizeof(struct header) + sizeof(struct access) + LONGEST];
	struct header header;
	size_t have = 0, at;
	int client, asks = 0;

	if (argc != 2) {
		fprintf(stderr, "usage: vfio-user-server SOCKET\n");
		return 2;
	}
	client = accept_client(argv[1]);
	for (;;) {
		/* descriptors that come with a message are nobody's without room for them: the kernel closes them */
		ssize_t n = recv(client, in + have, sizeof(in) - have, asks < ASKS ? MSG_DONTWAIT : 0);

		asks++;
		if (n < 0 && errno == EAGAIN)
			continue;
		asks = 0;
		if (n == 0 || (n < 0 && errno == ECONNRESET))
			return 0;
		check(n > 0, "recv");
		have += n;
		for (at = 0; have - at >= sizeof(header); at += header.size) {
			memcpy(&header, in + at, sizeof(header));
			errno = EPROTO;
			check(header.size >= sizeof(header) && header.size <= sizeof(in), "a message's length");
			if (have - at < header.size)
				break;
			uint32_t bytes = serve(header.command, in + at + sizeof(header), out + sizeof(header));

			if (header.flags & NO_REPLY)
				continue;
			struct header reply = { header.id, header.command, sizeof(header) + bytes, REPLY, 0 };

			memcpy(out, &reply, sizeof(reply));
			check(send(client, out, reply.size, MSG_NOSIGNAL) == (ssize_t)reply.size, "send");
		}
		have -= at;
		memmove(in, in + at, have);
	}
}
