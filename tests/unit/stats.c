/* The tree of sums: any sharding gives the same bits; what the hook gathers
 * against plain double sums. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "distance.h"
#include "kernel/kernel.h"
#include "stats/gather.h"
#include "tap.h"

enum { DIM = 5, TRIANGLE = DIM * (DIM + 1) / 2 };

static struct tc_rng rng;
static struct tc_err err;

static float
unit(void)
{
	return (float)(tc_rng_unit(&rng) - 0.5);
}

/* ---- the tree ---- */

/* Sequence i's leaf: values whose sums round, always the same ones. */
static void *
leaf(enum tc_stat_kind kind, uint64_t i)
{
	size_t n = tc_stat_values(kind, DIM);
	void *p = tc_alloc(n, tc_dtypes[tc_stat_dtype(kind)].size_bytes, &err);
	struct tc_rng r;

	tc_rng_seed(&r, i);
	for (size_t j = 0; j < n; j++) {
		double x = ldexp(tc_rng_unit(&r), (int)tc_rng_below(&r, 20));

		if (tc_stat_dtype(kind) == TC_F64)
			((double *)p)[j] = x;
		else
			((float *)p)[j] = (float)x;
	}
	return p;
}

/* Pushes the leaves of sequences from..to-1. */
static int
push_leaves(struct tc_tree *t, uint64_t from, uint64_t to)
{
	for (uint64_t i = from; i < to; i++)
		if (tc_tree_push(t, (struct tc_node){ .index = i, .count = i + 1 }, leaf(t->kind, i), &err) < 0)
			return 0;
	return 1;
}

/* Pushes what another tree holds, as merging does. */
static int
push_tree(struct tc_tree *t, const struct tc_tree *from)
{
	size_t bytes = tc_stat_values(from->kind, from->dim) * tc_dtypes[tc_stat_dtype(from->kind)].size_bytes;

	for (size_t i = 0; i < from->n; i++) {
		void *copy = tc_alloc(bytes, 1, &err);

		memcpy(copy, from->value[i], bytes);
		if (tc_tree_push(t, from->node[i], copy, &err) < 0)
			return 0;
	}
	return 1;
}

static int
same_tree(const struct tc_tree *a, const struct tc_tree *b)
{
	size_t bytes = tc_stat_values(a->kind, a->dim) * tc_dtypes[tc_stat_dtype(a->kind)].size_bytes;

	if (a->n != b->n)
		return 0;
	for (size_t i = 0; i < a->n; i++)
		if (a->node[i].level != b->node[i].level || a->node[i].index != b->node[i].index ||
		    a->node[i].count != b->node[i].count || memcmp(a->value[i], b->value[i], bytes) != 0)
			return 0;
	return 1;
}

/* The sequences first .. first+n-1 cut at c[1] <= c[2] <= c[3], each shard a
 * tree of its own, merged from left to right. */
static int
merged_is(const struct tc_tree *whole, uint64_t first, uint64_t n, const uint64_t cut[3])
{
	uint64_t edge[5] = { 0, cut[0], cut[1], cut[2], n };
	struct tc_tree merged, shard;
	int right = 1;

	tc_tree_init(&merged, whole->kind, DIM);
	for (int i = 0; i < 4; i++) {
		tc_tree_init(&shard, whole->kind, DIM);
		right &= push_leaves(&shard, first + edge[i], first + edge[i + 1]) && push_tree(&merged, &shard);
		tc_tree_free(&shard);
	}
	right &= same_tree(&merged, whole);
	tc_tree_free(&merged);
	return right;
}

static void
test_shards(enum tc_stat_kind kind)
{
	static const uint64_t firsts[] = { 0, 1, 6, 11 };
	int right = 1, splits = 0;

	for (size_t f = 0; f < sizeof(firsts) / sizeof(firsts[0]); f++)
		for (uint64_t n = 2; n <= 13; n += kind == TC_STAT_SQ ? 1 : 11) {
			struct tc_tree whole;
			uint64_t c[3];

			tc_tree_init(&whole, kind, DIM);
			right &= push_leaves(&whole, firsts[f], firsts[f] + n);
			/* Empty shards make two and three of four. */
			for (c[0] = 1; c[0] < n; c[0]++)
				for (c[1] = c[0]; c[1] <= n; c[1]++)
					for (c[2] = c[1]; c[2] <= n; c[2]++, splits++)
						right &= merged_is(&whole, firsts[f], n, c);
			tc_tree_free(&whole);
		}
	ok(right && splits > 500, "%s: %d ways to cut and merge give the bits of the whole", tc_stat_names[kind], splits);
}

static double
number(const struct tc_tree *t, const void *p, size_t i)
{
	return tc_stat_dtype(t->kind) == TC_F64 ? ((const double *)p)[i] : (double)((const float *)p)[i];
}

/* Sequences 3..11 are 3, 4-7, 8-11: which subtrees there are, and their sums
 * in the order left + right. */
static void
test_nodes(enum tc_stat_kind kind)
{
	static const struct tc_node want[] = { { 0, 3, 4 }, { 2, 1, 26 }, { 2, 2, 42 } };
	struct tc_tree t;
	struct tc_stat s = { .kind = kind, .dim = DIM, .nnodes = 3 };
	double total[TRIANGLE], x[12];
	uint64_t count;
	void *data = NULL, *l;
	size_t bytes = 0;
	int nodes, sums = 1, totals = 1;

	tc_tree_init(&t, kind, DIM);
	nodes = push_leaves(&t, 3, 12) && t.n == 3;
	for (size_t i = 0; nodes && i < 3; i++)
		nodes &= t.node[i].level == want[i].level && t.node[i].index == want[i].index && t.node[i].count == want[i].count;
	if (!ok(nodes, "%s: sequences 3 to 11 are three subtrees", tc_stat_names[kind]))
		return;
	ok(tc_tree_flatten(&t, &data, &bytes, &err) == 0 && bytes == 3 * tc_stat_values(kind, DIM) * tc_dtypes[tc_stat_dtype(kind)].size_bytes,
	    "%s: flattened", tc_stat_names[kind]);
	s.node = t.node;
	tc_stat_total(&s, data, total, &count);
	for (size_t j = 0; j < tc_stat_values(kind, DIM); j++) {
		double sum;

		for (uint64_t i = 3; i < 12; i++) {
			l = leaf(kind, i);
			x[i] = number(&t, l, j);
			free(l);
		}
		if (kind == TC_STAT_MAX)
			sum = fmax(fmax(x[4], x[5]), fmax(x[6], x[7]));
		else if (tc_stat_dtype(kind) == TC_F64)
			sum = (x[4] + x[5]) + (x[6] + x[7]);
		else
			sum = (double)(((float)x[4] + (float)x[5]) + ((float)x[6] + (float)x[7]));
		sums &= number(&t, t.value[1], j) == sum;
		sum = number(&t, t.value[0], j) + number(&t, t.value[1], j) + number(&t, t.value[2], j);
		if (kind == TC_STAT_MAX)
			sum = fmax(fmax(number(&t, t.value[0], j), number(&t, t.value[1], j)), number(&t, t.value[2], j));
		totals &= total[j] == sum;
	}
	ok(sums, "%s: a subtree is left + right", tc_stat_names[kind]);
	ok(totals && count == 72, "%s: the total over subtrees", tc_stat_names[kind]);
	free(data);
	tc_tree_free(&t);
}

static int
push_refused(struct tc_tree *t, struct tc_node node)
{
	err = (struct tc_err){0};
	return tc_tree_push(t, node, leaf(t->kind, 0), &err) == -1 && err.code == TC_DATA;
}

static void
test_refusals(void)
{
	struct tc_tree t;

	tc_tree_init(&t, TC_STAT_SQ, DIM);
	ok(push_leaves(&t, 4, 8) && t.n == 1 && tc_node_first(&t.node[0]) == 4 && tc_node_sequences(&t.node[0]) == 4,
	    "four sequences are one subtree");
	ok(push_refused(&t, (struct tc_node){ .index = 7 }), "a sequence given twice is refused: %s", err.msg);
	ok(push_refused(&t, (struct tc_node){ .level = 1, .index = 0 }), "so is one out of order");
	ok(push_refused(&t, (struct tc_node){ .level = 63, .index = 1 }) && push_refused(&t, (struct tc_node){ .level = 64 }) &&
	    push_refused(&t, (struct tc_node){ .level = 4, .index = UINT64_MAX }), "and a level or index beyond all sequences");
	ok(push_leaves(&t, 8, 9) && t.n == 2, "after that it still takes what fits");
	for (uint64_t i = 11; t.n < TC_TREE_NODES_MAX; i += 2)
		if (!push_leaves(&t, i, i + 1))
			break;
	ok(t.n == TC_TREE_NODES_MAX && push_refused(&t, (struct tc_node){ .index = 1000000 }), "more subtrees than a range has are refused");
	tc_tree_free(&t);
}

/* ---- the hook ---- */

/* Row t of all the sequences, dim numbers each, in plain double. */
static void
plain(const float *x, size_t rows, size_t dim, enum tc_stat_kind kind, double *out)
{
	for (size_t i = 0; i < tc_stat_values(kind, dim); i++)
		out[i] = 0;
	for (size_t t = 0; t < rows; t++)
		for (size_t i = 0; i < dim; i++) {
			double v = (double)x[t * dim + i];

			if (kind == TC_STAT_SQ)
				out[i] += v * v;
			else if (kind == TC_STAT_ABS)
				out[i] += fabs(v);
			else if (kind == TC_STAT_MAX)
				out[i] = fmax(out[i], fabs(v));
			for (size_t j = 0; kind == TC_STAT_HESSIAN && j <= i; j++)
				out[i * (i + 1) / 2 + j] += v * (double)x[t * dim + j];
		}
}

enum { SEQS = 5, ROWS = 61 };

static void
gather(struct tc_gather *g, const float *x, size_t dim, size_t seqs)
{
	for (size_t s = 0; s < seqs; s++)
		tc_gather_hook(g, TC_SITE_MLP_IN, s, x + s * ROWS * dim, ROWS, dim);
}

static void
test_hook(const char *kind_name, size_t dim, struct tc_pool *pool)
{
	static const double bound[TC_STAT_SITE_KINDS] = { 1e-14, 1e-14, 0, 1e-6 };
	struct tc_gather g = { .pool = pool, .first = 2, .kind = { true, true, true, true } };
	float *x = malloc(SEQS * ROWS * dim * sizeof(*x));
	size_t most = tc_stat_values(TC_STAT_HESSIAN, dim);
	double *want = malloc(most * sizeof(*want)), *got = malloc(most * sizeof(*got));

	for (size_t i = 0; i < SEQS * ROWS * dim; i++)
		x[i] = unit();
	gather(&g, x, dim, SEQS);
	ok(g.err.code == 0, "%s, %zu channels, %d threads: gathered %s", kind_name, dim, tc_pool_threads(pool), g.err.msg);
	for (int k = 0; k < TC_STAT_SITE_KINDS; k++) {
		enum tc_stat_kind kind = (enum tc_stat_kind)k;
		struct tc_record r;
		uint64_t count;
		double d;

		plain(x, SEQS * ROWS, dim, kind, want);
		if (!ok(tc_gather_record(&g, TC_SITE_MLP_IN, kind, 1, 3, &r, &err) == 1 && r.nparts == 1 && r.u.stat.dim == dim &&
		    r.u.stat.block == 1 && r.u.stat.place == 3 && tc_node_first(&r.u.stat.node[0]) == 2, "a record of %s", tc_stat_names[k]))
			continue;
		tc_stat_total(&r.u.stat, r.part[0].data, got, &count);
		d = distance(tc_stat_values(kind, dim), got, want);
		ok(d <= bound[k] && count == SEQS * ROWS, "%s, %zu channels: %s is right to %g (%.2g)", kind_name, dim,
		    tc_stat_names[k], bound[k], d);
		tc_gather_record_free(&r);
	}
	tc_gather_clear(&g);
	free(x);
	free(want);
	free(got);
}

static int
same_records(const struct tc_gather *a, const struct tc_gather *b)
{
	int same = 1;

	for (int k = 0; k < TC_STAT_SITE_KINDS; k++)
		same &= same_tree(&a->tree[TC_SITE_MLP_IN][k], &b->tree[TC_SITE_MLP_IN][k]);
	return same;
}

/* One thread, three threads; and what was not asked for is not there. */
static void
test_threads(struct tc_pool *pool)
{
	enum { WIDE = 150 };
	static float x[SEQS * ROWS * WIDE];
	struct tc_gather one = { .kind = { true, true, true, true } }, three = one, few = { .kind = { [TC_STAT_ABS] = true } };
	struct tc_record r;

	three.pool = pool;
	for (size_t i = 0; i < sizeof(x) / sizeof(x[0]); i++)
		x[i] = unit();
	gather(&one, x, WIDE, SEQS);
	gather(&three, x, WIDE, SEQS);
	gather(&few, x, WIDE, 2);
	ok(one.tree[TC_SITE_MLP_IN][TC_STAT_HESSIAN].n > 0 && same_records(&one, &three), "1 and 3 threads give the same bits");
	ok(tc_gather_record(&few, TC_SITE_MLP_IN, TC_STAT_ABS, 0, 0, &r, &err) == 1, "what was asked for is there");
	tc_gather_record_free(&r);
	ok(tc_gather_record(&few, TC_SITE_MLP_IN, TC_STAT_SQ, 0, 0, &r, &err) == 0 &&
	    tc_gather_record(&few, TC_SITE_ATTN_IN, TC_STAT_ABS, 0, 0, &r, &err) == 0, "nothing else is");
	tc_gather_clear(&few);
	ok(tc_gather_record(&few, TC_SITE_MLP_IN, TC_STAT_ABS, 0, 0, &r, &err) == 0, "and nothing after clearing");
	tc_gather_clear(&one);
	tc_gather_clear(&three);
}

int
main(void)
{
	const struct tc_kernels *list[8];
	size_t n = tc_kernels_list(list, 8);
	struct tc_pool *pool;

	tc_rng_seed(&rng, 5);
	if (!ok(tc_kernels_select(NULL, &err) == 0, "kernels"))
		return done_testing();
	for (int k = 0; k < TC_STAT_KINDS; k++) {
		test_shards((enum tc_stat_kind)k);
		test_nodes((enum tc_stat_kind)k);
	}
	test_refusals();
	if (!ok(tc_pool_open(&pool, 3, &err) == 0, "three threads"))
		return done_testing();
	for (size_t i = 0; i < n; i++) {
		if (!ok(tc_kernels_select(list[i]->name, &err) == 0, "%s", list[i]->name))
			continue;
		test_hook(list[i]->name, 1, NULL);
		test_hook(list[i]->name, 70, pool);
		test_threads(pool);
	}
	tc_pool_close(pool);
	return done_testing();
}
