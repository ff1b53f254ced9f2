#include "model/block.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "base/mem.h"
#include "model/rope.h"

void
tc_block_clear(struct tc_block *b, int index)
{
	struct tc_linear *l[] = { &b->q, &b->k, &b->v, &b->o, &b->gate, &b->up, &b->down };

	b->index = index;
	b->have = b->have_bias = 0;
	for (size_t i = 0; i < sizeof(l) / sizeof(l[0]); i++) {
		free(l[i]->bias);
		l[i]->bias = NULL;
	}
}

static struct tc_linear *
linear_of(struct tc_block *b, enum tc_role role)
{
	switch (role) {
	case TC_ROLE_Q:
		return &b->q;
	case TC_ROLE_K:
		return &b->k;
	case TC_ROLE_V:
		return &b->v;
	case TC_ROLE_O:
		return &b->o;
	case TC_ROLE_GATE:
		return &b->gate;
	case TC_ROLE_UP:
		return &b->up;
	case TC_ROLE_DOWN:
		return &b->down;
	default:
		return NULL;
	}
}

int
tc_norm_take(struct tc_norm *n, const struct tc_config *c, const struct tc_tensor *t, struct tc_err *err)
{
	size_t count = tc_tensor_elements(t);
	float **p = t->bias ? &n->b : &n->w;

	if (!*p)
		*p = tc_alloc(count, sizeof(float), err);
	if (!*p)
		return -1;
	tc_tensor_read_rows(t, 0, 1, *p);
	for (size_t i = 0; !t->bias && c->norm_offset != 0 && i < count; i++)
		(*p)[i] += (float)c->norm_offset;
	return 0;
}

void
tc_norm_free(struct tc_norm *n)
{
	free(n->w);
	free(n->b);
	*n = (struct tc_norm){0};
}

static struct tc_norm *
norm_of(struct tc_block *b, enum tc_role role)
{
	switch (role) {
	case TC_ROLE_ATTN_NORM:
		return &b->attn_norm;
	case TC_ROLE_ATTN_POST_NORM:
		return &b->attn_post_norm;
	case TC_ROLE_MLP_NORM:
		return &b->mlp_norm;
	case TC_ROLE_MLP_POST_NORM:
		return &b->mlp_post_norm;
	case TC_ROLE_Q_NORM:
		return &b->q_norm;
	case TC_ROLE_K_NORM:
		return &b->k_norm;
	default:
		return NULL;
	}
}

int
tc_block_take(struct tc_block *b, const struct tc_config *c, const struct tc_tensor *t, struct tc_pool *pool,
    struct tc_err *err)
{
	unsigned bit = 1u << t->role, *have = t->bias ? &b->have_bias : &b->have;
	struct tc_linear *l = linear_of(b, t->role);

	if (tc_config_check(c, t, err) < 0)
		return -1;
	if (t->block != b->index)
		return tc_fail(err, TC_DATA, "%s: comes before block %d is complete", t->name, b->index);
	if (*have & bit)
		return tc_fail(err, TC_DATA, "%s: is there twice", t->name);
	*have |= bit;
	if (l && t->bias)
		return tc_linear_bias(l, t, err);
	if (l) {
		l->compute = b->compute;
		tc_compute_count(b->compute, t);
		return tc_linear_prepare(l, t, 0, tc_tensor_rows(t), b->use, pool, err);
	}
	return tc_norm_take(norm_of(b, t->role), c, t, err);
}

/* The first tensor of the block that has not come, if any. */
static bool
first_missing(const struct tc_block *b, const struct tc_config *c, struct tc_tensor *t)
{
	for (size_t i = 0; tc_config_tensor(c, i, t); i++)
		if (t->block == b->index && !((t->bias ? b->have_bias : b->have) & 1u << t->role))
			return true;
	return false;
}

bool
tc_block_full(const struct tc_block *b, const struct tc_config *c)
{
	struct tc_tensor t;

	return !first_missing(b, c, &t);
}

int
tc_block_complete(const struct tc_block *b, const struct tc_config *c, struct tc_err *err)
{
	struct tc_tensor t;

	if (first_missing(b, c, &t))
		return tc_fail(err, TC_DATA, "%s: is missing", t.name);
	return 0;
}

void
tc_block_free(struct tc_block *b)
{
	for (int role = 0; role < TC_ROLES; role++)
		if (norm_of(b, (enum tc_role)role))
			tc_norm_free(norm_of(b, (enum tc_role)role));
	tc_linear_free(&b->q);
	tc_linear_free(&b->k);
	tc_linear_free(&b->v);
	tc_linear_free(&b->o);
	tc_linear_free(&b->gate);
	tc_linear_free(&b->up);
	tc_linear_free(&b->down);
	*b = (struct tc_block){ .index = -1, .use = b->use, .compute = b->compute };
}

enum { OWN, LOCAL, LONG };

static int
make_table(struct tc_rope_table *t, int which, const struct tc_rope *r, size_t length, struct tc_err *err)
{
	size_t half = r->dims / 2;
	double factor = tc_rope_attention_factor(r);

	t->dims[which] = r->dims;
	t->cos[which] = tc_alloc(t->positions * half, sizeof(float), err);
	t->sin[which] = tc_alloc(t->positions * half, sizeof(float), err);
	if (!t->cos[which] || !t->sin[which])
		return -1;
	for (size_t i = 0; i < half; i++) {
		double f = tc_rope_frequency(r, i, length);

		for (size_t p = 0; p < t->positions; p++) {
			t->cos[which][p * half + i] = (float)(tc_cos((double)p * f) * factor);
			t->sin[which][p * half + i] = (float)(tc_sin((double)p * f) * factor);
		}
	}
	return 0;
}

int
tc_rope_table_make(struct tc_rope_table *t, const struct tc_config *c, size_t positions, struct tc_err *err)
{
	*t = (struct tc_rope_table){ .positions = positions };
	if (c->rope.dims > 0 && make_table(t, OWN, &c->rope, 1, err) < 0)
		return -1;
	if (c->rope.kind == TC_ROPE_LONGROPE && make_table(t, LONG, &c->rope, SIZE_MAX, err) < 0)
		return -1;
	return c->local_rope.dims > 0 ? make_table(t, LOCAL, &c->local_rope, 1, err) : 0;
}

void
tc_rope_table_free(struct tc_rope_table *t)
{
	for (int i = 0; i < TC_ROPE_TABLES; i++) {
		free(t->cos[i]);
		free(t->sin[i]);
	}
	*t = (struct tc_rope_table){0};
}

void
tc_embed_row(const struct tc_config *c, const struct tc_tensor *embed, uint32_t id, float *x)
{
	tc_tensor_read_rows(embed, id, 1, x);
	if (c->embed_scale != 1)
		tc_kernels()->scale(c->width, (float)c->embed_scale, x);
}

void
tc_position_add(const struct tc_config *c, const struct tc_tensor *pos, size_t position, float *work, float *x)
{
	tc_tensor_read_rows(pos, position, 1, work);
	tc_kernels()->add(c->width, work, x);
}

int
tc_scratch_alloc(struct tc_scratch *s, const struct tc_config *c, struct tc_pool *pool, struct tc_err *err)
{
	size_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
	struct { float **p; size_t floats; } want[] = {
		{ &s->norm, TC_TILE_ROWS * c->width },
		{ &s->kv, TC_TILE_ROWS * kv * 2 },
		{ &s->att, TC_TILE_ROWS * q },
		{ &s->att_work, (size_t)tc_pool_threads(pool) * tc_attend_scratch(c, TC_TILE_ROWS) },
		{ &s->gate, TC_TILE_ROWS * c->ffn },
		{ &s->up, TC_TILE_ROWS * c->ffn },
		{ &s->out, TC_TILE_ROWS * c->width },
		{ &s->work, tc_linear_work(tc_max(tc_max(c->width, c->ffn), q), TC_TILE_ROWS, pool) },
	};

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
		*want[i].p = tc_alloc(want[i].floats, sizeof(float), err);
		if (!*want[i].p)
			return -1;
	}
	return 0;
}

void
tc_scratch_free(struct tc_scratch *s)
{
	free(s->norm);
	free(s->kv);
	free(s->att);
	free(s->att_work);
	free(s->gate);
	free(s->up);
	free(s->out);
	free(s->work);
	*s = (struct tc_scratch){0};
}

static const struct tc_sites no_sites;

static float *
or_scratch(float *wanted, float *scratch)
{
	return wanted ? wanted : scratch;
}

/* What is in scratch now and will be overwritten. */
static void
keep(float *wanted, const float *x, size_t n)
{
	if (wanted)
		memcpy(wanted, x, n * sizeof(*x));
}

void
tc_norm_rows(const struct tc_norm *w, const struct tc_config *c, size_t rows, size_t n, const float *x, float *y)
{
	const struct tc_kernels *kern = tc_kernels();

	for (size_t r = 0; r < rows; r++)
		if (c->norm == TC_NORM_LAYER)
			kern->layer_norm(n, x + r * n, w->w, w->b, (float)c->norm_eps, y + r * n);
		else
			kern->rms_norm(n, x + r * n, w->w, (float)c->norm_eps, y + r * n);
}

/* The residual stream as a sub-layer reads it. */
static const float *
input_of(const struct tc_norm *w, const struct tc_config *c, size_t rows, const float *hidden, float *x)
{
	if (c->pre_norm)
		tc_norm_rows(w, c, rows, c->width, hidden, x);
	else
		memcpy(x, hidden, rows * c->width * sizeof(*x));
	return x;
}

size_t
tc_site_inputs(const struct tc_config *c, enum tc_site site)
{
	return site == TC_SITE_ATTN_OUT ? c->heads * c->head_dim : site == TC_SITE_MLP_MID ? c->ffn : c->width;
}

size_t
tc_block_window(const struct tc_config *c, int block)
{
	return c->layer[block] & TC_LAYER_SLIDING ? c->window : 0;
}

static void
add_output(const struct tc_norm *w, const struct tc_config *c, size_t rows, float *out, float *hidden)
{
	if (c->post_norm)
		tc_norm_rows(w, c, rows, c->width, out, out);
	tc_kernels()->add(rows * c->width, out, hidden);
}

static void
norm_heads(const struct tc_norm *w, const struct tc_config *c, size_t rows, size_t heads, float *x)
{
	if (c->qk_norm == TC_QK_NORM_HEAD)
		tc_norm_rows(w, c, rows * heads, c->head_dim, x, x);
	else if (c->qk_norm == TC_QK_NORM_WHOLE)
		tc_norm_rows(w, c, rows, heads * c->head_dim, x, x);
}

/* Which table, or -1: the block does not rotate. */
static int
rope_of(const struct tc_config *c, int block, size_t length)
{
	if (c->layer[block] & TC_LAYER_NO_ROPE)
		return -1;
	if (c->layer[block] & TC_LAYER_LOCAL_ROPE)
		return LOCAL;
	return c->rope.kind == TC_ROPE_LONGROPE && (double)length > c->rope.original_positions ? LONG : OWN;
}

void
tc_rope_rows(const struct tc_config *c, const struct tc_rope_table *rope, int block, size_t length, size_t pos0,
    size_t rows, size_t heads, float *x, size_t ldx, bool back)
{
	int which = rope_of(c, block, length);
	size_t half = which < 0 ? 0 : rope->dims[which] / 2;

	assert(pos0 + rows <= rope->positions);
	for (size_t r = 0; half > 0 && r < rows; r++)
		for (size_t h = 0; h < heads; h++) {
			float *pair = x + r * ldx + h * c->head_dim;

			/* (a, -b) turned by an angle is (a, b) turned back, its
			 * second half negated. */
			if (back)
				tc_kernels()->scale(half, -1, pair + half);
			tc_kernels()->rope(2 * half, pair, rope->cos[which] + (pos0 + r) * half,
			    rope->sin[which] + (pos0 + r) * half);
			if (back)
				tc_kernels()->scale(half, -1, pair + half);
		}
}

void
tc_block_qkv(const struct tc_block *b, const struct tc_config *c, const struct tc_rope_table *rope,
    const struct tc_spans *spans, const float *hidden, float *q,
    struct tc_scratch *s, const struct tc_sites *sites, struct tc_pool *pool)
{
	size_t dq = c->heads * c->head_dim, dkv = c->kv_heads * c->head_dim, rows = spans->rows;
	float *k = s->kv, *v = s->kv + rows * dkv;
	const float *x;

	assert(rows <= TC_TILE_ROWS);
	sites = sites ? sites : &no_sites;
	x = input_of(&b->attn_norm, c, rows, hidden, or_scratch(sites->site[TC_SITE_ATTN_IN], s->norm));
	tc_linears_run(3, (struct tc_product[]){ { &b->q, q, dq }, { &b->k, k, dkv }, { &b->v, v, dkv } }, rows, x, c->width,
	    s->work, pool);
	keep(sites->q, q, rows * dq);
	keep(sites->k, k, rows * dkv);
	norm_heads(&b->q_norm, c, rows, c->heads, q);
	norm_heads(&b->k_norm, c, rows, c->kv_heads, k);
	for (size_t i = 0; i < spans->n; i++) {
		const struct tc_span *at = &spans->span[i];

		tc_rope_rows(c, rope, b->index, at->length, at->pos0, at->rows, c->heads, q, dq, false);
		tc_rope_rows(c, rope, b->index, at->length, at->pos0, at->rows, c->kv_heads, k, dkv, false);
		tc_kernels()->scale(at->rows * dq, (float)c->query_scale, q);
		tc_kv_store(at->kv, c, at->pos0, at->rows, k, v);
		q += at->rows * dq;
		k += at->rows * dkv;
		v += at->rows * dkv;
	}
}

struct attend {
	const struct tc_config *c;
	size_t window;
	const struct tc_spans *spans;
	const float *q;
	float *out;
	struct tc_softmax *softmax;
	float *scratch;
};

/* One KV head of one span. */
static void
attend_one(void *ctx, size_t i, int worker)
{
	const struct attend *a = ctx;
	const struct tc_config *c = a->c;
	const struct tc_span *at = &a->spans->span[i / c->kv_heads];
	size_t row = 0, dq = c->heads * c->head_dim;

	for (const struct tc_span *s = a->spans->span; s < at; s++)
		row += s->rows;
	tc_attend_head(at->kv, c, a->window, at->pos0, at->rows, i % c->kv_heads, a->q + row * dq, a->out + row * dq,
	    a->softmax ? a->softmax + row * c->heads : NULL, a->scratch + (size_t)worker * tc_attend_scratch(c, TC_TILE_ROWS));
}

/* act(gate x) * up x, or act(up x) where there is no gate. */
static void
run_mlp(const struct tc_block *b, const struct tc_config *c, size_t rows, const float *x, float *mid,
    struct tc_scratch *s, const struct tc_sites *sites, struct tc_pool *pool)
{
	const struct tc_kernels *kern = tc_kernels();
	float *gate = or_scratch(sites->gate, mid), *up = or_scratch(sites->up, c->gated ? s->up : mid);
	struct tc_product product[] = { { &b->up, up, c->ffn }, { &b->gate, gate, c->ffn } };
	const float *from = c->gated ? gate : up, *factor = c->gated ? up : NULL;

	tc_linears_run(c->gated ? 2 : 1, product, rows, x, c->width, s->work, pool);
	if (c->act == TC_ACT_GELU_TANH)
		kern->gelu_tanh_mul(rows * c->ffn, from, factor, mid);
	else
		kern->silu_mul(rows * c->ffn, from, factor, mid);
}

void
tc_block_rest(const struct tc_block *b, const struct tc_config *c,
    const struct tc_spans *spans, float *hidden, const float *q,
    struct tc_scratch *s, const struct tc_sites *sites, struct tc_pool *pool)
{
	size_t dq = c->heads * c->head_dim, rows = spans->rows;
	struct attend a = { c, tc_block_window(c, b->index), spans, q, NULL, NULL, s->att_work };
	float *att, *mid;
	const float *x;

	assert(rows <= TC_TILE_ROWS);
	sites = sites ? sites : &no_sites;
	att = or_scratch(sites->site[TC_SITE_ATTN_OUT], s->att);
	mid = or_scratch(sites->site[TC_SITE_MLP_MID], s->gate);
	a.out = att;
	a.softmax = sites->softmax;
	tc_pool_run(pool, spans->n * c->kv_heads, attend_one, &a);
	tc_linear_run(&b->o, rows, att, dq, s->out, c->width, s->work, pool);
	keep(sites->o, s->out, rows * c->width);
	add_output(&b->attn_post_norm, c, rows, s->out, hidden);

	x = input_of(&b->mlp_norm, c, rows, hidden, or_scratch(sites->site[TC_SITE_MLP_IN], s->norm));
	run_mlp(b, c, rows, x, mid, s, sites, pool);
	if (sites->open && !sites->down)
		return;
	tc_linear_run(&b->down, rows, mid, c->ffn, s->out, c->width, s->work, pool);
	keep(sites->down, s->out, rows * c->width);
	if (!sites->open)
		add_output(&b->mlp_post_norm, c, rows, s->out, hidden);
}
