"""A base model with every weight in float32, to compute with exactly what its quantised weights stand for."""

from pathlib import Path

import gguf
import numpy as np


def dequantize(source: Path, out: Path) -> None:
    """Writes the model at `source` again with every tensor in float32."""
    reader = gguf.GGUFReader(source)
    arch = reader.fields["general.architecture"].contents()
    part = out.with_suffix(".part")
    writer = gguf.GGUFWriter(part, arch)
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue
        kind = field.types[0]
        writer.add_key_value(field.name, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    for tensor in reader.tensors:
        data = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        writer.add_tensor(tensor.name, data.reshape([int(n) for n in reversed(tensor.shape)]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.replace(out)
