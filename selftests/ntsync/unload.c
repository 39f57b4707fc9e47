// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The driver as a module: it is loaded and unloaded while others inherit.
 *
 * What lends priorities is part of the kernel, what the loans are about belongs
 * to the module. A storm of threads that inherit through futexes makes the
 * kernel walk along chains all the time, and meanwhile the module comes, has a
 * chain of loans from futexes to mutexes of its own, and goes.
 *
 * All threads run on all CPUs. So a priority may be someone else's work that is
 * not done yet: it is waited for.
 */
#include "ntsync_test.h"

#define MODULE		"/lib/modules/ntsync.ko"

#define CONTROLLER_PRIO	95
#define TOP_MIN		71	/* what the last one of the chain may have */
#define TOP_MAX		80
#define STORM_MAX	50
#define NORMAL		20	/* what /proc has for nice 0 */
#define FIFO(prio)	(-1 - (prio))

/* In percent of that: NTSYNC_SCALE. A slow machine gets so far in the time. */
#define ROUNDS		200
#define BUDGET_NSEC	(90 * NT_NSEC_PER_SEC)
#define STORM_TIMEOUT	240

static bool is_module(void)
{
	char line[512];
	bool found = false;
	FILE *f = fopen("/proc/modules", "re");

	while (f && !found && fgets(line, sizeof(line), f))
		found = !strncmp(line, "ntsync ", 7);
	if (f)
		fclose(f);
	return found;
}

static int unload(void)
{
	return syscall(SYS_delete_module, "ntsync", O_NONBLOCK) ? -errno : 0;
}

static int load(void)
{
	int fd = open(MODULE, O_RDONLY | O_CLOEXEC), ret;

	if (fd < 0)
		return -errno;
	ret = syscall(SYS_finit_module, fd, "", 0) ? -errno : 0;
	close(fd);
	return ret;
}

/* Where udev has a say, the device may not be there at once. */
static int await_device(void)
{
	__u64 deadline = nt_bound();
	int fd;

	while ((fd = open("/dev/ntsync", O_CLOEXEC | O_RDONLY)) < 0) {
		if (nt_now(CLOCK_MONOTONIC) >= deadline)
			return -errno;
		nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + 20000);
	}
	return fd;
}

static int set_sched(pid_t tid, int policy, int prio)
{
	struct sched_param param = { .sched_priority = prio };

	return sched_setscheduler(tid, policy, &param) ? -errno : 0;
}

/* The effective priority of a thread that nobody lends anything. */
static int own_prio(pid_t tid)
{
	struct sched_param param;

	if (sched_getparam(tid, &param))
		return INT_MIN;
	return sched_getscheduler(tid) == SCHED_FIFO ? FIFO(param.sched_priority) : NORMAL;
}

/* Wait until a thread has a priority from one to the other. */
static bool await_prio(pid_t tid, int most_urgent, int least_urgent)
{
	__u64 deadline = nt_bound();
	int prio;

	while (nt_now(CLOCK_MONOTONIC) < deadline) {
		prio = nt_task_prio(getpid(), tid);
		if (prio >= most_urgent && prio <= least_urgent)
			return true;
		nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + 20000);
	}
	return false;
}

static int lock_pi(atomic_uint *lock, pid_t tid)
{
	unsigned int zero = 0;

	if (atomic_compare_exchange_strong(lock, &zero, tid))
		return 0;
	return syscall(SYS_futex, lock, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) ? -errno : 0;
}

static int unlock_pi(atomic_uint *lock, pid_t tid)
{
	unsigned int word = tid;

	if (atomic_compare_exchange_strong(lock, &word, 0))
		return 0;
	return syscall(SYS_futex, lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0) ? -errno : 0;
}

static int start_thread(pthread_t *thread, void *(*fn)(void *arg), void *arg)
{
	pthread_attr_t attr;
	int ret;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 * 1024);
	ret = pthread_create(thread, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	return -ret;
}

/* A thread of the chain, which does what it is told. */
struct actor {
	pthread_t thread;
	atomic_int tid;
	atomic_uint cmd;	/* counts commands */
	atomic_uint done;	/* counts those that are completed, and the start */
	atomic_uint entered;	/* is about to do the last one */
	int (*fn)(struct actor *a);	/* NULL: exit */
	int dev;
	int mutex;
	atomic_uint *lock;
	__u32 id;
	int ret;
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
		.dev = a->dev, .objs = &a->mutex, .count = 1, .owner = a->id,
	};

	return nt_wait(&wait);
}

static int do_unlock(struct actor *a)
{
	return nt_unlock_mutex(a->mutex, a->id, NULL);
}

static int do_lock_pi(struct actor *a)
{
	return lock_pi(a->lock, atomic_load(&a->tid));
}

static int do_unlock_pi(struct actor *a)
{
	return unlock_pi(a->lock, atomic_load(&a->tid));
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

/* Begin something, and go on when it sleeps in that. */
static bool actor_blocks(struct actor *a, int (*fn)(struct actor *a))
{
	__u64 deadline = nt_bound();

	actor_begin(a, fn);
	while (nt_now(CLOCK_MONOTONIC) < deadline && !actor_done(a)) {
		if (atomic_load(&a->entered) == atomic_load(&a->cmd) &&
		    nt_task_state(getpid(), atomic_load(&a->tid)) == 'S')
			return !actor_done(a);
		nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + 20000);
	}
	return false;
}

static int actor_start(struct actor *a, __u32 id, atomic_uint *lock)
{
	a->id = id;
	a->lock = lock;
	if (start_thread(&a->thread, actor_thread, a) || !nt_await(&a->done, 1))
		return -EAGAIN;
	return set_sched(atomic_load(&a->tid), SCHED_OTHER, 0);
}

static void actor_stop(struct actor *a)
{
	actor_begin(a, NULL);
	pthread_join(a->thread, NULL);
}

/* The storm */

#define NB_STORM	6
#define NB_LOCKS	3

static const int storm_prio[NB_STORM] = { 0, 0, 0, 0, 30, 40 };

struct storm_thread {
	pthread_t thread;
	atomic_int tid;
	atomic_uint turns;
	unsigned int seed;
	int ret;
};

static struct {
	struct storm_thread threads[NB_STORM];
	atomic_uint lock[NB_LOCKS];
	atomic_int top;		/* whose priority is to be changed as well */
	atomic_uint ready;
	atomic_uint stop;
	atomic_uint idle;	/* how many hold nothing any more */
	atomic_uint quit;
} storm;

/* A little time off, or one CPU would see nobody but those of real time. */
static void storm_nap(struct storm_thread *t)
{
	nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + rand_r(&t->seed) % 50000);
}

static int storm_resched(struct storm_thread *t)
{
	unsigned int who = rand_r(&t->seed) % (NB_STORM + 1), r = rand_r(&t->seed);

	if (who == NB_STORM)
		return set_sched(atomic_load(&storm.top), SCHED_FIFO,
				 TOP_MIN + r / 2 % (TOP_MAX - TOP_MIN + 1));
	/* Itself, or any: it may be asleep, or have inherited. */
	if (r % 4 == 0)
		who = t - storm.threads;
	return r & 8 ? set_sched(atomic_load(&storm.threads[who].tid), SCHED_OTHER, 0) :
		       set_sched(atomic_load(&storm.threads[who].tid), SCHED_FIFO,
				 1 + r / 16 % STORM_MAX);
}

/* Take a lock and perhaps the ones after it, always in one order. */
static int storm_turn(struct storm_thread *t)
{
	pid_t tid = atomic_load(&t->tid);
	int first = rand_r(&t->seed) % NB_LOCKS;
	int last = first + rand_r(&t->seed) % (NB_LOCKS - first);
	int i, err, ret = 0;

	for (i = first; i <= last && !ret; i++) {
		ret = lock_pi(&storm.lock[i], tid);
		if (ret)
			break;
		ret = storm_resched(t);
		storm_nap(t);
	}
	/* All that it has got, whatever went wrong: others wait for it. */
	while (--i >= first) {
		err = unlock_pi(&storm.lock[i], tid);
		if (!ret)
			ret = err;
	}
	storm_nap(t);
	return ret ? ret : storm_resched(t);
}

static void *storm_thread(void *arg)
{
	struct storm_thread *t = arg;

	atomic_store(&t->tid, syscall(SYS_gettid));
	atomic_fetch_add(&storm.ready, 1);
	nt_futex_wake(&storm.ready);
	/* Those whose priorities it changes must be there. */
	while (atomic_load(&storm.ready) <= NB_STORM)
		nt_futex_wait(&storm.ready, atomic_load(&storm.ready), UINT64_MAX);

	while (!atomic_load(&storm.stop) && !t->ret) {
		t->ret = storm_turn(t);
		atomic_fetch_add(&t->turns, 1);
	}

	atomic_fetch_add(&storm.idle, 1);
	nt_futex_wake(&storm.idle);
	while (!atomic_load(&storm.quit))
		nt_futex_wait(&storm.quit, 0, UINT64_MAX);
	return NULL;
}

/* 0 or an error; on return the storm blows. */
static int storm_start(pid_t top)
{
	int i, ret;

	atomic_store(&storm.top, top);
	for (i = 0; i < NB_STORM; i++) {
		struct storm_thread *t = &storm.threads[i];

		t->seed = i + 1;
		ret = start_thread(&t->thread, storm_thread, t);
		if (ret)
			return ret;
	}
	if (!nt_await(&storm.ready, NB_STORM))
		return -EBUSY;
	for (i = 0; i < NB_STORM; i++) {
		ret = set_sched(atomic_load(&storm.threads[i].tid),
				storm_prio[i] ? SCHED_FIFO : SCHED_OTHER, storm_prio[i]);
		if (ret)
			return ret;
	}
	atomic_fetch_add(&storm.ready, 1);
	nt_futex_wake(&storm.ready);
	return 0;
}

static void nothing(int sig)
{
	(void)sig;
}

FIXTURE(unload) {
	int dev;
	int mutex;
	struct nt_waiter waiter;
	struct actor owner;	/* at the end of the chain */
	struct actor middle;
	struct actor top;	/* has what the others inherit */
	atomic_uint lock;
};

FIXTURE_SETUP(unload)
{
	struct sigaction sa = { .sa_handler = nothing };
	int ret;

	if (access(MODULE, R_OK))
		SKIP(return, "no " MODULE);
	if (!is_module())
		SKIP(return, "ntsync is not loaded as a module");
	ret = unload();
	if (ret == -EPERM)
		SKIP(return, "no right to unload a module");
	if (ret == -EWOULDBLOCK)
		SKIP(return, "ntsync is in use");
	ASSERT_EQ(0, ret);
	ASSERT_EQ(0, load());
	sigaction(SIGUSR1, &sa, NULL);
}

FIXTURE_TEARDOWN(unload)
{
	/* Others want to go on with it. */
	if (!is_module())
		EXPECT_EQ(0, load());
}

/* What is open, or in a wait, keeps the module. */
TEST_F_TIMEOUT(unload, busy, NT_TEST_TIMEOUT)
{
	struct nt_waiter *w = &self->waiter;
	int event;

	self->dev = await_device();
	ASSERT_LE(0, self->dev);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	self->mutex = nt_create_mutex(self->dev, 0, 0);
	ASSERT_LE(0, self->mutex);
	close(self->dev);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	check_mutex(self->mutex, 0, 0);
	close(self->mutex);

	self->dev = await_device();
	ASSERT_LE(0, self->dev);
	event = nt_create_event(self->dev, false, false);
	ASSERT_LE(0, event);
	w->wait.dev = self->dev;
	w->wait.objs = &event;
	w->wait.count = 1;
	w->wait.owner = 1;
	start_asleep(w);
	close(event);
	close(self->dev);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	EXPECT_TRUE(is_module());
	pthread_kill(w->thread, SIGUSR1);
	EXPECT_EQ(-EINTR, nt_finish(w));

	EXPECT_EQ(0, unload());
	EXPECT_FALSE(is_module());
	EXPECT_EQ(-ENOENT, unload());
	ASSERT_EQ(0, load());
	EXPECT_EQ(-EEXIST, load());
	self->dev = await_device();
	ASSERT_LE(0, self->dev);
	close(self->dev);
}

/* Let an actor do something in a round, and what it must have meanwhile. */
#define does(a, fn)	ASSERT_EQ(0, actor_do((a), (fn)))
#define blocks(a, fn)	ASSERT_TRUE(actor_blocks((a), (fn)))
#define ends(a)		ASSERT_EQ(0, actor_end(a))
#define boosted(a)	ASSERT_TRUE(await_prio(atomic_load(&(a)->tid),	\
					       FIFO(TOP_MAX), FIFO(TOP_MIN)))
#define normal(a)	ASSERT_TRUE(await_prio(atomic_load(&(a)->tid), NORMAL, NORMAL))

TEST_F_TIMEOUT(unload, storm, STORM_TIMEOUT)
{
	struct actor *owner = &self->owner, *middle = &self->middle, *top = &self->top;
	struct actor *actors[] = { owner, middle, top };
	struct nt_sched sched = NT_FIFO(CONTROLLER_PRIO);
	int i, ret, rounds = nt_scaled_down(ROUNDS);
	unsigned int j;
	__u64 deadline;

	if (rounds < 10)
		rounds = 10;
	self->dev = await_device();
	ASSERT_LE(0, self->dev);
	self->mutex = nt_create_mutex(self->dev, 0, 0);
	ASSERT_LE(0, self->mutex);
	ret = nt_set_task(self->mutex, 0, 0);
	close(self->mutex);
	close(self->dev);
	if (ret == -ENOTTY)
		SKIP(return, "no priority inheritance in this kernel");
	if (nt_sched_probe(sched))
		SKIP(return, "no right to real-time priorities");
	ASSERT_EQ(0, nt_sched_self(&sched));

	for (j = 0; j < ARRAY_LEN(actors); j++)
		ASSERT_EQ(0, actor_start(actors[j], j + 1, &self->lock));
	ASSERT_EQ(0, set_sched(atomic_load(&top->tid), SCHED_FIFO, TOP_MAX));
	ASSERT_EQ(0, storm_start(atomic_load(&top->tid)));

	deadline = nt_now(CLOCK_MONOTONIC) + BUDGET_NSEC;
	for (i = 0; i < rounds && nt_now(CLOCK_MONOTONIC) < deadline; i++) {
		ASSERT_EQ(0, unload());
		ASSERT_EQ(0, load());
		self->dev = await_device();
		ASSERT_LE(0, self->dev);
		self->mutex = nt_create_mutex(self->dev, 0, 0);
		ASSERT_LE(0, self->mutex);
		for (j = 0; j < ARRAY_LEN(actors); j++) {
			actors[j]->dev = self->dev;
			actors[j]->mutex = self->mutex;
		}

		if (i % 3 == 0) {
			/* top -> futex of middle -> mutex of owner */
			does(owner, do_wait);
			does(middle, do_lock_pi);
			blocks(middle, do_wait);
			blocks(top, do_lock_pi);
			boosted(middle);
			boosted(owner);
			does(owner, do_unlock);
			ends(middle);
			normal(owner);
			boosted(middle);
			does(middle, do_unlock_pi);
			ends(top);
			normal(middle);
			does(top, do_unlock_pi);
			does(middle, do_unlock);
		} else {
			/* top -> mutex of middle -> futex of owner */
			does(owner, do_lock_pi);
			does(middle, do_wait);
			blocks(middle, do_lock_pi);
			blocks(top, do_wait);
			boosted(middle);
			boosted(owner);
			if (i % 3 == 1) {
				pthread_kill(top->thread, SIGUSR1);
				ASSERT_EQ(-EINTR, actor_end(top));
				normal(middle);
				normal(owner);
			}
			does(owner, do_unlock_pi);
			ends(middle);
			normal(owner);
			does(middle, do_unlock_pi);
			does(middle, do_unlock);
			normal(middle);
			if (i % 3 == 2) {
				ends(top);
				does(top, do_unlock);
			}
		}
		/* The last references: nobody is in a call any more. */
		close(self->mutex);
		close(self->dev);
	}
	if (i < rounds)
		TH_LOG("%d of %d rounds in the time", i, rounds);
	EXPECT_TRUE(is_module());

	atomic_store(&storm.stop, 1);
	ASSERT_TRUE(nt_await(&storm.idle, NB_STORM));
	for (i = 0; i < NB_STORM; i++) {
		struct storm_thread *t = &storm.threads[i];
		pid_t tid = atomic_load(&t->tid);

		EXPECT_EQ(0, t->ret);
		EXPECT_LT(0U, atomic_load(&t->turns));
		EXPECT_EQ(own_prio(tid), nt_task_prio(getpid(), tid));
		EXPECT_EQ(0, set_sched(tid, storm_prio[i] ? SCHED_FIFO : SCHED_OTHER,
				       storm_prio[i]));
		EXPECT_EQ(storm_prio[i] ? FIFO(storm_prio[i]) : NORMAL,
			  nt_task_prio(getpid(), tid));
	}
	for (i = 0; i < NB_LOCKS; i++)
		EXPECT_EQ(0U, atomic_load(&storm.lock[i]));
	EXPECT_EQ(0U, atomic_load(&self->lock));
	EXPECT_EQ(own_prio(atomic_load(&top->tid)),
		  nt_task_prio(getpid(), atomic_load(&top->tid)));

	atomic_store(&storm.quit, 1);
	nt_futex_wake(&storm.quit);
	for (i = 0; i < NB_STORM; i++)
		pthread_join(storm.threads[i].thread, NULL);
	for (j = 0; j < ARRAY_LEN(actors); j++)
		actor_stop(actors[j]);
}

TEST_HARNESS_MAIN
