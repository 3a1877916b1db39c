"""The base of every typed setting: frozen, strict, no unknown keys, every problem of a file in one message."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, ValidationError, model_serializer

from curation.errors import ConfigError, Problem, did_you_mean


class Settings(BaseModel):
    """Base class of job files, filter settings and rulesets. Defaults live in the subclass beside their source."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, validate_default=True)


class GrownSettings(Settings):
    """Settings that got fields after runs had been made with them.

    Such a field is not written out while it has its default: the fingerprints of those runs stay what they were.
    """

    later: ClassVar[frozenset[str]] = frozenset()

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found: dict[str, Any] = write(self)
        fields = type(self).model_fields
        unused = {name for name in self.later if getattr(self, name) == fields[name].default}
        return {name: value for name, value in found.items() if name not in unused}


S = TypeVar("S", bound=Settings)


def parse(settings_type: type[S], data: Mapping[str, Any], where: str, of: str) -> S:
    """`data` as `settings_type`.

    Args:
        where: the place to name in an error: a file, or file + key path.
        of: what the settings are of, as the reader would say it: ``filter `c4` ``, ``this job``.

    Raises:
        ConfigError: every problem of `data`, each with value, place, expectation and a near name.
    """
    try:
        # Lists from YAML are accepted for tuple fields: YAML has no tuples, strict mode would refuse them all.
        return settings_type.model_validate(_tuples(data))
    except ValidationError as error:
        raise ConfigError(*problems_of(error, settings_type, where, of)) from None


def problems_of(error: ValidationError, settings_type: type[BaseModel], where: str, of: str) -> list[Problem]:
    """One `Problem` for each line of a pydantic error."""
    found = []
    places = [item["loc"] for item in error.errors()]
    for item in error.errors():
        if item["type"] == "too_short" and any(place[: len(item["loc"])] == item["loc"] != place for place in places):
            continue  # the list is not empty: what stands in it is wrong, and said by itself
        path = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            key = str(item["loc"][-1])
            known = known_keys(settings_type, item["loc"][:-1])
            found.append(
                Problem(
                    "unknown-key",
                    f"`{key}` is not a setting of {of}",
                    f"{where}: {path} (got {item['input']!r})",
                    f"one of: {', '.join(known)}",
                    did_you_mean(key, known),
                )
            )
        elif item["type"] == "missing":
            found.append(Problem("missing-key", f"`{path}` is missing from {of}", where))
        else:
            found.append(
                Problem("bad-value", f"`{path}` of {of}: {item['msg']}", f"{where}: {path} (got {item['input']!r})")
            )
    return found


def known_keys(settings_type: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The keys allowed at `path` inside `settings_type`, empty when the path leaves the typed part."""
    current: Any = settings_type
    for part in path:
        fields = getattr(current, "model_fields", {})
        field = fields.get(part) or next((f for f in fields.values() if f.alias == part), None)
        if field is not None:  # else an index of a list or the branch of a union: the model is the one found already
            current = _model_in(field.annotation)
    fields = getattr(current, "model_fields", {})
    return sorted(field.alias or name for name, field in fields.items())


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The settings class inside `tuple[str | Settings, ...]` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _model_in(part)) is not None), None)


def _tuples(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _tuples(item) for key, item in value.items()}
    if isinstance(value, list):
        return tuple(_tuples(item) for item in value)
    return value
