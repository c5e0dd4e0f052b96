"""The two distributions: what their wheels contain, and the client in an environment that has nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
import zipfile
from email.parser import Parser
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
FEWER_THAN_PACKAGES = 15
LESS_THAN_BYTES = 15_000_000
SERVER_PACKAGES = ("flask", "sqlalchemy", "boto3", "celery", "redis", "pydantic", "torch", "jobs", "api", "workers")


def build(folder: Path, kind: str, into: Path) -> Path:
    """Build a wheel as pip does, with the build back end of this environment."""
    into.mkdir(parents=True)
    code = f"import hatchling.build; print(hatchling.build.build_{kind}({str(into)!r}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return into / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("wheels")
    return {
        "client": build(ROOT / "mmaudio_client", "wheel", folder / "client"),
        "platform": build(ROOT, "wheel", folder / "platform"),
        "editable": build(ROOT, "editable", folder / "editable"),
    }


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as opened:
        return {name: opened.read(name) for name in opened.namelist()}


def metadata_file(wheel: Path, name: str) -> str:
    return next((text.decode() for path, text in contents(wheel).items() if path.endswith(f".dist-info/{name}")), "")


def requirements(wheel: Path) -> list[Requirement]:
    found = Parser().parsestr(metadata_file(wheel, "METADATA")).get_all("Requires-Dist") or []
    return [Requirement(one) for one in found]


def test_no_file_and_no_command_belongs_to_both_distributions(wheels: dict[str, Path]) -> None:
    assert not set(contents(wheels["client"])) & set(contents(wheels["platform"]))
    assert all(name.startswith(("mmaudio_client/", "mmaudio_client-")) for name in contents(wheels["client"]))
    assert "mmaudio = mmaudio_client.cli:main" in metadata_file(wheels["client"], "entry_points.txt")
    assert "console_scripts" not in metadata_file(wheels["platform"], "entry_points.txt")


def test_a_wheel_of_the_platform_needs_the_client_of_its_version(wheels: dict[str, Path]) -> None:
    (needed,) = [str(one) for one in requirements(wheels["platform"]) if one.name == "mmaudio-client"]
    assert needed == f"mmaudio-client=={wheels['client'].name.split('-')[1]}"


def test_an_editable_install_is_whole_by_itself(wheels: dict[str, Path]) -> None:
    assert "mmaudio-client" not in {one.name for one in requirements(wheels["editable"])}
    assert "mmaudio = mmaudio_client.cli:main" in metadata_file(wheels["editable"], "entry_points.txt")
    (paths,) = [text.decode().split() for name, text in contents(wheels["editable"]).items() if name.endswith(".pth")]
    assert set(paths) == {str(ROOT)}


def test_every_module_of_the_client_is_in_its_wheel(wheels: dict[str, Path]) -> None:
    modules = {str(path.relative_to(ROOT)) for path in (ROOT / "mmaudio_client").rglob("*.py")}
    assert modules | {"mmaudio_client/py.typed"} == {
        name for name in contents(wheels["client"]) if name.startswith("mmaudio_client/")
    }


def test_the_wheels_hold_no_address_of_the_machine_that_built_them(wheels: dict[str, Path]) -> None:
    for kind in ("client", "platform"):
        assert not [one for one in requirements(wheels[kind]) if one.url is not None]
        found = [name for name, text in contents(wheels[kind]).items() if str(ROOT).encode() in text]
        assert not found, kind


@pytest.fixture(scope="module")
def light(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """An environment with the client and what it needs; the names of the distributions that it took.

    The files of its dependencies come from the environment of the tests, so that no package index is needed.
    """
    folder = tmp_path_factory.mktemp("light") / "venv"
    venv.create(folder, with_pip=False, symlinks=True)
    packages = next((folder / "lib").glob("python3*")) / "site-packages"
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python")]
    install = ["install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", str(wheels["client"])]
    subprocess.run([*pip, *install], check=True, capture_output=True)
    wanted, taken = requirements(wheels["client"]), {"mmaudio-client"}
    while wanted:
        one = wanted.pop()
        if one.name in taken or not (one.marker is None or one.marker.evaluate({"extra": ""})):
            continue
        taken.add(one.name)
        found = distribution(one.name)
        copy_files(found, packages)
        wanted += [Requirement(text) for text in found.requires or ()]
    # As pip does: it compiles what it installs.
    subprocess.run([folder / "bin" / "python", "-m", "compileall", "-q", packages], check=True, capture_output=True)
    return folder, sorted(taken)


def copy_files(found: Distribution, packages: Path) -> None:
    for file in found.files or ():
        if ".." in file.parts or file.suffix == ".pyc":
            continue
        target = packages / file
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(file.read_binary())


def run(light: tuple[Path, list[str]], *command: str) -> subprocess.CompletedProcess[str]:
    program, *arguments = command
    return subprocess.run(
        [str(light[0] / "bin" / program), *arguments], capture_output=True, text=True, check=False, env={}, cwd=light[0]
    )


def test_the_client_is_small(light: tuple[Path, list[str]]) -> None:
    folder, taken = light
    assert len(taken) < FEWER_THAN_PACKAGES, taken
    size = sum(path.stat().st_size for path in (folder / "lib").rglob("*") if path.is_file())
    assert size < LESS_THAN_BYTES, size


def test_the_client_imports_and_has_nothing_of_the_server(light: tuple[Path, list[str]]) -> None:
    code = (
        "import importlib.util as util, mmaudio_client\n"
        f"assert not [name for name in {SERVER_PACKAGES!r} if util.find_spec(name)]\n"
        "print(mmaudio_client.__version__, mmaudio_client.Client('http://127.0.0.1:1').base_url)"
    )
    done = run(light, "python", "-W", "error", "-c", code)
    assert done.stdout.split()[-1] == "http://127.0.0.1:1", done.stderr


def test_the_command_has_the_commands_of_the_client_alone(light: tuple[Path, list[str]]) -> None:
    shown = run(light, "mmaudio", "--help").stdout
    commands = shown.partition("Commands:")[2]
    assert "\n  submit " in commands
    assert "\n  api " not in commands
    assert run(light, "mmaudio", "--version").stdout.startswith("mmaudio, version ")


@pytest.mark.parametrize(("name", "package"), [("api", "mmaudio-platform"), ("up", "'mmaudio-platform[worker]'")])
def test_a_command_of_the_server_says_what_to_install(light: tuple[Path, list[str]], name: str, package: str) -> None:
    done = run(light, "mmaudio", name)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(f"Install the server with: pip install {package}")


def test_the_mcp_server_says_which_extra_it_needs(light: tuple[Path, list[str]]) -> None:
    done = run(light, "mmaudio", "mcp")
    assert done.returncode == 2
    assert done.stderr.strip().endswith("Install it with: pip install 'mmaudio-client[mcp]'")


def test_a_script_gets_that_as_json(light: tuple[Path, list[str]]) -> None:
    done = run(light, "mmaudio", "doctor", "--json")
    assert done.returncode == 2
    assert json.loads(done.stderr)["error"]["code"] == "not_installed"
