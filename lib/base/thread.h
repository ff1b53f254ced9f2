/* thread.h - a pool of workers for loops whose iterations are independent.
 *
 * Threads split outputs, never sums: a loop body must write what no other
 * iteration writes, and its result must not depend on which worker ran it.
 * Then every result is the same at any number of threads. */
#ifndef TC_BASE_THREAD_H
#define TC_BASE_THREAD_H

#include <stddef.h>

#include "base/err.h"

#define TC_THREADS_MAX 256

struct tc_pool;

/* What affinity and the cgroup's CPU quota allow, at least 1. */
int tc_threads_allowed(void);

/* A pool of n threads (the caller is one of them). */
int tc_pool_open(struct tc_pool **pool, int n, struct tc_err *err) TC_MUST_CHECK;
void tc_pool_close(struct tc_pool *pool);
int tc_pool_threads(const struct tc_pool *pool);

/* fn(ctx, i, worker) for i in 0..n-1, in any order, worker in
 * 0..threads-1.  Returns when all are done.  Not re-entrant. */
void tc_pool_run(struct tc_pool *pool, size_t n, void (*fn)(void *ctx, size_t i, int worker), void *ctx);

#endif
