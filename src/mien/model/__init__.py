"""The model folder, the contract between training and prediction: `model.onnx`, `model.json`, `CARD.md`.

In: face crops, (height, width, 3) uint8, RGB. Out: a distribution over labels per head, by ONNX Runtime. Begin with
`classifier.Classifier`; `metadata` is what one must know to use a network, its heads above all, `preprocess` how a crop
becomes input, `calibration` and `prior` how sure it may be, `folder` how all this is read and written.
"""
