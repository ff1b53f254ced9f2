#include "cli/stats_file.h"

#include <string.h>

int
tc_stats_file_parse(const char *value, void *field, struct tc_err *err)
{
	struct tc_stats_file *f = field;

	(void)err; /* whatever it is, it names a file */
	f->path = value;
	return 0;
}

void
tc_stats_file_print(const void *field, char *buf, size_t size)
{
	const struct tc_stats_file *f = field;

	buf[0] = '\0';
	if (f->hold.n > 0)
		snprintf(buf, size, "%016llx", (unsigned long long)f->source->hash);
}

static int
read_all(struct tc_stats_file *f, struct tc_err *err)
{
	struct tc_record r;
	int got;

	while ((got = tc_source_next(f->source, &r, err)) > 0)
		if (r.kind == TC_KIND_STAT && tc_hold_add(&f->hold, &r, f->source->mapped, err) < 0)
			return -1;
	return got;
}

int
tc_stats_file_open(struct tc_stats_file *f, struct tc_cli *cli, const void *args, const struct tc_header *of)
{
	const struct tc_header *h;

	if (!f->path)
		return 0;
	if (tc_cli_model_path(cli, f->path, &f->source) < 0)
		return -1;
	h = &f->source->header;
	if (h->config_bytes != of->config_bytes || memcmp(h->config, of->config, of->config_bytes) != 0)
		return tc_fail(&cli->err, TC_DATA, "%s: is of another model", f->path);
	if (read_all(f, &cli->err) < 0)
		return tc_err_at(&cli->err, "%s", f->path);
	if (f->hold.n == 0)
		return tc_fail(&cli->err, TC_DATA, "%s: has no statistics", f->path);
	return tc_options_canonical(cli->stage, args, cli->options, sizeof(cli->options), &cli->err);
}

int
tc_stats_file_tell(const struct tc_stats_file *f, const struct tc_record *r, struct tc_measures *m, struct tc_err *err)
{
	if (r->kind == TC_KIND_STAT && !f->path)
		return tc_measures_take(m, r, err);
	if (r->kind == TC_KIND_TENSOR && f->path)
		return tc_measures_feed(m, &f->hold, r->u.tensor.block, true, err);
	return 0;
}

void
tc_stats_file_close(struct tc_stats_file *f)
{
	tc_hold_clear(&f->hold);
	tc_source_close(f->source);
	*f = (struct tc_stats_file){0};
}
