/* fisher.h - the diagonal of the empirical Fisher information, up to its count:
 * squared gradients of each sequence's mean NLL, summed over sequences.
 *
 *   tc_fisher_open(&f, &forward, &options, &err);
 *   tc_fisher_alloc(&f, &spill, &err);               tc_fisher_bytes(&f) large
 *   visitor = tc_fisher_visitor(&f);
 *   tc_gradient_run(&forward, tensor, &loss, value, &visitor, &err);
 *   tc_fisher_record(&f, param, kind, place, &record, &err);
 *   tc_fisher_close(&f);                             also after a failure */
#ifndef TC_STATS_FISHER_H
#define TC_STATS_FISHER_H

#include "model/gradient.h"
#include "stats/tree.h"

struct tc_fisher_options {
	/* Beside TC_STAT_FISHER, which is always gathered: TC_STAT_FISHER_WEIGHT
	 * or another of its kind, or TC_STAT_FISHER, for no other. */
	enum tc_stat_kind kind;
	uint64_t group;           /* fisher_group */
	uint64_t first;           /* index of the run's first sequence (shards) */
	void (*finished)(void *ctx, size_t param); /* for telling of progress; may be NULL */
	void *ctx;
};

struct tc_fisher_param {
	size_t row_values;        /* that a row leaves, and... */
	size_t at;                /* ...where those of all nodes begin in f->kept, in bytes */
	void *passing;            /* between the first strip and the last: values of nodes that will be merged */
	size_t passing_rows;
	double *columns;          /* [nseq][cols], as long */
	double *part_columns;     /* [strips][sequences of a batch][cols], likewise */
	void *merged;             /* fisher_column: [nodes][cols] */
};

struct tc_fisher {
	struct tc_fisher_options o;
	const struct tc_forward *forward;
	size_t params, nseq;
	struct tc_tensor *tensor; /* [params]: names and shapes */
	struct tc_fisher_param *param;
	double *sums;             /* [params][nseq]: of g^2 over the tensor */
	/* Sequence i is pushed on the stack of nodes at place[i], then merges[i]
	 * times merged with the one below. */
	unsigned char *place, *merges;
	size_t depth, nnodes;     /* the most nodes, and those at the end: */
	struct tc_node node[TC_TREE_NODES_MAX];
	struct tc_spill kept;
	size_t kept_bytes;
	/* of the strips in hand */
	size_t sequences, cols;   /* the most of a batch and of a parameter */
	double *part_sums;        /* [strips][sequences] */
	float *gradient;          /* [threads][rows of a strip][cols] */
};

/* forward outlives f; its sequences are known, its weights need not be. */
int tc_fisher_open(struct tc_fisher *f, const struct tc_forward *forward, const struct tc_fisher_options *o, struct tc_err *err) TC_MUST_CHECK;
/* What is there until the end; and for as long as a block is worked at. */
size_t tc_fisher_bytes(const struct tc_fisher *f);
int tc_fisher_alloc(struct tc_fisher *f, const struct tc_spill_options *spill, struct tc_err *err) TC_MUST_CHECK;
/* Its visited() is TC_DATA where squares are not finite, or by weight would not
 * be in f32. */
struct tc_gradient_visitor tc_fisher_visitor(struct tc_fisher *f);

/* The record of a parameter's statistic, its data in f or, for TC_STAT_FISHER,
 * allocated: release with tc_fisher_record_free().  1, 0 when that kind was not
 * gathered, -1. */
int tc_fisher_record(const struct tc_fisher *f, size_t param, enum tc_stat_kind kind, int place, struct tc_record *r, struct tc_err *err) TC_MUST_CHECK;
void tc_fisher_record_free(struct tc_record *r);

void tc_fisher_close(struct tc_fisher *f);

#endif
