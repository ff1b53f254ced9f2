/* blas: the products of one block of Qwen2.5-0.5B's shapes and its Hessians,
 * by our kernels and by OpenBLAS, in turns; medians. */
#include <cblas.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/rng.h"
#include "kernel/probe.h"
#include "metric/latency.h"
#include "model/linear.h"
#include "stats/gather.h"

enum {
	WIDTH = 896, FFN = 4864,
	ROWS = 512,              /* of a product */
	SEQUENCE_TOKENS = 2048,  /* of a Hessian's leaf */
	RUNS_MAX = 101, THREADS_MAX = 64, SEQUENCES_MAX = 1024
};
#define PROBE_BUFFER_BYTES ((size_t)2 << 20) /* its read bandwidth is not used */
/* OpenBLAS's threads spin on for some milliseconds after a product. */
#define PAUSE_NANOSECONDS 100000000L

struct args {
	int runs, threads, sequences;
};

/* One comparison: what is run, and what it is worth. */
struct contest {
	const char *name;
	void (*ours)(void *ctx);
	void (*theirs)(void *ctx);
	void *ctx;
	double flops;
};

/* No caller can go on after an error here. */
static void
check(int r, const struct tc_err *err)
{
	if (r >= 0)
		return;
	fprintf(stderr, "blas: %s\n", err->msg);
	exit(err->code);
}

static int
number(const char *s, int max)
{
	char *end;
	long n = strtol(s, &end, 10);

	if (end == s || *end || n < 1 || n > max) {
		fputs("usage: blas [-r RUNS] [-t THREADS] [-s SEQUENCES]\n", stderr);
		exit(TC_USAGE);
	}
	return (int)n;
}

static void
parse(struct args *a, int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "r:t:s:")) != -1)
		switch (c) {
		case 'r': a->runs = number(optarg, RUNS_MAX); break;
		case 't': a->threads = number(optarg, THREADS_MAX); break;
		case 's': a->sequences = number(optarg, SEQUENCES_MAX); break;
		default: number("", 0);
		}
}

/* ---- numbers ---- */

/* Close to normal, around 1/2 as activations are not around 0. */
static float *
random_floats(size_t n, uint64_t seed)
{
	struct tc_err err = {0};
	struct tc_rng rng;
	float *x = tc_alloc(n, sizeof(*x), &err);

	check(x ? 0 : -1, &err);
	tc_rng_seed(&rng, seed);
	for (size_t i = 0; i < n; i++) {
		double z = -1.5;

		for (int j = 0; j < 4; j++)
			z += tc_rng_unit(&rng);
		x[i] = (float)z;
	}
	return x;
}

/* ---- contests ---- */

static double
seconds(void (*fn)(void *ctx), void *ctx)
{
	struct timespec pause = { .tv_nsec = PAUSE_NANOSECONDS };
	double t0;

	nanosleep(&pause, NULL);
	t0 = tc_now();
	fn(ctx);
	return tc_now() - t0;
}

static void
run(const struct contest *c, const struct args *a, double peak)
{
	double ours[RUNS_MAX], theirs[RUNS_MAX], o, t;

	c->ours(c->ctx); /* caches and page tables */
	c->theirs(c->ctx);
	for (int i = 0; i < a->runs; i++) {
		ours[i] = seconds(c->ours, c->ctx);
		theirs[i] = seconds(c->theirs, c->ctx);
	}
	o = c->flops / tc_latency_of(ours, (size_t)a->runs).p50 / 1e9;
	t = c->flops / tc_latency_of(theirs, (size_t)a->runs).p50 / 1e9;
	printf("%-36s %8.1f %8.1f %6.2fx %8.1f %5.0f%%\n", c->name, o, t, o / t, peak / 1e9, 100e9 * o / peak);
	fflush(stdout);
}

/* ---- products ---- */

struct product {
	size_t in, out;
	const float *x, *w;
	float *y, *work;
	struct tc_linear linear;
	struct tc_pool *pool;
};

static void
product_ours(void *ctx)
{
	struct product *p = ctx;

	tc_linear_run(&p->linear, ROWS, p->x, p->in, p->y, p->out, p->work, p->pool);
}

static void
product_theirs(void *ctx)
{
	struct product *p = ctx;

	cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, ROWS, (int)p->out, (int)p->in, 1, p->x, (int)p->in, p->w,
	    (int)p->in, 0, p->y, (int)p->out);
}

/* The same weights, rounded to dtype, as a layer. */
static void
prepare(struct product *p, enum tc_dtype dtype)
{
	struct tc_tensor t = { .ndim = 2, .shape = { p->out, p->in }, .format = { .encoding = TC_DENSE, .dtype = dtype } };
	size_t n = p->in * p->out;
	struct tc_err err = {0};
	uint16_t *narrow = tc_alloc(n, sizeof(*narrow), &err);

	check(narrow ? 0 : -1, &err);
	check(tc_tensor_layout(&t, &err), &err);
	for (size_t i = 0; i < n; i++)
		narrow[i] = tc_bf16_from_f32(p->w[i]);
	t.part[0].data = dtype == TC_F32 ? (const void *)p->w : narrow;
	check(tc_linear_prepare(&p->linear, &t, 0, p->out, TC_LINEAR_MANY, p->pool, &err), &err);
	free(narrow);
}

static void
products(const struct args *a, struct tc_pool *pool, double peak)
{
	static const struct { size_t in, out; enum tc_dtype dtype; const char *name; } row[] = {
		{ WIDTH, WIDTH, TC_F32, "q, o: 512 x 896 x 896, f32" },
		{ WIDTH, WIDTH, TC_BF16, "q, o: the same, bf16 against f32" },
		{ WIDTH, FFN, TC_F32, "gate, up: 512 x 896 x 4864, f32" },
		{ WIDTH, FFN, TC_BF16, "gate, up: the same, bf16" },
		{ FFN, WIDTH, TC_F32, "down: 512 x 4864 x 896, f32" },
		{ FFN, WIDTH, TC_BF16, "down: the same, bf16" },
	};
	float *x = random_floats((size_t)ROWS * FFN, 1), *w = random_floats((size_t)WIDTH * FFN, 2);
	float *y = random_floats((size_t)ROWS * FFN, 3), *work = random_floats(tc_linear_work(FFN, ROWS, NULL), 4);

	for (size_t i = 0; i < sizeof(row) / sizeof(row[0]); i++) {
		struct product p = { .in = row[i].in, .out = row[i].out, .x = x, .w = w, .y = y, .work = work, .pool = pool };
		struct contest c = { row[i].name, product_ours, product_theirs, &p, 2.0 * ROWS * (double)(p.in * p.out) };

		prepare(&p, row[i].dtype);
		run(&c, a, peak);
		tc_linear_free(&p.linear);
	}
	free(x), free(w), free(y), free(work);
}

/* ---- Hessians ---- */

/* The sites of a block, and their channels. */
static const struct { enum tc_site site; size_t dim; } site[] = {
	{ TC_SITE_ATTN_IN, WIDTH }, { TC_SITE_ATTN_OUT, WIDTH }, { TC_SITE_MLP_IN, WIDTH }, { TC_SITE_MLP_MID, FFN },
};
#define SITES (sizeof(site) / sizeof(site[0]))

struct hessians {
	const float *x;    /* [SEQUENCE_TOKENS][FFN]: every sequence's, its first floats where there are fewer channels */
	float *sum[SITES]; /* theirs */
	struct tc_pool *pool;
	size_t sequences;
};

static void
gather(struct tc_gather *g, const struct hessians *h, size_t i)
{
	for (size_t s = 0; s < h->sequences; s++)
		tc_gather_hook(g, site[i].site, s, h->x, SEQUENCE_TOKENS, site[i].dim);
	check(g->err.code ? -1 : 0, &g->err);
}

static void
hessians_ours(void *ctx)
{
	const struct hessians *h = ctx;
	struct tc_gather g = { .pool = h->pool, .kind = { [TC_STAT_HESSIAN] = true } };

	for (size_t i = 0; i < SITES; i++)
		gather(&g, h, i);
	tc_gather_clear(&g);
}

static void
add_theirs(float *sum, const float *x, size_t dim, float beta)
{
	cblas_ssyrk(CblasRowMajor, CblasLower, CblasTrans, (int)dim, SEQUENCE_TOKENS, 1, x, (int)dim, beta, sum, (int)dim);
}

static void
hessians_theirs(void *ctx)
{
	const struct hessians *h = ctx;

	for (size_t i = 0; i < SITES; i++)
		for (size_t s = 0; s < h->sequences; s++)
			add_theirs(h->sum[i], h->x, site[i].dim, s > 0);
}

static void
hessians(const struct args *a, struct tc_pool *pool, double peak)
{
	struct hessians h = { .x = random_floats((size_t)SEQUENCE_TOKENS * FFN, 5), .pool = pool, .sequences = (size_t)a->sequences };
	char name[64];
	struct contest c = { name, hessians_ours, hessians_theirs, &h, 0 };

	snprintf(name, sizeof(name), "Hessians of a block, %d x %d tokens", a->sequences, SEQUENCE_TOKENS);
	for (size_t i = 0; i < SITES; i++) {
		h.sum[i] = random_floats(site[i].dim * site[i].dim, 6);
		c.flops += (double)(h.sequences * SEQUENCE_TOKENS) * (double)(site[i].dim * (site[i].dim + 1));
	}
	run(&c, a, peak);
	for (size_t i = 0; i < SITES; i++)
		free(h.sum[i]);
	free((void *)h.x);
}

/* ---- how far from double precision ---- */

/* The lower triangle's norm of packed - want over that of want, and the same
 * of theirs. */
static void
print_differences(const float *packed, const float *theirs, const double *want, size_t dim)
{
	double ours2 = 0, theirs2 = 0, norm2 = 0;

	for (size_t i = 0; i < dim; i++)
		for (size_t j = 0; j <= i; j++) {
			double w = want[i * dim + j], o = (double)packed[i * (i + 1) / 2 + j] - w, t = (double)theirs[i * dim + j] - w;

			ours2 += o * o;
			theirs2 += t * t;
			norm2 += w * w;
		}
	printf("Hessian of %zu channels, %d tokens: norm of the difference from f64 over norm: ours %.2e, OpenBLAS %.2e\n", dim,
	    SEQUENCE_TOKENS, sqrt(ours2 / norm2), sqrt(theirs2 / norm2));
}

static void
differences(struct tc_pool *pool, size_t i)
{
	size_t dim = site[i].dim, n = SEQUENCE_TOKENS * dim;
	struct hessians h = { .x = random_floats(n, 7), .pool = pool, .sequences = 1 };
	struct tc_gather g = { .pool = pool, .kind = { [TC_STAT_HESSIAN] = true } };
	float *theirs = random_floats(dim * dim, 8);
	struct tc_err err = {0};
	double *x = tc_alloc(n, sizeof(*x), &err), *want = tc_zalloc(dim * dim, sizeof(*want), &err);
	struct tc_record r;

	check(x && want ? 0 : -1, &err);
	for (size_t k = 0; k < n; k++)
		x[k] = (double)h.x[k];
	gather(&g, &h, i);
	check(tc_gather_record(&g, site[i].site, TC_STAT_HESSIAN, 0, 0, &r, &err), &err);
	add_theirs(theirs, h.x, dim, 0);
	cblas_dsyrk(CblasRowMajor, CblasLower, CblasTrans, (int)dim, SEQUENCE_TOKENS, 1, x, (int)dim, 0, want, (int)dim);
	print_differences(r.part[0].data, theirs, want, dim);
	tc_gather_record_free(&r);
	tc_gather_clear(&g);
	free((void *)h.x), free(theirs), free(x), free(want);
}

int
main(int argc, char **argv)
{
	struct args a = { .runs = 5, .threads = 2, .sequences = 8 };
	struct tc_err err = {0};
	struct tc_probe probe;
	struct tc_pool *pool;

	parse(&a, argc, argv);
	check(tc_kernels_select(getenv("TC_CPU"), &err), &err);
	printf("kernels: %s; OpenBLAS: %s\n", tc_kernels_name(), openblas_get_config());
	for (int threads = 1; threads <= a.threads; threads++) {
		check(tc_pool_open(&pool, threads, &err), &err);
		openblas_set_num_threads(threads);
		check(tc_probe_run(&probe, PROBE_BUFFER_BYTES, pool, &err), &err);
		printf("\nGFLOP/s, threads: %-18d %8s %8s %7s %8s %6s\n", threads, "ours", "OpenBLAS", "ratio", "peak", "share");
		products(&a, pool, probe.peak_flops_per_second);
		hessians(&a, pool, probe.peak_flops_per_second);
		tc_pool_close(pool);
	}
	check(tc_pool_open(&pool, a.threads, &err), &err);
	putchar('\n');
	differences(pool, 0);
	differences(pool, SITES - 1);
	tc_pool_close(pool);
	return ferror(stdout) || fflush(stdout) ? TC_IO : 0;
}
