"""Untrusted files in sandboxed processes: their limits, the errors of their exits, and the checks of their answers."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
from PIL import Image

from local_services.commands import wait_until
from mmaudio_model.demo_video import render_demo_video
from mmaudio_model.errors import MediaInvalidError, MediaTooLargeError, ModelError
from mmaudio_model.local_run import GenerationOptions, read_request
from mmaudio_model.media.audio import Sound
from mmaudio_model.media.media_warning import WarningCode
from mmaudio_model.media.mux.plan import MuxOptions
from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.media.source_facts import SourceFacts
from mmaudio_model.variants import get_variant
from tests.processes.workers.media.conftest import OpenSandbox
from tests.processes.workers.media.sandbox_processes import (
    AN_IMAGE,
    FPS,
    HEIGHT,
    IMAGE_SHAPE,
    MIB,
    PATIENCE_S,
    RATE_HZ,
    SIZES,
    WIDTH,
    media_pids,
    pids_left_in,
)
from tests.unit.mmaudio_model.media.videos import SOURCE_HZ, regular, write_video
from workers.media.confinement import MAX_THREADS, Layer
from workers.media.sandbox import SandboxStoppedError
from workers.media.sandbox_client import BOOT

SECTION = MuxOptions(start_s=0.0, duration_s=1.0)
SILENCE = Sound.mono(np.zeros(9, np.float32), RATE_HZ)


def test_a_video_comes_back_as_frames_and_nothing_stays_behind(
    video: Path, scratch: Path, sandbox: OpenSandbox
) -> None:
    frames = sandbox(scratch).read_frames(video, owner="job_1", **SIZES)

    assert (frames.clip.shape, frames.clip.dtype) == ((8, 32, 32, 3), np.uint8)
    assert (frames.sync.shape, frames.sync.dtype) == ((25, 16, 16, 3), np.uint8)
    assert frames.duration_s == pytest.approx(1.0)
    assert frames.warnings == ()
    brightness = frames.sync.mean(axis=(1, 2, 3))
    assert (np.diff(brightness) > 0).all()
    assert list(scratch.iterdir()) == []


def test_generate_reads_the_frames_that_a_worker_reads(tmp_path: Path, scratch: Path, sandbox: OpenSandbox) -> None:
    tiny = get_variant("tiny_16k")
    render_demo_video(tmp_path / "v.mp4", seconds=1.5)
    pixels = np.random.default_rng(1).integers(0, 256, (90, 130, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "p.png")
    options = GenerationOptions(prompt="", negative_prompt="", num_steps=2, cfg_strength=4.5, seed=1)
    box, clip_size = sandbox(scratch), tiny.clip.frame_size

    for video, image in ((tmp_path / "v.mp4", None), (None, tmp_path / "p.png")):
        local = read_request(tiny, options, video=video, image=image, duration_s=1.0)
        if video is not None:
            sizes = {"clip_size": clip_size, "sync_size": tiny.sync.frame_size}
            frames = box.read_frames(video, owner="job_1", start_s=0.0, duration_s=1.0, **sizes)
            assert local.video is not None
            assert np.array_equal(local.video.clip, frames.clip)
            assert np.array_equal(local.video.sync, frames.sync)
        else:
            picture = box.read_image(tmp_path / "p.png", owner="job_1", clip_size=clip_size)
            assert local.image is not None
            assert np.array_equal(local.image.clip, picture.clip)


def test_a_picture_comes_back_as_one_frame(tmp_path: Path, scratch: Path, sandbox: OpenSandbox) -> None:
    Image.new("RGB", (40, 20), (200, 100, 50)).save(tmp_path / "p.png")
    image = sandbox(scratch).read_image(tmp_path / "p.png", owner="job_1", clip_size=32)

    assert (image.clip.shape, image.clip.dtype) == ((1, 32, 32, 3), np.uint8)
    assert image.clip[0, 16, 16].tolist() == [200, 100, 50]


def test_a_video_gets_its_sound_where_it_is_wanted(
    video: Path, tmp_path: Path, scratch: Path, sandbox: OpenSandbox
) -> None:
    tone = Sound.mono(np.sin(np.arange(RATE_HZ, dtype=np.float32) / 20), RATE_HZ)
    out, box = tmp_path / "out", sandbox(scratch)
    plan = box.plan(video, owner="job_1", options=SECTION)
    result = box.mux(video, tone, out, owner="job_1", options=SECTION, plan=plan)

    assert (plan.container, plan.reencoded) == ("mp4", False)
    assert (result.format, result.content_type, result.reencoded) == ("mp4", "video/mp4", False)
    assert result.warnings == plan.warnings == ()
    with av.open(str(out)) as container:
        assert [stream.type for stream in container.streams] == ["video", "audio"]
        assert sum(1 for _ in container.decode(video=0)) == FPS
    assert list(scratch.iterdir()) == []


def test_a_video_without_a_sound_of_its_own_says_so(video: Path, scratch: Path, sandbox: OpenSandbox) -> None:
    original = sandbox(scratch).original_sound(video, owner="job_1", start_s=0.0, duration_s=1.0)

    assert original.sound is None
    assert [warning.code for warning in original.warnings] == [WarningCode.ORIGINAL_AUDIO_MISSING]


def test_a_sound_comes_back_at_its_own_rate_in_its_own_channels(
    tmp_path: Path, scratch: Path, sandbox: OpenSandbox
) -> None:
    times = np.arange(SOURCE_HZ) / SOURCE_HZ
    path = write_video(tmp_path / "v.mp4", regular(25, 25), sound=np.sin(440 * times).astype(np.float32) / 2)
    original = sandbox(scratch).original_sound(path, owner="job_1", start_s=0.2, duration_s=0.5)

    assert original.sound is not None
    assert (original.sound.sample_rate_hz, original.sound.layout) == (SOURCE_HZ, "mono")
    assert original.sound.samples == SOURCE_HZ // 2
    assert original.warnings == ()


def test_a_file_that_is_no_video_is_refused_in_words(tmp_path: Path, scratch: Path, sandbox: OpenSandbox) -> None:
    (tmp_path / "v.mp4").write_bytes(b"#EXTM3U\nfile:///etc/passwd\n")

    with pytest.raises(MediaInvalidError, match="a playlist, not a video"):
        sandbox(scratch).read_frames(tmp_path / "v.mp4", owner="job_1", **SIZES)
    assert list(scratch.iterdir()) == []


def test_the_limits_of_media_hold_in_the_process(video: Path, scratch: Path, sandbox: OpenSandbox) -> None:
    with pytest.raises(MediaTooLargeError, match="64x48 pixels"):
        sandbox(scratch, MediaLimits(max_pixels=1000)).read_frames(video, owner="job_1", **SIZES)


def test_a_picture_that_needs_more_memory_than_is_allowed_is_too_large(
    tmp_path: Path, scratch: Path, sandbox: OpenSandbox
) -> None:
    # 64 megapixels: a small file, 192 MB as RGB.
    Image.new("RGB", (8000, 8000)).save(tmp_path / "p.png", compress_level=1)
    small = sandbox(scratch, memory_bytes=300 * MIB)

    with pytest.raises(MediaTooLargeError, match=r"more memory than the allowed 300 MiB.*MMAUDIO_DECODE_MEMORY_BYTES"):
        small.read_image(tmp_path / "p.png", owner="job_1", clip_size=32)


def test_memory_is_limited(anything: Path, scratch: Path, doing: Callable[[str], None], sandbox: OpenSandbox) -> None:
    doing(f"return {{'size': len(bytearray({400 * MIB}))}}")

    with pytest.raises(MediaTooLargeError, match=r"more memory than the allowed 300 MiB.*MMAUDIO_DECODE_MEMORY_BYTES"):
        sandbox(scratch, memory_bytes=300 * MIB).read_image(anything, owner="job_1", clip_size=32)


def test_a_process_that_the_kernel_kills_needed_more_memory(
    anything: Path, scratch: Path, doing: Callable[[str], None], sandbox: OpenSandbox
) -> None:
    doing("os.kill(os.getpid(), signal.SIGKILL)")

    with pytest.raises(MediaTooLargeError, match="more memory than the allowed"):
        sandbox(scratch).read_image(anything, owner="job_1", clip_size=32)


def test_processor_time_is_limited(
    anything: Path, scratch: Path, doing: Callable[[str], None], sandbox: OpenSandbox
) -> None:
    doing("while True: pass")

    with pytest.raises(MediaTooLargeError, match="took longer than the allowed"):
        sandbox(scratch, cpu_s=1).read_image(anything, owner="job_1", clip_size=32)


def test_wall_time_is_limited_and_the_process_is_gone(
    anything: Path,
    scratch: Path,
    doing: Callable[[str], None],
    sandbox: OpenSandbox,
) -> None:
    doing("time.sleep(600)")
    with pytest.raises(MediaTooLargeError, match=r"allowed 0\.3 s, and longer than 0\.6 s the second time.*_TIMEOUT_S"):
        sandbox(scratch, wall_s=0.3).read_image(anything, owner="job_1", clip_size=32)
    assert len(media_pids()) == 1, "the fork server alone"
    assert list(scratch.iterdir()) == []


def test_a_file_that_took_too_long_is_tried_once_more(
    anything: Path, scratch: Path, doing: Callable[[str], None], sandbox: OpenSandbox
) -> None:
    doing("pathlib.Path(str(os.getpid())).touch()\ntime.sleep(600)")
    box = sandbox(scratch, wall_s=1.0)
    with ThreadPoolExecutor(1) as pool:
        image = pool.submit(box.read_image, anything, owner="job_1", clip_size=32)
        wait_until(lambda: len(pids_left_in(scratch)) == 1, within_s=PATIENCE_S, what="the first process")
        doing(AN_IMAGE)
        assert image.result(timeout=PATIENCE_S).clip.shape == IMAGE_SHAPE
    assert list(scratch.iterdir()) == []


def test_a_stop_between_two_tries_is_not_lost(
    anything: Path, scratch: Path, doing: Callable[[str], None], sandbox: OpenSandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    doing("time.sleep(600)")
    box = sandbox(scratch, wall_s=0.2)
    monkeypatch.setattr("workers.media.sandbox_calls.log.warning", lambda *_: box.stop("job_1"))

    with pytest.raises(SandboxStoppedError):
        box.read_image(anything, owner="job_1", clip_size=32)


def test_an_answer_that_is_too_long_is_said(
    anything: Path, scratch: Path, doing: Callable[[str], None], sandbox: OpenSandbox
) -> None:
    doing("return {'duration_s': 1.0, 'warnings': ['damaged'] * 20000}")

    with pytest.raises(MediaTooLargeError, match="more tracks, chapters, tags or faults than can be listed"):
        sandbox(scratch).read_frames(anything, owner="job_1", **SIZES)


def test_a_long_answer_arrives_whole(
    anything: Path, scratch: Path, doing: Callable[[str], None], sandbox: OpenSandbox
) -> None:
    doing(f"return {{'error': 'MediaInvalidError', 'message': 'x' * 2000, 'more': 'y' * {120 * 1024}}}")

    with pytest.raises(MediaInvalidError, match=r"^x+$"):
        sandbox(scratch).read_image(anything, owner="job_1", clip_size=32)


def test_a_media_process_has_its_modules_before_it_gets_a_file(
    anything: Path, scratch: Path, doing: Callable[[str], None], sandbox: OpenSandbox
) -> None:
    doing(
        "found = [name for name in ('av', 'PIL.JpegImagePlugin', 'mmaudio_model.media.mux.writing', 'torch')"
        " if name in sys.modules]\n"
        "return {'error': 'MediaInvalidError', 'message': ' '.join(found)}"
    )
    with pytest.raises(MediaInvalidError) as raised:
        sandbox(scratch).read_image(anything, owner="job_1", clip_size=32)

    assert str(raised.value) == "av PIL.JpegImagePlugin mmaudio_model.media.mux.writing"


def test_what_a_video_declares_is_read_and_bounded(
    video: Path, anything: Path, scratch: Path, doing: Callable[[str], None], sandbox: OpenSandbox
) -> None:
    doing("from workers.media import sandbox_actions\nreturn sandbox_actions.perform(instruction)[0]")
    box = sandbox(scratch)
    assert box.source_facts(video, owner="job_1", section_end_s=1.0) == SourceFacts(WIDTH * HEIGHT, float(FPS), 1.0)
    assert box.source_facts(anything, owner="job_1", section_end_s=1.0) is None
    doing("return {'pixels': 10**12, 'frame_rate': 1e9, 'duration_s': None, 'warnings': []}")
    facts = box.source_facts(video, owner="job_1", section_end_s=1.0)
    assert facts == SourceFacts(MediaLimits().max_pixels, 1000.0, None)


def test_the_size_of_files_is_limited(
    anything: Path, scratch: Path, doing: Callable[[str], None], sandbox: OpenSandbox
) -> None:
    doing(f"pathlib.Path('out.video').write_bytes(bytes({2 * MIB}))\nreturn {{}}")

    with pytest.raises(MediaTooLargeError, match="larger than the allowed"):
        sandbox(scratch, array_bytes=MIB).read_image(anything, owner="job_1", clip_size=32)


@pytest.mark.parametrize(
    "end", ["os.kill(os.getpid(), signal.SIGSEGV)", "os.abort()", "raise RuntimeError", "os._exit(0)"]
)
def test_a_process_that_breaks_is_an_error_of_its_job_and_the_next_call_works(
    anything: Path,
    scratch: Path,
    doing: Callable[[str], None],
    end: str,
    sandbox: OpenSandbox,
) -> None:
    box = sandbox(scratch)
    doing(end)
    with pytest.raises(MediaInvalidError, match="breaks its decoder"):
        box.read_image(anything, owner="job_1", clip_size=32)
    assert list(scratch.iterdir()) == []

    doing(AN_IMAGE)
    assert box.read_image(anything, owner="job_1", clip_size=32).clip.shape == IMAGE_SHAPE


@pytest.mark.parametrize(
    "fails",
    [
        "raise OSError(28, 'No space left on device')",
        "raise OSError(122, 'Disk quota exceeded')",
        "from mmaudio_model.errors import MediaInvalidError\n"
        "raise MediaInvalidError('cannot be read') from OSError(28, 'No space left on device')",
    ],
    ids=["disk", "quota", "behind an error of the decoder"],
)
def test_a_full_disk_in_the_process_is_not_blamed_on_the_file(
    anything: Path, scratch: Path, doing: Callable[[str], None], fails: str, sandbox: OpenSandbox
) -> None:
    doing(fails)
    with pytest.raises(OSError, match="No space left on device") as raised:
        sandbox(scratch).read_image(anything, owner="job_1", clip_size=32)

    assert (raised.value.errno, raised.value.filename) == (errno.ENOSPC, str(scratch))


@pytest.mark.parametrize(
    "answer",
    [
        "return {}",
        "return []",
        "return {'duration_s': 'long', 'warnings': []}",
        "return {'duration_s': 1.0, 'warnings': ['text']}",
        "return {'duration_s': 1.0, 'warnings': [['no_code', 'text']]}",
        "return {'duration_s': 1.0, 'warnings': [['video_damaged', 'text']] * 65}",
        "return {'error': 'SystemExit', 'message': ''}",
        "return {'error': 'MediaInvalidError'}",
        "socket.socket(fileno=channel).send(b'{')\nos._exit(0)",
        "socket.socket(fileno=channel).close()\ntime.sleep(600)",
    ],
)
def test_an_answer_of_another_form_is_an_error_of_its_job(
    anything: Path,
    scratch: Path,
    doing: Callable[[str], None],
    answer: str,
    sandbox: OpenSandbox,
) -> None:
    doing(answer)

    with pytest.raises(MediaInvalidError, match="breaks its decoder"):
        sandbox(scratch).read_frames(anything, owner="job_1", **SIZES)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    "arrays",
    [
        "arrays.append(share(numpy.zeros((1, 31, 32, 3), dtype='uint8')))",
        "arrays.append(share(numpy.zeros((2, 32, 32, 3), dtype='uint8')))",
        "arrays.append(share(numpy.zeros(0, dtype='uint8')))",
        "arrays.append(os.memfd_create('m', os.MFD_ALLOW_SEALING))\nos.write(arrays[0], bytes(32 * 32 * 3))",
        "arrays.append(os.open('f', os.O_RDWR | os.O_CREAT))\nos.write(arrays[0], bytes(32 * 32 * 3))",
        "arrays.append(instruction['descriptors'][0])",
        "arrays.extend(share(numpy.zeros((1, 32, 32, 3), dtype='uint8')) for _ in range(2))",
        "pass",
    ],
    ids=[
        "another size", "more frames", "no frame", "not sealed", "a file", "its own input", "two arrays", "none",
    ],
)  # fmt: skip
def test_pixels_of_another_form_are_an_error_of_their_job(
    anything: Path,
    scratch: Path,
    doing: Callable[[str], None],
    arrays: str,
    sandbox: OpenSandbox,
) -> None:
    box = sandbox(scratch, prestart=True)
    before = len(list(Path("/proc/self/fd").iterdir()))
    doing(f"{arrays}\nreturn {{}}")

    with pytest.raises(MediaInvalidError, match="breaks its decoder"):
        box.read_image(anything, owner="job_1", clip_size=32)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    "make", ["os.symlink({!r}, 'out.video')", "os.link({!r}, 'out.video')", "os.mkdir('out.video')"]
)
def test_a_result_that_leads_to_another_file_is_not_taken(
    anything: Path,
    tmp_path: Path,
    scratch: Path,
    doing: Callable[[str], None],
    make: str,
    sandbox: OpenSandbox,
) -> None:
    doing(make.format(str(anything)) + "\nreturn dict(format='mp4', reencoded=False, warnings=[])")

    with pytest.raises(MediaInvalidError, match="breaks its decoder"):
        sandbox(scratch).mux(anything, SILENCE, tmp_path / "out", owner="job_1", options=SECTION)
    assert not (tmp_path / "out").exists()


def test_a_result_with_another_ending_is_not_taken(
    anything: Path, tmp_path: Path, scratch: Path, doing: Callable[[str], None], sandbox: OpenSandbox
) -> None:
    doing(
        "pathlib.Path('out.video').touch()\n"
        "return dict(format='../x', content_type='text/html', reencoded=False, warnings=[])"
    )
    with pytest.raises(MediaInvalidError, match="breaks its decoder"):
        sandbox(scratch).mux(anything, SILENCE, tmp_path / "out", owner="job_1", options=SECTION)

    doing(
        "pathlib.Path('out.video').touch()\n"
        "return dict(format='webm', content_type='text/html', reencoded=False, warnings=[])"
    )
    result = sandbox(scratch).mux(anything, SILENCE, tmp_path / "out", owner="job_1", options=SECTION)
    assert result.content_type == "video/webm"


def test_a_plan_of_another_form_is_an_error_of_its_job(
    video: Path, scratch: Path, doing: Callable[[str], None], sandbox: OpenSandbox
) -> None:
    box = sandbox(scratch)
    doing("from workers.media import sandbox_actions\nreturn sandbox_actions.perform(instruction)[0]")
    plan = json.loads(json.dumps(box.plan(video, owner="job_1", options=SECTION).to_json()))
    wrong: list[Any] = [
        {},
        None,
        {**plan, "container": "exe"},
        {**plan, "frame_rate": "1/0"},
        {**plan, "frame_rate": "-5"},
        {**plan, "timecode": 5},
        {**plan, "reencoded": "no"},
        {**plan, "tracks": [5]},
        {**plan, "warnings": [5]},
        {**plan, "warnings": [{"code": "no_code", "text": ""}]},
        {**plan, "more": 1},
    ]
    for given in wrong:
        doing(f"return {{'plan': {given!r}}}")
        with pytest.raises(MediaInvalidError, match="breaks its decoder"):
            box.plan(video, owner="job_1", options=SECTION)


def test_a_sound_of_another_form_is_an_error_of_its_job(
    anything: Path, scratch: Path, doing: Callable[[str], None], sandbox: OpenSandbox
) -> None:
    box = sandbox(scratch)
    wrong: list[tuple[dict[str, Any], int, float]] = [
        ({"sample_rate_hz": 0, "layout": "mono"}, 100, 0.0),
        ({"sample_rate_hz": 16_000, "layout": "everywhere"}, 100, 0.0),
        ({"sample_rate_hz": 16_000, "layout": "stereo"}, 101, 0.0),
        ({"sample_rate_hz": 100, "layout": "mono"}, 201, 0.0),
        ({"sample_rate_hz": 16_000, "layout": "mono"}, 100, float("nan")),
        ({"sample_rate_hz": 16_000}, 100, 0.0),
    ]
    for facts, count, value in wrong:
        doing(
            f"arrays.append(share(numpy.full({count}, float('{value}'), dtype='float32')))\n"
            f"return {{**{facts!r}, 'warnings': []}}"
        )
        with pytest.raises(MediaInvalidError, match="breaks its decoder"):
            box.original_sound(anything, owner="job_1", start_s=0.0, duration_s=1.0)


def test_the_process_has_nothing_of_the_workers_environment_and_only_its_own_file(
    anything: Path,
    scratch: Path,
    doing: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    sandbox: OpenSandbox,
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret")
    doing(
        "def is_open(number):\n"
        "    try: return bool(os.fstat(number))\n"
        "    except OSError: return False\n"
        "found = dict(os.environ), os.read(instruction['descriptors'][0], 99), sum(map(is_open, range(3, 4096)))\n"
        "return {'error': 'MediaInvalidError', 'message': repr(found)}"
    )
    with anything.open() as another, pytest.raises(MediaInvalidError) as raised:
        os.set_inheritable(another.fileno(), True)
        sandbox(scratch).read_image(anything, owner="job_1", clip_size=32)
    environment, content, descriptors = eval(str(raised.value))  # written by the code above

    assert "AWS_SECRET_ACCESS_KEY" not in environment
    assert set(environment) <= {"PATH", "LANG", "LC_CTYPE", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
    assert content == b"anything"
    # Behind the three streams: the socket of its answer, and the file.
    assert descriptors == 2


@pytest.mark.parametrize(
    ("attempt", "layer"),
    [
        ("open({canary!r}).read()", "Landlock"),
        ("os.listdir({folder!r})", "Landlock"),
        ("open({folder!r} + '/made', 'w')", "Landlock"),
        ("open('/proc/' + str(os.getppid()) + '/environ').read()", "Landlock"),
        ("open('/etc/passwd').read()", "Landlock"),
        ("socket.create_connection({address!r}, timeout=5)", "a network namespace"),
        ("socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', {address!r})", "a network namespace"),
        ("os.chmod({canary!r}, 0o777)", "seccomp"),
        ("os.fchmod(instruction['descriptors'][0], 0o777)", "seccomp"),
        ("os.fchown(instruction['descriptors'][0], os.getuid(), os.getgid())", "seccomp"),
        ("os.utime({canary!r})", "seccomp"),
        ("os.utime(instruction['descriptors'][0])", "seccomp"),
        ("os.setxattr(instruction['descriptors'][0], 'user.x', b'1')", "seccomp"),
        ("socket.socket(socket.AF_UNIX).connect({unix!r})", "seccomp"),
        ("socket.socketpair()", "seccomp"),
        ("os.kill(os.getppid(), 0)", "seccomp"),
        ("os.fork() or os._exit(0)", "seccomp"),
        ("os.execv('/bin/true', ['true'])", "seccomp"),
        ("call(272, 0)", "seccomp"),
        ("call(101, 16, os.getppid(), 0, 0)", "seccomp"),
        ("call(425, 8, 0)", "seccomp"),
        ("call(0x40000000 + 39)", "seccomp"),
        ("call(56, 0x10000000 | 17, 0, 0, 0, 0) or os._exit(0)", "seccomp"),
        ("call(157, 1, 0, 0, 0, 0)", "seccomp"),
        ("fcntl.fcntl(instruction['descriptors'][0], fcntl.F_SETOWN, os.getppid())", "seccomp"),
        ("resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE)", "seccomp"),
    ],
)
def test_a_process_that_was_taken_over_gets_nowhere(
    anything: Path,
    tmp_path: Path,
    scratch: Path,
    doing: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
    attempt: str,
    layer: str,
    sandbox: OpenSandbox,
) -> None:
    if "call(" in attempt and os.uname().machine != "x86_64":
        pytest.skip("the numbers of the calls are those of x86_64")
    (tmp_path / "canary").write_text("a secret")
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "socket"))
        unix.listen()
        attempt = attempt.format(
            canary=str(tmp_path / "canary"),
            folder=str(tmp_path),
            address=("127.0.0.1", listener.getsockname()[1]),
            unix=str(tmp_path / "socket"),
        )
        doing(
            "import ctypes, fcntl, resource\n"
            "libc = ctypes.CDLL(None, use_errno=True)\n"
            "def call(number, *arguments):\n"
            "    result = libc.syscall(*map(ctypes.c_long, (number, *arguments)))\n"
            "    if result < 0: raise OSError(ctypes.get_errno(), 'refused')\n"
            "    return result\n"
            f"try: {attempt}\nexcept OSError as exc: result = type(exc).__name__\nelse: result = 'got there'\n"
            "return {'error': 'MediaInvalidError', 'message': result}"
        )
        with pytest.raises(MediaInvalidError) as raised:
            sandbox(scratch).read_image(anything, owner="job_1", clip_size=32)

    # Without support of the kernel or container for the layer, which the log names, the attempt may succeed.
    assert (str(raised.value) != "got there") or layer in caplog.text
    assert not (tmp_path / "made").exists() or layer in caplog.text


def test_threads_may_be_started_and_this_process_may_end_itself(
    anything: Path, scratch: Path, doing: Callable[[str], None], sandbox: OpenSandbox
) -> None:
    doing(
        "import threading\n"
        "done = []\n"
        "threads = [threading.Thread(target=done.append, args=(1,)) for _ in range(40)]\n"
        "[thread.start() for thread in threads], [thread.join() for thread in threads]\n"
        "os.kill(os.getpid(), 0)\n"
        f"assert len(done) == 40\n{AN_IMAGE}"
    )
    assert sandbox(scratch).read_image(anything, owner="job_1", clip_size=32).clip.shape == IMAGE_SHAPE


def test_the_number_of_threads_is_limited(
    anything: Path, scratch: Path, doing: Callable[[str], None], sandbox: OpenSandbox
) -> None:
    box = sandbox(scratch)
    doing(
        "import resource\n"
        "found = str(resource.getrlimit(resource.RLIMIT_NPROC))\n"
        "return {'error': 'MediaInvalidError', 'message': found}"
    )
    with pytest.raises(MediaInvalidError) as raised:
        box.read_image(anything, owner="job_1", clip_size=32)
    assert str(raised.value) == f"({MAX_THREADS}, {MAX_THREADS})" or "namespaces" in box.missing_layers()


@pytest.mark.parametrize("layer", list(Layer))
def test_a_worker_learns_what_the_kernel_lacks(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, sandbox: OpenSandbox, layer: Layer
) -> None:
    function = {
        Layer.NAMESPACES: "leave_network", Layer.LANDLOCK: "close_file_system", Layer.SECCOMP: "filter_system_calls"
    }[layer]  # fmt: skip
    lacking = f"from workers.media import sandbox_child; sandbox_child.{function} = lambda *_: False; "
    before = sandbox(scratch, prestart=True).missing_layers()
    monkeypatch.setattr("workers.media.sandbox_client.BOOT", BOOT.replace("from workers", lacking + "from workers", 1))
    box = sandbox(scratch, prestart=True)

    assert set(box.missing_layers()) == {*before, str(layer)}
    assert box.missing_layers() == box.missing_layers()
    assert list(scratch.iterdir()) == []
    assert caplog.text.count("update the kernel") == 1 + bool(before)


def test_stop_ends_what_runs_for_its_owner_and_nothing_else(
    anything: Path,
    tmp_path: Path,
    scratch: Path,
    doing: Callable[[str], None],
    sandbox: OpenSandbox,
) -> None:
    doing(
        "pathlib.Path(str(os.getpid())).touch()\n"
        f"while not os.path.exists({str(tmp_path / 'go on')!r}): time.sleep(0.01)\n"
        f"{AN_IMAGE}"
    )
    box = sandbox(scratch)
    with ThreadPoolExecutor(2) as pool:
        stopped = pool.submit(box.read_image, anything, owner="job_1", clip_size=32)
        other = pool.submit(box.read_image, anything, owner="job_2", clip_size=32)
        try:
            wait_until(lambda: len(pids_left_in(scratch)) == 2, within_s=PATIENCE_S, what="two processes")
            pids = pids_left_in(scratch)
            box.stop("job_3")
            box.stop("job_1")
            assert isinstance(stopped.exception(timeout=PATIENCE_S), SandboxStoppedError)
            assert not other.done()
        finally:
            (tmp_path / "go on").touch()
        assert other.result(timeout=PATIENCE_S).clip.shape == IMAGE_SHAPE
    assert not any(psutil.pid_exists(pid) for pid in pids)
    assert not issubclass(SandboxStoppedError, ModelError), "a stop is no fault of the file"


def test_an_owner_that_was_stopped_may_call_again(
    anything: Path, scratch: Path, doing: Callable[[str], None], sandbox: OpenSandbox
) -> None:
    doing("pathlib.Path(str(os.getpid())).touch()\ntime.sleep(600)")
    box = sandbox(scratch)
    stopper = threading.Thread(
        target=lambda: (
            wait_until(lambda: bool(pids_left_in(scratch)), within_s=PATIENCE_S, what="the process"),
            box.stop("job_1"),
        )
    )
    stopper.start()
    with pytest.raises(SandboxStoppedError):
        box.read_image(anything, owner="job_1", clip_size=32)
    stopper.join()

    doing(AN_IMAGE)
    assert box.read_image(anything, owner="job_1", clip_size=32).clip.shape == IMAGE_SHAPE
