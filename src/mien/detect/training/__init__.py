"""Training the face detector.

In: photographs with face boxes and landmarks (`photos`) and a `DetectorConfig`. Out: a run folder with a detector's
folder in it (`export`). Begin with `run.train_detector`; `sampler` cuts crops, which `augment` varies, and says what
each cell of the `network` should answer, which lies with its loss and its loop.
"""
