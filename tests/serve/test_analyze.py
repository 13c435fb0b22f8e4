"""POST /v1/analyze gives the numbers of Analyzer.analyze_bytes, and one line for whatever is not right."""

from __future__ import annotations

import http.client
import socket
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import mien
from mien.errors import ImageError
from mien.predict.analyzer import Analyzer, load

from .conftest import Running, Start, form, jpeg, png


def faces_of(analyzer: Analyzer, data: bytes) -> list[dict]:
    return [face.to_dict() for face in analyzer.analyze_bytes(data)]


def close_to(faces: list[dict]) -> list[dict]:
    """Numbers of another batch size differ by the rounding of float32."""
    keys = ("probability", "probabilities")
    return [{**face, **{key: pytest.approx(face[key], abs=1e-6) for key in keys}} for face in faces]


@pytest.mark.parametrize("kind", ["image/png", "image/jpeg", "application/octet-stream", ""])
def test_bytes_give_the_numbers_of_the_analyzer(server: Running, analyzer: Analyzer, kind: str) -> None:
    answer = server.analyze(jpeg(90), kind)
    assert answer.status == 200
    assert answer.json == {
        "model": "brightness",
        "head": "light",
        "labels": ["dark", "bright"],
        "pictures": [
            {
                "name": "the picture",
                "width": 64,
                "height": 48,
                "coarse": False,
                "faces": faces_of(analyzer, jpeg(90)),
                "warning": None,
            }
        ],
    }
    assert answer.json["pictures"][0]["faces"][0]["emotion"] == "dark"


def test_a_picture_so_large_that_small_faces_may_be_missed_says_so(start: Start) -> None:
    """As `mien predict` does, on stderr and in JSON. The detector `whole` misses none, so another is needed here."""
    data = jpeg(90, (2600, 300))
    with start("--detector", "mien") as server:
        assert server.analyze(data).json["pictures"][0]["coarse"] is True
        assert server.analyze(jpeg(90)).json["pictures"][0]["coarse"] is False
        assert mien.Client(f"http://localhost:{server.port}").analyze(data).coarse


def test_a_picture_that_is_written_oddly_is_answered_with_a_warning(server: Running) -> None:
    for data, warned in ((png(10)[:-12], True), (png(10), False)):  # without the part that ends a PNG
        (found,) = server.analyze(data, "image/png").json["pictures"]
        assert found["faces"][0]["emotion"] == "dark"
        assert (found["warning"] or "").startswith("the picture is written oddly (") == warned
        assert (found["warning"] is None) != warned


def test_a_form_with_several_and_one_that_cannot_be_read(server: Running, analyzer: Analyzer) -> None:
    sent = [("pictures", "ä.png", png(10)), ("pictures", "b.txt", b"text"), ("pictures", "c.png", png(250))]
    answer = server.analyze(*form(*sent))
    assert answer.status == 200
    first, second, third = answer.json["pictures"]
    assert (first["name"], third["name"]) == ("ä.png", "c.png")
    assert first["faces"] == close_to(faces_of(analyzer, png(10)))
    assert third["faces"] == close_to(faces_of(analyzer, png(250)))
    assert [face["emotion"] for face in first["faces"] + third["faces"]] == ["dark", "bright"]
    assert second["problem"]["detail"].startswith("b.txt is not a picture (it begins with 'text')")
    assert set(second) == {"name", "problem"}


def test_many_clients_each_get_their_own_answer(server: Running, analyzer: Analyzer) -> None:
    levels = range(0, 250, 5)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda level: server.analyze(png(level)), levels))
    for level, answer in zip(levels, answers, strict=True):
        assert answer.json["pictures"][0]["faces"] == close_to(faces_of(analyzer, png(level)))
    counts = server.ask("GET", "/metrics").body.decode()
    pictures, number = (
        float(counts.split(f"\nmien_batch_pictures_{what} ")[1].split("\n")[0]) for what in ("sum", "count")
    )
    assert pictures > number, "no two pictures of different clients were in one batch"


def claimed_png(width: int, height: int, body: bytes) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "data", [b"", b"no picture", jpeg(9)[:-50], png(9)[:40], claimed_png(900, 900, b"")], ids=range(5)
)
def test_an_unreadable_picture_is_told_what_the_command_says(server: Running, data: bytes) -> None:
    with pytest.raises(ImageError) as error:
        load_bytes(data)
    answer = server.analyze(data, "image/png")
    assert (answer.status, answer.line) == (422, str(error.value))


def load_bytes(data: bytes) -> None:
    from mien.images import decode_image

    decode_image(data, "the picture")


def test_a_picture_bomb_is_refused_by_its_header(server: Running) -> None:
    bomb = claimed_png(30_000, 30_000, zlib.compress(bytes(10_000_000)))
    answer = server.analyze(bomb, "image/png")
    assert answer.status == 422
    assert answer.line.startswith("the picture has 30000x30000 pixels, more than the 1 megapixels that this")


@pytest.mark.parametrize("kind", ["text/html", "application/x-www-form-urlencoded", "video/mp4", "image"])
def test_other_content_types_are_refused(server: Running, kind: str) -> None:
    answer = server.analyze(png(9), kind)
    assert answer.status == 415
    assert answer.line.startswith(f"the content type '{kind}' is not taken; send image/*,")


FILE = ("pictures", "a.png", png(9))
BAD_FORMS = {
    "cut in a file": (form(FILE)[0][:150], 400, "the form is cut off: its closing delimiter is missing"),
    "cut between files": (form(FILE, closed=False)[0], 400, "the form is cut off"),
    "empty": (b"", 400, "the form is cut off"),
    "garbage": (
        b"garbage",
        400,
        "the form cannot be read (Invalid multipart data); it takes 8 files at most",
    ),
    "no file": (
        b"--line--\r\n",
        422,
        "the form must have files named pictures and nothing else; it has: none",
    ),
    "other field": (form(("photo", "a.png", png(9)))[0], 422, "the form must have files named pictures"),
    "text": (
        b'--line\r\nContent-Disposition: form-data; name="pictures"\r\n\r\n/etc/passwd\r\n--line--\r\n',
        422,
        "the form must have files named pictures and nothing else; it has: pictures (text)",
    ),
    "one too many": (form(*[FILE] * 9)[0], 400, "the form cannot be read (Too many files."),
}


def test_a_form_for_which_the_disk_has_no_room_is_told(start: Start) -> None:
    """A file of a form that has more than a megabyte lies on the disk."""
    with start(before="ulimit -f 1000") as server:  # half a megabyte for each file
        for address, field in (("analyze", "pictures"), ("videos", "video")):
            body, kind = form((field, "large", bytes(1_500_000)))
            answer = server.ask("POST", f"/v1/{address}", body, Content_Type=kind)
            assert answer.status == 507, answer.body
            assert answer.line.startswith(
                f"cannot write a file of the form's {field}: File too large; free some space"
            )
        assert server.analyze(png(200)).status == 200
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize(("body", "status", "words"), BAD_FORMS.values(), ids=BAD_FORMS)
def test_bad_forms_are_refused(server: Running, body: bytes, status: int, words: str) -> None:
    answer = server.analyze(body, "multipart/form-data; boundary=line")
    assert (answer.status, answer.line[: len(words)]) == (status, words)


def test_a_name_cannot_break_a_line(server: Running) -> None:
    answer = server.analyze(*form(("pictures", "a\x1b[31m\u2028b" + "c" * 500, b"x")))
    assert answer.line.startswith("a�[31m�bccc")
    assert len(answer.line) < 400


def talk(server: Running, data: bytes) -> bytes:
    """Send raw bytes and read until the server hangs up."""
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(data)
        while part := connection.recv(65536):
            answer += part
    return answer


HEAD = b"POST /v1/analyze HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"


def test_a_long_body_is_refused_before_it_comes(server: Running) -> None:
    answer = talk(server, HEAD + b"Content-Length: 1000000000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"the request has more than the 2 MB that this server takes" in answer


def test_who_sends_all_before_reading_sees_why_it_was_refused(server: Running) -> None:
    """Without lingering the connection is reset while the body is still being sent."""
    for _ in range(5):
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        connection.request("POST", "/v1/analyze", bytes(16_000_000), {"Content-Type": "image/png"})
        assert connection.getresponse().status == 413
        connection.close()


def test_a_long_body_without_a_length_is_cut(server: Running) -> None:
    block = b"%x\r\n" % 500_000 + bytes(500_000) + b"\r\n"
    sent = 0
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as connection:
        connection.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        with pytest.raises(OSError):
            while sent < 400:  # 200 MB
                connection.sendall(block)
                sent += 1
    assert sent < 200, "a hundred megabytes were taken before the server hung up"


@pytest.mark.parametrize(
    ("begin", "drip"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n", b"X: y\r\n"),
        (HEAD + b"Content-Length: 1000\r\n\r\n", b"x"),
    ],
    ids=["nothing", "head", "body"],
)
def test_a_client_that_trickles_is_dropped(server: Running, begin: bytes, drip: bytes) -> None:
    """It would take hours for what it sends; the server's limit is two seconds."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=0.2) as connection:
        connection.sendall(begin)
        answer, dropped = b"", False
        for _ in range(300):  # a minute
            try:
                connection.sendall(drip)
                part = connection.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                part = b""
            if dropped := not part:
                break
            answer += part
    assert dropped
    assert (b"408" in answer[:20]) == begin.startswith(b"POST")


def test_a_request_that_ends_early_harms_nobody(server: Running) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(HEAD + b"Content-Length: 1000\r\n\r\nabc")
    assert server.analyze(png(3)).status == 200


def test_no_path_or_address_is_opened(server: Running, tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(png(9))
    for query in (f"path={picture}", f"file={picture}", f"url=file://{picture}"):
        assert server.ask("POST", f"/v1/analyze?{query}", b"").status == 422
    told = server.ask("POST", "/v1/analyze?detect_size=4000", png(9))
    assert told.status == 422 and told.line.startswith("this address takes no parameters, got detect_size;")
    for path in ("/static/../config.py", "/static/%2e%2e/config.py", f"//{picture}", f"/static/{picture}"):
        assert server.ask("GET", path).status == 404


@pytest.mark.slow
def test_more_than_the_queue_holds_is_told_to_come_back(start: Start) -> None:
    options = "--queue 4 --max-pictures 4 --max-requests 12 --batch 1"
    big = jpeg(200, (4000, 3000))  # a tenth of a second or two each
    with start(*options.split()) as small:
        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(lambda _: small.analyze(big), range(24)))
        told = [answer for answer in answers if answer.status != 200]
        assert 0 < len(told) < 24
        for answer in told:
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")
            assert answer.line.endswith("; try again in a second")
        assert small.analyze(big).status == 200, "it must recover"


@pytest.mark.slow
def test_bodies_share_a_budget_of_memory(start: Start) -> None:
    with start("--waiting-megabytes", "1") as small:
        answer = small.analyze(bytes(1_500_000))
        assert (answer.status, answer.line) == (
            503,
            "the pictures that wait fill the memory that they may have; try again in a second",
        )
        for _ in range(3):
            assert small.analyze(bytes(900_000)).status == 422, "what was taken must be given back"


@pytest.mark.slow
@pytest.mark.shared
def test_a_photograph_gives_the_numbers_of_the_analyzer(start: Start, model: Path, shared: Path) -> None:
    detector = shared / "models" / "yunet" / "face_detection_yunet_2026may.onnx"
    sample = Path(__file__).parents[2] / "src" / "mien" / "samples" / "grace-hopper.jpg"
    yunet = load(model, detector="yunet", detector_file=detector)
    with start("--detector", "yunet", "--detector-file", str(detector)) as running:
        answer = running.analyze(sample.read_bytes(), "image/jpeg")
    assert answer.json["pictures"][0]["faces"] == faces_of(yunet, sample.read_bytes())
    assert len(answer.json["pictures"][0]["faces"]) == 1
