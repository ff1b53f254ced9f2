/* canonical.c - a stage's options as the provenance chain keeps them. */
#include "cli/table.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Text that ends up in the caller's buffer, or is known to be too long. */
struct out {
	char *p;
	size_t size, n;
};

static void TC_PRINTF(2, 3)
put(struct out *o, const char *fmt, ...)
{
	size_t room = o->n < o->size ? o->size - o->n : 0;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(room ? o->p + o->n : NULL, room, fmt, ap);
	va_end(ap);
	o->n += n > 0 ? (size_t)n : 0;
}

/* As a shell would need it, in ASCII whatever the bytes are, so that it fits
 * into MessagePack and JSON strings and on one line. */
static void
put_quoted(struct out *o, const char *s)
{
	bool bare = *s != 0, plain = true;

	for (const unsigned char *c = (const unsigned char *)s; *c; c++) {
		plain = plain && *c >= 0x20 && *c < 0x7f;
		bare = bare && ((*c >= '0' && *c <= '9') || (*c >= 'A' && *c <= 'Z') || (*c >= 'a' && *c <= 'z') || strchr("_@%+=:,./-", *c));
	}
	if (bare) {
		put(o, " %s", s);
		return;
	}
	put(o, plain ? " '" : " $'");
	for (const unsigned char *c = (const unsigned char *)s; *c; c++) {
		if (plain && *c == '\'')
			put(o, "'\\''");
		else if (!plain && (*c == '\'' || *c == '\\'))
			put(o, "\\%c", *c);
		else if (*c < 0x20 || *c >= 0x7f)
			put(o, "\\%03o", *c);
		else
			put(o, "%c", *c);
	}
	put(o, "'");
}

static void
put_option(struct out *out, const struct tc_option *o)
{
	put(out, "%s--%s", out->n ? " " : "", o->name);
}

static void
put_text(struct out *out, const struct tc_option *o, const char *s)
{
	put_option(out, o);
	put_quoted(out, s);
}

/* In one word, as it was parsed. */
static void
put_counts(struct out *out, const struct tc_option *o, const struct tc_counts *counts)
{
	if (counts->n == TC_COUNTS_UNSET)
		return;
	put_option(out, o);
	if (counts->n == 0)
		put(out, " none");
	for (int i = 0; i < counts->n; i++)
		put(out, "%c%" PRId64, i ? ',' : ' ', counts->at[i]);
}

static void
put_value(struct out *out, const struct tc_option *o, const void *field)
{
	const struct tc_list *list = field;
	const struct tc_shard *shard = field;
	char buf[256] = "";

	switch (o->type) {
	case TC_OPT_FLAG:
		if (*(const bool *)field)
			put_option(out, o);
		return;
	case TC_OPT_LIST:
		for (int i = 0; i < list->n; i++)
			put_text(out, o, list->item[i]);
		return;
	case TC_OPT_COUNTS:
		put_counts(out, o, field);
		return;
	case TC_OPT_TEXT:
	case TC_OPT_NAME:
		if (*(const char *const *)field)
			put_text(out, o, *(const char *const *)field);
		return;
	case TC_OPT_COUNT:
	case TC_OPT_SIZE:
		if (*(const int64_t *)field != TC_UNSET)
			snprintf(buf, sizeof(buf), "%" PRId64, *(const int64_t *)field);
		break;
	case TC_OPT_REAL:
		if (!isnan(*(const double *)field))
			tc_number_print(*(const double *)field, buf);
		break;
	case TC_OPT_SHARD:
		snprintf(buf, sizeof(buf), "%" PRId64 "/%" PRId64, shard->i, shard->n);
		break;
	case TC_OPT_CALL:
		if (o->print)
			o->print(field, buf, sizeof(buf));
		break;
	case TC_OPT_END:
		return;
	}
	if (buf[0] && tc_option_takes_value(o))
		put_text(out, o, buf);
	else if (buf[0])
		put_option(out, o);
}

int
tc_options_canonical(const struct tc_stage *stage, const void *args, char *buf, size_t size, struct tc_err *err)
{
	struct out out = { buf, size, 0 };
	struct tc_row row;

	if (size)
		buf[0] = 0;
	for (size_t i = 0; tc_table_at(stage, i, &row); i++) {
		size_t base = row.home == TC_HOME_COMMON ? stage->common_offset : 0;

		if (row.home != TC_HOME_PARSED && row.option->role == TC_OPT_ANSWER)
			put_value(&out, row.option, (const char *)args + base + row.option->offset);
	}
	if (out.n >= size)
		return tc_fail(err, TC_USAGE, "the options are longer than %zu bytes", size);
	return 0;
}
