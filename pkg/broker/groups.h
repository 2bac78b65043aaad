/*
 * groups -- the broker's side of pkg/group.
 */
#ifndef MR_BROKER_GROUPS_H
#define MR_BROKER_GROUPS_H

#include "broker/internal.h"

int groups_open(struct broker *b, struct mr_error *err);
/* groups_tick -- now and then: offsets expire, groups are counted. */
void groups_tick(struct broker *b);

#endif
