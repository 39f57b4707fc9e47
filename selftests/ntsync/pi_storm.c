// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Priority inheritance when everything happens at the same time.
 *
 * Some threads on all CPUs acquire and release mutexes and futex-PI locks, one,
 * any or all of several, with and without timeouts, are interrupted by signals
 * and given other priorities by each other: a storm. Then each of them begins
 * one last wait, which it may get or not, and nobody releases anything any more.
 * When all of them sleep, what they wait for and what they own says what priority
 * each of them must have: as in pi_graph, the least fixed point.
 *
 * What happens in a storm is up to chance. What must be in the calm after it is
 * not, so there is nothing that can fail by bad luck.
 *
 * The number of storms is scaled by NTSYNC_SCALE (in percent), the first one is
 * chosen by NTSYNC_SEED.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <sys/mman.h>
#include "ntsync_test.h"

#define NB_THREADS	12
#define NB_MUTEXES	10
#define NB_FUTEXES	3
#define MAX_LINKS	4

#define NB_STORMS	100
#define NB_ACTIONS	30	/* of each thread */
#define NB_PLAGUES	40	/* from outside */

#define CONTROLLER_PRIO	99

enum kind { IDLE, ANY, ALL, FUTEX };

struct thread {
	pthread_t thread;
	atomic_int tid;
	atomic_uint last;	/* the storm whose last wait it is in */
	atomic_uint calm;	/* the storm after which it is idle */
	atomic_uint inside;	/* a signal may end what it does */
	sigjmp_buf env;
	unsigned int seed;

	/* what it waits for, valid as long as kind says so */
	atomic_int kind;
	int links[MAX_LINKS];
	__u32 count;
	__u64 timeout;

	/* the model */
	int own;
	int eff;
};

static struct storm {
	int dev;
	int mutex[NB_MUTEXES];
	atomic_uint futex[NB_FUTEXES];
	struct thread thread[NB_THREADS];
	atomic_uint nr;		/* of the storm */
	atomic_uint out;	/* of the storm whose last waits are to be left */
	atomic_uint rest;	/* how many have completed that */
	atomic_bool stop;
} *s;

static __thread struct thread *me;

static unsigned int rnd(unsigned int *seed, unsigned int n)
{
	*seed = *seed * 1664525 + 1013904223;
	return (*seed >> 8) % n;
}

static void leave(int sig)
{
	if (me && atomic_load(&me->inside))
		siglongjmp(me->env, 1);
	(void)sig;
}

static __u32 id_of(struct thread *t)
{
	return t - s->thread + 1;
}

static int lock_pi(atomic_uint *lock, __u64 timeout)
{
	struct __kernel_old_timespec ts;
	unsigned int zero = 0;

	if (atomic_compare_exchange_strong(lock, &zero, atomic_load(&me->tid)))
		return 0;
	ts.tv_sec = timeout / NT_NSEC_PER_SEC;
	ts.tv_nsec = timeout % NT_NSEC_PER_SEC;
	return syscall(SYS_futex, lock, FUTEX_LOCK_PI_PRIVATE, 0, timeout ? &ts : NULL,
		       NULL, 0) ? -errno : 0;
}

static void unlock_pi(atomic_uint *lock)
{
	unsigned int tid = atomic_load(&me->tid);

	if (!atomic_compare_exchange_strong(lock, &tid, 0))
		syscall(SYS_futex, lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0);
}

static bool has_futex(struct thread *t, int i)
{
	return (atomic_load(&s->futex[i]) & FUTEX_TID_MASK) == (unsigned int)atomic_load(&t->tid);
}

/* Release one mutex or lock, or all of them. What it owns the objects tell. */
static void release(bool all)
{
	unsigned int i, first = rnd(&me->seed, NB_MUTEXES + NB_FUTEXES);

	for (i = 0; i < NB_MUTEXES + NB_FUTEXES; i++) {
		int n = (first + i) % (NB_MUTEXES + NB_FUTEXES);

		if (n >= NB_MUTEXES) {
			if (!has_futex(me, n - NB_MUTEXES))
				continue;
			unlock_pi(&s->futex[n - NB_MUTEXES]);
		} else {
			if (nt_mutex_owner(s->mutex[n]) != id_of(me))
				continue;
			while (!nt_unlock_mutex(s->mutex[n], id_of(me), NULL) && all)
				;
		}
		if (!all)
			return;
	}
}

/* Wait for something. The last wait of a storm has no timeout. */
static void acquire(bool last)
{
	int fds[MAX_LINKS];
	struct nt_wait wait = {
		.dev = s->dev, .objs = fds, .owner = id_of(me), .timeout = UINT64_MAX,
	};
	unsigned int i, kind = rnd(&me->seed, 5);

	/* 0 is for ever */
	me->timeout = last ? 0 : rnd(&me->seed, 3000000);
	if (kind == 4) {
		me->links[0] = rnd(&me->seed, NB_FUTEXES);
		me->count = 1;
		atomic_store(&me->kind, FUTEX);
	} else {
		int first = rnd(&me->seed, NB_MUTEXES);

		wait.all = kind == 3;
		wait.count = kind < 2 ? 1 : 1 + rnd(&me->seed, MAX_LINKS);
		for (i = 0; i < wait.count; i++) {
			me->links[i] = (first + 3 * i) % NB_MUTEXES;
			fds[i] = s->mutex[me->links[i]];
		}
		me->count = wait.count;
		atomic_store(&me->kind, wait.all ? ALL : ANY);
		if (me->timeout)
			wait.timeout = nt_now(CLOCK_MONOTONIC) + me->timeout;
	}

	if (!sigsetjmp(me->env, 1)) {
		atomic_store(&me->inside, 1);
		if (atomic_load(&me->kind) == FUTEX)
			lock_pi(&s->futex[me->links[0]],
				me->timeout ? nt_now(CLOCK_REALTIME) + me->timeout : 0);
		else
			nt_wait(&wait);
	}
	atomic_store(&me->inside, 0);
	atomic_store(&me->kind, IDLE);
}

static int set_prio(struct thread *t, unsigned int *seed)
{
	/* few, so that some are equal */
	int prio = rnd(seed, 3) ? 10 * (1 + rnd(seed, 8)) : 0;
	struct sched_param param = { .sched_priority = prio };

	return sched_setscheduler(atomic_load(&t->tid), !prio ? SCHED_OTHER :
				  rnd(seed, 2) ? SCHED_FIFO : SCHED_RR, &param);
}

static void *thread_fn(void *arg)
{
	unsigned int i, storm = 0;

	me = arg;
	atomic_store(&me->tid, syscall(SYS_gettid));
	for (;;) {
		atomic_fetch_add(&s->rest, 1);
		nt_futex_wake(&s->rest);
		while (atomic_load(&s->nr) == storm)
			nt_futex_wait(&s->nr, storm, UINT64_MAX);
		storm++;
		if (atomic_load(&s->stop))
			return NULL;

		for (i = 0; i < NB_ACTIONS; i++) {
			switch (rnd(&me->seed, 8)) {
			case 0:
				set_prio(&s->thread[rnd(&me->seed, NB_THREADS)], &me->seed);
				break;
			case 1:
			case 2:
			case 3:
				release(false);
				break;
			default:
				acquire(false);
				break;
			}
		}

		atomic_store(&me->last, storm);
		acquire(true);
		atomic_store(&me->calm, storm);
		while (atomic_load(&s->out) != storm)
			nt_futex_wait(&s->out, storm - 1, UINT64_MAX);
		release(true);
	}
}

/* From outside: signals, and other priorities. */
static void plague(unsigned int *seed)
{
	unsigned int i;

	for (i = 0; i < NB_PLAGUES; i++) {
		struct thread *t = &s->thread[rnd(seed, NB_THREADS)];

		if (rnd(seed, 3))
			pthread_kill(t->thread, SIGUSR1);
		else
			set_prio(t, seed);
		nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + rnd(seed, 400000));
	}
}

static bool is_calm(struct thread *t, unsigned int storm)
{
	if (nt_task_state(getpid(), atomic_load(&t->tid)) != 'S')
		return false;
	return atomic_load(&t->calm) == storm ||
	       (atomic_load(&t->last) == storm && atomic_load(&t->inside));
}

/* Nobody who sleeps now wakes anybody else: seen twice, it stays so. */
static bool await_calm(unsigned int storm)
{
	__u64 deadline = nt_bound();
	unsigned int i, seen = 0;

	while (seen < 2) {
		if (nt_now(CLOCK_MONOTONIC) > deadline)
			return false;
		nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + 200000);
		for (i = 0; i < NB_THREADS && is_calm(&s->thread[i], storm); i++)
			;
		seen = i == NB_THREADS ? seen + 1 : 0;
	}
	return true;
}

static bool owns(struct thread *t, enum kind kind, int i)
{
	return kind == FUTEX ? has_futex(t, i) : nt_mutex_owner(s->mutex[i]) == id_of(t);
}

/* Does the second one wait for something that the first one owns? */
static bool lends_to(struct thread *owner, struct thread *t, unsigned int storm)
{
	enum kind kind = atomic_load(&t->kind);
	__u32 i;

	if (owner == t || atomic_load(&t->calm) == storm)
		return false;
	for (i = 0; i < t->count; i++) {
		if (owns(owner, kind, t->links[i]))
			return true;
	}
	return false;
}

/* Who is where, if something is wrong. */
static void show(struct __test_metadata *_metadata, unsigned int storm)
{
	static const char * const kinds[] = { "nothing", "any", "all", "a futex" };
	unsigned int i, j;

	for (i = 0; i < NB_THREADS; i++) {
		struct thread *t = &s->thread[i];
		struct sched_param param = { 0 };

		sched_getparam(atomic_load(&t->tid), &param);
		TH_LOG("  %u: state %c, own %d, now %d, %s %s of %u%s", i,
		       nt_task_state(getpid(), atomic_load(&t->tid)), param.sched_priority,
		       nt_task_prio(getpid(), atomic_load(&t->tid)),
		       atomic_load(&t->calm) == storm ? "had" :
		       atomic_load(&t->last) == storm ? "in its last wait, for" : "waits for",
		       kinds[atomic_load(&t->kind)], t->count,
		       atomic_load(&t->inside) ? "" : " (outside)");
		for (j = 0; j < NB_THREADS; j++) {
			if (lends_to(&s->thread[j], t, storm))
				TH_LOG("    what %u owns", j);
		}
	}
}

static bool check(struct __test_metadata *_metadata, unsigned int storm)
{
	bool lends[NB_THREADS][NB_THREADS], again = true, ok = true;
	unsigned int i, j;

	for (i = 0; i < NB_THREADS; i++) {
		struct thread *t = &s->thread[i];
		struct sched_param param = { 0 };

		/* What it has itself: a boost does not change what this says. */
		sched_getparam(atomic_load(&t->tid), &param);
		t->own = param.sched_priority;
		t->eff = t->own;
		for (j = 0; j < NB_THREADS; j++)
			lends[j][i] = lends_to(&s->thread[j], t, storm);
	}

	while (again) {
		again = false;
		for (i = 0; i < NB_THREADS; i++) {
			for (j = 0; j < NB_THREADS; j++) {
				if (lends[i][j] && s->thread[i].eff < s->thread[j].eff) {
					s->thread[i].eff = s->thread[j].eff;
					again = true;
				}
			}
		}
	}

	for (i = 0; i < NB_THREADS; i++) {
		struct thread *t = &s->thread[i];
		int prio = nt_task_prio(getpid(), atomic_load(&t->tid));

		prio = prio < 0 ? -1 - prio : 0;
		if (prio != t->eff) {
			TH_LOG("storm %u: thread %u has %d instead of %d (own %d)", storm, i,
			       prio, t->eff, t->own);
			ok = false;
		}
	}
	if (!ok)
		show(_metadata, storm);
	return ok;
}

/* Let all leave their last waits and release what they have. */
static bool end_storm(struct __test_metadata *_metadata, unsigned int storm)
{
	__u64 deadline = nt_bound();
	unsigned int i;
	bool ok = true;

	atomic_store(&s->out, storm);
	nt_futex_wake(&s->out);
	while (atomic_load(&s->rest) < (storm + 1) * NB_THREADS) {
		if (nt_now(CLOCK_MONOTONIC) > deadline) {
			TH_LOG("storm %u: some do not leave their last waits", storm);
			show(_metadata, storm);
			return false;
		}
		for (i = 0; i < NB_THREADS; i++) {
			if (atomic_load(&s->thread[i].inside))
				pthread_kill(s->thread[i].thread, SIGUSR1);
		}
		nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + 100000);
	}
	for (i = 0; i < NB_MUTEXES; i++)
		ok = ok && !nt_mutex_owner(s->mutex[i]);
	for (i = 0; i < NB_FUTEXES; i++)
		ok = ok && !atomic_load(&s->futex[i]);
	if (!ok)
		TH_LOG("storm %u: something is still owned", storm);
	return await_calm(storm) && check(_metadata, storm) && ok;
}

FIXTURE(storm) {
	bool none;
};

FIXTURE_SETUP(storm)
{
	struct sigaction sa = { .sa_handler = leave };
	struct nt_sched sched = NT_FIFO(CONTROLLER_PRIO);
	unsigned int i;

	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(s != MAP_FAILED);
	open_device(s->dev);
	for (i = 0; i < NB_MUTEXES; i++) {
		s->mutex[i] = nt_create_mutex(s->dev, 0, 0);
		ASSERT_LE(0, s->mutex[i]);
	}
	if (nt_set_task(s->mutex[0], 0, 0) == -ENOTTY)
		SKIP(return, "no priority inheritance in this kernel");
	if (nt_sched_probe(sched))
		SKIP(return, "no right to real-time priorities");
	ASSERT_EQ(0, nt_sched_self(&sched));
	sigaction(SIGUSR1, &sa, NULL);
}

FIXTURE_TEARDOWN(storm)
{
	close(s->dev);
}

TEST_F_TIMEOUT(storm, exact, NT_TEST_TIMEOUT)
{
	unsigned int i, nb = nt_scaled(NB_STORMS), seed = nt_seed(), nr;
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 * 1024);
	for (i = 0; i < NB_THREADS; i++) {
		struct thread *t = &s->thread[i];

		nr = 0;
		t->seed = seed * NB_THREADS + i;
		ASSERT_EQ(0, pthread_create(&t->thread, &attr, thread_fn, t));
		/* An ordinary one, but not before there is a thread id. */
		while (!atomic_load(&t->tid))
			nt_pause(&nr);
		ASSERT_EQ(0, sched_setscheduler(atomic_load(&t->tid), SCHED_OTHER,
						&(struct sched_param) { 0 }));
	}
	pthread_attr_destroy(&attr);
	ASSERT_TRUE(nt_await(&s->rest, NB_THREADS));

	for (i = 1; i <= nb; i++) {
		atomic_store(&s->nr, i);
		nt_futex_wake(&s->nr);
		plague(&seed);
		ASSERT_TRUE(await_calm(i)) {
			TH_LOG("storm %u does not come to an end", i);
			show(_metadata, i);
		}
		ASSERT_TRUE(check(_metadata, i));
		ASSERT_TRUE(end_storm(_metadata, i));
	}

	atomic_store(&s->stop, true);
	atomic_fetch_add(&s->nr, 1);
	nt_futex_wake(&s->nr);
	for (i = 0; i < NB_THREADS; i++)
		pthread_join(s->thread[i].thread, NULL);
}

TEST_HARNESS_MAIN

