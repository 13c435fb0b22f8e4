"""Expressions in pictures, with ONNX Runtime and never Keras.

In: a path, an RGB array, bytes or a Pillow image. Out: a `Face` per face: label, probabilities, box, landmarks. Begin
with `analyzer.load` (which is `mien.load`); `analyzer.analyze_many` does thousands of pictures in bounded memory,
`results` is what comes out and what speaks against relying on it, `annotate` marks faces in a picture.
"""
