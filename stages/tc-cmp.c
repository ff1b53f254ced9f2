/* tc-cmp: how far two models are from each other, tensor by tensor.  See
 * tc-cmp(1).
 *
 * Both are read in lock-step, one tensor a side in memory.  Nothing is printed
 * before both were read to their ends: what breaks off is no model. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/select.h"
#include "metric/difference.h"
#include "model/config.h"
#include "tensor/describe.h"

struct args {
	struct tc_common common;
};

static const struct tc_option options[] = { { .type = TC_OPT_END } };

static const struct tc_stage stage = {
	.name = "tc-cmp",
	.summary = "compare two models tensor by tensor",
	.operands = "MODEL_A MODEL_B",
	.operands_max = 2,
	.options = options,
	.common = TC_COMMON_ALWAYS | TC_COMMON_SELECT | TC_COMMON_JSON,
	.common_offset = offsetof(struct args, common),
};

enum { A, B, SIDES };

/* One of the two models, and the tensor that is next in it. */
struct side {
	struct tc_source *source;
	struct tc_config config;
	struct tc_record record;
	bool there;             /* record holds a tensor */
	uint64_t place;         /* of that tensor; ascends */
};

enum outcome { SAME, DIFFERENT, ONLY_A, ONLY_B, SHAPES };
static const char *const notes[] = { [ONLY_A] = "only in the first", [ONLY_B] = "only in the second",
	[SHAPES] = "the shapes differ" };

/* What was found about one name. */
struct row {
	char name[TC_NAME_MAX], format[SIDES][TC_TENSOR_CHARS];
	enum outcome outcome;
	int ndim;
	uint64_t cols;
	struct tc_difference d;
};

struct report {
	struct row *row;
	size_t n, cap, same;
	struct tc_difference total;
};

/* ---- two models in lock-step ---- */

/* Where execution order has a tensor, whatever the model's size. */
static uint64_t
place(const struct tc_tensor *t)
{
	uint64_t block = t->block >= 0 ? (uint64_t)t->block + 1 : t->role <= TC_ROLE_POS ? 0 : TC_LAYERS_MAX + 1;

	return ((block * TC_ROLES) + (uint64_t)t->role) * 2 + t->bias;
}

/* On to the next tensor that is asked for. */
static int
advance(struct side *s, const struct tc_common *common, struct tc_err *err)
{
	const struct tc_tensor *t = &s->record.u.tensor;
	int got;

	s->there = false;
	while ((got = tc_source_next(s->source, &s->record, err)) > 0) {
		uint64_t last = s->place;

		if (s->record.kind != TC_KIND_TENSOR)
			continue;
		if (tc_config_check(&s->config, t, err) < 0)
			return -1;
		s->place = place(t) + 1;
		if (s->place <= last)
			return tc_fail(err, TC_DATA, "%s: is not where execution order has it", t->name);
		if (tc_select_matches(&common->include, &common->exclude, t->name)) {
			s->there = true;
			return 0;
		}
	}
	return got;
}

static struct row *
new_row(struct report *p, const struct tc_tensor *t, struct tc_err *err)
{
	struct row *row;

	if (p->n == p->cap) {
		size_t cap = 2 * p->cap + 64;

		row = realloc(p->row, cap * sizeof(*row));
		if (!row) {
			tc_fail_nomem(err, cap * sizeof(*row));
			return NULL;
		}
		p->row = row;
		p->cap = cap;
	}
	row = &p->row[p->n++];
	*row = (struct row){ .ndim = t->ndim, .cols = tc_tensor_cols(t) };
	snprintf(row->name, sizeof(row->name), "%s", t->name);
	return row;
}

static int
add_one(struct report *p, const struct tc_tensor *t, int side, struct tc_err *err)
{
	struct row *row = new_row(p, t, err);

	if (!row)
		return -1;
	row->outcome = side == A ? ONLY_A : ONLY_B;
	tc_tensor_describe(t, row->format[side]);
	return 0;
}

static bool
same_shape(const struct tc_tensor *a, const struct tc_tensor *b)
{
	return a->ndim == b->ndim && memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof(a->shape[0])) == 0;
}

static int
add_both(struct report *p, const struct tc_tensor *a, const struct tc_tensor *b, struct tc_pool *pool, struct tc_err *err)
{
	struct row *row = new_row(p, a, err);

	if (!row)
		return -1;
	tc_tensor_describe(a, row->format[A]);
	tc_tensor_describe(b, row->format[B]);
	row->outcome = SHAPES;
	if (!same_shape(a, b))
		return 0;
	if (tc_difference_measure(&row->d, a, b, pool, err) < 0)
		return -1;
	row->outcome = row->d.unequal ? DIFFERENT : SAME;
	p->same += row->outcome == SAME;
	tc_difference_add(&p->total, &row->d);
	return 0;
}

static int
compare(struct tc_cli *cli, struct side side[SIDES], struct report *p)
{
	const struct tc_tensor *a = &side[A].record.u.tensor, *b = &side[B].record.u.tensor;
	struct tc_err *err = &cli->err;
	bool on_a = true, on_b = true;

	for (;;) {
		int r;

		if ((on_a && advance(&side[A], cli->common, err) < 0) || (on_b && advance(&side[B], cli->common, err) < 0))
			return -1;
		if (!side[A].there && !side[B].there)
			return 0;
		on_a = side[A].there && (!side[B].there || side[A].place <= side[B].place);
		on_b = side[B].there && (!side[A].there || side[B].place <= side[A].place);
		/* Two architectures may have two names for a place. */
		if (on_a && on_b && strcmp(a->name, b->name) == 0)
			r = add_both(p, a, b, cli->pool, err);
		else
			r = (on_a && add_one(p, a, A, err) < 0) || (on_b && add_one(p, b, B, err) < 0) ? -1 : 0;
		if (r < 0)
			return -1;
		tc_cli_progress(cli, "%zu tensors", p->n);
	}
}

/* ---- what is printed ---- */

enum column { NAME, RELATIVE, SNR, LARGEST, AT, FORMAT_A, FORMAT_B, NOTE, COLUMNS };
static const char *const heading[COLUMNS] = { "NAME", "RELATIVE", "SNR_DB", "MAX_ABS", "AT", "FORMAT_A", "FORMAT_B", "" };

#define CELL_MAX TC_NAME_MAX

static void
fill_cells(const struct row *row, char cell[COLUMNS][CELL_MAX])
{
	bool compared = row->outcome == SAME || row->outcome == DIFFERENT;

	for (int c = 0; c < COLUMNS; c++)
		snprintf(cell[c], CELL_MAX, "%s", c == NOTE ? "" : "-");
	snprintf(cell[NAME], CELL_MAX, "%s", row->name);
	for (int side = 0; side < SIDES; side++)
		if (row->format[side][0])
			snprintf(cell[FORMAT_A + side], CELL_MAX, "%s", row->format[side]);
	if (!compared) {
		snprintf(cell[NOTE], CELL_MAX, "%s", notes[row->outcome]);
		return;
	}
	snprintf(cell[RELATIVE], CELL_MAX, "%.6g", tc_difference_relative(&row->d));
	snprintf(cell[SNR], CELL_MAX, "%.2f", tc_difference_snr_db(&row->d));
	snprintf(cell[LARGEST], CELL_MAX, "%.6g", row->d.max_abs);
	if (row->outcome == DIFFERENT && row->ndim == 1)
		snprintf(cell[AT], CELL_MAX, "%" PRIu64, row->d.max_at);
	else if (row->outcome == DIFFERENT)
		snprintf(cell[AT], CELL_MAX, "%" PRIu64 ",%" PRIu64, row->d.max_at / row->cols, row->d.max_at % row->cols);
}

static void
print_cells(const char *const cell[COLUMNS], const int width[COLUMNS])
{
	int last = *cell[NOTE] ? NOTE : FORMAT_B;

	for (int c = 0; c < last; c++)
		printf("%*s  ", c >= RELATIVE && c <= AT ? width[c] : -width[c], cell[c]);
	printf("%s\n", cell[last]);
}

static void
print_text(const struct report *p)
{
	char cell[COLUMNS][CELL_MAX];
	const char *at[COLUMNS];
	int width[COLUMNS];

	for (int c = 0; c < COLUMNS; c++) {
		width[c] = (int)strlen(heading[c]);
		at[c] = cell[c];
	}
	for (size_t i = 0; i < p->n; i++) {
		fill_cells(&p->row[i], cell);
		for (int c = 0; c < COLUMNS; c++)
			width[c] = (int)tc_max((size_t)width[c], strlen(cell[c]));
	}
	print_cells(heading, width);
	for (size_t i = 0; i < p->n; i++) {
		fill_cells(&p->row[i], cell);
		print_cells(at, width);
	}
	printf("\n%zu tensors: %zu same, %zu different; of those in both, relative error %.6g, SNR %.2f dB, largest difference %.6g\n",
	    p->n, p->same, p->n - p->same, tc_difference_relative(&p->total), tc_difference_snr_db(&p->total), p->total.max_abs);
}

/* JSON has no infinity. */
static json_t *
number(double x)
{
	return isfinite(x) ? json_real(x) : json_null();
}

static json_t *
row_json(const struct row *row)
{
	bool compared = row->outcome == SAME || row->outcome == DIFFERENT;
	json_t *at = json_null();

	if (row->outcome == DIFFERENT && row->ndim == 1)
		at = json_pack("[I]", (json_int_t)row->d.max_at);
	else if (row->outcome == DIFFERENT)
		at = json_pack("[I,I]", (json_int_t)(row->d.max_at / row->cols), (json_int_t)(row->d.max_at % row->cols));
	return json_pack("{s:s,s:o,s:o,s:o,s:o,s:s?,s:s?,s:s?}", "name", row->name,
	    "relative_error", compared ? number(tc_difference_relative(&row->d)) : json_null(),
	    "snr_db", compared ? number(tc_difference_snr_db(&row->d)) : json_null(),
	    "max_abs", compared ? json_real(row->d.max_abs) : json_null(), "max_at", at,
	    "format_a", row->format[A][0] ? row->format[A] : NULL, "format_b", row->format[B][0] ? row->format[B] : NULL,
	    "note", notes[row->outcome]);
}

static int
print_json(struct tc_cli *cli, const struct report *p)
{
	json_t *tensors = json_array(), *o;
	int r = 0;

	/* Appending fails on NULL too, which is what json_pack gives without memory. */
	for (size_t i = 0; r == 0 && i < p->n; i++)
		r = json_array_append_new(tensors, row_json(&p->row[i]));
	o = json_pack("{s:o,s:I,s:I,s:o,s:o,s:f}", "tensors", tensors, "different", (json_int_t)(p->n - p->same),
	    "same", (json_int_t)p->same, "relative_error", number(tc_difference_relative(&p->total)),
	    "snr_db", number(tc_difference_snr_db(&p->total)), "max_abs", p->total.max_abs);
	r = r < 0 || !o ? tc_fail_nomem(&cli->err, 0) : tc_cli_print_json(cli, o);
	json_decref(o);
	return r;
}

/* ---- the whole ---- */

/* A pattern may be meant for what one of the models has more. */
static int
check_patterns(const struct tc_common *common, const struct side side[SIDES], struct tc_err *err)
{
	struct tc_err first = {0};

	if (tc_select_check(&common->include, &common->exclude, &side[A].source->header, &first) == 0 ||
	    tc_select_check(&common->include, &common->exclude, &side[B].source->header, err) == 0)
		return 0;
	*err = first;
	return -1;
}

static int
run(struct tc_cli *cli, struct side side[SIDES], struct report *p)
{
	/* Both, before either is opened: standard input is no default here. */
	if (cli->parsed.noperands < SIDES)
		return tc_fail(&cli->err, TC_USAGE, "two models are needed (see %s --help)", cli->stage->name);
	for (int i = 0; i < SIDES; i++) {
		const struct tc_header *h;

		if (tc_cli_model(cli, i, &side[i].source) < 0)
			return -1;
		h = &side[i].source->header;
		if (tc_config_parse(&side[i].config, h->config, h->config_bytes, &cli->err) < 0)
			return -1;
	}
	if (check_patterns(cli->common, side, &cli->err) < 0 || compare(cli, side, p) < 0)
		return -1;
	if (cli->common->quiet)
		return 0;
	if (cli->common->json)
		return print_json(cli, p);
	print_text(p);
	return 0;
}

int
main(int argc, char **argv)
{
	static struct side side[SIDES];
	struct args a = { .common = tc_common_defaults };
	struct report p = {0};
	struct tc_cli cli;
	bool differ;
	int code;

	tc_cli_begin(&cli, &stage, &a, argc, argv);
	(void)!run(&cli, side, &p);
	differ = p.same < p.n;
	free(p.row);
	tc_source_close(side[A].source);
	tc_source_close(side[B].source);
	code = tc_cli_end(&cli);
	return code == TC_OK && differ ? TC_CHECK : code;
}
