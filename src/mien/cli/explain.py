"""`mien explain`: which parts of a face a network's answer hangs on, as a picture."""

from __future__ import annotations

import argparse
import json
import os
import secrets
import sys
from functools import partial
from pathlib import Path
from typing import Any

from mien.cli.inputs import add_detector_options
from mien.errors import ConfigError
from mien.explain.explain import ExplainConfig
from mien.files import plain_name, separate_paths, shell_word
from mien.images.marks import free_place, mark_for
from mien.settings import add_settings, from_options

HELP = "Show which parts of a face carried a network's answer, and whether the map can be relied on."
EXAMPLES = """examples:
  mien explain runs/faces-small photo.jpg                      a heat map over the photograph
  mien explain runs/faces-small photo.jpg --target surprise    what speaks for another label, and against it
  mien explain models/mine crop.png --detector whole --json    the picture is the face; numbers
  mien explain runs/faces-small faces --limit 20               a sheet: a row a class, mean map and examples
  mien explain runs/faces-small photo.jpg --method grad-cam    by the network's gradients (needs Keras)
"""
_FACES = 3  # of a photograph, where the user names no limit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="run, model folder, .onnx of mien or shipped model; grad-cam: also .keras, .h5",
    )
    parser.add_argument(
        "what",
        metavar="IMAGE|DATA",
        help="a picture, - for stdin; or a folder, CSV or table of labelled faces",
    )
    add_detector_options(parser, None, "auto for a picture, whole for DATA")
    parser.add_argument(
        "--to",
        type=Path,
        metavar="FILE",
        help="picture to write, or a folder for it (default: explained-NAME.png)",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the numbers as JSON; a picture is written only with --to"
    )
    add_settings(parser, ExplainConfig)


def run(options: argparse.Namespace) -> int:
    from mien.images.canvas import check_suffix

    config = from_options(ExplainConfig, options)
    mark = _mark(options, config)
    out = _out(options, mark)
    if out:
        check_suffix(out)
    explain = _explain_data if _is_data(options.what) else _explain_picture
    return explain(options, config, out, mark)


def _mark(options: argparse.Namespace, config: ExplainConfig) -> str:
    """Return what the picture says it was made of; of standard input, another picture every time, no two alike."""
    if options.what == "-":
        return secrets.token_hex(16)
    what = [os.path.realpath(path) for path in separate_paths(Path(options.what))]
    return mark_for("explain", options.model, what, options.detector, options.detector_file, config)


def _is_data(what: str) -> bool:
    from mien.data.readers.table_rows import is_table
    from mien.data.readers.unpack import is_archive

    parts = separate_paths(Path(what))
    return len(parts) > 1 or parts[0].is_dir() or is_table(parts[0]) or is_archive(parts[0])


def _out(options: argparse.Namespace, mark: str) -> Path | None:
    """Return the picture to write; under a name that nobody chose it replaces nothing but what this command wrote."""
    if options.to is None and options.json:
        return None
    name = "stdin" if options.what == "-" else plain_name(Path(options.what))
    default = f"explained-{name}.png"
    to = Path(options.to or ".")
    return free_place(to / default, mark) if to.is_dir() or not to.suffix else to


def _explain_picture(options: argparse.Namespace, config: ExplainConfig, out: Path | None, mark: str) -> int:
    from mien.cli.inputs import find_sources, refuse_foreign, refuse_over
    from mien.explain.explain import explain_face, inverse_transform, open_explainer
    from mien.explain.render import caption, draw_explanation, in_words
    from mien.images import decode
    from mien.images.canvas import write_picture

    if config.split:
        raise ConfigError(f"--split is for DATA, and {options.what} is a picture; leave it out")
    named = find_sources([options.what])
    sources, problems = named.sources, named.problems
    if len(sources) != 1:
        raise ConfigError(
            problems[0] if problems else f"{options.what} names {len(sources)} pictures; name one"
        )
    if out:
        refuse_over("--to", out, [sources[0].path])
        refuse_foreign("--to", out)
    decoded = decode(sources[0].content(), sources[0].title)
    image = decoded.pixels
    if decoded.warning:
        print(f"mien: {decoded.warning}", file=sys.stderr)
    analyzer, explainer = open_explainer(
        options.model, config, detector=options.detector or "auto", detector_file=options.detector_file
    )
    found = analyzer.detect(image)
    if not found:
        print(
            f"mien: no face found in {sources[0].title}; if the picture is a face already, use --detector whole",
            file=sys.stderr,
        )
        return 1
    faces = found[: config.limit or _FACES]
    maps = [explain_face(analyzer, explainer, image, face, config.target) for face in faces]
    if out:
        shown = None if faces[0].whole else image
        places = [inverse_transform(analyzer, image, face) for face in faces]
        write_picture(out, draw_explanation(shown, maps, places), mark)
    if options.json:
        entries = [
            {"box": list(face.box), **saliency.to_dict()} for face, saliency in zip(faces, maps, strict=True)
        ]
        _print_json({"picture": options.what, "found": len(found), "faces": entries})
        return 0
    for number, saliency in enumerate(maps, 1):
        print(f"face {number}   {caption(saliency)}   [{saliency.head}]")
        print(f"         {in_words(saliency.faithfulness, saliency.label, saliency.probability)}")
    if len(found) > len(faces):
        print(f"note     {len(found)} faces were found; --limit {len(found)} explains them all")
    print(f"picture  {out}")
    return 0


def _explain_data(options: argparse.Namespace, config: ExplainConfig, out: Path | None, mark: str) -> int:
    from mien.cli.inputs import refuse_among, refuse_foreign
    from mien.explain.explain import explain_classes, open_explainer, open_split
    from mien.explain.render import class_in_words, draw_classes
    from mien.images.canvas import write_picture
    from mien.terminal import ProgressBar
    from mien.train.start import recorded_metadata

    if out:
        refuse_among("--to", out, separate_paths(Path(options.what)))
        refuse_foreign("--to", out)
    known = recorded_metadata(options.model)
    dataset, split = open_split(Path(options.what), config, known.training if known else {})
    usual = "auto" if known and known.face_detector else "whole"
    analyzer, explainer = open_explainer(
        options.model,
        config,
        detector=options.detector or usual,
        detector_file=options.detector_file,
        classes=dataset.classes,
    )
    bar = ProgressBar()
    try:
        classes, notes = explain_classes(
            dataset,
            split,
            analyzer,
            explainer,
            config=config,
            progress=partial(bar.stage, "explaining faces"),
        )
    finally:
        bar.end()
    for note in notes:
        print(f"mien: {note}", file=sys.stderr)
    if out:
        title = f"{dataset.name}, {split}: what {analyzer.metadata.name} goes by"
        write_picture(out, draw_classes(classes, title), mark)
    if options.json:
        _print_json({"data": options.what, "split": split, "classes": [one.to_dict() for one in classes]})
        return 0
    for one in classes:
        print(class_in_words(one))
    print(f"sheet    {out}")
    print(f"next     mien explain {shell_word(options.model)} PHOTO.jpg    one picture, in more detail")
    return 0


def _print_json(value: dict[str, Any]) -> None:
    print(json.dumps(value, indent=2, ensure_ascii=False))
