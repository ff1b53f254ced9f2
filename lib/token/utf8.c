#include "token/utf8.h"

#include <string.h>

#include "token/tokenizer.h"

/* The length of the sequence that starts at s and whether it is well formed;
 * of an ill-formed one, the length of the part that could have begun a
 * well-formed one (at least 1).  Unicode 15, table 3-7 and section 3.9. */
static size_t
sequence(const unsigned char *s, size_t n, bool *ok)
{
	unsigned char a = s[0];
	unsigned char low = 0x80, high = 0xbf;
	size_t want = a < 0x80 ? 1 : a < 0xc2 ? 0 : a < 0xe0 ? 2 : a < 0xf0 ? 3 : a < 0xf5 ? 4 : 0;
	size_t i;

	*ok = false;
	if (want == 0)
		return 1;
	if (a == 0xe0)
		low = 0xa0;   /* no overlong form */
	else if (a == 0xed)
		high = 0x9f;  /* no surrogate */
	else if (a == 0xf0)
		low = 0x90;
	else if (a == 0xf4)
		high = 0x8f;  /* no more than U+10FFFF */
	for (i = 1; i < want; i++) {
		if (i >= n || s[i] < low || s[i] > high)
			return i;
		low = 0x80;
		high = 0xbf;
	}
	*ok = true;
	return want;
}

static bool
eight_ascii(const unsigned char *s)
{
	uint64_t w;

	memcpy(&w, s, sizeof(w));
	return (w & UINT64_C(0x8080808080808080)) == 0;
}

/* How many bytes at the start of s are valid UTF-8. */
static size_t
valid_bytes(const unsigned char *s, size_t n)
{
	size_t i = 0;

	while (i < n) {
		bool ok;
		size_t k;

		if (n - i >= 8 && eight_ascii(s + i)) {
			i += 8;
			continue;
		}
		k = sequence(s + i, n - i, &ok);
		if (!ok)
			break;
		i += k;
	}
	return i;
}

bool
tc_utf8_check(const char *text, size_t n, size_t *bad_offset)
{
	size_t good = valid_bytes((const unsigned char *)text, n);

	if (good == n)
		return true;
	if (bad_offset)
		*bad_offset = good;
	return false;
}

int
tc_utf8_lossy(const unsigned char *s, size_t n, struct tc_buf *out, struct tc_err *err)
{
	static const char replacement[] = "\xef\xbf\xbd";
	size_t i = 0;

	while (i < n) {
		size_t good = valid_bytes(s + i, n - i);
		bool ok;

		if (tc_buf_append(out, s + i, good, err) < 0)
			return -1;
		i += good;
		if (i == n)
			break;
		if (tc_buf_append(out, replacement, sizeof(replacement) - 1, err) < 0)
			return -1;
		i += sequence(s + i, n - i, &ok);
	}
	return 0;
}

uint32_t
tc_utf8_get(const unsigned char *s, size_t *used)
{
	uint32_t c = s[0];
	size_t n = c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

	*used = n;
	if (n == 1)
		return c;
	c &= 0x7fu >> n;
	for (size_t i = 1; i < n; i++)
		c = c << 6 | (s[i] & 0x3fu);
	return c;
}

size_t
tc_utf8_put2(unsigned char *s, uint32_t c)
{
	if (c < 0x80) {
		s[0] = (unsigned char)c;
		return 1;
	}
	s[0] = (unsigned char)(0xc0 | c >> 6);
	s[1] = (unsigned char)(0x80 | (c & 0x3f));
	return 2;
}

size_t
tc_utf8_before(const unsigned char *s, size_t end)
{
	do
		end--;
	while (end > 0 && (s[end] & 0xc0) == 0x80);
	return end;
}

bool
tc_utf8_is_space(uint32_t c)
{
	return (c >= 0x09 && c <= 0x0d) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
	    (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
	    c == 0x205f || c == 0x3000;
}

size_t
tc_utf8_spaces_at_start(const unsigned char *s, size_t n)
{
	size_t i = 0, used;

	while (i < n && tc_utf8_is_space(tc_utf8_get(s + i, &used)))
		i += used;
	return i;
}

size_t
tc_utf8_spaces_at_end(const unsigned char *s, size_t n)
{
	size_t end = n, used;

	while (end > 0) {
		size_t at = tc_utf8_before(s, end);

		if (!tc_utf8_is_space(tc_utf8_get(s + at, &used)))
			break;
		end = at;
	}
	return n - end;
}
