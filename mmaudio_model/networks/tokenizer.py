"""CLIP's byte-pair tokenizer: text to token ids. Lower case, at most 77 ids including start and end tokens.

Byte-pair encoding after Sennrich et al. 2016 over GPT-2's byte alphabet. The vocabulary is read from
open_clip's files without importing it, which would take seconds.
"""

from __future__ import annotations

import gzip
import html
from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import ftfy
import regex
import torch
from torch import Tensor

from mmaudio_model.variants import TEXT_TOKENS

VOCABULARY = "bpe_simple_vocab_16e6.txt.gz"
VOCABULARY_SIZE = 49_408
BEGIN, END = "<start_of_text>", "<end_of_text>"
END_OF_WORD = "</w>"
# The published vocabulary was learned on text split by this pattern.
WORDS = regex.compile(rf"{BEGIN}|{END}|'s|'t|'re|'ve|'m|'ll|'d|\p{{L}}+|\p{{N}}|[^\s\p{{L}}\p{{N}}]+", regex.IGNORECASE)


class Tokenizer:
    """Converts texts to token ids.

    Args:
        merges: pairs of pieces to join, most frequent first.
    """

    def __init__(self, merges: Sequence[tuple[str, str]]) -> None:
        self._alphabet = _byte_alphabet()
        pieces = list(self._alphabet.values())
        pieces += [piece + END_OF_WORD for piece in pieces]
        pieces += [first + second for first, second in merges]
        self._ids = {piece: index for index, piece in enumerate([*pieces, BEGIN, END])}
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, of any length, without start and end tokens."""
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
        words = WORDS.findall(" ".join(text.split()).lower())
        return [self._ids[piece] for word in words for piece in self._pieces(word)]

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Return ids (B, 77), int64, padded with 0; longer texts are truncated and still end with the end token."""
        rows = torch.zeros(len(texts), TEXT_TOKENS, dtype=torch.long)
        for row, text in zip(rows, texts, strict=True):
            ids = [self._ids[BEGIN], *self.encode(text)[: TEXT_TOKENS - 2], self._ids[END]]
            row[: len(ids)] = torch.tensor(ids)
        return rows

    def _pieces(self, word: str) -> list[str]:
        if word in {BEGIN, END}:
            return [word]
        pieces = [self._alphabet[byte] for byte in word.encode()]
        pieces[-1] += END_OF_WORD
        while len(pieces) > 1:
            pair = min(pairwise(pieces), key=lambda pair: self._ranks.get(pair, len(self._ranks)))
            if pair not in self._ranks:
                break
            pieces = _merged(pieces, pair)
        return pieces


def _merged(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    """Join each occurrence of the pair, from the left."""
    joined: list[str] = []
    index = 0
    while index < len(pieces):
        if tuple(pieces[index : index + 2]) == pair:
            joined.append(pair[0] + pair[1])
            index += 2
        else:
            joined.append(pieces[index])
            index += 1
    return joined


def _byte_alphabet() -> dict[int, str]:
    """Return a printable character for each byte: itself if printable, otherwise one above code point 255."""
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + index) for index, byte in enumerate(hidden)}


@cache
def tokenizer() -> Tokenizer:
    """Return CLIP's tokenizer."""
    package = find_spec("open_clip")  # finds it without importing it
    assert package is not None, "open_clip_torch is among the requirements"
    assert package.origin is not None
    lines = gzip.decompress(Path(package.origin).with_name(VOCABULARY).read_bytes()).decode().splitlines()
    count = VOCABULARY_SIZE - 2 * 256 - 2  # the first line is a header; the last ones are unused
    merges = [tuple(line.split()) for line in lines[1 : count + 1]]
    return Tokenizer(merges)  # type: ignore[arg-type]
