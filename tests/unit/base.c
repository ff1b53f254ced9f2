/* Errors, checked sizes, buffers, reading and writing, memory in a file, the generator, SHA-256, the pool. */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/hash.h"
#include "base/io.h"
#include "base/mem.h"
#include "base/rng.h"
#include "base/spill.h"
#include "base/thread.h"
#include "tap.h"

static struct tc_err err;

static void
test_err(void)
{
	char longest[600];

	ok(tc_fail(&err, TC_DATA, "a %d\nb\tc", 7) == -1 && err.code == TC_DATA && !strcmp(err.msg, "a 7?b?c"),
	    "tc_fail returns -1 and keeps one line: %s", err.msg);
	ok(tc_err_at(&err, "file %s", "x\ny") == -1 && err.code == TC_DATA && !strcmp(err.msg, "file x?y: a 7?b?c"),
	    "tc_err_at puts the place in front: %s", err.msg);
	memset(longest, 'a', sizeof(longest) - 1);
	longest[sizeof(longest) - 1] = '\0';
	tc_fail(&err, TC_DATA, "%s", longest);
	tc_err_at(&err, "%s", longest);
	tc_fail_errno(&err, "%s", longest);
	ok(strlen(err.msg) == sizeof(err.msg) - 1, "messages are cut, not overrun");
	errno = ENOENT;
	ok(tc_fail_errno(&err, "x") == -1 && err.code == TC_NOINPUT, "ENOENT is no input: %s", err.msg);
	errno = ENOMEM;
	ok(tc_fail_errno(&err, "x") == -1 && err.code == TC_NOMEM, "ENOMEM is no memory: %s", err.msg);
	errno = ENOSPC;
	ok(tc_fail_errno(&err, "x") == -1 && err.code == TC_IO, "ENOSPC is an I/O error: %s", err.msg);
	ok(tc_fail_nomem(&err, 12) == -1 && err.code == TC_NOMEM && strstr(err.msg, "12"), "%s", err.msg);
}

static void
test_mem(void)
{
	size_t n;
	char *p;
	int cleared = 1, aligned = 1;

	ok(tc_mul_over(SIZE_MAX / 2, 3, &n) && !tc_mul_over(7, 6, &n) && n == 42 && tc_add_over(SIZE_MAX, 1, &n) &&
	    !tc_add_over(SIZE_MAX, 0, &n), "products and sums that do not fit are seen");
	ok(tc_round_up(0, 64) == 0 && tc_round_up(1, 64) == 64 && tc_round_up(64, 64) == 64 && tc_round_up(65, 64) == 128,
	    "tc_round_up");
	err.code = 0;
	ok(!tc_alloc(SIZE_MAX / 2, 4, &err) && err.code == TC_NOMEM, "an overflowing size is refused: %s", err.msg);
	err.code = 0;
	ok(!tc_zalloc(SIZE_MAX - 8, 1, &err) && err.code == TC_NOMEM, "so is one that rounding would overflow");
	for (n = 0; n < 300; n += 7) {
		p = tc_zalloc(n, 1, &err);
		aligned &= p && (uintptr_t)p % TC_ALIGN == 0;
		for (size_t i = 0; i < n; i++)
			cleared &= p[i] == 0;
		free(p);
	}
	ok(aligned, "every size, 0 too, gives an aligned pointer");
	ok(cleared, "tc_zalloc clears");
	p = tc_strndup("abcdef", 3, &err);
	ok(p && !strcmp(p, "abc"), "tc_strndup");
	free(p);
}

static void
test_buf(void)
{
	struct tc_buf b = {0}, back = {0};
	char path[] = "/tmp/tc-base-XXXXXX";
	int fd = mkstemp(path), same = 1;

	for (unsigned i = 0; i < 100000; i++)
		if (tc_buf_append(&b, &i, sizeof(i), &err) < 0)
			same = 0;
	for (unsigned i = 0; i < 100000; i++)
		same &= !memcmp(b.p + i * sizeof(i), &i, sizeof(i));
	ok(same && b.n == 400000, "a buffer grows and keeps what it had");
	ok(tc_buf_append(&b, NULL, 0, &err) == 0 && b.n == 400000, "appending nothing");
	err.code = 0;
	ok(tc_buf_reserve(&b, SIZE_MAX, &err) == -1 && err.code == TC_NOMEM && b.n == 400000, "an impossible size is refused: %s", err.msg);

	same = fd >= 0 && write(fd, b.p, b.n) == (ssize_t)b.n;
	ok(same && tc_read_file(path, &back, b.n, &err) == 0 && back.n == b.n && !memcmp(back.p, b.p, b.n), "a file is read whole");
	back.n = 0;
	ok(tc_read_file(path, &back, b.n - 1, &err) == -1 && err.code == TC_DATA, "but not a larger one than allowed: %s", err.msg);
	close(fd);
	unlink(path);
	ok(tc_read_file(path, &back, 10, &err) == -1 && err.code == TC_NOINPUT, "nor one that is not there: %s", err.msg);
	tc_buf_free(&b);
	tc_buf_free(&back);
	ok(!b.p && !b.n && !b.cap, "tc_buf_free leaves it empty");
}

/* The authors' own numbers: xoshiro256** from the state 1, 2, 3, 4 and
 * splitmix64 from 0. */
/* A pipe that has 5 bytes, and then no more. */
static void
test_io(void)
{
	int fd[2], full = open("/dev/full", O_WRONLY | O_CLOEXEC);
	char got[8] = "";

	if (!ok(pipe(fd) == 0 && tc_write_all(fd[1], "hello", 5, &err) == 0, "bytes are written"))
		return;
	close(fd[1]);
	ok(tc_read_some(fd[0], got, 2, &err) == 2 && tc_read_full(fd[0], got + 2, 6, &err) == 3 && !strcmp(got, "hello"),
	    "read in part, and as far as they go");
	ok(tc_read_some(fd[0], got, 8, &err) == 0 && tc_read_full(fd[0], got, 8, &err) == 0, "then there is nothing");
	close(fd[0]);
	ok(tc_read_full(fd[0], got, 8, &err) == -1 && err.code == TC_IO && !strncmp(err.msg, "read: ", 6), "%s", err.msg);
	if (full < 0) {
		skip("a full disk", "no /dev/full");
		return;
	}
	ok(tc_write_all(full, got, 8, &err) == -1 && err.code == TC_IO && !strncmp(err.msg, "write: ", 7), "%s", err.msg);
	close(full);
}

/* Held as the options say, it can be written and read, the descriptor closed. */
static int
is_held(size_t size_bytes, bool with_file, uint64_t above_bytes, bool in_file)
{
	FILE *f = tmpfile();
	struct tc_spill_options o = { .fd = with_file ? fileno(f) : -1, .above_bytes = above_bytes };
	struct tc_spill s;
	struct stat st;
	int right = tc_spill_open(&s, size_bytes, &o, &err) == 0 && s.mapped == in_file && (uintptr_t)s.p % TC_ALIGN == 0;

	right &= fstat(fileno(f), &st) == 0 && (size_t)st.st_size == (in_file ? size_bytes : 0);
	fclose(f);
	for (size_t i = 0; right && i < size_bytes; i++)
		((unsigned char *)s.p)[i] = (unsigned char)(i % 251);
	for (size_t i = 0; right && i < size_bytes; i++)
		right &= ((unsigned char *)s.p)[i] == i % 251;
	tc_spill_close(&s);
	return right && !s.p && !s.mapped;
}

static void
test_spill(void)
{
	enum { SIZE = 3 * 4096 + 100 };
	struct tc_spill s;
	int fd[2];

	ok(is_held(SIZE, false, 0, false) && is_held(SIZE, true, SIZE, false), "numbers are held in memory");
	ok(is_held(SIZE, true, SIZE - 1, true) && is_held(1, true, 0, true), "or, where they are too many, in a file");
	ok(is_held(0, true, 0, false), "none are held in memory");
	err.code = 0;
	ok(tc_spill_open(&s, SIZE_MAX, &(struct tc_spill_options){ .fd = -1 }, &err) == -1 && err.code == TC_NOMEM,
	    "more than there is memory for: %s", err.msg);
	tc_spill_close(&s);
	if (pipe(fd) < 0)
		exit(1);
	ok(tc_spill_open(&s, SIZE, &(struct tc_spill_options){ .fd = fd[1] }, &err) == -1 && err.code == TC_IO,
	    "a file that has no room: %s", err.msg);
	tc_spill_close(&s);
	close(fd[0]);
	close(fd[1]);
}

static void
test_rng(void)
{
	static const uint64_t want[] = {
		11520u, 0u, 1509978240u, 1215971899390074240u, 1216172134540287360u, 607988272756665600u,
		16172922978634559625u, 8476171486693032832u, 10595114339597558777u, 2904607092377533576u
	};
	struct tc_rng r = { { 1, 2, 3, 4 } };
	int same = 1, below = 1, inside = 1;
	uint64_t count[3] = {0};
	double sum = 0;

	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		same &= tc_rng_next(&r) == want[i];
	ok(same, "xoshiro256** gives the published numbers");
	tc_rng_seed(&r, 0);
	ok(r.s[0] == 0xe220a8397b1dcdafu && r.s[1] == 0x6e789e6aa1b965f4u && r.s[2] == 0x06c45d188009454fu &&
	    r.s[3] == 0xf88bb8a8724c81ecu, "the state is filled by splitmix64");
	for (int i = 0; i < 30000; i++) {
		uint64_t n = ((uint64_t)1 << 63) + 1;
		double u = tc_rng_unit(&r);

		count[tc_rng_below(&r, 3)]++;
		below &= tc_rng_below(&r, n) < n && tc_rng_below(&r, 1) == 0;
		inside &= u >= 0 && u < 1;
		sum += u;
	}
	ok(below, "tc_rng_below stays below");
	ok(count[0] > 9500 && count[1] > 9500 && count[2] > 9500, "and takes every value as often: %llu %llu %llu",
	    (unsigned long long)count[0], (unsigned long long)count[1], (unsigned long long)count[2]);
	ok(inside && sum > 14800 && sum < 15200, "tc_rng_unit lies in [0, 1), mean %.3f", sum / 30000);
}

static void
test_hash(void)
{
	static const char abc[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	char hex[TC_SHA256_HEX];
	struct tc_sha256 h;

	ok(tc_sha256_of("", 0, hex, &err) == 0 &&
	    !strcmp(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"), "SHA-256 of nothing");
	ok(tc_sha256_of("abc", 3, hex, &err) == 0 && !strcmp(hex, abc), "SHA-256 of abc");
	ok(tc_sha256_begin(&h, &err) == 0, "SHA-256 begins");
	tc_sha256_add(&h, "a", 1);
	tc_sha256_add(&h, "bc", 2);
	tc_sha256_end(&h, hex);
	ok(!strcmp(hex, abc), "and is the same in pieces");
}

struct visits {
	atomic_uint *seen;
	atomic_bool bad_worker;
	int threads;
};

static void
visit(void *ctx, size_t i, int worker)
{
	struct visits *v = ctx;

	atomic_fetch_add(&v->seen[i], 1);
	if (worker < 0 || worker >= v->threads)
		atomic_store(&v->bad_worker, true);
}

/* Many loops of all lengths, so that workers are met spinning and asleep. */
static void
test_pool(int threads)
{
	enum { LOOPS = 300, MOST = 200 };
	static atomic_uint seen[MOST];
	struct visits v = { .seen = seen, .threads = threads };
	unsigned want[MOST] = {0};
	struct tc_pool *pool = NULL;
	int right = 1;

	if (!ok(!threads || tc_pool_open(&pool, threads, &err) == 0, "a pool of %d threads", threads))
		return;
	v.threads = tc_pool_threads(pool);
	for (int i = 0; i < MOST; i++)
		atomic_store(&seen[i], 0);
	for (size_t l = 0; l < LOOPS; l++) {
		size_t n = l * 7 % MOST;

		if (l % 50 == 49)
			usleep(500);
		tc_pool_run(pool, n, visit, &v);
		for (size_t i = 0; i < n; i++)
			want[i]++;
		for (size_t i = 0; i < MOST; i++)
			right &= atomic_load(&seen[i]) == want[i];
	}
	ok(right, "%d threads: every iteration once, and done when the loop returns", threads);
	ok(!atomic_load(&v.bad_worker), "%d threads: workers are numbered below their count", threads);
	tc_pool_close(pool);
}

static void
count_up(void *ctx, size_t i, int worker)
{
	(void)i;
	(void)worker;
	atomic_fetch_add((atomic_uint *)ctx, 1);
}

/* Short loops, each longer than the last: with more threads than there are
 * cores, some come when their loop is over and the next one begins. */
static void
test_late_workers(void)
{
	enum { LOOPS = 40000, THREADS = 6 };
	struct tc_pool *pool;
	int right = 1;

	if (tc_pool_open(&pool, THREADS, &err) < 0)
		exit(1);
	for (unsigned l = 0; l < LOOPS; l++) {
		atomic_uint counts[2] = { 0, 0 };
		unsigned n = 2 + l % 7;

		tc_pool_run(pool, n, count_up, &counts[l % 2]);
		right &= atomic_load(&counts[l % 2]) == n && atomic_load(&counts[!(l % 2)]) == 0;
	}
	tc_pool_close(pool);
	ok(right, "workers that come late run nothing twice, and nothing of another loop");
}

int
main(void)
{
	test_err();
	test_mem();
	test_buf();
	test_io();
	test_spill();
	test_rng();
	test_hash();
	ok(tc_threads_allowed() >= 1 && tc_threads_allowed() <= TC_THREADS_MAX, "some threads are allowed");
	for (int threads = 0; threads <= 5; threads++) /* 0: no pool at all */
		test_pool(threads);
	test_late_workers();
	return done_testing();
}
