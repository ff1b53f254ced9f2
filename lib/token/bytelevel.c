#include "token/bytelevel.h"

#include <stdbool.h>

#include "token/utf8.h"

enum {
	FIRST_SPELLED = 0x100, /* U+0100 spells byte 0 */
	SPELLED_LOW = 0x21,    /* bytes 0x00 to 0x20 are 0x100 to 0x120 */
	SPELLED_MIDDLE = 0x22, /* bytes 0x7f to 0xa0 are 0x121 to 0x142 */
	SOFT_HYPHEN = 0xad     /* is 0x143 */
};

uint32_t
tc_bytelevel_char(unsigned char b)
{
	if (b < SPELLED_LOW)
		return FIRST_SPELLED + (uint32_t)b;
	if (b >= 0x7f && b < 0x7f + SPELLED_MIDDLE)
		return FIRST_SPELLED + SPELLED_LOW + (uint32_t)(b - 0x7f);
	if (b == SOFT_HYPHEN)
		return FIRST_SPELLED + SPELLED_LOW + SPELLED_MIDDLE;
	return b;
}

/* The byte that c spells. */
static bool
byte_of(uint32_t c, unsigned char *b)
{
	if (c < FIRST_SPELLED)
		*b = (unsigned char)c;
	else if (c < FIRST_SPELLED + SPELLED_LOW)
		*b = (unsigned char)(c - FIRST_SPELLED);
	else if (c < FIRST_SPELLED + SPELLED_LOW + SPELLED_MIDDLE)
		*b = (unsigned char)(c - FIRST_SPELLED - SPELLED_LOW + 0x7f);
	else
		*b = SOFT_HYPHEN;
	return tc_bytelevel_char(*b) == c;
}

int
tc_bytelevel_spell(const char *s, size_t n, struct tc_buf *out, struct tc_err *err)
{
	if (n > SIZE_MAX / 2)
		return tc_fail_nomem(err, SIZE_MAX);
	if (tc_buf_reserve(out, 2 * n, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		out->n += tc_utf8_put2(out->p + out->n, tc_bytelevel_char((unsigned char)s[i]));
	return 0;
}

int
tc_bytelevel_unspell(const char *s, size_t n, struct tc_buf *out, struct tc_err *err)
{
	size_t before = out->n, used;

	if (tc_buf_reserve(out, n, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i += used) {
		unsigned char b;

		if (!byte_of(tc_utf8_get((const unsigned char *)s + i, &used), &b)) {
			out->n = before;
			return tc_buf_append(out, s, n, err);
		}
		out->p[out->n++] = b;
	}
	return 0;
}
