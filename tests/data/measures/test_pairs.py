"""Refusals are known in English and in Chinese."""

from __future__ import annotations

import pytest

from palate.data.measures.pairs import refuses


@pytest.mark.parametrize(
    "answer",
    [
        "抱歉，我不能为您撰写涉及法律文件的内容。",
        "对不起，我无法知道您所在的具体位置。",
        "作为一个人工智能语言模型，我没有个人观点。",
        "我不能提供这方面的帮助。",
        "很遗憾，这个问题我没有办法回答。",
        "I'm sorry, but I can't help with that.",
    ],
)
def test_an_answer_that_declines(answer: str) -> None:
    assert refuses(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "抱歉听到你的遭遇。不要失去希望，还有一些事情可以尝试。",
        "抱歉，我重新接一个：为虎添翼。",
        "作为一名AI助手，我很高兴能帮助您完成这项任务。",
        "北京今天天气晴朗，气温大约25度。",
        "这种方法不能提高速度。",
    ],
)
def test_an_answer_that_does_not(answer: str) -> None:
    assert not refuses(answer)
