// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Priority inheritance where what is promised meets something else: deadlocks that
 * futexes would refuse, owners in the middle that go away, waits that are over and have
 * not left the queue, the order of deadlines, and locks inside the kernel.
 *
 * Everything runs on the CPU of the controlling thread and below it, but for who has or
 * inherits a deadline. Evidence is the effective priority and the order of events.
 */
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include "pi_test.h"

#define HOLD_VAR	"NTSYNC_PI_HOLD"

/* A program that is executed by a test only has to stay until it is killed. */
static __attribute__((constructor)) void hold(void)
{
	if (getenv(HOLD_VAR)) {
		for (;;)
			pause();
	}
}

static int tid_of(struct actor *a)
{
	return atomic_load(&a->tid);
}

static int unpin(pid_t tid)
{
	cpu_set_t set;
	int i;

	CPU_ZERO(&set);
	for (i = 0; i < CPU_SETSIZE; i++)
		CPU_SET(i, &set);
	return sched_setaffinity(tid, sizeof(set), &set) ? -errno : 0;
}

/* SCHED_DEADLINE with a tenth of a period to run in. */
static int set_period(pid_t tid, __u64 period)
{
	struct nt_sched_attr attr = {
		.size = sizeof(attr),
		.policy = SCHED_DEADLINE,
		.runtime = period / 10,
		.deadline = period,
		.period = period,
	};

	return syscall(SYS_sched_setattr, tid, &attr, 0) ? -errno : 0;
}

static bool has_state(struct actor *a, char state)
{
	return nt_task_state(getpid(), tid_of(a)) == state;
}

/* The waiter does not wait any more, with this as the result. */
#define leaves(a) do {							\
	pthread_kill((a)->thread, SIGUSR1);				\
	EXPECT_EQ(-EINTR, actor_end(a));				\
} while (0)

FIXTURE(rules) {
	int dev;
	int mutex[2];
	struct actor owner[2];
	struct actor waiter[2];
};

FIXTURE_SETUP(rules)
{
	unsigned int i;

	begin_pi(self->dev);
	for (i = 0; i < 2; i++) {
		self->mutex[i] = nt_create_mutex(self->dev, 0, 0);
		ASSERT_LE(0, self->mutex[i]);
		self->owner[i].id = 1 + i;
		self->owner[i].timeout = NO_TIMEOUT;
		self->waiter[i].id = 11 + i;
		self->waiter[i].timeout = NO_TIMEOUT;
		ASSERT_EQ(0, actor_start(&self->owner[i], self->dev, 0));
		ASSERT_EQ(0, actor_start(&self->waiter[i], self->dev, 80));
	}
}

FIXTURE_TEARDOWN(rules)
{
	/* The process ends with all others in their waits. */
	close(self->dev);
}

/*
 * Whose signal has come or whose timeout is over still waits until it runs and leaves: it
 * lends, and what is released before that is its own.
 */
TEST_F_TIMEOUT(rules, signal_before_release, NT_TEST_TIMEOUT)
{
	struct actor *owner = &self->owner[0], *waiter = &self->waiter[0];

	acquires(owner, self->mutex[0]);
	waits_for(waiter, self->mutex[0]);
	pthread_kill(waiter->thread, SIGUSR1);
	ASSERT_TRUE(has_state(waiter, 'R'));
	EXPECT_EQ(FIFO(80), actor_prio(owner));
	ASSERT_EQ(0, nt_unlock_mutex(self->mutex[0], owner->id, NULL));
	EXPECT_EQ(NORMAL, actor_prio(owner));
	check_mutex(self->mutex[0], waiter->id, 1);
	ASSERT_FALSE(actor_done(waiter));
	EXPECT_EQ(0, actor_end(waiter));
}

static int do_nothing(struct actor *a)
{
	(void)a;
	return 0;
}

TEST_F_TIMEOUT(rules, timeout_before_release, NT_TEST_TIMEOUT)
{
	struct actor *owner = &self->owner[0], *waiter = &self->waiter[0];
	__u64 bound, span;

	acquires(owner, self->mutex[0]);
	ASSERT_EQ(0, set_sched(tid_of(&self->waiter[1]), SCHED_FIFO, 70));
	/*
	 * On a slow machine it may be over before it is asleep; then once more, with more. Its
	 * state is that of a sleeper before its timer is started; but once a less urgent thread
	 * has run on the same CPU, it does sleep.
	 */
	waiter->objs[0] = self->mutex[0];
	waiter->nb_objs = 1;
	for (span = NT_NSEC_PER_SEC / 4; ; span *= 2) {
		ASSERT_GT(16 * NT_NSEC_PER_SEC, span);
		waiter->timeout = nt_now(CLOCK_MONOTONIC) + span;
		actor_begin(waiter, do_wait);
		if (actor_asleep(waiter)) {
			ASSERT_EQ(0, actor_do(&self->waiter[1], do_nothing));
			if (has_state(waiter, 'S') && !actor_done(waiter))
				break;
		}
		ASSERT_EQ(-ETIMEDOUT, actor_end(waiter));
	}
	bound = nt_bound();
	while (!has_state(waiter, 'R') && nt_now(CLOCK_MONOTONIC) < bound)
		;
	ASSERT_LE(waiter->timeout, nt_now(CLOCK_MONOTONIC));
	ASSERT_TRUE(has_state(waiter, 'R'));
	EXPECT_EQ(FIFO(80), actor_prio(owner));
	ASSERT_EQ(0, nt_unlock_mutex(self->mutex[0], owner->id, NULL));
	EXPECT_EQ(NORMAL, actor_prio(owner));
	check_mutex(self->mutex[0], waiter->id, 1);
	ASSERT_FALSE(actor_done(waiter));
	EXPECT_EQ(0, actor_end(waiter));
}

/* The nice value is the owner's own during a boost, and what is set then remains. */
TEST_F_TIMEOUT(rules, nice_of_the_owner, NT_TEST_TIMEOUT)
{
	struct actor *owner = &self->owner[0], *waiter = &self->waiter[0];
	pid_t tid = tid_of(owner);

	ASSERT_EQ(0, setpriority(PRIO_PROCESS, tid, 5));
	EXPECT_EQ(NORMAL + 5, actor_prio(owner));
	acquires(owner, self->mutex[0]);
	waits_for(waiter, self->mutex[0]);
	EXPECT_EQ(FIFO(80), actor_prio(owner));
	EXPECT_EQ(5, getpriority(PRIO_PROCESS, tid));
	leaves(waiter);
	EXPECT_EQ(NORMAL + 5, actor_prio(owner));

	waits_for(waiter, self->mutex[0]);
	ASSERT_EQ(0, setpriority(PRIO_PROCESS, tid, -7));
	EXPECT_EQ(FIFO(80), actor_prio(owner));
	EXPECT_EQ(-7, getpriority(PRIO_PROCESS, tid));
	releases(owner, self->mutex[0]);
	EXPECT_EQ(NORMAL - 7, actor_prio(owner));
	EXPECT_EQ(0, actor_end(waiter));
}

static int do_normal(struct actor *a)
{
	(void)a;
	return set_sched(0, SCHED_OTHER, 0);
}

/* What sched_getattr() says of an owner is what it is itself, whoever waits. */
TEST_F_TIMEOUT(rules, attributes_as_set, NT_TEST_TIMEOUT)
{
	struct actor *owner = &self->owner[0], *waiter = &self->waiter[0];
	struct nt_sched_attr before, during;
	int round, own = NORMAL + 3;

	ASSERT_EQ(0, unpin(tid_of(owner)));
	ASSERT_EQ(0, unpin(tid_of(waiter)));
	ASSERT_EQ(0, setpriority(PRIO_PROCESS, tid_of(owner), 3));
	acquires(owner, self->mutex[0]);
	/* A normal owner and a FIFO waiter, one with a deadline, and both with one. */
	for (round = 0; round < 3; round++) {
		if (round == 1)
			ASSERT_EQ(0, set_period(tid_of(waiter), NT_NSEC_PER_SEC / 10));
		if (round == 2) {
			ASSERT_EQ(0, set_period(tid_of(owner), 4 * NT_NSEC_PER_SEC));
			own = DEADLINE;
		}
		memset(&before, 0, sizeof(before));
		ASSERT_EQ(0, syscall(SYS_sched_getattr, tid_of(owner), &before,
				     sizeof(before), 0));
		if (round == 2) {
			EXPECT_EQ((__u32)SCHED_DEADLINE, before.policy);
			EXPECT_EQ(4 * NT_NSEC_PER_SEC, before.period);
		} else {
			EXPECT_EQ((__u32)SCHED_OTHER, before.policy);
			EXPECT_EQ(3, before.nice);
		}
		waits_for(waiter, self->mutex[0]);
		EXPECT_EQ(round ? DEADLINE : FIFO(80), actor_prio(owner));
		memset(&during, 0, sizeof(during));
		ASSERT_EQ(0, syscall(SYS_sched_getattr, tid_of(owner), &during,
				     sizeof(during), 0));
		EXPECT_EQ(0, memcmp(&before, &during, sizeof(before)));
		leaves(waiter);
		EXPECT_EQ(own, actor_prio(owner));
	}
	/* By itself: asleep it would leave its bandwidth behind. */
	ASSERT_EQ(0, actor_do(owner, do_normal));
}

/* A child is born without what its parent has from others, deadlines included. */
static int do_fork(struct actor *a)
{
	int status, ret;
	pid_t pid;

	(void)a;
	pid = fork();
	if (!pid) {
		ret = nt_task_prio(getpid(), getpid());
		if (ret != NORMAL)
			_exit(1);
		if (sched_getscheduler(0) != SCHED_OTHER)
			_exit(2);
		_exit(0);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -EAGAIN;
	return status;
}

TEST_F_TIMEOUT(rules, fork_with_a_deadline, NT_TEST_TIMEOUT)
{
	struct actor *owner = &self->owner[0], *waiter = &self->waiter[0];

	ASSERT_EQ(0, unpin(tid_of(waiter)));
	acquires(owner, self->mutex[0]);
	/* enough to run in for a fork that an emulated CPU does */
	ASSERT_EQ(0, set_period(tid_of(waiter), 4 * NT_NSEC_PER_SEC));
	waits_for(waiter, self->mutex[0]);
	EXPECT_EQ(DEADLINE, actor_prio(owner));
	EXPECT_EQ(0, actor_do(owner, do_fork));
	EXPECT_EQ(DEADLINE, actor_prio(owner));
	releases(owner, self->mutex[0]);
	EXPECT_EQ(NORMAL, actor_prio(owner));
	EXPECT_EQ(0, actor_end(waiter));
}

/* An owner that runs, on another CPU if there is one, has what it is lent as long as it is. */
static atomic_uint spin;

static int do_spin(struct actor *a)
{
	(void)a;
	atomic_store(&spin, 1);
	/* Let a waiter of the same priority run if there is only one CPU. */
	while (atomic_load(&spin) == 1)
		sched_yield();
	return 0;
}

TEST_F_TIMEOUT(rules, owner_runs, NT_TEST_TIMEOUT)
{
	struct actor *owner = &self->owner[0], *waiter = &self->waiter[0];
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(nt_cpu(1), &set);
	ASSERT_EQ(0, sched_setaffinity(tid_of(owner), sizeof(set), &set));
	acquires(owner, self->mutex[0]);
	atomic_store(&spin, 0);
	actor_begin(owner, do_spin);
	ASSERT_TRUE(poll_until(atomic_load(&spin)));
	waits_for(waiter, self->mutex[0]);
	EXPECT_EQ(FIFO(80), actor_prio(owner));
	ASSERT_EQ(0, set_sched(tid_of(waiter), SCHED_RR, 33));
	EXPECT_EQ(FIFO(33), actor_prio(owner));
	leaves(waiter);
	EXPECT_EQ(NORMAL, actor_prio(owner));
	waits_for(waiter, self->mutex[0]);
	EXPECT_EQ(FIFO(33), actor_prio(owner));
	/* by its id, from here */
	ASSERT_EQ(0, nt_unlock_mutex(self->mutex[0], owner->id, NULL));
	EXPECT_EQ(NORMAL, actor_prio(owner));
	EXPECT_EQ(0, actor_end(waiter));
	atomic_store(&spin, 0);
	EXPECT_EQ(0, actor_end(owner));
}

/* A wait does not need the descriptor of the device. */
TEST_F_TIMEOUT(rules, device_closed, NT_TEST_TIMEOUT)
{
	struct actor *owner = &self->owner[0], *waiter = &self->waiter[0];

	acquires(owner, self->mutex[0]);
	waits_for(waiter, self->mutex[0]);
	ASSERT_EQ(0, close(self->dev));
	self->dev = -1;
	EXPECT_EQ(FIFO(80), actor_prio(owner));
	ASSERT_EQ(0, set_sched(tid_of(waiter), SCHED_FIFO, 50));
	EXPECT_EQ(FIFO(50), actor_prio(owner));
	releases(owner, self->mutex[0]);
	EXPECT_EQ(NORMAL, actor_prio(owner));
	EXPECT_EQ(0, actor_end(waiter));
	check_mutex(self->mutex[0], waiter->id, 1);
}

/*
 * Who has CAP_SYS_NICE may name the thread of somebody else, and who has not may not, whatever
 * else both are. A thread that only has the right user is named, too.
 */
#define NOBODY	65534
#define CAP_OF_NICE	23

/* Become another user; with the one capability, or without any. */
static bool become(uid_t uid, bool nice)
{
	struct { __u32 version; int pid; } head = { 0x20080522, 0 };
	struct { __u32 effective, permitted, inheritable; } data[2];

	memset(data, 0, sizeof(data));
	if (nice)
		data[0].effective = data[0].permitted = 1U << CAP_OF_NICE;
	return !prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) && !setresuid(uid, uid, uid) &&
	       !syscall(SYS_capset, &head, data);
}

enum right { NONE, NICE, ONLY_IN_NAMESPACE };

static int set_task_as(uid_t uid, enum right right, int mutex, pid_t tid)
{
	pid_t child = fork();
	int status;

	if (!child) {
		if (!become(uid, right == NICE))
			_exit(255);
		if (right == ONLY_IN_NAMESPACE && unshare(CLONE_NEWUSER))
			_exit(254);
		_exit(-nt_set_task(mutex, tid, 0));
	}
	if (child < 0 || nt_waitpid(child, &status, 0) != child || !WIFEXITED(status))
		return -ECHILD;
	return -WEXITSTATUS(status);
}

TEST_F_TIMEOUT(rules, who_names_an_owner, NT_TEST_TIMEOUT)
{
	struct actor *owner = &self->owner[0], *waiter = &self->waiter[0];
	pid_t other;
	int mutex;

	if (geteuid())
		SKIP(return, "not root");
	mutex = nt_create_mutex(self->dev, 7, 1);
	ASSERT_LE(0, mutex);
	waits_for(waiter, mutex);

	EXPECT_EQ(-EPERM, set_task_as(NOBODY, NONE, mutex, tid_of(owner)));
	EXPECT_EQ(NORMAL, actor_prio(owner));
	EXPECT_EQ(-EPERM, set_task_as(NOBODY, ONLY_IN_NAMESPACE, mutex, tid_of(owner)));
	EXPECT_EQ(NORMAL, actor_prio(owner));
	EXPECT_EQ(0, set_task_as(NOBODY, NICE, mutex, tid_of(owner)));
	EXPECT_EQ(FIFO(80), actor_prio(owner));

	other = fork();
	ASSERT_LE(0, other);
	if (!other) {
		/* A change of the user ends what prctl() has set. */
		if (set_sched(0, SCHED_OTHER, 0) || !become(NOBODY, false) ||
		    prctl(PR_SET_PDEATHSIG, SIGKILL))
			_exit(1);
		for (;;)
			pause();
	}
	ASSERT_TRUE(poll_until(nt_task_prio(other, other) == NORMAL &&
			       nt_task_state(other, other) == 'S'));
	EXPECT_EQ(-EPERM, set_task_as(NOBODY + 1, NONE, mutex, other));
	EXPECT_EQ(FIFO(80), actor_prio(owner));
	EXPECT_EQ(0, set_task_as(NOBODY, NONE, mutex, other));
	EXPECT_EQ(NORMAL, actor_prio(owner));
	EXPECT_EQ(FIFO(80), nt_task_prio(other, other));
	kill(other, SIGKILL);
	ASSERT_EQ(other, nt_waitpid(other, NULL, 0));
	leaves(waiter);
}

/* Tasks that are named wait themselves: what one loses and the other gets goes on from there. */
TEST_F_TIMEOUT(rules, named_owners_wait, NT_TEST_TIMEOUT)
{
	struct actor last[2] = { { .id = 21 }, { .id = 22 } }, *waiter = &self->waiter[0];
	int mutex = nt_create_mutex(self->dev, 7, 1), i, k;

	ASSERT_LE(0, mutex);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, actor_start(&last[i], self->dev, 0));
		acquires(&last[i], self->mutex[i]);
		waits_for(&self->owner[i], self->mutex[i]);
	}
	waits_for(waiter, mutex);
	for (k = 0; k < 4; k++) {
		ASSERT_EQ(0, nt_set_task(mutex, tid_of(&self->owner[k % 2]), 0));
		for (i = 0; i < 2; i++) {
			int prio = i == k % 2 ? FIFO(80) : NORMAL;

			EXPECT_EQ(prio, actor_prio(&self->owner[i]));
			EXPECT_EQ(prio, actor_prio(&last[i]));
		}
	}
	ASSERT_EQ(0, nt_unlock_mutex(mutex, 7, NULL));
	EXPECT_EQ(0, actor_end(waiter));
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(NORMAL, actor_prio(&self->owner[i]));
		EXPECT_EQ(NORMAL, actor_prio(&last[i]));
	}
}

/* The alert object is one that is waited for: its owner inherits as the others do. */
static int do_wait_with_alert(struct actor *a)
{
	struct nt_wait wait = {
		.dev = a->dev, .objs = a->objs, .count = 1, .owner = a->id, .all = a->all,
		.alert = a->objs[1], .timeout = NO_TIMEOUT,
	};

	return nt_wait(&wait);
}

TEST_F_TIMEOUT(rules, owner_of_the_alert, NT_TEST_TIMEOUT)
{
	struct actor *owner = &self->owner[0], *waiter = &self->waiter[0];
	int never = nt_create_event(self->dev, false, false), all;

	ASSERT_LE(0, never);
	acquires(owner, self->mutex[0]);
	for (all = 0; all < 2; all++) {
		ASSERT_EQ(0, set_sched(tid_of(waiter), SCHED_FIFO, 80));
		waiter->objs[0] = never;
		waiter->objs[1] = self->mutex[0];
		waiter->all = all;
		actor_begin(waiter, do_wait_with_alert);
		ASSERT_TRUE(actor_asleep(waiter));
		EXPECT_EQ(FIFO(80), actor_prio(owner));
		ASSERT_EQ(0, set_sched(tid_of(waiter), SCHED_FIFO, 60));
		EXPECT_EQ(FIFO(60), actor_prio(owner));
		leaves(waiter);
		EXPECT_EQ(NORMAL, actor_prio(owner));
	}
}

/* Who has nothing to add to what is lent along a chain changes the priority of nobody. */
#define ADJUSTED	"/sys/module/pi_chain/parameters/adjusted"
#define NB_LINKS	16

static long adjusted(void)
{
	char buf[32];

	return nt_read_file(ADJUSTED, buf, sizeof(buf)) ? atol(buf) : -1;
}

TEST_F_TIMEOUT(rules, only_if_the_level_changes, NT_TEST_TIMEOUT)
{
	struct actor *node = calloc(NB_LINKS, sizeof(*node));
	struct actor *high = &self->waiter[0], *other = &self->waiter[1];
	int mutex[NB_LINKS];
	unsigned int i;
	long n;

	ASSERT_TRUE(node != NULL);
	for (i = 0; i < NB_LINKS; i++) {
		mutex[i] = nt_create_mutex(self->dev, 0, 0);
		ASSERT_LE(0, mutex[i]);
		node[i].id = 101 + i;
		node[i].timeout = NO_TIMEOUT;
		ASSERT_EQ(0, actor_start(&node[i], self->dev, 0));
		acquires(&node[i], mutex[i]);
		if (i)
			waits_for(&node[i], mutex[i - 1]);
	}
	waits_for(high, mutex[NB_LINKS - 1]);
	for (i = 0; i < NB_LINKS; i++)
		EXPECT_EQ(FIFO(80), actor_prio(&node[i]));

	n = adjusted();
	ASSERT_LE(0, n);
	ASSERT_EQ(0, set_sched(tid_of(other), SCHED_FIFO, 50));
	waits_for(other, mutex[NB_LINKS - 1]);
	leaves(other);
	ASSERT_EQ(0, set_sched(tid_of(other), SCHED_FIFO, 80));
	waits_for(other, mutex[NB_LINKS - 1]);
	leaves(other);
	EXPECT_EQ(n, adjusted());

	/* In the middle the links from there on have it already, too. */
	waits_for(other, mutex[NB_LINKS / 2]);
	leaves(other);
	EXPECT_EQ(n, adjusted());

	/* One that has more to add changes each of them once, and once again. */
	ASSERT_EQ(0, set_sched(tid_of(other), SCHED_FIFO, 90));
	waits_for(other, mutex[NB_LINKS - 1]);
	EXPECT_EQ(n + NB_LINKS, adjusted());
	leaves(other);
	EXPECT_EQ(n + 2 * NB_LINKS, adjusted());
	leaves(high);
	for (i = 0; i < NB_LINKS; i++)
		EXPECT_EQ(NORMAL, actor_prio(&node[i]));
}

/*
 * One waiter is kept from its CPU in the middle of a long chain, and another one that has no more to
 * lend comes: when that sleeps, the whole chain has it. The controlling thread is what keeps the
 * first one from its CPU, and so it must not sleep meanwhile; the other one has another CPU. With
 * one CPU for all there is nobody to come in between, and the same is done one after the other.
 */
#define NB_WALKED	64

TEST_F_TIMEOUT(rules, joins_a_walk, NT_TEST_TIMEOUT)
{
	unsigned int rounds = nt_scaled(200), i, k, partial = 0;
	struct actor *node = calloc(NB_WALKED, sizeof(*node));
	struct actor *first = &self->waiter[0], *second = &self->waiter[1];
	__u64 delay = 50000, step = 10000, bound;
	bool smp = nt_cpu_count() > 1;
	int mutex[NB_WALKED];
	cpu_set_t set;

	ASSERT_TRUE(node != NULL);
	prctl(PR_SET_TIMERSLACK, 1);
	for (i = 0; i < NB_WALKED; i++) {
		mutex[i] = nt_create_mutex(self->dev, 0, 0);
		ASSERT_LE(0, mutex[i]);
		node[i].id = 101 + i;
		node[i].timeout = NO_TIMEOUT;
		ASSERT_EQ(0, actor_start(&node[i], self->dev, 0));
		acquires(&node[i], mutex[i]);
		if (i)
			waits_for(&node[i], mutex[i - 1]);
	}
	CPU_ZERO(&set);
	CPU_SET(nt_cpu(1), &set);
	ASSERT_EQ(0, sched_setaffinity(tid_of(second), sizeof(set), &set));
	first->nb_objs = second->nb_objs = 1;
	first->objs[0] = second->objs[0] = mutex[NB_WALKED - 1];

	for (k = 0; k < rounds; k++) {
		actor_begin(first, do_wait);
		nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + delay);
		if (actor_prio(&node[NB_WALKED - 1]) == NORMAL) {
			delay += step;
		} else if (actor_prio(&node[0]) != NORMAL) {
			delay -= delay > step ? step : 0;
		} else {
			partial++;
		}
		if (k % 16 == 15 && step > 500)
			step /= 2;

		actor_begin(second, do_wait);
		bound = nt_bound();
		while (smp && nt_now(CLOCK_MONOTONIC) < bound &&
		       (atomic_load(&second->entered) != atomic_load(&second->cmd) ||
			!has_state(second, 'S')))
			;
		if (!smp)
			ASSERT_TRUE(actor_asleep(second));
		for (i = 0; i < NB_WALKED; i++) {
			ASSERT_EQ(FIFO(80), actor_prio(&node[i])) {
				TH_LOG("link %u of %u, round %u", NB_WALKED - i, NB_WALKED, k);
			}
		}
		ASSERT_TRUE(actor_asleep(first));
		leaves(first);
		leaves(second);
		for (i = 0; i < NB_WALKED; i++)
			ASSERT_EQ(NORMAL, actor_prio(&node[i]));
	}
	TH_LOG("%u of %u walks were interrupted", partial, rounds);
}

/*
 * Two owners inherit two deadlines. The one that runs first begins the other one's work in the
 * middle of its own, so that both want the CPU: who has the earlier deadline gets it.
 */
#define EARLY	(NT_NSEC_PER_SEC / 10)
#define MIDDLE	(NT_NSEC_PER_SEC)
#define LATE	(4 * NT_NSEC_PER_SEC)

static atomic_uint nr_events;
static unsigned int event[8];
static struct actor *starts;

static void happens(unsigned int what)
{
	unsigned int n = atomic_fetch_add(&nr_events, 1);

	if (n < ARRAY_LEN(event))
		event[n] = what;
}

static int do_work(struct actor *a)
{
	struct actor *other = starts;
	__u64 end;

	happens(10 * a->id);
	starts = NULL;
	if (other)
		actor_begin(other, do_work);
	end = nt_now(CLOCK_THREAD_CPUTIME_ID) + 1000000;
	while (nt_now(CLOCK_THREAD_CPUTIME_ID) < end)
		;
	happens(10 * a->id + 1);
	return 0;
}

FIXTURE(deadlines) {
	int dev;
	int mutex[2];
	struct actor owner[2];
	struct actor waiter[2];	/* the first has the earlier deadline */
	struct actor middle;	/* a deadline between these */
};

FIXTURE_VARIANT(deadlines) {
	unsigned int early;	/* which owner inherits that */
	unsigned int first;	/* which one begins to work */
};

FIXTURE_VARIANT_ADD(deadlines, early_begins) { .early = 0, .first = 0 };
FIXTURE_VARIANT_ADD(deadlines, late_begins) { .early = 0, .first = 1 };
FIXTURE_VARIANT_ADD(deadlines, other_late_begins) { .early = 1, .first = 0 };
FIXTURE_VARIANT_ADD(deadlines, other_early_begins) { .early = 1, .first = 1 };

FIXTURE_SETUP(deadlines)
{
	unsigned int i;

	begin_pi(self->dev);
	for (i = 0; i < 2; i++) {
		self->mutex[i] = nt_create_mutex(self->dev, 0, 0);
		ASSERT_LE(0, self->mutex[i]);
		self->owner[i].id = 1 + i;
		self->waiter[i].id = 11 + i;
		self->waiter[i].timeout = NO_TIMEOUT;
		ASSERT_EQ(0, actor_start(&self->owner[i], self->dev, 0));
		ASSERT_EQ(0, actor_start(&self->waiter[i], self->dev, 0));
		acquires(&self->owner[i], self->mutex[i]);
		/*
		 * Whoever runs when it inherits a deadline keeps that, as with an rt_mutex, in a
		 * later sleep, whatever comes then.
		 */
		ASSERT_TRUE(poll_until(has_state(&self->owner[i], 'S')));
		ASSERT_EQ(0, unpin(tid_of(&self->waiter[i])));
		ASSERT_EQ(0, set_period(tid_of(&self->waiter[i]), i ? LATE : EARLY));
	}
	self->middle.id = 13;
	self->middle.timeout = NO_TIMEOUT;
	ASSERT_EQ(0, actor_start(&self->middle, self->dev, 0));
	ASSERT_EQ(0, unpin(tid_of(&self->middle)));
	ASSERT_EQ(0, set_period(tid_of(&self->middle), MIDDLE));
	atomic_store(&nr_events, 0);
}

FIXTURE_TEARDOWN(deadlines)
{
	close(self->dev);
}

/* Both owners are pinned to the same CPU; the deadlines are not their own. */
TEST_F_TIMEOUT(deadlines, earliest_first, NT_TEST_TIMEOUT)
{
	unsigned int early = variant->early, first = variant->first, i;
	unsigned int e = 10 * (early + 1), l = 10 * (!early + 1);

	waits_for(&self->waiter[0], self->mutex[early]);
	waits_for(&self->waiter[1], self->mutex[!early]);
	EXPECT_EQ(DEADLINE, actor_prio(&self->owner[0]));
	EXPECT_EQ(DEADLINE, actor_prio(&self->owner[1]));

	starts = &self->owner[!first];
	actor_begin(&self->owner[first], do_work);
	EXPECT_EQ(0, actor_end(&self->owner[first]));
	EXPECT_EQ(0, actor_end(&self->owner[!first]));
	ASSERT_EQ(4U, atomic_load(&nr_events));
	if (first == early) {
		EXPECT_EQ(e, event[0]);
		EXPECT_EQ(e + 1, event[1]);
		EXPECT_EQ(l, event[2]);
	} else {
		EXPECT_EQ(l, event[0]);
		EXPECT_EQ(e, event[1]);
		EXPECT_EQ(e + 1, event[2]);
	}
	EXPECT_EQ(l + 1, event[3]);

	for (i = 0; i < 2; i++) {
		leaves(&self->waiter[i]);
		EXPECT_EQ(NORMAL, actor_prio(&self->owner[i ? !early : early]));
	}
}

/* Two deadlines at one owner: the earlier one counts, as long as that waiter is there. */
TEST_F_TIMEOUT(deadlines, several_at_one_owner, NT_TEST_TIMEOUT)
{
	struct actor *two = &self->owner[variant->early], *one = &self->owner[!variant->early];
	unsigned int t = 10 * two->id, o = 10 * one->id;
	bool stays = variant->first;

	waits_for(&self->waiter[1], self->mutex[variant->early]);
	waits_for(&self->waiter[0], self->mutex[variant->early]);
	waits_for(&self->middle, self->mutex[!variant->early]);
	if (!stays)
		leaves(&self->waiter[0]);

	/* Who is to be interrupted begins. */
	starts = stays ? two : one;
	actor_begin(stays ? one : two, do_work);
	EXPECT_EQ(0, actor_end(stays ? one : two));
	EXPECT_EQ(0, actor_end(stays ? two : one));
	ASSERT_EQ(4U, atomic_load(&nr_events));
	EXPECT_EQ(stays ? o : t, event[0]);
	EXPECT_EQ(stays ? t : o, event[1]);
	EXPECT_EQ(stays ? t + 1 : o + 1, event[2]);
	EXPECT_EQ(stays ? o + 1 : t + 1, event[3]);

	/* It is handed over to the earliest, too. */
	ASSERT_EQ(0, nt_unlock_mutex(self->mutex[variant->early], two->id, NULL));
	check_mutex(self->mutex[variant->early], self->waiter[!stays].id, 1);
	EXPECT_EQ(0, actor_end(&self->waiter[!stays]));
	EXPECT_EQ(NORMAL, actor_prio(two));
	if (stays)
		leaves(&self->waiter[1]);
	leaves(&self->middle);
	EXPECT_EQ(NORMAL, actor_prio(one));
}

/*
 * A lock of the kernel with one owner: of those that read from a terminal one waits for input,
 * and the others for that one. With PREEMPT_RT it inherits.
 */
static int terminal = -1;

static int do_read(struct actor *a)
{
	ssize_t ret;
	char c;

	(void)a;
	ret = read(terminal, &c, 1);
	return ret < 0 ? -errno : ret;
}

TEST_F_TIMEOUT(rules, lock_of_the_kernel, NT_TEST_TIMEOUT)
{
	struct actor *owner = &self->owner[0], *reader = &self->owner[1];
	struct actor *waiter = &self->waiter[0];
	int master = posix_openpt(O_RDWR | O_NOCTTY), lent;
	struct utsname kernel;

	ASSERT_EQ(0, uname(&kernel));
	lent = strstr(kernel.version, "PREEMPT_RT") ? FIFO(80) : NORMAL;
	if (master < 0 || unlockpt(master))
		SKIP(return, "no pseudo terminals");
	terminal = ioctl(master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
	ASSERT_LE(0, terminal);

	acquires(owner, self->mutex[0]);
	actor_begin(reader, do_read);
	ASSERT_TRUE(actor_asleep(reader));
	actor_begin(owner, do_read);
	ASSERT_TRUE(actor_asleep(owner));
	EXPECT_EQ(NORMAL, actor_prio(reader));

	/* It comes and goes, ... */
	waits_for(waiter, self->mutex[0]);
	EXPECT_EQ(FIFO(80), actor_prio(owner));
	EXPECT_EQ(lent, actor_prio(reader));
	ASSERT_EQ(0, set_sched(tid_of(waiter), SCHED_FIFO, 60));
	EXPECT_EQ(FIFO(60), actor_prio(owner));
	EXPECT_EQ(lent == NORMAL ? NORMAL : FIFO(60), actor_prio(reader));
	leaves(waiter);
	EXPECT_EQ(NORMAL, actor_prio(owner));
	EXPECT_EQ(NORMAL, actor_prio(reader));

	/* ... and what is lent ends where the owner gives up, ... */
	waits_for(waiter, self->mutex[0]);
	EXPECT_EQ(FIFO(60), actor_prio(owner));
	leaves(owner);
	EXPECT_EQ(FIFO(60), actor_prio(owner));
	EXPECT_EQ(NORMAL, actor_prio(reader));

	/* ... and where the other one is done. */
	actor_begin(owner, do_read);
	ASSERT_TRUE(actor_asleep(owner));
	EXPECT_EQ(lent == NORMAL ? NORMAL : FIFO(60), actor_prio(reader));
	ASSERT_EQ(2, write(master, "x\n", 2));
	EXPECT_EQ(1, actor_end(reader));
	EXPECT_EQ(NORMAL, actor_prio(reader));
	EXPECT_EQ(1, actor_end(owner));
	EXPECT_EQ(FIFO(60), actor_prio(owner));
	releases(owner, self->mutex[0]);
	EXPECT_EQ(NORMAL, actor_prio(owner));
	EXPECT_EQ(0, actor_end(waiter));
	close(terminal);
	close(master);
}

/*
 * Rings whose links are futexes and mutexes by turns. A futex refuses what would never end, but
 * only as far as it can see: both sleep, and all can leave.
 */
#define MAX_RING	6

FIXTURE(ring) {
	int dev;
	struct actor member[MAX_RING];
	struct actor donor;
	int mutex[MAX_RING];
};

FIXTURE_VARIANT(ring) {
	unsigned int len;	/* even */
	unsigned int closes;	/* the last one to wait: even by its futex, odd by its mutex */
};

FIXTURE_VARIANT_ADD(ring, of_2_futex) { .len = 2, .closes = 0 };
FIXTURE_VARIANT_ADD(ring, of_2_mutex) { .len = 2, .closes = 1 };
FIXTURE_VARIANT_ADD(ring, of_6_futex) { .len = 6, .closes = 0 };
FIXTURE_VARIANT_ADD(ring, of_6_other_futex) { .len = 6, .closes = 4 };
FIXTURE_VARIANT_ADD(ring, of_6_mutex) { .len = 6, .closes = 3 };

static atomic_uint futex[MAX_RING];

static int do_lock_futex(struct actor *a)
{
	return syscall(SYS_futex, &futex[a->objs[0]], FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) ?
	       -errno : 0;
}

static int do_trylock_futex(struct actor *a)
{
	return syscall(SYS_futex, &futex[a->objs[0]], FUTEX_TRYLOCK_PI_PRIVATE, 0, NULL, NULL, 0) ?
	       -errno : 0;
}

static int do_unlock_futex(struct actor *a)
{
	return syscall(SYS_futex, &futex[a->objs[0]], FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) ?
	       -errno : 0;
}

FIXTURE_SETUP(ring)
{
	unsigned int i;

	begin_pi(self->dev);
	for (i = 0; i < variant->len; i++) {
		struct actor *a = &self->member[i];

		a->id = i + 1;
		a->timeout = NO_TIMEOUT;
		self->mutex[i] = nt_create_mutex(self->dev, 0, 0);
		ASSERT_LE(0, self->mutex[i]);
		ASSERT_EQ(0, actor_start(a, self->dev, 0));
		acquires(a, self->mutex[i]);
		a->objs[0] = i;
		ASSERT_EQ(0, actor_do(a, do_trylock_futex));
	}
	self->donor.id = 100;
	self->donor.timeout = NO_TIMEOUT;
	ASSERT_EQ(0, actor_start(&self->donor, self->dev, 80));
}

FIXTURE_TEARDOWN(ring)
{
	close(self->dev);
}

/* Those with even numbers wait by the futex of the next, the others by its mutex. */
#define waits_for_next(i) do {						\
	unsigned int __i = (i), __next = (__i + 1) % variant->len;	\
	struct actor *__a = &self->member[__i];				\
									\
	__a->objs[0] = __i % 2 ? self->mutex[__next] : (int)__next;	\
	__a->nb_objs = 1;						\
	actor_begin(__a, __i % 2 ? do_wait : do_lock_futex);		\
	ASSERT_TRUE(actor_asleep(__a)) {				\
		TH_LOG("member %u returned %d", __i, __a->ret);		\
	}								\
} while (0)

TEST_F_TIMEOUT(ring, sleeps, NT_TEST_TIMEOUT)
{
	unsigned int i, len = variant->len, last = variant->closes, odd, before;
	struct actor *next;

	for (i = 1; i <= len; i++)
		waits_for_next((last + i) % len);
	for (i = 0; i < len; i++)
		EXPECT_EQ(NORMAL, actor_prio(&self->member[i]));

	/* Somebody from outside lends to all, by a mutex; and takes it away. */
	waits_for(&self->donor, self->mutex[last]);
	for (i = 0; i < len; i++)
		EXPECT_EQ(FIFO(80), actor_prio(&self->member[i]));
	ASSERT_EQ(0, set_sched(tid_of(&self->donor), SCHED_FIFO, 20));
	for (i = 0; i < len; i++)
		EXPECT_EQ(FIFO(20), actor_prio(&self->member[i]));
	leaves(&self->donor);
	for (i = 0; i < len; i++)
		EXPECT_EQ(NORMAL, actor_prio(&self->member[i]));

	/* The same by a futex, which does not refuse it either. */
	self->donor.objs[0] = last;
	actor_begin(&self->donor, do_lock_futex);
	ASSERT_TRUE(actor_asleep(&self->donor));
	for (i = 0; i < len; i++)
		EXPECT_EQ(FIFO(20), actor_prio(&self->member[i]));

	/* One leaves, from a mutex: what is left is a chain that ends at that one. */
	odd = last % 2 ? last : (last + 1) % len;
	before = (odd + len - 1) % len;
	leaves(&self->member[odd]);
	for (i = 0; i < len; i++)
		EXPECT_EQ(i == last || i == odd ? FIFO(20) : NORMAL, actor_prio(&self->member[i]));
	/* Its futex goes to the donor, or to the member before it. */
	next = odd == last ? &self->donor : &self->member[before];
	self->member[odd].objs[0] = odd;
	ASSERT_EQ(0, actor_do(&self->member[odd], do_unlock_futex));
	EXPECT_EQ(0, actor_end(next));
	EXPECT_EQ(NORMAL, actor_prio(&self->member[odd]));
	for (i = 0; i < len; i++) {
		struct actor *a = &self->member[i];

		EXPECT_EQ(i == odd || a == next, actor_done(a));
	}
}

/*
 * Somebody in the middle of a chain, or of a deadlock, goes away. Who waited for it, or lent by
 * way of it, goes on sleeping; what it had lent ends, and nothing else.
 */
#define LEN	5

enum way { LEAVES, EXITS, EXECUTES, KILLED };

/* In shared memory. */
struct member {
	int dev;
	int own, want;		/* mutex; object to wait for */
	__u32 id;
	enum way way;
	int go[2];		/* pipe: a byte to begin the wait, and one to go away */
	pid_t pid;
	pthread_t main;
	int ret;
	atomic_uint owns;
	atomic_int entered;	/* PID, when about to wait */
	atomic_uint done;
};

FIXTURE(middle) {
	int dev;
	int mutex[LEN];
	int event;
	struct member *member;
	struct actor donor;
	struct actor low;
};

FIXTURE_VARIANT(middle) {
	bool is_ring;
	bool deadline;
	unsigned int who;
	enum way way;
};

#define AWAY(_ring, _policy, _deadline, _who, _way)				\
	FIXTURE_VARIANT_ADD(middle, _ring##_##_policy##_##_who##_##_way) {	\
		.is_ring = #_ring[0] == 'r', .deadline = _deadline,		\
		.who = _who, .way = _way,					\
	}
#define AWAYS(_ring, _policy, _deadline, _way)		\
	AWAY(_ring, _policy, _deadline, 0, _way);		\
	AWAY(_ring, _policy, _deadline, 2, _way);		\
	AWAY(_ring, _policy, _deadline, 4, _way)
AWAYS(chain, fifo, false, LEAVES);
AWAYS(chain, fifo, false, EXITS);
AWAYS(chain, fifo, false, EXECUTES);
AWAYS(chain, fifo, false, KILLED);
AWAYS(ring, fifo, false, LEAVES);
AWAYS(ring, fifo, false, EXITS);
AWAYS(ring, fifo, false, EXECUTES);
AWAYS(ring, fifo, false, KILLED);
AWAYS(ring, deadline, true, LEAVES);
AWAYS(ring, deadline, true, EXITS);
AWAYS(ring, deadline, true, EXECUTES);
AWAYS(ring, deadline, true, KILLED);

static void *member_control(void *arg)
{
	struct member *m = arg;
	char byte;

	if (set_sched(0, SCHED_FIFO, 90))
		_exit(2);
	while (read(m->go[0], &byte, 1) != 1)
		;
	switch (m->way) {
	case LEAVES:
		pthread_kill(m->main, SIGUSR1);
		break;
	case EXITS:
		_exit(3);
	case EXECUTES:
		setenv(HOLD_VAR, "1", 1);
		execl("/proc/self/exe", "pi-hold", NULL);
		_exit(4);
	case KILLED:
		break;
	}
	return NULL;
}

static __attribute__((noreturn)) void member(struct member *m)
{
	struct nt_wait wait = { .dev = m->dev, .objs = &m->own, .count = 1, .owner = m->id };
	pthread_t thread;
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	m->main = pthread_self();
	if (set_sched(0, SCHED_OTHER, 0) || nt_wait(&wait))
		_exit(1);
	wait.objs = &m->want;
	wait.owner = m->id + 100;
	wait.timeout = NO_TIMEOUT;
	atomic_store(&m->owns, 1);
	while (read(m->go[0], &byte, 1) != 1)
		;
	if (pthread_create(&thread, NULL, member_control, m))
		_exit(2);
	atomic_store(&m->entered, getpid());
	m->ret = nt_wait(&wait);
	atomic_store(&m->done, 1);
	for (;;)
		pause();
}

FIXTURE_SETUP(middle)
{
	unsigned int i;
	pid_t pid;

	begin_pi(self->dev);
	self->member = mmap(NULL, LEN * sizeof(*self->member), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(self->member != MAP_FAILED);
	self->event = nt_create_event(self->dev, true, false);
	ASSERT_LE(0, self->event);
	for (i = 0; i < LEN; i++) {
		self->mutex[i] = nt_create_mutex(self->dev, 0, 0);
		ASSERT_LE(0, self->mutex[i]);
	}
	for (i = 0; i < LEN; i++) {
		struct member *m = &self->member[i];

		m->dev = self->dev;
		m->own = self->mutex[i];
		m->want = i ? self->mutex[i - 1] : self->event;
		if (!i && variant->is_ring)
			m->want = self->mutex[LEN - 1];
		m->id = i + 1;
		m->way = variant->way;
		ASSERT_EQ(0, pipe(m->go));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			member(m);
		m->pid = pid;
	}
	/* All must own what others wait for. */
	for (i = 0; i < LEN; i++)
		ASSERT_TRUE(poll_until(atomic_load(&self->member[i].owns)));
	for (i = 0; i < LEN; i++) {
		struct member *m = &self->member[i];

		ASSERT_EQ(1, write(m->go[1], "", 1));
		ASSERT_TRUE(nt_task_asleep(m->pid, &m->entered, &m->done)) {
			TH_LOG("member %u: done %d, returned %d", i, atomic_load(&m->done), m->ret);
		}
	}
	self->donor.id = 1000;
	self->low.id = 1001;
	self->donor.timeout = NO_TIMEOUT;
	self->low.timeout = NO_TIMEOUT;
	ASSERT_EQ(0, actor_start(&self->donor, self->dev, 80));
	ASSERT_EQ(0, actor_start(&self->low, self->dev, 30));
}

FIXTURE_TEARDOWN(middle)
{
	unsigned int i;

	for (i = 0; self->member && i < LEN; i++) {
		if (self->member[i].pid > 0) {
			kill(self->member[i].pid, SIGKILL);
			nt_waitpid(self->member[i].pid, NULL, 0);
		}
	}
}

static bool executed(pid_t pid)
{
	char path[64], name[16];

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	return nt_read_file(path, name, sizeof(name)) && !strcmp(name, "pi-hold") &&
	       nt_task_state(pid, pid) == 'S';
}

TEST_F_TIMEOUT(middle, goes_away, NT_TEST_TIMEOUT)
{
	struct member *m = self->member, *gone = &m[variant->who];
	int lent = variant->deadline ? DEADLINE : FIFO(80), status = 0;
	unsigned int i, who = variant->who;
	bool is_there = variant->way == LEAVES;

	if (variant->deadline) {
		ASSERT_EQ(0, unpin(tid_of(&self->donor)));
		ASSERT_EQ(0, set_period(tid_of(&self->donor), NT_NSEC_PER_SEC / 10));
	}
	for (i = 0; i < LEN; i++)
		EXPECT_EQ(NORMAL, nt_task_prio(m[i].pid, m[i].pid));
	waits_for(&self->donor, self->mutex[LEN - 1]);
	for (i = 0; i < LEN; i++)
		EXPECT_EQ(lent, nt_task_prio(m[i].pid, m[i].pid));

	if (variant->way == KILLED)
		kill(gone->pid, SIGKILL);
	else
		ASSERT_EQ(1, write(gone->go[1], "", 1));
	switch (variant->way) {
	case LEAVES:
		ASSERT_TRUE(poll_until(atomic_load(&gone->done)));
		EXPECT_EQ(-EINTR, gone->ret);
		break;
	case EXECUTES:
		ASSERT_TRUE(poll_until(executed(gone->pid)));
		/* what the thread that executed it has itself */
		EXPECT_EQ(FIFO(90), nt_task_prio(gone->pid, gone->pid));
		break;
	default:
		ASSERT_EQ(gone->pid, nt_waitpid(gone->pid, &status, 0));
		gone->pid = 0;
		EXPECT_EQ(variant->way == KILLED ? SIGKILL : 3 << 8, status);
		break;
	}

	/* What it had to lend is gone, those before it have what they had. */
	for (i = 0; i < LEN; i++) {
		if (i == who)
			continue;
		EXPECT_EQ(i < who ? NORMAL : lent, nt_task_prio(m[i].pid, m[i].pid)) {
			TH_LOG("member %u", i);
		}
		EXPECT_EQ('S', nt_task_state(m[i].pid, m[i].pid));
		EXPECT_EQ(0U, atomic_load(&m[i].done));
	}
	if (is_there)
		EXPECT_EQ(lent, nt_task_prio(gone->pid, gone->pid));
	check_mutex(self->mutex[who], gone->id, 1);

	/* Those behind it are still linked to each other. */
	if (who) {
		waits_for(&self->low, self->mutex[who - 1]);
		for (i = 0; i < LEN; i++) {
			if (i != who)
				EXPECT_EQ(i < who ? FIFO(30) : lent,
					  nt_task_prio(m[i].pid, m[i].pid));
		}
		leaves(&self->low);
		for (i = 0; i < who; i++)
			EXPECT_EQ(NORMAL, nt_task_prio(m[i].pid, m[i].pid));
	}

	/* Its mutex goes to who waits for it, and only to that one. */
	ASSERT_EQ(0, nt_kill_mutex(self->mutex[who], gone->id));
	if (who < LEN - 1) {
		ASSERT_TRUE(poll_until(atomic_load(&m[who + 1].done)));
		EXPECT_EQ(-EOWNERDEAD, m[who + 1].ret);
		EXPECT_EQ(lent, nt_task_prio(m[who + 1].pid, m[who + 1].pid));
		if (is_there)
			EXPECT_EQ(NORMAL, nt_task_prio(gone->pid, gone->pid));
		leaves(&self->donor);
	} else {
		EXPECT_EQ(-EOWNERDEAD, actor_end(&self->donor));
	}
	for (i = 0; i < LEN; i++) {
		if (i == who)
			continue;
		EXPECT_EQ(NORMAL, nt_task_prio(m[i].pid, m[i].pid));
		EXPECT_EQ(i == who + 1, !!atomic_load(&m[i].done));
	}
}

TEST_HARNESS_MAIN
