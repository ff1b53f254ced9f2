/* tc-eval: accuracy of a model stream on multiple choice.  See tc-eval(1). */
#include <stdlib.h>
#include <string.h>

#include "base/io.h"
#include "cli/cli.h"
#include "cli/columns.h"
#include "cli/compute.h"
#include "cli/result.h"
#include "cli/scored.h"
#include "cli/spill.h"
#include "cli/tasks.h"
#include "cli/tokens.h"
#include "metric/grade.h"

static const char *const norm_names[TC_NORMS] = { "none", "tokens", "bytes" };

struct args {
	struct tc_common common;
	const char *task, *norm, *text, *base, *shots_from, *details;
	int64_t shots, items;
	bool list;
};

#define FIELD(f) offsetof(struct args, f)
static const struct tc_option options[] = {
	{ .name = "task", .type = TC_OPT_CALL, .offset = FIELD(task), .arg = "LIST", .parse = tc_tasks_parse, .print = tc_tasks_print,
	  .help = "tasks by name, and files of items, with commas between (default all names)" },
	{ .name = "items", .type = TC_OPT_COUNT, .offset = FIELD(items), .arg = "N", .min = 1, .max = 1 << 20,
	  .help = "the first N items of each task (default 200 of those made by rule, all of a file)" },
	{ .name = "norm", .type = TC_OPT_NAME, .offset = FIELD(norm), .arg = "NAME", .names = "none|tokens|bytes",
	  .help = "what a choice's log-likelihood is divided by (default none)" },
	{ .name = "shots", .type = TC_OPT_COUNT, .offset = FIELD(shots), .arg = "N", .min = 0, .max = 1000,
	  .help = "N items with their answers before each item (default 0)" },
	{ .name = "shots-from", .type = TC_OPT_TEXT, .offset = FIELD(shots_from), .arg = "FILE", .role = TC_OPT_FREE,
	  .help = "take these from FILE (default the task itself)" },
	{ .name = "text", .type = TC_OPT_TEXT, .offset = FIELD(text), .arg = "FILE", .role = TC_OPT_FREE,
	  .help = "make items of FILE" },
	{ .name = "base", .type = TC_OPT_TEXT, .offset = FIELD(base), .arg = "MODEL", .role = TC_OPT_FREE,
	  .help = "compare with this model, item by item" },
	{ .name = "details", .type = TC_OPT_TEXT, .offset = FIELD(details), .arg = "FILE", .role = TC_OPT_FREE,
	  .help = "write what was answered to each item, as JSON lines" },
	{ .name = "list", .type = TC_OPT_FLAG, .offset = FIELD(list), .role = TC_OPT_FREE,
	  .help = "print the items as JSON lines, and run no model" },
	{ .type = TC_OPT_END }
};

static const struct tc_stage stage = {
	.name = "tc-eval",
	.summary = "accuracy of a model stream on multiple choice",
	.operands = "[MODEL]",
	.operands_max = 1,
	.options = options,
	.common = TC_COMMON_ALWAYS | TC_COMMON_SEED | TC_COMMON_COMPUTE_ANY | TC_COMMON_MEMORY | TC_COMMON_JSON | TC_COMMON_RESULT,
	.common_offset = offsetof(struct args, common),
};

struct eval {
	const struct args *a;
	struct tc_cli *cli;
	enum tc_choice_norm norm;
	struct tc_compute how, *compute;    /* of the model's products; NULL: f32, as the base's are */
	struct tc_tasks tasks;
	char items_sha256[TC_SHA256_HEX], examples_sha256[TC_SHA256_HEX]; /* "": no examples */
	uint32_t bos_id;
	bool bos;                     /* a BOS was put in front */
	struct tc_likelihood likelihood;
	struct tc_scored model, base;
	struct tc_likely answers, base_answers;
	struct tc_grade *grade;       /* [ngrades] */
	size_t ngrades;
	struct tc_output *details;
	double began;                 /* when the tokens were ready */
};

/* ---- the models ---- */

/* The first model's tokenizer has come. */
static int
make_sequences(struct eval *e)
{
	struct tc_scored *m = &e->model;
	struct tc_likelihood_options o = { .tokenizer = m->tokenizer, .positions = m->forward.config.positions,
		.vocab = m->forward.config.vocab, .shots = (size_t)e->a->shots, .examples = &e->tasks.examples };

	e->bos = m->tokenizer && tc_tokenizer_bos(m->tokenizer, &e->bos_id);
	o.bos = e->bos ? &e->bos_id : NULL;
	if (tc_likelihood_make(&e->likelihood, &e->tasks.items, &o, &e->cli->err) < 0)
		return -1;
	if (e->likelihood.cut_choices > 0)
		tc_cli_say(e->cli, "%zu choices and their contexts are longer than the model's %zu positions: %zu tokens at the beginning are dropped",
		    e->likelihood.cut_choices, o.positions, e->likelihood.cut_tokens);
	e->began = tc_now();
	return 0;
}

static int
start(void *ctx, struct tc_scored *m)
{
	struct eval *e = ctx;
	const struct tc_predictions *p = &e->likelihood.predictions;

	if ((m == &e->model ? make_sequences(e) : tc_scored_same_tokens(&e->model, m, &e->cli->err)) < 0)
		return -1;
	return tc_cli_forward_tokens(e->cli, &m->forward, p->nseq, p->length, p->ids, (struct tc_exec_options){0}, 1);
}

static int
score(struct eval *e, const struct tc_scored *m, struct tc_likely *answers)
{
	struct tc_err *err = &e->cli->err;
	struct tc_final final = tc_forward_final(&m->forward);
	struct tc_nll nll;
	int r = tc_nll_alloc(&nll, &e->likelihood.predictions, false, err);

	if (r == 0) {
		nll.greedy = tc_alloc(nll.n, sizeof(*nll.greedy), err);
		r = nll.greedy ? tc_nll_run(&nll, &final, NULL, e->cli->pool, err) : -1;
	}
	if (r == 0)
		r = tc_likely_sum(answers, &e->likelihood, &nll, err);
	tc_nll_free(&nll);
	return r;
}

/* All sequences through the model whose source is open; then its states can go. */
static int
run_model(struct eval *e, struct tc_scored *m, struct tc_likely *answers)
{
	const struct tc_scored_how how = { .name = m == &e->base ? "base" : "model", .compute = m == &e->model ? e->compute : NULL,
		.hashed = e->a->common.result != NULL, .start = start, .ctx = e };

	if (tc_scored_run(e->cli, m, &how) < 0 || score(e, m, answers) < 0)
		return -1;
	tc_exec_close(&m->forward.exec);
	return 0;
}

/* ---- figures ---- */

static int
grade_tasks(struct eval *e)
{
	const struct tc_items *items = &e->tasks.items;

	e->grade = tc_alloc(items->n, sizeof(*e->grade), &e->cli->err);
	if (!e->grade)
		return -1;
	for (size_t i = 0; i < items->n; i++) {
		bool seen = false;

		for (size_t k = 0; !seen && k < e->ngrades; k++)
			seen = strcmp(e->grade[k].task, items->item[i].task) == 0;
		if (seen)
			continue;
		if (tc_grade_task(&e->grade[e->ngrades++], items->item[i].task, items, &e->likelihood, &e->answers,
		    e->base.open ? &e->base_answers : NULL, e->norm, &e->cli->err) < 0)
			return -1;
	}
	return 0;
}

static int
add_base(const struct tc_grade *g, json_t *o)
{
	json_t *b = json_pack("{s:f,s:f,s:f,s:f,s:f,s:f,s:{s:I,s:I},s:f,s:f,s:f,s:f,s:f,s:f}",
	    "base_accuracy", g->base_accuracy, "delta", g->delta.mean, "delta_stderr", g->delta.stderr_,
	    "delta_stderr_clustered", g->delta.clustered, "delta_low", g->delta_low, "delta_high", g->delta_high,
	    "flips", "lost", (json_int_t)g->lost, "won", (json_int_t)g->won, "sign_p", g->sign_p,
	    "base_margin", g->base_margin, "margin_delta", g->margin_delta.mean,
	    "margin_delta_stderr", g->margin_delta.stderr_, "margin_delta_stderr_clustered", g->margin_delta.clustered,
	    "base_greedy", g->base_greedy);
	int r = b ? json_object_update(o, b) : -1;

	json_decref(b);
	return r;
}

static json_t *
grade_json(const struct eval *e, const struct tc_grade *g)
{
	json_t *o = json_pack("{s:s,s:I,s:I,s:f,s:s,s:f,s:f,s:f,s:f,s:f,s:b,s:f,s:f,s:f,s:f,s:f,s:f,s:f}",
	    "task", g->task, "n", (json_int_t)g->n, "clusters", (json_int_t)g->clusters, "chance", g->chance,
	    "norm", norm_names[e->norm], "accuracy", g->right.mean, "accuracy_stderr", g->right.stderr_,
	    "accuracy_stderr_clustered", g->right.clustered, "low", g->low, "high", g->high, "above_chance", g->above_chance,
	    "accuracy_none", g->accuracy[TC_NORM_NONE], "accuracy_tokens", g->accuracy[TC_NORM_TOKENS],
	    "accuracy_bytes", g->accuracy[TC_NORM_BYTES], "greedy", g->greedy, "margin", g->margin.mean,
	    "margin_stderr", g->margin.stderr_, "margin_stderr_clustered", g->margin.clustered);

	if (o && (!e->base.open || add_base(g, o) == 0))
		return o;
	json_decref(o);
	return NULL;
}

static json_t *
tasks_json(const struct eval *e)
{
	json_t *list = json_array();

	for (size_t i = 0; list && i < e->ngrades; i++)
		if (json_array_append_new(list, grade_json(e, &e->grade[i])) < 0) {
			json_decref(list);
			list = NULL;
		}
	return list;
}

static json_t *
protocol_json(const struct eval *e)
{
	json_t *o = json_pack("{s:s,s:I,s:b}", "norm", norm_names[e->norm], "shots", (json_int_t)e->a->shots, "bos", e->bos);

	if (o && tc_cli_compute_json(e->cli, e->compute, o) == 0)
		return o;
	json_decref(o);
	return NULL;
}

/* The figures that are functions of the inputs; NULL after a failure. */
static json_t *
figures(const struct eval *e, struct tc_err *err)
{
	const struct tc_likelihood *l = &e->likelihood;
	json_t *o = json_pack("{s:o,s:I,s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:o}", "tasks", tasks_json(e),
	    "items", (json_int_t)e->tasks.items.n, "items_sha256", e->items_sha256,
	    "choices", (json_int_t)l->first[l->nitems], "sequences", (json_int_t)l->predictions.nseq, "tokens", (json_int_t)l->predictions.ntokens,
	    "tokens_scored", (json_int_t)l->predictions.n, "choices_cut", (json_int_t)l->cut_choices,
	    "tokens_dropped", (json_int_t)l->cut_tokens, "protocol", protocol_json(e));

	if (!o || (e->a->shots > 0 && json_object_set_new(o, "examples_sha256", json_string(e->examples_sha256)) < 0))
		(void)tc_fail_nomem(err, 0);
	else if (tc_scored_size_json(&e->model, o, err) == 0)
		return o;
	json_decref(o);
	return NULL;
}

static void
add_run(const struct eval *e, json_t *o)
{
	json_object_set_new(o, "seconds", json_real(tc_now() - e->began));
	json_object_set_new(o, "peak_rss_bytes", json_integer((json_int_t)tc_peak_rss_bytes()));
}

/* ---- item by item ---- */

static json_t *
list_of(const double *x, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < n; i++)
		json_array_append_new(a, json_real(x[i]));
	return a;
}

static json_t *
counts_of(const size_t *x, size_t n)
{
	json_t *a = json_array();

	for (size_t i = 0; a && i < n; i++)
		json_array_append_new(a, json_integer((json_int_t)x[i]));
	return a;
}

static int
add_answer(const struct eval *e, size_t i, const struct tc_likely *y, const char *const key[4], json_t *o)
{
	size_t first = e->likelihood.first[i], answer = e->tasks.items.item[i].answer;
	struct tc_verdict v = tc_likely_verdict(y, &e->likelihood, i, answer, e->norm);
	int r = json_object_set_new(o, key[0], json_integer((json_int_t)v.chosen));

	r |= json_object_set_new(o, key[1], json_real(v.margin));
	r |= json_object_set_new(o, key[2], json_boolean(y->greedy[first + answer]));
	r |= json_object_set_new(o, key[3], list_of(y->log_p + first, e->tasks.items.item[i].nchoices));
	return r;
}

static json_t *
detail_json(const struct eval *e, size_t i)
{
	static const char *const keys[4] = { "chosen", "margin", "greedy", "log_p" };
	static const char *const base_keys[4] = { "base_chosen", "base_margin", "base_greedy", "base_log_p" };
	const struct tc_item *item = &e->tasks.items.item[i];
	size_t first = e->likelihood.first[i];
	json_t *o = json_pack("{s:s,s:s*,s:s*,s:I,s:o}", "task", item->task, "id", item->id, "group", item->group,
	    "answer", (json_int_t)item->answer, "tokens", counts_of(e->likelihood.scored + first, item->nchoices));

	if (o && add_answer(e, i, &e->answers, keys, o) == 0 &&
	    (!e->base.open || add_answer(e, i, &e->base_answers, base_keys, o) == 0))
		return o;
	json_decref(o);
	return NULL;
}

static int
write_details(struct eval *e)
{
	struct tc_err *err = &e->cli->err;
	struct tc_buf text = {0};
	int r = 0;

	for (size_t i = 0; r == 0 && i < e->tasks.items.n; i++) {
		json_t *o = detail_json(e, i);
		char *line = o ? json_dumps(o, JSON_REAL_PRECISION(17)) : NULL;

		json_decref(o);
		r = line ? tc_buf_append(&text, line, strlen(line), err) : tc_fail_nomem(err, 0);
		free(line);
		if (r == 0)
			r = tc_buf_append(&text, "\n", 1, err);
	}
	if (r == 0 && tc_write_all(tc_output_fd(e->details), text.p, text.n, err) < 0)
		r = tc_err_at(err, "%s", e->a->details);
	tc_buf_free(&text);
	if (r == 0) {
		r = tc_output_commit(e->details, err);
		e->details = NULL;
	}
	return r;
}

/* ---- reports ---- */

static int
write_result(const struct eval *e, const json_t *figures)
{
	json_t *measured = json_deep_copy(figures), *run = json_object();
	int r = -1;

	if (!measured || !run) {
		tc_fail_nomem(&e->cli->err, 0);
		goto out;
	}
	json_object_set_new(measured, "model", tc_scored_json(&e->model));
	if (e->base.open)
		json_object_set_new(measured, "base", tc_scored_json(&e->base));
	json_object_set_new(measured, "tokenizer_sha256", json_string(e->model.tokenizer_sha256));
	json_object_set_new(measured, "text_sha256", json_string(e->tasks.text_sha256));
	json_object_set_new(measured, "options", json_string(e->cli->options));
	add_run(e, run);
	r = tc_result_write(e->cli, e->a->common.result, e->model.source, measured, run);
out:
	json_decref(measured);
	json_decref(run);
	return r;
}

#define AT(f) .offset = offsetof(struct tc_grade, f)
#define PERCENT .unit = 0.01, .digits = 1, .suffix = "%"
#define TASK_COLUMNS \
	{ "task", TC_CELL_TEXT, AT(task) }, \
	{ "items", TC_CELL_COUNT, AT(n) }, \
	{ "accuracy", TC_CELL_REAL, AT(right.mean), PERCENT }, \
	{ "stderr", TC_CELL_REAL, AT(right.clustered), PERCENT }, \
	{ "low", TC_CELL_REAL, AT(low), PERCENT }, \
	{ "high", TC_CELL_REAL, AT(high), PERCENT }, \
	{ "chance", TC_CELL_REAL, AT(chance), PERCENT }, \
	{ "above", TC_CELL_FLAG, AT(above_chance) }, \
	{ "greedy", TC_CELL_REAL, AT(greedy), PERCENT }, \
	{ "margin", TC_CELL_REAL, AT(margin.mean), .unit = 1, .digits = 3 }

static const struct tc_column columns[] = { TASK_COLUMNS, { 0 } };
static const struct tc_column paired_columns[] = {
	TASK_COLUMNS,
	{ "base", TC_CELL_REAL, AT(base_accuracy), PERCENT },
	{ "delta", TC_CELL_REAL, AT(delta.mean), PERCENT },
	{ "from", TC_CELL_REAL, AT(delta_low), PERCENT },
	{ "to", TC_CELL_REAL, AT(delta_high), PERCENT },
	{ "lost", TC_CELL_DIFFERENCE, AT(lost) },
	{ "won", TC_CELL_DIFFERENCE, AT(won) },
	{ "p", TC_CELL_REAL, AT(sign_p), .unit = 1, .digits = 3 },
	{ "change", TC_CELL_REAL, AT(margin_delta.mean), .unit = 1, .digits = 3 },
	{ 0 }
};

static void
print_text(const struct eval *e)
{
	struct tc_rows rows = { e->grade, e->ngrades, sizeof(*e->grade) };

	tc_columns_text(e->base.open ? paired_columns : columns, &rows);
	printf("%zu items with %zu choices in %zu sequences, %zu tokens  (sha256 %.16s)\n", e->tasks.items.n,
	    e->likelihood.first[e->likelihood.nitems], e->likelihood.predictions.nseq,
	    e->likelihood.predictions.ntokens, e->items_sha256);
	tc_scored_size_print(&e->model);
}

static int
report(struct eval *e)
{
	json_t *o = figures(e, &e->cli->err);
	int r = -1;

	if (!o)
		return -1;
	if (e->details && write_details(e) < 0)
		goto out;
	if (e->a->common.result && write_result(e, o) < 0)
		goto out;
	r = 0;
	if (e->a->common.json) {
		add_run(e, o);
		r = tc_cli_print_json(e->cli, o);
	} else {
		print_text(e);
	}
out:
	json_decref(o);
	return r;
}

/* ---- the command line ---- */

static int
check_options(const struct eval *e)
{
	const struct args *a = e->a;
	struct tc_err *err = &e->cli->err;

	if (a->shots_from && a->shots == 0)
		return tc_fail(err, TC_USAGE, "--shots-from goes with --shots");
	if (a->list && (e->cli->parsed.noperands > 0 || a->base || a->details || a->common.result || a->common.json || a->shots > 0))
		return tc_fail(err, TC_USAGE, "--list runs no model: it goes without MODEL, --base, --shots, --details, --result and --json");
	return a->common.result ? tc_result_check(a->common.result, err) : 0;
}

static int
load_items(struct eval *e)
{
	const struct args *a = e->a;
	struct tc_tasks_options o = { .list = a->task, .text = a->text, .shots_from = a->shots_from,
		.items = a->items == TC_UNSET ? 0 : (size_t)a->items, .shots = (size_t)a->shots, .seed = a->common.seed };

	if (tc_cli_tasks(e->cli, &o, &e->tasks) < 0)
		return -1;
	if (a->shots > 0 && tc_items_sha256(&e->tasks.examples, e->examples_sha256, &e->cli->err) < 0)
		return -1;
	return tc_items_sha256(&e->tasks.items, e->items_sha256, &e->cli->err);
}

static int
print_items(struct eval *e)
{
	struct tc_buf text = {0};
	int r = tc_items_print(&e->tasks.items, &text, &e->cli->err);

	if (r == 0)
		fwrite(text.p, 1, text.n, stdout); /* checked by tc_cli_end() */
	tc_buf_free(&text);
	return r;
}

static int
run(struct eval *e)
{
	struct tc_cli *cli = e->cli;

	for (int k = 0; k < TC_NORMS; k++)
		if (strcmp(norm_names[k], e->a->norm) == 0)
			e->norm = (enum tc_choice_norm)k;
	if (check_options(e) < 0 || tc_cli_compute(cli, &e->how, &e->compute) < 0 || load_items(e) < 0)
		return -1;
	if (e->a->list)
		return print_items(e);
	if (e->a->details && tc_output_open(&e->details, e->a->details, &cli->err) < 0)
		return -1;
	if (tc_cli_model(cli, 0, &e->model.source) < 0 || run_model(e, &e->model, &e->answers) < 0)
		return -1;
	if (e->a->base && (tc_cli_model_path(cli, e->a->base, &e->base.source) < 0 ||
	    run_model(e, &e->base, &e->base_answers) < 0))
		return tc_err_at(&cli->err, "--base");
	return grade_tasks(e) < 0 ? -1 : report(e);
}

int
main(int argc, char **argv)
{
	struct args a = { .common = tc_common_defaults, .norm = "none", .items = TC_UNSET };
	struct tc_cli cli;
	struct eval e = { .a = &a, .cli = &cli };

	tc_cli_begin(&cli, &stage, &a, argc, argv);
	(void)!run(&e);
	tc_output_discard(e.details);
	tc_scored_free(&e.model);
	tc_scored_free(&e.base);
	tc_likely_free(&e.answers);
	tc_likely_free(&e.base_answers);
	tc_likelihood_free(&e.likelihood);
	tc_tasks_free(&e.tasks);
	free(e.grade);
	return tc_cli_end(&cli);
}
