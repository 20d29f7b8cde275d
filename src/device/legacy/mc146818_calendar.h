/* Calendar arithmetic for the real-time clock: the proleptic Gregorian calendar from year 0. */
#pragma once
#include "base/types.h"

struct rtc_date {
	unsigned year, month, day; /* month and day from 1 */
};

/* Days since 0000-01-01. Out-of-range fields carry over (month 13 is next January). */
u32 rtc_days(struct rtc_date date);
struct rtc_date rtc_date(u32 days);
