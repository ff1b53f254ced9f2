/* candidates.h - a model's tensors with what may become of each: --choices,
 * --embed, --head and --rule of tc-alloc. */
#ifndef TC_CLI_CANDIDATES_H
#define TC_CLI_CANDIDATES_H

#include "cli/choices.h"
#include "cli/options.h"
#include "method/alloc.h"
#include "method/sensitivity.h"
#include "model/config.h"

enum tc_candidate_kind { TC_CANDIDATE_LINEAR, TC_CANDIDATE_EMBED, TC_CANDIDATE_HEAD };

/* A matrix. */
struct tc_candidate {
	struct tc_tensor t;          /* as the config has it, and, where its weights are there, as they are */
	size_t place;                /* among the config's tensors */
	const struct tc_tensor *weights; /* NULL: not there */
	size_t held;                 /* place of these among the held records */
	enum tc_candidate_kind kind;
	bool counts;                 /* its bytes are of the budget */
	struct tc_choices choices;
	struct tc_alloc_choice cost[TC_CHOICES_MAX]; /* error: NAN where not known */
	uint64_t bytes[TC_CHOICES_MAX]; /* cost's, whether they count or not */
};

struct tc_candidates {
	struct tc_candidate *at;
	size_t n;
	uint64_t fixed;              /* bytes of all other tensors */
};

/* Of the config's matrices: those of blocks, the embedding, an untied head.
 * dtype: what tensors are of whose weights are not there. */
int tc_candidates_make(struct tc_candidates *all, const struct tc_config *c, enum tc_dtype dtype, struct tc_err *err) TC_MUST_CHECK;
void tc_candidates_free(struct tc_candidates *all);
/* The one that t is, or NULL. */
struct tc_candidate *tc_candidates_find(const struct tc_candidates *all, const struct tc_tensor *t);

/* Rules "WHERE=CHOICE" in their order, the last that matches a tensor is its own.
 * WHERE: a role, first:N, last:N or block:I of blocks, or a shell pattern on names.
 * TC_USAGE when one matches nothing. */
int tc_candidates_rule(struct tc_candidates *all, const struct tc_config *c, const struct tc_list *rules, struct tc_err *err) TC_MUST_CHECK;
/* Rules' grammar alone, and whether their choices can have the scale, before there is
 * a model. */
int tc_candidates_check_rules(const struct tc_list *rules, enum tc_dtype scale, struct tc_err *err) TC_MUST_CHECK;

/* Bytes of every choice, as it would be laid out; of skip, as the weights are. */
int tc_candidates_cost(struct tc_candidates *all, const struct tc_quant_options *common, struct tc_err *err) TC_MUST_CHECK;

#endif
