"""Texts of the demo, in English and in Chinese. The kernel's messages are in its own catalogues."""

TEXTS: dict[str, tuple[str, str]] = {
    "title": (
        "Python {version}'s standard library: {files:,} files, counted by plugins that hang and crash",
        "Python {version} 的标准库：{files:,} 个文件，由会卡死和崩溃的插件统计",
    ),
    "kill": (
        "killing it by hand, while {count:,} files wait for it",
        "手动强制终止它，此时有 {count:,} 个文件等待它处理",
    ),
    "replay": (
        "those {count:,} files had become dead letters; replaying them",
        "这 {count:,} 个文件期间成了死信；现在重新投递给它",
    ),
    "break": (
        "reloading it with a mistake in its source, while {count:,} files wait for it",
        "用有错的源码重载它，此时有 {count:,} 个文件等待它处理",
    ),
    "change": (
        "reloading it with changed source, which also counts FIXME comments",
        "用改过的源码重载它，新源码还统计 FIXME 注释",
    ),
    "build": (
        "building the guest for parser_b, once for this version (some 20 s)",
        "正在构建 parser_b 要用的客体，每个版本一次（大约 20 秒）",
    ),
    "built": ("built in {seconds:.0f} s", "构建完成，用时 {seconds:.0f} 秒"),
    "wait": ("another process is building it", "另一个进程正在构建"),
    "gather": ("collecting its files", "收集所需的文件"),
    "componentize": ("assembling the interpreter", "正在组装解释器"),
    "compile": ("compiling the interpreter", "正在编译解释器"),
    "no_wasm": (
        "runs at process, because wasm is not available: {reason}",
        "在 process 级别运行，因为 wasm 不可用：{reason}",
    ),
    "again": ("; redelivered: {count}", "；重新投递：{count}"),
    "counting": ("counting", "统计中"),
    "files": ("{done:,} of {total:,} files", "{done:,} / {total:,} 个文件"),
    "indexed": (
        "{count:,} of {total:,} files in {seconds:.1f} s",
        "{count:,} / {total:,} 个文件，用时 {seconds:.1f} 秒",
    ),
    "share": ("{count:,} files", "{count:,} 个文件"),
    "deaths": ("{count:,} files; crashes: {deaths}", "{count:,} 个文件；意外终止：{deaths} 次"),
    "twice": (
        "{count} results arrived twice and were counted once",
        "{count} 个结果来了两次，只计一次",
    ),
    "check": ("now without a kernel: one process, one loop", "再不用内核统计一遍：一个进程，一个循环"),
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
        "equal: after {deaths} crashes, a kill and two reloads, nothing is lost and nothing is counted twice",
        "完全一致：经历 {deaths} 次意外终止、一次强制终止和两次重载，没有遗漏，也没有重复",
    ),
    "different": ("not equal", "不一致"),
    "missing": ("never counted: {path}", "没有统计到：{path}"),
    "stuck": ("no file was counted for {seconds} s; giving up", "{seconds} 秒没有统计到新文件；放弃"),
    "next": ("Try next", "接下来可以试试"),
    "next_seed": ("crash at other files", "在另一些文件上崩溃"),
    "next_run": (
        "the same plugins, and a prompt: ps, kill crasher, reload parser_a",
        "同样的插件，带控制台：ps、kill crasher、reload parser_a",
    ),
    "next_hello": ("the smallest plugin", "最小的插件"),
    "next_explain": ("explain a message", "解释一条消息"),
    "interrupted": ("interrupted; all plugins have ended", "已中断；所有插件都已结束"),
}  # fmt: skip


class Texts:
    """``texts("kill", count=3)``"""

    def __init__(self, language: str) -> None:
        self._column = 1 if language == "zh" else 0

    def __call__(self, key: str, /, **fields: object) -> str:
        return TEXTS[key][self._column].format(**fields)
