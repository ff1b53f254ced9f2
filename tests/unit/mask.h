/* mask.h - random masks. */
#ifndef TC_TESTS_MASK_H
#define TC_TESTS_MASK_H

#include <stdlib.h>

#include "base/rng.h"
#include "tensor/mask.h"

enum { TWO_OF_FOUR = -1 }; /* in place of a share */

/* Bits of rows x cols, that share of them set, or two of each four inputs; free it. */
static inline uint64_t *
random_mask(struct tc_rng *rng, size_t rows, size_t cols, double share)
{
	size_t words = tc_mask_words(cols);
	uint64_t *bits = calloc(rows * words, sizeof(*bits));

	for (size_t r = 0; r < rows; r++)
		for (size_t c = 0; c < cols; c++) {
			static size_t first, second;

			if (c % 4 == 0) {
				first = tc_rng_below(rng, 4);
				second = (first + 1 + tc_rng_below(rng, 3)) % 4;
			}
			if (share == TWO_OF_FOUR ? c % 4 == first || c % 4 == second : tc_rng_unit(rng) < share)
				bits[r * words + c / 64] |= (uint64_t)1 << c % 64;
		}
	return bits;
}

#endif
