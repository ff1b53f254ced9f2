#include "metric/difference.h"

#include <math.h>
#include <stdlib.h>

#include "base/math.h"

#define TILE_ROWS 32        /* summed one after another */
#define LN_10 2.302585092994045684

struct tile {
	struct tc_difference d;
	uint64_t bad_at;        /* UINT64_MAX: all numbers are finite */
	bool bad_b;             /* it is b's */
};

struct job {
	const struct tc_tensor *a, *b;
	size_t rows, cols;
	float *row;             /* a row of a and one of b per worker */
	struct tile *tile;
};

static void
add_row(struct tile *t, const float *a, const float *b, size_t cols, uint64_t at)
{
	double norm2 = 0, diff2 = 0;

	for (size_t i = 0; i < cols; i++) {
		double x = a[i], diff = fabs(x - b[i]);

		/* A difference that is not finite has an operand that is not. */
		if (!isfinite(diff) && t->bad_at == UINT64_MAX) {
			t->bad_at = at + i;
			t->bad_b = isfinite(x);
		}
		norm2 += x * x;
		diff2 += diff * diff;
		t->d.unequal += diff != 0;
		if (diff > t->d.max_abs) {
			t->d.max_abs = diff;
			t->d.max_at = at + i;
		}
	}
	t->d.norm2 += norm2;
	t->d.diff2 += diff2;
}

static void
run_tile(void *ctx, size_t i, int worker)
{
	const struct job *k = ctx;
	size_t end = tc_min((i + 1) * TILE_ROWS, k->rows);
	float *a = k->row + (size_t)worker * 2 * k->cols, *b = a + k->cols;

	k->tile[i] = (struct tile){ .bad_at = UINT64_MAX };
	for (size_t row = i * TILE_ROWS; row < end; row++) {
		tc_tensor_read_rows(k->a, row, 1, a);
		tc_tensor_read_rows(k->b, row, 1, b);
		add_row(&k->tile[i], a, b, k->cols, (uint64_t)row * k->cols);
	}
}

static int
add_tiles(struct tc_difference *d, const struct job *k, size_t ntiles, struct tc_err *err)
{
	for (size_t i = 0; i < ntiles; i++) {
		const struct tile *t = &k->tile[i];

		if (t->bad_at != UINT64_MAX)
			return tc_fail(err, TC_DATA, "%s: weight %llu of the %s model is NaN or infinite", k->a->name,
			    (unsigned long long)t->bad_at, t->bad_b ? "second" : "first");
		if (t->d.max_abs > d->max_abs)
			d->max_at = t->d.max_at;
		tc_difference_add(d, &t->d);
	}
	return 0;
}

int
tc_difference_measure(struct tc_difference *d, const struct tc_tensor *a, const struct tc_tensor *b, struct tc_pool *pool,
    struct tc_err *err)
{
	struct job k = { .a = a, .b = b, .rows = tc_tensor_rows(a), .cols = tc_tensor_cols(a) };
	size_t ntiles = k.rows / TILE_ROWS + (k.rows % TILE_ROWS != 0), workers = (size_t)tc_pool_threads(pool);
	size_t floats;
	int r = -1;

	*d = (struct tc_difference){0};
	if (tc_mul_over(k.cols, 2 * workers, &floats))
		return tc_fail_nomem(err, SIZE_MAX);
	k.row = tc_alloc(floats, sizeof(*k.row), err);
	if (!k.row)
		goto out;
	k.tile = tc_alloc(ntiles, sizeof(*k.tile), err);
	if (!k.tile)
		goto out;
	tc_pool_run(pool, ntiles, run_tile, &k);
	r = add_tiles(d, &k, ntiles, err);
out:
	free(k.row);
	free(k.tile);
	return r;
}

void
tc_difference_add(struct tc_difference *total, const struct tc_difference *d)
{
	total->norm2 += d->norm2;
	total->diff2 += d->diff2;
	total->unequal += d->unequal;
	if (d->max_abs > total->max_abs)
		total->max_abs = d->max_abs;
}

double
tc_difference_relative(const struct tc_difference *d)
{
	if (d->unequal == 0)
		return 0;
	return d->norm2 > 0 ? sqrt(d->diff2 / d->norm2) : INFINITY;
}

double
tc_difference_snr_db(const struct tc_difference *d)
{
	if (d->unequal == 0)
		return INFINITY;
	return d->norm2 > 0 ? 10 / LN_10 * tc_log(d->norm2 / d->diff2) : -INFINITY;
}
