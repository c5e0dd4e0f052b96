"""The adapters against stand-ins with the published packages' signatures: what is passed in, and what is taken out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.evaluation.pretrained_metrics.clap import CLAP
from mmaudio_model.evaluation.pretrained_metrics.desync import DESYNC
from mmaudio_model.evaluation.pretrained_metrics.imagebind import IMAGEBIND
from mmaudio_model.evaluation.pretrained_metrics.loading import load, missing_reason
from mmaudio_model.evaluation.pretrained_metrics.panns import PANNS
from mmaudio_model.evaluation.pretrained_metrics.passt import PASST
from mmaudio_model.procedural_world.scene import make_scene
from mmaudio_model.procedural_world.video import write_video

STAND_INS = {
    "panns_inference/models.py": """
import torch
class Cnn14(torch.nn.Module):
    def __init__(self, sample_rate, window_size, hop_size, mel_bins, fmin, fmax, classes_num):
        super().__init__()
        assert (sample_rate, hop_size) == (16000, 160)
        self.fc_audioset = torch.nn.Linear(8, classes_num)
    def forward(self, input, mixup_lambda=None):
        embedding = input[:, :8]
        return {'clipwise_output': torch.sigmoid(self.fc_audioset(embedding)), 'embedding': embedding}
""",
    "hear21passt/models/passt.py": """
import torch
def get_model(arch='passt_s_swa_p16_128_ap476', pretrained=True, n_classes=527):
    assert not pretrained
    return torch.nn.Linear(1, 527)
""",
    "hear21passt/models/preprocess.py": """
import torch
class AugmentMelSTFT(torch.nn.Module):
    def __init__(self, n_mels=128, sr=32000, win_length=800, hopsize=320, n_fft=1024, freqm=48, timem=192, htk=False,
                 fmin=0.0, fmax=None, norm=1, fmin_aug_range=1, fmax_aug_range=1000):
        super().__init__()
""",
    "hear21passt/wrapper.py": """
import torch
class PasstBasicWrapper(torch.nn.Module):
    def __init__(self, mel, net, mode='all'):
        super().__init__()
        assert mode == 'all'
        self.mel, self.net = mel, net
    def forward(self, x):
        assert x.shape == (1, 320000)
        return torch.cat([self.net(x[:, :1]), x[:, :768]], dim=1)
""",
    "laion_clap/__init__.py": """
import os, sys, torch
assert len(sys.argv) == 1 and os.path.isdir('roberta-base')
class CLAP_Module(torch.nn.Module):
    def __init__(self, enable_fusion=False, device=None, amodel='HTSAT-tiny', tmodel='roberta'):
        super().__init__()
        self.model = torch.nn.Linear(4, 512)
    def get_audio_embedding_from_data(self, x, use_tensor=False):
        assert use_tensor and x.ndim == 2
        return self.model(x[:, :4])
    def get_text_embedding(self, x):
        assert len(x) > 1
        return self.model(torch.tensor([[float(len(text))] * 4 for text in x])).detach().numpy()
""",
    "imagebind/data.py": """
import torch
def get_clip_timepoints(clip_sampler, duration):
    return [(k * (duration - 2) / 2, k * (duration - 2) / 2 + 2) for k in range(3)]
def waveform2melspec(waveform, sample_rate, num_mel_bins, target_length):
    waveform -= waveform.mean()
    return torch.zeros(1, num_mel_bins, target_length)
class SpatialCrop(torch.nn.Module):
    def __init__(self, crop_size=224, num_crops=3):
        super().__init__()
    def forward(self, videos):
        assert videos[0].shape[0] == 3 and min(videos[0].shape[2:]) == 224 < max(videos[0].shape[2:])
        return [video[..., k : k + 224] for video in videos for k in range(3)]
""",
    "imagebind/models/imagebind_model.py": """
import torch
class ModalityType:
    VISION, AUDIO = 'vision', 'audio'
def imagebind_huge(pretrained=False):
    assert not pretrained
    return Model()
class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(1, 1024)
    def forward(self, inputs):
        shapes = {'vision': (1, 9, 3, 2, 224, 224), 'audio': (1, 3, 1, 128, 204)}
        assert all(tuple(value.shape) == shapes[kind] for kind, value in inputs.items())
        return {kind: self.head(value.mean().view(1, 1)) for kind, value in inputs.items()}
""",
    "pytorchvideo/data/clip_sampling.py": """
class ConstantClipsPerVideoSampler:
    def __init__(self, clip_duration, clips_per_video):
        pass
""",
    "torchaudio/__init__.py": "from torchaudio import transforms",
    "torchaudio/transforms.py": """
import torch
class MelSpectrogram(torch.nn.Module):
    def __init__(self, sample_rate, n_fft, win_length, hop_length, n_mels):
        super().__init__()
    def forward(self, x):
        return torch.ones(*x.shape[:-1], 128, x.shape[-1] // 160 + 1)
""",
    "av_bench/synchformer/synchformer.py": """
import torch
class Synchformer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(768, 21)
    def extract_vfeats(self, vis):
        b, s, t, c, h, w = vis.shape
        assert (s, t, c, h, w) == (1, 16, 3, 224, 224) and vis.abs().max() <= 1
        return torch.ones(b, s, 8, 768)
    def extract_afeats(self, aud):
        b, s, one, f, t = aud.shape
        assert (b, one, f, t) == (1, 1, 128, 66)
        return torch.ones(b, s, 6, 768)
    def compare_v_a(self, vis, aud):
        assert vis.shape == (1, 14, 8, 768) and aud.shape == (1, 14, 6, 768)
        return self.head(vis.mean(dim=(1, 2)))
""",
}


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The stand-ins, importable, and a folder with files of their weights."""
    for name, code in STAND_INS.items():
        path = tmp_path / "packages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    monkeypatch.syspath_prepend(tmp_path / "packages")
    monkeypatch.setenv("HOME", str(tmp_path))
    folder = tmp_path / "weights"
    (folder / "roberta-base").mkdir(parents=True)
    for name in CLAP.files[1:]:
        (folder / name).touch()
    torch.save(
        {"model": {f"fc_audioset.{key}": value for key, value in _linear(8, 527).items()}}, folder / PANNS.files[0]
    )
    torch.save(_linear(1, 527), folder / PASST.files[0])
    stale = {"module.text_branch.embeddings.position_ids": torch.zeros(1)}
    clap = {f"module.{key}": value for key, value in _linear(4, 512).items()} | stale
    torch.save({"epoch": np.float64(15), "state_dict": clap}, folder / CLAP.files[0])
    torch.save({f"head.{key}": value for key, value in _linear(1, 1024).items()}, folder / IMAGEBIND.files[0])
    torch.save({"model": {f"head.{key}": value for key, value in _linear(768, 21).items()}}, folder / DESYNC.files[0])
    before = set(sys.modules)
    yield folder
    for name in set(sys.modules) - before:
        if name.split(".")[0] in {stand_in.split("/")[0] for stand_in in STAND_INS}:
            del sys.modules[name]


def _linear(inputs: int, outputs: int) -> dict[str, torch.Tensor]:
    return {"weight": torch.arange(outputs * inputs).view(outputs, inputs) / outputs, "bias": torch.zeros(outputs)}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "drum.mp4"
    write_video(make_scene(1, duration_s=8.0, class_name="drum"), path, fps=5, height=48, width=64)
    return path


def _noise(samples: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(samples).astype(np.float32)


def test_panns_gives_logits_and_wants_its_labels_first(weights: Path, tmp_path: Path):
    assert "class_labels_indices.csv" in (missing_reason(PANNS, weights) or "")
    labels = tmp_path / "panns_data" / "class_labels_indices.csv"
    labels.parent.mkdir()
    labels.touch()
    assert missing_reason(PANNS, weights) is None
    embedding, logits = load(PANNS, weights).describe(_noise(16_000))
    assert (embedding.shape, logits.shape) == ((8,), (527,))
    np.testing.assert_allclose(logits, _linear(8, 527)["weight"].numpy() @ embedding, rtol=1e-4, atol=1e-5)


def test_passt_is_given_ten_seconds_and_its_two_halves_are_told_apart(weights: Path):
    sound = _noise(32_000)
    embedding, logits = load(PASST, weights).describe(sound)
    np.testing.assert_array_equal(embedding, sound[:768])
    assert logits.shape == (527,)


def test_clap_finds_its_tokenizer_in_the_folder(weights: Path):
    network = load(CLAP, weights)
    assert network.embed_sound(_noise(48_000)).shape == network.embed_text("a drum").shape == (512,)


def test_imagebind_is_given_pairs_of_pictures_in_three_crops(weights: Path, video: Path):
    network, sound = load(IMAGEBIND, weights), _noise(8 * 16_000)
    before = sound.copy()
    assert network.embed_sound(sound).shape == network.embed_video(video).shape == (1024,)
    np.testing.assert_array_equal(sound, before)


def test_desync_is_of_the_first_and_last_stretch_and_refuses_what_is_shorter(weights: Path, video: Path):
    network = load(DESYNC, weights)
    assert network.offset_logits(video, _noise(8 * 16_000)).shape == (2, 21)
    with pytest.raises(MediaInvalidError, match=r"4\.8 s"):
        network.offset_logits(video, _noise(4 * 16_000))
