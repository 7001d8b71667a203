"""Files of a run that were damaged: each row is right after a resumption, or it is told."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from depth import depth

from headway.bulk.output.journal import Journal, finished_rows, run_folder
from headway.bulk.output.merge import Merged, merge
from headway.bulk.output.paths import InvalidOutput, errors_file
from headway.bulk.output.rows import Checks

LINES = 40
HEADER = {
    "input": "f00d", "provider": ["p", "u"], "shape": {}, "shard": None, "lines": LINES,
    "last": LINES, "limit": None,
}  # fmt: skip
TIMES = depth(120, 500)


def row(number: int) -> bytes:
    error = {"code": "http_400", "message": "no"} if number % 8 == 0 else None
    body = {"choices": [{"text": f"answer {number} of {'x' * (number % 7) * 9}"}]}
    response = {"status_code": 400 if error else 200, "request_id": f"r{number}", "body": body}
    value = {"id": f"batch_req_{number}", "custom_id": f"q{number}", "response": response}
    return json.dumps({**value, "error": error}, separators=(",", ":")).encode() + b"\n"


def send(output: Path, header: Any = HEADER, last: int = LINES, **options: Any) -> set[int]:
    """What a run, or its resumption, does; the lines that were sent."""
    sent = set[int]()
    first = header["shard"][0] * LINES if header["shard"] else 0
    with Journal(output, header, **options) as journal:
        for number in range(first + 1, first + last + 1):
            if number not in journal:
                sent.add(number)
                journal.start(number)
                journal.write(number, row(number), "http_400" if number % 8 == 0 else None)
        assert (len(list(journal.done)), journal.failed["http_400"]) == (
            sum(n % 8 != 0 for n in range(first + 1, first + last + 1)),
            sum(n % 8 == 0 for n in range(first + 1, first + last + 1)),
        )
        journal.arrange()
        if last == LINES:
            journal.finish()
    return sent


def answers(path: Path) -> dict[int, Any]:
    found: dict[int, Any] = {}
    for line in path.read_bytes().splitlines():
        value = json.loads(line)
        del value["check"]
        number = int(value["id"].removeprefix("batch_req_"))
        assert number not in found
        found[number] = value
    return found


def expected(numbers: range) -> dict[int, Any]:
    return {number: json.loads(row(number)) for number in numbers}


# -- what may happen to a file -----------------------------------------------------------------


def flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 1, 1, 3])):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)


def letter(data: bytearray, chance: random.Random) -> None:
    """A letter or digit becomes another: what is JSON stays JSON."""
    places = [at for at, byte in enumerate(data) if chr(byte).isalnum()] or [0]
    data[chance.choice(places)] = ord(chance.choice("0123456789abcdef"))


def zeros(data: bytearray, chance: random.Random) -> None:
    size = chance.choice([1, 64, 512])
    at = chance.randrange(len(data))
    data[at : at + size] = bytes(min(size, len(data) - at))


def cut(data: bytearray, chance: random.Random) -> None:
    del data[chance.randrange(len(data)) :]


def lose(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    del data[at : at + chance.choice([1, 8, 512])]


def double(data: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(data))
    data[at:at] = data[at : at + chance.choice([8, 300, 1024])]


def lines_of(data: bytearray) -> list[bytes]:
    return bytes(data).splitlines(keepends=True)


def lose_lines(data: bytearray, chance: random.Random) -> None:
    lines = lines_of(data)
    at = chance.randrange(len(lines))
    del lines[at : at + chance.randrange(1, 6)]
    data[:] = b"".join(lines)


def double_lines(data: bytearray, chance: random.Random) -> None:
    lines = lines_of(data)
    at = chance.randrange(len(lines))
    lines[at:at] = chance.sample(lines, min(3, len(lines)))
    data[:] = b"".join(lines)


def swap_lines(data: bytearray, chance: random.Random) -> None:
    lines = lines_of(data)
    chance.shuffle(lines)
    data[:] = b"".join(lines)


def splice(data: bytearray, chance: random.Random) -> None:
    """The number of one row on the answer of another; the row of another run."""
    lines = lines_of(data)
    one, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    if chance.random() < 0.5:
        lines[one] = Checks({**HEADER, "input": "beef"}).with_check(7, row(7))
    else:
        head, _, _ = lines[one].partition(b',"custom_id"')
        _, between, rest = lines[other].partition(b',"custom_id"')
        lines[one] = head + between + rest
    data[:] = b"".join(lines)


DAMAGES = (
    flip, letter, zeros, cut, lose, double, lose_lines, double_lines, swap_lines, splice,
)  # fmt: skip


def damage(path: Path, chance: random.Random) -> str:
    data = bytearray(path.read_bytes())
    how = chance.choice(DAMAGES)
    if data:
        how(data, chance)
        path.write_bytes(data)
    return how.__name__


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs that are done, or were killed, ordered or not; and the shards of one."""
    folder = tmp_path_factory.mktemp("made")
    for ordered in (False, True):
        for last in (LINES, 33):
            (folder / f"{ordered:d}{last}").mkdir()
            send(folder / f"{ordered:d}{last}" / "out.jsonl", last=last, ordered=ordered)
    (folder / "shards").mkdir()
    for index in range(2):
        send(folder / "shards" / f"s{index}.jsonl", {**HEADER, "shard": [index, 2]})
    return folder


# -- hundreds of them ---------------------------------------------------------------------------


def test_no_damage_is_silent(made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ends = dict.fromkeys(("right", "told", "refused"), 0)
    for seed in range(TIMES):
        chance = random.Random(seed)
        ordered, last = chance.random() < 0.5, chance.choice([LINES, 33])
        folder = shutil.copytree(made / f"{ordered:d}{last}", tmp_path / str(seed))
        output = folder / "out.jsonl"
        rows = run_folder(output) / "rows" if ordered else output
        files = [rows, rows, rows, run_folder(output) / "journal", errors_file(output), output]
        how = damage(chance.choice(files), chance)
        caplog.clear()
        try:
            sent = send(output, ordered=ordered)
        except InvalidOutput:
            ends["refused"] += 1
            continue
        assert answers(output) == expected(range(1, LINES + 1)), (seed, how)
        failed = {n: v for n, v in expected(range(1, LINES + 1)).items() if v["error"]}
        assert answers(errors_file(output)) == failed, (seed, how)
        # What was sent again although a whole row had been there is told, but where the end of a
        # killed run is gone: nobody knows of it.
        again = {number for number in sent if number <= last}
        if again and last == LINES:
            assert caplog.messages, (seed, how)
        ends["told" if caplog.messages else "right"] += 1
        if ordered:
            assert list(answers(output)) == list(range(1, LINES + 1))
    assert min(ends.values()) > TIMES // 20, ends
    assert ends["refused"] < TIMES // 2, ends


def test_no_damage_is_merged(made: Path, tmp_path: Path) -> None:
    merged = 0
    for seed in range(TIMES):
        chance = random.Random(seed)
        folder = shutil.copytree(made / "shards", tmp_path / str(seed))
        shards = [folder / "s0.jsonl", folder / "s1.jsonl"]
        broken = chance.choice(shards)
        files = [broken, broken, broken, run_folder(broken) / "journal", errors_file(broken)]
        how = damage(chance.choice(files), chance)
        target = folder / "all.jsonl"
        whole = expected(range(1, 2 * LINES + 1))
        try:
            assert merge(shards, target) == Merged(2 * LINES, 10, 0), (seed, how)
        except InvalidOutput:
            assert not target.exists()
            with_less = None
            try:
                with_less = merge(shards, target, partial=True)
            except InvalidOutput:
                continue
            assert with_less.damaged or with_less.missing, (seed, how)
            assert answers(target).items() <= whole.items()
        else:
            merged += 1
            assert list(answers(target).items()) == list(whole.items()), (seed, how)
    assert TIMES // 20 < merged < TIMES // 2


# -- the cases that were found -----------------------------------------------------------------


@pytest.mark.parametrize("ordered", [False, True])
def test_zeros_in_the_rows_are_told_and_their_lines_sent_again(
    ordered: bool, made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = shutil.copytree(made / f"{ordered:d}{LINES}", tmp_path / "run") / "out.jsonl"
    rows = run_folder(output) / "rows" if ordered else output
    data = bytearray(rows.read_bytes())
    data[1000:1512] = bytes(512)
    rows.write_bytes(data)
    before = rows.read_bytes().splitlines(keepends=True)
    sent = send(output, ordered=ordered)
    aside = run_folder(output) / "damaged.jsonl"
    assert 3 <= len(sent) <= 5
    assert caplog.messages == [
        f"{output} was damaged: 1 of its rows are not as they were written, and 0 come twice. They "
        f"are kept in {aside}, and lines that have no other row are sent again"
    ]
    assert aside.read_bytes() == next(line for line in before if b"\0" in line)
    caplog.clear()
    assert send(output, ordered=ordered) == set()
    assert caplog.messages == []


def test_rows_that_are_gone_are_told(
    made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = shutil.copytree(made / f"0{LINES}", tmp_path / "run") / "out.jsonl"
    assert finished_rows(output) == LINES
    output.write_bytes(b"".join(output.read_bytes().splitlines(keepends=True)[:5]))
    assert len(send(output)) == 35
    assert caplog.messages == [
        f"35 of the 40 rows of {output} are gone: their lines are sent again"
    ]


def test_a_file_that_another_program_has_rewritten_is_refused(made: Path, tmp_path: Path) -> None:
    """As `jq .` does: each line would be bought again."""
    output = shutil.copytree(made / f"0{LINES}", tmp_path / "run") / "out.jsonl"
    lines = output.read_bytes().splitlines()
    output.write_text("".join(json.dumps(json.loads(line)) + "\n" for line in lines))
    with pytest.raises(InvalidOutput) as caught:
        send(output)
    assert str(caught.value) == (
        f"40 of the 40 rows in {output} are not as they were written: to send those lines again "
        "would bill them again. Fix: restore the file from a copy, or give another one with -o"
    )
    output.write_bytes(b"\n".join(lines) + b"\n")
    assert send(output) == set()


@pytest.mark.parametrize("mark", [1 << 35, 0, LINES + 1, 7, (1 << 63) | 38, (1 << 64) - 1])
def test_marks_that_mean_nothing_are_told(
    mark: int, made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Beyond the file, none at all, given twice, or taking back what was not given."""
    output = shutil.copytree(made / "033", tmp_path / "run") / "out.jsonl"
    with (run_folder(output) / "journal").open("ab") as file:
        file.write((35).to_bytes(8, "little") + mark.to_bytes(8, "little"))
    with Journal(output, HEADER) as journal:
        assert set(journal.ambiguous) == {35}
    assert caplog.messages == [
        f"the journal of {output} was damaged: 1 of its marks mean nothing and are ignored. Lines "
        "in flight when a run was killed may be sent again, and billed, unseen"
    ]
    caplog.clear()
    assert send(output) == set(range(34, LINES + 1))
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda lines: lines[:5], "has 5 rows, and had 40 when its run was done"),
        (lambda lines: [*lines, lines[3]], "holds 1 line other than the run wrote, or there twice"),
        (
            lambda lines: [lines[0].replace(b"answer 1 ", b"answer 7 "), *lines[1:]],
            "or there twice, the first after 0 bytes. Fix: run that shard again, which mends it, "
            "or merge the others with --partial",
        ),
    ],
)
def test_a_damaged_shard_is_not_merged_until_it_was_mended(
    change: Callable[[list[bytes]], list[bytes]], says: str, made: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(made / "shards", tmp_path / "shards")
    shards = [folder / "s0.jsonl", folder / "s1.jsonl"]
    shards[0].write_bytes(b"".join(change(shards[0].read_bytes().splitlines(keepends=True))))
    with pytest.raises(InvalidOutput) as caught:
        merge(shards, folder / "all.jsonl")
    assert says in str(caught.value)
    assert not (folder / "all.jsonl").exists()
    send(shards[0], {**HEADER, "shard": [0, 2]})
    assert merge(shards, folder / "all.jsonl") == Merged(80, 10, 0)
