#include "metric/speed.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/rng.h"

/* Times of one measurement: a sample is a run's, or when decoding a token's. */
struct times {
	double *sample, *run;
	size_t nsample, nrun;
};

static void
times_free(struct times *t)
{
	free(t->sample);
	free(t->run);
}

static int
times_alloc(struct times *t, size_t runs, size_t samples_each, struct tc_err *err)
{
	*t = (struct times){0};
	t->run = tc_alloc(runs, sizeof(*t->run), err);
	t->sample = tc_alloc(runs, samples_each * sizeof(*t->sample), err);
	return t->run && t->sample ? 0 : -1;
}

static void
summarise(struct tc_speed *s, struct times *t)
{
	s->runs = t->nrun;
	s->latency = tc_latency_of(t->sample, t->nsample);
	s->seconds = tc_latency_of(t->run, t->nrun).p50;
}

/* ---- the model ---- */

struct sequence {
	struct tc_decode decode;
	struct tc_sequence seq;
	uint32_t *ids;
	size_t n, step;        /* ids that go in together: all, or one */
};

static int
sequence_open(struct sequence *q, const struct tc_model *m, size_t n, uint64_t seed, struct tc_err *err)
{
	struct tc_rng rng;

	q->ids = tc_alloc(n, sizeof(*q->ids), err);
	if (!q->ids)
		return -1;
	tc_rng_seed(&rng, seed);
	for (size_t i = 0; i < n; i++)
		q->ids[i] = (uint32_t)tc_rng_below(&rng, m->config.vocab);
	if (tc_sequence_open(&q->seq, m, n, err) < 0)
		return -1;
	return tc_decode_open(&q->decode, m, n, q->step, err);
}

static void
sequence_close(struct sequence *q)
{
	if (q->decode.m)
		tc_decode_close(&q->decode);
	tc_sequence_close(&q->seq);
	free(q->ids);
}

/* One run over the sequence; its steps' times, in order. */
static int
run_sequence(struct sequence *q, double *sample, struct tc_err *err)
{
	tc_sequence_crop(&q->seq, 0);
	for (size_t i = 0; i < q->n; i += q->step) {
		double began = tc_now();

		struct tc_append a = { .s = &q->seq, .ids = q->ids + i, .count = q->step };

		if (tc_decode_run(&q->decode, &a, 1, err) < 0)
			return -1;
		*sample++ = tc_now() - began;
	}
	return 0;
}

static int
measure_runs(struct tc_speed *s, struct sequence *q, struct times *t, const struct tc_speed_options *o, struct tc_err *err)
{
	size_t steps = q->n / q->step;

	/* What is dropped goes where the first run that counts will be. */
	for (size_t i = 0; i < 1 + o->warmup; i++) {
		if (run_sequence(q, t->sample, err) < 0)
			return -1;
		if (i == 0)
			s->first = t->sample[0];
	}
	for (size_t i = 0; i < o->runs; i++) {
		double *sample = t->sample + t->nsample, sum = 0;

		if (run_sequence(q, sample, err) < 0)
			return -1;
		for (size_t k = 0; k < steps; k++)
			sum += sample[k];
		t->run[t->nrun++] = sum;
		t->nsample += steps;
	}
	return 0;
}

static int
measure(struct tc_speed *s, const struct tc_model *m, size_t tokens, size_t step, const struct tc_speed_options *o,
    struct tc_err *err)
{
	struct sequence q = { .n = tokens, .step = step };
	struct times t;
	int r = -1;

	*s = (struct tc_speed){0};
	if (times_alloc(&t, o->runs, tokens / step, err) == 0 && sequence_open(&q, m, tokens, o->seed, err) == 0 && measure_runs(s, &q, &t, o, err) == 0) {
		summarise(s, &t);
		r = 0;
	}
	times_free(&t);
	sequence_close(&q);
	return r;
}

int
tc_speed_prefill(struct tc_speed *s, const struct tc_model *m, size_t tokens, const struct tc_speed_options *o, struct tc_err *err)
{
	return measure(s, m, tokens, tokens, o, err);
}

int
tc_speed_decode(struct tc_speed *s, const struct tc_model *m, size_t tokens, const struct tc_speed_options *o, struct tc_err *err)
{
	return measure(s, m, tokens, 1, o, err);
}

/* ---- attention ---- */

enum { ATTENTION_RUNS_MAX = 1000 };
#define ATTENTION_SEED 1

struct attention {
	const struct tc_config *c;
	struct tc_kv kv;
	float *q, *out, *scratch;
	size_t first, rows;    /* queries first .. first+rows-1 */
};

static void
fill(float *p, size_t n, struct tc_rng *rng)
{
	for (size_t i = 0; i < n; i++)
		p[i] = (float)tc_rng_unit(rng) - 0.5f;
}

static int
fill_cache(struct attention *a, struct tc_rng *rng, struct tc_err *err)
{
	size_t dim = a->c->kv_heads * a->c->head_dim;
	float *k = tc_alloc(2 * dim, sizeof(float), err);

	if (!k)
		return -1;
	for (size_t t = 0; t < a->first + a->rows; t++) {
		fill(k, 2 * dim, rng);
		tc_kv_store(&a->kv, a->c, t, 1, k, k + dim);
	}
	free(k);
	return 0;
}

static int
attention_open(struct attention *a, struct tc_err *err)
{
	size_t dim = a->c->heads * a->c->head_dim;
	struct tc_rng rng;

	tc_rng_seed(&rng, ATTENTION_SEED);
	a->q = tc_alloc(a->rows, dim * sizeof(float), err);
	a->out = tc_alloc(TC_TILE_ROWS, dim * sizeof(float), err);
	a->scratch = tc_alloc(tc_attend_scratch(a->c, TC_TILE_ROWS), sizeof(float), err);
	if (!a->q || !a->out || !a->scratch || tc_kv_alloc(&a->kv, a->c, &(struct tc_kv_options){0}, a->first + a->rows, 1, err) < 0)
		return -1;
	fill(a->q, a->rows * dim, &rng);
	return fill_cache(a, &rng, err);
}

static void
attention_close(struct attention *a)
{
	tc_kv_free(&a->kv);
	free(a->q);
	free(a->out);
	free(a->scratch);
}

/* In tiles of rows, as a block takes them. */
static double
attend_all(struct attention *a)
{
	size_t dim = a->c->heads * a->c->head_dim;
	double began = tc_now();

	for (size_t r = 0; r < a->rows; r += TC_TILE_ROWS)
		tc_attend(&a->kv, a->c, 0, a->first + r, tc_min(TC_TILE_ROWS, a->rows - r), a->q + r * dim, a->out,
		    NULL, a->scratch);
	return tc_now() - began;
}

int
tc_speed_attention(struct tc_speed *s, const struct tc_config *c, size_t positions, bool prefill, double seconds,
    struct tc_err *err)
{
	struct attention a = { .c = c, .first = prefill ? 0 : positions - 1, .rows = prefill ? positions : 1 };
	struct times t;
	double spent = 0;
	int r = -1;

	*s = (struct tc_speed){0};
	if (times_alloc(&t, ATTENTION_RUNS_MAX, 1, err) < 0 || attention_open(&a, err) < 0)
		goto out;
	s->first = attend_all(&a);
	do {
		t.run[t.nrun] = t.sample[t.nsample++] = attend_all(&a);
		spent += t.run[t.nrun++];
	} while (spent < seconds && t.nrun < ATTENTION_RUNS_MAX);
	summarise(s, &t);
	r = 0;
out:
	attention_close(&a);
	times_free(&t);
	return r;
}

/* ---- what there is to compute ---- */

#define MULTIPLY_ADD 2.0

/* Elements of the matrices that every token goes through. */
static double
linear_elements(const struct tc_config *c)
{
	struct tc_tensor t;
	double n = 0;

	for (size_t i = 0; tc_config_tensor(c, i, &t); i++)
		if (tc_role_is_linear(t.role) && !t.bias)
			n += (double)tc_tensor_elements(&t);
	return n;
}

/* Scores and weighted sums of all heads for a query that sees that many keys. */
static double
query_flops(const struct tc_config *c, double keys)
{
	return 2 * MULTIPLY_ADD * keys * (double)(c->heads * c->head_dim);
}

/* Keys seen by the queries at 0 .. n-1 together; window 0: none. */
static double
keys_seen(size_t n, size_t window)
{
	double whole = (double)(window && window < n ? window : n);

	return whole * (whole + 1) / 2 + ((double)n - whole) * whole;
}

static double
sequence_flops(const struct tc_config *c, size_t tokens, size_t heads)
{
	double flops = MULTIPLY_ADD * (linear_elements(c) * (double)tokens + (double)c->vocab * (double)c->width * (double)heads);

	for (size_t i = 0; i < c->layers; i++)
		flops += query_flops(c, keys_seen(tokens, tc_block_window(c, (int)i)));
	return flops;
}

double
tc_flops_prefill(const struct tc_config *c, size_t tokens)
{
	return sequence_flops(c, tokens, 1);
}

double
tc_flops_decode(const struct tc_config *c, size_t tokens)
{
	return sequence_flops(c, tokens, tokens);
}

double
tc_flops_attention(const struct tc_config *c, size_t positions, bool prefill)
{
	return query_flops(c, prefill ? keys_seen(positions, 0) : (double)positions);
}
