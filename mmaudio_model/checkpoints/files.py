"""Which files a variant is made of, as published, and where they may lie. No torch: the CLI and workers ask this first.

Layout of a weights folder, as published: `weights/mmaudio_<variant>.pth` and `ext_weights/*`. CLIP and the 44.1 kHz
vocoder are published by others; in a folder they lie in `ext_weights/` under their own names. What is not in the folder
is looked for in the Hugging Face hub's cache, at the pinned revision.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmaudio_model.errors import WeightsMissingError
from mmaudio_model.variants import NONCOMMERCIAL, Variant

MMAUDIO_REPOSITORY = "hkchengrex/MMAudio"
CLIP_REPOSITORY = "apple/DFN5B-CLIP-ViT-H-14-384"
VOCODER_REPOSITORY = "nvidia/bigvgan_v2_44khz_128band_512x"
REVISIONS = {
    MMAUDIO_REPOSITORY: "eb13a1a98fdbec91753775c57b074ccdfc60587c",
    CLIP_REPOSITORY: "01b771ed0d1395ca5ffdd279897d665ebe00dfd2",
    VOCODER_REPOSITORY: "95a9d1dcb12906c03edd938d77b9333d6ded7dfb",
}


@dataclass(frozen=True)
class PublishedFile:
    """One file, where it lies in a weights folder and on the hub, and what it must be.

    Attributes:
        size_bytes: as published; those in round numbers are only known to three digits.
        md5, sha256: hexadecimal, whichever is published.
        hub_path: its path in the repository, where that is another than in a folder.
    """

    path: str
    size_bytes: int
    md5: str | None = None
    sha256: str | None = None
    licence: str = NONCOMMERCIAL
    repository: str = MMAUDIO_REPOSITORY
    hub_path: str | None = None

    @property
    def revision(self) -> str:
        return REVISIONS[self.repository]

    @property
    def path_on_hub(self) -> str:
        return self.hub_path or self.path


def _flow(name: str, size_bytes: int, md5: str, sha256: str | None = None) -> PublishedFile:
    return PublishedFile(f"weights/mmaudio_{name}.pth", size_bytes, md5, sha256)


FLOW = {
    "small_16k": _flow(
        "small_16k",
        629_000_000,
        "af93cde404179f58e3919ac085b8033b",
        "61987bcbd6fc689af063075d7efaef29425f65df155dac589c07fa8173a03c1c",
    ),
    "small_44k": _flow("small_44k", 629_946_624, "babd74c884783d13701ea2820a5f5b6d"),
    "medium_44k": _flow("medium_44k", 2_490_000_000, "5a56b6665e45a1e65ada534defa903d0"),
    "large_44k": _flow("large_44k", 4_120_000_000, "fed96c325a6785b85ce75ae1aafd2673"),
    "large_44k_v2": _flow(
        "large_44k_v2",
        4_122_474_715,
        "01ad4464f049b2d7efdaa4c1a59b8dfe",
        "a6bf693424fbd4ce0244fff8c412347714d5ac586e28dbeffadfa0f2b647af74",
    ),
}
VAE = {
    "16k": PublishedFile("ext_weights/v1-16.pth", 686_652_758, "69f56803f59a549a1a507c93859fd4d7"),
    "44k": PublishedFile(
        "ext_weights/v1-44.pth",
        1_221_942_998,
        "fab020275fa44c6589820ce025191600",
        "ab6cc15dc31947675f75c950c41f4dcfd0d6d1817555ac871f809ec388e4651a",
    ),
}
VOCODER = {
    "16k": PublishedFile(
        "ext_weights/best_netG.pt",
        449_217_313,
        "eeaf372a38a9c31c362120aba2dde292",
        "970ca75ee4d5ce583e9396a4534acb14971ea2b4f1c22e038f476680c868a789",
    ),
    "44k": PublishedFile(
        "ext_weights/bigvgan_generator.pt",
        489_041_291,
        sha256="d9fe7ec6bd0b44ed9d66973d5012d8181c1570b01e5c72df51973e241dccd357",
        licence="MIT",
        repository=VOCODER_REPOSITORY,
        hub_path="bigvgan_generator.pt",
    ),
}
SYNC = PublishedFile(
    "ext_weights/synchformer_state_dict.pth",
    950_058_171,
    "5b2f5594b0730f70e41e549b7c94390c",
    "8aff082f2df5c3bc52759db0c865c7ee772ae6400b860d1b7e90413f2defb67c",
)
CLIP = PublishedFile(
    "ext_weights/open_clip_pytorch_model.bin",
    3_947_081_637,
    sha256="c07a17b547d461c60a3cce5062b26bf8545b13de602c4c59d8490361eb716033",
    licence="Apple-AMLR",
    repository=CLIP_REPOSITORY,
    hub_path="open_clip_pytorch_model.bin",
)


def needed_files(variant: Variant) -> tuple[PublishedFile, ...]:
    """Return the files that a variant is loaded from; none for one of our own."""
    if variant.bundled:
        return ()
    mode = variant.mode.name
    return FLOW[variant.name], VAE[mode], VOCODER[mode], SYNC, CLIP


def find_file(file: PublishedFile, weights_dir: Path | None) -> Path | None:
    """Return where a file lies: in the folder, else in the hub's cache; None if in neither."""
    if weights_dir is not None and (weights_dir / file.path).is_file():
        return weights_dir / file.path
    found = cached_path(file)
    return found if found.is_file() else None


def cached_path(file: PublishedFile) -> Path:
    """Return where a file lies in the hub's cache, or would."""
    # The constants alone import ten times faster than the hub's own search, which does no more for a pinned revision.
    from huggingface_hub import constants

    repository = Path(constants.HF_HUB_CACHE) / f"models--{file.repository.replace('/', '--')}"
    return repository / "snapshots" / file.revision / file.path_on_hub


def require_file(file: PublishedFile, variant: Variant, weights_dir: Path | None) -> Path:
    """Return where a file lies.

    Raises:
        WeightsMissingError: it is nowhere.
    """
    found = find_file(file, weights_dir)
    if found is None:
        folder = f"in {weights_dir}" if weights_dir is not None else "in a weights folder (none is set)"
        into = f" --weights {weights_dir}" if weights_dir is not None else ""
        raise WeightsMissingError(
            f"Variant {variant.name} needs {file.path}; it is neither {folder} nor, as {file.path_on_hub} of "
            f"{file.repository}, in the Hugging Face cache. Fetch it: mmaudio weights fetch {variant.name}{into}"
        )
    return found


def is_installed(variant: Variant, weights_dir: Path | None) -> bool:
    """Say whether everything that a variant is loaded from is there."""
    return all(find_file(file, weights_dir) is not None for file in needed_files(variant))
