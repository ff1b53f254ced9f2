/* result.h - result files, one JSON object per cell: see tc-results(5). */
#ifndef TC_CLI_RESULT_H
#define TC_CLI_RESULT_H

#include "cli/cli.h"

#define TC_RESULT_SCHEMA 1

/* Writes {schema, stage, measured, measured_sha256, run} to path: whole or
 * not at all, and never over a file whose `measured` differs (TC_CHECK: "a
 * different result is there already"); an identical one is success and is
 * left alone.  `measured` must be a function of the inputs; its provenance
 * (steps of `source` with input hashes) is added here.  run: times, host,
 * CPU model and path, threads, library versions, peak memory, added to what
 * the caller gives.  Steals neither reference. */
int tc_result_write(struct tc_cli *cli, const char *path, const struct tc_source *source, json_t *measured, json_t *run) TC_MUST_CHECK;

/* 0 when path's directory is there and can be written to, else TC_IO: before
 * hours of work, not after. */
int tc_result_check(const char *path, struct tc_err *err) TC_MUST_CHECK;

#endif
