#include "cli/choices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/group.h"
#include "cli/table.h"

enum { FIELDS = 4, DEFAULT_GROUP = 128 };

int
tc_choice_check(const struct tc_quantizer *by, int bits, struct tc_err *err)
{
	if (bits >= by->bits_min && bits <= by->bits_max)
		return 0;
	if (by->bits_min == by->bits_max)
		return tc_fail(err, TC_USAGE, "%s has %d bits", by->name, by->bits_min);
	return tc_fail(err, TC_USAGE, "%s has %d to %d bits", by->name, by->bits_min, by->bits_max);
}

int
tc_choice_check_scale(const struct tc_quantizer *by, enum tc_dtype scale, struct tc_err *err)
{
	if (scale != TC_U8 || !by || by->fitter)
		return 0;
	return tc_fail(err, TC_USAGE, "--scale u8 is for methods that round to nearest, not for %s", by->name);
}

static int
parse_sparsity(const char *text, struct tc_choice *c, struct tc_err *err)
{
	char *end;

	c->sparsity = strtod(text, &end);
	if (end == text || *end || !(c->sparsity >= 0 && c->sparsity < 1))
		return tc_fail(err, TC_USAGE, "%s: a sparsity is 0 or more and below 1", text);
	return 0;
}

static int
parse_quantized(char *const *field, int n, struct tc_choice *c, struct tc_err *err)
{
	c->by = tc_quantizer_find(field[0]);
	if (!c->by)
		return tc_fail(err, TC_USAGE, "%s: is no method, nor dense or skip", field[0]);
	if (n < 2)
		return tc_fail(err, TC_USAGE, "%s: its bits are missing, %s:BITS", field[0], field[0]);
	c->bits = strlen(field[1]) == 1 && field[1][0] >= '1' && field[1][0] <= '8' ? field[1][0] - '0' : 0;
	if (c->bits == 0)
		return tc_fail(err, TC_USAGE, "%s: must be 1 to 8 bits", field[1]);
	c->group = DEFAULT_GROUP;
	if (tc_choice_check(c->by, c->bits, err) < 0 || (n > 2 && tc_group_parse(field[2], &c->group, err) < 0))
		return -1;
	return n > 3 ? parse_sparsity(field[3], c, err) : 0;
}

int
tc_choice_parse(const char *text, size_t length, struct tc_choice *c, struct tc_err *err)
{
	char buf[TC_CHOICE_CHARS], *field[FIELDS], *at = buf;
	int n = 0;

	*c = (struct tc_choice){0};
	if (length >= sizeof(buf))
		return tc_fail(err, TC_USAGE, "%.32s...: is too long for a choice", text);
	memcpy(buf, text, length);
	buf[length] = '\0';
	while (n < FIELDS && at) {
		field[n++] = at;
		at = strchr(at, ':');
		if (at)
			*at++ = '\0';
	}
	if (at)
		return tc_fail(err, TC_USAGE, "%.*s: has more than METHOD:BITS:GROUP:SPARSITY", (int)length, text);
	if (strcmp(field[0], "skip") == 0)
		return n == 1 ? 0 : tc_fail(err, TC_USAGE, "%.*s: skip stands alone", (int)length, text);
	if (strcmp(field[0], "dense") != 0)
		return parse_quantized(field, n, c, err);
	if (n != 2)
		return tc_fail(err, TC_USAGE, "%.*s: must be dense:SPARSITY", (int)length, text);
	return parse_sparsity(field[1], c, err);
}

void
tc_choice_print(const struct tc_choice *c, char buf[TC_CHOICE_CHARS])
{
	char group[24], sparsity[TC_NUMBER_CHARS];

	tc_number_print(c->sparsity, sparsity);
	tc_group_print(&c->group, group, sizeof(group));
	if (tc_choice_is_skip(c))
		snprintf(buf, TC_CHOICE_CHARS, "skip");
	else if (!c->by)
		snprintf(buf, TC_CHOICE_CHARS, "dense:%s", sparsity);
	else if (c->sparsity > 0)
		snprintf(buf, TC_CHOICE_CHARS, "%s:%d:%s:%s", c->by->name, c->bits, group, sparsity);
	else
		snprintf(buf, TC_CHOICE_CHARS, "%s:%d:%s", c->by->name, c->bits, group);
}

int
tc_choices_parse(const char *value, void *field, struct tc_err *err)
{
	struct tc_choices *list = field;

	list->n = 0;
	for (const char *at = value;; at++) {
		size_t n = strcspn(at, ",");

		if (list->n == TC_CHOICES_MAX)
			return tc_fail(err, TC_USAGE, "%s: more than %d choices", value, TC_CHOICES_MAX);
		if (tc_choice_parse(at, n, &list->at[list->n++], err) < 0)
			return -1;
		at += n;
		if (!*at)
			return 0;
	}
}

void
tc_choices_print(const void *field, char *buf, size_t size)
{
	const struct tc_choices *list = field;
	size_t at = 0;

	buf[0] = '\0';
	for (size_t i = 0; i < list->n && at < size; i++) {
		char one[TC_CHOICE_CHARS];

		tc_choice_print(&list->at[i], one);
		at += (size_t)snprintf(buf + at, size - at, "%s%s", i ? "," : "", one);
	}
}
