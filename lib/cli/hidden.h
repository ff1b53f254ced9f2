/* hidden.h - where a stage's hidden states go: memory up to --memory, beyond
 * it a temporary file. */
#ifndef TC_CLI_HIDDEN_H
#define TC_CLI_HIDDEN_H

#include "cli/cli.h"
#include "model/exec.h"

/* Fills spill_above_bytes (--memory, else three quarters of what is free
 * now) and spill_fd, which the caller closes after tc_exec_open(). */
int tc_cli_hidden(struct tc_cli *cli, struct tc_exec_options *o) TC_MUST_CHECK;

#endif
