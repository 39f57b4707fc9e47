// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * EVENT_SET_PI, sentence by sentence of its contract: an event that is set with a
 * priority gives it to the first task that consumes it, until that task waits again.
 *
 * Everything runs on one CPU below the controlling thread, so a consumer that was
 * woken runs only when that one sleeps. Evidence is the effective priority, as the
 * controlling thread and as the consumer itself sees it, and the order of events.
 *
 * A thread that has nothing to do sleeps on a futex. That is no wait of ntsync, so it
 * keeps the priority.
 */
#include "channel_test.h"
#include <assert.h>
#include <poll.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <linux/capability.h>

#define HOLD_VAR	"NTSYNC_SET_PI_HOLD"
#define NB_CONSUMERS	4
#define NB_WAITERS	40
#define NB_ROUNDS	100
#define NB_RACES	300
#define NOBODY		65534

static_assert(NTSYNC_IOC_EVENT_SET_PI == _IOC(_IOC_WRITE, 'N', 0x8e, 16), "EVENT_SET_PI");
static_assert(offsetof(struct ntsync_event_set_pi_args, flags) == 0, "flags");
static_assert(offsetof(struct ntsync_event_set_pi_args, policy) == 4, "policy");
static_assert(offsetof(struct ntsync_event_set_pi_args, prio) == 8, "prio");
static_assert(offsetof(struct ntsync_event_set_pi_args, __pad) == 12, "__pad");

/* A program that is executed by a test only has to stay until it is killed. */
static __attribute__((constructor)) void hold(void)
{
	if (getenv(HOLD_VAR)) {
		for (;;)
			pause();
	}
}

static int set_pi_args(int event, __u32 flags, __u32 policy, __u32 prio, __u32 pad)
{
	struct ntsync_event_set_pi_args args = {
		.flags = flags, .policy = policy, .prio = prio, .__pad = pad,
	};

	return nt_ioctl(event, NTSYNC_IOC_EVENT_SET_PI, &args);
}

static int set_pi(int event, __u32 prio)
{
	return set_pi_args(event, 0, SCHED_FIFO, prio, 0);
}

/* What the threads of a test use. */
struct objs {
	int dev;
	int event;	/* the one that is set with a priority */
	int manual;	/* the same */
	int other;
	int never;	/* is not signaled */
	int always;	/* is */
	int empty;	/* semaphore */
	int plenty;
	int mutex;
	int ch;		/* of depth 1, or -1 */
	atomic_uint futex;
};

struct consumer {
	struct peer p;		/* must be first */
	struct objs *o;
	int (*op)(struct consumer *c);
	int alert;
	int arg;
	__u64 entry;		/* of a request that it took */
	__u32 index;		/* of its wait */
	int seen;		/* what it had after the call */
};

FIXTURE(set_pi) {
	struct objs o;
	struct consumer c[NB_CONSUMERS];
	struct consumer waiter[NB_WAITERS];
};

static pid_t tid_of(struct consumer *c)
{
	return atomic_load(&c->p.a.tid);
}

static int prio_of(struct consumer *c)
{
	return actor_prio(&c->p.a);
}

static int set_own(struct consumer *c, int prio)
{
	return set_sched(tid_of(c), prio ? SCHED_FIFO : SCHED_OTHER, prio);
}

static int kick(struct consumer *c)
{
	return syscall(SYS_tgkill, getpid(), tid_of(c), SIGUSR1) ? -errno : 0;
}

static int start(struct consumer *c, struct objs *o, __u32 id)
{
	c->o = o;
	c->p.a.id = id;
	return actor_start(&c->p.a, o->dev, 0);
}

static int do_op(struct actor *a)
{
	struct consumer *c = (struct consumer *)a;
	int ret = c->op(c);

	c->seen = actor_prio(a);
	return ret;
}

static void begin(struct consumer *c, int (*op)(struct consumer *c))
{
	c->op = op;
	c->seen = INT_MIN;
	actor_begin(&c->p.a, do_op);
}

static int end(struct consumer *c)
{
	return actor_end(&c->p.a);
}

static int call(struct consumer *c, int (*op)(struct consumer *c))
{
	begin(c, op);
	return end(c);
}

/* A wait for what is in objs, and one object that is there at once or never. */
static int op_wait(struct consumer *c)
{
	struct nt_wait wait = {
		.dev = c->o->dev, .objs = c->p.a.objs, .count = c->p.a.nb_objs,
		.owner = c->p.a.id, .all = c->p.a.all, .alert = c->alert,
		.timeout = c->p.a.timeout,
	};
	int ret = nt_wait(&wait);

	c->index = wait.index;
	return ret;
}

static void arrange(struct consumer *c, int fd, bool all, __u64 timeout)
{
	c->p.a.objs[0] = fd;
	c->p.a.nb_objs = 1;
	c->p.a.all = all;
	c->p.a.timeout = timeout;
	c->alert = 0;
}

#define falls_asleep(c, op) do {					\
	begin((c), (op));						\
	ASSERT_TRUE(actor_asleep(&(c)->p.a)) {				\
		TH_LOG("does not sleep (returned %d)", (c)->p.a.ret);	\
	}								\
} while (0)

/* Sleep in a wait for this. */
#define queues(c, fd) do {						\
	arrange((c), (fd), false, 0);					\
	falls_asleep((c), op_wait);					\
} while (0)

/* Take what is there: 0, or -ETIMEDOUT. */
static int take(struct consumer *c, int fd)
{
	arrange(c, fd, false, NT_EXPIRED);
	return call(c, op_wait);
}

#define has(c, prio)	EXPECT_EQ((prio), prio_of(c))

/* After its call, as it saw it itself, and still. */
#define came_with(c, prio) do {						\
	EXPECT_EQ((prio), (c)->seen);					\
	has((c), (prio));						\
} while (0)

#define takes_with(c, fd, prio) do {					\
	ASSERT_EQ(0, take((c), (fd)));					\
	came_with((c), (prio));						\
} while (0)

/* Awake, but has not yet run. */
#define is_held(c) do {							\
	EXPECT_EQ('R', nt_task_state(getpid(), tid_of(c)));		\
	EXPECT_FALSE(actor_done(&(c)->p.a));				\
} while (0)

/* It has consumed an event that was set with this priority. */
#define gets_boost(c, prio) do {					\
	queues((c), self->o.event);					\
	ASSERT_EQ(0, set_pi(self->o.event, (prio)));			\
	ASSERT_EQ(0, end(c));						\
	came_with((c), FIFO(prio));					\
} while (0)

#define waits_again(c, prio) do {					\
	ASSERT_EQ(-ETIMEDOUT, take((c), self->o.never));		\
	came_with((c), (prio));						\
} while (0)

FIXTURE_SETUP(set_pi)
{
	struct objs *o = &self->o;
	unsigned int i;

	begin_pi(o->dev);
	o->event = nt_create_event(o->dev, false, false);
	ASSERT_LE(0, o->event);
	if (nt_ioctl(o->event, NTSYNC_IOC_EVENT_SET_PI, NULL) == -ENOTTY)
		SKIP(return, "no EVENT_SET_PI in this kernel");
	o->manual = nt_create_event(o->dev, true, false);
	ASSERT_LE(0, o->manual);
	o->other = nt_create_event(o->dev, false, false);
	ASSERT_LE(0, o->other);
	o->never = nt_create_event(o->dev, true, false);
	ASSERT_LE(0, o->never);
	o->always = nt_create_event(o->dev, true, true);
	ASSERT_LE(0, o->always);
	o->empty = nt_create_sem(o->dev, 0, 1000);
	ASSERT_LE(0, o->empty);
	o->plenty = nt_create_sem(o->dev, 100000, 100000);
	ASSERT_LE(0, o->plenty);
	o->mutex = nt_create_mutex(o->dev, 0, 0);
	ASSERT_LE(0, o->mutex);
	o->ch = ch_create(o->dev, 1);
	for (i = 0; i < NB_CONSUMERS; i++)
		ASSERT_EQ(0, start(&self->c[i], o, i + 1));
}

/* Whatever they have and wherever they sleep: they end with the process. */
FIXTURE_TEARDOWN(set_pi)
{
	close(self->o.event);
	close(self->o.manual);
	close(self->o.dev);
}

/* The channel is not there in a kernel without channels. */
#define need_channel() do {						\
	if (self->o.ch == -ENOTTY)					\
		SKIP(return, "no channels in this kernel");		\
	ASSERT_LE(0, self->o.ch);					\
	need_ioctl(self->o.dev, NTSYNC_IOC_CHANNEL_TRY_RECV2);		\
} while (0)

/*
 * Input.
 */

TEST_F_TIMEOUT(set_pi, legal, NT_TEST_TIMEOUT)
{
	static const __u32 policies[] = { SCHED_FIFO, SCHED_RR };
	static const int prios[] = { 1, 2, 50, 98, 99 };
	unsigned int i, j, k;
	__u32 prev;

	for (i = 0; i < ARRAY_LEN(policies); i++) {
		for (j = 0; j < ARRAY_LEN(prios); j++) {
			for (k = 0; k < 2; k++) {
				int event = k ? self->o.manual : self->o.event;

				EXPECT_EQ(0, set_pi_args(event, 0, policies[i], prios[j], 0));
				check_event(event, k, 1);
				/* it is signaled already, and then again */
				EXPECT_EQ(0, set_pi_args(event, 0, policies[i], prios[j], 0));
				check_event(event, k, 1);
				takes_with(&self->c[0], event, FIFO(prios[j]));
				EXPECT_EQ(SCHED_OTHER, sched_getscheduler(tid_of(&self->c[0])));
				check_event(event, k, k);
				EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, &prev));
				EXPECT_EQ(k, prev);
			}
		}
	}
}

struct bad {
	__u32 flags, policy, prio, pad;
};

TEST_F_TIMEOUT(set_pi, illegal, NT_TEST_TIMEOUT)
{
	static const struct bad bad[] = {
		{ 1, SCHED_FIFO, 50, 0 }, { 2, SCHED_FIFO, 50, 0 },
		{ 1U << 31, SCHED_FIFO, 50, 0 }, { ~0U, SCHED_RR, 50, 0 },
		{ 0, SCHED_FIFO, 50, 1 }, { 0, SCHED_RR, 50, 1U << 31 },
		{ 0, SCHED_FIFO, 50, ~0U },
		{ 0, SCHED_OTHER, 50, 0 }, { 0, SCHED_OTHER, 0, 0 },
		{ 0, SCHED_BATCH, 50, 0 }, { 0, SCHED_BATCH, 0, 0 }, { 0, 4, 50, 0 },
		{ 0, SCHED_IDLE, 50, 0 }, { 0, SCHED_DEADLINE, 50, 0 },
		{ 0, SCHED_DEADLINE, 0, 0 }, { 0, 7, 50, 0 }, { 0, ~0U, 50, 0 },
		{ 0, SCHED_FIFO | 0x40000000, 50, 0 },	/* SCHED_RESET_ON_FORK */
		{ 0, SCHED_FIFO, 0, 0 }, { 0, SCHED_RR, 0, 0 },
		{ 0, SCHED_FIFO, 100, 0 }, { 0, SCHED_RR, 100, 0 },
		{ 0, SCHED_FIFO, 256 + 50, 0 }, { 0, SCHED_FIFO, 65536 + 50, 0 },
		{ 0, SCHED_FIFO, 1U << 31, 0 }, { 0, SCHED_FIFO, ~0U, 0 },
		{ 1, SCHED_OTHER, 100, 1 },
	};
	struct consumer *c = &self->c[0];
	unsigned int i, k;

	for (k = 0; k < 2; k++) {
		int event = k ? self->o.manual : self->o.event;

		for (i = 0; i < ARRAY_LEN(bad); i++) {
			const struct bad *b = &bad[i];

			/* it does not set the event */
			EXPECT_EQ(-EINVAL, set_pi_args(event, b->flags, b->policy, b->prio,
						       b->pad)) {
				TH_LOG("case %u", i);
			}
			check_event(event, k, 0);
			/* nor leave anything to a later set */
			EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_SET, NULL));
			takes_with(c, event, NORMAL);
			EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, NULL));

			/* nor change what an earlier one has left */
			EXPECT_EQ(0, set_pi(event, 30));
			EXPECT_EQ(-EINVAL, set_pi_args(event, b->flags, b->policy, b->prio,
						       b->pad));
			check_event(event, k, 1);
			takes_with(c, event, FIFO(30));
			EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, NULL));
		}
	}

	/* and wakes nobody */
	queues(c, self->o.event);
	for (i = 0; i < ARRAY_LEN(bad); i++)
		EXPECT_EQ(-EINVAL, set_pi_args(self->o.event, bad[i].flags, bad[i].policy,
					       bad[i].prio, bad[i].pad));
	EXPECT_TRUE(actor_asleep(&c->p.a));
	has(c, NORMAL);
	EXPECT_EQ(0, set_pi(self->o.event, 50));
	EXPECT_EQ(0, end(c));
	came_with(c, FIFO(50));
}

TEST_F_TIMEOUT(set_pi, pointers, NT_TEST_TIMEOUT)
{
	struct ntsync_event_set_pi_args args = { .policy = SCHED_RR, .prio = 50 }, copy = args;
	size_t size = sysconf(_SC_PAGESIZE);
	struct consumer *c = &self->c[0];
	unsigned int i, k;
	void *bad[4];
	char *p;

	p = mmap(NULL, 3 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(p != MAP_FAILED);
	memset(p, 0, 3 * size);
	/* legal ones at the end of what can only be read, and across that */
	memcpy(p + 2 * size - sizeof(args), &args, sizeof(args));
	memcpy(p + size - 8, &args, sizeof(args));
	ASSERT_EQ(0, mprotect(p + size, size, PROT_READ));
	ASSERT_EQ(0, mprotect(p + 2 * size, size, PROT_NONE));
	bad[0] = NULL;
	bad[1] = p + 2 * size;
	bad[2] = p + 2 * size - 8;
	bad[3] = (void *)-16L;

	for (i = 0; i < ARRAY_LEN(bad); i++) {
		for (k = 0; k < 2; k++) {
			if (k) {
				EXPECT_EQ(0, set_pi(self->o.event, 30));
			}
			EXPECT_EQ(-EFAULT, nt_ioctl(self->o.event, NTSYNC_IOC_EVENT_SET_PI,
						    bad[i])) {
				TH_LOG("pointer %u", i);
			}
			check_event(self->o.event, 0, k);
			EXPECT_EQ(0, nt_event(self->o.event, NTSYNC_IOC_EVENT_SET, NULL));
			takes_with(c, self->o.event, k ? FIFO(30) : NORMAL);
		}
	}

	/* It is only read, and the previous state is not reported. */
	EXPECT_EQ(0, nt_ioctl(self->o.event, NTSYNC_IOC_EVENT_SET_PI, &args));
	EXPECT_EQ(0, memcmp(&args, &copy, sizeof(args)));
	EXPECT_EQ(0, nt_ioctl(self->o.event, NTSYNC_IOC_EVENT_SET_PI, &args));
	EXPECT_EQ(0, memcmp(&args, &copy, sizeof(args)));
	takes_with(c, self->o.event, FIFO(50));
	EXPECT_EQ(0, nt_ioctl(self->o.event, NTSYNC_IOC_EVENT_SET_PI,
			      p + 2 * size - sizeof(args)));
	takes_with(c, self->o.event, FIFO(50));
	EXPECT_EQ(0, nt_ioctl(self->o.event, NTSYNC_IOC_EVENT_SET_PI, p + size - 8));
	takes_with(c, self->o.event, FIFO(50));
	EXPECT_EQ(0, memcmp(p + size - 8, &copy, sizeof(copy)));
	munmap(p, 3 * size);
}

TEST_F_TIMEOUT(set_pi, wrong_objects, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0];
	int copy;

	EXPECT_EQ(-EINVAL, set_pi(self->o.empty, 50));
	EXPECT_EQ(-EINVAL, set_pi(self->o.plenty, 50));
	EXPECT_EQ(-EINVAL, set_pi(self->o.mutex, 50));
	check_sem(self->o.empty, 0, 1000);
	check_sem(self->o.plenty, 100000, 100000);
	check_mutex(self->o.mutex, 0, 0);
	takes_with(c, self->o.plenty, NORMAL);
	takes_with(c, self->o.mutex, NORMAL);
	EXPECT_EQ(0, nt_unlock_mutex(self->o.mutex, 1, NULL));
	EXPECT_GT(0, set_pi(self->o.dev, 50));

	copy = dup(self->o.event);
	ASSERT_LE(0, copy);
	close(copy);
	EXPECT_EQ(-EBADF, set_pi(copy, 50));
	check_event(self->o.event, 0, 0);
}

TEST_F_TIMEOUT(set_pi, wrong_channels, NT_TEST_TIMEOUT)
{
	int ch;

	need_channel();
	need_ioctl(self->o.dev, NTSYNC_IOC_CHANNEL_SEND_ONLY);
	EXPECT_EQ(-ENOTTY, set_pi(self->o.ch, 50));
	ch = ch_send_only(self->o.ch);
	ASSERT_LE(0, ch);
	EXPECT_EQ(-EBADF, set_pi(ch, 50));
	close(ch);
}

/*
 * Who gets it, and when.
 */

/* It is in force when the call returns, which did not sleep. */
TEST_F_TIMEOUT(set_pi, fast_path, NT_TEST_TIMEOUT)
{
	static struct consumer c[NB_ROUNDS];
	unsigned int i;

	for (i = 0; i < NB_ROUNDS; i++) {
		int prio = 1 + i % 99;

		ASSERT_EQ(0, start(&c[i], &self->o, 100 + i));
		EXPECT_EQ(0, set_pi(self->o.event, prio));
		check_event(self->o.event, 0, 1);
		takes_with(&c[i], self->o.event, FIFO(prio));
		check_event(self->o.event, 0, 0);
	}
	/* all of them keep it, each its own */
	for (i = 0; i < NB_ROUNDS; i++) {
		int prio = 1 + i % 99;

		has(&c[i], FIFO(prio));
		EXPECT_EQ(SCHED_OTHER, sched_getscheduler(tid_of(&c[i])));
		waits_again(&c[i], NORMAL);
		actor_stop(&c[i].p.a);
	}
}

/* The same task again and again: what it had does not count. */
TEST_F_TIMEOUT(set_pi, again_and_again, NT_TEST_TIMEOUT)
{
	unsigned int i;

	for (i = 0; i < NB_ROUNDS; i++) {
		int prio = 1 + i * 37 % 99;

		EXPECT_EQ(0, set_pi(self->o.event, prio));
		takes_with(&self->c[0], self->o.event, FIFO(prio));
		prio = 1 + i * 53 % 90;
		gets_boost(&self->c[0], prio);
	}
}

TEST_F_TIMEOUT(set_pi, boosted_before_it_runs, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0];
	int policy;

	queues(c, self->o.event);
	has(c, NORMAL);
	EXPECT_EQ(0, set_pi(self->o.event, 50));
	has(c, FIFO(50));
	is_held(c);
	check_event(self->o.event, 0, 0);
	policy = sched_getscheduler(tid_of(c));
	EXPECT_EQ(SCHED_OTHER, policy);
	EXPECT_FALSE(actor_done(&c->p.a));
	EXPECT_EQ(0, end(c));
	came_with(c, FIFO(50));
	waits_again(c, NORMAL);
}

/* What is done to the event before the consumer runs comes too late. */
TEST_F_TIMEOUT(set_pi, consumed_before_it_runs, NT_TEST_TIMEOUT)
{
	static const unsigned long requests[] = {
		NTSYNC_IOC_EVENT_RESET, NTSYNC_IOC_EVENT_PULSE, NTSYNC_IOC_EVENT_SET,
	};
	struct consumer *c = &self->c[0];
	unsigned int i, k;

	for (k = 0; k < 2; k++) {
		int event = k ? self->o.manual : self->o.event;

		for (i = 0; i < ARRAY_LEN(requests); i++) {
			queues(c, event);
			EXPECT_EQ(0, set_pi(event, 50));
			EXPECT_EQ(0, nt_event(event, requests[i], NULL));
			has(c, FIFO(50));
			is_held(c);
			EXPECT_EQ(0, end(c));
			came_with(c, FIFO(50));
			EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, NULL));
		}
	}

	/* a second set is for the next one */
	queues(c, self->o.event);
	EXPECT_EQ(0, set_pi(self->o.event, 50));
	EXPECT_EQ(0, set_pi(self->o.event, 60));
	has(c, FIFO(50));
	is_held(c);
	EXPECT_EQ(0, end(c));
	came_with(c, FIFO(50));
	takes_with(&self->c[1], self->o.event, FIFO(60));
	has(c, FIFO(50));
}

struct kind {
	const char *name;
	bool all;
	bool alert;
	bool several;
};

static const struct kind kinds[] = {
	{ .name = "any" },
	{ .name = "any of several", .several = true },
	{ .name = "any, alert", .alert = true },
	{ .name = "any of several, alert", .several = true, .alert = true },
	{ .name = "all", .all = true },
	{ .name = "all of several", .all = true, .several = true },
	{ .name = "all, alert", .all = true, .alert = true },
};

/* A wait that is over when the event is signaled. */
static void arrange_kind(struct consumer *c, const struct kind *kind, int event)
{
	int *obj = c->p.a.objs;

	arrange(c, kind->alert ? c->o->never : event, kind->all, 0);
	if (kind->alert)
		c->alert = event;
	if (!kind->several)
		return;
	obj[1] = obj[0];
	obj[0] = kind->all ? c->o->always : c->o->never;
	obj[2] = kind->all ? c->o->plenty : c->o->empty;
	c->p.a.nb_objs = 3;
}

#define check_index(c, kind) do {					\
	if ((kind)->alert) {						\
		EXPECT_EQ((c)->p.a.nb_objs, (c)->index);		\
	} else if (!(kind)->all) {					\
		EXPECT_EQ((kind)->several ? 1U : 0U, (c)->index);	\
	}								\
} while (0)

TEST_F_TIMEOUT(set_pi, all_waits, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0];
	unsigned int i, k;

	for (i = 0; i < ARRAY_LEN(kinds); i++) {
		for (k = 0; k < 2; k++) {
			int event = k ? self->o.manual : self->o.event;

			/* queued */
			arrange_kind(c, &kinds[i], event);
			falls_asleep(c, op_wait);
			has(c, NORMAL);
			EXPECT_EQ(0, set_pi(event, 50));
			EXPECT_EQ(FIFO(50), prio_of(c)) {
				TH_LOG("%s, manual %u", kinds[i].name, k);
			}
			is_held(c);
			ASSERT_EQ(0, end(c));
			came_with(c, FIFO(50));
			check_index(c, &kinds[i]);
			check_event(event, k, k);
			EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, NULL));

			/* not queued */
			EXPECT_EQ(0, set_pi(event, 40));
			arrange_kind(c, &kinds[i], event);
			ASSERT_EQ(0, call(c, op_wait));
			EXPECT_EQ(FIFO(40), c->seen) {
				TH_LOG("%s, manual %u", kinds[i].name, k);
			}
			has(c, FIFO(40));
			check_index(c, &kinds[i]);
			check_event(event, k, k);
			EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, NULL));

			/* not queued, expired */
			EXPECT_EQ(0, set_pi(event, 60));
			arrange_kind(c, &kinds[i], event);
			c->p.a.timeout = NT_EXPIRED;
			ASSERT_EQ(0, call(c, op_wait));
			came_with(c, FIFO(60));
			EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, NULL));
		}
	}
}

/* Only what is consumed counts; the rest stays where it is. */
TEST_F_TIMEOUT(set_pi, any_of_two, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0];
	unsigned int i;

	for (i = 0; i < 2; i++) {
		int low = i ? 60 : 30, high = 90 - low;

		EXPECT_EQ(0, set_pi(self->o.event, low));
		EXPECT_EQ(0, set_pi(self->o.other, high));
		arrange(c, self->o.event, false, 0);
		c->p.a.objs[1] = self->o.other;
		c->p.a.nb_objs = 2;
		ASSERT_EQ(0, call(c, op_wait));
		came_with(c, FIFO(low));
		EXPECT_EQ(0U, c->index);
		check_event(self->o.event, 0, 0);
		check_event(self->o.other, 0, 1);
		ASSERT_EQ(0, call(c, op_wait));
		came_with(c, FIFO(high));
		EXPECT_EQ(1U, c->index);

		/* an object comes before the alert */
		EXPECT_EQ(0, set_pi(self->o.event, low));
		EXPECT_EQ(0, set_pi(self->o.other, high));
		arrange(c, self->o.event, false, 0);
		c->alert = self->o.other;
		ASSERT_EQ(0, call(c, op_wait));
		came_with(c, FIFO(low));
		ASSERT_EQ(0, call(c, op_wait));
		came_with(c, FIFO(high));
		EXPECT_EQ(1U, c->index);
	}

	/* a semaphore has none */
	EXPECT_EQ(0, set_pi(self->o.event, 50));
	arrange(c, self->o.plenty, false, 0);
	c->p.a.objs[1] = self->o.event;
	c->p.a.nb_objs = 2;
	ASSERT_EQ(0, call(c, op_wait));
	came_with(c, NORMAL);
	EXPECT_EQ(0U, c->index);
	takes_with(&self->c[1], self->o.event, FIFO(50));
}

#define NB_STAGED	4

/* The highest of all that are consumed. */
TEST_F_TIMEOUT(set_pi, all_of_several, NT_TEST_TIMEOUT)
{
	static const int prios[][NB_STAGED] = {
		{ 10, 20, 30, 40 }, { 40, 30, 20, 10 }, { 10, 40, 0, 20 }, { 0, 0, 40, 0 },
		{ 40, 0, 0, 0 }, { 0, 0, 0, 40 }, { 40, 40, 40, 40 }, { 0, 40, 40, 39 },
	};
	struct consumer *c = &self->c[0];
	unsigned int i, k, last;
	int events[NB_STAGED];

	for (k = 0; k < NB_STAGED; k++) {
		events[k] = nt_create_event(self->o.dev, k & 1, false);
		ASSERT_LE(0, events[k]);
	}
	for (i = 0; i < ARRAY_LEN(prios); i++) {
		/* last: the one that ends the wait; NB_STAGED: it need not sleep */
		for (last = 0; last <= NB_STAGED; last++) {
			arrange(c, events[0], true, 0);
			memcpy(c->p.a.objs, events, sizeof(events));
			c->p.a.nb_objs = NB_STAGED;
			for (k = 0; k < NB_STAGED; k++) {
				if (k == last)
					continue;
				EXPECT_EQ(0, prios[i][k] ? set_pi(events[k], prios[i][k]) :
					  nt_event(events[k], NTSYNC_IOC_EVENT_SET, NULL));
			}
			if (last < NB_STAGED) {
				falls_asleep(c, op_wait);
				has(c, NORMAL);
				EXPECT_EQ(0, prios[i][last] ?
					  set_pi(events[last], prios[i][last]) :
					  nt_event(events[last], NTSYNC_IOC_EVENT_SET, NULL));
				EXPECT_EQ(FIFO(40), prio_of(c)) {
					TH_LOG("case %u, last %u", i, last);
				}
				is_held(c);
			} else {
				begin(c, op_wait);
			}
			ASSERT_EQ(0, end(c));
			came_with(c, FIFO(40));
			for (k = 0; k < NB_STAGED; k++) {
				EXPECT_EQ(0, nt_event(events[k], NTSYNC_IOC_EVENT_RESET, NULL));
				/* nothing is left of it */
				EXPECT_EQ(0, nt_event(events[k], NTSYNC_IOC_EVENT_SET, NULL));
				takes_with(&self->c[1], events[k], NORMAL);
				EXPECT_EQ(0, nt_event(events[k], NTSYNC_IOC_EVENT_RESET, NULL));
			}
		}
	}
	for (k = 0; k < NB_STAGED; k++)
		close(events[k]);
}

/* A wait for all that is not over has consumed nothing. */
TEST_F_TIMEOUT(set_pi, all_that_do_not_come, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0], *d = &self->c[1];

	EXPECT_EQ(0, set_pi(self->o.event, 50));
	arrange(c, self->o.event, true, NT_EXPIRED);
	c->p.a.objs[1] = self->o.never;
	c->p.a.nb_objs = 2;
	EXPECT_EQ(-ETIMEDOUT, call(c, op_wait));
	came_with(c, NORMAL);
	check_event(self->o.event, 0, 1);
	takes_with(d, self->o.event, FIFO(50));

	/* nor while it sleeps */
	c->p.a.timeout = 0;
	falls_asleep(c, op_wait);
	EXPECT_EQ(0, set_pi(self->o.event, 60));
	EXPECT_TRUE(actor_asleep(&c->p.a));
	has(c, NORMAL);
	takes_with(d, self->o.event, FIFO(60));
	has(c, NORMAL);

	/* nor one that is woken otherwise */
	EXPECT_EQ(0, set_pi(self->o.event, 40));
	EXPECT_EQ(0, kick(c));
	EXPECT_EQ(-EINTR, end(c));
	came_with(c, NORMAL);
	takes_with(d, self->o.event, FIFO(40));
}

/* Of several consumers of a manual event only the first one has it. */
TEST_F_TIMEOUT(set_pi, manual, NT_TEST_TIMEOUT)
{
	struct consumer *normal = &self->c[0], *low = &self->c[1], *high = &self->c[2];
	struct consumer *later = &self->c[3];
	unsigned int i;

	ASSERT_EQ(0, set_own(low, 10));
	ASSERT_EQ(0, set_own(high, 30));
	queues(normal, self->o.manual);
	queues(low, self->o.manual);
	queues(high, self->o.manual);
	EXPECT_EQ(0, set_pi(self->o.manual, 50));
	has(high, FIFO(50));
	has(low, FIFO(10));
	has(normal, NORMAL);
	is_held(high);
	is_held(low);
	is_held(normal);
	EXPECT_EQ(0, end(high));
	EXPECT_EQ(0, end(low));
	EXPECT_EQ(0, end(normal));
	came_with(high, FIFO(50));
	came_with(low, FIFO(10));
	came_with(normal, NORMAL);

	/* nor those who come later, nor when it is set once more */
	takes_with(later, self->o.manual, NORMAL);
	EXPECT_EQ(0, nt_event(self->o.manual, NTSYNC_IOC_EVENT_SET, NULL));
	takes_with(later, self->o.manual, NORMAL);
	/* but there can be a new one */
	EXPECT_EQ(0, set_pi(self->o.manual, 40));
	takes_with(later, self->o.manual, FIFO(40));
	takes_with(normal, self->o.manual, NORMAL);
	waits_again(high, FIFO(30));

	/* Among equals it is the one that came first. */
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, nt_event(self->o.manual, NTSYNC_IOC_EVENT_RESET, NULL));
		ASSERT_EQ(0, set_own(low, i ? 20 : 0));
		ASSERT_EQ(0, set_own(high, i ? 20 : 0));
		queues(high, self->o.manual);
		queues(low, self->o.manual);
		EXPECT_EQ(0, set_pi(self->o.manual, 50));
		has(high, FIFO(50));
		has(low, i ? FIFO(20) : NORMAL);
		EXPECT_EQ(0, end(high));
		EXPECT_EQ(0, end(low));
		came_with(high, FIFO(50));
		came_with(low, i ? FIFO(20) : NORMAL);
	}

	/* Who does not consume it does not get it, whatever its priority. */
	EXPECT_EQ(0, nt_event(self->o.manual, NTSYNC_IOC_EVENT_RESET, NULL));
	ASSERT_EQ(0, set_own(low, 10));
	ASSERT_EQ(0, set_own(high, 30));
	arrange(high, self->o.manual, true, 0);
	high->p.a.objs[1] = self->o.never;
	high->p.a.nb_objs = 2;
	falls_asleep(high, op_wait);
	queues(low, self->o.manual);
	EXPECT_EQ(0, set_pi(self->o.manual, 50));
	has(low, FIFO(50));
	has(high, FIFO(30));
	EXPECT_EQ(0, end(low));
	came_with(low, FIFO(50));
	EXPECT_TRUE(actor_asleep(&high->p.a));
	EXPECT_EQ(0, kick(high));
	EXPECT_EQ(-EINTR, end(high));
	came_with(high, FIFO(30));
}

/* One set wakes one, the most urgent, and gives nothing to the others. */
TEST_F_TIMEOUT(set_pi, auto_reset, NT_TEST_TIMEOUT)
{
	struct consumer *normal = &self->c[0], *low = &self->c[1], *high = &self->c[2];

	ASSERT_EQ(0, set_own(low, 10));
	ASSERT_EQ(0, set_own(high, 30));
	queues(normal, self->o.event);
	queues(low, self->o.event);
	queues(high, self->o.event);
	EXPECT_EQ(0, set_pi(self->o.event, 50));
	has(high, FIFO(50));
	has(low, FIFO(10));
	has(normal, NORMAL);
	EXPECT_EQ(0, end(high));
	came_with(high, FIFO(50));
	EXPECT_TRUE(actor_asleep(&low->p.a));
	EXPECT_TRUE(actor_asleep(&normal->p.a));

	/* a plain one gives nothing to the next */
	EXPECT_EQ(0, nt_event(self->o.event, NTSYNC_IOC_EVENT_SET, NULL));
	has(low, FIFO(10));
	EXPECT_EQ(0, end(low));
	came_with(low, FIFO(10));
	EXPECT_EQ(0, set_pi(self->o.event, 20));
	has(normal, FIFO(20));
	EXPECT_EQ(0, end(normal));
	came_with(normal, FIFO(20));
	has(high, FIFO(50));
	check_event(self->o.event, 0, 0);
}

static int op_set_pi(struct consumer *c)
{
	return set_pi(c->o->event, c->arg);
}

static int op_set_pi_and_wait(struct consumer *c)
{
	int ret = set_pi(c->o->event, c->arg);

	return ret ? ret : op_wait(c);
}

/* Any thread can set it, and consume what it set. */
TEST_F_TIMEOUT(set_pi, set_by_consumer, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0], *d = &self->c[1];

	arrange(c, self->o.event, false, NT_EXPIRED);
	c->arg = 50;
	ASSERT_EQ(0, call(c, op_set_pi_and_wait));
	came_with(c, FIFO(50));

	/* the setter has nothing of it */
	waits_again(c, NORMAL);
	queues(d, self->o.event);
	ASSERT_EQ(0, call(c, op_set_pi));
	came_with(c, NORMAL);
	EXPECT_EQ(0, end(d));
	came_with(d, FIFO(50));
}

/*
 * What is left in an event.
 */

TEST_F_TIMEOUT(set_pi, higher_stands, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0];
	unsigned int k;

	for (k = 0; k < 2; k++) {
		int event = k ? self->o.manual : self->o.event;

		EXPECT_EQ(0, set_pi(event, 30));
		EXPECT_EQ(0, set_pi(event, 60));
		takes_with(c, event, FIFO(60));
		EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, NULL));

		EXPECT_EQ(0, set_pi(event, 60));
		EXPECT_EQ(0, set_pi(event, 30));
		takes_with(c, event, FIFO(60));
		EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, NULL));

		/* whatever the policy */
		EXPECT_EQ(0, set_pi_args(event, 0, SCHED_RR, 60, 0));
		EXPECT_EQ(0, set_pi_args(event, 0, SCHED_FIFO, 59, 0));
		takes_with(c, event, FIFO(60));
		EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, NULL));

		EXPECT_EQ(0, set_pi(event, 1));
		EXPECT_EQ(0, set_pi(event, 99));
		EXPECT_EQ(0, set_pi(event, 50));
		takes_with(c, event, FIFO(99));
		EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, NULL));

		/* before a consumption, not after it */
		EXPECT_EQ(0, set_pi(event, 60));
		takes_with(c, event, FIFO(60));
		EXPECT_EQ(0, set_pi(event, 30));
		takes_with(c, event, FIFO(30));
		EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, NULL));
	}
}

TEST_F_TIMEOUT(set_pi, plain_set, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0];
	unsigned int k;
	__u32 prev;

	for (k = 0; k < 2; k++) {
		int event = k ? self->o.manual : self->o.event;

		/* after */
		EXPECT_EQ(0, set_pi(event, 50));
		EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_SET, &prev));
		EXPECT_EQ(1U, prev);
		takes_with(c, event, FIFO(50));
		EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, NULL));

		/* between */
		EXPECT_EQ(0, set_pi(event, 30));
		EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_SET, NULL));
		EXPECT_EQ(0, set_pi(event, 20));
		takes_with(c, event, FIFO(30));
		EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, NULL));

		/* before */
		EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_SET, NULL));
		EXPECT_EQ(0, set_pi(event, 40));
		takes_with(c, event, FIFO(40));

		/* It was consumed: nothing is left for the next. */
		EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_SET, NULL));
		takes_with(&self->c[1], event, NORMAL);
		has(c, FIFO(40));
		EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, NULL));

		/* To read it changes nothing. */
		EXPECT_EQ(0, set_pi(event, 45));
		check_event(event, k, 1);
		takes_with(c, event, FIFO(45));
		EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, NULL));
	}
}

TEST_F_TIMEOUT(set_pi, discarded, NT_TEST_TIMEOUT)
{
	static const unsigned long requests[] = {
		NTSYNC_IOC_EVENT_RESET, NTSYNC_IOC_EVENT_PULSE,
	};
	struct consumer *c = &self->c[0], *d = &self->c[1];
	unsigned int i, k, waiting;
	__u32 prev;

	/* waiting: for it and for something else, which is no consumption */
	for (waiting = 0; waiting < 2; waiting++) {
		for (k = 0; k < 2; k++) {
			int event = k ? self->o.manual : self->o.event;

			if (waiting) {
				arrange(d, event, true, 0);
				d->p.a.objs[1] = self->o.never;
				d->p.a.nb_objs = 2;
				falls_asleep(d, op_wait);
			}
			for (i = 0; i < ARRAY_LEN(requests); i++) {
				EXPECT_EQ(0, set_pi(event, 50));
				EXPECT_EQ(0, nt_event(event, requests[i], &prev));
				EXPECT_EQ(1U, prev);
				check_event(event, k, 0);
				EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_SET, NULL));
				ASSERT_EQ(0, take(c, event));
				EXPECT_EQ(NORMAL, c->seen) {
					TH_LOG("manual %u, request %u, waiting %u", k, i,
					       waiting);
				}
				EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, NULL));

				/* a lower one counts then */
				EXPECT_EQ(0, set_pi(event, 50));
				EXPECT_EQ(0, nt_event(event, requests[i], NULL));
				EXPECT_EQ(0, set_pi(event, 20));
				takes_with(c, event, FIFO(20));
				EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, NULL));

				/* nor is it left to one that is queued later */
				EXPECT_EQ(0, set_pi(event, 50));
				EXPECT_EQ(0, nt_event(event, requests[i], NULL));
				queues(c, event);
				EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_SET, NULL));
				EXPECT_EQ(0, end(c));
				came_with(c, NORMAL);
				EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, NULL));
			}
			if (waiting) {
				EXPECT_TRUE(actor_asleep(&d->p.a));
				has(d, NORMAL);
				EXPECT_EQ(0, kick(d));
				EXPECT_EQ(-EINTR, end(d));
				came_with(d, NORMAL);
			}
		}
	}
}

TEST_F_TIMEOUT(set_pi, closed, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0];
	int event, copy;
	unsigned int i;

	for (i = 0; i < NB_ROUNDS; i++) {
		event = nt_create_event(self->o.dev, i & 1, i & 2);
		ASSERT_LE(0, event);
		EXPECT_EQ(0, set_pi(event, 50));
		close(event);

		/* nothing of it is in a new one */
		event = nt_create_event(self->o.dev, i & 1, true);
		ASSERT_LE(0, event);
		takes_with(c, event, NORMAL);
		close(event);
	}

	/* Who has consumed it is not concerned. */
	event = nt_create_event(self->o.dev, false, false);
	ASSERT_LE(0, event);
	EXPECT_EQ(0, set_pi(event, 50));
	takes_with(c, event, FIFO(50));
	close(event);
	has(c, FIFO(50));
	waits_again(c, NORMAL);

	/* nor who is in a wait */
	event = nt_create_event(self->o.dev, false, false);
	ASSERT_LE(0, event);
	copy = dup(event);
	ASSERT_LE(0, copy);
	queues(c, event);
	close(event);
	EXPECT_EQ(0, set_pi(copy, 50));
	close(copy);
	has(c, FIFO(50));
	is_held(c);
	EXPECT_EQ(0, end(c));
	came_with(c, FIFO(50));
}

/*
 * How long it lasts.
 */

static int op_any_in_vain(struct consumer *c)
{
	return nt_try_any(c->o->dev, 1, &c->o->never, 1, 0, &c->index);
}

static int op_all_in_vain(struct consumer *c)
{
	int objs[] = { c->o->always, c->o->never };

	return nt_try_all(c->o->dev, 2, objs, 1, 0, &c->index);
}

static int op_any_sem(struct consumer *c)
{
	return nt_try_any(c->o->dev, 1, &c->o->plenty, 1, 0, &c->index);
}

static int op_any_event(struct consumer *c)
{
	int objs[] = { c->o->never, c->o->always };

	return nt_try_any(c->o->dev, 2, objs, 1, 0, &c->index);
}

static int op_any_alert(struct consumer *c)
{
	return nt_try_any(c->o->dev, 1, &c->o->never, 1, c->o->always, &c->index);
}

static int op_all(struct consumer *c)
{
	int objs[] = { c->o->always, c->o->plenty };

	return nt_try_all(c->o->dev, 2, objs, 1, 0, &c->index);
}

static int op_all_alert(struct consumer *c)
{
	return nt_try_all(c->o->dev, 1, &c->o->never, 1, c->o->always, &c->index);
}

static int op_recv(struct consumer *c)
{
	struct ntsync_channel_recv_args args;
	int ret = ch_recv(c->o->ch, &args);

	c->entry = args.entry_id;
	return ret;
}

static int op_recv2(struct consumer *c)
{
	struct ntsync_channel_recv2_args args;
	int ret = ch_recv2(c->o->ch, &args);

	c->entry = args.entry_id;
	return ret;
}

static int op_try_recv2(struct consumer *c)
{
	struct ntsync_channel_recv2_args args;
	int ret = ch_try_recv2(c->o->ch, &args);

	c->entry = args.entry_id;
	return ret;
}

static int op_send(struct consumer *c)
{
	return ch_send(c->o->ch, 1, 2);
}

static int op_reply(struct consumer *c)
{
	return ch_reply(c->o->ch, c->entry);
}

struct op {
	const char *name;
	int (*fn)(struct consumer *c);
	int ret;
};

static const struct op waits[] = {
	{ "WAIT_ANY times out", op_any_in_vain, -ETIMEDOUT },
	{ "WAIT_ALL times out", op_all_in_vain, -ETIMEDOUT },
	{ "WAIT_ANY of a semaphore", op_any_sem, 0 },
	{ "WAIT_ANY of an event", op_any_event, 0 },
	{ "WAIT_ANY is alerted", op_any_alert, 0 },
	{ "WAIT_ALL", op_all, 0 },
	{ "WAIT_ALL is alerted", op_all_alert, 0 },
};

/* All these return at once. */
TEST_F_TIMEOUT(set_pi, ended_by_wait, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0];
	unsigned int i;

	for (i = 0; i < ARRAY_LEN(waits); i++) {
		gets_boost(c, 50);
		ASSERT_EQ(waits[i].ret, call(c, waits[i].fn)) {
			TH_LOG("%s", waits[i].name);
		}
		EXPECT_EQ(NORMAL, c->seen) {
			TH_LOG("%s", waits[i].name);
		}
		has(c, NORMAL);

		/* also what was taken without sleeping */
		EXPECT_EQ(0, set_pi(self->o.event, 60));
		takes_with(c, self->o.event, FIFO(60));
		ASSERT_EQ(waits[i].ret, call(c, waits[i].fn));
		came_with(c, NORMAL);
	}
}

static const struct op channel_calls[] = {
	{ "RECV", op_recv, 0 },
	{ "RECV2", op_recv2, 0 },
	{ "TRY_RECV2", op_try_recv2, 0 },
	{ "SEND_PI to a full queue", op_send, -EAGAIN },
};

/* The same, while a request of normal priority is pending. */
TEST_F_TIMEOUT(set_pi, ended_by_channel, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0], *sender = &self->c[1];
	struct ntsync_channel_recv2_args args;
	unsigned int i;

	need_channel();
	for (i = 0; i < ARRAY_LEN(channel_calls); i++) {
		gets_boost(c, 50);
		falls_asleep(sender, op_send);
		has(c, FIFO(50));
		ASSERT_EQ(channel_calls[i].ret, call(c, channel_calls[i].fn)) {
			TH_LOG("%s", channel_calls[i].name);
		}
		EXPECT_EQ(NORMAL, c->seen) {
			TH_LOG("%s", channel_calls[i].name);
		}
		has(c, NORMAL);
		if (channel_calls[i].ret) {
			ASSERT_EQ(0, ch_try_recv2(self->o.ch, &args));
			c->entry = args.entry_id;
		}
		EXPECT_EQ(0, ch_reply(self->o.ch, c->entry));
		EXPECT_EQ(0, end(sender));
	}
}

TEST_F_TIMEOUT(set_pi, ended_by_try_recv_in_vain, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0];

	need_channel();
	gets_boost(c, 50);
	ASSERT_EQ(-EAGAIN, call(c, op_try_recv2));
	came_with(c, NORMAL);
}

/* It ends before the wait: nothing of it is lent, or counts in a queue. */
TEST_F_TIMEOUT(set_pi, ended_before_it_sleeps, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0], *owner = &self->c[1], *low = &self->c[2];
	unsigned int all;

	for (all = 0; all < 2; all++) {
		ASSERT_EQ(0, take(owner, self->o.mutex));
		gets_boost(c, 50);
		arrange(c, self->o.mutex, all, 0);
		falls_asleep(c, op_wait);
		has(c, NORMAL);
		has(owner, NORMAL);
		owner->p.a.objs[0] = self->o.mutex;
		EXPECT_EQ(0, actor_do(&owner->p.a, do_unlock));
		EXPECT_EQ(0, end(c));
		came_with(c, NORMAL);
		EXPECT_EQ(0, nt_unlock_mutex(self->o.mutex, 1, NULL));

		/* its own priority still is lent */
		ASSERT_EQ(0, take(owner, self->o.mutex));
		gets_boost(c, 50);
		ASSERT_EQ(0, set_own(c, 20));
		has(c, FIFO(50));
		arrange(c, self->o.mutex, all, 0);
		falls_asleep(c, op_wait);
		has(c, FIFO(20));
		has(owner, FIFO(20));
		EXPECT_EQ(0, nt_unlock_mutex(self->o.mutex, 2, NULL));
		EXPECT_EQ(0, end(c));
		came_with(c, FIFO(20));
		EXPECT_EQ(0, nt_unlock_mutex(self->o.mutex, 1, NULL));
		ASSERT_EQ(0, set_own(c, 0));
	}

	gets_boost(c, 50);
	ASSERT_EQ(0, set_own(low, 10));
	queues(c, self->o.empty);
	queues(low, self->o.empty);
	EXPECT_EQ(0, nt_release_sem(self->o.empty, 1, NULL));
	EXPECT_EQ(0, end(low));
	EXPECT_TRUE(actor_asleep(&c->p.a));
	has(c, NORMAL);
	EXPECT_EQ(0, nt_release_sem(self->o.empty, 1, NULL));
	EXPECT_EQ(0, end(c));
	came_with(c, NORMAL);
}

TEST_F_TIMEOUT(set_pi, ended_before_it_sleeps_in_channel, NT_TEST_TIMEOUT)
{
	static const struct op recv[] = { { "RECV", op_recv, 0 }, { "RECV2", op_recv2, 0 } };
	struct consumer *c = &self->c[0], *sender = &self->c[1];
	struct ntsync_channel_recv2_args args;
	unsigned int i;

	need_channel();
	for (i = 0; i < ARRAY_LEN(recv); i++) {
		gets_boost(c, 50);
		falls_asleep(c, recv[i].fn);
		has(c, NORMAL);
		EXPECT_EQ(0, kick(c));
		EXPECT_EQ(-EINTR, end(c));
		came_with(c, NORMAL);

		gets_boost(c, 50);
		falls_asleep(c, recv[i].fn);
		has(c, NORMAL);
		falls_asleep(sender, op_send);
		EXPECT_EQ(0, end(c));
		came_with(c, NORMAL);
		EXPECT_EQ(0, ch_reply(self->o.ch, c->entry));
		EXPECT_EQ(0, end(sender));
	}

	/* A request is no better for it. */
	gets_boost(c, 50);
	falls_asleep(c, op_send);
	has(c, NORMAL);
	ASSERT_EQ(0, ch_try_recv2(self->o.ch, &args));
	EXPECT_EQ(0U, args.prio);
	has(c, NORMAL);
	EXPECT_EQ(0, ch_reply(self->o.ch, args.entry_id));
	EXPECT_EQ(0, end(c));
	came_with(c, NORMAL);
}

static int event_request(struct consumer *c, unsigned long request)
{
	return nt_event(c->o->other, request, NULL);
}

static int op_set(struct consumer *c)
{
	return event_request(c, NTSYNC_IOC_EVENT_SET);
}

static int op_reset(struct consumer *c)
{
	return event_request(c, NTSYNC_IOC_EVENT_RESET);
}

static int op_pulse(struct consumer *c)
{
	return event_request(c, NTSYNC_IOC_EVENT_PULSE);
}

/* The one that it consumed. */
static int op_set_same(struct consumer *c)
{
	return nt_event(c->o->event, NTSYNC_IOC_EVENT_SET, NULL);
}

static int op_reset_same(struct consumer *c)
{
	return nt_event(c->o->event, NTSYNC_IOC_EVENT_RESET, NULL);
}

static int op_pulse_same(struct consumer *c)
{
	return nt_event(c->o->event, NTSYNC_IOC_EVENT_PULSE, NULL);
}

static int op_set_pi_lower(struct consumer *c)
{
	return set_pi(c->o->other, 10);
}

static int op_set_pi_higher(struct consumer *c)
{
	return set_pi(c->o->other, 90);
}

static int op_set_pi_illegal(struct consumer *c)
{
	return set_pi(c->o->event, 100);
}

static int op_read_event(struct consumer *c)
{
	struct ntsync_event_args args;

	return nt_ioctl(c->o->event, NTSYNC_IOC_EVENT_READ, &args);
}

static int op_read_sem(struct consumer *c)
{
	struct ntsync_sem_args args;

	return nt_ioctl(c->o->plenty, NTSYNC_IOC_SEM_READ, &args);
}

static int op_read_mutex(struct consumer *c)
{
	struct ntsync_mutex_args args;

	return nt_ioctl(c->o->mutex, NTSYNC_IOC_MUTEX_READ, &args);
}

static int op_release(struct consumer *c)
{
	return nt_release_sem(c->o->empty, c->arg, NULL);
}

static int op_unlock(struct consumer *c)
{
	return nt_unlock_mutex(c->o->mutex, c->p.a.id, NULL);
}

static int op_unlock_not_owned(struct consumer *c)
{
	return nt_unlock_mutex(c->o->mutex, 77, NULL);
}

static int op_kill(struct consumer *c)
{
	return nt_kill_mutex(c->o->mutex, c->p.a.id);
}

static int op_set_task(struct consumer *c)
{
	return nt_set_task(c->o->mutex, tid_of(c), 0);
}

static int closed(int fd)
{
	return fd < 0 ? fd : close(fd);
}

static int op_create_event(struct consumer *c)
{
	return closed(nt_create_event(c->o->dev, false, true));
}

static int op_create_sem(struct consumer *c)
{
	return closed(nt_create_sem(c->o->dev, 1, 1));
}

static int op_create_mutex(struct consumer *c)
{
	return closed(nt_create_mutex(c->o->dev, 0, 0));
}

static int op_create_channel(struct consumer *c)
{
	return closed(ch_create(c->o->dev, 1));
}

static int op_register(struct consumer *c)
{
	return ch_register(c->o->ch, tid_of(c), 5);
}

static int op_deregister(struct consumer *c)
{
	return ch_deregister(c->o->ch, tid_of(c));
}

static int op_reply_to_nobody(struct consumer *c)
{
	return ch_reply(c->o->ch, 1ULL << 60);
}

static int op_nanosleep(struct consumer *c)
{
	struct timespec ts = { .tv_nsec = 2000000 };

	(void)c;
	return nanosleep(&ts, NULL) ? -errno : 0;
}

static int op_poll(struct consumer *c)
{
	(void)c;
	return poll(NULL, 0, 2);
}

static int op_futex(struct consumer *c)
{
	struct __kernel_old_timespec ts = { .tv_nsec = 2000000 };
	atomic_uint word = 0;

	(void)c;
	return syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &ts, NULL, 0) ? -errno : 0;
}

static int op_yield(struct consumer *c)
{
	(void)c;
	return sched_yield() ? -errno : 0;
}

/* Its mutex is taken before, where one is needed. */
static const struct op others[] = {
	{ "EVENT_SET", op_set, 0 }, { "EVENT_RESET", op_reset, 0 },
	{ "EVENT_PULSE", op_pulse, 0 }, { "EVENT_SET, same", op_set_same, 0 },
	{ "EVENT_RESET, same", op_reset_same, 0 }, { "EVENT_PULSE, same", op_pulse_same, 0 },
	{ "EVENT_SET_PI, lower", op_set_pi_lower, 0 },
	{ "EVENT_SET_PI, higher", op_set_pi_higher, 0 },
	{ "EVENT_SET_PI, illegal", op_set_pi_illegal, -EINVAL },
	{ "EVENT_READ", op_read_event, 0 }, { "SEM_READ", op_read_sem, 0 },
	{ "MUTEX_READ", op_read_mutex, 0 }, { "SEM_RELEASE", op_release, 0 },
	{ "MUTEX_UNLOCK", op_unlock, 0 }, { "MUTEX_UNLOCK, refused", op_unlock_not_owned, -EPERM },
	{ "MUTEX_KILL", op_kill, 0 }, { "MUTEX_SET_TASK", op_set_task, 0 },
	{ "CREATE_EVENT", op_create_event, 0 }, { "CREATE_SEM", op_create_sem, 0 },
	{ "CREATE_MUTEX", op_create_mutex, 0 }, { "nanosleep", op_nanosleep, 0 },
	{ "poll", op_poll, 0 }, { "futex wait", op_futex, -ETIMEDOUT }, { "yield", op_yield, 0 },
};

TEST_F_TIMEOUT(set_pi, not_ended, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0];
	unsigned int i;

	c->arg = 1;
	for (i = 0; i < ARRAY_LEN(others); i++) {
		nt_kill_mutex(self->o.mutex, c->p.a.id);
		take(c, self->o.mutex);
		check_mutex(self->o.mutex, c->p.a.id, 1);
		gets_boost(c, 50);
		ASSERT_EQ(others[i].ret, call(c, others[i].fn)) {
			TH_LOG("%s", others[i].name);
		}
		EXPECT_EQ(FIFO(50), c->seen) {
			TH_LOG("%s", others[i].name);
		}
		has(c, FIFO(50));
		EXPECT_EQ(0, nt_event(self->o.event, NTSYNC_IOC_EVENT_RESET, NULL));
		EXPECT_EQ(0, nt_event(self->o.other, NTSYNC_IOC_EVENT_RESET, NULL));
	}
	waits_again(c, NORMAL);

	/* all of them in a row */
	take(c, self->o.mutex);
	gets_boost(c, 40);
	for (i = 0; i < ARRAY_LEN(others); i++)
		call(c, others[i].fn);
	came_with(c, FIFO(40));
	waits_again(c, NORMAL);
}

TEST_F_TIMEOUT(set_pi, not_ended_by_channel, NT_TEST_TIMEOUT)
{
	static const struct op ops[] = {
		{ "CREATE_CHANNEL", op_create_channel, 0 }, { "REGISTER_THREAD", op_register, 0 },
		{ "DEREGISTER_THREAD", op_deregister, 0 },
		{ "REPLY", op_reply_to_nobody, -ENOENT },
	};
	struct consumer *c = &self->c[0], *sender = &self->c[1];
	unsigned int i;

	need_channel();
	gets_boost(c, 50);
	for (i = 0; i < ARRAY_LEN(ops); i++) {
		ASSERT_EQ(ops[i].ret, call(c, ops[i].fn));
		EXPECT_EQ(FIFO(50), c->seen) {
			TH_LOG("%s", ops[i].name);
		}
	}

	/* A loan in hand and this do not disturb each other. */
	ASSERT_EQ(0, set_own(sender, 30));
	falls_asleep(sender, op_send);
	ASSERT_EQ(0, call(c, op_recv2));
	came_with(c, FIFO(30));
	gets_boost(c, 50);
	ASSERT_EQ(0, call(c, op_reply));
	came_with(c, FIFO(50));
	EXPECT_EQ(0, end(sender));
	waits_again(c, NORMAL);

	falls_asleep(sender, op_send);
	ASSERT_EQ(0, call(c, op_recv2));
	gets_boost(c, 50);
	waits_again(c, FIFO(30));
	ASSERT_EQ(0, call(c, op_reply));
	came_with(c, NORMAL);
	EXPECT_EQ(0, end(sender));
}

/* To wake one, or many, in the order of their priorities. */
TEST_F_TIMEOUT(set_pi, not_ended_by_waking, NT_TEST_TIMEOUT)
{
	static const int first[] = { 5, 30, 55 };
	struct consumer *c = &self->c[0], *w = self->waiter;
	unsigned int i, k, n;

	for (i = 0; i < NB_WAITERS; i++)
		ASSERT_EQ(0, start(&w[i], &self->o, 100 + i));
	for (k = 0; k < ARRAY_LEN(first); k++) {
		for (n = 1; n <= NB_WAITERS; n += NB_WAITERS - 1) {
			for (i = 0; i < n; i++) {
				ASSERT_EQ(0, set_own(&w[i], first[k] + i));
				queues(&w[i], self->o.empty);
			}
			gets_boost(c, 50);
			c->arg = n;
			ASSERT_EQ(0, call(c, op_release));
			came_with(c, FIFO(50));
			for (i = 0; i < n; i++) {
				int own = first[k] + i;

				EXPECT_EQ(0, end(&w[i]));
				came_with(&w[i], FIFO(own));
			}
			has(c, FIFO(50));
			check_sem(self->o.empty, 0, 1000);
			waits_again(c, NORMAL);
		}
	}

	/* a manual event */
	for (i = 0; i < NB_WAITERS; i++)
		queues(&w[i], self->o.never);
	gets_boost(c, 50);
	EXPECT_EQ(0, close(self->o.other));
	self->o.other = dup(self->o.never);
	ASSERT_LE(0, self->o.other);
	ASSERT_EQ(0, call(c, op_set));
	came_with(c, FIFO(50));
	for (i = 0; i < NB_WAITERS; i++)
		EXPECT_EQ(0, end(&w[i]));
	has(c, FIFO(50));
	EXPECT_EQ(0, nt_event(self->o.never, NTSYNC_IOC_EVENT_RESET, NULL));
	waits_again(c, NORMAL);
}

/* Together with what is lent by waiters for a mutex: the higher counts. */
TEST_F_TIMEOUT(set_pi, with_loans, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0], *w = &self->c[1];

	ASSERT_EQ(0, set_own(w, 70));
	ASSERT_EQ(0, take(c, self->o.mutex));
	gets_boost(c, 50);
	queues(w, self->o.mutex);
	has(c, FIFO(70));
	EXPECT_EQ(0, kick(w));
	EXPECT_EQ(-EINTR, end(w));
	has(c, FIFO(50));

	queues(w, self->o.mutex);
	has(c, FIFO(70));
	ASSERT_EQ(0, set_own(w, 30));
	has(c, FIFO(50));
	ASSERT_EQ(0, set_own(w, 60));
	has(c, FIFO(60));
	ASSERT_EQ(0, call(c, op_unlock));
	came_with(c, FIFO(50));
	EXPECT_EQ(0, end(w));
	came_with(w, FIFO(60));
	EXPECT_EQ(0, nt_unlock_mutex(self->o.mutex, w->p.a.id, NULL));

	/* the loan remains when this has ended */
	ASSERT_EQ(0, set_own(w, 30));
	ASSERT_EQ(0, take(c, self->o.mutex));
	queues(w, self->o.mutex);
	has(c, FIFO(30));
	gets_boost(c, 50);
	waits_again(c, FIFO(30));
	gets_boost(c, 60);
	ASSERT_EQ(0, call(c, op_unlock));
	came_with(c, FIFO(60));
	EXPECT_EQ(0, end(w));
	waits_again(c, NORMAL);

	/* the event and a mutex in one wait */
	arrange(c, self->o.event, true, 0);
	c->p.a.objs[1] = self->o.mutex;
	c->p.a.nb_objs = 2;
	falls_asleep(c, op_wait);
	EXPECT_EQ(0, set_pi(self->o.event, 50));
	has(c, NORMAL);
	EXPECT_EQ(0, nt_unlock_mutex(self->o.mutex, w->p.a.id, NULL));
	has(c, FIFO(50));
	is_held(c);
	EXPECT_EQ(0, end(c));
	came_with(c, FIFO(50));
	check_mutex(self->o.mutex, c->p.a.id, 1);
}

static int op_lock_futex(struct consumer *c)
{
	unsigned int zero = 0;

	if (atomic_compare_exchange_strong(&c->o->futex, &zero, tid_of(c)))
		return 0;
	return syscall(SYS_futex, &c->o->futex, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) ?
	       -errno : 0;
}

static int op_unlock_futex(struct consumer *c)
{
	unsigned int tid = tid_of(c);

	if (atomic_compare_exchange_strong(&c->o->futex, &tid, 0))
		return 0;
	return syscall(SYS_futex, &c->o->futex, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) ?
	       -errno : 0;
}

/* What it has it lends in other locks, and through them in ours. */
TEST_F_TIMEOUT(set_pi, lent_by_futex, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0], *owner = &self->c[1], *deep = &self->c[2];

	ASSERT_EQ(0, call(owner, op_lock_futex));
	gets_boost(c, 50);
	falls_asleep(c, op_lock_futex);
	has(owner, FIFO(50));
	has(c, FIFO(50));
	ASSERT_EQ(0, call(owner, op_unlock_futex));
	came_with(owner, NORMAL);
	EXPECT_EQ(0, end(c));
	came_with(c, FIFO(50));
	ASSERT_EQ(0, call(c, op_unlock_futex));
	came_with(c, FIFO(50));

	/* its owner is blocked in ntsync */
	ASSERT_EQ(0, take(deep, self->o.mutex));
	ASSERT_EQ(0, call(owner, op_lock_futex));
	queues(owner, self->o.mutex);
	has(deep, NORMAL);
	falls_asleep(c, op_lock_futex);
	has(owner, FIFO(50));
	has(deep, FIFO(50));
	ASSERT_EQ(0, call(deep, op_unlock));
	came_with(deep, NORMAL);
	EXPECT_EQ(0, end(owner));
	came_with(owner, FIFO(50));
	ASSERT_EQ(0, call(owner, op_unlock_futex));
	came_with(owner, NORMAL);
	EXPECT_EQ(0, end(c));
	came_with(c, FIFO(50));
	waits_again(c, NORMAL);

	/* It owns the lock when its own ends. */
	falls_asleep(owner, op_lock_futex);
	has(c, NORMAL);
	ASSERT_EQ(0, set_own(owner, 20));
	has(c, FIFO(20));
	gets_boost(c, 50);
	waits_again(c, FIFO(20));
	ASSERT_EQ(0, call(c, op_unlock_futex));
	came_with(c, NORMAL);
	EXPECT_EQ(0, end(owner));
}

/*
 * The scheduler.
 */

TEST_F_TIMEOUT(set_pi, consumer_is_higher, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0];

	ASSERT_EQ(0, set_own(c, 70));
	queues(c, self->o.event);
	EXPECT_EQ(0, set_pi(self->o.event, 50));
	has(c, FIFO(70));
	EXPECT_EQ(0, end(c));
	came_with(c, FIFO(70));
	waits_again(c, FIFO(70));

	EXPECT_EQ(0, set_pi(self->o.event, 50));
	takes_with(c, self->o.event, FIFO(70));
	/* It has the other one, too. */
	ASSERT_EQ(0, set_own(c, 10));
	has(c, FIFO(50));
	ASSERT_EQ(0, set_own(c, 70));
	has(c, FIFO(70));
	ASSERT_EQ(0, set_own(c, 0));
	has(c, FIFO(50));
	waits_again(c, NORMAL);

	/* equal */
	ASSERT_EQ(0, set_own(c, 50));
	gets_boost(c, 50);
	waits_again(c, FIFO(50));
}

/* What the user sets during a boost is what remains after it. */
TEST_F_TIMEOUT(set_pi, set_scheduler, NT_TEST_TIMEOUT)
{
	static const struct { int policy, prio; } set[] = {
		{ SCHED_FIFO, 20 }, { SCHED_RR, 60 }, { SCHED_OTHER, 0 }, { SCHED_BATCH, 0 },
		{ SCHED_FIFO, 85 }, { SCHED_OTHER, 0 }, { SCHED_IDLE, 0 }, { SCHED_RR, 30 },
	};
	struct consumer *c = &self->c[0];
	struct sched_param param;
	unsigned int i, n;

	/* the last of the first n remains */
	for (n = 1; n <= ARRAY_LEN(set); n++) {
		ASSERT_EQ(0, set_own(c, 0));
		gets_boost(c, 80);
		for (i = 0; i < n; i++) {
			ASSERT_EQ(0, set_sched(tid_of(c), set[i].policy, set[i].prio));
			EXPECT_EQ(set[i].prio > 80 ? FIFO(set[i].prio) : FIFO(80), prio_of(c));
			EXPECT_EQ(set[i].policy, sched_getscheduler(tid_of(c)));
			EXPECT_EQ(0, sched_getparam(tid_of(c), &param));
			EXPECT_EQ(set[i].prio, param.sched_priority);
		}
		i = n - 1;
		waits_again(c, set[i].prio ? FIFO(set[i].prio) : NORMAL);
		EXPECT_EQ(set[i].policy, sched_getscheduler(tid_of(c)));
		EXPECT_EQ(0, sched_getparam(tid_of(c), &param));
		EXPECT_EQ(set[i].prio, param.sched_priority);
	}
}

/* Also between the wake-up and the first step of the consumer. */
TEST_F_TIMEOUT(set_pi, set_scheduler_before_it_runs, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0];

	queues(c, self->o.event);
	EXPECT_EQ(0, set_pi(self->o.event, 50));
	ASSERT_EQ(0, set_own(c, 10));
	has(c, FIFO(50));
	ASSERT_EQ(0, set_own(c, 60));
	has(c, FIFO(60));
	ASSERT_EQ(0, set_own(c, 20));
	has(c, FIFO(50));
	is_held(c);
	EXPECT_EQ(0, end(c));
	came_with(c, FIFO(50));
	waits_again(c, FIFO(20));
}

/* Nobody sees it in the policy, and nothing of the attributes is lost. */
TEST_F_TIMEOUT(set_pi, invisible, NT_TEST_TIMEOUT)
{
	static const struct nt_sched own[] = {
		NT_NICE(0), NT_IDLE, NT_NICE(7), NT_NICE(-3), NT_BATCH(4), NT_FIFO(10), NT_RR(20),
		NT_FIFO(99),
	};
	struct consumer *c = &self->c[0];
	struct sched_param param;
	unsigned int i, stage;
	int before;

	for (i = 0; i < ARRAY_LEN(own); i++) {
		struct nt_sched_attr attr = {
			.size = sizeof(attr), .policy = own[i].policy, .nice = own[i].nice,
			.priority = own[i].prio,
		};

		ASSERT_EQ(0, syscall(SYS_sched_setattr, tid_of(c), &attr, 0));
		before = prio_of(c);
		queues(c, self->o.event);
		EXPECT_EQ(0, set_pi_args(self->o.event, 0, i & 1 ? SCHED_RR : SCHED_FIFO, 80, 0));
		for (stage = 0; stage < 3; stage++) {
			if (stage == 1) {
				EXPECT_EQ(0, end(c));
			} else if (stage == 2) {
				waits_again(c, before);
			}
			EXPECT_EQ(stage < 2 && before > FIFO(80) ? FIFO(80) : before, prio_of(c)) {
				TH_LOG("attributes %u, stage %u", i, stage);
			}
			EXPECT_EQ(own[i].policy, sched_getscheduler(tid_of(c)));
			EXPECT_EQ(0, sched_getparam(tid_of(c), &param));
			EXPECT_EQ(own[i].prio, param.sched_priority);
			if (!own[i].prio) {
				EXPECT_EQ(own[i].nice, getpriority(PRIO_PROCESS, tid_of(c)));
			}
		}
	}

	/* a nice value that is set meanwhile */
	ASSERT_EQ(0, set_own(c, 0));
	ASSERT_EQ(0, setpriority(PRIO_PROCESS, tid_of(c), 0));
	gets_boost(c, 50);
	ASSERT_EQ(0, setpriority(PRIO_PROCESS, tid_of(c), 9));
	has(c, FIFO(50));
	EXPECT_EQ(9, getpriority(PRIO_PROCESS, tid_of(c)));
	waits_again(c, NORMAL + 9);
}

/*
 * Who gives up when it is set: either it has consumed it and is boosted, or neither.
 */

#define either_or(c, error) do {					\
	int __ret = end(c);						\
									\
	if (__ret) {							\
		EXPECT_EQ((error), __ret);				\
		came_with((c), NORMAL);					\
		check_event(self->o.event, 0, 1);			\
		takes_with(&self->c[1], self->o.event, FIFO(50));	\
	} else {							\
		came_with((c), FIFO(50));				\
		check_event(self->o.event, 0, 0);			\
	}								\
	waits_again((c), NORMAL);					\
} while (0)

TEST_F_TIMEOUT(set_pi, timeout, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0];
	unsigned int i, all;

	for (i = 0; i < NB_RACES; i++) {
		__u64 when = nt_now(CLOCK_MONOTONIC) + 500000;

		arrange(c, self->o.event, i & 1, when);
		begin(c, op_wait);
		/* some before, and some after it has run */
		nt_sleep_until(CLOCK_MONOTONIC, when + i * 300 - NB_RACES * 100);
		EXPECT_EQ(0, set_pi(self->o.event, 50));
		either_or(c, -ETIMEDOUT);
	}

	/* The time is over, but it has not run since. */
	for (all = 0; all < 2; all++) {
		bool asleep = false;

		for (i = 0; i < 8 && !asleep; i++) {
			arrange(c, self->o.event, all,
				nt_now(CLOCK_MONOTONIC) + (20000000ULL << i));
			begin(c, op_wait);
			asleep = actor_asleep(&c->p.a);
			if (!asleep) {
				ASSERT_EQ(-ETIMEDOUT, end(c));
			}
		}
		ASSERT_TRUE(asleep);
		while (nt_now(CLOCK_MONOTONIC) <= c->p.a.timeout + 1000000)
			;
		EXPECT_EQ(0, set_pi(self->o.event, 50));
		either_or(c, -ETIMEDOUT);
	}

	/* who has given up has nothing */
	arrange(c, self->o.event, false, NT_EXPIRED);
	EXPECT_EQ(-ETIMEDOUT, call(c, op_wait));
	EXPECT_EQ(0, set_pi(self->o.event, 50));
	came_with(c, NORMAL);
	takes_with(&self->c[1], self->o.event, FIFO(50));
}

TEST_F_TIMEOUT(set_pi, signal, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0];
	unsigned int all;

	for (all = 0; all < 2; all++) {
		/* before */
		arrange(c, self->o.event, all, 0);
		falls_asleep(c, op_wait);
		EXPECT_EQ(0, kick(c));
		EXPECT_EQ(0, set_pi(self->o.event, 50));
		either_or(c, -EINTR);

		/* after: it was granted */
		arrange(c, self->o.event, all, 0);
		falls_asleep(c, op_wait);
		EXPECT_EQ(0, set_pi(self->o.event, 50));
		EXPECT_EQ(0, kick(c));
		has(c, FIFO(50));
		EXPECT_EQ(0, end(c));
		came_with(c, FIFO(50));

		/* a handler does not end it */
		EXPECT_EQ(0, kick(c));
		ASSERT_EQ(0, call(c, op_yield));
		came_with(c, FIFO(50));
	}
}

/*
 * Fork, exec, exit.
 */

static int op_fork(struct consumer *c)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (!pid)
		_exit(nt_task_prio(getpid(), getpid()) == c->arg ? 0 : 1);
	if (waitpid(pid, &status, 0) != pid)
		return -errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -EIO;
}

static void *own_prio_thread(void *arg)
{
	*(int *)arg = nt_task_prio(getpid(), syscall(SYS_gettid));
	return NULL;
}

static int op_thread(struct consumer *c)
{
	pthread_t thread;
	int prio = INT_MIN;

	if (pthread_create(&thread, NULL, own_prio_thread, &prio) || pthread_join(thread, NULL))
		return -EAGAIN;
	return prio == c->arg ? 0 : 1;
}

TEST_F_TIMEOUT(set_pi, fork, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0];
	unsigned int i;

	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, set_own(c, i ? 10 : 0));
		c->arg = i ? FIFO(10) : NORMAL;
		gets_boost(c, 50);
		EXPECT_EQ(0, call(c, op_fork));
		came_with(c, FIFO(50));
		EXPECT_EQ(0, call(c, op_thread));
		came_with(c, FIFO(50));
		waits_again(c, c->arg);
		EXPECT_EQ(0, call(c, op_fork));
	}
}

/*
 * Something that another process does. What it reports is in shared memory, which only
 * that process writes; the rest is a copy.
 */
struct report {
	int ret;
	int seen;
	atomic_uint step;
	atomic_uint done;
};

struct job {
	pid_t pid;
	struct report *report;
	int gate[2];
	int dev;
	int event;
	int taken;		/* an object that it takes first, or -1 */
	__u32 policy;
	__u32 prio;
	struct nt_sched own;
	unsigned long long limit;	/* RLIMIT_RTPRIO */
	bool drop;		/* become nobody */
	bool userns;		/* with all capabilities in a user namespace */
};

#define JOB_ID	9		/* as the owner of mutexes */

static void die_with_parent(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static int job_start(struct job *job, int (*fn)(struct job *job))
{
	job->report = mmap(NULL, sizeof(*job->report), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (job->report == MAP_FAILED || pipe2(job->gate, O_CLOEXEC))
		return -errno;
	job->pid = fork();
	if (job->pid < 0)
		return -errno;
	if (job->pid)
		return 0;
	die_with_parent();
	job->report->ret = set_sched(0, SCHED_OTHER, 0);
	if (!job->report->ret)
		job->report->ret = fn(job);
	atomic_store(&job->report->done, 1);
	_exit(0);
}

/* It is at its gate. */
static bool job_ready(struct job *job)
{
	struct report *report = job->report;

	poll_until(atomic_load(&report->done) || (atomic_load(&report->step) &&
						   nt_task_state(job->pid, job->pid) == 'S'));
	return atomic_load(&report->step) && !atomic_load(&report->done);
}

static bool job_go(struct job *job)
{
	return write(job->gate[1], "", 1) == 1;
}

/* Called by the job. */
static int job_gate(struct job *job)
{
	char byte;

	atomic_store(&job->report->step, 1);
	return read(job->gate[0], &byte, 1) == 1 ? 0 : -EIO;
}

static void job_free(struct job *job)
{
	munmap(job->report, sizeof(*job->report));
	close(job->gate[0]);
	close(job->gate[1]);
}

static int job_end(struct job *job)
{
	int status, ret;

	if (!poll_until(atomic_load(&job->report->done)) ||
	    !poll_until(waitpid(job->pid, &status, WNOHANG) == job->pid))
		return -EBUSY;
	ret = job->report->ret;
	job_free(job);
	return ret;
}

static int job_take(struct job *job)
{
	__u32 index;

	return nt_try_any(job->dev, 1, &job->taken, JOB_ID, 0, &index);
}

static int job_consume(struct job *job)
{
	int ret = job_take(job);

	job->report->seen = nt_task_prio(getpid(), getpid());
	return ret ? ret : job_gate(job);
}

static int job_exec(struct job *job)
{
	int ret = job_consume(job);

	if (ret)
		return ret;
	setenv(HOLD_VAR, "1", 1);
	execl("/proc/self/exe", "set-pi-hold", NULL);
	return -errno;
}

static bool executed(pid_t pid)
{
	char path[64], name[32];

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	return nt_read_file(path, name, sizeof(name)) && !strcmp(name, "set-pi-hold") &&
	       nt_task_state(pid, pid) == 'S';
}

TEST_F_TIMEOUT(set_pi, exec, NT_TEST_TIMEOUT)
{
	struct job job = { .dev = self->o.dev, .taken = self->o.event };
	int status;

	EXPECT_EQ(0, set_pi(self->o.event, 50));
	ASSERT_EQ(0, job_start(&job, job_exec));
	ASSERT_TRUE(job_ready(&job));
	EXPECT_EQ(FIFO(50), job.report->seen);
	EXPECT_EQ(FIFO(50), nt_task_prio(job.pid, job.pid));
	ASSERT_TRUE(job_go(&job));
	ASSERT_TRUE(poll_until(executed(job.pid) || atomic_load(&job.report->done)));
	ASSERT_EQ(0U, atomic_load(&job.report->done));
	EXPECT_EQ(NORMAL, nt_task_prio(job.pid, job.pid));
	EXPECT_EQ(SCHED_OTHER, sched_getscheduler(job.pid));
	kill(job.pid, SIGKILL);
	ASSERT_TRUE(poll_until(waitpid(job.pid, &status, WNOHANG) == job.pid));
	job_free(&job);
}

/* From the present end of the kernel's messages on, or -1. */
static int open_messages(void)
{
	int fd = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);

	if (fd >= 0)
		lseek(fd, 0, SEEK_END);
	return fd;
}

/* False if there was one that tells of a bug. */
static bool no_complaint(int fd)
{
	char buf[8192];
	ssize_t len;

	if (fd < 0)
		return true;
	for (;;) {
		len = read(fd, buf, sizeof(buf) - 1);
		if (len < 0 && errno == EPIPE)
			continue;
		if (len <= 0)
			return true;
		buf[len] = 0;
		if (strstr(buf, "WARNING:") || strstr(buf, "BUG:"))
			return false;
	}
}

TEST_F_TIMEOUT(set_pi, exit, NT_TEST_TIMEOUT)
{
	static struct consumer c[NB_ROUNDS];
	int fd = open_messages(), status;
	struct job job;
	unsigned int i;

	/* threads */
	for (i = 0; i < NB_ROUNDS; i++) {
		ASSERT_EQ(0, start(&c[i], &self->o, 100 + i));
		if (i & 1) {
			gets_boost(&c[i], 50);
		} else {
			EXPECT_EQ(0, set_pi(self->o.event, 50));
			takes_with(&c[i], self->o.event, FIFO(50));
		}
		actor_stop(&c[i].p.a);
		EXPECT_TRUE(poll_until(!nt_task_state(getpid(), tid_of(&c[i]))));
	}

	/* processes, that end by themselves or are killed */
	for (i = 0; i < 20; i++) {
		memset(&job, 0, sizeof(job));
		job.dev = self->o.dev;
		job.taken = self->o.event;
		EXPECT_EQ(0, set_pi(self->o.event, 50));
		ASSERT_EQ(0, job_start(&job, job_consume));
		ASSERT_TRUE(job_ready(&job));
		EXPECT_EQ(FIFO(50), job.report->seen);
		if (i & 1) {
			kill(job.pid, SIGKILL);
			ASSERT_TRUE(poll_until(waitpid(job.pid, &status, WNOHANG) == job.pid));
			EXPECT_TRUE(WIFSIGNALED(status));
			job_free(&job);
		} else {
			ASSERT_TRUE(job_go(&job));
			EXPECT_EQ(0, job_end(&job));
		}
	}
	EXPECT_TRUE(no_complaint(fd));
	if (fd >= 0)
		close(fd);

	/* the event works as before */
	EXPECT_EQ(0, set_pi(self->o.event, 40));
	takes_with(&self->c[0], self->o.event, FIFO(40));
}

static atomic_uint got_xcpu;

static void xcpu(int sig)
{
	(void)sig;
	atomic_store(&got_xcpu, 1);
}

/* Is told after a tenth of a second at a real-time priority without a sleep. */
static int job_spin(struct job *job)
{
	struct rlimit limit = { 100000, RLIM_INFINITY };
	struct sigaction sa = { .sa_handler = xcpu };
	__u64 deadline;
	int ret;

	if (sigaction(SIGXCPU, &sa, NULL) || setrlimit(RLIMIT_RTTIME, &limit))
		return -errno;
	ret = job_take(job);
	if (ret)
		return ret;
	deadline = nt_now(CLOCK_MONOTONIC) + 5 * NT_NSEC_PER_SEC;
	while (!atomic_load(&got_xcpu)) {
		if (nt_now(CLOCK_MONOTONIC) >= deadline)
			return -ETIME;
	}
	return 0;
}

TEST_F_TIMEOUT(set_pi, rttime, NT_TEST_TIMEOUT)
{
	struct job job = { .dev = self->o.dev, .taken = self->o.event };

	EXPECT_EQ(0, set_pi(self->o.event, 50));
	ASSERT_EQ(0, job_start(&job, job_spin));
	EXPECT_EQ(0, job_end(&job));
}

/*
 * What the setter may give.
 */

static bool has_sys_nice(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	memset(data, 0, sizeof(data));
	return !syscall(SYS_capget, &head, data) && data[0].effective & 1U << CAP_SYS_NICE;
}

/* 1 if a user namespace cannot be had. */
static int job_drop(struct job *job)
{
	struct rlimit limit = { job->limit, job->limit };
	int ret = nt_sched_self(&job->own);

	if (ret)
		return ret;
	if (setrlimit(RLIMIT_RTPRIO, &limit))
		return -errno;
	if (job->drop && (setresgid(NOBODY, NOBODY, NOBODY) ||
			  setresuid(NOBODY, NOBODY, NOBODY)))
		return -errno;
	if (job->userns && unshare(CLONE_NEWUSER))
		return 1;
	/* who changes its user loses it */
	die_with_parent();
	return has_sys_nice() == (job->userns || !job->drop) ? 0 : -EPERM;
}

static int job_set(struct job *job)
{
	return set_pi_args(job->event, 0, job->policy, job->prio, 0);
}

static int job_set_dropped(struct job *job)
{
	int ret = job_drop(job);

	return ret ? ret : job_set(job);
}

/* The consumer's priority as in field 18; INT_MAX: it has to be skipped. */
static int dropped_prio(struct __test_metadata *_metadata, FIXTURE_DATA(set_pi) *self,
			struct job *job, bool queued)
{
	struct consumer *c = &self->c[0];
	int ret;

	job->dev = self->o.dev;
	job->event = self->o.event;
	waits_again(c, NORMAL);
	if (queued)
		queues(c, self->o.event);
	ASSERT_EQ(0, job_start(job, job_set_dropped));
	ret = job_end(job);
	if (ret == 1)
		return INT_MAX;
	ASSERT_EQ(0, ret) {
		TH_LOG("the setter returned %d", ret);
	}
	/* it is set in any case */
	if (queued) {
		ASSERT_EQ(0, end(c));
	} else {
		check_event(self->o.event, 0, 1);
		ASSERT_EQ(0, take(c, self->o.event));
	}
	EXPECT_EQ(c->seen, prio_of(c));
	check_event(self->o.event, 0, 0);
	return c->seen;
}

struct right {
	struct nt_sched own;
	unsigned long long limit;
	__u32 policy, prio;
	int expected;
};

TEST_F_TIMEOUT(set_pi, capped, NT_TEST_TIMEOUT)
{
	static const struct right rights[] = {
		{ NT_NICE(0), 0, SCHED_FIFO, 90, NORMAL },
		{ NT_NICE(0), 1, SCHED_FIFO, 90, FIFO(1) },
		{ NT_NICE(0), 50, SCHED_FIFO, 90, FIFO(50) },
		{ NT_NICE(0), 50, SCHED_RR, 90, FIFO(50) },
		{ NT_NICE(0), 98, SCHED_FIFO, 90, FIFO(90) },
		{ NT_NICE(0), 98, SCHED_FIFO, 99, FIFO(98) },
		{ NT_NICE(0), 98, SCHED_RR, 99, FIFO(98) },
		{ NT_NICE(0), 50, SCHED_FIFO, 50, FIFO(50) },
		{ NT_NICE(0), 50, SCHED_FIFO, 20, FIFO(20) },
		{ NT_NICE(0), 0, SCHED_FIFO, 1, NORMAL }, { NT_NICE(0), 1, SCHED_RR, 1, FIFO(1) },
		{ NT_NICE(0), 1000, SCHED_FIFO, 99, FIFO(99) },
		{ NT_NICE(0), RLIM_INFINITY, SCHED_FIFO, 99, FIFO(99) },
		{ NT_NICE(-20), 0, SCHED_FIFO, 90, NORMAL },
		{ NT_BATCH(0), 0, SCHED_RR, 1, NORMAL },
		{ NT_IDLE, 0, SCHED_FIFO, 1, NORMAL }, { NT_IDLE, 30, SCHED_FIFO, 40, FIFO(30) },
		/* what the setter has itself */
		{ NT_FIFO(60), 0, SCHED_FIFO, 90, FIFO(60) },
		{ NT_FIFO(60), 50, SCHED_FIFO, 90, FIFO(60) },
		{ NT_RR(60), 0, SCHED_FIFO, 90, FIFO(60) },
		{ NT_FIFO(60), 0, SCHED_RR, 61, FIFO(60) },
		{ NT_FIFO(60), 0, SCHED_FIFO, 60, FIFO(60) },
		{ NT_FIFO(60), 0, SCHED_FIFO, 30, FIFO(30) },
		{ NT_FIFO(60), 70, SCHED_FIFO, 90, FIFO(70) },
		{ NT_FIFO(60), 98, SCHED_FIFO, 90, FIFO(90) },
		{ NT_FIFO(1), 0, SCHED_FIFO, 99, FIFO(1) },
	};
	unsigned int i, queued;

	if (geteuid())
		SKIP(return, "not root");
	for (i = 0; i < ARRAY_LEN(rights); i++) {
		for (queued = 0; queued < 2; queued++) {
			struct job job = {
				.own = rights[i].own, .limit = rights[i].limit, .drop = true,
				.policy = rights[i].policy, .prio = rights[i].prio,
			};

			EXPECT_EQ(rights[i].expected,
				  dropped_prio(_metadata, self, &job, queued)) {
				TH_LOG("case %u, queued %u", i, queued);
			}
		}
	}
}

/* One without rights does not take away what another one has left. */
TEST_F_TIMEOUT(set_pi, capped_after_other, NT_TEST_TIMEOUT)
{
	static const unsigned int limits[] = { 0, 20, 40 };
	unsigned int i;

	if (geteuid())
		SKIP(return, "not root");
	for (i = 0; i < ARRAY_LEN(limits); i++) {
		struct job job = {
			.limit = limits[i], .drop = true, .policy = SCHED_FIFO, .prio = 90,
		};

		EXPECT_EQ(0, set_pi(self->o.event, 30));
		EXPECT_EQ(limits[i] > 30 ? FIFO(40) : FIFO(30),
			  dropped_prio(_metadata, self, &job, false));
	}
}

/* The limit, here 0, is not asked for those who have the capability. */
TEST_F_TIMEOUT(set_pi, capability, NT_TEST_TIMEOUT)
{
	unsigned int queued;

	if (geteuid())
		SKIP(return, "not root");
	for (queued = 0; queued < 2; queued++) {
		struct job job = { .policy = SCHED_FIFO, .prio = 99 };

		EXPECT_EQ(FIFO(99), dropped_prio(_metadata, self, &job, queued));
	}
}

/* Capabilities of another user namespace are none here. */
TEST_F_TIMEOUT(set_pi, user_namespace, NT_TEST_TIMEOUT)
{
	static const unsigned int limits[] = { 0, 20 };
	unsigned int i, drop;
	int prio;

	if (geteuid())
		SKIP(return, "not root");
	for (drop = 0; drop < 2; drop++) {
		for (i = 0; i < ARRAY_LEN(limits); i++) {
			struct job job = {
				.limit = limits[i], .drop = drop, .userns = true,
				.policy = SCHED_FIFO, .prio = 90,
			};

			prio = dropped_prio(_metadata, self, &job, false);
			if (prio == INT_MAX)
				SKIP(return, "no user namespaces");
			EXPECT_EQ(limits[i] ? FIFO(20) : NORMAL, prio) {
				TH_LOG("drop %u, limit %u", drop, limits[i]);
			}
		}
	}
}

/* With something in hand, without rights, waits at its gate. */
static int job_take_and_set(struct job *job)
{
	int ret = job_drop(job);

	if (!ret)
		ret = job_take(job);
	if (!ret)
		ret = job_gate(job);
	return ret ? ret : job_set(job);
}

struct inherited {
	struct nt_sched own;
	unsigned int limit;
	int expected;
};

static const struct inherited inherited[] = {
	{ NT_NICE(0), 0, NORMAL }, { NT_NICE(0), 20, FIFO(20) },
	{ NT_FIFO(40), 0, FIFO(40) }, { NT_FIFO(40), 20, FIFO(40) },
	{ NT_FIFO(40), 50, FIFO(50) }, { NT_NICE(0), 98, FIFO(90) },
};

/* What the setter has from a waiter it does not pass on. */
TEST_F_TIMEOUT(set_pi, inherited_by_setter, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0], *w = &self->c[1];
	unsigned int i;

	if (geteuid())
		SKIP(return, "not root");
	ASSERT_EQ(0, set_own(w, 70));
	for (i = 0; i < ARRAY_LEN(inherited); i++) {
		struct job job = {
			.dev = self->o.dev, .event = self->o.event, .taken = self->o.mutex,
			.own = inherited[i].own, .limit = inherited[i].limit, .drop = true,
			.policy = SCHED_FIFO, .prio = 90,
		};

		ASSERT_EQ(0, job_start(&job, job_take_and_set));
		ASSERT_TRUE(job_ready(&job)) {
			TH_LOG("the setter returned %d", job.report->ret);
		}
		queues(w, self->o.mutex);
		EXPECT_EQ(FIFO(70), nt_task_prio(job.pid, job.pid));
		queues(c, self->o.event);
		ASSERT_TRUE(job_go(&job));
		ASSERT_EQ(0, end(c));
		EXPECT_EQ(inherited[i].expected, c->seen) {
			TH_LOG("case %u", i);
		}
		has(c, inherited[i].expected);
		EXPECT_EQ(0, job_end(&job));

		EXPECT_EQ(0, nt_kill_mutex(self->o.mutex, JOB_ID));
		EXPECT_EQ(-EOWNERDEAD, end(w));
		EXPECT_EQ(0, nt_unlock_mutex(self->o.mutex, w->p.a.id, NULL));
		waits_again(c, NORMAL);
	}
}

/* Nor what it has from another event: nobody can keep a priority alive like that. */
TEST_F_TIMEOUT(set_pi, setter_has_it_from_event, NT_TEST_TIMEOUT)
{
	struct consumer *c = &self->c[0];
	unsigned int i;

	if (geteuid())
		SKIP(return, "not root");
	for (i = 0; i < ARRAY_LEN(inherited); i++) {
		struct job job = {
			.dev = self->o.dev, .event = self->o.event, .taken = self->o.other,
			.own = inherited[i].own, .limit = inherited[i].limit, .drop = true,
			.policy = SCHED_FIFO, .prio = 90,
		};

		EXPECT_EQ(0, set_pi(self->o.other, 70));
		ASSERT_EQ(0, job_start(&job, job_take_and_set));
		ASSERT_TRUE(job_ready(&job)) {
			TH_LOG("the setter returned %d", job.report->ret);
		}
		EXPECT_EQ(FIFO(70), nt_task_prio(job.pid, job.pid));
		queues(c, self->o.event);
		ASSERT_TRUE(job_go(&job));
		ASSERT_EQ(0, end(c));
		EXPECT_EQ(inherited[i].expected, c->seen) {
			TH_LOG("case %u", i);
		}
		EXPECT_EQ(0, job_end(&job));
		waits_again(c, NORMAL);
	}
}

TEST_HARNESS_MAIN
