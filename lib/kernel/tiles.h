/* tiles.h - the matrix unit (AMX): its instructions, and whether there is one.
 *
 * A tile holds up to 16 rows of 64 bytes; there are eight, and each thread
 * gives them shapes before it uses them.  TILE_DP(c, a, b) multiplies bf16
 * numbers and adds in f32, for every row i and column j of c:
 *
 *     even = sum over k, ascending, of a[i][2k] b[k][2j], fused, from 0
 *     odd  = sum over k, ascending, of a[i][2k+1] b[k][2j+1]
 *     c[i][j] = c[i][j] + (even + odd)
 *
 * rounding to nearest even, denormals taken and given as 0 (Intel, Software
 * Developer's Manual, volume 2, TDPBF16PS).  TILE_DP_INT8(c, a, b) multiplies
 * bytes, those of a with a sign, those of b without, and adds in whole numbers
 * of 32 bits: c[i][j] += sum over k of a[i][k] b[k / 4][4j + k % 4] (TDPBSUD).
 * TILE_LOAD_FROM() takes a row every stride bytes.
 *
 * The compiler does not know that these touch memory: hence "memory", without
 * which a buffer might be written after it was loaded.  The tests define the
 * macros themselves, to run on a machine without the unit. */
#ifndef TC_KERNEL_TILES_H
#define TC_KERNEL_TILES_H

#include <stdint.h>

enum { TILES = 8, TILE_ROWS = 16, TILE_ROW_BYTES = 64 };

/* As the processor reads it. */
struct tile_shapes {
	uint8_t palette, start_row, reserved[14];
	uint16_t row_bytes[16];
	uint8_t rows[16];
} __attribute__((aligned(64)));

/* Whether the processor has tiles for bf16 and bytes and this process may use them;
 * asks the kernel's permission for it. */
int tc_tiles_permitted(void);

#ifndef TILE_SHAPES
#define TILE_SHAPES(p) __asm__ volatile("ldtilecfg %0" : : "m"(*(const struct tile_shapes *)(p)))
#define TILE_RELEASE() __asm__ volatile("tilerelease")
#define TILE_ZERO(t) __asm__ volatile("tilezero %%tmm" #t : :)
#define TILE_LOAD_FROM(t, p, stride)                                                                    \
	__asm__ volatile("tileloadd (%0,%1,1), %%tmm" #t : : "r"(p), "r"((long)(stride)) : "memory")
#define TILE_STORE(t, p)                                                                                \
	__asm__ volatile("tilestored %%tmm" #t ", (%0,%1,1)" : : "r"(p), "r"((long)TILE_ROW_BYTES) : "memory")
#define TILE_DP(c, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #c : :)
#define TILE_DP_INT8(c, a, b) __asm__ volatile("tdpbsud %%tmm" #b ", %%tmm" #a ", %%tmm" #c : :)
#endif
#define TILE_LOAD(t, p) TILE_LOAD_FROM(t, p, TILE_ROW_BYTES)

#endif
