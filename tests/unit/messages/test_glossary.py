"""The glossary has one word for one thing and finds it in either language."""

from __future__ import annotations

import pytest

from microkernel.messages import find, glossary, state_word

STATES = {
    "discovered": "已发现",
    "loaded": "已加载",
    "starting": "启动中",
    "active": "运行中",
    "stopping": "停止中",
    "stopped": "已停止",
    "failed": "失败",
    "waiting": "等待就绪",
    "backoff": "退避",
    "quarantined": "隔离区",
    "held": "待批准",
    "zombie": "僵尸",
}
WORDS = {
    "kernel": "内核",
    "plugin": "插件",
    "IPlugin": "插件",
    "instance": "实例",
    "generation": "代",
    "PluginAPI": "接口",
    "manifest": "清单",
    "permission": "权限",
    "grant": "授予",
    "host": "宿主",
    "level": "隔离级别",
    "worker": "工作进程",
    "event": "事件",
    "topic": "主题",
    "emit": "广播",
    "handler": "处理函数",
    "service": "服务",
    "method": "方法",
    "call": "调用",
    "context": "共享数据",
    "board": "共享数据",
    "mailbox": "邮箱",
    "dead letter": "死信",
    "supervisor": "监督者",
    "fabric": "织网",
    "discovery": "插件发现",
    "hot reload": "热重载",
    "facade": "门面",
    "event bus": "事件总线",
    "contract": "契约",
    "lifecycle": "生命周期",
    "REPL": "控制台",
    "console": "控制台",
    "auditor": "审计器",
    "shared data": "共享数据",
    "RPC call": "远程调用",
    "protection": "保护",
    "deadline": "期限",
    "snapshot": "快照",
    "zygote": "孵化进程",
    "probation": "试用期",
    "operator": "操作者",
    "logger": "日志器",
    "data directory": "数据目录",
    "load": "加载",
    "secret": "机密",
    "enforced": "已生效",
    "crash": "意外终止",
    "heartbeat": "心跳",
    "watchdog": "看门狗",
    "sandbox": "沙箱",
}


@pytest.mark.parametrize(("english", "chinese"), [*WORDS.items(), *STATES.items()])
def test_the_words_of_the_design(english: str, chinese: str) -> None:
    term = find(english)
    assert term is not None
    assert term.zh == chinese
    assert find(chinese) == term


def test_a_term_is_complete() -> None:
    for term in glossary():
        assert term.en
        assert term.zh
        assert term.en_means
        assert not term.en_means.endswith(".")
        assert term.zh_means
        assert not term.zh_means.endswith((".", "。"))


def test_no_word_stands_for_two_things() -> None:
    english = [term.en.casefold() for term in glossary()]
    chinese = [term.zh for term in glossary()]
    assert len(set(english)) == len(english)
    assert len(set(chinese)) == len(chinese)
    also = [word.casefold() for term in glossary() for word in term.also]
    assert len(set(also)) == len(also)
    assert not set(also) & {*english, *chinese}


@pytest.mark.parametrize("word", ["Dead-Letter", "dead_letter", "DEAD  LETTER", "dead letters", "死信"])
def test_spelling_matters_little(word: str) -> None:
    term = find(word)
    assert term is not None
    assert term.en == "dead letter"


def test_unknown_words_are_not_found() -> None:
    assert find("flux capacitor") is None
    assert find("") is None
    assert find("s") is None


def test_states() -> None:
    assert {term.en: term.zh for term in glossary() if term.state} == STATES
    assert state_word("held", "zh") == "待批准"
    assert state_word("held", "en") == "held"
    assert state_word("dancing", "zh") == "dancing"
    assert state_word("kernel", "zh") == "kernel"


def test_a_term_in_one_language() -> None:
    term = find("held")
    assert term is not None
    assert (term.word("en"), term.word("zh")) == ("held", "待批准")
    assert term.means("zh") != term.means("en")
