/* select.h - --include and --exclude: shell patterns on tensor names. */
#ifndef TC_CLI_SELECT_H
#define TC_CLI_SELECT_H

#include "cli/options.h"
#include "stream/record.h"

/* Included (or nothing is said of including) and not excluded. */
bool tc_select_matches(const struct tc_list *include, const struct tc_list *exclude, const char *name);

/* TC_USAGE when a pattern matches no tensor of the model: a typing error that
 * would otherwise look like a result. */
int tc_select_check(const struct tc_list *include, const struct tc_list *exclude, const struct tc_header *h, struct tc_err *err) TC_MUST_CHECK;

#endif
