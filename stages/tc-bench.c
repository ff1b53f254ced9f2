/* tc-bench: how fast a model runs, beside what the machine can give.  See
 * tc-bench(1). */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/columns.h"
#include "cli/compute.h"
#include "cli/machine.h"
#include "cli/result.h"
#include "cli/speed_table.h"
#include "kernel/probe.h"
#include "metric/ledger.h"

#define DEFAULT_SEQLEN 128
#define DEFAULT_RUNS 10
#define DEFAULT_WARMUP 1
#define RUNS_MAX 10000
#define LENGTH_MAX (1 << 24)

/* What the bandwidth probe reads: four times the largest cache, within these. */
#define PROBE_BYTES_MIN ((size_t)256 << 20)
#define PROBE_BYTES_MAX ((size_t)2 << 30)
#define ATTENTION_SECONDS 0.05 /* for each of its rows */

struct args {
	struct tc_common common;
	struct tc_counts prefill, decode, attention, threads;
	int64_t seqlen, runs, warmup;
	bool cpu, csv;
};

#define FIELD(f) offsetof(struct args, f)
static const struct tc_option options[] = {
	{ .name = "seqlen", .type = TC_OPT_COUNT, .offset = FIELD(seqlen), .arg = "N", .min = 0, .max = LENGTH_MAX,
	  .help = "tokens of the forward pass whose latency is measured; 0: none (default 128)" },
	{ .name = "prefill", .type = TC_OPT_COUNTS, .offset = FIELD(prefill), .arg = "N,...", .min = 1, .max = LENGTH_MAX,
	  .help = "measure prompts of so many tokens, or none (default 128,512)" },
	{ .name = "decode", .type = TC_OPT_COUNTS, .offset = FIELD(decode), .arg = "N,...", .min = 1, .max = LENGTH_MAX,
	  .help = "measure so many tokens one by one, or none (default 32,128)" },
	{ .name = "attention", .type = TC_OPT_COUNTS, .offset = FIELD(attention), .arg = "N,...", .min = 1, .max = LENGTH_MAX,
	  .help = "measure attention over so many positions, or none (default 128,512,2048)" },
	{ .name = "runs", .type = TC_OPT_COUNT, .offset = FIELD(runs), .arg = "N", .min = 1, .max = RUNS_MAX,
	  .help = "runs that count (default 10)" },
	{ .name = "warmup", .type = TC_OPT_COUNT, .offset = FIELD(warmup), .arg = "N", .min = 0, .max = RUNS_MAX,
	  .help = "runs that are dropped, after the first (default 1)" },
	{ .name = "thread-counts", .type = TC_OPT_COUNTS, .offset = FIELD(threads), .arg = "N,...", .role = TC_OPT_FREE,
	  .min = 1, .max = TC_THREADS_MAX, .help = "measure with each of these numbers of threads (default that of --threads)" },
	{ .name = "cpu", .type = TC_OPT_FLAG, .offset = FIELD(cpu), .role = TC_OPT_FREE,
	  .help = "list the CPU kinds that there are kernels for; no model is read" },
	{ .name = "csv", .type = TC_OPT_FLAG, .offset = FIELD(csv), .role = TC_OPT_FREE,
	  .help = "print CSV" },
	{ .type = TC_OPT_END }
};

static const struct tc_stage stage = {
	.name = "tc-bench",
	.summary = "measure how fast a model runs, and what the machine can give",
	.operands = "[MODEL]",
	.operands_max = 1,
	.options = options,
	.common = TC_COMMON_ALWAYS | TC_COMMON_JSON | TC_COMMON_RESULT | TC_COMMON_SEED | TC_COMMON_COMPUTE_ANY,
	.common_offset = offsetof(struct args, common),
};

static const struct tc_column kind_columns[] = {
	{ "name", TC_CELL_TEXT, .offset = offsetof(struct tc_kernel_kind, name) },
	{ "available", TC_CELL_FLAG, .offset = offsetof(struct tc_kernel_kind, available) },
	{ "chosen", TC_CELL_FLAG, .offset = offsetof(struct tc_kernel_kind, chosen) },
	{ 0 }
};

struct bench {
	struct args *a;
	struct tc_cli *cli;
	struct tc_source *source;
	struct tc_compute how, *compute;   /* of the products; NULL: f32 */
	struct tc_model model;
	bool model_begun;
	struct tc_ledger ledger;
	uint64_t embed_bytes, pos_bytes;
	uint64_t peak_rss_bytes;     /* before the probes took memory of their own */
	struct tc_kernel_kind kind[TC_KERNEL_KINDS_MAX];
	size_t nkinds;
	struct tc_speed_table table;
	size_t nmodel;               /* of them: what runs the model, and its ceilings */
};

/* ---- loading ---- */

static int
take_record(struct bench *b, const struct tc_record *r)
{
	tc_ledger_add(&b->ledger, r);
	if (r->kind != TC_KIND_TENSOR && r->kind != TC_KIND_REF)
		return 0;
	if (r->kind == TC_KIND_TENSOR && r->u.tensor.role == TC_ROLE_EMBED)
		b->embed_bytes += tc_tensor_bytes(&r->u.tensor);
	if (r->kind == TC_KIND_TENSOR && r->u.tensor.role == TC_ROLE_POS)
		b->pos_bytes += tc_tensor_bytes(&r->u.tensor);
	return tc_model_take(&b->model, r, b->source->mapped, &b->cli->err);
}

static int
load(struct bench *b)
{
	struct tc_err *err = &b->cli->err;
	struct tc_record r;
	int got;

	if (tc_cli_compute(b->cli, &b->how, &b->compute) < 0 || tc_cli_model(b->cli, 0, &b->source) < 0)
		return -1;
	b->model_begun = true;
	if (tc_model_begin(&b->model, &b->source->header, b->cli->pool, err) < 0)
		return -1;
	b->model.compute = b->compute;
	tc_ledger_begin(&b->ledger, &b->source->header);
	while ((got = tc_source_next(b->source, &r, err)) > 0)
		if (take_record(b, &r) < 0)
			return -1;
	if (got < 0 || tc_model_finish(&b->model, err) < 0)
		return -1;
	return tc_cli_compute_say(b->cli, b->compute);
}

/* The bytes of all weights that a token's way through the model reads: of an
 * embedding that is not the head, and of learned positions, it is a row; codes
 * that dynamic int8 multiplies take 8 bits. */
static uint64_t
weight_bytes(const struct bench *b)
{
	return b->ledger.model_bytes - b->pos_bytes - (b->model.config.tied ? 0 : b->embed_bytes);
}

/* ---- lengths ---- */

static int
check_length(const struct bench *b, const char *option, int64_t tokens)
{
	if ((size_t)tokens > b->model.config.positions)
		return tc_fail(&b->cli->err, TC_USAGE, "%s %lld: the model has %zu positions", option, (long long)tokens,
		    b->model.config.positions);
	return 0;
}

/* The default keeps to what the model can do; what was asked for must fit. */
static int
choose_lengths(struct bench *b, const char *option, struct tc_counts *lengths, const struct tc_counts *usual)
{
	if (lengths->n == TC_COUNTS_UNSET) {
		lengths->n = 0;
		for (int i = 0; i < usual->n; i++)
			if ((size_t)usual->at[i] <= b->model.config.positions)
				lengths->at[lengths->n++] = usual->at[i];
	}
	for (int i = 0; i < lengths->n; i++)
		if (check_length(b, option, lengths->at[i]) < 0)
			return -1;
	return 0;
}

static int
choose_all_lengths(struct bench *b)
{
	static const struct tc_counts prefill = { { 128, 512 }, 2 }, decode = { { 32, 128 }, 2 };
	struct args *a = b->a;

	if (a->seqlen == TC_UNSET)
		a->seqlen = (int64_t)tc_min(DEFAULT_SEQLEN, b->model.config.positions);
	if (check_length(b, "--seqlen", a->seqlen) < 0 || choose_lengths(b, "--prefill", &a->prefill, &prefill) < 0)
		return -1;
	return choose_lengths(b, "--decode", &a->decode, &decode);
}

/* ---- measuring ---- */

static int
measure_model(struct bench *b, const char *what, size_t tokens, bool decode)
{
	const struct args *a = b->a;
	struct tc_speed_options o = { (size_t)a->warmup, (size_t)a->runs, a->common.seed == TC_UNSET ? 0 : (uint64_t)a->common.seed };
	struct tc_err *err = &b->cli->err;
	size_t threads = (size_t)tc_pool_threads(b->model.pool);
	struct tc_speed s;
	struct tc_speed_row *r;

	tc_cli_progress(b->cli, "%s, %zu tokens, %zu threads", what, tokens, threads);
	if ((decode ? tc_speed_decode(&s, &b->model, tokens, &o, err) : tc_speed_prefill(&s, &b->model, tokens, &o, err)) < 0)
		return tc_err_at(err, "%s %zu", what, tokens);
	r = tc_speed_table_add(&b->table, what, tc_kernels_name(), threads, tokens, &b->cli->err);
	if (!r)
		return -1;
	tc_speed_row_set(r, &s, decode ? tc_flops_decode(&b->model.config, tokens) : tc_flops_prefill(&b->model.config, tokens));
	r->compute = b->a->common.compute;
	r->tokens_per_second = (double)tokens / s.seconds;
	if (decode)
		r->bytes_per_second = (double)weight_bytes(b) * r->tokens_per_second;
	return 0;
}

static int
measure_lengths(struct bench *b)
{
	const struct args *a = b->a;

	if (a->seqlen > 0 && measure_model(b, "forward", (size_t)a->seqlen, false) < 0)
		return -1;
	for (int i = 0; i < a->prefill.n; i++)
		if (measure_model(b, "prefill", (size_t)a->prefill.at[i], false) < 0)
			return -1;
	for (int i = 0; i < a->decode.n; i++)
		if (measure_model(b, "decode", (size_t)a->decode.at[i], true) < 0)
			return -1;
	return 0;
}

static int
add_probe(struct bench *b, const char *what, size_t threads, double flops_per_second, double bytes_per_second)
{
	struct tc_speed_row *r = tc_speed_table_add(&b->table, what, tc_kernels_name(), threads, 0, &b->cli->err);

	if (!r)
		return -1;
	r->flops_per_second = flops_per_second;
	r->bytes_per_second = bytes_per_second;
	return 0;
}

static size_t
probe_bytes(void)
{
	return tc_min(tc_max(4 * tc_machine_cache_bytes(), PROBE_BYTES_MIN), PROBE_BYTES_MAX);
}

/* The ceilings at the same number of threads as the rows from `first` on,
 * which get their shares of them. */
static int
measure_ceilings(struct bench *b, size_t first)
{
	size_t threads = (size_t)tc_pool_threads(b->model.pool);
	struct tc_probe p;

	tc_cli_progress(b->cli, "ceilings, %zu threads", threads);
	if (tc_probe_run(&p, probe_bytes(), b->model.pool, &b->cli->err) < 0)
		return -1;
	for (size_t i = first; i < b->table.n; i++) {
		b->table.row[i].peak_share = b->table.row[i].flops_per_second / p.peak_flops_per_second;
		b->table.row[i].read_share = b->table.row[i].bytes_per_second / p.read_bytes_per_second;
	}
	if (add_probe(b, "probe_read", threads, NAN, p.read_bytes_per_second) < 0 ||
	    add_probe(b, "probe_peak", threads, p.peak_flops_per_second, NAN) < 0)
		return -1;
	return add_probe(b, "probe_gemm", threads, p.gemm_flops_per_second, NAN);
}

/* The model, then at once what the machine could have given. */
static int
measure_with(struct bench *b, struct tc_pool *pool)
{
	size_t first = b->table.n;
	int r;

	b->model.pool = pool;
	r = measure_lengths(b);
	if (b->peak_rss_bytes == 0)
		b->peak_rss_bytes = tc_peak_rss_bytes();
	if (r == 0)
		r = measure_ceilings(b, first);
	b->model.pool = b->cli->pool;
	return r;
}

static int
measure_threads(struct bench *b)
{
	const struct tc_counts *counts = &b->a->threads;
	struct tc_pool *pool;
	int r = 0;

	if (counts->n == TC_COUNTS_UNSET)
		return measure_with(b, b->cli->pool);
	for (int i = 0; r == 0 && i < counts->n; i++) {
		r = tc_pool_open(&pool, (int)counts->at[i], &b->cli->err);
		if (r == 0)
			r = measure_with(b, pool);
		tc_pool_close(pool);
	}
	return r;
}

/* ---- attention ---- */

static int
measure_attention(struct bench *b, const struct tc_kernel_kind *kind, size_t positions, bool prefill, double peak)
{
	const char *what = prefill ? "attention_prefill" : "attention_decode";
	struct tc_speed_row *r = tc_speed_table_add(&b->table, what, kind->name, 1, positions, &b->cli->err);
	struct tc_speed s;

	if (!r)
		return -1;
	r->available = kind->available;
	if (!kind->available)
		return 0;
	tc_cli_progress(b->cli, "attention, %s, %zu positions", kind->name, positions);
	if (tc_speed_attention(&s, &b->model.config, positions, prefill, ATTENTION_SECONDS, &b->cli->err) < 0)
		return -1;
	tc_speed_row_set(r, &s, tc_flops_attention(&b->model.config, positions, prefill));
	r->peak_share = r->flops_per_second / peak;
	return 0;
}

static int
measure_kind(struct bench *b, const struct tc_kernel_kind *kind)
{
	const struct tc_counts *lengths = &b->a->attention;
	double peak = NAN;

	if (kind->available && tc_kernels_select(kind->name, &b->cli->err) < 0)
		return -1;
	if (kind->available && lengths->n > 0)
		peak = tc_probe_peak();
	for (int i = 0; i < lengths->n; i++)
		if (measure_attention(b, kind, (size_t)lengths->at[i], true, peak) < 0 ||
		    measure_attention(b, kind, (size_t)lengths->at[i], false, peak) < 0)
			return -1;
	return 0;
}

/* Each kind in turn; afterwards the kernels are what they were. */
static int
measure_kinds(struct bench *b)
{
	const char *chosen = tc_kernels_name();
	struct tc_err lost = {0};
	int r = 0;

	for (size_t i = 0; r == 0 && i < b->nkinds; i++)
		r = measure_kind(b, &b->kind[i]);
	(void)!tc_kernels_select(chosen, &lost); /* it was chosen before */
	return r;
}

/* ---- output ---- */

static json_t *
model_json(const struct bench *b)
{
	const struct tc_config *c = &b->model.config;

	return json_pack("{s:s,s:I,s:I,s:I,s:I,s:I,s:I,s:I}", "arch", c->arch, "parameters", (json_int_t)b->ledger.parameters,
	    "bytes", (json_int_t)b->ledger.model_bytes, "weight_bytes_per_token", (json_int_t)weight_bytes(b),
	    "layers", (json_int_t)c->layers, "heads", (json_int_t)c->heads, "kv_heads", (json_int_t)c->kv_heads,
	    "head_dim", (json_int_t)c->head_dim);
}

/* What the model was given to do: a function of the inputs. */
static json_t *
measured_json(const struct bench *b)
{
	return json_pack("{s:o,s:s}", "model", model_json(b), "options", b->cli->options);
}

/* How it went. */
static json_t *
run_json(const struct bench *b)
{
	struct tc_rows kinds = { b->kind, b->nkinds, sizeof(b->kind[0]) }, rows = { b->table.row, b->table.n, sizeof(*b->table.row) };

	return json_pack("{s:o,s:o,s:I,s:o}", "machine", tc_machine_hardware(), "kinds", tc_columns_json(kind_columns, &kinds),
	    "model_peak_rss_bytes", (json_int_t)b->peak_rss_bytes, "rows", tc_columns_json(tc_speed_columns, &rows));
}

static int
write_result(const struct bench *b)
{
	json_t *measured = measured_json(b), *run = run_json(b);
	int r = -1;

	if (measured && run)
		r = tc_result_write(b->cli, b->a->common.result, b->source, measured, run);
	else
		(void)tc_fail_nomem(&b->cli->err, 0);
	json_decref(measured);
	json_decref(run);
	return r;
}

static int
print_json(const struct bench *b)
{
	json_t *o = run_json(b);
	int r = -1;

	if (o && json_object_set_new(o, "model", model_json(b)) == 0)
		r = tc_cli_print_json(b->cli, o);
	else
		(void)tc_fail_nomem(&b->cli->err, 0);
	json_decref(o);
	return r;
}

static int
print_text(const struct bench *b)
{
	struct tc_rows model = { b->table.row, b->nmodel, sizeof(*b->table.row) };
	struct tc_rows attention = { b->table.row + b->nmodel, b->table.n - b->nmodel, sizeof(*b->table.row) };
	json_t *hardware = tc_machine_hardware();

	if (!hardware)
		return tc_fail_nomem(&b->cli->err, 0);
	tc_machine_hardware_print(hardware);
	json_decref(hardware);
	printf("kernels   %s\n", tc_kernels_name());
	printf("compute   %s\n", b->a->common.compute);
	printf("model     %s, %.2f M parameters, %.2f MB; a token reads %.2f MB of weights; %.1f MB of memory at most\n\n",
	    b->model.config.arch, (double)b->ledger.parameters / 1e6, (double)b->ledger.model_bytes / 1e6,
	    (double)weight_bytes(b) / 1e6, (double)b->peak_rss_bytes / 1e6);
	tc_columns_text(tc_speed_model_text, &model);
	if (attention.n > 0) {
		putchar('\n');
		tc_columns_text(tc_speed_attention_text, &attention);
	}
	return 0;
}

static int
report(const struct bench *b)
{
	struct tc_rows rows = { b->table.row, b->table.n, sizeof(*b->table.row) };

	if (b->a->common.result && write_result(b) < 0)
		return -1;
	if (b->a->common.json)
		return print_json(b);
	if (!b->a->csv)
		return print_text(b);
	tc_columns_csv(tc_speed_columns, &rows);
	return 0;
}

/* ---- --cpu ---- */

static int
list_kinds(struct bench *b)
{
	struct tc_rows kinds = { b->kind, b->nkinds, sizeof(b->kind[0]) };
	json_t *hardware, *o;
	int r = 0;

	if (b->a->csv) {
		tc_columns_csv(kind_columns, &kinds);
		return 0;
	}
	hardware = tc_machine_hardware();
	o = json_pack("{s:o,s:o}", "machine", hardware, "kinds", tc_columns_json(kind_columns, &kinds));
	if (!o)
		return tc_fail_nomem(&b->cli->err, 0);
	if (b->a->common.json) {
		r = tc_cli_print_json(b->cli, o);
	} else {
		tc_machine_hardware_print(hardware);
		putchar('\n');
		tc_columns_text(kind_columns, &kinds);
	}
	json_decref(o);
	return r;
}

static int
check_options(const struct bench *b)
{
	const struct args *a = b->a;
	struct tc_err *err = &b->cli->err;

	if (a->csv && a->common.json)
		return tc_fail(err, TC_USAGE, "--csv and --json exclude each other");
	if (a->cpu && (b->cli->parsed.noperands > 0 || a->common.result))
		return tc_fail(err, TC_USAGE, "--cpu runs no model: it goes without MODEL and --result");
	if (a->threads.n == 0)
		return tc_fail(err, TC_USAGE, "--thread-counts: must not be none");
	return a->common.result ? tc_result_check(a->common.result, err) : 0;
}

static int
run(struct bench *b)
{
	if (check_options(b) < 0)
		return -1;
	b->nkinds = tc_kernel_kinds(b->kind, TC_KERNEL_KINDS_MAX);
	if (b->a->cpu)
		return list_kinds(b);
	if (load(b) < 0 || choose_all_lengths(b) < 0 || measure_threads(b) < 0)
		return -1;
	b->nmodel = b->table.n;
	return measure_kinds(b) < 0 ? -1 : report(b);
}

int
main(int argc, char **argv)
{
	static const struct tc_counts unset = { .n = TC_COUNTS_UNSET };
	struct args a = { .common = tc_common_defaults, .prefill = unset, .decode = unset, .threads = unset,
		.attention = { { 128, 512, 2048 }, 3 }, .seqlen = TC_UNSET, .runs = DEFAULT_RUNS, .warmup = DEFAULT_WARMUP };
	struct tc_cli cli;
	struct bench b = { .a = &a, .cli = &cli };

	tc_cli_begin(&cli, &stage, &a, argc, argv);
	(void)!run(&b);
	if (b.model_begun)
		tc_model_free(&b.model);
	free(b.table.row);
	tc_source_close(b.source);
	return tc_cli_end(&cli);
}
