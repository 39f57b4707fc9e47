/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Helpers shared by the ntsync tests.
 *
 * Rules that every test here keeps: no fixed sleep stands for "it is blocked
 * by now", every wait has an upper bound (so that a broken kernel fails a
 * test instead of hanging it), and what a call did is read from the objects.
 *
 * The helpers report an error as a negative errno value.
 */
#ifndef NTSYNC_TEST_H
#define NTSYNC_TEST_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <linux/futex.h>
#include <linux/ntsync.h>
#include <linux/time_types.h>
#include "kselftest_harness.h"

/* The header may be older than the tests. */
#ifdef NTSYNC_INDEX_URING_READY
#define NT_URING_FD	uring_fd
#else
#define NT_URING_FD	pad
#endif

#ifndef SCHED_DEADLINE
#define SCHED_DEADLINE 6
#endif

#define NT_NSEC_PER_SEC	1000000000ULL
#define NT_POISON	0xccccccccU

/* No wait of a test lasts longer: it is far more than a slow machine needs. */
#define NT_BOUND_NSEC	(20 * NT_NSEC_PER_SEC)
#define NT_TEST_TIMEOUT	120

/* For as many races as NTSYNC_RACES may demand: nt_limit_races() keeps the usual limit. */
#define NT_RACE_TIMEOUT	(6 * 3600)

#define ARRAY_LEN(a)	(sizeof(a) / sizeof((a)[0]))

static inline __u64 nt_now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * NT_NSEC_PER_SEC + ts.tv_nsec;
}

/* The absolute time at which a wait that was never granted gives up. */
static inline __u64 nt_bound(void)
{
	return nt_now(CLOCK_MONOTONIC) + NT_BOUND_NSEC;
}

static inline void nt_sleep_until(clockid_t clock, __u64 when)
{
	struct timespec ts = {
		.tv_sec = when / NT_NSEC_PER_SEC,
		.tv_nsec = when % NT_NSEC_PER_SEC,
	};

	while (clock_nanosleep(clock, TIMER_ABSTIME, &ts, NULL) == EINTR)
		;
}

/*
 * Between two looks at something that another thread is to change: longer and
 * longer, because on one CPU a slow machine would do nothing but look.
 */
static inline void nt_pause(unsigned int *nr)
{
	unsigned int n = (*nr)++;

	nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + (20000ULL << (n < 7 ? n : 7)));
}

/* Wait until @cond is true, and tell whether it is. It is evaluated each time. */
#define poll_until(cond) ({						\
	__u64 __deadline = nt_bound();					\
	unsigned int __nr = 0;						\
	bool __ok;							\
									\
	while (!(__ok = (cond)) && nt_now(CLOCK_MONOTONIC) < __deadline) \
		nt_pause(&__nr);					\
	__ok;								\
})

/* A number from the environment. */
static inline unsigned long nt_env(const char *name, unsigned long fallback)
{
	const char *value = getenv(name);

	return value ? strtoul(value, NULL, 10) : fallback;
}

/* So many rounds or msec, times NTSYNC_SCALE (in percent; 100 if it is not set). At least 1. */
static inline unsigned int nt_scaled(unsigned int n)
{
	n = (__u64)n * nt_env("NTSYNC_SCALE", 100) / 100;
	return n ? n : 1;
}

/* The same, but at most n: where there is no room for more, or no use. */
static inline unsigned int nt_scaled_down(unsigned int n)
{
	unsigned int scaled = nt_scaled(n);

	return scaled < n ? scaled : n;
}

/* What random numbers begin with: NTSYNC_SEED. */
static inline unsigned int nt_seed(void)
{
	return nt_env("NTSYNC_SEED", 1);
}

/* NTSYNC_RACES: so many races of each variant, however long they take. 0: as many as usual. */
static inline unsigned int nt_demanded_races(void)
{
	return nt_env("NTSYNC_RACES", 0);
}

/* In a test with NT_RACE_TIMEOUT: a signal ends it in time, unless races are demanded. */
static inline void nt_limit_races(void)
{
	if (!nt_demanded_races())
		alarm(NT_TEST_TIMEOUT);
}

/* How many races: those that are demanded, or n, scaled. None is to begin after *deadline. */
static inline unsigned int nt_plan_races(unsigned int n, __u64 budget, __u64 *deadline)
{
	unsigned int demanded = nt_demanded_races();

	*deadline = demanded ? UINT64_MAX : nt_now(CLOCK_MONOTONIC) + budget;
	return demanded ? demanded : nt_scaled(n);
}

/*
 * waitpid() of a process with threads, by a real-time task. As a normal task for the moment:
 * reaping it drops its entries in /proc, and the kernel spins there (shrink_dcache_tree())
 * as long as somebody else is about to drop one of them. That may be the last thread of that
 * process, which cannot go on below the caller.
 */
static inline pid_t nt_waitpid(pid_t pid, int *status, int flags)
{
	struct sched_param normal = { 0 }, param;
	int policy = sched_getscheduler(0), err;
	pid_t ret;

	if (sched_getparam(0, &param) || sched_setscheduler(0, SCHED_OTHER, &normal))
		abort();
	ret = waitpid(pid, status, flags);
	err = errno;
	if (sched_setscheduler(0, policy, &param))
		abort();
	errno = err;
	return ret;
}

/*
 * Sleep while *word is val, at most until the deadline (CLOCK_MONOTONIC).
 * May return early, as the futex call it is.
 */
static inline void nt_futex_wait(atomic_uint *word, unsigned int val, __u64 deadline)
{
	struct __kernel_old_timespec ts;
	__u64 now = nt_now(CLOCK_MONOTONIC);

	if (now >= deadline)
		return;
	ts.tv_sec = (deadline - now) / NT_NSEC_PER_SEC;
	ts.tv_nsec = (deadline - now) % NT_NSEC_PER_SEC;
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, val, &ts, NULL, 0);
}

static inline void nt_futex_wake(atomic_uint *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Wait until *word is at least val. False if that takes longer than the bound. */
static inline bool nt_await(atomic_uint *word, unsigned int val)
{
	__u64 deadline = nt_bound() + NT_BOUND_NSEC / 2;
	unsigned int seen;

	while ((seen = atomic_load(word)) < val) {
		if (nt_now(CLOCK_MONOTONIC) >= deadline)
			return false;
		nt_futex_wait(word, seen, deadline);
	}
	return true;
}

/*
 * The CPUs this program may use, and the n-th of them (counted modulo); to pin a thread
 * changes neither.
 */
static cpu_set_t nt_cpus;

static __attribute__((constructor)) void nt_look_at_cpus(void)
{
	if (sched_getaffinity(0, sizeof(nt_cpus), &nt_cpus))
		CPU_SET(0, &nt_cpus);
}

static inline int nt_cpu_count(void)
{
	return CPU_COUNT(&nt_cpus);
}

static inline int nt_cpu(int n)
{
	int cpu;

	n %= CPU_COUNT(&nt_cpus);
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &nt_cpus) && !n--)
			return cpu;
	return -1;
}

static inline int nt_pin_self(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}

/* Scheduling attributes of a thread; all zero is an ordinary thread. */
struct nt_sched {
	int policy;
	int prio;
	int nice;
};

#define NT_NICE(n)	{ .policy = SCHED_OTHER, .nice = (n) }
#define NT_BATCH(n)	{ .policy = SCHED_BATCH, .nice = (n) }
#define NT_IDLE		{ .policy = SCHED_IDLE }
#define NT_FIFO(p)	{ .policy = SCHED_FIFO, .prio = (p) }
#define NT_RR(p)	{ .policy = SCHED_RR, .prio = (p) }
#define NT_DEADLINE	{ .policy = SCHED_DEADLINE }

/* The kernel's struct sched_attr, which only newer C libraries declare. */
struct nt_sched_attr {
	__u32 size;
	__u32 policy;
	__u64 flags;
	__s32 nice;
	__u32 priority;
	__u64 runtime;
	__u64 deadline;
	__u64 period;
};

static inline int nt_sched_self(const struct nt_sched *sched)
{
	struct nt_sched_attr attr = {
		.size = sizeof(attr),
		.policy = sched->policy,
		.nice = sched->nice,
		.priority = sched->prio,
	};

	if (sched->policy == SCHED_DEADLINE) {
		attr.runtime = NT_NSEC_PER_SEC / 50;
		attr.deadline = NT_NSEC_PER_SEC / 10;
		attr.period = NT_NSEC_PER_SEC / 10;
	}
	return syscall(SYS_sched_setattr, 0, &attr, 0) ? -errno : 0;
}

static inline void *nt_sched_probe_thread(void *arg)
{
	return (void *)(intptr_t)nt_sched_self(arg);
}

/* May a thread of ours have these attributes? 0 or a negative errno value. */
static inline int nt_sched_probe(struct nt_sched sched)
{
	pthread_t thread;
	void *ret;

	if (pthread_create(&thread, NULL, nt_sched_probe_thread, &sched) ||
	    pthread_join(thread, &ret))
		return -EAGAIN;
	return (intptr_t)ret;
}

/* ioctls */

static inline int nt_ioctl(int fd, unsigned long request, void *arg)
{
	int ret = ioctl(fd, request, arg);

	return ret < 0 ? -errno : ret;
}

static inline int nt_create_sem(int dev, __u32 count, __u32 max)
{
	struct ntsync_sem_args args = { .count = count, .max = max };

	return nt_ioctl(dev, NTSYNC_IOC_CREATE_SEM, &args);
}

static inline int nt_create_mutex(int dev, __u32 owner, __u32 count)
{
	struct ntsync_mutex_args args = { .owner = owner, .count = count };

	return nt_ioctl(dev, NTSYNC_IOC_CREATE_MUTEX, &args);
}

static inline int nt_create_event(int dev, bool manual, bool signaled)
{
	struct ntsync_event_args args = { .manual = manual, .signaled = signaled };

	return nt_ioctl(dev, NTSYNC_IOC_CREATE_EVENT, &args);
}

/* The previous count goes to *prev if prev is not NULL; so below. */
static inline int nt_release_sem(int sem, __u32 n, __u32 *prev)
{
	int ret = nt_ioctl(sem, NTSYNC_IOC_SEM_RELEASE, &n);

	if (prev)
		*prev = n;
	return ret;
}

static inline int nt_unlock_mutex(int mutex, __u32 owner, __u32 *prev)
{
	struct ntsync_mutex_args args = { .owner = owner, .count = NT_POISON };
	int ret = nt_ioctl(mutex, NTSYNC_IOC_MUTEX_UNLOCK, &args);

	if (prev)
		*prev = args.count;
	return ret;
}

/* Which thread inherits: also tells whether there is priority inheritance. */
#ifndef NTSYNC_IOC_MUTEX_SET_TASK
struct ntsync_mutex_task_args {
	__u32 tid;
	__u32 flags;
};

#define NTSYNC_IOC_MUTEX_SET_TASK	_IOW('N', 0x99, struct ntsync_mutex_task_args)
#endif

static inline int nt_set_task(int mutex, __u32 tid, __u32 flags)
{
	struct ntsync_mutex_task_args args = { .tid = tid, .flags = flags };

	return nt_ioctl(mutex, NTSYNC_IOC_MUTEX_SET_TASK, &args);
}

static inline int nt_kill_mutex(int mutex, __u32 owner)
{
	return nt_ioctl(mutex, NTSYNC_IOC_MUTEX_KILL, &owner);
}

static inline __u32 nt_mutex_owner(int mutex)
{
	struct ntsync_mutex_args args = { .owner = NT_POISON };

	nt_ioctl(mutex, NTSYNC_IOC_MUTEX_READ, &args);
	return args.owner;
}

/* request: NTSYNC_IOC_EVENT_SET, _RESET or _PULSE */
static inline int nt_event(int event, unsigned long request, __u32 *prev)
{
	__u32 state = NT_POISON;
	int ret = nt_ioctl(event, request, &state);

	if (prev)
		*prev = state;
	return ret;
}

/* Read an object into a poisoned buffer and compare all of it. */
#define check_sem(sem, _count, _max) do {				\
	struct ntsync_sem_args __a;					\
									\
	memset(&__a, 0xcc, sizeof(__a));				\
	EXPECT_EQ(0, nt_ioctl((sem), NTSYNC_IOC_SEM_READ, &__a));	\
	EXPECT_EQ((__u32)(_count), __a.count);				\
	EXPECT_EQ((__u32)(_max), __a.max);				\
} while (0)

#define check_event(event, _manual, _signaled) do {			\
	struct ntsync_event_args __a;					\
									\
	memset(&__a, 0xcc, sizeof(__a));				\
	EXPECT_EQ(0, nt_ioctl((event), NTSYNC_IOC_EVENT_READ, &__a));	\
	EXPECT_EQ((__u32)(_manual), __a.manual);			\
	EXPECT_EQ((__u32)(_signaled), __a.signaled);			\
} while (0)

#define __check_mutex(mutex, _ret, _owner, _count) do {			\
	struct ntsync_mutex_args __a;					\
									\
	memset(&__a, 0xcc, sizeof(__a));				\
	EXPECT_EQ((_ret), nt_ioctl((mutex), NTSYNC_IOC_MUTEX_READ, &__a)); \
	EXPECT_EQ((__u32)(_owner), __a.owner);				\
	EXPECT_EQ((__u32)(_count), __a.count);				\
} while (0)

#define check_mutex(mutex, owner, count)	__check_mutex(mutex, 0, owner, count)
#define check_mutex_dead(mutex)			__check_mutex(mutex, -EOWNERDEAD, 0, 0)

/* A wait, made by the calling thread or by a thread of its own. */
struct nt_wait {
	int dev;
	bool all;
	const int *objs;
	__u32 count;
	__u32 owner;
	int alert;
	__u64 timeout;		/* 0: nt_bound() */
	__u32 flags;
	__u32 uring_fd;
	__u32 index;		/* result; poisoned before */
};

static inline int nt_wait(struct nt_wait *w)
{
	struct ntsync_wait_args args = {
		.timeout = w->timeout ? w->timeout : nt_bound(),
		.objs = (uintptr_t)w->objs,
		.count = w->count,
		.index = NT_POISON,
		.flags = w->flags,
		.owner = w->owner,
		.alert = w->alert,
		.NT_URING_FD = w->uring_fd,
	};
	int ret;

	ret = nt_ioctl(w->dev, w->all ? NTSYNC_IOC_WAIT_ALL : NTSYNC_IOC_WAIT_ANY, &args);
	w->index = args.index;
	return ret;
}

/* An expired timeout: look at the objects, do not sleep. */
#define NT_EXPIRED	1ULL

#define __nt_try(_all, _dev, _count, _objs, _owner, _alert, _index) ({	\
	struct nt_wait __w = {						\
		.dev = (_dev), .all = (_all), .objs = (_objs),		\
		.count = (_count), .owner = (_owner), .alert = (_alert), \
		.timeout = NT_EXPIRED,					\
	};								\
	int __ret = nt_wait(&__w);					\
									\
	*(_index) = __w.index;						\
	__ret;								\
})
#define nt_try_any(...)	__nt_try(false, __VA_ARGS__)
#define nt_try_all(...)	__nt_try(true, __VA_ARGS__)

/* The turns in which waiters came out of their waits. */
#define NT_MAX_TURNS	1024

struct nt_turns {
	atomic_uint n;
	atomic_int who[NT_MAX_TURNS];	/* waiter + 1 */
};

/* Who came out k-th (from 0)? -1 if nobody did within the bound. */
static inline int nt_turn(struct nt_turns *turns, unsigned int k)
{
	__u64 deadline = nt_bound();
	unsigned int nr = 0;
	int who;

	if (!nt_await(&turns->n, k + 1))
		return -1;
	/* the number is taken before the name is written */
	while (!(who = atomic_load(&turns->who[k]))) {
		if (nt_now(CLOCK_MONOTONIC) >= deadline)
			return -1;
		nt_pause(&nr);
	}
	return who - 1;
}

struct nt_waiter {
	struct nt_wait wait;
	struct nt_sched sched;
	int cpu;			/* CPU + 1, or 0 for any */
	int id;
	struct nt_turns *turns;		/* or NULL */

	pthread_t thread;
	int sched_ret;			/* were the attributes set? */
	int ret;			/* of the wait */
	atomic_int tid;			/* set just before the wait */
	atomic_uint done;
};

static inline void *nt_waiter_thread(void *arg)
{
	struct nt_waiter *w = arg;

	if (w->cpu)
		w->sched_ret = nt_pin_self(w->cpu - 1);
	if (!w->sched_ret)
		w->sched_ret = nt_sched_self(&w->sched);
	if (w->sched_ret) {
		w->ret = w->sched_ret;
	} else {
		atomic_store(&w->tid, syscall(SYS_gettid));
		w->ret = nt_wait(&w->wait);
		if (w->turns) {
			unsigned int turn = atomic_fetch_add(&w->turns->n, 1);

			if (turn < NT_MAX_TURNS)
				atomic_store(&w->turns->who[turn], w->id + 1);
			nt_futex_wake(&w->turns->n);
		}
	}
	atomic_store(&w->done, 1);
	nt_futex_wake(&w->done);
	return NULL;
}

static inline int nt_start(struct nt_waiter *w)
{
	long stack = sysconf(_SC_THREAD_STACK_MIN);
	pthread_attr_t attr;
	int ret;

	if (stack < 64 * 1024)
		stack = 64 * 1024;
	w->ret = -EINPROGRESS;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, stack);
	ret = pthread_create(&w->thread, &attr, nt_waiter_thread, w);
	pthread_attr_destroy(&attr);
	return -ret;
}

/* The beginning of a file as a string. False if it cannot be read. */
static inline bool nt_read_file(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return false;
	len = read(fd, buf, size - 1);
	close(fd);
	buf[len > 0 ? len : 0] = 0;
	return len > 0;
}

static inline bool nt_write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t len;

	if (fd < 0)
		return false;
	len = write(fd, text, strlen(text));
	close(fd);
	return len == (ssize_t)strlen(text);
}

/* /proc/PID/task/TID/stat from its third field on, NULL if there is none. */
static inline const char *nt_task_stat(pid_t pid, pid_t tid, char *buf, size_t size)
{
	char path[64], *end;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", pid, tid);
	if (!nt_read_file(path, buf, size))
		return NULL;
	end = strrchr(buf, ')');
	return end && end[1] == ' ' ? end + 2 : NULL;
}

/* The state letter of a thread, 0 if there is none. */
static inline char nt_task_state(pid_t pid, pid_t tid)
{
	char buf[512];
	const char *stat = nt_task_stat(pid, tid, buf, sizeof(buf));

	return stat ? *stat : 0;
}

/*
 * The effective priority as in field 18: 20 for nice 0, -1 - N for the real-time
 * priority N, -101 for a deadline. INT_MIN if there is no such thread.
 */
static inline int nt_task_prio(pid_t pid, pid_t tid)
{
	char buf[512];
	const char *stat = nt_task_stat(pid, tid, buf, sizeof(buf));
	int field;

	for (field = 3; stat && field < 18; field++) {
		stat = strchr(stat, ' ');
		if (stat)
			stat++;
	}
	return stat ? atoi(stat) : INT_MIN;
}

/*
 * Wait until a thread that has set *tid right before its wait is asleep in it.
 * The locks that are taken on the way in make a task sleep uninterruptibly,
 * so an 'S' after *tid was set means that it is queued. False if *done was set
 * first, or when the bound is over.
 */
static inline bool nt_task_asleep(pid_t pid, atomic_int *tid, atomic_uint *done)
{
	__u64 deadline = nt_bound();
	unsigned int nr = 0;
	int t;

	while (nt_now(CLOCK_MONOTONIC) < deadline) {
		t = atomic_load(tid);
		if (t && nt_task_state(pid, t) == 'S')
			return !atomic_load(done);
		if (atomic_load(done))
			return false;
		nt_pause(&nr);
	}
	return false;
}

static inline bool nt_asleep(struct nt_waiter *w)
{
	return nt_task_asleep(getpid(), &w->tid, &w->done);
}

/* End of a waiter: the return value of its wait, -EBUSY if it does not end. */
static inline int nt_finish(struct nt_waiter *w)
{
	if (!nt_await(&w->done, 1))
		return -EBUSY;
	pthread_join(w->thread, NULL);
	return w->ret;
}

/* Start a waiter and go on when it sleeps in its wait. */
#define start_asleep(w) do {						\
	struct nt_waiter *__w = (w);					\
	bool __asleep;							\
									\
	ASSERT_EQ(0, nt_start(__w));					\
	__asleep = nt_asleep(__w);					\
	ASSERT_EQ(0, __w->sched_ret);					\
	ASSERT_TRUE(__asleep) {						\
		TH_LOG("waiter %d does not sleep (returned %d)", __w->id, __w->ret); \
	}								\
} while (0)

/* For FIXTURE_SETUP(): open a device instance, or skip with the reason. */
#define open_device(fd) do {						\
	(fd) = open("/dev/ntsync", O_CLOEXEC | O_RDONLY);		\
	if ((fd) < 0 && (errno == ENOENT || errno == ENXIO || errno == ENODEV)) \
		SKIP(return, "no /dev/ntsync (CONFIG_NTSYNC)");		\
	if ((fd) < 0 && (errno == EACCES || errno == EPERM))		\
		SKIP(return, "/dev/ntsync: %s", strerror(errno));	\
	ASSERT_LE(0, (fd));						\
} while (0)

#endif
