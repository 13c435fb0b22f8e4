"""The model folder, the contract between training and prediction: `model.onnx`, `model.json`, `CARD.md`.

In: face crops, (height, width, 3) uint8, RGB. Out: a distribution over labels per head, by ONNX Runtime. Begin with
`classifier.Classifier`; `metadata` is the folder and what one must know to use its network, `preprocess` how a crop
becomes input, `calibration` how sure an answer may be, `linear_head` a last layer that is fitted by itself.
"""
