"""A module for each form that labelled pictures have.

In: a path that `forms` has recognised, and a `DataConfig`. Out: what was found there, labelled files with notes, or a
`RawDataset`. Begin with `folders` (a folder a class) and `tables` (paths and labels; `table_rows`: in CSV, JSON,
Parquet, Excel; `table_paths`: where the paths lead); `boxes` reads what was labelled for detectors; `fer2013` and
`public` know data sets as they are published, `unpack` archives, `words` the names of parts and columns.
"""
