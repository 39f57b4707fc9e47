// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Priority inheritance in large and in closed graphs: chains of hundreds that
 * change between mutexes of ntsync and futex-PI locks, layers in which everybody
 * waits for everybody, and deadlocks that somebody joins and leaves, or whose members
 * change. And what is small, but has little to do with the driver: who lends by a
 * futex-PI lock, and who does not because it was refused.
 */
#include <poll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/wait.h>
#include "pi_test.h"

/* Is this a slow kernel? Then the graphs are smaller. */
static bool is_slow(void)
{
	return nt_scaled(100) < 25;
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

/* Not private: a process may wait as well. */
static int do_lock_futex(struct actor *a)
{
	atomic_uint *f = &futex[a->objs[0]];

	return syscall(SYS_futex, f, FUTEX_LOCK_PI, 0, NULL, NULL, 0) ? -errno : 0;
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
 * Futex-PI locks only. Whoever gets a lock that others wait for has what they lend,
 * whatever becomes of its own priority.
 */
FIXTURE(futex) {
	struct actor owner;
	struct actor high;
	struct actor low;
	struct actor late;
};

static int do_lock_futex_until(struct actor *a)
{
	struct __kernel_old_timespec ts = {
		.tv_sec = a->timeout / NT_NSEC_PER_SEC,
		.tv_nsec = a->timeout % NT_NSEC_PER_SEC,
	};
	atomic_uint *f = &futex[a->objs[0]];

	return syscall(SYS_futex, f, FUTEX_LOCK_PI2, 0, &ts, NULL, 0) ? -errno : 0;
}

static int do_unlock_futex(struct actor *a)
{
	atomic_uint *f = &futex[a->objs[0]];
	unsigned int tid = atomic_load(&a->tid);

	if (atomic_compare_exchange_strong(f, &tid, 0))
		return 0;
	return syscall(SYS_futex, f, FUTEX_UNLOCK_PI, 0, NULL, NULL, 0) ? -errno : 0;
}

#define locks_futex(a, n) do {						\
	struct actor *__a = (a);					\
									\
	__a->objs[0] = (n);						\
	ASSERT_EQ(0, actor_do(__a, do_lock_futex));			\
} while (0)

#define unlocks_futex(a, n) do {					\
	struct actor *__a = (a);					\
									\
	__a->objs[0] = (n);						\
	EXPECT_EQ(0, actor_do(__a, do_unlock_futex));			\
} while (0)

/* fn: do_lock_futex or do_lock_futex_until */
#define waits_for_futex(a, n, fn) do {					\
	struct actor *__a = (a);					\
									\
	__a->objs[0] = (n);						\
	actor_begin(__a, (fn));						\
	ASSERT_TRUE(actor_asleep(__a));					\
} while (0)

FIXTURE_SETUP(futex)
{
	begin_control();
	futex = mmap(NULL, 2 * sizeof(*futex), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		     -1, 0);
	ASSERT_TRUE(futex != MAP_FAILED);
	ASSERT_EQ(0, actor_start(&self->owner, -1, 0));
	ASSERT_EQ(0, actor_start(&self->high, -1, 50));
	ASSERT_EQ(0, actor_start(&self->low, -1, 30));
	ASSERT_EQ(0, actor_start(&self->late, -1, 0));
}

FIXTURE_TEARDOWN(futex)
{
}

TEST_F_TIMEOUT(futex, new_owner, NT_TEST_TIMEOUT)
{
	locks_futex(&self->owner, 0);
	waits_for_futex(&self->low, 0, do_lock_futex);
	waits_for_futex(&self->high, 0, do_lock_futex);
	EXPECT_EQ(FIFO(50), actor_prio(&self->owner));
	unlocks_futex(&self->owner, 0);
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
	EXPECT_EQ(0, actor_end(&self->high));

	EXPECT_EQ(FIFO(50), actor_prio(&self->high));
	ASSERT_EQ(0, set_sched(atomic_load(&self->high.tid), SCHED_OTHER, 0));
	EXPECT_EQ(FIFO(30), actor_prio(&self->high));
	unlocks_futex(&self->high, 0);
	EXPECT_EQ(NORMAL, actor_prio(&self->high));
	EXPECT_EQ(0, actor_end(&self->low));
	unlocks_futex(&self->low, 0);
}

/*
 * Somebody waits for a lock, behind another one, and gets the same priority there. It
 * still is the second one, so the owner does not hear of it. When it is the first one,
 * it lends what it has then, and not what it had: the owner has another waiter, for
 * another lock, who is in between.
 */
#define owner_has_two_locks() do {					\
	locks_futex(&self->owner, 0);					\
	locks_futex(&self->owner, 1);					\
	waits_for_futex(&self->low, 1, do_lock_futex);			\
	waits_for_futex(&self->late, 0, do_lock_futex);			\
	EXPECT_EQ(FIFO(30), actor_prio(&self->owner));			\
} while (0)

#define late_is_raised() do {						\
	EXPECT_EQ(FIFO(50), actor_prio(&self->owner));			\
	ASSERT_EQ(0, set_sched(atomic_load(&self->late.tid), SCHED_FIFO, 50)); \
	EXPECT_EQ(FIFO(50), actor_prio(&self->owner));			\
} while (0)

/* high has left, or is the last one now. */
#define late_is_first() do {						\
	EXPECT_EQ(FIFO(50), actor_prio(&self->owner));			\
	unlocks_futex(&self->owner, 0);					\
	EXPECT_EQ(0, actor_end(&self->late));				\
	EXPECT_EQ(FIFO(30), actor_prio(&self->owner));			\
	unlocks_futex(&self->owner, 1);					\
	EXPECT_EQ(0, actor_end(&self->low));				\
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));			\
} while (0)

TEST_F_TIMEOUT(futex, next_after_timeout, NT_TEST_TIMEOUT)
{
	owner_has_two_locks();
	self->high.timeout = nt_now(CLOCK_MONOTONIC) + NT_NSEC_PER_SEC;
	waits_for_futex(&self->high, 0, do_lock_futex_until);
	late_is_raised();
	ASSERT_FALSE(actor_done(&self->high)) {
		TH_LOG("the machine is too slow for this timeout");
	}
	EXPECT_EQ(-ETIMEDOUT, actor_end(&self->high));
	late_is_first();
}

static atomic_uint interrupted, resumed;

static void stay(int sig)
{
	(void)sig;
	atomic_store(&interrupted, 1);
	nt_futex_wake(&interrupted);
	nt_await(&resumed, 1);
}

/* It does not wait while it handles the signal, and then it waits again, behind the other one. */
TEST_F_TIMEOUT(futex, next_after_signal, NT_TEST_TIMEOUT)
{
	struct sigaction sa = { .sa_handler = stay };

	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
	owner_has_two_locks();
	waits_for_futex(&self->high, 0, do_lock_futex);
	late_is_raised();
	pthread_kill(self->high.thread, SIGUSR1);
	ASSERT_TRUE(nt_await(&interrupted, 1));
	EXPECT_EQ(FIFO(50), actor_prio(&self->owner));
	atomic_store(&resumed, 1);
	nt_futex_wake(&resumed);
	ASSERT_TRUE(actor_asleep(&self->high));
	late_is_first();
	EXPECT_FALSE(actor_done(&self->high));
	unlocks_futex(&self->late, 0);
	EXPECT_EQ(0, actor_end(&self->high));
}

TEST_F_TIMEOUT(futex, next_after_kill, NT_TEST_TIMEOUT)
{
	int status;
	pid_t pid;

	owner_has_two_locks();
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (set_sched(0, SCHED_FIFO, 50))
			_exit(1);
		self->high.objs[0] = 0;
		do_lock_futex(&self->high);
		_exit(2);
	}
	EXPECT_TRUE(poll_until(actor_prio(&self->owner) == FIFO(50)));
	late_is_raised();
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(SIGKILL, status);
	late_is_first();
}

/* The same if it becomes the first one because the other one is the owner now. */
TEST_F_TIMEOUT(futex, next_after_owner, NT_TEST_TIMEOUT)
{
	locks_futex(&self->owner, 0);
	waits_for_futex(&self->late, 0, do_lock_futex);
	waits_for_futex(&self->high, 0, do_lock_futex);
	late_is_raised();
	unlocks_futex(&self->owner, 0);
	EXPECT_EQ(0, actor_end(&self->high));

	locks_futex(&self->high, 1);
	waits_for_futex(&self->low, 1, do_lock_futex);
	EXPECT_EQ(FIFO(50), actor_prio(&self->high));
	ASSERT_EQ(0, set_sched(atomic_load(&self->high.tid), SCHED_OTHER, 0));
	EXPECT_EQ(FIFO(50), actor_prio(&self->high));
	unlocks_futex(&self->high, 0);
	EXPECT_EQ(0, actor_end(&self->late));
	EXPECT_EQ(FIFO(30), actor_prio(&self->high));
	unlocks_futex(&self->high, 1);
	EXPECT_EQ(0, actor_end(&self->low));
	EXPECT_EQ(NORMAL, actor_prio(&self->high));
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

/*
 * One member of a deadlock has a deadline, and so all of them have it. It is given other
 * policies while everybody sleeps, and what they have from it goes round no more. Another
 * one with a deadline, a later one, may wait for what the second member owns.
 */
#define MAX_MEMBERS	3

/* When it leaves: p is FIFO then, or normal, or all other waits have ended. */
enum other { NOBODY, WHILE_FIFO, WHILE_NORMAL, LAST };

struct deadlock {
	unsigned int len;
	int mutex[MAX_MEMBERS];		/* of each member */
	struct actor member[MAX_MEMBERS];	/* the first one is p */
	int own[MAX_MEMBERS];		/* priorities as in /proc: less is more */
	bool waits[MAX_MEMBERS];	/* for the mutex of the next one */
	int extra;			/* of the second one as well */
	struct actor other;
	bool other_waits;
};

FIXTURE(policy) {
	int dev;
	struct deadlock d;
};

FIXTURE_VARIANT(policy) {
	unsigned int len;
	unsigned int first;	/* who is woken first */
	enum other other;
};

#define POLICY(_len, _first, _other)					\
	FIXTURE_VARIANT_ADD(policy, of_##_len##_wakes_##_first##_##_other) { \
		.len = _len, .first = _first, .other = _other,		\
	}
POLICY(2, 0, NOBODY);
POLICY(2, 1, NOBODY);
POLICY(2, 0, WHILE_FIFO);
POLICY(2, 1, WHILE_FIFO);
POLICY(2, 0, WHILE_NORMAL);
POLICY(2, 1, WHILE_NORMAL);
POLICY(2, 0, LAST);
POLICY(2, 1, LAST);
POLICY(3, 0, NOBODY);
POLICY(3, 1, NOBODY);
POLICY(3, 2, NOBODY);
POLICY(3, 0, WHILE_FIFO);
POLICY(3, 1, WHILE_FIFO);
POLICY(3, 2, WHILE_FIFO);
POLICY(3, 0, WHILE_NORMAL);
POLICY(3, 1, WHILE_NORMAL);
POLICY(3, 2, WHILE_NORMAL);
POLICY(3, 0, LAST);
POLICY(3, 1, LAST);
POLICY(3, 2, LAST);

static int set_deadline_msec(pid_t tid, unsigned int runtime, unsigned int deadline)
{
	struct nt_sched_attr attr = {
		.size = sizeof(attr),
		.policy = SCHED_DEADLINE,
		.runtime = runtime * 1000000ULL,
		.deadline = deadline * 1000000ULL,
		.period = deadline * 1000000ULL,
	};

	return syscall(SYS_sched_setattr, tid, &attr, 0) ? -errno : 0;
}

/* Whoever may inherit a deadline must be allowed on all CPUs. */
static int start_unpinned(struct actor *a, int dev)
{
	int ret = actor_start(a, dev, 0);

	return ret ? ret : unpin(atomic_load(&a->tid));
}

FIXTURE_SETUP(policy)
{
	struct deadlock *d = &self->d;
	unsigned int i;

	begin_pi(self->dev);
	d->len = variant->len;
	for (i = 0; i < d->len; i++) {
		struct actor *a = &d->member[i];

		a->id = i + 1;
		a->timeout = NO_TIMEOUT;
		d->own[i] = NORMAL;
		d->mutex[i] = nt_create_mutex(self->dev, 0, 0);
		ASSERT_LE(0, d->mutex[i]);
		ASSERT_EQ(0, start_unpinned(a, self->dev));
		acquires(a, d->mutex[i]);
	}
	d->extra = nt_create_mutex(self->dev, 0, 0);
	ASSERT_LE(0, d->extra);
	acquires(&d->member[1], d->extra);
	d->other.id = 10;
	d->other.timeout = NO_TIMEOUT;
	ASSERT_EQ(0, start_unpinned(&d->other, self->dev));

	/* Of little bandwidth: it is returned up to a period later. */
	ASSERT_EQ(0, set_deadline_msec(atomic_load(&d->member[0].tid), 5, 2000));
	d->own[0] = DEADLINE;
}

FIXTURE_TEARDOWN(policy)
{
	close(self->dev);
}

/* What the members should have: the least fixed point. */
static void expect_members(const struct deadlock *d, int *prio)
{
	unsigned int i, round;

	for (i = 0; i < d->len; i++)
		prio[i] = d->own[i];
	if (d->other_waits)
		prio[1] = DEADLINE;
	for (round = 0; round < d->len; round++) {
		for (i = 0; i < d->len; i++) {
			int *next = &prio[(i + 1) % d->len];

			if (d->waits[i] && prio[i] < *next)
				*next = prio[i];
		}
	}
}

#define check_members(d) do {						\
	struct deadlock *__d = (d);					\
	int __prio[MAX_MEMBERS];					\
	unsigned int __m;						\
									\
	expect_members(__d, __prio);					\
	for (__m = 0; __m < __d->len; __m++) {				\
		struct actor *__a = &__d->member[__m];			\
									\
		ASSERT_TRUE(poll_until(actor_prio(__a) == __prio[__m])) { \
			TH_LOG("member %u has %d instead of %d", __m,	\
			       actor_prio(__a), __prio[__m]);		\
		}							\
	}								\
} while (0)

#define p_gets(d, policy, prio) do {					\
	struct deadlock *_d = (d);					\
	int _prio = (prio);						\
									\
	ASSERT_EQ(0, set_sched(atomic_load(&_d->member[0].tid), (policy), _prio)); \
	_d->own[0] = _prio ? FIFO(_prio) : NORMAL;			\
	check_members(_d);						\
} while (0)

#define other_leaves(d) do {						\
	struct deadlock *_d = (d);					\
									\
	pthread_kill(_d->other.thread, SIGUSR1);			\
	ASSERT_EQ(-EINTR, actor_end(&_d->other));			\
	_d->other_waits = false;					\
	check_members(_d);						\
} while (0)

TEST_F_TIMEOUT(policy, changes_asleep, NT_TEST_TIMEOUT)
{
	struct deadlock *d = &self->d;
	unsigned int i, j;

	for (i = 0; i < d->len; i++) {
		waits_for(&d->member[i], d->mutex[(i + 1) % d->len]);
		d->waits[i] = true;
	}
	for (i = 0; i < d->len; i++)
		await_prio(&d->member[i], DEADLINE);
	if (variant->other != NOBODY) {
		ASSERT_EQ(0, actor_do(&d->other, do_late_deadline));
		waits_for(&d->other, d->extra);
		d->other_waits = true;
		check_members(d);
	}

	p_gets(d, SCHED_FIFO, 10);
	if (variant->other == WHILE_FIFO)
		other_leaves(d);
	p_gets(d, SCHED_OTHER, 0);
	if (variant->other == WHILE_NORMAL)
		other_leaves(d);
	for (i = 0; i < d->len; i++)
		ASSERT_FALSE(actor_done(&d->member[i]));

	/* The wake-up is what looks at a deadline that is left. */
	for (j = 0; j < d->len; j++) {
		i = (variant->first + j) % d->len;
		pthread_kill(d->member[i].thread, SIGUSR1);
		ASSERT_EQ(-EINTR, actor_end(&d->member[i]));
		d->waits[i] = false;
		check_members(d);
	}
	if (variant->other == LAST)
		other_leaves(d);

	for (i = 0; i < d->len; i++) {
		releases(&d->member[i], d->mutex[i]);
		EXPECT_EQ(SCHED_OTHER, sched_getscheduler(atomic_load(&d->member[i].tid)));
		EXPECT_EQ(NORMAL, actor_prio(&d->member[i]));
	}
	releases(&d->member[1], d->extra);
}

/*
 * Whatever policies a sleeping thread is given: the bandwidth of a deadline that it has lost is
 * there for the next one. Sixteen CPUs would not have enough of it otherwise.
 */
FIXTURE(bandwidth) {
	int dev;
	int mutex[2];
	struct actor owner;	/* of both */
	struct actor sleeper;	/* has the first one, waits for the second */
	struct actor donor;	/* waits for the first one, if there is to be a boost */
};

FIXTURE_VARIANT(bandwidth) {
	bool boosted;
};

FIXTURE_VARIANT_ADD(bandwidth, asleep) { };
FIXTURE_VARIANT_ADD(bandwidth, boosted) { .boosted = true };

FIXTURE_SETUP(bandwidth)
{
	struct actor *all[] = { &self->owner, &self->sleeper, &self->donor };
	unsigned int i;

	begin_pi(self->dev);
	for (i = 0; i < 2; i++) {
		self->mutex[i] = nt_create_mutex(self->dev, 0, 0);
		ASSERT_LE(0, self->mutex[i]);
	}
	for (i = 0; i < ARRAY_SIZE(all); i++) {
		all[i]->id = i + 1;
		all[i]->timeout = NO_TIMEOUT;
		ASSERT_EQ(0, start_unpinned(all[i], self->dev));
	}
	acquires(&self->sleeper, self->mutex[0]);
	acquires(&self->owner, self->mutex[1]);
	waits_for(&self->sleeper, self->mutex[1]);
	if (variant->boosted) {
		ASSERT_EQ(0, actor_do(&self->donor, do_late_deadline));
		waits_for(&self->donor, self->mutex[0]);
		await_prio(&self->sleeper, DEADLINE);
	}
}

FIXTURE_TEARDOWN(bandwidth)
{
	close(self->dev);
}

TEST_F_TIMEOUT(bandwidth, is_returned, NT_TEST_TIMEOUT)
{
	pid_t tid = atomic_load(&self->sleeper.tid);
	int own = variant->boosted ? DEADLINE : NORMAL;
	unsigned int i;

	for (i = 0; i < 1600; i++) {
		ASSERT_EQ(0, set_deadline_msec(tid, 20, 2000)) {
			TH_LOG("after %u changes", i);
		}
		ASSERT_EQ(DEADLINE, actor_prio(&self->sleeper));
		ASSERT_EQ(0, set_sched(tid, SCHED_OTHER, 0));
		ASSERT_EQ(own, actor_prio(&self->sleeper));
	}
	if (variant->boosted) {
		pthread_kill(self->donor.thread, SIGUSR1);
		ASSERT_EQ(-EINTR, actor_end(&self->donor));
		await_prio(&self->sleeper, NORMAL);
	}
	releases(&self->owner, self->mutex[1]);
	ASSERT_EQ(0, actor_end(&self->sleeper));
	EXPECT_EQ(NORMAL, actor_prio(&self->sleeper));
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
}

static atomic_bool calm;

/* Awake most of the time; the others need it too, on one CPU. */
static int do_bursts(struct actor *a)
{
	(void)a;
	while (!atomic_load(&calm)) {
		__u64 now = nt_now(CLOCK_MONOTONIC);

		while (nt_now(CLOCK_MONOTONIC) < now + 1500000)
			;
		nt_sleep_until(CLOCK_MONOTONIC, now + 2000000);
	}
	return 0;
}

/*
 * Who inherits a deadline uses up its runtime again and again, and at any time the donor, asleep
 * and with its bandwidth returned, gets another policy: there must be some runtime to the end.
 */
TEST_F_TIMEOUT(bandwidth, is_lent, NT_TEST_TIMEOUT)
{
	pid_t tid = atomic_load(&self->sleeper.tid);
	unsigned int i, seed = 1, n = nt_scaled(300);

	actor_begin(&self->owner, do_bursts);
	for (i = 0; i < n; i++) {
		ASSERT_EQ(0, set_deadline_msec(tid, 1, 20));
		ASSERT_EQ(DEADLINE, actor_prio(&self->owner));
		seed = seed * 1664525 + 1013904223;
		nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + (seed >> 8) % 4000000);
		ASSERT_EQ(0, set_sched(tid, SCHED_OTHER, 0));
		/* It runs, so a thread of the kernel may want a lock that it has at the moment. */
		if (!variant->boosted)
			ASSERT_NE(DEADLINE, actor_prio(&self->owner));
	}
	atomic_store(&calm, true);
	ASSERT_EQ(0, actor_end(&self->owner));
}

#define KEEP_PARAMS	0x10	/* SCHED_FLAG_KEEP_PARAMS of linux/sched.h */

/* With it nothing changes, whatever policy is given. */
TEST_F_TIMEOUT(bandwidth, is_kept, NT_TEST_TIMEOUT)
{
	pid_t tid = atomic_load(&self->sleeper.tid);
	struct nt_sched_attr attr = {
		.size = sizeof(attr),
		.policy = SCHED_OTHER,
		.flags = KEEP_PARAMS,
	};
	unsigned int i;

	ASSERT_EQ(0, set_deadline_msec(tid, 20, 2000));
	for (i = 0; i < 1600; i++) {
		ASSERT_EQ(0, syscall(SYS_sched_setattr, tid, &attr, 0));
		ASSERT_EQ(SCHED_DEADLINE, sched_getscheduler(tid));
		ASSERT_EQ(DEADLINE, actor_prio(&self->sleeper));
	}
	if (variant->boosted) {
		pthread_kill(self->donor.thread, SIGUSR1);
		ASSERT_EQ(-EINTR, actor_end(&self->donor));
	}
	releases(&self->owner, self->mutex[1]);
	ASSERT_EQ(0, actor_end(&self->sleeper));
	EXPECT_EQ(DEADLINE, actor_prio(&self->sleeper));
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
	for (i = 0; i < 1600; i++) {
		ASSERT_EQ(0, set_sched(tid, SCHED_OTHER, 0));
		ASSERT_EQ(0, set_deadline_msec(tid, 20, 2000));
	}
}

/*
 * A thread that is to be requeued to a lock, where that would be a deadlock: a has f3 and
 * is to wait for f2 of b, who waits for f3. The thread is asleep meanwhile and has nothing
 * to do with the lock afterwards, whatever its stack is used for, and whoever follows the
 * links from it must not find one to that lock.
 */
enum { F1, F2, F3, NB_REQUEUE };	/* numbers of futexes */

#define PRIO_C		10
#define PRIO_HIGH	60
#define NB_CHANGES	24		/* ends with a normal one */

FIXTURE(requeue) {
	int dev;
	int mutex[2];		/* of x and of b */
	int pipe[2];
	struct actor a;
	struct actor b;
	struct actor c;
	struct actor x;
	struct actor high;
};

FIXTURE_VARIANT(requeue) {
	bool signal;		/* or a timeout */
	bool contended;		/* c waits for f2 */
	int prio;		/* of b */
};

FIXTURE_VARIANT_ADD(requeue, timeout) { };
FIXTURE_VARIANT_ADD(requeue, timeout_fifo_contended) { .prio = 30, .contended = true };
FIXTURE_VARIANT_ADD(requeue, signal) { .signal = true };
FIXTURE_VARIANT_ADD(requeue, signal_fifo) { .signal = true, .prio = 30 };
FIXTURE_VARIANT_ADD(requeue, signal_contended) { .signal = true, .contended = true };
FIXTURE_VARIANT_ADD(requeue, signal_fifo_contended) {
	.signal = true, .prio = 30, .contended = true,
};

FIXTURE_SETUP(requeue)
{
	int i;

	begin_pi(self->dev);
	futex = mmap(NULL, NB_REQUEUE * sizeof(*futex), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(futex != MAP_FAILED);
	ASSERT_EQ(0, pipe2(self->pipe, O_CLOEXEC));
	for (i = 0; i < 2; i++) {
		self->mutex[i] = nt_create_mutex(self->dev, 0, 0);
		ASSERT_LE(0, self->mutex[i]);
	}
	self->a.id = 1;
	self->a.timeout = NO_TIMEOUT;
	self->b.id = 2;
	self->x.id = 3;
	self->high.id = 4;
	self->high.timeout = NO_TIMEOUT;
	ASSERT_EQ(0, actor_start(&self->a, self->dev, 0));
	ASSERT_EQ(0, actor_start(&self->b, self->dev, variant->prio));
	ASSERT_EQ(0, actor_start(&self->c, self->dev, PRIO_C));
	ASSERT_EQ(0, actor_start(&self->x, self->dev, 0));
	ASSERT_EQ(0, actor_start(&self->high, self->dev, PRIO_HIGH));
	acquires(&self->x, self->mutex[0]);
	acquires(&self->b, self->mutex[1]);
	locks_futex(&self->a, F3);
	locks_futex(&self->b, F2);
}

FIXTURE_TEARDOWN(requeue)
{
	close(self->dev);
}

static int do_wait_requeue(struct actor *a)
{
	struct __kernel_old_timespec ts = {
		.tv_sec = a->timeout / NT_NSEC_PER_SEC,
		.tv_nsec = a->timeout % NT_NSEC_PER_SEC,
	};

	return syscall(SYS_futex, &futex[F1], FUTEX_WAIT_REQUEUE_PI, 0, &ts, &futex[F2], 0) ?
	       -errno : 0;
}

/* So that nothing on the kernel's stack is left as it was. */
static void use_kernel_stack(void)
{
	static const char *const path[] = {
		"/proc/self/status", "/proc/self/maps", "/proc/self/mountinfo",
		"/proc/thread-self/stat", "/proc/meminfo",
	};
	unsigned int i;
	char buf[1024];
	char *page;

	for (i = 0; i < ARRAY_LEN(path); i++)
		nt_read_file(path[i], buf, sizeof(buf));
	page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (page != MAP_FAILED) {
		memset(page, 1, 4096);
		munmap(page, 4096);
	}
}

static int do_sleep_read(struct actor *a)
{
	char c;

	use_kernel_stack();
	return read(a->objs[0], &c, 1) == 1 ? 0 : -EIO;
}

/* The kernel has as many of them on its stack, and so some of what they contain. */
static int do_sleep_poll(struct actor *a)
{
	struct pollfd pfd[30];
	char c;

	use_kernel_stack();
	memset(pfd, 0xff, sizeof(pfd));
	pfd[0].fd = a->objs[0];
	pfd[0].events = POLLIN;
	if (poll(pfd, ARRAY_LEN(pfd), -1) != 1)
		return -EIO;
	return read(a->objs[0], &c, 1) == 1 ? 0 : -EIO;
}

static int do_sleep_select(struct actor *a)
{
	fd_set set;
	char c;

	use_kernel_stack();
	FD_ZERO(&set);
	FD_SET(a->objs[0], &set);
	if (select(a->objs[0] + 1, &set, NULL, NULL, NULL) != 1)
		return -EIO;
	return read(a->objs[0], &c, 1) == 1 ? 0 : -EIO;
}

static int fifo_or_normal(int prio)
{
	return prio ? FIFO(prio) : NORMAL;
}

/* b has lent, from whomever, and lends it to a; x has what a has, if a waits for it. */
#define changes_of_a(nr, lent, x_follows) do {				\
	static const int __changes[] = { 20, 40, 0 };			\
	int __lent = (lent), __i;					\
									\
	for (__i = 0; __i < (nr); __i++) {				\
		int __own = __changes[__i % 3];				\
		int __a = __own > __lent ? __own : __lent;		\
									\
		ASSERT_EQ(0, set_sched(atomic_load(&self->a.tid),	\
				       __own ? SCHED_FIFO : SCHED_OTHER, __own)); \
		ASSERT_EQ(fifo_or_normal(__a), actor_prio(&self->a)) {	\
			TH_LOG("change %d, to %d", __i, __own);		\
		}							\
		ASSERT_EQ(fifo_or_normal(__lent), actor_prio(&self->b)) { \
			TH_LOG("change %d, to %d", __i, __own);		\
		}							\
		ASSERT_EQ((x_follows) ? fifo_or_normal(__a) : NORMAL, actor_prio(&self->x)) { \
			TH_LOG("change %d, to %d", __i, __own);		\
		}							\
		ASSERT_EQ(FIFO(PRIO_C), actor_prio(&self->c));		\
	}								\
} while (0)

TEST_F_TIMEOUT(requeue, deadlock, NT_TEST_TIMEOUT)
{
	static int (*const sleeps[])(struct actor *) = {
		do_sleep_read, do_sleep_poll, do_sleep_select,
	};
	int lent = variant->contended && variant->prio < PRIO_C ? PRIO_C : variant->prio;
	unsigned int i;
	int ret, err;

	self->a.timeout = variant->signal ? nt_bound() :
			  nt_now(CLOCK_MONOTONIC) + 2 * NT_NSEC_PER_SEC;
	actor_begin(&self->a, do_wait_requeue);
	ASSERT_TRUE(actor_asleep(&self->a));
	waits_for_futex(&self->b, F3, do_lock_futex);
	if (variant->contended)
		waits_for_futex(&self->c, F2, do_lock_futex);

	ret = syscall(SYS_futex, &futex[F1], FUTEX_CMP_REQUEUE_PI, 1, 1, &futex[F2], 0);
	err = errno;
	ASSERT_EQ(-1, ret) {
		TH_LOG("a is %s", actor_done(&self->a) ? "back" : "waiting");
	}
	ASSERT_EQ(EDEADLK, err);
	EXPECT_FALSE(actor_done(&self->b));

	/* It still sleeps there, or has timed out meanwhile. */
	changes_of_a(3, lent, false);
	if (variant->signal) {
		/* The call begins anew, and ends because of this. */
		EXPECT_FALSE(actor_done(&self->a));
		atomic_store(&futex[F1], 1);
		pthread_kill(self->a.thread, SIGUSR1);
	}
	ASSERT_EQ(variant->signal ? -EAGAIN : -ETIMEDOUT, actor_end(&self->a));
	changes_of_a(NB_CHANGES, lent, false);

	for (i = 0; i < ARRAY_LEN(sleeps); i++) {
		self->a.objs[0] = self->pipe[0];
		actor_begin(&self->a, sleeps[i]);
		ASSERT_TRUE(actor_asleep(&self->a));
		changes_of_a(NB_CHANGES, lent, false);
		ASSERT_EQ(1, write(self->pipe[1], "", 1));
		ASSERT_EQ(0, actor_end(&self->a));
	}

	/* The links that there are: high -> b -> a -> x. */
	self->a.timeout = NO_TIMEOUT;
	waits_for(&self->a, self->mutex[0]);
	changes_of_a(NB_CHANGES, lent, true);
	waits_for(&self->high, self->mutex[1]);
	changes_of_a(NB_CHANGES, PRIO_HIGH, true);
	pthread_kill(self->high.thread, SIGUSR1);
	ASSERT_EQ(-EINTR, actor_end(&self->high));
	changes_of_a(NB_CHANGES, lent, true);
	releases(&self->x, self->mutex[0]);
	ASSERT_EQ(0, actor_end(&self->a));
	EXPECT_EQ(NORMAL, actor_prio(&self->x));
	EXPECT_EQ(fifo_or_normal(lent), actor_prio(&self->a));
	releases(&self->a, self->mutex[0]);

	unlocks_futex(&self->a, F3);
	EXPECT_EQ(NORMAL, actor_prio(&self->a));
	ASSERT_EQ(0, actor_end(&self->b));
	EXPECT_EQ(fifo_or_normal(lent), actor_prio(&self->b));
	unlocks_futex(&self->b, F3);
	unlocks_futex(&self->b, F2);
	if (variant->contended) {
		ASSERT_EQ(0, actor_end(&self->c));
		unlocks_futex(&self->c, F2);
	}
	releases(&self->b, self->mutex[1]);
	EXPECT_EQ(NORMAL, actor_prio(&self->a));
	EXPECT_EQ(fifo_or_normal(variant->prio), actor_prio(&self->b));
	EXPECT_EQ(FIFO(PRIO_C), actor_prio(&self->c));
	EXPECT_EQ(NORMAL, actor_prio(&self->x));
	EXPECT_EQ(FIFO(PRIO_HIGH), actor_prio(&self->high));
}

/*
 * A chain of futex-PI locks that two processes lend their deadlines to: the early one at
 * its beginning, the late one in the middle. What comes after that has the late deadline
 * when the early one has gone, and uses it up.
 */
enum { OF_M, OF_X, OF_Y, OF_X_TOO, NB_DONORS_FUTEXES };	/* numbers of futexes */

#define SPIN_MSEC	300

FIXTURE(donors) {
	struct actor m;
	struct actor x;
	struct actor y;
};

FIXTURE_VARIANT(donors) {
	bool late_first;	/* which one comes first */
	bool kill;		/* the early one, or it times out */
};

FIXTURE_VARIANT_ADD(donors, timeout) { };
FIXTURE_VARIANT_ADD(donors, kill) { .kill = true };
FIXTURE_VARIANT_ADD(donors, late_first_timeout) { .late_first = true };
FIXTURE_VARIANT_ADD(donors, late_first_kill) { .late_first = true, .kill = true };

FIXTURE_SETUP(donors)
{
	int dev;

	begin_pi(dev);
	close(dev);
	futex = mmap(NULL, NB_DONORS_FUTEXES * sizeof(*futex), PROT_READ | PROT_WRITE,
		     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(futex != MAP_FAILED);
	ASSERT_EQ(0, start_unpinned(&self->m, -1));
	ASSERT_EQ(0, start_unpinned(&self->x, -1));
	ASSERT_EQ(0, start_unpinned(&self->y, -1));
}

FIXTURE_TEARDOWN(donors)
{
}

/* Until it is killed if there is no timeout. The exit code tells whether it timed out. */
static pid_t start_donor(int n, unsigned int runtime, unsigned int deadline, __u64 timeout)
{
	struct actor a = { .timeout = timeout };
	pid_t pid = fork();
	int ret;

	if (pid)
		return pid;
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) || unpin(0) ||
	    set_deadline_msec(0, runtime, deadline))
		_exit(1);
	a.objs[0] = n;
	ret = timeout ? do_lock_futex_until(&a) : do_lock_futex(&a);
	_exit(ret == -ETIMEDOUT ? 0 : 2);
}

static bool donor_asleep(pid_t pid, int n)
{
	return (atomic_load(&futex[n]) & FUTEX_WAITERS) && nt_task_state(pid, pid) == 'S';
}

/* As if the budget were its own: runs out several times, if it does. */
static int do_spin(struct actor *a)
{
	__u64 begin = nt_now(CLOCK_THREAD_CPUTIME_ID), bound = nt_bound();

	(void)a;
	while (nt_now(CLOCK_THREAD_CPUTIME_ID) - begin < SPIN_MSEC * 1000000ULL) {
		if (nt_now(CLOCK_MONOTONIC) >= bound)
			return -ETIME;
	}
	return 0;
}

#define check_chain(_m, _x, _y) do {					\
	EXPECT_EQ((_m), actor_prio(&self->m));				\
	EXPECT_EQ((_x), actor_prio(&self->x));				\
	EXPECT_EQ((_y), actor_prio(&self->y));				\
} while (0)

#define start_early() do {						\
	early = start_donor(OF_M, 2, 10, variant->kill ? 0 :		\
			    nt_now(CLOCK_MONOTONIC) + 3 * NT_NSEC_PER_SEC); \
	ASSERT_LE(0, early);						\
	ASSERT_TRUE(poll_until(donor_asleep(early, OF_M)));		\
	await_prio(&self->m, DEADLINE);					\
} while (0)

#define start_late() do {						\
	late = start_donor(OF_X_TOO, 4, 40, 0);				\
	ASSERT_LE(0, late);						\
	ASSERT_TRUE(poll_until(donor_asleep(late, OF_X_TOO)));		\
	await_prio(&self->x, DEADLINE);					\
} while (0)

TEST_F_TIMEOUT(donors, leave, NT_TEST_TIMEOUT)
{
	pid_t early, late;
	int status;

	locks_futex(&self->m, OF_M);
	locks_futex(&self->x, OF_X);
	locks_futex(&self->x, OF_X_TOO);
	locks_futex(&self->y, OF_Y);
	waits_for_futex(&self->m, OF_X, do_lock_futex);
	waits_for_futex(&self->x, OF_Y, do_lock_futex);
	check_chain(NORMAL, NORMAL, NORMAL);

	if (variant->late_first) {
		start_late();
		await_prio(&self->y, DEADLINE);
		check_chain(NORMAL, DEADLINE, DEADLINE);
		start_early();
	} else {
		start_early();
		await_prio(&self->y, DEADLINE);
		check_chain(DEADLINE, DEADLINE, DEADLINE);
		start_late();
	}
	check_chain(DEADLINE, DEADLINE, DEADLINE);
	ASSERT_EQ(0, waitpid(early, &status, WNOHANG)) {
		TH_LOG("the machine is too slow for this timeout");
	}

	/* The parameters of the early one are freed now. */
	if (variant->kill)
		kill(early, SIGKILL);
	ASSERT_EQ(early, waitpid(early, &status, 0));
	EXPECT_EQ(variant->kill ? SIGKILL : 0, status);
	check_chain(NORMAL, DEADLINE, DEADLINE);

	EXPECT_EQ(0, actor_do(&self->y, do_spin));
	check_chain(NORMAL, DEADLINE, DEADLINE);

	kill(late, SIGKILL);
	ASSERT_EQ(late, waitpid(late, &status, 0));
	EXPECT_EQ(SIGKILL, status);
	check_chain(NORMAL, NORMAL, NORMAL);
	EXPECT_EQ(0, actor_do(&self->y, do_spin));

	unlocks_futex(&self->y, OF_Y);
	EXPECT_EQ(0, actor_end(&self->x));
	unlocks_futex(&self->x, OF_Y);
	unlocks_futex(&self->x, OF_X);
	unlocks_futex(&self->x, OF_X_TOO);
	EXPECT_EQ(0, actor_end(&self->m));
	unlocks_futex(&self->m, OF_X);
	unlocks_futex(&self->m, OF_M);
	check_chain(NORMAL, NORMAL, NORMAL);
}

TEST_HARNESS_MAIN
