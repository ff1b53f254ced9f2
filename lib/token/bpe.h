/* bpe.h - byte pair encoding of one word: Sennrich, Haddow and Birch, "Neural
 * Machine Translation of Rare Words with Subword Units" (2016). */
#ifndef TC_TOKEN_BPE_H
#define TC_TOKEN_BPE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/err.h"
#include "token/ids.h"
#include "token/vocab.h"

struct tc_bpe; /* encoding: one thread at a time */

/* Loads the model section: its vocabulary into *vocab (which is empty, and
 * which *out refers to as long as it lives), its merges into *out.  bytes:
 * words will come as bytes, to be spelled as in bytelevel.h. */
int tc_bpe_load(struct tc_bpe **out, struct tc_vocab *vocab, const json_t *model, bool bytes,
    struct tc_err *err) TC_MUST_CHECK;
void tc_bpe_free(struct tc_bpe *b);

/* Appends the ids of one word, n > 0. */
int tc_bpe_encode(struct tc_bpe *b, const char *word, size_t n, struct tc_ids *ids, struct tc_err *err) TC_MUST_CHECK;

#endif
