"""`mmaudio login` and `logout`, and which key a command sends: option, environment, file."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path

import click
import httpx
import pytest
from click.testing import CliRunner, Result

from mmaudio_client import Client, InvalidKeyError
from mmaudio_client.cli import main
from mmaudio_client.cli.exit_codes import ExitCode
from mmaudio_client.stored_keys import StoredKeys, key_file, server_name
from tests.unit.mmaudio_client.command_runner import Command
from tests.unit.mmaudio_client.scripted_server import URL, ScriptedServer, job_answer, page, problem

Login = Callable[..., Result]


@pytest.fixture
def login(mmaudio: Command) -> Login:
    """`mmaudio login` with a standard input."""

    def run(typed: str, *options: str) -> Result:
        return CliRunner().invoke(main, ["login", "--api-url", URL, *options], input=typed)

    return run


def authorization(server: ScriptedServer) -> str | None:
    return server.requests[-1].headers.get("Authorization")


def refused() -> httpx.Response:
    return problem(401, "unauthorized", "The API key is not valid.")


def test_a_key_is_checked_and_stored_for_this_user_alone(
    login: Login, mmaudio: Command, server: ScriptedServer, tmp_path: Path
) -> None:
    server.answers = [page(), page()]
    result = login("mma_secret\n")
    assert result.exit_code == 0
    assert "mma_secret" not in result.output
    file = tmp_path / ".config" / "mmaudio" / "keys.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert json.loads(file.read_text()) == {"keys": {URL: "mma_secret"}}
    assert [path.name for path in file.parent.iterdir()] == ["keys.json"]
    assert authorization(server) == "Bearer mma_secret"
    mmaudio("list", "--api-url", f"{URL}/")
    assert authorization(server) == "Bearer mma_secret"


def test_a_key_that_the_server_refuses_is_not_stored(login: Login, server: ScriptedServer) -> None:
    server.answers = [refused()]
    result = login("wrong")
    assert result.exit_code == ExitCode.REFUSED
    assert "The API key is not valid." in result.stderr
    assert not key_file().exists()


def test_a_key_that_may_not_read_jobs_is_one(login: Login, server: ScriptedServer) -> None:
    server.answers = [problem(403, "insufficient_scope", "This needs the scope jobs:read.")]
    assert login("writes-only").exit_code == 0
    assert StoredKeys().get(URL) == "writes-only"


@pytest.mark.parametrize("answer", [problem(403, "host_not_allowed"), httpx.Response(200, text="<html>")])
def test_other_answers_store_nothing(login: Login, server: ScriptedServer, answer: httpx.Response) -> None:
    server.answers = [answer]
    assert login("key").exit_code in {ExitCode.REFUSED, ExitCode.UNREACHABLE}
    assert not key_file().exists()


@pytest.mark.parametrize("typed", ["", "\n", "   \n"])
def test_an_empty_key_is_wrong_use(login: Login, server: ScriptedServer, typed: str) -> None:
    result = login(typed)
    assert result.exit_code == ExitCode.USAGE
    assert "The key is empty; nothing was stored." in result.stderr
    assert server.requests == []


def test_on_a_terminal_the_key_is_asked_for_without_echo(
    login: Login, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, object] = {}

    def prompt(text: str, **options: object) -> str:
        asked.update(options, text=text)
        return "typed"

    monkeypatch.setattr("mmaudio_client.cli.login._is_terminal", lambda: True)
    monkeypatch.setattr("click.prompt", prompt)
    server.answers = [page()]
    assert login("").exit_code == 0
    assert (asked["hide_input"], asked["text"]) == (True, f"API key for {URL}")
    assert StoredKeys().get(URL) == "typed"


def test_ctrl_c_at_the_question_stores_nothing(login: Login, monkeypatch: pytest.MonkeyPatch) -> None:
    def abort(*_: object, **__: object) -> str:
        raise click.Abort

    monkeypatch.setattr("mmaudio_client.cli.login._is_terminal", lambda: True)
    monkeypatch.setattr("click.prompt", abort)
    result = login("")
    assert result.exit_code == ExitCode.INTERRUPTED
    assert "nothing was stored" in result.stderr


def test_what_endangers_the_key_is_said(login: Login, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAUDIO_API_KEY", "another")
    server.answers = [page()]
    result = login("key", "--json")
    notices = [json.loads(line)["notice"]["code"] for line in result.stderr.splitlines()]
    assert notices == ["unencrypted", "other_key"]
    assert json.loads(result.stdout) == {"api_url": URL, "stored_in": str(key_file())}


def test_the_option_goes_before_the_environment_and_that_before_the_file(
    mmaudio: Command, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    StoredKeys().set(URL, "stored")
    server.answers = [page() for _ in range(4)]
    mmaudio("list", "--api-url", URL)
    assert authorization(server) == "Bearer stored"
    monkeypatch.setenv("MMAUDIO_API_KEY", "environment")
    mmaudio("list", "--api-url", URL)
    assert authorization(server) == "Bearer environment"
    mmaudio("list", "--api-url", URL, "--api-key", "option")
    assert authorization(server) == "Bearer option"
    monkeypatch.setenv("MMAUDIO_API_KEY", "")
    mmaudio("list", "--api-url", URL)
    assert authorization(server) == "Bearer stored"


@pytest.mark.parametrize(
    "other", ["https://platform.example", "http://platform.example:81", "http://platform.example/a", "http://x.example"]
)
def test_a_stored_key_is_sent_to_no_other_server(server: ScriptedServer, other: str) -> None:
    StoredKeys().set(URL, "stored")
    server.answers = [job_answer()]
    server.client(other).get("job_1")
    assert authorization(server) is None


def test_the_python_client_uses_a_stored_key_unless_it_is_given_none(server: ScriptedServer) -> None:
    StoredKeys().set(URL, "stored")
    server.answers = [job_answer(), job_answer()]
    server.client().get("job_1")
    assert authorization(server) == "Bearer stored"
    server.client(api_key="").get("job_1")
    assert authorization(server) is None


def test_logout_removes_the_key_of_one_server(mmaudio: Command) -> None:
    StoredKeys().set(URL, "a")
    StoredKeys().set("http://other.example", "b")
    assert "Removed the key for" in mmaudio("logout", "--api-url", URL).stderr
    assert StoredKeys().get(URL) is None
    assert StoredKeys().get("http://other.example") == "b"
    assert json.loads(mmaudio("logout", "--api-url", URL, "--json").stdout) == {"api_url": URL, "removed": False}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_file_that_others_can_read_is_not_used(mode: int) -> None:
    StoredKeys().set(URL, "stored")
    key_file().chmod(mode)
    with pytest.raises(InvalidKeyError, match="chmod 600"):
        Client(URL)
    with pytest.raises(InvalidKeyError, match="chmod 600"):
        StoredKeys().set(URL, "new")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"keys": []}', '{"keys": {"a": 1}}', '{"keys": null}', "\x00"])
def test_a_file_of_another_form_says_what_to_do(mmaudio: Command, text: str) -> None:
    key_file().parent.mkdir(parents=True)
    key_file().write_text(text)
    key_file().chmod(0o600)
    result = mmaudio("list", "--api-url", URL)
    assert result.exit_code == ExitCode.USAGE
    assert "is not a file of API keys; delete it and run `mmaudio login`" in result.stderr


def test_a_folder_that_cannot_be_written_is_said(login: Login, server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / ".config").write_text("a file")
    server.answers = [page()]
    assert login("key").exit_code in {ExitCode.USAGE, ExitCode.FILES}


@pytest.mark.parametrize(
    ("folder", "path"),
    [
        ("/etc/xdg", "/etc/xdg/mmaudio/keys.json"),
        ("relative", "~/.config/mmaudio/keys.json"),
        ("", "~/.config/mmaudio/keys.json"),
    ],
)
def test_the_file_is_where_configuration_files_are(folder: str, path: str) -> None:
    assert key_file({"XDG_CONFIG_HOME": folder}) == Path(path).expanduser()


def test_one_server_has_one_name() -> None:
    assert server_name("HTTP://Platform.example:80/") == server_name("http://platform.example")
    assert server_name("http://[::1]:8000/") == "http://[::1]:8000"
    assert server_name("https://platform.example/audio/") == "https://platform.example/audio"
