/* ranks.h - ranks of several tensors within a budget of bytes. */
#ifndef TC_METHOD_RANKS_H
#define TC_METHOD_RANKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct tc_rank_item {
	const double *error;   /* [most + 1] what a rank leaves: descending, and by ever less */
	size_t least, most;
	uint64_t bytes;        /* of a rank */
	uint64_t whole;        /* of the tensor as it is, which leaves no error; 0: it cannot stay so */
	/* chosen: */
	size_t rank;
	bool stays;
};

/* Bytes that an item takes as chosen. */
uint64_t tc_rank_item_bytes(const struct tc_rank_item *item);

/* Chooses so that the errors' sum is small and the bytes at most the budget: from the
 * least ranks on, step by step what takes off most error a byte, a rank or, in a step,
 * all the way to a tensor that stays.  That is the least there is but for what the last
 * steps leave of the budget.  TC_DATA when the least ranks take more. */
int tc_ranks_choose(struct tc_rank_item *item, size_t n, uint64_t budget, struct tc_err *err) TC_MUST_CHECK;

#endif
