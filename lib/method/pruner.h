/* pruner.h - the table of pruners: what becomes 0.
 *
 * A pruner is one file, one row in pruners.c, one test, one paragraph in
 * tc-prune(1).  It is a function of options, weights and, where its row says so,
 * of statistics; it touches no file and prints nothing. */
#ifndef TC_METHOD_PRUNER_H
#define TC_METHOD_PRUNER_H

#include "method/lowest.h"
#include "method/quantizer.h"

/* Among which weights the lowest scores are looked for. */
enum tc_prune_per { TC_PRUNE_TENSOR, TC_PRUNE_ROW, TC_PRUNE_MODEL };

struct tc_prune_options {
	double sparsity;      /* share of the weights that become 0, rounded down to whole ones */
	int n, m;             /* in its place: n of every m inputs of a row, 1 <= n < m <= TC_NM_MAX; m 0: none */
	enum tc_prune_per per; /* without n:m, and where a row has a score */
	struct tc_lowest *model; /* TC_PRUNE_MODEL: that of all tensors, each counted */
	/* sparsegpt: grids that the weights that stay are rounded on, as in gptq, or NULL: they stay
	 * of their type */
	const struct tc_quant_options *quant;
};

enum tc_prune_needs {
	TC_PRUNE_NEEDS_NOTHING,
	TC_PRUNE_NEEDS_SQUARES,
	TC_PRUNE_NEEDS_HESSIAN  /* factored, not by size */
};

/* What a pruner made of a tensor. */
struct tc_pruned {
	uint64_t *keep;       /* a mask (mask.h): weights that do not become 0, and were not before by
	                       * a mask */
	struct tc_kept weights; /* what the others have become, whatever stands where keep has no
	                       * bit; not there: they are as they were */
};
void tc_pruned_free(struct tc_pruned *p);

struct tc_pruner {
	const char *name;
	const char *summary;
	enum tc_prune_needs needs;
	enum tc_prune_per per; /* if nothing else is said */
	bool ties;            /* of a dense tensor all go that are no higher than the first to stay, as
	                       * in the authors' code */
	/* w[n], a row's weights, become their scores; norm[n]: the root of each input's
	 * sum of squares, where needed. */
	void (*score)(const float *norm, size_t n, float *w);
	/* Or all that it does. */
	int (*run)(const struct tc_prune_options *o, const struct tc_quant_input *in, struct tc_pruned *p, struct tc_pool *pool, struct tc_err *err);
};

/* Ended by a row without a name. */
extern const struct tc_pruner tc_pruners[];
const struct tc_pruner *tc_pruner_find(const char *name);

/* Fills *p, which is empty after a failure.  TC_DATA when what is needed is not
 * there, or m does not divide the inputs. */
int tc_pruner_run(const struct tc_pruner *by, const struct tc_prune_options *o, const struct tc_quant_input *in, struct tc_pruned *p, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

/* The scores of in->w, of a pruner that has them; in outlives s.  Of a packed
 * tensor they are those of the weights that its codes stand for; where its inputs
 * are transformed, of the transformed ones, and what is known of the inputs
 * says nothing (TC_DATA). */
struct tc_pruner_scores {
	struct tc_scores s;
	const struct tc_pruner *by;
	const struct tc_tensor *w;
	float *norm;
	void (*read)(const struct tc_tensor *t, size_t row0, size_t nrows, float *out);
};
int tc_pruner_scores_open(struct tc_pruner_scores *s, const struct tc_pruner *by, const struct tc_quant_input *in, struct tc_err *err) TC_MUST_CHECK;
void tc_pruner_scores_close(struct tc_pruner_scores *s);

/* Of n weights, how many a share of them is. */
static inline uint64_t tc_prune_count(double sparsity, uint64_t n) { return (uint64_t)((double)n * sparsity); }

/* The rows'. */
void tc_magnitude_score(const float *norm, size_t n, float *w);
void tc_wanda_score(const float *norm, size_t n, float *w);
int tc_sparsegpt_run(const struct tc_prune_options *o, const struct tc_quant_input *in, struct tc_pruned *p, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

#endif
