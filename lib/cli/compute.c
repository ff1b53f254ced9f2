#include "cli/compute.h"

#include <math.h>
#include <string.h>

#include "model/int8.h"

#define BATCH "batch"
#define TOKEN "token"

int
tc_cli_compute(struct tc_cli *cli, struct tc_compute *how, struct tc_compute **use)
{
	const struct tc_common *c = cli->common;

	*how = (struct tc_compute){ .batch = c->act_scale && strcmp(c->act_scale, BATCH) == 0,
		.hold_out = isnan(c->hold_out) ? 0 : c->hold_out };
	how->in = strcmp(c->compute, "int8") == 0 ? TC_IN_INT8 : TC_IN_BF16;
	*use = strcmp(c->compute, "f32") == 0 ? NULL : how;
	if ((!*use || how->in != TC_IN_INT8) && (c->act_scale || !isnan(c->hold_out)))
		return tc_fail(&cli->err, TC_USAGE, "--%s goes with --compute int8", c->act_scale ? "act-scale" : "hold-out");
	if (how->hold_out > 0 && how->hold_out < TC_HOLD_OUT_MIN)
		return tc_fail(&cli->err, TC_USAGE, "--hold-out %g: must be 0 or at least %d", how->hold_out, TC_HOLD_OUT_MIN);
	return 0;
}

int
tc_cli_compute_say(struct tc_cli *cli, const struct tc_compute *use)
{
	if (!use)
		return 0;
	if (use->in == TC_IN_BF16) {
		tc_cli_say(cli, "bf16: %zu weight matrices as they are, %zu rounded", use->layers, use->others);
		return 0;
	}
	if (use->layers == 0)
		return tc_fail(&cli->err, TC_DATA,
		    "--compute int8: no weight matrix of the model has codes for it (make them with tc-quant --bits 8 --group row --sym alone)");
	tc_cli_say(cli, "int8: %zu weight matrices run so, %zu in f32", use->layers, use->others);
	return 0;
}

int
tc_cli_compute_json(const struct tc_cli *cli, const struct tc_compute *use, json_t *o)
{
	int r = json_object_set_new(o, "compute", json_string(cli->common->compute));

	if (!use || use->in != TC_IN_INT8)
		return r;
	if (r == 0)
		r = json_object_set_new(o, "act_scale", json_string(use->batch ? BATCH : TOKEN));
	if (r == 0)
		r = json_object_set_new(o, "hold_out", json_real(use->hold_out));
	return r;
}

int
tc_cli_compute_layers_json(const struct tc_compute *use, json_t *o)
{
	bool bf16 = use && use->in == TC_IN_BF16;

	if (!use)
		return 0;
	return json_object_set_new(o, bf16 ? "bf16_layers" : "int8_layers", json_pack("{s:I,s:I}", bf16 ? "bf16" : "int8",
	    (json_int_t)use->layers, bf16 ? "rounded" : "f32", (json_int_t)use->others));
}
