/* clock.h - time that only goes forward. */
#ifndef TC_BASE_CLOCK_H
#define TC_BASE_CLOCK_H

double tc_now(void); /* seconds, monotonic */

#endif
