/*
 * Register accesses over vfio-user as a client makes them that never sleeps: what is left is the server's time, and the socket's.
 *
 *   vfio-user-client SOCKET     each line "read MS" or "write MS" on standard input is answered by {"kps":N}
 *
 * Reads e1000's register STATUS, or writes VET, in BAR 0: one read at a time, and writes that nobody answers, with a read at
 * their end.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "common.h"
#include "vfio-user.h"

#define STATUS 0x0008
#define VET 0x0038

static int server;

struct read_request {
	struct header header;
	struct access access;
};

struct write_request {
	struct header header;
	struct access access;
	uint32_t value;
} __attribute__((packed));

static void request(const void *message, size_t bytes)
{
	check(send(server, message, bytes, MSG_NOSIGNAL) == (ssize_t)bytes, "send");
}

static void await_reply(void)
{
	char reply[4096];
	ssize_t n;

	do
		n = recv(server, reply, sizeof(reply), MSG_DONTWAIT);
	while (n < 0 && errno == EAGAIN);
	check(n >= (ssize_t)sizeof(struct header), "recv");
}

static void read_register(void)
{
	struct read_request message = { { 1, REGION_READ, sizeof(message), 0, 0 }, { STATUS, 0, 4 } };

	request(&message, sizeof(message));
	await_reply();
}

static void write_register(void)
{
	struct write_request message = { { 2, REGION_WRITE, sizeof(message), NO_REPLY, 0 }, { VET, 0, 4 }, 0x8100 };

	request(&message, sizeof(message));
}

static void connect_server(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct {
		struct header header;
		uint16_t major, minor;
		char capabilities[256];
	} hello = { { 0, VERSION, sizeof(hello), 0, 0 }, 0, 0, "{\"capabilities\":{\"max_msg_fds\":8,\"write_multiple\":true}}" };

	strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
	server = socket(AF_UNIX, SOCK_STREAM, 0);
	check(server >= 0 && connect(server, (void *)&address, sizeof(address)) == 0, path);
	request(&hello, sizeof(hello));
	await_reply();
}

int main(int argc, char **argv)
{
	char what[8];
	double ms;

	if (argc != 2) {
		fprintf(stderr, "usage: vfio-user-client SOCKET\n");
		return 2;
	}
	connect_server(argv[1]);
	while (scanf("%7s %lf", what, &ms) == 2) {
		double start = now(), count = 0;

		for (; now() < start + ms / 1000; count++)
			if (what[0] == 'r')
				read_register();
			else
				write_register();
		read_register();
		printf("{\"kps\":%.1f}\n", count / (now() - start) / 1e3);
		fflush(stdout);
	}
	return 0;
}
