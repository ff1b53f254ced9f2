#include "cli/spill.h"

#include <stdio.h>
#include <unistd.h>

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
tc_cli_spill(struct tc_cli *cli, size_t size_bytes, unsigned shares, struct tc_spill_options *o)
{
	int64_t given = cli->common->memory;

	o->above_bytes = (given != TC_UNSET ? (uint64_t)given : available_bytes() / 4 * 3) / shares;
	o->fd = -1;
	return size_bytes > o->above_bytes ? tc_cli_tmpfile(cli, &o->fd) : 0;
}

void
tc_cli_spill_close(struct tc_spill_options *o)
{
	if (o->fd >= 0)
		close(o->fd);
	o->fd = -1;
}
