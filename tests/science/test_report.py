"""What the workflow hands to Snakemake's report: texts of the configuration do no harm there."""

from __future__ import annotations

import ast
import html
import json
from types import SimpleNamespace
from typing import Any

import docutils.core
import jinja2
import pytest

import job
from conftest import ROOT

CAPTIONS = ROOT / "workflow/report"
HOSTILE = [
    "<script>alert(1)</script>",
    "</script><img src=x onerror=alert(1)>",
    "A\n\n.. raw:: html\n\n   <script>alert(1)</script>",
    "A\n\n.. include:: /etc/passwd\n",
    "`x <javascript:alert(1)>`_ and x_ and |x| and *x* and ``x``",
    "1. Two`x`_",
    "&lt;b&gt; & Söhne",
    "back\\slash {{ 7 * 7 }} {% raw %}",
]


def escaped(value: Any) -> Any:
    """Call the function of the rules, which is no module."""
    tree = ast.parse((ROOT / "workflow/rules/common.smk").read_text())
    (function,) = (node for node in tree.body if getattr(node, "name", "") == "escaped")
    names: dict[str, Any] = {"html": html}
    exec(compile(ast.Module([function], []), "common.smk", "exec"), names)
    return names["escaped"](value)


def rendered(name: str, title: str, key: str) -> str:
    """Render a caption in the way that Snakemake does it."""
    found = {"name": key, "etag": key, "written": "2026", "bytes": 1}
    sources = {"one": escaped({"count": 7, "first": [found]})}
    datasets = {"one": {"title": title, "baseline": [1860, 1860]}}
    snakemake = SimpleNamespace(
        config={"datasets": datasets, "results": title},
        wildcards=SimpleNamespace(dataset="one"),
        params=SimpleNamespace(sources=sources),
    )
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True)
    text = environment.from_string((CAPTIONS / name).read_text()).render(snakemake=snakemake)
    # Every mistake in the markup is an error.
    settings = {"halt_level": 2, "report_level": 2}
    parts = docutils.core.publish_parts(text, writer_name="html", settings_overrides=settings)
    return str(parts["body"])


# Docutils 0.22 has another name for an argument that 0.21 needs.
@pytest.mark.filterwarnings("ignore:Argument .writer_name:PendingDeprecationWarning")
@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("name", ["map.rst", "series.rst", "regional_series.rst", "workflow.rst"])
def test_captions_show_texts_as_they_are(name: str, text: str) -> None:
    body = rendered(name, text, f"s3://bucket/{text}")
    shown = html.unescape(body)
    for tag in ("<script", "<img", "<em>", "<ol", "<tt", "root:"):
        assert tag not in body
    # The page of the workflow has a link of its own.
    assert body.count("<a ") == (name == "workflow.rst")
    assert " ".join(text.split()) in " ".join(shown.split())


@pytest.mark.parametrize("text", HOSTILE)
def test_parameters_are_harmless_in_a_script_and_come_back(text: str) -> None:
    value = {"one": [text, {text: [text, 1, None]}], "two": 2.5}
    handed = escaped(value)
    assert not set("<>") & set(json.dumps(handed))
    assert job.unescaped(handed) == value
