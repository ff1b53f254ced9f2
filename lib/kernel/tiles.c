#include "kernel/tiles.h"

#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Processor: leaf 7, edx. */
#define HAS_AMX_BF16 (1u << 22)
#define HAS_AMX_TILE (1u << 24)
#define HAS_AMX_INT8 (1u << 25)
/* System: it saves the tiles' shapes and data when threads change places. */
#define XCR0_TILES (3u << 17)
/* Kernel: linux/Documentation/arch/x86/xstate.rst. */
#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18

static int
processor_has_tiles(void)
{
	unsigned a, b, c, d;

	return __get_cpuid_count(7, 0, &a, &b, &c, &d) && (d & HAS_AMX_BF16) && (d & HAS_AMX_TILE) && (d & HAS_AMX_INT8);
}

static int
system_saves_tiles(void)
{
	unsigned a, b, c, d, low, high;

	if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & bit_OSXSAVE))
		return 0;
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return (low & XCR0_TILES) == XCR0_TILES;
}

int
tc_tiles_permitted(void)
{
	return processor_has_tiles() && system_saves_tiles() &&
	    syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
