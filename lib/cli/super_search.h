/* super_search.h - runs of a model that look for super weights, and the search. */
#ifndef TC_CLI_SUPER_SEARCH_H
#define TC_CLI_SUPER_SEARCH_H

#include "cli/cli.h"
#include "cli/draw.h"
#include "method/super.h"

#define TC_SUPER_RATIO 50   /* what tc-super(1) says of --ratio, */
#define TC_SUPER_ROUNDS 10  /* --rounds, */
#define TC_SUPER_SAMPLES 8  /* and --samples */

struct tc_super_search {
	struct tc_cli *cli;
	struct tc_super *super;
	const struct tc_draw *draw;
};

/* The draw's tokens through the model, some weights zeroed; block (of a struct
 * tc_super) is called behind each, what names the run where progress is shown. */
int tc_super_search_run(const struct tc_super_search *s, const char *what, tc_rerun_block *block, const struct tc_spots *zeroed) TC_MUST_CHECK;
/* Rounds until one finds nothing, at most so many: *complete. */
int tc_super_search_rounds(const struct tc_super_search *s, size_t rounds, bool *complete) TC_MUST_CHECK;

#endif
