/* machine.h - what there is to say of the machine and the libraries. */
#ifndef TC_CLI_MACHINE_H
#define TC_CLI_MACHINE_H

#include "cli/cli.h"

/* Adds to run (an object): started, wall_seconds, peak_rss_bytes, host, cpu,
 * cpu_path, threads, version, build, libraries, command.  -1: no memory. */
int tc_machine_describe(const struct tc_cli *cli, json_t *run) TC_MUST_CHECK;

/* The hardware and its kernel, for whoever measures speed: an object with cpu,
 * cpus_online, cpus_allowed, caches (of the first CPU: an array of {level,
 * type, bytes}), flags (those that kernels are chosen by, in the order of
 * /proc/cpuinfo), memory_bytes, kernel.  What the system does not tell is
 * empty or 0.  NULL: no memory. */
json_t *tc_machine_hardware(void);

/* The same as lines of text, on stdout. */
void tc_machine_hardware_print(const json_t *hardware);

/* Bytes of the largest cache; 0 when the system does not tell. */
size_t tc_machine_cache_bytes(void);

#endif
