// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * In which order do waiters get an object?
 *
 * Real-time and deadline tasks come by priority, then all normal tasks alike;
 * among equals WAIT_ALL comes before WAIT_ANY, and FIFO within each. Without
 * real-time tasks that is the order of the driver without priorities: the
 * tests called "normal" and "equal" pass on it too.
 *
 * The order in which woken threads *run* is the scheduler's business and shows
 * little. So an object is made available once at a time, one waiter only can
 * get it, and the next one is made available when that waiter came out.
 */
#include "ntsync_test.h"

#define FIRST_OWNER	0x10000		/* owner of the mutexes at first */
#define MAX_WAITERS	1000
#define MIN_TENTH	10	/* of a crowd: with fewer it would not be one */

enum kind {
	SEM,
	MUTEX,
	AUTO,
	AUTO_PULSE,
	MANUAL,		/* WAIT_ALL of the event and a semaphore */
	MANUAL_PULSE,
};

enum mode {
	ANY,
	ALL,
	MIXED,		/* by turns ANY and ALL, all on the same object */
};

/* Which of the objects of a wait is the one that becomes available? */
enum place {
	OBJECT,		/* the only one, or one of nb_objs at varying places */
	ALERT,		/* the alert object */
	EACH,		/* another one of all nb_objs at each turn */
};

/* 7 real-time levels and normal tasks, in scrambled order. */
static const struct nt_sched rt_waiters[] = {
	NT_NICE(0),
	NT_FIFO(10),
	NT_RR(30),
	NT_NICE(-10),
	NT_FIFO(50),
	NT_FIFO(1),
	NT_RR(10),
	NT_RR(80),
	NT_BATCH(0),
	NT_FIFO(50),
	NT_NICE(19),
	NT_FIFO(30),
	NT_FIFO(20),
	NT_FIFO(80),
	NT_IDLE,
	NT_FIFO(99),
	NT_RR(1),
	NT_NICE(-20),
	NT_RR(20),
	NT_FIFO(10),
};

static const struct nt_sched deadline_waiters[] = {
	NT_NICE(0),
	NT_FIFO(99),
	NT_DEADLINE,
	NT_RR(50),
	NT_FIFO(99),
	NT_NICE(-20),
};

/* Nice values neither order waiters nor keep them from the processor. */
static const struct nt_sched normal_waiters[] = {
	NT_NICE(10),
	NT_NICE(0),
	NT_BATCH(19),
	NT_NICE(-20),
	NT_IDLE,
	NT_NICE(5),
	NT_BATCH(-5),
	NT_NICE(-10),
};

/* The same for a test without the right to raise a priority. */
static const struct nt_sched lowered_waiters[] = {
	NT_NICE(10),
	NT_NICE(0),
	NT_BATCH(19),
	NT_NICE(1),
	NT_IDLE,
	NT_NICE(5),
	NT_BATCH(0),
	NT_NICE(0),
};

static const struct nt_sched equal_waiters[] = {
	NT_FIFO(20),
	NT_RR(20),
	NT_RR(20),
	NT_FIFO(20),
	NT_FIFO(20),
	NT_RR(20),
	NT_FIFO(20),
	NT_RR(20),
};

struct queue {
	int dev;
	enum kind kind;
	enum place place;
	unsigned int nb_objs;
	unsigned int n;				/* waiters */
	int target[NTSYNC_MAX_WAIT_COUNT];	/* one, or nb_objs with EACH */
	int idle[NTSYNC_MAX_WAIT_COUNT];	/* never signaled */
	int ready[NTSYNC_MAX_WAIT_COUNT];	/* always signaled */
	bool with_token;			/* manual events: WAIT_ALL with a semaphore */
	int token;
	__u32 owner[NTSYNC_MAX_WAIT_COUNT];	/* of target, a mutex */
	int objs[MAX_WAITERS][NTSYNC_MAX_WAIT_COUNT];
	__u32 index[MAX_WAITERS];		/* expected, but not for EACH */
	struct nt_waiter waiter[MAX_WAITERS];
	int expected[MAX_WAITERS];
	struct nt_turns turns;
};

static struct queue queue;

/* The level that orders waiters: 0 for all normal tasks. */
static int level(const struct nt_sched *sched)
{
	switch (sched->policy) {
	case SCHED_DEADLINE:
		return 100;
	case SCHED_FIFO:
	case SCHED_RR:
		return sched->prio;
	}
	return 0;
}

/* WAIT_ALL waits for the alert object as WAIT_ANY does. */
static bool queued_as_all(const struct queue *q, int id)
{
	return q->waiter[id].wait.all && q->place != ALERT;
}

static int compare_waiters(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;
	int by_level = level(&queue.waiter[y].sched) - level(&queue.waiter[x].sched);
	int by_wait = queued_as_all(&queue, y) - queued_as_all(&queue, x);

	return by_level ? by_level : by_wait ? by_wait : x - y;
}

static const char *describe(char *buf, size_t size, int id)
{
	const struct nt_waiter *w = &queue.waiter[id];
	static const char * const policy[] = {
		[SCHED_OTHER] = "normal", [SCHED_FIFO] = "FIFO", [SCHED_RR] = "RR",
		[SCHED_BATCH] = "batch", [SCHED_IDLE] = "idle",
		[SCHED_DEADLINE] = "deadline",
	};

	snprintf(buf, size, "no. %d, %s %d, nice %d, wait-%s", id,
		 policy[w->sched.policy], w->sched.prio, w->sched.nice,
		 w->wait.all ? "all" : "any");
	return buf;
}

static int create_target(const struct queue *q)
{
	switch (q->kind) {
	case SEM:
		return nt_create_sem(q->dev, 0, MAX_WAITERS);
	case MUTEX:
		return nt_create_mutex(q->dev, FIRST_OWNER, 1);
	case AUTO:
	case AUTO_PULSE:
		return nt_create_event(q->dev, false, false);
	default:
		return nt_create_event(q->dev, true, false);
	}
}

/* Fill in the wait of waiter id. */
static void prepare_wait(struct queue *q, int id, bool all)
{
	unsigned int i, place = (id * 13) % q->nb_objs;
	struct nt_waiter *w = &q->waiter[id];
	int *objs = q->objs[id];

	for (i = 0; i < q->nb_objs; i++) {
		if (q->place == EACH)
			objs[i] = q->target[i];
		else if (q->place == ALERT)
			objs[i] = q->idle[i];
		else if (i == place)
			objs[i] = q->target[0];
		else
			objs[i] = all ? q->ready[i] : q->idle[i];
	}
	w->wait.dev = q->dev;
	w->wait.all = all;
	w->wait.objs = objs;
	w->wait.count = q->nb_objs;
	w->wait.owner = id + 1;
	q->index[id] = all ? 0 : place;
	if (q->place == ALERT) {
		w->wait.alert = q->target[0];
		q->index[id] = q->nb_objs;
	}
	if (q->with_token)
		objs[w->wait.count++] = q->token;
	w->id = id;
	w->turns = &q->turns;
}

/*
 * Queue n waiters one after the other: waiter i has the attributes
 * sched[i % nb_sched], and is in the queue before i + 1 is started.
 */
static void queue_waiters(struct __test_metadata *_metadata, struct queue *q,
			  enum mode mode, const struct nt_sched *sched,
			  unsigned int nb_sched, unsigned int n)
{
	unsigned int i;

	for (i = 0; i < NTSYNC_MAX_WAIT_COUNT; i++) {
		q->target[i] = q->idle[i] = q->ready[i] = -1;
		q->owner[i] = FIRST_OWNER;
	}
	for (i = 0; i < q->nb_objs; i++) {
		q->idle[i] = nt_create_event(q->dev, false, false);
		ASSERT_LE(0, q->idle[i]);
		q->ready[i] = nt_create_event(q->dev, true, true);
		ASSERT_LE(0, q->ready[i]);
		if (i && q->place != EACH)
			continue;
		q->target[i] = create_target(q);
		ASSERT_LE(0, q->target[i]);
	}
	q->token = nt_create_sem(q->dev, 0, 1);
	ASSERT_LE(0, q->token);

	q->n = n;
	for (i = 0; i < n; i++) {
		q->waiter[i].sched = sched[i % nb_sched];
		prepare_wait(q, i, mode == ALL || (mode == MIXED && i % 2));
		q->expected[i] = i;
		start_asleep(&q->waiter[i]);
	}
	qsort(q->expected, n, sizeof(q->expected[0]), compare_waiters);
}

/* Make target t available for one waiter. */
static void grant_one(struct __test_metadata *_metadata, struct queue *q, int t)
{
	__u32 prev;

	switch (q->kind) {
	case SEM:
		ASSERT_EQ(0, nt_release_sem(q->target[t], 1, &prev));
		ASSERT_EQ(0U, prev);
		break;
	case MUTEX:
		ASSERT_EQ(0, nt_unlock_mutex(q->target[t], q->owner[t], &prev));
		ASSERT_EQ(1U, prev);
		break;
	case AUTO:
		ASSERT_EQ(0, nt_event(q->target[t], NTSYNC_IOC_EVENT_SET, &prev));
		ASSERT_EQ(0U, prev);
		break;
	case AUTO_PULSE:
		ASSERT_EQ(0, nt_event(q->target[t], NTSYNC_IOC_EVENT_PULSE, &prev));
		ASSERT_EQ(0U, prev);
		break;
	case MANUAL:
		ASSERT_EQ(0, nt_release_sem(q->token, 1, &prev));
		ASSERT_EQ(0U, prev);
		ASSERT_EQ(0, nt_event(q->target[t], NTSYNC_IOC_EVENT_SET, &prev));
		ASSERT_EQ(0U, prev);
		ASSERT_EQ(0, nt_event(q->target[t], NTSYNC_IOC_EVENT_RESET, &prev));
		ASSERT_EQ(1U, prev);
		break;
	case MANUAL_PULSE:
		ASSERT_EQ(0, nt_release_sem(q->token, 1, &prev));
		ASSERT_EQ(0U, prev);
		ASSERT_EQ(0, nt_event(q->target[t], NTSYNC_IOC_EVENT_PULSE, &prev));
		ASSERT_EQ(0U, prev);
		break;
	}
}

/* After grant_one(), who got it? Nobody else may have, and nothing is left. */
static int granted_to(struct __test_metadata *_metadata, struct queue *q,
		      unsigned int turn, int t)
{
	int who = nt_turn(&q->turns, turn);

	ASSERT_LE(0, who) {
		TH_LOG("turn %u: no waiter came out", turn);
	}
	switch (q->kind) {
	case SEM:
		check_sem(q->target[t], 0, MAX_WAITERS);
		break;
	case MUTEX:
		q->owner[t] = who + 1;
		check_mutex(q->target[t], who + 1, 1);
		break;
	case AUTO:
	case AUTO_PULSE:
		check_event(q->target[t], 0, 0);
		break;
	case MANUAL:
	case MANUAL_PULSE:
		check_event(q->target[t], 1, 0);
		check_sem(q->token, 0, 1);
		break;
	}
	EXPECT_EQ(q->place == EACH ? (__u32)t : q->index[who], q->waiter[who].wait.index);
	return who;
}

/* Grants one at a time for the turns from..to-1; returns how many were wrong. */
static unsigned int grant_turns(struct __test_metadata *_metadata, struct queue *q,
				unsigned int from, unsigned int to)
{
	unsigned int turn, wrong = 0;
	char want[64], got[64];
	int t, who;

	for (turn = from; turn < to; turn++) {
		t = q->place == EACH ? (turn * 37) % q->nb_objs : 0;
		grant_one(_metadata, q, t);
		who = granted_to(_metadata, q, turn, t);
		if (who != q->expected[turn] && !wrong++)
			TH_LOG("turn %u: expected %s; it was %s", turn,
			       describe(want, sizeof(want), q->expected[turn]),
			       describe(got, sizeof(got), who));
	}
	return wrong;
}

static void finish_waiters(struct __test_metadata *_metadata, struct queue *q)
{
	unsigned int i;

	for (i = 0; i < q->n; i++)
		ASSERT_EQ(0, nt_finish(&q->waiter[i]));
	EXPECT_EQ(q->n, atomic_load(&q->turns.n));
	for (i = 0; i < q->nb_objs; i++) {
		check_event(q->idle[i], 0, 0);
		check_event(q->ready[i], 1, 1);
	}
}

static void run_order(struct __test_metadata *_metadata, struct queue *q,
		      enum mode mode, const struct nt_sched *sched, unsigned int n)
{
	queue_waiters(_metadata, q, mode, sched, n, n);
	EXPECT_EQ(0U, grant_turns(_metadata, q, 0, n));
	finish_waiters(_metadata, q);
}

#define SKIP_WITHOUT(_sched) do {					\
	int __err = nt_sched_probe((struct nt_sched)_sched);				\
									\
	if (__err)							\
		SKIP(return, "no right to use this policy: %s", strerror(-__err)); \
} while (0)

FIXTURE(order) {
};

FIXTURE_VARIANT(order) {
	enum kind kind;
	enum mode mode;
	enum place place;
	unsigned int nb_objs;
};

#define ORDER(_name, ...) \
	FIXTURE_VARIANT_ADD(order, _name) { __VA_ARGS__ }

ORDER(sem_any, SEM, ANY, OBJECT, 1);
ORDER(sem_all, SEM, ALL, OBJECT, 2);
ORDER(sem_mixed, SEM, MIXED, OBJECT, 2);
ORDER(sem_alert_any, SEM, ANY, ALERT, 1);
ORDER(sem_alert_all, SEM, ALL, ALERT, 1);
ORDER(sem_alert_mixed, SEM, MIXED, ALERT, 2);
ORDER(sem_any_64, SEM, ANY, OBJECT, 64);
ORDER(sem_all_64, SEM, ALL, OBJECT, 64);
ORDER(sem_mixed_64, SEM, MIXED, OBJECT, 64);
ORDER(sem_each_64, SEM, ANY, EACH, 64);
ORDER(sem_alert_64, SEM, MIXED, ALERT, 64);
ORDER(mutex_any, MUTEX, ANY, OBJECT, 1);
ORDER(mutex_all, MUTEX, ALL, OBJECT, 2);
ORDER(mutex_mixed, MUTEX, MIXED, OBJECT, 2);
ORDER(mutex_alert_any, MUTEX, ANY, ALERT, 1);
ORDER(mutex_alert_all, MUTEX, ALL, ALERT, 1);
ORDER(mutex_any_64, MUTEX, ANY, OBJECT, 64);
ORDER(mutex_all_64, MUTEX, ALL, OBJECT, 64);
ORDER(mutex_each_64, MUTEX, ANY, EACH, 64);
ORDER(auto_any, AUTO, ANY, OBJECT, 1);
ORDER(auto_all, AUTO, ALL, OBJECT, 2);
ORDER(auto_mixed, AUTO, MIXED, OBJECT, 2);
ORDER(auto_alert_any, AUTO, ANY, ALERT, 1);
ORDER(auto_alert_all, AUTO, ALL, ALERT, 1);
ORDER(auto_any_64, AUTO, ANY, OBJECT, 64);
ORDER(auto_all_64, AUTO, ALL, OBJECT, 64);
ORDER(auto_each_64, AUTO, ANY, EACH, 64);
ORDER(auto_pulse_any, AUTO_PULSE, ANY, OBJECT, 1);
ORDER(auto_pulse_all, AUTO_PULSE, ALL, OBJECT, 2);
ORDER(auto_pulse_mixed, AUTO_PULSE, MIXED, OBJECT, 2);
ORDER(auto_pulse_alert, AUTO_PULSE, MIXED, ALERT, 1);
ORDER(auto_pulse_each_64, AUTO_PULSE, ANY, EACH, 64);
ORDER(manual_all, MANUAL, ALL, OBJECT, 1);
ORDER(manual_all_63, MANUAL, ALL, OBJECT, 63);
ORDER(manual_pulse_all, MANUAL_PULSE, ALL, OBJECT, 1);
ORDER(manual_pulse_all_63, MANUAL_PULSE, ALL, OBJECT, 63);

FIXTURE_SETUP(order)
{
	open_device(queue.dev);
	queue.kind = variant->kind;
	queue.place = variant->place;
	queue.nb_objs = variant->nb_objs;
	queue.with_token = variant->kind == MANUAL || variant->kind == MANUAL_PULSE;
}

FIXTURE_TEARDOWN(order)
{
}

TEST_F_TIMEOUT(order, rt, NT_TEST_TIMEOUT)
{
	SKIP_WITHOUT(NT_FIFO(99));
	run_order(_metadata, &queue, variant->mode, rt_waiters, ARRAY_LEN(rt_waiters));
}

TEST_F_TIMEOUT(order, deadline, NT_TEST_TIMEOUT)
{
	SKIP_WITHOUT(NT_FIFO(99));
	SKIP_WITHOUT(NT_DEADLINE);
	run_order(_metadata, &queue, variant->mode, deadline_waiters,
		  ARRAY_LEN(deadline_waiters));
}

TEST_F_TIMEOUT(order, normal, NT_TEST_TIMEOUT)
{
	if (nt_sched_probe((struct nt_sched)NT_NICE(-20)))
		run_order(_metadata, &queue, variant->mode, lowered_waiters,
			  ARRAY_LEN(lowered_waiters));
	else
		run_order(_metadata, &queue, variant->mode, normal_waiters,
			  ARRAY_LEN(normal_waiters));
}

TEST_F_TIMEOUT(order, equal, NT_TEST_TIMEOUT)
{
	SKIP_WITHOUT(NT_FIFO(99));
	run_order(_metadata, &queue, variant->mode, equal_waiters,
		  ARRAY_LEN(equal_waiters));
}

/* The same with 1000 waiters, scaled by NTSYNC_SCALE (in percent). */

FIXTURE(crowd) {
};

FIXTURE_VARIANT(crowd) {
	enum kind kind;
	enum mode mode;
};

FIXTURE_VARIANT_ADD(crowd, sem_any) { SEM, ANY };
FIXTURE_VARIANT_ADD(crowd, sem_all) { SEM, ALL };
FIXTURE_VARIANT_ADD(crowd, sem_mixed) { SEM, MIXED };
FIXTURE_VARIANT_ADD(crowd, mutex_any) { MUTEX, ANY };
FIXTURE_VARIANT_ADD(crowd, auto_any) { AUTO, ANY };

FIXTURE_SETUP(crowd)
{
	open_device(queue.dev);
	queue.kind = variant->kind;
	queue.place = OBJECT;
	queue.nb_objs = 2;
}

FIXTURE_TEARDOWN(crowd)
{
}

/* One release for n waiters: the first n in the order get it, and no other. */
static unsigned int release_many(struct __test_metadata *_metadata, struct queue *q,
				 unsigned int from, unsigned int n)
{
	unsigned int i, wrong = 0;
	bool *out = calloc(MAX_WAITERS, sizeof(*out));
	__u32 prev;

	ASSERT_TRUE(out != NULL);
	ASSERT_EQ(0, nt_release_sem(q->target[0], n, &prev));
	ASSERT_EQ(0U, prev);
	check_sem(q->target[0], 0, MAX_WAITERS);
	for (i = from; i < from + n; i++) {
		int who = nt_turn(&q->turns, i);

		ASSERT_LE(0, who);
		out[who] = true;
	}
	for (i = from; i < from + n; i++)
		wrong += !out[q->expected[i]];
	free(out);
	return wrong;
}

static void run_crowd(struct __test_metadata *_metadata, struct queue *q,
		      enum mode mode, const struct nt_sched *sched, unsigned int n)
{
	unsigned int tenth = nt_scaled_down(MAX_WAITERS / 10);

	if (tenth < MIN_TENTH)
		tenth = MIN_TENTH;
	queue_waiters(_metadata, q, mode, sched, n, 10 * tenth);
	if (q->kind == SEM) {
		EXPECT_EQ(0U, grant_turns(_metadata, q, 0, 5 * tenth));
		EXPECT_EQ(0U, release_many(_metadata, q, 5 * tenth, 3 * tenth));
		EXPECT_EQ(0U, grant_turns(_metadata, q, 8 * tenth, 9 * tenth));
		EXPECT_EQ(0U, release_many(_metadata, q, 9 * tenth, tenth));
	} else {
		EXPECT_EQ(0U, grant_turns(_metadata, q, 0, 10 * tenth));
	}
	finish_waiters(_metadata, q);
}

TEST_F_TIMEOUT(crowd, rt, 2 * NT_TEST_TIMEOUT)
{
	SKIP_WITHOUT(NT_FIFO(99));
	run_crowd(_metadata, &queue, variant->mode, rt_waiters, ARRAY_LEN(rt_waiters));
}

TEST_F_TIMEOUT(crowd, normal, 2 * NT_TEST_TIMEOUT)
{
	run_crowd(_metadata, &queue, variant->mode, lowered_waiters,
		  ARRAY_LEN(lowered_waiters));
}

/*
 * A call that wakes all of them at once: all on one processor below the waker
 * and equal, so that they run in the order in which they were woken.
 */

FIXTURE(burst) {
};

FIXTURE_VARIANT(burst) {
	enum kind kind;
	enum mode mode;
	enum place place;
	unsigned int nb_objs;
	unsigned long request;
};

FIXTURE_VARIANT_ADD(burst, manual_set_any) {
	MANUAL, ANY, OBJECT, 1, NTSYNC_IOC_EVENT_SET
};
FIXTURE_VARIANT_ADD(burst, manual_set_all) {
	MANUAL, ALL, OBJECT, 2, NTSYNC_IOC_EVENT_SET
};
FIXTURE_VARIANT_ADD(burst, manual_set_mixed) {
	MANUAL, MIXED, OBJECT, 2, NTSYNC_IOC_EVENT_SET
};
FIXTURE_VARIANT_ADD(burst, manual_set_alert) {
	MANUAL, MIXED, ALERT, 1, NTSYNC_IOC_EVENT_SET
};
FIXTURE_VARIANT_ADD(burst, manual_pulse_any) {
	MANUAL, ANY, OBJECT, 1, NTSYNC_IOC_EVENT_PULSE
};
FIXTURE_VARIANT_ADD(burst, manual_pulse_all) {
	MANUAL, ALL, OBJECT, 2, NTSYNC_IOC_EVENT_PULSE
};
FIXTURE_VARIANT_ADD(burst, manual_pulse_mixed) {
	MANUAL, MIXED, OBJECT, 2, NTSYNC_IOC_EVENT_PULSE
};
FIXTURE_VARIANT_ADD(burst, sem_release_any) { SEM, ANY, OBJECT, 1, 0 };
FIXTURE_VARIANT_ADD(burst, sem_release_mixed) { SEM, MIXED, OBJECT, 2, 0 };

FIXTURE_SETUP(burst)
{
	open_device(queue.dev);
	queue.kind = variant->kind;
	queue.place = variant->place;
	queue.nb_objs = variant->nb_objs;
}

FIXTURE_TEARDOWN(burst)
{
}

static void run_burst(struct __test_metadata *_metadata, struct queue *q,
		      enum mode mode, unsigned long request,
		      const struct nt_sched *sched, unsigned int n)
{
	struct nt_sched waker = NT_FIFO(99), below = NT_FIFO(1);
	unsigned int i, wrong = 0;
	char want[64], got[64];
	int cpu = nt_cpu(0);
	__u32 prev;

	ASSERT_LE(0, cpu);
	ASSERT_EQ(0, nt_pin_self(cpu));
	ASSERT_EQ(0, nt_sched_self(&waker));
	queue_waiters(_metadata, q, mode, sched, n, n);
	/* a thread below them has run: none of them is still on its way to sleep */
	ASSERT_EQ(0, nt_sched_probe(below));

	if (q->kind == SEM) {
		ASSERT_EQ(0, nt_release_sem(q->target[0], n, &prev));
	} else {
		ASSERT_EQ(0, nt_event(q->target[0], request, &prev));
	}
	EXPECT_EQ(0U, prev);
	/* not one of them can have run yet */
	EXPECT_EQ(0U, atomic_load(&q->turns.n));

	for (i = 0; i < n; i++) {
		int who = nt_turn(&q->turns, i);

		ASSERT_LE(0, who);
		if (who != q->expected[i] && !wrong++)
			TH_LOG("turn %u: expected %s; it was %s", i,
			       describe(want, sizeof(want), q->expected[i]),
			       describe(got, sizeof(got), who));
		EXPECT_EQ(q->index[who], q->waiter[who].wait.index);
	}
	EXPECT_EQ(0U, wrong);
	if (q->kind == SEM)
		check_sem(q->target[0], 0, MAX_WAITERS);
	else
		check_event(q->target[0], 1, request == NTSYNC_IOC_EVENT_SET);
	finish_waiters(_metadata, q);
}

TEST_F_TIMEOUT(burst, equal, NT_TEST_TIMEOUT)
{
	SKIP_WITHOUT(NT_FIFO(99));
	run_burst(_metadata, &queue, variant->mode, variant->request,
		  equal_waiters, ARRAY_LEN(equal_waiters));
}

/* Waiters that cannot have the object are passed over, whatever they are. */

FIXTURE(pass_over) {
	int dev;
	struct nt_turns *turns;
};

FIXTURE_SETUP(pass_over)
{
	open_device(self->dev);
	self->turns = calloc(1, sizeof(*self->turns));
	ASSERT_TRUE(self->turns != NULL);
	SKIP_WITHOUT(NT_FIFO(99));
}

FIXTURE_TEARDOWN(pass_over)
{
	free(self->turns);
}

TEST_F_TIMEOUT(pass_over, incomplete_all, NT_TEST_TIMEOUT)
{
	int objs[2] = {
		nt_create_sem(self->dev, 0, 2),
		nt_create_event(self->dev, true, false),
	};
	struct nt_waiter all = {
		.wait = { .dev = self->dev, .all = true, .objs = objs, .count = 2 },
		.sched = NT_FIFO(90), .id = 0, .turns = self->turns,
	};
	struct nt_waiter fifo = {
		.wait = { .dev = self->dev, .objs = objs, .count = 1 },
		.sched = NT_FIFO(10), .id = 1, .turns = self->turns,
	};
	struct nt_waiter normal = {
		.wait = { .dev = self->dev, .objs = objs, .count = 1 },
		.id = 2, .turns = self->turns,
	};

	start_asleep(&all);
	start_asleep(&fifo);
	start_asleep(&normal);
	ASSERT_EQ(0, nt_release_sem(objs[0], 1, NULL));
	EXPECT_EQ(1, nt_turn(self->turns, 0));
	check_sem(objs[0], 0, 2);
	ASSERT_EQ(0, nt_event(objs[1], NTSYNC_IOC_EVENT_SET, NULL));
	EXPECT_TRUE(nt_asleep(&all));
	ASSERT_EQ(0, nt_release_sem(objs[0], 1, NULL));
	EXPECT_EQ(0, nt_turn(self->turns, 1));
	check_sem(objs[0], 0, 2);
	check_event(objs[1], 1, 1);
	ASSERT_EQ(0, nt_release_sem(objs[0], 1, NULL));
	EXPECT_EQ(2, nt_turn(self->turns, 2));
	EXPECT_EQ(0, nt_finish(&all));
	EXPECT_EQ(0, nt_finish(&fifo));
	EXPECT_EQ(0, nt_finish(&normal));
	check_sem(objs[0], 0, 2);
}

TEST_F_TIMEOUT(pass_over, other_owner, NT_TEST_TIMEOUT)
{
	int mutex = nt_create_mutex(self->dev, 5, UINT_MAX);
	struct nt_waiter other = {
		.wait = { .dev = self->dev, .objs = &mutex, .count = 1, .owner = 7 },
		.sched = NT_FIFO(90), .id = 0, .turns = self->turns,
	};
	struct nt_waiter owner = {
		.wait = { .dev = self->dev, .objs = &mutex, .count = 1, .owner = 5 },
		.id = 1, .turns = self->turns,
	};
	__u32 prev;

	start_asleep(&other);
	start_asleep(&owner);
	ASSERT_EQ(0, nt_unlock_mutex(mutex, 5, &prev));
	EXPECT_EQ(UINT_MAX, prev);
	EXPECT_EQ(1, nt_turn(self->turns, 0));
	check_mutex(mutex, 5, UINT_MAX);
	EXPECT_TRUE(nt_asleep(&other));
	ASSERT_EQ(0, nt_kill_mutex(mutex, 5));
	EXPECT_EQ(0, nt_turn(self->turns, 1));
	check_mutex(mutex, 7, 1);
	EXPECT_EQ(0, nt_finish(&owner));
	EXPECT_EQ(-EOWNERDEAD, nt_finish(&other));
}

/*
 * Real-time waiters are taken off an object together. One of them may have been ended by
 * another object and not run yet: it is passed over, leaves the queue by itself, and the
 * others have their turns; and so have those who wait later.
 */

#define NB_TOGETHER	5

FIXTURE(together) {
	int dev;
	struct nt_turns *turns;
	struct nt_waiter waiter[2][NB_TOGETHER];
};

FIXTURE_VARIANT(together) {
	enum kind kind;
	int ended;	/* this one, in order of priority */
	int nb_granted;	/* so many of the others get it at once */
};

FIXTURE_VARIANT_ADD(together, manual_first) { MANUAL, 0, 4 };
FIXTURE_VARIANT_ADD(together, manual_middle) { MANUAL, 2, 4 };
FIXTURE_VARIANT_ADD(together, manual_last) { MANUAL, 4, 4 };
FIXTURE_VARIANT_ADD(together, manual_none) { MANUAL, -1, 5 };
FIXTURE_VARIANT_ADD(together, sem_first) { SEM, 0, 4 };
FIXTURE_VARIANT_ADD(together, sem_middle) { SEM, 2, 4 };
FIXTURE_VARIANT_ADD(together, sem_last) { SEM, 4, 4 };
FIXTURE_VARIANT_ADD(together, sem_none) { SEM, -1, 5 };
FIXTURE_VARIANT_ADD(together, sem_some_first) { SEM, 0, 2 };
FIXTURE_VARIANT_ADD(together, sem_some_middle) { SEM, 2, 2 };
FIXTURE_VARIANT_ADD(together, sem_some_last) { SEM, 4, 2 };
FIXTURE_VARIANT_ADD(together, sem_some_none) { SEM, -1, 2 };

FIXTURE_SETUP(together)
{
	open_device(self->dev);
	self->turns = calloc(1, sizeof(*self->turns));
	ASSERT_TRUE(self->turns != NULL);
	SKIP_WITHOUT(NT_FIFO(99));
}

FIXTURE_TEARDOWN(together)
{
	free(self->turns);
}

TEST_F_TIMEOUT(together, one_ended_elsewhere, NT_TEST_TIMEOUT)
{
	bool sem = variant->kind == SEM;
	int objs[2] = {
		sem ? nt_create_sem(self->dev, 0, NB_TOGETHER) :
		      nt_create_event(self->dev, true, false),
		nt_create_event(self->dev, false, false),
	};
	struct nt_sched waker = NT_FIFO(99), below = NT_FIFO(1);
	int cpu = nt_cpu(0), round, i, left, turn = 0;

	ASSERT_LE(0, cpu);
	ASSERT_EQ(0, nt_pin_self(cpu));
	ASSERT_EQ(0, nt_sched_self(&waker));

	for (round = 0; round < 2; round++) {
		/* in the second round all get it */
		int ended = round ? -1 : variant->ended;
		int granted = round ? NB_TOGETHER : variant->nb_granted;

		for (i = 0; i < NB_TOGETHER; i++) {
			/* equal ones, so that both sides of the one that leaves have some */
			struct nt_waiter waiter = {
				.wait = { .dev = self->dev, .objs = objs },
				.sched = NT_FIFO(50 - 10 * (i / 2)), .id = i, .turns = self->turns,
			};

			waiter.wait.count = i == ended ? 2 : 1;
			self->waiter[round][i] = waiter;
			start_asleep(&self->waiter[round][i]);
		}
		/* a thread below them has run: none of them is still on its way to sleep */
		ASSERT_EQ(0, nt_sched_probe(below));

		if (ended >= 0) {
			ASSERT_EQ(0, nt_event(objs[1], NTSYNC_IOC_EVENT_SET, NULL));
		}
		if (sem) {
			ASSERT_EQ(0, nt_release_sem(objs[0], granted, NULL));
		} else {
			ASSERT_EQ(0, nt_event(objs[0], NTSYNC_IOC_EVENT_SET, NULL));
		}
		ASSERT_EQ((unsigned int)turn, atomic_load(&self->turns->n));

		left = granted;
		for (i = 0; i < NB_TOGETHER; i++) {
			if (i == ended || left-- > 0)
				EXPECT_EQ(i, nt_turn(self->turns, turn++));
		}
		if (sem) {
			check_sem(objs[0], 0, NB_TOGETHER);
		} else {
			check_event(objs[0], 1, 1);
			ASSERT_EQ(0, nt_event(objs[0], NTSYNC_IOC_EVENT_RESET, NULL));
		}
		/* the rest, one by one */
		left = granted;
		for (i = 0; i < NB_TOGETHER; i++) {
			if (i == ended || left-- > 0)
				continue;
			ASSERT_EQ(0, nt_release_sem(objs[0], 1, NULL));
			EXPECT_EQ(i, nt_turn(self->turns, turn++));
		}

		for (i = 0; i < NB_TOGETHER; i++) {
			EXPECT_EQ(0, nt_finish(&self->waiter[round][i]));
			EXPECT_EQ((__u32)(i == ended), self->waiter[round][i].wait.index);
		}
		check_event(objs[1], 0, 0);
		EXPECT_EQ((unsigned int)turn, atomic_load(&self->turns->n));
	}
}

TEST_HARNESS_MAIN
