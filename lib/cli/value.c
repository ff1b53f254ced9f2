/* value.c - one option's value: text from the command line into its field. */
#include "cli/table.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SHARDS_MAX (1 << 20)

void
tc_number_print(double x, char buf[TC_NUMBER_CHARS])
{
	if (x == floor(x) && fabs(x) <= 0x1p53) {
		snprintf(buf, TC_NUMBER_CHARS, "%.0f", x + 0.0); /* + 0.0: no -0 */
		return;
	}
	for (int digits = 1; digits <= 17; digits++) {
		snprintf(buf, TC_NUMBER_CHARS, "%.*g", digits, x);
		if (strtod(buf, NULL) == x)
			return;
	}
}

static bool
has_bounds(const struct tc_option *o)
{
	return o->min != 0 || o->max != 0;
}

static int
out_of_bounds(const struct tc_option *o, const char *text, struct tc_err *err)
{
	char min[TC_NUMBER_CHARS], max[TC_NUMBER_CHARS];

	if (!has_bounds(o))
		return tc_fail(err, TC_USAGE, "%.64s: too large", text);
	tc_number_print(o->min, min);
	tc_number_print(o->max, max);
	if (isinf(o->max))
		return tc_fail(err, TC_USAGE, "%.64s: must be at least %s", text, min);
	return tc_fail(err, TC_USAGE, "%.64s: must be %s to %s", text, min, max);
}

static int
within_bounds(const struct tc_option *o, double x, const char *text, struct tc_err *err)
{
	if (has_bounds(o) && !(x >= o->min && x <= o->max))
		return out_of_bounds(o, text, err);
	return 0;
}

/* The bytes that a suffix stands for, 0 when it is none. */
static int64_t
suffix_bytes(const char *suffix)
{
	static const char letters[] = "KMGT";
	const char *at;

	if (!*suffix)
		return 1;
	at = strchr(letters, *suffix);
	if (!at || suffix[1])
		return 0;
	return (int64_t)1 << (10 * (at - letters + 1));
}

static int
parse_count(const struct tc_option *o, const char *text, void *field, struct tc_err *err)
{
	bool size = o->type == TC_OPT_SIZE;
	const char *digits = text + (!size && *text == '-');
	char *end = NULL;
	long long v = 0;
	int64_t unit = 0, n;

	if (*digits >= '0' && *digits <= '9') {
		errno = 0;
		v = strtoll(text, &end, 10);
		unit = size ? suffix_bytes(end) : *end == 0;
	}
	if (!unit && size)
		return tc_fail(err, TC_USAGE, "'%.64s': must be a number of bytes (K, M, G, T may follow)", text);
	if (!unit)
		return tc_fail(err, TC_USAGE, "'%.64s': must be a whole number", text);
	/* INT64_MIN is taken: TC_UNSET. */
	if (errno == ERANGE || __builtin_mul_overflow(v, unit, &n) || n == TC_UNSET)
		return out_of_bounds(o, text, err);
	if (within_bounds(o, (double)n, text, err) < 0)
		return -1;
	*(int64_t *)field = n;
	return 0;
}

static int
parse_real(const struct tc_option *o, const char *text, void *field, struct tc_err *err)
{
	char *end = NULL;
	double x = 0;

	/* strtod also takes nan, inf, hexadecimal and leading blanks. */
	if (*text && text[strspn(text, "0123456789+-.eE")] == 0)
		x = strtod(text, &end);
	if (!end || end == text || *end)
		return tc_fail(err, TC_USAGE, "'%.64s': must be a number", text);
	if (!isfinite(x))
		return out_of_bounds(o, text, err);
	if (within_bounds(o, x, text, err) < 0)
		return -1;
	*(double *)field = x;
	return 0;
}

static int
parse_name(const struct tc_option *o, const char *text, void *field, struct tc_err *err)
{
	size_t len = strlen(text), n = 0;
	char listed[256];

	for (const char *at = o->names;; at++) {
		size_t span = strcspn(at, "|");

		if (span == len && memcmp(at, text, len) == 0) {
			*(const char **)field = text;
			return 0;
		}
		at += span;
		if (!*at)
			break;
	}
	for (const char *at = o->names; *at && n + 3 < sizeof(listed); at++) {
		listed[n++] = *at == '|' ? ',' : *at;
		if (*at == '|')
			listed[n++] = ' ';
	}
	listed[n] = 0;
	return tc_fail(err, TC_USAGE, "'%.64s': must be one of %s", text, listed);
}

static int
parse_list(const char *text, struct tc_list *list, struct tc_err *err)
{
	const int most = sizeof(list->item) / sizeof(list->item[0]);

	if (list->n >= most)
		return tc_fail(err, TC_USAGE, "'%.64s': given more than %d times", text, most);
	list->item[list->n++] = text;
	return 0;
}

/* Counts with commas between, or "none". */
static int
parse_counts(const struct tc_option *o, const char *text, struct tc_counts *counts, struct tc_err *err)
{
	struct tc_option one = *o;
	char item[TC_NUMBER_CHARS];
	struct tc_counts c = {0};
	size_t span;

	one.type = TC_OPT_COUNT;
	for (const char *at = text; strcmp(text, "none") != 0; at += span + 1) {
		span = strcspn(at, ",");
		if (c.n == TC_COUNTS_MAX)
			return tc_fail(err, TC_USAGE, "'%.64s': more than %d numbers", text, TC_COUNTS_MAX);
		snprintf(item, sizeof(item), "%.*s", (int)span, at);
		if (span == 0 || span >= sizeof(item))
			return tc_fail(err, TC_USAGE, "'%.64s': must be whole numbers with commas between, or none", text);
		if (parse_count(&one, item, &c.at[c.n++], err) < 0)
			return -1;
		if (!at[span])
			break;
	}
	*counts = c;
	return 0;
}

static int
parse_shard(const char *text, struct tc_shard *shard, struct tc_err *err)
{
	unsigned long i, n;
	int end = 0;

	/* %7lu cannot overflow; the first test refuses blanks and signs. */
	if (text[strspn(text, "0123456789/")] == 0 &&
	    sscanf(text, "%7lu/%7lu%n", &i, &n, &end) == 2 && text[end] == 0 &&
	    i >= 1 && i <= n && n <= SHARDS_MAX) {
		*shard = (struct tc_shard){ (int64_t)i, (int64_t)n };
		return 0;
	}
	return tc_fail(err, TC_USAGE, "'%.64s': must be I/N, 1 <= I <= N <= %d", text, SHARDS_MAX);
}

int
tc_value_parse(const struct tc_option *o, const char *text, void *field, struct tc_err *err)
{
	switch (o->type) {
	case TC_OPT_FLAG:
		*(bool *)field = true;
		return 0;
	case TC_OPT_COUNT:
	case TC_OPT_SIZE:
		return parse_count(o, text, field, err);
	case TC_OPT_REAL:
		return parse_real(o, text, field, err);
	case TC_OPT_TEXT:
		*(const char **)field = text;
		return 0;
	case TC_OPT_NAME:
		return parse_name(o, text, field, err);
	case TC_OPT_LIST:
		return parse_list(text, field, err);
	case TC_OPT_COUNTS:
		return parse_counts(o, text, field, err);
	case TC_OPT_SHARD:
		return parse_shard(text, field, err);
	case TC_OPT_CALL:
		return o->parse(text, field, err);
	case TC_OPT_END:
		break;
	}
	return tc_fail(err, TC_INTERNAL, "an option without a type");
}
