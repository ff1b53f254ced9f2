/* Low rank: factors against an eigendecomposition by Jacobi's rotations, what they
 * leave over against the weights themselves, and ranks within a budget against all
 * there are. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gauss.h"
#include "method/factored.h"
#include "method/lowrank.h"
#include "method/ranks.h"
#include "model/linear.h"
#include "quantized.h"
#include "solve/lapack.h"
#include "tap.h"
#include "tensor/input_op.h"

enum { MOST = 96, TOKENS = 300 };

static struct tc_rng rng;
static struct tc_err err;
static struct tc_pool *pool;

enum metric { NONE, SQUARES, HESSIAN, METRICS };
static const char *const names[METRICS] = { "no metric", "squares", "a Hessian" };

/* A layer and what it was calibrated on. */
struct layer {
	size_t rows, cols;
	float w[MOST * MOST], packed[MOST * (MOST + 1) / 2];
	double h[MOST * MOST], squares[MOST];
	struct tc_tensor t;
};

/* dead: an input that is always 0, or -1. */
static void
make(struct layer *l, size_t rows, size_t cols, size_t rank, int dead)
{
	static double a[MOST * MOST], b[MOST * MOST];
	double x[MOST];

	*l = (struct layer){ .rows = rows, .cols = cols };
	for (size_t i = 0; i < rows * rank; i++)
		a[i] = gauss(&rng);
	for (size_t i = 0; i < rank * cols; i++)
		b[i] = gauss(&rng);
	for (size_t i = 0; i < rows; i++)
		for (size_t j = 0; j < cols; j++) {
			double sum = 0;

			for (size_t k = 0; k < rank; k++)
				sum += a[i * rank + k] * b[k * cols + j];
			l->w[i * cols + j] = (float)sum;
		}
	for (size_t t = 0; t < TOKENS; t++) {
		double common = gauss(&rng);

		for (size_t i = 0; i < cols; i++)
			x[i] = (int)i == dead ? 0 : (0.1 + 3 * (double)(i % 7)) * (gauss(&rng) + common);
		for (size_t i = 0; i < cols; i++)
			for (size_t j = 0; j < cols; j++)
				l->h[i * cols + j] += x[i] * x[j];
	}
	for (size_t i = 0; i < cols; i++) {
		for (size_t j = 0; j <= i; j++)
			l->packed[i * (i + 1) / 2 + j] = (float)l->h[i * cols + j];
		l->squares[i] = l->h[i * cols + i];
	}
	l->t = dense(l->w, rows, cols);
	l->t.role = TC_ROLE_Q;
}

static struct tc_lowrank_input
input_of(const struct layer *l, enum metric metric)
{
	return (struct tc_lowrank_input){ .w = &l->t, .hessian = metric == HESSIAN ? l->packed : NULL,
		.squares = metric == NONE ? NULL : l->squares, .damping = 0.01 };
}

/* Element of M. */
static double
weight_of(const struct layer *l, enum metric metric, size_t i, size_t j)
{
	double mean = 0;

	for (size_t k = 0; k < l->cols; k++)
		mean += l->squares[k] / (double)l->cols;
	if (metric == NONE)
		return i == j;
	return (metric == HESSIAN || i == j ? l->h[i * l->cols + j] : 0) + (i == j ? 0.01 * mean : 0);
}

/* tr(D M D^T), D = w less t's weights. */
static double
lost_by(const struct layer *l, enum metric metric, const struct tc_tensor *t)
{
	static float q[MOST * MOST];
	static double d[MOST];
	double sum = 0;

	tc_tensor_read_rows(t, 0, l->rows, q);
	for (size_t r = 0; r < l->rows; r++) {
		for (size_t j = 0; j < l->cols; j++)
			d[j] = (double)l->w[r * l->cols + j] - (double)q[r * l->cols + j];
		for (size_t i = 0; i < l->cols; i++)
			for (size_t j = 0; j < l->cols; j++)
				sum += d[i] * weight_of(l, metric, i, j) * d[j];
	}
	return sum;
}

static int
by_size(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;

	return (a < b) - (a > b);
}

/* Of a symmetric matrix, descending, by Jacobi's rotations. */
static void
plain_eigenvalues(double *a, size_t n, double *value)
{
	for (int sweep = 0; sweep < 20; sweep++)
		for (size_t p = 0; p < n; p++)
			for (size_t q = p + 1; q < n; q++) {
				double theta = 0.5 * atan2(2 * a[p * n + q], a[p * n + p] - a[q * n + q]);
				double c = cos(theta), s = sin(theta);

				for (size_t k = 0; k < n; k++) {
					double x = a[p * n + k], y = a[q * n + k];

					a[p * n + k] = c * x + s * y;
					a[q * n + k] = c * y - s * x;
				}
				for (size_t k = 0; k < n; k++) {
					double x = a[k * n + p], y = a[k * n + q];

					a[k * n + p] = c * x + s * y;
					a[k * n + q] = c * y - s * x;
				}
			}
	for (size_t i = 0; i < n; i++)
		value[i] = a[i * n + i];
	qsort(value, n, sizeof(*value), by_size);
}

/* The eigenvalues of W M W^T, of which the first n may be other than 0. */
static void
plain_spectrum(const struct layer *l, enum metric metric, double *value)
{
	static double wm[MOST * MOST], g[MOST * MOST];

	for (size_t r = 0; r < l->rows; r++)
		for (size_t j = 0; j < l->cols; j++) {
			wm[r * l->cols + j] = 0;
			for (size_t i = 0; i < l->cols; i++)
				wm[r * l->cols + j] += (double)l->w[r * l->cols + i] * weight_of(l, metric, i, j);
		}
	for (size_t r = 0; r < l->rows; r++)
		for (size_t s = 0; s < l->rows; s++) {
			g[r * l->rows + s] = 0;
			for (size_t j = 0; j < l->cols; j++)
				g[r * l->rows + s] += wm[r * l->cols + j] * (double)l->w[s * l->cols + j];
		}
	plain_eigenvalues(g, l->rows, value);
}

static struct tc_quantized
made(const struct tc_lowrank_input *in, size_t rank, enum tc_dtype dtype, struct tc_pool *threads)
{
	struct tc_quantized q = {0};
	struct tc_lowrank l;

	if (tc_lowrank_open(&l, in, true, threads, &err) < 0 || tc_lowrank_make(&l, rank, dtype, &q, threads, &err) < 0)
		printf("# %s\n", err.msg);
	tc_lowrank_close(&l);
	return q;
}

static void
test_spectrum(const struct layer *l, enum metric metric, const char *shape)
{
	struct tc_lowrank_input in = input_of(l, metric);
	double value[MOST], off = 0, sum = 0, before;
	struct tc_lowrank r;
	int descends = 1;

	if (!ok(tc_lowrank_open(&r, &in, true, NULL, &err) == 0, "%s, %s", shape, names[metric]))
		return;
	plain_spectrum(l, metric, value);
	for (size_t i = r.n; i-- > 0;) {
		off = fmax(off, fabs(r.value[i] - value[i]) / value[0]);
		sum += value[i];
		off = fmax(off, fabs(r.lost[i] - sum) / r.total);
	}
	ok(off < 1e-6, "... the spectrum is that of Jacobi's rotations (%.1e)", off);
	off = 0;
	before = INFINITY;
	for (size_t rank = 1; rank <= r.n; rank += 7) {
		struct tc_quantized q = made(&in, rank, TC_F32, NULL);
		double lost = lost_by(l, metric, &q.t);

		off = fmax(off, fabs(lost - r.lost[rank]) / r.total);
		descends &= lost < before;
		before = lost;
		tc_quantized_free(&q);
	}
	ok(off < 1e-6, "... factors leave what the spectrum says (%.1e)", off);
	ok(descends, "... the less, the higher the rank");
	tc_lowrank_close(&r);
}

/* No factors leave less: others of the same rank, near them, leave more. */
static void
test_best(const struct layer *l, enum metric metric)
{
	enum { RANK = 9, TRIALS = 40 };
	struct tc_lowrank_input in = input_of(l, metric);
	struct tc_quantized q = made(&in, RANK, TC_F32, NULL);
	double least = lost_by(l, metric, &q.t);
	int best = 1;

	for (int i = 0; i < TRIALS; i++) {
		struct tc_part *part = &q.t.part[i % 2];
		size_t at = tc_rng_below(&rng, part->size_bytes / sizeof(float));
		float *x = (float *)part->data + at, was = *x;

		*x *= i % 4 < 2 ? 1.1f : 0.9f;
		best &= lost_by(l, metric, &q.t) > least;
		*x = was;
	}
	tc_quantized_free(&q);
	ok(best, "%s: no number of a factor could be better", names[metric]);
}

static void
test_exact(void)
{
	static const size_t shape[][2] = { { 40, 90 }, { 90, 40 }, { 64, 64 } };
	static struct layer l;

	for (size_t s = 0; s < 3; s++)
		for (enum metric m = 0; m < METRICS; m++) {
			struct tc_lowrank_input in = input_of(&l, m);
			struct tc_quantized q;
			struct tc_lowrank r;
			double left;

			make(&l, shape[s][0], shape[s][1], 5, -1);
			in = input_of(&l, m);
			q = made(&in, 5, TC_F32, NULL);
			left = sqrt(lost_by(&l, m, &q.t));
			if (tc_lowrank_open(&r, &in, false, NULL, &err) < 0)
				exit(1);
			ok(left < 1e-6 * sqrt(r.total) && tc_lowrank_rank_of(&r, 1e-9) == 5 && tc_lowrank_rank_of(&r, 1) == 0,
			    "%zu x %zu of rank 5, %s: is had again (%.1e)", shape[s][0], shape[s][1], names[m], left / sqrt(r.total));
			ok(q.t.format.encoding == TC_NONE && q.t.rank == 5 && q.t.nparts == 2 &&
			    tc_tensor_bytes(&q.t) == tc_lowrank_bytes(shape[s][0], shape[s][1], 5, TC_F32), "... in as many bytes");
			tc_lowrank_close(&r);
			tc_quantized_free(&q);
		}
}

/* 16 bits cost little, and all threads make the same. */
static void
test_types(const struct layer *l)
{
	static const enum tc_dtype type[] = { TC_F32, TC_F16, TC_BF16 };
	struct tc_lowrank_input in = input_of(l, HESSIAN);
	double first = 0;

	for (size_t i = 0; i < 3; i++) {
		struct tc_quantized a = made(&in, 20, type[i], NULL), b = made(&in, 20, type[i], pool);
		double lost = lost_by(l, HESSIAN, &a.t);
		int same = 1;

		for (int k = 0; k < a.t.nparts; k++)
			same &= memcmp(a.t.part[k].data, b.t.part[k].data, a.t.part[k].size_bytes) == 0;
		first = i ? first : lost;
		ok(same, "%s: 1 and 2 threads, the same bytes", tc_dtypes[type[i]].name);
		ok(lost <= 1.01 * first, "... and not much is lost by the type (%.6f)", lost / first);
		tc_quantized_free(&a);
		tc_quantized_free(&b);
	}
}

/* What q lacks, behind all that may be done to its input. */
static void
test_residual(struct layer *l)
{
	const struct tc_quant_options o = OPTIONS(3, 32, TC_ZERO_INT, TC_LEVELS_ODD, TC_F16);
	struct tc_quant_input rtn = { .w = &l->t };
	struct tc_lowrank_input in = input_of(l, HESSIAN);
	static uint16_t scale[MOST];
	struct tc_quantized q, f;
	struct tc_tensor t;
	struct tc_lowrank r;
	double before, after;

	if (tc_quantizer_run(tc_quantizer_find("rtn"), &o, &rtn, &q, NULL, &err) < 0)
		exit(1);
	for (int ops = 0; ops < 2; ops++) {
		t = q.t;
		if (ops) {
			const void *data[] = { t.part[0].data, t.part[1].data, t.part[2].data };

			t.nops = 2;
			t.op[0] = (struct tc_input_op){ .kind = TC_OP_SCALE };
			t.op[1] = (struct tc_input_op){ TC_OP_HADAMARD, l->cols & -l->cols, 77 };
			if (tc_tensor_layout(&t, &err) < 0)
				exit(1);
			for (int i = 0; i < 3; i++)
				t.part[i].data = data[i];
			for (size_t i = 0; i < l->cols; i++)
				scale[i] = tc_f16_from_f32(i % 3 ? 0.75f : 2);
			t.part[3].data = scale;
		}
		in.q = &t;
		if (tc_lowrank_open(&r, &in, true, NULL, &err) < 0 || tc_lowrank_make(&r, 12, TC_F32, &f, NULL, &err) < 0)
			exit(1);
		before = lost_by(l, HESSIAN, &t);
		after = lost_by(l, HESSIAN, &f.t);
		ok(fabs(before - r.lost[0]) < 1e-5 * before && fabs(after - r.lost[12]) < 1e-4 * before && after < 0.7 * before,
		    "a residual%s: %.4f of the error is left", ops ? " behind input ops" : "", after / before);
		ok(f.t.format.encoding == TC_UNIFORM && f.t.nparts == t.nparts + 2 && f.t.nops == t.nops &&
		    memcmp(f.t.part[0].data, q.t.part[0].data, q.t.part[0].size_bytes) == 0, "... and the codes are as they were");
		ok(fabs(r.total - lost_by(l, HESSIAN, &(struct tc_tensor){ .ndim = 2, .shape = { l->rows, l->cols },
		    .format.encoding = TC_NONE })) < 1e-5 * r.total, "... the error counts by the output of the weights");
		tc_lowrank_close(&r);
		tc_quantized_free(&f);
	}
	tc_quantized_free(&q);
}

static void
test_edges(void)
{
	static struct layer l;
	struct tc_lowrank_input in;
	struct tc_quantized q;
	struct tc_lowrank r;

	make(&l, 70, 30, 30, 4);
	in = input_of(&l, HESSIAN);
	in.damping = 0;
	ok(tc_lowrank_open(&r, &in, false, NULL, &err) == 0 && r.damping > 0, "an input that is always 0: damped after all");
	tc_lowrank_close(&r);
	in = input_of(&l, SQUARES);
	in.damping = 0;
	q = made(&in, 4, TC_F16, NULL);
	ok(q.owned != NULL, "... also where squares are known alone");
	tc_quantized_free(&q);
	memset(l.packed, 0, sizeof(l.packed));
	in = input_of(&l, HESSIAN);
	q = made(&in, 4, TC_F16, NULL);
	ok(q.owned != NULL, "inputs that are all 0");
	tc_quantized_free(&q);
	memset(l.w, 0, sizeof(l.w));
	if (tc_lowrank_open(&r, &in, false, NULL, &err) < 0)
		exit(1);
	ok(r.lost[0] == 0 && tc_lowrank_error(&r, 0) == 0, "weights that are all 0 lose nothing");
	tc_lowrank_close(&r);
	for (size_t i = 0; i < 70 * 30; i++)
		l.w[i] = 1e30f;
	err = (struct tc_err){0};
	q = made(&in, 1, TC_F16, NULL);
	ok(!q.owned && err.code == TC_DATA && strstr(err.msg, "u_data 0 is NaN or infinite"), "beyond f16: %s", err.msg);
	for (size_t i = 0; i < 70 * 30; i++)
		l.w[i] = 3e38f;
	for (size_t i = 0; i < 30 * 31 / 2; i++)
		l.packed[i] = 3e38f * (float)(i % 2);
	in.damping = 1;
	ok(tc_lowrank_open(&r, &in, false, NULL, &err) == 0 || err.code == TC_DATA, "numbers near the largest");
	tc_lowrank_close(&r);
}

/* ---- factors that are quantized ---- */

static void
test_joined(const struct layer *l)
{
	struct tc_lowrank_input in = input_of(l, NONE);
	struct tc_quant_options o = OPTIONS(6, 32, TC_ZERO_INT, TC_LEVELS_ODD, TC_F16);
	struct tc_quantized f = made(&in, 24, TC_F16, NULL), side[TC_SIDES], q;
	const struct tc_tensor *both[TC_SIDES] = { &side[0].t, &side[1].t };
	double before = lost_by(l, NONE, &f.t), after;

	ok(tc_is_factored(&f.t) && !tc_is_factored(&l->t), "factors alone are known");
	for (enum tc_side s = 0; s < TC_SIDES; s++) {
		struct tc_tensor view;

		tc_factor_view(&f.t, s, &view);
		if (tc_quantizer_run(tc_quantizer_find("rtn"), &o, &(struct tc_quant_input){ .w = &view }, &side[s], NULL, &err) < 0)
			exit(1);
	}
	if (!ok(tc_factored_join(&f.t, both, &q, &err) == 0, "factors of 6 bits"))
		return;
	after = lost_by(l, NONE, &q.t);
	ok(after < 1.1 * before && q.t.factor.bits == 6 && q.t.factor.group == 32 && !tc_is_factored(&q.t), "... lose little (%.3f)",
	    after / before);
	tc_quantized_free(&q);
	side[1].t.format.bits = 5;
	ok(tc_factored_join(&f.t, both, &q, &err) < 0 && strstr(err.msg, "two formats"), "%s", err.msg);
	side[1].t.format.bits = 6;
	side[0].t.sparse = 1;
	ok(tc_factored_join(&f.t, both, &q, &err) < 0 && strstr(err.msg, "codes and scales only"), "%s", err.msg);
	for (int s = 0; s < TC_SIDES; s++)
		tc_quantized_free(&side[s]);
	tc_quantized_free(&f);
}

/* Gradients multiply by the rows, whatever they are made of. */
static void
test_transposed(const struct layer *l)
{
	struct tc_lowrank_input in = input_of(l, HESSIAN);
	struct tc_quantized f = made(&in, 11, TC_F16, NULL);
	struct tc_row_range part = { &f.t, 3, l->rows - 5 };
	struct tc_linear t = {0};
	static float x[MOST], y[MOST], w[MOST * MOST];
	float *work = malloc(tc_linear_work(MOST, 1, NULL) * sizeof(*work));
	double off = 0;

	for (size_t i = 0; i < part.n; i++)
		x[i] = (float)gauss(&rng);
	/* A matrix with factors before leaves none behind. */
	if (tc_linear_prepare(&t, &f.t, 0, 2, TC_LINEAR_FEW, NULL, &err) < 0 ||
	    tc_linear_prepare_transposed(&t, 1, &part, NULL, &err) < 0)
		exit(1);
	tc_linear_run(&t, 1, x, part.n, y, l->cols, work, NULL);
	tc_tensor_read_rows(&f.t, 0, l->rows, w);
	for (size_t j = 0; j < l->cols; j++) {
		double sum = 0, size = 0;

		for (size_t i = 0; i < part.n; i++) {
			sum += (double)x[i] * (double)w[(3 + i) * l->cols + j];
			size += fabs((double)x[i] * (double)w[(3 + i) * l->cols + j]);
		}
		off = fmax(off, fabs(sum - (double)y[j]) / size);
	}
	ok(off < 1e-5, "transposed, for gradients (%.1e)", off);
	tc_linear_free(&t);
	free(work);
	tc_quantized_free(&f);
}

/* ---- a budget ---- */

enum { ITEMS = 3, RANKS = 5 };

/* The least sum of errors there is, of all choices that fit. */
static double
plain_best(const struct tc_rank_item *item, uint64_t budget)
{
	double least = INFINITY;

	for (size_t c = 0; c < (RANKS + 2) * (RANKS + 2) * (RANKS + 2); c++) {
		uint64_t bytes = 0;
		double error = 0;

		for (size_t i = 0, x = c; i < ITEMS; i++, x /= RANKS + 2) {
			size_t rank = x % (RANKS + 2);

			if (rank > item[i].most) {
				bytes += rank == RANKS + 1 && item[i].whole ? item[i].whole : UINT32_MAX;
				continue;
			}
			bytes += rank < item[i].least ? UINT32_MAX : rank * item[i].bytes;
			error += item[i].error[rank];
		}
		if (bytes <= budget)
			least = fmin(least, error);
	}
	return least;
}

static void
test_budget(void)
{
	double error[ITEMS][RANKS + 1], worst = 0;
	struct tc_rank_item item[ITEMS];
	int fits = 1, refused = 0, whole = 0, exact = 0, tried = 0;

	for (int trial = 0; trial < 300; trial++) {
		uint64_t budget = tc_rng_below(&rng, 130), used = 0;
		double sum = 0, best, step = 0;

		for (size_t i = 0; i < ITEMS; i++) {
			item[i] = (struct tc_rank_item){ .error = error[i], .least = tc_rng_below(&rng, 2),
				.most = 2 + tc_rng_below(&rng, RANKS - 1), .bytes = 4 + tc_rng_below(&rng, 8) };
			item[i].whole = tc_rng_below(&rng, 2) ? item[i].bytes * item[i].most + 1 + tc_rng_below(&rng, 9) : 0;
			error[i][RANKS] = 0;
			for (size_t k = RANKS; k-- > 0;) /* steps that grow towards rank 0 */
				error[i][k] = error[i][k + 1] + (k + 1 < RANKS ? error[i][k + 1] - error[i][k + 2 > RANKS ? RANKS : k + 2] : 0.01) +
				    tc_rng_unit(&rng) / 10;
		}
		best = plain_best(item, budget);
		if (tc_ranks_choose(item, ITEMS, budget, &err) < 0) {
			fits &= isinf(best);
			refused++;
			continue;
		}
		for (size_t i = 0; i < ITEMS; i++) {
			used += tc_rank_item_bytes(&item[i]);
			sum += item[i].stays ? 0 : error[i][item[i].rank];
			step = fmax(step, error[i][0]);
			whole += item[i].stays;
		}
		fits &= used <= budget && sum >= best - 1e-9;
		worst = fmax(worst, (sum - best) / step);
		exact += sum < best + 1e-9;
		tried++;
	}
	ok(fits && refused > 10 && whole > 10, "ranks fit their budget, or there are none that do");
	ok(exact > tried / 2 && worst < 1, "mostly they are the best there are (%d of %d), and never a step off (%.2f)", exact, tried, worst);
}

int
main(void)
{
	static const size_t shape[][2] = { { 40, 90 }, { 90, 40 }, { 33, 33 } };
	static struct layer l;

	if (tc_kernels_select(NULL, &err) < 0)
		exit(1);
	if (tc_lapack_load(&err) < 0) {
		skip("low rank", err.msg);
		return done_testing();
	}
	if (tc_pool_open(&pool, 2, &err) < 0)
		exit(1);
	tc_rng_seed(&rng, 7);
	test_exact();
	for (size_t s = 0; s < 3; s++) {
		char name[32];

		snprintf(name, sizeof(name), "%zu x %zu", shape[s][0], shape[s][1]);
		make(&l, shape[s][0], shape[s][1], 60, -1);
		for (enum metric m = 0; m < METRICS; m++) {
			test_spectrum(&l, m, name);
			test_best(&l, m);
		}
		test_types(&l);
		test_residual(&l);
		test_joined(&l);
		test_transposed(&l);
	}
	test_edges();
	test_budget();
	tc_pool_close(pool);
	return done_testing();
}
