/* spill.h - where a stage's large buffers go: memory up to --memory, beyond it
 * temporary files. */
#ifndef TC_CLI_SPILL_H
#define TC_CLI_SPILL_H

#include "base/spill.h"
#include "cli/cli.h"
#include "model/forward.h"

/* Memory that is free, or that the page cache would give back: the machine's or,
 * where less is left there, the control group's. */
uint64_t tc_cli_free_bytes(void);

/* For one of `shares` buffers that share what there is (--memory, else three
 * quarters of what is free now): fills above_bytes and, where size_bytes is more,
 * opens fd, which the caller closes when the buffer is open. */
int tc_cli_spill(struct tc_cli *cli, size_t size_bytes, unsigned shares, struct tc_spill_options *o) TC_MUST_CHECK;
void tc_cli_spill_close(struct tc_spill_options *o);

/* For struct tc_sequential, whose ctx is the struct tc_cli: spill (*err is the
 * stage's own) and progress. */
int tc_cli_spill_hidden(void *cli, size_t size_bytes, struct tc_spill_options *o, struct tc_err *err) TC_MUST_CHECK;
void tc_cli_say_block(void *cli, size_t done, size_t blocks);

/* tc_forward_tokens() whose states are one of `shares` such buffers. */
int tc_cli_forward_tokens(struct tc_cli *cli, struct tc_forward *f, size_t nseq, const size_t *length, const uint32_t *ids, struct tc_exec_options o, unsigned shares) TC_MUST_CHECK;

#endif
