/* model.h - a fixture's model that goes over sequences forwards and backwards,
 * and the gradients of its parameters. */
#ifndef TC_TESTS_MODEL_H
#define TC_TESTS_MODEL_H

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "fixture.h"
#include "model/gradient.h"
#include "model/open.h"
#include "stream/hold.h"

/* What the tiny models have, and what takes more than one tile. */
enum { VOCAB = 320, WIDE_VOCAB = 900 };
enum { PARAMS_MAX = 256 };

struct model {
	struct tc_source *source;
	struct tc_hold hold;                        /* its tensors, and a tied head's record */
	size_t params;
	const struct tc_tensor *tensor[PARAMS_MAX]; /* as tc_config_tensor() counts */
	float *wide[PARAMS_MAX];                    /* numbers of its own */
};

/* model_close() also after a failure. */
static inline int
model_open(struct model *m, const char *name, struct tc_err *err)
{
	struct tc_record r;
	int got;

	*m = (struct model){0};
	if (tc_model_open(&m->source, fixture(name, ""), err) < 0)
		return -1;
	while ((got = tc_source_next(m->source, &r, err)) > 0)
		if ((r.kind == TC_KIND_TENSOR || r.kind == TC_KIND_REF) && tc_hold_add(&m->hold, &r, m->source->mapped, err) < 0)
			return -1;
	for (size_t i = 0; i < m->hold.n && m->params < PARAMS_MAX; i++)
		if (m->hold.item[i].r.kind == TC_KIND_TENSOR)
			m->tensor[m->params++] = &m->hold.item[i].r.u.tensor;
	return got;
}

static inline void
model_close(struct model *m)
{
	for (size_t i = 0; i < m->params; i++)
		free(m->wide[i]);
	tc_hold_clear(&m->hold);
	tc_source_close(m->source);
}

/* Has a parameter's numbers, which are f32, lie elsewhere; returns where they
 * were. */
static inline const float *
model_put(struct model *m, size_t param, const float *numbers)
{
	struct tc_part *part = (struct tc_part *)&m->tensor[param]->part[0];
	const float *was = part->data;

	part->data = numbers;
	return was;
}

/* Gives a tiny model's embedding and head random rows up to WIDE_VOCAB. */
static inline void
model_widen(struct model *m, struct tc_rng *rng)
{
	char *vocab = strstr(m->source->header.config, "\"vocab_size\": 320");
	struct tc_err err;

	if (!vocab)
		exit(1);
	memcpy(strstr(vocab, "320"), "900", 3);
	for (size_t i = 0; i < m->params; i++) {
		struct tc_tensor *t = (struct tc_tensor *)m->tensor[i];

		if (t->role != TC_ROLE_EMBED && t->role != TC_ROLE_HEAD)
			continue;
		t->shape[0] = WIDE_VOCAB;
		m->wide[i] = malloc(tc_tensor_elements(t) * sizeof(float));
		if (!m->wide[i] || tc_tensor_layout(t, &err) < 0)
			exit(1);
		for (size_t j = 0; j < tc_tensor_elements(t); j++)
			m->wide[i][j] = (float)(tc_rng_unit(rng) - 0.5);
		model_put(m, i, m->wide[i]);
	}
}

/* A bias of keys that no rotation follows adds the same to all of a query's
 * scores: its gradient is 0. */
static inline bool
model_is_idle(const struct model *m, size_t param)
{
	return m->tensor[1]->role == TC_ROLE_POS && m->tensor[param]->role == TC_ROLE_K && m->tensor[param]->bias;
}

static inline void
random_ids(struct tc_rng *rng, size_t vocab, size_t n, uint32_t *ids)
{
	for (size_t i = 0; i < n; i++)
		ids[i] = (uint32_t)tc_rng_below(rng, vocab);
}

/* Sequences, one after another. */
struct text {
	size_t nseq;
	const size_t *length;
	const uint32_t *ids;
};

/* A model that went over a text. */
struct run {
	struct tc_forward f;
	struct tc_final final;
	struct tc_loss loss;   /* of the next tokens, unless the test puts another in its place */
	double *value;         /* [loss.n], after run_back() */
};

/* run_close() also after a failure.  r does not move in between. */
static inline int
run_forward(struct run *r, const struct model *m, const struct text *t, struct tc_pool *pool, struct tc_err *err)
{
	struct tc_exec_options o = { .with_gradient = true, .spill.fd = -1 };

	*r = (struct run){0};
	if (tc_forward_open(&r->f, &m->source->header, pool, err) < 0 ||
	    tc_forward_tokens(&r->f, t->nseq, t->length, t->ids, &o, err) < 0)
		return -1;
	for (size_t i = 0; i < m->hold.n; i++)
		if (tc_forward_take(&r->f, &m->hold.item[i].r, true, err) < 0)
			return -1;
	if (tc_forward_finish(&r->f, err) < 0 || tc_loss_next_tokens(&r->loss, t->nseq, r->f.exec.start, t->ids, err) < 0)
		return -1;
	r->final = tc_forward_final(&r->f);
	r->loss.model = &r->final;
	return 0;
}

static inline int
run_back(struct run *r, const struct model *m, const struct tc_gradient_visitor *v, struct tc_err *err)
{
	free(r->value);
	r->value = tc_alloc(r->loss.n, sizeof(*r->value), err);
	return r->value ? tc_gradient_run(&r->f, m->tensor, &r->loss, r->value, v, err) : -1;
}

static inline void
run_close(struct run *r)
{
	tc_forward_close(&r->f);
	tc_loss_free(&r->loss);
	free(r->value);
}

/* A visitor that stores gradients by sequence, or adds them up. */
struct gradients {
	const struct model *model;
	size_t nseq;
	bool sum;
	bool unwanted[PARAMS_MAX];
	float *g[PARAMS_MAX];      /* [nseq or 1][elements], from when the parameter began */
	size_t begun[PARAMS_MAX], finished[PARAMS_MAX];
	atomic_bool stray;         /* a strip of what had not begun, or had finished */
};

static inline bool
gradients_wants(void *ctx, size_t param)
{
	const struct gradients *g = ctx;

	return !g->unwanted[param];
}

/* What is stored is no number before. */
static inline int
gradients_begun(void *ctx, size_t param, struct tc_err *err)
{
	struct gradients *g = ctx;
	size_t n = tc_tensor_elements(g->model->tensor[param]) * (g->sum ? 1 : g->nseq);

	g->begun[param]++;
	free(g->g[param]);
	g->g[param] = tc_alloc(n, sizeof(float), err);
	for (size_t i = 0; g->g[param] && i < n; i++)
		g->g[param][i] = g->sum ? 0 : NAN;
	return g->g[param] ? 0 : -1;
}

static inline void
gradients_visit(void *ctx, const struct tc_strip *s, int worker)
{
	struct gradients *g = ctx;

	(void)worker;
	if (g->begun[s->param] != 1 || g->finished[s->param] != 0) {
		g->stray = true;
		return;
	}
	for (size_t seq = s->first; seq < s->first + s->n; seq++) {
		float *to = g->g[s->param] + (g->sum ? 0 : seq) * tc_tensor_elements(g->model->tensor[s->param]);

		tc_strip_gradient(s, seq, g->sum, to + s->row0 * s->cols);
	}
}

static inline int
gradients_finished(void *ctx, size_t param, struct tc_err *err)
{
	struct gradients *g = ctx;

	(void)err;
	g->finished[param]++;
	return 0;
}

/* g: {0} but for what it should do; gradients_free() also after a failure. */
static inline int
gradients_of(struct gradients *g, struct run *r, const struct model *m, struct tc_err *err)
{
	struct tc_gradient_visitor v = { .ctx = g, .wants = gradients_wants, .begun = gradients_begun, .visit = gradients_visit,
		.finished = gradients_finished };

	g->model = m;
	g->nseq = r->f.exec.nseq;
	return run_back(r, m, &v, err);
}

static inline void
gradients_free(struct gradients *g)
{
	for (size_t i = 0; i < PARAMS_MAX; i++)
		free(g->g[i]);
}

#endif
