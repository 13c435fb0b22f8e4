"""ONNX Runtime with the settings that suit faces: one thread, no spinning, quiet."""

from __future__ import annotations

from pathlib import Path

import onnxruntime

from mien.errors import ModelError


def open_session(network: bytes | Path, name: Path) -> onnxruntime.InferenceSession:
    """Open a network from its file or its bytes; ModelError, with its name, where ONNX Runtime cannot.

    One thread: two that spin are slower beside any other work; spread pictures over threads or processes instead.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only; they are raised as well
    # Weights in other files would be covered by no hash: from bytes ONNX Runtime looks for them in this folder, and
    # below a file there is none.
    options.add_session_config_entry(
        "session.model_external_initializers_file_folder_path", f"{name.absolute()}/-"
    )
    try:
        content = network if isinstance(network, bytes) else network.read_bytes()
        return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's errors share no base but Exception
        if "external" in str(error).lower():
            raise ModelError(
                f"{name} keeps weights in other files, which nothing checks; save the network in one file"
            ) from error
        reason = str(error).splitlines()[0].removeprefix("[ONNXRuntimeError] : ")[:200]
        raise ModelError(
            f"{name} is not a network that ONNX Runtime opens ({reason}); name another, or copy or export it again"
        ) from error
