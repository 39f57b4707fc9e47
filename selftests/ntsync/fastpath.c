// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Waits that need not sleep, and those that almost need not.
 *
 * A driver may look at the objects before it queues a wait anywhere, keep small waits where
 * large ones have no room, and never queue a wait whose timeout is over. Nobody may see a
 * difference. So every case is tried with as many objects as may be treated alike and with one
 * more, at the first, a middle and the last position, and with a timeout that is over as well as
 * with one that is far.
 *
 * fastpath.* holds for the driver as first released, too. fastpath_pi.* and fastpath_set_pi.*
 * are about priorities: everything is on one CPU below the controlling thread there.
 *
 * The numbers of rounds and their time are scaled by NTSYNC_SCALE (in percent).
 */
#include "descriptor_test.h"
#include <stddef.h>
#include <sys/mman.h>

#define OWNER		7	/* of mutexes: who waits, */
#define OTHER		107	/* and who has those that are not ready */
#define SEM_MAX		100

/* Races with each number of objects: whichever is over first, after a few of them. */
#define NB_RACES	1500
#define RACE_MSEC	60
#define MIN_RACES	20
#define FAR_MORE	1000000

/* Suspended waits of each kind: the same. */
#define NB_SUSPENDED	1500
#define SUSPENDED_MSEC	200

#define NB_SLEEPERS	4
#define NB_SEMS		3
#define NB_PERMITS	20000
#define SLEEPERS_MSEC	300

enum kind {
	SEM,
	MUTEX,
	DEAD,			/* a mutex that is abandoned */
	AUTO,			/* an event; so below */
	MANUAL,
	NB_KINDS
};

enum state {
	IDLE,
	READY,
	TAKEN,			/* by OWNER */
};

static const unsigned int counts[] = { 1, 2, 8, 9, 16, 17, 63, 64 };
static const unsigned int sizes[] = { 1, 8, 9, 64 };
static const clockid_t clocks[] = { CLOCK_MONOTONIC, CLOCK_REALTIME };

/* The first, a middle and the last position. */
#define NB_PLACES	3

static unsigned int place(unsigned int n, unsigned int k)
{
	return k == 0 ? 0 : k == 1 ? n / 2 : n - 1;
}

static int create(int dev, enum kind k)
{
	switch (k) {
	case SEM:
		return nt_create_sem(dev, 0, SEM_MAX);
	case MUTEX:
	case DEAD:
		return nt_create_mutex(dev, OTHER, 1);
	default:
		return nt_create_event(dev, k == MANUAL, false);
	}
}

static int make_ready(int fd, enum kind k)
{
	switch (k) {
	case SEM:
		return nt_release_sem(fd, 1, NULL);
	case MUTEX:
		return nt_unlock_mutex(fd, OTHER, NULL);
	case DEAD:
		return nt_kill_mutex(fd, OTHER);
	default:
		return set(fd);
	}
}

/* What a wait returns that took it. */
static int ret_of(enum kind k)
{
	return k == DEAD ? -EOWNERDEAD : 0;
}

/* Not ready any more, whoever has it. */
static int put_back(int dev, int fd, enum kind k)
{
	struct ntsync_sem_args sem;
	__u32 index, owner;
	int ret;

	switch (k) {
	case SEM:
		while (!(ret = nt_ioctl(fd, NTSYNC_IOC_SEM_READ, &sem)) && sem.count &&
		       !(ret = nt_try_any(dev, 1, &fd, OTHER, 0, &index)))
			;
		return ret;
	case MUTEX:
	case DEAD:
		while ((owner = nt_mutex_owner(fd))) {
			ret = nt_unlock_mutex(fd, owner, NULL);
			if (ret)
				return ret;
		}
		ret = nt_try_any(dev, 1, &fd, OTHER, 0, &index);
		return ret == -EOWNERDEAD ? 0 : ret;
	default:
		return nt_event(fd, NTSYNC_IOC_EVENT_RESET, NULL);
	}
}

static bool is(int fd, enum kind k, enum state state)
{
	struct ntsync_event_args event;
	struct ntsync_mutex_args mutex;
	struct ntsync_sem_args sem;
	__u32 owner;
	int ret;

	switch (k) {
	case SEM:
		ret = nt_ioctl(fd, NTSYNC_IOC_SEM_READ, &sem);
		return !ret && sem.count == (state == READY) && sem.max == SEM_MAX;
	case MUTEX:
	case DEAD:
		ret = nt_ioctl(fd, NTSYNC_IOC_MUTEX_READ, &mutex);
		owner = state == IDLE ? OTHER : state == TAKEN ? OWNER : 0;
		return ret == (state == READY ? ret_of(k) : 0) && mutex.owner == owner &&
		       mutex.count == !!owner;
	default:
		ret = nt_ioctl(fd, NTSYNC_IOC_EVENT_READ, &event);
		return !ret && event.manual == (k == MANUAL) &&
		       event.signaled == (k == MANUAL ? state != IDLE : state == READY);
	}
}

/*
 * Objects, and a wait for them.
 */

#define NB_OBJS		(NTSYNC_MAX_WAIT_COUNT + NB_KINDS)

FIXTURE(fastpath) {
	int dev;
	int objs[NB_OBJS];	/* one kind after the other */
	int alert[NB_KINDS];
	int never;		/* an event that nobody sets */
};

struct row {
	int dev;
	unsigned int n;
	unsigned int first;	/* the kind of the first one; the next kinds follow */
	int objs[NTSYNC_MAX_WAIT_COUNT];
	bool all;
	bool far;		/* was the last timeout */
	int alert;
	__u32 owner;
	__u32 index;		/* result; poisoned before */
};

FIXTURE_SETUP(fastpath)
{
	unsigned int i;

	open_device(self->dev);
	for (i = 0; i < NB_OBJS; i++) {
		self->objs[i] = create(self->dev, i % NB_KINDS);
		ASSERT_LE(0, self->objs[i]);
	}
	for (i = 0; i < NB_KINDS; i++) {
		self->alert[i] = create(self->dev, i);
		ASSERT_LE(0, self->alert[i]);
	}
	self->never = nt_create_event(self->dev, true, false);
	ASSERT_LE(0, self->never);
}

FIXTURE_TEARDOWN(fastpath)
{
}

static struct row get_row(FIXTURE_DATA(fastpath) *self, unsigned int n, unsigned int first)
{
	struct row r = { .dev = self->dev, .n = n, .first = first, .owner = OWNER };

	memcpy(r.objs, self->objs + first, n * sizeof(*r.objs));
	return r;
}

static enum kind kind_at(const struct row *r, unsigned int p)
{
	return (r->first + p) % NB_KINDS;
}

/* The first kind, when this one is to be there. */
static unsigned int first_for(enum kind k, unsigned int p)
{
	return (k + NB_KINDS - p % NB_KINDS) % NB_KINDS;
}

static int ready(struct row *r, unsigned int p)
{
	return make_ready(r->objs[p], kind_at(r, p));
}

static int back(struct row *r, unsigned int p)
{
	return put_back(r->dev, r->objs[p], kind_at(r, p));
}

#define NO_PLACE	(~0U)

/* All but one of them. */
static int ready_but(struct row *r, unsigned int but)
{
	unsigned int p;
	int ret = 0;

	for (p = 0; p < r->n && !ret; p++)
		if (p != but)
			ret = ready(r, p);
	return ret;
}

static int all_ready(struct row *r)
{
	return ready_but(r, NO_PLACE);
}

static int all_back(struct row *r)
{
	unsigned int p;
	int ret = 0;

	for (p = 0; p < r->n && !ret; p++)
		ret = back(r, p);
	return ret;
}

/* What a wait for all of them returns. */
static int ret_of_all(const struct row *r)
{
	unsigned int p;

	for (p = 0; p < r->n; p++)
		if (kind_at(r, p) == DEAD)
			return -EOWNERDEAD;
	return 0;
}

static struct ntsync_wait_args args_of(const struct row *r, __u64 timeout, __u32 flags)
{
	return (struct ntsync_wait_args){
		.timeout = timeout,
		.objs = (uintptr_t)r->objs,
		.count = r->n,
		.index = NT_POISON,
		.flags = flags,
		.owner = r->owner,
		.alert = r->alert,
	};
}

static int call(const struct row *r, void *args)
{
	return nt_ioctl(r->dev, r->all ? NTSYNC_IOC_WAIT_ALL : NTSYNC_IOC_WAIT_ANY, args);
}

static int wait_until(struct row *r, __u64 timeout, __u32 flags)
{
	struct ntsync_wait_args args = args_of(r, timeout, flags);
	int ret = call(r, &args);

	r->index = args.index;
	return ret;
}

/* For waits that return at once, whatever the timeout is: the other one each time. */
static int look(struct row *r)
{
	r->far = !r->far;
	return wait_until(r, r->far ? nt_bound() : NT_EXPIRED, 0);
}

/* The same by a thread that sleeps. */
static struct nt_waiter waiter_of(const struct row *r)
{
	return (struct nt_waiter){
		.wait = {
			.dev = r->dev, .all = r->all, .objs = r->objs, .count = r->n,
			.owner = r->owner, .alert = r->alert,
		},
	};
}

#define takes(r, _ret, _index) do {					\
	struct row *__r = (r);						\
									\
	EXPECT_EQ((_ret), look(__r)) {					\
		TH_LOG("%u objects, far %d", __r->n, __r->far);		\
	}								\
	EXPECT_EQ((__u32)(_index), __r->index);				\
} while (0)

#define in_vain(r) do {							\
	struct row *__r = (r);						\
									\
	EXPECT_EQ(-ETIMEDOUT, wait_until(__r, NT_EXPIRED, 0)) {		\
		TH_LOG("%u objects", __r->n);				\
	}								\
	EXPECT_EQ(NT_POISON, __r->index);				\
} while (0)

#define refused(r) do {							\
	struct row *__r = (r);						\
									\
	EXPECT_EQ(-EINVAL, look(__r)) {					\
		TH_LOG("%u objects, far %d", __r->n, __r->far);		\
	}								\
	EXPECT_EQ(NT_POISON, __r->index);				\
} while (0)

#define one_is(r, p, state) do {					\
	struct row *__o = (r);						\
	unsigned int __p = (p);						\
									\
	EXPECT_TRUE(is(__o->objs[__p], kind_at(__o, __p), (state))) {	\
		TH_LOG("position %u of %u, kind %d", __p, __o->n, kind_at(__o, __p)); \
	}								\
} while (0)

#define all_are_but(r, but, state) do {					\
	struct row *__a = (r);						\
	unsigned int __i, __but = (but);				\
									\
	for (__i = 0; __i < __a->n; __i++) {				\
		if (__i != __but)					\
			one_is(__a, __i, (state));			\
	}								\
} while (0)

#define all_are(r, state)	all_are_but(r, NO_PLACE, state)

/* Do not go on after the first that is wrong: there are many. */
#define so_far_so_good()	ASSERT_EQ(0, _metadata->exit_code)

/*
 * Which one.
 */

/* Every position alone, and every kind there. */
TEST_F_TIMEOUT(fastpath, one_ready, NT_TEST_TIMEOUT)
{
	unsigned int c, first, p;

	for (c = 0; c < ARRAY_LEN(counts); c++) {
		for (first = 0; first < NB_KINDS; first++) {
			struct row r = get_row(self, counts[c], first);

			for (p = 0; p < r.n; p++) {
				ASSERT_EQ(0, ready(&r, p));
				takes(&r, ret_of(kind_at(&r, p)), p);
				one_is(&r, p, TAKEN);
				ASSERT_EQ(0, back(&r, p));
			}
			in_vain(&r);
			all_are(&r, IDLE);
			so_far_so_good();
		}
	}
}

/* All pairs of a few, and of many those that are next to each other or far apart. */
TEST_F_TIMEOUT(fastpath, two_ready, NT_TEST_TIMEOUT)
{
	unsigned int c, i, j;

	for (c = 0; c < ARRAY_LEN(counts); c++) {
		unsigned int n = counts[c];

		for (i = 0; i < n; i++) {
			for (j = i + 1; j < n; j++) {
				struct row r = get_row(self, n, (i + j) % NB_KINDS);

				if (n > 17 && j != i + 1 && j != n - 1 && (i + j) % 7)
					continue;
				ASSERT_EQ(0, ready(&r, j));
				ASSERT_EQ(0, ready(&r, i));
				takes(&r, ret_of(kind_at(&r, i)), i);
				one_is(&r, i, TAKEN);
				one_is(&r, j, READY);
				ASSERT_EQ(0, back(&r, i));
				takes(&r, ret_of(kind_at(&r, j)), j);
				one_is(&r, j, TAKEN);
				ASSERT_EQ(0, back(&r, j));
				so_far_so_good();
			}
		}
	}
}

/* All of them are ready: one after the other, the alert at the end. */
TEST_F_TIMEOUT(fastpath, in_turn, NT_TEST_TIMEOUT)
{
	unsigned int c, p;

	for (c = 0; c < ARRAY_LEN(counts); c++) {
		struct row r = get_row(self, counts[c], c % NB_KINDS);
		enum kind k = c % NB_KINDS;

		r.alert = self->alert[k];
		ASSERT_EQ(0, all_ready(&r));
		ASSERT_EQ(0, make_ready(r.alert, k));
		for (p = 0; p < r.n; p++) {
			takes(&r, ret_of(kind_at(&r, p)), p);
			one_is(&r, p, TAKEN);
			ASSERT_EQ(0, back(&r, p));
		}
		EXPECT_TRUE(is(r.alert, k, READY));
		takes(&r, ret_of(k), r.n);
		EXPECT_TRUE(is(r.alert, k, TAKEN));
		ASSERT_EQ(0, put_back(r.dev, r.alert, k));
		in_vain(&r);
		so_far_so_good();
	}
}

/* Only if nothing else is ready. Its index is the number of objects. */
TEST_F_TIMEOUT(fastpath, alert_any, NT_TEST_TIMEOUT)
{
	unsigned int c, i;
	enum kind k;

	for (k = 0; k < NB_KINDS; k++) {
		for (c = 0; c < ARRAY_LEN(counts); c++) {
			struct row r = get_row(self, counts[c], (k + c) % NB_KINDS);

			r.alert = self->alert[k];
			in_vain(&r);
			ASSERT_EQ(0, make_ready(r.alert, k));
			for (i = 0; i < NB_PLACES; i++) {
				unsigned int p = place(r.n, i);

				ASSERT_EQ(0, ready(&r, p));
				takes(&r, ret_of(kind_at(&r, p)), p);
				one_is(&r, p, TAKEN);
				EXPECT_TRUE(is(r.alert, k, READY));
				ASSERT_EQ(0, back(&r, p));
			}
			takes(&r, ret_of(k), r.n);
			EXPECT_TRUE(is(r.alert, k, TAKEN));
			all_are(&r, IDLE);
			ASSERT_EQ(0, put_back(r.dev, r.alert, k));
			so_far_so_good();
		}
	}
}

TEST_F_TIMEOUT(fastpath, alert_all, NT_TEST_TIMEOUT)
{
	unsigned int c, i;
	enum kind k;

	for (k = 0; k < NB_KINDS; k++) {
		for (c = 0; c < ARRAY_LEN(counts); c++) {
			struct row r = get_row(self, counts[c], (k + c) % NB_KINDS);

			r.all = true;
			r.alert = self->alert[k];
			for (i = 0; i < NB_PLACES; i++) {
				unsigned int p = place(r.n, i);

				/* one is not there */
				ASSERT_EQ(0, ready_but(&r, p));
				in_vain(&r);
				ASSERT_EQ(0, make_ready(r.alert, k));
				takes(&r, ret_of(k), r.n);
				EXPECT_TRUE(is(r.alert, k, TAKEN));
				one_is(&r, p, IDLE);
				all_are_but(&r, p, READY);
				ASSERT_EQ(0, put_back(r.dev, r.alert, k));

				ASSERT_EQ(0, make_ready(r.alert, k));
				ASSERT_EQ(0, ready(&r, p));
				takes(&r, ret_of_all(&r), 0);
				all_are(&r, TAKEN);
				EXPECT_TRUE(is(r.alert, k, READY));
				ASSERT_EQ(0, put_back(r.dev, r.alert, k));
				ASSERT_EQ(0, all_back(&r));
				so_far_so_good();
			}
		}
	}
}

/* Somebody who sleeps for this and for something that does not come has no part in it. */
TEST_F_TIMEOUT(fastpath, past_sleepers, NT_TEST_TIMEOUT)
{
	unsigned int c, i;
	enum kind k;

	for (k = 0; k < NB_KINDS; k++) {
		for (c = 0; c < ARRAY_LEN(sizes); c++) {
			unsigned int p = place(sizes[c], (k + c) % NB_PLACES);
			struct row r = get_row(self, sizes[c], first_for(k, p));
			int both[2] = { r.objs[p], self->never };
			struct nt_waiter w = {
				.wait = {
					.dev = r.dev, .all = true, .objs = both, .count = 2,
					.owner = OWNER + 1,
				},
			};

			start_asleep(&w);
			for (i = 0; i < 4; i++) {
				r.all = i / 2;
				ASSERT_EQ(0, r.all ? all_ready(&r) : ready(&r, p));
				takes(&r, r.all ? ret_of_all(&r) : ret_of(k), r.all ? 0 : p);
				if (r.all)
					all_are(&r, TAKEN);
				else
					one_is(&r, p, TAKEN);
				EXPECT_TRUE(nt_asleep(&w));
				ASSERT_EQ(0, all_back(&r));
				so_far_so_good();
			}
			ASSERT_EQ(0, set(self->never));
			EXPECT_TRUE(nt_asleep(&w));
			ASSERT_EQ(0, ready(&r, p));
			EXPECT_EQ(ret_of(k), nt_finish(&w));
			ASSERT_EQ(0, nt_event(self->never, NTSYNC_IOC_EVENT_RESET, NULL));
			ASSERT_EQ(0, back(&r, p));
			all_are(&r, IDLE);
			so_far_so_good();
		}
	}
}

/*
 * The same object more than once.
 */

TEST_F_TIMEOUT(fastpath, twice_any, NT_TEST_TIMEOUT)
{
	static const unsigned int several[] = { 2, 8, 9, 16, 17, 64 };
	unsigned int c, i;
	enum kind k;

	for (c = 0; c < ARRAY_LEN(several); c++) {
		const unsigned int n = several[c], pairs[][2] = {
			{ 0, 1 }, { 0, n - 1 }, { n - 2, n - 1 }, { n / 2 - 1, n - 1 },
		};

		for (i = 0; i < ARRAY_LEN(pairs) * NB_KINDS; i++) {
			const unsigned int *at = pairs[i / NB_KINDS];
			struct row r;
			int copy;

			k = i % NB_KINDS;
			r = get_row(self, n, first_for(k, at[0]));
			copy = dup(r.objs[at[0]]);
			ASSERT_LE(0, copy);
			r.objs[at[1]] = i & 1 ? copy : r.objs[at[0]];
			in_vain(&r);
			ASSERT_EQ(0, ready(&r, at[0]));
			takes(&r, ret_of(k), at[0]);
			one_is(&r, at[0], TAKEN);
			if (k == SEM || k == AUTO)
				in_vain(&r);
			ASSERT_EQ(0, back(&r, at[0]));
			if (k == SEM) {
				ASSERT_EQ(0, nt_release_sem(copy, 2, NULL));
				takes(&r, 0, at[0]);
				one_is(&r, at[0], READY);
				takes(&r, 0, at[0]);
				in_vain(&r);
			}
			close(copy);
			so_far_so_good();
		}
	}
}

/* The same while it sleeps: it comes back once, with the lowest index. */
TEST_F_TIMEOUT(fastpath, twice_asleep, NT_TEST_TIMEOUT)
{
	unsigned int c;
	enum kind k;

	for (c = 1; c < ARRAY_LEN(sizes); c++) {
		for (k = 0; k < NB_KINDS; k++) {
			unsigned int p = sizes[c] / 2;
			struct row r = get_row(self, sizes[c], first_for(k, p));
			struct nt_waiter w;

			r.objs[r.n - 1] = r.objs[p];
			r.alert = r.objs[p];
			w = waiter_of(&r);
			start_asleep(&w);
			ASSERT_EQ(0, k == SEM ? nt_release_sem(r.objs[p], 2, NULL) : ready(&r, p));
			EXPECT_EQ(ret_of(k), nt_finish(&w));
			EXPECT_EQ(p, w.wait.index);
			one_is(&r, p, k == SEM ? READY : TAKEN);
			ASSERT_EQ(0, back(&r, p));
			so_far_so_good();
		}
	}
}

/* Nothing but one object, and nothing but one that is also the alert. */
TEST_F_TIMEOUT(fastpath, always_the_same, NT_TEST_TIMEOUT)
{
	unsigned int c, p, alert;
	enum kind k;

	for (c = 0; c < ARRAY_LEN(counts); c++) {
		for (k = 0; k < NB_KINDS; k++) {
			struct row r = get_row(self, counts[c], k);

			for (p = 1; p < r.n; p++)
				r.objs[p] = r.objs[0];
			for (alert = 0; alert < 2; alert++) {
				r.alert = alert ? r.objs[0] : 0;
				in_vain(&r);
				ASSERT_EQ(0, ready(&r, 0));
				takes(&r, ret_of(k), 0);
				one_is(&r, 0, TAKEN);
				ASSERT_EQ(0, back(&r, 0));

				r.all = true;
				if (r.n + alert > 1) {
					refused(&r);
					one_is(&r, 0, IDLE);
					ASSERT_EQ(0, ready(&r, 0));
					refused(&r);
					one_is(&r, 0, READY);
					ASSERT_EQ(0, back(&r, 0));
				}
				r.all = false;
			}
			so_far_so_good();
		}
	}
}

TEST_F_TIMEOUT(fastpath, twice_all, NT_TEST_TIMEOUT)
{
	static const unsigned int several[] = { 2, 8, 9, 64 };
	int copies[NTSYNC_MAX_WAIT_COUNT];
	unsigned int c, i, j, is_ready;

	for (c = 0; c < ARRAY_LEN(several); c++) {
		struct row r = get_row(self, several[c], c % NB_KINDS), twice;

		r.all = true;
		for (i = 0; i < r.n; i++) {
			copies[i] = dup(r.objs[i]);
			ASSERT_LE(0, copies[i]);
		}
		for (is_ready = 0; is_ready < 2; is_ready++) {
			if (is_ready)
				ASSERT_EQ(0, all_ready(&r));
			for (i = 0; i < r.n; i++) {
				for (j = i + 1; j < r.n; j++) {
					twice = r;
					/* the first one again, or the last one already */
					if ((i + j) & 1)
						twice.objs[j] = copies[i];
					else
						twice.objs[i] = copies[j];
					twice.far = j & 1;
					refused(&twice);
				}
				one_is(&r, i, is_ready ? READY : IDLE);
				so_far_so_good();
			}
			all_are(&r, is_ready ? READY : IDLE);
		}
		/* and if they all differ */
		takes(&r, ret_of_all(&r), 0);
		all_are(&r, TAKEN);
		ASSERT_EQ(0, all_back(&r));
		for (i = 0; i < r.n; i++)
			close(copies[i]);
		so_far_so_good();
	}
}

TEST_F_TIMEOUT(fastpath, alert_is_object_any, NT_TEST_TIMEOUT)
{
	unsigned int c, i;
	enum kind k;

	for (c = 0; c < ARRAY_LEN(counts); c++) {
		for (i = 0; i < NB_PLACES * NB_KINDS; i++) {
			unsigned int p = place(counts[c], i / NB_KINDS);
			struct row r;
			int copy;

			k = i % NB_KINDS;
			r = get_row(self, counts[c], first_for(k, p));
			copy = dup(r.objs[p]);
			ASSERT_LE(0, copy);
			r.alert = i & 1 ? copy : r.objs[p];
			in_vain(&r);
			ASSERT_EQ(0, ready(&r, p));
			takes(&r, ret_of(k), p);
			one_is(&r, p, TAKEN);
			if (k == SEM || k == AUTO)
				in_vain(&r);
			ASSERT_EQ(0, back(&r, p));
			close(copy);
			so_far_so_good();
		}
	}
}

TEST_F_TIMEOUT(fastpath, alert_is_object_all, NT_TEST_TIMEOUT)
{
	unsigned int c, i, is_ready;

	for (c = 0; c < ARRAY_LEN(counts); c++) {
		for (i = 0; i < NB_PLACES; i++) {
			struct row r = get_row(self, counts[c], (c + i) % NB_KINDS);
			int copy = dup(r.objs[place(r.n, i)]);

			ASSERT_LE(0, copy);
			r.all = true;
			for (is_ready = 0; is_ready < 2; is_ready++) {
				if (is_ready)
					ASSERT_EQ(0, all_ready(&r));
				r.alert = r.objs[place(r.n, i)];
				refused(&r);
				refused(&r);
				r.alert = copy;
				refused(&r);
				refused(&r);
				all_are(&r, is_ready ? READY : IDLE);
			}
			r.alert = 0;
			takes(&r, ret_of_all(&r), 0);
			ASSERT_EQ(0, all_back(&r));
			close(copy);
			so_far_so_good();
		}
	}
}

/*
 * Arguments.
 */

#define MAX_BAD		12
#define OTHERS_SEM	6

/* What is no object of this device. The last one is not open. */
static unsigned int bad_descriptors(int dev, int *bad)
{
	int other = open("/dev/ntsync", O_CLOEXEC | O_RDONLY), ch = ch_create(dev, 1);
	unsigned int n = 0;

	bad[n++] = -1;
	bad[n++] = INT_MAX;
	bad[n++] = open("/dev/null", O_RDWR | O_CLOEXEC);
	bad[n++] = eventfd(1, EFD_CLOEXEC);
	bad[n++] = dev;
	bad[n++] = other;
	bad[n++] = nt_create_sem(other, 1, 1);
	/* of this one, but nothing to wait for */
	if (ch >= 0) {
		bad[n++] = ch;
		bad[n] = ch_send_only(ch);
		if (bad[n] >= 0)
			n++;
	}
	bad[n] = dup(dev);
	close(bad[n]);
	return n + 1;
}

/* It is found before anything is taken, also if it comes last. */
TEST_F_TIMEOUT(fastpath, bad_descriptor, NT_TEST_TIMEOUT)
{
	int bad[MAX_BAD];
	unsigned int nb = bad_descriptors(self->dev, bad), c, i, k, all;

	for (i = 2; i < nb; i++)
		ASSERT_LE(0, bad[i]);
	for (c = 0; c < ARRAY_LEN(sizes); c++) {
		struct row good = get_row(self, sizes[c], c % NB_KINDS), r = good;

		/* nothing is ready */
		r.objs[r.n - 1] = bad[0];
		for (all = 0; all < 2; all++) {
			r.all = all;
			refused(&r);
			refused(&r);
		}
		ASSERT_EQ(0, all_ready(&good));
		for (i = 0; i < 2 * nb; i++) {
			for (k = 0; k < NB_PLACES; k++) {
				r = good;
				r.all = i & 1;
				r.far = k & 1;
				r.objs[place(r.n, k)] = bad[i / 2];
				refused(&r);
			}
			r = good;
			r.all = i & 1;
			r.alert = bad[i / 2];
			refused(&r);
			refused(&r);
			all_are(&good, READY);
			so_far_so_good();
		}
		check_sem(bad[OTHERS_SEM], 1, 1);
		ASSERT_EQ(0, all_back(&good));
	}
}

/* Two pages. The second one has this protection. */
static char *two_pages(int prot)
{
	size_t size = sysconf(_SC_PAGESIZE);
	char *p = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return NULL;
	return mprotect(p + size, size, prot) ? NULL : p;
}

TEST_F_TIMEOUT(fastpath, unreadable, NT_TEST_TIMEOUT)
{
	char *pages = two_pages(PROT_NONE), *end;
	unsigned int c, all, alert;

	ASSERT_TRUE(pages != NULL);
	end = pages + sysconf(_SC_PAGESIZE);
	for (c = 0; c < ARRAY_LEN(counts); c++) {
		struct row r = get_row(self, counts[c], c % NB_KINDS);
		const size_t size = r.n * sizeof(*r.objs);
		char *last = end - size + sizeof(*r.objs);
		struct ntsync_wait_args args, copy;

		ASSERT_EQ(0, all_ready(&r));
		for (all = 0; all < 2; all++) {
			for (alert = 0; alert < 2; alert++) {
				r.all = all;
				r.alert = alert ? self->never : 0;
				args = args_of(&r, alert ? nt_bound() : NT_EXPIRED, 0);
				/* the arguments */
				memcpy(end - 8, &args, 8);
				EXPECT_EQ(-EFAULT, call(&r, NULL));
				EXPECT_EQ(-EFAULT, call(&r, end));
				EXPECT_EQ(-EFAULT, call(&r, end - 8));
				memcpy(end - sizeof(args) + 4, &args, sizeof(args) - 4);
				EXPECT_EQ(-EFAULT, call(&r, end - sizeof(args) + 4));
				/* the descriptors, all of them or the last one only */
				copy = args;
				copy.objs = 0;
				EXPECT_EQ(-EFAULT, call(&r, &copy));
				copy.objs = (uintptr_t)end;
				EXPECT_EQ(-EFAULT, call(&r, &copy));
				memcpy(last, r.objs, size - sizeof(*r.objs));
				copy.objs = (uintptr_t)last;
				EXPECT_EQ(-EFAULT, call(&r, &copy));
				EXPECT_EQ(NT_POISON, copy.index);
				all_are(&r, READY);
				so_far_so_good();
			}
		}
		/* as many as can be read */
		memcpy(end - size, r.objs, size);
		r.all = true;
		args = args_of(&r, NT_EXPIRED, 0);
		args.objs = (uintptr_t)(end - size);
		EXPECT_EQ(ret_of_all(&r), call(&r, &args));
		EXPECT_EQ(0U, args.index);
		all_are(&r, TAKEN);
		ASSERT_EQ(0, all_back(&r));
	}
}

/* Arguments whose index cannot be written. They are valid up to the next call of this. */
static void *frozen(char *pages, const struct ntsync_wait_args *args, bool whole)
{
	const size_t size = sysconf(_SC_PAGESIZE);
	char *p = pages + size - (whole ? 0 : offsetof(struct ntsync_wait_args, index));

	if (mprotect(pages + size, size, PROT_READ | PROT_WRITE))
		return NULL;
	memcpy(p, args, sizeof(*args));
	return mprotect(pages + size, size, PROT_READ) ? NULL : p;
}

/* A result that cannot be stored: it took place. */
TEST_F_TIMEOUT(fastpath, result_fault, NT_TEST_TIMEOUT)
{
	char *pages = two_pages(PROT_READ);
	unsigned int c, i, all, p;

	ASSERT_TRUE(pages != NULL);
	for (c = 0; c < ARRAY_LEN(counts); c++) {
		for (i = 0; i < 2 * NB_PLACES * NB_KINDS; i++) {
			struct ntsync_wait_args args;
			struct row r;
			void *ro;

			p = place(counts[c], i / 2 % NB_PLACES);
			all = i & 1;
			r = get_row(self, counts[c], i / 2 / NB_PLACES);
			r.all = all;
			r.alert = self->never;
			args = args_of(&r, NT_EXPIRED, 0);
			ro = frozen(pages, &args, i & 2);
			ASSERT_TRUE(ro != NULL);
			/* there is none */
			EXPECT_EQ(-ETIMEDOUT, call(&r, ro));
			all_are(&r, IDLE);

			args = args_of(&r, i & 4 ? nt_bound() : NT_EXPIRED, 0);
			ro = frozen(pages, &args, i & 2);
			ASSERT_TRUE(ro != NULL);
			ASSERT_EQ(0, all ? all_ready(&r) : ready(&r, p));
			EXPECT_EQ(-EFAULT, call(&r, ro));
			EXPECT_EQ(0, memcmp(ro, &args, sizeof(args)));
			if (all) {
				all_are(&r, TAKEN);
				ASSERT_EQ(0, all_back(&r));
			} else {
				one_is(&r, p, TAKEN);
				ASSERT_EQ(0, back(&r, p));
			}
			all_are(&r, IDLE);
			so_far_so_good();
		}
	}
}

TEST_F_TIMEOUT(fastpath, result_fault_alert, NT_TEST_TIMEOUT)
{
	char *pages = two_pages(PROT_READ);
	unsigned int c, all;
	enum kind k;

	ASSERT_TRUE(pages != NULL);
	for (c = 0; c < ARRAY_LEN(sizes); c++) {
		for (k = 0; k < NB_KINDS; k++) {
			for (all = 0; all < 2; all++) {
				struct row r = get_row(self, sizes[c], k);
				struct ntsync_wait_args args;
				void *ro;

				r.all = all;
				r.alert = self->alert[k];
				args = args_of(&r, nt_bound(), 0);
				ro = frozen(pages, &args, true);
				ASSERT_TRUE(ro != NULL);
				ASSERT_EQ(0, make_ready(r.alert, k));
				EXPECT_EQ(-EFAULT, call(&r, ro));
				EXPECT_TRUE(is(r.alert, k, TAKEN));
				all_are(&r, IDLE);
				ASSERT_EQ(0, put_back(r.dev, r.alert, k));
				so_far_so_good();
			}
		}
	}
}

/* The same for who releases: a wait that looks finds it, and so does one that sleeps. */
TEST_F_TIMEOUT(fastpath, release_fault, NT_TEST_TIMEOUT)
{
	char *pages = two_pages(PROT_READ), *ro;
	unsigned int c, all;
	__u32 one = 1;

	ASSERT_TRUE(pages != NULL);
	ro = pages + sysconf(_SC_PAGESIZE);
	ASSERT_EQ(0, mprotect(ro, sizeof(one), PROT_READ | PROT_WRITE));
	memcpy(ro, &one, sizeof(one));
	ASSERT_EQ(0, mprotect(ro, sizeof(one), PROT_READ));
	for (c = 0; c < ARRAY_LEN(sizes); c++) {
		for (all = 0; all < 2; all++) {
			unsigned int p = sizes[c] - 1;
			struct row r = get_row(self, sizes[c], first_for(SEM, p));
			struct nt_waiter w;

			r.all = all;
			if (all)
				ASSERT_EQ(0, ready_but(&r, p));
			EXPECT_EQ(-EFAULT, nt_ioctl(r.objs[p], NTSYNC_IOC_SEM_RELEASE, ro));
			one_is(&r, p, READY);
			takes(&r, all ? ret_of_all(&r) : 0, all ? 0 : p);
			one_is(&r, p, TAKEN);
			ASSERT_EQ(0, all_back(&r));

			if (all)
				ASSERT_EQ(0, ready_but(&r, p));
			w = waiter_of(&r);
			start_asleep(&w);
			EXPECT_EQ(-EFAULT, nt_ioctl(r.objs[p], NTSYNC_IOC_SEM_RELEASE, ro));
			EXPECT_EQ(all ? ret_of_all(&r) : 0, nt_finish(&w));
			EXPECT_EQ(all ? 0 : p, w.wait.index);
			one_is(&r, p, TAKEN);
			ASSERT_EQ(0, all_back(&r));
			so_far_so_good();
		}
	}
}

/* The index, and nothing else. */
static bool stored(const struct ntsync_wait_args *args, const struct ntsync_wait_args *before,
		   __u32 index)
{
	struct ntsync_wait_args expected = *before;

	expected.index = index;
	return !memcmp(args, &expected, sizeof(expected));
}

/* It is written if the wait has taken something. */
TEST_F_TIMEOUT(fastpath, index_field, NT_TEST_TIMEOUT)
{
	struct sigaction sa = { .sa_handler = nothing };
	struct ntsync_wait_args args, before;
	unsigned int c, all, p, i;

	ASSERT_EQ(0, sigaction(SIGUSR1, &sa, NULL));
	for (c = 0; c < ARRAY_LEN(counts); c++) {
		for (all = 0; all < 2; all++) {
			struct row r = get_row(self, counts[c], c % NB_KINDS);
			struct nt_waiter w;

			r.all = all;
			r.alert = self->alert[AUTO];
			args = before = args_of(&r, NT_EXPIRED, 0);
			EXPECT_EQ(-ETIMEDOUT, call(&r, &args));
			EXPECT_TRUE(stored(&args, &before, NT_POISON));

			args.flags = before.flags = ~0U;
			EXPECT_EQ(-EINVAL, call(&r, &args));
			EXPECT_TRUE(stored(&args, &before, NT_POISON));

			args.flags = before.flags = 0;
			args.alert = before.alert = self->dev;
			EXPECT_EQ(-EINVAL, call(&r, &args));
			EXPECT_TRUE(stored(&args, &before, NT_POISON));

			args.alert = before.alert = 0;
			args.objs = before.objs = 0;
			EXPECT_EQ(-EFAULT, call(&r, &args));
			EXPECT_TRUE(stored(&args, &before, NT_POISON));

			w = waiter_of(&r);
			start_asleep(&w);
			ASSERT_EQ(0, pthread_kill(w.thread, SIGUSR1));
			EXPECT_EQ(-EINTR, nt_finish(&w));
			EXPECT_EQ(NT_POISON, w.wait.index);

			ASSERT_EQ(0, set(r.alert));
			args = before = args_of(&r, nt_bound(), 0);
			EXPECT_EQ(0, call(&r, &args));
			EXPECT_TRUE(stored(&args, &before, r.n));

			for (i = 0; i < NB_PLACES; i++) {
				p = place(r.n, i);
				ASSERT_EQ(0, all ? all_ready(&r) : ready(&r, p));
				args = before = args_of(&r, i & 1 ? nt_bound() : NT_EXPIRED, 0);
				EXPECT_EQ(all ? ret_of_all(&r) : ret_of(kind_at(&r, p)),
					  call(&r, &args));
				EXPECT_TRUE(stored(&args, &before, all ? 0 : p));
				ASSERT_EQ(0, all_back(&r));
			}
			so_far_so_good();
		}
	}
}

/*
 * Timeouts.
 */

#define NB_PAST	6

/* The clock is that of flags i & 1. */
static __u64 past(unsigned int i)
{
	return i / 2 == 0 ? 0 : i / 2 == 1 ? NT_EXPIRED : nt_now(clocks[i & 1]) - 1;
}

TEST_F_TIMEOUT(fastpath, timeout_over, NT_TEST_TIMEOUT)
{
	unsigned int c, i, all;

	for (c = 0; c < ARRAY_LEN(counts); c++) {
		for (all = 0; all < 2; all++) {
			struct row r = get_row(self, counts[c], (c + all) % NB_KINDS);

			r.all = all;
			for (i = 0; i < NB_PAST; i++) {
				unsigned int p = place(r.n, i % NB_PLACES);

				r.alert = i % 4 == 1 ? self->never : 0;
				if (all)
					ASSERT_EQ(0, ready_but(&r, p));
				EXPECT_EQ(-ETIMEDOUT, wait_until(&r, past(i), i & 1)) {
					TH_LOG("%u objects, all %u, timeout %u", r.n, all, i);
				}
				EXPECT_EQ(NT_POISON, r.index);
				one_is(&r, p, IDLE);
				all_are_but(&r, p, all ? READY : IDLE);

				/* it is in no queue: what becomes ready stays so */
				ASSERT_EQ(0, ready(&r, p));
				one_is(&r, p, READY);
				EXPECT_EQ(all ? ret_of_all(&r) : ret_of(kind_at(&r, p)),
					  wait_until(&r, past(i), i & 1));
				EXPECT_EQ(all ? 0 : p, r.index);
				if (all)
					all_are(&r, TAKEN);
				else
					one_is(&r, p, TAKEN);
				ASSERT_EQ(0, all_back(&r));
				so_far_so_good();
			}
			/* nor in any other */
			ASSERT_EQ(0, all_ready(&r));
			all_are(&r, READY);
			ASSERT_EQ(0, all_back(&r));
			so_far_so_good();
		}
	}
	check_event(self->never, 1, 0);
}

/* One that is over soon may sleep or not. It is not early, and it leaves no queue behind. */
TEST_F_TIMEOUT(fastpath, timeout_soon, NT_TEST_TIMEOUT)
{
	unsigned int c, i, all;
	__u64 timeout;

	for (c = 0; c < ARRAY_LEN(sizes); c++) {
		for (all = 0; all < 2; all++) {
			struct row r = get_row(self, sizes[c], c % NB_KINDS);
			unsigned int p = r.n / 2;

			r.all = all;
			if (all)
				ASSERT_EQ(0, ready_but(&r, p));
			for (i = 0; i < 40; i++) {
				timeout = nt_now(clocks[i & 1]) + i * i * 50;
				EXPECT_EQ(-ETIMEDOUT, wait_until(&r, timeout, i & 1));
				EXPECT_LE(timeout, nt_now(clocks[i & 1]));
				EXPECT_EQ(NT_POISON, r.index);
			}
			if (!all)
				ASSERT_EQ(0, ready_but(&r, p));
			ASSERT_EQ(0, ready(&r, p));
			all_are(&r, READY);
			ASSERT_EQ(0, all_back(&r));
			so_far_so_good();
		}
	}
}

/* Nothing to wait for is never any of them, and always all. */
TEST_F_TIMEOUT(fastpath, no_objects_any, NT_TEST_TIMEOUT)
{
	struct row r = get_row(self, 0, 0);
	struct ntsync_wait_args args;
	struct nt_waiter w;
	unsigned int i;
	__u64 timeout;
	enum kind k;

	for (i = 0; i < NB_PAST; i++) {
		r.alert = 0;
		EXPECT_EQ(-ETIMEDOUT, wait_until(&r, past(i), i & 1));
		EXPECT_EQ(NT_POISON, r.index);
		timeout = nt_now(clocks[i & 1]) + i * 100000;
		EXPECT_EQ(-ETIMEDOUT, wait_until(&r, timeout, i & 1));
		EXPECT_LE(timeout, nt_now(clocks[i & 1]));
		EXPECT_EQ(NT_POISON, r.index);
		for (k = 0; k < NB_KINDS; k++) {
			r.alert = self->alert[k];
			EXPECT_EQ(-ETIMEDOUT, wait_until(&r, past(i), i & 1));
			EXPECT_EQ(NT_POISON, r.index);
			ASSERT_EQ(0, make_ready(r.alert, k));
			EXPECT_EQ(ret_of(k), wait_until(&r, past(i), i & 1));
			EXPECT_EQ(0U, r.index);
			EXPECT_TRUE(is(r.alert, k, TAKEN));
			ASSERT_EQ(0, put_back(r.dev, r.alert, k));
		}
	}
	for (k = 0; k < NB_KINDS; k++) {
		r.alert = self->alert[k];
		w = waiter_of(&r);
		start_asleep(&w);
		ASSERT_EQ(0, make_ready(r.alert, k));
		EXPECT_EQ(ret_of(k), nt_finish(&w));
		EXPECT_EQ(0U, w.wait.index);
		EXPECT_TRUE(is(r.alert, k, TAKEN));
	}

	/* the pointer is not looked at, the alert is */
	r.alert = 0;
	args = args_of(&r, NT_EXPIRED, 0);
	args.objs = 8;
	EXPECT_EQ(-ETIMEDOUT, call(&r, &args));
	r.alert = self->dev;
	refused(&r);
	refused(&r);
}

TEST_F_TIMEOUT(fastpath, no_objects_all, NT_TEST_TIMEOUT)
{
	struct row r = get_row(self, 0, 0);
	struct ntsync_wait_args args;
	unsigned int i;
	enum kind k;

	r.all = true;
	for (i = 0; i < NB_PAST; i++) {
		r.alert = 0;
		EXPECT_EQ(0, wait_until(&r, past(i), i & 1));
		EXPECT_EQ(0U, r.index);
		takes(&r, 0, 0);
		for (k = 0; k < NB_KINDS; k++) {
			r.alert = self->alert[k];
			EXPECT_EQ(0, wait_until(&r, past(i), i & 1));
			EXPECT_EQ(0U, r.index);
			takes(&r, 0, 0);
			ASSERT_EQ(0, make_ready(r.alert, k));
			EXPECT_EQ(0, wait_until(&r, past(i), i & 1));
			EXPECT_EQ(0U, r.index);
			takes(&r, 0, 0);
			/* the index does not tell which it was, this does */
			EXPECT_TRUE(is(r.alert, k, READY));
			ASSERT_EQ(0, put_back(r.dev, r.alert, k));
		}
	}
	r.alert = 0;
	args = args_of(&r, NT_EXPIRED, 0);
	args.objs = 8;
	EXPECT_EQ(0, call(&r, &args));
	EXPECT_EQ(0U, args.index);
	r.alert = self->dev;
	refused(&r);
	refused(&r);
}

/*
 * Mutexes.
 */

TEST_F_TIMEOUT(fastpath, abandoned_any, NT_TEST_TIMEOUT)
{
	unsigned int c, i, p;
	__u32 index;

	for (c = 0; c < ARRAY_LEN(counts); c++) {
		for (i = 0; i < NB_PLACES; i++) {
			struct row r;

			p = place(counts[c], i);
			r = get_row(self, counts[c], first_for(DEAD, p));
			/* alone; however often its owner had it, the new one has it once */
			ASSERT_EQ(0, nt_try_any(r.dev, 1, &r.objs[p], OTHER, 0, &index));
			ASSERT_EQ(0, nt_try_any(r.dev, 1, &r.objs[p], OTHER, 0, &index));
			check_mutex(r.objs[p], OTHER, 3);
			ASSERT_EQ(0, ready(&r, p));
			one_is(&r, p, READY);
			takes(&r, -EOWNERDEAD, p);
			check_mutex(r.objs[p], OWNER, 1);
			/* it is told once */
			takes(&r, 0, p);
			check_mutex(r.objs[p], OWNER, 2);
			ASSERT_EQ(0, back(&r, p));

			/* what is before it is taken, and it is not told of */
			if (p) {
				ASSERT_EQ(0, ready(&r, p));
				ASSERT_EQ(0, ready(&r, p - 1));
				takes(&r, 0, p - 1);
				one_is(&r, p - 1, TAKEN);
				one_is(&r, p, READY);
				ASSERT_EQ(0, back(&r, p - 1));
				takes(&r, -EOWNERDEAD, p);
				ASSERT_EQ(0, back(&r, p));
			}
			/* and what is behind it is left */
			if (p + 1 < r.n) {
				ASSERT_EQ(0, ready(&r, p + 1));
				ASSERT_EQ(0, ready(&r, p));
				takes(&r, -EOWNERDEAD, p);
				one_is(&r, p, TAKEN);
				one_is(&r, p + 1, READY);
				ASSERT_EQ(0, back(&r, p));
				ASSERT_EQ(0, back(&r, p + 1));
			}
			/* the old owner is nobody any more */
			ASSERT_EQ(0, ready(&r, p));
			EXPECT_EQ(-EPERM, nt_unlock_mutex(r.objs[p], OTHER, NULL));
			r.owner = OWNER + 1;
			takes(&r, -EOWNERDEAD, p);
			check_mutex(r.objs[p], OWNER + 1, 1);
			ASSERT_EQ(0, back(&r, p));
			all_are(&r, IDLE);
			so_far_so_good();
		}
	}
}

/* The mutexes are unlocked, but for some of these two. One may be left out. */
static int abandon(struct row *r, unsigned int a, unsigned int b, unsigned int which,
		   unsigned int but)
{
	unsigned int p;
	int ret = 0;

	for (p = 0; p < r->n && !ret; p++) {
		enum kind k = kind_at(r, p);

		if (p == but)
			continue;
		if ((p == a && which & 1) || (p == b && which & 2))
			ret = nt_kill_mutex(r->objs[p], OTHER);
		else
			ret = make_ready(r->objs[p], k == DEAD ? MUTEX : k);
	}
	return ret;
}

TEST_F_TIMEOUT(fastpath, abandoned_all, NT_TEST_TIMEOUT)
{
	static const unsigned int several[] = { 2, 8, 9, 16, 17, 64 };
	unsigned int c, which, a, b, last;
	__u32 index;

	for (c = 0; c < ARRAY_LEN(several); c++) {
		/* there is one at each end, and in the larger ones something behind them */
		struct row r = get_row(self, several[c], MUTEX);

		r.all = true;
		a = 0;
		for (b = r.n - 1; kind_at(&r, b) != MUTEX && kind_at(&r, b) != DEAD; b--)
			;
		for (which = 1; which < 4; which++) {
			/* not yet all of them */
			last = b + 1 < r.n ? r.n - 1 : which == 1 ? b : which == 2 ? a : NO_PLACE;
			if (last != NO_PLACE) {
				ASSERT_EQ(0, abandon(&r, a, b, which, last));
				in_vain(&r);
				one_is(&r, last, IDLE);
				if (which & 1)
					check_mutex_dead(r.objs[a]);
				if (which & 2)
					check_mutex_dead(r.objs[b]);
				ASSERT_EQ(0, all_back(&r));
			}

			ASSERT_EQ(0, abandon(&r, a, b, which, NO_PLACE));
			takes(&r, -EOWNERDEAD, 0);
			all_are(&r, TAKEN);
			/* it is told once */
			EXPECT_EQ(0, nt_try_any(r.dev, 1, &r.objs[which & 1 ? a : b], OWNER, 0,
						&index));
			check_mutex(r.objs[which & 1 ? a : b], OWNER, 2);
			ASSERT_EQ(0, all_back(&r));

			/* nor by those that are not abandoned */
			ASSERT_EQ(0, abandon(&r, a, b, 0, NO_PLACE));
			takes(&r, 0, 0);
			all_are(&r, TAKEN);
			ASSERT_EQ(0, all_back(&r));
			so_far_so_good();
		}
	}
}

/* Who has it gets it again. */
TEST_F_TIMEOUT(fastpath, recursion, NT_TEST_TIMEOUT)
{
	unsigned int c, i, p;
	__u32 count;

	for (c = 0; c < ARRAY_LEN(counts); c++) {
		for (i = 0; i < NB_PLACES; i++) {
			struct row r;

			p = place(counts[c], i);
			r = get_row(self, counts[c], first_for(MUTEX, p));
			ASSERT_EQ(0, ready(&r, p));
			for (count = 1; count <= 3; count++) {
				takes(&r, 0, p);
				check_mutex(r.objs[p], OWNER, count);
			}
			/* not another one */
			r.owner = OWNER + 1;
			in_vain(&r);
			r.owner = OWNER;

			r.all = true;
			if (r.n > 1)
				in_vain(&r);
			check_mutex(r.objs[p], OWNER, 3);
			ASSERT_EQ(0, ready_but(&r, p));
			takes(&r, ret_of_all(&r), 0);
			check_mutex(r.objs[p], OWNER, 4);
			all_are_but(&r, p, TAKEN);
			for (count = 4; count; count--)
				EXPECT_EQ(0, nt_unlock_mutex(r.objs[p], OWNER, NULL));
			check_mutex(r.objs[p], 0, 0);
			ASSERT_EQ(0, all_back(&r));
			so_far_so_good();
		}
	}
}

/* Also when others sleep for it. */
TEST_F_TIMEOUT(fastpath, recursion_past_sleepers, NT_TEST_TIMEOUT)
{
	unsigned int c, all;

	for (c = 0; c < ARRAY_LEN(sizes); c++) {
		for (all = 0; all < 2; all++) {
			struct row r = get_row(self, sizes[c], first_for(MUTEX, sizes[c] - 1));
			unsigned int p = r.n - 1;
			struct nt_waiter w = {
				.wait = {
					.dev = r.dev, .objs = &r.objs[p], .count = 1, .all = all,
					.owner = OWNER + 1,
				},
			};

			ASSERT_EQ(0, ready(&r, p));
			takes(&r, 0, p);
			start_asleep(&w);
			takes(&r, 0, p);
			check_mutex(r.objs[p], OWNER, 2);
			r.all = true;
			ASSERT_EQ(0, ready_but(&r, p));
			takes(&r, ret_of_all(&r), 0);
			check_mutex(r.objs[p], OWNER, 3);
			EXPECT_TRUE(nt_asleep(&w));
			EXPECT_EQ(0, nt_unlock_mutex(r.objs[p], OWNER, NULL));
			EXPECT_EQ(0, nt_unlock_mutex(r.objs[p], OWNER, NULL));
			EXPECT_TRUE(nt_asleep(&w));
			EXPECT_EQ(0, nt_unlock_mutex(r.objs[p], OWNER, NULL));
			EXPECT_EQ(0, nt_finish(&w));
			check_mutex(r.objs[p], OWNER + 1, 1);
			ASSERT_EQ(0, all_back(&r));
			so_far_so_good();
		}
	}
}

/* More often than can be counted it is not ready, not even for its owner. */
TEST_F_TIMEOUT(fastpath, recursion_limit, NT_TEST_TIMEOUT)
{
	unsigned int c, i, p;
	int full;

	for (c = 0; c < ARRAY_LEN(counts); c++) {
		for (i = 0; i < NB_PLACES; i++) {
			struct row r;

			p = place(counts[c], i);
			r = get_row(self, counts[c], first_for(MUTEX, p));
			full = nt_create_mutex(r.dev, OWNER, UINT_MAX - 1);
			ASSERT_LE(0, full);
			r.objs[p] = full;
			takes(&r, 0, p);
			check_mutex(full, OWNER, UINT_MAX);
			in_vain(&r);
			check_mutex(full, OWNER, UINT_MAX);
			/* what is behind it can be taken */
			if (p + 1 < r.n) {
				ASSERT_EQ(0, ready(&r, p + 1));
				takes(&r, ret_of(kind_at(&r, p + 1)), p + 1);
				one_is(&r, p + 1, TAKEN);
				ASSERT_EQ(0, back(&r, p + 1));
			}
			/* all the others do not help */
			r.all = true;
			ASSERT_EQ(0, ready_but(&r, p));
			in_vain(&r);
			all_are_but(&r, p, READY);
			check_mutex(full, OWNER, UINT_MAX);
			EXPECT_EQ(0, nt_unlock_mutex(full, OWNER, NULL));
			takes(&r, ret_of_all(&r), 0);
			all_are_but(&r, p, TAKEN);
			check_mutex(full, OWNER, UINT_MAX);

			r.objs[p] = self->objs[r.first + p];
			ASSERT_EQ(0, all_back(&r));
			/* as an alert */
			r.all = i & 1;
			r.alert = full;
			in_vain(&r);
			EXPECT_EQ(0, nt_unlock_mutex(full, OWNER, NULL));
			takes(&r, 0, r.n);
			check_mutex(full, OWNER, UINT_MAX);
			close(full);
			so_far_so_good();
		}
	}
}

/* For an owner of no name the count goes up, and it is free still. */
TEST_F_TIMEOUT(fastpath, owner_zero, NT_TEST_TIMEOUT)
{
	int sems[NTSYNC_MAX_WAIT_COUNT];
	unsigned int c, i, p, q, all;

	for (i = 0; i < ARRAY_LEN(sems); i++) {
		sems[i] = nt_create_sem(self->dev, UINT_MAX, UINT_MAX);
		ASSERT_LE(0, sems[i]);
	}
	for (c = 0; c < ARRAY_LEN(counts); c++) {
		for (i = 0; i < 2 * NB_PLACES; i++) {
			struct row r = get_row(self, counts[c], 0);
			int mutex = nt_create_mutex(r.dev, 0, 0);

			ASSERT_LE(0, mutex);
			p = place(counts[c], i / 2);
			all = i & 1;
			for (q = 0; q < r.n; q++)
				r.objs[q] = q == p ? mutex : all ? sems[q] : self->never;
			r.all = all;
			r.owner = 0;
			takes(&r, 0, all ? 0 : p);
			check_mutex(mutex, 0, 1);
			takes(&r, 0, all ? 0 : p);
			check_mutex(mutex, 0, 2);
			EXPECT_EQ(-EINVAL, nt_unlock_mutex(mutex, 0, NULL));
			EXPECT_EQ(-EINVAL, nt_kill_mutex(mutex, 0));
			EXPECT_EQ(-EPERM, nt_unlock_mutex(mutex, OWNER, NULL));
			check_mutex(mutex, 0, 2);
			/* one that has a name takes what is there */
			r.owner = OWNER;
			takes(&r, 0, all ? 0 : p);
			check_mutex(mutex, OWNER, 3);
			r.owner = 0;
			in_vain(&r);
			check_mutex(mutex, OWNER, 3);
			EXPECT_EQ(0, nt_kill_mutex(mutex, OWNER));
			check_mutex_dead(mutex);
			takes(&r, -EOWNERDEAD, all ? 0 : p);
			check_mutex(mutex, 0, 1);
			close(mutex);
			so_far_so_good();
		}
	}
	check_event(self->never, 1, 0);
}

/*
 * Something becomes ready while the wait looks, queues, looks again and goes to sleep. The other
 * CPU does it, or a timer in this one. Whatever happens: what was signaled is taken, and once.
 */

#define THIEF		207	/* the controlling thread, as an owner */

struct moments {
	bool smp;
	unsigned int seed;
	__u64 lead;		/* until the wait begins, on one CPU */
	__u64 window;		/* what it may take until it sleeps */
};

struct racer {
	pthread_t thread;
	int cpu;
	bool stop;
	unsigned int seq;
	struct moments m;
	__u64 start;		/* when its wait began */
	__u64 timeout;		/* of its next wait; 0 is far */
	atomic_uint go;
	atomic_uint entered;
	atomic_uint done;
	struct row r;
	int ret;
	bool slept;		/* unless the timeout was far */
};

static struct racer racer;

/* How often has the calling thread gone to sleep? */
static long sleeps(void)
{
	struct rusage usage;

	return getrusage(RUSAGE_THREAD, &usage) ? -1 : usage.ru_nvcsw;
}

/* Shortly where the other one can run meanwhile. */
static bool await_soon(bool smp, atomic_uint *word, unsigned int val)
{
	int spins = smp ? 5000 : 0;

	while (spins--)
		if (atomic_load_explicit(word, memory_order_acquire) >= val)
			return true;
	return nt_await(word, val);
}

static void *racer_thread(void *arg)
{
	struct racer *w = arg;
	unsigned int seq;
	long before;

	nt_pin_self(w->cpu);
	for (seq = 1;; seq++) {
		while (!await_soon(w->m.smp, &w->go, seq))
			;
		if (w->stop)
			return NULL;
		before = w->timeout ? sleeps() : 0;
		w->start = nt_now(CLOCK_MONOTONIC);
		atomic_store(&w->entered, seq);
		w->ret = wait_until(&w->r, w->timeout ? w->timeout : w->start + NT_BOUND_NSEC, 0);
		w->slept = w->timeout && sleeps() != before;
		atomic_store(&w->done, seq);
		nt_futex_wake(&w->done);
	}
}

static void racer_go(struct racer *w)
{
	atomic_store(&w->go, ++w->seq);
	nt_futex_wake(&w->go);
}

static void racer_stop(struct racer *w)
{
	w->stop = true;
	racer_go(w);
	pthread_join(w->thread, NULL);
}

static void start_racer_on(struct __test_metadata *_metadata, int dev, int cpu)
{
	struct nt_sched above = NT_FIFO(50);
	struct racer *w = &racer;
	int here = nt_cpu(0);

	w->m = (struct moments){ .smp = cpu != here, .seed = 1, .lead = 20000 };
	w->cpu = cpu;
	w->r = (struct row){ .dev = dev, .owner = OWNER };
	ASSERT_EQ(0, pthread_create(&w->thread, NULL, racer_thread, w));
	ASSERT_EQ(0, nt_pin_self(here));
	prctl(PR_SET_TIMERSLACK, 1);
	/* on one CPU, to be there when the timer is over; it helps, but need not be */
	if (!w->m.smp && !nt_sched_probe(above))
		nt_sched_self(&above);
}

static void start_racer(struct __test_metadata *_metadata, int dev)
{
	start_racer_on(_metadata, dev, nt_cpu(1));
}

static void spin(__u64 nsec)
{
	__u64 until = nt_now(CLOCK_MONOTONIC) + nsec;

	while (nt_now(CLOCK_MONOTONIC) < until)
		;
}

/* How long it takes to look at these in vain: the median of some. */
static void measure(struct moments *m, struct row *r)
{
	__u64 took[5], tmp, now;
	unsigned int i, j;

	for (i = 0; i < ARRAY_LEN(took); i++) {
		now = nt_now(CLOCK_MONOTONIC);
		wait_until(r, NT_EXPIRED, 0);
		took[i] = nt_now(CLOCK_MONOTONIC) - now;
		for (j = i; j && took[j] < took[j - 1]; j--) {
			tmp = took[j];
			took[j] = took[j - 1];
			took[j - 1] = tmp;
		}
	}
	m->window = 2 * took[ARRAY_LEN(took) / 2] + 5000;
	if (m->window > 2000000)
		m->window = 2000000;
}

/* Any moment of a wait that begins when *entered is val. Now and then it is one before that. */
static void meet(struct moments *m, atomic_uint *entered, unsigned int val, const __u64 *start)
{
	unsigned int delay = rnd(&m->seed, m->window);
	__u64 bound = nt_bound();

	if (!rnd(&m->seed, 8))
		return;
	if (m->smp) {
		/* to be woken would take longer than the wait */
		while (atomic_load(entered) != val && nt_now(CLOCK_MONOTONIC) < bound)
			;
		spin(delay);
		return;
	}
	nt_sleep_until(CLOCK_MONOTONIC, nt_now(CLOCK_MONOTONIC) + m->lead + delay);
	/* the moments move to where the wait is */
	if (atomic_load(entered) != val)
		m->lead += m->window / 4;
	else if (nt_now(CLOCK_MONOTONIC) > *start + m->window)
		m->lead -= m->lead / 8;
	if (m->lead > 5000000)
		m->lead = 5000000;
}

/* The deadline counts from the first few on. */
static bool more_races(unsigned int done, __u64 deadline)
{
	return done < nt_scaled(NB_RACES) &&
	       (done < MIN_RACES || nt_now(CLOCK_MONOTONIC) < deadline);
}

static __u64 race_deadline(void)
{
	return nt_now(CLOCK_MONOTONIC) + nt_scaled(RACE_MSEC) * 1000000ULL;
}

/* It was taken, once and by that one. Now it is not ready, and nobody has it who waits. */
static bool give_back(int fd, enum kind k, __u32 owner)
{
	__u32 index;

	if (k == MUTEX && (nt_mutex_owner(fd) != owner || nt_unlock_mutex(fd, owner, NULL) ||
			   nt_try_any(racer.r.dev, 1, &fd, OTHER, 0, &index)))
		return false;
	return is(fd, k, IDLE);
}

/* Take it, if nobody else was faster. */
static int steal(int fd)
{
	__u32 index;

	return nt_try_any(racer.r.dev, 1, &fd, THIEF, 0, &index);
}

/* What was stolen becomes ready again. */
static bool hand_over(int fd, enum kind k)
{
	if (k == MUTEX)
		return !nt_unlock_mutex(fd, THIEF, NULL);
	return is(fd, k, IDLE) && !make_ready(fd, k);
}

#define joins(w) do {							\
	struct racer *__j = (w);					\
									\
	ASSERT_TRUE(await_soon(__j->m.smp, &__j->done, __j->seq)) {	\
		TH_LOG("race %u: the wait does not end", __j->seq);	\
	}								\
} while (0)

static void race_any(struct __test_metadata *_metadata, int dev, enum kind k)
{
	static const unsigned int nb[] = { 1, 4, 8, 9, 16, 17, 64 };
	int objs[NTSYNC_MAX_WAIT_COUNT];
	struct racer *w = &racer;
	unsigned int c, i, p, q, left, total = 0, stolen = 0;
	__u64 deadline;
	int ret;

	for (i = 0; i < ARRAY_LEN(objs); i++) {
		objs[i] = create(dev, k);
		ASSERT_LE(0, objs[i]);
	}
	start_racer(_metadata, dev);
	memcpy(w->r.objs, objs, sizeof(objs));
	for (c = 0; c < ARRAY_LEN(nb); c++) {
		w->r.n = nb[c];
		measure(&w->m, &w->r);
		deadline = race_deadline();
		for (i = 0; more_races(i, deadline); i++) {
			enum { ONE, TWO, STEAL } how = rnd(&w->m.seed, 3);

			p = rnd(&w->m.seed, nb[c]);
			q = rnd(&w->m.seed, nb[c]);
			/* there cannot be two of the same event or mutex */
			if (how == TWO && p == q && k != SEM)
				how = ONE;
			racer_go(w);
			meet(&w->m, &w->entered, w->seq, &w->start);
			ASSERT_EQ(0, make_ready(objs[p], k));
			if (how == TWO) {
				ASSERT_EQ(0, make_ready(objs[q], k));
			} else if (how == STEAL) {
				ret = steal(objs[p]);
				if (ret) {
					ASSERT_EQ(-ETIMEDOUT, ret);
				} else {
					ASSERT_TRUE(hand_over(objs[p], k));
					stolen++;
				}
			}
			joins(w);
			ASSERT_EQ(0, w->ret) {
				TH_LOG("race %u of %u objects", i, nb[c]);
			}
			if (how != TWO || w->r.index != q) {
				ASSERT_EQ(p, w->r.index);
			}
			if (how != TWO || p != q) {
				ASSERT_TRUE(give_back(objs[w->r.index], k, OWNER)) {
					TH_LOG("race %u of %u objects: %u", i, nb[c],
					       w->r.index);
				}
			}
			/* the other one is there still, and once */
			if (how == TWO) {
				left = w->r.index == p ? q : p;
				ASSERT_TRUE(is(objs[left], k, READY)) {
					TH_LOG("race %u of %u objects: %u of %u, %u", i, nb[c],
					       w->r.index, p, q);
				}
				ASSERT_EQ(0, steal(objs[left]));
				ASSERT_TRUE(give_back(objs[left], k, THIEF));
			}
			if (i % 32 == 0) {
				ASSERT_EQ(-ETIMEDOUT, wait_until(&w->r, NT_EXPIRED, 0));
			}
		}
		ASSERT_EQ(-ETIMEDOUT, wait_until(&w->r, NT_EXPIRED, 0));
		for (p = 0; p < nb[c]; p++) {
			ASSERT_TRUE(is(objs[p], k, IDLE));
		}
		total += i;
	}
	TH_LOG("%u races, %u stolen", total, stolen);
	racer_stop(w);
}

TEST_F_TIMEOUT(fastpath, race_any_sem, NT_TEST_TIMEOUT)
{
	race_any(_metadata, self->dev, SEM);
}

TEST_F_TIMEOUT(fastpath, race_any_event, NT_TEST_TIMEOUT)
{
	race_any(_metadata, self->dev, AUTO);
}

TEST_F_TIMEOUT(fastpath, race_any_mutex, NT_TEST_TIMEOUT)
{
	race_any(_metadata, self->dev, MUTEX);
}

/* One that is always there, as far as the wait goes. What is taken can be counted. */
static int create_filler(int dev, enum kind k)
{
	switch (k) {
	case SEM:
		return nt_create_sem(dev, FAR_MORE, FAR_MORE);
	case MUTEX:
		return nt_create_mutex(dev, 0, 0);
	default:
		return nt_create_event(dev, true, true);
	}
}

static bool filler_is(int fd, enum kind k, unsigned int times)
{
	struct ntsync_mutex_args mutex;
	struct ntsync_sem_args sem;

	switch (k) {
	case SEM:
		return !nt_ioctl(fd, NTSYNC_IOC_SEM_READ, &sem) && sem.count == FAR_MORE - times;
	case MUTEX:
		return !nt_ioctl(fd, NTSYNC_IOC_MUTEX_READ, &mutex) && mutex.count == times &&
		       mutex.owner == (times ? OWNER : 0);
	default:
		return is(fd, MANUAL, READY);
	}
}

static void race_all(struct __test_metadata *_metadata, int dev, enum kind k)
{
	static const unsigned int nb[] = { 2, 8, 9, 64 };
	unsigned int taken[NTSYNC_MAX_WAIT_COUNT] = { 0 }, total = 0, stolen = 0;
	unsigned int c, i, p, q, extra_at, at[2] = { 0, 0 };
	int fillers[NTSYNC_MAX_WAIT_COUNT], gate[2], extra, ret;
	struct racer *w = &racer;
	__u64 deadline;

	for (i = 0; i < ARRAY_LEN(fillers); i++) {
		fillers[i] = create_filler(dev, k);
		ASSERT_LE(0, fillers[i]);
	}
	for (i = 0; i < 2; i++) {
		gate[i] = create(dev, k);
		ASSERT_LE(0, gate[i]);
	}
	/* of events: one that is there, but is taken */
	extra = create(dev, k);
	ASSERT_LE(0, extra);
	start_racer(_metadata, dev);
	w->r.all = true;
	for (c = 0; c < ARRAY_LEN(nb); c++) {
		w->r.n = nb[c];
		extra_at = NO_PLACE;
		deadline = race_deadline();
		for (i = 0; more_races(i, deadline); i++) {
			enum { LAST, BOTH, STEAL } how = rnd(&w->m.seed, 3);
			unsigned int late = rnd(&w->m.seed, 2);

			if (i % 16 == 0) {
				at[0] = rnd(&w->m.seed, nb[c]);
				at[1] = (at[0] + 1 + rnd(&w->m.seed, nb[c] - 1)) % nb[c];
				memcpy(w->r.objs, fillers, sizeof(fillers));
				if (k == AUTO && nb[c] > 2) {
					do {
						extra_at = rnd(&w->m.seed, nb[c]);
					} while (extra_at == at[0] || extra_at == at[1]);
					w->r.objs[extra_at] = extra;
				}
				w->r.objs[at[0]] = gate[0];
				w->r.objs[at[1]] = gate[1];
				measure(&w->m, &w->r);
			}
			if (extra_at != NO_PLACE)
				ASSERT_EQ(0, set(extra));
			if (how != BOTH)
				ASSERT_EQ(0, make_ready(gate[!late], k));
			racer_go(w);
			meet(&w->m, &w->entered, w->seq, &w->start);
			if (how == BOTH) {
				ASSERT_EQ(0, make_ready(gate[!late], k));
				spin(rnd(&w->m.seed, w->m.window));
			}
			ASSERT_EQ(0, make_ready(gate[late], k));
			if (how == STEAL) {
				unsigned int g = rnd(&w->m.seed, 2);

				ret = steal(gate[g]);
				if (ret) {
					ASSERT_EQ(-ETIMEDOUT, ret);
				} else {
					ASSERT_TRUE(is(gate[!g], k, READY));
					ASSERT_TRUE(hand_over(gate[g], k));
					stolen++;
				}
			}
			joins(w);
			ASSERT_EQ(0, w->ret) {
				TH_LOG("race %u of %u objects", i, nb[c]);
			}
			ASSERT_EQ(0U, w->r.index);
			for (q = 0; q < 2; q++) {
				ASSERT_TRUE(give_back(gate[q], k, OWNER)) {
					TH_LOG("race %u of %u objects: %u", i, nb[c], at[q]);
				}
			}
			if (extra_at != NO_PLACE) {
				ASSERT_TRUE(is(extra, k, IDLE));
			}
			for (p = 0; p < nb[c]; p++)
				taken[p] += p != at[0] && p != at[1] && p != extra_at;
			if (i % 32 == 0) {
				ASSERT_EQ(-ETIMEDOUT, wait_until(&w->r, NT_EXPIRED, 0));
			}
		}
		for (p = 0; p < ARRAY_LEN(fillers); p++) {
			ASSERT_TRUE(filler_is(fillers[p], k, taken[p])) {
				TH_LOG("%u objects: %u was not taken %u times", nb[c], p,
				       taken[p]);
			}
		}
		total += i;
	}
	TH_LOG("%u races, %u stolen", total, stolen);
	racer_stop(w);
}

TEST_F_TIMEOUT(fastpath, race_all_sem, NT_TEST_TIMEOUT)
{
	race_all(_metadata, self->dev, SEM);
}

TEST_F_TIMEOUT(fastpath, race_all_event, NT_TEST_TIMEOUT)
{
	race_all(_metadata, self->dev, AUTO);
}

TEST_F_TIMEOUT(fastpath, race_all_mutex, NT_TEST_TIMEOUT)
{
	race_all(_metadata, self->dev, MUTEX);
}

/*
 * A wait that does not run between its look and the end of its time. What is signaled meanwhile,
 * before the time is over, is taken, although the wait finds out only afterwards.
 *
 * All on one CPU. The waiter is a normal task. Whoever is more urgent comes by a timer at some
 * moment of its call, signals, and keeps the CPU until the time is over. What is signaled stays so
 * until somebody takes it, so it does not matter where in its call the waiter was, or whether it
 * had begun. With many objects, of which the first one becomes ready, it takes long from that look
 * to the next thing that the wait does; one for all is kept by a lock until it has seen them all.
 */

/* The moments that are tried, from when the waiter is told to begin. */
struct span {
	__u64 first;
	__u64 last;
};

#define MAX_SPAN	5000000ULL

/* Both ends go to where the waiter just does not enter its call any more, and just sleeps. */
static void adapt_span(struct span *s, bool entered, bool slept)
{
	__u64 step = (s->last - s->first) / 16 + 200;

	if (!entered)
		s->first += 4 * step;
	else
		s->first -= s->first > step ? step : s->first;
	if (!slept)
		s->last += step;
	else
		s->last -= s->last > 4 * step ? 4 * step : s->last;
	if (s->first > MAX_SPAN)
		s->first = MAX_SPAN;
	if (s->last < s->first + 2000)
		s->last = s->first + 2000;
	if (s->last > s->first + MAX_SPAN)
		s->last = s->first + MAX_SPAN;
}

/* What is left of the time when the timer is over, for one who took so long to signal. */
static __u64 next_margin(__u64 margin, __u64 took)
{
	margin += (2 * took + 20000) / 8;
	margin -= margin / 8;
	return margin < MAX_SPAN ? margin : MAX_SPAN;
}

/* The first object or the alert becomes ready; the others are in a wait for all, or never. */
static void suspended(struct __test_metadata *_metadata, int dev, bool all, bool alert,
		      unsigned int n, enum kind k)
{
	unsigned int i, delay, late = 0, awake = 0, index = alert ? n : 0;
	__u64 deadline, begin, fire, signaled, margin = 100000;
	struct span span = { .first = 5000, .last = 50000 };
	struct racer *w = &racer;
	struct row *r = &w->r;
	bool entered;
	int fd;

	fd = create(dev, k);
	ASSERT_LE(0, fd);
	for (i = 0; i < n; i++) {
		r->objs[i] = i || alert ? nt_create_event(dev, true, all && i) : dup(fd);
		ASSERT_LE(0, r->objs[i]);
	}
	r->n = n;
	r->all = all;
	r->alert = alert ? fd : 0;
	deadline = nt_now(CLOCK_MONOTONIC) + nt_scaled(SUSPENDED_MSEC) * 1000000ULL;
	for (i = 0; i < nt_scaled(NB_SUSPENDED) &&
		    (i < MIN_RACES || nt_now(CLOCK_MONOTONIC) < deadline); i++) {
		delay = rnd(&w->m.seed, span.last - span.first);
		begin = nt_now(CLOCK_MONOTONIC);
		fire = begin + span.first + delay;
		w->timeout = fire + margin;
		racer_go(w);
		nt_sleep_until(CLOCK_MONOTONIC, fire);
		entered = atomic_load(&w->entered) == w->seq;
		ASSERT_EQ(0, make_ready(fd, k));
		signaled = nt_now(CLOCK_MONOTONIC);
		while (nt_now(CLOCK_MONOTONIC) < w->timeout)
			;
		joins(w);
		if (signaled < w->timeout) {
			ASSERT_EQ(0, w->ret) {
				TH_LOG("wait %u for %u objects: signaled %llu ns before the end",
				       i, n, (unsigned long long)(w->timeout - signaled));
			}
			awake += entered && !w->slept;
		} else {
			ASSERT_TRUE(!w->ret || w->ret == -ETIMEDOUT);
			late++;
		}
		if (w->ret) {
			ASSERT_EQ(NT_POISON, r->index);
			ASSERT_TRUE(is(fd, k, READY));
			ASSERT_EQ(0, put_back(dev, fd, k));
		} else {
			ASSERT_EQ(index, r->index);
			ASSERT_TRUE(give_back(fd, k, OWNER));
		}
		adapt_span(&span, entered, w->slept);
		margin = next_margin(margin, signaled - fire);
	}
	TH_LOG("all %d, alert %d, %u objects: %u waits, %u met before they slept, %u too late", all,
	       alert, n, i, awake, late);
	w->timeout = 0;
	for (i = 0; i < n; i++)
		close(r->objs[i]);
	close(fd);
}

static void suspended_each(struct __test_metadata *_metadata, int dev, bool all, bool alert,
			   const unsigned int *nb, unsigned int count)
{
	static const enum kind kinds[] = { AUTO, SEM, MUTEX };
	unsigned int c;

	if (nt_sched_probe((struct nt_sched)NT_FIFO(50)))
		SKIP(return, "no right to real-time priorities");
	start_racer_on(_metadata, dev, nt_cpu(0));
	for (c = 0; c < count; c++)
		suspended(_metadata, dev, all, alert, nb[c], kinds[c % ARRAY_LEN(kinds)]);
	racer_stop(&racer);
}

TEST_F_TIMEOUT(fastpath, suspended_any, NT_TEST_TIMEOUT)
{
	static const unsigned int nb[] = { 64, 64, 64 };

	suspended_each(_metadata, self->dev, false, false, nb, ARRAY_LEN(nb));
}

TEST_F_TIMEOUT(fastpath, suspended_all, NT_TEST_TIMEOUT)
{
	static const unsigned int nb[] = { 64, 64, 64 };

	suspended_each(_metadata, self->dev, true, false, nb, ARRAY_LEN(nb));
}

/* The fewer there are, the shorter is what the timer has to hit. */
TEST_F_TIMEOUT(fastpath, suspended_few_any, NT_TEST_TIMEOUT)
{
	static const unsigned int nb[] = { 1, 2, 8 };

	suspended_each(_metadata, self->dev, false, false, nb, ARRAY_LEN(nb));
}

TEST_F_TIMEOUT(fastpath, suspended_few_all, NT_TEST_TIMEOUT)
{
	static const unsigned int nb[] = { 1, 2, 8 };

	suspended_each(_metadata, self->dev, true, false, nb, ARRAY_LEN(nb));
}

TEST_F_TIMEOUT(fastpath, suspended_alert_any, NT_TEST_TIMEOUT)
{
	static const unsigned int nb[] = { 1 };

	suspended_each(_metadata, self->dev, false, true, nb, ARRAY_LEN(nb));
}

TEST_F_TIMEOUT(fastpath, suspended_alert_all, NT_TEST_TIMEOUT)
{
	static const unsigned int nb[] = { 64 };

	suspended_each(_metadata, self->dev, true, true, nb, ARRAY_LEN(nb));
}

/*
 * One of two events is set at every moment, but never the same for long. A wait that looks at one
 * after the other can miss both.
 */

struct mover {
	pthread_t thread;
	int fd[2];
	bool smp;
	atomic_uint over;
	int ret;
	atomic_uint moves;
};

static void *mover_thread(void *arg)
{
	struct nt_sched above = NT_FIFO(50);
	struct mover *m = arg;
	unsigned int seed = 1;
	int ret = 0;

	/* on one CPU, to come in between; it helps, but need not be */
	nt_pin_self(nt_cpu(1));
	prctl(PR_SET_TIMERSLACK, 1);
	if (!m->smp && !nt_sched_probe(above))
		nt_sched_self(&above);
	while (!ret && !atomic_load(&m->over)) {
		int next = (atomic_fetch_add(&m->moves, 1) + 1) & 1;

		if (!m->smp)
			nt_sleep_until(CLOCK_MONOTONIC,
				       nt_now(CLOCK_MONOTONIC) + 20000 + rnd(&seed, 40000));
		ret = set(m->fd[next]);
		if (!ret && m->fd[0] != m->fd[1])
			ret = nt_ioctl(m->fd[!next], NTSYNC_IOC_EVENT_RESET, &(__u32){ 0 });
		else if (!ret && !next)
			ret = nt_ioctl(m->fd[0], NTSYNC_IOC_EVENT_RESET, &(__u32){ 0 });
	}
	m->ret = ret;
	return NULL;
}

static void mover_start(struct __test_metadata *_metadata, struct mover *m, int first, int second)
{
	*m = (struct mover){ .fd = { first, second }, .smp = nt_cpu_count() > 1 };
	ASSERT_EQ(0, set(first));
	ASSERT_EQ(0, pthread_create(&m->thread, NULL, mover_thread, m));
}

static void mover_stop(struct __test_metadata *_metadata, struct mover *m)
{
	atomic_store(&m->over, 1);
	ASSERT_EQ(0, pthread_join(m->thread, NULL));
	EXPECT_EQ(0, m->ret);
}

/* Not before something has moved, however slow the machine is. */
static bool go_on(struct mover *m, unsigned int done, __u64 deadline)
{
	return done < MIN_RACES || nt_now(CLOCK_MONOTONIC) < deadline ||
	       (atomic_load(&m->moves) < 4 && nt_now(CLOCK_MONOTONIC) < deadline + NT_BOUND_NSEC);
}

TEST_F_TIMEOUT(fastpath, never_nothing, NT_TEST_TIMEOUT)
{
	static const unsigned int nb[] = { 2, 9, 64 };
	int objs[NTSYNC_MAX_WAIT_COUNT];
	__u32 index, alert, i, n;
	unsigned int c, all;
	struct mover m;
	__u64 deadline;

	ASSERT_EQ(0, nt_pin_self(nt_cpu(0)));
	for (c = 0; c < ARRAY_LEN(nb); c++) {
		for (all = 0; all < 3; all++) {
			/* 0: any; 1: any, the last one is the alert; 2: all, the same */
			n = all ? nb[c] - 1 : nb[c];
			for (i = 0; i < nb[c]; i++) {
				objs[i] = nt_create_event(self->dev, true, all == 2 && i);
				ASSERT_LE(0, objs[i]);
			}
			alert = all ? objs[nb[c] - 1] : 0;
			mover_start(_metadata, &m, objs[0], objs[nb[c] - 1]);
			deadline = race_deadline();
			for (i = 0; go_on(&m, i, deadline); i++) {
				int ret = all == 2 ?
					nt_try_all(self->dev, n, objs, OWNER, alert, &index) :
					nt_try_any(self->dev, n, objs, OWNER, alert, &index);

				ASSERT_EQ(0, ret) {
					TH_LOG("kind %u of %u objects, look %u", all, nb[c], i);
				}
				ASSERT_TRUE(!index || index == nb[c] - 1);
			}
			mover_stop(_metadata, &m);
			for (i = 0; i < nb[c]; i++)
				close(objs[i]);
		}
	}
}

/* Who is there twice is reported where it is first, also if it was not there at first. */
TEST_F_TIMEOUT(fastpath, twice_in_between, NT_TEST_TIMEOUT)
{
	unsigned int alert, far, i;
	struct mover m;
	__u64 deadline;
	__u32 index;
	int objs[9];

	/* The first release left the queues in order, so the second place was there for longer. */
	if (nt_ioctl(self->dev, NTSYNC_IOC_CREATE_CHANNEL, NULL) == -ENOTTY)
		SKIP(return, "no channels");
	ASSERT_EQ(0, nt_pin_self(nt_cpu(0)));
	for (i = 0; i < ARRAY_LEN(objs); i++) {
		objs[i] = nt_create_event(self->dev, true, false);
		ASSERT_LE(0, objs[i]);
	}
	objs[8] = objs[0];
	for (alert = 0; alert < 2; alert++) {
		for (far = 0; far < 2; far++) {
			mover_start(_metadata, &m, objs[0], objs[0]);
			deadline = race_deadline();
			for (i = 0; go_on(&m, i, deadline); i++) {
				struct nt_wait w = {
					.dev = self->dev, .objs = objs, .count = alert ? 1 : 9,
					.owner = OWNER, .alert = alert ? objs[0] : 0,
					.timeout = far ? nt_bound() : NT_EXPIRED,
				};
				int ret = nt_wait(&w);

				index = w.index;
				ASSERT_TRUE(!ret || (!far && ret == -ETIMEDOUT));
				if (!ret) {
					ASSERT_EQ(0U, index);
				}
			}
			mover_stop(_metadata, &m);
		}
	}
}

/*
 * Several sleepers and several semaphores, with one permit at a time: nobody sleeps on while
 * there is one.
 */

struct sleeper {
	pthread_t thread;
	struct row r;
	unsigned int which[NB_SEMS];	/* semaphore at each index */
	int ret;
	atomic_uint done;
};

static atomic_uint eaten, eaten_of[NB_SEMS];

static void *sleeper_thread(void *arg)
{
	struct sleeper *s = arg;

	/* the semaphores come before the event that ends it */
	while (!(s->ret = wait_until(&s->r, nt_bound(), 0)) && s->r.index < NB_SEMS) {
		atomic_fetch_add(&eaten_of[s->which[s->r.index]], 1);
		atomic_fetch_add(&eaten, 1);
		nt_futex_wake(&eaten);
	}
	atomic_store(&s->done, 1);
	nt_futex_wake(&s->done);
	return NULL;
}

TEST_F_TIMEOUT(fastpath, nobody_sleeps_on, NT_TEST_TIMEOUT)
{
	static struct sleeper sleepers[NB_SLEEPERS];
	unsigned int i, k, seed = 1, released[NB_SEMS] = { 0 };
	bool smp = nt_cpu_count() > 1;
	int sems[NB_SEMS];
	__u64 deadline;

	for (k = 0; k < NB_SEMS; k++) {
		sems[k] = nt_create_sem(self->dev, 0, SEM_MAX);
		ASSERT_LE(0, sems[k]);
	}
	for (i = 0; i < NB_SLEEPERS; i++) {
		struct sleeper *s = &sleepers[i];

		s->r = (struct row){ .dev = self->dev, .n = NB_SEMS + 1, .owner = OWNER };
		for (k = 0; k < NB_SEMS; k++) {
			s->which[k] = (i + k) % NB_SEMS;
			s->r.objs[k] = sems[s->which[k]];
		}
		s->r.objs[NB_SEMS] = self->never;
		ASSERT_EQ(0, pthread_create(&s->thread, NULL, sleeper_thread, s));
	}
	deadline = nt_now(CLOCK_MONOTONIC) + nt_scaled(SLEEPERS_MSEC) * 1000000ULL;
	for (i = 0; i < nt_scaled(NB_PERMITS) && nt_now(CLOCK_MONOTONIC) < deadline; i++) {
		k = rnd(&seed, NB_SEMS);
		ASSERT_EQ(0, nt_release_sem(sems[k], 1, NULL));
		released[k]++;
		/* often the next one comes while they are about to take this one */
		if (smp)
			spin(rnd(&seed, 4000));
		if (i + 1 - atomic_load(&eaten) > 3 || !rnd(&seed, 3)) {
			ASSERT_TRUE(nt_await(&eaten, i + 1)) {
				TH_LOG("%u of %u were taken", atomic_load(&eaten), i + 1);
			}
			/* and they go to sleep again */
			if (smp)
				spin(rnd(&seed, 8000));
		}
	}
	EXPECT_TRUE(nt_await(&eaten, i)) {
		TH_LOG("%u of %u were taken", atomic_load(&eaten), i);
	}
	ASSERT_EQ(0, set(self->never));
	for (k = 0; k < NB_SLEEPERS; k++) {
		ASSERT_TRUE(nt_await(&sleepers[k].done, 1));
		pthread_join(sleepers[k].thread, NULL);
		EXPECT_EQ(0, sleepers[k].ret);
	}
	EXPECT_EQ(i, atomic_load(&eaten));
	for (k = 0; k < NB_SEMS; k++) {
		EXPECT_EQ(released[k], atomic_load(&eaten_of[k]));
		check_sem(sems[k], 0, SEM_MAX);
	}
	TH_LOG("%u permits", i);
}

/*
 * Priorities.
 */

#define NB_AGENTS	4

struct agent {
	struct actor a;		/* must be first */
	int alert;
	void *args;		/* if not NULL, those of its next wait; read-only */
	__u32 index;		/* result; poisoned before */
	int seen;		/* the priority that it had afterwards */
	__u64 start;		/* when its wait began */
};

/* What they wait for besides. */
struct env {
	int dev;
	int idle[NTSYNC_MAX_WAIT_COUNT];
	int plenty[NTSYNC_MAX_WAIT_COUNT];
	int never;
	int always;
	char *pages;
	struct agent g[NB_AGENTS];
};

static pid_t tid_of(struct agent *g)
{
	return atomic_load(&g->a.tid);
}

/* The controller's own is that of a lock in the kernel, for a moment. */
static int prio_of(struct agent *g)
{
	int prio = FIFO(CONTROLLER_PRIO);

	poll_until((prio = actor_prio(&g->a)) != FIFO(CONTROLLER_PRIO));
	return prio;
}

static int set_own(struct agent *g, int prio)
{
	return set_sched(tid_of(g), prio ? SCHED_FIFO : SCHED_OTHER, prio);
}

static int kick(struct agent *g)
{
	return syscall(SYS_tgkill, getpid(), tid_of(g), SIGUSR1) ? -errno : 0;
}

static int do_look(struct actor *a)
{
	struct agent *g = (struct agent *)a;
	struct nt_wait wait = {
		.dev = a->dev, .objs = a->objs, .count = a->nb_objs, .owner = a->id,
		.all = a->all, .alert = g->alert, .timeout = a->timeout, .index = NT_POISON,
	};
	int ret;

	g->start = nt_now(CLOCK_MONOTONIC);
	if (g->args)
		ret = nt_ioctl(a->dev, a->all ? NTSYNC_IOC_WAIT_ALL : NTSYNC_IOC_WAIT_ANY,
			       g->args);
	else
		ret = nt_wait(&wait);
	g->index = wait.index;
	g->seen = prio_of(g);
	return ret;
}

/* A wait for n objects, with this one among them. The others are there in a wait for all. */
static void arrange(struct env *e, struct agent *g, bool all, unsigned int n, unsigned int p,
		    int fd)
{
	memcpy(g->a.objs, all ? e->plenty : e->idle, n * sizeof(*g->a.objs));
	if (n)
		g->a.objs[p] = fd;
	g->a.nb_objs = n;
	g->a.all = all;
	g->a.timeout = 0;
	g->alert = 0;
	g->args = NULL;
}

/* The same, when the result cannot be stored. After that arrange() has to be called again. */
static bool arrange_fault(struct env *e, struct agent *g)
{
	struct ntsync_wait_args args = {
		.timeout = nt_bound(), .objs = (uintptr_t)g->a.objs, .count = g->a.nb_objs,
		.index = NT_POISON, .owner = g->a.id, .alert = g->alert,
	};

	g->args = frozen(e->pages, &args, true);
	return g->args;
}

#define has(g, prio) do {						\
	struct agent *__h = (g);					\
									\
	EXPECT_EQ((prio), prio_of(__h));				\
} while (0)

/* After its call, as it saw it itself, and still. */
#define came_with(g, prio) do {						\
	struct agent *__w = (g);					\
	int __came = (prio);						\
									\
	EXPECT_EQ(__came, __w->seen);					\
	has(__w, __came);						\
} while (0)

/* The wait that was arranged does not sleep. */
#define returns(g, _ret, _index) do {					\
	struct agent *__g = (g);					\
									\
	ASSERT_EQ((_ret), actor_do(&__g->a, do_look)) {			\
		TH_LOG("%u objects, index %#x", __g->a.nb_objs, __g->index); \
	}								\
	EXPECT_EQ((__u32)(_index), __g->index);				\
} while (0)

/* Somebody of that priority sleeps for it, alone. */
#define is_wanted(e, g, fd, prio) do {					\
	struct agent *__q = (g);					\
									\
	ASSERT_EQ(0, set_own(__q, (prio)));				\
	arrange((e), __q, false, 1, 0, (fd));				\
	actor_begin(&__q->a, do_look);					\
	ASSERT_TRUE(actor_asleep(&__q->a)) {				\
		TH_LOG("does not sleep (returned %d)", __q->a.ret);	\
	}								\
} while (0)

#define gets_it(g) do {							\
	struct agent *__q = (g);					\
									\
	ASSERT_EQ(0, actor_end(&__q->a));				\
	EXPECT_EQ(0U, __q->index);					\
} while (0)

#define interrupt(g) do {						\
	struct agent *__q = (g);					\
									\
	ASSERT_EQ(0, kick(__q));					\
	ASSERT_EQ(-EINTR, actor_end(&__q->a));				\
} while (0)

static void setup_env(struct __test_metadata *_metadata, struct env *e)
{
	unsigned int i;

	for (i = 0; i < NTSYNC_MAX_WAIT_COUNT; i++) {
		e->idle[i] = nt_create_event(e->dev, false, false);
		ASSERT_LE(0, e->idle[i]);
		e->plenty[i] = nt_create_sem(e->dev, UINT_MAX, UINT_MAX);
		ASSERT_LE(0, e->plenty[i]);
	}
	e->never = nt_create_event(e->dev, true, false);
	ASSERT_LE(0, e->never);
	e->always = nt_create_event(e->dev, true, true);
	ASSERT_LE(0, e->always);
	e->pages = two_pages(PROT_READ);
	ASSERT_TRUE(e->pages != NULL);
	for (i = 0; i < NB_AGENTS; i++) {
		e->g[i].a.id = i + 1;
		ASSERT_EQ(0, actor_start(&e->g[i].a, e->dev, 0));
	}
}

FIXTURE(fastpath_pi) {
	struct env e;
	int mutex;
	struct agent *owner, *waiter, *waiter2, *other;
};

FIXTURE_SETUP(fastpath_pi)
{
	begin_pi(self->e.dev);
	setup_env(_metadata, &self->e);
	self->mutex = nt_create_mutex(self->e.dev, 0, 0);
	ASSERT_LE(0, self->mutex);
	self->owner = &self->e.g[0];
	self->waiter = &self->e.g[1];
	self->waiter2 = &self->e.g[2];
	self->other = &self->e.g[3];
}

FIXTURE_TEARDOWN(fastpath_pi)
{
}

/* Who has it since its wait has what is lent, and nobody else, until it is released. */
#define lends_until_released(g, fd) do {				\
	struct agent *__l = (g);					\
	int __fd = (fd);						\
									\
	came_with(__l, NORMAL);						\
	is_wanted(&self->e, self->waiter, __fd, 50);			\
	has(__l, FIFO(50));						\
	ASSERT_EQ(0, set_own(self->waiter, 60));			\
	has(__l, FIFO(60));						\
	has(self->other, NORMAL);					\
	releases(&__l->a, __fd);					\
	has(__l, NORMAL);						\
	gets_it(self->waiter);						\
	check_mutex(__fd, self->waiter->a.id, 1);			\
	releases(&self->waiter->a, __fd);				\
	check_mutex(__fd, 0, 0);					\
} while (0)

TEST_F_TIMEOUT(fastpath_pi, owner, NT_TEST_TIMEOUT)
{
	struct agent *owner = self->owner;
	unsigned int c, i, all, p;

	for (c = 0; c < ARRAY_LEN(counts); c++) {
		for (i = 0; i < 2 * NB_PLACES; i++) {
			p = place(counts[c], i / 2);
			all = i & 1;
			arrange(&self->e, owner, all, counts[c], p, self->mutex);
			owner->a.timeout = (i + c) & 2 ? NT_EXPIRED : 0;
			returns(owner, 0, all ? 0 : p);
			check_mutex(self->mutex, owner->a.id, 1);
			lends_until_released(owner, self->mutex);
			so_far_so_good();
		}
	}
}

/* Of several mutexes, each of which is wanted by somebody else. */
TEST_F_TIMEOUT(fastpath_pi, owner_of_several, NT_TEST_TIMEOUT)
{
	struct agent *owner = self->owner;
	int second = nt_create_mutex(self->e.dev, 0, 0);
	unsigned int c, i;

	ASSERT_LE(0, second);
	for (c = 1; c < ARRAY_LEN(counts); c++) {
		for (i = 0; i < 2; i++) {
			int low = i ? self->mutex : second, high = i ? second : self->mutex;

			arrange(&self->e, owner, true, counts[c], 0, self->mutex);
			owner->a.objs[counts[c] - 1] = second;
			returns(owner, 0, 0);
			came_with(owner, NORMAL);
			is_wanted(&self->e, self->waiter, low, 50);
			has(owner, FIFO(50));
			is_wanted(&self->e, self->waiter2, high, 60);
			has(owner, FIFO(60));
			releases(&owner->a, high);
			has(owner, FIFO(50));
			gets_it(self->waiter2);
			releases(&owner->a, low);
			has(owner, NORMAL);
			gets_it(self->waiter);
			releases(&self->waiter->a, low);
			releases(&self->waiter2->a, high);
			so_far_so_good();
		}
	}
}

TEST_F_TIMEOUT(fastpath_pi, owner_by_alert, NT_TEST_TIMEOUT)
{
	struct agent *owner = self->owner;
	unsigned int c, all;

	for (c = 0; c < ARRAY_LEN(sizes); c++) {
		for (all = 0; all < 2; all++) {
			arrange(&self->e, owner, all, sizes[c], 0, self->e.never);
			owner->alert = self->mutex;
			returns(owner, 0, sizes[c]);
			lends_until_released(owner, self->mutex);
			so_far_so_good();
		}
	}
}

TEST_F_TIMEOUT(fastpath_pi, owner_of_abandoned, NT_TEST_TIMEOUT)
{
	struct agent *owner = self->owner, *other = self->other;
	unsigned int c, all, p;

	for (c = 0; c < ARRAY_LEN(sizes); c++) {
		for (all = 0; all < 2; all++) {
			p = sizes[c] - 1;
			acquires(&other->a, self->mutex);
			ASSERT_EQ(0, nt_kill_mutex(self->mutex, other->a.id));
			arrange(&self->e, owner, all, sizes[c], p, self->mutex);
			returns(owner, -EOWNERDEAD, all ? 0 : p);
			lends_until_released(owner, self->mutex);
			so_far_so_good();
		}
	}
}

/* The result could not be stored, but it has it. */
TEST_F_TIMEOUT(fastpath_pi, owner_after_fault, NT_TEST_TIMEOUT)
{
	struct agent *owner = self->owner;
	unsigned int c, all;

	for (c = 0; c < ARRAY_LEN(sizes); c++) {
		for (all = 0; all < 2; all++) {
			arrange(&self->e, owner, all, sizes[c], sizes[c] - 1, self->mutex);
			ASSERT_TRUE(arrange_fault(&self->e, owner));
			returns(owner, -EFAULT, NT_POISON);
			check_mutex(self->mutex, owner->a.id, 1);
			lends_until_released(owner, self->mutex);
			so_far_so_good();
		}
	}
}

/* Two tasks with one id: who had it first inherits. */
TEST_F_TIMEOUT(fastpath_pi, first_acquirer, NT_TEST_TIMEOUT)
{
	struct agent *owner = self->owner, *other = self->other;
	unsigned int c, all, p;

	other->a.id = owner->a.id;
	for (c = 0; c < ARRAY_LEN(sizes); c++) {
		for (all = 0; all < 2; all++) {
			p = sizes[c] - 1;
			arrange(&self->e, owner, all, sizes[c], p, self->mutex);
			returns(owner, 0, all ? 0 : p);
			arrange(&self->e, other, !all, sizes[c], p, self->mutex);
			returns(other, 0, !all ? 0 : p);
			check_mutex(self->mutex, owner->a.id, 2);
			/* and once more by the first one */
			arrange(&self->e, owner, all, sizes[c], p, self->mutex);
			returns(owner, 0, all ? 0 : p);
			is_wanted(&self->e, self->waiter, self->mutex, 50);
			has(owner, FIFO(50));
			has(other, NORMAL);
			/* the same while somebody waits */
			arrange(&self->e, other, all, sizes[c], p, self->mutex);
			returns(other, 0, all ? 0 : p);
			came_with(other, NORMAL);
			has(owner, FIFO(50));
			check_mutex(self->mutex, owner->a.id, 4);
			releases(&owner->a, self->mutex);
			releases(&owner->a, self->mutex);
			releases(&owner->a, self->mutex);
			has(owner, FIFO(50));
			releases(&owner->a, self->mutex);
			has(owner, NORMAL);
			gets_it(self->waiter);
			releases(&self->waiter->a, self->mutex);
			so_far_so_good();
		}
	}
}

/*
 * Somebody sleeps for a mutex that nobody has, since it wants something else, too. Who takes the
 * mutex then is its owner, and has what that one lends when the call returns.
 */
TEST_F_TIMEOUT(fastpath_pi, waiter_was_first, NT_TEST_TIMEOUT)
{
	struct agent *owner = self->owner, *waiter = self->waiter;
	unsigned int c, i, all, p;

	ASSERT_EQ(0, set_own(waiter, 50));
	for (c = 0; c < ARRAY_LEN(counts); c++) {
		for (i = 0; i < 2 * NB_PLACES; i++) {
			p = place(counts[c], i / 2);
			all = i & 1;
			arrange(&self->e, waiter, true, 2, i & 1, self->mutex);
			waiter->a.objs[!(i & 1)] = self->e.never;
			actor_begin(&waiter->a, do_look);
			ASSERT_TRUE(actor_asleep(&waiter->a));

			arrange(&self->e, owner, all, counts[c], p, self->mutex);
			owner->a.timeout = i & 2 ? NT_EXPIRED : 0;
			returns(owner, 0, all ? 0 : p);
			came_with(owner, FIFO(50));
			/* recursion changes nothing */
			returns(owner, 0, all ? 0 : p);
			came_with(owner, FIFO(50));
			releases(&owner->a, self->mutex);
			has(owner, FIFO(50));
			releases(&owner->a, self->mutex);
			has(owner, NORMAL);

			/* as an alert */
			arrange(&self->e, owner, all, counts[c], p, self->e.never);
			owner->alert = self->mutex;
			returns(owner, 0, counts[c]);
			came_with(owner, FIFO(50));
			ASSERT_TRUE(actor_asleep(&waiter->a));
			interrupt(waiter);
			has(owner, NORMAL);
			releases(&owner->a, self->mutex);
			so_far_so_good();
		}
	}
}

/* A wait that was over at once has left nothing with the owner. */
TEST_F_TIMEOUT(fastpath_pi, nothing_is_left, NT_TEST_TIMEOUT)
{
	struct agent *owner = self->owner, *waiter = self->waiter;
	unsigned int c, i, all, p, q;

	acquires(&owner->a, self->mutex);
	ASSERT_EQ(0, set_own(waiter, 80));
	for (c = 1; c < ARRAY_LEN(counts); c++) {
		for (i = 0; i < 2 * NB_PLACES; i++) {
			p = place(counts[c], i / 2);
			all = i & 1;
			/* it timed out */
			arrange(&self->e, waiter, all, counts[c], p, self->mutex);
			waiter->a.timeout = i & 2 ? NT_EXPIRED : nt_now(CLOCK_MONOTONIC) - 1;
			returns(waiter, -ETIMEDOUT, NT_POISON);
			has(owner, NORMAL);
			/* it was alerted */
			waiter->alert = self->e.always;
			waiter->a.timeout = i & 2 ? NT_EXPIRED : 0;
			returns(waiter, 0, counts[c]);
			has(owner, NORMAL);
			/* it was refused */
			waiter->alert = self->e.dev;
			returns(waiter, -EINVAL, NT_POISON);
			has(owner, NORMAL);
			/* something else was there, before or behind the mutex */
			arrange(&self->e, waiter, false, counts[c], p, self->mutex);
			q = p ? 0 : counts[c] - 1;
			waiter->a.objs[q] = self->e.always;
			returns(waiter, 0, q);
			has(owner, NORMAL);
			check_mutex(self->mutex, owner->a.id, 1);
			so_far_so_good();
		}
	}

	/* nor in the mutex */
	is_wanted(&self->e, waiter, self->mutex, 30);
	has(owner, FIFO(30));
	releases(&owner->a, self->mutex);
	has(owner, NORMAL);
	gets_it(waiter);
}

#define ADJUSTED	"/sys/module/pi_chain/parameters/adjusted"

/*
 * Nor was anything lent meanwhile: the timeout is over, or something is there, so it need not
 * be queued. The kernel counts what is done to the scheduler.
 */
TEST_F_TIMEOUT(fastpath_pi, nothing_is_lent, NT_TEST_TIMEOUT)
{
	struct agent *owner = self->owner, *waiter = self->waiter;
	char before[32] = "", after[32] = "";
	unsigned int c, all;

	acquires(&owner->a, self->mutex);
	ASSERT_EQ(0, set_own(waiter, 80));
	ASSERT_TRUE(nt_read_file(ADJUSTED, before, sizeof(before)));
	for (c = 1; c < ARRAY_LEN(counts); c++) {
		for (all = 0; all < 2; all++) {
			arrange(&self->e, waiter, all, counts[c], 0, self->mutex);
			waiter->a.timeout = NT_EXPIRED;
			returns(waiter, -ETIMEDOUT, NT_POISON);
		}
		arrange(&self->e, waiter, false, counts[c], 0, self->mutex);
		waiter->a.objs[counts[c] - 1] = self->e.always;
		returns(waiter, 0, counts[c] - 1);
	}
	ASSERT_TRUE(nt_read_file(ADJUSTED, after, sizeof(after)));
	EXPECT_EQ(0, strcmp(before, after)) {
		TH_LOG("%s, and then %s", before, after);
	}

	/* and it does count */
	is_wanted(&self->e, waiter, self->mutex, 80);
	has(owner, FIFO(80));
	ASSERT_TRUE(nt_read_file(ADJUSTED, after, sizeof(after)));
	EXPECT_NE(0, strcmp(before, after));
	releases(&owner->a, self->mutex);
	gets_it(waiter);
}

/*
 * EVENT_SET_PI of an event that nobody waits for: the first who takes it has the priority when
 * its call returns, and until its next wait.
 */

FIXTURE(fastpath_set_pi) {
	struct env e;
	int event;
	int there;		/* another CPU, if there is one */
	bool smp;
	struct agent *c, *d, *w;
};

static int set_pi(int event, __u32 prio)
{
	struct ntsync_event_set_pi_args args = { .policy = SCHED_FIFO, .prio = prio };

	return nt_ioctl(event, NTSYNC_IOC_EVENT_SET_PI, &args);
}

FIXTURE_SETUP(fastpath_set_pi)
{
	/* before this thread is pinned */
	self->there = nt_cpu(1);
	self->smp = nt_cpu_count() > 1;
	begin_pi(self->e.dev);
	self->event = nt_create_event(self->e.dev, false, false);
	ASSERT_LE(0, self->event);
	if (nt_ioctl(self->event, NTSYNC_IOC_EVENT_SET_PI, NULL) == -ENOTTY)
		SKIP(return, "no EVENT_SET_PI in this kernel");
	setup_env(_metadata, &self->e);
	self->c = &self->e.g[0];
	self->d = &self->e.g[1];
	self->w = &self->e.g[2];
}

FIXTURE_TEARDOWN(fastpath_set_pi)
{
}

/* A wait that ends what it has, and takes nothing. */
#define waits_again(g, prio) do {					\
	struct agent *__v = (g);					\
									\
	arrange(&self->e, __v, false, 1, 0, self->e.never);		\
	__v->a.timeout = NT_EXPIRED;					\
	returns(__v, -ETIMEDOUT, NT_POISON);				\
	came_with(__v, (prio));						\
} while (0)

/* It is there still, and so is its priority: d gets both. */
#define left_with(prio) do {						\
	check_event(self->event, 0, 1);					\
	arrange(&self->e, self->d, false, 1, 0, self->event);		\
	self->d->a.timeout = NT_EXPIRED;				\
	returns(self->d, 0, 0);						\
	came_with(self->d, FIFO(prio));					\
	check_event(self->event, 0, 0);					\
	waits_again(self->d, NORMAL);					\
} while (0)

TEST_F_TIMEOUT(fastpath_set_pi, staged, NT_TEST_TIMEOUT)
{
	struct agent *c = self->c;
	unsigned int n, i, all, p;

	for (n = 0; n < ARRAY_LEN(counts); n++) {
		for (i = 0; i < 2 * NB_PLACES; i++) {
			p = place(counts[n], i / 2);
			all = i & 1;
			EXPECT_EQ(0, set_pi(self->event, 50));
			arrange(&self->e, c, all, counts[n], p, self->event);
			c->a.timeout = (n + i) & 2 ? NT_EXPIRED : 0;
			returns(c, 0, all ? 0 : p);
			came_with(c, FIFO(50));
			EXPECT_EQ(SCHED_OTHER, sched_getscheduler(tid_of(c)));
			check_event(self->event, 0, 0);
			has(self->d, NORMAL);
			/* what is set without a priority gives none */
			EXPECT_EQ(0, set(self->event));
			returns(c, 0, all ? 0 : p);
			came_with(c, NORMAL);
			so_far_so_good();
		}
	}
}

TEST_F_TIMEOUT(fastpath_set_pi, staged_in_alert, NT_TEST_TIMEOUT)
{
	struct agent *c = self->c;
	unsigned int n, all;

	for (n = 0; n < ARRAY_LEN(sizes); n++) {
		for (all = 0; all < 2; all++) {
			EXPECT_EQ(0, set_pi(self->event, 50));
			arrange(&self->e, c, all, sizes[n], 0, self->e.never);
			c->alert = self->event;
			returns(c, 0, sizes[n]);
			came_with(c, FIFO(50));
			check_event(self->event, 0, 0);
			waits_again(c, NORMAL);

			/* an object comes first */
			EXPECT_EQ(0, set_pi(self->event, 40));
			arrange(&self->e, c, all, sizes[n], 0, self->e.plenty[0]);
			c->alert = self->event;
			returns(c, 0, 0);
			came_with(c, NORMAL);
			left_with(40);
			so_far_so_good();
		}
	}

	/* and if there is no object */
	EXPECT_EQ(0, set_pi(self->event, 50));
	arrange(&self->e, c, false, 0, 0, 0);
	c->alert = self->event;
	returns(c, 0, 0);
	came_with(c, FIFO(50));
	EXPECT_EQ(0, set_pi(self->event, 50));
	arrange(&self->e, c, true, 0, 0, 0);
	c->alert = self->event;
	returns(c, 0, 0);
	came_with(c, NORMAL);
	left_with(50);
}

/* In a wait for all, the highest of them. */
TEST_F_TIMEOUT(fastpath_set_pi, staged_in_several, NT_TEST_TIMEOUT)
{
	struct agent *c = self->c;
	int second = nt_create_event(self->e.dev, true, false);
	unsigned int n, i;

	ASSERT_LE(0, second);
	for (n = 1; n < ARRAY_LEN(counts); n++) {
		for (i = 0; i < 4; i++) {
			EXPECT_EQ(0, set_pi(self->event, i & 1 ? 30 : 60));
			EXPECT_EQ(0, set_pi(second, i & 1 ? 60 : 30));
			arrange(&self->e, c, true, counts[n], i & 2 ? 0 : counts[n] - 1,
				self->event);
			c->a.objs[i & 2 ? counts[n] - 1 : 0] = second;
			returns(c, 0, 0);
			came_with(c, FIFO(60));
			check_event(self->event, 0, 0);
			/* nothing is left of the lower one */
			check_event(second, 1, 1);
			arrange(&self->e, self->d, false, 1, 0, second);
			returns(self->d, 0, 0);
			came_with(self->d, NORMAL);
			waits_again(c, NORMAL);
			ASSERT_EQ(0, nt_event(second, NTSYNC_IOC_EVENT_RESET, NULL));
			so_far_so_good();
		}
	}
}

/* Who takes something of a lower index leaves it, and its priority. */
TEST_F_TIMEOUT(fastpath_set_pi, lower_index, NT_TEST_TIMEOUT)
{
	int second = nt_create_event(self->e.dev, false, false);
	struct agent *c = self->c;
	unsigned int n, i, p, q;

	ASSERT_LE(0, second);
	for (n = 1; n < ARRAY_LEN(counts); n++) {
		for (i = 0; i < 4; i++) {
			p = i & 1 ? counts[n] - 1 : counts[n] / 2;
			q = i & 2 ? p - 1 : 0;
			EXPECT_EQ(0, set_pi(self->event, 50));
			arrange(&self->e, c, false, counts[n], p, self->event);
			c->a.objs[q] = self->e.always;
			returns(c, 0, q);
			came_with(c, NORMAL);
			left_with(50);

			/* also if that is an event with a priority of its own */
			EXPECT_EQ(0, set_pi(self->event, 50));
			EXPECT_EQ(0, set_pi(second, 30));
			c->a.objs[q] = second;
			returns(c, 0, q);
			came_with(c, FIFO(30));
			left_with(50);

			/* it is the lower one */
			EXPECT_EQ(0, set_pi(self->event, 50));
			EXPECT_EQ(0, set_pi(second, 60));
			arrange(&self->e, c, false, counts[n], 0, self->event);
			c->a.objs[counts[n] - 1] = second;
			returns(c, 0, 0);
			came_with(c, FIFO(50));
			returns(c, 0, counts[n] - 1);
			came_with(c, FIFO(60));
			waits_again(c, NORMAL);
			so_far_so_good();
		}
	}
}

/* Who has taken nothing has no part in it. */
TEST_F_TIMEOUT(fastpath_set_pi, not_consumed, NT_TEST_TIMEOUT)
{
	struct agent *c = self->c;
	unsigned int n, i, p;

	for (n = 1; n < ARRAY_LEN(counts); n++) {
		for (i = 0; i < NB_PLACES; i++) {
			p = place(counts[n], i);
			/* one of all is not there */
			EXPECT_EQ(0, set_pi(self->event, 50));
			arrange(&self->e, c, true, counts[n], p, self->event);
			c->a.objs[p ? 0 : counts[n] - 1] = self->e.never;
			c->a.timeout = NT_EXPIRED;
			returns(c, -ETIMEDOUT, NT_POISON);
			came_with(c, NORMAL);
			left_with(50);
			/* the same, and it is alerted */
			EXPECT_EQ(0, set_pi(self->event, 40));
			c->alert = self->e.always;
			returns(c, 0, counts[n]);
			came_with(c, NORMAL);
			left_with(40);
			/* it is wrong */
			EXPECT_EQ(0, set_pi(self->event, 30));
			arrange(&self->e, c, i & 1, counts[n], p, self->event);
			c->a.objs[p ? 0 : counts[n] - 1] = self->e.dev;
			returns(c, -EINVAL, NT_POISON);
			came_with(c, NORMAL);
			left_with(30);
			/* or names the event twice */
			EXPECT_EQ(0, set_pi(self->event, 20));
			arrange(&self->e, c, true, counts[n], p, self->event);
			c->a.objs[p ? 0 : counts[n] - 1] = self->event;
			returns(c, -EINVAL, NT_POISON);
			came_with(c, NORMAL);
			left_with(20);
			so_far_so_good();
		}
	}
}

/* It is taken once, at its lowest index. */
TEST_F_TIMEOUT(fastpath_set_pi, twice, NT_TEST_TIMEOUT)
{
	struct agent *c = self->c;
	unsigned int n, p;

	for (n = 1; n < ARRAY_LEN(counts); n++) {
		p = counts[n] / 2 - 1;
		EXPECT_EQ(0, set_pi(self->event, 50));
		arrange(&self->e, c, false, counts[n], p, self->event);
		c->a.objs[counts[n] - 1] = self->event;
		c->alert = self->event;
		c->a.timeout = NT_EXPIRED;
		returns(c, 0, p);
		came_with(c, FIFO(50));
		check_event(self->event, 0, 0);
		returns(c, -ETIMEDOUT, NT_POISON);
		came_with(c, NORMAL);
		so_far_so_good();
	}
}

/* A manual event stays signaled, but has it only for the first one. */
TEST_F_TIMEOUT(fastpath_set_pi, manual, NT_TEST_TIMEOUT)
{
	int manual = nt_create_event(self->e.dev, true, false);
	struct agent *c = self->c, *d = self->d;
	unsigned int n, all;

	ASSERT_LE(0, manual);
	for (n = 0; n < ARRAY_LEN(sizes); n++) {
		for (all = 0; all < 2; all++) {
			EXPECT_EQ(0, set_pi(manual, 50));
			arrange(&self->e, c, all, sizes[n], 0, manual);
			arrange(&self->e, d, !all, sizes[n], 0, manual);
			returns(c, 0, 0);
			came_with(c, FIFO(50));
			returns(d, 0, 0);
			came_with(d, NORMAL);
			/* its own has ended with the second wait */
			returns(c, 0, 0);
			came_with(c, NORMAL);
			check_event(manual, 1, 1);
			ASSERT_EQ(0, nt_event(manual, NTSYNC_IOC_EVENT_RESET, NULL));
			so_far_so_good();
		}
	}
}

/* A wait that need not sleep ends it all the same, whether it takes something or not. */
TEST_F_TIMEOUT(fastpath_set_pi, ended_at_once, NT_TEST_TIMEOUT)
{
	enum { VAIN, OVER, FAR, ALERT, ALERT_OVER, NB_WAYS } how;
	struct agent *c = self->c;
	unsigned int n, i, nb, all;

	for (n = 0; n <= ARRAY_LEN(counts); n++) {
		/* no object at all, in the end */
		nb = n < ARRAY_LEN(counts) ? counts[n] : 0;
		for (i = 0; i < 2 * NB_WAYS; i++) {
			how = i / 2;
			all = i & 1;
			/* all of nothing are there, and none of it is */
			if (!nb && all != (how == OVER || how == FAR))
				continue;
			EXPECT_EQ(0, set_pi(self->event, 50));
			arrange(&self->e, c, false, 1, 0, self->event);
			returns(c, 0, 0);
			came_with(c, FIFO(50));

			arrange(&self->e, c, all, nb, nb - 1,
				how == OVER || how == FAR ? self->e.always : self->e.never);
			if (how == ALERT || how == ALERT_OVER)
				c->alert = self->e.always;
			if (how == VAIN || how == OVER || how == ALERT_OVER)
				c->a.timeout = NT_EXPIRED;
			ASSERT_EQ(how == VAIN ? -ETIMEDOUT : 0, actor_do(&c->a, do_look)) {
				TH_LOG("%u objects, all %u, how %d", nb, all, how);
			}
			came_with(c, NORMAL);
			so_far_so_good();
		}
	}
}

/* The next one takes its place, be it lower or higher. */
TEST_F_TIMEOUT(fastpath_set_pi, replaced, NT_TEST_TIMEOUT)
{
	static const int prios[] = { 60, 30, 50, 1, 90, 89 };
	struct agent *c = self->c;
	unsigned int n, i;

	for (n = 0; n < ARRAY_LEN(sizes); n++) {
		for (i = 0; i < ARRAY_LEN(prios); i++) {
			EXPECT_EQ(0, set_pi(self->event, prios[i]));
			arrange(&self->e, c, i & 1, sizes[n], sizes[n] / 2, self->event);
			returns(c, 0, i & 1 ? 0 : sizes[n] / 2);
			came_with(c, FIFO(prios[i]));
		}
		waits_again(c, NORMAL);
		so_far_so_good();
	}

	/* its own is as good */
	ASSERT_EQ(0, set_own(c, 70));
	EXPECT_EQ(0, set_pi(self->event, 50));
	arrange(&self->e, c, false, 1, 0, self->event);
	returns(c, 0, 0);
	came_with(c, FIFO(70));
	ASSERT_EQ(0, set_own(c, 20));
	has(c, FIFO(50));
	waits_again(c, FIFO(20));
}

/* It took place, though the result cannot be stored. */
TEST_F_TIMEOUT(fastpath_set_pi, result_fault, NT_TEST_TIMEOUT)
{
	struct agent *c = self->c;
	unsigned int n, i;

	for (n = 0; n < ARRAY_LEN(sizes); n++) {
		for (i = 0; i < 4; i++) {
			EXPECT_EQ(0, set_pi(self->event, 50));
			arrange(&self->e, c, i & 1, sizes[n], sizes[n] - 1,
				i & 2 ? self->e.never : self->event);
			if (i & 2)
				c->alert = self->event;
			ASSERT_TRUE(arrange_fault(&self->e, c));
			returns(c, -EFAULT, NT_POISON);
			came_with(c, FIFO(50));
			check_event(self->event, 0, 0);
			waits_again(c, NORMAL);
			so_far_so_good();
		}
	}
}

/* With a mutex in the same wait: an abandoned one, and one that is wanted then. */
TEST_F_TIMEOUT(fastpath_set_pi, with_mutex, NT_TEST_TIMEOUT)
{
	int mutex = nt_create_mutex(self->e.dev, 0, 0);
	struct agent *c = self->c, *w = self->w;
	unsigned int n, dead;

	ASSERT_LE(0, mutex);
	for (n = 1; n < ARRAY_LEN(counts); n++) {
		for (dead = 0; dead < 2; dead++) {
			if (dead) {
				acquires(&w->a, mutex);
				ASSERT_EQ(0, nt_kill_mutex(mutex, w->a.id));
			}
			EXPECT_EQ(0, set_pi(self->event, 50));
			arrange(&self->e, c, true, counts[n], counts[n] - 1, self->event);
			c->a.objs[0] = mutex;
			returns(c, dead ? -EOWNERDEAD : 0, 0);
			came_with(c, FIFO(50));
			check_mutex(mutex, c->a.id, 1);
			is_wanted(&self->e, w, mutex, 70);
			has(c, FIFO(70));
			interrupt(w);
			has(c, FIFO(50));
			is_wanted(&self->e, w, mutex, 30);
			has(c, FIFO(50));
			waits_again(c, FIFO(30));
			releases(&c->a, mutex);
			has(c, NORMAL);
			gets_it(w);
			releases(&w->a, mutex);

			/* a mutex of a lower index leaves the event */
			if (dead) {
				acquires(&w->a, mutex);
				ASSERT_EQ(0, nt_kill_mutex(mutex, w->a.id));
			}
			EXPECT_EQ(0, set_pi(self->event, 50));
			arrange(&self->e, c, false, counts[n], counts[n] - 1, self->event);
			c->a.objs[0] = mutex;
			returns(c, dead ? -EOWNERDEAD : 0, 0);
			came_with(c, NORMAL);
			left_with(50);
			releases(&c->a, mutex);
			so_far_so_good();
		}
	}
}

/* It is set at any moment of the wait: whoever gives it to the task, it has it. */
TEST_F_TIMEOUT(fastpath_set_pi, race, NT_TEST_TIMEOUT)
{
	struct moments m = { .smp = self->smp, .seed = 1, .lead = 20000 };
	struct row r = { .dev = self->e.dev, .owner = OWNER };
	unsigned int n, i, p, all, total = 0;
	struct agent *c = self->c;
	__u64 deadline;
	int prio;

	prctl(PR_SET_TIMERSLACK, 1);
	if (self->smp)
		ASSERT_EQ(0, move_to(tid_of(c), self->there));
	memcpy(r.objs, self->e.idle, sizeof(r.objs));
	for (n = 0; n < ARRAY_LEN(sizes); n++) {
		r.n = sizes[n];
		measure(&m, &r);
		deadline = race_deadline();
		for (i = 0; more_races(i, deadline); i++) {
			p = rnd(&m.seed, sizes[n]);
			all = rnd(&m.seed, 2);
			prio = 1 + rnd(&m.seed, 90);
			arrange(&self->e, c, all, sizes[n], p, self->event);
			actor_begin(&c->a, do_look);
			meet(&m, &c->a.entered, atomic_load(&c->a.cmd), &c->start);
			ASSERT_EQ(0, set_pi(self->event, prio));
			ASSERT_EQ(0, actor_end(&c->a));
			ASSERT_EQ(all ? 0 : p, c->index);
			ASSERT_EQ(FIFO(prio), c->seen) {
				TH_LOG("race %u of %u objects", i, sizes[n]);
			}
			check_event(self->event, 0, 0);
			so_far_so_good();
		}
		total += i;
	}
	TH_LOG("%u races", total);
	waits_again(c, NORMAL);
}

TEST_HARNESS_MAIN
