#include "model/vocab.h"

#include <stdlib.h>

#include "base/mem.h"

static void
cut_tiles(struct tc_vocab *v)
{
	for (size_t i = 0; i < v->n; v->ntiles++) {
		struct tc_vocab_rows *t = &v->tile[v->ntiles];

		*t = (struct tc_vocab_rows){ .first = i, .n = 1 };
		while (t->n < TC_VOCAB_ROWS && i + t->n < v->n && v->row[i + t->n] == v->row[i] + t->n)
			t->n++;
		i += t->n;
	}
}

int
tc_vocab_open(struct tc_vocab *v, size_t nsides, const struct tc_final *const *side, size_t n, const size_t *row,
    struct tc_pool *pool, struct tc_err *err)
{
	size_t threads = (size_t)tc_pool_threads(pool), width = 0;

	*v = (struct tc_vocab){ .pool = pool, .nsides = nsides, .n = n, .row = row, .vocab = tc_tensor_rows(side[0]->head) };
	for (size_t k = 0; k < nsides; k++) {
		v->side[k] = side[k];
		width = tc_max(width, tc_tensor_cols(side[k]->head));
		if (tc_tensor_rows(side[k]->head) != v->vocab)
			return tc_fail(err, TC_DATA, "the vocabularies differ: %zu and %zu", v->vocab,
			    tc_tensor_rows(side[k]->head));
	}
	v->work_floats = tc_linear_work(width, TC_VOCAB_ROWS, NULL);
	v->tile = tc_alloc(n, sizeof(*v->tile), err);
	v->logits = tc_alloc(threads * nsides * TC_VOCAB_ROWS * TC_VOCAB_TILE, sizeof(float), err);
	v->work = tc_alloc(threads * v->work_floats, sizeof(float), err);
	if (!v->tile || !v->logits || !v->work)
		return -1;
	cut_tiles(v);
	return 0;
}

int
tc_vocab_next(struct tc_vocab *v, struct tc_err *err)
{
	v->token0 += v->tokens;
	v->tokens = tc_min(TC_VOCAB_TILE, v->vocab - v->token0);
	for (size_t k = 0; v->tokens > 0 && k < v->nsides; k++) {
		v->part[k].compute = v->side[k]->compute;
		if (tc_linear_prepare(&v->part[k], v->side[k]->head, v->token0, v->tokens, TC_LINEAR_MANY, v->pool, err) < 0)
			return -1;
	}
	return v->tokens > 0;
}

struct run {
	struct tc_vocab *v;
	size_t first;
	tc_vocab_fn *fn;
	void *ctx;
};

static void
run_tile(void *ctx, size_t i, int worker)
{
	const struct run *r = ctx;
	const struct tc_vocab *v = r->v;
	const struct tc_vocab_rows *t = &v->tile[r->first + i];
	float *z[TC_VOCAB_SIDES] = { NULL, NULL };

	for (size_t k = 0; k < v->nsides; k++) {
		const struct tc_linear *l = &v->part[k];

		z[k] = v->logits + ((size_t)worker * v->nsides + k) * TC_VOCAB_ROWS * TC_VOCAB_TILE;
		tc_linear_run(l, t->n, v->side[k]->hidden + v->row[t->first] * l->m.in, l->m.in, z[k], TC_VOCAB_TILE,
		    v->work + (size_t)worker * v->work_floats, NULL);
		for (size_t j = 0; v->side[k]->cap > 0 && j < t->n; j++)
			tc_kernels()->soft_cap(v->tokens, (float)v->side[k]->cap, z[k] + j * TC_VOCAB_TILE);
	}
	r->fn(r->ctx, v, t, z, worker);
}

void
tc_vocab_run(struct tc_vocab *v, size_t first, size_t n, tc_vocab_fn *fn, void *ctx)
{
	struct run r = { v, first, fn, ctx };

	tc_pool_run(v->pool, n, run_tile, &r);
}

void
tc_vocab_close(struct tc_vocab *v)
{
	for (size_t k = 0; k < TC_VOCAB_SIDES; k++)
		tc_linear_free(&v->part[k]);
	free(v->tile);
	free(v->logits);
	free(v->work);
	*v = (struct tc_vocab){0};
}
