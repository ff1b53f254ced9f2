#include "cli/select.h"

#include <fnmatch.h>

#include "model/config.h"

static bool
any(const struct tc_list *l, const char *name)
{
	for (int i = 0; i < l->n; i++)
		if (fnmatch(l->item[i], name, 0) == 0)
			return true;
	return false;
}

bool
tc_select_matches(const struct tc_list *include, const struct tc_list *exclude, const char *name)
{
	return (include->n == 0 || any(include, name)) && !any(exclude, name);
}

static int
check(const struct tc_list *l, const char *option, const struct tc_config *c, struct tc_err *err)
{
	struct tc_tensor t;

	for (int i = 0; i < l->n; i++) {
		bool hit = false;

		for (size_t k = 0; !hit && tc_config_tensor(c, k, &t); k++)
			hit = fnmatch(l->item[i], t.name, 0) == 0;
		if (!hit)
			return tc_fail(err, TC_USAGE, "%s: '%s' matches no tensor", option, l->item[i]);
	}
	return 0;
}

int
tc_select_check(const struct tc_list *include, const struct tc_list *exclude, const struct tc_header *h,
    struct tc_err *err)
{
	struct tc_config c;

	if (include->n == 0 && exclude->n == 0)
		return 0;
	if (tc_config_parse(&c, h->config, h->config_bytes, err) < 0)
		return -1;
	if (check(include, "--include", &c, err) < 0)
		return -1;
	return check(exclude, "--exclude", &c, err);
}
