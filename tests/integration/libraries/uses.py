"""The libraries and a small real use of each: data. ``matrix.py`` runs it.

``code`` runs in a plugin, in its data folder, with ``port`` and ``ws_port`` of servers on this machine, and sets
``result`` to True. ``refused`` says at which level it cannot work by design, and why, in both languages.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

NATIVE = ("thread", "process", "sandbox")
PURE = (*NATIVE, "wasm")
_NO_PROCESSES = ("starts no processes: use the level `process`", "不能启动进程：用 `process` 级别")


@dataclass(frozen=True)
class Library:
    name: str
    use: tuple[str, str]
    code: str
    packages: tuple[str, ...] = ()
    """Names on the package index; the first is the one whose version is shown. Empty: the standard library's."""
    levels: tuple[str, ...] = NATIVE
    refused: Mapping[str, tuple[str, str]] = field(default_factory=dict)


LIBRARIES = [
    Library("numpy", ("linear algebra, files", "线性代数、存取文件"), """
import numpy
a = numpy.random.default_rng(1).random((200, 200))
numpy.save("a.npy", numpy.linalg.inv(a) @ a)
numpy.memmap("m.dat", dtype="float64", mode="w+", shape=(10,))[:] = 1
result = bool(numpy.allclose(numpy.load("a.npy"), numpy.eye(200)))
""", ("numpy",)),
    Library("pandas", ("CSV, groups, Excel", "CSV、分组、Excel"), """
import pandas
frame = pandas.DataFrame({"k": list("aab"), "v": [1, 2, 3]})
frame.to_csv("f.csv", index=False)
frame.to_excel("f.xlsx", index=False)
back = pandas.read_csv("f.csv").groupby("k").v.sum()
result = back.to_dict() == {"a": 3, "b": 3} and len(pandas.read_excel("f.xlsx")) == 3
""", ("pandas", "openpyxl")),
    Library("polars", ("lazy query, Parquet", "惰性查询、Parquet"), """
import polars
frame = polars.DataFrame({"k": ["a", "a", "b"], "v": [1, 2, 3]})
frame.write_parquet("f.parquet")
found = polars.scan_parquet("f.parquet").group_by("k").agg(polars.col("v").sum()).sort("k").collect()
result = found.rows() == [("a", 3), ("b", 3)]
""", ("polars",)),
    Library("pyarrow", ("Parquet, compute", "Parquet、计算"), """
import pyarrow, pyarrow.compute, pyarrow.parquet
table = pyarrow.table({"v": list(range(1000))})
pyarrow.parquet.write_table(table, "t.parquet")
result = pyarrow.compute.sum(pyarrow.parquet.read_table("t.parquet")["v"]).as_py() == 499500
""", ("pyarrow",)),
    Library("duckdb", ("a database file, CSV", "数据库文件、CSV"), """
import duckdb
with duckdb.connect("d.db") as db:
    db.execute("create table t as select range as n from range(1000)")
    db.execute("copy t to 't.csv'")
    result = db.execute("select sum(n) from read_csv('t.csv')").fetchone()[0] == 499500
""", ("duckdb",)),
    Library("SQLAlchemy", ("ORM on SQLite", "SQLite 上的 ORM"), """
from sqlalchemy import create_engine, select
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
class Base(DeclarativeBase): pass
class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
User.__annotations__ = {"id": Mapped[int], "name": Mapped[str]}
engine = create_engine("sqlite:///a.db")
Base.metadata.drop_all(engine); Base.metadata.create_all(engine)
with Session(engine) as session:
    session.add(User(name="Ada")); session.commit()
    result = session.scalars(select(User.name)).all() == ["Ada"]
engine.dispose()
""", ("SQLAlchemy",)),
    Library("lxml", ("XPath, XSLT", "XPath、XSLT"), """
from lxml import etree
tree = etree.fromstring("<a><b>1</b><b>2</b></a>")
etree.ElementTree(tree).write("a.xml")
result = etree.parse("a.xml").xpath("sum(//b)") == 3.0
""", ("lxml",)),
    Library("bs4", ("parse HTML", "解析 HTML"), """
from bs4 import BeautifulSoup
result = BeautifulSoup("<p>a<b>c</b></p>", "html.parser").b.text == "c"
""", ("beautifulsoup4",), PURE),
    Library("pillow", ("draw, save, load", "绘制、保存、读取"), """
from PIL import Image, ImageDraw, ImageFont
image = Image.new("RGB", (64, 64), "white")
ImageDraw.Draw(image).text((5, 5), "hello", fill="black", font=ImageFont.load_default())
image.save("i.png"); image.save("i.jpg")
result = Image.open("i.png").size == (64, 64)
""", ("pillow",)),
    Library("matplotlib", ("a chart as PNG", "把图表存为 PNG"), """
import matplotlib
matplotlib.use("Agg")
from matplotlib import pyplot
figure, axes = pyplot.subplots()
axes.plot([1, 2, 3]); axes.set_title("chart")
figure.savefig("c.png"); pyplot.close(figure)
import os
result = os.path.getsize("c.png") > 1000
""", ("matplotlib",)),
    Library("scikit-learn", ("fit with several jobs", "多任务拟合"), """
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
x, y = make_classification(n_samples=200, random_state=1)
model = RandomForestClassifier(n_estimators=20, n_jobs=-1, random_state=1).fit(x, y)
result = bool(model.score(x, y) > 0.9)
""", ("scikit-learn",)),
    Library("scipy", ("optimise, transform", "优化、变换"), """
from scipy import fft, optimize
found = optimize.minimize(lambda x: (x[0] - 2) ** 2, [0.0])
result = bool(abs(found.x[0] - 2) < 1e-3) and len(fft.fft([1, 2, 3, 4])) == 4
""", ("scipy",)),
    Library("opencv", ("blur, encode", "模糊、编码"), """
import cv2, numpy
image = numpy.zeros((64, 64, 3), dtype="uint8")
cv2.circle(image, (32, 32), 10, (255, 255, 255), -1)
cv2.imwrite("i.png", cv2.GaussianBlur(image, (5, 5), 0))
result = cv2.imread("i.png").shape == (64, 64, 3)
""", ("opencv-python-headless",)),
    Library("cryptography", ("encrypt, sign", "加密、签名"), """
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
box = Fernet(Fernet.generate_key())
key = Ed25519PrivateKey.generate()
key.public_key().verify(key.sign(b"x"), b"x")
result = box.decrypt(box.encrypt(b"x")) == b"x"
""", ("cryptography",)),
    Library("pydantic", ("validate a model", "校验模型"), """
from pydantic import create_model
model = create_model("User", name=(str, ...), age=(int, ...))
result = model.model_validate_json('{"name": "Ada", "age": "36"}').age == 36
""", ("pydantic",)),
    Library("orjson", ("dump, load", "序列化"), """
import orjson
result = orjson.loads(orjson.dumps({"a": [1, 2.5, None]})) == {"a": [1, 2.5, None]}
""", ("orjson",)),
    Library("requests", ("GET, upload", "GET、上传"), """
import io, requests
url = f"http://127.0.0.1:{port}/x"
sent = requests.post(url, files={"f": ("a.xlsx", io.BytesIO(b"data"))}, timeout=20)
result = requests.get(url, timeout=20).text == "hello /x" and sent.status_code == 200
""", ("requests",), PURE),
    Library("httpx", ("GET, upload, async", "GET、上传、异步"), """
import asyncio, httpx
url = f"http://127.0.0.1:{port}/x"
async def main():
    async with httpx.AsyncClient() as client: return (await client.get(url)).text
sent = httpx.post(url, files={"f": ("a.xlsx", b"data")}, timeout=20)
result = httpx.get(url, timeout=20).text == "hello /x" and sent.status_code == 200 and asyncio.run(main()) == "hello /x"
""", ("httpx",), PURE),
    Library("aiohttp", ("client", "客户端"), """
import aiohttp, asyncio
async def main():
    async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{port}/x") as reply:
        return await reply.text()
result = asyncio.run(main()) == "hello /x"
""", ("aiohttp",)),
    Library("websockets", ("client", "客户端"), """
import asyncio, websockets
async def main():
    async with websockets.connect(f"ws://127.0.0.1:{ws_port}") as socket:
        await socket.send("hi")
        return await socket.recv()
result = asyncio.run(main()) == "hi"
""", ("websockets",)),
    Library("jinja2", ("templates in files", "文件模板"), """
import jinja2
open("t.html", "w").write("{% for x in xs %}{{ x }},{% endfor %}")
result = jinja2.Environment(loader=jinja2.FileSystemLoader(".")).get_template("t.html").render(xs=[1, 2]) == "1,2,"
""", ("jinja2",), PURE),
    Library("openpyxl", ("write, read a workbook", "读写工作簿"), """
import openpyxl
book = openpyxl.Workbook()
book.active["A1"] = 42
book.save("b.xlsx")
result = openpyxl.load_workbook("b.xlsx").active["A1"].value == 42
""", ("openpyxl",), PURE),
    Library("apscheduler", ("a job in a thread", "线程中的任务"), """
import threading
from apscheduler.schedulers.background import BackgroundScheduler
ran = threading.Event()
scheduler = BackgroundScheduler()
scheduler.start()
scheduler.add_job(ran.set, "date")
result = ran.wait(20)
scheduler.shutdown()
""", ("apscheduler",)),
    Library("onnxruntime", ("run a model", "运行模型"), """
import numpy, onnxruntime
model = bytes.fromhex(
    "08083a350a0e0a01780a017812017922034164641201675a0f0a0178120a0a08080112040a020802"
    "620f0a0179120a0a08080112040a0208024202100d"
)
session = onnxruntime.InferenceSession(model)
result = session.run(None, {"x": numpy.array([1, 2], dtype="float32")})[0].tolist() == [2.0, 4.0]
""", ("onnxruntime",)),
    Library("psutil", ("memory, load, itself", "内存、负载、自身"), """
import psutil
own = psutil.Process()
result = psutil.virtual_memory().total > 0 and psutil.cpu_count() > 0 and own.memory_info().rss > 0
""", ("psutil",)),
    Library("lark", ("a grammar", "语法"), """
import lark
parser = lark.Lark('start: NUMBER ("+" NUMBER)*\\n%import common.NUMBER')
result = [int(each) for each in parser.parse("1+2+3").children] == [1, 2, 3]
""", ("lark",), PURE),
    Library("markdown", ("with extensions", "带扩展"), """
import markdown
result = "<table>" in markdown.markdown("| a |\\n|---|\\n| 1 |", extensions=["tables"])
""", ("markdown",), PURE),
    Library("networkx", ("shortest path", "最短路径"), """
import networkx
result = networkx.shortest_path(networkx.path_graph(5), 0, 4) == [0, 1, 2, 3, 4]
""", ("networkx",), PURE),
    Library("sympy", ("solve, integrate", "求解、积分"), """
import sympy
x = sympy.Symbol("x")
result = sympy.solve(x ** 2 - 4, x) == [-2, 2] and str(sympy.integrate(2 * x, x)) == "x**2"
""", ("sympy",), PURE),
    Library("tabulate", ("a table", "表格"), """
import tabulate
result = "Ada" in tabulate.tabulate([["Ada", 36]], headers=["name", "age"], tablefmt="github")
""", ("tabulate",), PURE),
    Library("multiprocessing", ("a pool of processes", "进程池"), """
import multiprocessing
with multiprocessing.get_context("fork").Pool(2) as pool: result = pool.map(abs, [-1, -2]) == [1, 2]
""", refused={"sandbox": _NO_PROCESSES}),
    Library("subprocess", ("run a program", "运行程序"), """
import subprocess, sys
done = subprocess.run([sys.executable, "-c", "print(1)"], capture_output=True, check=True)
result = done.stdout == b"1\\n"
""", refused={"sandbox": _NO_PROCESSES}),
    Library("sqlite3", ("write-ahead log, two connections", "预写日志、两个连接"), """
import sqlite3
one, two = (sqlite3.connect("w.db", timeout=10) for _ in range(2))
one.execute("pragma journal_mode=wal")
with one: one.execute("drop table if exists t"); one.execute("create table t (n)")
with two: two.executemany("insert into t values (?)", [(n,) for n in range(100)])
result = one.execute("select sum(n) from t").fetchone()[0] == 4950
one.close(); two.close()
"""),
]  # fmt: skip


def packages() -> list[str]:
    """Return what is to be installed, each once."""
    return [*dict.fromkeys(package for library in LIBRARIES for package in library.packages)]


if __name__ == "__main__":
    print(" ".join(packages()))
