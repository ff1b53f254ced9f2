/* machine.h - what a result file says of the machine and the libraries. */
#ifndef TC_CLI_MACHINE_H
#define TC_CLI_MACHINE_H

#include "cli/cli.h"

/* Adds to run (an object): started, wall_seconds, peak_rss_bytes, host, cpu,
 * cpu_path, threads, version, build, libraries, command.  -1: no memory. */
int tc_machine_describe(const struct tc_cli *cli, json_t *run) TC_MUST_CHECK;

#endif
