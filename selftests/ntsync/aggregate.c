// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * AGGREGATE_WAIT, sentence by sentence of its contract: one wait for objects, channels and
 * descriptors. The lowest index that is ready is reported, at most one object is consumed,
 * and no wake-up is lost.
 *
 * Where the order of events matters, everything runs on one CPU below the controlling
 * thread, so that a waiter that was woken looks only when that one sleeps. Evidence is what
 * the objects are like afterwards, the effective priority, and the order of events.
 *
 * The numbers of rounds are scaled by NTSYNC_SCALE (in percent). NTSYNC_RACES=N demands N races
 * of each variant of aggregate_race and aggregate_suspended, however long they take.
 */
#include "descriptor_test.h"
#include <assert.h>
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>

static_assert(NTSYNC_IOC_AGGREGATE_WAIT == _IOC(_IOC_READ | _IOC_WRITE, 'N', 0x97, 40),
	      "AGGREGATE_WAIT");
static_assert(offsetof(struct ntsync_aggregate_wait_args, fired_index) == 20, "fired_index");
static_assert(offsetof(struct ntsync_aggregate_wait_args, fired_events) == 32, "fired_events");
static_assert(sizeof(struct ntsync_source) == 16, "source");

#ifndef SYS_pidfd_open
#define SYS_pidfd_open	434
#endif

#define NONE		NTSYNC_INDEX_NONE
#define OWNER		7	/* of mutexes: the waiter, */
#define OTHER		107	/* and who has them before */
#define DEPTH		64

#define NB_AGENTS	8
#define NB_WAKEUPS	20000
#define NB_RACES	20000	/* of each of five variants */
#define NB_SUSPENDED	1200	/* of each of three variants */
#define NB_REQUESTS	500	/* of each sender */
#define HOLD_VAR	"NTSYNC_AGGREGATE_HOLD"

/* No test of many rounds begins another one after that: see grant_race.c. */
#define BUDGET_NSEC	(2 * NT_NSEC_PER_SEC)

/* A program that is executed by a test only has to stay until it is killed. */
static __attribute__((constructor)) void hold(void)
{
	if (getenv(HOLD_VAR)) {
		for (;;)
			pause();
	}
}

/* A thread that does what it is told. The controlling thread can wait as one, too. */
struct agent {
	struct peer p;		/* must be first */
	struct ntsync_source src[NTSYNC_MAX_SOURCES + 1];
	__u32 nb;
	__u32 flags;
	__u32 index;		/* results; poisoned before */
	__u32 events;
	int seen;		/* the priority that it had afterwards */
	__u64 end;		/* when it came back */
	long sleeps;		/* how often it has slept meanwhile */
};

static struct ntsync_source obj(int fd)
{
	return (struct ntsync_source){ .type = NTSYNC_SOURCE_OBJECT, .fd = fd };
}

static struct ntsync_source desc(int fd, __u32 events)
{
	return (struct ntsync_source){ .type = NTSYNC_SOURCE_FD, .events = events, .fd = fd };
}

static struct ntsync_source in(int fd)
{
	return desc(fd, POLLIN);
}

#define arrange(g, ...) do {						\
	const struct ntsync_source __src[] = { __VA_ARGS__ };		\
	struct agent *__a = (g);					\
									\
	memcpy(__a->src, __src, sizeof(__src));				\
	__a->nb = ARRAY_LEN(__src);					\
	__a->flags = 0;							\
	__a->p.a.timeout = 0;						\
} while (0)

/* By the calling thread. */
static int agg_wait(struct agent *g, __u64 timeout)
{
	struct ntsync_aggregate_wait_args args = {
		.timeout = timeout,
		.sources = (uintptr_t)g->src,
		.nb_sources = g->nb,
		.fired_index = NT_POISON,
		.flags = g->flags,
		.owner = g->p.a.id,
		.fired_events = NT_POISON,
	};
	int ret = nt_ioctl(g->p.a.dev, NTSYNC_IOC_AGGREGATE_WAIT, &args);

	g->index = args.fired_index;
	g->events = args.fired_events;
	return ret;
}

static int look(struct agent *g)
{
	return agg_wait(g, NT_EXPIRED);
}

static pid_t tid_of(struct agent *g)
{
	return atomic_load(&g->p.a.tid);
}

/* The controller's own is that of a lock in the kernel, for a moment. */
static int prio_of(struct agent *g)
{
	int prio = FIFO(CONTROLLER_PRIO);

	poll_until((prio = actor_prio(&g->p.a)) != FIFO(CONTROLLER_PRIO));
	return prio;
}

static int do_agg(struct actor *a)
{
	struct agent *g = (struct agent *)a;
	int ret = agg_wait(g, a->timeout ? a->timeout : nt_bound());

	g->seen = prio_of(g);
	return ret;
}

static bool is_done(struct agent *g)
{
	return actor_done(&g->p.a);
}

static int kick(struct agent *g)
{
	return syscall(SYS_tgkill, getpid(), tid_of(g), SIGUSR1) ? -errno : 0;
}

#define falls_asleep(g) do {						\
	struct agent *__f = (g);					\
									\
	actor_begin(&__f->p.a, do_agg);					\
	ASSERT_TRUE(actor_asleep(&__f->p.a)) {				\
		TH_LOG("does not sleep (returned %d, index %#x)", __f->p.a.ret, __f->index); \
	}								\
} while (0)

/* Go to sleep in a wait for these. */
#define waits(g, ...) do {						\
	struct agent *__w = (g);					\
									\
	arrange(__w, __VA_ARGS__);					\
	falls_asleep(__w);						\
} while (0)

/* It has not come back, or sleeps again. */
#define still_asleep(g) do {						\
	struct agent *__s = (g);					\
									\
	ASSERT_TRUE(actor_asleep(&__s->p.a)) {				\
		TH_LOG("returned %d, index %#x", __s->p.a.ret, __s->index); \
	}								\
} while (0)

#define ends(g, _ret, _index) do {					\
	struct agent *__e = (g);					\
									\
	ASSERT_EQ((_ret), actor_end(&__e->p.a));			\
	EXPECT_EQ((__u32)(_index), __e->index);				\
} while (0)

/*
 * One source of each kind, and how it becomes ready.
 */
enum kind {
	SEM,
	MUTEX,
	DEAD,			/* a mutex that is abandoned */
	AUTO,			/* an event; so below */
	MANUAL,
	FD,			/* an eventfd */
	CHANNEL,
	NB_KINDS
};

#define ALL_KINDS	((1U << NB_KINDS) - 1)

struct env {
	int dev;
	int obj[NB_KINDS];
	int never;		/* an event that nobody sets */
	int never_fd;
	struct agent *sender;	/* to the channel */
	struct agent g[NB_AGENTS];
};

static struct ntsync_source source_of(struct env *e, enum kind k)
{
	return k == FD ? in(e->obj[k]) : obj(e->obj[k]);
}

static int make_ready(struct env *e, enum kind k)
{
	int fd = e->obj[k];

	switch (k) {
	case SEM:
		return nt_release_sem(fd, 1, NULL);
	case MUTEX:
		return nt_unlock_mutex(fd, OTHER, NULL);
	case DEAD:
		return nt_kill_mutex(fd, OTHER);
	case AUTO:
	case MANUAL:
		return set(fd);
	case FD:
		return raise_fd(fd);
	default:
		e->sender->p.a.objs[0] = fd;
		actor_begin(&e->sender->p.a, do_send);
		return actor_asleep(&e->sender->p.a) ? 0 : -EBUSY;
	}
}

static bool is_ready(struct env *e, enum kind k)
{
	struct ntsync_mutex_args mutex = { .owner = NT_POISON };
	struct ntsync_event_args event = { .signaled = 0 };
	struct ntsync_sem_args sem = { .count = 0 };
	struct pollfd pfd = { .fd = e->obj[k], .events = POLLIN };

	switch (k) {
	case SEM:
		return !nt_ioctl(e->obj[k], NTSYNC_IOC_SEM_READ, &sem) && sem.count;
	case MUTEX:
		return !nt_ioctl(e->obj[k], NTSYNC_IOC_MUTEX_READ, &mutex) && !mutex.owner;
	case DEAD:
		return nt_ioctl(e->obj[k], NTSYNC_IOC_MUTEX_READ, &mutex) == -EOWNERDEAD;
	case AUTO:
	case MANUAL:
		return !nt_ioctl(e->obj[k], NTSYNC_IOC_EVENT_READ, &event) && event.signaled;
	case FD:
		return poll(&pfd, 1, 0) == 1;
	default:
		return !is_done(e->sender);
	}
}

/* A set of kinds. */
static unsigned int which_ready(struct env *e)
{
	unsigned int k, ready = 0;

	for (k = 0; k < NB_KINDS; k++)
		if (is_ready(e, k))
			ready |= 1U << k;
	return ready;
}

/* Not ready any more, whoever consumed it. */
static int put_back(struct env *e, enum kind k)
{
	struct ntsync_channel_recv_args req;
	int fd = e->obj[k], ret;
	struct ntsync_sem_args sem;
	__u32 index, owner;

	switch (k) {
	case SEM:
		/* A try that fails may sleep for a moment, and let the waiter run. */
		while (!(ret = nt_ioctl(fd, NTSYNC_IOC_SEM_READ, &sem)) && sem.count &&
		       !(ret = nt_try_any(e->dev, 1, &fd, OTHER, 0, &index)))
			;
		return ret;
	case MUTEX:
	case DEAD:
		owner = nt_mutex_owner(fd);
		if (owner == OTHER)
			return 0;
		ret = owner ? nt_unlock_mutex(fd, owner, NULL) : 0;
		if (!ret)
			ret = nt_try_any(e->dev, 1, &fd, OTHER, 0, &index);
		return ret == -EOWNERDEAD ? 0 : ret;
	case AUTO:
	case MANUAL:
		return nt_event(fd, NTSYNC_IOC_EVENT_RESET, NULL);
	case FD:
		drain(fd);
		return 0;
	default:
		if (is_done(e->sender))
			return 0;
		ret = ch_recv(fd, &req);
		if (!ret)
			ret = ch_reply(fd, req.entry_id);
		return ret ? ret : actor_end(&e->sender->p.a);
	}
}

/* If nobody waits for them, each of them can be ready. */
static bool in_no_queue(struct env *e)
{
	unsigned int k, ready, err = which_ready(e);

	for (k = 0; k < NB_KINDS; k++)
		err |= make_ready(e, k);
	ready = which_ready(e);
	for (k = 0; k < NB_KINDS; k++)
		err |= put_back(e, k);
	return !err && ready == ALL_KINDS;
}

/* All of them, and which one is the first. */
static void arrange_all(struct env *e, struct agent *g, unsigned int first)
{
	unsigned int i;

	arrange(g, obj(e->never));
	g->nb = NB_KINDS;
	for (i = 0; i < NB_KINDS; i++)
		g->src[i] = source_of(e, (first + i) % NB_KINDS);
}

static int ret_of(enum kind k)
{
	return k == DEAD ? -EOWNERDEAD : 0;
}

/* What is ready still, when this has been reported. */
static unsigned int left_of(enum kind k)
{
	return k == MANUAL || k == FD || k == CHANNEL ? 1U << k : 0;
}

#define check_report(g, k, _index) do {					\
	struct agent *__c = (g);					\
									\
	EXPECT_EQ((__u32)(_index), __c->index);				\
	EXPECT_EQ((k) == FD ? (__u32)POLLIN : 0U, __c->events);		\
} while (0)

#define reports(g, k, _index) do {					\
	enum kind __k = (k);						\
	struct agent *__r = (g);					\
									\
	ASSERT_EQ(ret_of(__k), actor_end(&__r->p.a)) {			\
		TH_LOG("kind %d, index %#x", __k, __r->index);		\
	}								\
	check_report(__r, __k, (_index));				\
} while (0)

/* It is reported to one that was asleep, or comes now; and nothing else happens. */
#define __gets(g, k, _index, asleep) do {				\
	struct agent *__g = (g);					\
	enum kind __kind = (k);						\
	bool __asleep = (asleep);					\
									\
	ASSERT_EQ(0, make_ready(&self->e, __kind));			\
	if (!__asleep)							\
		actor_begin(&__g->p.a, do_agg);				\
	reports(__g, __kind, (_index));					\
	EXPECT_EQ(left_of(__kind), which_ready(&self->e)) {		\
		TH_LOG("kind %d, asleep %d", __kind, __asleep);		\
	}								\
	if (__kind == MUTEX || __kind == DEAD)				\
		check_mutex(self->e.obj[__kind], __g->p.a.id, 1);	\
	ASSERT_EQ(0, put_back(&self->e, __kind));			\
} while (0)

#define wakes(g, k, _index)	__gets(g, k, _index, true)
#define finds(g, k, _index)	__gets(g, k, _index, false)

static void setup_env(struct __test_metadata *_metadata, struct env *e)
{
	unsigned int i;

	e->obj[SEM] = nt_create_sem(e->dev, 0, 3);
	e->obj[MUTEX] = nt_create_mutex(e->dev, OTHER, 1);
	e->obj[DEAD] = nt_create_mutex(e->dev, OTHER, 1);
	e->obj[AUTO] = nt_create_event(e->dev, false, false);
	e->obj[MANUAL] = nt_create_event(e->dev, true, false);
	e->obj[FD] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	e->obj[CHANNEL] = ch_create(e->dev, DEPTH);
	for (i = 0; i < NB_KINDS; i++)
		ASSERT_LE(0, e->obj[i]);
	e->never = nt_create_event(e->dev, true, false);
	ASSERT_LE(0, e->never);
	e->never_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ASSERT_LE(0, e->never_fd);
	for (i = 0; i < NB_AGENTS; i++) {
		struct agent *g = &e->g[i];

		g->p.a.id = OWNER + i;
		g->p.send.payload_off = 0x1000 + i;
		g->p.send.reply_off = 0x2000 + i;
		ASSERT_EQ(0, actor_start(&g->p.a, e->dev, 0));
	}
	e->sender = &e->g[2];
}

/* For FIXTURE_SETUP(). */
#define need_aggregate(dev) do {					\
	if (nt_ioctl((dev), NTSYNC_IOC_AGGREGATE_WAIT, NULL) == -ENOTTY) \
		SKIP(return, "no AGGREGATE_WAIT in this kernel");	\
} while (0)

/* The waiters are on another CPU, if there is one. */
static void setup_smp(struct __test_metadata *_metadata, struct env *e)
{
	int here = nt_cpu(0), there = nt_cpu(1), i;

	setup_env(_metadata, e);
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, move_to(tid_of(&e->g[i]), there));
	ASSERT_EQ(0, nt_pin_self(here));
	signal(SIGPIPE, SIG_IGN);
}

FIXTURE(aggregate) {
	struct env e;
	struct agent *w, *w2;
};

FIXTURE_SETUP(aggregate)
{
	open_device(self->e.dev);
	need_aggregate(self->e.dev);
	setup_smp(_metadata, &self->e);
	self->w = &self->e.g[0];
	self->w2 = &self->e.g[1];
}

FIXTURE_TEARDOWN(aggregate)
{
}

TEST_F_TIMEOUT(aggregate, illegal_arguments, NT_TEST_TIMEOUT)
{
	static const struct { __u32 nb, flags, pad; } bad[] = {
		{ 0, 0, 0 }, { 65, 0, 0 }, { 1U << 28 | 1, 0, 0 }, { 1U << 31, 0, 0 },
		{ ~0U, 0, 0 }, { 1, 2, 0 }, { 1, 3, 0 }, { 1, 1U << 31, 0 }, { 1, 0, 1 },
		{ 1, 0, 1U << 31 },
	};
	struct agent *w = self->w;
	unsigned int i;

	for (i = 0; i < ARRAY_LEN(w->src); i++)
		w->src[i] = obj(self->e.obj[AUTO]);
	ASSERT_EQ(0, set(self->e.obj[AUTO]));
	for (i = 0; i < ARRAY_LEN(bad); i++) {
		struct ntsync_aggregate_wait_args args = {
			.timeout = NT_EXPIRED, .sources = (uintptr_t)w->src,
			.nb_sources = bad[i].nb, .fired_index = NT_POISON,
			.flags = bad[i].flags, .owner = OWNER, .fired_events = NT_POISON,
			.__pad = bad[i].pad,
		}, copy = args;

		EXPECT_EQ(-EINVAL, nt_ioctl(self->e.dev, NTSYNC_IOC_AGGREGATE_WAIT, &args)) {
			TH_LOG("case %u", i);
		}
		EXPECT_EQ(0, memcmp(&args, &copy, sizeof(args)));
		check_event(self->e.obj[AUTO], 0, 1);
	}
	w->nb = NTSYNC_MAX_SOURCES;
	EXPECT_EQ(0, look(w));
	check_report(w, AUTO, 0);
}

/* Alone, behind and before one that is ready. */
#define refuses(g, _src, err, nr) do {					\
	const struct ntsync_source __bad = (_src);			\
	const struct ntsync_source __good = obj(self->e.obj[AUTO]);	\
	struct agent *__g = (g);					\
	unsigned int __i;						\
									\
	for (__i = 0; __i < 3; __i++) {					\
		arrange(__g, __i == 1 ? __good : __bad, __i == 2 ? __good : __bad); \
		__g->nb = __i ? 2 : 1;					\
		EXPECT_EQ((err), look(__g)) {				\
			TH_LOG("case %u, place %u", (nr), __i);		\
		}							\
		EXPECT_EQ(NT_POISON, __g->index);			\
		check_event(self->e.obj[AUTO], 0, 1);			\
	}								\
} while (0)

TEST_F_TIMEOUT(aggregate, illegal_sources, NT_TEST_TIMEOUT)
{
	int dev = open("/dev/ntsync", O_CLOEXEC | O_RDONLY);
	int event = self->e.obj[AUTO], fd = self->e.obj[FD], ch = self->e.obj[CHANNEL];
	int others = nt_create_event(dev, true, true), others_ch = ch_create(dev, 1);
	int file = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int dir = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct ntsync_source bad[] = {
		{ .type = 0, .fd = event }, { .type = 3, .fd = event },
		{ .type = ~0U, .fd = event }, { .type = 1U << 31 | 1, .fd = event },
		{ .type = NTSYNC_SOURCE_OBJECT, .fd = event, .__pad = 1 },
		{ .type = NTSYNC_SOURCE_FD, .events = POLLIN, .fd = fd, .__pad = 1U << 31 },
		{ .type = NTSYNC_SOURCE_OBJECT, .events = POLLIN, .fd = event },
		{ .type = NTSYNC_SOURCE_OBJECT, .events = 1U << 31, .fd = event },
		desc(fd, 0x10000), desc(fd, 0x10000 | POLLIN), desc(fd, ~0U),
		/* no object of this device */
		obj(fd), obj(file), obj(dev), obj(self->e.dev), obj(others), obj(others_ch),
		/* not pollable */
		in(others), in(others_ch), in(dev), in(self->e.dev), in(event), in(ch), in(file),
		in(dir), in(self->e.obj[SEM]), in(self->e.obj[MUTEX]), desc(event, 0),
	};
	unsigned int i;

	ASSERT_LE(0, dev);
	ASSERT_LE(0, others);
	ASSERT_LE(0, others_ch);
	ASSERT_LE(0, file);
	ASSERT_LE(0, dir);
	ASSERT_EQ(0, raise_fd(fd));
	ASSERT_EQ(0, set(event));
	for (i = 0; i < ARRAY_LEN(bad); i++)
		refuses(self->w, bad[i], -EINVAL, i);
	check_event(others, 1, 1);
	EXPECT_EQ(1U, drain(fd));
}

TEST_F_TIMEOUT(aggregate, bad_descriptors, NT_TEST_TIMEOUT)
{
	int closed = dup(self->e.obj[FD]), path = open("/", O_PATH | O_CLOEXEC);
	__u32 bad[] = {
		closed, path, INT_MAX, 1U << 31, 1U << 31 | self->e.obj[AUTO],
		1U << 31 | self->e.obj[FD], NONE,
	};
	unsigned int i;

	ASSERT_LE(0, closed);
	ASSERT_LE(0, path);
	close(closed);
	ASSERT_EQ(0, set(self->e.obj[AUTO]));
	for (i = 0; i < ARRAY_LEN(bad); i++) {
		refuses(self->w, obj(bad[i]), -EBADF, i);
		refuses(self->w, in(bad[i]), -EBADF, i);
	}
}

TEST_F_TIMEOUT(aggregate, send_only_source, NT_TEST_TIMEOUT)
{
	int fd;

	need_ioctl(self->e.dev, NTSYNC_IOC_CHANNEL_SEND_ONLY);
	fd = ch_send_only(self->e.obj[CHANNEL]);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, set(self->e.obj[AUTO]));
	refuses(self->w, obj(fd), -EBADF, 0);
}

/* The first wrong source is the one that counts. */
TEST_F_TIMEOUT(aggregate, order_of_errors, NT_TEST_TIMEOUT)
{
	const struct ntsync_source einval[] = {
		{ .type = 3, .fd = self->e.never },
		{ .type = NTSYNC_SOURCE_OBJECT, .fd = self->e.never, .__pad = 1 },
		desc(self->e.never_fd, 0x10000), in(self->e.never), obj(self->e.never_fd),
	};
	const struct ntsync_source ebadf[] = { obj(INT_MAX), in(INT_MAX) };
	struct agent *w = self->w;
	unsigned int i, k;

	/* behind as many as need no allocation */
	for (i = 0; i < 8; i++)
		w->src[i] = obj(self->e.never);
	w->nb = 10;
	for (i = 0; i < ARRAY_LEN(einval) * ARRAY_LEN(ebadf); i++) {
		for (k = 0; k < 2; k++) {
			w->src[8 + k] = einval[i / 2];
			w->src[9 - k] = ebadf[i & 1];
			EXPECT_EQ(k ? -EBADF : -EINVAL, look(w)) {
				TH_LOG("case %u, place %u", i, k);
			}
		}
	}
}

TEST_F_TIMEOUT(aggregate, pointers, NT_TEST_TIMEOUT)
{
	struct ntsync_aggregate_wait_args args = {
		.timeout = NT_EXPIRED, .nb_sources = 2, .owner = OWNER,
	};
	size_t size = sysconf(_SC_PAGESIZE);
	struct ntsync_source *src;
	int event = self->e.obj[AUTO];
	unsigned int i;
	__u64 bad[4];
	char *p;

	p = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE((void *)p != MAP_FAILED);
	src = (struct ntsync_source *)(p + size) - 1;
	*src = obj(event);
	ASSERT_EQ(0, mprotect(p + size, size, PROT_NONE));
	bad[0] = 0;
	bad[1] = (uintptr_t)(p + size);
	bad[2] = (uintptr_t)src;
	bad[3] = 1ULL << 63;
	ASSERT_EQ(0, set(event));
	for (i = 0; i < ARRAY_LEN(bad); i++) {
		args.sources = bad[i];
		EXPECT_EQ(-EFAULT, nt_ioctl(self->e.dev, NTSYNC_IOC_AGGREGATE_WAIT, &args)) {
			TH_LOG("pointer %u", i);
		}
		check_event(event, 0, 1);
	}
	EXPECT_EQ(-EFAULT, nt_ioctl(self->e.dev, NTSYNC_IOC_AGGREGATE_WAIT, NULL));
	EXPECT_EQ(-EFAULT, nt_ioctl(self->e.dev, NTSYNC_IOC_AGGREGATE_WAIT, p + size));
	check_event(event, 0, 1);

	/* the result cannot be stored: it took place */
	args.sources = (uintptr_t)src;
	args.nb_sources = 1;
	memcpy(p, &args, sizeof(args));
	ASSERT_EQ(0, mprotect(p, size, PROT_READ));
	EXPECT_EQ(-EFAULT, nt_ioctl(self->e.dev, NTSYNC_IOC_AGGREGATE_WAIT, p));
	check_event(event, 0, 0);
}

/* Every kind of source, ready before and while the wait sleeps. */
TEST_F_TIMEOUT(aggregate, alone, NT_TEST_TIMEOUT)
{
	struct agent *w = self->w;
	unsigned int k;

	for (k = 0; k < NB_KINDS; k++) {
		arrange(w, source_of(&self->e, k));
		EXPECT_EQ(-ETIMEDOUT, look(w));
		EXPECT_EQ(NONE, w->index);
		finds(w, k, 0);
		falls_asleep(w);
		wakes(w, k, 0);
		EXPECT_EQ(-ETIMEDOUT, look(w));
		EXPECT_EQ(NONE, w->index);
	}
	EXPECT_TRUE(in_no_queue(&self->e));
}

/* All are ready: one after the other by index, and only that one is consumed. */
TEST_F_TIMEOUT(aggregate, lowest_first, NT_TEST_TIMEOUT)
{
	unsigned int i, k, first, ready;
	struct agent *w = self->w;
	struct env *e = &self->e;

	for (first = 0; first < NB_KINDS; first++) {
		arrange_all(e, w, first);
		for (k = 0; k < NB_KINDS; k++)
			ASSERT_EQ(0, make_ready(e, k));
		ready = ALL_KINDS;
		for (i = 0; i < NB_KINDS; i++) {
			k = (first + i) % NB_KINDS;
			ASSERT_EQ(ret_of(k), look(w));
			check_report(w, k, i);
			ready &= ~(1U << k);
			EXPECT_EQ(ready | left_of(k), which_ready(e)) {
				TH_LOG("kind %u at %u", k, i);
			}
			ASSERT_EQ(0, put_back(e, k));
		}
		EXPECT_EQ(-ETIMEDOUT, look(w));
		EXPECT_EQ(NONE, w->index);
	}
}

/* Any one of them ends a wait for all kinds. */
TEST_F_TIMEOUT(aggregate, mixed, NT_TEST_TIMEOUT)
{
	struct agent *w = self->w;
	unsigned int i, first;

	for (first = 0; first < NB_KINDS; first++) {
		arrange_all(&self->e, w, first);
		for (i = 0; i < NB_KINDS; i++) {
			falls_asleep(w);
			wakes(w, (first + i) % NB_KINDS, i);
		}
	}
	EXPECT_TRUE(in_no_queue(&self->e));
}

/* Also more than fit without an allocation, and as many as there can be. */
TEST_F_TIMEOUT(aggregate, many, NT_TEST_TIMEOUT)
{
	static const unsigned int nb[] = { 2, 8, 9, 10, NTSYNC_MAX_SOURCES };
	int fds[NTSYNC_MAX_SOURCES];
	struct agent *w = self->w;
	unsigned int i, j, k;

	for (i = 0; i < NTSYNC_MAX_SOURCES; i++) {
		fds[i] = i % 3 == 1 ? eventfd(0, EFD_NONBLOCK) :
				      nt_create_event(self->e.dev, false, false);
		ASSERT_LE(0, fds[i]);
		w->src[i] = i % 3 == 1 ? in(fds[i]) : obj(fds[i]);
	}
	for (j = 0; j < ARRAY_LEN(nb); j++) {
		struct ntsync_source last = w->src[nb[j] - 1];

		w->nb = nb[j];
		for (k = 0; k < NB_KINDS; k++) {
			w->src[nb[j] - 1] = source_of(&self->e, k);
			finds(w, k, nb[j] - 1);
			falls_asleep(w);
			wakes(w, k, nb[j] - 1);
		}
		w->src[nb[j] - 1] = last;
	}
	/* it is in none of the queues */
	for (i = 0; i < NTSYNC_MAX_SOURCES; i++) {
		if (i % 3 == 1) {
			EXPECT_EQ(0, raise_fd(fds[i]));
		} else {
			EXPECT_EQ(0, set(fds[i]));
			check_event(fds[i], 0, 1);
		}
	}
}

TEST_F_TIMEOUT(aggregate, same_twice, NT_TEST_TIMEOUT)
{
	struct env *e = &self->e;
	struct agent *w = self->w;
	unsigned int k;

	for (k = 0; k < NB_KINDS; k++) {
		arrange(w, obj(e->never), source_of(e, k), in(e->never_fd), source_of(e, k));
		finds(w, k, 1);
		falls_asleep(w);
		wakes(w, k, 1);
	}

	/* there is more than one to be taken */
	arrange(w, source_of(e, SEM), source_of(e, SEM));
	ASSERT_EQ(0, nt_release_sem(e->obj[SEM], 2, NULL));
	EXPECT_EQ(0, look(w));
	check_report(w, SEM, 0);
	check_sem(e->obj[SEM], 1, 3);
	ASSERT_EQ(0, put_back(e, SEM));
	falls_asleep(w);
	ASSERT_EQ(0, nt_release_sem(e->obj[SEM], 2, NULL));
	reports(w, SEM, 0);
	check_sem(e->obj[SEM], 1, 3);

	/* one descriptor for two purposes */
	arrange(w, desc(e->never_fd, POLLPRI), desc(e->never_fd, POLLOUT | POLLIN));
	EXPECT_EQ(0, look(w));
	EXPECT_EQ(1U, w->index);
	EXPECT_EQ((__u32)POLLOUT, w->events);
}

static const clockid_t clocks[] = { CLOCK_MONOTONIC, CLOCK_REALTIME };

/* One that is over still looks at every source. None is early, or consumes anything. */
TEST_F_TIMEOUT(aggregate, timeout, NT_TEST_TIMEOUT)
{
	struct agent *w = self->w;
	unsigned int i, k;
	__u64 timeout;

	arrange_all(&self->e, w, 0);
	for (i = 0; i < 6; i++) {
		w->flags = i & 1;
		timeout = i < 4 ? i / 2 : nt_now(clocks[i & 1]) - 1;
		EXPECT_EQ(-ETIMEDOUT, agg_wait(w, timeout));
		EXPECT_EQ(NONE, w->index);
		for (k = 0; k < NB_KINDS; k++) {
			ASSERT_EQ(0, make_ready(&self->e, k));
			EXPECT_EQ(ret_of(k), agg_wait(w, timeout));
			check_report(w, k, k);
			ASSERT_EQ(0, put_back(&self->e, k));
		}
		timeout = nt_now(clocks[i & 1]) + i * 200000;
		EXPECT_EQ(-ETIMEDOUT, agg_wait(w, timeout));
		EXPECT_LE(timeout, nt_now(clocks[i & 1]));
		EXPECT_EQ(NONE, w->index);
	}
	EXPECT_TRUE(in_no_queue(&self->e));
}

TEST_F_TIMEOUT(aggregate, timeout_far, NT_TEST_TIMEOUT)
{
	static const __u64 far[] = { NT_BOUND_NSEC, 1ULL << 60, UINT64_MAX };
	struct agent *w = self->w;
	unsigned int i, k;

	arrange_all(&self->e, w, 0);
	for (i = 0; i < 2 * ARRAY_LEN(far); i++) {
		w->flags = i & 1;
		w->p.a.timeout = far[i / 2];
		if (far[i / 2] != UINT64_MAX)
			w->p.a.timeout += nt_now(clocks[i & 1]);
		for (k = 0; k < NB_KINDS; k++) {
			falls_asleep(w);
			wakes(w, k, k);
		}
	}
}

static atomic_uint handled;

static void count_signal(int sig)
{
	(void)sig;
	atomic_fetch_add(&handled, 1);
}

static int catch_signal(int flags)
{
	struct sigaction sa = { .sa_handler = count_signal, .sa_flags = flags };

	atomic_store(&handled, 0);
	return sigaction(SIGUSR1, &sa, NULL) ? -errno : 0;
}

TEST_F_TIMEOUT(aggregate, interrupted, NT_TEST_TIMEOUT)
{
	struct agent *w = self->w;

	ASSERT_EQ(0, catch_signal(0));
	arrange_all(&self->e, w, 0);
	falls_asleep(w);
	ASSERT_EQ(0, kick(w));
	ends(w, -EINTR, NT_POISON);
	EXPECT_EQ(1U, atomic_load(&handled));
	EXPECT_TRUE(in_no_queue(&self->e));
}

TEST_F_TIMEOUT(aggregate, restarted, NT_TEST_TIMEOUT)
{
	struct agent *w = self->w;
	unsigned int i, k, n = 0;

	ASSERT_EQ(0, catch_signal(SA_RESTART));
	arrange_all(&self->e, w, 0);
	for (k = 0; k < NB_KINDS; k++) {
		falls_asleep(w);
		for (i = 0; i < 3; i++) {
			ASSERT_EQ(0, kick(w));
			n++;
			ASSERT_TRUE(poll_until(atomic_load(&handled) == n));
			still_asleep(w);
		}
		wakes(w, k, k);
	}
	/* and the timeout is the same */
	w->p.a.timeout = nt_now(CLOCK_MONOTONIC) + NT_NSEC_PER_SEC / 2;
	falls_asleep(w);
	ASSERT_EQ(0, kick(w));
	ends(w, -ETIMEDOUT, NONE);
	EXPECT_TRUE(in_no_queue(&self->e));
}

/* A process of its own. */
struct child {
	atomic_int tid;
	atomic_uint done;	/* it has come back from its wait */
	atomic_uint go;		/* to its end */
	int ret;
	__u32 index;
};

static struct child *new_child(void)
{
	void *p = mmap(NULL, sizeof(struct child), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		abort();
	return p;
}

static pid_t fork_waiter(struct child *c, struct agent *g, int prio, bool exec)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	c->ret = set_sched(0, prio ? SCHED_FIFO : SCHED_OTHER, prio);
	atomic_store(&c->tid, getpid());
	if (!c->ret)
		c->ret = agg_wait(g, nt_bound());
	c->index = g->index;
	atomic_store(&c->done, 1);
	poll_until(atomic_load(&c->go));
	if (exec) {
		setenv(HOLD_VAR, "1", 1);
		execl("/proc/self/exe", "hold", NULL);
	}
	_exit(0);
}

static bool reap(pid_t pid)
{
	int status;

	return poll_until(waitpid(pid, &status, WNOHANG) == pid);
}

static bool stop(pid_t pid)
{
	int status;

	return !kill(pid, SIGSTOP) &&
	       poll_until(waitpid(pid, &status, WNOHANG | WUNTRACED) == pid) &&
	       WIFSTOPPED(status);
}

TEST_F_TIMEOUT(aggregate, stopped_and_killed, NT_TEST_TIMEOUT)
{
	struct agent *w = self->w;
	struct env *e = &self->e;
	unsigned int i;

	arrange_all(e, w, 0);
	for (i = 0; i < 2; i++) {
		struct child *c = new_child();
		pid_t pid = fork_waiter(c, w, 0, false);

		ASSERT_LT(0, pid);
		ASSERT_TRUE(nt_task_asleep(pid, &c->tid, &c->done));
		ASSERT_TRUE(stop(pid));
		ASSERT_EQ(0, kill(pid, SIGCONT));
		ASSERT_TRUE(nt_task_asleep(pid, &c->tid, &c->done));
		ASSERT_TRUE(stop(pid));
		if (i) {
			ASSERT_EQ(0, kill(pid, SIGKILL));
		} else {
			ASSERT_EQ(0, make_ready(e, FD));
			ASSERT_EQ(0, kill(pid, SIGCONT));
			ASSERT_TRUE(poll_until(atomic_load(&c->done)));
			EXPECT_EQ(0, c->ret);
			EXPECT_EQ((__u32)FD, c->index);
			atomic_store(&c->go, 1);
			ASSERT_EQ(0, put_back(e, FD));
		}
		ASSERT_TRUE(reap(pid));
		EXPECT_TRUE(in_no_queue(e));
	}
}

/* What is closed is waited for on, also when its number gets another meaning. */
TEST_F_TIMEOUT(aggregate, closed, NT_TEST_TIMEOUT)
{
	int event, fd, ready = eventfd(1, 0);
	struct agent *w = self->w;
	struct env *e = &self->e;
	unsigned int k;

	for (k = 0; k < 2 * NB_KINDS; k++) {
		arrange(w, obj(e->never), source_of(e, k / 2));
		fd = dup(e->obj[k / 2]);
		ASSERT_LE(0, fd);
		w->src[1].fd = fd;
		falls_asleep(w);
		ASSERT_LE(0, k & 1 ? dup2(ready, fd) : close(fd));
		still_asleep(w);
		wakes(w, k / 2, 1);
		if (k & 1)
			close(fd);
	}

	/* and when there is no other descriptor */
	event = nt_create_event(e->dev, false, false);
	ASSERT_LE(0, event);
	fd = eventfd(0, 0);
	ASSERT_LE(0, fd);
	waits(w, obj(event), in(fd), source_of(e, AUTO));
	ASSERT_EQ(0, close(event));
	ASSERT_EQ(0, close(fd));
	still_asleep(w);
	wakes(w, AUTO, 2);
}

/* Which one gets it does not matter, but nobody else. */
TEST_F_TIMEOUT(aggregate, with_wait_all, NT_TEST_TIMEOUT)
{
	struct agent *w = self->w, *all = self->w2;
	struct env *e = &self->e;
	unsigned int i;

	all->p.a.objs[0] = e->obj[AUTO];
	all->p.a.objs[1] = e->obj[SEM];
	all->p.a.nb_objs = 2;
	all->p.a.all = true;
	for (i = 0; i < 100; i++) {
		waits(w, source_of(e, FD), source_of(e, AUTO));
		actor_begin(&all->p.a, do_wait);
		ASSERT_TRUE(actor_asleep(&all->p.a));
		if (i & 1) {
			ASSERT_EQ(0, make_ready(e, SEM));
			ASSERT_EQ(0, make_ready(e, AUTO));
			ASSERT_TRUE(poll_until(is_done(w) || is_done(all)));
		} else {
			/* not yet all of them */
			wakes(w, AUTO, 1);
			ASSERT_TRUE(actor_asleep(&all->p.a));
			ASSERT_EQ(0, make_ready(e, SEM));
		}
		if (is_done(all)) {
			still_asleep(w);
			EXPECT_EQ(0U, which_ready(e));
			wakes(w, AUTO, 1);
		} else {
			ASSERT_TRUE(actor_asleep(&all->p.a));
			EXPECT_EQ(1U << SEM, which_ready(e));
			ASSERT_EQ(0, make_ready(e, AUTO));
		}
		ASSERT_EQ(0, actor_end(&w->p.a));
		ASSERT_EQ(0, actor_end(&all->p.a));
		EXPECT_EQ(0U, which_ready(e));
	}
}

/* A channel is closed by its only process, and a descriptor comes back too late. */
TEST_F_TIMEOUT(aggregate, closed_is_ready, NT_TEST_TIMEOUT)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { .buf = { 0 } };
	struct iovec iov = { .iov_base = &(char){ 0 }, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.buf, .msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	struct ntsync_channel_recv2_args req;
	int ch = ch_create(self->e.dev, 1), sock[2], ret;
	struct agent *w = self->w;

	ASSERT_LE(0, ch);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sock));
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &ch, sizeof(int));
	ASSERT_EQ(1, sendmsg(sock[0], &msg, 0));
	waits(w, obj(ch));
	ASSERT_EQ(0, close(ch));
	ASSERT_EQ(0, actor_end(&w->p.a));
	check_report(w, CHANNEL, 0);
	ASSERT_EQ(1, recvmsg(sock[1], &msg, MSG_CMSG_CLOEXEC));
	memcpy(&ch, CMSG_DATA(CMSG_FIRSTHDR(&msg)), sizeof(int));
	arrange(w, obj(ch), source_of(&self->e, AUTO));
	ASSERT_EQ(0, set(self->e.obj[AUTO]));
	EXPECT_EQ(0, look(w));
	check_report(w, CHANNEL, 0);
	check_event(self->e.obj[AUTO], 0, 1);
	EXPECT_EQ(-EPIPE, ch_recv2(ch, &req));
	ret = ch_try_recv2(ch, &req);
	EXPECT_EQ(ret == -ENOTTY ? -ENOTTY : -EPIPE, ret);
}

static atomic_uint stopped, taken;

/* Take what there is, until it is told to stop. What is asked for is the first source. */
static int do_take_all(struct actor *a)
{
	struct agent *g = (struct agent *)a;
	int ret = 0;

	while (!ret && !atomic_load(&stopped)) {
		ret = agg_wait(g, nt_bound());
		if (!ret && g->events && !drain(g->src[g->index].fd))
			ret = -EAGAIN;
		atomic_fetch_add(&taken, 1);
		nt_futex_wake(&taken);
	}
	return ret;
}

/* Wake-ups from another CPU, at all moments. None is lost. */
TEST_F_TIMEOUT(aggregate, wakeups, NT_TEST_TIMEOUT)
{
	static const enum kind kinds[] = { FD, AUTO, SEM };
	unsigned int i, seed = 1, n = nt_scaled(NB_WAKEUPS);
	bool smp = nt_cpu_count() > 1;
	struct agent *w = self->w;
	struct env *e = &self->e;
	__u64 deadline, until;

	arrange(w, source_of(e, SEM), source_of(e, FD), source_of(e, AUTO));
	actor_begin(&w->p.a, do_take_all);
	deadline = nt_now(CLOCK_MONOTONIC) + 2 * BUDGET_NSEC;
	for (i = 0; i < n && nt_now(CLOCK_MONOTONIC) < deadline; i++) {
		ASSERT_EQ(0, make_ready(e, kinds[rnd(&seed, ARRAY_LEN(kinds))]));
		until = nt_now(CLOCK_MONOTONIC) + (smp ? 20000 : 0);
		while (atomic_load(&taken) <= i && nt_now(CLOCK_MONOTONIC) < until)
			;
		ASSERT_TRUE(nt_await(&taken, i + 1)) {
			TH_LOG("wake-up %u is lost", i);
		}
		/* it is on its way to sleep, or there */
		until = nt_now(CLOCK_MONOTONIC) + rnd(&seed, smp ? 20000 : 1);
		while (nt_now(CLOCK_MONOTONIC) < until)
			;
	}
	atomic_store(&stopped, 1);
	ASSERT_EQ(0, make_ready(e, FD));
	ASSERT_EQ(0, actor_end(&w->p.a));
	EXPECT_EQ(0U, which_ready(e) & ~(1U << FD));
	TH_LOG("%u of %u wake-ups", i, n);
}

/*
 * A wait that is claimed again and again by a descriptor that is no more readable when it looks,
 * while it is one of more waiters than are woken at once. What it is granted between a claim and
 * its next look must find it on the list of its waker only.
 */
#define NB_CROWD	24

struct crowd {
	pthread_t thread;
	int dev;
	int sem;
	int ret;
};

static void *crowd_thread(void *arg)
{
	struct crowd *c = arg;

	/* In front of the other one, whenever they come */
	c->ret = set_sched(0, SCHED_FIFO, 1);
	while (!c->ret && !atomic_load(&stopped)) {
		struct nt_wait w = {
			.dev = c->dev, .objs = &c->sem, .count = 1, .owner = 1,
		};

		c->ret = nt_wait(&w);
	}
	return NULL;
}

/* As do_take_all(), but another one may have been faster. */
static int do_take_some(struct actor *a)
{
	struct agent *g = (struct agent *)a;
	int ret = 0;

	while (!ret && !atomic_load(&stopped))
		ret = agg_wait(g, nt_bound());
	return ret;
}

static void *spurious_thread(void *arg)
{
	int fd = *(int *)arg;

	while (!atomic_load(&stopped)) {
		raise_fd(fd);
		drain(fd);
	}
	return NULL;
}

TEST_F_TIMEOUT(aggregate, one_of_a_crowd, NT_TEST_TIMEOUT)
{
	struct crowd crowd[NB_CROWD] = { 0 };
	struct ntsync_sem_args count;
	struct agent *w = self->w;
	struct env *e = &self->e;
	unsigned int i, seed = 1;
	int sem = nt_create_sem(e->dev, 0, INT_MAX);
	pthread_t spurious;
	__u64 until;

	ASSERT_LE(0, sem);
	for (i = 0; i < NB_CROWD; i++) {
		crowd[i].dev = e->dev;
		crowd[i].sem = sem;
		ASSERT_EQ(0, pthread_create(&crowd[i].thread, NULL, crowd_thread, &crowd[i]));
	}
	ASSERT_EQ(0, move_to(tid_of(w), -1));
	arrange(w, source_of(e, FD), obj(sem));
	actor_begin(&w->p.a, do_take_some);
	ASSERT_EQ(0, pthread_create(&spurious, NULL, spurious_thread, &e->obj[FD]));

	until = nt_now(CLOCK_MONOTONIC) + nt_scaled(2000) * 1000000ULL;
	while (nt_now(CLOCK_MONOTONIC) < until) {
		/* One for each. */
		ASSERT_EQ(0, nt_ioctl(sem, NTSYNC_IOC_SEM_READ, &count));
		if (count.count <= NB_CROWD)
			ASSERT_EQ(0, nt_release_sem(sem, NB_CROWD + 1 - count.count, NULL));
		nt_sleep_until(CLOCK_MONOTONIC,
			       nt_now(CLOCK_MONOTONIC) + 100000 + rnd(&seed, 300000));
	}

	atomic_store(&stopped, 1);
	ASSERT_EQ(0, nt_release_sem(sem, 2 * NB_CROWD, NULL));
	for (i = 0; i < NB_CROWD; i++) {
		ASSERT_EQ(0, pthread_join(crowd[i].thread, NULL));
		EXPECT_EQ(0, crowd[i].ret);
	}
	ASSERT_EQ(0, pthread_join(spurious, NULL));
	ASSERT_EQ(0, raise_fd(e->obj[FD]));
	ASSERT_EQ(0, actor_end(&w->p.a));
	close(sem);
}

static atomic_uint served;

static int do_serve(struct actor *a)
{
	struct agent *g = (struct agent *)a;
	int ret;

	for (;;) {
		ret = agg_wait(g, nt_bound());
		if (ret || !g->index)
			return ret;
		ret = do_try_recv(a);
		if (ret == -EAGAIN)
			continue;
		if (!ret)
			ret = ch_reply(a->objs[0], g->p.req.entry_id);
		if (ret)
			return ret;
		atomic_fetch_add(&served, 1);
	}
}

static int do_send_many(struct actor *a)
{
	unsigned int i, n = nt_scaled(NB_REQUESTS);
	int ret = 0;

	for (i = 0; i < n && !ret; i++)
		ret = do_send(a);
	return ret;
}

/* Two dispatchers, and senders on all CPUs: every request is served, and once. */
TEST_F_TIMEOUT(aggregate, dispatchers, NT_TEST_TIMEOUT)
{
	struct agent *g = self->e.g;
	unsigned int i;

	need_ioctl(self->e.dev, NTSYNC_IOC_CHANNEL_TRY_RECV2);
	for (i = 0; i < NB_AGENTS; i++) {
		ASSERT_EQ(0, move_to(tid_of(&g[i]), -1));
		g[i].p.a.objs[0] = self->e.obj[CHANNEL];
		arrange(&g[i], source_of(&self->e, FD), source_of(&self->e, CHANNEL));
		actor_begin(&g[i].p.a, i < 2 ? do_serve : do_send_many);
	}
	for (i = 2; i < NB_AGENTS; i++)
		ASSERT_EQ(0, actor_end(&g[i].p.a));
	ASSERT_EQ(0, raise_fd(self->e.obj[FD]));
	for (i = 0; i < 2; i++)
		ASSERT_EQ(0, actor_end(&g[i].p.a));
	EXPECT_EQ((NB_AGENTS - 2) * nt_scaled(NB_REQUESTS), atomic_load(&served));
}

/*
 * Descriptors of many kinds: [0] is waited for, and something done to [1] makes it ready.
 */

static pid_t the_child;
static char the_dir[] = "/tmp/ntsync-agg-XXXXXX";

static int make_eventfd(int *fd)
{
	fd[0] = eventfd(0, 0);
	fd[1] = dup(fd[0]);
	return fd[1];
}

static int make_pipe(int *fd)
{
	return pipe2(fd, O_NONBLOCK);
}

static int make_pipe_turned(int *fd)
{
	int tmp[2], ret = make_pipe(tmp);

	fd[0] = tmp[1];
	fd[1] = tmp[0];
	return ret;
}

static int make_socket(int *fd)
{
	return socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd);
}

static int fill(int fd)
{
	static const char buf[4096];

	while (write(fd, buf, sizeof(buf)) > 0)
		;
	return errno == EAGAIN ? 0 : -1;
}

static int make_pipe_full(int *fd)
{
	return make_pipe_turned(fd) ? -1 : fill(fd[0]);
}

static int make_socket_full(int *fd)
{
	return make_socket(fd) ? -1 : fill(fd[0]);
}

static int make_timer(int *fd)
{
	fd[0] = timerfd_create(CLOCK_MONOTONIC, 0);
	fd[1] = dup(fd[0]);
	return fd[1];
}

static int make_epoll(int *fd)
{
	struct epoll_event event = { .events = EPOLLIN };

	fd[0] = epoll_create1(0);
	fd[1] = eventfd(0, 0);
	return epoll_ctl(fd[0], EPOLL_CTL_ADD, fd[1], &event);
}

static int make_pidfd(int *fd)
{
	the_child = fork();
	if (!the_child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	fd[0] = syscall(SYS_pidfd_open, the_child, 0);
	return fd[0];
}

static int make_inotify(int *fd)
{
	if (!mkdtemp(the_dir))
		return -1;
	fd[0] = inotify_init1(IN_NONBLOCK);
	if (fd[0] < 0)
		return -1;
	return inotify_add_watch(fd[0], the_dir, IN_ATTRIB);
}

enum fire { WRITE, READ, CLOSE, SHUTDOWN, TIMER, KILL, CHMOD };

static int fire(enum fire how, int *fd)
{
	struct itimerspec when = { .it_value.tv_nsec = 1000000 };
	static char buf[4096];
	__u64 one = 1;

	switch (how) {
	case WRITE:
		return write(fd[1], &one, sizeof(one)) == sizeof(one) ? 0 : -1;
	case READ:
		while (read(fd[1], buf, sizeof(buf)) > 0)
			;
		return errno == EAGAIN ? 0 : -1;
	case CLOSE:
		return close(fd[1]);
	case SHUTDOWN:
		return shutdown(fd[1], SHUT_WR);
	case TIMER:
		return timerfd_settime(fd[1], 0, &when, NULL);
	case KILL:
		return kill(the_child, SIGKILL);
	case CHMOD:
		return chmod(the_dir, 0711);
	}
	return -1;
}

FIXTURE(aggregate_fd) {
	struct env e;
	struct agent *w;
	int fd[2];
};

FIXTURE_VARIANT(aggregate_fd) {
	int (*make)(int *fd);
	enum fire fire;
	__u32 events;
	__u32 fired;		/* 0: it is not woken */
};

FIXTURE_VARIANT_ADD(aggregate_fd, eventfd) { make_eventfd, WRITE, POLLIN, POLLIN };
FIXTURE_VARIANT_ADD(aggregate_fd, pipe) { make_pipe, WRITE, POLLIN, POLLIN };
FIXTURE_VARIANT_ADD(aggregate_fd, pipe_without_writer) { make_pipe, CLOSE, POLLIN, POLLHUP };
FIXTURE_VARIANT_ADD(aggregate_fd, pipe_hup_unasked) { make_pipe, CLOSE, 0, POLLHUP };
FIXTURE_VARIANT_ADD(aggregate_fd, pipe_err_unasked) { make_pipe_turned, CLOSE, POLLIN, POLLERR };
FIXTURE_VARIANT_ADD(aggregate_fd, pipe_writable) { make_pipe_full, READ, POLLOUT, POLLOUT };
FIXTURE_VARIANT_ADD(aggregate_fd, socket) { make_socket, WRITE, POLLIN | POLLRDHUP, POLLIN };
FIXTURE_VARIANT_ADD(aggregate_fd, socket_hup_unasked) { make_socket, CLOSE, 0, POLLHUP };
FIXTURE_VARIANT_ADD(aggregate_fd, socket_end) { make_socket, SHUTDOWN, POLLRDHUP, POLLRDHUP };
FIXTURE_VARIANT_ADD(aggregate_fd, socket_writable) {
	make_socket_full, READ, POLLIN | POLLOUT, POLLOUT
};
FIXTURE_VARIANT_ADD(aggregate_fd, timerfd) { make_timer, TIMER, POLLIN, POLLIN };
FIXTURE_VARIANT_ADD(aggregate_fd, epoll) { make_epoll, WRITE, POLLIN, POLLIN };
FIXTURE_VARIANT_ADD(aggregate_fd, pidfd) { make_pidfd, KILL, POLLIN, POLLIN };
FIXTURE_VARIANT_ADD(aggregate_fd, inotify) { make_inotify, CHMOD, POLLIN, POLLIN };
FIXTURE_VARIANT_ADD(aggregate_fd, nothing_asked) { make_eventfd, WRITE, 0, 0 };
FIXTURE_VARIANT_ADD(aggregate_fd, pipe_writable_unasked) { make_pipe_full, READ, POLLIN, 0 };
FIXTURE_VARIANT_ADD(aggregate_fd, socket_writable_unasked) {
	make_socket_full, READ, POLLIN | POLLPRI, 0
};
FIXTURE_VARIANT_ADD(aggregate_fd, socket_readable_unasked) {
	make_socket_full, WRITE, POLLOUT | POLLPRI, 0
};

FIXTURE_SETUP(aggregate_fd)
{
	open_device(self->e.dev);
	need_aggregate(self->e.dev);
	setup_smp(_metadata, &self->e);
	self->w = &self->e.g[0];
}

FIXTURE_TEARDOWN(aggregate_fd)
{
	if (the_child > 0) {
		kill(the_child, SIGKILL);
		EXPECT_TRUE(reap(the_child));
	}
	rmdir(the_dir);
}

/* Becoming ready while the wait sleeps, and being so before; reported as by poll(). */
TEST_F_TIMEOUT(aggregate_fd, becomes_ready, NT_TEST_TIMEOUT)
{
	struct agent *w = self->w;
	struct pollfd pfd;
	int ret = variant->make(self->fd);

	if (ret < 0)
		SKIP(return, "no such descriptor: %s", strerror(errno));
	pfd = (struct pollfd){ .fd = self->fd[0], .events = variant->events };
	arrange(w, obj(self->e.obj[AUTO]), desc(self->fd[0], variant->events));
	EXPECT_EQ(-ETIMEDOUT, look(w));
	falls_asleep(w);
	ASSERT_EQ(0, fire(variant->fire, self->fd));
	if (variant->fired) {
		ends(w, 0, 1);
		EXPECT_EQ(variant->fired, w->events);
		EXPECT_EQ(1, poll(&pfd, 1, 0));
		EXPECT_EQ(w->events, (__u32)pfd.revents & 0xffff);
		/* it has stayed as it was */
		EXPECT_EQ(0, look(w));
		EXPECT_EQ(1U, w->index);
		EXPECT_EQ(variant->fired, w->events);
		/* and does not hide what comes first */
		finds(w, AUTO, 0);
	} else {
		/* what wakes it has done so by now */
		still_asleep(w);
		EXPECT_EQ(0, poll(&pfd, 1, 0));
		wakes(w, AUTO, 0);
		EXPECT_EQ(-ETIMEDOUT, look(w));
	}
}

/*
 * Something becomes ready just when the wait ends otherwise. What it reports must be what
 * happened. The moment is swept, as in grant_race.c, so that most races are close ones.
 */

enum how { TIMEOUT, SIGNAL, DESCRIPTOR };

FIXTURE(aggregate_race) {
	struct env e;
	struct agent *w;
};

FIXTURE_VARIANT(aggregate_race) {
	enum how how;
	enum kind kind;
	bool last;		/* the object is behind the descriptor */
};

FIXTURE_VARIANT_ADD(aggregate_race, event_timeout) { TIMEOUT, AUTO, true };
FIXTURE_VARIANT_ADD(aggregate_race, mutex_timeout) { TIMEOUT, MUTEX, false };
FIXTURE_VARIANT_ADD(aggregate_race, event_signal) { SIGNAL, AUTO, true };
FIXTURE_VARIANT_ADD(aggregate_race, event_descriptor) { DESCRIPTOR, AUTO, false };
FIXTURE_VARIANT_ADD(aggregate_race, descriptor_event) { DESCRIPTOR, AUTO, true };

FIXTURE_SETUP(aggregate_race)
{
	open_device(self->e.dev);
	need_aggregate(self->e.dev);
	setup_smp(_metadata, &self->e);
	self->w = &self->e.g[0];
	prctl(PR_SET_TIMERSLACK, 1);
}

FIXTURE_TEARDOWN(aggregate_race)
{
}

static int do_race(struct actor *a)
{
	struct agent *g = (struct agent *)a;
	int ret = agg_wait(g, a->timeout);

	g->end = nt_now(CLOCK_MONOTONIC);
	return ret;
}

/* On a single CPU the waiter has to run meanwhile. */
static void wait_until(bool smp, __u64 when)
{
	if (!smp)
		nt_sleep_until(CLOCK_MONOTONIC, when);
	while (nt_now(CLOCK_MONOTONIC) < when)
		;
}

TEST_F_TIMEOUT(aggregate_race, grant, NT_RACE_TIMEOUT)
{
	static const char *const instead[] = { "timed out", "interrupted", "descriptor" };
	unsigned int i, n, granted = 0, seed = 1;
	__u64 lead = 100000, deadline, when, released;
	bool smp = nt_cpu_count() > 1, got, last = false;
	const enum how how = variant->how;
	__s64 offset = 0, step = 20000;
	struct agent *w = self->w;
	struct env *e = &self->e;

	ASSERT_EQ(0, catch_signal(0));
	arrange(w, source_of(e, variant->kind), source_of(e, FD));
	if (variant->last)
		arrange(w, source_of(e, FD), source_of(e, variant->kind));
	nt_limit_races();
	n = nt_plan_races(NB_RACES, BUDGET_NSEC, &deadline);
	for (i = 0; i < n && nt_now(CLOCK_MONOTONIC) < deadline; i++) {
		when = nt_now(CLOCK_MONOTONIC) + lead + rnd(&seed, lead);
		w->p.a.timeout = how == TIMEOUT ? when : nt_bound();
		actor_begin(&w->p.a, do_race);
		ASSERT_TRUE(poll_until(atomic_load(&w->p.a.entered) == atomic_load(&w->p.a.cmd)));
		/* mostly it is asleep when the time comes */
		if (nt_now(CLOCK_MONOTONIC) + lead / 4 > when && lead < 5000000)
			lead += lead / 4;
		else if (lead > 20000)
			lead -= lead / 64;
		if (how != TIMEOUT && offset < 0)
			offset = 0;
		wait_until(smp, how == TIMEOUT ? when + offset : when);
		if (how == SIGNAL)
			ASSERT_EQ(0, kick(w));
		if (how == DESCRIPTOR)
			ASSERT_EQ(0, make_ready(e, FD));
		if (how != TIMEOUT)
			wait_until(smp, nt_now(CLOCK_MONOTONIC) + offset);
		ASSERT_EQ(0, make_ready(e, variant->kind));
		released = nt_now(CLOCK_MONOTONIC);
		ASSERT_NE(-EBUSY, actor_end(&w->p.a));

		got = w->index == variant->last;
		if (!got && how == DESCRIPTOR) {
			ASSERT_EQ(0, w->p.a.ret);
			ASSERT_EQ((__u32)!variant->last, w->index);
		} else if (!got) {
			ASSERT_EQ(how == TIMEOUT ? -ETIMEDOUT : -EINTR, w->p.a.ret);
		} else {
			ASSERT_EQ(0, w->p.a.ret);
		}
		if (how == TIMEOUT && !got) {
			ASSERT_EQ(NONE, w->index);
			ASSERT_LE(when, w->end);
			/* what is there before it is taken */
			ASSERT_LE(when, released);
		}
		ASSERT_EQ(!got, is_ready(e, variant->kind)) {
			TH_LOG("race %u: returned %d, index %#x", i, w->p.a.ret, w->index);
		}
		if (variant->kind == MUTEX)
			ASSERT_EQ(got ? (__u32)OWNER : 0, nt_mutex_owner(e->obj[MUTEX]));
		ASSERT_EQ(0, put_back(e, variant->kind));
		ASSERT_EQ(0, put_back(e, FD));

		/* later after a grant, earlier after the other; finer where it changes */
		granted += got;
		step = got == last ? step + step / 2 : step / 2;
		step = step < 100 ? 100 : step > 100000 ? 100000 : step;
		last = got;
		offset += (got ? step : -step) + (__s64)rnd(&seed, 201) - 100;
		offset = offset < -1000000 ? -1000000 : offset > 1000000 ? 1000000 : offset;
	}
	TH_LOG("%s, %s: %u of %u races: %u granted, %u %s",
	       variant->kind == MUTEX ? "mutex" : "event", variant->last ? "last" : "first",
	       i, n, granted, i - granted, instead[how]);
	/* the descriptor of lower index was ready before: it wins but in the closest races */
	if (i == n && n >= 100 && smp && (how != DESCRIPTOR || !variant->last)) {
		EXPECT_LE(n / 50, granted);
		EXPECT_LE(n / 50, n - granted);
	}
}

/*
 * A wait that does not run between its look and the end of its time: see fastpath.c. What is
 * there before the time is over is reported, although the wait finds out only afterwards.
 *
 * It looks when it begins, and again when a descriptor has ended its sleep that was drained then:
 * in two ways, depending on whether an object follows the descriptor.
 */

enum phase { AT_ONCE, CLAIMED, TOLD };

FIXTURE(aggregate_suspended) {
	struct env e;
	struct agent *w;
};

FIXTURE_VARIANT(aggregate_suspended) {
	enum phase phase;
};

FIXTURE_VARIANT_ADD(aggregate_suspended, at_once) { AT_ONCE };
FIXTURE_VARIANT_ADD(aggregate_suspended, claimed) { CLAIMED };
FIXTURE_VARIANT_ADD(aggregate_suspended, told) { TOLD };

FIXTURE_SETUP(aggregate_suspended)
{
	begin_rt(self->e.dev);
	need_aggregate(self->e.dev);
	setup_env(_metadata, &self->e);
	self->w = &self->e.g[0];
}

FIXTURE_TEARDOWN(aggregate_suspended)
{
}

static long sleeps(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_THREAD, &usage) ? -1 : usage.ru_nvcsw;
}

static int do_suspended(struct actor *a)
{
	struct agent *g = (struct agent *)a;
	long before = sleeps();
	int ret = agg_wait(g, a->timeout);

	g->sleeps = sleeps() - before;
	return ret;
}

TEST_F_TIMEOUT(aggregate_suspended, in_time, NT_RACE_TIMEOUT)
{
	__u64 deadline, when, fire, signaled, settle = 200000, margin = 100000;
	unsigned int i, n, delay, late = 0, awake = 0, seed = 1;
	const bool told = variant->phase == TOLD;
	const long once = variant->phase != AT_ONCE;
	const enum kind k = told ? FD : AUTO;
	__u64 first = 5000, last = 100000, step;
	struct agent *w = self->w;
	struct env *e = &self->e;

	/* what becomes ready, and then what takes long to look at and is not */
	arrange(w, source_of(e, AUTO), source_of(e, FD));
	if (told)
		w->src[0] = obj(e->never);
	for (i = w->nb; i < NTSYNC_MAX_SOURCES; i++) {
		int fd = told ? eventfd(0, EFD_NONBLOCK) : nt_create_event(e->dev, true, false);

		ASSERT_LE(0, fd);
		w->src[i] = told ? in(fd) : obj(fd);
	}
	w->nb = NTSYNC_MAX_SOURCES;

	nt_limit_races();
	n = nt_plan_races(NB_SUSPENDED, BUDGET_NSEC, &deadline);
	for (i = 0; i < n && nt_now(CLOCK_MONOTONIC) < deadline; i++) {
		delay = rnd(&seed, last - first);
		when = nt_now(CLOCK_MONOTONIC) + (once ? settle : 0);
		fire = when + first + delay;
		w->p.a.timeout = fire + margin;
		actor_begin(&w->p.a, do_suspended);
		if (once) {
			/* mostly it is asleep then; it does not run before the next sleep */
			nt_sleep_until(CLOCK_MONOTONIC, when);
			ASSERT_EQ(0, raise_fd(e->obj[FD]));
			ASSERT_EQ(1U, drain(e->obj[FD]));
			first += (nt_now(CLOCK_MONOTONIC) - when) / 8;
			first -= first / 8;
			if (first > 5000000)
				first = 5000000;
		}
		nt_sleep_until(CLOCK_MONOTONIC, fire);
		ASSERT_EQ(0, make_ready(e, k));
		signaled = nt_now(CLOCK_MONOTONIC);
		while (nt_now(CLOCK_MONOTONIC) < w->p.a.timeout)
			;
		ASSERT_NE(-EBUSY, actor_end(&w->p.a));

		if (signaled < w->p.a.timeout) {
			ASSERT_EQ(0, w->p.a.ret) {
				TH_LOG("wait %u: ready %llu ns before the end", i,
				       (unsigned long long)(w->p.a.timeout - signaled));
			}
			awake += w->sleeps == once;
		} else {
			ASSERT_TRUE(!w->p.a.ret || w->p.a.ret == -ETIMEDOUT);
			late++;
		}
		ASSERT_EQ(w->p.a.ret ? NONE : told, w->index);
		ASSERT_EQ(told && !w->p.a.ret ? (__u32)POLLIN : 0, w->events);
		ASSERT_EQ(told || w->p.a.ret, is_ready(e, k));
		ASSERT_EQ(0, put_back(e, k));

		/* to where it just sleeps, or sleeps again */
		step = (last - first) / 16 + 200;
		if (w->sleeps <= once)
			last += step;
		else
			last -= last > 4 * step ? 4 * step : last;
		if (last > 5000000)
			last = 5000000;
		if (last < first + 2000)
			last = first + 2000;
		if (once && !w->sleeps)
			settle = settle < 5000000 ? settle + settle / 4 : settle;
		else if (settle > 50000)
			settle -= settle / 64;
		margin += (2 * (signaled - fire) + 20000) / 8;
		margin -= margin / 8;
		if (margin > 5000000)
			margin = 5000000;
	}
	TH_LOG("%u of %u waits, %u met before they slept, %u too late", i, n, awake, late);
}

/*
 * All on one CPU, and priorities.
 */

static int set_pi(int event, __u32 prio)
{
	struct ntsync_event_set_pi_args args = { .policy = SCHED_FIFO, .prio = prio };

	return nt_ioctl(event, NTSYNC_IOC_EVENT_SET_PI, &args);
}

static int set_own(struct agent *g, int prio)
{
	return set_sched(tid_of(g), prio ? SCHED_FIFO : SCHED_OTHER, prio);
}

/* What a thread has without a loan, as in field 18. */
static int own_prio(struct agent *g)
{
	struct sched_param param = { 0 };

	sched_getparam(tid_of(g), &param);
	return param.sched_priority ? FIFO(param.sched_priority) : NORMAL;
}

#define lent(g, prio)	EXPECT_EQ(FIFO(prio), prio_of(g))

#define lent_nothing(g) do {						\
	struct agent *__n = (g);					\
									\
	EXPECT_EQ(own_prio(__n), prio_of(__n));				\
} while (0)

static void check_idle(struct __test_metadata *_metadata, struct env *e)
{
	unsigned int i;

	for (i = 0; i < NB_AGENTS && !_metadata->exit_code; i++) {
		if (!tid_of(&e->g[i]) || !is_done(&e->g[i]))
			continue;
		EXPECT_EQ(own_prio(&e->g[i]), prio_of(&e->g[i])) {
			TH_LOG("thread %u is not back at its own priority", i);
		}
	}
}

FIXTURE(aggregate_pi) {
	struct env e;
	struct agent *w, *owner, *high, *third;
};

FIXTURE_SETUP(aggregate_pi)
{
	begin_pi(self->e.dev);
	need_aggregate(self->e.dev);
	setup_env(_metadata, &self->e);
	self->w = &self->e.g[0];
	self->owner = &self->e.g[1];
	self->high = &self->e.g[3];
	self->third = &self->e.g[4];
}

FIXTURE_TEARDOWN(aggregate_pi)
{
	check_idle(_metadata, &self->e);
}

/*
 * Both become ready before the waiter runs. What was granted is reported; what was not,
 * because the descriptor of lower index was ready already, is not touched.
 */
TEST_F_TIMEOUT(aggregate_pi, before_it_runs, NT_TEST_TIMEOUT)
{
	struct agent *w = self->w;
	struct env *e = &self->e;
	unsigned int i, k;

	for (i = 0; i < 8 * FD; i++) {
		bool fd_first = i & 1, fd_lower = i & 2;

		k = i / 8;
		ASSERT_EQ(0, set_own(w, i & 4 ? 50 : 0));
		waits(w, source_of(e, fd_lower ? FD : k), source_of(e, fd_lower ? k : FD));
		ASSERT_EQ(0, make_ready(e, fd_first ? FD : k));
		ASSERT_EQ(0, make_ready(e, fd_first ? k : FD));
		if (fd_first && fd_lower) {
			reports(w, FD, 0);
			EXPECT_EQ(1U << FD | 1U << k, which_ready(e));
		} else {
			reports(w, k, fd_lower);
			EXPECT_EQ(1U << FD | left_of(k), which_ready(e));
		}
		ASSERT_EQ(0, put_back(e, FD));
		ASSERT_EQ(0, put_back(e, k));
	}
}

/* Ready, but not any more when the waiter looks. */
TEST_F_TIMEOUT(aggregate_pi, drained, NT_TEST_TIMEOUT)
{
	static const enum kind then[] = { AUTO, SEM, FD, CHANNEL };
	struct agent *w = self->w;
	struct env *e = &self->e;
	unsigned int i, k;

	for (i = 0; i < 2 * ARRAY_LEN(then); i++) {
		waits(w, source_of(e, FD), source_of(e, AUTO), source_of(e, SEM),
		      source_of(e, CHANNEL));
		ASSERT_EQ(0, make_ready(e, FD));
		ASSERT_EQ(0, put_back(e, FD));
		/* before it has looked, or after that */
		if (i & 1)
			still_asleep(w);
		for (k = 0; w->src[k].fd != (__u32)e->obj[then[i / 2]]; k++)
			;
		wakes(w, then[i / 2], k);
	}

	w->p.a.timeout = nt_now(CLOCK_MONOTONIC) + NT_NSEC_PER_SEC / 4;
	actor_begin(&w->p.a, do_agg);
	ASSERT_TRUE(actor_asleep(&w->p.a) || is_done(w));
	ASSERT_EQ(0, make_ready(e, FD));
	ASSERT_EQ(0, put_back(e, FD));
	ends(w, -ETIMEDOUT, NONE);
}

/* Signaled while the descriptor is ready, which is drained before the waiter looks. */
TEST_F_TIMEOUT(aggregate_pi, signaled_then_drained, NT_TEST_TIMEOUT)
{
	struct agent *w = self->w;
	struct env *e = &self->e;
	unsigned int k;

	for (k = 0; k < FD; k++) {
		waits(w, source_of(e, FD), source_of(e, k));
		ASSERT_EQ(0, make_ready(e, FD));
		ASSERT_EQ(0, make_ready(e, k));
		ASSERT_EQ(0, put_back(e, FD));
		reports(w, k, 1);
		EXPECT_EQ(left_of(k), which_ready(e));
		ASSERT_EQ(0, put_back(e, k));

		/* or both are gone */
		falls_asleep(w);
		ASSERT_EQ(0, make_ready(e, FD));
		ASSERT_EQ(0, make_ready(e, k));
		ASSERT_EQ(0, put_back(e, k));
		ASSERT_EQ(0, put_back(e, FD));
		still_asleep(w);
		wakes(w, k, 1);
	}
}

/* What a waiter leaves that reports a descriptor is for the next one. */
TEST_F_TIMEOUT(aggregate_pi, left_to_another, NT_TEST_TIMEOUT)
{
	struct agent *w = self->w, *third = self->third;
	struct env *e = &self->e;
	unsigned int i, k;

	ASSERT_EQ(0, set_own(w, 50));
	for (i = 0; i < 3 * FD; i++) {
		k = i / 3;
		waits(w, source_of(e, FD), source_of(e, k));
		arrange(third, source_of(e, k));
		third->p.a.objs[0] = e->obj[k];
		third->p.a.nb_objs = 1;
		third->p.a.all = i % 3 == 1;
		actor_begin(&third->p.a, i % 3 ? do_wait : do_agg);
		ASSERT_TRUE(actor_asleep(&third->p.a));
		ASSERT_EQ(0, make_ready(e, FD));
		ASSERT_EQ(0, make_ready(e, k));
		reports(w, FD, 0);
		ASSERT_EQ(ret_of(k), actor_end(&third->p.a));
		EXPECT_EQ(1U << FD | left_of(k), which_ready(e));
		if (k == MUTEX || k == DEAD)
			check_mutex(e->obj[k], third->p.a.id, 1);
		ASSERT_EQ(0, put_back(e, k));
		ASSERT_EQ(0, put_back(e, FD));
	}

	/* drained in between: one of them has it, and the other one can still be woken */
	for (k = SEM; k <= AUTO; k += AUTO - SEM) {
		waits(w, source_of(e, FD), source_of(e, k));
		waits(third, obj(e->never), source_of(e, k));
		ASSERT_EQ(0, make_ready(e, FD));
		ASSERT_EQ(0, make_ready(e, k));
		ASSERT_EQ(0, put_back(e, FD));
		ASSERT_TRUE(poll_until(is_done(w) || is_done(third)));
		still_asleep(is_done(w) ? third : w);
		EXPECT_EQ(0U, which_ready(e));
		ASSERT_EQ(0, make_ready(e, k));
		reports(w, k, 1);
		reports(third, k, 1);
		EXPECT_EQ(0U, which_ready(e));
	}
}

/* The most urgent waiter is first, in whatever wait. */
TEST_F_TIMEOUT(aggregate_pi, order, NT_TEST_TIMEOUT)
{
	struct agent *g[] = { self->high, self->w, self->third, self->owner };
	struct env *e = &self->e;
	int i, k;

	for (i = 3; i >= 0; i--) {
		ASSERT_EQ(0, set_own(g[i], 40 - 10 * i));
		arrange(g[i], source_of(e, FD), source_of(e, AUTO));
		g[i]->p.a.objs[0] = e->obj[AUTO];
		g[i]->p.a.nb_objs = 1;
		actor_begin(&g[i]->p.a, i == 1 ? do_wait : do_agg);
		ASSERT_TRUE(actor_asleep(&g[i]->p.a));
	}
	/* also by what it gets while it sleeps */
	ASSERT_EQ(0, set_own(g[3], 35));
	for (i = 0; i < 4; i++) {
		static const int turn[] = { 0, 3, 1, 2 };

		ASSERT_EQ(0, set(e->obj[AUTO]));
		ASSERT_EQ(0, actor_end(&g[turn[i]]->p.a));
		for (k = i + 1; k < 4; k++)
			ASSERT_TRUE(actor_asleep(&g[turn[k]]->p.a));
	}
}

/* Every owner has the waiter's priority as long as the wait, however that ends. */
TEST_F_TIMEOUT(aggregate_pi, lends, NT_TEST_TIMEOUT)
{
	struct agent *owner[] = { self->owner, self->high, self->third };
	struct agent *w = self->w;
	struct env *e = &self->e;
	unsigned int i, k;
	int mutex[3];

	for (k = 0; k < 3; k++) {
		mutex[k] = nt_create_mutex(e->dev, 0, 0);
		ASSERT_LE(0, mutex[k]);
	}
	for (i = 0; i < 12; i++) {
		for (k = 0; k < 3; k++)
			acquires(&owner[k]->p.a, mutex[k]);
		ASSERT_EQ(0, set_own(w, 50));
		arrange(w, source_of(e, FD), obj(mutex[0]), obj(mutex[1]), obj(mutex[2]),
			source_of(e, AUTO), in(e->never_fd), obj(e->never), obj(mutex[0]),
			obj(e->never));
		/* also more than 8 */
		w->nb = i & 1 ? 9 : 5;
		if (i / 2 == 3)
			w->p.a.timeout = nt_now(CLOCK_MONOTONIC) + NT_NSEC_PER_SEC;
		falls_asleep(w);
		for (k = 0; k < 3; k++)
			lent(owner[k], 50);
		ASSERT_EQ(0, set_own(w, 60));
		for (k = 0; k < 3; k++)
			lent(owner[k], 60);
		switch (i / 2) {
		case 0:
			/* a look in between does not end it */
			ASSERT_EQ(0, make_ready(e, FD));
			ASSERT_EQ(0, put_back(e, FD));
			still_asleep(w);
			lent(owner[1], 60);
			wakes(w, FD, 0);
			break;
		case 1:
			wakes(w, AUTO, 4);
			break;
		case 2:
			ASSERT_EQ(0, kick(w));
			ends(w, -EINTR, NT_POISON);
			break;
		case 3:
			ends(w, -ETIMEDOUT, NONE);
			break;
		case 4:
			/* it becomes free, and is left */
			ASSERT_EQ(0, make_ready(e, FD));
			EXPECT_EQ(0, nt_unlock_mutex(mutex[0], owner[0]->p.a.id, NULL));
			EXPECT_EQ(NORMAL, prio_of(owner[0]));
			reports(w, FD, 0);
			ASSERT_EQ(0, put_back(e, FD));
			check_mutex(mutex[0], 0, 0);
			acquires(&owner[0]->p.a, mutex[0]);
			break;
		case 5:
			releases(&owner[1]->p.a, mutex[1]);
			ends(w, 0, 2);
			check_mutex(mutex[1], w->p.a.id, 1);
			releases(&w->p.a, mutex[1]);
			acquires(&owner[1]->p.a, mutex[1]);
			break;
		}
		for (k = 0; k < 3; k++) {
			EXPECT_EQ(NORMAL, prio_of(owner[k]));
			releases(&owner[k]->p.a, mutex[k]);
		}
		lent(w, 60);
	}
}

/* The same in the middle of a chain, and for what is abandoned. */
TEST_F_TIMEOUT(aggregate_pi, lends_on, NT_TEST_TIMEOUT)
{
	struct agent *w = self->w, *owner = self->owner, *high = self->high;
	int first = nt_create_mutex(self->e.dev, 0, 0), second = nt_create_mutex(self->e.dev, 0, 0);
	struct env *e = &self->e;

	ASSERT_LE(0, first);
	ASSERT_LE(0, second);
	acquires(&w->p.a, first);
	acquires(&owner->p.a, second);
	waits(w, source_of(e, FD), obj(second));
	EXPECT_EQ(NORMAL, prio_of(owner));
	ASSERT_EQ(0, set_own(high, 50));
	waits_for(&high->p.a, first);
	lent(w, 50);
	lent(owner, 50);
	ASSERT_EQ(0, set_own(high, 60));
	lent(owner, 60);
	wakes(w, FD, 0);
	EXPECT_EQ(FIFO(60), w->seen);
	EXPECT_EQ(NORMAL, prio_of(owner));
	falls_asleep(w);
	lent(owner, 60);
	EXPECT_EQ(0, nt_kill_mutex(second, owner->p.a.id));
	ends(w, -EOWNERDEAD, 1);
	EXPECT_EQ(NORMAL, prio_of(owner));
	check_mutex(second, w->p.a.id, 1);
	releases(&w->p.a, first);
	EXPECT_EQ(NORMAL, prio_of(w));
	ASSERT_EQ(0, actor_end(&high->p.a));
}

#define need_set_pi() do {						\
	if (nt_ioctl(self->e.never, NTSYNC_IOC_EVENT_SET_PI, NULL) == -ENOTTY) \
		SKIP(return, "no EVENT_SET_PI in this kernel");		\
} while (0)

TEST_F_TIMEOUT(aggregate_pi, set_pi_consumed, NT_TEST_TIMEOUT)
{
	struct agent *w = self->w;
	struct env *e = &self->e;
	unsigned int i;

	need_set_pi();
	for (i = 0; i < 8; i++) {
		/* asleep or not; and a descriptor that is ready changes nothing */
		arrange(w, source_of(e, AUTO), source_of(e, FD));
		if (i & 1)
			falls_asleep(w);
		EXPECT_EQ(0, set_pi(e->obj[AUTO], 50));
		if (i & 1)
			lent(w, 50);
		if (i & 2)
			ASSERT_EQ(0, make_ready(e, FD));
		if (!(i & 1))
			actor_begin(&w->p.a, do_agg);
		reports(w, AUTO, 0);
		EXPECT_EQ(FIFO(50), w->seen);
		lent(w, 50);

		/* the next wait ends it: one that sleeps, or finds nothing, or something */
		if (i & 4) {
			ASSERT_EQ(0, put_back(e, FD));
			falls_asleep(w);
			EXPECT_EQ(NORMAL, prio_of(w));
			wakes(w, FD, 1);
		} else if (i & 2) {
			ASSERT_EQ(0, actor_do(&w->p.a, do_agg));
			check_report(w, FD, 1);
		} else {
			w->p.a.timeout = NT_EXPIRED;
			ASSERT_EQ(-ETIMEDOUT, actor_do(&w->p.a, do_agg));
		}
		EXPECT_EQ(NORMAL, w->seen);
		EXPECT_EQ(NORMAL, prio_of(w));
		ASSERT_EQ(0, put_back(e, FD));
	}
}

/* A wait that a descriptor ends has consumed no event, and so no priority. */
TEST_F_TIMEOUT(aggregate_pi, set_pi_left, NT_TEST_TIMEOUT)
{
	struct agent *w = self->w, *third = self->third;
	struct env *e = &self->e;
	unsigned int i;

	need_set_pi();
	for (i = 0; i < 2; i++) {
		waits(w, source_of(e, FD), source_of(e, AUTO));
		if (i)
			waits(third, source_of(e, AUTO));
		ASSERT_EQ(0, make_ready(e, FD));
		EXPECT_EQ(0, set_pi(e->obj[AUTO], 50));
		reports(w, FD, 0);
		EXPECT_EQ(NORMAL, w->seen);
		EXPECT_EQ(NORMAL, prio_of(w));
		if (!i) {
			check_event(e->obj[AUTO], 0, 1);
			arrange(third, source_of(e, AUTO));
			actor_begin(&third->p.a, do_agg);
		}
		reports(third, AUTO, 0);
		lent(third, 50);
		third->p.a.timeout = NT_EXPIRED;
		ASSERT_EQ(-ETIMEDOUT, actor_do(&third->p.a, do_agg));
		EXPECT_EQ(NORMAL, prio_of(third));
		ASSERT_EQ(0, put_back(e, FD));
	}
}

/*
 * Channels: d waits in AGGREGATE_WAIT, r sleeps in RECV2, s sends. A thread that has nothing
 * to do sleeps on a futex. That is no wait of ntsync, so it remains a receiver.
 */

FIXTURE(aggregate_channel) {
	struct env e;
	int ch[2];		/* the first one is that of the environment */
	struct agent *d, *d2, *s, *s2, *s3, *r, *owner, *hog;
};

static atomic_uint spin_stop, spinning;

static int do_spin(struct actor *a)
{
	__u64 deadline = nt_bound();

	(void)a;
	atomic_store(&spinning, 1);
	while (!atomic_load(&spin_stop)) {
		if (nt_now(CLOCK_MONOTONIC) >= deadline)
			return -ETIME;
	}
	return 0;
}

static char state_of(struct agent *g)
{
	return nt_task_state(getpid(), tid_of(g));
}

static bool is_idle(struct agent *g)
{
	return poll_until(is_done(g) && state_of(g) == 'S');
}

/* Awake, but has not yet run. */
static bool is_held(struct agent *g)
{
	return poll_until(state_of(g) == 'R') && !is_done(g);
}

#define prepare_hog(prio) do {						\
	atomic_store(&spin_stop, 0);					\
	atomic_store(&spinning, 0);					\
	ASSERT_EQ(0, set_own(self->hog, (prio)));			\
	ASSERT_TRUE(is_idle(self->hog));				\
} while (0)

/* Keep the CPU from who has less. */
#define hog_at(prio) do {						\
	prepare_hog(prio);						\
	actor_begin(&self->hog->p.a, do_spin);				\
	ASSERT_TRUE(poll_until(atomic_load(&spinning)));		\
} while (0)

#define end_hog() do {							\
	EXPECT_FALSE(is_done(self->hog));				\
	atomic_store(&spin_stop, 1);					\
	ASSERT_EQ(0, actor_end(&self->hog->p.a));			\
} while (0)

#define begins_send(g, fd, own) do {					\
	struct agent *__b = (g);					\
									\
	__b->p.a.objs[0] = (fd);					\
	ASSERT_EQ(0, set_own(__b, (own)));				\
	ASSERT_TRUE(is_idle(__b));					\
	actor_begin(&__b->p.a, do_send);				\
} while (0)

#define sends_to(g, fd, own) do {					\
	struct agent *__p = (g);					\
									\
	begins_send(__p, (fd), (own));					\
	ASSERT_TRUE(actor_asleep(&__p->p.a));				\
} while (0)

#define sends(g, own)	sends_to(g, self->ch[0], own)

/*
 * The same when that wakes a receiver which does not get to run: the hog is queued behind
 * the sender at the same priority, and so in front of the receiver.
 */
#define sends_held(g, own) do {						\
	struct agent *__h = (g);					\
	int __own = (own);						\
									\
	prepare_hog(__own);						\
	begins_send(__h, self->ch[0], __own);				\
	actor_begin(&self->hog->p.a, do_spin);				\
	ASSERT_TRUE(actor_asleep(&__h->p.a));				\
} while (0)

#define told(g, _index)	reports(g, CHANNEL, _index)

#define check_req(g, from)						\
	EXPECT_EQ((from)->p.send.payload_off, (g)->p.req.payload_off)

#define takes_of(g, fd, from) do {					\
	struct agent *__t = (g);					\
									\
	__t->p.a.objs[0] = (fd);					\
	ASSERT_EQ(0, actor_do(&__t->p.a, do_try_recv));			\
	check_req(__t, from);						\
} while (0)

#define takes(g, from)	takes_of(g, self->ch[0], from)

#define takes_nothing(g) do {						\
	struct agent *__t = (g);					\
									\
	__t->p.a.objs[0] = self->ch[0];					\
	ASSERT_EQ(-EAGAIN, actor_do(&__t->p.a, do_try_recv));		\
} while (0)

/* It replies to what it took last. */
#define replies(g, from) do {						\
	struct agent *__l = (g);					\
									\
	__l->p.reply = __l->p.req.entry_id;				\
	ASSERT_EQ(0, actor_do(&__l->p.a, do_reply));			\
	ASSERT_EQ(0, actor_end(&(from)->p.a));				\
} while (0)

#define serves(g, from, prio) do {					\
	struct agent *__v = (g), *__from = (from);			\
									\
	takes(__v, __from);						\
	lent(__v, (prio));						\
	replies(__v, __from);						\
} while (0)

#define receives(g, fd) do {						\
	struct agent *__x = (g);					\
									\
	__x->p.a.objs[0] = (fd);					\
	actor_begin(&__x->p.a, do_recv);				\
	ASSERT_TRUE(actor_asleep(&__x->p.a));				\
} while (0)

#define gets(g, from) do {						\
	struct agent *__y = (g);					\
									\
	ASSERT_EQ(0, actor_end(&__y->p.a));				\
	check_req(__y, from);						\
} while (0)

#define interrupt(g) do {						\
	struct agent *__z = (g);					\
									\
	ASSERT_EQ(0, kick(__z));					\
	ASSERT_EQ(-EINTR, actor_end(&__z->p.a));			\
} while (0)

#define sleeps_on(g) do {						\
	struct agent *__o = (g);					\
									\
	still_asleep(__o);						\
	lent_nothing(__o);						\
} while (0)

FIXTURE_SETUP(aggregate_channel)
{
	struct agent *g = self->e.g;

	begin_pi(self->e.dev);
	need_aggregate(self->e.dev);
	need_ioctl(self->e.dev, NTSYNC_IOC_CHANNEL_TRY_RECV2);
	setup_env(_metadata, &self->e);
	self->ch[0] = self->e.obj[CHANNEL];
	self->ch[1] = ch_create(self->e.dev, DEPTH);
	ASSERT_LE(0, self->ch[1]);
	self->d = &g[0];
	self->d2 = &g[1];
	self->s = &g[2];
	self->s2 = &g[3];
	self->s3 = &g[4];
	self->r = &g[5];
	self->owner = &g[6];
	self->hog = &g[7];
}

FIXTURE_TEARDOWN(aggregate_channel)
{
	atomic_store(&spin_stop, 1);
	check_idle(_metadata, &self->e);
}

TEST_F_TIMEOUT(aggregate_channel, boosted_before_it_runs, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *s = self->s;
	int prio;

	for (prio = 0; prio <= 20; prio += 20) {
		ASSERT_EQ(0, set_own(d, prio));
		waits(d, source_of(&self->e, FD), obj(self->ch[0]));
		lent_nothing(d);
		sends_held(s, 50);
		EXPECT_TRUE(is_held(d));
		lent(d, 50);
		/* it follows the sender */
		ASSERT_EQ(0, set_own(s, 40));
		lent(d, 40);
		ASSERT_EQ(0, set_own(s, 50));
		lent(d, 50);
		EXPECT_EQ(prio ? SCHED_FIFO : SCHED_OTHER, sched_getscheduler(tid_of(d)));
		end_hog();
		told(d, 1);
		EXPECT_EQ(FIFO(50), d->seen);
		lent(d, 50);
		serves(d, s, 50);
		lent_nothing(d);
	}
}

/* A hog between the two keeps it from nothing. */
TEST_F_TIMEOUT(aggregate_channel, ahead_of_the_hog, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *s = self->s;

	waits(d, source_of(&self->e, FD), obj(self->ch[0]));
	hog_at(40);
	sends(s, 60);
	told(d, 1);
	EXPECT_EQ(FIFO(60), d->seen);
	takes(d, s);
	lent(d, 60);
	end_hog();
	replies(d, s);
	lent_nothing(d);
}

/* It has the highest that is pending, before it runs and in user space. */
TEST_F_TIMEOUT(aggregate_channel, higher_request, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *s = self->s, *s2 = self->s2;
	unsigned int i;

	for (i = 0; i < 2; i++) {
		waits(d, source_of(&self->e, FD), obj(self->ch[0]));
		sends_held(s, 50);
		EXPECT_TRUE(is_held(d));
		if (i) {
			end_hog();
			told(d, 1);
			EXPECT_EQ(FIFO(50), d->seen);
			lent(d, 50);
			sends(s2, 60);
		} else {
			sends(s2, 60);
			told(d, 1);
			EXPECT_EQ(FIFO(60), d->seen);
			end_hog();
		}
		lent(d, 60);
		ASSERT_EQ(0, set_own(s2, 30));
		lent(d, 50);
		ASSERT_EQ(0, set_own(s2, 70));
		lent(d, 70);
		serves(d, s2, 70);
		lent(d, 50);
		serves(d, s, 50);
		lent_nothing(d);
	}
}

/* To be told takes nothing. */
TEST_F_TIMEOUT(aggregate_channel, notify_only, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *s = self->s;
	unsigned int i;

	/* it was no receiver yet, and does not have to sleep for it */
	sends(s, 50);
	lent_nothing(d);
	arrange(d, source_of(&self->e, AUTO), obj(self->ch[0]));
	for (i = 0; i < 3; i++) {
		d->p.a.timeout = i == 1 ? NT_EXPIRED : 0;
		ASSERT_EQ(0, actor_do(&d->p.a, do_agg));
		check_report(d, CHANNEL, 1);
		EXPECT_EQ(FIFO(50), d->seen);
		EXPECT_FALSE(is_done(s));
	}
	takes(d, s);
	EXPECT_EQ(50U, d->p.req.prio);
	/* what is in hand is not pending */
	falls_asleep(d);
	lent(d, 50);
	ASSERT_EQ(0, make_ready(&self->e, AUTO));
	reports(d, AUTO, 0);
	replies(d, s);
	lent_nothing(d);
}

/* It returns with something else, and whoever sleeps for the channel gets the request. */
TEST_F_TIMEOUT(aggregate_channel, other_source, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *s = self->s, *other;
	struct env *e = &self->e;
	unsigned int i, k;

	for (i = 0; i < 6; i++) {
		k = i & 1 ? AUTO : FD;
		other = i / 2 == 0 ? self->r : i / 2 == 1 ? self->d2 : NULL;
		ASSERT_EQ(0, set_own(d, 20));
		waits(d, source_of(e, k), obj(self->ch[0]));
		if (other == self->r)
			receives(other, self->ch[0]);
		else if (other)
			waits(other, obj(self->ch[0]));
		sends_held(s, 50);
		EXPECT_TRUE(is_held(d));
		lent(d, 50);
		if (other)
			sleeps_on(other);
		ASSERT_EQ(0, make_ready(e, k));
		end_hog();
		reports(d, k, 0);
		ASSERT_EQ(0, put_back(e, k));
		if (other == self->r) {
			gets(other, s);
			lent(other, 50);
			lent_nothing(d);
			replies(other, s);
		} else if (other) {
			told(other, 0);
			serves(other, s, 50);
		} else {
			/* or nobody else does: it is a receiver still */
			EXPECT_EQ(FIFO(50), d->seen);
			lent(d, 50);
			serves(d, s, 50);
		}
		lent_nothing(d);
		if (other)
			lent_nothing(other);
	}
}

/*
 * It was told, and sleeps elsewhere: somebody else gets the request, also if it has another one
 * in hand and so remains a receiver.
 */
TEST_F_TIMEOUT(aggregate_channel, sleeps_elsewhere, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *s = self->s, *s2 = self->s2, *r = self->r;
	unsigned int i;
	__u64 held = 0;

	ASSERT_EQ(0, set_own(d, 20));
	for (i = 0; i < 6; i++) {
		if (i >= 3) {
			sends(s2, 30);
			takes(d, s2);
			held = d->p.req.entry_id;
		}
		waits(d, source_of(&self->e, FD), obj(self->ch[0]));
		receives(r, self->ch[0]);
		sends(s, 50);
		told(d, 1);
		lent(d, 50);
		sleeps_on(r);
		switch (i % 3) {
		case 0:
			waits_for(&d->p.a, self->e.never);
			break;
		case 1:
			waits(d, obj(self->e.never), source_of(&self->e, FD));
			break;
		case 2:
			receives(d, self->ch[1]);
			break;
		}
		gets(r, s);
		still_asleep(d);
		if (i < 3)
			lent_nothing(d);
		else
			lent(d, 30);
		lent(r, 50);
		replies(r, s);
		lent_nothing(r);
		interrupt(d);
		if (i >= 3) {
			d->p.a.objs[0] = self->ch[0];
			d->p.req.entry_id = held;
			replies(d, s2);
		}
		lent_nothing(d);
	}
}

/* It was told of a request that somebody else took: the next one wakes who sleeps. */
TEST_F_TIMEOUT(aggregate_channel, late_comer, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *d2 = self->d2, *s = self->s, *r = self->r;

	waits(d, obj(self->ch[0]));
	sends(s, 50);
	told(d, 0);
	takes(d2, s);
	replies(d2, s);
	receives(r, self->ch[0]);
	sends(s, 50);
	gets(r, s);
	replies(r, s);
}

/* It was told, or is just to be, and is gone without having taken the request. */
TEST_F_TIMEOUT(aggregate_channel, gone, NT_TEST_TIMEOUT)
{
	enum { EXIT, EXEC, KILLED, KILLED_BEFORE, EXIT_THREAD } how;
	struct agent *d = self->d, *s = self->s, *r = self->r;

	for (how = EXIT; how <= EXIT_THREAD; how++) {
		struct child *c = new_child();
		pid_t pid = 0;

		arrange(d, source_of(&self->e, FD), obj(self->ch[0]));
		if (how == EXIT_THREAD) {
			ASSERT_EQ(0, set_own(d, 20));
			falls_asleep(d);
		} else {
			pid = fork_waiter(c, d, 20, how == EXEC);
			ASSERT_LT(0, pid);
			ASSERT_TRUE(nt_task_asleep(pid, &c->tid, &c->done));
		}
		receives(r, self->ch[0]);
		sends_held(s, 50);
		sleeps_on(r);
		if (how == KILLED_BEFORE)
			ASSERT_EQ(0, kill(pid, SIGKILL));
		end_hog();
		if (how == EXIT_THREAD) {
			told(d, 1);
			lent(d, 50);
			sleeps_on(r);
			actor_stop(&d->p.a);
			atomic_store(&d->p.a.tid, 0);
		} else if (how != KILLED_BEFORE) {
			ASSERT_TRUE(poll_until(atomic_load(&c->done)));
			EXPECT_EQ(0, c->ret);
			EXPECT_EQ(1U, c->index);
			EXPECT_TRUE(poll_until(nt_task_prio(pid, pid) == FIFO(50)));
			sleeps_on(r);
			if (how == KILLED)
				ASSERT_EQ(0, kill(pid, SIGKILL));
			atomic_store(&c->go, 1);
		}
		gets(r, s);
		lent(r, 50);
		if (how == EXEC)
			EXPECT_TRUE(poll_until(nt_task_prio(pid, pid) == FIFO(20)));
		replies(r, s);
		if (pid) {
			kill(pid, SIGKILL);
			ASSERT_TRUE(reap(pid));
		}
		munmap(c, sizeof(*c));
	}
}

/* A signal, or a timeout, between the wake-up and the look: told, or passed on. */
TEST_F_TIMEOUT(aggregate_channel, signal_or_timeout, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *s = self->s, *r = self->r;
	unsigned int i;
	int ret;

	ASSERT_EQ(0, set_own(d, 20));
	for (i = 0; i < 4; i++) {
		arrange(d, source_of(&self->e, FD), obj(self->ch[0]));
		if (i & 1)
			d->p.a.timeout = nt_now(CLOCK_MONOTONIC) + NT_NSEC_PER_SEC;
		falls_asleep(d);
		if (i & 2)
			receives(r, self->ch[0]);
		sends_held(s, 50);
		EXPECT_TRUE(is_held(d));
		if (i & 1)
			nt_sleep_until(CLOCK_MONOTONIC, d->p.a.timeout);
		else
			ASSERT_EQ(0, kick(d));
		end_hog();
		ret = actor_end(&d->p.a);
		if (!ret) {
			check_report(d, CHANNEL, 1);
			serves(d, s, 50);
			if (i & 2) {
				sleeps_on(r);
				interrupt(r);
			}
			continue;
		}
		ASSERT_EQ(i & 1 ? -ETIMEDOUT : -EINTR, ret);
		if (i & 2) {
			gets(r, s);
			lent(r, 50);
			replies(r, s);
		} else {
			/* a receiver it remains */
			lent(d, 50);
			serves(d, s, 50);
		}
		lent_nothing(d);
	}
}

/* Somebody else takes it, or it is withdrawn: a later one is not lost. */
TEST_F_TIMEOUT(aggregate_channel, taken_by_another, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *s = self->s, *thief = self->r;
	unsigned int i;

	ASSERT_EQ(0, set_own(d, 20));
	for (i = 0; i < 3; i++) {
		waits(d, source_of(&self->e, FD), obj(self->ch[0]));
		sends_held(s, 50);
		EXPECT_TRUE(is_held(d));
		lent(d, 50);
		if (i) {
			/* it has been told */
			end_hog();
			told(d, 1);
			lent(d, 50);
		}
		if (i < 2) {
			ASSERT_EQ(0, set_own(thief, 60));
			takes(thief, s);
			ASSERT_EQ(0, set_own(thief, 0));
			lent(thief, 50);
		} else {
			interrupt(s);
		}
		lent_nothing(d);
		if (i) {
			takes_nothing(d);
			falls_asleep(d);
		} else {
			EXPECT_TRUE(is_held(d));
			end_hog();
		}
		sleeps_on(d);
		if (i < 2)
			replies(thief, s);
		sends(s, 70);
		told(d, 1);
		EXPECT_EQ(FIFO(70), d->seen);
		serves(d, s, 70);
		lent_nothing(d);
		lent_nothing(thief);
	}
}

/* It was woken by a descriptor and does not sleep any more, but is the only receiver. */
TEST_F_TIMEOUT(aggregate_channel, awake_for_descriptor, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *s = self->s;
	unsigned int i;

	ASSERT_EQ(0, set_own(d, 20));
	for (i = 0; i < 2; i++) {
		waits(d, source_of(&self->e, i ? AUTO : FD), obj(self->ch[0]));
		hog_at(40);
		ASSERT_EQ(0, make_ready(&self->e, i ? AUTO : FD));
		EXPECT_TRUE(is_held(d));
		lent_nothing(d);
		sends(s, 60);
		ASSERT_EQ(0, actor_end(&d->p.a));
		check_report(d, i ? AUTO : FD, 0);
		EXPECT_EQ(FIFO(60), d->seen);
		lent(d, 60);
		takes(d, s);
		end_hog();
		replies(d, s);
		lent_nothing(d);
		ASSERT_EQ(0, put_back(&self->e, FD));
	}
}

/* From the first wait that names the channel to the first sleep in one that does not. */
TEST_F_TIMEOUT(aggregate_channel, membership, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *s = self->s, *s2 = self->s2;
	struct env *e = &self->e;

	sends(s, 50);
	lent_nothing(d);
	interrupt(s);
	arrange(d, source_of(e, FD), obj(self->ch[0]));
	d->p.a.timeout = NT_EXPIRED;
	ASSERT_EQ(-ETIMEDOUT, actor_do(&d->p.a, do_agg));
	sends(s, 50);
	lent(d, 50);
	interrupt(s);
	lent_nothing(d);

	/* one that does not sleep */
	arrange(d, source_of(e, FD));
	d->p.a.timeout = NT_EXPIRED;
	ASSERT_EQ(-ETIMEDOUT, actor_do(&d->p.a, do_agg));
	sends(s, 50);
	lent(d, 50);
	/* and one that does */
	waits(d, source_of(e, FD), source_of(e, AUTO));
	sleeps_on(d);
	ASSERT_EQ(0, make_ready(e, AUTO));
	reports(d, AUTO, 1);
	lent_nothing(d);
	interrupt(s);

	/* with a request in hand it does not end there */
	waits(d, obj(self->ch[0]));
	sends(s, 50);
	told(d, 0);
	takes(d, s);
	waits(d, source_of(e, FD), source_of(e, AUTO));
	lent(d, 50);
	sends(s2, 60);
	lent(d, 60);
	still_asleep(d);
	ASSERT_EQ(0, make_ready(e, AUTO));
	reports(d, AUTO, 1);
	EXPECT_EQ(FIFO(60), d->seen);
	replies(d, s);
	lent(d, 60);
	serves(d, s2, 60);
	lent_nothing(d);
}

/* One request wakes one of them, the first by priority; the next one wakes the next. */
TEST_F_TIMEOUT(aggregate_channel, one_by_one, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *d2 = self->d2, *r = self->r;
	struct agent *s = self->s, *s2 = self->s2, *s3 = self->s3;

	ASSERT_EQ(0, set_own(d2, 10));
	ASSERT_EQ(0, set_own(d, 20));
	ASSERT_EQ(0, set_own(r, 30));
	waits(d2, obj(self->ch[0]));
	waits(d, source_of(&self->e, FD), obj(self->ch[0]));
	receives(r, self->ch[0]);
	sends(s, 50);
	gets(r, s);
	lent(r, 50);
	sleeps_on(d);
	sleeps_on(d2);
	sends(s2, 60);
	told(d, 1);
	lent(d, 60);
	sleeps_on(d2);
	sends(s3, 70);
	told(d2, 0);
	/* nobody sleeps: all have the head */
	lent(d2, 70);
	lent(d, 70);
	lent(r, 70);
	takes(d, s3);
	lent(d, 70);
	lent(d2, 60);
	lent(r, 60);
	takes(d2, s2);
	lent(d2, 60);
	lent(r, 50);
	replies(d, s3);
	lent_nothing(d);
	replies(d2, s2);
	lent_nothing(d2);
	replies(r, s);
	lent_nothing(r);
}

/* Two channels in one wait: the lower index, and the highest of both. */
TEST_F_TIMEOUT(aggregate_channel, two_channels, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *s = self->s, *s2 = self->s2;

	waits(d, source_of(&self->e, FD), obj(self->ch[1]), obj(self->ch[0]), obj(self->ch[1]));
	sends_held(s, 50);
	EXPECT_TRUE(is_held(d));
	lent(d, 50);
	sends_to(s2, self->ch[1], 60);
	told(d, 1);
	EXPECT_EQ(FIFO(60), d->seen);
	end_hog();
	ASSERT_EQ(0, set_own(s2, 30));
	lent(d, 50);
	takes_of(d, self->ch[1], s2);
	lent(d, 50);
	replies(d, s2);
	lent(d, 50);
	ASSERT_EQ(0, actor_do(&d->p.a, do_agg));
	check_report(d, CHANNEL, 2);
	serves(d, s, 50);
	lent_nothing(d);
}

/* A dispatcher that waits for a mutex lends what it has been lent. */
TEST_F_TIMEOUT(aggregate_channel, lends_on, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *s = self->s, *s2 = self->s2, *owner = self->owner;
	int mutex = nt_create_mutex(self->e.dev, 0, 0);

	ASSERT_LE(0, mutex);
	acquires(&owner->p.a, mutex);
	waits(d, obj(self->ch[0]));
	sends(s, 50);
	told(d, 0);
	takes(d, s);
	waits(d, obj(mutex), obj(self->ch[0]));
	lent(d, 50);
	lent(owner, 50);
	ASSERT_EQ(0, set_own(s, 60));
	lent(owner, 60);
	sends(s2, 70);
	told(d, 1);
	lent(d, 70);
	EXPECT_EQ(NORMAL, prio_of(owner));
	replies(d, s);
	lent(d, 70);
	serves(d, s2, 70);
	lent_nothing(d);
}

/* The only descriptor is closed: asleep, and after it has been told. */
TEST_F_TIMEOUT(aggregate_channel, closed, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *s = self->s;
	struct env *e = &self->e;

	waits(d, source_of(e, FD), obj(self->ch[0]));
	sends_to(s, self->ch[0], 50);
	told(d, 1);
	lent(d, 50);
	ASSERT_EQ(0, close(self->ch[0]));
	lent_nothing(d);
	ASSERT_EQ(-EPIPE, actor_end(&s->p.a));

	ASSERT_EQ(0, set_own(d, 20));
	waits(d, source_of(e, FD), obj(self->ch[1]));
	ASSERT_EQ(0, close(self->ch[1]));
	told(d, 1);
	lent_nothing(d);
}

/* What is sent with a send-only descriptor is like what is sent with another one. */
TEST_F_TIMEOUT(aggregate_channel, send_only, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *s = self->s;
	int fd;

	need_ioctl(self->e.dev, NTSYNC_IOC_CHANNEL_SEND_ONLY);
	fd = ch_send_only(self->ch[0]);
	ASSERT_LE(0, fd);
	waits(d, source_of(&self->e, FD), obj(self->ch[0]));
	sends_to(s, fd, 50);
	told(d, 1);
	lent(d, 50);
	serves(d, s, 50);
	/* it does not keep the channel open */
	falls_asleep(d);
	ASSERT_EQ(0, close(self->ch[0]));
	told(d, 1);
	s->p.a.objs[0] = fd;
	EXPECT_EQ(-EPIPE, actor_do(&s->p.a, do_send));
}

/*
 * The same besides a hog that holds somebody else: another one, the owner, is behind the sender
 * and in front of whom that wakes.
 */
#define sends_held_too(g, own) do {					\
	struct agent *__g2 = (g);					\
	int __own2 = (own);						\
									\
	ASSERT_EQ(0, set_own(self->owner, __own2));			\
	ASSERT_TRUE(is_idle(self->owner));				\
	begins_send(__g2, self->ch[0], __own2);				\
	actor_begin(&self->owner->p.a, do_spin);			\
	ASSERT_TRUE(actor_asleep(&__g2->p.a));				\
} while (0)

#define end_hogs() do {							\
	EXPECT_FALSE(is_done(self->owner));				\
	end_hog();							\
	ASSERT_EQ(0, actor_end(&self->owner->p.a));			\
	ASSERT_EQ(0, set_own(self->owner, 0));				\
} while (0)

/*
 * Who was told of something else does not sleep any more, though it has not run since: the
 * request is for somebody who does, and gets it while that one is held.
 */
TEST_F_TIMEOUT(aggregate_channel, passed_over, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *s = self->s, *u;
	struct env *e = &self->e;
	unsigned int i, k;

	for (i = 0; i < 8; i++) {
		k = i & 1 ? AUTO : FD;
		u = i & 2 ? self->d2 : self->r;
		/* also if it is the one that a request would wake first */
		ASSERT_EQ(0, set_own(d, i & 4 ? 5 : 20));
		ASSERT_EQ(0, set_own(u, 10));
		waits(d, source_of(e, k), obj(self->ch[0]));
		if (u == self->r)
			receives(u, self->ch[0]);
		else
			waits(u, obj(self->ch[0]));
		hog_at(40);
		ASSERT_EQ(0, make_ready(e, k));
		EXPECT_TRUE(is_held(d));
		sends(s, 60);
		/* it replies later: what it has left then does not suffice to go on */
		if (u == self->r) {
			gets(u, s);
			lent(u, 60);
			EXPECT_TRUE(is_held(d));
			end_hog();
			replies(u, s);
		} else {
			/* nobody sleeps who could take it, so it is lent to both: d may run too */
			told(u, 0);
			EXPECT_EQ(FIFO(60), u->seen);
			end_hog();
			serves(u, s, 60);
		}
		lent_nothing(u);
		reports(d, k, 0);
		EXPECT_EQ(left_of(k), which_ready(e));
		lent_nothing(d);
		ASSERT_EQ(0, put_back(e, k));
	}
}

/* Whom a second request finds awake because of something else is lent what the first one has. */
TEST_F_TIMEOUT(aggregate_channel, second_request, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *u = self->d2, *s = self->s, *s2 = self->s2;
	struct env *e = &self->e;
	unsigned int i, k;

	ASSERT_EQ(0, set_own(d, 5));
	ASSERT_EQ(0, set_own(u, 10));
	for (i = 0; i < 2; i++) {
		k = i ? AUTO : FD;
		waits(d, source_of(e, k), obj(self->ch[0]));
		waits(u, obj(self->ch[0]));
		hog_at(40);
		ASSERT_EQ(0, make_ready(e, k));
		EXPECT_TRUE(is_held(d));
		sends(s, 60);
		told(u, 0);
		lent(u, 60);
		EXPECT_TRUE(is_held(d));
		sends(s2, 50);
		reports(d, k, 0);
		EXPECT_EQ(FIFO(60), d->seen);
		lent(d, 60);
		end_hog();
		serves(u, s, 60);
		lent(d, 50);
		serves(u, s2, 50);
		lent_nothing(u);
		lent_nothing(d);
		ASSERT_EQ(0, put_back(e, k));
	}
}

/* It is the request that wakes the other one: that does not wait for the first to come back. */
TEST_F_TIMEOUT(aggregate_channel, passed_over_at_once, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *s = self->s, *u;
	struct env *e = &self->e;
	unsigned int i, k;

	for (i = 0; i < 8; i++) {
		k = i & 1 ? AUTO : FD;
		u = i & 2 ? self->d2 : self->r;
		ASSERT_EQ(0, set_own(d, i & 4 ? 5 : 20));
		ASSERT_EQ(0, set_own(u, 10));
		waits(d, source_of(e, k), obj(self->ch[0]));
		if (u == self->r)
			receives(u, self->ch[0]);
		else
			waits(u, obj(self->ch[0]));
		hog_at(40);
		ASSERT_EQ(0, make_ready(e, k));
		EXPECT_TRUE(is_held(d));
		sends_held_too(s, 60);
		EXPECT_TRUE(is_held(u));
		EXPECT_TRUE(is_held(d));
		lent(u, 60);
		end_hogs();
		if (u == self->r) {
			gets(u, s);
			replies(u, s);
		} else {
			told(u, 0);
			serves(u, s, 60);
		}
		reports(d, k, 0);
		lent_nothing(u);
		lent_nothing(d);
		ASSERT_EQ(0, put_back(e, k));
	}
}

/* It was told of a descriptor that is not ready any more when it looks, but a request is. */
TEST_F_TIMEOUT(aggregate_channel, passed_over_and_drained, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *s = self->s, *r = self->r;
	struct env *e = &self->e;
	unsigned int i;

	for (i = 0; i < 4; i++) {
		ASSERT_EQ(0, set_own(d, i & 2 ? 5 : 20));
		ASSERT_EQ(0, set_own(r, 10));
		waits(d, source_of(e, FD), obj(self->ch[0]));
		if (i & 1)
			receives(r, self->ch[0]);
		hog_at(40);
		ASSERT_EQ(0, make_ready(e, FD));
		EXPECT_TRUE(is_held(d));
		sends_held_too(s, 60);
		EXPECT_TRUE(is_held(d));
		ASSERT_EQ(0, put_back(e, FD));
		end_hogs();
		if (i & 1) {
			gets(r, s);
			replies(r, s);
			/* who has looked before that was told; who came later waits on */
			if (actor_asleep(&d->p.a)) {
				lent_nothing(d);
				sends(s, 50);
				told(d, 1);
				serves(d, s, 50);
			} else {
				told(d, 1);
				takes_nothing(d);
			}
		} else {
			told(d, 1);
			EXPECT_EQ(FIFO(60), d->seen);
			serves(d, s, 60);
		}
		lent_nothing(r);
		lent_nothing(d);
	}
}

/* It was told of the channel, and then more became ready: the lowest index, and nothing is lost. */
TEST_F_TIMEOUT(aggregate_channel, told_then_more, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *s = self->s;
	struct env *e = &self->e;
	unsigned int i, k;

	ASSERT_EQ(0, set_own(d, 20));
	/* behind it */
	for (i = 0; i < 4; i++) {
		waits(d, obj(self->ch[0]), source_of(e, AUTO), source_of(e, FD));
		sends_held(s, 50);
		EXPECT_TRUE(is_held(d));
		ASSERT_EQ(0, make_ready(e, i & 1 ? AUTO : FD));
		ASSERT_EQ(0, make_ready(e, i & 1 ? FD : AUTO));
		end_hog();
		told(d, 0);
		EXPECT_EQ(FIFO(50), d->seen);
		EXPECT_EQ(1U << AUTO | 1U << FD | 1U << CHANNEL, which_ready(e));
		if (i & 2)
			interrupt(s);
		else
			serves(d, s, 50);
		lent_nothing(d);
		ASSERT_EQ(0, actor_do(&d->p.a, do_agg));
		check_report(d, AUTO, 1);
		ASSERT_EQ(0, actor_do(&d->p.a, do_agg));
		check_report(d, FD, 2);
		ASSERT_EQ(0, put_back(e, FD));
		EXPECT_EQ(0U, which_ready(e));
	}

	/* in front of it: consumed, and the request is there still */
	for (k = 0; k < FD; k++) {
		waits(d, source_of(e, k), obj(self->ch[0]));
		sends_held(s, 50);
		EXPECT_TRUE(is_held(d));
		ASSERT_EQ(0, make_ready(e, k));
		end_hog();
		reports(d, k, 0);
		EXPECT_EQ(FIFO(50), d->seen);
		EXPECT_EQ(left_of(k) | 1U << CHANNEL, which_ready(e));
		if (k == MUTEX || k == DEAD)
			check_mutex(e->obj[k], d->p.a.id, 1);
		lent(d, 50);
		ASSERT_EQ(0, put_back(e, k));
		ASSERT_EQ(0, actor_do(&d->p.a, do_agg));
		check_report(d, CHANNEL, 1);
		serves(d, s, 50);
		lent_nothing(d);
	}

	/* the same with a descriptor, which is not */
	waits(d, source_of(e, FD), obj(self->ch[0]));
	sends_held(s, 50);
	ASSERT_EQ(0, make_ready(e, FD));
	end_hog();
	reports(d, FD, 0);
	EXPECT_EQ(1U << FD | 1U << CHANNEL, which_ready(e));
	ASSERT_EQ(0, put_back(e, FD));
	ASSERT_EQ(0, actor_do(&d->p.a, do_agg));
	check_report(d, CHANNEL, 1);
	serves(d, s, 50);
	lent_nothing(d);
}

/*
 * It was told of a request that somebody else has taken before it looks. It finds what became
 * ready meanwhile, or goes on waiting.
 */
TEST_F_TIMEOUT(aggregate_channel, told_then_taken, NT_TEST_TIMEOUT)
{
	enum { NOTHING, OBJECT, DESCRIPTOR, BOTH, BOTH_GONE, TIME_OVER, NB_WAYS } how;
	struct agent *d = self->d, *s = self->s, *thief = self->r;
	struct env *e = &self->e;

	ASSERT_EQ(0, set_own(d, 20));
	for (how = NOTHING; how < NB_WAYS; how++) {
		arrange(d, obj(self->ch[0]), source_of(e, AUTO), source_of(e, FD));
		if (how == TIME_OVER)
			d->p.a.timeout = nt_now(CLOCK_MONOTONIC) + NT_NSEC_PER_SEC;
		falls_asleep(d);
		sends_held(s, 50);
		EXPECT_TRUE(is_held(d));
		if (how == OBJECT || how == BOTH || how == BOTH_GONE)
			ASSERT_EQ(0, make_ready(e, AUTO));
		if (how == DESCRIPTOR || how == BOTH || how == BOTH_GONE)
			ASSERT_EQ(0, make_ready(e, FD));
		ASSERT_EQ(0, set_own(thief, 60));
		takes(thief, s);
		ASSERT_EQ(0, set_own(thief, 0));
		EXPECT_TRUE(is_held(d));
		lent_nothing(d);
		if (how == BOTH_GONE) {
			ASSERT_EQ(0, put_back(e, AUTO));
			ASSERT_EQ(0, put_back(e, FD));
		} else if (how == TIME_OVER) {
			nt_sleep_until(CLOCK_MONOTONIC, d->p.a.timeout);
		}
		end_hog();
		replies(thief, s);
		switch (how) {
		case OBJECT:
		case BOTH:
			reports(d, AUTO, 1);
			EXPECT_EQ(how == BOTH ? 1U << FD : 0, which_ready(e));
			break;
		case DESCRIPTOR:
			reports(d, FD, 2);
			break;
		case TIME_OVER:
			ends(d, -ETIMEDOUT, NONE);
			break;
		default:
			sleeps_on(d);
			sends(s, 50);
			told(d, 0);
			serves(d, s, 50);
			break;
		}
		ASSERT_EQ(0, put_back(e, FD));
		EXPECT_EQ(0U, which_ready(e));
		lent_nothing(d);
		lent_nothing(thief);
	}
}

/* Whoever takes the event has its priority now; and this one waits again, which ends it. */
#define had_boost(g, prio) do {						\
	struct agent *__k = (g);					\
	int __had = (prio);						\
									\
	EXPECT_EQ(FIFO(__had), __k->seen);				\
	lent(__k, __had);						\
	check_event(self->e.obj[AUTO], 0, 0);				\
	arrange(__k, obj(self->e.never));				\
	__k->p.a.timeout = NT_EXPIRED;					\
	ASSERT_EQ(-ETIMEDOUT, actor_do(&__k->p.a, do_agg));		\
	lent_nothing(__k);						\
} while (0)

/* An event with a priority behind a descriptor that is ready: both are left to the next wait. */
TEST_F_TIMEOUT(aggregate_channel, set_pi_behind_descriptor, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *other = self->d2;
	struct env *e = &self->e;
	unsigned int i;

	need_set_pi();
	for (i = 0; i < 8; i++) {
		arrange(d, source_of(e, FD), source_of(e, AUTO), obj(e->never), obj(e->never),
			obj(e->never), obj(e->never), obj(e->never), obj(e->never),
			obj(e->never));
		/* also more than 8 */
		d->nb = i & 1 ? 9 : 2;
		if (i & 2)
			falls_asleep(d);
		ASSERT_EQ(0, make_ready(e, FD));
		EXPECT_EQ(0, set_pi(e->obj[AUTO], 60));
		lent_nothing(d);
		if (!(i & 2))
			actor_begin(&d->p.a, do_agg);
		reports(d, FD, 0);
		EXPECT_EQ(NORMAL, d->seen);
		check_event(e->obj[AUTO], 0, 1);
		/* that is so as often as it looks */
		ASSERT_EQ(0, actor_do(&d->p.a, do_agg));
		check_report(d, FD, 0);
		EXPECT_EQ(NORMAL, d->seen);
		lent_nothing(d);
		check_event(e->obj[AUTO], 0, 1);
		if (i & 4) {
			arrange(other, source_of(e, AUTO));
			ASSERT_EQ(0, actor_do(&other->p.a, do_agg));
			check_report(other, AUTO, 0);
			lent_nothing(d);
			had_boost(other, 60);
			ASSERT_EQ(0, put_back(e, FD));
		} else {
			ASSERT_EQ(0, put_back(e, FD));
			ASSERT_EQ(0, actor_do(&d->p.a, do_agg));
			check_report(d, AUTO, 1);
			had_boost(d, 60);
		}
	}
}

/* The same behind a channel: what it has is the request's priority, and then its own. */
TEST_F_TIMEOUT(aggregate_channel, set_pi_behind_channel, NT_TEST_TIMEOUT)
{
	struct agent *d = self->d, *other = self->d2, *s = self->s;
	struct env *e = &self->e;
	unsigned int i;

	need_set_pi();
	ASSERT_EQ(0, set_own(d, 20));
	for (i = 0; i < 4; i++) {
		arrange(d, obj(self->ch[0]), source_of(e, AUTO));
		if (i & 1) {
			/* it is told, and held; then the event is set */
			falls_asleep(d);
			sends_held(s, 50);
			EXPECT_TRUE(is_held(d));
			EXPECT_EQ(0, set_pi(e->obj[AUTO], 60));
			lent(d, 50);
			EXPECT_TRUE(is_held(d));
			end_hog();
		} else {
			EXPECT_EQ(0, set_pi(e->obj[AUTO], 60));
			sends(s, 50);
			actor_begin(&d->p.a, do_agg);
		}
		told(d, 0);
		EXPECT_EQ(FIFO(50), d->seen);
		check_event(e->obj[AUTO], 0, 1);
		serves(d, s, 50);
		lent_nothing(d);
		check_event(e->obj[AUTO], 0, 1);
		if (i & 2) {
			arrange(other, source_of(e, AUTO));
			ASSERT_EQ(0, actor_do(&other->p.a, do_agg));
			check_report(other, AUTO, 0);
			lent_nothing(d);
			had_boost(other, 60);
		} else {
			ASSERT_EQ(0, actor_do(&d->p.a, do_agg));
			check_report(d, AUTO, 1);
			had_boost(d, 60);
		}
	}
}

TEST_HARNESS_MAIN
