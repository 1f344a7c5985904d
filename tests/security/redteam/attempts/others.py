"""Other plugins: their code, their files, their data, their process."""

from __future__ import annotations

import contextlib

from microkernel.errors import KernelError
from tests.security.redteam.model import Answer, Attempt
from tests.security.redteam.proofs import emitted, told

GROUP = "other plugins"


def _in_other_data(arena, _: Answer) -> bool:
    found = arena.folder / "state" / "other" / "planted"
    is_there = found.exists()
    found.unlink(missing_ok=True)
    return is_there


def _other_died(arena, _: Answer) -> bool:
    died = arena.kernel.info("other").generation > arena.__dict__.setdefault("_generation", 1)
    if died:
        arena.__dict__["_generation"] = arena.kernel.info("other").generation
    return died


def _overheard(arena, answer: Answer) -> bool:
    """Return whether it received the other plugin's event: it wrote it to its own file or returned it."""
    with contextlib.suppress(KernelError):
        arena.kernel.call("other.news")
    found = arena.data / "overheard"
    return found.exists() and arena.secrets()["other"] in found.read_text()


def _logged_by_other(arena, _: Answer) -> bool:
    return any(
        each.name == "microkernel.plugin.other" and arena.token in each.getMessage() for each in list(arena.records)
    )


def _board_changed(arena, _: Answer) -> bool:
    is_changed = arena.kernel.get_data("other.secret") == arena.token
    if is_changed:
        arena.kernel.set_data("other.secret", arena.secrets()["other"])
    return bool(is_changed)


ATTEMPTS = [
    Attempt("import another plugin", "导入另一个插件", "import other\nreturn other.SECRET", told("other"), "importer",
            process="importer", thread="importer"),
    Attempt("import another plugin from its directory", "从所在目录导入另一个插件", """
sys.path.insert(0, f.plugins)
try:
    return importlib.import_module("ot" + "her").SECRET
finally:
    sys.path.remove(f.plugins)
    sys.modules.pop("other", None)
""", told("other"), "landlock"),
    Attempt("load another plugin's source past the importer", "绕过导入器加载另一个插件的源码", """
import importlib.util
spec = importlib.util.spec_from_file_location("their", f.plugins + "/other.py")
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
return module.SECRET
""", told("other"), "landlock"),
    Attempt("find another plugin's module among all modules", "在已加载的模块里找到另一个插件", """
return [vars(each)["SECRET"] for each in list(sys.modules.values()) if "SECRET" in vars(each)]
""", told("other"), "memory", process="memory"),
    Attempt("read another plugin's source", "读另一个插件的源码", 'return open(f.plugins + "/other.py").read()',
            told("other"), "landlock"),
    Attempt("read another plugin's data directory", "读另一个插件的数据目录", """
return open(f.other_data + "/own.txt").read()
""", told("other"), "landlock"),
    Attempt("write into another plugin's data directory", "写另一个插件的数据目录", """
open(f.other_data + "/planted", "w").close()
""", _in_other_data, "landlock"),
    Attempt("read another plugin's temporary files", "读另一个插件的临时文件", "return open(f.other_temporary).read()",
            told("other"), "landlock"),
    Attempt("read another plugin's memory", "读另一个插件的内存", """
buffer = ctypes.create_string_buffer(32)
here, there = struct.pack("QQ", ctypes.addressof(buffer), 32), struct.pack("QQ", f.other_address, 32)
syscall("process_vm_readv", f.other_pid, here, 1, there, 1, 0)
return buffer.raw
""", told("other"), "seccomp", varies=True),
    Attempt("read another plugin's memory through /proc", "经 /proc 读另一个插件的内存", """
with open(f"/proc/{f.other_pid}/mem", "rb", 0) as memory:
    memory.seek(f.other_address)
    return memory.read(32)
""", told("other"), "landlock", varies=True),
    Attempt("read memory at an address of another plugin", "按另一个插件里的地址直接读内存", """
reading, writing = os.pipe()
checked(libc.write(writing, ctypes.c_void_p(f.other_address), 32))
return os.read(reading, 32)
""", told("other"), "memory", process="memory"),
    Attempt("kill another plugin", "杀掉另一个插件",
            "os.kill(f.other_pid, 9)", _other_died, "seccomp", thread="not tried"),
    Attempt("print as another plugin", "以另一个插件之名打印", """
open(f"/proc/{f.other_pid}/fd/1", "w").write(f.token + "\\n")
""", _logged_by_other, "landlock", thread="not tried"),
    Attempt("send on another plugin's channel", "占用另一个插件的通道", """
handle = os.pidfd_open(f.other_pid)
up = syscall("pidfd_getfd", handle, 4, 0)
from microkernel.wire.session import pack
from microkernel.wire.messages import Emit
from microkernel.wire.codec import Raw, encode
os.write(up, pack([Emit("other.forged", Raw(encode({"token": f.token})))]))
""", emitted("other.forged"), "seccomp", thread="not tried", varies=True),
    Attempt("emit as another plugin", "以另一个插件之名广播",
            'api.emit("other.forged", token=f.token)', emitted("other.forged"),
            "gate"),
    Attempt("receive events of other plugins", "偷听别的插件的广播", """
api.data_dir.mkdir(parents=True, exist_ok=True)
def note(event):
    with open(f.data + "/overheard", "a") as file: file.write(repr(event.data))
api.on("**", note)
""", _overheard, "gate"),
    Attempt("read another plugin's data", "读另一个插件的共享数据",
            'return api.get_data("other.secret")', told("other"), "gate"),
    Attempt("write another plugin's data", "写另一个插件的共享数据", 'api.set_data("other.secret", f.token)',
            _board_changed, "gate"),
    Attempt("watch another plugin's data", "监视另一个插件的共享数据", """
seen = []
api.watch_data("other.*", lambda key, value, revision: seen.append(value))
time.sleep(0.1)
api.data_dir.mkdir(parents=True, exist_ok=True)
api.after(0.1, lambda: open(f.data + "/overheard", "w").write(repr(seen)))
""", _overheard, "gate"),
    Attempt("call another plugin", "调用另一个插件", 'return api.call("other.reveal")', told("other"), "gate"),
    Attempt("ask all plugins", "询问所有插件", 'return repr(api.ask("other.question", timeout=0.2)) and "asked"',
            lambda _, answer: answer.told == "asked", "gate"),
    Attempt("kill another plugin by the kernel's service", "经内核服务杀掉另一个插件",
            'return api.call("kernel.kill", "other")',
            lambda arena, _: arena.kernel.info("other").state != "active", "gate", process="gate", thread="gate"),
    Attempt("see all plugins by the kernel's service", "经内核服务查看所有插件", 'return repr(api.call("kernel.list"))',
            lambda _, answer: "other" in repr(answer.told), "gate", process="gate", thread="gate"),
]  # fmt: skip
