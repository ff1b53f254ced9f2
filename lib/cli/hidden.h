/* hidden.h - where a stage's hidden states go: memory up to --memory, beyond
 * it a temporary file. */
#ifndef TC_CLI_HIDDEN_H
#define TC_CLI_HIDDEN_H

#include "cli/cli.h"
#include "model/exec.h"

/* For `models` models of c's width that run over as many tokens: fills
 * spill_above_bytes (each one's share of --memory, else of three quarters of
 * what is free now) and, where that is too little, opens spill_fd, which the
 * caller closes after tc_exec_open(); else it is -1. */
int tc_cli_hidden(struct tc_cli *cli, size_t tokens, const struct tc_config *c, unsigned models, struct tc_exec_options *o) TC_MUST_CHECK;

#endif
