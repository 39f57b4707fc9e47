// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * The trace events of waits, boosts and channels: which, in what order, and what is in them.
 */
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/mount.h>
#include "channel_test.h"

#define TRACING		"/sys/kernel/tracing"
#define EVENTS		TRACING "/events/ntsync"

FIXTURE(trace) {
	int dev;
	int mutex[2];
	struct actor owner;
	struct actor waiter;
	struct peer sender;
	struct peer receiver;
	char *text;
	char *pos;
};

#define TEXT_SIZE	(256 * 1024)

static bool clear_trace(void)
{
	int fd = open(TRACING "/trace", O_WRONLY | O_TRUNC | O_CLOEXEC);

	if (fd < 0)
		return false;
	close(fd);
	return true;
}

FIXTURE_SETUP(trace)
{
	begin_pi(self->dev);
	if (access(EVENTS, F_OK))
		mount("tracefs", TRACING, "tracefs", 0, NULL);
	if (access(EVENTS, F_OK))
		SKIP(return, "no tracing in this kernel");
	self->mutex[0] = nt_create_mutex(self->dev, 0, 0);
	self->mutex[1] = nt_create_mutex(self->dev, 0, 0);
	ASSERT_LE(0, self->mutex[0]);
	ASSERT_LE(0, self->mutex[1]);
	self->text = calloc(1, TEXT_SIZE);
	ASSERT_TRUE(self->text != NULL);
	self->owner.id = 11;
	self->waiter.id = 22;
	ASSERT_EQ(0, actor_start(&self->owner, self->dev, 0));
	ASSERT_EQ(0, actor_start(&self->waiter, self->dev, 80));
	ASSERT_TRUE(clear_trace());
	ASSERT_TRUE(nt_write_file(EVENTS "/enable", "1"));
}

FIXTURE_TEARDOWN(trace)
{
	nt_write_file(EVENTS "/enable", "0");
	close(self->dev);
}

static bool read_trace(char *text)
{
	int fd = open(TRACING "/trace", O_RDONLY | O_CLOEXEC);
	ssize_t n, len = 0;

	if (fd < 0)
		return false;
	while ((n = read(fd, text + len, TEXT_SIZE - 1 - len)) > 0)
		len += n;
	close(fd);
	text[len] = 0;
	return n == 0;
}

/* The next event must be this one, written by that thread. */
static bool next_is(char **pos, pid_t tid, const char *event)
{
	char *line, *end, who[16];

	for (line = *pos; *line; line = end + 1) {
		end = strchr(line, '\n');
		if (!end)
			return false;
		if (*line == '#' || !strstr(line, ": ntsync_") || strstr(line, ": ntsync_") > end)
			continue;
		*pos = end + 1;
		*end = 0;
		snprintf(who, sizeof(who), "-%d ", tid);
		if (strstr(line, who) && strstr(line, event) &&
		    !strcmp(strstr(line, event), event))
			return true;
		printf("# expected '%s' by %d, there is: %s\n", event, tid, line);
		return false;
	}
	return false;
}

/* The number by which the kernel calls what the first event of this kind is about. */
static unsigned int first_number(const char *text, const char *event)
{
	const char *line = strstr(text, event);

	return line ? atoi(line + strlen(event)) : 0;
}

#define NEXT(tid, ...) do {						\
	snprintf(want, sizeof(want), __VA_ARGS__);			\
	EXPECT_TRUE(next_is(&pos, (tid), want));			\
} while (0)

#define NO_MORE() do {							\
	const char *__more = strstr(pos, ": ntsync_");			\
									\
	EXPECT_TRUE(__more == NULL) {					\
		TH_LOG("there is also%.*s", (int)strcspn(__more + 1, "\n"), __more + 1); \
	}								\
} while (0)

TEST_F_TIMEOUT(trace, boost, NT_TEST_TIMEOUT)
{
	pid_t owner = atomic_load(&self->owner.tid), waiter = atomic_load(&self->waiter.tid);
	char want[256], *pos = self->text;
	unsigned int obj;

	acquires(&self->owner, self->mutex[0]);
	self->waiter.objs[0] = self->mutex[1];
	self->waiter.objs[1] = self->mutex[0];
	self->waiter.nb_objs = 2;
	self->waiter.all = true;
	actor_begin(&self->waiter, do_wait);
	ASSERT_TRUE(actor_asleep(&self->waiter));
	ASSERT_EQ(0, set_sched(waiter, SCHED_FIFO, 60));
	ASSERT_EQ(0, set_sched(waiter, SCHED_OTHER, 0));
	ASSERT_EQ(0, set_sched(waiter, SCHED_FIFO, 70));
	releases(&self->owner, self->mutex[0]);
	ASSERT_EQ(0, actor_end(&self->waiter));
	/* What begins no wait is no event. */
	releases(&self->waiter, self->mutex[0]);
	acquires(&self->owner, self->mutex[0]);
	self->waiter.timeout = NT_EXPIRED;
	self->waiter.nb_objs = 1;
	self->waiter.all = false;
	ASSERT_EQ(-ETIMEDOUT, actor_do(&self->waiter, do_wait));
	/* So far away that it is not over before the wait begins. */
	self->waiter.timeout = nt_now(CLOCK_MONOTONIC) + NT_NSEC_PER_SEC;
	ASSERT_EQ(-ETIMEDOUT, actor_do(&self->waiter, do_wait));
	ASSERT_TRUE(nt_write_file(EVENTS "/enable", "0"));

	ASSERT_TRUE(read_trace(self->text));
	obj = first_number(self->text, "ntsync_boost: obj=");
	EXPECT_NE(0U, obj);

	NEXT(waiter, "ntsync_boost: obj=%u cause=wait donor=%d owner=%d lent=19 prio=19",
	     obj, waiter, owner);
	NEXT(waiter, "ntsync_wait_begin: owner=22 all prio=19 objs={0x%x,0x%x}", obj + 1, obj);
	NEXT(getpid(), "ntsync_boost: obj=%u cause=prio donor=%d owner=%d lent=39 prio=39",
	     obj, waiter, owner);
	NEXT(getpid(), "ntsync_boost_end: obj=%u cause=prio owner=%d prio=120", obj, owner);
	NEXT(getpid(), "ntsync_boost: obj=%u cause=prio donor=%d owner=%d lent=29 prio=29",
	     obj, waiter, owner);
	NEXT(owner, "ntsync_boost_end: obj=%u cause=release owner=%d prio=120", obj, owner);
	NEXT(waiter, "ntsync_wait_end: owner=22 ret=0 index=0");
	NEXT(waiter, "ntsync_boost: obj=%u cause=wait donor=%d owner=%d lent=29 prio=29",
	     obj, waiter, owner);
	NEXT(waiter, "ntsync_wait_begin: owner=22 any prio=29 objs={0x%x}", obj);
	NEXT(waiter, "ntsync_boost_end: obj=%u cause=leave owner=%d prio=120", obj, owner);
	NEXT(waiter, "ntsync_wait_end: owner=22 ret=-110 index=-1");
	NO_MORE();
}

/*
 * Who waits for all comes before who waits for any. If both have the same to lend, who has lent it
 * already remains the one who does.
 */
TEST_F_TIMEOUT(trace, equal_waiter, NT_TEST_TIMEOUT)
{
	pid_t owner = atomic_load(&self->owner.tid), waiter = atomic_load(&self->waiter.tid);
	struct actor other = { .id = 33, .timeout = NO_TIMEOUT, .all = true };
	char want[256], *pos = self->text;
	unsigned int obj, obj2;
	pid_t second;

	ASSERT_EQ(0, actor_start(&other, self->dev, 80));
	second = atomic_load(&other.tid);
	acquires(&self->owner, self->mutex[0]);
	waits_for(&self->waiter, self->mutex[0]);
	other.objs[0] = self->mutex[0];
	other.objs[1] = self->mutex[1];
	other.nb_objs = 2;
	actor_begin(&other, do_wait);
	ASSERT_TRUE(actor_asleep(&other));
	pthread_kill(other.thread, SIGUSR1);
	ASSERT_EQ(-EINTR, actor_end(&other));
	pthread_kill(self->waiter.thread, SIGUSR1);
	ASSERT_EQ(-EINTR, actor_end(&self->waiter));
	ASSERT_TRUE(nt_write_file(EVENTS "/enable", "0"));

	ASSERT_TRUE(read_trace(self->text));
	obj = first_number(self->text, "ntsync_boost: obj=");
	EXPECT_NE(0U, obj);
	obj2 = obj + 1;
	NEXT(waiter, "ntsync_boost: obj=%u cause=wait donor=%d owner=%d lent=19 prio=19",
	     obj, waiter, owner);
	NEXT(waiter, "ntsync_wait_begin: owner=22 any prio=19 objs={0x%x}", obj);
	NEXT(second, "ntsync_wait_begin: owner=33 all prio=19 objs={0x%x,0x%x}", obj, obj2);
	NEXT(second, "ntsync_wait_end: owner=33 ret=-512 index=-1");
	NEXT(waiter, "ntsync_boost_end: obj=%u cause=leave owner=%d prio=120", obj, owner);
	NEXT(waiter, "ntsync_wait_end: owner=22 ret=-512 index=-1");
	NO_MORE();
}

/* The owner exits: that ends what is lent, and the owner's id stays. */
TEST_F_TIMEOUT(trace, owner_exits, NT_TEST_TIMEOUT)
{
	pid_t owner = atomic_load(&self->owner.tid), waiter = atomic_load(&self->waiter.tid);
	char want[256], *pos = self->text;
	unsigned int obj;

	acquires(&self->owner, self->mutex[0]);
	waits_for(&self->waiter, self->mutex[0]);
	actor_stop(&self->owner);
	/* That one is joined before it comes to the end of its loans. */
	ASSERT_TRUE(poll_until(!nt_task_state(getpid(), owner)));
	pthread_kill(self->waiter.thread, SIGUSR1);
	ASSERT_EQ(-EINTR, actor_end(&self->waiter));
	ASSERT_TRUE(nt_write_file(EVENTS "/enable", "0"));

	ASSERT_TRUE(read_trace(self->text));
	obj = first_number(self->text, "ntsync_boost: obj=");
	EXPECT_NE(0U, obj);
	NEXT(waiter, "ntsync_boost: obj=%u cause=wait donor=%d owner=%d lent=19 prio=19",
	     obj, waiter, owner);
	NEXT(waiter, "ntsync_wait_begin: owner=22 any prio=19 objs={0x%x}", obj);
	NEXT(owner, "ntsync_boost_end: obj=%u cause=gone owner=%d prio=120", obj, owner);
	/* -ERESTARTSYS, which nobody sees elsewhere */
	NEXT(waiter, "ntsync_wait_end: owner=22 ret=-512 index=-1");
	NO_MORE();
}

/*
 * Two that wait for each other, and somebody who joins them and leaves. At that point the first one
 * still has it from the second, which has it from the first: that one is held back.
 */
TEST_F_TIMEOUT(trace, deadlock, NT_TEST_TIMEOUT)
{
	pid_t owner = atomic_load(&self->owner.tid), waiter = atomic_load(&self->waiter.tid);
	struct actor other = { .id = 33, .timeout = NO_TIMEOUT };
	char want[256], *pos = self->text;
	unsigned int obj, obj2;
	pid_t second;

	ASSERT_EQ(0, actor_start(&other, self->dev, 0));
	self->owner.timeout = NO_TIMEOUT;
	acquires(&self->owner, self->mutex[0]);
	acquires(&other, self->mutex[1]);
	waits_for(&self->owner, self->mutex[1]);
	waits_for(&other, self->mutex[0]);
	waits_for(&self->waiter, self->mutex[0]);
	pthread_kill(self->waiter.thread, SIGUSR1);
	ASSERT_EQ(-EINTR, actor_end(&self->waiter));
	ASSERT_TRUE(nt_write_file(EVENTS "/enable", "0"));

	ASSERT_TRUE(read_trace(self->text));
	second = atomic_load(&other.tid);
	obj = first_number(self->text, "ntsync_boost: obj=");
	EXPECT_NE(0U, obj);
	obj2 = obj + 1;
	NEXT(owner, "ntsync_wait_begin: owner=11 any prio=120 objs={0x%x}", obj2);
	NEXT(second, "ntsync_wait_begin: owner=33 any prio=120 objs={0x%x}", obj);
	NEXT(waiter, "ntsync_boost: obj=%u cause=wait donor=%d owner=%d lent=19 prio=19",
	     obj, waiter, owner);
	NEXT(waiter, "ntsync_wait_begin: owner=22 any prio=19 objs={0x%x}", obj);
	NEXT(waiter, "ntsync_boost: obj=%u cause=prio donor=%d owner=%d lent=19 prio=19",
	     obj2, owner, second);
	NEXT(waiter, "ntsync_boost: obj=%u cause=leave donor=%d owner=%d lent=19 prio=19",
	     obj, second, owner);
	NEXT(waiter, "ntsync_boost_end: obj=%u cause=cycle owner=%d prio=120", obj, owner);
	NEXT(waiter, "ntsync_boost_end: obj=%u cause=prio owner=%d prio=120", obj2, second);
	NEXT(waiter, "ntsync_wait_end: owner=22 ret=-512 index=-1");
	NO_MORE();
}

/* A request to a receiver that sleeps, which is lent what it has, twice. */
TEST_F_TIMEOUT(trace, request, NT_TEST_TIMEOUT)
{
	int ch = ch_create(self->dev, 1);
	char want[256], *pos = self->text;
	pid_t sender, receiver;
	unsigned int obj;

	if (ch == -ENOTTY)
		SKIP(return, "no channels in this kernel");
	ASSERT_LE(0, ch);
	self->sender.a.objs[0] = ch;
	self->receiver.a.objs[0] = ch;
	ASSERT_EQ(0, actor_start(&self->sender.a, self->dev, 80));
	ASSERT_EQ(0, actor_start(&self->receiver.a, self->dev, 0));
	sender = atomic_load(&self->sender.a.tid);
	receiver = atomic_load(&self->receiver.a.tid);

	actor_begin(&self->receiver.a, do_recv);
	ASSERT_TRUE(actor_asleep(&self->receiver.a));
	actor_begin(&self->sender.a, do_send);
	ASSERT_EQ(0, actor_end(&self->receiver.a));
	ASSERT_TRUE(actor_asleep(&self->sender.a));
	self->receiver.reply = self->receiver.req.entry_id;
	ASSERT_EQ(0, actor_do(&self->receiver.a, do_reply));
	ASSERT_EQ(0, actor_end(&self->sender.a));
	ASSERT_TRUE(nt_write_file(EVENTS "/enable", "0"));

	ASSERT_TRUE(read_trace(self->text));
	obj = first_number(self->text, "ntsync_channel_send: channel=");
	EXPECT_NE(0U, obj);
	NEXT(sender, "ntsync_channel_send: channel=%u id=1 sender=%d prio=19", obj, sender);
	NEXT(sender, "ntsync_boost: obj=%u cause=wait donor=%d owner=%d lent=19 prio=19",
	     obj, sender, receiver);
	NEXT(receiver, "ntsync_boost: obj=%u cause=acquire donor=%d owner=%d lent=19 prio=19",
	     obj, sender, receiver);
	NEXT(receiver, "ntsync_boost_end: obj=%u cause=leave owner=%d prio=19", obj, receiver);
	NEXT(receiver, "ntsync_channel_recv: channel=%u id=1 sender=%d prio=19", obj, sender);
	NEXT(receiver, "ntsync_channel_reply: channel=%u id=1 sender=%d prio=19", obj, sender);
	NEXT(receiver, "ntsync_boost_end: obj=%u cause=release owner=%d prio=120", obj, receiver);
	NEXT(sender, "ntsync_channel_send_end: channel=%u id=1 ret=0", obj);
	NO_MORE();
	close(ch);
}

static int do_aggregate(struct actor *a)
{
	struct ntsync_source sources[] = {
		{ .type = NTSYNC_SOURCE_OBJECT, .fd = a->objs[0] },
		{ .type = NTSYNC_SOURCE_FD, .fd = a->objs[1], .events = POLLIN },
	};
	struct ntsync_aggregate_wait_args args = {
		.timeout = nt_bound(), .sources = (uintptr_t)sources, .nb_sources = 2,
		.owner = a->id,
	};

	return nt_ioctl(a->dev, NTSYNC_IOC_AGGREGATE_WAIT, &args);
}

/* The descriptor that ends it has no number, but an index. */
TEST_F_TIMEOUT(trace, aggregate, NT_TEST_TIMEOUT)
{
	pid_t waiter = atomic_load(&self->waiter.tid);
	char want[256], *pos = self->text;
	int efd = eventfd(0, EFD_CLOEXEC);
	unsigned int obj;

	ASSERT_LE(0, efd);
	acquires(&self->owner, self->mutex[0]);
	self->waiter.objs[0] = self->mutex[0];
	self->waiter.objs[1] = efd;
	actor_begin(&self->waiter, do_aggregate);
	if (!actor_asleep(&self->waiter)) {
		ASSERT_EQ(-ENOTTY, actor_end(&self->waiter));
		SKIP(return, "no AGGREGATE_WAIT in this kernel");
	}
	ASSERT_EQ(0, eventfd_write(efd, 1));
	ASSERT_EQ(0, actor_end(&self->waiter));
	ASSERT_TRUE(nt_write_file(EVENTS "/enable", "0"));

	ASSERT_TRUE(read_trace(self->text));
	obj = first_number(self->text, "ntsync_boost: obj=");
	EXPECT_NE(0U, obj);
	NEXT(waiter, "ntsync_boost: obj=%u cause=wait donor=%d owner=%d lent=19 prio=19",
	     obj, waiter, atomic_load(&self->owner.tid));
	NEXT(waiter, "ntsync_wait_begin: owner=22 aggregate prio=19 objs={0x%x}", obj);
	NEXT(waiter, "ntsync_boost_end: obj=%u cause=leave owner=%d prio=120", obj,
	     atomic_load(&self->owner.tid));
	NEXT(waiter, "ntsync_wait_end: owner=22 ret=0 index=1");
	NO_MORE();
	close(efd);
}

TEST_HARNESS_MAIN
