"""Pictures of memories: areas of words over cycles, strips of constants."""

from html import escape

import numpy as np

from bivit.sim.kinds import layer_kinds
from bivit.sim.memory_map import MemoryUse
from bivit.sim.report import Report

__all__ = ["constant_strips", "memory_areas"]


def memory_areas(report: Report) -> str:
    """One picture for each memory that instructions write."""
    cycles, kinds = report.frame.cycles, layer_kinds(report.frame)
    parts = []
    for name, use in report.memory.items():
        if use.constant or not use.words:
            continue
        high = int(use.word.max()) + 1
        paths = "".join(
            f'<path class="held k-{kinds[layer]}" opacity="{0.95 if layer % 2 else 0.7}" '
            f'd="{path}"><title>{escape(report.frame.layers[layer]["name"])}: {text}</title>'
            "</path>" for layer, path, text in _areas(use))
        parts.append(
            f'<div class="map" data-memory="{name}">{_caption(name, use, high)}'
            f'<svg class="synced" role="img" aria-label="Words of {name.upper()} over the cycles" '
            f'viewBox="0 0 {cycles} {high}" preserveAspectRatio="none">{paths}</svg>'
            '<div class="axis"><span class="from">cycle 0</span>'
            f'<span class="to">cycle {cycles:,}</span></div></div>')
    return "".join(parts)


def constant_strips(report: Report) -> str:
    """One strip for each memory of constants in use, the program left out."""
    kinds, parts = layer_kinds(report.frame), []
    for name, use in report.memory.items():
        if not use.constant or not len(use.word):
            continue
        order = np.argsort(use.word)
        word, layer, high = use.word[order], use.layer[order], int(use.word.max()) + 1
        paths = "".join(
            f'<path class="held k-{kinds[number]}" opacity="{0.95 if number % 2 else 0.7}" '
            f'd="M{low} 0h{count}v1h-{count}z"><title>'
            f'{escape(report.frame.layers[number]["name"])}: words {low:,} – {low + count - 1:,}'
            "</title></path>" for low, count, number in _runs(word, layer))
        parts.append(
            f'<div class="map strip" data-memory="{name}">{_caption(name, use, high, short=True)}'
            f'<svg role="img" aria-label="Layers that read the words of {name.upper()}" '
            f'viewBox="0 0 {high} 1" preserveAspectRatio="none">{paths}</svg>'
            f'<div class="axis"><span>word 0</span><span>word {high - 1:,}</span></div></div>')
    return "".join(parts)


def _caption(name, use, high, short=False):
    detail = "" if short else (f"words 0 – {high - 1:,}<br>at most {use.peak:,} at once<br>"
                               f"of {use.depth:,}")
    return f'<div class="name"><b>{name.upper()}</b>{detail}</div>'


def _runs(word, *same):
    """First word, count and values of words behind each other that are the same in the rest."""
    breaks = np.diff(word) != 1
    for values in same:
        breaks |= np.diff(values) != 0
    starts = np.concatenate(([0], np.flatnonzero(breaks) + 1))
    counts = np.diff(np.concatenate((starts, [len(word)])))
    return zip(word[starts].tolist(), counts.tolist(),
               *(values[starts].tolist() for values in same), strict=True)


def _areas(use: MemoryUse):
    """Layer, outline and description of each area: words behind each other held by one layer.

    Where a layer holds a word more than once, each time is an area of its own.
    """
    order = np.lexsort((use.first, use.word, use.layer))
    word, layer, first, last = (values[order] for values in (use.word, use.layer, use.first,
                                                              use.last))
    new = np.concatenate(([True], (np.diff(word) != 0) | (np.diff(layer) != 0)))
    begin = np.flatnonzero(new)
    time = np.arange(len(word)) - np.repeat(begin, np.diff(np.append(begin, len(word))))
    order = np.lexsort((word, time, layer))
    pieces, end = [], None
    for low, count, owner, turn, start, stop in _runs(*(values[order] for values in (
            word, layer, time, first, last))):
        if end != (owner, turn, low) and pieces:
            yield _outline(pieces)
            pieces = []
        pieces.append((owner, low, count, start, stop + 1))
        end = owner, turn, low + count
    if pieces:
        yield _outline(pieces)


def _outline(pieces):
    """Down the right edge, up the left one."""
    owner, low, _, start, stop = pieces[0]
    path, x = [f"M{start} {low}H{stop}"], stop
    for _, _, count, _, right in pieces:
        path.append(f"H{right}v{count}" if right != x else f"v{count}")
        x = right
    for _, _, count, left, _ in reversed(pieces):
        path.append(f"H{left}v-{count}" if left != x else f"v-{count}")
        x = left
    high = pieces[-1][1] + pieces[-1][2] - 1
    text = (f"words {low:,} – {high:,}, cycles {min(piece[3] for piece in pieces):,} – "
            f"{max(piece[4] for piece in pieces) - 1:,}")
    return owner, "".join(path) + "z", text
