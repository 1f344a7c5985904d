"""Modes and times of files, which the kernel changes for a confined plugin: can it be led to another file?"""

from __future__ import annotations

from tests.security.redteam import proofs
from tests.security.redteam.attempts.files import mode_changed, time_changed
from tests.security.redteam.model import Answer, Attempt

GROUP = "file attributes"
_OWN = "api.data_dir.mkdir(parents=True, exist_ok=True)\n"
_ASKED = """
api.data_dir.mkdir(parents=True, exist_ok=True)
def ask(path, mode, identity=()):
    \"\"\"Past Python's functions: the request itself, where there is somebody to ask.\"\"\"
    end = getattr(getattr(os.chmod, "__self__", None), "_end", None)
    if end is None:
        return os.chmod(path, mode)
    from microkernel.wire.codec import decode, encode
    end.send(encode([1, "chmod", os.fsencode(path), list(identity), mode]))
    _, code, text = decode(end.recv(4096))
    if code: raise OSError(code, text)
"""
_RACE = """
api.data_dir.mkdir(parents=True, exist_ok=True)
os.makedirs(f.data + "/real"); open(f.data + "/real/target.txt", "w").close()
os.symlink(f.folder, f.data + "/link")
ended = threading.Event()
def exchange():
    way, real, link = f.data + "/way", f.data + "/real", f.data + "/link"
    while not ended.is_set():
        os.rename(real, way); os.rename(way, real); os.rename(link, way); os.rename(way, link)
thread = threading.Thread(target=exchange)
thread.start()
try:
    until = time.monotonic() + 2.0
    fault = None
    while time.monotonic() < until:
        try: {act}
        except OSError as error: fault = error
finally:
    ended.set(); thread.join()
if fault: raise fault
"""


def _data_is_open(arena, _: Answer) -> bool:
    return arena.data.stat().st_mode & 0o777 == 0o777


def _attempt(name: str, zh: str, code: str, proof: proofs.Proof, wasm: str = "guest") -> Attempt:
    return Attempt(name, zh, code, proof, "attributes", wasm=wasm)


ATTEMPTS = [
    _attempt("change a mode through a link it made", "经自建的链接改权限", _OWN + """
os.symlink(f.target, f.data + "/link")
os.chmod(f.data + "/link", 0o777)
""", mode_changed),
    _attempt("change times through a link it made", "经自建的链接改时间", _OWN + """
os.symlink(f.target, f.data + "/link")
os.utime(f.data + "/link", (1, 1))
""", time_changed, wasm="wasm"),
    _attempt("change a mode below a folder that is a link", "经指向目录的链接改权限", _OWN + """
os.symlink(f.folder, f.data + "/way")
os.chmod(f.data + "/way/target.txt", 0o777)
""", mode_changed),
    _attempt("change a mode while a folder is exchanged for a link", "在目录被换成链接的瞬间改权限",
             _RACE.format(act='os.chmod(f.data + "/way/target.txt", 0o777)'), mode_changed, wasm="wasm"),
    _attempt("change times while a folder is exchanged for a link", "在目录被换成链接的瞬间改时间",
             _RACE.format(act='os.utime(f.data + "/way/target.txt", (1, 1))'), time_changed, wasm="wasm"),
    _attempt("change a mode by .. out of the plugin's directory", "从自己的目录用 .. 走出去改权限", _OWN + """
os.chdir(f.data)
os.chmod(os.path.relpath(f.target, f.data), 0o777)
""", mode_changed),
    _attempt("change a mode below the descriptor of a folder", "经目录的描述符改权限", """
os.chmod(f.target[1:], 0o777, dir_fd=os.open("/", os.O_PATH))
""", mode_changed, wasm="wasm"),
    _attempt("change a mode by an O_PATH descriptor", "经文件位置的描述符改权限", """
os.chmod(os.open(f.target, os.O_PATH), 0o777) if f.level == "sandbox" else os.chmod(f.target, 0o777)
""", mode_changed),
    _attempt("ask the kernel for the mode of another file", "直接请内核改别的文件的权限",
             _ASKED + "ask(f.target, 0o777)", mode_changed),
    _attempt("ask the kernel for a mode by ..", "用 .. 请内核改权限",
             _ASKED + 'ask(f.data + "/" + os.path.relpath(f.target, f.data), 0o777)', mode_changed),
    _attempt("ask the kernel for a mode through a link", "经链接请内核改权限", _ASKED + """
os.symlink(f.folder, f.data + "/way")
ask(f.data + "/way/target.txt", 0o777)
""", mode_changed),
    _attempt("ask the kernel for a mode through /proc", "经 /proc 请内核改权限",
             _ASKED + 'ask("/proc/self/root" + f.target, 0o777)', mode_changed),
    _attempt("ask the kernel for a set-user-id program", "请内核做 setuid 程序", _ASKED + """
open(f.data + "/program", "w").write("x")
ask(f.data + "/program", 0o4755)
""", proofs.own_file(proofs.is_setuid)),
    _attempt("change a mode through a hard link it made", "经自建的硬链接改权限", _OWN + """
with contextlib.suppress(OSError): os.link(f.target, f.data + "/hard")
os.chmod(f.data + "/hard", 0o777)
""", mode_changed),
    _attempt("open its own directory to other users", "把自己的目录向其他用户开放", _OWN + """
os.chmod(f.data, 0o777)
""", _data_is_open),
]  # fmt: skip
