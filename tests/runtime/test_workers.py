"""Work on threads of its own: what it makes or raises, and what takes long is waited for by nobody else."""

import threading

import pytest

from alora_gguf.runtime.workers import Workers


@pytest.fixture
def workers():
    workers = Workers(1)
    yield workers
    workers.close()


def test_what_it_makes_and_what_it_raises(workers):
    jobs = [workers.submit(lambda i=i: 12 // i) for i in (1, 2, 0)]
    assert all(job.wait() and job.done for job in jobs)
    assert [job.result() for job in jobs[:2]] == [12, 6]
    with pytest.raises(ZeroDivisionError):
        jobs[2].result()
    assert workers.submit(lambda: 5).wait()  # the thread is still there


def test_what_takes_long_is_waited_for_by_nobody_else(workers):
    go, told = threading.Event(), threading.Event()
    try:
        long = [workers.submit(go.wait) for _ in range(2)]
        short = workers.submit(lambda: 1)
        for job in long:
            assert not job.wait(0.01)
            workers.takes_long(job)
            job.on_end = told.set
        assert short.wait(60) and workers.submit(lambda: 1).wait(60)
    finally:
        go.set()
    assert all(job.wait(60) for job in long) and told.wait(60)


def test_close_waits_for_what_is_under_way():
    workers, go, begun = Workers(2), threading.Event(), threading.Event()
    job = workers.submit(lambda: begun.set() or go.wait())
    begun.wait()
    threading.Timer(0.05, go.set).start()
    workers.close()
    assert job.done and job.result() is True
    Workers().close()  # that had nothing to do


def test_no_more_threads_than_there_is_work_for():
    workers = Workers(2)
    for _ in range(20):
        assert workers.submit(lambda: 1).wait(60)
    assert 1 <= len(workers._threads) <= 2
    workers.close()
    assert workers._threads == []
