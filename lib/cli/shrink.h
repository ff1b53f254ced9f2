/* shrink.h - a stage that takes parts of a model away (method/structured.h), from
 * its source to its stream and what it says. */
#ifndef TC_CLI_SHRINK_H
#define TC_CLI_SHRINK_H

#include "cli/cli.h"
#include "method/structured.h"

/* source is one of tc_cli_model_kept(), of which nothing was read.  by_layer: with
 * o->sequential.  1: what stays makes up for what goes, 0: it does not (no Hessian is
 * known), -1. */
int tc_cli_shrink(struct tc_cli *cli, struct tc_source *source, const struct tc_structured_options *o, bool by_layer, bool strip) TC_MUST_CHECK;

#endif
