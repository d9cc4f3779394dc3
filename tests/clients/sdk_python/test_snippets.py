"""What the page at / offers to copy for Python runs as it stands, against the instance that its URL names."""

import html
import re
import subprocess
import sys

import httpx
from servers import PORT


def test_the_snippet_of_the_page():
    page = httpx.get(f"http://127.0.0.1:{PORT}/", headers={"Accept": "text/html"}).text
    (marked,) = re.findall(r"<h3>Python: .*?</h3>\n<pre>(.*?)</pre>", page, re.DOTALL)
    snippet = html.unescape(re.sub("</?b>", "", marked))
    assert f'Client("http://127.0.0.1:{PORT}/mcp")' in snippet
    ran = subprocess.run([sys.executable, "-c", snippet], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    assert "text='hello'" in ran.stdout
