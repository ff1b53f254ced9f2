#include "cli/hidden.h"

#include <stdio.h>

/* MemAvailable counts what the page cache would give back. */
static uint64_t
available_bytes(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib = 0;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib ? kib * 1024 : UINT64_MAX;
}

int
tc_cli_hidden(struct tc_cli *cli, size_t tokens, const struct tc_config *c, unsigned models, struct tc_exec_options *o)
{
	int64_t given = cli->common->memory;
	size_t bytes;

	o->spill_above_bytes = (given != TC_UNSET ? (uint64_t)given : available_bytes() / 4 * 3) / models;
	o->spill_fd = -1;
	if (tc_mul_over(tokens, c->width * sizeof(float), &bytes))
		return tc_fail(&cli->err, TC_NOMEM, "too many tokens");
	return bytes > o->spill_above_bytes ? tc_cli_tmpfile(cli, &o->spill_fd) : 0;
}
