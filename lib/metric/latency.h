/* latency.h - what a set of measured times says. */
#ifndef TC_METRIC_LATENCY_H
#define TC_METRIC_LATENCY_H

#include <stddef.h>

/* Percentiles by nearest rank: the smallest of the times that at least so
 * many percent of them do not exceed. */
struct tc_latency {
	double p50, p90, p99;
};

/* Of n > 0 times, which are sorted in place. */
struct tc_latency tc_latency_of(double *seconds, size_t n);

#endif
