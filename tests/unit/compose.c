/* What stands around a quantizer: rotation, weights held apart, clipping, and a
 * residual, each alone and all together. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "gauss.h"
#include "method/compose.h"
#include "method/measures.h"
#include "kernel/kernel.h"
#include "mask.h"
#include "quantized.h"
#include "tap.h"
#include "tensor/input_op.h"

enum { ROWS = 24, COLS = 192, N = ROWS * COLS };

static const struct tc_compose plain = { .clip_z = NAN };
static struct tc_rng rng;
static struct tc_err err;
static float w[N];

/* Nearly normal, some of them large. */
static void
fill(double outliers)
{
	for (size_t i = 0; i < N; i++) {
		double x = gauss(&rng);

		w[i] = (float)(0.02 * x * (tc_rng_unit(&rng) < outliers ? 30 : 1));
	}
}

static struct tc_tensor
tensor(enum tc_role role)
{
	struct tc_tensor t = dense(w, ROWS, COLS);

	t.role = role;
	t.block = 3;
	return t;
}

static struct tc_quantized
made(const struct tc_compose *c, const char *method, const struct tc_quant_options *o, const struct tc_tensor *t, struct tc_pool *pool)
{
	struct tc_quantized q;

	err = (struct tc_err){0};
	if (tc_compose_run(c, tc_quantizer_find(method), o, &(struct tc_quant_input){ .w = t }, &q, pool, &err) < 0) {
		printf("# %s\n", err.msg);
		exit(1);
	}
	return q;
}

/* Sum of squared differences from the weights, and the largest of the places
 * where only is set (NULL: all). */
static double
error(const struct tc_tensor *q, const bool *only, double *largest)
{
	float *got = malloc(N * sizeof(*got));
	double sum = 0;

	*largest = 0;
	tc_tensor_read_rows(q, 0, ROWS, got);
	for (size_t i = 0; i < N; i++) {
		double d = (double)got[i] - (double)w[i];

		sum += d * d;
		if (!only || only[i])
			*largest = fmax(*largest, fabs(d));
	}
	free(got);
	return sum;
}

static double
error_of(const struct tc_compose *c, const char *method, const struct tc_quant_options *o)
{
	struct tc_tensor t = tensor(TC_ROLE_DOWN);
	struct tc_quantized q = made(c, method, o, &t, NULL);
	double largest, e = error(&q.t, NULL, &largest);

	tc_quantized_free(&q);
	return e;
}

static bool
same_parts(const struct tc_tensor *a, const struct tc_tensor *b)
{
	bool same = a->nparts == b->nparts;

	for (int i = 0; same && i < a->nparts; i++)
		same = a->part[i].size_bytes == b->part[i].size_bytes && memcmp(a->part[i].data, b->part[i].data, a->part[i].size_bytes) == 0;
	return same;
}

static void
test_nothing(void)
{
	const struct tc_quant_options o = OPTIONS(4, 32, TC_ZERO_INT, TC_LEVELS_ODD, TC_F16);
	struct tc_tensor t = tensor(TC_ROLE_UP);
	struct tc_quantized a = made(&plain, "rtn", &o, &t, NULL), b;

	ok(!tc_compose_does(&plain, &t), "nothing is asked for");
	if (!ok(tc_quantizer_run(tc_quantizer_find("rtn"), &o, &(struct tc_quant_input){ .w = &t }, &b, NULL, &err) == 0 && tc_tensor_is_plain(&a.t), "plain"))
		return;
	ok(same_parts(&a.t, &b.t), "the quantizer's own bytes");
	tc_quantized_free(&a);
	tc_quantized_free(&b);
}

static void
test_rotation(void)
{
	const struct tc_quant_options fine = OPTIONS(8, 64, TC_ZERO_INT, TC_LEVELS_ODD, TC_F32);
	const struct tc_quant_options coarse = OPTIONS(3, 64, TC_ZERO_INT, TC_LEVELS_ODD, TC_F32);
	struct tc_compose c = plain;
	struct tc_tensor up = tensor(TC_ROLE_UP), gate = tensor(TC_ROLE_GATE), down = tensor(TC_ROLE_DOWN), embed = tensor(TC_ROLE_EMBED);
	struct tc_quantized q, g, d;
	struct tc_input_op op;
	double largest;

	c.rotate = true;
	c.seed = 77;
	fill(0.01);
	q = made(&c, "rtn", &fine, &up, NULL);
	g = made(&c, "rtn", &fine, &gate, NULL);
	d = made(&c, "rtn", &fine, &down, NULL);
	op = tc_rotation(&c, 3, TC_SITE_MLP_IN, COLS);
	(void)error(&q.t, NULL, &largest);
	ok(q.t.nops == 1 && op.block == 64 && memcmp(&q.t.op[0], &op, sizeof(op)) == 0 && largest < 0.004,
	    "rotated at 8 bits the weights are near (%.2g)", largest);
	ok(g.t.op[0].seed == op.seed && d.t.op[0].seed != op.seed, "layers of a site turn alike, others do not");
	ok(error_of(&c, "rtn", &coarse) < 0.7 * error_of(&plain, "rtn", &coarse), "outliers spread: a smaller error at 3 bits");
	embed.block = -1;
	ok(!tc_compose_does(&c, &embed), "the embedding is not rotated");
	tc_quantized_free(&q);
	tc_quantized_free(&g);
	tc_quantized_free(&d);
}

/* A Hessian's measures are turned with the weights: gptq on both is nearer in
 * the output than round to nearest. */
static void
test_rotated_measures(void)
{
	enum { D = 12, TRI = D * (D + 1) / 2, TOKENS = 40 };
	struct tc_compose c = plain;
	struct tc_measures m = { .compose = &c };
	struct tc_node node = { 0, 0, TOKENS };
	float x[TOKENS][D], y[TOKENS][D];
	float h[TRI] = {0};
	struct tc_record r = { .kind = TC_KIND_STAT, .nparts = 1, .part = { { "data", h, sizeof(h) } },
		.u.stat = { .kind = TC_STAT_HESSIAN, .site = TC_SITE_MLP_IN, .block = 1, .tag = "calib", .dim = D, .nnodes = 1, .node = &node } };
	struct tc_input_op op;
	struct tc_input_ops ops = { 1, &op, NULL };
	double worst = 0;

	c.rotate = true;
	op = tc_rotation(&c, 1, TC_SITE_MLP_IN, D);
	for (size_t t = 0; t < TOKENS; t++) {
		for (size_t i = 0; i < D; i++)
			x[t][i] = (float)(tc_rng_unit(&rng) - 0.3) * (float)(i + 1);
		tc_input_ops_apply(&ops, D, x[t], y[t]);
		for (size_t i = 0; i < D; i++)
			for (size_t j = 0; j <= i; j++)
				h[i * (i + 1) / 2 + j] += x[t][i] * x[t][j];
	}
	if (!ok(tc_measures_take(&m, &r, &err) == 0 && op.block == 4, "takes a Hessian"))
		return;
	for (size_t i = 0; i < D; i++)
		for (size_t j = 0; j <= i; j++) {
			double want = 0;

			for (size_t t = 0; t < TOKENS; t++)
				want += (double)y[t][i] * (double)y[t][j];
			worst = fmax(worst, fabs(want - (double)m.site[TC_SITE_MLP_IN].hessian[i * (i + 1) / 2 + j]) / (1 + fabs(want)));
			if (i == j)
				worst = fmax(worst, fabs(want - m.site[TC_SITE_MLP_IN].squares[i]) / (1 + fabs(want)));
		}
	{
		struct tc_tensor up = { .name = "w", .role = TC_ROLE_UP, .block = 1, .ndim = 2, .shape = { 1, D } };
		struct tc_quant_input in = { .w = &up };
		bool stale;

		ok(tc_measures_of(&m, tc_quantizer_find("rtn"), &(struct tc_quant_options){ .bits = 4 }, &in, &stale, &err) == 0 &&
		    in.op && in.op->seed == op.seed && in.squares, "and says so");
	}
	ok(worst < 1e-4, "it is the Hessian of the rotated inputs (%.2g)", worst);
	tc_measures_clear(&m);
	r.u.stat.kind = TC_STAT_SQ;
	r.part[0].size_bytes = D * sizeof(double);
	ok(tc_measures_take(&m, &r, &err) == 0 && !m.site[TC_SITE_MLP_IN].squares, "squares alone say nothing of rotated inputs");
	tc_measures_clear(&m);
}

static void
test_kept(const char *method, enum tc_zero zero)
{
	const struct tc_quant_options o = OPTIONS(3, TC_GROUP_ROW, zero, TC_LEVELS_ODD, TC_F16);
	struct tc_spot named[3] = { { 3, 5, 7, 0 }, { 3, 0, 191, 0 }, { 2, 1, 1, 0 } };
	struct tc_spots spots = { named, 3, 3 };
	struct tc_compose c = plain;
	struct tc_tensor t = tensor(TC_ROLE_DOWN), up = tensor(TC_ROLE_UP);
	struct tc_quantized q;
	bool *is = calloc(N, 1);
	double largest, all;

	fill(0);
	w[5 * COLS + 7] = 3;
	w[0 * COLS + 191] = -2.345678f;
	c.spots = &spots;
	q = made(&c, method, &o, &t, NULL);
	is[5 * COLS + 7] = is[191] = true;
	(void)error(&q.t, is, &largest);
	ok(q.t.sparse == 2 && largest < 0.001, "%s, zero %s: named weights keep 11 bits (%.2g)", method, tc_zero_names[zero], largest);
	(void)error(&q.t, NULL, &all);
	ok(all < 0.06, "... and do not stretch their row's grid (%.2g)", all);
	ok(tc_tensor_check_sparse(&q.t, &err) == 0, "... in order");
	tc_quantized_free(&q);
	ok(!tc_compose_does(&c, &up), "they are of down projections");
	free(is);
}

static void
test_top(void)
{
	const struct tc_quant_options o = OPTIONS(3, TC_GROUP_ROW, TC_ZERO_INT, TC_LEVELS_ODD, TC_F16);
	struct tc_compose c = plain;
	struct tc_tensor t = tensor(TC_ROLE_Q);
	struct tc_quantized q;
	bool *is = calloc(N, 1);
	float border = INFINITY;
	double largest;
	size_t more = 0;

	fill(0.003);
	c.top = 0.004;
	q = made(&c, "rtn", &o, &t, NULL);
	ok(q.t.sparse == (uint64_t)ceil(0.004 * N), "the share's weights, rounded up: %llu", (unsigned long long)q.t.sparse);
	for (size_t r = 0, i = 0; r < ROWS; r++)
		for (size_t n = tc_tensor_sparse_count(&q.t, r); n > 0; n--, i++) {
			size_t at = r * COLS + tc_tensor_sparse_column(&q.t, i);

			is[at] = true;
			border = fminf(border, fabsf(w[at]));
		}
	for (size_t i = 0; i < N; i++)
		more += !is[i] && fabsf(w[i]) > border;
	(void)error(&q.t, is, &largest);
	ok(more == 0 && largest < 0.001, "they are the largest, and kept (%.2g)", largest);
	ok(error_of(&c, "rtn", &o) < 0.3 * error_of(&plain, "rtn", &o), "the rest has a finer grid");
	tc_quantized_free(&q);
	free(is);
}

static void
test_clip(void)
{
	const struct tc_quant_options o = OPTIONS(8, TC_GROUP_TENSOR, TC_ZERO_INT, TC_LEVELS_ODD, TC_F32);
	struct tc_tensor t = tensor(TC_ROLE_Q);
	struct tc_compose c = plain;
	struct tc_quantized q;
	float *got = malloc(N * sizeof(*got)), most = 0;
	double sum = 0, squares = 0, deviation;

	fill(0.01);
	for (size_t i = 0; i < N; i++) {
		sum += (double)w[i];
		squares += (double)w[i] * (double)w[i];
	}
	deviation = sqrt(squares / N - sum / N * sum / N);
	c.clip_z = 2;
	q = made(&c, "rtn", &o, &t, NULL);
	tc_tensor_read_rows(&q.t, 0, ROWS, got);
	for (size_t i = 0; i < N; i++)
		most = fmaxf(most, fabsf(got[i]));
	ok(fabs((double)most - 2 * deviation) < 0.03 * deviation, "clipped at 2 deviations (%.3f)", (double)most / deviation);
	tc_quantized_free(&q);
	/* Those that are kept do not count. */
	w[7] = 50;
	w[1000] = -50;
	c.top = 2.0 / N;
	q = made(&c, "rtn", &o, &t, NULL);
	tc_tensor_read_rows(&q.t, 0, ROWS, got);
	deviation = 0;
	most = 0;
	for (size_t i = 0; i < N; i++)
		if (i != 7 && i != 1000) {
			deviation += (double)w[i] * (double)w[i];
			most = fmaxf(most, fabsf(got[i]));
		}
	deviation = sqrt(deviation / (N - 2));
	ok(q.t.sparse == 2 && fabs((double)most - 2 * deviation) < 0.03 * deviation && fabsf(got[7] - 50) < 0.05f,
	    "... of what is not kept (%.3f)", (double)most / deviation);
	tc_quantized_free(&q);
	free(got);
}

static void
test_residual(void)
{
	const struct tc_quant_options o = OPTIONS(2, 64, TC_ZERO_INT, TC_LEVELS_ODD, TC_F16);
	struct tc_compose c = plain;
	double before;

	fill(0);
	before = error_of(&plain, "rtn", &o);
	c.residual_group = 32;
	for (int bits = 1; bits <= 4; bits++) {
		struct tc_tensor t = tensor(TC_ROLE_Q);
		struct tc_quantized q;
		double largest, e;

		c.residual = bits;
		q = made(&c, "rtn", &o, &t, NULL);
		e = error(&q.t, NULL, &largest);
		ok(q.t.residual.bits == bits && q.t.residual.group == 32 && e < (bits == 1 ? 0.6 : 0.4) * before,
		    "%d bits more leave an error of %.3g where there was %.3g", bits, e, before);
		before = e;
		tc_quantized_free(&q);
	}
}

/* All at once, 1 and 3 threads. */
static void
test_together(const char *method)
{
	const struct tc_quant_options o = OPTIONS(3, 64, TC_ZERO_INT, TC_LEVELS_ODD, TC_F16);
	struct tc_compose c = { .rotate = true, .seed = 5, .clip_z = 4, .top = 0.01, .residual = 2, .residual_group = 32 };
	struct tc_tensor t = tensor(TC_ROLE_O);
	struct tc_quantized a, b;
	struct tc_pool *pool;
	double largest, e;

	if (tc_pool_open(&pool, 3, &err) < 0)
		exit(1);
	fill(0.002);
	a = made(&c, method, &o, &t, NULL);
	b = made(&c, method, &o, &t, pool);
	e = error(&a.t, NULL, &largest);
	ok(same_parts(&a.t, &b.t),
	    "%s, rotated, clipped, some held apart, and a residual: 1 and 3 threads, the same bytes", method);
	ok(a.t.sparse == (uint64_t)ceil(0.01 * N) && a.t.nops == 1 && a.t.residual.bits == 2 && e < 0.1 * error_of(&plain, "rtn", &o),
	    "... and together they leave little (%.3g)", e);
	tc_quantized_free(&a);
	tc_quantized_free(&b);
	tc_pool_close(pool);
}

/* Half of the weights, between 1 and 2: what is not stored stays 0 and does not
 * widen grids. */
static void
test_pruned(const char *method, enum tc_zero zero, double bound)
{
	const struct tc_quant_options o = OPTIONS(3, 32, zero, TC_LEVELS_ODD, TC_F16);
	struct tc_compose c = plain;
	struct tc_tensor t = tensor(TC_ROLE_Q);
	uint64_t *keep = random_mask(&rng, ROWS, COLS, 0.5);
	static float pruned[N], got[N];
	bool only[N], zeros = true;
	struct tc_quantized q;
	struct tc_kept k;
	double largest;

	for (size_t i = 0; i < N; i++)
		w[i] = (float)(1 + tc_rng_unit(&rng));
	if (tc_mask_apply(&k, &t, keep, &err) < 0)
		exit(1);
	tc_tensor_read_rows(&k.t, 0, ROWS, pruned);
	/* Alone; with a residual; and clipped to what all are in. */
	for (int residual = 0; residual <= 4; residual += 2) {
		c.residual = residual % 4;
		c.residual_group = 64;
		c.clip_z = residual == 4 ? 1000 : NAN;
		q = made(&c, method, &o, &k.t, NULL);
		tc_tensor_read_rows(&q.t, 0, ROWS, got);
		for (size_t i = 0; i < N; i++) {
			only[i] = pruned[i] != 0;
			zeros &= only[i] || got[i] == 0;
		}
		error(&q.t, only, &largest);
		ok(zeros && tc_mask_check(&q.t, &err) == 0, "%s, zero %s, %d bits more%s: what was pruned stays 0, by %s", method, tc_zero_names[zero],
		    residual % 4, residual == 4 ? ", clipped" : "", tc_mask_names[q.t.mask]);
		ok(largest < (residual == 2 ? 1.3 : 1) * bound, "... and does not widen the grid (%.3f)", largest);
		tc_quantized_free(&q);
	}
	tc_kept_free(&k);
	free(keep);
}

static void
test_pruned_refused(void)
{
	const struct tc_quant_options o = OPTIONS(3, 64, TC_ZERO_INT, TC_LEVELS_ODD, TC_F16);
	struct tc_compose c = plain;
	struct tc_tensor t = tensor(TC_ROLE_Q);
	uint64_t *keep = random_mask(&rng, ROWS, COLS, 0.5);
	struct tc_quantized q;
	struct tc_kept k;

	if (tc_mask_apply(&k, &t, keep, &err) < 0)
		exit(1);
	c.rotate = true;
	ok(tc_compose_run(&c, tc_quantizer_find("rtn"), &o, &(struct tc_quant_input){ .w = &k.t }, &q, NULL, &err) == -1 &&
	    err.code == TC_DATA && strstr(err.msg, "pruned") && !q.owned, "%s", err.msg);
	tc_kept_free(&k);
	free(keep);
}

static void
test_refused(void)
{
	const struct tc_quant_options o = OPTIONS(3, 64, TC_ZERO_INT, TC_LEVELS_ODD, TC_F16);
	struct tc_spot named = { 3, ROWS, 0, 0 };
	struct tc_spots spots = { &named, 1, 1 };
	struct tc_compose c = plain;
	struct tc_tensor t = tensor(TC_ROLE_DOWN);
	struct tc_quantized q;

	c.spots = &spots;
	err = (struct tc_err){0};
	ok(tc_compose_run(&c, tc_quantizer_find("rtn"), &o, &(struct tc_quant_input){ .w = &t }, &q, NULL, &err) == -1 &&
	    err.code == TC_DATA && strstr(err.msg, "[24, 0]") && !q.owned, "%s", err.msg);
}

int
main(void)
{
	if (!ok(tc_kernels_select(NULL, &err) == 0, "the best kernels"))
		return done_testing();
	tc_rng_seed(&rng, 11);
	fill(0.01);
	test_nothing();
	test_rotation();
	test_rotated_measures();
	for (int zero = 0; zero < TC_ZEROS; zero++)
		test_kept("rtn", (enum tc_zero)zero);
	test_kept("nf4", TC_ZERO_NONE);
	test_top();
	test_clip();
	test_residual();
	test_together("rtn");
	test_together("lloyd");
	test_pruned("rtn", TC_ZERO_MIN, 0.08);
	test_pruned("rtn", TC_ZERO_INT, 0.16);
	test_pruned("opt", TC_ZERO_MIN, 0.1);
	test_pruned("hqq", TC_ZERO_MIN, 0.16);
	test_pruned("lloyd", TC_ZERO_NONE, 0.3);
	test_pruned_refused();
	test_refused();
	return done_testing();
}
