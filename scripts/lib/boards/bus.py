"""The board *bus, workers and database*."""

from .panels import SERVICES, Board, gauge, graph, quantiles, rate

BUS = Board(
    "bus",
    "bus, workers and database",
    "Whether messages get through, and what the processes have left.",
    [
        (
            "Queues",
            [
                graph(
                    "Messages that wait",
                    "With those of the isolated queue. Dead letters wait for an operator.",
                    ("{{queue}}", gauge("bus_queue_messages", "", "queue")),
                    steps=True,
                ),
                graph(
                    "Consumers",
                    "Processes that consume a queue. 0: what is published waits.",
                    ("{{queue}}", gauge("bus_queue_consumers", "", "queue")),
                    steps=True,
                ),
                graph(
                    "From publishing to handling",
                    "How long messages wait; deliberate delays are not counted.",
                    ("p50 {{queue}}", quantiles("bus_lag_seconds", by="queue")[0][1]),
                    ("p99 {{queue}}", quantiles("bus_lag_seconds", by="queue")[1][1]),
                    unit="s",
                ),
                graph(
                    "Time to handle a message",
                    "With the calls of Lark in it.",
                    *quantiles("bus_handle_seconds", by="queue"),
                    unit="s",
                ),
            ],
        ),
        (
            "Messages",
            [
                graph(
                    "Published, by outcome",
                    "`unavailable`: the broker did not confirm.",
                    ("{{outcome}}", rate("bus_publish_total", "", "outcome")),
                    unit="ops",
                ),
                graph(
                    "From publishing to the confirm",
                    "The broker has the message on disk then.",
                    *quantiles("bus_publish_seconds"),
                    unit="s",
                ),
                graph(
                    "Handled, by outcome",
                    "`retry` comes again after a delay, `dead` is a dead letter.",
                    ("{{queue}} {{outcome}}", rate("bus_consumed_total", "", "queue, outcome")),
                    unit="ops",
                ),
                graph(
                    "Retries, dead letters, isolated",
                    "Isolated: delivered before, handled alone.",
                    ("retry {{queue}}", f"{rate('bus_retries_total', '', 'queue')} * 60"),
                    ("dead {{queue}}: {{reason}}", f"{rate('bus_dead_letters_total', '', 'queue, reason')} * 60"),
                    ("isolated {{queue}}", f"{rate('bus_isolated_total', '', 'queue')} * 60"),
                    unit="opm",
                ),
            ],
        ),
        (
            "Broker",
            [
                graph(
                    "Connected",
                    "1 while a process has a connection to the broker.",
                    ("{{job}} {{instance}}", "lark_service_bus_up"),
                    steps=True,
                    width=8,
                ),
                graph(
                    "Blocked",
                    "1 while the broker takes no messages, because it is short of memory or disk.",
                    ("{{job}} {{instance}}", "lark_service_bus_blocked"),
                    steps=True,
                    width=8,
                ),
                graph(
                    "What RabbitMQ has left",
                    "It blocks at 0.",
                    ("memory {{instance}}", "rabbitmq_resident_memory_limit_bytes - rabbitmq_process_resident_memory_bytes"),
                    ("disk {{instance}}", "rabbitmq_disk_space_available_bytes - rabbitmq_disk_space_available_limit_bytes"),
                    unit="bytes",
                    width=8,
                ),
            ],
        ),
        (
            "Database",
            [
                graph(
                    "Answers and takes writes",
                    "The lowest of all processes. Without writes tokens are served, and nothing else goes on.",
                    ("answers", "min(lark_service_database_up)"),
                    ("takes writes", "min(lark_service_database_writable)"),
                    steps=True,
                    width=8,
                ),
                graph(
                    "Size",
                    "Of the whole database.",
                    ("size", "max(lark_service_database_size_bytes)"),
                    unit="bytes",
                    width=8,
                ),
                graph(
                    "Connections in use",
                    "Of DATABASE_MAX_CONNECTIONS, of each process.",
                    ("{{job}} {{instance}}", 'lark_service_database_pool_connections{state="used"}'),
                    ("limit", "max(lark_service_database_pool_limit)"),
                    width=8,
                ),
            ],
        ),
        (
            "Processes",
            [
                graph(
                    "Memory",
                    "Resident, of each process.",
                    ("{{job}} {{instance}}", f"process_resident_memory_bytes{{{SERVICES}}}"),
                    unit="bytes",
                    width=8,
                ),
                graph(
                    "Processor",
                    "Cores in use, of each process.",
                    ("{{job}} {{instance}}", f"rate(process_cpu_seconds_total{{{SERVICES}}}[$__rate_interval])"),
                    width=8,
                ),
                graph(
                    "Open files",
                    "Sockets are files.",
                    ("{{job}} {{instance}}", f"process_open_fds{{{SERVICES}}}"),
                    width=8,
                ),
                graph(
                    "Audit records in the log only",
                    "The database did not take them in time.",
                    ("{{job}} {{instance}}", "increase(lark_service_audit_dropped_total[$__rate_interval])"),
                ),
                graph(
                    "Encryption keys that are missing",
                    "Stored values may need them. A process that lacks one is not ready.",
                    ("{{job}} {{instance}}", "lark_service_encryption_keys_missing"),
                    steps=True,
                ),
            ],
        ),
    ],
    has_app=False,
)
