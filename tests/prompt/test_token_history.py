"""Texts whose tokens are known."""

from alora_gguf.prompt.token_history import TokenHistory


def test_a_text_finds_those_that_it_begins_with():
    known = TokenHistory()
    known.remember("a", [1])
    known.remember("abc", [2])
    known.remember("b", [3])
    assert known.fitting("abcd") == [("a", [1]), ("abc", [2])]
    assert known.fitting("xabc") == []


def test_spaces_do_not_know_of_each_other():
    known = TokenHistory()
    known.remember("a", [1], "mine")
    assert known.fitting("ab", "mine") == [("a", [1])]
    assert known.fitting("ab") == known.fitting("ab", "yours") == []


def test_the_least_recently_used_go_first():
    known = TokenHistory(n_texts=2)
    known.remember("a", [1])
    known.remember("b", [2])
    known.fitting("a!")
    known.remember("c", [3])
    assert known.fitting("a!") and known.fitting("c!") and not known.fitting("b!")


def test_texts_take_no_more_room_than_they_may():
    known = TokenHistory(n_chars=100)
    for i in range(50):
        known.remember(f"{i:02}" + "x" * 20, [i])
        known.remember(f"{i:02}" + "x" * 20, [i])  # once more is no more
    texts = [f"{i:02}" + "x" * 20 for i in range(50)]
    assert [text for text in texts if known.fitting(text)] == texts[-4:]
