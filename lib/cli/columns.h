/* columns.h - rows of figures, printed as JSON, CSV or text from one list of
 * columns. */
#ifndef TC_CLI_COLUMNS_H
#define TC_CLI_COLUMNS_H

#include <jansson.h>
#include <stddef.h>

/* What a cell has when there is nothing to say: null in JSON, empty in CSV,
 * "-" in text. */
enum tc_cell {
	TC_CELL_TEXT,   /* const char *; NULL */
	TC_CELL_FLAG,   /* bool; always something */
	TC_CELL_COUNT,  /* size_t; 0 */
	TC_CELL_DIFFERENCE, /* int64_t; always something */
	TC_CELL_INDEX,  /* size_t, 0 and up; SIZE_MAX */
	TC_CELL_REAL    /* double; what is not finite */
};

struct tc_column {
	const char *name;      /* key in JSON, header in CSV, heading in text; NULL ends a list */
	enum tc_cell type;
	size_t offset;         /* of the cell in a row */
	/* text only: */
	double unit;           /* reals are divided by it; 0: they have exponents */
	int digits;            /* after the point */
	const char *suffix;    /* "%", or NULL */
};

/* Rows are n structs of row_bytes each. */
struct tc_rows {
	const void *row;
	size_t n, row_bytes;
};

/* An array of objects; NULL: out of memory. */
json_t *tc_columns_json(const struct tc_column *columns, const struct tc_rows *rows);
/* On stdout, as RFC 4180 has it: a header, lines ended by CR LF. */
void tc_columns_csv(const struct tc_column *columns, const struct tc_rows *rows);
/* On stdout, aligned: text to the left, figures to the right. */
void tc_columns_text(const struct tc_column *columns, const struct tc_rows *rows);

#endif
