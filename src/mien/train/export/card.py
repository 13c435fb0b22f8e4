"""CARD.md: what one should know before relying on a model, written from its metadata."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mien.errors import need
from mien.files import command_without_folders, markdown_text, plain_text, whole_folder
from mien.model.folder import (
    CARD_FILE,
    INT8_FILE,
    METADATA_FILE,
    MODEL_FILE,
    read_model_folder,
    write_metadata,
)
from mien.model.metadata import METADATA_KEY, Blend, Head, Metadata
from mien.model.preprocess import Preprocess
from mien.terminal import counted

_COLOURS = {"grey": "grey", "rgb": "colour, RGB", "bgr": "colour, BGR"}
_PURPOSE = """It names the expression that people would see in a picture of one face: for sorting
photographs, for counting in one's own experiments, for teaching, for a program that answers a smile. It
does not read feelings: a face shows what it shows, and people smile when they are sad."""
_NOT_FOR = """Do not use it to judge a person: not for hiring, teaching, policing, border control, medicine
or advertising aimed at single people, and not as a lie detector. Do not use it on people who have not
agreed to it."""
_LAW = """In the European Union, Article 5(1)(f) of the AI Act (Regulation 2024/1689) forbids systems that
infer the emotions of people at work or in schools, except for medical or safety reasons. Other uses may
count as high-risk and carry duties, among them telling the people concerned (Article 50(3)). This is a
notice, not legal advice."""
_LIMITS = """The labels are opinions of annotators about single pictures, so a perfect score is neither
possible nor wished for. Faces that differ from the training pictures, in light, angle, size, age, covering
or in how expressions are shown where people come from, will be answered worse than the figures above say,
and just as surely. One face a picture, looking roughly at the camera, cropped as described above: a looser
or tighter crop costs accuracy."""
_FAIRNESS = """The training data carries no labels of age, sex, skin tone or origin that we know of. So it
was not measured whether the network serves groups of people equally well, and nothing is claimed. Assume
that it does not, and measure on your own people before you rely on it."""
# Measured on the data itself; the reader cannot know it and it bounds what the figures mean.
_FER2013 = """About FER-2013 (Goodfellow et al. 2013, arXiv:1307.0414): its labels agree with the majority
of ten later raters (FER+, Barsoum et al. 2016, arXiv:1608.01041) on 63 % of the faces, for fear on 14 %.
280 of the 3,589 PublicTest faces are pixel-for-pixel copies of training faces, which flatters networks that
memorise. 173 of its pictures show no face at all."""

# Key of a score entry -> heading and format. The keys are those of the evaluation report.
_FIGURES = {
    "accuracy": ("Accuracy", "{:.1%}"),
    "top2": ("Top 2", "{:.1%}"),
    "balanced_accuracy": ("Balanced accuracy", "{:.1%}"),
    "macro_f1": ("Macro F1", "{:.3f}"),
    "weighted_f1": ("Weighted F1", "{:.3f}"),
    "nll": ("NLL (nats)", "{:.3f}"),
    "ece": ("ECE", "{:.3f}"),
}
_CLASS_FIGURES = ("precision", "recall", "f1")
_MOST_CONFUSED = 3  # pairs of classes that are named
_FOLDS = "ece_five_folds"


def describe(folder: Path, metadata: Metadata) -> None:
    """Write model.json and CARD.md beside the network files that lie in `folder` already."""
    write_metadata(folder, metadata)
    (folder / CARD_FILE).write_text(model_card(metadata), encoding="utf-8")


def record_scores(folder: Path, scores: Sequence[Mapping[str, Any]]) -> None:
    """Put the scores of a report into model.json and CARD.md of a model folder; model.onnx stays as it is.

    scores: entries as `Report.recorded` gives them; they replace those that training left, of which the ECE over five
    folds stays, as only training sees the answers before calibration. Apart from `export`, because that needs Keras,
    and a run that was only loaded is scored without starting it.
    """
    with whole_folder(folder) as temporary:
        for name in (MODEL_FILE, INT8_FILE):
            if (folder / name).is_file():
                shutil.copyfile(folder / name, temporary / name)
        metadata = read_model_folder(folder).metadata
        folds = {
            (score.get("head"), score.get("split")): {_FOLDS: score[_FOLDS]}
            for score in metadata.scores
            if _FOLDS in score
        }
        merged = [{**score, **folds.get((score.get("head"), score.get("split")), {})} for score in scores]
        metadata = replace(metadata, scores=tuple(merged))
        describe(temporary, metadata)


def rewrite_metadata(folder: Path, change: Callable[[Metadata, Path], Metadata]) -> Metadata:
    """Change what a model folder says of itself, its network files too; no weight changes. Return the new metadata.

    change: gets the metadata, and a copy of the folder that can be asked.
    """
    onnx = need("onnx", "train", "changing what a network says of itself")
    with whole_folder(folder) as temporary:
        shutil.copytree(folder, temporary, dirs_exist_ok=True)
        metadata = change(read_model_folder(temporary).metadata, temporary)
        for name in (MODEL_FILE, INT8_FILE):
            if (temporary / name).is_file():
                network = onnx.load(temporary / name)
                stored = {entry.key: entry.value for entry in network.metadata_props}
                onnx.helper.set_model_props(network, {**stored, METADATA_KEY: metadata.to_json()})
                onnx.save(network, temporary / name)
        describe(temporary, metadata)
    return metadata


def model_card(metadata: Metadata) -> str:
    """Return the text of CARD.md in Markdown. What the metadata do not say is left out or named as unknown."""
    sections = [
        _title(metadata),
        _section("What it is for", _PURPOSE, _NOT_FOR),
        _section("What goes in, what comes out", _input(metadata), _heads(metadata), _use(metadata)),
        _section("What it learnt from", _data(metadata)),
        _section("How good it is", *how_good(metadata)),
        _section(
            "Calibration", *(_calibration(metadata, head) for head in metadata.answers), _quality(metadata)
        ),
        _section("Where it fails", _LIMITS, _fer2013(metadata), _FAIRNESS),
        _section("How to make it again", _reproduce(metadata)),
        _section("Licences", _licences(metadata)),
        _section("The law", _LAW),
    ]
    return "\n\n".join(sections) + "\n"


def _section(title: str, *parts: str) -> str:
    return "\n\n".join([f"## {title}", *(part for part in parts if part)])


def _title(metadata: Metadata) -> str:
    network = metadata.network
    labels = markdown_text(", ".join(metadata.head().labels))
    rows = [
        ("Network", str(network.get("name", "unknown"))),
        ("Parameters", number(network.get("parameters"))),
        ("Multiply-accumulates a face", number(network.get("macs"))),
        *(
            (f"Size of {name}", _megabytes(size))
            for name, size in (
                (MODEL_FILE, network.get("bytes")),
                (INT8_FILE, network.get("int8", {}).get("bytes")),
            )
            if size
        ),
        ("Made", metadata.created or "unknown"),
    ]
    intro = (
        f"A network that looks at the picture of one face and says how likely each of "
        f"{len(metadata.head().labels)} expressions is: {labels}. This page was written by `mien export` "
        f"from `{METADATA_FILE}`, which says the same to programs."
    )
    return "\n\n".join([f"# {markdown_text(metadata.name)}", intro, table(("", ""), rows)])


def _megabytes(size: Any) -> str:
    return f"{size / 1e6:.1f} MB" if isinstance(size, int) else "unknown"


def _input(metadata: Metadata) -> str:
    how = metadata.preprocess
    return (
        f"In: face crops, {_prepared(how)}, {_COLOURS[how.colour]}, levels from 0 "
        "to 255 (the network rescales by itself, so never divide). Shrinking averages over areas, "
        f"enlarging is bilinear, the aspect ratio is not kept. The crop's side is {how.margin:g} times the "
        "longer side of the face box. `Classifier.predict` does all of this except finding the face."
    )


def _prepared(how: Preprocess) -> str:
    if how.resize in (None, how.size):
        return f"scaled to {how.size}x{how.size} pixels"
    return f"scaled to {how.resize}x{how.resize} pixels, of which the middle {how.size}x{how.size} are used"


def _heads(metadata: Metadata) -> str:
    rows = [(f"`{head.name}`", ", ".join(head.labels)) for head in metadata.answers]
    note = "Out: one distribution a head, which sums to one."
    if len(rows) > 1:
        note += f" The default is `{metadata.head().name}`."
    if metadata.blend:
        mixed = " and ".join(f"{share:.0%} `{name}`" for name, share in metadata.blend.shares.items())
        note += (
            f" `{metadata.blend.name}` is no output of the network: it mixes {mixed} (weighted mean of their "
            "probabilities, over the labels that both know)."
        )
        if metadata.blend.adjustment:
            note += (
                f" Of the share that each label has in the training pictures, {metadata.blend.adjustment:.0%} is taken "
                "out of it (logit adjustment, Menon et al. 2021, arXiv:2007.07314): rare expressions are "
                "named more often than in the training data, common ones less."
            )
    return f"{note}\n\n{table(('Head', 'Labels, in order'), rows)}"


def _use(metadata: Metadata) -> str:
    twice = ", and looks at the mirror image as well where no expression reaches one half" * metadata.mirrors
    return f"""```python
from pathlib import Path
from mien.model.classifier import Classifier

classifier = Classifier(Path("."))  # the folder of this card
probabilities = classifier.predict([crop])["{metadata.head().name}"]  # crop: (height, width, 3) uint8, RGB
```

This asks about one view of each crop. `mien.load` finds the faces of a photograph first{twice}."""


def _data(metadata: Metadata) -> str:
    data = metadata.training.get("data")
    if not isinstance(data, Mapping):
        return "The metadata do not say what this network was trained on."
    counts = {str(name): dict(one) for name, one in dict(data.get("counts", {})).items()}
    intro = f"The data set {markdown_text(str(data.get('name', 'unknown')))}"
    if data.get("fingerprint"):
        intro += f" (fingerprint `{str(data['fingerprint'])[:16]}`)"
    if not counts:
        return f"{intro}."
    if _folds(metadata):
        intro += ". Pictures by class; all of `train` was fitted, nothing was chosen on any of it but the temperature:"
    else:
        intro += ". Pictures by class and split; only `train` was fitted, choices were made on `validation`:"
    classes = list(dict.fromkeys(name for one in counts.values() for name in one))
    rows = [(name, *(number(one.get(name, 0)) for one in counts.values())) for name in classes]
    rows.append(("all", *(number(sum(one.values())) for one in counts.values())))
    told = "".join(f"\n- {markdown_text(str(note))}" for note in data.get("notes", ()))
    return f"{intro}\n\n{table(('Class', *counts), rows)}" + (f"\n\nAs it was read:\n{told}" if told else "")


def _calibration(metadata: Metadata, head: Head) -> str:
    text = f"Head `{head.name}`: "
    if head.temperature == 1.0 and not head.smoothing:
        text += "no temperature was fitted, so take its probabilities as an order, not as frequencies."
    else:
        what = "log-probabilities of the mixture" if isinstance(head, Blend) else "logits"
        text += (
            f"the {what} are divided by {head.temperature:.3f} before they are answered (temperature scaling, Guo et "
            "al. 2017, arXiv:1706.04599)"
        )
        if head.smoothing:
            text += (
                f", and the {head.smoothing:.1%} of every answer that label smoothing and mixup had spread evenly "
                "over the labels are taken out again"
            )
        where = (
            "what networks like it said of pictures that they had not seen"
            if _folds(metadata)
            else "validation"
        )
        text += f", fitted on {where}; its probabilities need no further correction."
    found = [s for s in metadata.scores if s.get("head") == head.name and s.get("ece") is not None]
    if found:
        text += f" Expected calibration error: {found[0]['ece']:.3f}"
        if folds := found[0].get("ece_five_folds"):
            text += f", {folds:.3f} over five folds, on pictures that the fit had not seen"
        text += "."
    if head.threshold:
        text += (
            f" Below a probability of {head.threshold:g} at most half of its answers were right "
            f"{'out of fold' if _folds(metadata) else 'on validation'}, so mien decides 'uncertain' there; the "
            "probabilities stay what they are."
        )
    return text


def _quality(metadata: Metadata) -> str:
    if not (quality := metadata.quality):
        return ""
    terms = [
        (quality.size, f"ln({quality.below_px:g} / pixels)", f"of less than {quality.below_px:g} pixels"),
        (
            quality.score,
            f"({quality.below_score:g} - score)",
            f"of which mien's detector is less sure than {quality.below_score:g}",
        ),
        (quality.covered, "covered", "of which something seems to hide a part (`covered`, 0 to 1)"),
    ]
    used = [(f"{number:g} * {term}", faces) for number, term, faces in terms if number]
    if not used:
        return ""
    return (
        f"Faces {', and faces '.join(faces for _, faces in used)}, are answered less surely: their logits are divided "
        f"by exp({' + '.join(term for term, _ in used)}), each term where it is above zero. A classifier that gets "
        "crops alone does not do this."
    )


def _fer2013(metadata: Metadata) -> str:
    data = metadata.training.get("data")
    return _FER2013 if isinstance(data, Mapping) and data.get("name") == "fer2013" else ""


def _reproduce(metadata: Metadata) -> str:
    training = metadata.training
    settings = training.get("settings", {})
    parts = []
    if training.get("command"):
        parts.append(f"```sh\n{plain_text(command_without_folders(str(training['command'])))}\n```")
    told = []
    if "seed" in settings:
        told.append(f"seed {settings['seed']}")
    if training.get("epochs"):
        best = f", of which epoch {training['best_epoch']} was kept" if training.get("best_epoch") else ""
        told.append(f"{counted(training['epochs'], 'epoch')}{best}")
    if seconds := training.get("seconds"):
        minutes = round(seconds / 60)
        told.append(
            f"{minutes} minutes of training"
            if minutes > 1
            else f"{counted(round(seconds), 'second')} of training"
        )
    if versions := training.get("versions"):
        told.append("with " + ", ".join(f"{name} {version}" for name, version in versions.items()))
    if told:
        parts.append(f"{'; '.join(told)[:1].upper()}{'; '.join(told)[1:]}.")
    if not parts:
        return "The metadata do not say how this network was trained."
    parts.append(
        (
            f"Every setting is in `{METADATA_FILE}`."
            if training.get("epochs")
            else f"What trained it has settings of its own; those in `{METADATA_FILE}` say how it reads and answers."
        )
        + " Another machine or other versions give a similar network, not the same numbers."
    )
    return "\n\n".join(parts)


def _licences(metadata: Metadata) -> str:
    if not metadata.licences:
        return "The metadata name no licence: ask whoever gave you this model before you pass it on."
    return "\n".join(f"- {what}: {licence}" for what, licence in metadata.licences.items())


# How good it is: figures with data set, split and number of pictures, and per class.


def how_good(metadata: Metadata) -> list[str]:
    """Return the paragraphs and tables of the section."""
    scores = [score for score in metadata.scores if score.get("n")]
    if not scores:
        return ["No score was recorded. Measure it on your own labelled faces: `mien evaluate FOLDER DATA`."]
    used = [key for key in _FIGURES if any(score.get(key) is not None for score in scores)]
    rows = [
        (
            f"{score.get('data', 'unknown')}, {score.get('split', 'unknown')}",
            f"`{score.get('head', metadata.heads[0].name)}`",
            number(score["n"]),
            *(_figure(score, key) for key in used),
        )
        for score in scores
    ]
    heading = ("Data, split", "Head", "Faces", *(_FIGURES[key][0] for key in used))
    parts = [table(heading, rows), *_caution(scores)]
    if count := _folds(metadata):
        parts.append(
            f"`out-of-fold`: each picture was answered by one of {count} networks that were trained like this one, but "
            "without that picture, its group and its copies. This network learnt from all of the pictures; it has no "
            "score of its own, and is expected to be about as good, or a little better."
        )
    for score in scores:
        parts += _details(score, metadata)
    return parts


def _folds(metadata: Metadata) -> int:
    """Return how many folds it was judged by; 0 where validation pictures were set aside."""
    settings = metadata.training.get("settings")
    count = settings.get("folds") if isinstance(settings, Mapping) else 0
    return count if isinstance(count, int) else 0


def _figure(score: Mapping[str, Any], key: str) -> str:
    if score.get(key) is None:
        return "-"
    text = _FIGURES[key][1].format(score[key])
    interval = score.get(f"{key}_interval")
    if isinstance(interval, Mapping):
        form = _FIGURES[key][1]
        text += f" ({form.format(interval['low'])} to {form.format(interval['high'])})"
    return text


def _caution(scores: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say how far the figures can be trusted: chance alone, and choices made on the same faces."""
    first = scores[0]
    parts = []
    if views := first.get("views"):
        parts.append(f"What was scored: {views}.")
    if first.get("accuracy") is not None:
        share = float(first["accuracy"])
        half = 1.96 * (share * (1 - share) / first["n"]) ** 0.5
        parts.append(
            f"With {counted(first['n'], 'face')}, chance alone moves the first accuracy by ±{100 * half:.1f} "
            "points (95 % interval, normal approximation)."
        )
    if any(score.get("split") == "validation" for score in scores):
        parts.append(
            "Figures on `validation` are a little too good: the epoch and the temperature were chosen there."
        )
    return parts


def _details(score: Mapping[str, Any], metadata: Metadata) -> list[str]:
    """Return the table per class and the confusion matrix, where the score has them."""
    head = metadata.head(score.get("head"))
    where = markdown_text(
        f"{score.get('data', 'unknown')}, {score.get('split', 'unknown')}, head {head.name}"
    )
    parts = []
    if classes := score.get("classes"):
        rows = [
            (str(one["name"]), number(one.get("support")), *(_share(one.get(key)) for key in _CLASS_FIGURES))
            for one in classes
        ]
        parts.append(f"Per class ({where}):")
        parts.append(table(("Class", "Faces", "Precision", "Recall", "F1"), rows))
    if confusion := score.get("confusion"):
        names = [str(one["name"]) for one in classes] if classes else list(head.labels)
        rows = [
            (f"**{name}**", *(number(cell) for cell in row))
            for name, row in zip(names, confusion, strict=True)
        ]
        parts.append("Which label (row) got which answer (column):")
        parts.append(table(("", *names), rows))
        parts += _most_confused(np.asarray(confusion), names)
    return parts


def _most_confused(confusion: np.ndarray[Any, Any], names: Sequence[str]) -> list[str]:
    """Name the largest shares of a class that got one wrong answer."""
    counts = confusion.sum(axis=1, keepdims=True)
    shares = np.where(np.eye(len(names), dtype=bool), 0, confusion / np.maximum(counts, 1))
    places = [
        np.unravel_index(flat, shares.shape)
        for flat in np.argsort(-shares, axis=None, kind="stable")[:_MOST_CONFUSED]
    ]
    told = [
        f"{names[a]} for {names[b]} ({shares[a, b]:.0%} of {names[a]})" for a, b in places if shares[a, b] > 0
    ]
    return [f"Most often it takes {markdown_text(', '.join(told))}."] if told else []


def _share(value: Any) -> str:
    return "-" if value is None else f"{value:.3f}"


def number(value: Any) -> str:
    """Return a count with thousands separated, or `unknown`."""
    return f"{value:,}" if isinstance(value, int | np.integer) else "unknown"


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join("| " + " | ".join(map(markdown_text, line)) + " |" for line in lines)
