"""What each library does at the level wasm: what to install, code for a guest, and its ``result``.

``{port}`` and ``{tls}`` are servers that say hello, without and with TLS; ``{authority}`` is the file of the
certificate that the second one is to be verified by.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Case(NamedTuple):
    package: str
    code: str
    result: Any


CASES = {
    "bs4": Case(
        "beautifulsoup4",
        """
from bs4 import BeautifulSoup
page = BeautifulSoup('<p><a href="/x">1</a><a href=/y>2</a>', 'html.parser')
result = [link['href'] for link in page.select('p > a')]
""",
        ["/x", "/y"],
    ),
    "jinja2": Case(
        "jinja2",
        """
from jinja2 import Environment, FileSystemLoader
open('page.html', 'w').write('{% for x in xs %}<{{ x|e }}>{% endfor %}')
result = Environment(loader=FileSystemLoader('.')).get_template('page.html').render(xs=['a', '<b>'])
""",
        "<a><&lt;b&gt;>",
    ),
    "lark": Case(
        "lark",
        """
from lark import Lark
grammar = '''start: "a" WORD*
%import common.WORD
%ignore " "'''
result = [str(word) for word in Lark(grammar, parser='lalr').parse('a hello you').children]
""",
        ["hello", "you"],
    ),
    "markdown": Case(
        "markdown",
        """
import markdown
text = '# T\\n\\n| a |\\n|---|\\n| 1 |\\n'
result = [each in markdown.markdown(text, extensions=['tables', 'toc']) for each in ('<h1 id="t">T</h1>', '<td>1</td>')]
""",
        [True, True],
    ),
    "networkx": Case(
        "networkx",
        """
import networkx
graph = networkx.petersen_graph()
result = [networkx.shortest_path(graph, 0, 7), networkx.is_connected(graph), networkx.diameter(graph)]
""",
        [[0, 5, 7], True, 2],
    ),
    "openpyxl": Case(
        "openpyxl",
        """
import openpyxl
book = openpyxl.Workbook()
book.active.append([1, 'x', 2.5])
book.active['A2'] = '=SUM(A1)'
book.save('book.xlsx')
result = [[cell.value for cell in row] for row in openpyxl.load_workbook('book.xlsx').active.iter_rows()]
""",
        [[1, "x", 2.5], ["=SUM(A1)", None, None]],
    ),
    "sympy": Case(
        "sympy",
        """
import sympy
x = sympy.symbols('x')
result = [str(sympy.integrate(sympy.sin(x)**2, x)), str(sympy.solve(x**2 - 2, x)), str(sympy.N(sympy.pi, 20))]
""",
        ["x/2 - sin(x)*cos(x)/2", "[-sqrt(2), sqrt(2)]", "3.1415926535897932385"],
    ),
    "tabulate": Case(
        "tabulate",
        """
import importlib.metadata
from tabulate import tabulate
result = [tabulate([[1, 2.5]], headers=['a', 'b'], tablefmt='plain'), importlib.metadata.version('tabulate') > '0']
""",
        ["  a    b\n  1  2.5", True],
    ),
    "fpdf2": Case(
        "fpdf2",
        """
import warnings
warnings.simplefilter('ignore')
from fpdf import FPDF
page = FPDF()
page.add_page()
page.set_font('Helvetica', size=12)
page.cell(text='hello')
result = bytes(page.output())[:5]
""",
        b"%PDF-",
    ),
    "requests": Case(
        "requests",
        """
import requests
with requests.Session() as session:
    result = [session.get('http://127.0.0.1:{port}/%d' % n, timeout=9).text for n in range(3)]
result.append(requests.get('https://localhost:{tls}/s', timeout=9, verify='{authority}').text)
for verify, error in ((True, requests.exceptions.SSLError), (False, NotImplementedError)):
    try: requests.get('https://localhost:{tls}/', timeout=9, verify=verify)
    except error: result.append('refused')
""",
        ["hello /0", "hello /1", "hello /2", "hello /s", "refused", "refused"],
    ),
    "httpx": Case(
        "httpx",
        """
import httpx, ssl
with httpx.Client() as client:
    result = [client.get('http://127.0.0.1:{port}/%d' % n).text for n in range(3)]
ours = ssl.create_default_context(cafile='{authority}')
result.append(httpx.get('https://localhost:{tls}/s', verify=ours).text)
for verify, error in ((True, httpx.ConnectError), (False, NotImplementedError)):
    try: httpx.get('https://localhost:{tls}/', verify=verify)
    except error: result.append('refused')
""",
        ["hello /0", "hello /1", "hello /2", "hello /s", "refused", "refused"],
    ),
    "httpx, AsyncClient": Case(
        "httpx",
        """
import asyncio, httpx
async def main():
    async with httpx.AsyncClient() as client:
        return [(await each).text for each in [client.get('http://127.0.0.1:{port}/%d' % n) for n in range(3)]]
result = asyncio.run(main())
""",
        ["hello /0", "hello /1", "hello /2"],
    ),
}
