// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Channels, the protocol: what each ioctl accepts and refuses, what is delivered
 * to whom, in which order, with which priority, thread tokens, descriptors that
 * can only send, and what an unprivileged sender gets.
 *
 * What receivers inherit is tested by channel_pi, and how senders, receivers and
 * channels end by channel_life.
 *
 * Everything runs on one CPU below the controlling thread unless a test says
 * otherwise. A sender that is asleep has its request in the queue.
 */
#include "channel_test.h"
#include <assert.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <linux/capability.h>

#define NB_PEERS	12
#define DEPTH		16
#define NOBODY		65534
#define POISON64	0xccccccccccccccccULL
#define LAST_PID	"/proc/sys/kernel/ns_last_pid"

/* Numbers and layouts, which must be the same for 32-bit programs. */

#define CHECK_IOC(name, dir, nr, size)					\
	static_assert(NTSYNC_IOC_##name == _IOC((dir), 'N', (nr), (size)), #name)

CHECK_IOC(CREATE_CHANNEL, _IOC_READ | _IOC_WRITE, 0x90, 8);
CHECK_IOC(CHANNEL_SEND_PI, _IOC_READ | _IOC_WRITE, 0x91, 24);
CHECK_IOC(CHANNEL_RECV, _IOC_READ | _IOC_WRITE, 0x92, 32);
CHECK_IOC(CHANNEL_REPLY, _IOC_WRITE, 0x93, 8);
CHECK_IOC(CHANNEL_REGISTER_THREAD, _IOC_WRITE, 0x94, 16);
CHECK_IOC(CHANNEL_DEREGISTER_THREAD, _IOC_WRITE, 0x95, 4);
CHECK_IOC(CHANNEL_RECV2, _IOC_READ | _IOC_WRITE, 0x96, 40);
CHECK_IOC(CHANNEL_TRY_RECV2, _IOC_READ | _IOC_WRITE, 0x98, 40);
CHECK_IOC(CHANNEL_SEND_ONLY, _IOC_NONE, 0x9a, 0);

#define CHECK_FIELD(type, field, offset)				\
	static_assert(offsetof(struct ntsync_channel_##type, field) == (offset), #type "." #field)

CHECK_FIELD(args, max_depth, 0);
CHECK_FIELD(args, __pad, 4);
CHECK_FIELD(send_args, policy, 0);
CHECK_FIELD(send_args, prio, 4);
CHECK_FIELD(send_args, payload_off, 8);
CHECK_FIELD(send_args, reply_off, 16);
CHECK_FIELD(recv_args, entry_id, 0);
CHECK_FIELD(recv_args, payload_off, 8);
CHECK_FIELD(recv_args, reply_off, 16);
CHECK_FIELD(recv_args, sender_tid, 24);
CHECK_FIELD(recv_args, prio, 28);
CHECK_FIELD(recv2_args, entry_id, 0);
CHECK_FIELD(recv2_args, payload_off, 8);
CHECK_FIELD(recv2_args, reply_off, 16);
CHECK_FIELD(recv2_args, sender_tid, 24);
CHECK_FIELD(recv2_args, prio, 28);
CHECK_FIELD(recv2_args, thread_token, 32);
CHECK_FIELD(thread_args, tid, 0);
CHECK_FIELD(thread_args, __pad, 4);
CHECK_FIELD(thread_args, token, 8);
static_assert(NTSYNC_MAX_CHANNEL_DEPTH == 1024, "depth");
static_assert(NTSYNC_MAX_CHANNEL_THREADS == 65536, "threads");

/*
 * An ioctl of the controlling thread, or of another process, that sleeps only if
 * something is wrong, or not for long. The alarm ends it with -EINTR.
 */
static int bounded(int fd, unsigned long request, void *arg)
{
	int ret;

	alarm(NT_BOUND_NSEC / NT_NSEC_PER_SEC);
	ret = nt_ioctl(fd, request, arg);
	alarm(0);
	return ret;
}

/* A request that is to be refused. */
static int send_now(int ch, __u32 policy, __u32 prio)
{
	struct ntsync_channel_send_args args = { .policy = policy, .prio = prio };

	return bounded(ch, NTSYNC_IOC_CHANNEL_SEND_PI, &args);
}

/* For RECV, too: what that does not write stays poison. */
static int take(int ch, unsigned long request, struct ntsync_channel_recv2_args *args)
{
	memset(args, 0xcc, sizeof(*args));
	return bounded(ch, request, args);
}

/* Three pages in a row: for all, for reading, for nothing. */
struct pages {
	char *rw;
	char *ro;
	char *none;
};

static bool map_pages(struct pages *m)
{
	size_t size = sysconf(_SC_PAGESIZE);
	char *p = mmap(NULL, 3 * size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return false;
	memset(p, 0xcc, 2 * size);
	m->rw = p;
	m->ro = p + size;
	m->none = p + 2 * size;
	return !mprotect(m->ro, size, PROT_READ) && !mprotect(m->none, size, PROT_NONE);
}

/* A copy that cannot be written to. */
static void *read_only(struct pages *m, const void *data, size_t size)
{
	size_t page = sysconf(_SC_PAGESIZE);

	if (mprotect(m->ro, page, PROT_READ | PROT_WRITE))
		return NULL;
	memcpy(m->ro, data, size);
	return mprotect(m->ro, page, PROT_READ) ? NULL : m->ro;
}

/* In a 64-bit program an address of the kernel, in a 32-bit one nothing is there. */
#define KERNEL_ADDRESS	((void *)-4096L)

#define NB_BAD	5

static void bad_inputs(struct pages *m, size_t size, void *bad[NB_BAD])
{
	bad[0] = NULL;
	bad[1] = m->none;
	bad[2] = m->none - size / 2;
	bad[3] = m->none - size + 1;
	bad[4] = KERNEL_ADDRESS;
}

static void bad_results(struct pages *m, size_t size, void *bad[NB_BAD])
{
	bad[0] = m->ro;
	bad[1] = m->ro - 8;
	bad[2] = m->ro - size + 4;
	bad[3] = NULL;
	bad[4] = KERNEL_ADDRESS;
}

/* What all fixtures have. Peers are started by those who need them. */
struct set {
	int dev;
	int ch;
	struct peer peer[NB_PEERS];
};

/* For FIXTURE_SETUP(). */
#define set_up(s) do {							\
	struct sigaction __alarm = { .sa_handler = nothing };		\
									\
	begin_rt((s)->dev);						\
	need_channels((s)->dev);					\
	sigaction(SIGALRM, &__alarm, NULL);				\
	(s)->ch = ch_create((s)->dev, DEPTH);				\
	ASSERT_LE(0, (s)->ch);						\
} while (0)

FIXTURE(channel) {
	struct set s;
};

FIXTURE_SETUP(channel)
{
	set_up(&self->s);
}

FIXTURE_TEARDOWN(channel)
{
	close(self->s.ch);
	close(self->s.dev);
}

FIXTURE(channel_token) {
	struct set s;
};

FIXTURE_SETUP(channel_token)
{
	set_up(&self->s);
	/* RECV2 is of the same patch, and would sleep */
	need_ioctl(self->s.dev, NTSYNC_IOC_CHANNEL_REGISTER_THREAD);
}

FIXTURE_TEARDOWN(channel_token)
{
	close(self->s.ch);
	close(self->s.dev);
}

FIXTURE(channel_try) {
	struct set s;
};

FIXTURE_SETUP(channel_try)
{
	set_up(&self->s);
	need_ioctl(self->s.dev, NTSYNC_IOC_CHANNEL_TRY_RECV2);
}

FIXTURE_TEARDOWN(channel_try)
{
	close(self->s.ch);
	close(self->s.dev);
}

FIXTURE(channel_send_only) {
	struct set s;
	int only;
};

FIXTURE_SETUP(channel_send_only)
{
	set_up(&self->s);
	need_ioctl(self->s.dev, NTSYNC_IOC_CHANNEL_SEND_ONLY);
	self->only = ch_send_only(self->s.ch);
	ASSERT_LE(0, self->only);
}

FIXTURE_TEARDOWN(channel_send_only)
{
	close(self->only);
	close(self->s.ch);
	close(self->s.dev);
}

static pid_t tid_of(struct peer *p)
{
	return atomic_load(&p->a.tid);
}

#define starts(s, p, prio) do {						\
	ASSERT_EQ(0, actor_start(&(p)->a, (s)->dev, (prio)));		\
	(p)->a.objs[0] = (s)->ch;					\
} while (0)

/* Let it send, and go on when it sleeps. */
#define sends_pi(p, _policy, _prio, _payload, _reply) do {		\
	(p)->send = (struct ntsync_channel_send_args) {			\
		.policy = (_policy), .prio = (_prio),			\
		.payload_off = (_payload), .reply_off = (_reply),	\
	};								\
	actor_begin(&(p)->a, do_send);					\
	ASSERT_TRUE(actor_asleep(&(p)->a)) {				\
		TH_LOG("the sender does not sleep (returned %d)", (p)->a.ret); \
	}								\
} while (0)

#define sends(p, payload)	sends_pi((p), 0, 0, (payload), 0)

#define receives(ch, args)						\
	ASSERT_EQ(0, take((ch), NTSYNC_IOC_CHANNEL_RECV, (args)))

#define answers(p, ch, id) do {						\
	EXPECT_EQ(0, ch_reply((ch), (id)));				\
	ASSERT_EQ(0, actor_end(&(p)->a));				\
} while (0)

/* Receive the request of this peer, and nothing else is there before it. */
#define serves(s, p, payload) do {					\
	struct ntsync_channel_recv2_args __args;			\
									\
	receives((s)->ch, &__args);					\
	ASSERT_EQ((__u64)(payload), __args.payload_off);		\
	EXPECT_EQ((__u32)tid_of(p), __args.sender_tid);			\
	answers((p), (s)->ch, __args.entry_id);				\
} while (0)

static int do_recv_plain(struct actor *a)
{
	memset(&actor_peer(a)->req, 0xcc, sizeof(actor_peer(a)->req));
	return nt_ioctl(a->objs[0], NTSYNC_IOC_CHANNEL_RECV, &actor_peer(a)->req);
}

/* By itself: a deadline thread that sleeps would leave its bandwidth behind. */
static int do_normal(struct actor *a)
{
	(void)a;
	return set_sched(0, SCHED_OTHER, 0);
}

static int unpin(struct peer *p)
{
	cpu_set_t set;
	int i;

	CPU_ZERO(&set);
	for (i = 0; i < CPU_SETSIZE; i++)
		CPU_SET(i, &set);
	return sched_setaffinity(tid_of(p), sizeof(set), &set) ? -errno : 0;
}

static unsigned int rnd(unsigned int *seed)
{
	*seed = *seed * 1103515245 + 12345;
	return *seed >> 16;
}

/*
 * Processes. What they are told and what they report is in shared memory.
 */

struct job {
	pid_t child;		/* to be waited for */
	atomic_int pid;		/* of the process that does it, as the test sees it */
	int ret;
	atomic_uint step;	/* of job_gate() */
	atomic_uint entered;	/* is about to make the call */
	atomic_uint done;

	int dev;
	int ch;
	int mutex;
	int gate[2];
	__u64 id;
	__u32 tid;
	__u64 token;
	__u32 policy;		/* explicit */
	__u32 prio;
	struct nt_sched own;
	unsigned long long limit;	/* RLIMIT_RTPRIO */
	bool drop;		/* become nobody */
	bool userns;		/* with all capabilities in a user namespace */
	pid_t other;
	struct ntsync_channel_recv2_args args;
};

static struct job *new_job(struct set *s)
{
	struct job *job = mmap(NULL, sizeof(*job), PROT_READ | PROT_WRITE,
			       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (job == MAP_FAILED)
		return NULL;
	job->dev = s->dev;
	job->ch = s->ch;
	return job;
}

static void die_with_parent(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* A process with a PID namespace of its own is the child of one without. */
static int job_start(struct job *job, int (*fn)(struct job *job), bool new_pidns)
{
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (pid) {
		/* Not in the child: this is shared memory. */
		job->child = pid;
		if (!new_pidns)
			atomic_store(&job->pid, pid);
		return 0;
	}
	die_with_parent();
	job->ret = set_sched(0, SCHED_OTHER, 0);
	if (!job->ret && new_pidns) {
		pid = unshare(CLONE_NEWPID) ? -1 : fork();
		if (pid > 0) {
			atomic_store(&job->pid, pid);
			waitpid(pid, NULL, 0);
			_exit(0);
		}
		if (pid < 0)
			job->ret = -errno;
		die_with_parent();
	}
	if (!job->ret)
		job->ret = fn(job);
	atomic_store(&job->done, 1);
	_exit(0);
}

static void job_enters(struct job *job)
{
	atomic_store(&job->entered, 1);
}

static bool job_asleep(struct job *job)
{
	poll_until(atomic_load(&job->done) ||
		   (atomic_load(&job->entered) && atomic_load(&job->pid) &&
		    nt_task_state(atomic_load(&job->pid), atomic_load(&job->pid)) == 'S'));
	return atomic_load(&job->entered) && !atomic_load(&job->done);
}

static int job_end(struct job *job)
{
	int status;

	if (!poll_until(atomic_load(&job->done)) ||
	    !poll_until(waitpid(job->child, &status, WNOHANG) == job->child))
		return -EBUSY;
	return job->ret;
}

static int job_do(struct job *job, int (*fn)(struct job *job), bool new_pidns)
{
	int ret = job_start(job, fn, new_pidns);

	return ret ? ret : job_end(job);
}

static int job_reply(struct job *job)
{
	if (job->drop && setresuid(NOBODY, NOBODY, NOBODY))
		return -errno;
	return ch_reply(job->ch, job->id);
}

static int job_register(struct job *job)
{
	return ch_register(job->ch, job->tid, job->token);
}

static int job_send(struct job *job)
{
	struct ntsync_channel_send_args args = { .policy = job->policy, .prio = job->prio };

	job_enters(job);
	return bounded(job->ch, NTSYNC_IOC_CHANNEL_SEND_PI, &args);
}

static int job_recv(struct job *job)
{
	int ret;

	job_enters(job);
	ret = take(job->ch, NTSYNC_IOC_CHANNEL_RECV, &job->args);
	return ret ? ret : ch_reply(job->ch, job->args.entry_id);
}

/*
 * Who may call what, and with what.
 */

TEST_F_TIMEOUT(channel, create_depth, NT_TEST_TIMEOUT)
{
	static const __u32 legal[] = { 1, 2, 1023, 1024 };
	static const __u32 illegal[] = { 0, 1025, 65537, 0x7fffffff, 0x80000001, 0xffffffff };
	static const __u32 pad[] = { 1, 0x80000000, 0xffffffff };
	unsigned int i;
	int ch;

	for (i = 0; i < ARRAY_LEN(legal); i++) {
		ch = ch_create(self->s.dev, legal[i]);
		EXPECT_LE(0, ch);
		close(ch);
	}
	for (i = 0; i < ARRAY_LEN(illegal); i++) {
		EXPECT_EQ(-EINVAL, ch_create(self->s.dev, illegal[i])) {
			TH_LOG("depth %u", illegal[i]);
		}
	}
	for (i = 0; i < ARRAY_LEN(pad); i++) {
		struct ntsync_channel_args args = { .max_depth = 4, .__pad = pad[i] };

		EXPECT_EQ(-EINVAL, nt_ioctl(self->s.dev, NTSYNC_IOC_CREATE_CHANNEL, &args));
	}
}

/* Exec closes it (section 7: "closed, exec, exit"). */
TEST_F_TIMEOUT(channel, create_cloexec, NT_TEST_TIMEOUT)
{
	EXPECT_EQ(FD_CLOEXEC, fcntl(self->s.ch, F_GETFD));
}

static void check_bad_input(struct __test_metadata *_metadata, int fd, unsigned long request)
{
	void *bad[NB_BAD];
	struct pages m;
	unsigned int i;

	ASSERT_TRUE(map_pages(&m));
	bad_inputs(&m, _IOC_SIZE(request), bad);
	for (i = 0; i < NB_BAD; i++) {
		EXPECT_EQ(-EFAULT, bounded(fd, request, bad[i])) {
			TH_LOG("request %#lx, pointer %u", request, i);
		}
	}
}

/* A request that was not read is not queued, and an id that was not is not looked for. */
TEST_F_TIMEOUT(channel, bad_pointers, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_recv2_args args;
	struct peer *p = self->s.peer;
	int ch = ch_create(self->s.dev, 1);

	ASSERT_LE(0, ch);
	starts(&self->s, p, 0);
	p->a.objs[0] = ch;

	check_bad_input(_metadata, self->s.dev, NTSYNC_IOC_CREATE_CHANNEL);
	check_bad_input(_metadata, ch, NTSYNC_IOC_CHANNEL_SEND_PI);

	/* there is room for one */
	sends(p, 1);
	EXPECT_EQ(-EAGAIN, send_now(ch, 0, 0));
	check_bad_input(_metadata, ch, NTSYNC_IOC_CHANNEL_SEND_PI);
	check_bad_input(_metadata, ch, NTSYNC_IOC_CHANNEL_REPLY);
	receives(ch, &args);
	EXPECT_EQ(1ULL, args.payload_off);
	check_bad_input(_metadata, ch, NTSYNC_IOC_CHANNEL_REPLY);
	EXPECT_TRUE(actor_asleep(&p->a));
	answers(p, ch, args.entry_id);
}

/* With the argument that is at the address in reply. */
static int do_send_there(struct actor *a)
{
	void *arg = (void *)(uintptr_t)actor_peer(a)->reply;

	return nt_ioctl(a->objs[0], NTSYNC_IOC_CHANNEL_SEND_PI, arg);
}

/* The table has no result in the structs of CREATE_CHANNEL and SEND_PI: they are only read. */
TEST_F_TIMEOUT(channel, input_only, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_args create = { .max_depth = 2 };
	struct ntsync_channel_send_args send = {
		.policy = SCHED_FIFO, .prio = 5, .payload_off = 6, .reply_off = 7,
	};
	struct ntsync_channel_recv2_args args;
	struct peer *p = self->s.peer;
	struct pages m;
	void *arg;
	int ch;

	ASSERT_TRUE(map_pages(&m));
	arg = read_only(&m, &create, sizeof(create));
	ASSERT_TRUE(arg != NULL);
	ch = nt_ioctl(self->s.dev, NTSYNC_IOC_CREATE_CHANNEL, arg);
	EXPECT_LE(0, ch);
	close(ch);

	starts(&self->s, p, 0);
	arg = read_only(&m, &send, sizeof(send));
	ASSERT_TRUE(arg != NULL);
	p->reply = (uintptr_t)arg;
	actor_begin(&p->a, do_send_there);
	ASSERT_TRUE(actor_asleep(&p->a));
	receives(self->s.ch, &args);
	EXPECT_EQ(6ULL, args.payload_off);
	EXPECT_EQ(7ULL, args.reply_off);
	arg = read_only(&m, &args.entry_id, sizeof(args.entry_id));
	ASSERT_TRUE(arg != NULL);
	EXPECT_EQ(0, nt_ioctl(self->s.ch, NTSYNC_IOC_CHANNEL_REPLY, arg));
	ASSERT_EQ(0, actor_end(&p->a));
}

static const unsigned long channel_requests[] = {
	NTSYNC_IOC_CHANNEL_SEND_PI, NTSYNC_IOC_CHANNEL_RECV, NTSYNC_IOC_CHANNEL_REPLY,
	NTSYNC_IOC_CHANNEL_REGISTER_THREAD, NTSYNC_IOC_CHANNEL_DEREGISTER_THREAD,
	NTSYNC_IOC_CHANNEL_RECV2, NTSYNC_IOC_CHANNEL_TRY_RECV2, NTSYNC_IOC_CHANNEL_SEND_ONLY,
};

/* -ENOTTY is what programs probe for, so it comes before anything about the argument. */
TEST_F_TIMEOUT(channel, not_a_channel, NT_TEST_TIMEOUT)
{
	int fds[] = {
		self->s.dev,
		nt_create_sem(self->s.dev, 1, 1),
		nt_create_mutex(self->s.dev, 0, 0),
		nt_create_event(self->s.dev, false, true),
		nt_create_event(self->s.dev, true, true),
	};
	struct ntsync_channel_args create = { .max_depth = 1 };
	unsigned int i, k;
	char zero[64] = "";

	for (i = 0; i < ARRAY_LEN(fds); i++) {
		ASSERT_LE(0, fds[i]);
		for (k = 0; k < ARRAY_LEN(channel_requests); k++) {
			EXPECT_EQ(-ENOTTY, bounded(fds[i], channel_requests[k], NULL)) {
				TH_LOG("object %u, request %#lx", i, channel_requests[k]);
			}
			EXPECT_EQ(-ENOTTY, bounded(fds[i], channel_requests[k], zero)) {
				TH_LOG("object %u, request %#lx", i, channel_requests[k]);
			}
		}
		if (fds[i] == self->s.dev)
			continue;
		EXPECT_EQ(-ENOTTY, nt_ioctl(fds[i], NTSYNC_IOC_CREATE_CHANNEL, &create));
	}
	EXPECT_EQ(-ENOTTY, nt_ioctl(self->s.ch, NTSYNC_IOC_CREATE_CHANNEL, &create));
	check_sem(fds[1], 1, 1);
	check_mutex(fds[2], 0, 0);
	check_event(fds[3], 0, 1);
	check_event(fds[4], 1, 1);
}

#define EVENT_SET_PI	_IOC(_IOC_WRITE, 'N', 0x8e, 16)
#define AGGREGATE_WAIT	_IOC(_IOC_READ | _IOC_WRITE, 'N', 0x97, 40)

TEST_F_TIMEOUT(channel, requests_of_others, NT_TEST_TIMEOUT)
{
	static const unsigned long requests[] = {
		NTSYNC_IOC_CREATE_SEM, NTSYNC_IOC_CREATE_MUTEX, NTSYNC_IOC_CREATE_EVENT,
		NTSYNC_IOC_WAIT_ANY, NTSYNC_IOC_WAIT_ALL, NTSYNC_IOC_SEM_RELEASE,
		NTSYNC_IOC_SEM_READ, NTSYNC_IOC_MUTEX_UNLOCK, NTSYNC_IOC_MUTEX_KILL,
		NTSYNC_IOC_MUTEX_READ, NTSYNC_IOC_MUTEX_SET_TASK, NTSYNC_IOC_EVENT_SET,
		NTSYNC_IOC_EVENT_RESET, NTSYNC_IOC_EVENT_PULSE, NTSYNC_IOC_EVENT_READ,
		EVENT_SET_PI, AGGREGATE_WAIT, _IO('N', 0x7f), _IO('N', 0xff),
	};
	struct peer *p = self->s.peer;
	char buf[64];
	unsigned int i, k;

	starts(&self->s, p, 0);
	sends(p, 7);
	for (i = 0; i < ARRAY_LEN(requests); i++) {
		EXPECT_EQ(-ENOTTY, bounded(self->s.ch, requests[i], NULL)) {
			TH_LOG("request %#lx", requests[i]);
		}
		memset(buf, 0, sizeof(buf));
		EXPECT_EQ(-ENOTTY, bounded(self->s.ch, requests[i], buf)) {
			TH_LOG("request %#lx", requests[i]);
		}
		for (k = 0; k < sizeof(buf); k++)
			EXPECT_EQ(0, buf[k]);
	}
	serves(&self->s, p, 7);
}

/* In each position, and as the alert, the own ones and those of another device. */
static void check_waits(struct __test_metadata *_metadata, int dev, int bad)
{
	int sem = nt_create_sem(dev, 1, 1);
	int event = nt_create_event(dev, true, true);
	__u32 index;
	int all, pos;

	ASSERT_LE(0, sem);
	ASSERT_LE(0, event);
	for (all = 0; all < 2; all++) {
		for (pos = 0; pos < 3; pos++) {
			int objs[3] = { sem, sem, sem };

			objs[(pos + 1) % 3] = event;
			objs[(pos + 2) % 3] = sem;
			objs[pos] = bad;
			EXPECT_EQ(-EINVAL, __nt_try(all, dev, 3, objs, 1, 0, &index));
			EXPECT_EQ(NT_POISON, index);
		}
		EXPECT_EQ(-EINVAL, __nt_try(all, dev, 1, &bad, 1, 0, &index));
		EXPECT_EQ(NT_POISON, index);
		EXPECT_EQ(-EINVAL, __nt_try(all, dev, 1, &sem, 1, bad, &index));
		EXPECT_EQ(NT_POISON, index);
	}
	check_sem(sem, 1, 1);
	close(sem);
	close(event);
}

TEST_F_TIMEOUT(channel, not_in_waits, NT_TEST_TIMEOUT)
{
	int other_dev = open("/dev/ntsync", O_CLOEXEC | O_RDONLY);
	struct peer *p = self->s.peer;
	int other;

	ASSERT_LE(0, other_dev);
	other = ch_create(other_dev, 1);
	ASSERT_LE(0, other);
	starts(&self->s, p, 0);

	check_waits(_metadata, self->s.dev, self->s.ch);
	check_waits(_metadata, self->s.dev, other);
	sends(p, 3);
	check_waits(_metadata, self->s.dev, self->s.ch);
	check_waits(_metadata, other_dev, self->s.ch);
	serves(&self->s, p, 3);
}

/* What is refused is not queued: there is room for one. */
TEST_F_TIMEOUT(channel, send_policy_illegal, NT_TEST_TIMEOUT)
{
	static const struct { __u32 policy, prio; } illegal[] = {
		{ 0, 1 }, { 0, 50 }, { 0, 0xffffffff }, { SCHED_FIFO, 0 }, { SCHED_FIFO, 100 },
		{ SCHED_FIFO, 0x80000001 }, { SCHED_FIFO, 0xffffffff }, { SCHED_RR, 0 },
		{ SCHED_RR, 100 }, { SCHED_RR, 0x80000001 }, { SCHED_RR, 0xffffffff },
		{ SCHED_BATCH, 0 }, { SCHED_BATCH, 50 }, { 4, 0 }, { 4, 50 }, { SCHED_IDLE, 0 },
		{ SCHED_IDLE, 50 }, { SCHED_DEADLINE, 0 }, { SCHED_DEADLINE, 50 }, { 7, 0 },
		{ 7, 50 }, { 0x40000000 | SCHED_FIFO, 50 }, { 0x40000000 | SCHED_RR, 50 },
		{ 0x40000000, 0 }, { 0x80000000 | SCHED_FIFO, 50 }, { 0xffffffff, 0 },
		{ 0xffffffff, 50 }, { 0x100 | SCHED_FIFO, 50 },
	};
	int ch = ch_create(self->s.dev, 1);
	struct ntsync_channel_recv2_args args;
	struct peer *p = self->s.peer;
	unsigned int i, full;

	ASSERT_LE(0, ch);
	starts(&self->s, p, 0);
	p->a.objs[0] = ch;
	/* A queue that is full is no reason not to look at the argument. */
	for (full = 0; full < 2; full++) {
		if (full)
			sends(p, 9);
		for (i = 0; i < ARRAY_LEN(illegal); i++) {
			EXPECT_EQ(-EINVAL, send_now(ch, illegal[i].policy, illegal[i].prio)) {
				TH_LOG("policy %#x, prio %#x", illegal[i].policy, illegal[i].prio);
			}
		}
	}
	receives(ch, &args);
	EXPECT_EQ(9ULL, args.payload_off);
	answers(p, ch, args.entry_id);
}

/* Root has the right to all of them, so nothing is lowered. */
TEST_F_TIMEOUT(channel, send_policy_legal, NT_TEST_TIMEOUT)
{
	static const struct { __u32 policy, prio; } legal[] = {
		{ 0, 0 }, { SCHED_FIFO, 1 }, { SCHED_FIFO, 50 }, { SCHED_FIFO, 99 },
		{ SCHED_RR, 1 }, { SCHED_RR, 50 }, { SCHED_RR, 99 },
	};
	struct ntsync_channel_recv2_args args;
	struct peer *p = self->s.peer;
	unsigned int i;

	if (geteuid())
		SKIP(return, "not root");
	starts(&self->s, p, 0);
	for (i = 0; i < ARRAY_LEN(legal); i++) {
		sends_pi(p, legal[i].policy, legal[i].prio, i, 0);
		receives(self->s.ch, &args);
		EXPECT_EQ((__u64)i, args.payload_off);
		EXPECT_EQ(legal[i].prio, args.prio);
		answers(p, self->s.ch, args.entry_id);
	}
}

/*
 * What is transported.
 */

TEST_F_TIMEOUT(channel, round_trip, NT_TEST_TIMEOUT)
{
	struct peer *sender = &self->s.peer[0], *receiver = &self->s.peer[1];

	starts(&self->s, sender, 0);
	starts(&self->s, receiver, 0);
	/* with a receiver that waits */
	actor_begin(&receiver->a, do_recv_plain);
	ASSERT_TRUE(actor_asleep(&receiver->a));
	sender->send = (struct ntsync_channel_send_args) { .payload_off = 1, .reply_off = 2 };
	actor_begin(&sender->a, do_send);
	ASSERT_EQ(0, actor_end(&receiver->a));
	EXPECT_EQ(1ULL, receiver->req.payload_off);
	EXPECT_EQ(2ULL, receiver->req.reply_off);
	EXPECT_EQ((__u32)tid_of(sender), receiver->req.sender_tid);
	EXPECT_EQ(0U, receiver->req.prio);
	ASSERT_TRUE(actor_asleep(&sender->a));
	receiver->reply = receiver->req.entry_id;
	EXPECT_EQ(0, actor_do(&receiver->a, do_reply));
	ASSERT_EQ(0, actor_end(&sender->a));

	/* with one that comes later */
	sends_pi(sender, 0, 0, 3, 4);
	ASSERT_EQ(0, actor_do(&receiver->a, do_recv_plain));
	EXPECT_EQ(3ULL, receiver->req.payload_off);
	EXPECT_EQ(4ULL, receiver->req.reply_off);
	ASSERT_TRUE(actor_asleep(&sender->a));
	receiver->reply = receiver->req.entry_id;
	EXPECT_EQ(0, actor_do(&receiver->a, do_reply));
	ASSERT_EQ(0, actor_end(&sender->a));
}

static const __u64 offsets[] = {
	0, 1, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000, 0x0123456789abcdef,
	0x7fffffffffffffff, 0x8000000000000000, 0xfedcba9876543210, 0xffffffffffffffff,
};

/* Everything of the request arrives, nothing but the struct is written. */
static void check_fields(struct __test_metadata *_metadata, struct set *s,
			 unsigned long request)
{
	size_t size = _IOC_SIZE(request), page = sysconf(_SC_PAGESIZE), k;
	struct ntsync_channel_recv_args args;
	struct peer *p = s->peer;
	unsigned int i, poison;
	struct pages m;
	char *buf;
	__u64 token;

	ASSERT_TRUE(map_pages(&m));
	starts(s, p, 0);
	for (i = 0; i < ARRAY_LEN(offsets); i++) {
		__u64 payload = offsets[i], reply = offsets[ARRAY_LEN(offsets) - 1 - i];

		poison = i % 2 ? 0xcc : 0;
		memset(m.rw, poison, page);
		/* to write behind it is a fault */
		buf = m.ro - size;
		sends_pi(p, SCHED_FIFO, 1 + i, payload, reply);
		ASSERT_EQ(0, bounded(s->ch, request, buf));
		memcpy(&args, buf, sizeof(args));
		EXPECT_EQ(payload, args.payload_off);
		EXPECT_EQ(reply, args.reply_off);
		EXPECT_EQ((__u32)tid_of(p), args.sender_tid);
		EXPECT_EQ(1 + i, args.prio);
		if (size > sizeof(args)) {
			memcpy(&token, buf + sizeof(args), sizeof(token));
			EXPECT_EQ(0ULL, token);
		}
		for (k = 0; k < page - size && (unsigned char)m.rw[k] == poison; k++)
			;
		EXPECT_EQ(page - size, k);
		answers(p, s->ch, args.entry_id);
	}
}

TEST_F_TIMEOUT(channel, fields, NT_TEST_TIMEOUT)
{
	check_fields(_metadata, &self->s, NTSYNC_IOC_CHANNEL_RECV);
}

TEST_F_TIMEOUT(channel_token, fields, NT_TEST_TIMEOUT)
{
	check_fields(_metadata, &self->s, NTSYNC_IOC_CHANNEL_RECV2);
}

TEST_F_TIMEOUT(channel_try, fields, NT_TEST_TIMEOUT)
{
	check_fields(_metadata, &self->s, NTSYNC_IOC_CHANNEL_TRY_RECV2);
}

static int compare_ids(const void *a, const void *b)
{
	__u64 x = *(const __u64 *)a, y = *(const __u64 *)b;

	return (x > y) - (x < y);
}

#define NB_IDS	240

/* Also after requests that were refused, given back, withdrawn or answered in another order. */
static void check_ids(struct __test_metadata *_metadata, struct set *s,
		      unsigned long request, bool withdraw)
{
	struct ntsync_channel_recv2_args args;
	unsigned int i, k, n = 0;
	struct peer *p = s->peer;
	__u64 ids[NB_IDS];

	for (i = 0; i < 4; i++)
		starts(s, &p[i], 0);
	while (n < NB_IDS) {
		if (n % 16 == 0) {
			EXPECT_EQ(-EINVAL, send_now(s->ch, SCHED_FIFO, 0));
			if (withdraw) {
				sends(&p[0], 0);
				pthread_kill(p[0].a.thread, SIGUSR1);
				EXPECT_EQ(-EINTR, actor_end(&p[0].a));
			}
		}
		for (i = 0; i < 4; i++)
			sends(&p[i], i);
		if (n % 16 == 4) {
			EXPECT_EQ(-EFAULT, bounded(s->ch, request, NULL));
		}
		for (i = 0; i < 4; i++) {
			ASSERT_EQ(0, take(s->ch, request, &args));
			ASSERT_EQ((__u64)i, args.payload_off);
			ids[n + i] = args.entry_id;
		}
		for (i = 0; i < 4; i++) {
			k = (n / 4) % 2 ? 3 - i : i;
			answers(&p[k], s->ch, ids[n + k]);
		}
		n += 4;
	}
	qsort(ids, n, sizeof(*ids), compare_ids);
	for (i = 1; i < n; i++)
		EXPECT_NE(ids[i - 1], ids[i]);
	for (i = 0; i < n; i++)
		EXPECT_EQ(-ENOENT, ch_reply(s->ch, ids[i]));
}

/* What signals do to a sender is of a later patch. */
TEST_F_TIMEOUT(channel, ids_are_not_reused, NT_TEST_TIMEOUT)
{
	check_ids(_metadata, &self->s, NTSYNC_IOC_CHANNEL_RECV, false);
}

TEST_F_TIMEOUT(channel_try, ids_are_not_reused, NT_TEST_TIMEOUT)
{
	check_ids(_metadata, &self->s, NTSYNC_IOC_CHANNEL_TRY_RECV2, true);
}

/* Requests go to the channel that they were sent to, also if ids are the same. */
TEST_F_TIMEOUT(channel, two_channels, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_recv2_args first, second;
	int other = ch_create(self->s.dev, 1);
	struct peer *p = self->s.peer;

	ASSERT_LE(0, other);
	starts(&self->s, &p[0], 0);
	starts(&self->s, &p[1], 50);
	p[1].a.objs[0] = other;
	sends(&p[0], 1);
	sends(&p[1], 2);
	EXPECT_EQ(-EAGAIN, send_now(other, 0, 0));
	receives(self->s.ch, &first);
	EXPECT_EQ(1ULL, first.payload_off);
	EXPECT_EQ(0U, first.prio);
	/* nothing is dispatched there */
	EXPECT_EQ(-ENOENT, ch_reply(other, first.entry_id));
	receives(other, &second);
	EXPECT_EQ(2ULL, second.payload_off);
	EXPECT_EQ(50U, second.prio);
	if (first.entry_id != second.entry_id) {
		EXPECT_EQ(-ENOENT, ch_reply(other, first.entry_id));
		EXPECT_EQ(-ENOENT, ch_reply(self->s.ch, second.entry_id));
	}
	EXPECT_TRUE(actor_asleep(&p[0].a));
	answers(&p[1], other, second.entry_id);
	EXPECT_TRUE(actor_asleep(&p[0].a));
	answers(&p[0], self->s.ch, first.entry_id);
}

TEST_F_TIMEOUT(channel, reply_unknown, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_recv2_args args;
	struct peer *p = self->s.peer;
	int ch = self->s.ch;
	unsigned int bit;
	__u64 id;

	starts(&self->s, p, 0);
	for (id = 0; id < 4; id++)
		EXPECT_EQ(-ENOENT, ch_reply(ch, id));
	EXPECT_EQ(-ENOENT, ch_reply(ch, ~0ULL));

	sends(p, 1);
	receives(ch, &args);
	id = args.entry_id;
	for (bit = 0; bit < 64; bit++)
		EXPECT_EQ(-ENOENT, ch_reply(ch, id ^ (1ULL << bit)));
	EXPECT_EQ(-ENOENT, ch_reply(ch, id + 1));
	EXPECT_EQ(-ENOENT, ch_reply(ch, id - 1));
	EXPECT_EQ(-ENOENT, ch_reply(ch, ~id));
	if (id) {
		EXPECT_EQ(-ENOENT, ch_reply(ch, 0));
	}
	EXPECT_TRUE(actor_asleep(&p->a));
	answers(p, ch, id);
	EXPECT_EQ(-ENOENT, ch_reply(ch, id));
	EXPECT_EQ(-ENOENT, ch_reply(ch, id));

	/* nor is it good for the next request of the same thread */
	sends(p, 2);
	EXPECT_EQ(-ENOENT, ch_reply(ch, id));
	receives(ch, &args);
	EXPECT_NE(id, args.entry_id);
	EXPECT_EQ(-ENOENT, ch_reply(ch, id));
	EXPECT_TRUE(actor_asleep(&p->a));
	answers(p, ch, args.entry_id);
}

/* A pending request is not dispatched; of one that was given back the id may be known. */
TEST_F_TIMEOUT(channel, reply_pending, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_recv2_args args;
	struct peer *p = self->s.peer;
	int ch = self->s.ch, i;
	struct pages m;
	__u64 last, id;

	ASSERT_TRUE(map_pages(&m));
	starts(&self->s, &p[0], 0);
	starts(&self->s, &p[1], 0);
	sends(&p[0], 0);
	receives(ch, &args);
	last = args.entry_id;
	answers(&p[0], ch, last);

	sends(&p[0], 1);
	sends(&p[1], 2);
	EXPECT_EQ(-EFAULT, bounded(ch, NTSYNC_IOC_CHANNEL_RECV, m.ro - sizeof(id)));
	memcpy(&id, m.ro - sizeof(id), sizeof(id));
	EXPECT_EQ(-ENOENT, ch_reply(ch, id));
	for (i = -8; i <= 8; i++)
		EXPECT_EQ(-ENOENT, ch_reply(ch, last + i));
	EXPECT_TRUE(actor_asleep(&p[0].a));
	EXPECT_TRUE(actor_asleep(&p[1].a));
	serves(&self->s, &p[0], 1);
	serves(&self->s, &p[1], 2);
}

/* By another thread, by another process, by one of another user. */
TEST_F_TIMEOUT(channel, reply_by_anyone, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_recv2_args args;
	struct peer *sender = &self->s.peer[0], *other = &self->s.peer[1];
	struct job *job;
	int drop;

	starts(&self->s, sender, 0);
	starts(&self->s, other, 30);
	sends(sender, 1);
	receives(self->s.ch, &args);
	other->reply = args.entry_id;
	EXPECT_EQ(0, actor_do(&other->a, do_reply));
	ASSERT_EQ(0, actor_end(&sender->a));
	EXPECT_EQ(-ENOENT, ch_reply(self->s.ch, args.entry_id));

	for (drop = 0; drop < 2; drop++) {
		job = new_job(&self->s);
		ASSERT_TRUE(job != NULL);
		sends(sender, 2);
		receives(self->s.ch, &args);
		job->id = args.entry_id;
		job->drop = drop && !geteuid();
		EXPECT_EQ(0, job_do(job, job_reply, false));
		ASSERT_EQ(0, actor_end(&sender->a));
		EXPECT_EQ(-ENOENT, ch_reply(self->s.ch, args.entry_id));
	}
}

/*
 * How many requests, and in which order.
 */

#define MAX_FULL	40

/* Only what nobody has taken yet counts. */
TEST_F_TIMEOUT(channel, full, NT_TEST_TIMEOUT)
{
	static const unsigned int depths[] = { 1, 3, MAX_FULL };
	struct ntsync_channel_recv2_args args, hand[2];
	struct peer *p = calloc(MAX_FULL + 2, sizeof(*p));
	unsigned int i, n, d, nb_hand;
	int ch;

	ASSERT_TRUE(p != NULL);
	for (i = 0; i < MAX_FULL + 2; i++)
		starts(&self->s, &p[i], 0);
	for (n = 0; n < ARRAY_LEN(depths); n++) {
		d = depths[n];
		nb_hand = d < 2 ? d : 2;
		ch = ch_create(self->s.dev, d);
		ASSERT_LE(0, ch);
		for (i = 0; i < d + nb_hand; i++)
			p[i].a.objs[0] = ch;

		for (i = 0; i < d; i++)
			sends(&p[i], i);
		EXPECT_EQ(-EAGAIN, send_now(ch, 0, 0));
		/* the more urgent one does not push another one out */
		EXPECT_EQ(-EAGAIN, send_now(ch, SCHED_FIFO, 90));

		for (i = 0; i < nb_hand; i++) {
			receives(ch, &hand[i]);
			ASSERT_EQ((__u64)i, hand[i].payload_off);
			sends(&p[d + i], d + i);
			EXPECT_EQ(-EAGAIN, send_now(ch, 0, 0));
		}
		for (i = 0; i < nb_hand; i++) {
			answers(&p[i], ch, hand[i].entry_id);
			EXPECT_EQ(-EAGAIN, send_now(ch, 0, 0));
		}
		for (i = nb_hand; i < d + nb_hand; i++) {
			receives(ch, &args);
			ASSERT_EQ((__u64)i, args.payload_off);
			answers(&p[i], ch, args.entry_id);
		}
		sends(&p[0], 99);
		receives(ch, &args);
		EXPECT_EQ(99ULL, args.payload_off);
		answers(&p[0], ch, args.entry_id);
		close(ch);
	}
}

/*
 * Receive n requests, whose payload says in which order they came, and compare with
 * the order of (priority, arrival). All are in hand before the first is answered.
 */
static void drain_in_order(struct __test_metadata *_metadata, struct set *s,
			   unsigned long request, const unsigned int *prio, unsigned int n)
{
	struct ntsync_channel_recv2_args args[NB_PEERS];
	bool taken[NB_PEERS] = { false };
	unsigned int i, k, best;

	ASSERT_GE((unsigned int)NB_PEERS, n);
	for (k = 0; k < n; k++) {
		best = n;
		for (i = 0; i < n; i++)
			if (!taken[i] && (best == n || prio[i] > prio[best]))
				best = i;
		taken[best] = true;
		ASSERT_EQ(0, take(s->ch, request, &args[k]));
		ASSERT_EQ((__u64)best, args[k].payload_off) {
			for (i = 0; i < n; i++)
				TH_LOG("arrival %u, priority %u", i, prio[i]);
		}
		EXPECT_EQ(prio[best], args[k].prio);
	}
	for (k = 0; k < n; k++)
		answers(&s->peer[args[k].payload_off], s->ch, args[k].entry_id);
}

/* Random priorities, own and explicit ones, which change while the senders wait. */
static void check_order(struct __test_metadata *_metadata, struct set *s,
			unsigned long request)
{
	static const int policies[] = { SCHED_OTHER, SCHED_FIFO, SCHED_RR };
	unsigned int own[8], given[8], prio[8];
	unsigned int seed = 1, round, i, n, policy;

	for (i = 0; i < 8; i++)
		starts(s, &s->peer[i], 0);
	for (round = 0; round < nt_scaled_down(20); round++) {
		for (i = 0; i < 8; i++) {
			policy = rnd(&seed) % 3;
			own[i] = policy ? 10 + 10 * (rnd(&seed) % 3) : 0;
			ASSERT_EQ(0, set_sched(tid_of(&s->peer[i]), policies[policy], own[i]));
			policy = rnd(&seed) % 2 ? rnd(&seed) % 3 : 0;
			given[i] = policy ? 10 + 10 * (rnd(&seed) % 3) : 0;
			sends_pi(&s->peer[i], policies[policy], given[i], i, 0);
		}
		for (n = rnd(&seed) % 12; n; n--) {
			i = rnd(&seed) % 8;
			policy = rnd(&seed) % 3;
			own[i] = policy ? 10 + 10 * (rnd(&seed) % 3) : 0;
			ASSERT_EQ(0, set_sched(tid_of(&s->peer[i]), policies[policy], own[i]));
		}
		for (i = 0; i < 8; i++)
			prio[i] = own[i] > given[i] ? own[i] : given[i];
		drain_in_order(_metadata, s, request, prio, 8);
	}
}

TEST_F_TIMEOUT(channel, order_random, NT_TEST_TIMEOUT)
{
	check_order(_metadata, &self->s, NTSYNC_IOC_CHANNEL_RECV);
}

TEST_F_TIMEOUT(channel_token, order_random, NT_TEST_TIMEOUT)
{
	check_order(_metadata, &self->s, NTSYNC_IOC_CHANNEL_RECV2);
}

TEST_F_TIMEOUT(channel_try, order_random, NT_TEST_TIMEOUT)
{
	check_order(_metadata, &self->s, NTSYNC_IOC_CHANNEL_TRY_RECV2);
}

/* One thing that is done while all wait. */
struct order_case {
	unsigned int own[5];
	int who;
	int policy;
	unsigned int prio;
};

TEST_F_TIMEOUT(channel, order_of_changed, NT_TEST_TIMEOUT)
{
	static const struct order_case cases[] = {
		/* raised above all */
		{ { 0, 20, 20, 30, 0 }, 4, SCHED_FIFO, 40 },
		/* the first is raised to others */
		{ { 10, 20, 20, 30, 0 }, 0, SCHED_FIFO, 20 },
		/* one between is raised to others */
		{ { 20, 10, 20, 20, 0 }, 1, SCHED_RR, 20 },
		/* the last is raised to others */
		{ { 20, 20, 20, 30, 10 }, 4, SCHED_FIFO, 20 },
		/* the first is lowered to others */
		{ { 30, 20, 20, 10, 20 }, 0, SCHED_FIFO, 20 },
		/* the last is lowered to others */
		{ { 20, 20, 10, 20, 30 }, 4, SCHED_RR, 20 },
		/* lowered below all */
		{ { 30, 20, 20, 10, 20 }, 0, SCHED_FIFO, 5 },
		/* back to normal */
		{ { 30, 0, 20, 0, 20 }, 0, SCHED_OTHER, 0 },
		/* back to normal, as the last */
		{ { 0, 0, 20, 0, 30 }, 4, SCHED_BATCH, 0 },
		/* from FIFO to RR */
		{ { 20, 20, 20, 20, 20 }, 1, SCHED_RR, 20 },
	};
	struct peer *p = self->s.peer;
	unsigned int n, i, prio[5];

	for (i = 0; i < 5; i++)
		starts(&self->s, &p[i], 0);
	for (n = 0; n < ARRAY_LEN(cases); n++) {
		const struct order_case *c = &cases[n];

		for (i = 0; i < 5; i++) {
			prio[i] = c->own[i];
			ASSERT_EQ(0, set_sched(tid_of(&p[i]), prio[i] ? SCHED_FIFO : SCHED_OTHER,
					       prio[i]));
			sends(&p[i], i);
		}
		ASSERT_EQ(0, set_sched(tid_of(&p[c->who]), c->policy, c->prio));
		prio[c->who] = c->prio;
		drain_in_order(_metadata, &self->s, NTSYNC_IOC_CHANNEL_RECV, prio, 5);
	}
}

/* Whoever has been elsewhere stands where it was: its arrival is still the same. */
TEST_F_TIMEOUT(channel, order_after_detour, NT_TEST_TIMEOUT)
{
	static const unsigned int prio[4] = { 20, 20, 20, 20 };
	static const unsigned int detour[] = { 10, 30, 0, 20, 50 };
	struct peer *p = self->s.peer;
	unsigned int i, n;

	for (i = 0; i < 4; i++)
		starts(&self->s, &p[i], 20);
	for (i = 0; i < 4; i++)
		sends(&p[i], i);
	for (n = 0; n < ARRAY_LEN(detour); n++) {
		for (i = 0; i < 4; i++) {
			ASSERT_EQ(0, set_sched(tid_of(&p[i]), detour[n] ? SCHED_RR : SCHED_OTHER,
					       detour[n]));
			ASSERT_EQ(0, set_sched(tid_of(&p[i]), SCHED_FIFO, 20));
		}
	}
	drain_in_order(_metadata, &self->s, NTSYNC_IOC_CHANNEL_RECV, prio, 4);
}

/* FIFO and RR, own and explicit ones: all of them are alike. */
TEST_F_TIMEOUT(channel, order_of_equals, NT_TEST_TIMEOUT)
{
	static const unsigned int prio[8] = { 20, 20, 20, 20, 20, 20, 20, 20 };
	struct peer *p = self->s.peer;
	unsigned int i;

	for (i = 0; i < 8; i++) {
		starts(&self->s, &p[i], 0);
		if (i & 2) {
			sends_pi(&p[i], i & 1 ? SCHED_RR : SCHED_FIFO, 20, i, 0);
		} else {
			ASSERT_EQ(0, set_sched(tid_of(&p[i]), i & 1 ? SCHED_RR : SCHED_FIFO, 20));
			sends(&p[i], i);
		}
	}
	drain_in_order(_metadata, &self->s, NTSYNC_IOC_CHANNEL_RECV, prio, 8);
}

/* Nice values and the ordinary policies do not order. */
TEST_F_TIMEOUT(channel, order_of_normal, NT_TEST_TIMEOUT)
{
	static const struct nt_sched sched[6] = {
		NT_IDLE, NT_NICE(19), NT_NICE(0), NT_BATCH(-5), NT_NICE(-20), NT_NICE(5),
	};
	static const unsigned int prio[6];
	struct peer *p = self->s.peer;
	unsigned int i;

	for (i = 0; i < 6; i++) {
		struct nt_sched_attr attr = {
			.size = sizeof(attr), .policy = sched[i].policy, .nice = sched[i].nice,
		};

		starts(&self->s, &p[i], 0);
		ASSERT_EQ(0, syscall(SYS_sched_setattr, tid_of(&p[i]), &attr, 0));
		sends(&p[i], i);
	}
	ASSERT_EQ(0, setpriority(PRIO_PROCESS, tid_of(&p[5]), -20));
	drain_in_order(_metadata, &self->s, NTSYNC_IOC_CHANNEL_RECV, prio, 6);
}

/*
 * A deadline is before any priority. What the field prio is then is left open, so it
 * is not looked at. The receiver inherits, so it must be allowed on all CPUs.
 */
TEST_F_TIMEOUT(channel, order_deadline, NT_TEST_TIMEOUT)
{
	struct peer *p = self->s.peer, *receiver = &self->s.peer[4];
	static const int order[4] = { 2, 1, 0, 3 };
	int late, i;

	for (i = 0; i < 4; i++)
		starts(&self->s, &p[i], 0);
	starts(&self->s, receiver, 0);
	ASSERT_EQ(0, unpin(&p[2]));
	ASSERT_EQ(0, unpin(receiver));
	ASSERT_EQ(0, set_sched(tid_of(&p[0]), SCHED_FIFO, 10));
	for (late = 0; late < 2; late++) {
		sends(&p[0], 0);
		sends_pi(&p[1], SCHED_FIFO, 99, 1, 0);
		if (late) {
			sends(&p[2], 2);
			sends(&p[3], 3);
			ASSERT_EQ(0, set_deadline(tid_of(&p[2])));
		} else {
			ASSERT_EQ(0, set_deadline(tid_of(&p[2])));
			sends(&p[2], 2);
			sends(&p[3], 3);
		}
		for (i = 0; i < 4; i++) {
			ASSERT_EQ(0, actor_do(&receiver->a, do_recv_plain));
			ASSERT_EQ((__u64)order[i], receiver->req.payload_off);
			receiver->reply = receiver->req.entry_id;
			ASSERT_EQ(0, actor_do(&receiver->a, do_reply));
			ASSERT_EQ(0, actor_end(&p[order[i]].a));
		}
		ASSERT_EQ(0, actor_do(&p[2].a, do_normal));
	}
}

/* A crowd of senders and receivers, on all CPUs. */
#define NB_SENDERS	8
#define NB_RECEIVERS	4
#define MAX_ROUNDS	200
#define STOP		(~0ULL)

static struct {
	struct peer *sender;
	unsigned int rounds;
	bool drain;		/* take what else there is before answering */
	atomic_uint seen[NB_SENDERS][MAX_ROUNDS];
	atomic_uint wrong;
} crowd;

static int do_send_many(struct actor *a)
{
	struct ntsync_channel_send_args args = actor_peer(a)->send;
	unsigned int k = actor_peer(a) - crowd.sender, i;
	int ret;

	for (i = 0; i < crowd.rounds; i++) {
		args.payload_off = (__u64)k << 32 | i;
		args.reply_off = args.payload_off * 0x9e3779b97f4a7c15ULL;
		ret = nt_ioctl(a->objs[0], NTSYNC_IOC_CHANNEL_SEND_PI, &args);
		if (ret)
			return ret;
		/* an answer to something else would come too early */
		if (atomic_load(&crowd.seen[k][i]) != 1)
			atomic_fetch_add(&crowd.wrong, 1);
	}
	return 0;
}

/* Is it right? Where it is from is noted. */
static bool note_request(const struct ntsync_channel_recv2_args *args)
{
	__u64 k = args->payload_off >> 32, i = args->payload_off & 0xffffffff;

	if (k >= NB_SENDERS || i >= crowd.rounds ||
	    args->reply_off != args->payload_off * 0x9e3779b97f4a7c15ULL ||
	    args->sender_tid != (__u32)tid_of(&crowd.sender[k]))
		return false;
	return !atomic_fetch_add(&crowd.seen[k][i], 1);
}

static int do_recv_many(struct actor *a)
{
	struct ntsync_channel_recv2_args args[DEPTH];
	bool stop = false;
	unsigned int n;
	int ret = 0;

	while (!ret && !stop) {
		memset(args, 0xcc, sizeof(args));
		ret = nt_ioctl(a->objs[0], NTSYNC_IOC_CHANNEL_RECV, &args[0]);
		for (n = 1; !ret && crowd.drain && n < DEPTH; n++) {
			ret = nt_ioctl(a->objs[0], NTSYNC_IOC_CHANNEL_TRY_RECV2, &args[n]);
			if (ret)
				break;
		}
		/* -EAGAIN is of TRY_RECV2: RECV has no such error */
		if (ret && (ret != -EAGAIN || !crowd.drain))
			return ret;
		ret = 0;
		while (n-- && !ret) {
			if (args[n].payload_off == STOP)
				stop = true;
			else if (!note_request(&args[n]))
				atomic_fetch_add(&crowd.wrong, 1);
			ret = ch_reply(a->objs[0], args[n].entry_id);
		}
	}
	return ret;
}

static void check_crowd(struct __test_metadata *_metadata, struct set *s, bool drain)
{
	struct peer *receiver = s->peer + NB_SENDERS;
	struct ntsync_channel_send_args stop = { .payload_off = STOP };
	unsigned int i, k;

	static_assert(NB_SENDERS + NB_RECEIVERS <= NB_PEERS, "peers");
	crowd.sender = s->peer;
	crowd.rounds = nt_scaled_down(MAX_ROUNDS);
	crowd.drain = drain;
	for (i = 0; i < NB_SENDERS; i++) {
		starts(s, &s->peer[i], i & 1 ? 10 + i : 0);
		ASSERT_EQ(0, unpin(&s->peer[i]));
		if (i & 2)
			s->peer[i].send = (struct ntsync_channel_send_args) {
				.policy = SCHED_RR, .prio = 12,
			};
	}
	for (i = 0; i < NB_RECEIVERS; i++) {
		starts(s, &receiver[i], i & 1 ? 14 : 0);
		ASSERT_EQ(0, unpin(&receiver[i]));
		actor_begin(&receiver[i].a, do_recv_many);
	}
	for (i = 0; i < NB_SENDERS; i++)
		actor_begin(&s->peer[i].a, do_send_many);
	for (i = 0; i < NB_SENDERS; i++) {
		ASSERT_EQ(0, actor_end(&s->peer[i].a));
	}
	for (i = 0; i < NB_RECEIVERS; i++) {
		ASSERT_EQ(0, bounded(s->ch, NTSYNC_IOC_CHANNEL_SEND_PI, &stop));
	}
	for (i = 0; i < NB_RECEIVERS; i++) {
		ASSERT_EQ(0, actor_end(&receiver[i].a));
	}
	for (k = 0; k < NB_SENDERS; k++) {
		for (i = 0; i < crowd.rounds; i++)
			EXPECT_EQ(1U, atomic_load(&crowd.seen[k][i]));
	}
	EXPECT_EQ(0U, atomic_load(&crowd.wrong));
}

TEST_F_TIMEOUT(channel, crowd, NT_TEST_TIMEOUT)
{
	check_crowd(_metadata, &self->s, false);
}

TEST_F_TIMEOUT(channel_try, crowd_drained, NT_TEST_TIMEOUT)
{
	check_crowd(_metadata, &self->s, true);
}

/* Many in hand of one thread; each answer goes to whom it is for. */
static void check_burst(struct __test_metadata *_metadata, struct set *s,
			unsigned long request)
{
	static const unsigned int order[8] = { 3, 0, 7, 5, 1, 6, 2, 4 };
	struct ntsync_channel_recv2_args args[8];
	unsigned int i, k;

	for (i = 0; i < 8; i++)
		starts(s, &s->peer[i], 0);
	for (i = 0; i < 8; i++)
		sends(&s->peer[i], i);
	for (i = 0; i < 8; i++) {
		ASSERT_EQ(0, take(s->ch, request, &args[i]));
		EXPECT_EQ((__u64)i, args[i].payload_off);
		EXPECT_EQ((__u32)tid_of(&s->peer[i]), args[i].sender_tid);
		for (k = 0; k < i; k++)
			EXPECT_NE(args[k].entry_id, args[i].entry_id);
	}
	if (request == NTSYNC_IOC_CHANNEL_TRY_RECV2) {
		struct ntsync_channel_recv2_args none;

		EXPECT_EQ(-EAGAIN, take(s->ch, request, &none));
	}
	for (i = 0; i < 8; i++) {
		answers(&s->peer[order[i]], s->ch, args[order[i]].entry_id);
		for (k = i + 1; k < 8; k++)
			EXPECT_TRUE(actor_asleep(&s->peer[order[k]].a));
	}
}

TEST_F_TIMEOUT(channel, burst, NT_TEST_TIMEOUT)
{
	check_burst(_metadata, &self->s, NTSYNC_IOC_CHANNEL_RECV);
}

TEST_F_TIMEOUT(channel_try, burst, NT_TEST_TIMEOUT)
{
	check_burst(_metadata, &self->s, NTSYNC_IOC_CHANNEL_TRY_RECV2);
}

/*
 * A result that cannot be stored.
 */

static void check_fault(struct __test_metadata *_metadata, struct set *s,
			unsigned long request)
{
	static const unsigned int prio[4] = { 20, 20, 20, 10 };
	struct ntsync_channel_recv2_args args;
	int ch = ch_create(s->dev, 4);
	void *bad[NB_BAD];
	unsigned int i, k;
	struct pages m;

	ASSERT_LE(0, ch);
	ASSERT_TRUE(map_pages(&m));
	bad_results(&m, _IOC_SIZE(request), bad);
	for (i = 0; i < 4; i++) {
		starts(s, &s->peer[i], 0);
		s->peer[i].a.objs[0] = ch;
		sends_pi(&s->peer[i], SCHED_FIFO, prio[i], i, 0);
	}
	for (i = 0; i < 4; i++) {
		for (k = 0; k < NB_BAD; k++) {
			EXPECT_EQ(-EFAULT, bounded(ch, request, bad[k])) {
				TH_LOG("pointer %u", k);
			}
			/* it counts as pending again */
			if (!i) {
				EXPECT_EQ(-EAGAIN, send_now(ch, 0, 0));
			}
		}
		ASSERT_EQ(0, take(ch, request, &args));
		ASSERT_EQ((__u64)i, args.payload_off);
		EXPECT_EQ(prio[i], args.prio);
		EXPECT_EQ((__u32)tid_of(&s->peer[i]), args.sender_tid);
		EXPECT_TRUE(actor_asleep(&s->peer[i].a));
		answers(&s->peer[i], ch, args.entry_id);
	}
	/* one that was given back follows its sender as before */
	sends(&s->peer[0], 0);
	sends_pi(&s->peer[1], SCHED_RR, 30, 1, 0);
	EXPECT_EQ(-EFAULT, bounded(ch, request, bad[0]));
	ASSERT_EQ(0, set_sched(tid_of(&s->peer[0]), SCHED_FIFO, 40));
	EXPECT_EQ(-EFAULT, bounded(ch, request, bad[0]));
	for (i = 0; i < 2; i++) {
		ASSERT_EQ(0, take(ch, request, &args));
		ASSERT_EQ((__u64)i, args.payload_off);
		EXPECT_EQ(i ? 30U : 40U, args.prio);
		answers(&s->peer[i], ch, args.entry_id);
	}
}

TEST_F_TIMEOUT(channel, recv_fault, NT_TEST_TIMEOUT)
{
	check_fault(_metadata, &self->s, NTSYNC_IOC_CHANNEL_RECV);
}

TEST_F_TIMEOUT(channel_token, recv_fault, NT_TEST_TIMEOUT)
{
	check_fault(_metadata, &self->s, NTSYNC_IOC_CHANNEL_RECV2);
}

TEST_F_TIMEOUT(channel_try, recv_fault, NT_TEST_TIMEOUT)
{
	check_fault(_metadata, &self->s, NTSYNC_IOC_CHANNEL_TRY_RECV2);
}

static int do_recv_there(struct actor *a)
{
	void *arg = (void *)(uintptr_t)actor_peer(a)->reply;

	return nt_ioctl(a->objs[0], NTSYNC_IOC_CHANNEL_RECV, arg);
}

/* The memory is taken away while it waits; the next one that waits gets the request. */
TEST_F_TIMEOUT(channel, recv_fault_asleep, NT_TEST_TIMEOUT)
{
	struct peer *sender = &self->s.peer[0];
	struct peer *first = &self->s.peer[1], *second = &self->s.peer[2];
	struct pages m;

	ASSERT_TRUE(map_pages(&m));
	starts(&self->s, sender, 0);
	starts(&self->s, first, 60);
	starts(&self->s, second, 50);
	first->reply = (uintptr_t)m.rw;
	actor_begin(&first->a, do_recv_there);
	ASSERT_TRUE(actor_asleep(&first->a));
	actor_begin(&second->a, do_recv_plain);
	ASSERT_TRUE(actor_asleep(&second->a));
	ASSERT_EQ(0, mprotect(m.rw, sysconf(_SC_PAGESIZE), PROT_READ));

	sender->send = (struct ntsync_channel_send_args) { .payload_off = 5, .reply_off = 6 };
	actor_begin(&sender->a, do_send);
	EXPECT_EQ(-EFAULT, actor_end(&first->a));
	ASSERT_EQ(0, actor_end(&second->a));
	EXPECT_EQ(5ULL, second->req.payload_off);
	EXPECT_EQ(6ULL, second->req.reply_off);
	EXPECT_EQ((__u32)tid_of(sender), second->req.sender_tid);
	ASSERT_TRUE(actor_asleep(&sender->a));
	second->reply = second->req.entry_id;
	EXPECT_EQ(0, actor_do(&second->a, do_reply));
	ASSERT_EQ(0, actor_end(&sender->a));
}

/*
 * The priority of a request.
 */

/* The higher of the sender's own and the explicit one. */
TEST_F_TIMEOUT(channel, prio_of_sender, NT_TEST_TIMEOUT)
{
	static const struct {
		struct nt_sched own;
		__u32 policy, prio, expected;
	} cases[] = {
		{ NT_NICE(0), 0, 0, 0 }, { NT_NICE(-20), 0, 0, 0 }, { NT_NICE(19), 0, 0, 0 },
		{ NT_BATCH(0), 0, 0, 0 }, { NT_IDLE, 0, 0, 0 },
		{ NT_FIFO(1), 0, 0, 1 }, { NT_FIFO(60), 0, 0, 60 }, { NT_RR(60), 0, 0, 60 },
		{ NT_IDLE, SCHED_FIFO, 30, 30 }, { NT_NICE(0), SCHED_RR, 30, 30 },
		{ NT_FIFO(60), SCHED_FIFO, 30, 60 }, { NT_FIFO(60), SCHED_RR, 80, 80 },
		{ NT_RR(60), SCHED_FIFO, 61, 61 }, { NT_RR(60), SCHED_RR, 59, 60 },
		{ NT_RR(60), SCHED_FIFO, 60, 60 }, { NT_FIFO(1), SCHED_FIFO, 99, 99 },
	};
	struct ntsync_channel_recv2_args args;
	struct peer *p = self->s.peer;
	unsigned int i;

	if (geteuid())
		SKIP(return, "not root");
	starts(&self->s, p, 0);
	for (i = 0; i < ARRAY_LEN(cases); i++) {
		struct nt_sched_attr attr = {
			.size = sizeof(attr), .policy = cases[i].own.policy,
			.nice = cases[i].own.nice, .priority = cases[i].own.prio,
		};

		ASSERT_EQ(0, syscall(SYS_sched_setattr, tid_of(p), &attr, 0));
		sends_pi(p, cases[i].policy, cases[i].prio, i, 0);
		receives(self->s.ch, &args);
		EXPECT_EQ(cases[i].expected, args.prio) {
			TH_LOG("case %u", i);
		}
		answers(p, self->s.ch, args.entry_id);
	}
}

/* The field is what it is at delivery, and the explicit one stays the least. */
TEST_F_TIMEOUT(channel, prio_at_delivery, NT_TEST_TIMEOUT)
{
	static const struct {
		__u32 given;
		int policy, prio;
		__u32 expected;
	} changes[] = {
		{ 0, SCHED_FIFO, 30, 30 }, { 0, SCHED_RR, 45, 45 }, { 0, SCHED_FIFO, 5, 5 },
		{ 0, SCHED_OTHER, 0, 0 }, { 0, SCHED_IDLE, 0, 0 }, { 25, SCHED_FIFO, 30, 30 },
		{ 25, SCHED_RR, 24, 25 }, { 25, SCHED_OTHER, 0, 25 }, { 25, SCHED_FIFO, 90, 90 },
	};
	struct ntsync_channel_recv2_args args;
	struct peer *p = self->s.peer;
	unsigned int i, from;

	starts(&self->s, p, 0);
	for (from = 0; from <= 20; from += 20) {
		for (i = 0; i < ARRAY_LEN(changes); i++) {
			ASSERT_EQ(0, set_sched(tid_of(p), from ? SCHED_FIFO : SCHED_OTHER, from));
			sends_pi(p, changes[i].given ? SCHED_FIFO : 0, changes[i].given, i, 0);
			ASSERT_EQ(0, set_sched(tid_of(p), changes[i].policy, changes[i].prio));
			receives(self->s.ch, &args);
			EXPECT_EQ(changes[i].expected, args.prio) {
				TH_LOG("from %u, change %u", from, i);
			}
			/* too late */
			ASSERT_EQ(0, set_sched(tid_of(p), SCHED_FIFO, 70));
			EXPECT_EQ(changes[i].expected, args.prio);
			answers(p, self->s.ch, args.entry_id);
			EXPECT_EQ(FIFO(70), actor_prio(&p->a));
		}
	}
}

/* What the sender has from others counts, and goes while it waits. */
TEST_F_TIMEOUT(channel, prio_of_boosted_sender, NT_TEST_TIMEOUT)
{
	struct peer *sender = &self->s.peer[0], *waiter = &self->s.peer[1];
	struct peer *other = &self->s.peer[2];
	int mutex = nt_create_mutex(self->s.dev, 0, 0);
	struct ntsync_channel_recv2_args args;

	ASSERT_LE(0, mutex);
	starts(&self->s, sender, 0);
	starts(&self->s, waiter, 70);
	starts(&self->s, other, 50);
	sender->a.id = 1;
	waiter->a.id = 2;
	acquires(&sender->a, mutex);
	sender->a.objs[0] = self->s.ch;

	/* before it sends */
	waits_for(&waiter->a, mutex);
	EXPECT_EQ(FIFO(70), actor_prio(&sender->a));
	sends(sender, 1);
	receives(self->s.ch, &args);
	EXPECT_EQ(70U, args.prio);
	answers(sender, self->s.ch, args.entry_id);
	EXPECT_EQ(FIFO(70), actor_prio(&sender->a));

	/* and no more when it has gone */
	sends(sender, 2);
	sends(other, 3);
	pthread_kill(waiter->a.thread, SIGUSR1);
	ASSERT_EQ(-EINTR, actor_end(&waiter->a));
	receives(self->s.ch, &args);
	EXPECT_EQ(3ULL, args.payload_off);
	EXPECT_EQ(50U, args.prio);
	answers(other, self->s.ch, args.entry_id);

	/* it comes while the request waits */
	sends(other, 4);
	waits_for(&waiter->a, mutex);
	receives(self->s.ch, &args);
	EXPECT_EQ(2ULL, args.payload_off);
	EXPECT_EQ(70U, args.prio);
	answers(sender, self->s.ch, args.entry_id);
	serves(&self->s, other, 4);

	sender->a.objs[0] = mutex;
	EXPECT_EQ(0, actor_do(&sender->a, do_unlock));
	EXPECT_EQ(0, actor_end(&waiter->a));
	EXPECT_EQ(NORMAL, actor_prio(&sender->a));
}

/* Nobody sees in the sender what priority its request has, and nothing remains. */
TEST_F_TIMEOUT(channel, sender_is_unchanged, NT_TEST_TIMEOUT)
{
	static const struct nt_sched own[] = {
		NT_NICE(0), NT_IDLE, NT_NICE(7), NT_BATCH(-3), NT_FIFO(10), NT_RR(20),
	};
	struct ntsync_channel_recv2_args args;
	struct peer *p = self->s.peer;
	struct sched_param param;
	unsigned int i, stage;
	int before;

	starts(&self->s, p, 0);
	for (i = 0; i < ARRAY_LEN(own); i++) {
		struct nt_sched_attr attr = {
			.size = sizeof(attr), .policy = own[i].policy, .nice = own[i].nice,
			.priority = own[i].prio,
		};

		ASSERT_EQ(0, syscall(SYS_sched_setattr, tid_of(p), &attr, 0));
		before = actor_prio(&p->a);
		sends_pi(p, i & 1 ? SCHED_FIFO : SCHED_RR, 90, i, 0);
		for (stage = 0; stage < 3; stage++) {
			if (stage == 1) {
				receives(self->s.ch, &args);
			} else if (stage == 2) {
				answers(p, self->s.ch, args.entry_id);
			}
			EXPECT_EQ(own[i].policy, sched_getscheduler(tid_of(p)));
			EXPECT_EQ(0, sched_getparam(tid_of(p), &param));
			EXPECT_EQ(own[i].prio, param.sched_priority);
			if (!own[i].prio) {
				EXPECT_EQ(own[i].nice, getpriority(PRIO_PROCESS, tid_of(p)));
			}
		}
		EXPECT_EQ(90U, args.prio);
		EXPECT_EQ(before, actor_prio(&p->a));
	}
}

/*
 * What an unprivileged sender gets.
 */

static bool has_sys_nice(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

	memset(data, 0, sizeof(data));
	return !syscall(SYS_capget, &head, data) && data[0].effective & 1U << CAP_SYS_NICE;
}

/* 1 if a user namespace cannot be had. */
static int job_drop(struct job *job)
{
	struct rlimit limit = { job->limit, job->limit };
	int ret = nt_sched_self(&job->own);

	if (ret)
		return ret;
	if (setrlimit(RLIMIT_RTPRIO, &limit))
		return -errno;
	if (job->drop && (setresgid(NOBODY, NOBODY, NOBODY) ||
			  setresuid(NOBODY, NOBODY, NOBODY)))
		return -errno;
	if (job->userns && unshare(CLONE_NEWUSER))
		return 1;
	/* who changes its user loses it */
	die_with_parent();
	return has_sys_nice() == (job->userns || !job->drop) ? 0 : -EPERM;
}

static int job_send_dropped(struct job *job)
{
	int ret = job_drop(job);

	return ret ? ret : job_send(job);
}

/* -1: it has to be skipped. */
static int dropped_prio(struct __test_metadata *_metadata, struct set *s, struct job *job)
{
	struct ntsync_channel_recv2_args args;

	ASSERT_EQ(0, job_start(job, job_send_dropped, false));
	if (!job_asleep(job) && atomic_load(&job->done) && job->ret == 1)
		return -1;
	ASSERT_TRUE(job_asleep(job)) {
		TH_LOG("the sender does not sleep (returned %d)", job->ret);
	}
	receives(s->ch, &args);
	EXPECT_EQ((__u32)atomic_load(&job->pid), args.sender_tid);
	EXPECT_EQ(0, ch_reply(s->ch, args.entry_id));
	ASSERT_EQ(0, job_end(job));
	return args.prio;
}

struct right {
	struct nt_sched own;
	unsigned long long limit;
	__u32 policy, prio;
	int expected;
};

TEST_F_TIMEOUT(channel, prio_capped, NT_TEST_TIMEOUT)
{
	static const struct right rights[] = {
		{ NT_NICE(0), 0, SCHED_FIFO, 90, 0 }, { NT_NICE(0), 1, SCHED_FIFO, 90, 1 },
		{ NT_NICE(0), 50, SCHED_FIFO, 90, 50 }, { NT_NICE(0), 50, SCHED_RR, 90, 50 },
		{ NT_NICE(0), 98, SCHED_FIFO, 90, 90 }, { NT_NICE(0), 98, SCHED_RR, 99, 98 },
		{ NT_NICE(0), 50, SCHED_FIFO, 50, 50 }, { NT_NICE(0), 50, SCHED_FIFO, 20, 20 },
		{ NT_NICE(0), 1000, SCHED_FIFO, 99, 99 },
		{ NT_NICE(0), RLIM_INFINITY, SCHED_FIFO, 99, 99 },
		{ NT_NICE(0), 50, 0, 0, 0 }, { NT_NICE(-20), 0, SCHED_FIFO, 90, 0 },
		{ NT_IDLE, 0, SCHED_FIFO, 1, 0 },
		/* what the sender has already */
		{ NT_FIFO(60), 0, SCHED_FIFO, 90, 60 }, { NT_FIFO(60), 50, SCHED_FIFO, 90, 60 },
		{ NT_RR(60), 0, SCHED_RR, 90, 60 }, { NT_FIFO(60), 70, SCHED_FIFO, 90, 70 },
		{ NT_FIFO(60), 98, SCHED_FIFO, 90, 90 }, { NT_FIFO(60), 0, SCHED_FIFO, 30, 60 },
		{ NT_FIFO(60), 0, 0, 0, 60 }, { NT_FIFO(60), 0, SCHED_FIFO, 60, 60 },
	};
	struct job *job;
	unsigned int i;

	if (geteuid())
		SKIP(return, "not root");
	for (i = 0; i < ARRAY_LEN(rights); i++) {
		job = new_job(&self->s);
		ASSERT_TRUE(job != NULL);
		job->drop = true;
		job->own = rights[i].own;
		job->limit = rights[i].limit;
		job->policy = rights[i].policy;
		job->prio = rights[i].prio;
		EXPECT_EQ(rights[i].expected, dropped_prio(_metadata, &self->s, job)) {
			TH_LOG("case %u", i);
		}
	}
}

/* The limit, here 0, is not asked for those who have the capability. */
TEST_F_TIMEOUT(channel, prio_with_capability, NT_TEST_TIMEOUT)
{
	struct job *job = new_job(&self->s);

	if (geteuid())
		SKIP(return, "not root");
	ASSERT_TRUE(job != NULL);
	job->policy = SCHED_FIFO;
	job->prio = 99;
	EXPECT_EQ(99, dropped_prio(_metadata, &self->s, job));
}

/* Capabilities of another user namespace are none here. */
TEST_F_TIMEOUT(channel, prio_in_user_namespace, NT_TEST_TIMEOUT)
{
	struct job *job;
	int drop, prio;

	if (geteuid())
		SKIP(return, "not root");
	for (drop = 0; drop < 2; drop++) {
		job = new_job(&self->s);
		ASSERT_TRUE(job != NULL);
		job->drop = drop;
		job->userns = true;
		job->limit = 20;
		job->policy = SCHED_FIFO;
		job->prio = 90;
		prio = dropped_prio(_metadata, &self->s, job);
		if (prio < 0)
			SKIP(return, "no user namespaces");
		EXPECT_EQ(20, prio);
	}
}

static int job_send_owner(struct job *job)
{
	__u32 index;
	char byte;
	int ret = nt_try_any(job->dev, 1, &job->mutex, 9, 0, &index);

	if (!ret)
		ret = job_drop(job);
	if (ret)
		return ret;
	atomic_store(&job->step, 1);
	if (read(job->gate[0], &byte, 1) != 1)
		return -EIO;
	return job_send(job);
}

/* What it has is its effective priority, which it may lend as long as it has it. */
TEST_F_TIMEOUT(channel, prio_capped_to_inherited, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_recv2_args args;
	struct peer *waiter = self->s.peer;
	struct job *job = new_job(&self->s);
	int mutex = nt_create_mutex(self->s.dev, 0, 0);

	if (geteuid())
		SKIP(return, "not root");
	ASSERT_TRUE(job != NULL);
	ASSERT_LE(0, mutex);
	starts(&self->s, waiter, 70);
	waiter->a.id = 2;
	job->drop = true;
	job->mutex = mutex;
	job->policy = SCHED_FIFO;
	job->prio = 90;
	ASSERT_EQ(0, pipe2(job->gate, O_CLOEXEC));
	ASSERT_EQ(0, job_start(job, job_send_owner, false));
	ASSERT_TRUE(poll_until(atomic_load(&job->step) || atomic_load(&job->done)));
	ASSERT_EQ(0U, atomic_load(&job->done)) {
		TH_LOG("the owner returned %d", job->ret);
	}
	waits_for(&waiter->a, mutex);
	EXPECT_EQ(FIFO(70), nt_task_prio(atomic_load(&job->pid), atomic_load(&job->pid)));
	ASSERT_EQ(1, write(job->gate[1], "", 1));
	ASSERT_TRUE(job_asleep(job));
	receives(self->s.ch, &args);
	EXPECT_EQ(70U, args.prio);
	EXPECT_EQ(0, ch_reply(self->s.ch, args.entry_id));
	EXPECT_EQ(0, job_end(job));
	EXPECT_EQ(0, nt_kill_mutex(mutex, 9));
	EXPECT_EQ(-EOWNERDEAD, actor_end(&waiter->a));
}

/*
 * PID namespaces.
 */

/* How the receiver calls the sender, not how that calls itself. */
TEST_F_TIMEOUT(channel, sender_in_pid_namespace, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_recv2_args args;
	struct job *job = new_job(&self->s);

	if (geteuid())
		SKIP(return, "not root");
	ASSERT_TRUE(job != NULL);
	ASSERT_EQ(0, job_start(job, job_send, true));
	ASSERT_TRUE(job_asleep(job)) {
		TH_LOG("the sender does not sleep (returned %d)", job->ret);
	}
	receives(self->s.ch, &args);
	EXPECT_NE(1U, args.sender_tid);
	EXPECT_EQ((__u32)atomic_load(&job->pid), args.sender_tid);
	EXPECT_EQ(0, ch_reply(self->s.ch, args.entry_id));
	EXPECT_EQ(0, job_end(job));
}

TEST_F_TIMEOUT(channel, receiver_in_pid_namespace, NT_TEST_TIMEOUT)
{
	struct peer *p = self->s.peer;
	struct job *job = new_job(&self->s);

	if (geteuid())
		SKIP(return, "not root");
	ASSERT_TRUE(job != NULL);
	starts(&self->s, p, 40);
	ASSERT_EQ(0, job_start(job, job_recv, true));
	ASSERT_TRUE(job_asleep(job)) {
		TH_LOG("the receiver does not sleep (returned %d)", job->ret);
	}
	p->send = (struct ntsync_channel_send_args) { .payload_off = 8, .reply_off = 9 };
	ASSERT_EQ(0, actor_do(&p->a, do_send));
	ASSERT_EQ(0, job_end(job));
	EXPECT_EQ(0U, job->args.sender_tid);
	EXPECT_EQ(8ULL, job->args.payload_off);
	EXPECT_EQ(9ULL, job->args.reply_off);
	EXPECT_EQ(40U, job->args.prio);
}

/* The receiver and the sender are 1 and 2, or so. */
static int job_both(struct job *job)
{
	int ret, status;
	pid_t pid;

	pid = fork();
	if (!pid) {
		struct ntsync_channel_send_args args = { .payload_off = 1 };

		die_with_parent();
		_exit(-bounded(job->ch, NTSYNC_IOC_CHANNEL_SEND_PI, &args));
	}
	if (pid < 0)
		return -errno;
	job->other = pid;
	ret = job_recv(job);
	if (ret)
		return ret;
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -ECHILD;
	return -WEXITSTATUS(status);
}

TEST_F_TIMEOUT(channel, both_in_pid_namespace, NT_TEST_TIMEOUT)
{
	struct job *job = new_job(&self->s);

	if (geteuid())
		SKIP(return, "not root");
	ASSERT_TRUE(job != NULL);
	ASSERT_EQ(0, job_do(job, job_both, true));
	EXPECT_GT(100, job->other);
	EXPECT_EQ((__u32)job->other, job->args.sender_tid);
}

/*
 * Thread tokens.
 */

/* What a request of this thread is delivered with. */
static __u64 token_on(struct __test_metadata *_metadata, int ch, struct peer *p)
{
	struct ntsync_channel_recv2_args args;

	p->a.objs[0] = ch;
	sends(p, 1);
	EXPECT_EQ(0, take(ch, NTSYNC_IOC_CHANNEL_RECV2, &args));
	EXPECT_EQ((__u32)tid_of(p), args.sender_tid);
	answers(p, ch, args.entry_id);
	return args.thread_token;
}

#define token_of(p)	token_on(_metadata, self->s.ch, (p))

TEST_F_TIMEOUT(channel_token, delivered, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_recv2_args args;
	struct peer *p = self->s.peer;
	unsigned int i;

	for (i = 0; i < 3; i++)
		starts(&self->s, &p[i], 0);
	EXPECT_EQ(0ULL, token_of(&p[0]));
	EXPECT_EQ(0, ch_register(self->s.ch, tid_of(&p[0]), 0x1122334455667788));
	EXPECT_EQ(0, ch_register(self->s.ch, tid_of(&p[1]), 42));
	EXPECT_EQ(0x1122334455667788ULL, token_of(&p[0]));
	EXPECT_EQ(42ULL, token_of(&p[1]));
	EXPECT_EQ(0ULL, token_of(&p[2]));
	EXPECT_EQ(0x1122334455667788ULL, token_of(&p[0]));
	/* threads of the same process are not mixed up with the first one */
	EXPECT_EQ(0, ch_register(self->s.ch, getpid(), 43));
	EXPECT_EQ(0ULL, token_of(&p[2]));

	/* RECV has no such field */
	sends(&p[0], 5);
	receives(self->s.ch, &args);
	EXPECT_EQ(5ULL, args.payload_off);
	EXPECT_EQ(POISON64, args.thread_token);
	answers(&p[0], self->s.ch, args.entry_id);
}

TEST_F_TIMEOUT(channel_token, values, NT_TEST_TIMEOUT)
{
	struct peer *p = self->s.peer;
	unsigned int i;

	starts(&self->s, p, 0);
	for (i = 0; i < ARRAY_LEN(offsets); i++) {
		EXPECT_EQ(0, ch_register(self->s.ch, tid_of(p), offsets[i]));
		EXPECT_EQ(offsets[i], token_of(p));
	}
}

TEST_F_TIMEOUT(channel_token, deregistered, NT_TEST_TIMEOUT)
{
	struct peer *p = self->s.peer;

	starts(&self->s, &p[0], 0);
	starts(&self->s, &p[1], 0);
	EXPECT_EQ(0, ch_deregister(self->s.ch, tid_of(&p[0])));
	EXPECT_EQ(0, ch_register(self->s.ch, tid_of(&p[0]), 1));
	EXPECT_EQ(0, ch_register(self->s.ch, tid_of(&p[1]), 2));
	EXPECT_EQ(0, ch_deregister(self->s.ch, tid_of(&p[0])));
	EXPECT_EQ(0ULL, token_of(&p[0]));
	EXPECT_EQ(2ULL, token_of(&p[1]));
	EXPECT_EQ(0, ch_deregister(self->s.ch, tid_of(&p[0])));
	EXPECT_EQ(0, ch_deregister(self->s.ch, 1000000));
	EXPECT_EQ(0ULL, token_of(&p[0]));
	EXPECT_EQ(0, ch_register(self->s.ch, tid_of(&p[0]), 3));
	EXPECT_EQ(3ULL, token_of(&p[0]));
	EXPECT_EQ(2ULL, token_of(&p[1]));
}

/* DEREGISTER_THREAD of 0: the table has no restriction, so it is not tested. */
TEST_F_TIMEOUT(channel_token, bad_arguments, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_thread_args args = { .token = 9 };
	static const __u32 pad[] = { 1, 0x80000000, 0xffffffff };
	struct peer *p = self->s.peer;
	unsigned int i;

	starts(&self->s, p, 0);
	EXPECT_EQ(0, ch_register(self->s.ch, tid_of(p), 5));
	EXPECT_EQ(-EINVAL, ch_register(self->s.ch, 0, 9));
	args.tid = tid_of(p);
	for (i = 0; i < ARRAY_LEN(pad); i++) {
		args.__pad = pad[i];
		EXPECT_EQ(-EINVAL, nt_ioctl(self->s.ch, NTSYNC_IOC_CHANNEL_REGISTER_THREAD, &args));
	}
	check_bad_input(_metadata, self->s.ch, NTSYNC_IOC_CHANNEL_REGISTER_THREAD);
	check_bad_input(_metadata, self->s.ch, NTSYNC_IOC_CHANNEL_DEREGISTER_THREAD);
	EXPECT_EQ(5ULL, token_of(p));
}

TEST_F_TIMEOUT(channel_token, input_only, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_thread_args args = { .token = 9 };
	struct peer *p = self->s.peer;
	struct pages m;

	ASSERT_TRUE(map_pages(&m));
	starts(&self->s, p, 0);
	args.tid = tid_of(p);
	ASSERT_TRUE(read_only(&m, &args, sizeof(args)) != NULL);
	EXPECT_EQ(0, nt_ioctl(self->s.ch, NTSYNC_IOC_CHANNEL_REGISTER_THREAD, m.ro));
	EXPECT_EQ(9ULL, token_of(p));
	EXPECT_EQ(0, nt_ioctl(self->s.ch, NTSYNC_IOC_CHANNEL_DEREGISTER_THREAD, m.ro));
	EXPECT_EQ(0ULL, token_of(p));
}

/* It counts what is registered when the request is received. */
TEST_F_TIMEOUT(channel_token, looked_up_at_delivery, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_recv2_args args;
	struct peer *p = self->s.peer;
	int ch = self->s.ch;
	unsigned int i;

	starts(&self->s, p, 0);
	for (i = 0; i < 3; i++) {
		static const __u64 expected[3] = { 1, 2, 0 };

		sends(p, i);
		if (i < 2) {
			EXPECT_EQ(0, ch_register(ch, tid_of(p), i + 1));
		} else {
			EXPECT_EQ(0, ch_deregister(ch, tid_of(p)));
		}
		ASSERT_EQ(0, take(ch, NTSYNC_IOC_CHANNEL_RECV2, &args));
		EXPECT_EQ(expected[i], args.thread_token);
		answers(p, ch, args.entry_id);
	}
}

/* Also if it was given back in between. */
TEST_F_TIMEOUT(channel_token, looked_up_again, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_recv2_args args;
	struct peer *p = self->s.peer;
	int ch = self->s.ch;

	starts(&self->s, p, 0);
	EXPECT_EQ(0, ch_register(ch, tid_of(p), 1));
	sends(p, 1);
	EXPECT_EQ(-EFAULT, bounded(ch, NTSYNC_IOC_CHANNEL_RECV2, NULL));
	EXPECT_EQ(0, ch_register(ch, tid_of(p), 2));
	ASSERT_EQ(0, take(ch, NTSYNC_IOC_CHANNEL_RECV2, &args));
	EXPECT_EQ(2ULL, args.thread_token);
	answers(p, ch, args.entry_id);
}

TEST_F_TIMEOUT(channel_token, two_channels, NT_TEST_TIMEOUT)
{
	int other = ch_create(self->s.dev, 1);
	struct peer *p = self->s.peer;

	ASSERT_LE(0, other);
	starts(&self->s, p, 0);
	EXPECT_EQ(0, ch_register(self->s.ch, tid_of(p), 1));
	EXPECT_EQ(0ULL, token_on(_metadata, other, p));
	EXPECT_EQ(0, ch_register(other, tid_of(p), 2));
	EXPECT_EQ(1ULL, token_of(p));
	EXPECT_EQ(2ULL, token_on(_metadata, other, p));
	EXPECT_EQ(0, ch_deregister(self->s.ch, tid_of(p)));
	EXPECT_EQ(0ULL, token_of(p));
	EXPECT_EQ(2ULL, token_on(_metadata, other, p));
}

/* Whoever has the channel may register any thread. */
TEST_F_TIMEOUT(channel_token, by_another_process, NT_TEST_TIMEOUT)
{
	struct peer *p = self->s.peer;
	struct job *job = new_job(&self->s);

	ASSERT_TRUE(job != NULL);
	starts(&self->s, p, 0);
	job->tid = tid_of(p);
	job->token = 6;
	EXPECT_EQ(0, job_do(job, job_register, false));
	EXPECT_EQ(6ULL, token_of(p));
}

static int job_register_and_send(struct job *job)
{
	int ret = ch_register(job->ch, job->tid, job->token);

	return ret ? ret : job_send(job);
}

/* The TID is of the namespace of who registers. */
TEST_F_TIMEOUT(channel_token, pid_namespace, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_recv2_args args;
	int inside, ch = self->s.ch;
	struct peer *p = self->s.peer;
	struct job *job;

	if (geteuid())
		SKIP(return, "not root");
	starts(&self->s, p, 0);
	EXPECT_EQ(0, ch_register(ch, tid_of(p), 7));
	/* the process 1 here is another one than the process 1 there */
	EXPECT_EQ(0, ch_register(ch, 1, 8));
	for (inside = 0; inside < 2; inside++) {
		job = new_job(&self->s);
		ASSERT_TRUE(job != NULL);
		job->tid = 1;
		job->token = 9;
		ASSERT_EQ(0, job_start(job, inside ? job_register_and_send : job_send, true));
		ASSERT_TRUE(job_asleep(job)) {
			TH_LOG("the sender does not sleep (returned %d)", job->ret);
		}
		if (!inside) {
			EXPECT_EQ(0, ch_register(ch, atomic_load(&job->pid), 10));
		}
		ASSERT_EQ(0, take(ch, NTSYNC_IOC_CHANNEL_RECV2, &args));
		EXPECT_EQ((__u32)atomic_load(&job->pid), args.sender_tid);
		EXPECT_EQ(inside ? 9ULL : 10ULL, args.thread_token);
		EXPECT_EQ(0, ch_reply(ch, args.entry_id));
		EXPECT_EQ(0, job_end(job));
	}
	EXPECT_EQ(7ULL, token_of(p));

	/* who is neither this nor that has none */
	job = new_job(&self->s);
	ASSERT_TRUE(job != NULL);
	ASSERT_EQ(0, job_start(job, job_send, true));
	ASSERT_TRUE(job_asleep(job));
	ASSERT_EQ(0, take(ch, NTSYNC_IOC_CHANNEL_RECV2, &args));
	EXPECT_EQ(0ULL, args.thread_token);
	EXPECT_EQ(0, ch_reply(ch, args.entry_id));
	EXPECT_EQ(0, job_end(job));
}

/* No threads have these TIDs: pid_max is less, or no guest gets that far. */
#define NO_TID	1000000

TEST_F_TIMEOUT(channel_token, limit, NT_TEST_TIMEOUT)
{
	int ch = self->s.ch, other = ch_create(self->s.dev, 1);
	struct peer *p = self->s.peer;
	unsigned int n;

	ASSERT_LE(0, other);
	starts(&self->s, &p[0], 0);
	starts(&self->s, &p[1], 0);
	EXPECT_EQ(0, ch_register(ch, tid_of(&p[0]), 1));
	for (n = 1; n < NTSYNC_MAX_CHANNEL_THREADS && !ch_register(ch, NO_TID + n, n); n++)
		;
	ASSERT_EQ((unsigned int)NTSYNC_MAX_CHANNEL_THREADS, n);

	EXPECT_EQ(-ENOSPC, ch_register(ch, tid_of(&p[1]), 2));
	EXPECT_EQ(-ENOSPC, ch_register(ch, NO_TID, 2));
	EXPECT_EQ(0ULL, token_of(&p[1]));
	EXPECT_EQ(1ULL, token_of(&p[0]));
	/* the illegal is still that */
	EXPECT_EQ(-EINVAL, ch_register(ch, 0, 2));

	/* replacing needs no place */
	EXPECT_EQ(0, ch_register(ch, tid_of(&p[0]), 3));
	EXPECT_EQ(0, ch_register(ch, NO_TID + 1, 3));
	EXPECT_EQ(3ULL, token_of(&p[0]));
	EXPECT_EQ(-ENOSPC, ch_register(ch, tid_of(&p[1]), 2));

	/* deregistering what is not there frees none, otherwise one */
	EXPECT_EQ(0, ch_deregister(ch, NO_TID));
	EXPECT_EQ(-ENOSPC, ch_register(ch, tid_of(&p[1]), 2));
	EXPECT_EQ(0, ch_deregister(ch, NO_TID + 5));
	EXPECT_EQ(0, ch_deregister(ch, NO_TID + 5));
	EXPECT_EQ(0, ch_register(ch, tid_of(&p[1]), 4));
	EXPECT_EQ(4ULL, token_of(&p[1]));
	EXPECT_EQ(-ENOSPC, ch_register(ch, NO_TID + 5, 2));
	EXPECT_EQ(3ULL, token_of(&p[0]));

	/* each channel has as many */
	EXPECT_EQ(0, ch_register(other, tid_of(&p[1]), 5));
	EXPECT_EQ(5ULL, token_on(_metadata, other, &p[1]));
}

/* The next thread or process gets this TID, if it is free and nobody is faster. */
static bool set_next_tid(pid_t tid)
{
	char text[16];

	snprintf(text, sizeof(text), "%d", tid - 1);
	return nt_write_file(LAST_PID, text);
}

/* Let it exit, and go on when its TID is free. */
#define exits(p) do {							\
	pid_t __tid = tid_of(p);					\
									\
	actor_stop(&(p)->a);						\
	ASSERT_TRUE(poll_until(!nt_task_state(getpid(), __tid)));	\
	memset((p), 0, sizeof(*(p)));					\
} while (0)

/* A series of TIDs to try: a kernel thread may come in between. */
#define FIRST_TID	20000
#define LAST_TID	22000
#define TID_STEP	20
#define NB_TRIES	5

TEST_F_TIMEOUT(channel_token, registered_before_it_exists, NT_TEST_TIMEOUT)
{
	struct peer *p = self->s.peer;
	pid_t tid;

	for (tid = FIRST_TID; tid < LAST_TID; tid += TID_STEP) {
		EXPECT_EQ(0, ch_register(self->s.ch, tid, 5));
		if (!set_next_tid(tid))
			SKIP(return, "cannot write " LAST_PID);
		starts(&self->s, p, 0);
		if (tid_of(p) == tid)
			break;
		exits(p);
		EXPECT_EQ(0, ch_deregister(self->s.ch, tid));
	}
	ASSERT_GT(LAST_TID, tid);
	EXPECT_EQ(5ULL, token_of(p));
	EXPECT_EQ(5ULL, token_of(p));
	EXPECT_EQ(0, ch_deregister(self->s.ch, tid));
	EXPECT_EQ(0ULL, token_of(p));
}

/* A thread with the TID of another one, which was registered, does not inherit. */
static void check_recycled(struct __test_metadata *_metadata, struct set *s, bool has_sent)
{
	struct peer *p = s->peer;
	bool recycled = false;
	unsigned int try;
	pid_t tid;

	for (tid = FIRST_TID; tid < LAST_TID && !recycled; tid += TID_STEP) {
		if (!set_next_tid(tid))
			SKIP(return, "cannot write " LAST_PID);
		starts(s, p, 0);
		if (tid_of(p) != tid) {
			exits(p);
			continue;
		}
		EXPECT_EQ(0, ch_register(s->ch, tid, 5));
		if (has_sent) {
			EXPECT_EQ(5ULL, token_on(_metadata, s->ch, p));
		}
		exits(p);
		/* it vanishes from /proc a little before its number is free */
		for (try = 0; try < NB_TRIES && !recycled; try++) {
			ASSERT_TRUE(set_next_tid(tid));
			starts(s, p, 0);
			recycled = tid_of(p) == tid;
			if (!recycled)
				exits(p);
		}
		if (recycled) {
			EXPECT_EQ(0ULL, token_on(_metadata, s->ch, p));
			EXPECT_EQ(0, ch_register(s->ch, tid, 6));
			EXPECT_EQ(6ULL, token_on(_metadata, s->ch, p));
			exits(p);
		}
		EXPECT_EQ(0, ch_deregister(s->ch, tid));
	}
	EXPECT_TRUE(recycled) {
		TH_LOG("no TID was used again");
	}
}

TEST_F_TIMEOUT(channel_token, recycled_tid, NT_TEST_TIMEOUT)
{
	check_recycled(_metadata, &self->s, false);
}

TEST_F_TIMEOUT(channel_token, recycled_tid_of_sender, NT_TEST_TIMEOUT)
{
	check_recycled(_metadata, &self->s, true);
}

TEST_F_TIMEOUT(channel_token, deregister_dead, NT_TEST_TIMEOUT)
{
	struct peer *p = self->s.peer;
	pid_t tid;

	starts(&self->s, &p[0], 0);
	starts(&self->s, &p[1], 0);
	tid = tid_of(&p[0]);
	EXPECT_EQ(0, ch_register(self->s.ch, tid, 5));
	EXPECT_EQ(0, ch_register(self->s.ch, tid_of(&p[1]), 6));
	EXPECT_EQ(5ULL, token_of(&p[0]));
	exits(&p[0]);
	EXPECT_EQ(0, ch_deregister(self->s.ch, tid));
	EXPECT_EQ(0, ch_deregister(self->s.ch, tid));
	/* now it is one that does not exist yet */
	EXPECT_EQ(0, ch_register(self->s.ch, tid, 7));
	EXPECT_EQ(0, ch_deregister(self->s.ch, tid));
	EXPECT_EQ(6ULL, token_of(&p[1]));
}

/*
 * TRY_RECV2.
 */

/* That nothing is written is not said, but there is nothing to write. */
TEST_F_TIMEOUT(channel_try, empty, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_recv2_args args, none, poison;
	struct peer *p = self->s.peer;
	int ch = self->s.ch;

	memset(&poison, 0xcc, sizeof(poison));
	starts(&self->s, p, 0);
	EXPECT_EQ(-EAGAIN, take(ch, NTSYNC_IOC_CHANNEL_TRY_RECV2, &none));
	EXPECT_EQ(0, memcmp(&none, &poison, sizeof(none)));
	sends(p, 1);
	ASSERT_EQ(0, take(ch, NTSYNC_IOC_CHANNEL_TRY_RECV2, &args));
	EXPECT_EQ(1ULL, args.payload_off);
	/* in hand is not pending */
	EXPECT_EQ(-EAGAIN, take(ch, NTSYNC_IOC_CHANNEL_TRY_RECV2, &none));
	EXPECT_EQ(0, memcmp(&none, &poison, sizeof(none)));
	EXPECT_TRUE(actor_asleep(&p->a));
	answers(p, ch, args.entry_id);
	EXPECT_EQ(-EAGAIN, take(ch, NTSYNC_IOC_CHANNEL_TRY_RECV2, &none));

	/* nor is what was withdrawn */
	sends(p, 2);
	pthread_kill(p->a.thread, SIGUSR1);
	EXPECT_EQ(-EINTR, actor_end(&p->a));
	EXPECT_EQ(-EAGAIN, take(ch, NTSYNC_IOC_CHANNEL_TRY_RECV2, &none));
}

TEST_F_TIMEOUT(channel_try, token, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_recv2_args args;
	struct peer *p = self->s.peer;
	int ch = self->s.ch;

	starts(&self->s, p, 0);
	EXPECT_EQ(0, ch_register(ch, tid_of(p), 0xfedcba9876543210));
	sends(p, 1);
	ASSERT_EQ(0, take(ch, NTSYNC_IOC_CHANNEL_TRY_RECV2, &args));
	EXPECT_EQ(0xfedcba9876543210ULL, args.thread_token);
	answers(p, ch, args.entry_id);
	sends(p, 2);
	EXPECT_EQ(0, ch_deregister(ch, tid_of(p)));
	ASSERT_EQ(0, take(ch, NTSYNC_IOC_CHANNEL_TRY_RECV2, &args));
	EXPECT_EQ(0ULL, args.thread_token);
	answers(p, ch, args.entry_id);
}

/* One who waits and one who only looks: the request goes to one of them. */
TEST_F_TIMEOUT(channel_try, with_a_receiver_that_waits, NT_TEST_TIMEOUT)
{
	struct peer *sender = &self->s.peer[0], *receiver = &self->s.peer[1];
	struct ntsync_channel_recv2_args args;
	unsigned int i;

	starts(&self->s, sender, 0);
	starts(&self->s, receiver, 30);
	for (i = 0; i < 10; i++) {
		actor_begin(&receiver->a, do_recv_plain);
		ASSERT_TRUE(actor_asleep(&receiver->a));
		EXPECT_EQ(-EAGAIN, take(self->s.ch, NTSYNC_IOC_CHANNEL_TRY_RECV2, &args));
		sender->send = (struct ntsync_channel_send_args) { .payload_off = i };
		actor_begin(&sender->a, do_send);
		ASSERT_EQ(0, actor_end(&receiver->a));
		EXPECT_EQ((__u64)i, receiver->req.payload_off);
		EXPECT_EQ(-EAGAIN, take(self->s.ch, NTSYNC_IOC_CHANNEL_TRY_RECV2, &args));
		EXPECT_EQ(0, ch_reply(self->s.ch, receiver->req.entry_id));
		ASSERT_EQ(0, actor_end(&sender->a));
	}
}

/*
 * Descriptors that can only send.
 */

TEST_F_TIMEOUT(channel_send_only, sends, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_recv2_args args;
	struct peer *p = self->s.peer;

	EXPECT_NE(self->s.ch, self->only);
	starts(&self->s, &p[0], 0);
	starts(&self->s, &p[1], 10);
	p[0].a.objs[0] = self->only;
	sends_pi(&p[0], 0, 0, 0x8000000000000001, 0xffffffff00000000);
	sends(&p[1], 2);
	/* the queue is the same */
	receives(self->s.ch, &args);
	EXPECT_EQ(2ULL, args.payload_off);
	EXPECT_EQ(10U, args.prio);
	answers(&p[1], self->s.ch, args.entry_id);
	receives(self->s.ch, &args);
	EXPECT_EQ(0x8000000000000001ULL, args.payload_off);
	EXPECT_EQ(0xffffffff00000000ULL, args.reply_off);
	EXPECT_EQ((__u32)tid_of(&p[0]), args.sender_tid);
	EXPECT_EQ(0U, args.prio);
	answers(&p[0], self->s.ch, args.entry_id);
}

/* Whether there is a request makes no difference, nor whether the argument is good. */
static void check_refused(struct __test_metadata *_metadata, int only, void *arg)
{
	unsigned int i;

	for (i = 0; i < ARRAY_LEN(channel_requests); i++) {
		if (channel_requests[i] == NTSYNC_IOC_CHANNEL_SEND_PI)
			continue;
		EXPECT_EQ(-EBADF, bounded(only, channel_requests[i], arg)) {
			TH_LOG("request %#lx", channel_requests[i]);
		}
	}
}

TEST_F_TIMEOUT(channel_send_only, refuses_the_rest, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_recv2_args args, copy;
	struct peer *p = self->s.peer;
	char buf[64];

	starts(&self->s, p, 0);
	p->a.objs[0] = self->only;
	memset(buf, 0, sizeof(buf));
	check_refused(_metadata, self->only, NULL);
	check_refused(_metadata, self->only, buf);
	sends(p, 1);
	check_refused(_metadata, self->only, NULL);
	check_refused(_metadata, self->only, buf);
	receives(self->s.ch, &args);
	EXPECT_EQ(1ULL, args.payload_off);
	copy = args;
	/* its first field is the id of REPLY */
	check_refused(_metadata, self->only, &copy);
	EXPECT_EQ(0, memcmp(&args, &copy, sizeof(args)));
	EXPECT_TRUE(actor_asleep(&p->a));
	answers(p, self->s.ch, args.entry_id);
}

/* A token of the same thread, set and removed through the full one only. */
TEST_F_TIMEOUT(channel_send_only, registers_nothing, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_recv2_args args;
	struct peer *p = self->s.peer;

	starts(&self->s, p, 0);
	p->a.objs[0] = self->only;
	EXPECT_EQ(0, ch_register(self->s.ch, tid_of(p), 4));
	EXPECT_EQ(-EBADF, ch_register(self->only, tid_of(p), 5));
	EXPECT_EQ(-EBADF, ch_deregister(self->only, tid_of(p)));
	sends(p, 1);
	ASSERT_EQ(0, take(self->s.ch, NTSYNC_IOC_CHANNEL_RECV2, &args));
	EXPECT_EQ(4ULL, args.thread_token);
	answers(p, self->s.ch, args.entry_id);
}

TEST_F_TIMEOUT(channel_send_only, arguments, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_recv2_args args;
	int ch = ch_create(self->s.dev, 1), only;
	struct peer *p = self->s.peer;

	ASSERT_LE(0, ch);
	only = ch_send_only(ch);
	ASSERT_LE(0, only);
	starts(&self->s, p, 0);
	p->a.objs[0] = only;
	check_bad_input(_metadata, only, NTSYNC_IOC_CHANNEL_SEND_PI);
	EXPECT_EQ(-EINVAL, send_now(only, SCHED_FIFO, 0));
	EXPECT_EQ(-EINVAL, send_now(only, SCHED_BATCH, 0));
	sends_pi(p, SCHED_FIFO, 20, 1, 0);
	EXPECT_EQ(-EAGAIN, send_now(only, 0, 0));
	EXPECT_EQ(-EAGAIN, send_now(ch, 0, 0));
	receives(ch, &args);
	EXPECT_EQ(20U, args.prio);
	answers(p, ch, args.entry_id);
}

TEST_F_TIMEOUT(channel_send_only, not_in_waits, NT_TEST_TIMEOUT)
{
	check_waits(_metadata, self->s.dev, self->only);
}

/* A copy, a copy in another process, another one of the same channel. */
TEST_F_TIMEOUT(channel_send_only, copies, NT_TEST_TIMEOUT)
{
	struct ntsync_channel_recv2_args args;
	int copy = dup(self->only), again = ch_send_only(self->s.ch);
	struct peer *p = self->s.peer;
	struct job *job = new_job(&self->s);
	int fds[2] = { copy, again }, i;

	ASSERT_TRUE(job != NULL);
	ASSERT_LE(0, copy);
	ASSERT_LE(0, again);
	starts(&self->s, p, 0);
	for (i = 0; i < 2; i++) {
		check_refused(_metadata, fds[i], NULL);
		p->a.objs[0] = fds[i];
		sends(p, 1);
		receives(self->s.ch, &args);
		answers(p, self->s.ch, args.entry_id);
	}
	close(self->only);
	job->ch = copy;
	ASSERT_EQ(0, job_start(job, job_send, false));
	ASSERT_TRUE(job_asleep(job)) {
		TH_LOG("the sender does not sleep (returned %d)", job->ret);
	}
	close(copy);
	receives(self->s.ch, &args);
	EXPECT_EQ((__u32)atomic_load(&job->pid), args.sender_tid);
	EXPECT_EQ(0, ch_reply(self->s.ch, args.entry_id));
	EXPECT_EQ(0, job_end(job));

	job = new_job(&self->s);
	ASSERT_TRUE(job != NULL);
	job->ch = again;
	EXPECT_EQ(-EBADF, job_do(job, job_recv, false));
	self->only = again;
}

TEST_HARNESS_MAIN
