#include "tensor/describe.h"

#include <inttypes.h>
#include <stdio.h>

static const char *const mask_words[TC_MASKS] = { "", "mask", "2:4", "csr" };

void
tc_format_describe(const struct tc_format *f, char buf[TC_FORMAT_CHARS])
{
	char group[24], more[32] = "";

	if (f->encoding == TC_DENSE || f->encoding == TC_NONE) {
		snprintf(buf, TC_FORMAT_CHARS, "%s", f->encoding == TC_NONE ? tc_encoding_names[TC_NONE] : tc_dtypes[f->dtype].name);
		return;
	}
	if (f->group == TC_GROUP_ROW || f->group == TC_GROUP_TENSOR)
		snprintf(group, sizeof(group), "%s", f->group == TC_GROUP_ROW ? "row" : "tensor");
	else
		snprintf(group, sizeof(group), "g%" PRIu64, f->group);
	if (f->encoding == TC_UNIFORM)
		snprintf(more, sizeof(more), " %s", tc_zero_names[f->zero]);
	else if (f->encoding == TC_PRODUCT)
		snprintf(more, sizeof(more), " x%d of %d", f->stages, f->vector);
	snprintf(buf, TC_FORMAT_CHARS, "%s %d bit%s %s%s %s", tc_encoding_names[f->encoding], f->bits,
	    f->encoding == TC_PRODUCT ? more : "", group, f->encoding == TC_PRODUCT ? "" : more, tc_dtypes[f->dtype].name);
}

void
tc_tensor_describe(const struct tc_tensor *t, char buf[TC_TENSOR_CHARS])
{
	char format[TC_FORMAT_CHARS];
	size_t n;

	tc_format_describe(&t->format, format);
	n = (size_t)snprintf(buf, TC_TENSOR_CHARS, "%s", format);
	if (t->residual.bits) {
		tc_format_describe(&t->residual, format);
		n += (size_t)snprintf(buf + n, TC_TENSOR_CHARS - n, " + %s", format);
	}
	if (t->rank) {
		tc_format_describe(&t->factor, format);
		n += (size_t)snprintf(buf + n, TC_TENSOR_CHARS - n, " + rank %" PRIu64 " %s", t->rank, format);
	}
	if (t->mask != TC_MASK_NONE)
		n += (size_t)snprintf(buf + n, TC_TENSOR_CHARS - n, ", %.1f%% by %s",
		    100.0 * (double)t->stored / (double)tc_tensor_elements(t), mask_words[t->mask]);
	if (t->sparse)
		n += (size_t)snprintf(buf + n, TC_TENSOR_CHARS - n, " + %" PRIu64 " sparse", t->sparse);
	for (int i = 0; i < t->nops; i++)
		n += (size_t)snprintf(buf + n, TC_TENSOR_CHARS - n, "%s%s", i ? ", " : " after ", tc_input_op_names[t->op[i].kind]);
}
