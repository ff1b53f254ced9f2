#include "token/fallback.h"

#include <ctype.h>
#include <stdio.h>

enum { SPELLED_BYTES = 6 };

void
tc_fallback_find(struct tc_fallback *f, const struct tc_vocab *vocab, bool wanted)
{
	f->complete = wanted;
	for (unsigned i = 0; i < 256; i++) {
		char s[SPELLED_BYTES + 1];

		snprintf(s, sizeof(s), "<0x%02X>", i);
		f->ids[i] = wanted ? tc_vocab_find_model(vocab, s, SPELLED_BYTES) : TC_NO_ID;
		f->complete = f->complete && f->ids[i] != TC_NO_ID;
	}
}

bool
tc_fallback_has(const struct tc_fallback *f, const char *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (f->ids[(unsigned char)s[i]] == TC_NO_ID)
			return false;
	return true;
}

int
tc_fallback_append(const struct tc_fallback *f, const char *s, size_t n, struct tc_ids *ids, struct tc_err *err)
{
	if (tc_ids_reserve(ids, n, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		ids->p[ids->n++] = f->ids[(unsigned char)s[i]];
	return 0;
}

static unsigned
digit(char c)
{
	return c <= '9' ? (unsigned)(c - '0') : ((unsigned)c | 0x20) - 'a' + 10;
}

bool
tc_fallback_byte(const char *s, size_t n, unsigned char *byte)
{
	if (n != SPELLED_BYTES || s[0] != '<' || s[1] != '0' || s[2] != 'x' || s[5] != '>' ||
	    !isxdigit((unsigned char)s[3]) || !isxdigit((unsigned char)s[4]))
		return false;
	*byte = (unsigned char)(digit(s[3]) << 4 | digit(s[4]));
	return true;
}
