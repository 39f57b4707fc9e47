// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Priority inheritance of mutexes, sentence by sentence of its contract.
 *
 * pi_graph compares whole graphs of waiting threads with what they should be.
 * Here is what is no graph: ways to begin and to end a loan, the limits, and
 * MUTEX_SET_TASK.
 *
 * Everything runs on one CPU below the controlling thread. Evidence is the
 * effective priority and the order of events.
 */
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
};

FIXTURE_VARIANT(chain) {
	unsigned int len;
	unsigned int arrival;	/* how many of the chain wait before the waiter comes */
};

#define CHAIN(_len, _arrival)						\
	FIXTURE_VARIANT_ADD(chain, len_##_len##_##_arrival) { .len = _len, .arrival = _arrival }
CHAIN(2, 0);
CHAIN(2, 2);
CHAIN(4, 0);
CHAIN(4, 2);
CHAIN(4, 4);
CHAIN(8, 4);
CHAIN(8, 8);
CHAIN(12, 0);
CHAIN(12, 12);
CHAIN(64, 0);
CHAIN(64, 32);
CHAIN(64, 64);

FIXTURE_SETUP(chain)
{
	unsigned int i;

	begin_pi(self->dev);
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
	char before[32];

	ASSERT_TRUE(nt_read_file(MAX_DEPTH, before, sizeof(before)));
	for (i = 1; i < len; i++)
		waits_for(&self->node[i], self->mutex[i - 1]);
	ASSERT_TRUE(nt_write_file(MAX_DEPTH, "16"));
	waits_for(&self->waiter, self->mutex[len - 1]);
	ASSERT_TRUE(nt_write_file(MAX_DEPTH, before));

	for (i = len; i && actor_prio(&self->node[i - 1]) == FIFO(80); i--)
		boosted++;
	for (; i; i--)
		EXPECT_EQ(NORMAL, actor_prio(&self->node[i - 1]));
	/* The first link is the waiter's own. */
	EXPECT_EQ(len < 17 ? len : 17, boosted);

	ASSERT_TRUE(nt_write_file(MAX_DEPTH, "2"));
	pthread_kill(self->waiter.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(&self->waiter));
	ASSERT_TRUE(nt_write_file(MAX_DEPTH, before));
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
	for (i = 0; i < NB_WOKEN; i++) {
		many[i].id = 100 + i;
		many[i].objs[0] = event;
		many[i].nb_objs = 1;
		ASSERT_EQ(0, actor_start(&many[i], self->dev, 70));
		actor_begin(&many[i], i ? do_count : do_call_hog);
		ASSERT_TRUE(actor_asleep(&many[i]));
	}
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

/* In percent of that: NTSYNC_SCALE. */
#define MANY	1000

/* The owner has what the most urgent of those has who are left. */
TEST_F_TIMEOUT(pi, many_waiters, NT_TEST_TIMEOUT)
{
	const char *scale = getenv("NTSYNC_SCALE");
	int nb = scale && atoi(scale) < 100 ? MANY * atoi(scale) / 100 : MANY;
	struct actor *many = calloc(MANY, sizeof(*many));
	int i, top;

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

TEST_HARNESS_MAIN
