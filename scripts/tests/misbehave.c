// SPDX-License-Identifier: GPL-2.0-only
/*
 * misbehave: a program that ends a guest in the way that its argument names. Used by
 * scripts/tests/run --guest, to see the watchdogs of scripts/vm and scripts/guest/init at work.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static void *spin(void *arg)
{
	struct sched_param param = { .sched_priority = 99 };

	pthread_setschedparam(pthread_self(), SCHED_FIFO, &param);
	for (;;)
		;
	return arg;
}

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";

	if (!strcmp(how, "pass"))
		return 0;
	if (!strcmp(how, "fail"))
		return 7;
	if (!strcmp(how, "cut")) {
		/* Ends well, but has not done what it planned. */
		puts("1..2\nok 1 global.x");
		return 0;
	}
	if (!strcmp(how, "sleep"))
		for (;;)
			pause();
	if (!strcmp(how, "stray")) {
		if (!fork())
			for (;;)
				pause();
		return 0;
	}
	if (!strcmp(how, "hog")) {
		/* No CPU is left for timers, not even for the guest's own watchdog. */
		int i;

		for (i = 0; i < 16; i++) {
			pthread_t thread;

			pthread_create(&thread, NULL, spin, NULL);
		}
		spin(NULL);
	}
	if (!strcmp(how, "warn")) {
		int fd = open("/dev/kmsg", O_WRONLY);
		const char *msg = "<4>WARNING: from user space\n";

		return fd < 0 || write(fd, msg, strlen(msg)) < 0;
	}
	return 2;
}
