/* fallback.h - tokens that stand for one byte, <0x00> to <0xFF>, which spell
 * what a vocabulary lacks. */
#ifndef TC_TOKEN_FALLBACK_H
#define TC_TOKEN_FALLBACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "token/ids.h"
#include "token/vocab.h"

struct tc_fallback {
	uint32_t ids[256]; /* TC_NO_ID: there is none */
	bool complete;     /* there are all */
};

/* Finds them in the model's vocabulary; none unless wanted. */
void tc_fallback_find(struct tc_fallback *f, const struct tc_vocab *vocab, bool wanted);

/* Is there one for each byte? */
bool tc_fallback_has(const struct tc_fallback *f, const char *s, size_t n);

int tc_fallback_append(const struct tc_fallback *f, const char *s, size_t n, struct tc_ids *ids,
    struct tc_err *err) TC_MUST_CHECK;

/* The byte that a token spelled s[0..n) stands for; false when it is none. */
bool tc_fallback_byte(const char *s, size_t n, unsigned char *byte);

#endif
