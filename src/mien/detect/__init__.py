"""Faces in pictures: where they are, how sure a detector is of each, and five landmarks.

In: a picture, (height, width, 3) uint8, RGB. Out: a `Detection` per face, the largest first. Begin with
`registry.open_detector` and the protocol in `base`, which also has what all detectors share (sizes, non-maximum
suppression) and `align`, which cuts a face out; `mien` is our own detector, `search` is how a photograph is searched.
`training` and `evaluate` make and measure detectors; nothing here imports them.
"""
