# SPDX-License-Identifier: Apache-2.0
"""Points lost, agreement and time over size, as one SVG of three panels with a common axis."""

WIDTH, LEFT, RIGHT, TOP, GAP, BOTTOM = 680, 64, 20, 44, 26, 46
LEAST, MOST = 10, 90  # times smaller
BLUE, GREEN, RUST, GREY = "#1f5fa8", "#2e8b57", "#b0562c", "#555"


class Panel:
    """A strip of the picture: places of values, its grid, its name."""

    def __init__(self, top, height, low, high, step, name):
        self.top, self.height, self.low, self.high = top, height, low, high
        self.parts = []
        value = low
        while value <= high + 1e-9:
            y = self.y(value)
            self.parts.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}" stroke="{"#999" if value == 0 else "#e4e4e4"}"/>'
                              f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end" fill="{GREY}">{value:g}</text>')
            value += step
        for ratio in range(LEAST, MOST + 1, 10):
            self.parts.append(f'<line x1="{x_of(ratio):.1f}" x2="{x_of(ratio):.1f}" y1="{top}" y2="{top + height}" stroke="#f0f0f0"/>')
        middle = top + height / 2
        self.parts.append(f'<text x="16" y="{middle}" text-anchor="middle" transform="rotate(-90 16 {middle})" fill="{GREY}">{name}</text>')

    def y(self, value):
        return self.top + self.height * (self.high - value) / (self.high - self.low)

    def line(self, points, colour):
        places = " ".join(f"{x:.1f},{self.y(value):.1f}" for x, value in points)
        self.parts.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>')
        self.parts += [f'<circle cx="{x:.1f}" cy="{self.y(value):.1f}" r="3.5" fill="{colour}"/>' for x, value in points]

    def bar(self, x, pair, colour):
        ends = [min(max(value, self.low), self.high) for value in pair]
        self.parts.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{self.y(ends[0]):.1f}" y2="{self.y(ends[1]):.1f}" stroke="{colour}" '
                          'stroke-width="1.2" stroke-opacity="0.55"/>')

    def ring(self, x, value, colour, label=""):
        self.parts.append(f'<circle cx="{x:.1f}" cy="{self.y(value):.1f}" r="3.5" fill="#fff" stroke="{colour}" stroke-width="1.8"/>')
        if label:
            self.parts.append(f'<text x="{x - 8:.1f}" y="{self.y(value) - 9:.1f}" text-anchor="middle" fill="{GREY}">{label}</text>')


def x_of(ratio):
    return LEFT + (WIDTH - LEFT - RIGHT) * (ratio - LEAST) / (MOST - LEAST)


def draw(searched, others):
    """searched: results joined by a line, settings from the search. others: (label, result), single rings."""
    searched = sorted(searched, key=lambda r: r["ratio"])
    points = Panel(TOP, 190, -1, 2, 0.5, "points lost")
    agreement = Panel(TOP + 190 + GAP, 110, 84, 98, 2, "agreement, %")
    time = Panel(TOP + 300 + 2 * GAP, 70, 0, 8, 2, "ms")
    for key, colour, shift in (("lost_top1", BLUE, -2), ("lost_top5", GREEN, 2)):
        for r in searched + [r for _, r in others]:
            points.bar(x_of(r["ratio"]) + shift, r[key + "_interval"], colour)
        points.line([(x_of(r["ratio"]) + shift, r[key]) for r in searched], colour)
        for label, r in others:
            points.ring(x_of(r["ratio"]) + shift, r[key], colour)
    agreement.line([(x_of(r["ratio"]), r["agreement"]) for r in searched], RUST)
    time.line([(x_of(r["ratio"]), r["ms"]) for r in searched if "ms" in r], GREY)
    for label, r in others:
        agreement.ring(x_of(r["ratio"]), r["agreement"], RUST, label)
        if "ms" in r:
            time.ring(x_of(r["ratio"]), r["ms"], GREY)
    height = int(time.top + time.height + BOTTOM)
    head = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12">',
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>']
    legend = [(BLUE, "top-1"), (GREEN, "top-5, with 95 % intervals"), (RUST, "the original's class"), (GREY, "one thread, one photo")]
    x = LEFT
    for colour, title in legend:
        head.append(f'<circle cx="{x + 4}" cy="16" r="3.5" fill="{colour}"/><text x="{x + 12}" y="20" fill="{colour}">{title}</text>')
        x += 34 + 6.6 * len(title)
    head.append(f'<text x="{LEFT}" y="36" fill="{GREY}">filled: settings from the search; rings: the paper\'s settings, refined, and finer convolutions</text>')
    foot = [f'<text x="{x_of(ratio):.1f}" y="{time.top + time.height + 18}" text-anchor="middle" fill="{GREY}">{ratio}x</text>'
            for ratio in range(LEAST, MOST + 1, 10)]
    foot.append(f'<text x="{(LEFT + WIDTH) / 2}" y="{height - 8}" text-anchor="middle" fill="{GREY}">times smaller than float32</text></svg>')
    return "\n".join(head + points.parts + agreement.parts + time.parts + foot) + "\n"
