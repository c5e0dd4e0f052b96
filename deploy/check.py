"""Lints Dockerfiles and the compose file without a container engine; `make lint` calls it. Exit status 1: problems.

Checks that every COPY source exists and .dockerignore includes it, that images are pinned, that containers do not run
as root, that the compose file's services and volumes resolve, that every setting exists, and that ports are published
on loopback only.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import yaml

from jobs.settings import Settings

ROOT = Path(__file__).resolve().parent.parent
KNOWN_INSTRUCTIONS = {
    "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN", "STOPSIGNAL", "USER", "VOLUME",
    "WORKDIR",
}  # fmt: skip
SETTINGS = {f"MMAUDIO_{name.upper()}" for name in Settings.model_fields}


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return (instruction, arguments) pairs with continued lines joined and comments dropped."""
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [
        (word.upper(), rest.strip())
        for word, _, rest in (line.strip().partition(" ") for line in lines if line.strip())
    ]


def check_dockerfile(path: Path) -> list[str]:
    """Return the problems of a Dockerfile."""
    found = instructions(path)
    problems = [f"unknown instruction {word}" for word, _ in found if word not in KNOWN_INSTRUCTIONS]
    if not found or found[0][0] not in {"FROM", "ARG"}:
        problems.append("does not begin with FROM or ARG")
    included = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for word, rest in found:
        if word == "FROM" and ":" not in rest.split()[0]:
            problems.append(f"image without a tag: {rest}")
        if word == "COPY" and not rest.startswith("--from"):
            for source in rest.split()[:-1]:
                if not (ROOT / source).exists():
                    problems.append(f"COPY of {source}, which does not exist")
                if source.strip("./") not in included:
                    problems.append(f"COPY of {source}, which .dockerignore excludes")
        if word == "ENV":
            problems += [
                f"unknown setting {name}" for name in re.findall(r"\bMMAUDIO_\w+", rest) if name not in SETTINGS
            ]
    users = [rest for word, rest in found if word == "USER"]
    if not users or users[-1] in {"root", "0"}:
        problems.append("runs as root: set USER")
    return problems


def check_compose(path: Path) -> list[str]:
    """Return the problems of a compose file and its `.env.example`."""
    document: dict[str, Any] = yaml.safe_load(path.read_text())
    services: dict[str, Any] = document["services"]
    volumes = set(document.get("volumes", {}))
    problems = []
    for name, service in services.items():
        if "image" not in service and "build" not in service:
            problems.append(f"{name}: neither image nor build")
        if "image" in service and ":" not in service["image"]:
            problems.append(f"{name}: image without a tag")
        for other in service.get("depends_on", {}):
            if other not in services:
                problems.append(f"{name}: depends on {other}, which is not a service")
        for port in service.get("ports", []):
            if not str(port).startswith("127.0.0.1:"):
                problems.append(f"{name}: publishes {port}; publish it on 127.0.0.1")
        for volume in service.get("volumes", []):
            source = re.sub(r"\$\{[^}]*\}", "./variable", str(volume)).split(":")[0]
            if not source.startswith((".", "/")) and source not in volumes:
                problems.append(f"{name}: volume {source} is not declared")
        for setting in service.get("environment", {}):
            if setting.startswith("MMAUDIO_") and setting not in SETTINGS:
                problems.append(f"{name}: unknown setting {setting}")
        if isinstance(service.get("build"), dict):
            dockerfile = (path.parent / service["build"]["context"] / service["build"]["dockerfile"]).resolve()
            if not dockerfile.is_file():
                problems.append(f"{name}: {dockerfile} does not exist")
    example = {line.split("=")[0] for line in (path.parent / ".env.example").read_text().splitlines() if "=" in line}
    needed = set(re.findall(r"\$\{(\w+)", path.read_text()))
    problems += [f"variable {name} is not in .env.example" for name in sorted(needed - example)]
    return problems


def main() -> int:
    """Check every file; return the exit status."""
    reports = {path: check_dockerfile(path) for path in sorted((ROOT / "deploy/docker").glob("*.Dockerfile"))}
    reports |= {path: check_compose(path) for path in sorted((ROOT / "deploy/compose").glob("*.yaml"))}
    for path, problems in reports.items():
        for problem in problems:
            sys.stderr.write(f"{path.relative_to(ROOT)}: {problem}\n")
    return 1 if any(reports.values()) or not reports else 0


if __name__ == "__main__":
    sys.exit(main())
