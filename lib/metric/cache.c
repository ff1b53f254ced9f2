#include "metric/cache.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/mem.h"
#include "metric/latency.h"

/* ---- errors ---- */

/* Keys and values of one position of all KV heads: [2][kv_heads * head_dim]. */
static void
read_position(const struct tc_kv *kv, const struct tc_config *c, size_t pos, float *to)
{
	for (size_t h = 0; h < c->kv_heads; h++)
		tc_kv_read(kv, c, h, pos, to + h * c->head_dim, to + (c->kv_heads + h) * c->head_dim);
}

/* Squares of differences and of what was stored. */
struct squares {
	double error, size;
};

static void
add_squares(struct squares *s, size_t n, const float *held, const float *stored)
{
	for (size_t i = 0; i < n; i++) {
		double d = (double)held[i] - (double)stored[i];

		s->error += d * d;
		s->size += (double)stored[i] * (double)stored[i];
	}
}

static double
relative(const struct squares *s)
{
	return s->size > 0 ? sqrt(s->error / s->size) : 0;
}

int
tc_cache_error_of(struct tc_cache_error *e, const struct tc_kv *exact, const struct tc_config *c, size_t positions,
    const struct tc_kv_options *o, struct tc_err *err)
{
	size_t dim = c->kv_heads * c->head_dim, coded = o->channel ? positions / TC_KV_TILE * TC_KV_TILE : positions;
	float *stored = tc_alloc(2 * dim, sizeof(*stored), err), *held = tc_alloc(2 * dim, sizeof(*held), err);
	struct squares key = {0}, value = {0};
	struct tc_kv kv = {0};
	int r = -1;

	if (!stored || !held || tc_kv_alloc(&kv, c, o, positions, positions, err) < 0)
		goto out;
	for (size_t t = 0; t < positions; t++) {
		read_position(exact, c, t, stored);
		tc_kv_store(&kv, c, t, 1, stored, stored + dim);
	}
	tc_kv_settle(&kv, c, 0, positions);
	for (size_t t = 0; t < positions; t++) {
		read_position(exact, c, t, stored);
		read_position(&kv, c, t, held);
		if (t < coded)
			add_squares(&key, dim, held, stored);
		add_squares(&value, dim, held + dim, stored + dim);
	}
	*e = (struct tc_cache_error){ relative(&key), relative(&value) };
	r = 0;
out:
	tc_kv_free(&kv);
	free(stored);
	free(held);
	return r;
}

int
tc_cache_channels(const struct tc_kv *exact, const struct tc_config *c, size_t positions, double *largest, double *median,
    struct tc_err *err)
{
	size_t dim = c->kv_heads * c->head_dim;
	float *some = tc_alloc(2 * dim, sizeof(*some), err);
	double *most = tc_zalloc(dim, sizeof(*most), err);

	if (some && most) {
		for (size_t t = 0; t < positions; t++) {
			read_position(exact, c, t, some);
			for (size_t i = 0; i < dim; i++)
				most[i] = fmax(most[i], fabs((double)some[i]));
		}
		*median = tc_latency_of(most, dim).p50;
		*largest = most[dim - 1];   /* they are sorted now */
	}
	free(some);
	free(most);
	return some && most ? 0 : -1;
}

/* ---- speed ---- */

/* A format's sequence, and the model with it. */
struct runner {
	struct tc_model m;
	struct tc_sequence q;
	double *seconds;             /* [runs] */
};

static size_t
held_bytes(const struct tc_sequence *q)
{
	size_t n = 0;

	for (size_t i = 0; i < q->layers; i++)
		n += q->kv[i].held_bytes;
	return n;
}

/* The first ids, all at once. */
static int
runner_open(struct runner *p, struct tc_decode *d, struct tc_cache_speed *s, const struct tc_model *m, const uint32_t *ids,
    size_t length, size_t steps, size_t runs, struct tc_err *err)
{
	uint64_t before = tc_rss_bytes();
	struct tc_append a = { .s = &p->q, .ids = ids, .count = length - steps };

	p->m = *m;
	p->m.kv = s->o;
	p->seconds = tc_alloc(runs, sizeof(*p->seconds), err);
	if (!p->seconds || tc_sequence_open(&p->q, &p->m, length, err) < 0 || tc_decode_run(d, &a, 1, err) < 0)
		return -1;
	s->held_bytes = held_bytes(&p->q);
	s->rss_change = (int64_t)tc_rss_bytes() - (int64_t)before;
	return 0;
}

/* The last ones, one by one. */
static int
run_steps(struct runner *p, struct tc_decode *d, const uint32_t *ids, size_t length, size_t steps, size_t run, struct tc_err *err)
{
	double began = tc_now();

	for (size_t i = length - steps; i < length; i++)
		if (tc_decode_run(d, &(struct tc_append){ .s = &p->q, .ids = ids + i, .count = 1 }, 1, err) < 0)
			return -1;
	p->seconds[run] = tc_now() - began;
	tc_sequence_crop(&p->q, length - steps);
	return 0;
}

int
tc_cache_speed(struct tc_cache_speed *s, size_t n, const struct tc_model *m, const uint32_t *ids, size_t length, size_t steps,
    size_t runs, struct tc_err *err)
{
	struct runner *p = tc_zalloc(n, sizeof(*p), err);
	struct tc_decode d = {0};
	int r = -1;

	assert(steps < length && steps <= TC_KV_CROP);
	if (!p || tc_decode_open(&d, m, length, TC_DECODE_ROWS, err) < 0)
		goto out;
	for (size_t i = 0; i < n; i++)
		if (runner_open(&p[i], &d, &s[i], m, ids, length, steps, runs, err) < 0)
			goto out;
	for (size_t run = 0; run < runs; run++)
		for (size_t i = 0; i < n; i++)
			if (run_steps(&p[i], &d, ids, length, steps, run, err) < 0)
				goto out;
	for (size_t i = 0; i < n; i++)
		s[i].seconds = tc_latency_of(p[i].seconds, runs).p50 / (double)steps;
	r = 0;
out:
	for (size_t i = 0; p && i < n; i++) {
		tc_sequence_close(&p[i].q);
		free(p[i].seconds);
	}
	free(p);
	if (d.m)
		tc_decode_close(&d);
	return r;
}
