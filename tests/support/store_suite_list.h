/* SPDX-License-Identifier: Apache-2.0 */
#ifndef PGQRS_TESTS_STORE_SUITE_LIST_H
#define PGQRS_TESTS_STORE_SUITE_LIST_H

/*
 * Which case of the store suite shows what a test of pgqrs 0.15 shows, or why there is none; then
 * which case shows that a known fault of pgqrs' stores is absent. Comment only. Files are the
 * store_suite_*.c beside this one, without that prefix, unless named whole.
 *
 * Store, opening
 *   anystore_delegates_to_backend         basic: enqueue_many_or_none, on each backend
 *   anystore_backend_name                 tests/test_store_remote.c: two_clients_share_a_broker
 *   anystore_concurrency_model            pgqrs_store_claim tells: tests/test_store_sqlite.c:
 *                                         claimed_once
 *   anystore_config_access, _query_access differs: a store shows neither its DSN nor its SQL
 *   anystore_all_table_accessors          queue: what_the_store_says_of_itself, basic: metrics
 *   anystore_admin_operations             every case: its end verifies the store
 *   anystore_worker_creation              worker_state: names_made_up, a_name_in_use
 *   anystore_connect_with_dsn, _invalid_dsn  tests/test_sqlite_schema.c
 *   sqlite_connect                        the whole suite on "memory"
 *   foreign_key_enforcement               basic: enqueue_many_or_none (no such queue),
 *                                         worker: register_needs_a_queue
 *   migration_versioning                  basic: installing_again
 *   no_phantom_duplicates_with_ephemeral_workers  tests/test_store_sqlite.c:
 *                                         two_processes_share_a_queue; store_random.c
 *
 * Queues
 *   create_and_list_queue                 basic: queue_listing; queue: queues_by_the_page
 *   create_duplicate_queue_error          basic: queue_names
 *   purge_queue                           queue: purging_each_kind, purging_in_steps. Differs:
 *                                         workers stay, pgqrs deletes even live ones
 *   queue_deletion_with_references        queue: deleting_is_refused_and_told. Differs: rows of
 *                                         stopped workers are no reason to refuse
 *                                         (deleting_takes_stopped_workers_along)
 *   referential_integrity_checks          verify after every case; tests/test_sqlite_schema.c
 *
 * Messages, archive
 *   simple_message_lifecycle              settle: ends, settled_before
 *   archive_batch_messages                settle: settle_and_lease_at_once
 *   archive_nonexistent_message           settle: all_three_fence
 *   interval_parameter_syntax             lease: renewing. Differs: the lease ends at now + time,
 *   consumer_extend_visibility_behavior   pgqrs adds to the old end (fault_renewals_add_up)
 *   dlq                                   housekeeping: used_up_ones_are_buried. Differs: by queue,
 *                                         and never what is leased
 *   archive_count_for_queue               basic: metrics, queue: counting_stops
 *   archive_replay_and_recovery           act: replaying
 *   batch_management_ops                  lease: renewing_tells_each, act: many_at_once
 *
 * Builders, where they map to a store
 *   enqueue_all_options, _edge_cases, _with_delay_duration, builder_delay_behavior
 *                                         lease: delayed_until_due, message: at_a_time
 *   enqueue_batch_builder, builder_batch_enqueue_advanced
 *                                         basic: enqueue_many_or_none. Differs: none is no error
 *   dequeue_with_vt_duration, builder_vt_offset_behavior
 *                                         lease: lease_writes, two_wants_share
 *   dequeue_batch                         lease: no_more_than_wanted, first_in_first_out
 *   builder_method_chaining               differs: nobody gives a store another time than its own
 *   enqueue_empty_messages_error          basic: payloads_round_trip
 *   dequeue_*_suspended, _interrupted     worker_state: only_the_awake_are_given_work. Differs: it
 *                                         gets nothing, which is no error; stopped ones neither
 *   dequeue_single_handler_execute_propagates_handler_error
 *                                         settle: retrying (with a delay)
 *   dequeue_poll_*                        the loop is the broker's: tests/test_worker.c
 *
 * Workers
 *   worker_registration                   worker_admin: what_a_row_tells
 *   worker_lifecycle, producer_shutdown   worker_state: every_move_from_every_state. Differs:
 *                                         ready -> interrupted is a move, pgqrs refuses it
 *   worker_message_assignment             worker_admin: workers_that_messages_name
 *   worker_health_and_heartbeat, _health_check
 *                                         worker: beating, worker_admin: statistics (stale)
 *   consumer_shutdown_no_messages, _with_held_messages, _all_messages_released
 *                                         worker_state: shutting_down_while_it_holds
 *   delete_consumer, worker_deletion_*    worker_admin: deleting_a_worker,
 *                                         workers_that_messages_name, released_messages_do_not_name
 *   admin_worker_management               worker_admin: every_worker_filter, statistics
 *   admin_registration_persists_worker_record
 *                                         worker_state: names_made_up. Differs: no look at a store
 *                                         leaves a row
 *   purge_old_workers                     worker_admin: purging_old_workers
 *   zombie_lifecycle_and_reclamation      housekeeping: the_dead_are_robbed
 *   queue_metrics, system_stats           basic: metrics, queue: what_the_store_says_of_itself
 *   worker_health_stats, worker_stats     worker_admin: statistics
 *
 * Concurrency, ownership
 *   zombie_consumer_race_condition, _batch_ops
 *                                         worker: a_result_after_the_end_is_refused, settle:
 *                                         all_three_fence (the same worker's old attempt, too)
 *   concurrent_visibility_extension       lease: renewing
 *   single_process_producer_consumer_contention
 *                                         tests/test_store_sqlite.c: two_processes_share_a_queue
 *
 * Validation: a store refuses an empty payload and a zero byte (basic: payloads_round_trip); sizes,
 * depth, keys and rates are the caller's: tests/test_payload_rules.c, tests/test_rate_limit.c.
 *
 * Faults
 *   dequeueing costs more with the backlog    tests of each backend, by its plans
 *   expired leases never come back            fault_leases_of_the_dead_stay
 *   busy workers are taken for dead           fault_busy_workers_are_robbed, housekeeping:
 *                                             the_living_are_not, others_are_left_alone...
 *   a reclaimed worker goes on consuming      fault_the_stopped_go_on_consuming
 *   no backoff; used up is invisible          fault_failures_come_back_at_once
 *   a lost archive is silent                  fault_a_lost_archive_is_silent
 *   dlq archives what runs, in all queues     fault_burying_takes_what_runs
 *   queues of workflows can not be purged     fault_queues_of_workflows_can_not_be_purged
 *   purging deletes live workers              fault_purging_takes_live_workers
 *   a crashed worker's name is lost           fault_names_are_lost, worker: taken_over
 *   nameless workers pile up                  fault_nameless_workers_pile_up
 *   archived rows can be released             fault_archived_rows_are_released
 *   extending adds to the old end             fault_renewals_add_up
 *   zero and huge times wrap or write NULL    fault_times_overflow, fault_times_below_zero
 *   clocks are mixed                          fault_clocks_are_mixed
 *   replay keeps traces                       act: replaying
 *   lists have no pages, counts no bound      message: every_filter_by_the_page, queue:
 *                                             counting_stops
 *   a batch of more than 50 never fits        fault_batches_are_small
 *   a batch has one outcome                   fault_batches_have_one_outcome
 *   the order within a batch is open          lease: first_in_first_out
 *   creating a workflow twice is an error     flow: definitions
 *   two that begin a run: one fails           flow: beginning, beginning_what_others_made
 *   cancelled and ended runs are overwritten  flow: the_ended_stay, the_cancelling_are_cancelled
 *   late workers overwrite steps              flow: all_three_fence_runs, flow_step:
 *                                             steps_are_stored_once, stored_steps_stay
 *   pauses and retries come back at once      flow_step: sleeping, suspended_for_a_retry
 *   a pause spends an attempt                 flow_step: sleeping
 *   a pause leaves its error behind           flow: beginning_what_others_made, flow_step: sleeping
 *   a run's end and its message's are two     flow: endings
 *   a dead message's run goes on for ever     flow_run: settled_by_an_exchange, archived_by_others
 *   cancelling stays for ever                 flow_run: cancelling, cancelling_what_nobody_runs
 *   a replayed run can only fail              flow_run: replaying_a_failed_run
 *   no early resume, no events, no children   flow_run: resuming, flow_event
 *   results and data are never one            flow_step: statements_come_with_the_step
 */

#endif
