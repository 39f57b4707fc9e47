/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For tests of waits that descriptors end: an eventfd, an event, and who runs where.
 */
#ifndef DESCRIPTOR_TEST_H
#define DESCRIPTOR_TEST_H

#include <sys/eventfd.h>
#include "channel_test.h"

static inline unsigned int rnd(unsigned int *seed, unsigned int n)
{
	*seed = *seed * 1664525 + 1013904223;
	return (*seed >> 8) % n;
}

/* On that CPU, or any if it is negative. */
static inline int move_to(pid_t tid, int cpu)
{
	cpu_set_t set;
	int i;

	CPU_ZERO(&set);
	for (i = 0; i < CPU_SETSIZE; i++)
		if (cpu < 0 || i == cpu)
			CPU_SET(i, &set);
	return sched_setaffinity(tid, sizeof(set), &set) ? -errno : 0;
}

static inline int raise_fd(int fd)
{
	return eventfd_write(fd, 1) ? -errno : 0;
}

/* What was written to it, 0 if nothing. */
static inline __u64 drain(int fd)
{
	eventfd_t n;

	return eventfd_read(fd, &n) ? 0 : n;
}

static inline int set(int event)
{
	return nt_event(event, NTSYNC_IOC_EVENT_SET, NULL);
}

#endif
