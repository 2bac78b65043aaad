/* loop_reader -- loop, and it reads JSON by Millrace's own reader as well. */
#define BARE_WITH_READER
#include "loop.c" /* NOLINT(bugprone-suspicious-include) */
