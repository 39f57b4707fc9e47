/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests of priority inheritance: threads that do what they are told, all on
 * one CPU below the controlling thread, so that there is no race about who is
 * where. An owner that is not to run sleeps.
 */
#ifndef PI_TEST_H
#define PI_TEST_H

#include "ntsync_test.h"

#define CONTROLLER_PRIO	95
#define NORMAL		20	/* what /proc has for nice 0 */
#define FIFO(prio)	(-1 - (prio))
#define DEADLINE	(-101)

#define MAX_DEPTH	"/proc/sys/kernel/max_lock_depth"

/* A thread that does what it is told. */
struct actor {
	pthread_t thread;
	atomic_int tid;
	atomic_uint cmd;	/* counts commands */
	atomic_uint done;	/* counts those that are completed, and the start */
	atomic_uint entered;	/* is about to do the last one */
	int (*fn)(struct actor *a);	/* NULL: exit */
	int dev;
	int objs[64];
	__u32 nb_objs;
	bool all;
	__u32 id;
	__u64 timeout;
	int ret;
	struct nt_turns *turns;
};

static inline void *actor_thread(void *arg)
{
	struct actor *a = arg;
	unsigned int cmd = 0;
	bool go_on;

	atomic_store(&a->tid, syscall(SYS_gettid));
	do {
		atomic_fetch_add(&a->done, 1);
		nt_futex_wake(&a->done);
		while (atomic_load(&a->cmd) == cmd)
			nt_futex_wait(&a->cmd, cmd, UINT64_MAX);
		cmd++;
		go_on = a->fn;
		atomic_store(&a->entered, cmd);
		if (go_on)
			a->ret = a->fn(a);
	} while (go_on);
	return NULL;
}

static inline int do_wait(struct actor *a)
{
	struct nt_wait wait = {
		.dev = a->dev, .objs = a->objs, .count = a->nb_objs, .owner = a->id,
		.all = a->all, .timeout = a->timeout,
	};
	int ret = nt_wait(&wait);

	if (a->turns) {
		unsigned int turn = atomic_fetch_add(&a->turns->n, 1);

		atomic_store(&a->turns->who[turn], a->id + 1);
		nt_futex_wake(&a->turns->n);
	}
	return ret;
}

/* The same without end: for waits that end otherwise. */
#define NO_TIMEOUT	UINT64_MAX

static inline int do_unlock(struct actor *a)
{
	return nt_unlock_mutex(a->objs[0], a->id, NULL);
}

static inline void actor_begin(struct actor *a, int (*fn)(struct actor *a))
{
	a->fn = fn;
	atomic_fetch_add(&a->cmd, 1);
	nt_futex_wake(&a->cmd);
}

static inline bool actor_done(struct actor *a)
{
	return atomic_load(&a->done) == atomic_load(&a->cmd) + 1;
}

static inline int actor_end(struct actor *a)
{
	if (!nt_await(&a->done, atomic_load(&a->cmd) + 1))
		return -EBUSY;
	return a->ret;
}

static inline int actor_do(struct actor *a, int (*fn)(struct actor *a))
{
	actor_begin(a, fn);
	return actor_end(a);
}

/* Wait until it sleeps in what it was told to do. */
static inline bool actor_asleep(struct actor *a)
{
	__u64 deadline = nt_bound();
	unsigned int nr = 0;

	while (nt_now(CLOCK_MONOTONIC) < deadline && !actor_done(a)) {
		if (atomic_load(&a->entered) == atomic_load(&a->cmd) &&
		    nt_task_state(getpid(), atomic_load(&a->tid)) == 'S')
			return !actor_done(a);
		nt_pause(&nr);
	}
	return false;
}

static inline int set_sched(pid_t tid, int policy, int prio)
{
	struct sched_param param = { .sched_priority = prio };

	return sched_setscheduler(tid, policy, &param) ? -errno : 0;
}

/* May not be pinned, so this is for tests on one CPU only. */
static inline int set_deadline(pid_t tid)
{
	struct nt_sched_attr attr = {
		.size = sizeof(attr),
		.policy = SCHED_DEADLINE,
		.runtime = NT_NSEC_PER_SEC / 100,
		.deadline = NT_NSEC_PER_SEC / 10,
		.period = NT_NSEC_PER_SEC / 10,
	};

	return syscall(SYS_sched_setattr, tid, &attr, 0) ? -errno : 0;
}

static inline int actor_start(struct actor *a, int dev, int prio)
{
	pthread_attr_t attr;
	int ret;

	a->dev = dev;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	ret = pthread_create(&a->thread, &attr, actor_thread, a);
	pthread_attr_destroy(&attr);
	if (ret || !nt_await(&a->done, 1))
		return -EAGAIN;
	return set_sched(atomic_load(&a->tid), prio ? SCHED_FIFO : SCHED_OTHER, prio);
}

static inline void actor_stop(struct actor *a)
{
	actor_begin(a, NULL);
	pthread_join(a->thread, NULL);
}

static inline int actor_prio(struct actor *a)
{
	return nt_task_prio(getpid(), atomic_load(&a->tid));
}

/* Let it wait, and go on when it sleeps. */
#define waits_for(a, fd) do {						\
	(a)->objs[0] = (fd);						\
	(a)->nb_objs = 1;						\
	actor_begin((a), do_wait);					\
	ASSERT_TRUE(actor_asleep(a));					\
} while (0)

#define acquires(a, fd) do {						\
	(a)->objs[0] = (fd);						\
	(a)->nb_objs = 1;						\
	ASSERT_EQ(0, actor_do((a), do_wait));				\
} while (0)

#define releases(a, fd) do {						\
	(a)->objs[0] = (fd);						\
	ASSERT_EQ(0, actor_do((a), do_unlock));				\
} while (0)

static inline void nothing(int sig)
{
	(void)sig;
}

/* For FIXTURE_SETUP(): the controlling thread where it belongs. */
#define begin_control() do {						\
	struct nt_sched __sched = NT_FIFO(CONTROLLER_PRIO);		\
	struct sigaction __sa = { .sa_handler = nothing };		\
									\
	ASSERT_EQ(0, nt_pin_self(nt_cpu(0)));				\
	if (nt_sched_probe(__sched))					\
		SKIP(return, "no right to real-time priorities");	\
	ASSERT_EQ(0, nt_sched_self(&__sched));				\
	sigaction(SIGUSR1, &__sa, NULL);				\
} while (0)

/* The same, and the device. */
#define begin_rt(fd) do {						\
	open_device(fd);						\
	begin_control();						\
} while (0)

/* The same, or skip. */
#define begin_pi(fd) do {						\
	int __mutex;							\
									\
	begin_rt(fd);							\
	__mutex = nt_create_mutex((fd), 0, 0);				\
	ASSERT_LE(0, __mutex);						\
	if (nt_set_task(__mutex, 0, 0) == -ENOTTY)			\
		SKIP(return, "no priority inheritance in this kernel");	\
	close(__mutex);							\
} while (0)

#endif
