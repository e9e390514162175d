"""How the site is built: ``make site``."""

from __future__ import annotations

import locale
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "workflow/scripts")]

from s3fuse import __version__  # noqa: E402

# Sphinx sets the locale of the user, and cf-units, which Iris imports, cannot set C.UTF-8 again.
locale.setlocale(locale.LC_NUMERIC, "C")

project = "Iris workflows on S3"
release = version = __version__

extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc", "sphinx.ext.viewcode"]
# The two pages of the plugin's catalogue entry are part of reference/plugin.md.
exclude_patterns = ["intro.md", "further.md", "_build"]
# What they say begins with headings of the third level.
suppress_warnings = ["myst.header"]
myst_heading_anchors = 3
nb_execution_mode = "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 120
autodoc_typehints = "none"
numpydoc_show_class_members = False

html_title = project
html_theme = "pydata_sphinx_theme"
html_theme_options = {"show_prev_next": False, "navigation_with_keys": False}
html_show_copyright = False
html_copy_source = False
