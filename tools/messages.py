"""Every sentence with which the code says that something is wrong; … stands for what varies.

``docs/how-to/troubleshooting.md`` explains each, and a test compares the two.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
VARYING = "…"
#: Functions whose argument is for the user.
SAYING = {"warning", "refuse", "say"}
#: Exceptions of others whose text is for the user.
SAID_BY_OTHERS = {"UsageError"}


def messages() -> set[str]:
    """All of them."""
    trees = [ast.parse(path.read_text()) for path in (ROOT / "src").rglob("*.py")]
    trees += [ast.parse(path.read_text()) for path in (ROOT / "workflow/scripts").rglob("*.py")]
    trees += [ast.parse(_calls(path.read_text())) for path in (ROOT / "workflow").rglob("*.smk")]
    speakers = SAYING | SAID_BY_OTHERS | _exceptions(trees)
    found = {
        template(node.args[0])
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and node.args and _name(node.func) in speakers
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
