/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the benchmark programs share: a loop that measures the operations of a table, and
 * helpers for them. Must be included first.
 *
 * Times are in nanoseconds of guest time: with QEMU's -icount shift=0,sleep=off that is the
 * number of instructions. For each operation a line
 *
 *	bench: NAME SAMPLE SAMPLE...
 *
 * is printed, with one sample, the mean of many operations, for each round. An operation that
 * this kernel does not have is left out: "# NAME left out: reason".
 *
 * All threads run on one CPU, and a second thread is alive all the time, because a process that
 * has only one takes no references to its files.
 */
#ifndef BENCH_H
#define BENCH_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <linux/futex.h>
#include <linux/ntsync.h>

#ifndef BENCH_ROUNDS
#define BENCH_ROUNDS	15
#endif
#define BENCH_THREADS	256

#define ARRAY_LEN(a)	(sizeof(a) / sizeof((a)[0]))

static inline uint64_t now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static inline void must(int ret, const char *what)
{
	if (ret < 0) {
		perror(what);
		exit(1);
	}
}

/* What must be true, or the figures would not be what their name says. */
static inline void expect(bool ok, const char *name, const char *what)
{
	if (!ok) {
		fprintf(stderr, "%s: %s\n", name, what);
		exit(1);
	}
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Sorts them. */
static inline uint64_t median(uint64_t *values, unsigned int n)
{
	qsort(values, n, sizeof(values[0]), compare);
	return values[n / 2];
}

/* Threads */

/* The caller's own: SCHED_FIFO, or SCHED_OTHER with 0. */
static inline int set_prio(int prio)
{
	struct sched_param param = { .sched_priority = prio };

	return sched_setscheduler(0, prio ? SCHED_FIFO : SCHED_OTHER, &param) ? -errno : 0;
}

/* To the CPU of that number among those of @all, modulo. */
static inline void pin(const cpu_set_t *all, unsigned int nr)
{
	cpu_set_t one;
	int cpu;

	nr %= CPU_COUNT(all);
	for (cpu = 0; !CPU_ISSET(cpu, all) || nr--; cpu++)
		;
	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	must(sched_setaffinity(0, sizeof(one), &one), "sched_setaffinity");
}

static inline pthread_t start(void *(*fn)(void *), void *arg, int prio)
{
	struct sched_param param = { .sched_priority = prio };
	long stack = sysconf(_SC_THREAD_STACK_MIN);
	pthread_attr_t attr;
	pthread_t thread;
	int ret;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, stack < 65536 ? 65536 : stack);
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, prio ? SCHED_FIFO : SCHED_OTHER);
	pthread_attr_setschedparam(&attr, &param);
	ret = pthread_create(&thread, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	errno = ret;
	must(-ret, "pthread_create");
	return thread;
}

/*
 * Let all other threads run until they sleep, those that never do excepted. An idle guest does
 * not wait: its clock jumps.
 */
static inline void settle(void)
{
	const struct timespec ts = { .tv_nsec = 50000000 };
	int policy = sched_getscheduler(0);
	struct sched_param param;

	must(sched_getparam(0, &param), "sched_getparam");
	must(set_prio(0), "sched_setscheduler");
	nanosleep(&ts, NULL);
	must(sched_setscheduler(0, policy, &param), "sched_setscheduler");
}

/* How often the calling thread has slept. Being preempted does not count. */
static inline long nr_sleeps(void)
{
	struct rusage usage;

	must(getrusage(RUSAGE_THREAD, &usage), "getrusage");
	return usage.ru_nvcsw;
}

static inline long futex(atomic_uint *word, int what, unsigned int val)
{
	return syscall(SYS_futex, word, what | FUTEX_PRIVATE_FLAG, val, NULL, NULL, 0);
}

/* Objects. A call that fails ends the program. */

static int dev;

static inline void open_device(void)
{
	dev = open("/dev/ntsync", O_CLOEXEC | O_RDONLY);
	must(dev, "/dev/ntsync");
}

static inline int new_sem(unsigned int count, unsigned int max)
{
	struct ntsync_sem_args args = { .count = count, .max = max };
	int fd = ioctl(dev, NTSYNC_IOC_CREATE_SEM, &args);

	must(fd, "CREATE_SEM");
	return fd;
}

static inline int new_mutex(unsigned int owner, unsigned int count)
{
	struct ntsync_mutex_args args = { .owner = owner, .count = count };
	int fd = ioctl(dev, NTSYNC_IOC_CREATE_MUTEX, &args);

	must(fd, "CREATE_MUTEX");
	return fd;
}

static inline int new_event(bool manual, bool signaled)
{
	struct ntsync_event_args args = { .manual = manual, .signaled = signaled };
	int fd = ioctl(dev, NTSYNC_IOC_CREATE_EVENT, &args);

	must(fd, "CREATE_EVENT");
	return fd;
}

/* Unlike those above it returns -errno: -ENOTTY where there are no channels. */
static inline int new_channel(void)
{
	struct ntsync_channel_args args = { .max_depth = 64 };
	int fd = ioctl(dev, NTSYNC_IOC_CREATE_CHANNEL, &args);

	return fd < 0 ? -errno : fd;
}

/* Returns the index, or -1 and errno. */
static inline int wait_objs(unsigned long request, const int *fds, unsigned int nb,
			    unsigned int owner, uint64_t timeout)
{
	struct ntsync_wait_args args = {
		.timeout = timeout, .objs = (uintptr_t)fds, .count = nb, .owner = owner,
	};

	if (ioctl(dev, request, &args) < 0)
		return -1;
	return args.index;
}

static inline void acquire(int fd, unsigned int owner)
{
	must(wait_objs(NTSYNC_IOC_WAIT_ANY, &fd, 1, owner, UINT64_MAX), "WAIT_ANY");
}

static inline void unlock(int mutex, unsigned int owner)
{
	struct ntsync_mutex_args args = { .owner = owner };

	must(ioctl(mutex, NTSYNC_IOC_MUTEX_UNLOCK, &args), "MUTEX_UNLOCK");
}

static inline void release(int sem)
{
	__u32 count = 1;

	must(ioctl(sem, NTSYNC_IOC_SEM_RELEASE, &count), "SEM_RELEASE");
}

/* NTSYNC_IOC_EVENT_SET, _RESET or _PULSE */
static inline void change_event(int event, unsigned long request)
{
	__u32 state;

	must(ioctl(event, request, &state), "EVENT_SET, EVENT_RESET or EVENT_PULSE");
}

static inline void set(int event)
{
	change_event(event, NTSYNC_IOC_EVENT_SET);
}

/* The longest time that the driver has had an event locked: where section-LANE.patch measures that. */
#define SECTION		"/sys/module/ntsync/parameters/section"

/* The loop */

enum op_sleep {
	MAY_SLEEP,
	MUST_SLEEP,	/* nearly every time, or what is measured is something else */
	MUST_NOT_SLEEP,
};

struct op {
	const char *name;
	unsigned int n;		/* is put behind the name if it is not 0 */
	unsigned int nb_ops;	/* in a round */
	unsigned int nb_warm;	/* rounds that warm up; 0 means 1 */
	unsigned int per_op;	/* so often it happens in one; 0 means 1 */
	int prio;		/* of the measuring thread: SCHED_FIFO, or 0 for SCHED_OTHER */
	enum op_sleep sleep;	/* does the measuring thread? */
	const void *arg;

	/* 0; -ENOTTY, -ENOENT or -EPERM if it cannot be measured here */
	int (*setup)(void);
	/* before each round, not measured */
	void (*before)(void);
	void (*run)(void);
	/* what the last round has cost, if that is not the time that it took */
	double (*cost)(void);
	void (*teardown)(void);
};

/* The one that is being measured. */
static const struct op *op;

static struct {
	const struct op *ops;
	unsigned int nb;
	unsigned int nb_threads;
	bool show_threads;
	cpu_set_t cpus;
	pthread_barrier_t barrier;
	int left_out[BENCH_THREADS];
	double samples[BENCH_THREADS][BENCH_ROUNDS];
} bench_state;

/* All threads that measure go on together. */
static inline void bench_meet(void)
{
	if (bench_state.nb_threads > 1)
		pthread_barrier_wait(&bench_state.barrier);
}

static inline int bench_prepare(void)
{
	int ret = op->prio ? set_prio(op->prio) : 0;

	if (!ret && op->setup)
		ret = op->setup();
	if (ret && ret != -ENOTTY && ret != -ENOENT && ret != -EPERM) {
		errno = -ret;
		must(-1, op->name);
	}
	return ret;
}

static inline void bench_print(int left_out)
{
	const struct timespec ts = { .tv_nsec = 20000000 };
	unsigned int i, j;

	printf("%s%s", left_out ? "# " : "bench: ", op->name);
	if (op->n)
		printf("-%u", op->n);
	if (bench_state.show_threads)
		printf("@%u", bench_state.nb_threads);
	if (left_out)
		printf(" left out: %s", left_out == -EPERM ? "not allowed" : "not in this kernel");
	for (j = 0; j < BENCH_ROUNDS && !left_out; j++) {
		double sum = 0;

		for (i = 0; i < bench_state.nb_threads; i++)
			sum += bench_state.samples[i][j];
		printf(" %.1f", sum / bench_state.nb_threads);
	}
	printf("\n");
	fflush(stdout);

	/*
	 * What carries this to the outside must not run while the next one is measured, and
	 * threads that serve go back to sleep before anything changes for them.
	 */
	nanosleep(&ts, NULL);
}

static inline void bench_op(unsigned int me)
{
	unsigned int i, nb = bench_state.nb_threads;
	int j, left_out = 0, nb_warm = op->nb_warm ? op->nb_warm : 1;

	bench_state.left_out[me] = bench_prepare();
	bench_meet();
	for (i = 0; i < nb; i++)
		if (bench_state.left_out[i])
			left_out = bench_state.left_out[i];

	for (j = -nb_warm; j < BENCH_ROUNDS && !left_out; j++) {
		uint64_t begin, end;
		long slept;

		if (op->before)
			op->before();
		bench_meet();
		slept = nr_sleeps();
		begin = now(CLOCK_MONOTONIC);
		for (i = 0; i < op->nb_ops; i++)
			op->run();
		end = now(CLOCK_MONOTONIC);
		slept = nr_sleeps() - slept;
		if (j < 0)
			continue;
		expect(op->sleep != MUST_SLEEP || slept >= op->nb_ops * 0.95, op->name,
		       "what it has to wait for was there already");
		expect(op->sleep != MUST_NOT_SLEEP || !slept, op->name,
		       "it had to wait for what should have been there");
		bench_state.samples[me][j] = op->cost ? op->cost() :
			(double)(end - begin) / op->nb_ops / (op->per_op ? op->per_op : 1);
	}

	if (op->teardown && !left_out)
		op->teardown();
	if (op->prio && left_out != -EPERM)
		must(set_prio(0), "sched_setscheduler");
	bench_meet();
	if (!me)
		bench_print(left_out);
	bench_meet();
}

static inline void bench_ops(unsigned int me)
{
	unsigned int i;

	for (i = 0; i < bench_state.nb; i++) {
		/* The same for all threads, and none of them needs the previous one any more. */
		op = &bench_state.ops[i];
		bench_op(me);
	}
}

static inline void *bench_thread(void *arg)
{
	unsigned int me = (uintptr_t)arg;

	pin(&bench_state.cpus, me);
	bench_ops(me);
	return NULL;
}

static inline void *bench_sleeper(void *arg)
{
	(void)arg;
	for (;;)
		pause();
	return NULL;
}

/*
 * Measures all operations. With @nb_threads not 0 so many threads do so at the same time, each
 * on a CPU and with objects of its own, and their number is shown.
 */
static inline int bench(const struct op *ops, unsigned int nb, unsigned int nb_threads)
{
	uintptr_t i;

	bench_state.ops = ops;
	bench_state.nb = nb;
	bench_state.show_threads = nb_threads;
	bench_state.nb_threads = nb_threads ? nb_threads : 1;
	if (nb_threads > BENCH_THREADS) {
		fprintf(stderr, "at most %u threads\n", BENCH_THREADS);
		return 1;
	}
	must(sched_getaffinity(0, sizeof(bench_state.cpus), &bench_state.cpus),
	     "sched_getaffinity");
	pthread_barrier_init(&bench_state.barrier, NULL, bench_state.nb_threads);
	start(bench_sleeper, NULL, 0);
	for (i = 1; i < bench_state.nb_threads; i++)
		start(bench_thread, (void *)i, 0);
	pin(&bench_state.cpus, 0);
	bench_ops(0);

	/* Threads that still wait for each other end with this. */
	exit(0);
}

#endif
