-- The ledger of `ledger.py`, line by line, for Valkey and Redis: what a line is for stands there,
-- and a test compares the two on random calls. Names and order are the same.
--
-- KEYS are where the states are kept, ARGV a call for each, as JSON, or nothing to be told the first
-- state. What differs: indices in calls and replies begin with 0, 0 is true, an empty list reads as {} in
-- a reply, and a worker's reply is kept as its text. The names of workers are digits and letters
-- of one case, which sort alike in every locale.

local BEAT, EXPIRES, LEAD = 1.0, 5.0, 0.2
local GRID, LEAST, SOON, LATE, COLD, ABSENT = 120, 0.02, 0.25, 0.01, 0.5, 0.5
local TENURE, JUMP, DUST, NEVER = 2.0, 5.0, 0.000001, 1e18
local FAR = 3 * LEAD
local APART, NEAR, TICK = 0.004, 0.015, 0.000000001
local MARK = 'headway3:' -- before the state; another number for another shape of it
local KEPT = 691200 -- seconds for which a ledger that nobody calls is kept; quotas may last longer

local floor, max, min = math.floor, math.max, math.min
local L = {}

-- A worker is a list of numbers, and its reply; kept is the text of each, for but one has changed.
local FIELDS = {
    'n', 'sent', 'at', 'expires', 'ask', 'need', 'use', 'want', 'held', 'target', 'priority',
    'weight', 'unsure', 'clock', 'slot_clock', 'pairs', 'lacked', 'reply',
}
local N, SENT, AT, ENDS, ASK, NEED, USE, WANT, HELD, TARGET = 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
local PRIORITY, WEIGHT, UNSURE, CLOCK, SLOT_CLOCK, PAIRS, LACKED, REPLY = 11, 12, 13, 14, 15, 16, 17, 18
local PACKED, SIZE = '<' .. string.rep('d', 17), 136 -- all but the reply, in bytes

local order = nil -- the names of the workers, sorted; nobody comes or goes after `enter`

local function sorted(workers)
    if order == nil then
        order = {}
        for name in pairs(workers) do
            order[#order + 1] = name
        end
        table.sort(order)
    end
    return order
end

function L.loaded(text)
    local state = cmsgpack.unpack(text)
    local kept = state.workers
    state.workers = {}
    for name, packed in pairs(kept) do
        state.workers[name] = {struct.unpack(PACKED, packed)}
        state.workers[name][REPLY] = string.sub(packed, SIZE + 1)
    end
    return state, kept
end

function L.dumped(state, kept, id)
    local workers = state.workers
    for name in pairs(kept) do
        if workers[name] == nil then
            kept[name] = nil
        end
    end
    local worker = workers[id]
    if worker ~= nil then
        kept[id] = struct.pack(PACKED, unpack(worker, 1, 17)) .. worker[REPLY]
    end
    state.workers = kept
    local text = cmsgpack.pack(state)
    state.workers = workers
    return text
end

function L.shown(state)
    local workers = {}
    for name, worker in pairs(state.workers) do
        workers[name] = {}
        for index, field in ipairs(FIELDS) do
            workers[name][field] = worker[index]
        end
    end
    state.workers = workers
    return cjson.encode(state)
end

function L.step(state, call, raw, whole)
    order = nil
    if state == nil then
        state = L.born(call, raw)
    end
    local heard = state.at
    local now = L.advance(state, call, raw)
    if now > heard + 2 * BEAT then
        state.grace = now + BEAT + COLD
    end
    local workers = state.workers
    local worker = workers[call.id]
    if worker ~= nil and call.n <= worker[N] then
        if call.n == worker[N] and call.sent == worker[SENT] then
            return state, worker[REPLY]
        end
        return state, cjson.encode({n = call.n, error = 'twin', now = now})
    end
    L.expire(state, now)
    if call.set ~= 0 or (call.version == 0 and call.stated ~= '' and state.stated == '') then
        L.restate(state, call, now)
    elseif call.version == 0 and call.stated ~= '' and call.stated ~= state.stated then
        return state, cjson.encode({
            n = call.n, error = 'differs', now = now, stated = state.stated,
        })
    end
    if call.bye ~= 0 then
        L.settle(state, call, now)
        workers[call.id] = nil
        return state, cjson.encode({n = call.n, now = now, error = 'bye'})
    end
    worker = L.enter(state, call, now)
    order = nil
    L.settle(state, call, now)
    L.learn(state, call, now)
    local reply = {
        n = call.n, now = now, error = '', epoch = state.epoch,
        version = state.version, stated = '', expires = now + EXPIRES,
        slack = L.slack(state), runs = {}, spacing = 0, count = 0, good = now,
        slots_of = {}, amounts = {}, ask = 0, binds = '', ['until'] = 0, beside = {},
    }
    if not L.current(state, call) then
        reply.stated = state.stated
    end
    L.share_slots(state, call.id, worker, reply, now)
    L.grant(state, call.id, worker, call, reply, now, whole)
    L.tell_learned(state, call, reply, now)
    local live, use, weights = 0, 0, 0
    for _, name in ipairs(sorted(workers)) do
        local other = workers[name]
        if other[NEED] > 0 or other[USE] > 0 or other[PAIRS] > 0 then
            live = live + 1
            weights = weights + other[WEIGHT]
        end
        use = use + other[USE]
    end
    reply.live = max(1, live)
    reply.part = worker[WEIGHT] / max(weights, worker[WEIGHT])
    reply.elsewhere = use - worker[USE]
    worker[REPLY] = cjson.encode(reply)
    return state, worker[REPLY]
end

function L.step_all(states, calls, raw)
    local replies = {}
    for index, call in ipairs(calls) do
        local whole = index > 1 and states[1] or nil
        states[index], replies[index] = L.step(states[index], call, raw, whole)
    end
    return states, replies
end

-- Time

function L.advance(state, call, raw)
    local now = raw + state.offset
    local at = state.at
    if now < at - 1 then
        state.offset = at - raw
        now = at
    end
    local worker = state.workers[call.id]
    if worker ~= nil then
        local expected = worker[AT] + max(0, call.sent - worker[SENT])
        if now > expected + JUMP then
            now = max(at, expected)
            state.offset = now - raw
        end
    end
    if now < at then
        now = at
    end
    state.at = now
    return now
end

function L.born(call, raw)
    local state = {
        epoch = call.fresh, at = 0, offset = -raw, version = 0, stated = '',
        rates = {}, tats = {}, budgets = {}, slots = 0, gate = 0, frozen = 0, strayed = 0,
        gen = 0, chief = '', numbers = {}, blob = '', clock = 0, slot_clock = 0,
        reserved = '', keeper = '', grace = 0, booked = {}, workers = {},
    }
    L.restate(state, call, 0)
    L.chill(state, 0, LEAD + L.slack(state))
    return state
end

function L.chill(state, now, seconds)
    state.frozen = max(state.frozen, now + seconds)
end

function L.expire(state, now)
    local workers = state.workers
    for name, worker in pairs(workers) do
        if max(worker[ENDS], state.grace) < now then
            workers[name] = nil
        end
    end
    if state.reserved ~= '' and workers[state.keeper] == nil then
        state.reserved = ''
    end
end

-- Limits

function L.slack(state)
    local shortest = NEVER
    for _, rate in ipairs(state.rates) do
        shortest = min(shortest, rate.span)
    end
    local slack = min(0.2, max(0.02, 0.005 * shortest))
    for _, worker in pairs(state.workers) do
        slack = max(slack, min(worker[UNSURE], shortest / 4, 2))
    end
    return slack
end

function L.restate(state, call, now)
    local tats = {}
    for index = 1, #call.rates do
        local found = state.version == 0 and -NEVER or now
        for older = 1, #state.rates do
            if state.rates[older].name == call.rates[index].name then
                found = state.tats[older]
            elseif #state.rates == #call.rates and older == index then
                found = max(found, state.tats[older])
            end
        end
        tats[#tats + 1] = found
    end
    local budgets = {}
    for _, stated in ipairs(call.budgets) do
        local budget = {
            name = stated.name, kind = stated.kind, limit = stated.limit,
            share = stated.share, width = stated.width, interval = stated.interval,
            ahead = stated.ahead, each = stated.each, renews = 0, tat = now,
            ring = {},
        }
        for _, older in ipairs(state.budgets) do
            if older.kind == stated.kind and older.each == stated.each then
                budget.tat = max(now, older.tat)
                budget.renews = older.renews
                for _, entry in ipairs(older.ring) do
                    local ends = (entry[1] + 1) * older.width
                    L.add(budget, floor(ends / budget.width), entry[2])
                end
                break
            end
        end
        budgets[#budgets + 1] = budget
    end
    state.rates, state.tats, state.budgets = call.rates, tats, budgets
    state.slots = call.slots
    state.stated = call.stated
    state.version = state.version + 1
    state.gen = state.gen + 1
    state.chief = ''
    state.numbers = {}
    state.blob = ''
    state.reserved = ''
end

function L.current(state, call)
    return call.epoch == state.epoch and call.version == state.version
end

-- Who calls

function L.enter(state, call, now)
    local workers = state.workers
    local name = call.id
    local before = workers[call.was] ~= nil and call.was or name
    local known = workers[before] ~= nil or call.epoch ~= state.epoch
    if before ~= name then
        workers[before] = nil
    end
    local worker = workers[name]
    if worker ~= nil and call.n > worker[N] + 1 and call.epoch == state.epoch then
        L.chill(state, now, BEAT + COLD)
    end
    if worker == nil then
        worker = {0, 0, now, 0, now, 0, 0, 0, 0, 0, 0, 1, 0, state.clock, state.slot_clock, 0, -NEVER, '{}'}
        workers[name] = worker
    elseif worker[USE] > 0 or worker[HELD] > 0 then
        local spent = worker[HELD] * (now - worker[AT]) / worker[WEIGHT]
        worker[SLOT_CLOCK] = worker[SLOT_CLOCK] + spent
    end
    if call.epoch ~= '' and call.epoch ~= state.epoch then
        state.frozen = max(state.frozen, BEAT + COLD)
        for _, declared in ipairs(call.declared) do
            if declared[1] < #state.budgets then
                local budget = state.budgets[declared[1] + 1]
                L.add(budget, floor((now - declared[2]) / budget.width), declared[3])
            end
        end
    end
    if worker[NEED] == 0 and call.need > 0 and not L.lacks(worker, now) then
        worker[CLOCK] = max(worker[CLOCK], state.clock)
        worker[ASK] = now
    elseif call.need > 0 and call.priority > worker[PRIORITY] then
        worker[ASK] = now
    end
    if worker[WANT] <= worker[USE] and call.want > call.use then
        worker[SLOT_CLOCK] = max(worker[SLOT_CLOCK], state.slot_clock)
    end
    worker[N], worker[SENT], worker[AT] = call.n, call.sent, now
    worker[ENDS] = now + EXPIRES
    worker[NEED], worker[PRIORITY] = call.need, call.priority
    worker[PAIRS] = call.pairs
    worker[WEIGHT], worker[UNSURE] = call.weight, call.unsure
    worker[USE], worker[WANT] = call.use, max(call.want, call.use)
    worker[HELD] = known and max(call.held, call.use) or call.use
    return worker
end

function L.settle(state, call, now)
    local since = now - LATE
    if call.strays > 0 then
        since = min(since, now - call.silent)
        if now < state.grace then
            state.frozen = max(state.frozen, state.grace - BEAT)
        end
        local slack = L.slack(state)
        state.strayed = max(state.strayed, now) + L.interval(state, slack)
        state.frozen = max(state.frozen, state.strayed)
        for index = 1, #state.tats do
            local own = L.interval_of(state, index, slack)
            local tat = max(state.tats[index], since) + call.strays * own
            local most = now + own * state.rates[index].units
            state.tats[index] = max(state.tats[index], min(tat, most))
        end
    end
    if not L.current(state, call) then
        return
    end
    for _, refund in ipairs(call.refunds) do
        local budget = state.budgets[refund[1] + 1]
        local oldest = floor(now / budget.width) - GRID
        for _, entry in ipairs(budget.ring) do
            if entry[1] == refund[2] and entry[1] >= oldest then
                entry[2] = max(0, entry[2] - refund[3])
            end
        end
        budget.tat = max(now - budget.ahead, budget.tat - refund[3] * budget.interval)
    end
    for _, over in ipairs(call.overs) do
        local budget = state.budgets[over[1] + 1]
        L.add(budget, floor(now / budget.width), over[2])
        budget.tat = max(budget.tat, since) + over[2] * budget.interval
    end
end

function L.learn(state, call, now)
    if call.opens ~= 0 then
        state.gate = 0
        state.gen = state.gen + 1
        state.chief, state.numbers, state.blob = '', {}, ''
        return
    end
    if call.gate > state.gate then
        state.gate = call.gate
    end
    if #call.numbers == 0 then
        return
    end
    local chief = state.chief
    if call.cut ~= 0 then
        if call.gen == state.gen then
            state.gen = state.gen + 1
            state.chief, state.numbers = call.id, call.numbers
            state.blob = call.blob
        end
    elseif chief == call.id and call.gen == state.gen then
        state.numbers = call.numbers
        state.blob = call.blob
    end
end

function L.tell_learned(state, call, reply, now)
    local chief = state.chief
    if chief ~= '' and chief ~= call.id then
        local other = state.workers[chief]
        if other == nil or (other[NEED] == 0 and other[AT] < now - 2 * BEAT) then
            state.chief = call.id
            state.gen = state.gen + 1
        end
    end
    reply.gen = state.gen
    reply.chief = state.chief == call.id and 1 or 0
    reply.numbers = state.numbers
    reply.blob = ''
    if call.gen ~= state.gen then
        reply.blob = state.blob
    end
    reply.gate = state.gate > now and state.gate or 0
end

-- Slots

function L.capacity(state)
    local capacity = state.slots
    if #state.numbers > 1 and state.numbers[2] > 0 then
        local found = max(1, floor(state.numbers[2]))
        capacity = capacity == 0 and found or min(capacity, found)
    end
    return capacity
end

function L.share_slots(state, name, worker, reply, now)
    local capacity = L.capacity(state)
    reply.short = 0
    if capacity == 0 then
        reply.held, reply.target = -1, -1
        return
    end
    local workers = state.workers
    local taken = 0
    for _, each in pairs(workers) do
        taken = taken + each[HELD]
    end
    local target = L.targets(state, capacity, now)[name]
    worker[TARGET] = target
    local free = capacity - taken
    if state.frozen > now then
        free = 0
    end
    local more = min(min(worker[WANT], target) - worker[HELD], free)
    if more > 0 then
        worker[HELD] = worker[HELD] + more
        state.slot_clock = max(state.slot_clock, worker[SLOT_CLOCK])
    end
    reply.held, reply.target = worker[HELD], target
    local contested = false
    for each, other in pairs(workers) do
        if each ~= name and (other[HELD] > 0 or other[WANT] > other[HELD]) then
            contested = true
        end
    end
    local short = false
    for _, each in pairs(workers) do
        if each[WANT] > each[HELD] then
            short = true
        end
    end
    if (contested and short) or (state.frozen > now and short) then
        reply.short = 1
    end
end

function L.targets(state, capacity, now)
    local workers = state.workers
    local targets = {}
    local left = capacity
    local groups, seen = {}, {}
    local names = sorted(workers)
    for _, name in ipairs(names) do
        local worker = workers[name]
        targets[name] = 0
        if worker[WANT] <= worker[USE] then
            targets[name] = min(worker[USE], left)
            left = left - targets[name]
        elseif not seen[worker[PRIORITY]] then
            seen[worker[PRIORITY]] = true
            groups[#groups + 1] = worker[PRIORITY]
        end
    end
    table.sort(groups, function(a, b) return a > b end)
    for _, priority in ipairs(groups) do
        local active = {}
        for _, name in ipairs(names) do
            local worker = workers[name]
            if worker[WANT] > worker[USE] and worker[PRIORITY] == priority then
                active[#active + 1] = name
            end
        end
        while left > 0 and #active > 0 do
            local weights = 0
            for _, name in ipairs(active) do
                weights = weights + workers[name][WEIGHT]
            end
            local given = 0
            local rest = {}
            local share = left / weights
            for _, name in ipairs(active) do
                local want = workers[name][WANT] - targets[name]
                local part = floor(share * workers[name][WEIGHT] + DUST)
                part = min(want, part)
                targets[name] = targets[name] + part
                given = given + part
                if part < want then
                    rest[#rest + 1] = name
                end
            end
            left = left - given
            active = rest
            if given == 0 then
                L.by_turns(workers, targets, active, left, now)
                left = 0
            end
        end
    end
    return targets
end

function L.by_turns(workers, targets, active, left, now)
    local ranks = {}
    for _, name in ipairs(active) do
        local worker = workers[name]
        local had = worker[SLOT_CLOCK] + worker[HELD] * (now - worker[AT]) / worker[WEIGHT]
        if worker[HELD] > targets[name] then
            had = had - TENURE / worker[WEIGHT]
        end
        ranks[#ranks + 1] = {had, name}
    end
    table.sort(ranks, function(a, b)
        if a[1] ~= b[1] then
            return a[1] < b[1]
        end
        return a[2] < b[2]
    end)
    for index = 1, #ranks do
        if index - 1 < left then
            targets[ranks[index][2]] = targets[ranks[index][2]] + 1
        end
    end
end

-- Starts and tokens

function L.interval(state, slack)
    local longest = 0
    for index = 1, #state.rates do
        longest = max(longest, L.interval_of(state, index, slack))
    end
    return longest
end

function L.interval_of(state, index, slack)
    local rate = state.rates[index]
    return (rate.clearance + slack) / rate.units / L.factor(state, 1)
end

function L.factor(state, index)
    if index <= #state.numbers and state.numbers[index] > 0 then
        return state.numbers[index]
    end
    return 1
end

function L.waiting(worker, now)
    return worker[NEED] > 0 and now <= worker[ASK] + ABSENT
end

function L.goes_before(first, first_name, second, second_name)
    if first[PRIORITY] ~= second[PRIORITY] then
        return first[PRIORITY] > second[PRIORITY]
    end
    if first[CLOCK] ~= second[CLOCK] then
        return first[CLOCK] < second[CLOCK]
    end
    return first_name < second_name
end

function L.lacks(worker, now)
    return now <= worker[LACKED] + ABSENT
end

function L.grant(state, name, worker, call, reply, now, whole)
    local slack = L.slack(state)
    L.roll_all(state, call, reply, now)
    L.forget_booked(state, slack, now)
    if call.need == 0 then
        if state.reserved == name then
            state.reserved = ''
        end
        if whole ~= nil and whole.reserved == name then
            whole.reserved = ''
        end
        return
    end
    if L.held_back(state, worker, call, reply, now) then
        return
    end
    local spacing = L.interval(state, slack)
    local opens, binds = L.opens(state, slack)
    local rank, waiting, weights, least = L.place(state, name, worker, now)
    local segment = LEAD * worker[WEIGHT] / weights
    local each = max(L.turn(state, call, segment, spacing), LEAD / waiting)
    local paired = whole ~= nil and whole.workers[call.beside] ~= nil
    local lead = paired and FAR or LEAD
    local turn = opens - lead + rank * LEAD / waiting
    if now < turn then
        local ask = max(turn, min(opens - lead + rank * each, now + BEAT))
        L.deny(worker, reply, now, binds, ask, opens)
        worker[LACKED] = now
        return
    end
    local starts = call.need
    if spacing > 0 then
        starts = min(starts, max(1, floor(segment / spacing + DUST)))
    end
    local ahead = worker[CLOCK] > least + LEAD / 8 and 2 * waiting or 0
    local place = {segment, weights, rank * LEAD / waiting, ahead}
    starts = L.with_tokens(state, name, worker, call, reply, starts, place, now)
    if starts == 0 then
        worker[LACKED] = now
        return
    end
    local base = max(opens, max(now - LATE, state.frozen))
    local runs = L.runs(state, base, spacing, starts, segment)
    if paired then
        runs = L.pair(whole, worker, call, reply, {runs[1][1], spacing, starts}, now)
        if #runs == 0 then
            return
        end
    end
    state.reserved = ''
    local last = L.hand_out(state, worker, call.costs, reply, runs, now)
    for index = 1, #state.rates do
        local own = L.interval_of(state, index, slack)
        local ends = last + own + state.rates[index].burst * own
        state.tats[index] = max(state.tats[index], ends)
    end
    opens, binds = L.opens(state, slack)
    local ask = opens - lead + (waiting - 1) * each
    worker[ASK] = max(now + LEAST, min(ask, now + BEAT))
    reply.ask = worker[ASK]
    worker[LACKED] = -NEVER
    if call.need > reply.count then
        reply.binds, reply['until'] = binds, opens
        worker[LACKED] = now
    end
end

function L.hand_out(state, worker, costs, reply, runs, now)
    local slack = L.slack(state)
    local spacing = L.interval(state, slack)
    local starts = 0
    local last = now
    for _, run in ipairs(runs) do
        starts = starts + run[2]
        last = run[1] + (run[2] - 1) * spacing
    end
    reply.runs, reply.spacing, reply.count = runs, spacing, starts
    reply.good = max(now, last) + slack + LATE
    if spacing == 0 then
        reply.good = max(now, last) + LEAD
    end
    local worth = L.charge(state, costs, reply, starts, now)
    state.clock = max(state.clock, worker[CLOCK])
    worker[CLOCK] = worker[CLOCK] + max(worth, starts * spacing) / worker[WEIGHT]
    return last
end

function L.runs(state, base, spacing, starts, segment)
    if spacing == 0 then
        return {{base, starts}}
    end
    local runs = {}
    local left = starts
    local at = base
    for index = 1, #state.booked + 1 do
        local booked = state.booked[index] or NEVER
        if left > 0 and at + spacing <= booked + TICK then
            local count = min(left, floor((booked - at) / spacing + DUST))
            if #runs > 0 then
                count = min(count, floor((base + segment - at) / spacing + DUST))
                if count <= 0 then
                    break
                end
            end
            runs[#runs + 1] = {at, count}
            left = left - count
            at = at + count * spacing
        end
        if booked + spacing > at + TICK then
            at = booked + spacing
        end
    end
    return runs
end

-- Pairs: a start of a key's, and one of the whole's for the same moment

function L.pair(whole, worker, call, reply, plan, now)
    local moment, spacing, starts = plan[1], plan[2], plan[3]
    local name = call.beside
    local there = whole.workers[name]
    local at = whole.at
    local shift = at - now
    local slack = L.slack(whole)
    order = nil
    L.forget_booked(whole, slack, at)
    if there[NEED] == 0 and not L.lacks(there, at) then
        there[CLOCK] = max(there[CLOCK], whole.clock)
    end
    local opens = L.opens(whole, slack)
    local first = max(max(opens, at), max(whole.gate, whole.frozen))
    first = first + max(0, L.lag(whole, name, there, call, at) - LEAD)
    order = nil
    local ready
    ready, starts = L.room_beside(whole, name, there, call, starts, at)
    ready = max(ready, first - FAR)
    if ready > at then
        there[LACKED] = at
        L.deny(worker, reply, now, 'elsewhere', min(ready - shift, now + BEAT), ready - shift)
        return {}
    end
    local mine, theirs = {}, {}
    local own = L.interval(whole, slack)
    while #mine < starts do
        local booked = L.free_at(whole, max(moment + shift + APART, first), opens, slack)
        if booked > moment + shift + max(own, LEAD / 4) then
            there[LACKED] = at
        end
        if booked > at + FAR + LEAD then
            break
        end
        moment = max(moment, booked - shift - NEAR)
        mine[#mine + 1] = {moment, 1}
        theirs[#theirs + 1] = {booked, 1}
        if own > 0 then
            whole.booked[#whole.booked + 1] = booked
            table.sort(whole.booked)
        end
        moment = moment + spacing
    end
    if #mine == 0 then
        local ask = max(now + LEAD / 2, first - shift - FAR)
        L.deny(worker, reply, now, 'elsewhere', min(ask, now + BEAT), first - shift)
        return mine
    end
    local beside = {slack = slack, slots_of = {}, amounts = {}}
    beside.version, beside.epoch = whole.version, whole.epoch
    L.hand_out(whole, there, call.costs_beside, beside, theirs, at)
    reply.beside = {beside}
    whole.reserved = ''
    return mine
end

function L.lag(whole, name, there, call, at)
    local lag = 0
    for _, other_name in ipairs(sorted(whole.workers)) do
        local other = whole.workers[other_name]
        if other_name ~= name and L.lacks(other, at) then
            if other[PRIORITY] > call.priority then
                return NEVER
            end
            lag = lag + max(0, there[CLOCK] - other[CLOCK]) * other[WEIGHT]
        end
    end
    return lag
end

function L.room_beside(whole, name, there, call, starts, at)
    local kept = L.kept_until(whole, call.id, call.priority, at)
    if #call.costs_beside ~= #whole.budgets then
        return at + SOON, 0
    end
    if L.capacity(whole) > 0 and there[HELD] == 0 then
        return at + SOON, 0
    end
    if kept > 0 then
        return max(at + LEAD / 2, min(kept, at + BEAT)), 0
    end
    for index = 1, #whole.budgets do
        local budget = whole.budgets[index]
        L.roll(budget, at)
        local head, mean = L.costs(call.costs_beside, budget, index)
        local ready = L.room_at(budget, head)
        if ready > at then
            if budget.kind ~= 'quota' then
                whole.reserved, whole.keeper = call.id, name
            end
            return ready, 0
        end
        starts = min(starts, L.fit(whole, budget, index, head, mean, LEAD))
    end
    return at, starts
end

function L.free_at(whole, moment, opens, slack)
    local spacing = L.interval(whole, slack)
    if spacing == 0 then
        return moment
    end
    if opens > whole.at then
        moment = opens + math.ceil((moment - opens) / spacing - DUST) * spacing
    end
    for _, booked in ipairs(whole.booked) do
        if booked - spacing + TICK < moment and moment < booked + spacing - TICK then
            moment = booked + spacing
        end
    end
    return moment
end

function L.forget_booked(state, slack, now)
    local spacing = L.interval(state, slack)
    local passed = max(L.paced(state, slack), now - LATE)
    local kept = {}
    for _, booked in ipairs(state.booked) do
        if booked + spacing > passed + TICK then
            kept[#kept + 1] = booked
        end
    end
    state.booked = kept
end

function L.turn(state, call, segment, spacing)
    local each = segment
    if spacing > 0 then
        each = max(1, floor(segment / spacing + DUST)) * spacing
    end
    for index = 1, #state.budgets do
        local budget = state.budgets[index]
        local _, mean = L.costs(call.costs, budget, index)
        each = max(each, mean * budget.interval / L.factor(state, index + 2) / 2)
    end
    return each
end

function L.held_back(state, worker, call, reply, now)
    local known = call.version == 0 and call.stated == state.stated
    if not L.current(state, call) and not known then
        reply.ask = now + LEAST
        return true
    end
    if state.gate > now then
        L.deny(worker, reply, now, 'gate', state.gate, state.gate)
        return true
    end
    if L.capacity(state) > 0 and worker[HELD] == 0 then
        L.deny(worker, reply, now, 'concurrency', now + SOON, now + SOON)
        return true
    end
    if state.frozen > now then
        L.deny(worker, reply, now, 'gate', state.frozen, state.frozen)
        return true
    end
    return false
end

function L.place(state, name, worker, now)
    local rank, waiting, weights, least = 0, 1, worker[WEIGHT], worker[CLOCK]
    local slots = L.capacity(state)
    for _, other_name in ipairs(sorted(state.workers)) do
        local other = state.workers[other_name]
        if other_name ~= name and L.waiting(other, now) then
            waiting = waiting + 1
            weights = weights + other[WEIGHT]
            if L.goes_before(other, other_name, worker, name) then
                rank = rank + 1
            end
            if other[PRIORITY] == worker[PRIORITY] and (slots == 0 or other[HELD] > other[USE]) then
                least = min(least, other[CLOCK])
            end
        end
    end
    return rank, waiting, weights, least
end

function L.with_tokens(state, name, worker, call, reply, starts, place, now)
    local segment, weights, behind = place[1], place[2], place[3]
    local budgets = state.budgets
    local kept = L.kept_until(state, name, worker[PRIORITY], now)
    if kept > 0 then
        local ask = max(now + LEAD / 2, min(kept + behind, now + BEAT))
        L.deny(worker, reply, now, 'tokens', ask, kept)
        return 0
    end
    for index = 1, #budgets do
        local budget = budgets[index]
        local head, mean = L.costs(call.costs, budget, index)
        if place[4] > 0 and L.room_at(budget, place[4] * head) > now then
            L.deny(worker, reply, now, budget.kind, now + LEAD / 2, now + LEAD / 2)
            return 0
        end
        local ready = L.room_at(budget, head)
        if ready > now then
            if budget.kind ~= 'quota' then
                state.reserved, state.keeper = name, name
            end
            L.deny(worker, reply, now, budget.kind, min(ready, now + BEAT), ready)
            return 0
        end
        local saved = max(0, min(budget.ahead, now - budget.tat + budget.ahead))
        local part = segment + saved * worker[WEIGHT] / weights
        starts = min(starts, L.fit(state, budget, index, head, mean, part))
    end
    return starts
end

function L.kept_until(state, name, priority, now)
    if state.reserved == '' or state.reserved == name then
        return 0
    end
    local keeper = state.workers[state.keeper]
    local first = keeper ~= nil and keeper[PRIORITY] >= priority
    if keeper ~= nil and first and (L.waiting(keeper, now) or L.lacks(keeper, now)) then
        return max(now, keeper[ASK])
    end
    state.reserved = ''
    return 0
end

function L.charge(state, costs, reply, starts, now)
    local worth = 0
    for index = 1, #state.budgets do
        local budget = state.budgets[index]
        local head, mean = L.costs(costs, budget, index)
        local amount = head + (starts - 1) * mean
        local slot = floor(reply.good / budget.width)
        L.add(budget, slot, amount)
        local paced = amount * budget.interval / L.factor(state, index + 2)
        budget.tat = max(budget.tat, now - LATE) + paced
        worth = max(worth, paced)
        reply.slots_of[#reply.slots_of + 1] = slot
        reply.amounts[#reply.amounts + 1] = amount
    end
    return worth
end

function L.opens(state, slack)
    local opens, binds = L.paced(state, slack)
    local spacing = L.interval(state, slack)
    for _, booked in ipairs(state.booked) do
        if booked - spacing + TICK < opens and opens < booked + spacing - TICK then
            opens, binds = booked + spacing, 'requests'
        end
    end
    return opens, binds
end

function L.paced(state, slack)
    local opens, binds = -NEVER, ''
    for index = 1, #state.rates do
        local tolerance = state.rates[index].burst * L.interval_of(state, index, slack)
        if state.tats[index] - tolerance > opens then
            opens, binds = state.tats[index] - tolerance, 'requests'
        end
    end
    for _, budget in ipairs(state.budgets) do
        if budget.interval > 0 and budget.tat - budget.ahead > opens then
            opens, binds = budget.tat - budget.ahead, budget.kind
        end
    end
    return opens, binds
end

function L.deny(worker, reply, now, binds, ask, until_)
    worker[ASK] = max(now + LEAST, ask)
    reply.ask, reply.binds, reply['until'] = worker[ASK], binds, until_
end

function L.costs(costs, budget, index)
    if budget.each == 1 then
        return 1, 1
    end
    local head, mean = costs[index][1], costs[index][2]
    if head > budget.share then
        head = min(head, budget.limit)
    end
    return head, mean
end

function L.room_at(budget, cost)
    local at = -NEVER
    local total = 0
    for _, entry in ipairs(budget.ring) do
        total = total + entry[2]
    end
    local room = max(0, budget.share - cost)
    if cost > 0 and total > room + DUST then
        for _, entry in ipairs(budget.ring) do
            total = total - entry[2]
            at = (entry[1] + GRID + 1.001) * budget.width
            if total <= room + DUST then
                break
            end
        end
        if budget.renews > 0 then
            at = budget.renews
        end
    end
    return at
end

function L.fit(state, budget, index, head, mean, segment)
    if mean <= 0 then
        return 1000000
    end
    local total = 0
    for _, entry in ipairs(budget.ring) do
        total = total + entry[2]
    end
    local room = budget.share - total - head
    local most = floor(room / mean + DUST)
    if budget.interval > 0 and budget.each == 0 then
        local paced = budget.interval / L.factor(state, index + 2)
        most = min(most, floor((segment / paced - head) / mean + 0.5))
    end
    return 1 + max(0, most)
end

function L.roll_all(state, call, reply, now)
    reply.quotas = {}
    for index = 1, #state.budgets do
        local budget = state.budgets[index]
        if L.current(state, call) then
            for _, renewal in ipairs(call.renews) do
                local until_ = renewal[2] - budget.width * GRID / 2
                if renewal[1] == index - 1 and (budget.renews == 0 or until_ < budget.renews) then
                    budget.renews = max(budget.renews, renewal[2])
                end
            end
        end
        L.roll(budget, now)
        if budget.kind == 'quota' then
            local used = {}
            for _, entry in ipairs(budget.ring) do
                used[#used + 1] = {(entry[1] + 1) * budget.width - now, entry[2]}
            end
            reply.quotas[#reply.quotas + 1] = used
        end
    end
end

function L.roll(budget, now)
    if budget.renews > 0 then
        if now >= budget.renews then
            budget.ring = {}
            budget.renews = 0
        end
        return
    end
    local oldest = floor(now / budget.width) - GRID
    local kept = {}
    for _, entry in ipairs(budget.ring) do
        if entry[1] >= oldest and entry[2] > 0 then
            kept[#kept + 1] = entry
        end
    end
    budget.ring = kept
end

function L.add(budget, slot, amount)
    local ring = budget.ring
    for _, entry in ipairs(ring) do
        if entry[1] == slot then
            entry[2] = entry[2] + amount
            return
        end
    end
    ring[#ring + 1] = {slot, amount}
    table.sort(ring, function(a, b) return a[1] < b[1] end)
end

-- The store

local states, packed = {}, {}
for index, key in ipairs(KEYS) do
    local text = redis.call('GET', key)
    packed[index] = {}
    if text then
        if string.sub(text, 1, #MARK) ~= MARK then
            return redis.error_reply('HEADWAYVERSION')
        end
        states[index], packed[index] = L.loaded(string.sub(text, #MARK + 1))
    end
end
if #ARGV == 0 then
    return states[1] and L.shown(states[1])
end
local time = redis.call('TIME')
local calls, replies = {}, nil
for index, text in ipairs(ARGV) do
    calls[index] = cjson.decode(text)
end
states, replies = L.step_all(states, calls, time[1] + time[2] / 1000000)
for index, key in ipairs(KEYS) do
    local seconds = KEPT
    for _, budget in ipairs(states[index].budgets) do
        seconds = max(seconds, floor(budget.width * (GRID + 1)) + 86400)
    end
    local text = L.dumped(states[index], packed[index], calls[index].id)
    redis.call('SET', key, MARK .. text, 'EX', seconds)
end
return replies
