/* unicode.h - Unicode's normalization forms (UAX 15), by utf8proc's tables. */
#ifndef TC_TOKEN_UNICODE_H
#define TC_TOKEN_UNICODE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/mem.h"

enum tc_unicode_form { TC_NFC, TC_NFD, TC_NFKC, TC_NFKD };

/* Appends s[0..n), valid UTF-8, in that form.  scratch is the caller's, to be
 * used again and freed. */
int tc_unicode_normalize(enum tc_unicode_form form, const char *s, size_t n, struct tc_buf *scratch,
    struct tc_buf *out, struct tc_err *err) TC_MUST_CHECK;

/* Appends the lower case of s[0..n), each character by itself (a final sigma
 * is as any other). */
int tc_unicode_lower(const char *s, size_t n, struct tc_buf *out, struct tc_err *err) TC_MUST_CHECK;

/* General category M. */
bool tc_unicode_is_mark(uint32_t c);

/* Does an extended grapheme cluster (UAX 29) end between a and b, which
 * follows it?  *state is 0 at the start of a text. */
bool tc_unicode_breaks(uint32_t a, uint32_t b, int32_t *state);

#endif
