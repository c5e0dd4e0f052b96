"""`mmaudio weights list | fetch | verify`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from mmaudio_model.checkpoints import layout
from mmaudio_model.checkpoints.published import CLIP, FLOW, VOCODER, PublishedFile, needed_files
from mmaudio_model.cli import weights as command
from mmaudio_model.cli import weights_state
from mmaudio_model.errors import WeightsDownloadError
from mmaudio_model.variants import VARIANTS, Variant

A = PublishedFile("weights/a.pth", 5, md5=hashlib.md5(b"aaaaa").hexdigest())
B = PublishedFile("ext_weights/b.pth", 6, sha256=hashlib.sha256(b"bbbbbb").hexdigest(), licence="MIT")
CONTENTS = {A.path: b"aaaaa", B.path: b"bbbbbb"}
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command.weights, [str(argument) for argument in arguments])


def as_json(*arguments: str | Path) -> Any:
    """Return the document that a command prints, the only line on the standard output."""
    (line,) = run(*arguments, "--json").stdout.splitlines()
    return json.loads(line)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty weights folder; small_16k has two small files, the other variants have one that is missing."""

    def needed(variant: Variant) -> tuple[PublishedFile, ...]:
        if variant.bundled:
            return ()
        return (
            (A, B) if variant.name == "small_16k" else (PublishedFile("weights/missing.pth", 7_000_000_000, md5="0"),)
        )

    for module in (command, weights_state, layout):
        monkeypatch.setattr(module, "needed_files", needed)
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


@pytest.fixture
def installed(folder: Path) -> Path:
    """The folder with both files of small_16k."""
    for name, content in CONTENTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths in the order they are fetched; each gets its published content."""
    paths: list[str] = []

    def fetch(file: PublishedFile, weights_dir: Path | None, **_: object) -> Path:
        assert weights_dir is not None
        paths.append(file.path)
        path = weights_dir / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENTS[file.path])
        return path

    monkeypatch.setattr(command, "fetch_file", fetch)
    return paths


def states(weights_dir: Path) -> dict[str, str]:
    """Return the line of each variant."""
    return {line.split()[0]: line.strip() for line in run("list", "--weights", weights_dir).output.splitlines()}


def test_list_says_size_licence_and_state_of_every_variant(installed: Path) -> None:
    lines = states(installed)

    assert lines.keys() >= VARIANTS.keys()
    assert lines["small_16k"].endswith("installed")
    assert "CC-BY-NC-4.0" in lines["large_44k_v2"]
    assert "7.0 GB" in lines["large_44k_v2"]
    assert "1 file missing" in lines["large_44k_v2"]
    assert "bundled" in lines["tiny_16k"]
    assert "13 sound classes" in lines["tiny_16k"]


def empty(path: Path) -> None:
    path.write_bytes(b"")


def point(path: Path) -> None:
    path.write_bytes(POINTER)


def dangle(path: Path) -> None:
    path.unlink()
    path.symlink_to("gone")


def spoil(path: Path) -> None:
    path.write_bytes(b"other!!")


def remove(path: Path) -> None:
    path.unlink()


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (empty, "the file is empty"),
        (point, "a Git LFS pointer, not the weights"),
        (dangle, "a link to a file that does not exist"),
    ],
)
def test_list_calls_a_file_that_holds_no_weights_broken(
    installed: Path, harm: Callable[[Path], None], reason: str
) -> None:
    harm(installed / A.path)

    assert states(installed)["small_16k"].endswith(f"broken: weights/a.pth: {reason}")
    assert f"weights folder, broken: {reason}" in run("list", "--files", "--weights", installed).output
    small = as_json("list", "--weights", installed)["variants"][1]
    assert (small["variant"], small["state"], small["description"]) == (
        "small_16k",
        "broken",
        f"broken: weights/a.pth: {reason}",
    )


def test_list_calls_a_broken_part_of_a_bundled_variant_broken(installed: Path) -> None:
    flow = installed / "tiny_16k" / "flow.safetensors"
    flow.parent.mkdir()
    flow.write_bytes(b"weights")
    assert "installed: flow from the weights folder" in states(installed)["tiny_16k"]
    flow.write_bytes(POINTER)

    assert "broken: tiny_16k/flow.safetensors: a Git LFS pointer" in states(installed)["tiny_16k"]


def test_list_says_each_file_on_request(installed: Path) -> None:
    output = run("list", "--files", "--weights", installed).output

    assert "ext_weights/b.pth" in output
    assert "MIT" in output
    assert "weights folder" in output
    assert "missing" in output


def test_list_as_json_has_every_variant_with_its_files(installed: Path) -> None:
    variants = {row["variant"]: row for row in as_json("list", "--weights", installed)["variants"]}

    assert {name: row["state"] for name, row in variants.items()} == {
        **dict.fromkeys(VARIANTS, "missing"),
        "tiny_16k": "bundled",
        "small_16k": "installed",
    }
    assert variants["small_16k"]["size_bytes"] == 11
    assert variants["small_16k"]["files"][1] == {
        "file": "ext_weights/b.pth",
        "path": str(installed / "ext_weights" / "b.pth"),
        "state": "ok",
    }


@pytest.mark.parametrize("name", ["list", "verify"])
def test_a_folder_that_is_no_weights_folder_is_refused(folder: Path, name: str) -> None:
    (folder / "notes.txt").touch()
    for wrong, sentence in ((folder / "nowhere", "does not exist"), (folder, "holds no part of any variant")):
        result = run(name, "--weights", wrong)
        assert (result.exit_code, result.stdout) == (2, "")
        assert sentence in result.stderr


def test_fetch_says_the_licence_first_and_skips_what_is_installed(folder: Path, fetched: list[str]) -> None:
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "a.pth").write_bytes(b"aaaaa")
    result = run("fetch", "small_16k", "--weights", folder)

    assert result.exit_code == 0
    assert fetched == ["ext_weights/b.pth"]
    assert "weights/a.pth: already installed" in result.output
    assert "licence MIT" in result.output


def test_fetch_makes_a_new_folder(folder: Path, fetched: list[str]) -> None:
    assert run("fetch", "small_16k", "--weights", folder / "new").exit_code == 0
    assert fetched == [A.path, B.path]


@pytest.mark.parametrize(
    ("harm", "reason"),
    [(spoil, "the checksum is not the published one"), (point, "a Git LFS pointer"), (dangle, "a link to a file")],
)
def test_fetch_replaces_what_is_not_the_published_file(
    installed: Path, fetched: list[str], harm: Callable[[Path], None], reason: str
) -> None:
    harm(installed / A.path)

    assert f"because {reason}" in run("fetch", "small_16k", "--weights", installed).output
    assert fetched == [A.path]


def test_fetch_into_a_folder_inside_of_a_weights_folder_is_refused(installed: Path, fetched: list[str]) -> None:
    result = run("fetch", "small_16k", "--weights", installed / "weights")

    assert result.exit_code == 2
    assert f"Did you mean {installed}?" in result.stderr
    assert fetched == []


def test_fetch_as_json_says_what_became_of_each_file(installed: Path, fetched: list[str]) -> None:
    (installed / B.path).unlink()

    assert as_json("fetch", "small_16k", "--weights", installed)["files"] == [
        {
            "file": file.path,
            "path": str(installed / file.path),
            "state": state,
            "size_bytes": file.size_bytes,
            "licence": file.licence,
            "repository": file.repository,
        }
        for file, state in ((A, "present"), (B, "fetched"))
    ]


def test_fetch_says_what_went_wrong_in_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Path:
        raise WeightsDownloadError("The hub is gone.")

    monkeypatch.setattr(command, "fetch_file", fail)
    result = run("fetch", "small_16k", "--weights", folder)
    assert result.exit_code == 1
    assert result.output.endswith("Error: The hub is gone.\n")

    result = run("fetch", "small_16k", "--weights", folder, "--json")
    assert (result.exit_code, result.stdout) == (1, "")
    assert json.loads(result.stderr.splitlines()[-1]) == {
        "error": {"code": "weights_download", "message": "The hub is gone."}
    }


@pytest.mark.parametrize("name", ["tiny_16k", "huge"])
def test_what_is_not_published_cannot_be_fetched(name: str) -> None:
    assert run("fetch", name).exit_code == 2


def test_verify_says_size_checksum_and_path_of_files_that_are_ok(installed: Path) -> None:
    result = run("verify", "small_16k", "--weights", installed)

    assert result.exit_code == 0
    assert result.output.splitlines() == [
        f"weights/a.pth: ok, 5 bytes, md5 matches: {installed / A.path}",
        f"ext_weights/b.pth: ok, 6 bytes, sha256 matches: {installed / B.path}",
    ]


@pytest.mark.parametrize(
    ("harm", "state", "line"),
    [
        (spoil, "mismatch", "mismatch, 7 bytes (published: 5), md5 {digest} (published: {published}): {path}"),
        (empty, "empty", "empty, 0 bytes, the file is empty: {path}"),
        (point, "pointer", "pointer, 70 bytes, a Git LFS pointer, not the weights: {path}"),
        (dangle, "dangling", "dangling, a link to a file that does not exist: {path}"),
        (remove, "missing", "missing"),
    ],
)
def test_verify_says_what_it_found_instead_of_the_published_file(
    installed: Path, harm: Callable[[Path], None], state: str, line: str
) -> None:
    harm(installed / A.path)
    result = run("verify", "small_16k", "--weights", installed)

    digest = hashlib.md5(b"other!!").hexdigest()
    expected = line.format(digest=digest, published=A.md5, path=installed / A.path)
    assert result.exit_code == 1
    assert result.output.splitlines()[0] == f"weights/a.pth: {expected}"
    assert "ext_weights/b.pth: ok" in result.output
    document, other = as_json("verify", "small_16k", "--weights", installed)["files"]
    assert (document["state"], other["state"]) == (state, "ok")
    assert document["published_size_bytes"] == 5
    assert document["published_digest"] == A.md5
    assert document["digest"] == (digest if state == "mismatch" else None)
    assert document["path"] == (None if state == "missing" else str(installed / A.path))


def test_verify_without_a_variant_checks_what_is_installed(installed: Path) -> None:
    result = run("verify", "--weights", installed)

    assert result.exit_code == 0
    assert len(result.output.splitlines()) == 2


def test_verify_of_a_bundled_variant_checks_that_its_parts_are_complete(installed: Path) -> None:
    result = run("verify", "tiny_16k")

    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert len(lines) == 6
    assert all(" bytes, complete and readable (no checksum is published): /" in line for line in lines)
    document = as_json("verify", "tiny_16k")["files"][0]
    assert (document["file"], document["state"]) == ("tiny_16k/flow.safetensors", "ok")
    assert document["published_digest"] is None


@pytest.mark.parametrize("names", [["tiny_16k"], []])
@pytest.mark.parametrize(("content", "state"), [(POINTER, "pointer, 70 bytes"), (b"weights", "damaged, 7 bytes")])
def test_verify_finds_a_broken_part_of_a_bundled_variant(
    folder: Path, names: list[str], content: bytes, state: str
) -> None:
    flow = folder / "tiny_16k" / "flow.safetensors"
    flow.parent.mkdir()
    flow.write_bytes(content)
    result = run("verify", *names, "--weights", folder)

    assert result.exit_code == 1
    assert result.output.startswith(f"tiny_16k/flow.safetensors: {state}, ")
    assert len(result.output.splitlines()) == (6 if names else 1)


def test_verify_without_any_file_is_a_failure(folder: Path) -> None:
    result = run("verify", "--weights", folder)

    assert (result.exit_code, result.stdout) == (1, "")
    assert f"There is no published file in {folder} and the Hugging Face cache" in result.stderr


def test_verify_of_a_variant_refuses_a_folder_without_it(installed: Path) -> None:
    result = run("verify", "large_44k", "--weights", installed)

    assert result.exit_code == 2
    assert "holds no part of large_44k" in result.stderr


@pytest.mark.parametrize("name", [name for name, variant in VARIANTS.items() if not variant.bundled])
def test_every_published_file_has_a_size_a_checksum_a_licence_and_a_revision(name: str) -> None:
    files = needed_files(VARIANTS[name])

    assert len(files) == 5
    for file in files:
        assert file.size_bytes > 10**8
        assert len(file.sha256 or "") == 64 or len(file.md5 or "") == 32
        assert len(file.revision) == 40
        assert file.licence
    assert {FLOW[name], CLIP} < set(files)
    assert VOCODER["44k"].licence == "MIT"
