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

/* The share of the tokens that is a tail going in a circle: the longest tail
 * of which every token but the first p is the one p before it, for a period p
 * that goes into it three times at least, over count.  0 when there is none. */
double tc_loop_rate(const uint32_t *ids, size_t count);

/* How many tokens are equal from the beginning on, and the share of places
 * where both have the same one, of those of the longer; 1 when both are empty. */
void tc_agreement(const uint32_t *a, size_t na, const uint32_t *b, size_t nb, size_t *first, double *share);

/* The words of a text (valid UTF-8, split on white space), equal ones with
 * equal numbers: *words is [*count], for free(3). */
int tc_words(const char *text, size_t n, uint32_t **words, size_t *count, struct tc_err *err) TC_MUST_CHECK;

#endif
