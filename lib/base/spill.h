/* spill.h - numbers that are held in memory, or, where there are too many, in a
 * file that the kernel pages. */
#ifndef TC_BASE_SPILL_H
#define TC_BASE_SPILL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* fd: a temporary file for what is larger than above_bytes, or -1: none. */
struct tc_spill_options {
	int fd;
	uint64_t above_bytes;
};

struct tc_spill {
	void *p;           /* not cleared; aligned to TC_ALIGN */
	size_t size_bytes;
	bool mapped;
};

/* The descriptor may be closed afterwards. */
int tc_spill_open(struct tc_spill *s, size_t size_bytes, const struct tc_spill_options *o, struct tc_err *err) TC_MUST_CHECK;
void tc_spill_close(struct tc_spill *s);

#endif
