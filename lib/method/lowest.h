/* lowest.h - which of many scores are the lowest.
 *
 * Scores are not below 0 and no NaN.  Of equal ones the one that stands first,
 * row by row, counts as lower: so as many are taken as were asked for.  What is
 * taken are bits of 0 in keep, a mask (mask.h). */
#ifndef TC_METHOD_LOWEST_H
#define TC_METHOD_LOWEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/thread.h"
#include "tensor/mask.h"

#define TC_NM_MAX 16 /* inputs among which some are chosen */

/* A matrix of them, made a row at a time as often as it is looked at. */
struct tc_scores {
	size_t rows, cols;
	void (*row)(const void *ctx, size_t row, int worker, float *score);
	const void *ctx;
};

void tc_keep_all(size_t rows, size_t cols, uint64_t *keep);

/* The lowest k of each row. */
int tc_lowest_of_rows(const struct tc_scores *s, size_t k, uint64_t *keep, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
/* The lowest n of every m in a row; m divides the columns. */
int tc_lowest_of_groups(const struct tc_scores *s, size_t n, size_t m, uint64_t *keep, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
/* Of m scores the lowest n, as bits. */
uint32_t tc_lowest_of_few(const float *score, size_t m, size_t n);

/* The lowest k of a matrix, or of several, which is found without their scores
 * being held: they are counted twice, by the high and then the low half of
 * their bits.
 *
 *   tc_lowest_open(&l, k, pool, &err);
 *   for (turn = 0; turn < TC_LOWEST_TURNS; turn++) {
 *           tc_lowest_count(&l, &scores, &err);      for each matrix
 *           tc_lowest_turn(&l);
 *   }
 *   tc_lowest_take(&l, &scores, keep, &err);         for each, in their order
 *   tc_lowest_close(&l);                             also after a failure */
enum { TC_LOWEST_TURNS = 2 };

struct tc_lowest {
	struct tc_pool *pool;
	int turn;
	uint64_t left;         /* of k, behind those that are lower than any with key's bits */
	uint32_t key;          /* the k-th lowest's bits, as far as they are known */
	uint64_t *count;       /* [threads][COUNTERS] */
	void *row;             /* float [threads][cols] */
	size_t row_bytes;
};

int tc_lowest_open(struct tc_lowest *l, uint64_t k, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
int tc_lowest_count(struct tc_lowest *l, const struct tc_scores *s, struct tc_err *err) TC_MUST_CHECK;
void tc_lowest_turn(struct tc_lowest *l);
int tc_lowest_take(struct tc_lowest *l, const struct tc_scores *s, uint64_t *keep, struct tc_err *err) TC_MUST_CHECK;
void tc_lowest_close(struct tc_lowest *l);

/* All of these for one matrix.  ties: where k is neither 0 nor all, those go as
 * well that are no higher than the next. */
int tc_lowest_of_all(const struct tc_scores *s, uint64_t k, bool ties, uint64_t *keep, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

#endif
