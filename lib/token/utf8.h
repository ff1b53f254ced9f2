/* utf8.h - what the tokenizer must know about UTF-8; tc_utf8_check() and
 * tc_utf8_lossy() are declared in tokenizer.h. */
#ifndef TC_TOKEN_UTF8_H
#define TC_TOKEN_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The code point at s, whose text is valid UTF-8, and how many bytes it takes. */
uint32_t tc_utf8_get(const unsigned char *s, size_t *used);

/* Writes code point c < 0x800 to s; returns 1 or 2, the bytes written. */
size_t tc_utf8_put2(unsigned char *s, uint32_t c);

/* Where the code point that ends before s[end] starts; end > 0, valid UTF-8. */
size_t tc_utf8_before(const unsigned char *s, size_t end);

/* Unicode's White_Space. */
bool tc_utf8_is_space(uint32_t c);

/* The bytes of leading white space of s[0..n), or of trailing. */
size_t tc_utf8_spaces_at_start(const unsigned char *s, size_t n);
size_t tc_utf8_spaces_at_end(const unsigned char *s, size_t n);

#endif
