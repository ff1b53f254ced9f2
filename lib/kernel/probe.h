/* probe.h - what the machine can give: ceilings to hold measured speeds
 * against.
 *
 * Each probe runs the pool's threads together, several times, and keeps the
 * best: other work can only make the machine look slower than it is. */
#ifndef TC_KERNEL_PROBE_H
#define TC_KERNEL_PROBE_H

#include "base/thread.h"
#include "kernel/kernel.h"

struct tc_probe {
	double read_bytes_per_second;  /* memory, read once from end to end */
	double peak_flops_per_second;  /* the chosen kind's peak(): multiply-adds in registers */
	double gemm_flops_per_second;  /* its gemm(), on operands that stay in cache */
};

/* buffer_bytes: of the memory that is read, to be larger than the caches; it
 * is allocated for the time of the call. */
int tc_probe_run(struct tc_probe *p, size_t buffer_bytes, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

/* The second figure alone, on the caller's thread. */
double tc_probe_peak(void);

#endif
