"""`mmaudio weights list|fetch|verify`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mmaudio_model.checkpoints.files import CLIP, FLOW, VOCODER, PublishedFile, needed_files
from mmaudio_model.cli import weights as command
from mmaudio_model.errors import WeightsDownloadError
from mmaudio_model.variants import VARIANTS, Variant

FILES = {
    "small_16k": [
        PublishedFile("weights/a.pth", 5, md5=hashlib.md5(b"aaaaa").hexdigest()),
        PublishedFile("ext_weights/b.pth", 6, sha256=hashlib.sha256(b"bbbbbb").hexdigest(), licence="MIT"),
    ],
}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(command.weights, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A weights folder for a small_16k of two small files; the other variants are one file that is missing."""

    def needed(variant: Variant) -> tuple[PublishedFile, ...]:
        if variant.bundled:
            return ()
        return tuple(FILES.get(variant.name, [PublishedFile("weights/missing.pth", 7_000_000_000, md5="0")]))

    monkeypatch.setattr(command, "needed_files", needed)
    return tmp_path / "weights"


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths in the order they are fetched; each gets its published content."""
    paths: list[str] = []

    def fetch(file: PublishedFile, weights_dir: Path | None, **_: object) -> Path:
        assert weights_dir is not None
        paths.append(file.path)
        path = weights_dir / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes({"a.pth": b"aaaaa", "b.pth": b"bbbbbb"}[path.name])
        return path

    monkeypatch.setattr(command, "fetch_file", fetch)
    return paths


def test_list_says_size_licence_and_state_of_every_variant(folder: Path, fetched: list[str]) -> None:
    run("fetch", "small_16k", "--weights", folder)
    lines = {line.split()[0]: line for line in run("list", "--weights", folder).output.splitlines()}

    assert lines.keys() >= VARIANTS.keys()
    assert "installed" in lines["small_16k"]
    assert "CC-BY-NC-4.0" in lines["large_44k_v2"]
    assert "7.0 GB" in lines["large_44k_v2"]
    assert "1 file missing" in lines["large_44k_v2"]
    assert "13 kinds of sound" in lines["tiny_16k"]


def test_list_can_say_each_file(folder: Path) -> None:
    output = run("list", "--files", "--weights", folder).output

    assert "ext_weights/b.pth" in output
    assert "MIT" in output
    assert "missing" in output


def test_fetch_says_the_licence_first_and_skips_what_is_there(folder: Path, fetched: list[str]) -> None:
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "a.pth").write_bytes(b"aaaaa")
    result = run("fetch", "small_16k", "--weights", folder)

    assert result.exit_code == 0
    assert fetched == ["ext_weights/b.pth"]
    assert "weights/a.pth: there" in result.output
    assert "its licence is MIT" in result.output


def test_fetch_replaces_what_differs(folder: Path, fetched: list[str]) -> None:
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "a.pth").write_bytes(b"other")

    assert "not the published one" in run("fetch", "small_16k", "--weights", folder).output
    assert fetched == ["weights/a.pth", "ext_weights/b.pth"]


def test_fetch_says_what_went_wrong_in_a_sentence(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> Path:
        raise WeightsDownloadError("The hub is gone.")

    monkeypatch.setattr(command, "fetch_file", fail)
    result = run("fetch", "small_16k", "--weights", folder)

    assert result.exit_code == 1
    assert result.output.endswith("Error: The hub is gone.\n")


@pytest.mark.parametrize("name", ["tiny_16k", "huge"])
def test_what_is_not_published_cannot_be_fetched(name: str) -> None:
    assert run("fetch", name).exit_code == 2


def remove(path: Path) -> None:
    path.unlink()


def spoil(path: Path) -> None:
    path.write_bytes(b"other")


@pytest.mark.parametrize(
    ("harm", "state", "exit_code"), [(None, "ok", 0), (spoil, "differs", 1), (remove, "missing", 1)]
)
def test_verify_says_what_every_file_is(
    folder: Path, fetched: list[str], harm: Callable[[Path], None] | None, state: str, exit_code: int
) -> None:
    run("fetch", "small_16k", "--weights", folder)
    if harm is not None:
        harm(folder / "weights" / "a.pth")
    result = run("verify", "small_16k", "--weights", folder)

    assert f"weights/a.pth: {state}" in result.output
    assert "ext_weights/b.pth: ok" in result.output
    assert result.exit_code == exit_code


def test_verify_without_a_variant_looks_at_what_is_there(folder: Path, fetched: list[str]) -> None:
    run("fetch", "small_16k", "--weights", folder)
    result = run("verify", "--weights", folder)

    assert result.exit_code == 0
    assert len(result.output.splitlines()) == 2


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
