/* SPDX-License-Identifier: Apache-2.0 */
/* The table of commands. */
#include "cli/cli.h"

static const char enqueue_help[] =
    "JSON is the payload. @FILE: the payload is in a file. -: standard input has one\n"
    "payload a line; empty lines are skipped. A batch is enqueued whole or not at\n"
    "all; after a bad line nothing more is. With --wrap a payload is UTF-8 text.\n"
    "With --unique-key and a live message that has the key already, nothing is\n"
    "enqueued, and that one's id is printed.\n";
static const char delete_help[] =
    "A queue is not deleted while it has messages, live or archived, or workers that\n"
    "are not stopped.\n";
static const char purge_help[] =
    "Without --what: those that are archived and those that wait. Whoever runs a\n"
    "leased one finds its lease lost.\n";
static const char pause_help[] = "What is leased goes on. pgqrs' own clients lease all the same.\n";
static const char queue_wait_help[] = "Exit status 1 when the time was over before.\n";
static const char message_list_help[] =
    "States: ready, delayed, leased, archived. Outcomes: done, failed, cancelled.\n";
static const char release_help[] =
    "A released message waits again at once, with its attempt spent.\n";
static const char cancel_help[] =
    "One that runs is told to stop, on whatever host; its worker is killed when it\n"
    "does not within cancel_grace. A cancelled message is not tried again.\n";
static const char interrupt_help[] =
    "A job that runs is told to stop, and goes back to its queue, no attempt spent.\n"
    "Its worker leases nothing more until pgqrs worker resume.\n";
static const char run_help[] =
    "A running pgqrsd starts a worker for this one message, one that waits or a dead\n"
    "letter, and lends it this terminal. A crash makes the message a dead letter at\n"
    "once. Ctrl-C cancels. The exit status is 0 only when the job is done.\n";
static const char dlq_replay_help[] =
    "Those with these ids; or with --queue all of a queue; or with --all those of\n"
    "all queues.\n";
static const char dlq_purge_help[] =
    "--older-than is needed; 0 is all. Without --queue: those of all queues.\n";
static const char reload_help[] =
    "Says what has changed. Where workers have to be replaced, one of the new version\n"
    "is tried first, and the old ones go on when it does not do well: see the log, or\n"
    "ctl status.\n";
static const char ctl_pause_help[] =
    "Or from all queues; with this pgqrsd alone: queue pause is for all that use the\n"
    "store. What runs goes on, what has not begun is given back. A reload changes\n"
    "nothing of it, the next start forgets it.\n";
static const char ctl_resume_help[] = "Without QUEUE: from all of them, also after a drain.\n";
static const char drain_help[] =
    "What has not begun is given back. pgqrsd stays up, and ctl resume lets it work\n"
    "again. Exit status 0: no job runs; 75: some did when the time was over, and\n"
    "still nothing is leased.\n";
static const char stop_help[] =
    "As the signals TERM and, with --now, QUIT. Waits until it has gone. Exit status\n"
    "0: it has stopped in order, whether jobs were returned or not; 1: it has not.\n";
static const char kill_help[] =
    "WORKER is its number in ctl status. The job that it runs has spent its attempt,\n"
    "as at its timeout, and is tried again, or is a dead letter if that was the last\n"
    "one. It does not count for on_crash.\n";
static const char scale_help[] =
    "Asks a running pgqrsd, until it is started or configured anew. Fewer: idle\n"
    "workers go first, a busy one finishes its job.\n";
static const char workflow_create_help[] =
    "With the queue of that name, unless there is one. A definition that is there\n"
    "already stays, which is no error.\n";
static const char trigger_help[] =
    "INPUT is one JSON value; @FILE: it is in a file; -: on standard input. Without\n"
    "it: null. Prints the message's id, by which all other commands know the run.\n"
    "With --unique-key and a live run that has the key, nothing is triggered, and\n"
    "that one's id is printed.\n";
static const char result_help[] =
    "Its output, exit status 0; or its error on standard error, exit status 1. A run\n"
    "that goes on as another one is followed. One that has not ended: exit status\n"
    "75; with --wait it is waited for.\n";
static const char run_cancel_help[] =
    "A run that waits sees it at once, one that runs at its next step. With --wait\n"
    "the exit status is 0 when it ended as cancelled, 75 when it has not ended.\n";
static const char run_resume_help[] =
    "Sleeps are over, retries due, and waits for events time out.\n";
static const char signal_help[] =
    "JSON (or @FILE, or - for standard input) is what the run gets; without it: null.\n"
    "It may come before the run waits for it. The first event of a name counts, for\n"
    "ever; another one changes nothing.\n";
static const char run_list_help[] =
    "Those that a worker has begun. States: QUEUED, RUNNING, PAUSED, SUCCESS, ERROR,\n"
    "CANCELLING, CANCELLED. --before takes a run_id, as JSON has it.\n";
static const char run_state_help[] = "What its handler has set, and the events that were sent.\n";
static const char fork_help[] =
    "A new run, with the stored results of the steps before STEP (without --from: of\n"
    "all), and the same input unless --input is given. Prints its id.\n";
static const char worker_list_help[] = "States: ready, polling, suspended, interrupted, stopped.\n";
static const char worker_purge_help[] =
    "--older-than, since the last heartbeat, is needed; 0 is all. A worker that a\n"
    "message names stays.\n";

static const char schedule_create_help[] =
    "--cron is needed, and either --queue or --workflow. A running pgqrsd enqueues a\n"
    "job, or triggers a run, at each of its times.\n";
static const char schedule_pause_help[] = "Times that pass meanwhile are not caught up with.\n";
static const char schedule_delete_help[] =
    "One of a configuration file is deleted there. Its jobs stay.\n";
static const char doctor_help[] =
    "A line for each thing found: how bad it is, what it is, and the command that\n"
    "mends it, to be given the same --dsn or --config. The store is looked at, and a\n"
    "pgqrsd that runs here is asked. Exit status 0: nothing was found, 1: something.\n";
static const char top_help[] =
    "Its queues and workers, and what is counted in the store, in this terminal. Keys\n"
    "sort, filter, pause queues, cancel jobs and kill workers; h tells which. With\n"
    "-o json: once, as JSON, after the time that --interval tells.\n";
static const char schedule_run_help[] = "Enqueues it once, now, also when it is paused.\n";

const struct pgqrs_cli_command pgqrs_cli_commands[] = {
    {.group = "admin",
     .name = "install",
     .words = "",
     .help = "create or complete the tables",
     .create = true,
     .run = pgqrs_cmd_admin_install},
    {.group = "admin",
     .name = "verify",
     .words = "",
     .help = "check that the tables are complete",
     .run = pgqrs_cmd_admin_verify},
    {.group = "admin",
     .name = "stats",
     .words = "",
     .help = "count queues, workers and messages",
     .options = PGQRS_OPT(EXACT) | PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_admin_stats},
    {.group = "queue",
     .name = "create",
     .words = "NAME...",
     .help = "create queues",
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_queue_create},
    {.group = "queue",
     .name = "list",
     .words = "",
     .help = "list the queues",
     .options = PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_queue_list},
    {.group = "queue",
     .name = "delete",
     .words = "NAME...",
     .help = "delete queues that are empty",
     .more = delete_help,
     .min_words = 1,
     .max_words = SIZE_MAX,
     .options = PGQRS_OPT(YES),
     .run = pgqrs_cmd_queue_delete},
    {.group = "queue",
     .name = "purge",
     .words = "NAME",
     .help = "delete messages of a queue",
     .more = purge_help,
     .min_words = 1,
     .max_words = 1,
     .options = PGQRS_OPT(WHAT) | PGQRS_OPT(YES),
     .run = pgqrs_cmd_queue_purge},
    {.group = "queue",
     .name = "metrics",
     .words = "[NAME]",
     .help = "count what is in a queue, or in each",
     .max_words = 1,
     .options = PGQRS_OPT(EXACT) | PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_queue_metrics},
    {.group = "queue",
     .name = "pause",
     .words = "NAME...",
     .help = "lease nothing more of queues",
     .more = pause_help,
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_queue_pause},
    {.group = "queue",
     .name = "resume",
     .words = "NAME...",
     .help = "end a pause",
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_queue_resume},
    {.group = "queue",
     .name = "wait",
     .words = "NAME",
     .help = "wait until nothing waits or runs",
     .more = queue_wait_help,
     .min_words = 1,
     .max_words = 1,
     .options = PGQRS_OPT(TIMEOUT),
     .run = pgqrs_cmd_queue_wait},
    {.group = "message",
     .name = "enqueue",
     .words = "QUEUE (JSON | @FILE | -)",
     .help = "add jobs to a queue",
     .more = enqueue_help,
     .min_words = 2,
     .max_words = 2,
     .options = PGQRS_OPT(DELAY) | PGQRS_OPT(AT) | PGQRS_OPT(PRIORITY) | PGQRS_OPT(UNIQUE_KEY) |
                PGQRS_OPT(BATCH) | PGQRS_OPT(WRAP),
     .run = pgqrs_cmd_message_enqueue},
    {.group = "message",
     .name = "list",
     .words = "",
     .help = "list messages, newest first",
     .more = message_list_help,
     .options = PGQRS_OPT(QUEUE) | PGQRS_OPT(STATE) | PGQRS_OPT(OUTCOME) | PGQRS_OPT(WORKER) |
                PGQRS_OPT(KEY) | PGQRS_OPT(LIMIT) | PGQRS_OPT(BEFORE) | PGQRS_OPT(ALL) |
                PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_message_list},
    {.group = "message",
     .name = "get",
     .words = "ID",
     .help = "show a message",
     .min_words = 1,
     .max_words = 1,
     .run = pgqrs_cmd_message_get},
    {.group = "message",
     .name = "cancel",
     .words = "ID...",
     .help = "end messages, also ones that run",
     .more = cancel_help,
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_message_cancel},
    {.group = "message",
     .name = "delete",
     .words = "ID...",
     .help = "delete messages that nobody runs",
     .min_words = 1,
     .max_words = SIZE_MAX,
     .options = PGQRS_OPT(YES),
     .run = pgqrs_cmd_message_delete},
    {.group = "message",
     .name = "release",
     .words = "ID...",
     .help = "take leases away from workers",
     .more = release_help,
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_message_release},
    {.group = "message",
     .name = "replay",
     .words = "ID...",
     .help = "let ended messages wait again",
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_message_replay},
    {.group = "message",
     .name = "run",
     .words = "ID --isolated",
     .help = "run one in a worker of its own",
     .more = run_help,
     .min_words = 1,
     .max_words = 1,
     .options = PGQRS_OPT(ISOLATED) | PGQRS_OPT(SOCKET),
     .run = pgqrs_cmd_message_run},
    {.group = "dlq",
     .name = "list",
     .words = "",
     .help = "list dead letters, newest first",
     .options = PGQRS_OPT(QUEUE) | PGQRS_OPT(WORKER) | PGQRS_OPT(KEY) | PGQRS_OPT(LIMIT) |
                PGQRS_OPT(BEFORE) | PGQRS_OPT(ALL) | PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_dlq_list},
    {.group = "dlq",
     .name = "replay",
     .words = "[ID...]",
     .help = "let dead letters wait again",
     .more = dlq_replay_help,
     .max_words = SIZE_MAX,
     .options = PGQRS_OPT(QUEUE) | PGQRS_OPT(ALL),
     .run = pgqrs_cmd_dlq_replay},
    {.group = "dlq",
     .name = "purge",
     .words = "",
     .help = "delete dead letters",
     .more = dlq_purge_help,
     .options = PGQRS_OPT(QUEUE) | PGQRS_OPT(OLDER_THAN) | PGQRS_OPT(YES),
     .run = pgqrs_cmd_dlq_purge},
    {.group = "workflow",
     .name = "create",
     .words = "NAME...",
     .help = "define workflows",
     .more = workflow_create_help,
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_workflow_create},
    {.group = "workflow",
     .name = "list",
     .words = "",
     .help = "list the workflows",
     .options = PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_workflow_list},
    {.group = "workflow",
     .name = "trigger",
     .words = "NAME [INPUT]",
     .help = "start a run",
     .more = trigger_help,
     .min_words = 1,
     .max_words = 2,
     .options = PGQRS_OPT(DELAY) | PGQRS_OPT(AT) | PGQRS_OPT(PRIORITY) | PGQRS_OPT(UNIQUE_KEY),
     .run = pgqrs_cmd_workflow_trigger},
    {.group = "workflow",
     .name = "result",
     .words = "ID",
     .help = "print what a run has come to",
     .more = result_help,
     .min_words = 1,
     .max_words = 1,
     .options = PGQRS_OPT(WAIT),
     .run = pgqrs_cmd_workflow_result},
    {.group = "workflow",
     .name = "cancel",
     .words = "ID",
     .help = "ask a run to end, cleaning up",
     .more = run_cancel_help,
     .min_words = 1,
     .max_words = 1,
     .options = PGQRS_OPT(WAIT),
     .run = pgqrs_cmd_workflow_cancel},
    {.group = "workflow",
     .name = "resume",
     .words = "ID",
     .help = "let a run that waits go on now",
     .more = run_resume_help,
     .min_words = 1,
     .max_words = 1,
     .run = pgqrs_cmd_workflow_resume},
    {.group = "workflow",
     .name = "signal",
     .words = "ID EVENT [JSON]",
     .help = "send a run an event",
     .more = signal_help,
     .min_words = 2,
     .max_words = 3,
     .run = pgqrs_cmd_workflow_signal},
    {.group = "run",
     .name = "list",
     .words = "",
     .help = "list runs, newest first",
     .more = run_list_help,
     .options = PGQRS_OPT(WORKFLOW) | PGQRS_OPT(STATUS) | PGQRS_OPT(LIMIT) | PGQRS_OPT(BEFORE) |
                PGQRS_OPT(ALL) | PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_run_list},
    {.group = "run",
     .name = "show",
     .words = "ID",
     .help = "show a run with all that it has",
     .min_words = 1,
     .max_words = 1,
     .options = PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_run_show},
    {.group = "run",
     .name = "steps",
     .words = "ID",
     .help = "list the steps of a run",
     .min_words = 1,
     .max_words = 1,
     .options = PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_run_steps},
    {.group = "run",
     .name = "state",
     .words = "ID",
     .help = "list its state and events",
     .more = run_state_help,
     .min_words = 1,
     .max_words = 1,
     .options = PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_run_state},
    {.group = "run",
     .name = "fork",
     .words = "ID",
     .help = "run again from a step on",
     .more = fork_help,
     .min_words = 1,
     .max_words = 1,
     .options = PGQRS_OPT(FROM) | PGQRS_OPT(INPUT),
     .run = pgqrs_cmd_run_fork},
    {.group = "worker",
     .name = "list",
     .words = "",
     .help = "list workers, newest first",
     .more = worker_list_help,
     .options = PGQRS_OPT(QUEUE) | PGQRS_OPT(STATE) | PGQRS_OPT(LIMIT) | PGQRS_OPT(BEFORE) |
                PGQRS_OPT(ALL) | PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_worker_list},
    {.group = "worker",
     .name = "suspend",
     .words = "ID...",
     .help = "lease no more; running jobs go on",
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_worker_suspend},
    {.group = "worker",
     .name = "resume",
     .words = "ID...",
     .help = "suspended ones lease again",
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_worker_resume},
    {.group = "worker",
     .name = "interrupt",
     .words = "ID...",
     .help = "suspend them, give back their jobs",
     .more = interrupt_help,
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_worker_interrupt},
    {.group = "worker",
     .name = "stop",
     .words = "ID...",
     .help = "end workers, free their leases",
     .min_words = 1,
     .max_words = SIZE_MAX,
     .options = PGQRS_OPT(YES),
     .run = pgqrs_cmd_worker_stop},
    {.group = "worker",
     .name = "purge",
     .words = "",
     .help = "delete stopped workers",
     .more = worker_purge_help,
     .options = PGQRS_OPT(OLDER_THAN) | PGQRS_OPT(YES),
     .run = pgqrs_cmd_worker_purge},
    {.group = "worker",
     .name = "scale",
     .words = "QUEUE N",
     .help = "have so many workers for a queue",
     .more = scale_help,
     .min_words = 2,
     .max_words = 2,
     .options = PGQRS_OPT(SOCKET),
     .run = pgqrs_cmd_worker_scale},
    {.group = "schedule",
     .name = "list",
     .words = "",
     .help = "list the schedules",
     .options = PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_schedule_list},
    {.group = "schedule",
     .name = "create",
     .words = "NAME",
     .help = "enqueue jobs at certain times",
     .more = schedule_create_help,
     .min_words = 1,
     .max_words = 1,
     .options = PGQRS_OPT(CRON) | PGQRS_OPT(ZONE) | PGQRS_OPT(QUEUE) | PGQRS_OPT(WORKFLOW) |
                PGQRS_OPT(PAYLOAD) | PGQRS_OPT(PRIORITY) | PGQRS_OPT(CATCH_UP) | PGQRS_OPT(OVERLAP),
     .run = pgqrs_cmd_schedule_create},
    {.group = "schedule",
     .name = "pause",
     .words = "NAME...",
     .help = "enqueue nothing of schedules",
     .more = schedule_pause_help,
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_schedule_pause},
    {.group = "schedule",
     .name = "resume",
     .words = "NAME...",
     .help = "end a pause",
     .min_words = 1,
     .max_words = SIZE_MAX,
     .run = pgqrs_cmd_schedule_resume},
    {.group = "schedule",
     .name = "delete",
     .words = "NAME...",
     .help = "delete schedules",
     .more = schedule_delete_help,
     .min_words = 1,
     .max_words = SIZE_MAX,
     .options = PGQRS_OPT(YES),
     .run = pgqrs_cmd_schedule_delete},
    {.group = "schedule",
     .name = "run",
     .words = "NAME",
     .help = "enqueue it once, now",
     .more = schedule_run_help,
     .min_words = 1,
     .max_words = 1,
     .run = pgqrs_cmd_schedule_run},
    {.group = "schedule",
     .name = "next",
     .words = "NAME",
     .help = "tell its next times, in its zone",
     .min_words = 1,
     .max_words = 1,
     .options = PGQRS_OPT(COUNT_OF),
     .run = pgqrs_cmd_schedule_next},
    {.group = "ctl",
     .name = "status",
     .words = "",
     .help = "show a running pgqrsd's processes",
     .options = PGQRS_OPT(SOCKET) | PGQRS_OPT(WATCH),
     .run = pgqrs_cmd_ctl_status},
    {.group = "ctl",
     .name = "deaths",
     .words = "[QUEUE]",
     .help = "show how its last processes died",
     .max_words = 1,
     .options = PGQRS_OPT(SOCKET),
     .run = pgqrs_cmd_ctl_deaths},
    {.group = "ctl",
     .name = "kill",
     .words = "QUEUE WORKER",
     .help = "kill a worker, start another one",
     .more = kill_help,
     .min_words = 2,
     .max_words = 2,
     .options = PGQRS_OPT(SOCKET),
     .run = pgqrs_cmd_ctl_kill},
    {.group = "ctl",
     .name = "pause",
     .words = "[QUEUE]",
     .help = "lease nothing more from a queue",
     .more = ctl_pause_help,
     .max_words = 1,
     .options = PGQRS_OPT(SOCKET),
     .run = pgqrs_cmd_ctl_pause},
    {.group = "ctl",
     .name = "resume",
     .words = "[QUEUE]",
     .help = "lease from it again",
     .more = ctl_resume_help,
     .max_words = 1,
     .options = PGQRS_OPT(SOCKET),
     .run = pgqrs_cmd_ctl_resume},
    {.group = "ctl",
     .name = "drain",
     .words = "",
     .help = "lease nothing, await running jobs",
     .more = drain_help,
     .options = PGQRS_OPT(SOCKET) | PGQRS_OPT(TIMEOUT),
     .run = pgqrs_cmd_ctl_drain},
    {.group = "ctl",
     .name = "stop",
     .words = "",
     .help = "drain it, then end it",
     .more = stop_help,
     .options = PGQRS_OPT(SOCKET) | PGQRS_OPT(NOW) | PGQRS_OPT(NO_WAIT),
     .run = pgqrs_cmd_ctl_stop},
    {.group = "ctl",
     .name = "reload",
     .words = "",
     .help = "take the configuration file anew",
     .more = reload_help,
     .options = PGQRS_OPT(SOCKET),
     .run = pgqrs_cmd_ctl_reload},
    {.group = "ctl",
     .name = "log-level",
     .words = "LEVEL",
     .help = "log from this level on",
     .min_words = 1,
     .max_words = 1,
     .options = PGQRS_OPT(SOCKET),
     .run = pgqrs_cmd_ctl_log_level},
    {.group = "doctor",
     .name = "",
     .words = "",
     .help = "find what is stuck and how to mend it",
     .more = doctor_help,
     .options = PGQRS_OPT(SOCKET),
     .run = pgqrs_cmd_doctor},
    {.group = "top",
     .name = "",
     .words = "",
     .help = "watch a running pgqrsd at work",
     .more = top_help,
     .options = PGQRS_OPT(SOCKET) | PGQRS_OPT(INTERVAL),
     .run = pgqrs_cmd_top},
};
const size_t pgqrs_cli_command_count = sizeof pgqrs_cli_commands / sizeof *pgqrs_cli_commands;
