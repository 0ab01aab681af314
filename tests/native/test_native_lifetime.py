"""An activation lives and moves with the cells from its start on: told by the next logits, not only by asking what is set."""

import ctypes

import numpy as np
import pytest
from native_runtime import Runtime, free, llama_cpp, prompt, relative_error

TOLERANCE = 2e-5
START, N = 4, 10
PARTIAL = 1  # LLAMA_STATE_SEQ_FLAGS_PARTIAL_ONLY
TOKENS, NEXT = prompt(1, N), prompt(2, 3)


class Case:
    """A context whose sequence 0 has N tokens, adapted from START on, and whose sequence 1 is the base's."""

    def __init__(self, zoo, kind: str, **options):
        self.zoo, self.kind = zoo, kind
        self.adapter = zoo.adapter(kind)
        self.tolerance = 1e-3 if kind == "windows" else TOLERANCE  # its GELU is a table of 16 bits
        self.runtime = Runtime(zoo.base(kind), **options)
        self.memory = self.runtime.memory
        self.ptr = zoo.load(self.runtime, kind, self.adapter)
        self.runtime.activate(0, self.ptr, START)
        self.runtime.logits((0, TOKENS, 0), (1, TOKENS, 0))

    def expected(self, tokens: list[int], start: int | None, first: int) -> np.ndarray:
        """Logits from index `first` on."""
        return self.zoo.expected(self.kind, tokens, len(tokens) if start is None else start, (self.adapter, 1.0))[first:]

    def goes_on(self, seq: int, kept: list[int], start: int | None, tokens: list[int] = NEXT) -> None:
        """The sequence has the tokens `kept`, and `tokens` after them come out as they would on a fresh one."""
        assert llama_cpp.llama_memory_seq_pos_max(self.memory, seq) == len(kept) - 1
        got = self.runtime.logits((seq, tokens, len(kept)))[0]
        assert relative_error(got, self.expected(kept + tokens, start, len(kept))) < self.tolerance


@pytest.fixture(params=["dense", "hybrid"])
def case(request, zoo):
    case = Case(zoo, request.param)
    yield case
    case.runtime.close()


@pytest.fixture
def dense(zoo):
    case = Case(zoo, "dense")
    yield case
    case.runtime.close()


def test_the_cases_differ(dense):
    """Else none of the others would prove anything."""
    tokens = TOKENS + NEXT
    adapted, base, cells_only = dense.expected(tokens, START, N), dense.expected(tokens, None, N), dense.expected(tokens, N, N)
    for one, other in ((adapted, base), (adapted, cells_only)):
        assert relative_error(one, other) > 1000 * TOLERANCE


def test_it_stays_from_decode_to_decode(case):
    case.goes_on(0, TOKENS, START)
    case.goes_on(0, TOKENS + NEXT, START, [42])
    case.goes_on(1, TOKENS, None)


# removal


def test_removing_the_sequence_ends_it(case):
    assert llama_cpp.llama_memory_seq_rm(case.memory, 0, -1, -1)
    assert case.runtime.activations(0) == []
    case.goes_on(0, [], None)


def test_removing_every_sequence_ends_it(dense):
    assert llama_cpp.llama_memory_seq_rm(dense.memory, -1, -1, -1)
    assert dense.runtime.activations(0) == []
    dense.goes_on(0, [], None)


@pytest.mark.parametrize("keep", [0, 2, START])
def test_removing_its_cells_ends_it(dense, keep):
    assert llama_cpp.llama_memory_seq_rm(dense.memory, 0, keep, -1)
    assert dense.runtime.activations(0) == []
    dense.goes_on(0, TOKENS[:keep], None)


@pytest.mark.parametrize("end", [-1, N, N + 5])
def test_removing_its_last_cells_keeps_it(dense, end):
    assert llama_cpp.llama_memory_seq_rm(dense.memory, 0, 7, end)
    dense.goes_on(0, TOKENS[:7], START)


def test_removing_no_cell_keeps_what_begins_there(case):
    """As a rejected draft does it, and llama-server before each prompt."""
    case.runtime.activate(1, case.ptr, N)
    assert llama_cpp.llama_memory_seq_rm(case.memory, 1, N, -1)
    case.goes_on(1, TOKENS, N)
    case.runtime.activate(3, case.ptr, 0)
    assert llama_cpp.llama_memory_seq_rm(case.memory, 3, 0, -1)
    case.goes_on(3, [], 0)


def test_removing_cells_before_what_is_to_come_keeps_it(dense):
    """A prompt in chunks, of which one is taken back: its start is still to come."""
    dense.runtime.activate(1, dense.ptr, N + 2)
    assert llama_cpp.llama_memory_seq_rm(dense.memory, 1, N - 3, -1)
    dense.goes_on(1, TOKENS[: N - 3], N + 2, NEXT * 3)


def test_giving_a_sequence_up_ends_what_has_no_cell(case):
    case.runtime.activate(3, case.ptr, 2)
    assert llama_cpp.llama_memory_seq_rm(case.memory, 3, -1, -1)
    assert case.runtime.activations(3) == []
    case.goes_on(3, [], None)


def test_removing_cells_before_the_end_keeps_it(dense):
    assert llama_cpp.llama_memory_seq_rm(dense.memory, 0, START, 6)
    assert dense.runtime.activations(0) == [(dense.ptr, START, 1.0)]


def test_removing_cells_of_another_sequence_keeps_it(case):
    assert llama_cpp.llama_memory_seq_rm(case.memory, 1, -1, -1)
    case.goes_on(0, TOKENS, START)


def test_a_removal_that_fails_changes_nothing(zoo):
    case = Case(zoo, "hybrid")  # a recurrent state cannot be cut
    assert not llama_cpp.llama_memory_seq_rm(case.memory, 0, 2, -1)
    case.goes_on(0, TOKENS, START)
    case.runtime.close()


def test_clearing_the_memory_ends_it(case):
    case.runtime.clear()
    assert case.runtime.activations(0) == []
    case.goes_on(0, [], None)


def test_keeping_another_sequence_ends_it(case):
    llama_cpp.llama_memory_seq_keep(case.memory, 1)
    assert case.runtime.activations(0) == []
    case.goes_on(0, [], None)
    case.goes_on(1, TOKENS, None)


def test_keeping_its_sequence_keeps_it(case):
    llama_cpp.llama_memory_seq_keep(case.memory, 0)
    case.goes_on(0, TOKENS, START)


# copies


def test_a_copy_has_it_too(case):
    llama_cpp.llama_memory_seq_cp(case.memory, 0, 2, -1, -1)
    case.goes_on(2, TOKENS, START)
    case.goes_on(0, TOKENS, START)


def test_a_copy_of_what_lies_before_it_does_not(dense):
    llama_cpp.llama_memory_seq_cp(dense.memory, 0, 2, 0, START)
    assert dense.runtime.activations(2) == []
    dense.goes_on(2, TOKENS[:START], None)


def test_a_copy_of_some_of_its_cells_has_it(dense):
    llama_cpp.llama_memory_seq_cp(dense.memory, 0, 2, 0, START + 2)
    dense.goes_on(2, TOKENS[: START + 2], START)


def test_a_copy_of_the_base_over_it_ends_it(case):
    llama_cpp.llama_memory_seq_rm(case.memory, 0, -1, -1)
    case.runtime.activate(0, case.ptr, 0)
    llama_cpp.llama_memory_seq_cp(case.memory, 1, 0, -1, -1)
    assert case.runtime.activations(0) == []
    case.goes_on(0, TOKENS, None)


def test_a_part_copied_beside_its_cells_leaves_it(dense):
    llama_cpp.llama_memory_seq_rm(dense.memory, 0, 0, 2)
    llama_cpp.llama_memory_seq_cp(dense.memory, 1, 0, 0, 2)
    dense.goes_on(0, TOKENS, START)


def test_adapted_cells_copied_behind_others_begin_there(dense):
    llama_cpp.llama_memory_seq_rm(dense.memory, 1, 6, -1)
    llama_cpp.llama_memory_seq_cp(dense.memory, 0, 1, 6, -1)
    assert dense.runtime.activations(1) == [(dense.ptr, 6, 1.0)]


def test_a_part_copied_into_an_empty_sequence_leaves_what_is_to_come(dense):
    """A fork of the prefix whose activation was made before it."""
    dense.runtime.activate(2, dense.ptr, START)
    llama_cpp.llama_memory_seq_cp(dense.memory, 1, 2, 0, START)
    dense.goes_on(2, TOKENS[:START], START)


def test_a_copy_onto_itself_changes_nothing(case):
    llama_cpp.llama_memory_seq_cp(case.memory, 0, 0, -1, -1)
    case.goes_on(0, TOKENS, START)


def test_an_original_that_is_removed_leaves_its_copy(case):
    llama_cpp.llama_memory_seq_cp(case.memory, 0, 2, -1, -1)
    llama_cpp.llama_memory_seq_rm(case.memory, 0, -1, -1)
    case.goes_on(2, TOKENS, START)
    case.goes_on(0, [], None)


def test_a_copied_stream_has_it_too(zoo):
    case = Case(zoo, "dense", unified=False)
    llama_cpp.llama_memory_seq_cp(case.memory, 0, 2, -1, -1)
    case.goes_on(2, TOKENS, START)
    case.runtime.close()


# shifts


@pytest.mark.parametrize("n_removed", [2, START, 6, 8])
def test_a_context_shift_moves_it(dense, n_removed):
    """The first cells go, the others move down to 0: with them the start, or what is left of it."""
    llama_cpp.llama_memory_seq_rm(dense.memory, 0, 0, n_removed)
    llama_cpp.llama_memory_seq_add(dense.memory, 0, n_removed, -1, -n_removed)
    assert dense.runtime.activations(0) == [(dense.ptr, max(0, START - n_removed), 1.0)]
    # rope is relative, so the cells of the same tokens at the same distances give the same logits
    got = dense.runtime.logits((0, NEXT, N - n_removed))[0]
    with Runtime(dense.zoo.base("dense")) as fresh:
        fresh.activate(0, dense.zoo.load(fresh, "dense", dense.adapter), START)
        fresh.logits((0, TOKENS, 0))
        llama_cpp.llama_memory_seq_rm(fresh.memory, 0, 0, n_removed)
        assert relative_error(got, fresh.logits((0, NEXT, N))[0]) < 1e-4  # of the shift itself


def test_a_gap_before_it_moves_it(dense):
    llama_cpp.llama_memory_seq_add(dense.memory, 0, 2, -1, 5)
    assert dense.runtime.activations(0) == [(dense.ptr, START + 5, 1.0)]


def test_a_shift_after_it_or_of_another_sequence_does_not_move_it(dense):
    llama_cpp.llama_memory_seq_add(dense.memory, 0, 8, -1, 3)
    llama_cpp.llama_memory_seq_add(dense.memory, 1, 0, -1, 3)
    assert dense.runtime.activations(0) == [(dense.ptr, START, 1.0)]


def test_the_shift_of_a_full_context_takes_along_what_begins_behind_it(zoo):
    """As llama-server does it: 100 cells of which 40 go, and the activation is for what comes next."""
    case = Case(zoo, "dense")
    case.runtime.deactivate(0)
    case.runtime.logits((0, prompt(4, 90), N))
    case.runtime.activate(0, case.ptr, 100)
    assert llama_cpp.llama_memory_seq_rm(case.memory, 0, 10, 50)
    llama_cpp.llama_memory_seq_add(case.memory, 0, 50, 100, -40)
    assert case.runtime.activations(0) == [(case.ptr, 60, 1.0)]
    assert llama_cpp.llama_memory_seq_pos_max(case.memory, 0) == 59
    case.runtime.close()


def test_a_shift_moves_it_where_its_cells_are_another_sequences_too(dense):
    llama_cpp.llama_memory_seq_cp(dense.memory, 0, 2, -1, -1)
    llama_cpp.llama_memory_seq_rm(dense.memory, 0, 0, 2)
    llama_cpp.llama_memory_seq_rm(dense.memory, 2, 0, 2)
    llama_cpp.llama_memory_seq_add(dense.memory, 0, 2, -1, -2)
    assert dense.runtime.activations(0) == dense.runtime.activations(2) == [(dense.ptr, START - 2, 1.0)]
    assert llama_cpp.llama_memory_seq_pos_max(dense.memory, 2) == N - 3


def test_a_shift_below_zero_ends_it(dense):
    llama_cpp.llama_memory_seq_add(dense.memory, 0, START, -1, -N)
    assert dense.runtime.activations(0) == []
    dense.goes_on(0, TOKENS[:START], None)


def test_a_division_of_all_cells_takes_along_what_is_to_come(dense):
    dense.runtime.activate(0, dense.ptr, N)
    llama_cpp.llama_memory_seq_div(dense.memory, 0, 0, N, 2)
    assert dense.runtime.activations(0) == [(dense.ptr, llama_cpp.llama_memory_seq_pos_max(dense.memory, 0) + 1, 1.0)]


def test_a_division_divides_it(dense):
    llama_cpp.llama_memory_seq_div(dense.memory, 0, 0, -1, 2)
    assert dense.runtime.activations(0) == [(dense.ptr, START // 2, 1.0)]
    llama_cpp.llama_memory_seq_div(dense.memory, 1, 0, -1, 2)
    assert dense.runtime.activations(0) == [(dense.ptr, START // 2, 1.0)]


# states


def test_a_state_loaded_over_it_ends_it(case):
    assert case.runtime.restore(0, case.runtime.save(1))
    assert case.runtime.activations(0) == []
    case.goes_on(0, TOKENS, None)


def test_a_state_loaded_over_another_sequence_keeps_it(case):
    assert case.runtime.restore(2, case.runtime.save(0))
    assert case.runtime.activations(2) == []  # a state has cells, and no adapters
    case.runtime.activate(2, case.ptr, START)
    case.goes_on(2, TOKENS, START)
    case.goes_on(0, TOKENS, START)


def test_a_whole_state_ends_all(case):
    ctx = case.runtime.ctx
    state = (ctypes.c_uint8 * llama_cpp.llama_state_get_size(ctx))()
    n = llama_cpp.llama_state_get_data(ctx, state, len(state))
    case.runtime.clear()
    case.runtime.activate(1, case.ptr, 0)
    assert llama_cpp.llama_state_set_data(ctx, state, n) == n
    assert case.runtime.activations(0) == case.runtime.activations(1) == []
    case.goes_on(1, TOKENS, None)


def test_a_session_file_ends_it(case, tmp_path):
    path = str(tmp_path / "seq.state").encode()
    assert llama_cpp.llama_state_seq_save_file(case.runtime.ctx, path, 1, None, 0)
    tokens, n = (ctypes.c_int32 * 1)(), ctypes.c_size_t()
    assert llama_cpp.llama_state_seq_load_file(case.runtime.ctx, path, 0, tokens, 1, ctypes.byref(n))
    assert case.runtime.activations(0) == []
    case.goes_on(0, TOKENS, None)


@pytest.mark.parametrize("kind", ["hybrid", "windows"])
def test_a_part_of_a_state_is_an_earlier_one_of_the_same_sequence(zoo, kind):
    """A checkpoint, as llama-server keeps them for what cannot be cut: the recurrent states, or the window."""
    case = Case(zoo, kind)
    part = case.runtime.save(0, PARTIAL)
    assert case.runtime.decode((0, NEXT, N)) == 0
    assert case.runtime.restore(0, part, PARTIAL)
    llama_cpp.llama_memory_seq_rm(case.memory, 0, N, -1)
    case.goes_on(0, TOKENS, START)
    case.runtime.close()


def test_a_part_of_a_state_before_it_ends_it(zoo):
    case = Case(zoo, "recurrent")
    case.runtime.clear()
    case.runtime.logits((0, TOKENS[:START], 0))
    part = case.runtime.save(0, PARTIAL)
    case.runtime.activate(0, case.ptr, START)
    case.runtime.logits((0, TOKENS[START:], START))
    assert case.runtime.restore(0, part, PARTIAL)
    assert case.runtime.activations(0) == []
    case.goes_on(0, TOKENS[:START], None)
    case.runtime.close()


@pytest.mark.parametrize("kept", [0, 8, 40])
def test_a_state_that_is_cut_short_leaves_what_it_does_not_touch(case, kept):
    state = case.runtime.save(1)
    assert case.runtime.restore(0, (ctypes.c_uint8 * kept).from_buffer(state)) == 0
    if llama_cpp.llama_memory_seq_pos_max(case.memory, 0) == N - 1:
        case.goes_on(0, TOKENS, START)
    else:
        assert case.runtime.activations(0) == []


def test_a_whole_state_of_another_context_that_is_refused_changes_nothing(zoo):
    case, other = Case(zoo, "dense"), Case(zoo, "dense", unified=False)
    assert case.runtime.restore_all(other.runtime.save_all()) == 0
    case.goes_on(0, TOKENS, START)
    case.runtime.close()
    other.runtime.close()


def test_a_state_of_another_architecture_changes_nothing(zoo):
    case, other = Case(zoo, "dense"), Case(zoo, "hybrid")
    state = (ctypes.c_uint8 * llama_cpp.llama_state_get_size(other.runtime.ctx))()
    n = llama_cpp.llama_state_get_data(other.runtime.ctx, state, len(state))
    assert llama_cpp.llama_state_set_data(case.runtime.ctx, state, n) == 0
    case.goes_on(0, TOKENS, START)
    case.runtime.close()
    other.runtime.close()


# failures


def test_a_decode_that_fails_leaves_it(zoo):
    case = Case(zoo, "dense", n_ctx=256)
    assert case.runtime.decode((0, prompt(3, 250), N), outputs="last") == 1  # no room
    case.goes_on(0, TOKENS, START)
    case.runtime.close()


def test_one_token_of_two_sequences_needs_equal_activations(dense):
    llama_cpp.llama_memory_seq_cp(dense.memory, 0, 2, -1, -1)
    dense.runtime.deactivate(2)
    assert dense.runtime.decode((0, [5], N), also=(2,)) < 0
    dense.goes_on(0, TOKENS, START)  # the failed token is gone again
    llama_cpp.llama_memory_seq_cp(dense.memory, 0, 3, -1, -1)
    assert dense.runtime.decode((0, [5], N + len(NEXT)), also=(3,)) == 0
    dense.goes_on(3, TOKENS + NEXT + [5], START)


# adapters and contexts


def test_freeing_the_adapter_ends_it(case):
    free(case.ptr)
    assert case.runtime.activations(0) == []
    got = case.runtime.logits((0, NEXT, N))[0]  # base weights on cells that were adapted
    with Runtime(case.zoo.base(case.kind)) as fresh:
        fresh.activate(0, case.zoo.load(fresh, case.kind, case.adapter), START)
        fresh.logits((0, TOKENS, 0))
        fresh.deactivate(0)
        assert relative_error(got, fresh.logits((0, NEXT, N))[0]) < TOLERANCE


def test_an_adapter_in_the_place_of_a_freed_one_is_its_own(dense):
    """A graph that is reused must not be the freed one's, wherever the new one lies in memory."""
    for seed in (2, 3, 4):
        free(dense.ptr)
        dense.adapter = dense.zoo.adapter("dense", seed)
        dense.ptr = dense.zoo.load(dense.runtime, "dense", dense.adapter)
        dense.runtime.clear()
        dense.runtime.activate(0, dense.ptr, 0)
        dense.goes_on(0, [], 0, TOKENS)


def test_contexts_of_one_model_share_an_adapter_and_nothing_else(dense):
    with Runtime(dense.zoo.base("dense"), model=dense.runtime.model, n_ubatch=7) as second:
        second.activate(5, dense.ptr, 2)
        assert dense.runtime.activations(5) == []
        assert relative_error(second.logits((5, TOKENS, 0))[0], dense.expected(TOKENS, 2, 0)) < TOLERANCE
        llama_cpp.llama_memory_clear(second.memory, True)
        dense.goes_on(0, TOKENS, START)
        second.activate(5, dense.ptr, 0)
        free(dense.ptr)
        assert second.activations(5) == dense.runtime.activations(0) == []


def test_an_adapter_outlives_the_context_that_loaded_it(dense):
    with Runtime(dense.zoo.base("dense"), model=dense.runtime.model) as first:
        ptr = dense.zoo.load(first, "dense", dense.adapter)
        first.activate(0, ptr, 0)
        first.logits((0, TOKENS, 0))
    dense.runtime.activate(3, ptr, 2)
    dense.goes_on(3, [], 2, TOKENS)


def test_an_adapter_outlives_its_model(dense):
    with Runtime(dense.zoo.base("dense")) as other:
        ptr = dense.zoo.load(other, "dense", dense.adapter)
    dense.runtime.activate(3, ptr, 2)
    dense.goes_on(3, [], 2, TOKENS)


def test_a_new_context_begins_with_nothing(dense):
    """Also where it lies in the memory of one that was freed."""
    for _ in range(3):
        with Runtime(dense.zoo.base("dense"), model=dense.runtime.model) as context:
            assert context.activations(0) == []
            assert relative_error(context.logits((0, TOKENS, 0))[0], dense.expected(TOKENS, None, 0)) < TOLERANCE
            context.activate(0, dense.ptr, 0)
