/* group.h - the option --group: inputs that share a scale. */
#ifndef TC_CLI_GROUP_H
#define TC_CLI_GROUP_H

#include "cli/options.h"
#include "tensor/tensor.h"

#define TC_GROUP_UNSET (TC_GROUP_TENSOR - 1)

/* Of a TC_OPT_CALL whose field is a uint64_t: a number, TC_GROUP_ROW, TC_GROUP_TENSOR,
 * or as it was, TC_GROUP_UNSET, of which nothing is written. */
int tc_group_parse(const char *value, void *field, struct tc_err *err) TC_MUST_CHECK;
void tc_group_print(const void *field, char *buf, size_t size);

#endif
