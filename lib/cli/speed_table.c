#include "cli/speed_table.h"

#include <math.h>
#include <stdlib.h>

#define AT(f) .offset = offsetof(struct tc_speed_row, f)
const struct tc_column tc_speed_columns[] = {
	{ "what", TC_CELL_TEXT, AT(what) },
	{ "kind", TC_CELL_TEXT, AT(kind) },
	{ "compute", TC_CELL_TEXT, AT(compute) },
	{ "available", TC_CELL_FLAG, AT(available) },
	{ "threads", TC_CELL_COUNT, AT(threads) },
	{ "tokens", TC_CELL_COUNT, AT(tokens) },
	{ "runs", TC_CELL_COUNT, AT(runs) },
	{ "first_seconds", TC_CELL_REAL, AT(first) },
	{ "p50_seconds", TC_CELL_REAL, AT(p50) },
	{ "p90_seconds", TC_CELL_REAL, AT(p90) },
	{ "p99_seconds", TC_CELL_REAL, AT(p99) },
	{ "tokens_per_second", TC_CELL_REAL, AT(tokens_per_second) },
	{ "flops_per_second", TC_CELL_REAL, AT(flops_per_second) },
	{ "peak_share", TC_CELL_REAL, AT(peak_share) },
	{ "bytes_per_second", TC_CELL_REAL, AT(bytes_per_second) },
	{ "read_share", TC_CELL_REAL, AT(read_share) },
	{ 0 }
};

#define MILLI 1e-3
#define GIGA 1e9
#define PERCENT 0.01

const struct tc_column tc_speed_model_text[] = {
	{ "", TC_CELL_TEXT, AT(what) },
	{ "threads", TC_CELL_COUNT, AT(threads) },
	{ "tokens", TC_CELL_COUNT, AT(tokens) },
	{ "first ms", TC_CELL_REAL, AT(first), MILLI, 3, NULL },
	{ "p50 ms", TC_CELL_REAL, AT(p50), MILLI, 3, NULL },
	{ "p90 ms", TC_CELL_REAL, AT(p90), MILLI, 3, NULL },
	{ "p99 ms", TC_CELL_REAL, AT(p99), MILLI, 3, NULL },
	{ "tokens/s", TC_CELL_REAL, AT(tokens_per_second), 1, 1, NULL },
	{ "GFLOP/s", TC_CELL_REAL, AT(flops_per_second), GIGA, 1, NULL },
	{ "of peak", TC_CELL_REAL, AT(peak_share), PERCENT, 1, "%" },
	{ "GB/s", TC_CELL_REAL, AT(bytes_per_second), GIGA, 2, NULL },
	{ "of read", TC_CELL_REAL, AT(read_share), PERCENT, 1, "%" },
	{ 0 }
};

const struct tc_column tc_speed_attention_text[] = {
	{ "", TC_CELL_TEXT, AT(what) },
	{ "kind", TC_CELL_TEXT, AT(kind) },
	{ "available", TC_CELL_FLAG, AT(available) },
	{ "positions", TC_CELL_COUNT, AT(tokens) },
	{ "p50 ms", TC_CELL_REAL, AT(p50), MILLI, 4, NULL },
	{ "GFLOP/s", TC_CELL_REAL, AT(flops_per_second), GIGA, 2, NULL },
	{ "of peak", TC_CELL_REAL, AT(peak_share), PERCENT, 1, "%" },
	{ 0 }
};

struct tc_speed_row *
tc_speed_table_add(struct tc_speed_table *t, const char *what, const char *kind, size_t threads, size_t tokens,
    struct tc_err *err)
{
	struct tc_speed_row *r = realloc(t->row, (t->n + 1) * sizeof(*r));

	if (!r) {
		(void)tc_fail_nomem(err, (t->n + 1) * sizeof(*r));
		return NULL;
	}
	t->row = r;
	r += t->n++;
	*r = (struct tc_speed_row){ what, kind, NULL, true, threads, tokens, 0, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN };
	return r;
}

void
tc_speed_row_set(struct tc_speed_row *r, const struct tc_speed *s, double flops)
{
	r->runs = s->runs;
	r->first = s->first;
	r->p50 = s->latency.p50;
	r->p90 = s->latency.p90;
	r->p99 = s->latency.p99;
	r->flops_per_second = flops / s->seconds;
}
