// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What an operation costs that nobody waits for, in nanoseconds of guest time:
 * with QEMU's -icount shift=0,sleep=off that is the number of instructions.
 *
 *	INIT=build/bench/uncontended ICOUNT=1 LANE=vm scripts/boot
 *
 * prints a line "bench: NAME NSEC" for each. A second thread is alive all the
 * time, because a process that has only one takes no references to its files.
 * The median of several rounds is printed; the first ones warm up.
 */
#include <fcntl.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <linux/ntsync.h>
#include "bench.h"

#define NB_ROUNDS	31
#define NB_OPS		2000

static int dev, sem, mutex, event;

static void acquire(int obj)
{
	struct ntsync_wait_args args = {
		.timeout = UINT64_MAX, .objs = (uintptr_t)&obj, .count = 1, .owner = 1,
	};

	must(ioctl(dev, NTSYNC_IOC_WAIT_ANY, &args), "WAIT_ANY");
}

static void op_read(void)
{
	struct ntsync_sem_args args;

	must(ioctl(sem, NTSYNC_IOC_SEM_READ, &args), "SEM_READ");
}

static void op_mutex(void)
{
	struct ntsync_mutex_args args = { .owner = 1 };

	acquire(mutex);
	must(ioctl(mutex, NTSYNC_IOC_MUTEX_UNLOCK, &args), "MUTEX_UNLOCK");
}

static void op_sem(void)
{
	__u32 count = 1;

	acquire(sem);
	must(ioctl(sem, NTSYNC_IOC_SEM_RELEASE, &count), "SEM_RELEASE");
}

static void op_event(void)
{
	__u32 state;

	must(ioctl(event, NTSYNC_IOC_EVENT_SET, &state), "EVENT_SET");
	acquire(event);
}

static const struct {
	const char *name;
	void (*op)(void);
} ops[] = {
	{ "sem-read", op_read },
	{ "mutex-acquire-release", op_mutex },
	{ "sem-acquire-release", op_sem },
	{ "event-set-wait", op_event },
};

static void *sleeper(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return NULL;
}

int main(void)
{
	struct ntsync_sem_args sem_args = { .count = 1, .max = 1 };
	struct ntsync_mutex_args mutex_args = { 0 };
	struct ntsync_event_args event_args = { 0 };
	uint64_t rounds[NB_ROUNDS], begin;
	unsigned int i, j, k;
	pthread_t thread;

	dev = open("/dev/ntsync", O_CLOEXEC | O_RDONLY);
	must(dev, "/dev/ntsync");
	must(sem = ioctl(dev, NTSYNC_IOC_CREATE_SEM, &sem_args), "CREATE_SEM");
	must(mutex = ioctl(dev, NTSYNC_IOC_CREATE_MUTEX, &mutex_args), "CREATE_MUTEX");
	must(event = ioctl(dev, NTSYNC_IOC_CREATE_EVENT, &event_args), "CREATE_EVENT");
	if (pthread_create(&thread, NULL, sleeper, NULL))
		return 1;

	for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++) {
		for (j = 0; j < NB_ROUNDS; j++) {
			begin = now(CLOCK_MONOTONIC);
			for (k = 0; k < NB_OPS; k++)
				ops[i].op();
			rounds[j] = (now(CLOCK_MONOTONIC) - begin) / NB_OPS;
		}
		printf("bench: %s %llu\n", ops[i].name, (unsigned long long)median(rounds, NB_ROUNDS));
	}
	return 0;
}
