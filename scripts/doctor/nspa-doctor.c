// SPDX-License-Identifier: GPL-2.0-only
/*
 * nspa-doctor: is this machine right for real-time audio with Linux-NSPA?
 *
 * It reads what the kernel and the system say about themselves, asks the ntsync driver what it can
 * do, and with --measure looks at how late a real-time thread is and whether an ntsync mutex lends
 * priorities. It changes nothing. docs/doctor.md explains each check.
 *
 *	cc -static -O2 -Wall -Wextra -pthread -o nspa-doctor nspa-doctor.c
 *
 * One file and nothing but libc, so that it also runs as a static program where there is no shell.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef __has_include
#if __has_include(<linux/ntsync.h>)
#include <linux/ntsync.h>
#endif
#endif

/*
 * The driver's interface. It is defined here, because the header of most systems is older than the
 * driver or missing.
 */

struct sem_args {
	uint32_t count, max;
};

struct mutex_args {
	uint32_t owner, count;
};

struct mutex_task_args {
	uint32_t tid, flags;
};

struct event_args {
	uint32_t manual, signaled;
};

struct event_set_pi_args {
	uint32_t flags, policy, prio, pad;
};

struct wait_args {
	uint64_t timeout, objs;
	uint32_t count, index, flags, owner, alert, uring_fd;
};

struct aggregate_wait_args {
	uint64_t timeout, sources;
	uint32_t nb_sources, fired_index, flags, owner, fired_events, pad;
};

struct channel_args {
	uint32_t max_depth, pad;
};

struct channel_thread_args {
	uint32_t tid, pad;
	uint64_t token;
};

struct channel_recv2_args {
	uint64_t entry_id, payload_off, reply_off;
	uint32_t sender_tid, prio;
	uint64_t thread_token;
};

#define IOC_CREATE_SEM		_IOW('N', 0x80, struct sem_args)
#define IOC_WAIT_ANY		_IOWR('N', 0x82, struct wait_args)
#define IOC_CREATE_MUTEX	_IOW('N', 0x84, struct mutex_args)
#define IOC_MUTEX_UNLOCK	_IOWR('N', 0x85, struct mutex_args)
#define IOC_CREATE_EVENT	_IOW('N', 0x87, struct event_args)
#define IOC_SEM_READ		_IOR('N', 0x8b, struct sem_args)
#define IOC_MUTEX_READ		_IOR('N', 0x8c, struct mutex_args)
#define IOC_EVENT_SET_PI	_IOW('N', 0x8e, struct event_set_pi_args)
#define IOC_CREATE_CHANNEL	_IOWR('N', 0x90, struct channel_args)
#define IOC_REGISTER_THREAD	_IOW('N', 0x94, struct channel_thread_args)
#define IOC_AGGREGATE_WAIT	_IOWR('N', 0x97, struct aggregate_wait_args)
#define IOC_TRY_RECV2		_IOWR('N', 0x98, struct channel_recv2_args)
#define IOC_MUTEX_SET_TASK	_IOW('N', 0x99, struct mutex_task_args)
#define IOC_SEND_ONLY		_IO('N', 0x9a)

#define INDEX_URING_READY	0xfffffffeU

/* Where the driver's own header is at hand, it must say the same. */
#ifdef NTSYNC_IOC_CHANNEL_SEND_ONLY
#define SAME(name, theirs) \
	_Static_assert(IOC_##name == NTSYNC_IOC_##theirs, #name " is not what the header says")
SAME(CREATE_SEM, CREATE_SEM);
SAME(WAIT_ANY, WAIT_ANY);
SAME(CREATE_MUTEX, CREATE_MUTEX);
SAME(MUTEX_UNLOCK, MUTEX_UNLOCK);
SAME(CREATE_EVENT, CREATE_EVENT);
SAME(SEM_READ, SEM_READ);
SAME(MUTEX_READ, MUTEX_READ);
SAME(EVENT_SET_PI, EVENT_SET_PI);
SAME(CREATE_CHANNEL, CREATE_CHANNEL);
SAME(REGISTER_THREAD, CHANNEL_REGISTER_THREAD);
SAME(AGGREGATE_WAIT, AGGREGATE_WAIT);
SAME(TRY_RECV2, CHANNEL_TRY_RECV2);
SAME(MUTEX_SET_TASK, MUTEX_SET_TASK);
SAME(SEND_ONLY, CHANNEL_SEND_ONLY);
_Static_assert(INDEX_URING_READY == NTSYNC_INDEX_URING_READY, "index of uring_fd");
#endif
_Static_assert(sizeof(struct wait_args) == 40, "wait_args");
_Static_assert(sizeof(struct aggregate_wait_args) == 40, "aggregate_wait_args");
_Static_assert(sizeof(struct channel_thread_args) == 16, "channel_thread_args");
_Static_assert(sizeof(struct channel_recv2_args) == 40, "channel_recv2_args");

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define NSEC_PER_SEC 1000000000LL
#define MISC_MAJOR 10

/* Of the JSON object: it changes when something is removed or gets another meaning. */
#define JSON_VERSION 1

static const char usage_text[] =
"Usage: nspa-doctor [--json] [--measure [SECONDS]] [--root DIR]\n"
"\n"
"Tells whether this machine is right for real-time audio with Linux-NSPA. It changes nothing and\n"
"needs no privilege; what it may not read is 'unknown'.\n"
"\n"
"  --json               print one JSON object\n"
"  --measure [SECONDS]  also measure how late a real-time thread wakes up (5 seconds; 1 to 600)\n"
"                       and whether ntsync mutexes lend priorities; needs the right to use\n"
"                       SCHED_FIFO\n"
"  --root DIR           look at the files below DIR instead of this machine's\n"
"  --help               print this\n"
"\n"
"Each check is one line: ok, warning, problem or unknown, its name, and what was found. Below a\n"
"warning or problem is what to do. docs/doctor.md explains each of them.\n"
"\n"
"Exit status: 0 no problem, 1 some problem, 2 misuse.\n";

static const char *root = "";
static bool json, colour;

/*
 * Memory and files
 */

__attribute__((noreturn, format(printf, 1, 2)))
static void die(const char *format, ...)
{
	va_list ap;

	fputs("nspa-doctor: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

__attribute__((format(printf, 1, 0)))
static char *vfmt(const char *format, va_list ap)
{
	char *s;

	if (vasprintf(&s, format, ap) < 0)
		die("out of memory");
	return s;
}

/* A new string. What is allocated is never freed: the program is short. */
__attribute__((format(printf, 1, 2)))
static char *fmt(const char *format, ...)
{
	va_list ap;
	char *s;

	va_start(ap, format);
	s = vfmt(format, ap);
	va_end(ap);
	return s;
}

/* Appends to *@s, with a separator unless *@s is empty. */
__attribute__((format(printf, 3, 4)))
static void append(char **s, const char *separator, const char *format, ...)
{
	va_list ap;
	char *more;

	va_start(ap, format);
	more = vfmt(format, ap);
	va_end(ap);
	*s = fmt("%s%s%s", *s, **s ? separator : "", more);
}

/* All of an open file; NULL and errno if it cannot be read. Ends with a null byte. */
static char *read_all(int fd)
{
	const size_t max = 16 << 20;
	size_t size = 4096, len = 0;
	char *buf = NULL;

	for (;;) {
		char *bigger = realloc(buf, size);
		ssize_t n;

		if (!bigger)
			die("out of memory");
		buf = bigger;
		n = read(fd, buf + len, size - len - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0) {
			free(buf);
			return NULL;
		}
		if (!n)
			break;
		len += n;
		if (len + 1 < size)
			continue;
		if (size >= max)
			break;
		size *= 2;
	}
	buf[len] = '\0';
	return buf;
}

/* The text of a file below the root; NULL and errno. */
static char *read_file(const char *name)
{
	/* O_NONBLOCK: a fifo below a strange root would block. */
	int fd = open(fmt("%s%s", root, name), O_RDONLY | O_CLOEXEC | O_NONBLOCK), err;
	char *text;

	if (fd < 0)
		return NULL;
	text = read_all(fd);
	err = errno;
	close(fd);
	errno = err;
	return text;
}

/* The first line of a file, without blanks at its end. */
static char *read_line(const char *name)
{
	char *text = read_file(name);
	size_t len;

	if (!text)
		return NULL;
	len = strcspn(text, "\n");
	while (len && isspace((unsigned char)text[len - 1]))
		len--;
	text[len] = '\0';
	return text;
}

static DIR *open_dir(const char *name)
{
	return opendir(fmt("%s%s", root, name));
}

static bool exists(const char *name)
{
	return !access(fmt("%s%s", root, name), F_OK);
}

/* Is all of @s a number? */
static bool to_number(const char *s, long long *value)
{
	char *end;

	if (!s || !*s)
		return false;
	errno = 0;
	*value = strtoll(s, &end, 10);
	return !errno && end != s && !*end;
}

static bool read_number(const char *name, long long *value)
{
	char *line = read_line(name);

	if (!line)
		return false;
	if (to_number(line, value))
		return true;
	errno = EINVAL;
	return false;
}

/* Cuts the next line off *@rest; NULL at the end. */
static char *next_line(char **rest)
{
	char *line = *rest;

	if (!line || !*line)
		return NULL;
	*rest = line + strcspn(line, "\n");
	if (**rest)
		*(*rest)++ = '\0';
	return line;
}

static bool has_prefix(const char *s, const char *prefix)
{
	return !strncmp(s, prefix, strlen(prefix));
}

/* Is @word in @s, with nothing that belongs to a word around it? */
static bool has_word(const char *s, const char *word)
{
	size_t len = strlen(word);
	const char *p = s;

	for (; (p = strstr(p, word)); p += len) {
		if ((p == s || !(isalnum((unsigned char)p[-1]) || p[-1] == '_')) &&
		    !(isalnum((unsigned char)p[len]) || p[len] == '_'))
			return true;
	}
	return false;
}

static int compare_ints(const void *a, const void *b)
{
	int x = *(const int *)a, y = *(const int *)b;

	return (x > y) - (x < y);
}

/* Finds the numbers of cpu0, cpu1, ... in a directory; returns how many, or -1 and errno. */
static int list_numbered(const char *dir, const char *prefix, int *numbers, int max)
{
	DIR *d = open_dir(dir);
	struct dirent *e;
	int n = 0;

	if (!d)
		return -1;
	while (n < max && (e = readdir(d))) {
		long long number;

		if (has_prefix(e->d_name, prefix) &&
		    isdigit((unsigned char)e->d_name[strlen(prefix)]) &&
		    to_number(e->d_name + strlen(prefix), &number) && number < 1 << 24)
			numbers[n++] = number;
	}
	closedir(d);
	qsort(numbers, n, sizeof(*numbers), compare_ints);
	return n;
}

/*
 * What was found
 */

enum status { OK, WARNING, PROBLEM, UNKNOWN };

static const char *const status_names[] = { "ok", "warning", "problem", "unknown" };

struct result {
	enum status status;
	const char *id, *value, *text, *advice;
};

static struct result results[64];
static unsigned int nr_results, counts[4];

/* What comes from files must not control a terminal. */
static void print_plain(const char *s)
{
	for (; *s; s++)
		putchar((unsigned char)*s < ' ' || *s == 0x7f ? '?' : *s);
}

/*
 * Report one check: @value is the bare fact or NULL, @advice what to do or NULL. The text follows.
 */
__attribute__((format(printf, 5, 6)))
static void report(enum status status, const char *id, const char *value, const char *advice,
		   const char *format, ...)
{
	static const char *const colours[] = { "32", "33", "31", "36" };
	struct result *r = &results[nr_results];
	va_list ap;

	if (nr_results == ARRAY_SIZE(results))
		die("too many checks");
	nr_results++;
	counts[status]++;
	va_start(ap, format);
	*r = (struct result) {
		.status = status,
		.id = id,
		.value = value,
		.text = vfmt(format, ap),
		.advice = advice,
	};
	va_end(ap);

	if (json)
		return;
	if (colour)
		printf("\033[%sm%-7s\033[0m  %-20s  ", colours[status], status_names[status], id);
	else
		printf("%-7s  %-20s  ", status_names[status], id);
	print_plain(r->text);
	putchar('\n');
	if (advice) {
		fputs("         ", stdout);
		print_plain(advice);
		putchar('\n');
	}
	fflush(stdout);
}

/* The length of the UTF-8 character at @s, 0 if it is none */
static size_t utf8_len(const unsigned char *s)
{
	uint32_t c;
	size_t len, i;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] < 0xe0)
		len = 2;
	else if (s[0] >= 0xe0 && s[0] < 0xf0)
		len = 3;
	else if (s[0] >= 0xf0 && s[0] < 0xf5)
		len = 4;
	else
		return 0;
	c = s[0] & (0xff >> (len + 1));
	for (i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	if ((len == 3 && (c < 0x800 || (c >= 0xd800 && c < 0xe000))) ||
	    (len == 4 && (c < 0x10000 || c > 0x10ffff)))
		return 0;
	return len;
}

static void print_json_string(const char *string)
{
	const unsigned char *s = (const unsigned char *)string;

	if (!string) {
		fputs("null", stdout);
		return;
	}
	putchar('"');
	while (*s) {
		size_t len = utf8_len(s);

		if (!len) {
			fputs("\\ufffd", stdout);
			s++;
			continue;
		}
		if (*s == '"' || *s == '\\')
			printf("\\%c", *s);
		else if (*s < ' ' || *s == 0x7f)
			printf("\\u%04x", *s);
		else
			fwrite(s, 1, len, stdout);
		s += len;
	}
	putchar('"');
}

static void print_json_member(const char *name, const char *value, const char *end)
{
	printf("\"%s\": ", name);
	print_json_string(value);
	fputs(end, stdout);
}

static struct utsname uts;

static void print_json(void)
{
	unsigned int i;

	printf("{\n  \"version\": %d,\n  ", JSON_VERSION);
	print_json_member("kernel_release", uts.release, ",\n  ");
	print_json_member("kernel_version", uts.version, ",\n  ");
	print_json_member("verdict", counts[PROBLEM] ? "problem" : counts[WARNING] ? "warning" :
			  counts[UNKNOWN] ? "unknown" : "ok", ",\n  ");
	printf("\"ok\": %u, \"warnings\": %u, \"problems\": %u, \"unknown\": %u,\n  \"checks\": [",
	       counts[OK], counts[WARNING], counts[PROBLEM], counts[UNKNOWN]);
	for (i = 0; i < nr_results; i++) {
		const struct result *r = &results[i];

		printf("%s\n    {", i ? "," : "");
		print_json_member("id", r->id, ", ");
		print_json_member("status", status_names[r->status], ", ");
		print_json_member("value", r->value, ",\n     ");
		print_json_member("text", r->text, ",\n     ");
		print_json_member("advice", r->advice, "}");
	}
	puts("\n  ]\n}");
}

/* Whatever cannot be read is unknown. @err is an errno. */
static void report_unreadable(const char *id, const char *name, int err)
{
	bool denied = err == EACCES || err == EPERM;

	report(UNKNOWN, id, NULL,
	       denied && !*root && geteuid() ? "run nspa-doctor as root to know" : NULL,
	       "%s cannot be read: %s", name, strerror(err));
}

/*
 * The kernel and its configuration
 */

static void check_kernel(void)
{
	char *text = NULL;

	uname(&uts);
	if (*root) {
		text = read_line("/uname-r");
		if (text)
			snprintf(uts.release, sizeof(uts.release), "%s", text);
		text = read_line("/uname-v");
		if (text)
			snprintf(uts.version, sizeof(uts.version), "%s", text);
	}

	if (strstr(uts.release, "-nspa"))
		report(OK, "kernel", uts.release, NULL, "Linux %s, a Linux-NSPA kernel",
		       uts.release);
	else
		report(WARNING, "kernel", uts.release,
		       "boot a kernel with the patches of Linux-NSPA; its name has -nspa in it",
		       "Linux %s is no Linux-NSPA kernel by its name", uts.release);
}

static bool is_rt;

static void check_rt(void)
{
	char *flag = read_line("/sys/kernel/realtime");

	if (flag && !strcmp(flag, "1")) {
		is_rt = true;
		report(OK, "rt", "PREEMPT_RT", NULL, "PREEMPT_RT: /sys/kernel/realtime is 1");
	} else if (has_word(uts.version, "PREEMPT_RT")) {
		is_rt = true;
		report(OK, "rt", "PREEMPT_RT", NULL, "PREEMPT_RT: %s", uts.version);
	} else {
		const char *advice = "boot a kernel that was built with CONFIG_PREEMPT_RT=y";

		if (has_word(uts.version, "PREEMPT_DYNAMIC"))
			report(PROBLEM, "rt", "PREEMPT_DYNAMIC", advice,
			       "this is not PREEMPT_RT: PREEMPT_DYNAMIC can switch how an "
			       "ordinary kernel is preempted, no more");
		else
			report(PROBLEM, "rt", has_word(uts.version, "PREEMPT") ? "PREEMPT" : "none",
			       advice, "this is not PREEMPT_RT: %s", uts.version);
	}
}

/* What a program of the system prints that gets @fd as its input; NULL if it fails or is missing */
static char *filter(int fd, const char *const argv[])
{
	int pipefd[2], status;
	char *text;
	pid_t pid;

	if (pipe2(pipefd, O_CLOEXEC))
		return NULL;
	pid = fork();
	if (pid < 0) {
		close(pipefd[0]);
		close(pipefd[1]);
		return NULL;
	}
	if (!pid) {
		int null = open("/dev/null", O_WRONLY | O_CLOEXEC);

		if (lseek(fd, 0, SEEK_SET) || dup2(fd, 0) < 0 || dup2(pipefd[1], 1) < 0)
			_exit(127);
		if (null >= 0)
			dup2(null, 2);
		execvp(argv[0], (char *const *)argv);
		_exit(127);
	}
	close(pipefd[1]);
	text = read_all(pipefd[0]);
	close(pipefd[0]);
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return NULL;
	}
	return WIFEXITED(status) && !WEXITSTATUS(status) ? text : NULL;
}

static char *read_gz(const char *name)
{
	static const char *const gzip[] = { "gzip", "-dc", NULL };
	static const char *const zcat[] = { "zcat", NULL };
	int fd = open(fmt("%s%s", root, name), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char *text;

	if (fd < 0)
		return NULL;
	text = filter(fd, gzip);
	if (!text)
		text = filter(fd, zcat);
	close(fd);
	return text;
}

/* The kernel's configuration, NULL if unknown */
static char *config_text;

/* The value of an option, "n" if it is not set */
static const char *config_get(const char *option)
{
	size_t len = strlen(option);
	const char *p = config_text;

	while (p && *p) {
		if (!strncmp(p, option, len) && p[len] == '=')
			return fmt("%.*s", (int)strcspn(p + len + 1, "\n"), p + len + 1);
		p = strchr(p, '\n');
		if (p)
			p++;
	}
	return "n";
}

static bool load_config(const char *name, char *text)
{
	/* Something else than a configuration says nothing about options. */
	if (!text || !(has_prefix(text, "CONFIG_") || strstr(text, "\nCONFIG_")))
		return false;
	config_text = text;
	report(OK, "config", name, NULL, "the kernel's options are in %s", name);
	return true;
}

static const struct option {
	const char *id, *name, *want;
	enum status otherwise;
	const char *why;
} options[] = {
	{ "config-rt", "CONFIG_PREEMPT_RT", "y", PROBLEM,
	  "interrupts and most locks of the kernel cannot be preempted" },
	{ "config-hz", "CONFIG_HZ_1000", "y", WARNING,
	  "time slices, limits and timeouts in ticks are coarse" },
	{ "config-hrtimers", "CONFIG_HIGH_RES_TIMERS", "y", PROBLEM,
	  "sleeps end with a tick, not when they should" },
	{ "config-ntsync", "CONFIG_NTSYNC", "ym", PROBLEM,
	  "there is no /dev/ntsync" },
	{ "config-futex-pi", "CONFIG_FUTEX_PI", "y", PROBLEM,
	  "PI mutexes of libc do not work" },
	{ "config-io-uring", "CONFIG_IO_URING", "y", PROBLEM,
	  "there is no io_uring" },
	{ "config-rt-group", "CONFIG_RT_GROUP_SCHED", "n", PROBLEM,
	  "tasks outside of the root control group get no real-time budget: SCHED_FIFO is refused "
	  "there" },
};

/*
 * What has switched off the real-time budgets of control groups, although the kernel has them; NULL
 * if nothing has. The last word on the command line counts.
 */
static const char *rt_groups_off(void)
{
	char *cmdline = read_file("/proc/cmdline"), *word, *save;
	const char *off = NULL;

	if (!strcmp(config_get("CONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED"), "y"))
		off = "CONFIG_RT_GROUP_SCHED_DEFAULT_DISABLED=y";
	for (word = cmdline ? strtok_r(cmdline, " \n", &save) : NULL; word;
	     word = strtok_r(NULL, " \n", &save)) {
		if (!strcmp(word, "rt_group_sched=0"))
			off = "rt_group_sched=0";
		else if (!strcmp(word, "rt_group_sched=1"))
			off = NULL;
	}
	return off;
}

/*
 * What makes locks, allocations or every access to memory dearer, to find bugs. lockdep can be seen
 * without the kernel's options.
 */
static void check_checkers(void)
{
	static const char *const checkers[] = {
		"KASAN", "KCSAN", "KMSAN", "PROVE_LOCKING", "DEBUG_LOCK_ALLOC", "LOCK_STAT",
		"DEBUG_ATOMIC_SLEEP", "DEBUG_RT_MUTEXES", "DEBUG_PREEMPT", "DEBUG_OBJECTS",
		"DEBUG_KMEMLEAK", "SLUB_DEBUG_ON",
	};
	char *found = "";
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(checkers); i++) {
		if (!strcmp(config_get(fmt("CONFIG_%s", checkers[i])), "y"))
			append(&found, ", ", "CONFIG_%s", checkers[i]);
	}
	if (!*found && exists("/proc/lockdep_stats"))
		found = "lockdep (/proc/lockdep_stats)";
	if (*found)
		report(WARNING, "config-checkers", found,
		       "boot a kernel that was built without them; they are for finding bugs",
		       "checkers slow this kernel down: %s", found);
	else if (config_text)
		report(OK, "config-checkers", "none", NULL,
		       "no checkers of locks or memory slow this kernel down");
	else
		report(UNKNOWN, "config-checkers", NULL, NULL, "checkers of locks and memory: see "
							       "config");
}

static void check_config(void)
{
	char *names[] = {
		fmt("/boot/config-%s", uts.release),
		fmt("/lib/modules/%s/config", uts.release),
		fmt("/lib/modules/%s/build/.config", uts.release),
	};
	bool found = false, denied = false;
	unsigned int i;

	found = load_config("/proc/config.gz", read_gz("/proc/config.gz"));
	for (i = 0; !found && i < ARRAY_SIZE(names); i++) {
		char *text = read_file(names[i]);

		denied |= !text && errno == EACCES;
		found = load_config(names[i], text);
	}
	if (!found)
		report(UNKNOWN, "config", NULL,
		       denied && !*root ? "run nspa-doctor as root to know" :
		       "modprobe configs makes /proc/config.gz where the kernel has it as a "
		       "module; gzip is needed to read it",
		       "the kernel's options are unknown: neither /proc/config.gz nor %s nor one "
		       "in /lib/modules/%s can be read",
		       names[0], uts.release);

	for (i = 0; i < ARRAY_SIZE(options); i++) {
		const struct option *o = &options[i];
		const char *value = config_get(o->name);
		bool good;

		if (!found) {
			report(UNKNOWN, o->id, NULL, NULL, "%s: see config", o->name);
			continue;
		}
		good = strlen(value) == 1 && strchr(o->want, *value);
		if (!strcmp(o->id, "config-hz")) {
			if (good)
				report(OK, o->id, "1000", NULL, "1000 ticks a second");
			else
				report(o->otherwise, o->id, config_get("CONFIG_HZ"),
				       "boot a kernel that was built with CONFIG_HZ_1000=y",
				       "%s ticks a second instead of 1000: %s",
				       config_get("CONFIG_HZ"), o->why);
		} else if (!good && !strcmp(o->id, "config-rt-group") && rt_groups_off()) {
			report(OK, o->id, value, NULL, "%s=%s, but switched off by %s", o->name,
			       value, rt_groups_off());
		} else if (good) {
			report(OK, o->id, value, NULL, *value == 'n' ? "%s is not set" : "%s=%s",
			       o->name, value);
		} else {
			report(o->otherwise, o->id, value,
			       fmt(*o->want == 'n' ? "boot a kernel that was built without %s, or "
				   "add rt_group_sched=0 to its command line" :
				   "boot a kernel that was built with %s=y", o->name),
			       *value == 'n' ? "%s is not set: %s" : "%s=%s: %s", o->name,
			       *value == 'n' ? o->why : value, o->why);
		}
	}
	check_checkers();
}

/*
 * The driver
 */

enum feature {
	F_BASE, F_MUTEX_PI, F_EVENT_PI, F_CHANNEL, F_TOKENS, F_TRY_RECV2, F_SEND_ONLY, F_AGGREGATE,
	F_URING_FD, NR_FEATURES
};

static const struct {
	const char *id, *what;
	enum status otherwise;
} features[NR_FEATURES] = {
	[F_BASE] = { "ntsync-base", "objects as upstream's driver has them", PROBLEM },
	[F_MUTEX_PI] = { "ntsync-mutex-pi",
			 "MUTEX_SET_TASK, which comes with priority inheritance of mutexes",
			 PROBLEM },
	[F_EVENT_PI] = { "ntsync-event-pi", "EVENT_SET_PI: events that carry a priority", PROBLEM },
	[F_CHANNEL] = { "ntsync-channel", "CREATE_CHANNEL: requests that carry a priority",
			PROBLEM },
	[F_TOKENS] = { "ntsync-tokens", "CHANNEL_REGISTER_THREAD, which comes with CHANNEL_RECV2",
		       PROBLEM },
	[F_TRY_RECV2] = { "ntsync-try-recv2", "CHANNEL_TRY_RECV2", WARNING },
	[F_SEND_ONLY] = { "ntsync-send-only", "CHANNEL_SEND_ONLY", WARNING },
	[F_AGGREGATE] = { "ntsync-aggregate",
			  "AGGREGATE_WAIT: one wait for objects, channels and descriptors",
			  PROBLEM },
	[F_URING_FD] = { "ntsync-uring-fd", "uring_fd: a descriptor that ends a wait", WARNING },
};

/* What a probe has shown. NONE: it was not made. */
enum answer { NONE, HAS, MISSING, STRANGE };

struct probe {
	enum answer answer;
	int err;
};

/*
 * An ioctl that has been answered with @ret: one that does not exist is ENOTTY. @expected is the
 * error that shows that it exists, 0 for success.
 */
static struct probe judge(int ret, int expected)
{
	int err = ret < 0 ? errno : 0;

	if (err == expected)
		return (struct probe) { HAS, err };
	return (struct probe) { err == ENOTTY ? MISSING : STRANGE, err };
}

static int wait_any(int dev, int obj, uint32_t owner, uint64_t timeout, int uring, uint32_t *index)
{
	uint32_t objs[1] = { obj };
	struct wait_args args = {
		.timeout = timeout,
		.objs = (uintptr_t)objs,
		.count = 1,
		.owner = owner,
		.uring_fd = uring,
	};
	int ret = ioctl(dev, IOC_WAIT_ANY, &args);

	if (index)
		*index = args.index;
	return ret;
}

/*
 * Ask the driver. Nothing here blocks: what is called has an argument that is refused, a timeout
 * that is past, or is never blocking. That is why RECV2 itself is not called.
 */
static void probe_driver(int dev, struct probe *p)
{
	struct sem_args sem_args = { .count = 1, .max = 2 }, sem_state = { 0, 0 };
	struct sem_args empty_args = { .count = 0, .max = 1 };
	struct event_args event_args = { 0, 0 };
	struct mutex_args mutex_args = { 0, 0 };
	struct event_set_pi_args set_pi_args = { .flags = ~0U };
	struct mutex_task_args task_args = { .flags = ~0U };
	struct channel_args channel_args = { .max_depth = 1 };
	struct channel_thread_args thread_args = { .tid = 0 };
	struct channel_recv2_args recv_args = { 0 };
	struct aggregate_wait_args aggregate_args = { .nb_sources = 0 };
	int sem, empty, event, mutex, channel, only, efd;
	uint32_t index = 0;

	sem = ioctl(dev, IOC_CREATE_SEM, &sem_args);
	p[F_BASE] = judge(sem < 0 ? sem : 0, 0);
	if (sem >= 0) {
		p[F_BASE] = judge(ioctl(sem, IOC_SEM_READ, &sem_state), 0);
		if (p[F_BASE].answer == HAS && (sem_state.count != 1 || sem_state.max != 2))
			p[F_BASE].answer = STRANGE;
		close(sem);
	}
	if (p[F_BASE].answer != HAS)
		return;

	event = ioctl(dev, IOC_CREATE_EVENT, &event_args);
	if (event < 0) {
		p[F_EVENT_PI] = judge(event, 0);
	} else {
		p[F_EVENT_PI] = judge(ioctl(event, IOC_EVENT_SET_PI, &set_pi_args), EINVAL);
		close(event);
	}

	mutex = ioctl(dev, IOC_CREATE_MUTEX, &mutex_args);
	if (mutex < 0) {
		p[F_MUTEX_PI] = judge(mutex, 0);
	} else {
		p[F_MUTEX_PI] = judge(ioctl(mutex, IOC_MUTEX_SET_TASK, &task_args), EINVAL);
		close(mutex);
	}

	channel = ioctl(dev, IOC_CREATE_CHANNEL, &channel_args);
	p[F_CHANNEL] = judge(channel < 0 ? channel : 0, 0);
	if (channel >= 0) {
		p[F_TOKENS] = judge(ioctl(channel, IOC_REGISTER_THREAD, &thread_args), EINVAL);
		p[F_TRY_RECV2] = judge(ioctl(channel, IOC_TRY_RECV2, &recv_args), EAGAIN);
		only = ioctl(channel, IOC_SEND_ONLY);
		p[F_SEND_ONLY] = judge(only < 0 ? only : 0, 0);
		if (only >= 0)
			close(only);
		close(channel);
	} else if (p[F_CHANNEL].answer == MISSING) {
		p[F_TOKENS] = p[F_TRY_RECV2] = p[F_SEND_ONLY] = p[F_CHANNEL];
	}

	p[F_AGGREGATE] = judge(ioctl(dev, IOC_AGGREGATE_WAIT, &aggregate_args), EINVAL);

	/* Without it the field is called pad, and must be 0. */
	empty = ioctl(dev, IOC_CREATE_SEM, &empty_args);
	efd = eventfd(1, EFD_CLOEXEC);
	if (empty >= 0 && efd >= 0 && wait_any(dev, empty, 1, 0, 0, NULL) < 0 &&
	    errno == ETIMEDOUT) {
		p[F_URING_FD] = judge(wait_any(dev, empty, 1, 0, efd, &index), 0);
		if (p[F_URING_FD].err == EINVAL)
			p[F_URING_FD].answer = MISSING;
		else if (p[F_URING_FD].answer == HAS && index != INDEX_URING_READY)
			p[F_URING_FD].answer = STRANGE;
	}
	if (empty >= 0)
		close(empty);
	if (efd >= 0)
		close(efd);
}

/* Below @dir, the file of a module; NULL if there is none */
static char *find_module(const char *dir, int depth)
{
	DIR *d = open_dir(dir);
	char *found = NULL;
	struct dirent *e;

	if (!d)
		return NULL;
	while (!found && (e = readdir(d))) {
		char *name = fmt("%s/%s", dir, e->d_name);
		struct stat st;

		if (*e->d_name == '.' || lstat(fmt("%s%s", root, name), &st))
			continue;
		if (S_ISDIR(st.st_mode) && depth)
			found = find_module(name, depth - 1);
		else if (S_ISREG(st.st_mode) && has_prefix(e->d_name, "ntsync.ko"))
			found = name;
	}
	closedir(d);
	return found;
}

static void report_no_device(void)
{
	char *dir = fmt("/lib/modules/%s", uts.release);
	char *builtin = read_file(fmt("%s/modules.builtin", dir));
	char *dep = read_file(fmt("%s/modules.dep", dir));
	char *module = find_module(dir, 8);

	if ((builtin && strstr(builtin, "/ntsync.ko")) ||
	    (config_text && !strcmp(config_get("CONFIG_NTSYNC"), "y")))
		report(PROBLEM, "ntsync", "missing",
		       "in a container hand /dev/ntsync in; elsewhere /dev must be a devtmpfs",
		       "there is no /dev/ntsync, although the driver is built into this kernel");
	else if (module && dep && !strstr(dep, "/ntsync.ko"))
		report(PROBLEM, "ntsync", "missing",
		       "sudo depmod && sudo modprobe ntsync; for every boot: echo ntsync | sudo "
		       "tee /etc/modules-load.d/ntsync.conf",
		       "there is no /dev/ntsync: the module %s is not known to modprobe", module);
	else if (module)
		report(PROBLEM, "ntsync", "missing",
		       "sudo modprobe ntsync; for every boot: echo ntsync | sudo tee "
		       "/etc/modules-load.d/ntsync.conf",
		       "there is no /dev/ntsync: the module %s is not loaded", module);
	else if (config_text && !strcmp(config_get("CONFIG_NTSYNC"), "m") && !dep)
		report(PROBLEM, "ntsync", "missing",
		       "reboot; if that does not help, install the modules of this kernel again",
		       "there is no /dev/ntsync, and the modules of the running kernel are gone: an "
		       "upgrade has taken %s away", dir);
	else
		report(PROBLEM, "ntsync", "missing",
		       "boot a kernel that was built with CONFIG_NTSYNC=y or =m",
		       "there is no /dev/ntsync, and no module ntsync in %s", dir);
}

/* The minor number of the driver, -1 if it is not there, -2 if that cannot be known */
static int misc_minor(void)
{
	char *text = read_file("/proc/misc"), *line;

	if (!text)
		return -2;
	while ((line = next_line(&text))) {
		char name[32];
		int minor;

		if (sscanf(line, "%d %31s", &minor, name) == 2 && !strcmp(name, "ntsync"))
			return minor;
	}
	return -1;
}

/*
 * Below another root no device can be asked. DIR/ntsync-probe says instead what asking has shown:
 * "device MAJOR MINOR MODE", "open ok" or "open denied", and "ID yes|no" for features.
 */
static bool read_probe(struct stat *st, bool *denied, struct probe *p)
{
	char *text = read_file("/ntsync-probe"), *line;

	if (!text)
		return false;
	while ((line = next_line(&text))) {
		unsigned int major, minor, mode, i;
		char name[32], answer[32];

		if (sscanf(line, "device %u %u %o", &major, &minor, &mode) == 3) {
			st->st_mode = S_IFCHR | mode;
			st->st_rdev = makedev(major, minor);
		} else if (sscanf(line, "%31s %31s", name, answer) == 2) {
			if (!strcmp(name, "open"))
				*denied = strcmp(answer, "ok");
			for (i = 0; i < NR_FEATURES; i++) {
				if (!strcmp(name, features[i].id))
					p[i].answer = strcmp(answer, "yes") ? MISSING : HAS;
			}
		}
	}
	return true;
}

/* Returns a descriptor of the device, -1 if it cannot be used. */
static int check_device(struct probe *p)
{
	const char *udev =
		"echo 'KERNEL==\"ntsync\", MODE=\"0666\"' | sudo tee "
		"/etc/udev/rules.d/99-ntsync.rules && sudo udevadm control --reload && sudo "
		"udevadm trigger /dev/ntsync";
	struct stat st = {}, opened;
	bool denied = false;
	int fd = -1, minor;

	if (lstat(fmt("%s/dev/ntsync", root), &st)) {
		if (errno == ENOENT)
			report_no_device();
		else
			report_unreadable("ntsync", "/dev/ntsync", errno);
		return -1;
	}
	if (*root && !read_probe(&st, &denied, p)) {
		report(UNKNOWN, "ntsync", NULL, NULL,
		       "/dev/ntsync was not asked: that cannot be done below another root");
		return -1;
	}
	minor = misc_minor();
	if (!S_ISCHR(st.st_mode) || major(st.st_rdev) != MISC_MAJOR || minor == -1 ||
	    (minor >= 0 && (unsigned int)minor != minor(st.st_rdev))) {
		/* Opening some other device might do anything. */
		memset(p, 0, NR_FEATURES * sizeof(*p));
		report(PROBLEM, "ntsync", "wrong",
		       "sudo rm /dev/ntsync && sudo modprobe -r ntsync; sudo modprobe ntsync",
		       minor == -1 ? "the driver is not loaded, but something is in the place of "
				     "/dev/ntsync" :
		       "/dev/ntsync is not the driver's device");
		return -1;
	}
	if (!*root) {
		fd = open("/dev/ntsync", O_RDWR | O_CLOEXEC);
		if (fd < 0 && errno != EACCES && errno != EPERM) {
			report(PROBLEM, "ntsync", "unusable",
			       "sudo modprobe -r ntsync; sudo modprobe ntsync; then look at: sudo "
			       "dmesg | tail",
			       "/dev/ntsync cannot be opened: %s", strerror(errno));
			return -1;
		}
		denied = fd < 0;
		if (fd >= 0 && (fstat(fd, &opened) || opened.st_rdev != st.st_rdev))
			die("/dev/ntsync was replaced while it was looked at");
	}
	if (denied) {
		report(PROBLEM, "ntsync", "denied", udev,
		       "/dev/ntsync has mode %04o: this user may not open it",
		       (unsigned int)st.st_mode & 07777);
		memset(p, 0, NR_FEATURES * sizeof(*p));
		return -1;
	}
	if ((st.st_mode & 0666) != 0666) {
		report(WARNING, "ntsync", fmt("%04o", (unsigned int)st.st_mode & 07777), udev,
		       "/dev/ntsync has mode %04o: not every user may open it",
		       (unsigned int)st.st_mode & 07777);
		return fd;
	}
	report(OK, "ntsync", fmt("%04o", (unsigned int)st.st_mode & 07777), NULL,
	       *root ? "/dev/ntsync has mode %04o and could be opened" :
	       "/dev/ntsync has mode %04o and can be opened", (unsigned int)st.st_mode & 07777);
	return fd;
}

/* Returns a descriptor of the device, -1 if it cannot be used. */
static int check_ntsync(void)
{
	struct probe p[NR_FEATURES] = {};
	int fd = check_device(p), i;

	if (fd >= 0)
		probe_driver(fd, p);
	for (i = 0; i < NR_FEATURES; i++) {
		const char *id = features[i].id, *what = features[i].what;

		switch (p[i].answer) {
		case NONE:
			report(UNKNOWN, id, NULL, NULL, "not asked, see %s: %s",
			       i && p[F_BASE].answer != HAS && p[F_BASE].answer != NONE ?
			       "ntsync-base" : "ntsync", what);
			break;
		case HAS:
			report(OK, id, "yes", NULL, "%s", what);
			break;
		case MISSING:
			report(features[i].otherwise, id, "no",
			       i == F_BASE ? "remove modules ntsync that do not belong to this "
					     "kernel (see: modinfo ntsync)" :
			       strstr(uts.release, "-nspa") ?
			       "upgrade the kernel; or if modinfo -n ntsync names a file of DKMS or "
			       "in updates/, remove that: it has the place of this kernel's own" :
			       "boot a Linux-NSPA kernel of the present version",
			       "the driver does not have %s", what);
			break;
		case STRANGE:
			report(features[i].otherwise, id, "strange",
			       "look for another driver of that name: modinfo ntsync",
			       "the driver does not answer as it should (%s): %s",
			       p[i].err ? strerror(p[i].err) : "wrong result", what);
			break;
		}
	}
	return fd;
}

/*
 * What the user may do
 */

struct limit {
	unsigned long long soft, hard;
};

#define INFINITE ULLONG_MAX

static bool parse_limit(const char *s, unsigned long long *value)
{
	if (!strcmp(s, "unlimited")) {
		*value = INFINITE;
		return true;
	}
	return sscanf(s, "%llu", value) == 1;
}

/* Below another root limits are those of DIR/proc/self/limits, in the kernel's format. */
static bool get_limit(int resource, const char *name, struct limit *limit)
{
	struct rlimit rlimit;
	char *text, *line;

	if (!*root) {
		if (getrlimit(resource, &rlimit))
			return false;
		limit->soft = rlimit.rlim_cur == RLIM_INFINITY ? INFINITE : rlimit.rlim_cur;
		limit->hard = rlimit.rlim_max == RLIM_INFINITY ? INFINITE : rlimit.rlim_max;
		return true;
	}
	text = read_file("/proc/self/limits");
	if (!text)
		return false;
	while ((line = next_line(&text))) {
		char soft[32], hard[32];

		if (has_prefix(line, name) &&
		    sscanf(line + strlen(name), "%31s %31s", soft, hard) == 2)
			return parse_limit(soft, &limit->soft) && parse_limit(hard, &limit->hard);
	}
	errno = ENODATA;
	return false;
}

static const char *show_limit(unsigned long long value)
{
	return value == INFINITE ? "unlimited" : fmt("%llu", value);
}

/* The fields of /proc/self/status that count */
static struct {
	bool known;
	unsigned long long caps;
	unsigned int uid;
	char *groups;
} me;

#define CAP_IPC_LOCK 14
#define CAP_SYS_NICE 23

static bool may(int cap)
{
	return me.known && me.caps >> cap & 1;
}

static void look_at_me(void)
{
	char *text = read_file("/proc/self/status"), *line;
	int fields = 0;

	me.groups = "";
	while ((line = next_line(&text))) {
		if (sscanf(line, "CapEff: %llx", &me.caps) == 1 ||
		    sscanf(line, "Uid: %*u %u", &me.uid) == 1)
			fields++;
		if (has_prefix(line, "Groups:"))
			me.groups = line + strlen("Groups:");
	}
	me.known = fields == 2;
}

static const char *user_name(void)
{
	char *text = read_file("/etc/passwd"), *line;

	while ((line = next_line(&text))) {
		char name[64];
		unsigned int uid;

		if (sscanf(line, "%63[^:]:%*[^:]:%u:", name, &uid) == 2 && uid == me.uid)
			return fmt("%s", name);
	}
	return "USER";
}

/* One of the groups that distributions give real-time rights to */
struct group {
	const char *name;
	bool exists, member, listed;
	unsigned long long rtprio;	/* that limits.conf gives it */
};

static struct group groups[] = {
	{ .name = "realtime" }, { .name = "audio" }, { .name = "pipewire" },
};

static void look_at_groups(const char *user)
{
	char *text = read_file("/etc/group"), *line;
	unsigned int i;

	while ((line = next_line(&text))) {
		char name[64], members[4096] = "";
		unsigned int gid;

		if (sscanf(line, "%63[^:]:%*[^:]:%u:%4095s", name, &gid, members) < 2)
			continue;
		for (i = 0; i < ARRAY_SIZE(groups); i++) {
			if (strcmp(groups[i].name, name))
				continue;
			groups[i].exists = true;
			groups[i].member = has_word(me.groups, fmt("%u", gid));
			groups[i].listed = strstr(fmt(",%s,", members), fmt(",%s,", user));
		}
	}
}

/* Adds what one file says about rtprio to *@rules. */
static void look_at_limits_file(const char *name, char **rules)
{
	char *text = read_file(name), *line;
	unsigned int i;

	while ((line = next_line(&text))) {
		char domain[64], type[16], item[32], value[32];
		unsigned long long number;

		if (sscanf(line, "%63s %15s %31s %31s", domain, type, item, value) != 4 ||
		    *domain == '#' || strcmp(item, "rtprio") || !parse_limit(value, &number))
			continue;
		append(rules, ", ", "%s %s", domain, value);
		for (i = 0; i < ARRAY_SIZE(groups); i++) {
			if (*domain == '@' && !strcmp(domain + 1, groups[i].name) &&
			    strcmp(type, "hard"))
				groups[i].rtprio = number;
		}
	}
}

static int wanted(const struct dirent *e)
{
	size_t len = strlen(e->d_name);

	return len > 5 && !strcmp(e->d_name + len - 5, ".conf");
}

static char *look_at_limits(void)
{
	char *rules = "";
	struct dirent **list;
	int n, i;

	look_at_limits_file("/etc/security/limits.conf", &rules);
	n = scandir(fmt("%s/etc/security/limits.d", root), &list, wanted, alphasort);
	for (i = 0; i < n; i++)
		look_at_limits_file(fmt("/etc/security/limits.d/%s", list[i]->d_name), &rules);
	return rules;
}

static void check_rtprio(void)
{
	const char *user = user_name(), *advice = NULL;
	char *member = "", *rules, *more = "";
	struct limit limit;
	unsigned int i;

	if (!get_limit(RLIMIT_RTPRIO, "Max realtime priority", &limit)) {
		report_unreadable("rtprio", "RLIMIT_RTPRIO", errno);
		return;
	}
	look_at_groups(user);
	rules = look_at_limits();
	for (i = 0; i < ARRAY_SIZE(groups); i++) {
		struct group *g = &groups[i];

		if (g->exists)
			append(&member, ", ", "%s %s", g->member ? "in" :
			       g->listed ? "from the next login on in" : "not in", g->name);
	}
	for (i = 0; i < ARRAY_SIZE(groups) && !advice; i++) {
		struct group *g = &groups[i];

		if (!g->exists || g->rtprio < 80)
			continue;
		if (g->member || g->listed)
			advice = "log out of the whole session and in again; if that does not "
				 "help, the login does not use pam_limits: see /etc/pam.d";
		else
			advice = fmt("sudo usermod -aG %s %s; then log out and in "
				     "again", g->name, user);
	}
	if (!advice)
		advice = fmt("Arch: sudo pacman -S realtime-privileges && sudo usermod -aG "
			     "realtime %s; Debian, Ubuntu: write the lines '@audio - rtprio 95' "
			     "and '@audio - memlock unlimited' into "
			     "/etc/security/limits.d/95-audio.conf, and sudo usermod -aG audio "
			     "%s; then log out and in again",
			     user, user);
	append(&more, "; ", "%s", *rules ? fmt("limits.conf: %s", rules) : "");
	append(&more, "; ", "%s", *member ? fmt("%s is %s", user, member) : "");
	more = *more ? fmt(" (%s)", more) : "";

	if (limit.soft >= 80)
		report(OK, "rtprio", show_limit(limit.soft), NULL,
		       "real-time priorities up to %s, hard limit %s%s", show_limit(limit.soft),
		       show_limit(limit.hard), more);
	else if (may(CAP_SYS_NICE))
		report(OK, "rtprio", show_limit(limit.soft), NULL,
		       "all real-time priorities by CAP_SYS_NICE; the limit alone is %llu, so "
		       "look again as the user who makes music%s",
		       limit.soft, more);
	else
		report(limit.soft ? WARNING : PROBLEM, "rtprio", show_limit(limit.soft), advice,
		       "%s, hard limit %s%s", limit.soft ?
		       fmt("real-time priorities only up to %llu; audio uses up to "
			   "80", limit.soft) :
		       "no real-time priority is allowed", show_limit(limit.hard), more);
}

static void check_rttime(void)
{
	struct limit limit;

	if (!get_limit(RLIMIT_RTTIME, "Max realtime timeout", &limit))
		report_unreadable("rttime", "RLIMIT_RTTIME", errno);
	else if (limit.soft >= 200000)
		report(OK, "rttime", show_limit(limit.soft), NULL,
		       "how long a real-time thread may run without sleeping: %s%s",
		       show_limit(limit.soft), limit.soft == INFINITE ? "" : " us");
	else
		report(WARNING, "rttime", show_limit(limit.soft),
		       "remove 'rttime' lines from /etc/security/limits.conf and limits.d, and "
		       "'rt.time.soft' and LimitRTTIME= from the settings of what starts this "
		       "session; then log out and in again",
		       "a real-time thread may run %llu us without sleeping; then it gets "
		       "SIGXCPU, also a normal one that holds a lock so long for an urgent one",
		       limit.soft);
}

static void check_memlock(void)
{
	const unsigned long long enough = 512ULL << 20;
	struct limit limit;

	if (!get_limit(RLIMIT_MEMLOCK, "Max locked memory", &limit))
		report_unreadable("memlock", "RLIMIT_MEMLOCK", errno);
	else if (limit.soft >= enough)
		report(OK, "memlock", show_limit(limit.soft), NULL, "memory that may be locked: %s",
		       limit.soft == INFINITE ? "unlimited" :
		       fmt("%llu MiB", limit.soft >> 20));
	else if (may(CAP_IPC_LOCK))
		report(OK, "memlock", show_limit(limit.soft), NULL,
		       "all memory may be locked by CAP_IPC_LOCK; the limit alone is %llu KiB, so "
		       "look again as the user who makes music",
		       limit.soft >> 10);
	else
		report(WARNING, "memlock", show_limit(limit.soft),
		       "the same as for rtprio; the line is '@audio - memlock unlimited' in "
		       "/etc/security/limits.d/95-audio.conf (Arch's realtime-privileges has it "
		       "for @realtime)",
		       "only %llu KiB may be locked: audio that is paged out is "
		       "late", limit.soft >> 10);
}

/*
 * The scheduler
 */

static void check_throttling(void)
{
	const char *runtime_file = "/proc/sys/kernel/sched_rt_runtime_us";
	const char *period_file = "/proc/sys/kernel/sched_rt_period_us";
	long long runtime, period, slice;
	const char *slices = "";

	if (read_number("/proc/sys/kernel/sched_rr_timeslice_ms", &slice))
		slices = fmt("; SCHED_RR takes turns after %lld ms", slice);
	if (!read_number(runtime_file, &runtime)) {
		report_unreadable("throttling", runtime_file, errno);
	} else if (!read_number(period_file, &period)) {
		report_unreadable("throttling", period_file, errno);
	} else if (runtime == -1) {
		report(OK, "throttling", "-1", NULL, "sched_rt_runtime_us is -1: no "
						     "limit%s", slices);
	} else if (runtime * 10 < period * 9) {
		report(WARNING, "throttling", fmt("%lld/%lld", runtime, period),
		       "sudo sysctl kernel.sched_rt_runtime_us=950000, and remove the line that "
		       "sets it from /etc/sysctl.conf or /etc/sysctl.d",
		       "sched_rt_runtime_us is %lld of %lld, less than the default of 95 %%: "
		       "deadline tasks get that much, and before Linux 6.12 all real-time threads "
		       "of a CPU stop for the rest%s",
		       runtime, period, slices);
	} else {
		report(OK, "throttling", fmt("%lld/%lld", runtime, period), NULL,
		       "sched_rt_runtime_us is %lld of %lld: what needs less of a CPU is not held "
		       "up%s",
		       runtime, period, slices);
	}
}

static int cpus[4096];

static void check_fair_server(void)
{
	const char *dir = "/sys/kernel/debug/sched/fair_server";
	double share, worst = 0;
	int n, i, nr_off = 0;

	n = list_numbered(dir, "cpu", cpus, ARRAY_SIZE(cpus));
	if (n < 0 && errno == ENOENT) {
		report(UNKNOWN, "fair-server", NULL, NULL,
		       "%s does not exist: debugfs is not mounted, or Linux is older than "
		       "6.12", dir);
		return;
	}
	if (n <= 0) {
		report_unreadable("fair-server", dir, n ? errno : ENOENT);
		return;
	}
	for (i = 0; i < n; i++) {
		long long runtime, period;

		if (!read_number(fmt("%s/cpu%d/runtime", dir, cpus[i]), &runtime) ||
		    !read_number(fmt("%s/cpu%d/period", dir, cpus[i]), &period) || period <= 0) {
			report_unreadable("fair-server", fmt("%s/cpu%d", dir, cpus[i]), errno);
			return;
		}
		share = 100.0 * runtime / period;
		nr_off += !runtime;
		if (share > worst)
			worst = share;
	}
	if (worst > 10)
		report(WARNING, "fair-server", fmt("%.1f", worst),
		       fmt("as root: for f in %s/cpu*/runtime; do echo 50000000 >$f; done", dir),
		       "normal threads that starve take up to %.1f %% of a CPU from real-time "
		       "ones; the default is 5 %%",
		       worst);
	else
		report(OK, "fair-server", fmt("%.1f", worst), NULL,
		       "normal threads that starve take at most %.1f %% of a CPU from real-time "
		       "ones%s",
		       worst, nr_off ? fmt(" (off on %d CPUs)", nr_off) : "");
}

/*
 * Sound cards and their interrupts
 */

static bool usb_audio, firewire_audio;

/* Drivers of cards at FireWire; their interrupts are those of its controller. */
static bool is_firewire(const char *driver)
{
	static const char *const drivers[] = {
		"BeBoB", "DICE", "Digi00x", "Fireface", "Fireworks", "FW-MOTU", "FW-TASCAM",
		"iSight", "OXFW",
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(drivers); i++) {
		if (!strcmp(driver, drivers[i]))
			return true;
	}
	return false;
}

static void check_cards(void)
{
	char *text = read_file("/proc/asound/cards"), *line, *cards = "";
	int n = 0;

	if (!text) {
		if (errno == ENOENT && exists("/proc/sys"))
			report(WARNING, "cards", "0",
			       "load the driver of your sound card, or boot a kernel with "
			       "CONFIG_SND",
			       "the kernel has no sound: there is no /proc/asound/cards");
		else
			report_unreadable("cards", "/proc/asound/cards", errno);
		return;
	}
	while ((line = next_line(&text))) {
		char driver[32], name[81];

		if (sscanf(line, " %*d [%*[^]]]: %31s - %80[^\n]", driver, name) != 2)
			continue;
		n++;
		usb_audio |= !strcmp(driver, "USB-Audio");
		firewire_audio |= is_firewire(driver);
		append(&cards, ", ", "%s (%s)", name, driver);
	}
	if (n)
		report(OK, "cards", fmt("%d", n), NULL, "%s", cards);
	else
		report(WARNING, "cards", "0",
		       "connect your sound card, switch it on, and look again; lspci and lsusb "
		       "show whether it is seen",
		       "there is no sound card");
}

/* A kernel thread that handles an interrupt */
struct irq_thread {
	int irq, pid, policy, prio;
	char name[64];
};

static struct irq_thread threads[4096];
static int nr_threads;

static const char *skip_fields(const char *s, int n)
{
	s += strspn(s, " ");
	while (n--) {
		s += strcspn(s, " ");
		s += strspn(s, " ");
	}
	return s;
}

/* Returns whether threads of the kernel can be seen at all. */
static bool find_irq_threads(void)
{
	DIR *d = open_dir("/proc");
	bool kernel = false;
	struct dirent *e;

	if (!d)
		return false;
	while ((e = readdir(d))) {
		struct irq_thread *t = &threads[nr_threads];
		char *stat, *end, *comm;
		int ppid, prio, policy;

		if (!isdigit((unsigned char)*e->d_name))
			continue;
		stat = read_file(fmt("/proc/%s/stat", e->d_name));
		if (!stat)
			continue;
		comm = strchr(stat, '(');
		end = strrchr(stat, ')');
		/* After the name: fields 3 (state), 4 (parent), ... 40 (priority), 41 (policy). */
		if (!comm || !end ||
		    sscanf(end + 1, " %*c %d%*[^\n]", &ppid) != 1) {
			free(stat);
			continue;
		}
		*end++ = '\0';
		/*
		 * All of them are children of kthreadd, which is process 2 and no child; in a
		 * container process 2 is any.
		 */
		if (!ppid && !strcmp(comm + 1, "kthreadd"))
			kernel = true;
		if (ppid != 2) {
			free(stat);
			continue;
		}
		if (sscanf(comm + 1, "irq/%d-%63[^\n]", &t->irq, t->name) == 2 &&
		    /* The second half of a handler that was in two parts before */
		    !has_prefix(t->name, "s-") &&
		    sscanf(skip_fields(end, 40 - 3), "%d %d", &prio, &policy) == 2 &&
		    nr_threads < (int)ARRAY_SIZE(threads) - 1) {
			t->prio = prio;
			t->policy = policy;
			t->pid = atoi(e->d_name);
			nr_threads++;
		}
		free(stat);
	}
	closedir(d);
	return kernel;
}

/* Is it an action of a sound card, or of what one is connected to: a controller of USB or FireWire? */
static bool is_audio(const char *action)
{
	return has_prefix(action, "snd") || has_prefix(action, "AudioDSP") ||
	       has_prefix(action, "sof-audio") ||
	       (firewire_audio && has_prefix(action, "firewire_ohci")) ||
	       (usb_audio && (has_prefix(action, "xhci") || has_prefix(action, "ehci") ||
			      has_prefix(action, "ohci_hcd") || has_prefix(action, "uhci_hcd")));
}

/* The thread of an action; names of threads may be cut short. */
static struct irq_thread *thread_of(int irq, const char *action)
{
	int i;

	for (i = 0; i < nr_threads; i++) {
		size_t a = strlen(threads[i].name), b = strlen(action);

		if (threads[i].irq == irq && !strncmp(threads[i].name, action, a < b ? a : b))
			return &threads[i];
	}
	return NULL;
}

/* What is known of the interrupts of audio */
static struct {
	int nr, nr_hard, nr_low;
	char *hard, *low, *threaded;	/* lists */
	int lowest;			/* priority of a thread */
	int pid;			/* of the first with a low priority */
} irqs = { .hard = "", .low = "", .threaded = "", .lowest = 100 };

static void look_at_action(int irq, const char *name)
{
	struct irq_thread *t = thread_of(irq, name);
	int prio;

	if (!is_audio(name))
		return;
	irqs.nr++;
	if (!t) {
		irqs.nr_hard++;
		append(&irqs.hard, ", ", "%d (%s)", irq, name);
		return;
	}
	prio = t->policy == SCHED_FIFO || t->policy == SCHED_RR ? t->prio : 0;
	append(&irqs.threaded, ", ", "%d (%s) %d", irq, name, prio);
	if (prio < irqs.lowest)
		irqs.lowest = prio;
	if (prio > 50)
		return;
	append(&irqs.low, ", ", "%d (%s) %d", irq, name, prio);
	if (!irqs.nr_low++)
		irqs.pid = t->pid;
}

/* The last column of a line of /proc/interrupts has the actions, separated by commas. */
static void look_at_interrupt(char *line)
{
	char *p, *actions = NULL, *action, *save;
	int irq, start = 0;

	if (sscanf(line, " %d:%n", &irq, &start) != 1 || !start)
		return;
	for (p = line; (p = strstr(p, "  ")); p++)
		actions = p;
	if (!actions)
		return;
	for (action = strtok_r(actions, ",", &save); action; action = strtok_r(NULL, ",", &save))
		look_at_action(irq, action + strspn(action, " "));
}

static void check_irqs(void)
{
	char *text = read_file("/proc/interrupts"), *line;

	if (!text) {
		report_unreadable("irq-threads", "/proc/interrupts", errno);
		report(UNKNOWN, "irq-priority", NULL, NULL, "see irq-threads");
		return;
	}
	if (!find_irq_threads()) {
		report(UNKNOWN, "irq-threads", NULL,
		       "look again outside of the container, or as root",
		       "threads of the kernel cannot be seen in /proc");
		report(UNKNOWN, "irq-priority", NULL, NULL, "see irq-threads");
		return;
	}
	while ((line = next_line(&text)))
		look_at_interrupt(line);
	if (!irqs.nr) {
		report(UNKNOWN, "irq-threads", NULL, NULL,
		       "no interrupt of a sound card is in /proc/interrupts: see cards");
		report(UNKNOWN, "irq-priority", NULL, NULL, "see irq-threads");
		return;
	}

	if (!irqs.nr_hard)
		report(OK, "irq-threads", "threaded", NULL, "handled by threads: %s",
		       irqs.threaded);
	else
		report(irqs.nr_hard == irqs.nr ? PROBLEM : WARNING, "irq-threads", "not threaded",
		       is_rt ? "look at the driver: it asks for handlers that are no threads" :
		       "boot the PREEMPT_RT kernel, or add threadirqs to GRUB_CMDLINE_LINUX in "
		       "/etc/default/grub, and run: Debian, Ubuntu: sudo update-grub; Arch: sudo "
		       "grub-mkconfig -o /boot/grub/grub.cfg",
		       "not handled by a thread: %s: no priority can be chosen for it", irqs.hard);

	if (irqs.nr_hard == irqs.nr)
		report(UNKNOWN, "irq-priority", NULL, NULL, "see irq-threads");
	else if (irqs.nr_low)
		report(WARNING, "irq-priority", fmt("%d", irqs.lowest),
		       fmt("sudo chrt -f -p 90 %d%s; for every boot: Debian, Ubuntu: sudo apt "
			   "install rtirq-init; Arch: sudo pacman -S rtirq; names are in "
			   "/etc/default/rtirq or /etc/rtirq.conf",
			   irqs.pid, irqs.nr_low > 1 ? " and so on" : ""),
		       "not above 50, which all interrupts have: %s", irqs.low);
	else
		report(OK, "irq-priority", fmt("%d", irqs.lowest), NULL,
		       "above 50, which all interrupts have: %s", irqs.threaded);
}

/*
 * The machine
 */

static bool is_virtual(void)
{
	char *text = read_file("/proc/cpuinfo"), *line;

	while ((line = next_line(&text))) {
		if (has_prefix(line, "flags"))
			return has_word(line, "hypervisor");
	}
	return false;
}

/*
 * What a file says for all CPUs. Returns the number of CPUs that have it, -1 with errno if one
 * cannot be read. *@bad says how many have a value that @good does not like, *@seen is one value.
 */
static int look_at_cpus(const char *file, bool (*good)(const char *value), char **bad, char **seen)
{
	int n, i, found = 0, nr_bad = 0;
	char *worst = NULL;

	n = list_numbered("/sys/devices/system/cpu", "cpu", cpus, ARRAY_SIZE(cpus));
	if (n < 0)
		return -1;
	for (i = 0; i < n; i++) {
		char *value = read_line(fmt("/sys/devices/system/cpu/cpu%d/%s", cpus[i], file));

		/* A CPU that is offline does not have it. */
		if (!value && errno == ENOENT)
			continue;
		if (!value)
			return -1;
		found++;
		if (!good(value)) {
			nr_bad++;
			if (!worst)
				worst = value;
		}
		*seen = value;
	}
	if (nr_bad) {
		*seen = worst;
		*bad = fmt("%s on %d of %d CPUs", worst, nr_bad, found);
	}
	return found;
}

static bool good_governor(const char *value)
{
	return !strcmp(value, "performance");
}

static bool good_epp(const char *value)
{
	/* Numbers are what some drivers show: 0 is performance, 255 power. */
	return !strcmp(value, "performance") || !strcmp(value, "balance_performance") ||
	       !strcmp(value, "default") || (isdigit((unsigned char)*value) && atoi(value) <= 128);
}

static void check_governor(void)
{
	char *bad = NULL, *seen = NULL;
	int n = look_at_cpus("cpufreq/scaling_governor", good_governor, &bad, &seen);
	int err = errno;

	if (n < 0)
		report_unreadable("governor", "scaling_governor of a CPU", err);
	else if (!n && is_virtual())
		report(OK, "governor", NULL, NULL,
		       "a virtual machine without frequency scaling: look at its host");
	else if (!n)
		report(UNKNOWN, "governor", NULL, NULL,
		       "this kernel does not scale frequencies; what the firmware does is not "
		       "known");
	else if (bad)
		report(WARNING, "governor", seen,
		       "echo performance | sudo tee "
		       "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor; for every boot: "
		       "cpufreq.default_governor=performance in the kernel's command line",
		       "%s: a CPU that was idle is slow at first", bad);
	else
		report(OK, "governor", seen, NULL, "performance on %d CPUs", n);

	bad = NULL;
	n = look_at_cpus("cpufreq/energy_performance_preference", good_epp, &bad, &seen);
	err = errno;
	if (n < 0)
		report_unreadable("epp", "energy_performance_preference of a CPU", err);
	else if (!n)
		report(OK, "epp", NULL, NULL, "there is no energy_performance_preference that "
					      "could be wrong");
	else if (bad)
		report(WARNING, "epp", seen,
		       "echo performance | sudo tee "
		       "/sys/devices/system/cpu/cpu*/cpufreq/energy_performance_preference; "
		       "power-profiles-daemon: powerprofilesctl set performance",
		       "energy_performance_preference is %s: the hardware prefers low power to "
		       "speed", bad);
	else
		report(OK, "epp", seen, NULL, "energy_performance_preference is %s", seen);
}

static void check_cstates(void)
{
	const char *base = "/sys/devices/system/cpu";
	long long deepest = -1, next = -1;
	int states[64], n, i, j, nr;
	char *disable = "";
	uint64_t slow = 0;
	const char *name = "";
	bool any = false;

	n = list_numbered(base, "cpu", cpus, ARRAY_SIZE(cpus));
	if (n < 0) {
		report_unreadable("cstates", base, errno);
		return;
	}
	for (i = 0; i < n; i++) {
		char *dir = fmt("%s/cpu%d/cpuidle", base, cpus[i]);

		nr = list_numbered(dir, "state", states, ARRAY_SIZE(states));
		if (nr < 0 && errno == ENOENT)
			continue;
		if (nr < 0) {
			report_unreadable("cstates", dir, errno);
			return;
		}
		for (j = 0; j < nr; j++) {
			char *state = fmt("%s/state%d", dir, states[j]);
			long long latency, off;

			if (!read_number(fmt("%s/latency", state), &latency) ||
			    !read_number(fmt("%s/disable", state), &off)) {
				report_unreadable("cstates", state, errno);
				return;
			}
			any = true;
			if (off)
				continue;
			if (latency > 100 && (next < 0 || latency < next))
				next = latency;
			if (latency > 100 && states[j] < 64)
				slow |= 1ULL << states[j];
			if (latency > deepest) {
				deepest = latency;
				name = read_line(fmt("%s/name", state));
				if (!name)
					name = fmt("state%d", states[j]);
			}
		}
	}
	for (i = 0; i < 64; i++) {
		if (slow & (1ULL << i))
			append(&disable, "", " %s/cpu*/cpuidle/state%d/disable", base, i);
	}
	if (!any && is_virtual())
		report(OK, "cstates", NULL, NULL, "a virtual machine without idle states: look at "
						  "its host");
	else if (!any)
		report(UNKNOWN, "cstates", NULL, NULL,
		       "this kernel has no idle states; what the firmware does is not known");
	else if (deepest > 100)
		report(WARNING, "cstates", fmt("%lld", deepest),
		       fmt("sudo cpupower idle-set -D %lld (Debian: linux-cpupower, Ubuntu: "
			   "linux-tools-generic, Arch: cpupower), or: echo 1 | sudo tee"
			   "%s; programs that "
			   "keep a small number in /dev/cpu_dma_latency do the same while they "
			   "run, which is not visible here",
			   next, disable),
		       "a CPU may take %lld us to leave idle state %s", deepest, name);
	else
		report(OK, "cstates", fmt("%lld", deepest < 0 ? 0 : deepest), NULL,
		       "no idle state takes longer than %lld us to "
		       "leave", deepest < 0 ? 0 : deepest);
}

static void check_thp(void)
{
	const char *file = "/sys/kernel/mm/transparent_hugepage/enabled";
	char *value = read_line(file);

	if (!value && errno == ENOENT && exists("/sys/kernel/mm"))
		report(OK, "thp", "none", NULL, "this kernel has no transparent huge pages, as "
						"with PREEMPT_RT");
	else if (!value)
		report_unreadable("thp", file, errno);
	else if (strstr(value, "[always]"))
		report(WARNING, "thp", "always",
		       "echo madvise | sudo tee /sys/kernel/mm/transparent_hugepage/enabled; for "
		       "every boot: transparent_hugepage=madvise in the kernel's command line",
		       "transparent huge pages for everything: a page fault may clear 2 MiB, and "
		       "pages move");
	else if (strstr(value, "[madvise]") || strstr(value, "[never]"))
		report(OK, "thp", strstr(value, "[never]") ? "never" : "madvise", NULL,
		       "transparent huge pages: %s", strstr(value, "[never]") ? "never" :
		       "only where a program asks for them");
	else
		report(UNKNOWN, "thp", value, NULL, "%s says '%s'", file, value);
}

static void check_clocksource(void)
{
	static const char *const good[] = {
		"tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page",
	};
	static const char *const slow[] = { "hpet", "acpi_pm", "jiffies", "refined-jiffies" };
	const char *file = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
	char *value = read_line(file);
	unsigned int i;

	if (!value) {
		report_unreadable("clocksource", file, errno);
		return;
	}
	for (i = 0; i < ARRAY_SIZE(good); i++) {
		if (!strcmp(value, good[i])) {
			report(OK, "clocksource", value, NULL, "%s", value);
			return;
		}
	}
	for (i = 0; i < ARRAY_SIZE(slow); i++) {
		if (!strcmp(value, slow[i])) {
			report(PROBLEM, "clocksource", value,
			       "see why the kernel does not trust the TSC: sudo dmesg | grep -iE "
			       "'tsc|clocksource'; remove clocksource= and notsc from the "
			       "kernel's command line; update the firmware",
			       "%s: each look at the clock takes microseconds and a system "
			       "call", value);
			return;
		}
	}
	report(UNKNOWN, "clocksource", value, NULL, "%s: it is not known whether that is "
						    "fast", value);
}

static void check_hrtimer(void)
{
	const char *advice = "sudo modprobe snd-hrtimer; for every boot: echo snd-hrtimer | sudo "
			     "tee /etc/modules-load.d/snd-hrtimer.conf";
	char *timers = read_file("/proc/asound/timers");
	const char *value;

	if (timers && strstr(timers, "HR timer")) {
		report(OK, "snd-hrtimer", "present", NULL, "ALSA has its high resolution timer");
		return;
	}
	if (exists("/sys/module/snd_hrtimer")) {
		report(OK, "snd-hrtimer", "loaded", NULL, "the module snd-hrtimer is loaded");
		return;
	}
	value = config_get("CONFIG_SND_HRTIMER");
	if (config_text && *value == 'n')
		report(WARNING, "snd-hrtimer", "missing",
		       "boot a kernel that was built with CONFIG_SND_HRTIMER=m",
		       "the kernel has no high resolution timer for ALSA: MIDI sequencers use a "
		       "coarse one");
	else if (config_text && *value == 'y' && !timers)
		report(OK, "snd-hrtimer", "built in", NULL, "CONFIG_SND_HRTIMER=y");
	else if (timers)
		report(WARNING, "snd-hrtimer", "not loaded", advice,
		       "ALSA's high resolution timer is not loaded: MIDI sequencers use a coarse "
		       "one");
	else
		report(UNKNOWN, "snd-hrtimer", NULL, NULL,
		       "neither /proc/asound/timers nor the kernel's options say whether it is "
		       "there");
}

/*
 * Measuring
 */

#define FRAMES		64
#define RATE		48000
#define PERIOD_NS	(FRAMES * NSEC_PER_SEC / RATE)
#define ROUNDS		20
#define SECTION_NS	1000000LL
#define HOG_NS		20000000LL
#define PRIO_HIGH	80
#define PRIO_HOG	50

static int64_t clock_ns(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * NSEC_PER_SEC + ts.tv_nsec;
}

static double us(int64_t ns)
{
	return ns / 1000.0;
}

/* Returns an error number. @cpu -1: any. */
static int start_thread(pthread_t *thread, void *(*fn)(void *arg), void *arg, int prio, int cpu)
{
	struct sched_param param = { .sched_priority = prio };
	pthread_attr_t attr;
	cpu_set_t set;
	int err;

	pthread_attr_init(&attr);
	/* All of it may be locked, so let it be small. */
	pthread_attr_setstacksize(&attr, 128 << 10);
	pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
	pthread_attr_setschedpolicy(&attr, prio ? SCHED_FIFO : SCHED_OTHER);
	pthread_attr_setschedparam(&attr, &param);
	if (cpu >= 0) {
		CPU_ZERO(&set);
		CPU_SET(cpu, &set);
		pthread_attr_setaffinity_np(&attr, sizeof(set), &set);
	}
	err = pthread_create(thread, &attr, fn, arg);
	pthread_attr_destroy(&attr);
	return err;
}

struct wake {
	uint32_t *late;		/* ns, at most UINT32_MAX */
	uint32_t count, done;
};

/* An audio callback that has nothing to do: wakes up for each period and looks at the clock. */
static void *wake_thread(void *arg)
{
	struct wake *w = arg;
	int64_t start = clock_ns(CLOCK_MONOTONIC) + 10000000;
	int64_t give_up = start + (int64_t)w->count * PERIOD_NS + NSEC_PER_SEC;
	uint32_t i;

	for (i = 0; i < w->count; i++) {
		/* 64 / 48000 s is no whole number of nanoseconds; no error adds up here. */
		int64_t due = start + (i + 1LL) * FRAMES * NSEC_PER_SEC / RATE, now, late;
		struct timespec ts = {
			.tv_sec = due / NSEC_PER_SEC,
			.tv_nsec = due % NSEC_PER_SEC,
		};

		while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &ts, NULL) == EINTR)
			;
		now = clock_ns(CLOCK_MONOTONIC);
		late = now - due;
		w->late[i] = late < 0 ? 0 : late > UINT32_MAX ? UINT32_MAX : late;
		w->done = i + 1;
		if (now > give_up)
			break;
	}
	return NULL;
}

static int compare_u32(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Returns false if this process may not use SCHED_FIFO. */
static bool measure_wakeup(int seconds)
{
	struct wake w = { .count = (uint64_t)seconds * RATE / FRAMES };
	const char *locked = "", *advice;
	uint32_t i, misses = 0;
	double min, median, p999, max;
	pthread_t thread;
	char *value;
	int err;

	w.late = calloc(w.count, sizeof(*w.late));
	if (!w.late)
		die("out of memory");
	memset(w.late, 0xff, w.count * sizeof(*w.late));

	if (mlockall(MCL_CURRENT | MCL_FUTURE))
		locked = " (memory could not be locked: see memlock)";
	err = start_thread(&thread, wake_thread, &w, PRIO_HIGH, -1);
	if (err == EAGAIN && !*locked) {
		/* The limit did not suffice for a stack. */
		munlockall();
		locked = " (memory could not be locked: see memlock)";
		err = start_thread(&thread, wake_thread, &w, PRIO_HIGH, -1);
	}
	if (err) {
		munlockall();
		report(PROBLEM, "measure", strerror(err),
		       err == EPERM ? "do what rtprio says, see also config-rt-group; or for a "
				      "first look: sudo nspa-doctor --measure" : NULL,
		       "nothing measured: no thread of SCHED_FIFO %d can be started: %s", PRIO_HIGH,
		       strerror(err));
		return false;
	}
	pthread_join(thread, NULL);
	munlockall();

	for (i = 0; i < w.done; i++)
		misses += w.late[i] > PERIOD_NS;
	qsort(w.late, w.done, sizeof(*w.late), compare_u32);
	min = us(w.late[0]);
	median = us(w.late[(w.done - 1) / 2]);
	p999 = us(w.late[(w.done * 999ULL + 999) / 1000 - 1]);
	max = us(w.late[w.done - 1]);
	value = fmt("min=%.1f median=%.1f p999=%.1f max=%.1f misses=%u "
		    "wakeups=%u", min, median, p999,
		    max, misses, w.done);
	advice = "see the other warnings and problems first; then what else the machine does at "
		 "such a moment (sudo dmesg); in a virtual machine the host decides";
	report(misses ? PROBLEM : max > us(PERIOD_NS) / 2 ? WARNING : OK, "measure-wakeup", value,
	       misses || max > us(PERIOD_NS) / 2 ? advice : NULL,
	       "%u wake-ups at FIFO %d, one every %.0f us, late by min %.1f, median %.1f, 99.9%% "
	       "%.1f, max %.1f us; %u by more than a period%s",
	       w.done, PRIO_HIGH, us(PERIOD_NS), min, median, p999, max, misses, locked);
	return true;
}

/*
 * The inversion: on one CPU a normal thread owns a mutex that an urgent one waits for, and a
 * hog of a priority in between wants the CPU. Without priority inheritance the hog comes first.
 *
 * All steps are handed on by eventfds. What a thread does when it is told to is ordered by their
 * priorities, as they share the CPU.
 */
struct inversion {
	int dev, mutex;
	int begin, owned, go, done;
	atomic_bool hog_ran;
	atomic_int errors;
	/* Of the last round, by the waiter */
	int64_t wait_ns;
	bool valid, hog_first;
};

static void give(int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) != sizeof(one))
		abort();
}

static void take(int fd)
{
	uint64_t value;

	while (read(fd, &value, sizeof(value)) != sizeof(value)) {
		if (errno != EINTR)
			abort();
	}
}

/* Uses the CPU for @ns, but no longer than twice that. */
static void burn(int64_t ns)
{
	int64_t cpu_end = clock_ns(CLOCK_THREAD_CPUTIME_ID) + ns;
	int64_t end = clock_ns(CLOCK_MONOTONIC) + 2 * ns;

	while (clock_ns(CLOCK_THREAD_CPUTIME_ID) < cpu_end && clock_ns(CLOCK_MONOTONIC) < end)
		;
}

static int acquire(struct inversion *v, uint32_t owner)
{
	return wait_any(v->dev, v->mutex, owner, clock_ns(CLOCK_MONOTONIC) + NSEC_PER_SEC, 0, NULL);
}

static void release(struct inversion *v, uint32_t owner)
{
	struct mutex_args args = { .owner = owner };

	if (ioctl(v->mutex, IOC_MUTEX_UNLOCK, &args))
		v->errors++;
}

static void *owner_thread(void *arg)
{
	struct inversion *v = arg;
	int64_t end;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		take(v->begin);
		if (acquire(v, 1))
			v->errors++;
		end = clock_ns(CLOCK_THREAD_CPUTIME_ID) + SECTION_NS;
		/* From here on the waiter and then the hog have this CPU, unless we are urgent. */
		give(v->owned);
		while (clock_ns(CLOCK_THREAD_CPUTIME_ID) < end)
			;
		release(v, 1);
		give(v->done);
	}
	return NULL;
}

static void *hog_thread(void *arg)
{
	struct inversion *v = arg;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		take(v->go);
		v->hog_ran = true;
		burn(HOG_NS);
		give(v->done);
	}
	return NULL;
}

static void *waiter_thread(void *arg)
{
	struct inversion *v = arg;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		struct mutex_args state = { 0, 0 };
		int64_t start;
		int ret;

		take(v->owned);
		v->valid = !ioctl(v->mutex, IOC_MUTEX_READ, &state) && state.owner == 1 &&
			   state.count == 1 && !v->hog_ran;
		/* It cannot run before we sleep. */
		give(v->go);
		start = clock_ns(CLOCK_MONOTONIC);
		ret = acquire(v, 2);
		v->wait_ns = clock_ns(CLOCK_MONOTONIC) - start;
		v->hog_first = v->hog_ran;
		if (ret)
			v->errors++;
		else
			release(v, 2);
		give(v->done);
	}
	return NULL;
}

/* Waits until @n threads have said that they have done their part of a round. */
static bool all_done(struct inversion *v, int n)
{
	int64_t end = clock_ns(CLOCK_MONOTONIC) + 3 * NSEC_PER_SEC / 2;

	while (n) {
		struct pollfd pfd = { .fd = v->done, .events = POLLIN };
		int64_t left = end - clock_ns(CLOCK_MONOTONIC);

		if (left <= 0)
			return false;
		if (poll(&pfd, 1, left / 1000000 + 1) == 1) {
			take(v->done);
			n--;
		}
	}
	return true;
}

static int last_cpu(void)
{
	int cpu = CPU_SETSIZE;
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set))
		return -1;
	while (cpu--) {
		if (CPU_ISSET(cpu, &set))
			return cpu;
	}
	return -1;
}

static void measure_inversion(int dev)
{
	/* Threads that hang are left behind, so it must outlive this function. */
	static struct inversion v;
	const char *id = "measure-inversion";
	struct mutex_args mutex_args = { 0, 0 };
	int64_t begin = clock_ns(CLOCK_MONOTONIC), max = 0;
	int cpu = last_cpu(), rounds = 0, wrong = 0, invalid = 0, err, i;
	pthread_t owner, hog, waiter;
	struct limit rttime;
	bool hangs = false;
	char *value;

	if (dev < 0) {
		report(UNKNOWN, id, NULL, NULL, "not measured: /dev/ntsync cannot be used: see "
						"ntsync");
		return;
	}
	if (!get_limit(RLIMIT_RTTIME, "", &rttime) || rttime.soft < 3 * HOG_NS / 1000) {
		report(UNKNOWN, id, NULL, NULL, "not measured: RLIMIT_RTTIME is too small: see "
						"rttime");
		return;
	}
	v.dev = dev;
	v.mutex = ioctl(dev, IOC_CREATE_MUTEX, &mutex_args);
	v.begin = eventfd(0, EFD_CLOEXEC);
	v.owned = eventfd(0, EFD_CLOEXEC);
	v.go = eventfd(0, EFD_CLOEXEC);
	v.done = eventfd(0, EFD_CLOEXEC | EFD_SEMAPHORE);
	if (cpu < 0 || v.mutex < 0 || v.begin < 0 || v.owned < 0 || v.go < 0 || v.done < 0) {
		report(UNKNOWN, id, NULL, NULL, "not measured: %s", strerror(errno));
		return;
	}
	err = start_thread(&owner, owner_thread, &v, 0, cpu);
	if (!err)
		err = start_thread(&hog, hog_thread, &v, PRIO_HOG, cpu);
	if (!err)
		err = start_thread(&waiter, waiter_thread, &v, PRIO_HIGH, cpu);
	if (err) {
		report(UNKNOWN, id, NULL, NULL, "not measured: %s", strerror(err));
		return;
	}
	/* It may fail: a page fault in between makes a round longer, not wrong. */
	mlockall(MCL_CURRENT);
	for (i = 0; i < ROUNDS && clock_ns(CLOCK_MONOTONIC) - begin < 3 * NSEC_PER_SEC; i++) {
		v.hog_ran = false;
		give(v.begin);
		if (!all_done(&v, 3)) {
			hangs = true;
			break;
		}
		if (!v.valid || v.errors) {
			invalid++;
			v.errors = 0;
		} else {
			rounds++;
			wrong += v.hog_first;
			if (v.wait_ns > max)
				max = v.wait_ns;
		}
		/* Leave others some of the CPU, and the fair server no reason to act. */
		usleep(30000);
	}
	munlockall();

	value = fmt("max=%.1f rounds=%d inversions=%d", us(max), rounds, wrong);
	if (hangs)
		report(PROBLEM, id, value,
		       "see what else runs at real-time priorities on that CPU: ps -eLo "
		       "psr,rtprio,comm --sort=-rtprio | head",
		       "a round on CPU %d did not end within 1.5 s", cpu);
	else if (!rounds)
		report(UNKNOWN, id, NULL, NULL, "not measured: none of %d rounds went as "
						"planned", invalid);
	else if (wrong * 2 > rounds)
		report(PROBLEM, id, value, "boot a Linux-NSPA kernel: see kernel and "
					   "ntsync-mutex-pi",
		       "no priority inheritance: in %d of %d rounds a hog of FIFO %d ran while "
		       "FIFO %d waited for a mutex; longest wait %.0f us for a section of %.0f us",
		       wrong, rounds, PRIO_HOG, PRIO_HIGH, us(max), us(SECTION_NS));
	else if (wrong)
		report(WARNING, id, value, "measure again when nothing else runs: nspa-doctor "
					   "--measure",
		       "in %d of %d rounds a hog of FIFO %d ran while FIFO %d waited for a mutex; "
		       "longest wait %.0f us for a section of %.0f us",
		       wrong, rounds, PRIO_HOG, PRIO_HIGH, us(max), us(SECTION_NS));
	else
		report(OK, id, value, NULL,
		       "priority inheritance works: in %d rounds FIFO %d waited at most %.0f us "
		       "for a section of %.0f us, and the hog of %.0f us came after it",
		       rounds, PRIO_HIGH, us(max), us(SECTION_NS), us(HOG_NS));
}

static void on_alarm(int sig)
{
	static const char text[] = "nspa-doctor: the measurement did not end in time\n";

	(void)sig;
	if (write(2, text, sizeof(text) - 1) < 0)
		_exit(1);
	_exit(1);
}

static void measure(int seconds, int dev)
{
	struct sigaction action = { .sa_handler = on_alarm };

	sigaction(SIGALRM, &action, NULL);
	alarm(seconds + 5);
	if (measure_wakeup(seconds))
		measure_inversion(dev);
	alarm(0);
}

/*
 * Options
 */

__attribute__((noreturn, format(printf, 1, 2)))
static void misuse(const char *format, ...)
{
	va_list ap;

	fputs("nspa-doctor: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputs("\nTry: nspa-doctor --help\n", stderr);
	exit(2);
}

static int parse_seconds(const char *s)
{
	long long value;

	if (!isdigit((unsigned char)*s) || !to_number(s, &value) || value < 1 || value > 600)
		misuse("SECONDS must be 1 to 600, not '%s'", s);
	return value;
}

static const char *parse_root(const char *dir)
{
	struct stat st;

	if (stat(dir, &st))
		misuse("--root: %s: %s", dir, strerror(errno));
	if (!S_ISDIR(st.st_mode))
		misuse("--root: %s is not a directory", dir);
	return dir;
}

int main(int argc, char **argv)
{
	const char *term = getenv("TERM"), *no_colour = getenv("NO_COLOR");
	int seconds = 0, dev, i;
	bool help = false;

	for (i = 1; i < argc; i++) {
		const char *arg = argv[i];

		if (!strcmp(arg, "--help") || !strcmp(arg, "-h")) {
			help = true;
		} else if (!strcmp(arg, "--json")) {
			json = true;
		} else if (!strcmp(arg, "--measure")) {
			seconds = 5;
			if (i + 1 < argc && argv[i + 1][0] != '-')
				seconds = parse_seconds(argv[++i]);
		} else if (has_prefix(arg, "--measure=")) {
			seconds = parse_seconds(arg + strlen("--measure="));
		} else if (!strcmp(arg, "--root")) {
			if (++i == argc)
				misuse("--root needs a directory");
			root = parse_root(argv[i]);
		} else if (has_prefix(arg, "--root=")) {
			root = parse_root(arg + strlen("--root="));
		} else {
			misuse("unknown argument '%s'", arg);
		}
	}
	if (help) {
		fputs(usage_text, stdout);
		return fflush(stdout) ? 1 : 0;
	}
	if (seconds && *root)
		misuse("--measure and --root exclude each other");
	colour = isatty(1) && !(no_colour && *no_colour) && term && strcmp(term, "dumb");

	look_at_me();
	check_kernel();
	check_rt();
	check_config();
	dev = check_ntsync();
	check_rtprio();
	check_rttime();
	check_memlock();
	check_throttling();
	check_fair_server();
	check_cards();
	check_irqs();
	check_governor();
	check_cstates();
	check_thp();
	check_clocksource();
	check_hrtimer();
	if (seconds)
		measure(seconds, dev);

	if (json) {
		print_json();
	} else {
		if (counts[UNKNOWN])
			printf("%u unknown: neither ok nor wrong as far as can be seen here\n",
			       counts[UNKNOWN]);
		printf("%u ok, %u warnings, %u problems\n", counts[OK], counts[WARNING],
		       counts[PROBLEM]);
	}
	if (fflush(stdout) || ferror(stdout))
		die("the output cannot be written: %s", strerror(errno));
	return counts[PROBLEM] ? 1 : 0;
}
