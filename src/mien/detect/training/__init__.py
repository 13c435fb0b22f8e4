"""Training the face detector: photographs with boxes -> targets -> network -> detector.onnx."""
