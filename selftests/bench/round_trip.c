// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a round trip costs between two threads of the same priority, in nanoseconds of guest
 * time: with QEMU's -icount shift=0,sleep=off that is the number of instructions.
 *
 * Through a channel and through two pipes; and with a server that waits for two eventfds
 * as well: AGGREGATE_WAIT and a channel, or epoll and a socketpair.
 *
 *	INIT=build/bench/round_trip ICOUNT=1 LANE=vm scripts/boot
 *
 * prints a line "bench: NAME NSEC" for each. The median of several rounds is
 * printed; the first ones warm up.
 */
#include <fcntl.h>
#include <pthread.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
#include <linux/ntsync.h>
#include "bench.h"

#define NB_ROUNDS	15
#define NB_OPS		1000

static int dev, channel, dispatched, there[2], back[2], sockets[2], other[2], epoll;

static void *serve_channel(void *arg)
{
	struct ntsync_channel_recv_args args;

	(void)arg;
	for (;;) {
		must(ioctl(channel, NTSYNC_IOC_CHANNEL_RECV, &args), "RECV");
		must(ioctl(channel, NTSYNC_IOC_CHANNEL_REPLY, &args.entry_id), "REPLY");
	}
	return NULL;
}

static void ask_channel(void)
{
	struct ntsync_channel_send_args args = { .payload_off = 1, .reply_off = 2 };

	must(ioctl(channel, NTSYNC_IOC_CHANNEL_SEND_PI, &args), "SEND_PI");
}

static void *serve_pipe(void *arg)
{
	uint64_t request;

	(void)arg;
	for (;;) {
		must(read(there[0], &request, sizeof(request)), "read");
		must(write(back[1], &request, sizeof(request)), "write");
	}
	return NULL;
}

static void ask_pipe(void)
{
	uint64_t request = 1;

	must(write(there[1], &request, sizeof(request)), "write");
	must(read(back[0], &request, sizeof(request)), "read");
}

static void *serve_aggregate(void *arg)
{
	struct ntsync_source sources[] = {
		{ .type = NTSYNC_SOURCE_OBJECT, .fd = dispatched },
		{ .type = NTSYNC_SOURCE_FD, .fd = other[0], .events = POLLIN },
		{ .type = NTSYNC_SOURCE_FD, .fd = other[1], .events = POLLIN },
	};
	struct ntsync_channel_recv2_args args;

	(void)arg;
	for (;;) {
		struct ntsync_aggregate_wait_args wait = {
			.timeout = UINT64_MAX, .sources = (uintptr_t)sources, .nb_sources = 3,
		};

		must(ioctl(dev, NTSYNC_IOC_AGGREGATE_WAIT, &wait), "AGGREGATE_WAIT");
		must(wait.fired_index ? -1 : 0, "fired_index");
		must(ioctl(dispatched, NTSYNC_IOC_CHANNEL_RECV2, &args), "RECV2");
		must(ioctl(dispatched, NTSYNC_IOC_CHANNEL_REPLY, &args.entry_id), "REPLY");
	}
	return NULL;
}

static void ask_aggregate(void)
{
	struct ntsync_channel_send_args args = { .payload_off = 1, .reply_off = 2 };

	must(ioctl(dispatched, NTSYNC_IOC_CHANNEL_SEND_PI, &args), "SEND_PI");
}

static void *serve_epoll(void *arg)
{
	struct epoll_event event;
	uint64_t request;

	(void)arg;
	for (;;) {
		must(epoll_wait(epoll, &event, 1, -1), "epoll_wait");
		must(read(sockets[0], &request, sizeof(request)), "read");
		must(write(sockets[0], &request, sizeof(request)), "write");
	}
	return NULL;
}

static void ask_epoll(void)
{
	uint64_t request = 1;

	must(write(sockets[1], &request, sizeof(request)), "write");
	must(read(sockets[1], &request, sizeof(request)), "read");
}

static void watch(int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	must(fd, "descriptor");
	must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

static const struct {
	const char *name;
	void *(*serve)(void *);
	void (*ask)(void);
} ways[] = {
	{ "channel-round-trip", serve_channel, ask_channel },
	{ "pipe-round-trip", serve_pipe, ask_pipe },
	{ "aggregate-round-trip", serve_aggregate, ask_aggregate },
	{ "epoll-round-trip", serve_epoll, ask_epoll },
};

int main(void)
{
	struct ntsync_channel_args args = { .max_depth = 16 };
	uint64_t rounds[NB_ROUNDS], begin;
	unsigned int i, j, k;
	pthread_t thread;

	dev = open("/dev/ntsync", O_CLOEXEC | O_RDONLY);
	must(dev, "/dev/ntsync");
	must(channel = ioctl(dev, NTSYNC_IOC_CREATE_CHANNEL, &args), "CREATE_CHANNEL");
	must(dispatched = ioctl(dev, NTSYNC_IOC_CREATE_CHANNEL, &args), "CREATE_CHANNEL");
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), "socketpair");
	must(epoll = epoll_create1(0), "epoll_create1");
	watch(sockets[0]);
	watch(other[0] = eventfd(0, 0));
	watch(other[1] = eventfd(0, 0));
	must(pipe(there), "pipe");
	must(pipe(back), "pipe");

	for (i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		must(-pthread_create(&thread, NULL, ways[i].serve, NULL), "pthread_create");
		for (j = 0; j < NB_ROUNDS; j++) {
			begin = now(CLOCK_MONOTONIC);
			for (k = 0; k < NB_OPS; k++)
				ways[i].ask();
			rounds[j] = (now(CLOCK_MONOTONIC) - begin) / NB_OPS;
		}
		printf("bench: %s %llu\n", ways[i].name,
		       (unsigned long long)median(rounds, NB_ROUNDS));
	}
	fflush(stdout);
	_exit(0);
}
