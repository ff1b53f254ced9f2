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
tc_sequence_open(struct tc_sequence *s, const struct tc_model *m, size_t capacity, struct tc_err *err)
{
	const struct tc_config *c = &m->config;

	*s = (struct tc_sequence){ .capacity = capacity, .length = capacity };
	if (capacity > c->positions)
		return tc_fail(err, TC_USAGE, "%zu positions are wanted, the model has %zu", capacity, c->positions);
	if (tc_kv_check(&m->kv, c, err) < 0)
		return -1;
	s->kv = tc_zalloc(c->layers, sizeof(*s->kv), err);
	if (!s->kv)
		return -1;
	for (; s->layers < c->layers; s->layers++)
		if (tc_kv_alloc(&s->kv[s->layers], c, &m->kv, capacity, TC_KV_AT_ONCE, err) < 0) {
			tc_sequence_close(s);
			return -1;
		}
	return 0;
}

void
tc_sequence_close(struct tc_sequence *s)
{
	for (size_t i = 0; i < s->layers; i++)
		tc_kv_free(&s->kv[i]);
	free(s->kv);
	*s = (struct tc_sequence){0};
}

void
tc_sequence_crop(struct tc_sequence *s, size_t n)
{
	assert(n <= s->n && (!s->kv->o.channel || n == 0 || s->n - n <= TC_KV_CROP));
	s->n = n;
}

/* Where a row belongs. */
struct tc_decode_row {
	struct tc_sequence *s;
	size_t pos;
};

int
tc_decode_open(struct tc_decode *d, const struct tc_model *m, size_t positions, size_t rows, struct tc_err *err)
{
	const struct tc_config *c = &m->config;

	*d = (struct tc_decode){ .m = m, .rows = tc_min(rows, TC_DECODE_ROWS) };
	d->row = tc_alloc(d->rows, sizeof(*d->row), err);
	d->hidden = tc_alloc(d->rows, c->width * sizeof(float), err);
	d->q = tc_alloc(d->rows, c->heads * c->head_dim * sizeof(float), err);
	d->scratch = tc_zalloc((size_t)tc_pool_threads(m->pool), sizeof(*d->scratch), err);
	if (!d->row || !d->hidden || !d->q || !d->scratch)
		goto fail;
	for (int i = 0; i < tc_pool_threads(m->pool); i++)
		if (tc_scratch_alloc(&d->scratch[i], c, i == 0 ? m->pool : NULL, err) < 0)
			goto fail;
	if (tc_rope_table_make(&d->rope, c, positions, err) < 0)
		goto fail;
	return 0;
fail:
	tc_decode_close(d);
	return -1;
}

void
tc_decode_close(struct tc_decode *d)
{
	tc_rope_table_free(&d->rope);
	for (int i = 0; d->scratch && i < tc_pool_threads(d->m->pool); i++)
		tc_scratch_free(&d->scratch[i]);
	free(d->scratch);
	free(d->row);
	free(d->hidden);
	free(d->q);
	free(d->last);
	free(d->logits);
	*d = (struct tc_decode){0};
}

/* ---- rows through the blocks ---- */

/* Rows of one call on their way through a block. */
struct pass {
	struct tc_decode *d;
	size_t block, rows, tile_rows;
};

/* Rows first .. first+rows-1, a span for those that follow one another. */
static struct tc_spans
spans_of(const struct pass *p, size_t first, size_t rows, struct tc_span span[TC_TILE_ROWS])
{
	const struct tc_decode_row *row = p->d->row + first;
	struct tc_spans spans = { span, 0, rows };

	for (size_t i = 0; i < rows; i++)
		if (i > 0 && row[i].s == row[i - 1].s)
			span[spans.n - 1].rows++;
		else
			span[spans.n++] = (struct tc_span){ &row[i].s->kv[p->block], row[i].s->length, row[i].pos, 1 };
	return spans;
}

static void
tile_qkv(void *ctx, size_t i, int worker)
{
	const struct pass *p = ctx;
	struct tc_decode *d = p->d;
	const struct tc_config *c = &d->m->config;
	size_t first = i * p->tile_rows;
	struct tc_span span[TC_TILE_ROWS];
	struct tc_spans spans = spans_of(p, first, tc_min(p->tile_rows, p->rows - first), span);

	tc_block_qkv(&d->m->block[p->block], c, &d->rope, &spans, d->hidden + first * c->width,
	    d->q + first * c->heads * c->head_dim, &d->scratch[worker], NULL, NULL);
}

static void
tile_rest(void *ctx, size_t i, int worker)
{
	const struct pass *p = ctx;
	struct tc_decode *d = p->d;
	const struct tc_config *c = &d->m->config;
	size_t first = i * p->tile_rows;
	struct tc_span span[TC_TILE_ROWS];
	struct tc_spans spans = spans_of(p, first, tc_min(p->tile_rows, p->rows - first), span);

	tc_block_rest(&d->m->block[p->block], c, &spans, d->hidden + first * c->width, d->q + first * c->heads * c->head_dim,
	    &d->scratch[worker], NULL, NULL);
}

/* What the rows stored, between the halves of a block. */
static void
settle(const struct pass *p)
{
	const struct tc_decode_row *row = p->d->row;

	for (size_t i = 0, n; i < p->rows; i += n) {
		for (n = 1; i + n < p->rows && row[i + n].s == row[i].s; )
			n++;
		tc_kv_settle(&row[i].s->kv[p->block], &p->d->m->config, row[i].pos, n);
	}
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
	settle(p);
	tc_pool_run(pool, n, tile_rest, p);
}

/* Every product by all threads. */
static void
run_together(struct pass *p)
{
	struct tc_decode *d = p->d;
	const struct tc_model *m = d->m;
	const struct tc_block *b = &m->block[p->block];
	struct tc_span span[TC_TILE_ROWS];
	struct tc_spans spans = spans_of(p, 0, p->rows, span);

	tc_block_qkv(b, &m->config, &d->rope, &spans, d->hidden, d->q, d->scratch, NULL, m->pool);
	settle(p);
	tc_block_rest(b, &m->config, &spans, d->hidden, d->q, d->scratch, NULL, m->pool);
}

/* d->row[0 .. rows-1], which have these ids, through all blocks. */
static void
run_rows(struct tc_decode *d, const uint32_t *ids, size_t rows)
{
	const struct tc_model *m = d->m;
	const struct tc_config *c = &m->config;
	struct pass p = { .d = d, .rows = rows };

	for (size_t r = 0; r < rows; r++) {
		tc_embed_row(c, &m->embed.t, ids[r], d->hidden + r * c->width);
		if (c->learned_positions)
			tc_position_add(c, &m->pos.t, d->row[r].pos, d->scratch->norm, d->hidden + r * c->width);
	}
	for (; p.block < c->layers; p.block++)
		if (rows <= TC_DECODE_FEW)
			run_together(&p);
		else
			run_tiles(&p);
}

/* ---- a call ---- */

static int
check_appends(const struct tc_decode *d, const struct tc_append *a, size_t n, struct tc_err *err)
{
	for (size_t i = 0; i < n; i++) {
		assert(a[i].count > 0);
		if (a[i].count > a[i].s->capacity - a[i].s->n)
			return tc_fail(err, TC_DATA, "%zu tokens do not fit into %zu positions", a[i].s->n + a[i].count,
			    a[i].s->capacity);
		assert(a[i].s->capacity <= d->rope.positions);
		for (size_t k = 0; k < a[i].count; k++)
			if (a[i].ids[k] >= d->m->config.vocab)
				return tc_fail(err, TC_DATA, "token %zu: id %u is outside the vocabulary of %zu", k, a[i].ids[k],
				    d->m->config.vocab);
	}
	return 0;
}

static int
make_room(struct tc_decode *d, size_t outputs, struct tc_err *err)
{
	const struct tc_config *c = &d->m->config;

	if (outputs <= d->outputs)
		return 0;
	d->outputs = 0;
	free(d->last);
	free(d->logits);
	d->last = tc_alloc(outputs, c->width * sizeof(float), err);
	d->logits = tc_alloc(outputs, c->vocab * sizeof(float), err);
	if (!d->last || !d->logits)
		return -1;
	d->outputs = outputs;
	return 0;
}

/* Where a call is: id k of append i comes next, whose logits will be at out. */
struct at {
	size_t i, k, out;
};

/* The next rows, and the last hidden states of those that are asked for. */
static void
take_rows(struct tc_decode *d, const struct tc_append *a, size_t n, struct at *at)
{
	const struct tc_config *c = &d->m->config;
	uint32_t ids[TC_DECODE_ROWS];
	bool wanted[TC_DECODE_ROWS];
	size_t rows = 0, began = at->k;

	for (; rows < d->rows && at->i < n; rows++) {
		const struct tc_append *p = &a[at->i];

		if (p->s->kv->o.channel && at->k - began == TC_KV_AT_ONCE)
			break;
		d->row[rows] = (struct tc_decode_row){ p->s, p->s->n + at->k };
		ids[rows] = p->ids[at->k++];
		wanted[rows] = p->all || at->k == p->count;
		if (at->k == p->count) {
			*at = (struct at){ at->i + 1, 0, at->out };
			began = 0;
		}
	}
	run_rows(d, ids, rows);
	for (size_t r = 0; r < rows; r++)
		if (wanted[r])
			tc_norm_rows(&d->m->final_norm, c, 1, c->width, d->hidden + r * c->width, d->last + at->out++ * c->width);
}

int
tc_decode_run(struct tc_decode *d, struct tc_append *a, size_t n, struct tc_err *err)
{
	const struct tc_config *c = &d->m->config;
	struct at at = {0};
	size_t outputs = 0;

	if (check_appends(d, a, n, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		outputs += a[i].all ? a[i].count : 1;
	if (make_room(d, outputs, err) < 0)
		return -1;
	while (at.i < n)
		take_rows(d, a, n, &at);
	for (size_t r = 0; r < outputs; r += TC_TILE_ROWS)
		tc_linear_run(&d->m->head, tc_min(TC_TILE_ROWS, outputs - r), d->last + r * c->width, c->width,
		    d->logits + r * c->vocab, c->vocab, d->scratch->work, d->m->pool);
	if (c->final_cap > 0)
		tc_kernels()->soft_cap(outputs * c->vocab, (float)c->final_cap, d->logits);
	for (size_t i = 0, out = 0; i < n; i++) {
		size_t mine = a[i].all ? a[i].count : 1;

		a[i].logits = d->logits + out * c->vocab;
		if (tc_first_not_finite(TC_F32, a[i].logits, mine * c->vocab) >= 0)
			return tc_fail(err, TC_DATA, "position %zu: the logits are not finite: the model overflows",
			    a[i].s->n + a[i].count - 1);
		out += mine;
	}
	for (size_t i = 0; i < n; i++)
		a[i].s->n += a[i].count;
	return 0;
}
