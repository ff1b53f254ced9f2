/* cache.h - words of ordinary text repeat: the ids of short ones that were
 * encoded before. */
#ifndef TC_TOKEN_CACHE_H
#define TC_TOKEN_CACHE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "token/ids.h"

/* {0} is empty. */
struct tc_word_cache {
	struct tc_cached_word *slots;
};

int tc_word_cache_open(struct tc_word_cache *c, struct tc_err *err) TC_MUST_CHECK;
void tc_word_cache_free(struct tc_word_cache *c);

/* Appends the ids of word[0..n), n > 0: 1, or 0 when it isn't there, -1 on error. */
int tc_word_cache_take(const struct tc_word_cache *c, const char *word, size_t n, struct tc_ids *ids,
    struct tc_err *err) TC_MUST_CHECK;

/* Keeps them if there is room for a word and ids of that length. */
void tc_word_cache_put(struct tc_word_cache *c, const char *word, size_t n, const uint32_t *ids, size_t n_ids);

#endif
