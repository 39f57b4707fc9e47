// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Priority inheritance of mutexes, sentence by sentence of its contract.
 *
 * pi_graph compares whole graphs of waiting threads with what they should be.
 * Here is what is no graph: ways to begin and to end a loan, the limits,
 * MUTEX_SET_TASK, and that no mutex remembers a task for ever.
 *
 * Everything runs on one CPU below the controlling thread. Evidence is the
 * effective priority and the order of events.
 */
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include "pi_test.h"

#define ADJUSTED	"/sys/module/pi_chain/parameters/adjusted"
#define HOLD_VAR	"NTSYNC_PI_HOLD"

/* A program that is executed by a test only has to stay until it is killed. */
static __attribute__((constructor)) void hold(void)
{
	if (getenv(HOLD_VAR)) {
		for (;;)
			pause();
	}
}

FIXTURE(pi) {
	int dev;
	int mutex;
	struct actor owner;
	struct actor waiter;
	struct actor other;
};

FIXTURE_SETUP(pi)
{
	begin_pi(self->dev);
	self->mutex = nt_create_mutex(self->dev, 0, 0);
	ASSERT_LE(0, self->mutex);

	self->owner.id = 1;
	self->waiter.id = 2;
	self->other.id = 3;
	ASSERT_EQ(0, actor_start(&self->owner, self->dev, 0));
	ASSERT_EQ(0, actor_start(&self->waiter, self->dev, 80));
	ASSERT_EQ(0, actor_start(&self->other, self->dev, 0));
}

/* Whoever has a deadline must be allowed on all CPUs, and whoever inherits one. */
static int unpin(struct actor *a)
{
	cpu_set_t set;
	int i;

	CPU_ZERO(&set);
	for (i = 0; i < CPU_SETSIZE; i++)
		CPU_SET(i, &set);
	return sched_setaffinity(atomic_load(&a->tid), sizeof(set), &set) ? -errno : 0;
}

FIXTURE_TEARDOWN(pi)
{
	close(self->mutex);
	close(self->dev);
}

TEST_F_TIMEOUT(pi, released, NT_TEST_TIMEOUT)
{
	pid_t tid = atomic_load(&self->owner.tid);

	acquires(&self->owner, self->mutex);
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
	waits_for(&self->waiter, self->mutex);
	EXPECT_EQ(FIFO(80), actor_prio(&self->owner));
	EXPECT_EQ(SCHED_OTHER, sched_getscheduler(tid));
	releases(&self->owner, self->mutex);
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
	EXPECT_EQ(0, actor_end(&self->waiter));
	check_mutex(self->mutex, 2, 1);
}

TEST_F_TIMEOUT(pi, timeout, NT_TEST_TIMEOUT)
{
	acquires(&self->owner, self->mutex);
	self->waiter.timeout = nt_now(CLOCK_MONOTONIC) + NT_NSEC_PER_SEC / 2;
	waits_for(&self->waiter, self->mutex);
	EXPECT_EQ(FIFO(80), actor_prio(&self->owner));
	EXPECT_EQ(-ETIMEDOUT, actor_end(&self->waiter));
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
}

TEST_F_TIMEOUT(pi, signal, NT_TEST_TIMEOUT)
{
	acquires(&self->owner, self->mutex);
	waits_for(&self->waiter, self->mutex);
	EXPECT_EQ(FIFO(80), actor_prio(&self->owner));
	pthread_kill(self->waiter.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(&self->waiter));
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
}

/* A wait holds its files. */
TEST_F_TIMEOUT(pi, closed, NT_TEST_TIMEOUT)
{
	int copy = dup(self->mutex);

	ASSERT_LE(0, copy);
	acquires(&self->owner, self->mutex);
	waits_for(&self->waiter, copy);
	close(copy);
	EXPECT_EQ(FIFO(80), actor_prio(&self->owner));
	releases(&self->owner, self->mutex);
	EXPECT_EQ(0, actor_end(&self->waiter));
}

/* Neither does it end what is lent if nobody can release the mutex any more. */
TEST_F_TIMEOUT(pi, closed_for_ever, NT_TEST_TIMEOUT)
{
	int mutex = nt_create_mutex(self->dev, 0, 0);

	ASSERT_LE(0, mutex);
	acquires(&self->owner, mutex);
	waits_for(&self->waiter, mutex);
	EXPECT_EQ(FIFO(80), actor_prio(&self->owner));
	ASSERT_EQ(0, close(mutex));
	EXPECT_EQ(FIFO(80), actor_prio(&self->owner));
	pthread_kill(self->waiter.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(&self->waiter));
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
}

TEST_F_TIMEOUT(pi, waiter_killed, NT_TEST_TIMEOUT)
{
	int status;
	pid_t pid;

	acquires(&self->owner, self->mutex);
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct nt_wait wait = {
			.dev = self->dev, .objs = &self->mutex, .count = 1, .owner = 9,
			.timeout = UINT64_MAX,
		};

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		_exit(set_sched(0, SCHED_FIFO, 70) ? 1 : nt_wait(&wait));
	}
	for (status = 0; status < 5000 && actor_prio(&self->owner) != FIFO(70); status++)
		nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + 1000000);
	EXPECT_EQ(FIFO(70), actor_prio(&self->owner));
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
}

/* What the user sets during a boost is what remains after it. */
TEST_F_TIMEOUT(pi, set_scheduler, NT_TEST_TIMEOUT)
{
	pid_t tid = atomic_load(&self->owner.tid);
	static const struct { int policy, prio; } set[] = {
		{ SCHED_FIFO, 20 }, { SCHED_RR, 60 }, { SCHED_OTHER, 0 }, { SCHED_BATCH, 0 },
		{ SCHED_FIFO, 85 }, { SCHED_OTHER, 0 }, { SCHED_RR, 30 },
	};
	struct sched_param param;
	unsigned int i;

	acquires(&self->owner, self->mutex);
	waits_for(&self->waiter, self->mutex);
	for (i = 0; i < ARRAY_LEN(set); i++) {
		ASSERT_EQ(0, set_sched(tid, set[i].policy, set[i].prio));
		EXPECT_EQ(set[i].prio > 80 ? FIFO(set[i].prio) : FIFO(80),
			  actor_prio(&self->owner));
		EXPECT_EQ(set[i].policy, sched_getscheduler(tid));
		EXPECT_EQ(0, sched_getparam(tid, &param));
		EXPECT_EQ(set[i].prio, param.sched_priority);
	}
	releases(&self->owner, self->mutex);
	EXPECT_EQ(FIFO(30), actor_prio(&self->owner));
	EXPECT_EQ(SCHED_RR, sched_getscheduler(tid));
	EXPECT_EQ(0, actor_end(&self->waiter));
}

/* Nice values are not inherited, and do nothing to the scheduler. */
TEST_F_TIMEOUT(pi, nice, NT_TEST_TIMEOUT)
{
	char before[32] = "", after[32] = "";

	ASSERT_EQ(0, set_sched(atomic_load(&self->waiter.tid), SCHED_OTHER, 0));
	ASSERT_EQ(0, setpriority(PRIO_PROCESS, atomic_load(&self->waiter.tid), -15));
	EXPECT_TRUE(nt_read_file(ADJUSTED, before, sizeof(before)));
	acquires(&self->owner, self->mutex);
	waits_for(&self->waiter, self->mutex);
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
	releases(&self->owner, self->mutex);
	EXPECT_EQ(0, actor_end(&self->waiter));
	EXPECT_TRUE(nt_read_file(ADJUSTED, after, sizeof(after)));
	EXPECT_EQ(0, strcmp(before, after));

	/* and the counter does count */
	ASSERT_EQ(0, set_sched(atomic_load(&self->other.tid), SCHED_FIFO, 10));
	waits_for(&self->other, self->mutex);
	EXPECT_TRUE(nt_read_file(ADJUSTED, after, sizeof(after)));
	EXPECT_NE(0, strcmp(before, after));
	releases(&self->waiter, self->mutex);
	EXPECT_EQ(0, actor_end(&self->other));
}

static unsigned int tid_of(struct actor *a)
{
	return atomic_load(&a->tid);
}

/* The owner has what the waiter has, whatever that is, as long as it waits. */
TEST_F_TIMEOUT(pi, waiter_changes, NT_TEST_TIMEOUT)
{
	static const struct { int policy, prio, lent; } set[] = {
		{ SCHED_FIFO, 85, FIFO(85) }, { SCHED_FIFO, 60, FIFO(60) },
		{ SCHED_RR, 70, FIFO(70) }, { SCHED_OTHER, 0, NORMAL },
		{ SCHED_BATCH, 0, NORMAL }, { SCHED_RR, 10, FIFO(10) },
		{ SCHED_FIFO, 10, FIFO(10) }, { SCHED_IDLE, 0, NORMAL },
		{ SCHED_FIFO, 1, FIFO(1) }, { SCHED_FIFO, 80, FIFO(80) },
	};
	unsigned int i;

	acquires(&self->owner, self->mutex);
	waits_for(&self->waiter, self->mutex);
	for (i = 0; i < ARRAY_LEN(set); i++) {
		ASSERT_EQ(0, set_sched(tid_of(&self->waiter), set[i].policy, set[i].prio));
		EXPECT_EQ(set[i].lent, actor_prio(&self->owner));
		EXPECT_EQ(SCHED_OTHER, sched_getscheduler(tid_of(&self->owner)));
	}
	releases(&self->owner, self->mutex);
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
	EXPECT_EQ(0, actor_end(&self->waiter));
}

/* By itself: a deadline thread that sleeps would leave its bandwidth behind. */
static int do_fifo_40(struct actor *a)
{
	(void)a;
	return set_sched(0, SCHED_FIFO, 40);
}

/* Everything that the user can do to the owner during a deadline boost. */
TEST_F_TIMEOUT(pi, deadline_donor, NT_TEST_TIMEOUT)
{
	static const struct { int policy, prio; } set[] = {
		{ SCHED_FIFO, 20 }, { SCHED_RR, 99 }, { SCHED_OTHER, 0 }, { SCHED_BATCH, 0 },
		{ SCHED_FIFO, 30 },
	};
	pid_t owner = tid_of(&self->owner);
	struct sched_param param;
	unsigned int i;

	ASSERT_EQ(0, unpin(&self->owner));
	ASSERT_EQ(0, unpin(&self->waiter));
	acquires(&self->owner, self->mutex);
	ASSERT_EQ(0, set_deadline(tid_of(&self->waiter)));
	waits_for(&self->waiter, self->mutex);
	EXPECT_EQ(DEADLINE, actor_prio(&self->owner));
	for (i = 0; i < ARRAY_LEN(set); i++) {
		ASSERT_EQ(0, set_sched(owner, set[i].policy, set[i].prio));
		EXPECT_EQ(DEADLINE, actor_prio(&self->owner));
		EXPECT_EQ(set[i].policy, sched_getscheduler(owner));
		EXPECT_EQ(0, sched_getparam(owner, &param));
		EXPECT_EQ(set[i].prio, param.sched_priority);
	}
	pthread_kill(self->waiter.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(&self->waiter));
	EXPECT_EQ(FIFO(30), actor_prio(&self->owner));
	ASSERT_EQ(0, actor_do(&self->waiter, do_fifo_40));
	waits_for(&self->waiter, self->mutex);
	EXPECT_EQ(FIFO(40), actor_prio(&self->owner));
	releases(&self->owner, self->mutex);
	EXPECT_EQ(FIFO(30), actor_prio(&self->owner));
	EXPECT_EQ(0, actor_end(&self->waiter));
}

/*
 * A deadline is inherited by way of another owner, and the thread whose own it is gets what it
 * waits for from a third one, by the id of its owner. It exits before that one, which is normal,
 * has the CPU again. The owner that is left needs the CPU until that thread is gone, however long
 * its bandwidth makes that last, and then says what priority it has: nothing is left of a deadline
 * whose thread is gone. (That is a matter of one CPU.)
 */
static atomic_uint origin_leaves;
static pid_t origin_tid;

static int do_get_and_exit(struct actor *a)
{
	int ret = do_wait(a);

	atomic_store(&origin_leaves, 1);
	nt_futex_wake(&origin_leaves);
	pthread_exit((void *)(intptr_t)ret);
}

static int do_outlast(struct actor *a)
{
	__u64 end = nt_now(CLOCK_MONOTONIC) + 20 * NT_NSEC_PER_SEC;
	char task[64];

	snprintf(task, sizeof(task), "/proc/self/task/%d", origin_tid);
	if (!nt_await(&origin_leaves, 1))
		return -ETIME;
	while (!access(task, F_OK)) {
		if (nt_now(CLOCK_MONOTONIC) > end)
			return -ETIME;
	}
	return actor_prio(a);
}

TEST_F_TIMEOUT(pi, origin_exits, NT_TEST_TIMEOUT)
{
	struct actor *origin = &self->waiter, *first = &self->other, *last = &self->owner;
	int mutex = nt_create_mutex(self->dev, 0, 0);
	struct actor third = { .id = first->id };
	void *ret;

	ASSERT_LE(0, mutex);
	ASSERT_EQ(0, actor_start(&third, self->dev, 0));
	ASSERT_EQ(0, unpin(origin));
	ASSERT_EQ(0, unpin(first));
	ASSERT_EQ(0, unpin(last));
	acquires(last, mutex);
	acquires(first, self->mutex);
	waits_for(first, mutex);
	ASSERT_EQ(0, set_deadline(tid_of(origin)));
	origin->objs[0] = self->mutex;
	origin->nb_objs = 1;
	atomic_store(&origin_leaves, 0);
	origin_tid = tid_of(origin);
	actor_begin(origin, do_get_and_exit);
	ASSERT_TRUE(actor_asleep(origin));
	EXPECT_EQ(DEADLINE, actor_prio(first));
	EXPECT_EQ(DEADLINE, actor_prio(last));

	actor_begin(last, do_outlast);
	ASSERT_TRUE(actor_asleep(last));
	releases(&third, self->mutex);
	ASSERT_EQ(0, pthread_join(origin->thread, &ret));
	EXPECT_EQ(0, (int)(intptr_t)ret);
	EXPECT_EQ(NORMAL, actor_end(last));

	pthread_kill(first->thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(first));
	releases(last, mutex);
}

/* Two mutexes and one waiter: for any and for all, both owners inherit. */
TEST_F_TIMEOUT(pi, two_mutexes, NT_TEST_TIMEOUT)
{
	int second = nt_create_mutex(self->dev, 0, 0);
	int i;

	ASSERT_LE(0, second);
	acquires(&self->owner, self->mutex);
	acquires(&self->other, second);
	for (i = 0; i < 2; i++) {
		self->waiter.all = i;
		self->waiter.objs[0] = self->mutex;
		self->waiter.objs[1] = second;
		self->waiter.nb_objs = 2;
		actor_begin(&self->waiter, do_wait);
		ASSERT_TRUE(actor_asleep(&self->waiter));
		EXPECT_EQ(FIFO(80), actor_prio(&self->owner));
		EXPECT_EQ(FIFO(80), actor_prio(&self->other));
		releases(&self->other, second);
		EXPECT_EQ(NORMAL, actor_prio(&self->other));
		if (!i) {
			EXPECT_EQ(0, actor_end(&self->waiter));
			EXPECT_EQ(NORMAL, actor_prio(&self->owner));
			releases(&self->waiter, second);
			acquires(&self->other, second);
			continue;
		}
		/* nobody has the second one now, so it lends only to the first */
		EXPECT_FALSE(actor_done(&self->waiter));
		EXPECT_EQ(FIFO(80), actor_prio(&self->owner));
		releases(&self->owner, self->mutex);
		EXPECT_EQ(NORMAL, actor_prio(&self->owner));
		EXPECT_EQ(0, actor_end(&self->waiter));
		check_mutex(self->mutex, 2, 1);
		check_mutex(second, 2, 1);
	}
}

/* A boost lasts until the last of several releases. */
TEST_F_TIMEOUT(pi, recursion, NT_TEST_TIMEOUT)
{
	acquires(&self->owner, self->mutex);
	acquires(&self->owner, self->mutex);
	waits_for(&self->waiter, self->mutex);
	EXPECT_EQ(FIFO(80), actor_prio(&self->owner));
	acquires(&self->owner, self->mutex);
	releases(&self->owner, self->mutex);
	releases(&self->owner, self->mutex);
	EXPECT_EQ(FIFO(80), actor_prio(&self->owner));
	EXPECT_FALSE(actor_done(&self->waiter));
	releases(&self->owner, self->mutex);
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
	EXPECT_EQ(0, actor_end(&self->waiter));
}

/* Its own waiter under another id: never its own donor, and it can leave. */
TEST_F_TIMEOUT(pi, waits_for_itself, NT_TEST_TIMEOUT)
{
	acquires(&self->owner, self->mutex);
	self->owner.id = 77;
	waits_for(&self->owner, self->mutex);
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
	ASSERT_EQ(0, set_sched(tid_of(&self->owner), SCHED_FIFO, 60));
	ASSERT_EQ(0, set_sched(tid_of(&self->owner), SCHED_OTHER, 0));
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
	waits_for(&self->waiter, self->mutex);
	EXPECT_EQ(FIFO(80), actor_prio(&self->owner));
	pthread_kill(self->waiter.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(&self->waiter));
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
	pthread_kill(self->owner.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(&self->owner));
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
}

/*
 * Without a real-time task that waits nothing is done to the scheduler: not once
 * in all of upstream's tests.
 */
TEST(untouched)
{
	char path[PATH_MAX], before[32] = "", after[32] = "", *name;
	ssize_t len = readlink("/proc/self/exe", path, sizeof(path) - 1);
	int status;
	pid_t pid;

	if (!nt_read_file(ADJUSTED, before, sizeof(before)))
		SKIP(return, "no priority inheritance in this kernel");
	ASSERT_LT(0, len);
	path[len] = 0;
	name = strrchr(path, '/') + 1;
	/* pi-32: beside it there is ntsync-32 */
	ASSERT_EQ(0, strncmp(name, "pi", 2));
	memmove(name + strlen("ntsync"), name + 2, strlen(name + 2) + 1);
	memcpy(name, "ntsync", strlen("ntsync"));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int null = open("/dev/null", O_WRONLY);

		dup2(null, 1);
		dup2(null, 2);
		execl(path, path, NULL);
		_exit(126);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_TRUE(nt_read_file(ADJUSTED, after, sizeof(after)));
	EXPECT_EQ(0, strcmp(before, after));
}

static int do_fork(struct actor *a)
{
	int status;
	pid_t pid;

	(void)a;
	pid = fork();
	if (!pid)
		_exit(nt_task_prio(getpid(), getpid()) == NORMAL ? 0 : 1);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -EAGAIN;
	return status;
}

TEST_F_TIMEOUT(pi, fork, NT_TEST_TIMEOUT)
{
	acquires(&self->owner, self->mutex);
	waits_for(&self->waiter, self->mutex);
	EXPECT_EQ(0, actor_do(&self->owner, do_fork));
	EXPECT_EQ(FIFO(80), actor_prio(&self->owner));
	releases(&self->owner, self->mutex);
	EXPECT_EQ(0, actor_end(&self->waiter));
}

/* The loan ends with the thread, the ownership does not. */
TEST_F_TIMEOUT(pi, owner_exits, NT_TEST_TIMEOUT)
{
	acquires(&self->owner, self->mutex);
	waits_for(&self->waiter, self->mutex);
	EXPECT_EQ(FIFO(80), actor_prio(&self->owner));
	actor_stop(&self->owner);
	EXPECT_FALSE(actor_done(&self->waiter));
	check_mutex(self->mutex, 1, 1);

	ASSERT_EQ(0, set_sched(atomic_load(&self->other.tid), SCHED_FIFO, 85));
	waits_for(&self->other, self->mutex);
	EXPECT_EQ(0, nt_unlock_mutex(self->mutex, 1, NULL));
	EXPECT_EQ(0, actor_end(&self->other));
	check_mutex(self->mutex, 3, 1);
	releases(&self->other, self->mutex);
	EXPECT_EQ(0, actor_end(&self->waiter));
}

TEST_F_TIMEOUT(pi, owner_executes, NT_TEST_TIMEOUT)
{
	char path[64], comm[32];
	int go[2], i, status;
	pid_t pid;

	ASSERT_EQ(0, pipe2(go, O_CLOEXEC));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct nt_wait wait = {
			.dev = self->dev, .objs = &self->mutex, .count = 1, .owner = 9,
		};

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		set_sched(0, SCHED_OTHER, 0);
		if (nt_wait(&wait) || read(go[0], comm, 1) != 1)
			_exit(1);
		setenv(HOLD_VAR, "1", 1);
		execl("/proc/self/exe", "pi-hold", NULL);
		_exit(1);
	}
	for (i = 0; i < 5000 && nt_mutex_owner(self->mutex) != 9; i++)
		nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + 1000000);
	waits_for(&self->waiter, self->mutex);
	EXPECT_EQ(FIFO(80), nt_task_prio(pid, pid));

	ASSERT_EQ(1, write(go[1], "", 1));
	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	for (i = 0; i < 5000; i++) {
		if (nt_read_file(path, comm, sizeof(comm)) && !strcmp(comm, "pi-hold") &&
		    nt_task_state(pid, pid) == 'S')
			break;
		nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + 1000000);
	}
	EXPECT_EQ(0, strcmp(comm, "pi-hold"));
	EXPECT_EQ(NORMAL, nt_task_prio(pid, pid));
	check_mutex(self->mutex, 9, 1);

	/* nor does one that comes later lend it anything */
	ASSERT_EQ(0, set_sched(atomic_load(&self->other.tid), SCHED_FIFO, 85));
	waits_for(&self->other, self->mutex);
	EXPECT_EQ(NORMAL, nt_task_prio(pid, pid));

	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, nt_kill_mutex(self->mutex, 9));
	EXPECT_EQ(-EOWNERDEAD, actor_end(&self->other));
	releases(&self->other, self->mutex);
	EXPECT_EQ(0, actor_end(&self->waiter));
}

TEST_F_TIMEOUT(pi, owner_killed, NT_TEST_TIMEOUT)
{
	int i, status;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		struct nt_wait wait = {
			.dev = self->dev, .objs = &self->mutex, .count = 1, .owner = 9,
		};

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		set_sched(0, SCHED_OTHER, 0);
		nt_wait(&wait);
		for (;;)
			pause();
	}
	for (i = 0; i < 5000 && nt_mutex_owner(self->mutex) != 9; i++)
		nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + 1000000);
	waits_for(&self->waiter, self->mutex);
	EXPECT_EQ(FIFO(80), nt_task_prio(pid, pid));
	kill(pid, SIGKILL);
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_FALSE(actor_done(&self->waiter));
	EXPECT_EQ(0, nt_kill_mutex(self->mutex, 9));
	EXPECT_EQ(-EOWNERDEAD, actor_end(&self->waiter));

	/* an abandoned mutex has been acquired all the same */
	ASSERT_EQ(0, set_sched(atomic_load(&self->other.tid), SCHED_FIFO, 85));
	waits_for(&self->other, self->mutex);
	EXPECT_EQ(FIFO(85), actor_prio(&self->waiter));
	releases(&self->waiter, self->mutex);
	EXPECT_EQ(FIFO(80), actor_prio(&self->waiter));
	EXPECT_EQ(0, actor_end(&self->other));
}

/* Of several tasks with one id the first is the one that inherits. */
TEST_F_TIMEOUT(pi, same_id, NT_TEST_TIMEOUT)
{
	self->other.id = 1;
	acquires(&self->owner, self->mutex);
	acquires(&self->other, self->mutex);
	check_mutex(self->mutex, 1, 2);
	waits_for(&self->waiter, self->mutex);
	EXPECT_EQ(FIFO(80), actor_prio(&self->owner));
	EXPECT_EQ(NORMAL, actor_prio(&self->other));
	releases(&self->other, self->mutex);
	EXPECT_EQ(FIFO(80), actor_prio(&self->owner));
	releases(&self->other, self->mutex);
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
	EXPECT_EQ(0, actor_end(&self->waiter));
}

TEST_F_TIMEOUT(pi, mutex_killed, NT_TEST_TIMEOUT)
{
	acquires(&self->owner, self->mutex);
	waits_for(&self->waiter, self->mutex);
	EXPECT_EQ(0, nt_kill_mutex(self->mutex, 1));
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
	EXPECT_EQ(-EOWNERDEAD, actor_end(&self->waiter));
}

TEST_F_TIMEOUT(pi, hand_over, NT_TEST_TIMEOUT)
{
	struct actor low = { .id = 4 };

	ASSERT_EQ(0, actor_start(&low, self->dev, 10));
	ASSERT_EQ(0, set_sched(atomic_load(&self->other.tid), SCHED_FIFO, 40));
	acquires(&self->owner, self->mutex);
	waits_for(&low, self->mutex);
	EXPECT_EQ(FIFO(10), actor_prio(&self->owner));
	waits_for(&self->waiter, self->mutex);
	EXPECT_EQ(FIFO(80), actor_prio(&self->owner));
	waits_for(&self->other, self->mutex);
	EXPECT_EQ(FIFO(80), actor_prio(&self->owner));

	releases(&self->owner, self->mutex);
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
	EXPECT_EQ(0, actor_end(&self->waiter));
	releases(&self->waiter, self->mutex);
	EXPECT_EQ(0, actor_end(&self->other));
	EXPECT_EQ(FIFO(40), actor_prio(&self->other));
	ASSERT_EQ(0, set_sched(atomic_load(&self->other.tid), SCHED_OTHER, 0));
	EXPECT_EQ(FIFO(10), actor_prio(&self->other));
	releases(&self->other, self->mutex);
	EXPECT_EQ(NORMAL, actor_prio(&self->other));
	EXPECT_EQ(0, actor_end(&low));
}

TEST_F_TIMEOUT(pi, set_task, NT_TEST_TIMEOUT)
{
	pid_t owner = atomic_load(&self->owner.tid), other = atomic_load(&self->other.tid);
	int mutex, event, status;
	pid_t pid;

	event = nt_create_event(self->dev, false, false);
	ASSERT_LE(0, event);
	mutex = nt_create_mutex(self->dev, 7, 1);
	ASSERT_LE(0, mutex);

	EXPECT_EQ(-EINVAL, nt_set_task(self->mutex, owner, 0));
	EXPECT_EQ(-EINVAL, nt_set_task(mutex, owner, 1));
	EXPECT_EQ(-EINVAL, nt_set_task(event, owner, 0));
	EXPECT_EQ(-ESRCH, nt_set_task(mutex, 0, 0));
	/* kthreadd */
	EXPECT_EQ(-EPERM, nt_set_task(mutex, 2, 0));
	EXPECT_EQ(-ESRCH, nt_set_task(mutex, 0x7fffffff, 0));
	EXPECT_EQ(-EFAULT, nt_ioctl(mutex, NTSYNC_IOC_MUTEX_SET_TASK, NULL));

	/* Nobody is known to own what was created so. */
	waits_for(&self->waiter, mutex);
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
	EXPECT_EQ(0, nt_set_task(mutex, owner, 0));
	EXPECT_EQ(FIFO(80), actor_prio(&self->owner));
	EXPECT_EQ(0, nt_set_task(mutex, other, 0));
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
	EXPECT_EQ(FIFO(80), actor_prio(&self->other));

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (setresuid(65534, 65534, 65534))
			_exit(1);
		if (nt_set_task(mutex, owner, 0) != -EPERM)
			_exit(2);
		_exit(nt_set_task(mutex, getpid(), 0) ? 3 : 0);
	}
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(NORMAL, actor_prio(&self->other));

	EXPECT_EQ(0, nt_unlock_mutex(mutex, 7, NULL));
	EXPECT_EQ(0, actor_end(&self->waiter));
}

#define MAX_CHAIN	64

FIXTURE(chain) {
	int dev;
	int mutex[MAX_CHAIN];
	struct actor *node;	/* owns mutex[i] and waits for mutex[i - 1] */
	struct actor waiter;	/* waits for the last one */
	char depth[32];		/* the limit as it was */
};

FIXTURE_VARIANT(chain) {
	unsigned int len;
	unsigned int arrival;	/* how many of the chain wait before the waiter comes */
};

#define CHAIN(_len, _arrival)						\
	FIXTURE_VARIANT_ADD(chain, len_##_len##_##_arrival) { .len = _len, .arrival = _arrival }
CHAIN(2, 0);
CHAIN(2, 1);
CHAIN(2, 2);
CHAIN(4, 0);
CHAIN(4, 2);
CHAIN(4, 4);
CHAIN(8, 0);
CHAIN(8, 4);
CHAIN(8, 8);
CHAIN(12, 0);
CHAIN(12, 6);
CHAIN(12, 12);
CHAIN(64, 0);
CHAIN(64, 32);
CHAIN(64, 64);

FIXTURE_SETUP(chain)
{
	unsigned int i;

	begin_pi(self->dev);
	ASSERT_TRUE(nt_read_file(MAX_DEPTH, self->depth, sizeof(self->depth)));
	for (i = 0; i < variant->len; i++) {
		self->mutex[i] = nt_create_mutex(self->dev, 0, 0);
		ASSERT_LE(0, self->mutex[i]);
	}

	self->node = calloc(MAX_CHAIN, sizeof(*self->node));
	ASSERT_TRUE(self->node != NULL);
	for (i = 0; i < variant->len; i++) {
		self->node[i].id = i + 1;
		ASSERT_EQ(0, actor_start(&self->node[i], self->dev, 0));
		acquires(&self->node[i], self->mutex[i]);
		self->node[i].timeout = UINT64_MAX;
	}
	self->waiter.id = 1000;
	self->waiter.timeout = UINT64_MAX;
	ASSERT_EQ(0, actor_start(&self->waiter, self->dev, 80));
}

FIXTURE_TEARDOWN(chain)
{
	nt_write_file(MAX_DEPTH, self->depth);
	close(self->dev);
}

/* From one end or the other, or both: the last link always boosts the rest. */
TEST_F_TIMEOUT(chain, boost, NT_TEST_TIMEOUT)
{
	unsigned int i, len = variant->len;

	for (i = 1; i < variant->arrival; i++)
		waits_for(&self->node[i], self->mutex[i - 1]);
	waits_for(&self->waiter, self->mutex[len - 1]);
	for (; i < len; i++) {
		if (i)
			waits_for(&self->node[i], self->mutex[i - 1]);
	}
	for (i = 0; i < len; i++)
		EXPECT_EQ(FIFO(80), actor_prio(&self->node[i]));

	pthread_kill(self->waiter.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(&self->waiter));
	for (i = 0; i < len; i++)
		EXPECT_EQ(NORMAL, actor_prio(&self->node[i]));
}

/* A raise ends after so many links, a withdrawal does not. */
TEST_F_TIMEOUT(chain, limited, NT_TEST_TIMEOUT)
{
	unsigned int i, boosted = 0, len = variant->len;

	for (i = 1; i < len; i++)
		waits_for(&self->node[i], self->mutex[i - 1]);
	ASSERT_TRUE(nt_write_file(MAX_DEPTH, "16"));
	waits_for(&self->waiter, self->mutex[len - 1]);
	ASSERT_TRUE(nt_write_file(MAX_DEPTH, self->depth));

	for (i = len; i && actor_prio(&self->node[i - 1]) == FIFO(80); i--)
		boosted++;
	for (; i; i--)
		EXPECT_EQ(NORMAL, actor_prio(&self->node[i - 1]));
	/* The first link is the waiter's own. */
	EXPECT_EQ(len < 17 ? len : 17, boosted);

	ASSERT_TRUE(nt_write_file(MAX_DEPTH, "2"));
	pthread_kill(self->waiter.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(&self->waiter));
	ASSERT_TRUE(nt_write_file(MAX_DEPTH, self->depth));
	for (i = 0; i < len; i++)
		EXPECT_EQ(NORMAL, actor_prio(&self->node[i]));
}

/* Neither does one that leaves everybody with something: that of a less urgent waiter. */
TEST_F_TIMEOUT(chain, lowered, NT_TEST_TIMEOUT)
{
	struct actor low = { .id = 1001, .timeout = NO_TIMEOUT };
	unsigned int i, len = variant->len;

	ASSERT_EQ(0, actor_start(&low, self->dev, 30));
	for (i = 1; i < len; i++)
		waits_for(&self->node[i], self->mutex[i - 1]);
	waits_for(&low, self->mutex[len - 1]);
	waits_for(&self->waiter, self->mutex[len - 1]);
	for (i = 0; i < len; i++)
		EXPECT_EQ(FIFO(80), actor_prio(&self->node[i]));

	ASSERT_TRUE(nt_write_file(MAX_DEPTH, "1"));
	pthread_kill(self->waiter.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(&self->waiter));
	for (i = 0; i < len; i++)
		EXPECT_EQ(FIFO(30), actor_prio(&self->node[i]));

	/* One that stays, but is lowered, is the same. */
	ASSERT_TRUE(nt_write_file(MAX_DEPTH, self->depth));
	waits_for(&self->waiter, self->mutex[len - 1]);
	for (i = 0; i < len; i++)
		EXPECT_EQ(FIFO(80), actor_prio(&self->node[i]));
	ASSERT_TRUE(nt_write_file(MAX_DEPTH, "1"));
	ASSERT_EQ(0, set_sched(atomic_load(&self->waiter.tid), SCHED_RR, 40));
	ASSERT_TRUE(nt_write_file(MAX_DEPTH, self->depth));
	for (i = 0; i < len; i++)
		EXPECT_EQ(FIFO(40), actor_prio(&self->node[i]));
	pthread_kill(self->waiter.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(&self->waiter));
	pthread_kill(low.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(&low));
	for (i = 0; i < len; i++)
		EXPECT_EQ(NORMAL, actor_prio(&self->node[i]));
}

/* Needs the CPU until it is told otherwise. */
static atomic_uint hog_stop;

static int do_hog(struct actor *a)
{
	__u64 deadline = nt_bound();

	while (!atomic_load(&hog_stop)) {
		if (nt_now(CLOCK_MONOTONIC) > deadline)
			return -ETIME;
	}
	(void)a;
	return 0;
}

/* A waker of many is not kept from waking the urgent ones by somebody in between. */
#define NB_WOKEN	40

static atomic_uint woken;

static int do_count(struct actor *a)
{
	int ret = do_wait(a);

	if (atomic_fetch_add(&woken, 1) + 1 == NB_WOKEN)
		atomic_store(&hog_stop, 1);
	return ret;
}

static int do_set(struct actor *a)
{
	return nt_event(a->objs[0], NTSYNC_IOC_EVENT_SET, NULL);
}

/* The first one that is woken calls for the hog. */
static struct actor *the_hog;

static int do_call_hog(struct actor *a)
{
	int ret = do_wait(a);

	actor_begin(the_hog, do_hog);
	atomic_fetch_add(&woken, 1);
	return ret;
}

/* The first one has a priority and something to do of its own. */
#define wait_in_order(many, event, prio, first_fn, fn) do {		\
	int __i;							\
									\
	for (__i = 0; __i < NB_WOKEN; __i++) {				\
		struct actor *__a = &(many)[__i];			\
									\
		__a->id = 100 + __i;					\
		__a->objs[0] = (event);					\
		__a->nb_objs = 1;					\
		ASSERT_EQ(0, actor_start(__a, self->dev, __i ? 70 : (prio))); \
		actor_begin(__a, __i ? (fn) : (first_fn));		\
		ASSERT_TRUE(actor_asleep(__a));				\
	}								\
} while (0)

TEST_F_TIMEOUT(pi, waker_keeps_level, NT_TEST_TIMEOUT)
{
	struct actor *many = calloc(NB_WOKEN, sizeof(*many));
	int event = nt_create_event(self->dev, true, false);
	int i;

	ASSERT_TRUE(many != NULL);
	ASSERT_LE(0, event);
	atomic_store(&woken, 0);
	atomic_store(&hog_stop, 0);
	the_hog = &self->other;
	ASSERT_EQ(0, set_sched(tid_of(the_hog), SCHED_FIFO, 50));
	wait_in_order(many, event, 70, do_call_hog, do_count);
	self->owner.objs[0] = event;
	EXPECT_EQ(0, actor_do(&self->owner, do_set));
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
	EXPECT_EQ((unsigned int)NB_WOKEN, atomic_load(&woken));
	EXPECT_EQ(0, actor_end(the_hog)) {
		TH_LOG("the hog kept the CPU from those who were to be woken");
	}
	for (i = 0; i < NB_WOKEN; i++)
		EXPECT_EQ(0, actor_end(&many[i]));
}

/*
 * Those whom a waker has on its list, because it wakes so many, may leave by themselves: a
 * signal wakes them before it does. The first one that is woken sees to that, and the waker
 * finds nobody more when it goes on: they wait for something else by then.
 */
#define NB_FIRST	16	/* are woken in one go */

static struct actor *roused;
static int comes_last;

static int do_rouse(struct actor *a)
{
	int i, ret = do_wait(a);

	for (i = NB_FIRST; i < NB_WOKEN; i++) {
		if (set_sched(atomic_load(&roused[i].tid), SCHED_FIFO, 80))
			return -EPERM;
		pthread_kill(roused[i].thread, SIGUSR1);
	}
	/* They are more urgent, and have run. */
	return ret ? ret : (int)atomic_load(&woken);
}

static int do_rise(struct actor *a)
{
	int ret = do_wait(a);

	atomic_fetch_add(&woken, 1);
	a->objs[0] = comes_last;
	return ret ? ret : do_wait(a);
}

TEST_F_TIMEOUT(pi, leaves_before_woken, NT_TEST_TIMEOUT)
{
	struct actor *many = calloc(NB_WOKEN, sizeof(*many));
	int event = nt_create_event(self->dev, true, false);
	int i;

	ASSERT_TRUE(many != NULL);
	ASSERT_LE(0, event);
	atomic_store(&woken, 0);
	roused = many;
	comes_last = nt_create_event(self->dev, true, false);
	ASSERT_LE(0, comes_last);
	/* The waker is as urgent as who is next, and the first one more. */
	wait_in_order(many, event, 75, do_rouse, do_rise);
	self->owner.objs[0] = event;
	EXPECT_EQ(0, actor_do(&self->owner, do_set));
	EXPECT_EQ(NB_WOKEN - NB_FIRST, actor_end(&many[0])) {
		TH_LOG("so many had left before the waker came to them");
	}
	for (i = 1; i < NB_WOKEN; i++) {
		ASSERT_TRUE(actor_asleep(&many[i])) {
			TH_LOG("no. %d does not wait: %d", i, many[i].ret);
		}
	}
	EXPECT_EQ(0, nt_event(comes_last, NTSYNC_IOC_EVENT_SET, NULL));
	for (i = 1; i < NB_WOKEN; i++)
		EXPECT_EQ(0, actor_end(&many[i]));
	EXPECT_EQ((unsigned int)NB_WOKEN - 1, atomic_load(&woken));
}

/*
 * From the end of a loan to the wake-up of those who are granted what it was for, nobody in
 * between gets the CPU: not even if somebody waits for several objects, so that the waker gives
 * up the lock of the mutex meanwhile.
 *
 * The owner makes the hog ready itself, while it is more urgent than the hog, and releases the
 * mutex. So the hog runs as soon as the owner is back at its own level, unless there is somebody
 * more urgent. What it does first is to look whether the waiter has come back.
 */
#define HOG_PRIO	50
#define LOOK_NSEC	20000000
#define MAX_FOR_ALL	40

enum { NOT_RUN, FOUND_NOBODY, FOUND_WAITER };

static atomic_uint is_back;	/* the waiter */
static atomic_uint found;	/* by the hog, when it ran first */

/* How the owner releases the mutex, and what the hog had found before and after that. */
static struct {
	atomic_bool kill;
	atomic_bool nested;
	atomic_uint before;
	atomic_uint after;
} last_release;

static int do_come_back(struct actor *a)
{
	int ret = do_wait(a);

	atomic_store(&is_back, 1);
	return ret;
}

static int do_look(struct actor *a)
{
	bool back = atomic_load(&is_back);
	__u64 end;

	(void)a;
	atomic_store(&found, back ? FOUND_WAITER : FOUND_NOBODY);
	end = nt_now(CLOCK_MONOTONIC) + LOOK_NSEC;
	while (!atomic_load(&is_back) && nt_now(CLOCK_MONOTONIC) < end)
		;
	return 0;
}

static int do_release(struct actor *a)
{
	int ret = 0;

	actor_begin(the_hog, do_look);
	if (atomic_load(&last_release.nested))
		ret = do_unlock(a);
	atomic_store(&last_release.before, atomic_load(&found));
	if (ret)
		return ret;
	ret = atomic_load(&last_release.kill) ? nt_kill_mutex(a->objs[0], a->id) : do_unlock(a);
	atomic_store(&last_release.after, atomic_load(&found));
	return ret;
}

/* The owner does that. It returns below the hog, so the hog has run by then. */
static int release_before(struct actor *owner, struct actor *hog, int mutex, bool kill,
			  bool nested)
{
	atomic_store(&is_back, 0);
	atomic_store(&found, NOT_RUN);
	atomic_store(&last_release.kill, kill);
	atomic_store(&last_release.nested, nested);
	atomic_store(&last_release.before, NOT_RUN);
	atomic_store(&last_release.after, NOT_RUN);
	the_hog = hog;
	owner->objs[0] = mutex;
	return actor_do(owner, do_release);
}

/* Let it wait for both, and go on when it sleeps. */
#define waits_for_both(a, first, second, fn) do {			\
	struct actor *__a = (a);					\
									\
	__a->objs[0] = (first);						\
	__a->objs[1] = (second);					\
	__a->nb_objs = 2;						\
	__a->all = true;						\
	actor_begin(__a, (fn));						\
	ASSERT_TRUE(actor_asleep(__a));					\
} while (0)

FIXTURE(released_before) {
	int dev;
	int mutex;
	int sem;		/* available */
	int never;		/* is not signaled */
	struct actor owner;
	struct actor waiter;
	struct actor second;
	struct actor hog;
	struct actor *for_all;
};

FIXTURE_VARIANT(released_before) {
	bool all;		/* the waiter waits for the semaphore as well */
	bool kill;
	bool nested;		/* the mutex is acquired twice */
	int lent;		/* the owner has this priority from EVENT_SET_PI */
	int second;		/* another one with this priority waits for the mutex */
	unsigned int nb_for_all;	/* so many wait for the mutex and what never comes */
	int prio_for_all;
};

/* The lock is not given up. */
FIXTURE_VARIANT_ADD(released_before, any) { .all = false };
FIXTURE_VARIANT_ADD(released_before, any_killed) { .kill = true };
FIXTURE_VARIANT_ADD(released_before, any_nested) { .nested = true };

/* It is when the waiter has been granted the mutex. */
FIXTURE_VARIANT_ADD(released_before, any_and_all) { .nb_for_all = 1 };
FIXTURE_VARIANT_ADD(released_before, any_and_all_killed) { .kill = true, .nb_for_all = 1 };
FIXTURE_VARIANT_ADD(released_before, any_and_all_nested) { .nested = true, .nb_for_all = 1 };
FIXTURE_VARIANT_ADD(released_before, any_and_all_lent) { .lent = 30, .nb_for_all = 1 };
FIXTURE_VARIANT_ADD(released_before, any_and_many) {
	.second = 70, .nb_for_all = MAX_FOR_ALL,
};

FIXTURE_VARIANT_ADD(released_before, any_and_many_killed) {
	.kill = true, .second = 70, .nb_for_all = MAX_FOR_ALL,
};

/* And before that: those for all come first if they are as urgent, or more. */
FIXTURE_VARIANT_ADD(released_before, any_after_equal) {
	.nb_for_all = 1, .prio_for_all = 80,
};

FIXTURE_VARIANT_ADD(released_before, any_after_many_equal) {
	.second = 70, .nb_for_all = MAX_FOR_ALL, .prio_for_all = 80,
};

FIXTURE_VARIANT_ADD(released_before, any_after_many_urgent) {
	.second = 70, .nb_for_all = MAX_FOR_ALL, .prio_for_all = 85,
};

FIXTURE_VARIANT_ADD(released_before, any_after_many_urgent_killed) {
	.kill = true, .second = 70, .nb_for_all = MAX_FOR_ALL, .prio_for_all = 85,
};

/* While the waiter itself is granted what it waits for. */
FIXTURE_VARIANT_ADD(released_before, all) { .all = true };
FIXTURE_VARIANT_ADD(released_before, all_killed) { .all = true, .kill = true };
FIXTURE_VARIANT_ADD(released_before, all_nested) { .all = true, .nested = true };
FIXTURE_VARIANT_ADD(released_before, all_lent) { .all = true, .lent = 30 };
FIXTURE_VARIANT_ADD(released_before, all_and_any) { .all = true, .second = 70 };
FIXTURE_VARIANT_ADD(released_before, all_and_many) {
	.all = true, .second = 70, .nb_for_all = MAX_FOR_ALL,
};

FIXTURE_VARIANT_ADD(released_before, all_after_many_urgent) {
	.all = true, .second = 70, .nb_for_all = MAX_FOR_ALL, .prio_for_all = 85,
};

FIXTURE_SETUP(released_before)
{
	unsigned int i;

	begin_pi(self->dev);
	self->mutex = nt_create_mutex(self->dev, 0, 0);
	ASSERT_LE(0, self->mutex);
	self->sem = nt_create_sem(self->dev, 1, 1);
	ASSERT_LE(0, self->sem);
	self->never = nt_create_event(self->dev, true, false);
	ASSERT_LE(0, self->never);

	self->owner.id = 1;
	self->waiter.id = 2;
	self->second.id = 3;
	ASSERT_EQ(0, actor_start(&self->owner, self->dev, 0));
	ASSERT_EQ(0, actor_start(&self->waiter, self->dev, 80));
	ASSERT_EQ(0, actor_start(&self->hog, self->dev, HOG_PRIO));
	if (variant->second)
		ASSERT_EQ(0, actor_start(&self->second, self->dev, variant->second));

	self->for_all = calloc(MAX_FOR_ALL, sizeof(*self->for_all));
	ASSERT_TRUE(self->for_all != NULL);
	for (i = 0; i < variant->nb_for_all; i++) {
		self->for_all[i].id = 100 + i;
		self->for_all[i].timeout = NO_TIMEOUT;
		ASSERT_EQ(0, actor_start(&self->for_all[i], self->dev, variant->prio_for_all));
	}
}

FIXTURE_TEARDOWN(released_before)
{
	close(self->dev);
}

TEST_F_TIMEOUT(released_before, somebody_in_between, NT_TEST_TIMEOUT)
{
	unsigned int i, nb = variant->nb_for_all;
	int own = NORMAL, top = 80;

	if (nb && variant->prio_for_all > top)
		top = variant->prio_for_all;

	acquires(&self->owner, self->mutex);
	if (variant->nested)
		acquires(&self->owner, self->mutex);
	if (variant->lent) {
#ifdef NTSYNC_IOC_EVENT_SET_PI
		struct ntsync_event_set_pi_args args = {
			.policy = SCHED_FIFO, .prio = variant->lent,
		};
		int event = nt_create_event(self->dev, false, false), ret;

		ASSERT_LE(0, event);
		ret = nt_ioctl(event, NTSYNC_IOC_EVENT_SET_PI, &args);
		if (ret == -ENOTTY)
			SKIP(return, "no EVENT_SET_PI in this kernel");
		ASSERT_EQ(0, ret);
		acquires(&self->owner, event);
		own = FIFO(variant->lent);
#else
		SKIP(return, "no EVENT_SET_PI in these headers");
#endif
	}
	EXPECT_EQ(own, actor_prio(&self->owner));

	for (i = 0; i < (nb + 1) / 2; i++)
		waits_for_both(&self->for_all[i], self->mutex, self->never, do_wait);
	if (variant->all) {
		waits_for_both(&self->waiter, self->mutex, self->sem, do_come_back);
	} else {
		self->waiter.objs[0] = self->mutex;
		self->waiter.nb_objs = 1;
		actor_begin(&self->waiter, do_come_back);
		ASSERT_TRUE(actor_asleep(&self->waiter));
	}
	if (variant->second)
		waits_for(&self->second, self->mutex);
	for (; i < nb; i++)
		waits_for_both(&self->for_all[i], self->mutex, self->never, do_wait);
	EXPECT_EQ(FIFO(top), actor_prio(&self->owner));

	EXPECT_EQ(0, release_before(&self->owner, &self->hog, self->mutex, variant->kill,
				    variant->nested));
	EXPECT_EQ((unsigned int)NOT_RUN, atomic_load(&last_release.before));
	EXPECT_EQ((unsigned int)FOUND_WAITER, atomic_load(&last_release.after)) {
		TH_LOG("the hog %s", atomic_load(&last_release.after) == NOT_RUN ?
		       "has not run before the owner came back" :
		       "kept the CPU from the one that was to be woken");
	}
	EXPECT_EQ(own, actor_prio(&self->owner));
	EXPECT_EQ(variant->kill ? -EOWNERDEAD : 0, actor_end(&self->waiter));
	EXPECT_EQ(0, actor_end(&self->hog));
	check_mutex(self->mutex, self->waiter.id, 1);
	check_sem(self->sem, !variant->all, 1);

	/* The others sleep on, and those who want the mutex lend to whom it belongs now. */
	EXPECT_EQ(FIFO(top), actor_prio(&self->waiter));
	EXPECT_EQ(FIFO(HOG_PRIO), actor_prio(&self->hog));
	if (variant->second) {
		EXPECT_FALSE(actor_done(&self->second));
		EXPECT_EQ(FIFO(variant->second), actor_prio(&self->second));
	}
	for (i = 0; i < nb; i++) {
		EXPECT_FALSE(actor_done(&self->for_all[i]));
		EXPECT_EQ(variant->prio_for_all ? FIFO(variant->prio_for_all) : NORMAL,
			  actor_prio(&self->for_all[i]));
	}

	releases(&self->waiter, self->mutex);
	EXPECT_EQ(FIFO(80), actor_prio(&self->waiter));
	if (variant->second) {
		EXPECT_EQ(0, actor_end(&self->second));
		check_mutex(self->mutex, self->second.id, 1);
	}
	for (i = 0; i < nb; i++) {
		pthread_kill(self->for_all[i].thread, SIGUSR1);
		EXPECT_EQ(-EINTR, actor_end(&self->for_all[i]));
	}
	if (variant->second)
		EXPECT_EQ(FIFO(variant->second), actor_prio(&self->second));

	/* A priority that was not lent by a waiter is left alone until the next wait. */
	EXPECT_EQ(own, actor_prio(&self->owner));
	acquires(&self->owner, nt_create_sem(self->dev, 1, 1));
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
}

/* Nobody can be granted it: then nothing keeps the owner at the level of those who sleep on. */
TEST_F_TIMEOUT(pi, released_in_vain, NT_TEST_TIMEOUT)
{
	int event = nt_create_event(self->dev, true, false);
	int i;

	ASSERT_LE(0, event);
	ASSERT_EQ(0, set_sched(tid_of(&self->other), SCHED_FIFO, HOG_PRIO));
	for (i = 0; i < 4; i++) {
		bool kill = i & 1, nested = i & 2;

		acquires(&self->owner, self->mutex);
		if (nested)
			acquires(&self->owner, self->mutex);
		waits_for_both(&self->waiter, self->mutex, event, do_come_back);
		EXPECT_EQ(FIFO(80), actor_prio(&self->owner));
		EXPECT_EQ(0, release_before(&self->owner, &self->other, self->mutex, kill,
					    nested));
		EXPECT_EQ((unsigned int)NOT_RUN, atomic_load(&last_release.before));
		EXPECT_EQ((unsigned int)FOUND_NOBODY, atomic_load(&last_release.after));
		EXPECT_EQ(NORMAL, actor_prio(&self->owner));
		EXPECT_EQ(0, actor_end(&self->other));
		EXPECT_EQ(FIFO(HOG_PRIO), actor_prio(&self->other));
		EXPECT_TRUE(actor_asleep(&self->waiter));
		EXPECT_EQ(0U, nt_mutex_owner(self->mutex));

		EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_SET, NULL));
		EXPECT_EQ(kill ? -EOWNERDEAD : 0, actor_end(&self->waiter));
		check_mutex(self->mutex, self->waiter.id, 1);
		EXPECT_EQ(FIFO(80), actor_prio(&self->waiter));
		EXPECT_EQ(NORMAL, actor_prio(&self->owner));
		releases(&self->waiter, self->mutex);
		EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_RESET, NULL));
	}
}

/* In percent of that: NTSYNC_SCALE. */
#define MANY	1000

/* The owner has what the most urgent of those has who are left. */
TEST_F_TIMEOUT(pi, many_waiters, NT_TEST_TIMEOUT)
{
	struct actor *many = calloc(MANY, sizeof(*many));
	int i, top, nb = nt_scaled_down(MANY);

	if (nb < 90)
		nb = 90;

	ASSERT_TRUE(many != NULL);
	acquires(&self->owner, self->mutex);
	for (i = 0; i < nb; i++) {
		many[i].id = 100 + i;
		many[i].timeout = UINT64_MAX;
		ASSERT_EQ(0, actor_start(&many[i], self->dev, 1 + i % 90));
		waits_for(&many[i], self->mutex);
	}
	for (top = 90; top > 80; top--) {
		EXPECT_EQ(FIFO(top), actor_prio(&self->owner));
		for (i = top - 1; i < nb; i += 90) {
			pthread_kill(many[i].thread, SIGUSR1);
			EXPECT_EQ(-EINTR, actor_end(&many[i]));
		}
	}
	EXPECT_EQ(FIFO(80), actor_prio(&self->owner));
	releases(&self->owner, self->mutex);
	EXPECT_EQ(NORMAL, actor_prio(&self->owner));
	EXPECT_EQ(0, actor_end(&many[79]));
	EXPECT_EQ(100U + 79, nt_mutex_owner(self->mutex));
	EXPECT_EQ(FIFO(80), actor_prio(&many[79]));
	/* the process ends with all others in their waits */
}

/*
 * A mutex remembers the task whose wait has acquired it, and forgets it when another one acquires
 * it or when it ceases to exist itself, at the latest.
 *
 * What it keeps is a reference to the struct pid of the task. User space cannot count those, but
 * each of them keeps the pid namespace of the task as well, and the number of pid namespaces can be
 * limited to one. So the tasks of a namespace play with mutexes, and when they and the mutexes are
 * gone there is room for another namespace soon.
 */

#define MAX_PID_NS	"/proc/sys/user/max_pid_namespaces"
#define NB_PLAYERS	4
#define NB_PLAYS	400	/* of a race, scaled by NTSYNC_SCALE; or so long: */
#define PLAY_MSEC	500
#define MIN_PLAYS	30

#ifndef SYS_pidfd_open
#define SYS_pidfd_open	434
#endif

/* A thread in the namespace. /proc is that of another one, which numbers them differently. */
struct player {
	struct actor a;			/* must be first */
	int pid, tid;			/* as in /proc */
	int alert;
	int uring;			/* a descriptor that is waited for, too */
	__u64 begin, end;		/* of what it was told to do */
};

struct game {
	int dev;
	int mutex[2];
	int outside;			/* a mutex that is not closed afterwards */
	struct player p[NB_PLAYERS];
};

static int do_name(struct actor *a)
{
	struct player *p = (struct player *)a;
	char path[64];
	ssize_t len = readlink("/proc/thread-self", path, sizeof(path) - 1);

	if (len < 0)
		return -errno;
	path[len] = 0;
	return sscanf(path, "%d/task/%d", &p->pid, &p->tid) == 2 ? 0 : -EINVAL;
}

static int do_play(struct actor *a)
{
	struct player *p = (struct player *)a;
	struct nt_wait wait = {
		.dev = a->dev, .objs = a->objs, .count = a->nb_objs, .owner = a->id,
		.all = a->all, .alert = p->alert, .timeout = a->timeout, .uring_fd = p->uring,
	};
	int ret = nt_wait(&wait);

	p->end = nt_now(CLOCK_MONOTONIC);
	return ret;
}

static int do_free(struct actor *a)
{
	struct player *p = (struct player *)a;
	int ret;

	p->begin = nt_now(CLOCK_MONOTONIC);
	ret = do_unlock(a);
	p->end = nt_now(CLOCK_MONOTONIC);
	return ret;
}

static bool player_asleep(struct player *p)
{
	__u64 deadline = nt_bound();
	unsigned int nr = 0;

	while (nt_now(CLOCK_MONOTONIC) < deadline && !actor_done(&p->a)) {
		if (atomic_load(&p->a.entered) == atomic_load(&p->a.cmd) &&
		    nt_task_state(p->pid, p->tid) == 'S')
			return !actor_done(&p->a);
		nt_pause(&nr);
	}
	return false;
}

static void wants(struct player *p, int fd)
{
	p->a.objs[0] = fd;
	p->a.nb_objs = 1;
	p->a.all = false;
	p->a.timeout = 0;
	p->alert = 0;
	p->uring = 0;
}

static void wants_both(struct player *p, int first, int second, bool all)
{
	wants(p, first);
	p->a.objs[1] = second;
	p->a.nb_objs = 2;
	p->a.all = all;
}

static int waits(struct player *p)
{
	return actor_do(&p->a, do_play);
}

static bool goes_to_sleep(struct player *p)
{
	actor_begin(&p->a, do_play);
	return player_asleep(p);
}

static int gets(struct player *p, int fd)
{
	wants(p, fd);
	return waits(p);
}

static bool sleeps_for(struct player *p, int fd)
{
	wants(p, fd);
	return goes_to_sleep(p);
}

static int frees(struct player *p, int fd)
{
	p->a.objs[0] = fd;
	return actor_do(&p->a, do_free);
}

static int comes_back(struct player *p)
{
	return actor_end(&p->a);
}

static int own_prio(struct player *p, int prio)
{
	return set_sched(tid_of(&p->a), prio ? SCHED_FIFO : SCHED_OTHER, prio);
}

/* What is played returns the line in which it has failed, or 0. */
#define must(cond) do {							\
	if (!(cond))							\
		return __LINE__;					\
} while (0)

static int play_taken(struct game *g)
{
	unsigned int i;

	for (i = 0; i < 3 * NB_PLAYERS; i++) {
		struct player *p = &g->p[i % NB_PLAYERS];

		must(!gets(p, g->mutex[0]));
		must(!frees(p, g->mutex[0]));
		/* and as the second one of several */
		wants_both(p, g->mutex[0], g->mutex[1], i & 1);
		must(!waits(p));
		must(!frees(p, g->mutex[0]));
		if (i & 1)
			must(!frees(p, g->mutex[1]));
		must(!gets(&g->p[0], g->mutex[0]));
		wants_both(p, g->mutex[0], g->mutex[1], false);
		p->a.id = 77;
		must(!waits(p));
		must(!frees(p, g->mutex[1]));
		p->a.id = 1 + i % NB_PLAYERS;
		must(!frees(&g->p[0], g->mutex[0]));
	}
	return 0;
}

/* By several tasks with one id. */
static int play_recursive(struct game *g)
{
	struct player *first = &g->p[0], *second = &g->p[1], *third = &g->p[2];
	unsigned int i;

	second->a.id = first->a.id;
	for (i = 0; i < 4; i++) {
		must(!gets(first, g->mutex[0]));
		must(!gets(second, g->mutex[0]));
		must(!gets(first, g->mutex[0]));
		if (i & 1)
			must(sleeps_for(third, g->mutex[0]));
		must(!frees(second, g->mutex[0]));
		must(!frees(first, g->mutex[0]));
		must(!frees(second, g->mutex[0]));
		if (i & 1) {
			must(!comes_back(third));
			must(!frees(third, g->mutex[0]));
		}
	}
	return 0;
}

/* Granted at unlock, to one that is lent by others, and to one that is not. */
static int play_granted(struct game *g)
{
	struct player *p = g->p;
	unsigned int i;

	for (i = 0; i < 8; i++) {
		must(!own_prio(&p[1], i & 1 ? 50 : 0));
		must(!own_prio(&p[2], i & 2 ? 40 : 0));
		must(!gets(&p[0], g->mutex[0]));
		must(sleeps_for(&p[1], g->mutex[0]));
		must(sleeps_for(&p[2], g->mutex[0]));
		must(!frees(&p[0], g->mutex[0]));
		/* who of the two is first depends on that */
		if ((i & 3) == 2) {
			must(!comes_back(&p[2]));
			must(!frees(&p[2], g->mutex[0]));
			must(!comes_back(&p[1]));
			must(!frees(&p[1], g->mutex[0]));
		} else {
			must(!comes_back(&p[1]));
			must(!frees(&p[1], g->mutex[0]));
			must(!comes_back(&p[2]));
			must(!frees(&p[2], g->mutex[0]));
		}
	}
	return 0;
}

/* The same while somebody waits for this mutex and for another one. */
static int play_granted_all(struct game *g)
{
	struct player *p = g->p;
	unsigned int i;

	for (i = 0; i < 8; i++) {
		bool first = i & 1;

		must(!own_prio(&p[1], first ? 50 : 0));
		must(!gets(&p[0], g->mutex[0]));
		must(!gets(&p[3], g->mutex[1]));
		wants_both(&p[2], g->mutex[0], g->mutex[1], true);
		must(goes_to_sleep(&p[2]));
		must(sleeps_for(&p[1], g->mutex[0]));
		/* the one for all cannot have it, or is later than one that is more urgent */
		if (!first) {
			must(!frees(&p[0], g->mutex[0]));
			must(!comes_back(&p[1]));
			must(!frees(&p[3], g->mutex[1]));
		} else {
			must(!frees(&p[3], g->mutex[1]));
			must(!frees(&p[0], g->mutex[0]));
			must(!comes_back(&p[1]));
		}
		must(!frees(&p[1], g->mutex[0]));
		must(!comes_back(&p[2]));
		must(!frees(&p[2], g->mutex[0]));
		must(!frees(&p[2], g->mutex[1]));
	}
	return 0;
}

/* Waits that end otherwise. */
static int play_in_vain(struct game *g)
{
	struct player *owner = &g->p[0], *waiter = &g->p[1];
	unsigned int i;

	must(!gets(owner, g->mutex[0]));
	for (i = 0; i < 8; i++) {
		must(!own_prio(waiter, i & 1 ? 50 : 0));
		wants(waiter, g->mutex[0]);
		if (i & 2)
			wants_both(waiter, g->mutex[0], g->mutex[1], true);
		waiter->a.timeout = nt_now(CLOCK_MONOTONIC) + 1000000;
		must(waits(waiter) == -ETIMEDOUT);
		waiter->a.timeout = NT_EXPIRED;
		must(waits(waiter) == -ETIMEDOUT);
		waiter->a.timeout = 0;
		must(goes_to_sleep(waiter));
		must(!pthread_kill(waiter->a.thread, SIGUSR1));
		must(comes_back(waiter) == -EINTR);
	}
	must(!frees(owner, g->mutex[0]));
	return 0;
}

static int play_killed(struct game *g)
{
	struct player *p = g->p;
	unsigned int i;

	for (i = 0; i < 4; i++) {
		must(!own_prio(&p[1], i & 1 ? 50 : 0));
		must(!gets(&p[0], g->mutex[0]));
		must(!gets(&p[0], g->mutex[0]));
		must(nt_kill_mutex(g->mutex[0], p[1].a.id) == -EPERM);
		must(!nt_kill_mutex(g->mutex[0], p[0].a.id));
		must(gets(&p[2], g->mutex[0]) == -EOWNERDEAD);
		must(sleeps_for(&p[1], g->mutex[0]));
		must(!nt_kill_mutex(g->mutex[0], p[2].a.id));
		must(comes_back(&p[1]) == -EOWNERDEAD);
		/* and what nobody owns afterwards is not acquired again */
		must(!nt_kill_mutex(g->mutex[0], p[1].a.id));
		must(gets(&p[3], g->mutex[0]) == -EOWNERDEAD);
		must(!frees(&p[3], g->mutex[0]));
	}
	return 0;
}

static int play_set_task(struct game *g)
{
	int mutex = nt_create_mutex(g->dev, 7, 1), status, ret;
	struct player *p = g->p;
	unsigned int i;
	siginfo_t info;
	pid_t pid;

	must(mutex >= 0);
	must(nt_set_task(g->mutex[0], tid_of(&p[0].a), 0) == -EINVAL);
	for (i = 0; i < 4; i++) {
		must(!own_prio(&p[3], i & 1 ? 50 : 0));
		must(sleeps_for(&p[3], mutex));
		must(!nt_set_task(mutex, tid_of(&p[0].a), 0));
		must(!nt_set_task(mutex, tid_of(&p[1].a), 0));
		must(!nt_set_task(mutex, tid_of(&p[1].a), 0));
		must(nt_set_task(mutex, tid_of(&p[2].a), 1) == -EINVAL);
		must(nt_set_task(mutex, 0x7fffffff, 0) == -ESRCH);
		must(!pthread_kill(p[3].a.thread, SIGUSR1));
		must(comes_back(&p[3]) == -EINTR);
	}
	/* of a process that has ended, and one that is gone */
	pid = fork();
	must(pid >= 0);
	if (!pid)
		_exit(0);
	must(!waitid(P_PID, pid, &info, WEXITED | WNOWAIT));
	ret = nt_set_task(mutex, pid, 0);
	must(!ret || ret == -ESRCH);
	must(waitpid(pid, &status, 0) == pid);
	must(nt_set_task(mutex, pid, 0) == -ESRCH);
	/* it is somebody else's now, and that one's no more */
	must(!nt_unlock_mutex(mutex, 7, NULL));
	must(nt_set_task(mutex, tid_of(&p[0].a), 0) == -EINVAL);
	must(!gets(&p[0], mutex));
	must(!nt_set_task(mutex, tid_of(&p[1].a), 0));
	must(!frees(&p[0], mutex));
	must(!gets(&p[2], mutex));
	must(!nt_set_task(mutex, tid_of(&p[3].a), 0));
	/* it ends with that owner */
	return 0;
}

/* Threads and a process that end as owners, of what others then own, or nobody. */
static int play_exited(struct game *g)
{
	struct player *p = g->p;
	int status;
	pid_t pid;

	must(!gets(&p[0], g->mutex[0]));
	must(!own_prio(&p[1], 50));
	must(sleeps_for(&p[1], g->mutex[0]));
	actor_stop(&p[0].a);
	must(!nt_unlock_mutex(g->mutex[0], p[0].a.id, NULL));
	must(!comes_back(&p[1]));
	pid = fork();
	must(pid >= 0);
	if (!pid) {
		struct nt_wait wait = {
			.dev = g->dev, .objs = &g->mutex[1], .count = 1, .owner = 9,
		};

		_exit(nt_wait(&wait) ? 1 : 0);
	}
	must(waitpid(pid, &status, 0) == pid && !status);
	must(sleeps_for(&p[2], g->mutex[1]));
	must(!nt_kill_mutex(g->mutex[1], 9));
	must(comes_back(&p[2]) == -EOWNERDEAD);
	actor_stop(&p[1].a);
	actor_stop(&p[2].a);
	return 0;
}

/* Closed while it is owned, and while somebody waits who does not get it, or does. */
static int play_closed(struct game *g)
{
	struct player *p = g->p;
	unsigned int i;

	for (i = 0; i < 8; i++) {
		int mutex = nt_create_mutex(g->dev, 0, 0), copy;

		must(mutex >= 0);
		must(!gets(&p[i & 1], mutex));
		must(!close(mutex));

		mutex = nt_create_mutex(g->dev, 0, 0);
		must(mutex >= 0);
		copy = dup(mutex);
		must(copy >= 0);
		must(!own_prio(&p[1], i & 1 ? 50 : 0));
		must(!gets(&p[0], mutex));
		must(sleeps_for(&p[1], copy));
		must(!close(copy));
		if (i & 2)
			must(!frees(&p[0], mutex));
		else
			must(!pthread_kill(p[1].a.thread, SIGUSR1));
		must(!close(mutex));
		must(comes_back(&p[1]) == (i & 2 ? 0 : -EINTR));
	}
	return 0;
}

/* The alert of a wait for any and of one for all. */
static int play_alert(struct game *g)
{
	int never = nt_create_event(g->dev, true, false);
	struct player *p = g->p;
	unsigned int i;

	must(never >= 0);
	for (i = 0; i < 8; i++) {
		struct player *owner = &p[i & 1], *waiter = &p[!(i & 1)];

		must(!gets(owner, g->mutex[0]));
		wants(waiter, never);
		waiter->alert = g->mutex[0];
		waiter->a.all = i & 2;
		must(goes_to_sleep(waiter));
		must(!frees(owner, g->mutex[0]));
		must(!comes_back(waiter));
		must(!frees(waiter, g->mutex[0]));
		wants(owner, never);
		owner->alert = g->mutex[0];
		owner->a.all = i & 2;
		must(!waits(owner));
		must(!frees(owner, g->mutex[0]));
	}
	return 0;
}

/* Waits that descriptors could end, too. Without them there is nothing to be lost. */
static int play_uring(struct game *g)
{
#ifdef NTSYNC_INDEX_URING_READY
	int fd = eventfd(0, EFD_NONBLOCK);
	struct player *p = g->p;
	eventfd_t n;
	unsigned int i;

	must(fd > 0);
	for (i = 0; i < 8; i++) {
		struct player *owner = &p[i & 1], *waiter = &p[!(i & 1)];

		wants_both(owner, g->mutex[0], g->mutex[1], i & 2);
		owner->uring = fd;
		if (waits(owner) == -EINVAL && !i)
			return 0;
		must(nt_mutex_owner(g->mutex[0]) == owner->a.id);
		wants(waiter, g->mutex[0]);
		if (i & 2)
			wants_both(waiter, g->mutex[0], g->mutex[1], true);
		waiter->uring = fd;
		must(goes_to_sleep(waiter));
		/* one that was told, but has been granted it when it looks */
		if (i & 4)
			must(!eventfd_write(fd, 1) && !eventfd_read(fd, &n));
		must(!frees(owner, g->mutex[0]));
		if (i & 2)
			must(!frees(owner, g->mutex[1]));
		must(!comes_back(waiter));
		must(!frees(waiter, g->mutex[0]));
		if (i & 2)
			must(!frees(waiter, g->mutex[1]));
	}
#else
	(void)g;
#endif
	return 0;
}

#ifdef NTSYNC_IOC_AGGREGATE_WAIT
static int do_aggregate(struct actor *a)
{
	struct player *p = (struct player *)a;
	struct ntsync_source src[2] = {
		{ .type = NTSYNC_SOURCE_FD, .events = 1 /* POLLIN */, .fd = p->uring },
		{ .type = NTSYNC_SOURCE_OBJECT, .fd = a->objs[0] },
	};
	struct ntsync_aggregate_wait_args args = {
		.timeout = nt_bound(), .sources = (uintptr_t)src, .nb_sources = 2,
		.owner = a->id,
	};

	return nt_ioctl(a->dev, NTSYNC_IOC_AGGREGATE_WAIT, &args);
}
#endif

static int play_aggregate(struct game *g)
{
#ifdef NTSYNC_IOC_AGGREGATE_WAIT
	struct player *p = g->p;
	int fd = eventfd(0, EFD_NONBLOCK), ret;
	unsigned int i;
	eventfd_t n;

	must(fd > 0);
	for (i = 0; i < 8; i++) {
		struct player *owner = &p[i & 1], *waiter = &p[!(i & 1)];

		wants(owner, g->mutex[0]);
		owner->uring = fd;
		ret = actor_do(&owner->a, do_aggregate);
		if (ret == -ENOTTY)
			return 0;
		must(!ret);
		wants(waiter, g->mutex[0]);
		waiter->uring = fd;
		actor_begin(&waiter->a, do_aggregate);
		must(player_asleep(waiter));
		/* in hand, with the wait claimed: it finds the mutex when it looks */
		if (i & 2)
			must(!eventfd_write(fd, 1));
		must(!nt_unlock_mutex(g->mutex[0], owner->a.id, NULL));
		if (i & 2)
			must(!eventfd_read(fd, &n));
		must(!comes_back(waiter));
		must(!frees(waiter, g->mutex[0]));
	}
#else
	(void)g;
#endif
	return 0;
}

/*
 * The timeout of the waiter is over at every moment of the unlock. With somebody who waits for
 * all, the waker gives up the lock of the mutex for a while when it has granted it, and the waiter
 * may leave by itself: then nobody is left whom to wake.
 */
static int race_unlock(struct game *g, bool all)
{
	struct player *owner = &g->p[0], *waiter = &g->p[1], *other = &g->p[2];
	const unsigned int nb = NTSYNC_MAX_WAIT_COUNT;
	__u64 lead = 50000, window = 20000, now, deadline;
	unsigned int i, plays = nt_scaled_down(NB_PLAYS), seed = 1;
	int ret;

	must(!gets(owner, g->mutex[0]));
	if (all) {
		wants(other, g->mutex[0]);
		other->a.all = true;
		other->a.nb_objs = nb;
		/* all that come before it are there, and the last one never is */
		for (i = 0; i < nb; i++) {
			other->a.objs[i] = i == nb - 2 ? g->mutex[0] :
				nt_create_event(g->dev, true, i < nb - 2);
			must(other->a.objs[i] >= 0);
		}
		other->a.timeout = NO_TIMEOUT;
		must(goes_to_sleep(other));
	}
	/* how long does it take? */
	for (i = 0; i < 5; i++) {
		must(!frees(owner, g->mutex[0]));
		now = 2 * (owner->end - owner->begin) + 5000;
		if (!i || now < window)
			window = now;
		must(!gets(owner, g->mutex[0]));
	}
	if (window > 2000000)
		window = 2000000;
	must(!own_prio(waiter, 50));
	deadline = nt_now(CLOCK_MONOTONIC) + nt_scaled_down(PLAY_MSEC) * 1000000ULL;
	for (i = 0; i < plays || i < MIN_PLAYS; i++) {
		if (i >= MIN_PLAYS && nt_now(CLOCK_MONOTONIC) >= deadline)
			break;
		seed = seed * 1664525 + 1013904223;
		wants(waiter, g->mutex[0]);
		owner->a.objs[0] = g->mutex[0];
		waiter->a.timeout = nt_now(CLOCK_MONOTONIC) + lead + (seed >> 8) % window;
		/* the waiter goes first, being more urgent */
		actor_begin(&waiter->a, do_play);
		actor_begin(&owner->a, do_free);
		must(!comes_back(owner));
		ret = comes_back(waiter);
		must(!ret || ret == -ETIMEDOUT);
		if (!ret)
			must(!nt_unlock_mutex(g->mutex[0], waiter->a.id, NULL));
		must(!gets(owner, g->mutex[0]));
		if (ret)
			lead += window / 4;
		else if (waiter->end < waiter->a.timeout)
			lead -= lead / 8;
		if (lead > 5000000)
			lead = 5000000;
	}
	return 0;
}

static int play_race(struct game *g)
{
	return race_unlock(g, false);
}

static int play_left(struct game *g)
{
	return race_unlock(g, true);
}

/* Then somebody outside acquires it, so that it may stay. */
static int play_outside(struct game *g)
{
	unsigned int i;

	for (i = 0; i < 3; i++) {
		must(!gets(&g->p[0], g->outside));
		must(!frees(&g->p[0], g->outside));
		must(!gets(&g->p[1], g->outside));
		must(sleeps_for(&g->p[2], g->outside));
		must(!frees(&g->p[1], g->outside));
		must(!comes_back(&g->p[2]));
		must(!frees(&g->p[2], g->outside));
	}
	return 0;
}

/* Without a mutex: the reference is that of a pidfd. Does it keep the namespace? */
static int play_nothing(struct game *g)
{
	(void)g;
	return 0;
}

/* Shared with the processes of the game. */
struct stage {
	struct game game;
	int (*play)(struct game *g);
	atomic_int pid;			/* of the first process of the namespace */
	atomic_uint ready;
	atomic_uint go;
	int failed;			/* the line in which it has, or 0 */
	const char *skip;		/* why it cannot be played, or NULL */
	int err;			/* and which error that was */
	bool full;			/* there is no room for another namespace meanwhile */
	bool kept;			/* as long as there is a pidfd */
	bool freed;			/* in the end */
	bool ended;
};

static void die_with_parent(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* In the namespace, as its first process. */
static int play_game(struct stage *s)
{
	struct nt_sched above = NT_FIFO(CONTROLLER_PRIO);
	struct game *g = &s->game;
	unsigned int i;

	must(!nt_sched_self(&above));
	for (i = 0; i < NB_PLAYERS; i++) {
		g->p[i].a.id = i + 1;
		must(!actor_start(&g->p[i].a, g->dev, 0));
		must(!actor_do(&g->p[i].a, do_name));
	}
	for (i = 0; i < ARRAY_LEN(g->mutex); i++) {
		g->mutex[i] = nt_create_mutex(g->dev, 0, 0);
		must(g->mutex[i] >= 0);
	}
	atomic_store(&s->ready, 1);
	must(poll_until(atomic_load(&s->go)));
	return s->play(g);
}

/* Is there room for another pid namespace? 0 or a negative errno value. */
static int try_namespace(void)
{
	int status = 0;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (!pid)
		_exit(unshare(CLONE_NEWPID) ? errno : 0);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -ECHILD;
	return -WEXITSTATUS(status);
}

/* Soon: when RCU and a worker have done their part. */
static bool namespace_is_gone(void)
{
	__u64 deadline = nt_now(CLOCK_MONOTONIC) + NT_BOUND_NSEC / 2;
	unsigned int nr = 0;

	while (try_namespace()) {
		if (nt_now(CLOCK_MONOTONIC) >= deadline)
			return false;
		nt_pause(&nr);
	}
	return true;
}

/* Where the game is played: a process whose children are in a new pid namespace. */
static void host_game(struct stage *s)
{
	int status = 0;
	pid_t pid;

	die_with_parent();
	if (!poll_until(!unshare(CLONE_NEWPID)))
		_exit(1);
	pid = fork();
	if (pid < 0)
		_exit(1);
	if (!pid) {
		die_with_parent();
		s->failed = play_game(s);
		s->ended = true;
		_exit(0);
	}
	atomic_store(&s->pid, pid);
	if (waitpid(pid, &status, 0) != pid || status)
		_exit(1);
	_exit(0);
}

#define cannot(s, text) do {						\
	(s)->err = errno;						\
	(s)->skip = (text);						\
	return;								\
} while (0)

/* In a process of its own, below the test. */
static void run_game(struct stage *s)
{
	const struct rlimit limit = { CONTROLLER_PRIO, CONTROLLER_PRIO };
	int pidfd = -1, status = 0;
	__u32 index;
	pid_t pid;

	die_with_parent();
	/* no privilege is left in another user namespace */
	if (setrlimit(RLIMIT_RTPRIO, &limit) || set_sched(0, SCHED_OTHER, 0))
		cannot(s, "no right to real-time priorities");
	if (unshare(CLONE_NEWUSER))
		cannot(s, "no user namespaces");
	die_with_parent();
	if (!nt_write_file(MAX_PID_NS, "1"))
		cannot(s, "the number of pid namespaces cannot be limited");
	errno = -try_namespace();
	if (errno)
		cannot(s, "no pid namespaces");

	s->game.outside = nt_create_mutex(s->game.dev, 0, 0);
	pid = fork();
	if (!pid)
		host_game(s);
	if (poll_until((atomic_load(&s->ready) && atomic_load(&s->pid)) ||
		       waitpid(pid, &status, WNOHANG) == pid) && atomic_load(&s->ready)) {
		s->full = try_namespace() == -ENOSPC;
		if (s->play == play_nothing)
			pidfd = syscall(SYS_pidfd_open, atomic_load(&s->pid), 0);
		atomic_store(&s->go, 1);
		waitpid(pid, &status, 0);
	}

	if (pidfd >= 0) {
		/* No time is long enough to be sure. In this one it would have gone otherwise. */
		nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + NT_NSEC_PER_SEC / 4);
		s->kept = try_namespace() == -ENOSPC;
		close(pidfd);
	}
	if (s->play == play_outside && nt_try_any(s->game.dev, 1, &s->game.outside, 9, 0, &index))
		return;
	s->freed = namespace_is_gone();
}

FIXTURE(pid_reference) {
	int dev;
};

FIXTURE_VARIANT(pid_reference) {
	int (*play)(struct game *g);
};

FIXTURE_VARIANT_ADD(pid_reference, nothing) { play_nothing };
FIXTURE_VARIANT_ADD(pid_reference, taken) { play_taken };
FIXTURE_VARIANT_ADD(pid_reference, recursive) { play_recursive };
FIXTURE_VARIANT_ADD(pid_reference, granted) { play_granted };
FIXTURE_VARIANT_ADD(pid_reference, granted_all) { play_granted_all };
FIXTURE_VARIANT_ADD(pid_reference, in_vain) { play_in_vain };
FIXTURE_VARIANT_ADD(pid_reference, killed) { play_killed };
FIXTURE_VARIANT_ADD(pid_reference, set_task) { play_set_task };
FIXTURE_VARIANT_ADD(pid_reference, exited) { play_exited };
FIXTURE_VARIANT_ADD(pid_reference, closed) { play_closed };
FIXTURE_VARIANT_ADD(pid_reference, alert) { play_alert };
FIXTURE_VARIANT_ADD(pid_reference, uring) { play_uring };
FIXTURE_VARIANT_ADD(pid_reference, aggregate) { play_aggregate };
FIXTURE_VARIANT_ADD(pid_reference, race) { play_race };
FIXTURE_VARIANT_ADD(pid_reference, left) { play_left };
FIXTURE_VARIANT_ADD(pid_reference, outside) { play_outside };

FIXTURE_SETUP(pid_reference)
{
	begin_pi(self->dev);
}

FIXTURE_TEARDOWN(pid_reference)
{
	close(self->dev);
}

TEST_F_TIMEOUT(pid_reference, returned, NT_TEST_TIMEOUT)
{
	struct stage *s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;
	pid_t pid;

	ASSERT_TRUE(s != MAP_FAILED);
	s->play = variant->play;
	s->game.dev = self->dev;
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		run_game(s);
		_exit(0);
	}
	ASSERT_EQ(pid, nt_waitpid(pid, &status, 0));
	EXPECT_EQ(0, status);
	if (s->skip)
		SKIP(return, "%s: %s", s->skip, strerror(s->err));
	EXPECT_EQ(0, s->failed) {
		TH_LOG("it has failed in line %d", s->failed);
	}
	EXPECT_TRUE(s->ended);
	EXPECT_TRUE(s->full);
	if (variant->play == play_nothing)
		EXPECT_TRUE(s->kept);
	EXPECT_TRUE(s->freed) {
		TH_LOG("somebody refers to a task that is gone, and to its namespace");
	}
}

TEST_HARNESS_MAIN
