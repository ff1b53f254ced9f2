/* The amx kind with emulated tiles: linked to a test before the library, it
 * takes the place of lib/kernel/amx.c and tiles.c there, so that the test runs
 * this kind on every machine with AVX-512. */
#define TILE_SHAPES(p) emulated_shapes(p)
#define TILE_RELEASE() emulated_release()
#define TILE_ZERO(t) emulated_tile(t, 1)
#define TILE_LOAD_FROM(t, p, stride) emulated_load_from(t, p, stride)
#define TILE_STORE(t, p) emulated_store(t, p)
#define TILE_DP(c, a, b) emulated_dp(c, a, b)
#define TILE_DP_INT8(c, a, b) emulated_dp_int8(c, a, b)
#include "../unit/tiles.h"

#include "kernel/amx.c"

int
tc_tiles_permitted(void)
{
	return 1;
}
