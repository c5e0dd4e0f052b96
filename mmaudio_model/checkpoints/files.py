"""Which files a variant needs and where they may lie. No torch: workers and the CLI ask this before loading anything.

Layout of a weights folder, as published: `weights/mmaudio_<variant>.pth` and `ext_weights/*`. CLIP and the 44.1 kHz
vocoder are published by others; in a folder they lie in `ext_weights/` under their own names. What is not in the folder
is looked for in the Hugging Face hub's cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mmaudio_model.errors import WeightsMissingError
from mmaudio_model.variants import Variant

MMAUDIO_REPOSITORY = "hkchengrex/MMAudio"
CLIP_REPOSITORY = "apple/DFN5B-CLIP-ViT-H-14-384"
VOCODER_REPOSITORY = "nvidia/bigvgan_v2_44khz_128band_512x"


@dataclass(frozen=True)
class WeightsFile:
    """One file: which part of the model it holds, and where it lies in a weights folder and on the hub.

    Attributes:
        hub_path: its path in the repository, where that is another than in a folder.
        container: key of the dictionary that holds the tensors; None: the file is the dictionary.
        prefix: only keys with this prefix are of interest; it is cut off.
        tolerated: keys that may be in the file and are not wanted.
    """

    part: str
    path: str
    repository: str = MMAUDIO_REPOSITORY
    hub_path: str | None = None
    container: str | None = None
    prefix: str = ""
    tolerated: frozenset[str] = frozenset()


def needed_files(variant: Variant) -> tuple[WeightsFile, ...]:
    """Return the files that a variant is loaded from; none for a seeded one."""
    if variant.seeded:
        return ()
    is_16k = variant.mode.name == "16k"
    vocoder = (
        WeightsFile("vocoder", "ext_weights/best_netG.pt", container="generator")
        if is_16k
        else WeightsFile(
            "vocoder",
            "ext_weights/bigvgan_generator.pt",
            repository=VOCODER_REPOSITORY,
            hub_path="bigvgan_generator.pt",
            container="generator",
        )
    )
    return (
        WeightsFile(
            "flow",
            f"weights/mmaudio_{variant.name}.pth",
            tolerated=frozenset({"latent_rot", "clip_rot", "t_embed.freqs"}),
        ),
        WeightsFile("vae", f"ext_weights/{'v1-16' if is_16k else 'v1-44'}.pth"),
        vocoder,
        WeightsFile(
            "sync",
            "ext_weights/synchformer_state_dict.pth",
            prefix="vfeat_extractor.",
            tolerated=frozenset({"patch_embed.proj.weight", "patch_embed.proj.bias"}),
        ),
        WeightsFile(
            "clip",
            "ext_weights/open_clip_pytorch_model.bin",
            repository=CLIP_REPOSITORY,
            hub_path="open_clip_pytorch_model.bin",
        ),
    )


def find_file(file: WeightsFile, weights_dir: Path | None) -> Path | None:
    """Return where a file lies: in the folder, else in the hub's cache; None if in neither."""
    if weights_dir is not None and (weights_dir / file.path).is_file():
        return weights_dir / file.path
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(file.repository, file.hub_path or file.path)
    return Path(found) if isinstance(found, str) else None


def require_file(file: WeightsFile, variant: Variant, weights_dir: Path | None) -> Path:
    """Return where a file lies.

    Raises:
        WeightsMissingError: it is nowhere.
    """
    found = find_file(file, weights_dir)
    if found is None:
        folder = f"in {weights_dir}" if weights_dir is not None else "in a weights folder (none is set)"
        raise WeightsMissingError(
            f"Variant {variant.name} needs {file.path}; it is neither {folder} nor, as a file of {file.repository}, in "
            f"the Hugging Face cache. Put it there, or set MMAUDIO_WEIGHTS_DIR; see: mmaudio weights list"
        )
    return found


def is_installed(variant: Variant, weights_dir: Path | None) -> bool:
    """Say whether everything that a variant is loaded from is there."""
    return all(find_file(file, weights_dir) is not None for file in needed_files(variant))
