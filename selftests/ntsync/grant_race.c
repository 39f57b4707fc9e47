// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Grants that race with the end of the wait they are for.
 *
 * One thread waits, another one makes the object available just when the
 * timeout expires, a signal arrives or the object is closed. After each race
 * what the wait reported must be what happened to the objects: a success has
 * taken the grant, a failure has left it, and nothing gets lost between.
 *
 * The moment of the release is swept: later after each grant, earlier after
 * each failure, in steps that shrink where the outcome changes. So most races
 * are close ones, and both outcomes have to occur when there are two CPUs.
 *
 * The number of races is 100000 in total, scaled by NTSYNC_SCALE (in percent).
 * A test that has taken its time on a slow machine stops early, and says so.
 * NTSYNC_RACES=N demands N races of each variant of each test, however long they take.
 */
#include "ntsync_test.h"

#define WAITER		1	/* the owner ids of mutexes */
#define RELEASER	2
#define SECOND		3

#define SEM_MAX		5

/* Races of each variant; the sum over all variants is above 100000. */
#define NB_TIMEOUT	1800
#define NB_REALTIME	700
#define NB_SIGNAL	1800
#define NB_RESTART	1200
#define NB_CLOSE	600
#define NB_PASS_ON	700
#define NB_STEAL	5000

/* Ten times what the races above take on a machine that is emulated and idle. */
#define BUDGET_NSEC	(3 * NT_NSEC_PER_SEC)

enum kind {
	SEM,
	MUTEX,
	DEAD,		/* a mutex, released by MUTEX_KILL */
	AUTO,
	MANUAL,
	PULSE,		/* of an auto-reset event */
};

enum mode {
	ANY,		/* the object has index 1 */
	ALL,		/* together with a semaphore that is available */
	ALERT,		/* the object is the alert object of WAIT_ANY */
	ALERT_ALL,
};

struct sweep {
	__s64 offset;
	__s64 step;
	int last;
	__u64 extra;		/* time for the wait to begin */
};

struct racer {
	struct ntsync_wait_args args;
	unsigned long request;
	__u64 delay;		/* before the wait, in nanoseconds */
	int ret;
	__u32 index;
	__u64 end;		/* when the wait returned, on its clock */
	atomic_uint go;		/* race number */
	atomic_uint done;
	unsigned int first;	/* race number */
	bool stop;
	bool started;
	pthread_t thread;
};

/* All a test works with; one test runs in a process. */
struct race {
	int dev;
	unsigned int cpus;
	int waiter_cpu;
	unsigned int seed;
	unsigned int seq;
	__u64 latency;		/* of a wake-up by the timer */
	enum kind kind;
	enum mode mode;
	const char *name;	/* of the variant */
	int obj;
	int partner;		/* a semaphore that is available, for ALL */
	int idle;		/* an event that is never signaled */
	int objs[2];
	__u64 released;		/* when the release was over */
	struct racer waiter;
	struct racer second;
	unsigned int planned;
	unsigned int granted;
	unsigned int failed;
	const char *failure;	/* what that means */
	__u64 deadline;		/* for starting another race */
};

static struct race race;

static atomic_uint handled;

static void count_signal(int sig)
{
	int err = errno;

	(void)sig;
	atomic_fetch_add(&handled, 1);
	nt_futex_wake(&handled);
	errno = err;
}

static void plan_races(struct race *r, unsigned int n, const char *failure)
{
	r->failure = failure;
	r->planned = nt_plan_races(n, BUDGET_NSEC, &r->deadline);
}

static bool more_races(const struct race *r)
{
	return r->granted + r->failed < r->planned &&
	       nt_now(CLOCK_MONOTONIC) < r->deadline;
}

static unsigned int random_below(struct race *r, unsigned int n)
{
	r->seed ^= r->seed << 13;
	r->seed ^= r->seed >> 17;
	r->seed ^= r->seed << 5;
	return r->seed % n;
}

/* Wait for a number to be reached: spin shortly where the other side can run. */
static bool await_soon(const struct race *r, atomic_uint *word, unsigned int val)
{
	int spins = r->cpus > 1 ? 5000 : 0;

	while (spins--)
		if (atomic_load_explicit(word, memory_order_acquire) >= val)
			return true;
	return nt_await(word, val);
}

/*
 * The moments of a race, to be met as exactly as possible. On a single CPU
 * the other thread has to run meanwhile.
 */
static void wait_until(const struct race *r, clockid_t clock, __u64 when)
{
	if (r->cpus == 1)
		nt_sleep_until(clock, when);
	else
		while (nt_now(clock) < when)
			;
}

static void *racer_thread(void *arg)
{
	struct racer *racer = arg;
	unsigned int seq;

	nt_pin_self(race.waiter_cpu);
	prctl(PR_SET_TIMERSLACK, 1);
	for (seq = racer->first;; seq++) {
		clockid_t clock;

		/* the main thread may take its time: it ends the process */
		while (!await_soon(&race, &racer->go, seq))
			;
		if (racer->stop)
			return NULL;
		clock = racer->args.flags & NTSYNC_WAIT_REALTIME ? CLOCK_REALTIME :
								   CLOCK_MONOTONIC;
		if (racer->delay)
			wait_until(&race, CLOCK_MONOTONIC,
				   nt_now(CLOCK_MONOTONIC) + racer->delay);
		racer->args.index = NT_POISON;
		racer->ret = nt_ioctl(race.dev, racer->request, &racer->args);
		racer->end = nt_now(clock);
		racer->index = racer->args.index;
		atomic_store(&racer->done, seq);
		nt_futex_wake(&racer->done);
	}
}

static void racer_start(struct __test_metadata *_metadata, struct racer *racer,
			unsigned int first)
{
	racer->first = first;
	ASSERT_EQ(0, pthread_create(&racer->thread, NULL, racer_thread, racer));
	racer->started = true;
}

static void racer_go(struct racer *racer, unsigned int seq)
{
	atomic_store(&racer->go, seq);
	nt_futex_wake(&racer->go);
}

static void racer_stop(struct racer *racer, unsigned int seq)
{
	if (!racer->started)
		return;
	racer->stop = true;
	racer_go(racer, seq);
	pthread_join(racer->thread, NULL);
}

static void prepare_wait(struct race *r, struct racer *racer, __u32 owner, __u64 timeout,
			 __u32 flags)
{
	bool alert = r->mode == ALERT || r->mode == ALERT_ALL;

	r->objs[0] = r->mode == ALL ? r->partner : r->idle;
	r->objs[1] = r->obj;
	racer->request = r->mode == ALL || r->mode == ALERT_ALL ? NTSYNC_IOC_WAIT_ALL :
								   NTSYNC_IOC_WAIT_ANY;
	racer->args = (struct ntsync_wait_args) {
		.timeout = timeout,
		.objs = (uintptr_t)r->objs,
		.count = alert ? 1 : 2,
		.alert = alert ? r->obj : 0,
		.owner = owner,
		.flags = flags,
	};
}

static int create_object(const struct race *r)
{
	switch (r->kind) {
	case SEM:
		return nt_create_sem(r->dev, 0, SEM_MAX);
	case MUTEX:
	case DEAD:
		return nt_create_mutex(r->dev, RELEASER, 1);
	case MANUAL:
		return nt_create_event(r->dev, true, false);
	default:
		return nt_create_event(r->dev, false, false);
	}
}

/* Make the object available, once. */
static int release(const struct race *r, int obj, __u32 owner)
{
	switch (r->kind) {
	case SEM:
		return nt_release_sem(obj, 1, NULL);
	case MUTEX:
		return nt_unlock_mutex(obj, owner, NULL);
	case DEAD:
		return nt_kill_mutex(obj, owner);
	case AUTO:
	case MANUAL:
		return nt_event(obj, NTSYNC_IOC_EVENT_SET, NULL);
	case PULSE:
		return nt_event(obj, NTSYNC_IOC_EVENT_PULSE, NULL);
	}
	return -EINVAL;
}

/* What a wait returns that took the object. */
static int success(const struct race *r)
{
	return r->kind == DEAD ? -EOWNERDEAD : 0;
}

/* Check what a released object is like after the wait of owner. */
static void check_object(struct __test_metadata *_metadata, const struct race *r, int obj,
			 bool taken, __u32 owner)
{
	switch (r->kind) {
	case SEM:
		check_sem(obj, !taken, SEM_MAX);
		break;
	case MUTEX:
		check_mutex(obj, taken ? owner : 0, taken);
		break;
	case DEAD:
		if (taken)
			check_mutex(obj, owner, 1);
		else
			check_mutex_dead(obj);
		break;
	case AUTO:
		check_event(obj, 0, !taken);
		break;
	case MANUAL:
		check_event(obj, 1, 1);
		break;
	case PULSE:
		check_event(obj, 0, 0);
		break;
	}
}

/* Bring the object back to the state in which it was created. */
static void reset_object(struct __test_metadata *_metadata, const struct race *r, bool taken,
			 __u32 owner)
{
	__u32 index;

	switch (r->kind) {
	case SEM:
		/* a grant that was not taken can be taken now */
		if (!taken)
			ASSERT_EQ(0, nt_try_any(r->dev, 1, &r->obj, RELEASER, 0, &index));
		break;
	case MUTEX:
		if (taken)
			ASSERT_EQ(0, nt_unlock_mutex(r->obj, owner, NULL));
		ASSERT_EQ(0, nt_try_any(r->dev, 1, &r->obj, RELEASER, 0, &index));
		break;
	case DEAD:
		if (taken)
			ASSERT_EQ(0, nt_unlock_mutex(r->obj, owner, NULL));
		ASSERT_EQ(taken ? 0 : -EOWNERDEAD,
			  nt_try_any(r->dev, 1, &r->obj, RELEASER, 0, &index));
		break;
	case AUTO:
		if (!taken)
			ASSERT_EQ(0, nt_try_any(r->dev, 1, &r->obj, RELEASER, 0, &index));
		break;
	case MANUAL:
		ASSERT_EQ(0, nt_event(r->obj, NTSYNC_IOC_EVENT_RESET, NULL));
		break;
	case PULSE:
		break;
	}
}

/* Check the result of the wait itself; true if it took the object. */
static bool check_result(struct __test_metadata *_metadata, struct race *r,
			 const struct racer *racer, int failure)
{
	bool taken = racer->ret == success(r);

	if (taken) {
		ASSERT_EQ(r->mode == ALL ? 0U : 1U, racer->index);
		r->granted++;
	} else {
		ASSERT_EQ(failure, racer->ret);
		ASSERT_EQ(NT_POISON, racer->index);
		r->failed++;
	}
	check_sem(r->partner, !(taken && r->mode == ALL), 1);
	if (taken && r->mode == ALL)
		ASSERT_EQ(0, nt_release_sem(r->partner, 1, NULL));
	check_event(r->idle, 1, 0);
	ASSERT_EQ(0, _metadata->exit_code) {
		TH_LOG("after %u races", r->seq);
	}
	return taken;
}

static void check_state(struct __test_metadata *_metadata, struct race *r, int obj,
			bool taken, __u32 owner)
{
	check_object(_metadata, r, obj, taken, owner);
	ASSERT_EQ(0, _metadata->exit_code) {
		TH_LOG("after %u races: the wait returned %d", r->seq, r->waiter.ret);
	}
}

/* A wide sweep until the outcome changes, then a narrow one. */
static void sweep_next(struct race *r, struct sweep *s, bool granted)
{
	const __s64 limit = NT_NSEC_PER_SEC / 200;

	if (granted == s->last)
		s->step += s->step / 2 + 1;
	else
		s->step = s->step / 2;
	if (s->step > 100000)
		s->step = 100000;
	if (s->step < 100)
		s->step = 100;
	s->last = granted;
	s->extra -= s->extra / 64;
	s->offset += granted ? s->step : -s->step;
	s->offset += (int)random_below(r, 201) - 100;
	if (s->offset > limit)
		s->offset = limit;
	if (s->offset < -limit)
		s->offset = -limit;
}

/*
 * The release came before the wait began, which is no race: give the waiter
 * more time, and come back towards the end of the timeout.
 */
static void sweep_later(struct race *r, struct sweep *s)
{
	if (s->extra < NT_NSEC_PER_SEC / 1000)
		s->extra += r->latency / 2;
	if (s->offset < 0)
		s->offset -= s->offset / 4;
}

static __u64 later(__u64 when, __s64 offset)
{
	return offset < 0 && when < (__u64)-offset ? 0 : when + offset;
}

/* From the start of a wait to its end: the waiter is queued at some of them. */
static __u64 lead(struct race *r)
{
	return r->latency / 4 + random_below(r, 2 * r->latency);
}

/*
 * Both outcomes occurred often enough? Not demanded on one CPU, nor of a
 * machine too slow for the sweep to settle.
 */
static void check_outcomes(struct __test_metadata *_metadata, const struct race *r)
{
	unsigned int n = r->granted + r->failed;

	TH_LOG("%s: %u races: %u granted, %u %s", r->name, n, r->granted, r->failed,
	       r->failure);
	if (n < r->planned)
		TH_LOG("stopped early: %u were planned", r->planned);
	if (n < r->planned || r->cpus < 2)
		return;
	EXPECT_LE(n / 50, r->granted);
	EXPECT_LE(n / 50, r->failed);
}

static void join_race(struct __test_metadata *_metadata, struct race *r, struct racer *racer)
{
	ASSERT_TRUE(await_soon(r, &racer->done, r->seq)) {
		TH_LOG("race %u: the wait does not end", r->seq);
	}
}

/* How late is a thread that is woken by its timeout? The median of some. */
static void measure_latency(struct __test_metadata *_metadata, struct race *r)
{
	__u64 late[15], tmp;
	unsigned int i, j;

	for (i = 0; i < ARRAY_LEN(late); i++) {
		prepare_wait(r, &r->waiter, WAITER, nt_now(CLOCK_MONOTONIC) + 200000, 0);
		racer_go(&r->waiter, ++r->seq);
		join_race(_metadata, r, &r->waiter);
		ASSERT_EQ(-ETIMEDOUT, r->waiter.ret);
		late[i] = r->waiter.end - r->waiter.args.timeout;
		for (j = i; j && late[j] < late[j - 1]; j--) {
			tmp = late[j];
			late[j] = late[j - 1];
			late[j - 1] = tmp;
		}
	}
	r->latency = late[ARRAY_LEN(late) / 2];
	if (r->latency < 10000)
		r->latency = 10000;
	if (r->latency > 300000)
		r->latency = 300000;
}

/* As in the name of the variant. */
static const char *name_of(enum kind kind, enum mode mode)
{
	static const char *const kinds[] = { "sem", "mutex", "dead", "auto", "manual", "pulse" };
	static const char *const modes[] = { "any", "all", "alert", "alert_all" };
	static char name[32];

	snprintf(name, sizeof(name), "%s_%s", kinds[kind], modes[mode]);
	return name;
}

static void setup_race(struct __test_metadata *_metadata, struct race *r)
{
	nt_limit_races();
	r->name = name_of(r->kind, r->mode);
	r->cpus = nt_cpu_count();
	r->seed = 2463534242U;
	r->obj = create_object(r);
	ASSERT_LE(0, r->obj);
	r->partner = nt_create_sem(r->dev, 1, 1);
	ASSERT_LE(0, r->partner);
	r->idle = nt_create_event(r->dev, true, false);
	ASSERT_LE(0, r->idle);
	prctl(PR_SET_TIMERSLACK, 1);
	r->waiter_cpu = nt_cpu(1);
	ASSERT_EQ(0, nt_pin_self(nt_cpu(0)));
	racer_start(_metadata, &r->waiter, 1);
	measure_latency(_metadata, r);
}

static void stop_race(struct race *r)
{
	racer_stop(&r->waiter, r->seq + 1);
	racer_stop(&r->second, r->seq + 1);
}

FIXTURE(race) {
};

FIXTURE_VARIANT(race) {
	enum kind kind;
	enum mode mode;
};

FIXTURE_VARIANT_ADD(race, sem_any) { SEM, ANY };
FIXTURE_VARIANT_ADD(race, sem_all) { SEM, ALL };
FIXTURE_VARIANT_ADD(race, sem_alert) { SEM, ALERT };
FIXTURE_VARIANT_ADD(race, mutex_any) { MUTEX, ANY };
FIXTURE_VARIANT_ADD(race, mutex_all) { MUTEX, ALL };
FIXTURE_VARIANT_ADD(race, mutex_alert_all) { MUTEX, ALERT_ALL };
FIXTURE_VARIANT_ADD(race, dead_any) { DEAD, ANY };
FIXTURE_VARIANT_ADD(race, dead_all) { DEAD, ALL };
FIXTURE_VARIANT_ADD(race, auto_any) { AUTO, ANY };
FIXTURE_VARIANT_ADD(race, auto_all) { AUTO, ALL };
FIXTURE_VARIANT_ADD(race, auto_alert_all) { AUTO, ALERT_ALL };
FIXTURE_VARIANT_ADD(race, manual_any) { MANUAL, ANY };

FIXTURE_SETUP(race)
{
	open_device(race.dev);
	race.kind = variant->kind;
	race.mode = variant->mode;
	setup_race(_metadata, &race);
}

FIXTURE_TEARDOWN(race)
{
}

static void run_timeout(struct __test_metadata *_metadata, struct race *r, clockid_t clock,
			unsigned int n)
{
	__u32 flags = clock == CLOCK_REALTIME ? NTSYNC_WAIT_REALTIME : 0;
	struct sweep sweep = { .step = 20000, .last = -1 };
	bool taken;

	for (plan_races(r, n, "timed out"); more_races(r);) {
		__u64 timeout = nt_now(clock) + lead(r) + sweep.extra;

		prepare_wait(r, &r->waiter, WAITER, timeout, flags);
		racer_go(&r->waiter, ++r->seq);
		wait_until(r, clock, later(timeout, sweep.offset));
		ASSERT_EQ(0, release(r, r->obj, RELEASER));
		r->released = nt_now(clock);
		join_race(_metadata, r, &r->waiter);

		taken = check_result(_metadata, r, &r->waiter, -ETIMEDOUT);
		/* no timeout is early, and what is available before it is taken */
		if (!taken)
			ASSERT_LE(timeout, r->waiter.end);
		if (r->released < timeout && r->kind != PULSE)
			ASSERT_TRUE(taken);
		check_state(_metadata, r, r->obj, taken, WAITER);
		reset_object(_metadata, r, taken, WAITER);
		if (taken || r->released >= timeout)
			sweep_next(r, &sweep, taken);
		else
			sweep_later(r, &sweep);
	}
	check_outcomes(_metadata, r);
	stop_race(r);
}

TEST_F_TIMEOUT(race, timeout, NT_RACE_TIMEOUT)
{
	run_timeout(_metadata, &race, CLOCK_MONOTONIC, NB_TIMEOUT);
}

TEST_F_TIMEOUT(race, timeout_realtime, NT_RACE_TIMEOUT)
{
	run_timeout(_metadata, &race, CLOCK_REALTIME, NB_REALTIME);
}

/*
 * A signal that interrupts the wait, and the release while the waiter is on
 * its way out.
 */
TEST_F_TIMEOUT(race, signal, NT_RACE_TIMEOUT)
{
	struct sigaction sa = { .sa_handler = count_signal };
	struct sweep sweep = { .step = 5000, .last = -1 };
	unsigned int signals = 0;
	struct race *r = &race;
	bool taken;

	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
	for (plan_races(r, NB_SIGNAL, "interrupted"); more_races(r);) {
		__u64 when = nt_now(CLOCK_MONOTONIC) + lead(r);

		prepare_wait(r, &r->waiter, WAITER, nt_bound(), 0);
		racer_go(&r->waiter, ++r->seq);
		wait_until(r, CLOCK_MONOTONIC, when);
		if (sweep.offset < 0)
			sweep.offset = 0;
		ASSERT_EQ(0, pthread_kill(r->waiter.thread, SIGUSR1));
		if (sweep.offset)
			wait_until(r, CLOCK_MONOTONIC,
				   nt_now(CLOCK_MONOTONIC) + sweep.offset);
		ASSERT_EQ(0, release(r, r->obj, RELEASER));
		join_race(_metadata, r, &r->waiter);
		ASSERT_TRUE(await_soon(r, &handled, ++signals));

		taken = check_result(_metadata, r, &r->waiter, -EINTR);
		check_state(_metadata, r, r->obj, taken, WAITER);
		reset_object(_metadata, r, taken, WAITER);
		sweep_next(r, &sweep, taken);
	}
	EXPECT_EQ(signals, atomic_load(&handled));
	check_outcomes(_metadata, r);
	stop_race(r);
}

/* With SA_RESTART only the timeout can end the wait without the object. */
TEST_F_TIMEOUT(race, signal_restart, NT_RACE_TIMEOUT)
{
	struct sigaction sa = { .sa_handler = count_signal, .sa_flags = SA_RESTART };
	struct sweep sweep = { .step = 20000, .last = -1 };
	unsigned int signals = 0;
	struct race *r = &race;
	bool taken;

	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
	for (plan_races(r, NB_RESTART, "timed out"); more_races(r);) {
		__u64 start = nt_now(CLOCK_MONOTONIC), timeout, when;

		timeout = start + lead(r) + r->latency;
		prepare_wait(r, &r->waiter, WAITER, timeout, 0);
		racer_go(&r->waiter, ++r->seq);
		when = later(timeout, sweep.offset);
		/* the signal comes some time before both */
		wait_until(r, CLOCK_MONOTONIC,
			   start + random_below(r, when > start && when < timeout ?
						   when - start : timeout - start));
		ASSERT_EQ(0, pthread_kill(r->waiter.thread, SIGUSR1));
		wait_until(r, CLOCK_MONOTONIC, when);
		ASSERT_EQ(0, release(r, r->obj, RELEASER));
		r->released = nt_now(CLOCK_MONOTONIC);
		join_race(_metadata, r, &r->waiter);
		ASSERT_TRUE(await_soon(r, &handled, ++signals));

		taken = check_result(_metadata, r, &r->waiter, -ETIMEDOUT);
		if (!taken)
			ASSERT_LE(timeout, r->waiter.end);
		if (r->released < timeout)
			ASSERT_TRUE(taken);
		check_state(_metadata, r, r->obj, taken, WAITER);
		reset_object(_metadata, r, taken, WAITER);
		sweep_next(r, &sweep, taken);
	}
	EXPECT_EQ(signals, atomic_load(&handled));
	check_outcomes(_metadata, r);
	stop_race(r);
}

/*
 * The descriptor that the wait names is closed before the release, or right
 * after it; now and then it was the only one, and the waiter has the last
 * reference to the object.
 */
TEST_F_TIMEOUT(race, close, NT_RACE_TIMEOUT)
{
	struct sweep sweep = { .step = 20000, .last = -1 };
	struct race *r = &race;
	unsigned int late = 0;

	close(r->obj);
	for (plan_races(r, NB_CLOSE, "timed out"); more_races(r);) {
		bool taken, last = r->seq % 4 == 3, before = r->seq % 4 == 1;
		int copy = -1;
		__u64 timeout;

		r->obj = create_object(r);
		ASSERT_LE(0, r->obj);
		if (!last) {
			copy = dup(r->obj);
			ASSERT_LE(0, copy);
		}
		timeout = nt_now(CLOCK_MONOTONIC) + lead(r) + sweep.extra;
		prepare_wait(r, &r->waiter, WAITER, timeout, 0);
		racer_go(&r->waiter, ++r->seq);
		wait_until(r, CLOCK_MONOTONIC, later(timeout, sweep.offset));
		if (before)
			ASSERT_EQ(0, close(r->obj));
		ASSERT_EQ(0, release(r, before ? copy : r->obj, RELEASER));
		if (!before)
			ASSERT_EQ(0, close(r->obj));
		join_race(_metadata, r, &r->waiter);

		if (r->waiter.ret == -EINVAL) {
			check_sem(r->partner, 1, 1);
			ASSERT_EQ(NT_POISON, r->waiter.index);
			if (!last)
				check_state(_metadata, r, copy, false, WAITER);
			late++;
			sweep_later(r, &sweep);
		} else {
			taken = check_result(_metadata, r, &r->waiter, -ETIMEDOUT);
			if (!last)
				check_state(_metadata, r, copy, taken, WAITER);
			sweep_next(r, &sweep, taken);
		}
		if (!last)
			ASSERT_EQ(0, close(copy));
	}
	if (late)
		TH_LOG("%u waits began after the close", late);
	check_outcomes(_metadata, r);
	stop_race(r);
}

/*
 * A second waiter stays when the first one's timeout expires: the one release
 * goes to exactly one of them, never to nobody.
 */
TEST_F_TIMEOUT(race, pass_on, NT_RACE_TIMEOUT)
{
	struct sweep sweep = { .step = 20000, .last = -1 };
	struct race *r = &race;
	bool taken;

	racer_start(_metadata, &r->second, r->seq + 1);
	plan_races(r, NB_PASS_ON, "timed out");
	if (r->kind == MANUAL)
		r->planned = 1;		/* both get it: nothing to pass on */
	while (more_races(r)) {
		__u64 timeout = nt_now(CLOCK_MONOTONIC) + lead(r);

		prepare_wait(r, &r->waiter, WAITER, timeout, 0);
		prepare_wait(r, &r->second, SECOND, nt_bound(), 0);
		racer_go(&r->waiter, ++r->seq);
		racer_go(&r->second, r->seq);
		wait_until(r, CLOCK_MONOTONIC, later(timeout, sweep.offset));
		ASSERT_EQ(0, release(r, r->obj, RELEASER));
		join_race(_metadata, r, &r->waiter);

		taken = r->waiter.ret == success(r);
		if (taken) {
			/* the other one still waits: for this */
			ASSERT_EQ(r->mode == ALL ? 0U : 1U, r->waiter.index);
			if (r->mode == ALL)
				ASSERT_EQ(0, nt_release_sem(r->partner, 1, NULL));
			ASSERT_EQ(0, release(r, r->obj, WAITER));
			r->granted++;
		} else {
			ASSERT_EQ(-ETIMEDOUT, r->waiter.ret);
			ASSERT_EQ(NT_POISON, r->waiter.index);
			r->failed++;
		}
		join_race(_metadata, r, &r->second);
		ASSERT_EQ(success(r), r->second.ret);
		ASSERT_EQ(r->mode == ALL ? 0U : 1U, r->second.index);
		check_sem(r->partner, r->mode != ALL, 1);
		if (r->mode == ALL)
			ASSERT_EQ(0, nt_release_sem(r->partner, 1, NULL));
		check_state(_metadata, r, r->obj, true, SECOND);
		reset_object(_metadata, r, true, SECOND);
		sweep_next(r, &sweep, taken);
	}
	check_outcomes(_metadata, r);
	stop_race(r);
}

/* A pulse that finds nobody is lost: only its result can be checked. */

FIXTURE(pulse) {
};

FIXTURE_VARIANT(pulse) {
	enum mode mode;
};

FIXTURE_VARIANT_ADD(pulse, any) { ANY };
FIXTURE_VARIANT_ADD(pulse, all) { ALL };
FIXTURE_VARIANT_ADD(pulse, alert) { ALERT };

FIXTURE_SETUP(pulse)
{
	open_device(race.dev);
	race.kind = PULSE;
	race.mode = variant->mode;
	setup_race(_metadata, &race);
}

FIXTURE_TEARDOWN(pulse)
{
}

TEST_F_TIMEOUT(pulse, timeout, NT_RACE_TIMEOUT)
{
	run_timeout(_metadata, &race, CLOCK_MONOTONIC, NB_TIMEOUT);
}

/*
 * WAIT_ALL of two objects that are both there, while somebody takes one of
 * them: it has both, or neither.
 */

FIXTURE(steal) {
};

FIXTURE_VARIANT(steal) {
	bool alert;
	bool first;		/* steal the first or the second object */
};

FIXTURE_VARIANT_ADD(steal, first) { .first = true };
FIXTURE_VARIANT_ADD(steal, second) { .first = false };
FIXTURE_VARIANT_ADD(steal, second_with_alert) { .alert = true };

FIXTURE_SETUP(steal)
{
	open_device(race.dev);
	race.kind = SEM;
	race.mode = ANY;
	setup_race(_metadata, &race);
}

FIXTURE_TEARDOWN(steal)
{
}

TEST_F_TIMEOUT(steal, all_or_nothing, NT_RACE_TIMEOUT)
{
	struct sweep sweep = { .step = 2000, .last = -1 };
	struct race *r = &race;
	int objs[2], stolen, left, ret;
	__u32 index;
	bool taken;

	r->name = variant->first ? "first" : variant->alert ? "second_with_alert" : "second";
	objs[0] = nt_create_sem(r->dev, 1, 1);
	ASSERT_LE(0, objs[0]);
	objs[1] = nt_create_mutex(r->dev, 0, 0);
	ASSERT_LE(0, objs[1]);
	stolen = variant->first ? 0 : 1;
	left = !stolen;

	for (plan_races(r, NB_STEAL, "too late"); more_races(r);) {
		r->waiter.request = NTSYNC_IOC_WAIT_ALL;
		r->waiter.args = (struct ntsync_wait_args) {
			.timeout = NT_EXPIRED, .objs = (uintptr_t)objs, .count = 2,
			.owner = WAITER, .alert = variant->alert ? r->idle : 0,
		};
		r->waiter.delay = sweep.offset < 0 ? -sweep.offset : 0;
		racer_go(&r->waiter, ++r->seq);
		if (sweep.offset > 0)
			wait_until(r, CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + sweep.offset);
		ret = nt_try_any(r->dev, 1, &objs[stolen], RELEASER, 0, &index);
		join_race(_metadata, r, &r->waiter);

		taken = !r->waiter.ret;
		ASSERT_EQ(taken ? 0 : -ETIMEDOUT, r->waiter.ret);
		ASSERT_EQ(taken ? -ETIMEDOUT : 0, ret);
		ASSERT_EQ(taken ? 0U : NT_POISON, r->waiter.index);
		check_sem(objs[0], !taken && left == 0, 1);
		check_mutex(objs[1], taken ? WAITER : left == 1 ? 0 : RELEASER,
			    taken || left == 0);
		check_event(r->idle, 1, 0);
		ASSERT_EQ(0, _metadata->exit_code) {
			TH_LOG("after %u races: wait-all returned %d, wait-any %d", r->seq,
			       r->waiter.ret, ret);
		}
		if (taken || left == 1)
			ASSERT_EQ(0, nt_release_sem(objs[0], 1, NULL));
		if (taken || left == 0)
			ASSERT_EQ(0, nt_unlock_mutex(objs[1], taken ? WAITER : RELEASER, NULL));
		if (taken)
			r->granted++;
		else
			r->failed++;
		/* granted: steal earlier, so the other way round */
		sweep_next(r, &sweep, !taken);
	}
	check_outcomes(_metadata, r);
	stop_race(r);
}

TEST_HARNESS_MAIN
