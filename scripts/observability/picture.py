"""Draws some panels as one SVG, from what Prometheus answers to the queries of the boards."""

import html

import boards

# Board and title, in the order of the picture.
PANELS = [
    ("overview", "Token reads by status"),
    ("connection", "Callbacks by outcome"),
    ("connection", "Long connections that are up"),
    ("tokens", "Refreshes by outcome"),
    ("tokens", "Oldest refresh that is due"),
    ("bus", "Messages that wait"),
    ("bus", "Consumers"),
    ("lark", "Calls that failed, by outcome"),
]
COLOURS = ["#2f6fde", "#c98a2b", "#2e9d6a", "#b5473c", "#7d5bbe", "#4aa3b5", "#8a8f98"]
WIDTH, HEIGHT, LEFT, TOP, PLOT = 470, 220, 46, 40, 120
SERIES = len(COLOURS)
STYLE = "text{font:11px system-ui,sans-serif;fill:#30343a}.t{font-size:13px;font-weight:600}.s{fill:#6b7078}"


def panel(board, title):
    found = next(one for one in boards.BOARDS if one.name == board)
    return next(panel for _, row in found.rows for panel in row if panel.title == title)


def legend(pattern, labels):
    for name, value in labels.items():
        pattern = pattern.replace(f"{{{{{name}}}}}", value)
    return pattern


def amount(value):
    return f"{value:.0f}" if value >= 10 or value == int(value) else f"{value:.2g}"


def one(prometheus, panel, filled_in, x, y):
    lines = []
    for pattern, expr in panel.queries:
        lines += [(legend(pattern, labels), points) for labels, points in prometheus.over_all(filled_in(expr))]
    lines = sorted(lines, key=lambda line: -max(value for _, value in line[1]))[:SERIES]
    first, last = prometheus.began, max(points[-1][0] for _, points in lines)
    most = max(1e-9, *(value for _, points in lines for _, value in points))
    width = WIDTH - LEFT - 14
    out = [f'<g transform="translate({x},{y})"><text x="8" y="20" class="t">{html.escape(panel.title)}</text>']
    for part in (0, 0.5, 1):
        at = TOP + PLOT * (1 - part)
        out.append(f'<path d="M{LEFT} {at}h{width}" stroke="#e3e5e9"/>')
        out.append(f'<text x="{LEFT - 6}" y="{at + 4}" text-anchor="end" class="s">{amount(most * part)}</text>')
    names = 0
    for colour, (name, points) in zip(COLOURS, lines):
        path = " ".join(
            f"{LEFT + width * (at - first) / (last - first):.1f},{TOP + PLOT * (1 - value / most):.1f}" for at, value in points
        )
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.3"/>')
        if names < 3:
            at = LEFT + names * 140
            out.append(f'<rect x="{at}" y="{TOP + PLOT + 22}" width="9" height="9" fill="{colour}"/>')
            out.append(f'<text x="{at + 13}" y="{TOP + PLOT + 31}">{html.escape(name[:20])}</text>')
        names += 1
    minutes = (last - first) / 60
    out.append(f'<text x="{LEFT}" y="{TOP + PLOT + 14}" class="s">0</text>')
    out.append(f'<text x="{LEFT + width}" y="{TOP + PLOT + 14}" text-anchor="end" class="s">{minutes:.0f} min</text></g>')
    return "".join(out)


def draw(prometheus, path, filled_in):
    rows = (len(PANELS) + 1) // 2
    width, height = 2 * WIDTH, rows * HEIGHT
    drawn = [
        one(prometheus, panel(board, title), filled_in, WIDTH * (number % 2), HEIGHT * (number // 2))
        for number, (board, title) in enumerate(PANELS)
    ]
    with open(path, "w", encoding="utf-8") as file:
        file.write(
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
            f'aria-label="Panels while each part is broken once"><style>{STYLE}</style>'
            f'<rect width="{width}" height="{height}" fill="#fff"/>' + "".join(drawn) + "</svg>\n"
        )
