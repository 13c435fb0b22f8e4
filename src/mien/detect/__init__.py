"""From pictures to faces: detectors, their pyramid and suppression, and cutting faces out; training, evaluation."""
