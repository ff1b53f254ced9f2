/* The emulation of the matrix unit, which the amx kind is tested with: against
 * the definition of its product, and against the unit where there is one. */
#include <float.h>
#include <math.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/rng.h"
#include "tap.h"
#include "tiles.h"

enum { WORDS = TILE_ROW_BYTES / 4 };

static struct tc_rng rng;

struct numbers {
	uint16_t a[TILE_ROWS][2 * WORDS], b[TILE_ROWS][2 * WORDS];
	float c[TILE_ROWS][WORDS];
};

static float
wide(uint16_t h)
{
	uint32_t u = (uint32_t)h << 16;
	float f;

	memcpy(&f, &u, sizeof(f));
	return f;
}

/* A finite bf16 number whose exponent is one of spread below high. */
static uint16_t
random_bf16(unsigned high, unsigned spread)
{
	unsigned exponent = high - (unsigned)tc_rng_below(&rng, spread);

	return (uint16_t)(tc_rng_below(&rng, 2) << 15 | exponent << 7 | tc_rng_below(&rng, 128));
}

static void
random_numbers(struct numbers *n, unsigned high, unsigned spread)
{
	for (size_t i = 0; i < TILE_ROWS; i++)
		for (size_t j = 0; j < 2 * WORDS; j++) {
			n->a[i][j] = random_bf16(high, spread);
			n->b[i][j] = random_bf16(high, spread);
			n->c[i][j / 2] = wide(random_bf16(high, spread));
		}
}

static float
no_denormal(float x)
{
	return fabsf(x) < FLT_MIN ? 0 : x;
}

/* The definition: kernel/tiles.h. */
static float
defined(const struct numbers *n, size_t i, size_t j, size_t pairs)
{
	float even = 0, odd = 0;

	for (size_t k = 0; k < pairs; k++) {
		even = no_denormal(fmaf(no_denormal(wide(n->a[i][2 * k])), no_denormal(wide(n->b[k][2 * j])), even));
		odd = no_denormal(fmaf(no_denormal(wide(n->a[i][2 * k + 1])), no_denormal(wide(n->b[k][2 * j + 1])), odd));
	}
	return no_denormal(no_denormal(n->c[i][j]) + no_denormal(even + odd));
}

static struct tile_shapes
shapes(size_t rows, size_t pairs, size_t columns)
{
	struct tile_shapes s = { .palette = 1 };

	for (size_t t = 0; t < TILES; t++) {
		s.rows[t] = (uint8_t)rows;
		s.row_bytes[t] = (uint16_t)(columns * 4);
	}
	s.row_bytes[1] = (uint16_t)(pairs * 4);
	s.rows[2] = (uint8_t)pairs;
	return s;
}

static int
product_is_defined(unsigned high, unsigned spread, size_t rows, size_t pairs, size_t columns)
{
	struct tile_shapes s = shapes(rows, pairs, columns);
	struct numbers n;
	float got[TILE_ROWS][WORDS];
	int right = 1;

	random_numbers(&n, high, spread);
	memcpy(got, n.c, sizeof(got));
	emulated_shapes(&s);
	emulated_load(0, n.c);
	emulated_load(1, n.a);
	emulated_load(2, n.b);
	emulated_dp(0, 1, 2);
	emulated_store(0, got);
	emulated_release();
	for (size_t i = 0; i < TILE_ROWS; i++)
		for (size_t j = 0; j < WORDS; j++)
			right &= got[i][j] == (i < rows && j < columns ? defined(&n, i, j, pairs) : n.c[i][j]);
	return right;
}

static void
test_products(void)
{
	int right = 1, tiny = 1;

	for (size_t rows = 1; rows <= TILE_ROWS; rows += 3)
		for (size_t pairs = 1; pairs <= TILE_ROWS; pairs += 3)
			for (size_t columns = 1; columns <= WORDS; columns += 3)
				right &= product_is_defined(130, 12, rows, pairs, columns);
	for (int i = 0; i < 20; i++)
		tiny &= product_is_defined(67, 8, TILE_ROWS, WORDS, WORDS) && product_is_defined(3, 4, TILE_ROWS, WORDS, WORDS);
	ok(right, "emulated products are as they are defined, in tiles of every shape");
	ok(tiny, "emulated products: numbers too small are 0, whether taken or given");
}

/* ---- bytes ---- */

struct bytes {
	int8_t a[TILE_ROWS][TILE_ROW_BYTES];
	uint8_t b[TILE_ROWS][TILE_ROW_BYTES];
	int32_t c[TILE_ROWS][WORDS];
};

static void
random_bytes(struct bytes *n)
{
	for (size_t i = 0; i < sizeof(*n); i++)
		((uint8_t *)n)[i] = (uint8_t)tc_rng_below(&rng, 256);
}

static int
int8_product_is_defined(size_t rows, size_t words, size_t columns)
{
	struct tile_shapes s = shapes(rows, words, columns);
	struct bytes n;
	int32_t got[TILE_ROWS][WORDS];
	int right = 1;

	random_bytes(&n);
	memcpy(got, n.c, sizeof(got));
	emulated_shapes(&s);
	emulated_load(0, n.c);
	emulated_load_from(1, n.a, sizeof(n.a[0]));
	emulated_load(2, n.b);
	emulated_dp_int8(0, 1, 2);
	emulated_store(0, got);
	emulated_release();
	for (size_t i = 0; i < TILE_ROWS; i++)
		for (size_t j = 0; j < WORDS; j++) {
			uint32_t want = (uint32_t)n.c[i][j];

			for (size_t k = 0; i < rows && j < columns && k < 4 * words; k++)
				want += (uint32_t)(n.a[i][k] * n.b[k / 4][4 * j + k % 4]);
			right &= (uint32_t)got[i][j] == want;
		}
	return right;
}

static void
test_int8_products(void)
{
	int right = 1;

	for (size_t rows = 1; rows <= TILE_ROWS; rows += 3)
		for (size_t words = 1; words <= TILE_ROWS; words += 3)
			for (size_t columns = 1; columns <= WORDS; columns += 3)
				right &= int8_product_is_defined(rows, words, columns);
	ok(right, "emulated products of bytes are as they are defined, in tiles of every shape");
}

/* ---- what is refused ---- */

static void
unshaped(void)
{
	emulated_tile(0, 1);
}

static void
released(void)
{
	struct tile_shapes s = shapes(16, 16, 16);

	emulated_shapes(&s);
	emulated_release();
	emulated_tile(0, 1);
}

static void
not_released(void)
{
	struct tile_shapes s = shapes(16, 16, 16);

	emulated_shapes(&s);
	emulated_shapes(&s);
}

static void
too_many_rows(void)
{
	struct tile_shapes s = shapes(17, 16, 16);

	emulated_shapes(&s);
}

static void
no_palette(void)
{
	struct tile_shapes s = { .palette = 0 };

	emulated_shapes(&s);
}

static void
same_tile(void)
{
	struct tile_shapes s = shapes(16, 16, 16);

	emulated_shapes(&s);
	emulated_dp(0, 1, 1);
}

static void
other_rows(void)
{
	struct tile_shapes s = shapes(16, 16, 16);

	s.rows[1] = 15;
	emulated_shapes(&s);
	emulated_dp(0, 1, 2);
}

static void
other_pairs(void)
{
	struct tile_shapes s = shapes(16, 16, 16);

	s.rows[2] = 15;
	emulated_shapes(&s);
	emulated_dp(0, 1, 2);
}

static void
nothing_wrong(void)
{
	struct tile_shapes s = shapes(16, 16, 16);

	emulated_shapes(&s);
	emulated_dp(0, 1, 2);
	emulated_release();
	emulated_shapes(&s);
}

static int
aborts(void (*f)(void))
{
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (child == 0) {
		fclose(stderr);
		f();
		_exit(0);
	}
	return waitpid(child, &status, 0) == child && WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void
test_refusals(void)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} wrong[] = {
		{ "a tile without a shape", unshaped }, { "a released tile", released },
		{ "shapes while there are some", not_released }, { "17 rows", too_many_rows }, { "no palette", no_palette },
		{ "a tile by itself", same_tile }, { "rows that differ", other_rows }, { "pairs that differ", other_pairs },
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++)
		ok(aborts(wrong[i].run), "emulated tiles refuse %s", wrong[i].name);
	ok(!aborts(nothing_wrong), "emulated tiles refuse nothing else");
}

/* ---- the unit itself ---- */

static int
unit_agrees(unsigned high, unsigned spread, size_t rows)
{
	struct tile_shapes s = shapes(rows, WORDS, WORDS);
	struct numbers n;
	float got[TILE_ROWS][WORDS] = {0}, want[TILE_ROWS][WORDS] = {0};

	random_numbers(&n, high, spread);
	TILE_SHAPES(&s);
	TILE_LOAD(0, n.c);
	TILE_LOAD(1, n.a);
	TILE_LOAD(2, n.b);
	TILE_DP(0, 1, 2);
	TILE_STORE(0, got);
	TILE_RELEASE();
	emulated_shapes(&s);
	emulated_load(0, n.c);
	emulated_load(1, n.a);
	emulated_load(2, n.b);
	emulated_dp(0, 1, 2);
	emulated_store(0, want);
	emulated_release();
	return memcmp(got, want, sizeof(got)) == 0;
}

static int
unit_agrees_on_bytes(size_t rows)
{
	struct tile_shapes s = shapes(rows, WORDS, WORDS);
	struct bytes n;
	int32_t got[TILE_ROWS][WORDS] = {0}, want[TILE_ROWS][WORDS] = {0};

	random_bytes(&n);
	TILE_SHAPES(&s);
	TILE_LOAD(0, n.c);
	TILE_LOAD(1, n.a);
	TILE_LOAD(2, n.b);
	TILE_DP_INT8(0, 1, 2);
	TILE_STORE(0, got);
	TILE_RELEASE();
	emulated_shapes(&s);
	emulated_load(0, n.c);
	emulated_load(1, n.a);
	emulated_load(2, n.b);
	emulated_dp_int8(0, 1, 2);
	emulated_store(0, want);
	emulated_release();
	return memcmp(got, want, sizeof(got)) == 0;
}

static void
test_unit(void)
{
	int same = 1;

	if (!tc_tiles_permitted()) {
		skip("the matrix unit agrees with its emulation", "this machine has none");
		return;
	}
	for (size_t rows = 1; rows <= TILE_ROWS; rows++)
		for (int i = 0; i < 50; i++)
			same &= unit_agrees(130, 12, rows) && unit_agrees(67, 8, rows) && unit_agrees(3, 4, rows) &&
			    unit_agrees_on_bytes(rows);
	ok(same, "the matrix unit agrees with its emulation, bit by bit");
}

int
main(void)
{
	tc_rng_seed(&rng, 11);
	if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("fma")) {
		skip("emulated tiles", "this machine has no AVX-512");
		return done_testing();
	}
	test_products();
	test_int8_products();
	test_refusals();
	test_unit();
	return done_testing();
}
