/* pass.h - the one loop of all compressing stages: reader, transform, writer. */
#ifndef TC_METHOD_PASS_H
#define TC_METHOD_PASS_H

#include "metric/ledger.h"
#include "model/config.h"
#include "stream/hold.h"
#include "stream/source.h"
#include "stream/writer.h"

/* One tensor in, one tensor out.  Returns 1 with *out filled (valid until the
 * next call), 0 to pass it on as it is, -1. */
typedef int tc_transform(void *ctx, const struct tc_tensor *in, struct tc_tensor *out, struct tc_err *err);

/* What a stage does with the stream's records. */
struct tc_pass {
	tc_transform *tensor;
	/* Sees statistics and tokens before they go on; may be NULL. */
	int (*notice)(void *ctx, const struct tc_record *r, struct tc_err *err);
	void *ctx;
	bool strip;
	/* The last word on any record, behind the transform: 1 to write what it has
	 * become, 0 to leave it out, -1; may be NULL. */
	int (*edit)(void *ctx, struct tc_record *r, struct tc_err *err);
};

/* What a stream says was written by others: TC_DATA where a tensor is not as a
 * model of this config has it, or a statistic is of a block that it has not. */
int tc_pass_check(const struct tc_config *c, const struct tc_record *r, struct tc_err *err) TC_MUST_CHECK;

/* All that source gives is kept in hold, checked. */
int tc_pass_hold(struct tc_hold *hold, struct tc_source *source, struct tc_err *err) TC_MUST_CHECK;

/* A record that was transformed goes on: edited, counted, written. */
int tc_pass_put(const struct tc_pass *pass, struct tc_record *r, struct tc_writer *w, struct tc_ledger *ledger, struct tc_err *err) TC_MUST_CHECK;
/* Copies every record of source to w, checked, tensors through the transform.
 * Once a weight has changed, statistics that follow were measured on another
 * model: they are marked stale.  strip drops statistics and tokens.  *ledger
 * describes what was written. */
int tc_pass_run(struct tc_source *source, struct tc_writer *w, const struct tc_pass *pass, struct tc_ledger *ledger, struct tc_err *err) TC_MUST_CHECK;

#endif
