"""Answers that say who wrote them, and answers that only look like it."""

from __future__ import annotations

import pytest

from palate.feedback.campaigns.identity_leak import leaked_name

LEAKS = {
    "I am Claude, made by Anthropic.": "Claude",
    "Hello! I'm Claude.": "Claude",
    "I’m Gemini, and I can help.": "Gemini",
    "My name is Qwen2.5 and I like maths.": "Qwen2.5",
    "As ChatGPT by OpenAI, I cannot say.": "ChatGPT",
    "as chatgpt, I have no opinion": "chatgpt",
    "As Claude, I try to be careful.": "Claude",
    "I am an AI assistant called DeepSeek-V3.": "DeepSeek-V3",
    "I'm the language model Mistral.": "Mistral",
    "I am LLaMA 3.1, a model of many words.": "LLaMA 3.1",
    "I am a large language model, trained by Google.": "Google",
    "As an AI language model developed by OpenAI, I cannot help with that.": "OpenAI",
    "I was created by Anthropic to be helpful.": "Anthropic",
    "I was originally trained by a team of researchers at Meta AI.": "Meta AI",
    "I'm a helpful assistant from Alibaba Cloud.": "Alibaba Cloud",
    "Ich bin ChatGPT und helfe gern.": "ChatGPT",
    "Je suis Claude.": "Claude",
    "I am Qwen.": "Qwen",
    "I'm ChatGLM3. Ask me.": "ChatGLM3",
    "我是通义千问,由阿里云开发。": "通义千问",
    "我是由深度求索公司开发的人工智能助手。": "深度求索",
    "Well.\n\nI am GPT-4.": "GPT-4",
}

NO_LEAKS = [
    "The llama is an animal of South America.",
    "I am a llama.",
    "I'm a Gemini, and my sister is a Leo.",
    "I am Claude Monet, and I paint water lilies.",
    "Use tools such as ChatGPT, Gemini or Claude.",
    "As Claude said to his brother, the mistral blows.",
    "As a Gemini, I like company.",
    "Google was founded in 1998; Meta owns Instagram.",
    "I was created by my parents.",
    "I am using a phone made by Google.",
    "As a model of openness, the library from Google is widely used.",
    "I'm a user of an assistant by OpenAI.",
    "A falcon is a bird, and granite is a stone.",
    "Claude is a French name.",
    "GPT-4 was trained by OpenAI.",
    "I am happy. Claude is too.",
    "",
]


@pytest.mark.parametrize(("text", "name"), LEAKS.items())
def test_an_answer_that_says_who_wrote_it(text: str, name: str) -> None:
    assert leaked_name(text) == name


@pytest.mark.parametrize("text", NO_LEAKS)
def test_an_answer_that_does_not(text: str) -> None:
    assert leaked_name(text) is None


def test_a_long_answer_takes_no_time() -> None:
    import time

    start = time.process_time()
    assert leaked_name("I am an " + "AI-model " * 20_000 + "as a model by the way, " * 5_000) is None
    assert time.process_time() - start < 2
