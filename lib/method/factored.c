#include "method/factored.h"

#include <string.h>

#include "base/mem.h"
#include "tensor/kept.h"

bool
tc_is_factored(const struct tc_tensor *t)
{
	return t->rank > 0 && t->factor.encoding == TC_DENSE && t->format.encoding != TC_DENSE && t->nops == 0;
}

/* What it has that a factor cannot; NULL: nothing. */
static const char *
in_the_way(const struct tc_tensor *f, bool ops)
{
	if (f->residual.bits > 0)
		return "a residual (--residual)";
	if (f->sparse > 0)
		return "weights held apart (--keep)";
	if (f->format.encoding == TC_PRODUCT)
		return "codes of vectors (pq)";
	if (f->format.encoding == TC_LEVELS)
		return "levels of each row or group (--per)";
	if (f->format.encoding == TC_DENSE)
		return "numbers";
	return f->nops > 0 && !ops ? "what is done to its input" : NULL;
}

/* Of v.  A group that is all of u's row is called a row. */
static bool
has_format(const struct tc_tensor *u, const struct tc_format *f)
{
	const struct tc_format *a = &u->format;
	bool same_groups = a->group == f->group || (a->group == TC_GROUP_ROW && f->group >= tc_tensor_cols(u));

	return a->encoding == f->encoding && a->dtype == f->dtype && a->bits == f->bits && a->zero == f->zero && same_groups;
}

int
tc_factored_join(const struct tc_tensor *t, const struct tc_tensor *side[TC_SIDES], struct tc_quantized *q, struct tc_err *err)
{
	const struct tc_tensor *u = side[TC_SIDE_U], *v = side[TC_SIDE_V];
	const struct tc_part *part;
	const char *why = in_the_way(u, false);

	*q = (struct tc_quantized){ .t = *t };
	if (!why)
		why = in_the_way(v, true);
	if (why)
		return tc_fail(err, TC_DATA, "%s: a factor can be codes and scales only, it cannot have %s", t->name, why);
	if (!has_format(u, &v->format))
		return tc_fail(err, TC_DATA, "%s: its factors were quantized to two formats", t->name);
	q->t.factor = v->format;
	if (v->nops > 0 && t->format.encoding != TC_NONE)
		return tc_fail(err, TC_DATA, "%s: what is done to a factor's input cannot be done to its other weights'", t->name);
	q->t.nops = v->nops;
	memcpy(q->t.op, v->op, sizeof(v->op));
	if (tc_tensor_layout(&q->t, err) < 0)
		return -1;
	for (int i = 0; i < q->t.nparts; i++) {
		const char *name = q->t.part[i].name;

		if (tc_part_is_factor(name))
			part = tc_tensor_part(name[0] == 'u' ? u : v, name + 2);
		else
			part = tc_tensor_part(strcmp(name, "input_scale") == 0 ? v : t, name);
		q->t.part[i].data = part->data;
	}
	return tc_parts_copy(q->t.part, q->t.nparts, &q->owned, err);
}
