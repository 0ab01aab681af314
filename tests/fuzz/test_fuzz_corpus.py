"""The fuzzers' corpora: what has been found and what leads far into the code, once more. `make fuzz` goes on from them."""

from pathlib import Path

import pytest
from targets import TARGETS, run

CORPUS = Path(__file__).parent / "corpus"


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_survives_its_corpus(target):
    files = sorted((CORPUS / target).iterdir())
    assert files
    for file in files:
        run(target, file.read_bytes())
