/* record.h - what a model stream is made of, in memory.
 *
 * A source (source.h) yields one header and then records; a writer
 * (writer.h) takes them.  The bytes are specified in tc-stream(5). */
#ifndef TC_STREAM_RECORD_H
#define TC_STREAM_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/mem.h"
#include "tensor/tensor.h"

#define TC_STREAM_VERSION 1
#define TC_KIND_NAME_MAX 32  /* bytes of a kind's name, NUL included */
#define TC_STEPS_MAX 64      /* stages a stream can have passed */
#define TC_STEP_STAGE_MAX 32
#define TC_STEP_CPU_MAX 16
#define TC_STEP_OPTIONS_MAX 4096

/* One stage of the provenance chain: what changes the answer, nothing else
 * (no threads, paths, hosts, times, shards). */
struct tc_step {
	char stage[TC_STEP_STAGE_MAX];
	char build[17];     /* 64-bit hash of the sources, hex */
	char cpu[TC_STEP_CPU_MAX]; /* kernel path; "" where no number depends on it */
	char *options;      /* canonical options, "--bits 4 --group 128"; owned */
	uint64_t input;     /* hash of the stage's input stream; known at the end */
};

struct tc_header {
	char *config;          /* config.json as it was, JSON text; owned */
	size_t config_bytes;
	bool tied;             /* the head is the embedding */
	uint64_t parameters;   /* of the original model, a tied embedding once */
	char base_quantized[32]; /* "" or the format the checkpoint was quantized in before */
	int nsteps;
	struct tc_step step[TC_STEPS_MAX];
};

void tc_header_free(struct tc_header *h);
int tc_header_copy(struct tc_header *to, const struct tc_header *from, struct tc_err *err) TC_MUST_CHECK;
/* Appends a step (input 0 until the end). */
int tc_header_add_step(struct tc_header *h, const char *stage, const char *build, const char *cpu, const char *options, struct tc_err *err) TC_MUST_CHECK;

enum tc_kind { TC_KIND_FILE, TC_KIND_TOKENS, TC_KIND_STAT, TC_KIND_TENSOR, TC_KIND_REF, TC_KIND_OTHER };

/* A file carried along: "tokenizer.json", "tokenizer_config.json",
 * "generation_config.json".  One part "data". */
struct tc_file {
	char name[TC_NAME_MAX];
};

/* The tokens that were run: sequences of equal or different lengths.  One part
 * "data", u32, all sequences one after another. */
struct tc_tokens {
	char tag[32];             /* "calib", "fisher" */
	char text_sha256[65];     /* of the text, "" where ids were given */
	uint64_t first;           /* index of the first sequence (shards) */
	size_t nseq;
	uint64_t *length;         /* [nseq] */
};

/* A subtree of the fixed binary tree over sequences: level l, index k covers
 * sequences k * 2^l .. (k+1) * 2^l - 1. */
struct tc_node {
	uint32_t level;
	uint64_t index;
	uint64_t count;           /* tokens summed */
};

enum tc_stat_kind {
	/* of a site */
	TC_STAT_SQ, TC_STAT_ABS, TC_STAT_MAX, TC_STAT_HESSIAN,
	/* of a tensor */
	TC_STAT_FISHER, TC_STAT_FISHER_WEIGHT, TC_STAT_FISHER_ROW, TC_STAT_FISHER_COLUMN, TC_STAT_FISHER_GROUP,
	TC_STAT_KINDS,
	TC_STAT_SITE_KINDS = TC_STAT_FISHER
};
/* "sq", "abs", "max", "hessian", "fisher", "fisher_weight", "fisher_row", ... */
extern const char *const tc_stat_names[TC_STAT_KINDS];
int tc_stat_find(const char *name, size_t len);

/* Whether statistics of the kind belong to a tensor, and not to a site. */
bool tc_stat_is_of_tensor(enum tc_stat_kind kind);

#define TC_FISHER_DIM 2 /* numbers of TC_STAT_FISHER */

/* Statistics.  One part "data": for each node, and node-major,
 *
 * of a site, activations: `dim` numbers (sq: sum of squares, abs: sum of
 * magnitudes, f64; max: largest magnitude, f32) or the packed lower triangle
 * of sum x x^T (hessian, f32, dim * (dim + 1) / 2, row by row);
 *
 * of a tensor, sums over sequences of g^2, where g is the gradient of the
 * sequence's mean NLL: `dim` numbers, one a weight (fisher_weight, f32,
 * row-major), one an output row (fisher_row, f64), one a column
 * (fisher_column, f64) or one for each `group` inputs of a row, the row's
 * last group may be shorter (fisher_group, f64, row-major).  With s the sum
 * of one sequence's g^2 over all the tensor's elements, fisher is the sum of
 * s and the sum of s^2 (f64). */
struct tc_stat {
	enum tc_stat_kind kind;
	enum tc_site site;        /* of a site's */
	enum tc_role role;        /* of a tensor's, as is bias */
	bool bias;
	int block;                /* -1 for head_in, and outside the blocks */
	char tag[32];             /* of the tokens: "calib", "fisher" */
	int place;                /* index in the provenance chain where measured */
	bool stale;               /* a weight upstream of it changed since */
	uint64_t dim;
	uint64_t group;           /* fisher_group; else 0 */
	size_t nnodes;
	struct tc_node *node;     /* [nnodes], ascending */
};
size_t tc_stat_values(enum tc_stat_kind kind, uint64_t dim); /* per node; 0 on overflow */
enum tc_dtype tc_stat_dtype(enum tc_stat_kind kind);

/* The tied head, at the place where an untied one would stand. */
struct tc_ref {
	enum tc_role role;        /* head */
	char to[TC_NAME_MAX];     /* name of the tensor that serves */
};

struct tc_record {
	enum tc_kind kind;
	bool critical;            /* a reader that does not know the kind must refuse */
	union {
		struct tc_file file;
		struct tc_tokens tokens;
		struct tc_stat stat;
		struct tc_tensor tensor;  /* its parts are the record's parts */
		struct tc_ref ref;
	} u;
	/* Parts of every kind but tensor (there: u.tensor.part). */
	int nparts;
	struct tc_part part[TC_PARTS_MAX];
	/* The head as it was read (MessagePack), or NULL: then a writer encodes
	 * one.  A stage that changes the record sets it to NULL. */
	const void *raw;
	size_t raw_bytes;
};

/* The name of the record's kind, "tensor"; of one that is not known, what its
 * head says. */
int tc_record_kind(const struct tc_record *r, char kind[TC_KIND_NAME_MAX], struct tc_err *err) TC_MUST_CHECK;

/* The parts, wherever they are. */
const struct tc_part *tc_record_parts(const struct tc_record *r, int *n);

#endif
