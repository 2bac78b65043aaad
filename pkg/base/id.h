/*
 * id -- random bytes and UUIDs.
 *
 * id_random_bytes takes from getrandom(2) and aborts if the kernel has none
 * to give, since nothing sound can be done without.  id_uuid_v7 is RFC 9562
 * section 5.7 with method 3 of section 6.2: 48 bits of milliseconds, 12 of the
 * fraction of one, then random bits, so ids sort by the microsecond that they
 * were made at, and rows by id are added at the end.  ${wall_us} are
 * microseconds since the epoch.  Any thread may call.
 */
#ifndef MR_ID_H
#define MR_ID_H

#include <stddef.h>
#include <stdint.h>

#define ID_UUID_SIZE 37 /* 36 characters and NUL */

void id_random_bytes(void *bytes, size_t length);
void id_uuid_v7(int64_t wall_us, char text[ID_UUID_SIZE]);
/* id_uuid_valid -- 1 for 8-4-4-4-12 lower case hexadecimal digits. */
int id_uuid_valid(const char *text);
/* id_uuid_read -- 1 and ${out} in lower case for a UUID in either case, which
 * is how RFC 9562 section 4 has them read; else 0. */
int id_uuid_read(const char *text, char out[ID_UUID_SIZE]);

/*
 * A seeded generator (xoshiro256**, by Blackman and Vigna, seeded by
 * splitmix64) for simulated data: same seed, same stream, on every machine.
 * The state is four words so that it can be kept in a row.
 */
struct id_rng {
	uint64_t s[4];
};
void id_rng_seed(struct id_rng *rng, uint64_t seed);
uint64_t id_rng_next(struct id_rng *rng);
double id_rng_uniform(struct id_rng *rng); /* [0, 1), 53 bits */
double id_rng_normal(struct id_rng *rng); /* Box-Muller, no state kept */

#endif
