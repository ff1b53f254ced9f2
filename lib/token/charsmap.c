#include "token/charsmap.h"

#include <limits.h>
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "token/tokenizer.h"
#include "token/unicode.h"
#include "token/utf8.h"

enum {
	CLUSTER_BYTES = 6, /* longer ones are taken apart */
	UNIT_BYTES = 4
};

struct tc_charsmap {
	struct tc_buf bytes;
	const unsigned char *units;
	size_t n_units;
	const char *text;
	size_t n_text;
};

/* --- loading --- */

static uint32_t
get32(const unsigned char *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static int
decode_base64(struct tc_buf *out, const char *s, size_t n, struct tc_err *err)
{
	int got;

	if (n == 0 || n % 4 || n > INT_MAX)
		return tc_fail(err, TC_DATA, "'precompiled_charsmap' is not base64");
	if (tc_buf_reserve(out, n / 4 * 3, err) < 0)
		return -1;
	got = EVP_DecodeBlock(out->p, (const unsigned char *)s, (int)n);
	if (got < 0 || (size_t)got != n / 4 * 3)
		return tc_fail(err, TC_DATA, "'precompiled_charsmap' is not base64");
	out->n = (size_t)got - (s[n - 1] == '=') - (s[n - 1] == '=' && s[n - 2] == '=');
	return 0;
}

static int
load(struct tc_charsmap *m, const char *base64, size_t n, struct tc_err *err)
{
	size_t trie_bytes;

	if (decode_base64(&m->bytes, base64, n, err) < 0)
		return -1;
	trie_bytes = m->bytes.n < UNIT_BYTES ? SIZE_MAX : get32(m->bytes.p);
	if (trie_bytes == 0 || trie_bytes % UNIT_BYTES || trie_bytes > m->bytes.n - UNIT_BYTES)
		return tc_fail(err, TC_DATA, "'precompiled_charsmap' is cut short");
	m->units = m->bytes.p + UNIT_BYTES;
	m->n_units = trie_bytes / UNIT_BYTES;
	m->text = (const char *)m->units + trie_bytes;
	m->n_text = m->bytes.n - UNIT_BYTES - trie_bytes;
	if (!tc_utf8_check(m->text, m->n_text, NULL))
		return tc_fail(err, TC_DATA, "'precompiled_charsmap': its texts are not UTF-8");
	return 0;
}

int
tc_charsmap_load(struct tc_charsmap **out, const char *base64, size_t n, struct tc_err *err)
{
	struct tc_charsmap *m = calloc(1, sizeof(*m));

	*out = NULL;
	if (!m)
		return tc_fail_nomem(err, sizeof(*m));
	if (load(m, base64, n, err) < 0) {
		tc_charsmap_free(m);
		return -1;
	}
	*out = m;
	return 0;
}

void
tc_charsmap_free(struct tc_charsmap *m)
{
	if (!m)
		return;
	tc_buf_free(&m->bytes);
	free(m);
}

/* --- looking up --- */

static bool
unit_at(const struct tc_charsmap *m, size_t at, uint32_t *unit)
{
	if (at >= m->n_units)
		return false;
	*unit = get32(m->units + at * UNIT_BYTES);
	return true;
}

static size_t
children_of(uint32_t unit)
{
	return (size_t)(unit >> 10) << ((unit & 1u << 9) >> 6);
}

static int
fail_broken(struct tc_err *err)
{
	return tc_fail(err, TC_DATA, "normalizer 'Precompiled': its table points outside itself");
}

/* The text of the shortest entry that s[0..n) starts with: 1, or 0 when there is none. */
static int
find(const struct tc_charsmap *m, const char *s, size_t n, const char **text, struct tc_err *err)
{
	size_t at;
	uint32_t unit;

	if (!unit_at(m, 0, &unit))
		return fail_broken(err);
	at = children_of(unit);
	for (size_t i = 0; i < n && s[i]; i++) {
		unsigned char c = (unsigned char)s[i];

		at ^= c;
		if (!unit_at(m, at, &unit))
			return fail_broken(err);
		if ((unit & (1u << 31 | 0xff)) != c)
			return 0;
		at ^= children_of(unit);
		if (!(unit >> 8 & 1))
			continue;
		if (!unit_at(m, at, &unit) || (unit & INT32_MAX) > m->n_text)
			return fail_broken(err);
		*text = m->text + (unit & INT32_MAX);
		return 1;
	}
	return 0;
}

/* 1 when s[0..n) was rewritten. */
static int
rewrite(const struct tc_charsmap *m, const char *s, size_t n, struct tc_buf *out, struct tc_err *err)
{
	const char *text = NULL;
	size_t k;
	int r = find(m, s, n, &text, err);

	if (r <= 0)
		return r;
	k = strnlen(text, m->n_text - (size_t)(text - m->text));
	if (k && ((unsigned char)*text & 0xc0) == 0x80) /* the middle of a character */
		return fail_broken(err);
	return tc_buf_append(out, text, k, err) < 0 ? -1 : 1;
}

static int
run_cluster(const struct tc_charsmap *m, const char *s, size_t n, struct tc_buf *out, struct tc_err *err)
{
	size_t used;
	int r = n < CLUSTER_BYTES ? rewrite(m, s, n, out, err) : 0;

	if (r)
		return r < 0 ? -1 : 0;
	for (size_t i = 0; i < n; i += used) {
		tc_utf8_get((const unsigned char *)s + i, &used);
		r = rewrite(m, s + i, used, out, err);
		if (r < 0 || (r == 0 && tc_buf_append(out, s + i, used, err) < 0))
			return -1;
	}
	return 0;
}

int
tc_charsmap_run(const struct tc_charsmap *m, const char *s, size_t n, struct tc_buf *out, struct tc_err *err)
{
	const unsigned char *p = (const unsigned char *)s;
	int32_t state = 0;

	for (size_t from = 0, to, used; from < n; from = to) {
		uint32_t a = tc_utf8_get(p + from, &used), b;

		for (to = from + used; to < n; to += used, a = b) {
			b = tc_utf8_get(p + to, &used);
			if (tc_unicode_breaks(a, b, &state))
				break;
		}
		if (run_cluster(m, s + from, to - from, out, err) < 0)
			return -1;
	}
	return 0;
}
