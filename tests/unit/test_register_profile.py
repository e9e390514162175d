from pathlib import Path

import pytest
import yaml

from register_profile import SOURCE, register


def test_registered_and_renewed_while_nobody_has_edited_it(tmp_path: Path) -> None:
    source, target = tmp_path / "profile.yaml", tmp_path / "config/s3/profile.yaml"
    source.write_text("cores: all\n")
    assert register(source, target)
    assert yaml.safe_load(target.read_text()) == {"cores": "all"}
    source.write_text("cores: 2\n")
    assert register(source, target)
    assert yaml.safe_load(target.read_text()) == {"cores": 2}


@pytest.mark.parametrize("name", ["profile.yaml", "config.yaml", "config.v9+.yaml"])
def test_a_profile_of_the_user_is_left_alone(tmp_path: Path, name: str) -> None:
    own = tmp_path / "s3" / name
    own.parent.mkdir()
    own.write_text("cores: 1\n")
    assert not register(SOURCE, tmp_path / "s3/profile.yaml")
    assert own.read_text() == "cores: 1\n"
    assert [path.name for path in own.parent.iterdir()] == [name]


def test_an_edited_profile_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "s3/profile.yaml"
    assert register(SOURCE, target)
    with target.open("a") as file:
        file.write("storage-s3fuse-endpoint-url: https://s3.example.org\n")
    edited = target.read_text()
    assert not register(SOURCE, target)
    assert target.read_text() == edited
