"""Training the face finder: photographs with boxes -> targets -> network -> finder.onnx."""
