/* AWQ and the error of outputs that it goes by: against the algorithm written
 * plainly in double, never above round to nearest, inputs that matter and inputs
 * that do not, and the same bytes at any number of threads. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernel/kernel.h"
#include "kinds.h"
#include "layer.h"
#include "method/output_error.h"
#include "tap.h"

static const uint64_t groups[] = { 7, 32, TC_GROUP_ROW };
enum { GROUPS = sizeof(groups) / sizeof(groups[0]) };

static struct tc_quant_input
measured(const struct layer *l)
{
	return (struct tc_quant_input){ .w = &l->t, .hessian = l->packed, .magnitudes = l->magnitudes };
}

static int
run(const char *method, const struct tc_quant_options *o, const struct tc_quant_input *in, struct tc_pool *pool, struct tc_quantized *q)
{
	err = (struct tc_err){0};
	*q = (struct tc_quantized){0};
	return tc_quantizer_run(tc_quantizer_find(method), o, in, q, pool, &err);
}

/* The error of what the method makes; below 0 where it fails. */
static double
error_of(const char *method, const struct tc_quant_options *o, const struct layer *l, const struct tc_quant_input *in)
{
	static float w[ROWS * COLS];
	struct tc_quantized q;
	double error = -1;

	if (run(method, o, in, NULL, &q) == 0) {
		numbers(&q, w);
		error = output_error(l, w);
	}
	tc_quantized_free(&q);
	return error;
}

/* Number j of its input scale; 1 where there is none. */
static float
input_scale(const struct tc_quantized *q, size_t j)
{
	const struct tc_part *p = tc_tensor_part(&q->t, "input_scale");

	return p ? tc_f32_from_f16(((const uint16_t *)p->data)[j]) : 1;
}

/* Input j was so many times as large. */
static void
enlarge(struct layer *l, size_t j, double times)
{
	l->magnitudes[j] *= times;
	for (size_t i = 0; i < COLS; i++) {
		l->h[i * COLS + j] *= times;
		l->h[j * COLS + i] *= times;
	}
	pack(l);
}

/* ---- the error of outputs ---- */

static void
test_output_error(const char *kind, bool squares)
{
	static const size_t runs[][2] = { { 0, COLS }, { 0, 7 }, { 5, 9 }, { 30, 70 }, { 64, COLS }, { 99, COLS } };
	static struct layer l;
	struct tc_quant_input in = { .w = &l.t };
	double diagonal[COLS], most = 0;
	struct tc_output_error e;

	make(&l, TOKENS, -1);
	for (size_t i = 0; i < COLS; i++)
		diagonal[i] = l.h[i * COLS + i];
	in.squares = diagonal;
	in.hessian = squares ? NULL : l.packed;
	if (!ok(tc_output_error_open(&e, &in, &err) == 0, "%s: the error of outputs", kind))
		return;
	for (size_t k = 0; k < sizeof(runs) / sizeof(runs[0]); k++) {
		double sum[ROWS];

		for (size_t r = 0; r < ROWS; r++)
			sum[r] = (double)r;
		tc_output_error_add(&e, runs[k][0], runs[k][1], ROWS, l.w, COLS, sum);
		for (size_t r = 0; r < ROWS; r++) {
			double want = 0;

			for (size_t i = runs[k][0]; i < runs[k][1]; i++)
				for (size_t j = runs[k][0]; j < runs[k][1]; j++)
					if (i == j || !squares)
						want += l.h[i * COLS + j] * (double)l.w[r * COLS + i] * (double)l.w[r * COLS + j];
			most = fmax(most, fabs(sum[r] - (double)r - want) / want);
		}
	}
	ok(most < 2e-5, "%s: by %s, of all and some inputs, within 2e-5 (%.1e)", kind, squares ? "squares" : "the Hessian", most);
	tc_output_error_close(&e);
}

/* ---- the algorithm, plainly ---- */

enum { RATIOS = 20, CLIPS = 10, BITS = 3, GROUP = 20 };

static double
as_f16(double x)
{
	return (double)tc_f32_from_f16(tc_f16_from_f32((float)x));
}

/* d H d^T over inputs c0 .. c1-1. */
static double
plain_error(const struct layer *l, const double *d, size_t c0, size_t c1)
{
	double sum = 0;

	for (size_t i = c0; i < c1; i++)
		for (size_t j = c0; j < c1; j++)
			sum += d[i] * l->h[i * COLS + j] * d[j];
	return sum;
}

/* A group of w over by, asymmetric, on that share of its range, times by. */
static void
plain_round(const float *w, const double *by, double share, double *to)
{
	double low = 0, high = 0, steps = (1 << BITS) - 1, s, zero;

	for (size_t i = 0; i < GROUP; i++) {
		low = fmin(low, (double)w[i] / by[i]);
		high = fmax(high, (double)w[i] / by[i]);
	}
	s = (double)(float)(share * (high - low) / steps);
	zero = nearbyint(-share * low / s);
	for (size_t i = 0; i < GROUP; i++)
		to[i] = s * (fmin(fmax(nearbyint((double)w[i] / by[i] / s) + zero, 0), steps) - zero) * by[i];
}

/* One row with its groups' best shares, or the whole ranges. */
static double
plain_row(const struct layer *l, size_t row, const double *by, bool clip, double *to)
{
	const float *w = l->w + row * COLS;
	double d[COLS], best[COLS];

	for (size_t c = 0; c < COLS; c += GROUP) {
		double least = INFINITY;

		for (int i = 0; i < (clip ? CLIPS : 1); i++) {
			double error;

			plain_round(w + c, by + c, 1 - i / 20.0, to + c);
			for (size_t k = c; k < c + GROUP; k++)
				d[k] = to[k] - (double)w[k];
			error = plain_error(l, d, c, c + GROUP);
			if (error < least) {
				least = error;
				memcpy(best + c, to + c, GROUP * sizeof(*best));
			}
		}
	}
	for (size_t c = 0; c < COLS; c++) {
		to[c] = best[c];
		d[c] = to[c] - (double)w[c];
	}
	return plain_error(l, d, 0, COLS);
}

static void
plain_awq(const struct layer *l, double *q, double *scale)
{
	double least = INFINITY, most_a = 0, least_a = INFINITY, by[COLS], clipped[COLS];

	for (size_t c = 0; c < COLS; c++) {
		most_a = fmax(most_a, l->magnitudes[c]);
		least_a = fmin(least_a, l->magnitudes[c]);
	}
	for (int r = 0; r < RATIOS; r++) {
		double error = 0;

		for (size_t c = 0; c < COLS; c++)
			by[c] = as_f16(pow(l->magnitudes[c] / sqrt(most_a * least_a), -r / 20.0));
		for (size_t row = 0; row < ROWS; row++)
			error += plain_row(l, row, by, false, q + row * COLS);
		if (error < least) {
			least = error;
			memcpy(scale, by, sizeof(by));
		}
	}
	for (size_t row = 0; row < ROWS; row++)
		if (plain_row(l, row, scale, true, clipped) < plain_row(l, row, scale, false, q + row * COLS))
			memcpy(q + row * COLS, clipped, sizeof(clipped));
}

static void
test_against_plain(const char *kind)
{
	struct tc_quant_options o = OPTIONS(BITS, GROUP, TC_ZERO_INT, TC_LEVELS_ODD, TC_F32);
	static struct layer l;
	static float got[ROWS * COLS];
	static double want[ROWS * COLS], scale[COLS];
	struct tc_quant_input in = measured(&l);
	struct tc_quantized q;
	size_t alike = 0;
	bool same_scale = true;

	make(&l, TOKENS, -1);
	for (size_t j = 0; j < COLS; j += 11)
		enlarge(&l, j, 8);
	if (!ok(run("awq", &o, &in, NULL, &q) == 0, "%s: runs", kind))
		return;
	plain_awq(&l, want, scale);
	numbers(&q, got);
	for (size_t c = 0; c < COLS; c++)
		same_scale &= (double)input_scale(&q, c) == scale[c];
	ok(same_scale && q.t.nops == 1 && q.t.op[0].kind == TC_OP_SCALE, "%s: the scale of the algorithm in double", kind);
	/* A tie that rounding decides otherwise changes a row. */
	for (size_t r = 0; r < ROWS; r++) {
		double most = 0;

		for (size_t c = 0; c < COLS; c++)
			most = fmax(most, fabs((double)got[r * COLS + c] - want[r * COLS + c]));
		alike += most < 1e-5;
	}
	ok(alike >= ROWS - 2, "%s: and its weights as they are read, %zu of %d rows", kind, alike, ROWS);
	tc_quantized_free(&q);
}

/* ---- properties ---- */

static void
test_salient(const char *kind)
{
	struct tc_quant_options o = OPTIONS(3, 32, TC_ZERO_INT, TC_LEVELS_ODD, TC_F16);
	static struct layer l;
	struct tc_quant_input in = measured(&l);
	struct tc_quantized q;
	double ours, plain;
	bool first = true;

	make(&l, TOKENS, -1);
	enlarge(&l, 37, 20);
	plain = error_of("rtn", &o, &l, &in);
	ours = error_of("awq", &o, &l, &in);
	ok(ours > 0 && ours < 0.3 * plain, "%s: a large input: output error %.2f of round to nearest's", kind, ours / plain);
	ok(run("awq", &o, &in, NULL, &q) == 0, "%s: it runs", kind);
	for (size_t j = 0; j < COLS; j++)
		first &= j == 37 || input_scale(&q, 37) < input_scale(&q, j);
	ok(first, "%s: its weights are scaled most, its input by %.3f", kind, (double)input_scale(&q, 37));
	tc_quantized_free(&q);
}

/* By the Hessian and by squares, of which alone errors are then made. */
static void
test_never_worse(const char *kind)
{
	static struct layer l, diagonal;
	struct tc_quant_input in = measured(&l), few = { .w = &diagonal.t };
	double squares[COLS];

	make(&l, TOKENS, 3);
	diagonal = l;
	diagonal.t.part[0].data = diagonal.w;
	for (size_t i = 0; i < COLS * COLS; i++)
		if (i / COLS == i % COLS)
			squares[i / COLS] = l.h[i];
		else
			diagonal.h[i] = 0;
	few.squares = squares;
	for (int bits = 1; bits <= 8; bits++) {
		bool never = true;
		double least = 1;

		for (int zero = 0; zero < TC_ZEROS; zero++)
			for (size_t g = 0; g < GROUPS; g++) {
				struct tc_quant_options o = OPTIONS(bits, groups[g], (enum tc_zero)zero, TC_LEVELS_FULL, TC_F16);
				double full = error_of("awq", &o, &l, &in) / error_of("rtn", &o, &l, &in);
				double part = error_of("awq", &o, &diagonal, &few) / error_of("rtn", &o, &diagonal, &few);

				never &= full > 0 && part > 0 && full < 1 + 1e-5 && part < 1 + 1e-5;
				least = fmin(least, fmin(full, part));
			}
		ok(never && least < 0.95, "%s: %d bits, every grid and group: never above round to nearest's error, down to %.2f of it",
		    kind, bits, least);
	}
}

/* All magnitudes alike are no scale, and what q and k are is round to nearest's. */
static void
test_clip(const char *kind)
{
	struct tc_quant_options o = OPTIONS(3, 32, TC_ZERO_INT, TC_LEVELS_ODD, TC_F16);
	static struct layer l;
	struct tc_quant_input in = measured(&l);

	make(&l, TOKENS, -1);
	for (size_t j = 0; j < COLS; j++)
		l.magnitudes[j] = 5;
	for (int role = TC_ROLE_Q; role <= TC_ROLE_V; role++) {
		struct tc_quantized a, b;
		bool whole = role != TC_ROLE_V;

		l.t.role = (enum tc_role)role;
		ok(run("awq", &o, &in, NULL, &a) == 0 && run("rtn", &o, &in, NULL, &b) == 0 && same(&a, &b) == whole && a.t.nops == 0,
		    "%s: %s is %sclipped, and not scaled", kind, tc_role_names[role], whole ? "not " : "");
		tc_quantized_free(&a);
		tc_quantized_free(&b);
	}
}

static void
test_same_bits(const char *kind, struct tc_pool *pool)
{
	static struct layer l;
	struct tc_quant_input in = measured(&l);

	make(&l, TOKENS, 3);
	for (size_t g = 0; g < GROUPS; g++) {
		struct tc_quant_options o = OPTIONS(3, groups[g], TC_ZERO_MIN, TC_LEVELS_ODD, TC_F16);
		struct tc_quantized a, b;

		ok(run("awq", &o, &in, NULL, &a) == 0 && run("awq", &o, &in, pool, &b) == 0 && same(&a, &b),
		    "%s: groups of %lld: the same bytes with 3 threads", kind, (long long)groups[g]);
		tc_quantized_free(&a);
		tc_quantized_free(&b);
	}
}

/* ---- inputs at the edge ---- */

static void
test_squares_alone(void)
{
	struct tc_quant_options o = OPTIONS(3, 32, TC_ZERO_INT, TC_LEVELS_ODD, TC_F16);
	static struct layer l;
	double squares[COLS], roots[COLS];
	struct tc_quant_input in = { .w = &l.t, .squares = squares };
	struct tc_quantized a, b;

	make(&l, TOKENS, -1);
	for (size_t i = 0; i < COLS; i++) {
		squares[i] = l.h[i * COLS + i];
		roots[i] = 3 * sqrt(squares[i] / TOKENS);
	}
	ok(run("awq", &o, &in, NULL, &a) == 0 && a.t.nops == 1, "squares alone");
	in.magnitudes = roots;
	ok(run("awq", &o, &in, NULL, &b) == 0, "roots of mean squares as magnitudes");
	for (size_t j = 0; j < COLS; j++)
		ok(fabsf(input_scale(&a, j) / input_scale(&b, j) - 1) < 2e-3f, "input %zu: the same scale", j);
	tc_quantized_free(&a);
	tc_quantized_free(&b);
}

static void
test_dead(void)
{
	struct tc_quant_options o = OPTIONS(3, 32, TC_ZERO_INT, TC_LEVELS_ODD, TC_F16);
	static struct layer l;
	struct tc_quant_input in = measured(&l);
	struct tc_quantized a, b;
	bool last = true;

	make(&l, TOKENS, 7);
	enlarge(&l, 37, 20);
	ok(run("awq", &o, &in, NULL, &a) == 0 && tc_tensor_check_finite(&a.t, &err) == 0, "an input that is always 0");
	for (size_t j = 0; j < COLS; j++)
		last &= input_scale(&a, j) <= input_scale(&a, 7);
	ok(last && a.t.nops == 1, "its weights are scaled least");
	tc_quantized_free(&a);
	memset(l.packed, 0, sizeof(l.packed));
	memset(l.magnitudes, 0, sizeof(l.magnitudes));
	ok(run("awq", &o, &in, NULL, &a) == 0 && run("rtn", &o, &in, NULL, &b) == 0 && same(&a, &b), "all of them: round to nearest");
	tc_quantized_free(&a);
	tc_quantized_free(&b);
}

static void
test_range(void)
{
	struct tc_quant_options o = OPTIONS(3, 32, TC_ZERO_INT, TC_LEVELS_ODD, TC_F16);
	static struct layer l;
	struct tc_quant_input in = measured(&l);
	struct tc_quantized q;
	bool holds = true;

	make(&l, TOKENS, -1);
	enlarge(&l, 37, 1e6);
	enlarge(&l, 38, 1e-30);
	ok(run("awq", &o, &in, NULL, &q) == 0, "inputs of which one is 1e36 times another");
	for (size_t j = 0; j < COLS; j++)
		holds &= input_scale(&q, j) >= 0x1p-14f && isfinite(input_scale(&q, j));
	ok(holds && q.t.nops == 1, "their scales are normal numbers of f16");
	tc_quantized_free(&q);
	for (size_t i = 0; i < COLS; i++)
		l.w[2 * COLS + i] *= 1e30f;
	ok(run("awq", &o, &in, NULL, &q) < 0 && err.code == TC_DATA && strstr(err.msg, "row 2: its scale does not fit f16"),
	    "weights too large for f16: %s", err.msg);
	o.scale = TC_F32;
	ok(run("awq", &o, &in, NULL, &q) == 0, "they fit f32");
	tc_quantized_free(&q);
}

static void
test_missing(void)
{
	struct tc_quant_options o = OPTIONS(3, TC_GROUP_TENSOR, TC_ZERO_INT, TC_LEVELS_ODD, TC_F16);
	static struct layer l;
	struct tc_quant_input in = measured(&l);
	struct tc_quantized q;

	make(&l, 1, -1);
	ok(run("awq", &o, &in, NULL, &q) < 0 && err.code == TC_USAGE, "a single group: %s", err.msg);
	o.group = 32;
	in.hessian = NULL;
	ok(run("awq", &o, &in, NULL, &q) < 0 && err.code == TC_DATA && strstr(err.msg, "nothing is known of its inputs"),
	    "magnitudes alone: %s", err.msg);
}

int
main(void)
{
	const struct tc_kernels *kinds[8];
	size_t n = kinds_to_test(kinds, 8);
	struct tc_pool *pool;

	tc_rng_seed(&rng, 12);
	if (tc_pool_open(&pool, 3, &err) < 0)
		return 1;
	for (size_t k = 0; k < n; k++) {
		if (tc_kernels_select(kinds[k]->name, &err) < 0)
			return 1;
		test_output_error(kinds[k]->name, false);
		test_output_error(kinds[k]->name, true);
		test_against_plain(kinds[k]->name);
		test_salient(kinds[k]->name);
		test_never_worse(kinds[k]->name);
		test_clip(kinds[k]->name);
		test_same_bits(kinds[k]->name, pool);
	}
	test_squares_alone();
	test_dead();
	test_range();
	test_missing();
	tc_pool_close(pool);
	return done_testing();
}
