/* decoder.h - the decoder section: what bytes each token stands for. */
#ifndef TC_TOKEN_DECODER_H
#define TC_TOKEN_DECODER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "token/vocab.h"

/* {0} is empty. */
struct tc_decoder {
	struct tc_buf text;
	size_t *ends;        /* by id: where its bytes end in text; they start where the id before ends */
	size_t n_ids;
	bool spaced;         /* no decoder: tokens are joined by spaces */
};

int tc_decoder_load(struct tc_decoder *d, const json_t *section, const struct tc_vocab *vocab,
    struct tc_err *err) TC_MUST_CHECK;
void tc_decoder_free(struct tc_decoder *d);

/* The bytes of one token; id < n_ids. */
static inline const unsigned char *
tc_decoder_bytes(const struct tc_decoder *d, uint32_t id, size_t *n)
{
	size_t from = id ? d->ends[id - 1] : 0;

	*n = d->ends[id] - from;
	return d->text.p + from;
}

#endif
