#include "kernel/kernel.h"

#include <cpuid.h>
#include <string.h>

const size_t tc_panel_bytes[TC_PANELS] = { 4, 2, 2, 0 };

static int
has_nothing(void)
{
	return 1;
}

/* clang 14 does not know this name. */
static int
has_f16c(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

static int
has_avx2(void)
{
	return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c();
}

static int
has_avx512(void)
{
	return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	    __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}

static const struct {
	const struct tc_kernels *table;
	int (*runs)(void);
} kinds[] = {
	{ &tc_kernels_generic, has_nothing },
	{ &tc_kernels_avx2, has_avx2 },
	{ &tc_kernels_avx512, has_avx512 },
};
enum { NKINDS = sizeof(kinds) / sizeof(kinds[0]) };

static const struct tc_kernels *chosen;

int
tc_kernels_select(const char *name, struct tc_err *err)
{
	for (int i = NKINDS - 1; i >= 0; i--) {
		if (name && strcmp(name, kinds[i].table->name) != 0)
			continue;
		if (kinds[i].runs()) {
			chosen = kinds[i].table;
			return 0;
		}
		if (name)
			return tc_fail(err, TC_USAGE, "TC_CPU: this machine cannot run '%s'", name);
	}
	return tc_fail(err, TC_USAGE, "TC_CPU: '%s' is not one of generic, avx2, avx512", name);
}

const struct tc_kernels *
tc_kernels(void)
{
	return chosen;
}

const char *
tc_kernels_name(void)
{
	return chosen->name;
}

size_t
tc_kernel_kinds(struct tc_kernel_kind *out, size_t max)
{
	size_t n = 0;

	for (; n < NKINDS && n < max; n++)
		out[n] = (struct tc_kernel_kind){ kinds[n].table->name, kinds[n].runs() != 0, kinds[n].table == chosen };
	return n;
}

size_t
tc_kernels_list(const struct tc_kernels *list[], size_t max)
{
	size_t n = 0;

	for (int i = 0; i < NKINDS && n < max; i++)
		if (kinds[i].runs())
			list[n++] = kinds[i].table;
	return n;
}
