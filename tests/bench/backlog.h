/*
 * backlog -- the orders that inventory's bench works off, made by number, so
 * that the service and the bare loop get the same ones.
 */
#ifndef BENCH_BACKLOG_H
#define BENCH_BACKLOG_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "event/event.h"

#define BACKLOG_SOURCE "/millrace/orders/00000000000000000000000000000b1c"
#define BACKLOG_PARTITIONS 3
#define BACKLOG_FROM_MS INT64_C(1790000000000)
#define BACKLOG_A_MS 10 /* orders in a millisecond */

/* The finisher of splitmix64. */
static inline uint64_t
backlog_mix(uint64_t x)
{
	x += UINT64_C(0x9e3779b97f4a7c15);
	x = (x ^ (x >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ (x >> 27)) * UINT64_C(0x94d049bb133111eb);
	return (x ^ (x >> 31));
}

/* The ${n}-th order: a UUIDv7, one of the catalogue's items, 1 to 3 of it. */
static inline void
backlog_order(int64_t n, struct order_event *order)
{
	static const char *const items[] = {"Laptop", "Phone", "Headphones",
	    "Monitor", "Keyboard"};
	uint64_t random = backlog_mix((uint64_t)n);
	uint64_t ms = (uint64_t)(BACKLOG_FROM_MS + n / BACKLOG_A_MS);

	order->type = ORDER_CREATED;
	order->quantity = 1 + (int64_t)(random % 3);
	order->ts_ms = (int64_t)ms;
	snprintf(order->item, sizeof(order->item), "%s", items[random / 3 % 5]);
	snprintf(order->order_id, sizeof(order->order_id),
	    "%08" PRIx64 "-%04" PRIx64 "-7%03" PRIx64 "-8%03" PRIx64
	    "-%012" PRIx64,
	    ms >> 16 & 0xffffffff, ms & 0xffff, random & 0xfff,
	    random >> 12 & 0xfff, backlog_mix(random) & 0xffffffffffff);
}

#endif
