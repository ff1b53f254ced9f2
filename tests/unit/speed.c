/* Percentiles and operation counts by hand, probes and attention for being
 * measured at all, the kinds against the list, tables of figures. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/columns.h"
#include "kernel/probe.h"
#include "metric/speed.h"
#include "tap.h"

static struct tc_err err;

static void
test_latency(void)
{
	double one[] = { 3 }, ten[] = { 10, 2, 9, 4, 7, 6, 5, 8, 3, 1 }, many[200];
	struct tc_latency l = tc_latency_of(one, 1);

	ok(l.p50 == 3 && l.p90 == 3 && l.p99 == 3, "of one time, that");
	l = tc_latency_of(ten, 10);
	ok(l.p50 == 5 && l.p90 == 9 && l.p99 == 10, "of ten, the 5th, 9th and 10th");
	for (int i = 0; i < 200; i++)
		many[i] = 200 - i;
	l = tc_latency_of(many, 200);
	ok(l.p50 == 100 && l.p90 == 180 && l.p99 == 198, "of two hundred, the 100th, 180th and 198th");
}

/* A block has q, o [8][8], k, v [4][8], gate, up, down [16][8]: 576 weights;
 * two blocks, the head is [10][8]. */
#define CONFIG(more) "{\"model_type\": \"mistral\", \"vocab_size\": 10, \"hidden_size\": 8, \"intermediate_size\": 16, " \
	"\"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 4, " \
	"\"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-6, \"rope_theta\": 10000.0, \"hidden_act\": \"silu\", " \
	"\"tie_word_embeddings\": false" more "}"

static void
test_flops(void)
{
	static const char plain[] = CONFIG(", \"sliding_window\": null"), window[] = CONFIG(", \"sliding_window\": 2");
	static struct tc_config c;

	if (!ok(tc_config_parse(&c, plain, strlen(plain), &err) == 0, "a config %s", err.msg))
		return;
	/* Five tokens see 1 + 2 + 3 + 4 + 5 keys, each 2 heads x 4 x 2 products. */
	ok(tc_flops_prefill(&c, 5) == 2 * (2 * 576 * 5 + 80) + 2 * 4 * 8 * 15, "prefill: the head once");
	ok(tc_flops_decode(&c, 5) == 2 * (2 * 576 * 5 + 80 * 5) + 2 * 4 * 8 * 15, "decode: the head for each");
	ok(tc_flops_attention(&c, 5, true) == 4 * 8 * 15, "attention of a sequence");
	ok(tc_flops_attention(&c, 5, false) == 4 * 8 * 5, "attention of one query");
	if (!ok(tc_config_parse(&c, window, strlen(window), &err) == 0, "with a window %s", err.msg))
		return;
	ok(tc_flops_prefill(&c, 5) == 2 * (2 * 576 * 5 + 80) + 2 * 4 * 8 * 9, "a window of 2: 1 + 2 + 2 + 2 + 2 keys");
	ok(tc_flops_prefill(&c, 1) == 2 * (2 * 576 + 80) + 2 * 4 * 8, "a window longer than the sequence");
}

static void
test_kinds(void)
{
	const struct tc_kernels *list[TC_KERNEL_KINDS_MAX];
	struct tc_kernel_kind kind[TC_KERNEL_KINDS_MAX];
	size_t n = tc_kernel_kinds(kind, TC_KERNEL_KINDS_MAX), runs = tc_kernels_list(list, TC_KERNEL_KINDS_MAX);
	size_t available = 0, chosen = 0;

	for (size_t i = 0; i < n; i++) {
		if (kind[i].available && available < runs)
			ok(strcmp(kind[i].name, list[available]->name) == 0, "%s is in the list", kind[i].name);
		ok((tc_kernels_select(kind[i].name, &err) == 0) == kind[i].available, "%s is %schosen by its name", kind[i].name,
		    kind[i].available ? "" : "not ");
		available += kind[i].available;
	}
	ok(n >= 3 && available == runs, "as many are available as the list has");
	ok(tc_kernels_select(list[0]->name, &err) == 0 && tc_kernel_kinds(kind, TC_KERNEL_KINDS_MAX) == n, "another choice");
	for (size_t i = 0; i < n; i++)
		chosen += kind[i].chosen;
	ok(chosen == 1 && kind[0].chosen, "one is chosen, and said to be");
	ok(tc_kernel_kinds(kind, 2) == 2, "no more than there is room for");
}

static int
is_speed(double x)
{
	return isfinite(x) && x > 0;
}

static void
test_probes(const char *kind, struct tc_pool *pool)
{
	struct tc_probe p;

	ok(tc_probe_run(&p, 1 << 20, pool, &err) == 0 && is_speed(p.read_bytes_per_second) &&
	    is_speed(p.peak_flops_per_second) && is_speed(p.gemm_flops_per_second), "%s: probes", kind);
	ok(is_speed(tc_probe_peak()), "%s: a probe on one thread", kind);
}

static void
test_attention(const char *kind)
{
	static const char json[] = CONFIG(", \"sliding_window\": null");
	static struct tc_config c;
	struct tc_speed s;

	if (!ok(tc_config_parse(&c, json, strlen(json), &err) == 0, "%s: a config", kind))
		return;
	ok(tc_speed_attention(&s, &c, 100, true, 0, &err) == 0 && s.runs == 1 && is_speed(s.first) && is_speed(s.seconds) &&
	    s.seconds == s.latency.p50, "%s: attention, no time: one run", kind);
	ok(tc_speed_attention(&s, &c, 1, false, 1e9, &err) == 0 && s.runs > 1 && is_speed(s.seconds),
	    "%s: attention, more time than runs", kind);
}

struct figures {
	const char *text;
	bool flag;
	size_t count;
	double real;
	size_t index;
};

#define AT(f) .offset = offsetof(struct figures, f)
static const struct tc_column columns[] = {
	{ "text", TC_CELL_TEXT, AT(text) },
	{ "flag", TC_CELL_FLAG, AT(flag) },
	{ "a \"count\"", TC_CELL_COUNT, AT(count) },
	{ "real", TC_CELL_REAL, AT(real), 0.01, 1, "%" },
	{ "index", TC_CELL_INDEX, AT(index) },
	{ 0 }
};

static const struct figures figures[] = {
	{ "plain", true, 7, 0.25, 0 },
	{ "with, \"quotes\"\r\n", false, 0, NAN, SIZE_MAX },
	{ NULL, false, 12345678, 12.5, 3 },
};
static const struct tc_rows rows = { figures, 3, sizeof(figures[0]) };
static const struct tc_rows shown = { figures + 2, 1, sizeof(figures[0]) };

/* TAP goes to standard output too: what print says there is caught in a file. */
static void
prints(void (*print)(const struct tc_column *, const struct tc_rows *), const struct tc_rows *of, const char *want, const char *name)
{
	char text[1024];
	FILE *f = tmpfile();
	int saved = dup(STDOUT_FILENO);

	if (!f || saved < 0) {
		skip(name, "no temporary file");
		return;
	}
	fflush(stdout);
	dup2(fileno(f), STDOUT_FILENO);
	print(columns, of);
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	rewind(f);
	text[fread(text, 1, sizeof(text) - 1, f)] = 0;
	fclose(f);
	close(saved);
	ok(strcmp(text, want) == 0, "%s", name);
}

static void
test_columns(void)
{
	struct tc_rows none = { figures, 0, sizeof(figures[0]) };
	json_t *j = tc_columns_json(columns, &rows), *want;

	want = json_pack("[{s:s,s:b,s:i,s:f,s:i},{s:s,s:b,s:n,s:n,s:n},{s:n,s:b,s:i,s:f,s:i}]",
	    "text", "plain", "flag", 1, "a \"count\"", 7, "real", 0.25, "index", 0,
	    "text", "with, \"quotes\"\r\n", "flag", 0, "a \"count\"", "real", "index",
	    "text", "flag", 0, "a \"count\"", 12345678, "real", 12.5, "index", 3);
	ok(want && json_equal(j, want), "a table as JSON");
	json_decref(j);
	json_decref(want);
	j = tc_columns_json(columns, &none);
	ok(json_is_array(j) && json_array_size(j) == 0, "no rows, an empty array");
	json_decref(j);
	prints(tc_columns_csv, &rows, "text,flag,\"a \"\"count\"\"\",real,index\r\n"
	    "plain,true,7,0.25,0\r\n"
	    "\"with, \"\"quotes\"\"\r\n\",false,,,\r\n"
	    ",false,12345678,12.5,3\r\n", "a table as CSV");
	prints(tc_columns_text, &shown, "text  flag  a \"count\"     real  index\n-     no     12345678  1250.0%      3\n", "a table as text");
}

int
main(void)
{
	const struct tc_kernels *list[TC_KERNEL_KINDS_MAX];
	size_t n = tc_kernels_list(list, TC_KERNEL_KINDS_MAX);
	struct tc_pool *pool;

	test_latency();
	test_flops();
	test_kinds();
	test_columns();
	if (!ok(tc_pool_open(&pool, 2, &err) == 0, "two threads"))
		return done_testing();
	for (size_t i = 0; i < n; i++) {
		if (!ok(tc_kernels_select(list[i]->name, &err) == 0, "%s", list[i]->name))
			continue;
		test_probes(list[i]->name, pool);
		test_attention(list[i]->name);
	}
	tc_pool_close(pool);
	return done_testing();
}
