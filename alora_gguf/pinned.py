"""The llama.cpp that is inside: what native/source.py builds, and llama-cpp-python's structs mirror."""

LLAMA_CPP_PYTHON = "0.3.36"
LLAMA_CPP = "0.5.0"
LLAMA_CPP_COMMIT = "0c1e57098bba43ac29e6e3b677cdceebdd22334f"  # of the llama.cpp that llama-cpp-python vendors


def inside() -> str:
    return f"llama.cpp {LLAMA_CPP} ({LLAMA_CPP_COMMIT[:12]}, of llama-cpp-python {LLAMA_CPP_PYTHON})"
