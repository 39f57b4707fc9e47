// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Priority inheritance of channels, sentence by sentence of the contract.
 *
 * Everything runs on one CPU below the controlling thread, which itself calls nothing
 * that could sleep in a channel. Evidence is the effective priority, and who gets what.
 * Where a receiver is to be seen between its wake-up and its first step, another thread
 * keeps the CPU from it: see sends_held().
 *
 * A thread that has nothing to do sleeps on a futex. That is no wait of ntsync, so it
 * remains a receiver.
 */
#include <linux/capability.h>
#include "channel_test.h"

#define ADJUSTED	"/sys/module/pi_chain/parameters/adjusted"
#define DEPTH		64
#define NB_RECEIVERS	3
#define NB_SENDERS	4
#define NB_PEERS	(NB_RECEIVERS + NB_SENDERS + 2)
#define NB_BUSY		64
#define NB_TRIPS	100

static atomic_uint spin_stop, spin_count;

FIXTURE(channel_pi) {
	int dev;
	int ch[2];
	int mutex;
	int event;
	struct peer r[NB_RECEIVERS];
	struct peer s[NB_SENDERS];
	struct peer t;
	struct peer spinner;
	struct peer *all[NB_PEERS];
};

static pid_t tid_of(struct peer *p)
{
	return atomic_load(&p->a.tid);
}

static int prio_of(struct peer *p)
{
	return actor_prio(&p->a);
}

/* What a thread has without a loan, as in field 18. */
static int own_prio(struct peer *p)
{
	struct sched_param param;
	pid_t tid = tid_of(p);

	switch (sched_getscheduler(tid)) {
	case SCHED_FIFO:
	case SCHED_RR:
		return sched_getparam(tid, &param) ? INT_MIN : FIFO(param.sched_priority);
	case SCHED_DEADLINE:
		return DEADLINE;
	default:
		return NORMAL + getpriority(PRIO_PROCESS, tid);
	}
}

static int set_own(struct peer *p, int prio)
{
	return set_sched(tid_of(p), prio ? SCHED_FIFO : SCHED_OTHER, prio);
}

static int kick(struct peer *p)
{
	return syscall(SYS_tgkill, getpid(), tid_of(p), SIGUSR1) ? -errno : 0;
}

static int start(struct peer *p, int dev, __u32 id)
{
	p->a.id = id;
	p->send.payload_off = 0x1000 + id;
	p->send.reply_off = 0x2000 + id;
	return actor_start(&p->a, dev, 0);
}

/* It has done what it was told to do, and sleeps until it is told the next. */
static bool is_idle(struct peer *p)
{
	__u64 deadline = nt_bound();
	unsigned int nr = 0;

	while (nt_now(CLOCK_MONOTONIC) < deadline) {
		if (actor_done(&p->a) && nt_task_state(getpid(), tid_of(p)) == 'S')
			return true;
		nt_pause(&nr);
	}
	return false;
}

static int do_spin(struct actor *a)
{
	__u64 deadline = nt_bound();

	(void)a;
	while (!atomic_load(&spin_stop)) {
		atomic_fetch_add(&spin_count, 1);
		if (nt_now(CLOCK_MONOTONIC) >= deadline)
			return -ETIME;
	}
	return 0;
}

/* Sleep in RECV2. */
#define receives(p, fd) do {						\
	(p)->a.objs[0] = (fd);						\
	actor_begin(&(p)->a, do_recv);					\
	ASSERT_TRUE(actor_asleep(&(p)->a));				\
} while (0)

/* Send with a priority of its own and an explicit one, and go on when it sleeps. */
#define sends_pi(p, fd, own, _policy, _prio) do {			\
	(p)->a.objs[0] = (fd);						\
	(p)->send.policy = (_policy);					\
	(p)->send.prio = (_prio);					\
	ASSERT_EQ(0, set_own((p), (own)));				\
	actor_begin(&(p)->a, do_send);					\
	ASSERT_TRUE(actor_asleep(&(p)->a));				\
} while (0)

#define sends(p, fd, own)	sends_pi(p, fd, own, 0, 0)

#define check_req(p, sender) do {					\
	EXPECT_EQ((sender)->send.payload_off, (p)->req.payload_off);	\
	EXPECT_EQ((sender)->send.reply_off, (p)->req.reply_off);	\
	EXPECT_EQ((__u32)tid_of(sender), (p)->req.sender_tid);		\
} while (0)

/* It was asleep in RECV2, and gets what this one has sent. */
#define gets(p, sender) do {						\
	ASSERT_EQ(0, actor_end(&(p)->a));				\
	check_req(p, sender);						\
} while (0)

#define __takes(p, fd, sender, fn) do {					\
	(p)->a.objs[0] = (fd);						\
	ASSERT_EQ(0, actor_do(&(p)->a, (fn)));				\
	check_req(p, sender);						\
} while (0)

/* It takes what is pending: this one's. */
#define takes(p, fd, sender)		__takes(p, fd, sender, do_recv)
#define try_takes(p, fd, sender)	__takes(p, fd, sender, do_try_recv)

#define replies_to(p, fd, id) do {					\
	(p)->a.objs[0] = (fd);						\
	(p)->reply = (id);						\
	ASSERT_EQ(0, actor_do(&(p)->a, do_reply));			\
} while (0)

/* To the one that it took last. */
#define replies(p, fd)		replies_to(p, fd, (p)->req.entry_id)

#define sent(p) do {							\
	ASSERT_EQ(0, actor_end(&(p)->a));				\
} while (0)

#define interrupt(p) do {						\
	ASSERT_EQ(0, kick(p));						\
	ASSERT_EQ(-EINTR, actor_end(&(p)->a));				\
} while (0)

#define lent(p, prio) do {						\
	EXPECT_EQ(FIFO(prio), prio_of(p));				\
} while (0)

#define lent_nothing(p) do {						\
	EXPECT_EQ(own_prio(p), prio_of(p));				\
} while (0)

#define sleeps_on(p) do {						\
	EXPECT_TRUE(actor_asleep(&(p)->a));				\
	lent_nothing(p);						\
} while (0)

/* Busy: with a request in hand that lends nothing. */
#define gets_busy(p, fd, sender) do {					\
	sends(sender, fd, 0);						\
	takes(p, fd, sender);						\
	lent_nothing(p);						\
} while (0)

/*
 * Send while a receiver sleeps, so that this one is awake but does not get to run: the
 * spinner is queued behind the sender at the same priority when that begins, and so in
 * front of the receiver, which cannot get a higher one.
 */
#define sends_held(p, fd, own) do {					\
	(p)->a.objs[0] = (fd);						\
	(p)->send.policy = (p)->send.prio = 0;				\
	atomic_store(&spin_stop, 0);					\
	ASSERT_EQ(0, set_own((p), (own)));				\
	ASSERT_EQ(0, set_own(&self->spinner, (own)));			\
	ASSERT_TRUE(is_idle(p));					\
	ASSERT_TRUE(is_idle(&self->spinner));				\
	actor_begin(&(p)->a, do_send);					\
	actor_begin(&self->spinner.a, do_spin);				\
	ASSERT_TRUE(actor_asleep(&(p)->a));				\
} while (0)

#define end_held() do {							\
	atomic_store(&spin_stop, 1);					\
	ASSERT_EQ(0, actor_end(&self->spinner.a));			\
} while (0)

/* Awake, but has not yet run. */
#define is_held(p) do {							\
	EXPECT_FALSE(actor_done(&(p)->a));				\
	EXPECT_EQ('R', nt_task_state(getpid(), tid_of(p)));		\
} while (0)

FIXTURE_SETUP(channel_pi)
{
	unsigned int i, n = 0;

	begin_pi(self->dev);
	need_channels(self->dev);
	need_ioctl(self->dev, NTSYNC_IOC_CHANNEL_RECV2);

	atomic_store(&spin_stop, 0);
	atomic_store(&spin_count, 0);
	for (i = 0; i < ARRAY_LEN(self->ch); i++) {
		self->ch[i] = ch_create(self->dev, DEPTH);
		ASSERT_LE(0, self->ch[i]);
	}
	self->mutex = nt_create_mutex(self->dev, 0, 0);
	ASSERT_LE(0, self->mutex);
	self->event = nt_create_event(self->dev, false, false);
	ASSERT_LE(0, self->event);

	for (i = 0; i < NB_RECEIVERS; i++)
		self->all[n++] = &self->r[i];
	for (i = 0; i < NB_SENDERS; i++)
		self->all[n++] = &self->s[i];
	self->all[n++] = &self->t;
	self->all[n++] = &self->spinner;
	ASSERT_EQ((unsigned int)NB_PEERS, n);
	for (i = 0; i < n; i++)
		ASSERT_EQ(0, start(self->all[i], self->dev, i + 1));
}

/* Without the channels and with a signal all calls end, and nothing remains lent. */
FIXTURE_TEARDOWN(channel_pi)
{
	unsigned int i;
	bool ended = true;

	atomic_store(&spin_stop, 1);
	for (i = 0; i < ARRAY_LEN(self->ch); i++)
		close(self->ch[i]);
	for (i = 0; i < NB_PEERS && ended; i++) {
		struct peer *p = self->all[i];

		if (!p || !tid_of(p))
			break;
		if (!actor_done(&p->a))
			kick(p);
		actor_end(&p->a);
		ended = actor_done(&p->a);
		EXPECT_TRUE(ended) {
			TH_LOG("thread %u does not come back", i + 1);
		}
	}
	for (i = 0; i < NB_PEERS && ended; i++) {
		struct peer *p = self->all[i];

		if (!p || !tid_of(p))
			break;
		EXPECT_EQ(own_prio(p), prio_of(p)) {
			TH_LOG("thread %u", i + 1);
		}
		actor_stop(&p->a);
	}
	close(self->mutex);
	close(self->event);
	close(self->dev);
}

TEST_F_TIMEOUT(channel_pi, boosted_before_it_runs, NT_TEST_TIMEOUT)
{
	struct peer *r = &self->r[0], *s = &self->s[0];
	int policy;

	receives(r, self->ch[0]);
	lent_nothing(r);
	sends_held(s, self->ch[0], 50);
	is_held(r);
	lent(r, 50);
	policy = sched_getscheduler(tid_of(r));
	EXPECT_EQ(SCHED_OTHER, policy);
	end_held();
	gets(r, s);
	EXPECT_EQ(50U, r->req.prio);
	lent(r, 50);
	EXPECT_FALSE(actor_done(&s->a));
	replies(r, self->ch[0]);
	lent_nothing(r);
	EXPECT_EQ(NORMAL, prio_of(r));
	sent(s);

	/* and with nothing in between */
	receives(r, self->ch[0]);
	sends(s, self->ch[0], 60);
	gets(r, s);
	EXPECT_EQ(60U, r->req.prio);
	lent(r, 60);
	replies(r, self->ch[0]);
	EXPECT_EQ(NORMAL, prio_of(r));
	sent(s);
}

/* A receiver that has more itself keeps that. */
TEST_F_TIMEOUT(channel_pi, receiver_is_higher, NT_TEST_TIMEOUT)
{
	struct peer *r = &self->r[0], *s = &self->s[0];

	ASSERT_EQ(0, set_own(r, 70));
	receives(r, self->ch[0]);
	sends(s, self->ch[0], 50);
	gets(r, s);
	lent(r, 70);
	replies(r, self->ch[0]);
	lent(r, 70);
	sent(s);
}

TEST_F_TIMEOUT(channel_pi, explicit_priority, NT_TEST_TIMEOUT)
{
	static const struct { int own, policy, prio, lent; } set[] = {
		{ 0, SCHED_FIFO, 60, 60 }, { 0, SCHED_RR, 60, 60 }, { 0, SCHED_FIFO, 1, 1 },
		{ 50, SCHED_FIFO, 40, 50 }, { 30, SCHED_RR, 60, 60 }, { 50, 0, 0, 50 },
	};
	struct peer *r = &self->r[0], *s = &self->s[0];
	unsigned int i;

	for (i = 0; i < ARRAY_LEN(set); i++) {
		receives(r, self->ch[0]);
		sends_pi(s, self->ch[0], set[i].own, set[i].policy, set[i].prio);
		gets(r, s);
		EXPECT_EQ((__u32)set[i].lent, r->req.prio);
		lent(r, set[i].lent);
		replies(r, self->ch[0]);
		lent_nothing(r);
		sent(s);
		lent_nothing(s);
	}

	/* the higher of both, also when its own one changes: in hand, and pending */
	sends_pi(s, self->ch[0], 30, SCHED_FIFO, 60);
	for (i = 0; i < 2; i++) {
		if (i)
			sends_pi(&self->s[1], self->ch[0], 20, SCHED_FIFO, 40);
		else
			takes(r, self->ch[0], s);
		lent(r, 60);
		ASSERT_EQ(0, set_own(&self->s[i], 0));
		lent(r, 60);
		ASSERT_EQ(0, set_own(&self->s[i], 70));
		lent(r, 70);
		ASSERT_EQ(0, set_own(&self->s[i], 0));
		lent(r, 60);
	}
	replies(r, self->ch[0]);
	sent(s);
	lent(r, 40);
	takes(r, self->ch[0], &self->s[1]);
	lent(r, 40);
	replies(r, self->ch[0]);
	lent_nothing(r);
	sent(&self->s[1]);
}

/*
 * What a sender without the right to more gets of its explicit priority, and keeps until the
 * reply: no more than it had when it sent, its own or inherited, or RLIMIT_RTPRIO.
 */

struct right {
	int own;
	rlim_t limit;
	int inherited;		/* through a mutex */
	int prio;		/* explicit */
	int kept;
};

/* A thread has its capabilities for itself; the C library would ask all threads. */
static int do_lose_right(struct actor *a)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	(void)a;
	memset(data, 0, sizeof(data));
	if (syscall(SYS_capget, &head, data))
		return -errno;
	data[0].effective &= ~(1U << CAP_SYS_NICE);
	data[0].permitted &= ~(1U << CAP_SYS_NICE);
	data[0].inheritable &= ~(1U << CAP_SYS_NICE);
	return syscall(SYS_capset, &head, data) ? -errno : 0;
}

static int do_raise(struct actor *a)
{
	(void)a;
	return set_sched(0, SCHED_FIFO, 99);
}

static int higher(int a, int b)
{
	return a > b ? a : b;
}

#define has(p, prio) do {						\
	int __prio = (prio);						\
									\
	EXPECT_EQ(__prio ? FIFO(__prio) : NORMAL, prio_of(p));		\
} while (0)

#define both_have(r, s, prio) do {					\
	int __both = (prio);						\
									\
	has(r, __both);							\
	has(s, __both);							\
} while (0)

/* How the boost of the mutex ends. */
enum { BY_SIGNAL, BY_CHANGE, BY_KILL, NB_ENDS };

static void sends_capped(struct __test_metadata *_metadata,
			 FIXTURE_DATA(channel_pi) *self,
			 const struct right *right, unsigned int end, bool pending)
{
	struct peer *r = &self->r[0], *s = &self->s[1], *t = &self->t;
	struct rlimit limit = { right->limit, right->limit };
	int rest = higher(right->own, right->kept);
	int ch = self->ch[0];
	__u64 id = 0;

	ASSERT_EQ(0, setrlimit(RLIMIT_RTPRIO, &limit));
	ASSERT_EQ(0, set_own(s, right->own));
	acquires(&s->a, self->mutex);
	if (right->inherited) {
		ASSERT_EQ(0, set_own(t, right->inherited));
		waits_for(&t->a, self->mutex);
	}
	has(s, higher(right->own, right->inherited));

	if (pending) {
		gets_busy(r, ch, &self->s[0]);
		id = r->req.entry_id;
	} else {
		receives(r, ch);
	}
	sends_pi(s, ch, right->own, end == BY_CHANGE ? SCHED_RR : SCHED_FIFO, right->prio);
	if (!pending) {
		gets(r, s);
		EXPECT_EQ((__u32)higher(rest, right->inherited), r->req.prio);
	}
	both_have(r, s, higher(rest, right->inherited));

	if (right->inherited) {
		switch (end) {
		case BY_SIGNAL:
			interrupt(t);
			break;
		case BY_CHANGE:
			ASSERT_EQ(0, set_own(t, 0));
			break;
		case BY_KILL:
			ASSERT_EQ(0, nt_kill_mutex(self->mutex, s->a.id));
			ASSERT_EQ(-EOWNERDEAD, actor_end(&t->a));
			releases(&t->a, self->mutex);
			break;
		}
	}
	both_have(r, s, rest);
	if (pending) {
		takes(r, ch, s);
		EXPECT_EQ((__u32)rest, r->req.prio);
		both_have(r, s, rest);
	}

	/* what it has later, its own or inherited, comes and goes, and this remains */
	ASSERT_EQ(0, set_own(s, 85));
	both_have(r, s, higher(85, right->kept));
	ASSERT_EQ(0, set_own(s, 0));
	both_have(r, s, right->kept);
	if (end == BY_SIGNAL) {
		ASSERT_EQ(0, set_own(t, 80));
		waits_for(&t->a, self->mutex);
		both_have(r, s, higher(80, right->kept));
		interrupt(t);
		both_have(r, s, right->kept);
	}
	ASSERT_EQ(0, set_own(s, right->own));
	both_have(r, s, rest);
	EXPECT_EQ(right->own ? SCHED_FIFO : SCHED_OTHER, sched_getscheduler(tid_of(s)));

	replies(r, ch);
	has(r, 0);
	sent(s);
	has(s, right->own);
	if (right->inherited && end == BY_CHANGE)
		interrupt(t);
	if (!right->inherited || end != BY_KILL)
		releases(&s->a, self->mutex);
	if (pending) {
		replies_to(r, ch, id);
		sent(&self->s[0]);
	}
	has(r, 0);
	has(s, right->own);
}

static void sends_capped_all(struct __test_metadata *_metadata,
			     FIXTURE_DATA(channel_pi) *self,
			     const struct right *rights, unsigned int nr)
{
	struct rlimit none = { 0, 0 };
	struct peer *s = &self->s[1];
	unsigned int i, end;

	ASSERT_EQ(0, setrlimit(RLIMIT_RTPRIO, &none));
	ASSERT_EQ(0, actor_do(&s->a, do_lose_right));
	ASSERT_EQ(-EPERM, actor_do(&s->a, do_raise));
	for (i = 0; i < nr; i++) {
		for (end = 0; end < (rights[i].inherited ? NB_ENDS : 1U); end++) {
			sends_capped(_metadata, self, &rights[i], end, false);
			sends_capped(_metadata, self, &rights[i], end, true);
			ASSERT_TRUE(__test_passed(_metadata)) {
				TH_LOG("explicit %d: case %u, end %u", rights[i].prio, i, end);
			}
		}
	}
}

TEST_F_TIMEOUT(channel_pi, explicit_below_inherited, NT_TEST_TIMEOUT)
{
	static const struct right rights[] = {
		{ 0, 0, 80, 50, 50 }, { 0, 0, 80, 1, 1 }, { 0, 0, 80, 80, 80 },
		{ 30, 0, 80, 50, 50 }, { 30, 0, 80, 20, 20 }, { 0, 20, 80, 50, 50 },
	};

	if (geteuid())
		SKIP(return, "not root");
	sends_capped_all(_metadata, self, rights, ARRAY_LEN(rights));
}

TEST_F_TIMEOUT(channel_pi, explicit_above_inherited, NT_TEST_TIMEOUT)
{
	static const struct right rights[] = {
		{ 0, 0, 80, 90, 80 }, { 30, 0, 80, 90, 80 }, { 0, 20, 80, 90, 80 },
		{ 0, 70, 60, 90, 70 }, { 75, 70, 60, 90, 75 },
	};

	if (geteuid())
		SKIP(return, "not root");
	sends_capped_all(_metadata, self, rights, ARRAY_LEN(rights));
}

TEST_F_TIMEOUT(channel_pi, explicit_not_inherited, NT_TEST_TIMEOUT)
{
	static const struct right rights[] = {
		{ 0, 0, 0, 50, 0 }, { 0, 0, 0, 1, 0 }, { 0, 20, 0, 50, 20 },
	};

	if (geteuid())
		SKIP(return, "not root");
	sends_capped_all(_metadata, self, rights, ARRAY_LEN(rights));
}

TEST_F_TIMEOUT(channel_pi, explicit_above_own, NT_TEST_TIMEOUT)
{
	static const struct right rights[] = {
		{ 30, 0, 0, 60, 30 }, { 30, 0, 0, 30, 30 }, { 30, 20, 0, 60, 30 },
		{ 30, 40, 0, 60, 40 }, { 30, 0, 0, 20, 20 },
	};

	if (geteuid())
		SKIP(return, "not root");
	sends_capped_all(_metadata, self, rights, ARRAY_LEN(rights));
}

/* Inherited by a server, from the one whose request it has in hand. */
TEST_F_TIMEOUT(channel_pi, explicit_of_server, NT_TEST_TIMEOUT)
{
	static const struct { int prio, kept; } set[] = { { 50, 50 }, { 90, 80 } };
	struct peer *r = &self->r[1], *server = &self->r[0], *s = &self->s[0];
	struct rlimit none = { 0, 0 };
	unsigned int i;

	if (geteuid())
		SKIP(return, "not root");
	ASSERT_EQ(0, setrlimit(RLIMIT_RTPRIO, &none));
	ASSERT_EQ(0, actor_do(&server->a, do_lose_right));
	ASSERT_EQ(-EPERM, actor_do(&server->a, do_raise));
	for (i = 0; i < ARRAY_LEN(set); i++) {
		sends(s, self->ch[0], 80);
		takes(server, self->ch[0], s);
		receives(r, self->ch[1]);
		sends_pi(server, self->ch[1], 0, SCHED_FIFO, set[i].prio);
		gets(r, server);
		both_have(r, server, 80);
		interrupt(s);
		both_have(r, server, set[i].kept);
		replies(r, self->ch[1]);
		has(r, 0);
		sent(server);
		has(server, 0);
	}
}

static const struct { int policy, prio, lent; } changes[] = {
	{ SCHED_FIFO, 85, FIFO(85) }, { SCHED_FIFO, 60, FIFO(60) },
	{ SCHED_RR, 70, FIFO(70) }, { SCHED_OTHER, 0, NORMAL },
	{ SCHED_BATCH, 0, NORMAL }, { SCHED_RR, 10, FIFO(10) },
	{ SCHED_FIFO, 10, FIFO(10) }, { SCHED_IDLE, 0, NORMAL },
	{ SCHED_FIFO, 1, FIFO(1) }, { SCHED_FIFO, 50, FIFO(50) },
};

TEST_F_TIMEOUT(channel_pi, sender_changes_pending, NT_TEST_TIMEOUT)
{
	struct peer *r = &self->r[0], *s = &self->s[1];
	unsigned int i;

	gets_busy(r, self->ch[0], &self->s[0]);
	sends(s, self->ch[0], 80);
	lent(r, 80);
	for (i = 0; i < ARRAY_LEN(changes); i++) {
		ASSERT_EQ(0, set_sched(tid_of(s), changes[i].policy, changes[i].prio));
		EXPECT_EQ(changes[i].lent, prio_of(r));
		EXPECT_EQ(SCHED_OTHER, sched_getscheduler(tid_of(r)));
	}
	takes(r, self->ch[0], s);
	EXPECT_EQ(50U, r->req.prio);
	lent(r, 50);
	replies(r, self->ch[0]);
	lent_nothing(r);
	sent(s);
}

TEST_F_TIMEOUT(channel_pi, sender_changes_in_hand, NT_TEST_TIMEOUT)
{
	struct peer *r = &self->r[0], *s = &self->s[0];
	unsigned int i;

	sends(s, self->ch[0], 80);
	takes(r, self->ch[0], s);
	lent(r, 80);
	for (i = 0; i < ARRAY_LEN(changes); i++) {
		ASSERT_EQ(0, set_sched(tid_of(s), changes[i].policy, changes[i].prio));
		EXPECT_EQ(changes[i].lent, prio_of(r));
		EXPECT_EQ(SCHED_OTHER, sched_getscheduler(tid_of(r)));
	}
	replies(r, self->ch[0]);
	lent_nothing(r);
	sent(s);
}

/* What the user sets during a boost is what remains after it. */
TEST_F_TIMEOUT(channel_pi, receiver_changes, NT_TEST_TIMEOUT)
{
	static const struct { int policy, prio; } set[] = {
		{ SCHED_FIFO, 20 }, { SCHED_RR, 60 }, { SCHED_OTHER, 0 }, { SCHED_BATCH, 0 },
		{ SCHED_FIFO, 85 }, { SCHED_OTHER, 0 }, { SCHED_RR, 30 },
	};
	struct peer *r = &self->r[0];
	struct sched_param param;
	pid_t tid = tid_of(r);
	unsigned int i, j;

	/* lent by one in hand, and then by one that is pending */
	for (j = 0; j < 2; j++) {
		ASSERT_EQ(0, set_own(r, 0));
		sends(&self->s[0], self->ch[0], j ? 0 : 50);
		takes(r, self->ch[0], &self->s[0]);
		if (j)
			sends(&self->s[1], self->ch[0], 50);
		lent(r, 50);
		for (i = 0; i < ARRAY_LEN(set); i++) {
			ASSERT_EQ(0, set_sched(tid, set[i].policy, set[i].prio));
			lent(r, set[i].prio > 50 ? set[i].prio : 50);
			EXPECT_EQ(set[i].policy, sched_getscheduler(tid));
			EXPECT_EQ(0, sched_getparam(tid, &param));
			EXPECT_EQ(set[i].prio, param.sched_priority);
		}
		replies(r, self->ch[0]);
		sent(&self->s[0]);
		if (j) {
			lent(r, 50);
			takes(r, self->ch[0], &self->s[1]);
			replies(r, self->ch[0]);
			sent(&self->s[1]);
		}
		lent(r, 30);
		EXPECT_EQ(SCHED_RR, sched_getscheduler(tid));
	}
}

/* The same before it has run. None of them is higher than who keeps the CPU from it. */
TEST_F_TIMEOUT(channel_pi, changes_before_it_runs, NT_TEST_TIMEOUT)
{
	struct peer *r = &self->r[0], *s = &self->s[0];

	receives(r, self->ch[0]);
	sends_held(s, self->ch[0], 50);
	lent(r, 50);
	ASSERT_EQ(0, set_own(s, 30));
	lent(r, 30);
	ASSERT_EQ(0, set_own(s, 0));
	lent_nothing(r);
	ASSERT_EQ(0, set_own(s, 40));
	lent(r, 40);
	ASSERT_EQ(0, set_own(r, 45));
	lent(r, 45);
	ASSERT_EQ(0, set_own(r, 0));
	lent(r, 40);
	is_held(r);
	end_held();
	gets(r, s);
	EXPECT_EQ(40U, r->req.prio);
	lent(r, 40);
	replies(r, self->ch[0]);
	lent_nothing(r);
	sent(s);
}

/* Requests are served by priority, then by arrival. */
TEST_F_TIMEOUT(channel_pi, served_by_priority, NT_TEST_TIMEOUT)
{
	static const int prio[NB_SENDERS] = { 30, 50, 50, 40 };
	static const int turn[NB_SENDERS] = { 1, 2, 3, 0 };
	struct peer *r = &self->r[0];
	__u64 id[NB_SENDERS];
	unsigned int i;

	for (i = 0; i < NB_SENDERS; i++)
		sends(&self->s[i], self->ch[0], prio[i]);
	for (i = 0; i < NB_SENDERS; i++) {
		takes(r, self->ch[0], &self->s[turn[i]]);
		EXPECT_EQ((__u32)prio[turn[i]], r->req.prio);
		id[turn[i]] = r->req.entry_id;
		lent(r, 50);
	}
	for (i = 0; i < NB_SENDERS; i++) {
		replies_to(r, self->ch[0], id[turn[i]]);
		if (i < NB_SENDERS - 1)
			lent(r, prio[turn[i + 1]]);
		else
			lent_nothing(r);
		sent(&self->s[turn[i]]);
	}

	/* and one that is raised while it is pending goes ahead */
	for (i = 0; i < 3; i++)
		sends(&self->s[i], self->ch[0], 30 + 10 * i);
	ASSERT_EQ(0, set_own(&self->s[0], 60));
	ASSERT_EQ(0, set_own(&self->s[2], 0));
	lent(r, 60);
	for (i = 0; i < 3; i++) {
		takes(r, self->ch[0], &self->s[i]);
		replies(r, self->ch[0]);
		sent(&self->s[i]);
		if (!i)
			lent(r, 40);
		else
			lent_nothing(r);
	}
}

/* One request wakes one receiver: the first by priority. */
TEST_F_TIMEOUT(channel_pi, first_by_priority, NT_TEST_TIMEOUT)
{
	static const int prio[NB_RECEIVERS] = { 0, 10, 20 };
	unsigned int i, j;

	for (i = 0; i < NB_RECEIVERS; i++) {
		ASSERT_EQ(0, set_own(&self->r[i], prio[i]));
		receives(&self->r[i], self->ch[0]);
	}
	for (i = NB_RECEIVERS; i--; ) {
		sends_held(&self->s[i], self->ch[0], 50);
		is_held(&self->r[i]);
		lent(&self->r[i], 50);
		for (j = 0; j < i; j++)
			sleeps_on(&self->r[j]);
		end_held();
		gets(&self->r[i], &self->s[i]);
		for (j = 0; j < NB_RECEIVERS; j++) {
			if (j < i)
				sleeps_on(&self->r[j]);
			else
				lent(&self->r[j], 50);
		}
	}
	for (i = 0; i < NB_RECEIVERS; i++) {
		replies(&self->r[i], self->ch[0]);
		lent_nothing(&self->r[i]);
		sent(&self->s[i]);
	}
}

/* By what they have now, not by what they had when they fell asleep. */
TEST_F_TIMEOUT(channel_pi, first_by_changed_priority, NT_TEST_TIMEOUT)
{
	unsigned int i;

	for (i = 0; i < NB_RECEIVERS; i++) {
		ASSERT_EQ(0, set_own(&self->r[i], 30 - 10 * i));
		receives(&self->r[i], self->ch[0]);
	}
	ASSERT_EQ(0, set_own(&self->r[2], 40));
	ASSERT_EQ(0, set_own(&self->r[0], 0));
	sends(&self->s[0], self->ch[0], 50);
	gets(&self->r[2], &self->s[0]);
	sleeps_on(&self->r[0]);
	sleeps_on(&self->r[1]);
	sends(&self->s[1], self->ch[0], 50);
	gets(&self->r[1], &self->s[1]);
	sleeps_on(&self->r[0]);
	replies(&self->r[2], self->ch[0]);
	replies(&self->r[1], self->ch[0]);
	sent(&self->s[0]);
	sent(&self->s[1]);
}

TEST_F_TIMEOUT(channel_pi, fifo_among_equal, NT_TEST_TIMEOUT)
{
	static const int prio[] = { 0, 30 };
	unsigned int i, j, k;

	for (k = 0; k < ARRAY_LEN(prio); k++) {
		for (i = 0; i < NB_RECEIVERS; i++) {
			ASSERT_EQ(0, set_own(&self->r[i], prio[k]));
			receives(&self->r[i], self->ch[0]);
		}
		for (i = 0; i < NB_RECEIVERS; i++) {
			sends(&self->s[i], self->ch[0], 50);
			gets(&self->r[i], &self->s[i]);
			lent(&self->r[i], 50);
			for (j = i + 1; j < NB_RECEIVERS; j++)
				sleeps_on(&self->r[j]);
		}
		for (i = 0; i < NB_RECEIVERS; i++) {
			replies(&self->r[i], self->ch[0]);
			lent_nothing(&self->r[i]);
			sent(&self->s[i]);
		}
	}
}

/* The head of the queue is lent to all that are busy. */
TEST_F_TIMEOUT(channel_pi, busy, NT_TEST_TIMEOUT)
{
	struct peer *r = self->r, *s = self->s;
	unsigned int i;

	gets_busy(&r[0], self->ch[0], &s[0]);
	sends(&s[2], self->ch[0], 50);
	lent(&r[0], 50);
	interrupt(&s[2]);
	lent_nothing(&r[0]);

	/* two; the third one never received */
	gets_busy(&r[1], self->ch[0], &s[1]);
	lent_nothing(&r[0]);
	sends(&s[2], self->ch[0], 50);
	for (i = 0; i < 2; i++)
		lent(&r[i], 50);
	lent_nothing(&r[2]);
	/* a higher head, which leaves by a signal */
	sends(&s[3], self->ch[0], 60);
	for (i = 0; i < 2; i++)
		lent(&r[i], 60);
	interrupt(&s[3]);
	for (i = 0; i < 2; i++)
		lent(&r[i], 50);
	/* a lower one does not matter, until it is the head */
	sends(&s[3], self->ch[0], 40);
	for (i = 0; i < 2; i++)
		lent(&r[i], 50);
	interrupt(&s[2]);
	for (i = 0; i < 2; i++)
		lent(&r[i], 40);
	lent_nothing(&r[2]);
	sends(&s[2], self->ch[0], 70);
	for (i = 0; i < 2; i++)
		lent(&r[i], 70);

	/* who takes it has it alone, the other one has the next */
	replies(&r[0], self->ch[0]);
	sent(&s[0]);
	for (i = 0; i < 2; i++)
		lent(&r[i], 70);
	takes(&r[0], self->ch[0], &s[2]);
	lent(&r[0], 70);
	lent(&r[1], 40);
	replies(&r[1], self->ch[0]);
	sent(&s[1]);
	lent(&r[1], 40);
	takes(&r[1], self->ch[0], &s[3]);
	lent(&r[0], 70);
	lent(&r[1], 40);
	replies(&r[0], self->ch[0]);
	lent_nothing(&r[0]);
	lent(&r[1], 40);
	replies(&r[1], self->ch[0]);
	lent_nothing(&r[1]);
	sent(&s[2]);
	sent(&s[3]);
}

TEST_F_TIMEOUT(channel_pi, busy_while_another_sleeps, NT_TEST_TIMEOUT)
{
	struct peer *r = self->r, *s = self->s;

	gets_busy(&r[0], self->ch[0], &s[0]);
	receives(&r[1], self->ch[0]);
	lent_nothing(&r[0]);
	lent_nothing(&r[1]);
	sends(&s[1], self->ch[0], 50);
	gets(&r[1], &s[1]);
	lent_nothing(&r[0]);
	lent(&r[1], 50);
	/* now nobody sleeps */
	sends(&s[2], self->ch[0], 60);
	lent(&r[0], 60);
	lent(&r[1], 60);
	/* somebody comes who never received */
	takes(&r[2], self->ch[0], &s[2]);
	lent_nothing(&r[0]);
	lent(&r[1], 50);
	lent(&r[2], 60);
	replies(&r[2], self->ch[0]);
	replies(&r[1], self->ch[0]);
	replies(&r[0], self->ch[0]);
	sent(&s[0]);
	sent(&s[1]);
	sent(&s[2]);
}

/* A request in hand whose sender leaves. */
TEST_F_TIMEOUT(channel_pi, in_hand_withdrawn, NT_TEST_TIMEOUT)
{
	struct peer *r = &self->r[0];

	sends(&self->s[0], self->ch[0], 60);
	takes(r, self->ch[0], &self->s[0]);
	sends(&self->s[1], self->ch[0], 50);
	lent(r, 60);
	interrupt(&self->s[0]);
	lent(r, 50);
	r->reply = r->req.entry_id;
	EXPECT_EQ(-ENOENT, actor_do(&r->a, do_reply));
	lent(r, 50);
	takes(r, self->ch[0], &self->s[1]);
	lent(r, 50);
	interrupt(&self->s[1]);
	lent_nothing(r);
}

static int seen[2 * NB_SENDERS];

/* Reply and take the next, looking at the own priority in between. */
static int do_serve(struct actor *a)
{
	unsigned int i, before = atomic_load(&spin_count);
	struct peer *p = actor_peer(a);
	int ret;

	for (i = 0; i < NB_SENDERS - 1; i++) {
		ret = ch_reply(a->objs[0], p->req.entry_id);
		seen[2 * i] = nt_task_prio(getpid(), tid_of(p));
		if (!ret)
			ret = ch_recv2(a->objs[0], &p->req);
		seen[2 * i + 1] = nt_task_prio(getpid(), tid_of(p));
		if (ret)
			return ret;
	}
	return atomic_load(&spin_count) != before;
}

/*
 * There is no instant between two requests at which a receiver is below the head of
 * the queue: or else who only waits for that would run.
 */
TEST_F_TIMEOUT(channel_pi, between_requests, NT_TEST_TIMEOUT)
{
	static const int prio[NB_SENDERS] = { 60, 50, 48, 46 };
	struct peer *r = &self->r[0];
	unsigned int i;

	for (i = 0; i < NB_SENDERS; i++)
		sends(&self->s[i], self->ch[0], prio[i]);
	takes(r, self->ch[0], &self->s[0]);
	lent(r, 60);
	ASSERT_EQ(0, set_own(&self->spinner, 45));
	r->a.objs[0] = self->ch[0];
	atomic_store(&spin_stop, 0);
	actor_begin(&self->spinner.a, do_spin);
	EXPECT_EQ(0, actor_do(&r->a, do_serve));
	end_held();
	for (i = 0; i < 2 * (NB_SENDERS - 1); i++) {
		EXPECT_EQ(FIFO(prio[i / 2 + 1]), seen[i]) {
			TH_LOG("after call %u", i + 1);
		}
	}
	check_req(r, &self->s[NB_SENDERS - 1]);
	lent(r, 46);
	replies(r, self->ch[0]);
	lent_nothing(r);
	for (i = 0; i < NB_SENDERS; i++)
		sent(&self->s[i]);
}

/* Two in hand: of one or of two channels, the higher one first or last to be replied to. */
TEST_F_TIMEOUT(channel_pi, several_in_hand, NT_TEST_TIMEOUT)
{
	static const int prio[2] = { 30, 60 };
	struct peer *r = &self->r[0];
	unsigned int i, j;

	for (i = 0; i < 8; i++) {
		int ch[2] = { self->ch[0], self->ch[i & 1] };
		unsigned int taken = !!(i & 2), replied = !!(i & 4);	/* the first */
		__u64 id[2];

		for (j = 0; j < 2; j++) {
			unsigned int nr = j ? !taken : taken;

			sends(&self->s[nr], ch[nr], prio[nr]);
			try_takes(r, ch[nr], &self->s[nr]);
			id[nr] = r->req.entry_id;
			lent(r, j ? 60 : prio[nr]);
		}
		replies_to(r, ch[replied], id[replied]);
		sent(&self->s[replied]);
		EXPECT_FALSE(actor_done(&self->s[!replied].a));
		lent(r, prio[!replied]);
		replies_to(r, ch[!replied], id[!replied]);
		sent(&self->s[!replied]);
		lent_nothing(r);
	}
}

/* In hand of one channel, and pending on the other one. */
TEST_F_TIMEOUT(channel_pi, two_channels, NT_TEST_TIMEOUT)
{
	struct peer *r = self->r, *s = self->s;
	__u64 id;

	/* not yet a receiver of the second */
	sends(&s[0], self->ch[0], 30);
	takes(&r[0], self->ch[0], &s[0]);
	id = r[0].req.entry_id;
	sends(&s[1], self->ch[1], 60);
	lent(&r[0], 30);
	try_takes(&r[0], self->ch[1], &s[1]);
	lent(&r[0], 60);
	replies(&r[0], self->ch[1]);
	sent(&s[1]);
	lent(&r[0], 30);
	/* but now */
	sends(&s[1], self->ch[1], 50);
	lent(&r[0], 50);
	sends(&s[2], self->ch[0], 60);
	lent(&r[0], 60);
	replies_to(&r[0], self->ch[0], id);
	sent(&s[0]);
	lent(&r[0], 60);
	/* somebody else takes it */
	takes(&r[1], self->ch[0], &s[2]);
	lent(&r[0], 50);
	lent(&r[1], 60);
	takes(&r[0], self->ch[1], &s[1]);
	lent(&r[0], 50);
	replies(&r[0], self->ch[1]);
	replies(&r[1], self->ch[0]);
	sent(&s[1]);
	sent(&s[2]);
	lent_nothing(&r[0]);
	lent_nothing(&r[1]);
}

/*
 * One that is busy takes what another one was woken for, which sleeps on, and gets the
 * next.
 */
TEST_F_TIMEOUT(channel_pi, stolen, NT_TEST_TIMEOUT)
{
	struct peer *r = &self->r[0], *thief = &self->r[1], *s = self->s;
	__u64 id;

	gets_busy(thief, self->ch[0], &s[0]);
	id = thief->req.entry_id;
	receives(r, self->ch[0]);
	sends_held(&s[1], self->ch[0], 50);
	is_held(r);
	lent(r, 50);
	ASSERT_EQ(0, set_own(thief, 60));
	try_takes(thief, self->ch[0], &s[1]);
	is_held(r);
	lent_nothing(r);
	ASSERT_EQ(0, set_own(thief, 0));
	lent(thief, 50);
	end_held();
	sleeps_on(r);
	lent(thief, 50);
	replies(thief, self->ch[0]);
	sent(&s[1]);
	lent_nothing(thief);

	sends(&s[2], self->ch[0], 60);
	gets(r, &s[2]);
	lent(r, 60);
	lent_nothing(thief);
	replies(r, self->ch[0]);
	sent(&s[2]);
	replies_to(thief, self->ch[0], id);
	sent(&s[0]);
}

/* A higher request comes before it has run: it has that one, and takes it. */
TEST_F_TIMEOUT(channel_pi, higher_before_it_runs, NT_TEST_TIMEOUT)
{
	struct peer *r = &self->r[0];

	receives(r, self->ch[0]);
	sends_held(&self->s[0], self->ch[0], 50);
	is_held(r);
	lent(r, 50);
	sends(&self->s[1], self->ch[0], 60);
	gets(r, &self->s[1]);
	lent(r, 60);
	end_held();
	replies(r, self->ch[0]);
	lent(r, 50);
	sent(&self->s[1]);
	takes(r, self->ch[0], &self->s[0]);
	lent(r, 50);
	replies(r, self->ch[0]);
	lent_nothing(r);
	sent(&self->s[0]);
}

/* A woken one that has a signal either takes the request or passes the wake-up on. */
TEST_F_TIMEOUT(channel_pi, passed_on, NT_TEST_TIMEOUT)
{
	struct peer *first = &self->r[0], *next = &self->r[1], *s = &self->s[0];
	int ret;

	ASSERT_EQ(0, set_own(first, 20));
	receives(first, self->ch[0]);
	receives(next, self->ch[0]);
	sends_held(s, self->ch[0], 50);
	is_held(first);
	lent(first, 50);
	sleeps_on(next);
	ASSERT_EQ(0, kick(first));
	end_held();
	ret = actor_end(&first->a);
	if (ret) {
		ASSERT_EQ(-EINTR, ret);
		gets(next, s);
		lent_nothing(first);
		lent(next, 50);
		replies(next, self->ch[0]);
		lent_nothing(next);
	} else {
		check_req(first, s);
		lent(first, 50);
		sleeps_on(next);
		replies(first, self->ch[0]);
		lent_nothing(first);
	}
	sent(s);
}

/* The same when there is nobody else: a receiver it remains. */
TEST_F_TIMEOUT(channel_pi, passed_on_to_nobody, NT_TEST_TIMEOUT)
{
	struct peer *r = &self->r[0], *s = &self->s[0];
	int ret;

	receives(r, self->ch[0]);
	sends_held(s, self->ch[0], 50);
	is_held(r);
	lent(r, 50);
	ASSERT_EQ(0, kick(r));
	end_held();
	ret = actor_end(&r->a);
	lent(r, 50);
	if (ret) {
		ASSERT_EQ(-EINTR, ret);
		takes(r, self->ch[0], s);
		lent(r, 50);
	}
	replies(r, self->ch[0]);
	lent_nothing(r);
	sent(s);
}

/* Who once slept in RECV* is a receiver, also without a request. */
TEST_F_TIMEOUT(channel_pi, receiver_by_recv, NT_TEST_TIMEOUT)
{
	struct peer *r = &self->r[0], *s = &self->s[0];

	receives(r, self->ch[0]);
	interrupt(r);
	lent_nothing(r);
	sends(s, self->ch[0], 50);
	lent(r, 50);
	takes(r, self->ch[0], s);
	replies(r, self->ch[0]);
	lent_nothing(r);
	sent(s);
}

/* TRY_RECV2 makes a receiver only when it returns a request. */
TEST_F_TIMEOUT(channel_pi, receiver_by_try_recv, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_recv2_args in_hand;
	struct peer *r = &self->r[0], *s = self->s;

	r->a.objs[0] = self->ch[0];
	ASSERT_EQ(-EAGAIN, actor_do(&r->a, do_try_recv));
	sends(&s[0], self->ch[0], 50);
	lent_nothing(r);
	try_takes(r, self->ch[0], &s[0]);
	lent(r, 50);
	replies(r, self->ch[0]);
	sent(&s[0]);
	lent_nothing(r);
	sends(&s[1], self->ch[0], 60);
	lent(r, 60);
	try_takes(r, self->ch[0], &s[1]);
	/* one that finds nothing does not end it either */
	in_hand = r->req;
	r->a.objs[0] = self->ch[0];
	ASSERT_EQ(-EAGAIN, actor_do(&r->a, do_try_recv));
	r->req = in_hand;
	replies(r, self->ch[0]);
	sent(&s[1]);
	lent_nothing(r);
	sends(&s[2], self->ch[0], 50);
	lent(r, 50);
	try_takes(r, self->ch[0], &s[2]);
	replies(r, self->ch[0]);
	sent(&s[2]);
}

/* A receiver is none any more when it sleeps elsewhere without a request in hand. */
TEST_F_TIMEOUT(channel_pi, receiver_sleeps_elsewhere, NT_TEST_TIMEOUT)
{
	struct peer *r = &self->r[0], *s = self->s;

	gets_busy(r, self->ch[0], &s[0]);
	replies(r, self->ch[0]);
	sent(&s[0]);

	/* it does not sleep */
	ASSERT_EQ(0, nt_event(self->event, NTSYNC_IOC_EVENT_SET, NULL));
	acquires(&r->a, self->event);
	sends(&s[0], self->ch[0], 50);
	lent(r, 50);
	interrupt(&s[0]);
	lent_nothing(r);

	/* now it does */
	waits_for(&r->a, self->event);
	sends(&s[0], self->ch[0], 50);
	sleeps_on(r);
	ASSERT_EQ(0, nt_event(self->event, NTSYNC_IOC_EVENT_SET, NULL));
	ASSERT_EQ(0, actor_end(&r->a));
	lent_nothing(r);
	takes(r, self->ch[0], &s[0]);
	lent(r, 50);

	/* with a request in hand that changes nothing */
	waits_for(&r->a, self->event);
	lent(r, 50);
	sends(&s[1], self->ch[0], 60);
	lent(r, 60);
	interrupt(&s[1]);
	lent(r, 50);
	sends(&s[1], self->ch[0], 70);
	ASSERT_EQ(0, nt_event(self->event, NTSYNC_IOC_EVENT_SET, NULL));
	ASSERT_EQ(0, actor_end(&r->a));
	lent(r, 70);
	replies(r, self->ch[0]);
	sent(&s[0]);
	lent(r, 70);

	/* the loan of one that is pending ends with that */
	waits_for(&r->a, self->event);
	sleeps_on(r);
	ASSERT_EQ(0, nt_event(self->event, NTSYNC_IOC_EVENT_SET, NULL));
	ASSERT_EQ(0, actor_end(&r->a));
	lent_nothing(r);
	takes(r, self->ch[0], &s[1]);
	lent(r, 70);
	replies(r, self->ch[0]);
	sent(&s[1]);
	lent_nothing(r);

	/* a wait for another channel is one, too */
	receives(r, self->ch[1]);
	sends(&s[0], self->ch[0], 50);
	sleeps_on(r);
	sends(&s[1], self->ch[1], 40);
	gets(r, &s[1]);
	lent(r, 40);
	takes(&self->t, self->ch[0], &s[0]);
	replies(r, self->ch[1]);
	replies(&self->t, self->ch[0]);
	sent(&s[0]);
	sent(&s[1]);
}

/* The loan ends on the one that took the request, whoever replies. */
TEST_F_TIMEOUT(channel_pi, replied_by_another, NT_TEST_TIMEOUT)
{
	struct peer *r = &self->r[0], *t = &self->t;

	sends(&self->s[0], self->ch[0], 50);
	takes(r, self->ch[0], &self->s[0]);
	lent(r, 50);
	lent_nothing(t);
	replies_to(t, self->ch[0], r->req.entry_id);
	lent_nothing(r);
	lent_nothing(t);
	sent(&self->s[0]);

	/* while it sleeps */
	sends(&self->s[0], self->ch[0], 50);
	takes(r, self->ch[0], &self->s[0]);
	waits_for(&r->a, self->event);
	lent(r, 50);
	replies_to(t, self->ch[0], r->req.entry_id);
	sleeps_on(r);
	sent(&self->s[0]);
	/* and who replied is no receiver */
	sends(&self->s[1], self->ch[0], 50);
	lent_nothing(t);
	interrupt(&self->s[1]);
	ASSERT_EQ(0, nt_event(self->event, NTSYNC_IOC_EVENT_SET, NULL));
	ASSERT_EQ(0, actor_end(&r->a));
}

/* A sender lends what it was lent. */
TEST_F_TIMEOUT(channel_pi, sender_owns_mutex, NT_TEST_TIMEOUT)
{
	struct peer *r = &self->r[0], *s = &self->s[1], *t = &self->t;
	unsigned int i;

	ASSERT_EQ(0, set_own(t, 70));
	acquires(&s->a, self->mutex);
	gets_busy(r, self->ch[0], &self->s[0]);
	sends(s, self->ch[0], 0);
	/* pending, and in hand */
	for (i = 0; i < 2; i++) {
		if (i) {
			takes(r, self->ch[0], s);
			EXPECT_EQ(0U, r->req.prio);
		}
		lent_nothing(r);
		waits_for(&t->a, self->mutex);
		lent(s, 70);
		lent(r, 70);
		ASSERT_EQ(0, set_own(t, 60));
		lent(s, 60);
		lent(r, 60);
		ASSERT_EQ(0, set_own(t, 70));
		interrupt(t);
		lent_nothing(s);
		lent_nothing(r);
	}
	waits_for(&t->a, self->mutex);
	lent(r, 70);
	replies(r, self->ch[0]);
	lent_nothing(r);
	sent(s);
	lent(s, 70);
	releases(&s->a, self->mutex);
	lent_nothing(s);
	ASSERT_EQ(0, actor_end(&t->a));

	/* lent before it sends */
	ASSERT_EQ(0, set_own(s, 0));
	releases(&t->a, self->mutex);
	acquires(&s->a, self->mutex);
	waits_for(&t->a, self->mutex);
	sends(s, self->ch[0], 0);
	lent(r, 70);
	takes(r, self->ch[0], s);
	EXPECT_EQ(70U, r->req.prio);
	interrupt(t);
	lent_nothing(r);
	replies(r, self->ch[0]);
	sent(s);
}

/* What a receiver is lent goes on to whom it waits for. */
TEST_F_TIMEOUT(channel_pi, receiver_waits_for_mutex, NT_TEST_TIMEOUT)
{
	struct peer *r = &self->r[0], *owner = &self->t, *s = self->s;

	acquires(&owner->a, self->mutex);
	gets_busy(r, self->ch[0], &s[0]);
	waits_for(&r->a, self->mutex);
	lent_nothing(owner);
	/* in hand */
	ASSERT_EQ(0, set_own(&s[0], 50));
	lent(r, 50);
	lent(owner, 50);
	/* and pending */
	sends(&s[1], self->ch[0], 60);
	lent(r, 60);
	lent(owner, 60);
	ASSERT_EQ(0, set_own(&s[1], 70));
	lent(r, 70);
	lent(owner, 70);
	interrupt(&s[1]);
	lent(r, 50);
	lent(owner, 50);
	ASSERT_EQ(0, set_own(&s[0], 0));
	lent_nothing(r);
	lent_nothing(owner);
	ASSERT_EQ(0, set_own(&s[0], 40));
	lent(r, 40);
	lent(owner, 40);
	releases(&owner->a, self->mutex);
	lent_nothing(owner);
	ASSERT_EQ(0, actor_end(&r->a));
	lent(r, 40);
	replies(r, self->ch[0]);
	lent_nothing(r);
	sent(&s[0]);
}

/* A server that is the client of another one. */
TEST_F_TIMEOUT(channel_pi, server_of_server, NT_TEST_TIMEOUT)
{
	struct peer *r = self->r, *s = self->s;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		sends(&s[0], self->ch[0], 50);
		takes(&r[0], self->ch[0], &s[0]);
		receives(&r[1], self->ch[1]);
		sends(&r[0], self->ch[1], 0);
		gets(&r[1], &r[0]);
		EXPECT_EQ(50U, r[1].req.prio);
		lent(&r[0], 50);
		lent(&r[1], 50);
		ASSERT_EQ(0, set_own(&s[0], 60));
		lent(&r[0], 60);
		lent(&r[1], 60);
		ASSERT_EQ(0, set_own(&s[0], 0));
		lent_nothing(&r[0]);
		lent_nothing(&r[1]);
		ASSERT_EQ(0, set_own(&s[0], 40));
		lent(&r[0], 40);
		lent(&r[1], 40);
		/* the first is busy, and so is the second */
		sends(&s[1], self->ch[0], 70);
		lent(&r[0], 70);
		lent(&r[1], 70);
		interrupt(&s[1]);
		lent(&r[0], 40);
		lent(&r[1], 40);
		if (i)
			break;
		replies(&r[1], self->ch[1]);
		lent_nothing(&r[1]);
		sent(&r[0]);
		lent(&r[0], 40);
		replies(&r[0], self->ch[0]);
		lent_nothing(&r[0]);
		sent(&s[0]);
	}

	/* it is withdrawn in front */
	interrupt(&s[0]);
	lent_nothing(&r[0]);
	lent_nothing(&r[1]);
	replies(&r[1], self->ch[1]);
	sent(&r[0]);
	r[0].a.objs[0] = self->ch[0];
	r[0].reply = r[0].req.entry_id;
	EXPECT_EQ(-ENOENT, actor_do(&r[0].a, do_reply));
}

/* Who has a deadline must be allowed on all CPUs, and who inherits one. */
static int unpin(struct peer *p)
{
	cpu_set_t set;
	int i;

	CPU_ZERO(&set);
	for (i = 0; i < CPU_SETSIZE; i++)
		CPU_SET(i, &set);
	return sched_setaffinity(tid_of(p), sizeof(set), &set) ? -errno : 0;
}

/* By itself: a deadline thread that sleeps would leave its bandwidth behind. */
static int do_fifo_40(struct actor *a)
{
	(void)a;
	return set_sched(0, SCHED_FIFO, 40);
}

TEST_F_TIMEOUT(channel_pi, deadline_sender, NT_TEST_TIMEOUT)
{
	struct peer *r = &self->r[0], *s = &self->s[0];
	pid_t tid = tid_of(r);

	ASSERT_EQ(0, unpin(r));
	ASSERT_EQ(0, unpin(s));
	gets_busy(r, self->ch[0], &self->s[1]);
	s->a.objs[0] = self->ch[0];
	ASSERT_EQ(0, set_deadline(tid_of(s)));
	actor_begin(&s->a, do_send);
	ASSERT_TRUE(actor_asleep(&s->a));
	/* pending */
	EXPECT_EQ(DEADLINE, prio_of(r));
	EXPECT_EQ(SCHED_OTHER, sched_getscheduler(tid));
	sends(&self->s[2], self->ch[0], 60);
	EXPECT_EQ(DEADLINE, prio_of(r));
	takes(r, self->ch[0], s);
	/* in hand */
	EXPECT_EQ(DEADLINE, prio_of(r));
	ASSERT_EQ(0, set_sched(tid, SCHED_FIFO, 20));
	EXPECT_EQ(DEADLINE, prio_of(r));
	replies(r, self->ch[0]);
	lent(r, 60);
	EXPECT_EQ(SCHED_FIFO, sched_getscheduler(tid));
	sent(s);
	ASSERT_EQ(0, actor_do(&s->a, do_fifo_40));
	takes(r, self->ch[0], &self->s[2]);
	replies(r, self->ch[0]);
	lent(r, 20);
	sent(&self->s[2]);
}

static int do_send_many(struct actor *a)
{
	int i, ret = 0;

	for (i = 0; i < NB_TRIPS && !ret; i++)
		ret = do_send(a);
	return ret;
}

static int do_serve_many(struct actor *a)
{
	struct peer *p = actor_peer(a);
	int i, ret = 0;

	for (i = 0; i < 2 * NB_TRIPS && !ret; i++) {
		ret = do_recv(a);
		if (!ret)
			ret = ch_reply(a->objs[0], p->req.entry_id);
	}
	return ret;
}

/* Nice values are not inherited, and do nothing to the scheduler. */
TEST_F_TIMEOUT(channel_pi, nice, NT_TEST_TIMEOUT)
{
	struct peer *r = &self->r[0], *s = self->s;
	char before[32] = "", after[32] = "";
	unsigned int i;

	ASSERT_EQ(0, setpriority(PRIO_PROCESS, tid_of(&s[2]), -15));
	EXPECT_TRUE(nt_read_file(ADJUSTED, before, sizeof(before)));

	/* who sleeps, is busy with one in hand, and has one pending */
	receives(r, self->ch[0]);
	for (i = 0; i < 3; i++) {
		s[i].a.objs[0] = self->ch[0];
		s[i].send.policy = s[i].send.prio = 0;
		actor_begin(&s[i].a, do_send);
		ASSERT_TRUE(actor_asleep(&s[i].a));
		if (!i)
			gets(r, &s[0]);
		EXPECT_EQ(NORMAL, prio_of(r));
	}
	EXPECT_EQ(0U, r->req.prio);
	replies(r, self->ch[0]);
	/* by arrival */
	for (i = 1; i < 3; i++) {
		takes(r, self->ch[0], &s[i]);
		EXPECT_EQ(0U, r->req.prio);
		EXPECT_EQ(NORMAL, prio_of(r));
		replies(r, self->ch[0]);
	}
	for (i = 0; i < 3; i++)
		sent(&s[i]);

	actor_begin(&r->a, do_serve_many);
	for (i = 1; i < 3; i++)
		actor_begin(&s[i].a, do_send_many);
	for (i = 1; i < 3; i++)
		sent(&s[i]);
	ASSERT_EQ(0, actor_end(&r->a));
	EXPECT_EQ(NORMAL, prio_of(r));
	EXPECT_TRUE(nt_read_file(ADJUSTED, after, sizeof(after)));
	EXPECT_EQ(0, strcmp(before, after));

	/* and the counter does count */
	sends(&s[0], self->ch[0], 10);
	lent(r, 10);
	EXPECT_TRUE(nt_read_file(ADJUSTED, after, sizeof(after)));
	EXPECT_NE(0, strcmp(before, after));
	takes(r, self->ch[0], &s[0]);
	replies(r, self->ch[0]);
	sent(&s[0]);
}

/* One request boosts as many as are busy. */
TEST_F_TIMEOUT(channel_pi, many_busy, NT_TEST_TIMEOUT)
{
	struct peer *r = calloc(NB_BUSY, sizeof(*r)), *s = calloc(NB_BUSY, sizeof(*s));
	struct peer *high = &self->s[0];
	unsigned int i, j;

	ASSERT_TRUE(r && s);
	for (i = 0; i < NB_BUSY; i++) {
		ASSERT_EQ(0, start(&r[i], self->dev, 100 + i));
		ASSERT_EQ(0, start(&s[i], self->dev, 200 + i));
		gets_busy(&r[i], self->ch[0], &s[i]);
	}
	for (j = 0; j < 3; j++) {
		static const int prio[] = { 60, 0, 50 };

		if (!j)
			sends(high, self->ch[0], prio[j]);
		ASSERT_EQ(0, set_own(high, prio[j]));
		for (i = 0; i < NB_BUSY; i++) {
			ASSERT_EQ(prio[j] ? FIFO(prio[j]) : NORMAL, prio_of(&r[i])) {
				TH_LOG("receiver %u", i);
			}
		}
	}

	/* they reply and remain receivers, until one of them takes it */
	for (i = 0; i < NB_BUSY; i += 2) {
		replies(&r[i], self->ch[0]);
		sent(&s[i]);
		lent(&r[i], 50);
	}
	takes(&r[NB_BUSY / 2], self->ch[0], high);
	for (i = 0; i < NB_BUSY; i++) {
		ASSERT_EQ(i == NB_BUSY / 2 ? FIFO(50) : NORMAL, prio_of(&r[i])) {
			TH_LOG("receiver %u", i);
		}
	}
	replies(&r[NB_BUSY / 2], self->ch[0]);
	sent(high);
	for (i = 1; i < NB_BUSY; i += 2) {
		replies(&r[i], self->ch[0]);
		sent(&s[i]);
	}
	for (i = 0; i < NB_BUSY; i++) {
		EXPECT_EQ(NORMAL, prio_of(&r[i]));
		actor_stop(&r[i].a);
		actor_stop(&s[i].a);
	}
	free(r);
	free(s);
}

/*
 * A sender that owns what its receiver waits for: a deadlock by way of a request, which somebody
 * joins and leaves; with the request taken, and with one that no receiver can take yet.
 */
TEST_F_TIMEOUT(channel_pi, deadlock, NT_TEST_TIMEOUT)
{
	struct peer *r = &self->r[0], *s = &self->s[0], *other = &self->s[1], *t = &self->t;
	int pending;

	for (pending = 0; pending < 2; pending++) {
		s->a.objs[0] = self->mutex;
		s->a.nb_objs = 1;
		ASSERT_EQ(0, set_own(s, 0));
		ASSERT_EQ(0, actor_do(&s->a, do_wait));
		if (pending) {
			gets_busy(r, self->ch[0], other);
			sends(s, self->ch[0], 0);
		} else {
			receives(r, self->ch[0]);
			sends(s, self->ch[0], 0);
			gets(r, s);
		}
		waits_for(&r->a, self->mutex);
		lent_nothing(s);
		lent_nothing(r);

		ASSERT_EQ(0, set_own(t, 70));
		waits_for(&t->a, self->mutex);
		lent(s, 70);
		lent(r, 70);
		ASSERT_EQ(0, set_own(t, 30));
		lent(s, 30);
		lent(r, 30);
		interrupt(t);
		lent_nothing(s);
		lent_nothing(r);

		/* A member has something itself, and has it no more. */
		ASSERT_EQ(0, set_own(s, 40));
		lent(r, 40);
		lent(s, 40);
		ASSERT_EQ(0, set_own(s, 0));
		lent_nothing(s);
		lent_nothing(r);
		ASSERT_EQ(0, set_own(r, 45));
		lent(s, 45);
		ASSERT_EQ(0, set_own(r, 0));
		lent_nothing(s);
		lent_nothing(r);

		/* It is undone where the receiver gives up. */
		interrupt(r);
		if (pending) {
			replies(r, self->ch[0]);
			sent(other);
			takes(r, self->ch[0], s);
		}
		replies(r, self->ch[0]);
		sent(s);
		s->a.objs[0] = self->mutex;
		ASSERT_EQ(0, actor_do(&s->a, do_unlock));
	}
}

/* A busy receiver sends to its own channel, of which it is the only one: never its own donor. */
TEST_F_TIMEOUT(channel_pi, sends_to_itself, NT_TEST_TIMEOUT)
{
	struct peer *r = &self->r[0], *s = &self->s[0], *high = &self->s[1];

	gets_busy(r, self->ch[0], s);
	r->a.objs[0] = self->ch[0];
	r->send.policy = r->send.prio = 0;
	actor_begin(&r->a, do_send);
	ASSERT_TRUE(actor_asleep(&r->a));
	lent_nothing(r);
	ASSERT_EQ(0, set_own(r, 40));
	lent(r, 40);
	ASSERT_EQ(0, set_own(r, 0));
	EXPECT_EQ(NORMAL, prio_of(r));
	sends(high, self->ch[0], 60);
	lent(r, 60);
	interrupt(high);
	EXPECT_EQ(NORMAL, prio_of(r));
	interrupt(r);
	EXPECT_EQ(NORMAL, prio_of(r));
	replies(r, self->ch[0]);
	sent(s);
}

TEST_HARNESS_MAIN
