"""Documents that people write: plain YAML, and one sentence for what is wrong with them.

Here: reading and the translation of pydantic's complaints. Not here: any document's own fields (``policy``, and the
requests beside data files).
"""

from __future__ import annotations

from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from resources.failures import InputError


def plain_yaml(text: bytes | str, file: str) -> Any:
    """The document in ``text``.

    Args:
        file: name for the message.

    Raises:
        InputError: it is no YAML, has aliases, or gives a key twice.
    """
    try:
        return yaml.load(text, _Plain)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        raise InputError(
            file,
            f"line {mark.line + 1}" if mark else "file",
            "it is not valid YAML" + (f" ({problem})" if problem else ""),
            "write one `key: value` per line",
        ) from None


class _Plain(yaml.SafeLoader):
    """YAML without aliases (a few lines of them unfold to gigabytes) and without a key given twice."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", event.start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for position, (key, _) in enumerate(node.value):
            if key.value in keys[:position]:
                raise yaml.constructor.ConstructorError(None, None, "a key is given twice", key.start_mark)
        return super().construct_mapping(node, deep)


def input_error(file: str, error: ValidationError, model: type[BaseModel]) -> InputError:
    """One sentence from pydantic's first complaint, naming the key and what would be right."""
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"]) or "document"
    if first["type"] == "extra_forbidden":
        known = sorted(_model_at(model, first["loc"][:-1]).model_fields)
        return InputError(file, key, "this key is unknown", f"use one of {', '.join(known)}")
    if first["type"] == "missing":
        return InputError(file, key, "it is missing", f"add {key}")
    if first["type"] == "json_invalid":
        what, _, place = str(first["ctx"]["error"]).rpartition(" at ")
        return InputError(file, place, f"it is not valid JSON ({what})", "write one JSON object")
    said = first["msg"].removeprefix("Value error, ")
    named = said.split()[0].rstrip(":")
    if not first["loc"] and named.split(".")[0] in model.model_fields:
        # the whole document's own check: its words begin with the key
        key, said = named, said.removeprefix(f"{named}: ")
    # a mapping would be repeated as Python writes it
    shown = "" if isinstance(first["input"], dict) else f" (it is {repr(first['input'])[:100]})"
    return InputError(file, key, f"{said[0].lower()}{said[1:]}{shown}", f"correct {key}")


def _model_at(model: type[BaseModel], place: tuple[int | str, ...]) -> type[BaseModel]:
    """The model whose keys are expected at ``place`` of a document."""
    for part in place:
        if part in model.model_fields:
            model = next(iter(_models_in(model.model_fields[str(part)].annotation)), model)
    return model


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for argument in get_args(annotation) for found in _models_in(argument)]
