#include "cli/choice_errors.h"

#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/io.h"
#include "cli/group.h"

#define FILE_BYTES_MAX ((size_t)256 << 20)

static const char *const keys[TC_ERROR_METRICS] = { "hessian_error", "squares_error", "weight_error" };

/* NAN: null, or not there. */
static double
error_by(const json_t *line, enum tc_error_metric metric)
{
	const json_t *x = json_object_get(line, keys[metric]);

	return json_is_number(x) ? json_number_value(x) : NAN;
}

/* Nothing was there to be off by. */
static bool
is_of_zeros(const json_t *line)
{
	return json_is_null(json_object_get(line, keys[TC_ERROR_WEIGHT]));
}

static struct tc_candidate *
find(const struct tc_candidates *all, const json_t *line)
{
	const char *name = json_string_value(json_object_get(line, "name"));

	for (size_t i = 0; name && i < all->n; i++)
		if (strcmp(all->at[i].t.name, name) == 0)
			return &all->at[i];
	return NULL;
}

static bool
is_choice(const json_t *o, const struct tc_candidate *a, const struct tc_choice *c)
{
	const char *method = json_string_value(json_object_get(o, "method")), *group = json_string_value(json_object_get(o, "group"));
	uint64_t own = c->group != TC_GROUP_TENSOR && c->group >= tc_tensor_cols(&a->t) ? TC_GROUP_ROW : c->group;
	char text[24];

	tc_group_print(&own, text, sizeof(text));
	return c->by && !(c->sparsity > 0) && method && group && strcmp(method, tc_choice_quantizer(c, &a->t)->name) == 0 &&
	    json_integer_value(json_object_get(o, "bits")) == c->bits && strcmp(group, text) == 0;
}

static bool
is_any_choice(const json_t *line, const struct tc_candidate *a)
{
	for (size_t k = 0; k < a->choices.n; k++)
		if (is_choice(line, a, &a->choices.at[k]))
			return true;
	return false;
}

static int
check_line(const json_t *o, const char *path, size_t line, struct tc_err *err)
{
	if (!json_is_string(json_object_get(o, "name")) || (!isfinite(error_by(o, TC_ERROR_WEIGHT)) && !is_of_zeros(o)))
		return tc_fail(err, TC_DATA, "%s: line %zu is not of tc-quant --errors", path, line);
	for (enum tc_error_metric m = 0; m < TC_ERROR_METRICS; m++)
		if (error_by(o, m) < 0)
			return tc_fail(err, TC_DATA, "%s: line %zu: \"%s\" is negative", path, line, keys[m]);
	return 0;
}

/* Appends the lines that are of choices to `lines`. */
static int
read_file(const char *path, const struct tc_candidates *all, json_t *lines, struct tc_err *err)
{
	struct tc_buf text = {0};
	size_t line = 1, named = 0;
	int r = tc_read_file(path, &text, FILE_BYTES_MAX, err);

	for (size_t at = 0; r == 0 && at < text.n; line++) {
		const unsigned char *end = memchr(text.p + at, '\n', text.n - at);
		size_t n = end ? (size_t)(end - text.p) - at : text.n - at;
		json_t *o = json_loadb((const char *)text.p + at, n, 0, NULL);
		const struct tc_candidate *a = find(all, o);

		r = check_line(o, path, line, err);
		named += a != NULL;
		if (r == 0 && a && is_any_choice(o, a) && json_array_append(lines, o) < 0)
			r = tc_fail(err, TC_NOMEM, "out of memory (errors)");
		json_decref(o);
		at += n + 1;
	}
	tc_buf_free(&text);
	if (r == 0 && named == 0)
		return tc_fail(err, TC_DATA, "%s: names no tensor of the model that can be quantized", path);
	return r;
}

/* Whether all lines of the kind have it. */
static bool
have_metric(const json_t *lines, const struct tc_candidates *all, size_t kind, enum tc_error_metric m)
{
	for (size_t i = 0; i < json_array_size(lines); i++) {
		const json_t *line = json_array_get(lines, i);

		if (find(all, line)->kind == kind && !is_of_zeros(line) && !isfinite(error_by(line, m)))
			return false;
	}
	return true;
}

static bool
have_kind(const json_t *lines, const struct tc_candidates *all, size_t kind)
{
	for (size_t i = 0; i < json_array_size(lines); i++)
		if (find(all, json_array_get(lines, i))->kind == kind)
			return true;
	return false;
}

static void
take(const json_t *line, struct tc_candidate *a, enum tc_error_metric m)
{
	for (size_t k = 0; k < a->choices.n; k++)
		if (is_choice(line, a, &a->choices.at[k]))
			a->cost[k].error = is_of_zeros(line) ? 0 : error_by(line, m);
}

int
tc_choice_errors_read(const struct tc_list *files, struct tc_candidates *all, enum tc_error_metric metric[TC_ALLOC_KINDS], struct tc_err *err)
{
	json_t *lines = json_array();
	int r = lines ? 0 : tc_fail(err, TC_NOMEM, "out of memory (errors)");

	for (int i = 0; r == 0 && i < files->n; i++)
		r = read_file(files->item[i], all, lines, err);
	for (size_t kind = 0; kind < TC_ALLOC_KINDS; kind++) {
		metric[kind] = have_kind(lines, all, kind) ? TC_ERROR_HESSIAN : TC_ERROR_METRICS;
		/* Every line has the last of them. */
		while (metric[kind] < TC_ERROR_WEIGHT && !have_metric(lines, all, kind, metric[kind]))
			metric[kind]++;
	}
	for (size_t i = 0; r == 0 && i < json_array_size(lines); i++) {
		struct tc_candidate *a = find(all, json_array_get(lines, i));

		take(json_array_get(lines, i), a, metric[a->kind]);
	}
	json_decref(lines);
	return r;
}

int
tc_choice_error(const struct tc_errors *e, enum tc_error_metric metric, double *error, struct tc_err *err)
{
	if (metric == TC_ERROR_METRICS)
		metric = e->hessian.known ? TC_ERROR_HESSIAN : e->squares.known ? TC_ERROR_SQUARES : TC_ERROR_WEIGHT;
	if ((metric == TC_ERROR_HESSIAN && !e->hessian.known) || (metric == TC_ERROR_SQUARES && !e->squares.known))
		return tc_fail(err, TC_DATA, "its \"%s\" is in --errors for some choices, and cannot be measured for others: the stream has no %s",
		    keys[metric], metric == TC_ERROR_HESSIAN ? "Hessian" : "squares of its inputs");
	*error = metric == TC_ERROR_WEIGHT ? tc_errors_of_weights(e) :
	    tc_errors_of_output(metric == TC_ERROR_HESSIAN ? &e->hessian : &e->squares);
	if (!isfinite(*error))
		*error = 0;   /* a tensor of zeros */
	return 0;
}
