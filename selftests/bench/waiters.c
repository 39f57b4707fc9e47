// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What many waiters cost: those who are woken, those whom a new one queues behind, and those who
 * own what others in a chain wait for.
 *
 *	INIT=build/bench/waiters ICOUNT=1 LANE=vm scripts/boot
 *
 * In a kernel with section-base.patch or section-vm.patch, which scripts/bench builds: how long the
 * driver has an event locked that many wait for, when it is set; and how long nobody can preempt it
 * meanwhile, by the kernel's preemptoff tracer. The longest time of each round.
 */
#include "bench.h"

#include <sys/mount.h>

#define NB_WAITERS	1000
#define NB_CHAIN	64
#define OWNER		1000	/* first of the owners' ids in the chain */

/*
 * Waking: all waiters wait for manual events, or for futexes, op->n of them for each.
 */

static int events[NB_WAITERS];
static atomic_uint words[NB_WAITERS];
static pthread_t waiters[NB_WAITERS];
static unsigned int target[NB_WAITERS];		/* which event or word */
static atomic_bool by_futex;
static atomic_uint nb_awake;
static unsigned int next_event;
static bool first_round;

static const struct waiter_kind {
	bool futexes;
	int prio;
} normal, fifo = { .prio = 10 }, futexes = { .futexes = true },
  fifo_futexes = { .futexes = true, .prio = 10 };

static void *waiter(void *arg)
{
	uintptr_t me = (uintptr_t)arg;

	for (;;) {
		atomic_fetch_add(&nb_awake, 1);
		if (atomic_load(&by_futex))
			futex(&words[target[me]], FUTEX_WAIT, 0);
		else
			acquire(events[target[me]], 0);
	}
	return NULL;
}

/* All of them have begun or been woken, and go to sleep. */
static void settle_waiters(void)
{
	unsigned int i;

	for (i = 0; i < 100 && atomic_load(&nb_awake) < NB_WAITERS; i++)
		settle();
	settle();
	expect(atomic_load(&nb_awake) >= NB_WAITERS, op->name, "not all of the waiters were woken");
}

static void set_waiter_prio(unsigned int i, int prio)
{
	struct sched_param param = { .sched_priority = prio };

	errno = pthread_setschedparam(waiters[i], prio ? SCHED_FIFO : SCHED_OTHER, &param);
	must(-errno, "pthread_setschedparam");
}

/*
 * Starts the waiters, or lets them wait for something else: those up to @first for the first
 * event or word, @per_event of the others for each of the others.
 */
static void move_waiters(unsigned int first, unsigned int per_event,
			 const struct waiter_kind *kind)
{
	bool before = atomic_load(&by_futex);
	uintptr_t i;

	atomic_store(&nb_awake, 0);
	atomic_store(&by_futex, kind->futexes);
	for (i = 0; i < NB_WAITERS; i++)
		target[i] = i < first ? 0 : (i - first) / per_event + !!first;

	if (!waiters[0]) {
		for (i = 0; i < NB_WAITERS; i++) {
			events[i] = new_event(true, false);
			waiters[i] = start(waiter, (void *)i, 0);
		}
	} else if (before) {
		for (i = 0; i < NB_WAITERS; i++)
			futex(&words[i], FUTEX_WAKE, INT_MAX);
	} else {
		for (i = 0; i < NB_WAITERS; i++)
			change_event(events[i], NTSYNC_IOC_EVENT_PULSE);
	}
	settle_waiters();
	first_round = true;
}

static int open_waiters(void)
{
	const struct waiter_kind *kind = op->arg;
	unsigned int i;

	move_waiters(0, op->n, kind);
	for (i = 0; i < NB_WAITERS; i++)
		set_waiter_prio(i, kind->prio);
	return 0;
}

static void reset_events(void)
{
	unsigned int i;

	for (i = 0; i < NB_WAITERS / op->n; i++)
		change_event(events[i], NTSYNC_IOC_EVENT_RESET);
}

static void await_waiters(void)
{
	reset_events();
	if (!first_round) {
		settle_waiters();
		expect(atomic_load(&nb_awake) == NB_WAITERS, op->name,
		       "some waiters were woken twice");
	}
	first_round = false;
	atomic_store(&nb_awake, 0);
	next_event = 0;
}

static void run_set(void)
{
	set(events[next_event++]);
}

static void run_wake(void)
{
	futex(&words[next_event++], FUTEX_WAKE, INT_MAX);
}

static void await_section(void)
{
	int fd;

	await_waiters();
	fd = open(SECTION, O_WRONLY | O_CLOEXEC);
	must(fd, SECTION);
	must(write(fd, "0", 1), SECTION);
	close(fd);
}

static double read_section(void)
{
	char text[32] = "";
	int fd = open(SECTION, O_RDONLY | O_CLOEXEC);

	must(fd, SECTION);
	must(read(fd, text, sizeof(text) - 1), SECTION);
	close(fd);
	return strtod(text, NULL);
}

/* The longest time without preemption, in whole microseconds. */
#define TRACING		"/sys/kernel/tracing"

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC), ret;

	if (fd < 0)
		return -errno;
	ret = write(fd, text, strlen(text)) < 0 ? -errno : 0;
	close(fd);
	return ret;
}

static int open_preemption(void)
{
	int ret;

	if (mount("tracefs", TRACING, "tracefs", 0, NULL) && errno != EBUSY)
		return -errno == -ENODEV ? -ENOENT : -errno;
	ret = open_waiters();
	return ret ? ret : write_text(TRACING "/current_tracer", "preemptoff");
}

static void await_preemption(void)
{
	await_waiters();
	must(write_text(TRACING "/tracing_max_latency", "0"), "tracing_max_latency");
}

static double read_preemption(void)
{
	char text[32] = "";
	int fd;

	/* The rest may sleep, and those who were woken are to come once. */
	reset_events();
	fd = open(TRACING "/tracing_max_latency", O_RDONLY | O_CLOEXEC);
	must(fd, "tracing_max_latency");
	must(read(fd, text, sizeof(text) - 1), "tracing_max_latency");
	close(fd);
	return strtod(text, NULL) * 1000;
}

static void close_preemption(void)
{
	must(write_text(TRACING "/current_tracer", "nop"), "current_tracer");
	await_waiters();
}

/*
 * Queueing: a wait for something that never comes, and for something that a thread comes with
 * which runs only when the measuring thread sleeps. So each is queued, sleeps, and leaves the
 * queue.
 */

static int never, comes;
static atomic_bool over;
static pthread_t helper;

static void *come(void *arg)
{
	(void)arg;
	while (!atomic_load(&over))
		set(comes);
	return NULL;
}

static void start_helper(void)
{
	comes = new_event(false, false);
	atomic_store(&over, false);
	helper = start(come, NULL, 0);
}

static void close_helper(void)
{
	atomic_store(&over, true);
	pthread_join(helper, NULL);
	close(comes);
}

static void run_leave(void)
{
	const int fds[] = { never, comes };

	expect(wait_objs(NTSYNC_IOC_WAIT_ANY, fds, 2, OWNER + NB_CHAIN, UINT64_MAX) == 1, op->name,
	       "what never comes has come");
}

/* op->n waiters, all of them more urgent than the new one. */
static int open_queue(void)
{
	unsigned int i;

	move_waiters(op->n, 1, &normal);
	for (i = 0; i < NB_WAITERS; i++)
		set_waiter_prio(i, op->prio + 1 + i % 89);
	never = events[0];
	start_helper();
	return 0;
}

/*
 * Boosting: each thread of a chain owns a mutex and waits for that of the next one.
 */

static int chain[NB_CHAIN];

static void *chain_owner(void *arg)
{
	uintptr_t i = (uintptr_t)arg;

	acquire(chain[i], OWNER + i);
	for (;;) {
		if (i + 1 < NB_CHAIN)
			acquire(chain[i + 1], OWNER + i);
		else
			pause();
	}
	return NULL;
}

/* op->n threads are boosted, or none. */
static int open_chain(void)
{
	uintptr_t i;

	if (!chain[0]) {
		/* From the end, so that each finds the next one's mutex owned. */
		for (i = NB_CHAIN; i--; ) {
			chain[i] = new_mutex(0, 0);
			start(chain_owner, (void *)i, 0);
			settle();
		}
	}
	never = op->n ? chain[NB_CHAIN - op->n] : new_event(false, false);
	start_helper();
	return 0;
}

#define SET(_name, _n, _arg, _run) \
	{ .name = _name, .n = _n, .nb_ops = NB_WAITERS / (_n), .prio = 90, .arg = &(_arg), \
	  .setup = open_waiters, .before = await_waiters, .run = _run, .teardown = await_waiters }

#define SETS(_name, _arg, _run) \
	SET(_name, 1, _arg, _run), SET(_name, 10, _arg, _run), SET(_name, 100, _arg, _run), \
	SET(_name, 1000, _arg, _run)

#define QUEUE(_n) \
	{ .name = "queue-behind", .n = _n, .nb_ops = 300, .prio = 1, .sleep = MUST_SLEEP, \
	  .setup = open_queue, .run = run_leave, .teardown = close_helper }

#define CHAIN(_name, _n) \
	{ .name = _name, .n = _n, .nb_ops = 200, .prio = 50, .sleep = MUST_SLEEP, \
	  .setup = open_chain, .run = run_leave, .teardown = close_helper }

#define SECTION_OF(_name, _n, _arg) \
	{ .name = _name, .n = _n, .nb_ops = NB_WAITERS / (_n), .prio = 90, .arg = &(_arg), \
	  .setup = open_waiters, .before = await_section, .run = run_set, .cost = read_section, \
	  .teardown = await_waiters }

#define SECTIONS(_name, _arg) \
	SECTION_OF(_name, 1, _arg), SECTION_OF(_name, 10, _arg), SECTION_OF(_name, 100, _arg), \
	SECTION_OF(_name, 1000, _arg)

#define PREEMPTION(_name, _n, _arg) \
	{ .name = _name, .n = _n, .nb_ops = NB_WAITERS / (_n), .prio = 90, .arg = &(_arg), \
	  .setup = open_preemption, .before = await_preemption, .run = run_set, \
	  .cost = read_preemption, .teardown = close_preemption }

static const struct op ops[] = {
	SETS("set-waiters", normal, run_set),
	SETS("set-fifo-waiters", fifo, run_set),
	SETS("futex-wake-waiters", futexes, run_wake),
	SETS("futex-wake-fifo-waiters", fifo_futexes, run_wake),
	QUEUE(10), QUEUE(100), QUEUE(1000),
	CHAIN("no-boost", 0),
	CHAIN("boost-chain", 1), CHAIN("boost-chain", 2), CHAIN("boost-chain", 4),
	CHAIN("boost-chain", 8), CHAIN("boost-chain", 16), CHAIN("boost-chain", 32),
	CHAIN("boost-chain", 64),
}, sections[] = {
	SECTIONS("set-locked", normal),
	SECTIONS("set-locked-fifo", fifo),
	PREEMPTION("longest-preempt-off", 1, normal),
	PREEMPTION("longest-preempt-off", 1000, normal),
	PREEMPTION("longest-preempt-off-fifo", 1000, fifo),
};

int main(void)
{
	struct rlimit files;

	must(getrlimit(RLIMIT_NOFILE, &files), "getrlimit");
	files.rlim_cur = files.rlim_max;
	must(setrlimit(RLIMIT_NOFILE, &files), "setrlimit");
	open_device();
	if (!access(SECTION, F_OK))
		return bench(sections, ARRAY_LEN(sections), 0);
	return bench(ops, ARRAY_LEN(ops), 0);
}
