"""The shared S3 client in forked processes, and the processes that never need one."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import traceback
import uuid
from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from jobs.storage.s3 import client as module
from jobs.storage.s3.client import ClientOptions, s3_client
from jobs.storage.s3.store import S3Store

WITHOUT_BOTO3 = (
    "api.app",
    "jobs.cli.doctor",
    "jobs.triggers.rule",
    "workers.maintenance.control",
    "workers.runner.executor",
    "workers.worker_process",
)


def in_a_fork(check: Callable[[], None]) -> int:
    """Run a check in a forked child; return its exit status."""
    child = os.fork()
    if child == 0:
        try:
            check()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # Python 3.12 warns of forks with threads: what is tested
def test_a_forked_child_uses_a_client_of_its_own(s3_endpoint: str, tmp_path: Path) -> None:
    bucket = f"bucket-{uuid.uuid4().hex}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=bucket)
    options = ClientOptions(s3_endpoint, addressing_style="path")
    store, parents = S3Store(f"s3://{bucket}", options), s3_client(options)
    store.check()  # the parent's client has a connection
    (tmp_path / "x").write_bytes(b"sound")

    def check() -> None:
        store.put_file("x", tmp_path / "x", content_type="a/b")
        assert s3_client(options) is not parents

    assert in_a_fork(check) == 0
    assert s3_client(options) is parents
    assert list(store.list_keys("")) == ["x"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_while_a_client_is_built_leaves_the_child_able_to_build_one() -> None:
    release, held = threading.Event(), threading.Event()

    def build() -> None:
        with module._lock:
            held.set()
            release.wait()

    thread = threading.Thread(target=build)
    thread.start()
    held.wait()
    try:
        assert in_a_fork(lambda: s3_client(ClientOptions("http://127.0.0.1:9", "us-east-1"))) == 0
    finally:
        release.set()
        thread.join()


def test_a_platform_on_a_folder_never_imports_boto3() -> None:
    imports = "; ".join(f"import {name}" for name in WITHOUT_BOTO3)
    code = f"import sys; {imports}; assert 'boto3' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
