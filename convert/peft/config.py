"""adapter_config.json: its fields checked, and PEFT's rules for rank, scale and targets of a module.

Module names are those of the base model in transformers, such as `model.layers.0.self_attn.q_proj`.
"""

import json
import math
import re
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import ConversionError
from ...text import complaint
from .options import refusals

MAX_CONFIG = 16_000_000  # bytes
FIX = "correct adapter_config.json or save the adapter again"


@dataclass(frozen=True)
class PeftConfig:
    """What of a LoraConfig bears on the conversion.

    `invocation_tokens` and `invocation_string`, which the deprecated alora package wrote in their
    place, are None for a plain LoRA.
    """

    path: Path
    r: int
    lora_alpha: float
    use_rslora: bool = False
    rank_pattern: dict[str, int] = field(default_factory=dict)
    alpha_pattern: dict[str, float] = field(default_factory=dict)
    target_modules: list[str] | str | None = None
    exclude_modules: list[str] | str | None = None
    layers_to_transform: list[int] | None = None
    layers_pattern: list[str] | None = None
    target_parameters: list[str] = field(default_factory=list)
    lora_bias: bool = False
    use_dora: bool = False
    invocation_tokens: list[int] | None = None
    invocation_string: str | None = None
    base_model_name_or_path: str | None = None

    def rank(self, module: str) -> int:
        return _by_pattern(self.rank_pattern, module, self.r)

    def alpha(self, module: str) -> float:
        return _by_pattern(self.alpha_pattern, module, self.lora_alpha)

    def scaling(self, module: str) -> float:
        """The factor of B A in the weight's update: alpha / r, or alpha / sqrt(r) with rsLoRA."""
        r = self.rank(module)
        return self.alpha(module) / (math.sqrt(r) if self.use_rslora else r)

    def parameters_of(self, module: str) -> list[str]:
        """The parameters of `module` itself that are targeted, such as `gate_up_proj` of `...mlp.experts`."""
        names = (target.rpartition(".")[2] for target in self.target_parameters)
        return sorted({name for name in names if _named(self.target_parameters, f"{module}.{name}")})

    def targets(self, module: str) -> bool:
        """Whether PEFT would put an adapter on `module` (peft.tuners.tuners_utils.check_target_module_exists)."""
        if self.exclude_modules and _named(self.exclude_modules, module):
            return False
        if self.target_modules is None:
            return not self.target_parameters
        if self.target_modules == "all-linear":
            return True
        if isinstance(self.target_modules, str):
            return _named(self.target_modules, module)
        if module in self.target_modules:
            return True
        return _named(self.target_modules, module) and self._transforms_layer_of(module)

    def _transforms_layer_of(self, module: str) -> bool:
        if not self.layers_to_transform:
            return True
        patterns = [rf"(?:^|.*?\.){p}\.(\d+)\." for p in self.layers_pattern or []] or [r".*?\.[^.]*\.(\d+)\."]
        found = next(filter(None, (re.match(p, module) for p in patterns)), None)
        return found is not None and int(found[1]) in self.layers_to_transform


def read_config(path: Path) -> PeftConfig:
    """The config at `path`. Raises ConversionError on bad JSON, a bad value, or an option that cannot be converted."""
    fields = read_json(path)
    if "peft_type" not in fields:
        raise ConversionError(complaint(path, "option peft_type", '"LORA"', "no such field", FIX))
    for name, value, reason in refusals(fields):
        expected = '"LORA"' if name == "peft_type" else "an option that can be converted exactly"
        raise ConversionError(complaint(path, f"option {name}", expected, json.dumps(value), reason))

    check = _Checker(path, fields)
    return PeftConfig(
        path=path,
        r=check("r", 8, "a positive integer", _is_rank),
        lora_alpha=check("lora_alpha", 8, "a finite number", is_number),
        use_rslora=check("use_rslora", False, "true or false", _is_bool),
        rank_pattern=check("rank_pattern", {}, "patterns and positive integers", _is_patterns(_is_rank)),
        alpha_pattern=check("alpha_pattern", {}, "patterns and finite numbers", _is_patterns(is_number)),
        target_modules=check("target_modules", None, "module names or one pattern", _is_modules),
        exclude_modules=check("exclude_modules", None, "module names or one pattern", _is_modules),
        layers_to_transform=_as_list(check("layers_to_transform", None, "layer indices", _is_layers)),
        layers_pattern=_as_list(check("layers_pattern", None, "layer patterns", _is_layer_patterns)),
        target_parameters=check("target_parameters", [], "parameter names", _is_names),
        lora_bias=check("lora_bias", False, "true or false", _is_bool),
        use_dora=check("use_dora", False, "true or false", _is_bool),
        invocation_tokens=check("alora_invocation_tokens", None, "a non-empty list of token ids", _is_tokens),
        invocation_string=check("invocation_string", None, "a non-empty text", lambda v: isinstance(v, str) and v != ""),
        base_model_name_or_path=check("base_model_name_or_path", None, "a string", lambda v: isinstance(v, str)),
    )


def read_json(path: Path) -> dict:
    try:
        raw = path.read_bytes()
    except OSError as e:
        raise ConversionError(
            complaint(path, "file", "the adapter's config", e.strerror or e, "name the folder that PEFT's save_pretrained wrote")
        ) from None
    try:
        if len(raw) > MAX_CONFIG:
            raise ValueError(f"{len(raw)} bytes")
        fields = json.loads(raw)
    except (ValueError, RecursionError) as e:
        raise ConversionError(complaint(path, "file", "a JSON object", e, FIX)) from None
    if not isinstance(fields, dict):
        raise ConversionError(complaint(path, "file", "a JSON object", type(fields).__name__, FIX))
    return fields


class _Checker:
    def __init__(self, path: Path, fields: dict):
        self.path, self.fields = path, fields

    def __call__(self, name: str, default, expected: str, is_valid):
        """The field's value, `default` where it is missing or null."""
        value = self.fields.get(name)
        if value is None:
            return default
        if not is_valid(value):
            raise ConversionError(complaint(self.path, f"option {name}", expected, json.dumps(value), FIX))
        return value


def _by_pattern(patterns: dict, module: str, default):
    # peft.utils.other.get_pattern_key: the first pattern that matches the end of the name from a dot on
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), default)


def _named(names: list[str] | str, module: str) -> bool:
    if isinstance(names, str):
        return re.fullmatch(names, module) is not None
    return any(module == name or module.endswith(f".{name}") for name in names)


def _is_bool(value) -> bool:
    return isinstance(value, bool)


def _is_int(value) -> bool:
    return type(value) is int


def _is_rank(value) -> bool:
    return _is_int(value) and 0 < value < 2**31


def is_number(value) -> bool:
    return type(value) in (int, float) and abs(value) < 3e38  # adapter.lora.alpha is an F32


def _is_regex(value) -> bool:
    try:
        re.compile(value)
    except (re.error, TypeError, OverflowError, RecursionError):
        return False
    return isinstance(value, str)


def _is_patterns(is_valid):
    return lambda v: isinstance(v, dict) and all(_is_regex(key) and is_valid(item) for key, item in v.items())


def _is_modules(value) -> bool:
    return _is_regex(value) if isinstance(value, str) else _is_names(value)


def _is_names(value) -> bool:
    return _is_list_of(value, lambda v: isinstance(v, str))


def _is_layers(value) -> bool:
    return _is_int(value) or _is_list_of(value, _is_int)


def _is_layer_patterns(value) -> bool:
    return _is_regex(value) or _is_list_of(value, _is_regex)


def _is_tokens(value) -> bool:
    return _is_list_of(value, lambda v: _is_int(v) and 0 <= v < 2**31) and len(value) > 0


def _is_list_of(value, is_valid) -> bool:
    return isinstance(value, list) and all(map(is_valid, value))


def _as_list(value):
    return value if value is None or isinstance(value, list) else [value]
