/* gather.h - what calibration gathers at the sites of one block, fed by the
 * executor's hook. */
#ifndef TC_STATS_GATHER_H
#define TC_STATS_GATHER_H

#include "base/thread.h"
#include "stats/tree.h"
#include "tensor/tensor.h"

struct tc_gather {
	struct tc_pool *pool;
	uint64_t first;       /* index of the run's first sequence (shards) */
	bool kind[TC_STAT_SITE_KINDS]; /* which statistics */
	struct tc_tree tree[TC_SITES][TC_STAT_SITE_KINDS];
	struct tc_err err;    /* of the hook, which cannot fail itself */
	void *panels;         /* a sequence's tokens for a Hessian, kept for the next */
	size_t panels_bytes;
};

/* A hook for tc_exec_block(): ctx is a struct tc_gather.  Each sequence is a
 * leaf: squares and magnitudes are summed in f64 over its tokens in order,
 * the Hessian sum x x^T in f32 by the matmul kernel, leaves are added in the
 * tree. */
void tc_gather_hook(void *ctx, enum tc_site site, size_t seq, const float *x, size_t rows, size_t dim);

/* The record of one statistic; its part is allocated, released by
 * tc_gather_record_free().  0 when that statistic was not gathered, 1, -1. */
int tc_gather_record(const struct tc_gather *g, enum tc_site site, enum tc_stat_kind kind, int block, int place, struct tc_record *r, struct tc_err *err) TC_MUST_CHECK;
void tc_gather_record_free(struct tc_record *r);

/* Forgets the sums and frees all memory. */
void tc_gather_clear(struct tc_gather *g);

#endif
