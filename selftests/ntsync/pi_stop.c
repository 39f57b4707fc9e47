// SPDX-License-Identifier: GPL-2.0-or-later
/*
 * Priority inheritance of mutexes whose owner or waiter is stopped, frozen,
 * throttled, or ends in one of the less usual ways.
 *
 * Owners and waiters are processes here, or threads of these. Everything runs on
 * one CPU below the controlling process. Evidence is the effective priority and
 * the order of events.
 */
#include <dirent.h>
#include <mntent.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include "ntsync_test.h"

#define CONTROLLER_PRIO	95
#define NORMAL		20	/* what /proc has for nice 0 */
#define FIFO(prio)	(-1 - (prio))

#define HOLD_VAR	"NTSYNC_PI_HOLD"
#define HOLD_NAME	"pi-hold"
#define CORE_PATTERN	"/proc/sys/kernel/core_pattern"

#define USER		65533	/* who executes a program of another user */
#define SETUID_USER	65534
#define OTHER_USER	65532

/* 20 ms are 20 periods, and far more than a tick. */
#define QUOTA		"1000 100000"
#define BURN_NSEC	(NT_NSEC_PER_SEC / 50)

/*
 * A program that is executed by a test only has to stay until it is killed. Once
 * SIGUSR1 came (blocked by who executes it) it drops the user it was started by.
 * The kernel executes one, too, with arguments: it says in a file who it is.
 */
static __attribute__((constructor)) void hold(int argc, char **argv)
{
	bool by_kernel = argc == 3 && !strcmp(argv[1], HOLD_NAME);
	uid_t uid = geteuid();
	sigset_t set;
	char pid[16];
	int sig, fd;

	if (by_kernel) {
		fd = open(argv[2], O_WRONLY | O_CREAT, 0600);
		snprintf(pid, sizeof(pid), "%d\n", getpid());
		if (fd < 0 || write(fd, pid, strlen(pid)) < 0)
			_exit(1);
		/* The dump is not read, but if there is nobody any more who writes it, this ends. */
		poll(&(struct pollfd){ .fd = 0 }, 1, -1);
		_exit(0);
	} else if (!getenv(HOLD_VAR)) {
		return;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	for (;;) {
		if (!sigwait(&set, &sig) && setresuid(uid, uid, uid))
			_exit(1);
	}
}

/* A process, or a thread of one, that does what it is told. In shared memory. */
struct child {
	pid_t pid;
	bool forked;		/* and not yet waited for */
	int prio;		/* FIFO, or 0 for an ordinary one */
	int go[2];		/* pipe: a byte for each command */
	int (*fn)(struct child *c);	/* NULL: end */
	int dev;
	int mutex;
	__u32 id;
	struct child *thread;	/* for do_thread() */
	char path[64];		/* for do_exec() */
	int sig;		/* for do_die() */
	int ret;
	atomic_uint flag;	/* do_burn(): begin to burn; do_vfork(): there is a child */
	atomic_int task;	/* TID */
	atomic_int entered;	/* the same, when it is about to do what it was told */
	atomic_uint done;
};

enum { OWNER, WAITER, OTHER, THREAD, NB_CHILDREN };

static int set_sched(pid_t tid, int prio)
{
	struct sched_param param = { .sched_priority = prio };

	return sched_setscheduler(tid, prio ? SCHED_FIFO : SCHED_OTHER, &param) ? -errno : 0;
}

static void *child_loop(void *arg)
{
	struct child *c = arg;
	char byte;

	c->ret = set_sched(0, c->prio);
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

static int do_wait(struct child *c)
{
	struct nt_wait wait = {
		.dev = c->dev, .objs = &c->mutex, .count = 1, .owner = c->id,
		.timeout = UINT64_MAX,
	};

	return nt_wait(&wait);
}

static int do_unlock(struct child *c)
{
	return nt_unlock_mutex(c->mutex, c->id, NULL);
}

static int do_thread(struct child *c)
{
	pthread_t thread;

	return -pthread_create(&thread, NULL, child_loop, c->thread);
}

static int do_exec(struct child *c)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	setenv(HOLD_VAR, "1", 1);
	execl(c->path, HOLD_NAME, NULL);
	return -errno;
}

static int do_drop(struct child *c)
{
	(void)c;
	return setresuid(USER, USER, USER) ? -errno : 0;
}

static int do_die(struct child *c)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	if (setrlimit(RLIMIT_CORE, &limit) || prctl(PR_SET_DUMPABLE, 1, 0, 0, 0))
		return -errno;
	signal(c->sig, SIG_DFL);
	raise(c->sig);
	return -EINVAL;
}

static int do_exit_group(struct child *c)
{
	(void)c;
	_exit(3);
}

/* The child of vfork() goes on when there is another byte. */
static int do_vfork(struct child *c)
{
	int status;
	pid_t pid;

	setenv(HOLD_VAR, "1", 1);
	pid = vfork();
	if (!pid) {
		char byte;

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		atomic_store(&c->flag, 1);
		while (read(c->go[0], &byte, 1) != 1)
			;
		if (c->path[0])
			execl(c->path, HOLD_NAME, NULL);
		_exit(c->path[0] ? 1 : 0);
	}
	if (pid < 0)
		return -errno;
	if (c->path[0])
		kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) != pid)
		return -errno;
	return c->path[0] ? !WIFSIGNALED(status) : status;
}

/* Use some CPU time, and release the mutex. */
static int do_burn(struct child *c)
{
	__u64 end;

	while (!atomic_load(&c->flag))
		;
	end = nt_now(CLOCK_THREAD_CPUTIME_ID) + BURN_NSEC;
	while (nt_now(CLOCK_THREAD_CPUTIME_ID) < end)
		;
	return do_unlock(c);
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

static int child_prio(struct child *c)
{
	return nt_task_prio(c->pid, atomic_load(&c->task));
}

static char child_state(struct child *c)
{
	return nt_task_state(c->pid, atomic_load(&c->task));
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

static int thread_start(struct child *leader, struct child *c)
{
	int ret;

	c->pid = leader->pid;
	leader->thread = c;
	ret = child_do(leader, do_thread);
	return ret ? ret : child_end(c);
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

static bool child_has_uids(struct child *c, unsigned int real, unsigned int effective)
{
	char path[64], buf[2048];
	unsigned int r, e;
	const char *line;

	snprintf(path, sizeof(path), "/proc/%d/status", c->pid);
	if (!nt_read_file(path, buf, sizeof(buf)))
		return false;
	line = strstr(buf, "\nUid:");
	return line && sscanf(line, "\nUid: %u %u", &r, &e) == 2 && r == real && e == effective;
}

/* Let it wait, and go on when it sleeps. */
#define waits(c) do {							\
	child_begin((c), do_wait);					\
	ASSERT_TRUE(child_asleep(c));					\
} while (0)

#define acquires(c)	ASSERT_EQ(0, child_do((c), do_wait))
#define releases(c)	ASSERT_EQ(0, child_do((c), do_unlock))

FIXTURE(pi_stop) {
	int dev;
	int mutex;
	struct child *child;
	struct child *owner;
	struct child *waiter;	/* FIFO 80 */
	struct child *other;	/* FIFO 85 */
	struct child *thread;	/* not started */
	char tmp[64];		/* directory, or empty; so below */
	char core_pattern[256];	/* what it was */
	pid_t helper;		/* started by the kernel */
	char mnt[80];		/* what we mounted */
	char root[256];		/* of cgroups */
	char cgroup[300];
	bool cpu_enabled;	/* by us */
};

FIXTURE_SETUP(pi_stop)
{
	static const int prio[NB_CHILDREN] = { [WAITER] = 80, [OTHER] = 85 };
	struct nt_sched sched = NT_FIFO(CONTROLLER_PRIO);
	int i;

	open_device(self->dev);
	self->mutex = nt_create_mutex(self->dev, 0, 0);
	ASSERT_LE(0, self->mutex);
	if (nt_set_task(self->mutex, 0, 0) == -ENOTTY)
		SKIP(return, "no priority inheritance in this kernel");
	ASSERT_EQ(0, nt_pin_self(nt_cpu(0)));
	if (nt_sched_probe(sched))
		SKIP(return, "no right to real-time priorities");
	ASSERT_EQ(0, nt_sched_self(&sched));

	self->child = mmap(NULL, NB_CHILDREN * sizeof(*self->child), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_TRUE(self->child != MAP_FAILED);
	self->owner = &self->child[OWNER];
	self->waiter = &self->child[WAITER];
	self->other = &self->child[OTHER];
	self->thread = &self->child[THREAD];
	for (i = 0; i < NB_CHILDREN; i++) {
		struct child *c = &self->child[i];

		c->dev = self->dev;
		c->mutex = self->mutex;
		c->id = i + 1;
		c->prio = prio[i];
		ASSERT_EQ(0, pipe2(c->go, O_CLOEXEC));
	}
	/* They die with us. */
	for (i = 0; i < THREAD; i++)
		ASSERT_EQ(0, child_start(&self->child[i]));
	EXPECT_EQ(NORMAL, child_prio(self->owner));
	EXPECT_EQ(FIFO(80), child_prio(self->waiter));
	EXPECT_EQ(FIFO(85), child_prio(self->other));
}

static bool write_in(const char *dir, const char *name, const char *text)
{
	char path[400];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return nt_write_file(path, text);
}

FIXTURE_TEARDOWN(pi_stop)
{
	struct dirent *entry;
	char path[400];
	DIR *dir;
	int i;

	if (self->core_pattern[0]) {
		EXPECT_TRUE(nt_write_file(CORE_PATTERN, self->core_pattern));
	}
	if (self->helper)
		kill(self->helper, SIGKILL);
	if (self->cgroup[0])
		write_in(self->cgroup, "cgroup.freeze", "0");
	for (i = 0; i < NB_CHILDREN; i++) {
		if (!self->child[i].forked)
			continue;
		kill(self->child[i].pid, SIGKILL);
		EXPECT_NE(-1, child_reap(&self->child[i]));
	}
	if (self->cgroup[0]) {
		EXPECT_TRUE(poll_until(!rmdir(self->cgroup)));
	}
	if (self->cpu_enabled) {
		EXPECT_TRUE(write_in(self->root, "cgroup.subtree_control", "-cpu"));
	}
	if (self->mnt[0]) {
		EXPECT_TRUE(poll_until(!umount(self->mnt)));
		EXPECT_EQ(0, rmdir(self->mnt));
	}
	if (self->tmp[0]) {
		dir = opendir(self->tmp);
		while (dir && (entry = readdir(dir))) {
			if (entry->d_name[0] == '.')
				continue;
			snprintf(path, sizeof(path), "%s/%s", self->tmp, entry->d_name);
			EXPECT_EQ(0, unlink(path));
		}
		if (dir)
			closedir(dir);
		EXPECT_EQ(0, rmdir(self->tmp));
	}
	munmap(self->child, NB_CHILDREN * sizeof(*self->child));
	close(self->mutex);
	close(self->dev);
}

/* The following return NULL, or why it cannot be done. */

static const char *make_tmp(FIXTURE_DATA(pi_stop) *self)
{
	char path[] = "/tmp/ntsync-pi-XXXXXX";

	if (!mkdtemp(path))
		return "cannot create a directory in /tmp";
	strcpy(self->tmp, path);
	return chmod(path, 0755) ? "cannot set the mode of a directory in /tmp" : NULL;
}

static const char *make_cgroup(FIXTURE_DATA(pi_stop) *self)
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
	snprintf(path, sizeof(self->cgroup), "%s/ntsync-pi-%d", self->root, getpid());
	if (mkdir(path, 0755))
		return "cannot create a cgroup";
	strcpy(self->cgroup, path);
	return NULL;
}

static const char *enable_cpu(FIXTURE_DATA(pi_stop) *self)
{
	char path[400], buf[512];

	snprintf(path, sizeof(path), "%s/cpu.max", self->cgroup);
	if (access(path, W_OK)) {
		snprintf(buf, sizeof(buf), "%s/cgroup.subtree_control", self->root);
		if (!nt_write_file(buf, "+cpu"))
			return "cannot enable the cpu controller";
		self->cpu_enabled = true;
	}
	return access(path, W_OK) ? "no cpu.max (CONFIG_CFS_BANDWIDTH)" : NULL;
}

/* A value of a file of the cgroup, -1 if there is none. */
static long cgroup_value(FIXTURE_DATA(pi_stop) *self, const char *name, const char *key)
{
	char path[400], buf[2048];
	size_t len = strlen(key);
	const char *line;

	snprintf(path, sizeof(path), "%s/%s", self->cgroup, name);
	if (!nt_read_file(path, buf, sizeof(buf)))
		return -1;
	for (line = buf; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, key, len) && line[len] == ' ')
			return atol(line + len);
	}
	return -1;
}

static bool cgroup_add(FIXTURE_DATA(pi_stop) *self, struct child *c)
{
	char pid[16];

	snprintf(pid, sizeof(pid), "%d", c->pid);
	return write_in(self->cgroup, "cgroup.procs", pid);
}

/* Ways to stop a process, and to let it go on */

struct way {
	bool (*stop)(FIXTURE_DATA(pi_stop) *self, struct child *c);
	bool (*cont)(FIXTURE_DATA(pi_stop) *self, struct child *c);
	char state;		/* while it is stopped, or 0 */
};

static bool trace_stop(FIXTURE_DATA(pi_stop) *self, struct child *c)
{
	(void)self;
	return !ptrace(PTRACE_SEIZE, c->pid, NULL, NULL) &&
	       !ptrace(PTRACE_INTERRUPT, c->pid, NULL, NULL) && child_stopped(c) != -1;
}

static bool trace_cont(FIXTURE_DATA(pi_stop) *self, struct child *c)
{
	(void)self;
	return !ptrace(PTRACE_DETACH, c->pid, NULL, NULL);
}

static bool signal_stop(FIXTURE_DATA(pi_stop) *self, struct child *c)
{
	(void)self;
	return !kill(c->pid, SIGSTOP) && child_stopped(c) != -1;
}

static bool signal_cont(FIXTURE_DATA(pi_stop) *self, struct child *c)
{
	(void)self;
	return !kill(c->pid, SIGCONT);
}

static bool freeze_stop(FIXTURE_DATA(pi_stop) *self, struct child *c)
{
	return cgroup_add(self, c) && write_in(self->cgroup, "cgroup.freeze", "1") &&
	       poll_until(cgroup_value(self, "cgroup.events", "frozen") == 1);
}

static bool freeze_cont(FIXTURE_DATA(pi_stop) *self, struct child *c)
{
	(void)c;
	return write_in(self->cgroup, "cgroup.freeze", "0") &&
	       poll_until(cgroup_value(self, "cgroup.events", "frozen") == 0);
}

static const struct way by_ptrace = { trace_stop, trace_cont, 't' };
static const struct way by_signal = { signal_stop, signal_cont, 'T' };
static const struct way by_freezer = { freeze_stop, freeze_cont, 0 };

#define expect_stopped(c) do {						\
	/* It may still wait for a lock of the kernel: that state comes first. */ \
	EXPECT_TRUE(!way->state || poll_until(child_state(c) == way->state)); \
} while (0)

/* A stopped owner inherits like any other. */
static void owner_stopped(struct __test_metadata *_metadata, FIXTURE_DATA(pi_stop) *self,
			  const struct way *way)
{
	struct child *owner = self->owner, *waiter = self->waiter, *other = self->other;

	/* first it stops */
	acquires(owner);
	ASSERT_TRUE(way->stop(self, owner));
	EXPECT_EQ(NORMAL, child_prio(owner));
	waits(waiter);
	EXPECT_EQ(FIFO(80), child_prio(owner));
	expect_stopped(owner);
	ASSERT_TRUE(way->cont(self, owner));
	EXPECT_EQ(FIFO(80), child_prio(owner));
	releases(owner);
	EXPECT_EQ(NORMAL, child_prio(owner));
	ASSERT_EQ(0, child_end(waiter));
	check_mutex(self->mutex, waiter->id, 1);
	releases(waiter);

	/* first it is boosted; it does nothing while it is stopped */
	acquires(owner);
	waits(waiter);
	EXPECT_EQ(FIFO(80), child_prio(owner));
	ASSERT_TRUE(way->stop(self, owner));
	EXPECT_EQ(FIFO(80), child_prio(owner));
	waits(other);
	EXPECT_EQ(FIFO(85), child_prio(owner));
	child_begin(owner, do_unlock);
	expect_stopped(owner);
	EXPECT_FALSE(child_done(owner));
	check_mutex(self->mutex, owner->id, 1);
	ASSERT_TRUE(way->cont(self, owner));
	ASSERT_EQ(0, child_end(owner));
	EXPECT_EQ(NORMAL, child_prio(owner));
	ASSERT_EQ(0, child_end(other));
	check_mutex(self->mutex, other->id, 1);
	releases(other);
	ASSERT_EQ(0, child_end(waiter));
	check_mutex(self->mutex, waiter->id, 1);
	releases(waiter);

	/* somebody else releases meanwhile */
	acquires(owner);
	waits(waiter);
	ASSERT_TRUE(way->stop(self, owner));
	EXPECT_EQ(FIFO(80), child_prio(owner));
	EXPECT_EQ(0, nt_unlock_mutex(self->mutex, owner->id, NULL));
	EXPECT_EQ(NORMAL, child_prio(owner));
	expect_stopped(owner);
	ASSERT_EQ(0, child_end(waiter));
	check_mutex(self->mutex, waiter->id, 1);
	ASSERT_TRUE(way->cont(self, owner));
	EXPECT_EQ(NORMAL, child_prio(owner));
	releases(waiter);
	EXPECT_EQ(FIFO(80), child_prio(waiter));
	EXPECT_EQ(FIFO(85), child_prio(other));
	check_mutex(self->mutex, 0, 0);
}

/* Whether a stopped waiter lends is left open; it waits again when it goes on. */
static void waiter_stopped(struct __test_metadata *_metadata, FIXTURE_DATA(pi_stop) *self,
			   const struct way *way)
{
	struct child *owner = self->owner, *waiter = self->waiter;
	int prio;

	acquires(owner);
	waits(waiter);
	EXPECT_EQ(FIFO(80), child_prio(owner));
	ASSERT_TRUE(way->stop(self, waiter));
	prio = child_prio(owner);
	EXPECT_TRUE(prio == FIFO(80) || prio == NORMAL) {
		TH_LOG("the priority is %d", prio);
	}
	expect_stopped(waiter);
	EXPECT_FALSE(child_done(waiter));
	check_mutex(self->mutex, owner->id, 1);
	ASSERT_TRUE(way->cont(self, waiter));
	EXPECT_TRUE(poll_until(child_prio(owner) == FIFO(80)));
	ASSERT_TRUE(child_asleep(waiter));
	EXPECT_EQ(FIFO(80), child_prio(owner));
	releases(owner);
	EXPECT_EQ(NORMAL, child_prio(owner));
	ASSERT_EQ(0, child_end(waiter));
	check_mutex(self->mutex, waiter->id, 1);
	releases(waiter);
	check_mutex(self->mutex, 0, 0);

	/* released meanwhile */
	acquires(owner);
	waits(waiter);
	EXPECT_EQ(FIFO(80), child_prio(owner));
	ASSERT_TRUE(way->stop(self, waiter));
	releases(owner);
	EXPECT_EQ(NORMAL, child_prio(owner));
	EXPECT_FALSE(child_done(waiter));
	expect_stopped(waiter);
	ASSERT_TRUE(way->cont(self, waiter));
	ASSERT_EQ(0, child_end(waiter));
	check_mutex(self->mutex, waiter->id, 1);
	releases(waiter);
	EXPECT_EQ(NORMAL, child_prio(owner));
	EXPECT_EQ(FIFO(80), child_prio(waiter));
	check_mutex(self->mutex, 0, 0);
}

TEST_F_TIMEOUT(pi_stop, owner_traced, NT_TEST_TIMEOUT)
{
	owner_stopped(_metadata, self, &by_ptrace);
}

TEST_F_TIMEOUT(pi_stop, owner_sigstop, NT_TEST_TIMEOUT)
{
	owner_stopped(_metadata, self, &by_signal);
}

TEST_F_TIMEOUT(pi_stop, owner_frozen, NT_TEST_TIMEOUT)
{
	const char *reason = make_cgroup(self);

	if (reason)
		SKIP(return, "%s", reason);
	owner_stopped(_metadata, self, &by_freezer);
}

TEST_F_TIMEOUT(pi_stop, waiter_traced, NT_TEST_TIMEOUT)
{
	waiter_stopped(_metadata, self, &by_ptrace);
}

TEST_F_TIMEOUT(pi_stop, waiter_sigstop, NT_TEST_TIMEOUT)
{
	waiter_stopped(_metadata, self, &by_signal);
}

TEST_F_TIMEOUT(pi_stop, waiter_frozen, NT_TEST_TIMEOUT)
{
	const char *reason = make_cgroup(self);

	if (reason)
		SKIP(return, "%s", reason);
	waiter_stopped(_metadata, self, &by_freezer);
}

/*
 * The loan is over, the owner is still the same id: nothing comes to the task
 * from those who wait, and MUTEX_KILL does what it is for.
 */
static void nobody_inherits(struct __test_metadata *_metadata, FIXTURE_DATA(pi_stop) *self,
			    __u32 id, pid_t task)
{
	struct child *waiter = self->waiter, *other = self->other;

	EXPECT_FALSE(child_done(waiter));
	check_mutex(self->mutex, id, 1);
	waits(other);
	EXPECT_EQ(NORMAL, nt_task_prio(task, task));
	EXPECT_FALSE(child_done(waiter));
	check_mutex(self->mutex, id, 1);

	EXPECT_EQ(0, nt_kill_mutex(self->mutex, id));
	ASSERT_EQ(-EOWNERDEAD, child_end(other));
	check_mutex(self->mutex, other->id, 1);
	EXPECT_EQ(FIFO(85), child_prio(other));
	releases(other);
	ASSERT_EQ(0, child_end(waiter));
	check_mutex(self->mutex, waiter->id, 1);

	/* lending goes on with the new owner */
	waits(other);
	EXPECT_EQ(FIFO(85), child_prio(waiter));
	releases(waiter);
	EXPECT_EQ(FIFO(80), child_prio(waiter));
	ASSERT_EQ(0, child_end(other));
	releases(other);
	EXPECT_EQ(FIFO(85), child_prio(other));
	check_mutex(self->mutex, 0, 0);
}

static const char *set_core_pattern(FIXTURE_DATA(pi_stop) *self, const char *pattern)
{
	if (!nt_read_file(CORE_PATTERN, self->core_pattern, sizeof(self->core_pattern)))
		return "no " CORE_PATTERN;
	if (!nt_write_file(CORE_PATTERN, pattern)) {
		self->core_pattern[0] = 0;
		return CORE_PATTERN " is not writable";
	}
	return NULL;
}

/* The owner is the one that dumps core, or another thread of the same process. */
static void dumps_core(struct __test_metadata *_metadata, FIXTURE_DATA(pi_stop) *self,
		       int sig, bool is_thread)
{
	struct child *owner = self->owner, *waiter = self->waiter;
	const char *reason = make_tmp(self);
	char pattern[80];
	int status;

	snprintf(pattern, sizeof(pattern), "%s/core", self->tmp);
	if (!reason)
		reason = set_core_pattern(self, pattern);
	if (reason)
		SKIP(return, "%s", reason);

	owner->sig = sig;
	if (is_thread) {
		ASSERT_EQ(0, thread_start(owner, self->thread));
		owner = self->thread;
	}
	acquires(owner);
	waits(waiter);
	EXPECT_EQ(FIFO(80), child_prio(owner));
	child_begin(self->owner, do_die);
	status = child_reap(self->owner);
	ASSERT_NE(-1, status);
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(sig, WTERMSIG(status));
	EXPECT_TRUE(WCOREDUMP(status));

	EXPECT_FALSE(child_done(waiter));
	check_mutex(self->mutex, owner->id, 1);
	EXPECT_EQ(0, nt_kill_mutex(self->mutex, owner->id));
	ASSERT_EQ(-EOWNERDEAD, child_end(waiter));
	check_mutex(self->mutex, waiter->id, 1);

	/* which has nothing left of it */
	waits(self->other);
	EXPECT_EQ(FIFO(85), child_prio(waiter));
	releases(waiter);
	EXPECT_EQ(FIFO(80), child_prio(waiter));
	ASSERT_EQ(0, child_end(self->other));
}

TEST_F_TIMEOUT(pi_stop, core_abort, NT_TEST_TIMEOUT)
{
	dumps_core(_metadata, self, SIGABRT, false);
}

TEST_F_TIMEOUT(pi_stop, core_segv, NT_TEST_TIMEOUT)
{
	dumps_core(_metadata, self, SIGSEGV, false);
}

TEST_F_TIMEOUT(pi_stop, core_abort_thread, NT_TEST_TIMEOUT)
{
	dumps_core(_metadata, self, SIGABRT, true);
}

TEST_F_TIMEOUT(pi_stop, core_segv_thread, NT_TEST_TIMEOUT)
{
	dumps_core(_metadata, self, SIGSEGV, true);
}

static bool copy_self(const char *to)
{
	int in = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	int out = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	ssize_t len = -1;
	char buf[4096];

	while (in >= 0 && out >= 0 && (len = read(in, buf, sizeof(buf))) > 0)
		if (write(out, buf, len) != len)
			break;
	close(in);
	close(out);
	return !len;
}

static pid_t helper_of(const char *path)
{
	char buf[16];

	return nt_read_file(path, buf, sizeof(buf)) && strchr(buf, '\n') ? atoi(buf) : 0;
}

/* The dump goes to a program that does not read it: until that ends it is an owner as others. */
static void dump_takes_long(struct __test_metadata *_metadata, FIXTURE_DATA(pi_stop) *self,
			    bool is_thread)
{
	struct child *owner = self->owner, *waiter = self->waiter, *other = self->other;
	const char *reason = make_tmp(self);
	char program[80], pid[80], pattern[200];
	int status;

	snprintf(program, sizeof(program), "%s/hold", self->tmp);
	snprintf(pid, sizeof(pid), "%s/pid", self->tmp);
	snprintf(pattern, sizeof(pattern), "|%s " HOLD_NAME " %s", program, pid);
	if (!reason)
		reason = set_core_pattern(self, pattern);
	if (reason)
		SKIP(return, "%s", reason);
	ASSERT_TRUE(copy_self(program));

	owner->sig = SIGABRT;
	if (is_thread) {
		ASSERT_EQ(0, thread_start(owner, self->thread));
		owner = self->thread;
	}
	acquires(owner);
	waits(waiter);
	EXPECT_EQ(FIFO(80), child_prio(owner));
	child_begin(self->owner, do_die);
	ASSERT_TRUE(poll_until((self->helper = helper_of(pid))));

	EXPECT_EQ(FIFO(80), child_prio(owner));
	waits(other);
	EXPECT_EQ(FIFO(85), child_prio(owner));
	check_mutex(self->mutex, owner->id, 1);
	EXPECT_FALSE(child_done(waiter));

	kill(self->helper, SIGKILL);
	self->helper = 0;
	status = child_reap(self->owner);
	ASSERT_NE(-1, status);
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGABRT, WTERMSIG(status));
	EXPECT_FALSE(child_done(waiter));
	EXPECT_FALSE(child_done(other));
	EXPECT_EQ(0, nt_kill_mutex(self->mutex, owner->id));
	ASSERT_EQ(-EOWNERDEAD, child_end(other));
	releases(other);
	ASSERT_EQ(0, child_end(waiter));
}

TEST_F_TIMEOUT(pi_stop, core_not_read, NT_TEST_TIMEOUT)
{
	dump_takes_long(_metadata, self, false);
}

TEST_F_TIMEOUT(pi_stop, core_not_read_thread, NT_TEST_TIMEOUT)
{
	dump_takes_long(_metadata, self, true);
}

/*
 * An owner that has used up its quota runs when it is boosted. That it would not
 * otherwise is what the first round is for.
 */
TEST_F_TIMEOUT(pi_stop, throttled, NT_TEST_TIMEOUT)
{
	struct child *owner = self->owner, *waiter = self->waiter;
	const char *reason = make_cgroup(self);
	__u64 start, nsec;
	int boost;
	long nr;

	if (!reason)
		reason = enable_cpu(self);
	if (reason)
		SKIP(return, "%s", reason);
	ASSERT_TRUE(write_in(self->cgroup, "cpu.max", QUOTA));
	ASSERT_TRUE(cgroup_add(self, owner));

	for (boost = 0; boost < 2; boost++) {
		atomic_store(&owner->flag, 0);
		acquires(owner);
		nr = cgroup_value(self, "cpu.stat", "nr_throttled");
		ASSERT_LE(0, nr);
		child_begin(owner, do_burn);
		ASSERT_TRUE(poll_until(cgroup_value(self, "cpu.stat", "nr_throttled") >= nr + 2));
		EXPECT_EQ(NORMAL, child_prio(owner));

		start = nt_now(CLOCK_MONOTONIC);
		if (boost) {
			waits(waiter);
			EXPECT_EQ(FIFO(80), child_prio(owner));
		}
		atomic_store(&owner->flag, 1);
		if (boost) {
			ASSERT_EQ(0, child_end(waiter));
		} else {
			ASSERT_TRUE(poll_until(!nt_mutex_owner(self->mutex)));
		}
		nsec = nt_now(CLOCK_MONOTONIC) - start;
		if (boost) {
			EXPECT_GT(NT_NSEC_PER_SEC, nsec);
			check_mutex(self->mutex, waiter->id, 1);
		} else {
			EXPECT_LT(NT_NSEC_PER_SEC / 2, nsec);
		}
		EXPECT_EQ(NORMAL, child_prio(owner));
		ASSERT_EQ(0, child_end(owner));
	}
	releases(waiter);
	EXPECT_EQ(NORMAL, child_prio(owner));
	EXPECT_EQ(FIFO(80), child_prio(waiter));
	check_mutex(self->mutex, 0, 0);
}

static int try_set_task(int mutex, pid_t pid)
{
	return nt_set_task(mutex, pid, 0);
}

static int try_set_sched(int mutex, pid_t pid)
{
	(void)mutex;
	return set_sched(pid, 0);
}

/* The negative errno value that a user gets; 1 if it could not be tried. */
static int as_user(uid_t uid, int (*fn)(int mutex, pid_t pid), int mutex, pid_t pid)
{
	pid_t child = fork();
	int status;

	if (!child)
		_exit(setresuid(uid, uid, uid) ? 255 : -fn(mutex, pid));
	if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status) ||
	    WEXITSTATUS(status) == 255)
		return 1;
	return -WEXITSTATUS(status);
}

/* The program of another user inherits nothing that it did not ask for. */
TEST_F_TIMEOUT(pi_stop, setuid_exec, NT_TEST_TIMEOUT)
{
	struct child *owner = self->owner, *waiter = self->waiter, *other = self->other;
	const char *reason;
	struct statvfs fs;
	int ret;

	if (geteuid())
		SKIP(return, "not root");
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1)
		SKIP(return, "no_new_privs is set");
	reason = make_tmp(self);
	if (reason)
		SKIP(return, "%s", reason);
	ASSERT_EQ(0, statvfs(self->tmp, &fs));
	if (fs.f_flag & (ST_NOSUID | ST_NOEXEC))
		SKIP(return, "/tmp is mounted nosuid or noexec");
	snprintf(owner->path, sizeof(owner->path), "%.40s/hold", self->tmp);
	ASSERT_TRUE(copy_self(owner->path));
	ASSERT_EQ(0, chown(owner->path, SETUID_USER, SETUID_USER));
	ASSERT_EQ(0, chmod(owner->path, 04755));

	ASSERT_EQ(0, child_do(owner, do_drop));
	acquires(owner);
	waits(waiter);
	EXPECT_EQ(FIFO(80), child_prio(owner));
	child_begin(owner, do_exec);
	ASSERT_TRUE(poll_until(child_holds(owner) || child_done(owner)));
	ASSERT_FALSE(child_done(owner)) {
		TH_LOG("exec: %s", strerror(-owner->ret));
	}
	ASSERT_TRUE(child_has_uids(owner, USER, SETUID_USER));
	EXPECT_EQ(NORMAL, child_prio(owner));
	EXPECT_FALSE(child_done(waiter));
	check_mutex(self->mutex, owner->id, 1);

	waits(other);
	EXPECT_EQ(NORMAL, child_prio(owner));
	EXPECT_EQ(-EPERM, as_user(OTHER_USER, try_set_task, self->mutex, owner->pid));
	EXPECT_EQ(NORMAL, child_prio(owner));

	/* Who still is its real user may do what sched_setscheduler() lets him do. */
	ret = as_user(USER, try_set_sched, self->mutex, owner->pid);
	EXPECT_EQ(ret, as_user(USER, try_set_task, self->mutex, owner->pid));
	EXPECT_EQ(ret ? NORMAL : FIFO(85), child_prio(owner));
	EXPECT_EQ(0, nt_set_task(self->mutex, getpid(), 0));
	EXPECT_EQ(NORMAL, child_prio(owner));

	/* and that is over when it has dropped him */
	ASSERT_EQ(0, kill(owner->pid, SIGUSR1));
	ASSERT_TRUE(poll_until(child_has_uids(owner, SETUID_USER, SETUID_USER)));
	EXPECT_EQ(-EPERM, as_user(USER, try_set_sched, self->mutex, owner->pid));
	EXPECT_EQ(-EPERM, as_user(USER, try_set_task, self->mutex, owner->pid));
	EXPECT_EQ(NORMAL, child_prio(owner));
	check_mutex(self->mutex, owner->id, 1);

	kill(owner->pid, SIGKILL);
	ASSERT_NE(-1, child_reap(owner));
	EXPECT_FALSE(child_done(waiter));
	EXPECT_FALSE(child_done(other));
	EXPECT_EQ(0, nt_kill_mutex(self->mutex, owner->id));
	ASSERT_EQ(-EOWNERDEAD, child_end(other));
	releases(other);
	ASSERT_EQ(0, child_end(waiter));
	releases(waiter);
	EXPECT_EQ(FIFO(80), child_prio(waiter));
	EXPECT_EQ(FIFO(85), child_prio(other));
	EXPECT_EQ(FIFO(CONTROLLER_PRIO), nt_task_prio(getpid(), getpid()));
	check_mutex(self->mutex, 0, 0);
}

/* The loan ends with the thread, not with the process. */
TEST_F_TIMEOUT(pi_stop, thread_exits, NT_TEST_TIMEOUT)
{
	struct child *leader = self->owner, *owner = self->thread;
	pid_t tid;

	ASSERT_EQ(0, thread_start(leader, owner));
	tid = atomic_load(&owner->task);
	acquires(owner);
	waits(self->waiter);
	EXPECT_EQ(FIFO(80), child_prio(owner));
	EXPECT_EQ(NORMAL, child_prio(leader));
	child_begin(owner, NULL);
	ASSERT_TRUE(poll_until(!nt_task_state(leader->pid, tid)));
	EXPECT_EQ(NORMAL, child_prio(leader));
	EXPECT_EQ(-ESRCH, nt_set_task(self->mutex, tid, 0));
	nobody_inherits(_metadata, self, owner->id, leader->pid);

	/* the leader can be an owner, and that is as ever */
	acquires(leader);
	waits(self->waiter);
	EXPECT_EQ(FIFO(80), child_prio(leader));
	releases(leader);
	EXPECT_EQ(NORMAL, child_prio(leader));
	ASSERT_EQ(0, child_end(self->waiter));
}

/* Who has exited can be looked at until he is reaped. */
TEST_F_TIMEOUT(pi_stop, not_reaped, NT_TEST_TIMEOUT)
{
	struct child *owner = self->owner;

	acquires(owner);
	waits(self->waiter);
	EXPECT_EQ(FIFO(80), child_prio(owner));
	child_begin(owner, do_exit_group);
	ASSERT_TRUE(poll_until(child_state(owner) == 'Z'));
	EXPECT_EQ(NORMAL, child_prio(owner));
	EXPECT_EQ(-ESRCH, nt_set_task(self->mutex, owner->pid, 0));
	nobody_inherits(_metadata, self, owner->id, owner->pid);
	EXPECT_EQ(NORMAL, child_prio(owner));
	ASSERT_NE(-1, child_reap(owner));
}

/* A thread that executes a program becomes the leader, whose PID it takes over. */
TEST_F_TIMEOUT(pi_stop, thread_executes, NT_TEST_TIMEOUT)
{
	struct child *leader = self->owner, *owner = self->thread;
	pid_t tid;

	ASSERT_EQ(0, thread_start(leader, owner));
	tid = atomic_load(&owner->task);
	ASSERT_NE(leader->pid, tid);
	acquires(owner);
	waits(self->waiter);
	EXPECT_EQ(FIFO(80), child_prio(owner));
	EXPECT_EQ(NORMAL, child_prio(leader));
	strcpy(owner->path, "/proc/self/exe");
	child_begin(owner, do_exec);
	ASSERT_TRUE(poll_until(child_holds(leader) || child_done(owner)));
	ASSERT_FALSE(child_done(owner)) {
		TH_LOG("exec: %s", strerror(-owner->ret));
	}
	EXPECT_EQ(0, nt_task_state(leader->pid, tid));
	EXPECT_EQ(NORMAL, nt_task_prio(leader->pid, leader->pid));
	nobody_inherits(_metadata, self, owner->id, leader->pid);
	EXPECT_EQ(NORMAL, nt_task_prio(leader->pid, leader->pid));
}

/* The same if it is the leader that owns, and another thread that executes. */
TEST_F_TIMEOUT(pi_stop, leader_replaced, NT_TEST_TIMEOUT)
{
	struct child *leader = self->owner, *thread = self->thread;

	ASSERT_EQ(0, thread_start(leader, thread));
	acquires(leader);
	waits(self->waiter);
	EXPECT_EQ(FIFO(80), child_prio(leader));
	EXPECT_EQ(NORMAL, child_prio(thread));
	strcpy(thread->path, "/proc/self/exe");
	child_begin(thread, do_exec);
	ASSERT_TRUE(poll_until(child_holds(leader) || child_done(thread)));
	ASSERT_FALSE(child_done(thread)) {
		TH_LOG("exec: %s", strerror(-thread->ret));
	}
	EXPECT_EQ(NORMAL, nt_task_prio(leader->pid, leader->pid));
	nobody_inherits(_metadata, self, leader->id, leader->pid);
	EXPECT_EQ(NORMAL, nt_task_prio(leader->pid, leader->pid));
}

/* What the child of vfork() does is not done by the owner. */
static void owner_vforks(struct __test_metadata *_metadata, FIXTURE_DATA(pi_stop) *self,
			 const char *path)
{
	struct child *owner = self->owner, *waiter = self->waiter;

	strcpy(owner->path, path);
	acquires(owner);
	child_begin(owner, do_vfork);
	ASSERT_TRUE(poll_until(atomic_load(&owner->flag) && child_state(owner) == 'D'));
	waits(waiter);
	EXPECT_EQ('D', child_state(owner));
	EXPECT_EQ(FIFO(80), child_prio(owner));
	ASSERT_EQ(1, write(owner->go[1], "", 1));
	ASSERT_EQ(0, child_end(owner));
	EXPECT_EQ(FIFO(80), child_prio(owner));
	releases(owner);
	EXPECT_EQ(NORMAL, child_prio(owner));
	ASSERT_EQ(0, child_end(waiter));
	releases(waiter);
	check_mutex(self->mutex, 0, 0);
}

TEST_F_TIMEOUT(pi_stop, vfork_exits, NT_TEST_TIMEOUT)
{
	owner_vforks(_metadata, self, "");
}

TEST_F_TIMEOUT(pi_stop, vfork_executes, NT_TEST_TIMEOUT)
{
	owner_vforks(_metadata, self, "/proc/self/exe");
}

/* A process is not over before its threads lend nothing any more. */
TEST_F_TIMEOUT(pi_stop, waiter_exit_group, NT_TEST_TIMEOUT)
{
	struct child *owner = self->owner, *waiter = self->thread;
	int status;

	waiter->prio = 80;
	ASSERT_EQ(0, thread_start(self->other, waiter));
	acquires(owner);
	waits(waiter);
	EXPECT_EQ(FIFO(80), child_prio(owner));
	child_begin(self->other, do_exit_group);
	status = child_reap(self->other);
	EXPECT_EQ(NORMAL, child_prio(owner));
	ASSERT_NE(-1, status);
	EXPECT_TRUE(WIFEXITED(status));
	EXPECT_EQ(3, WEXITSTATUS(status));
	EXPECT_FALSE(child_done(waiter));
	check_mutex(self->mutex, owner->id, 1);

	waits(self->waiter);
	EXPECT_EQ(FIFO(80), child_prio(owner));
	releases(owner);
	EXPECT_EQ(NORMAL, child_prio(owner));
	ASSERT_EQ(0, child_end(self->waiter));
	check_mutex(self->mutex, self->waiter->id, 1);
}

TEST_HARNESS_MAIN
