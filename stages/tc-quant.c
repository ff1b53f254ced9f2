/* tc-quant: quantizes the weights of a model stream.  See tc-quant(1). */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "cli/cli.h"
#include "cli/errors_file.h"
#include "cli/group.h"
#include "cli/plan.h"
#include "cli/select.h"
#include "cli/spill.h"
#include "cli/stats_file.h"
#include "cli/super_search.h"
#include "kernel/kernel.h"
#include "method/factored.h"
#include "method/measures.h"
#include "method/pq.h"
#include "method/sequential.h"
#include "stream/hold.h"

enum { DEFAULT_BITS = 4, DEFAULT_GROUP = 128, PQ_BITS = 8, PQ_VECTOR = 8, RESIDUAL_GROUP = 128 };
#define MAX_KEPT_SHARE 0.1 /* beyond it numbers apart are no outliers, and cost more than their weights */

/* What happens to the embedding or the head. */
struct edge {
	bool given, quantize;
	bool planned;  /* a plan says it */
	int bits;      /* 0: as the linear layers */
};

/* How tensors are quantized: as the options ask for all of them, or as a plan for
 * one. */
struct how {
	const char *method;
	int64_t bits;                   /* TC_UNSET, TC_GROUP_UNSET: the method's, once derived */
	uint64_t group;
	const struct tc_quantizer *quantizer;
	const struct tc_quantizer *grids; /* whose, on which the quantizer rounds, or itself */
	struct tc_quant_options quant, edge_quant;
};

/* Weights held in f16. */
struct keep {
	double top;              /* share of every tensor's largest */
	struct tc_spots spots;   /* of a file, or found, by block */
	bool file, super;
};

struct args {
	struct tc_common common;
	const char *method, *levels, *scale, *grid, *order, *weights;
	int64_t bits;
	uint64_t group;
	bool sym, asym, fmin;
	struct edge embed, head;
	bool sequential, act_order, static_groups, mse;
	double damp;
	int64_t block;
	int64_t vector, codebooks;
	const char *book, *per;
	struct keep keep;
	double clip_z;
	bool rotate;
	int64_t residual;
	const char *errors;
	struct tc_stats_file stats;
	struct tc_plan_option alloc;
	/* derived */
	struct tc_compose compose;
	struct how one, *how;       /* how: [nhow], of each row of the plan, or `one` */
	size_t nhow;
	struct tc_pq_book books[TC_ROLES]; /* by role, or the first for all */
	struct tc_hold hold;        /* every record, where they are looked at first */
	struct tc_measures measures;
	bool told_stale;
	struct tc_quantized out;    /* of the tensor in hand */
	struct tc_cli *cli;
	bool requantize;            /* the checkpoint came quantized */
	size_t done;
	struct tc_errors_file errors_file;
};

static int
parse_edge(const char *value, void *field, struct tc_err *err)
{
	struct edge *e = field;

	if (strcmp(value, "skip") == 0)
		*e = (struct edge){ .given = true };
	else if (strcmp(value, "same") == 0)
		*e = (struct edge){ .given = true, .quantize = true };
	else if (value[0] >= '1' && value[0] <= '8' && !value[1])
		*e = (struct edge){ .given = true, .quantize = true, .bits = value[0] - '0' };
	else
		return tc_fail(err, TC_USAGE, "%s: must be skip, same, or 1 to 8", value);
	return 0;
}

static void
print_edge(const void *field, char *buf, size_t size)
{
	const struct edge *e = field;

	if (e->planned)
		return;
	if (e->bits)
		snprintf(buf, size, "%d", e->bits);
	else
		snprintf(buf, size, "%s", e->quantize ? "same" : "skip");
}

static int
parse_keep(const char *value, void *field, struct tc_err *err)
{
	struct keep *k = field;
	char *end;

	tc_spots_free(&k->spots);
	*k = (struct keep){0};
	if (strcmp(value, "super") == 0) {
		k->super = true;
		return 0;
	}
	if (strncmp(value, "top:", 4) != 0) {
		k->file = true;
		if (tc_spots_read(&k->spots, value, NULL, err) < 0)
			return -1;
		return k->spots.n > 0 ? 0 : tc_fail(err, TC_DATA, "%s: names no weight", value);
	}
	k->top = strtod(value + 4, &end);
	if (end == value + 4 || *end || !(k->top > 0 && k->top <= MAX_KEPT_SHARE))
		return tc_fail(err, TC_USAGE, "%s: must be top:SHARE, SHARE above 0 and at most %g", value, MAX_KEPT_SHARE);
	return 0;
}

/* What was kept, not where it was read. */
static void
print_keep(const void *field, char *buf, size_t size)
{
	const struct keep *k = field;
	uint64_t hash;

	buf[0] = '\0';
	if (k->top > 0)
		snprintf(buf, size, "top:%.17g", k->top);
	else if (k->super)
		snprintf(buf, size, "super");
	if (!k->file)
		return;
	hash = XXH3_64bits(NULL, 0);
	for (size_t i = 0; i < k->spots.n; i++) {
		uint64_t place[3] = { k->spots.at[i].tensor, k->spots.at[i].row, k->spots.at[i].column };

		hash = XXH3_64bits_withSeed(place, sizeof(place), hash);
	}
	snprintf(buf, size, "file:%016llx", (unsigned long long)hash);
}

#define DEFAULT_DAMP 0.01

#define FIELD(f) offsetof(struct args, f)
static const struct tc_option options[] = {
	{ .name = "method", .type = TC_OPT_NAME, .offset = FIELD(method), .arg = "NAME", .names = "rtn|opt|nf4|nf3|lloyd|hqq|awq|gptq|pq",
	  .help = "how weights are quantized (default rtn, round to nearest)" },
	{ .name = "bits", .type = TC_OPT_COUNT, .offset = FIELD(bits), .arg = "B", .min = 1, .max = 8,
	  .help = "bits per code, 1 to 8 (default 4, 8 with pq, or those of the method)" },
	{ .name = "group", .type = TC_OPT_CALL, .offset = FIELD(group), .arg = "G", .parse = tc_group_parse, .print = tc_group_print,
	  .help = "inputs that share a scale: a number, row, or tensor (default 128; tensor with pq)" },
	{ .name = "sym", .type = TC_OPT_FLAG, .offset = FIELD(sym),
	  .help = "levels around zero, no zero point" },
	{ .name = "asym", .type = TC_OPT_FLAG, .offset = FIELD(asym),
	  .help = "an integer zero point per group (default, where the method has it)" },
	{ .name = "fmin", .type = TC_OPT_FLAG, .offset = FIELD(fmin),
	  .help = "a float minimum per group" },
	{ .name = "levels", .type = TC_OPT_NAME, .offset = FIELD(levels), .arg = "WHICH", .names = "odd|full",
	  .help = "with --sym: odd leaves out the lowest level, full uses all (default odd)" },
	{ .name = "scale", .type = TC_OPT_NAME, .offset = FIELD(scale), .arg = "TYPE", .names = "f16|f32|u8",
	  .help = "type of scales and minima, u8 in 8 bits (default f16)" },
	{ .name = "embed", .type = TC_OPT_CALL, .offset = FIELD(embed), .arg = "WHAT", .parse = parse_edge, .print = print_edge,
	  .help = "the embedding (and the head tied to it): skip, same, or its bits (default skip)" },
	{ .name = "head", .type = TC_OPT_CALL, .offset = FIELD(head), .arg = "WHAT", .parse = parse_edge, .print = print_edge,
	  .help = "an untied head: skip, same, or its bits (default skip)" },
	{ .name = "sequential", .type = TC_OPT_FLAG, .offset = FIELD(sequential),
	  .help = "measure each block on what the quantized ones before it give" },
	{ .name = "weights", .type = TC_OPT_NAME, .offset = FIELD(weights), .arg = "WHAT", .names = "none|squares|fisher",
	  .help = "opt, lloyd: what errors count by (default the last that is known)" },
	{ .name = "order", .type = TC_OPT_NAME, .offset = FIELD(order), .arg = "HOW", .names = "block|layer",
	  .help = "with --sequential: measure a block whole, or each layer on those before (default block)" },
	{ .name = "grid", .type = TC_OPT_NAME, .offset = FIELD(grid), .arg = "NAME", .names = "rtn|opt|nf4|nf3|lloyd|hqq",
	  .help = "gptq: the method whose grids it rounds on (default rtn)" },
	{ .name = "mse", .type = TC_OPT_FLAG, .offset = FIELD(mse),
	  .help = "rtn's grids: the best of ranges that shrink, as in GPTQ's code" },
	{ .name = "act-order", .type = TC_OPT_FLAG, .offset = FIELD(act_order),
	  .help = "gptq: inputs with the largest squares first; groups are static then" },
	{ .name = "static-groups", .type = TC_OPT_FLAG, .offset = FIELD(static_groups),
	  .help = "gptq: grids of the weights as they came" },
	{ .name = "damp", .type = TC_OPT_REAL, .offset = FIELD(damp), .arg = "D", .min = 0, .max = 1,
	  .help = "gptq: share of its mean added to the Hessian's diagonal (default 0.01)" },
	{ .name = "block", .type = TC_OPT_COUNT, .offset = FIELD(block), .arg = "N", .role = TC_OPT_FREE, .min = 1, .max = 4096,
	  .help = "gptq: inputs that are made up for together; changes no bit (default 128)" },
	{ .name = "vector", .type = TC_OPT_COUNT, .offset = FIELD(vector), .arg = "V", .min = 2, .max = TC_VECTOR_MAX,
	  .help = "pq: weights that a code stands for, 2 to 16 (default 8)" },
	{ .name = "codebooks", .type = TC_OPT_COUNT, .offset = FIELD(codebooks), .arg = "N", .min = 1, .max = TC_STAGES_MAX,
	  .help = "pq: codes of a vector, 1 or 2, the second of what the first leaves over (default 1)" },
	{ .name = "book", .type = TC_OPT_NAME, .offset = FIELD(book), .arg = "WHOSE", .names = "tensor|role|model",
	  .help = "pq: what shares a codebook, a tensor, a role's tensors or all (default tensor)" },
	{ .name = "per", .type = TC_OPT_NAME, .offset = FIELD(per), .arg = "WHAT", .names = "tensor|row|group",
	  .help = "lloyd: what has levels of its own (default tensor, whose groups have scales)" },
	{ .name = "rotate", .type = TC_OPT_FLAG, .offset = FIELD(rotate),
	  .help = "random signs and Hadamard transforms of the inputs, done online" },
	{ .name = "keep", .type = TC_OPT_CALL, .offset = FIELD(keep), .arg = "WHAT", .parse = parse_keep, .print = print_keep,
	  .help = "weights held in f16: top:SHARE, the largest; super, super weights; or a file of these" },
	{ .name = "clip-z", .type = TC_OPT_REAL, .offset = FIELD(clip_z), .arg = "Z", .min = 0.5, .max = 1000,
	  .help = "clip the others to Z standard deviations" },
	{ .name = "residual", .type = TC_OPT_COUNT, .offset = FIELD(residual), .arg = "B", .min = 1, .max = 8,
	  .help = "quantize what is left with B bits more" },
	{ .name = "errors", .type = TC_OPT_TEXT, .offset = FIELD(errors), .arg = "FILE", .role = TC_OPT_FREE,
	  .help = "write what error each tensor is left with, as JSON" },
	{ .name = "stats", .type = TC_OPT_CALL, .offset = FIELD(stats), .arg = "FILE", .parse = tc_stats_file_parse, .print = tc_stats_file_print,
	  .help = "a stream whose statistics stand in for those of MODEL" },
	{ .name = "alloc", .type = TC_OPT_CALL, .offset = FIELD(alloc), .arg = "PLAN", .parse = tc_plan_option_parse,
	  .print = tc_plan_option_print, .help = "obey this plan of tc-alloc (default the stream's, if it carries one)" },
	{ .name = "memory", .type = TC_OPT_SIZE, .offset = FIELD(common.memory), .arg = "SIZE", .role = TC_OPT_FREE,
	  .min = 1 << 20, .max = 0x1p62, .help = "most bytes of hidden states in memory, K M G T may follow" },
	{ .type = TC_OPT_END }
};

static const struct tc_stage stage = {
	.name = "tc-quant",
	.summary = "quantize the weights of a model stream",
	.operands = "[MODEL]",
	.operands_max = 1,
	.options = options,
	.common = TC_COMMON_ALWAYS | TC_COMMON_OUTPUT | TC_COMMON_SELECT | TC_COMMON_STRIP | TC_COMMON_SEED,
	.common_offset = offsetof(struct args, common),
};

/* GPTQ's symmetric grid is its authors', with all levels. */
static enum tc_levels
levels_of(const struct args *a, const struct how *h)
{
	if (a->levels)
		return strcmp(a->levels, "full") == 0 ? TC_LEVELS_FULL : TC_LEVELS_ODD;
	return h->quantizer->needs == TC_NEEDS_HESSIAN ? TC_LEVELS_FULL : TC_LEVELS_ODD;
}

static enum tc_weights
weights_of(const struct args *a)
{
	if (!a->weights)
		return TC_WEIGHTS_BEST;
	return strcmp(a->weights, "none") == 0 ? TC_WEIGHTS_NONE :
	    strcmp(a->weights, "squares") == 0 ? TC_WEIGHTS_SQUARES : TC_WEIGHTS_FISHER;
}

static int
check_bits(const struct tc_quantizer *q, const char *option, int64_t bits, struct tc_err *err)
{
	return tc_choice_check(q, (int)bits, err) == 0 ? 0 : tc_err_at(err, "%s", option);
}

/* What bounds the bits and the zeros of the layers in blocks: gptq stores
 * what its grids are. */
static const struct tc_quantizer *
coded(const struct how *h)
{
	return h->quantizer->needs == TC_NEEDS_HESSIAN ? h->grids : h->quantizer;
}

static bool
uses_hessian(const struct how *h)
{
	return h->quantizer->needs == TC_NEEDS_HESSIAN;
}

static bool
uses_magnitudes(const struct how *h)
{
	return h->quantizer->needs == TC_NEEDS_MAGNITUDES;
}

static bool
uses_vectors(const struct how *h)
{
	return coded(h)->needs == TC_NEEDS_VECTORS;
}

static bool
uses_statistics(const struct how *h)
{
	return h->quantizer->needs != TC_NEEDS_NOTHING;
}

static bool
rounds_to_nearest(const struct how *h)
{
	return strcmp(coded(h)->name, "rtn") == 0;
}

static bool
learns_levels(const struct how *h)
{
	return strcmp(h->quantizer->name, "lloyd") == 0;
}

static bool
weighs(const struct how *h)
{
	return h->grids->weighs;
}

static bool
some(const struct args *a, bool (*is)(const struct how *h))
{
	for (size_t i = 0; i < a->nhow; i++)
		if (is(&a->how[i]))
			return true;
	return false;
}

static const struct tc_quantizer *
grids_of(const struct how *h)
{
	return h->grids;
}

/* A method that an option is not for, in words. */
static const char *
named(const struct args *a, const struct tc_quantizer *(*of)(const struct how *h))
{
	return a->how == &a->one ? of(&a->one)->name : "what the plan has";
}

/* What was not asked for is the method's. */
static void
derive_defaults(const struct args *a, struct how *h)
{
	const struct tc_quantizer *q = coded(h);
	int bits = uses_vectors(h) ? PQ_BITS : DEFAULT_BITS;

	if (a->per && strcmp(a->per, "row") == 0 && learns_levels(h))
		h->group = TC_GROUP_ROW;
	if (h->group == TC_GROUP_UNSET)
		h->group = uses_vectors(h) ? TC_GROUP_TENSOR : DEFAULT_GROUP;
	if (h->bits == TC_UNSET)
		h->bits = bits < q->bits_min ? q->bits_min : bits > q->bits_max ? q->bits_max : bits;
}

/* Asked for, or the first that the method has of asymmetric and float minimum.
 * Beside a plan it is asked of the rows whose method has it. */
static int
derive_zero(const struct args *a, const struct how *h, enum tc_zero *zero, struct tc_err *err)
{
	static const char *const option[TC_ZEROS] = { "sym", "asym", "fmin" };
	const bool asked[TC_ZEROS] = { a->sym, a->asym, a->fmin };
	unsigned zeros = coded(h)->zeros;

	*zero = TC_ZERO_INT;
	for (int z = 0; z < TC_ZEROS; z++) {
		if (asked[z] && !(zeros >> z & 1) && !a->alloc.known)
			return tc_fail(err, TC_USAGE, "--%s does not go with --%s %s", option[z],
			    coded(h) == h->quantizer ? "method" : "grid", coded(h)->name);
		if (asked[z])
			*zero = (enum tc_zero)z;
	}
	*zero = tc_choice_zero(coded(h), *zero);
	return 0;
}

static bool
shares_books(const struct args *a)
{
	return a->book && strcmp(a->book, "tensor") != 0;
}

static int
check_compose(const struct args *a, struct tc_err *err)
{
	if (a->rotate && a->weights && strcmp(a->weights, "fisher") == 0)
		return tc_fail(err, TC_USAGE, "--weights fisher: squared gradients are of weights before --rotate makes others of them");
	if (shares_books(a) && (a->keep.top > 0 || a->keep.file || a->keep.super || !isnan(a->clip_z)))
		return tc_fail(err, TC_USAGE, "--book %s learns from weights before --keep and --clip-z change them", a->book);
	if (a->rotate && shares_books(a))
		return tc_fail(err, TC_USAGE, "--book %s learns from weights before --rotate makes others of them", a->book);
	if (a->rotate && (a->keep.file || a->keep.super))
		return tc_fail(err, TC_USAGE, "--keep names weights that --rotate makes others of");
	return 0;
}

static void
derive_compose(struct args *a)
{
	uint64_t group = a->alloc.known ? TC_GROUP_ROW : a->one.group;

	a->compose = (struct tc_compose){
		.rotate = a->rotate,
		.seed = a->common.seed == TC_UNSET ? 0 : (uint64_t)a->common.seed,
		.clip_z = a->clip_z,
		.top = a->keep.top,
		.spots = &a->keep.spots,
		.residual = a->residual == TC_UNSET ? 0 : (int)a->residual,
		.residual_group = group == TC_GROUP_ROW || group == TC_GROUP_TENSOR ? RESIDUAL_GROUP : group,
	};
	a->measures.compose = &a->compose;
}

/* What has levels of its own. */
static int
check_per(const struct args *a, struct tc_err *err)
{
	if (!a->per)
		return 0;
	if (!some(a, learns_levels))
		return tc_fail(err, TC_USAGE, "--per goes with --method lloyd");
	if (strcmp(a->per, "row") == 0 && a->group != TC_GROUP_UNSET && a->group != TC_GROUP_ROW)
		return tc_fail(err, TC_USAGE, "--per row is a group of its own: not with --group");
	if (strcmp(a->per, "group") == 0 && a->group == TC_GROUP_TENSOR)
		return tc_fail(err, TC_USAGE, "--per group: the groups are those of rows, or --per tensor");
	if (strcmp(a->per, "tensor") != 0 && strcmp(a->scale, "u8") == 0)
		return tc_fail(err, TC_USAGE, "--scale u8 is for scales, and --per %s has none", a->per);
	return 0;
}

/* Options of methods, of which one is there. */
static int
check_methods(const struct args *a, struct tc_err *err)
{
	if ((a->act_order || a->static_groups || !isnan(a->damp) || a->grid) && !some(a, uses_hessian))
		return tc_fail(err, TC_USAGE, "--grid, --act-order, --static-groups and --damp go with --method gptq");
	if (check_per(a, err) < 0)
		return -1;
	if (a->mse && !some(a, rounds_to_nearest))
		return tc_fail(err, TC_USAGE, "--mse is for the grids of rtn, not of %s", named(a, coded));
	if (a->weights && !some(a, weighs))
		return tc_fail(err, TC_USAGE, "--weights is for opt and lloyd: %s does not weigh errors", named(a, grids_of));
	if (!some(a, uses_vectors) && (a->vector != TC_UNSET || a->codebooks != TC_UNSET || a->book))
		return tc_fail(err, TC_USAGE, "--vector, --codebooks and --book go with --method pq");
	return 0;
}

static void
derive_quantizer(const struct args *a, struct how *h)
{
	h->quantizer = tc_quantizer_find(h->method);
	/* Nothing is measured where the embedding is read. */
	h->grids = h->quantizer->needs ? tc_quantizer_find(a->grid && uses_hessian(h) ? a->grid : "rtn") : h->quantizer;
}

/* The rest, once its quantizer is known. */
static int
derive_how(const struct args *a, struct how *h, struct tc_err *err)
{
	enum tc_dtype scale = (enum tc_dtype)tc_dtype_find(a->scale, strlen(a->scale));
	uint64_t edge_group = h->group == TC_GROUP_UNSET ? DEFAULT_GROUP : h->group;
	enum tc_zero zero;

	if (h->group == TC_GROUP_TENSOR && (uses_hessian(h) || uses_magnitudes(h)))
		return tc_fail(err, TC_USAGE, "%s goes row by row: --group tensor is not for it", h->quantizer->name);
	if (tc_choice_check_scale(h->quantizer, scale, err) < 0)
		return -1;
	derive_defaults(a, h);
	if (check_bits(coded(h), "bits", h->bits, err) < 0 || derive_zero(a, h, &zero, err) < 0)
		return -1;
	h->quant = (struct tc_quant_options){
		.bits = (int)h->bits,
		.group = h->group,
		.zero = zero,
		.levels = levels_of(a, h),
		.scale = scale,
		.damping = isnan(a->damp) ? DEFAULT_DAMP : a->damp,
		.act_order = a->act_order,
		.static_groups = a->static_groups,
		.block = (int)a->block,
		.weights = weights_of(a),
		.mse = a->mse && rounds_to_nearest(h),
		.own_levels = a->per && learns_levels(h) && strcmp(a->per, "tensor") != 0,
		.grid = h->grids,
		.vector = a->vector == TC_UNSET ? PQ_VECTOR : (int)a->vector,
		.stages = a->codebooks == TC_UNSET ? 1 : (int)a->codebooks,
	};
	h->edge_quant = h->quant;
	h->edge_quant.group = learns_levels(h) ? h->group : edge_group;
	return 0;
}

static int
check_options(const struct args *a, struct tc_err *err)
{
	if (a->sym + a->asym + a->fmin > 1)
		return tc_fail(err, TC_USAGE, "--sym, --asym and --fmin exclude each other");
	if (a->order && !a->sequential)
		return tc_fail(err, TC_USAGE, "--order goes with --sequential");
	if (a->levels && !a->sym)
		return tc_fail(err, TC_USAGE, "--levels goes with --sym");
	return 0;
}

/* What the options ask of all tensors, and what they did not ask for: the
 * provenance says it. */
static int
derive_one(struct args *a, struct tc_err *err)
{
	struct how *h = &a->one;

	*h = (struct how){ .method = a->method ? a->method : "rtn", .bits = a->bits, .group = a->group };
	a->how = h;
	a->nhow = 1;
	derive_quantizer(a, h);
	if (check_methods(a, err) < 0 || derive_how(a, h, err) < 0 ||
	    (a->embed.bits && check_bits(h->grids, "embed", a->embed.bits, err) < 0) ||
	    (a->head.bits && check_bits(h->grids, "head", a->head.bits, err) < 0))
		return -1;
	return 0;
}

static void
write_one(struct args *a)
{
	a->method = a->one.method;
	a->bits = a->one.bits;
	a->group = a->one.group;
	if (uses_vectors(&a->one)) {
		a->vector = a->one.quant.vector;
		a->codebooks = a->one.quant.stages;
		a->book = a->book ? a->book : "tensor";
	}
}

/* What a plan asks of each tensor. */
static int
derive_plan(struct args *a, struct tc_err *err)
{
	const struct tc_plan *p = &a->alloc.plan;

	a->how = tc_zalloc(p->n, sizeof(*a->how), err);
	if (!a->how)
		return -1;
	a->nhow = 0;
	for (size_t i = 0; i < p->n; i++) {
		const struct tc_choice *c = &p->row[i].choice;

		a->how[i] = (struct how){ .method = c->by ? c->by->name : "rtn", .bits = c->by ? c->bits : TC_UNSET,
			.group = c->by ? c->group : TC_GROUP_UNSET };
		derive_quantizer(a, &a->how[i]);
		a->nhow++;
	}
	if (check_methods(a, err) < 0)
		return -1;
	for (size_t i = 0; i < p->n; i++)
		if (derive_how(a, &a->how[i], err) < 0)
			return tc_err_at(err, "%s", p->row[i].name);
	return 0;
}

/* The option beside which no plan can be, since plans say that for each tensor, or
 * NULL. */
static const char *
instead_of_plan(const struct args *a)
{
	const struct { const char *name; bool given; } instead[] = { { "method", a->method }, { "bits", a->bits != TC_UNSET },
		{ "group", a->group != TC_GROUP_UNSET }, { "embed", a->embed.given }, { "head", a->head.given } };

	for (size_t i = 0; i < sizeof(instead) / sizeof(instead[0]); i++)
		if (instead[i].given)
			return instead[i].name;
	return NULL;
}

static int
check_beside_plan(const struct args *a, struct tc_err *err)
{
	const char *option = instead_of_plan(a);

	if (option)
		return tc_fail(err, TC_USAGE, "--%s beside a plan, which says that for each tensor", option);
	if (shares_books(a))
		return tc_fail(err, TC_USAGE, "--book %s: tensors of a plan share no codebooks", a->book);
	return 0;
}

/* As far as it can be told from the command line: a stream may carry a plan, and
 * which options go together depends on its methods. */
static int
derive(struct args *a, struct tc_err *err)
{
	if (check_options(a, err) < 0 || check_compose(a, err) < 0)
		return -1;
	if (a->alloc.known)
		return check_beside_plan(a, err) < 0 ? -1 : derive_plan(a, err);
	return instead_of_plan(a) || shares_books(a) ? derive_one(a, err) : 0;
}

/* And from the stream. */
static int
derive_rest(struct args *a, struct tc_source *source, struct tc_source **from, struct tc_err *err)
{
	if (tc_plan_open(&a->alloc, a->cli, source, from) < 0)
		return -1;
	if (a->alloc.known && !a->alloc.path && (check_beside_plan(a, err) < 0 || derive_plan(a, err) < 0))
		return -1;
	if (!a->how && derive_one(a, err) < 0)
		return -1;
	derive_compose(a);
	a->embed.planned = a->head.planned = a->alloc.known;
	if (!a->alloc.known)
		write_one(a);
	return tc_options_canonical(&stage, a, a->cli->options, sizeof(a->cli->options), err);
}

/* How t is to be quantized, and with which bits; NULL: it is not. */
static const struct how *
chosen(const struct args *a, const struct tc_tensor *t, int *bits)
{
	const struct edge *e = t->role == TC_ROLE_EMBED ? &a->embed : t->role == TC_ROLE_HEAD ? &a->head : NULL;

	if (a->alloc.known) {
		const struct tc_plan_row *row = tc_plan_find(&a->alloc.plan, t->name);

		*bits = row ? row->choice.bits : 0;
		return row && row->choice.by ? &a->how[row - a->alloc.plan.row] : NULL;
	}
	if (t->bias || t->ndim != 2 || (!e && !tc_role_is_linear(t->role)) || (e && !e->quantize))
		return NULL;
	*bits = e && e->bits ? e->bits : a->one.quant.bits;
	return &a->one;
}

/* What --errors says of a tensor. */
static int
add_errors(struct args *a, const struct tc_quantizer *quantizer, const struct tc_quant_input *in, struct tc_err *err)
{
	const struct tc_tensor *q = &a->out.t;
	const struct tc_format *f = q->rank > 0 ? &q->factor : &q->format;
	struct tc_errors_row row = { .name = q->name, .method = quantizer->name, .bits = (size_t)f->bits,
		.parameters = tc_tensor_elements(q) };
	struct tc_errors e;
	char group[24];

	tc_group_print(&f->group, group, sizeof(group));
	row.group = group;
	return tc_errors_measure(&e, in, q, a->cli->pool, err) < 0 ? -1 : tc_errors_file_add(&a->errors_file, &row, &e, err);
}

/* The codebook that t shares; NULL: none. */
static struct tc_pq_book *
shared_book(struct args *a, const struct tc_tensor *t)
{
	if (!shares_books(a) || t->block < 0)
		return NULL;
	return &a->books[strcmp(a->book, "role") == 0 ? t->role : 0];
}

/* What a file of statistics has of t's block; nothing for a factor that reads none. */
static int
feed(struct args *a, const struct tc_tensor *t, struct tc_err *err)
{
	if (!a->stats.path || (t->block < 0 && tc_role_is_of_block(t->role)))
		return 0;
	return tc_measures_feed(&a->measures, &a->stats.hold, t->block, !a->sequential, err);
}

/* Whether t is to be quantized, and how: 1, 0, -1. */
static int
plan(struct args *a, const struct tc_tensor *t, enum tc_weights weights, const struct tc_quantizer **quantizer,
    struct tc_quant_options *o, struct tc_quant_input *in, struct tc_err *err)
{
	const struct how *h;
	int bits;
	bool stale;

	*in = (struct tc_quant_input){ .w = t, .book = shared_book(a, t) };
	h = chosen(a, t, &bits);
	if (!h || !tc_select_matches(&a->common.include, &a->common.exclude, t->name))
		return 0;
	*quantizer = t->block < 0 ? h->grids : h->quantizer;
	*o = t->block < 0 ? h->edge_quant : h->quant;
	o->bits = bits;
	o->weights = weights;
	if (!tc_tensor_has_numbers(t) && !a->requantize)
		return tc_fail(err, TC_DATA, t->rank ? "%s: has factors, and they are no numbers, or not alone" : "%s: is quantized already", t->name);
	if (tc_tensor_check_finite(t, err) < 0)
		return -1;
	if (feed(a, t, err) < 0)
		return -1;
	if (tc_measures_of(&a->measures, *quantizer, o, in, &stale, err) < 0)
		return -1;
	stale = stale && (uses_statistics(h) || weighs(h) || a->errors);
	if (stale && !a->told_stale)
		tc_cli_say(a->cli, "%s: its statistics were measured before weights upstream changed%s", t->name,
		    in->fisher ? "" : " (--sequential measures anew)");
	a->told_stale |= stale;
	return 1;
}

static bool
has_squares(const struct args *a, const struct tc_tensor *t)
{
	int site = tc_role_site(t->role);

	return site >= 0 && a->measures.block == t->block && a->measures.site[site].squares;
}

/* A factor as a matrix.  v reads what the tensor does; nothing is known of what u
 * reads, as of an embedding, nor of the factors' own gradients. */
static int
quantize_factor(struct args *a, const struct tc_tensor *t, enum tc_side side, const struct tc_quantizer **quantizer,
    struct tc_quant_input *in, struct tc_quantized *q, struct tc_err *err)
{
	enum tc_weights weights = side == TC_SIDE_V && has_squares(a, t) ? TC_WEIGHTS_SQUARES : TC_WEIGHTS_NONE;
	struct tc_quant_options o;
	struct tc_tensor view;
	int planned;

	if (weights_of(a) == TC_WEIGHTS_FISHER)
		return tc_fail(err, TC_DATA, "%s: squared gradients are of weights, not of their factors", t->name);
	if (weights_of(a) == TC_WEIGHTS_NONE)
		weights = TC_WEIGHTS_NONE;
	tc_factor_view(t, side, &view);
	if (side == TC_SIDE_U)
		view.block = -1;
	planned = plan(a, &view, weights, quantizer, &o, in, err);
	if (planned > 0 && tc_compose_run(&a->compose, *quantizer, &o, in, q, a->cli->pool, err) < 0)
		return -1;
	return planned;
}

/* A tensor that has factors, which are all of it or the rest of it codes. */
static int
quantize_factors(struct args *a, const struct tc_tensor *t, struct tc_err *err)
{
	struct tc_quantized q[TC_SIDES] = {0};
	const struct tc_quantizer *quantizer;
	struct tc_quant_input in;
	int r = 1;

	if (feed(a, t, err) < 0)
		return -1;
	for (enum tc_side side = 0; r > 0 && side < TC_SIDES; side++)
		r = quantize_factor(a, t, side, &quantizer, &in, &q[side], err);
	if (r > 0 && tc_factored_join(t, (const struct tc_tensor *[]){ &q[TC_SIDE_U].t, &q[TC_SIDE_V].t }, &a->out, err) < 0)
		r = -1;
	for (int side = 0; side < TC_SIDES; side++)
		tc_quantized_free(&q[side]);
	in.w = t;
	if (r > 0 && a->errors && add_errors(a, quantizer, &in, err) < 0)
		r = -1;
	return r;
}

static int
quantize_whole(struct args *a, const struct tc_tensor *t, struct tc_err *err)
{
	const struct tc_quantizer *quantizer;
	struct tc_quant_input in;
	struct tc_quant_options o;
	int planned = plan(a, t, weights_of(a), &quantizer, &o, &in, err);

	if (planned <= 0)
		return planned;
	if (tc_compose_run(&a->compose, quantizer, &o, &in, &a->out, a->cli->pool, err) < 0 ||
	    (a->errors && add_errors(a, quantizer, &in, err) < 0))
		return -1;
	return 1;
}

/* One tensor in, one tensor out; everything else passes through. */
static int
quantize_tensor(void *ctx, const struct tc_tensor *in, struct tc_tensor *out, struct tc_err *err)
{
	struct args *a = ctx;
	int did;

	tc_quantized_free(&a->out);
	did = tc_is_factored(in) ? quantize_factors(a, in, err) : quantize_whole(a, in, err);
	if (did <= 0)
		return did;
	*out = a->out.t;
	a->done++;
	tc_cli_progress(a->cli, "%s", in->name);
	return 1;
}

static int
notice(void *ctx, const struct tc_record *r, struct tc_err *err)
{
	struct args *a = ctx;

	if (r->kind != TC_KIND_STAT || (tc_stat_is_of_tensor(r->u.stat.kind) && !some(a, weighs)))
		return 0;
	/* With --sequential those of activations are measured. */
	if (a->stats.path && (!a->sequential || tc_stat_is_of_tensor(r->u.stat.kind)))
		return 0;
	return tc_measures_take(&a->measures, r, err);
}

/* Vectors of a tensor that shares a codebook. */
static int
gather_tensor(struct args *a, const struct tc_tensor *t, struct tc_err *err)
{
	const struct tc_quantizer *quantizer;
	struct tc_quant_input in;
	struct tc_quant_options o;
	int planned = plan(a, t, weights_of(a), &quantizer, &o, &in, err);

	if (planned <= 0 || !in.book)
		return planned;
	tc_cli_progress(a->cli, "%s: vectors", t->name);
	return tc_pq_gather(in.book, &o, &in, a->cli->pool, err);
}

/* As tc-super(1) does. */
static int
find_super(struct args *a, const struct tc_header *h, struct tc_err *err)
{
	const struct tc_super_rule rule = { TC_SUPER_RATIO, NAN };
	struct tc_rerun model = {0};
	struct tc_super super = {0};
	struct tc_draw draw = {0};
	const struct tc_super_search search = { a->cli, &super, &draw };
	bool complete = false;
	int r = tc_draw_held(&a->hold, TC_SUPER_SAMPLES, &draw, err);

	if (r < 0)
		return tc_err_at(err, "--keep super");
	r = tc_rerun_open(&model, h, &a->hold, a->cli->pool, err);
	for (size_t i = 0; r == 0 && i < draw.nseq; i++)
		if (draw.length[i] == 0 || draw.length[i] > model.forward.config.positions)
			r = tc_fail(err, TC_DATA, "a calibration sequence has %zu tokens, the model %zu positions", draw.length[i],
			    model.forward.config.positions);
	if (r == 0)
		r = tc_super_open(&super, &model, &rule, draw.ntokens, err);
	if (r == 0)
		r = tc_super_search_rounds(&search, TC_SUPER_ROUNDS, &complete);
	for (size_t i = 0; r == 0 && i < super.n; i++)
		r = tc_spots_add(&a->keep.spots, &(struct tc_spot){ super.weight[i].block, super.weight[i].row, super.weight[i].column, NAN }, err);
	if (r == 0)
		tc_cli_say(a->cli, "super weights found: %zu", super.n);
	tc_super_close(&super);
	tc_rerun_close(&model);
	tc_draw_free(&draw);
	return r;
}

/* What has to be known of all of the model before any of it is quantized. */
static bool
looks_first(const struct args *a)
{
	return shares_books(a) || a->keep.super;
}

static int
learn_books(struct args *a, struct tc_err *err)
{
	int r = 0;

	for (size_t i = 0; i < a->hold.n; i++) {
		const struct tc_record *rec = &a->hold.item[i].r;

		if ((!a->sequential && notice(a, rec, err) < 0) ||
		    (rec->kind == TC_KIND_TENSOR && gather_tensor(a, &rec->u.tensor, err) < 0))
			return -1;
	}
	tc_measures_clear(&a->measures);
	for (int i = 0; r == 0 && i < TC_ROLES; i++)
		if (a->books[i].points.n > 0)
			r = tc_pq_learn(&a->books[i], &a->one.quant, a->cli->pool, err);
	return r;
}

static int
look(struct args *a, struct tc_source *source, struct tc_err *err)
{
	if (tc_pass_hold(&a->hold, source, err) < 0 || (shares_books(a) && learn_books(a, err) < 0))
		return -1;
	return a->keep.super ? find_super(a, &source->header, err) : 0;
}

/* The whole stream. */
static int
pass(struct args *a, struct tc_source *source, struct tc_ledger *ledger)
{
	struct tc_pass p = { .tensor = quantize_tensor, .notice = notice, .ctx = a, .strip = a->common.strip };
	struct tc_sequential s = {
		.pool = a->cli->pool,
		.hessian = some(a, uses_hessian) || some(a, uses_magnitudes),
		.magnitudes = some(a, uses_magnitudes),
		.by_layer = a->order && strcmp(a->order, "layer") == 0,
		.spill = tc_cli_spill_hidden,
		.progress = tc_cli_say_block,
		.ctx = a->cli,
	};

	return a->sequential ? tc_sequential_run(source, a->cli->writer, &p, &s, ledger, &a->cli->err) :
	    tc_pass_run(source, a->cli->writer, &p, ledger, &a->cli->err);
}

static void
report(struct tc_cli *cli, const struct args *a, const struct tc_ledger *l)
{
	char embed[16] = "planned", errors[64] = "", what[64];

	if (!a->alloc.known)
		print_edge(&a->embed, embed, sizeof(embed));
	snprintf(what, sizeof(what), a->alloc.known ? "plan (%s)" : "%s %d bit",
	    a->alloc.known ? a->alloc.plan.method : a->one.quantizer->name, a->one.quant.bits);
	if (a->errors)
		snprintf(errors, sizeof(errors), "; mean relative error of weights %.4g", tc_errors_file_mean(&a->errors_file));
	tc_cli_say(cli, "%s: %zu tensors; whole model %.3f bits per weight (%.2f MB), linear layers %.3f; "
	    "embedding: %s, %.1f%% of the bytes%s", what, a->done, tc_ledger_bits_model(l),
	    (double)l->model_bytes / 1e6, tc_ledger_bits_linear(l), embed,
	    l->model_bytes ? 100.0 * (double)l->embed_bytes / (double)l->model_bytes : 0, errors);
	tc_plan_say(&a->alloc, cli, l->model_bytes, true);
}

/* A checkpoint that was quantized where it was made may be quantized anew,
 * results say so; quantizing twice in a pipe is a mistake. */
static bool
came_quantized(const struct tc_header *h)
{
	for (int i = 0; i < h->nsteps; i++)
		if (strcmp(h->step[i].stage, stage.name) == 0)
			return false;
	return h->base_quantized[0] != 0;
}

/* Blocks that a file of super weights names. */
static int
check_kept(const struct args *a, const struct tc_header *h, struct tc_err *err)
{
	struct tc_config config;

	if (!a->keep.file)
		return 0;
	if (tc_config_parse(&config, h->config, h->config_bytes, err) < 0)
		return -1;
	for (size_t i = 0; i < a->keep.spots.n; i++)
		if (a->keep.spots.at[i].tensor >= config.layers)
			return tc_fail(err, TC_DATA, "--keep: a weight of block %zu, the model has %zu blocks", a->keep.spots.at[i].tensor,
			    config.layers);
	return 0;
}

static int
run(struct tc_cli *cli, struct args *a, struct tc_source *source)
{
	struct tc_ledger ledger;
	struct tc_held_source held;
	struct tc_source *from;

	a->requantize = came_quantized(&source->header);
	if (a->requantize)
		tc_cli_say(cli, "the checkpoint was %s before: its numbers are quantized anew", source->header.base_quantized);
	if (tc_select_check(&a->common.include, &a->common.exclude, &source->header, &cli->err) < 0 ||
	    check_kept(a, &source->header, &cli->err) < 0 || derive_rest(a, source, &from, &cli->err) < 0 ||
	    tc_stats_file_open(&a->stats, cli, a, &source->header) < 0 ||
	    (a->errors && tc_errors_file_open(&a->errors_file, a->errors, &cli->err) < 0))
		return -1;
	if (looks_first(a)) {
		if (look(a, from, &cli->err) < 0)
			return -1;
		tc_hold_source(&a->hold, source, &held);
		from = &held.s;
	}
	if (tc_cli_stream_out(cli, source, a->sequential || a->keep.super || some(a, uses_statistics) ? tc_kernels_name() : "") < 0 ||
	    pass(a, from, &ledger) < 0 ||
	    (a->errors && tc_errors_file_commit(&a->errors_file, &cli->err) < 0) ||
	    tc_cli_stream_end(cli, source) < 0)
		return -1;
	if (a->done == 0 && a->common.include.n > 0)
		tc_cli_say(cli, "--include names nothing that is quantized");
	report(cli, a, &ledger);
	return 0;
}

static int
open_model(struct tc_cli *cli, const struct args *a, struct tc_source **source)
{
	return looks_first(a) ? tc_cli_model_kept(cli, 0, source) : tc_cli_model(cli, 0, source);
}

int
main(int argc, char **argv)
{
	struct args a = { .common = tc_common_defaults, .scale = "f16", .bits = TC_UNSET,
		.group = TC_GROUP_UNSET, .damp = NAN, .block = 128, .clip_z = NAN, .residual = TC_UNSET, .vector = TC_UNSET,
		.codebooks = TC_UNSET };
	struct tc_source *source = NULL;
	struct tc_cli cli;

	tc_cli_begin(&cli, &stage, &a, argc, argv);
	a.cli = &cli;
	if (derive(&a, &cli.err) == 0 && open_model(&cli, &a, &source) == 0)
		(void)!run(&cli, &a, source);
	tc_errors_file_discard(&a.errors_file);
	tc_quantized_free(&a.out);
	for (int i = 0; i < TC_ROLES; i++)
		tc_pq_book_free(&a.books[i]);
	tc_hold_clear(&a.hold);
	tc_measures_clear(&a.measures);
	tc_stats_file_close(&a.stats);
	tc_spots_free(&a.keep.spots);
	tc_plan_close(&a.alloc);
	if (a.how != &a.one)
		free(a.how);
	tc_source_close(source);
	return tc_cli_end(&cli);
}
