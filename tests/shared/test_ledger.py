"""The ledger: dense traces in which every grant is used as late as it may be, and their mutants."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
from depth import depth
from ledgers import Client, Step, Trace, a_call, mutant
from mutants import table

from headway import Limits, Rate
from headway.shared.ledger import BEAT, EXPIRES, LEAD, step

GRANTS = depth(300, 20_000)
SEEDS = range(depth(2, 20))
HOURS = 3600.0
FAULTS = {"repeats": 0.02, "crashes": 0.0005, "jumps": 0.001}

Check = Callable[[Step], None]


def crowd(limits: Limits, n: int = 8, **options: Any) -> list[Client]:
    return [Client(f"w{i}", limits, offset=i * HOURS, **options) for i in range(n)]


# Dense traces

TOKENS = [
    Limits(tokens="10000/s"),
    Limits(input_tokens="10000/s", output_tokens="9000/s", tokens="18000/s"),
    Limits("500/s", tokens=Rate(4000, per=1, jitter=0.2)),
]
STARTS = [
    Limits("100/s"),
    Limits("600/min"),
    Limits(["100/s", "2000/20s"]),
    Limits(Rate(100, per=1, burst=20)),
    Limits(Rate(600, per=60, window=1)),
    Limits("10/min"),
]
SLOTS = [Limits(concurrency=16), Limits("200/s", concurrency=4), Limits(concurrency=1)]


def tokens_hold(
    limits: Limits, seed: int = 0, grants: int = GRANTS, ledger: Step = step, **faults: float
) -> None:
    trace = Trace(crowd(limits), seed, ledger, unpaced=True, refunds=0.5, **faults).run(grants)
    for index, rate in enumerate(rate for _, rate in limits.token_rates):
        worst = trace.worst_tokens(index, rate.span + rate.delay_bound)
        assert worst <= rate.share + 1e-3
        if index == 0:
            assert worst > 0.8 * rate.share, "the window never bound"


def starts_hold(
    limits: Limits, seed: int = 0, grants: int = GRANTS, ledger: Step = step, **faults: float
) -> None:
    clients = [
        Client(f"w{i}", limits, offset=i * HOURS, weight=1 + i % 3, wants=1 + i % 2 * 50)
        for i in range(8)
    ]
    trace = Trace(clients, seed, ledger, **faults).run(grants)
    for rate in limits.requests:
        assert trace.worst_starts(rate.span + rate.delay_bound) <= rate.share


def slots_hold(
    limits: Limits, seed: int = 0, grants: int = GRANTS, ledger: Step = step, **faults: float
) -> None:
    trace = Trace(crowd(limits), seed, ledger, **faults).run(grants)
    assert trace.most_slots == limits.concurrency


@pytest.mark.parametrize("limits", TOKENS, ids=["one", "classes", "paced"])
@pytest.mark.parametrize("seed", SEEDS)
def test_no_window_holds_more_tokens(limits: Limits, seed: int) -> None:
    tokens_hold(limits, seed, **FAULTS)


@pytest.mark.parametrize(
    "limits", STARTS, ids=["second", "minute", "two", "burst", "window", "slow"]
)
@pytest.mark.parametrize("seed", SEEDS)
def test_no_window_holds_more_starts(limits: Limits, seed: int) -> None:
    starts_hold(limits, seed, **FAULTS)


@pytest.mark.parametrize("limits", SLOTS, ids=["16", "4", "1"])
@pytest.mark.parametrize("seed", SEEDS)
def test_no_more_slots_are_in_use(limits: Limits, seed: int) -> None:
    slots_hold(limits, seed, **FAULTS)


# One call after another


class Book:
    """A ledger that is called by hand; its limits are `limits`, and it is warm."""

    def __init__(self, limits: Limits, ledger: Step = step) -> None:
        self.limits = limits
        self.ledger = ledger
        self.raw = 100.0
        self.numbers: dict[str, int] = {}
        self.state: Any = None
        self.seen: dict[str, Any] = {}  # the epoch and version that each knows
        self("nobody", bye=1)
        self.raw += 1.0

    def __call__(self, name: str, **said: Any) -> dict[str, Any]:
        self.numbers[name] = self.numbers.get(name, 0) + 1
        said = {"sent": self.raw, "n": self.numbers[name], **self.seen.get(name, {}), **said}
        call = a_call(self.limits, name, **said)
        self.state, reply = self.ledger(self.state, call, self.raw)
        if "epoch" in reply:
            self.seen[name] = {"epoch": reply["epoch"], "version": reply["version"]}
        return reply

    def wait(self, seconds: float) -> None:
        self.raw += seconds


def a_repeat_changes_nothing(ledger: Step = step) -> None:
    limits = Limits("10/s", tokens="1000/s", concurrency=3)
    state, _ = ledger(None, a_call(limits), 0.0)
    call = a_call(limits, n=2, version=1, need=3, costs=[[10, 10]], want=3, overs=[[0, 5]])
    call["epoch"] = "born"
    state, reply = ledger(state, call, 1.0)
    before = copy.deepcopy(state)
    state, again = ledger(state, call, 1.1)
    assert again == reply
    assert {**state, "at": 0} == {**before, "at": 0}


def the_dead_are_forgotten(ledger: Step = step) -> None:
    book = Book(Limits(concurrency=2), ledger)
    assert book("a", want=2)["held"] == 2
    assert book("b", want=2)["held"] == 0
    for _ in range(5):
        book.wait(EXPIRES / 5 + 0.01)
        held = book("b", want=2)["held"]
    assert held == 2


def time_never_goes_back(ledger: Step = step) -> None:
    book = Book(Limits("10/s"), ledger)
    before = book("a", need=1)["now"]
    book.raw -= 0.5
    assert book("b", need=1)["now"] >= before
    book.raw -= 3600
    assert before <= book("b", need=1)["now"] < before + 1


def a_jump_is_no_time(ledger: Step = step) -> None:
    book = Book(Limits("1/min"), ledger)
    book("a", need=9)
    book.raw += 3600
    reply = book("a", need=9, sent=101.5)
    assert reply["count"] == 0
    assert reply["until"] - reply["now"] > 55


def it_starts_cold(ledger: Step = step) -> None:
    limits = Limits("10/s", concurrency=2)
    _, reply = ledger(None, a_call(limits, need=5, want=5), 0.0)
    assert reply["count"] == 0
    assert reply["held"] == 0
    assert reply["ask"] >= LEAD


def another_epoch_freezes(ledger: Step = step) -> None:
    book = Book(Limits("100/s", concurrency=4), ledger)
    book("a", use=2, held=2, want=2, epoch="gone", version=1)
    reply = book("b", want=4, need=1)
    assert (reply["held"], reply["count"]) == (0, 0)  # some hold more than they have said yet
    book.wait(0.45)
    assert book("b", want=4, need=1)["held"] == 0
    book.wait(0.06)
    reply = book("b", want=4, need=1)
    assert (reply["held"], reply["count"]) == (2, 1)


def what_was_used_is_declared(ledger: Step = step) -> None:
    book = Book(Limits(tokens="1000/min"), ledger)
    told = {"epoch": "gone", "version": 1, "declared": [[0, 5.0, 600.0], [0, 20.0, 300.0]]}
    book("a", **told)
    book.wait(2)
    assert book("a", need=1, costs=[[100, 100]])["count"] == 1
    book.wait(10)
    for cost, until in ((300, 1 - 20), (400, 1 - 5)):
        reply = book("a", need=1, costs=[[cost, cost]])
        assert reply["until"] == pytest.approx(until + 60.3, abs=1.1)


def an_over_is_charged(ledger: Step = step) -> None:
    book = Book(Limits(tokens="1000/min"), ledger)
    assert book("a", need=1, costs=[[500, 500]])["count"] == 1
    book.wait(31)
    now = book("a", overs=[[0, 480.0]])["now"]
    book.wait(40)
    reply = book("a", need=1, costs=[[600, 600]])
    assert reply["until"] == pytest.approx(now + 60.3, abs=1.1)


def a_start_is_as_early_as_its_pace(ledger: Step = step) -> None:
    book = Book(Limits("60/min"), ledger)
    book.wait(30)
    first = book("a", need=1)
    book.wait(0.5)
    second = book("a", need=1)
    assert first["count"] == 1
    assert second["until"] >= first["runs"][0][0] + (60.3 + 0.01 + second["slack"]) / 60 - 1e-6


def the_urgent_goes_first(ledger: Step = step) -> None:
    book = Book(Limits("1/s"), ledger)
    got = []
    for _ in range(40):
        for name, priority in (("c", 5.0), ("a", 0.0), ("b", 0.0)):
            got += [name] * int(book(name, need=9, priority=priority)["count"])
        book.wait(0.1)
    assert got[1:] == ["c"] * (len(got) - 1)
    assert len(got) > 2


def the_urgent_gets_slots_first(ledger: Step = step) -> None:
    book = Book(Limits(concurrency=2), ledger)
    book("a", want=3)
    assert book("b", want=3, priority=5.0)["target"] == 2
    assert book("a", want=3, use=1, held=1)["target"] == 0
    assert book("b", want=3, priority=5.0)["held"] == 1


def idle_ones_bank_nothing(ledger: Step = step) -> None:
    book = Book(Limits("10/s"), ledger)
    book("late", need=0)
    counts = {"late": 0, "busy": 0}
    for round_ in range(400):
        book.wait(0.05)
        for name in ("busy", "late") if round_ > 200 else ("busy",):
            counts[name] += int(book(name, need=9)["count"])
        if round_ <= 200:
            book("late", need=0)
            counts["busy"] = 0
    assert abs(counts["late"] - counts["busy"]) < 0.1 * counts["busy"]


def the_head_is_not_starved(ledger: Step = step) -> None:
    limits = Limits(tokens="1000/5s")
    clients = [Client("large", limits, cost=(990, 990), wants=1)]
    clients += [Client(f"w{i}", limits, cost=(5, 20)) for i in range(3)]
    trace = Trace(clients, 3, ledger).run(10_000, 40)
    assert trace.shares().get("large", 0) >= 2


def a_gate_is_kept(ledger: Step = step) -> None:
    book = Book(Limits("10/s"), ledger)
    at = book("a", gate=3.0)["now"]
    reply = book("b", need=1)
    assert (reply["count"], reply["binds"], reply["gate"]) == (0, "gate", 3.0)
    assert book("b", opens=1)["gate"] == 0
    book.wait(0.5)
    assert book("b", need=1)["count"] == 1
    assert at < 3


def strays_are_paid(ledger: Step = step) -> None:
    book = Book(Limits("60/min"), ledger)
    book("a", need=1)
    book.wait(20)
    assert book("a", need=1, strays=10)["count"] == 0
    book.wait(2)
    reply = book("a", need=1)
    assert 7 < reply["until"] - reply["now"] < 9
    # What was not used meanwhile by anybody pays for them.
    book.wait(60)
    assert book("a", need=1, strays=10, silent=30.0)["count"] == 0
    book.wait(2)
    assert book("a", need=1)["count"] == 1
    # Nobody owes what has left the window.
    book("a", need=1, strays=999)
    book.wait(2)
    assert book("a", need=1)["until"] - book.state["at"] < 61


def what_strays_did_before_it_was_born_is_its_past(ledger: Step = step) -> None:
    limits = Limits("600/min")
    state: Any = None
    said: dict[str, Any] = {"epoch": "before", "silent": 27.5, "need": 1}
    for n, strays in enumerate((16, 1), 1):
        for name in "abcdefgh":
            state, _ = ledger(state, a_call(limits, name, n, strays=strays, **said), 7.0 + n / 10)
    for n, seconds, count in ((3, 1.3, 0), (4, 2.0, 1)):
        call = a_call(limits, "a", n, epoch=state["epoch"], version=1, need=1)
        state, reply = ledger(state, call, 7.1 + seconds)
        assert reply["count"] == count


def one_that_was_cut_off_freezes_nobody(ledger: Step = step) -> None:
    book = Book(Limits("100/s", concurrency=2), ledger)
    for name in "abab":
        book(name, need=1, want=1)
        book.wait(0.5)
    book("a", need=1, want=1, strays=1, silent=0.4)
    book.wait(0.05)
    assert book("b", need=1, want=1)["count"] == 1
    # Nobody was heard: others have gone on too, and have not said so yet.
    book.wait(2.1)
    book("a", need=1, want=1, strays=1, silent=2.0)
    book.wait(0.45)
    assert book("b", need=1, want=1)["count"] == 0
    book.wait(0.3)
    assert book("b", need=1, want=1)["count"] == 1


def who_could_not_be_heard_is_not_forgotten(ledger: Step = step) -> None:
    book = Book(Limits(concurrency=4), ledger)
    for name in "ab":
        book(name, want=2)
    book.wait(60)
    assert book("a", held=2, use=2, want=4)["held"] == 2
    book.wait(1.4)
    assert book("a", held=2, use=2, want=4)["held"] == 2
    book.wait(0.2)
    assert book("a", held=2, use=2, want=4)["held"] == 4


def what_has_run_out_is_not_held(ledger: Step = step) -> None:
    book = Book(Limits(concurrency=4), ledger)
    book("a", want=4)
    for _ in range(6):
        book.wait(1)
        book("b", want=4)
    assert book("a", held=4, use=1, want=4)["held"] == 1


def another_name_takes_over(ledger: Step = step) -> None:
    book = Book(Limits(concurrency=4), ledger)
    book("a", want=4)
    book.seen["c"] = book.seen["a"]
    assert book("c", was="a", held=3, use=1, want=3)["held"] == 3
    assert book("b", want=1, need=1)["held"] == 1
    book.seen["d"] = book.seen["a"]
    assert book("d", was="gone", held=3, use=0, want=0)["held"] == 0


def turns_are_taken_as_of_now(ledger: Step = step) -> None:
    book = Book(Limits(concurrency=4), ledger)
    held = dict.fromkeys("abc", 0)
    used = []
    for _ in range(60):
        for name in held:
            book.wait(0.08)
            reply = book(name, want=9, held=held[name], use=held[name])
            held[name] = min(reply["held"], reply["target"])
            used.append(sum(held.values()))
    assert sum(used[30:]) > 0.95 * 4 * len(used[30:])


def a_lost_call_freezes(ledger: Step = step) -> None:
    book = Book(Limits("10/s", concurrency=2), ledger)
    book("a", need=1)
    book.wait(1)
    book.numbers["a"] += 3  # a replica took over, which had not heard of them
    assert book("a", need=1, want=1)["held"] == 0
    assert book("b", need=1, want=1)["held"] == 0
    book.wait(BEAT + 0.6)
    assert book("b", need=1, want=1)["held"] == 1


def an_unsure_clock_is_allowed_for(ledger: Step = step) -> None:
    book = Book(Limits("60/min"), ledger)
    assert book("a", need=1)["slack"] == pytest.approx(0.2)
    assert book("b", need=1, unsure=1.5)["slack"] == 1.5
    assert book("a", need=1)["slack"] == 1.5


def control_has_one_chief(ledger: Step = step) -> None:
    book = Book(Limits("600/min"), ledger)
    cut = {"numbers": [0.5, 0], "blob": "{}", "cut": 1}
    gen = book("a")["gen"]
    reply = book("a", gen=gen, **cut)
    assert (reply["chief"], reply["gen"], reply["numbers"]) == (1, gen + 1, [0.5, 0])
    # One that has not heard of it cut for the same refusals: it follows.
    reply = book("b", gen=gen, need=1, **{**cut, "numbers": [0.4, 0]})
    assert (reply["chief"], reply["numbers"]) == (0, [0.5, 0])
    paced = book("b", gen=gen + 1, need=1)
    assert paced["until"] - paced["now"] > 0.1 or paced["count"]
    # The chief raises it, nobody else does.
    assert book("b", gen=gen + 1, numbers=[0.9, 0])["numbers"] == [0.5, 0]
    assert book("a", gen=gen + 1, numbers=[0.6, 0])["numbers"] == [0.6, 0]
    # It dies, and whoever comes next goes on from there.
    for _ in range(6):
        book.wait(1)
        reply = book("b", gen=reply["gen"], need=1)
    assert (reply["chief"], reply["numbers"]) == (1, [0.6, 0])


CHECKS: list[Check] = [
    a_repeat_changes_nothing, the_dead_are_forgotten, time_never_goes_back, a_jump_is_no_time,
    it_starts_cold, another_epoch_freezes, what_was_used_is_declared, an_over_is_charged,
    a_start_is_as_early_as_its_pace, the_urgent_goes_first, the_urgent_gets_slots_first,
    idle_ones_bank_nothing, the_head_is_not_starved, a_gate_is_kept, strays_are_paid,
    what_strays_did_before_it_was_born_is_its_past,
    a_lost_call_freezes, an_unsure_clock_is_allowed_for, control_has_one_chief,
    one_that_was_cut_off_freezes_nobody, who_could_not_be_heard_is_not_forgotten,
    what_has_run_out_is_not_held, another_name_takes_over, turns_are_taken_as_of_now,
]  # fmt: skip


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_a_ledger_of_calls_by_hand(check: Check) -> None:
    check(step)


# The mutants: ledgers with one thing wrong, which the same checks must catch

OLDEST = 'oldest = math.floor(now / budget["width"]) - GRID\n    kept'


def tokens_of_one_second(ledger: Step) -> None:
    for seed in range(6):
        tokens_hold(TOKENS[0], seed, 400, ledger, repeats=0.1)


def starts_of_a_second(ledger: Step) -> None:
    starts_hold(STARTS[0], 0, 400, ledger)


def slots_of_four(ledger: Step) -> None:
    slots_hold(SLOTS[1], 0, 1500, ledger)


MUTANTS = table(
    ("a slot too few", tokens_of_one_second, OLDEST, OLDEST.replace("- GRID", "- GRID + 1")),
    ("charged at now", tokens_of_one_second, 'math.floor(reply["good"] /', "math.floor(now /"),
    ("refunds to the newest", tokens_of_one_second, "if entry[0] == refund[1] and",
     'if entry is budget["ring"][-1] and'),
    ("refunds to all", tokens_of_one_second, "if entry[0] == refund[1] and", "if"),
    ("repeats applied", a_repeat_changes_nothing, 'call["n"] <= worker["n"]', "False"),
    ("repeats refund twice", tokens_of_one_second, 'call["n"] <= worker["n"]', "False"),
    ("no time to live", the_dead_are_forgotten, '["expires"], state["grace"]) < now', "[0]) < 0"),
    ("time goes back", time_never_goes_back, "if now < at:", "if False:"),
    ("jumps are time", a_jump_is_no_time, "now > expected + _JUMP", "False"),
    ("no slack", starts_of_a_second, 'rate["clearance"] + slack', 'rate["clearance"]'),
    ("late from the start", a_start_is_as_early_as_its_pace,
     "ends = last + own", "ends = last - _LATE + own"),
    ("starts warm", it_starts_cold, "LEAD + _slack(state))", "0.0)"),
    ("no thaw", another_epoch_freezes, 'state["frozen"] = max(state["frozen"], BEAT + _COLD)',
     "pass"),
    ("nothing declared", what_was_used_is_declared, "now - declared[1]", "now - 9999"),
    ("no overs", an_over_is_charged, "over[1])", "0.0)"),
    ("no priority", the_urgent_goes_first, 'first["priority"] != second["priority"]', "False"),
    ("no priority of slots", the_urgent_gets_slots_first, 'worker["priority"] == priority', "True"),
    ("credit of the idle", idle_ones_bank_nothing,
     'max(worker["clock"], state["clock"])', 'worker["clock"]'),
    ("nothing reserved", the_head_is_not_starved, 'state["reserved"], state["keeper"] = name, name',
     "pass"),
    ("no gate", a_gate_is_kept, 'if state["gate"] > now:', "if False:"),
    ("never opened", a_gate_is_kept, 'state["gate"] = 0.0', "pass"),
    ("strays are free", strays_are_paid, 'if call["strays"] > 0:', "if False:"),
    ("no past", what_strays_did_before_it_was_born_is_its_past,
     '-_NEVER if state["version"] == 0 else now', "now"),
    ("strays are owed for ever", strays_are_paid, "min(tat, most))", "tat)"),
    ("none freezes", one_that_was_cut_off_freezes_nobody, 'if now < state["grace"]:', "if False:"),
    ("one freezes all", one_that_was_cut_off_freezes_nobody, 'if now < state["grace"]:',
     "if not state.update(grace=now + 1.5):"),
    ("silence says nothing", who_could_not_be_heard_is_not_forgotten,
     "if now > heard + 2 * BEAT:", "if False:"),
    ("held for ever", what_has_run_out_is_not_held, ' if known else call["use"]', ""),
    ("two of one", another_name_takes_over, "del workers[before]", "pass"),
    ("turns as of the last call", turns_are_taken_as_of_now,
     ' + worker["held"] * (now - worker["at"]) /', " + 0.0 /"),
    ("replicas are trusted", a_lost_call_freezes,
     'worker is not None and call["n"] > worker', 'False and call["n"] > worker'),
    ("sure of all clocks", an_unsure_clock_is_allowed_for, "slack = max(slack, min(", "(min("),
    ("any chief", control_has_one_chief, 'elif chief == call["id"] and', "elif"),
    ("old cuts count", control_has_one_chief, 'if call["gen"] == state["gen"]:\n', "if True:\n"),
    ("a chief for ever", control_has_one_chief, "if other is None or (", "if False and ("),
    ("slots beyond those free", slots_of_four, 'worker["held"], free)', 'worker["held"], 99)'),
    ("slots cut from here", slots_of_four,
     'max(call["held"], call["use"]) if known', 'min(call["held"], worker["target"]) if known'),
)  # fmt: skip


@pytest.mark.parametrize(("check", "old", "new"), MUTANTS)
def test_a_mutant_is_caught(check: Check, old: str, new: str) -> None:
    changed = mutant(old, new)
    with pytest.raises((AssertionError, LookupError)):
        check(changed)
