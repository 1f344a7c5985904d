"""What the demo says, in English and in Chinese. What the kernel says is in the kernel's own catalogs."""

TEXTS: dict[str, tuple[str, str]] = {
    "title": (
        "Python {version}'s standard library: {files:,} files, counted by plugins that hang and crash",
        "Python {version} 的标准库：{files:,} 个文件，由会卡死、会崩溃的插件来统计",
    ),
    "kill": (
        "killing it by hand, with {count:,} files waiting for it",
        "手动强制终止它，此时还有 {count:,} 个文件在等它",
    ),
    "replay": (
        "those {count:,} files were dead letters meanwhile; it is given them again",
        "这 {count:,} 个文件期间成了死信；现在重新投递给它",
    ),
    "break": (
        "reloading it with a mistake in its source, with {count:,} files waiting for it",
        "用写错的源码重载它，此时还有 {count:,} 个文件在等它",
    ),
    "change": (
        "reloading it with changed source: it counts FIXME comments too from now on",
        "用改过的源码重载它：从现在起它还统计 FIXME 注释",
    ),
    "build": (
        "building the guest that parser_b will run in, once for this version (some 20 s)",
        "正在构建 parser_b 要用的客体，每个版本一次（大约 20 秒）",
    ),
    "built": ("built in {seconds:.0f} s", "构建完成，用时 {seconds:.0f} 秒"),
    "wait": ("another one is building it", "另一个进程正在构建"),
    "gather": ("gathering what it is made of", "收集所需的文件"),
    "componentize": ("the interpreter is put together", "正在组装解释器"),
    "compile": ("the interpreter is compiled", "正在编译解释器"),
    "no_wasm": (
        "runs at process, for wasm cannot be had: {reason}",
        "以 process 运行，因为没有 wasm：{reason}",
    ),
    "again": ("; delivered again: {count}", "；再次投递：{count}"),
    "counting": ("counting", "统计中"),
    "files": ("{done:,} of {total:,} files", "{done:,} / {total:,} 个文件"),
    "indexed": (
        "{count:,} of {total:,} files in {seconds:.1f} s",
        "{count:,} / {total:,} 个文件，用时 {seconds:.1f} 秒",
    ),
    "share": ("{count:,} files", "{count:,} 个文件"),
    "deaths": ("{count:,} files; deaths: {deaths}", "{count:,} 个文件；意外终止：{deaths} 次"),
    "twice": (
        "{count} results came twice, and were counted once",
        "{count} 个结果来了两次，只计一次",
    ),
    "check": ("and now without a kernel: one process, one loop", "现在不用核心再数一遍：一个进程，一个循环"),
    "checked": ("the plain count took {seconds:.1f} s", "直接统计用时 {seconds:.1f} 秒"),
    "by_plugins": ("by plugins", "插件统计"),
    "plainly": ("plain count", "直接统计"),
    "lines": ("lines", "行"),
    "functions": ("functions", "函数"),
    "classes": ("classes", "类"),
    "imports": ("imports", "导入"),
    "todos": ("TODO comments", "TODO 注释"),
    "unparsable": ("unparsable files", "无法解析的文件"),
    "kind_files": ("files", "文件"),
    "equal": (
        "equal: {deaths} deaths, a kill and two reloads later, nothing is lost and nothing is counted twice",
        "完全一致：经历 {deaths} 次意外终止、一次强制终止和两次重载，没有丢一个，也没有多数一个",
    ),
    "different": ("not equal", "不一致"),
    "missing": ("never counted: {path}", "没有统计到：{path}"),
    "stuck": ("no file was counted for {seconds} s; given up", "{seconds} 秒没有统计到新文件；放弃"),
    "next": ("Try next", "接下来可以试试"),
    "next_seed": ("other crashes, at other files", "换一些文件去崩溃"),
    "next_run": (
        "the same plugins, and a prompt: ps, kill crasher, reload parser_a",
        "同样的插件，带控制台：ps、kill crasher、reload parser_a",
    ),
    "next_hello": ("the smallest plugin there is", "最小的插件"),
    "next_explain": ("what a message means", "一条消息是什么意思"),
    "interrupted": ("interrupted; every plugin is ended", "已中断；所有插件都已结束"),
}  # fmt: skip


class Texts:
    """``texts("kill", count=3)``"""

    def __init__(self, language: str) -> None:
        self._column = 1 if language == "zh" else 0

    def __call__(self, key: str, /, **fields: object) -> str:
        return TEXTS[key][self._column].format(**fields)
