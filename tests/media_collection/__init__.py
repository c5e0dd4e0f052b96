"""Small files of the kinds that cameras, phones, broadcasters, editors and the web make, and what becomes of each.

`kinds()` lists them; `python -m tests.media_collection make FOLDER` writes them, `python -m tests.media_collection table`
writes the table of `docs/media.md`. Everything is made with PyAV; what it cannot encode lies in `tests/data/media/kinds`.
"""
