"""Run every attempt at every level as both users, and show the table: ``python -m tests.security.redteam.table``.

``--write`` puts it between the markers of docs/isolation.md and docs/zh/isolation.md, if all came as expected.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.security.redteam import campaign
from tests.security.redteam.attempts import ALL
from tests.security.redteam.model import (
    CONFINED,
    LAYERS,
    LEVELS,
    NOWHERE,
    OPEN,
    SKIPPED,
    USERS,
    Attempt,
    Outcome,
    disagreement,
)

Runs = Mapping[tuple[str, str], Iterable[Outcome]]
BEGIN, END = "<!-- red team: begin -->", "<!-- red team: end -->"
DOCS = {"en": campaign.ROOT / "docs" / "isolation.md", "zh": campaign.ROOT / "docs" / "zh" / "isolation.md"}
_GROUPS = list(dict.fromkeys(attempt.group for attempt in ALL))
_WORDS = {
    "open": "开放", "not tried": "未尝试",
    "not in the guest": "客体里没有", "only inside the guest": "仅在客体内部", "engine limits": "引擎的限制",
    "guest": "客体", "attempt": "尝试", "group": "组", "as root": "root", "as a user": "普通用户",
    "files": "文件", "network": "网络", "processes": "进程", "kernel process": "内核进程", "environment": "环境",
    "resources": "资源", "kernel's memory": "内核的内存",
    "terminal": "终端", "kernel interfaces": "系统内核接口", "options of system calls": "系统调用的选项",
    "frames": "帧", "other plugins": "其他插件",
    "Landlock": "Landlock", "seccomp": "seccomp", "namespaces": "命名空间", "capabilities": "特权", "all": "合计",
    "resource limits": "资源限额", "monitored and killed by the kernel": "内核监视并强制终止",
    "control group or monitoring": "控制组或内核的监视", "the gate": "关口",
    "connections made by the kernel": "由内核代为连接",
    "the kernel changes only the plugin's own files": "内核只修改插件自己的文件", "file attributes": "文件属性",
    "frame limits": "帧的限制", "separate session and descriptors": "独立的会话与描述符",
    "separate memory": "独立的内存", "cleanup by zygote and host": "孵化进程与宿主清理",
    "the importer": "导入器",
    "output limits": "输出的限制",
    "kernel quotas": "内核的配额", "user permissions": "用户自身的权限",
    "not available on this system": "本机系统没有",
    "root:": "root：", "user:": "普通用户：",
}  # fmt: skip
_INTRO = {
    "en": """{count} escape attempts, each run for real in a plugin at every level, as root and as an ordinary user
(`./run redteam`; the attempts are in `tests/security/redteam/attempts/`). A cell says **open**, or names the layer
that stopped the attempt: the first one that refuses it; further layers stand behind that one. An attempt counts as
open if its success was observed from outside: a canary file changed or its random secret was revealed, a socket was
connected to, a process died, an event arrived. {shown} attempts were observed to succeed at `process` or `thread`,
which shows that success would be noticed. The other {unseen} are refused at every level; that their success would be
noticed is known from reading the code, not from a measurement. "Not tried" marks attempts that would end or change
the process that runs the test; a dash marks levels at which the target does not exist.

At `wasm` most attempts find nothing to attack: no `ctypes`, no processes, no path that leads to the file. An attempt
that needs `ctypes` or a system call number counts as stopped there because a guest has neither; what it would have
done to the system with them was not tried. "Only inside the guest" means that the attempt ran to its end and nothing
outside changed, because the guest has its own environment, directory and name.""",
    "zh": """{count} 次逃逸尝试，每一次都在各级别的插件里实际运行，分别以 root 和普通用户的身份（`./run redteam`；
尝试的代码在 `tests/security/redteam/attempts/`）。单元格里是**开放**，或者挡住这次尝试的层，
即最先拒绝它的那一层，其后还有其他层。只有从外部观察到成功才算开放：
诱饵文件被修改或其中的随机机密泄露、套接字被连接、进程死亡、事件到达。其中 {shown} 次在 `process` 或 `thread`
观察到成功，说明成功能够被发现。其余 {unseen} 次在所有级别都被拒绝，
它们若成功也会被发现，这是阅读代码得出的结论，不是测量结果。
“未尝试”表示会结束或改变运行测试的进程；破折号表示该级别没有攻击对象。

在 `wasm`，多数尝试找不到攻击对象：没有 `ctypes`，没有进程，没有通往该文件的路径。需要 `ctypes` 或系统调用号的
尝试算作被挡住，因为客体里两者都没有；假如有，会对系统造成什么影响，没有尝试。“仅在客体内部”表示尝试执行完毕，而外部没有任何变化，
因为客体有自己的环境、目录和名字。""",
}
_OPEN = {
    "en": "Open at `sandbox` or `wasm`, with the consequences:",
    "zh": "在 `sandbox` 或 `wasm` 仍然开放的尝试及其后果：",
}
_HEADING = {"en": "## The red team's table", "zh": "## 红队表"}


def word(text: str, language: str) -> str:
    return _WORDS[text] if language == "zh" else text


def render(language: str) -> str:
    """The section, from what is expected; that it is so is measured beside it."""
    parts = [_HEADING[language], _intro(language), _summary(language), _open_ones(language)]
    parts += [_group(group, language) for group in _GROUPS]
    return "\n\n".join([BEGIN, *parts, END])


def _intro(language: str) -> str:
    shown = sum(any(attempt.expected(level, "root") == OPEN for level in ("thread", "process")) for attempt in ALL)
    return _INTRO[language].format(count=len(ALL), shown=shown, unseen=len(ALL) - shown)


def _summary(language: str) -> str:
    """How many are open, of those that were tried."""
    columns = [(level, user) for level in LEVELS for user in USERS]
    names = [f"`{level}`, {word('as root' if user == 'root' else 'as a user', language)}" for level, user in columns]
    rows = [[word(group, language), *(_share(group, *column) for column in columns)] for group in (*_GROUPS, "all")]
    return _table([word("group", language), *names], rows)


def _share(group: str, level: str, user: str) -> str:
    results = Counter(each.expected(level, user) for each in ALL if group in (each.group, "all"))
    return f"{results[OPEN]} / {results.total() - results[SKIPPED] - results[NOWHERE]}"


def _open_ones(language: str) -> str:
    place = 1 if language == "zh" else 0
    where = [(each, [f"`{level}`" for level in CONFINED if each.expected(level, "root") == OPEN]) for each in ALL]
    colon = "：" if language == "zh" else ": "
    lines = [
        f"- {_name(each, language)} ({', '.join(levels)}){colon}{each.means[place]}" for each, levels in where if levels
    ]
    return "\n".join([_OPEN[language], "", *lines])


def _group(group: str, language: str) -> str:
    rows = [
        [_name(each, language), *(_cell(each, level, language) for level in LEVELS)]
        for each in ALL
        if each.group == group
    ]
    return f"### {word(group, language).capitalize()}\n\n" + _table([word("attempt", language), *LEVELS], rows)


def _cell(attempt: Attempt, level: str, language: str) -> str:
    as_root, as_user = (_result(attempt.expected(level, user), language) for user in USERS)
    if as_root == as_user:
        return as_root
    return f"{word('root:', language)} {as_root}; {word('user:', language)} {as_user}"


def _result(expected: str, language: str) -> str:
    text = "—" if expected == NOWHERE else word(LAYERS.get(expected, expected), language)
    return f"**{text}**" if expected == OPEN else text


def _name(attempt: Attempt, language: str) -> str:
    return (attempt.zh if language == "zh" else attempt.name).replace("|", "\\|").replace("__", "\\_\\_")


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def section_of(path: Path) -> str:
    """What stands between the markers, with them; empty where there are none."""
    text = path.read_text(encoding="utf-8")
    start, end = text.find(BEGIN), text.find(END)
    return text[start : end + len(END)] if 0 <= start < end else ""


def write() -> None:
    for language, path in DOCS.items():
        text, old, new = path.read_text(encoding="utf-8"), section_of(path), render(language)
        path.write_text(text.replace(old, new) if old else f"{text.rstrip()}\n\n{new}\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(prog="./run redteam", description="Every attempt to get out, at every level.")
    parser.add_argument("--write", action="store_true", help="put the table into docs/isolation.md, both languages")
    options = parser.parse_args()
    problems = [problem for level in LEVELS for user in USERS for problem in _tried(level, user)]
    for problem in problems:
        print(f"! {problem}")
    if problems:
        return 1
    if options.write:
        write()
    else:
        print(render("en"))
    return 0


def _tried(level: str, user: str) -> list[str]:
    """What came otherwise than expected."""
    try:
        outcomes = campaign.run(level, user)
    except campaign.Unavailable as error:
        return [f"{level}, {user}: not run: {error}"]
    attempts = {attempt.name: attempt for attempt in ALL}
    found = [(each, disagreement(attempts[each.name], level, user, each)) for each in outcomes]
    counts = Counter(each.result for each in outcomes)
    print(f"{level:8} {user:5} " + ", ".join(f"{count} {what}" for what, count in counts.items()), flush=True)
    return [f"{level}, {user}: {each.name}: {problem}" for each, problem in found if problem]


if __name__ == "__main__":
    sys.exit(main())
