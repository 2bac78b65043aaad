/*
 * clock -- the three times that there are.
 *
 * Wall time is for people and records, and may jump.  Monotonic time is for
 * durations in this process.  Boot time goes on during suspend and is the
 * same for all processes of a host until it boots again: it is what leases
 * between processes are measured in.  None of these fails.
 *
 * In builds with MR_FAILPOINTS wall time is shifted by the milliseconds, an
 * int64_t, in the file that MILLRACE_CLOCK_SHIFT names; a test sets the clock
 * by writing there.  The file is mapped at the first reading; if it can't be,
 * the process aborts.
 */
#ifndef MR_CLOCK_H
#define MR_CLOCK_H

#include <stddef.h>
#include <stdint.h>

int64_t clock_wall_ms(void); /* since 1970-01-01T00:00:00Z */
int64_t clock_wall_us(void);
int64_t clock_mono_us(void);
int64_t clock_boot_ms(void);

/*
 * clock_boot_id -- the kernel's boot id (36 characters and NUL); all zeros
 * where /proc isn't mounted, as in an empty chroot.
 */
void clock_boot_id(char id[37]);

/*
 * clock_rfc3339 -- 2026-11-21T02:07:00.123Z, 24 characters and NUL.  Times
 * outside of the years 1 to 9999 are shown as the nearest one inside.
 */
void clock_rfc3339(int64_t wall_ms, char text[25]);

#endif
