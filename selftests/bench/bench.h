/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the benchmark programs share. Times are in nanoseconds of guest time: with QEMU's
 * -icount shift=0,sleep=off that is the number of instructions.
 */
#ifndef BENCH_H
#define BENCH_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline uint64_t now(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

static inline void must(int ret, const char *what)
{
	if (ret < 0) {
		perror(what);
		exit(1);
	}
}

static int compare(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* Sorts them. */
static inline uint64_t median(uint64_t *values, unsigned int n)
{
	qsort(values, n, sizeof(values[0]), compare);
	return values[n / 2];
}

#endif
