// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The classic inversion: a normal thread owns a mutex that an urgent one waits
 * for, and threads of a priority in between want the CPU. The urgent one must
 * have the mutex when the owner has done the rest of what it needs it for,
 * whatever those in between do. Without priority inheritance it waits for them.
 *
 * Guest time that counts instructions makes this exact: with NTSYNC_EXACT=1 the
 * wait may last a twentieth longer than the owner needs.
 */
#include "pi_test.h"

#define NEEDED_USEC	20000
#define HOG_USEC	2000000
#define NB_HOGS		2

static atomic_uint go;
static atomic_bool over;
static __u64 got;	/* when the waiter had it */

/* Sleeps until it is told to go on, and then needs so much of the CPU. */
static int do_need(struct actor *a)
{
	__u64 end;

	while (!atomic_load(&go))
		nt_futex_wait(&go, 0, UINT64_MAX);
	end = nt_now(CLOCK_THREAD_CPUTIME_ID) + NEEDED_USEC * 1000ULL;
	while (nt_now(CLOCK_THREAD_CPUTIME_ID) < end)
		;
	return nt_unlock_mutex(a->objs[0], a->id, NULL);
}

static int do_get(struct actor *a)
{
	int ret = do_wait(a);

	got = nt_now(CLOCK_MONOTONIC);
	atomic_store(&over, true);
	return ret;
}

static int do_hog(struct actor *a)
{
	__u64 end = nt_now(CLOCK_MONOTONIC) + HOG_USEC * 1000ULL;

	(void)a;
	while (!atomic_load(&over) && nt_now(CLOCK_MONOTONIC) < end)
		;
	return 0;
}

FIXTURE(inversion) {
	int dev;
	int mutex;
	struct actor owner;
	struct actor waiter;
	struct actor hog[NB_HOGS];
};

FIXTURE_SETUP(inversion)
{
	int i;

	begin_rt(self->dev);
	self->mutex = nt_create_mutex(self->dev, 0, 0);
	ASSERT_LE(0, self->mutex);
	self->owner.id = 1;
	self->waiter.id = 2;
	ASSERT_EQ(0, actor_start(&self->owner, self->dev, 0));
	ASSERT_EQ(0, actor_start(&self->waiter, self->dev, 80));
	for (i = 0; i < NB_HOGS; i++)
		ASSERT_EQ(0, actor_start(&self->hog[i], self->dev, 50));
}

FIXTURE_TEARDOWN(inversion)
{
	close(self->dev);
}

TEST_F_TIMEOUT(inversion, bounded, NT_TEST_TIMEOUT)
{
	__u64 begin, limit, usec;
	int i;

	acquires(&self->owner, self->mutex);
	actor_begin(&self->owner, do_need);
	ASSERT_TRUE(actor_asleep(&self->owner));
	self->waiter.objs[0] = self->mutex;
	self->waiter.nb_objs = 1;
	actor_begin(&self->waiter, do_get);
	ASSERT_TRUE(actor_asleep(&self->waiter));

	/* None of them runs before the controlling thread sleeps. */
	for (i = 0; i < NB_HOGS; i++)
		actor_begin(&self->hog[i], do_hog);
	begin = nt_now(CLOCK_MONOTONIC);
	atomic_store(&go, 1);
	nt_futex_wake(&go);

	EXPECT_EQ(0, actor_end(&self->waiter));
	usec = (got - begin) / 1000;
	TH_LOG("the owner needed %d us, the waiter had it after %llu us", NEEDED_USEC,
	       (unsigned long long)usec);
	limit = nt_env("NTSYNC_EXACT", 0) ? NEEDED_USEC + NEEDED_USEC / 20 : HOG_USEC / 4;
	EXPECT_GT(limit, usec);
	EXPECT_EQ(0, actor_end(&self->owner));
	for (i = 0; i < NB_HOGS; i++)
		EXPECT_EQ(0, actor_end(&self->hog[i]));
}

TEST_HARNESS_MAIN
