#include "cli/group.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int
tc_group_parse(const char *value, void *field, struct tc_err *err)
{
	uint64_t *group = field;
	char *end;
	unsigned long long n;

	if (strcmp(value, "row") == 0) {
		*group = TC_GROUP_ROW;
		return 0;
	}
	if (strcmp(value, "tensor") == 0) {
		*group = TC_GROUP_TENSOR;
		return 0;
	}
	n = strtoull(value, &end, 10);
	if (*value < '0' || *value > '9' || *end || n < 1 || n > 1 << 20)
		return tc_fail(err, TC_USAGE, "%s: must be row, tensor, or 1 to 1048576", value);
	*group = n;
	return 0;
}

void
tc_group_print(const void *field, char *buf, size_t size)
{
	uint64_t group = *(const uint64_t *)field;

	if (group == TC_GROUP_ROW || group == TC_GROUP_TENSOR)
		snprintf(buf, size, "%s", group == TC_GROUP_ROW ? "row" : "tensor");
	else if (group != TC_GROUP_UNSET)
		snprintf(buf, size, "%llu", (unsigned long long)group);
}
