/* difference.h - how far the numbers of one tensor are from those of another,
 * whatever formats they are kept in. */
#ifndef TC_METRIC_DIFFERENCE_H
#define TC_METRIC_DIFFERENCE_H

#include <stdint.h>

#include "base/err.h"
#include "base/thread.h"
#include "tensor/tensor.h"

struct tc_difference {
	double norm2;       /* sum of a^2 */
	double diff2;       /* sum of (a - b)^2 */
	double max_abs;     /* the largest |a - b| ... */
	uint64_t max_at;    /* ... and the first element, row-major, that has it */
	uint64_t unequal;   /* elements with a != b; 0 and -0 are equal */
};

/* Of tensors of one shape, both with data.  Sums are in double over fixed
 * runs of rows that are added in order: the bits do not depend on the number
 * of threads.  TC_DATA when a number on either side is NaN or infinite.  Takes
 * memory for a few rows a thread. */
int tc_difference_measure(struct tc_difference *d, const struct tc_tensor *a, const struct tc_tensor *b, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

/* The sums of d to those of total; max_at is not kept. */
void tc_difference_add(struct tc_difference *total, const struct tc_difference *d);

/* |a - b| / |a|, Frobenius norms; 0 when equal, else INFINITY when a is 0. */
double tc_difference_relative(const struct tc_difference *d);
/* 10 log10(|a|^2 / |a - b|^2); INFINITY when equal, else -INFINITY when a is 0. */
double tc_difference_snr_db(const struct tc_difference *d);

#endif
