#!/usr/bin/env python3
"""Draws what a terminal showed as an SVG: `terminal.py TITLE < text > picture.svg`.

The text is that of a real run, as `tmux capture-pane -p` or a pipe gives it. Lines that begin with "$ " or "# " are what a person typed, as is
a line that begins with "login: ". Colours and cursor movements are left out. Nothing else is changed.
"""

import html
import re
import sys

WIDTH_MAX = 118  # Characters of a line; longer ones are continued on the next line, as a terminal does.
CELL, LINE, MARGIN, BAR = 7.8, 17, 14, 30
TYPED = re.compile(r"^(\$ |# |~ # )(.*)$")


def lines_of(text):
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>()][A-B0]?|\r", "", text)
    for line in text.rstrip("\n").split("\n"):
        line = line.expandtabs()
        yield line[:WIDTH_MAX]
        for at in range(WIDTH_MAX, len(line), WIDTH_MAX):
            yield line[at : at + WIDTH_MAX]


def drawn(line, row):
    y = BAR + MARGIN + row * LINE
    typed = TYPED.match(line)
    if typed:
        body = f'<tspan class="p">{html.escape(typed[1])}</tspan><tspan class="t">{html.escape(typed[2])}</tspan>'
    else:
        body = html.escape(line)
    return f'<text x="{MARGIN}" y="{y}" xml:space="preserve">{body}</text>'


def main():
    title = sys.argv[1]
    lines = list(lines_of(sys.stdin.read()))
    width = round(max(60, max(map(len, lines)), len(title) + 8) * CELL + 2 * MARGIN)
    height = BAR + 2 * MARGIN + len(lines) * LINE - 8
    print(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">\n'
        f"<title>{html.escape(title)}</title>\n"
        "<style>text{font:13px ui-monospace,Menlo,Consolas,'DejaVu Sans Mono',monospace;fill:#d8dee9}"
        ".h{fill:#8f98a8}.p{fill:#8f98a8}.t{fill:#ffffff;font-weight:bold}</style>\n"
        f'<rect width="{width}" height="{height}" rx="8" fill="#1e222a"/>\n'
        f'<rect width="{width}" height="{BAR - 8}" rx="8" fill="#2b303b"/>\n'
        f'<text class="h" x="{MARGIN}" y="15">{html.escape(title)}</text>'
    )
    print("\n".join(drawn(line, row) for row, line in enumerate(lines)))
    print("</svg>")


main()
