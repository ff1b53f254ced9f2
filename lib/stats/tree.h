/* tree.h - sums over sequences in a fixed binary tree.
 *
 * Leaves are sequences by index; level l, index k covers sequences
 * k 2^l .. (k+1) 2^l - 1, and its sum is left child + right child, always.
 * A run over any range of sequences holds the largest subtrees that the range
 * covers, so shards that are merged give the same bits as none. */
#ifndef TC_STATS_TREE_H
#define TC_STATS_TREE_H

#include "stream/record.h"

#define TC_TREE_NODES_MAX 128 /* a range has at most two subtrees a level */

/* Sums of one statistic. */
struct tc_tree {
	enum tc_stat_kind kind;
	uint64_t dim;
	size_t n;
	struct tc_node node[TC_TREE_NODES_MAX];
	void *value[TC_TREE_NODES_MAX];  /* [tc_stat_values()] of tc_stat_dtype() */
};

void tc_tree_init(struct tc_tree *t, enum tc_stat_kind kind, uint64_t dim);
void tc_tree_free(struct tc_tree *t);

/* Appends a subtree to the right of those there (ascending, no gap is
 * checked here; an overlap is TC_DATA) and folds what can be folded.  Owns
 * value (from tc_alloc) from then on, also on failure. */
int tc_tree_push(struct tc_tree *t, struct tc_node node, void *value, struct tc_err *err) TC_MUST_CHECK;

/* What tc_tree_push() does with nodes: appends one to nodes[*n] and merges
 * siblings at the end; returns how many merges. */
size_t tc_nodes_push(struct tc_node *nodes, size_t *n, struct tc_node node);
/* a[n] += b[n], of the kind's type; or their maximum.  Kernels have been
 * chosen. */
void tc_stat_fold(enum tc_stat_kind kind, size_t n, void *a, const void *b);

/* The node's first sequence, and how many it covers. */
uint64_t tc_node_first(const struct tc_node *n);
uint64_t tc_node_sequences(const struct tc_node *n);

/* The nodes' values one after another, as a stat record's part wants them. */
int tc_tree_flatten(const struct tc_tree *t, void **data, size_t *size_bytes, struct tc_err *err) TC_MUST_CHECK;

/* The total of a stat record over its nodes, left to right, in f64 (hessian:
 * the packed triangle): out[tc_stat_values()]; *count: tokens. */
void tc_stat_total(const struct tc_stat *s, const void *data, double *out, uint64_t *count);

#endif
