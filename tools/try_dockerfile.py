"""Follow the steps of the Dockerfile in a folder and a fresh virtual environment, where no container engine is at hand.

    python tools/try_dockerfile.py [OPTION …]

The options take the place of CMD, as behind the name of the image in `docker run`.
Copies only what COPY names, runs what RUN says, starts ENTRYPOINT with CMD and asks HEALTHCHECK until it answers; then
sends STOPSIGNAL and looks at the exit code. Root of the image is a temporary folder: absolute paths in COPY, WORKDIR
and the arguments of RUN are taken to be inside. Not tried: the base image, USER (needs root) and EXPOSE. Returns 1 when
a step fails.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import venv
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NOT_TRIED = ("FROM", "USER", "EXPOSE")
STARTS_S = 120.0


@dataclass
class Image:
    """What an image would be. root: where its / lies. python: its virtual environment."""

    root: Path
    python: Path
    place: Path
    variables: dict[str, str] = field(default_factory=dict)
    steps: dict[str, list[str]] = field(default_factory=dict)  # ENTRYPOINT, CMD, HEALTHCHECK, STOPSIGNAL
    user: str = ""

    @property
    def environment(self) -> dict[str, str]:
        path = f"{self.python / 'bin'}{os.pathsep}{os.environ['PATH']}"
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "VIRTUAL_ENV"))
        }
        return {**kept, **self.variables, "PATH": path, "TMPDIR": str(self.root / "tmp")}

    def inside(self, path: str) -> Path:
        """Return where a path of the image lies."""
        return self.root / path.lstrip("/") if path.startswith("/") else self.place / path


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile in order: a word, and the rest of the line."""
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    found = [line.split(None, 1) for line in lines if line.strip() and not line.lstrip().startswith("#")]
    return [(word.upper(), rest) for word, rest in found]


def follow(image: Image, word: str, rest: str) -> None:
    """Carry out one instruction. Raises ValueError for one that is not known here."""
    if word == "ENV":
        image.variables |= dict(pair.split("=", 1) for pair in rest.split())
    elif word == "WORKDIR":
        image.place = image.inside(rest)
        image.place.mkdir(parents=True, exist_ok=True)
    elif word == "COPY":
        *sources, target = json.loads(rest)
        for source in sources:
            _copy(ROOT / source, image.inside(target), is_folder=target.endswith("/"))
    elif word == "RUN":
        command = [str(image.inside(part)) if part.startswith("/") else part for part in json.loads(rest)]
        subprocess.run(command, cwd=image.place, env=image.environment, check=True)
    elif word in ("ENTRYPOINT", "CMD", "STOPSIGNAL"):
        image.steps[word] = json.loads(rest) if rest.startswith("[") else [rest]
    elif word == "HEALTHCHECK":
        image.steps[word] = json.loads(rest[rest.index("CMD") + 3 :])
    elif word == "USER":
        image.user = rest
    elif word not in NOT_TRIED:
        raise ValueError(f"Dockerfile: {word} is not known to {Path(__file__).name}; teach it, or do without")


def _copy(source: Path, target: Path, *, is_folder: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    else:
        shutil.copy(source, target / source.name if is_folder else target)


def try_it(image: Image) -> None:
    """Start the image's command, wait until it is healthy, stop it. Raises AssertionError or CalledProcessError."""
    assert image.user.partition(":")[0] not in ("", "0", "root"), (
        "the Dockerfile must choose a user who is not root"
    )
    command = [*image.steps["ENTRYPOINT"], *image.steps["CMD"]]
    process = subprocess.Popen(command, cwd=image.place, env=image.environment)
    try:
        ends = time.monotonic() + STARTS_S
        while True:
            done = subprocess.run(
                image.steps["HEALTHCHECK"],
                cwd=image.place,
                env=image.environment,
                capture_output=True,
                check=False,
            )
            if done.returncode == 0:
                break
            assert process.poll() is None, f"it ended with {process.returncode}"
            assert time.monotonic() < ends, f"not healthy after {STARTS_S:g} s: {done.stderr.decode()[-300:]}"
            time.sleep(0.2)
        process.send_signal(signal.Signals[image.steps["STOPSIGNAL"][0]])
        assert process.wait(60) == 0, (
            f"it ended with {process.returncode} after {image.steps['STOPSIGNAL'][0]}"
        )
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    left = list((image.root / "tmp").iterdir())
    assert not left, f"temporary files are left: {left}"


def main(options: list[str]) -> int:
    """Return 0 if every step worked."""
    if options[:1] in (["-h"], ["--help"]):  # others are the server's
        print(__doc__)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "image"
        (root / "tmp").mkdir(parents=True)
        python = Path(folder) / "python"
        venv.create(python, with_pip=True)
        image = Image(root, python, root)
        try:
            for word, rest in instructions((ROOT / "Dockerfile").read_text(encoding="utf-8")):
                print(f"--- {word} {rest}", flush=True)
                follow(image, word, rest)
            print("--- start, ask for its health, stop", flush=True)
            if options:
                image.steps["CMD"] = list(options)
            try_it(image)
        except (AssertionError, ValueError, OSError, subprocess.SubprocessError) as error:
            print(f"failed: {error}", file=sys.stderr)
            return 1
    print("every step works")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
