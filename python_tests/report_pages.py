"""``egl-fast report`` in this process, and the pages that it writes."""

import contextlib
import html.parser
import io
import json
import re
import sys

from commands import in_this_process, the_line

COMMAND = [sys.executable, "-c", "from egl_fast.cli.main import main; main()", "report"]

#: Text that must not be able to act when a manifest holds it.
HOSTILE = (
    '</script><script>window.pwned=1</script><img src=x onerror="window.pwned=1">\'"&amp;\u2028'
)


def run(*arguments, status=0):
    """Run the command in this process, which is faster; what it says on standard error."""
    said, out = io.StringIO(), io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(out):
        ended = in_this_process("report", *arguments)
    assert ended == status, said.getvalue()
    assert out.getvalue() == ""
    return said.getvalue()


def refusal(*arguments, **options):
    return the_line(2, "", run(*arguments, status=2, **options))


class Page(html.parser.HTMLParser):
    """A report as a browser would see it."""

    def __init__(self, path):
        super().__init__()
        self.html = path.read_text(encoding="utf-8")
        self.tags, self.ids, self.scripts, self.words = [], [], [], []
        self._inside = None
        self.feed(self.html)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.ids += [value for name, value in attrs if name == "id"]
        self._inside = tag if tag in ("script", "style") else None
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts[-1] += data
        elif self._inside is None:
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def data(self):
        return json.loads(self.scripts[0])


def headings(page):
    return re.findall(r"<h2[^>]*>(Figure \d+)\.", page.html)
