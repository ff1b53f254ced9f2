/* structured.h - pruning by which shapes shrink: neurons of the MLP, groups of
 * attention heads, whole blocks.
 *
 *   tc_structured_open(&s, &header, &hold, &options, pool, &err);
 *   ... s.header instead of the model's
 *   tc_structured_run(&s, source, writer, &sequential, strip, &ledger, &err);
 *   tc_structured_close(&s);
 *
 * A neuron's importance is its part of the output's energy, sum over outputs of
 * W_down^2 times its sum of squares, a group's that of its channels, likewise with o
 * (as Wanda's scores, Sun et al. (2023)); without statistics the squared norms of
 * its weights, multiplied: gate, up and down; v and o.  Of every block as many go,
 * the least important ones (of equal ones the first).  Blocks are ranked by
 * influence.h.
 *
 * With Hessians what stays makes up for what goes (substitute.h). */
#ifndef TC_METHOD_STRUCTURED_H
#define TC_METHOD_STRUCTURED_H

#include "method/measures.h"
#include "method/sequential.h"
#include "model/config.h"
#include "stream/hold.h"
#include "tensor/kept.h"

enum tc_structure { TC_STRUCTURE_HEADS, TC_STRUCTURE_NEURONS, TC_STRUCTURE_BLOCKS };

enum { TC_INFLUENCE_SEQUENCES = 8 }; /* of the calibration tokens, at most */

struct tc_structured_options {
	enum tc_structure what;
	double sparsity;               /* share of them that goes, rounded down to whole ones */
	double damping;                /* of the Hessian, where there is one */
	bool sequential;               /* statistics are measured, on what blocks before have become */
	const struct tc_hold *stats;   /* statistics that stand in for the stream's; may be NULL */
};

struct tc_structured {
	struct tc_structured_options o;
	const struct tc_hold *hold;
	struct tc_pool *pool;
	struct tc_config config;       /* as it was */
	struct tc_header header;       /* with the config as it is; no more than its text is s's */
	struct tc_config small;
	size_t units, kept;            /* neurons, groups, blocks that there are, and that stay */
	uint32_t *keep;                /* [layers][kept]; of blocks [kept]: ascending */
	double *influence;             /* blocks: [layers] */
	struct tc_measures measures;
	bool compensated, stale;       /* some weights made up for others; some statistics were stale */
	struct tc_kept made, cut;      /* the tensor in hand */
	void *stat;                    /* the statistic's numbers */
	bool changed;                  /* something upstream of the record in hand */
};

/* hold: every record of the model (tc_pass_hold()); it and h outlive s.  Says what goes, but of
 * neurons and heads of a sequential run.  TC_USAGE when nothing goes, or
 * all; TC_DATA when a tensor of a block is packed, or the config cannot say what
 * comes out, or blocks are to be ranked without tokens. */
int tc_structured_open(struct tc_structured *s, const struct tc_header *h, const struct tc_hold *hold, const struct tc_structured_options *o, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;
/* source: gives hold's records, with h.  sequential: how it is run, where it is;
 * its Hessians are s's matter.  Statistics of sites that shrink are cut, those of
 * tensors that do, and of blocks that go, left out. */
int tc_structured_run(struct tc_structured *s, struct tc_source *source, struct tc_writer *w, const struct tc_sequential *sequential, bool strip, struct tc_ledger *ledger, struct tc_err *err) TC_MUST_CHECK;
void tc_structured_close(struct tc_structured *s);

#endif
