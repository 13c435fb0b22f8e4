"""A million pictures on many machines: named pictures in, Parquet shards with a row a face out, on Ray.

`plan` lists the pictures once and cuts the list into shards; `run` gives shards to actors, writes what comes back and
goes on where a killed run was; `worker` is what an actor does; `storage` opens files, local or in a bucket. Begin with
`run.batch`.
"""
