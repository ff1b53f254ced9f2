#include "cli/scored.h"

#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/compute.h"
#include "cli/tokens.h"

/* The weights as a user of sha256sum(1) could recompute them: each tensor's
 * name and parts, in order. */
static void
hash_tensor(struct tc_scored *m, const struct tc_tensor *t)
{
	tc_sha256_add(&m->hash, t->name, strlen(t->name) + 1);
	for (int i = 0; i < t->nparts; i++)
		tc_sha256_add(&m->hash, t->part[i].data, t->part[i].size_bytes);
}

static int
take_tokens(struct tc_scored *m, const struct tc_record *r, struct tc_err *err)
{
	if (strcmp(r->u.tokens.tag, "calib") != 0)
		return 0;
	free(m->calib);
	m->ncalib = r->part[0].size_bytes / sizeof(*m->calib);
	m->calib = tc_alloc(m->ncalib, sizeof(*m->calib), err);
	if (!m->calib)
		return -1;
	memcpy(m->calib, r->part[0].data, m->ncalib * sizeof(*m->calib));
	snprintf(m->calib_sha256, sizeof(m->calib_sha256), "%s", r->u.tokens.text_sha256);
	return 0;
}

static int
take_file(struct tc_cli *cli, struct tc_scored *m, const struct tc_record *r)
{
	int done = tc_cli_take_tokenizer(cli, r, &m->tokenizer);

	if (done <= 0)
		return done;
	return tc_sha256_of(r->part[0].data, r->part[0].size_bytes, m->tokenizer_sha256, &cli->err);
}

static int
take_record(struct tc_cli *cli, struct tc_scored *m, const struct tc_scored_how *how, const struct tc_record *r)
{
	struct tc_err *err = &cli->err;
	int done;

	tc_ledger_add(&m->ledger, r);
	if (r->kind == TC_KIND_FILE)
		return take_file(cli, m, r);
	if (r->kind == TC_KIND_TOKENS)
		return take_tokens(m, r, err);
	if (r->kind != TC_KIND_TENSOR && r->kind != TC_KIND_REF)
		return 0;
	if (!m->forward.exec.config && how->start(how->ctx, m) < 0)
		return -1;
	if (r->kind == TC_KIND_TENSOR && m->hash.ctx)
		hash_tensor(m, &r->u.tensor);
	done = tc_forward_take(&m->forward, r, m->source->mapped, err);
	if (done > 0)
		tc_cli_progress(cli, "%s: block %zu of %zu", how->name, m->forward.blocks_done, m->forward.config.layers);
	return done < 0 ? -1 : 0;
}

int
tc_scored_run(struct tc_cli *cli, struct tc_scored *m, const struct tc_scored_how *how)
{
	struct tc_err *err = &cli->err;
	struct tc_record r;
	int got;

	if (tc_forward_open(&m->forward, &m->source->header, cli->pool, err) < 0)
		return -1;
	m->open = true;
	m->forward.compute = how->compute;
	tc_ledger_begin(&m->ledger, &m->source->header);
	if (how->hashed && tc_sha256_begin(&m->hash, err) < 0)
		return -1;
	while ((got = tc_source_next(m->source, &r, err)) > 0)
		if (take_record(cli, m, how, &r) < 0)
			return -1;
	if (got < 0)
		return -1;
	tc_sha256_end(&m->hash, m->sha256);
	if (tc_forward_finish(&m->forward, err) < 0)
		return -1;
	return tc_cli_compute_say(cli, m->forward.compute);
}

void
tc_scored_free(struct tc_scored *m)
{
	char hex[TC_SHA256_HEX];

	tc_sha256_end(&m->hash, hex);
	if (m->open)
		tc_forward_close(&m->forward);
	tc_tokenizer_free(m->tokenizer);
	free(m->calib);
	tc_source_close(m->source);
	*m = (struct tc_scored){0};
}

int
tc_scored_same_tokens(const struct tc_scored *m, const struct tc_scored *b, struct tc_err *err)
{
	if (m->forward.config.vocab != b->forward.config.vocab)
		return tc_fail(err, TC_DATA, "its vocabulary has %zu entries, the model's %zu",
		    b->forward.config.vocab, m->forward.config.vocab);
	return m->tokenizer && b->tokenizer ? tc_tokenizer_check_same(m->tokenizer, b->tokenizer, err) : 0;
}

json_t *
tc_scored_json(const struct tc_scored *m)
{
	return json_pack("{s:s,s:s,s:o,s:s}", "arch", m->forward.config.arch, "weights_sha256", m->sha256,
	    "ledger", tc_ledger_json(&m->ledger), "base_quantized", m->source->header.base_quantized);
}

int
tc_scored_size_json(const struct tc_scored *m, json_t *o, struct tc_err *err)
{
	json_t *size = json_pack("{s:{s:f,s:f},s:I,s:I}", "bits_per_weight", "model", tc_ledger_bits_model(&m->ledger),
	    "linear", tc_ledger_bits_linear(&m->ledger), "model_bytes", (json_int_t)m->ledger.model_bytes,
	    "parameters", (json_int_t)m->ledger.parameters);
	int r = size ? json_object_update(o, size) : -1;

	json_decref(size);
	return r < 0 ? tc_fail_nomem(err, 0) : 0;
}

void
tc_scored_size_print(const struct tc_scored *m)
{
	printf("bits per weight %.3f whole model, %.3f linear layers  (%.2f MB, %.2f M parameters)\n",
	    tc_ledger_bits_model(&m->ledger), tc_ledger_bits_linear(&m->ledger), (double)m->ledger.model_bytes / 1e6,
	    (double)m->ledger.parameters / 1e6);
}
