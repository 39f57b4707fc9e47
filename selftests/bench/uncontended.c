// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What an operation costs that nobody waits for.
 *
 *	INIT=build/bench/uncontended ICOUNT=1 LANE=vm scripts/boot
 *
 * With a number as argument so many threads do the same at once, each on a CPU of its own and
 * with objects of its own: for scripts/bench NATIVE=1.
 */
#include "bench.h"

#define ME	1	/* owner of mutexes */

/* For the operations on single objects. */
static __thread int sem, mutex, own_mutex, event, manual;

/* For waits for several. */
static __thread int fds[NTSYNC_MAX_WAIT_COUNT];

static int open_objects(void)
{
	sem = new_sem(1, 1);
	mutex = new_mutex(0, 0);
	own_mutex = new_mutex(ME, 1);
	event = new_event(false, false);
	manual = new_event(true, true);
	return 0;
}

static void close_objects(void)
{
	close(sem);
	close(mutex);
	close(own_mutex);
	close(event);
	close(manual);
}

static void run_getppid(void)
{
	syscall(SYS_getppid);
}

/* A number that the driver does not know. */
static void run_empty_ioctl(void)
{
	expect(ioctl(sem, _IO('N', 0xff)) < 0 && errno == ENOTTY, op->name, "it is not empty");
}

static void run_sem_read(void)
{
	struct ntsync_sem_args args;

	must(ioctl(sem, NTSYNC_IOC_SEM_READ, &args), "SEM_READ");
}

static void run_mutex(void)
{
	acquire(mutex, ME);
	unlock(mutex, ME);
}

static void run_recursion(void)
{
	acquire(own_mutex, ME);
	unlock(own_mutex, ME);
}

static void run_sem(void)
{
	acquire(sem, 0);
	release(sem);
}

static void run_event(void)
{
	set(event);
	acquire(event, 0);
}

/*
 * The one who consumes the signal has the priority until it waits again. So it is raised and
 * goes back once each time, while it runs.
 */
static void run_event_pi(void)
{
	const struct ntsync_event_set_pi_args args = { .policy = SCHED_FIFO, .prio = 50 };

	must(ioctl(event, NTSYNC_IOC_EVENT_SET_PI, &args), "EVENT_SET_PI");
	acquire(event, 0);
}

static int open_event_pi(void)
{
	const struct ntsync_event_set_pi_args args = { .policy = SCHED_FIFO, .prio = 50 };
	int ret;

	open_objects();
	ret = ioctl(event, NTSYNC_IOC_EVENT_SET_PI, &args) ? -errno : 0;
	if (ret)
		close_objects();
	else
		acquire(event, 0);
	return ret;
}

static void close_event_pi(void)
{
	/* This wait ends it. */
	acquire(manual, 0);
	close_objects();
}

static void run_manual_event(void)
{
	set(manual);
	acquire(manual, 0);
}

static void run_set(void)
{
	set(manual);
}

/* Several objects */

/* All of the manual events are signaled, or only one of them. */
static void open_events(unsigned int signaled)
{
	unsigned int i;

	for (i = 0; i < op->n; i++)
		fds[i] = new_event(true, signaled == UINT_MAX || signaled == i);
}

static int open_first(void)
{
	open_events(0);
	return 0;
}

static int open_last(void)
{
	open_events(op->n - 1);
	return 0;
}

static int open_none(void)
{
	open_events(op->n);
	return 0;
}

static int open_all(void)
{
	open_events(UINT_MAX);
	return 0;
}

static int open_auto(void)
{
	unsigned int i;

	for (i = 0; i < op->n; i++)
		fds[i] = new_event(false, false);
	return 0;
}

static void close_events(void)
{
	unsigned int i;

	for (i = 0; i < op->n; i++)
		close(fds[i]);
}

static int wait_any(uint64_t timeout)
{
	return wait_objs(NTSYNC_IOC_WAIT_ANY, fds, op->n, ME, timeout);
}

static void run_any_first(void)
{
	expect(wait_any(UINT64_MAX) == 0, op->name, "not the first one");
}

static void run_any_last(void)
{
	expect(wait_any(UINT64_MAX) == (int)op->n - 1, op->name, "not the last one");
}

static void run_any_none(void)
{
	expect(wait_any(0) < 0 && errno == ETIMEDOUT, op->name, "one is ready");
}

/* Wine turns a timeout of 0 into the present time, which is past in the kernel. */
static void run_any_past(void)
{
	expect(wait_any(1) < 0 && errno == ETIMEDOUT, op->name, "one is ready");
}

static void run_all(void)
{
	must(wait_objs(NTSYNC_IOC_WAIT_ALL, fds, op->n, ME, UINT64_MAX), "WAIT_ALL");
}

static void run_set_all(void)
{
	unsigned int k;

	for (k = 0; k < op->n; k++)
		set(fds[k]);
	run_all();
}

/* Creation */

static int has_channels(void)
{
	int fd = new_channel();

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

static void run_create_sem(void)
{
	must(close(new_sem(1, 1)), "close");
}

static void run_create_mutex(void)
{
	must(close(new_mutex(0, 0)), "close");
}

static void run_create_event(void)
{
	must(close(new_event(false, false)), "close");
}

static void run_create_channel(void)
{
	int fd = new_channel();

	must(fd, "CREATE_CHANNEL");
	must(close(fd), "close");
}

#define ONE(_name, _run) \
	{ .name = _name, .nb_ops = 1000, .setup = open_objects, .run = _run, \
	  .teardown = close_objects }

#define MANY(_name, _n, _setup, _run) \
	{ .name = _name, .n = _n, .nb_ops = (_n) < 16 ? 500 : 100, .setup = _setup, .run = _run, \
	  .teardown = close_events }

#define ANY(_name, _setup, _run) \
	MANY(_name, 1, _setup, _run), MANY(_name, 4, _setup, _run), \
	MANY(_name, 16, _setup, _run), MANY(_name, 64, _setup, _run)

#define ALL(_name, _setup, _run) \
	MANY(_name, 2, _setup, _run), MANY(_name, 8, _setup, _run), MANY(_name, 64, _setup, _run)

#define CREATE(_name, _setup, _run) \
	{ .name = _name, .nb_ops = 200, .setup = _setup, .run = _run }

static const struct op ops[] = {
	ONE("getppid", run_getppid),
	ONE("empty-ioctl", run_empty_ioctl),
	ONE("sem-read", run_sem_read),
	ONE("mutex-acquire-release", run_mutex),
	ONE("mutex-recursion", run_recursion),
	ONE("sem-acquire-release", run_sem),
	ONE("event-set-wait", run_event),
	{ .name = "event-set-pi-wait", .nb_ops = 1000, .setup = open_event_pi, .run = run_event_pi,
	  .teardown = close_event_pi },
	ONE("event-manual-set-wait", run_manual_event),
	ONE("event-set", run_set),
	ANY("wait-any-first", open_first, run_any_first),
	ANY("wait-any-last", open_last, run_any_last),
	ANY("wait-any-none", open_none, run_any_none),
	MANY("wait-any-past", 1, open_none, run_any_past),
	ALL("wait-all", open_all, run_all),
	ALL("set-wait-all", open_auto, run_set_all),
	CREATE("create-close-sem", NULL, run_create_sem),
	CREATE("create-close-mutex", NULL, run_create_mutex),
	CREATE("create-close-event", NULL, run_create_event),
	CREATE("create-close-channel", has_channels, run_create_channel),
};

int main(int argc, char **argv)
{
	open_device();
	return bench(ops, ARRAY_LEN(ops), argc > 1 ? atoi(argv[1]) : 0);
}
