"""Every way in which a process may end: nothing hangs, and nothing complains."""

from __future__ import annotations

import subprocess
import sys

# One interpreter for all: each ending is a fork of it, made before any scheduler.
PROGRAM = """
import faulthandler, os, signal, sys, threading, time
from headway.sync import Scheduler


def interrupted_in_map():
    threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    for _ in Scheduler(concurrency=2).map(time.sleep, [60] * 10):
        pass


def interrupted_while_it_waits():
    scheduler = Scheduler("1/min")
    scheduler.submit(len, "a")
    threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    with scheduler:
        scheduler.submit(len, "a")


def interrupted_in_close():
    scheduler = Scheduler(concurrency=1)
    threading.Thread(target=scheduler.submit, args=(time.sleep, 60), daemon=True).start()
    threading.Timer(0.1, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
    while not scheduler.statistics().in_flight:
        pass
    scheduler.close()


def exits_with_work_pending():
    scheduler = Scheduler("1/min", concurrency=2)
    run = scheduler.map(len, ["a"] * 10)
    next(run)
    sys.exit(3)


def exits_in_a_call():
    list(Scheduler(concurrency=2).map(lambda n: sys.exit(4), range(10)))


def left_without_close():
    global kept
    kept = Scheduler(concurrency=2, on_event=lambda event: None)
    kept.submit(len, "a")


def threads_that_wait_are_served_to_the_end():
    scheduler = Scheduler("100/s")
    for _ in range(10):
        threading.Thread(target=scheduler.submit, args=(len, "a")).start()


for ending in (
    interrupted_in_map, interrupted_while_it_waits, interrupted_in_close, exits_with_work_pending,
    exits_in_a_call, left_without_close, threads_that_wait_are_served_to_the_end,
):
    child = os.fork()
    if not child:
        faulthandler.dump_traceback_later(10, exit=True)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            ending()
        except KeyboardInterrupt:
            sys.exit(130)
        break
    print(ending.__name__, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def test_a_process_ends_in_every_way() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", PROGRAM],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        "interrupted_in_map 130",
        "interrupted_while_it_waits 130",
        "interrupted_in_close 130",
        "exits_with_work_pending 3",
        "exits_in_a_call 4",
        "left_without_close 0",
        "threads_that_wait_are_served_to_the_end 0",
    ]
    assert done.stderr == ""
