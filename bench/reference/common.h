/* What every program here does alike: ends with a message when something fails, and tells the time. */
#ifndef COMMON_H
#define COMMON_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static inline void check(int ok, const char *what)
{
	if (ok)
		return;
	perror(what);
	exit(1);
}

/* seconds, from a moment in the past */
static inline double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

#endif
