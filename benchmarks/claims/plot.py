"""Plots as SVG, readable on light and on dark pages, without a library.

The colours are tried for the three common kinds of colour blindness; series differ in their marks
too. A plot is a function of its data: the same data, the same bytes.
"""

import html
import math

HEIGHT = 380
LEFT, RIGHT, TOP, BOTTOM = 74, 490, 34, 52  # where the plot itself begins and ends; below: from HEIGHT
LETTER = 7.2  # at most, on average, of a name
STYLE = """<style>
.plot { font: 12px system-ui, sans-serif; --ink: #1d1d1f; --faint: #d4d4d8; --paper: #ffffff;
  --c0: #0060b0; --c1: #c04000; --c2: #00805a; --c3: #8a4fb5; --c4: #8a6d00; --c5: #b0306a; }
@media (prefers-color-scheme: dark) { .plot { --ink: #e8e8ea; --faint: #46464c; --paper: #17171a;
  --c0: #6ab7ff; --c1: #ff9a62; --c2: #4fd0a4; --c3: #cfa3ef; --c4: #e0c050; --c5: #ff86b8; } }
.plot text { fill: var(--ink); } .plot .title { font-weight: 600; font-size: 14px; }
.plot .axis { stroke: var(--ink); fill: none; } .plot .grid { stroke: var(--faint); fill: none; }
</style>"""
MARKS = ("circle", "square", "diamond", "up", "down", "cross")


def text(x, y, said, extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" {extra}>{html.escape(str(said))}</text>'


def short(value):
    """A number as an axis says it: 2^20 by its power, small ones with few digits."""
    if value > 0 and value >= 1024 and math.log2(value).is_integer():
        return f"2^{int(math.log2(value))}"
    if value != 0 and not 1e-3 <= abs(value) < 1e5:
        return f"{value:.0e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.6g}"


def mark(kind, x, y, colour):
    paint = f'fill="{colour}" stroke="{colour}"'
    r = 3.5
    points = {"square": [(-r, -r), (r, -r), (r, r), (-r, r)],
              "diamond": [(0, -r - 1), (r + 1, 0), (0, r + 1), (-r - 1, 0)],
              "up": [(0, -r - 1), (r, r), (-r, r)], "down": [(0, r + 1), (r, -r), (-r, -r)]}
    if kind == "circle":
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{r}" {paint}/>'
    if kind == "cross":
        return (f'<path d="M{x - r:.1f} {y - r:.1f}L{x + r:.1f} {y + r:.1f}M{x - r:.1f} {y + r:.1f}'
                f'L{x + r:.1f} {y - r:.1f}" {paint} stroke-width="2"/>')
    corners = " ".join(f"{x + a:.1f},{y + b:.1f}" for a, b in points[kind])
    return f'<polygon points="{corners}" {paint}/>'


class Axis:
    """Values to pixels, linear or logarithmic, with ticks."""

    def __init__(self, values, begin, end, logarithmic, base=10, limits=None):
        self.whole = all(isinstance(value, int) for value in values)
        self.logarithmic, self.base, self.begin, self.end = logarithmic, base, begin, end
        low, high = limits or (min(values), max(values))
        if logarithmic:
            low, high = math.log(low, base), math.log(high, base)
            low, high = math.floor(low + 1e-9), math.ceil(high - 1e-9)
        if high <= low:
            low, high = low - 0.5, high + 0.5
        if not logarithmic and limits is None:
            step = self.step(low, high)
            low, high = math.floor(low / step) * step, math.ceil(high / step) * step
        self.low, self.high = low, high

    @staticmethod
    def step(low, high):
        rough = 10 ** math.floor(math.log10((high - low) / 4))
        return next(rough * m for m in (1, 2, 5, 10) if (high - low) / (rough * m) <= 6)

    def __call__(self, value):
        place = math.log(value, self.base) if self.logarithmic else value
        return self.begin + (place - self.low) / (self.high - self.low) * (self.end - self.begin)

    def ticks(self):
        if self.logarithmic:
            every = max(1, math.ceil((self.high - self.low) / 8))
            return [self.base ** e for e in range(int(self.low), int(self.high) + 1, every)]
        step = max(self.step(self.low, self.high), 1 if self.whole else 0)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def letters(names):
    """Pixels that the longest takes."""
    return math.ceil(LETTER * max(len(str(name)) for name in names))


def frame(title, parts, width):
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" class="plot" viewBox="0 0 {width} {HEIGHT}" '
        f'width="{width}" height="{HEIGHT}" role="img" aria-label="{html.escape(title)}">',
        STYLE, f'<rect width="{width}" height="{HEIGHT}" fill="var(--paper)"/>',
        text(LEFT, 20, title, 'class="title"'), *parts, "</svg>\n"])


def lines(title, x_label, y_label, series, x_log=0, y_log=0, y_limits=None):
    """series: [(name, [(x, y) or (x, y, lowest, highest)])]; x_log, y_log: the base, 0 for linear."""
    points = [point for _, all_of in series for point in all_of]
    x_axis = Axis([p[0] for p in points], LEFT, RIGHT, x_log, x_log or 10)
    y_axis = Axis([v for p in points for v in p[1:]], HEIGHT - BOTTOM, TOP, y_log, y_log or 10,
                  y_limits)
    parts = []
    for tick in x_axis.ticks():
        x = x_axis(tick)
        parts += [f'<path class="grid" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>',
                  text(x, HEIGHT - BOTTOM + 18, short(tick), 'text-anchor="middle"')]
    for tick in y_axis.ticks():
        y = y_axis(tick)
        parts += [f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>',
                  text(LEFT - 6, y + 4, short(tick), 'text-anchor="end"')]
    parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{RIGHT}"/>')
    parts.append(text((LEFT + RIGHT) / 2, HEIGHT - 12, x_label, 'text-anchor="middle"'))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(text(16, middle, y_label,
                      f'text-anchor="middle" transform="rotate(-90 16 {middle:.1f})"'))
    for i, (name, values) in enumerate(series):
        colour, kind = f"var(--c{i % 6})", MARKS[i % len(MARKS)]
        path = "L".join(f"{x_axis(p[0]):.1f} {y_axis(p[1]):.1f}" for p in values)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.8"/>')
        for p in values:
            if len(p) == 4:
                parts.append(f'<path d="M{x_axis(p[0]):.1f} {y_axis(p[2]):.1f}V{y_axis(p[3]):.1f}" '
                             f'stroke="{colour}" stroke-width="1.2"/>')
            parts.append(mark(kind, x_axis(p[0]), y_axis(p[1]), colour))
        y = TOP + 14 + 20 * i
        parts += [mark(kind, RIGHT + 16, y - 4, colour),
                  text(RIGHT + 26, y, name)]
    return frame(title, parts, max(RIGHT + 34 + letters(name for name, _ in series),
                                   LEFT + 10 + letters([title])))


def heat_map(title, x_label, y_label, columns, rows, values):
    """values[row][column] in [0, 1], or None where nothing was measured; each cell says its number."""
    left = 30 + letters(rows)
    width, height = (RIGHT - LEFT) / len(columns), (HEIGHT - TOP - BOTTOM) / len(rows)
    parts = []
    for r, row in enumerate(rows):
        y = TOP + r * height
        parts.append(text(left - 6, y + height / 2 + 4, row, 'text-anchor="end"'))
        for c in range(len(columns)):
            value = values[r][c]
            share = 0 if value is None else value
            box = f'x="{left + c * width:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
            parts += [f'<rect {box} fill="var(--c0)" fill-opacity="{0.1 + 0.5 * share:.2f}" '
                      'stroke="var(--paper)"/>',
                      text(left + (c + 0.5) * width, y + height / 2 + 4,
                           "–" if value is None else f"{value:.2f}", 'text-anchor="middle"')]
    for c, column in enumerate(columns):
        parts.append(text(left + (c + 0.5) * width, HEIGHT - BOTTOM + 18, column,
                          'text-anchor="middle"'))
    parts.append(text(left + width * len(columns) / 2, HEIGHT - 12, x_label, 'text-anchor="middle"'))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(text(16, middle, y_label,
                      f'text-anchor="middle" transform="rotate(-90 16 {middle:.1f})"'))
    return frame(title, parts, math.ceil(max(left + width * len(columns),
                                             LEFT + letters([title]))) + 10)
