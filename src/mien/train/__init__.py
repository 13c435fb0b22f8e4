"""From labelled faces to a trained network and its model folder. The only room where Keras may be imported."""
