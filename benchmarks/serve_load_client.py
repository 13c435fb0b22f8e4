"""What one client of benchmarks/serve_load.py does, for Locust: send the same small picture again and again."""

from __future__ import annotations

import os
from pathlib import Path

from locust import FastHttpUser, task

PICTURE = "MIEN_LOAD_PICTURE"  # names the file


class Client(FastHttpUser):  # type: ignore[misc]
    """Asks again as soon as it has its answer."""

    picture = Path(os.environ[PICTURE]).read_bytes()

    @task  # type: ignore[untyped-decorator]
    def analyze(self) -> None:
        headers = {"Content-Type": "image/jpeg"}
        with self.client.post(
            "/v1/analyze", data=self.picture, headers=headers, catch_response=True
        ) as answer:
            if answer.status_code != 200 or b'"faces"' not in (answer.content or b""):
                answer.failure(f"{answer.status_code} {(answer.content or b'')[:200]!r}")
