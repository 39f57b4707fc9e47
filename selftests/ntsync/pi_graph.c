// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Priority inheritance in random graphs.
 *
 * Some threads own mutexes, and wait for those of each other: for any or for
 * all of several, for a futex-PI lock, in chains, trees and cycles as chance
 * will have it. One thing at a time happens: a thread begins to wait, leaves
 * its wait, releases a mutex or is given another priority. After each of them
 * every thread must have exactly the priority that it should: the highest of
 * its own and those of all who wait for what it owns, where nobody has a
 * priority only because he lends it to himself in a circle.
 *
 * What is expected is computed from the graph alone, as the least fixed point;
 * what the kernel has is read from /proc. Everything runs on one CPU below the
 * controlling thread, so that there is no race about who is where.
 *
 * The number of graphs is scaled by NTSYNC_SCALE (in percent), the first one is
 * chosen by NTSYNC_SEED.
 */
#include <setjmp.h>
#include <sys/mman.h>
#include "ntsync_test.h"

#define MAX_NODES	12
#define MAX_MUTEXES	24
#define MAX_LINKS	6

#define NB_GRAPHS	20
#define NB_EVENTS	60

#define CONTROLLER_PRIO	99
#define DL		100	/* as a priority: above FIFO 99 */

enum op { OP_NONE, OP_ACQUIRE, OP_WAIT, OP_LOCK, OP_RELEASE, OP_EXIT };

struct node {
	pthread_t thread;
	atomic_int tid;
	atomic_uint cmd;	/* counts commands */
	atomic_uint done;	/* counts those that are completed */
	atomic_uint inside;	/* is in the call, or will be at once */
	atomic_uint lock;	/* its futex-PI lock */
	sigjmp_buf env;

	/* the command */
	enum op op;
	bool all;
	__u32 owner;
	int fds[MAX_LINKS];
	__u32 count;
	struct node *target;	/* whose lock */
	int mutex;
	int ret;
	__u32 index;

	/* the model */
	int own;		/* priority */
	int eff;
	bool waits;
	int links[MAX_LINKS];	/* mutexes */
	__u32 seq;		/* order of arrival */
};

struct graph {
	struct __test_metadata *meta;
	int dev;
	unsigned int nb_nodes, nb_mutexes, seed, events, seq;
	bool futex, deadline;
	struct node node[MAX_NODES];
	int fd[MAX_MUTEXES];
	int holder[MAX_MUTEXES];	/* node, or -1 */
	__u32 id[MAX_MUTEXES];		/* which of its two ids that has */
	char log[64 * 1024];
	size_t log_len;
};

static __thread struct node *me;

static __attribute__((format(printf, 2, 3))) void note(struct graph *g, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(g->log + g->log_len, sizeof(g->log) - g->log_len, fmt, ap);
	va_end(ap);
	if (n > 0 && g->log_len + n < sizeof(g->log))
		g->log_len += n;
}

static unsigned int rnd(struct graph *g, unsigned int n)
{
	g->seed = g->seed * 1664525 + 1013904223;
	return (g->seed >> 8) % n;
}

static void leave(int sig)
{
	if (atomic_load(&me->inside))
		siglongjmp(me->env, 1);
	(void)sig;
}

static int lock_pi(atomic_uint *lock)
{
	unsigned int zero = 0;

	if (atomic_compare_exchange_strong(lock, &zero, atomic_load(&me->tid)))
		return 0;
	return syscall(SYS_futex, lock, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0) ? -errno : 0;
}

static void unlock_pi(atomic_uint *lock)
{
	unsigned int tid = atomic_load(&me->tid);

	if (!atomic_compare_exchange_strong(lock, &tid, 0))
		syscall(SYS_futex, lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0);
}

static void node_call(struct node *n, int dev)
{
	struct nt_wait wait = {
		.dev = dev, .all = n->all, .objs = n->fds, .count = n->count,
		.owner = n->owner, .timeout = UINT64_MAX,
	};

	if (sigsetjmp(n->env, 1)) {
		atomic_store(&n->inside, 0);
		n->ret = -EINTR;
		return;
	}

	atomic_store(&n->inside, 1);
	if (n->op == OP_LOCK) {
		n->ret = lock_pi(&n->target->lock);
		if (!n->ret)
			unlock_pi(&n->target->lock);
	} else {
		n->ret = nt_wait(&wait);
		n->index = wait.index;
	}
	atomic_store(&n->inside, 0);
}

static struct graph *the_graph;

static void *node_thread(void *arg)
{
	struct node *n = arg;
	unsigned int cmd = 0;

	me = n;
	atomic_store(&n->tid, syscall(SYS_gettid));
	lock_pi(&n->lock);
	atomic_store(&n->done, 1);
	nt_futex_wake(&n->done);

	for (;;) {
		while (atomic_load(&n->cmd) == cmd)
			nt_futex_wait(&n->cmd, cmd, UINT64_MAX);
		cmd++;

		switch (n->op) {
		case OP_ACQUIRE:
		case OP_WAIT:
		case OP_LOCK:
			node_call(n, the_graph->dev);
			break;
		case OP_RELEASE:
			n->ret = nt_unlock_mutex(n->mutex, n->owner, NULL);
			break;
		default:
			break;
		}
		if (n->op == OP_EXIT)
			unlock_pi(&n->lock);
		atomic_fetch_add(&n->done, 1);
		nt_futex_wake(&n->done);
		if (n->op == OP_EXIT)
			return NULL;
	}
}

static __u32 node_id(struct graph *g, struct node *n)
{
	return n - g->node + 1;
}

static void command(struct node *n, enum op op)
{
	n->op = op;
	atomic_fetch_add(&n->cmd, 1);
	nt_futex_wake(&n->cmd);
}

static bool completed(struct node *n)
{
	return nt_await(&n->done, atomic_load(&n->cmd) + 1);
}

static bool is_done(struct node *n)
{
	return atomic_load(&n->done) == atomic_load(&n->cmd) + 1;
}

/* Field 18 of stat: the effective priority, turned into 0, 1..99 or DL. */
static int effective(struct node *n)
{
	int prio = nt_task_prio(getpid(), atomic_load(&n->tid));

	return prio < 0 ? -1 - prio : 0;
}

static int set_own(struct node *n, int prio, bool rr)
{
	struct nt_sched_attr attr = {
		.size = sizeof(attr),
		.policy = !prio ? SCHED_OTHER : prio == DL ? SCHED_DEADLINE :
			  rr ? SCHED_RR : SCHED_FIFO,
		.priority = prio == DL ? 0 : prio,
	};

	if (prio == DL) {
		/*
		 * More than it uses, for a throttled thread makes the test slow. But little
		 * bandwidth: that of a thread that has gone is returned up to a period later.
		 */
		attr.runtime = NT_NSEC_PER_SEC / 50;
		attr.deadline = 4 * NT_NSEC_PER_SEC;
		attr.period = 4 * NT_NSEC_PER_SEC;
	}
	return syscall(SYS_sched_setattr, atomic_load(&n->tid), &attr, 0) ? -errno : 0;
}

static bool owns_target(struct graph *g, struct node *owner, struct node *waiter)
{
	__u32 i;

	if (!waiter->waits || waiter == owner)
		return false;
	if (waiter->op == OP_LOCK)
		return waiter->target == owner;
	for (i = 0; i < waiter->count; i++) {
		if (g->holder[waiter->links[i]] == owner - g->node)
			return true;
	}
	return false;
}

static bool check(struct graph *g, const char *what)
{
	unsigned int i, j;
	bool again = true, ok = true;

	for (i = 0; i < g->nb_nodes; i++)
		g->node[i].eff = g->node[i].own;
	while (again) {
		again = false;
		for (i = 0; i < g->nb_nodes; i++) {
			for (j = 0; j < g->nb_nodes; j++) {
				if (owns_target(g, &g->node[i], &g->node[j]) &&
				    g->node[i].eff < g->node[j].eff) {
					g->node[i].eff = g->node[j].eff;
					again = true;
				}
			}
		}
	}

	for (i = 0; i < g->nb_nodes; i++) {
		int eff = effective(&g->node[i]);
		__u64 deadline = nt_bound();
		unsigned int nr = 0;

		/*
		 * One that does not sleep may have a lock of the kernel that
		 * another one wants.
		 */
		while (eff != g->node[i].eff && nt_now(CLOCK_MONOTONIC) < deadline) {
			bool asleep = nt_task_state(getpid(), atomic_load(&g->node[i].tid)) == 'S';

			eff = effective(&g->node[i]);
			if (asleep)
				break;
			nt_pause(&nr);
		}
		if (eff != g->node[i].eff) {
			note(g, "  after %s: thread %u has %d instead of %d\n",
			     what, i, eff, g->node[i].eff);
			ok = false;
		}
	}
	return ok;
}

/*
 * Seen twice, with time to run in between: a thread that is about to sleep may
 * look like one that does.
 */
static bool asleep(struct node *n)
{
	__u64 deadline = nt_bound();
	unsigned int nr = 0;
	int seen = 0;

	while (nt_now(CLOCK_MONOTONIC) < deadline) {
		if (is_done(n))
			return false;
		if (!atomic_load(&n->inside) || nt_task_state(getpid(), atomic_load(&n->tid)) != 'S')
			seen = 0;
		else if (++seen == 2)
			return !is_done(n);
		nt_pause(&nr);
	}
	return false;
}

/* Now, or once more: neither is a wait. */
static bool can_have(struct graph *g, struct node *n, int mutex)
{
	return g->holder[mutex] < 0 || g->id[mutex] == n->owner;
}

/* What a granted wait means for the model. */
static void granted(struct graph *g, struct node *n)
{
	__u32 i;

	n->waits = false;
	for (i = 0; i < n->count; i++) {
		if (n->all || i == n->index) {
			g->holder[n->links[i]] = n - g->node;
			g->id[n->links[i]] = n->owner;
		}
	}
}

static bool event_wait(struct graph *g, struct node *n)
{
	unsigned int i, j, nb;

	if (g->futex && !rnd(g, 3)) {
		n->target = &g->node[rnd(g, g->nb_nodes)];
		if (n->target == n)
			return true;
		note(g, "  %td locks the futex of %td", n - g->node, n->target - g->node);
		command(n, OP_LOCK);
	} else {
		nb = rnd(g, 2) ? 1 : 1 + rnd(g, MAX_LINKS);
		n->all = rnd(g, 2);
		/* At times under another id, so that it can wait for itself. */
		n->owner = node_id(g, n) + (rnd(g, 4) ? 0 : 100);
		n->count = 0;
		note(g, "  %td waits for %s", n - g->node, n->all ? "all" : "any");
		for (i = 0; i < nb; i++) {
			int mutex = rnd(g, g->nb_mutexes);

			/* A mutex must be held, and nobody must get it at once. */
			if (can_have(g, n, mutex))
				continue;
			for (j = 0; n->all && j < n->count; j++) {
				if (n->links[j] == mutex)
					break;
			}
			if (n->all && j < n->count)
				continue;
			note(g, " %d(%d)", mutex, g->holder[mutex]);
			n->links[n->count] = mutex;
			n->fds[n->count++] = g->fd[mutex];
		}
		if (!n->count) {
			note(g, " nothing\n");
			return true;
		}
		command(n, OP_WAIT);
	}

	n->waits = asleep(n);
	n->seq = g->seq++;
	if (!n->waits) {
		note(g, ": returned %d", n->ret);
		if (n->op != OP_LOCK || n->ret != -EDEADLK)
			return false;
	}
	note(g, "\n");
	return check(g, "a wait began");
}

static bool event_leave(struct graph *g, struct node *n)
{
	note(g, "  %td leaves\n", n - g->node);
	pthread_kill(n->thread, SIGUSR1);
	if (!completed(n)) {
		note(g, "  it does not\n");
		return false;
	}
	n->waits = false;
	return check(g, "a wait ended");
}

static bool event_prio(struct graph *g, struct node *n)
{
	int prio = 0, ret;

	switch (rnd(g, 6)) {
	case 0:
		break;
	case 1:
		prio = g->deadline ? DL : 50;
		break;
	default:
		/* few, so that some are equal */
		prio = 10 * (1 + rnd(g, 8));
		break;
	}

	note(g, "  %td gets %d\n", n - g->node, prio);
	ret = set_own(n, prio, rnd(g, 2));
	if (ret == -EBUSY && prio == DL) {
		/* The bandwidth of those who had one lasts for some time. */
		note(g, "  refused\n");
		prio = n->own;
	} else if (ret) {
		note(g, "  failed: %d\n", ret);
		return false;
	}
	n->own = prio;
	return check(g, "a change of priority");
}

static bool may_get(struct graph *g, struct node *n, int mutex)
{
	bool wants = false;
	__u32 i;

	if (!n->waits || n->op != OP_WAIT)
		return false;
	for (i = 0; i < n->count; i++) {
		if (n->links[i] == mutex)
			wants = true;
		if (n->all && !can_have(g, n, n->links[i]))
			return false;
	}
	return wants;
}

static bool event_release(struct graph *g, struct node *n)
{
	struct node *best = NULL;
	unsigned int i, nb = 0;
	__u32 owner;
	int mutex = -1;

	for (i = 0; i < g->nb_mutexes; i++) {
		if (g->holder[i] == n - g->node && !rnd(g, ++nb))
			mutex = i;
	}
	if (mutex < 0)
		return true;

	note(g, "  %td releases %d", n - g->node, mutex);
	n->mutex = g->fd[mutex];
	n->owner = nt_mutex_owner(n->mutex);
	command(n, OP_RELEASE);
	if (!completed(n) || n->ret) {
		note(g, ": returned %d\n", n->ret);
		return false;
	}

	/* Those who have begun to wait are in the order of their priority before it. */
	g->holder[mutex] = -1;
	for (i = 0; i < g->nb_nodes; i++) {
		struct node *w = &g->node[i];

		if (!may_get(g, w, mutex))
			continue;
		if (!best || w->eff > best->eff)
			best = w;
	}
	owner = nt_mutex_owner(n->mutex);
	note(g, ", %u gets it\n", owner);
	if (!best) {
		if (owner)
			return false;
		/* Keep all of them owned. */
		n->all = false;
		n->owner = node_id(g, n);
		n->fds[0] = g->fd[mutex];
		n->links[0] = mutex;
		n->count = 1;
		command(n, OP_ACQUIRE);
		if (!completed(n) || n->ret)
			return false;
		granted(g, n);
		return check(g, "a release");
	}

	if (!owner)
		return false;
	for (i = 0; i < g->nb_nodes; i++) {
		struct node *w = &g->node[i];

		if (!w->waits || w->owner != owner || w->op != OP_WAIT)
			continue;
		if (!may_get(g, w, mutex) || w->eff != best->eff) {
			note(g, "  %td should have, or an equal\n", best - g->node);
			return false;
		}
		if (!completed(w) || w->ret) {
			note(g, "  it returned %d\n", w->ret);
			return false;
		}
		granted(g, w);
		return check(g, "a hand-over");
	}
	return false;
}

static bool play(struct graph *g)
{
	unsigned int i;
	bool ok = true;

	for (i = 0; ok && i < g->events; i++) {
		struct node *n = &g->node[rnd(g, g->nb_nodes)];
		unsigned int kind = rnd(g, 10);

		if (kind < 3)
			ok = event_prio(g, n);
		else if (n->waits && kind < 6)
			ok = event_leave(g, n);
		else if (!n->waits && kind < 9)
			ok = event_wait(g, n);
		else if (!n->waits)
			ok = event_release(g, n);
	}
	return ok;
}

static bool run_graph(struct graph *g)
{
	pthread_attr_t attr;
	unsigned int i;
	bool ok = true;

	g->log_len = 0;
	g->nb_nodes = 2 + rnd(g, MAX_NODES - 1);
	g->nb_mutexes = g->nb_nodes + rnd(g, MAX_MUTEXES - g->nb_nodes + 1);
	the_graph = g;
	memset(g->node, 0, sizeof(g->node));

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 128 * 1024);
	for (i = 0; i < g->nb_nodes; i++) {
		struct node *n = &g->node[i];

		if (pthread_create(&n->thread, &attr, node_thread, n))
			return false;
		ok = ok && nt_await(&n->done, 1) && !set_own(n, 0, false);
	}
	pthread_attr_destroy(&attr);

	for (i = 0; ok && i < g->nb_mutexes; i++) {
		struct node *n = &g->node[i % g->nb_nodes];

		g->fd[i] = nt_create_mutex(g->dev, 0, 0);
		n->owner = node_id(g, n);
		n->all = false;
		n->fds[0] = g->fd[i];
		n->links[0] = i;
		n->count = 1;
		command(n, OP_ACQUIRE);
		ok = completed(n) && !n->ret;
		granted(g, n);
	}

	ok = ok && play(g);

	/* All out: nobody may keep anything. */
	for (i = 0; i < g->nb_nodes; i++) {
		struct node *n = &g->node[i];

		if (!is_done(n)) {
			pthread_kill(n->thread, SIGUSR1);
			ok = completed(n) && ok;
			n->waits = false;
			if (ok)
				ok = check(g, "the end of a wait");
		}
	}
	for (i = 0; i < g->nb_nodes; i++) {
		if (is_done(&g->node[i])) {
			command(&g->node[i], OP_EXIT);
			pthread_join(g->node[i].thread, NULL);
		}
	}
	for (i = 0; i < g->nb_mutexes; i++)
		close(g->fd[i]);
	return ok;
}

FIXTURE(graph) {
	struct graph *g;
};

FIXTURE_VARIANT(graph) {
	bool futex;
	bool deadline;
};

FIXTURE_VARIANT_ADD(graph, ntsync) { };
FIXTURE_VARIANT_ADD(graph, futex) { .futex = true };
FIXTURE_VARIANT_ADD(graph, deadline) { .deadline = true };
FIXTURE_VARIANT_ADD(graph, all) { .futex = true, .deadline = true };

FIXTURE_SETUP(graph)
{
	struct sigaction sa = { .sa_handler = leave };
	struct nt_sched sched = NT_FIFO(CONTROLLER_PRIO);
	int dev, mutex;

	open_device(dev);
	mutex = nt_create_mutex(dev, 0, 0);
	ASSERT_LE(0, mutex);
	if (nt_set_task(mutex, 0, 0) == -ENOTTY)
		SKIP(return, "no priority inheritance in this kernel");
	close(mutex);

	self->g = mmap(NULL, sizeof(*self->g), PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(self->g != MAP_FAILED);
	self->g->dev = dev;
	self->g->futex = variant->futex;
	self->g->deadline = variant->deadline;

	/* A deadline task must be allowed on all CPUs, and then so are the others. */
	if (!variant->deadline)
		ASSERT_EQ(0, nt_pin_self(nt_cpu(0)));
	if (nt_sched_probe(sched))
		SKIP(return, "no right to real-time priorities");
	ASSERT_EQ(0, nt_sched_self(&sched));
	sigaction(SIGUSR1, &sa, NULL);
}

FIXTURE_TEARDOWN(graph)
{
	if (self->g)
		close(self->g->dev);
}

TEST_F_TIMEOUT(graph, exact, NT_TEST_TIMEOUT)
{
	unsigned int i, nb = nt_scaled(NB_GRAPHS), seed = nt_seed();

	for (i = 0; i < nb; i++) {
		self->g->seed = seed + i;
		self->g->events = NB_EVENTS;
		ASSERT_TRUE(run_graph(self->g)) {
			TH_LOG("graph NTSYNC_SEED=%u: %u threads, %u mutexes", seed + i,
			       self->g->nb_nodes, self->g->nb_mutexes);
			fputs(self->g->log, stdout);
			fputc('\n', stdout);
		}
	}
}

TEST_HARNESS_MAIN
