/* vocab.h - which id a token's spelling has, and back. */
#ifndef TC_TOKEN_VOCAB_H
#define TC_TOKEN_VOCAB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "token/ids.h"

/* A bound on tokens and on ids: 16 times the largest vocabulary in use. */
#define TC_VOCAB_MAX ((uint32_t)1 << 22)

enum tc_token_flags {
	TC_TOKEN_USED = 1,    /* the id has a token */
	TC_TOKEN_MODEL = 2,   /* the model's vocabulary has it (else only added_tokens) */
	TC_TOKEN_SPECIAL = 4
};

struct tc_token {
	size_t at;      /* of its spelling in vocab.text */
	uint32_t n;     /* bytes of it */
	uint32_t flags;
};

/* {0} is empty. */
struct tc_vocab {
	struct tc_buf text;
	struct tc_token *tokens; /* by id */
	size_t n_ids, cap_ids;   /* 1 + the largest id */
	size_t n_tokens;
	uint32_t *slots;         /* open addressing by spelling; TC_NO_ID is free */
	size_t n_slots;          /* a power of two, or 0 */
};

void tc_vocab_free(struct tc_vocab *v);

/* TC_DATA when the id or the spelling is taken, or a bound passed. */
int tc_vocab_add(struct tc_vocab *v, const char *s, size_t n, uint32_t id, uint32_t flags,
    struct tc_err *err) TC_MUST_CHECK;

/* TC_NO_ID when there is none. */
uint32_t tc_vocab_find(const struct tc_vocab *v, const char *s, size_t n);

/* The same among the model's own tokens. */
uint32_t tc_vocab_find_model(const struct tc_vocab *v, const char *s, size_t n);

static inline const char *
tc_vocab_text(const struct tc_vocab *v, uint32_t id)
{
	return (const char *)v->text.p + v->tokens[id].at;
}

#endif
