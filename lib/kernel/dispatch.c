#include "kernel/kernel.h"

#include <cpuid.h>
#include <string.h>

#include "kernel/tiles.h"

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

static int
has_avx512vnni(void)
{
	return has_avx512() && __builtin_cpu_supports("avx512vnni");
}

/* Whether the matrix unit gives a product of whole numbers exactly, whose
 * inputs take three parts, and all whose sums fit a float: an emulator or a
 * hypervisor may know the instructions and get them wrong. */
static int
tiles_are_right(void)
{
	enum { ROWS = 19, IN = 75, OUT = 39, PANELS = 2, NR = 32, INPUT_BITS = 22 };
	float panels[PANELS][IN][NR] __attribute__((aligned(64))) = {0}, x[ROWS][IN], y[ROWS][OUT];
	struct tc_matrix m = { .in = IN, .out = OUT, .type = TC_PANEL_F32, .panels = panels, .groups = 1,
		.panel_bytes = sizeof(panels[0]) };
	int right = 1;

	for (size_t j = 0; j < OUT; j++) {
		panels[j / NR][j * 2 % IN][j % NR] = 1;
		panels[j / NR][(j * 2 + 17) % IN][j % NR] = -2;
	}
	for (uint32_t r = 0; r < ROWS; r++)
		for (uint32_t i = 0; i < IN; i++)
			x[r][i] = (float)((r * IN + i + 1) * 0x9e3779b1u >> (32 - INPUT_BITS));
	tc_kernels_amx.matmul(&m, 0, PANELS, ROWS, x[0], IN, NULL, y[0], OUT);
	for (size_t r = 0; r < ROWS; r++)
		for (size_t j = 0; j < OUT; j++)
			right &= y[r][j] == x[r][j * 2 % IN] - 2 * x[r][(j * 2 + 17) % IN];
	return right;
}

/* The same of bytes: outputs that take two inputs each, of codes 128 + c. */
static int
byte_tiles_are_right(void)
{
	enum { ROWS = 19, IN = 75, OUT = 39, PANELS = 2, NR = 32, WORDS = (IN + 3) / 4, LDQ = 2 * TC_INT8_PAD };
	uint8_t panels[PANELS][WORDS][NR][4] __attribute__((aligned(64)));
	float x[IN], scale[PANELS * NR], t[ROWS], y[ROWS][OUT];
	int8_t q[ROWS][LDQ];
	int32_t sums[ROWS];
	struct tc_matrix m = { .in = IN, .out = OUT, .type = TC_PANEL_CODES, .bits = 8, .panels = panels, .groups = 1, .group = IN,
		.panel_bytes = sizeof(panels[0]), .scale = scale };
	int right = 1;

	memset(panels, 128, sizeof(panels));
	for (size_t j = 0; j < OUT; j++) {
		size_t first = j * 2 % IN, second = (j * 2 + 17) % IN;

		panels[j / NR][first / 4][j % NR][first % 4] = 255;
		panels[j / NR][second / 4][j % NR][second % 4] = 0;
	}
	for (size_t j = 0; j < PANELS * NR; j++)
		scale[j] = 1;
	for (uint32_t r = 0; r < ROWS; r++) {
		for (uint32_t i = 0; i < IN; i++)
			x[i] = (float)((r * IN + i + 1) * 0x9e3779b1u >> 24) - TC_INT8_MAX - 1;
		t[r] = 1;
		tc_kernels_amx.quantize(IN, x, 1, TC_INT8_MAX, q[r]);
	}
	tc_kernels_amx.int8_sums(ROWS, IN, IN, q, LDQ, sums);
	tc_kernels_amx.matmul_int8(&m, 0, PANELS, ROWS, q, LDQ, sums, t, y[0], OUT);
	for (size_t r = 0; r < ROWS; r++)
		for (size_t j = 0; j < OUT; j++)
			right &= y[r][j] == (float)(127 * q[r][j * 2 % IN] - 128 * q[r][(j * 2 + 17) % IN]);
	return right;
}

static int
has_amx(void)
{
	return has_avx512() && tc_tiles_permitted() && tiles_are_right() && byte_tiles_are_right();
}

static const struct {
	const struct tc_kernels *table;
	int (*runs)(void);
} kinds[] = {
	{ &tc_kernels_generic, has_nothing },
	{ &tc_kernels_avx2, has_avx2 },
	{ &tc_kernels_avx512, has_avx512 },
	{ &tc_kernels_avx512vnni, has_avx512vnni },
	{ &tc_kernels_amx, has_amx },
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
	return tc_fail(err, TC_USAGE, "TC_CPU: '%s' is not one of generic, avx2, avx512, avx512vnni, amx", name);
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
