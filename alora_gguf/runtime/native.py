"""ctypes declarations of native/alora.h, and nothing else. The header says what each does."""

import ctypes

from .library import llama_cpp

OK = 0
ERROR_CONTEXT = -1
ERROR_ADAPTER = -2
ERROR_ARGUMENT = -3
ERROR_FILE = -4
ERROR_MISMATCH = -5
ERROR_MEMORY = -6


class alora_activation(ctypes.Structure):
    _fields_ = [("adapter", ctypes.c_uint64), ("start", ctypes.c_int32), ("scale", ctypes.c_float)]


def _declare(name: str, restype, *argtypes):
    function = getattr(llama_cpp._lib, name)
    function.restype = restype
    function.argtypes = argtypes
    return function


alora_kernels_name = _declare("alora_kernels_name", ctypes.c_char_p)
alora_last_error = _declare("alora_last_error", ctypes.c_char_p)
alora_adapter_load = _declare("alora_adapter_load", ctypes.c_int32, ctypes.c_void_p, ctypes.c_char_p, ctypes.POINTER(ctypes.c_uint64))
alora_adapter_free = _declare("alora_adapter_free", ctypes.c_int32, ctypes.c_uint64)
alora_adapter_size = _declare("alora_adapter_size", ctypes.c_uint64, ctypes.c_uint64)
alora_seq_activate = _declare("alora_seq_activate", ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint64, ctypes.c_int32, ctypes.c_float)
alora_seq_deactivate = _declare("alora_seq_deactivate", ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32, ctypes.c_uint64)
alora_seq_activations = _declare(
    "alora_seq_activations", ctypes.c_int32, ctypes.c_void_p, ctypes.c_int32, ctypes.POINTER(alora_activation), ctypes.c_int32
)
