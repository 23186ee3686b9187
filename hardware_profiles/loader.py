"""Read profiles from YAML, resolve `extends`, and refuse what is wrong with file and key."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from hardware_profiles.features import KNOWN
from hardware_profiles.schema import Profile, near_misses

FOLDER = Path(__file__).parent
OWN_KEYS = ("name", "title", "extends", "abstract", "verified", "sources", "reference_latencies")
"""Keys that speak of one profile only, so its children don't inherit them."""

Raw = dict[str, Any]


class ProfileError(ValueError):
    """A profile file that can't be used; the message names file and key."""


def load_profiles(folder: Path = FOLDER) -> dict[str, Profile]:
    """Read every profile that is not abstract, by name.

    Raises:
        ProfileError: every problem of every file, one a line.
    """
    return dict(_load(folder))


@cache
def _load(folder: Path) -> dict[str, Profile]:
    problems: list[str] = []
    raws = _read_all(folder, problems)
    profiles = {name: profile for name in raws if (profile := _build(name, raws, problems))}
    if problems:
        raise ProfileError("\n".join(problems))
    return {name: profile for name, profile in profiles.items() if not profile.abstract}


def lint(files: Sequence[Path] = (), folder: Path = FOLDER) -> list[str]:
    """List every problem of profile files: unknown keys, impossible features, circles of inheritance, and the rest.

    Args:
        files: files to look at, read beside those of the folder, which they may extend or replace; none: all of it.
        folder: where the profiles are.
    """
    problems: list[str] = []
    raws = _read_all(folder, problems)
    if files:
        problems.clear()
        raws |= _read_each(files, problems)
    names = [path.stem for path in files] if files else list(raws)
    for name in names:
        if name in raws:
            _build(name, raws, problems)
    return list(dict.fromkeys(problems))


def json_schema() -> dict[str, Any]:
    """Describe a profile file as JSON schema, for editors: what a parent may give is not required."""
    schema = Profile.model_json_schema()
    names = sorted(frozenset().union(*KNOWN.values()))
    cpu, identity = (schema["$defs"][section]["properties"] for section in ("Cpu", "IdentityEvidence"))
    for properties, key in (
        *((cpu, key) for key in ("features_required", "features_forbidden")),
        *((identity, key) for key in ("features", "features_absent")),
    ):
        properties[key]["items"] = {"enum": names, "type": "string"}
    schema["required"] = ["name", "title", "sources"]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def _read_each(files: Iterable[Path], problems: list[str]) -> dict[str, Raw]:
    raws = {}
    for path in files:
        try:
            raws[path.stem] = _read(path)
        except ProfileError as exc:
            problems.append(str(exc))
    return raws


def _read_all(folder: Path, problems: list[str]) -> dict[str, Raw]:
    return _read_each(sorted(folder.glob("*.yaml")), problems)


def _read(path: Path) -> Raw:
    try:
        raw = _StrictLoader(path.read_text(encoding="utf-8")).get_single_data()
    except OSError as exc:
        raise ProfileError(f"{path}: can't be read: {exc.strerror}") from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ProfileError(f"{path.name}: not readable as YAML: {' '.join(str(exc).split())}") from exc
    if not isinstance(raw, dict):
        raise ProfileError(f"{path.name}: a mapping of keys is expected")
    if raw.get("name") != path.stem:
        raise ProfileError(f"{path.name}: name: is {raw.get('name')!r}; it must be the file's name, {path.stem!r}")
    return raw


def _build(name: str, raws: Mapping[str, Raw], problems: list[str]) -> Profile | None:
    try:
        return Profile.model_validate(_resolve(name, raws))
    except ProfileError as exc:
        problems.append(str(exc))
    except ValidationError as exc:
        problems.extend(_explain(name, dict(error)) for error in exc.errors(include_url=False))
    return None


def _resolve(name: str, raws: Mapping[str, Raw]) -> Raw:
    """Merge a profile over its ancestors, the farthest first."""
    chain = _chain(name, raws)
    merged: Raw = {}
    for ancestor in reversed(chain[1:]):
        merged = _merge(merged, {key: value for key, value in raws[ancestor].items() if key not in OWN_KEYS})
    return _merge(merged, raws[name])


def _chain(name: str, raws: Mapping[str, Raw]) -> list[str]:
    chain = [name]
    while parent := raws[chain[-1]].get("extends"):
        if parent not in raws:
            hint = near_misses(str(parent), raws)
            meant = f"; did you mean {' or '.join(hint)}?" if hint else ""
            raise ProfileError(f"{chain[-1]}.yaml: extends: there is no profile {parent!r}{meant}")
        if parent in chain:
            raise ProfileError(f"{name}.yaml: extends: inheritance goes in a circle: {' -> '.join([*chain, parent])}")
        chain.append(parent)
    return chain


def _merge(base: Raw, over: Mapping[str, Any]) -> Raw:
    """Merge mappings by key; anything else replaces, but required features add up."""
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            merged[key] = _merge(old, value)
        elif key == "features_required" and isinstance(old, list) and isinstance(value, list):
            merged[key] = list(dict.fromkeys([*old, *value]))
        else:
            merged[key] = value
    return merged


def _explain(name: str, error: Mapping[str, Any]) -> str:
    where = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"{name}.yaml: {where}: unknown key{_meant(error['loc'])}"
    if error["type"] == "value_error":
        return f"{name}.yaml: {where}{': ' if where else ''}{error['ctx']['error']}"
    return f"{name}.yaml: {where}: {error['msg']} (found {error['input']!r})"


def _meant(location: tuple[int | str, ...]) -> str:
    section: Any = Profile
    for part in location[:-1]:
        field = getattr(section, "model_fields", {}).get(part)
        section = field.annotation if field else None
    close = near_misses(str(location[-1]), getattr(section, "model_fields", {}))
    return f"; did you mean {' or '.join(close)}?" if close else ""


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML in which a key may appear once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key_node.value!r} stands twice", key_node.start_mark
                )
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)
