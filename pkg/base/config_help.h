/*
 * config_help -- the text of --help; for config.c only.
 */
#ifndef MR_CONFIG_HELP_H
#define MR_CONFIG_HELP_H

#include "base/buffer.h"
#include "base/config.h"

#define CONFIG_ENV_NAME_SIZE 96

/* config_env_name -- MILLRACE_POLL_MS for the option poll-ms. */
void config_env_name(const struct config_option *opt,
    char name[CONFIG_ENV_NAME_SIZE]);

/* config_help -- all of the program's flags in groups, 80 columns wide. */
void config_help(const struct config_program *program, struct buffer *out);

#endif
