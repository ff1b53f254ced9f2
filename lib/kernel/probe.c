#include "kernel/probe.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/clock.h"
#include "base/mem.h"

enum {
	PASSES = 8,            /* at least, of which the best counts */
	SHARES = 8,            /* a thread's part of a pass is cut into so many, for whoever wakes late */
	GEMM_ROWS = 96,        /* about a model's tile of rows: x, panel and y stay in the second level */
	GEMM_INPUTS = 256
};
/* What a share computes takes at least so long: little, so that some pass is
 * not disturbed. */
#define SHARE_SECONDS 0.25e-3
#define PROBE_SECONDS 0.1      /* of passes, at least */
#define HUGE_PAGE_BYTES ((size_t)2 << 20)
#define READ_CHUNK_BYTES ((size_t)1 << 20)

/* The shortest of some passes of n pieces, in seconds. */
static double
best_pass(struct tc_pool *pool, size_t n, void (*piece)(void *ctx, size_t i, int worker), void *ctx)
{
	double best = 0, spent = 0;

	for (int i = 0; i < PASSES || spent < PROBE_SECONDS; i++) {
		double began = tc_now(), seconds;

		tc_pool_run(pool, n, piece, ctx);
		seconds = tc_now() - began;
		spent += seconds;
		if (i == 0 || seconds < best)
			best = seconds;
	}
	return best;
}

/* ---- reading ---- */

typedef uint64_t lanes __attribute__((vector_size(16)));

struct reading {
	unsigned char *buffer;
	uint64_t sum[TC_THREADS_MAX];  /* so that no compiler leaves the loads out */
};

static void
fill_chunk(void *ctx, size_t i, int worker)
{
	struct reading *r = ctx;

	memset(r->buffer + i * READ_CHUNK_BYTES, worker + 1, READ_CHUNK_BYTES);
}

static void
read_chunk(void *ctx, size_t i, int worker)
{
	struct reading *r = ctx;
	const unsigned char *p = r->buffer + i * READ_CHUNK_BYTES;
	lanes a = {0}, b = {0}, c = {0}, d = {0};

	/* A cache line at a time, its loads independent of each other. */
	for (size_t at = 0; at < READ_CHUNK_BYTES; at += 4 * sizeof(lanes)) {
		const lanes *line = (const lanes *)(p + at);

		a += line[0];
		b += line[1];
		c += line[2];
		d += line[3];
	}
	a += b + c + d;
	r->sum[worker] += a[0] + a[1];
}

static int
probe_read(struct tc_probe *p, size_t bytes, struct tc_pool *pool, struct tc_err *err)
{
	size_t n = tc_round_up(bytes, HUGE_PAGE_BYTES);
	struct reading r = {0};

	r.buffer = mmap(NULL, n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (r.buffer == MAP_FAILED)
		return tc_fail_nomem(err, n);
	(void)madvise(r.buffer, n, MADV_HUGEPAGE); /* where there are none, the ceiling is that of small ones */
	tc_pool_run(pool, n / READ_CHUNK_BYTES, fill_chunk, &r);
	p->read_bytes_per_second = (double)n / best_pass(pool, n / READ_CHUNK_BYTES, read_chunk, &r);
	munmap(r.buffer, n);
	return 0;
}

/* ---- multiply-adds ---- */

struct computing {
	size_t rounds;         /* a piece's */
	float *x, *panel, *y;  /* gemm: a worker's operands follow each other */
	size_t x_floats, panel_floats, y_floats;
};

static void
compute_peak(void *ctx, size_t i, int worker)
{
	const struct computing *c = ctx;

	(void)i, (void)worker;
	tc_kernels()->peak(c->rounds);
}

static void
compute_gemm(void *ctx, size_t i, int worker)
{
	const struct computing *c = ctx;
	size_t nr = tc_kernels()->nr, w = (size_t)worker;

	(void)i;
	for (size_t r = 0; r < c->rounds; r++)
		tc_kernels()->gemm(GEMM_ROWS, nr, GEMM_INPUTS, c->x + w * c->x_floats, GEMM_INPUTS, 1,
		    c->panel + w * c->panel_floats, c->y + w * c->y_floats, nr, 0, NULL);
}

/* Rounds that take SHARE_SECONDS, up to a few times as long. */
static void
choose_rounds(struct computing *c, void (*piece)(void *ctx, size_t i, int worker))
{
	double seconds = 0;

	for (c->rounds = 1; seconds < SHARE_SECONDS; c->rounds *= 2) {
		double began = tc_now();

		piece(c, 0, 0);
		seconds = tc_now() - began;
	}
}

static double
run_peak(struct tc_pool *pool)
{
	size_t n = SHARES * (size_t)tc_pool_threads(pool);
	struct computing c = {0};

	choose_rounds(&c, compute_peak);
	return (double)n * tc_kernels()->peak(c.rounds) / best_pass(pool, n, compute_peak, &c);
}

static void
fill(float *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (float)(i % 16) / 16 - 0.5f;
}

static int
probe_gemm(struct tc_probe *p, struct tc_pool *pool, struct tc_err *err)
{
	size_t nr = tc_kernels()->nr, threads = (size_t)tc_pool_threads(pool), n = SHARES * threads;
	struct computing c = { .x_floats = GEMM_ROWS * GEMM_INPUTS, .panel_floats = GEMM_INPUTS * nr, .y_floats = GEMM_ROWS * nr };
	int r = -1;

	c.x = tc_alloc(threads * c.x_floats, sizeof(float), err);
	c.panel = tc_alloc(threads * c.panel_floats, sizeof(float), err);
	c.y = tc_zalloc(threads * c.y_floats, sizeof(float), err);
	if (!c.x || !c.panel || !c.y)
		goto out;
	fill(c.x, threads * c.x_floats);
	fill(c.panel, threads * c.panel_floats);
	choose_rounds(&c, compute_gemm);
	p->gemm_flops_per_second = 2.0 * GEMM_ROWS * GEMM_INPUTS * (double)(nr * c.rounds * n) /
	    best_pass(pool, n, compute_gemm, &c);
	r = 0;
out:
	free(c.x);
	free(c.panel);
	free(c.y);
	return r;
}

int
tc_probe_run(struct tc_probe *p, size_t buffer_bytes, struct tc_pool *pool, struct tc_err *err)
{
	*p = (struct tc_probe){0};
	if (probe_read(p, buffer_bytes, pool, err) < 0 || probe_gemm(p, pool, err) < 0)
		return -1;
	p->peak_flops_per_second = run_peak(pool);
	return 0;
}

double
tc_probe_peak(void)
{
	return run_peak(NULL);
}
