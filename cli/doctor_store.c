/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of the store itself, and of what it stands on. */
#include "cli/doctor.h"

#include "cli/runs.h"

int pgqrs_check_schema(struct pgqrs_doctor *d, struct pgqrs_error *err)
{
    int rc;
    PGQRS_RUN_TRY(rc, err, pgqrs_store_verify(d->cli->store, err));
    if (rc == 0 || err->code != PGQRS_ERR_SCHEMA) {
        return rc;
    }
    d->schema_is_bad = true;
    pgqrs_doctor_found(d, PGQRS_SEVERITY_ERROR, "%s", err->text);
    pgqrs_doctor_mend(d, "pgqrs admin install");
    return 0;
}
