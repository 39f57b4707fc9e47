// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The classic inversion: how long does a thread of FIFO 80 wait for a mutex whose owner, a
 * normal thread, needs 2 ms of the CPU before it releases it, while two threads of FIFO 50
 * want 20 ms each?
 *
 *	INIT=build/bench/longest_wait ICOUNT=1 LANE=vm scripts/boot
 *
 * selftests/ntsync/inversion.c tests the same.
 */
#include "bench.h"

#define NEEDED_NSEC	2000000ULL
#define HOG_NSEC	20000000ULL

static int mutex;
static atomic_uint nr_begun, nr_gone;	/* rounds: the owner is to own, all are to go on */
static atomic_bool over;
static bool owned;

static void await(atomic_uint *word, unsigned int val)
{
	unsigned int seen;

	while ((seen = atomic_load(word)) < val)
		futex(word, FUTEX_WAIT, seen);
}

static void next(atomic_uint *word)
{
	atomic_fetch_add(word, 1);
	futex(word, FUTEX_WAKE, INT_MAX);
}

static void *owner(void *arg)
{
	unsigned int round;

	(void)arg;
	for (round = 1; ; round++) {
		uint64_t end;

		await(&nr_begun, round);
		acquire(mutex, 1);
		await(&nr_gone, round);
		end = now(CLOCK_THREAD_CPUTIME_ID) + NEEDED_NSEC;
		while (now(CLOCK_THREAD_CPUTIME_ID) < end)
			;
		unlock(mutex, 1);
	}
	return NULL;
}

static void *hog(void *arg)
{
	unsigned int round;

	(void)arg;
	for (round = 1; ; round++) {
		uint64_t end;

		await(&nr_gone, round);
		end = now(CLOCK_MONOTONIC) + HOG_NSEC;
		while (!atomic_load(&over) && now(CLOCK_MONOTONIC) < end)
			;
	}
	return NULL;
}

static int open_scene(void)
{
	mutex = new_mutex(0, 0);
	start(owner, NULL, 0);
	start(hog, NULL, 50);
	start(hog, NULL, 50);
	return 0;
}

static void set_scene(void)
{
	if (owned)
		unlock(mutex, 2);
	settle();
	next(&nr_begun);
	settle();
	atomic_store(&over, false);
	/* None of them runs before the measuring thread sleeps. */
	next(&nr_gone);
}

static void run_wait(void)
{
	acquire(mutex, 2);
	atomic_store(&over, true);
	owned = true;
}

static const struct op ops[] = {
	{ .name = "longest-wait-inversion", .nb_ops = 1, .prio = 80, .sleep = MUST_SLEEP,
	  .setup = open_scene, .before = set_scene, .run = run_wait },
};

int main(void)
{
	open_device();
	return bench(ops, ARRAY_LEN(ops), 0);
}
