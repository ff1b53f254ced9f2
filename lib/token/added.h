/* added.h - the added_tokens section: tokens found in the text as a whole,
 * before it is cut into words.
 *
 * Two passes, as in Hugging Face's: those with "normalized" false over the
 * raw text, then those with "normalized" true, which are normalized as it is,
 * over each normalized stretch of what is left.  In each, the leftmost match
 * counts, and of those that start there the longest. */
#ifndef TC_TOKEN_ADDED_H
#define TC_TOKEN_ADDED_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "token/normalizer.h"
#include "token/vocab.h"

struct tc_added; /* one thread at a time */

/* Adds tokens that the model lacks to *vocab and marks special ones.  *out
 * refers to the normalizer as long as it lives. */
int tc_added_load(struct tc_added **out, struct tc_vocab *vocab, struct tc_normalizer *normalizer,
    const json_t *list, struct tc_err *err) TC_MUST_CHECK;
void tc_added_free(struct tc_added *a);

/* Calls part(ctx, ...) for the parts of text in order: an added token's id,
 * or TC_NO_ID and a run of other text, normalized, n > 0; first: it stands at
 * the start of the text. */
typedef int tc_added_part(void *ctx, uint32_t id, const char *s, size_t n, bool first, struct tc_err *err);
int tc_added_split(struct tc_added *a, const char *text, size_t n, tc_added_part *part, void *ctx,
    struct tc_err *err) TC_MUST_CHECK;

#endif
