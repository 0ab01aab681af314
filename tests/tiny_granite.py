"""Tiny random Granites in the forms in which they and their intrinsics are published: architectures, templates, tokenizer, libraries."""

import shutil
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import published
from tiny_models import ATTENTION, SHARED_MLP, TINY_MODELS, make_model
from upstream import convert_models

OWNER = "ibm-granite"
RAG, CORE = f"{OWNER}/granitelib-rag-r1.0", f"{OWNER}/granitelib-core-r1.0"
PAD, END, START_ROLE, END_ROLE = "<|pad|>", "<|end_of_text|>", "<|start_of_role|>", "<|end_of_role|>"
CONTROL = [PAD, END, "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|filename|>", "<|reponame|>", START_ROLE, END_ROLE]
CONTROL += ["<|tool_call|>", "<|start_of_cite|>", "<|end_of_cite|>", "<|start_of_plugin|>", "<|end_of_plugin|>", "<|unk|>"]
N_VOCAB = 1024
N_WORDS = N_VOCAB - len(CONTROL)
PRE = "dbrx"  # llama.cpp's name of how Granite 4 splits words
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
ANSWERING = f"{START_ROLE}assistant{END_ROLE}"  # the generation prompt
LINEAR = "all linear modules"
ALL_BASES = ("granite-4.1-3b", "granite-4.0-micro", "granite-4.0-h-tiny")
BASES_4_0 = ALL_BASES[1:]


@dataclass(frozen=True)
class Granite:
    """A base. tiny: its like in tiny_models.TINY_MODELS. linear: all linear modules. template: as llama.cpp calls it."""

    name: str
    tiny: str
    linear: list[str]
    template: str

    @property
    def repo(self) -> str:
        """Of its GGUF files."""
        return f"{OWNER}/{self.name}-GGUF"


@dataclass(frozen=True)
class Intrinsic:
    """invocation: its text, of the folder `alora`. targets: of PEFT. alora, lora: the bases that it has such a folder for."""

    library: str
    name: str
    about: str
    io: str
    invocation: str
    targets: str | list[str]
    rank: int
    alpha: int
    alora: tuple[str, ...] = ALL_BASES
    lora: tuple[str, ...] = ALL_BASES

    @property
    def hub_name(self) -> str:
        return f"hf:{self.library}/{self.name}"


GRANITES = {
    granite.name: granite
    for granite in (
        Granite("granite-4.1-3b", "granite", [*ATTENTION, "gate_proj", "up_proj", "down_proj"], "ibm-granite-granite-4.1"),
        Granite("granite-4.0-micro", "granitemoehybrid, dense", [*ATTENTION, *SHARED_MLP], "ibm-granite-granite-4.0"),
        Granite("granite-4.0-h-tiny", "granitemoehybrid", [*ATTENTION, "in_proj", "out_proj", *SHARED_MLP], "ibm-granite-granite-4.0"),
    )
}
QKV, QKVO = ATTENTION[:3], ATTENTION
INTRINSICS = {
    intrinsic.name: intrinsic
    for intrinsic in (
        Intrinsic(RAG, "answerability", "Says whether the documents answer the question.", published.ANSWERABILITY, ANSWERING, QKV, 32, 32),
        Intrinsic(RAG, "query_rewrite", "Rewrites the last question so that it stands alone.", published.REWRITE, ANSWERING, LINEAR, 32, 64),
        Intrinsic(RAG, "query_clarification", "Asks back where a question is unclear.", published.CLARIFICATION, ANSWERING, QKVO, 16, 32),
        Intrinsic(RAG, "context_relevance", "Says whether a document bears on a question.", published.RELEVANCE, ANSWERING, QKVO, 16, 32, BASES_4_0, BASES_4_0),
        Intrinsic(RAG, "citations", "Finds the sentences that an answer rests on.", published.CITATIONS, ANSWERING, LINEAR, 16, 32, BASES_4_0),
        Intrinsic(CORE, "uncertainty", "Says how certain an answer is.", published.UNCERTAINTY, "<certainty>", LINEAR, 16, 32),
        Intrinsic(CORE, "requirement-check", "Holds an answer against a requirement.", published.REQUIREMENT, "<requirements>", LINEAR, 32, 64),
    )
}  # fmt: skip


class PublishedGranite:
    """A base in transformers' form, with upstream's GGUF of it, and its intrinsics in PEFT's: in float32."""

    def __init__(self, name: str, folder: Path):
        self.granite = GRANITES[name]
        self.folder = folder / name
        self.gguf = folder / f"{name}.gguf"

    @cached_property
    def tokenizer(self):
        from transformers import AutoTokenizer

        return AutoTokenizer.from_pretrained(self.folder)

    @cached_property
    def model(self):
        """PEFT's, with every intrinsic as `<name>-<technology>`."""
        import torch
        from peft import LoraConfig, PeftModel, get_peft_model

        model = model_of(self.granite, self.tokenizer)
        model.name_or_path = f"{OWNER}/{self.granite.name}"  # which PEFT writes down
        for name, intrinsic in INTRINSICS.items():
            for technology in self.technologies(name):
                config = LoraConfig(
                    task_type="CAUSAL_LM",
                    r=intrinsic.rank,
                    lora_alpha=intrinsic.alpha,
                    target_modules=self.granite.linear if intrinsic.targets == LINEAR else list(intrinsic.targets),
                    alora_invocation_tokens=self.invocation(name) if technology == "alora" else None,
                )
                adapter = f"{name}-{technology}"
                if isinstance(model, PeftModel):
                    model.add_adapter(adapter, config)
                else:
                    model = get_peft_model(model, config, adapter_name=adapter)
                torch.manual_seed(zlib.crc32(adapter.encode()))
                for key, parameter in model.named_parameters():
                    if f".{adapter}." in key:
                        torch.nn.init.normal_(parameter.data, std=0.05 if intrinsic.targets == LINEAR else 0.6 / len(intrinsic.targets))
                        parameter.data = parameter.data.half().float()  # it loses nothing as F16, which is the converter's default
        return model.eval()

    def technologies(self, name: str) -> list[str]:
        """The folders that the intrinsic has for this base."""
        return [technology for technology in ("alora", "lora") if self.granite.name in getattr(INTRINSICS[name], technology)]

    def invocation(self, name: str) -> list[int]:
        return self.tokenizer(INTRINSICS[name].invocation, add_special_tokens=False).input_ids

    def publish(self, root: Path) -> None:
        """Lays the base and its intrinsics out as the hub has them, each repository in a folder of `root`."""
        (repo := root / self.granite.repo).mkdir(parents=True)
        (repo / f"{self.granite.name}-Q4_K_M.gguf").symlink_to(self.gguf)  # it is called so; its weights are as they were
        (repo / "README.md").write_text(f"---\nlicense: apache-2.0\nbase_model: {OWNER}/{self.granite.name}\n---\n# {self.granite.name}-GGUF\n")
        saved = self.folder.with_name(f"{self.granite.name}-adapters")
        self.model.save_pretrained(saved, save_embedding_layers=False)  # which it looks for on the hub otherwise
        for name, intrinsic in INTRINSICS.items():
            for technology in self.technologies(name):
                folder = root / intrinsic.library / name / self.granite.name / technology
                shutil.copytree(saved / f"{name}-{technology}", folder)
                (folder / "io.yaml").write_text(intrinsic.io)
                (folder / "README.md").write_text(CARD.format(name=name, about=intrinsic.about, base=self.granite.name))


CARD = """---
license: apache-2.0
base_model: ibm-granite/{base}
library_name: peft
---

# {name}

{about}
"""


def write_granites(folder: Path, templates: Path) -> dict[str, PublishedGranite]:
    """All bases by name; templates: llama.cpp's models/templates."""
    made, jobs = {}, []
    for name, granite in GRANITES.items():
        made[name] = PublishedGranite(name, folder)
        tokenizer = make_tokenizer((templates / f"{granite.template}.jinja").read_text(encoding="utf-8"))
        tokenizer.save_pretrained(made[name].folder)
        model_of(granite, tokenizer).save_pretrained(made[name].folder)
        jobs.append({"model": str(made[name].folder), "gguf": str(made[name].gguf), "hparams": TINY_MODELS[granite.tiny].saved, "pre": PRE})
    convert_models(jobs)
    return made


def model_of(granite: Granite, tokenizer):
    """transformers' model, with the multipliers of tiny_models.GRANITE."""
    ids = {"bos_token_id": END, "eos_token_id": END, "pad_token_id": PAD}
    ids = {name: N_WORDS + CONTROL.index(token) for name, token in ids.items()}
    model = make_model(granite.tiny, vocab_size=N_VOCAB, max_position_embeddings=4096, tie_word_embeddings=True, **ids)
    space = [token for name, token in tokenizer.get_vocab().items() if not set(name) - set("ĠĊĉ")]
    first = model.get_input_embeddings().weight.data[:, 0]  # of all states alike: what random weights say is not space, where a schema lets it be
    first[:] = 0.25
    first[space] = -0.25
    return model


def make_tokenizer(template: str):
    """transformers': bytes that are joined, split as Granite 4's, with its control tokens at the end; and the template."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(SPLIT), "isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    texts = [template, *(intrinsic.io for intrinsic in INTRINSICS.values())]
    words = ["assistant", "user", "system", "<requirements>:", "<guardian>As", "<certainty>"] * 50  # that are common in what it would be trained on
    tokenizer.train_from_iterator(
        [*texts, *words], trainers.BpeTrainer(vocab_size=N_WORDS, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()), show_progress=False)
    )
    tokenizer.add_special_tokens(CONTROL)
    made = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=END, eos_token=END, pad_token=PAD, unk_token="<|unk|>")
    made.chat_template = template
    return made
