"""What a process tells Prometheus of itself, under the names that every exporter uses."""

from __future__ import annotations

import resource


def started(when: float) -> tuple[str, str, str]:
    """When it started, in seconds since 1970."""
    return (
        "# HELP process_start_time_seconds When the process started.",
        "# TYPE process_start_time_seconds gauge",
        f"process_start_time_seconds {when:.2f}",
    )


def lines(when: float) -> list[str]:
    """What this process has used since its start, and that start, in the text format of metrics."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return [
        "# HELP process_cpu_seconds_total Processor time spent.",
        "# TYPE process_cpu_seconds_total counter",
        f"process_cpu_seconds_total {spent.ru_utime + spent.ru_stime:.2f}",
        "# HELP process_resident_memory_bytes Greatest resident memory.",
        "# TYPE process_resident_memory_bytes gauge",
        f"process_resident_memory_bytes {spent.ru_maxrss * 1024}",
        *started(when),
    ]
