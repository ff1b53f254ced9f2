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
tc_cli_hidden(struct tc_cli *cli, struct tc_exec_options *o)
{
	int64_t given = cli->common->memory;

	o->spill_above_bytes = given != TC_UNSET ? (uint64_t)given : available_bytes() / 4 * 3;
	return tc_cli_tmpfile(cli, &o->spill_fd);
}
