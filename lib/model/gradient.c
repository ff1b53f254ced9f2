#include "model/gradient.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "model/block_gradient.h"
#include "model/panels.h"

enum {
	STRIP_PANELS = 2,     /* panels of outputs that a strip has */
	STRIP_TOKENS = 128,   /* tokens whose panels stay in the first cache */
};

/* Where a strip's gradient comes from. */
enum origin {
	FROM_PRODUCT,  /* dy^T x */
	FROM_SUM,      /* the sum of dy: a bias */
	FROM_NORMS,    /* the sum over a sequence's tiles */
	FROM_IDS,      /* embeddings: rows of the hidden states' gradient by token, */
	FROM_POSITIONS /* and by position */
};

struct tc_strip_source {
	const struct pass *pass;
	enum origin origin;
	bool ids_too;          /* a tied head: FROM_PRODUCT, then FROM_IDS */
	const float *dy, *x;   /* panels of the batch */
	size_t dy_dim, dy_row0; /* outputs that dy has, and the parameter's row that is its first */
	size_t norms_at;
};

struct pass {
	struct tc_forward *f;
	const struct tc_config *c;
	struct tc_exec *e;
	const struct tc_tensor *const *tensor;
	size_t params;
	const struct tc_loss *loss;
	struct tc_loss_state state;
	const struct tc_gradient_visitor *v;

	struct tc_batch_sizes most;
	struct tc_block_back back;
	struct tc_block_rows rows;
	struct tc_block_back_scratch *scratch; /* [threads] */
	struct tc_block_gradient g;
	float *logits, *hidden;    /* the head's dy and x, as panels */

	/* the batch in hand */
	size_t first, end, ntiles;
	size_t first_tile[TC_BATCH_SEQUENCES];

	/* what is offered together */
	size_t nstrips;
	struct tc_strip *strip;
	struct tc_strip_source *source;   /* [params of it] */
	size_t nsources;
};

size_t
tc_strip_rows(void)
{
	return STRIP_PANELS * tc_kernels()->nr;
}

static size_t
strips_of(size_t rows)
{
	return (rows + tc_strip_rows() - 1) / tc_strip_rows();
}

size_t
tc_strips_together(const struct tc_config *c)
{
	size_t n = 2 * TC_ROLES; /* vectors */

	for (int role = 0; role < TC_ROLES; role++)
		n += strips_of(tc_role_outputs(c, (enum tc_role)role));
	return tc_max(n, strips_of(TC_VOCAB_TILE));
}

int
tc_loss_next_tokens(struct tc_loss *l, size_t nseq, const size_t *start, const uint32_t *ids, struct tc_err *err)
{
	size_t *row = tc_alloc(start[nseq], sizeof(*row), err);
	uint32_t *target = tc_alloc(start[nseq], sizeof(*target), err);
	float *weight = tc_alloc(start[nseq], sizeof(*weight), err);

	*l = (struct tc_loss){ .row = row, .target = target, .weight = weight };
	if (!row || !target || !weight) {
		tc_loss_free(l);
		return -1;
	}
	for (size_t s = 0; s < nseq; s++)
		for (size_t t = start[s]; t + 1 < start[s + 1]; t++) {
			row[l->n] = t;
			target[l->n] = ids[t + 1];
			weight[l->n++] = 1 / (float)(start[s + 1] - start[s] - 1);
		}
	return 0;
}

void
tc_loss_free(struct tc_loss *l)
{
	free((void *)l->row);
	free((void *)l->target);
	free((void *)l->weight);
	*l = (struct tc_loss){0};
}

/* ---- strips ---- */

static size_t
length_of(const struct pass *p, size_t seq)
{
	return p->e->start[seq + 1] - p->e->start[seq];
}

/* The panels of a sequence. */
static const float *
panels_of(const struct pass *p, const float *panels, size_t dim, size_t seq)
{
	return panels + (p->e->start[seq] - p->e->start[p->first]) * tc_round_up(dim, tc_kernels()->nr);
}

/* g (+)= dy^T x.  The panel of x that all of the strip's outputs meet stays in
 * the cache; the chain of an element's sum is over tokens, ascending. */
static void
product(const struct tc_strip *s, size_t seq, bool add, float *g)
{
	const struct tc_strip_source *from = s->source;
	const struct tc_kernels *kern = tc_kernels();
	size_t nr = kern->nr, length = length_of(from->pass, seq);
	const float *dy = panels_of(from->pass, from->dy, from->dy_dim, seq) + (s->row0 - from->dy_row0) * length;
	const float *x = panels_of(from->pass, from->x, s->cols, seq);

	for (size_t j = 0; j < s->cols; j += nr, x += length * nr)
		for (size_t t = 0; t < length; t += STRIP_TOKENS)
			for (size_t i = 0; i < s->rows; i += nr)
				kern->gemm(tc_min(nr, s->rows - i), tc_min(nr, s->cols - j), tc_min(STRIP_TOKENS, length - t),
				    dy + (i * length + t * nr), 1, nr, x + t * nr, g + i * s->cols + j, s->cols, add || t > 0, NULL);
}

static void
sum_outputs(const struct tc_strip *s, size_t seq, float *g)
{
	const struct tc_strip_source *from = s->source;
	size_t nr = tc_kernels()->nr, length = length_of(from->pass, seq);
	const float *dy = panels_of(from->pass, from->dy, from->dy_dim, seq);

	for (size_t j = 0; j < s->cols; j += nr)
		for (size_t t = 0; t < length; t++, dy += nr)
			tc_kernels()->add(tc_min(nr, s->cols - j), dy, g + j);
}

static void
sum_norms(const struct tc_strip *s, size_t seq, float *g)
{
	const struct tc_strip_source *from = s->source;
	const struct pass *p = from->pass;
	size_t each = tc_block_norms(p->c), tile = p->first_tile[seq - p->first];

	for (size_t t = 0; t < length_of(p, seq); t += TC_TILE_ROWS)
		tc_kernels()->add(s->cols, p->rows.norms + tile++ * each + from->norms_at, g);
}

static void
add_embedded(const struct tc_strip *s, size_t seq, float *g)
{
	const struct pass *p = s->source->pass;
	const uint32_t *ids = p->f->ids;
	float scale = (float)p->c->embed_scale;

	for (size_t t = p->e->start[seq]; t < p->e->start[seq + 1]; t++) {
		const float *d = p->e->gradient + t * s->cols;
		float *to;

		if (ids[t] < s->row0 || ids[t] >= s->row0 + s->rows)
			continue;
		to = g + (ids[t] - s->row0) * s->cols;
		for (size_t j = 0; j < s->cols; j++)
			to[j] += scale * d[j];
	}
}

static void
add_positions(const struct tc_strip *s, size_t seq, float *g)
{
	const struct pass *p = s->source->pass;
	size_t end = tc_min(s->row0 + s->rows, length_of(p, seq));

	if (s->row0 < end)
		tc_kernels()->add((end - s->row0) * s->cols, p->e->gradient + (p->e->start[seq] + s->row0) * s->cols, g);
}

void
tc_strip_gradient(const struct tc_strip *s, size_t seq, bool add, float *g)
{
	enum origin origin = s->source->origin;

	if (origin != FROM_PRODUCT && !add)
		memset(g, 0, s->rows * s->cols * sizeof(*g));
	switch (origin) {
	case FROM_PRODUCT:
		product(s, seq, add, g);
		if (s->source->ids_too)
			add_embedded(s, seq, g);
		return;
	case FROM_SUM:
		sum_outputs(s, seq, g);
		return;
	case FROM_NORMS:
		sum_norms(s, seq, g);
		return;
	case FROM_IDS:
		add_embedded(s, seq, g);
		return;
	case FROM_POSITIONS:
		add_positions(s, seq, g);
		return;
	}
}

/* ---- what is offered ---- */

static bool
wants(const struct pass *p, size_t param)
{
	return !p->v->wants || p->v->wants(p->v->ctx, param);
}

/* Rows row0 .. end-1 of a parameter, for the batch in hand. */
static void
offer(struct pass *p, size_t param, size_t row0, size_t end, struct tc_strip_source source)
{
	struct tc_strip_source *from = &p->source[p->nsources];

	if (!wants(p, param))
		return;
	p->nsources++;
	*from = source;
	from->pass = p;
	for (size_t row = row0; row < end; row += tc_strip_rows()) {
		p->strip[p->nstrips] = (struct tc_strip){ .param = param, .row0 = row, .rows = tc_min(tc_strip_rows(), end - row),
			.cols = tc_tensor_cols(p->tensor[param]), .first = p->first, .n = p->end - p->first, .index = p->nstrips,
			.source = from };
		p->nstrips++;
	}
}

static void
visit(void *ctx, size_t i, int worker)
{
	const struct pass *p = ctx;

	p->v->visit(p->v->ctx, &p->strip[i], worker);
}

static int
visit_all(struct pass *p, struct tc_err *err)
{
	int r = 0;

	tc_pool_run(p->e->pool, p->nstrips, visit, p);
	if (p->v->visited && p->nstrips > 0)
		r = p->v->visited(p->v->ctx, p->strip, p->nstrips, err);
	p->nstrips = p->nsources = 0;
	return r;
}

static int
begin(const struct pass *p, size_t param, struct tc_err *err)
{
	return p->v->begun && wants(p, param) ? p->v->begun(p->v->ctx, param, err) : 0;
}

static int
finish(const struct pass *p, size_t param, struct tc_err *err)
{
	return p->v->finished && wants(p, param) ? p->v->finished(p->v->ctx, param, err) : 0;
}

/* ---- batches ---- */

static bool
next_batch(struct pass *p)
{
	const struct tc_exec *e = p->e;

	p->first = p->end;
	if (p->first == e->nseq) {
		p->end = 0;
		return false;
	}
	tc_batch_next(e->start, e->nseq, p->first, &p->end);
	p->ntiles = tc_batch_tiles(e->start, p->first, p->end, e->tile);
	for (size_t i = p->ntiles; i-- > 0;)
		p->first_tile[e->tile[i].seq] = i;
	return true;
}

/* A tile's rows of a buffer of hidden states. */
static float *
tile_of(const struct pass *p, float *hidden, const struct tc_tile *t)
{
	return hidden + t->token * p->c->width;
}

/* What the block (or, the last, the final norm) was given. */
static float *
kept(const struct pass *p, size_t block)
{
	return p->e->kept + block * p->e->start[p->e->nseq] * p->c->width;
}

/* What the block in hand was given there. */
static const float *
input_of(const struct pass *p, const struct tc_tile *t)
{
	return tile_of(p, kept(p, (size_t)p->g.block->index), t);
}

/* ---- the final norm ---- */

static void
final_norm_tile(void *ctx, size_t i, int worker)
{
	const struct pass *p = ctx;
	const struct tc_tile *t = &p->e->tile[i];
	float *d = tile_of(p, p->e->gradient, t), *norms = p->rows.norms + i * tc_block_norms(p->c);

	(void)worker;
	memset(norms, 0, 2 * p->c->width * sizeof(*norms));
	tc_norm_rows_gradient(&p->f->final_norm, p->c, t->rows, p->c->width, tile_of(p, kept(p, p->c->layers), t), d, d, norms,
	    norms + p->c->width);
}

static int
final_norm(struct pass *p, struct tc_err *err)
{
	for (size_t i = 0; i < p->params; i++)
		if (p->tensor[i]->role == TC_ROLE_FINAL_NORM && begin(p, i, err) < 0)
			return -1;
	while (next_batch(p)) {
		tc_pool_run(p->e->pool, p->ntiles, final_norm_tile, p);
		for (size_t i = 0; i < p->params; i++)
			if (p->tensor[i]->role == TC_ROLE_FINAL_NORM)
				offer(p, i, 0, 1, (struct tc_strip_source){ .origin = FROM_NORMS,
				    .norms_at = p->tensor[i]->bias ? p->c->width : 0 });
		if (visit_all(p, err) < 0)
			return -1;
	}
	for (size_t i = 0; i < p->params; i++)
		if (p->tensor[i]->role == TC_ROLE_FINAL_NORM && finish(p, i, err) < 0)
			return -1;
	return 0;
}

/* ---- blocks ---- */

static void
tile_qkv(void *ctx, size_t i, int worker)
{
	const struct pass *p = ctx;
	const struct tc_tile *t = &p->e->tile[i];

	tc_block_back_qkv(&p->g, t, input_of(p, t), &p->scratch[worker]);
}

static void
tile_rest(void *ctx, size_t i, int worker)
{
	const struct pass *p = ctx;
	const struct tc_tile *t = &p->e->tile[i];

	tc_block_back_rest(&p->g, t, i, input_of(p, t), tile_of(p, p->e->gradient, t), &p->scratch[worker]);
}

static void
head_attend(void *ctx, size_t i, int worker)
{
	const struct pass *p = ctx;
	size_t seq = i / p->c->kv_heads, row = p->e->start[p->first + seq] - p->e->start[p->first];

	tc_block_back_attend(&p->g, seq, row, length_of(p, p->first + seq), i % p->c->kv_heads, &p->scratch[worker]);
}

static void
tile_input(void *ctx, size_t i, int worker)
{
	const struct pass *p = ctx;
	const struct tc_tile *t = &p->e->tile[i];

	tc_block_back_input(&p->g, t, i, input_of(p, t), tile_of(p, p->e->gradient, t), &p->scratch[worker]);
}

static void
offer_block_param(struct pass *p, size_t param)
{
	const struct tc_tensor *t = p->tensor[param];
	size_t outputs = tc_role_outputs(p->c, t->role);
	struct tc_strip_source from = { .origin = t->bias ? FROM_SUM : FROM_PRODUCT, .dy = p->rows.dy[t->role], .dy_dim = outputs };

	if (outputs == 0) {
		offer(p, param, 0, 1, (struct tc_strip_source){ .origin = FROM_NORMS,
		    .norms_at = tc_block_norms_at(p->c, t->role, t->bias) });
		return;
	}
	if (!t->bias)
		from.x = p->rows.x[tc_role_site(t->role)];
	offer(p, param, 0, t->bias ? 1 : outputs, from);
}

/* The block's weights, prepared both ways: parameters first .. end-1. */
static int
prepare_block(struct pass *p, size_t first, size_t end, struct tc_err *err)
{
	const struct tc_tensor *weight[TC_ROLES] = {0};

	tc_block_clear(&p->f->block, p->tensor[first]->block);
	for (size_t i = first; i < end; i++) {
		if (tc_block_take(&p->f->block, p->c, p->tensor[i], p->e->pool, err) < 0)
			return -1;
		if (!p->tensor[i]->bias)
			weight[p->tensor[i]->role] = p->tensor[i];
	}
	return tc_block_back_prepare(&p->back, p->c, weight, p->e->pool, err);
}

static int
block_back(struct pass *p, size_t first, size_t end, struct tc_err *err)
{
	if (prepare_block(p, first, end, err) < 0)
		return -1;
	for (size_t i = first; i < end; i++)
		if (begin(p, i, err) < 0)
			return -1;
	while (next_batch(p)) {
		tc_pool_run(p->e->pool, p->ntiles, tile_qkv, p);
		tc_pool_run(p->e->pool, p->ntiles, tile_rest, p);
		tc_pool_run(p->e->pool, (p->end - p->first) * p->c->kv_heads, head_attend, p);
		tc_pool_run(p->e->pool, p->ntiles, tile_input, p);
		for (size_t i = first; i < end; i++)
			offer_block_param(p, i);
		if (visit_all(p, err) < 0)
			return -1;
	}
	for (size_t i = first; i < end; i++)
		if (finish(p, i, err) < 0)
			return -1;
	return 0;
}

static int
blocks_back(struct pass *p, struct tc_err *err)
{
	size_t end = p->params, first;

	for (; end > 0; end = first) {
		first = end - 1;
		if (p->tensor[first]->block < 0)
			continue;
		while (first > 0 && p->tensor[first - 1]->block == p->tensor[first]->block)
			first--;
		if (block_back(p, first, end, err) < 0)
			return -1;
	}
	return 0;
}

/* ---- the head and the embeddings ---- */

static void
put_hidden(void *ctx, size_t i, int worker)
{
	const struct pass *p = ctx;
	const struct tc_tile *t = &p->e->tile[i];
	size_t width = p->c->width;

	(void)worker;
	tc_panels_put(p->hidden + (t->row - t->pos0) * tc_round_up(width, tc_kernels()->nr), t->length, t->pos0, t->rows, width,
	    tile_of(p, p->e->hidden, t), width);
}

/* The sequence of the batch that has the token. */
static size_t
sequence_of(const struct pass *p, size_t token)
{
	size_t low = p->first, high = p->end;

	while (high - low > 1) {
		size_t middle = (low + high) / 2;

		if (p->e->start[middle] <= token)
			low = middle;
		else
			high = middle;
	}
	return low;
}

static void
put_logits(void *ctx, const struct tc_vocab *v, const struct tc_vocab_rows *rows, float *const z[TC_VOCAB_SIDES], int worker)
{
	const struct pass *p = ctx;

	(void)worker;
	tc_loss_logits(p->loss, &p->state, v, rows, z);
	for (size_t r = 0; r < rows->n; r++) {
		size_t token = p->loss->row[rows->first + r], seq, start;

		if (token < p->e->start[p->first] || token >= p->e->start[p->end])
			continue;
		seq = sequence_of(p, token);
		start = p->e->start[seq];
		tc_panels_put(p->logits + (start - p->e->start[p->first]) * TC_VOCAB_TILE, length_of(p, seq), token - start, 1,
		    v->tokens, z[0] + r * TC_VOCAB_TILE, TC_VOCAB_TILE);
	}
}

/* Whether a tile of predictions has some of what follows the batch. */
static bool
goes_on(const struct pass *p, const struct tc_vocab_rows *t)
{
	return p->loss->row[t->first + t->n - 1] >= p->e->start[p->end];
}

/* One tile of the vocabulary, all sequences. */
static int
head_tile(struct pass *p, struct tc_vocab *v, size_t param, struct tc_err *err)
{
	size_t tile = 0;

	while (next_batch(p)) {
		size_t first = tile, rows = p->e->start[p->end] - p->e->start[p->first];

		while (tile < v->ntiles && p->loss->row[v->tile[tile].first] < p->e->start[p->end])
			tile++;
		memset(p->logits, 0, rows * TC_VOCAB_TILE * sizeof(*p->logits));
		tc_pool_run(p->e->pool, p->ntiles, put_hidden, p);
		tc_vocab_run(v, first, tile - first, put_logits, p);
		if (tile > first && goes_on(p, &v->tile[tile - 1]))
			tile--;
		offer(p, param, v->token0, v->token0 + v->tokens, (struct tc_strip_source){ .origin = FROM_PRODUCT,
		    .ids_too = p->c->tied, .dy = p->logits, .dy_dim = TC_VOCAB_TILE, .dy_row0 = v->token0, .x = p->hidden });
		if (visit_all(p, err) < 0)
			return -1;
	}
	return 0;
}

static int
head_back(struct pass *p, size_t param, struct tc_err *err)
{
	const struct tc_final *side[] = { p->loss->model, p->loss->teacher };
	size_t nr = tc_kernels()->nr;
	struct tc_vocab v;
	int r = tc_vocab_open(&v, p->loss->teacher ? 2 : 1, side, p->loss->n, p->loss->row, p->e->pool, err);

	if (r == 0)
		r = begin(p, param, err);
	if (r == 0) {
		p->logits = tc_alloc(p->most.rows * TC_VOCAB_TILE, sizeof(float), err);
		p->hidden = tc_alloc(p->most.rows * tc_round_up(p->c->width, nr), sizeof(float), err);
		r = p->logits && p->hidden ? 0 : -1;
	}
	while (r >= 0 && (r = tc_vocab_next(&v, err)) > 0)
		r = head_tile(p, &v, param, err);
	tc_vocab_close(&v);
	return r < 0 ? -1 : finish(p, param, err);
}

/* Embeddings of tokens or positions, from the gradient of the hidden states. */
static int
embedding_back(struct pass *p, size_t param, enum origin origin, struct tc_err *err)
{
	size_t rows = tc_tensor_rows(p->tensor[param]);

	if (begin(p, param, err) < 0)
		return -1;
	for (size_t row = 0; row < rows; row += TC_VOCAB_TILE)
		while (next_batch(p)) {
			offer(p, param, row, tc_min(row + TC_VOCAB_TILE, rows), (struct tc_strip_source){ .origin = origin });
			if (visit_all(p, err) < 0)
				return -1;
		}
	return finish(p, param, err);
}

/* ---- all of it ---- */

size_t
tc_gradient_bytes(const struct tc_config *c, const size_t *start, size_t nseq)
{
	size_t rows = tc_batch_largest(start, nseq).rows;

	return rows * (tc_block_row_floats(c) + TC_VOCAB_TILE + tc_round_up(c->width, tc_kernels()->nr)) * sizeof(float);
}

static int
alloc_pass(struct pass *p, struct tc_err *err)
{
	size_t threads = (size_t)tc_pool_threads(p->e->pool);

	p->params = tc_config_tensors(p->c);
	p->most = tc_batch_largest(p->e->start, p->e->nseq);
	p->strip = tc_alloc(tc_strips_together(p->c), sizeof(*p->strip), err);
	p->source = tc_alloc(2 * TC_ROLES, sizeof(*p->source), err);
	p->scratch = tc_zalloc(threads, sizeof(*p->scratch), err);
	if (!p->strip || !p->source || !p->scratch ||
	    tc_block_rows_alloc(&p->rows, p->c, &p->most, p->e->q, p->e->kv, err) < 0)
		return -1;
	for (size_t i = 0; i < threads; i++)
		if (tc_block_back_scratch_alloc(&p->scratch[i], p->c, &p->e->scratch[i], err) < 0)
			return -1;
	p->g = (struct tc_block_gradient){ p->c, &p->f->block, &p->back, &p->e->rope, &p->rows };
	return 0;
}

static void
free_pass(struct pass *p)
{
	for (size_t i = 0; p->scratch && i < (size_t)tc_pool_threads(p->e->pool); i++)
		tc_block_back_scratch_free(&p->scratch[i]);
	free(p->scratch);
	free(p->strip);
	free(p->source);
	free(p->logits);
	free(p->hidden);
	tc_block_rows_free(&p->rows);
	tc_block_back_free(&p->back);
	tc_loss_state_free(&p->state);
}

/* The gradient of the hidden states comes to nothing where nothing is predicted. */
static int
loss_back(struct pass *p, double *value, struct tc_err *err)
{
	memset(p->e->gradient, 0, p->e->start[p->e->nseq] * p->c->width * sizeof(float));
	return tc_loss_run(p->loss, &p->state, value, p->e->gradient, p->e->pool, err);
}

static int
ends_back(struct pass *p, enum tc_role role, struct tc_err *err)
{
	for (size_t i = 0; i < p->params; i++) {
		if (p->tensor[i]->role != role || !wants(p, i))
			continue;
		if (role == TC_ROLE_HEAD || (role == TC_ROLE_EMBED && p->c->tied))
			return head_back(p, i, err);
		return embedding_back(p, i, role == TC_ROLE_POS ? FROM_POSITIONS : FROM_IDS, err);
	}
	return 0;
}

int
tc_gradient_run(struct tc_forward *f, const struct tc_tensor *const *tensor, const struct tc_loss *loss, double *value,
    const struct tc_gradient_visitor *v, struct tc_err *err)
{
	struct pass p = { .f = f, .c = &f->config, .e = &f->exec, .tensor = tensor, .loss = loss, .v = v };
	int r = alloc_pass(&p, err);

	assert(f->exec.gradient);
	if (r == 0)
		r = loss_back(&p, value, err);
	if (r == 0)
		r = ends_back(&p, TC_ROLE_HEAD, err);
	if (r == 0)
		r = final_norm(&p, err);
	if (r == 0)
		r = blocks_back(&p, err);
	if (r == 0)
		r = ends_back(&p, TC_ROLE_POS, err);
	/* A tied head's gradient is that of the embedding too. */
	if (r == 0)
		r = ends_back(&p, TC_ROLE_EMBED, err);
	free_pass(&p);
	f->block.index = -1;
	return r;
}
