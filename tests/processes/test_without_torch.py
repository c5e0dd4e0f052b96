"""The API, the domain, the client and the migrations import, and the API answers, where torch cannot be imported."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

HEAVY = ("torch", "torchvision", "open_clip", "numpy", "av", "PIL", "mmaudio_model", "workers")


def run_without(program: str, tmp_path: Path) -> str:
    """Run a program in an interpreter that has none of the heavy packages."""
    guard = f"""
        import sys
        class Absent:
            def find_spec(self, name, path=None, target=None):
                if name.partition(".")[0] in {HEAVY!r}:
                    raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
        sys.meta_path.insert(0, Absent())
    """
    code = textwrap.dedent(guard) + textwrap.dedent(program)
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd()), "MMAUDIO_DATA_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_module_of_api_jobs_and_client_imports_without_torch(tmp_path: Path) -> None:
    out = run_without(
        """
        import importlib, pkgutil
        count = 0
        for name in ("api", "jobs", "mmaudio_client"):
            package = importlib.import_module(name)
            for found in pkgutil.walk_packages(package.__path__, name + "."):
                if not found.name.endswith("__main__"):
                    importlib.import_module(found.name)
                    count += 1
        for name in ("migrations.cli", "migrations.upgrade"):
            importlib.import_module(name)
        print(count)
        """,
        tmp_path,
    )
    assert int(out) > 40


def test_the_api_migrates_and_answers_without_torch(tmp_path: Path) -> None:
    out = run_without(
        """
        from migrations.upgrade import upgrade
        from jobs.settings_loading import load_settings
        from api.app import create_app
        settings = load_settings()
        upgrade(settings.database_url)
        class NoQueue:
            def publish(self, job_ids, *, variant): pass
            def enqueued_job_ids(self, variant): return set()
        client = create_app(settings, broker=NoQueue()).test_client()
        print(client.post("/v1/jobs", json={"prompt": "rain"}).status_code)
        """,
        tmp_path,
    )
    assert out.split()[-1] == "202"


def test_asking_for_the_status_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from mmaudio_client.cli import main\n"
        "try: main(['status', 'job_x', '--api-url', 'http://127.0.0.1:9', '--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'sqlalchemy', 'flask', 'celery'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_command_whose_extra_is_missing_says_how_to_get_it(tmp_path: Path) -> None:
    out = run_without(
        """
        from click.testing import CliRunner
        from mmaudio_client.cli import main
        print(CliRunner().invoke(main, ["generate"]).output)
        """,
        tmp_path,
    )
    assert "pip install 'mmaudio-platform[worker]'" in out
