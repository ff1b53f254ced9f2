#include "model/block_gradient.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/panels.h"

static size_t
q_dim(const struct tc_config *c)
{
	return c->heads * c->head_dim;
}

static size_t
kv_dim(const struct tc_config *c)
{
	return c->kv_heads * c->head_dim;
}

static size_t
qkv_dim(const struct tc_config *c)
{
	return q_dim(c) + 2 * kv_dim(c);
}

size_t
tc_role_outputs(const struct tc_config *c, enum tc_role role)
{
	switch (role) {
	case TC_ROLE_Q:
		return q_dim(c);
	case TC_ROLE_K:
	case TC_ROLE_V:
		return kv_dim(c);
	case TC_ROLE_GATE:
		return c->gated ? c->ffn : 0;
	case TC_ROLE_UP:
		return c->ffn;
	case TC_ROLE_O:
	case TC_ROLE_DOWN:
		return c->width;
	default:
		return 0;
	}
}

/* ---- norms ---- */

static const enum tc_role norm_roles[] = { TC_ROLE_ATTN_NORM, TC_ROLE_ATTN_POST_NORM, TC_ROLE_MLP_NORM,
	TC_ROLE_MLP_POST_NORM, TC_ROLE_Q_NORM, TC_ROLE_K_NORM };
enum { NORM_ROLES = sizeof(norm_roles) / sizeof(norm_roles[0]) };

/* Room for each, there or not. */
static size_t
norm_dim(const struct tc_config *c, enum tc_role role)
{
	return role == TC_ROLE_Q_NORM ? q_dim(c) : role == TC_ROLE_K_NORM ? kv_dim(c) : c->width;
}

size_t
tc_block_norms_at(const struct tc_config *c, enum tc_role role, bool bias)
{
	size_t at = 0;

	for (int i = 0; norm_roles[i] != role; i++)
		at += 2 * norm_dim(c, norm_roles[i]);
	return at + (bias ? norm_dim(c, role) : 0);
}

size_t
tc_block_norms(const struct tc_config *c)
{
	enum tc_role last = norm_roles[NORM_ROLES - 1];

	return tc_block_norms_at(c, last, true) + norm_dim(c, last);
}

void
tc_norm_rows_gradient(const struct tc_norm *w, const struct tc_config *c, size_t rows, size_t n, const float *x,
    const float *dy, float *dx, float *dw, float *db)
{
	const struct tc_kernels *kern = tc_kernels();

	for (size_t r = 0; r < rows; r++)
		if (c->norm == TC_NORM_LAYER)
			kern->layer_norm_grad(n, x + r * n, w->w, (float)c->norm_eps, dy + r * n, dx + r * n, dw, db);
		else
			kern->rms_norm_grad(n, x + r * n, w->w, (float)c->norm_eps, dy + r * n, dx + r * n, dw);
}

/* Of a norm of the block: index says which tile's sums. */
static void
norm_back(const struct tc_block_gradient *g, size_t index, enum tc_role role, const struct tc_norm *w, size_t rows, size_t n,
    const float *x, const float *dy, float *dx)
{
	float *norms = g->rows->norms + index * tc_block_norms(g->c);

	tc_norm_rows_gradient(w, g->c, rows, n, x, dy, dx, norms + tc_block_norms_at(g->c, role, false),
	    norms + tc_block_norms_at(g->c, role, true));
}

/* ---- weights ---- */

int
tc_block_back_prepare(struct tc_block_back *b, const struct tc_config *c, const struct tc_tensor *const weight[TC_ROLES],
    struct tc_pool *pool, struct tc_err *err)
{
#define PART(role) { weight[role], 0, tc_role_outputs(c, role) }
	const struct tc_row_range qkv[] = { PART(TC_ROLE_Q), PART(TC_ROLE_K), PART(TC_ROLE_V) };
	const struct tc_row_range up[] = { PART(TC_ROLE_UP), PART(TC_ROLE_GATE) };
	const struct tc_row_range o = PART(TC_ROLE_O), down = PART(TC_ROLE_DOWN);
#undef PART

	if (tc_linear_prepare_transposed(&b->qkv, 3, qkv, pool, err) < 0 ||
	    tc_linear_prepare_transposed(&b->o, 1, &o, pool, err) < 0 ||
	    tc_linear_prepare_transposed(&b->up, c->gated ? 2 : 1, up, pool, err) < 0)
		return -1;
	return tc_linear_prepare_transposed(&b->down, 1, &down, pool, err);
}

void
tc_block_back_free(struct tc_block_back *b)
{
	tc_linear_free(&b->qkv);
	tc_linear_free(&b->o);
	tc_linear_free(&b->up);
	tc_linear_free(&b->down);
}

/* ---- buffers ---- */

/* The buffers that grow with rows, but for the keys and values. */
enum { ROW_BUFFERS = 5 + TC_SITE_MLP_MID + 1 + TC_ROLES };
struct row_buffer {
	float **p;
	size_t floats;   /* of a row; 0: not there */
};

static void
list_buffers(struct tc_block_rows *r, const struct tc_config *c, struct row_buffer b[ROW_BUFFERS])
{
	size_t nr = tc_kernels()->nr;
	bool raw = c->qk_norm != TC_QK_NORM_NONE;

	*b++ = (struct row_buffer){ &r->q_raw, raw ? q_dim(c) : 0 };
	*b++ = (struct row_buffer){ &r->k_raw, raw ? kv_dim(c) : 0 };
	*b++ = (struct row_buffer){ &r->dout, q_dim(c) };
	*b++ = (struct row_buffer){ &r->delta, c->heads };
	*b++ = (struct row_buffer){ &r->dqkv, qkv_dim(c) };
	for (int s = 0; s <= TC_SITE_MLP_MID; s++)
		*b++ = (struct row_buffer){ &r->x[s], tc_round_up(tc_site_inputs(c, (enum tc_site)s), nr) };
	for (int role = 0; role < TC_ROLES; role++)
		*b++ = (struct row_buffer){ &r->dy[role], tc_round_up(tc_role_outputs(c, (enum tc_role)role), nr) };
}

size_t
tc_block_row_floats(const struct tc_config *c)
{
	struct row_buffer b[ROW_BUFFERS];
	struct tc_block_rows r;
	size_t n = c->heads * sizeof(struct tc_softmax) / sizeof(float) +
	    c->kv_heads * (c->head_dim + tc_round_up(c->head_dim, tc_kernels()->nr));

	list_buffers(&r, c, b);
	for (size_t i = 0; i < ROW_BUFFERS; i++)
		n += b[i].floats;
	return n;
}

int
tc_block_rows_alloc(struct tc_block_rows *r, const struct tc_config *c, const struct tc_batch_sizes *most,
    float *q, struct tc_kv *kv, struct tc_err *err)
{
	struct row_buffer b[ROW_BUFFERS];

	*r = (struct tc_block_rows){ .q = q, .kv = kv };
	list_buffers(r, c, b);
	for (size_t i = 0; i < ROW_BUFFERS; i++)
		if (b[i].floats > 0 && !(*b[i].p = tc_alloc(most->rows, b[i].floats * sizeof(float), err)))
			return -1;
	r->softmax = tc_alloc(most->rows, c->heads * sizeof(*r->softmax), err);
	r->norms = tc_alloc(most->tiles, tc_block_norms(c) * sizeof(float), err);
	r->swapped = tc_zalloc(most->sequences, sizeof(*r->swapped), err);
	if (!r->softmax || !r->norms || !r->swapped)
		return -1;
	for (; r->nswapped < most->sequences; r->nswapped++)
		if (tc_kv_alloc(&r->swapped[r->nswapped], c, &kv->o, kv[r->nswapped].capacity, kv[r->nswapped].capacity, err) < 0)
			return -1;
	return 0;
}

void
tc_block_rows_free(struct tc_block_rows *r)
{
	free(r->q_raw);
	free(r->k_raw);
	free(r->softmax);
	free(r->dout);
	free(r->delta);
	free(r->dqkv);
	free(r->norms);
	for (size_t s = 0; s < r->nswapped; s++)
		tc_kv_free(&r->swapped[s]);
	free(r->swapped);
	for (int s = 0; s < TC_SITES; s++)
		free(r->x[s]);
	for (int role = 0; role < TC_ROLES; role++)
		free(r->dy[role]);
	*r = (struct tc_block_rows){0};
}

int
tc_block_back_scratch_alloc(struct tc_block_back_scratch *s, const struct tc_config *c, struct tc_scratch *forward,
    struct tc_err *err)
{
	struct { float **p; size_t floats; } want[] = {
		{ &s->hidden, TC_TILE_ROWS * c->width },
		{ &s->o, TC_TILE_ROWS * c->width },
		{ &s->down, TC_TILE_ROWS * c->width },
		{ &s->att, TC_TILE_ROWS * q_dim(c) },
		{ &s->x, TC_TILE_ROWS * c->width },
		{ &s->gate, TC_TILE_ROWS * c->ffn },
		{ &s->up, TC_TILE_ROWS * c->ffn },
		{ &s->mid, TC_TILE_ROWS * c->ffn },
		{ &s->dup, TC_TILE_ROWS * 2 * c->ffn },
		{ &s->dx, TC_TILE_ROWS * c->width },
		{ &s->attend, tc_attend_gradient_scratch(c) },
	};

	*s = (struct tc_block_back_scratch){ .forward = forward };
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		if (!(*want[i].p = tc_alloc(want[i].floats, sizeof(float), err)))
			return -1;
	return 0;
}

void
tc_block_back_scratch_free(struct tc_block_back_scratch *s)
{
	free(s->hidden);
	free(s->o);
	free(s->down);
	free(s->att);
	free(s->x);
	free(s->gate);
	free(s->up);
	free(s->mid);
	free(s->dup);
	free(s->dx);
	free(s->attend);
	*s = (struct tc_block_back_scratch){0};
}

/* ---- steps ---- */

/* A tile's rows of n numbers, ldx apart, into the panels of its sequence. */
static void
put(float *panels, const struct tc_tile *t, size_t n, const float *x, size_t ldx)
{
	size_t first = t->row - t->pos0; /* row of the sequence in the batch */

	tc_panels_put(panels + first * tc_round_up(n, tc_kernels()->nr), t->length, t->pos0, t->rows, n, x, ldx);
}

static void
put_output(const struct tc_block_gradient *g, const struct tc_tile *t, enum tc_role role, const float *dy, size_t ldy)
{
	put(g->rows->dy[role], t, tc_role_outputs(g->c, role), dy, ldy);
}

static void
put_input(const struct tc_block_gradient *g, const struct tc_tile *t, enum tc_site site, const float *x)
{
	size_t n = tc_site_inputs(g->c, site);

	put(g->rows->x[site], t, n, x, n);
}

void
tc_block_back_qkv(const struct tc_block_gradient *g, const struct tc_tile *t, const float *input,
    struct tc_block_back_scratch *s)
{
	const struct tc_config *c = g->c;
	struct tc_block_rows *r = g->rows;
	float *k = s->forward->kv, *v = k + t->rows * kv_dim(c);
	struct tc_sites sites = { .site = { [TC_SITE_ATTN_IN] = s->x } };
	struct tc_span span = tc_tile_span(t, r->kv);
	struct tc_spans spans = { &span, 1, t->rows };

	if (r->q_raw) {
		sites.q = r->q_raw + t->row * q_dim(c);
		sites.k = r->k_raw + t->row * kv_dim(c);
	}
	tc_block_qkv(g->block, c, g->rope, &spans, input, r->q + t->row * q_dim(c), s->forward, &sites, NULL);
	tc_kv_store(&r->swapped[t->seq], c, t->pos0, t->rows, v, k);
	put_input(g, t, TC_SITE_ATTN_IN, s->x);
}

/* Through act(gate) * up, or act(up): dmid becomes dup, [rows][up, gate]. */
static void
activation_back(const struct tc_config *c, size_t rows, const struct tc_block_back_scratch *s, const float *dmid, float *dup)
{
	const struct tc_kernels *kern = tc_kernels();
	size_t f = c->ffn, ld = c->gated ? 2 * f : f;

	for (size_t i = 0; i < rows; i++) {
		const float *from = c->gated ? s->gate + i * f : s->up + i * f, *factor = c->gated ? s->up + i * f : NULL;
		float *up = dup + i * ld, *dfrom = c->gated ? up + f : up;

		if (c->act == TC_ACT_GELU_TANH)
			kern->gelu_tanh_mul_grad(f, from, factor, dmid + i * f, dfrom, up);
		else
			kern->silu_mul_grad(f, from, factor, dmid + i * f, dfrom, up);
	}
}

/* d += the gradient that comes back through the MLP; s->hidden is what it was
 * added to. */
static void
mlp_back(const struct tc_block_gradient *g, const struct tc_tile *t, size_t index, float *d, struct tc_block_back_scratch *s)
{
	const struct tc_config *c = g->c;
	const float *out = d;
	float *dmid = s->forward->gate;
	size_t ld = c->gated ? 2 * c->ffn : c->ffn;

	if (c->post_norm) {
		norm_back(g, index, TC_ROLE_MLP_POST_NORM, &g->block->mlp_post_norm, t->rows, c->width, s->down, d, s->down);
		out = s->down;
	}
	put_output(g, t, TC_ROLE_DOWN, out, c->width);
	tc_linear_run(&g->back->down, t->rows, out, c->width, dmid, c->ffn, s->forward->work, NULL);
	activation_back(c, t->rows, s, dmid, s->dup);
	put_output(g, t, TC_ROLE_UP, s->dup, ld);
	if (c->gated)
		put_output(g, t, TC_ROLE_GATE, s->dup + c->ffn, ld);
	tc_linear_run(&g->back->up, t->rows, s->dup, ld, s->dx, c->width, s->forward->work, NULL);
	if (c->pre_norm)
		norm_back(g, index, TC_ROLE_MLP_NORM, &g->block->mlp_norm, t->rows, c->width, s->hidden, s->dx, s->dx);
	tc_kernels()->add(t->rows * c->width, s->dx, d);
}

/* Back from what attention was added to, to its heads' output. */
static void
output_back(const struct tc_block_gradient *g, const struct tc_tile *t, size_t index, const float *d,
    struct tc_block_back_scratch *s)
{
	const struct tc_config *c = g->c;
	const float *out = d;
	float *dout = g->rows->dout + t->row * q_dim(c), *delta = g->rows->delta + t->row * c->heads;

	if (c->post_norm) {
		norm_back(g, index, TC_ROLE_ATTN_POST_NORM, &g->block->attn_post_norm, t->rows, c->width, s->o, d, s->o);
		out = s->o;
	}
	put_output(g, t, TC_ROLE_O, out, c->width);
	tc_linear_run(&g->back->o, t->rows, out, c->width, dout, q_dim(c), s->forward->work, NULL);
	for (size_t i = 0; i < t->rows * c->heads; i++) {
		double sum = 0;

		for (size_t j = i * c->head_dim; j < (i + 1) * c->head_dim; j++)
			sum += (double)dout[j] * (double)s->att[j];
		delta[i] = (float)sum;
	}
}

void
tc_block_back_rest(const struct tc_block_gradient *g, const struct tc_tile *t, size_t index, const float *input, float *d,
    struct tc_block_back_scratch *s)
{
	const struct tc_config *c = g->c;
	struct tc_block_rows *r = g->rows;
	struct tc_sites sites = {
		.site = { [TC_SITE_ATTN_OUT] = s->att, [TC_SITE_MLP_IN] = s->x, [TC_SITE_MLP_MID] = s->mid },
		.softmax = r->softmax + t->row * c->heads,
		.o = c->post_norm ? s->o : NULL,
		.down = c->post_norm ? s->down : NULL,
		.gate = s->gate,
		.up = s->up,
		.open = true,
	};
	struct tc_span span = tc_tile_span(t, r->kv);
	struct tc_spans spans = { &span, 1, t->rows };

	memset(r->norms + index * tc_block_norms(c), 0, tc_block_norms(c) * sizeof(float));
	memcpy(s->hidden, input, t->rows * c->width * sizeof(*input));
	tc_block_rest(g->block, c, &spans, s->hidden, r->q + t->row * q_dim(c), s->forward, &sites, NULL);
	put_input(g, t, TC_SITE_ATTN_OUT, s->att);
	put_input(g, t, TC_SITE_MLP_IN, s->x);
	put_input(g, t, TC_SITE_MLP_MID, s->mid);
	mlp_back(g, t, index, d, s);
	output_back(g, t, index, d, s);
}

void
tc_block_back_attend(const struct tc_block_gradient *g, size_t seq, size_t row, size_t length, size_t kv_head,
    struct tc_block_back_scratch *s)
{
	const struct tc_config *c = g->c;
	struct tc_block_rows *r = g->rows;
	struct tc_attend_gradient a = {
		.c = c,
		.window = tc_block_window(c, g->block->index),
		.rows = length,
		.kv = &r->kv[seq],
		.swapped = &r->swapped[seq],
		.q = r->q + row * q_dim(c),
		.dout = r->dout + row * q_dim(c),
		.softmax = r->softmax + row * c->heads,
		.delta = r->delta + row * c->heads,
		.dqkv = r->dqkv + row * qkv_dim(c),
	};

	tc_attend_gradient(&a, kv_head, s->attend);
}

/* Back through the rotation and the norm of q or k: d, [rows][heads] of
 * head_dim, qkv_dim() apart. */
static void
heads_back(const struct tc_block_gradient *g, const struct tc_tile *t, size_t index, enum tc_role role,
    const struct tc_norm *w, const float *raw, size_t heads, float *d)
{
	const struct tc_config *c = g->c;
	size_t n = heads * c->head_dim, ld = qkv_dim(c);
	bool each = c->qk_norm == TC_QK_NORM_HEAD;

	tc_rope_rows(c, g->rope, g->block->index, t->length, t->pos0, t->rows, heads, d, ld, true);
	for (size_t i = 0; c->qk_norm != TC_QK_NORM_NONE && i < t->rows; i++)
		norm_back(g, index, role, w, each ? heads : 1, each ? c->head_dim : n, raw + i * n, d + i * ld, d + i * ld);
}

void
tc_block_back_input(const struct tc_block_gradient *g, const struct tc_tile *t, size_t index, const float *input, float *d,
    struct tc_block_back_scratch *s)
{
	const struct tc_config *c = g->c;
	struct tc_block_rows *r = g->rows;
	size_t ld = qkv_dim(c);
	float *dq = r->dqkv + t->row * ld, *dk = dq + q_dim(c), *dv = dk + kv_dim(c);

	for (size_t i = 0; i < t->rows; i++)
		tc_kernels()->scale(q_dim(c), (float)c->query_scale, dq + i * ld);
	heads_back(g, t, index, TC_ROLE_Q_NORM, &g->block->q_norm, r->q_raw ? r->q_raw + t->row * q_dim(c) : NULL, c->heads, dq);
	heads_back(g, t, index, TC_ROLE_K_NORM, &g->block->k_norm, r->k_raw ? r->k_raw + t->row * kv_dim(c) : NULL, c->kv_heads, dk);
	put_output(g, t, TC_ROLE_Q, dq, ld);
	put_output(g, t, TC_ROLE_K, dk, ld);
	put_output(g, t, TC_ROLE_V, dv, ld);
	tc_linear_run(&g->back->qkv, t->rows, dq, ld, s->dx, c->width, s->forward->work, NULL);
	if (c->pre_norm)
		norm_back(g, index, TC_ROLE_ATTN_NORM, &g->block->attn_norm, t->rows, c->width, input, s->dx, s->dx);
	tc_kernels()->add(t->rows * c->width, s->dx, d);
}
