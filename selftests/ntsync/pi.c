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
#include "ntsync_test.h"

#define CONTROLLER_PRIO	95
#define NORMAL		20	/* what /proc has for nice 0 */
#define FIFO(prio)	(-1 - (prio))

#define ADJUSTED	"/sys/module/pi_chain/parameters/adjusted"
#define MAX_DEPTH	"/proc/sys/kernel/max_lock_depth"
#define HOLD_VAR	"NTSYNC_PI_HOLD"

/* A program that is executed by a test only has to stay until it is killed. */
static __attribute__((constructor)) void hold(void)
{
	if (getenv(HOLD_VAR)) {
		for (;;)
			pause();
	}
}

/* A thread that does what it is told. */
struct actor {
	pthread_t thread;
	atomic_int tid;
	atomic_uint cmd;	/* counts commands */
	atomic_uint done;	/* counts those that are completed, and the start */
	atomic_uint entered;	/* is about to do the last one */
	int (*fn)(struct actor *a);	/* NULL: exit */
	int dev;
	int objs[2];
	__u32 nb_objs;
	bool all;
	__u32 id;
	__u64 timeout;
	int ret;
	struct nt_turns *turns;
};

static void *actor_thread(void *arg)
{
	struct actor *a = arg;
	unsigned int cmd = 0;
	bool go_on;

	atomic_store(&a->tid, syscall(SYS_gettid));
	do {
		atomic_fetch_add(&a->done, 1);
		nt_futex_wake(&a->done);
		while (atomic_load(&a->cmd) == cmd)
			nt_futex_wait(&a->cmd, cmd, UINT64_MAX);
		cmd++;
		go_on = a->fn;
		atomic_store(&a->entered, cmd);
		if (go_on)
			a->ret = a->fn(a);
	} while (go_on);
	return NULL;
}

static int do_wait(struct actor *a)
{
	struct nt_wait wait = {
		.dev = a->dev, .objs = a->objs, .count = a->nb_objs, .owner = a->id,
		.all = a->all, .timeout = a->timeout,
	};
	int ret = nt_wait(&wait);

	if (a->turns) {
		unsigned int turn = atomic_fetch_add(&a->turns->n, 1);

		atomic_store(&a->turns->who[turn], a->id + 1);
		nt_futex_wake(&a->turns->n);
	}
	return ret;
}

static int do_unlock(struct actor *a)
{
	return nt_unlock_mutex(a->objs[0], a->id, NULL);
}

static void actor_begin(struct actor *a, int (*fn)(struct actor *a))
{
	a->fn = fn;
	atomic_fetch_add(&a->cmd, 1);
	nt_futex_wake(&a->cmd);
}

static bool actor_done(struct actor *a)
{
	return atomic_load(&a->done) == atomic_load(&a->cmd) + 1;
}

static int actor_end(struct actor *a)
{
	if (!nt_await(&a->done, atomic_load(&a->cmd) + 1))
		return -EBUSY;
	return a->ret;
}

static int actor_do(struct actor *a, int (*fn)(struct actor *a))
{
	actor_begin(a, fn);
	return actor_end(a);
}

/* Wait until it sleeps in what it was told to do. */
static bool actor_asleep(struct actor *a)
{
	__u64 deadline = nt_bound();

	while (nt_now(CLOCK_MONOTONIC) < deadline && !actor_done(a)) {
		if (atomic_load(&a->entered) == atomic_load(&a->cmd) &&
		    nt_task_state(getpid(), atomic_load(&a->tid)) == 'S')
			return !actor_done(a);
		nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + 20000);
	}
	return false;
}

static int set_sched(pid_t tid, int policy, int prio)
{
	struct sched_param param = { .sched_priority = prio };

	return sched_setscheduler(tid, policy, &param) ? -errno : 0;
}

static int actor_start(struct actor *a, int dev, int prio)
{
	pthread_attr_t attr;
	int ret;

	a->dev = dev;
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	ret = pthread_create(&a->thread, &attr, actor_thread, a);
	pthread_attr_destroy(&attr);
	if (ret || !nt_await(&a->done, 1))
		return -EAGAIN;
	return set_sched(atomic_load(&a->tid), prio ? SCHED_FIFO : SCHED_OTHER, prio);
}

static void actor_stop(struct actor *a)
{
	actor_begin(a, NULL);
	pthread_join(a->thread, NULL);
}

static int actor_prio(struct actor *a)
{
	return nt_task_prio(getpid(), atomic_load(&a->tid));
}

/* Let it wait, and go on when it sleeps. */
#define waits_for(a, fd) do {						\
	(a)->objs[0] = (fd);						\
	(a)->nb_objs = 1;						\
	actor_begin((a), do_wait);					\
	ASSERT_TRUE(actor_asleep(a));					\
} while (0)

#define acquires(a, fd) do {						\
	(a)->objs[0] = (fd);						\
	(a)->nb_objs = 1;						\
	ASSERT_EQ(0, actor_do((a), do_wait));				\
} while (0)

#define releases(a, fd) do {						\
	(a)->objs[0] = (fd);						\
	ASSERT_EQ(0, actor_do((a), do_unlock));				\
} while (0)

static void nothing(int sig)
{
	(void)sig;
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
	struct sigaction sa = { .sa_handler = nothing };
	struct nt_sched sched = NT_FIFO(CONTROLLER_PRIO);

	open_device(self->dev);
	self->mutex = nt_create_mutex(self->dev, 0, 0);
	ASSERT_LE(0, self->mutex);
	if (nt_set_task(self->mutex, 0, 0) == -ENOTTY)
		SKIP(return, "no priority inheritance in this kernel");
	ASSERT_EQ(0, nt_pin_self(nt_cpu(0)));
	if (nt_sched_probe(sched))
		SKIP(return, "no right to real-time priorities");
	ASSERT_EQ(0, nt_sched_self(&sched));
	sigaction(SIGUSR1, &sa, NULL);

	self->owner.id = 1;
	self->waiter.id = 2;
	self->other.id = 3;
	ASSERT_EQ(0, actor_start(&self->owner, self->dev, 0));
	ASSERT_EQ(0, actor_start(&self->waiter, self->dev, 80));
	ASSERT_EQ(0, actor_start(&self->other, self->dev, 0));
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
	struct nt_sched sched = NT_FIFO(CONTROLLER_PRIO);
	struct sigaction sa = { .sa_handler = nothing };
	unsigned int i;

	open_device(self->dev);
	for (i = 0; i < variant->len; i++) {
		self->mutex[i] = nt_create_mutex(self->dev, 0, 0);
		ASSERT_LE(0, self->mutex[i]);
	}
	if (nt_set_task(self->mutex[0], 0, 0) == -ENOTTY)
		SKIP(return, "no priority inheritance in this kernel");
	ASSERT_EQ(0, nt_pin_self(nt_cpu(0)));
	if (nt_sched_probe(sched))
		SKIP(return, "no right to real-time priorities");
	ASSERT_EQ(0, nt_sched_self(&sched));
	sigaction(SIGUSR1, &sa, NULL);

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
	/* Each counts twice: for what it waits for here, and for rt_mutexes. */
	if (len <= 8) {
		EXPECT_EQ(len, boosted);
	} else {
		EXPECT_LE(8U, boosted);
		EXPECT_GE(17U, boosted);
	}

	pthread_kill(self->waiter.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(&self->waiter));
	for (i = 0; i < len; i++)
		EXPECT_EQ(NORMAL, actor_prio(&self->node[i]));
}

/* A hog in the middle does not keep the owner from releasing what is waited for. */
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

/* Sleeps until it is told to go on, and then needs the CPU. */
static atomic_uint hold_end;

static int do_hold(struct actor *a)
{
	while (!atomic_load(&hold_end))
		nt_futex_wait(&hold_end, 0, UINT64_MAX);
	return nt_unlock_mutex(a->objs[0], a->id, NULL);
}

static int do_wait_and_stop(struct actor *a)
{
	int ret = do_wait(a);

	atomic_store(&hog_stop, 1);
	return ret;
}

TEST_F_TIMEOUT(pi, inversion, NT_TEST_TIMEOUT)
{
	ASSERT_EQ(0, set_sched(atomic_load(&self->other.tid), SCHED_FIFO, 50));
	atomic_store(&hog_stop, 0);
	acquires(&self->owner, self->mutex);
	actor_begin(&self->owner, do_hold);
	ASSERT_TRUE(actor_asleep(&self->owner));
	self->waiter.objs[0] = self->mutex;
	self->waiter.nb_objs = 1;
	actor_begin(&self->waiter, do_wait_and_stop);
	ASSERT_TRUE(actor_asleep(&self->waiter));
	actor_begin(&self->other, do_hog);
	while (atomic_load(&self->other.entered) != atomic_load(&self->other.cmd))
		nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + 20000);
	atomic_store(&hold_end, 1);
	nt_futex_wake(&hold_end);

	EXPECT_EQ(0, actor_end(&self->waiter));
	EXPECT_EQ(0, actor_end(&self->other));
	EXPECT_EQ(0, actor_end(&self->owner));
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
