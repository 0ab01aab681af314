"""Upstream's own converter, from the pinned source distribution: Hugging Face folders to base GGUFs.

Run as a script it is the child process: upstream brings a `gguf` package of its own.
"""

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from filelock import FileLock

REPO = Path(__file__).resolve().parent.parent
NEEDED = ("convert_lora_to_gguf.py", "conversion/", "gguf-py/gguf/", "src/")


def upstream_source() -> Path:
    """The folder with what the tests need of the pinned llama.cpp, pristine. Kept from run to run."""
    sys.path.insert(0, str(REPO / "native"))
    import source

    out = REPO / "build" / "tests" / "upstream"
    out.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{out}.lock"):  # of the other workers
        return out if out.exists() else _unpack(source.download(REPO / "build" / "native"), out)


def _unpack(archive: Path, out: Path) -> Path:
    prefix = f"{archive.name.removesuffix('.tar.gz')}/vendor/llama.cpp/"
    part = out.with_suffix(".part")
    with tarfile.open(archive) as tar:
        for member in tar:
            name = member.name.removeprefix(prefix)
            if member.isfile() and name != member.name and name.startswith(NEEDED):
                path = part / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(tar.extractfile(member).read())
    return part.replace(out)


def convert_models(jobs: list[dict]) -> None:
    """Converts folders as upstream does, in one child process.

    A job: `model`, a folder of save_pretrained; `gguf`, the outfile; `hparams`, what replaces values of
    config.json; and options of upstream's converter (fuse_qkv, fuse_gate_up_exps). Tokens are those of tiny_vocabulary(): upstream knows
    tokenizers by the hash of what they do, and a made-up one has none. With `pre`, llama.cpp's name of how text is split into words, they
    are those of the folder's tokenizer, a byte-level BPE.
    """
    folder = upstream_source()
    done = subprocess.run(
        [sys.executable, __file__, str(folder)], input=json.dumps(jobs), capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-4000:]


def tiny_vocabulary(n_vocab: int) -> tuple[list[bytes], list[int]]:
    """Tokens and their types: four special ones, all bytes, then words."""
    tokens = [
        b"<unk>",
        b"<s>",
        b"</s>",
        b"<|endoftext|>",
        *(f"<0x{i:02X}>".encode() for i in range(256)),
        *(f"\u2581w{i}".encode() for i in range(n_vocab - 260)),
    ]
    return tokens, [2, 3, 3, 3, *[6] * 256, *[1] * (n_vocab - 260)]


def _child(folder: str) -> None:
    sys.path[:0] = [folder, str(Path(folder) / "gguf-py")]
    import gguf
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class

    def set_vocab(self):
        n_vocab = self.hparams["vocab_size"]
        tokens, types = tiny_vocabulary(n_vocab)
        self.gguf_writer.add_tokenizer_model("llama")
        self.gguf_writer.add_token_list(tokens)
        self.gguf_writer.add_token_scores([0.0] * n_vocab)
        self.gguf_writer.add_token_types(types)

    for job in json.load(sys.stdin):
        model, out = Path(job.pop("model")), Path(job.pop("gguf"))
        hparams = ModelBase.load_hparams(model, False) | job.pop("hparams")
        pre = job.pop("pre", None)
        cls = get_model_class(get_model_architecture(hparams, ModelType.TEXT))
        ours = {"set_vocab": set_vocab} if pre is None else {"set_vocab": cls._set_vocab_gpt2, "get_vocab_base_pre": lambda self, _, pre=pre: pre}
        type(cls.__name__, (cls,), {"model_arch": cls.model_arch, **ours})(model, gguf.LlamaFileType.ALL_F32, out, hparams=hparams, **job).write()


if __name__ == "__main__":
    _child(sys.argv[1])
