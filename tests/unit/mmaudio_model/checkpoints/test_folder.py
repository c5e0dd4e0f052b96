"""A weights folder is checked before anything is loaded; the error names the folder that was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmaudio_model.checkpoints.bundled import bundled_file
from mmaudio_model.checkpoints.files import cached_path, is_installed, require_file
from mmaudio_model.checkpoints.folder import ADAPTER_CONFIG, check_fetch_target, check_folder, check_folder_for
from mmaudio_model.checkpoints.origin import describe_origins, part_files
from mmaudio_model.checkpoints.published import needed_files
from mmaudio_model.errors import WeightsBrokenError, WeightsFolderError, WeightsMissingError
from mmaudio_model.variants import VARIANTS, get_variant

TINY, SMALL = get_variant("tiny_16k"), get_variant("small_16k")
FLOW = {"tiny_16k": "tiny_16k/flow.safetensors", "small_16k": "weights/mmaudio_small_16k.pth"}


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"weights")
    return folder


def rejection(weights_dir: Path, name: str) -> str:
    with pytest.raises(WeightsFolderError) as caught:
        check_folder_for(get_variant(name), weights_dir)
    return str(caught.value)


@pytest.mark.parametrize("name", FLOW)
def test_one_part_of_the_variant_is_enough(tmp_path: Path, name: str) -> None:
    check_folder_for(get_variant(name), write(tmp_path, FLOW[name]))
    check_folder_for(get_variant(name), None)


@pytest.mark.parametrize("name", FLOW)
def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path, name: str) -> None:
    sentence = rejection(tmp_path / "nowhere", name)

    assert f"{tmp_path / 'nowhere'} does not exist" in sentence
    assert f"Expected {FLOW[name]}, or another part of the variant." in sentence


@pytest.mark.parametrize("name", FLOW)
def test_a_file_is_refused_with_the_folder_that_was_meant(tmp_path: Path, name: str) -> None:
    write(tmp_path, FLOW[name])
    sentence = rejection(tmp_path / FLOW[name], name)

    assert "is a file, not a folder" in sentence
    assert sentence.endswith(f"Did you mean {tmp_path}?")


@pytest.mark.parametrize("name", FLOW)
@pytest.mark.parametrize("levels", ["one above", "two above", "one below"])
def test_a_folder_at_the_wrong_level_is_refused_with_the_one_that_was_meant(
    tmp_path: Path, name: str, levels: str
) -> None:
    meant = write(tmp_path / "runs" / "one" / "weights", FLOW[name])
    given = {"one above": meant.parent, "two above": meant.parent.parent, "one below": (meant / FLOW[name]).parent}

    sentence = rejection(given[levels], name)
    assert f"holds no part of {name}" in sentence
    assert sentence.endswith(f"Did you mean {meant}?")


def test_a_relative_path_gets_a_relative_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "run" / "weights", FLOW["tiny_16k"])
    monkeypatch.chdir(tmp_path)

    assert rejection(Path("run"), "tiny_16k").endswith("Did you mean run/weights?")
    assert rejection(Path("run/weights/tiny_16k"), "tiny_16k").endswith("Did you mean run/weights?")


@pytest.mark.parametrize("given", ["adapter", "."])
def test_an_adapter_that_is_not_merged_is_refused_with_the_command_that_merges_it(tmp_path: Path, given: str) -> None:
    adapter = write(tmp_path / "adapter", ADAPTER_CONFIG, "adapter_model.safetensors")
    sentence = rejection(tmp_path / given, "tiny_16k")

    assert "LoRA adapter that is not merged" in sentence
    assert f"mmaudio train merge-lora --variant tiny_16k --adapter {adapter}" in sentence


def test_parts_of_another_variant_are_named(tmp_path: Path) -> None:
    sentence = rejection(write(tmp_path, FLOW["tiny_16k"]), "small_16k")

    assert "it holds tiny_16k/" in sentence
    assert "parts of tiny_16k: select" in sentence


def test_what_the_folder_holds_is_named_in_short(tmp_path: Path) -> None:
    for number in range(7):
        write(tmp_path, f"{number}.txt")

    assert "it holds 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 2 more." in rejection(tmp_path, "tiny_16k")


def test_an_empty_folder_is_refused_for_a_variant_but_not_for_a_worker(tmp_path: Path) -> None:
    assert "holds nothing" in rejection(tmp_path, "tiny_16k")
    assert "mmaudio weights fetch small_16k" in rejection(tmp_path, "small_16k")
    check_folder(tmp_path)  # a container mounts an empty folder and serves the bundled variant
    assert is_installed(TINY, tmp_path)
    assert not is_installed(SMALL, tmp_path)


def test_a_worker_serves_bundled_variants_beside_published_ones(tmp_path: Path) -> None:
    write(tmp_path, *(file.path for file in needed_files(SMALL)))

    assert [name for name, variant in VARIANTS.items() if is_installed(variant, tmp_path)] == ["tiny_16k", "small_16k"]


@pytest.mark.parametrize("given", ["nowhere", "run", "run/weights/tiny_16k", "file", "adapter"])
def test_every_way_to_the_weights_refuses_a_wrong_folder(tmp_path: Path, given: str) -> None:
    write(tmp_path, f"run/weights/{FLOW['tiny_16k']}", "file", f"adapter/{ADAPTER_CONFIG}")
    wrong = tmp_path / given

    for attempt in (
        lambda: check_folder(wrong),
        lambda: is_installed(TINY, wrong),
        lambda: bundled_file(TINY, "flow", wrong),
        lambda: require_file(needed_files(SMALL)[0], SMALL, wrong),
        lambda: part_files(TINY, wrong),
    ):
        with pytest.raises(WeightsFolderError):
            attempt()


def test_a_folder_to_fetch_into_may_be_new_but_not_inside_of_a_weights_folder(tmp_path: Path) -> None:
    check_fetch_target(None)
    check_fetch_target(tmp_path / "new")
    write(tmp_path / "published", FLOW["small_16k"])
    check_fetch_target(tmp_path / "published")
    with pytest.raises(WeightsFolderError, match=r"Did you mean .*published\?"):
        check_fetch_target(tmp_path / "published" / "weights")
    write(tmp_path, "file")
    with pytest.raises(WeightsFolderError, match="is a file"):
        check_fetch_target(tmp_path / "file")


def test_a_fine_tuned_part_is_named_with_its_folder(tmp_path: Path) -> None:
    files = part_files(TINY, write(tmp_path, FLOW["tiny_16k"]))

    assert files["flow"] == tmp_path / FLOW["tiny_16k"]
    assert describe_origins(files, tmp_path) == (
        f"flow from {tmp_path}; clip_text, clip_image, sync, vae, vocoder from the package"
    )


def test_published_parts_may_come_from_the_folder_and_the_cache(tmp_path: Path, hub_cache: Path) -> None:
    weights_dir = write(tmp_path / "run", FLOW["small_16k"])
    with pytest.raises(WeightsMissingError, match=r"ext_weights/open_clip_pytorch_model\.bin"):
        part_files(SMALL, weights_dir)
    for file in needed_files(SMALL):
        write(hub_cache, str(cached_path(file).relative_to(hub_cache)))

    assert describe_origins(part_files(SMALL, weights_dir), weights_dir) == (
        f"flow from {weights_dir}; clip_text, clip_image, sync, vae, vocoder from the Hugging Face cache"
    )


@pytest.mark.parametrize("name", FLOW)
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a Git LFS pointer"),
        (None, "a link to a file that does not exist"),
    ],
)
def test_a_broken_file_is_not_replaced_by_another_place(
    tmp_path: Path, name: str, content: bytes | None, reason: str
) -> None:
    path = write(tmp_path, FLOW[name]) / FLOW[name]
    if content is None:
        path.unlink()
        path.symlink_to(tmp_path / "gone")
    else:
        path.write_bytes(content)

    assert not is_installed(get_variant(name), tmp_path)
    with pytest.raises(WeightsBrokenError, match=reason) as caught:
        part_files(get_variant(name), tmp_path)
    assert str(path) in str(caught.value)


def test_a_pointer_in_a_folder_is_refused_with_the_command_that_gets_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, FLOW["tiny_16k"]) / FLOW["tiny_16k"]
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")

    with pytest.raises(WeightsBrokenError, match="Run `git lfs pull`, or copy the file again"):
        bundled_file(TINY, "flow", tmp_path)
