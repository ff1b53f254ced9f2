/* sensitivity.h - statistics of a stream as a number a tensor, by which tensors
 * can be ranked. */
#ifndef TC_METHOD_SENSITIVITY_H
#define TC_METHOD_SENSITIVITY_H

#include "model/config.h"
#include "stream/record.h"

/* NAN: not known. */
struct tc_sensitivity {
	double act;     /* mean over its inputs of their L2 norm over the calibration tokens; of a
	                 * tied embedding those of the head */
	double fisher;  /* mean over its weights of the squared gradient of a sequence's mean NLL */
	double length;  /* mean tokens of the sequences it was taken from */
};

/* s: one for each tensor of the config, in tc_config_tensor()'s order. */
void tc_sensitivity_begin(struct tc_sensitivity *s, size_t n);
/* Takes a statistic that says something of it; others are not looked at. */
int tc_sensitivity_take(struct tc_sensitivity *s, const struct tc_config *c, const struct tc_record *stat, struct tc_err *err) TC_MUST_CHECK;

/* What an error of weights adds to the NLL, 1/2 sum of F d^2, where F, the second
 * derivative of a token's NLL, is the mean squared gradient of a sequence's mean
 * times its tokens (empirical Fisher); error2: sum of d^2, all weights alike.  NAN
 * where it is not known. */
double tc_sensitivity_loss(const struct tc_sensitivity *s, double error2);

#endif
