"""What this is, and the llama.cpp that is inside. native/source.py, the Makefile and the wheel's metadata read it here."""

VERSION = "0.1.0"
CONVERTER = 2  # one more whenever the converter makes another file of the same folder: what was kept is made again

# llama-cpp-python, whose source distribution has the llama.cpp that native/source.py builds, and whose structs mirror it
LLAMA_CPP_PYTHON = "0.3.36"
LLAMA_CPP_PYTHON_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
LLAMA_CPP = "0.5.0"
LLAMA_CPP_COMMIT = "0c1e57098bba43ac29e6e3b677cdceebdd22334f"


def inside() -> str:
    return f"llama.cpp {LLAMA_CPP} ({LLAMA_CPP_COMMIT[:12]}, of llama-cpp-python {LLAMA_CPP_PYTHON})"
