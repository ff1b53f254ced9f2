/* influence.h - how much each block changes what goes through it: Men et al.
 * (2024), "ShortGPT: Layers in Large Language Models are More Redundant Than You
 * Expect".
 *
 *     BI = 1 - mean over tokens of cos(what the block is given, what it gives) */
#ifndef TC_METHOD_INFLUENCE_H
#define TC_METHOD_INFLUENCE_H

#include "base/thread.h"
#include "stream/hold.h"

/* influence[layers], of a model whose records are held, over nseq sequences of
 * length[i] of ids.  Takes memory for what the tokens are twice. */
int tc_influence_measure(double *influence, const struct tc_header *h, const struct tc_hold *hold, size_t nseq, const size_t *length, const uint32_t *ids, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

#endif
