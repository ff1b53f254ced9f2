#include "cli/errors_file.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "cli/columns.h"

struct line {
	struct tc_errors_row row;
	double weights, worst, squares, hessian;
};

#define AT(f) .offset = offsetof(struct line, f)
static const struct tc_column columns[] = {
	{ "name", TC_CELL_TEXT, AT(row.name) },
	{ "method", TC_CELL_TEXT, AT(row.method) },
	{ "bits", TC_CELL_COUNT, AT(row.bits) },
	{ "group", TC_CELL_TEXT, AT(row.group) },
	{ "parameters", TC_CELL_COUNT, AT(row.parameters) },
	{ "weight_error", TC_CELL_REAL, AT(weights) },
	{ "worst", TC_CELL_REAL, AT(worst) },
	{ "squares_error", TC_CELL_REAL, AT(squares) },
	{ "hessian_error", TC_CELL_REAL, AT(hessian) },
	{ 0 }
};

int
tc_errors_file_open(struct tc_errors_file *f, const char *path, struct tc_err *err)
{
	*f = (struct tc_errors_file){ .path = path };
	if (strcmp(path, "-") == 0)
		return tc_fail(err, TC_USAGE, "--errors: must be a file, standard output is the stream's");
	return tc_output_open(&f->output, path, err);
}

static int
append_line(struct tc_buf *text, const struct line *l, struct tc_err *err)
{
	json_t *list = tc_columns_json(columns, &(struct tc_rows){ l, 1, sizeof(*l) });
	char *s = list ? json_dumps(json_array_get(list, 0), JSON_REAL_PRECISION(17)) : NULL;
	int r = -1;

	if (!s)
		tc_fail(err, TC_NOMEM, "out of memory (errors)");
	else if (tc_buf_append(text, s, strlen(s), err) == 0)
		r = tc_buf_append(text, "\n", 1, err);
	free(s);
	json_decref(list);
	return r;
}

int
tc_errors_file_add(struct tc_errors_file *f, const struct tc_errors_row *row, const struct tc_errors *e, struct tc_err *err)
{
	struct line l = { *row, tc_errors_of_weights(e), e->weight.max_abs, tc_errors_of_output(&e->squares),
		tc_errors_of_output(&e->hessian) };

	if (isfinite(l.weights)) {
		f->weights += (double)row->parameters;
		f->weighted += (double)row->parameters * l.weights;
	}
	return append_line(&f->text, &l, err);
}

double
tc_errors_file_mean(const struct tc_errors_file *f)
{
	return f->weights > 0 ? f->weighted / f->weights : NAN;
}

int
tc_errors_file_commit(struct tc_errors_file *f, struct tc_err *err)
{
	int r = tc_write_all(tc_output_fd(f->output), f->text.p, f->text.n, err);

	if (r < 0) {
		r = tc_err_at(err, "%s", f->path);
	} else {
		r = tc_output_commit(f->output, err);
		f->output = NULL;
	}
	tc_errors_file_discard(f);
	return r;
}

void
tc_errors_file_discard(struct tc_errors_file *f)
{
	tc_output_discard(f->output);
	tc_buf_free(&f->text);
	f->output = NULL;
}
