/* super.h - super weights: Yu, Wang, Shan, Reed and Wan (2024), "The Super Weight
 * in Large Language Models".
 *
 * A block whose down projection gives a spike in some channel, at a token where
 * it reads one, names the weight between them.  Zeroed, it lets the next be seen:
 *
 *   tc_super_open(&s, &model, &rule, tokens, &err);
 *   tc_rerun_begin(&model, tc_peaks_hook, &s.peaks, &err); tokens, with_hooks
 *   tc_rerun_end(&model, &change, tc_super_look, &s, &err); change: s.zeroed
 *   tc_super_round(&s, &err);                 until it finds no more
 *   tc_super_close(&s); */
#ifndef TC_METHOD_SUPER_H
#define TC_METHOD_SUPER_H

#include "method/rerun.h"
#include "stats/peaks.h"

/* What is a spike: a magnitude above `above`, or, where that is NAN, above
 * `ratio` times the median of the tokens' largest magnitudes. */
struct tc_super_rule {
	double ratio, above;
};

/* What a block's down projection reads and gives at most. */
struct tc_super_block {
	size_t block;
	size_t in_channel, in_sequence, in_position, out_channel, out_sequence, out_position;
	double in, in_median, in_ratio, out, out_median, out_ratio;
};

/* A weight, what it reads and what its row gives. */
struct tc_super_weight {
	size_t block, row, column;
	double value;
	size_t round;             /* that found it; 0: it was named */
	double in, in_ratio, out, out_ratio;
	double share;             /* of the output that is the weight's; NAN when it was named */
	bool spike;               /* both are */
	size_t token, sequence, position, id; /* where the output is */
};

/* A super activation after a block: the residual stream at the weight's row and
 * token, and the median magnitude of that token's channels, with all that were
 * found and without them. */
struct tc_super_step {
	size_t block;
	double with, with_median, without, without_median;
};

struct tc_super {
	struct tc_rerun *model;
	struct tc_super_rule rule;
	size_t layers, first;            /* first: index of the run's first sequence; the caller's to set */
	struct tc_peaks peaks;
	struct tc_super_block *block;    /* [layers], as they were in the first round */
	struct tc_super_weight *weight;  /* [n] */
	size_t n, cap, rounds;
	struct tc_spots zeroed;          /* the same weights, but for those of the round under way */
	bool named;                      /* they are not searched for */
	struct tc_super_step *step;      /* [n][layers] */
};

/* The runs will have so many tokens. */
int tc_super_open(struct tc_super *s, struct tc_rerun *model, const struct tc_super_rule *rule, size_t tokens, struct tc_err *err) TC_MUST_CHECK;
void tc_super_close(struct tc_super *s);
/* Instead of a search: looks at these, whose tensor is a block.  TC_DATA when the
 * model has no such weight. */
int tc_super_name(struct tc_super *s, const struct tc_spots *spots, struct tc_err *err) TC_MUST_CHECK;
/* A tc_rerun_block: adds the weight that the block's spikes name, if any. */
int tc_super_look(void *ctx, size_t block, struct tc_err *err) TC_MUST_CHECK;
/* A round has ended: 1 when it found something, 0, -1. */
int tc_super_round(struct tc_super *s, struct tc_err *err) TC_MUST_CHECK;

/* tc_rerun_blocks, for runs with no weight zeroed and with s->zeroed: fill in
 * s->step. */
int tc_super_follow_with(void *ctx, size_t block, struct tc_err *err) TC_MUST_CHECK;
int tc_super_follow_without(void *ctx, size_t block, struct tc_err *err) TC_MUST_CHECK;

#endif
