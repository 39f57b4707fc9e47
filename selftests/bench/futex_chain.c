// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What a link of a chain of futex-PI locks costs, in nanoseconds of guest time:
 * with QEMU's -icount shift=0,sleep=off that is the number of instructions.
 *
 * Each of a number of threads owns a lock and waits for that of the next one. A
 * real-time thread waits for the first one, with a timeout that is over at once:
 * it raises the whole chain and lowers it again. Prints "bench: NAME NSEC..." for a
 * short and for a long chain, and for a link of the difference, once up or down.
 */
#include "bench.h"

#define MAX_LEN		33
#define NB_ROUNDS	31
#define NB_OPS		20

static atomic_uint lock[MAX_LEN];
static atomic_uint ready;

/* Owns the lock of its number, and waits for the next one if there is one. */
static void *owner(void *arg)
{
	intptr_t i = (intptr_t)arg;

	atomic_store(&lock[i], syscall(SYS_gettid));
	atomic_fetch_add(&ready, 1);
	if (i + 1 < MAX_LEN)
		syscall(SYS_futex, &lock[i + 1], FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0);
	for (;;)
		pause();
	return NULL;
}

/* Up and down the chain that begins at @first. */
static uint64_t measure(int first)
{
	uint64_t rounds[NB_ROUNDS], begin;
	struct timespec ts = { .tv_sec = 1 };
	int i, j;

	printf("bench: futex-chain-%d", MAX_LEN - first);
	/* The first round warms up. */
	for (i = -1; i < NB_ROUNDS; i++) {
		begin = now(CLOCK_MONOTONIC);
		for (j = 0; j < NB_OPS; j++) {
			if (syscall(SYS_futex, &lock[first], FUTEX_LOCK_PI_PRIVATE, 0, &ts, NULL, 0) != -1 ||
			    errno != ETIMEDOUT) {
				fprintf(stderr, "futex-chain: it did not time out: %m\n");
				exit(1);
			}
		}
		if (i < 0)
			continue;
		rounds[i] = (now(CLOCK_MONOTONIC) - begin) / NB_OPS;
		printf(" %llu", (unsigned long long)rounds[i]);
	}
	printf("\n");
	return median(rounds, NB_ROUNDS);
}

int main(void)
{
	struct sched_param param = { .sched_priority = 50 };
	uint64_t short_chain, long_chain;
	pthread_t thread;
	cpu_set_t all;
	intptr_t i;

	must(sched_getaffinity(0, sizeof(all), &all), "sched_getaffinity");
	pin(&all, 0);
	/* From the end, so that each finds the next one's lock owned. */
	for (i = MAX_LEN - 1; i >= 0; i--) {
		if (pthread_create(&thread, NULL, owner, (void *)i))
			return 1;
		while (atomic_load(&ready) != MAX_LEN - i)
			usleep(1000);
		usleep(10000);
	}
	if (sched_setscheduler(0, SCHED_FIFO, &param)) {
		printf("# futex-chain left out: %s\n", errno == EPERM ? "not allowed" : "no real-time priority");
		return 0;
	}
	short_chain = measure(MAX_LEN - 1);
	long_chain = measure(0);
	printf("bench: futex-link %llu\n",
	       (unsigned long long)(long_chain - short_chain) / (2 * (MAX_LEN - 1)));
	return 0;
}
