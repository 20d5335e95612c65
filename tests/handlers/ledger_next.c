/* SPDX-License-Identifier: Apache-2.0 */
/* The next version of ledger.c, as a deploy brings it. */
#define LEDGER_VERSION 2
#include "tests/handlers/ledger.c" /* NOLINT(bugprone-suspicious-include) */
