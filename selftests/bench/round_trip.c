// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What it costs when two threads take turns, on one CPU: round trips by several means,
 * handing over a mutex that is always wanted, and requests that come in a burst.
 *
 *	INIT=build/bench/round_trip ICOUNT=1 LANE=vm scripts/boot
 *
 * The threads have the same priority unless said otherwise: none, or in operations named
 * -fifo a real-time one. Those that serve sleep for ever when their operation is over.
 */
#include "bench.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define PRIO		50
#define MAX_SOURCES	16
#define NB_BURST	32
#define TRACING		"/sys/kernel/tracing/events/ntsync/enable"

/*
 * Round trips
 */

struct way {
	int (*open)(void);
	void (*ask)(void);
	void (*serve)(void);
};

static int there, back, channel, pipes[2][2], sockets[2], epoll;
static struct ntsync_source sources[MAX_SOURCES];
static atomic_uint words[2];

static void *server(void *arg)
{
	const struct way *way = arg;

	for (;;)
		way->serve();
	return NULL;
}

static int open_way(void)
{
	const struct way *way = op->arg;
	int ret = way->open();

	if (!ret)
		start(server, (void *)way, op->prio);
	return ret;
}

static void run_way(void)
{
	const struct way *way = op->arg;

	way->ask();
}

static int open_event(void)
{
	there = new_event(false, false);
	back = new_event(false, false);
	return 0;
}

static void ask_event(void)
{
	set(there);
	acquire(back, 0);
}

static void serve_event(void)
{
	acquire(there, 0);
	set(back);
}

static int open_sem(void)
{
	there = new_sem(0, 1);
	back = new_sem(0, 1);
	return 0;
}

static void ask_sem(void)
{
	release(there);
	acquire(back, 0);
}

static void serve_sem(void)
{
	acquire(there, 0);
	release(back);
}

static int open_channel(void)
{
	channel = new_channel();
	return channel < 0 ? channel : 0;
}

static void ask_channel(void)
{
	struct ntsync_channel_send_args args = { .payload_off = 1, .reply_off = 2 };

	must(ioctl(channel, NTSYNC_IOC_CHANNEL_SEND_PI, &args), "SEND_PI");
}

static void serve_channel(void)
{
	struct ntsync_channel_recv_args args;

	must(ioctl(channel, NTSYNC_IOC_CHANNEL_RECV, &args), "RECV");
	must(ioctl(channel, NTSYNC_IOC_CHANNEL_REPLY, &args.entry_id), "REPLY");
}

static void put(int fd)
{
	uint64_t one = 1;

	must(write(fd, &one, sizeof(one)), "write");
}

static void get(int fd)
{
	uint64_t one;

	must(read(fd, &one, sizeof(one)), "read");
}

static int open_pipe(void)
{
	must(pipe(pipes[0]), "pipe");
	must(pipe(pipes[1]), "pipe");
	return 0;
}

static void ask_pipe(void)
{
	put(pipes[0][1]);
	get(pipes[1][0]);
}

static void serve_pipe(void)
{
	get(pipes[0][0]);
	put(pipes[1][1]);
}

static int open_eventfd(void)
{
	must(there = eventfd(0, 0), "eventfd");
	must(back = eventfd(0, 0), "eventfd");
	return 0;
}

static void ask_eventfd(void)
{
	put(there);
	get(back);
}

static void serve_eventfd(void)
{
	get(there);
	put(back);
}

static int open_sockets(void)
{
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), "socketpair");
	return 0;
}

static void ask_sockets(void)
{
	put(sockets[1]);
	get(sockets[1]);
}

static void serve_sockets(void)
{
	get(sockets[0]);
	put(sockets[0]);
}

static void post(atomic_uint *word)
{
	atomic_store(word, 1);
	futex(word, FUTEX_WAKE, 1);
}

static void take(atomic_uint *word)
{
	while (!atomic_exchange(word, 0))
		futex(word, FUTEX_WAIT, 0);
}

static int open_futex(void)
{
	atomic_store(&words[0], 0);
	atomic_store(&words[1], 0);
	return 0;
}

static void ask_futex(void)
{
	post(&words[0]);
	take(&words[1]);
}

static void serve_futex(void)
{
	take(&words[0]);
	post(&words[1]);
}

/* A server that waits for a request or any of op->n - 1 eventfds, which never come. */
static int open_aggregate(void)
{
	unsigned int i;
	int ret = open_channel();

	if (ret)
		return ret;
	sources[0] = (struct ntsync_source) { .type = NTSYNC_SOURCE_OBJECT, .fd = channel };
	for (i = 1; i < op->n; i++) {
		int fd = eventfd(0, 0);

		must(fd, "eventfd");
		sources[i] = (struct ntsync_source) {
			.type = NTSYNC_SOURCE_FD, .fd = fd, .events = POLLIN,
		};
	}
	return 0;
}

static void aggregate_wait(unsigned int nb)
{
	struct ntsync_aggregate_wait_args args = {
		.timeout = UINT64_MAX, .sources = (uintptr_t)sources, .nb_sources = nb,
	};

	must(ioctl(dev, NTSYNC_IOC_AGGREGATE_WAIT, &args), "AGGREGATE_WAIT");
	expect(!args.fired_index, op->name, "not the channel");
}

static void receive(void)
{
	struct ntsync_channel_recv2_args args;

	must(ioctl(channel, NTSYNC_IOC_CHANNEL_RECV2, &args), "RECV2");
	must(ioctl(channel, NTSYNC_IOC_CHANNEL_REPLY, &args.entry_id), "REPLY");
}

static void serve_aggregate(void)
{
	aggregate_wait(op->n);
	receive();
}

static void watch(int fd)
{
	struct epoll_event event = { .events = EPOLLIN, .data.fd = fd };

	must(fd, "descriptor");
	must(epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event), "epoll_ctl");
}

static int open_epoll(void)
{
	unsigned int i;

	open_sockets();
	must(epoll = epoll_create1(0), "epoll_create1");
	watch(sockets[0]);
	for (i = 1; i < op->n; i++)
		watch(eventfd(0, 0));
	return 0;
}

static void serve_epoll(void)
{
	struct epoll_event event;

	must(epoll_wait(epoll, &event, 1, -1), "epoll_wait");
	expect(event.data.fd == sockets[0], op->name, "not the socket");
	serve_sockets();
}

static const struct way
	by_event = { open_event, ask_event, serve_event },
	by_sem = { open_sem, ask_sem, serve_sem },
	by_channel = { open_channel, ask_channel, serve_channel },
	by_pipe = { open_pipe, ask_pipe, serve_pipe },
	by_eventfd = { open_eventfd, ask_eventfd, serve_eventfd },
	by_sockets = { open_sockets, ask_sockets, serve_sockets },
	by_futex = { open_futex, ask_futex, serve_futex },
	by_aggregate = { open_aggregate, ask_channel, serve_aggregate },
	by_epoll = { open_epoll, ask_sockets, serve_epoll };

/* The same with trace events switched on, if there are any. */
static int write_tracing(const char *what)
{
	int fd = open(TRACING, O_WRONLY | O_CLOEXEC), ret = 0;

	if (fd < 0 || write(fd, what, 1) < 0)
		ret = -errno;
	if (fd >= 0)
		close(fd);
	return ret;
}

static int open_traced(void)
{
	int ret = write_tracing("1");

	if (ret)
		return ret == -EACCES ? -EPERM : ret;
	ret = open_way();
	if (ret)
		write_tracing("0");
	return ret;
}

static void close_traced(void)
{
	must(write_tracing("0"), TRACING);
}

/*
 * What a switch from one thread to another costs: both do nothing but give way.
 */

static atomic_bool over;
static pthread_t peer;

static void *yielder(void *arg)
{
	(void)arg;
	while (!atomic_load(&over))
		sched_yield();
	return NULL;
}

static int open_yield(void)
{
	atomic_store(&over, false);
	peer = start(yielder, NULL, op->prio);
	return 0;
}

static void run_yield(void)
{
	sched_yield();
}

static void close_peer(void)
{
	atomic_store(&over, true);
	pthread_join(peer, NULL);
}

/*
 * Locks that are always wanted: mutexes of ntsync, or PI futexes used as C libraries do. The
 * owners' ids are 1, the measuring thread, and 2.
 */

struct lock_kind {
	void (*lock)(unsigned int which, unsigned int me);
	void (*unlock)(unsigned int which, unsigned int me);
};

static int mutexes[2];
static atomic_uint pi_words[2];
static __thread unsigned int tid;

static void lock_mutex(unsigned int which, unsigned int me)
{
	acquire(mutexes[which], me);
}

static void unlock_mutex(unsigned int which, unsigned int me)
{
	unlock(mutexes[which], me);
}

static void lock_futex(unsigned int which, unsigned int me)
{
	unsigned int none = 0;

	(void)me;
	if (!tid)
		tid = syscall(SYS_gettid);
	if (!atomic_compare_exchange_strong(&pi_words[which], &none, tid))
		must(futex(&pi_words[which], FUTEX_LOCK_PI, 0), "FUTEX_LOCK_PI");
}

static void unlock_futex(unsigned int which, unsigned int me)
{
	unsigned int mine = tid;

	(void)me;
	if (!atomic_compare_exchange_strong(&pi_words[which], &mine, 0))
		must(futex(&pi_words[which], FUTEX_UNLOCK_PI, 0), "FUTEX_UNLOCK_PI");
}

static const struct lock_kind
	ntsync_mutex = { lock_mutex, unlock_mutex },
	pi_futex = { lock_futex, unlock_futex };

static void open_locks(void)
{
	mutexes[0] = new_mutex(0, 0);
	mutexes[1] = new_mutex(0, 0);
	atomic_store(&pi_words[0], 0);
	atomic_store(&pi_words[1], 0);
	atomic_store(&over, false);
}

static void close_locks(void)
{
	close_peer();
	close(mutexes[0]);
	close(mutexes[1]);
}

/*
 * Two threads that are alike want the same lock. Each gives way while it owns it, until the
 * other one is about to wait for it; so the lock is always owned when somebody wants it, and
 * handed over when it is released. The new owner runs at once: either it preempts the old one,
 * or that one gives way. The scheduler can keep up either for thousands of turns, and would
 * choose another way each time, with another number of switches.
 */

static atomic_bool wants[3];
static atomic_ulong turns[3];
static unsigned long turns_before[3];

static void take_turn(unsigned int me)
{
	const struct lock_kind *kind = op->arg;
	unsigned long others;

	atomic_store(&wants[me], true);
	kind->lock(0, me);
	atomic_store(&wants[me], false);
	atomic_fetch_add(&turns[me], 1);
	do
		sched_yield();
	while (!atomic_load(&wants[3 - me]) && !atomic_load(&over));
	others = atomic_load(&turns[3 - me]);
	kind->unlock(0, me);
	if (atomic_load(&turns[3 - me]) == others)
		sched_yield();
}

static void *turn_taker(void *arg)
{
	(void)arg;
	while (!atomic_load(&over))
		take_turn(2);
	return NULL;
}

static int open_turns(void)
{
	open_locks();
	atomic_store(&turns[1], 0);
	atomic_store(&turns[2], 0);
	memset(turns_before, 0, sizeof(turns_before));
	atomic_store(&wants[1], false);
	atomic_store(&wants[2], false);
	peer = start(turn_taker, NULL, op->prio);
	return 0;
}

/* In each round the two must have had the same number of turns. */
static void check_turns(void)
{
	unsigned long now[3] = { 0, atomic_load(&turns[1]), atomic_load(&turns[2]) };
	long mine = now[1] - turns_before[1], others = now[2] - turns_before[2];

	expect(!turns_before[1] || labs(mine - others) <= 2 + mine / 20, op->name,
	       "the two threads do not take turns");
	memcpy(turns_before, now, sizeof(turns_before));
}

static void run_turn(void)
{
	take_turn(1);
}

static void close_turns(void)
{
	check_turns();
	close_locks();
}

/*
 * A real-time thread waits for what a normal thread owns. That one owns another lock already
 * when it releases this one, and the other one is the next to be waited for. So in each turn a
 * boost begins and ends and a lock is handed over; beside that the real-time thread releases
 * what it has got, and the normal one acquires a lock that is free.
 */

static void *normal_owner(void *arg)
{
	const struct lock_kind *kind = op->arg;
	unsigned int which = 0;

	(void)arg;
	kind->lock(which, 2);
	while (!atomic_load(&over)) {
		kind->lock(!which, 2);
		kind->unlock(which, 2);
		which = !which;
	}
	kind->unlock(which, 2);
	return NULL;
}

static unsigned int next_lock;

static int open_waiter(void)
{
	open_locks();
	next_lock = 0;
	peer = start(normal_owner, NULL, 0);
	/* From here on it only runs while the measuring thread sleeps. */
	settle();
	return 0;
}

static void run_waiter(void)
{
	const struct lock_kind *kind = op->arg;

	kind->lock(next_lock, 1);
	kind->unlock(next_lock, 1);
	next_lock = !next_lock;
}

/*
 * A burst of requests of normal threads, which a real-time server finds when it comes to look.
 */

static unsigned int nb_served;

static void *sender(void *arg)
{
	struct ntsync_channel_send_args args = { .payload_off = 1, .reply_off = 2 };
	int fd = (intptr_t)arg;

	for (;;)
		must(ioctl(fd, NTSYNC_IOC_CHANNEL_SEND_PI, &args), "SEND_PI");
	return NULL;
}

static int open_burst(void)
{
	unsigned int i;
	int ret = open_channel();

	if (ret)
		return ret;
	sources[0] = (struct ntsync_source) { .type = NTSYNC_SOURCE_OBJECT, .fd = channel };
	for (i = 0; i < NB_BURST; i++)
		start(sender, (void *)(intptr_t)channel, 0);
	return 0;
}

static void await_burst(void)
{
	nb_served = 0;
	settle();
}

static void run_burst(void)
{
	aggregate_wait(1);
	receive();
}

static void run_burst_try(void)
{
	struct ntsync_channel_recv2_args args;

	if (!nb_served)
		aggregate_wait(1);
	must(ioctl(channel, NTSYNC_IOC_CHANNEL_TRY_RECV2, &args), "TRY_RECV2");
	must(ioctl(channel, NTSYNC_IOC_CHANNEL_REPLY, &args.entry_id), "REPLY");
	if (++nb_served == NB_BURST)
		expect(ioctl(channel, NTSYNC_IOC_CHANNEL_TRY_RECV2, &args) < 0 && errno == EAGAIN,
		       op->name, "there are more requests than senders");
}

#define WAY_OF(_name, _n, _prio, _way) \
	{ .name = _name, .n = _n, .nb_ops = 300, .prio = _prio, .arg = &(_way), \
	  .setup = open_way, .run = run_way }

#define WAY(_name, _way) \
	WAY_OF(_name, 0, 0, _way), WAY_OF(_name "-fifo", 0, PRIO, _way)

#define TRACED(_name, _way) \
	{ .name = _name, .nb_ops = 300, .arg = &(_way), .setup = open_traced, .run = run_way, \
	  .teardown = close_traced }

/*
 * With upstream's driver it takes the scheduler some thousand turns to come to what it does from
 * then on: until then a waker is not always preempted with the lock held.
 */
#define TURNS(_name, _kind) \
	{ .name = _name, .nb_ops = 300, .nb_warm = 60, .per_op = 2, .arg = &(_kind), .sleep = MUST_SLEEP, \
	  .setup = open_turns, .before = check_turns, .run = run_turn, .teardown = close_turns }

#define WAITER(_name, _kind) \
	{ .name = _name, .nb_ops = 300, .arg = &(_kind), .sleep = MUST_SLEEP, .prio = PRIO, \
	  .setup = open_waiter, .run = run_waiter, .teardown = close_locks }

#define BURST(_name, _run) \
	{ .name = _name, .n = NB_BURST, .nb_ops = NB_BURST, .sleep = MUST_NOT_SLEEP, .prio = PRIO, \
	  .setup = open_burst, .before = await_burst, .run = _run }

static const struct op ops[] = {
	{ .name = "switch", .nb_ops = 500, .per_op = 2, .prio = PRIO,
	  .setup = open_yield, .run = run_yield, .teardown = close_peer },
	{ .name = "switch-normal", .nb_ops = 500, .per_op = 2,
	  .setup = open_yield, .run = run_yield, .teardown = close_peer },
	WAY("event-ping-pong", by_event),
	WAY("sem-ping-pong", by_sem),
	WAY("channel-round-trip", by_channel),
	WAY("pipe-round-trip", by_pipe),
	WAY("eventfd-round-trip", by_eventfd),
	WAY("socketpair-round-trip", by_sockets),
	WAY("futex-round-trip", by_futex),
	WAY_OF("aggregate-round-trip", 3, 0, by_aggregate),
	WAY_OF("epoll-round-trip", 3, 0, by_epoll),
	WAY_OF("aggregate-round-trip", 16, 0, by_aggregate),
	WAY_OF("epoll-round-trip", 16, 0, by_epoll),
	TURNS("handover", ntsync_mutex),
	TURNS("handover-futex-pi", pi_futex),
	WAITER("handover-to-fifo", ntsync_mutex),
	WAITER("handover-to-fifo-futex-pi", pi_futex),
	BURST("burst-recv2", run_burst),
	BURST("burst-try-recv2", run_burst_try),
	TRACED("event-ping-pong-traced", by_event),
	TRACED("channel-round-trip-traced", by_channel),
}, in_section[] = {
	WAY_OF("event-ping-pong-untraced", 0, 0, by_event),
	TRACED("event-ping-pong-traced", by_event),
	WAY_OF("channel-round-trip-untraced", 0, 0, by_channel),
	TRACED("channel-round-trip-traced", by_channel),
};

int main(void)
{
	open_device();
	/* A kernel that scripts/bench builds for sections has trace events, others there have not. */
	if (!access(SECTION, F_OK))
		return bench(in_section, ARRAY_LEN(in_section), 0);
	return bench(ops, ARRAY_LEN(ops), 0);
}
