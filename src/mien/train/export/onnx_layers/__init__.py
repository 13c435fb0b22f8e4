"""How each Keras layer that we know becomes ONNX nodes; a layer that is not here is refused by name.

In: a `Graph` (`graph.py`), a Keras layer and its input `Value`s. Out: the layer's `Value`, and nodes and weights in the
graph. Begin with `LAYERS` at the end of each module, which names the layers that it translates.
"""
