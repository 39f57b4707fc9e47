// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a round trip costs between two threads of the same priority, through a
 * channel and through two pipes, in nanoseconds of guest time: with QEMU's
 * -icount shift=0,sleep=off that is the number of instructions.
 *
 *	INIT=build/bench/round_trip ICOUNT=1 LANE=vm scripts/boot
 *
 * prints a line "bench: NAME NSEC" for each. The median of several rounds is
 * printed; the first ones warm up.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/ntsync.h>
#include "bench.h"

#define NB_ROUNDS	15
#define NB_OPS		1000

static int channel, there[2], back[2];

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

static const struct {
	const char *name;
	void *(*serve)(void *);
	void (*ask)(void);
} ways[] = {
	{ "channel-round-trip", serve_channel, ask_channel },
	{ "pipe-round-trip", serve_pipe, ask_pipe },
};

int main(void)
{
	struct ntsync_channel_args args = { .max_depth = 16 };
	uint64_t rounds[NB_ROUNDS], begin;
	unsigned int i, j, k;
	pthread_t thread;
	int dev;

	dev = open("/dev/ntsync", O_CLOEXEC | O_RDONLY);
	must(dev, "/dev/ntsync");
	must(channel = ioctl(dev, NTSYNC_IOC_CREATE_CHANNEL, &args), "CREATE_CHANNEL");
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
