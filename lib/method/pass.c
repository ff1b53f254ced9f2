#include "method/pass.h"

int
tc_pass_check(const struct tc_config *c, const struct tc_record *r, struct tc_err *err)
{
	if (r->kind == TC_KIND_TENSOR)
		return tc_config_check(c, &r->u.tensor, err);
	if (r->kind == TC_KIND_STAT && r->u.stat.block >= 0 && (size_t)r->u.stat.block >= c->layers)
		return tc_fail(err, TC_DATA, "a %s statistic is of block %d, the model has %zu blocks", tc_stat_names[r->u.stat.kind],
		    r->u.stat.block, c->layers);
	return 0;
}

int
tc_pass_hold(struct tc_hold *hold, struct tc_source *source, struct tc_err *err)
{
	struct tc_config c;
	struct tc_record r;
	int got;

	if (tc_config_parse(&c, source->header.config, source->header.config_bytes, err) < 0)
		return -1;
	while ((got = tc_source_next(source, &r, err)) > 0)
		if (tc_pass_check(&c, &r, err) < 0 || tc_hold_add(hold, &r, source->mapped, err) < 0)
			return -1;
	return got;
}

int
tc_pass_put(const struct tc_pass *pass, struct tc_record *r, struct tc_writer *w, struct tc_ledger *ledger, struct tc_err *err)
{
	int written = pass->edit ? pass->edit(pass->ctx, r, err) : 1;

	if (written <= 0)
		return written;
	tc_ledger_add(ledger, r);
	return tc_writer_put(w, r, err);
}

int
tc_pass_run(struct tc_source *source, struct tc_writer *w, const struct tc_pass *pass, struct tc_ledger *ledger,
    struct tc_err *err)
{
	struct tc_config c;
	struct tc_record r;
	bool changed = false;
	int got;

	if (tc_config_parse(&c, source->header.config, source->header.config_bytes, err) < 0)
		return -1;
	tc_ledger_begin(ledger, &source->header);
	while ((got = tc_source_next(source, &r, err)) > 0) {
		struct tc_tensor out;
		int did = 0;

		if (tc_pass_check(&c, &r, err) < 0)
			return -1;
		if (r.kind == TC_KIND_STAT || r.kind == TC_KIND_TOKENS) {
			if (pass->notice && pass->notice(pass->ctx, &r, err) < 0)
				return -1;
			if (pass->strip)
				continue;
		}
		if (r.kind == TC_KIND_TENSOR) {
			did = pass->tensor(pass->ctx, &r.u.tensor, &out, err);
			if (did < 0)
				return -1;
		}
		if (did > 0) {
			r.u.tensor = out;
			r.raw = NULL;
			changed = true;
		}
		if (changed && r.kind == TC_KIND_STAT && !r.u.stat.stale) {
			r.u.stat.stale = true;
			r.raw = NULL;
		}
		if (tc_pass_put(pass, &r, w, ledger, err) < 0)
			return -1;
	}
	return got;
}
