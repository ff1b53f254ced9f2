/* GPTQ and the factor it spreads errors by: against the algorithm written plainly
 * in double, against its grids' method where nothing is to be made up for, and the
 * same bytes at any block size and number of threads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernel/kernel.h"
#include "kinds.h"
#include "layer.h"
#include "mask.h"
#include "method/compose.h"
#include "tap.h"

/* Half of the weights become 0. */
static void
prune(struct layer *l)
{
	for (size_t i = 0; i < ROWS * COLS; i++)
		if (tc_rng_below(&rng, 2) == 0)
			l->w[i] = 0;
}

static int
run(const struct tc_quant_options *o, const struct layer *l, struct tc_pool *pool, struct tc_quantized *q)
{
	struct tc_quant_input in = { .w = &l->t };
	struct tc_factor f;
	int r;

	err = (struct tc_err){0};
	*q = (struct tc_quantized){0};
	if (tc_factor_make(&f, l->packed, COLS, o->damping, o->act_order, &err) < 0)
		return -1;
	in.factor = &f;
	r = tc_gptq_run(o, &in, q, pool, &err);
	tc_factor_free(&f);
	return r;
}

/* ---- the algorithm, plainly ---- */

/* Upper r with r^T r = (h + d I)^-1, by Gauss and Cholesky. */
static void
plain_factor(const double *h, double damping, double *r)
{
	static double a[COLS][2 * COLS];
	double mean = 0;

	for (size_t i = 0; i < COLS; i++)
		mean += h[i * COLS + i] / COLS;
	for (size_t i = 0; i < COLS; i++)
		for (size_t j = 0; j < COLS; j++) {
			a[i][j] = h[i * COLS + j] + (i == j ? damping * mean : 0);
			a[i][COLS + j] = i == j;
		}
	for (size_t k = 0; k < COLS; k++) {
		double pivot = a[k][k];

		for (size_t j = 0; j < 2 * COLS; j++)
			a[k][j] /= pivot;
		for (size_t i = 0; i < COLS; i++) {
			double f = a[i][k];

			for (size_t j = 0; i != k && j < 2 * COLS; j++)
				a[i][j] -= f * a[k][j];
		}
	}
	memset(r, 0, COLS * COLS * sizeof(*r));
	for (size_t i = 0; i < COLS; i++)
		for (size_t j = i; j < COLS; j++) {
			double s = a[i][COLS + j];

			for (size_t k = 0; k < i; k++)
				s -= r[k * COLS + i] * r[k * COLS + j];
			r[i * COLS + j] = i == j ? sqrt(s) : s / r[i * COLS + i];
		}
}

/* Asymmetric 4 bit, one group a row, whose grid is that of the weights as they
 * came (a row's group is entered first); what came as 0 stays 0. */
static void
plain_gptq(const struct layer *l, double damping, double *q)
{
	static double r[COLS * COLS];

	plain_factor(l->h, damping, r);
	for (size_t row = 0; row < ROWS; row++) {
		double w[COLS], low = 0, high = 0, s, zero;

		for (size_t i = 0; i < COLS; i++) {
			w[i] = (double)l->w[row * COLS + i];
			low = fmin(low, w[i]);
			high = fmax(high, w[i]);
		}
		s = (double)(float)((high - low) / 15);
		zero = nearbyint(-low / s);
		for (size_t i = 0; i < COLS; i++) {
			double code = fmin(fmax(nearbyint(w[i] / s) + zero, 0), 15), e;

			q[row * COLS + i] = l->w[row * COLS + i] == 0 ? 0 : s * (code - zero);
			e = (w[i] - q[row * COLS + i]) / r[i * COLS + i];
			for (size_t k = i + 1; k < COLS; k++)
				w[k] -= e * r[i * COLS + k];
		}
	}
}

static void
test_against_plain(const char *kind, bool pruned)
{
	struct tc_quant_options o = { .bits = 4, .group = TC_GROUP_ROW, .zero = TC_ZERO_INT, .scale = TC_F32, .damping = 0.01, .block = 128 };
	static struct layer l;
	static float got[ROWS * COLS];
	static double want[ROWS * COLS];
	struct tc_quantized q;
	size_t rows_alike = 0;

	make(&l, TOKENS, -1);
	if (pruned)
		prune(&l);
	if (!ok(run(&o, &l, NULL, &q) == 0, "%s: runs", kind)) {
		printf("# %s\n", err.msg);
		return;
	}
	numbers(&q, got);
	plain_gptq(&l, 0.01, want);
	/* A tie that rounding decides otherwise changes the rest of its row. */
	for (size_t r = 0; r < ROWS; r++) {
		double most = 0;

		for (size_t i = 0; i < COLS; i++)
			most = fmax(most, fabs((double)got[r * COLS + i] - want[r * COLS + i]));
		rows_alike += most < 1e-5;
	}
	ok(rows_alike >= ROWS - 2, "%s: as the algorithm in double%s, %zu of %d rows", kind,
	    pruned ? ", half of the weights 0" : "", rows_alike, ROWS);
	tc_quantized_free(&q);
}

/* ---- properties ---- */

/* On some of a method's grids, gptq and the method itself. */
static bool
alike_on(const struct layer *l, const struct tc_quantizer *grid, const struct tc_quant_options *o)
{
	struct tc_quant_input in = { .w = &l->t };
	struct tc_quant_options with = *o;
	struct tc_quantized a, b;
	bool alike;

	with.grid = grid;
	alike = run(&with, l, NULL, &a) == 0 && tc_quantizer_run(grid, o, &in, &b, NULL, &err) == 0 && same(&a, &b);
	tc_quantized_free(&a);
	tc_quantized_free(&b);
	return alike;
}

/* Nothing is made up for when inputs do not go together. */
static void
test_diagonal(const char *kind, const struct tc_quantizer *grid, bool mse)
{
	static struct layer l;
	static const uint64_t groups[] = { 7, 16, 32, TC_GROUP_ROW };

	make(&l, TOKENS, -1);
	for (size_t i = 0; i < COLS; i++)
		for (size_t j = 0; j < i; j++)
			l.packed[i * (i + 1) / 2 + j] = 0;
	for (int bits = grid->bits_min; bits <= grid->bits_max; bits++) {
		bool alike = true;

		for (int zero = 0; zero < TC_ZEROS; zero++)
			for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++)
				for (int order = 0; order < 2; order++)
					if (grid->zeros ? grid->zeros >> zero & 1 : zero == 0)
						alike &= alike_on(&l, grid, &(struct tc_quant_options){ .bits = bits, .group = groups[g],
							.zero = (enum tc_zero)zero, .levels = TC_LEVELS_FULL, .scale = TC_F16, .mse = mse,
							.damping = 0.01, .act_order = order, .block = 128 });
		ok(alike, "%s: a diagonal Hessian gives %s's codes%s, %d bits, every grid, group and order", kind, grid->name,
		    mse ? ", ranges searched for" : "", bits);
	}
}

/* Of output error, on a method's grids, against the method's. */
static void
test_grid_error(const char *kind, const struct tc_quantizer *grid)
{
	struct tc_quant_options o = { .bits = grid->bits_min > 3 ? grid->bits_min : 3, .group = 32, .scale = TC_F32,
		.zero = grid->zeros ? TC_ZERO_MIN : TC_ZERO_NONE, .damping = 0.01, .block = 128, .grid = grid };
	static struct layer l;
	static float w[ROWS * COLS];
	struct tc_quantized q;
	double ours = INFINITY, plain = 0;

	make(&l, TOKENS, -1);
	if (run(&o, &l, NULL, &q) == 0) {
		numbers(&q, w);
		ours = output_error(&l, w);
	}
	tc_quantized_free(&q);
	if (tc_quantizer_run(grid, &o, &(struct tc_quant_input){ .w = &l.t }, &q, NULL, &err) == 0) {
		numbers(&q, w);
		plain = output_error(&l, w);
	}
	tc_quantized_free(&q);
	ok(ours < 0.5 * plain, "%s: output error %.2f of %s's, on its grids", kind, ours / plain, grid->name);
}

static void
test_error(const char *kind)
{
	static struct layer l;
	static float w[ROWS * COLS];

	make(&l, TOKENS, -1);
	for (int bits = 2; bits <= 4; bits++)
		for (int order = 0; order < 3; order++) {
			struct tc_quant_options o = { .bits = bits, .group = 32, .zero = TC_ZERO_INT, .scale = TC_F32, .damping = 0.01,
				.act_order = order == 2, .static_groups = order == 1, .block = 128 };
			struct tc_quant_input in = { .w = &l.t };
			struct tc_quantized q;
			double ours = 0, plain = 0;

			if (run(&o, &l, NULL, &q) == 0) {
				numbers(&q, w);
				ours = output_error(&l, w);
			}
			tc_quantized_free(&q);
			if (tc_quantizer_run(tc_quantizer_find("rtn"), &o, &in, &q, NULL, &err) == 0) {
				numbers(&q, w);
				plain = output_error(&l, w);
			}
			tc_quantized_free(&q);
			ok(ours > 0 && ours < 0.5 * plain, "%s: %d bits%s: output error %.2f of round to nearest's", kind, bits,
			    order == 2 ? ", by size" : order == 1 ? ", static" : "", ours / plain);
		}
}

static void
test_same_bits(const char *kind, struct tc_pool *pool)
{
	static const uint64_t groups[] = { 5, 20, 48, TC_GROUP_ROW };
	static const int blocks[] = { 1, 17, 64, 1000 };
	static struct layer l;

	make(&l, TOKENS, 3);
	for (size_t g = 0; g < sizeof(groups) / sizeof(groups[0]); g++)
		for (int order = 0; order < 2; order++) {
			struct tc_quant_options o = { .bits = 3, .group = groups[g], .zero = TC_ZERO_INT, .scale = TC_F32,
				.damping = 0.01, .act_order = order, .block = 128 };
			struct tc_quantized a, b;

			if (!ok(run(&o, &l, NULL, &a) == 0, "%s: groups of %lld", kind, (long long)groups[g]))
				continue;
			for (size_t k = 0; k < sizeof(blocks) / sizeof(blocks[0]); k++) {
				o.block = blocks[k];
				ok(run(&o, &l, pool, &b) == 0 && same(&a, &b), "%s: the same with blocks of %d and 3 threads", kind, blocks[k]);
				tc_quantized_free(&b);
			}
			tc_quantized_free(&a);
		}
}

/* Where the grids have it: with and without gptq. */
static void
test_zeros(const struct tc_quantizer *grid, enum tc_zero zero, bool has)
{
	static struct layer l;
	static float w[ROWS * COLS];

	make(&l, TOKENS, -1);
	prune(&l);
	for (int bits = grid->bits_min > 2 ? grid->bits_min : 2; bits <= grid->bits_max; bits++)
		for (int way = 0; way < 4; way++) {
			struct tc_quant_options o = { .bits = bits, .group = 32, .zero = zero, .levels = bits % 2 ? TC_LEVELS_ODD : TC_LEVELS_FULL,
				.scale = TC_F16, .damping = 0.01, .act_order = way == 2, .static_groups = way == 1, .block = 128, .grid = grid };
			struct tc_quantized q;
			size_t zeros = 0, kept = 0;

			if (way == 3 ? tc_quantizer_run(grid, &o, &(struct tc_quant_input){ .w = &l.t }, &q, NULL, &err) < 0 : run(&o, &l, NULL, &q) < 0) {
				ok(false, "%s: %s", grid->name, err.msg);
				continue;
			}
			numbers(&q, w);
			for (size_t i = 0; i < ROWS * COLS; i++) {
				zeros += l.w[i] == 0;
				kept += l.w[i] == 0 && w[i] == 0;
			}
			ok(has ? kept == zeros : kept < zeros / 2, "%s %s, %d bits, zero %s: %zu of %zu weights stay 0", grid->name,
			    way == 3 ? "alone" : "with gptq", bits, tc_zero_names[zero], kept, zeros);
			tc_quantized_free(&q);
		}
}

/* Half of the weights have a mask: grids without 0 are for the others, whose errors
 * and those of what stays 0 are made up for. */
static void
test_masked(const struct tc_quantizer *grid, enum tc_zero zero, bool is_static)
{
	const struct tc_compose plain = { .clip_z = NAN };
	struct tc_quant_options o = { .bits = 3, .group = 32, .zero = zero, .scale = TC_F16, .damping = 0.01, .static_groups = is_static,
		.block = 128, .grid = grid };
	static struct layer l;
	static float pruned[ROWS * COLS];
	uint64_t *keep = random_mask(&rng, ROWS, COLS, 0.5);
	struct tc_quantized q[2];
	struct tc_kept k;
	double e[2];
	bool zeros = true;

	make(&l, TOKENS, -1);
	for (size_t i = 0; i < ROWS * COLS; i++)
		l.w[i] = 3 + l.w[i] / 4;  /* far from 0 */
	if (tc_mask_apply(&k, &l.t, keep, &err) < 0)
		exit(1);
	tc_tensor_read_rows(&k.t, 0, ROWS, pruned);
	l.t = k.t;
	for (int way = 0; way < 2; way++) {
		struct tc_quant_input in = { .w = &l.t };
		struct tc_factor f;
		static float w[ROWS * COLS];

		if (tc_factor_make(&f, l.packed, COLS, o.damping, false, &err) < 0)
			exit(1);
		in.factor = &f;
		if (tc_compose_run(&plain, way ? tc_quantizer_find("gptq") : grid, &o, &in, &q[way], NULL, &err) < 0)
			exit(1);
		numbers(&q[way], w);
		for (size_t i = 0; i < ROWS * COLS; i++) {
			zeros &= pruned[i] != 0 || w[i] == 0;
			w[i] -= pruned[i];
		}
		e[way] = 0;
		for (size_t r = 0; r < ROWS; r++)
			for (size_t i = 0; i < COLS; i++)
				for (size_t j = 0; j < COLS; j++)
					e[way] += (double)w[r * COLS + i] * l.h[i * COLS + j] * (double)w[r * COLS + j];
		tc_factor_free(&f);
		tc_quantized_free(&q[way]);
	}
	ok(zeros && e[1] < 0.5 * e[0], "%s, zero %s%s: what has a mask stays 0, the rest makes up for its error (%.3g of %.3g)", grid->name,
	    tc_zero_names[zero], is_static ? ", static groups" : "", e[1], e[0]);
	tc_kept_free(&k);
	free(keep);
}

static void
test_few_tokens(const char *kind)
{
	struct tc_quant_options o = { .bits = 4, .group = 32, .zero = TC_ZERO_INT, .scale = TC_F32, .block = 128 };
	static struct layer l;
	static float w[ROWS * COLS];
	struct tc_quantized q;
	bool finite = true, zero = true;

	make(&l, 20, 7);  /* of rank 20, and not damped: damping grows */
	if (ok(run(&o, &l, NULL, &q) == 0, "%s: fewer tokens than inputs", kind)) {
		numbers(&q, w);
		for (size_t i = 0; i < ROWS * COLS; i++)
			finite &= isfinite(w[i]) && fabsf(w[i]) < 100;
		for (size_t r = 0; r < ROWS; r++)
			zero &= w[r * COLS + 7] == 0;
		ok(finite, "%s: it stays finite", kind);
		ok(zero, "%s: an input that is always 0 has no weight", kind);
	}
	tc_quantized_free(&q);
}

static void
test_factor(void)
{
	static struct layer l;
	static double want[COLS * COLS];
	struct tc_factor f;
	double most = 0;

	make(&l, TOKENS, -1);
	plain_factor(l.h, 0.01, want);
	if (!ok(tc_factor_make(&f, l.packed, COLS, 0.01, false, &err) == 0, "a factor"))
		return;
	for (size_t i = 0; i < COLS * COLS; i++)
		most = fmax(most, fabs((double)f.r[i] - want[i]) / want[(COLS - 1) * COLS + COLS - 1]);
	ok(most < 1e-4, "R is that of Gauss and Cholesky within 1e-4 (%.1e)", most);
	tc_factor_free(&f);
	if (!ok(tc_factor_make(&f, l.packed, COLS, 0.01, true, &err) == 0, "one in order"))
		return;
	most = INFINITY;
	for (size_t i = 0; i < COLS; i++) {
		double d = l.h[f.order[i] * COLS + f.order[i]];

		ok(d <= most, "input %zu is not larger than the one before", i);
		most = d;
	}
	tc_factor_free(&f);
	for (size_t i = 0; i < COLS; i++)
		l.packed[i * (i + 1) / 2 + i] = -1;
	ok(tc_factor_make(&f, l.packed, COLS, 0.01, false, &err) < 0 && err.code == TC_DATA, "a matrix that is no Hessian is refused");
}

static void
test_missing(void)
{
	struct tc_quant_options o = { .bits = 4, .group = 32, .scale = TC_F32, .block = 128 };
	static struct layer l;
	struct tc_quantized q;

	make(&l, 1, -1);
	err = (struct tc_err){0};
	ok(tc_gptq_run(&o, &(struct tc_quant_input){ .w = &l.t }, &q, NULL, &err) < 0 && err.code == TC_DATA && strstr(err.msg, "Hessian"),
	    "without a Hessian: %s", err.msg);
}

int
main(void)
{
	const struct tc_kernels *kinds[8];
	size_t n = kinds_to_test(kinds, 8);
	struct tc_pool *pool;

	tc_rng_seed(&rng, 11);
	if (tc_pool_open(&pool, 3, &err) < 0)
		return 1;
	for (size_t k = 0; k < n; k++) {
		if (tc_kernels_select(kinds[k]->name, &err) < 0)
			return 1;
		test_against_plain(kinds[k]->name, false);
		test_against_plain(kinds[k]->name, true);
		test_diagonal(kinds[k]->name, tc_quantizer_find("rtn"), false);
		for (const struct tc_quantizer *grid = tc_quantizers; grid->name; grid++)
			if (grid->fitter)
				test_grid_error(kinds[k]->name, grid);
		test_error(kinds[k]->name);
		test_same_bits(kinds[k]->name, pool);
		test_few_tokens(kinds[k]->name);
	}
	/* How grids are chosen does not depend on the kernels. */
	for (const struct tc_quantizer *grid = tc_quantizers + 1; grid->name; grid++)
		if (grid->fitter)
			test_diagonal(kinds[n - 1]->name, grid, false);
	test_diagonal(kinds[n - 1]->name, tc_quantizer_find("rtn"), true);
	for (int zero = 0; zero < TC_ZEROS; zero++)
		test_zeros(tc_quantizer_find("rtn"), (enum tc_zero)zero, zero != TC_ZERO_MIN);
	test_zeros(tc_quantizer_find("opt"), TC_ZERO_NONE, true);
	test_zeros(tc_quantizer_find("opt"), TC_ZERO_INT, true);
	test_zeros(tc_quantizer_find("nf4"), TC_ZERO_NONE, true);
	test_zeros(tc_quantizer_find("nf3"), TC_ZERO_NONE, true);
	for (int is_static = 0; is_static < 2; is_static++) {
		test_masked(tc_quantizer_find("rtn"), TC_ZERO_MIN, is_static);
		test_masked(tc_quantizer_find("rtn"), TC_ZERO_INT, is_static);
		test_masked(tc_quantizer_find("lloyd"), TC_ZERO_NONE, is_static);
	}
	test_factor();
	test_missing();
	tc_pool_close(pool);
	return done_testing();
}
