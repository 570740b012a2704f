/*
 * The two ends of bench/tap-forward: sockets of the kernel, each end in a network namespace of its own.
 *
 *   net-load server            a TCP sink at port 5001, a UDP sink at 5002, a UDP echo at 5003
 *   net-load client ADDRESS
 * A line on standard input is answered by a line of JSON:
 *   count      (server)  {"datagrams":N,"bytes":N} received so far by the sinks
 *   tcp MS     (client)  sends with TCP for so long; {"done":true}
 *   udp MS N   (client)  sends datagrams of N bytes for so long; {"done":true}
 *   rtt MS     (client)  one datagram back and forth; {"us":MEDIAN}
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

#define BATCH 64

static uint64_t datagrams, bytes;
static char block[1 << 17];

static struct sockaddr_in address(const char *host, int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port) };

	check(inet_pton(AF_INET, host, &a.sin_addr) == 1, host);
	return a;
}

static int bound(int type, int port)
{
	struct sockaddr_in a = address("0.0.0.0", port);
	int s = socket(AF_INET, type, 0), on = 1, size = 4 << 20;

	check(s >= 0, "socket");
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(s, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	check(bind(s, (void *)&a, sizeof(a)) == 0, "bind");
	return s;
}

static void *tcp_sink(void *unused)
{
	int listener = bound(SOCK_STREAM, 5001);

	(void)unused;
	check(listen(listener, 8) == 0, "listen");
	for (;;) {
		int s = accept(listener, NULL, NULL);
		ssize_t n;

		while ((n = recv(s, block, sizeof(block), 0)) > 0)
			__atomic_add_fetch(&bytes, n, __ATOMIC_RELAXED);
		close(s);
	}
}

static void *udp_sink(void *unused)
{
	static char buffers[BATCH][2048];
	struct mmsghdr messages[BATCH];
	struct iovec iov[BATCH];
	int s = bound(SOCK_DGRAM, 5002);

	(void)unused;
	for (int i = 0; i < BATCH; i++) {
		iov[i] = (struct iovec){ buffers[i], sizeof(buffers[i]) };
		messages[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov[i], .msg_iovlen = 1 } };
	}
	for (;;) {
		int n = recvmmsg(s, messages, BATCH, MSG_WAITFORONE, NULL);

		if (n > 0)
			__atomic_add_fetch(&datagrams, n, __ATOMIC_RELAXED);
	}
}

static void *udp_echo(void *unused)
{
	int s = bound(SOCK_DGRAM, 5003);

	(void)unused;
	for (;;) {
		struct sockaddr_in from;
		socklen_t length = sizeof(from);
		ssize_t n = recvfrom(s, block, 2048, 0, (void *)&from, &length);

		if (n > 0)
			sendto(s, block, n, 0, (void *)&from, length);
	}
}

static void server(void)
{
	pthread_t thread;
	char line[64];

	pthread_create(&thread, NULL, tcp_sink, NULL);
	pthread_create(&thread, NULL, udp_sink, NULL);
	pthread_create(&thread, NULL, udp_echo, NULL);
	printf("{\"ready\":true}\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		printf("{\"datagrams\":%llu,\"bytes\":%llu}\n",
		       (unsigned long long)__atomic_load_n(&datagrams, __ATOMIC_RELAXED),
		       (unsigned long long)__atomic_load_n(&bytes, __ATOMIC_RELAXED));
		fflush(stdout);
	}
	exit(0);
}

static void send_tcp(const char *host, double seconds)
{
	struct sockaddr_in a = address(host, 5001);
	int s = socket(AF_INET, SOCK_STREAM, 0);
	double end = now() + seconds;

	check(connect(s, (void *)&a, sizeof(a)) == 0, "connect");
	while (now() < end)
		if (send(s, block, sizeof(block), MSG_NOSIGNAL) <= 0)
			break;
	close(s);
}

static void send_udp(const char *host, double seconds, int length)
{
	struct sockaddr_in a = address(host, 5002);
	struct mmsghdr messages[BATCH];
	struct iovec iov = { block, length };
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	double end = now() + seconds;

	check(connect(s, (void *)&a, sizeof(a)) == 0, "connect");
	for (int i = 0; i < BATCH; i++)
		messages[i] = (struct mmsghdr){ .msg_hdr = { .msg_iov = &iov, .msg_iovlen = 1 } };
	while (now() < end)
		sendmmsg(s, messages, BATCH, 0);
	close(s);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double round_trip(const char *host, double seconds)
{
	static double samples[1 << 20];
	struct sockaddr_in a = address(host, 5003);
	struct timeval patience = { .tv_usec = 200000 };
	int s = socket(AF_INET, SOCK_DGRAM, 0);
	double end = now() + seconds;
	size_t n = 0;

	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	check(connect(s, (void *)&a, sizeof(a)) == 0, "connect");
	while (now() < end && n < sizeof(samples) / sizeof(samples[0])) {
		double start = now();

		send(s, block, 18, 0);
		if (recv(s, block, 2048, 0) > 0)
			samples[n++] = (now() - start) * 1e6;
	}
	close(s);
	qsort(samples, n, sizeof(samples[0]), by_value);
	return n > 0 ? samples[n / 2] : 0;
}

static void client(const char *host)
{
	char line[64], what[8];
	int ms, length;

	printf("{\"ready\":true}\n");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		length = 18;
		check(sscanf(line, "%7s %d %d", what, &ms, &length) >= 2, "command");
		if (strcmp(what, "rtt") == 0)
			printf("{\"us\":%.3f}\n", round_trip(host, ms / 1e3));
		else {
			if (strcmp(what, "tcp") == 0)
				send_tcp(host, ms / 1e3);
			else
				send_udp(host, ms / 1e3, length);
			printf("{\"done\":true}\n");
		}
		fflush(stdout);
	}
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "server") == 0)
		server();
	else if (argc == 3 && strcmp(argv[1], "client") == 0)
		client(argv[2]);
	else {
		fprintf(stderr, "usage: net-load server | client ADDRESS\n");
		return 2;
	}
	return 0;
}
