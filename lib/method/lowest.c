#include "method/lowest.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { COUNTERS = 1 << 16, DIGIT = 11, DIGITS = 3 };

/* In the order of the scores. */
static uint32_t
bits_of(float score)
{
	uint32_t bits;

	memcpy(&bits, &score, sizeof(bits));
	return bits & INT32_MAX;   /* 0 has a sign */
}

/* The counter in which the k-th is, k counted from 1; *k becomes its place among
 * those that were counted there. */
static uint32_t
find_counter(const uint64_t *count, size_t counters, uint64_t *k)
{
	size_t i = 0;

	while (i + 1 < counters && *k > count[i])
		*k -= count[i++];
	return (uint32_t)i;
}

static void
keep_all(uint64_t *keep, size_t cols)
{
	for (size_t i = 0; i < cols / 64; i++)
		keep[i] = UINT64_MAX;
	if (cols % 64)
		keep[cols / 64] = (UINT64_C(1) << cols % 64) - 1;
}

void
tc_keep_all(size_t rows, size_t cols, uint64_t *keep)
{
	for (size_t r = 0; r < rows; r++)
		keep_all(keep + r * tc_mask_words(cols), cols);
}

static void
drop(uint64_t *keep, size_t c)
{
	keep[c / 64] &= ~(UINT64_C(1) << c % 64);
}

/* Those with bits below key's, and the first `ties` of those with key's. */
static void
drop_lower(const float *score, size_t cols, uint32_t key, uint64_t ties, uint64_t *keep)
{
	for (size_t c = 0; c < cols; c++) {
		uint32_t bits = bits_of(score[c]);

		if (bits < key || (bits == key && ties > 0)) {
			drop(keep, c);
			ties -= bits == key;
		}
	}
}

/* ---- of each row ---- */

struct rows {
	const struct tc_scores *s;
	size_t k, n, m;        /* the lowest k, or n of every m */
	uint64_t *keep;
	float *row;            /* [threads][cols] */
	uint64_t *count;       /* [threads][1 << DIGIT] */
};

/* The bits of the k-th lowest; *k becomes how many with the same bits are among
 * the k. */
static uint32_t
kth(const float *score, size_t n, uint64_t *count, uint64_t *k)
{
	uint32_t key = 0, known = 0;

	for (int d = DIGITS - 1; d >= 0; d--) {
		int shift = d * DIGIT;

		memset(count, 0, sizeof(*count) << DIGIT);
		for (size_t i = 0; i < n; i++) {
			uint32_t bits = bits_of(score[i]);

			if ((bits & known) == key)
				count[bits >> shift & ((1 << DIGIT) - 1)]++;
		}
		key |= find_counter(count, 1 << DIGIT, k) << shift;
		known |= (uint32_t)((1 << DIGIT) - 1) << shift;
	}
	return key;
}

static void
take_row(void *ctx, size_t r, int worker)
{
	struct rows *j = ctx;
	size_t cols = j->s->cols;
	float *score = j->row + (size_t)worker * cols;
	uint64_t *keep = j->keep + r * tc_mask_words(cols), ties = j->k;
	uint32_t key;

	keep_all(keep, cols);
	if (j->k == 0)
		return;
	j->s->row(j->s->ctx, r, worker, score);
	key = kth(score, cols, j->count + ((size_t)worker << DIGIT), &ties);
	drop_lower(score, cols, key, ties, keep);
}

uint32_t
tc_lowest_of_few(const float *score, size_t m, size_t n)
{
	uint32_t taken = 0;

	for (size_t k = 0; k < n; k++) {
		size_t least = m;

		for (size_t i = 0; i < m; i++)
			if (!(taken >> i & 1) && (least == m || bits_of(score[i]) < bits_of(score[least])))
				least = i;
		taken |= UINT32_C(1) << least;
	}
	return taken;
}

static void
take_groups(void *ctx, size_t r, int worker)
{
	struct rows *j = ctx;
	size_t cols = j->s->cols;
	float *score = j->row + (size_t)worker * cols;
	uint64_t *keep = j->keep + r * tc_mask_words(cols);

	keep_all(keep, cols);
	j->s->row(j->s->ctx, r, worker, score);
	for (size_t c = 0; c < cols; c += j->m) {
		uint32_t taken = tc_lowest_of_few(score + c, j->m, j->n);

		for (size_t i = 0; i < j->m; i++)
			if (taken >> i & 1)
				drop(keep, c + i);
	}
}

static int
run_rows(struct rows *j, void (*fn)(void *ctx, size_t i, int worker), struct tc_pool *pool, struct tc_err *err)
{
	size_t threads = (size_t)tc_pool_threads(pool);

	j->row = tc_alloc(threads, j->s->cols * sizeof(*j->row), err);
	j->count = tc_alloc(threads, sizeof(*j->count) << DIGIT, err);
	if (j->row && j->count)
		tc_pool_run(pool, j->s->rows, fn, j);
	free(j->row);
	free(j->count);
	return j->row && j->count ? 0 : -1;
}

int
tc_lowest_of_rows(const struct tc_scores *s, size_t k, uint64_t *keep, struct tc_pool *pool, struct tc_err *err)
{
	return run_rows(&(struct rows){ .s = s, .k = k, .keep = keep }, take_row, pool, err);
}

int
tc_lowest_of_groups(const struct tc_scores *s, size_t n, size_t m, uint64_t *keep, struct tc_pool *pool, struct tc_err *err)
{
	return run_rows(&(struct rows){ .s = s, .n = n, .m = m, .keep = keep }, take_groups, pool, err);
}

/* ---- of all ---- */

int
tc_lowest_open(struct tc_lowest *l, uint64_t k, struct tc_pool *pool, struct tc_err *err)
{
	*l = (struct tc_lowest){ .pool = pool, .left = k };
	l->count = tc_zalloc((size_t)tc_pool_threads(pool), COUNTERS * sizeof(*l->count), err);
	return l->count ? 0 : -1;
}

void
tc_lowest_close(struct tc_lowest *l)
{
	free(l->count);
	free(l->row);
	*l = (struct tc_lowest){0};
}

struct look {
	struct tc_lowest *l;
	const struct tc_scores *s;
	uint64_t *keep;
	uint64_t *ties;        /* [rows] with the key's bits; then how many of them are taken */
};

static const float *
scores_of(const struct look *k, size_t r, int worker)
{
	float *score = (float *)k->l->row + (size_t)worker * k->s->cols;

	k->s->row(k->s->ctx, r, worker, score);
	return score;
}

static void
count_row(void *ctx, size_t r, int worker)
{
	struct look *k = ctx;
	uint64_t *count = k->l->count + (size_t)worker * COUNTERS;
	const float *score = scores_of(k, r, worker);

	for (size_t c = 0; c < k->s->cols; c++) {
		uint32_t bits = bits_of(score[c]);

		if (k->l->turn == 0)
			count[bits >> 16]++;
		else if (bits >> 16 == k->l->key >> 16)
			count[bits & UINT16_MAX]++;
	}
}

static int
room(struct tc_lowest *l, const struct tc_scores *s, struct tc_err *err)
{
	return tc_room(&l->row, &l->row_bytes, (size_t)tc_pool_threads(l->pool) * s->cols * sizeof(float), err);
}

int
tc_lowest_count(struct tc_lowest *l, const struct tc_scores *s, struct tc_err *err)
{
	if (room(l, s, err) < 0)
		return -1;
	tc_pool_run(l->pool, s->rows, count_row, &(struct look){ .l = l, .s = s });
	return 0;
}

void
tc_lowest_turn(struct tc_lowest *l)
{
	size_t threads = (size_t)tc_pool_threads(l->pool);

	for (size_t t = 1; t < threads; t++)
		for (size_t i = 0; i < COUNTERS; i++)
			l->count[i] += l->count[t * COUNTERS + i];
	if (l->left > 0)
		l->key |= find_counter(l->count, COUNTERS, &l->left) << (l->turn == 0 ? 16 : 0);
	memset(l->count, 0, threads * COUNTERS * sizeof(*l->count));
	l->turn++;
}

static void
count_ties(void *ctx, size_t r, int worker)
{
	struct look *k = ctx;
	const float *score = scores_of(k, r, worker);

	k->ties[r] = 0;
	for (size_t c = 0; c < k->s->cols; c++)
		k->ties[r] += bits_of(score[c]) == k->l->key;
}

static void
take_lower(void *ctx, size_t r, int worker)
{
	struct look *k = ctx;
	uint64_t *keep = k->keep + r * tc_mask_words(k->s->cols);
	const float *score = scores_of(k, r, worker);

	keep_all(keep, k->s->cols);
	drop_lower(score, k->s->cols, k->l->key, k->ties[r], keep);
}

int
tc_lowest_take(struct tc_lowest *l, const struct tc_scores *s, uint64_t *keep, struct tc_err *err)
{
	struct look k = { .l = l, .s = s, .keep = keep };

	if (room(l, s, err) < 0)
		return -1;
	k.ties = tc_alloc(s->rows, sizeof(*k.ties), err);
	if (!k.ties)
		return -1;
	tc_pool_run(l->pool, s->rows, count_ties, &k);
	for (size_t r = 0; r < s->rows; r++) {
		k.ties[r] = k.ties[r] < l->left ? k.ties[r] : l->left;
		l->left -= k.ties[r];
	}
	tc_pool_run(l->pool, s->rows, take_lower, &k);
	free(k.ties);
	return 0;
}

int
tc_lowest_of_all(const struct tc_scores *s, uint64_t k, bool ties, uint64_t *keep, struct tc_pool *pool, struct tc_err *err)
{
	bool next = ties && k > 0 && k < s->rows * s->cols;
	struct tc_lowest l;
	int r = tc_lowest_open(&l, k + next, pool, err);

	for (int turn = 0; r == 0 && turn < TC_LOWEST_TURNS; turn++) {
		r = tc_lowest_count(&l, s, err);
		tc_lowest_turn(&l);
	}
	if (next)
		l.left = UINT64_MAX;
	if (r == 0)
		r = tc_lowest_take(&l, s, keep, err);
	tc_lowest_close(&l);
	return r;
}
