/* unigram.h - the unigram language model of one word: the segmentation with
 * the largest sum of scores, by Viterbi.  Kudo, "Subword Regularization"
 * (2018), section 3.2. */
#ifndef TC_TOKEN_UNIGRAM_H
#define TC_TOKEN_UNIGRAM_H

#include <jansson.h>
#include <stddef.h>

#include "base/err.h"
#include "token/ids.h"
#include "token/vocab.h"

struct tc_unigram; /* encoding: one thread at a time */

/* Loads the model section: its vocabulary into *vocab (which is empty, and
 * which *out refers to as long as it lives), its scores into *out. */
int tc_unigram_load(struct tc_unigram **out, struct tc_vocab *vocab, const json_t *model,
    struct tc_err *err) TC_MUST_CHECK;
void tc_unigram_free(struct tc_unigram *u);

/* Appends the ids of one word, n > 0. */
int tc_unigram_encode(struct tc_unigram *u, const char *word, size_t n, struct tc_ids *ids,
    struct tc_err *err) TC_MUST_CHECK;

#endif
