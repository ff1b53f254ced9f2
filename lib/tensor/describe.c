#include "tensor/describe.h"

#include <inttypes.h>
#include <stdio.h>

void
tc_format_describe(const struct tc_format *f, char buf[TC_FORMAT_CHARS])
{
	bool uniform = f->encoding == TC_UNIFORM;
	char group[24];

	if (f->encoding == TC_DENSE) {
		snprintf(buf, TC_FORMAT_CHARS, "%s", tc_dtypes[f->dtype].name);
		return;
	}
	if (f->group == TC_GROUP_ROW || f->group == TC_GROUP_TENSOR)
		snprintf(group, sizeof(group), "%s", f->group == TC_GROUP_ROW ? "row" : "tensor");
	else
		snprintf(group, sizeof(group), "g%" PRIu64, f->group);
	snprintf(buf, TC_FORMAT_CHARS, "%s %d bit %s%s%s %s", uniform ? "uniform" : "codebook", f->bits, group,
	    uniform ? " " : "", uniform ? tc_zero_names[f->zero] : "", tc_dtypes[f->dtype].name);
}
