/* cache.h - what a format of the KV cache does to the keys and values of a model,
 * and how fast the model decodes with it. */
#ifndef TC_METRIC_CACHE_H
#define TC_METRIC_CACHE_H

#include "model/decode.h"

/* Of one block's cache: the root mean square of what is held less what was stored, over
 * that of what was stored. */
struct tc_cache_error {
	double key, value;
};
/* exact: of f32, with so many positions.  Keys that a format by channel holds in f32 are
 * left out. */
int tc_cache_error_of(struct tc_cache_error *e, const struct tc_kv *exact, const struct tc_config *c, size_t positions, const struct tc_kv_options *o, struct tc_err *err) TC_MUST_CHECK;
/* Of the largest |key| of every channel the largest and the median. */
int tc_cache_channels(const struct tc_kv *exact, const struct tc_config *c, size_t positions, double *largest, double *median, struct tc_err *err) TC_MUST_CHECK;

/* One format at one length. */
struct tc_cache_speed {
	struct tc_kv_options o;       /* given */
	double seconds;               /* of a token */
	size_t held_bytes;            /* allocated for all blocks */
	int64_t rss_change;           /* bytes of resident memory from before to after; noisy */
};
/* Fills a cache of each of n formats with `length` of the ids, the last `steps` of them
 * (at most TC_KV_CROP, fewer than length) one by one: these `runs` times, the formats in
 * turn; the median run counts.  The model's config allows length. */
int tc_cache_speed(struct tc_cache_speed *s, size_t n, const struct tc_model *m, const uint32_t *ids, size_t length, size_t steps, size_t runs, struct tc_err *err) TC_MUST_CHECK;

#endif
