// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * What programs rely on and ntsync.c does not cover: which wait gets what,
 * what a failed call leaves behind, limits, bad arguments, other processes.
 * All of it holds for the driver as first released, too; the tests of addresses leave out
 * the ioctls that a kernel does not have.
 */
#include "channel_test.h"

#define BAD_IOCTL	_IO('N', 0x7f)

static size_t page_size(void)
{
	return sysconf(_SC_PAGESIZE);
}

/* A page with the given bytes at its end (or start) and this protection. */
static void *map_page(const void *data, size_t size, int prot)
{
	char *page = mmap(NULL, page_size(), PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return NULL;
	memcpy(page, data, size);
	return mprotect(page, page_size(), prot) ? NULL : page;
}

static int wait_raw(int dev, bool all, struct ntsync_wait_args *args)
{
	return nt_ioctl(dev, all ? NTSYNC_IOC_WAIT_ALL : NTSYNC_IOC_WAIT_ANY, args);
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

/* A process that waits, as nt_waiter is a thread that does. */
struct shared_wait {
	atomic_int tid;
	atomic_uint done;
	int ret;
	__u32 index;
};

static pid_t fork_waiter(struct nt_wait *w, struct shared_wait *shared)
{
	pid_t pid;

	memset(shared, 0, sizeof(*shared));
	pid = fork();
	if (pid)
		return pid;
	atomic_store(&shared->tid, getpid());
	shared->ret = nt_wait(w);
	shared->index = w->index;
	atomic_store(&shared->done, 1);
	_exit(0);
}

static struct shared_wait *map_shared_wait(void)
{
	void *p = mmap(NULL, sizeof(struct shared_wait), PROT_READ | PROT_WRITE,
		       MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return p == MAP_FAILED ? NULL : p;
}

/* Run a release in a child; its return value. */
static int ioctl_in_child(int fd, unsigned long request, void *arg)
{
	int status;
	pid_t pid = fork();

	if (pid < 0)
		return -errno;
	if (!pid)
		_exit(-nt_ioctl(fd, request, arg));
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status))
		return -ECHILD;
	return -WEXITSTATUS(status);
}

/*
 * Addresses that are not the caller's: those of the kernel, which are mapped, and others
 * that nobody has.
 */

#define DIRECT_MAP	0xffff888000001000ULL
#define KERNEL_TEXT	0xffffffff81000000ULL
#define MAX_ADDRESSES	24

/* For a member of a struct, which has 64 bits in 32-bit programs, too. */
static __u64 bad_addr[MAX_ADDRESSES];
static unsigned int nb_bad_addrs;

/* For the argument itself. */
static void *bad_arg[MAX_ADDRESSES];
static unsigned int nb_bad_args;

/* And the page that it is in. */
static void add_address(__u64 addr)
{
	__u64 page = addr & ~(__u64)(page_size() - 1);

	bad_addr[nb_bad_addrs++] = addr;
	if (page != addr)
		bad_addr[nb_bad_addrs++] = page;
}

/* Symbols of the kernel. None if the caller may not know where they are. */
static void add_symbols(void)
{
	static const char * const names[] = {
		"_stext", "init_task", "linux_banner", "_sdata", "jiffies_64",
	};
	FILE *file = fopen("/proc/kallsyms", "re");
	unsigned int found = 0, i;
	char line[512], name[128];
	unsigned long long addr;

	while (file && found < ARRAY_LEN(names) && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%llx %*c %127s", &addr, name) != 2 || !addr)
			continue;
		for (i = 0; i < ARRAY_LEN(names) && strcmp(name, names[i]); i++)
			;
		if (i == ARRAY_LEN(names))
			continue;
		add_address(addr);
		found++;
	}
	if (file)
		fclose(file);
}

/* A 32-bit program cannot name them. There it is what is above it, or a hole in it. */
static void add_compat_args(void)
{
	static const __u32 addr[] = { 0xc0000000, 0xffffe000, 0xfffff000, 0xfffffff8 };
	unsigned int i;

	for (i = 0; i < ARRAY_LEN(addr); i++) {
		void *arg = (void *)(uintptr_t)addr[i];
		void *page = mmap(arg, page_size(), PROT_NONE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

		if (page == arg || (page == MAP_FAILED && errno != EEXIST))
			bad_arg[nb_bad_args++] = arg;
	}
}

static void find_addresses(void)
{
	unsigned int i;

	if (nb_bad_addrs)
		return;
	add_symbols();
	add_address(DIRECT_MAP);
	add_address(KERNEL_TEXT);
	/* the first that is beyond user space, and then non-canonical ones */
	add_address((1ULL << 47) - page_size());
	add_address(1ULL << 47);
	add_address(1ULL << 62);
	/* in the last page */
	add_address(-8ULL);

	if (sizeof(void *) < sizeof(__u64)) {
		add_compat_args();
		return;
	}
	for (i = 0; i < nb_bad_addrs; i++)
		bad_arg[nb_bad_args++] = (void *)(uintptr_t)bad_addr[i];
}

#define expect_fault(fd, request, arg) do {				\
	void *__arg = (arg);						\
									\
	EXPECT_EQ(-EFAULT, nt_ioctl((fd), (request), __arg)) {		\
		TH_LOG("the address is %p", __arg);			\
	}								\
} while (0)

/*
 * Both kinds of wait, on one object of each kind.
 */

enum { SEM, MUTEX, AUTO, MANUAL, NB_OBJS };

FIXTURE(wait) {
	int dev;
	int objs[NB_OBJS];	/* all of them ready */
	int idle[2];		/* never signaled */
};

FIXTURE_VARIANT(wait) {
	bool all;
};

FIXTURE_VARIANT_ADD(wait, any) { false };
FIXTURE_VARIANT_ADD(wait, all) { true };

FIXTURE_SETUP(wait)
{
	unsigned int i;

	open_device(self->dev);
	self->objs[SEM] = nt_create_sem(self->dev, 1, 3);
	self->objs[MUTEX] = nt_create_mutex(self->dev, 0, 0);
	self->objs[AUTO] = nt_create_event(self->dev, false, true);
	self->objs[MANUAL] = nt_create_event(self->dev, true, true);
	for (i = 0; i < NB_OBJS; i++)
		ASSERT_LE(0, self->objs[i]);
	for (i = 0; i < 2; i++) {
		self->idle[i] = nt_create_event(self->dev, i, false);
		ASSERT_LE(0, self->idle[i]);
	}
}

FIXTURE_TEARDOWN(wait)
{
}

#define check_untouched() do {						\
	check_sem(self->objs[SEM], 1, 3);				\
	check_mutex(self->objs[MUTEX], 0, 0);				\
	check_event(self->objs[AUTO], 0, 1);				\
	check_event(self->objs[MANUAL], 1, 1);				\
	check_event(self->idle[0], 0, 0);				\
	check_event(self->idle[1], 1, 0);				\
} while (0)

#define check_taken(_owner) do {					\
	check_sem(self->objs[SEM], 0, 3);				\
	check_mutex(self->objs[MUTEX], variant->all ? (_owner) : 0, variant->all); \
	check_event(self->objs[AUTO], 0, !variant->all);		\
	check_event(self->objs[MANUAL], 1, 1);				\
	check_event(self->idle[0], 0, 0);				\
	check_event(self->idle[1], 1, 0);				\
} while (0)

TEST_F(wait, ready)
{
	__u32 index;

	EXPECT_EQ(0, __nt_try(variant->all, self->dev, NB_OBJS, self->objs, 7, 0, &index));
	EXPECT_EQ(0U, index);
	check_taken(7);
}

TEST_F(wait, bad_descriptor)
{
	int other_dev = open("/dev/ntsync", O_CLOEXEC | O_RDONLY);
	int pipe_fds[2], bad[8], objs[NB_OBJS + 1];
	unsigned int i, pos, n = 0;
	__u32 index;

	ASSERT_LE(0, other_dev);
	ASSERT_EQ(0, pipe(pipe_fds));
	bad[n++] = -1;
	bad[n++] = INT_MAX;
	bad[n] = dup(pipe_fds[0]);
	close(bad[n++]);
	bad[n++] = pipe_fds[0];
	bad[n++] = open("/dev/null", O_RDWR | O_CLOEXEC);
	bad[n++] = self->dev;
	bad[n++] = other_dev;
	bad[n++] = nt_create_sem(other_dev, 1, 1);
	ASSERT_EQ(ARRAY_LEN(bad), n);

	for (i = 0; i < n; i++) {
		for (pos = 0; pos <= NB_OBJS; pos++) {
			memcpy(objs, self->objs, pos * sizeof(*objs));
			objs[pos] = bad[i];
			memcpy(objs + pos + 1, self->objs + pos,
			       (NB_OBJS - pos) * sizeof(*objs));
			EXPECT_EQ(-EINVAL, __nt_try(variant->all, self->dev, NB_OBJS + 1,
						    objs, 7, 0, &index));
			EXPECT_EQ(NT_POISON, index);
			check_untouched();
		}
		EXPECT_EQ(-EINVAL, __nt_try(variant->all, self->dev, NB_OBJS,
					    self->objs, 7, bad[i], &index));
		EXPECT_EQ(NT_POISON, index);
		check_untouched();
	}
	check_sem(bad[n - 1], 1, 1);
}

TEST_F(wait, count_limit)
{
	int objs[NTSYNC_MAX_WAIT_COUNT + 1], i;
	__u32 index;

	for (i = 0; i <= NTSYNC_MAX_WAIT_COUNT; i++) {
		objs[i] = nt_create_sem(self->dev, 1, 1);
		ASSERT_LE(0, objs[i]);
	}
	EXPECT_EQ(-EINVAL, __nt_try(variant->all, self->dev, NTSYNC_MAX_WAIT_COUNT + 1,
				    objs, 7, 0, &index));
	EXPECT_EQ(NT_POISON, index);
	EXPECT_EQ(-EINVAL, __nt_try(variant->all, self->dev, NTSYNC_MAX_WAIT_COUNT + 1,
				    objs, 7, self->objs[MANUAL], &index));
	EXPECT_EQ(-EINVAL, __nt_try(variant->all, self->dev, 0x40000000, objs, 7, 0, &index));
	EXPECT_EQ(-EINVAL, __nt_try(variant->all, self->dev, 0x40000001, objs, 7, 0, &index));
	EXPECT_EQ(-EINVAL, __nt_try(variant->all, self->dev, UINT_MAX, objs, 7, 0, &index));
	EXPECT_EQ(NT_POISON, index);
	for (i = 0; i <= NTSYNC_MAX_WAIT_COUNT; i++)
		check_sem(objs[i], 1, 1);

	EXPECT_EQ(0, __nt_try(variant->all, self->dev, NTSYNC_MAX_WAIT_COUNT, objs, 7,
			      objs[NTSYNC_MAX_WAIT_COUNT], &index));
	EXPECT_EQ(0U, index);
	for (i = 0; i < NTSYNC_MAX_WAIT_COUNT; i++)
		check_sem(objs[i], i && !variant->all, 1);
	check_sem(objs[NTSYNC_MAX_WAIT_COUNT], 1, 1);

	/* the alert object comes after all 64 */
	for (i = 0; i < NTSYNC_MAX_WAIT_COUNT; i++) {
		close(objs[i]);
		objs[i] = nt_create_sem(self->dev, 0, 1);
		ASSERT_LE(0, objs[i]);
	}
	EXPECT_EQ(0, __nt_try(variant->all, self->dev, NTSYNC_MAX_WAIT_COUNT, objs, 7,
			      objs[NTSYNC_MAX_WAIT_COUNT], &index));
	EXPECT_EQ((__u32)NTSYNC_MAX_WAIT_COUNT, index);
	for (i = 0; i <= NTSYNC_MAX_WAIT_COUNT; i++)
		check_sem(objs[i], 0, 1);
}

TEST_F(wait, no_objects)
{
	__u32 index;

	/* nothing to wait for is never "any" of them, and always "all" */
	EXPECT_EQ(variant->all ? 0 : -ETIMEDOUT,
		  __nt_try(variant->all, self->dev, 0, NULL, 7, 0, &index));
	EXPECT_EQ(variant->all ? 0 : NT_POISON, index);
	/* a pointer to no objects is not looked at */
	EXPECT_EQ(variant->all ? 0 : -ETIMEDOUT,
		  __nt_try(variant->all, self->dev, 0, (int *)8, 7, 0, &index));
	EXPECT_EQ(variant->all ? 0 : -ETIMEDOUT,
		  __nt_try(variant->all, self->dev, 0, NULL, 7, self->idle[0], &index));
	check_untouched();

	EXPECT_EQ(0, __nt_try(variant->all, self->dev, 0, NULL, 7, self->objs[AUTO], &index));
	EXPECT_EQ(0U, index);
	check_event(self->objs[AUTO], 0, variant->all);
}

TEST_F(wait, bad_flags)
{
	struct nt_wait w = {
		.dev = self->dev, .all = variant->all, .objs = self->objs,
		.count = NB_OBJS, .owner = 7,
	};
	int bit;

	for (bit = 0; bit < 32; bit++) {
		if (1U << bit == NTSYNC_WAIT_REALTIME)
			continue;
		w.flags = 1U << bit;
		EXPECT_EQ(-EINVAL, nt_wait(&w));
		EXPECT_EQ(NT_POISON, w.index);
		w.flags |= NTSYNC_WAIT_REALTIME;
		EXPECT_EQ(-EINVAL, nt_wait(&w));
	}
	check_untouched();
}

/* A descriptor that is not open; without the feature no value is allowed. */
TEST_F(wait, bad_uring_fd)
{
	struct nt_wait w = {
		.dev = self->dev, .all = variant->all, .objs = self->objs,
		.count = NB_OBJS, .owner = 7, .uring_fd = INT_MAX,
	};
	int ret = nt_wait(&w);

	EXPECT_TRUE(ret == -EINVAL || ret == -EBADF);
	EXPECT_EQ(NT_POISON, w.index);
	check_untouched();
}

TEST_F(wait, bad_pointer)
{
	struct ntsync_wait_args args = {
		.timeout = NT_EXPIRED, .count = NB_OBJS, .owner = 7, .index = NT_POISON,
	};
	void *none = map_page("", 0, PROT_NONE);
	char *pages = mmap(NULL, 2 * page_size(), PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int *objs;

	ASSERT_TRUE(none != NULL);
	ASSERT_TRUE(pages != MAP_FAILED);
	ASSERT_EQ(0, mprotect(pages + page_size(), page_size(), PROT_NONE));
	/* all but the last descriptor can be read */
	objs = (int *)(pages + page_size()) - (NB_OBJS - 1);
	memcpy(objs, self->objs, (NB_OBJS - 1) * sizeof(*objs));

	EXPECT_EQ(-EFAULT, wait_raw(self->dev, variant->all, NULL));
	EXPECT_EQ(-EFAULT, wait_raw(self->dev, variant->all, none));
	args.objs = 0;
	EXPECT_EQ(-EFAULT, wait_raw(self->dev, variant->all, &args));
	args.objs = (uintptr_t)none;
	EXPECT_EQ(-EFAULT, wait_raw(self->dev, variant->all, &args));
	args.objs = (uintptr_t)objs;
	EXPECT_EQ(-EFAULT, wait_raw(self->dev, variant->all, &args));
	EXPECT_EQ(NT_POISON, args.index);
	check_untouched();

	/* one less, and it is fine */
	args.count--;
	EXPECT_EQ(0, wait_raw(self->dev, variant->all, &args));
	EXPECT_EQ(0U, args.index);
	check_taken(7);
}

/* What a pointer to the kernel points to is there, but not for the caller. */
TEST_F(wait, kernel_address)
{
	static const __u32 counts[] = { 1, NB_OBJS, NTSYNC_MAX_WAIT_COUNT };
	struct ntsync_wait_args args = {
		.timeout = NT_EXPIRED, .owner = 7, .index = NT_POISON,
	};
	unsigned int i, j;

	find_addresses();
	ASSERT_LT(0U, nb_bad_args);
	for (i = 0; i < nb_bad_args; i++)
		expect_fault(self->dev, variant->all ? NTSYNC_IOC_WAIT_ALL : NTSYNC_IOC_WAIT_ANY,
			     bad_arg[i]);
	check_untouched();

	for (i = 0; i < nb_bad_addrs; i++) {
		for (j = 0; j < 2 * ARRAY_LEN(counts); j++) {
			args.objs = bad_addr[i];
			args.count = counts[j / 2];
			args.alert = j % 2 ? self->objs[AUTO] : 0;
			EXPECT_EQ(-EFAULT, wait_raw(self->dev, variant->all, &args)) {
				TH_LOG("%u objects at %llx", args.count,
				       (unsigned long long)bad_addr[i]);
			}
			EXPECT_EQ(NT_POISON, args.index);
		}
		check_untouched();
	}
}

/* A result that cannot be stored does not undo the wait. */
TEST_F(wait, result_fault)
{
	struct ntsync_wait_args args = {
		.timeout = NT_EXPIRED, .objs = (uintptr_t)self->idle, .count = 2,
		.owner = 7, .index = NT_POISON,
	};
	struct ntsync_wait_args *ro;

	ro = map_page(&args, sizeof(args), PROT_READ);
	ASSERT_TRUE(ro != NULL);
	EXPECT_EQ(-ETIMEDOUT, wait_raw(self->dev, variant->all, ro));
	check_untouched();

	args.objs = (uintptr_t)self->objs;
	args.count = NB_OBJS;
	ro = map_page(&args, sizeof(args), PROT_READ);
	ASSERT_TRUE(ro != NULL);
	EXPECT_EQ(-EFAULT, wait_raw(self->dev, variant->all, ro));
	EXPECT_EQ(NT_POISON, ro->index);
	check_taken(7);
}

static const clockid_t clocks[] = { CLOCK_MONOTONIC, CLOCK_REALTIME };

TEST_F(wait, expired_ready)
{
	unsigned int i;

	for (i = 0; i < 6; i++) {
		clockid_t clock = clocks[i % 2];
		struct ntsync_wait_args args = {
			.timeout = i < 2 ? 0 : i < 4 ? 1 : nt_now(clock) - 1,
			.objs = (uintptr_t)self->objs, .count = NB_OBJS, .owner = 7,
			.flags = i % 2 ? NTSYNC_WAIT_REALTIME : 0, .index = NT_POISON,
		};

		EXPECT_EQ(0, wait_raw(self->dev, variant->all, &args));
		EXPECT_EQ(0U, args.index);
		check_taken(7);
		EXPECT_EQ(0, nt_release_sem(self->objs[SEM], 1, NULL));
		if (!variant->all)
			continue;
		EXPECT_EQ(0, nt_unlock_mutex(self->objs[MUTEX], 7, NULL));
		EXPECT_EQ(0, nt_event(self->objs[AUTO], NTSYNC_IOC_EVENT_SET, NULL));
	}
	check_untouched();
}

TEST_F(wait, expired_not_ready)
{
	int objs[2] = { self->idle[0], self->objs[SEM] };
	unsigned int i;

	for (i = 0; i < 6; i++) {
		clockid_t clock = clocks[i % 2];
		struct ntsync_wait_args args = {
			.timeout = i < 2 ? 0 : i < 4 ? 1 : nt_now(clock) - 1,
			.objs = (uintptr_t)objs, .count = variant->all ? 2 : 1, .owner = 7,
			.flags = i % 2 ? NTSYNC_WAIT_REALTIME : 0, .index = NT_POISON,
			.alert = i == 3 ? self->idle[1] : 0,
		};

		EXPECT_EQ(-ETIMEDOUT, wait_raw(self->dev, variant->all, &args));
		EXPECT_EQ(NT_POISON, args.index);
		check_untouched();
	}
}

/* A timeout is never early. */
TEST_F(wait, timeout)
{
	int objs[2] = { self->idle[0], self->objs[SEM] };
	unsigned int i;

	for (i = 0; i < 10; i++) {
		clockid_t clock = clocks[i % 2];
		struct nt_wait w = {
			.dev = self->dev, .all = variant->all, .objs = objs,
			.count = variant->all ? 2 : 1, .owner = 7,
			.timeout = nt_now(clock) + i * 200000,
			.flags = i % 2 ? NTSYNC_WAIT_REALTIME : 0,
		};

		EXPECT_EQ(-ETIMEDOUT, nt_wait(&w));
		EXPECT_LE(w.timeout, nt_now(clock));
		EXPECT_EQ(NT_POISON, w.index);
	}
	check_untouched();
}

/* Asleep, then granted: without a timeout, and with one on each clock. */
TEST_F(wait, woken)
{
	int objs[2] = { self->idle[0], self->objs[SEM] };
	unsigned int i;

	for (i = 0; i < 3; i++) {
		struct nt_waiter w = {
			.wait = {
				.dev = self->dev, .all = variant->all, .objs = objs,
				.count = variant->all ? 2 : 1, .owner = 7,
			},
		};
		__u32 prev;

		if (i == 1)
			w.wait.timeout = UINT64_MAX;
		if (i == 2) {
			w.wait.timeout = nt_now(CLOCK_REALTIME) + NT_BOUND_NSEC;
			w.wait.flags = NTSYNC_WAIT_REALTIME;
		}
		start_asleep(&w);
		EXPECT_EQ(0, nt_event(self->idle[0], NTSYNC_IOC_EVENT_SET, &prev));
		EXPECT_EQ(0U, prev);
		EXPECT_EQ(0, nt_finish(&w));
		EXPECT_EQ(0U, w.wait.index);
		check_event(self->idle[0], 0, 0);
		check_sem(self->objs[SEM], !variant->all, 3);
		if (variant->all)
			EXPECT_EQ(0, nt_release_sem(self->objs[SEM], 1, NULL));
	}
	check_untouched();
}

TEST_F(wait, alert)
{
	int objs[2] = { self->objs[SEM], self->objs[AUTO] };
	__u32 index;

	/* objects first */
	EXPECT_EQ(0, __nt_try(variant->all, self->dev, 1, objs, 7, self->objs[AUTO], &index));
	EXPECT_EQ(0U, index);
	check_sem(self->objs[SEM], 0, 3);
	check_event(self->objs[AUTO], 0, 1);
	/* then the alert, and it is consumed as any other object is */
	EXPECT_EQ(0, __nt_try(variant->all, self->dev, 1, objs, 7, self->objs[AUTO], &index));
	EXPECT_EQ(1U, index);
	check_event(self->objs[AUTO], 0, 0);
	EXPECT_EQ(0, __nt_try(variant->all, self->dev, 1, objs, 7, self->objs[MUTEX], &index));
	EXPECT_EQ(1U, index);
	check_mutex(self->objs[MUTEX], 7, 1);
	EXPECT_EQ(-ETIMEDOUT, __nt_try(variant->all, self->dev, 1, objs, 7, self->objs[AUTO],
				       &index));
	EXPECT_EQ(NT_POISON, index);
	check_sem(self->objs[SEM], 0, 3);
	check_mutex(self->objs[MUTEX], 7, 1);
	check_event(self->objs[AUTO], 0, 0);
}

TEST_F(wait, alert_wakes)
{
	int objs[2] = { self->idle[0], self->objs[SEM] };
	struct nt_waiter w = {
		.wait = {
			.dev = self->dev, .all = variant->all, .objs = objs,
			.count = variant->all ? 2 : 1, .owner = 7, .alert = self->idle[1],
		},
	};

	start_asleep(&w);
	EXPECT_EQ(0, nt_event(self->idle[1], NTSYNC_IOC_EVENT_SET, NULL));
	EXPECT_EQ(0, nt_finish(&w));
	EXPECT_EQ(w.wait.count, w.wait.index);
	check_sem(self->objs[SEM], 1, 3);
	check_event(self->idle[0], 0, 0);
	check_event(self->idle[1], 1, 1);
}

TEST_F(wait, interrupted)
{
	int objs[2] = { self->idle[0], self->objs[SEM] };
	struct nt_waiter w = {
		.wait = {
			.dev = self->dev, .all = variant->all, .objs = objs,
			.count = variant->all ? 2 : 1, .owner = 7, .alert = self->idle[1],
		},
	};
	__u32 index;

	ASSERT_EQ(0, catch_signal(0));
	start_asleep(&w);
	ASSERT_EQ(0, pthread_kill(w.thread, SIGUSR1));
	EXPECT_EQ(-EINTR, nt_finish(&w));
	EXPECT_EQ(1U, atomic_load(&handled));
	EXPECT_EQ(NT_POISON, w.wait.index);
	check_untouched();
	/* it left nothing in the queues */
	EXPECT_EQ(0, nt_event(self->idle[0], NTSYNC_IOC_EVENT_SET, NULL));
	check_event(self->idle[0], 0, 1);
	check_sem(self->objs[SEM], 1, 3);
	EXPECT_EQ(0, __nt_try(variant->all, self->dev, w.wait.count, objs, 7, 0, &index));
	EXPECT_EQ(0U, index);
	check_event(self->idle[0], 0, 0);
	check_sem(self->objs[SEM], !variant->all, 3);
}

TEST_F(wait, restarted)
{
	int objs[2] = { self->idle[0], self->objs[SEM] };
	struct nt_waiter w = {
		.wait = {
			.dev = self->dev, .all = variant->all, .objs = objs,
			.count = variant->all ? 2 : 1, .owner = 7,
		},
	};
	unsigned int i;

	ASSERT_EQ(0, catch_signal(SA_RESTART));
	start_asleep(&w);
	for (i = 1; i <= 10; i++) {
		ASSERT_EQ(0, pthread_kill(w.thread, SIGUSR1));
		while (atomic_load(&handled) < i && !atomic_load(&w.done))
			sched_yield();
		ASSERT_TRUE(nt_asleep(&w));
		check_untouched();
	}
	EXPECT_EQ(0, nt_event(self->idle[0], NTSYNC_IOC_EVENT_SET, NULL));
	EXPECT_EQ(0, nt_finish(&w));
	EXPECT_EQ(0U, w.wait.index);
	check_event(self->idle[0], 0, 0);
	check_sem(self->objs[SEM], !variant->all, 3);
}

TEST_F(wait, stopped)
{
	struct shared_wait *shared = map_shared_wait();
	int objs[2] = { self->idle[0], self->objs[SEM] };
	struct nt_wait w = {
		.dev = self->dev, .all = variant->all, .objs = objs,
		.count = variant->all ? 2 : 1, .owner = 7,
	};
	int status;
	pid_t pid;

	ASSERT_TRUE(shared != NULL);
	pid = fork_waiter(&w, shared);
	ASSERT_LT(0, pid);
	ASSERT_TRUE(nt_task_asleep(pid, &shared->tid, &shared->done));
	ASSERT_EQ(0, kill(pid, SIGSTOP));
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	EXPECT_EQ(0, nt_event(self->idle[0], NTSYNC_IOC_EVENT_SET, NULL));
	ASSERT_EQ(0, kill(pid, SIGCONT));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_EQ(1U, atomic_load(&shared->done));
	EXPECT_EQ(0, shared->ret);
	EXPECT_EQ(0U, shared->index);
	check_event(self->idle[0], 0, 0);
	check_sem(self->objs[SEM], !variant->all, 3);
}

TEST_F(wait, killed)
{
	struct shared_wait *shared = map_shared_wait();
	int objs[2] = { self->idle[0], self->objs[SEM] };
	struct nt_wait w = {
		.dev = self->dev, .all = variant->all, .objs = objs,
		.count = variant->all ? 2 : 1, .owner = 7, .alert = self->idle[1],
	};
	int status;
	pid_t pid;

	ASSERT_TRUE(shared != NULL);
	pid = fork_waiter(&w, shared);
	ASSERT_LT(0, pid);
	ASSERT_TRUE(nt_task_asleep(pid, &shared->tid, &shared->done));
	ASSERT_EQ(0, kill(pid, SIGKILL));
	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	/* nobody is left who would take these */
	EXPECT_EQ(0, nt_event(self->idle[0], NTSYNC_IOC_EVENT_SET, NULL));
	EXPECT_EQ(0, nt_event(self->idle[1], NTSYNC_IOC_EVENT_SET, NULL));
	check_event(self->idle[0], 0, 1);
	check_event(self->idle[1], 1, 1);
	check_sem(self->objs[SEM], 1, 3);
}

/* Objects live as long as a wait for them. */
TEST_F(wait, closed)
{
	int objs[2] = { nt_create_event(self->dev, false, false), self->objs[SEM] };
	int copy = dup(objs[0]), alert = dup(self->idle[1]);
	struct nt_waiter w = {
		.wait = {
			.dev = self->dev, .all = variant->all, .objs = objs,
			.count = variant->all ? 2 : 1, .owner = 7, .alert = alert,
		},
	};

	/* woken through another descriptor of the object */
	ASSERT_LE(0, copy);
	start_asleep(&w);
	close(objs[0]);
	close(alert);
	EXPECT_EQ(0, nt_event(copy, NTSYNC_IOC_EVENT_SET, NULL));
	EXPECT_EQ(0, nt_finish(&w));
	EXPECT_EQ(0U, w.wait.index);
	check_event(copy, 0, 0);
	check_sem(self->objs[SEM], !variant->all, 3);
	if (variant->all)
		EXPECT_EQ(0, nt_release_sem(self->objs[SEM], 1, NULL));

	/* nothing can wake it but the alert */
	objs[0] = copy;
	w = (struct nt_waiter) {
		.wait = {
			.dev = self->dev, .all = variant->all, .objs = objs,
			.count = variant->all ? 2 : 1, .owner = 7, .alert = self->idle[1],
		},
	};
	start_asleep(&w);
	close(copy);
	EXPECT_EQ(0, nt_event(self->idle[1], NTSYNC_IOC_EVENT_SET, NULL));
	EXPECT_EQ(0, nt_finish(&w));
	EXPECT_EQ(w.wait.count, w.wait.index);
	check_sem(self->objs[SEM], 1, 3);

	/* nor the timeout, after everything is closed, the device too */
	EXPECT_EQ(0, nt_event(self->idle[1], NTSYNC_IOC_EVENT_RESET, NULL));
	objs[0] = self->idle[0];
	w = (struct nt_waiter) {
		.wait = {
			.dev = self->dev, .all = variant->all, .objs = objs,
			.count = variant->all ? 2 : 1, .owner = 7, .alert = self->idle[1],
			.timeout = nt_now(CLOCK_MONOTONIC) + NT_NSEC_PER_SEC / 2,
		},
	};
	ASSERT_EQ(0, nt_start(&w));
	nt_asleep(&w);
	close(self->idle[0]);
	close(self->idle[1]);
	close(self->objs[SEM]);
	close(self->dev);
	EXPECT_EQ(-ETIMEDOUT, nt_finish(&w));
	EXPECT_EQ(NT_POISON, w.wait.index);
}

/*
 * The objects.
 */

FIXTURE(object) {
	int dev;
};

FIXTURE_SETUP(object)
{
	open_device(self->dev);
}

FIXTURE_TEARDOWN(object)
{
}

TEST_F(object, create)
{
	struct ntsync_sem_args *none = map_page("", 0, PROT_NONE);

	ASSERT_TRUE(none != NULL);
	EXPECT_EQ(-EINVAL, nt_create_sem(self->dev, 1, 0));
	EXPECT_EQ(-EINVAL, nt_create_sem(self->dev, UINT_MAX, UINT_MAX - 1));
	EXPECT_EQ(-EINVAL, nt_create_mutex(self->dev, 0, 1));
	EXPECT_EQ(-EINVAL, nt_create_mutex(self->dev, 1, 0));
	EXPECT_EQ(-EFAULT, nt_ioctl(self->dev, NTSYNC_IOC_CREATE_SEM, none));
	EXPECT_EQ(-EFAULT, nt_ioctl(self->dev, NTSYNC_IOC_CREATE_MUTEX, none));
	EXPECT_EQ(-EFAULT, nt_ioctl(self->dev, NTSYNC_IOC_CREATE_EVENT, none));

	check_sem(nt_create_sem(self->dev, 0, 0), 0, 0);
	check_sem(nt_create_sem(self->dev, UINT_MAX, UINT_MAX), UINT_MAX, UINT_MAX);
	check_mutex(nt_create_mutex(self->dev, UINT_MAX, UINT_MAX), UINT_MAX, UINT_MAX);
	check_event(nt_create_event(self->dev, true, false), 1, 0);
}

TEST_F(object, wrong_kind)
{
	static const struct {
		unsigned long request;
		int kind;	/* where it is right; AUTO stands for events */
	} ops[] = {
		{ NTSYNC_IOC_SEM_RELEASE, SEM },
		{ NTSYNC_IOC_SEM_READ, SEM },
		{ NTSYNC_IOC_MUTEX_UNLOCK, MUTEX },
		{ NTSYNC_IOC_MUTEX_KILL, MUTEX },
		{ NTSYNC_IOC_MUTEX_READ, MUTEX },
		{ NTSYNC_IOC_EVENT_SET, AUTO },
		{ NTSYNC_IOC_EVENT_RESET, AUTO },
		{ NTSYNC_IOC_EVENT_PULSE, AUTO },
		{ NTSYNC_IOC_EVENT_READ, AUTO },
	};
	int objs[] = {
		[SEM] = nt_create_sem(self->dev, 1, 2),
		[MUTEX] = nt_create_mutex(self->dev, 1, 2),
		[AUTO] = nt_create_event(self->dev, false, true),
	};
	unsigned int i, kind;
	__u32 arg[2];

	for (i = 0; i < ARRAY_LEN(ops); i++) {
		for (kind = 0; kind < ARRAY_LEN(objs); kind++) {
			if ((int)kind == ops[i].kind)
				continue;
			arg[0] = arg[1] = 1;
			EXPECT_EQ(-EINVAL, nt_ioctl(objs[kind], ops[i].request, arg));
			EXPECT_EQ(1U, arg[0]);
			EXPECT_EQ(1U, arg[1]);
			check_sem(objs[SEM], 1, 2);
			check_mutex(objs[MUTEX], 1, 2);
			check_event(objs[AUTO], 0, 1);
		}
		/* a device is no object */
		EXPECT_EQ(-ENOTTY, nt_ioctl(self->dev, ops[i].request, arg));
	}
	for (kind = 0; kind < ARRAY_LEN(objs); kind++) {
		struct ntsync_wait_args args = { .timeout = NT_EXPIRED };

		EXPECT_EQ(-ENOTTY, nt_ioctl(objs[kind], BAD_IOCTL, arg));
		/* and an object no device */
		EXPECT_EQ(-ENOTTY, nt_ioctl(objs[kind], NTSYNC_IOC_CREATE_SEM, arg));
		EXPECT_EQ(-ENOTTY, nt_ioctl(objs[kind], NTSYNC_IOC_CREATE_MUTEX, arg));
		EXPECT_EQ(-ENOTTY, nt_ioctl(objs[kind], NTSYNC_IOC_CREATE_EVENT, arg));
		EXPECT_EQ(-ENOTTY, nt_ioctl(objs[kind], NTSYNC_IOC_WAIT_ANY, &args));
		EXPECT_EQ(-ENOTTY, nt_ioctl(objs[kind], NTSYNC_IOC_WAIT_ALL, &args));
	}
	EXPECT_EQ(-ENOTTY, nt_ioctl(self->dev, BAD_IOCTL, arg));
}

/* Arguments that cannot be read: nothing happens. */
TEST_F(object, argument_fault)
{
	int sem = nt_create_sem(self->dev, 1, 2);
	int mutex = nt_create_mutex(self->dev, 1, 2);
	void *none = map_page("", 0, PROT_NONE);

	ASSERT_TRUE(none != NULL);
	EXPECT_EQ(-EFAULT, nt_ioctl(sem, NTSYNC_IOC_SEM_RELEASE, none));
	EXPECT_EQ(-EFAULT, nt_ioctl(sem, NTSYNC_IOC_SEM_RELEASE, NULL));
	EXPECT_EQ(-EFAULT, nt_ioctl(mutex, NTSYNC_IOC_MUTEX_UNLOCK, none));
	EXPECT_EQ(-EFAULT, nt_ioctl(mutex, NTSYNC_IOC_MUTEX_KILL, none));
	EXPECT_EQ(-EFAULT, nt_ioctl(sem, NTSYNC_IOC_SEM_READ, none));
	EXPECT_EQ(-EFAULT, nt_ioctl(mutex, NTSYNC_IOC_MUTEX_READ, none));
	check_sem(sem, 1, 2);
	check_mutex(mutex, 1, 2);
}

/*
 * The same with addresses of the kernel. Ioctls that it does not have are left out.
 */

/* No descriptor came into being. */
TEST_F(object, kernel_address_create)
{
	static const unsigned long requests[] = {
		NTSYNC_IOC_CREATE_SEM, NTSYNC_IOC_CREATE_MUTEX, NTSYNC_IOC_CREATE_EVENT,
		NTSYNC_IOC_CREATE_CHANNEL,
	};
	int next = dup(self->dev), ret, again;
	unsigned int i, j;

	ASSERT_LE(0, next);
	close(next);
	find_addresses();
	ASSERT_LT(0U, nb_bad_args);
	for (i = 0; i < ARRAY_LEN(requests); i++) {
		for (j = 0; j < nb_bad_args; j++) {
			ret = nt_ioctl(self->dev, requests[i], bad_arg[j]);
			if (ret == -ENOTTY && requests[i] == NTSYNC_IOC_CREATE_CHANNEL)
				break;
			EXPECT_EQ(-EFAULT, ret) {
				TH_LOG("request %lx, address %p", requests[i], bad_arg[j]);
			}
		}
	}
	again = dup(self->dev);
	EXPECT_EQ(next, again);
	close(again);
}

TEST_F(object, kernel_address)
{
	enum { OLD, NEW };
	static const struct {
		unsigned long request;
		int kind;
		int since;
	} ops[] = {
		{ NTSYNC_IOC_SEM_RELEASE, SEM, OLD },
		{ NTSYNC_IOC_SEM_READ, SEM, OLD },
		{ NTSYNC_IOC_MUTEX_UNLOCK, MUTEX, OLD },
		{ NTSYNC_IOC_MUTEX_KILL, MUTEX, OLD },
		{ NTSYNC_IOC_MUTEX_READ, MUTEX, OLD },
		{ NTSYNC_IOC_MUTEX_SET_TASK, MUTEX, NEW },
		{ NTSYNC_IOC_EVENT_READ, AUTO, OLD },
		{ NTSYNC_IOC_EVENT_READ, MANUAL, OLD },
		{ NTSYNC_IOC_EVENT_SET_PI, AUTO, NEW },
		{ NTSYNC_IOC_EVENT_SET_PI, MANUAL, NEW },
	};
	int objs[] = {
		[SEM] = nt_create_sem(self->dev, 1, 2),
		[MUTEX] = nt_create_mutex(self->dev, 1, 2),
		[AUTO] = nt_create_event(self->dev, false, false),
		[MANUAL] = nt_create_event(self->dev, true, false),
	};
	unsigned int i, j;
	int ret;

	find_addresses();
	ASSERT_LT(0U, nb_bad_args);
	for (i = 0; i < ARRAY_LEN(ops); i++) {
		for (j = 0; j < nb_bad_args; j++) {
			ret = nt_ioctl(objs[ops[i].kind], ops[i].request, bad_arg[j]);
			if (ret == -ENOTTY && ops[i].since == NEW)
				break;
			EXPECT_EQ(-EFAULT, ret) {
				TH_LOG("request %lx, address %p", ops[i].request, bad_arg[j]);
			}
			check_sem(objs[SEM], 1, 2);
			check_mutex(objs[MUTEX], 1, 2);
			check_event(objs[AUTO], 0, 0);
			check_event(objs[MANUAL], 1, 0);
		}
	}
}

/* The previous state is a result, so it happened. */
TEST_F(object, kernel_address_of_result)
{
	unsigned int i;
	int manual;

	find_addresses();
	ASSERT_LT(0U, nb_bad_args);
	for (manual = 0; manual < 2; manual++) {
		int event = nt_create_event(self->dev, manual, false);

		for (i = 0; i < nb_bad_args; i++) {
			expect_fault(event, NTSYNC_IOC_EVENT_SET, bad_arg[i]);
			check_event(event, manual, 1);
			expect_fault(event, NTSYNC_IOC_EVENT_RESET, bad_arg[i]);
			check_event(event, manual, 0);
			EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_SET, NULL));
			expect_fault(event, NTSYNC_IOC_EVENT_PULSE, bad_arg[i]);
			check_event(event, manual, 0);
		}
	}
}

TEST_F(object, kernel_address_aggregate)
{
	static const __u32 counts[] = { 1, 8, 9, NTSYNC_MAX_SOURCES };
	struct ntsync_aggregate_wait_args args = {
		.timeout = NT_EXPIRED, .owner = 7, .fired_index = NT_POISON,
		.fired_events = NT_POISON,
	};
	unsigned int i, j;

	if (nt_ioctl(self->dev, NTSYNC_IOC_AGGREGATE_WAIT, NULL) == -ENOTTY)
		return;
	find_addresses();
	ASSERT_LT(0U, nb_bad_args);
	for (i = 0; i < nb_bad_args; i++)
		expect_fault(self->dev, NTSYNC_IOC_AGGREGATE_WAIT, bad_arg[i]);

	for (i = 0; i < nb_bad_addrs; i++) {
		for (j = 0; j < ARRAY_LEN(counts); j++) {
			args.sources = bad_addr[i];
			args.nb_sources = counts[j];
			EXPECT_EQ(-EFAULT, nt_ioctl(self->dev, NTSYNC_IOC_AGGREGATE_WAIT, &args)) {
				TH_LOG("%u sources at %llx", counts[j],
				       (unsigned long long)bad_addr[i]);
			}
			EXPECT_EQ(NT_POISON, args.fired_index);
			EXPECT_EQ(NT_POISON, args.fired_events);
		}
	}
}

/* False if the kernel does not have it. */
static bool faults_on(struct __test_metadata *_metadata, int ch, unsigned long request)
{
	unsigned int i;
	int ret;

	find_addresses();
	ASSERT_LT(0U, nb_bad_args);
	for (i = 0; i < nb_bad_args; i++) {
		ret = nt_ioctl(ch, request, bad_arg[i]);
		if (ret == -ENOTTY)
			return false;
		EXPECT_EQ(-EFAULT, ret) {
			TH_LOG("request %lx, address %p", request, bad_arg[i]);
		}
	}
	return true;
}

#define faults(ch, request)	faults_on(_metadata, (ch), (request))

TEST_F_TIMEOUT(object, kernel_address_channel, NT_TEST_TIMEOUT)
{
	struct peer p = {};
	int ch = ch_create(self->dev, 2), send_only;
	struct ntsync_channel_recv2_args args;
	struct ntsync_channel_recv_args recv;
	bool tokens;
	int ret;

	if (ch == -ENOTTY)
		return;
	ASSERT_LE(0, ch);

	/* nothing is sent: what is pending later is the only request */
	EXPECT_TRUE(faults(ch, NTSYNC_IOC_CHANNEL_SEND_PI));
	send_only = ch_send_only(ch);
	if (send_only != -ENOTTY) {
		ASSERT_LE(0, send_only);
		EXPECT_TRUE(faults(send_only, NTSYNC_IOC_CHANNEL_SEND_PI));
		close(send_only);
	}

	ASSERT_EQ(0, actor_start(&p.a, self->dev, 0));
	ret = ch_register(ch, atomic_load(&p.a.tid), 0x1234);
	tokens = ret != -ENOTTY;
	if (tokens) {
		ASSERT_EQ(0, ret);
		EXPECT_TRUE(faults(ch, NTSYNC_IOC_CHANNEL_REGISTER_THREAD));
		EXPECT_TRUE(faults(ch, NTSYNC_IOC_CHANNEL_DEREGISTER_THREAD));
	}
	p.a.objs[0] = ch;
	p.send.payload_off = 0x1000;
	p.send.reply_off = 0x2000;
	actor_begin(&p.a, do_send);
	ASSERT_TRUE(actor_asleep(&p.a));

	/* who cannot be told of the request does not get it */
	EXPECT_TRUE(faults(ch, NTSYNC_IOC_CHANNEL_RECV));
	faults(ch, NTSYNC_IOC_CHANNEL_RECV2);
	faults(ch, NTSYNC_IOC_CHANNEL_TRY_RECV2);
	EXPECT_TRUE(actor_asleep(&p.a));
	if (tokens) {
		ASSERT_EQ(0, ch_recv2(ch, &args));
		EXPECT_EQ(0x1234ULL, args.thread_token);
	} else {
		ASSERT_EQ(0, ch_recv(ch, &recv));
		memcpy(&args, &recv, sizeof(recv));
	}
	EXPECT_EQ(0x1000ULL, args.payload_off);
	EXPECT_EQ(0x2000ULL, args.reply_off);
	EXPECT_EQ((__u32)atomic_load(&p.a.tid), args.sender_tid);

	EXPECT_TRUE(faults(ch, NTSYNC_IOC_CHANNEL_REPLY));
	EXPECT_TRUE(actor_asleep(&p.a));
	EXPECT_EQ(0, ch_reply(ch, args.entry_id));
	EXPECT_EQ(0, actor_end(&p.a));
	/* there was no other request */
	ret = ch_try_recv2(ch, &args);
	EXPECT_TRUE(ret == -EAGAIN || ret == -ENOTTY);
	actor_stop(&p.a);
	close(ch);
}

/* Results that cannot be stored: it happened. */
TEST_F(object, result_fault)
{
	struct ntsync_mutex_args unlock = { .owner = 1, .count = NT_POISON };
	int sem = nt_create_sem(self->dev, 0, 2);
	int mutex = nt_create_mutex(self->dev, 1, 2);
	int event = nt_create_event(self->dev, true, false);
	struct nt_waiter w = {
		.wait = { .dev = self->dev, .objs = &sem, .count = 1 },
	};
	void *ro_unlock = map_page(&unlock, sizeof(unlock), PROT_READ);
	__u32 one = 1, three = 3;
	void *ro_one = map_page(&one, sizeof(one), PROT_READ);
	void *ro_three = map_page(&three, sizeof(three), PROT_READ);
	void *none = map_page("", 0, PROT_NONE);

	ASSERT_TRUE(ro_unlock && ro_one && ro_three && none);
	start_asleep(&w);
	EXPECT_EQ(-EFAULT, nt_ioctl(sem, NTSYNC_IOC_SEM_RELEASE, ro_one));
	EXPECT_EQ(0, nt_finish(&w));
	check_sem(sem, 0, 2);
	EXPECT_EQ(-EFAULT, nt_ioctl(sem, NTSYNC_IOC_SEM_RELEASE, ro_one));
	check_sem(sem, 1, 2);
	/* the error of the operation itself comes first */
	EXPECT_EQ(-EOVERFLOW, nt_ioctl(sem, NTSYNC_IOC_SEM_RELEASE, ro_three));
	check_sem(sem, 1, 2);

	EXPECT_EQ(-EFAULT, nt_ioctl(mutex, NTSYNC_IOC_MUTEX_UNLOCK, ro_unlock));
	check_mutex(mutex, 1, 1);
	EXPECT_EQ(-EFAULT, nt_ioctl(mutex, NTSYNC_IOC_MUTEX_UNLOCK, ro_unlock));
	check_mutex(mutex, 0, 0);
	EXPECT_EQ(-EPERM, nt_ioctl(mutex, NTSYNC_IOC_MUTEX_UNLOCK, ro_unlock));
	check_mutex(mutex, 0, 0);

	EXPECT_EQ(-EFAULT, nt_ioctl(event, NTSYNC_IOC_EVENT_SET, none));
	check_event(event, 1, 1);
	EXPECT_EQ(-EFAULT, nt_ioctl(event, NTSYNC_IOC_EVENT_RESET, none));
	check_event(event, 1, 0);
	EXPECT_EQ(-EFAULT, nt_ioctl(event, NTSYNC_IOC_EVENT_SET, NULL));
	check_event(event, 1, 1);
	EXPECT_EQ(-EFAULT, nt_ioctl(event, NTSYNC_IOC_EVENT_PULSE, none));
	check_event(event, 1, 0);
	EXPECT_EQ(-EFAULT, nt_ioctl(event, NTSYNC_IOC_EVENT_READ, none));
	check_event(event, 1, 0);
}

/* MUTEX_KILL needs its argument only to read it. */
TEST_F(object, kill_read_only)
{
	int mutex = nt_create_mutex(self->dev, 1, 2);
	__u32 owner = 1;
	void *ro = map_page(&owner, sizeof(owner), PROT_READ);

	ASSERT_TRUE(ro != NULL);
	EXPECT_EQ(0, nt_ioctl(mutex, NTSYNC_IOC_MUTEX_KILL, ro));
	check_mutex_dead(mutex);
}

TEST_F(object, sem_overflow)
{
	int objs[2] = { nt_create_sem(self->dev, 0, 2), nt_create_event(self->dev, false, false) };
	struct nt_waiter any = {
		.wait = { .dev = self->dev, .objs = objs, .count = 1 },
	};
	struct nt_waiter all = {
		.wait = { .dev = self->dev, .all = true, .objs = objs, .count = 2 },
	};
	__u32 prev;

	start_asleep(&any);
	start_asleep(&all);
	EXPECT_EQ(-EOVERFLOW, nt_release_sem(objs[0], 3, &prev));
	EXPECT_EQ(3U, prev);
	EXPECT_EQ(-EOVERFLOW, nt_release_sem(objs[0], UINT_MAX, &prev));
	EXPECT_EQ(UINT_MAX, prev);
	check_sem(objs[0], 0, 2);
	EXPECT_TRUE(nt_asleep(&any));
	EXPECT_TRUE(nt_asleep(&all));
	/* a release of nothing wakes nobody */
	EXPECT_EQ(0, nt_release_sem(objs[0], 0, &prev));
	EXPECT_EQ(0U, prev);
	EXPECT_TRUE(nt_asleep(&any));

	EXPECT_EQ(0, nt_release_sem(objs[0], 2, &prev));
	EXPECT_EQ(0, nt_finish(&any));
	check_sem(objs[0], 1, 2);
	EXPECT_EQ(0, nt_release_sem(objs[0], 1, &prev));
	EXPECT_EQ(1U, prev);
	EXPECT_EQ(-EOVERFLOW, nt_release_sem(objs[0], 1, &prev));
	check_sem(objs[0], 2, 2);
	EXPECT_TRUE(nt_asleep(&all));
	EXPECT_EQ(0, nt_event(objs[1], NTSYNC_IOC_EVENT_SET, NULL));
	EXPECT_EQ(0, nt_finish(&all));
	check_sem(objs[0], 1, 2);
	check_event(objs[1], 0, 0);
}

/* The limit is that of 32 bits, also where the sum wraps. */
TEST_F(object, sem_limit)
{
	int sem = nt_create_sem(self->dev, UINT_MAX - 1, UINT_MAX);
	__u32 prev;

	EXPECT_EQ(-EOVERFLOW, nt_release_sem(sem, 2, NULL));
	EXPECT_EQ(-EOVERFLOW, nt_release_sem(sem, UINT_MAX, NULL));
	check_sem(sem, UINT_MAX - 1, UINT_MAX);
	EXPECT_EQ(0, nt_release_sem(sem, 1, &prev));
	EXPECT_EQ(UINT_MAX - 1, prev);
	check_sem(sem, UINT_MAX, UINT_MAX);
}

TEST_F(object, sem_release_wakes_n)
{
	struct nt_turns *turns = calloc(1, sizeof(*turns));
	int sem = nt_create_sem(self->dev, 0, 10);
	struct nt_waiter w[6] = {};
	unsigned int i;

	ASSERT_TRUE(turns != NULL);
	for (i = 0; i < ARRAY_LEN(w); i++) {
		w[i].wait = (struct nt_wait){ .dev = self->dev, .objs = &sem, .count = 1 };
		w[i].id = i;
		w[i].turns = turns;
		start_asleep(&w[i]);
	}
	EXPECT_EQ(0, nt_release_sem(sem, 4, NULL));
	for (i = 0; i < 4; i++)
		EXPECT_EQ(0, nt_finish(&w[i]));
	check_sem(sem, 0, 10);
	for (; i < 6; i++)
		EXPECT_TRUE(nt_asleep(&w[i]));
	EXPECT_EQ(0, nt_release_sem(sem, 5, NULL));
	for (i = 4; i < 6; i++)
		EXPECT_EQ(0, nt_finish(&w[i]));
	check_sem(sem, 3, 10);
	EXPECT_EQ(6U, atomic_load(&turns->n));
	free(turns);
}

TEST_F(object, auto_wakes_one)
{
	int event = nt_create_event(self->dev, false, false);
	struct nt_waiter w[3] = {};
	unsigned int i, j;

	for (i = 0; i < ARRAY_LEN(w); i++) {
		w[i].wait = (struct nt_wait){ .dev = self->dev, .objs = &event, .count = 1 };
		start_asleep(&w[i]);
	}
	for (i = 0; i < ARRAY_LEN(w); i++) {
		__u32 prev;

		EXPECT_EQ(0, nt_event(event, i == 1 ? NTSYNC_IOC_EVENT_PULSE :
						      NTSYNC_IOC_EVENT_SET, &prev));
		EXPECT_EQ(0U, prev);
		EXPECT_EQ(0, nt_finish(&w[i]));
		check_event(event, 0, 0);
		for (j = i + 1; j < ARRAY_LEN(w); j++)
			EXPECT_TRUE(nt_asleep(&w[j]));
	}
}

TEST_F(object, manual_wakes_all)
{
	int objs[2] = { nt_create_event(self->dev, true, false), nt_create_sem(self->dev, 10, 10) };
	int idle = nt_create_event(self->dev, false, false);
	struct nt_waiter w[6];
	unsigned int i, pulse;

	for (pulse = 0; pulse < 2; pulse++) {
		memset(w, 0, sizeof(w));
		for (i = 0; i < ARRAY_LEN(w); i++) {
			w[i].wait = (struct nt_wait){
				.dev = self->dev, .objs = i % 3 == 2 ? &idle : objs,
				.all = i % 3 == 1, .count = i % 3 == 1 ? 2 : 1,
				.alert = i % 3 == 2 ? objs[0] : 0,
			};
			start_asleep(&w[i]);
		}
		EXPECT_EQ(0, nt_event(objs[0], pulse ? NTSYNC_IOC_EVENT_PULSE :
						       NTSYNC_IOC_EVENT_SET, NULL));
		for (i = 0; i < ARRAY_LEN(w); i++) {
			EXPECT_EQ(0, nt_finish(&w[i]));
			EXPECT_EQ((__u32)(i % 3 == 2), w[i].wait.index);
		}
		check_event(objs[0], 1, !pulse);
		check_sem(objs[1], 8 - 2 * pulse, 10);
		check_event(idle, 0, 0);
		EXPECT_EQ(0, nt_event(objs[0], NTSYNC_IOC_EVENT_RESET, NULL));
	}
}

TEST_F(object, pulse_without_waiter)
{
	int manual;

	for (manual = 0; manual < 2; manual++) {
		int event = nt_create_event(self->dev, manual, false);
		__u32 prev, index;

		EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_PULSE, &prev));
		EXPECT_EQ(0U, prev);
		check_event(event, manual, 0);
		EXPECT_EQ(-ETIMEDOUT, nt_try_any(self->dev, 1, &event, 7, 0, &index));
		EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_SET, &prev));
		EXPECT_EQ(0, nt_event(event, NTSYNC_IOC_EVENT_PULSE, &prev));
		EXPECT_EQ(1U, prev);
		check_event(event, manual, 0);
		EXPECT_EQ(-ETIMEDOUT, nt_try_all(self->dev, 1, &event, 7, 0, &index));
	}
}

/* A pulse that completes no WAIT_ALL leaves it asleep and consumes nothing. */
TEST_F(object, pulse_half_ready)
{
	int manual;

	for (manual = 0; manual < 2; manual++) {
		int objs[2] = {
			nt_create_event(self->dev, manual, false),
			nt_create_sem(self->dev, 0, 2),
		};
		struct nt_waiter w = {
			.wait = { .dev = self->dev, .all = true, .objs = objs, .count = 2 },
		};

		start_asleep(&w);
		EXPECT_EQ(0, nt_event(objs[0], NTSYNC_IOC_EVENT_PULSE, NULL));
		check_event(objs[0], manual, 0);
		EXPECT_TRUE(nt_asleep(&w));
		EXPECT_EQ(0, nt_release_sem(objs[1], 1, NULL));
		check_sem(objs[1], 1, 2);
		EXPECT_TRUE(nt_asleep(&w));
		EXPECT_EQ(0, nt_event(objs[0], NTSYNC_IOC_EVENT_PULSE, NULL));
		EXPECT_EQ(0, nt_finish(&w));
		check_event(objs[0], manual, 0);
		check_sem(objs[1], 0, 2);
	}
}

TEST_F(object, mutex_recursion)
{
	int mutex = nt_create_mutex(self->dev, 5, UINT_MAX - 1);
	struct nt_waiter w[2] = {
		{ .wait = { .dev = self->dev, .objs = &mutex, .count = 1, .owner = 5 } },
		{ .wait = { .dev = self->dev, .objs = &mutex, .count = 1, .owner = 6 } },
	};
	__u32 index, prev;

	EXPECT_EQ(0, nt_try_any(self->dev, 1, &mutex, 5, 0, &index));
	check_mutex(mutex, 5, UINT_MAX);
	EXPECT_EQ(-ETIMEDOUT, nt_try_any(self->dev, 1, &mutex, 5, 0, &index));
	EXPECT_EQ(-ETIMEDOUT, nt_try_all(self->dev, 1, &mutex, 5, 0, &index));
	EXPECT_EQ(NT_POISON, index);
	check_mutex(mutex, 5, UINT_MAX);

	/* a waiter for one level more gets it when there is room */
	start_asleep(&w[0]);
	start_asleep(&w[1]);
	EXPECT_EQ(0, nt_unlock_mutex(mutex, 5, &prev));
	EXPECT_EQ(UINT_MAX, prev);
	EXPECT_EQ(0, nt_finish(&w[0]));
	check_mutex(mutex, 5, UINT_MAX);
	EXPECT_TRUE(nt_asleep(&w[1]));
	EXPECT_EQ(0, nt_unlock_mutex(mutex, 5, &prev));
	check_mutex(mutex, 5, UINT_MAX - 1);
	EXPECT_TRUE(nt_asleep(&w[1]));
	EXPECT_EQ(0, nt_try_all(self->dev, 1, &mutex, 5, 0, &index));
	check_mutex(mutex, 5, UINT_MAX);

	EXPECT_EQ(0, nt_kill_mutex(mutex, 5));
	EXPECT_EQ(-EOWNERDEAD, nt_finish(&w[1]));
	check_mutex(mutex, 6, 1);
}

/* A mutex goes to all waiters that have the id of the first of them. */
TEST_F(object, mutex_same_owner)
{
	int mutex = nt_create_mutex(self->dev, 9, 2);
	static const __u32 owner[] = { 1, 2, 1, 2, 3 };
	struct nt_waiter w[ARRAY_LEN(owner)] = {};
	unsigned int i;
	__u32 prev;

	for (i = 0; i < ARRAY_LEN(w); i++) {
		w[i].wait = (struct nt_wait){
			.dev = self->dev, .objs = &mutex, .count = 1, .owner = owner[i],
		};
		start_asleep(&w[i]);
	}
	EXPECT_EQ(-EPERM, nt_unlock_mutex(mutex, 1, &prev));
	EXPECT_EQ(NT_POISON, prev);
	EXPECT_EQ(-EINVAL, nt_unlock_mutex(mutex, 0, &prev));
	EXPECT_EQ(-EPERM, nt_kill_mutex(mutex, 1));
	EXPECT_EQ(-EINVAL, nt_kill_mutex(mutex, 0));
	check_mutex(mutex, 9, 2);
	EXPECT_EQ(0, nt_unlock_mutex(mutex, 9, &prev));
	EXPECT_EQ(2U, prev);
	check_mutex(mutex, 9, 1);
	for (i = 0; i < ARRAY_LEN(w); i++)
		EXPECT_TRUE(nt_asleep(&w[i]));

	EXPECT_EQ(0, nt_unlock_mutex(mutex, 9, &prev));
	EXPECT_EQ(1U, prev);
	check_mutex(mutex, 1, 2);
	EXPECT_EQ(0, nt_finish(&w[0]));
	EXPECT_EQ(0, nt_finish(&w[2]));
	EXPECT_TRUE(nt_asleep(&w[1]));
	EXPECT_EQ(0, nt_unlock_mutex(mutex, 1, &prev));
	EXPECT_EQ(2U, prev);
	check_mutex(mutex, 1, 1);
	EXPECT_EQ(0, nt_unlock_mutex(mutex, 1, &prev));
	EXPECT_EQ(1U, prev);
	check_mutex(mutex, 2, 2);
	EXPECT_EQ(0, nt_finish(&w[1]));
	EXPECT_EQ(0, nt_finish(&w[3]));
	EXPECT_TRUE(nt_asleep(&w[4]));
	/* abandoned: the next one is told */
	EXPECT_EQ(0, nt_kill_mutex(mutex, 2));
	EXPECT_EQ(-EOWNERDEAD, nt_finish(&w[4]));
	EXPECT_EQ(0U, w[4].wait.index);
	check_mutex(mutex, 3, 1);
}

/* So do waiters in WAIT_ALL, before those in WAIT_ANY. */
TEST_F(object, mutex_same_owner_all)
{
	int objs[2] = { nt_create_mutex(self->dev, 9, 1), nt_create_sem(self->dev, 2, 2) };
	struct nt_waiter w[4] = {};
	unsigned int i;

	for (i = 0; i < ARRAY_LEN(w); i++) {
		w[i].wait = (struct nt_wait){
			.dev = self->dev, .objs = objs, .owner = i < 2 ? 1 : 2,
			.all = i >= 2, .count = i < 2 ? 1 : 2,
		};
		start_asleep(&w[i]);
	}
	EXPECT_EQ(0, nt_unlock_mutex(objs[0], 9, NULL));
	check_mutex(objs[0], 2, 2);
	check_sem(objs[1], 0, 2);
	EXPECT_EQ(0, nt_finish(&w[2]));
	EXPECT_EQ(0, nt_finish(&w[3]));
	EXPECT_EQ(0, nt_unlock_mutex(objs[0], 2, NULL));
	EXPECT_EQ(0, nt_unlock_mutex(objs[0], 2, NULL));
	check_mutex(objs[0], 1, 2);
	EXPECT_EQ(0, nt_finish(&w[0]));
	EXPECT_EQ(0, nt_finish(&w[1]));
}

TEST_F(object, mutex_abandoned)
{
	int mutex = nt_create_mutex(self->dev, 5, 3);
	int objs[2] = { nt_create_event(self->dev, false, false), mutex };
	__u32 index, prev;

	EXPECT_EQ(0, nt_kill_mutex(mutex, 5));
	check_mutex_dead(mutex);
	check_mutex_dead(mutex);
	EXPECT_EQ(-EPERM, nt_unlock_mutex(mutex, 5, &prev));
	EXPECT_EQ(-EPERM, nt_kill_mutex(mutex, 5));
	check_mutex_dead(mutex);
	/* a wait that does not take it does not report it, and leaves it so */
	EXPECT_EQ(-ETIMEDOUT, nt_try_all(self->dev, 2, objs, 7, 0, &index));
	check_mutex_dead(mutex);
	EXPECT_EQ(-EOWNERDEAD, nt_try_any(self->dev, 2, objs, 7, 0, &index));
	EXPECT_EQ(1U, index);
	check_mutex(mutex, 7, 1);
	/* told once */
	EXPECT_EQ(0, nt_try_any(self->dev, 2, objs, 7, 0, &index));
	EXPECT_EQ(1U, index);
	check_mutex(mutex, 7, 2);
}

TEST_F(object, mutex_abandoned_all)
{
	int objs[4] = {
		nt_create_sem(self->dev, 2, 2),
		nt_create_mutex(self->dev, 5, 3),
		nt_create_mutex(self->dev, 6, 1),
		nt_create_event(self->dev, false, true),
	};
	struct nt_waiter w = {
		.wait = { .dev = self->dev, .all = true, .objs = objs, .count = 4, .owner = 7 },
	};
	__u32 index;

	/* asleep, one abandoned, the other unlocked */
	start_asleep(&w);
	EXPECT_EQ(0, nt_kill_mutex(objs[1], 5));
	check_mutex_dead(objs[1]);
	EXPECT_TRUE(nt_asleep(&w));
	EXPECT_EQ(0, nt_unlock_mutex(objs[2], 6, NULL));
	EXPECT_EQ(-EOWNERDEAD, nt_finish(&w));
	EXPECT_EQ(0U, w.wait.index);
	check_sem(objs[0], 1, 2);
	check_mutex(objs[1], 7, 1);
	check_mutex(objs[2], 7, 1);
	check_event(objs[3], 0, 0);

	/* not asleep, both abandoned */
	EXPECT_EQ(0, nt_event(objs[3], NTSYNC_IOC_EVENT_SET, NULL));
	EXPECT_EQ(0, nt_kill_mutex(objs[1], 7));
	EXPECT_EQ(0, nt_kill_mutex(objs[2], 7));
	EXPECT_EQ(-EOWNERDEAD, nt_try_all(self->dev, 4, objs, 8, 0, &index));
	EXPECT_EQ(0U, index);
	check_sem(objs[0], 0, 2);
	check_mutex(objs[1], 8, 1);
	check_mutex(objs[2], 8, 1);
	check_event(objs[3], 0, 0);
}

TEST_F(object, mutex_abandoned_alert)
{
	int idle = nt_create_event(self->dev, false, false);
	int mutex = nt_create_mutex(self->dev, 5, 1);
	__u32 index;
	int all;

	for (all = 0; all < 2; all++) {
		struct nt_waiter w = {
			.wait = {
				.dev = self->dev, .all = all, .objs = &idle, .count = 1,
				.owner = 6, .alert = mutex,
			},
		};

		start_asleep(&w);
		EXPECT_EQ(0, nt_kill_mutex(mutex, 5));
		EXPECT_EQ(-EOWNERDEAD, nt_finish(&w));
		EXPECT_EQ(1U, w.wait.index);
		check_mutex(mutex, 6, 1);
		EXPECT_EQ(0, nt_kill_mutex(mutex, 6));
		EXPECT_EQ(-EOWNERDEAD, __nt_try(all, self->dev, 1, &idle, 5, mutex, &index));
		EXPECT_EQ(1U, index);
		check_mutex(mutex, 5, 1);
	}
}

TEST_F(object, twice_in_any)
{
	int sem = nt_create_sem(self->dev, 2, 2), copy = dup(sem);
	int idle = nt_create_event(self->dev, false, false);
	int objs[5] = { idle, sem, copy, sem, idle };
	struct nt_waiter w = {
		.wait = { .dev = self->dev, .objs = objs, .count = 5, .alert = copy },
	};
	__u32 index;

	EXPECT_EQ(0, nt_try_any(self->dev, 5, objs, 7, sem, &index));
	EXPECT_EQ(1U, index);
	check_sem(sem, 1, 2);
	EXPECT_EQ(0, nt_try_any(self->dev, 1, objs, 7, sem, &index));
	EXPECT_EQ(1U, index);
	check_sem(sem, 0, 2);
	start_asleep(&w);
	EXPECT_EQ(0, nt_release_sem(sem, 2, NULL));
	EXPECT_EQ(0, nt_finish(&w));
	EXPECT_EQ(1U, w.wait.index);
	check_sem(sem, 1, 2);
	check_event(idle, 0, 0);
}

TEST_F(object, twice_in_all)
{
	int objs[4] = {
		nt_create_sem(self->dev, 2, 2),
		nt_create_event(self->dev, true, true),
		nt_create_mutex(self->dev, 0, 0),
	};
	int copy = dup(objs[0]);
	__u32 index;

	objs[3] = objs[0];
	EXPECT_EQ(-EINVAL, nt_try_all(self->dev, 4, objs, 7, 0, &index));
	EXPECT_EQ(NT_POISON, index);
	objs[3] = copy;
	EXPECT_EQ(-EINVAL, nt_try_all(self->dev, 4, objs, 7, 0, &index));
	EXPECT_EQ(-EINVAL, nt_try_all(self->dev, 3, objs, 7, objs[1], &index));
	EXPECT_EQ(-EINVAL, nt_try_all(self->dev, 3, objs, 7, copy, &index));
	EXPECT_EQ(-EINVAL, nt_try_all(self->dev, 1, &objs[2], 7, objs[2], &index));
	EXPECT_EQ(NT_POISON, index);
	check_sem(objs[0], 2, 2);
	check_event(objs[1], 1, 1);
	check_mutex(objs[2], 0, 0);
	EXPECT_EQ(0, nt_try_all(self->dev, 3, objs, 7, 0, &index));
	EXPECT_EQ(0U, index);
	check_sem(objs[0], 1, 2);
	check_mutex(objs[2], 7, 1);
}

/* WAIT_ANY takes the first one that is ready, and no other. */
TEST_F(object, any_lowest_index)
{
	int objs[4] = {
		nt_create_mutex(self->dev, 9, 1),
		nt_create_event(self->dev, false, true),
		nt_create_sem(self->dev, 1, 1),
		nt_create_mutex(self->dev, 0, 0),
	};
	__u32 index, i;

	for (i = 1; i < 4; i++) {
		EXPECT_EQ(0, nt_try_any(self->dev, 4, objs, 7, 0, &index));
		EXPECT_EQ(i, index);
		check_mutex(objs[0], 9, 1);
		check_event(objs[1], 0, 0);
		check_sem(objs[2], i < 2, 1);
		check_mutex(objs[3], i < 3 ? 0 : 7, i >= 3);
	}
	/* its own mutex is ready for the owner */
	EXPECT_EQ(0, nt_try_any(self->dev, 4, objs, 9, 0, &index));
	EXPECT_EQ(0U, index);
	check_mutex(objs[0], 9, 2);
}

/* WAIT_ALL takes nothing until it can take all, and keeps nobody from it. */
TEST_F(object, all_half_ready)
{
	int objs[2] = { nt_create_sem(self->dev, 0, 3), nt_create_mutex(self->dev, 9, 1) };
	struct nt_waiter all = {
		.wait = { .dev = self->dev, .all = true, .objs = objs, .count = 2, .owner = 1 },
	};
	struct nt_waiter any = {
		.wait = { .dev = self->dev, .objs = objs, .count = 1, .owner = 2 },
	};
	__u32 index;

	start_asleep(&all);
	start_asleep(&any);
	EXPECT_EQ(0, nt_release_sem(objs[0], 1, NULL));
	EXPECT_EQ(0, nt_finish(&any));
	check_sem(objs[0], 0, 3);
	EXPECT_EQ(0, nt_unlock_mutex(objs[1], 9, NULL));
	check_mutex(objs[1], 0, 0);
	EXPECT_TRUE(nt_asleep(&all));
	/* somebody else takes the one that is ready, and then the other one */
	EXPECT_EQ(0, nt_try_any(self->dev, 1, &objs[1], 9, 0, &index));
	check_mutex(objs[1], 9, 1);
	EXPECT_EQ(0, nt_release_sem(objs[0], 2, NULL));
	check_sem(objs[0], 2, 3);
	EXPECT_EQ(0, nt_try_any(self->dev, 1, &objs[0], 9, 0, &index));
	check_sem(objs[0], 1, 3);
	EXPECT_TRUE(nt_asleep(&all));
	EXPECT_EQ(0, nt_unlock_mutex(objs[1], 9, NULL));
	EXPECT_EQ(0, nt_finish(&all));
	EXPECT_EQ(0U, all.wait.index);
	check_sem(objs[0], 0, 3);
	check_mutex(objs[1], 1, 1);
}

/* Among equals WAIT_ALL is served before WAIT_ANY, each in FIFO order. */
TEST_F(object, all_before_any)
{
	struct nt_turns *turns = calloc(1, sizeof(*turns));
	int objs[2] = { nt_create_sem(self->dev, 0, 4), nt_create_event(self->dev, true, true) };
	static const int order[] = { 1, 3, 0, 2 };
	struct nt_waiter w[4] = {};
	unsigned int i;

	ASSERT_TRUE(turns != NULL);
	for (i = 0; i < ARRAY_LEN(w); i++) {
		w[i].wait = (struct nt_wait){
			.dev = self->dev, .all = i % 2, .objs = objs, .count = 1 + i % 2,
		};
		w[i].id = i;
		w[i].turns = turns;
		start_asleep(&w[i]);
	}
	for (i = 0; i < ARRAY_LEN(w); i++) {
		EXPECT_EQ(0, nt_release_sem(objs[0], 1, NULL));
		EXPECT_EQ(order[i], nt_turn(turns, i));
		check_sem(objs[0], 0, 4);
	}
	for (i = 0; i < ARRAY_LEN(w); i++)
		EXPECT_EQ(0, nt_finish(&w[i]));
	check_event(objs[1], 1, 1);
	free(turns);
}

/* One release may complete several WAIT_ALL of different objects. */
TEST_F(object, all_chain)
{
	int common = nt_create_event(self->dev, true, false);
	int sem = nt_create_sem(self->dev, 2, 2);
	struct nt_waiter w[3] = {};
	int objs[3][3];
	unsigned int i;

	for (i = 0; i < ARRAY_LEN(w); i++) {
		objs[i][0] = nt_create_mutex(self->dev, 0, 0);
		objs[i][1] = common;
		objs[i][2] = sem;
		w[i].wait = (struct nt_wait){
			.dev = self->dev, .all = true, .objs = objs[i], .count = 3, .owner = i + 1,
		};
		start_asleep(&w[i]);
	}
	EXPECT_EQ(0, nt_event(common, NTSYNC_IOC_EVENT_SET, NULL));
	/* two of the three: there is no semaphore left for the last */
	for (i = 0; i < 2; i++) {
		EXPECT_EQ(0, nt_finish(&w[i]));
		check_mutex(objs[i][0], i + 1, 1);
	}
	check_sem(sem, 0, 2);
	EXPECT_TRUE(nt_asleep(&w[2]));
	check_mutex(objs[2][0], 0, 0);
	EXPECT_EQ(0, nt_release_sem(sem, 1, NULL));
	EXPECT_EQ(0, nt_finish(&w[2]));
	check_mutex(objs[2][0], 3, 1);
	check_sem(sem, 0, 2);
}

/* Objects are shared with a child: it may wake us, and wait. */
TEST_F(object, other_process)
{
	struct shared_wait *shared = map_shared_wait();
	struct ntsync_mutex_args unlock = { .owner = 9 };
	int objs[4] = {
		nt_create_sem(self->dev, 0, 1),
		nt_create_mutex(self->dev, 9, 1),
		nt_create_event(self->dev, false, false),
		nt_create_event(self->dev, true, false),
	};
	const struct {
		unsigned long request;
		void *arg;
	} op[] = {
		{ NTSYNC_IOC_SEM_RELEASE, &(__u32){ 1 } },
		{ NTSYNC_IOC_MUTEX_UNLOCK, &unlock },
		{ NTSYNC_IOC_EVENT_SET, &(__u32){ 0 } },
		{ NTSYNC_IOC_EVENT_PULSE, &(__u32){ 0 } },
	};
	unsigned int i;
	int status;
	pid_t pid;

	ASSERT_TRUE(shared != NULL);
	for (i = 0; i < ARRAY_LEN(op); i++) {
		struct nt_waiter w = {
			.wait = { .dev = self->dev, .objs = objs, .count = 4, .owner = 6 + i },
		};

		start_asleep(&w);
		EXPECT_EQ(0, ioctl_in_child(objs[i], op[i].request, op[i].arg));
		EXPECT_EQ(0, nt_finish(&w));
		EXPECT_EQ(i, w.wait.index);
	}
	check_sem(objs[0], 0, 1);
	check_mutex(objs[1], 7, 1);
	check_event(objs[2], 0, 0);
	check_event(objs[3], 1, 0);

	for (i = 0; i < 2; i++) {
		struct nt_wait w = {
			.dev = self->dev, .all = i, .objs = objs, .count = 1, .owner = 8,
		};

		pid = fork_waiter(&w, shared);
		ASSERT_LT(0, pid);
		ASSERT_TRUE(nt_task_asleep(pid, &shared->tid, &shared->done));
		EXPECT_EQ(0, nt_release_sem(objs[0], 1, NULL));
		ASSERT_EQ(pid, waitpid(pid, &status, 0));
		EXPECT_EQ(1U, atomic_load(&shared->done));
		EXPECT_EQ(0, shared->ret);
		EXPECT_EQ(0U, shared->index);
		check_sem(objs[0], 0, 1);
	}
}

/* Instances of the device know nothing of each other. */
TEST_F(object, two_devices)
{
	int other = open("/dev/ntsync", O_CLOEXEC | O_RDONLY);
	int sem = nt_create_sem(self->dev, 1, 1), other_sem;
	__u32 index;

	ASSERT_LE(0, other);
	other_sem = nt_create_sem(other, 1, 1);
	ASSERT_LE(0, other_sem);
	EXPECT_EQ(-EINVAL, nt_try_any(other, 1, &sem, 7, 0, &index));
	EXPECT_EQ(-EINVAL, nt_try_all(other, 1, &sem, 7, 0, &index));
	EXPECT_EQ(-EINVAL, nt_try_any(other, 1, &other_sem, 7, sem, &index));
	check_sem(sem, 1, 1);
	check_sem(other_sem, 1, 1);
	/* an object outlives the descriptor of its device */
	close(other);
	check_sem(other_sem, 1, 1);
	EXPECT_EQ(-EOVERFLOW, nt_release_sem(other_sem, 1, NULL));
	EXPECT_EQ(0, nt_try_any(self->dev, 1, &sem, 7, 0, &index));
	check_sem(sem, 0, 1);
}

TEST_HARNESS_MAIN
