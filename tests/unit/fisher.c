/* Squared gradients of every kind against the squares of gradients that a plain
 * visitor stored, summed by hand over the tree of sequences. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "kernel/kernel.h"
#include "kinds.h"
#include "model.h"
#include "stats/fisher.h"
#include "tap.h"

#define BOUND 1e-12 /* of sums in double, relative */

enum { PLACE = 3 };

static struct tc_rng rng;
static struct tc_err err;

/* ---- by hand ---- */

/* A statistic of a parameter. */
struct stat {
	const struct gradients *g;
	const struct tc_tensor *t;
	size_t param;
	enum tc_stat_kind kind;
	size_t group, dim;
	uint32_t *place;           /* [elements]: which number each one's square is added to */
	uint64_t first;            /* index of the first sequence */
};

static size_t
dim_of(const struct tc_tensor *t, enum tc_stat_kind kind, size_t group)
{
	switch (kind) {
	case TC_STAT_FISHER_WEIGHT:
		return tc_tensor_elements(t);
	case TC_STAT_FISHER_ROW:
		return tc_tensor_rows(t);
	case TC_STAT_FISHER_COLUMN:
		return tc_tensor_cols(t);
	case TC_STAT_FISHER_GROUP:
		return tc_tensor_rows(t) * ((tc_tensor_cols(t) + group - 1) / group);
	default:
		return TC_FISHER_DIM;
	}
}

static size_t
place_of(const struct stat *s, size_t row, size_t col)
{
	size_t cols = tc_tensor_cols(s->t);

	switch (s->kind) {
	case TC_STAT_FISHER_WEIGHT:
		return row * cols + col;
	case TC_STAT_FISHER_ROW:
		return row;
	case TC_STAT_FISHER_COLUMN:
		return col;
	case TC_STAT_FISHER_GROUP:
		return row * ((cols + s->group - 1) / s->group) + col / s->group;
	default:
		return 0;
	}
}

static void
make_places(struct stat *s)
{
	size_t rows = tc_tensor_rows(s->t), cols = tc_tensor_cols(s->t);

	s->place = malloc(rows * cols * sizeof(*s->place));
	for (size_t i = 0; i < rows; i++)
		for (size_t j = 0; j < cols; j++)
			s->place[i * cols + j] = (uint32_t)place_of(s, i, j);
}

/* What sequence i of all adds. */
static void
leaf(const struct stat *s, uint64_t i, double *out)
{
	size_t n = tc_tensor_elements(s->t);
	const float *g = s->g->g[s->param] + (i - s->first) * n;

	memset(out, 0, s->dim * sizeof(*out));
	for (size_t j = 0; j < n; j++)
		out[s->place[j]] += s->kind == TC_STAT_FISHER_WEIGHT ? (double)(g[j] * g[j]) : (double)g[j] * (double)g[j];
	if (s->kind == TC_STAT_FISHER)
		out[1] = out[0] * out[0];
}

/* The subtree `index` of a level: its left half plus its right one. */
static void
subtree(const struct stat *s, uint32_t level, uint64_t index, double *out)
{
	double *right;

	if (level == 0) {
		leaf(s, index, out);
		return;
	}
	right = malloc(s->dim * sizeof(*right));
	subtree(s, level - 1, 2 * index, out);
	subtree(s, level - 1, 2 * index + 1, right);
	for (size_t i = 0; i < s->dim; i++)
		out[i] = s->kind == TC_STAT_FISHER_WEIGHT ? (double)((float)out[i] + (float)right[i]) : out[i] + right[i];
	free(right);
}

static uint64_t
tokens(const struct text *t, uint64_t first, uint64_t n)
{
	uint64_t count = 0;

	for (uint64_t i = first; i < first + n; i++)
		count += t->length[i];
	return count;
}

static int
is_near(double got, double want)
{
	return fabs(got - want) <= BOUND * want;
}

/* Whether a record has the largest subtrees that the sequences make, each with
 * the sums by hand. */
static int
is_right(const struct stat *s, const struct text *t, const struct tc_record *r)
{
	const struct tc_stat *st = &r->u.stat;
	const float *f = r->part[0].data;
	const double *d = r->part[0].data;
	double *want = malloc(s->dim * sizeof(*want));
	uint64_t i = s->first, end = s->first + t->nseq;
	size_t k = 0;
	int right = 1;

	for (; right && i < end; k++) {
		uint32_t level = 0;

		while (i % (2u << level) == 0 && i + (2u << level) <= end)
			level++;
		right &= k < st->nnodes && st->node[k].level == level && st->node[k].index == i >> level &&
		    st->node[k].count == tokens(t, i - s->first, 1u << level);
		subtree(s, level, i >> level, want);
		for (size_t j = 0; right && j < s->dim; j++)
			right &= s->kind == TC_STAT_FISHER_WEIGHT ? f[k * s->dim + j] == (float)want[j] :
			    is_near(d[k * s->dim + j], want[j]);
		i += 1u << level;
	}
	free(want);
	return right && k == st->nnodes;
}

static int
is_described(const struct stat *s, const struct tc_record *r)
{
	const struct tc_stat *st = &r->u.stat;
	size_t each = s->kind == TC_STAT_FISHER_WEIGHT ? sizeof(float) : sizeof(double);

	return r->kind == TC_KIND_STAT && st->kind == s->kind && st->role == s->t->role && st->bias == s->t->bias &&
	    st->block == s->t->block && strcmp(st->tag, "fisher") == 0 && st->place == PLACE && !st->stale && st->dim == s->dim &&
	    st->group == (s->kind == TC_STAT_FISHER_GROUP ? s->group : 0) && r->nparts == 1 &&
	    r->part[0].size_bytes == st->nnodes * s->dim * each;
}

/* ---- gathered ---- */

static void
count_finished(void *ctx, size_t param)
{
	unsigned *finished = ctx;

	finished[param]++;
}

/* Gathers over the sequences of r; file: what is kept is in one. */
static int
gather(struct tc_fisher *f, struct run *r, const struct model *m, struct tc_fisher_options o, bool file)
{
	struct tc_spill_options spill = { .fd = -1 };
	struct tc_gradient_visitor v;
	FILE *tmp = tmpfile();
	int got;

	if (file)
		spill.fd = fileno(tmp);
	got = tc_fisher_open(f, &r->f, &o, &err) < 0 || tc_fisher_alloc(f, &spill, &err) < 0 ? -1 : 0;
	fclose(tmp);
	if (got < 0)
		return -1;
	v = tc_fisher_visitor(f);
	return run_back(r, m, &v, &err);
}

/* A sequence's tokens, and how many sequences from which index on. */
struct shard {
	uint64_t first;
	size_t n;
};

struct outcome {
	int right, described, same, finished;
};

/* One statistic of all parameters, in memory by one thread and in a file by
 * two. */
static void
check_records(const struct stat *what, const struct text *t, const struct tc_fisher f[2], enum tc_stat_kind kind,
    struct outcome *to)
{
	struct stat s = *what;
	struct tc_record r[2];

	s.kind = kind;
	for (s.param = 0; s.param < s.g->model->params; s.param++) {
		s.t = s.g->model->tensor[s.param];
		s.dim = dim_of(s.t, kind, s.group);
		make_places(&s);
		for (int i = 0; i < 2; i++)
			if (tc_fisher_record(&f[i], s.param, kind, PLACE, &r[i], &err) != 1)
				exit(1);
		to->described &= is_described(&s, &r[0]) && is_described(&s, &r[1]);
		to->right &= is_right(&s, t, &r[0]);
		to->same &= memcmp(r[0].part[0].data, r[1].part[0].data, r[0].part[0].size_bytes) == 0;
		tc_fisher_record_free(&r[0]);
		tc_fisher_record_free(&r[1]);
		free(s.place);
	}
}

static void
test_kind(const struct model *m, const struct text *t, struct run run[2], const struct gradients *g, struct stat what,
    struct outcome *to)
{
	unsigned finished[2][PARAMS_MAX] = {0};
	struct tc_fisher f[2];
	struct tc_record r;

	for (int i = 0; i < 2; i++)
		if (gather(&f[i], &run[i], m, (struct tc_fisher_options){ .kind = what.kind, .group = what.group,
		    .first = what.first, .finished = count_finished, .ctx = finished[i] }, i == 1) < 0)
			exit(1);
	for (size_t i = 0; i < m->params; i++)
		to->finished &= finished[0][i] == 1 && finished[1][i] == 1;
	what.g = g;
	check_records(&what, t, f, what.kind, to);
	if (what.kind == TC_STAT_FISHER_ROW)   /* beside whatever kind, but that takes time */
		check_records(&what, t, f, TC_STAT_FISHER, to);
	for (int k = TC_STAT_FISHER_WEIGHT; k < TC_STAT_KINDS; k++)
		to->described &= (enum tc_stat_kind)k == what.kind || tc_fisher_record(&f[0], 0, (enum tc_stat_kind)k, PLACE, &r, &err) == 0;
	tc_fisher_close(&f[0]);
	tc_fisher_close(&f[1]);
}

/* Groups that columns are a multiple of, that they are not, and wider ones. */
static void
test_shard(const struct model *m, const char *model, struct shard shard, const struct text *all, struct tc_pool *pool)
{
	static const size_t groups[] = { 16, 20, 1000 };
	struct text t = { .nseq = shard.n, .length = all->length, .ids = all->ids };
	struct run run[2];
	struct gradients g = {0};

	if (run_forward(&run[0], m, &t, NULL, &err) < 0 || run_forward(&run[1], m, &t, pool, &err) < 0 ||
	    gradients_of(&g, &run[0], m, &err) < 0)
		exit(1);
	for (int k = TC_STAT_FISHER; k < TC_STAT_KINDS; k++) {
		struct outcome o = { 1, 1, 1, 1 };
		struct stat s = { .kind = (enum tc_stat_kind)k, .first = shard.first };

		for (size_t i = 0; i < (k == TC_STAT_FISHER_GROUP ? 3 : 1); i++) {
			s.group = k == TC_STAT_FISHER_GROUP ? groups[i] : 0;
			test_kind(m, &t, run, &g, s, &o);
		}
		ok(o.right, "%s, %s, %zu sequences from %d on: %s is the sum by hand", tc_kernels_name(), model, shard.n,
		    (int)shard.first, tc_stat_names[k]);
		ok(o.described && o.finished, "%s, %s: %s: what its records say, and nothing else is there", tc_kernels_name(), model,
		    tc_stat_names[k]);
		ok(o.same, "%s, %s: %s: 1 and 2 threads, in memory and in a file, the same bits", tc_kernels_name(), model,
		    tc_stat_names[k]);
	}
	gradients_free(&g);
	run_close(&run[0]);
	run_close(&run[1]);
}

/* Weights that are numbers, and gradients that are none. */
static void
test_overflow(struct model *m, const struct text *all)
{
	struct text t = { .nseq = 2, .length = all->length, .ids = all->ids };
	size_t norm = 0;
	float *huge;
	const float *was;
	struct tc_fisher f;
	struct run r;

	while (m->tensor[norm]->role != TC_ROLE_FINAL_NORM)
		norm++;
	huge = malloc(tc_tensor_elements(m->tensor[norm]) * sizeof(*huge));
	for (size_t i = 0; i < tc_tensor_elements(m->tensor[norm]); i++)
		huge[i] = 3e38f;
	was = model_put(m, norm, huge);
	if (run_forward(&r, m, &t, NULL, &err) < 0)
		exit(1);
	err.code = 0;
	ok(gather(&f, &r, m, (struct tc_fisher_options){ .kind = TC_STAT_FISHER, .first = 7 }, false) == -1 &&
	    err.code == TC_DATA && strstr(err.msg, "sequence 7"), "%s: a gradient that is not finite is refused: %s",
	    tc_kernels_name(), err.msg);
	tc_fisher_close(&f);
	run_close(&r);
	model_put(m, norm, was);
	free(huge);
}

int
main(void)
{
	/* The last are more than a batch has. */
	static const struct shard shards[] = { { 0, 1 }, { 0, 5 }, { 3, 7 }, { 6, TC_BATCH_SEQUENCES + 1 } };
	enum { MOST = TC_BATCH_SEQUENCES + 1, LENGTH_MOST = 6 };
	static size_t length[MOST];
	static uint32_t ids[MOST * LENGTH_MOST];
	static const char *const models[] = { "tiny/llama", "tiny/gpt2" };
	const struct text all = { MOST, length, ids };
	const struct tc_kernels *kinds[8];
	size_t n = kinds_to_test(kinds, 8);
	struct tc_pool *pool;

	tc_rng_seed(&rng, 19);
	for (size_t i = 0; i < MOST; i++)
		length[i] = 2 + i % (LENGTH_MOST - 1);
	random_ids(&rng, VOCAB, MOST * LENGTH_MOST, ids);
	if (tc_pool_open(&pool, 2, &err) < 0)
		return 1;
	for (size_t k = 0; k < n; k++) {
		if (tc_kernels_select(kinds[k]->name, &err) < 0)
			return 1;
		for (size_t i = 0; i < sizeof(models) / sizeof(models[0]); i++) {
			struct model m;

			if (model_open(&m, models[i], &err) < 0)
				return 1;
			if (i == 0)
				model_widen(&m, &rng);
			for (size_t s = 0; s < sizeof(shards) / sizeof(shards[0]); s++)
				test_shard(&m, models[i], shards[s], &all, pool);
			test_overflow(&m, &all);
			model_close(&m);
		}
	}
	tc_pool_close(pool);
	return done_testing();
}
