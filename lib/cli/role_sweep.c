#include "cli/role_sweep.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define AT(f) .offset = offsetof(struct tc_role_sweep_row, f)
const struct tc_column tc_role_sweep_columns[] = {
	{ "choice", TC_CELL_TEXT, AT(choice) },
	{ "what", TC_CELL_TEXT, AT(what) },
	{ "tensors", TC_CELL_COUNT, AT(tensors) },
	{ "weights", TC_CELL_COUNT, AT(weights) },
	{ "saved_bytes", TC_CELL_DIFFERENCE, AT(saved) },
	{ "delta", TC_CELL_REAL, AT(delta), 1, 5 },
	{ "delta_stderr", TC_CELL_REAL, AT(delta_error), 1, 5 },
	{ "kld", TC_CELL_REAL, AT(kld), 1, 5 },
	{ "kld_stderr", TC_CELL_REAL, AT(kld_error), 1, 5 },
	{ "kld_per_bit", TC_CELL_REAL, AT(per_bit), 1, 5 },
	{ 0 }
};

/* A role, or a block; the other is TC_ROLES, -1. */
struct part {
	enum tc_role role;
	int block;
};

static bool
is_of(const struct part *p, const struct tc_tensor *t)
{
	return p->role < TC_ROLES ? t->role == p->role : t->block == p->block;
}

/* All tensors with the choice. */
static int
make_all(const struct tc_role_sweep *s, const struct tc_choice *c, struct tc_quantized *made)
{
	struct tc_measures measures = {0};
	struct tc_err *err = &s->cli->err;
	int r = 0;

	for (size_t i = 0; r == 0 && i < s->hold->n; i++) {
		const struct tc_record *record = &s->hold->item[i].r;
		const struct tc_candidate *a;

		r = tc_stats_file_tell(s->stats, record, &measures, err);
		if (r < 0 || record->kind != TC_KIND_TENSOR)
			continue;
		a = tc_candidates_find(s->all, &record->u.tensor);
		if (!a)
			continue;
		tc_cli_progress(s->cli, "%s", a->t.name);
		r = tc_choice_make(c, s->common, a->weights, &measures, &made[a - s->all->at], s->cli->pool, err);
	}
	tc_measures_clear(&measures);
	return r;
}

/* 1 when the model has such a part, 0, -1. */
static int
try_part(const struct tc_role_sweep *s, const struct part *p, const struct tc_quantized *made, struct tc_role_sweep_row *row)
{
	const struct tc_tensor **replaced = tc_zalloc(s->hold->n, sizeof(*replaced), &s->cli->err);
	struct tc_trial_result result;
	int r = 0;

	if (!replaced)
		return -1;
	for (size_t i = 0; i < s->all->n; i++) {
		const struct tc_candidate *a = &s->all->at[i];

		if (!is_of(p, &a->t))
			continue;
		replaced[a->held] = &made[i].t;
		row->tensors++;
		row->weights += tc_tensor_elements(&a->t);
		row->saved += (int64_t)tc_tensor_bytes(&a->t) - (int64_t)tc_tensor_bytes(&made[i].t);
	}
	if (row->tensors > 0)
		r = tc_trial_run(s->trial, replaced, &result, &s->cli->err) < 0 ? -1 : 1;
	free(replaced);
	if (r <= 0)
		return r;
	row->delta = result.delta.mean;
	row->delta_error = result.delta.stderr_;
	row->kld = result.kld.mean;
	row->kld_error = result.kld.stderr_;
	row->per_bit = row->saved > 0 ? row->kld * (double)s->parameters / (8 * (double)row->saved) : NAN;
	return 1;
}

static int
by_price(const void *x, const void *y)
{
	const struct tc_role_sweep_row *a = x, *b = y;

	if (isnan(a->per_bit) != isnan(b->per_bit))
		return isnan(a->per_bit) ? 1 : -1;
	if (!isnan(a->per_bit) && a->per_bit != b->per_bit)
		return a->per_bit > b->per_bit ? -1 : 1;
	return strcmp(a->name, b->name);
}

static int
try_all(const struct tc_role_sweep *s, const struct tc_quantized *made, const struct tc_choice *c, size_t layers,
    struct tc_role_sweep_row *rows, size_t *n)
{
	size_t first = *n;

	for (size_t i = 0; i < TC_ROLES + layers; i++) {
		struct part p = { i < TC_ROLES ? (enum tc_role)i : TC_ROLES, i < TC_ROLES ? -1 : (int)(i - TC_ROLES) };
		struct tc_role_sweep_row *row = &rows[*n];
		int r;

		*row = (struct tc_role_sweep_row){0};
		if (i < TC_ROLES)
			snprintf(row->name, sizeof(row->name), "%s", tc_role_names[i]);
		else
			snprintf(row->name, sizeof(row->name), "block %d", p.block);
		tc_choice_print(c, row->text);
		tc_cli_progress(s->cli, "%s: %s", row->text, row->name);
		r = try_part(s, &p, made, row);
		if (r < 0)
			return -1;
		*n += (size_t)r;
		if (i + 1 == TC_ROLES) {
			qsort(rows + first, *n - first, sizeof(*rows), by_price);
			first = *n;
		}
	}
	qsort(rows + first, *n - first, sizeof(*rows), by_price);
	return 0;
}

int
tc_role_sweep_run(const struct tc_role_sweep *s, const struct tc_choice *c, size_t layers, struct tc_role_sweep_row *rows, size_t *n)
{
	struct tc_quantized *made = tc_zalloc(s->all->n, sizeof(*made), &s->cli->err);
	int r = made ? make_all(s, c, made) : -1;

	if (r == 0)
		r = try_all(s, made, c, layers, rows, n);
	/* Sorting has moved them. */
	for (size_t i = 0; i < *n; i++) {
		rows[i].what = rows[i].name;
		rows[i].choice = rows[i].text;
	}
	for (size_t i = 0; made && i < s->all->n; i++)
		tc_quantized_free(&made[i]);
	free(made);
	return r;
}
