"""Expressions in pictures, with ONNX Runtime and never Keras.

In: a path, an RGB array, bytes or a Pillow image. Out: a `Face` per face: label, probabilities, box, landmarks. Begin
with `analyzer.load` (which is `mien.load`); `results` is what comes out, `batch` does thousands of pictures in bounded
memory, `quality` says what speaks against an answer, `annotate` marks faces in a picture.
"""
