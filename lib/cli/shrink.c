#include "cli/shrink.h"

#include "cli/plan.h"
#include "cli/spill.h"
#include "kernel/kernel.h"

static int
hold_all(struct tc_hold *hold, struct tc_source *source, struct tc_err *err)
{
	if (tc_pass_hold(hold, source, err) < 0)
		return -1;
	for (size_t i = 0; i < hold->n; i++)
		if (tc_plan_is_record(&hold->item[i].r))
			return tc_fail(err, TC_USAGE, "--structured: the stream carries a plan for tensors as they are: plan anew afterwards");
	return 0;
}

static void
say_blocks(struct tc_cli *cli, const struct tc_structured *s)
{
	for (size_t b = 0, k = 0; b < s->units; b++) {
		bool stays = k < s->kept && s->keep[k] == b;

		k += stays;
		tc_cli_say(cli, "block %zu: influence %.4f%s", b, s->influence[b], stays ? "" : ", goes");
	}
}

static void
report(struct tc_cli *cli, const struct tc_structured *s, const struct tc_ledger *l)
{
	static const char *const of[] = {
		[TC_STRUCTURE_HEADS] = "groups of heads of each block", [TC_STRUCTURE_NEURONS] = "neurons of each block",
		[TC_STRUCTURE_BLOCKS] = "blocks"
	};
	double was = (double)tc_config_parameters(&s->config), is = (double)tc_config_parameters(&s->small);

	if (s->o.what == TC_STRUCTURE_BLOCKS)
		say_blocks(cli, s);
	if (s->stale)
		tc_cli_say(cli, "some statistics were measured before weights upstream changed (--sequential measures anew)");
	tc_cli_say(cli, "%zu of %zu %s go%s: %.3f M of %.3f M parameters stay; whole model %.3f bits per weight of the original (%.2f MB)",
	    s->units - s->kept, s->units, of[s->o.what], s->compensated ? ", the others make up for them" : "", is / 1e6, was / 1e6,
	    tc_ledger_bits_model(l), (double)l->model_bytes / 1e6);
}

int
tc_cli_shrink(struct tc_cli *cli, struct tc_source *source, const struct tc_structured_options *o, bool by_layer, bool strip)
{
	const struct tc_sequential how = { .pool = cli->pool, .by_layer = by_layer, .spill = tc_cli_spill_hidden,
		.progress = tc_cli_say_block, .ctx = cli };
	struct tc_hold hold = {0};
	struct tc_structured s = {0};
	struct tc_held_source held, small;
	struct tc_ledger ledger;
	int r = hold_all(&hold, source, &cli->err);

	if (r == 0)
		r = tc_structured_open(&s, &source->header, &hold, o, cli->pool, &cli->err);
	if (r == 0) {
		tc_hold_source(&hold, source, &held);
		small = held;
		small.s.header = s.header;
		r = tc_cli_stream_out(cli, &small.s, tc_kernels_name());
	}
	if (r == 0)
		r = tc_structured_run(&s, &held.s, cli->writer, &how, strip, &ledger, &cli->err);
	if (r == 0)
		r = tc_cli_stream_end(cli, &small.s);
	if (r == 0)
		report(cli, &s, &ledger);
	if (r == 0)
		r = s.compensated;
	tc_structured_close(&s);
	tc_hold_clear(&hold);
	return r;
}
