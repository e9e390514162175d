"""Every sentence with which the code says that something is wrong; … stands for what varies.

``docs/how-to/troubleshooting.md`` explains each, and a test compares the two.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
VARYING = "…"
#: Functions, and exceptions of others, with an argument for the user, and which it is.
SAYING = {"warning": 0, "refuse": 0, "say": 0, "not_uploaded": 1, "UsageError": 0}


def messages() -> set[str]:
    """All of them."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "src").rglob("*.py")]
    trees += [ast.parse(path.read_text()) for path in (ROOT / "workflow").rglob("*.py")]
    trees += [ast.parse(_calls(path.read_text())) for path in (ROOT / "workflow").rglob("*.smk")]
    speakers = SAYING | dict.fromkeys(_exceptions(trees), 0)
    calls = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call)]
    found = {
        template(node.args[which])
        for node in calls
        if (which := speakers.get(_name(node.func), len(node.args))) < len(node.args)
    }
    # What only hands on the words of somebody else has none of its own.
    return {text for text in found if re.search(r"\w", text.replace(VARYING, ""))}


def template(node: ast.expr) -> str:
    """A literal or an f-string, with … for what varies."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.JoinedStr(values=parts):
            texts = [part.value if isinstance(part, ast.Constant) else VARYING for part in parts]
            return re.sub(f"{VARYING}+", VARYING, "".join(map(str, texts)))
        case ast.Call(func=ast.Attribute(value=inner)):
            return template(inner)
    return VARYING


def _exceptions(trees: list[ast.Module]) -> set[str]:
    """The names of all classes that are exceptions."""
    bases = {
        node.name: {_name(base) for base in node.bases}
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    found = {"Exception"}
    while more := {name for name, above in bases.items() if above & found} - found:
        found |= more
    return found - {"Exception"}


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _calls(snakefile: str) -> str:
    """The calls of `refuse` in a file that Python cannot read as a whole."""
    return "\n".join(_first_call(snakefile[match.start() :]) for match in _REFUSALS(snakefile))


_REFUSALS = re.compile(r"(?<!def )\brefuse\(").finditer


def _first_call(text: str) -> str:
    for end in (match.end() for match in re.finditer(r"\)", text)):
        try:
            ast.parse(text[:end])
        except SyntaxError:
            continue
        return text[:end]
    raise ValueError(text[:80])


if __name__ == "__main__":
    print("\n".join(sorted(messages())))
