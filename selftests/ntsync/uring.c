// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * WAIT_ANY and WAIT_ALL with a descriptor (uring_fd), sentence by sentence of the contract:
 * a wait that also ends when the descriptor can be read. And what it is for: one thread
 * that serves objects, a channel and a ring of io_uring, under load.
 *
 * Unless a test says otherwise, everything runs on one CPU below the controlling thread, so
 * that a waiter that was woken looks only when that one sleeps.
 *
 * The tests with a ring need liburing (NTSYNC_HAVE_LIBURING, -luring) and are skipped
 * without it. The numbers of rounds are scaled by NTSYNC_SCALE (in percent).
 */
#include "descriptor_test.h"
#include <assert.h>
#include <poll.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#ifdef NTSYNC_HAVE_LIBURING
#include <liburing.h>
#endif

#define READY		NTSYNC_INDEX_URING_READY

/* The field was once called pad. */
#define URING_FD	(offsetof(struct ntsync_wait_args, alert) + sizeof(__u32))

static_assert(READY == 0xFFFFFFFEU, "index");
static_assert(URING_FD == 36 && sizeof(struct ntsync_wait_args) == 40, "uring_fd");

#define OWNER		7	/* of mutexes: the waiter, */
#define OTHER		8	/* and somebody else */

#define NB_WAITERS	8
#define NB_FLAPS	1000
#define NB_RACES	3400	/* of each of six kinds */
#define NB_COMPLETIONS	2000
#define NB_SIGNALS	500
#define NB_SENDERS	4
#define NB_REQUESTS	300	/* of each sender */

/* No test of many rounds begins another one after that: see grant_race.c. */
#define BUDGET_NSEC	(2 * NT_NSEC_PER_SEC)

static void nap(unsigned int usec)
{
	nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + usec * 1000ULL);
}

/* The calling thread becomes an ordinary one. */
static int relax(void)
{
	return set_sched(0, SCHED_OTHER, 0);
}

static int set_pi(int event, __u32 prio)
{
	struct ntsync_event_set_pi_args args = { .policy = SCHED_FIFO, .prio = prio };

	return nt_ioctl(event, NTSYNC_IOC_EVENT_SET_PI, &args);
}

/* A thread that waits: the objects are those of the actor. */
struct waiter {
	struct actor a;		/* must be first */
	int alert;
	__u32 fd;
	__u32 flags;
	__u32 index;		/* result */
	int seen;		/* its priority after the wait */
};

/* By the calling thread. */
static int wait_with(struct waiter *w, __u64 timeout)
{
	struct ntsync_wait_args args = {
		.timeout = timeout, .objs = (uintptr_t)w->a.objs, .count = w->a.nb_objs,
		.index = NT_POISON, .flags = w->flags, .owner = w->a.id, .alert = w->alert,
	};
	int ret;

	memcpy((char *)&args + URING_FD, &w->fd, sizeof(w->fd));
	ret = nt_ioctl(w->a.dev, w->a.all ? NTSYNC_IOC_WAIT_ALL : NTSYNC_IOC_WAIT_ANY, &args);
	w->index = args.index;
	return ret;
}

static int do_wait_fd(struct actor *a)
{
	struct waiter *w = (struct waiter *)a;
	int ret = wait_with(w, a->timeout ? a->timeout : nt_bound());

	w->seen = actor_prio(a);
	return ret;
}

FIXTURE(uring) {
	int dev;
	int there;	/* another CPU, if there is one */
	bool smp;
	bool all;
	int event;	/* auto-reset */
	int sem;	/* 1 of 3 */
	int mutex;	/* free */
	int alert;	/* an auto-reset event */
	int fd;		/* an eventfd */
	struct waiter w;
	struct waiter owner;
	struct waiter high;
};

FIXTURE_VARIANT(uring) {
	bool all;
};

FIXTURE_VARIANT_ADD(uring, any) { .all = false };
FIXTURE_VARIANT_ADD(uring, all) { .all = true };

/* For this object or the descriptor; the other objects of all are available. */
static void arrange(FIXTURE_DATA(uring) *self, int obj)
{
	int objs[] = { obj, self->sem, self->mutex };

	memcpy(self->w.a.objs, objs, sizeof(objs));
	self->w.a.nb_objs = !self->all ? 1 : obj == self->mutex ? 2 : 3;
	self->w.a.all = self->all;
	self->w.fd = self->fd;
}

FIXTURE_SETUP(uring)
{
	struct waiter *w = &self->w;

	self->smp = nt_cpu_count() > 1;
	self->there = nt_cpu(1);
	begin_pi(self->dev);
	signal(SIGPIPE, SIG_IGN);
	self->all = variant->all;
	self->event = nt_create_event(self->dev, false, false);
	ASSERT_LE(0, self->event);
	self->sem = nt_create_sem(self->dev, 1, 3);
	ASSERT_LE(0, self->sem);
	self->mutex = nt_create_mutex(self->dev, 0, 0);
	ASSERT_LE(0, self->mutex);
	self->alert = nt_create_event(self->dev, false, false);
	ASSERT_LE(0, self->alert);
	self->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	ASSERT_LT(0, self->fd);
	for (w = &self->w; w <= &self->high; w++) {
		w->a.id = OWNER + (w - &self->w);
		ASSERT_EQ(0, actor_start(&w->a, self->dev, 0));
	}
	arrange(self, self->event);
	if (wait_with(&self->w, NT_EXPIRED) == -EINVAL)
		SKIP(return, "no uring_fd in this kernel");
}

/* Whatever sleeps ends with the process. */
FIXTURE_TEARDOWN(uring)
{
}

/* Take what is available, as somebody else. */
static int take(FIXTURE_DATA(uring) *self, int obj)
{
	__u32 index;

	return nt_try_any(self->dev, 1, &obj, OTHER, 0, &index);
}

/* After a wait that has taken its objects. */
static int put_back(FIXTURE_DATA(uring) *self)
{
	int ret = self->all ? nt_release_sem(self->sem, 1, NULL) : 0;

	if (!ret && nt_mutex_owner(self->mutex) == OWNER)
		ret = nt_unlock_mutex(self->mutex, OWNER, NULL);
	return ret;
}

/* Nothing was consumed; the event may be signaled. */
#define is_left(signaled) do {						\
	check_event(self->event, 0, (signaled));			\
	check_sem(self->sem, 1, 3);					\
	check_mutex(self->mutex, 0, 0);					\
	check_event(self->alert, 0, 0);					\
} while (0)

#define untouched()	is_left(0)

/* All it waited for was consumed. */
#define took_objects() do {						\
	check_event(self->event, 0, 0);					\
	check_sem(self->sem, !self->all, 3);				\
	check_mutex(self->mutex, self->all ? OWNER : 0, self->all);	\
	check_event(self->alert, 0, 0);					\
	EXPECT_EQ(0, put_back(self));					\
} while (0)

/* From here, without a sleep. */
#define looks(_ret, _index) do {					\
	EXPECT_EQ((_ret), wait_with(&self->w, NT_EXPIRED));		\
	EXPECT_EQ((_index), self->w.index);				\
} while (0)

#define still_asleep() do {						\
	ASSERT_TRUE(actor_asleep(&self->w.a)) {				\
		TH_LOG("returned %d, index %#x", self->w.a.ret, self->w.index); \
	}								\
} while (0)

#define falls_asleep() do {						\
	actor_begin(&self->w.a, do_wait_fd);				\
	still_asleep();							\
} while (0)

#define ends(_ret, _index) do {						\
	ASSERT_EQ((_ret), actor_end(&self->w.a));			\
	EXPECT_EQ((_index), self->w.index);				\
} while (0)

/* The descriptor or the objects are ready while it sleeps, and that ends the wait. */
#define ready() do {							\
	ASSERT_EQ(0, raise_fd(self->fd));				\
	ends(0, READY);							\
	untouched();							\
	EXPECT_EQ(1U, drain(self->fd));					\
} while (0)

#define signals() do {							\
	EXPECT_EQ(0, set(self->event));					\
	ends(0, 0U);							\
	took_objects();							\
} while (0)

TEST_F_TIMEOUT(uring, none, NT_TEST_TIMEOUT)
{
	/* 0 is no descriptor, also when there is one with that number */
	self->w.a.dev = dup(self->dev);
	ASSERT_LT(0, self->w.a.dev);
	ASSERT_EQ(0, raise_fd(self->fd));
	ASSERT_EQ(0, dup2(self->fd, 0));
	self->w.fd = 0;
	looks(-ETIMEDOUT, NT_POISON);
	untouched();
	falls_asleep();
	signals();
	self->w.fd = self->fd;
	looks(0, READY);
}

/* Whether or not the objects are ready. */
#define fails_with(err, what) do {					\
	int __ready;							\
									\
	for (__ready = 0; __ready < 2; __ready++) {			\
		if (__ready)						\
			EXPECT_EQ(0, set(self->event));			\
		EXPECT_EQ((err), wait_with(&self->w, NT_EXPIRED)) {	\
			TH_LOG("%s %#x", (what), self->w.fd);		\
		}							\
		EXPECT_EQ(NT_POISON, self->w.index);			\
		is_left(__ready);					\
	}								\
	EXPECT_EQ(0, nt_event(self->event, NTSYNC_IOC_EVENT_RESET, NULL)); \
} while (0)

TEST_F_TIMEOUT(uring, bad_descriptor, NT_TEST_TIMEOUT)
{
	__u32 bad[] = { dup(self->fd), INT_MAX, 1U << 31, 1U << 31 | self->fd, READY, UINT_MAX };
	unsigned int i;

	close(bad[0]);
	ASSERT_EQ(0, raise_fd(self->fd));
	for (i = 0; i < ARRAY_LEN(bad); i++) {
		self->w.fd = bad[i];
		fails_with(-EBADF, "not open");
	}

	/* one that is ready hides no other error */
	self->w.fd = self->fd;
	self->w.flags = 2;
	fails_with(-EINVAL, "flags");
	self->w.flags = 0;
	self->w.alert = self->dev;
	fails_with(-EINVAL, "alert");
	self->w.alert = 0;
	self->w.a.objs[self->w.a.nb_objs++] = self->fd;
	fails_with(-EINVAL, "object");
	EXPECT_EQ(1U, drain(self->fd));
}

TEST_F_TIMEOUT(uring, not_pollable, NT_TEST_TIMEOUT)
{
	int other = open("/dev/ntsync", O_CLOEXEC | O_RDONLY), ch = ch_create(self->dev, 1);
	int bad[] = {
		self->dev, self->event, self->sem, self->mutex, other,
		nt_create_event(other, true, true),
		open("/proc/self/exe", O_RDONLY | O_CLOEXEC),
		open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		ch == -ENOTTY ? self->dev : ch,
	};
	unsigned int i;

	for (i = 0; i < ARRAY_LEN(bad); i++) {
		ASSERT_LE(0, bad[i]);
		self->w.fd = bad[i];
		fails_with(-EINVAL, "not pollable");
	}
}

TEST_F_TIMEOUT(uring, readable_before, NT_TEST_TIMEOUT)
{
	static const __u64 timeouts[] = { 0, NT_EXPIRED, UINT64_MAX };
	unsigned int i;

	for (i = 0; i < 6; i++) {
		self->w.flags = i & 1 ? NTSYNC_WAIT_REALTIME : 0;
		ASSERT_EQ(0, raise_fd(self->fd));
		EXPECT_EQ(0, wait_with(&self->w, timeouts[i / 2]));
		EXPECT_EQ(READY, self->w.index);
		untouched();
	}
	self->w.flags = 0;
	/* all of nothing are there, and any of nothing is not */
	self->w.a.nb_objs = 0;
	looks(0, self->all ? 0U : READY);
	/* none of these waits has read it */
	EXPECT_EQ(6U, drain(self->fd));
	looks(self->all ? 0 : -ETIMEDOUT, self->all ? 0U : NT_POISON);
	if (!self->all) {
		falls_asleep();
		ready();
	}
	arrange(self, self->event);
	looks(-ETIMEDOUT, NT_POISON);
	untouched();
}

TEST_F_TIMEOUT(uring, objects_and_alert_first, NT_TEST_TIMEOUT)
{
	ASSERT_EQ(0, raise_fd(self->fd));
	self->w.alert = self->alert;
	looks(0, READY);
	untouched();
	EXPECT_EQ(0, set(self->event));
	looks(0, 0U);
	took_objects();
	/* one after the other, when all are ready */
	EXPECT_EQ(0, set(self->event));
	EXPECT_EQ(0, set(self->alert));
	looks(0, 0U);
	check_event(self->alert, 0, 1);
	EXPECT_EQ(0, put_back(self));
	looks(0, self->w.a.nb_objs);
	untouched();
	looks(0, READY);
	untouched();
	EXPECT_EQ(1U, drain(self->fd));
}

/* An abandoned mutex, before the wait and while that sleeps. */
TEST_F_TIMEOUT(uring, abandoned_first, NT_TEST_TIMEOUT)
{
	unsigned int i;

	arrange(self, self->mutex);
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, take(self, self->mutex));
		if (i)
			falls_asleep();
		if (i < 2)
			ASSERT_EQ(0, raise_fd(self->fd));
		EXPECT_EQ(0, nt_kill_mutex(self->mutex, OTHER));
		if (i == 2)
			ASSERT_EQ(0, raise_fd(self->fd));
		if (!i)
			actor_begin(&self->w.a, do_wait_fd);
		ends(-EOWNERDEAD, 0U);
		check_mutex(self->mutex, OWNER, 1);
		check_sem(self->sem, !self->all, 3);
		EXPECT_EQ(0, put_back(self));
		EXPECT_EQ(1U, drain(self->fd));
	}
}

/* On the same CPU, and by another one. */
TEST_F_TIMEOUT(uring, wakes, NT_TEST_TIMEOUT)
{
	unsigned int i;

	self->w.alert = self->alert;
	for (i = 0; i < 40; i++) {
		if (i == 20)
			ASSERT_EQ(0, move_to(atomic_load(&self->w.a.tid), self->there));
		falls_asleep();
		ready();
		/* it is in no queue any more */
		EXPECT_EQ(0, set(self->event));
		is_left(1);
		looks(0, 0U);
		took_objects();

		falls_asleep();
		signals();
		falls_asleep();
		EXPECT_EQ(0, set(self->alert));
		ends(0, self->w.a.nb_objs);
		untouched();
		/* nor does it wait for the descriptor */
		ASSERT_EQ(0, raise_fd(self->fd));
		EXPECT_EQ(1U, drain(self->fd));
	}
}

/* Descriptors of many kinds: [0] is waited for, and [1] makes it readable. */
enum {
	AN_EVENTFD, A_TIMERFD, AN_EPOLL, A_PIPE, A_PIPE_CLOSED, A_PIPE_TURNED, A_PIPE_FOR_BOTH,
	A_SOCKET, A_SOCKET_CLOSED, A_SOCKET_AT_ITS_END, NB_KINDS
};

static int make(int kind, int *fd)
{
	struct epoll_event event = { .events = EPOLLIN };
	char path[32];
	int tmp;

	if (kind >= A_SOCKET)
		return socketpair(AF_UNIX, SOCK_STREAM, 0, fd);
	if (kind >= A_PIPE && pipe(fd))
		return -1;
	switch (kind) {
	case AN_EVENTFD:
	case A_TIMERFD:
		fd[0] = kind == AN_EVENTFD ? eventfd(0, 0) : timerfd_create(CLOCK_MONOTONIC, 0);
		fd[1] = dup(fd[0]);
		return fd[1];
	case AN_EPOLL:
		fd[0] = epoll_create1(0);
		fd[1] = eventfd(0, 0);
		return epoll_ctl(fd[0], EPOLL_CTL_ADD, fd[1], &event);
	case A_PIPE_TURNED:
		tmp = fd[0];
		fd[0] = fd[1];
		fd[1] = tmp;
		return 0;
	case A_PIPE_FOR_BOTH:
		/* it is its own writer */
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd[0]);
		close(fd[1]);
		fd[1] = open(path, O_RDWR);
		return fd[1] < 0 ? -1 : dup2(fd[1], fd[0]);
	default:
		return 0;
	}
}

static int fire(int kind, int *fd)
{
	struct itimerspec when = { .it_value.tv_nsec = 1000000 };
	int closed = fd[1];
	__u64 one = 1;

	switch (kind) {
	case A_PIPE_CLOSED:
	case A_PIPE_TURNED:
	case A_SOCKET_CLOSED:
		fd[1] = -1;
		return close(closed);
	case A_SOCKET_AT_ITS_END:
		return shutdown(fd[1], SHUT_WR);
	case A_TIMERFD:
		return timerfd_settime(fd[1], 0, &when, NULL);
	default:
		return write(fd[1], &one, sizeof(one)) == sizeof(one) ? 0 : -1;
	}
}

TEST_F_TIMEOUT(uring, kinds, NT_TEST_TIMEOUT)
{
	int fd[2], kind, asleep;

	for (kind = 0; kind < NB_KINDS; kind++) {
		for (asleep = 0; asleep < 2; asleep++) {
			ASSERT_LE(0, make(kind, fd)) {
				TH_LOG("kind %d: %s", kind, strerror(errno));
			}
			self->w.fd = fd[0];
			/* some can be written: that does not count */
			looks(-ETIMEDOUT, NT_POISON);
			if (asleep)
				falls_asleep();
			ASSERT_EQ(0, fire(kind, fd));
			if (!asleep)
				actor_begin(&self->w.a, do_wait_fd);
			ends(0, READY);
			untouched();
			/* it has stayed as it was */
			looks(0, READY);
			EXPECT_EQ(0, set(self->event));
			looks(0, 0U);
			took_objects();
			close(fd[0]);
			close(fd[1]);
			ASSERT_EQ(0, _metadata->exit_code) {
				TH_LOG("kind %d, asleep %d", kind, asleep);
			}
		}
	}
}

/* It becomes writable while the wait sleeps. */
TEST_F_TIMEOUT(uring, not_for_writing, NT_TEST_TIMEOUT)
{
	static char buf[4096];
	unsigned int i, k;
	int fd[2];

	for (i = 0; i < 2; i++) {
		ASSERT_LE(0, make(i ? A_SOCKET : A_PIPE_TURNED, fd));
		for (k = 0; k < 2; k++)
			ASSERT_EQ(0, fcntl(fd[k], F_SETFL, O_NONBLOCK));
		self->w.fd = fd[0];
		while (write(fd[0], buf, sizeof(buf)) > 0)
			;
		ASSERT_EQ(EAGAIN, errno);
		falls_asleep();
		while (read(fd[1], buf, sizeof(buf)) > 0)
			;
		ASSERT_EQ(EAGAIN, errno);
		/* if that wakes it, it has been woken by now */
		still_asleep();
		signals();
		close(fd[0]);
		close(fd[1]);
	}
}

/* Nobody has read it, so it is ready for all. */
TEST_F_TIMEOUT(uring, several_waiters, NT_TEST_TIMEOUT)
{
	static struct waiter w[NB_WAITERS];
	unsigned int i;

	for (i = 0; i < NB_WAITERS; i++) {
		ASSERT_EQ(0, actor_start(&w[i].a, self->dev, i * 10));
		memcpy(w[i].a.objs, self->w.a.objs, sizeof(w[i].a.objs));
		w[i].a.nb_objs = self->w.a.nb_objs;
		w[i].a.all = self->all;
		w[i].fd = self->fd;
		actor_begin(&w[i].a, do_wait_fd);
		ASSERT_TRUE(actor_asleep(&w[i].a));
	}
	falls_asleep();
	ready();
	for (i = 0; i < NB_WAITERS; i++) {
		/* some may have looked after it was drained */
		ASSERT_EQ(0, raise_fd(self->fd));
		ASSERT_EQ(0, actor_end(&w[i].a));
		EXPECT_EQ(READY, w[i].index);
	}
	untouched();
}

/* By another thread, while the wait sleeps: that wait goes on. */
TEST_F_TIMEOUT(uring, closed, NT_TEST_TIMEOUT)
{
	int fd[2], other = eventfd(1, EFD_NONBLOCK), i;

	/* there is another descriptor, and also something else with that number */
	ASSERT_LE(0, other);
	for (i = 0; i < 4; i++) {
		self->w.fd = dup(self->fd);
		falls_asleep();
		ASSERT_LE(0, i & 1 ? dup2(other, self->w.fd) : close(self->w.fd));
		/* it looks */
		ASSERT_EQ(0, raise_fd(self->fd));
		EXPECT_EQ(1U, drain(self->fd));
		still_asleep();
		if (i & 2)
			ready();
		else
			signals();
		if (i & 1)
			close(self->w.fd);
	}
	EXPECT_EQ(1U, drain(other));

	/* there is none */
	self->w.fd = eventfd(0, 0);
	falls_asleep();
	ASSERT_EQ(0, close(self->w.fd));
	still_asleep();
	signals();

	/* the wait is the reader that the pipe has */
	ASSERT_EQ(0, pipe(fd));
	self->w.fd = fd[0];
	falls_asleep();
	ASSERT_EQ(0, close(fd[0]));
	EXPECT_EQ(1, write(fd[1], "", 1));
	ends(0, READY);
	untouched();
	EXPECT_EQ(-1, write(fd[1], "", 1));
	looks(-EBADF, NT_POISON);
}

static atomic_uint handled;

static void count_signal(int sig)
{
	(void)sig;
	atomic_fetch_add(&handled, 1);
}

/* With a handler, and with SA_RESTART. */
TEST_F_TIMEOUT(uring, signals, NT_TEST_TIMEOUT)
{
	struct sigaction sa = { .sa_handler = count_signal };
	unsigned int i;

	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
	falls_asleep();
	ASSERT_EQ(0, pthread_kill(self->w.a.thread, SIGUSR1));
	ends(-EINTR, NT_POISON);
	EXPECT_EQ(1U, atomic_load(&handled));
	/* nothing is left in the queues */
	ASSERT_EQ(0, raise_fd(self->fd));
	EXPECT_EQ(0, set(self->event));
	is_left(1);
	EXPECT_EQ(0, take(self, self->event));
	EXPECT_EQ(1U, drain(self->fd));

	sa.sa_flags = SA_RESTART;
	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
	for (i = 0; i < 20; i++) {
		if (i % 10 == 0)
			falls_asleep();
		ASSERT_EQ(0, pthread_kill(self->w.a.thread, SIGUSR1));
		ASSERT_TRUE(poll_until(atomic_load(&handled) == i + 2));
		still_asleep();
		untouched();
		if (i == 9)
			ready();
		if (i == 19)
			signals();
	}
}

/* A timeout is never early, and has consumed nothing. */
TEST_F_TIMEOUT(uring, timeout, NT_TEST_TIMEOUT)
{
	static const clockid_t clocks[] = { CLOCK_MONOTONIC, CLOCK_REALTIME };
	unsigned int i;
	__u64 timeout;

	for (i = 0; i < 10; i++) {
		self->w.flags = i & 1 ? NTSYNC_WAIT_REALTIME : 0;
		timeout = nt_now(clocks[i & 1]) + i / 2 * 400000 - (i < 2);
		EXPECT_EQ(-ETIMEDOUT, wait_with(&self->w, timeout));
		EXPECT_LE(timeout, nt_now(clocks[i & 1]));
		EXPECT_EQ(NT_POISON, self->w.index);
	}
	untouched();
	/* far ones, and the descriptor ends the wait */
	for (i = 0; i < 4; i++) {
		self->w.flags = i & 1 ? NTSYNC_WAIT_REALTIME : 0;
		self->w.a.timeout = i < 2 ? nt_now(clocks[i]) + NT_BOUND_NSEC : UINT64_MAX;
		falls_asleep();
		ready();
	}
}

/* Both are ready when the waiter looks, whichever was first. */
TEST_F_TIMEOUT(uring, both_while_asleep, NT_TEST_TIMEOUT)
{
	unsigned int i;

	self->w.alert = self->alert;
	for (i = 0; i < 8; i++) {
		bool fd_first = i & 1, alert = i & 2;

		ASSERT_EQ(0, set_sched(atomic_load(&self->w.a.tid),
				       i & 4 ? SCHED_FIFO : SCHED_OTHER, i & 4 ? 50 : 0));
		falls_asleep();
		if (fd_first)
			ASSERT_EQ(0, raise_fd(self->fd));
		EXPECT_EQ(0, set(alert ? self->alert : self->event));
		if (!fd_first)
			ASSERT_EQ(0, raise_fd(self->fd));
		ends(0, alert ? self->w.a.nb_objs : 0U);
		if (alert)
			untouched();
		else
			took_objects();
		EXPECT_EQ(1U, drain(self->fd));
	}
}

/* It was readable, but is not any more when the waiter looks. */
TEST_F_TIMEOUT(uring, drained, NT_TEST_TIMEOUT)
{
	unsigned int i;

	for (i = 0; i < 4; i++) {
		/* the last one ends by its timeout */
		if (i == 3)
			self->w.a.timeout = nt_now(CLOCK_MONOTONIC) + NT_NSEC_PER_SEC / 4;
		actor_begin(&self->w.a, do_wait_fd);
		ASSERT_TRUE(actor_asleep(&self->w.a) || i == 3);
		ASSERT_EQ(0, raise_fd(self->fd));
		EXPECT_EQ(1U, drain(self->fd));
		if (i < 2)
			still_asleep();
		if (!i)
			ready();
		else if (i < 3)
			signals();
		else
			ends(-ETIMEDOUT, NT_POISON);
	}
	untouched();
}

/*
 * Priorities.
 */

/* The controller's own is that of a lock in the kernel, for a moment. */
static int prio_of(struct actor *a)
{
	int prio = FIFO(CONTROLLER_PRIO);

	poll_until((prio = actor_prio(a)) != FIFO(CONTROLLER_PRIO));
	return prio;
}

#define has(w, prio)	EXPECT_EQ((prio), prio_of(&(w)->a))

#define gets_own(w, prio)						\
	ASSERT_EQ(0, set_sched(atomic_load(&(w)->a.tid), SCHED_FIFO, (prio)))

/* The owner has the waiter's priority as long as the wait, however that ends. */
TEST_F_TIMEOUT(uring, lends, NT_TEST_TIMEOUT)
{
	struct waiter *owner = &self->owner, *high = &self->high;
	int first = nt_create_mutex(self->dev, 0, 0), i;

	ASSERT_LE(0, first);
	acquires(&self->w.a, first);
	acquires(&owner->a, self->mutex);
	arrange(self, self->mutex);
	for (i = 0; i < 4; i++) {
		gets_own(&self->w, 50);
		falls_asleep();
		has(owner, FIFO(50));
		/* also what it is lent itself */
		gets_own(high, 60);
		waits_for(&high->a, first);
		has(owner, FIFO(60));
		gets_own(high, 70);
		has(owner, FIFO(70));
		if (i == 1) {
			/* a look in between does not end it */
			ASSERT_EQ(0, raise_fd(self->fd));
			EXPECT_EQ(1U, drain(self->fd));
			still_asleep();
			has(owner, FIFO(70));
		}
		ASSERT_EQ(0, i == 2 ? pthread_kill(self->w.a.thread, SIGUSR1) : raise_fd(self->fd));
		/* handed over, with the descriptor ready */
		if (i == 3)
			EXPECT_EQ(0, nt_unlock_mutex(self->mutex, OTHER, NULL));
		ends(i == 2 ? -EINTR : 0, i == 2 ? NT_POISON : i == 3 ? 0U : READY);
		has(owner, NORMAL);
		EXPECT_EQ(FIFO(70), self->w.seen);
		check_mutex(self->mutex, i < 3 ? OTHER : OWNER, 1);
		check_sem(self->sem, i < 3 || !self->all, 3);
		EXPECT_EQ(i == 2 ? 0U : 1U, drain(self->fd));
		ASSERT_EQ(0, pthread_kill(high->a.thread, SIGUSR1));
		ASSERT_EQ(-EINTR, actor_end(&high->a));
		has(&self->w, FIFO(50));
	}

	/* and one that times out */
	EXPECT_EQ(0, put_back(self));
	acquires(&owner->a, self->mutex);
	self->w.a.timeout = nt_now(CLOCK_MONOTONIC) + NT_NSEC_PER_SEC / 10;
	actor_begin(&self->w.a, do_wait_fd);
	ends(-ETIMEDOUT, NT_POISON);
	has(owner, NORMAL);
	check_mutex(self->mutex, OTHER, 1);
	check_sem(self->sem, 1, 3);
}

/* An event that is set with a priority. */
TEST_F_TIMEOUT(uring, set_pi, NT_TEST_TIMEOUT)
{
	unsigned int i;

	if (set_pi(self->event, 50) == -ENOTTY)
		SKIP(return, "no EVENT_SET_PI in this kernel");
	EXPECT_EQ(0, take(self, self->event));
	for (i = 0; i < 4; i++) {
		/* not readable, before or after the event; not asleep */
		if (i < 3)
			falls_asleep();
		if (i & 1)
			ASSERT_EQ(0, raise_fd(self->fd));
		EXPECT_EQ(0, set_pi(self->event, 50));
		if (i == 2)
			ASSERT_EQ(0, raise_fd(self->fd));
		if (i == 3)
			actor_begin(&self->w.a, do_wait_fd);
		else
			EXPECT_EQ(FIFO(50), prio_of(&self->w.a));
		ends(0, 0U);
		took_objects();
		EXPECT_EQ(FIFO(50), self->w.seen);
		has(&self->w, FIFO(50));

		/* it lasts until the next wait, which need not sleep */
		if (!i)
			ASSERT_EQ(0, raise_fd(self->fd));
		ASSERT_EQ(0, actor_do(&self->w.a, do_wait_fd));
		EXPECT_EQ(READY, self->w.index);
		EXPECT_EQ(NORMAL, self->w.seen);
		has(&self->w, NORMAL);
		EXPECT_EQ(1U, drain(self->fd));
	}

	/* a wait that the descriptor ends consumes no event, and so no priority */
	if (self->all) {
		ASSERT_EQ(0, take(self, self->mutex));
		EXPECT_EQ(0, set_pi(self->event, 50));
	}
	falls_asleep();
	ASSERT_EQ(0, raise_fd(self->fd));
	ends(0, READY);
	if (!self->all)
		EXPECT_EQ(0, set_pi(self->event, 50));
	EXPECT_EQ(NORMAL, self->w.seen);
	has(&self->w, NORMAL);
	check_event(self->event, 0, 1);
	acquires(&self->owner.a, self->event);
	has(&self->owner, FIFO(50));
}

/*
 * At the same time, on two CPUs if there are as many, by ordinary threads.
 */

static atomic_uint stop, taken, reported;

/* Take the objects again and again, until it is told to stop. */
static int do_take_all(struct actor *a)
{
	struct waiter *w = (struct waiter *)a;
	int ret = 0;

	while (!ret && !atomic_load(&stop)) {
		ret = wait_with(w, nt_bound());
		if (!ret && w->index == READY) {
			atomic_fetch_add(&reported, 1);
			continue;
		}
		if (!ret && a->all)
			ret = nt_release_sem(a->objs[1], 1, NULL);
		if (!ret && a->all)
			ret = nt_unlock_mutex(a->objs[2], a->id, NULL);
		atomic_fetch_add(&taken, !ret);
		nt_futex_wake(&taken);
	}
	return ret;
}

static void *flap(void *arg)
{
	int fd = *(int *)arg;
	unsigned int seed = 1;

	move_to(0, -1);
	while (!atomic_load(&stop)) {
		raise_fd(fd);
		if (!rnd(&seed, 4))
			nap(rnd(&seed, 40));
		drain(fd);
		if (!rnd(&seed, 4))
			nap(rnd(&seed, 40));
	}
	return NULL;
}

/* The descriptor is readable for moments only: whatever a look finds, no signal gets lost. */
TEST_F_TIMEOUT(uring, flapping, NT_TEST_TIMEOUT)
{
	unsigned int i, n = nt_scaled(NB_FLAPS);
	pthread_t thread;
	__u64 deadline;

	ASSERT_EQ(0, relax());
	ASSERT_EQ(0, move_to(atomic_load(&self->w.a.tid), self->there));
	actor_begin(&self->w.a, do_take_all);
	ASSERT_EQ(0, pthread_create(&thread, NULL, flap, &self->fd));
	deadline = nt_now(CLOCK_MONOTONIC) + BUDGET_NSEC;
	for (i = 0; i < n && nt_now(CLOCK_MONOTONIC) < deadline; i++) {
		ASSERT_EQ(0, set(self->event));
		ASSERT_TRUE(nt_await(&taken, i + 1)) {
			TH_LOG("signal %u is lost", i);
		}
	}
	atomic_store(&stop, 1);
	pthread_join(thread, NULL);
	ASSERT_EQ(0, raise_fd(self->fd));
	ASSERT_EQ(0, actor_end(&self->w.a));
	EXPECT_EQ(i, atomic_load(&taken));
	untouched();
	TH_LOG("%u of %u signals, %u times readable", i, n, atomic_load(&reported));
}

/* On a single CPU the waiter has to run meanwhile. */
static void let_pass(bool smp, __u64 nsec)
{
	__u64 when = nt_now(CLOCK_MONOTONIC) + nsec;

	if (!smp && nsec)
		nt_sleep_until(CLOCK_MONOTONIC, when);
	while (nt_now(CLOCK_MONOTONIC) < when)
		;
}

/*
 * The descriptor becomes readable, and shortly after that an object is signaled, while the
 * waiter is about to report the one or the other. The time between is swept, as in
 * grant_race.c, so that most races are close ones.
 */
static void race(struct __test_metadata *_metadata, FIXTURE_DATA(uring) *self, int obj)
{
	unsigned int i, n = nt_scaled(NB_RACES), granted = 0, seed = 1;
	__u64 deadline = nt_now(CLOCK_MONOTONIC) + BUDGET_NSEC;
	bool mutex = obj == self->mutex, all, got, last = false;
	__s64 offset = 0, step = 2000;
	struct waiter *w = &self->w;

	ASSERT_EQ(0, relax());
	prctl(PR_SET_TIMERSLACK, 1);
	ASSERT_EQ(0, move_to(atomic_load(&w->a.tid), self->there));
	if (obj == self->alert)
		w->alert = obj;
	else
		arrange(self, obj);
	all = self->all && !w->alert;
	if (mutex)
		ASSERT_EQ(0, take(self, obj));
	for (i = 0; i < n && nt_now(CLOCK_MONOTONIC) < deadline; i++) {
		actor_begin(&w->a, do_wait_fd);
		ASSERT_TRUE(poll_until(atomic_load(&w->a.entered) == atomic_load(&w->a.cmd)));
		let_pass(self->smp, rnd(&seed, 40000));
		ASSERT_EQ(0, raise_fd(self->fd));
		let_pass(self->smp, offset);
		ASSERT_EQ(0, mutex ? nt_unlock_mutex(obj, OTHER, NULL) : set(obj));
		ASSERT_EQ(0, actor_end(&w->a));

		got = w->index != READY;
		if (got)
			ASSERT_EQ(w->alert ? w->a.nb_objs : 0U, w->index);
		check_sem(self->sem, !(got && all), 3);
		check_mutex(self->mutex, got && (all || mutex) ? OWNER : 0,
			    got && (all || mutex));
		if (!mutex)
			check_event(obj, 0, !got);
		EXPECT_EQ(1U, drain(self->fd));
		ASSERT_EQ(0, _metadata->exit_code) {
			TH_LOG("race %u: index %#x", i, w->index);
		}
		if (got && (all || mutex))
			ASSERT_EQ(0, put_back(self));
		if (!got || mutex)
			ASSERT_EQ(0, take(self, obj));

		/* later after a grant, earlier after the other; finer where it changes */
		granted += got;
		step = got == last ? step + step / 2 : step / 2;
		step = step < 100 ? 100 : step > 100000 ? 100000 : step;
		last = got;
		offset += (got ? step : -step) + (int)rnd(&seed, 201) - 100;
		offset = offset < 0 ? 0 : offset > 5000000 ? 5000000 : offset;
	}
	TH_LOG("%u of %u races: %u granted, %u readable", i, n, granted, i - granted);
	if (i == n && n >= 100 && self->smp) {
		EXPECT_LE(n / 50, granted);
		EXPECT_LE(n / 50, n - granted);
	}
}

TEST_F_TIMEOUT(uring, race_event, NT_TEST_TIMEOUT)
{
	race(_metadata, self, self->event);
}

TEST_F_TIMEOUT(uring, race_mutex, NT_TEST_TIMEOUT)
{
	race(_metadata, self, self->mutex);
}

TEST_F_TIMEOUT(uring, race_alert, NT_TEST_TIMEOUT)
{
	race(_metadata, self, self->alert);
}

/*
 * A ring of io_uring. There are always some requests in flight: some that are over at once,
 * timeouts, and reads of a pipe and an eventfd, that another thread feeds.
 */

#ifdef NTSYNC_HAVE_LIBURING

#define IN_FLIGHT	16

enum { NOP, TIMEOUT, PIPE, EVENTFD, NB_OPS };

struct load {
	struct io_uring ring;
	int efd;		/* is told of completions */
	int from[2], to[2];	/* what is read: the pipe and the eventfd */
	unsigned int nb;	/* requests in all */
	unsigned int submitted;
	unsigned int reads;
	unsigned int seed;
	unsigned char *seen;
	__u64 buf[IN_FLIGHT];
	struct __kernel_timespec ts[IN_FLIGHT];
	atomic_uint completed;
	atomic_uint wanted;	/* reads that are to be fed */
	atomic_uint stop;
};

static struct load load;

static int load_prepare(struct load *l)
{
	int fd[2], ret = io_uring_queue_init(64, &l->ring, 0);

	if (ret)
		return ret;
	l->efd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	l->from[1] = eventfd(0, EFD_SEMAPHORE | EFD_CLOEXEC);
	if (l->efd < 0 || l->from[1] < 0 || pipe2(fd, O_CLOEXEC))
		return -errno;
	l->from[0] = fd[0];
	l->to[0] = fd[1];
	l->to[1] = l->from[1];
	l->nb = nt_scaled(NB_COMPLETIONS);
	l->seen = calloc(l->nb, 1);
	return l->seen ? io_uring_register_eventfd(&l->ring, l->efd) : -ENOMEM;
}

/* Why there is no ring, or NULL. */
static const char *no_ring(int err)
{
	return err == -ENOSYS ? "no io_uring in this kernel" :
	       err == -EPERM ? "io_uring is disabled" : NULL;
}

/* One more request; PIPE and EVENTFD take turns. */
static int load_one(struct load *l, unsigned int op)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&l->ring);
	unsigned int slot = l->submitted % IN_FLIGHT;

	if (!sqe)
		return -EBUSY;
	if (op == NOP) {
		io_uring_prep_nop(sqe);
	} else if (op == TIMEOUT) {
		l->ts[slot].tv_nsec = rnd(&l->seed, 200000);
		io_uring_prep_timeout(sqe, &l->ts[slot], 0, 0);
	} else {
		op = l->reads++ % 2 ? EVENTFD : PIPE;
		io_uring_prep_read(sqe, l->from[op - PIPE], &l->buf[slot], op == PIPE ? 1 : 8,
				   -1);
	}
	sqe->user_data = (__u64)l->submitted++ * NB_OPS + op;
	return 0;
}

static int load_submit(struct load *l)
{
	int ret = 0;

	while (!ret && l->submitted < l->nb &&
	       l->submitted - atomic_load(&l->completed) < IN_FLIGHT)
		ret = load_one(l, rnd(&l->seed, NB_OPS));
	if (!ret)
		ret = io_uring_submit(&l->ring);
	atomic_store(&l->wanted, l->reads);
	nt_futex_wake(&l->wanted);
	return ret < 0 ? ret : 0;
}

/* All that is completed: each once, and with the result that it should have. */
static int load_reap(struct load *l)
{
	static const int results[NB_OPS] = { [TIMEOUT] = -ETIME, [PIPE] = 1, [EVENTFD] = 8 };
	struct io_uring_cqe *cqe;
	int ret = 0;

	while (!ret && !io_uring_peek_cqe(&l->ring, &cqe)) {
		__u64 nr = cqe->user_data / NB_OPS;

		if (nr >= l->nb || l->seen[nr]++ || cqe->res != results[cqe->user_data % NB_OPS])
			ret = -EBADMSG;
		io_uring_cqe_seen(&l->ring, cqe);
		atomic_fetch_add(&l->completed, 1);
	}
	return ret;
}

static void *load_feed(void *arg)
{
	unsigned int n = 0, wanted, seed = 1;
	struct load *l = arg;
	__u64 one = 1;

	relax();
	move_to(0, -1);
	while (!atomic_load(&l->stop)) {
		wanted = atomic_load(&l->wanted);
		if (n == wanted) {
			nt_futex_wait(&l->wanted, wanted,
				      nt_now(CLOCK_MONOTONIC) + NT_NSEC_PER_SEC / 50);
			continue;
		}
		nap(rnd(&seed, 100));
		if (write(l->to[n % 2], &one, n % 2 ? 8 : 1) < 0)
			break;
		n++;
	}
	return NULL;
}

/* A thread that submits has to stay: its requests would be cancelled. */
static void *load_submit_all(void *arg)
{
	struct load *l = arg;

	while (!atomic_load(&l->stop) && !load_submit(l))
		nap(50);
	return NULL;
}

/* Signals by another thread; the next one when the last one was consumed. */
struct signaler {
	FIXTURE_DATA(uring) *self;
	unsigned int nb;
	atomic_uint seen;
	int ret;
};

static void *signal_all(void *arg)
{
	struct signaler *signaler = arg;
	FIXTURE_DATA(uring) *self = signaler->self;
	unsigned int i, k, first, seed = 1;

	for (i = 0; i < signaler->nb && !signaler->ret; i++) {
		/* both if all are waited for, in any order */
		first = rnd(&seed, 2);
		for (k = 0; k < (self->all ? 2 : 1) && !signaler->ret; k++) {
			nap(rnd(&seed, 200));
			signaler->ret = k != first ? nt_release_sem(self->sem, 1, NULL) :
						     nt_unlock_mutex(self->mutex, OTHER, NULL);
		}
		if (!signaler->ret && !nt_await(&signaler->seen, i + 1))
			signaler->ret = -EBUSY;
	}
	return NULL;
}

/* Each signal and each completion is seen, and ends a wait. */
static void run_load(struct __test_metadata *_metadata, FIXTURE_DATA(uring) *self, bool submitter)
{
	static struct signaler signaler;
	struct waiter *w = &self->w;
	pthread_t thread[3];
	struct load *l = &load;

	ASSERT_EQ(0, relax());
	ASSERT_EQ(0, move_to(0, -1));
	w->a.objs[0] = self->mutex;
	w->a.objs[1] = self->sem;
	w->a.nb_objs = 2;
	ASSERT_EQ(0, take(self, self->mutex));
	ASSERT_EQ(0, take(self, self->sem));
	signaler.self = self;
	signaler.nb = nt_scaled(NB_SIGNALS);
	ASSERT_EQ(0, pthread_create(&thread[0], NULL, signal_all, &signaler));
	ASSERT_EQ(0, pthread_create(&thread[1], NULL, load_feed, l));
	if (submitter)
		ASSERT_EQ(0, pthread_create(&thread[2], NULL, load_submit_all, l));

	while (atomic_load(&l->completed) < l->nb || atomic_load(&signaler.seen) < signaler.nb) {
		if (!submitter)
			ASSERT_EQ(0, load_submit(l));
		ASSERT_EQ(0, wait_with(w, nt_bound())) {
			TH_LOG("after %u completions and %u signals", atomic_load(&l->completed),
			       atomic_load(&signaler.seen));
		}
		if (w->index == READY) {
			drain(l->efd);
			ASSERT_EQ(0, load_reap(l));
			continue;
		}
		ASSERT_GT(self->all ? 1U : 2U, w->index);
		if (!w->index) {
			ASSERT_EQ(0, nt_unlock_mutex(self->mutex, OWNER, NULL));
			ASSERT_EQ(0, take(self, self->mutex));
		}
		check_sem(self->sem, 0, 3);
		atomic_fetch_add(&signaler.seen, 1);
		nt_futex_wake(&signaler.seen);
	}
	atomic_store(&l->stop, 1);
	pthread_join(thread[0], NULL);
	pthread_join(thread[1], NULL);
	if (submitter)
		pthread_join(thread[2], NULL);
	EXPECT_EQ(0, signaler.ret);
	EXPECT_EQ(l->nb, atomic_load(&l->completed));
	EXPECT_EQ(signaler.nb, atomic_load(&signaler.seen));
	check_sem(self->sem, 0, 3);
	check_mutex(self->mutex, OTHER, 1);
	drain(l->efd);
	looks(-ETIMEDOUT, NT_POISON);
}

/* Completions one by one, before the wait and while that sleeps. */
static void run_single(struct __test_metadata *_metadata, FIXTURE_DATA(uring) *self, bool unused)
{
	static const unsigned int ops[] = { NOP, TIMEOUT, PIPE };
	static const __u64 one = 1;
	struct load *l = &load;
	unsigned int i;

	(void)unused;
	l->nb = 2 * ARRAY_LEN(ops);
	free(l->seen);
	l->seen = calloc(l->nb, 1);
	ASSERT_TRUE(l->seen != NULL);
	for (i = 0; i < l->nb; i++) {
		looks(-ETIMEDOUT, NT_POISON);
		if (i & 1)
			falls_asleep();
		ASSERT_EQ(0, load_one(l, ops[i / 2]));
		ASSERT_EQ(1, io_uring_submit(&l->ring));
		if (ops[i / 2] == PIPE)
			ASSERT_LT(0, write(l->to[(l->reads - 1) % 2], &one,
					   l->reads % 2 ? 1 : 8));
		if (!(i & 1))
			actor_begin(&self->w.a, do_wait_fd);
		ends(0, READY);
		/* it remains so until it is reaped */
		looks(0, READY);
		untouched();
		EXPECT_EQ(0, set(self->event));
		looks(0, 0U);
		took_objects();
		EXPECT_LE(1U, drain(l->efd));
		EXPECT_EQ(0, load_reap(l));
		EXPECT_EQ(i + 1, atomic_load(&l->completed));
	}
	looks(-ETIMEDOUT, NT_POISON);
}

/* The last descriptors of the ring, which has a request. */
static void run_closed(struct __test_metadata *_metadata, FIXTURE_DATA(uring) *self, bool unused)
{
	struct load *l = &load;

	(void)unused;
	ASSERT_EQ(0, load_one(l, PIPE));
	ASSERT_EQ(1, io_uring_submit(&l->ring));
	falls_asleep();
	io_uring_queue_exit(&l->ring);
	close(l->efd);
	still_asleep();
	signals();
}

static void with_ring(struct __test_metadata *_metadata, FIXTURE_DATA(uring) *self, bool itself,
		      void (*run)(struct __test_metadata *, FIXTURE_DATA(uring) *, bool),
		      bool submitter)
{
	int ret = load_prepare(&load);

	if (no_ring(ret))
		SKIP(return, "%s", no_ring(ret));
	ASSERT_EQ(0, ret);
	self->w.fd = itself ? load.ring.ring_fd : load.efd;
	run(_metadata, self, submitter);
}

#else

#define with_ring(_metadata, self, itself, run, submitter)		\
	SKIP(, "built without liburing")

#endif

TEST_F_TIMEOUT(uring, ring_single, NT_TEST_TIMEOUT)
{
	with_ring(_metadata, self, true, run_single, false);
}

TEST_F_TIMEOUT(uring, ring_eventfd_single, NT_TEST_TIMEOUT)
{
	with_ring(_metadata, self, false, run_single, false);
}

TEST_F_TIMEOUT(uring, ring_closed, NT_TEST_TIMEOUT)
{
	with_ring(_metadata, self, true, run_closed, false);
}

TEST_F_TIMEOUT(uring, ring_load, NT_TEST_TIMEOUT)
{
	with_ring(_metadata, self, true, run_load, false);
}

TEST_F_TIMEOUT(uring, ring_eventfd_load, NT_TEST_TIMEOUT)
{
	with_ring(_metadata, self, false, run_load, false);
}

TEST_F_TIMEOUT(uring, ring_eventfd_load_of_another, NT_TEST_TIMEOUT)
{
	with_ring(_metadata, self, false, run_load, true);
}

/*
 * The loop of a server: one thread that waits for a channel, for its ring and for the end.
 */

#ifdef NTSYNC_HAVE_LIBURING

struct sender {
	struct actor a;			/* must be first */
	unsigned int id;
	int own;			/* real-time priority, or 0 */
	atomic_uint nr;			/* of its request, 0: none */
	atomic_int prio;		/* of that */
	atomic_uint received;		/* the last one of its requests that was taken */
	atomic_uint replying;		/* the last one for which REPLY was called */
};

struct dispatcher {
	struct actor a;			/* must be first */
	int ch;
	int shutdown;
	unsigned int nb;		/* requests of each sender */
	struct sender sender[NB_SENDERS];
};

static struct dispatcher dispatcher;

static int do_send_all(struct actor *a)
{
	struct sender *s = (struct sender *)a;
	struct dispatcher *d = &dispatcher;
	unsigned int nr, seed = s->id;
	int ret = 0, prio;

	for (nr = 1; nr <= d->nb && !ret; nr++) {
		nap(rnd(&seed, 300));
		prio = rnd(&seed, 3) ? 0 : 1 + rnd(&seed, 80);
		atomic_store(&s->prio, prio > s->own ? prio : s->own);
		atomic_store(&s->nr, nr);
		ret = ch_send_pi(d->ch, prio ? SCHED_RR : 0, prio, (__u64)s->id << 32 | nr, 0);
		atomic_store(&s->nr, 0);
		if (!ret && atomic_load(&s->replying) != nr)
			ret = -EBADMSG;
	}
	return ret;
}

/* All that is pending. Each one once, in its order, and one reply. */
static int dispatch(struct dispatcher *d, unsigned int *seed)
{
	struct ntsync_channel_recv2_args req;
	int ret;

	while (!(ret = ch_try_recv2(d->ch, &req))) {
		__u64 id = req.payload_off >> 32, busy;
		__u32 nr = req.payload_off;
		struct sender *s = &d->sender[id % NB_SENDERS];

		if (id >= NB_SENDERS || nr != atomic_fetch_add(&s->received, 1) + 1)
			return -EBADMSG;
		busy = nt_now(CLOCK_MONOTONIC) + rnd(seed, 100000);
		while (nt_now(CLOCK_MONOTONIC) < busy)
			;
		atomic_store(&s->replying, nr);
		ret = ch_reply(d->ch, req.entry_id);
		if (ret)
			return ret;
		if (nr % 16 == 0 && ch_reply(d->ch, req.entry_id) != -ENOENT)
			return -EEXIST;
	}
	return ret == -EAGAIN ? 0 : ret;
}

static int do_dispatch(struct actor *a)
{
	struct dispatcher *d = (struct dispatcher *)a;
	struct ntsync_source sources[] = {
		{ .type = NTSYNC_SOURCE_OBJECT, .fd = d->ch },
		{ .type = NTSYNC_SOURCE_FD, .events = POLLIN, .fd = load.efd },
		{ .type = NTSYNC_SOURCE_FD, .events = POLLIN, .fd = d->shutdown },
	};
	unsigned int seed = 1;
	int ret;

	for (;;) {
		struct ntsync_aggregate_wait_args args = {
			.timeout = nt_bound(), .sources = (uintptr_t)sources,
			.nb_sources = ARRAY_LEN(sources), .fired_index = NT_POISON, .owner = OWNER,
		};

		ret = load_submit(&load);
		if (!ret)
			ret = nt_ioctl(a->dev, NTSYNC_IOC_AGGREGATE_WAIT, &args);
		if (!ret && args.fired_index && args.fired_events != POLLIN)
			ret = -EBADMSG;
		if (!ret && !args.fired_index)
			ret = dispatch(d, &seed);
		if (!ret && args.fired_index == 1) {
			drain(load.efd);
			ret = load_reap(&load);
		}
		if (ret || args.fired_index >= 2)
			return ret ? ret : args.fired_index == 2 ? 0 : -EBADMSG;
	}
}

/*
 * Does the dispatcher have at least the priority of a request that was there before and after
 * its own was read? One that is being replied to does not count. 1 yes, 0 no, -1 unknown.
 */
static int is_lent(struct dispatcher *d, struct sender *s)
{
	unsigned int nr = atomic_load(&s->nr);
	int prio = atomic_load(&s->prio), seen;
	pid_t tid = atomic_load(&s->a.tid);

	if (!nr || nt_task_state(getpid(), tid) != 'S')
		return -1;
	seen = actor_prio(&d->a);
	if (nt_task_state(getpid(), tid) != 'S' || atomic_load(&s->nr) != nr ||
	    atomic_load(&s->replying) == nr)
		return -1;
	return seen <= (prio ? FIFO(prio) : NORMAL);
}

static bool all_done(struct dispatcher *d)
{
	unsigned int i;

	for (i = 0; i < NB_SENDERS; i++)
		if (!actor_done(&d->sender[i].a))
			return false;
	return atomic_load(&load.completed) == load.nb;
}

static void run_dispatcher(struct __test_metadata *_metadata, int dev, bool spread)
{
	static const int own[NB_SENDERS] = { 0, 20, 40, 60 };
	unsigned int i, pauses = 0, lent[2] = { 0, 0 };
	int ret = load_prepare(&load);
	struct dispatcher *d = &dispatcher;
	struct sender *s = d->sender;
	pthread_t feeder;
	__u64 deadline;

	if (no_ring(ret))
		SKIP(return, "%s", no_ring(ret));
	ASSERT_EQ(0, ret);
	d->ch = ch_create(dev, NB_SENDERS);
	ASSERT_LE(0, d->ch);
	d->shutdown = eventfd(0, EFD_NONBLOCK);
	ASSERT_LE(0, d->shutdown);
	d->nb = nt_scaled(NB_REQUESTS);
	ASSERT_EQ(0, pthread_create(&feeder, NULL, load_feed, &load));
	ASSERT_EQ(0, actor_start(&d->a, dev, 0));
	ASSERT_EQ(0, spread ? move_to(atomic_load(&d->a.tid), -1) : 0);
	/* it is a receiver when it has slept once */
	actor_begin(&d->a, do_dispatch);
	ASSERT_TRUE(actor_asleep(&d->a));
	for (i = 0; i < NB_SENDERS; i++) {
		s[i].id = i;
		s[i].own = own[i];
		ASSERT_EQ(0, actor_start(&s[i].a, dev, own[i]));
		ASSERT_EQ(0, spread ? move_to(atomic_load(&s[i].a.tid), -1) : 0);
	}
	for (i = 0; i < NB_SENDERS; i++)
		actor_begin(&s[i].a, do_send_all);

	deadline = nt_now(CLOCK_MONOTONIC) + 4 * NT_BOUND_NSEC;
	while (!all_done(d) && !actor_done(&d->a) && nt_now(CLOCK_MONOTONIC) < deadline) {
		for (i = 0; i < NB_SENDERS; i++) {
			ret = is_lent(d, &s[i]);
			if (ret >= 0)
				lent[ret]++;
		}
		pauses %= 4;
		nt_pause(&pauses);
	}
	ASSERT_FALSE(actor_done(&d->a)) {
		TH_LOG("the dispatcher returned %d", d->a.ret);
	}
	ASSERT_TRUE(all_done(d));
	TH_LOG("%u times lent, %u times not", lent[1], lent[0]);
	EXPECT_EQ(0U, lent[0]);
	EXPECT_LT(d->nb < NB_REQUESTS ? -1 : 0, (int)lent[1]);
	ASSERT_TRUE(actor_asleep(&d->a));
	EXPECT_EQ(NORMAL, prio_of(&d->a));
	ASSERT_EQ(0, raise_fd(d->shutdown));
	ASSERT_EQ(0, actor_end(&d->a));
	EXPECT_EQ(NORMAL, prio_of(&d->a));
	for (i = 0; i < NB_SENDERS; i++) {
		EXPECT_EQ(0, actor_end(&s[i].a));
		EXPECT_EQ(d->nb, atomic_load(&s[i].received));
	}
	atomic_store(&load.stop, 1);
	pthread_join(feeder, NULL);
}

#else

#define run_dispatcher(_metadata, dev, spread)	SKIP(, "built without liburing")

#endif

FIXTURE(uring_dispatcher) {
	int dev;
};

FIXTURE_VARIANT(uring_dispatcher) {
	bool spread;
};

FIXTURE_VARIANT_ADD(uring_dispatcher, one_cpu) { .spread = false };
FIXTURE_VARIANT_ADD(uring_dispatcher, all_cpus) { .spread = true };

FIXTURE_SETUP(uring_dispatcher)
{
	begin_pi(self->dev);
	need_channels(self->dev);
	need_ioctl(self->dev, NTSYNC_IOC_CHANNEL_TRY_RECV2);
	if (nt_ioctl(self->dev, NTSYNC_IOC_AGGREGATE_WAIT, NULL) == -ENOTTY)
		SKIP(return, "no AGGREGATE_WAIT in this kernel");
}

FIXTURE_TEARDOWN(uring_dispatcher)
{
}

TEST_F_TIMEOUT(uring_dispatcher, loop, NT_TEST_TIMEOUT)
{
	run_dispatcher(_metadata, self->dev, variant->spread);
}

TEST_HARNESS_MAIN
