#include "model/decode.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int
tc_model_begin(struct tc_model *m, const struct tc_header *h, struct tc_pool *pool, struct tc_err *err)
{
	*m = (struct tc_model){ .pool = pool };
	if (tc_config_parse(&m->config, h->config, h->config_bytes, err) < 0)
		return -1;
	m->block = tc_zalloc(m->config.layers, sizeof(*m->block), err);
	if (!m->block)
		return -1;
	for (size_t i = 0; i < m->config.layers; i++)
		m->block[i] = (struct tc_block){ .index = (int)i, .use = TC_LINEAR_FEW };
	return 0;
}

static int
take_head(struct tc_model *m, const struct tc_tensor *t, struct tc_err *err)
{
	m->head.compute = m->compute;
	tc_compute_count(m->compute, t);
	return tc_linear_prepare(&m->head, t, 0, tc_tensor_rows(t), TC_LINEAR_FEW, m->pool, err);
}

int
tc_model_take(struct tc_model *m, const struct tc_record *r, bool mapped, struct tc_err *err)
{
	const struct tc_tensor *t = &r->u.tensor;

	if (r->kind == TC_KIND_REF)
		return 0;
	if (tc_config_check(&m->config, t, err) < 0 || tc_tensor_check_finite(t, err) < 0)
		return -1;
	switch (t->role) {
	case TC_ROLE_EMBED:
		return tc_kept_set(&m->embed, t, mapped, err);
	case TC_ROLE_POS:
		return tc_kept_set(&m->pos, t, mapped, err);
	case TC_ROLE_FINAL_NORM:
		return tc_norm_take(&m->final_norm, &m->config, t, err);
	case TC_ROLE_HEAD:
		return take_head(m, t, err);
	default:
		m->block[t->block].compute = m->compute;
		return tc_block_take(&m->block[t->block], &m->config, t, m->pool, err);
	}
}

int
tc_model_finish(struct tc_model *m, struct tc_err *err)
{
	if (!m->embed.there)
		return tc_fail(err, TC_DATA, "the embedding is missing (a stream of statistics only?)");
	for (size_t i = 0; i < m->config.layers; i++)
		if (tc_block_complete(&m->block[i], &m->config, err) < 0)
			return -1;
	if (m->config.learned_positions && !m->pos.there)
		return tc_fail(err, TC_DATA, "the position embedding is missing");
	if (!m->final_norm.w || (m->config.norm == TC_NORM_LAYER && !m->final_norm.b))
		return tc_fail(err, TC_DATA, "the final norm is missing");
	if (m->config.tied)
		return take_head(m, &m->embed.t, err);
	return m->head.m.panels || m->head.source.there ? 0 : tc_fail(err, TC_DATA, "the head is missing");
}

void
tc_model_free(struct tc_model *m)
{
	for (size_t i = 0; m->block && i < m->config.layers; i++)
		tc_block_free(&m->block[i]);
	free(m->block);
	tc_norm_free(&m->final_norm);
	tc_kept_free(&m->pos);
	tc_linear_free(&m->head);
	tc_kept_free(&m->embed);
	*m = (struct tc_model){0};
}

int
tc_decode_open(struct tc_decode *d, const struct tc_model *m, size_t capacity, struct tc_err *err)
{
	const struct tc_config *c = &m->config;

	*d = (struct tc_decode){ .m = m, .capacity = capacity, .length = capacity };
	if (capacity > c->positions) {
		tc_fail(err, TC_USAGE, "%zu positions are wanted, the model has %zu", capacity, c->positions);
		return -1;
	}
	d->kv = tc_zalloc(c->layers, sizeof(*d->kv), err);
	d->rows = tc_min(capacity, TC_DECODE_ROWS);
	d->hidden = tc_alloc(d->rows, c->width * sizeof(float), err);
	d->q = tc_alloc(d->rows, c->heads * c->head_dim * sizeof(float), err);
	d->scratch = tc_zalloc((size_t)tc_pool_threads(m->pool), sizeof(*d->scratch), err);
	d->last = tc_alloc(c->width, sizeof(float), err);
	d->logits = tc_alloc(c->vocab, sizeof(float), err);
	if (!d->kv || !d->hidden || !d->q || !d->scratch || !d->last || !d->logits)
		goto fail;
	for (size_t i = 0; i < c->layers; i++)
		if (tc_kv_alloc(&d->kv[i], c, capacity, err) < 0)
			goto fail;
	for (int i = 0; i < tc_pool_threads(m->pool); i++)
		if (tc_scratch_alloc(&d->scratch[i], c, i == 0 ? m->pool : NULL, err) < 0)
			goto fail;
	if (tc_rope_table_make(&d->rope, c, capacity, err) < 0)
		goto fail;
	return 0;
fail:
	tc_decode_close(d);
	return -1;
}

void
tc_decode_close(struct tc_decode *d)
{
	for (size_t i = 0; d->kv && i < d->m->config.layers; i++)
		tc_kv_free(&d->kv[i]);
	free(d->kv);
	tc_rope_table_free(&d->rope);
	for (int i = 0; d->scratch && i < tc_pool_threads(d->m->pool); i++)
		tc_scratch_free(&d->scratch[i]);
	free(d->scratch);
	free(d->hidden);
	free(d->q);
	free(d->last);
	free(d->logits);
	*d = (struct tc_decode){0};
}

/* Rows of one call on their way through a block. */
struct pass {
	struct tc_decode *d;
	size_t block, rows, tile_rows;
};

static void
tile_qkv(void *ctx, size_t i, int worker)
{
	const struct pass *p = ctx;
	struct tc_decode *d = p->d;
	const struct tc_config *c = &d->m->config;
	size_t first = i * p->tile_rows, rows = tc_min(p->tile_rows, p->rows - first);

	tc_block_qkv(&d->m->block[p->block], c, &d->rope, d->length, d->n + first, rows, d->hidden + first * c->width,
	    d->q + first * c->heads * c->head_dim, &d->kv[p->block], &d->scratch[worker], NULL, NULL);
}

static void
tile_rest(void *ctx, size_t i, int worker)
{
	const struct pass *p = ctx;
	struct tc_decode *d = p->d;
	const struct tc_config *c = &d->m->config;
	size_t first = i * p->tile_rows, rows = tc_min(p->tile_rows, p->rows - first);

	tc_block_rest(&d->m->block[p->block], c, d->n + first, rows, d->hidden + first * c->width,
	    d->q + first * c->heads * c->head_dim, &d->kv[p->block], &d->scratch[worker], NULL, NULL);
}

/* As many tiles a thread, nearly equal, unless their rows share a scale. */
static void
run_tiles(struct pass *p)
{
	struct tc_pool *pool = p->d->m->pool;
	size_t threads = (size_t)tc_pool_threads(pool), n = (p->rows + TC_TILE_ROWS - 1) / TC_TILE_ROWS;

	n = tc_min(tc_round_up(n, threads), p->rows);
	p->tile_rows = p->d->m->compute && p->d->m->compute->batch ? TC_TILE_ROWS : (p->rows + n - 1) / n;
	n = (p->rows + p->tile_rows - 1) / p->tile_rows;
	tc_pool_run(pool, n, tile_qkv, p);
	tc_pool_run(pool, n, tile_rest, p);
}

/* Every product by all threads. */
static void
run_together(struct pass *p)
{
	struct tc_decode *d = p->d;
	const struct tc_model *m = d->m;
	const struct tc_block *b = &m->block[p->block];

	tc_block_qkv(b, &m->config, &d->rope, d->length, d->n, p->rows, d->hidden, d->q, &d->kv[p->block], d->scratch, NULL,
	    m->pool);
	tc_block_rest(b, &m->config, d->n, p->rows, d->hidden, d->q, &d->kv[p->block], d->scratch, NULL, m->pool);
}

/* Some rows through all blocks. */
static void
run_rows(struct tc_decode *d, const uint32_t *ids, size_t rows)
{
	const struct tc_model *m = d->m;
	const struct tc_config *c = &m->config;
	struct pass p = { .d = d, .rows = rows };

	for (size_t r = 0; r < rows; r++) {
		tc_embed_row(c, &m->embed.t, ids[r], d->hidden + r * c->width);
		if (c->learned_positions)
			tc_position_add(c, &m->pos.t, d->n + r, d->last, d->hidden + r * c->width);
	}
	for (; p.block < c->layers; p.block++)
		if (rows <= TC_DECODE_FEW)
			run_together(&p);
		else
			run_tiles(&p);
	d->n += rows;
}

int
tc_decode_run(struct tc_decode *d, const uint32_t *ids, size_t count, struct tc_err *err)
{
	const struct tc_config *c = &d->m->config;
	size_t rows = 0;

	assert(count > 0);
	if (count > d->capacity - d->n)
		return tc_fail(err, TC_DATA, "%zu tokens do not fit into %zu positions", d->n + count, d->capacity);
	for (size_t i = 0; i < count; i++)
		if (ids[i] >= c->vocab)
			return tc_fail(err, TC_DATA, "token %zu: id %u is outside the vocabulary of %zu", i, ids[i], c->vocab);
	for (size_t i = 0; i < count; i += rows) {
		rows = tc_min(d->rows, count - i);
		run_rows(d, ids + i, rows);
	}
	tc_norm_rows(&d->m->final_norm, c, 1, c->width, d->hidden + (rows - 1) * c->width, d->last);
	tc_linear_run(&d->m->head, 1, d->last, c->width, d->logits, c->vocab, d->scratch->work, d->m->pool);
	if (c->final_cap > 0)
		tc_kernels()->soft_cap(c->vocab, (float)c->final_cap, d->logits);
	if (tc_first_not_finite(TC_F32, d->logits, c->vocab) >= 0)
		return tc_fail(err, TC_DATA, "position %zu: the logits are not finite: the model overflows", d->n - 1);
	return 0;
}

void
tc_decode_crop(struct tc_decode *d, size_t n)
{
	assert(n <= d->n);
	d->n = n;
}
