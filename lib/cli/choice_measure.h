/* choice_measure.h - what each choice does to its tensor, measured on a model that
 * is held. */
#ifndef TC_CLI_CHOICE_MEASURE_H
#define TC_CLI_CHOICE_MEASURE_H

#include "cli/choice_errors.h"
#include "cli/draw.h"
#include "cli/stats_file.h"
#include "method/trial.h"

/* What makes errors of different tensors comparable: tc-alloc(1), --weigh. */
enum tc_weigh { TC_WEIGH_KL, TC_WEIGH_KL_EACH, TC_WEIGH_FISHER, TC_WEIGH_NONE, TC_WEIGH_UNSET };

struct tc_choice_measure {
	struct tc_cli *cli;
	const struct tc_header *header;
	const struct tc_hold *hold;               /* every record */
	const struct tc_stats_file *stats;
	const struct tc_quant_options *common;    /* that all choices share */
	const struct tc_sensitivity *sensitivity; /* of each of the config's tensors */
	size_t samples, positions;                /* sequences that are run; tokens that the model takes */
	size_t keep_bytes;                        /* of hidden states */
	enum tc_weigh weigh;
	enum tc_error_metric metric[TC_ALLOC_KINDS]; /* of errors that are known */
	/* once the model was run: */
	bool open;
	struct tc_draw draw;
	struct tc_trial trial;
	bool told_stale;
};

/* Runs the model on the calibration tokens that are held. */
int tc_choice_measure_open(struct tc_choice_measure *m, struct tc_err *err) TC_MUST_CHECK;
/* The errors and bytes of all candidates' choices whose errors are not known (NAN);
 * runs the model where they are weighed by that. */
int tc_choice_measure_run(struct tc_choice_measure *m, struct tc_candidates *all, struct tc_err *err) TC_MUST_CHECK;
void tc_choice_measure_close(struct tc_choice_measure *m);

#endif
