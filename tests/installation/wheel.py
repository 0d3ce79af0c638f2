"""The wheel of this checkout, and a clean environment that it is installed in."""

import re
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
UV: Final = Path(sys.executable).with_name("uv")
SHIPPED: Final = {"domain": "domain", "projections": "projections", "api": "api"} | {
    "deploy": "api/recipes"
}
"""Where the checkout's directories are in the wheel."""


def built(into: Path) -> Path:
    """Build the wheel with the build back end of the pins, and without the network."""
    run(
        [
            UV,
            "build",
            "-q",
            "--wheel",
            "--no-build-isolation",
            "--python",
            sys.executable,
            "--out-dir",
            into,
            ROOT,
        ]
    )
    (wheel,) = into.glob("*.whl")
    return wheel


def files(wheel: Path) -> set[str]:
    """What the wheel brings, without what it says of itself."""
    with zipfile.ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def tracked() -> Mapping[str, str]:
    """Each file of the shipped directories, with its place in the wheel."""
    command = ["git", "ls-files", "-co", "--exclude-standard", *SHIPPED]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return {
        name: f"{SHIPPED[name.split('/')[0]]}/{name.partition('/')[2]}"
        for name in listed.splitlines()
        if (ROOT / name).is_file()
    }


def installed(wheel: Path, environment: Path) -> Path:
    """A virtual environment with the pins and the wheel; the directory of its commands.

    The pins come from the cache of uv where it has them, and from the registry otherwise.
    """
    python = environment / "bin" / "python"
    run([UV, "venv", "-q", "--python", sys.executable, environment])
    pins: list[str | Path] = [UV, "pip", "install", "-q", "--python", python, "--require-hashes"]
    pins += ["-r", ROOT / "requirements.txt"]
    if subprocess.run([*pins, "--offline"], capture_output=True, check=False).returncode != 0:
        run(pins)
    run([UV, "pip", "install", "-q", "--offline", "--no-deps", "--python", python, wheel])
    return python.parent


def constraints(into: Path) -> Path:
    """The pins for tools that resolve by themselves: without hashes, for the wheel has none."""
    pins = re.findall(
        r"^[\w.-]+==[^ \\]+", (ROOT / "requirements.txt").read_text("utf-8"), re.MULTILINE
    )
    path = into / "constraints.txt"
    path.write_text("\n".join(pins) + "\n", "utf-8")
    return path


def run(command: list[str | Path], **options: object) -> str:
    """What a command prints that goes well."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, **options
    )  # type: ignore[call-overload]
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return str(done.stdout)
