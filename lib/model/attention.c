/* The online softmax is that of Milakov and Gimelshein (2018), "Online
 * normalizer calculation for softmax", tiled as in Dao et al. (2022),
 * "FlashAttention", algorithm 1: no row of scores is ever whole. */
#include "model/attention.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "kernel/kernel.h"
#include "model/panels.h"

/* Rows of the heads that share a KV head are few if they are no more. */
enum { ROWS_TOGETHER = 32 };

/* Some query rows of one KV head: of `each` query heads that share it at every one of
 * successive positions.  They are copied, so that they lie together. */
struct head {
	const struct tc_kv *kv;
	const struct tc_config *c;
	size_t kv_head, each;
	size_t rows, pos0;                  /* row r is at pos0 + r / each */
	size_t window;
	float *q, *folded;                  /* [rows][head_dim]; folded: of a tile by channel */
	float *scores, *sums, *max, *total; /* [rows][TC_KV_TILE], [rows][head_dim], [rows] */
};

/* As many of the heads that share a KV head go together. */
static size_t
heads_together(const struct tc_config *c, size_t rows)
{
	size_t shared = c->heads / c->kv_heads;

	return rows * shared <= ROWS_TOGETHER ? shared : 1;
}

size_t
tc_attend_scratch(const struct tc_config *c, size_t rows)
{
	size_t most = tc_max(tc_max(rows, ROWS_TOGETHER), c->heads / c->kv_heads);

	return most * (TC_KV_TILE + 3 * c->head_dim + 2);
}

static size_t
position(const struct head *h, size_t r)
{
	return h->pos0 + r / h->each;
}

/* The first row at this position or after it. */
static size_t
first_row(const struct head *h, size_t pos)
{
	return pos > h->pos0 ? tc_min((pos - h->pos0) * h->each, h->rows) : 0;
}

/* The first key that the query at pos sees. */
static size_t
first_key(size_t window, size_t pos)
{
	return window && pos >= window ? pos - window + 1 : 0;
}

/* The scores of the query at pos against the tile of keys from key0 on: capped,
 * and what it must not see masked. */
static void
mask(size_t pos, size_t key0, size_t window, float cap, float *s)
{
	size_t seen = first_key(window, pos), end = pos < key0 ? 0 : tc_min(pos - key0 + 1, TC_KV_TILE);
	size_t first = tc_min(seen > key0 ? seen - key0 : 0, TC_KV_TILE);

	if (cap > 0)
		tc_kernels()->soft_cap(end, cap, s);
	for (size_t j = 0; j < first; j++)
		s[j] = -INFINITY;
	for (size_t j = end; j < TC_KV_TILE; j++)
		s[j] = -INFINITY;
}

/* Scores of rows r0 .. against a whole tile whose keys have scales by channel. */
static void
channel_scores(const struct head *h, size_t r0, size_t end, const void *tile)
{
	const struct tc_kernels *kern = tc_kernels();
	enum tc_kv_format f = h->kv->o.format;
	size_t hd = h->c->head_dim, group = TC_KV_GROUP * tc_kv_row_bytes(f, hd);
	const uint16_t *scale = tc_kv_scales(h->kv, h->c, tile);

	for (size_t j = 0; j < TC_KV_TILE; j += TC_KV_GROUP, scale += 2 * hd, tile = (const char *)tile + group) {
		for (size_t r = r0; r < end; r++) {
			float *s = h->scores + r * TC_KV_TILE + j;
			float rest = kern->kv_fold(hd, tc_kv_middle(f), h->q + r * hd, scale, scale + hd, h->folded + r * hd);

			for (size_t t = 0; t < TC_KV_GROUP; t++)
				s[t] = rest;
		}
		kern->kv_scores(f, end - r0, hd, TC_KV_GROUP, h->folded + r0 * hd, hd, tile, NULL,
		    h->scores + r0 * TC_KV_TILE + j, 1);
	}
}

/* Scores of rows r0.. against keys key0.., what a row must not see masked. */
static void
tile_scores(const struct head *h, size_t r0, size_t key0, size_t keys)
{
	const struct tc_kv *kv = h->kv;
	const void *tile = tc_kv_keys(kv, h->kv_head, key0);
	size_t hd = h->c->head_dim, packed = kv->o.channel ? tc_max(first_row(h, tc_kv_packed_from(kv, key0)), r0) : 0;

	if (!kv->o.channel)
		tc_kernels()->kv_scores(kv->o.format, h->rows - r0, hd, keys, h->q + r0 * hd, hd, tile,
		    tc_kv_scales(kv, h->c, tile), h->scores + r0 * TC_KV_TILE, 0);
	if (kv->o.channel && packed > r0)
		tc_kernels()->kv_scores(TC_KV_F32, packed - r0, hd, keys, h->q + r0 * hd, hd,
		    tc_kv_recent_keys(kv, h->c, h->kv_head, key0), NULL, h->scores + r0 * TC_KV_TILE, 0);
	if (kv->o.channel && packed < h->rows)
		channel_scores(h, packed, h->rows, tile);
	for (size_t r = r0; r < h->rows; r++)
		mask(position(h, r), key0, h->window, (float)h->c->attn_cap, h->scores + r * TC_KV_TILE);
}

/* Adds a tile of keys and values to what rows r0.. have. */
static void
meet_tile(const struct head *h, size_t key0, size_t keys)
{
	const struct tc_kernels *kern = tc_kernels();
	size_t hd = h->c->head_dim, r0 = first_row(h, key0);      /* earlier rows see none of it */
	const void *values = tc_kv_values(h->kv, h->kv_head, key0);

	tile_scores(h, r0, key0, keys);
	for (size_t r = r0; r < h->rows; r++) {
		float f = kern->softmax_step(TC_KV_TILE, h->scores + r * TC_KV_TILE, &h->max[r], &h->total[r]);

		if (f != 1)
			kern->scale(hd, f, h->sums + r * hd);
	}
	kern->kv_sums(h->kv->o.format, h->rows - r0, hd, keys, h->scores + r0 * TC_KV_TILE, values,
	    tc_kv_scales(h->kv, h->c, values), h->sums + r0 * hd, hd);
}

/* q, out and softmax: of the first row.  A position has heads * head_dim numbers. */
static void
attend_head(const struct head *h, const float *q, float *out, struct tc_softmax *softmax)
{
	size_t hd = h->c->head_dim, heads = h->c->heads, end = position(h, h->rows - 1) + 1;

	memset(h->sums, 0, h->rows * hd * sizeof(*h->sums));
	for (size_t r = 0; r < h->rows; r++) {
		memcpy(h->q + r * hd, q + (r / h->each * heads + r % h->each) * hd, hd * sizeof(*q));
		h->max[r] = -INFINITY;
		h->total[r] = 0;
	}
	tc_kv_rotate(&h->kv->o, hd, h->rows, h->q, false);
	for (size_t key0 = first_key(h->window, h->pos0) / TC_KV_TILE * TC_KV_TILE; key0 < end; key0 += TC_KV_TILE)
		meet_tile(h, key0, tc_min(TC_KV_TILE, end - key0));
	tc_kv_rotate(&h->kv->o, hd, h->rows, h->sums, true);
	for (size_t r = 0; r < h->rows; r++) {
		size_t to = r / h->each * heads + r % h->each;

		memcpy(out + to * hd, h->sums + r * hd, hd * sizeof(*out));
		tc_kernels()->scale(hd, 1 / h->total[r], out + to * hd);
		if (softmax)
			softmax[to] = (struct tc_softmax){ h->max[r], 1 / h->total[r] };
	}
}

void
tc_attend_head(const struct tc_kv *kv, const struct tc_config *c, size_t window, size_t pos0, size_t rows, size_t kv_head,
    const float *q, float *out, struct tc_softmax *softmax, float *scratch)
{
	size_t hd = c->head_dim, shared = c->heads / c->kv_heads, first = kv_head * shared;
	size_t each = heads_together(c, rows), n = rows * each;
	struct head h = { .kv = kv, .c = c, .kv_head = kv_head, .each = each, .rows = n, .pos0 = pos0, .window = window, .q = scratch };

	assert(pos0 + rows <= kv->capacity);
	h.folded = h.q + n * hd;
	h.sums = h.folded + n * hd;
	h.scores = h.sums + n * hd;
	h.max = h.scores + n * TC_KV_TILE;
	h.total = h.max + n;
	for (size_t j = first; j < first + shared; j += each)
		attend_head(&h, q + j * hd, out + j * hd, softmax ? softmax + j : NULL);
}

void
tc_attend(const struct tc_kv *kv, const struct tc_config *c, size_t window, size_t pos0, size_t rows,
    const float *q, float *out, struct tc_softmax *softmax, float *scratch)
{
	for (size_t i = 0; i < c->kv_heads; i++)
		tc_attend_head(kv, c, window, pos0, rows, i, q, out, softmax, scratch);
}

/* ---- gradient ---- */

/* Some queries of one head against a tile of keys. */
struct meeting {
	const struct tc_attend_gradient *a;
	size_t kv_head, head;
	size_t key0, keys, pos0, queries;
	float *scores, *dscores;   /* [queries][TC_KV_TILE] */
	float *q, *dout;           /* the queries' as panels, [ceil(head_dim / nr)][queries][nr] */
	float *dk, *dv;            /* [TC_KV_TILE][head_dim] */
};

size_t
tc_attend_gradient_scratch(const struct tc_config *c)
{
	return 2 * TC_KV_TILE * (TC_KV_TILE + tc_round_up(c->head_dim, tc_kernels()->nr) + c->head_dim);
}

/* Scores of the queries, then their softmax and its gradient: scores become
 * probabilities, dscores the gradient of the scores before capping. */
static void
meet(const struct meeting *m)
{
	const struct tc_kernels *kern = tc_kernels();
	const struct tc_attend_gradient *a = m->a;
	const struct tc_config *c = a->c;
	size_t hd = c->head_dim, stride = c->heads * hd, at = m->pos0 * stride + m->head * hd;

	kern->kv_scores(TC_KV_F32, m->queries, hd, m->keys, a->q + at, stride, tc_kv_keys(a->kv, m->kv_head, m->key0), NULL,
	    m->scores, 0);
	kern->kv_scores(TC_KV_F32, m->queries, hd, m->keys, a->dout + at, stride, tc_kv_keys(a->swapped, m->kv_head, m->key0), NULL,
	    m->dscores, 0);
	for (size_t r = 0; r < m->queries; r++) {
		size_t row = (m->pos0 + r) * c->heads + m->head;
		float *s = m->scores + r * TC_KV_TILE;

		mask(m->pos0 + r, m->key0, a->window, (float)c->attn_cap, s);
		kern->softmax_grad(TC_KV_TILE, a->softmax[row].max, a->softmax[row].inverse, a->delta[row], (float)c->attn_cap,
		    s, m->dscores + r * TC_KV_TILE);
	}
}

/* dq += dscores k, dk += dscores^T q, dv += probabilities^T dout. */
static void
add_products(const struct meeting *m)
{
	const struct tc_kernels *kern = tc_kernels();
	const struct tc_attend_gradient *a = m->a;
	const struct tc_config *c = a->c;
	size_t nr = kern->nr, hd = c->head_dim, ld = (c->heads + 2 * c->kv_heads) * hd;

	kern->kv_sums(TC_KV_F32, m->queries, hd, m->keys, m->dscores, tc_kv_values(a->swapped, m->kv_head, m->key0), NULL,
	    a->dqkv + m->pos0 * ld + m->head * hd, ld);
	for (size_t i = 0; i < hd; i += nr) {
		size_t n = tc_min(nr, hd - i);

		kern->gemm(m->keys, n, m->queries, m->dscores, 1, TC_KV_TILE, m->q + i * m->queries, m->dk + i, hd, 1, NULL);
		kern->gemm(m->keys, n, m->queries, m->scores, 1, TC_KV_TILE, m->dout + i * m->queries, m->dv + i, hd, 1, NULL);
	}
}

/* The queries that see a tile of keys: those from its first key on, and with a
 * window those up to its last key's. */
static void
gradient_of_keys(struct meeting *m)
{
	const struct tc_attend_gradient *a = m->a;
	const struct tc_config *c = a->c;
	size_t hd = c->head_dim, stride = c->heads * hd, shared = c->heads / c->kv_heads, ld = stride + 2 * c->kv_heads * hd;
	size_t end = a->window ? tc_min(a->rows, m->key0 + m->keys - 1 + a->window) : a->rows;
	float *dk = a->dqkv + m->key0 * ld + stride + m->kv_head * hd, *dv = dk + c->kv_heads * hd;

	memset(m->dk, 0, TC_KV_TILE * hd * sizeof(*m->dk));
	memset(m->dv, 0, TC_KV_TILE * hd * sizeof(*m->dv));
	for (m->head = m->kv_head * shared; m->head < (m->kv_head + 1) * shared; m->head++)
		for (m->pos0 = m->key0; m->pos0 < end; m->pos0 += TC_KV_TILE) {
			size_t at = m->pos0 * stride + m->head * hd;

			m->queries = tc_min(TC_KV_TILE, end - m->pos0);
			tc_panels_put(m->q, m->queries, 0, m->queries, hd, a->q + at, stride);
			tc_panels_put(m->dout, m->queries, 0, m->queries, hd, a->dout + at, stride);
			meet(m);
			add_products(m);
		}
	for (size_t r = 0; r < m->keys; r++) {
		memcpy(dk + r * ld, m->dk + r * hd, hd * sizeof(*dk));
		memcpy(dv + r * ld, m->dv + r * hd, hd * sizeof(*dv));
	}
}

void
tc_attend_gradient(const struct tc_attend_gradient *a, size_t kv_head, float *scratch)
{
	const struct tc_config *c = a->c;
	size_t hd = c->head_dim, padded = tc_round_up(hd, tc_kernels()->nr), shared = c->heads / c->kv_heads;
	size_t ld = (c->heads + 2 * c->kv_heads) * hd;
	struct meeting m = { .a = a, .kv_head = kv_head, .scores = scratch };

	m.dscores = m.scores + TC_KV_TILE * TC_KV_TILE;
	m.q = m.dscores + TC_KV_TILE * TC_KV_TILE;
	m.dout = m.q + TC_KV_TILE * padded;
	m.dk = m.dout + TC_KV_TILE * padded;
	m.dv = m.dk + TC_KV_TILE * hd;
	for (size_t r = 0; r < a->rows; r++)
		memset(a->dqkv + r * ld + kv_head * shared * hd, 0, shared * hd * sizeof(*a->dqkv));
	for (m.key0 = 0; m.key0 < a->rows; m.key0 += TC_KV_TILE) {
		m.keys = tc_min(TC_KV_TILE, a->rows - m.key0);
		gradient_of_keys(&m);
	}
}
