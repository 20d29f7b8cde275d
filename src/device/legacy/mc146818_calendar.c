/*
 * Days to dates and back. A guest may have written anything into the clock's registers, so every
 * value is accepted; the years a register pair can hold keep all sums far inside 32 bits.
 */
#include "device/legacy/mc146818_calendar.h"

static const u16 days_before_month[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334 };

static bool is_leap(u32 year) { return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0); }

/* Year 0 is a leap year, hence the rounding up. */
static u32 days_before_year(u32 year)
{
	return 365 * year + (year + 3) / 4 - (year + 99) / 100 + (year + 399) / 400;
}

static u32 days_before(u32 year, u32 month0)
{
	return days_before_year(year) + days_before_month[month0] + (month0 > 1 && is_leap(year));
}

u32 rtc_days(struct rtc_date date)
{
	u32 month0 = date.month ? date.month - 1 : 0;
	u32 day0 = date.day ? date.day - 1 : 0;

	return days_before(date.year + month0 / 12, month0 % 12) + day0;
}

struct rtc_date rtc_date(u32 days)
{
	u32 year = days / 366; /* never too late, and early by at most one in 1500 */
	u32 month0 = 0;

	while (days_before_year(year + 1) <= days)
		year++;
	while (month0 < 11 && days_before(year, month0 + 1) <= days)
		month0++;
	return (struct rtc_date){ year, month0 + 1, days - days_before(year, month0) + 1 };
}
