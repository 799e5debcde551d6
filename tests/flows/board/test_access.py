"""Who may see the board: nobody without the token but on loopback, and no page of another site may act in it."""

from pathlib import Path

import pytest
from starlette.datastructures import URL
from starlette.requests import Request
from starlette.testclient import TestClient

from asdcore.errors import AsdError
from asdcore.storage.home import Home
from flows.board.app import application
from flows.board.server import TOKEN, access_token
from tasks.board import Records

SECRET = "a token that nobody guesses"
LABEL = f"/recordings/{'0' * 64}/label"


def board(folder: Path, token: str | None = None, address: str = "http://127.0.0.1:5080") -> TestClient:
    return TestClient(application(Records(Home.at(folder)), token), base_url=address, follow_redirects=False)


@pytest.mark.parametrize("address", ["http://127.0.0.1:5080", "http://localhost:5080", "http://[::1]:5080"])
def test_on_loopback_no_token_is_needed(tmp_path: Path, address: str) -> None:
    assert board(tmp_path, address=address).get("/").status_code == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:5080", "a b", ""])
def test_another_name_for_loopback_gets_nothing_without_a_token(tmp_path: Path, host: str) -> None:
    answer = board(tmp_path).get("/", headers={"host": host})
    assert answer.status_code == 403 and "Machines</h1>" not in answer.text


@pytest.mark.parametrize("path", ["/", "/machines/pump", "/incidents", "/nowhere"])
def test_with_a_token_nothing_is_seen_without_it(tmp_path: Path, path: str) -> None:
    answer = board(tmp_path, SECRET).get(path)
    assert answer.status_code == 401
    assert "Access token" in answer.text and str(tmp_path) not in answer.text


@pytest.mark.parametrize("host", ["127.0.0.1/board.css?", "127.0.0.1/sign-in#", "127.0.0.1/sign-in?a="])
def test_with_a_token_the_host_header_names_no_page_that_is_open_to_all(
    tmp_path: Path, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As Starlette 0.46 makes it; newer versions do not take such a header.
    monkeypatch.setattr(
        Request, "url", property(lambda self: URL(f"http://{self.headers['host']}{self.scope['path']}"))
    )
    answer = board(tmp_path, SECRET).get("/incidents", headers={"host": host})
    assert answer.status_code == 401 and "Access token" in answer.text


def test_the_address_that_was_printed_signs_in_with_a_cookie_that_scripts_and_other_sites_do_not_get(
    tmp_path: Path,
) -> None:
    client = board(tmp_path, SECRET, "http://plant.example:5080")
    answer = client.get("/incidents", params={"token": SECRET})
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    assert 'content="0;url=/incidents"' in answer.text and SECRET not in answer.text
    assert client.get("/").status_code == 200


def test_after_signing_in_nobody_is_led_to_another_site(tmp_path: Path) -> None:
    for path in ("//evil.example", "/\\evil.example", "///evil.example/"):
        answer = board(tmp_path, SECRET).get(f"http://127.0.0.1:5080{path}", params={"token": SECRET})
        assert "url=/evil.example" in answer.text


def test_the_form_signs_in_and_a_wrong_token_does_not(tmp_path: Path) -> None:
    client = board(tmp_path, SECRET)
    here = {"origin": "http://127.0.0.1:5080"}
    assert client.post("/sign-in", data={"token": "wrong"}, headers=here).status_code == 401
    assert client.get("/").status_code == 401
    assert client.post("/sign-in", data={"token": SECRET}, headers=here).status_code == 200
    assert client.get("/").status_code == 200


def test_a_wrong_cookie_is_no_token(tmp_path: Path) -> None:
    client = board(tmp_path, SECRET)
    for value in ("", "wrong", SECRET[:-1], SECRET + "x"):
        client.cookies.set("asd_board", value)
        assert client.get("/").status_code == 401


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://127.0.0.1:5080"},
        {"sec-fetch-site": "none"},
        {"origin": "http://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "null"},
        {"origin": "http://["},
    ],
)
@pytest.mark.parametrize("path", [LABEL, "/incidents/12345678/close", "/sign-in"])
def test_what_changes_something_has_to_come_from_a_page_of_the_board(
    tmp_path: Path, path: str, headers: dict[str, str]
) -> None:
    answer = board(tmp_path).post(path, data={"label": "normal"}, headers=headers)
    assert answer.status_code == 403 and "Nothing was changed" in answer.text


@pytest.mark.parametrize("headers", [{"sec-fetch-site": "same-origin"}, {"origin": "http://127.0.0.1:5080"}])
def test_a_page_of_the_board_is_heard(tmp_path: Path, headers: dict[str, str]) -> None:
    assert board(tmp_path).post(LABEL, data={"label": "normal"}, headers=headers).status_code == 404


def test_reading_an_address_changes_nothing(tmp_path: Path) -> None:
    assert board(tmp_path).get(LABEL, params={"label": "normal"}).status_code == 405


def test_every_answer_forbids_frames_scripts_and_guessing_what_it_is(tmp_path: Path) -> None:
    for client in (board(tmp_path), board(tmp_path, SECRET), board(tmp_path, address="http://evil.example")):
        headers = client.get("/").headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")


def test_a_token_is_made_unless_there_is_one_or_none_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(TOKEN, raising=False)
    assert access_token("127.0.0.1") is None
    made = {access_token("0.0.0.0") for _ in range(10)}
    assert len(made) == 10 and all(len(token or "") >= 20 for token in made)
    monkeypatch.setenv(TOKEN, SECRET)
    assert access_token("0.0.0.0") == access_token("127.0.0.1") == SECRET
    monkeypatch.setenv(TOKEN, "short")
    with pytest.raises(AsdError, match=r"ASD_BOARD_TOKEN has 5 characters"):
        access_token("127.0.0.1")
