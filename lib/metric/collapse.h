/* collapse.h - has generation collapsed?  Figures on a list of tokens (ids,
 * or words by number). */
#ifndef TC_METRIC_COLLAPSE_H
#define TC_METRIC_COLLAPSE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/* Distinct n-grams / n-grams; 1 when there is none.  rep-n is 1 minus this. */
int tc_distinct(const uint32_t *ids, size_t count, size_t n, double *share, struct tc_err *err) TC_MUST_CHECK;

/* The longest span of tokens that occurs twice (it may overlap itself). */
size_t tc_longest_repeat(const uint32_t *ids, size_t count);

#endif
