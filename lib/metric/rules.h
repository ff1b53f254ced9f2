/* rules.h - multiple-choice items made by rule from any text: no data set is
 * needed, and nobody can have trained on them. */
#ifndef TC_METRIC_RULES_H
#define TC_METRIC_RULES_H

#include <stdint.h>

#include "base/rng.h"
#include "metric/items.h"
#include "metric/words.h"

struct tc_rule {
	const char *name;      /* of the task */
	/* Adds at most n items, fewer where the text has no more. */
	int (*make)(const struct tc_rule *r, const struct tc_words *w, size_t n, struct tc_rng *rng, struct tc_items *items, struct tc_err *err);
	int variant;           /* make's own */
};
extern const struct tc_rule tc_rules[]; /* ended by a NULL name */

const struct tc_rule *tc_rule_named(const char *name, size_t n); /* NULL: none */

/* At most n items: the same ones for the same words and seed, whatever other
 * tasks are made, and the first of those that a larger n gives.  TC_DATA when
 * the text gives none. */
int tc_rule_make(const struct tc_rule *r, const struct tc_words *w, size_t n, uint64_t seed, struct tc_items *items, struct tc_err *err) TC_MUST_CHECK;

#endif
