/* record.c - the records themselves: headers, and small facts about kinds. */
#include "stream/record.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *const tc_stat_names[TC_STAT_KINDS] = {
	"sq", "abs", "max", "hessian",
	"fisher", "fisher_weight", "fisher_row", "fisher_column", "fisher_group",
};

int
tc_stat_find(const char *name, size_t len)
{
	for (int i = 0; i < TC_STAT_KINDS; i++)
		if (strlen(tc_stat_names[i]) == len && memcmp(tc_stat_names[i], name, len) == 0)
			return i;
	return -1;
}

bool
tc_stat_is_of_tensor(enum tc_stat_kind kind)
{
	return kind >= TC_STAT_SITE_KINDS;
}

size_t
tc_stat_values(enum tc_stat_kind kind, uint64_t dim)
{
	size_t n;

	if (kind != TC_STAT_HESSIAN)
		return dim;
	/* One of dim and dim + 1 is even: halve it before multiplying. */
	if (dim == UINT64_MAX || tc_mul_over(dim % 2 ? dim : dim / 2, dim % 2 ? (dim + 1) / 2 : dim + 1, &n))
		return 0;
	return n;
}

enum tc_dtype
tc_stat_dtype(enum tc_stat_kind kind)
{
	return kind == TC_STAT_MAX || kind == TC_STAT_HESSIAN || kind == TC_STAT_FISHER_WEIGHT ? TC_F32 : TC_F64;
}

const struct tc_part *
tc_record_parts(const struct tc_record *r, int *n)
{
	*n = r->kind == TC_KIND_TENSOR ? r->u.tensor.nparts : r->nparts;
	return r->kind == TC_KIND_TENSOR ? r->u.tensor.part : r->part;
}

void
tc_header_free(struct tc_header *h)
{
	free(h->config);
	for (int i = 0; i < h->nsteps; i++)
		free(h->step[i].options);
	*h = (struct tc_header){0};
}

int
tc_header_copy(struct tc_header *to, const struct tc_header *from, struct tc_err *err)
{
	*to = *from;
	to->nsteps = 0;
	to->config = tc_strndup(from->config ? from->config : "", from->config_bytes, err);
	if (!to->config)
		goto fail;
	for (; to->nsteps < from->nsteps; to->nsteps++) {
		const char *options = from->step[to->nsteps].options;

		to->step[to->nsteps].options = tc_strndup(options, strlen(options), err);
		if (!to->step[to->nsteps].options)
			goto fail;
	}
	return 0;
fail:
	tc_header_free(to);
	return -1;
}

int
tc_header_add_step(struct tc_header *h, const char *stage, const char *build, const char *cpu, const char *options, struct tc_err *err)
{
	struct tc_step *s = &h->step[h->nsteps];

	if (h->nsteps == TC_STEPS_MAX)
		return tc_fail(err, TC_DATA, "the stream has passed %d stages already, the most there can be", TC_STEPS_MAX);
	if (strlen(stage) >= sizeof(s->stage) || strlen(build) >= sizeof(s->build) || strlen(cpu) >= sizeof(s->cpu))
		return tc_fail(err, TC_INTERNAL, "%s: a name of the provenance chain is too long", stage);
	if (strlen(options) >= TC_STEP_OPTIONS_MAX)
		return tc_fail(err, TC_USAGE, "the options are longer than %d bytes", TC_STEP_OPTIONS_MAX - 1);
	*s = (struct tc_step){0};
	snprintf(s->stage, sizeof(s->stage), "%s", stage);
	snprintf(s->build, sizeof(s->build), "%s", build);
	snprintf(s->cpu, sizeof(s->cpu), "%s", cpu);
	s->options = tc_strndup(options, strlen(options), err);
	if (!s->options)
		return -1;
	h->nsteps++;
	return 0;
}
