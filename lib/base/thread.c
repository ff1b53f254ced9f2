#include "base/thread.h"

#include <assert.h>
#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"

/* A worker that finds nothing to do spins this long, then sleeps: the stages
 * of a pipe share the cores. */
#define SPIN_SECONDS 50e-6

/* Kernels keep what they rearrange on the stack: up to 700 KiB. */
#define STACK_BYTES ((size_t)4 << 20)

struct worker {
	struct tc_pool *pool;
	pthread_t thread;
	int id;
};

/* A loop is done when its iterations are: a worker that sleeps, or whose core
 * another process has, is not waited for unless it is in the middle of one.
 * So one that comes late may find another loop under way: the ticket says
 * which loop an iteration belongs to, and only who gets the ticket of the loop
 * that he saw runs it. */
struct tc_pool {
	int threads;
	struct worker *workers;            /* threads - 1 of them: ids 1.. */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	_Atomic uint64_t ticket;           /* the loop's number << 32 | the next iteration */
	atomic_size_t done;                /* iterations */
	atomic_bool stop;
	/* Of the loop under way; changed only when none is. */
	atomic_size_t n;
	void (*_Atomic fn)(void *, size_t, int);
	void *_Atomic ctx;
};

static int
cgroup_cpus(void)
{
	FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
	long quota, period;
	int n = 0;

	if (!f)
		return 0;
	if (fscanf(f, "%ld %ld", &quota, &period) == 2 && quota > 0 && period > 0)
		n = (int)((quota + period - 1) / period);
	fclose(f);
	return n;
}

int
tc_threads_allowed(void)
{
	cpu_set_t set;
	int n = 1, quota = cgroup_cpus();

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		n = CPU_COUNT(&set);
	if (quota > 0 && quota < n)
		n = quota;
	return n < 1 ? 1 : n > TC_THREADS_MAX ? TC_THREADS_MAX : n;
}

static uint32_t
loop_of(uint64_t ticket)
{
	return (uint32_t)(ticket >> 32);
}

/* Wakes who waits for what has just been stored: he looks under the lock. */
static void
tell(struct tc_pool *p)
{
	pthread_mutex_lock(&p->lock);
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

static void
take_iterations(struct tc_pool *p, int id, uint32_t loop)
{
	size_t n = atomic_load(&p->n);
	void (*fn)(void *, size_t, int) = atomic_load(&p->fn);
	void *ctx = atomic_load(&p->ctx);
	uint64_t ticket = atomic_load(&p->ticket);

	/* With a ticket of this loop in hand it is not over, so that what was
	 * read above is its own. */
	while (loop_of(ticket) == loop && (uint32_t)ticket < n) {
		if (!atomic_compare_exchange_weak(&p->ticket, &ticket, ticket + 1))
			continue;
		fn(ctx, (uint32_t)ticket, id);
		if (atomic_fetch_add(&p->done, 1) + 1 == n && id != 0)
			tell(p);
		ticket = atomic_load(&p->ticket);
	}
}

static bool
is_over(struct tc_pool *p, uint32_t loop)
{
	(void)loop;
	return atomic_load(&p->done) == atomic_load(&p->n);
}

static bool
is_another(struct tc_pool *p, uint32_t loop)
{
	return loop_of(atomic_load(&p->ticket)) != loop;
}

/* Waits until it is so; spins, then sleeps. */
static void
wait_until(struct tc_pool *p, bool (*so)(struct tc_pool *, uint32_t), uint32_t loop)
{
	double began = tc_now();

	while (tc_now() - began < SPIN_SECONDS)
		for (int i = 0; i < 64; i++) {
			if (so(p, loop))
				return;
			_mm_pause();
		}
	pthread_mutex_lock(&p->lock);
	while (!so(p, loop))
		pthread_cond_wait(&p->wake, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

static void *
work(void *arg)
{
	struct worker *w = arg;
	struct tc_pool *p = w->pool;
	uint32_t seen = 0;

	for (;;) {
		wait_until(p, is_another, seen);
		seen = loop_of(atomic_load(&p->ticket));
		if (atomic_load(&p->stop))
			return NULL;
		take_iterations(p, w->id, seen);
	}
}

/* Makes a loop the one under way; returns its number.  The old one's ticket is
 * used up first, so that nobody takes what is written here for the old one's. */
static uint32_t
next_loop(struct tc_pool *p, size_t n, void (*fn)(void *, size_t, int), void *ctx)
{
	uint64_t old = (uint64_t)loop_of(atomic_load(&p->ticket)) << 32;

	atomic_store(&p->ticket, old | UINT32_MAX);
	atomic_store(&p->n, n);
	atomic_store(&p->fn, fn);
	atomic_store(&p->ctx, ctx);
	atomic_store(&p->done, 0);
	atomic_store(&p->ticket, old + (UINT64_C(1) << 32));
	tell(p);
	return loop_of(old) + 1;
}

void
tc_pool_run(struct tc_pool *p, size_t n, void (*fn)(void *, size_t, int), void *ctx)
{
	uint32_t loop;

	if (!p || p->threads == 1 || n <= 1) {
		for (size_t i = 0; i < n; i++)
			fn(ctx, i, 0);
		return;
	}
	assert(n < UINT32_MAX);
	loop = next_loop(p, n, fn, ctx);
	take_iterations(p, 0, loop);
	wait_until(p, is_over, loop);
}

int
tc_pool_threads(const struct tc_pool *p)
{
	return p ? p->threads : 1;
}

int
tc_pool_open(struct tc_pool **out, int n, struct tc_err *err)
{
	struct tc_pool *p = calloc(1, sizeof(*p));
	sigset_t all, old;
	pthread_attr_t attr;

	*out = NULL;
	if (!p)
		return tc_fail_nomem(err, sizeof(*p));
	p->threads = 1;
	p->workers = calloc((size_t)n, sizeof(*p->workers));
	if (!p->workers) {
		free(p);
		return tc_fail_nomem(err, (size_t)n * sizeof(*p->workers));
	}
	pthread_mutex_init(&p->lock, NULL);
	pthread_cond_init(&p->wake, NULL);
	/* Signals go to the main thread. */
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (int i = 1; i < n; i++) {
		struct worker *w = &p->workers[i - 1];

		*w = (struct worker){ .pool = p, .id = i };
		if (pthread_create(&w->thread, &attr, work, w) != 0)
			break; /* fewer threads, the same result */
		p->threads++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attr);
	*out = p;
	return 0;
}

void
tc_pool_close(struct tc_pool *p)
{
	if (!p)
		return;
	atomic_store(&p->stop, true);
	next_loop(p, 0, NULL, NULL);
	for (int i = 1; i < p->threads; i++)
		pthread_join(p->workers[i - 1].thread, NULL);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p->workers);
	free(p);
}
