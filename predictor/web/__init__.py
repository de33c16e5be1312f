"""What a browser gets: the files of the pages `/ui` and `/docs`, and the examples in a model's folder.

No framework and no build step: the HTML, CSS and JavaScript beside this file are sent as they are. The
routes are in `predictor/protocols/pages.py`; what the pages do is told in `docs/ui.md`.
"""
