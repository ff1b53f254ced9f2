#include "cli/super_search.h"

#include "cli/spill.h"

struct progress {
	const struct tc_super_search *s;
	const char *what;
	tc_rerun_block *block;
};

static int
see_block(void *ctx, size_t block, struct tc_err *err)
{
	const struct progress *p = ctx;

	tc_cli_progress(p->s->cli, "%s: block %zu of %zu", p->what, block + 1, p->s->super->layers);
	return p->block(p->s->super, block, err);
}

int
tc_super_search_run(const struct tc_super_search *s, const char *what, tc_rerun_block *block, const struct tc_spots *zeroed)
{
	struct tc_exec_options o = { .with_hooks = block == tc_super_look };
	struct tc_rerun *model = s->super->model;
	struct progress p = { s, what, block };

	if (tc_rerun_begin(model, o.with_hooks ? tc_peaks_hook : NULL, &s->super->peaks, &s->cli->err) < 0 ||
	    tc_cli_forward_tokens(s->cli, &model->forward, s->draw->nseq, s->draw->length, s->draw->ids, o, 1) < 0)
		return -1;
	return tc_rerun_end(model, &(struct tc_rerun_change){ .zeroed = zeroed }, see_block, &p, &s->cli->err);
}

int
tc_super_search_rounds(const struct tc_super_search *s, size_t rounds, bool *complete)
{
	char what[32];
	int found = 1;

	while (found > 0 && s->super->rounds < rounds) {
		snprintf(what, sizeof(what), "round %zu", s->super->rounds + 1);
		if (tc_super_search_run(s, what, tc_super_look, &s->super->zeroed) < 0)
			return -1;
		if ((found = tc_super_round(s->super, &s->cli->err)) < 0)
			return -1;
	}
	*complete = !found;
	return 0;
}
