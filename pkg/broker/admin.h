/*
 * admin -- topics made, changed and deleted.
 */
#ifndef MR_BROKER_ADMIN_H
#define MR_BROKER_ADMIN_H

#include "broker/internal.h"

/*
 * admin_auto_create -- make those topics that a Metadata request asks for and
 * that aren't there.  1 if some are being made, and metadata_answer follows;
 * 0 if there is nothing to do.
 */
int admin_auto_create(struct broker *b, struct request *req);
void metadata_answer(struct broker *b, struct request *req);

#endif
