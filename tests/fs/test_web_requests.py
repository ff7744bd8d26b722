"""Who may ask the view by URL, under which conditions, and what every answer says."""

from pathlib import Path

import pytest

from tests.support.web import HOST, web_running


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "evil.example:8042"},
        {"host": "localhost"},
        {"host": "localhost:8043"},
        {"host": "localhost:8042.evil.example"},
        {"host": "127.0.0.2:8042"},
        {"host": HOST, "origin": "http://evil.example"},
        {"host": HOST, "origin": "null"},
        {"host": HOST, "origin": "http://localhost:80"},
        {"host": HOST, "origin": f"https://{HOST}"},
        {"host": HOST, "sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"},
        {"host": HOST, "sec-fetch-site": "same-site", "sec-fetch-mode": "no-cors"},
        {
            "host": HOST,
            "sec-fetch-site": "cross-site",
            "sec-fetch-mode": "navigate",
            "sec-fetch-dest": "iframe",
        },
    ],
)
async def test_pages_from_elsewhere_get_nothing(tmp_path: Path, headers: dict[str, str]) -> None:
    async with web_running(tmp_path) as web:
        reference = web.put_public(b"secret")
        for method in ("GET", "HEAD", "POST"):
            reply = await web.ask(str(reference), method, **headers)
            assert (reply.status, b"secret" in reply.body) == (403, False)
        foreign = await web.ask(f"http://evil.example{reference}")
        assert foreign.status == 403


@pytest.mark.parametrize(
    "host", ["localhost:8042", "LOCALHOST:8042", "127.0.0.1:8042", "[::1]:8042"]
)
async def test_this_machine_by_any_of_its_names_gets_it(tmp_path: Path, host: str) -> None:
    async with web_running(tmp_path) as web:
        reference = web.put_public(b"content")
        assert (await web.ask(str(reference), host=host)).body == b"content"
        assert (await web.ask(str(reference), host=host, origin=f"http://{host}")).status == 200
        assert (await web.ask(f"http://{host}{reference}?query", host=host)).status == 200


@pytest.mark.parametrize(
    "asked",
    [
        {"sec-fetch-site": "none", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"},
        {
            "sec-fetch-site": "cross-site",
            "sec-fetch-mode": "navigate",
            "sec-fetch-dest": "document",
        },
        {"sec-fetch-site": "same-origin", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "image"},
    ],
)
async def test_links_from_elsewhere_and_own_pictures_are_answered(
    tmp_path: Path, asked: dict[str, str]
) -> None:
    async with web_running(tmp_path) as web:
        reference = web.put_public(b"content")
        assert (await web.ask(str(reference), host=HOST, **asked)).body == b"content"


@pytest.mark.parametrize(
    ("name", "value", "status"),
    [
        ("if-none-match", "{}", 304),
        ("if-none-match", '"other", W/{}', 304),
        ("if-none-match", "*", 304),
        ("if-none-match", '"other"', 200),
        ("if-match", "{}", 200),
        ("if-match", '"other", {}', 200),
        ("if-match", "*", 200),
        ("if-match", '"other"', 412),
        ("if-match", "W/{}", 412),
    ],
)
async def test_conditions_are_heeded(tmp_path: Path, name: str, value: str, status: int) -> None:
    async with web_running(tmp_path) as web:
        block = web.put_public(b"content")
        bundle = web.bundle({"files": {"file": web.file(b"content")}})
        for path in (str(block), f"{bundle}/file"):
            etag = (await web.ask(path)).headers["etag"]
            for method in ("GET", "HEAD"):
                reply = await web.ask(path, method, **{name: value.format(etag)})
                assert reply.status == status
                assert (reply.body == b"content") == (status == 200 and method == "GET")


async def test_of_what_is_not_there_nobody_has_anything(tmp_path: Path) -> None:
    async with web_running(tmp_path) as web:
        path = f"/sha256/{'0' * 64}"
        assert (await web.ask(path, **{"if-none-match": "*"})).status == 404


async def test_every_answer_keeps_addresses_and_types_to_itself(tmp_path: Path) -> None:
    async with web_running(tmp_path) as web:
        reference = web.bundle({"files": {"a.html": web.file(b"<script>")}})
        for path in ("", "/", "/a.html", "/gone"):
            reply = await web.ask(f"{reference}{path}")
            assert reply.headers["referrer-policy"] == "no-referrer"
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert reply.headers["cross-origin-resource-policy"] == "same-origin"
        page = await web.ask(f"{reference}/a.html")
        policy = page.headers["content-security-policy"]
        assert policy.startswith("sandbox allow-same-origin; default-src 'self'")
        assert "allow-scripts" not in policy
