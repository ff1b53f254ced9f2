/* tc-merge: adds the statistics of calibration and Fisher shards.  See tc-merge(1).
 *
 * The shards are read in lock-step: each must have the same records in the
 * same places, but for the sequences that its tokens and statistics cover.
 * Sums are put together in the tree that a run over all sequences builds
 * (lib/stats/tree.h), whatever the order of the operands. */
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "stats/tree.h"

#define SHARDS_MAX 256

struct args {
	struct tc_common common;
};

static const struct tc_option options[] = { { .type = TC_OPT_END } };

static const struct tc_stage stage = {
	.name = "tc-merge",
	.summary = "add the statistics of calibration or Fisher shards",
	.operands = "SHARD ...",
	.operands_max = SHARDS_MAX,
	.options = options,
	.common = TC_COMMON_ALWAYS | TC_COMMON_OUTPUT,
	.common_offset = offsetof(struct args, common),
};

/* Sequences first .. first+n-1, and what covers them. */
struct span {
	uint64_t first, n;
	const struct tc_record *from;
	size_t node;               /* which one, in a statistic */
};

struct merge {
	struct tc_cli *cli;
	size_t n;                  /* shards */
	struct tc_source **source;
	struct tc_record *record;  /* of each shard, at the same place */
	struct span *span;         /* of the record in hand */
	size_t nspans, cap;
	uint64_t sequences;        /* that the shards cover; 0: not known yet */
};

static const char *
shard_name(const struct merge *m, size_t i)
{
	return m->cli->parsed.noperands ? m->cli->parsed.operand[i] : "standard input";
}

/* "tensor x", "stat hessian of attn_in, block 3", "stat fisher of q weight, block 3" */
static const char *
describe(const struct tc_record *r, char buf[TC_NAME_MAX + 64])
{
	static const char *const kind[] = { "file", "tokens", "stat", "tensor", "ref" };
	size_t size = TC_NAME_MAX + 64;

	if (r->kind == TC_KIND_TENSOR)
		snprintf(buf, size, "tensor %s", r->u.tensor.name);
	else if (r->kind == TC_KIND_FILE)
		snprintf(buf, size, "file %s", r->u.file.name);
	else if (r->kind == TC_KIND_STAT && tc_stat_is_of_tensor(r->u.stat.kind))
		snprintf(buf, size, "stat %s of %s %s, block %d", tc_stat_names[r->u.stat.kind],
		    tc_role_names[r->u.stat.role], tc_part_words[r->u.stat.bias], r->u.stat.block);
	else if (r->kind == TC_KIND_STAT)
		snprintf(buf, size, "stat %s of %s, block %d", tc_stat_names[r->u.stat.kind],
		    tc_site_names[r->u.stat.site], r->u.stat.block);
	else
		snprintf(buf, size, "%s", r->kind == TC_KIND_OTHER ? "record of an unknown kind" : kind[r->kind]);
	return buf;
}

/* ---- what all shards must agree on ---- */

static bool
same_header(const struct tc_header *a, const struct tc_header *b)
{
	if (a->config_bytes != b->config_bytes || memcmp(a->config, b->config, a->config_bytes) != 0 ||
	    a->tied != b->tied || a->parameters != b->parameters || strcmp(a->base_quantized, b->base_quantized) != 0 ||
	    a->nsteps != b->nsteps)
		return false;
	for (int i = 0; i < a->nsteps; i++) {
		const struct tc_step *s = &a->step[i], *t = &b->step[i];

		if (strcmp(s->stage, t->stage) != 0 || strcmp(s->build, t->build) != 0 || strcmp(s->cpu, t->cpu) != 0 ||
		    strcmp(s->options, t->options) != 0)
			return false;
	}
	return true;
}

/* Both were read from streams, so that equal content is equal bytes. */
static bool
same_record(const struct tc_record *a, const struct tc_record *b)
{
	const struct tc_part *p, *q;
	int n, k;

	if (a->raw_bytes != b->raw_bytes || memcmp(a->raw, b->raw, a->raw_bytes) != 0)
		return false;
	p = tc_record_parts(a, &n);
	q = tc_record_parts(b, &k);
	for (int i = 0; i < n; i++)
		if (p[i].size_bytes != q[i].size_bytes || memcmp(p[i].data, q[i].data, p[i].size_bytes) != 0)
			return false;
	return n == k;
}

static bool
all_same(const struct merge *m)
{
	for (size_t i = 1; i < m->n; i++)
		if (!same_record(&m->record[0], &m->record[i]))
			return false;
	return true;
}

/* Whether two records differ in nothing but what they cover. */
static bool
mergeable(const struct tc_record *a, const struct tc_record *b)
{
	const struct tc_stat *s = &a->u.stat, *t = &b->u.stat;

	if (a->kind != b->kind)
		return false;
	if (a->kind == TC_KIND_TOKENS)
		return strcmp(a->u.tokens.tag, b->u.tokens.tag) == 0 &&
		    strcmp(a->u.tokens.text_sha256, b->u.tokens.text_sha256) == 0;
	/* What a kind has no use for is 0. */
	return a->kind == TC_KIND_STAT && s->kind == t->kind && s->site == t->site && s->role == t->role &&
	    s->bias == t->bias && s->block == t->block && strcmp(s->tag, t->tag) == 0 && s->place == t->place &&
	    s->stale == t->stale && s->dim == t->dim && s->group == t->group;
}

static int
differ(const struct merge *m, size_t i, struct tc_err *err)
{
	char a[TC_NAME_MAX + 64], b[TC_NAME_MAX + 64];

	describe(&m->record[0], a);
	describe(&m->record[i], b);
	if (strcmp(a, b) == 0)
		return tc_fail(err, TC_DATA, "%s and %s: not shards of one run: the %s differs", shard_name(m, 0), shard_name(m, i), a);
	return tc_fail(err, TC_DATA, "%s and %s: not shards of one run: record %llu is a %s in one, a %s in the other",
	    shard_name(m, 0), shard_name(m, i), (unsigned long long)m->source[0]->records - 1, a, b);
}

static int
check_mergeable(const struct merge *m, struct tc_err *err)
{
	for (size_t i = 1; i < m->n; i++)
		if (!mergeable(&m->record[0], &m->record[i]))
			return differ(m, i, err);
	return 0;
}

/* ---- which sequences are covered ---- */

static int
add_span(struct merge *m, struct span s, struct tc_err *err)
{
	if (m->nspans == m->cap) {
		size_t cap = 2 * m->cap + 64;
		struct span *p = realloc(m->span, cap * sizeof(*p));

		if (!p)
			return tc_fail_nomem(err, cap * sizeof(*p));
		m->span = p;
		m->cap = cap;
	}
	m->span[m->nspans++] = s;
	return 0;
}

static int
by_first(const void *x, const void *y)
{
	const struct span *a = x, *b = y;

	return (a->first > b->first) - (a->first < b->first);
}

/* The stages that draw sequences, and what they call them. */
static const struct {
	const char *stage, *tag;
} drawers[] = { { "tc-calib", "calib" }, { "tc-fisher", "fisher" } };

/* The step that drew the sequences in hand, the last one that drew any; NULL
 * when there is none.  *tag: of the tokens, when there is one. */
static const struct tc_step *
drawing_step(const struct tc_header *h, const char **tag)
{
	for (int i = h->nsteps - 1; i >= 0; i--)
		for (size_t k = 0; k < sizeof(drawers) / sizeof(drawers[0]); k++)
			if (strcmp(h->step[i].stage, drawers[k].stage) == 0) {
				*tag = drawers[k].tag;
				return &h->step[i];
			}
	return NULL;
}

/* What "--samples N" of the step that drew the sequences says, or 0: a shard
 * that is missing at the end leaves no gap. */
static uint64_t
samples_asked(const struct tc_header *h)
{
	static const char option[] = "--samples ";
	const char *tag, *at;
	const struct tc_step *step = drawing_step(h, &tag);

	at = step ? strstr(step->options, option) : NULL;
	return at ? strtoull(at + sizeof(option) - 1, NULL, 10) : 0;
}

static int
missing(uint64_t from, uint64_t to, struct tc_err *err)
{
	return tc_fail(err, TC_DATA, "sequences %llu to %llu are in no shard", (unsigned long long)from,
	    (unsigned long long)to - 1);
}

/* Sorts the spans: they must be 0 .. sequences-1, each once. */
static int
check_spans(struct merge *m, struct tc_err *err)
{
	uint64_t at = 0, asked;

	qsort(m->span, m->nspans, sizeof(*m->span), by_first);
	for (size_t i = 0; i < m->nspans; at += m->span[i++].n) {
		const struct span *s = &m->span[i];

		if (s->first > at)
			return missing(at, s->first, err);
		if (s->first < at)
			return tc_fail(err, TC_DATA, "sequences %llu to %llu are in more than one shard",
			    (unsigned long long)s->first, (unsigned long long)(at - s->first < s->n ? at : s->first + s->n) - 1);
		if (s->n > UINT64_MAX - at)
			return tc_fail(err, TC_DATA, "more sequences than can be counted");
	}
	asked = m->sequences ? m->sequences : samples_asked(&m->source[0]->header);
	if (at < asked)
		return missing(at, asked, err);
	if (m->sequences && at > m->sequences)
		return tc_fail(err, TC_DATA, "sequences %llu to %llu have no tokens or statistics before",
		    (unsigned long long)m->sequences, (unsigned long long)at - 1);
	m->sequences = at;
	return 0;
}

/* ---- merging ---- */

/* Writes a record that was put together: all but lists and data is as in the
 * first shard. */
static int
put_merged(struct merge *m, struct tc_record *r, void *data, size_t size_bytes)
{
	r->raw = NULL;
	r->part[0].data = data;
	r->part[0].size_bytes = size_bytes;
	return tc_writer_put(m->cli->writer, r, &m->cli->err);
}

/* The gradient is that of a mean over a sequence's tokens: of longer sequences
 * its square is smaller, and a sum over both kinds means nothing. */
static int
check_tokens(const struct merge *m, struct tc_err *err)
{
	uint64_t want = m->record[0].u.tokens.length[0];

	if (strcmp(m->record[0].u.tokens.tag, "fisher") != 0)
		return 0;
	for (size_t i = 0; i < m->n; i++)
		for (size_t k = 0; k < m->record[i].u.tokens.nseq; k++)
			if (m->record[i].u.tokens.length[k] != want)
				return tc_fail(err, TC_DATA, "%s has sequences of %llu tokens, %s of %llu: squared gradients of a mean "
				    "scale with the length and cannot be added", shard_name(m, 0), (unsigned long long)want,
				    shard_name(m, i), (unsigned long long)m->record[i].u.tokens.length[k]);
	return 0;
}

static int
merge_tokens(struct merge *m, struct tc_err *err)
{
	struct tc_record r = m->record[0];
	struct tc_tokens *t = &r.u.tokens;
	struct tc_buf data = {0};
	size_t at = 0;
	int result = -1;

	m->nspans = 0;
	for (size_t i = 0; i < m->n; i++) {
		const struct tc_tokens *u = &m->record[i].u.tokens;

		if (add_span(m, (struct span){ .first = u->first, .n = u->nseq, .from = &m->record[i] }, err) < 0)
			return -1;
	}
	if (check_spans(m, err) < 0 || check_tokens(m, err) < 0)
		return tc_err_at(err, "tokens");
	t->first = 0;
	t->nseq = (size_t)m->sequences;
	t->length = tc_alloc(t->nseq, sizeof(*t->length), err);
	if (!t->length)
		goto out;
	for (size_t i = 0; i < m->nspans; i++) {
		const struct tc_record *from = m->span[i].from;

		memcpy(t->length + at, from->u.tokens.length, from->u.tokens.nseq * sizeof(*t->length));
		at += from->u.tokens.nseq;
		if (tc_buf_append(&data, from->part[0].data, from->part[0].size_bytes, err) < 0)
			goto out;
	}
	result = put_merged(m, &r, data.p, data.n);
out:
	free(t->length);
	tc_buf_free(&data);
	return result;
}

/* The subtrees of all shards, ascending, into the tree. */
static int
fill_tree(const struct merge *m, struct tc_tree *tree, struct tc_err *err)
{
	size_t each = tc_stat_values(tree->kind, tree->dim) * tc_dtypes[tc_stat_dtype(tree->kind)].size_bytes;

	for (size_t i = 0; i < m->nspans; i++) {
		const struct span *s = &m->span[i];
		void *value = tc_alloc(each, 1, err);

		if (!value)
			return -1;
		memcpy(value, (const char *)s->from->part[0].data + s->node * each, each);
		if (tc_tree_push(tree, s->from->u.stat.node[s->node], value, err) < 0)
			return -1;
	}
	return 0;
}

static double
tokens_per_sequence(const struct tc_node *n)
{
	return (double)n->count / (double)tc_node_sequences(n);
}

static bool
same_length(const struct tc_node *a, const struct tc_node *b)
{
	const struct tc_node *high = a->level > b->level ? a : b, *low = high == a ? b : a;
	uint32_t up = high->level - low->level;

	return high->count >> up == low->count && low->count << up == high->count;
}

/* The same, of what the nodes say; sequences that differ in one node do not show. */
static int
check_lengths(const struct merge *m, struct tc_err *err)
{
	const struct span *a = &m->span[0];

	for (size_t i = 1; i < m->nspans; i++) {
		const struct span *b = &m->span[i];
		const struct tc_node *na = &a->from->u.stat.node[a->node], *nb = &b->from->u.stat.node[b->node];

		if (!same_length(na, nb))
			return tc_fail(err, TC_DATA, "%s has sequences of %g tokens, %s of %g: squared gradients of a mean "
			    "scale with the length and cannot be added", shard_name(m, (size_t)(a->from - m->record)),
			    tokens_per_sequence(na), shard_name(m, (size_t)(b->from - m->record)), tokens_per_sequence(nb));
	}
	return 0;
}

static int
merge_stat(struct merge *m, struct tc_err *err)
{
	struct tc_record r = m->record[0];
	struct tc_stat *s = &r.u.stat;
	char name[TC_NAME_MAX + 64];
	struct tc_tree tree;
	void *data = NULL;
	size_t size_bytes;
	int result = -1;

	m->nspans = 0;
	for (size_t i = 0; i < m->n; i++)
		for (size_t k = 0; k < m->record[i].u.stat.nnodes; k++) {
			const struct tc_node *node = &m->record[i].u.stat.node[k];

			if (add_span(m, (struct span){ .first = tc_node_first(node), .n = tc_node_sequences(node),
			    .from = &m->record[i], .node = k }, err) < 0)
				return -1;
		}
	if (check_spans(m, err) < 0 || (tc_stat_is_of_tensor(s->kind) && check_lengths(m, err) < 0))
		return tc_err_at(err, "%s", describe(&r, name));
	tc_tree_init(&tree, s->kind, s->dim);
	if (fill_tree(m, &tree, err) == 0 && tc_tree_flatten(&tree, &data, &size_bytes, err) == 0) {
		s->node = tree.node;
		s->nnodes = tree.n;
		result = put_merged(m, &r, data, size_bytes);
	}
	free(data);
	tc_tree_free(&tree);
	return result;
}

/* Whether tokens are those that the shards divide among them. */
static bool
are_drawn(const struct merge *m, const struct tc_tokens *t)
{
	const char *tag;

	return !drawing_step(&m->source[0]->header, &tag) || strcmp(t->tag, tag) == 0;
}

/* A record from each shard.  A statistic that all have alike is of an earlier
 * step, and so are tokens of its tag; other tokens that all have alike are
 * those of one shard given twice. */
static int
merge_record(struct merge *m, struct tc_err *err)
{
	bool tokens = m->record[0].kind == TC_KIND_TOKENS;

	if (!(tokens && are_drawn(m, &m->record[0].u.tokens)) && all_same(m))
		return tc_writer_put(m->cli->writer, &m->record[0], err);
	if (check_mergeable(m, err) < 0)
		return -1;
	return tokens ? merge_tokens(m, err) : merge_stat(m, err);
}

/* ---- the streams ---- */

static int
open_shards(struct merge *m, struct tc_err *err)
{
	m->n = m->cli->parsed.noperands ? (size_t)m->cli->parsed.noperands : 1;
	m->source = tc_zalloc(m->n, sizeof(struct tc_source *), err);
	m->record = tc_zalloc(m->n, sizeof(*m->record), err);
	if (!m->source || !m->record)
		return -1;
	for (size_t i = 0; i < m->n; i++) {
		if (tc_cli_model(m->cli, (int)i, &m->source[i]) < 0)
			return -1;
		if (m->n > 1 && m->source[i]->bytes == 0)
			return tc_fail(err, TC_DATA, "%s: a checkpoint, which has no statistics to merge", shard_name(m, i));
		if (!same_header(&m->source[0]->header, &m->source[i]->header))
			return tc_fail(err, TC_DATA, "%s and %s: not shards of one run: another model, or other steps (see tc-ls(1))",
			    shard_name(m, 0), shard_name(m, i));
	}
	return 0;
}

/* 1 with a record from each shard, 0 when all have ended, -1. */
static int
next(struct merge *m, struct tc_err *err)
{
	int got = 0;

	for (size_t i = 0; i < m->n; i++) {
		int k = tc_source_next(m->source[i], &m->record[i], err);

		if (k < 0)
			return -1;
		if (i > 0 && k != got)
			return tc_fail(err, TC_DATA, "%s and %s: not shards of one run: %s has fewer records",
			    shard_name(m, 0), shard_name(m, i), shard_name(m, got > 0 ? i : 0));
		got = k;
	}
	return got;
}

/* Known only at the end: what each step read. */
static int
check_inputs(const struct merge *m, struct tc_err *err)
{
	const struct tc_header *a = &m->source[0]->header;

	for (size_t i = 1; i < m->n; i++)
		for (int k = 0; k < a->nsteps; k++)
			if (a->step[k].input != m->source[i]->header.step[k].input)
				return tc_fail(err, TC_DATA, "%s and %s: step %d (%s) read different streams: merge shards before it",
				    shard_name(m, 0), shard_name(m, i), k + 1, a->step[k].stage);
	return 0;
}

static int
run(struct merge *m)
{
	struct tc_err *err = &m->cli->err;
	int got;

	if (open_shards(m, err) < 0 || tc_cli_stream_out(m->cli, m->source[0], NULL) < 0)
		return -1;
	while ((got = next(m, err)) > 0)
		if (merge_record(m, err) < 0)
			return -1;
	if (got < 0 || check_inputs(m, err) < 0)
		return -1;
	if (m->n > 1 && m->sequences == 0)
		return tc_fail(err, TC_DATA, "the streams have no tokens or statistics to merge");
	if (tc_cli_stream_end(m->cli, m->source[0]) < 0)
		return -1;
	if (m->n > 1)
		tc_cli_say(m->cli, "%zu shards, %llu sequences", m->n, (unsigned long long)m->sequences);
	return 0;
}

int
main(int argc, char **argv)
{
	struct args a = { .common = tc_common_defaults };
	struct tc_cli cli;
	struct merge m = { .cli = &cli };

	tc_cli_begin(&cli, &stage, &a, argc, argv);
	(void)!run(&m);
	for (size_t i = 0; m.source && i < m.n; i++)
		tc_source_close(m.source[i]);
	free(m.source);
	free(m.record);
	free(m.span);
	return tc_cli_end(&cli);
}
