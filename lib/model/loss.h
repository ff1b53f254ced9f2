/* loss.h - what predictions cost, and the gradient of that.
 *
 * Of a prediction with logits z, a target and perhaps a teacher's logits t,
 *
 *     (1 - alpha) NLL + alpha T^2 KL(softmax(t / T) || softmax(z / T)),
 *
 * NLL = -log softmax(z)[target] (Hinton, Vinyals and Dean (2015), "Distilling
 * the Knowledge in a Neural Network", where T^2 keeps the gradient's size).
 * The vocabulary is taken in tiles, and like attention's values the head's rows
 * are summed by weights that are still growing: so one pass gives the loss and
 * the gradient of the hidden states. */
#ifndef TC_MODEL_LOSS_H
#define TC_MODEL_LOSS_H

#include "model/vocab.h"

/* The softmaxes that a loss is made of. */
enum tc_loss_term { TC_LOSS_NLL, TC_LOSS_STUDENT, TC_LOSS_TEACHER, TC_LOSS_TERMS };

struct tc_loss {
	size_t n;                       /* predictions, */
	const size_t *row;              /* [n]: the hidden states that make them, ascending, */
	const uint32_t *target;         /* [n], below vocab */
	const float *weight;            /* [n]: what each counts: 1 / n for a mean */
	double alpha, temperature;      /* of the teacher's part; 0 where there is none */
	const struct tc_final *model, *teacher; /* teacher NULL: alpha is 0 */
};

/* What a run leaves for tc_loss_logits(): of each prediction, n of each term. */
struct tc_loss_state {
	struct tc_loss_sum {
		float max, sum;         /* of exp(z / T - max) */
	} *sum[TC_LOSS_TERMS];      /* [n], NULL for a term that is not there */
};
void tc_loss_state_free(struct tc_loss_state *s);

/* value[n]: the loss of each prediction, weight not counted.  gradient: [tokens]
 * [width]; row row[i] is set to the gradient of sum weight x loss, others are
 * left alone. */
int tc_loss_run(const struct tc_loss *l, struct tc_loss_state *state, double *value, float *gradient, struct tc_pool *pool, struct tc_err *err) TC_MUST_CHECK;

/* Logits as a tc_vocab_fn is given them (the model's and, with a teacher, the
 * teacher's) become, in z[0], the gradient of sum weight x loss with regard to the
 * products of hidden states and head, before any cap. */
void tc_loss_logits(const struct tc_loss *l, const struct tc_loss_state *state, const struct tc_vocab *v, const struct tc_vocab_rows *rows, float *const z[TC_VOCAB_SIDES]);

#endif
