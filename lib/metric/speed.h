/* speed.h - how fast a model runs, and how fast its attention alone.
 *
 * A measurement is a first run, which finds caches and pages cold and is kept
 * apart; some to warm up, which are dropped; and the runs that count.  Token
 * ids are pseudo-random: no number that is timed depends on what they say. */
#ifndef TC_METRIC_SPEED_H
#define TC_METRIC_SPEED_H

#include "metric/latency.h"
#include "model/decode.h"

struct tc_speed_options {
	size_t warmup, runs;   /* runs > 0 */
	uint64_t seed;         /* of the ids */
};

struct tc_speed {
	size_t runs;                /* that count */
	double first;               /* seconds: of the first run, decoding: of its first token */
	struct tc_latency latency;  /* of a run, decoding: of a token */
	double seconds;             /* a whole run, the median one */
};

/* All of tokens > 0 ids at once through the model, from an empty cache to the
 * logits after the last. */
int tc_speed_prefill(struct tc_speed *s, const struct tc_model *m, size_t tokens, const struct tc_speed_options *o, struct tc_err *err) TC_MUST_CHECK;
/* The same, one id after the other. */
int tc_speed_decode(struct tc_speed *s, const struct tc_model *m, size_t tokens, const struct tc_speed_options *o, struct tc_err *err) TC_MUST_CHECK;

/* The attention kernels of the chosen CPU kind on the caller's thread: heads
 * and cap as c has them, no window, one block, made-up queries, keys and
 * values.  prefill: all queries of a sequence of `positions`; else the one at
 * the last position.  As many runs as fit into seconds, at least one. */
int tc_speed_attention(struct tc_speed *s, const struct tc_config *c, size_t positions, bool prefill, double seconds, struct tc_err *err) TC_MUST_CHECK;

/* Floating-point operations that the mathematics asks for, a multiplication
 * and an addition each: of the matrices of a prefill (the head once, for the
 * last position), scores and weighted sums of the positions that a query may
 * see.  Norms, activations, softmax and rope are not counted. */
double tc_flops_prefill(const struct tc_config *c, size_t tokens);
double tc_flops_decode(const struct tc_config *c, size_t tokens);
double tc_flops_attention(const struct tc_config *c, size_t positions, bool prefill);

#endif
