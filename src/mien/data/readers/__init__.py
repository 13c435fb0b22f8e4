"""A module for each form that labelled pictures have; each reader gives a RawDataset. `opening` chooses one."""
