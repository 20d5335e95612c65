/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A row of the program's own and a job, in one PostgreSQL transaction: both are there, or neither.
 *
 *     order_postgres CONNINFO QUEUE TEXT [fail]
 *     cc order_postgres.c $(pkg-config --cflags --libs pgqrs libpq)
 *
 * The connection's search_path holds an installed pgqrs schema and the program's tables. With
 * "fail" the program changes its mind at the end.
 */
#include <inttypes.h>
#include <libpq-fe.h>
#include <pgqrs/pgqrs.h>
#include <stdio.h>
#include <string.h>

static int sql(PGconn *conn, const char *text)
{
    PGresult *result = PQexec(conn, text);
    int rc = PQresultStatus(result) == PGRES_COMMAND_OK ? 0 : -1;
    if (rc < 0) {
        fprintf(stderr, "order: %s: %s", text, PQerrorMessage(conn));
    }
    PQclear(result);
    return rc;
}

/* Returns the order's number; free it with PQclear of *result_out. */
static const char *add_order(PGconn *conn, const char *text, PGresult **result_out)
{
    *result_out = PQexecParams(conn, "INSERT INTO orders (text) VALUES ($1) RETURNING id", 1, NULL,
                               &text, NULL, NULL, 0);
    return PQresultStatus(*result_out) == PGRES_TUPLES_OK ? PQgetvalue(*result_out, 0, 0) : NULL;
}

static int add_job(PGconn *conn, const char *queue, const char *order)
{
    char payload[64];
    struct pgqrs_receipt receipt;
    struct pgqrs_failure why;
    (void)snprintf(payload, sizeof payload, "{\"order\":%s}", order);
    const struct pgqrs_item item = pgqrs_item_of(payload);
    const struct pgqrs_enqueue_in what = {.queue = queue, .items = &item, .count = 1};
    if (pgqrs_enqueue_pg(conn, &what, &receipt, &why) < 0) {
        fprintf(stderr, "order: %s\n", why.text);
        return -1;
    }
    printf("%" PRId64 "\n", receipt.id);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: order_postgres CONNINFO QUEUE TEXT [fail]\n");
        return 2;
    }
    PGconn *conn = PQconnectdb(argv[1]);
    int rc = PQstatus(conn) == CONNECTION_OK ? 0 : -1;
    if (rc < 0) {
        fprintf(stderr, "order: %s", PQerrorMessage(conn));
    }
    rc = rc < 0 ? -1
                : sql(conn, "CREATE TABLE IF NOT EXISTS orders (id bigserial PRIMARY KEY, "
                            "text text NOT NULL)");
    rc = rc < 0 ? -1 : sql(conn, "BEGIN");
    if (rc == 0) {
        PGresult *result = NULL;
        const char *order = add_order(conn, argv[3], &result);
        rc = order == NULL || add_job(conn, argv[2], order) < 0 || argc > 4 ? -1 : 0;
        PQclear(result);
        rc = sql(conn, rc < 0 ? "ROLLBACK" : "COMMIT") < 0 ? -1 : rc;
    }
    PQfinish(conn);
    return rc == 0 ? 0 : 1;
}
