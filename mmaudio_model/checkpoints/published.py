"""The published files of each variant: size, checksum, licence and place on the Hugging Face hub. Data, no torch."""

from __future__ import annotations

from dataclasses import dataclass

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
    """One published file: its path in a weights folder and on the hub, its size and its checksum.

    Attributes:
        size_bytes: as published; round numbers are only known to three digits.
        md5, sha256: hexadecimal; at least one is published.
        hub_path: path in the repository, if it differs from the path in a weights folder.
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
    def checksum(self) -> tuple[str, str]:
        """The algorithm (`sha256` or `md5`) and the published digest, hexadecimal."""
        if self.sha256 is not None:
            return "sha256", self.sha256
        assert self.md5 is not None, self.path
        return "md5", self.md5

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
    """Return the published files of a variant; none for a bundled variant."""
    if variant.bundled:
        return ()
    mode = variant.mode.name
    return FLOW[variant.name], VAE[mode], VOCODER[mode], SYNC, CLIP
