"""The script of Valkey's and Redis' is the ledger of Python, to the last bit."""

from __future__ import annotations

import json
from typing import Any

import pytest
from depth import depth
from made_calls import STATED, a_call, random_calls
from servers import Valkey

from headway.shared.ledger import step_all
from headway.shared.stores.valkey import SCRIPT

# Numbers in full, where cjson writes 14 digits of them. The state is packed after each call.
_EXACT = """
local encode, decode = cjson.encode, cjson.decode
local function exact(value)
    if type(value) == 'number' then
        return string.format('%.17g', value)
    elseif type(value) ~= 'table' then
        return encode(value)
    end
    local parts = {}
    if #value > 0 or next(value) == nil then
        for _, each in ipairs(value) do
            parts[#parts + 1] = exact(each)
        end
        return '[' .. table.concat(parts, ',') .. ']'
    end
    for name, each in pairs(value) do
        parts[#parts + 1] = encode(name) .. ':' .. exact(each)
    end
    return '{' .. table.concat(parts, ',') .. '}'
end
local cjson = {encode = exact, decode = decode}
"""
_RUN = """
local text = redis.call('GET', KEYS[1])
local replies = {}
for index = 1, #ARGV, 2 do
    local call = decode(ARGV[index])
    if call.id == nil then
        text = nil
    else
        local state, kept = nil, {}
        if text then
            state, kept = L.loaded(text)
        end
        state, replies[#replies + 1] = L.step(state, call, tonumber(ARGV[index + 1]))
        text = L.dumped(state, kept, call.id)
    end
end
redis.call('SET', KEYS[1], text)
replies[#replies + 1] = L.shown(L.loaded(text))
return replies
"""
_TOGETHER = """
local states, kept, calls = {}, {{}, {}}, {}
for index = 1, 2 do
    local text = redis.call('GET', KEYS[index])
    if text then
        states[index], kept[index] = L.loaded(text)
    end
    calls[index] = decode(ARGV[index])
end
local found, replies = L.step_all(states, calls, tonumber(ARGV[3]))
for index = 1, 2 do
    redis.call('SET', KEYS[index], L.dumped(found[index], kept[index], calls[index].id))
end
return replies
"""
_TESTED = _EXACT + SCRIPT.partition("-- The store")[0] + _RUN
_BATCH = 500


@pytest.mark.parametrize("seed", range(depth(10, 100)))
def test_lua_and_python_agree(seed: int, valkey: Valkey) -> None:
    valkey.do("DEL", f"agree{seed}")
    made = random_calls(seed, 2000)
    granted = 0
    while True:
        texts: list[str] = []
        expected = []
        state: dict[str, Any] = {}
        for call, raw, reply, after in made:
            texts += [json.dumps(call), repr(raw)]
            if call:
                expected.append(reply)
                state = after
            granted += reply.get("count", 0)
            if len(texts) >= 2 * _BATCH:
                break
        if not expected:
            break
        *replies, left = valkey.do("EVAL", _TESTED, 1, f"agree{seed}", *texts)
        for index, (reply, said) in enumerate(zip(expected, replies, strict=True)):
            assert json.loads(said) == reply, (seed, index)
        found = json.loads(left)
        found["workers"] = found["workers"] or {}
        for worker in found["workers"].values():
            worker["reply"] = json.loads(worker["reply"])
        assert found == state, seed
    assert granted > 10


def test_pairs_are_granted_alike(valkey: Valkey) -> None:
    keys = ["together{a}", "together{a}/b"]
    valkey.do("DEL", *keys)
    tested = _EXACT + SCRIPT.partition("-- The store")[0] + _TOGETHER
    states: list[Any] = [None, None]
    pairs = denied = 0
    for n in range(1, 121):
        name = "ab"[n % 2]
        calls = [
            a_call(
                name, n=(n + 1) // 2, limits=limits, epoch=state["epoch"] if state else "",
                version=min(n - 1, 1), need=3 if n % 7 else 0, want=3, held=9, sent=n / 50, **said,
            )
            for limits, state, said in zip(STATED[2:4], states, (
                {"pairs": 3}, {"beside": name, "costs_beside": [[100.0, 90.0]] * (n % 9 > 0)}
            ), strict=True)
        ]  # fmt: skip
        raw = 7.0 + n / 50
        said = valkey.do("EVAL", tested, 2, *keys, *map(json.dumps, calls), repr(raw))
        states, replies = step_all(states, calls, raw)
        for each, reply in zip(said, replies, strict=True):
            assert json.loads(each) == reply, n
        pairs += len(replies[1]["beside"])
        denied += replies[1]["binds"] == "elsewhere"
    assert pairs > 3
    assert denied > 3
