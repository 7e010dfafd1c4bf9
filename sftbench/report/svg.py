"""Small parts of inline SVG: widths in percent, so that a picture is fluid and its text is not."""

from __future__ import annotations

from collections.abc import Iterable

from markupsafe import Markup, escape

MARK_RADIUS = 5.5


def element(tag: str, *content: str | Markup, **attributes: str | float) -> Markup:
    """Return an element; text and attribute values are escaped, Markup is not.

    A trailing underscore of an attribute name is dropped (``class_``), others become hyphens.
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(_number(value))}"'
        for name, value in attributes.items()
    )
    inner = "".join(escape(part) for part in content)
    return Markup(f"<{tag}{written}>{inner}</{tag}>")


def _number(value: str | float) -> str:
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")


def x(fraction: float) -> str:
    """Return a horizontal place, 0 (left) to 1 (right), as an SVG percentage."""
    return f"{100 * fraction:.2f}%"


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """Return a line; horizontal places are fractions of the width, vertical ones pixels."""
    return element("line", x1=x(x1), y1=y1, x2=x(x2), y2=y2, class_=kind)


def text(content: str, place: float, y: float, kind: str = "", anchor: str = "middle") -> Markup:
    """Return a text at a fraction of the width."""
    return element("text", content, x=x(place), y=y, class_=kind, text_anchor=anchor)


def mark(shape: str, place: float, y: float, kind: str, title: str, *, shift: float = 0) -> Markup:
    """Return a mark ("circle", "diamond" or "ring") with a tooltip.

    Args:
        shape: the shape, so that colour is never the only difference.
        place: fraction of the width.
        y: pixels.
        kind: CSS class that colours it.
        title: tooltip.
        shift: pixels to the right.
    """
    r = MARK_RADIUS
    if shape == "diamond":
        d = r * 1.25
        drawn = element("path", d=f"M{shift - d} 0 {shift} {-d} {shift + d} 0 {shift} {d}z")
    else:
        drawn = element("circle", cx=shift, cy=0, r=r if shape == "circle" else r - 0.75)
    caption = element("title", title)
    return element("svg", caption, drawn, x=x(place), y=y, class_=f"mark {shape} {kind}")


def picture(parts: Iterable[Markup], *, height: float, label: str) -> Markup:
    """Return a picture as wide as its container, with a description for screen readers."""
    return element(
        "svg", *parts, class_="picture", width="100%", height=height, role="img", aria_label=label
    )
