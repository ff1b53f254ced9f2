#include "cli/columns.h"

#include <inttypes.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "cli/table.h"

#define CELL_CHARS 64 /* of a figure */
#define GAP "  "

/* Whether a count or an index has something to say. */
static bool
counted(const struct tc_column *c, size_t n)
{
	return n != (c->type == TC_CELL_INDEX ? SIZE_MAX : 0);
}

static const void *
cell(const struct tc_column *c, const struct tc_rows *rows, size_t i)
{
	return (const char *)rows->row + i * rows->row_bytes + c->offset;
}

/* ---- JSON ---- */

static json_t *
cell_json(const struct tc_column *c, const void *p)
{
	switch (c->type) {
	case TC_CELL_TEXT:
		return *(const char *const *)p ? json_string(*(const char *const *)p) : json_null();
	case TC_CELL_FLAG:
		return json_boolean(*(const bool *)p);
	case TC_CELL_DIFFERENCE:
		return json_integer((json_int_t)*(const int64_t *)p);
	case TC_CELL_COUNT:
	case TC_CELL_INDEX:
		return counted(c, *(const size_t *)p) ? json_integer((json_int_t)*(const size_t *)p) : json_null();
	case TC_CELL_REAL:
		break;
	}
	return isfinite(*(const double *)p) ? json_real(*(const double *)p) : json_null();
}

json_t *
tc_columns_json(const struct tc_column *columns, const struct tc_rows *rows)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < rows->n; i++) {
		json_t *o = json_object();
		int r = o ? 0 : -1;

		for (const struct tc_column *c = columns; c->name && r == 0; c++)
			r = json_object_set_new(o, c->name, cell_json(c, cell(c, rows, i)));
		if (r < 0 || json_array_append(list, o) < 0) {
			json_decref(list);
			list = NULL;
		}
		json_decref(o);
	}
	return list;
}

/* ---- CSV ---- */

/* In quotes where it has to be. */
static void
put_field(const char *s)
{
	if (!s[strcspn(s, ",\"\r\n")]) {
		fputs(s, stdout);
		return;
	}
	putchar('"');
	for (; *s; s++) {
		if (*s == '"')
			putchar('"');
		putchar(*s);
	}
	putchar('"');
}

static void
put_cell(const struct tc_column *c, const void *p)
{
	char number[TC_NUMBER_CHARS];

	switch (c->type) {
	case TC_CELL_TEXT:
		put_field(*(const char *const *)p ? *(const char *const *)p : "");
		return;
	case TC_CELL_FLAG:
		fputs(*(const bool *)p ? "true" : "false", stdout);
		return;
	case TC_CELL_DIFFERENCE:
		printf("%" PRId64, *(const int64_t *)p);
		return;
	case TC_CELL_COUNT:
	case TC_CELL_INDEX:
		if (counted(c, *(const size_t *)p))
			printf("%zu", *(const size_t *)p);
		return;
	case TC_CELL_REAL:
		break;
	}
	if (!isfinite(*(const double *)p))
		return;
	tc_number_print(*(const double *)p, number);
	fputs(number, stdout);
}

void
tc_columns_csv(const struct tc_column *columns, const struct tc_rows *rows)
{
	for (const struct tc_column *c = columns; c->name; c++) {
		fputs(c > columns ? "," : "", stdout);
		put_field(c->name);
	}
	fputs("\r\n", stdout);
	for (size_t i = 0; i < rows->n; i++) {
		for (const struct tc_column *c = columns; c->name; c++) {
			fputs(c > columns ? "," : "", stdout);
			put_cell(c, cell(c, rows, i));
		}
		fputs("\r\n", stdout);
	}
}

/* ---- text ---- */

static const char *
cell_text(const struct tc_column *c, const void *p, char buf[CELL_CHARS])
{
	double x;

	switch (c->type) {
	case TC_CELL_TEXT:
		return *(const char *const *)p ? *(const char *const *)p : "-";
	case TC_CELL_FLAG:
		return *(const bool *)p ? "yes" : "no";
	case TC_CELL_DIFFERENCE:
		snprintf(buf, CELL_CHARS, "%" PRId64, *(const int64_t *)p);
		return buf;
	case TC_CELL_COUNT:
	case TC_CELL_INDEX:
		snprintf(buf, CELL_CHARS, "%zu", *(const size_t *)p);
		return counted(c, *(const size_t *)p) ? buf : "-";
	case TC_CELL_REAL:
		break;
	}
	x = *(const double *)p;
	if (c->unit == 0)
		snprintf(buf, CELL_CHARS, "%.*e", c->digits, x);
	else
		snprintf(buf, CELL_CHARS, "%.*f%s", c->digits, x / c->unit, c->suffix ? c->suffix : "");
	return isfinite(x) ? buf : "-";
}

static size_t
width_of(const struct tc_column *c, const struct tc_rows *rows)
{
	size_t most = strlen(c->name);
	char buf[CELL_CHARS];

	for (size_t i = 0; i < rows->n; i++)
		most = tc_max(most, strlen(cell_text(c, cell(c, rows, i), buf)));
	return most;
}

/* Padded to the column's width; nothing after the last. */
static void
put_padded(const struct tc_column *c, const char *s, size_t width)
{
	bool left = c->type == TC_CELL_TEXT || c->type == TC_CELL_FLAG, last = !c[1].name;

	if (left)
		printf("%-*s", last ? 0 : (int)width, s);
	else
		printf("%*s", (int)width, s);
	fputs(last ? "\n" : GAP, stdout);
}

void
tc_columns_text(const struct tc_column *columns, const struct tc_rows *rows)
{
	char buf[CELL_CHARS];

	for (const struct tc_column *c = columns; c->name; c++)
		put_padded(c, c->name, width_of(c, rows));
	for (size_t i = 0; i < rows->n; i++)
		for (const struct tc_column *c = columns; c->name; c++)
			put_padded(c, cell_text(c, cell(c, rows, i), buf), width_of(c, rows));
}
