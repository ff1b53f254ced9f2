/* tc-ls: what is in a model stream, and what it weighs.  See tc-ls(1).
 *
 * Nothing is printed before the whole stream was read: what breaks off is no
 * stream. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "metric/ledger.h"
#include "stats/tree.h"
#include "tensor/describe.h"
#include "token/tokenizer.h"

struct args {
	struct tc_common common;
};

static const struct tc_option options[] = { { .type = TC_OPT_END } };

static const struct tc_stage stage = {
	.name = "tc-ls",
	.summary = "list a model stream, and where its bytes go",
	.operands = "[MODEL]",
	.operands_max = 1,
	.options = options,
	.common = TC_COMMON_ALWAYS | TC_COMMON_JSON,
	.common_offset = offsetof(struct args, common),
};

/* ---- what a record says of itself ---- */

enum column { KIND, NAME, ROLE, BLOCK, SHAPE, FORMAT, BYTES, BITS, COLUMNS };
static const char *const heading[COLUMNS] = { "KIND", "NAME", "ROLE", "BLOCK", "SHAPE", "FORMAT", "BYTES", "BITS" };
static const bool to_the_right[COLUMNS] = { [BLOCK] = true, [BYTES] = true, [BITS] = true };

#define CELL_MAX TC_NAME_MAX

struct row {
	char *cell[COLUMNS];
};

/* A listing in the making, as text and as JSON. */
struct list {
	struct row *row;
	size_t n, cap;
	json_t *tensors, *statistics, *tokens, *files, *refs, *unknown;
	struct tc_ledger ledger;
};

/* Names come from outside: a terminal gets no control characters, JSON no
 * invalid UTF-8. */
static void
clean(char *s)
{
	bool utf8 = tc_utf8_check(s, strlen(s), NULL);

	for (; *s; s++)
		if ((unsigned char)*s < 0x20 || *s == 0x7f || (!utf8 && (unsigned char)*s >= 0x80))
			*s = '?';
}

static void
clean_record(struct tc_record *r)
{
	char *const name[] = {
		[TC_KIND_FILE] = r->u.file.name, [TC_KIND_TOKENS] = r->u.tokens.tag, [TC_KIND_STAT] = r->u.stat.tag,
		[TC_KIND_TENSOR] = r->u.tensor.name, [TC_KIND_REF] = r->u.ref.to,
	};

	if (r->kind != TC_KIND_OTHER)
		clean(name[r->kind]);
}

static void
clean_steps(struct tc_header *h)
{
	for (int i = 0; i < h->nsteps; i++) {
		clean(h->step[i].stage);
		clean(h->step[i].build);
		clean(h->step[i].cpu);
		clean(h->step[i].options);
	}
}

static int
add_row(struct list *l, char cell[COLUMNS][CELL_MAX], struct tc_err *err)
{
	struct row *row;

	if (l->n == l->cap) {
		size_t cap = 2 * l->cap + 64;

		row = realloc(l->row, cap * sizeof(*row));
		if (!row)
			return tc_fail_nomem(err, cap * sizeof(*row));
		l->row = row;
		l->cap = cap;
	}
	row = &l->row[l->n++];
	*row = (struct row){0};
	for (int c = 0; c < COLUMNS; c++) {
		row->cell[c] = tc_strndup(cell[c][0] ? cell[c] : "-", strlen(cell[c]) + !cell[c][0], err);
		if (!row->cell[c])
			return -1;
	}
	return 0;
}

static int
add_json(json_t *to, json_t *o, struct tc_err *err)
{
	/* This fails on NULL too, which is what json_pack gives without memory. */
	return json_array_append_new(to, o) < 0 ? tc_fail_nomem(err, 0) : 0;
}

static int
add_tensor(struct list *l, const struct tc_tensor *t, struct tc_err *err)
{
	char cell[COLUMNS][CELL_MAX] = { [KIND] = "tensor" };
	size_t bytes = tc_tensor_bytes(t);
	double bits = 8.0 * (double)bytes / (double)tc_tensor_elements(t);
	json_t *shape = json_array();

	snprintf(cell[NAME], CELL_MAX, "%s", t->name);
	snprintf(cell[ROLE], CELL_MAX, "%s %s", tc_role_names[t->role], tc_part_words[t->bias]);
	if (t->block >= 0)
		snprintf(cell[BLOCK], CELL_MAX, "%d", t->block);
	for (int i = 0; i < t->ndim; i++) {
		size_t n = strlen(cell[SHAPE]);

		snprintf(cell[SHAPE] + n, CELL_MAX - n, "%s%" PRIu64, i ? "x" : "", t->shape[i]);
		(void)!json_array_append_new(shape, json_integer((json_int_t)t->shape[i]));
	}
	tc_tensor_describe(t, cell[FORMAT]);
	snprintf(cell[BYTES], CELL_MAX, "%zu", bytes);
	snprintf(cell[BITS], CELL_MAX, "%.3f", bits);
	if (json_array_size(shape) != (size_t)t->ndim ||
	    add_json(l->tensors, json_pack("{s:s,s:s,s:s,s:i,s:O,s:s,s:I,s:f}", "name", t->name, "role", tc_role_names[t->role],
	    "part", tc_part_words[t->bias], "block", t->block, "shape", shape, "format", cell[FORMAT], "bytes", (json_int_t)bytes,
	    "bits_per_weight", bits), err) < 0) {
		json_decref(shape);
		return tc_fail_nomem(err, 0);
	}
	json_decref(shape);
	return add_row(l, cell, err);
}

/* A number that may be anything; JSON has no name for what is not finite. */
static int
set_real(json_t *o, const char *key, double x, struct tc_err *err)
{
	return json_object_set_new(o, key, isfinite(x) ? json_real(x) : json_null()) < 0 ? tc_fail_nomem(err, 0) : 0;
}

/* The sum over n sequences, and the standard error of their mean, which takes
 * two sequences at least. */
static int
set_sums(json_t *o, const struct tc_stat *s, const void *data, uint64_t n, struct tc_err *err)
{
	double sum[TC_FISHER_DIM] = {0}, error = NAN;
	uint64_t tokens;

	tc_stat_total(s, data, sum, &tokens);
	if (n > 1) {
		double squares = sum[1] - sum[0] * sum[0] / (double)n; /* of deviations */

		/* Rounding may take it below 0. */
		error = squares < 0 ? 0 : sqrt(squares / (double)(n - 1) / (double)n);
	}
	return set_real(o, "sum", sum[0], err) < 0 ? -1 : set_real(o, "stderr", error, err);
}

static json_t *
stat_json(const struct tc_stat *s, uint64_t sequences, uint64_t tokens, size_t bytes)
{
	bool of_tensor = tc_stat_is_of_tensor(s->kind);

	/* A NULL leaves its key out. */
	return json_pack("{s:s,s:s*,s:s*,s:s*,s:i,s:s,s:I,s:I,s:I,s:i,s:b,s:I}", "kind", tc_stat_names[s->kind],
	    "site", of_tensor ? NULL : tc_site_names[s->site], "role", of_tensor ? tc_role_names[s->role] : NULL,
	    "part", of_tensor ? tc_part_words[s->bias] : NULL, "block", s->block, "tag", s->tag, "dim", (json_int_t)s->dim,
	    "sequences", (json_int_t)sequences, "tokens", (json_int_t)tokens, "step", s->place + 1, "stale", (int)s->stale,
	    "bytes", (json_int_t)bytes);
}

static int
add_stat(struct list *l, const struct tc_stat *s, const struct tc_part *data, struct tc_err *err)
{
	char cell[COLUMNS][CELL_MAX] = { [KIND] = "stat" }, group[32] = "";
	uint64_t sequences = 0, tokens = 0;
	json_t *o;

	for (size_t i = 0; i < s->nnodes; i++) {
		sequences += tc_node_sequences(&s->node[i]);
		tokens += s->node[i].count;
	}
	snprintf(cell[NAME], CELL_MAX, "%s %s", s->tag, tc_stat_names[s->kind]);
	if (tc_stat_is_of_tensor(s->kind))
		snprintf(cell[ROLE], CELL_MAX, "%s %s", tc_role_names[s->role], tc_part_words[s->bias]);
	else
		snprintf(cell[ROLE], CELL_MAX, "%s", tc_site_names[s->site]);
	if (s->group)
		snprintf(group, sizeof(group), " g%" PRIu64, s->group);
	if (s->block >= 0)
		snprintf(cell[BLOCK], CELL_MAX, "%d", s->block);
	snprintf(cell[SHAPE], CELL_MAX, "%" PRIu64, s->dim);
	snprintf(cell[FORMAT], CELL_MAX, "%s%s, %" PRIu64 " sequences, %" PRIu64 " tokens%s",
	    tc_dtypes[tc_stat_dtype(s->kind)].name, group, sequences, tokens, s->stale ? ", stale" : "");
	snprintf(cell[BYTES], CELL_MAX, "%zu", data->size_bytes);
	o = stat_json(s, sequences, tokens, data->size_bytes);
	if (add_json(l->statistics, o, err) < 0)
		return -1;
	if (s->group && json_object_set_new(o, "group", json_integer((json_int_t)s->group)) < 0)
		return tc_fail_nomem(err, 0);
	if (s->kind == TC_STAT_FISHER && set_sums(o, s, data->data, sequences, err) < 0)
		return -1;
	return add_row(l, cell, err);
}

static int
add_tokens(struct list *l, const struct tc_tokens *t, size_t bytes, struct tc_err *err)
{
	char cell[COLUMNS][CELL_MAX] = { [KIND] = "tokens" };
	size_t tokens = bytes / sizeof(uint32_t);

	snprintf(cell[NAME], CELL_MAX, "%s", t->tag);
	snprintf(cell[FORMAT], CELL_MAX, "u32, %zu sequences from %" PRIu64 ", %zu tokens", t->nseq, t->first, tokens);
	snprintf(cell[BYTES], CELL_MAX, "%zu", bytes);
	if (add_json(l->tokens, json_pack("{s:s,s:I,s:I,s:I,s:s,s:I}", "tag", t->tag, "first", (json_int_t)t->first,
	    "sequences", (json_int_t)t->nseq, "tokens", (json_int_t)tokens, "text_sha256", t->text_sha256,
	    "bytes", (json_int_t)bytes), err) < 0)
		return -1;
	return add_row(l, cell, err);
}

/* A record of another kind: a name and bytes. */
static int
add_other(struct list *l, json_t *to, const struct tc_record *r, size_t bytes, struct tc_err *err)
{
	char cell[COLUMNS][CELL_MAX] = {0}, kind[TC_KIND_NAME_MAX];
	const char *name = r->kind == TC_KIND_FILE ? r->u.file.name : r->kind == TC_KIND_REF ? r->u.ref.to : kind;

	if (tc_record_kind(r, kind, err) < 0)
		return -1;
	clean(kind);
	snprintf(cell[KIND], CELL_MAX, "%s", kind);
	snprintf(cell[NAME], CELL_MAX, "%s", name == kind ? "" : name);
	if (r->kind == TC_KIND_REF)
		snprintf(cell[ROLE], CELL_MAX, "%s", tc_role_names[r->u.ref.role]);
	snprintf(cell[BYTES], CELL_MAX, "%zu", bytes);
	if (add_json(to, json_pack("{s:s,s:I}", name == kind ? "kind" : "name", name, "bytes", (json_int_t)bytes), err) < 0)
		return -1;
	return add_row(l, cell, err);
}

static int
add_record(struct list *l, struct tc_record *r, struct tc_err *err)
{
	const struct tc_part *part;
	size_t bytes = 0;
	int n;

	clean_record(r);
	tc_ledger_add(&l->ledger, r);
	part = tc_record_parts(r, &n);
	for (int i = 0; i < n; i++)
		bytes += part[i].size_bytes;
	switch (r->kind) {
	case TC_KIND_TENSOR:
		return add_tensor(l, &r->u.tensor, err);
	case TC_KIND_STAT:
		return add_stat(l, &r->u.stat, &part[0], err);
	case TC_KIND_TOKENS:
		return add_tokens(l, &r->u.tokens, bytes, err);
	case TC_KIND_FILE:
		return add_other(l, l->files, r, bytes, err);
	case TC_KIND_REF:
		return add_other(l, l->refs, r, bytes, err);
	default:
		return add_other(l, l->unknown, r, bytes, err);
	}
}

/* ---- the whole ---- */

/* What the stream takes beside payloads: heads, hashes, padding, the index. */
static int
framing_bytes(const struct tc_source *source, const struct tc_ledger *l, uint64_t *bytes, struct tc_err *err)
{
	uint64_t payload = l->model_bytes + l->stat_bytes + l->token_bytes + l->file_bytes + l->unknown_bytes;

	*bytes = 0;
	if (source->bytes == 0)
		return 0; /* a checkpoint */
	if (source->bytes < payload)
		return tc_fail(err, TC_INTERNAL, "the ledger has %" PRIu64 " bytes, the stream %" PRIu64, payload, source->bytes);
	*bytes = source->bytes - payload;
	return 0;
}

static json_t *
steps_json(const struct tc_header *h)
{
	json_t *steps = json_array();
	char input[17];

	for (int i = 0; i < h->nsteps; i++) {
		const struct tc_step *s = &h->step[i];

		snprintf(input, sizeof(input), "%016" PRIx64, s->input);
		(void)!json_array_append_new(steps, json_pack("{s:s,s:s,s:s,s:s,s:s}", "stage", s->stage, "options", s->options,
		    "input", s->input ? input : "", "build", s->build, "cpu", s->cpu));
	}
	return steps;
}

static int
print_json(struct tc_cli *cli, const struct tc_source *source, const struct list *l, uint64_t framing)
{
	json_t *o = json_pack("{s:O,s:O,s:O,s:O,s:O,s:O,s:o,s:o,s:b,s:I,s:I}", "tensors", l->tensors, "statistics", l->statistics,
	    "tokens", l->tokens, "files", l->files, "refs", l->refs, "unknown", l->unknown,
	    "steps", steps_json(&source->header), "ledger", tc_ledger_json(&l->ledger), "tied", (int)source->header.tied,
	    "framing_bytes", (json_int_t)framing, "bytes", (json_int_t)source->bytes);
	int r;

	if (!o || json_array_size(json_object_get(o, "steps")) != (size_t)source->header.nsteps) {
		json_decref(o);
		return tc_fail_nomem(&cli->err, 0);
	}
	r = tc_cli_print_json(cli, o);
	json_decref(o);
	return r;
}

static void
print_row(const char *const cell[COLUMNS], const int width[COLUMNS])
{
	for (int c = 0; c < COLUMNS; c++)
		if (c == COLUMNS - 1)
			printf("%*s\n", width[c], cell[c]);
		else
			printf("%*s  ", to_the_right[c] ? width[c] : -width[c], cell[c]);
}

static void
print_rows(const struct list *l)
{
	int width[COLUMNS];

	for (int c = 0; c < COLUMNS; c++) {
		width[c] = (int)strlen(heading[c]);
		for (size_t i = 0; i < l->n; i++) {
			int n = (int)strlen(l->row[i].cell[c]);

			width[c] = n > width[c] ? n : width[c];
		}
	}
	print_row(heading, width);
	for (size_t i = 0; i < l->n; i++)
		print_row((const char *const *)l->row[i].cell, width);
}

static void
print_steps(const struct tc_header *h)
{
	printf("\nprovenance\n");
	for (int i = 0; i < h->nsteps; i++) {
		const struct tc_step *s = &h->step[i];

		printf("  %d  %s%s%s\n     input ", i + 1, s->stage, s->options[0] ? " " : "", s->options);
		/* Of a checkpoint that is only listed, the input is not read. */
		if (s->input)
			printf("%016" PRIx64, s->input);
		else
			printf("not read");
		printf(", build %s%s%s\n", s->build, s->cpu[0] ? ", kernels " : "", s->cpu);
	}
}

static void
print_share(const char *name, uint64_t bytes, uint64_t parameters)
{
	printf("  %-20s %14" PRIu64 " bytes %14" PRIu64 " weights %8.3f bits per weight\n", name, bytes, parameters,
	    parameters ? 8.0 * (double)bytes / (double)parameters : 0);
}

static void
print_bytes(const char *name, uint64_t bytes)
{
	printf("  %-20s %14" PRIu64 " bytes\n", name, bytes);
}

static void
print_ledger(const struct tc_source *source, const struct tc_ledger *l, uint64_t framing)
{
	printf("\nledger\n");
	print_share("whole model", l->model_bytes, l->parameters);
	print_share("  linear layers", l->linear_bytes, l->linear_parameters);
	print_share("  embedding, head", l->embed_bytes, l->embed_parameters);
	print_share("  norms, biases", l->other_bytes, l->other_parameters);
	print_bytes("statistics", l->stat_bytes);
	print_bytes("tokens", l->token_bytes);
	print_bytes("files", l->file_bytes);
	if (l->unknown_bytes)
		print_bytes("unknown", l->unknown_bytes);
	if (source->bytes) {
		print_bytes("heads, padding", framing);
		print_bytes("stream", source->bytes);
	}
}

static int
list(struct tc_cli *cli, struct tc_source *source, struct list *l)
{
	struct tc_err *err = &cli->err;
	struct tc_record r;
	uint64_t framing;
	int got;

	source->spare_payloads = true;
	tc_ledger_begin(&l->ledger, &source->header);
	while ((got = tc_source_next(source, &r, err)) > 0)
		if (add_record(l, &r, err) < 0)
			return -1;
	if (got < 0 || framing_bytes(source, &l->ledger, &framing, err) < 0)
		return -1;
	clean_steps(&source->header);
	if (cli->common->json)
		return print_json(cli, source, l, framing);
	print_rows(l);
	print_steps(&source->header);
	print_ledger(source, &l->ledger, framing);
	return 0;
}

static void
list_free(struct list *l)
{
	for (size_t i = 0; i < l->n; i++)
		for (int c = 0; c < COLUMNS; c++)
			free(l->row[i].cell[c]);
	free(l->row);
	json_decref(l->tensors);
	json_decref(l->statistics);
	json_decref(l->tokens);
	json_decref(l->files);
	json_decref(l->refs);
	json_decref(l->unknown);
}

int
main(int argc, char **argv)
{
	struct args a = { .common = tc_common_defaults };
	struct list l = { .tensors = json_array(), .statistics = json_array(), .tokens = json_array(), .files = json_array(),
		.refs = json_array(), .unknown = json_array() };
	struct tc_source *source = NULL;
	struct tc_cli cli;

	tc_cli_begin(&cli, &stage, &a, argc, argv);
	if (tc_cli_model(&cli, 0, &source) == 0)
		(void)!list(&cli, source, &l);
	list_free(&l);
	tc_source_close(source);
	return tc_cli_end(&cli);
}
