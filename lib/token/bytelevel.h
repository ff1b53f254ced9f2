/* bytelevel.h - the spelling of bytes as printable characters that GPT-2
 * introduced and byte-level vocabularies are written in: printable Latin-1
 * stands for itself, the rest for U+0100 onwards (a space is U+0120). */
#ifndef TC_TOKEN_BYTELEVEL_H
#define TC_TOKEN_BYTELEVEL_H

#include <stdint.h>

#include "base/mem.h"

/* The code point that spells byte b: below U+0144. */
uint32_t tc_bytelevel_char(unsigned char b);

/* Appends the spelling of n bytes. */
int tc_bytelevel_spell(const char *s, size_t n, struct tc_buf *out, struct tc_err *err) TC_MUST_CHECK;

/* Appends the bytes that a spelling (valid UTF-8) stands for; when a
 * character of it spells no byte, the text itself, as Hugging Face does. */
int tc_bytelevel_unspell(const char *s, size_t n, struct tc_buf *out, struct tc_err *err) TC_MUST_CHECK;

#endif
