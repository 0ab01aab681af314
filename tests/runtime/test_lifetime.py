"""Native memory goes when it was closed and nobody is inside any more, once, and never before."""

import threading
import time

import pytest

from alora_gguf import ClosedError
from alora_gguf.runtime.lifetime import Lifetime


def test_nobody_comes_in_after_close():
    lifetime, freed = Lifetime("vocabulary"), []
    with lifetime, lifetime:
        lifetime.check()
    lifetime.close(lambda: freed.append(1))
    lifetime.close(lambda: freed.append(2))
    assert freed == [1]
    for use in (lifetime.__enter__, lifetime.check):
        with pytest.raises(ClosedError, match="^vocabulary: expected an open one"):
            use()


def test_close_waits_for_those_inside_who_may_go_deeper():
    lifetime, events = Lifetime(), []
    inside, closing = threading.Event(), threading.Event()

    def work():
        with lifetime:
            inside.set()
            closing.wait(60)
            while not lifetime.closing:
                time.sleep(0.001)
            with lifetime:
                events.append("deeper")
            with pytest.raises(ClosedError):
                lifetime.check()
            events.append("out")

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait(60)
    closing.set()
    lifetime.close(lambda: events.append("freed"))
    assert events == ["deeper", "out", "freed"]
    thread.join()


def test_who_closes_from_inside_frees_on_the_way_out():
    lifetime, freed = Lifetime(), []
    with lifetime:
        with lifetime:
            lifetime.close(lambda: freed.append(1))  # as a destructor does that runs in the middle of a call
        assert not freed
    assert freed == [1]


@pytest.mark.parametrize("line", ["get", "__setitem__"])
def test_a_close_in_the_middle_of_coming_in_is_seen(line):
    """A collector may run at any line of ours, and close what is about to be used: before who comes in is counted, or after."""
    lifetime, freed = Lifetime(), []

    class Inside(dict):
        pass

    def closing(self, *args):
        done = getattr(dict, line)(self, *args)
        if not lifetime.closing:
            lifetime.close(lambda: freed.append(1))
        return done

    setattr(Inside, line, closing)
    lifetime._inside = Inside()
    with pytest.raises(ClosedError):
        lifetime.__enter__()
    assert freed == [1] and not lifetime._inside


def test_many_threads_use_it_and_one_frees_it():
    for _ in range(200):
        lifetime, alive, used_late = Lifetime(), [True], []

        def work():
            try:
                while True:
                    with lifetime:
                        if not alive[0]:
                            used_late.append(1)
            except ClosedError:
                pass

        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        closers = [threading.Thread(target=lifetime.close, args=(alive.pop,)) for _ in range(2)]

        def free():
            alive[0] = False

        lifetime.close(free)
        for thread in closers:
            thread.start()
        for thread in (*threads, *closers):
            thread.join(60)
            assert not thread.is_alive()
        assert alive == [False] and not used_late


def test_close_does_not_wait_for_ever(monkeypatch):
    """Somebody who never leaves keeps the memory, and not the thread that closes it."""
    monkeypatch.setattr("alora_gguf.runtime.lifetime._PATIENCE", 0.05)
    lifetime, freed, inside, leave = Lifetime(), [], threading.Event(), threading.Event()

    def stay():
        with lifetime:
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=stay)
    thread.start()
    inside.wait(60)
    lifetime.close(lambda: freed.append(1))
    assert not freed
    leave.set()
    thread.join(60)
    assert freed == [1]
