"""From a trained network to files that other programs use.

In: a Keras network and the metadata about it. Out: a checked model folder (`folder.export`: model.onnx, model.json,
CARD.md), its int8 form, a LiteRT file, or a `.keras` or `.h5` file that knows its labels (`keras_io`). Begin with
`folder.py`, which also says when an export counts as finished; `onnx.py` walks the network, `onnx_layers/` its layers.
"""
