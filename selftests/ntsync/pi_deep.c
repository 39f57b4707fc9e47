// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Priority inheritance in large and in closed graphs: chains of hundreds that
 * change between mutexes of ntsync and futex-PI locks, layers in which everybody
 * waits for everybody, and deadlocks that somebody joins and leaves.
 */
#include <sys/mman.h>
#include <sys/wait.h>
#include "pi_test.h"

/* Is this a slow kernel? Then the graphs are smaller. */
static bool is_slow(void)
{
	const char *scale = getenv("NTSYNC_SCALE");

	return scale && atoi(scale) < 25;
}

static void sleep_ms(unsigned int ms)
{
	nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + ms * 1000000ULL);
}

/* Wait until somebody in another process has got where it makes this true. */
#define await_prio(a, prio) do {					\
	int __i;							\
									\
	for (__i = 0; __i < 10000 && actor_prio(a) != (prio); __i++)	\
		sleep_ms(1);						\
	ASSERT_EQ((prio), actor_prio(a));				\
} while (0)

/*
 * Chains of both kinds of locks: each link from a thread to the one before it,
 * by turns by way of its futex and of its mutex.
 */
#define MAX_LINKS	500

FIXTURE(alternating) {
	int dev;
	unsigned int len;
	struct actor *node;
	struct actor waiter;
	int *mutex;
};

FIXTURE_VARIANT(alternating) {
	unsigned int arrival;	/* percent of the chain that wait before the waiter comes */
};

FIXTURE_VARIANT_ADD(alternating, first) { .arrival = 0 };
FIXTURE_VARIANT_ADD(alternating, middle) { .arrival = 50 };
FIXTURE_VARIANT_ADD(alternating, last) { .arrival = 100 };

static atomic_uint *futex;	/* one for each node */

static int do_own_futex(struct actor *a)
{
	unsigned int zero = 0;

	return atomic_compare_exchange_strong(&futex[a->id - 1], &zero, atomic_load(&a->tid)) ?
	       0 : -EBUSY;
}

static int do_lock_futex(struct actor *a)
{
	atomic_uint *f = &futex[a->objs[0]];

	return syscall(SYS_futex, f, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) ? -errno : 0;
}

FIXTURE_SETUP(alternating)
{
	unsigned int i;

	begin_pi(self->dev);
	self->len = is_slow() ? 120 : MAX_LINKS;
	self->node = calloc(self->len, sizeof(*self->node));
	self->mutex = calloc(self->len, sizeof(*self->mutex));
	futex = calloc(self->len, sizeof(*futex));
	ASSERT_TRUE(self->node && self->mutex && futex);
	for (i = 0; i < self->len; i++) {
		struct actor *a = &self->node[i];

		a->id = i + 1;
		a->timeout = NO_TIMEOUT;
		self->mutex[i] = nt_create_mutex(self->dev, 0, 0);
		ASSERT_LE(0, self->mutex[i]);
		ASSERT_EQ(0, actor_start(a, self->dev, 0));
		acquires(a, self->mutex[i]);
		ASSERT_EQ(0, actor_do(a, do_own_futex));
	}
	self->waiter.id = 1000;
	self->waiter.timeout = NO_TIMEOUT;
	ASSERT_EQ(0, actor_start(&self->waiter, self->dev, 80));
}

FIXTURE_TEARDOWN(alternating)
{
	/* The process ends with all others in their waits. */
	close(self->dev);
}

TEST_F_TIMEOUT(alternating, boost, NT_TEST_TIMEOUT)
{
	unsigned int i, j, len = self->len, arrival = len * variant->arrival / 100;

	for (i = 1; i <= len; i++) {
		if (i == (arrival ? arrival : 1))
			waits_for(&self->waiter, self->mutex[len - 1]);
		if (i == len)
			break;
		if (i % 2) {
			self->node[i].objs[0] = i - 1;
			actor_begin(&self->node[i], do_lock_futex);
			ASSERT_TRUE(actor_asleep(&self->node[i]));
		} else {
			waits_for(&self->node[i], self->mutex[i - 1]);
		}
	}
	for (i = 0; i < len; i++) {
		ASSERT_EQ(FIFO(80), actor_prio(&self->node[i])) {
			TH_LOG("thread %u of %u", i, len);
		}
	}

	/* It changes, is normal for a while, and leaves. */
	for (j = 0; j < 3; j++) {
		static const int prio[] = { 85, 0, 60 };

		ASSERT_EQ(0, set_sched(atomic_load(&self->waiter.tid),
				       prio[j] ? SCHED_FIFO : SCHED_OTHER, prio[j]));
		for (i = 0; i < len; i++) {
			ASSERT_EQ(prio[j] ? FIFO(prio[j]) : NORMAL, actor_prio(&self->node[i])) {
				TH_LOG("thread %u of %u", i, len);
			}
		}
	}
	pthread_kill(self->waiter.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(&self->waiter));
	for (i = 0; i < len; i++)
		ASSERT_EQ(NORMAL, actor_prio(&self->node[i]));
}

/*
 * Whoever gets a lock that others wait for has what they lend, whatever becomes
 * of its own priority.
 */
FIXTURE(futex) {
	int dev;
	struct actor owner;
	struct actor high;
	struct actor low;
};

static int do_unlock_futex(struct actor *a)
{
	atomic_uint *f = &futex[a->objs[0]];
	unsigned int tid = atomic_load(&a->tid);

	if (atomic_compare_exchange_strong(f, &tid, 0))
		return 0;
	return syscall(SYS_futex, f, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) ? -errno : 0;
}

FIXTURE_SETUP(futex)
{
	begin_pi(self->dev);
	futex = calloc(1, sizeof(*futex));
	ASSERT_TRUE(futex != NULL);
	self->owner.id = 1;
	ASSERT_EQ(0, actor_start(&self->owner, self->dev, 0));
	ASSERT_EQ(0, actor_start(&self->high, self->dev, 50));
	ASSERT_EQ(0, actor_start(&self->low, self->dev, 30));
}

FIXTURE_TEARDOWN(futex)
{
	close(self->dev);
}

TEST_F_TIMEOUT(futex, new_owner, NT_TEST_TIMEOUT)
{
	ASSERT_EQ(0, actor_do(&self->owner, do_own_futex));
	actor_begin(&self->low, do_lock_futex);
	ASSERT_TRUE(actor_asleep(&self->low));
	actor_begin(&self->high, do_lock_futex);
	ASSERT_TRUE(actor_asleep(&self->high));
	EXPECT_EQ(FIFO(50), actor_prio(&self->owner));
	EXPECT_EQ(0, actor_do(&self->owner, do_unlock_futex));
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
	EXPECT_EQ(0, actor_end(&self->high));

	EXPECT_EQ(FIFO(50), actor_prio(&self->high));
	ASSERT_EQ(0, set_sched(atomic_load(&self->high.tid), SCHED_OTHER, 0));
	EXPECT_EQ(FIFO(30), actor_prio(&self->high));
	EXPECT_EQ(0, actor_do(&self->high, do_unlock_futex));
	EXPECT_EQ(NORMAL, actor_prio(&self->high));
	EXPECT_EQ(0, actor_end(&self->low));
	EXPECT_EQ(0, actor_do(&self->low, do_unlock_futex));
}

/*
 * Everybody in a layer waits for what everybody in the next one owns, for any of
 * it or for all.
 */
#define NB_LAYERS	4
#define MAX_WIDTH	64

FIXTURE(layers) {
	int dev;
	unsigned int width;
	struct actor *node[NB_LAYERS];
	int mutex[NB_LAYERS][MAX_WIDTH];
	struct actor waiter;
	char depth[32];
};

FIXTURE_SETUP(layers)
{
	unsigned int i, j;

	begin_pi(self->dev);
	self->width = is_slow() ? 16 : MAX_WIDTH;
	ASSERT_TRUE(nt_read_file(MAX_DEPTH, self->depth, sizeof(self->depth)));
	for (i = 0; i < NB_LAYERS; i++) {
		self->node[i] = calloc(self->width, sizeof(*self->node[i]));
		ASSERT_TRUE(self->node[i] != NULL);
		for (j = 0; j < self->width; j++) {
			struct actor *a = &self->node[i][j];

			a->id = 1 + i * MAX_WIDTH + j;
			a->timeout = NO_TIMEOUT;
			self->mutex[i][j] = nt_create_mutex(self->dev, 0, 0);
			ASSERT_LE(0, self->mutex[i][j]);
			ASSERT_EQ(0, actor_start(a, self->dev, 0));
			acquires(a, self->mutex[i][j]);
		}
	}
	self->waiter.id = 1000;
	self->waiter.timeout = NO_TIMEOUT;
	ASSERT_EQ(0, actor_start(&self->waiter, self->dev, 80));
}

FIXTURE_TEARDOWN(layers)
{
	nt_write_file(MAX_DEPTH, self->depth);
	close(self->dev);
}

static void begin_layer(struct actor *a, const int *mutexes, unsigned int nb, bool all)
{
	memcpy(a->objs, mutexes, nb * sizeof(*mutexes));
	a->nb_objs = nb;
	a->all = all;
	actor_begin(a, do_wait);
}

TEST_F_TIMEOUT(layers, boost, NT_TEST_TIMEOUT)
{
	unsigned int i, j, boosted, total = NB_LAYERS * self->width, round;

	for (i = NB_LAYERS - 1; i--;) {
		for (j = 0; j < self->width; j++) {
			begin_layer(&self->node[i][j], self->mutex[i + 1], self->width, (i + j) % 2);
			ASSERT_TRUE(actor_asleep(&self->node[i][j]));
		}
	}

	/* Once with room for all the links, once with less. */
	for (round = 0; round < 2; round++) {
		ASSERT_TRUE(nt_write_file(MAX_DEPTH, round ? "200" : "100000"));
		begin_layer(&self->waiter, self->mutex[0], self->width, round);
		ASSERT_TRUE(actor_asleep(&self->waiter));

		boosted = 0;
		for (i = 0; i < NB_LAYERS; i++) {
			for (j = 0; j < self->width; j++) {
				int prio = actor_prio(&self->node[i][j]);

				boosted += prio == FIFO(80);
				ASSERT_TRUE(prio == FIFO(80) || prio == NORMAL);
				/* Those are the waiter's own links. */
				if (!i)
					ASSERT_EQ(FIFO(80), prio);
			}
		}
		if (round) {
			EXPECT_LT(self->width, boosted);
			EXPECT_GT(total, boosted);
		} else {
			EXPECT_EQ(total, boosted);
		}

		/* That is never cut short. */
		pthread_kill(self->waiter.thread, SIGUSR1);
		EXPECT_EQ(-EINTR, actor_end(&self->waiter));
		for (i = 0; i < NB_LAYERS; i++) {
			for (j = 0; j < self->width; j++)
				ASSERT_EQ(NORMAL, actor_prio(&self->node[i][j]));
		}
	}
}

/* Deadlocks of one, two and five, joined from outside. */
#define MAX_CYCLE	5

enum way_out { TIMEOUT, SIGNAL, EXIT, KILL };

FIXTURE(cycle) {
	int dev;
	struct actor member[MAX_CYCLE];
	int mutex[MAX_CYCLE];
	struct actor low;
};

FIXTURE_VARIANT(cycle) {
	unsigned int len;
	bool deadline;
	enum way_out way_out;
};

#define CYCLE(_len, _policy, _deadline, _way_out)			\
	FIXTURE_VARIANT_ADD(cycle, of_##_len##_##_policy##_##_way_out) { \
		.len = _len, .deadline = _deadline, .way_out = _way_out, \
	}
CYCLE(1, fifo, false, TIMEOUT);
CYCLE(1, fifo, false, SIGNAL);
CYCLE(1, fifo, false, EXIT);
CYCLE(1, fifo, false, KILL);
CYCLE(1, deadline, true, TIMEOUT);
CYCLE(1, deadline, true, SIGNAL);
CYCLE(1, deadline, true, EXIT);
CYCLE(1, deadline, true, KILL);
CYCLE(2, fifo, false, TIMEOUT);
CYCLE(2, fifo, false, SIGNAL);
CYCLE(2, fifo, false, EXIT);
CYCLE(2, fifo, false, KILL);
CYCLE(2, deadline, true, TIMEOUT);
CYCLE(2, deadline, true, SIGNAL);
CYCLE(2, deadline, true, EXIT);
CYCLE(2, deadline, true, KILL);
CYCLE(5, fifo, false, TIMEOUT);
CYCLE(5, fifo, false, SIGNAL);
CYCLE(5, fifo, false, EXIT);
CYCLE(5, fifo, false, KILL);
CYCLE(5, deadline, true, TIMEOUT);
CYCLE(5, deadline, true, SIGNAL);
CYCLE(5, deadline, true, EXIT);
CYCLE(5, deadline, true, KILL);

FIXTURE_SETUP(cycle)
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
		/* So that it can wait for what it owns. */
		a->id += 100;
	}
	self->low.id = 1000;
	self->low.timeout = NO_TIMEOUT;
	ASSERT_EQ(0, actor_start(&self->low, self->dev, 30));
}

FIXTURE_TEARDOWN(cycle)
{
	close(self->dev);
}

struct joiner {
	int dev;
	int mutex;
	bool deadline;
	__u64 timeout;
};

static void *joiner_thread(void *arg)
{
	struct joiner *j = arg;
	struct nt_wait wait = {
		.dev = j->dev, .objs = &j->mutex, .count = 1, .owner = 2000,
		.timeout = j->timeout,
	};
	int ret;

	if (j->deadline ? set_deadline(0) : set_sched(0, SCHED_FIFO, 80))
		return NULL;
	ret = nt_wait(&wait);
	return ret == -ETIMEDOUT || ret == -EINTR ? j : NULL;
}

/* A process whose second thread waits. */
static __attribute__((noreturn)) void joiner(struct joiner *j, enum way_out way_out, int pipe)
{
	pthread_t thread;
	cpu_set_t set;
	void *ret;
	int i;
	char c;

	CPU_ZERO(&set);
	for (i = 0; i < CPU_SETSIZE; i++)
		CPU_SET(i, &set);
	if (sched_setaffinity(0, sizeof(set), &set) || set_sched(0, SCHED_FIFO, 90))
		_exit(1);
	j->timeout = NO_TIMEOUT;
	if (way_out == TIMEOUT)
		j->timeout = nt_now(CLOCK_MONOTONIC) + NT_NSEC_PER_SEC / 2;
	if (pthread_create(&thread, NULL, joiner_thread, j))
		_exit(2);
	if (way_out != TIMEOUT && read(pipe, &c, 1) != 1)
		_exit(3);
	if (way_out == EXIT)
		_exit(0);
	if (way_out == SIGNAL)
		pthread_kill(thread, SIGUSR1);
	pthread_join(thread, &ret);
	_exit(ret ? 0 : 4);
}

TEST_F_TIMEOUT(cycle, goes_back, NT_TEST_TIMEOUT)
{
	struct joiner j = {
		.dev = self->dev, .mutex = self->mutex[0], .deadline = variant->deadline,
	};
	int joined = variant->deadline ? DEADLINE : FIFO(80);
	unsigned int i, round, len = variant->len;
	int go[2], status;
	pid_t pid;

	for (i = 0; i < len; i++)
		waits_for(&self->member[i], self->mutex[(i + 1) % len]);
	for (i = 0; i < len; i++)
		EXPECT_EQ(NORMAL, actor_prio(&self->member[i]));

	/* The second time somebody else stays. */
	for (round = 0; round < 2; round++) {
		int rest = round ? FIFO(30) : NORMAL;

		if (round) {
			waits_for(&self->low, self->mutex[len - 1]);
			for (i = 0; i < len; i++)
				EXPECT_EQ(rest, actor_prio(&self->member[i]));
		}

		ASSERT_EQ(0, pipe(go));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			joiner(&j, variant->way_out, go[0]);
		for (i = 0; i < len; i++)
			await_prio(&self->member[i], joined);
		for (i = 0; i < len; i++)
			EXPECT_EQ(joined, actor_prio(&self->member[i]));

		if (variant->way_out == KILL)
			kill(pid, SIGKILL);
		else if (variant->way_out != TIMEOUT)
			ASSERT_EQ(1, write(go[1], "", 1));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(variant->way_out == KILL ? SIGKILL : 0, status);
		for (i = 0; i < len; i++)
			EXPECT_EQ(rest, actor_prio(&self->member[i]));
		close(go[0]);
		close(go[1]);
	}

	/* A member can leave as well, and then it is no cycle any more. */
	pthread_kill(self->member[0].thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(&self->member[0]));
	pthread_kill(self->low.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(&self->low));
	for (i = 0; i < len; i++)
		EXPECT_EQ(NORMAL, actor_prio(&self->member[i]));
}

/*
 * Two that wait for each other, and others that wait for the first one. What
 * they have from each other must not outlive those who lent it, in whatever
 * order these come and go.
 */
FIXTURE(ghost) {
	int dev;
	int mutex[4];
	struct actor member[2];
	struct actor origin;
	struct actor higher;
	char depth[32];
};

FIXTURE_SETUP(ghost)
{
	unsigned int i;

	begin_pi(self->dev);
	ASSERT_TRUE(nt_read_file(MAX_DEPTH, self->depth, sizeof(self->depth)));
	for (i = 0; i < 4; i++) {
		self->mutex[i] = nt_create_mutex(self->dev, 0, 0);
		ASSERT_LE(0, self->mutex[i]);
	}
	for (i = 0; i < 2; i++) {
		self->member[i].id = i + 1;
		self->member[i].timeout = NO_TIMEOUT;
		ASSERT_EQ(0, actor_start(&self->member[i], self->dev, 0));
	}
	/* The first one owns all but one. */
	acquires(&self->member[0], self->mutex[0]);
	acquires(&self->member[1], self->mutex[1]);
	acquires(&self->member[0], self->mutex[2]);
	acquires(&self->member[0], self->mutex[3]);
	self->origin.id = 10;
	self->higher.id = 11;
	ASSERT_EQ(0, actor_start(&self->origin, self->dev, 60));
	ASSERT_EQ(0, actor_start(&self->higher, self->dev, 80));
}

FIXTURE_TEARDOWN(ghost)
{
	nt_write_file(MAX_DEPTH, self->depth);
	close(self->dev);
}

TEST_F_TIMEOUT(ghost, origin_leaves_below, NT_TEST_TIMEOUT)
{
	waits_for(&self->member[0], self->mutex[1]);
	waits_for(&self->member[1], self->mutex[0]);
	waits_for(&self->origin, self->mutex[2]);
	EXPECT_EQ(FIFO(60), actor_prio(&self->member[0]));
	EXPECT_EQ(FIFO(60), actor_prio(&self->member[1]));

	/* This one does not get beyond the first. */
	ASSERT_TRUE(nt_write_file(MAX_DEPTH, "0"));
	waits_for(&self->higher, self->mutex[3]);
	EXPECT_EQ(FIFO(80), actor_prio(&self->member[0]));
	EXPECT_EQ(FIFO(60), actor_prio(&self->member[1]));

	pthread_kill(self->origin.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(&self->origin));
	EXPECT_EQ(FIFO(80), actor_prio(&self->member[0]));

	pthread_kill(self->higher.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(&self->higher));
	EXPECT_EQ(NORMAL, actor_prio(&self->member[0]));
	EXPECT_EQ(NORMAL, actor_prio(&self->member[1]));
}

static int do_late_deadline(struct actor *a)
{
	struct nt_sched_attr attr = {
		.size = sizeof(attr),
		.policy = SCHED_DEADLINE,
		.runtime = NT_NSEC_PER_SEC / 50,
		.deadline = 4 * NT_NSEC_PER_SEC,
		.period = 4 * NT_NSEC_PER_SEC,
	};

	(void)a;
	return syscall(SYS_sched_setattr, 0, &attr, 0) ? -errno : 0;
}

static int do_normal(struct actor *a)
{
	(void)a;
	return set_sched(0, SCHED_OTHER, 0);
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

/*
 * One member has a deadline of its own, later than that of the process that joins
 * and exits. Both would look the same if they kept that one's deadline, but it is
 * freed: a kernel with KASAN tells.
 */
TEST_F_TIMEOUT(ghost, deadline_of_the_dead, NT_TEST_TIMEOUT)
{
	struct nt_wait wait = {
		.dev = self->dev, .objs = &self->mutex[2], .count = 1, .owner = 9,
		.timeout = NO_TIMEOUT,
	};
	int i, j, status;
	pid_t pid;

	ASSERT_EQ(0, unpin(atomic_load(&self->member[0].tid)));
	ASSERT_EQ(0, actor_do(&self->member[0], do_late_deadline));
	waits_for(&self->member[0], self->mutex[1]);
	waits_for(&self->member[1], self->mutex[0]);
	EXPECT_EQ(DEADLINE, actor_prio(&self->member[1]));

	for (i = 0; i < 8; i++) {
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			if (unpin(0) || set_deadline(0))
				_exit(1);
			nt_wait(&wait);
			_exit(0);
		}
		for (j = 0; j < 10000 && nt_task_state(pid, pid) != 'S'; j++)
			sleep_ms(1);
		sleep_ms(10);
		kill(pid, SIGKILL);
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(SIGKILL, status);
	}
	pthread_kill(self->member[0].thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(&self->member[0]));
	EXPECT_EQ(0, actor_do(&self->member[0], do_normal));
	EXPECT_EQ(NORMAL, actor_prio(&self->member[0]));
	EXPECT_EQ(NORMAL, actor_prio(&self->member[1]));
}

TEST_HARNESS_MAIN
