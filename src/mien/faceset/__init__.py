"""Face sets: the faces of photographs and films as a folder of crops and one table, to be labelled and trained on.

Photographs, folders, films or a table of `mien predict` go in (`extract.py`); a folder with `faces.csv` comes out,
which people edit, `mien label` fills and `mien train` reads. Begin with `table.py`.
"""
