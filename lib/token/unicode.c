#include "token/unicode.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "token/utf8.h"

enum {
	DECOMPOSED_MAX = 32, /* of one character; Unicode's longest has 18 */
	UTF8_BYTES_MAX = 4
};

/* --- normalization --- */

static int
append_decomposed(uint32_t c, utf8proc_option_t options, struct tc_buf *points, struct tc_err *err)
{
	int bound = 0;
	utf8proc_ssize_t k;

	if (tc_buf_reserve(points, DECOMPOSED_MAX * sizeof(utf8proc_int32_t), err) < 0)
		return -1;
	k = utf8proc_decompose_char((utf8proc_int32_t)c, (utf8proc_int32_t *)(void *)(points->p + points->n),
	    DECOMPOSED_MAX, options, &bound);
	if (k < 0 || k > DECOMPOSED_MAX)
		return tc_fail(err, TC_INTERNAL, "U+%04X does not decompose", (unsigned)c);
	points->n += (size_t)k * sizeof(utf8proc_int32_t);
	return 0;
}

static unsigned
class_of(utf8proc_int32_t c)
{
	return c < 0x300 ? 0 : (unsigned)utf8proc_get_property(c)->combining_class;
}

/* Marks behind a starter, by class, those of one class as they stood.  utf8proc's
 * own sort takes quadratic time for a long run of them: this one counts. */
static int
sort_run(utf8proc_int32_t *c, size_t n, struct tc_err *err)
{
	size_t start[257] = {0};
	utf8proc_int32_t *copy;

	copy = tc_alloc(n, sizeof(*copy), err);
	if (!copy)
		return -1;
	memcpy(copy, c, n * sizeof(*c));
	for (size_t i = 0; i < n; i++)
		start[class_of(copy[i]) + 1]++;
	for (size_t k = 1; k < 257; k++)
		start[k] += start[k - 1];
	for (size_t i = 0; i < n; i++)
		c[start[class_of(copy[i])]++] = copy[i];
	free(copy);
	return 0;
}

static int
sort_marks(utf8proc_int32_t *c, size_t n, struct tc_err *err)
{
	for (size_t i = 0, j; i < n; i = j + 1) {
		bool sorted = true;

		for (j = i; j < n && class_of(c[j]); j++)
			sorted = sorted && (j == i || class_of(c[j - 1]) <= class_of(c[j]));
		if (!sorted && sort_run(c + i, j - i, err) < 0)
			return -1;
	}
	return 0;
}

static int
append_points(const utf8proc_int32_t *c, size_t n, struct tc_buf *out, struct tc_err *err)
{
	if (tc_buf_reserve(out, n * UTF8_BYTES_MAX, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i++)
		out->n += (size_t)utf8proc_encode_char(c[i], out->p + out->n);
	return 0;
}

static int
normalize_run(enum tc_unicode_form form, const char *s, size_t n, struct tc_buf *points, struct tc_buf *out,
    struct tc_err *err)
{
	utf8proc_option_t options = UTF8PROC_DECOMPOSE;
	utf8proc_int32_t *c;
	utf8proc_ssize_t count;
	size_t used;

	if (form == TC_NFKC || form == TC_NFKD)
		options |= UTF8PROC_COMPAT;
	points->n = 0;
	for (size_t i = 0; i < n; i += used)
		if (append_decomposed(tc_utf8_get((const unsigned char *)s + i, &used), options, points, err) < 0)
			return -1;
	c = (utf8proc_int32_t *)(void *)points->p;
	count = (utf8proc_ssize_t)(points->n / sizeof(*c));
	if (sort_marks(c, (size_t)count, err) < 0)
		return -1;
	if (form == TC_NFC || form == TC_NFKC)
		count = utf8proc_normalize_utf32(c, count, UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	return append_points(c, (size_t)count, out, err);
}

/* ASCII is what it was, and what follows a run of other characters is not
 * changed by it; but it may take part in a composition with what follows. */
int
tc_unicode_normalize(enum tc_unicode_form form, const char *s, size_t n, struct tc_buf *scratch, struct tc_buf *out,
    struct tc_err *err)
{
	size_t i = 0;

	while (i < n) {
		size_t from, to = i;

		while (to < n && (unsigned char)s[to] < 0x80)
			to++;
		from = to == n || to == i ? to : to - 1;
		if (tc_buf_append(out, s + i, from - i, err) < 0)
			return -1;
		while (to < n && (unsigned char)s[to] >= 0x80)
			to++;
		if (from < to && normalize_run(form, s + from, to - from, scratch, out, err) < 0)
			return -1;
		i = to;
	}
	return 0;
}

/* --- characters --- */

int
tc_unicode_lower(const char *s, size_t n, struct tc_buf *out, struct tc_err *err)
{
	static const char dotted_i[] = "i\xcc\x87"; /* of U+0130, the one that becomes two */
	size_t used;

	if (tc_buf_reserve(out, n, err) < 0)
		return -1;
	for (size_t i = 0; i < n; i += used) {
		uint32_t c = tc_utf8_get((const unsigned char *)s + i, &used);
		unsigned char lower[UTF8_BYTES_MAX];
		size_t k = (size_t)utf8proc_encode_char(utf8proc_tolower((utf8proc_int32_t)c), lower);

		if (c == 0x130 ? tc_buf_append(out, dotted_i, sizeof(dotted_i) - 1, err) < 0 :
		    tc_buf_append(out, lower, k, err) < 0)
			return -1;
	}
	return 0;
}

bool
tc_unicode_is_mark(uint32_t c)
{
	utf8proc_category_t k = c < 0x300 ? UTF8PROC_CATEGORY_CN : utf8proc_category((utf8proc_int32_t)c);

	return k == UTF8PROC_CATEGORY_MN || k == UTF8PROC_CATEGORY_MC || k == UTF8PROC_CATEGORY_ME;
}

bool
tc_unicode_breaks(uint32_t a, uint32_t b, int32_t *state)
{
	return utf8proc_grapheme_break_stateful((utf8proc_int32_t)a, (utf8proc_int32_t)b, state);
}
