"""The gate: so many at once, in order, and so many that wait."""

import asyncio

import pytest

from alora_gguf.serve.gate import Gate
from alora_gguf.serve.problem import Problem


def test_requests_enter_in_order_and_never_too_many():
    async def run():
        gate, entered, most = Gate(3, 100), [], 0

        async def one(i, n):
            nonlocal most
            await gate.enter(n)
            entered.append(i)
            most = max(most, gate.n_running)
            await asyncio.sleep(0.001)
            gate.leave(n)

        await asyncio.gather(*(one(i, 1 + i % 3) for i in range(20)))
        return entered, most, gate

    entered, most, gate = asyncio.run(run())
    assert entered == list(range(20)) and most == 3
    assert (gate.n_running, gate.n_waiting) == (0, 0)


def test_one_more_than_may_wait_is_refused_with_a_time():
    async def run():
        gate = Gate(1, 1)
        await gate.enter()
        waiting = asyncio.ensure_future(gate.enter())
        await asyncio.sleep(0)
        with pytest.raises(Problem) as refused:
            await gate.enter()
        gate.leave()
        await waiting
        return refused.value

    problem = asyncio.run(run())
    assert problem.status == 429 and int(problem.headers["Retry-After"]) >= 1


def test_more_choices_than_ever_run_are_refused():
    with pytest.raises(Problem, match="n: expected at most 2 choices, got 3"):
        asyncio.run(Gate(2, 9).enter(3))


@pytest.mark.parametrize("late", [False, True], ids=["while it waits", "when it was just let in"])
def test_who_goes_away_leaves_no_place_taken(late):
    async def run():
        gate = Gate(2, 9)
        await gate.enter(2)
        gone = asyncio.ensure_future(gate.enter(2))
        next_one = asyncio.ensure_future(gate.enter(1))
        await asyncio.sleep(0)
        if late:
            gate.leave(2)
        gone.cancel()
        await asyncio.gather(gone, return_exceptions=True)
        if not late:
            gate.leave(2)
        await asyncio.wait_for(next_one, 5)
        return gate

    gate = asyncio.run(run())
    assert (gate.n_running, gate.n_waiting) == (1, 0)


def test_those_that_are_sent_away_each_get_a_problem_of_their_own():
    async def run():
        gate = Gate(1, 9)
        await gate.enter()
        waiting = [asyncio.ensure_future(gate.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        gate.refuse(Problem(503, "server: it is going down", code="late"))
        return await asyncio.gather(*waiting, return_exceptions=True)

    problems = asyncio.run(run())
    assert {(type(p), p.status, p.code, str(p)) for p in problems} == {(Problem, 503, "late", "server: it is going down")}
    assert len({id(p) for p in problems}) == 3
