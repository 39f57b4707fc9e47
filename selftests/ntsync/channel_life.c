// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Channels: how sends end, when the receiving end is closed, and that each request
 * goes to one receiver, sentence by sentence of the contract.
 *
 * Senders and receivers are processes here, or threads of these. Everything runs on
 * one CPU below the controlling process, which calls nothing that could sleep in a
 * channel. After each test all that are left must be back at their own priority.
 *
 * Where "the same request" is taken literally (it keeps its place in the queue, and
 * it is taken while its sender is stopped), tests are named same_*.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <mntent.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "channel_test.h"

#ifndef SYS_close_range
#define SYS_close_range	436
#endif

#define HOLD_VAR	"NTSYNC_CHANNEL_HOLD"
#define HOLD_NAME	"channel-hold"
#define DEPTH		8
#define NB_STOPS	3	/* in a row, of one request */
#define NB_BOOSTED_STOPS 300	/* one of 50 needs it */

/* A program that is executed by a test only has to stay until it is killed. */
static __attribute__((constructor)) void hold(void)
{
	if (getenv(HOLD_VAR)) {
		for (;;)
			pause();
	}
}

static void nap(void)
{
	nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + 500000);
}

/* A process, or a thread of one, that does what it is told. In shared memory. */
struct child {
	pid_t pid;
	bool forked;		/* and not yet waited for */
	bool traced;		/* by us */
	int prio;		/* FIFO, or 0 for an ordinary one */
	int go[2];		/* pipe: a byte for each command */
	int sock[2];		/* for descriptors: from the first to the second */
	int (*fn)(struct child *c);	/* NULL: end */
	int dev;
	int ch;			/* its descriptor of the channel */
	int fd;			/* what is closed, duplicated, or passed on */
	struct child *other;	/* for do_thread() and do_fork() */
	unsigned long request;	/* for do_fault() */
	struct ntsync_channel_send_args send;
	struct ntsync_channel_recv2_args req;
	__u64 reply;		/* id */
	int flags;		/* of the signal handler */
	int ret;
	atomic_uint handled;	/* how many handlers began */
	atomic_uint hold;	/* the handler does not return */
	atomic_uint nested;	/* the handler sends */
	int nested_ret;
	atomic_int task;	/* TID */
	atomic_int entered;	/* the same, when it is about to do what it was told */
	atomic_uint done;
};

enum {
	RECEIVER, RECEIVER2, SENDER, OTHER, THIRD,
	THREAD, THREAD2, FORKED,	/* not started */
	NB_CHILDREN
};

static __thread struct child *me;

static void on_signal(int sig)
{
	int err = errno;

	(void)sig;
	atomic_fetch_add(&me->handled, 1);
	if (atomic_load(&me->nested))
		me->nested_ret = nt_ioctl(me->ch, NTSYNC_IOC_CHANNEL_SEND_PI, &me->send);
	while (atomic_load(&me->hold))
		nap();
	errno = err;
}

static void *child_loop(void *arg)
{
	struct child *c = arg;
	char byte;

	me = c;
	c->ret = set_sched(0, c->prio ? SCHED_FIFO : SCHED_OTHER, c->prio);
	atomic_store(&c->task, syscall(SYS_gettid));
	atomic_store(&c->done, 1);
	for (;;) {
		while (read(c->go[0], &byte, 1) != 1)
			;
		if (!c->fn)
			return NULL;
		atomic_store(&c->entered, atomic_load(&c->task));
		c->ret = c->fn(c);
		atomic_store(&c->done, 1);
	}
}

/* What they can be told to do */

static int call_send(struct child *c)
{
	return nt_ioctl(c->ch, NTSYNC_IOC_CHANNEL_SEND_PI, &c->send);
}

static int call_recv(struct child *c)
{
	return ch_recv2(c->ch, &c->req);
}

static int call_recv_1(struct child *c)
{
	struct ntsync_channel_recv_args args;

	return ch_recv(c->ch, &args);
}

static int call_reply(struct child *c)
{
	return ch_reply(c->ch, c->reply);
}

/* Receive into a page that can only be read. */
static int do_fault(struct child *c)
{
	long size = sysconf(_SC_PAGESIZE);
	void *page = mmap(NULL, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int ret;

	if (page == MAP_FAILED)
		return -errno;
	ret = nt_ioctl(c->ch, c->request, page);
	munmap(page, size);
	return ret;
}

static int do_handler(struct child *c)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = c->flags };

	return sigaction(SIGUSR1, &sa, NULL) ? -errno : 0;
}

static int do_create(struct child *c)
{
	c->ch = ch_create(c->dev, DEPTH);
	return c->ch < 0 ? c->ch : 0;
}

static int do_send_only(struct child *c)
{
	c->fd = ch_send_only(c->ch);
	return c->fd < 0 ? c->fd : 0;
}

static int do_close(struct child *c)
{
	return close(c->fd) ? -errno : 0;
}

static int do_dup(struct child *c)
{
	c->fd = fcntl(c->ch, F_DUPFD_CLOEXEC, 0);
	return c->fd < 0 ? -errno : 0;
}

/* Let another file take its place. */
static int do_replace(struct child *c)
{
	return dup2(c->go[0], c->ch) < 0 ? -errno : 0;
}

static int do_close_range(struct child *c)
{
	return syscall(SYS_close_range, c->ch, c->ch, 0) ? -errno : 0;
}

/* Returns whether exec closed it so far. */
static int do_keep(struct child *c)
{
	int flags = fcntl(c->ch, F_GETFD);

	if (flags < 0 || fcntl(c->ch, F_SETFD, 0))
		return -errno;
	return flags & FD_CLOEXEC;
}

union fd_message {
	char buf[CMSG_SPACE(sizeof(int))];
	struct cmsghdr align;
};

static int do_pass(struct child *c)
{
	struct iovec iov = { .iov_base = "", .iov_len = 1 };
	union fd_message control = { .buf = { 0 } };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.buf, .msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cmsg), &c->fd, sizeof(int));
	return sendmsg(c->sock[0], &msg, 0) == 1 ? 0 : -errno;
}

static int get_fd(int sock)
{
	union fd_message control;
	char byte;
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control.buf, .msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg;
	int fd;

	if (recvmsg(sock, &msg, MSG_CMSG_CLOEXEC | MSG_DONTWAIT) != 1)
		return -errno;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (!cmsg || cmsg->cmsg_type != SCM_RIGHTS)
		return -ENOMSG;
	memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
	return fd;
}

static int do_get(struct child *c)
{
	c->ch = get_fd(c->sock[1]);
	return c->ch < 0 ? c->ch : 0;
}

static int do_thread(struct child *c)
{
	pthread_t thread;

	return -pthread_create(&thread, NULL, child_loop, c->other);
}

/* It outlives its parent. */
static int do_fork(struct child *c)
{
	pid_t pid = fork();

	if (!pid) {
		child_loop(c->other);
		_exit(0);
	}
	c->other->pid = pid;
	c->other->forked = pid > 0;
	return pid < 0 ? -errno : 0;
}

static int do_exec(struct child *c)
{
	(void)c;
	setenv(HOLD_VAR, "1", 1);
	execl("/proc/self/exe", HOLD_NAME, NULL);
	return -errno;
}

static int do_exit_group(struct child *c)
{
	(void)c;
	_exit(3);
}

/* The other threads of the process go on. */
static int do_exit_thread(struct child *c)
{
	(void)c;
	syscall(SYS_exit, 0);
	return -EINVAL;
}

static void child_begin(struct child *c, int (*fn)(struct child *c))
{
	c->fn = fn;
	atomic_store(&c->entered, 0);
	atomic_store(&c->done, 0);
	while (write(c->go[1], "", 1) != 1 && errno == EINTR)
		;
}

static bool child_done(struct child *c)
{
	return atomic_load(&c->done);
}

static int child_end(struct child *c)
{
	return poll_until(child_done(c)) ? c->ret : -EBUSY;
}

static int child_do(struct child *c, int (*fn)(struct child *c))
{
	child_begin(c, fn);
	return child_end(c);
}

static bool child_asleep(struct child *c)
{
	return nt_task_asleep(c->pid, &c->entered, &c->done);
}

/*
 * On its way to sleep it may hold a lock of the kernel that the controller has
 * just waited for. That is over when it goes on.
 */
static int child_prio(struct child *c)
{
	__u64 deadline = nt_bound();
	unsigned int nr = 0;
	int prio;

	while ((prio = nt_task_prio(c->pid, atomic_load(&c->task))) == FIFO(CONTROLLER_PRIO) &&
	       nt_now(CLOCK_MONOTONIC) < deadline)
		nt_pause(&nr);
	return prio;
}

static int own_prio(struct child *c)
{
	return c->prio ? FIFO(c->prio) : NORMAL;
}

static char child_state(struct child *c)
{
	return nt_task_state(c->pid, atomic_load(&c->task));
}

static bool child_gone(struct child *c)
{
	char state = child_state(c);

	return !state || state == 'Z' || state == 'X';
}

static int child_signal(struct child *c, int sig)
{
	return syscall(SYS_tgkill, c->pid, atomic_load(&c->task), sig) ? -errno : 0;
}

static int child_start(struct child *c)
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		child_loop(c);
		_exit(0);
	}
	c->pid = pid;
	c->forked = true;
	return child_end(c);
}

/* Start another one, as a thread or a child of the leader, with its descriptors. */
static int start_other(struct child *leader, struct child *c, int (*fn)(struct child *c))
{
	int ret;

	c->pid = leader->pid;
	c->ch = leader->ch;
	leader->other = c;
	ret = child_do(leader, fn);
	return ret ? ret : child_end(c);
}

static int thread_start(struct child *leader, struct child *c)
{
	return start_other(leader, c, do_thread);
}

/* What wait status does it have when it is stopped? -1 if it is not. */
static int child_stopped(struct child *c)
{
	int status = -1;

	if (!poll_until(waitpid(c->pid, &status, WNOHANG | WUNTRACED | __WALL) == c->pid))
		return -1;
	if (!WIFSTOPPED(status)) {
		c->forked = false;
		return -1;
	}
	return status;
}

/* What wait status did it end with? -1 if it does not end. */
static int child_reap(struct child *c)
{
	int status = -1;

	if (!poll_until(nt_waitpid(c->pid, &status, WNOHANG | __WALL) == c->pid &&
			!WIFSTOPPED(status)))
		return -1;
	c->forked = false;
	return status;
}

/* Has it executed hold()? */
static bool child_holds(struct child *c)
{
	char path[64], name[32];

	snprintf(path, sizeof(path), "/proc/%d/cmdline", c->pid);
	return nt_read_file(path, name, sizeof(name)) && !strcmp(name, HOLD_NAME) &&
	       nt_task_state(c->pid, c->pid) == 'S';
}

FIXTURE(channel_life) {
	int dev;
	int ch;			/* everybody has it; we created it */
	int one;		/* the same, of depth 1 */
	int fd;			/* of a channel that somebody else created */
	int sock[2];
	__u64 nr;		/* of requests */
	__u64 id;
	struct child *child;
	struct child *receiver;
	struct child *receiver2;
	struct child *sender;	/* FIFO 80 */
	struct child *other;	/* FIFO 85 */
	struct child *third;	/* FIFO 70 */
	struct child *thread;	/* not started; so below */
	struct child *thread2;
	struct child *forked;
	char mnt[80];		/* what we mounted, or empty; so below */
	char root[256];		/* of cgroups */
	char cgroup[300];
};

FIXTURE_SETUP(channel_life)
{
	static const int prio[NB_CHILDREN] = { [SENDER] = 80, [OTHER] = 85, [THIRD] = 70 };
	int i;

	begin_rt(self->dev);
	need_channels(self->dev);
	need_ioctl(self->dev, NTSYNC_IOC_CHANNEL_RECV2);
	need_ioctl(self->dev, NTSYNC_IOC_CHANNEL_TRY_RECV2);
	signal(SIGUSR2, SIG_IGN);
	ASSERT_EQ(0, prctl(PR_SET_CHILD_SUBREAPER, 1));

	self->ch = ch_create(self->dev, DEPTH);
	ASSERT_LE(0, self->ch);
	self->one = ch_create(self->dev, 1);
	ASSERT_LE(0, self->one);
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, self->sock));
	self->child = mmap(NULL, NB_CHILDREN * sizeof(*self->child), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(self->child != MAP_FAILED);
	self->receiver = &self->child[RECEIVER];
	self->receiver2 = &self->child[RECEIVER2];
	self->sender = &self->child[SENDER];
	self->other = &self->child[OTHER];
	self->third = &self->child[THIRD];
	self->thread = &self->child[THREAD];
	self->thread2 = &self->child[THREAD2];
	self->forked = &self->child[FORKED];
	for (i = 0; i < NB_CHILDREN; i++) {
		struct child *c = &self->child[i];

		c->dev = self->dev;
		c->ch = self->ch;
		memcpy(c->sock, self->sock, sizeof(c->sock));
		c->prio = prio[i];
		ASSERT_EQ(0, pipe2(c->go, O_CLOEXEC));
	}
	/* They die with us. */
	for (i = 0; i < THREAD; i++)
		ASSERT_EQ(0, child_start(&self->child[i]));
}

static bool write_in(const char *dir, const char *name, const char *text)
{
	char path[400];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return nt_write_file(path, text);
}

FIXTURE_TEARDOWN(channel_life)
{
	int i;

	/* A test that has not failed has ended all its sends. */
	for (i = 0; i < NB_CHILDREN && !_metadata->exit_code; i++) {
		struct child *c = &self->child[i];

		if (!atomic_load(&c->task) || child_gone(c))
			continue;
		EXPECT_EQ(own_prio(c), child_prio(c)) {
			TH_LOG("child %d is not back at its own priority", i);
		}
	}
	EXPECT_EQ(FIFO(CONTROLLER_PRIO), nt_task_prio(getpid(), getpid()));

	if (self->cgroup[0])
		write_in(self->cgroup, "cgroup.freeze", "0");
	for (i = 0; i < NB_CHILDREN; i++) {
		if (self->child[i].forked)
			kill(self->child[i].pid, SIGKILL);
	}
	/* Parents first: their children are ours then. */
	for (i = 0; i < NB_CHILDREN; i++) {
		if (self->child[i].forked) {
			EXPECT_NE(-1, child_reap(&self->child[i]));
		}
	}
	if (self->cgroup[0]) {
		EXPECT_TRUE(poll_until(!rmdir(self->cgroup)));
	}
	if (self->mnt[0]) {
		EXPECT_TRUE(poll_until(!umount(self->mnt)));
		EXPECT_EQ(0, rmdir(self->mnt));
	}
	munmap(self->child, NB_CHILDREN * sizeof(*self->child));
	close(self->one);
	close(self->ch);
	close(self->dev);
}

/* Let all of them use a channel that they have. */
static void use_channel(FIXTURE_DATA(channel_life) *self, int ch)
{
	int i;

	for (i = 0; i < NB_CHILDREN; i++)
		self->child[i].ch = ch;
}

/* Let it send something that nobody takes yet, and go on when it sleeps. */
#define pends(c) do {							\
	(c)->send.payload_off = ++self->nr;				\
	(c)->send.reply_off = ~self->nr;				\
	child_begin((c), call_send);					\
	ASSERT_TRUE(child_asleep(c)) {					\
		TH_LOG("the send returned %d", (c)->ret);		\
	}								\
} while (0)

#define expect_request(r, s) do {					\
	EXPECT_EQ((s)->send.payload_off, (r)->req.payload_off);		\
	EXPECT_EQ((s)->send.reply_off, (r)->req.reply_off);		\
	EXPECT_EQ((__u32)atomic_load(&(s)->task), (r)->req.sender_tid);	\
	EXPECT_EQ((__u32)(s)->prio, (r)->req.prio);			\
} while (0)

/* One receives what the other has sent. */
#define takes(r, s) do {						\
	ASSERT_EQ(0, child_do((r), call_recv));				\
	expect_request((r), (s));					\
	EXPECT_EQ(FIFO((s)->prio), child_prio(r));			\
} while (0)

#define dispatched(r, s) do {						\
	pends(s);							\
	takes((r), (s));						\
	EXPECT_FALSE(child_done(s));					\
} while (0)

/* One replies to what it received last, which was all that it had to do. */
#define finishes(r, s) do {						\
	(r)->reply = (r)->req.entry_id;					\
	ASSERT_EQ(0, child_do((r), call_reply));				\
	EXPECT_EQ(own_prio(r), child_prio(r));				\
	ASSERT_EQ(0, child_end(s));					\
	EXPECT_EQ(own_prio(s), child_prio(s));				\
} while (0)

#define serves(r, s) do {						\
	takes((r), (s));						\
	finishes((r), (s));						\
} while (0)

#define expect_nothing(fd) do {						\
	struct ntsync_channel_recv2_args __req;				\
									\
	EXPECT_EQ(-EAGAIN, ch_try_recv2((fd), &__req));			\
} while (0)

/* Nothing has happened to the send of a task that sleeps in it. */
#define expect_asleep(c) do {						\
	ASSERT_TRUE(child_asleep(c)) {					\
		TH_LOG("the send returned %d", (c)->ret);		\
	}								\
} while (0)

#define handles(c, _flags) do {						\
	(c)->flags = (_flags);						\
	ASSERT_EQ(0, child_do((c), do_handler));			\
} while (0)

#define await_handler(c)						\
	ASSERT_TRUE(poll_until(atomic_load(&(c)->handled) == 1))

static void go_on(struct child *c)
{
	atomic_store(&c->hold, 0);
}

/* A signal with a handler, to the sender of a pending request */

TEST_F_TIMEOUT(channel_life, pending_signal, NT_TEST_TIMEOUT)
{
	struct child *receiver = self->receiver, *sender = self->sender, *other = self->other;

	use_channel(self, self->one);
	handles(sender, 0);
	pends(sender);
	EXPECT_EQ(-EAGAIN, child_do(other, call_send));
	ASSERT_EQ(0, child_signal(sender, SIGUSR1));
	ASSERT_EQ(-EINTR, child_end(sender));
	EXPECT_EQ(1U, atomic_load(&sender->handled));
	EXPECT_EQ(own_prio(sender), child_prio(sender));
	expect_nothing(self->one);

	/* its slot is free, and it can send again */
	dispatched(receiver, other);
	expect_nothing(self->one);
	finishes(receiver, other);
	pends(sender);
	serves(receiver, sender);
	expect_nothing(self->one);
}

TEST_F_TIMEOUT(channel_life, pending_signal_restart, NT_TEST_TIMEOUT)
{
	struct child *receiver = self->receiver, *sender = self->sender;

	use_channel(self, self->one);
	handles(sender, SA_RESTART);
	pends(sender);
	ASSERT_EQ(0, child_signal(sender, SIGUSR1));
	await_handler(sender);
	expect_asleep(sender);
	EXPECT_EQ(-EAGAIN, child_do(self->other, call_send));
	takes(receiver, sender);
	expect_nothing(self->one);
	finishes(receiver, sender);
	expect_nothing(self->one);
}

/* The same after a stop: the call that the handler interrupts is a restarted one. */
TEST_F_TIMEOUT(channel_life, pending_stop_then_signal_restart, NT_TEST_TIMEOUT)
{
	struct child *receiver = self->receiver, *sender = self->sender;
	unsigned int i;

	use_channel(self, self->one);
	handles(sender, SA_RESTART);
	pends(sender);
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, kill(sender->pid, SIGSTOP));
		ASSERT_NE(-1, child_stopped(sender));
		ASSERT_EQ(0, kill(sender->pid, SIGCONT));
		expect_asleep(sender);
	}
	ASSERT_EQ(0, child_signal(sender, SIGUSR1));
	await_handler(sender);
	expect_asleep(sender);
	takes(receiver, sender);
	expect_nothing(self->one);
	finishes(receiver, sender);
	expect_nothing(self->one);
}

/* It is sent again, so it is the last one of its priority. */
TEST_F_TIMEOUT(channel_life, pending_signal_restart_order, NT_TEST_TIMEOUT)
{
	struct child *receiver = self->receiver, *sender = self->sender, *other = self->other;

	other->prio = 80;
	ASSERT_EQ(0, set_sched(other->pid, SCHED_FIFO, 80));
	handles(sender, SA_RESTART);
	pends(sender);
	pends(other);
	ASSERT_EQ(0, child_signal(sender, SIGUSR1));
	await_handler(sender);
	expect_asleep(sender);
	takes(receiver, other);
	receiver->reply = receiver->req.entry_id;
	ASSERT_EQ(0, child_do(receiver, call_reply));
	ASSERT_EQ(0, child_end(other));
	serves(receiver, sender);
	expect_nothing(self->ch);
}

/* The request is withdrawn when the handler begins, not when it returns. */
static void pending_in_handler(struct __test_metadata *_metadata,
			       FIXTURE_DATA(channel_life) *self, int flags)
{
	struct child *receiver = self->receiver, *sender = self->sender, *other = self->other;

	use_channel(self, self->one);
	pends(sender);
	serves(receiver, sender);

	/* one that sleeps in something else is a receiver still, and lent to */
	handles(sender, flags);
	atomic_store(&sender->hold, 1);
	pends(sender);
	EXPECT_EQ(FIFO(80), child_prio(receiver));
	ASSERT_EQ(0, child_signal(sender, SIGUSR1));
	await_handler(sender);
	EXPECT_EQ(NORMAL, child_prio(receiver));
	expect_nothing(self->one);
	pends(other);
	EXPECT_EQ(FIFO(85), child_prio(receiver));

	/* "sent again" means -EAGAIN if the queue is full by now */
	go_on(sender);
	ASSERT_EQ(flags ? -EAGAIN : -EINTR, child_end(sender));
	serves(receiver, other);
	expect_nothing(self->one);
}

TEST_F_TIMEOUT(channel_life, pending_in_handler, NT_TEST_TIMEOUT)
{
	pending_in_handler(_metadata, self, 0);
}

TEST_F_TIMEOUT(channel_life, pending_in_handler_restart, NT_TEST_TIMEOUT)
{
	pending_in_handler(_metadata, self, SA_RESTART);
}

/* The same, to the sender of a dispatched one: SA_RESTART changes nothing */

static void dispatched_signal(struct __test_metadata *_metadata,
			      FIXTURE_DATA(channel_life) *self, int flags)
{
	struct child *receiver = self->receiver, *sender = self->sender;

	handles(sender, flags);
	dispatched(receiver, sender);
	receiver->reply = receiver->req.entry_id;
	ASSERT_EQ(0, child_signal(sender, SIGUSR1));
	ASSERT_EQ(-EINTR, child_end(sender));
	EXPECT_EQ(1U, atomic_load(&sender->handled));
	EXPECT_EQ(NORMAL, child_prio(receiver));
	expect_nothing(self->ch);
	EXPECT_EQ(-ENOENT, child_do(receiver, call_reply));

	/* an old id does nothing to a new request */
	dispatched(receiver, sender);
	EXPECT_NE(receiver->reply, receiver->req.entry_id);
	EXPECT_EQ(-ENOENT, child_do(receiver, call_reply));
	EXPECT_FALSE(child_done(sender));
	EXPECT_EQ(FIFO(80), child_prio(receiver));
	finishes(receiver, sender);
}

TEST_F_TIMEOUT(channel_life, dispatched_signal, NT_TEST_TIMEOUT)
{
	dispatched_signal(_metadata, self, 0);
}

TEST_F_TIMEOUT(channel_life, dispatched_signal_restart, NT_TEST_TIMEOUT)
{
	dispatched_signal(_metadata, self, SA_RESTART);
}

static void dispatched_in_handler(struct __test_metadata *_metadata,
				  FIXTURE_DATA(channel_life) *self, int flags)
{
	struct child *receiver = self->receiver, *sender = self->sender;

	handles(sender, flags);
	atomic_store(&sender->hold, 1);
	dispatched(receiver, sender);
	receiver->reply = receiver->req.entry_id;
	ASSERT_EQ(0, child_signal(sender, SIGUSR1));
	await_handler(sender);
	EXPECT_EQ(NORMAL, child_prio(receiver));
	EXPECT_EQ(-ENOENT, child_do(receiver, call_reply));
	expect_nothing(self->ch);
	go_on(sender);
	ASSERT_EQ(-EINTR, child_end(sender));
	EXPECT_EQ(-ENOENT, child_do(receiver, call_reply));
	expect_nothing(self->ch);
}

TEST_F_TIMEOUT(channel_life, dispatched_in_handler, NT_TEST_TIMEOUT)
{
	dispatched_in_handler(_metadata, self, 0);
}

TEST_F_TIMEOUT(channel_life, dispatched_in_handler_restart, NT_TEST_TIMEOUT)
{
	dispatched_in_handler(_metadata, self, SA_RESTART);
}

/* The handler sends, with the same arguments: that is another request. */
static void handler_sends(struct __test_metadata *_metadata,
			  FIXTURE_DATA(channel_life) *self, bool taken, int flags)
{
	struct child *receiver = self->receiver, *sender = self->sender;

	handles(sender, flags);
	atomic_store(&sender->nested, 1);
	pends(sender);
	if (taken)
		takes(receiver, sender);
	receiver->reply = receiver->req.entry_id;
	sender->send.payload_off = ++self->nr;
	ASSERT_EQ(0, child_signal(sender, SIGUSR1));
	await_handler(sender);
	expect_asleep(sender);
	takes(receiver, sender);
	expect_nothing(self->ch);
	if (taken) {
		EXPECT_NE(receiver->reply, receiver->req.entry_id);
		EXPECT_EQ(-ENOENT, child_do(receiver, call_reply));
		expect_asleep(sender);
	}
	receiver->reply = receiver->req.entry_id;
	ASSERT_EQ(0, child_do(receiver, call_reply));
	ASSERT_EQ(-EINTR, child_end(sender));
	EXPECT_EQ(0, sender->nested_ret);
	EXPECT_EQ(NORMAL, child_prio(receiver));
	expect_nothing(self->ch);
}

TEST_F_TIMEOUT(channel_life, pending_handler_sends, NT_TEST_TIMEOUT)
{
	handler_sends(_metadata, self, false, 0);
}

TEST_F_TIMEOUT(channel_life, dispatched_handler_sends, NT_TEST_TIMEOUT)
{
	handler_sends(_metadata, self, true, SA_RESTART);
}

/* The handler ends one send; the stops before it did not. */
TEST_F_TIMEOUT(channel_life, dispatched_stop_then_signal, NT_TEST_TIMEOUT)
{
	struct child *receiver = self->receiver, *sender = self->sender;

	handles(sender, SA_RESTART);
	dispatched(receiver, sender);
	receiver->reply = receiver->req.entry_id;
	ASSERT_EQ(0, kill(sender->pid, SIGSTOP));
	ASSERT_NE(-1, child_stopped(sender));
	ASSERT_EQ(0, kill(sender->pid, SIGCONT));
	expect_asleep(sender);
	ASSERT_EQ(0, child_signal(sender, SIGUSR1));
	ASSERT_EQ(-EINTR, child_end(sender));
	EXPECT_EQ(NORMAL, child_prio(receiver));
	EXPECT_EQ(-ENOENT, child_do(receiver, call_reply));

	/* or it comes while the sender is stopped */
	dispatched(receiver, sender);
	receiver->reply = receiver->req.entry_id;
	ASSERT_EQ(0, kill(sender->pid, SIGSTOP));
	ASSERT_NE(-1, child_stopped(sender));
	ASSERT_EQ(0, child_signal(sender, SIGUSR1));
	EXPECT_EQ(FIFO(80), child_prio(receiver));
	ASSERT_EQ(0, kill(sender->pid, SIGCONT));
	ASSERT_EQ(-EINTR, child_end(sender));
	EXPECT_EQ(2U, atomic_load(&sender->handled));
	EXPECT_EQ(NORMAL, child_prio(receiver));
	EXPECT_EQ(-ENOENT, child_do(receiver, call_reply));
	expect_nothing(self->ch);
}

/* Signals without a handler */

static const int no_handler[] = { SIGCHLD, SIGWINCH, SIGURG, SIGCONT, SIGUSR2 /* SIG_IGN */ };

TEST_F_TIMEOUT(channel_life, pending_no_handler, NT_TEST_TIMEOUT)
{
	struct child *sender = self->sender;
	unsigned int i;

	use_channel(self, self->one);
	pends(sender);
	for (i = 0; i < ARRAY_LEN(no_handler); i++) {
		ASSERT_EQ(0, child_signal(sender, no_handler[i]));
		expect_asleep(sender);
		EXPECT_EQ(-EAGAIN, child_do(self->other, call_send));
	}
	takes(self->receiver, sender);
	expect_nothing(self->one);
	finishes(self->receiver, sender);
	expect_nothing(self->one);
}

TEST_F_TIMEOUT(channel_life, dispatched_no_handler, NT_TEST_TIMEOUT)
{
	struct child *receiver = self->receiver, *sender = self->sender;
	unsigned int i;

	dispatched(receiver, sender);
	for (i = 0; i < ARRAY_LEN(no_handler); i++) {
		ASSERT_EQ(0, child_signal(sender, no_handler[i]));
		expect_asleep(sender);
		EXPECT_EQ(FIFO(80), child_prio(receiver));
		expect_nothing(self->ch);
	}
	finishes(receiver, sender);
	expect_nothing(self->ch);
}

/* Ways to stop a process, and to let it go on. All of them can be repeated. */

struct way {
	bool (*stop)(FIXTURE_DATA(channel_life) *self, struct child *c);
	bool (*cont)(FIXTURE_DATA(channel_life) *self, struct child *c);
	char state;		/* while it is stopped, or 0 */
};

static bool signal_stop(FIXTURE_DATA(channel_life) *self, struct child *c)
{
	(void)self;
	return !kill(c->pid, SIGSTOP) && child_stopped(c) != -1;
}

static bool signal_cont(FIXTURE_DATA(channel_life) *self, struct child *c)
{
	(void)self;
	return !kill(c->pid, SIGCONT);
}

static bool attach(FIXTURE_DATA(channel_life) *self, struct child *c)
{
	(void)self;
	if (c->traced ? kill(c->pid, SIGSTOP) : ptrace(PTRACE_ATTACH, c->pid, NULL, NULL))
		return false;
	c->traced = true;
	return child_stopped(c) != -1;
}

static bool seize(FIXTURE_DATA(channel_life) *self, struct child *c)
{
	(void)self;
	if (!c->traced && ptrace(PTRACE_SEIZE, c->pid, NULL, NULL))
		return false;
	c->traced = true;
	return !ptrace(PTRACE_INTERRUPT, c->pid, NULL, NULL) && child_stopped(c) != -1;
}

static bool trace_cont(FIXTURE_DATA(channel_life) *self, struct child *c)
{
	(void)self;
	return !ptrace(PTRACE_CONT, c->pid, NULL, NULL);
}

static bool trace_detach(FIXTURE_DATA(channel_life) *self, struct child *c)
{
	(void)self;
	c->traced = false;
	return !ptrace(PTRACE_DETACH, c->pid, NULL, NULL);
}

/* Is it frozen? As this file says. */
static bool cgroup_frozen(FIXTURE_DATA(channel_life) *self, bool frozen)
{
	char path[400], buf[256];

	snprintf(path, sizeof(path), "%s/cgroup.events", self->cgroup);
	return nt_read_file(path, buf, sizeof(buf)) &&
	       strstr(buf, frozen ? "frozen 1" : "frozen 0");
}

static bool freeze_stop(FIXTURE_DATA(channel_life) *self, struct child *c)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", c->pid);
	return write_in(self->cgroup, "cgroup.procs", pid) &&
	       write_in(self->cgroup, "cgroup.freeze", "1") &&
	       poll_until(cgroup_frozen(self, true));
}

static bool freeze_cont(FIXTURE_DATA(channel_life) *self, struct child *c)
{
	(void)c;
	return write_in(self->cgroup, "cgroup.freeze", "0") &&
	       poll_until(cgroup_frozen(self, false));
}

static const struct way by_signal = { signal_stop, signal_cont, 'T' };
static const struct way by_attach = { attach, trace_detach, 't' };
static const struct way by_attach_cont = { attach, trace_cont, 't' };
static const struct way by_seize = { seize, trace_detach, 't' };
static const struct way by_seize_cont = { seize, trace_cont, 't' };
static const struct way by_freezer = { freeze_stop, freeze_cont, 0 };

/* NULL, or why it cannot be done. */
static const char *make_cgroup(FIXTURE_DATA(channel_life) *self)
{
	FILE *mounts = setmntent("/proc/self/mounts", "r");
	struct mntent *ent;
	char path[400];

	while (mounts && (ent = getmntent(mounts))) {
		if (!strcmp(ent->mnt_type, "cgroup2") && !hasmntopt(ent, "ro") &&
		    strlen(ent->mnt_dir) < sizeof(self->root)) {
			strcpy(self->root, ent->mnt_dir);
			break;
		}
	}
	if (mounts)
		endmntent(mounts);
	if (!self->root[0]) {
		char mnt[] = "/tmp/ntsync-cg-XXXXXX";

		if (!mkdtemp(mnt))
			return "cannot create a directory in /tmp";
		if (mount("none", mnt, "cgroup2", 0, NULL)) {
			rmdir(mnt);
			return "no cgroup v2";
		}
		strcpy(self->mnt, mnt);
		strcpy(self->root, mnt);
	}
	snprintf(path, sizeof(self->cgroup), "%s/ntsync-channel-%d", self->root, getpid());
	if (mkdir(path, 0755))
		return "cannot create a cgroup";
	strcpy(self->cgroup, path);
	return NULL;
}

#define stops(c) do {							\
	ASSERT_TRUE(way->stop(self, (c)));				\
	EXPECT_FALSE(child_done(c));					\
	/* It may still wait for a lock of the kernel: that state comes first. */ \
	EXPECT_TRUE(!way->state || poll_until(child_state(c) == way->state)); \
} while (0)

#define continues(c)	ASSERT_TRUE(way->cont(self, (c)))

/* Stopped while the request is pending: it is delivered once, whoever stops it how often. */
static void pending_stopped(struct __test_metadata *_metadata,
			    FIXTURE_DATA(channel_life) *self, const struct way *way)
{
	struct child *receiver = self->receiver, *sender = self->sender;
	int i;

	pends(sender);
	for (i = 0; i < NB_STOPS; i++) {
		stops(sender);
		continues(sender);
		expect_asleep(sender);
	}
	takes(receiver, sender);
	expect_nothing(self->ch);
	finishes(receiver, sender);
	expect_nothing(self->ch);

	/* stopped before it is taken and after that */
	pends(sender);
	stops(sender);
	continues(sender);
	expect_asleep(sender);
	takes(receiver, sender);
	stops(sender);
	EXPECT_EQ(FIFO(80), child_prio(receiver));
	expect_nothing(self->ch);
	continues(sender);
	expect_asleep(sender);
	expect_nothing(self->ch);
	EXPECT_EQ(FIFO(80), child_prio(receiver));
	finishes(receiver, sender);
	expect_nothing(self->ch);
}

static void dispatched_stopped(struct __test_metadata *_metadata,
			       FIXTURE_DATA(channel_life) *self, const struct way *way)
{
	struct child *receiver = self->receiver, *sender = self->sender;
	int i;

	/* the reply comes when it sleeps again */
	dispatched(receiver, sender);
	for (i = 0; i < NB_STOPS; i++) {
		stops(sender);
		EXPECT_EQ(FIFO(80), child_prio(receiver));
		expect_nothing(self->ch);
		continues(sender);
		expect_asleep(sender);
		EXPECT_EQ(FIFO(80), child_prio(receiver));
		expect_nothing(self->ch);
	}
	finishes(receiver, sender);
	expect_nothing(self->ch);

	/* it comes while it is stopped */
	dispatched(receiver, sender);
	stops(sender);
	EXPECT_EQ(FIFO(80), child_prio(receiver));
	receiver->reply = receiver->req.entry_id;
	ASSERT_EQ(0, child_do(receiver, call_reply));
	EXPECT_EQ(NORMAL, child_prio(receiver));
	EXPECT_EQ(-ENOENT, child_do(receiver, call_reply));
	EXPECT_FALSE(child_done(sender));
	expect_nothing(self->ch);
	continues(sender);
	ASSERT_EQ(0, child_end(sender));
	expect_nothing(self->ch);

	/* nothing of that is left for the next one */
	dispatched(receiver, sender);
	finishes(receiver, sender);
}

/*
 * A stop takes locks that the controller waits for, so the sender is boosted at times. When
 * it is stopped it must not have left that to the receiver.
 */
static void boosted_stop(struct __test_metadata *_metadata,
			 FIXTURE_DATA(channel_life) *self, const struct way *way)
{
	struct child *receiver = self->receiver, *sender = self->sender;
	int i;

	dispatched(receiver, sender);
	for (i = 0; i < NB_BOOSTED_STOPS; i++) {
		stops(sender);
		ASSERT_EQ(FIFO(80), child_prio(receiver));
		continues(sender);
		expect_asleep(sender);
	}
	finishes(receiver, sender);
}

/* Literally: the same request is still the first of its priority. */
static void same_place(struct __test_metadata *_metadata,
		       FIXTURE_DATA(channel_life) *self, const struct way *way)
{
	struct child *receiver = self->receiver, *sender = self->sender, *other = self->other;

	other->prio = 80;
	ASSERT_EQ(0, set_sched(other->pid, SCHED_FIFO, 80));
	pends(sender);
	pends(other);
	stops(sender);
	continues(sender);
	expect_asleep(sender);
	takes(receiver, sender);
	receiver->reply = receiver->req.entry_id;
	ASSERT_EQ(0, child_do(receiver, call_reply));
	ASSERT_EQ(0, child_end(sender));
	serves(receiver, other);
	expect_nothing(self->ch);
}

/* Literally: it is still there while its sender is stopped, with its slot and priority. */
static void same_taken(struct __test_metadata *_metadata,
		       FIXTURE_DATA(channel_life) *self, const struct way *way)
{
	struct child *receiver = self->receiver, *sender = self->sender;

	use_channel(self, self->one);
	pends(sender);
	stops(sender);
	EXPECT_EQ(-EAGAIN, child_do(self->other, call_send));
	takes(receiver, sender);
	expect_nothing(self->one);
	continues(sender);
	expect_asleep(sender);
	EXPECT_EQ(FIFO(80), child_prio(receiver));
	finishes(receiver, sender);

	/* replied to as well */
	pends(sender);
	stops(sender);
	takes(receiver, sender);
	receiver->reply = receiver->req.entry_id;
	ASSERT_EQ(0, child_do(receiver, call_reply));
	EXPECT_EQ(NORMAL, child_prio(receiver));
	continues(sender);
	ASSERT_EQ(0, child_end(sender));
	expect_nothing(self->one);
}

/* Killed while it is stopped. */
static void stopped_killed(struct __test_metadata *_metadata,
			   FIXTURE_DATA(channel_life) *self, const struct way *way)
{
	struct child *receiver = self->receiver, *sender = self->sender, *other = self->other;

	dispatched(receiver, sender);
	receiver->reply = receiver->req.entry_id;
	pends(other);
	stops(other);
	stops(sender);
	kill(other->pid, SIGKILL);
	ASSERT_NE(-1, child_reap(other));
	EXPECT_EQ(FIFO(80), child_prio(receiver));
	expect_nothing(self->ch);
	kill(sender->pid, SIGKILL);
	ASSERT_NE(-1, child_reap(sender));
	EXPECT_EQ(NORMAL, child_prio(receiver));
	EXPECT_EQ(-ENOENT, child_do(receiver, call_reply));
	expect_nothing(self->ch);
}

#define TEST_STOPPED(fn, how)						\
TEST_F_TIMEOUT(channel_life, fn ## _ ## how, NT_TEST_TIMEOUT)		\
{									\
	fn(_metadata, self, &by_ ## how);				\
}

#define TEST_FROZEN(fn)							\
TEST_F_TIMEOUT(channel_life, fn ## _freezer, NT_TEST_TIMEOUT)		\
{									\
	const char *reason = make_cgroup(self);				\
									\
	if (reason)							\
		SKIP(return, "%s", reason);				\
	fn(_metadata, self, &by_freezer);				\
}

TEST_STOPPED(pending_stopped, signal)
TEST_STOPPED(pending_stopped, attach)
TEST_STOPPED(pending_stopped, attach_cont)
TEST_STOPPED(pending_stopped, seize)
TEST_STOPPED(pending_stopped, seize_cont)
TEST_FROZEN(pending_stopped)

TEST_STOPPED(dispatched_stopped, signal)
TEST_STOPPED(dispatched_stopped, attach)
TEST_STOPPED(dispatched_stopped, attach_cont)
TEST_STOPPED(dispatched_stopped, seize)
TEST_STOPPED(dispatched_stopped, seize_cont)
TEST_FROZEN(dispatched_stopped)
TEST_STOPPED(boosted_stop, seize_cont)

TEST_STOPPED(same_place, signal)
TEST_STOPPED(same_place, attach)
TEST_STOPPED(same_place, seize)
TEST_FROZEN(same_place)

TEST_STOPPED(same_taken, signal)
TEST_STOPPED(same_taken, attach)
TEST_STOPPED(same_taken, seize)
TEST_FROZEN(same_taken)

/* What a tracer makes of a signal */

enum fate { SUPPRESSED, PASSED, INJECTED, REPLACED };

static void traced_signal(struct __test_metadata *_metadata, FIXTURE_DATA(channel_life) *self,
			  bool taken, int flags, enum fate fate)
{
	struct child *receiver = self->receiver, *sender = self->sender;
	int status, sig = fate == REPLACED ? SIGCHLD : SIGUSR1;

	handles(sender, flags);
	pends(sender);
	if (taken)
		takes(receiver, sender);

	if (fate == INJECTED) {
		ASSERT_TRUE(attach(self, sender));
	} else {
		ASSERT_EQ(0, ptrace(PTRACE_SEIZE, sender->pid, NULL, NULL));
		ASSERT_EQ(0, child_signal(sender, sig));
		status = child_stopped(sender);
		ASSERT_NE(-1, status);
		EXPECT_EQ(sig, WSTOPSIG(status));
	}
	EXPECT_EQ(0U, atomic_load(&sender->handled));
	if (taken) {
		EXPECT_EQ(FIFO(80), child_prio(receiver));
	}
	sig = fate == SUPPRESSED ? 0 : SIGUSR1;
	ASSERT_EQ(0, ptrace(PTRACE_CONT, sender->pid, NULL, (void *)(intptr_t)sig));

	if (sig) {
		await_handler(sender);
	}
	if (sig && (taken || !flags)) {
		ASSERT_EQ(-EINTR, child_end(sender));
		expect_nothing(self->ch);
		if (taken) {
			EXPECT_EQ(NORMAL, child_prio(receiver));
			EXPECT_EQ(-ENOENT, ch_reply(self->ch, receiver->req.entry_id));
		}
		return;
	}
	expect_asleep(sender);
	EXPECT_EQ(sig ? 1U : 0U, atomic_load(&sender->handled));
	if (!taken)
		takes(receiver, sender);
	EXPECT_EQ(FIFO(80), child_prio(receiver));
	expect_nothing(self->ch);
	finishes(receiver, sender);
	expect_nothing(self->ch);
}

#define TEST_TRACED(name, ...)						\
TEST_F_TIMEOUT(channel_life, name, NT_TEST_TIMEOUT)			\
{									\
	traced_signal(_metadata, self, __VA_ARGS__);			\
}

TEST_TRACED(traced_suppressed_pending, false, 0, SUPPRESSED)
TEST_TRACED(traced_suppressed_pending_restart, false, SA_RESTART, SUPPRESSED)
TEST_TRACED(traced_suppressed_dispatched, true, 0, SUPPRESSED)
TEST_TRACED(traced_suppressed_dispatched_restart, true, SA_RESTART, SUPPRESSED)
TEST_TRACED(traced_passed_pending, false, 0, PASSED)
TEST_TRACED(traced_passed_pending_restart, false, SA_RESTART, PASSED)
TEST_TRACED(traced_passed_dispatched, true, 0, PASSED)
TEST_TRACED(traced_passed_dispatched_restart, true, SA_RESTART, PASSED)
TEST_TRACED(traced_injected_pending, false, 0, INJECTED)
TEST_TRACED(traced_injected_pending_restart, false, SA_RESTART, INJECTED)
TEST_TRACED(traced_injected_dispatched, true, 0, INJECTED)
TEST_TRACED(traced_injected_dispatched_restart, true, SA_RESTART, INJECTED)
TEST_TRACED(traced_replaced_dispatched, true, SA_RESTART, REPLACED)

/* The tracer sees signals without a handler, and lets them through. */
TEST_F_TIMEOUT(channel_life, traced_no_handler, NT_TEST_TIMEOUT)
{
	struct child *receiver = self->receiver, *sender = self->sender;
	int taken, status;

	ASSERT_EQ(0, ptrace(PTRACE_SEIZE, sender->pid, NULL, NULL));
	for (taken = 0; taken < 2; taken++) {
		pends(sender);
		if (taken)
			takes(receiver, sender);
		ASSERT_EQ(0, child_signal(sender, SIGCHLD));
		status = child_stopped(sender);
		ASSERT_NE(-1, status);
		EXPECT_EQ(SIGCHLD, WSTOPSIG(status));
		if (taken) {
			EXPECT_EQ(FIFO(80), child_prio(receiver));
		}
		ASSERT_EQ(0, ptrace(PTRACE_CONT, sender->pid, NULL, (void *)SIGCHLD));
		expect_asleep(sender);
		if (!taken)
			takes(receiver, sender);
		expect_nothing(self->ch);
		finishes(receiver, sender);
	}
}

/* The sender dies */

TEST_F_TIMEOUT(channel_life, sender_killed_pending, NT_TEST_TIMEOUT)
{
	struct child *receiver = self->receiver, *sender = self->sender, *other = self->other;

	use_channel(self, self->one);
	pends(other);
	serves(receiver, other);
	pends(sender);
	EXPECT_EQ(FIFO(80), child_prio(receiver));
	EXPECT_EQ(-EAGAIN, child_do(other, call_send));
	kill(sender->pid, SIGKILL);
	ASSERT_NE(-1, child_reap(sender));
	EXPECT_EQ(NORMAL, child_prio(receiver));
	expect_nothing(self->one);
	pends(other);
	serves(receiver, other);
	expect_nothing(self->one);
}

/* The receiver has another request in hand, which is as before. */
TEST_F_TIMEOUT(channel_life, sender_killed_dispatched, NT_TEST_TIMEOUT)
{
	struct child *receiver = self->receiver, *sender = self->sender, *third = self->third;

	dispatched(receiver, sender);
	receiver->reply = receiver->req.entry_id;
	pends(third);
	ASSERT_EQ(0, child_do(receiver, call_recv));
	expect_request(receiver, third);
	EXPECT_EQ(FIFO(80), child_prio(receiver));
	kill(sender->pid, SIGKILL);
	ASSERT_NE(-1, child_reap(sender));
	EXPECT_EQ(FIFO(70), child_prio(receiver));
	EXPECT_EQ(-ENOENT, child_do(receiver, call_reply));
	EXPECT_EQ(FIFO(70), child_prio(receiver));
	expect_nothing(self->ch);
	expect_asleep(third);
	finishes(receiver, third);
	dispatched(receiver, third);
	finishes(receiver, third);
}

TEST_STOPPED(stopped_killed, signal)
TEST_STOPPED(stopped_killed, attach)
TEST_STOPPED(stopped_killed, seize)
TEST_FROZEN(stopped_killed)

/* It is a thread, and another thread of its process ends it. */
static void sender_thread_ends(struct __test_metadata *_metadata,
			       FIXTURE_DATA(channel_life) *self,
			       bool taken, int (*fn)(struct child *c))
{
	struct child *receiver = self->receiver, *leader = self->third, *sender = self->thread;

	pends(self->other);
	serves(receiver, self->other);

	sender->prio = 80;
	ASSERT_EQ(0, thread_start(leader, sender));
	pends(sender);
	if (taken)
		takes(receiver, sender);
	EXPECT_EQ(FIFO(80), child_prio(receiver));
	child_begin(leader, fn);
	if (fn == do_exec) {
		ASSERT_TRUE(poll_until(child_holds(leader) || child_done(leader)));
		ASSERT_FALSE(child_done(leader)) {
			TH_LOG("exec: %s", strerror(-leader->ret));
		}
	} else {
		ASSERT_NE(-1, child_reap(leader));
	}
	EXPECT_FALSE(child_done(sender));
	EXPECT_EQ(NORMAL, child_prio(receiver));
	if (taken) {
		EXPECT_EQ(-ENOENT, ch_reply(self->ch, receiver->req.entry_id));
	}
	expect_nothing(self->ch);
	pends(self->other);
	serves(receiver, self->other);
}

TEST_F_TIMEOUT(channel_life, sender_exit_group_pending, NT_TEST_TIMEOUT)
{
	sender_thread_ends(_metadata, self, false, do_exit_group);
}

TEST_F_TIMEOUT(channel_life, sender_exit_group_dispatched, NT_TEST_TIMEOUT)
{
	sender_thread_ends(_metadata, self, true, do_exit_group);
}

TEST_F_TIMEOUT(channel_life, sender_exec_pending, NT_TEST_TIMEOUT)
{
	sender_thread_ends(_metadata, self, false, do_exec);
}

TEST_F_TIMEOUT(channel_life, sender_exec_dispatched, NT_TEST_TIMEOUT)
{
	sender_thread_ends(_metadata, self, true, do_exec);
}

/* The receiver ends. Whoever created the channel is not the one. */

#define executes(c) do {						\
	child_begin((c), do_exec);					\
	ASSERT_TRUE(poll_until(child_holds(c) || child_done(c)));	\
	ASSERT_FALSE(child_done(c)) {					\
		TH_LOG("exec: %s", strerror(-(c)->ret));		\
	}								\
} while (0)

/* What it has in hand is over, what is pending stays and is served by another one. */
static void receiver_ends(struct __test_metadata *_metadata, FIXTURE_DATA(channel_life) *self,
			  int (*fn)(struct child *c))
{
	struct child *receiver = self->receiver, *sender = self->sender, *other = self->other;
	struct child *third = self->third, *receiver2 = self->receiver2;
	__u64 id[2];

	dispatched(receiver, sender);
	id[0] = receiver->req.entry_id;
	dispatched(receiver, other);
	id[1] = receiver->req.entry_id;
	pends(third);
	if (!fn) {
		kill(receiver->pid, SIGKILL);
		ASSERT_NE(-1, child_reap(receiver));
	} else if (fn == do_exec) {
		executes(receiver);
	} else {
		child_begin(receiver, fn);
		ASSERT_NE(-1, child_reap(receiver));
	}
	ASSERT_EQ(-EPIPE, child_end(sender));
	ASSERT_EQ(-EPIPE, child_end(other));
	EXPECT_EQ(-ENOENT, ch_reply(self->ch, id[0]));
	EXPECT_EQ(-ENOENT, ch_reply(self->ch, id[1]));
	expect_asleep(third);
	if (fn == do_exec) {
		EXPECT_EQ(NORMAL, child_prio(receiver));
	}
	serves(receiver2, third);
	expect_nothing(self->ch);
	pends(sender);
	serves(receiver2, sender);
}

TEST_F_TIMEOUT(channel_life, receiver_killed, NT_TEST_TIMEOUT)
{
	receiver_ends(_metadata, self, NULL);
}

TEST_F_TIMEOUT(channel_life, receiver_exit_group, NT_TEST_TIMEOUT)
{
	receiver_ends(_metadata, self, do_exit_group);
}

TEST_F_TIMEOUT(channel_life, receiver_exec, NT_TEST_TIMEOUT)
{
	receiver_ends(_metadata, self, do_exec);
}

TEST_F_TIMEOUT(channel_life, receiver_thread_exits, NT_TEST_TIMEOUT)
{
	struct child *leader = self->receiver, *receiver = self->thread, *sender = self->sender;
	struct child *other = self->other, *third = self->third;

	ASSERT_EQ(0, thread_start(leader, receiver));
	ASSERT_EQ(0, thread_start(leader, self->thread2));
	dispatched(receiver, sender);
	leader->reply = receiver->req.entry_id;
	dispatched(self->thread2, other);
	pends(third);
	child_begin(receiver, NULL);
	ASSERT_EQ(-EPIPE, child_end(sender));
	ASSERT_TRUE(poll_until(!child_state(receiver)));
	EXPECT_EQ(-ENOENT, child_do(leader, call_reply));

	/* what others have is not affected */
	expect_asleep(other);
	expect_asleep(third);
	EXPECT_EQ(FIFO(85), child_prio(self->thread2));
	serves(leader, third);
	finishes(self->thread2, other);
	expect_nothing(self->ch);
}

TEST_F_TIMEOUT(channel_life, receiver_thread_executes, NT_TEST_TIMEOUT)
{
	struct child *leader = self->receiver, *receiver = self->thread, *sender = self->sender;
	struct child *other = self->other, *third = self->third;

	/* one thread executes, the leader has a request in hand too */
	ASSERT_EQ(0, thread_start(leader, receiver));
	dispatched(receiver, sender);
	dispatched(leader, other);
	pends(third);
	child_begin(receiver, do_exec);
	ASSERT_TRUE(poll_until(child_holds(leader) || child_done(receiver)));
	ASSERT_FALSE(child_done(receiver));
	ASSERT_EQ(-EPIPE, child_end(sender));
	ASSERT_EQ(-EPIPE, child_end(other));
	EXPECT_EQ(NORMAL, nt_task_prio(leader->pid, leader->pid));
	EXPECT_EQ(-ENOENT, ch_reply(self->ch, receiver->req.entry_id));
	EXPECT_EQ(-ENOENT, ch_reply(self->ch, leader->req.entry_id));
	expect_asleep(third);
	serves(self->receiver2, third);
	expect_nothing(self->ch);
}

TEST_F_TIMEOUT(channel_life, receiver_thread_replaced, NT_TEST_TIMEOUT)
{
	struct child *leader = self->receiver, *receiver = self->thread, *sender = self->sender;

	/* another thread executes */
	ASSERT_EQ(0, thread_start(leader, receiver));
	dispatched(receiver, sender);
	executes(leader);
	ASSERT_EQ(-EPIPE, child_end(sender));
	EXPECT_EQ(-ENOENT, ch_reply(self->ch, receiver->req.entry_id));
	pends(sender);
	serves(self->receiver2, sender);
}

/* Any thread may reply before that, and the loan ends on the one that took the request. */
TEST_F_TIMEOUT(channel_life, replied_before_exit, NT_TEST_TIMEOUT)
{
	struct child *leader = self->receiver, *receiver = self->thread, *sender = self->sender;
	struct child *receiver2 = self->receiver2;

	ASSERT_EQ(0, thread_start(leader, receiver));
	dispatched(receiver, sender);
	EXPECT_EQ(NORMAL, child_prio(leader));
	leader->reply = receiver->req.entry_id;
	ASSERT_EQ(0, child_do(leader, call_reply));
	EXPECT_EQ(NORMAL, child_prio(receiver));
	ASSERT_EQ(0, child_end(sender));
	dispatched(receiver, sender);
	receiver2->reply = receiver->req.entry_id;
	ASSERT_EQ(0, child_do(receiver2, call_reply));
	EXPECT_EQ(NORMAL, child_prio(receiver));
	ASSERT_EQ(0, child_end(sender));

	pends(sender);
	child_begin(receiver, NULL);
	ASSERT_TRUE(poll_until(!child_state(receiver)));
	EXPECT_EQ(-ENOENT, child_do(receiver2, call_reply));
	expect_asleep(sender);
	serves(leader, sender);
}

/* A receiver that dies in RECV2 takes nothing with it. */
TEST_F_TIMEOUT(channel_life, receiver_asleep_killed, NT_TEST_TIMEOUT)
{
	struct child *receiver = self->receiver, *receiver2 = self->receiver2;
	struct child *sender = self->sender;

	child_begin(receiver, call_recv);
	ASSERT_TRUE(child_asleep(receiver));
	kill(receiver->pid, SIGKILL);
	ASSERT_NE(-1, child_reap(receiver));
	pends(sender);
	serves(receiver2, sender);
	expect_nothing(self->ch);
}

/*
 * The request comes when the first receiver has its signal but has not run since:
 * we do not sleep between them, and the sender is above it.
 */
static void receiver_signalled(struct __test_metadata *_metadata,
			       FIXTURE_DATA(channel_life) *self, int sig)
{
	struct child *receiver = self->receiver, *receiver2 = self->receiver2;
	struct child *sender = self->sender;

	handles(receiver, 0);
	receiver->prio = 10;
	ASSERT_EQ(0, set_sched(receiver->pid, SCHED_FIFO, 10));
	child_begin(receiver, call_recv);
	ASSERT_TRUE(child_asleep(receiver));
	child_begin(receiver2, call_recv);
	ASSERT_TRUE(child_asleep(receiver2));

	sender->send.payload_off = ++self->nr;
	ASSERT_EQ(0, child_signal(receiver, sig));
	child_begin(sender, call_send);
	if (sig == SIGKILL) {
		ASSERT_NE(-1, child_reap(receiver));
	} else {
		ASSERT_NE(-EBUSY, child_end(receiver));
	}
	if (child_done(receiver) && !receiver->ret) {
		/* It has taken the request all the same, which is right too. */
		expect_request(receiver, sender);
		expect_nothing(self->ch);
		EXPECT_FALSE(child_done(receiver2));
		finishes(receiver, sender);
		pends(sender);
	} else if (sig != SIGKILL) {
		EXPECT_EQ(-EINTR, receiver->ret);
	}
	ASSERT_EQ(0, child_end(receiver2));
	expect_request(receiver2, sender);
	EXPECT_EQ(FIFO(80), child_prio(receiver2));
	expect_nothing(self->ch);
	finishes(receiver2, sender);
}

TEST_F_TIMEOUT(channel_life, receiver_woken_killed, NT_TEST_TIMEOUT)
{
	receiver_signalled(_metadata, self, SIGKILL);
}

TEST_F_TIMEOUT(channel_life, receiver_woken_signal, NT_TEST_TIMEOUT)
{
	receiver_signalled(_metadata, self, SIGUSR1);
}

/*
 * A stopped one takes nothing: it is not asleep in RECV2. Not said: whether its call
 * goes on afterwards or ends with -EINTR.
 */
static void receiver_stopped(struct __test_metadata *_metadata,
			     FIXTURE_DATA(channel_life) *self, const struct way *way)
{
	struct child *receiver = self->receiver, *receiver2 = self->receiver2;
	struct child *sender = self->sender;

	receiver->prio = 10;
	ASSERT_EQ(0, set_sched(receiver->pid, SCHED_FIFO, 10));
	child_begin(receiver, call_recv);
	ASSERT_TRUE(child_asleep(receiver));
	child_begin(receiver2, call_recv);
	ASSERT_TRUE(child_asleep(receiver2));
	stops(receiver);
	pends(sender);
	ASSERT_EQ(0, child_end(receiver2));
	expect_request(receiver2, sender);
	finishes(receiver2, sender);

	continues(receiver);
	pends(sender);
	if (child_end(receiver) == -EINTR)
		takes(receiver, sender);
	ASSERT_EQ(0, receiver->ret);
	expect_request(receiver, sender);
	expect_nothing(self->ch);
	finishes(receiver, sender);
}

TEST_STOPPED(receiver_stopped, signal)
TEST_STOPPED(receiver_stopped, attach)
TEST_STOPPED(receiver_stopped, seize)
TEST_FROZEN(receiver_stopped)

/* Each request goes to one receiver, also if its result cannot be stored */

TEST_F_TIMEOUT(channel_life, recv_fault, NT_TEST_TIMEOUT)
{
	static const unsigned long requests[] = {
		NTSYNC_IOC_CHANNEL_TRY_RECV2, NTSYNC_IOC_CHANNEL_RECV2, NTSYNC_IOC_CHANNEL_RECV,
	};
	struct child *receiver = self->receiver, *receiver2 = self->receiver2;
	struct child *sender = self->sender;
	unsigned int i;

	for (i = 0; i < ARRAY_LEN(requests); i++) {
		receiver->request = requests[i];
		pends(sender);
		ASSERT_EQ(-EFAULT, child_do(receiver, do_fault));
		ASSERT_EQ(-EFAULT, child_do(receiver, do_fault));
		expect_asleep(sender);
		takes(receiver2, sender);
		EXPECT_EQ(NORMAL, child_prio(receiver));
		expect_nothing(self->ch);
		finishes(receiver2, sender);

		/* for the one that failed, it is as good as new too */
		pends(sender);
		ASSERT_EQ(-EFAULT, child_do(receiver, do_fault));
		serves(receiver, sender);
		expect_nothing(self->ch);
	}
}

/* It keeps its place and its slot. */
TEST_F_TIMEOUT(channel_life, recv_fault_order, NT_TEST_TIMEOUT)
{
	struct child *receiver = self->receiver, *sender = self->sender, *other = self->other;

	other->prio = 80;
	ASSERT_EQ(0, set_sched(other->pid, SCHED_FIFO, 80));
	receiver->request = NTSYNC_IOC_CHANNEL_RECV2;
	pends(sender);
	pends(other);
	ASSERT_EQ(-EFAULT, child_do(receiver, do_fault));
	takes(receiver, sender);
	receiver->reply = receiver->req.entry_id;
	ASSERT_EQ(0, child_do(receiver, call_reply));
	ASSERT_EQ(0, child_end(sender));
	serves(receiver, other);
	expect_nothing(self->ch);
}

/* The one that sleeps is woken by a failure of the one that was woken first. */
TEST_F_TIMEOUT(channel_life, recv_fault_asleep, NT_TEST_TIMEOUT)
{
	struct child *receiver = self->receiver, *receiver2 = self->receiver2;
	struct child *sender = self->sender;

	receiver->prio = 10;
	ASSERT_EQ(0, set_sched(receiver->pid, SCHED_FIFO, 10));
	receiver->request = NTSYNC_IOC_CHANNEL_RECV2;
	child_begin(receiver, do_fault);
	ASSERT_TRUE(child_asleep(receiver));
	child_begin(receiver2, call_recv);
	ASSERT_TRUE(child_asleep(receiver2));
	sender->send.payload_off = ++self->nr;
	child_begin(sender, call_send);
	ASSERT_EQ(-EFAULT, child_end(receiver));
	ASSERT_EQ(0, child_end(receiver2));
	expect_request(receiver2, sender);
	EXPECT_EQ(FIFO(10), child_prio(receiver));
	EXPECT_EQ(FIFO(80), child_prio(receiver2));
	expect_asleep(sender);
	expect_nothing(self->ch);
	finishes(receiver2, sender);
}

/* The receiving end is closed. Here one of the children creates the channel. */

#define passes(from, _fd) do {						\
	(from)->fd = (_fd);						\
	ASSERT_EQ(0, child_do((from), do_pass));			\
} while (0)

#define gives(from, _fd, to) do {					\
	passes((from), (_fd));						\
	ASSERT_EQ(0, child_do((to), do_get));				\
} while (0)

#define closes(c, _fd) do {						\
	(c)->fd = (_fd);						\
	ASSERT_EQ(0, child_do((c), do_close));				\
} while (0)

/* The receiver creates it; we and the senders are clients with full descriptors. */
static void serve(struct __test_metadata *_metadata, FIXTURE_DATA(channel_life) *self)
{
	struct child *server = self->receiver;

	ASSERT_EQ(0, child_do(server, do_create));
	gives(server, server->ch, self->sender);
	gives(server, server->ch, self->other);
	gives(server, server->ch, self->third);
	passes(server, server->ch);
	self->fd = get_fd(self->sock[1]);
	ASSERT_LE(0, self->fd);
}

/* One request is in hand, and one is pending. */
#define busy(server) do {						\
	dispatched((server), self->sender);				\
	self->id = (server)->req.entry_id;				\
	pends(self->other);						\
	EXPECT_EQ(FIFO(85), child_prio(server));			\
} while (0)

#define still_open() do {						\
	expect_asleep(self->sender);					\
	expect_asleep(self->other);					\
} while (0)

/* That ends what busy() began, and everything later. */
static void expect_closed(struct __test_metadata *_metadata, FIXTURE_DATA(channel_life) *self)
{
	struct child *third = self->third;

	ASSERT_EQ(-EPIPE, child_end(self->sender));
	ASSERT_EQ(-EPIPE, child_end(self->other));
	ASSERT_EQ(-EPIPE, child_do(third, call_send));
	ASSERT_EQ(-EPIPE, child_do(third, call_recv));
	ASSERT_EQ(-EPIPE, child_do(third, call_recv_1));
	EXPECT_EQ(-ENOENT, ch_reply(self->fd, self->id));
	ASSERT_EQ(-EPIPE, child_do(self->sender, call_send));
}

TEST_F_TIMEOUT(channel_life, closed_by_close, NT_TEST_TIMEOUT)
{
	struct child *server = self->receiver;

	serve(_metadata, self);
	busy(server);
	closes(server, server->ch);
	EXPECT_EQ(NORMAL, child_prio(server));
	expect_closed(_metadata, self);
}

/* Reading "every RECV*" as the design's table does, where TRY_RECV2 is one. */
TEST_F_TIMEOUT(channel_life, closed_try_recv, NT_TEST_TIMEOUT)
{
	struct child *server = self->receiver;
	struct ntsync_channel_recv2_args req;

	serve(_metadata, self);
	EXPECT_EQ(-EAGAIN, ch_try_recv2(self->fd, &req));
	busy(server);
	closes(server, server->ch);
	EXPECT_EQ(-EPIPE, ch_try_recv2(self->fd, &req));
	expect_closed(_metadata, self);
	EXPECT_EQ(-EPIPE, ch_try_recv2(self->fd, &req));
}

TEST_F_TIMEOUT(channel_life, closed_never_received, NT_TEST_TIMEOUT)
{
	struct child *server = self->receiver;

	serve(_metadata, self);
	pends(self->sender);
	pends(self->other);
	closes(server, server->ch);
	expect_closed(_metadata, self);
}

TEST_F_TIMEOUT(channel_life, closed_dup, NT_TEST_TIMEOUT)
{
	struct child *server = self->receiver;
	int copy;

	serve(_metadata, self);
	busy(server);
	ASSERT_EQ(0, child_do(server, do_dup));
	copy = server->fd;
	closes(server, server->ch);
	still_open();
	EXPECT_EQ(FIFO(85), child_prio(server));
	server->ch = copy;
	server->reply = self->id;
	ASSERT_EQ(0, child_do(server, call_reply));
	ASSERT_EQ(0, child_end(self->sender));
	takes(server, self->other);
	self->id = server->req.entry_id;
	pends(self->sender);
	closes(server, copy);
	EXPECT_EQ(NORMAL, child_prio(server));
	expect_closed(_metadata, self);
}

TEST_F_TIMEOUT(channel_life, closed_by_dup2, NT_TEST_TIMEOUT)
{
	serve(_metadata, self);
	busy(self->receiver);
	ASSERT_EQ(0, child_do(self->receiver, do_replace));
	EXPECT_EQ(NORMAL, child_prio(self->receiver));
	expect_closed(_metadata, self);
}

TEST_F_TIMEOUT(channel_life, closed_by_close_range, NT_TEST_TIMEOUT)
{
	serve(_metadata, self);
	busy(self->receiver);
	ASSERT_EQ(0, child_do(self->receiver, do_close_range));
	EXPECT_EQ(NORMAL, child_prio(self->receiver));
	expect_closed(_metadata, self);
}

TEST_F_TIMEOUT(channel_life, closed_by_exit, NT_TEST_TIMEOUT)
{
	serve(_metadata, self);
	busy(self->receiver);
	child_begin(self->receiver, do_exit_group);
	ASSERT_NE(-1, child_reap(self->receiver));
	expect_closed(_metadata, self);
}

TEST_F_TIMEOUT(channel_life, closed_by_kill, NT_TEST_TIMEOUT)
{
	serve(_metadata, self);
	busy(self->receiver);
	kill(self->receiver->pid, SIGKILL);
	ASSERT_NE(-1, child_reap(self->receiver));
	expect_closed(_metadata, self);
}

TEST_F_TIMEOUT(channel_life, closed_by_exec, NT_TEST_TIMEOUT)
{
	serve(_metadata, self);
	busy(self->receiver);
	executes(self->receiver);
	expect_closed(_metadata, self);
}

/* The program that is executed has the descriptor, the request in hand is over. */
TEST_F_TIMEOUT(channel_life, open_after_exec, NT_TEST_TIMEOUT)
{
	struct child *server = self->receiver;

	serve(_metadata, self);
	ASSERT_EQ(FD_CLOEXEC, child_do(server, do_keep));
	busy(server);
	executes(server);
	ASSERT_EQ(-EPIPE, child_end(self->sender));
	EXPECT_EQ(NORMAL, child_prio(server));
	EXPECT_EQ(-ENOENT, ch_reply(self->fd, self->id));
	expect_asleep(self->other);
	pends(self->third);
	kill(server->pid, SIGKILL);
	ASSERT_NE(-1, child_reap(server));
	ASSERT_EQ(-EPIPE, child_end(self->third));
	expect_closed(_metadata, self);
}

/* A process is not over before its last thread is. */
TEST_F_TIMEOUT(channel_life, open_after_leader_exit, NT_TEST_TIMEOUT)
{
	struct child *leader = self->receiver, *thread = self->thread;

	serve(_metadata, self);
	ASSERT_EQ(0, thread_start(leader, thread));
	busy(leader);
	child_begin(leader, do_exit_thread);
	ASSERT_EQ(-EPIPE, child_end(self->sender));
	ASSERT_TRUE(poll_until(child_gone(leader)));
	EXPECT_EQ(-ENOENT, ch_reply(self->fd, self->id));
	expect_asleep(self->other);
	serves(thread, self->other);
	busy(thread);
	child_begin(thread, NULL);
	ASSERT_NE(-1, child_reap(leader));
	expect_closed(_metadata, self);
}

/* A descriptor that is on its way belongs to no process, and comes back too late. */
TEST_F_TIMEOUT(channel_life, closed_in_flight, NT_TEST_TIMEOUT)
{
	struct child *server = self->receiver;

	serve(_metadata, self);
	busy(server);
	passes(server, server->ch);
	closes(server, server->ch);
	EXPECT_EQ(NORMAL, child_prio(server));
	expect_closed(_metadata, self);
	ASSERT_EQ(0, child_do(server, do_get));
	EXPECT_EQ(-EPIPE, child_do(server, call_recv));
	EXPECT_EQ(-EPIPE, child_do(server, call_send));
	server->reply = self->id;
	EXPECT_EQ(-ENOENT, child_do(server, call_reply));
	expect_closed(_metadata, self);
}

/* A fork of the server has a copy but does not receive. */
TEST_F_TIMEOUT(channel_life, closed_fork, NT_TEST_TIMEOUT)
{
	struct child *server = self->receiver, *forked = self->forked;

	serve(_metadata, self);
	busy(server);
	ASSERT_EQ(0, start_other(server, forked, do_fork));
	EXPECT_EQ(NORMAL, child_prio(forked));
	closes(server, server->ch);
	EXPECT_EQ(NORMAL, child_prio(server));
	EXPECT_EQ(-EPIPE, child_do(forked, call_send));
	EXPECT_EQ(-EPIPE, child_do(forked, call_recv));
	expect_closed(_metadata, self);
}

/* It is a client, and sleeps in its send. */
TEST_F_TIMEOUT(channel_life, closed_fork_sends, NT_TEST_TIMEOUT)
{
	struct child *server = self->receiver, *forked = self->forked;

	serve(_metadata, self);
	forked->prio = 60;
	ASSERT_EQ(0, start_other(server, forked, do_fork));
	busy(server);
	pends(forked);
	kill(server->pid, SIGKILL);
	ASSERT_NE(-1, child_reap(server));
	ASSERT_EQ(-EPIPE, child_end(forked));
	expect_closed(_metadata, self);
}

/* What a fork of the server does with its copy changes nothing. */
TEST_F_TIMEOUT(channel_life, open_fork_closes, NT_TEST_TIMEOUT)
{
	struct child *server = self->receiver, *forked = self->forked;

	serve(_metadata, self);
	busy(server);
	ASSERT_EQ(0, start_other(server, forked, do_fork));
	closes(forked, forked->ch);
	still_open();
	child_begin(forked, do_exit_group);
	ASSERT_TRUE(poll_until(child_gone(forked)));
	still_open();
	server->reply = self->id;
	ASSERT_EQ(0, child_do(server, call_reply));
	ASSERT_EQ(0, child_end(self->sender));
	serves(server, self->other);
}

/* Once a fork of the server has received, it serves as well. */
static void fork_received(struct __test_metadata *_metadata, FIXTURE_DATA(channel_life) *self,
			  int (*fn)(struct child *c))
{
	struct child *server = self->receiver, *forked = self->forked;

	serve(_metadata, self);
	pends(self->third);
	serves(server, self->third);
	ASSERT_EQ(0, start_other(server, forked, do_fork));
	pends(self->third);
	serves(forked, self->third);
	dispatched(forked, self->sender);
	self->id = forked->req.entry_id;
	if (fn == do_close) {
		closes(server, server->ch);
	} else {
		if (fn)
			child_begin(server, fn);
		else
			kill(server->pid, SIGKILL);
		ASSERT_NE(-1, child_reap(server));
	}
	pends(self->other);
	still_open();
	EXPECT_EQ(FIFO(85), child_prio(forked));
	forked->reply = self->id;
	ASSERT_EQ(0, child_do(forked, call_reply));
	ASSERT_EQ(0, child_end(self->sender));
	serves(forked, self->other);

	busy(forked);
	closes(forked, forked->ch);
	EXPECT_EQ(NORMAL, child_prio(forked));
	expect_closed(_metadata, self);
}

TEST_F_TIMEOUT(channel_life, fork_received_parent_closes, NT_TEST_TIMEOUT)
{
	fork_received(_metadata, self, do_close);
}

TEST_F_TIMEOUT(channel_life, fork_received_parent_exits, NT_TEST_TIMEOUT)
{
	fork_received(_metadata, self, do_exit_group);
}

TEST_F_TIMEOUT(channel_life, fork_received_parent_killed, NT_TEST_TIMEOUT)
{
	fork_received(_metadata, self, NULL);
}

/* A client that has received serves as well; in either order they leave. */
static void two_servers(struct __test_metadata *_metadata, FIXTURE_DATA(channel_life) *self,
			struct child *first, struct child *second)
{
	serve(_metadata, self);
	gives(self->receiver, self->receiver->ch, self->receiver2);
	pends(self->third);
	serves(self->receiver2, self->third);
	closes(first, first->ch);
	busy(second);
	still_open();
	kill(second->pid, SIGKILL);
	ASSERT_NE(-1, child_reap(second));
	expect_closed(_metadata, self);
}

TEST_F_TIMEOUT(channel_life, two_servers_creator_first, NT_TEST_TIMEOUT)
{
	two_servers(_metadata, self, self->receiver, self->receiver2);
}

TEST_F_TIMEOUT(channel_life, two_servers_creator_last, NT_TEST_TIMEOUT)
{
	two_servers(_metadata, self, self->receiver2, self->receiver);
}

/* What one of them has in hand stays in hand when the other one leaves. */
TEST_F_TIMEOUT(channel_life, two_servers_in_hand, NT_TEST_TIMEOUT)
{
	struct child *server = self->receiver, *server2 = self->receiver2;

	serve(_metadata, self);
	gives(server, server->ch, server2);
	dispatched(server2, self->sender);
	self->id = server2->req.entry_id;
	kill(server->pid, SIGKILL);
	ASSERT_NE(-1, child_reap(server));
	expect_asleep(self->sender);
	EXPECT_EQ(FIFO(80), child_prio(server2));
	pends(self->other);
	closes(server2, server2->ch);
	EXPECT_EQ(NORMAL, child_prio(server2));
	expect_closed(_metadata, self);
}

/* Neither clients nor the server itself keep it open with send-only descriptors. */
TEST_F_TIMEOUT(channel_life, closed_send_only, NT_TEST_TIMEOUT)
{
	struct child *server = self->receiver;

	need_ioctl(self->dev, NTSYNC_IOC_CHANNEL_SEND_ONLY);
	serve(_metadata, self);
	closes(self->sender, self->sender->ch);
	closes(self->other, self->other->ch);
	ASSERT_EQ(0, child_do(server, do_send_only));
	gives(server, server->fd, self->sender);
	gives(server, server->fd, self->other);
	busy(server);
	closes(server, server->ch);
	EXPECT_EQ(NORMAL, child_prio(server));
	expect_closed(_metadata, self);
}

/* The server closes its send-only descriptor: it still has the other one. */
TEST_F_TIMEOUT(channel_life, open_send_only_closed, NT_TEST_TIMEOUT)
{
	struct child *server = self->receiver;

	need_ioctl(self->dev, NTSYNC_IOC_CHANNEL_SEND_ONLY);
	serve(_metadata, self);
	ASSERT_EQ(0, child_do(server, do_send_only));
	busy(server);
	closes(server, server->fd);
	still_open();
	server->reply = self->id;
	ASSERT_EQ(0, child_do(server, call_reply));
	ASSERT_EQ(0, child_end(self->sender));
	serves(server, self->other);
}

/* A client that leaves changes nothing. */
TEST_F_TIMEOUT(channel_life, open_client_leaves, NT_TEST_TIMEOUT)
{
	struct child *server = self->receiver, *third = self->third;

	serve(_metadata, self);
	busy(server);
	pends(third);
	kill(third->pid, SIGKILL);
	ASSERT_NE(-1, child_reap(third));
	ASSERT_EQ(0, close(self->fd));
	still_open();
	server->reply = self->id;
	ASSERT_EQ(0, child_do(server, call_reply));
	ASSERT_EQ(0, child_end(self->sender));
	serves(server, self->other);
}

/* Calls in progress do not count: */
TEST_F_TIMEOUT(channel_life, closed_recv_in_progress, NT_TEST_TIMEOUT)
{
	struct child *server = self->receiver, *thread = self->thread, *thread2 = self->thread2;

	serve(_metadata, self);
	ASSERT_EQ(0, thread_start(server, thread));
	ASSERT_EQ(0, thread_start(server, thread2));
	dispatched(server, self->sender);
	self->id = server->req.entry_id;
	dispatched(server, self->other);
	child_begin(thread, call_recv);
	ASSERT_TRUE(child_asleep(thread));
	child_begin(thread2, call_recv_1);
	ASSERT_TRUE(child_asleep(thread2));
	closes(server, server->ch);
	EXPECT_EQ(NORMAL, child_prio(server));
	ASSERT_EQ(-EPIPE, child_end(thread));
	ASSERT_EQ(-EPIPE, child_end(thread2));
	expect_closed(_metadata, self);
}

TEST_F_TIMEOUT(channel_life, closed_send_in_progress, NT_TEST_TIMEOUT)
{
	struct child *server = self->receiver, *thread = self->thread, *thread2 = self->thread2;

	serve(_metadata, self);
	thread->prio = 60;
	ASSERT_EQ(0, thread_start(server, thread));
	thread2->prio = 61;
	ASSERT_EQ(0, thread_start(server, thread2));
	dispatched(server, thread);
	busy(server);
	pends(thread2);
	closes(server, server->ch);
	EXPECT_EQ(NORMAL, child_prio(server));
	ASSERT_EQ(-EPIPE, child_end(thread));
	ASSERT_EQ(-EPIPE, child_end(thread2));
	expect_closed(_metadata, self);
}

/* The loans of other threads, by requests in hand and pending, end with it. */
TEST_F_TIMEOUT(channel_life, closed_ends_loans, NT_TEST_TIMEOUT)
{
	struct child *server = self->receiver, *thread = self->thread, *thread2 = self->thread2;

	serve(_metadata, self);
	ASSERT_EQ(0, thread_start(server, thread));
	ASSERT_EQ(0, thread_start(server, thread2));
	pends(self->third);
	serves(thread2, self->third);
	dispatched(thread, self->sender);
	self->id = thread->req.entry_id;
	EXPECT_EQ(FIFO(80), child_prio(thread));
	EXPECT_EQ(NORMAL, child_prio(thread2));
	pends(self->third);
	EXPECT_EQ(FIFO(80), child_prio(thread));
	EXPECT_EQ(FIFO(70), child_prio(thread2));
	EXPECT_EQ(NORMAL, child_prio(server));
	closes(server, server->ch);
	EXPECT_EQ(NORMAL, child_prio(thread));
	EXPECT_EQ(NORMAL, child_prio(thread2));
	ASSERT_EQ(-EPIPE, child_end(self->sender));
	ASSERT_EQ(-EPIPE, child_end(self->third));
	EXPECT_EQ(-ENOENT, ch_reply(self->fd, self->id));
}

/* A sender that is stopped when it is closed gets to know that when it goes on. */
static void closed_stopped(struct __test_metadata *_metadata, FIXTURE_DATA(channel_life) *self,
			   const struct way *way)
{
	struct child *server = self->receiver;

	serve(_metadata, self);
	busy(server);
	stops(self->sender);
	closes(server, server->ch);
	EXPECT_EQ(NORMAL, child_prio(server));
	EXPECT_FALSE(child_done(self->sender));
	continues(self->sender);
	expect_closed(_metadata, self);
}

/* The same if the receiver dies. */
static void epipe_stopped(struct __test_metadata *_metadata, FIXTURE_DATA(channel_life) *self,
			  const struct way *way)
{
	struct child *receiver = self->receiver, *sender = self->sender;

	dispatched(receiver, sender);
	stops(sender);
	kill(receiver->pid, SIGKILL);
	ASSERT_NE(-1, child_reap(receiver));
	EXPECT_FALSE(child_done(sender));
	continues(sender);
	ASSERT_EQ(-EPIPE, child_end(sender));
	EXPECT_EQ(-ENOENT, ch_reply(self->ch, receiver->req.entry_id));
	expect_nothing(self->ch);
	pends(sender);
	serves(self->receiver2, sender);
}

TEST_STOPPED(closed_stopped, signal)
TEST_STOPPED(closed_stopped, seize)
TEST_FROZEN(closed_stopped)

TEST_STOPPED(epipe_stopped, signal)
TEST_STOPPED(epipe_stopped, seize)
TEST_FROZEN(epipe_stopped)

TEST_HARNESS_MAIN
