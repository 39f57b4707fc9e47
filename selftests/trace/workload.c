// SPDX-License-Identifier: GPL-2.0-only
/*
 * Waits, boosts and requests of which everything is known, for the check of scripts/trace
 * (scripts/checks/trace.sh). Every number of the kind "at least" is a time that begins when the thread
 * in question is seen asleep, every "at most" is measured around its call: both hold however busy
 * the machine is. Prints lines
 *
 *	expect THREAD TID WHAT AT-LEAST-USEC AT-MOST-USEC
 *
 * of the longest wait of that kind, and "done". The number of waits of each kind is below.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <linux/ntsync.h>

#define HOLD_USEC	100000ULL	/* what a waiter waits for at least */
#define TIMEOUT_USEC	1000000ULL	/* of waits that are to time out, but not before they sleep */
#define ROUNDS		3		/* of inversion and of requests */

static int dev;

static void fail(const char *what, ...)
{
	va_list args;

	va_start(args, what);
	printf("failed: ");
	vprintf(what, args);
	printf(" (errno %d)\n", errno);
	exit(1);
}

static uint64_t now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static void pause_usec(uint64_t usec)
{
	struct timespec ts = { usec / 1000000, usec % 1000000 * 1000 };

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

/* A thread with a name and a real-time priority, or 0, that does one thing each time it is told to. */
struct thread {
	const char *name;
	int prio;
	int (*fn)(struct thread *t);
	int want;		/* what it returns, or -errno */
	int obj[2];
	unsigned int id;
	uint64_t timeout;	/* in usec, or 0 for none */
	pthread_t pthread;
	pid_t tid;
	sem_t go, done;
	atomic_uint begun, ended;
	bool running, quit;
	uint64_t took;		/* usec around the last call, or the longest of them */
};

static void timed(struct thread *t, uint64_t begin)
{
	uint64_t usec = (now() - begin + 999) / 1000;

	if (usec > t->took)
		t->took = usec;
}

static int wait_for(struct thread *t, unsigned long how, unsigned int count)
{
	struct ntsync_wait_args args = {
		.timeout = t->timeout ? now() + t->timeout * 1000 : UINT64_MAX,
		.objs = (uintptr_t)t->obj, .count = count, .owner = t->id,
	};
	uint64_t begin = now();
	int ret = ioctl(dev, how, &args) < 0 ? -errno : 0;

	timed(t, begin);
	return ret;
}

static int do_any(struct thread *t)
{
	return wait_for(t, NTSYNC_IOC_WAIT_ANY, 1);
}

static int do_all(struct thread *t)
{
	return wait_for(t, NTSYNC_IOC_WAIT_ALL, 2);
}

static int do_aggregate(struct thread *t)
{
	struct ntsync_source source = { .type = NTSYNC_SOURCE_OBJECT, .fd = t->obj[0] };
	struct ntsync_aggregate_wait_args args = {
		.timeout = UINT64_MAX, .sources = (uintptr_t)&source, .nb_sources = 1,
		.owner = t->id,
	};
	uint64_t begin = now();
	int ret = ioctl(dev, NTSYNC_IOC_AGGREGATE_WAIT, &args) < 0 ? -errno : 0;

	timed(t, begin);
	return ret;
}

static int do_send(struct thread *t)
{
	struct ntsync_channel_send_args args = { 0 };
	uint64_t begin = now();
	int ret = ioctl(t->obj[0], NTSYNC_IOC_CHANNEL_SEND_PI, &args) < 0 ? -errno : 0;

	timed(t, begin);
	return ret;
}

static void on_signal(int nr)
{
	(void)nr;
}

static void *run(void *arg)
{
	struct sched_param param;
	struct thread *t = arg;
	int ret;

	prctl(PR_SET_NAME, t->name);
	param.sched_priority = t->prio;
	if (t->prio && sched_setscheduler(0, SCHED_FIFO, &param))
		fail("FIFO %d", t->prio);
	t->tid = gettid();
	for (;;) {
		sem_wait(&t->go);
		if (t->quit)
			return NULL;
		atomic_fetch_add(&t->begun, 1);
		ret = t->fn(t);
		atomic_fetch_add(&t->ended, 1);
		if (ret != t->want)
			fail("%s: it returned %d, not %d", t->name, ret, t->want);
		sem_post(&t->done);
	}
}

/* The state that /proc says a task is in, or 0. */
static char state(pid_t tid)
{
	char path[64], line[256], *p;
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", tid);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		return 0;
	n = read(fd, line, sizeof(line) - 1);
	close(fd);
	if (n <= 0)
		return 0;
	line[n] = 0;
	p = strrchr(line, ')');
	return p ? p[2] : 0;
}

/*
 * Let it begin, and return when it is asleep in its call, which nothing has ended yet: but for a timeout,
 * which on a busy machine may be faster than this.
 */
static void begin(struct thread *t)
{
	unsigned int nr = atomic_load(&t->begun);
	int i;

	if (!t->running) {
		sem_init(&t->go, 0, 0);
		sem_init(&t->done, 0, 0);
		if (pthread_create(&t->pthread, NULL, run, t))
			fail("no thread");
		t->running = true;
	}
	sem_post(&t->go);
	for (i = 0; i < 20000; i++) {
		if (atomic_load(&t->begun) != nr && state(t->tid) == 'S' &&
		    (t->timeout || atomic_load(&t->ended) == nr))
			return;
		pause_usec(1000);
	}
	fail("%s: it does not sleep", t->name);
}

static void end(struct thread *t)
{
	sem_wait(&t->done);
}

/* The thread ends as well. */
static void expect(struct thread *t, const char *what, uint64_t least)
{
	printf("expect %s %d %s %llu %llu\n", t->name, t->tid, what,
	       (unsigned long long)least, (unsigned long long)t->took);
	t->quit = true;
	sem_post(&t->go);
	pthread_join(t->pthread, NULL);
}

static int create(unsigned long how, void *args)
{
	int fd = ioctl(dev, how, args);

	if (fd < 0)
		fail("ioctl %lx", how);
	return fd;
}

static int create_mutex(void)
{
	struct ntsync_mutex_args args = { 0 };

	return create(NTSYNC_IOC_CREATE_MUTEX, &args);
}

static int create_event(void)
{
	struct ntsync_event_args args = { 0 };

	return create(NTSYNC_IOC_CREATE_EVENT, &args);
}

static void unlock(int mutex, unsigned int id)
{
	struct ntsync_mutex_args args = { .owner = id };

	if (ioctl(mutex, NTSYNC_IOC_MUTEX_UNLOCK, &args))
		fail("unlock");
}

static void set(int event)
{
	uint32_t old;

	if (ioctl(event, NTSYNC_IOC_EVENT_SET, &old))
		fail("set");
}

/*
 * The owner of a mutex, of normal priority: a request of "now and then" by semaphores, so that
 * it is always the same thread.
 */
static struct {
	pthread_t pthread;
	sem_t lock, locked, release, released;
	int mutex;
	bool kill, quit;
} low;

static void *run_low(void *arg)
{
	struct thread self = { .name = "low", .obj = { low.mutex }, .id = 7 };
	uint32_t id = self.id;

	(void)arg;
	prctl(PR_SET_NAME, self.name);
	for (;;) {
		sem_wait(&low.lock);
		if (low.quit)
			return NULL;
		if (do_any(&self))
			fail("low cannot have the mutex");
		sem_post(&low.locked);
		sem_wait(&low.release);
		if (!low.kill)
			unlock(low.mutex, self.id);
		else if (ioctl(low.mutex, NTSYNC_IOC_MUTEX_KILL, &id))
			fail("kill");
		sem_post(&low.released);
	}
}

static void low_owns(void)
{
	sem_post(&low.lock);
	sem_wait(&low.locked);
}

static void low_releases(void)
{
	sem_post(&low.release);
	sem_wait(&low.released);
}

/* FIFO 80 waits for a mutex of a normal thread, ROUNDS times. FIFO 60 gives up twice. */
static void inversion(void)
{
	struct thread audio = {
		.name = "audio", .prio = 80, .fn = do_any, .obj = { low.mutex }, .id = 1,
	};
	struct thread hasty = {
		.name = "hasty", .prio = 60, .fn = do_any, .obj = { low.mutex }, .id = 2,
		.want = -ETIMEDOUT, .timeout = TIMEOUT_USEC,
	};
	struct thread heir = {
		.name = "heir", .prio = 40, .fn = do_any, .obj = { low.mutex }, .id = 3,
		.want = -EOWNERDEAD,
	};
	struct thread patient = {
		.name = "patient", .prio = 20, .fn = do_any, .obj = { low.mutex }, .id = 4,
	};
	struct thread urgent = {
		.name = "urgent", .prio = 90, .fn = do_any, .obj = { low.mutex }, .id = 5,
		.want = -ETIMEDOUT, .timeout = TIMEOUT_USEC,
	};
	int i;

	for (i = 0; i < ROUNDS; i++) {
		low_owns();
		begin(&audio);
		pause_usec(HOLD_USEC);
		low_releases();
		end(&audio);
		unlock(low.mutex, audio.id);
	}
	expect(&audio, "any", HOLD_USEC);

	low_owns();
	begin(&hasty);
	end(&hasty);
	begin(&hasty);
	end(&hasty);
	low_releases();
	/* Its end comes by the clock, and the wait has begun a little later than the call. */
	expect(&hasty, "any", TIMEOUT_USEC / 2);

	/* The owner dies, as ntsync calls it. */
	low_owns();
	begin(&heir);
	pause_usec(HOLD_USEC);
	low.kill = true;
	low_releases();
	low.kill = false;
	end(&heir);
	expect(&heir, "any", HOLD_USEC);
	unlock(low.mutex, heir.id);

	/* A second donor, more urgent, comes and goes during the boost. */
	low_owns();
	begin(&patient);
	begin(&urgent);
	end(&urgent);
	low_releases();
	end(&patient);
	unlock(low.mutex, patient.id);
	expect(&urgent, "any", TIMEOUT_USEC / 2);
	expect(&patient, "any", TIMEOUT_USEC / 2);
}

/* An owner that is more urgent than its waiter is lent something, but that is no inversion. */
static struct thread chief, minor;
static sem_t chief_release;

static int do_chief(struct thread *t)
{
	int ret = do_any(t);

	sem_wait(&chief_release);
	unlock(t->obj[0], t->id);
	return ret;
}

static void no_inversion(void)
{
	int mutex = create_mutex();

	sem_init(&chief_release, 0, 0);
	chief = (struct thread) {
		.name = "chief", .prio = 50, .fn = do_chief, .obj = { mutex }, .id = 1,
	};
	minor = (struct thread) {
		.name = "minor", .prio = 10, .fn = do_any, .obj = { mutex }, .id = 2,
	};
	begin(&chief);
	begin(&minor);
	pause_usec(HOLD_USEC);
	sem_post(&chief_release);
	end(&chief);
	end(&minor);
	expect(&minor, "any", HOLD_USEC);
	close(mutex);
}

static void await_state(pid_t pid, char want)
{
	int i;

	for (i = 0; i < 20000; i++) {
		if (state(pid) == want)
			return;
		pause_usec(1000);
	}
	fail("process %d is not in state %c", pid, want);
}

/*
 * A process is killed in a call; or it is stopped, its channel ends (a child that only sends is no
 * receiver), and then it is killed.
 */
static void killed(const char *name, int (*fn)(struct thread *t), int obj, bool stop)
{
	struct thread t = { .obj = { obj }, .id = 1 };
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_NAME, name);
		fn(&t);
		_exit(1);
	}
	await_state(pid, 'S');
	if (stop) {
		kill(pid, SIGSTOP);
		await_state(pid, 'T');
		close(obj);
	}
	kill(pid, SIGKILL);
	if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status))
		fail("%s was not killed", name);
}

/* Waits of all kinds by normal threads; one is interrupted, one thread dies in it. */
static void waits(void)
{
	struct thread both = { .name = "both", .fn = do_all, .id = 1 };
	struct thread mixed = { .name = "mixed", .fn = do_aggregate, .id = 1 };
	struct thread signaled = { .name = "signaled", .fn = do_any, .id = 1, .want = -EINTR };
	struct sigaction action = { .sa_handler = on_signal };
	int i;

	both.obj[0] = create_event();
	both.obj[1] = create_event();
	for (i = 0; i < 2; i++) {
		begin(&both);
		set(both.obj[0]);
		pause_usec(HOLD_USEC);
		set(both.obj[1]);
		end(&both);
	}
	expect(&both, "all", HOLD_USEC);

	mixed.obj[0] = both.obj[0];
	begin(&mixed);
	pause_usec(HOLD_USEC);
	set(mixed.obj[0]);
	end(&mixed);
	expect(&mixed, "aggregate", HOLD_USEC);

	sigaction(SIGUSR1, &action, NULL);
	signaled.obj[0] = both.obj[0];
	begin(&signaled);
	pause_usec(HOLD_USEC);
	pthread_kill(signaled.pthread, SIGUSR1);
	end(&signaled);
	expect(&signaled, "any", HOLD_USEC);

	killed("killed", do_any, both.obj[0], false);
}

/*
 * ROUNDS requests of FIFO 70 to a server of normal priority: each is pending for a known time, and in
 * hand for a known time. The last one is not answered: the server exits.
 */
static int channel;
static sem_t serve, served;

static void *run_server(void *arg)
{
	struct ntsync_channel_recv_args args;
	uint64_t id;
	int i;

	(void)arg;
	prctl(PR_SET_NAME, "server");
	for (i = 0; i <= ROUNDS; i++) {
		sem_wait(&serve);
		memset(&args, 0, sizeof(args));
		if (ioctl(channel, NTSYNC_IOC_CHANNEL_RECV, &args))
			fail("receive");
		if (i == ROUNDS)
			break;
		pause_usec(2 * HOLD_USEC);
		id = args.entry_id;
		if (ioctl(channel, NTSYNC_IOC_CHANNEL_REPLY, &id))
			fail("reply");
		sem_post(&served);
	}
	return NULL;
}

static void requests(void)
{
	struct ntsync_channel_args args = { .max_depth = 4 };
	struct thread client = { .name = "client", .prio = 70, .fn = do_send };
	pthread_t server;
	int i;

	channel = create(NTSYNC_IOC_CREATE_CHANNEL, &args);
	sem_init(&serve, 0, 0);
	sem_init(&served, 0, 0);
	if (pthread_create(&server, NULL, run_server, NULL))
		fail("no thread");
	/* One is withdrawn, the other one has lost its channel. */
	killed("sender", do_send, channel, false);
	killed("stopped", do_send, create(NTSYNC_IOC_CREATE_CHANNEL, &args), true);
	client.obj[0] = channel;
	for (i = 0; i < ROUNDS; i++) {
		begin(&client);
		pause_usec(HOLD_USEC);
		sem_post(&serve);
		sem_wait(&served);
		end(&client);
	}
	client.want = -EPIPE;
	begin(&client);
	sem_post(&serve);
	pthread_join(server, NULL);
	end(&client);
	expect(&client, "round-trip", 3 * HOLD_USEC);
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	dev = open("/dev/ntsync", O_RDONLY | O_CLOEXEC);
	if (dev < 0)
		fail("/dev/ntsync");
	low.mutex = create_mutex();
	sem_init(&low.lock, 0, 0);
	sem_init(&low.locked, 0, 0);
	sem_init(&low.release, 0, 0);
	sem_init(&low.released, 0, 0);
	if (pthread_create(&low.pthread, NULL, run_low, NULL))
		fail("no thread");
	inversion();
	no_inversion();
	waits();
	requests();
	low.quit = true;
	sem_post(&low.lock);
	pthread_join(low.pthread, NULL);
	printf("done\n");
	return 0;
}
