/* tc-export: a model stream to a Hugging Face directory.  See tc-export(1).
 *
 * A tensor is written as it comes.  The types are known only then, so room is
 * left for the safetensors header, which comes last.  Data must have no holes
 * and each tensor must be aligned to its type: those with an odd number of
 * 16-bit values, after which an f32 tensor could not stand, are spooled and
 * go to the end.  Tensors that the checkpoint keeps fused or transposed are
 * gathered until they are whole. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io.h"
#include "cli/cli.h"
#include "cli/plan.h"
#include "file/safetensors.h"
#include "model/config.h"

#define WEIGHTS "model.safetensors"
#define CONVERT_VALUES ((size_t)1 << 18) /* at a time, or one row */
#define COPY_BYTES ((size_t)1 << 20)

struct args {
	struct tc_common common;
	const char *output, *dtype;
};

#define FIELD(f) offsetof(struct args, f)
static const struct tc_option options[] = {
	{ .name = "output", .letter = 'o', .type = TC_OPT_TEXT, .offset = FIELD(output), .arg = "DIR", .role = TC_OPT_FREE,
	  .help = "the directory to make, whole or not at all" },
	{ .name = "dtype", .type = TC_OPT_NAME, .offset = FIELD(dtype), .arg = "TYPE", .names = "keep|f32|f16|bf16",
	  .help = "type of the weights: keep (f32 for packed ones; default), f32, f16, bf16" },
	{ .type = TC_OPT_END }
};

static const struct tc_stage stage = {
	.name = "tc-export",
	.summary = "turn a model stream into a Hugging Face directory",
	.operands = "[MODEL]",
	.operands_max = 1,
	.options = options,
	.common = TC_COMMON_ALWAYS,
	.common_offset = offsetof(struct args, common),
};

/* A tensor of the checkpoint of which some parts have come; values of all
 * dense types are exact in f32. */
struct gathered {
	struct tc_tensor t;         /* as the checkpoint has it, dense f32 */
	float *values;
	size_t rows, have;          /* outputs in all and so far */
	enum tc_dtype dtype;        /* of all parts so far */
	bool mixed;
};
#define GATHERED_MAX 4              /* at a time: weights and biases of one fusion, one of another */

struct export {
	const struct args *a;
	struct tc_cli *cli;
	struct tc_source *source;
	struct tc_config config;
	float norm_shift;           /* what is in the norms and must not be */
	int dir;                    /* belongs to cli->output */
	int weights;                /* model.safetensors, or -1 */
	struct tc_st_writer *writer;
	size_t tensors;
	/* tensors for the end, in the order of the spool */
	int spool;                  /* or -1 */
	struct tc_tensor *late;
	size_t nlate;
	struct gathered gathered[GATHERED_MAX];
	/* for conversions */
	float *values;
	void *converted;
	size_t room;                /* values that both have room for */
};

/* ---- files ---- */

static int
create(const struct export *x, const char *name, struct tc_err *err)
{
	int fd = openat(x->dir, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);

	if (fd < 0 && errno == EEXIST)
		return tc_fail(err, TC_DATA, "file %s: the directory has one of that name already", name);
	return fd < 0 ? tc_fail_errno(err, "%s/%s", x->a->output, name) : fd;
}

static int
write_all(int fd, const char *name, const void *data, size_t n, struct tc_err *err)
{
	return tc_write_all(fd, data, n, err) < 0 ? tc_err_at(err, "%s", name) : 0;
}

static int
sync_and_close(int *fd, const char *name, struct tc_err *err)
{
	int r = fsync(*fd) < 0 ? tc_fail_errno(err, "%s", name) : 0;

	if (close(*fd) < 0 && r == 0)
		r = tc_fail_errno(err, "%s", name);
	*fd = -1;
	return r;
}

static int
write_file(const struct export *x, const char *name, const void *data, size_t n, struct tc_err *err)
{
	int fd = create(x, name, err);

	if (fd < 0)
		return -1;
	if (write_all(fd, name, data, n, err) < 0) {
		close(fd);
		return -1;
	}
	return sync_and_close(&fd, name, err);
}

/* ---- tensors ---- */

static enum tc_dtype
target_dtype(const struct export *x, const struct tc_tensor *t)
{
	if (strcmp(x->a->dtype, "keep") != 0)
		return (enum tc_dtype)tc_dtype_find(x->a->dtype, strlen(x->a->dtype));
	/* Only f32 holds every code times its scale. */
	return tc_tensor_has_numbers(t) ? t->format.dtype : TC_F32;
}

static int
make_room(struct export *x, size_t n, struct tc_err *err)
{
	if (n <= x->room)
		return 0;
	free(x->values);
	free(x->converted);
	x->room = 0;
	x->values = tc_alloc(n, sizeof(*x->values), err);
	x->converted = tc_alloc(n, sizeof(*x->values), err);
	if (!x->values || !x->converted)
		return -1;
	x->room = n;
	return 0;
}

/* Takes data to the safetensors file or to the spool. */
static int
put(struct export *x, bool late, const void *data, size_t n, struct tc_err *err)
{
	if (late)
		return write_all(x->spool, "temporary file", data, n, err);
	return tc_st_writer_write(x->writer, data, n, err);
}

static int
put_converted(struct export *x, const struct tc_tensor *t, enum tc_dtype to, bool late, struct tc_err *err)
{
	size_t cols = tc_tensor_cols(t), rows = tc_tensor_rows(t), step = tc_max(1, CONVERT_VALUES / cols);

	if (make_room(x, tc_min(step, rows) * cols, err) < 0)
		return -1;
	for (size_t row = 0; row < rows; row += step) {
		size_t n = tc_min(step, rows - row) * cols;
		int64_t bad;

		tc_tensor_read_rows(t, row, n / cols, x->values);
		tc_f32_to(to, x->values, n, x->converted);
		bad = tc_first_not_finite(to, x->converted, n);
		if (bad >= 0)
			return tc_fail(err, TC_DATA, "tensor '%s': element %zu %s %s", t->name, row * cols + (size_t)bad,
			    isfinite(x->values[bad]) ? "is too large for" : "is not a finite number:", tc_dtypes[to].name);
		if (put(x, late, x->converted, n * tc_dtypes[to].size_bytes, err) < 0)
			return -1;
	}
	return 0;
}

static int
put_as_it_is(struct export *x, const struct tc_tensor *t, bool late, struct tc_err *err)
{
	int64_t bad = tc_first_not_finite(t->format.dtype, t->part[0].data, tc_tensor_elements(t));

	if (bad >= 0)
		return tc_fail(err, TC_DATA, "tensor '%s': element %lld is not a finite number", t->name, (long long)bad);
	return put(x, late, t->part[0].data, t->part[0].size_bytes, err);
}

/* Makes a note of t, which will be dense and of the type it is exported in. */
static int
note_late(struct export *x, const struct tc_tensor *t, enum tc_dtype dtype, struct tc_err *err)
{
	struct tc_tensor *p;

	if (x->spool < 0 && tc_cli_tmpfile(x->cli, &x->spool) < 0)
		return -1;
	p = realloc(x->late, (x->nlate + 1) * sizeof(*p));
	if (!p)
		return tc_fail_nomem(err, (x->nlate + 1) * sizeof(*p));
	x->late = p;
	p[x->nlate] = *t;
	return tc_tensor_make_dense(&p[x->nlate++], dtype, err);
}

static int
put_tensor(struct export *x, const struct tc_tensor *t, enum tc_dtype dtype, struct tc_err *err)
{
	bool late = tc_dtypes[dtype].size_bytes < sizeof(float) && tc_tensor_elements(t) % 2 == 1;

	if ((late ? note_late(x, t, dtype, err) : tc_st_writer_declare(x->writer, t->name, dtype, t->ndim, t->shape, err)) < 0)
		return -1;
	if (tc_tensor_is_dense(t) && t->format.dtype == dtype)
		return put_as_it_is(x, t, late, err);
	return put_converted(x, t, dtype, late, err);
}

/* The tensor of the checkpoint that t is a part of, begun if need be. */
static struct gathered *
gathered_for(struct export *x, const struct tc_tensor *t, const struct tc_origin *o, struct tc_err *err)
{
	struct gathered *g = NULL;

	for (int i = 0; i < GATHERED_MAX; i++) {
		if (x->gathered[i].values && strcmp(x->gathered[i].t.name, o->name) == 0)
			return &x->gathered[i];
		if (!x->gathered[i].values)
			g = &x->gathered[i];
	}
	if (!g) {
		tc_fail(err, TC_DATA, "tensor '%s': comes before %s is whole", t->name, x->gathered[0].t.name);
		return NULL;
	}
	*g = (struct gathered){ .t = *t, .rows = o->rows, .dtype = target_dtype(x, t) };
	snprintf(g->t.name, sizeof(g->t.name), "%s", o->name);
	g->t.shape[o->transposed ? 1 : 0] = o->rows;
	if (o->transposed)
		g->t.shape[0] = t->shape[1];
	if (tc_tensor_make_dense(&g->t, TC_F32, err) < 0)
		return NULL;
	g->t.part[0].data = g->values = tc_alloc(g->t.part[0].size_bytes, 1, err);
	return g->values ? g : NULL;
}

/* t's outputs into their place; a whole tensor is written. */
static int
gather(struct export *x, const struct tc_tensor *t, const struct tc_origin *o, struct tc_err *err)
{
	struct gathered *g = gathered_for(x, t, o, err);
	size_t n, cols = t->ndim == 2 ? t->shape[1] : 1;
	int r;

	if (!g)
		return -1;
	n = t->shape[0];
	if (o->transposed) {
		if (make_room(x, cols, err) < 0)
			return -1;
		for (size_t j = 0; j < n; j++) {
			tc_tensor_read_rows(t, j, 1, x->values);
			for (size_t i = 0; i < cols; i++)
				g->values[i * o->rows + o->row0 + j] = x->values[i];
		}
	} else {
		tc_tensor_read_rows(t, 0, tc_tensor_rows(t), g->values + o->row0 * cols);
	}
	g->mixed = g->mixed || target_dtype(x, t) != g->dtype;
	g->have += n;
	if (g->have < g->rows)
		return 0;
	r = put_tensor(x, &g->t, g->mixed ? TC_F32 : g->dtype, err);
	free(g->values);
	g->values = NULL;
	return r;
}

/* Where the checkpoint keeps t, the x->tensors-th that comes. */
static int
find_origin(const struct export *x, const struct tc_tensor *t, struct tc_origin *o, struct tc_err *err)
{
	struct tc_tensor want;

	if (!tc_config_tensor(&x->config, x->tensors, &want) || strcmp(want.name, t->name) != 0)
		return tc_fail(err, TC_DATA, "tensor '%s': comes out of order", t->name);
	tc_config_origin(&x->config, x->tensors, o);
	return 0;
}

static bool
is_norm(enum tc_role role)
{
	switch (role) {
	case TC_ROLE_ATTN_NORM:
	case TC_ROLE_ATTN_POST_NORM:
	case TC_ROLE_MLP_NORM:
	case TC_ROLE_MLP_POST_NORM:
	case TC_ROLE_Q_NORM:
	case TC_ROLE_K_NORM:
	case TC_ROLE_FINAL_NORM:
		return true;
	default:
		return false;
	}
}

/* A norm stored with the 1 added goes out without it, as programs that do not
 * know tc_norm_offset expect: if adding it again gives the same number. */
static int
put_shifted_norm(struct export *x, const struct tc_tensor *t, float shift, struct tc_err *err)
{
	size_t n = tc_tensor_elements(t);
	struct tc_tensor out = *t;
	float *w = tc_alloc(n, sizeof(*w), err);
	int r = -1;

	if (!w)
		return -1;
	tc_tensor_read_rows(t, 0, 1, w);
	for (size_t i = 0; i < n; i++) {
		volatile float less = w[i] - shift;

		if (less + shift != w[i]) {
			tc_fail(err, TC_DATA, "tensor '%s': element %zu cannot be written without the %g that was added to it",
			    t->name, i, (double)shift);
			goto out;
		}
		w[i] = less;
	}
	if (tc_tensor_make_dense(&out, TC_F32, err) < 0)
		goto out;
	out.part[0].data = w;
	r = put_tensor(x, &out, target_dtype(x, &out), err);
out:
	free(w);
	return r;
}

static int
take_tensor(struct export *x, const struct tc_tensor *t, struct tc_err *err)
{
	struct tc_origin o;

	if (tc_config_check(&x->config, t, err) < 0 || find_origin(x, t, &o, err) < 0)
		return -1;
	x->tensors++;
	tc_cli_progress(x->cli, "%s", t->name);
	if (o.fused || o.transposed)
		return gather(x, t, &o, err);
	if (x->norm_shift != 0 && is_norm(t->role) && !t->bias)
		return put_shifted_norm(x, t, x->norm_shift, err);
	return put_tensor(x, t, target_dtype(x, t), err);
}

/* One tensor from where the spool stands. */
static int
copy_late(struct export *x, const struct tc_tensor *t, char *buf, struct tc_err *err)
{
	size_t left = tc_tensor_elements(t) * tc_dtypes[t->format.dtype].size_bytes;

	if (tc_st_writer_declare(x->writer, t->name, t->format.dtype, t->ndim, t->shape, err) < 0)
		return -1;
	while (left > 0) {
		ptrdiff_t n = tc_read_some(x->spool, buf, tc_min(left, COPY_BYTES), err);

		if (n <= 0)
			return n < 0 ? tc_err_at(err, "temporary file") : tc_fail(err, TC_IO, "temporary file: too short");
		if (tc_st_writer_write(x->writer, buf, (size_t)n, err) < 0)
			return -1;
		left -= (size_t)n;
	}
	return 0;
}

static int
put_late(struct export *x, struct tc_err *err)
{
	char *buf;
	int r = 0;

	if (x->nlate == 0)
		return 0;
	if (lseek(x->spool, 0, SEEK_SET) < 0)
		return tc_fail_errno(err, "temporary file");
	buf = tc_alloc(COPY_BYTES, 1, err);
	if (!buf)
		return -1;
	for (size_t i = 0; i < x->nlate && r == 0; i++)
		r = copy_late(x, &x->late[i], buf, err);
	free(buf);
	return r;
}

/* ---- the stream ---- */

/* config.json as it was; without our own key, when norms go out as usual. */
static int
write_config(const struct export *x, struct tc_err *err)
{
	const struct tc_header *h = &x->source->header;
	json_error_t why;
	json_t *o;
	char *text;
	int r;

	if (x->norm_shift == 0)
		return write_file(x, "config.json", h->config, h->config_bytes, err);
	o = json_loadb(h->config, h->config_bytes, 0, &why);
	json_object_del(o, "tc_norm_offset");
	text = json_dumps(o, JSON_INDENT(2) | JSON_REAL_PRECISION(17));
	r = text ? write_file(x, "config.json", text, strlen(text), err) : tc_fail_nomem(err, h->config_bytes);
	free(text);
	json_decref(o);
	return r;
}

/* The directory under its temporary name, with config.json and a place for
 * the weights. */
static int
begin(struct export *x, struct tc_err *err)
{
	const struct tc_header *h = &x->source->header;
	size_t room_bytes = TC_ST_ENTRY_BYTES;
	struct tc_tensor t;

	if (tc_config_parse(&x->config, h->config, h->config_bytes, err) < 0 ||
	    tc_output_open_dir(&x->cli->output, x->a->output, err) < 0)
		return -1;
	x->dir = tc_output_fd(x->cli->output);
	x->norm_shift = (float)(tc_config_usual_norm_offset(&x->config) - x->config.norm_offset);
	if (write_config(x, err) < 0)
		return -1;
	for (size_t i = 0; tc_config_tensor(&x->config, i, &t); i++)
		room_bytes += strlen(t.name) + TC_ST_ENTRY_BYTES;
	x->weights = create(x, WEIGHTS, err);
	if (x->weights < 0 || tc_st_writer_open(&x->writer, x->weights, err) < 0)
		return -1;
	return tc_st_writer_reserve(x->writer, room_bytes, err);
}

static int
take(struct export *x, const struct tc_record *r, struct tc_err *err)
{
	switch (r->kind) {
	case TC_KIND_FILE:
		/* A plan is of the stages before, no part of a checkpoint. */
		if (tc_plan_is_record(r))
			return 0;
		return write_file(x, r->u.file.name, r->part[0].data, r->part[0].size_bytes, err);
	case TC_KIND_TENSOR:
		return take_tensor(x, &r->u.tensor, err);
	default:
		/* A tied head is not stored twice; a checkpoint has no place for
		 * statistics and tokens. */
		return 0;
	}
}

static int
finish(struct export *x, struct tc_err *err)
{
	struct tc_tensor t;

	if (x->tensors == 0)
		return tc_fail(err, TC_DATA, "the stream has no weights");
	/* A tensor comes once, and only one that the config has. */
	if (tc_config_tensor(&x->config, x->tensors, &t))
		return tc_fail(err, TC_DATA, "the stream has only %zu of the model's tensors", x->tensors);
	if (put_late(x, err) < 0 || tc_st_writer_end(x->writer, err) < 0)
		return -1;
	return sync_and_close(&x->weights, WEIGHTS, err);
}

static int
run(struct export *x)
{
	struct tc_err *err = &x->cli->err;
	struct tc_record r;
	int got;

	if (!x->a->output)
		return tc_fail(err, TC_USAGE, "-o DIR is missing");
	if (strcmp(x->a->output, "-") == 0)
		return tc_fail(err, TC_USAGE, "a directory cannot go to standard output");
	if (tc_cli_model(x->cli, 0, &x->source) < 0 || begin(x, err) < 0)
		return -1;
	while ((got = tc_source_next(x->source, &r, err)) > 0)
		if (take(x, &r, err) < 0)
			return -1;
	return got < 0 ? -1 : finish(x, err);
}

int
main(int argc, char **argv)
{
	struct args a = { .common = tc_common_defaults, .dtype = "keep" };
	struct tc_cli cli;
	struct export x = { .a = &a, .cli = &cli, .weights = -1, .spool = -1 };

	tc_cli_begin(&cli, &stage, &a, argc, argv);
	(void)!run(&x);
	tc_st_writer_free(x.writer);
	if (x.weights >= 0)
		close(x.weights);
	if (x.spool >= 0)
		close(x.spool);
	free(x.late);
	for (int i = 0; i < GATHERED_MAX; i++)
		free(x.gathered[i].values);
	free(x.values);
	free(x.converted);
	tc_source_close(x.source);
	return tc_cli_end(&cli);
}
