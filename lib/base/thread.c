#include "base/thread.h"

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* A worker that finds nothing to do spins this long, then sleeps: the stages
 * of a pipe share the cores. */
#define SPIN_NANOSECONDS 50000

struct worker {
	struct tc_pool *pool;
	pthread_t thread;
	int id;
};

struct tc_pool {
	int threads;
	struct worker *workers;            /* threads - 1 of them: ids 1.. */
	pthread_mutex_t lock;
	pthread_cond_t wake;
	atomic_uint round;                 /* grows with each loop */
	atomic_int busy;                   /* workers not yet done with it */
	atomic_bool stop;
	atomic_size_t next;                /* the next iteration to hand out */
	size_t n;
	void (*fn)(void *, size_t, int);
	void *ctx;
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

static void
take_iterations(struct tc_pool *p, int id)
{
	for (;;) {
		size_t i = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed);

		if (i >= p->n)
			return;
		p->fn(p->ctx, i, id);
	}
}

static long
nanoseconds_since(const struct timespec *t0)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (t.tv_sec - t0->tv_sec) * 1000000000L + (t.tv_nsec - t0->tv_nsec);
}

/* Waits until the pool's round is no longer seen; spins, then sleeps. */
static void
wait_round(struct tc_pool *p, unsigned seen)
{
	struct timespec t0;

	clock_gettime(CLOCK_MONOTONIC, &t0);
	while (nanoseconds_since(&t0) < SPIN_NANOSECONDS)
		for (int i = 0; i < 64; i++) {
			if (atomic_load_explicit(&p->round, memory_order_acquire) != seen)
				return;
			_mm_pause();
		}
	pthread_mutex_lock(&p->lock);
	while (atomic_load_explicit(&p->round, memory_order_acquire) == seen)
		pthread_cond_wait(&p->wake, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

static void *
work(void *arg)
{
	struct worker *w = arg;
	struct tc_pool *p = w->pool;
	unsigned seen = 0;

	for (;;) {
		wait_round(p, seen);
		seen++;
		if (atomic_load(&p->stop))
			return NULL;
		take_iterations(p, w->id);
		if (atomic_fetch_sub_explicit(&p->busy, 1, memory_order_acq_rel) == 1) {
			pthread_mutex_lock(&p->lock);
			pthread_cond_broadcast(&p->wake);
			pthread_mutex_unlock(&p->lock);
		}
	}
}

static void
next_round(struct tc_pool *p)
{
	pthread_mutex_lock(&p->lock);
	atomic_fetch_add_explicit(&p->round, 1, memory_order_release);
	pthread_cond_broadcast(&p->wake);
	pthread_mutex_unlock(&p->lock);
}

static void
wait_all_done(struct tc_pool *p)
{
	struct timespec t0;

	clock_gettime(CLOCK_MONOTONIC, &t0);
	while (nanoseconds_since(&t0) < SPIN_NANOSECONDS)
		for (int i = 0; i < 64; i++) {
			if (atomic_load_explicit(&p->busy, memory_order_acquire) == 0)
				return;
			_mm_pause();
		}
	pthread_mutex_lock(&p->lock);
	while (atomic_load_explicit(&p->busy, memory_order_acquire) != 0)
		pthread_cond_wait(&p->wake, &p->lock);
	pthread_mutex_unlock(&p->lock);
}

void
tc_pool_run(struct tc_pool *p, size_t n, void (*fn)(void *, size_t, int), void *ctx)
{
	if (!p || p->threads == 1 || n <= 1) {
		for (size_t i = 0; i < n; i++)
			fn(ctx, i, 0);
		return;
	}
	p->n = n;
	p->fn = fn;
	p->ctx = ctx;
	atomic_store(&p->next, 0);
	atomic_store(&p->busy, p->threads - 1);
	next_round(p);
	take_iterations(p, 0);
	wait_all_done(p);
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
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (int i = 1; i < n; i++) {
		struct worker *w = &p->workers[i - 1];

		*w = (struct worker){ .pool = p, .id = i };
		if (pthread_create(&w->thread, NULL, work, w) != 0)
			break; /* fewer threads, the same result */
		p->threads++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	*out = p;
	return 0;
}

void
tc_pool_close(struct tc_pool *p)
{
	if (!p)
		return;
	atomic_store(&p->stop, true);
	next_round(p);
	for (int i = 1; i < p->threads; i++)
		pthread_join(p->workers[i - 1].thread, NULL);
	pthread_cond_destroy(&p->wake);
	pthread_mutex_destroy(&p->lock);
	free(p->workers);
	free(p);
}
