"""Fails when a link or an anchor of a built book leads nowhere. Run by scripts/book with the folder of the book."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links and the anchors of a page."""

    def __init__(self, text):
        super().__init__()
        self.links, self.anchors = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name in ("href", "src") and value:
                self.links.append(value)
            elif name == "id":
                self.anchors.add(value)


def main(folder):
    book = Path(folder).resolve()
    # print.html is all pages in one; 404.html is shown under any address.
    files = [file for file in sorted(book.rglob("*.html")) if file.name not in ("print.html", "404.html")]
    pages = {file: Page(file.read_text()) for file in files}
    wrong = 0
    for file, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            anchor = unquote(parts.fragment)
            if not target.exists() or (anchor and target in pages and anchor not in pages[target].anchors):
                wrong += 1
                print(f"{file.relative_to(book)}: {link} leads nowhere")
    print(f"the book: {len(pages)} pages, {sum(len(page.links) for page in pages.values())} links, {wrong} dead")
    return 1 if wrong or len(pages) < 2 else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
