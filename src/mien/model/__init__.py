"""The model folder: what it says, how it is read and written, how a crop becomes input, how ONNX Runtime answers."""
