"""Small files of the kinds that cameras, phones, broadcasters, editors and the web make, and what becomes of each.

`kinds.KINDS` lists them; `python -m tests.media_collection make FOLDER` writes them, and
`python -m tests.media_collection table` writes the tables of `docs/media.md`. Everything is made with PyAV; what that
cannot encode lies in `tests/data/media/kinds`.
"""
