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

static size_t
value_panels(const struct tc_config *c)
{
	size_t nr = tc_kernels()->nr;

	return (c->head_dim + nr - 1) / nr;
}

size_t
tc_kv_bytes(const struct tc_config *c, size_t positions)
{
	size_t head = c->head_dim + value_panels(c) * tc_kernels()->nr;

	return c->kv_heads * tc_round_up(positions, TC_KEY_TILE) * head * sizeof(float);
}

int
tc_kv_alloc(struct tc_kv *kv, const struct tc_config *c, size_t positions, struct tc_err *err)
{
	assert(TC_KEY_TILE % tc_kernels()->nr == 0);
	kv->capacity = tc_round_up(positions, TC_KEY_TILE);
	kv->k_stride = kv->capacity * c->head_dim;
	kv->v_stride = kv->capacity * value_panels(c) * tc_kernels()->nr;
	kv->k = tc_zalloc(c->kv_heads * kv->k_stride, sizeof(float), err);
	if (!kv->k)
		return -1;
	kv->v = tc_zalloc(c->kv_heads * kv->v_stride, sizeof(float), err);
	if (!kv->v)
		tc_kv_free(kv);
	return kv->v ? 0 : -1;
}

void
tc_kv_free(struct tc_kv *kv)
{
	free(kv->k);
	free(kv->v);
	*kv = (struct tc_kv){0};
}

void
tc_kv_store(struct tc_kv *kv, const struct tc_config *c, size_t pos0, size_t rows, const float *k, const float *v)
{
	size_t nr = tc_kernels()->nr, hd = c->head_dim;

	assert(pos0 + rows <= kv->capacity);
	for (size_t h = 0; h < c->kv_heads; h++)
		for (size_t r = 0; r < rows; r++) {
			size_t t = pos0 + r, from = (r * c->kv_heads + h) * hd;
			float *kt = kv->k + h * kv->k_stride + t / nr * hd * nr + t % nr;
			float *vt = kv->v + h * kv->v_stride + t * nr;

			for (size_t i = 0; i < hd; i++) {
				kt[i * nr] = k[from + i];
				vt[i / nr * kv->capacity * nr + i % nr] = v[from + i];
			}
		}
}

/* Some query rows of one KV head: `rows` of one query head at successive
 * positions, or the query heads that share the KV head, all at one position. */
struct head {
	const float *k, *v;
	float *scores, *sums, *max, *total; /* [rows][TC_KEY_TILE], [rows][head_dim], [rows] */
	size_t head_dim, capacity;
	size_t rows, pos0, step;            /* row r is at pos0 + r * step */
	size_t stride;                      /* floats from one row of q and out to the next */
	size_t window;
	float cap;
};

size_t
tc_attend_scratch(const struct tc_config *c, size_t rows)
{
	return tc_max(rows, c->heads / c->kv_heads) * (TC_KEY_TILE + c->head_dim + 2);
}

static size_t
position(const struct head *h, size_t r)
{
	return h->pos0 + r * h->step;
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
	size_t seen = first_key(window, pos), end = pos < key0 ? 0 : tc_min(pos - key0 + 1, TC_KEY_TILE);
	size_t first = tc_min(seen > key0 ? seen - key0 : 0, TC_KEY_TILE);

	if (cap > 0)
		tc_kernels()->soft_cap(end, cap, s);
	for (size_t j = 0; j < first; j++)
		s[j] = -INFINITY;
	for (size_t j = end; j < TC_KEY_TILE; j++)
		s[j] = -INFINITY;
}

/* Scores of rows r0.. against keys key0.., what a row must not see masked. */
static void
tile_scores(const struct head *h, size_t r0, size_t key0, size_t keys, const float *q)
{
	const struct tc_kernels *kern = tc_kernels();

	for (size_t j = 0; j < keys; j += kern->nr)
		kern->gemm(h->rows - r0, kern->nr, h->head_dim, q + r0 * h->stride, h->stride, 1,
		    h->k + (key0 + j) * h->head_dim, h->scores + r0 * TC_KEY_TILE + j, TC_KEY_TILE, 0, NULL);
	for (size_t r = r0; r < h->rows; r++)
		mask(position(h, r), key0, h->window, h->cap, h->scores + r * TC_KEY_TILE);
}

static void
attend_head(const struct head *h, const float *q, float *out, struct tc_softmax *softmax)
{
	const struct tc_kernels *kern = tc_kernels();
	size_t hd = h->head_dim, end = position(h, h->rows - 1) + 1;

	memset(h->sums, 0, h->rows * hd * sizeof(*h->sums));
	for (size_t r = 0; r < h->rows; r++) {
		h->max[r] = -INFINITY;
		h->total[r] = 0;
	}
	for (size_t key0 = first_key(h->window, h->pos0) / TC_KEY_TILE * TC_KEY_TILE; key0 < end; key0 += TC_KEY_TILE) {
		size_t r0 = key0 > h->pos0 ? key0 - h->pos0 : 0;  /* earlier rows see none of it */
		size_t keys = tc_min(TC_KEY_TILE, end - key0);

		tile_scores(h, r0, key0, keys, q);
		for (size_t r = r0; r < h->rows; r++) {
			float f = kern->softmax_step(TC_KEY_TILE, h->scores + r * TC_KEY_TILE, &h->max[r], &h->total[r]);

			if (f != 1)
				kern->scale(hd, f, h->sums + r * hd);
		}
		for (size_t i = 0; i < hd; i += kern->nr)
			kern->gemm(h->rows - r0, tc_min(kern->nr, hd - i), keys, h->scores + r0 * TC_KEY_TILE,
			    TC_KEY_TILE, 1, h->v + i * h->capacity + key0 * kern->nr, h->sums + r0 * hd + i, hd, 1, NULL);
	}
	for (size_t r = 0; r < h->rows; r++) {
		memcpy(out + r * h->stride, h->sums + r * hd, hd * sizeof(*out));
		kern->scale(hd, 1 / h->total[r], out + r * h->stride);
		if (softmax)
			softmax[r * h->stride / hd] = (struct tc_softmax){ h->max[r], 1 / h->total[r] };
	}
}

void
tc_attend_head(const struct tc_kv *kv, const struct tc_config *c, size_t window, size_t pos0, size_t rows, size_t kv_head,
    const float *q, float *out, struct tc_softmax *softmax, float *scratch)
{
	size_t hd = c->head_dim, shared = c->heads / c->kv_heads, first = kv_head * shared;
	struct head h = {
		.k = kv->k + kv_head * kv->k_stride,
		.v = kv->v + kv_head * kv->v_stride,
		.head_dim = hd,
		.capacity = kv->capacity,
		.rows = rows == 1 ? shared : rows,
		.pos0 = pos0,
		.step = rows > 1,
		.stride = rows == 1 ? hd : c->heads * hd,
		.window = window,
		.cap = (float)c->attn_cap,
		.scores = scratch,
	};

	assert(pos0 + rows <= kv->capacity);
	h.sums = h.scores + h.rows * TC_KEY_TILE;
	h.max = h.sums + h.rows * hd;
	h.total = h.max + h.rows;
	for (size_t j = first; j < first + shared; j += rows == 1 ? shared : 1)
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
	float *scores, *dscores;   /* [queries][TC_KEY_TILE] */
	float *q, *dout;           /* the queries' as panels, [ceil(head_dim / nr)][queries][nr] */
	float *dk, *dv;            /* [TC_KEY_TILE][head_dim] */
};

size_t
tc_attend_gradient_scratch(const struct tc_config *c)
{
	return 2 * TC_KEY_TILE * (TC_KEY_TILE + value_panels(c) * tc_kernels()->nr + c->head_dim);
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

	for (size_t j = 0; j < m->keys; j += kern->nr) {
		size_t panel = m->kv_head * a->kv->k_stride + (m->key0 + j) * hd;

		kern->gemm(m->queries, kern->nr, hd, a->q + at, stride, 1, a->kv->k + panel, m->scores + j, TC_KEY_TILE, 0, NULL);
		kern->gemm(m->queries, kern->nr, hd, a->dout + at, stride, 1, a->swapped->k + panel, m->dscores + j,
		    TC_KEY_TILE, 0, NULL);
	}
	for (size_t r = 0; r < m->queries; r++) {
		size_t row = (m->pos0 + r) * c->heads + m->head;
		float *s = m->scores + r * TC_KEY_TILE;

		mask(m->pos0 + r, m->key0, a->window, (float)c->attn_cap, s);
		kern->softmax_grad(TC_KEY_TILE, a->softmax[row].max, a->softmax[row].inverse, a->delta[row], (float)c->attn_cap,
		    s, m->dscores + r * TC_KEY_TILE);
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

	for (size_t i = 0; i < hd; i += nr) {
		size_t n = tc_min(nr, hd - i);

		kern->gemm(m->queries, n, m->keys, m->dscores, TC_KEY_TILE, 1,
		    a->swapped->v + m->kv_head * a->swapped->v_stride + i * a->swapped->capacity + m->key0 * nr,
		    a->dqkv + m->pos0 * ld + m->head * hd + i, ld, 1, NULL);
		kern->gemm(m->keys, n, m->queries, m->dscores, 1, TC_KEY_TILE, m->q + i * m->queries, m->dk + i, hd, 1, NULL);
		kern->gemm(m->keys, n, m->queries, m->scores, 1, TC_KEY_TILE, m->dout + i * m->queries, m->dv + i, hd, 1, NULL);
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

	memset(m->dk, 0, TC_KEY_TILE * hd * sizeof(*m->dk));
	memset(m->dv, 0, TC_KEY_TILE * hd * sizeof(*m->dv));
	for (m->head = m->kv_head * shared; m->head < (m->kv_head + 1) * shared; m->head++)
		for (m->pos0 = m->key0; m->pos0 < end; m->pos0 += TC_KEY_TILE) {
			size_t at = m->pos0 * stride + m->head * hd;

			m->queries = tc_min(TC_KEY_TILE, end - m->pos0);
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
	size_t hd = c->head_dim, padded = value_panels(c) * tc_kernels()->nr, shared = c->heads / c->kv_heads;
	size_t ld = (c->heads + 2 * c->kv_heads) * hd;
	struct meeting m = { .a = a, .kv_head = kv_head, .scores = scratch };

	m.dscores = m.scores + TC_KEY_TILE * TC_KEY_TILE;
	m.q = m.dscores + TC_KEY_TILE * TC_KEY_TILE;
	m.dout = m.q + TC_KEY_TILE * padded;
	m.dk = m.dout + TC_KEY_TILE * padded;
	m.dv = m.dk + TC_KEY_TILE * hd;
	for (size_t r = 0; r < a->rows; r++)
		memset(a->dqkv + r * ld + kv_head * shared * hd, 0, shared * hd * sizeof(*a->dqkv));
	for (m.key0 = 0; m.key0 < a->rows; m.key0 += TC_KEY_TILE) {
		m.keys = tc_min(TC_KEY_TILE, a->rows - m.key0);
		gradient_of_keys(&m);
	}
}
