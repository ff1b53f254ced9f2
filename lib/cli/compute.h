/* compute.h - the arithmetic of a stage's matrix products: --compute,
 * --act-scale and --hold-out. */
#ifndef TC_CLI_COMPUTE_H
#define TC_CLI_COMPUTE_H

#include "cli/cli.h"
#include "model/compute.h"

/* *use is how, filled from the options, or NULL: f32. */
int tc_cli_compute(struct tc_cli *cli, struct tc_compute *how, struct tc_compute **use) TC_MUST_CHECK;
/* When the model has come: says how many of its matrices run so, or are rounded
 * for it; TC_DATA when int8 has none.  use NULL: nothing. */
int tc_cli_compute_say(struct tc_cli *cli, const struct tc_compute *use) TC_MUST_CHECK;

/* How, as keys of an object: compute, and of int8 act_scale and hold_out. */
int tc_cli_compute_json(const struct tc_cli *cli, const struct tc_compute *use, json_t *o) TC_MUST_CHECK;
/* How many matrices, as the key bf16_layers {bf16, rounded} or int8_layers
 * {int8, f32}; use NULL: nothing. */
int tc_cli_compute_layers_json(const struct tc_compute *use, json_t *o) TC_MUST_CHECK;

#endif
