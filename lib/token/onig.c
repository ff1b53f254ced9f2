#include "token/onig.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

/* Members of a class: White_Space, word characters, hexadecimal digits. */
static const char space[] =
    "\\x09-\\x0d\\x20\\x85\\xa0\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}\\x{3000}";
static const char word[] = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
/* Outside of a class Oniguruma has another table for code points below 256. */
static const char word_outside[] = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\xb2\\xb3\\xb9\\xbc-\\xbe";
static const char hex[] = "0-9A-Fa-f";

struct reader {
	const char *s;
	size_t n, at;
	bool in_class;
	struct tc_buf *out;
	struct tc_err *err;
};

/* ctype.h depends on the locale. */
static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_hex(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool
is_alnum(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static int
put(struct reader *r, const char *s, size_t n)
{
	return tc_buf_append(r->out, s, n, r->err);
}

static int
put_string(struct reader *r, const char *s)
{
	return put(r, s, strlen(s));
}

/* Copies the next n bytes. */
static int
copy(struct reader *r, size_t n)
{
	n = tc_min(n, r->n - r->at);
	r->at += n;
	return put(r, r->s + r->at - n, n);
}

static int
refuse(struct reader *r, size_t n)
{
	n = tc_min(n, r->n - r->at);
	return tc_fail(r->err, TC_DATA, "'%.*s'%s in a pattern is not supported", (int)n, r->s + r->at,
	    r->in_class ? " in [ ]" : "");
}

/* Is s what follows? */
static bool
next_is(const struct reader *r, const char *s)
{
	size_t n = strlen(s);

	return r->n - r->at >= n && memcmp(r->s + r->at, s, n) == 0;
}

static char
peek(const struct reader *r, size_t ahead)
{
	return ahead < r->n - r->at ? r->s[r->at + ahead] : '\0';
}

static size_t
hex_digits(const struct reader *r, size_t ahead)
{
	size_t n = 0;

	while (is_hex(peek(r, ahead + n)))
		n++;
	return n;
}

static bool
is_script(const char *name, size_t n)
{
	char pattern[64];
	int code, len;
	PCRE2_SIZE where;
	pcre2_code *re;

	if (n >= sizeof(pattern) / 2)
		return false;
	len = snprintf(pattern, sizeof(pattern), "\\p{sc:%.*s}", (int)n, name);
	re = pcre2_compile((PCRE2_SPTR)pattern, (size_t)len, PCRE2_UTF, &code, &where, NULL);
	pcre2_code_free(re);
	return re != NULL;
}

/* \p{...}: a bare script name means the script itself. */
static int
property(struct reader *r)
{
	const char *open = r->s + r->at + 2;
	const char *close;
	size_t hat;

	if (peek(r, 2) != '{')
		return refuse(r, 3);
	close = memchr(open, '}', r->n - r->at - 2);
	if (!close)
		return refuse(r, 3);
	hat = peek(r, 3) == '^';
	if (copy(r, 3 + hat) < 0)
		return -1;
	open += 1 + hat;
	if (close - open > 2 && is_script(open, (size_t)(close - open)) && put_string(r, "sc:") < 0)
		return -1;
	return copy(r, (size_t)(close - open) + 1);
}

/* A shorthand with members in a class; with its brackets outside of one. */
static int
members(struct reader *r, const char *list, bool negated)
{
	r->at += 2;
	if (!r->in_class && put_string(r, negated ? "[^" : "[") < 0)
		return -1;
	if (put_string(r, list) < 0)
		return -1;
	if (!r->in_class)
		return put(r, "]", 1);
	if (peek(r, 0) != '-')
		return 0;
	r->at++; /* after a shorthand it is literal; after its members it would make a range */
	return put(r, "\\-", 2);
}

static int
hex_escape(struct reader *r)
{
	char out[16];
	bool u = peek(r, 1) == 'u';
	size_t digits = tc_min(hex_digits(r, 2), u ? 4 : 2);

	if (!u && peek(r, 2) == '{' && peek(r, 3 + hex_digits(r, 3)) == '}')
		return copy(r, 4 + hex_digits(r, 3));
	/* Oniguruma's \x80 to \xff are single bytes of UTF-8 */
	if (digits != (u ? 4 : 2) || (!u && peek(r, 2) >= '8'))
		return refuse(r, 4);
	snprintf(out, sizeof(out), "\\x{%.*s}", (int)digits, r->s + r->at + 2);
	r->at += 2 + digits;
	return put_string(r, out);
}

static int
escape(struct reader *r)
{
	char c = peek(r, 1);

	switch (c) {
	case 's':
		return members(r, space, false);
	case 'S':
		if (r->in_class)
			return members(r, "\\P{White_Space}", false);
		return members(r, space, true);
	case 'w':
		return members(r, r->in_class ? word : word_outside, false);
	case 'h':
		return members(r, hex, false);
	case 'W':
	case 'H':
		if (r->in_class)
			return refuse(r, 2);
		return members(r, c == 'W' ? word_outside : hex, true);
	case 'p':
	case 'P':
		return property(r);
	case 'x':
	case 'u':
		return hex_escape(r);
	case 'v':
		r->at += 2;
		return put_string(r, "\\x0b");
	case 'A':
	case 'z':
	case 'Z':
		if (r->in_class)
			return refuse(r, 2);
		return copy(r, 2);
	case 'd': case 'D':
	case 'a': case 'e': case 'f': case 'n': case 'r': case 't':
		return copy(r, 2);
	default:
		if (is_alnum(c) || c == '\0')
			return refuse(r, 2);
		return copy(r, 2);
	}
}

/* A hyphen before a shorthand is literal to both, until the shorthand is
 * written out. */
static int
hyphen(struct reader *r)
{
	if (peek(r, 1) == '\\' && peek(r, 2) != '\0' && strchr("sSwWhHdDpP", peek(r, 2))) {
		r->at++;
		return put(r, "\\-", 2);
	}
	return copy(r, 1);
}

static int
in_class(struct reader *r)
{
	switch (peek(r, 0)) {
	case '\\':
		return escape(r);
	case '[':
		return refuse(r, 2);
	case '&':
		return peek(r, 1) == '&' ? refuse(r, 2) : copy(r, 1);
	case '-':
		return hyphen(r);
	case ']':
		r->in_class = false;
		return copy(r, 1);
	default:
		return copy(r, 1);
	}
}

static int
open_class(struct reader *r)
{
	size_t n = peek(r, 1) == '^' ? 2 : 1;

	if (peek(r, n) == ']')
		return refuse(r, n + 1);
	r->in_class = true;
	return copy(r, n);
}

static int
group(struct reader *r)
{
	static const char *const known[] = { "(?:", "(?=", "(?!", "(?>", "(?<=", "(?<!", "(?i:", "(?-i:" };

	if (peek(r, 1) == '*')
		return refuse(r, 2);
	if (peek(r, 1) != '?')
		return copy(r, 1);
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++)
		if (next_is(r, known[i]))
			return copy(r, strlen(known[i]));
	if (r->at == 0 && next_is(r, "(?i)"))
		return copy(r, strlen("(?i)"));
	return refuse(r, 4);
}

/* {n}, {n,}, {n,m}; any other brace is literal. */
static int
brace(struct reader *r)
{
	size_t i = 1, low;
	bool range;

	while (is_digit(peek(r, i)))
		i++;
	low = i - 1;
	range = peek(r, i) == ',';
	if (range)
		while (is_digit(peek(r, ++i)))
			;
	if (peek(r, i) != '}' || (low == 0 && !range))
		return copy(r, 1);
	if (low == 0 || peek(r, i + 1) == '+' || (!range && peek(r, i + 1) == '?'))
		return refuse(r, i + 2);
	return copy(r, i + 1);
}

static int
outside(struct reader *r)
{
	switch (peek(r, 0)) {
	case '\\':
		return escape(r);
	case '[':
		return open_class(r);
	case '(':
		return group(r);
	case '{':
		return brace(r);
	default:
		return copy(r, 1);
	}
}

int
tc_onig_translate(const char *pattern, size_t n, struct tc_buf *out, struct tc_err *err)
{
	struct reader r = { .s = pattern, .n = n, .out = out, .err = err };

	while (r.at < n)
		if ((r.in_class ? in_class(&r) : outside(&r)) < 0)
			return -1;
	return 0;
}
