#include "model/block.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/math.h"
#include "base/mem.h"

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

static int
take_norm(float **w, const struct tc_tensor *t, struct tc_err *err)
{
	if (!*w)
		*w = tc_alloc(tc_tensor_elements(t), sizeof(float), err);
	if (!*w)
		return -1;
	tc_tensor_read_rows(t, 0, 1, *w);
	return 0;
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
	if (l)
		return t->bias ? tc_linear_bias(l, t, err) :
		    tc_linear_prepare(l, t, 0, tc_tensor_rows(t), pool, err);
	return take_norm(t->role == TC_ROLE_ATTN_NORM ? &b->attn_norm : &b->mlp_norm, t, err);
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
	free(b->attn_norm);
	free(b->mlp_norm);
	tc_linear_free(&b->q);
	tc_linear_free(&b->k);
	tc_linear_free(&b->v);
	tc_linear_free(&b->o);
	tc_linear_free(&b->gate);
	tc_linear_free(&b->up);
	tc_linear_free(&b->down);
	*b = (struct tc_block){ .index = -1 };
}

/* Llama 3's scaling (Meta, 2024): long wavelengths are divided by the factor,
 * short ones stay, those between are interpolated. */
static double
llama3_frequency(const struct tc_rope *r, double f)
{
	double wavelength = 6.283185307179586 / f;
	double share = (r->original_positions / wavelength - r->low_freq) / (r->high_freq - r->low_freq);

	if (wavelength > r->original_positions / r->low_freq)
		return f / r->factor;
	if (wavelength < r->original_positions / r->high_freq)
		return f;
	return (1 - share) * f / r->factor + share * f;
}

static double
frequency(const struct tc_config *c, size_t i)
{
	double f = 1 / tc_pow(c->rope.theta, 2.0 * (double)i / (double)c->head_dim);

	switch (c->rope.kind) {
	case TC_ROPE_LINEAR:
		return f / c->rope.factor;
	case TC_ROPE_LLAMA3:
		return llama3_frequency(&c->rope, f);
	default:
		return f;
	}
}

int
tc_rope_table_make(struct tc_rope_table *t, const struct tc_config *c, size_t positions, struct tc_err *err)
{
	size_t half = c->head_dim / 2;

	t->positions = positions;
	t->cos = tc_alloc(positions * half, sizeof(float), err);
	t->sin = tc_alloc(positions * half, sizeof(float), err);
	if (!t->cos || !t->sin)
		return -1;
	for (size_t i = 0; i < half; i++) {
		double f = frequency(c, i);

		for (size_t p = 0; p < positions; p++) {
			t->cos[p * half + i] = (float)tc_cos((double)p * f);
			t->sin[p * half + i] = (float)tc_sin((double)p * f);
		}
	}
	return 0;
}

void
tc_rope_table_free(struct tc_rope_table *t)
{
	free(t->cos);
	free(t->sin);
	*t = (struct tc_rope_table){0};
}

int
tc_scratch_alloc(struct tc_scratch *s, const struct tc_config *c, struct tc_err *err)
{
	size_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
	struct { float **p; size_t floats; } want[] = {
		{ &s->norm, TC_TILE_ROWS * c->width },
		{ &s->kv, TC_TILE_ROWS * kv * 2 },
		{ &s->att, TC_TILE_ROWS * q },
		{ &s->att_work, tc_attend_scratch(c, TC_TILE_ROWS) },
		{ &s->gate, TC_TILE_ROWS * c->ffn },
		{ &s->up, TC_TILE_ROWS * c->ffn },
		{ &s->out, TC_TILE_ROWS * c->width },
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
	*s = (struct tc_scratch){0};
}

static float *
site_or(const struct tc_sites *sites, enum tc_site site, float *scratch)
{
	return sites && sites->site[site] ? sites->site[site] : scratch;
}

static void
norm_rows(const struct tc_config *c, size_t rows, const float *x, const float *w, float *y)
{
	for (size_t r = 0; r < rows; r++)
		tc_kernels()->rms_norm(c->width, x + r * c->width, w, (float)c->norm_eps, y + r * c->width);
}

static void
rotate_rows(const struct tc_config *c, const struct tc_rope_table *rope, size_t pos0, size_t rows, size_t heads, float *x)
{
	size_t half = c->head_dim / 2;

	assert(pos0 + rows <= rope->positions);
	for (size_t r = 0; r < rows; r++)
		for (size_t h = 0; h < heads; h++)
			tc_kernels()->rope(c->head_dim, x + (r * heads + h) * c->head_dim,
			    rope->cos + (pos0 + r) * half, rope->sin + (pos0 + r) * half);
}

void
tc_block_qkv(const struct tc_block *b, const struct tc_config *c, const struct tc_rope_table *rope,
    size_t pos0, size_t rows, const float *hidden, float *q, struct tc_kv *kv,
    struct tc_scratch *s, const struct tc_sites *sites, struct tc_pool *pool)
{
	size_t dq = c->heads * c->head_dim, dkv = c->kv_heads * c->head_dim;
	float *x = site_or(sites, TC_SITE_ATTN_IN, s->norm), *k = s->kv, *v = s->kv + rows * dkv;

	assert(rows <= TC_TILE_ROWS);
	norm_rows(c, rows, hidden, b->attn_norm, x);
	tc_linear_run(&b->q, rows, x, c->width, q, dq, pool);
	tc_linear_run(&b->k, rows, x, c->width, k, dkv, pool);
	tc_linear_run(&b->v, rows, x, c->width, v, dkv, pool);
	rotate_rows(c, rope, pos0, rows, c->heads, q);
	rotate_rows(c, rope, pos0, rows, c->kv_heads, k);
	tc_kernels()->scale(rows * dq, 1 / sqrtf((float)c->head_dim), q);
	tc_kv_store(kv, c, pos0, rows, k, v);
}

void
tc_block_rest(const struct tc_block *b, const struct tc_config *c, size_t pos0, size_t rows,
    float *hidden, const float *q, const struct tc_kv *kv,
    struct tc_scratch *s, const struct tc_sites *sites, struct tc_pool *pool)
{
	const struct tc_kernels *kern = tc_kernels();
	size_t dq = c->heads * c->head_dim;
	float *att = site_or(sites, TC_SITE_ATTN_OUT, s->att);
	float *x = site_or(sites, TC_SITE_MLP_IN, s->norm);
	float *mid = site_or(sites, TC_SITE_MLP_MID, s->gate);

	assert(rows <= TC_TILE_ROWS);
	tc_attend(kv, c, pos0, rows, q, att, s->att_work);
	tc_linear_run(&b->o, rows, att, dq, s->out, c->width, pool);
	kern->add(rows * c->width, s->out, hidden);

	norm_rows(c, rows, hidden, b->mlp_norm, x);
	tc_linear_run(&b->gate, rows, x, c->width, mid, c->ffn, pool);
	tc_linear_run(&b->up, rows, x, c->width, s->up, c->ffn, pool);
	kern->silu_mul(rows * c->ffn, mid, s->up, mid);
	tc_linear_run(&b->down, rows, mid, c->ffn, s->out, c->width, pool);
	kern->add(rows * c->width, s->out, hidden);
}
