"""Put the profile ``s3`` where ``snakemake --profile s3`` finds it.

A registered profile belongs to the user: it is replaced only where it is, to
the letter, what an earlier registration wrote.
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from snakemake.common import get_appdirs

SOURCE = Path(__file__).parent.parent / "profiles/s3/profile.yaml"
MARK = "# Registered by snakemake-storage-plugin-s3fuse; set-up leaves it alone once it is edited: "


def stamped(text: str) -> str:
    """Put a line with the digest of a profile in front of it."""
    return f"{MARK}{hashlib.sha256(text.encode()).hexdigest()[:16]}\n{text}"


def is_ours(text: str) -> bool:
    """Whether this is what a registration wrote, unchanged since."""
    first, _, rest = text.partition("\n")
    return first.startswith(MARK) and stamped(rest) == text


def register(source: Path, target: Path) -> bool:
    """Write a profile, unless one that is not ours is there.

    Parameters
    ----------
    source : Path
        The profile of the project.
    target : Path
        Where the user's profile is, or will be.

    Returns
    -------
    bool
        Whether the user now has this profile.
    """
    text = stamped(source.read_text())
    # Snakemake takes a config.yaml in the folder for a profile, too.
    others = [path for path in target.parent.glob("*.yaml") if path != target]
    if others or (target.exists() and not is_ours(target.read_text())):
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return True


def registered_profile() -> str:
    """Register the profile, and name the one to use: ours by its path where the user has another.

    Returns
    -------
    str
        What to give to ``snakemake --profile``.
    """
    target = Path(get_appdirs().user_config_dir) / "s3" / SOURCE.name
    if register(SOURCE, target):
        return "s3"
    print(
        f"{target.parent} holds a profile of your own, which is left as it is; "
        f"using {SOURCE.parent} instead.",
        file=sys.stderr,
    )
    return str(SOURCE.parent)


if __name__ == "__main__":
    print(registered_profile())
