// SPDX-License-Identifier: GPL-2.0-only
/*
 * An allocation that fails leaves everything as it was.
 *
 * The kernel lets the n-th allocation of a call fail (/proc/thread-self/fail-nth), for n = 1, 2,
 * 3 and so on until the call makes fewer than n. Each time it must do what it does otherwise, or
 * fail with -ENOMEM, as if it had not been made: no object consumed, nobody left in a queue, no
 * descriptor used up, no request lost or stuck, nobody boosted. Calls that need no allocation
 * must not notice. In the end, many threads make such calls at random.
 *
 * Only -ENOMEM: what hands out descriptors (alloc_fdtable(), alloc_empty_file(),
 * d_alloc_pseudo(), path lookup) has -EMFILE and -ENFILE for limits, which are not reached here.
 *
 * Everything but the last test runs on one CPU below the controlling thread. After each test the
 * slab caches of the driver must not have more objects than before.
 *
 * Allocations that may sleep do not fail unless failslab/ignore-gfp-wait in debugfs is N, which
 * each test writes there, and restores. The memory of the program is locked, because a page
 * fault between two system calls would allocate as well.
 *
 * NTSYNC_SCALE (in percent) is for the last test, and its seed is NTSYNC_SEED.
 */
#include "descriptor_test.h"
#include <poll.h>
#include <sys/mman.h>
#include <sys/mount.h>

#define FAIL_NTH	"/proc/thread-self/fail-nth"
#define DEBUGFS		"/sys/kernel/debug"
#define FAILSLAB	DEBUGFS "/failslab"
#define FAIL_USERCOPY	DEBUGFS "/fail_usercopy"
#define SLABINFO	"/proc/slabinfo"
#define SLAB_DIR	"/sys/kernel/slab"

#define MAX_NTH		100	/* no call has as many allocations */
#define NB_TRIES	6	/* of calls that have none */
#define NB_FDS		512	/* we have fewer descriptors */
#define FIRST_FDTABLE	64	/* as many descriptors need no larger table */

#define NONE		NTSYNC_INDEX_NONE
#define OWNER		7	/* of mutexes: who waits, */
#define OTHER		107	/* and who has them before */

/* A wait that ends by itself has slept. */
#define DOZE_NSEC	300000ULL

/* What is set in FAILSLAB, and restored. Without verbose it says nothing in the log. */
static const struct {
	const char *file;
	const char *value;
} knobs[] = {
	{ FAILSLAB "/verbose", "0" },
	{ FAILSLAB "/cache-filter", "N" },
	{ FAILSLAB "/ignore-gfp-wait", "N" },
};

/*
 * Calls of which an allocation fails
 */

struct faults {
	unsigned int n;		/* which one fails */
	bool hit;		/* the call came to it */
	int ret;		/* -EIO if there was no call */
	unsigned int nb;	/* sums: calls, */
	unsigned int hits;
	unsigned int refused;	/* and those that failed because of it */
};

/* The kernel says how many allocations there would have to be still: 0 if it came to the n-th. */
static void shoot(struct faults *f, int (*call)(void *arg), void *arg)
{
	char text[16] = "";
	int fd, len;

	f->hit = false;
	f->ret = -EIO;
	f->nb++;
	fd = open(FAIL_NTH, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return;
	len = snprintf(text, sizeof(text), "%u", f->n);
	if (write(fd, text, len) == len) {
		f->ret = call(arg);
		len = pread(fd, text, sizeof(text) - 1, 0);
		if (pwrite(fd, "0", 1, 0) != 1 || len <= 0)
			f->ret = -EIO;
		text[len > 0 ? len : 0] = 0;
		f->hit = !strtoul(text, NULL, 10);
	}
	close(fd);
	f->hits += f->hit;
	f->refused += f->hit && f->ret == -ENOMEM;
}

static bool refused(const struct faults *f)
{
	return f->hit && f->ret == -ENOMEM;
}

/* Was this the last one: has the call been made without a failure? */
static bool through(const struct faults *f)
{
	return f->n && !f->hit;
}

static bool next_fault(struct faults *f)
{
	if (through(f) || f->n == MAX_NTH)
		return false;
	f->n++;
	return true;
}

/* The body makes one call. After it, through() tells whether there was an end. */
#define for_each_fault(f) \
	for (*(f) = (struct faults) { 0 }; next_fault(f);)

/*
 * For calls that need no allocation. What comes along the way may have one now and then (debug
 * objects fill their pool when it is low; RCU has sheaves), but not each time.
 */
#define for_each_try(f) \
	for (*(f) = (struct faults) { .n = 1 }; (f)->nb < NB_TRIES;)

#define check_through(f) do {						\
	EXPECT_TRUE(through(f)) {					\
		TH_LOG("%u allocations, and no end", (f)->n);		\
	}								\
} while (0)

#define check_no_allocation(f) do {					\
	EXPECT_GE(NB_TRIES / 2U, (f)->hits) {				\
		TH_LOG("%u of %u calls allocate memory", (f)->hits, (f)->nb); \
	}								\
} while (0)

/* The result of a call that was not refused. */
#define check_ret(expected, f) do {					\
	EXPECT_EQ((expected), (f)->ret) {				\
		TH_LOG("allocation %u %s", (f)->n,			\
		       (f)->hit ? "has failed" : "was not made");	\
	}								\
} while (0)

/*
 * Who and what takes part
 */

enum { W, O, R, S0, S1, T, NB_AGENTS };

/* A thread that does what it is told. The controlling thread can wait as one, too. */
struct agent {
	struct peer p;		/* must be first */
	struct faults *f;
	int (*op)(struct actor *a);
	struct ntsync_source src[NTSYNC_MAX_SOURCES];
	__u32 nb;
	__u32 index;		/* results; poisoned before */
	__u32 events;
	unsigned int nr;	/* of the soak */
	unsigned int seed;
};

struct env {
	int dev;
	bool mounted;
	long objects;
	char knob[ARRAY_LEN(knobs)][32];
	int never;		/* an event that nobody sets */
	struct agent me;	/* the controlling thread */
	struct agent g[NB_AGENTS];
};

/* As in channel_stress.c: the objects of all caches of ours, -1 if that is not known. */
static long slab_objects(void)
{
	FILE *file = fopen(SLABINFO, "r");
	char line[512], name[64], path[128];
	long sum = -1, active;
	int pass;

	/* What is free in the caches of each CPU counts as used unless they are emptied. */
	for (pass = 0; pass < 2 && file; pass++) {
		rewind(file);
		while (fgets(line, sizeof(line), file)) {
			if (sscanf(line, "%63s %ld", name, &active) != 2 ||
			    strncmp(name, "ntsync", 6))
				continue;
			snprintf(path, sizeof(path), SLAB_DIR "/%s/shrink", name);
			if (!pass && !nt_write_file(path, "1")) {
				fclose(file);
				return -1;
			}
			if (pass)
				sum = (sum < 0 ? 0 : sum) + active;
		}
	}
	if (file)
		fclose(file);
	return sum;
}

/* Page faults allocate. So none: not in what there is, nor in the stacks of threads to come. */
static int lock_memory(void)
{
	volatile char stack[128 * 1024];
	unsigned int i;

	for (i = 0; i < sizeof(stack); i += 1024)
		stack[i] = 0;
	return mlockall(MCL_CURRENT | MCL_FUTURE) ? -errno : 0;
}

/* NULL, or why not. */
static const char *begin_failslab(struct env *e)
{
	unsigned int i;

	if (access(FAIL_NTH, F_OK))
		return "no " FAIL_NTH " (CONFIG_FAULT_INJECTION)";
	if (access(FAILSLAB, F_OK) && !access(DEBUGFS, F_OK))
		e->mounted = !mount("debugfs", DEBUGFS, "debugfs", 0, NULL);
	if (access(FAILSLAB, F_OK)) {
		if (e->mounted)
			umount2(DEBUGFS, MNT_DETACH);
		return "no " FAILSLAB " (CONFIG_FAILSLAB, CONFIG_FAULT_INJECTION_DEBUG_FS)";
	}
	if (!access(FAIL_USERCOPY, F_OK))
		return "copies would fail, too (CONFIG_FAULT_INJECTION_USERCOPY)";
	for (i = 0; i < ARRAY_LEN(knobs); i++)
		if (!nt_read_file(knobs[i].file, e->knob[i], sizeof(e->knob[i])))
			return "no right to read " FAILSLAB;
	for (i = 0; i < ARRAY_LEN(knobs); i++)
		if (!nt_write_file(knobs[i].file, knobs[i].value))
			return "no right to write to " FAILSLAB;
	return NULL;
}

static int call_eventfd(void *arg)
{
	int fd = eventfd(0, EFD_CLOEXEC);

	(void)arg;
	return fd < 0 ? -errno : fd;
}

/* For FIXTURE_SETUP(), before the features that a test needs are looked for, */
#define begin_device(_env) do {						\
	struct sigaction __alarm = { .sa_handler = nothing };		\
	struct env *__e = (_env);					\
									\
	__e->objects = slab_objects();					\
	begin_rt(__e->dev);						\
	sigaction(SIGALRM, &__alarm, NULL);				\
	__e->never = nt_create_event(__e->dev, true, false);		\
	ASSERT_LE(0, __e->never);					\
	__e->me.p.a.dev = __e->dev;					\
	__e->me.p.a.id = OWNER;						\
} while (0)

/* and at the end. An eventfd, which needs an allocation first of all, shows that they fail. */
#define begin_faults(_env) do {						\
	const char *__reason = begin_failslab(_env);			\
	struct faults __f = { .n = 1 };					\
									\
	if (__reason)							\
		SKIP(return, "%s", __reason);				\
	ASSERT_EQ(0, lock_memory());					\
	shoot(&__f, call_eventfd, NULL);				\
	ASSERT_EQ(-ENOMEM, __f.ret);					\
	ASSERT_TRUE(__f.hit);						\
} while (0)

#define need_pi(_env) do {						\
	int __mutex = nt_create_mutex((_env)->dev, 0, 0);		\
									\
	ASSERT_LE(0, __mutex);						\
	if (nt_set_task(__mutex, 0, 0) == -ENOTTY)			\
		SKIP(return, "no priority inheritance in this kernel");	\
	close(__mutex);							\
} while (0)

#define need_aggregate(_env) do {					\
	if (nt_ioctl((_env)->dev, NTSYNC_IOC_AGGREGATE_WAIT, NULL) == -ENOTTY) \
		SKIP(return, "no AGGREGATE_WAIT in this kernel");	\
} while (0)

/* All of it but SEND_ONLY */
#define need_all_of_channels(_env) do {					\
	need_pi(_env);							\
	need_channels((_env)->dev);					\
	need_ioctl((_env)->dev, NTSYNC_IOC_CHANNEL_RECV2);		\
	need_ioctl((_env)->dev, NTSYNC_IOC_CHANNEL_TRY_RECV2);		\
} while (0)

#define need_uring(_env) do {						\
	int __ring = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);		\
	struct nt_wait __w = {						\
		.dev = (_env)->dev, .objs = &(_env)->never, .count = 1,	\
		.timeout = NT_EXPIRED, .uring_fd = __ring,		\
	};								\
	int __ret = nt_wait(&__w);					\
									\
	close(__ring);							\
	if (__ret == -EINVAL)						\
		SKIP(return, "no uring_fd in this kernel");		\
	ASSERT_EQ(-ETIMEDOUT, __ret);					\
} while (0)

/*
 * For FIXTURE_TEARDOWN_PARENT(), so the process of the test, with everything that it had, is
 * gone. RCU frees late.
 */
#define end_faults(_env) do {						\
	struct env *__e = (_env);					\
	unsigned int __i;						\
	long __now = -1;						\
									\
	for (__i = 0; __i < ARRAY_LEN(knobs); __i++)			\
		EXPECT_TRUE(nt_write_file(knobs[__i].file, __e->knob[__i])); \
	if (__e->mounted)						\
		umount2(DEBUGFS, MNT_DETACH);				\
	if (__e->objects >= 0) {					\
		EXPECT_TRUE(poll_until((__now = slab_objects()) <= __e->objects)) { \
			TH_LOG("%ld objects at the beginning, %ld at the end", \
			       __e->objects, __now);			\
		}							\
	}								\
} while (0)

static pid_t tid_of(struct agent *g)
{
	return atomic_load(&g->p.a.tid);
}

/* It has done what it was told to do, and sleeps until it is told the next. */
static bool is_idle(struct agent *g)
{
	return poll_until(actor_done(&g->p.a) && nt_task_state(getpid(), tid_of(g)) == 'S');
}

/* Not while it is on its way to sleep, perhaps with a lock of the kernel for which we wait. */
static int prio_of(struct agent *g)
{
	return is_idle(g) ? actor_prio(&g->p.a) : INT_MIN;
}

#define starts(_env, _agent, prio) do {					\
	struct agent *__s = (_agent);					\
									\
	memset(__s, 0, sizeof(*__s));					\
	__s->p.a.id = 1000 + (__s - (_env)->g);				\
	__s->p.send.payload_off = __s->p.a.id << 16;			\
	ASSERT_EQ(0, actor_start(&__s->p.a, (_env)->dev, (prio)));	\
} while (0)

static int call_op(void *arg)
{
	struct agent *g = arg;

	return g->op(&g->p.a);
}

static int do_shot(struct actor *a)
{
	struct agent *g = (struct agent *)a;

	shoot(g->f, call_op, g);
	return g->f->ret;
}

/* Tell it to make such a call. */
static void begin_shot(struct agent *g, struct faults *f, int (*op)(struct actor *a))
{
	g->f = f;
	g->op = op;
	actor_begin(&g->p.a, do_shot);
}

#define shoots(g, _f, _op) do {						\
	begin_shot((g), (_f), (_op));					\
	ASSERT_NE(-EBUSY, actor_end(&(g)->p.a));			\
} while (0)

static struct ntsync_source obj(int fd)
{
	return (struct ntsync_source){ .type = NTSYNC_SOURCE_OBJECT, .fd = fd };
}

static struct ntsync_source in(int fd)
{
	return (struct ntsync_source){ .type = NTSYNC_SOURCE_FD, .events = POLLIN, .fd = fd };
}

static int agg_wait(struct agent *g, __u64 timeout)
{
	struct ntsync_aggregate_wait_args args = {
		.timeout = timeout,
		.sources = (uintptr_t)g->src,
		.nb_sources = g->nb,
		.fired_index = NT_POISON,
		.owner = g->p.a.id,
		.fired_events = NT_POISON,
	};
	int ret = nt_ioctl(g->p.a.dev, NTSYNC_IOC_AGGREGATE_WAIT, &args);

	g->index = args.fired_index;
	g->events = args.fired_events;
	return ret;
}

static int do_agg(struct actor *a)
{
	return agg_wait((struct agent *)a, nt_bound());
}

static int do_look(struct actor *a)
{
	return agg_wait((struct agent *)a, NT_EXPIRED);
}

static int do_recv_plain(struct actor *a)
{
	memset(&actor_peer(a)->req, 0xcc, sizeof(actor_peer(a)->req));
	return nt_ioctl(a->objs[0], NTSYNC_IOC_CHANNEL_RECV, &actor_peer(a)->req);
}

/*
 * An ioctl of the controlling thread, or of another process, that sleeps only if
 * something is wrong. The alarm ends it with -EINTR.
 */
static int bounded(int fd, unsigned long request, void *arg)
{
	int ret;

	alarm(NT_BOUND_NSEC / NT_NSEC_PER_SEC);
	ret = nt_ioctl(fd, request, arg);
	alarm(0);
	return ret;
}

/* Send, each time with another payload, and go on when it sleeps. */
#define sends(g, ch) do {						\
	struct agent *__g = (g);					\
									\
	__g->p.a.objs[0] = (ch);					\
	__g->p.send.payload_off++;					\
	actor_begin(&__g->p.a, do_send);				\
	ASSERT_TRUE(actor_asleep(&__g->p.a)) {				\
		TH_LOG("the sender does not sleep (returned %d)", __g->p.a.ret); \
	}								\
} while (0)

/* The controlling thread takes the one that is pending, and replies. Returns the token. */
static __u64 serve(struct __test_metadata *_metadata, int ch, struct agent *g)
{
	struct ntsync_channel_recv2_args req;

	memset(&req, 0xcc, sizeof(req));
	ASSERT_EQ(0, bounded(ch, NTSYNC_IOC_CHANNEL_RECV2, &req));
	EXPECT_EQ(g->p.send.payload_off, req.payload_off);
	EXPECT_EQ((__u32)tid_of(g), req.sender_tid);
	EXPECT_FALSE(actor_done(&g->p.a));
	EXPECT_EQ(0, ch_reply(ch, req.entry_id));
	ASSERT_EQ(0, actor_end(&g->p.a));
	return req.thread_token;
}

static bool is_empty(int ch)
{
	struct ntsync_channel_recv2_args req;

	return ch_try_recv2(ch, &req) == -EAGAIN;
}

/* It takes the request of this one, which is pending or that it has been woken for. */
#define gets(g, sender) do {						\
	ASSERT_EQ(0, actor_end(&(g)->p.a));				\
	EXPECT_EQ((sender)->p.send.payload_off, (g)->p.req.payload_off); \
	EXPECT_EQ((__u32)tid_of(sender), (g)->p.req.sender_tid);	\
} while (0)

#define replies(g, ch, sender) do {					\
	(g)->p.a.objs[0] = (ch);					\
	(g)->p.reply = (g)->p.req.entry_id;				\
	EXPECT_FALSE(actor_done(&(sender)->p.a));			\
	EXPECT_EQ(0, actor_do(&(g)->p.a, do_reply));			\
	ASSERT_EQ(0, actor_end(&(sender)->p.a));			\
} while (0)

/*
 * Things to wait for, and what they are like. The kinds follow each other.
 */
enum kind {
	SEM,
	MUTEX,
	AUTO,			/* an event; so below */
	MANUAL,
	NB_OBJECTS,
	FD = NB_OBJECTS,	/* an eventfd */
	NB_PLAIN,
	CHANNEL = NB_PLAIN,	/* with room for one request */
	NB_KINDS
};

enum state { IDLE, READY, OURS, WRONG };

struct things {
	int dev;
	unsigned int nb_kinds;
	unsigned int first;	/* kind */
	int fd[NTSYNC_MAX_SOURCES];
	struct agent *sender;	/* to one channel at a time */
};

static enum kind kind_of(const struct things *t, unsigned int i)
{
	return (t->first + i) % t->nb_kinds;
}

static int create_thing(int dev, enum kind kind)
{
	switch (kind) {
	case SEM:
		return nt_create_sem(dev, 0, 2);
	case MUTEX:
		return nt_create_mutex(dev, OTHER, 1);
	case FD:
		return eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	case CHANNEL:
		return ch_create(dev, 1);
	default:
		return nt_create_event(dev, kind == MANUAL, false);
	}
}

#define create_things(t, _env, kinds, _first) do {			\
	struct things *__t = (t);					\
	unsigned int __i;						\
									\
	*__t = (struct things) {					\
		.dev = (_env)->dev, .nb_kinds = (kinds), .first = (_first), \
		.sender = &(_env)->g[S0],				\
	};								\
	for (__i = 0; __i < NTSYNC_MAX_SOURCES; __i++) {		\
		__t->fd[__i] = create_thing(__t->dev, kind_of(__t, __i)); \
		ASSERT_LE(0, __t->fd[__i]);				\
	}								\
} while (0)

static void close_things(struct things *t)
{
	unsigned int i;

	for (i = 0; i < NTSYNC_MAX_SOURCES; i++)
		close(t->fd[i]);
}

static int make_ready(struct things *t, unsigned int i)
{
	struct agent *sender = t->sender;

	switch (kind_of(t, i)) {
	case SEM:
		return nt_release_sem(t->fd[i], 1, NULL);
	case MUTEX:
		return nt_unlock_mutex(t->fd[i], OTHER, NULL);
	case FD:
		return raise_fd(t->fd[i]);
	case CHANNEL:
		sender->p.a.objs[0] = t->fd[i];
		sender->p.send.payload_off++;
		actor_begin(&sender->p.a, do_send);
		return actor_asleep(&sender->p.a) ? 0 : -EBUSY;
	default:
		return set(t->fd[i]);
	}
}

static enum state state_of(struct things *t, unsigned int i)
{
	struct ntsync_mutex_args mutex = { .owner = NT_POISON };
	struct ntsync_event_args event = { .signaled = NT_POISON };
	struct ntsync_sem_args sem = { .count = NT_POISON };
	struct pollfd pfd = { .fd = t->fd[i], .events = POLLIN };
	int ret;

	switch (kind_of(t, i)) {
	case SEM:
		if (nt_ioctl(t->fd[i], NTSYNC_IOC_SEM_READ, &sem) || sem.count > 1)
			return WRONG;
		return sem.count ? READY : IDLE;
	case MUTEX:
		ret = nt_ioctl(t->fd[i], NTSYNC_IOC_MUTEX_READ, &mutex);
		if ((!ret || ret == -EOWNERDEAD) && !mutex.owner && !mutex.count)
			return READY;
		if (ret || mutex.count != 1)
			return WRONG;
		return mutex.owner == OTHER ? IDLE : mutex.owner == OWNER ? OURS : WRONG;
	case FD:
		return poll(&pfd, 1, 0) ? READY : IDLE;
	case CHANNEL:
		return t->sender->p.a.objs[0] == t->fd[i] && !actor_done(&t->sender->p.a) ?
			READY : IDLE;
	default:
		if (nt_ioctl(t->fd[i], NTSYNC_IOC_EVENT_READ, &event) || event.signaled > 1)
			return WRONG;
		return event.signaled ? READY : IDLE;
	}
}

/* What it is like when a wait has reported it. */
static enum state taken(enum kind kind)
{
	return kind == SEM || kind == AUTO ? IDLE : kind == MUTEX ? OURS : READY;
}

/* Idle again, whoever has it. */
static int put_back(struct things *t, unsigned int i)
{
	struct ntsync_channel_recv_args req;
	int fd = t->fd[i], ret = 0;
	__u32 index, owner;

	switch (kind_of(t, i)) {
	case SEM:
		return state_of(t, i) == IDLE ? 0 : nt_try_any(t->dev, 1, &fd, OTHER, 0, &index);
	case MUTEX:
		owner = nt_mutex_owner(fd);
		if (owner == OTHER)
			return 0;
		if (owner)
			ret = nt_unlock_mutex(fd, owner, NULL);
		if (!ret)
			ret = nt_try_any(t->dev, 1, &fd, OTHER, 0, &index);
		return ret == -EOWNERDEAD ? 0 : ret;
	case FD:
		drain(fd);
		return 0;
	case CHANNEL:
		if (state_of(t, i) == IDLE)
			return 0;
		ret = bounded(fd, NTSYNC_IOC_CHANNEL_RECV, &req);
		if (!ret && req.payload_off != t->sender->p.send.payload_off)
			ret = -EPROTO;
		if (!ret)
			ret = ch_reply(fd, req.entry_id);
		return ret ? ret : actor_end(&t->sender->p.a);
	default:
		return nt_event(fd, NTSYNC_IOC_EVENT_RESET, NULL);
	}
}

static void check_states(struct __test_metadata *_metadata, struct things *t, unsigned int nb,
			 const enum state *want)
{
	unsigned int i;

	for (i = 0; i < nb; i++) {
		EXPECT_EQ((int)want[i], (int)state_of(t, i)) {
			TH_LOG("thing %u of %u, of kind %d", i, nb, kind_of(t, i));
		}
	}
}

/*
 * If nobody is in the queue of a thing, what makes it ready shows: of each of them, and of all
 * at the same time, for which somebody may wait. (There is one sender for all channels.)
 */
static void check_unqueued(struct __test_metadata *_metadata, struct things *t, unsigned int nb)
{
	enum state want[NTSYNC_MAX_SOURCES] = { IDLE };
	unsigned int i;

	for (i = 0; i < nb; i++) {
		ASSERT_EQ(0, make_ready(t, i));
		EXPECT_EQ((int)READY, (int)state_of(t, i)) {
			TH_LOG("somebody waits for thing %u of %u, of kind %d", i, nb,
			       kind_of(t, i));
		}
		ASSERT_EQ(0, put_back(t, i));
		EXPECT_EQ((int)IDLE, (int)state_of(t, i));
	}
	if (t->nb_kinds > NB_PLAIN)
		return;
	for (i = 0; i < nb; i++) {
		want[i] = READY;
		ASSERT_EQ(0, make_ready(t, i));
	}
	check_states(_metadata, t, nb, want);
	for (i = 0; i < nb; i++)
		ASSERT_EQ(0, put_back(t, i));
}

/*
 * What every kernel with ntsync has
 */
FIXTURE(faults) {
	struct env e;
};

FIXTURE_SETUP(faults)
{
	begin_device(&self->e);
	begin_faults(&self->e);
}

FIXTURE_TEARDOWN_PARENT(faults)
{
	end_faults(&self->e);
}

/* Calls that make a descriptor: of the device, or of the channel, in *arg. */

static int call_open(void *arg)
{
	int fd = open("/dev/ntsync", O_CLOEXEC | O_RDONLY);

	(void)arg;
	return fd < 0 ? -errno : fd;
}

static int call_create_sem(void *arg)
{
	return nt_create_sem(*(int *)arg, 2, 3);
}

static int call_create_mutex(void *arg)
{
	return nt_create_mutex(*(int *)arg, OTHER, 2);
}

static int call_create_auto(void *arg)
{
	return nt_create_event(*(int *)arg, false, true);
}

static int call_create_manual(void *arg)
{
	return nt_create_event(*(int *)arg, true, false);
}

static int call_create_channel(void *arg)
{
	return ch_create(*(int *)arg, 3);
}

static int call_send_only(void *arg)
{
	return ch_send_only(*(int *)arg);
}

static unsigned int nb_open(void)
{
	unsigned int n = 0;
	int fd;

	for (fd = 0; fd < NB_FDS; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* Is it what it should be? */
static void check_created(struct __test_metadata *_metadata, struct env *e,
			  int (*call)(void *arg), int fd)
{
	if (call == call_open) {
		int sem = nt_create_sem(fd, 1, 1);

		EXPECT_LE(0, sem);
		close(sem);
	} else if (call == call_create_sem) {
		check_sem(fd, 2, 3);
	} else if (call == call_create_mutex) {
		check_mutex(fd, OTHER, 2);
	} else if (call == call_create_auto) {
		check_event(fd, 0, 1);
	} else if (call == call_create_manual) {
		check_event(fd, 1, 0);
	} else if (call == call_create_channel) {
		sends(&e->g[S0], fd);
		serve(_metadata, fd, &e->g[S0]);
	} else {
		/* whatever else is done with it is refused */
		EXPECT_EQ(-EBADF, ch_send_only(fd));
	}
}

/* Then once more where the descriptor needs a larger table, which remains when it fails. */
static void check_create(struct __test_metadata *_metadata, struct env *e,
			 int (*call)(void *arg), int from)
{
	int dups[FIRST_FDTABLE], fd, nb_dups = 0;
	unsigned int before;
	struct faults f;

	before = nb_open();
	for_each_fault(&f) {
		shoot(&f, call, &from);
		if (refused(&f)) {
			EXPECT_EQ(before, nb_open()) {
				TH_LOG("allocation %u", f.n);
			}
			fd = call(&from);
		} else {
			fd = f.ret;
		}
		ASSERT_LE(0, fd) {
			TH_LOG("allocation %u: returned %d", f.n, fd);
		}
		EXPECT_EQ(before + 1, nb_open());
		check_created(_metadata, e, call, fd);
		close(fd);
	}
	check_through(&f);
	/* that of struct file is one of them */
	EXPECT_LT(0U, f.refused);

	/* one place for FAIL_NTH */
	do {
		fd = dup(e->dev);
		ASSERT_LE(0, fd);
		dups[nb_dups++] = fd;
	} while (fd < FIRST_FDTABLE - 2);
	before = nb_open();
	for_each_fault(&f) {
		shoot(&f, call, &from);
		if (!refused(&f)) {
			ASSERT_LE(0, f.ret) {
				TH_LOG("allocation %u", f.n);
			}
			check_created(_metadata, e, call, f.ret);
			close(f.ret);
		}
		EXPECT_EQ(before, nb_open()) {
			TH_LOG("allocation %u", f.n);
		}
	}
	check_through(&f);
	while (nb_dups)
		close(dups[--nb_dups]);
}

TEST_F_TIMEOUT(faults, open, NT_TEST_TIMEOUT)
{
	check_create(_metadata, &self->e, call_open, -1);
}

TEST_F_TIMEOUT(faults, create_sem, NT_TEST_TIMEOUT)
{
	check_create(_metadata, &self->e, call_create_sem, self->e.dev);
}

TEST_F_TIMEOUT(faults, create_mutex, NT_TEST_TIMEOUT)
{
	check_create(_metadata, &self->e, call_create_mutex, self->e.dev);
}

TEST_F_TIMEOUT(faults, create_event, NT_TEST_TIMEOUT)
{
	check_create(_metadata, &self->e, call_create_auto, self->e.dev);
}

TEST_F_TIMEOUT(faults, create_event_manual, NT_TEST_TIMEOUT)
{
	check_create(_metadata, &self->e, call_create_manual, self->e.dev);
}

/*
 * WAIT_ANY and WAIT_ALL
 */

static int call_wait(void *arg)
{
	struct nt_wait *w = arg;

	w->timeout = NT_EXPIRED;
	return nt_wait(w);
}

/* From when it is called: the way there may be long. */
static int call_wait_doze(void *arg)
{
	struct nt_wait *w = arg;

	w->timeout = nt_now(CLOCK_MONOTONIC) + DOZE_NSEC;
	return nt_wait(w);
}

enum situation {
	NOTHING,		/* is ready, */
	DOZE,			/* neither in a while */
	OBJECTS,		/* are ready: the last one, or all of them */
	MISSING,		/* is one of all */
	ALERT,
	RING,
	NB_SITUATIONS
};

static void check_wait(struct __test_metadata *_metadata, struct things *t, unsigned int nb,
		       struct nt_wait w, enum situation what)
{
	bool nothing = what == NOTHING || what == DOZE || what == MISSING;
	enum state want[NTSYNC_MAX_SOURCES];
	struct faults f;
	unsigned int i;

	for_each_fault(&f) {
		for (i = 0; i < nb; i++) {
			want[i] = IDLE;
			if ((what == OBJECTS && (w.all || i == nb - 1)) ||
			    (what == MISSING && i != f.n % nb)) {
				want[i] = READY;
				ASSERT_EQ(0, make_ready(t, i));
			}
		}
		if (what == ALERT) {
			ASSERT_EQ(0, set(w.alert));
		}
		if (what == RING) {
			ASSERT_EQ(0, raise_fd(w.uring_fd));
		}

		w.objs = t->fd;
		w.count = nb;
		shoot(&f, what == DOZE ? call_wait_doze : call_wait, &w);

		if (refused(&f)) {
			EXPECT_EQ(NT_POISON, w.index);
		} else {
			check_ret(nothing ? -ETIMEDOUT : 0, &f);
			if (!nothing) {
				EXPECT_EQ(what == ALERT ? nb :
					  what == RING ? NTSYNC_INDEX_URING_READY :
					  w.all ? 0 : nb - 1, w.index);
			}
			for (i = 0; i < nb && what == OBJECTS; i++)
				if (want[i] == READY)
					want[i] = taken(kind_of(t, i));
		}
		check_states(_metadata, t, nb, want);
		if (w.alert)
			check_event(w.alert, 0, what == ALERT && refused(&f));
		if (w.uring_fd) {
			EXPECT_EQ(what == RING ? 1ULL : 0ULL, drain(w.uring_fd));
		}

		for (i = 0; i < nb; i++)
			ASSERT_EQ(0, put_back(t, i));
		if (nothing || refused(&f)) {
			if (w.alert) {
				EXPECT_EQ(0, nt_event(w.alert, NTSYNC_IOC_EVENT_RESET, NULL));
			}
			check_unqueued(_metadata, t, nb);
		}
		if (w.alert) {
			EXPECT_EQ(0, set(w.alert));
			check_event(w.alert, 0, 1);
			EXPECT_EQ(0, nt_event(w.alert, NTSYNC_IOC_EVENT_RESET, NULL));
		}
	}
	check_through(&f);
}

/* Around the number that may be on the stack, and as many as there can be. */
static const unsigned int sizes[] = { 1, 2, 8, 9, NTSYNC_MAX_WAIT_COUNT };

/* Each kind is the last one of them. For the many, which take long, a mutex or an event only. */
static void check_waits(struct __test_metadata *_metadata, struct env *e, bool all,
			bool alert, bool ring)
{
	struct nt_wait w = { .dev = e->dev, .all = all, .owner = OWNER };
	unsigned int first, i, what;
	struct things t;

	if (alert) {
		w.alert = nt_create_event(e->dev, false, false);
		ASSERT_LT(0, w.alert);
	}
	if (ring) {
		w.uring_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
		ASSERT_LT(0, (int)w.uring_fd);
	}
	for (first = 0; first < NB_OBJECTS; first++) {
		create_things(&t, e, NB_OBJECTS, first);
		for (i = 0; i < ARRAY_LEN(sizes); i++) {
			if (sizes[i] == NTSYNC_MAX_WAIT_COUNT &&
			    (first % 2 || (!first && (alert || ring))))
				continue;
			for (what = 0; what < NB_SITUATIONS; what++) {
				if ((what == MISSING && (!all || sizes[i] == 1)) ||
				    (what == ALERT && !alert) || (what == RING && !ring))
					continue;
				check_wait(_metadata, &t, sizes[i], w, what);
			}
		}
		close_things(&t);
	}
}

TEST_F_TIMEOUT(faults, wait_any, NT_TEST_TIMEOUT)
{
	check_waits(_metadata, &self->e, false, false, false);
}

TEST_F_TIMEOUT(faults, wait_all, NT_TEST_TIMEOUT)
{
	check_waits(_metadata, &self->e, true, false, false);
}

TEST_F_TIMEOUT(faults, wait_any_alert, NT_TEST_TIMEOUT)
{
	check_waits(_metadata, &self->e, false, true, false);
}

TEST_F_TIMEOUT(faults, wait_all_alert, NT_TEST_TIMEOUT)
{
	check_waits(_metadata, &self->e, true, true, false);
}

/* A real-time waiter that was refused is not in front of a normal one. */
TEST_F_TIMEOUT(faults, wait_another_gets_it, NT_TEST_TIMEOUT)
{
	struct agent *w = &self->e.g[W];
	unsigned int first, i;
	struct things t;
	struct faults f;

	starts(&self->e, w, 0);
	for (first = 0; first < NB_OBJECTS; first++) {
		create_things(&t, &self->e, NB_OBJECTS, first);
		for (i = 0; i < 2 * ARRAY_LEN(sizes); i++) {
			unsigned int nb = sizes[i / 2], last = nb - 1;

			for_each_fault(&f) {
				struct nt_wait wait = {
					.dev = self->e.dev, .all = i % 2, .objs = t.fd,
					.count = nb, .owner = OWNER,
				};

				waits_for(&w->p.a, t.fd[last]);
				shoot(&f, call_wait_doze, &wait);
				if (!refused(&f))
					check_ret(-ETIMEDOUT, &f);
				EXPECT_TRUE(actor_asleep(&w->p.a));
				ASSERT_EQ(0, make_ready(&t, last));
				ASSERT_EQ(0, actor_end(&w->p.a)) {
					TH_LOG("kind %d, %u objects", kind_of(&t, last), nb);
				}
				ASSERT_EQ(0, put_back(&t, last));
			}
			check_through(&f);
		}
		close_things(&t);
	}
}

/*
 * Calls that have nothing to allocate
 */

static int call_release(void *arg)
{
	return nt_release_sem(*(int *)arg, 1, NULL);
}

static int call_unlock(void *arg)
{
	return nt_unlock_mutex(*(int *)arg, OTHER, NULL);
}

static int call_kill(void *arg)
{
	return nt_kill_mutex(*(int *)arg, OTHER);
}

static int call_set(void *arg)
{
	return set(*(int *)arg);
}

static int call_reset(void *arg)
{
	return nt_event(*(int *)arg, NTSYNC_IOC_EVENT_RESET, NULL);
}

static int call_pulse(void *arg)
{
	return nt_event(*(int *)arg, NTSYNC_IOC_EVENT_PULSE, NULL);
}

#define SET_PRIO	40

static int call_set_pi(void *arg)
{
	struct ntsync_event_set_pi_args args = { .policy = SCHED_FIFO, .prio = SET_PRIO };

	return nt_ioctl(*(int *)arg, NTSYNC_IOC_EVENT_SET_PI, &args);
}

enum waiter { NOBODY, ANY, ALL, AGGREGATE };

/* What makes an object ready, and wakes who waits for it. */
static void check_signal(struct __test_metadata *_metadata, struct env *e, enum kind kind,
			 int (*call)(void *arg), enum waiter waiter)
{
	struct things t = { .dev = e->dev, .nb_kinds = NB_OBJECTS, .first = kind };
	int always = nt_create_event(e->dev, true, true);
	bool pulse = call == call_pulse;
	struct agent *w = &e->g[W];
	struct faults f;

	ASSERT_LE(0, always);
	t.fd[0] = create_thing(e->dev, kind);
	ASSERT_LE(0, t.fd[0]);
	for_each_try(&f) {
		if (waiter == AGGREGATE) {
			w->src[0] = obj(e->never);
			w->src[1] = obj(t.fd[0]);
			w->nb = 2;
			actor_begin(&w->p.a, do_agg);
			ASSERT_TRUE(actor_asleep(&w->p.a));
		} else if (waiter) {
			w->p.a.objs[0] = t.fd[0];
			w->p.a.objs[1] = always;
			w->p.a.nb_objs = waiter == ALL ? 2 : 1;
			w->p.a.all = waiter == ALL;
			actor_begin(&w->p.a, do_wait);
			ASSERT_TRUE(actor_asleep(&w->p.a));
		}
		shoot(&f, call, &t.fd[0]);
		check_ret(0, &f);
		if (waiter) {
			ASSERT_EQ(call == call_kill ? -EOWNERDEAD : 0, actor_end(&w->p.a));
			if (call == call_set_pi) {
				EXPECT_EQ(FIFO(SET_PRIO), prio_of(w));
				/* until it waits again */
				w->p.a.timeout = NT_EXPIRED;
				w->p.a.objs[0] = e->never;
				w->p.a.nb_objs = 1;
				EXPECT_EQ(-ETIMEDOUT, actor_do(&w->p.a, do_wait));
				EXPECT_EQ(NORMAL, prio_of(w));
				w->p.a.timeout = 0;
			}
		} else {
			EXPECT_EQ((int)(pulse ? IDLE : READY), (int)state_of(&t, 0));
		}
		ASSERT_EQ(0, put_back(&t, 0));
	}
	check_no_allocation(&f);
	close(t.fd[0]);
	close(always);
}

static const struct {
	enum kind kind;
	int (*call)(void *arg);
} signals[] = {
	{ SEM, call_release }, { MUTEX, call_unlock }, { MUTEX, call_kill }, { AUTO, call_set },
	{ MANUAL, call_set }, { AUTO, call_pulse }, { MANUAL, call_pulse },
};

static void check_signals(struct __test_metadata *_metadata, struct env *e, enum waiter waiter)
{
	unsigned int i;

	starts(e, &e->g[W], 0);
	for (i = 0; i < ARRAY_LEN(signals); i++)
		check_signal(_metadata, e, signals[i].kind, signals[i].call, waiter);
}

TEST_F_TIMEOUT(faults, signal_nobody, NT_TEST_TIMEOUT)
{
	check_signals(_metadata, &self->e, NOBODY);
}

TEST_F_TIMEOUT(faults, signal_any, NT_TEST_TIMEOUT)
{
	check_signals(_metadata, &self->e, ANY);
}

TEST_F_TIMEOUT(faults, signal_all, NT_TEST_TIMEOUT)
{
	check_signals(_metadata, &self->e, ALL);
}

TEST_F_TIMEOUT(faults, reset, NT_TEST_TIMEOUT)
{
	int event = nt_create_event(self->e.dev, true, false);
	struct faults f;

	ASSERT_LE(0, event);
	for_each_try(&f) {
		ASSERT_EQ(0, set(event));
		shoot(&f, call_reset, &event);
		check_ret(0, &f);
		check_event(event, 1, 0);
	}
	check_no_allocation(&f);
}

/*
 * Priority inheritance
 */
FIXTURE(faults_pi) {
	struct env e;
};

FIXTURE_SETUP(faults_pi)
{
	begin_device(&self->e);
	need_pi(&self->e);
	begin_faults(&self->e);
}

FIXTURE_TEARDOWN_PARENT(faults_pi)
{
	end_faults(&self->e);
}

/* Who was refused does not wait, so it lends nothing. */
TEST_F_TIMEOUT(faults_pi, owner, NT_TEST_TIMEOUT)
{
	int objs[NTSYNC_MAX_WAIT_COUNT], mutex = nt_create_mutex(self->e.dev, 0, 0);
	struct agent *o = &self->e.g[O];
	unsigned int i, k;
	struct faults f;

	ASSERT_LE(0, mutex);
	starts(&self->e, o, 0);
	acquires(&o->p.a, mutex);
	for (k = 0; k < NTSYNC_MAX_WAIT_COUNT; k++) {
		objs[k] = nt_create_event(self->e.dev, true, false);
		ASSERT_LE(0, objs[k]);
	}
	for (i = 0; i < 4 * ARRAY_LEN(sizes); i++) {
		unsigned int nb = sizes[i / 4];
		int last = objs[nb - 1];

		objs[nb - 1] = mutex;
		for_each_fault(&f) {
			struct nt_wait wait = {
				.dev = self->e.dev, .all = i & 1, .objs = objs, .count = nb,
				.owner = OWNER,
			};

			shoot(&f, i & 2 ? call_wait_doze : call_wait, &wait);
			EXPECT_EQ(NORMAL, prio_of(o)) {
				TH_LOG("%u objects, returned %d", nb, f.ret);
			}
			if (!refused(&f))
				check_ret(-ETIMEDOUT, &f);
		}
		check_through(&f);
		objs[nb - 1] = last;
	}
	check_mutex(mutex, o->p.a.id, 1);
}

struct task_call {
	int mutex;
	__u32 tid;
};

static int call_set_task(void *arg)
{
	struct task_call *c = arg;

	return nt_set_task(c->mutex, c->tid, 0);
}

/* MUTEX_SET_TASK, and the unlock of an owner that inherits. */
TEST_F_TIMEOUT(faults_pi, set_task, NT_TEST_TIMEOUT)
{
	struct agent *o = &self->e.g[O], *w = &self->e.g[W], *r = &self->e.g[R];
	struct faults unlock = { .n = 1 }, f;
	int mutex;

	mutex = nt_create_mutex(self->e.dev, 0, 0);
	ASSERT_LE(0, mutex);
	starts(&self->e, o, 0);
	starts(&self->e, r, 0);
	starts(&self->e, w, 50);
	for_each_try(&f) {
		struct task_call c = { .mutex = mutex, .tid = tid_of(r) };

		acquires(&o->p.a, mutex);
		waits_for(&w->p.a, mutex);
		EXPECT_EQ(FIFO(50), prio_of(o));
		shoot(&f, call_set_task, &c);
		check_ret(0, &f);
		EXPECT_EQ(NORMAL, prio_of(o));
		EXPECT_EQ(FIFO(50), prio_of(r));

		EXPECT_EQ(0, nt_set_task(mutex, tid_of(o), 0));
		EXPECT_EQ(FIFO(50), prio_of(o));
		EXPECT_EQ(NORMAL, prio_of(r));
		shoots(o, &unlock, do_unlock);
		check_ret(0, &unlock);
		EXPECT_EQ(NORMAL, prio_of(o));
		ASSERT_EQ(0, actor_end(&w->p.a));
		releases(&w->p.a, mutex);
	}
	check_no_allocation(&f);
	check_no_allocation(&unlock);
}

/*
 * EVENT_SET_PI
 */
FIXTURE(faults_set_pi) {
	struct env e;
};

FIXTURE_SETUP(faults_set_pi)
{
	begin_device(&self->e);
	need_pi(&self->e);
	if (nt_ioctl(self->e.never, NTSYNC_IOC_EVENT_SET_PI, NULL) == -ENOTTY)
		SKIP(return, "no EVENT_SET_PI in this kernel");
	begin_faults(&self->e);
}

FIXTURE_TEARDOWN_PARENT(faults_set_pi)
{
	end_faults(&self->e);
}

TEST_F_TIMEOUT(faults_set_pi, set, NT_TEST_TIMEOUT)
{
	unsigned int waiter;

	starts(&self->e, &self->e.g[W], 0);
	for (waiter = NOBODY; waiter <= ALL; waiter++) {
		check_signal(_metadata, &self->e, AUTO, call_set_pi, waiter);
		check_signal(_metadata, &self->e, MANUAL, call_set_pi, waiter);
	}
}

static int do_try(struct actor *a)
{
	a->timeout = NT_EXPIRED;
	return do_wait(a);
}

/* Who was refused has not consumed it: it comes with the priority later. */
TEST_F_TIMEOUT(faults_set_pi, kept, NT_TEST_TIMEOUT)
{
	int event = nt_create_event(self->e.dev, false, false);
	struct agent *w = &self->e.g[W];
	unsigned int i, k;
	struct faults f;

	ASSERT_LE(0, event);
	starts(&self->e, w, 0);
	for (i = 0; i < 2 * ARRAY_LEN(sizes); i++) {
		unsigned int nb = sizes[i / 2];
		int extra[NTSYNC_MAX_WAIT_COUNT];

		for (k = 0; k < nb; k++) {
			/* those that do not matter: never signaled for any, always for all */
			extra[k] = nt_create_event(self->e.dev, true, i & 1);
			ASSERT_LE(0, extra[k]);
			w->p.a.objs[k] = extra[k];
		}
		w->p.a.objs[nb - 1] = event;
		w->p.a.nb_objs = nb;
		w->p.a.all = i & 1;
		for_each_fault(&f) {
			ASSERT_EQ(0, call_set_pi(&event));
			shoots(w, &f, do_try);
			if (refused(&f)) {
				EXPECT_EQ(NORMAL, prio_of(w));
				check_event(event, 0, 1);
				EXPECT_EQ(0, actor_do(&w->p.a, do_try));
			} else {
				check_ret(0, &f);
			}
			EXPECT_EQ(FIFO(SET_PRIO), prio_of(w));
			check_event(event, 0, 0);

			/* until it waits again */
			w->p.a.objs[nb - 1] = self->e.never;
			EXPECT_EQ(-ETIMEDOUT, actor_do(&w->p.a, do_try));
			EXPECT_EQ(NORMAL, prio_of(w));
			w->p.a.objs[nb - 1] = event;
		}
		check_through(&f);
		for (k = 0; k < nb; k++)
			close(extra[k]);
	}
}

/*
 * uring_fd
 */
FIXTURE(faults_uring) {
	struct env e;
};

FIXTURE_SETUP(faults_uring)
{
	begin_device(&self->e);
	need_uring(&self->e);
	begin_faults(&self->e);
}

FIXTURE_TEARDOWN_PARENT(faults_uring)
{
	end_faults(&self->e);
}

TEST_F_TIMEOUT(faults_uring, wait_any, NT_TEST_TIMEOUT)
{
	check_waits(_metadata, &self->e, false, false, true);
}

TEST_F_TIMEOUT(faults_uring, wait_all, NT_TEST_TIMEOUT)
{
	check_waits(_metadata, &self->e, true, false, true);
}

TEST_F_TIMEOUT(faults_uring, wait_any_alert, NT_TEST_TIMEOUT)
{
	check_waits(_metadata, &self->e, false, true, true);
}

TEST_F_TIMEOUT(faults_uring, wait_all_alert, NT_TEST_TIMEOUT)
{
	check_waits(_metadata, &self->e, true, true, true);
}

/*
 * Channels
 */
FIXTURE(faults_channel) {
	struct env e;
};

FIXTURE_SETUP(faults_channel)
{
	begin_device(&self->e);
	need_all_of_channels(&self->e);
	begin_faults(&self->e);
}

FIXTURE_TEARDOWN_PARENT(faults_channel)
{
	end_faults(&self->e);
}

#define SEND_PRIO	60	/* of the first sender, */
#define MORE_PRIO	70	/* and of the second */

TEST_F_TIMEOUT(faults_channel, create, NT_TEST_TIMEOUT)
{
	starts(&self->e, &self->e.g[S0], 0);
	check_create(_metadata, &self->e, call_create_channel, self->e.dev);
}

enum receiver { NO_RECEIVER, ASLEEP, AWAKE };

/*
 * A send that was refused is not pending, takes no place, wakes nobody and lends nothing: to a
 * receiver that sleeps, or does something else.
 */
static void check_send(struct __test_metadata *_metadata, struct env *e, enum receiver receiver,
		       bool only)
{
	struct agent *s = &e->g[S0], *r = &e->g[R], *t = &e->g[T];
	struct faults f;

	starts(e, s, SEND_PRIO);
	starts(e, r, 0);
	starts(e, t, 0);
	for_each_fault(&f) {
		int ch = ch_create(e->dev, 1), fd = ch;
		bool asleep;

		ASSERT_LE(0, ch);
		if (only) {
			fd = ch_send_only(ch);
			ASSERT_LE(0, fd);
		}
		r->p.a.objs[0] = ch;
		if (receiver == AWAKE) {
			/* by having received */
			sends(t, ch);
			actor_begin(&r->p.a, do_recv);
			gets(r, t);
			replies(r, ch, t);
		} else if (receiver == ASLEEP) {
			actor_begin(&r->p.a, do_recv);
			ASSERT_TRUE(actor_asleep(&r->p.a));
		}

		s->p.a.objs[0] = fd;
		s->p.send.payload_off++;
		begin_shot(s, &f, do_send);
		asleep = actor_asleep(&s->p.a);
		if (!asleep) {
			ASSERT_NE(-EBUSY, actor_end(&s->p.a));
			ASSERT_TRUE(refused(&f)) {
				TH_LOG("allocation %u: returned %d", f.n, f.ret);
			}
			if (receiver == ASLEEP) {
				EXPECT_TRUE(actor_asleep(&r->p.a));
				EXPECT_EQ(NORMAL, actor_prio(&r->p.a));
			} else {
				EXPECT_EQ(NORMAL, prio_of(r));
			}
			EXPECT_EQ(FIFO(SEND_PRIO), prio_of(s));
			EXPECT_TRUE(is_empty(ch));
			sends(s, fd);
		}

		if (receiver == ASLEEP) {
			gets(r, s);
			EXPECT_EQ(FIFO(SEND_PRIO), prio_of(r));
			replies(r, ch, s);
		} else {
			EXPECT_EQ(receiver == AWAKE ? FIFO(SEND_PRIO) : NORMAL, prio_of(r));
			serve(_metadata, ch, s);
		}
		if (asleep)
			check_ret(0, &f);
		EXPECT_EQ(NORMAL, prio_of(r));
		EXPECT_TRUE(is_empty(ch));
		if (only)
			close(fd);
		close(ch);
	}
	check_through(&f);
}

TEST_F_TIMEOUT(faults_channel, send, NT_TEST_TIMEOUT)
{
	check_send(_metadata, &self->e, NO_RECEIVER, false);
}

TEST_F_TIMEOUT(faults_channel, send_receiver_asleep, NT_TEST_TIMEOUT)
{
	check_send(_metadata, &self->e, ASLEEP, false);
}

TEST_F_TIMEOUT(faults_channel, send_receiver_awake, NT_TEST_TIMEOUT)
{
	check_send(_metadata, &self->e, AWAKE, false);
}

/*
 * A request is pending. If it cannot be received it can be later, once. Somebody who was no
 * receiver is none after a failure, and one who was one still is.
 */
static void check_recv(struct __test_metadata *_metadata, struct env *e,
		       int (*op)(struct actor *a), bool again)
{
	struct agent *s = &e->g[S0], *r = &e->g[R];
	struct faults f;
	int ch = -1;

	starts(e, s, SEND_PRIO);
	if (again) {
		ch = ch_create(e->dev, 1);
		ASSERT_LE(0, ch);
		starts(e, r, 0);
		sends(s, ch);
		r->p.a.objs[0] = ch;
		actor_begin(&r->p.a, op);
		gets(r, s);
		replies(r, ch, s);
	}
	for_each_fault(&f) {
		int before = again ? FIFO(SEND_PRIO) : NORMAL;

		if (!again) {
			ch = ch_create(e->dev, 1);
			ASSERT_LE(0, ch);
			starts(e, r, 0);
		}
		sends(s, ch);
		EXPECT_EQ(before, prio_of(r));
		r->p.a.objs[0] = ch;
		shoots(r, &f, op);
		if (refused(&f)) {
			EXPECT_EQ(before, prio_of(r)) {
				TH_LOG("allocation %u", f.n);
			}
			EXPECT_FALSE(actor_done(&s->p.a));
			actor_begin(&r->p.a, op);
		} else {
			check_ret(0, &f);
		}
		gets(r, s);
		EXPECT_EQ(FIFO(SEND_PRIO), prio_of(r));
		EXPECT_TRUE(is_empty(ch));
		replies(r, ch, s);
		EXPECT_EQ(NORMAL, prio_of(r));
		if (!again) {
			actor_stop(&r->p.a);
			close(ch);
		}
	}
	check_through(&f);
}

TEST_F_TIMEOUT(faults_channel, recv, NT_TEST_TIMEOUT)
{
	check_recv(_metadata, &self->e, do_recv_plain, false);
}

TEST_F_TIMEOUT(faults_channel, recv2, NT_TEST_TIMEOUT)
{
	check_recv(_metadata, &self->e, do_recv, false);
}

TEST_F_TIMEOUT(faults_channel, try_recv2, NT_TEST_TIMEOUT)
{
	check_recv(_metadata, &self->e, do_try_recv, false);
}

TEST_F_TIMEOUT(faults_channel, recv_again, NT_TEST_TIMEOUT)
{
	check_recv(_metadata, &self->e, do_recv_plain, true);
}

TEST_F_TIMEOUT(faults_channel, recv2_again, NT_TEST_TIMEOUT)
{
	check_recv(_metadata, &self->e, do_recv, true);
}

TEST_F_TIMEOUT(faults_channel, try_recv2_again, NT_TEST_TIMEOUT)
{
	check_recv(_metadata, &self->e, do_try_recv, true);
}

/* Nothing is pending: it sleeps, or is no receiver of what is sent later. */
static void check_recv_empty(struct __test_metadata *_metadata, struct env *e,
			     int (*op)(struct actor *a))
{
	struct agent *s = &e->g[S0], *r = &e->g[R];
	struct faults f;

	starts(e, s, SEND_PRIO);
	for_each_fault(&f) {
		int ch = ch_create(e->dev, 1);
		bool asleep;

		ASSERT_LE(0, ch);
		starts(e, r, 0);
		r->p.a.objs[0] = ch;
		begin_shot(r, &f, op);
		asleep = actor_asleep(&r->p.a);
		if (!asleep) {
			ASSERT_NE(-EBUSY, actor_end(&r->p.a));
			ASSERT_TRUE(refused(&f)) {
				TH_LOG("allocation %u: returned %d", f.n, f.ret);
			}
		}
		sends(s, ch);
		if (!asleep) {
			EXPECT_EQ(NORMAL, prio_of(r)) {
				TH_LOG("allocation %u", f.n);
			}
			actor_begin(&r->p.a, op);
		}
		gets(r, s);
		if (asleep)
			check_ret(0, &f);
		EXPECT_EQ(FIFO(SEND_PRIO), prio_of(r));
		replies(r, ch, s);
		EXPECT_EQ(NORMAL, prio_of(r));
		actor_stop(&r->p.a);
		close(ch);
	}
	check_through(&f);
}

TEST_F_TIMEOUT(faults_channel, recv_empty, NT_TEST_TIMEOUT)
{
	check_recv_empty(_metadata, &self->e, do_recv_plain);
}

TEST_F_TIMEOUT(faults_channel, recv2_empty, NT_TEST_TIMEOUT)
{
	check_recv_empty(_metadata, &self->e, do_recv);
}

/*
 * A process that could not receive is none that has received. So the receiving end is closed
 * when the process that has made the channel closes it.
 */

struct process {
	atomic_uint step;	/* 1: has tried to receive; 2: may go on; 3: is done */
	struct faults f;
	struct ntsync_channel_recv2_args req;
	int ch;
	int locked;
	int ret;		/* of what it has done then */
};

static int call_recv2(void *arg)
{
	struct process *p = arg;

	return ch_recv2(p->ch, &p->req);
}

static void process(struct process *p)
{
	struct ntsync_channel_send_args send = { 0 };
	struct ntsync_channel_recv2_args req;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	set_sched(0, SCHED_OTHER, 0);
	p->locked = lock_memory();
	alarm(NT_BOUND_NSEC / NT_NSEC_PER_SEC);
	shoot(&p->f, call_recv2, p);
	alarm(0);
	atomic_store(&p->step, 1);
	poll_until(atomic_load(&p->step) == 2);
	if (p->f.ret) {
		p->ret = bounded(p->ch, NTSYNC_IOC_CHANNEL_SEND_PI, &send);
	} else {
		p->ret = ch_reply(p->ch, p->req.entry_id);
		if (!p->ret)
			p->ret = ch_try_recv2(p->ch, &req);
	}
	atomic_store(&p->step, 3);
	_exit(0);
}

TEST_F_TIMEOUT(faults_channel, process, NT_TEST_TIMEOUT)
{
	struct agent *s = &self->e.g[S0];
	struct process *p;
	struct faults f;
	pid_t pid;

	p = mmap(NULL, sizeof(*p), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE((void *)p != MAP_FAILED);
	starts(&self->e, s, 0);
	for_each_fault(&f) {
		memset(p, 0, sizeof(*p));
		p->f = f;
		p->ch = ch_create(self->e.dev, 2);
		ASSERT_LE(0, p->ch);
		sends(s, p->ch);
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid)
			process(p);
		ASSERT_TRUE(poll_until(atomic_load(&p->step) == 1));
		ASSERT_EQ(0, p->locked);
		f = p->f;
		close(p->ch);
		if (refused(&f)) {
			ASSERT_EQ(-EPIPE, actor_end(&s->p.a));
		} else {
			check_ret(0, &f);
		}
		atomic_store(&p->step, 2);
		ASSERT_TRUE(poll_until(atomic_load(&p->step) == 3));
		ASSERT_TRUE(poll_until(waitpid(pid, NULL, WNOHANG) == pid));
		if (refused(&f)) {
			EXPECT_EQ(-EPIPE, p->ret);
		} else {
			/* it is one, so it is not closed */
			EXPECT_EQ(-EAGAIN, p->ret);
			ASSERT_EQ(0, actor_end(&s->p.a));
		}
	}
	check_through(&f);
}

TEST_F_TIMEOUT(faults_channel, reply, NT_TEST_TIMEOUT)
{
	struct agent *s = &self->e.g[S0], *r = &self->e.g[R];
	int ch = ch_create(self->e.dev, 1);
	struct faults f;

	ASSERT_LE(0, ch);
	starts(&self->e, s, SEND_PRIO);
	starts(&self->e, r, 0);
	for_each_try(&f) {
		sends(s, ch);
		r->p.a.objs[0] = ch;
		actor_begin(&r->p.a, do_recv);
		gets(r, s);
		EXPECT_EQ(FIFO(SEND_PRIO), prio_of(r));
		r->p.reply = r->p.req.entry_id;
		shoots(r, &f, do_reply);
		check_ret(0, &f);
		EXPECT_EQ(NORMAL, prio_of(r));
		ASSERT_EQ(0, actor_end(&s->p.a));
	}
	check_no_allocation(&f);
}

/* Tokens */

struct registration {
	int ch;
	__u32 tid;
	__u64 token;
};

static int call_register(void *arg)
{
	struct registration *reg = arg;

	return ch_register(reg->ch, reg->tid, reg->token);
}

static int call_deregister(void *arg)
{
	struct registration *reg = arg;

	return ch_deregister(reg->ch, reg->tid);
}

static __u64 token_of(struct __test_metadata *_metadata, int ch, struct agent *g)
{
	sends(g, ch);
	return serve(_metadata, ch, g);
}

/* In a channel that has no others, and in one that has. */
TEST_F_TIMEOUT(faults_channel, register_thread, NT_TEST_TIMEOUT)
{
	struct agent *s = &self->e.g[S0];
	unsigned int others, i;
	struct faults f;

	starts(&self->e, s, 0);
	for (others = 0; others <= 100; others += 50) {
		for_each_fault(&f) {
			struct registration reg = {
				.ch = ch_create(self->e.dev, 1), .tid = tid_of(s), .token = 5,
			};

			ASSERT_LE(0, reg.ch);
			for (i = 1; i <= others; i++)
				ASSERT_EQ(0, ch_register(reg.ch, reg.tid + i, 6));
			shoot(&f, call_register, &reg);
			if (refused(&f)) {
				EXPECT_EQ(0ULL, token_of(_metadata, reg.ch, s)) {
					TH_LOG("allocation %u", f.n);
				}
				EXPECT_EQ(0, call_register(&reg));
			} else {
				check_ret(0, &f);
			}
			EXPECT_EQ(5ULL, token_of(_metadata, reg.ch, s));
			close(reg.ch);
		}
		check_through(&f);
	}
}

TEST_F_TIMEOUT(faults_channel, replace_token, NT_TEST_TIMEOUT)
{
	struct agent *s = &self->e.g[S0];
	struct faults f;

	starts(&self->e, s, 0);
	for_each_fault(&f) {
		struct registration reg = {
			.ch = ch_create(self->e.dev, 1), .tid = tid_of(s), .token = 8,
		};

		ASSERT_LE(0, reg.ch);
		ASSERT_EQ(0, ch_register(reg.ch, reg.tid, 7));
		shoot(&f, call_register, &reg);
		if (refused(&f)) {
			EXPECT_EQ(7ULL, token_of(_metadata, reg.ch, s)) {
				TH_LOG("allocation %u", f.n);
			}
			EXPECT_EQ(0, call_register(&reg));
		} else {
			check_ret(0, &f);
		}
		EXPECT_EQ(8ULL, token_of(_metadata, reg.ch, s));
		close(reg.ch);
	}
	check_through(&f);
}

TEST_F_TIMEOUT(faults_channel, deregister_thread, NT_TEST_TIMEOUT)
{
	struct registration reg = { .ch = ch_create(self->e.dev, 1), .token = 9 };
	struct faults f, idle = { .n = 1 };
	struct agent *s = &self->e.g[S0];

	ASSERT_LE(0, reg.ch);
	starts(&self->e, s, 0);
	reg.tid = tid_of(s);
	for_each_try(&f) {
		ASSERT_EQ(0, call_register(&reg));
		EXPECT_EQ(9ULL, token_of(_metadata, reg.ch, s));
		shoot(&f, call_deregister, &reg);
		check_ret(0, &f);
		EXPECT_EQ(0ULL, token_of(_metadata, reg.ch, s));
		/* nothing to take back */
		shoot(&idle, call_deregister, &reg);
		check_ret(0, &idle);
	}
	check_no_allocation(&f);
	check_no_allocation(&idle);
}

/* No threads have these TIDs: pid_max is less, or no guest gets that far. */
#define NO_TID	1000000

/* Who could not be registered does not count against the limit. */
TEST_F_TIMEOUT(faults_channel, register_limit, NT_TEST_TIMEOUT)
{
	struct registration reg = { .ch = ch_create(self->e.dev, 1), .token = 1 };
	struct agent *s = &self->e.g[S0];
	unsigned int n = 0, i;
	struct faults f;

	ASSERT_LE(0, reg.ch);
	starts(&self->e, s, 0);
	while (n < NTSYNC_MAX_CHANNEL_THREADS - 1 && !ch_register(reg.ch, NO_TID + n, n))
		n++;
	ASSERT_EQ(NTSYNC_MAX_CHANNEL_THREADS - 1U, n);

	/* one place */
	reg.tid = tid_of(s);
	for_each_fault(&f) {
		for (i = 0; i < 4; i++) {
			shoot(&f, call_register, &reg);
			if (!refused(&f)) {
				check_ret(0, &f);
				break;
			}
			EXPECT_EQ(0ULL, token_of(_metadata, reg.ch, s));
		}
		EXPECT_EQ(0, call_register(&reg));
		EXPECT_EQ(-ENOSPC, ch_register(reg.ch, NO_TID + n, 1));
		EXPECT_EQ(1ULL, token_of(_metadata, reg.ch, s));
		EXPECT_EQ(0, call_deregister(&reg));
	}
	check_through(&f);

	/* and none */
	EXPECT_EQ(0, call_register(&reg));
	reg.tid = NO_TID + n;
	for_each_fault(&f) {
		shoot(&f, call_register, &reg);
		if (!refused(&f))
			check_ret(-ENOSPC, &f);
	}
	check_through(&f);
	EXPECT_EQ(0, ch_deregister(reg.ch, NO_TID));
	EXPECT_EQ(0, call_register(&reg));
	EXPECT_EQ(-ENOSPC, ch_register(reg.ch, NO_TID, 1));
}

FIXTURE(faults_send_only) {
	struct env e;
};

FIXTURE_SETUP(faults_send_only)
{
	begin_device(&self->e);
	need_all_of_channels(&self->e);
	need_ioctl(self->e.dev, NTSYNC_IOC_CHANNEL_SEND_ONLY);
	begin_faults(&self->e);
}

FIXTURE_TEARDOWN_PARENT(faults_send_only)
{
	end_faults(&self->e);
}

TEST_F_TIMEOUT(faults_send_only, create, NT_TEST_TIMEOUT)
{
	struct agent *s = &self->e.g[S0];
	int ch = ch_create(self->e.dev, 1);

	ASSERT_LE(0, ch);
	starts(&self->e, s, 0);
	check_create(_metadata, &self->e, call_send_only, ch);
	sends(s, ch);
	serve(_metadata, ch, s);
}

TEST_F_TIMEOUT(faults_send_only, send, NT_TEST_TIMEOUT)
{
	check_send(_metadata, &self->e, NO_RECEIVER, true);
}

/*
 * AGGREGATE_WAIT
 */
FIXTURE(faults_aggregate) {
	struct env e;
};

FIXTURE_SETUP(faults_aggregate)
{
	begin_device(&self->e);
	need_pi(&self->e);
	need_channels(self->e.dev);
	need_ioctl(self->e.dev, NTSYNC_IOC_CHANNEL_RECV2);
	need_aggregate(&self->e);
	begin_faults(&self->e);
}

FIXTURE_TEARDOWN_PARENT(faults_aggregate)
{
	end_faults(&self->e);
}

static int call_look(void *arg)
{
	return agg_wait(arg, NT_EXPIRED);
}

static int call_doze(void *arg)
{
	return agg_wait(arg, nt_now(CLOCK_MONOTONIC) + DOZE_NSEC);
}

static void arrange(struct agent *g, struct things *t, unsigned int nb)
{
	unsigned int i;

	g->nb = nb;
	for (i = 0; i < nb; i++)
		g->src[i] = kind_of(t, i) == FD ? in(t->fd[i]) : obj(t->fd[i]);
}

/* The last one is ready, or none. */
static void shoot_aggregate(struct __test_metadata *_metadata, struct agent *g, struct things *t,
			    unsigned int nb, enum situation what, struct faults *f)
{
	enum state want[NTSYNC_MAX_SOURCES];
	enum kind kind = kind_of(t, nb - 1);
	unsigned int i;

	for (i = 0; i < nb; i++)
		want[i] = IDLE;
	if (what == OBJECTS) {
		ASSERT_EQ(0, make_ready(t, nb - 1));
		want[nb - 1] = READY;
	}
	arrange(g, t, nb);
	shoot(f, what == DOZE ? call_doze : call_look, g);
	if (refused(f)) {
		EXPECT_EQ(NT_POISON, g->index);
		EXPECT_EQ(NT_POISON, g->events);
	} else if (what == OBJECTS) {
		check_ret(0, f);
		EXPECT_EQ(nb - 1, g->index);
		EXPECT_EQ(kind == FD ? (__u32)POLLIN : 0U, g->events);
		want[nb - 1] = taken(kind);
	} else {
		check_ret(-ETIMEDOUT, f);
		EXPECT_EQ(NONE, g->index);
	}
	check_states(_metadata, t, nb, want);
	ASSERT_EQ(0, put_back(t, nb - 1));
	if (what != OBJECTS || refused(f))
		check_unqueued(_metadata, t, nb);
}

/* Each kind is the last one of them. Up to 8 objects and descriptors need no allocation. */
static void check_aggregate(struct __test_metadata *_metadata, struct env *e,
			    unsigned int nb_kinds)
{
	unsigned int first, i, what;
	struct things t;
	struct faults f;

	starts(e, &e->g[S0], 0);
	for (first = 0; first < nb_kinds; first++) {
		create_things(&t, e, nb_kinds, first);
		for (i = 0; i < ARRAY_LEN(sizes); i++) {
			unsigned int nb = sizes[i];

			for (what = NOTHING; what <= OBJECTS; what++) {
				for_each_fault(&f)
					shoot_aggregate(_metadata, &e->me, &t, nb, what, &f);
				check_through(&f);
				if (nb > 8 || nb_kinds > NB_PLAIN)
					continue;
				EXPECT_EQ(0U, f.refused) {
					TH_LOG("%u sources", nb);
				}
				for_each_try(&f)
					shoot_aggregate(_metadata, &e->me, &t, nb, what, &f);
				EXPECT_EQ(0U, f.refused);
				check_no_allocation(&f);
			}
		}
		close_things(&t);
	}
}

TEST_F_TIMEOUT(faults_aggregate, plain, NT_TEST_TIMEOUT)
{
	check_aggregate(_metadata, &self->e, NB_PLAIN);
}

TEST_F_TIMEOUT(faults_aggregate, with_channels, NT_TEST_TIMEOUT)
{
	check_aggregate(_metadata, &self->e, NB_KINDS);
}

/* A thread that was not refused sleeps, and is woken as otherwise. */
TEST_F_TIMEOUT(faults_aggregate, woken, NT_TEST_TIMEOUT)
{
	struct agent *w = &self->e.g[W];
	unsigned int first, i;
	struct things t;
	struct faults f;

	starts(&self->e, &self->e.g[S0], 0);
	for (first = 0; first < NB_KINDS; first++) {
		create_things(&t, &self->e, NB_KINDS, first);
		for (i = 0; i < ARRAY_LEN(sizes); i++) {
			unsigned int nb = sizes[i];

			/* there is an allocation for each of the channels */
			if (nb == NTSYNC_MAX_SOURCES && first % 3)
				continue;
			for_each_fault(&f) {
				/* not a receiver of any of them */
				starts(&self->e, w, 0);
				w->p.a.id = OWNER;
				arrange(w, &t, nb);
				begin_shot(w, &f, do_agg);
				if (actor_asleep(&w->p.a)) {
					ASSERT_EQ(0, make_ready(&t, nb - 1));
					ASSERT_NE(-EBUSY, actor_end(&w->p.a));
					check_ret(0, &f);
					EXPECT_EQ(nb - 1, w->index);
					EXPECT_EQ((int)taken(kind_of(&t, nb - 1)),
						  (int)state_of(&t, nb - 1));
					ASSERT_EQ(0, put_back(&t, nb - 1));
				} else {
					ASSERT_NE(-EBUSY, actor_end(&w->p.a));
					ASSERT_TRUE(refused(&f)) {
						TH_LOG("allocation %u: returned %d", f.n, f.ret);
					}
				}
				check_unqueued(_metadata, &t, nb);
				actor_stop(&w->p.a);
			}
			check_through(&f);
		}
		close_things(&t);
	}
}

/* Who wakes a thread that waits for several things has nothing to allocate, either. */
TEST_F_TIMEOUT(faults_aggregate, signal, NT_TEST_TIMEOUT)
{
	check_signals(_metadata, &self->e, AGGREGATE);
}

/*
 * A thread that could not wait for channels is a receiver of those of which it was one, and of
 * no others: it is lent what is pending there, and nothing else.
 */
static void check_join(struct __test_metadata *_metadata, struct env *e, unsigned int nb_channels,
		       unsigned int nb_sources, bool before)
{
	struct agent *t = &e->g[T], *s[2] = { &e->g[S0], &e->g[S1] };
	static const int prio[2] = { SEND_PRIO, MORE_PRIO };
	unsigned int i, first = nb_sources - nb_channels;
	int ch[2], lent, last;
	struct faults f;

	for (i = 0; i < 2; i++)
		starts(e, s[i], prio[i]);
	for_each_fault(&f) {
		starts(e, t, 0);
		for (i = 0; i < nb_channels; i++) {
			ch[i] = ch_create(e->dev, 1);
			ASSERT_LE(0, ch[i]);
		}
		if (before) {
			t->src[0] = obj(ch[0]);
			t->nb = 1;
			ASSERT_EQ(-ETIMEDOUT, actor_do(&t->p.a, do_look));
		}
		t->nb = nb_sources;
		for (i = 0; i < nb_sources; i++)
			t->src[i] = obj(i < first ? e->never : ch[i - first]);
		shoots(t, &f, do_look);
		EXPECT_EQ(NORMAL, prio_of(t));
		if (!refused(&f))
			check_ret(-ETIMEDOUT, &f);

		last = NORMAL;
		lent = NORMAL;
		for (i = 0; i < nb_channels; i++) {
			sends(s[i], ch[i]);
			last = FIFO(prio[i]);
			if (!refused(&f) || (before && !i))
				lent = last;
			EXPECT_EQ(lent, prio_of(t)) {
				TH_LOG("allocation %u, channel %u of %u, %u sources", f.n, i,
				       nb_channels, nb_sources);
			}
		}
		/* it can be one later */
		ASSERT_EQ(0, actor_do(&t->p.a, do_look));
		EXPECT_EQ(first, t->index);
		EXPECT_EQ(last, prio_of(t));

		for (i = 0; i < nb_channels; i++)
			serve(_metadata, ch[i], s[i]);
		EXPECT_EQ(NORMAL, prio_of(t));
		actor_stop(&t->p.a);
		for (i = 0; i < nb_channels; i++)
			close(ch[i]);
	}
	check_through(&f);
	for (i = 0; i < 2; i++)
		actor_stop(&s[i]->p.a);
}

TEST_F_TIMEOUT(faults_aggregate, receiver, NT_TEST_TIMEOUT)
{
	check_join(_metadata, &self->e, 1, 1, false);
	check_join(_metadata, &self->e, 1, 8, false);
	check_join(_metadata, &self->e, 1, 9, false);
	check_join(_metadata, &self->e, 1, NTSYNC_MAX_SOURCES, false);
}

TEST_F_TIMEOUT(faults_aggregate, receiver_of_two, NT_TEST_TIMEOUT)
{
	check_join(_metadata, &self->e, 2, 2, false);
	check_join(_metadata, &self->e, 2, 9, false);
	check_join(_metadata, &self->e, 2, NTSYNC_MAX_SOURCES, false);
}

TEST_F_TIMEOUT(faults_aggregate, receiver_of_one_before, NT_TEST_TIMEOUT)
{
	check_join(_metadata, &self->e, 1, 1, true);
	check_join(_metadata, &self->e, 1, 9, true);
	check_join(_metadata, &self->e, 2, 2, true);
	check_join(_metadata, &self->e, 2, 9, true);
	check_join(_metadata, &self->e, 2, NTSYNC_MAX_SOURCES, true);
}

/* Who was refused does not wait, so it lends nothing. */
TEST_F_TIMEOUT(faults_aggregate, owner, NT_TEST_TIMEOUT)
{
	int mutex = nt_create_mutex(self->e.dev, 0, 0);
	struct agent *o = &self->e.g[O], *me = &self->e.me;
	unsigned int i, k;
	struct faults f;

	ASSERT_LE(0, mutex);
	starts(&self->e, o, 0);
	acquires(&o->p.a, mutex);
	for (i = 0; i < 2 * ARRAY_LEN(sizes); i++) {
		me->nb = sizes[i / 2];
		for (k = 0; k < me->nb; k++)
			me->src[k] = obj(k < me->nb - 1 ? self->e.never : mutex);
		for_each_fault(&f) {
			shoot(&f, i % 2 ? call_doze : call_look, me);
			EXPECT_EQ(NORMAL, prio_of(o)) {
				TH_LOG("%u sources, returned %d", me->nb, f.ret);
			}
			if (!refused(&f))
				check_ret(-ETIMEDOUT, &f);
		}
		check_through(&f);
	}
	check_mutex(mutex, o->p.a.id, 1);
}

/*
 * All of it at the same time: threads of several priorities that do anything, of which any
 * allocation may fail, and two threads that serve channels. Whatever was refused has not
 * happened: what was acquired, released, sent and replied to is counted.
 */

#define NB_WORKERS	5
#define NB_SERVERS	2
#define NB_SOAK		(NB_WORKERS + NB_SERVERS)
#define NB_SHARED	6	/* semaphores, mutexes, events */
#define NB_ALWAYS	8
#define SOAK_MSEC	3000
#define MIN_CALLS	50	/* of each thread, however short it is to be */
#define STOP		(~0ULL)

/* The test bounds all its waits itself, however long it is to be. */
#define NO_LIMIT	(7 * 86400)

static struct {
	int dev;
	int sem[2];
	int mutex[2];
	int event[2];		/* auto-reset, manual-reset */
	int always[NB_ALWAYS];	/* events that are signaled */
	int never;
	int ring;		/* an eventfd */
	int stop;		/* an event */
	int ch[2];
	__u64 deadline;
	atomic_int line;	/* where something was wrong first */
	atomic_int value;
	atomic_uint released[2];
	atomic_uint acquired[2];
	atomic_uint calls;
	atomic_uint refused;
	atomic_uint sends;
	atomic_uint errors;	/* of them */
	atomic_uint replies;
	/* the last request of each worker */
	atomic_uint received[NB_WORKERS];
	atomic_uint replied[NB_WORKERS];
} soak;

static void wrong(int line, int value)
{
	int none = 0;

	if (atomic_compare_exchange_strong(&soak.line, &none, line))
		atomic_store(&soak.value, value);
}

#define must(cond, value) do {						\
	if (!(cond))							\
		wrong(__LINE__, (value));				\
} while (0)

/* An error because of a failure is counted, and must be because of that. */
static int shoot_randomly(struct agent *g, int (*call)(void *arg), void *arg)
{
	struct faults f = { .n = rnd(&g->seed, 4) ? 1 + rnd(&g->seed, 8) : 0 };

	if (f.n)
		shoot(&f, call, arg);
	else
		f.ret = call(arg);
	atomic_fetch_add(&soak.calls, 1);
	atomic_fetch_add(&soak.refused, refused(&f));
	must(f.ret != -ENOMEM || f.hit, f.n);
	return f.ret;
}

struct soak_request {
	int ch;
	int (*recv)(int ch, struct ntsync_channel_recv2_args *args);
	struct ntsync_channel_recv2_args recvd;
	struct ntsync_channel_send_args send;
	__u64 id;
};

static int call_soak_recv(void *arg)
{
	struct soak_request *q = arg;

	return q->recv(q->ch, &q->recvd);
}

static int call_soak_send(void *arg)
{
	struct soak_request *q = arg;

	return nt_ioctl(q->ch, NTSYNC_IOC_CHANNEL_SEND_PI, &q->send);
}

static int call_soak_reply(void *arg)
{
	struct soak_request *q = arg;

	return ch_reply(q->ch, q->id);
}

/*
 * Receive and reply, for which only a receive that was refused is repeated. Whoever was told
 * of a request has to do that, because nobody else is woken for it. False when it is to stop.
 */
static bool soak_serve(struct agent *g, int ch, bool try)
{
	struct soak_request q = { .ch = ch, .recv = try ? ch_try_recv2 : ch_recv2 };
	unsigned int who, nr;
	int ret;

	do
		ret = shoot_randomly(g, call_soak_recv, &q);
	while (ret == -ENOMEM);
	must(!ret || (try && ret == -EAGAIN), ret);
	if (ret)
		return true;
	q.id = q.recvd.entry_id;
	if (q.recvd.reply_off == STOP) {
		must(!ch_reply(ch, q.id), 0);
		return false;
	}
	/* who sends knows its token */
	must(q.recvd.thread_token == q.recvd.payload_off, q.recvd.thread_token);
	who = q.recvd.reply_off >> 32;
	nr = q.recvd.reply_off;
	must(who < NB_WORKERS, who);
	if (who < NB_WORKERS) {
		/* each once, and in order */
		must(atomic_exchange(&soak.received[who], nr) < nr, nr);
		atomic_store(&soak.replied[who], nr);
	}
	atomic_fetch_add(&soak.replies, 1);
	ret = shoot_randomly(g, call_soak_reply, &q);
	must(!ret, ret);
	return true;
}

struct worker {
	struct agent *g;
	unsigned int held[2];	/* of mutexes */
	__u64 token[2];
	unsigned int nr;	/* of its last request */
};

/* It was acquired. */
static void soak_got(struct worker *w, int fd)
{
	unsigned int i;

	for (i = 0; i < 2; i++) {
		if (fd == soak.sem[i])
			atomic_fetch_add(&soak.acquired[i], 1);
		if (fd == soak.mutex[i])
			w->held[i]++;
	}
}

static int call_soak_wait(void *arg)
{
	return nt_wait(arg);
}

static __u64 soak_timeout(struct agent *g)
{
	return rnd(&g->seed, 3) ? nt_now(CLOCK_MONOTONIC) + rnd(&g->seed, 400) * 1000ULL :
				  NT_EXPIRED;
}

static int shared_object(unsigned int i)
{
	return i < 2 ? soak.sem[i] : i < 4 ? soak.mutex[i - 2] : soak.event[i - 4];
}

static void soak_wait(struct worker *w)
{
	/* these are prime to the number of objects */
	static const unsigned int stride[] = { 1, 3, 5, 9, 11, 13 };
	unsigned int i, n, *seed = &w->g->seed;
	unsigned int start = rnd(seed, NB_SHARED + NB_ALWAYS);
	unsigned int step = stride[rnd(seed, ARRAY_LEN(stride))];
	int objs[12], ret;
	struct nt_wait wait = {
		.dev = soak.dev, .objs = objs, .count = 1 + rnd(seed, ARRAY_LEN(objs)),
		.owner = w->g->p.a.id, .all = rnd(seed, 2), .timeout = soak_timeout(w->g),
		.uring_fd = rnd(seed, 4) ? 0 : soak.ring,
	};

	for (i = 0; i < wait.count; i++) {
		/* all must not have the same one twice */
		n = wait.all ? (start + i * step) % (NB_SHARED + NB_ALWAYS) :
			       rnd(seed, NB_SHARED + NB_ALWAYS);
		objs[i] = n < NB_SHARED ? shared_object(n) :
			  wait.all ? soak.always[n - NB_SHARED] : soak.never;
	}
	ret = shoot_randomly(w->g, call_soak_wait, &wait);
	must(!ret || ret == -EOWNERDEAD || ret == -ETIMEDOUT || ret == -ENOMEM, ret);
	if (ret && ret != -EOWNERDEAD)
		return;
	if (wait.index == NTSYNC_INDEX_URING_READY) {
		must(!ret && wait.uring_fd, ret);
	} else if (wait.all) {
		must(!wait.index, wait.index);
		for (i = 0; i < wait.count; i++)
			soak_got(w, objs[i]);
	} else {
		must(wait.index < wait.count, wait.index);
		if (wait.index < wait.count)
			soak_got(w, objs[wait.index]);
	}
}

struct soak_aggregate {
	struct agent *g;
	__u64 timeout;
};

static int call_soak_aggregate(void *arg)
{
	struct soak_aggregate *a = arg;

	return agg_wait(a->g, a->timeout);
}

static void soak_aggregate(struct worker *w)
{
	struct agent *g = w->g;
	struct soak_aggregate a = { .g = g, .timeout = soak_timeout(g) };
	unsigned int i, n;
	int ret, fd;

	g->nb = 1 + rnd(&g->seed, 12);
	for (i = 0; i < g->nb; i++) {
		n = rnd(&g->seed, NB_SHARED + 6);
		g->src[i] = n < NB_SHARED ? obj(shared_object(n)) :
			    n < NB_SHARED + 2 ? obj(soak.ch[n - NB_SHARED]) :
			    n == NB_SHARED + 2 ? in(soak.ring) : obj(soak.never);
	}
	ret = shoot_randomly(g, call_soak_aggregate, &a);
	must(!ret || ret == -EOWNERDEAD || ret == -ETIMEDOUT || ret == -ENOMEM, ret);
	if (ret && ret != -EOWNERDEAD)
		return;
	must(g->index < g->nb, g->index);
	if (g->index >= g->nb)
		return;
	fd = g->src[g->index].fd;
	if (fd == soak.ch[0] || fd == soak.ch[1])
		soak_serve(g, fd, true);
	else
		soak_got(w, fd);
}

static void soak_send(struct worker *w)
{
	unsigned int i = rnd(&w->g->seed, 2), policy = rnd(&w->g->seed, 3);
	struct soak_request q = {
		.ch = soak.ch[i],
		/* SCHED_FIFO and SCHED_RR are 1 and 2 */
		.send = {
			.policy = policy, .prio = policy ? 1 + rnd(&w->g->seed, 40) : 0,
			.payload_off = w->token[i],
			.reply_off = (__u64)w->g->nr << 32 | ++w->nr,
		},
	};
	int ret;

	atomic_fetch_add(&soak.sends, 1);
	ret = shoot_randomly(w->g, call_soak_send, &q);
	must(!ret || ret == -EAGAIN || ret == -ENOMEM, ret);
	must(!ret == (atomic_load(&soak.replied[w->g->nr]) == w->nr), ret);
	if (ret)
		atomic_fetch_add(&soak.errors, 1);
}

static void soak_token(struct worker *w)
{
	unsigned int i = rnd(&w->g->seed, 2);
	struct registration reg = {
		.ch = soak.ch[i], .tid = tid_of(w->g),
		.token = rnd(&w->g->seed, 3) ? 1 + rnd(&w->g->seed, 1000) : 0,
	};
	int ret;

	ret = shoot_randomly(w->g, reg.token ? call_register : call_deregister, &reg);
	must(!ret || (reg.token && ret == -ENOMEM), ret);
	if (!ret)
		w->token[i] = reg.token;
}

static void soak_create(struct worker *w)
{
	static int (*const calls[])(void *arg) = {
		call_open, call_create_sem, call_create_mutex, call_create_auto,
		call_create_manual, call_create_channel, call_send_only,
	};
	unsigned int n = rnd(&w->g->seed, ARRAY_LEN(calls));
	int ret;

	ret = shoot_randomly(w->g, calls[n], calls[n] == call_send_only ? &soak.ch[0] : &soak.dev);
	must(ret >= 0 || ret == -ENOMEM, ret);
	if (ret >= 0)
		close(ret);
}

struct soak_mutex {
	int fd;
	__u32 owner;
	bool kill;
};

static int call_soak_unlock(void *arg)
{
	struct soak_mutex *m = arg;

	return m->kill ? nt_kill_mutex(m->fd, m->owner) : nt_unlock_mutex(m->fd, m->owner, NULL);
}

static void soak_unlock(struct worker *w)
{
	unsigned int i = rnd(&w->g->seed, 2);
	struct soak_mutex m = {
		.fd = soak.mutex[i], .owner = w->g->p.a.id, .kill = !rnd(&w->g->seed, 8),
	};
	int ret;

	ret = shoot_randomly(w->g, call_soak_unlock, &m);
	must(ret == (w->held[i] ? 0 : -EPERM), ret);
	if (!ret)
		w->held[i] = m.kill ? 0 : w->held[i] - 1;
}

static void soak_signal(struct worker *w)
{
	static int (*const calls[])(void *arg) = {
		call_set, call_set, call_reset, call_pulse, call_set_pi,
	};
	unsigned int i = rnd(&w->g->seed, 2), n = rnd(&w->g->seed, ARRAY_LEN(calls) + 3);
	int ret;

	if (n < ARRAY_LEN(calls)) {
		ret = shoot_randomly(w->g, calls[n], &soak.event[i]);
		must(!ret, ret);
	} else if (n > ARRAY_LEN(calls)) {
		ret = shoot_randomly(w->g, call_release, &soak.sem[i]);
		must(!ret, ret);
		atomic_fetch_add(&soak.released[i], !ret);
	} else if (i) {
		raise_fd(soak.ring);
	} else {
		drain(soak.ring);
	}
}

/*
 * Those with a real-time priority leave some time to the others. At the end nothing is owned,
 * and nothing is lent by EVENT_SET_PI, which ends with a wait.
 */
static int do_work(struct actor *a)
{
	static void (*const ops[])(struct worker *w) = {
		soak_wait, soak_wait, soak_wait, soak_aggregate, soak_aggregate, soak_send,
		soak_send, soak_token, soak_create, soak_unlock, soak_unlock, soak_signal,
		soak_signal,
	};
	struct agent *g = (struct agent *)a;
	struct worker w = { .g = g };
	unsigned int i;
	__u32 index;
	int ret;

	for (i = 0; i < MIN_CALLS || nt_now(CLOCK_MONOTONIC) < soak.deadline; i++) {
		if (atomic_load(&soak.line))
			break;
		ops[rnd(&g->seed, ARRAY_LEN(ops))](&w);
		if (sched_getscheduler(0) != SCHED_OTHER)
			nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) +
				       rnd(&g->seed, 200) * 1000ULL);
	}
	for (i = 0; i < 2; i++)
		for (; w.held[i]; w.held[i]--)
			must(!nt_unlock_mutex(soak.mutex[i], a->id, NULL), i);
	ret = nt_try_any(soak.dev, 1, &soak.never, a->id, 0, &index);
	must(ret == -ETIMEDOUT, ret);
	return 0;
}

/* Serve both channels until the event is set. */
static int do_serve_both(struct actor *a)
{
	struct agent *g = (struct agent *)a;
	struct soak_aggregate agg = { .g = g, .timeout = UINT64_MAX };
	int ret;

	g->nb = 3;
	g->src[0] = obj(soak.stop);
	g->src[1] = obj(soak.ch[0]);
	g->src[2] = obj(soak.ch[1]);
	for (;;) {
		ret = shoot_randomly(g, call_soak_aggregate, &agg);
		if (ret == -ENOMEM)
			continue;
		must(!ret && g->index < 3, ret);
		if (ret || !g->index || g->index >= 3)
			return ret;
		soak_serve(g, soak.ch[g->index - 1], true);
	}
}

/* Serve the second one until a request says so. */
static int do_serve_one(struct actor *a)
{
	/* an error would not go away */
	while (soak_serve((struct agent *)a, soak.ch[1], false) && !atomic_load(&soak.line))
		;
	return 0;
}

FIXTURE(faults_soak) {
	struct env e;
	struct agent g[NB_SOAK];
};

FIXTURE_SETUP(faults_soak)
{
	begin_device(&self->e);
	need_all_of_channels(&self->e);
	need_ioctl(self->e.dev, NTSYNC_IOC_CHANNEL_SEND_ONLY);
	need_aggregate(&self->e);
	need_uring(&self->e);
	begin_faults(&self->e);
}

FIXTURE_TEARDOWN_PARENT(faults_soak)
{
	end_faults(&self->e);
}

TEST_F_TIMEOUT(faults_soak, random, NO_LIMIT)
{
	static const int prio[NB_SOAK] = { 0, 0, 10, 20, 30, 0, 15 };
	struct ntsync_channel_send_args stop = { .reply_off = STOP };
	struct agent *both = &self->g[NB_WORKERS], *one = &self->g[NB_WORKERS + 1];
	unsigned int seed = nt_seed(), i, before;
	struct ntsync_mutex_args mutex;
	int ret;

	TH_LOG("seed %u", seed);
	soak.dev = self->e.dev;
	soak.never = self->e.never;
	for (i = 0; i < 2; i++) {
		soak.sem[i] = nt_create_sem(soak.dev, 0, INT_MAX);
		ASSERT_LE(0, soak.sem[i]);
		soak.mutex[i] = nt_create_mutex(soak.dev, 0, 0);
		ASSERT_LE(0, soak.mutex[i]);
		soak.event[i] = nt_create_event(soak.dev, i, false);
		ASSERT_LE(0, soak.event[i]);
		soak.ch[i] = ch_create(soak.dev, 2);
		ASSERT_LE(0, soak.ch[i]);
	}
	for (i = 0; i < NB_ALWAYS; i++) {
		soak.always[i] = nt_create_event(soak.dev, true, true);
		ASSERT_LE(0, soak.always[i]);
	}
	soak.ring = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ASSERT_LT(0, soak.ring);
	soak.stop = nt_create_event(soak.dev, true, false);
	ASSERT_LE(0, soak.stop);
	before = nb_open();

	soak.deadline = nt_now(CLOCK_MONOTONIC) + nt_scaled(SOAK_MSEC) * 1000000ULL;
	for (i = 0; i < NB_SOAK; i++) {
		struct agent *g = &self->g[i];

		g->nr = i;
		g->seed = seed * 7919 + i;
		g->p.a.id = 1 + i;
		ASSERT_EQ(0, actor_start(&g->p.a, soak.dev, prio[i]));
		ASSERT_EQ(0, move_to(tid_of(g), -1));
	}
	actor_begin(&both->p.a, do_serve_both);
	actor_begin(&one->p.a, do_serve_one);
	for (i = 0; i < NB_WORKERS; i++)
		actor_begin(&self->g[i].p.a, do_work);
	nt_sleep_until(CLOCK_MONOTONIC, soak.deadline);

	/* nobody sends any more, then nobody receives */
	for (i = 0; i < NB_WORKERS; i++) {
		ASSERT_EQ(0, actor_end(&self->g[i].p.a)) {
			TH_LOG("worker %u has not come back; line %d: %d", i,
			       atomic_load(&soak.line), atomic_load(&soak.value));
		}
	}
	ASSERT_EQ(0, atomic_load(&soak.line)) {
		TH_LOG("value %d", atomic_load(&soak.value));
	}
	ASSERT_EQ(0, set(soak.stop));
	ASSERT_EQ(0, actor_end(&both->p.a));
	ASSERT_EQ(0, bounded(soak.ch[1], NTSYNC_IOC_CHANNEL_SEND_PI, &stop));
	ASSERT_EQ(0, actor_end(&one->p.a));

	EXPECT_EQ(0, atomic_load(&soak.line)) {
		TH_LOG("value %d", atomic_load(&soak.value));
	}
	EXPECT_EQ(atomic_load(&soak.sends),
		  atomic_load(&soak.replies) + atomic_load(&soak.errors));
	EXPECT_LT(0U, atomic_load(&soak.replies));
	EXPECT_LT(0U, atomic_load(&soak.refused));
	EXPECT_EQ(before, nb_open());
	for (i = 0; i < NB_SOAK; i++) {
		EXPECT_EQ(prio[i] ? FIFO(prio[i]) : NORMAL, prio_of(&self->g[i])) {
			TH_LOG("thread %u is not back at its own priority", i);
		}
	}
	for (i = 0; i < 2; i++) {
		EXPECT_TRUE(is_empty(soak.ch[i]));
		check_sem(soak.sem[i], atomic_load(&soak.released[i]) -
			  atomic_load(&soak.acquired[i]), INT_MAX);
		/* it may be abandoned */
		ret = nt_ioctl(soak.mutex[i], NTSYNC_IOC_MUTEX_READ, &mutex);
		EXPECT_TRUE(!ret || ret == -EOWNERDEAD);
		EXPECT_EQ(0U, mutex.owner);
		EXPECT_EQ(0U, mutex.count);
		/* nobody waits for it */
		EXPECT_EQ(0, set(soak.event[i]));
		check_event(soak.event[i], i, 1);
	}
	TH_LOG("%u calls, of which %u were refused; %u requests served", atomic_load(&soak.calls),
	       atomic_load(&soak.refused), atomic_load(&soak.replies));
	for (i = 0; i < NB_SOAK; i++)
		actor_stop(&self->g[i].p.a);
}

TEST_HARNESS_MAIN
