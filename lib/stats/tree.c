#include "stats/tree.h"

#include <stdlib.h>
#include <string.h>

#include "kernel/kernel.h"

void
tc_tree_init(struct tc_tree *t, enum tc_stat_kind kind, uint64_t dim)
{
	*t = (struct tc_tree){ .kind = kind, .dim = dim };
}

void
tc_tree_free(struct tc_tree *t)
{
	for (size_t i = 0; i < t->n; i++)
		free(t->value[i]);
	t->n = 0;
}

uint64_t
tc_node_first(const struct tc_node *n)
{
	return n->index << n->level;
}

uint64_t
tc_node_sequences(const struct tc_node *n)
{
	return (uint64_t)1 << n->level;
}

void
tc_stat_fold(enum tc_stat_kind kind, size_t n, void *a, const void *b)
{
	double *da = a;
	const double *db = b;
	float *fa = a;
	const float *fb = b;

	if (kind == TC_STAT_MAX)
		for (size_t i = 0; i < n; i++)
			fa[i] = fb[i] > fa[i] ? fb[i] : fa[i];
	else if (tc_stat_dtype(kind) == TC_F64)
		for (size_t i = 0; i < n; i++)
			da[i] += db[i];
	else
		tc_kernels()->add(n, b, a);
}

static bool
siblings(const struct tc_node *a, const struct tc_node *b)
{
	return a->level == b->level && a->index % 2 == 0 && b->index == a->index + 1;
}

size_t
tc_nodes_push(struct tc_node *nodes, size_t *n, struct tc_node node)
{
	size_t merges = 0;

	nodes[(*n)++] = node;
	for (; *n >= 2 && siblings(&nodes[*n - 2], &nodes[*n - 1]); merges++) {
		struct tc_node *a = &nodes[*n - 2], *b = &nodes[*n - 1];

		*a = (struct tc_node){ .level = a->level + 1, .index = a->index / 2, .count = a->count + b->count };
		--*n;
	}
	return merges;
}

int
tc_tree_push(struct tc_tree *t, struct tc_node node, void *value, struct tc_err *err)
{
	const struct tc_node *last = t->n ? &t->node[t->n - 1] : NULL;

	if (node.level >= 63 || node.index > UINT64_MAX >> (node.level + 1)) {
		free(value);
		return tc_fail(err, TC_DATA, "a statistic has no subtree %llu of level %u", (unsigned long long)node.index, node.level);
	}
	if (t->n == TC_TREE_NODES_MAX || (last && tc_node_first(last) + tc_node_sequences(last) > tc_node_first(&node))) {
		free(value);
		return tc_fail(err, TC_DATA, "sequence %llu: a statistic covers it twice or out of order",
		    (unsigned long long)tc_node_first(&node));
	}
	t->value[t->n] = value;
	for (size_t i = t->n, merges = tc_nodes_push(t->node, &t->n, node); merges > 0; merges--, i--) {
		tc_stat_fold(t->kind, tc_stat_values(t->kind, t->dim), t->value[i - 1], t->value[i]);
		free(t->value[i]);
	}
	return 0;
}

int
tc_tree_flatten(const struct tc_tree *t, void **data, size_t *size_bytes, struct tc_err *err)
{
	size_t each = tc_stat_values(t->kind, t->dim) * tc_dtypes[tc_stat_dtype(t->kind)].size_bytes;
	char *p = tc_alloc(t->n, each, err);

	if (!p)
		return -1;
	for (size_t i = 0; i < t->n; i++)
		memcpy(p + i * each, t->value[i], each);
	*data = p;
	*size_bytes = t->n * each;
	return 0;
}

void
tc_stat_total(const struct tc_stat *s, const void *data, double *out, uint64_t *count)
{
	size_t n = tc_stat_values(s->kind, s->dim);
	bool wide = tc_stat_dtype(s->kind) == TC_F64;
	const double *d = data;
	const float *f = data;

	*count = 0;
	for (size_t k = 0; k < s->nnodes; k++) {
		*count += s->node[k].count;
		for (size_t i = 0; i < n; i++) {
			double x = wide ? d[k * n + i] : (double)f[k * n + i];

			if (s->kind == TC_STAT_MAX)
				out[i] = k == 0 || x > out[i] ? x : out[i];
			else
				out[i] = k == 0 ? x : out[i] + x;
		}
	}
}
