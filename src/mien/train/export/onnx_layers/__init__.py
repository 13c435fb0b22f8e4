"""How each Keras layer that we know becomes ONNX nodes; a layer that is not here is refused by name."""
