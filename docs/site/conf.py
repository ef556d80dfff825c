"""Sphinx's settings. Nothing is loaded from elsewhere: fonts are the system's, and the search index is a file."""

from __future__ import annotations

import importlib.metadata

project = "Flambeau"
author = "the Flambeau authors"
project_copyright = "the Flambeau authors, Apache License 2.0"
release = importlib.metadata.version("flambeau")
extensions = ["myst_parser"]
root_doc = "index"
html_theme = "furo"
html_title = "Flambeau"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]
highlight_language = "text"
python_use_unqualified_type_names = True
toc_object_entries = False              # a namespace has hundreds
pygments_style, pygments_dark_style = "friendly", "monokai"
html_theme_options = {"navigation_with_keys": True, "top_of_page_buttons": []}
