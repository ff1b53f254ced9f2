/* added.h - the added_tokens section: tokens found in the raw text, before
 * anything else looks at it.
 *
 * Two passes, as in Hugging Face's: those with "normalized" false over the
 * whole text, then those with "normalized" true over what is left.  In each,
 * the leftmost match counts, and of those that start there the longest. */
#ifndef TC_TOKEN_ADDED_H
#define TC_TOKEN_ADDED_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "token/vocab.h"

struct tc_added; /* one thread at a time */

/* Adds tokens that the model lacks to *vocab and marks special ones. */
int tc_added_load(struct tc_added **out, struct tc_vocab *vocab, const json_t *list, struct tc_err *err) TC_MUST_CHECK;
void tc_added_free(struct tc_added *a);

/* Calls part(ctx, ...) for the parts of text in order: an added token's id,
 * or TC_NO_ID and a run of other text, n > 0. */
typedef int tc_added_part(void *ctx, uint32_t id, const char *s, size_t n, struct tc_err *err);
int tc_added_split(struct tc_added *a, const char *text, size_t n, tc_added_part *part, void *ctx,
    struct tc_err *err) TC_MUST_CHECK;

#endif
