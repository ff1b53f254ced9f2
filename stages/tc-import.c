/* tc-import: a checkpoint to a model stream.  See tc-import(1). */
#include "cli/cli.h"

struct args {
	struct tc_common common;
};

static const struct tc_option options[] = { { .type = TC_OPT_END } };

static const struct tc_stage stage = {
	.name = "tc-import",
	.summary = "turn a checkpoint into a model stream",
	.operands = "[MODEL]",
	.operands_max = 1,
	.options = options,
	.common = TC_COMMON_ALWAYS | TC_COMMON_OUTPUT,
	.common_offset = offsetof(struct args, common),
};

/* The source of a checkpoint already says "tc-import" in its provenance, so
 * that a stage reading the checkpoint itself writes the same bytes: no step
 * is added here. */
static int
copy(struct tc_cli *cli, struct tc_source *source)
{
	struct tc_record r;
	int got;

	if (tc_cli_stream_out(cli, source, NULL) < 0)
		return -1;
	while ((got = tc_source_next(source, &r, &cli->err)) > 0)
		if (tc_writer_put(cli->writer, &r, &cli->err) < 0)
			return -1;
	return got < 0 ? -1 : tc_cli_stream_end(cli, source);
}

int
main(int argc, char **argv)
{
	struct args a = { .common = tc_common_defaults };
	struct tc_source *source = NULL;
	struct tc_cli cli;

	tc_cli_begin(&cli, &stage, &a, argc, argv);
	if (tc_cli_model(&cli, 0, &source) == 0)
		(void)!copy(&cli, source);
	tc_source_close(source);
	return tc_cli_end(&cli);
}
