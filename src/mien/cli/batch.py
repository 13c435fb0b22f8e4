"""`mien batch`: a million pictures, and videos, on one machine or a Ray cluster; goes on after any stop."""

from __future__ import annotations

import argparse
import os
import sys

from mien.batch.config import BatchConfig
from mien.cli.inputs import SEARCH, add_network_options, add_search_options, adopted_model, loading_options
from mien.settings import add_settings, from_options
from mien.terminal import counted

HELP = "Recognise a very large number of pictures on one or many machines, into Parquet, and go on after any stop."
EXAMPLES = """examples:
  mien batch photos --to answers                 every picture below a folder, on all processors
  mien batch "photos/*.tar" --to answers         WebDataset: pictures in tar files
  mien batch list.csv --to answers               a table with a column of paths
  mien batch faces.parquet --to answers          or of the bytes of pictures
  mien batch s3://bucket/photos --to s3://bucket/answers   buckets: s3://, gs://, abfs://
  mien batch films --to answers                  videos as well: every face followed, as mien video does
  mien batch photos --to answers --address auto  on the Ray cluster that this machine belongs to
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources",
        nargs="+",
        metavar="SOURCE",
        help="folder (with all below it), picture, video, glob, table (.csv, .parquet), tar file, or an address of one",
    )
    parser.add_argument(
        "--to",
        required=True,
        metavar="DIR",
        help="folder or address (s3://…) for the shards, summary.json and failures.csv; the same command goes on with "
        "what is there",
    )
    add_settings(parser, BatchConfig)
    add_network_options(parser)
    add_search_options(parser)


def run(options: argparse.Namespace) -> int:
    from mien.batch.run import SUMMARY, batch
    from mien.images.listing import passed_over_note
    from mien.terminal import clock

    config = from_options(BatchConfig, options)
    loading = loading_options(options, search=SEARCH)
    done = batch(options.sources, options.to, config, model=adopted_model(options), **loading)
    for line in (*done.listed.problems, *filter(None, [passed_over_note(done.listed.passed_over)])):
        print(f"mien: {line}", file=sys.stderr)
    counts = done.counts
    pace = (
        f" in {clock(done.took_s)}, {done.answered / max(done.took_s, 1e-9):,.1f}/s" if done.answered else ""
    )
    before = counts["pictures"] - done.answered
    if done.went_on and not all(map(os.path.isfile, options.sources)):
        print(
            f"mien: the pictures are those that were there when {done.folder} was begun; for what was added since, "
            "name another folder with --to",
            file=sys.stderr,
        )
    films = f"{counted(counts['videos'], 'video')} ({done.videos:,} now), " if counts["videos"] else ""
    print(
        f"{done.folder}: {counted(counts['pictures'], 'picture')}, {counted(counts['faces'], 'face')}, {films}"
        f"{counts['failed']:,} failed; "
        f"{done.answered:,} now{pace}{f', {before:,} before' if before else ''}; see {done.folder.path(SUMMARY)}"
    )
    return 1 if counts["failed"] or done.listed.problems else 0
