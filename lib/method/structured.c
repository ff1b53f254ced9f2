#include "method/structured.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "method/influence.h"
#include "method/rerun.h"
#include "model/resize.h"
#include "solve/substitute.h"

#define ROUNDING 1e-9 /* a share of 0.3 of ten is three */

static const char *const words[] = {
	[TC_STRUCTURE_HEADS] = "groups of heads", [TC_STRUCTURE_NEURONS] = "neurons", [TC_STRUCTURE_BLOCKS] = "blocks"
};

/* ---- what a unit is ---- */

/* Rows of a tensor with that role that are one unit's; 0: it has none. */
static size_t
unit_rows(const struct tc_structured *s, enum tc_role role)
{
	const struct tc_config *c = &s->config;

	if (s->o.what == TC_STRUCTURE_NEURONS)
		return role == TC_ROLE_GATE || role == TC_ROLE_UP;
	if (s->o.what != TC_STRUCTURE_HEADS)
		return 0;
	if (role == TC_ROLE_Q)
		return c->heads / c->kv_heads * c->head_dim;
	return role == TC_ROLE_K || role == TC_ROLE_V ? c->head_dim : 0;
}

/* The role that reads what the units give, and the inputs that are one's. */
static enum tc_role
reader(const struct tc_structured *s)
{
	return s->o.what == TC_STRUCTURE_NEURONS ? TC_ROLE_DOWN : TC_ROLE_O;
}

static size_t
unit_columns(const struct tc_structured *s, const struct tc_tensor *t)
{
	if (s->o.what == TC_STRUCTURE_BLOCKS || t->role != reader(s) || t->bias)
		return 0;
	return s->o.what == TC_STRUCTURE_NEURONS ? 1 : unit_rows(s, TC_ROLE_Q);
}

static uint32_t *
kept_of(const struct tc_structured *s, int block)
{
	return s->keep + (size_t)block * s->kept;
}

static const struct tc_tensor *
tensor_of(const struct tc_structured *s, enum tc_role role, int block, struct tc_err *err)
{
	size_t i = tc_rerun_place(s->hold, role, block);
	const struct tc_tensor *t;

	if (i == s->hold->n) {
		tc_fail(err, TC_DATA, "block %d has no %s (a stream of statistics only?)", block, tc_role_names[role]);
		return NULL;
	}
	t = &s->hold->item[i].r.u.tensor;
	return tc_tensor_check_finite(t, err) < 0 ? NULL : t;
}

/* ---- which units go ---- */

/* energy[rows], energy[columns]: sums of squares of t's weights; either may be
 * NULL. */
static int
energies(const struct tc_tensor *t, double *of_row, double *of_column, struct tc_err *err)
{
	size_t rows = tc_tensor_rows(t), cols = tc_tensor_cols(t);
	float *w = tc_alloc(cols, sizeof(*w), err);

	for (size_t r = 0; w && r < rows; r++) {
		double sum = 0;

		tc_tensor_read_rows(t, r, 1, w);
		for (size_t j = 0; j < cols; j++) {
			double square = (double)w[j] * (double)w[j];

			sum += square;
			if (of_column)
				of_column[j] = r == 0 ? square : of_column[j] + square;
		}
		if (of_row)
			of_row[r] = sum;
	}
	free(w);
	return w ? 0 : -1;
}

/* importance[units] of what gives, times the energy of each unit's weights in what
 * makes it. */
static int
weigh_by_makers(const struct tc_structured *s, int block, double *importance, struct tc_err *err)
{
	static const enum tc_role makers[] = { TC_ROLE_GATE, TC_ROLE_UP, TC_ROLE_V };

	for (size_t i = 0; i < sizeof(makers) / sizeof(makers[0]); i++) {
		size_t each = unit_rows(s, makers[i]);
		const struct tc_tensor *t;
		double *energy;

		if (each == 0 || (makers[i] == TC_ROLE_GATE && !s->config.gated))
			continue;
		t = tensor_of(s, makers[i], block, err);
		if (!t)
			return -1;
		energy = tc_alloc(tc_tensor_rows(t), sizeof(*energy), err);
		if (!energy || energies(t, energy, NULL, err) < 0) {
			free(energy);
			return -1;
		}
		for (size_t u = 0; u < s->units; u++) {
			double sum = 0;

			for (size_t r = u * each; r < (u + 1) * each; r++)
				sum += energy[r];
			importance[u] *= sum;
		}
		free(energy);
	}
	return 0;
}

/* What is known of what t reads, NULL: nothing. */
static int
measure_of(struct tc_structured *s, const struct tc_tensor *t, struct tc_measure **m, struct tc_err *err)
{
	size_t cols = tc_tensor_cols(t);

	*m = &s->measures.site[tc_role_site(t->role)];
	if (s->measures.block != t->block || !(*m)->squares)
		*m = NULL;
	if (*m && ((*m)->squares_dim != cols || ((*m)->hessian && (*m)->hessian_dim != cols)))
		return tc_fail(err, TC_DATA, "%s: the statistics of its site are of another model", t->name);
	s->stale |= *m && (*m)->stale;
	return 0;
}

/* The block's statistics, where they are not measured. */
static int
feed(struct tc_structured *s, int block, struct tc_err *err)
{
	return tc_measures_feed(&s->measures, s->o.stats ? s->o.stats : s->hold, block, true, err);
}

struct unit {
	double importance;
	uint32_t index;
};

static int
by_importance(const void *x, const void *y)
{
	const struct unit *a = x, *b = y;

	if (a->importance != b->importance)
		return (a->importance > b->importance) - (a->importance < b->importance);
	return (a->index > b->index) - (a->index < b->index);
}

static int
by_index(const void *x, const void *y)
{
	const uint32_t *a = x, *b = y;

	return (*a > *b) - (*a < *b);
}

/* keep[kept]: all but the least important ones. */
static int
keep_most(const struct tc_structured *s, const double *importance, uint32_t *keep, struct tc_err *err)
{
	struct unit *unit = tc_alloc(s->units, sizeof(*unit), err);

	if (!unit)
		return -1;
	for (size_t u = 0; u < s->units; u++)
		unit[u] = (struct unit){ importance[u], (uint32_t)u };
	qsort(unit, s->units, sizeof(*unit), by_importance);
	for (size_t i = 0; i < s->kept; i++)
		keep[i] = unit[s->units - s->kept + i].index;
	qsort(keep, s->kept, sizeof(*keep), by_index);
	free(unit);
	return 0;
}

/* Importance of each unit in the weights that read it. */
static int
weigh(struct tc_structured *s, const struct tc_tensor *t, double *importance, struct tc_err *err)
{
	size_t cols = tc_tensor_cols(t), each = unit_columns(s, t);
	double *energy = tc_alloc(cols, sizeof(*energy), err);
	struct tc_measure *m = NULL;
	int r = -1;

	if (!energy || measure_of(s, t, &m, err) < 0 || energies(t, NULL, energy, err) < 0)
		goto out;
	for (size_t u = 0; u < s->units; u++) {
		importance[u] = 0;
		for (size_t j = u * each; j < (u + 1) * each; j++)
			importance[u] += energy[j] * (m ? m->squares[j] : 1);
	}
	r = m ? 0 : weigh_by_makers(s, t->block, importance, err);
out:
	free(energy);
	return r;
}

static int
choose_units(struct tc_structured *s, int block, struct tc_err *err)
{
	double *importance = tc_alloc(s->units, sizeof(*importance), err);
	const struct tc_tensor *t = tensor_of(s, reader(s), block, err);
	int r = -1;

	if (importance && t && weigh(s, t, importance, err) == 0)
		r = keep_most(s, importance, kept_of(s, block), err);
	free(importance);
	return r;
}

static int
choose_blocks(struct tc_structured *s, const struct tc_header *h, struct tc_err *err)
{
	const struct tc_record *r = tc_hold_tokens(s->hold, "calib");
	size_t nseq, *length;
	int done;

	if (!r || r->u.tokens.nseq == 0)
		return tc_fail(err, TC_DATA, "the stream carries no calibration tokens: tc-calib(1) puts them there");
	nseq = tc_min(r->u.tokens.nseq, TC_INFLUENCE_SEQUENCES);
	length = tc_alloc(nseq, sizeof(*length), err);
	s->influence = tc_alloc(s->units, sizeof(*s->influence), err);
	if (!length || !s->influence) {
		free(length);
		return -1;
	}
	for (size_t i = 0; i < nseq; i++)
		length[i] = r->u.tokens.length[i];
	done = tc_influence_measure(s->influence, h, s->hold, nseq, length, r->part[0].data, s->pool, err);
	free(length);
	return done < 0 ? -1 : keep_most(s, s->influence, s->keep, err);
}

static int
choose(struct tc_structured *s, const struct tc_header *h, struct tc_err *err)
{
	if (s->o.what == TC_STRUCTURE_BLOCKS)
		return choose_blocks(s, h, err);
	for (size_t block = 0; !s->o.sequential && block < s->config.layers; block++)
		if (feed(s, (int)block, err) < 0 || choose_units(s, (int)block, err) < 0)
			return -1;
	return 0;
}

/* ---- the model that comes out ---- */

static int
check_dense(const struct tc_hold *hold, struct tc_err *err)
{
	for (size_t i = 0; i < hold->n; i++) {
		const struct tc_tensor *t = &hold->item[i].r.u.tensor;

		if (hold->item[i].r.kind == TC_KIND_TENSOR && t->block >= 0 && (!tc_tensor_is_dense(t) || t->nops > 0))
			return tc_fail(err, TC_DATA, "%s: is compressed already: only dense weights can be taken away, before that", t->name);
	}
	return 0;
}

static int
count_units(struct tc_structured *s, struct tc_err *err)
{
	const struct tc_config *c = &s->config;
	const char *what = words[s->o.what];
	size_t go;

	s->units = s->o.what == TC_STRUCTURE_HEADS ? c->kv_heads : s->o.what == TC_STRUCTURE_NEURONS ? c->ffn : c->layers;
	go = (size_t)floor((double)s->units * s->o.sparsity + ROUNDING);
	if (go == 0)
		return tc_fail(err, TC_USAGE, "%g of %zu %s is less than one", s->o.sparsity, s->units, what);
	if (go >= s->units)
		return tc_fail(err, TC_USAGE, "%g of %zu %s: none would stay", s->o.sparsity, s->units, what);
	s->kept = s->units - go;
	s->keep = tc_zalloc(s->o.what == TC_STRUCTURE_BLOCKS ? 1 : c->layers, s->kept * sizeof(*s->keep), err);
	return s->keep ? 0 : -1;
}

static int
shrink_config(struct tc_structured *s, struct tc_err *err)
{
	const struct tc_config *c = &s->config;
	struct tc_resize to = { .ffn = c->ffn, .heads = c->heads, .kv_heads = c->kv_heads, .layers = c->layers };
	struct tc_header *h = &s->header;
	const char *json = h->config;

	if (s->o.what == TC_STRUCTURE_NEURONS) {
		to.ffn = s->kept;
	} else if (s->o.what == TC_STRUCTURE_HEADS) {
		to.heads = c->heads / c->kv_heads * s->kept;
		to.kv_heads = s->kept;
	} else {
		to.layers = s->kept;
		to.layer = s->keep;
	}
	if (tc_config_resize(&h->config, &h->config_bytes, json, h->config_bytes, &to, err) < 0)
		return -1;
	return tc_config_parse(&s->small, h->config, h->config_bytes, err);
}

int
tc_structured_open(struct tc_structured *s, const struct tc_header *h, const struct tc_hold *hold,
    const struct tc_structured_options *o, struct tc_pool *pool, struct tc_err *err)
{
	*s = (struct tc_structured){ .o = *o, .hold = hold, .pool = pool };
	if (tc_config_parse(&s->config, h->config, h->config_bytes, err) < 0 || count_units(s, err) < 0 ||
	    check_dense(hold, err) < 0 || choose(s, h, err) < 0)
		return -1;
	s->header = *h;
	return shrink_config(s, err);
}

void
tc_structured_close(struct tc_structured *s)
{
	free(s->header.config);
	free(s->keep);
	free(s->influence);
	tc_measures_clear(&s->measures);
	tc_kept_free(&s->made);
	tc_kept_free(&s->cut);
	free(s->stat);
	*s = (struct tc_structured){0};
}

/* ---- what stays makes up ---- */

/* Channels of the units that are kept: n, each of so many. */
static uint32_t *
channels(const uint32_t *keep, size_t n, size_t each, struct tc_err *err)
{
	uint32_t *channel = tc_alloc(n * each, sizeof(*channel), err);

	for (size_t i = 0; channel && i < n * each; i++)
		channel[i] = keep[i / each] * (uint32_t)each + (uint32_t)(i % each);
	return channel;
}

struct make_up {
	const struct tc_substitute *by;
	const struct tc_tensor *t;
	struct tc_kept *made;
	double *row;     /* [threads][cols] */
	float *numbers;  /* likewise */
};

static void
make_up_row(void *ctx, size_t r, int worker)
{
	const struct make_up *m = ctx;
	enum tc_dtype dtype = m->t->format.dtype;
	size_t cols = tc_tensor_cols(m->t);
	double *row = m->row + (size_t)worker * cols;
	float *numbers = m->numbers + (size_t)worker * cols;

	tc_tensor_read_rows(m->t, r, 1, numbers);
	for (size_t j = 0; j < cols; j++)
		row[j] = (double)numbers[j];
	tc_substitute_row(m->by, row);
	for (size_t j = 0; j < cols; j++)
		numbers[j] = (float)row[j];
	tc_f32_to(dtype, numbers, cols, (char *)m->made->owned + r * cols * tc_dtypes[dtype].size_bytes);
}

/* s->made: t, what goes 0. */
static int
make_up(struct tc_structured *s, const struct tc_tensor *t, const float *hessian, struct tc_err *err)
{
	size_t cols = tc_tensor_cols(t), each = unit_columns(s, t), threads = (size_t)tc_pool_threads(s->pool);
	uint32_t *keep = channels(kept_of(s, t->block), s->kept, each, err);
	struct tc_substitute by = {0};
	struct make_up m = { .by = &by, .t = t, .made = &s->made };
	int r = keep ? tc_substitute_make(&by, hessian, cols, s->kept * each, keep, s->o.damping, err) : -1;

	m.row = tc_alloc(threads * cols, sizeof(*m.row), err);
	m.numbers = tc_alloc(threads * cols, sizeof(*m.numbers), err);
	if (r < 0 || !m.row || !m.numbers || tc_kept_set(&s->made, t, false, err) < 0)
		r = -1;
	else
		tc_pool_run(s->pool, tc_tensor_rows(t), make_up_row, &m);
	free(keep);
	free(m.row);
	free(m.numbers);
	tc_substitute_free(&by);
	return r < 0 ? tc_err_at(err, "%s", t->name) : tc_tensor_check_finite(&s->made.t, err);
}

static int
transform(void *ctx, const struct tc_tensor *t, struct tc_tensor *out, struct tc_err *err)
{
	struct tc_structured *s = ctx;
	struct tc_measure *m;

	if (unit_columns(s, t) == 0)
		return 0;
	if ((s->o.sequential ? choose_units(s, t->block, err) : feed(s, t->block, err)) < 0 || measure_of(s, t, &m, err) < 0)
		return -1;
	if (!m || !m->hessian)
		return 0;
	s->compensated = true;
	if (make_up(s, t, m->hessian, err) < 0)
		return -1;
	*out = s->made.t;
	return 1;
}

static int
notice(void *ctx, const struct tc_record *r, struct tc_err *err)
{
	struct tc_structured *s = ctx;

	if (!s->o.sequential || r->kind != TC_KIND_STAT || tc_stat_is_of_tensor(r->u.stat.kind))
		return 0;
	return tc_measures_take(&s->measures, r, err);
}

/* ---- what goes is cut out ---- */

/* Rows and columns of t that are kept; NULL: all. */
static int
cut_tensor(struct tc_kept *cut, const struct tc_tensor *t, const uint32_t *row, size_t rows, const uint32_t *column, size_t columns,
    struct tc_err *err)
{
	size_t each = tc_dtypes[t->format.dtype].size_bytes, cols = t->ndim == 2 ? t->shape[1] : 1;
	const char *from = t->part[0].data;
	char *to;

	tc_kept_free(cut);
	cut->t = *t;
	if (row)
		cut->t.shape[0] = rows;
	if (column)
		cut->t.shape[1] = columns;
	else
		columns = cols;
	if (tc_tensor_make_dense(&cut->t, t->format.dtype, err) < 0)
		return -1;
	cut->owned = to = tc_alloc(tc_tensor_bytes(&cut->t), 1, err);
	if (!to)
		return -1;
	for (size_t r = 0; r < cut->t.shape[0]; r++) {
		const char *source = from + (row ? row[r] : r) * cols * each;

		if (!column)
			memcpy(to, source, cols * each);
		for (size_t j = 0; column && j < columns; j++)
			memcpy(to + j * each, source + column[j] * each, each);
		to += columns * each;
	}
	cut->t.part[0].data = cut->owned;
	cut->there = true;
	return 0;
}

static int
shrink_tensor(struct tc_structured *s, struct tc_record *r, struct tc_err *err)
{
	const struct tc_tensor *t = &r->u.tensor;
	size_t rows = t->block < 0 ? 0 : unit_rows(s, t->role), columns = t->block < 0 ? 0 : unit_columns(s, t);
	uint32_t *channel;
	int done;

	if (rows + columns == 0)
		return 1;
	channel = channels(kept_of(s, t->block), s->kept, rows + columns, err);
	if (!channel)
		return -1;
	done = cut_tensor(&s->cut, t, rows ? channel : NULL, s->kept * rows, columns ? channel : NULL, s->kept * columns, err);
	free(channel);
	r->u.tensor = s->cut.t;
	r->raw = NULL;
	s->changed = true;
	return done < 0 ? -1 : 1;
}

/* One node's numbers, those of the channels that are kept. */
static void
cut_numbers(const struct tc_stat *s, const uint32_t *channel, size_t n, const char *from, char *to)
{
	size_t each = tc_dtypes[tc_stat_dtype(s->kind)].size_bytes;

	if (s->kind != TC_STAT_HESSIAN) {
		for (size_t i = 0; i < n; i++)
			memcpy(to + i * each, from + channel[i] * each, each);
		return;
	}
	for (size_t i = 0; i < n; i++)
		for (size_t j = 0; j <= i; j++, to += each) {
			size_t row = channel[i];

			memcpy(to, from + (row * (row + 1) / 2 + channel[j]) * each, each);
		}
}

static int
cut_stat(struct tc_structured *s, struct tc_record *r, size_t each, struct tc_err *err)
{
	struct tc_stat *stat = &r->u.stat;
	size_t n = s->kept * each, size = tc_dtypes[tc_stat_dtype(stat->kind)].size_bytes;
	size_t was = tc_stat_values(stat->kind, stat->dim) * size, is = tc_stat_values(stat->kind, n) * size;
	uint32_t *channel;

	if (stat->dim != s->units * each)
		return tc_fail(err, TC_DATA, "the statistics of a site of block %d are of another model", stat->block);
	channel = channels(kept_of(s, stat->block), s->kept, each, err);
	free(s->stat);
	s->stat = tc_alloc(stat->nnodes, is, err);
	for (size_t i = 0; channel && s->stat && i < stat->nnodes; i++)
		cut_numbers(stat, channel, n, (const char *)r->part[0].data + i * was, (char *)s->stat + i * is);
	if (!channel || !s->stat) {
		free(channel);
		return -1;
	}
	free(channel);
	stat->dim = n;
	r->part[0].data = s->stat;
	r->part[0].size_bytes = stat->nnodes * is;
	r->raw = NULL;
	return 1;
}

/* Gradients of what shrinks are of no use. */
static int
shrink_stat(struct tc_structured *s, struct tc_record *r, struct tc_err *err)
{
	const struct tc_stat *stat = &r->u.stat;
	const struct tc_tensor of = { .role = stat->role, .bias = stat->bias };

	if (stat->block < 0)
		return 1;
	if (tc_stat_is_of_tensor(stat->kind))
		return unit_rows(s, stat->role) + unit_columns(s, &of) == 0;
	if (stat->site != (enum tc_site)tc_role_site(reader(s)))
		return 1;
	return cut_stat(s, r, s->o.what == TC_STRUCTURE_NEURONS ? 1 : unit_rows(s, TC_ROLE_Q), err);
}

/* The number of a block among those that stay, -1: it goes. */
static int
place_of(const struct tc_structured *s, int block)
{
	for (size_t i = 0; i < s->kept; i++)
		if (s->keep[i] == (uint32_t)block)
			return (int)i;
	return -1;
}

static int
move_tensor(struct tc_structured *s, struct tc_record *r, struct tc_err *err)
{
	struct tc_tensor *t = &r->u.tensor, named;
	int place = place_of(s, t->block);

	if (place < 0) {
		s->changed = true;
		return 0;
	}
	t->block = place;
	if (tc_config_tensor(&s->small, tc_config_place(&s->small, t), &named) == 0)
		return tc_fail(err, TC_DATA, "%s: a model of its config has no such tensor", t->name);
	memcpy(t->name, named.name, sizeof(t->name));
	r->raw = NULL;
	return 1;
}

static int
move_stat(const struct tc_structured *s, struct tc_record *r)
{
	int place = place_of(s, r->u.stat.block);

	if (place < 0)
		return 0;
	r->u.stat.block = place;
	r->raw = NULL;
	return 1;
}

static int
edit(void *ctx, struct tc_record *r, struct tc_err *err)
{
	struct tc_structured *s = ctx;
	bool blocks = s->o.what == TC_STRUCTURE_BLOCKS;

	if (r->kind == TC_KIND_TENSOR)
		return blocks && r->u.tensor.block >= 0 ? move_tensor(s, r, err) : shrink_tensor(s, r, err);
	if (r->kind != TC_KIND_STAT)
		return 1;
	if (s->changed && !r->u.stat.stale) {
		r->u.stat.stale = true;
		r->raw = NULL;
	}
	return blocks ? r->u.stat.block < 0 ? 1 : move_stat(s, r) : shrink_stat(s, r, err);
}

int
tc_structured_run(struct tc_structured *s, struct tc_source *source, struct tc_writer *w, const struct tc_sequential *sequential,
    bool strip, struct tc_ledger *ledger, struct tc_err *err)
{
	const struct tc_pass p = { .tensor = transform, .notice = notice, .edit = edit, .ctx = s, .strip = strip };
	struct tc_sequential how;

	if (!s->o.sequential)
		return tc_pass_run(source, w, &p, ledger, err);
	how = *sequential;
	how.hessian = true;
	tc_measures_clear(&s->measures);
	return tc_sequential_run(source, w, &p, &how, ledger, err);
}
