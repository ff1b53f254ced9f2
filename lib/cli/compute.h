/* compute.h - the arithmetic of a stage's matrix products: --compute,
 * --act-scale and --hold-out. */
#ifndef TC_CLI_COMPUTE_H
#define TC_CLI_COMPUTE_H

#include "cli/cli.h"
#include "model/int8.h"

/* *use is how, filled from the options, or NULL: f32. */
int tc_cli_int8(struct tc_cli *cli, struct tc_int8 *how, struct tc_int8 **use) TC_MUST_CHECK;
/* When the model has come: says how many of its matrices run so; TC_DATA when
 * none does.  use NULL: nothing. */
int tc_cli_int8_say(struct tc_cli *cli, const struct tc_int8 *use) TC_MUST_CHECK;

/* How, as keys of an object: compute, and of int8 act_scale and hold_out. */
int tc_cli_compute_json(const struct tc_cli *cli, const struct tc_int8 *use, json_t *o) TC_MUST_CHECK;

#endif
