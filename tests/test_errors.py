"""An error that ends several calls is each one's own."""

import pytest

from alora_gguf import errors
from alora_gguf.errors import AloraError, copied
from alora_gguf.serve.problem import Problem

OURS = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, AloraError)]


@pytest.mark.parametrize("error", [
    *(e("what: expected this, got that") for e in OURS), Problem(504, "late", code="c", param="p", headers={"A": "b"}), KeyError("k"),
    UnicodeDecodeError("utf-8", b"\xff", 0, 1, "why"), FileNotFoundError(2, "no such file", "name"), KeyboardInterrupt(), ZeroDivisionError("by zero"),
], ids=lambda e: type(e).__name__)  # fmt: skip
def test_a_copy_says_the_same_and_has_its_own_traceback(error):
    error.more = ["something"]
    one, other = copied(error), copied(error)
    assert one is not other and one is not error
    assert type(one) is type(error) and one.args == error.args and str(one) == str(error) and one.more == error.more
    assert one.__cause__ is error
    for name in ("status", "code", "param", "headers", "errno", "filename", "reason"):
        assert getattr(one, name, None) == getattr(error, name, None)
    with pytest.raises(type(error)):
        raise one
    assert one.__traceback__ is not None and other.__traceback__ is None and error.__traceback__ is None
