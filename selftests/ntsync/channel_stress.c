// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Channels when everything happens at the same time.
 *
 * Processes send and receive, get signals with and without SA_RESTART, are stopped,
 * killed and given other priorities, while another process registers and deregisters
 * tokens. What becomes of each request is kept in shared memory, which says when one
 * is received twice, a reply is lost or goes to somebody else.
 *
 * It goes in rounds of half a second. After each of them nobody sends any more, and
 * everything must drain: in one half of the rounds by those that receive, in the
 * other half they are killed, and one fresh receiver has to do it. Then each task
 * must be back at its own priority.
 *
 * The duration is 2 seconds, scaled by NTSYNC_SCALE (in percent), or NTSYNC_STRESS_SECONDS.
 * The first seed is NTSYNC_SEED.
 */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <sys/mman.h>
#include <sys/wait.h>
#include "channel_test.h"

#define NB_SENDERS	4
#define NB_RECEIVERS	4
#define DEPTH		3	/* so that it is full from time to time */
#define MAX_IN_HAND	3
#define SECONDS		2
#define ROUND_NSEC	(NT_NSEC_PER_SEC / 2)

/* No bound of the harness fits NTSYNC_STRESS_SECONDS: see alarm(). */
#define NO_LIMIT	(7 * 86400)

#define SLABINFO	"/proc/slabinfo"
#define SLAB_DIR	"/sys/kernel/slab"

/* What is known of a request: its number, and these bits. */
#define RECEIVED	0x01U
#define REPLYING	0x02U	/* REPLY is about to be called */
#define REPLIED		0x04U	/* REPLY returned 0 */
#define OK		0x08U	/* the send returned 0 */
#define NR_SHIFT	4

#define RING		65536	/* as many requests of each sender are known */

#define TOKEN(tid)	(0x5eed000000000000ULL | (tid))
#define ANSWER(nr)	((nr) ^ 0xa5a5a5a5U)

enum bad {
	SEND_ERROR, RECV_ERROR, REPLY_ERROR, REGISTER_ERROR, WRONG_PAYLOAD, WRONG_TID, WRONG_PRIO,
	WRONG_TOKEN, RECEIVED_TWICE, REPLIED_TWICE, OLD_ID, NOT_REPLIED, WRONG_ANSWER, NB_BAD
};

static const char * const bad_names[NB_BAD] = {
	[SEND_ERROR] = "unexpected results of SEND_PI",
	[RECV_ERROR] = "unexpected results of RECV*",
	[REPLY_ERROR] = "unexpected results of REPLY",
	[REGISTER_ERROR] = "unexpected results of (DE)REGISTER_THREAD",
	[WRONG_PAYLOAD] = "payloads that nobody has sent",
	[WRONG_TID] = "wrong senders",
	[WRONG_PRIO] = "wrong priorities",
	[WRONG_TOKEN] = "wrong tokens",
	[RECEIVED_TWICE] = "requests received twice",
	[REPLIED_TWICE] = "requests replied to twice",
	[OLD_ID] = "replies to an id that is over",
	[NOT_REPLIED] = "sends that ended with 0 without a reply",
	[WRONG_ANSWER] = "sends that ended with another's reply",
};

enum phase { RUN, CALM, END };

struct sender {
	pid_t pid;
	bool stopped;
	atomic_int tid;
	atomic_uint calm;	/* the round in which it sends nothing any more */
	atomic_uint nr;		/* of its last request */
	atomic_uint sends;
	atomic_uint ok;
	atomic_uint errors;
	unsigned int lost;	/* it was killed in them */
	atomic_uint ring[RING];
	atomic_uint answer[RING];
};

struct receiver {
	atomic_int tid;
	atomic_uint inside;	/* sleeps in RECV* or is about to */
	atomic_uint in_hand;
	atomic_uint gone;	/* the thread is about to exit */
	pthread_t thread;
	unsigned int seed;
};

/* A process that receives: the first one in two threads. */
struct server {
	pid_t pid;
	bool stopped;
	int first;
	int nb;
};

#define NB_SERVERS	3

static struct shared {
	int ch;
	atomic_uint phase;
	atomic_uint round;
	atomic_uint bad[NB_BAD];
	atomic_int example[NB_BAD];	/* a value of each */
	atomic_uint unconfirmed;	/* sends that ended with 0, without REPLIED */
	atomic_uint unseen;		/* REPLIED, but the send ended otherwise */
	struct sender sender[NB_SENDERS];
	struct receiver receiver[NB_RECEIVERS];
	struct server server[NB_SERVERS];
	pid_t churn;
} *s;

/* Of the controlling process */
static unsigned int seed;
static unsigned int nb_started, nb_sender_kills, nb_receiver_kills, nb_sender_stops;

static unsigned int rnd(unsigned int *seed, unsigned int n)
{
	*seed = *seed * 1664525 + 1013904223;
	return (*seed >> 8) % n;
}

static void nap(unsigned int usec)
{
	nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + usec * 1000ULL);
}

static enum phase phase(void)
{
	return atomic_load(&s->phase);
}

static void bad(enum bad what, int value)
{
	atomic_store(&s->example[what], value);
	atomic_fetch_add(&s->bad[what], 1);
}

static void set_random_prio(pid_t tid, unsigned int *seed)
{
	/* few, so that some are equal */
	int prio = rnd(seed, 3) ? 10 * (1 + rnd(seed, 8)) : 0;

	set_sched(tid, !prio ? SCHED_OTHER : rnd(seed, 2) ? SCHED_FIFO : SCHED_RR, prio);
}

/*
 * Note what has become of a request, and return what was known before. 0 if it was
 * so long ago that it is not known any more.
 */
static unsigned int note(struct sender *sender, unsigned int nr, unsigned int bits)
{
	atomic_uint *slot = &sender->ring[nr % RING];
	unsigned int seen = atomic_load(slot);

	do {
		if (seen >> NR_SHIFT != nr)
			return 0;
	} while (!atomic_compare_exchange_weak(slot, &seen, seen | bits));
	return seen;
}

/* Nothing will happen to a request any more. */
static void forget(struct sender *sender, unsigned int nr)
{
	unsigned int seen = atomic_exchange(&sender->ring[nr % RING], 0);

	if ((seen & OK) && !(seen & REPLIED))
		atomic_fetch_add(&s->unconfirmed, 1);
	if (!(seen & OK) && (seen & REPLIED))
		atomic_fetch_add(&s->unseen, 1);
}

static void send_one(struct sender *sender, unsigned int *seed)
{
	unsigned int nr = atomic_fetch_add(&sender->nr, 1) + 1, seen;
	__u64 index = sender - s->sender;
	__u32 policy = rnd(seed, 3), prio = policy ? 1 + rnd(seed, 99) : 0;
	int ret;

	forget(sender, nr);
	atomic_store(&sender->answer[nr % RING], 0);
	atomic_store(&sender->ring[nr % RING], nr << NR_SHIFT);
	atomic_fetch_add(&sender->sends, 1);

	/* SCHED_FIFO and SCHED_RR are 1 and 2 */
	ret = ch_send_pi(s->ch, policy, prio, index << 32 | nr,
			 (__u64)atomic_load(&sender->tid) << 32 | nr);
	if (ret) {
		if (ret != -EINTR && ret != -EAGAIN && ret != -EPIPE)
			bad(SEND_ERROR, ret);
		atomic_fetch_add(&sender->errors, 1);
		if (ret == -EAGAIN)
			nap(rnd(seed, 200));
		return;
	}
	seen = note(sender, nr, OK);
	if (!(seen & RECEIVED) || !(seen & REPLYING))
		bad(NOT_REPLIED, nr);
	if (atomic_load(&sender->answer[nr % RING]) != ANSWER(nr))
		bad(WRONG_ANSWER, nr);
	atomic_fetch_add(&sender->ok, 1);
}

static void sender_loop(struct sender *sender, unsigned int seed)
{
	struct sigaction sa = { .sa_handler = nothing };

	for (;;) {
		switch (phase()) {
		case END:
			return;
		case CALM:
			atomic_store(&sender->calm, atomic_load(&s->round));
			nap(500);
			break;
		case RUN:
			if (!rnd(&seed, 8)) {
				sa.sa_flags = rnd(&seed, 2) ? SA_RESTART : 0;
				sigaction(SIGUSR1, &sa, NULL);
			}
			send_one(sender, &seed);
			if (!rnd(&seed, 4))
				nap(rnd(&seed, 200));
			break;
		}
	}
}

struct in_hand {
	__u64 id;
	struct sender *sender;
	unsigned int nr;
};

/* A request was received: is it right? */
static void check_request(const struct ntsync_channel_recv2_args *req, bool has_token,
			  struct in_hand *h)
{
	unsigned int index = req->payload_off >> 32;

	h->id = req->entry_id;
	h->nr = req->payload_off;
	h->sender = index < NB_SENDERS ? &s->sender[index] : NULL;
	if (!h->sender || (__u32)req->reply_off != h->nr || h->nr > atomic_load(&h->sender->nr)) {
		bad(WRONG_PAYLOAD, h->nr);
		h->sender = NULL;
		return;
	}
	if (req->sender_tid != req->reply_off >> 32)
		bad(WRONG_TID, req->sender_tid);
	if (req->prio > 99)
		bad(WRONG_PRIO, req->prio);
	if (has_token && req->thread_token && req->thread_token != TOKEN(req->sender_tid))
		bad(WRONG_TOKEN, req->thread_token);
	if (note(h->sender, h->nr, RECEIVED) & RECEIVED)
		bad(RECEIVED_TWICE, h->nr);
}

static int receive(struct receiver *r, struct in_hand *h, bool try)
{
	struct ntsync_channel_recv2_args req;
	struct ntsync_channel_recv_args old;
	bool has_token = true;
	int ret;

	if (try) {
		ret = ch_try_recv2(s->ch, &req);
		if (ret && ret != -EAGAIN)
			bad(RECV_ERROR, ret);
	} else {
		atomic_store(&r->inside, 1);
		if (rnd(&r->seed, 4)) {
			ret = ch_recv2(s->ch, &req);
		} else {
			ret = ch_recv(s->ch, &old);
			memcpy(&req, &old, sizeof(old));
			has_token = false;
		}
		/* in_hand first: whoever sees that it is not inside sees that too */
		atomic_store(&r->in_hand, atomic_load(&r->in_hand) + !ret);
		atomic_store(&r->inside, 0);
		if (ret && ret != -EINTR)
			bad(RECV_ERROR, ret);
	}
	if (!ret)
		check_request(&req, has_token, h);
	return ret;
}

static void reply(struct receiver *r, struct in_hand *h)
{
	int ret;

	if (h->sender && note(h->sender, h->nr, REPLYING))
		atomic_store(&h->sender->answer[h->nr % RING], ANSWER(h->nr));
	ret = ch_reply(s->ch, h->id);
	if (ret && ret != -ENOENT)
		bad(REPLY_ERROR, ret);
	if (!ret && h->sender && (note(h->sender, h->nr, REPLIED) & REPLIED))
		bad(REPLIED_TWICE, h->nr);
	if (!rnd(&r->seed, 8)) {
		ret = ch_reply(s->ch, h->id);
		if (ret != -ENOENT)
			bad(OLD_ID, ret);
	}
}

/* Returns when it was told to, or when a thread is to exit with requests in hand. */
static void receiver_loop(struct receiver *r, bool exits)
{
	struct in_hand hand[MAX_IN_HAND];
	unsigned int n = 0, i;

	atomic_store(&r->inside, 0);
	atomic_store(&r->in_hand, 0);
	set_random_prio(0, &r->seed);
	atomic_store(&r->tid, syscall(SYS_gettid));
	while (phase() != END) {
		/* Who has one in hand must not wait for another one. */
		if (n || (phase() == RUN && !rnd(&r->seed, 4))) {
			if (!receive(r, &hand[n], true))
				n++;
			else if (!n)
				nap(rnd(&r->seed, 200));
		} else if (!receive(r, &hand[0], false)) {
			n = 1;
		}
		atomic_store(&r->in_hand, n);
		if (n && n < MAX_IN_HAND && phase() == RUN && !rnd(&r->seed, 3))
			continue;
		if (n && exits && phase() == RUN && !rnd(&r->seed, 50))
			return;
		if (n && !rnd(&r->seed, 4))
			nap(rnd(&r->seed, 200));
		while (n) {
			i = rnd(&r->seed, n);
			reply(r, &hand[i]);
			hand[i] = hand[--n];
		}
		atomic_store(&r->in_hand, 0);
	}
}

static void *receiver_thread(void *arg)
{
	struct receiver *r = arg;

	receiver_loop(r, true);
	atomic_store(&r->tid, 0);
	atomic_store(&r->gone, 1);
	return NULL;
}

/* The main thread starts others when they exit. It is no receiver. */
static void supervise(struct server *server)
{
	int i;

	for (i = 0; i < server->nb; i++)
		pthread_create(&s->receiver[server->first + i].thread, NULL, receiver_thread,
			       &s->receiver[server->first + i]);
	while (phase() != END) {
		for (i = 0; i < server->nb; i++) {
			struct receiver *r = &s->receiver[server->first + i];

			if (!atomic_load(&r->gone))
				continue;
			pthread_join(r->thread, NULL);
			atomic_store(&r->gone, 0);
			pthread_create(&r->thread, NULL, receiver_thread, r);
		}
		nap(1000);
	}
}

static void churn_loop(unsigned int seed)
{
	while (phase() != END) {
		pid_t tid = atomic_load(&s->sender[rnd(&seed, NB_SENDERS)].tid);
		int ret = 0;

		if (phase() == CALM || !tid)
			nap(1000);
		else if (rnd(&seed, 2))
			ret = ch_register(s->ch, tid, TOKEN((__u32)tid));
		else
			ret = ch_deregister(s->ch, tid);
		if (ret)
			bad(REGISTER_ERROR, ret);
		if (!rnd(&seed, 8))
			nap(rnd(&seed, 300));
	}
}

/* For a process that we have just forked, which dies with us. */
static unsigned int begin_child(unsigned int nr)
{
	unsigned int child_seed = seed + 7919 * nr;
	struct sigaction sa = { .sa_handler = nothing };

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigaction(SIGUSR1, &sa, NULL);
	set_random_prio(0, &child_seed);
	return child_seed;
}

static bool start_sender(struct sender *sender)
{
	unsigned int nr = ++nb_started;
	pid_t pid;

	sender->stopped = false;
	atomic_store(&sender->tid, 0);
	pid = fork();
	if (!pid) {
		unsigned int child_seed = begin_child(nr);

		atomic_store(&sender->tid, syscall(SYS_gettid));
		sender_loop(sender, child_seed);
		_exit(0);
	}
	sender->pid = pid;
	return pid > 0;
}

static bool start_server(struct server *server)
{
	unsigned int nr = ++nb_started;
	pid_t pid;
	int i;

	server->stopped = false;
	for (i = 0; i < server->nb; i++) {
		struct receiver *r = &s->receiver[server->first + i];

		atomic_store(&r->tid, 0);
		atomic_store(&r->inside, 0);
		atomic_store(&r->gone, 0);
	}
	pid = fork();
	if (!pid) {
		unsigned int child_seed = begin_child(nr);

		for (i = 0; i < server->nb; i++)
			s->receiver[server->first + i].seed = child_seed + i;
		if (server->nb > 1)
			supervise(server);
		else
			receiver_loop(&s->receiver[server->first], false);
		_exit(0);
	}
	server->pid = pid;
	return pid > 0;
}

static bool start_churn(void)
{
	unsigned int nr = ++nb_started;
	pid_t pid = fork();

	if (!pid) {
		churn_loop(begin_child(nr));
		_exit(0);
	}
	s->churn = pid;
	return pid > 0;
}

static bool reap(pid_t *pid)
{
	if (*pid <= 0)
		return true;
	if (!poll_until(nt_waitpid(*pid, NULL, WNOHANG) == *pid))
		return false;
	*pid = 0;
	return true;
}

static bool kill_sender(struct sender *sender)
{
	unsigned int open;

	kill(sender->pid, SIGKILL);
	if (!reap(&sender->pid))
		return false;
	nb_sender_kills++;
	open = atomic_load(&sender->sends) - atomic_load(&sender->ok) -
	       atomic_load(&sender->errors) - sender->lost;
	sender->lost += open;
	return open <= 1;
}

static bool kill_server(struct server *server)
{
	if (!server->pid)
		return true;
	kill(server->pid, SIGKILL);
	nb_receiver_kills += server->nb;
	return reap(&server->pid);
}

static void stop_or_go_on(pid_t pid, bool *stopped)
{
	kill(pid, *stopped ? SIGCONT : SIGSTOP);
	*stopped = !*stopped;
}

static void torment_sender(struct sender *sender)
{
	if (!sender->stopped)
		nb_sender_stops++;
	stop_or_go_on(sender->pid, &sender->stopped);
}

static struct server *server_of(int receiver)
{
	int i = NB_SERVERS - 1;

	while (s->server[i].first > receiver)
		i--;
	return &s->server[i];
}

/* Do something to somebody. False if one that was killed does not end. */
static bool plague(void)
{
	int n = rnd(&seed, NB_RECEIVERS);
	struct sender *sender = &s->sender[rnd(&seed, NB_SENDERS)];
	struct server *server = server_of(n);
	pid_t stid = atomic_load(&sender->tid), rtid = atomic_load(&s->receiver[n].tid);

	switch (rnd(&seed, 24)) {
	case 0:
		return kill_sender(sender) && start_sender(sender);
	case 1:
		return kill_server(server) && start_server(server);
	case 2:
	case 3:
	case 4:
	case 5:
		torment_sender(sender);
		break;
	case 6:
	case 7:
		stop_or_go_on(server->pid, &server->stopped);
		break;
	case 8:
	case 9:
	case 10:
		if (stid)
			set_random_prio(stid, &seed);
		break;
	case 11:
	case 12:
		if (rtid)
			set_random_prio(rtid, &seed);
		break;
	case 13:
	case 14:
	case 15:
		if (rtid)
			syscall(SYS_tgkill, server->pid, rtid, SIGUSR1);
		break;
	default:
		if (stid)
			syscall(SYS_tgkill, sender->pid, stid, SIGUSR1);
		break;
	}
	return true;
}

static void continue_all(void)
{
	int i;

	for (i = 0; i < NB_SENDERS; i++)
		if (s->sender[i].stopped)
			stop_or_go_on(s->sender[i].pid, &s->sender[i].stopped);
	for (i = 0; i < NB_SERVERS; i++)
		if (s->server[i].pid && s->server[i].stopped)
			stop_or_go_on(s->server[i].pid, &s->server[i].stopped);
}

/* Does it sleep in RECV*, with nothing in hand? */
static bool receiver_calm(int n)
{
	struct receiver *r = &s->receiver[n];
	struct server *server = server_of(n);

	return !server->pid ||
	       (atomic_load(&r->inside) && !atomic_load(&r->in_hand) &&
		nt_task_state(server->pid, atomic_load(&r->tid)) == 'S');
}

static bool all_calm(void)
{
	int i;

	for (i = 0; i < NB_SENDERS; i++)
		if (atomic_load(&s->sender[i].calm) != atomic_load(&s->round))
			return false;
	for (i = 0; i < NB_RECEIVERS; i++)
		if (!receiver_calm(i))
			return false;
	return true;
}

/* Nobody who sleeps now wakes anybody else: seen twice, it stays so. */
static bool await_calm(void)
{
	__u64 deadline = nt_bound();
	unsigned int seen = 0;

	while (seen < 2) {
		if (nt_now(CLOCK_MONOTONIC) > deadline)
			return false;
		nap(500);
		seen = all_calm() ? seen + 1 : 0;
	}
	return true;
}

/* What it has itself: a boost does not change what sched_getparam() says. */
static int own_prio(pid_t tid)
{
	struct sched_param param = { 0 };

	sched_getparam(tid, &param);
	return param.sched_priority ? FIFO(param.sched_priority) : NORMAL;
}

/* Who is where, if something is wrong. */
static void show(struct __test_metadata *_metadata)
{
	int i;

	for (i = 0; i < NB_SENDERS; i++) {
		struct sender *sender = &s->sender[i];

		TH_LOG("  sender %d: state %c, round %u of %u, %u sends, known of the last: %#x", i,
		       nt_task_state(sender->pid, atomic_load(&sender->tid)),
		       atomic_load(&sender->calm), atomic_load(&s->round),
		       atomic_load(&sender->sends),
		       atomic_load(&sender->ring[atomic_load(&sender->nr) % RING]) &
		       ((1U << NR_SHIFT) - 1));
	}
	for (i = 0; i < NB_RECEIVERS; i++) {
		struct receiver *r = &s->receiver[i];

		if (server_of(i)->pid)
			TH_LOG("  receiver %d: state %c, %s RECV, %u in hand", i,
			       nt_task_state(server_of(i)->pid, atomic_load(&r->tid)),
			       atomic_load(&r->inside) ? "in" : "not in",
			       atomic_load(&r->in_hand));
	}
}

static void check_prio(struct __test_metadata *_metadata, const char *who, int i,
		       pid_t pid, pid_t tid)
{
	EXPECT_EQ(own_prio(tid), nt_task_prio(pid, tid)) {
		TH_LOG("round %u: %s %d is not back at its own priority",
		       atomic_load(&s->round), who, i);
	}
}

static void check_prios(struct __test_metadata *_metadata)
{
	int i;

	for (i = 0; i < NB_SENDERS; i++)
		check_prio(_metadata, "sender", i, s->sender[i].pid,
			   atomic_load(&s->sender[i].tid));
	for (i = 0; i < NB_RECEIVERS; i++)
		if (server_of(i)->pid)
			check_prio(_metadata, "receiver", i, server_of(i)->pid,
				   atomic_load(&s->receiver[i].tid));
	for (i = 0; i < NB_SERVERS; i++)
		if (s->server[i].pid)
			check_prio(_metadata, "server", i, s->server[i].pid, s->server[i].pid);
	check_prio(_metadata, "the process that registers", 0, s->churn, s->churn);
	check_prio(_metadata, "the controlling process", 0, getpid(), getpid());
}

static void check_requests(struct __test_metadata *_metadata, bool calm)
{
	int i;

	for (i = 0; i < NB_BAD; i++) {
		EXPECT_EQ(0U, atomic_load(&s->bad[i])) {
			TH_LOG("round %u: %s, for example %d", atomic_load(&s->round),
			       bad_names[i], atomic_load(&s->example[i]));
		}
	}
	for (i = 0; i < NB_SENDERS && calm; i++) {
		struct sender *sender = &s->sender[i];

		EXPECT_EQ(atomic_load(&sender->sends),
			  atomic_load(&sender->ok) + atomic_load(&sender->errors) + sender->lost);
	}
}

/*
 * The objects of all caches of ours, -1 if that is not known. What is free in the
 * caches of each CPU counts as used unless they are emptied.
 */
static long slab_objects(void)
{
	FILE *file = fopen(SLABINFO, "r");
	char line[512], name[64], path[128];
	long sum = -1, active;

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%63s %ld", name, &active) != 2 || strncmp(name, "ntsync", 6))
			continue;
		snprintf(path, sizeof(path), SLAB_DIR "/%s/shrink", name);
		if (!nt_write_file(path, "1")) {
			sum = -1;
			break;
		}
	}
	if (file)
		rewind(file);
	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%63s %ld", name, &active) == 2 && !strncmp(name, "ntsync", 6) &&
		    snprintf(path, sizeof(path), SLAB_DIR "/%s/shrink", name) > 0 &&
		    !access(path, W_OK))
			sum = (sum < 0 ? 0 : sum) + active;
	}
	if (file)
		fclose(file);
	return sum;
}

FIXTURE(channel_stress) {
	int dev;
	long objects;
};

FIXTURE_SETUP(channel_stress)
{
	struct nt_sched sched = NT_FIFO(99);
	int i;

	open_device(self->dev);
	need_channels(self->dev);
	need_ioctl(self->dev, NTSYNC_IOC_CHANNEL_RECV2);
	need_ioctl(self->dev, NTSYNC_IOC_CHANNEL_TRY_RECV2);
	need_ioctl(self->dev, NTSYNC_IOC_CHANNEL_REGISTER_THREAD);
	if (nt_sched_probe(sched))
		SKIP(return, "no right to real-time priorities");
	ASSERT_EQ(0, nt_sched_self(&sched));
	close(self->dev);
	self->objects = slab_objects();
	open_device(self->dev);

	s = mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(s != MAP_FAILED);
	/* Ours: it is not closed whoever dies. */
	s->ch = ch_create(self->dev, DEPTH);
	ASSERT_LE(0, s->ch);
	for (i = 0; i < NB_SERVERS; i++) {
		s->server[i].first = i ? i + 1 : 0;
		s->server[i].nb = i ? 1 : 2;
	}
}

FIXTURE_TEARDOWN(channel_stress)
{
	int i;

	for (i = 0; i < NB_SENDERS; i++)
		if (s->sender[i].pid > 0)
			kill(s->sender[i].pid, SIGKILL);
	for (i = 0; i < NB_SERVERS; i++)
		if (s->server[i].pid > 0)
			kill(s->server[i].pid, SIGKILL);
	if (s->churn > 0)
		kill(s->churn, SIGKILL);
	for (i = 0; i < NB_SENDERS; i++)
		EXPECT_TRUE(reap(&s->sender[i].pid));
	for (i = 0; i < NB_SERVERS; i++)
		EXPECT_TRUE(reap(&s->server[i].pid));
	EXPECT_TRUE(reap(&s->churn));
	close(s->ch);
	close(self->dev);

	/* RCU frees late. */
	if (self->objects >= 0) {
		long now = -1;

		EXPECT_TRUE(poll_until((now = slab_objects()) <= self->objects)) {
			TH_LOG("%ld objects at the beginning, %ld at the end", self->objects, now);
		}
	}
}

/* Nobody sends, everything drains, by a fresh receiver or by those that are there. */
static void drain(struct __test_metadata *_metadata, bool fresh)
{
	bool calm;
	int i;

	atomic_store(&s->phase, CALM);
	if (fresh) {
		for (i = 0; i < NB_SERVERS; i++)
			ASSERT_TRUE(kill_server(&s->server[i]));
		ASSERT_TRUE(start_server(&s->server[NB_SERVERS - 1]));
	}
	continue_all();
	calm = await_calm();
	check_requests(_metadata, calm);
	ASSERT_TRUE(calm) {
		TH_LOG("round %u does not come to an end", atomic_load(&s->round));
		show(_metadata);
	}
	check_prios(_metadata);
	for (i = 0; i < NB_SERVERS; i++) {
		if (!s->server[i].pid) {
			ASSERT_TRUE(start_server(&s->server[i]));
		}
	}
}

TEST_F_TIMEOUT(channel_stress, random, NO_LIMIT)
{
	const char *seconds = getenv("NTSYNC_STRESS_SECONDS");
	__u64 msec = nt_scaled(SECONDS * 1000);
	__u64 start = nt_now(CLOCK_MONOTONIC), end;
	unsigned int i, nr, ok = 0;

	if (seconds)
		msec = atoi(seconds) * 1000ULL;
	seed = nt_seed();
	TH_LOG("seed %u", seed);
	/* The last round may begin at the end of it. */
	alarm(NT_TEST_TIMEOUT + msec / 1000);

	for (i = 0; i < NB_SENDERS; i++)
		ASSERT_TRUE(start_sender(&s->sender[i]));
	for (i = 0; i < NB_SERVERS; i++)
		ASSERT_TRUE(start_server(&s->server[i]));
	ASSERT_TRUE(start_churn());

	/* at least one of each kind */
	for (i = 1; i <= 2 || nt_now(CLOCK_MONOTONIC) < start + msec * 1000000; i++) {
		atomic_store(&s->round, i);
		atomic_store(&s->phase, RUN);
		end = nt_now(CLOCK_MONOTONIC) + ROUND_NSEC;
		while (nt_now(CLOCK_MONOTONIC) < end) {
			ASSERT_TRUE(plague());
			nap(rnd(&seed, 1000));
		}
		drain(_metadata, i % 2 == 0);
	}

	atomic_store(&s->phase, END);
	for (i = 0; i < NB_SENDERS; i++)
		ASSERT_TRUE(reap(&s->sender[i].pid));
	/* They sleep in RECV. */
	for (i = 0; i < NB_SERVERS; i++)
		ASSERT_TRUE(kill_server(&s->server[i]));
	ASSERT_TRUE(reap(&s->churn));

	for (i = 0; i < NB_SENDERS; i++) {
		for (nr = 0; nr < RING; nr++)
			forget(&s->sender[i], nr);
		ok += atomic_load(&s->sender[i].ok);
	}
	EXPECT_LT(0U, ok);
	/* One that was killed may have ended its call but not noted that. */
	EXPECT_LE(atomic_load(&s->unconfirmed), nb_receiver_kills);
	/*
	 * Not said: what a send returns that is replied to while it is stopped, if a
	 * handler runs before it goes on.
	 */
	EXPECT_LE(atomic_load(&s->unseen), nb_sender_kills + nb_sender_stops);
	check_requests(_metadata, true);
	TH_LOG("%u requests served, %u senders and %u receivers killed", ok, nb_sender_kills,
	       nb_receiver_kills);
}

TEST_HARNESS_MAIN
