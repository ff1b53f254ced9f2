/* decoder.h - the decoder section: what bytes each token stands for. */
#ifndef TC_TOKEN_DECODER_H
#define TC_TOKEN_DECODER_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "token/vocab.h"

struct tc_decode_step;

/* The bytes of all tokens. */
struct tc_token_bytes {
	struct tc_buf text;
	size_t *ends; /* by id: where its bytes end in text; they start where the id before ends */
};

/* {0} is empty. */
struct tc_decoder {
	struct tc_token_bytes bytes;
	struct tc_token_bytes first; /* of the first token of a text; no ends: the same */
	size_t n_ids;
	bool spaced;         /* no decoder: tokens are joined by spaces */
	struct tc_decode_step *steps;
	size_t n_steps;
	char strip[4];       /* the character that the whole text loses at its start, */
	size_t strip_bytes;
	size_t strip_times;  /* so many times at most */
};

int tc_decoder_load(struct tc_decoder *d, const json_t *section, const struct tc_vocab *vocab,
    struct tc_err *err) TC_MUST_CHECK;
void tc_decoder_free(struct tc_decoder *d);

/* Where a text is.  {0} is its start. */
struct tc_decoding {
	bool started;    /* there was a token */
	size_t stripped; /* how many characters the text has lost at its start */
};

/* Appends the bytes of one token; id < n_ids. */
int tc_decoder_append(const struct tc_decoder *d, struct tc_decoding *at, uint32_t id, struct tc_buf *out,
    struct tc_err *err) TC_MUST_CHECK;

#endif
