#include "model/exec.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

static size_t
sequence_length(const struct tc_exec *e, size_t i)
{
	return e->start[i + 1] - e->start[i];
}

int
tc_exec_hidden_bytes(const struct tc_config *c, size_t tokens, bool with_gradient, size_t *size_bytes, struct tc_err *err)
{
	if (tc_mul_over(tokens, c->width * sizeof(float), size_bytes) ||
	    tc_mul_over(*size_bytes, with_gradient ? c->layers + 3 : 1, size_bytes))
		return tc_fail(err, TC_NOMEM, "too many tokens");
	return 0;
}

static int
alloc_hidden(struct tc_exec *e, const struct tc_exec_options *o, struct tc_err *err)
{
	size_t n, each = e->start[e->nseq] * e->config->width;

	if (tc_exec_hidden_bytes(e->config, e->start[e->nseq], o->with_gradient, &n, err) < 0 ||
	    tc_spill_open(&e->states, n, &o->spill, err) < 0)
		return tc_err_at(err, "hidden states");
	e->hidden = e->states.p;
	if (o->with_gradient) {
		e->gradient = e->hidden + each;
		e->kept = e->gradient + each;
	}
	return 0;
}

/* The hidden states as they are, before a block (or the final norm, the last). */
static void
keep_hidden(struct tc_exec *e, size_t block)
{
	size_t n = e->start[e->nseq] * e->config->width;

	if (e->kept)
		memcpy(e->kept + block * n, e->hidden, n * sizeof(*e->hidden));
}

/* What the largest batch needs. */
static int
alloc_batch(struct tc_exec *e, const struct tc_exec_options *o, struct tc_err *err)
{
	bool with_hooks = o->with_hooks;
	const struct tc_config *c = e->config;
	struct tc_batch_sizes most = tc_batch_largest(e->start, e->nseq);

	e->kv = tc_zalloc(most.sequences, sizeof(*e->kv), err);
	if (!e->kv)
		return -1;
	/* A place in the batches has room for the longest that comes there. */
	for (size_t i = 0, end; i < e->nseq; i = end) {
		tc_batch_next(e->start, e->nseq, i, &end);
		for (size_t s = i; s < end; s++)
			e->kv[s - i].capacity = tc_max(e->kv[s - i].capacity, sequence_length(e, s));
	}
	if (tc_rope_table_make(&e->rope, c, most.length, err) < 0)
		return -1;
	for (; e->nkv < most.sequences; e->nkv++)
		if (tc_kv_alloc(&e->kv[e->nkv], c, &o->kv, e->kv[e->nkv].capacity, e->kv[e->nkv].capacity, err) < 0)
			return -1;
	e->q = tc_alloc(most.rows, c->heads * c->head_dim * sizeof(float), err);
	e->tile = tc_alloc(most.tiles, sizeof(*e->tile), err);
	if (!e->q || !e->tile)
		return -1;
	if (with_hooks && !(e->copy = tc_alloc((size_t)tc_pool_threads(e->pool) * TC_TILE_ROWS, c->width * sizeof(float), err)))
		return -1;
	for (int s = 0; with_hooks && s < TC_SITE_HEAD_IN; s++) {
		e->sites.site[s] = tc_alloc(most.rows, tc_site_inputs(c, (enum tc_site)s) * sizeof(float), err);
		if (!e->sites.site[s])
			return -1;
	}
	return 0;
}

int
tc_exec_open(struct tc_exec *e, const struct tc_config *c, struct tc_pool *pool, size_t nseq, const size_t *length,
    const struct tc_exec_options *o, struct tc_err *err)
{
	assert(!o->with_gradient || o->kv.format == TC_KV_F32);
	*e = (struct tc_exec){ .config = c, .pool = pool, .nseq = nseq };
	if (tc_kv_check(&o->kv, c, err) < 0)
		goto fail;
	e->start = tc_alloc(nseq + 1, sizeof(*e->start), err);
	if (!e->start)
		goto fail;
	e->start[0] = 0;
	for (size_t i = 0; i < nseq; i++)
		e->start[i + 1] = e->start[i] + length[i];
	e->scratch = tc_zalloc((size_t)tc_pool_threads(pool), sizeof(*e->scratch), err);
	if (!e->scratch)
		goto fail;
	for (int i = 0; i < tc_pool_threads(pool); i++)
		if (tc_scratch_alloc(&e->scratch[i], c, NULL, err) < 0)
			goto fail;
	if (alloc_hidden(e, o, err) < 0 || alloc_batch(e, o, err) < 0)
		goto fail;
	return 0;
fail:
	tc_exec_close(e);
	return -1;
}

void
tc_exec_close(struct tc_exec *e)
{
	free(e->start);
	tc_spill_close(&e->states);
	tc_rope_table_free(&e->rope);
	for (int i = 0; e->scratch && i < tc_pool_threads(e->pool); i++)
		tc_scratch_free(&e->scratch[i]);
	free(e->scratch);
	for (size_t i = 0; i < e->nkv; i++)
		tc_kv_free(&e->kv[i]);
	free(e->kv);
	free(e->q);
	free(e->tile);
	free(e->copy);
	for (int s = 0; s < TC_SITES; s++)
		free(e->sites.site[s]);
	*e = (struct tc_exec){0};
}

struct embed {
	struct tc_exec *e;
	const struct tc_tensor *t;
	const uint32_t *ids;
};

static void
embed_sequence(void *ctx, size_t seq, int worker)
{
	const struct embed *m = ctx;
	size_t width = m->e->config->width;

	(void)worker;
	for (size_t i = m->e->start[seq]; i < m->e->start[seq + 1]; i++)
		tc_embed_row(m->e->config, m->t, m->ids[i], m->e->hidden + i * width);
}

int
tc_exec_embed(struct tc_exec *e, const struct tc_tensor *embed, const uint32_t *ids, struct tc_err *err)
{
	struct embed m = { .e = e, .t = embed, .ids = ids };

	for (size_t i = 0; i < e->start[e->nseq]; i++)
		if (ids[i] >= e->config->vocab)
			return tc_fail(err, TC_DATA, "token %zu: id %u is outside the vocabulary of %zu", i, ids[i],
			    e->config->vocab);
	tc_pool_run(e->pool, e->nseq, embed_sequence, &m);
	return 0;
}

struct pass {
	struct tc_exec *e;
	const struct tc_block *b;
	size_t first;                /* sequence of the batch */
	bool hooked, looks;
};

static struct tc_sites
tile_sites(const struct pass *p, const struct tc_tile *t)
{
	const struct tc_config *c = p->e->config;
	struct tc_sites s = {0};

	for (int i = 0; p->hooked && i < TC_SITE_HEAD_IN; i++)
		s.site[i] = p->e->sites.site[i] + t->row * tc_site_inputs(c, (enum tc_site)i);
	return s;
}

static void
tile_qkv(void *ctx, size_t i, int worker)
{
	const struct pass *p = ctx;
	struct tc_exec *e = p->e;
	const struct tc_tile *t = &e->tile[i];
	struct tc_sites sites = tile_sites(p, t);
	struct tc_span span = tc_tile_span(t, e->kv);
	struct tc_spans spans = { &span, 1, t->rows };

	tc_block_qkv(p->b, e->config, &e->rope, &spans, e->hidden + t->token * e->config->width,
	    e->q + t->row * e->config->heads * e->config->head_dim, &e->scratch[worker], &sites, NULL);
}

static void
settle_sequence(void *ctx, size_t i, int worker)
{
	const struct pass *p = ctx;

	(void)worker;
	tc_kv_settle(&p->e->kv[i], p->e->config, 0, sequence_length(p->e, p->first + i));
}

static void
tile_rest(void *ctx, size_t i, int worker)
{
	const struct pass *p = ctx;
	struct tc_exec *e = p->e;
	const struct tc_tile *t = &e->tile[i];
	struct tc_sites sites = tile_sites(p, t);
	struct tc_span span = tc_tile_span(t, e->kv);
	struct tc_spans spans = { &span, 1, t->rows };
	size_t width = e->config->width;
	float *hidden = e->hidden + t->token * width;

	sites.open = p->looks;
	if (p->looks)
		hidden = memcpy(e->copy + (size_t)worker * TC_TILE_ROWS * width, hidden, t->rows * width * sizeof(*hidden));
	tc_block_rest(p->b, e->config, &spans, hidden,
	    e->q + t->row * e->config->heads * e->config->head_dim, &e->scratch[worker], &sites, NULL);
}

static void
show_sites(struct tc_exec *e, size_t first, size_t end, tc_exec_hook *hook, void *ctx)
{
	const struct tc_config *c = e->config;

	for (size_t s = first; s < end; s++)
		for (int i = 0; i < TC_SITE_HEAD_IN; i++)
			hook(ctx, (enum tc_site)i, s, e->sites.site[i] + (e->start[s] - e->start[first]) * tc_site_inputs(c, (enum tc_site)i),
			    sequence_length(e, s), tc_site_inputs(c, (enum tc_site)i));
}

static void
run_block(struct tc_exec *e, struct pass *p, tc_exec_hook *hook, void *ctx)
{
	for (size_t first = 0, end; first < e->nseq; first = end) {
		size_t n;

		p->first = first;
		tc_batch_next(e->start, e->nseq, first, &end);
		n = tc_batch_tiles(e->start, first, end, e->tile);
		tc_pool_run(e->pool, n, tile_qkv, p);
		tc_pool_run(e->pool, end - first, settle_sequence, p);
		tc_pool_run(e->pool, n, tile_rest, p);
		if (hook)
			show_sites(e, first, end, hook, ctx);
	}
}

void
tc_exec_block(struct tc_exec *e, const struct tc_block *b, tc_exec_hook *hook, void *ctx)
{
	struct pass p = { .e = e, .b = b, .hooked = hook != NULL };

	keep_hidden(e, (size_t)b->index);
	run_block(e, &p, hook, ctx);
}

void
tc_exec_look(struct tc_exec *e, const struct tc_block *b, tc_exec_hook *hook, void *ctx)
{
	struct pass p = { .e = e, .b = b, .hooked = true, .looks = true };

	run_block(e, &p, hook, ctx);
}

struct over {
	struct tc_exec *e;
	const struct tc_tensor *pos;
	const struct tc_norm *w;
};

static void
add_positions(void *ctx, size_t seq, int worker)
{
	const struct over *o = ctx;
	const struct tc_exec *e = o->e;

	for (size_t i = e->start[seq]; i < e->start[seq + 1]; i++)
		tc_position_add(e->config, o->pos, i - e->start[seq], e->scratch[worker].norm, e->hidden + i * e->config->width);
}

void
tc_exec_positions(struct tc_exec *e, const struct tc_tensor *pos)
{
	struct over o = { .e = e, .pos = pos };

	tc_pool_run(e->pool, e->nseq, add_positions, &o);
}

static void
norm_sequence(void *ctx, size_t seq, int worker)
{
	const struct over *o = ctx;
	const struct tc_exec *e = o->e;
	float *x = e->hidden + e->start[seq] * e->config->width;

	(void)worker;
	tc_norm_rows(o->w, e->config, sequence_length(e, seq), e->config->width, x, x);
}

void
tc_exec_norm(struct tc_exec *e, const struct tc_norm *w)
{
	struct over o = { .e = e, .w = w };

	keep_hidden(e, e->config->layers);
	tc_pool_run(e->pool, e->nseq, norm_sequence, &o);
}
