/* kinds.h - the CPU kinds that a test is run for. */
#ifndef TC_TESTS_KINDS_H
#define TC_TESTS_KINDS_H

#include <stdlib.h>
#include <string.h>

#include "kernel/kernel.h"
#include "tap.h"

/* Those that the machine runs, or only the one that TC_CPU names; it skips
 * where there is none. */
static inline size_t
kinds_to_test(const struct tc_kernels *list[], size_t max)
{
	const char *only = getenv("TC_CPU");
	size_t n = tc_kernels_list(list, max), kept = 0;

	for (size_t i = 0; i < n; i++)
		if (!only || strcmp(only, list[i]->name) == 0)
			list[kept++] = list[i];
	if (kept == 0)
		skip(only ? only : "any kind", "this machine does not run it");
	return kept;
}

#endif
