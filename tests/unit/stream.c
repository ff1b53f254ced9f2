/* Streams written and read back; streams that are damaged, cut, hostile. */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "stream/head.h"
#include "stream/reader.h"
#include "stream/writer.h"
#include "tap.h"
#include "tensor/mask.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1 /* as gcc says it */
#endif
#endif

#define MEMORY_LIMIT_BYTES ((rlim_t)256 << 20)

static struct tc_err err;

static void
must(int r)
{
	if (r < 0) {
		printf("Bail out! %s\n", err.msg);
		exit(1);
	}
}

/* A file in memory, and how to open it by name. */
static int
memory_file(const void *p, size_t n)
{
	int fd = memfd_create("stream", 0);

	if (fd < 0 || (n > 0 && write(fd, p, n) != (ssize_t)n) || lseek(fd, 0, SEEK_SET) < 0) {
		perror("Bail out! memfd");
		exit(1);
	}
	return fd;
}

static const char *
path_of(int fd)
{
	static char path[64];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return path;
}

static struct tc_buf
contents(int fd)
{
	struct tc_buf b = {0};

	must(lseek(fd, 0, SEEK_SET) < 0 ? -1 : 0);
	must(tc_read_fd(fd, "memory", &b, SIZE_MAX, &err));
	return b;
}

/* --- the sample: every kind, several formats, an unknown ancillary kind --- */

static unsigned char bytes[100000];

static struct tc_record
tensor(const char *name, uint64_t rows, uint64_t cols, struct tc_format f)
{
	struct tc_record r = { .kind = TC_KIND_TENSOR, .critical = true };
	struct tc_tensor *t = &r.u.tensor;

	snprintf(t->name, sizeof(t->name), "%s", name);
	t->role = TC_ROLE_Q;
	t->ndim = 2;
	t->shape[0] = rows;
	t->shape[1] = cols;
	t->format = f;
	must(tc_tensor_layout(t, &err));
	for (int i = 0; i < t->nparts; i++)
		t->part[i].data = bytes + 7 * i;
	return r;
}

static void
one_part(struct tc_record *r, size_t size_bytes)
{
	r->nparts = 1;
	r->part[0] = (struct tc_part){ "data", bytes, size_bytes };
}

/* Squared gradients of a tensor, over two nodes. */
static struct tc_record
fisher(enum tc_stat_kind kind, enum tc_role role, int block, uint64_t dim, struct tc_node *nodes)
{
	struct tc_record r = { .kind = TC_KIND_STAT, .u.stat = { .kind = kind, .role = role, .bias = kind == TC_STAT_FISHER_GROUP,
	    .block = block, .tag = "fisher", .place = 1, .dim = dim, .group = kind == TC_STAT_FISHER_GROUP ? 32 : 0,
	    .nnodes = 2, .node = nodes } };

	one_part(&r, 2 * tc_stat_values(kind, dim) * tc_dtypes[tc_stat_dtype(kind)].size_bytes);
	return r;
}

/* An ancillary kind of the future, made by hand: {kind, critical, colour, parts}. */
static struct tc_record
other(struct tc_buf *head, bool critical)
{
	static const char begin[] = "\x84\xa4kind\xa6sketch\xa8" "critical", end[] = "\xa6" "colour\xa3red\xa5parts\x92\x92\xa1" "a\x05\x92\xa1" "b\x00";
	struct tc_record r = { .kind = TC_KIND_OTHER, .critical = critical, .nparts = 2 };

	must(tc_buf_append(head, begin, sizeof(begin) - 1, &err));
	must(tc_buf_append(head, critical ? "\xc3" : "\xc2", 1, &err));
	must(tc_buf_append(head, end, sizeof(end) - 1, &err));
	r.raw = head->p;
	r.raw_bytes = head->n;
	r.part[0] = (struct tc_part){ "a", "green", 5 };
	r.part[1] = (struct tc_part){ "b", NULL, 0 };
	return r;
}

static void
sample_header(struct tc_header *h)
{
	*h = (struct tc_header){ .tied = true, .parameters = 16000000 };
	h->config = tc_strndup("{\"model_type\": \"llama\"}", 23, &err);
	h->config_bytes = 23;
	must(tc_header_add_step(h, "tc-import", "0123456789abcdef", "", "", &err));
	must(tc_header_add_step(h, "tc-calib", "0123456789abcdef", "avx2", "--samples 2 --seqlen 3", &err));
	h->step[0].input = 0x1122334455667788;
	h->step[1].input = 5;
}

static void
put_all_kinds(struct tc_writer *w)
{
	static uint64_t lengths[] = { 3, 0, 5 };
	static struct tc_node nodes[] = { { 1, 0, 6 }, { 0, 2, 3 } };
	struct tc_buf head = {0};
	struct tc_record r = { .kind = TC_KIND_FILE };

	snprintf(r.u.file.name, sizeof(r.u.file.name), "tokenizer.json");
	one_part(&r, 100);
	must(tc_writer_put(w, &r, &err));
	r = (struct tc_record){ .kind = TC_KIND_TOKENS, .u.tokens = { .tag = "calib", .first = 7, .nseq = 3, .length = lengths } };
	one_part(&r, 32);
	must(tc_writer_put(w, &r, &err));
	r = (struct tc_record){ .kind = TC_KIND_STAT, .u.stat = { .kind = TC_STAT_HESSIAN, .site = TC_SITE_HEAD_IN, .block = -1,
	    .tag = "calib", .place = 1, .dim = 4, .nnodes = 2, .node = nodes } };
	one_part(&r, 2 * 10 * 4);
	must(tc_writer_put(w, &r, &err));
	r = fisher(TC_STAT_FISHER_GROUP, TC_ROLE_K, 1, 3 * 2, nodes);
	must(tc_writer_put(w, &r, &err));
	r = fisher(TC_STAT_FISHER, TC_ROLE_FINAL_NORM, -1, TC_FISHER_DIM, nodes);
	must(tc_writer_put(w, &r, &err));
	r = tensor("model.q", 3, 40, (struct tc_format){ .encoding = TC_DENSE, .dtype = TC_BF16 });
	must(tc_writer_put(w, &r, &err));
	r = tensor("model.k", 3, 40, (struct tc_format){ .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 3, .group = 32, .zero = TC_ZERO_INT });
	must(tc_writer_put(w, &r, &err));
	r = tensor("model.v", 2, 8, (struct tc_format){ .encoding = TC_UNIFORM, .dtype = TC_F32, .bits = 8, .group = TC_GROUP_TENSOR, .zero = TC_ZERO_MIN });
	must(tc_writer_put(w, &r, &err));
	r = tensor("model.o", 2, 8, (struct tc_format){ .encoding = TC_CODEBOOK, .dtype = TC_F16, .bits = 4, .group = 4 });
	must(tc_writer_put(w, &r, &err));
	r = other(&head, false);
	must(tc_writer_put(w, &r, &err));
	r = (struct tc_record){ .kind = TC_KIND_REF, .critical = true, .u.ref = { .role = TC_ROLE_HEAD, .to = "model.q" } };
	must(tc_writer_put(w, &r, &err));
	tc_buf_free(&head);
}

static struct tc_buf
sample(size_t chunk_bytes)
{
	int fd = memory_file(NULL, 0);
	struct tc_header h;
	struct tc_writer *w;
	struct tc_buf b;

	sample_header(&h);
	must(tc_writer_open(&w, fd, "sample", &err));
	if (chunk_bytes)
		tc_writer_set_chunk(w, chunk_bytes);
	must(tc_writer_header(w, &h, &err));
	put_all_kinds(w);
	must(tc_writer_end(w, &h, &err));
	tc_writer_free(w);
	tc_header_free(&h);
	b = contents(fd);
	close(fd);
	return b;
}

/* --- reading --- */

unsigned char sum; /* not static: the reads must not be optimised away */

/* Reads to the end; 0 or -1 and err.  Touches every payload byte. */
static int
drain(struct tc_source *s)
{
	struct tc_record r;
	int k, n;

	while ((k = tc_source_next(s, &r, &err)) > 0) {
		const struct tc_part *part = tc_record_parts(&r, &n);

		for (int i = 0; i < n; i++)
			for (size_t j = 0; part[i].data && j < part[i].size_bytes; j++)
				sum ^= ((const unsigned char *)part[i].data)[j];
	}
	return k;
}

static int
read_with(int opened, struct tc_source *s)
{
	int k = opened < 0 ? -1 : drain(s);

	tc_source_close(s);
	return k;
}

static int
read_both(const void *p, size_t n, int *mapped)
{
	int fd = memory_file(p, n), k, opened;
	struct tc_source *s;

	opened = tc_reader_open_file(&s, path_of(fd), &err);
	*mapped = read_with(opened, s);
	opened = tc_reader_open_fd(&s, fd, "stream", &err);
	k = read_with(opened, s);
	close(fd);
	return k;
}

/* Both ways must fail, with this code and these words in the message. */
static void
refused(const void *p, size_t n, int code, const char *words, const char *what)
{
	int mapped, k = read_both(p, n, &mapped);

	if (!ok(k < 0 && mapped < 0 && err.code == code && strstr(err.msg, words), "%s", what))
		printf("# %d %d, code %d: %s\n", k, mapped, err.code, err.msg);
}

/* --- round trips --- */

/* Copies a stream; heads as they were, or made anew where the kind is known. */
static struct tc_buf
rewrite(struct tc_source *s, bool keep_heads)
{
	int fd = memory_file(NULL, 0), k;
	struct tc_writer *w;
	struct tc_record r;
	struct tc_buf b;

	must(tc_writer_open(&w, fd, "copy", &err));
	must(tc_writer_header(w, &s->header, &err));
	while ((k = tc_source_next(s, &r, &err)) > 0) {
		if (!keep_heads && r.kind != TC_KIND_OTHER)
			r.raw = NULL;
		must(tc_writer_put(w, &r, &err));
	}
	must(k);
	must(tc_writer_end(w, &s->header, &err));
	tc_writer_free(w);
	b = contents(fd);
	close(fd);
	return b;
}

struct feed {
	const struct tc_buf *b;
	int fd;
	size_t step;
};

static void *
feed_pipe(void *arg)
{
	struct feed *f = arg;

	for (size_t at = 0; at < f->b->n; at += f->step)
		if (write(f->fd, f->b->p + at, tc_min(f->step, f->b->n - at)) < 0)
			break;
	close(f->fd);
	return NULL;
}

static void
same_bytes(const struct tc_buf *a, struct tc_buf b, const char *what)
{
	ok(a->n == b.n && memcmp(a->p, b.p, b.n) == 0, "%s", what);
	tc_buf_free(&b);
}

static void
pipe_round_trip(const struct tc_buf *b, size_t step, const char *what)
{
	struct tc_source *s;
	struct feed f = { b, -1, step };
	pthread_t t;
	int fd[2];

	must(pipe(fd));
	f.fd = fd[1];
	pthread_create(&t, NULL, feed_pipe, &f);
	must(tc_reader_open_fd(&s, fd[0], "pipe", &err));
	same_bytes(b, rewrite(s, true), what);
	ok(s->bytes == b->n && s->header.step[0].input == 0x1122334455667788 && s->records == 12, "%s: what the source knows at its end", what);
	tc_source_close(s);
	pthread_join(t, NULL);
	close(fd[0]);
}

static void
file_round_trip(const struct tc_buf *from, const struct tc_buf *want, bool keep_heads, const char *what)
{
	int fd = memory_file(from->p, from->n);
	struct tc_source *s;

	must(tc_reader_open_file(&s, path_of(fd), &err));
	same_bytes(want, rewrite(s, keep_heads), what);
	tc_source_close(s);
	close(fd);
}

static void
test_fields(const struct tc_buf *b)
{
	int fd = memory_file(b->p, b->n);
	struct tc_source *s;
	struct tc_record r;

	must(tc_reader_open_file(&s, path_of(fd), &err));
	ok(s->header.tied && s->header.parameters == 16000000 && s->header.nsteps == 2 &&
	    strcmp(s->header.step[1].options, "--samples 2 --seqlen 3") == 0 && s->header.config_bytes == 23, "the header's fields");
	must(tc_source_next(s, &r, &err));
	ok(r.kind == TC_KIND_FILE && strcmp(r.u.file.name, "tokenizer.json") == 0 && memcmp(r.part[0].data, bytes, 100) == 0, "a file's");
	must(tc_source_next(s, &r, &err));
	ok(r.kind == TC_KIND_TOKENS && r.u.tokens.first == 7 && r.u.tokens.nseq == 3 && r.u.tokens.length[2] == 5, "tokens'");
	must(tc_source_next(s, &r, &err));
	ok(r.kind == TC_KIND_STAT && r.u.stat.kind == TC_STAT_HESSIAN && r.u.stat.block == -1 && r.u.stat.node[1].index == 2 &&
	    r.u.stat.node[0].count == 6 && r.u.stat.place == 1, "a statistic's");
	must(tc_source_next(s, &r, &err));
	ok(r.u.stat.kind == TC_STAT_FISHER_GROUP && r.u.stat.role == TC_ROLE_K && r.u.stat.bias && r.u.stat.block == 1 &&
	    r.u.stat.dim == 6 && r.u.stat.group == 32 && r.u.stat.nnodes == 2, "a tensor's statistic's");
	must(tc_source_next(s, &r, &err));
	ok(r.u.stat.kind == TC_STAT_FISHER && r.u.stat.role == TC_ROLE_FINAL_NORM && !r.u.stat.bias && r.u.stat.block == -1 &&
	    r.u.stat.group == 0 && memcmp(r.part[0].data, bytes, 32) == 0, "and another's, outside the blocks");
	must(tc_source_next(s, &r, &err));
	ok(r.kind == TC_KIND_TENSOR && r.critical && r.u.tensor.shape[1] == 40 && (uintptr_t)r.u.tensor.part[0].data % TC_ALIGN == 0, "a tensor's");
	must(tc_source_next(s, &r, &err));
	ok(r.u.tensor.nparts == 3 && r.u.tensor.format.bits == 3 && r.u.tensor.format.group == 32 &&
	    memcmp(r.u.tensor.part[1].data, bytes + 7, r.u.tensor.part[1].size_bytes) == 0, "a packed tensor's");
	must(tc_source_next(s, &r, &err));
	must(tc_source_next(s, &r, &err));
	ok(r.u.tensor.format.encoding == TC_CODEBOOK && r.u.tensor.format.bits == 4 && r.u.tensor.format.group == 4 &&
	    r.u.tensor.format.dtype == TC_F16 && r.u.tensor.nparts == 3 && strcmp(r.u.tensor.part[2].name, "codebook") == 0 &&
	    r.u.tensor.part[2].size_bytes == 64, "a tensor's with a codebook");
	must(tc_source_next(s, &r, &err));
	ok(r.kind == TC_KIND_OTHER && r.nparts == 2 && strcmp(r.part[0].name, "a") == 0 && memcmp(r.part[0].data, "green", 5) == 0 &&
	    r.part[1].size_bytes == 0, "an unknown ancillary record's parts");
	must(tc_source_next(s, &r, &err));
	ok(r.kind == TC_KIND_REF && r.u.ref.role == TC_ROLE_HEAD && strcmp(r.u.ref.to, "model.q") == 0, "a ref's");
	ok(tc_source_next(s, &r, &err) == 0 && tc_source_next(s, &r, &err) == 0, "the end, again and again");
	tc_source_close(s);
	close(fd);
}

/* A payload of several chunks is put together, and lasts as long as the
 * mapping does. */
static void
test_kept_copies(const struct tc_buf *cut)
{
	int fd = memory_file(cut->p, cut->n), n;
	const void *first = NULL;
	bool listed = false;
	struct tc_source *s;
	struct tc_record r;

	must(tc_reader_open_file(&s, path_of(fd), &err));
	while (tc_source_next(s, &r, &err) > 0)
		if (!first)
			first = tc_record_parts(&r, &n)->data;
	ok(first && memcmp(first, bytes, 100) == 0 && (uintptr_t)first % TC_ALIGN == 0, "a copied part of a mapped stream lasts");
	tc_source_close(s);
	must(tc_reader_open_file(&s, path_of(fd), &err));
	s->spare_payloads = true;
	ok(tc_source_next(s, &r, &err) == 1 && r.part[0].data == NULL, "spared payloads are skipped");
	while (tc_source_next(s, &r, &err) > 0)
		if (r.kind == TC_KIND_STAT && r.u.stat.kind == TC_STAT_FISHER)
			listed = r.part[0].data != NULL && memcmp(r.part[0].data, bytes, 32) == 0;
	ok(listed && s->hash != 0, "but not the sums that are listed");
	tc_source_close(s);
	close(fd);
}

static void
test_map_fd(const struct tc_buf *b)
{
	int fd = memory_file(b->p, b->n);
	struct tc_source *s;

	must(lseek(fd, 5, SEEK_SET) < 0 ? -1 : 0);
	must(tc_reader_map_fd(&s, fd, "stream", &err));
	close(fd);
	ok(s->mapped, "a descriptor that is mapped");
	same_bytes(b, rewrite(s, true), "is read from its beginning, and is not needed then");
	tc_source_close(s);
	fd = memory_file(NULL, 0);
	ok(tc_reader_map_fd(&s, fd, "stream", &err) < 0 && err.code == TC_NOINPUT && strstr(err.msg, "stream: empty"), "an empty one");
	close(fd);
}

static void
test_large(void)
{
	struct tc_format f = { .encoding = TC_DENSE, .dtype = TC_F32 };
	size_t size = (size_t)5 << 20;
	struct tc_record r = tensor("big", size / 4096, 1024, f), got;
	unsigned char *p = malloc(size);
	int fd = memory_file(NULL, 0), k;
	struct tc_source *s;
	struct tc_writer *w;
	struct tc_header h;

	for (size_t i = 0; i < size; i++)
		p[i] = (unsigned char)(i * 2654435761u >> 13);
	r.u.tensor.part[0].data = p;
	sample_header(&h);
	must(tc_writer_open(&w, fd, "large", &err));
	tc_writer_set_chunk(w, 1000);
	must(tc_writer_header(w, &h, &err));
	must(tc_writer_put(w, &r, &err));
	tc_writer_set_chunk(w, size);
	snprintf(r.u.tensor.name, TC_NAME_MAX, "big too");
	must(tc_writer_put(w, &r, &err));
	must(tc_writer_end(w, &h, &err));
	must(lseek(fd, 0, SEEK_SET) < 0 ? -1 : 0);
	must(tc_reader_open_fd(&s, fd, "large", &err));
	for (int i = 0; i < 2; i++) {
		k = tc_source_next(s, &got, &err);
		ok(k == 1 && memcmp(got.u.tensor.part[0].data, p, size) == 0, "5 MiB in chunks of %d bytes", i ? (int)size : 1000);
	}
	ok(tc_source_next(s, &got, &err) == 0, "and the end");
	tc_source_close(s);
	tc_writer_free(w);
	tc_header_free(&h);
	free(p);
	close(fd);
}

/* --- damage --- */

static void
test_truncation(const struct tc_buf *b, const char *what)
{
	size_t bad = 0;

	for (size_t n = 1; n < b->n; n++) {
		int mapped, k = read_both(b->p, n, &mapped);

		bad += k == 0 || mapped == 0 || err.code != TC_DATA || !strstr(err.msg, "input ended early");
	}
	ok(bad == 0, "cut at every byte of %s: input ended early (%zu bad)", what, bad);
	refused(b->p, 0, TC_NOINPUT, "empty: did the upstream stage fail?", "no bytes at all");
}

static void
test_flips(const struct tc_buf *b, const char *what)
{
	static const unsigned char flips[] = { 1, 2, 4, 8, 16, 32, 64, 128, 255 };
	size_t bad = 0;

	for (size_t i = 0; i < b->n; i++)
		for (size_t j = 0; j < sizeof(flips); j++) {
			int mapped, k;

			b->p[i] ^= flips[j];
			k = read_both(b->p, b->n, &mapped);
			if (k == 0 || mapped == 0 || err.code != TC_DATA) {
				printf("# byte %zu ^ %u: %d %d code %d\n", i, flips[j], k, mapped, err.code);
				bad++;
			}
			b->p[i] ^= flips[j];
		}
	ok(bad == 0, "every byte of %s flipped is found (%zu are not)", what, bad);
}

/* Bytes of the header with its hash: where the first record begins. */
static size_t
header_bytes(const struct tc_buf *b)
{
	return (size_t)tc_msgpack_extent(b->p, b->n, b->n, TC_HEAD_DEPTH_MAX) + TC_HASH_BYTES;
}

/* The sample's header, then these bytes. */
static struct tc_buf
after_header(const struct tc_buf *b, const void *p, size_t n)
{
	struct tc_buf out = {0};

	must(tc_buf_append(&out, b->p, header_bytes(b), &err));
	must(tc_buf_append(&out, p, n, &err));
	return out;
}

static void
refused_after_header(const struct tc_buf *b, const void *p, size_t n, const char *words, const char *what)
{
	struct tc_buf in = after_header(b, p, n);

	refused(in.p, in.n, TC_DATA, words, what);
	tc_buf_free(&in);
}

static void
hostile(const struct tc_buf *b)
{
	static const char bomb[] = "\xdd\x0f\xff\xff\xff", bin[] =
	    "\x84\xa4kind\xa4" "file\xa8" "critical\xc2\xa4name\xa1x\xa5parts\x91\x92\xa4" "data\xcf\0\0\0\xff\xff\xff\xff\xff\xc6\xff\xff\xff\xff" "abc";
	unsigned char deep[4096];

	refused(bomb, 5, TC_DATA, "not a tinycompress stream", "dd 0f ff ff ff at the start");
	refused_after_header(b, bomb, 5, "not a head", "dd 0f ff ff ff after the header");
	refused_after_header(b, "\x81\xa4kind\xdd\x0f\xff\xff\xff", 11, "not a head", "dd 0f ff ff ff inside a head");
	refused_after_header(b, "\x81\xa4kind\xdb\xff\xff\xff\xff", 11, "not a head", "a string of 4 GiB");
	memset(deep, 0x91, sizeof(deep));
	refused_after_header(b, deep, sizeof(deep), "not a head", "arrays in arrays");
	memset(deep, 0x81, sizeof(deep));
	refused_after_header(b, deep, sizeof(deep), "not a head", "maps in maps");
	refused_after_header(b, bin, sizeof(bin) - 1, "ended early", "a payload said to have a terabyte");
}

/* With little memory to be had: what reserves gigabytes gets another error. */
static void
test_hostile(const struct tc_buf *b)
{
#if defined(__SANITIZE_ADDRESS__)
	skip("a memory limit for what follows", "the address sanitizer needs terabytes");
	hostile(b);
#else
	struct rlimit before, limit;

	must(getrlimit(RLIMIT_AS, &before));
	limit = before;
	limit.rlim_cur = MEMORY_LIMIT_BYTES;
	ok(setrlimit(RLIMIT_AS, &limit) == 0, "a memory limit for what follows");
	hostile(b);
	must(setrlimit(RLIMIT_AS, &before));
#endif
}

/* --- streams that are well-formed but wrong --- */

/* A stream of header, these records, and the end. */
static struct tc_buf
stream_of_all(const struct tc_record *const *r, int n)
{
	int fd = memory_file(NULL, 0);
	struct tc_header h;
	struct tc_writer *w;
	struct tc_buf b;

	sample_header(&h);
	must(tc_writer_open(&w, fd, "stream", &err));
	must(tc_writer_header(w, &h, &err));
	for (int i = 0; i < n; i++)
		must(tc_writer_put(w, r[i], &err));
	must(tc_writer_end(w, &h, &err));
	tc_writer_free(w);
	tc_header_free(&h);
	b = contents(fd);
	close(fd);
	return b;
}

static struct tc_buf
stream_of(const struct tc_record *r, int times)
{
	return stream_of_all((const struct tc_record *const[]){ r, r }, times);
}

static void
refused_record(const struct tc_record *r, int times, const char *words, const char *what)
{
	struct tc_buf b = stream_of(r, times);

	refused(b.p, b.n, TC_DATA, words, what);
	tc_buf_free(&b);
}

static void
test_wrong_records(void)
{
	struct tc_format f = { .encoding = TC_DENSE, .dtype = TC_F16 };
	struct tc_record r = tensor("model.q", 4, 4, f);
	struct tc_node nodes[] = { { 0, 1, 6 }, { 1, 0, 3 } };
	struct tc_buf head = {0};
	uint64_t length = 9;

	refused_record(&r, 2, "tensor model.q) at byte", "a tensor that comes twice");
	refused_record(&r, 2, "comes twice", "... is named so");
	r.u.tensor.part[0].size_bytes--;
	refused_record(&r, 1, "31 bytes, its format and shape ask for \"data\" of 32", "a part that contradicts the shape");
	r.u.tensor.shape[0] = r.u.tensor.shape[1] = UINT64_MAX / 2;
	refused_record(&r, 1, "model.q", "a shape that overflows");
	r = other(&head, true);
	refused_record(&r, 1, "\"sketch\" are not known", "an unknown critical kind");
	r = (struct tc_record){ .kind = TC_KIND_FILE, .u.file.name = "../../etc/passwd" };
	one_part(&r, 3);
	refused_record(&r, 1, "not a plain file name", "a file name that leads elsewhere");
	r = (struct tc_record){ .kind = TC_KIND_TOKENS, .u.tokens = { .tag = "calib", .nseq = 1, .length = &length } };
	one_part(&r, 32);
	refused_record(&r, 1, "asks for 36", "tokens that contradict their lengths");
	r = (struct tc_record){ .kind = TC_KIND_STAT, .u.stat = { .kind = TC_STAT_SQ, .site = TC_SITE_MLP_IN, .dim = 4, .nnodes = 2, .node = nodes } };
	one_part(&r, 64);
	refused_record(&r, 1, "ascending order", "statistics whose nodes overlap");
	r.u.stat.nnodes = 1;
	refused_record(&r, 1, "asks for 32", "statistics that contradict their dimension");
	r.u.stat.dim = UINT64_MAX;
	refused_record(&r, 1, "dim", "statistics of too many dimensions");
	tc_buf_free(&head);
}

/* In place of a word of the head another one of the same length. */
static void
refused_word(const struct tc_record *r, const char *word, const char *other, const char *words, const char *what)
{
	struct tc_buf b = stream_of(r, 1);
	size_t n = strlen(word);
	/* The header's configuration comes before. */
	unsigned char *at = memmem(b.p + header_bytes(&b), b.n - header_bytes(&b), word, n);

	if (ok(at && strlen(other) == n, "%s: said in the head", what)) {
		memcpy(at, other, n);
		refused(b.p, b.n, TC_DATA, words, what);
	}
	tc_buf_free(&b);
}

static void
test_wrong_fisher(void)
{
	static struct tc_node nodes[] = { { 1, 0, 6 }, { 0, 2, 3 } };
	struct tc_node overlap[] = { { 0, 1, 6 }, { 1, 0, 3 } };
	struct tc_record r = fisher(TC_STAT_FISHER, TC_ROLE_Q, 0, 3, nodes);

	refused_record(&r, 1, "fisher of 3 dimensions", "sums of gradients that are not two");
	r = fisher(TC_STAT_FISHER, TC_ROLE_Q, 0, TC_FISHER_DIM, overlap);
	refused_record(&r, 1, "ascending order", "gradients whose nodes overlap");
	for (int k = TC_STAT_SITE_KINDS; k < TC_STAT_KINDS; k++) {
		uint64_t dim = k == TC_STAT_FISHER ? TC_FISHER_DIM : 6;

		r = fisher((enum tc_stat_kind)k, TC_ROLE_Q, -1, dim, nodes);
		refused_record(&r, 1, "role q in block -1", "gradients of a block's tensor outside the blocks");
		r = fisher((enum tc_stat_kind)k, TC_ROLE_HEAD, 3, dim, nodes);
		refused_record(&r, 1, "role head in block 3", "gradients of the head in a block");
		r = fisher((enum tc_stat_kind)k, TC_ROLE_Q, 0, dim, nodes);
		r.u.stat.bias = false;
		r.part[0].size_bytes--;
		refused_record(&r, 1, "its head asks for", "gradients that contradict their dimension");
		r.part[0].size_bytes++;
		r.u.stat.place = 2;
		refused_record(&r, 1, "measured by step 2 of 2", "gradients measured by a step that is none");
		r.u.stat.place = 1;
		r.u.stat.dim = 0;
		refused_record(&r, 1, "of 0 dimensions", "gradients of nothing");
		r.u.stat.dim = dim;
		refused_word(&r, "\xa4role\xa1q", "\xa4role\xa1z", "\"role\": \"z\" is not known", "gradients of an unknown role");
		refused_word(&r, "\xa4role", "\xa4rule", "\"role\" is missing", "gradients of no role");
		refused_word(&r, "\xa4part\xa6weight", "\xa4part\xa6" "eights", "\"eights\" is not known", "of an unknown part");
		refused_word(&r, tc_stat_dtype(r.u.stat.kind) == TC_F64 ? "f64" : "f32",
		    tc_stat_dtype(r.u.stat.kind) == TC_F64 ? "f32" : "f64", "as f", "and of another type");
	}
	/* The last one was of groups. */
	r.u.stat.group = 0;
	refused_record(&r, 1, "groups of no inputs", "gradients of empty groups");
	r.u.stat.group = 32;
	refused_word(&r, "\xa5group", "\xa5grope", "\"group\" is missing", "of groups of no size");
}

/* Everything that a tensor can have, written and read. */
static void
test_whole_tensor(void)
{
	static const uint16_t counts[4] = { 0, 1, 0, 2 }, columns[3] = { 5, 0, 63 };
	struct tc_record r = { .kind = TC_KIND_TENSOR, .critical = true };
	struct tc_tensor *t = &r.u.tensor, *got;
	struct tc_record back;
	struct tc_source *s;
	struct tc_buf b;
	int fd;

	*t = (struct tc_tensor){ .name = "model.q", .role = TC_ROLE_Q, .ndim = 2, .shape = { 4, 64 }, .sparse = 3, .nops = 2,
		.format = { .encoding = TC_PRODUCT, .dtype = TC_U8, .bits = 5, .group = 16, .vector = 8, .stages = 2 },
		.residual = { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 2, .group = 32, .zero = TC_ZERO_MIN },
		.op = { { .kind = TC_OP_SCALE }, { TC_OP_HADAMARD, 32, 1234567890123 } } };
	must(tc_tensor_layout(t, &err));
	for (int i = 0; i < t->nparts; i++)
		t->part[i].data = strcmp(t->part[i].name, "sparse_counts") == 0 ? (const void *)counts :
		    strcmp(t->part[i].name, "sparse_columns") == 0 ? (const void *)columns : bytes + 7 * i;
	b = stream_of(&r, 1);
	fd = memory_file(b.p, b.n);
	must(tc_reader_open_file(&s, path_of(fd), &err));
	must(tc_source_next(s, &back, &err));
	got = &back.u.tensor;
	ok(got->nparts == t->nparts && memcmp(&got->format, &t->format, sizeof(t->format)) == 0 &&
	    memcmp(&got->residual, &t->residual, sizeof(t->residual)) == 0 && got->sparse == 3 && got->nops == 2 &&
	    got->op[0].kind == TC_OP_SCALE && got->op[1].kind == TC_OP_HADAMARD && got->op[1].block == 32 &&
	    got->op[1].seed == 1234567890123 && !got->book_of[0], "formats, sparse numbers and input ops come back");
	ok(tc_source_next(s, &back, &err) == 0, "and the end");
	tc_source_close(s);
	close(fd);
	tc_buf_free(&b);
	refused_word(&r, "\xa6stages", "\xa6stagez", "\"stages\" is missing", "a product of unknown stages");
	refused_word(&r, "hadamard", "hadamart", "\"hadamart\" is not known", "an unknown input op");
	refused_word(&r, "\xa2op\xa5scale", "\xa2oq\xa5scale", "\"op\" is missing", "an input op without a name");
	refused_word(&r, "\xa6sparse\x03", "\xa6sparse\x04", "ask for \"sparse_columns\" of 8", "a sparse number more");
	refused_word(&r, "\xa5" "block\x20", "\xa5" "block\x21", "does not fit 64 inputs", "a transform of 33");
	t->part[t->nparts - 3].data = bytes + 1000; /* sparse_columns */
	refused_record(&r, 1, "out of order", "sparse numbers out of order");
}

/* A tensor that stores some of its weights. */
static void
test_masked_tensor(void)
{
	struct tc_tensor t = { .name = "model.q", .role = TC_ROLE_Q, .ndim = 2, .shape = { 40, 20 }, .format.dtype = TC_BF16 };
	static const uint16_t numbers[40 * 20] = { 0x3f80, 0x4000 };
	uint64_t keep[40] = { 0 };
	struct tc_record r = { .kind = TC_KIND_TENSOR, .critical = true }, back;
	struct tc_source *s;
	struct tc_kept k;
	struct tc_buf b;
	int fd;

	must(tc_tensor_layout(&t, &err));
	t.part[0].data = numbers;
	for (int i = 0; i < 40; i++)
		keep[i] = 0x55aa5;
	must(tc_mask_apply(&k, &t, keep, &err));
	r.u.tensor = k.t;
	b = stream_of(&r, 1);
	fd = memory_file(b.p, b.n);
	must(tc_reader_open_file(&s, path_of(fd), &err));
	must(tc_source_next(s, &back, &err));
	ok(back.u.tensor.mask == TC_MASK_2OF4 && back.u.tensor.stored == 400 && back.u.tensor.nparts == 2, "a mask comes back");
	tc_source_close(s);
	close(fd);
	tc_buf_free(&b);
	refused_word(&r, "2:4", "3:4", "\"3:4\" is not known", "an unknown mask");
	refused_word(&r, "stored", "storet", "\"stored\" is missing", "a mask of unknown many");
	((uint8_t *)r.u.tensor.part[1].data)[0] = 216;
	refused_record(&r, 1, "row 0: a mask that cannot be", "a pattern that there is not");
	tc_kept_free(&k);
}

/* A tensor that is nothing but factors. */
static void
test_factored_tensor(void)
{
	struct tc_record r = { .kind = TC_KIND_TENSOR, .critical = true }, back;
	struct tc_tensor *t = &r.u.tensor, *got = &back.u.tensor;
	struct tc_source *s;
	struct tc_buf b;
	int fd;

	*t = (struct tc_tensor){ .name = "model.q", .role = TC_ROLE_Q, .ndim = 2, .shape = { 6, 64 }, .format.encoding = TC_NONE,
		.rank = 3, .factor = { .encoding = TC_UNIFORM, .dtype = TC_F16, .bits = 4, .group = 32, .zero = TC_ZERO_INT } };
	must(tc_tensor_layout(t, &err));
	for (int i = 0; i < t->nparts; i++)
		t->part[i].data = bytes + 7 * i;
	b = stream_of(&r, 1);
	fd = memory_file(b.p, b.n);
	must(tc_reader_open_file(&s, path_of(fd), &err));
	must(tc_source_next(s, &back, &err));
	ok(got->rank == 3 && got->format.encoding == TC_NONE && memcmp(&got->factor, &t->factor, sizeof(t->factor)) == 0 &&
	    got->nparts == 6 && tc_tensor_bytes(got) == tc_tensor_bytes(t) &&
	    memcmp(got->part[5].data, t->part[5].data, t->part[5].size_bytes) == 0, "factors come back");
	tc_source_close(s);
	close(fd);
	tc_buf_free(&b);
	refused_word(&r, "rank\x03", "rank\x02", "part \"u_codes\" of 12 bytes", "a rank less");
	refused_word(&r, "rank\x03", "rank\x07", "factors of rank 7", "a rank above the rows");
	refused_word(&r, "\xa4rank", "\xa4rang", "factors of rank 0", "nothing at all");
	refused_word(&r, "factor", "fbctor", "\"factor\" is missing", "factors of no format");
}

/* A codebook that a tensor brings serves those that come after it. */
static void
test_shared_codebook(void)
{
	struct tc_format f = { .encoding = TC_PRODUCT, .dtype = TC_F16, .bits = 4, .group = TC_GROUP_TENSOR, .vector = 8, .stages = 1 };
	struct tc_record r[3] = { tensor("model.q", 4, 16, f), tensor("model.k", 4, 16, f), tensor("model.v", 4, 16, f) };
	struct tc_record back;
	struct tc_source *s;
	struct tc_buf b;
	int fd, mapped;

	for (int i = 1; i < 3; i++) {
		struct tc_tensor *t = &r[i].u.tensor;

		t->role = i == 1 ? TC_ROLE_K : TC_ROLE_V;
		strcpy(t->book_of, "model.q");
		must(tc_tensor_layout(t, &err));
		for (int p = 0; p < t->nparts; p++)
			t->part[p].data = bytes;
	}
	b = stream_of_all((const struct tc_record *const[]){ &r[0], &r[1], &r[2] }, 3);
	fd = memory_file(b.p, b.n);
	for (mapped = 0; mapped < 2; mapped++) {
		bool same = true;
		int n = 0;

		(void)!lseek(fd, 0, SEEK_SET);
		must(mapped ? tc_reader_open_file(&s, path_of(fd), &err) : tc_reader_open_fd(&s, dup(fd), "fd", &err));
		for (; tc_source_next(s, &back, &err) > 0; n++)
			same &= memcmp(tc_tensor_book(&back.u.tensor), r[0].u.tensor.part[2].data, tc_format_book_bytes(&f)) == 0;
		ok(n == 3 && same && back.u.tensor.nparts == 2, "a codebook of three tensors, %s", mapped ? "mapped" : "streamed");
		tc_source_close(s);
	}
	close(fd);
	tc_buf_free(&b);
	refused_record(&r[1], 1, "uses the codebook of model.q, which did not come", "a codebook that is not there");
	r[1].u.tensor.format.bits = 3;
	must(tc_tensor_layout(&r[1].u.tensor, &err));
	r[1].u.tensor.part[0].data = r[1].u.tensor.part[1].data = bytes;
	b = stream_of_all((const struct tc_record *const[]){ &r[0], &r[1] }, 2);
	refused(b.p, b.n, TC_DATA, "not one for its codes", "a codebook of another size");
	tc_buf_free(&b);
}

static void
test_wrong_streams(struct tc_buf *b)
{
	static const char text[] = "It was a dark and stormy night; the rain fell in torrents.\n";
	struct tc_buf more = {0};

	refused(text, sizeof(text), TC_DATA, "not a tinycompress stream", "a text");
	refused("{", 1, TC_DATA, "not a tinycompress stream", "one byte of text");
	must(tc_buf_append(&more, b->p, b->n, &err));
	must(tc_buf_append(&more, b->p, b->n, &err));
	refused(more.p, more.n, TC_DATA, "bytes follow the end record", "two streams in one");
	more.p[14] = 2;
	refused(more.p, more.n, TC_DATA, "version 2, this program reads version 1", "a version to come");
	tc_buf_free(&more);
	refused_after_header(b, "\xc0", 1, "not a record", "padding where no payload follows");
	refused_after_header(b, "\x81\xa3" "end\xc3", 6, "not a record", "a map without a kind");
	refused_after_header(b, "\x82\xa4kind\xa3" "end\xa4kind\xa3" "end", 19, "a key stands twice", "a key that stands twice");
}

static void
test_abort(void)
{
	int fd[2];
	struct tc_source *s;
	struct tc_writer *w;
	struct tc_header h;
	struct tc_record r;

	for (int with_header = 0; with_header < 2; with_header++) {
		must(pipe(fd));
		sample_header(&h);
		must(tc_writer_open(&w, fd[1], "pipe", &err));
		if (with_header)
			must(tc_writer_header(w, &h, &err));
		must(tc_writer_abort(w, "tc-calib", TC_NOINPUT, "no.txt: no such file", &err));
		tc_writer_free(w);
		tc_header_free(&h);
		close(fd[1]);
		err = (struct tc_err){0};
		if (tc_reader_open_fd(&s, fd[0], "pipe", &err) == 0) {
			ok(with_header && tc_source_next(s, &r, &err) < 0 && err.told, "an abort record ends the stream");
			ok(tc_source_next(s, &r, &err) < 0, "... for good");
		}
		ok(err.code == TC_NOINPUT && err.told && strcmp(err.msg, "tc-calib: no.txt: no such file") == 0,
		    "who aborted %s the header, and why", with_header ? "after" : "before");
		tc_source_close(s);
		close(fd[0]);
	}
}

static void
test_full_disk(void)
{
	int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
	struct tc_writer *w;
	struct tc_header h;

	if (fd < 0) {
		skip("a full disk", "no /dev/full");
		return;
	}
	sample_header(&h);
	must(tc_writer_open(&w, fd, "/dev/full", &err));
	ok(tc_writer_header(w, &h, &err) < 0 && err.code == TC_IO && strstr(err.msg, strerror(ENOSPC)), "a full disk");
	ok(tc_writer_abort(w, "tc-quant", TC_IO, "full", &err) < 0, "no abort record after a failed write");
	tc_writer_free(w);
	tc_header_free(&h);
	close(fd);
}

static void
test_closed_pipe(void)
{
	struct tc_writer *w;
	struct tc_header h;
	int fd[2];

	signal(SIGPIPE, SIG_IGN);
	must(pipe(fd));
	close(fd[0]);
	sample_header(&h);
	must(tc_writer_open(&w, fd[1], "pipe", &err));
	ok(tc_writer_header(w, &h, &err) < 0 && err.code == TC_IO && strstr(err.msg, strerror(EPIPE)), "a closed pipe");
	tc_writer_free(w);
	tc_header_free(&h);
	close(fd[1]);
}

static void
test_extent(void)
{
	static const unsigned char every[] = { 0x94, 0xc0, 0xa2, 'h', 'i', 0x81, 0x01, 0xcb, 0, 0, 0, 0, 0, 0, 0, 0, 0xc7, 1, 5, 9 };
	long early = 0;

	ok(tc_msgpack_extent(every, sizeof(every), 100, 2) == (long)sizeof(every), "the extent of an object");
	for (size_t n = 0; n < sizeof(every); n++)
		early |= tc_msgpack_extent(every, n, 100, 2);
	ok(early == 0, "its beginnings are not enough");
	ok(tc_msgpack_extent(every, sizeof(every), 100, 1) == -1, "nor may it be too deep");
	ok(tc_msgpack_extent(every, sizeof(every), sizeof(every) - 1, 2) == -1, "nor too long");
	ok(tc_msgpack_extent((const unsigned char *)"\xc1", 1, 100, 2) == -1, "nor of no kind");
}

int
main(int argc, char **argv)
{
	struct tc_buf b, cut;

	for (size_t i = 0; i < sizeof(bytes); i++)
		bytes[i] = (unsigned char)(i * 2654435761u >> 11);
	b = sample(0);
	if (argc == 2) { /* an example for fuzzers and for tc-stream(5)'s reader */
		FILE *f = fopen(argv[1], "wb");

		return !f || fwrite(b.p, 1, b.n, f) != b.n || fclose(f) != 0;
	}
	cut = sample(50);
	test_extent();
	test_fields(&b);
	ok(tc_reader_is_stream(b.p, b.n) && !tc_reader_is_stream(bytes, 100) && !tc_reader_is_stream(b.p, 13), "a stream's beginning");
	pipe_round_trip(&b, 1 << 16, "through a pipe");
	pipe_round_trip(&b, 1, "through a pipe, byte by byte");
	file_round_trip(&b, &b, true, "from a file");
	file_round_trip(&b, &b, false, "from a file, heads made anew");
	file_round_trip(&cut, &b, true, "from a file in small chunks");
	test_kept_copies(&cut);
	test_map_fd(&b);
	test_large();
	test_truncation(&b, "a stream");
	test_truncation(&cut, "a stream in small chunks");
	test_flips(&b, "a stream");
	test_flips(&cut, "a stream in small chunks");
	test_hostile(&b);
	test_wrong_records();
	test_wrong_fisher();
	test_whole_tensor();
	test_masked_tensor();
	test_factored_tensor();
	test_shared_codebook();
	test_wrong_streams(&b);
	test_abort();
	test_full_disk();
	test_closed_pipe();
	tc_buf_free(&b);
	tc_buf_free(&cut);
	return done_testing();
}
