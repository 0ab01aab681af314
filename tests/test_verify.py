"""alora verify on a quantised base: exact where the file is right, and never passed by an adapter that is not."""

import json
import shutil

from alora_gguf.convert import convert
from alora_gguf.verify.parity import Compared, Verification, verify


def test_a_quantised_base_is_no_excuse(repo, base_q4, tmp_path):
    folder = shutil.copytree(repo / "tests" / "adapters" / "answerability", tmp_path / "answerability")
    convert(folder, tmp_path / "right.gguf", base=base_q4, outtype="f32")
    done = verify(folder, tmp_path / "right.gguf", base_q4)
    assert done.passed and done.limit == 2e-5
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**config, "lora_alpha": 17}))
    assert not verify(folder, tmp_path / "right.gguf", base_q4).passed


def test_an_effect_that_the_bases_error_hides_is_not_passed():
    hidden = Verification([Compared(0, error=0.1, base_error=0.1, effect=0.15)], tolerance=2e-5)
    assert not hidden.is_conclusive and not hidden.passed
    seen = Verification([Compared(0, error=1e-4, base_error=1e-4, effect=0.15)], tolerance=2e-5)
    assert seen.passed
